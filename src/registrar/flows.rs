//! Which bindings fall with which connection (RFC 5626 4.2.2, `A23`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use smallvec::{SmallVec, smallvec};

use crate::home::Decision;
use crate::model::{Aor, Binding, Durability, HomeState, Moved, Plan, Row, Timestamp};

/// Connection -> AoRs that registered over it and may have a binding that hangs on it. Bounded by the connections that live and the users who
/// log in over each.
#[derive(Debug, Default)]
pub(super) struct Flows {
    by_connection: Mutex<HashMap<u64, SmallVec<[Aor; 1]>>>,
}

impl Flows {
    /// Remembers that something of this AoR may hang on the connection.
    pub(super) fn note(&self, connection: u64, aor: &Aor) {
        let mut table = self.by_connection.lock().unwrap_or_else(PoisonError::into_inner);
        let aors = table.entry(connection).or_default();
        if !aors.contains(aor) {
            aors.push(aor.clone());
        }
    }

    /// Forgets a connection, and tells whose bindings hung on it.
    pub(super) fn take(&self, connection: u64) -> SmallVec<[Aor; 1]> {
        self.by_connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&connection)
            .unwrap_or_default()
    }
}

/// Gives the bindings that hung on a dead connection a last grace: a device that comes back within it renews them, and nobody hears of it;
/// otherwise they end like any other, and presence says so.
pub(super) fn fall(home: &HomeState, connection: u64, now: Timestamp) -> Decision<()> {
    let end = now.after_secs(GRACE_S);
    let mut rows: SmallVec<[Row; 1]> = smallvec![];
    for binding in home.bindings.iter().filter(|b| b.hangs_on(connection) && b.expires_at > end) {
        rows.push(Row::PutBinding(Arc::new(Binding { expires_at: end, ..Binding::clone(binding) })));
    }
    Ok((Plan { rows, durability: Durability::Lazy, moved: Moved::default() }, ()))
}

const GRACE_S: u32 = 30;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::model::{BindingKey, Flow, Transport};

    const NOW: Timestamp = Timestamp(1_000_000);

    fn binding(contact: &str, connection: u64) -> Arc<Binding> {
        let local = SocketAddr::from(([192, 0, 2, 1], 5060));
        let remote = SocketAddr::from(([198, 51, 100, 7], 40_000));
        Arc::new(Binding {
            aor: Aor::new("bob", "example.org").unwrap(),
            key: BindingKey(contact.into()),
            contact: contact.into(),
            params: Default::default(),
            q: 1_000,
            instance: None,
            reg_id: None,
            path: Box::default(),
            call_id: "c".into(),
            cseq: 1,
            flow: Flow { transport: Transport::Tcp, local, remote, connection },
            direct: true,
            user_agent: Default::default(),
            created_at: NOW,
            refreshed_at: NOW,
            expires_at: NOW.after_secs(3_600),
        })
    }

    #[test]
    fn what_hangs_on_a_dead_connection_ends_after_a_grace_and_the_rest_stays() {
        let mut home = HomeState::empty(Aor::new("bob", "example.org").unwrap());
        home.bindings = smallvec::smallvec![
            binding("sip:bob@10.0.0.5;transport=tcp", 7),
            binding("sip:bob@10.0.0.6;transport=tcp", 8),
            binding("sip:bob@198.51.100.7:5060;transport=tcp", 7),
        ];
        let (plan, ()) = fall(&home, 7, NOW).unwrap();
        plan.rows.iter().for_each(|row| home.apply(row));
        let ends: Vec<_> = home.bindings.iter().map(|b| b.expires_at.secs_from(NOW)).collect();
        assert_eq!(ends, [30, 3_600, 3_600]);
        assert!(!plan.moved.presence, "nobody hears of it before the grace is over");
        assert!(fall(&home, 7, NOW).unwrap().0.rows.is_empty(), "once is enough");
    }
}

//! What was stored right before the server died. Its sender may not have heard of it and sends it again: then it is answered, and not taken a second time.
//!
//! A client that sends again meets a server that does not know its nonce, so it comes with the next CSeq (RFC 3261 22.2): neither CSeq nor branch are the
//! same. So of those that were stored in the last [`WINDOW`] before the start, sender, recipient, Call-ID and body tell.

use std::collections::HashSet;
use std::hash::BuildHasher;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::sync::Notify;

use crate::endpoint::clock;
use crate::messaging::cpim::{self, Cpim};
use crate::messaging::{Messaging, copy};
use crate::model::{Aor, HomeState, Timestamp};
use crate::sip::{Request, StatusCode};

/// What was stored right before the start.
#[derive(Debug)]
pub(super) struct Recovered {
    started_at: Timestamp,
    /// Set once it is known.
    keys: OnceLock<HashSet<u64>>,
    completed: Notify,
}

impl Recovered {
    pub(super) fn new(started_at: Timestamp) -> Recovered {
        Recovered { started_at, keys: OnceLock::new(), completed: Notify::new() }
    }

    /// Was it stored so shortly before the start that its sender may not know?
    fn is_recent(&self, taken_at: Timestamp) -> bool {
        taken_at < self.started_at && self.started_at < taken_at.after(WINDOW)
    }

    /// May one that comes now be there already?
    fn is_unsure(&self, home: &HomeState) -> bool {
        home.messages.iter().any(|one| self.is_recent(one.taken_at))
    }
}

impl Messaging {
    /// After a start, before anything stored is sent: notes what was stored right before it.
    pub(super) async fn recover(&self) {
        let recent = self.homes.with_messages().into_iter().flat_map(|user| {
            let home = self.homes.read(&user);
            let recent = home.messages.iter().filter(|one| self.recovered.is_recent(one.taken_at));
            recent.map(|one| (user.clone(), one.id)).collect::<Vec<_>>()
        });
        let mut keys = HashSet::new();
        for (user, id) in recent.take(MAX_READ) {
            let Ok(Some(content)) = self.homes.store().content(&user, id).await else { continue };
            keys.insert(self.key_of_content(&content.sender, &user, &content.call_id, &content.body));
            let request = copy::request(&user, &content, 1);
            let name = request.as_ref().and_then(Cpim::of);
            if let Some(name) = name.and_then(|cpim| cpim.value(cpim::IMDN, "Message-ID")) {
                let key = self.hasher.hash_one((&content.sender, &user, name));
                self.duplicates().remember(key, StatusCode::ACCEPTED, clock::instant());
            }
        }
        let _ = self.recovered.keys.set(keys);
        self.recovered.completed.notify_waiters();
    }

    /// Must this message wait until it is known what was stored before the start?
    pub(super) fn is_unsure(&self, recipient: &Aor) -> bool {
        self.recovered.keys.get().is_none() && self.recovered.is_unsure(&self.homes.read(recipient))
    }

    /// Waits until it is.
    pub(super) async fn until_sure(&self) {
        loop {
            let completed = self.recovered.completed.notified();
            if self.recovered.keys.get().is_some() {
                return;
            }
            completed.await;
        }
    }

    /// May one that comes now have been stored right before the start?
    pub(super) fn has_recovered(&self, now: Timestamp) -> bool {
        let some = self.recovered.keys.get().is_some_and(|keys| !keys.is_empty());
        some && now < self.recovered.started_at.after(WINDOW)
    }

    /// Was this one?
    pub(super) fn is_recovered(&self, request: &Request, sender: &Aor, recipient: &Aor) -> bool {
        let Some(keys) = self.recovered.keys.get() else { return false };
        let call_id = request.call_id().unwrap_or_default();
        keys.contains(&self.key_of_content(sender, recipient, call_id, request.body()))
    }

    fn key_of_content(&self, sender: &Aor, recipient: &Aor, call_id: &str, body: &[u8]) -> u64 {
        self.hasher.hash_one((sender, recipient, call_id, body))
    }
}

/// A client gives up after 64*T1 (RFC 3261 17.1.2.2), and tries anew once perhaps.
const WINDOW: Duration = Duration::from_secs(64);
/// Rows that are read at a start before the first of them is sent.
const MAX_READ: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_a_client_waits_or_newer_than_the_start_was_not_recovered() {
        let recovered = Recovered::new(Timestamp(1_000_000));
        assert!(recovered.is_recent(Timestamp(999_999)) && recovered.is_recent(Timestamp(936_001)));
        assert!(!recovered.is_recent(Timestamp(936_000)) && !recovered.is_recent(Timestamp(1_000_000)));
    }
}

//! What is kept of server transactions that only repeat their answer (RFC 3261 17.2.2, Completed): its bytes and where they go, until Timer J.
//!
//! Timer J has one length, so they end in the order in which they were answered. When the table is full, room is made by letting go of the oldest
//! ones before their time; see [`Repetition`] for which.

use std::collections::VecDeque;
use std::time::Instant;

use crate::endpoint::table::{ByKey, Key};
use crate::model::Flow;

/// What a repetition of the request would meet if its transaction were forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repetition {
    /// A challenge: its credentials are spent, so it is done by nobody twice. May be forgotten early.
    Challenged,
    /// It would be done again: a request inside a dialog is let in by its mark, and its other side might act twice or refuse with 500 what it had
    /// accepted (12.2.2). Kept until Timer J, whatever comes.
    DoneAgain,
}

/// The finished server transactions of one shard.
#[derive(Default)]
pub(super) struct Finished {
    answers: ByKey<Box<Answered>>,
    challenged: VecDeque<(Instant, Key)>,
    done_again: VecDeque<(Instant, Key)>,
}

/// The answer that every retransmission gets.
pub(super) struct Answered {
    pub(super) bytes: Box<[u8]>,
    pub(super) reply_to: Flow,
}

impl Finished {
    /// Keeps an answer until that instant (Timer J).
    pub(super) fn keep(&mut self, key: Key, answered: Answered, until: Instant, repetition: Repetition) {
        self.answers.insert(key, Box::new(answered));
        match repetition {
            Repetition::Challenged => self.challenged.push_back((until, key)),
            Repetition::DoneAgain => self.done_again.push_back((until, key)),
        }
    }

    pub(super) fn get(&self, key: Key) -> Option<&Answered> {
        self.answers.get(&key).map(AsRef::as_ref)
    }

    /// Forgets those whose Timer J has fired; how many.
    pub(super) fn expire(&mut self, now: Instant) -> usize {
        let mut expired = 0;
        for queue in [&mut self.challenged, &mut self.done_again] {
            while let Some((_, key)) = queue.pop_front_if(|(until, _)| *until <= now) {
                self.answers.remove(&key);
                expired += 1;
            }
        }
        expired
    }

    /// Forgets the oldest one that may be forgotten. `false`: there is none.
    pub(super) fn evict(&mut self) -> bool {
        let oldest = self.challenged.pop_front();
        oldest.is_some_and(|(_, key)| self.answers.remove(&key).is_some())
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;
    use crate::endpoint::table::Table;
    use crate::model::Transport;

    #[expect(clippy::disallowed_methods, reason = "a base for virtual time")]
    fn base() -> Instant {
        Instant::now()
    }

    fn answered() -> Answered {
        let address = SocketAddr::from(([192, 0, 2, 1], 5060));
        let reply_to = Flow { transport: Transport::Udp, local: address, remote: address, connection: 0 };
        Answered { bytes: b"200"[..].into(), reply_to }
    }

    #[test]
    fn an_answer_is_kept_until_timer_j_rfc3261_17_2_2() {
        let (start, mut finished) = (base(), Finished::default());
        let table = Table::<()>::new(1);
        let until = start + Duration::from_secs(32);
        for (values, repetition) in [(b"a", Repetition::Challenged), (b"b", Repetition::DoneAgain)] {
            finished.keep(table.key(values), answered(), until, repetition);
        }
        assert_eq!(finished.expire(until - Duration::from_millis(1)), 0);
        assert_eq!(&*finished.get(table.key(b"a")).unwrap().bytes, b"200");
        assert_eq!(finished.expire(until), 2);
        assert!(finished.get(table.key(b"a")).is_none() && finished.answers.is_empty());
    }

    #[test]
    fn the_oldest_is_evicted_and_none_that_would_be_done_again() {
        let (start, mut finished) = (base(), Finished::default());
        let table = Table::<()>::new(1);
        finished.keep(table.key(b"bye"), answered(), start, Repetition::DoneAgain);
        for values in [b"old", b"new"] {
            finished.keep(table.key(values), answered(), start, Repetition::Challenged);
        }
        assert!(finished.evict());
        assert!(finished.get(table.key(b"old")).is_none() && finished.get(table.key(b"new")).is_some());
        assert!(finished.evict());
        assert!(!finished.evict());
        assert!(finished.get(table.key(b"bye")).is_some());
    }
}

//! Whose watchers are still to be told: presentities take turns, so that ten thousand watchers of one keep nobody else waiting (`A25`).

use std::collections::VecDeque;

use crate::model::{Aor, SubscriptionId};

/// Presentities whose watchers are still being told, in turns. Each stands here once; what changes meanwhile is one more round.
#[derive(Debug, Default)]
pub(super) struct Backlog(VecDeque<(Aor, Option<SubscriptionId>, Again)>);

type Again = bool;

impl Backlog {
    /// Is there nothing to do?
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Is there more to do for this presentity?
    pub(super) fn has(&self, aor: &Aor) -> bool {
        self.0.iter().any(|(queued, ..)| queued == aor)
    }

    /// A presentity changed.
    pub(super) fn push(&mut self, aor: Aor) {
        match self.0.iter_mut().find(|(queued, ..)| *queued == aor) {
            // Nobody has been told yet, or all will be told once more.
            Some((_, after, again)) => *again = after.is_some(),
            None => self.0.push_back((aor, None, false)),
        }
    }

    /// Whose watchers are next, and after which of them.
    pub(super) fn pop(&mut self) -> Option<(Aor, Option<SubscriptionId>)> {
        let (aor, after, again) = self.0.pop_front()?;
        if again {
            self.0.push_back((aor.clone(), None, false));
        }
        Some((aor, after))
    }

    /// One turn is done; `next`: the last of the watchers that were told, if there are more.
    pub(super) fn done(&mut self, aor: Aor, next: Option<SubscriptionId>) {
        if next.is_none() {
            return;
        }
        match self.0.iter_mut().find(|(queued, ..)| *queued == aor) {
            Some((_, after, again)) => (*after, *again) = (next, true),
            None => self.0.push_back((aor, next, false)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::testing::aor;

    #[test]
    fn a_large_home_does_not_keep_others_waiting_a25() {
        let (alice, bob) = (aor("alice@example.org"), aor("bob@example.org"));
        let mut backlog = Backlog::default();
        backlog.push(alice.clone());
        let (first, after) = backlog.pop().unwrap();
        assert_eq!((&first, after), (&alice, None));
        backlog.push(bob.clone());
        backlog.done(first, Some(SubscriptionId(256)));
        assert_eq!(backlog.pop(), Some((bob, None)));
        assert_eq!(backlog.pop(), Some((alice, Some(SubscriptionId(256)))));
        assert!(backlog.is_empty());
    }

    #[test]
    fn a_burst_of_changes_is_one_more_round_a25() {
        let alice = aor("alice@example.org");
        let mut backlog = Backlog::default();
        backlog.push(alice.clone());
        backlog.push(alice.clone());
        let (first, _) = backlog.pop().unwrap();
        backlog.done(first, Some(SubscriptionId(256)));
        for _ in 0..100 {
            backlog.push(alice.clone());
        }
        assert_eq!(backlog.pop(), Some((alice.clone(), Some(SubscriptionId(256)))));
        backlog.done(alice.clone(), Some(SubscriptionId(512)));
        // The rest of the first round, then the whole second one.
        let mut left = Vec::new();
        while let Some((aor, after)) = backlog.pop() {
            left.push(after);
            backlog.done(aor, None);
        }
        assert!(left.contains(&Some(SubscriptionId(512))) && left.contains(&None));
    }
}

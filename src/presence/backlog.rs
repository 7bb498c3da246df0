//! Whose watchers are still to be told: presentities take turns, so that ten thousand watchers of one keep nobody else waiting (`A25`).

use std::collections::VecDeque;

use crate::model::{Aor, Packages, SubscriptionId};

/// Presentities whose watchers are still being told, in turns. Each stands here once; what changes meanwhile is one more round.
#[derive(Debug, Default)]
pub(super) struct Backlog(VecDeque<(Aor, Round, Again)>);

/// Watchers of which packages are being told, and after which of them to go on.
pub(super) type Round = (Packages, Option<SubscriptionId>);

/// Watchers of these packages are told once more.
type Again = Packages;

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
    pub(super) fn push(&mut self, aor: Aor, packages: Packages) {
        match self.0.iter_mut().find(|(queued, ..)| *queued == aor) {
            // Nobody has been told yet..
            Some((_, (round, None), _)) => *round = round.and(packages),
            // ..or all will be told once more.
            Some((_, (_, Some(_)), again)) => *again = again.and(packages),
            None => self.0.push_back((aor, (packages, None), Packages::NONE)),
        }
    }

    /// Whose watchers are next.
    pub(super) fn pop(&mut self) -> Option<(Aor, Round)> {
        let (aor, round, again) = self.0.pop_front()?;
        if !again.is_empty() {
            self.0.push_back((aor.clone(), (again, None), Packages::NONE));
        }
        Some((aor, round))
    }

    /// One turn of a round is done; `next`: the last of the watchers that were told, if there are more.
    pub(super) fn done(&mut self, aor: Aor, packages: Packages, next: Option<SubscriptionId>) {
        if next.is_none() {
            return;
        }
        match self.0.iter_mut().find(|(queued, ..)| *queued == aor) {
            Some((_, round, again)) => {
                *again = again.and(round.0);
                *round = (packages, next);
            }
            None => self.0.push_back((aor, (packages, next), Packages::NONE)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::testing::aor;

    const ALL: Packages = Packages::ALL;

    #[test]
    fn a_large_home_does_not_keep_others_waiting_a25() {
        let (alice, bob) = (aor("alice@example.org"), aor("bob@example.org"));
        let mut backlog = Backlog::default();
        backlog.push(alice.clone(), ALL);
        let (first, (_, after)) = backlog.pop().unwrap();
        assert_eq!((&first, after), (&alice, None));
        backlog.push(bob.clone(), ALL);
        backlog.done(first, ALL, Some(SubscriptionId(256)));
        assert_eq!(backlog.pop(), Some((bob, (ALL, None))));
        assert_eq!(backlog.pop(), Some((alice, (ALL, Some(SubscriptionId(256))))));
        assert!(backlog.is_empty());
    }

    #[test]
    fn a_burst_of_changes_is_one_more_round_a25() {
        let alice = aor("alice@example.org");
        let mut backlog = Backlog::default();
        backlog.push(alice.clone(), ALL);
        backlog.push(alice.clone(), ALL);
        let (first, _) = backlog.pop().unwrap();
        backlog.done(first, ALL, Some(SubscriptionId(256)));
        for _ in 0..100 {
            backlog.push(alice.clone(), ALL);
        }
        assert_eq!(backlog.pop(), Some((alice.clone(), (ALL, Some(SubscriptionId(256))))));
        backlog.done(alice.clone(), ALL, Some(SubscriptionId(512)));
        // The rest of the first round, then the whole second one.
        let mut left = Vec::new();
        while let Some((aor, (_, after))) = backlog.pop() {
            left.push(after);
            backlog.done(aor, ALL, None);
        }
        assert!(left.contains(&Some(SubscriptionId(512))) && left.contains(&None));
    }
}

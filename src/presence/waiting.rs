//! What becomes of a request that nobody has decided when its subscription ends: it waits (RFC 3857 4.7.1), so that an owner who was away learns
//! who asked. It ends when the owner decides, when the watcher subscribes again, when its time is over, or when too many wait.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::model::{
    Aor, Durability, HomeState, Moved, Package, Plan, Row, Subscription, Timestamp, WaitingWatcher,
};

/// How much is kept, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// After this time it is given up.
    pub give_up: Duration,
    /// For one presentity; then the one that has waited longest is given up.
    pub max_per_presentity: usize,
    /// Of one watcher, for all presentities; then no more are kept (RFC 3857 4.7.1).
    pub max_per_watcher: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { give_up: Duration::from_secs(30 * 86_400), max_per_presentity: 500, max_per_watcher: 100 }
    }
}

/// The rows that keep what is left of a subscription that ends undecided; none if nothing is kept.
///
/// - `home`: the presentity's, with the subscription or without it.
/// - `waits_for`: for how many presentities its watcher waits already.
pub fn keep(
    home: &HomeState,
    ends: &Subscription,
    waits_for: usize,
    limits: &Limits,
    now: Timestamp,
) -> SmallVec<[Row; 2]> {
    let mut rows = SmallVec::new();
    let is_same = |other: &Subscription| other.id != ends.id && other.package == ends.package;
    let goes_on = home.subscriptions.of(&ends.watcher).any(|s| is_same(s) && s.expires_at > now);
    if ends.package != Package::Presence || ends.watcher == home.aor || goes_on {
        return rows;
    }
    if home.waiting.get(&ends.watcher).is_none() {
        if waits_for >= limits.max_per_watcher || limits.max_per_presentity == 0 {
            return rows;
        }
        if home.waiting.len() >= limits.max_per_presentity
            && let Some(oldest) = home.waiting.oldest()
        {
            rows.push(Row::DropWaiting(home.aor.clone(), oldest.watcher.clone()));
        }
    }
    rows.push(Row::PutWaiting(Arc::new(WaitingWatcher {
        presentity: home.aor.clone(),
        watcher: ends.watcher.clone(),
        id: ends.id,
        subscribed_at: ends.created_at,
        ended_at: now,
        gives_up_at: now.after(limits.give_up),
    })));
    rows
}

/// The row by which a watcher who subscribes again waits no more; `None` if that watcher did not.
pub fn over(home: &HomeState, watcher: &Aor) -> Option<Row> {
    home.waiting.get(watcher).map(|_| Row::DropWaiting(home.aor.clone(), watcher.clone()))
}

/// These have been decided about.
pub fn decided(home: &HomeState, watchers: &[Aor]) -> Plan {
    Plan {
        rows: watchers.iter().filter_map(|watcher| over(home, watcher)).collect(),
        // One that a crash brings back is decided again.
        durability: Durability::Lazy,
        moved: Moved { presence: false, watchers: true },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SubscriptionId;
    use crate::presence::testing::{NOW, aor, subscription};

    const LIMITS: Limits =
        Limits { give_up: Duration::from_secs(86_400), max_per_presentity: 2, max_per_watcher: 3 };

    fn alice() -> HomeState {
        HomeState::empty(aor("alice@example.org"))
    }

    fn of(watcher: &str, id: u128) -> Subscription {
        Subscription { watcher: aor(watcher), ..subscription(id) }
    }

    /// What is kept of it, if anything, applied to the home.
    fn kept(home: &mut HomeState, ends: &Subscription, waits_for: usize, now: Timestamp) -> bool {
        let rows = keep(home, ends, waits_for, &LIMITS, now);
        rows.iter().for_each(|row| home.apply(row));
        !rows.is_empty()
    }

    #[test]
    fn what_ends_undecided_waits_until_it_is_given_up_rfc3857_4_7_1() {
        let mut home = alice();
        let ends = of("bob@example.org", 5);
        assert!(kept(&mut home, &ends, 0, NOW.after_secs(60)));
        let waiting = home.waiting.get(&ends.watcher).unwrap();
        assert_eq!((waiting.id, waiting.subscribed_at), (SubscriptionId(5), NOW));
        assert_eq!((waiting.ended_at, waiting.gives_up_at), (NOW.after_secs(60), NOW.after_secs(86_460)));
        assert_eq!(home.next_due(), Some(waiting.gives_up_at));
        let drop = |home: &HomeState| over(home, &ends.watcher);
        assert_eq!(drop(&home), Some(Row::DropWaiting(home.aor.clone(), ends.watcher.clone())));
        assert_eq!(drop(&alice()), None);
    }

    #[test]
    fn a_watcher_waits_once_and_not_beside_a_subscription_rfc3857_4_7_1() {
        let mut home = alice();
        assert!(kept(&mut home, &of("bob@example.org", 5), 0, NOW));
        assert!(kept(&mut home, &of("bob@example.org", 6), 3, NOW.after_secs(1)));
        let ids: Vec<_> = home.waiting.iter().map(|one| one.id.0).collect();
        assert_eq!(ids, [6], "the newest takes the place of the older one, whatever the cap");
        home.subscriptions.put(&Arc::new(of("carol@example.org", 7)));
        assert!(!kept(&mut home, &of("carol@example.org", 8), 0, NOW), "another one goes on");
        let later = NOW.after_secs(3_600);
        assert!(kept(&mut home, &of("carol@example.org", 7), 0, later), "it ends itself");
    }

    #[test]
    fn so_many_wait_for_one_and_one_for_so_many_rfc3857_4_7_1() {
        let mut home = alice();
        assert!(!kept(&mut home, &of("bob@example.org", 5), 3, NOW), "bob asks everybody");
        for (nth, watcher) in ["bob@example.org", "carol@example.org", "dave@example.org"].iter().enumerate()
        {
            assert!(kept(&mut home, &of(watcher, 5), 0, NOW.after_secs(u32::try_from(nth).unwrap())));
        }
        let names: Vec<_> = home.waiting.iter().map(|one| one.watcher.user().to_owned()).collect();
        assert_eq!(names, ["carol", "dave"], "who has waited longest is given up");
    }

    #[test]
    fn nobody_waits_for_themselves_or_for_another_package() {
        let mut home = alice();
        assert!(!kept(&mut home, &of("alice@example.org", 5), 0, NOW));
        let dialog = Subscription { package: Package::Dialog, ..of("bob@example.org", 5) };
        assert!(!kept(&mut home, &dialog, 0, NOW));
    }
}

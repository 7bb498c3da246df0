//! Watchers whose subscription has ended before its owner decided: "waiting" (RFC 3857 4.7.1). No dialog is left of it, only who asked and when.

use std::sync::Arc;

use crate::model::{Aor, SubscriptionId, Timestamp};

/// One of them, in the home of the presentity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingWatcher {
    /// Who was asked: the home it lives in.
    pub presentity: Aor,
    /// Who asked, authenticated.
    pub watcher: Aor,
    /// The subscription that has ended.
    pub id: SubscriptionId,
    /// When it began..
    pub subscribed_at: Timestamp,
    /// ..and ended.
    pub ended_at: Timestamp,
    /// Nobody is told of it from this instant on.
    pub gives_up_at: Timestamp,
}

/// Those of one home, sorted by watcher, one of each. Most homes have none: that is one word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WaitingWatchers(Option<Arc<Vec<Arc<WaitingWatcher>>>>);

impl WaitingWatchers {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<WaitingWatcher>> {
        self.0.iter().flat_map(|all| all.iter())
    }
    /// How many.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |all| all.len())
    }
    /// None?
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
    /// The one of this watcher.
    pub fn get(&self, watcher: &Aor) -> Option<&Arc<WaitingWatcher>> {
        let all = self.0.as_ref()?;
        all.get(all.binary_search_by(|one| one.watcher.cmp(watcher)).ok()?)
    }
    /// The one that ended first.
    pub fn oldest(&self) -> Option<&Arc<WaitingWatcher>> {
        self.iter().min_by_key(|one| one.ended_at)
    }
    /// When the first of them is given up.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.iter().map(|one| one.gives_up_at).min()
    }
    /// Adds one, or replaces that of the same watcher.
    pub fn put(&mut self, new: &Arc<WaitingWatcher>) {
        let all = Arc::make_mut(self.0.get_or_insert_default());
        match all.binary_search_by(|one| one.watcher.cmp(&new.watcher)) {
            Ok(at) => all[at] = new.clone(),
            Err(at) => all.insert(at, new.clone()),
        }
    }
    /// Takes out that of a watcher.
    pub fn remove(&mut self, watcher: &Aor) {
        if self.get(watcher).is_none() {
            return;
        }
        if let Some(all) = &mut self.0 {
            Arc::make_mut(all).retain(|one| one.watcher != *watcher);
        }
        self.0 = self.0.take().filter(|all| !all.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(watcher: &str, ended_at: i64) -> Arc<WaitingWatcher> {
        Arc::new(WaitingWatcher {
            presentity: Aor::new("alice", "example.org").unwrap(),
            watcher: Aor::new(watcher, "example.org").unwrap(),
            id: SubscriptionId(7),
            subscribed_at: Timestamp(1),
            ended_at: Timestamp(ended_at),
            gives_up_at: Timestamp(ended_at + 10),
        })
    }

    #[test]
    fn of_each_watcher_there_is_the_newest_rfc3857_4_7_1() {
        let mut all = WaitingWatchers::default();
        assert_eq!((all.is_empty(), size_of::<WaitingWatchers>()), (true, size_of::<usize>()));
        for (watcher, at) in [("carol", 3), ("bob", 5), ("dave", 4), ("bob", 9)] {
            all.put(&waiting(watcher, at));
        }
        let names: Vec<_> = all.iter().map(|one| (one.watcher.user(), one.ended_at.0)).collect();
        assert_eq!(names, [("bob", 9), ("carol", 3), ("dave", 4)]);
        assert_eq!(all.oldest(), Some(&waiting("carol", 3)));
        assert_eq!(all.next_due(), Some(Timestamp(13)));
        let before = all.clone();
        for watcher in ["carol", "nobody", "bob", "dave"] {
            all.remove(&Aor::new(watcher, "example.org").unwrap());
        }
        assert_eq!((all, before.len()), (WaitingWatchers::default(), 3));
    }
}

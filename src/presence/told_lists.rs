//! Which watchers each subscriber of watcher information was told of last: the next document has only what has changed since (RFC 3858 4). Who is not
//! found here is told of all of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::SubscriptionId;
use crate::presence::by_id::ById;
use crate::presence::package::Watchers;

/// Bounded: when it is full it is emptied, and everybody has the whole next.
#[derive(Debug, Default)]
pub(super) struct ToldLists(Mutex<Lists>);

#[derive(Debug, Default)]
struct Lists {
    by_subscription: ById<Arc<Watchers>>,
    /// Watchers in all of them, and one more for each.
    entries: usize,
}

impl ToldLists {
    /// What this subscriber was told last.
    pub(super) fn get(&self, id: SubscriptionId) -> Option<Arc<Watchers>> {
        self.lists().by_subscription.get(&id).cloned()
    }

    /// This subscriber is being told this.
    pub(super) fn put(&self, id: SubscriptionId, list: Arc<Watchers>) {
        let mut lists = self.lists();
        lists.remove(id);
        if lists.entries > MOST_ENTRIES {
            *lists = Lists::default();
        }
        lists.entries += list.len() + 1;
        lists.by_subscription.insert(id, list);
    }

    /// It did not hear of it, or is gone.
    pub(super) fn forget(&self, id: SubscriptionId) {
        self.lists().remove(id);
    }

    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lists {
    fn remove(&mut self, id: SubscriptionId) {
        if let Some(old) = self.by_subscription.remove(&id) {
            self.entries = self.entries.saturating_sub(old.len() + 1);
        }
    }
}

/// Some 20 MiB.
const MOST_ENTRIES: usize = 262_144;

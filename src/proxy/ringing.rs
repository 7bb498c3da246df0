//! INVITEs that are under way, by the user they are for: a device that registers meanwhile joins (RFC 3261 16.5).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::model::{Aor, ByAor};
use crate::proxy::shell::ResponseContext;

/// Every entry lives as long as its context, so there are no more than server transactions.
#[derive(Default)]
pub(super) struct Ringing {
    shards: [Mutex<ByAor<Vec<Weak<ResponseContext>>>>; SHARDS],
}

impl Ringing {
    pub(super) fn insert(&self, user: &Aor, context: &Arc<ResponseContext>) {
        self.shard(user).entry(user.clone()).or_default().push(Arc::downgrade(context));
    }

    /// A context of this user is gone.
    pub(super) fn forget(&self, user: &Aor) {
        let mut shard = self.shard(user);
        if let Some(contexts) = shard.get_mut(user) {
            contexts.retain(|context| context.strong_count() > 0);
            if contexts.is_empty() {
                shard.remove(user);
            }
        }
    }

    pub(super) fn of(&self, user: &Aor) -> Vec<Arc<ResponseContext>> {
        self.shard(user)
            .get(user)
            .map(|all| all.iter().filter_map(Weak::upgrade).collect())
            .unwrap_or_default()
    }

    fn shard(&self, user: &Aor) -> MutexGuard<'_, ByAor<Vec<Weak<ResponseContext>>>> {
        self.shards[user.place(SHARDS)].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const SHARDS: usize = 16;

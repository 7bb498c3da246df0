//! All accounts in memory; the store is asked at start, and every change goes through this server.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, PoisonError, RwLock};

use crate::model::{Account, Aor};

/// AoR -> account, in shards: a table that grows copies itself, and nobody waits for the copy of a million.
#[derive(Debug)]
pub struct Accounts {
    shards: Box<[RwLock<Shard>]>,
    hasher: RandomState,
}

type Shard = HashMap<Aor, Arc<Account>>;

impl Default for Accounts {
    fn default() -> Accounts {
        Accounts { shards: (0..SHARDS).map(|_| RwLock::default()).collect(), hasher: RandomState::new() }
    }
}

impl Accounts {
    /// Insert or replace.
    pub fn put(&self, account: Account) {
        let mut table = self.shard(&account.aor).write().unwrap_or_else(PoisonError::into_inner);
        table.insert(account.aor.clone(), Arc::new(account));
    }
    /// Remove.
    pub fn remove(&self, aor: &Aor) {
        self.shard(aor).write().unwrap_or_else(PoisonError::into_inner).remove(aor);
    }
    /// Look up.
    pub fn find(&self, aor: &Aor) -> Option<Arc<Account>> {
        self.shard(aor).read().unwrap_or_else(PoisonError::into_inner).get(aor).cloned()
    }
    /// Is there such a user?
    pub fn exists(&self, aor: &Aor) -> bool {
        self.shard(aor).read().unwrap_or_else(PoisonError::into_inner).contains_key(aor)
    }
    /// How many.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }
    /// None at all?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, aor: &Aor) -> &RwLock<Shard> {
        let at = usize::try_from(self.hasher.hash_one(aor) % SHARDS as u64).unwrap_or(0);
        &self.shards[at]
    }
}

const SHARDS: usize = 256;

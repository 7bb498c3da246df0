//! All accounts in memory; the store is asked at start, and every change goes through this server.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::model::{Account, Aor};

/// AoR -> account.
#[derive(Debug, Default)]
pub struct Accounts {
    table: RwLock<HashMap<Aor, Arc<Account>>>,
}

impl Accounts {
    /// Insert or replace.
    pub fn put(&self, account: Account) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.insert(account.aor.clone(), Arc::new(account));
    }
    /// Remove.
    pub fn remove(&self, aor: &Aor) {
        self.table.write().unwrap_or_else(PoisonError::into_inner).remove(aor);
    }
    /// Look up.
    pub fn find(&self, aor: &Aor) -> Option<Arc<Account>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).get(aor).cloned()
    }
    /// Is there such a user?
    pub fn exists(&self, aor: &Aor) -> bool {
        self.table.read().unwrap_or_else(PoisonError::into_inner).contains_key(aor)
    }
    /// How many.
    pub fn len(&self) -> usize {
        self.table.read().unwrap_or_else(PoisonError::into_inner).len()
    }
    /// None at all?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

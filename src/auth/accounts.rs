//! All accounts in memory; the store is asked at start, and every change goes through this server.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::auth::proven::Proven;
use crate::model::{Account, Aor};

/// An account, and what this run knows of its user.
#[derive(Debug, Clone)]
pub struct Known {
    /// What the store has.
    pub account: Arc<Account>,
    /// From where the password was proved.
    pub proven: Arc<Proven>,
}

/// AoR -> account.
#[derive(Debug, Default)]
pub struct Accounts {
    table: RwLock<HashMap<Aor, Known>>,
    /// Changed under the write lock.
    without_sha512_256: AtomicUsize,
}

impl Accounts {
    /// Insert or replace.
    pub fn put(&self, account: Account) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let lacks = lacks_sha512_256(&account);
        let aor = account.aor.clone();
        let old = table.insert(aor, Known { account: Arc::new(account), proven: Arc::default() });
        self.note(lacks, old.is_some_and(|old| lacks_sha512_256(&old.account)));
    }
    /// Remove.
    pub fn remove(&self, aor: &Aor) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let old = table.remove(aor);
        self.note(false, old.is_some_and(|old| lacks_sha512_256(&old.account)));
    }
    /// Look up.
    pub fn find(&self, aor: &Aor) -> Option<Known> {
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
    /// How many cannot answer with SHA-512/256: their password was set before there was such a hash.
    pub fn without_sha512_256(&self) -> usize {
        self.without_sha512_256.load(Ordering::Relaxed)
    }

    fn note(&self, comes: bool, goes: bool) {
        match (comes, goes) {
            (true, false) => self.without_sha512_256.fetch_add(1, Ordering::Relaxed),
            (false, true) => self.without_sha512_256.fetch_sub(1, Ordering::Relaxed),
            (true, true) | (false, false) => return,
        };
    }
}

fn lacks_sha512_256(account: &Account) -> bool {
    account.ha1.sha512_256.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Ha1Set, Timestamp};

    fn account(user: &str, is_old: bool) -> Account {
        let mut ha1 = Ha1Set::derive(user, "example.org", "pw");
        if is_old {
            ha1.sha512_256 = None;
        }
        let aor = Aor::new(user, "example.org").unwrap();
        Account { aor, realm: "example.org".into(), ha1, created_at: Timestamp(0) }
    }

    #[test]
    fn accounts_without_the_newest_hash_are_counted_rfc8760_2_2() {
        let accounts = Accounts::default();
        for (user, is_old, without) in [
            ("alice", true, 1),
            ("bob", true, 2),
            ("carol", false, 2),
            ("alice", true, 2),
            ("alice", false, 1),
        ] {
            accounts.put(account(user, is_old));
            assert_eq!(accounts.without_sha512_256(), without, "{user}");
        }
        accounts.remove(&account("carol", false).aor);
        assert_eq!(accounts.without_sha512_256(), 1);
        accounts.remove(&account("bob", true).aor);
        assert_eq!(accounts.without_sha512_256(), 0);
    }
}

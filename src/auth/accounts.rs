//! All accounts in memory; the store is asked at start, and every change goes through this server.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::auth::proven::Proven;
use crate::model::{Account, Aor, ByAor};

/// An account, and what this run knows of its user.
#[derive(Debug)]
pub struct Known {
    /// What the store has.
    pub account: Account,
    /// From where the password was proved.
    pub proven: Proven,
}

/// AoR -> account, in shards: a table that grows copies itself, and nobody waits for the copy of a million.
#[derive(Debug)]
pub struct Accounts {
    shards: Box<[RwLock<Shard>]>,
    /// Else it takes no room.
    keeps_sha512_256: bool,
    /// Accounts here without it, changed under the lock of the account's shard.
    without_sha512_256: AtomicUsize,
    are_all_here: AtomicBool,
}

type Shard = ByAor<Arc<Known>>;

impl Default for Accounts {
    fn default() -> Accounts {
        Accounts::new(false)
    }
}

impl Accounts {
    /// `keeps_sha512_256`: are the hashes of SHA-512/256 needed?
    pub fn new(keeps_sha512_256: bool) -> Accounts {
        Accounts {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            keeps_sha512_256,
            without_sha512_256: AtomicUsize::new(0),
            are_all_here: AtomicBool::new(false),
        }
    }

    /// Insert or replace. One that is the same as before (read from the store by two ways while everything is loaded) keeps what is known of it.
    pub fn put(&self, mut account: Account) {
        if !self.keeps_sha512_256 {
            account.ha1.sha512_256 = None;
        }
        let lacks = account.ha1.sha512_256.is_none();
        let mut table = self.shard(&account.aor).write().unwrap_or_else(PoisonError::into_inner);
        if table.get(&account.aor).is_some_and(|known| known.account == account) {
            return;
        }
        let aor = account.aor.clone();
        let old = table.insert(aor, Arc::new(Known { account, proven: Proven::default() }));
        self.note(lacks, old);
    }
    /// Remove.
    pub fn remove(&self, aor: &Aor) {
        let mut table = self.shard(aor).write().unwrap_or_else(PoisonError::into_inner);
        let old = table.remove(aor);
        self.note(false, old);
    }
    /// Look up.
    pub fn find(&self, aor: &Aor) -> Option<Arc<Known>> {
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

    /// The store has been read to its end.
    pub fn all_are_here(&self) {
        self.are_all_here.store(true, Ordering::Release);
    }
    /// How many cannot answer with SHA-512/256: their password was set before there was such a hash.
    pub fn without_sha512_256(&self) -> usize {
        self.without_sha512_256.load(Ordering::Relaxed)
    }
    /// Can everybody answer with SHA-512/256? Not known before all are here.
    pub fn have_all_sha512_256(&self) -> bool {
        self.are_all_here.load(Ordering::Acquire) && self.without_sha512_256() == 0
    }

    fn note(&self, comes_without: bool, old: Option<Arc<Known>>) {
        let goes_without = old.is_some_and(|old| old.account.ha1.sha512_256.is_none());
        match (comes_without, goes_without) {
            (true, false) => self.without_sha512_256.fetch_add(1, Ordering::Relaxed),
            (false, true) => self.without_sha512_256.fetch_sub(1, Ordering::Relaxed),
            (true, true) | (false, false) => return,
        };
    }

    fn shard(&self, aor: &Aor) -> &RwLock<Shard> {
        &self.shards[aor.place(SHARDS)]
    }
}

const SHARDS: usize = 256;

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
    fn an_account_read_again_is_still_proven_and_one_with_a_new_password_is_not_a12() {
        let accounts = Accounts::new(false);
        let alice = account("alice", false);
        let home = std::net::IpAddr::from([192, 0, 2, 1]);
        let is_proven = || accounts.find(&alice.aor).unwrap().proven.has(home);
        accounts.put(alice.clone());
        accounts.find(&alice.aor).unwrap().proven.note(home);
        accounts.put(alice.clone());
        assert!(is_proven());
        accounts.put(Account { ha1: Ha1Set::derive("alice", "example.org", "new"), ..alice.clone() });
        assert!(!is_proven());
    }

    #[test]
    fn accounts_without_the_newest_hash_are_counted_rfc8760_2_2() {
        let accounts = Accounts::new(true);
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
        assert!(!accounts.have_all_sha512_256(), "more may come");
        accounts.all_are_here();
        assert!(accounts.have_all_sha512_256());
    }
}

//! A sharded table of transactions, with a heap of when each wants to be woken.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Keyed entries in shards.
pub(super) struct Table<K, E> {
    shards: Box<[Mutex<Shard<K, E>>]>,
    hasher: RandomState,
    len: AtomicUsize,
    capacity: usize,
}

/// A key with its hash, which is keyed at random and computed once. Cheap to clone: the entry, its wakes and its owner share it.
pub(super) struct Key<K>(Arc<Hashed<K>>);

struct Hashed<K> {
    hash: u64,
    key: K,
}

/// One shard: its entries, and instants at which to look at one of them. An instant may be stale; the entry knows better.
pub(super) struct Shard<K, E> {
    /// In boxes: a map that grows moves all that it holds while everybody of its shard waits, and has room for half as many again.
    pub(super) entries: HashMap<Key<K>, Box<E>, BuildHasherDefault<AsHashed>>,
    pub(super) wakes: Wakes<K>,
}

/// Takes the hash that a [`Key`] brings.
#[derive(Default)]
pub(super) struct AsHashed(u64);

impl Hasher for AsHashed {
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
    fn write(&mut self, bytes: &[u8]) {
        // Keys write one number; anything else still hashes.
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

impl<K> std::ops::Deref for Key<K> {
    type Target = K;
    fn deref(&self) -> &K {
        &self.0.key
    }
}
impl<K> Clone for Key<K> {
    fn clone(&self) -> Key<K> {
        Key(Arc::clone(&self.0))
    }
}
impl<K: Eq> PartialEq for Key<K> {
    fn eq(&self, other: &Key<K>) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.0.hash == other.0.hash && self.0.key == other.0.key)
    }
}
impl<K: Eq> Eq for Key<K> {}
impl<K> Hash for Key<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}
impl<K: std::fmt::Debug> std::fmt::Debug for Key<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.key.fmt(f)
    }
}

struct Wake<K> {
    at: Instant,
    key: Key<K>,
}

impl<K> PartialEq for Wake<K> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}
impl<K> Eq for Wake<K> {}
impl<K> PartialOrd for Wake<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Wake<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl<K: Hash + Eq, E> Table<K, E> {
    pub(super) fn new(capacity: usize) -> Table<K, E> {
        let shard = || Mutex::new(Shard { entries: HashMap::default(), wakes: Wakes(BinaryHeap::new()) });
        let shards = (0..SHARDS).map(|_| shard()).collect();
        Table { shards, hasher: RandomState::new(), len: AtomicUsize::new(0), capacity }
    }

    /// A key of this table.
    pub(super) fn key(&self, key: K) -> Key<K> {
        Key(Arc::new(Hashed { hash: self.hasher.hash_one(&key), key }))
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Is there no room for one more?
    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    pub(super) fn shard(&self, key: &Key<K>) -> MutexGuard<'_, Shard<K, E>> {
        // Bits that the map inside the shard does not choose its place by.
        let at = usize::try_from((key.0.hash >> 40) % SHARDS as u64).unwrap_or(0);
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn shards(&self) -> impl Iterator<Item = MutexGuard<'_, Shard<K, E>>> {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn inserted(&self) {
        self.len.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn removed(&self) {
        self.len.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<K: Hash + Eq, E> Shard<K, E> {
    /// The next key whose instant has come.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Key<K>> {
        self.wakes.pop_due(now)
    }
}

/// When to look at which entry.
pub(super) struct Wakes<K>(BinaryHeap<Reverse<Wake<K>>>);

impl<K> Wakes<K> {
    /// Asks to be woken for this key. `scheduled` is the entry's memory of the earliest instant asked for.
    pub(super) fn schedule(&mut self, key: &Key<K>, next: Option<Instant>, scheduled: &mut Option<Instant>) {
        if let Some(at) = next
            && scheduled.is_none_or(|old| at < old)
        {
            *scheduled = Some(at);
            self.0.push(Reverse(Wake { at, key: key.clone() }));
        }
    }

    fn pop_due(&mut self, now: Instant) -> Option<Key<K>> {
        if self.0.peek().is_some_and(|Reverse(wake)| wake.at <= now) {
            return self.0.pop().map(|Reverse(wake)| wake.key);
        }
        None
    }
}

const SHARDS: usize = 64;

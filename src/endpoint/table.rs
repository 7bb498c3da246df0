//! A sharded table of transactions, with a heap of when each wants to be woken.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Keyed entries in shards.
pub(super) struct Table<K, E> {
    shards: Box<[Mutex<Shard<K, E>>]>,
    len: AtomicUsize,
    capacity: usize,
}

/// One shard: its entries, and instants at which to look at one of them. An instant may be stale; the entry knows better.
pub(super) struct Shard<K, E> {
    pub(super) entries: HashMap<K, E>,
    wakes: BinaryHeap<Reverse<Wake<K>>>,
}

struct Wake<K> {
    at: Instant,
    key: K,
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

impl<K: Hash + Eq + Clone, E> Table<K, E> {
    pub(super) fn new(capacity: usize) -> Table<K, E> {
        let shard = || Mutex::new(Shard { entries: HashMap::new(), wakes: BinaryHeap::new() });
        Table { shards: (0..SHARDS).map(|_| shard()).collect(), len: AtomicUsize::new(0), capacity }
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Is there no room for one more?
    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    pub(super) fn shard(&self, hash: u64) -> MutexGuard<'_, Shard<K, E>> {
        let at = usize::try_from(hash % SHARDS as u64).unwrap_or(0);
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

impl<K: Hash + Eq + Clone, E> Shard<K, E> {
    /// Asks to be woken for this key. `scheduled` is the entry's memory of the earliest instant asked for.
    pub(super) fn schedule(&mut self, key: &K, next: Option<Instant>, scheduled: &mut Option<Instant>) {
        if let Some(at) = next
            && scheduled.is_none_or(|old| at < old)
        {
            *scheduled = Some(at);
            self.wakes.push(Reverse(Wake { at, key: key.clone() }));
        }
    }

    /// The next key whose instant has come.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<K> {
        if self.wakes.peek().is_some_and(|Reverse(wake)| wake.at <= now) {
            return self.wakes.pop().map(|Reverse(wake)| wake.key);
        }
        None
    }
}

const SHARDS: usize = 64;

//! A sharded table of transactions, with when each wants to be woken.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::endpoint::wakes::Wakes;
use crate::model::AsHashed;

/// Keyed entries in shards. `F`: what a shard keeps beside the entries that live, under the same lock.
pub(super) struct Table<E, F = ()> {
    shards: Box<[Mutex<Shard<E, F>>]>,
    hasher: RandomState,
    len: AtomicUsize,
    capacity: usize,
}

/// The compared values of a transaction (RFC 3261 17.1.3, 17.2.3) as 128 bits of a hash that is keyed at random in each run: nobody outside can
/// find two sets of values that share one, and 2^50 transactions share one by chance with a probability below 2^-28.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key([u64; 2]);

/// One shard: its entries, and instants at which to look at one of them. An instant may be stale; the entry knows better.
pub(super) struct Shard<E, F> {
    /// In boxes: a map that grows moves all that it holds while everybody of its shard waits, and has room for half as many again.
    pub(super) entries: ByKey<Box<E>>,
    pub(super) wakes: Wakes<Key>,
    pub(super) beside: F,
}

/// A map that takes the hash that is the key.
pub(super) type ByKey<V> = HashMap<Key, V, BuildHasherDefault<AsHashed>>;

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0[0]);
    }
}

impl Key {
    /// As one number.
    pub(super) fn number(self) -> u128 {
        u128::from(self.0[0]) << 64 | u128::from(self.0[1])
    }

    /// Back from [`Key::number`].
    pub(super) fn from_number(number: u128) -> Key {
        // The halves; nothing is lost.
        Key([(number >> 64) as u64, number as u64])
    }

    /// As bytes: the same for every retransmission of a request.
    pub(super) fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.0[0].to_ne_bytes());
        bytes[8..].copy_from_slice(&self.0[1].to_ne_bytes());
        bytes
    }
}

impl<E, F: Default> Table<E, F> {
    pub(super) fn new(capacity: usize) -> Table<E, F> {
        let shard = || {
            Mutex::new(Shard { entries: HashMap::default(), wakes: Wakes::default(), beside: F::default() })
        };
        let shards = (0..SHARDS).map(|_| shard()).collect();
        Table { shards, hasher: RandomState::new(), len: AtomicUsize::new(0), capacity }
    }

    /// The key of these compared values in this table.
    pub(super) fn key(&self, values: &[u8]) -> Key {
        // Two halves that a different first byte makes independent.
        Key([0, 1].map(|half| {
            let mut hasher = self.hasher.build_hasher();
            hasher.write_u8(half);
            hasher.write(values);
            hasher.finish()
        }))
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Is there no room for one more?
    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    pub(super) fn shard(&self, key: Key) -> MutexGuard<'_, Shard<E, F>> {
        self.shards[self.place(key)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All shards, one after the other.
    pub(super) fn shards(&self) -> impl Iterator<Item = MutexGuard<'_, Shard<E, F>>> {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All shards, that of `key` first.
    pub(super) fn shards_from(&self, key: Key) -> impl Iterator<Item = MutexGuard<'_, Shard<E, F>>> {
        let (before, from) = self.shards.split_at(self.place(key));
        from.iter().chain(before).map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn inserted(&self) {
        self.len.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn removed(&self, how_many: usize) {
        self.len.fetch_sub(how_many, Ordering::Relaxed);
    }

    /// By bits that the map inside the shard does not choose its place by.
    fn place(&self, key: Key) -> usize {
        usize::try_from(key.0[1] % SHARDS as u64).unwrap_or(0)
    }
}

impl<E, F> Shard<E, F> {
    /// The next key whose instant has come.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Key> {
        self.wakes.pop_due(now)
    }
}

/// Asks to be woken for this key. `scheduled` is the entry's memory of the earliest instant asked for.
pub(super) fn schedule(
    wakes: &mut Wakes<Key>,
    key: Key,
    next: Option<Instant>,
    scheduled: &mut Option<Instant>,
) {
    if let Some(at) = next
        && scheduled.is_none_or(|old| at < old)
    {
        *scheduled = Some(at);
        wakes.push(at, key);
    }
}

const SHARDS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_same_for_the_same_values_of_one_table_only() {
        let (table, other) = (Table::<()>::new(1), Table::<()>::new(1));
        assert_eq!(table.key(b"values"), table.key(b"values"));
        assert_ne!(table.key(b"values"), table.key(b"valuet"));
        assert_ne!(table.key(b"values").0[0], table.key(b"values").0[1]);
        assert_ne!(table.key(b"values"), other.key(b"values"));
    }
}

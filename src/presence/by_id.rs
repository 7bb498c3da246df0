//! Tables by the ids of subscriptions. These are random bits of ours that nobody else can choose, so they are as good as hashed already.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::model::SubscriptionId;

/// A table of something per subscription.
pub(super) type ById<T> = HashMap<SubscriptionId, T, BuildHasherDefault<OwnBits>>;

/// Which of so many shards an id belongs to; by other bits than those by which it stands in its table.
pub(super) fn shard(id: SubscriptionId, shards: usize) -> usize {
    let upper = (id.0 >> 64) as u64;
    usize::try_from(upper % shards.max(1) as u64).unwrap_or(0)
}

/// The lower half of an id.
#[derive(Default)]
pub(super) struct OwnBits(u64);

impl Hasher for OwnBits {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |bits, byte| bits.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u128(&mut self, id: u128) {
        self.0 = id as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, BuildHasherDefault};

    use super::*;

    #[test]
    fn an_id_is_its_own_hash_and_its_other_half_is_its_shard() {
        let id = SubscriptionId((5 << 64) | 0x0123_4567_89ab_cdef);
        let hasher = BuildHasherDefault::<OwnBits>::default();
        assert_eq!((hasher.hash_one(id), shard(id, 4)), (0x0123_4567_89ab_cdef, 1));
    }
}

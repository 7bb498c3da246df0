//! Tables by the ids of subscriptions. These are random bits of ours that nobody else can choose, so they are as good as hashed already.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use crate::model::{AsHashed, SubscriptionId};

/// A table of something per subscription.
pub(super) type ById<T> = HashMap<SubscriptionId, T, BuildHasherDefault<AsHashed>>;

/// Which of so many shards an id belongs to; by other bits than those by which it stands in its table.
pub(super) fn shard(id: SubscriptionId, shards: usize) -> usize {
    let upper = (id.0 >> 64) as u64;
    usize::try_from(upper % shards.max(1) as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, BuildHasherDefault};

    use super::*;

    #[test]
    fn an_id_is_its_own_hash_and_its_other_half_is_its_shard() {
        let id = SubscriptionId((5 << 64) | 0x0123_4567_89ab_cdef);
        let hasher = BuildHasherDefault::<AsHashed>::default();
        assert_eq!((hasher.hash_one(id), shard(id, 4)), (0x0123_4567_89ab_cdef, 1));
    }
}

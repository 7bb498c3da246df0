//! MESSAGEs that are on their way, by the device they are for: at most one to each at a time, whoever sent it, so that none overtakes another (RFC 3428 8).

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

use crate::model::{Aor, AsHashed};

/// Devices to which a MESSAGE is on its way, and who waits for them. `T`: who has its turn then.
pub(super) struct Outstanding<T> {
    shards: [Mutex<ByDevice<T>>; SHARDS],
    hasher: RandomState,
}

/// Who waits for a device, by its keyed hash.
type ByDevice<T> = HashMap<u64, VecDeque<T>, BuildHasherDefault<AsHashed>>;

/// Where a MESSAGE stands that is to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nothing is on its way to the device.
    First,
    /// It has its turn when the device has answered.
    Waits,
    /// Too many wait for that device.
    Full,
}

impl<T> Default for Outstanding<T> {
    fn default() -> Outstanding<T> {
        Outstanding { shards: std::array::from_fn(|_| Mutex::default()), hasher: RandomState::new() }
    }
}

impl<T> Outstanding<T> {
    /// The device of a user with this Contact. Behind two NATs two users may have the same.
    pub(super) fn device(&self, user: &Aor, contact: &str) -> u64 {
        self.hasher.hash_one((user, contact))
    }

    /// A MESSAGE is to be sent to this device.
    pub(super) fn enter(&self, device: u64, who: impl FnOnce() -> T) -> Place {
        let mut shard = self.shard(device);
        let Some(waiting) = shard.get_mut(&device) else {
            shard.insert(device, VecDeque::new());
            return Place::First;
        };
        if waiting.len() >= MAX_WAITING {
            return Place::Full;
        }
        waiting.push_back(who());
        Place::Waits
    }

    /// What was on its way has ended. Returns whose turn it is; or, if the device was silent, all that wait for it: they have waited for as long as a
    /// transaction may take, and whoever does not answer one MESSAGE will not answer the next one.
    pub(super) fn leave(&self, device: u64, was_silent: bool) -> SmallVec<[T; 1]> {
        let mut shard = self.shard(device);
        let Some(waiting) = shard.get_mut(&device) else { return SmallVec::new() };
        let next = match was_silent {
            true => std::mem::take(waiting).into_iter().collect(),
            false => waiting.pop_front().into_iter().collect::<SmallVec<[T; 1]>>(),
        };
        if was_silent || next.is_empty() {
            shard.remove(&device);
        }
        next
    }

    fn shard(&self, device: u64) -> MutexGuard<'_, ByDevice<T>> {
        let at = usize::try_from(device % SHARDS as u64).unwrap_or(0);
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const SHARDS: usize = 16;
/// More than others of the same user take while one device thinks about one message; beyond it that device is passed over.
const MAX_WAITING: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_one_at_a_time_and_others_have_theirs_rfc3428_8() {
        let outstanding = Outstanding::default();
        let bob = Aor::new("bob", "example.org").unwrap();
        let (desk, mobile) = (outstanding.device(&bob, "sip:desk"), outstanding.device(&bob, "sip:mobile"));
        assert_eq!(outstanding.enter(desk, || 1), Place::First);
        assert_eq!(outstanding.enter(desk, || 2), Place::Waits);
        assert_eq!(outstanding.enter(desk, || 3), Place::Waits);
        assert_eq!(outstanding.enter(mobile, || 4), Place::First);
        assert_eq!(outstanding.leave(desk, false).as_slice(), [2]);
        assert_eq!(outstanding.leave(desk, false).as_slice(), [3]);
        assert!(outstanding.leave(desk, false).is_empty() && outstanding.leave(mobile, false).is_empty());
        assert_eq!(outstanding.enter(desk, || 5), Place::First);
        assert!(outstanding.shards.iter().map(|shard| shard.lock().unwrap().len()).sum::<usize>() == 1);
    }

    #[test]
    fn the_same_contact_of_another_user_is_another_device() {
        let outstanding = Outstanding::<()>::default();
        let [bob, carol] = ["bob", "carol"].map(|user| Aor::new(user, "example.org").unwrap());
        assert_ne!(outstanding.device(&bob, "sip:x@10.0.0.5"), outstanding.device(&carol, "sip:x@10.0.0.5"));
    }

    #[test]
    fn who_waits_for_a_silent_device_waits_no_longer_than_its_one_attempt() {
        let outstanding = Outstanding::default();
        for number in 0..4 {
            outstanding.enter(7, || number);
        }
        assert_eq!(outstanding.leave(7, true).as_slice(), [1, 2, 3]);
        assert_eq!(outstanding.enter(7, || 4), Place::First);
    }

    #[test]
    fn those_who_wait_for_a_device_are_bounded_a24() {
        let outstanding = Outstanding::default();
        assert!((0..=MAX_WAITING).all(|_| outstanding.enter(7, || ()) != Place::Full));
        assert_eq!(outstanding.enter(7, || ()), Place::Full);
        assert_eq!(outstanding.leave(7, false).len(), 1);
        assert_eq!(outstanding.enter(7, || ()), Place::Waits);
    }
}

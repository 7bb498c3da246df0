//! How many subscriptions each watcher has (`A24`): a counter per watcher, in shards. A seat is taken before a SUBSCRIBE is decided and
//! given back when its last NOTIFY is answered, so that the cap holds for subscriptions in all homes together, and for fetches.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::{Aor, ByAor};

#[derive(Debug)]
pub(super) struct Seats {
    shards: Box<[Mutex<ByAor<usize>>]>,
}

/// One subscription of one watcher; given back on drop.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    watcher: Aor,
    stays: bool,
}

impl Seats {
    pub(super) fn new() -> Arc<Seats> {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Arc::new(Seats { shards })
    }

    /// A seat, if the watcher has fewer than `max`.
    pub(super) fn take(self: &Arc<Self>, watcher: &Aor, max: usize) -> Option<Seat> {
        let mut shard = self.shard(watcher);
        let count = shard.entry(watcher.clone()).or_insert(0);
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(self.back(watcher))
    }

    /// The seat that stayed taken; see [`Seat::stay`].
    pub(super) fn back(self: &Arc<Self>, watcher: &Aor) -> Seat {
        Seat { seats: self.clone(), watcher: watcher.clone(), stays: false }
    }

    fn shard(&self, watcher: &Aor) -> MutexGuard<'_, ByAor<usize>> {
        self.shards[watcher.place(SHARDS)].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Stays taken when the one who has it goes; nobody sees it free or taken twice meanwhile. [`Seats::back`] has it again.
    pub(super) fn stay(mut self) {
        self.stays = true;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        let mut shard = self.seats.shard(&self.watcher);
        if let Some(count) = shard.get_mut(&self.watcher) {
            *count -= 1;
            if *count == 0 {
                shard.remove(&self.watcher);
            }
        }
    }
}

const SHARDS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::testing::aor;

    #[test]
    fn a_watcher_has_so_many_seats_and_others_have_theirs_a24() {
        let seats = Seats::new();
        let (bob, carol) = (aor("bob@example.org"), aor("carol@example.org"));
        let first = seats.take(&bob, 2).expect("a seat");
        let _second = seats.take(&bob, 2).expect("a seat");
        assert!(seats.take(&bob, 2).is_none());
        assert!(seats.take(&carol, 2).is_some());
        drop(first);
        assert!(seats.take(&bob, 2).is_some());
    }

    #[test]
    fn a_seat_that_stays_taken_is_one_seat_a24() {
        let seats = Seats::new();
        let bob = aor("bob@example.org");
        let seat = seats.take(&bob, 1).expect("a seat");
        seat.stay();
        assert!(seats.take(&bob, 1).is_none());
        drop(seats.back(&bob));
        assert!(seats.take(&bob, 1).is_some());
    }

    #[test]
    fn nobody_is_remembered_without_a_seat() {
        let seats = Seats::new();
        drop(seats.take(&aor("bob@example.org"), 1));
        assert!(seats.take(&aor("carol@example.org"), 0).is_none());
        assert!(seats.shards.iter().all(|shard| shard.lock().unwrap().values().all(|count| *count == 0)));
    }
}

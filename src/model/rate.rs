//! How often one user may do something (`A25`, `A26`).

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::model::{Aor, Timestamp};

/// A token bucket per user, in a table that never grows. Users who share a place share a bucket; who does is decided by a key of this run, so nobody
/// can choose his neighbours.
pub struct Rate {
    /// When the bucket of whoever stands here is full again, in milliseconds.
    places: Box<[AtomicI64]>,
    /// One token's time, in milliseconds.
    interval_ms: i64,
    /// How far ahead of now a bucket may be: a whole burst.
    burst_ms: i64,
}

impl Rate {
    /// - `burst`: requests that may come at once.
    /// - `interval`: at which they may go on coming; at least a millisecond.
    pub fn new(burst: u32, interval: Duration) -> Rate {
        let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
        Rate {
            places: (0..PLACES).map(|_| AtomicI64::new(0)).collect(),
            interval_ms,
            burst_ms: interval_ms.saturating_mul(i64::from(burst.max(1))),
        }
    }

    /// Takes a token of this user.
    ///
    /// # Errors
    /// After how many seconds there will be one.
    pub fn take(&self, user: &Aor, now: Timestamp) -> Result<(), u32> {
        let Some(place) = self.places.get(user.place(PLACES)) else { return Ok(()) };
        let full_at = |full_at: i64| {
            full_at.clamp(now.0, now.0.saturating_add(self.burst_ms)).saturating_add(self.interval_ms)
        };
        let latest = now.0.saturating_add(self.burst_ms);
        let taken = place.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| {
            Some(full_at(before)).filter(|after| *after <= latest)
        });
        taken
            .map(|_| ())
            .map_err(|before| Timestamp(full_at(before).saturating_sub(self.burst_ms)).secs_from(now).max(1))
    }
}

impl std::fmt::Debug for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rate").field("interval_ms", &self.interval_ms).finish_non_exhaustive()
    }
}

/// Half a megabyte.
const PLACES: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_217_355_000);

    #[test]
    fn a_burst_may_come_at_once_and_then_as_much_as_the_rate_allows_a25() {
        let rate = Rate::new(5, Duration::from_millis(500));
        let (bob, mut now) = (Aor::new("bob", "example.org").unwrap(), NOW);
        for _ in 0..5 {
            assert_eq!(rate.take(&bob, now), Ok(()));
        }
        assert_eq!(rate.take(&bob, now), Err(1));
        let mut taken = 0;
        for _ in 0..200 {
            now = Timestamp(now.0 + 50);
            taken += u32::from(rate.take(&bob, now).is_ok());
        }
        assert_eq!(taken, 20, "two a second for ten seconds, however often was asked");
    }

    #[test]
    fn a_clock_set_back_locks_nobody_out() {
        let rate = Rate::new(2, Duration::from_secs(1));
        let bob = Aor::new("bob", "example.org").unwrap();
        assert_eq!(rate.take(&bob, NOW.after_secs(10_000)), Ok(()));
        assert!(rate.take(&bob, NOW).is_err());
        assert_eq!(rate.take(&bob, NOW.after_secs(10_000)), Ok(()));
    }
}

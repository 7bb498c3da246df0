//! What the tests of the machines share: an origin of virtual time, and short ways to look at it.

use std::time::{Duration, Instant};

/// The instant at which virtual time begins.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can only be had from the clock; tests count from this one"
)]
pub(super) fn epoch() -> Instant {
    Instant::now()
}

/// `count` milliseconds.
pub(super) const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// `count` seconds.
pub(super) const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

//! The clocks. Everything above takes `now` as an argument.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::model::Timestamp;

/// Wall time.
#[expect(clippy::disallowed_methods, reason = "the one place where wall time is read")]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Monotonic time, for timers.
#[expect(clippy::disallowed_methods, reason = "the one place where monotonic time is read")]
pub fn instant() -> Instant {
    Instant::now()
}

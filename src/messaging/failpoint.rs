//! Places at which a test lets the server die, between two steps of a message's life. Debug builds only: a release build has neither the
//! places nor their names.
//!
//! `HITHER_FAILPOINT=stored:2` ends the process when it comes by [`reach`]`("stored")` for the second time: at once, in the middle of whatever
//! else it does, with nothing flushed and nobody told, as `kill -9` does. A crate for this (`fail`) would do what nobody needs here (sleep, panic,
//! return something else, be set up at run time) and be in every build.

/// The process dies here if the environment says so.
#[cfg(debug_assertions)]
pub(super) fn reach(point: &str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static ARMED: LazyLock<Option<(String, AtomicU32)>> = LazyLock::new(|| {
        let text = std::env::var("HITHER_FAILPOINT").ok()?;
        let (point, times) = text.split_once(':').unwrap_or((&text, "1"));
        Some((point.to_owned(), AtomicU32::new(times.parse().ok()?)))
    });
    if let Some((armed, left)) = &*ARMED
        && armed == point
        && left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        std::process::abort();
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(super) const fn reach(_: &str) {}

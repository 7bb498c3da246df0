//! How often a watcher may be told of changes (`A25`, RFC 3856 6.10).

use std::time::{Duration, Instant};

/// A burst, then one per interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pacing {
    /// NOTIFYs that may go at once.
    pub burst: u32,
    /// Time in which one more is earned.
    pub interval: Duration,
    /// A look that finds nothing new counts as one: it is dear.
    pub looks: bool,
}

/// A bucket of NOTIFYs.
#[derive(Debug)]
pub(super) struct Bucket {
    pacing: Pacing,
    tokens: u32,
    /// When the last token was earned, or spent from a full bucket.
    since: Instant,
}

impl Bucket {
    /// A bucket with the whole burst in it.
    pub(super) fn full(now: Instant, pacing: Pacing) -> Bucket {
        Bucket { pacing, tokens: pacing.burst.max(1), since: now }
    }

    /// A bucket as it was: so many in it, the last of them earned then.
    pub(super) fn with(pacing: Pacing, tokens: u32, since: Instant) -> Bucket {
        Bucket { pacing, tokens, since }
    }

    /// What is in it, and since when it earns the next one.
    pub(super) fn level(&mut self, now: Instant) -> (u32, Instant) {
        self.has(now);
        (self.tokens, self.since)
    }

    /// Is there one to take?
    pub(super) fn has(&mut self, now: Instant) -> bool {
        let full = self.pacing.burst.max(1);
        let interval = self.pacing.interval.max(Duration::from_millis(1));
        let since = now.saturating_duration_since(self.since);
        if self.tokens < full && since >= interval {
            let earned = u32::try_from(since.as_millis() / interval.as_millis()).unwrap_or(u32::MAX);
            self.tokens = self.tokens.saturating_add(earned).min(full);
            self.since += interval.saturating_mul(earned);
        }
        if self.tokens >= full {
            self.since = now;
        }
        self.tokens > 0
    }

    /// Takes one.
    pub(super) fn take(&mut self, now: Instant) {
        if self.has(now) {
            self.tokens -= 1;
        }
    }

    /// Nothing new was found.
    pub(super) fn looked(&mut self, now: Instant) {
        if self.pacing.looks {
            self.take(now);
        }
    }

    /// When the next one is earned; `None` if there is one.
    pub(super) fn next_at(&self) -> Option<Instant> {
        (self.tokens == 0).then(|| self.since + self.pacing.interval.max(Duration::from_millis(1)))
    }
}

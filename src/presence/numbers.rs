//! CSeq numbers of one subscription's NOTIFYs: they only grow, over restarts too (RFC 3261 12.2.1.1).
//!
//! Numbers are reserved in blocks in the subscription's row, and none is used that the *disk* does not know as reserved. While a block lasts,
//! the next one is reserved by a lazy row; a lazy row is on disk within 30 s. Who needs numbers sooner (a watcher that refreshes every
//! second, or the first NOTIFY after a restart) waits for a durable row. If the store is away, such a row is taken at once in memory, as
//! everything is then.

use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Numbers {
    next: u32,
    /// May be used up to here.
    safe: u32,
    /// The row says so in memory; on disk at that instant.
    coming: Option<(u32, Instant)>,
    /// A row is on its way.
    asking: bool,
    retry_at: Option<Instant>,
}

impl Numbers {
    /// A new subscription; its row was written with `reserved`.
    pub(super) fn from_first(reserved: u32) -> Numbers {
        Numbers { next: 1, ..Numbers::resumed(reserved) }
    }

    /// A subscription of an earlier run.
    pub(super) fn resumed(reserved: u32) -> Numbers {
        Numbers {
            next: reserved.saturating_add(1),
            safe: reserved,
            coming: None,
            asking: false,
            retry_at: None,
        }
    }

    /// Those of a subscription that has rested: the next one, and the last that may be used.
    pub(super) fn between(next: u32, safe: u32) -> Numbers {
        Numbers { next, ..Numbers::resumed(safe) }
    }

    /// The next number and the last that may be used, if nothing is on its way.
    pub(super) fn at_rest(&mut self, now: Instant) -> Option<(u32, u32)> {
        self.has_next(now);
        let is_quiet = !self.asking && self.coming.is_none() && self.retry_at.is_none();
        is_quiet.then_some((self.next, self.safe))
    }

    /// Takes the next number.
    pub(super) fn next(&mut self) -> u32 {
        let number = self.next;
        self.next = self.next.saturating_add(1);
        number
    }

    /// May [`Numbers::next`] be used?
    pub(super) fn has_next(&mut self, now: Instant) -> bool {
        if let Some((upto, at)) = self.coming
            && at <= now
        {
            self.safe = self.safe.max(upto);
            self.coming = None;
        }
        self.next <= self.safe
    }

    /// Is it time to reserve the next block?
    pub(super) fn is_low(&self) -> bool {
        self.reserved().saturating_sub(self.next) < LOW
    }

    /// What to reserve now; `None` if it is being reserved already, or could not be a moment ago.
    pub(super) fn ask(&mut self, now: Instant) -> Option<u32> {
        if self.asking || self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        self.asking = true;
        self.retry_at = None;
        Some(self.reserved().max(self.next.saturating_sub(1)).saturating_add(BLOCK))
    }

    pub(super) fn taken(&mut self, now: Instant, upto: u32, durable: bool) {
        self.asking = false;
        if durable {
            self.safe = self.safe.max(upto);
            self.coming = None;
        } else {
            self.coming = Some((upto, now + LAZY));
        }
    }

    pub(super) fn refused(&mut self, now: Instant) {
        self.asking = false;
        self.retry_at = Some(now + RETRY_AFTER);
    }

    /// When to ask again for numbers without which nothing can be sent.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at.filter(|_| self.next > self.safe)
    }

    /// Is a row on its way, and nothing can be sent before it is written?
    pub(super) fn is_asking(&self) -> bool {
        self.asking && self.next > self.safe
    }

    fn reserved(&self) -> u32 {
        self.coming.map_or(self.safe, |(upto, _)| upto.max(self.safe))
    }
}

/// Numbers in a block; the row of a new subscription reserves one.
pub(super) const BLOCK: u32 = 64;
/// With so few left the next block is reserved: more than a paced watcher uses in [`LAZY`].
const LOW: u32 = 16;
/// A lazy row is on disk within 30 s; one second for the commit.
const LAZY: Duration = Duration::from_secs(31);
const RETRY_AFTER: Duration = Duration::from_secs(5);

//! Guessing is slowed per (AoR, source) and per source; nobody is ever locked out for everybody (`A12`).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use crate::model::Timestamp;

/// Counts failures, not attempts: five hundred phones behind one address that know their passwords are never slowed.
#[derive(Debug, Default)]
pub struct Failures {
    table: Mutex<Table>,
}

/// By source, then by AoR (an empty name for the source alone): a source that never failed costs one look, and no look makes a key.
#[derive(Debug, Default)]
struct Table {
    sources: HashMap<IpAddr, HashMap<String, Bucket>>,
    len: usize,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Failures that still count, in thousandths; drains at [`DRAIN_PER_S`].
    level: u32,
    at: Timestamp,
}

impl Failures {
    /// May another response of this AoR from this source be evaluated? An empty name stands for the source alone.
    ///
    /// - `is_proven`: this AoR has logged in from this source before, so that one bad phone in the office does not stop it.
    pub fn may_try(&self, aor: &str, source: IpAddr, is_proven: bool, now: Timestamp) -> bool {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(buckets) = table.sources.get(&network(source)) else { return true };
        let has_room =
            |name, max| buckets.get(name).is_none_or(|bucket| bucket.drained(now).saturating_add(ONE) <= max);
        has_room(aor, MAX_PER_PAIR) && (is_proven || has_room("", MAX_PER_SOURCE))
    }

    /// A wrong response.
    pub fn failed(&self, aor: &str, source: IpAddr, now: Timestamp) {
        let table = &mut *self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.len >= MAX_ENTRIES {
            table.forget_drained(now);
        }
        if table.len >= MAX_ENTRIES {
            return;
        }
        let buckets = table.sources.entry(network(source)).or_default();
        let before = buckets.len();
        for name in [aor, ""] {
            let bucket = buckets.entry(name.to_owned()).or_insert(Bucket { level: 0, at: now });
            bucket.level = bucket.drained(now).saturating_add(ONE);
            bucket.at = now;
            if aor.is_empty() {
                break;
            }
        }
        table.len += buckets.len() - before;
    }

    /// A right response: this pair starts anew.
    pub fn succeeded(&self, aor: &str, source: IpAddr, now: Timestamp) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = table.sources.get_mut(&network(source)).and_then(|buckets| buckets.get_mut(aor));
        if let Some(bucket) = bucket {
            *bucket = Bucket { level: 0, at: now };
        }
    }
}

impl Table {
    fn forget_drained(&mut self, now: Timestamp) {
        for buckets in self.sources.values_mut() {
            buckets.retain(|_, bucket| bucket.drained(now) > 0);
        }
        self.sources.retain(|_, buckets| !buckets.is_empty());
        self.len = self.sources.values().map(HashMap::len).sum();
    }
}

impl Bucket {
    fn drained(&self, now: Timestamp) -> u32 {
        let elapsed_ms = u64::try_from(now.0.saturating_sub(self.at.0)).unwrap_or(0);
        let drained = u32::try_from(elapsed_ms.saturating_mul(DRAIN_PER_S) / 1_000).unwrap_or(u32::MAX);
        self.level.saturating_sub(drained)
    }
}

/// A /32 of IPv4, a /64 of IPv6: whom a bound per source is about.
pub fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// A failure, in the thousandths that levels are counted in.
const ONE: u32 = 1_000;
/// Ten wrong guesses at once for one AoR from one source, then one every six seconds.
const MAX_PER_PAIR: u32 = 10_000;
/// Ten for the source as a whole, for AoRs that never succeeded from there, then one every six seconds: at most 20 in a minute.
const MAX_PER_SOURCE: u32 = 10_000;
/// In thousandths of a failure per second.
const DRAIN_PER_S: u64 = 166;
/// Entries at once (about 20 MB).
const MAX_ENTRIES: usize = 200_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn ten_thousand_guesses_are_evaluated_twenty_times_a_minute_a12() {
        let failures = Failures::default();
        let mut evaluated = 0;
        for n in 0..10_000 {
            let now = Timestamp(n * 6);
            if failures.may_try("bob@example.org", ip(1), false, now) {
                evaluated += 1;
                failures.failed("bob@example.org", ip(1), now);
            }
        }
        assert!((10..=20).contains(&evaluated), "{evaluated}");
        assert!(
            failures.may_try("bob@example.org", ip(2), false, Timestamp(60_000)),
            "the victim logs in from elsewhere"
        );
    }

    #[test]
    fn after_ten_guesses_at_once_the_next_one_is_looked_at_in_six_seconds_a12() {
        let failures = Failures::default();
        for _ in 0..10 {
            failures.failed("bob@example.org", ip(1), Timestamp(0));
        }
        assert!(!failures.may_try("bob@example.org", ip(1), false, Timestamp(5_900)));
        assert!(failures.may_try("bob@example.org", ip(1), false, Timestamp(6_100)));
    }

    #[test]
    fn guessing_over_many_users_is_slowed_by_source_and_spares_those_who_succeeded() {
        let failures = Failures::default();
        let now = Timestamp(0);
        for n in 0..20 {
            failures.failed(&format!("user{n}@example.org"), ip(1), now);
        }
        assert!(!failures.may_try("user99@example.org", ip(1), false, now));
        assert!(failures.may_try("carol@example.org", ip(1), true, now));
        assert!(failures.may_try("user99@example.org", ip(1), false, Timestamp(120_000)));
    }
}

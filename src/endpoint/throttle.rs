//! How much is said to who has proved nothing (`A15`).
//!
//! A datagram's source may be forged. An answer is never larger than allowed and never more than one per request
//! ([`super::Incoming::is_proportionate`]); this bounds how many go in a second to one address from which nobody has answered a challenge
//! lately. Who has answered one hears us: a trunk, an office, a load test.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// A count per address and second, in a table that never grows. Addresses that share a place share what is in it; who does is decided by a key of this
/// run, so nobody can choose his neighbours.
pub(super) struct Throttle {
    /// Above the second, below how many answers.
    places: Box<[AtomicU64]>,
    /// Until which second the address has proved itself.
    proved: Box<[AtomicU32]>,
    second: AtomicU32,
    hasher: RandomState,
}

impl Default for Throttle {
    fn default() -> Throttle {
        let places = (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        let proved = (0..PLACES).map(|_| AtomicU32::new(0)).collect();
        Throttle { places, proved, second: AtomicU32::new(1), hasher: RandomState::new() }
    }
}

impl Throttle {
    /// Time has passed. `elapsed`: since the start.
    pub(super) fn handle_time(&self, elapsed: Duration) {
        // Nothing is counted in second 0, which is what empty places hold.
        let second = u32::try_from(elapsed.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
        self.second.store(second, Ordering::Relaxed);
    }

    /// May one more answer go to this address? What comes from this very machine is not forged: the system sees to that.
    pub(super) fn allows(&self, address: IpAddr) -> bool {
        let Some(at) = self.place(address) else { return true };
        let (Some(place), Some(proved)) = (self.places.get(at), self.proved.get(at)) else { return true };
        let now = self.second.load(Ordering::Relaxed);
        if proved.load(Ordering::Relaxed) > now {
            return true;
        }
        let second = u64::from(now) << 32;
        let known = place.load(Ordering::Relaxed);
        // Two that count at once may count as one.
        let count = if known & !COUNT == second { known & COUNT } else { 0 };
        if count >= PER_SECOND {
            return false;
        }
        place.store(second | (count + 1), Ordering::Relaxed);
        true
    }

    /// Somebody at this address has answered a challenge.
    pub(super) fn proved(&self, address: IpAddr) {
        let Some(proved) = self.place(address).and_then(|at| self.proved.get(at)) else { return };
        let until = self.second.load(Ordering::Relaxed).saturating_add(PROVED_S);
        // Written once a second at most: many cores read it.
        if proved.load(Ordering::Relaxed) != until {
            proved.store(until, Ordering::Relaxed);
        }
    }

    /// `None`: it is not counted.
    fn place(&self, address: IpAddr) -> Option<usize> {
        let address = counted_as(address);
        if address.is_loopback() {
            return None;
        }
        usize::try_from(self.hasher.hash_one(address) % PLACES as u64).ok()
    }
}

/// What counts as one address: an IPv6 host commonly has a whole /64 to itself.
fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into()
        }
        other => other,
    }
}

/// Answers to one address in a second.
pub(super) const PER_SECOND: u64 = 5_000;
/// How long an address is believed: a phone comes back more often.
const PROVED_S: u32 = 3_600;
/// 768 KiB in all.
const PLACES: usize = 65_536;
const COUNT: u64 = u32::MAX as u64;

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(throttle: &Throttle, address: &str, times: u64) -> u64 {
        let address = address.parse().unwrap();
        (0..times).map(|_| u64::from(throttle.allows(address))).sum()
    }

    #[test]
    fn an_address_hears_so_much_in_a_second_and_no_more_a15() {
        let throttle = Throttle::default();
        assert_eq!(allowed(&throttle, "192.0.2.9", PER_SECOND + 100), PER_SECOND);
        throttle.handle_time(Duration::from_millis(999));
        assert_eq!(allowed(&throttle, "192.0.2.9", 1), 0);
        throttle.handle_time(Duration::from_millis(1_000));
        assert_eq!(allowed(&throttle, "192.0.2.9", PER_SECOND + 100), PER_SECOND);
    }

    #[test]
    fn one_address_does_not_use_up_what_others_have_a15() {
        let throttle = Throttle::default();
        allowed(&throttle, "192.0.2.9", PER_SECOND);
        // One in 65,536 shares its place.
        let heard: u64 = (1..=200).map(|n| allowed(&throttle, &format!("198.51.100.{n}"), 1)).sum();
        assert!(heard >= 198, "{heard}");
    }

    #[test]
    fn an_address_that_has_answered_a_challenge_is_believed_for_an_hour_a15() {
        let throttle = Throttle::default();
        throttle.handle_time(Duration::from_secs(7));
        throttle.proved("192.0.2.9".parse().unwrap());
        assert_eq!(allowed(&throttle, "192.0.2.9", PER_SECOND + 100), PER_SECOND + 100);
        throttle.handle_time(Duration::from_secs(7 + 3_600));
        assert_eq!(allowed(&throttle, "192.0.2.9", PER_SECOND + 100), PER_SECOND);
    }

    #[test]
    fn a_network_of_one_host_counts_as_one_and_this_machine_not_at_all_a15() {
        let throttle = Throttle::default();
        assert_eq!(allowed(&throttle, "2001:db8::1", PER_SECOND), PER_SECOND);
        assert_eq!(allowed(&throttle, "2001:db8::2", 1), 0);
        assert_eq!(allowed(&throttle, "::ffff:192.0.2.9", PER_SECOND), PER_SECOND);
        assert_eq!(allowed(&throttle, "192.0.2.9", 1), 0);
        for this in ["127.0.0.1", "::1"] {
            assert_eq!(allowed(&throttle, this, PER_SECOND + 1), PER_SECOND + 1);
        }
    }
}

//! From where a user has proved the password: a neighbour behind the same address who guesses does not stop them (`A12`).

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

/// The last few networks of one user. Of this run only: after a restart each phone proves itself anew.
#[derive(Debug, Default)]
pub struct Proven {
    /// 0: none yet. Two that write at once may lose one of them, which is noted again with its next success.
    networks: [AtomicU32; NETWORKS],
}

impl Proven {
    /// Was it from there?
    pub fn has(&self, source: IpAddr) -> bool {
        let network = number(source);
        self.networks.iter().any(|slot| slot.load(Ordering::Relaxed) == network)
    }

    /// It was from there; the oldest is forgotten.
    pub fn note(&self, source: IpAddr) {
        if self.has(source) {
            return;
        }
        let mut network = number(source);
        for slot in &self.networks {
            network = slot.swap(network, Ordering::Relaxed);
        }
    }
}

/// A /32 of IPv4 or a /64 of IPv6 as a number, never 0. Two of IPv6 may have the same one: what is won by finding such a pair is ten guesses, as from
/// any other address.
fn number(source: IpAddr) -> u32 {
    let number = match source.to_canonical() {
        IpAddr::V4(ip) => ip.to_bits(),
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            (u32::from(a ^ c) << 16 | u32::from(b ^ d)) ^ 0x8000_0000
        }
    };
    number.max(1)
}

/// Networks of one user at a time: office, home, mobile and one more.
const NETWORKS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_four_networks_of_a_user_are_known() {
        let proven = Proven::default();
        let ip = |last| IpAddr::from([192, 0, 2, last]);
        assert!(!proven.has(ip(1)) && !proven.has("::1".parse().unwrap()));
        for last in [1, 2, 3, 4, 1, 5] {
            proven.note(ip(last));
        }
        assert!(!proven.has(ip(1)), "the oldest");
        assert!([2, 3, 4, 5].into_iter().all(|last| proven.has(ip(last))));
        proven.note("2001:db8::1".parse().unwrap());
        assert!(proven.has("2001:db8::2".parse().unwrap()), "one /64");
        assert!(!proven.has("2001:db8:0:1::1".parse().unwrap()));
        assert!(proven.has("::ffff:192.0.2.5".parse().unwrap()));
    }
}

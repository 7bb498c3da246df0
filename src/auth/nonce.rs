//! Nonces: made without state, spent with a little (`A08`).
//!
//! A nonce is `time salt mac`, in hex: 12 + 16 + 32 digits. The MAC covers time, salt and the source address without port, under a
//! key of this run.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::hmac;

use crate::model::Timestamp;
use crate::sip::digest::Credentials;

/// Makes, checks and spends nonces.
pub struct Nonces {
    key: hmac::Key,
    lifetime_ms: i64,
    spent: Mutex<Spent>,
}

impl std::fmt::Debug for Nonces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nonces").finish_non_exhaustive()
    }
}

/// A nonce of ours that is still good, and the count it was used with (`None`: without qop, single use).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    made_at: i64,
    salt: u64,
    count: Option<u32>,
}

#[derive(Default)]
struct Spent {
    windows: HashMap<(i64, u64), Window>,
    /// Keys in order of first use, which is nearly the order of expiry.
    order: VecDeque<(i64, u64)>,
}

/// RFC 7616 3.4 `nc`: a sliding window of the last 64 counts, because datagrams overtake each other.
#[derive(Default)]
struct Window {
    highest: u32,
    seen: u64,
    closed: bool,
}

impl Nonces {
    /// `run_key`: random bytes of this run.
    pub fn new(run_key: [u8; 32], lifetime_s: u32) -> Nonces {
        Nonces {
            key: hmac::Key::new(hmac::HMAC_SHA256, &run_key),
            lifetime_ms: i64::from(lifetime_s) * 1000,
            spent: Mutex::default(),
        }
    }

    /// A nonce for this address.
    pub fn make(&self, source: IpAddr, now: Timestamp, salt: u64) -> String {
        let mac = self.mac(now.0, salt, source);
        format!("{:012x}{salt:016x}{mac:032x}", now.0)
    }

    /// Is it ours, of this run, for this address, and young enough?
    pub fn check(&self, credentials: &Credentials<'_>, source: IpAddr, now: Timestamp) -> Option<Proof> {
        let nonce = credentials.nonce;
        if nonce.len() != 60 || !nonce.is_ascii() {
            return None;
        }
        let made_at = i64::from_str_radix(&nonce[..12], 16).ok()?;
        let salt = u64::from_str_radix(&nonce[12..28], 16).ok()?;
        let expected = hex(self.mac(made_at, salt, source));
        aws_lc_rs::constant_time::verify_slices_are_equal(&expected, &nonce.as_bytes()[28..]).ok()?;
        let age = now.0.saturating_sub(made_at);
        if !(0..=self.lifetime_ms).contains(&age) {
            return None;
        }
        let count = match credentials.qop {
            Some(_) => Some(credentials.nc?),
            None => None,
        };
        Some(Proof { made_at, salt, count })
    }

    /// Uses a count up. `false`: it was used before, or has fallen out of the window.
    pub fn spend(&self, proof: &Proof, now: Timestamp) -> bool {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        spent.forget(now.0.saturating_sub(self.lifetime_ms));
        let key = (proof.made_at, proof.salt);
        if !spent.windows.contains_key(&key) {
            spent.order.push_back(key);
        }
        spent.windows.entry(key).or_default().spend(proof.count)
    }

    fn mac(&self, made_at: i64, salt: u64, source: IpAddr) -> u128 {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&made_at.to_be_bytes());
        context.update(&salt.to_be_bytes());
        match source {
            IpAddr::V4(ip) => context.update(&ip.octets()),
            IpAddr::V6(ip) => context.update(&ip.octets()),
        }
        let tag = context.sign();
        let mut half = [0; 16];
        half.copy_from_slice(&tag.as_ref()[..16]);
        u128::from_be_bytes(half)
    }
}

/// 32 lower-case hex digits.
fn hex(bits: u128) -> [u8; 32] {
    let mut digits = [0; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bits.to_be_bytes()) {
        for (digit, half) in pair.iter_mut().zip([byte >> 4, byte & 15]) {
            *digit = if half < 10 { b'0' + half } else { b'a' + half - 10 };
        }
    }
    digits
}

impl Spent {
    /// Lets go of nonces that were made before this instant (they are refused by their age), and of the oldest beyond the bound: those become
    /// refusable only by age, so the bound is far above what one lifetime of logins needs.
    fn forget(&mut self, before: i64) {
        while let Some(&key) = self.order.front() {
            if key.0 >= before && self.order.len() <= MAX_NONCES {
                return;
            }
            self.order.pop_front();
            self.windows.remove(&key);
        }
    }
}

impl Window {
    fn spend(&mut self, count: Option<u32>) -> bool {
        let Some(count) = count else {
            let fresh = !self.closed && self.highest == 0;
            self.closed = true;
            return fresh;
        };
        if self.closed || count == 0 {
            return false;
        }
        if count > self.highest {
            let shift = count - self.highest;
            self.seen = if shift >= 64 { 0 } else { self.seen << shift };
            self.seen |= 1;
            self.highest = count;
            return true;
        }
        let behind = self.highest - count;
        if behind >= 64 || self.seen & (1 << behind) != 0 {
            return false;
        }
        self.seen |= 1 << behind;
        true
    }
}

/// Nonces with state at once (about 60 MB).
const MAX_NONCES: usize = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_good_once_and_may_come_late_rfc7616_3_4() {
        let mut window = Window::default();
        assert!(window.spend(Some(1)));
        assert!(!window.spend(Some(1)));
        assert!(window.spend(Some(5)));
        assert!(window.spend(Some(3)));
        assert!(!window.spend(Some(3)));
        assert!(window.spend(Some(200)));
        assert!(!window.spend(Some(5)), "fallen out of the window");
        assert!(!window.spend(Some(0)));
        assert!(!window.spend(None));
    }

    #[test]
    fn hex_is_what_a_nonce_is_written_with() {
        let bits = 0x0f1e_2d3c_4b5a_6978_8796_a5b4_c3d2_e1f0;
        assert_eq!(hex(bits), format!("{bits:032x}").as_bytes());
    }

    #[test]
    fn a_nonce_without_qop_is_good_once() {
        let mut window = Window::default();
        assert!(window.spend(None));
        assert!(!window.spend(None));
        assert!(!window.spend(Some(1)));
    }
}

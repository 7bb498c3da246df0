//! Nonces: made without state, spent with a little (`A08`).
//!
//! A nonce is time in seconds (4 bytes), salt (6) and MAC (12) in base64url: 30 characters, because it stands twice in every challenge (`A15`). The MAC
//! covers time, salt and the source address without port, under a key of this run.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::model::Timestamp;
use crate::sip::digest::Credentials;

/// Makes, checks and spends nonces.
pub struct Nonces {
    key: hmac::Key,
    lifetime_s: i64,
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
    /// Seconds.
    made_at: i64,
    salt: u64,
    count: Option<u32>,
}

#[derive(Default)]
struct Spent {
    windows: HashMap<(i64, u64), Window>,
    /// Keys in order of first use, which is nearly the order of expiry.
    order: VecDeque<(i64, u64)>,
    /// Nonces made up to this second were forgotten for want of room: unknown ones among them count as spent.
    floor: i64,
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
            lifetime_s: lifetime_s.into(),
            spent: Mutex::default(),
        }
    }

    /// A nonce for this address.
    pub fn make(&self, source: IpAddr, now: Timestamp, salt: u64) -> String {
        let made_at = now.0.div_euclid(1_000);
        let salt = salt >> (64 - 8 * SALT);
        let mut bytes = [0; TIME + SALT + MAC];
        bytes[..TIME].copy_from_slice(&made_at.to_be_bytes()[8 - TIME..]);
        bytes[TIME..TIME + SALT].copy_from_slice(&salt.to_be_bytes()[8 - SALT..]);
        bytes[TIME + SALT..].copy_from_slice(&self.mac(made_at, salt, source));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Is it ours, of this run, for this address, and young enough?
    pub fn check(&self, credentials: &Credentials<'_>, source: IpAddr, now: Timestamp) -> Option<Proof> {
        let bytes = URL_SAFE_NO_PAD.decode(credentials.nonce).ok()?;
        let (time, rest) = bytes.split_first_chunk::<TIME>()?;
        let (salt, mac) = rest.split_first_chunk::<SALT>()?;
        let (mut made_at_bytes, mut salt_bytes) = ([0; 8], [0; 8]);
        made_at_bytes[8 - TIME..].copy_from_slice(time);
        salt_bytes[8 - SALT..].copy_from_slice(salt);
        let (made_at, salt) = (i64::from_be_bytes(made_at_bytes), u64::from_be_bytes(salt_bytes));
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.mac(made_at, salt, source), mac).ok()?;
        let age = now.0.div_euclid(1_000).saturating_sub(made_at);
        if !(0..=self.lifetime_s).contains(&age) {
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
        spent.forget(now.0.div_euclid(1_000).saturating_sub(self.lifetime_s));
        let key = (proof.made_at, proof.salt);
        if !spent.windows.contains_key(&key) {
            if proof.made_at <= spent.floor {
                return false;
            }
            spent.order.push_back(key);
        }
        spent.windows.entry(key).or_default().spend(proof.count)
    }

    fn mac(&self, made_at: i64, salt: u64, source: IpAddr) -> [u8; MAC] {
        let (mut text, mut length) = ([0; 32], 16);
        text[..8].copy_from_slice(&made_at.to_be_bytes());
        text[8..16].copy_from_slice(&salt.to_be_bytes());
        let mut add = |ip: &[u8]| {
            length += ip.len();
            text[16..length].copy_from_slice(ip);
        };
        match source {
            IpAddr::V4(ip) => add(&ip.octets()),
            IpAddr::V6(ip) => add(&ip.octets()),
        }
        let mut mac = [0; MAC];
        mac.copy_from_slice(&hmac::sign(&self.key, &text[..length]).as_ref()[..MAC]);
        mac
    }
}

impl Spent {
    /// Lets go of nonces made before this second (their age refuses them), and of the oldest beyond the bound.
    fn forget(&mut self, before: i64) {
        while let Some(&key) = self.order.front() {
            let is_crowded = self.order.len() > MAX_NONCES;
            if key.0 >= before && !is_crowded {
                return;
            }
            if is_crowded {
                self.floor = self.floor.max(key.0);
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

const TIME: usize = 4;
const SALT: usize = 6;
const MAC: usize = 12;
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
    fn a_nonce_is_good_for_one_address_one_run_and_its_lifetime_a08() {
        let (here, there) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let nonces = Nonces::new([1; 32], 300);
        let nonce = nonces.make(here, Timestamp(1_000_000), 7);
        assert_eq!(nonce.len(), 30);
        let value = format!(
            "Digest username=\"a\",realm=\"r\",nonce=\"{nonce}\",uri=\"sip:r\",response=\"x\",qop=auth,nc=00000001,cnonce=\"c\""
        );
        let credentials = Credentials::parse(value.as_bytes()).unwrap().unwrap();
        let at = |ms: i64| Timestamp(1_000_000 + ms);
        assert!(nonces.check(&credentials, here, at(300_000)).is_some());
        assert!(nonces.check(&credentials, here, at(301_000)).is_none(), "too old");
        assert!(nonces.check(&credentials, here, at(-1)).is_none(), "of the future");
        assert!(nonces.check(&credentials, there, at(0)).is_none(), "of another address");
        assert!(Nonces::new([2; 32], 300).check(&credentials, here, at(0)).is_none(), "of another run");
    }

    #[test]
    fn a_nonce_without_qop_is_good_once() {
        let mut window = Window::default();
        assert!(window.spend(None));
        assert!(!window.spend(None));
        assert!(!window.spend(Some(1)));
    }
}

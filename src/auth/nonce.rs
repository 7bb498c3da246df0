//! Nonces: made without state, spent with a little (`A08`).
//!
//! A nonce is time in seconds (4 bytes), salt (6) and MAC (12) in base64url: 30 characters, because it stands twice in every challenge (`A15`). The MAC
//! covers time, salt and the source address without port, under a key of this run. One that was spent before is known by 128 bits of a keyed hash
//! of all its characters and that address, so its MAC is not made again.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::model::{AsHashed, Timestamp};
use crate::sip::digest::Credentials;

/// Makes, checks and spends nonces.
pub struct Nonces {
    key: hmac::Key,
    hasher: RandomState,
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
    made_at: u32,
    which: Which,
    count: Option<u32>,
}

/// A nonce and the address it is good for, as 128 bits of a hash that is keyed at random in each run: nobody outside can make what is taken for one
/// that is known, and how long it is looked for tells nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Which([u64; 2]);

#[derive(Default)]
struct Spent {
    /// Of nonces that were proved to be ours.
    windows: HashMap<Which, Window, BuildHasherDefault<AsHashed>>,
    /// With the seconds they were made at, in order of first use, which is nearly the order of expiry.
    order: VecDeque<(u32, Which)>,
    /// Nonces made up to this second were forgotten for want of room: unknown ones among them count as spent.
    floor: u32,
}

/// RFC 7616 3.4 `nc`: a sliding window of the last 64 counts, because datagrams overtake each other.
#[derive(Default)]
struct Window {
    /// Seconds.
    made_at: u32,
    highest: u32,
    seen: u64,
}

impl Nonces {
    /// `run_key`: random bytes of this run.
    pub fn new(run_key: [u8; 32], lifetime_s: u32) -> Nonces {
        Nonces {
            key: hmac::Key::new(hmac::HMAC_SHA256, &run_key),
            hasher: RandomState::new(),
            lifetime_s: lifetime_s.into(),
            spent: Mutex::default(),
        }
    }

    /// A nonce for this address.
    pub fn make(&self, source: IpAddr, now: Timestamp, salt: u64) -> String {
        let made_at = seconds(now);
        let salt = salt >> (64 - 8 * SALT);
        let mut bytes = [0; TIME + SALT + MAC];
        bytes[..TIME].copy_from_slice(&made_at.to_be_bytes());
        bytes[TIME..TIME + SALT].copy_from_slice(&salt.to_be_bytes()[8 - SALT..]);
        bytes[TIME + SALT..].copy_from_slice(&self.mac(made_at, salt, source));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Is it ours, of this run, for this address, and young enough?
    pub fn check(&self, credentials: &Credentials<'_>, source: IpAddr, now: Timestamp) -> Option<Proof> {
        let which = self.which(credentials.nonce, source);
        let known = self.spent().windows.get(&which).map(|window| window.made_at);
        let made_at = known.or_else(|| self.verified(credentials.nonce, source))?;
        let age = now.0.div_euclid(1_000).saturating_sub(made_at.into());
        if !(0..=self.lifetime_s).contains(&age) {
            return None;
        }
        let count = match credentials.qop {
            Some(_) => Some(credentials.nc?),
            None => None,
        };
        Some(Proof { made_at, which, count })
    }

    /// When it was made, in seconds, if its MAC is right for this address.
    fn verified(&self, nonce: &str, source: IpAddr) -> Option<u32> {
        let bytes = URL_SAFE_NO_PAD.decode(nonce).ok()?;
        let (time, rest) = bytes.split_first_chunk::<TIME>()?;
        let (salt, mac) = rest.split_first_chunk::<SALT>()?;
        let mut salt_bytes = [0; 8];
        salt_bytes[8 - SALT..].copy_from_slice(salt);
        let (made_at, salt) = (u32::from_be_bytes(*time), u64::from_be_bytes(salt_bytes));
        let right = self.mac(made_at, salt, source);
        aws_lc_rs::constant_time::verify_slices_are_equal(&right, mac).ok()?;
        Some(made_at)
    }

    /// Uses a count up. `false`: it was used before, or has fallen out of the window.
    pub fn spend(&self, proof: &Proof, now: Timestamp) -> bool {
        let mut spent = self.spent();
        spent.forget(now.0.div_euclid(1_000).saturating_sub(self.lifetime_s));
        spent.spend(proof)
    }

    fn spent(&self) -> MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn which(&self, nonce: &str, source: IpAddr) -> Which {
        // Two halves that a different first byte makes independent.
        Which([0_u8, 1].map(|half| self.hasher.hash_one((half, source, nonce))))
    }

    fn mac(&self, made_at: u32, salt: u64, source: IpAddr) -> [u8; MAC] {
        let (mut text, mut length) = ([0; 32], 16);
        text[..8].copy_from_slice(&u64::from(made_at).to_be_bytes());
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
        while let Some(&(made_at, which)) = self.order.front() {
            let is_crowded = self.order.len() > MAX_NONCES;
            if i64::from(made_at) >= before && !is_crowded {
                return;
            }
            if is_crowded {
                self.floor = self.floor.max(made_at);
            }
            self.order.pop_front();
            self.windows.remove(&which);
        }
    }

    fn spend(&mut self, proof: &Proof) -> bool {
        match self.windows.entry(proof.which) {
            Entry::Occupied(window) => window.into_mut().spend(proof.count),
            Entry::Vacant(_) if proof.made_at <= self.floor => false,
            Entry::Vacant(place) => {
                self.order.push_back((proof.made_at, proof.which));
                place.insert(Window { made_at: proof.made_at, ..Window::default() }).spend(proof.count)
            }
        }
    }
}

impl Hash for Which {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0[0]);
    }
}

impl Window {
    fn spend(&mut self, count: Option<u32>) -> bool {
        let Some(count) = count else {
            let fresh = self.highest == 0;
            // As if it had been used with every count there is.
            (self.highest, self.seen) = (u32::MAX, u64::MAX);
            return fresh;
        };
        if count == 0 {
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

/// Since 1970, as far as 32 bits go: until 2106.
fn seconds(now: Timestamp) -> u32 {
    u32::try_from(now.0.div_euclid(1_000)).unwrap_or_default()
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
    fn a_nonce_that_was_spent_is_good_no_longer_and_nowhere_else_a08() {
        let (here, there) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let nonces = Nonces::new([1; 32], 300);
        let nonce = nonces.make(here, Timestamp(1_000_000), 7);
        let value = |nonce: &str, count: u32| {
            format!(
                "Digest username=\"a\",realm=\"r\",nonce=\"{nonce}\",uri=\"sip:r\",response=\"x\",qop=auth,nc={count:08x},cnonce=\"c\""
            )
        };
        let check = |nonce: &str, count, source, ms: i64| {
            let value = value(nonce, count);
            let credentials = Credentials::parse(value.as_bytes()).unwrap().unwrap();
            nonces.check(&credentials, source, Timestamp(1_000_000 + ms))
        };
        let spend = |count| {
            let proof = check(&nonce, count, here, 0).expect("ours");
            nonces.spend(&proof, Timestamp(1_000_000))
        };
        assert!(spend(1) && spend(2) && !spend(2) && spend(3));
        assert!(check(&nonce, 4, here, 300_000).is_some());
        assert!(check(&nonce, 4, here, 301_000).is_none(), "too old");
        assert!(check(&nonce, 4, here, -1).is_none(), "of the future");
        assert!(check(&nonce, 4, there, 0).is_none(), "of another address");
        for at in 0..nonce.len() {
            let mut other = nonce.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            assert!(check(std::str::from_utf8(&other).unwrap(), 4, here, 0).is_none(), "{at}");
        }
    }

    #[test]
    fn a_nonce_without_qop_is_good_once() {
        let mut window = Window::default();
        assert!(window.spend(None));
        assert!(!window.spend(None));
        assert!(!window.spend(Some(1)));
    }
}

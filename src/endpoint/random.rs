//! Cryptographic randomness, handed out as values (RFC 3261 19.3; tags and branches of 128 bits, `A32`, `A33`).

use std::cell::RefCell;
use std::sync::Arc;

/// The source. Cheap enough for a branch per request: small values come from a pool of the thread, which is filled at once.
#[derive(Debug, Default)]
pub struct Random {
    keyed: std::hash::RandomState,
}

/// Random bytes that nobody has had yet: the first `left`.
struct Pool {
    bytes: [u8; POOL],
    left: usize,
}

thread_local! {
    static FRESH: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; POOL], left: 0 }) };
}

impl Pool {
    /// Hands out bytes and forgets them.
    fn take(&mut self, bytes: &mut [u8]) {
        if self.left < bytes.len() {
            fill(&mut self.bytes);
            self.left = POOL;
        }
        let rest = self.left.saturating_sub(bytes.len());
        if let Some(fresh) = self.bytes.get_mut(rest..self.left) {
            bytes.copy_from_slice(fresh);
            fresh.fill(0);
        }
        self.left = rest;
    }
}

impl Random {
    /// The source of the system, seeded by the library.
    pub fn new() -> Random {
        Random::default()
    }
    /// 128 random bits.
    pub fn bits128(&self) -> u128 {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        u128::from_be_bytes(bytes)
    }
    /// 64 random bits.
    pub fn bits64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_be_bytes(bytes)
    }
    /// A tag: 32 hex digits.
    pub fn tag(&self) -> Arc<str> {
        Hex::of(&self.bits128().to_be_bytes()).as_str().into()
    }
    /// A branch with the magic cookie, and room for what a proxy puts behind it (RFC 5393 4.2.1).
    pub fn branch(&self) -> String {
        let mut branch = String::with_capacity(56);
        branch.push_str("z9hG4bK");
        branch.push_str(Hex::of(&self.bits128().to_be_bytes()).as_str());
        branch
    }
    /// A tag that is the same for the same bytes within this run, and tells nothing about them: for answers without
    /// state (RFC 3261 8.2.7). 32 bits, the least that 19.3 allows: no dialog hangs on it.
    pub fn keyed_tag(&self, bytes: &[u8]) -> String {
        use std::hash::BuildHasher;
        let [a, b, c, d, ..] = self.keyed.hash_one(bytes).to_be_bytes();
        Hex::of(&[a, b, c, d]).as_str().to_owned()
    }
    /// Fills a buffer.
    ///
    /// # Panics
    /// If the system has no randomness to give: nothing safe could be done without it.
    pub fn fill(&self, bytes: &mut [u8]) {
        if bytes.len() > SMALL {
            return fill(bytes);
        }
        FRESH.with_borrow_mut(|pool| pool.take(bytes));
    }
}

fn fill(bytes: &mut [u8]) {
    aws_lc_rs::rand::fill(bytes).expect("the system gives randomness");
}

/// Lower-case hex digits of at most 16 bytes.
struct Hex {
    digits: [u8; 32],
    length: usize,
}

impl Hex {
    fn of(bytes: &[u8]) -> Hex {
        let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' - 10 + value };
        let mut digits = [b'0'; 32];
        for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
            *pair = [digit(byte >> 4), digit(byte & 15)];
        }
        Hex { digits, length: 2 * bytes.len() }
    }

    fn as_str(&self) -> &str {
        self.digits.get(..self.length).and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or_default()
    }
}

/// Bytes of the pool.
const POOL: usize = 1_024;
/// Up to this many bytes are taken from the pool; keys are longer and are not.
const SMALL: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_pool_are_handed_out_once() {
        let random = Random::new();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1_000 {
            assert!(seen.insert(random.bits128()) && seen.insert(random.bits64().into()));
        }
        FRESH.with_borrow(|pool| assert!(pool.bytes[pool.left..].iter().all(|byte| *byte == 0)));
    }

    #[test]
    fn tags_and_branches_are_128_bits_in_hex_rfc3261_19_3() {
        let random = Random::new();
        let is_hex = |text: &str| text.len() == 32 && text.bytes().all(|b| b"0123456789abcdef".contains(&b));
        assert!(is_hex(&random.tag()) && random.keyed_tag(b"x").len() == 8);
        assert!(is_hex(random.branch().strip_prefix("z9hG4bK").unwrap()));
        assert_eq!(random.keyed_tag(b"x"), random.keyed_tag(b"x"));
        assert_ne!(random.keyed_tag(b"x"), random.keyed_tag(b"y"));
        let hex = Hex::of(&0x0123_4567_89ab_cdef_u128.to_be_bytes());
        assert_eq!(hex.as_str(), "00000000000000000123456789abcdef");
        assert_eq!(Hex::of(&[0, 0xf1]).as_str(), "00f1");
    }
}

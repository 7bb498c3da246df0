//! Cryptographic randomness, handed out as values (RFC 3261 19.3; tags and branches of 128 bits, `A32`, `A33`).

/// The source. Cheap enough for a branch per request.
#[derive(Debug, Default)]
pub struct Random {
    keyed: std::hash::RandomState,
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
    pub fn tag(&self) -> String {
        format!("{:032x}", self.bits128())
    }
    /// A branch with the magic cookie.
    pub fn branch(&self) -> String {
        format!("z9hG4bK{:032x}", self.bits128())
    }
    /// A tag that is the same for the same bytes within this run, and tells nothing about them: for answers without
    /// state (RFC 3261 8.2.7). 32 bits, the least that 19.3 allows: no dialog hangs on it.
    pub fn keyed_tag(&self, bytes: &[u8]) -> String {
        use std::hash::BuildHasher;
        format!("{:08x}", self.keyed.hash_one(bytes) >> 32)
    }
    /// Fills a buffer.
    ///
    /// # Panics
    /// If the system has no randomness to give: nothing safe could be done without it.
    pub fn fill(&self, bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes).expect("the system gives randomness");
    }
}

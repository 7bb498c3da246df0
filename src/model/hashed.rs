//! Keys that are hashes already, keyed at random in each run, or random themselves: nobody outside can choose them.

use std::hash::Hasher;

/// Takes the one number that a key brings as its hash.
#[derive(Debug, Default)]
pub struct AsHashed(u64);

impl Hasher for AsHashed {
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
    fn write_u128(&mut self, hash: u128) {
        // Its lower half.
        self.0 = hash as u64;
    }
    fn write(&mut self, bytes: &[u8]) {
        // Keys write one number; anything else still hashes.
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

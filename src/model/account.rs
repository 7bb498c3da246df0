//! Accounts: who may authenticate, and what is kept to check it.

use crate::model::{Aor, Redacted, Text, Timestamp};
use crate::sip::digest::{self, Algorithm};

/// The hashes of an account; the password is never stored. Each is H(username:realm:password) (RFC 7616 3.4.2), for the two usernames that
/// phones send. They are stored and hashed on as lower-case hex, and kept as bytes: there may be a million of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ha1Set {
    /// MD5, username `alice`.
    pub md5: Ha1<16>,
    /// MD5, username `alice@realm`.
    pub md5_at: Ha1<16>,
    /// SHA-256, username `alice`.
    pub sha256: Ha1<32>,
    /// SHA-256, username `alice@realm`.
    pub sha256_at: Ha1<32>,
    /// SHA-512/256; `None` if the password was set before there was such a hash, or the hash is not needed.
    pub sha512_256: Option<Box<Ha1Pair>>,
}

/// One algorithm's hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ha1Pair {
    /// Username `alice`.
    pub plain: Ha1<32>,
    /// Username `alice@realm`.
    pub at: Ha1<32>,
}

/// One hash of `N` bytes.
pub type Ha1<const N: usize> = Redacted<[u8; N]>;

impl<const N: usize> Ha1<N> {
    /// As it is stored and hashed on.
    pub fn hex(&self) -> String {
        digest::hex(&self.0)
    }
    /// Back from [`Self::hex`]; `None` for anything else.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; N];
        if text.len() != 2 * N {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            for digit in pair {
                *byte = *byte << 4 | u8::try_from(char::from(*digit).to_digit(16)?).ok()?;
            }
        }
        Some(Redacted(bytes))
    }
}

impl Ha1Set {
    /// Derives all values from a password that is then forgotten.
    pub fn derive(user: &str, realm: &str, password: &str) -> Ha1Set {
        let at = format!("{user}@{realm}");
        Ha1Set {
            md5: ha1(Algorithm::Md5, user, realm, password),
            md5_at: ha1(Algorithm::Md5, &at, realm, password),
            sha256: ha1(Algorithm::Sha256, user, realm, password),
            sha256_at: ha1(Algorithm::Sha256, &at, realm, password),
            sha512_256: Some(Box::new(Ha1Pair {
                plain: ha1(Algorithm::Sha512_256, user, realm, password),
                at: ha1(Algorithm::Sha512_256, &at, realm, password),
            })),
        }
    }
}

fn ha1<const N: usize>(algorithm: Algorithm, name: &str, realm: &str, password: &str) -> Ha1<N> {
    let hex = algorithm.hash_hex(&[name.as_bytes(), realm.as_bytes(), password.as_bytes()]);
    Ha1::from_hex(&hex).expect("a hash is as long as its algorithm says")
}

/// One user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The user's address of record; the digest username is its user part.
    pub aor: Aor,
    /// The realm the hashes were made for (the domain).
    pub realm: Text,
    /// What credentials are checked against.
    pub ha1: Ha1Set,
    /// When it was made.
    pub created_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_reads_back_from_its_hex_and_from_nothing_else() {
        let set = Ha1Set::derive("Mufasa", "http-auth@example.org", "Circle of Life");
        // RFC 7616 3.9.1 hashes these with MD5.
        assert_eq!(set.md5.hex(), "3d78807defe7de2157e2b0b6573a855f");
        assert_eq!(Ha1::from_hex(&set.md5.hex()), Some(set.md5));
        assert_eq!(Ha1::<16>::from_hex("3d78"), None);
        assert_eq!(Ha1::<16>::from_hex("zz78807defe7de2157e2b0b6573a855f"), None);
    }
}

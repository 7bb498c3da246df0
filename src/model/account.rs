//! Accounts: who may authenticate, and what is kept to check it.

use crate::model::{Aor, Redacted, Timestamp};

/// The hashes of an account; the password is never stored. Each is lower-case hex of H(username:realm:password)
/// (RFC 7616 3.4.2), for the two usernames that phones send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ha1Set {
    /// MD5, username `alice`.
    pub md5: Redacted<String>,
    /// MD5, username `alice@realm`.
    pub md5_at: Redacted<String>,
    /// SHA-256, username `alice`.
    pub sha256: Redacted<String>,
    /// SHA-256, username `alice@realm`.
    pub sha256_at: Redacted<String>,
    /// SHA-512/256; `None` if the password was set before there was such a hash.
    pub sha512_256: Option<Ha1Pair>,
}

/// One algorithm's hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ha1Pair {
    /// Username `alice`.
    pub plain: Redacted<String>,
    /// Username `alice@realm`.
    pub at: Redacted<String>,
}

impl Ha1Set {
    /// Derives all values from a password that is then forgotten.
    pub fn derive(user: &str, realm: &str, password: &str) -> Ha1Set {
        use crate::sip::digest::Algorithm::{Md5, Sha256, Sha512_256};
        let at = format!("{user}@{realm}");
        let ha1 = |algorithm: crate::sip::digest::Algorithm, name: &str| {
            Redacted(algorithm.hash_hex(&[name.as_bytes(), realm.as_bytes(), password.as_bytes()]))
        };
        Ha1Set {
            md5: ha1(Md5, user),
            md5_at: ha1(Md5, &at),
            sha256: ha1(Sha256, user),
            sha256_at: ha1(Sha256, &at),
            sha512_256: Some(Ha1Pair { plain: ha1(Sha512_256, user), at: ha1(Sha512_256, &at) }),
        }
    }
}

/// One user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The user's address of record; the digest username is its user part.
    pub aor: Aor,
    /// The realm the hashes were made for (the domain).
    pub realm: String,
    /// What credentials are checked against.
    pub ha1: Ha1Set,
    /// When it was made.
    pub created_at: Timestamp,
}

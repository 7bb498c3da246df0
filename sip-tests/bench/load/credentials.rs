//! Digest credentials of one user: a nonce that is used until the server asks again.

use std::io::Write;

use hither::sip::digest::Algorithm;

use crate::database::{DOMAIN, PASSWORD};
use crate::phone::find;

/// What one user knows of the server's challenge.
pub struct Credentials {
    /// User part of the address, and user name.
    pub name: String,
    algorithm: Algorithm,
    ha1: String,
    nonce: String,
    nonce_count: u32,
}

impl Credentials {
    /// Nobody has been challenged yet.
    pub fn new(name: String, algorithm: Algorithm) -> Credentials {
        let ha1 = algorithm.hash_hex(&[name.as_bytes(), DOMAIN.as_bytes(), PASSWORD.as_bytes()]);
        Credentials { name, algorithm, ha1, nonce: String::new(), nonce_count: 0 }
    }

    /// Keeps the nonce of a challenge.
    pub fn challenged(&mut self, response: &[u8]) {
        let nonce = find(response, b"nonce=\"").and_then(|at| response[at..].split(|b| *b == b'"').next());
        self.nonce.clear();
        self.nonce.push_str(nonce.and_then(|nonce| std::str::from_utf8(nonce).ok()).unwrap_or_default());
        self.nonce_count = 0;
    }

    /// Adds the header `Authorization`, if there is a nonce.
    pub fn write(&mut self, out: &mut Vec<u8>, method: &str, uri: &str) {
        if self.nonce.is_empty() {
            return;
        }
        self.nonce_count += 1;
        let count = format!("{:08x}", self.nonce_count);
        let ha2 = self.algorithm.hash_hex(&[method.as_bytes(), uri.as_bytes()]);
        let parts = [&self.ha1, &self.nonce, &count, CNONCE, "auth", &ha2].map(str::as_bytes);
        let response = self.algorithm.hash_hex(&parts);
        let _ = write!(
            out,
            "Authorization: Digest username=\"{}\", realm=\"{DOMAIN}\", nonce=\"{}\", uri=\"{uri}\", \
             response=\"{response}\", algorithm={}, cnonce=\"{CNONCE}\", qop=auth, nc={count}\r\n",
            self.name,
            self.nonce,
            self.algorithm.as_str(),
        );
    }
}

const CNONCE: &str = "0a4f113b";

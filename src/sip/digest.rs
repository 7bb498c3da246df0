//! Digest: credentials, challenges and the maths (RFC 3261 22.4, RFC 7616, RFC 8760). No policy here.

use crate::sip::{Params, ParseError};

/// Hash algorithms offered, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// SHA-256 (64 hex digits).
    Sha256,
    /// MD5 (32 hex digits).
    Md5,
}

impl Algorithm {
    /// "SHA-256", "MD5".
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "SHA-256",
            Algorithm::Md5 => "MD5",
        }
    }
    /// Lower-case hex of the hash of the parts joined with `:`.
    pub fn hash_hex(self, parts: &[&[u8]]) -> String {
        let _ = parts;
        todo!()
    }
}

/// `Digest` credentials as sent; quotes taken off, escapes left alone.
#[derive(Debug, Clone, Copy)]
pub struct Credentials<'a> {
    /// `username`
    pub username: &'a str,
    /// `realm`
    pub realm: &'a str,
    /// `nonce`
    pub nonce: &'a str,
    /// `uri`
    pub uri: &'a str,
    /// `response`, as sent
    pub response: &'a str,
    /// `algorithm`; `None` if absent (MD5), the raw token if unknown.
    pub algorithm: Result<Algorithm, &'a str>,
    /// `cnonce`
    pub cnonce: Option<&'a str>,
    /// `qop` token
    pub qop: Option<&'a str>,
    /// `nc`: exactly eight hex digits.
    pub nc: Option<u32>,
    /// The `nc` text as sent.
    pub nc_text: Option<&'a str>,
    /// All parameters.
    pub params: Params<'a>,
}

impl<'a> Credentials<'a> {
    /// Reads a header value. `Ok(None)` if the scheme is not Digest.
    ///
    /// # Errors
    /// A missing mandatory parameter, a duplicate, `username` with `username*`, or a bad `nc` (RFC 7616 3.4).
    pub fn parse(value: &'a [u8]) -> Result<Option<Credentials<'a>>, ParseError> {
        let _ = value;
        todo!()
    }
}

/// The expected `response` (RFC 7616 3.4.1) for `qop=auth`, or without qop (RFC 2617 3.2.2.1).
/// `ha1`: lower-case hex of H(user:realm:password).
pub fn expected_response(
    algorithm: Algorithm,
    ha1: &str,
    method: &str,
    credentials: &Credentials<'_>,
) -> String {
    let _ = (algorithm, ha1, method, credentials);
    todo!()
}

/// A challenge value: `Digest realm="..", nonce="..", algorithm=SHA-256, qop="auth"[, stale=true]`.
pub fn challenge(realm: &str, nonce: &str, algorithm: Algorithm, stale: bool) -> String {
    let _ = (realm, nonce, algorithm, stale);
    todo!()
}

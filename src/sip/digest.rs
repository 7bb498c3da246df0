//! Digest: credentials, challenges and the maths (RFC 3261 22.4, RFC 7616, RFC 8760). No policy here.

use std::str::Utf8Error;

use aws_lc_rs::digest::{Context, SHA256, SHA512_256};
use md5::{Digest, Md5};

use crate::sip::lexer;
use crate::sip::params::{Grammar, Noted, keep};
use crate::sip::{Params, ParseError};

/// Hash algorithms offered, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// SHA-512/256 (64 hex digits).
    Sha512_256,
    /// SHA-256 (64 hex digits).
    Sha256,
    /// MD5 (32 hex digits).
    Md5,
}

impl Algorithm {
    /// All, strongest first.
    pub const ALL: [Algorithm; 3] = [Algorithm::Sha512_256, Algorithm::Sha256, Algorithm::Md5];

    /// "SHA-512-256", "SHA-256", "MD5": the registered name (RFC 8760 2.7).
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Sha512_256 => "SHA-512-256",
            Algorithm::Sha256 => "SHA-256",
            Algorithm::Md5 => "MD5",
        }
    }

    /// Reads a token in any case. The `-sess` variants are none of ours.
    pub fn parse(token: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|a| a.as_str().eq_ignore_ascii_case(token))
    }

    /// Lower-case hex of the hash of the parts joined with `:`.
    pub fn hash_hex(self, parts: &[&[u8]]) -> String {
        fn feed(parts: &[&[u8]], mut update: impl FnMut(&[u8])) {
            for (at, part) in parts.iter().enumerate() {
                if at > 0 {
                    update(b":");
                }
                update(part);
            }
        }
        let sha = |algorithm| {
            let mut context = Context::new(algorithm);
            feed(parts, |part| context.update(part));
            hex(context.finish().as_ref())
        };
        match self {
            Algorithm::Sha512_256 => sha(&SHA512_256),
            Algorithm::Sha256 => sha(&SHA256),
            Algorithm::Md5 => {
                let mut context = Md5::new();
                feed(parts, |part| context.update(part));
                hex(context.finalize().as_slice())
            }
        }
    }
}

/// Of a hash, at most 32 bytes, in lower case.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' - 10 + value };
    let mut digits = [b'0'; 2 * LONGEST_HASH];
    for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
    let digits = digits.get(..2 * bytes.len()).unwrap_or_default();
    std::str::from_utf8(digits).unwrap_or_default().to_owned()
}

/// Bytes of a SHA-256 or SHA-512/256.
const LONGEST_HASH: usize = 32;

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
    /// `algorithm`; MD5 if absent, the raw token as an error if unknown.
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
    /// Quotes are tolerated where the grammar has none and missed where it has them: clients differ (`nc`, `qop`, `algorithm`).
    ///
    /// # Errors
    /// A missing mandatory parameter, a duplicate, `username` with `username*`, or a bad `nc` (RFC 7616 3.4).
    pub fn parse(value: &'a [u8]) -> Result<Option<Credentials<'a>>, ParseError> {
        Credentials::read(value, std::str::from_utf8)
    }

    /// The same with somebody else's knowledge of what is text.
    pub(super) fn read(
        value: &'a [u8],
        text_of: impl Fn(&'a [u8]) -> Result<&'a str, Utf8Error>,
    ) -> Result<Option<Credentials<'a>>, ParseError> {
        let Some(text) = digest_params(value) else { return Ok(None) };
        let text = text_of(text).map_err(|e| ParseError::bad("Malformed credentials", e.valid_up_to()))?;
        // One pass: each look-up by name would read all of them again.
        let mut values = [None; NAMES.len()];
        let params = Params::parse_noting(text, Grammar::Credentials, |param| {
            let known = NAMES.iter().position(|known| known.eq_ignore_ascii_case(param.name));
            known.and_then(|at| values.get_mut(at)).map_or(Noted::Unknown, |slot| keep(slot, param))
        })?;
        let [username, username_star, realm, nonce, uri, response, algorithm, cnonce, qop, nc_text] =
            values.map(|param| param.map(|param| param.unquoted()));
        let needed = |value: Option<&'a str>, what| value.ok_or_else(|| ParseError::bad(what, 0));
        if username_star.is_some() {
            return Err(ParseError::bad("username* in credentials", 0));
        }
        let nc = nc_text
            .map(|text| {
                let digits = text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit());
                let count = digits.then(|| u32::from_str_radix(text, 16).ok()).flatten();
                count.ok_or_else(|| ParseError::bad("Malformed nc in credentials", 0))
            })
            .transpose()?;
        if qop.is_some() && (cnonce.is_none() || nc.is_none()) {
            return Err(ParseError::bad("Missing cnonce or nc in credentials", 0));
        }
        Ok(Some(Credentials {
            username: needed(username, "Missing username in credentials")?,
            realm: needed(realm, "Missing realm in credentials")?,
            nonce: needed(nonce, "Missing nonce in credentials")?,
            uri: needed(uri, "Missing uri in credentials")?,
            response: needed(response, "Missing response in credentials")?,
            algorithm: match algorithm {
                None => Ok(Algorithm::Md5),
                Some(token) => Algorithm::parse(token).ok_or(token),
            },
            cnonce,
            qop,
            nc,
            nc_text,
            params,
        }))
    }
}

const NAMES: [&str; 10] =
    ["username", "username*", "realm", "nonce", "uri", "response", "algorithm", "cnonce", "qop", "nc"];

/// What follows the scheme, if it is Digest.
fn digest_params(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(6)?;
    (scheme.eq_ignore_ascii_case(b"Digest") && rest.first().is_some_and(|&b| lexer::is_blank(b)))
        .then(|| lexer::trim(rest))
}

/// Are these Digest credentials for this realm? Also true of malformed ones, as far as they can be read.
pub(super) fn mentions_realm<'a>(
    value: &'a [u8],
    realm: &str,
    text_of: impl Fn(&'a [u8]) -> Result<&'a str, Utf8Error>,
) -> bool {
    let Some(text) = digest_params(value).and_then(|text| text_of(text).ok()) else {
        return false;
    };
    let params = Params { text, grammar: Grammar::Credentials };
    params.raw().any(|param| param.name.eq_ignore_ascii_case("realm") && param.unquoted() == realm)
}

/// The expected `response` (RFC 7616 3.4.1), or the one without qop (RFC 2617 3.2.2.1).
///
/// - `ha1`: lower-case hex of H(user:realm:password).
/// - `integrity`: the body, for `qop=auth-int`; an empty one is hashed as the empty string (RFC 8760 2.6 item 7). `None` for `auth`.
///
/// Callers refuse other values of `qop` before they ask.
pub fn expected_response(
    algorithm: Algorithm,
    ha1: &str,
    method: &str,
    credentials: &Credentials<'_>,
    integrity: Option<&[u8]>,
) -> String {
    let (method, uri) = (method.as_bytes(), credentials.uri.as_bytes());
    let ha2 = match integrity {
        None => algorithm.hash_hex(&[method, uri]),
        Some(body) => algorithm.hash_hex(&[method, uri, algorithm.hash_hex(&[body]).as_bytes()]),
    };
    let nonce = credentials.nonce.as_bytes();
    match credentials.qop {
        Some(qop) => algorithm.hash_hex(&[
            ha1.as_bytes(),
            nonce,
            credentials.nc_text.unwrap_or_default().as_bytes(),
            credentials.cnonce.unwrap_or_default().as_bytes(),
            qop.as_bytes(),
            ha2.as_bytes(),
        ]),
        None => algorithm.hash_hex(&[ha1.as_bytes(), nonce, ha2.as_bytes()]),
    }
}

/// A challenge value: `Digest realm="..", nonce="..", algorithm=SHA-256, qop="auth"[, stale=true], charset=UTF-8`.
///
/// - `integrity`: `auth-int` is offered beside `auth`.
///
/// `charset` (RFC 7616 4) stands beside the algorithms that came after RFC 2617 only: what knows MD5 alone does not know it either.
pub fn challenge(realm: &str, nonce: &str, algorithm: Algorithm, integrity: bool, stale: bool) -> String {
    let mut text = String::with_capacity(104 + realm.len() + nonce.len());
    text.push_str("Digest realm=");
    push_quoted(&mut text, realm);
    text.push_str(", nonce=");
    push_quoted(&mut text, nonce);
    let qop = if integrity { ", qop=\"auth,auth-int\"" } else { ", qop=\"auth\"" };
    for part in [", algorithm=", algorithm.as_str(), qop] {
        text.push_str(part);
    }
    if stale {
        text.push_str(", stale=true");
    }
    match algorithm {
        Algorithm::Sha512_256 | Algorithm::Sha256 => text.push_str(", charset=UTF-8"),
        Algorithm::Md5 => {}
    }
    text
}

fn push_quoted(text: &mut String, value: &str) {
    text.push('"');
    if value.bytes().any(|byte| matches!(byte, b'"' | b'\\')) {
        for character in value.chars() {
            if matches!(character, '"' | '\\') {
                text.push('\\');
            }
            text.push(character);
        }
    } else {
        text.push_str(value);
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Credentials<'_> {
        Credentials::parse(text.as_bytes()).unwrap().unwrap()
    }

    fn answer(algorithm: Algorithm, password: &str, credentials: &str) -> (String, String) {
        let c = parse(credentials);
        assert_eq!(c.algorithm, Ok(algorithm));
        let ha1 = algorithm.hash_hex(&[c.username.as_bytes(), c.realm.as_bytes(), password.as_bytes()]);
        (expected_response(algorithm, &ha1, "GET", &c, None), c.response.to_owned())
    }

    const RFC7616: &str = "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", uri=\"/dir/index.html\", \
        nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001, \
        cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"";

    #[test]
    fn the_example_of_rfc7616_3_9_1() {
        let md5 = format!("{RFC7616}, algorithm=MD5, response=\"8ca523f5e9506fed4657c9700eebdbec\"");
        let (expected, sent) = answer(Algorithm::Md5, "Circle of Life", &md5);
        assert_eq!(expected, sent);
        let sha = format!(
            "{RFC7616}, algorithm=SHA-256, response=\"753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1\""
        );
        let (expected, sent) = answer(Algorithm::Sha256, "Circle of Life", &sha);
        assert_eq!(expected, sent);
    }

    #[test]
    fn sha512_256_is_the_hash_of_fips_180_4_rfc8760_2_2() {
        let hash = Algorithm::Sha512_256.hash_hex(&[b"abc"]);
        assert_eq!(hash, "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23");
        assert_eq!(Algorithm::parse("sha-512-256"), Some(Algorithm::Sha512_256));
        assert_eq!(Algorithm::parse("SHA-512-256-sess"), None);
    }

    #[test]
    fn integrity_hashes_the_body_and_an_empty_one_as_nothing_rfc8760_2_6() {
        let text = RFC7616.replace("qop=auth", "qop=auth-int") + ", algorithm=SHA-256, response=x";
        let c = parse(&text);
        // The value for SHA-256 that RFC 8760 2.6 item 7 prints.
        let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let ha2 = Algorithm::Sha256.hash_hex(&[b"MESSAGE", c.uri.as_bytes(), nothing.as_bytes()]);
        let parts = ["ha1", c.nonce, "00000001", c.cnonce.unwrap(), "auth-int", &ha2].map(str::as_bytes);
        let expected = Algorithm::Sha256.hash_hex(&parts);
        assert_eq!(expected_response(Algorithm::Sha256, "ha1", "MESSAGE", &c, Some(b"")), expected);
        assert_ne!(expected_response(Algorithm::Sha256, "ha1", "MESSAGE", &c, Some(b"text")), expected);
    }

    #[test]
    fn the_example_of_rfc2617_3_5_and_its_form_without_qop() {
        let with = "Digest username=\"Mufasa\", realm=\"testrealm@host.com\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", \
            uri=\"/dir/index.html\", qop=auth, nc=00000001, cnonce=\"0a4f113b\", response=\"6629fae49393a05397450978507c4ef1\", \
            opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"";
        let (expected, sent) = answer(Algorithm::Md5, "Circle Of Life", with);
        assert_eq!(expected, sent);
        let without = with.replace("qop=auth, nc=00000001, cnonce=\"0a4f113b\", ", "");
        let (expected, _) = answer(Algorithm::Md5, "Circle Of Life", &without);
        assert_eq!(expected, "670fd8c2df070c60b045671b8b24ff02");
    }

    #[test]
    fn quotes_are_tolerated_where_clients_put_them() {
        let text = RFC7616.replace("nc=00000001", "nc=\"0000000A\"").replace("qop=auth", "qop=\"auth\"")
            + " , algorithm = \"sha-256\",response=x,";
        let text = text.replace("Digest ", "dIGEST  ");
        let c = parse(&text);
        assert_eq!((c.nc, c.nc_text, c.qop), (Some(10), Some("0000000A"), Some("auth")));
        assert_eq!(c.algorithm, Ok(Algorithm::Sha256));
        assert_eq!(parse(&format!("{RFC7616}, response=x")).algorithm, Ok(Algorithm::Md5));
        assert_eq!(parse(&format!("{RFC7616}, response=x, algorithm=MD5-sess")).algorithm, Err("MD5-sess"));
    }

    #[test]
    fn malformed_credentials_are_refused_rfc7616_3_4() {
        let good = format!("{RFC7616}, response=x");
        for (from, to) in [
            ("username=\"Mufasa\", ", ""),
            ("realm=", "dream="),
            ("nonce=\"7", "once=\"7"),
            ("uri=", "url="),
            ("response=", "answer="),
            ("nc=00000001", "nc=1"),
            ("nc=00000001", "nc=0000000g"),
            ("nc=00000001, ", ""),
            ("cnonce=", "c="),
            ("qop=auth", "qop=auth, QOP=auth"),
            ("qop=auth", "qop=auth, username*=UTF-8''x"),
            ("qop=auth", "qop=\"auth"),
            ("qop=auth", "qop auth"),
        ] {
            assert!(Credentials::parse(good.replace(from, to).as_bytes()).is_err(), "{from} -> {to}");
        }
        for other in ["Basic eHg=", "Digest", "Digestive x=y", "", "NoOneKnowsThisScheme opaque-data=here"] {
            assert!(Credentials::parse(other.as_bytes()).unwrap().is_none(), "{other}");
        }
    }

    #[test]
    fn a_challenge_cannot_be_broken_out_of_a04() {
        assert_eq!(
            challenge("a\"b\\c", "n", Algorithm::Sha256, false, false),
            "Digest realm=\"a\\\"b\\\\c\", nonce=\"n\", algorithm=SHA-256, qop=\"auth\", charset=UTF-8"
        );
        let md5 = challenge("r", "n", Algorithm::Md5, true, true);
        assert!(md5.ends_with("algorithm=MD5, qop=\"auth,auth-int\", stale=true"), "{md5}");
    }

    #[test]
    fn the_realm_is_found_in_broken_credentials_too_a10() {
        assert!(mentions_realm(b"Digest x=1, realm=\"ours\", realm=\"b\"", "ours", std::str::from_utf8));
        assert!(mentions_realm(b"digest Realm = ours", "ours", std::str::from_utf8));
        assert!(!mentions_realm(b"Digest realm=\"theirs\"", "ours", std::str::from_utf8));
        assert!(!mentions_realm(b"Basic realm=\"ours\"", "ours", std::str::from_utf8));
    }
}

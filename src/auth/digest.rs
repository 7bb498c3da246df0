//! Is a digest response right? Pure; says nothing about the nonce (that is `nonce`) or about policy.

use crate::model::account::Ha1;
use crate::model::{Account, Redacted};
use crate::sip::digest::{Algorithm, Credentials, expected_response};
use crate::sip::{Host, Request, Uri};

/// The outcome of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The response proves the password.
    Right,
    /// It does not, or it uses what was not offered (`A09`).
    Wrong,
}

/// What a challenge of ours leaves the choice of.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    /// Algorithms, strongest first.
    pub algorithms: &'a [Algorithm],
    /// `auth-int` beside `auth`.
    pub integrity: bool,
}

/// Compares in constant time, and does the same work for a user who does not exist (`A11`), or has no hash for the algorithm.
pub fn check(
    credentials: &Credentials<'_>,
    method: &str,
    body: &[u8],
    account: Option<&Account>,
    offer: Offer<'_>,
) -> Verdict {
    let algorithm = credentials.algorithm.ok().filter(|a| offer.algorithms.contains(a));
    let is_qop = |name| credentials.qop.is_some_and(|qop| qop.eq_ignore_ascii_case(name));
    let integrity = offer.integrity && is_qop("auth-int");
    let qop_is_offered = credentials.qop.is_none() || is_qop("auth") || integrity;
    let (hashed_with, shape_is_right) = match algorithm {
        Some(algorithm) => (algorithm, qop_is_offered),
        None => (offer.algorithms.first().copied().unwrap_or(Algorithm::Sha256), false),
    };
    let with_realm = credentials.username.contains('@');
    let newest = account.and_then(|account| account.ha1.sha512_256.as_ref());
    let ha1 = match (account, hashed_with, with_realm) {
        (Some(account), Algorithm::Md5, false) => account.ha1.md5.hex(),
        (Some(account), Algorithm::Md5, true) => account.ha1.md5_at.hex(),
        (Some(account), Algorithm::Sha256, false) => account.ha1.sha256.hex(),
        (Some(account), Algorithm::Sha256, true) => account.ha1.sha256_at.hex(),
        (Some(_), Algorithm::Sha512_256, false) => newest.map_or(NOBODY_SHA, |pair| pair.plain.clone()).hex(),
        (Some(_), Algorithm::Sha512_256, true) => newest.map_or(NOBODY_SHA, |pair| pair.at.clone()).hex(),
        (None, Algorithm::Md5, _) => NOBODY_MD5.hex(),
        (None, Algorithm::Sha256 | Algorithm::Sha512_256, _) => NOBODY_SHA.hex(),
    };
    let has_hash = account.is_some() && (hashed_with != Algorithm::Sha512_256 || newest.is_some());
    let body = integrity.then_some(body);
    let expected = expected_response(hashed_with, &ha1, method, credentials, body);
    let sent = credentials.response.to_ascii_lowercase();
    let equal =
        aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_bytes(), sent.as_bytes()).is_ok();
    if equal && shape_is_right && has_hash { Verdict::Right } else { Verdict::Wrong }
}

/// Does the digest `uri` name the same user and host as the Request-URI (22.4; parameters may differ)? All names of ours are one host.
pub fn names_same_resource(digest_uri: &str, request: &Request, is_ours: &impl Fn(&Uri<'_>) -> bool) -> bool {
    if digest_uri.as_bytes() == request.uri_bytes() {
        return true;
    }
    let (Ok(claimed), Ok(actual)) = (Uri::parse(digest_uri.as_bytes()), request.uri()) else { return false };
    if claimed.user_decoded() != actual.user_decoded() {
        return false;
    }
    (is_ours(&claimed) && is_ours(&actual)) || same_host(claimed.host_port.host, actual.host_port.host)
}

fn same_host(a: Host<'_>, b: Host<'_>) -> bool {
    match (a, b) {
        (Host::Name(a), Host::Name(b)) => a.eq_ignore_ascii_case(b),
        (a, b) => a == b,
    }
}

/// May somebody write this From (`A18`)? Their own AoR under any of our names, or anonymous with Privacy.
///
/// - `is_own`: does a URI name the AoR of who is asked about?
pub fn may_use_from(request: &Request, is_own: impl Fn(&Uri<'_>) -> bool) -> bool {
    let Ok(from) = request.from() else { return false };
    if let Host::Name(name) = from.uri.host_port.host
        && name.eq_ignore_ascii_case("anonymous.invalid")
    {
        return request.has_token(crate::sip::HeaderName::Privacy, "id")
            || request.has_token(crate::sip::HeaderName::Privacy, "user");
    }
    is_own(&from.uri)
}

/// Hashes that no password has.
const NOBODY_MD5: Ha1<16> = Redacted([0; 16]);
const NOBODY_SHA: Ha1<32> = Redacted([0; 32]);

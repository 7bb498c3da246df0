//! `hither trace`: the last messages of one user.

use serde::{Deserialize, Serialize};

use crate::api::control::{Reason, Response};
use crate::api::users;
use crate::endpoint::trace::{Direction, Trace, Traced};
use crate::model::Timestamp;

/// One message; neither body nor credentials are in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceLine {
    /// Only grows.
    pub number: u64,
    /// When (RFC 3339, milliseconds).
    pub at: String,
    /// `in`, `out`, or `unsent`: it was to go out, and there was no way.
    pub direction: String,
    /// `udp`, `tcp`.
    pub transport: String,
    /// Our address.
    pub local: String,
    /// The peer's.
    pub remote: String,
    /// First line, without `SIP/2.0`.
    pub line: String,
    /// Names and values of the headers that are kept.
    pub headers: Vec<(String, String)>,
    /// Bytes of the body, which is not kept.
    pub body_bytes: usize,
}

/// What is recorded of this user above number `after`; and from now on for `follow_s` seconds everything of that user is.
///
/// An error if so many others are followed that nobody more can be, or if the name is none.
pub fn answer(
    trace: &Trace,
    domain: &str,
    user: &str,
    after: u64,
    follow_s: u32,
    now: Timestamp,
) -> Response {
    let aor = match users::aor(user, domain) {
        Ok(aor) => aor,
        Err(error) => return Response::Error { reason: Reason::Invalid, text: error.to_string() },
    };
    let until = now.after_secs(follow_s.min(LONGEST_S));
    if follow_s > 0 && !trace.follow(aor.user(), until, now) {
        let text = "as many users are followed as can be; it ends by itself".to_owned();
        return Response::Error { reason: Reason::Invalid, text };
    }
    let messages = trace.of(aor.user(), after).iter().map(|traced| line(traced)).collect();
    let following_s = trace.followed_until(aor.user(), now).map_or(0, |until| until.secs_from(now));
    Response::Traced { messages, following_s }
}

fn line(traced: &Traced) -> TraceLine {
    TraceLine {
        number: traced.number,
        at: traced.at.rfc3339_ms(),
        direction: match traced.direction {
            Direction::In => "in",
            Direction::Out => "out",
            Direction::Unsent => "unsent",
        }
        .to_owned(),
        transport: traced.flow.transport.param().to_owned(),
        local: traced.flow.local.to_string(),
        remote: traced.flow.remote.to_string(),
        line: traced.line.clone(),
        headers: traced.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        body_bytes: traced.body_bytes,
    }
}

/// A day: nobody is followed for ever because nobody remembered.
const LONGEST_S: u32 = 86_400;

//! Which event package a request is about, and what its documents look like.

use crate::model::{Package, Reject};
use crate::sip::{HeaderName, Request, StatusCode};

/// The one body type of the package `presence` (RFC 3856 6.5).
pub(super) const PIDF: &str = "application/pidf+xml";

/// The package and the `id` parameter of Event.
///
/// # Errors
/// 489 with Allow-Events if Event is missing or names a package that is not served (RFC 6665 4.2.1.1, 4.2.3; RFC 3903 6 step 2); 400 if
/// it cannot be read.
pub(super) fn event(request: &Request) -> Result<(Package, Option<&str>), Reject> {
    let event = request
        .event()
        .map_err(|error| Reject::because(StatusCode::BAD_REQUEST, error.what))?
        .and_then(|event| Package::parse(event.package).map(|package| (package, event.id)));
    event.ok_or_else(|| Reject::new(StatusCode::BAD_EVENT).with(HeaderName::AllowEvents, allow_events()))
}

/// The value of Allow-Events (RFC 6665 4.4.4).
pub fn allow_events() -> String {
    Package::ALL.map(Package::as_str).join(", ")
}

/// May a document of this package be sent to who sent this request? No Accept means the package's default type (RFC 6665 3.1.3).
///
/// # Errors
/// 406 with Accept if Accept is there and names no type that can be produced (RFC 3856 6.5).
pub(super) fn accept(request: &Request) -> Result<String, Reject> {
    let Some(first) = request.value(HeaderName::Accept) else { return Ok(String::new()) };
    if request.elements(HeaderName::Accept).any(takes_pidf) {
        let mut accept = String::from_utf8_lossy(first).into_owned();
        for more in request.values(HeaderName::Accept).skip(1) {
            accept.push_str(", ");
            accept.push_str(&String::from_utf8_lossy(more));
        }
        return Ok(accept);
    }
    Err(Reject::new(StatusCode::NOT_ACCEPTABLE).with(HeaderName::Accept, PIDF))
}

fn takes_pidf(range: &[u8]) -> bool {
    let Ok(range) = std::str::from_utf8(range) else { return false };
    let mut parts = range.split(';');
    let kind: String = parts.next().unwrap_or_default().split_whitespace().collect();
    let refused = parts
        .filter_map(|param| param.split_once('='))
        .any(|(name, q)| name.trim().eq_ignore_ascii_case("q") && q.trim().parse() == Ok(0.0_f32));
    !refused && [PIDF, "application/*", "*/*"].iter().any(|known| kind.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::testing::request;

    fn subscribe(rows: &str) -> Request {
        request("SUBSCRIBE", "sip:alice@example.org", rows, "")
    }

    #[test]
    fn event_missing_or_unknown_is_489_with_allow_events_rfc6665_4_2_3() {
        for rows in ["", "Event: dialog\r\n", "Event: presence.winfo\r\n"] {
            let reject = event(&subscribe(rows)).unwrap_err();
            assert_eq!(reject.status, StatusCode::BAD_EVENT);
            assert_eq!(reject.headers[0], (HeaderName::AllowEvents, "presence".to_owned()));
        }
    }

    #[test]
    fn event_id_is_kept_and_other_parameters_are_ignored_rfc6665_8_2_1() {
        assert_eq!(event(&subscribe("Event: presence;id=7;x=y\r\n")), Ok((Package::Presence, Some("7"))));
        assert_eq!(event(&subscribe("o: Presence\r\n")), Ok((Package::Presence, None)));
    }

    #[test]
    fn no_accept_means_pidf_rfc3856_6_5() {
        assert_eq!(accept(&subscribe("")), Ok(String::new()));
    }

    #[test]
    fn ranges_match_pidf_rfc3261_20_1() {
        for value in
            ["application/pidf+xml", "text/plain, Application/*", "*/*;q=0.1", "application / pidf+xml"]
        {
            assert!(accept(&subscribe(&format!("Accept: {value}\r\n"))).is_ok(), "{value}");
        }
        assert_eq!(
            accept(&subscribe("Accept: text/plain\r\nAccept: application/pidf+xml;q=1\r\n")),
            Ok("text/plain, application/pidf+xml;q=1".to_owned())
        );
    }

    #[test]
    fn accept_without_pidf_is_406_rfc3856_6_5() {
        for value in ["application/xpidf+xml", "application/pidf+xml;q=0", ""] {
            let reject = accept(&subscribe(&format!("Accept: {value}\r\n"))).unwrap_err();
            assert_eq!(reject.status, StatusCode::NOT_ACCEPTABLE, "{value}");
        }
    }
}

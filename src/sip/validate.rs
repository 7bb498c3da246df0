//! Is a parsed message fit to be acted on? (RFC 3261 8.1.1, 16.3 step 1, 8.2.2; `A02`..`A05`)
//!
//! Only what routing, matching and security depend on is looked at: a malformed header that nobody needs is no error (8.2.2).

use crate::sip::error::{MAX_CONTACTS, MAX_DISPLAY, MAX_ID, MAX_ROUTES, MAX_URI, MAX_VIAS};
use crate::sip::{HeaderName, Headers, Method, NameAddr, ParseError, Request, Response, StatusCode, Via};

/// Mandatory headers present once and well-formed, CSeq method agrees, counts and lengths in bounds, no request-scheme problem.
///
/// # Errors
/// The status owed (400, 413, 414, 416, 420, 483 are for callers; here 400, 414, 505, 513) and a phrase for the reason.
pub fn request(request: &Request) -> Result<(), ParseError> {
    once(request, SINGLETONS)?;
    request_uri(request)?;
    at_most(request, HeaderName::Via, MAX_VIAS, "Too many Vias")?;
    let from = request.from()?;
    address(&from)?;
    let to = request.to()?;
    address(&to)?;
    bounded(Some(request.call_id()?), "Call-ID too long")?;
    let others = request.elements(HeaderName::Via).skip(1).map(Via::parse);
    for via in std::iter::once(request.top_via()).chain(others) {
        let via = via.map_err(|e| ParseError { what: "Malformed Via", ..e })?;
        bounded(via.branch(), "Branch too long")?;
    }
    if request.cseq()?.method != *request.method() {
        return Err(ParseError::bad("CSeq method differs from request method", 0));
    }
    request.max_forwards()?;
    if *request.method() == Method::Message {
        readable(&from)?;
        readable(&to)?;
    }
    at_most(request, HeaderName::Route, MAX_ROUTES, "Too many Routes")?;
    for route in request.addresses(HeaderName::Route) {
        route.map_err(|e| ParseError { what: "Malformed Route", ..e })?;
    }
    at_most(request, HeaderName::RecordRoute, MAX_ROUTES, "Too many Record-Routes")?;
    at_most(request, HeaderName::Contact, MAX_CONTACTS, "Too many Contacts")?;
    if *request.method() == Method::Register {
        request.contacts()?;
    }
    if !request.body().is_empty() && request.value(HeaderName::ContentType).is_none() {
        return Err(ParseError::bad("Missing Content-Type", 0));
    }
    Ok(())
}

/// Mandatory headers of a response; a bad response is dropped and counted.
pub fn response(response: &Response) -> Result<(), ParseError> {
    once(response, IDENTIFYING | HeaderName::ContentLength.bit())?;
    at_most(response, HeaderName::Via, MAX_VIAS, "Too many Vias")?;
    // Nobody asks for the addresses of a response again.
    address(&response.read_from()?)?;
    address(&response.read_to()?)?;
    bounded(Some(response.call_id()?), "Call-ID too long")?;
    at_most(response, HeaderName::RecordRoute, MAX_ROUTES, "Too many Record-Routes")?;
    at_most(response, HeaderName::Contact, MAX_CONTACTS, "Too many Contacts")?;
    bounded(response.top_via()?.branch(), "Branch too long")?;
    response.cseq().map(|_| ())
}

const IDENTIFYING: u64 =
    HeaderName::From.bit() | HeaderName::To.bit() | HeaderName::CallId.bit() | HeaderName::CSeq.bit();

/// Headers of requests that hold one value and that somebody acts on (20; `A02`). What belongs into responses alone is ignored
/// here, whatever it says (7.3.2).
const SINGLETONS: u64 = IDENTIFYING
    | HeaderName::ContentLength.bit()
    | HeaderName::ContentType.bit()
    | HeaderName::MaxForwards.bit()
    | HeaderName::MaxBreadth.bit()
    | HeaderName::Expires.bit()
    | HeaderName::Event.bit()
    | HeaderName::SipIfMatch.bit()
    | HeaderName::SubscriptionState.bit();

/// No singleton twice, and all that identify the message there.
fn once(headers: &Headers, singletons: u64) -> Result<(), ParseError> {
    let index = &headers.index;
    if index.repeated & singletons != 0 {
        return Err(first_duplicate(headers, singletons));
    }
    for (name, what) in [
        (HeaderName::Via, "Missing Via"),
        (HeaderName::From, "Missing From"),
        (HeaderName::To, "Missing To"),
        (HeaderName::CallId, "Missing Call-ID"),
        (HeaderName::CSeq, "Missing CSeq"),
    ] {
        if !index.has(name) {
            return Err(ParseError::bad(what, 0));
        }
    }
    Ok(())
}

fn first_duplicate(headers: &Headers, singletons: u64) -> ParseError {
    let mut seen = 0;
    let mut rows = headers.index.rows.iter();
    let duplicate = rows.find(|entry| {
        let bit = entry.name.bit() & singletons;
        let again = seen & bit != 0;
        seen |= bit;
        again
    });
    duplicate.map_or(ParseError::bad("Duplicate header", 0), |entry| {
        ParseError::bad(duplicate_of(entry.name), entry.raw_name.start as usize)
    })
}

fn duplicate_of(name: HeaderName) -> &'static str {
    match name {
        HeaderName::From => "Duplicate From",
        HeaderName::To => "Duplicate To",
        HeaderName::CallId => "Duplicate Call-ID",
        HeaderName::CSeq => "Duplicate CSeq",
        HeaderName::MaxForwards => "Duplicate Max-Forwards",
        HeaderName::ContentLength => "Duplicate Content-Length",
        HeaderName::ContentType => "Duplicate Content-Type",
        HeaderName::Expires => "Duplicate Expires",
        HeaderName::Event => "Duplicate Event",
        _ => "Duplicate header",
    }
}

/// A Request-URI carries no headers (19.1.1 table 1).
fn request_uri(request: &Request) -> Result<(), ParseError> {
    if request.uri_bytes().len() > MAX_URI {
        return Err(ParseError::owing(StatusCode::REQUEST_URI_TOO_LONG, "Request-URI too long", 0));
    }
    let uri = request.uri().map_err(|e| ParseError { what: "Malformed Request-URI", ..e })?;
    if uri.headers.is_some() {
        return Err(ParseError::bad("Request-URI with headers", 0));
    }
    Ok(())
}

fn address(address: &NameAddr<'_>) -> Result<(), ParseError> {
    bounded(address.tag(), "Tag too long")?;
    if address.display.is_some_and(|name| name.len() > MAX_DISPLAY) {
        return Err(ParseError::bad("Display name too long", 0));
    }
    Ok(())
}

/// A name that is shown to people beside a text has no control characters, not even escaped ones (`A04`).
fn readable(address: &NameAddr<'_>) -> Result<(), ParseError> {
    if address.display.is_some_and(|name| name.chars().any(char::is_control)) {
        return Err(ParseError::bad("Control character in display name", 0));
    }
    Ok(())
}

fn bounded(id: Option<&str>, what: &'static str) -> Result<(), ParseError> {
    if id.is_some_and(|id| id.len() > MAX_ID) { Err(ParseError::bad(what, 0)) } else { Ok(()) }
}

fn at_most(headers: &Headers, name: HeaderName, most: usize, what: &'static str) -> Result<(), ParseError> {
    if headers.elements(name).nth(most).is_some() { Err(ParseError::bad(what, 0)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::sip::{Limits, Message};

    fn verdict(uri: &str, rows: &str) -> Result<(), (u16, &'static str)> {
        let text = format!("OPTIONS {uri} SIP/2.0\r\n{rows}\r\n");
        match Message::parse(Bytes::from(text), false, &Limits::default()).unwrap() {
            Message::Request(message) => request(&message).map_err(|e| (e.status.code(), e.what)),
            Message::Response(_) => panic!("a request"),
        }
    }

    const GOOD: &str = "v: SIP/2.0/UDP h;branch=z9hG4bK1\r\nf: <sip:a@b>;tag=1\r\nt: <sip:c@d>\r\ni: x\r\nCSeq: 1 OPTIONS\r\n";

    #[test]
    fn the_mandatory_headers_are_missed_by_name_rfc3261_21_4_1() {
        assert_eq!(verdict("sip:a@b", GOOD), Ok(()));
        for (prefix, what) in [
            ("v", "Missing Via"),
            ("f", "Missing From"),
            ("t", "Missing To"),
            ("i", "Missing Call-ID"),
            ("CSeq", "Missing CSeq"),
        ] {
            let rows: String =
                GOOD.split_inclusive("\r\n").filter(|row| !row.starts_with(&format!("{prefix}:"))).collect();
            assert_eq!(verdict("sip:a@b", &rows), Err((400, what)));
        }
    }

    #[test]
    fn a_singleton_twice_is_400_in_any_spelling_a02() {
        for second in [
            "From: <sip:a@b>;tag=1",
            "TO : <sip:c@d>",
            "call-id: x",
            "cseq: 1 OPTIONS",
            "Max-Forwards: 70\r\nmax-forwards: 70",
            "c: text/plain\r\nContent-Type: text/plain",
            "Expires: 1\r\nExpires: 1",
            "o: presence\r\nEvent: presence",
        ] {
            let Err((400, what)) = verdict("sip:a@b", &format!("{GOOD}{second}\r\n")) else {
                panic!("{second}")
            };
            assert!(what.starts_with("Duplicate "), "{what}");
        }
        assert_eq!(
            verdict("sip:a@b", &format!("{GOOD}Subject: a\r\nSubject: b\r\nX: 1\r\nX: 1\r\n")),
            Ok(())
        );
    }

    #[test]
    fn a_header_of_the_other_kind_is_ignored_rfc3261_7_3_2() {
        for row in [
            "Min-Expires: x\r\nMin-Expires: 3",
            "SIP-ETag: a\r\nSIP-ETag: b",
            "WWW-Authenticate: (\r\nProxy-Authenticate: Digest",
            "Retry-After: never\r\nUnsupported: ;;\r\nServer: (\r\nWarning: 1",
        ] {
            assert_eq!(verdict("sip:a@b", &format!("{GOOD}{row}\r\n")), Ok(()), "{row}");
        }
        let answer = |rows: &str| {
            let text = format!("SIP/2.0 200 OK\r\n{GOOD}{rows}\r\n\r\n");
            match Message::parse(Bytes::from(text), false, &Limits::default()).unwrap() {
                Message::Response(message) => response(&message),
                Message::Request(_) => panic!("a response"),
            }
        };
        for rows in [
            "Max-Forwards: 300\r\nMax-Forwards: x",
            "Route: <<>\r\nAuthorization: Digest (\r\nProxy-Require: ;",
            "SIP-If-Match: a\r\nSIP-If-Match: b\r\nSubject: a\r\nPriority: ,",
        ] {
            assert_eq!(answer(rows), Ok(()), "{rows}");
        }
    }

    #[test]
    fn request_uris_that_cannot_be_used_rfc3261_19_1_1() {
        assert_eq!(verdict("sip:a@b?Route=%3Csip:c%3E", GOOD), Err((400, "Request-URI with headers")));
        assert_eq!(verdict("sip:2001:db8::10", GOOD), Err((400, "Malformed Request-URI")));
        assert_eq!(verdict("nobodyKnowsThisScheme:totallyopaquecontent", GOOD), Ok(()));
        assert_eq!(verdict(&format!("sip:{}@b", "a".repeat(MAX_URI - 6)), GOOD), Ok(()));
        assert_eq!(
            verdict(&format!("sip:{}@b", "a".repeat(MAX_URI - 5)), GOOD),
            Err((414, "Request-URI too long"))
        );
    }

    #[test]
    fn counts_and_lengths_at_their_edge_a05() {
        let many = |row: &str, count: usize| format!("{GOOD}{}", format!("{row}\r\n").repeat(count));
        assert_eq!(verdict("sip:a@b", &many("v: SIP/2.0/UDP h", MAX_VIAS - 1)), Ok(()));
        assert_eq!(verdict("sip:a@b", &many("v: SIP/2.0/UDP h", MAX_VIAS)), Err((400, "Too many Vias")));
        assert_eq!(verdict("sip:a@b", &many("Route: <sip:r;lr>", MAX_ROUTES)), Ok(()));
        assert_eq!(
            verdict("sip:a@b", &many("Route: <sip:r;lr>", MAX_ROUTES + 1)),
            Err((400, "Too many Routes"))
        );
        assert_eq!(verdict("sip:a@b", &many("m: <sip:r>", MAX_CONTACTS)), Ok(()));
        assert_eq!(
            verdict("sip:a@b", &many("m: <sip:r>", MAX_CONTACTS + 1)),
            Err((400, "Too many Contacts"))
        );
        let id = |n: usize| "x".repeat(n);
        for (from, to, what) in [
            ("i: x\r", format!("i: {}\r", id(MAX_ID + 1)), "Call-ID too long"),
            ("tag=1", format!("tag={}", id(MAX_ID + 1)), "Tag too long"),
            ("branch=z9hG4bK1", format!("branch={}", id(MAX_ID + 1)), "Branch too long"),
            ("t: <", format!("t: \"{}\" <", id(MAX_DISPLAY + 1)), "Display name too long"),
        ] {
            assert_eq!(verdict("sip:a@b", &GOOD.replace(from, &to)), Err((400, what)));
            assert_eq!(verdict("sip:a@b", &GOOD.replace(from, &to.replacen("xx", "x", 1))), Ok(()));
        }
    }

    #[test]
    fn methods_must_agree_and_numbers_fit_rfc3261_8_1_1_5() {
        let with = |cseq: &str| GOOD.replace("1 OPTIONS", cseq);
        assert_eq!(
            verdict("sip:a@b", &with("1 INVITE")),
            Err((400, "CSeq method differs from request method"))
        );
        assert_eq!(verdict("sip:a@b", &with("4294967296 OPTIONS")), Err((400, "Malformed CSeq")));
        assert_eq!(
            verdict("sip:a@b", &format!("{GOOD}Max-Forwards: 300\r\n")),
            Err((400, "Malformed Max-Forwards"))
        );
    }

    #[test]
    fn a_message_comes_from_a_readable_name_a04() {
        let rows = GOOD.replace("f: <", "f: \"Bank\\\u{7}\" <");
        assert_eq!(verdict("sip:a@b", &rows), Ok(()));
        let text = format!("MESSAGE sip:a@b SIP/2.0\r\n{}\r\n", rows.replace("OPTIONS", "MESSAGE"));
        let Ok(Message::Request(message)) = Message::parse(text.into(), false, &Limits::default()) else {
            panic!("a request");
        };
        assert_eq!(request(&message).unwrap_err().what, "Control character in display name");
    }

    #[test]
    fn a_body_has_a_type_rfc3261_7_4_1() {
        assert_eq!(verdict("sip:a@b", &format!("{GOOD}\r\nbody")), Err((400, "Missing Content-Type")));
    }
}

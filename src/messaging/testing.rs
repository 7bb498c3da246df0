//! Requests for the tests of this module.

use crate::sip::{Limits, Message, Request};

/// A MESSAGE from alice to bob with more rows.
pub(super) fn message(rows: &str, body: &str) -> Request {
    message_of("text/plain", rows, body)
}

/// The same with a body of this type.
pub(super) fn message_of(content_type: &str, rows: &str, body: &str) -> Request {
    let text = format!(
        "MESSAGE sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.1;branch=z9hG4bK1\r\nMax-Forwards: 9\r\n\
         f: \"Alice\" <sip:alice@example.org>;tag=alices;x=y\r\nTo: <sip:bob@example.org>\r\nCall-ID: alices-call\r\n\
         CSeq: 7 MESSAGE\r\n{rows}Content-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    match Message::parse(text.into(), true, &Limits::default()) {
        Ok(Message::Request(request)) => request,
        other => panic!("not a request: {other:?}"),
    }
}

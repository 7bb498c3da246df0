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

/// RFC 3862 5.1, the example.
pub(super) const SANDERS: &str = "From: MR SANDERS <im:piglet@100akerwood.com>\r\n\
     To: Depressed Donkey <im:eeyore@100akerwood.com>\r\nDateTime: 2000-12-13T13:40:00-08:00\r\n\
     Subject: the weather will be fine today\r\nSubject:;lang=fr beau temps prevu pour aujourd'hui\r\n\
     NS: MyFeatures <mid:MessageFeatures@id.foo.com>\r\nRequire: MyFeatures.VitalMessageOption\r\n\
     MyFeatures.VitalMessageOption: Confirmation-requested\r\nMyFeatures.WackyMessageOption: Use-silly-font\r\n\r\n\
     Content-type: text/xml; charset=utf-8\r\nContent-ID: <1234567890@foo.com>\r\n\r\n\
     <body>\r\nHere is the text of my message.\r\n</body>";

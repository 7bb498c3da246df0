//! What a device is sent of a stored message. Pure.
//!
//! A relay that stores is a UAS towards the sender (RFC 3428 7: it answers 202) and begins a request of its own towards the device: so
//! Call-ID, the tag in From and CSeq are ours (RFC 3261 8.1.1), the same Call-ID and tag for every attempt, so that a device that has
//! seen one knows the next one. All that is the message stays as it was sent: From and To, Date, Subject, Content-*, the body.

use bytes::Bytes;

use crate::model::{Aor, Content, MessageId, Timestamp};
use crate::sip::{HeaderName, Limits, Message, Method, Request, Writer, forward};

/// The header rows that every attempt carries. `None` if From cannot be read, which validation has excluded.
///
/// - `domain`: ours, for the Call-ID.
/// - `now`: the Date, if the sender wrote none: the device must know that it is not sent now.
pub fn head(request: &Request, id: MessageId, domain: &str, now: Timestamp) -> Option<Bytes> {
    let from = request.from().ok()?.without_tag();
    let to = request.to().ok()?.without_tag();
    let tag = format!("{:016x}", id.0 >> 64);
    let mut rows = Writer::only_rows();
    rows.header_of(HeaderName::From, &[&from, ";tag=", &tag])
        .header(HeaderName::To, to)
        .header(HeaderName::CallId, call_id(id, domain));
    if request.value(HeaderName::Date).is_none() {
        rows.header(HeaderName::Date, now.sip_date());
    }
    rows.rows(&rows_of_the_message(request));
    Some(rows.into_rows())
}

/// The header rows of a notification that begins here (RFC 5438 12.1): from the recipient of the message to its sender.
pub fn notification_head(from: &Aor, to: &Aor, id: MessageId, domain: &str, now: Timestamp) -> Bytes {
    let tag = format!("{:016x}", id.0 >> 64);
    let mut rows = Writer::only_rows();
    rows.header_of(HeaderName::From, &["<", &from.uri(), ">;tag=", &tag])
        .header_of(HeaderName::To, &["<", &to.uri(), ">"])
        .header(HeaderName::CallId, call_id(id, domain))
        .header(HeaderName::Date, now.sip_date())
        .header(HeaderName::ContentType, "message/cpim");
    rows.into_rows()
}

/// Call-ID of what goes to devices as a request of ours.
pub fn call_id(id: MessageId, domain: &str) -> String {
    format!("{id}@{domain}")
}

/// The rows of a request that are the message's and not its way's, its sender's agent's or somebody's word.
pub(super) fn rows_of_the_message(request: &Request) -> Vec<u8> {
    forward::end_to_end_rows(request, &OF_THE_SENDER)
}

/// One attempt, without Via: whoever forwards it knows the next hop.
///
/// - `cseq`: grows from attempt to attempt.
pub fn request(recipient: &Aor, content: &Content, cseq: u32) -> Option<Request> {
    let mut writer = Writer::request(&Method::Message, &recipient.uri());
    writer
        .header(HeaderName::MaxForwards, "70")
        .header_of(HeaderName::CSeq, &[&cseq.to_string(), " MESSAGE"])
        .rows(&content.head);
    let limits = Limits { message: usize::MAX, ..Limits::default() };
    match Message::parse(writer.body_of_rows(&content.body), true, &limits) {
        Ok(Message::Request(request)) => Some(request),
        Ok(Message::Response(_)) | Err(_) => None,
    }
}

/// What belongs to the sender's request or agent alone, and what is believed from nobody (RFC 3325 5, `A18`).
const OF_THE_SENDER: [HeaderName; 14] = [
    HeaderName::From,
    HeaderName::To,
    HeaderName::CallId,
    HeaderName::CSeq,
    HeaderName::Contact,
    HeaderName::Authorization,
    HeaderName::Timestamp,
    HeaderName::Supported,
    HeaderName::Allow,
    HeaderName::Require,
    HeaderName::Path,
    HeaderName::PAssertedIdentity,
    HeaderName::PPreferredIdentity,
    HeaderName::RemotePartyId,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messaging::testing::message;
    use crate::sip::validate;

    const NOW: Timestamp = Timestamp(1_795_217_355_000);

    fn copy(rows: &str, cseq: u32) -> Request {
        let sent = message(rows, "Hi\r\n\0");
        let id = MessageId(0x0123_4567_89ab_cdef_0000_0000_0000_0001);
        let content = Content {
            sender: Aor::new("alice", "example.org").unwrap(),
            call_id: "alices-call".into(),
            head: head(&sent, id, "example.org", NOW).unwrap(),
            body: sent.body_bytes(),
        };
        request(&Aor::new("b b", "example.org").unwrap(), &content, cseq).unwrap()
    }

    #[test]
    fn the_copy_is_a_request_of_ours_with_the_senders_message_rfc3428_7() {
        let rows = "Date: Sat, 13 Nov 2010 23:29:00 GMT\r\nSubject: \u{fc}ber\r\nPriority: urgent\r\nIn-Reply-To: a@b\r\n\
                    Expires: 60\r\nX-Own: a\r\nX-Own: b\r\nContent-Disposition: render\r\n";
        let copy = copy(rows, 3);
        assert_eq!(copy.uri_bytes(), b"sip:b%20b@example.org");
        assert_eq!(
            copy.text(HeaderName::From),
            Some("\"Alice\" <sip:alice@example.org>;x=y;tag=0123456789abcdef")
        );
        assert_eq!(copy.text(HeaderName::To), Some("<sip:bob@example.org>"));
        assert_eq!(copy.text(HeaderName::CallId), Some("0123456789abcdef0000000000000001@example.org"));
        assert_eq!(copy.text(HeaderName::CSeq), Some("3 MESSAGE"));
        assert_eq!(copy.text(HeaderName::MaxForwards), Some("70"));
        assert_eq!(copy.text(HeaderName::Date), Some("Sat, 13 Nov 2010 23:29:00 GMT"));
        for (name, value) in [
            (HeaderName::Subject, "\u{fc}ber"),
            (HeaderName::Priority, "urgent"),
            (HeaderName::Expires, "60"),
            (HeaderName::ContentType, "text/plain"),
        ] {
            assert_eq!(copy.text(name), Some(value));
        }
        assert_eq!(copy.other("In-Reply-To"), Some(&b"a@b"[..]));
        assert_eq!(copy.other("Content-Disposition"), Some(&b"render"[..]));
        assert_eq!(copy.iter().filter(|row| row.raw_name == b"X-Own").count(), 2);
        assert_eq!(copy.body(), b"Hi\r\n\0");
        assert_eq!(copy.values(HeaderName::From).count(), 1);
        assert_eq!(copy.value(HeaderName::Via), None);
    }

    #[test]
    fn a_message_without_date_gets_that_of_its_arrival_rfc3261_20_17() {
        assert_eq!(copy("", 1).text(HeaderName::Date), Some("Fri, 20 Nov 2026 23:29:15 GMT"));
    }

    #[test]
    fn a_notification_is_a_message_from_who_did_not_get_one_rfc5438_12_1() {
        let (alice, bob) =
            (Aor::new("alice", "example.org").unwrap(), Aor::new("bob", "example.org").unwrap());
        let id = MessageId(0x0123_4567_89ab_cdef_0000_0000_0000_0001);
        let head = notification_head(&bob, &alice, id, "example.org", NOW);
        let content = Content { sender: bob, call_id: "c".into(), head, body: Bytes::from_static(b"x") };
        let request = request(&alice, &content, 1).unwrap();
        assert_eq!(request.uri_bytes(), b"sip:alice@example.org");
        for (name, value) in [
            (HeaderName::From, "<sip:bob@example.org>;tag=0123456789abcdef"),
            (HeaderName::To, "<sip:alice@example.org>"),
            (HeaderName::CallId, "0123456789abcdef0000000000000001@example.org"),
            (HeaderName::ContentType, "message/cpim"),
            (HeaderName::Date, "Fri, 20 Nov 2026 23:29:15 GMT"),
        ] {
            assert_eq!(request.text(name), Some(value));
        }
    }

    #[test]
    fn what_was_between_the_sender_and_us_stays_there_a10_a18() {
        let rows = "Contact: <sip:a@b>\r\nRoute: <sip:us;lr>\r\nRecord-Route: <sip:us;lr>\r\nProxy-Authorization: Digest realm=\"x\"\r\n\
                    Authorization: Digest realm=\"y\"\r\nP-Asserted-Identity: <sip:boss@example.org>\r\nTimestamp: 1\r\n";
        let copy = copy(rows, 1);
        for name in [
            HeaderName::Contact,
            HeaderName::Route,
            HeaderName::RecordRoute,
            HeaderName::ProxyAuthorization,
            HeaderName::Authorization,
            HeaderName::PAssertedIdentity,
            HeaderName::Timestamp,
        ] {
            assert_eq!(copy.value(name), None, "{name:?}");
        }
    }

    #[test]
    fn with_a_via_the_copy_is_a_valid_request_rfc3261_8_1_1() {
        let via = forward::RequestEdits {
            via: Some("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK2"),
            ..Default::default()
        };
        let bytes = forward::request(&copy("", 1), &via);
        match Message::parse(bytes, true, &Limits::default()) {
            Ok(Message::Request(request)) => assert_eq!(validate::request(&request), Ok(())),
            other => panic!("{other:?}"),
        }
    }
}

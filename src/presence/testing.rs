//! Values that the tests of this service share.

use bytes::Bytes;

use crate::model::{
    Aor, DialogParts, DialogTexts, EntityTag, Flow, Package, Publication, PublicationId, Subscription,
    SubscriptionId, Timestamp, Transport,
};
use crate::sip::{Limits, Message, Request};

/// When the tests happen.
pub(super) const NOW: Timestamp = Timestamp(1_795_217_355_000);

/// A whole request from bob.
pub(super) fn request(method: &str, uri: &str, rows: &str, body: &str) -> Request {
    dialog_request(method, uri, "<sip:alice@example.org>", 1, rows, body)
}

/// The same with To and CSeq to choose.
pub(super) fn dialog_request(
    method: &str,
    uri: &str,
    to: &str,
    cseq: u32,
    rows: &str,
    body: &str,
) -> Request {
    let text = format!(
        "{method} {uri} SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.7:5062;branch=z9hG4bKtest{cseq};rport\r\n\
         Max-Forwards: 70\r\n\
         From: \"Bob\" <sip:bob@example.org>;tag=bobs\r\n\
         To: {to}\r\n\
         Call-ID: call-1\r\n\
         CSeq: {cseq} {method}\r\n\
         {rows}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    match Message::parse(Bytes::from(text), true, &Limits::default()) {
        Ok(Message::Request(request)) => request,
        other => panic!("not a request: {other:?}"),
    }
}

pub(super) fn aor(text: &str) -> Aor {
    Aor::from_stored(text).expect("an address of record")
}

pub(super) fn flow(transport: Transport) -> Flow {
    Flow {
        transport,
        local: "192.0.2.1:5060".parse().expect("address"),
        remote: "192.0.2.7:5062".parse().expect("address"),
        connection: if transport.is_reliable() { 9 } else { 0 },
    }
}

/// Bob's subscription to alice.
pub(super) fn subscription(id: u128) -> Subscription {
    Subscription {
        id: SubscriptionId(id),
        presentity: aor("alice@example.org"),
        watcher: aor("bob@example.org"),
        package: Package::Presence,
        event_id: None,
        dialog: DialogTexts::new(DialogParts {
            call_id: "call-1",
            local_tag: "ours",
            remote_tag: "bobs",
            local_address: "<sip:alice@example.org>",
            remote_address: "\"Bob\" <sip:bob@example.org>",
            remote_target: "sip:bob@192.0.2.7:5062",
        }),
        route_set: Box::default(),
        flow: flow(Transport::Udp),
        accept: Default::default(),
        remote_cseq: 1,
        notify_cseq_reserved: 64,
        created_at: NOW,
        expires_at: NOW.after_secs(3_600),
    }
}

/// A publication of alice with this tag.
pub(super) fn publication(id: u128, tag: u128) -> Publication {
    Publication {
        aor: aor("alice@example.org"),
        id: PublicationId(id),
        package: Package::Presence,
        tag: EntityTag(tag),
        publisher: Default::default(),
        parsed: Default::default(),
        turns: Default::default(),
        is_restamped: false,
        renamed: Default::default(),
        content_type: super::package::Format::Pidf.as_str().to_owned(),
        body: Bytes::from_static(b"<presence/>"),
        created_at: NOW,
        modified_at: NOW,
        expires_at: NOW.after_secs(3_600),
    }
}

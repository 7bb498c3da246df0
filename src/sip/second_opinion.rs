//! `rsip` as a second reader: what it can read of ordinary messages, both read the same.

use bytes::Bytes;
use proptest::prelude::*;
use rsip::prelude::{HeadersExt, ToTypedHeader, UntypedHeader};

use crate::sip::{HeaderName, Limits, Message};

/// Compares method, Call-ID, CSeq, tags and branch.
fn agree(text: &str) {
    let Ok(Message::Request(ours)) =
        Message::parse(Bytes::copy_from_slice(text.as_bytes()), true, &Limits::default())
    else {
        panic!("ours reads {text}");
    };
    let theirs =
        rsip::Request::try_from(text.as_bytes()).unwrap_or_else(|e| panic!("rsip reads {text}: {e}"));
    assert_eq!(ours.method().as_str(), theirs.method.to_string());
    assert_eq!(ours.call_id().unwrap(), theirs.call_id_header().unwrap().value());
    let cseq = theirs.cseq_header().unwrap();
    assert_eq!(ours.cseq().unwrap().number, cseq.seq().unwrap());
    assert_eq!(ours.cseq().unwrap().method.as_str(), cseq.method().unwrap().to_string());
    let tag = |tag: Option<rsip::param::Tag>| tag.map(|tag| tag.value().to_owned());
    assert_eq!(
        ours.from().unwrap().tag().map(str::to_owned),
        tag(theirs.from_header().unwrap().tag().unwrap())
    );
    assert_eq!(ours.to().unwrap().tag().map(str::to_owned), tag(theirs.to_header().unwrap().tag().unwrap()));
    let branch =
        theirs.via_header().unwrap().typed().unwrap().branch().map(|branch| branch.value().to_owned());
    assert_eq!(ours.top_via().unwrap().branch().map(str::to_owned), branch);
    assert_eq!(ours.body(), theirs.body);
    assert_eq!(
        ours.value(HeaderName::MaxForwards).unwrap(),
        theirs.max_forwards_header().unwrap().value().as_bytes()
    );
}

proptest! {
    #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]
    #[test]
    fn ordinary_requests_read_the_same(
        method in prop::sample::select(vec!["INVITE", "MESSAGE", "SUBSCRIBE", "NOTIFY", "PUBLISH", "REGISTER", "OPTIONS", "BYE"]),
        user in "[a-z][a-z0-9]{0,12}",
        host in "[a-z]{1,10}\\.example\\.com",
        tag in "[a-zA-Z0-9]{1,16}",
        to_tag in proptest::option::of("[a-zA-Z0-9]{1,16}"),
        branch in "[a-zA-Z0-9]{1,20}",
        call_id in "[a-zA-Z0-9-]{1,30}",
        number in 0u32..(1 << 31),
        body in "[ -~]{0,60}",
    ) {
        let to_tag = to_tag.map(|tag| format!(";tag={tag}")).unwrap_or_default();
        agree(&format!(
            "{method} sip:{user}@{host} SIP/2.0\r\nVia: SIP/2.0/UDP {host}:5060;branch=z9hG4bK{branch}\r\nMax-Forwards: 70\r\n\
             From: \"{user}\" <sip:{user}@{host}>;tag={tag}\r\nTo: <sip:{user}@{host}>{to_tag}\r\nCall-ID: {call_id}@{host}\r\n\
             CSeq: {number} {method}\r\nContact: <sip:{user}@{host}:5070>\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
    }
}

//! Invariants of the codec over arbitrary and mutated messages.

use bytes::Bytes;
use proptest::prelude::*;

use crate::sip::{
    Contacts, HeaderName, Headers, Limits, Message, NameAddr, Request, StatusCode, Uri, Via, Writer, forward,
    salvage, validate,
};

const SEEDS: [&str; 4] = [
    "MESSAGE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;rport;branch=z9hG4bK74bf9\r\n\
     Via: SIP/2.0/TCP [2001:db8::1];branch=z9hG4bKx, SIP/2.0/TLS h\r\nMax-Forwards: 70\r\n\
     From: \"Alice \\\" A\" <sip:alice@example.com>;tag=9fxced76sl\r\nt: sip:bob@example.com;x=\"y\"\r\ni: 3848@h\r\n\
     CSeq: 1 MESSAGE\r\nRoute: <sip:p1;lr>, <sip:p2;lr>\r\nContact: <sip:a@h;gr=urn:x>;q=0.5;expires=3, sip:b@i\r\n\
     Authorization: Digest username=\"a\", realm=\"r\", nonce=\"n\", uri=\"sip:r\", response=\"x\", qop=auth, nc=00000001, cnonce=\"c\"\r\n\
     X-Odd : kept\r\n\tas it is\r\nc: text/plain\r\nContent-Length: 5\r\n\r\nhello",
    "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nv: SIP/2.0/UDP b;branch=z9hG4bK2\r\nf: <sip:a@b>;tag=1\r\n\
     t: <sip:c@d>;tag=2\r\ni: x\r\nCSeq: 1 INVITE\r\nm: *\r\nl: 0\r\n\r\n",
    "SUBSCRIBE sips:a%20b:p@[::1]:5061;transport=tcp?x=y SIP/2.0\r\nEvent: presence.winfo;id=1\r\nExpires: 600\r\nk: a,b\r\n\r\n",
    "REGISTER tel:+1-2;phone-context=x SIP/2.0\r\nContact: *\r\nExpires: 0\r\n\r\n",
];

/// Asks everything that can be asked; nothing may panic.
fn interrogate(headers: &Headers) {
    for name in HeaderName::ALL {
        let _ = (headers.value(*name), headers.text(*name), headers.has_token(*name, "x"));
        headers.elements(*name).for_each(drop);
        headers.addresses(*name).flatten().for_each(|address| {
            let _ = (address.tag(), address.uri.user_decoded(), address.uri.equals(&address.uri));
        });
        headers.credentials(*name).for_each(drop);
    }
    headers.vias().flatten().for_each(|via| {
        let _ = (via.branch(), via.rfc3261_branch(), via.received(), via.rport());
    });
    let _ = (headers.from(), headers.to(), headers.call_id(), headers.cseq(), headers.max_forwards());
    let _ = (headers.expires(), headers.event(), headers.content_type(), headers.body_bytes());
    if let Ok(Contacts::List(list)) = headers.contacts() {
        list.iter().for_each(|contact| contact.params.iter().for_each(drop));
    }
}

fn use_request(request: Request) {
    let _ = (request.uri(), validate::request(&request));
    interrogate(&request);
    let request = forward::stamp(request, "192.0.2.7:7".parse().unwrap());
    let edits = forward::RequestEdits {
        drop_routes: 1,
        remove_credentials_of: Some("r"),
        via: Some("SIP/2.0/UDP us;branch=z9hG4bKu"),
        ..forward::RequestEdits::default()
    };
    for written in [
        forward::request(&request, &edits),
        forward::cancel(&request, Some("x")),
        Writer::respond(&request, StatusCode::OK, "t").finish(),
    ] {
        assert!(Message::parse(written, true, &Limits { message: usize::MAX, ..loose() }).is_ok());
    }
}

fn loose() -> Limits {
    Limits { message: 1 << 20, start_line: 1 << 20, header: 1 << 20, headers: 1 << 20 }
}

/// Parses, and does with the result what a server does.
fn exercise(bytes: Vec<u8>, stream: bool) {
    let bytes = Bytes::from(bytes);
    match Message::parse(bytes.clone(), stream, &Limits::default()) {
        Ok(Message::Request(request)) => use_request(request),
        Ok(Message::Response(response)) => {
            let _ = validate::response(&response);
            interrogate(&response);
            if let Some(copy) = forward::response(&response, &[]) {
                assert!(Message::parse(copy, true, &loose()).is_ok());
            }
        }
        Err(_) => {
            if let Some(request) = salvage(&bytes) {
                interrogate(&request);
                let answer = Writer::respond(&request, StatusCode::BAD_REQUEST, "t").finish();
                assert!(Message::parse(answer, true, &loose()).is_ok());
            }
        }
    }
}

fn rows(headers: &Headers) -> Vec<(HeaderName, Vec<u8>)> {
    let mut rows: Vec<_> = headers.iter().map(|row| (row.name, row.value.to_vec())).collect();
    rows.retain(|(name, _)| *name != HeaderName::ContentLength);
    rows.sort_by_key(|(name, _)| *name as u8);
    rows
}

/// Spellings of a header that systems have read differently; `N` stands for the name, `V` for the value.
const SPELLINGS: [&str; 14] = [
    "N: V\r\n",
    "N:V\r\n",
    "N : V\r\n",
    "N\t:\tV\r\n",
    "N:\r\n V\r\n",
    "N\r\n : V\r\n",
    " N: V\r\n",
    "N\0: V\r\n",
    "N\u{b}: V\r\n",
    "N: V\0\r\n",
    "N: V\rX: y\r\n",
    "X: y\nN: V\r\n",
    "N: V\n",
    "\u{a0}N: V\r\n",
];

#[test]
fn a_header_is_refused_or_written_in_one_spelling_a03() {
    for (name, value) in [
        ("Via", "SIP/2.0/UDP h;branch=z9hG4bK1"),
        ("From", "<sip:a@b>;tag=1"),
        ("Route", "<sip:r;lr>"),
        ("Max-Forwards", "70"),
        ("Content-Length", "0"),
        ("Proxy-Authorization", "Basic x"),
    ] {
        for spelling in SPELLINGS {
            let row = spelling.replace('V', value).replace('N', &name.to_uppercase());
            let text = format!("OPTIONS sip:a SIP/2.0\r\nSubject: s\r\n{row}\r\n");
            let Ok(Message::Request(request)) = Message::parse(text.into(), false, &Limits::default()) else {
                continue;
            };
            let copy = forward::request(&request, &forward::RequestEdits::default());
            let copy = String::from_utf8(copy.to_vec()).unwrap();
            let canonical = format!("\r\n{name}: {value}\r\n");
            let folded_away = spelling.starts_with(' ');
            assert!(folded_away || copy.matches(&canonical).count() == 1, "{spelling:?} became {copy:?}");
            assert!(
                !folded_away
                    || !copy.to_lowercase().contains(&format!("\r\n{}:", name.to_lowercase()))
                    || name == "Content-Length"
            );
            assert!(!copy.contains("\r\n ") && !copy.contains("\r\n\t"));
        }
    }
    let refused = SPELLINGS.iter().filter(|spelling| {
        let row = spelling.replace('N', "Route").replace('V', "<sip:r>");
        Message::parse(format!("OPTIONS sip:a SIP/2.0\r\n{row}\r\n").into(), false, &Limits::default())
            .is_err()
    });
    assert_eq!(refused.count(), 9);
}

proptest! {
    #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), stream in any::<bool>()) {
        exercise(bytes, stream);
    }

    #[test]
    fn arbitrary_values_never_panic(text in "[ -~\\t]{0,80}") {
        let bytes = text.as_bytes();
        if let Ok(uri) = Uri::parse(bytes) {
            prop_assert!(uri.equals(&uri));
            prop_assert_eq!(uri.as_str(), &text);
        }
        let _ = (NameAddr::parse(bytes), Via::parse(bytes), crate::sip::digest::Credentials::parse(bytes));
    }

    #[test]
    fn mutated_messages_never_panic(
        seed in 0usize..SEEDS.len(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0u8..4, prop_oneof![
            any::<u8>(), prop::sample::select(b"\r\n\t ,;:<>\"\\@=%[]/?*\0".to_vec())
        ]), 1..12),
        stream in any::<bool>(),
    ) {
        let mut bytes = SEEDS[seed].as_bytes().to_vec();
        for (at, kind, byte) in edits {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 if bytes.len() > 1 => { bytes.remove(at); }
                _ => { let tail = bytes.split_off(at); let half = tail.len() / 2; bytes.extend_from_slice(&tail[half..]); bytes.push(b'x'); }
            }
        }
        exercise(bytes, stream);
    }

    #[test]
    fn what_is_written_reads_the_same(
        user in "[a-zA-Z0-9._~!*'()&=+$,;?/-]{1,20}",
        display in "[ -!#-\\[\\]-~]{0,20}",
        subject in "[!-~][ -~]{0,40}",
        unknown in proptest::collection::vec(("X-[A-Za-z0-9]{1,8}", "[!-~]{0,20}"), 0..30),
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut text = format!(
            "PUBLISH sip:{user}@example.com SIP/2.0\r\nMax-Forwards: 7\r\nFrom: \"{display}\" <sip:{user}@h>;tag=1\r\n\
             To: <sip:{user}@h>\r\nSubject: {subject}\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKa\r\nCall-ID: a\r\nCSeq: 1 PUBLISH\r\n"
        ).into_bytes();
        for (name, value) in &unknown {
            text.extend_from_slice(format!("{name}:{value}\r\n").as_bytes());
        }
        text.extend_from_slice(format!("c: a/b\r\nl: {}\r\n\r\n", body.len()).as_bytes());
        text.extend_from_slice(&body);
        let Message::Request(first) = Message::parse(text.into(), true, &Limits::default()).unwrap() else { panic!("a request") };
        prop_assert_eq!(validate::request(&first), Ok(()));
        let copy = forward::request(&first, &forward::RequestEdits::default());
        let Message::Request(second) = Message::parse(copy, true, &Limits::default()).unwrap() else { panic!("a request") };
        prop_assert_eq!(rows(&first), rows(&second));
        prop_assert_eq!(first.uri_bytes(), second.uri_bytes());
        prop_assert_eq!(first.body(), second.body());
        prop_assert_eq!(second.from().unwrap().display, Some(display.as_str()));
    }
}

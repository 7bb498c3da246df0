//! How messages find their transaction (RFC 3261 17.1.3, 17.2.3).
//!
//! A key is the compared values, each closed by its length or its position, so that two different sets of values never give the same
//! bytes. Branches and tags are compared as they were sent: a retransmission, an ACK and a response repeat them byte for byte.
//! A table keeps a keyed hash of them (`endpoint/table.rs`), so what it holds per transaction has a bound that no peer can move.
//! No key holds a network address. The source is not part of the match in 17.2.3; the endpoint compares it on its own where a forged
//! message would do harm (a CANCEL must come from where its INVITE came from, a response on the flow its request was sent on).

use smallvec::SmallVec;

use crate::sip::{Host, HostPort, Method, ParseError, Request, Response, StatusCode, Via};

/// Server side: branch + sent-by + method (ACK matches INVITE), or the RFC 2543 rules when the branch has no cookie.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerKey(Values);

impl ServerKey {
    /// The key of the transaction that this request makes or belongs to. For ACK: the key of its INVITE.
    ///
    /// # Errors
    /// The values that are compared cannot be read: top Via, and for RFC 2543 also From, To, Call-ID and CSeq.
    pub fn of(request: &Request) -> Result<ServerKey, ParseError> {
        match request.method() {
            // 17.2.3: "except for ACK, where the method of the request that created the transaction is INVITE".
            Method::Ack => server_key(request, &Method::Invite),
            method => server_key(request, method),
        }
    }

    /// For a CANCEL: the key of the request it cancels (an INVITE or other; 9.2 says same branch, sent-by, method ignored: INVITE here).
    ///
    /// A CANCEL cannot be challenged (9.2), and branch and sent-by can be overheard: the endpoint also checks that it came from the source
    /// address, or on the flow, of the request it cancels.
    ///
    /// # Errors
    /// As [`ServerKey::of`].
    pub fn cancelled_by(cancel: &Request) -> Result<ServerKey, ParseError> {
        server_key(cancel, &Method::Invite)
    }

    /// For a CANCEL that cancels no INVITE: the key of a request of this method (9.2: "anything but CANCEL or ACK"). The endpoint may try
    /// the methods it serves; such a CANCEL is answered with 200 and has no other effect.
    ///
    /// # Errors
    /// As [`ServerKey::of`].
    pub fn cancelled_by_as(cancel: &Request, method: &Method) -> Result<ServerKey, ParseError> {
        server_key(cancel, method)
    }

    /// The compared values.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Client side: branch and sent-by of our Via + CSeq method.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientKey(Values);

impl ClientKey {
    /// Of a request as sent.
    ///
    /// # Errors
    /// The top Via or its branch is missing.
    pub fn of_request(request: &Request) -> Result<ClientKey, ParseError> {
        let via = request.top_via()?;
        client_key(&via.sent_by, via.branch(), request.method())
    }

    /// Of a request about to be sent, by the value of the Via that we put on top of it.
    ///
    /// # Errors
    /// It is none of ours, which has its branch first.
    pub fn of_own_via(via: &str, method: &Method) -> Result<ClientKey, ParseError> {
        let (sent_by, branch) = Via::sent_by_and_branch(via).ok_or(WITHOUT_BRANCH)?;
        client_key(&sent_by, Some(branch), method)
    }

    /// The same of a Via of ours, by what it is made of.
    pub fn of_ours(sent_by: &HostPort<'_>, branch: &str, method: &Method) -> ClientKey {
        let mut key = Values::new();
        push(&mut key, method.as_str().as_bytes());
        push_sent_by(&mut key, sent_by);
        key.extend_from_slice(branch.as_bytes());
        ClientKey(key)
    }

    /// Of a response, by its top Via and CSeq.
    ///
    /// The method is needed "since a CANCEL request constitutes a different transaction, but shares the same value of the branch"
    /// (17.1.3). The sent-by must be the one we wrote (18.1.2), so it is in the key.
    ///
    /// # Errors
    /// The top Via, its branch or CSeq cannot be read.
    pub fn of_response(response: &Response) -> Result<ClientKey, ParseError> {
        let via = response.top_via()?;
        client_key(&via.sent_by, via.branch(), &response.cseq()?.method)
    }

    /// The compared values.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The compared values one after the other; on the stack for known clients, whose branches have up to 60 bytes.
type Values = SmallVec<[u8; 128]>;

const WITHOUT_BRANCH: ParseError =
    ParseError { what: "top Via without branch", offset: 0, status: StatusCode::BAD_REQUEST };

/// The first byte of a server key: which rules of 17.2.3 made it.
const BY_BRANCH: u8 = 1;
const BY_RFC2543: u8 = 2;

fn server_key(request: &Request, method: &Method) -> Result<ServerKey, ParseError> {
    let via = request.top_via()?;
    let mut key = Values::new();
    // RFC 4475 3.2.1: a branch that is the cookie and nothing else identifies nothing; it is as good as none.
    if let Some(branch) = via.rfc3261_branch() {
        key.push(BY_BRANCH);
        push(&mut key, method.as_str().as_bytes());
        push_sent_by(&mut key, &via.sent_by);
        key.extend_from_slice(branch.as_bytes());
    } else {
        key.push(BY_RFC2543);
        push(&mut key, method.as_str().as_bytes());
        push(&mut key, request.uri_bytes());
        push_tag(&mut key, request.from()?.tag());
        push(&mut key, request.call_id()?.as_bytes());
        key.extend_from_slice(&request.cseq()?.number.to_be_bytes());
        // An ACK has the To tag of our response, its INVITE may have none, so the tag cannot be part of a key that both share. Nothing is
        // lost: what would differ in the To tag alone, an INVITE inside another dialog, differs in CSeq or Request-URI. An ACK for a 2xx
        // that matches by this finds the transaction in Accepted and goes to the transaction user (RFC 6026 6).
        if *method != Method::Invite {
            push_tag(&mut key, request.to()?.tag());
        }
        push_via(&mut key, &via);
    }
    Ok(ServerKey(key))
}

fn client_key(
    sent_by: &HostPort<'_>,
    branch: Option<&str>,
    method: &Method,
) -> Result<ClientKey, ParseError> {
    let branch = branch.filter(|branch| !branch.is_empty()).ok_or(WITHOUT_BRANCH)?;
    Ok(ClientKey::of_ours(sent_by, branch, method))
}

/// The top Via as 17.2.3 compares it for RFC 2543: all of it but `received` and `rport`, which the receiver writes (18.2.1, RFC 3581 4).
fn push_via(key: &mut Values, via: &Via<'_>) {
    push_lower(key, via.transport.as_bytes());
    push_sent_by(key, &via.sent_by);
    for (name, value) in via.params.iter() {
        if !name.eq_ignore_ascii_case("received") && !name.eq_ignore_ascii_case("rport") {
            push_lower(key, name.as_bytes());
            push_tag(key, value);
        }
    }
}

/// Host and port. 18.1.1 says what an absent port means; for the match, `host` and `host:5060` are two values: a client that retransmits
/// does not change its mind about how it writes itself.
fn push_sent_by(key: &mut Values, sent_by: &HostPort<'_>) {
    match sent_by.host {
        Host::Name(name) => {
            key.push(b'n');
            push_lower(key, name.as_bytes());
        }
        Host::V4(address) => {
            key.push(b'4');
            key.extend_from_slice(&address.octets());
        }
        Host::V6(address) => {
            key.push(b'6');
            key.extend_from_slice(&address.octets());
        }
    }
    match sent_by.port {
        Some(port) => {
            key.push(b':');
            key.extend_from_slice(&port.to_be_bytes());
        }
        None => key.push(b'-'),
    }
}

/// A value that may be absent, which is not the same as empty.
fn push_tag(key: &mut Values, tag: Option<&str>) {
    match tag {
        Some(tag) => {
            key.push(b'+');
            push(key, tag.as_bytes());
        }
        None => key.push(b'-'),
    }
}

fn push(key: &mut Values, value: &[u8]) {
    push_length(key, value.len());
    key.extend_from_slice(value);
}

fn push_lower(key: &mut Values, value: &[u8]) {
    push_length(key, value.len());
    key.extend(value.iter().map(u8::to_ascii_lowercase));
}

/// Seven bits a byte, lowest first, the high bit for "more follows": one byte for nearly every value.
fn push_length(key: &mut Values, mut length: usize) {
    while length >= 0x80 {
        key.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    key.push(length as u8);
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use bytes::Bytes;

    use super::*;
    use crate::sip::{Limits, Message};

    const COOKIE: &str = "SIP/2.0/UDP pc33.atlanta.com:5060;branch=z9hG4bK776asdhds";
    const OLD: &str = "SIP/2.0/UDP pc33.atlanta.com;branch=1";

    /// What a request of the tests is made of.
    #[derive(Clone, Copy)]
    struct Parts<'a> {
        method: &'a str,
        uri: &'a str,
        via: &'a str,
        from: &'a str,
        to: &'a str,
        call_id: &'a str,
        number: u32,
    }

    const INVITE: Parts<'static> = Parts {
        method: "INVITE",
        uri: "sip:bob@biloxi.com",
        via: COOKIE,
        from: "<sip:alice@atlanta.com>;tag=1928",
        to: "<sip:bob@biloxi.com>",
        call_id: "a84b4c76e66710",
        number: 314159,
    };

    fn request(parts: Parts<'_>) -> Request {
        let Parts { method, uri, via, from, to, call_id, number } = parts;
        let text = format!(
            "{method} {uri} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nTo: {to}\r\nFrom: {from}\r\n\
             Call-ID: {call_id}\r\nCSeq: {number} {method}\r\nContent-Length: 0\r\n\r\n"
        );
        match Message::parse(Bytes::from(text), false, &Limits::default()) {
            Ok(Message::Request(request)) => request,
            other => panic!("not a request: {other:?}"),
        }
    }

    fn response(via: &str, cseq: &str) -> Response {
        let text = format!(
            "SIP/2.0 200 OK\r\nVia: {via}\r\nTo: <sip:bob@biloxi.com>;tag=8321\r\n\
             From: <sip:alice@atlanta.com>;tag=1928\r\nCall-ID: a84b4c76e66710\r\nCSeq: {cseq}\r\n\
             Content-Length: 0\r\n\r\n"
        );
        match Message::parse(Bytes::from(text), false, &Limits::default()) {
            Ok(Message::Response(response)) => response,
            other => panic!("not a response: {other:?}"),
        }
    }

    fn key(parts: Parts<'_>) -> ServerKey {
        ServerKey::of(&request(parts)).expect("a key")
    }

    #[test]
    fn the_via_that_we_write_tells_the_key_of_its_request_rfc3261_17_1_3() {
        for sent_by in ["192.0.2.1:5060", "[2001:db8::1]:5070", "Sip.Example.org:5060"] {
            for transport in ["UDP", "TCP"] {
                let via = format!("SIP/2.0/{transport} {sent_by};branch=z9hG4bK776asdhds-0123;rport");
                let sent = ClientKey::of_request(&request(Parts { via: &via, ..INVITE }));
                assert_eq!(ClientKey::of_own_via(&via, &Method::Invite), sent, "{via}");
            }
        }
        assert!(ClientKey::of_own_via("SIP/2.0/UDP 192.0.2.1;rport", &Method::Invite).is_err());
    }

    // 3261-17.2.3a
    #[test]
    fn branch_sent_by_and_method_make_the_match_rfc3261_17_2_3() {
        let invite = key(INVITE);
        assert_eq!(invite, key(Parts { uri: "sip:else@x.org", call_id: "other", number: 7, ..INVITE }));
        assert_eq!(
            invite,
            key(Parts { via: "SIP/2.0/TCP PC33.Atlanta.COM:5060;rport;branch=z9hG4bK776asdhds", ..INVITE }),
            "a host is compared without case, other parameters not at all"
        );
        for other in [
            Parts { via: "SIP/2.0/UDP pc33.atlanta.com:5060;branch=z9hG4bK776asdhdt", ..INVITE },
            Parts { via: "SIP/2.0/UDP pc34.atlanta.com:5060;branch=z9hG4bK776asdhds", ..INVITE },
            Parts { via: "SIP/2.0/UDP pc33.atlanta.com:5062;branch=z9hG4bK776asdhds", ..INVITE },
            Parts { via: "SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bK776asdhds", ..INVITE },
            Parts { method: "CANCEL", ..INVITE },
            Parts { method: "MESSAGE", ..INVITE },
        ] {
            assert_ne!(invite, key(other), "{} {}", other.method, other.via);
        }
    }

    // 3261-17.2.3a
    #[test]
    fn ack_of_a_non_2xx_has_the_key_of_its_invite_rfc3261_17_2_3() {
        let ack = Parts { method: "ACK", to: "<sip:bob@biloxi.com>;tag=8321", ..INVITE };
        assert_eq!(key(ack), key(INVITE));
        let ack_of_2xx = Parts { via: "SIP/2.0/UDP pc33.atlanta.com:5060;branch=z9hG4bKnew", ..ack };
        assert_ne!(key(ack_of_2xx), key(INVITE));
    }

    #[test]
    fn cancel_has_a_key_of_its_own_and_names_the_invite_rfc3261_9_2() {
        for via in [COOKIE, OLD] {
            let invite = Parts { via, ..INVITE };
            let cancel = Parts { method: "CANCEL", ..invite };
            assert_ne!(key(cancel), key(invite));
            assert_eq!(ServerKey::cancelled_by(&request(cancel)), Ok(key(invite)));
            let message = Parts { method: "MESSAGE", ..invite };
            assert_eq!(ServerKey::cancelled_by_as(&request(cancel), &Method::Message), Ok(key(message)));
        }
    }

    // 3261-17.2.3b
    #[test]
    fn without_cookie_the_rules_of_rfc2543_hold_rfc3261_17_2_3() {
        for via in [OLD, "SIP/2.0/UDP pc33.atlanta.com"] {
            let invite = Parts { via, ..INVITE };
            assert_eq!(key(invite), key(invite));
            for other in [
                Parts { uri: "sip:carol@biloxi.com", ..invite },
                Parts { from: "<sip:alice@atlanta.com>;tag=1929", ..invite },
                Parts { from: "<sip:alice@atlanta.com>", ..invite },
                Parts { call_id: "a84b4c76e66711", ..invite },
                Parts { number: 314160, ..invite },
                Parts { via: "SIP/2.0/UDP pc34.atlanta.com;branch=1", ..invite },
                Parts { via: "SIP/2.0/UDP pc33.atlanta.com;branch=2", ..invite },
                Parts { via: "SIP/2.0/TCP pc33.atlanta.com;branch=1", ..invite },
                Parts { method: "OPTIONS", ..invite },
            ] {
                assert_ne!(key(invite), key(other));
            }
        }
    }

    // 3261-17.2.3b
    #[test]
    fn without_cookie_an_ack_with_the_tag_of_the_response_matches_rfc3261_17_2_3() {
        let invite = Parts { via: OLD, ..INVITE };
        let ack = Parts { method: "ACK", to: "<sip:bob@biloxi.com>;tag=8321", ..invite };
        assert_eq!(key(ack), key(invite));
        assert_ne!(key(Parts { number: 314160, ..ack }), key(invite));
    }

    // 3261-17.2.3b
    #[test]
    fn without_cookie_the_to_tag_tells_other_requests_apart_rfc3261_17_2_3() {
        let bye = Parts { method: "BYE", via: OLD, to: "<sip:bob@biloxi.com>;tag=1", ..INVITE };
        assert_eq!(key(bye), key(bye));
        assert_ne!(key(bye), key(Parts { to: "<sip:bob@biloxi.com>;tag=2", ..bye }));
        assert_ne!(key(bye), key(Parts { to: "<sip:bob@biloxi.com>", ..bye }));
    }

    #[test]
    fn what_the_receiver_writes_into_via_is_not_compared_rfc3581_4() {
        let plain = Parts { via: "SIP/2.0/UDP pc33.atlanta.com;rport;branch=1", ..INVITE };
        let stamped =
            Parts { via: "SIP/2.0/UDP pc33.atlanta.com;rport=5062;branch=1;received=192.0.2.1", ..INVITE };
        assert_eq!(key(plain), key(stamped));
    }

    // 4475-3.2
    #[test]
    fn cookie_with_nothing_after_it_is_rfc2543_style_rfc4475_3_2_1() {
        let bare = Parts { method: "OPTIONS", via: "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK", ..INVITE };
        assert_eq!(key(bare), key(bare));
        assert_ne!(key(bare), key(Parts { call_id: "badbranch.other", ..bare }), "not one for all");
        assert_ne!(key(bare), key(Parts { number: 8, ..bare }));
    }

    #[test]
    fn long_keys_differ_by_their_last_byte() {
        let (long, other) = ("x".repeat(1_000), format!("{}y", "x".repeat(999)));
        let of = |branch: &str| {
            let via = format!("SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bK{branch}");
            key(Parts { via: &via, ..INVITE })
        };
        assert_eq!(of(&long), of(&long));
        assert_ne!(of(&long), of(&other));
    }

    #[test]
    fn addresses_are_compared_as_numbers() {
        let long = Parts { via: "SIP/2.0/UDP [2001:DB8:0:0::1]:5060;branch=z9hG4bK1", ..INVITE };
        let short = Parts { via: "SIP/2.0/UDP [2001:db8::1]:5060;branch=z9hG4bK1", ..INVITE };
        assert_eq!(key(long), key(short));
    }

    // 3261-17.1.3
    #[test]
    fn response_matches_by_branch_method_and_our_sent_by_rfc3261_17_1_3() {
        let sent = ClientKey::of_request(&request(INVITE)).expect("a key");
        let of = |via: &str, cseq: &str| ClientKey::of_response(&response(via, cseq)).expect("a key");
        assert_eq!(sent, of(COOKIE, "314159 INVITE"));
        let stamped = format!("{COOKIE};received=192.0.2.1;rport=5060");
        assert_eq!(sent, of(&stamped, "314159 INVITE"));
        assert_ne!(sent, of(COOKIE, "314159 CANCEL"), "CANCEL shares the branch");
        assert_ne!(sent, of("SIP/2.0/UDP pc33.atlanta.com:5060;branch=z9hG4bKx", "314159 INVITE"));
        assert_ne!(sent, of("SIP/2.0/UDP evil.example:5060;branch=z9hG4bK776asdhds", "314159 INVITE"));
    }

    #[test]
    fn response_without_branch_has_no_key_rfc3261_17_1_3() {
        assert!(ClientKey::of_response(&response("SIP/2.0/UDP pc33.atlanta.com", "1 INVITE")).is_err());
    }

    #[test]
    fn values_cannot_run_into_each_other() {
        let mut keys = HashSet::new();
        for values in [["ab", "c"], ["a", "bc"], ["", "abc"], ["abc", ""]] {
            let mut key = Values::new();
            values.iter().for_each(|value| push(&mut key, value.as_bytes()));
            assert!(keys.insert(key));
        }
        for length in [0, 1, 127, 128, 129, 16_383, 16_384, 65_535] {
            let mut key = Values::new();
            push_length(&mut key, length);
            key.push(b'x');
            assert!(keys.insert(key));
        }
    }
}

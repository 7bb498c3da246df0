//! Writes the copy of a message that a proxy sends on (RFC 3261 16.6, 16.7), from its parsed form.
//!
//! Unknown headers keep their bytes and order. What routing and security depend on is written anew.

use std::io::Write;
use std::net::SocketAddr;
use std::ops::Range;

use bytes::Bytes;

use crate::sip::digest;
use crate::sip::lexer::{self, Elements};
use crate::sip::message::Entry;
use crate::sip::via::Stamp;
use crate::sip::writer::{Writer, push_body, push_number, push_parsed_row, push_row, push_uri, push_vias};
use crate::sip::{HeaderName, Headers, Limits, Message, Method, Request, Response};

/// What changes in a forwarded request; `Default` changes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestEdits<'a> {
    /// New Request-URI (16.6 step 2).
    pub uri: Option<&'a str>,
    /// Value of Max-Forwards to write (16.6 step 3); `None` keeps.
    pub max_forwards: Option<u8>,
    /// A complete Via value to put on top (16.6 step 8).
    pub via: Option<&'a str>,
    /// How many Route elements to take from the top (16.4).
    pub drop_routes: usize,
    /// Route values to put before the remaining ones (Path of the binding), each `<uri>`.
    pub routes: &'a [&'a str],
    /// Record-Route values to put on top, first one topmost, each `<uri>` (16.6 step 4).
    pub record_routes: &'a [&'a str],
    /// Rows of these names are dropped.
    pub remove: &'a [HeaderName],
    /// Drop Proxy-Authorization and Authorization rows whose realm is this one (22.3; `A10`).
    pub remove_credentials_of: Option<&'a str>,
    /// Rows to add after the routing headers.
    pub add: &'a [(HeaderName, &'a str)],
    /// Value of Max-Breadth to write; `None` keeps.
    pub max_breadth: Option<u32>,
}

/// How often a request may still be forwarded, and what the route processing of 16.4 left.
#[derive(Debug, Clone, Copy)]
pub struct Hop {
    /// The Max-Forwards value to write.
    pub max_forwards: u8,
    /// Route elements of ours to take from the top.
    pub own_routes: usize,
    /// Incoming Max-Breadth (RFC 5393 5.3.3), 1 to 60.
    pub breadth: u32,
}

/// The copy of a request. Content-Length is always written, right (16.6 step 9).
///
/// What proxies act on comes first (7.3.1), all else keeps its order. A `remove` of a routing header takes the rows of the
/// request, not those that the edits bring.
pub fn request(request: &Request, edits: &RequestEdits<'_>) -> Bytes {
    let added: usize = edits.via.map_or(0, str::len)
        + edits.uri.map_or(0, str::len)
        + edits.routes.iter().chain(edits.record_routes).map(|value| value.len() + 16).sum::<usize>()
        + edits.add.iter().map(|(_, value)| value.len() + 24).sum::<usize>();
    // Names in long form and what the stamp brings fit the reserve of any ordinary message.
    let mut out = Vec::with_capacity(request.bytes().len() + added + 192);
    let removed = bits(edits.remove);
    let kept = |name: HeaderName| removed & name.bit() == 0;

    out.extend_from_slice(request.method().as_str().as_bytes());
    out.push(b' ');
    match edits.uri {
        Some(uri) => push_uri(&mut out, uri),
        None => out.extend_from_slice(request.uri_bytes()),
    }
    out.extend_from_slice(b" SIP/2.0\r\n");

    if let Some(via) = edits.via {
        push_row(&mut out, HeaderName::Via, via.as_bytes());
    }
    if kept(HeaderName::Via) {
        let start = out.len();
        push_vias(&mut out, request);
        strip_overload_control(&mut out, start);
    }
    for route in edits.routes {
        push_row(&mut out, HeaderName::Route, route.as_bytes());
    }
    if kept(HeaderName::Route) {
        push_list_without(&mut out, request, HeaderName::Route, edits.drop_routes);
    }
    for record_route in edits.record_routes {
        push_row(&mut out, HeaderName::RecordRoute, record_route.as_bytes());
    }
    let mut copy = |name: HeaderName| {
        if kept(name) {
            for value in request.values(name).filter(|value| !belongs_to(request, name, value, edits)) {
                push_parsed_row(&mut out, name, value);
            }
        }
    };
    copy(HeaderName::RecordRoute);
    copy(HeaderName::ProxyRequire);
    if edits.max_forwards.is_none() {
        copy(HeaderName::MaxForwards);
    }
    if edits.max_breadth.is_none() {
        copy(HeaderName::MaxBreadth);
    }
    copy(HeaderName::ProxyAuthorization);
    if let Some(hops) = edits.max_forwards {
        push_row_of_number(&mut out, HeaderName::MaxForwards, hops.into());
    }
    if let Some(breadth) = edits.max_breadth {
        push_row_of_number(&mut out, HeaderName::MaxBreadth, breadth.into());
    }
    for (name, value) in edits.add {
        push_row(&mut out, *name, value.as_bytes());
    }
    let mut rows = Rows::new(request);
    for entry in &request.index.rows {
        if (ROUTING | removed) & entry.name.bit() == 0
            && !belongs_to(request, entry.name, entry.value.of(request.bytes()), edits)
        {
            rows.push(&mut out, entry);
        }
    }
    rows.finish(&mut out);
    push_body(&mut out, request.body());
    Bytes::from(out)
}

/// These names as bits; what has no name of ours is never taken out by name.
fn bits(names: &[HeaderName]) -> u64 {
    names.iter().fold(0, |bits, name| bits | name.bit()) & !HeaderName::Other.bit()
}

/// Rows of a request as they stand in a copy, in their order, without those of `remove` and without what belongs to one hop (Via, Route,
/// Record-Route, Max-Forwards, Max-Breadth, Proxy-Require, Proxy-Authorization, Content-Length). For one who sends the request on later as one of
/// its own (RFC 3428 7).
pub fn end_to_end_rows(request: &Request, remove: &[HeaderName]) -> Vec<u8> {
    let mut out = Vec::with_capacity(request.bytes().len().saturating_sub(request.body().len()));
    let dropped = ROUTING | bits(remove);
    let mut rows = Rows::new(request);
    for entry in request.index.rows.iter().filter(|entry| dropped & entry.name.bit() == 0) {
        rows.push(&mut out, entry);
    }
    rows.finish(&mut out);
    out
}

/// What is written before the other rows, and Content-Length, which is written after them.
const ROUTING: u64 = HeaderName::Via.bit()
    | HeaderName::Route.bit()
    | HeaderName::RecordRoute.bit()
    | HeaderName::ProxyRequire.bit()
    | HeaderName::MaxForwards.bit()
    | HeaderName::MaxBreadth.bit()
    | HeaderName::ProxyAuthorization.bit()
    | HeaderName::ContentLength.bit();

/// Are these credentials for the realm that is taken out?
fn belongs_to(request: &Request, name: HeaderName, value: &[u8], edits: &RequestEdits<'_>) -> bool {
    matches!(name, HeaderName::Authorization | HeaderName::ProxyAuthorization)
        && edits
            .remove_credentials_of
            .is_some_and(|realm| digest::mentions_realm(value, realm, |part| request.octets.text_of(part)))
}

/// Copies rows. Those that are written as they stand wait for their neighbours, so that what stands side by side goes at once.
struct Rows<'a> {
    bytes: &'a [u8],
    waiting: Range<usize>,
}

impl<'a> Rows<'a> {
    fn new(headers: &'a Headers) -> Rows<'a> {
        Rows { bytes: headers.bytes(), waiting: 0..0 }
    }

    fn push(&mut self, out: &mut Vec<u8>, entry: &Entry) {
        if !is_canonical(self.bytes, entry) {
            self.flush(out);
            return push_entry(out, self.bytes, entry);
        }
        let (start, end) = (entry.raw_name.start as usize, entry.value.end as usize + 2);
        if start != self.waiting.end {
            self.flush(out);
            self.waiting.start = start;
        }
        self.waiting.end = end;
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.bytes.get(self.waiting.clone()).unwrap_or_default());
        self.waiting = 0..0;
    }

    fn finish(mut self, out: &mut Vec<u8>) {
        self.flush(out);
    }
}

/// Would [`push_entry`] write the row as it stands?
fn is_canonical(bytes: &[u8], entry: &Entry) -> bool {
    let (start, end) = (entry.raw_name.start as usize, entry.value.end as usize);
    let begun = match entry.name {
        HeaderName::Other => bytes.get(entry.raw_name.end as usize) == Some(&b':'),
        name => bytes.get(start..entry.value.start as usize) == Some(name.row_start().as_bytes()),
    };
    // Line ends inside of a value have become spaces: this one ends the row.
    begun && bytes.get(end..end + 2) == Some(b"\r\n")
}

/// A known header gets its long name and one `: `; any other keeps its bytes, but for white space before the colon (`A03`).
fn push_entry(out: &mut Vec<u8>, bytes: &[u8], entry: &Entry) {
    let value = entry.value.of(bytes);
    if entry.name != HeaderName::Other {
        return push_parsed_row(out, entry.name, value);
    }
    let colon = entry.raw_name.end as usize;
    if bytes.get(colon) == Some(&b':') {
        let row = bytes.get(entry.raw_name.start as usize..entry.value.end as usize);
        // An empty value is trimmed to a place after the colon, so that the range always covers name and colon.
        out.extend_from_slice(row.unwrap_or_default());
    } else {
        out.extend_from_slice(entry.raw_name.of(bytes));
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
    }
    out.extend_from_slice(b"\r\n");
}

fn push_row_of_number(out: &mut Vec<u8>, name: HeaderName, number: u64) {
    out.extend_from_slice(name.row_start().as_bytes());
    push_number(out, number);
    out.extend_from_slice(b"\r\n");
}

/// The rows of a list without its first elements.
fn push_list_without(out: &mut Vec<u8>, headers: &Headers, name: HeaderName, mut drop: usize) {
    for value in headers.values(name) {
        let mut elements = Elements::new(value);
        let mut rest = value;
        while drop > 0 && elements.next().is_some() {
            rest = lexer::trim(elements.rest());
            drop -= 1;
        }
        if !rest.is_empty() {
            push_parsed_row(out, name, rest);
        }
    }
}

/// RFC 7339 5.6: overload is spoken of from hop to hop, so what is said of it in the Via rows from `start` on goes no further.
fn strip_overload_control(out: &mut Vec<u8>, start: usize) {
    let vias = out.get(start..).unwrap_or_default();
    if !mentions_overload_control(vias) {
        return;
    }
    let mut kept = Vec::with_capacity(vias.len());
    let (mut quoted, mut escaped, mut dropped) = (false, false, false);
    for (at, &byte) in vias.iter().enumerate() {
        if quoted {
            (quoted, escaped) = (escaped || byte != b'"', !escaped && byte == b'\\');
        } else if matches!(byte, b';' | b',' | b'\r') {
            dropped = byte == b';' && is_overload_control(vias.get(at + 1..).unwrap_or_default());
        } else {
            quoted = byte == b'"';
        }
        if !dropped {
            kept.push(byte);
        }
    }
    out.truncate(start);
    out.extend_from_slice(&kept);
}

/// Is there a semicolon with `oc` behind it? Nearly every Via has none, and need not be read.
fn mentions_overload_control(mut vias: &[u8]) -> bool {
    while let Some(at) = lexer::find(vias, b';') {
        vias = vias.get(at + 1..).unwrap_or_default();
        if lexer::trim(vias).get(..2).is_some_and(|name| name.eq_ignore_ascii_case(b"oc")) {
            return true;
        }
    }
    false
}

/// Does a Via parameter that begins here bear one of the names of RFC 7339 4?
fn is_overload_control(param: &[u8]) -> bool {
    let param = lexer::trim(param);
    let end = param.iter().position(|byte| b"=;, \t\r".contains(byte)).unwrap_or(param.len());
    let name = param.get(..end).unwrap_or_default();
    ["oc", "oc-algo", "oc-validity", "oc-seq"].iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// The copy of a response without its topmost Via (16.7 step 3) and without the rows of `remove`. `None` if no Via is left: it was for us.
pub fn response(response: &Response, remove: &[HeaderName]) -> Option<Bytes> {
    response.elements(HeaderName::Via).nth(1)?;
    let mut out = Vec::with_capacity(response.bytes().len() + 192);
    push_status_line(&mut out, response);
    push_list_without(&mut out, response, HeaderName::Via, 1);
    let dropped = HeaderName::Via.bit() | HeaderName::ContentLength.bit() | bits(remove);
    let mut rows = Rows::new(response);
    for entry in response.index.rows.iter().filter(|entry| dropped & entry.name.bit() == 0) {
        rows.push(&mut out, entry);
    }
    rows.finish(&mut out);
    push_body(&mut out, response.body());
    Some(Bytes::from(out))
}

fn push_status_line(out: &mut Vec<u8>, response: &Response) {
    out.extend_from_slice(b"SIP/2.0 ");
    push_number(out, response.status().code().into());
    out.push(b' ');
    out.extend_from_slice(response.reason_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The copy of a redirection with those of its Contacts that `keep` names, by position (16.7 step 4).
pub fn with_contacts(response: &Response, keep: impl Fn(usize) -> bool) -> Option<Response> {
    let mut out = Vec::with_capacity(response.bytes().len());
    push_status_line(&mut out, response);
    let mut at = 0;
    for entry in &response.index.rows {
        match entry.name {
            HeaderName::ContentLength => {}
            HeaderName::Contact => {
                for element in Elements::new(entry.value.of(response.bytes())) {
                    if keep(at) {
                        push_parsed_row(&mut out, HeaderName::Contact, element);
                    }
                    at += 1;
                }
            }
            _ => push_entry(&mut out, response.bytes(), entry),
        }
    }
    push_body(&mut out, response.body());
    reread(out).and_then(|message| match message {
        Message::Response(response) => Some(response),
        Message::Request(_) => None,
    })
}

/// The request as it would be if its Request-URI were this one, and its Route these values (16.4). It is stamped anew, with the same source.
pub fn retargeted(old: &Request, uri: &str, routes: &[&str]) -> Option<Request> {
    let edits =
        RequestEdits { uri: Some(uri), routes, remove: &[HeaderName::Route], ..RequestEdits::default() };
    match reread(request(old, &edits).to_vec())? {
        Message::Request(request) => Some(match old.source() {
            Some(source) => stamp(request, source),
            None => request,
        }),
        Message::Response(_) => None,
    }
}

fn reread(bytes: Vec<u8>) -> Option<Message> {
    Message::parse(bytes.into(), false, &Limits::default()).ok()
}

/// Notes `received` and `rport` for the topmost Via (RFC 3261 18.2.1, RFC 3581 4): `received` if the sent-by is not
/// numerically the source or `rport` was asked; `rport` is filled if it was there. The bytes stay; whatever is written from
/// the request bears the stamp, and [`Request::source`] tells it.
pub fn stamp(mut request: Request, source: SocketAddr) -> Request {
    let stamp = Stamp::new(request.top_via().ok().as_ref(), source);
    request.stamp = Some(stamp);
    request
}

/// The ACK for a non-2xx final (17.1.1.3): Request-URI, top Via, From, Call-ID, Route and CSeq number of the `invite` as sent, To of the `response`.
pub fn ack(invite: &Request, response: &Response) -> Bytes {
    let to = response.value(HeaderName::To).or_else(|| invite.value(HeaderName::To));
    hop_by_hop(invite, &Method::Ack, to.unwrap_or_default()).finish()
}

/// The CANCEL of a request as sent (9.1). `reason`: a Reason header value (RFC 3326).
pub fn cancel(invite: &Request, reason: Option<&str>) -> Bytes {
    let to = invite.value(HeaderName::To).unwrap_or_default();
    let mut writer = hop_by_hop(invite, &Method::Cancel, to);
    if let Some(reason) = reason {
        writer.header(HeaderName::Reason, reason);
    }
    writer.finish()
}

/// What ACK and CANCEL share: one Via, the top one of the invite, and its Route.
fn hop_by_hop(invite: &Request, method: &Method, to: &[u8]) -> Writer {
    let mut out = Vec::with_capacity(1_024);
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(invite.uri_bytes());
    out.extend_from_slice(b" SIP/2.0\r\n");
    let top = invite.elements(HeaderName::Via).next().unwrap_or_default();
    push_parsed_row(&mut out, HeaderName::Via, top);
    push_list_without(&mut out, invite, HeaderName::Route, 0);
    out.extend_from_slice(b"Max-Forwards: 70\r\n");
    push_parsed_row(&mut out, HeaderName::From, invite.value(HeaderName::From).unwrap_or_default());
    push_parsed_row(&mut out, HeaderName::To, to);
    push_parsed_row(&mut out, HeaderName::CallId, invite.value(HeaderName::CallId).unwrap_or_default());
    let number = invite.cseq().map_or(0, |cseq| cseq.number);
    // Writing to a vector cannot fail.
    let _ = write!(out, "CSeq: {number} {method}\r\n");
    Writer { buffer: out }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::{Limits, Message};

    fn parse(text: &str) -> Message {
        Message::parse(Bytes::copy_from_slice(text.as_bytes()), false, &Limits::default()).unwrap()
    }

    fn invite() -> Request {
        let text = "INVITE sip:bob@example.com SIP/2.0\r\ns:hi\r\nX-One:  1 \r\nv: SIP/2.0/UDP h;branch=z9hG4bK1;rport, SIP/2.0/TCP i\r\n\
            Max-Forwards : 70\r\nf: <sip:a@b>;tag=1\r\nTo:<sip:bob@example.com>\r\nx-two :2\r\ni: x\r\nCSeq: 07  INVITE\r\n\
            Route: <sip:r1;lr>, <sip:r2;lr>\r\nroute: <sip:r3;lr>\r\nRecord-Route: <sip:rr;lr>\r\n\
            Proxy-Authorization: Digest realm=\"ours\", nonce=\"n\"\r\nAuthorization: Digest realm=\"theirs\"\r\nl: 4\r\nEmpty:\r\nc: text/plain\r\n\r\nbodytail";
        match parse(text) {
            Message::Request(request) => request,
            Message::Response(_) => panic!("a request"),
        }
    }

    fn text(bytes: Bytes) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn overload_control_goes_no_further_rfc7339_5_6() {
        let vias = [
            (
                "SIP/2.0/UDP h;branch=z9hG4bK1;oc;oc-algo=\"loss,A\";rport",
                "SIP/2.0/UDP h;branch=z9hG4bK1;rport",
            ),
            ("SIP/2.0/TCP h ; OC = 20 ;oc-validity=500;Oc-Seq=1282321615.782;keep", "SIP/2.0/TCP h ;keep"),
            (
                "SIP/2.0/TCP h;oc, SIP/2.0/TCP i;branch=z;oc-seq=1, SIP/2.0/TCP oc;x",
                "SIP/2.0/TCP h, SIP/2.0/TCP i;branch=z, SIP/2.0/TCP oc;x",
            ),
            (
                "SIP/2.0/TCP h;x=\"a;oc=1\\\";oc\";occurs;oc-other=1;oc",
                "SIP/2.0/TCP h;x=\"a;oc=1\\\";oc\";occurs;oc-other=1",
            ),
        ];
        for (sent, forwarded) in vias {
            let request = format!(
                "OPTIONS sip:a@b SIP/2.0\r\nVia: {sent}\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:b@b>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n\r\n"
            );
            let Message::Request(request) = parse(&request) else { panic!("a request") };
            let copy = text(super::request(
                &request,
                &RequestEdits { via: Some("SIP/2.0/UDP us;branch=z9hG4bKus;oc"), ..RequestEdits::default() },
            ));
            assert!(
                copy.contains(&format!("Via: SIP/2.0/UDP us;branch=z9hG4bKus;oc\r\nVia: {forwarded}\r\n")),
                "{copy}"
            );
        }
    }

    #[test]
    fn a_copy_is_the_request_with_its_edits_rfc3261_16_6() {
        let edits = RequestEdits {
            uri: Some("sip:bob@192.0.2.9:5062"),
            max_forwards: Some(69),
            via: Some("SIP/2.0/UDP us;branch=z9hG4bKours"),
            drop_routes: 1,
            routes: &["<sip:path;lr>"],
            record_routes: &["<sip:us;lr>"],
            remove: &[HeaderName::Subject],
            remove_credentials_of: Some("ours"),
            add: &[(HeaderName::PAssertedIdentity, "<sip:a@b>")],
            max_breadth: Some(60),
        };
        let request_ = stamp(invite(), "192.0.2.1:6000".parse().unwrap());
        assert_eq!(
            text(request(&request_, &edits)),
            "INVITE sip:bob@192.0.2.9:5062 SIP/2.0\r\nVia: SIP/2.0/UDP us;branch=z9hG4bKours\r\n\
             Via: SIP/2.0/UDP h;branch=z9hG4bK1;received=192.0.2.1;rport=6000, SIP/2.0/TCP i\r\n\
             Route: <sip:path;lr>\r\nRoute: <sip:r2;lr>\r\nRoute: <sip:r3;lr>\r\n\
             Record-Route: <sip:us;lr>\r\nRecord-Route: <sip:rr;lr>\r\nMax-Forwards: 69\r\nMax-Breadth: 60\r\n\
             P-Asserted-Identity: <sip:a@b>\r\nX-One:  1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:bob@example.com>\r\nx-two: 2\r\n\
             Call-ID: x\r\nCSeq: 07  INVITE\r\nAuthorization: Digest realm=\"theirs\"\r\nEmpty:\r\nContent-Type: text/plain\r\n\
             Content-Length: 4\r\n\r\nbody"
        );
    }

    #[test]
    fn all_routes_of_a_row_and_more_can_go() {
        let drop =
            |drop_routes| text(request(&invite(), &RequestEdits { drop_routes, ..RequestEdits::default() }));
        assert!(drop(0).contains("Route: <sip:r1;lr>, <sip:r2;lr>\r\nRoute: <sip:r3;lr>\r\n"));
        assert!(
            drop(2).contains(
                "Via: SIP/2.0/UDP h;branch=z9hG4bK1;rport, SIP/2.0/TCP i\r\nRoute: <sip:r3;lr>\r\n"
            )
        );
        assert!(!drop(3).contains("\r\nRoute:") && !drop(9).contains("\r\nRoute:"));
    }

    #[test]
    fn a_second_copy_is_the_same_bytes() {
        let first = request(&invite(), &RequestEdits::default());
        let Message::Request(again) = parse(&text(first.clone())) else { panic!("a request") };
        assert_eq!(request(&again, &RequestEdits::default()), first);
    }

    #[test]
    fn a_response_loses_its_topmost_via_rfc3261_16_7_3() {
        let copy =
            |vias: &str| match parse(&format!("SIP/2.0 200 Fine\r\n{vias}t: <sip:a>\r\nX : y\r\n\r\nb")) {
                Message::Response(message) => response(&message, &[]).map(text),
                Message::Request(_) => panic!("a response"),
            };
        let rest = "To: <sip:a>\r\nX: y\r\nContent-Length: 1\r\n\r\nb";
        let expected = Some(format!("SIP/2.0 200 Fine\r\nVia: SIP/2.0/UDP two\r\n{rest}"));
        assert_eq!(copy("v: SIP/2.0/UDP one\r\nVia: SIP/2.0/UDP two\r\n"), expected);
        assert_eq!(copy("Via: SIP/2.0/UDP one,\tSIP/2.0/UDP two\r\n"), expected);
        assert_eq!(copy("Via: SIP/2.0/UDP one\r\n"), None);
        assert_eq!(copy(""), None);
    }

    #[test]
    fn ack_and_cancel_follow_the_invite_rfc3261_17_1_1_3_and_9_1() {
        let Message::Response(refusal) =
            parse("SIP/2.0 486 Busy Here\r\nTo: <sip:bob@example.com>;tag=9\r\n\r\n")
        else {
            panic!("a response");
        };
        let shared = |method: &str, to: &str| {
            format!(
                "{method} sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1;rport\r\n\
                 Route: <sip:r1;lr>, <sip:r2;lr>\r\nRoute: <sip:r3;lr>\r\nMax-Forwards: 70\r\nFrom: <sip:a@b>;tag=1\r\n\
                 To: {to}\r\nCall-ID: x\r\nCSeq: 7 {method}\r\n"
            )
        };
        let end = "Content-Length: 0\r\n\r\n";
        let ack_ = text(ack(&invite(), &refusal));
        assert_eq!(ack_, format!("{}{end}", shared("ACK", "<sip:bob@example.com>;tag=9")));
        let cancel_ = text(cancel(&invite(), Some("SIP;cause=200")));
        assert_eq!(
            cancel_,
            format!("{}Reason: SIP;cause=200\r\n{end}", shared("CANCEL", "<sip:bob@example.com>"))
        );
    }

    #[test]
    fn a_stamp_leaves_the_bytes_and_tells_the_source() {
        let before = invite();
        let after = stamp(before.clone(), "192.0.2.1:6000".parse().unwrap());
        assert_eq!(after.bytes(), before.bytes());
        assert_eq!(after.source(), Some("192.0.2.1:6000".parse().unwrap()));
        assert_eq!(before.source(), None);
    }
}

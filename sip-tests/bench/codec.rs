//! What the language costs: parse, type what routing needs, write the forwarded copy; `rsip` beside it.
//!
//! `cargo bench --bench codec`

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use hither::sip::forward::{self, RequestEdits};
use hither::sip::{HeaderName, Limits, Message, Request, validate};

fn message() -> String {
    let body = "Shall we meet at nine in the small room? I bring the drawings.";
    format!(
        "MESSAGE sip:bob@example.com SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.15:5060;branch=z9hG4bK-524287-1---8f1b3c2d4e5f6071;rport\r\n\
         Max-Forwards: 70\r\n\
         Route: <sip:proxy.example.com;lr>\r\n\
         Contact: <sip:alice@192.0.2.15:5060>\r\n\
         To: <sip:bob@example.com>\r\n\
         From: \"Alice\" <sip:alice@example.com>;tag=49583af1\r\n\
         Call-ID: 843817637684230998sdasdh09\r\n\
         CSeq: 18 MESSAGE\r\n\
         User-Agent: Example Phone 5.4.2\r\n\
         Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, MESSAGE, NOTIFY\r\n\
         Supported: replaces, outbound, gruu\r\n\
         Content-Type: text/plain;charset=UTF-8\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn invite() -> String {
    let body = "v=0\r\no=- 3838281 2 IN IP4 192.0.2.15\r\ns=-\r\nc=IN IP4 192.0.2.15\r\nt=0 0\r\n\
                m=audio 49217 RTP/AVP 9 0 8 101\r\na=rtpmap:9 G722/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
                a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=sendrecv\r\n";
    format!(
        "INVITE sip:bob@example.com;transport=tcp SIP/2.0\r\n\
         Via: SIP/2.0/TCP edge.example.net;branch=z9hG4bK77ef4c2312983.1\r\n\
         Via: SIP/2.0/UDP 192.0.2.15:5060;branch=z9hG4bK-524287-1---8f1b3c2d;rport=5060;received=192.0.2.15\r\n\
         Max-Forwards: 69\r\n\
         Record-Route: <sip:edge.example.net;lr;transport=tcp>\r\n\
         Route: <sip:proxy.example.com;lr>, <sip:in.example.com;lr>\r\n\
         Contact: \"Alice\" <sip:alice@192.0.2.15:5060;ob>;+sip.instance=\"<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>\"\r\n\
         To: <sip:bob@example.com>\r\n\
         From: \"Alice\" <sip:alice@example.com>;tag=49583af1\r\n\
         Call-ID: 843817637684230998sdasdh09@192.0.2.15\r\n\
         CSeq: 314159 INVITE\r\n\
         Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, NOTIFY, MESSAGE, SUBSCRIBE, INFO, UPDATE, PRACK\r\n\
         Supported: replaces, outbound, gruu, timer, 100rel\r\n\
         Session-Expires: 1800\r\n\
         Min-SE: 90\r\n\
         User-Agent: Example Phone 5.4.2\r\n\
         Content-Type: application/sdp\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// As near to every cap as a lawful message comes: full of Vias, Routes and parameters.
fn worst() -> String {
    let params: String = (0..40).map(|n| format!(";parameter{n}=v")).collect();
    let mut text = "MESSAGE sip:bob@example.com SIP/2.0\r\nMax-Forwards: 70\r\nTo: <sip:b@c>\r\nFrom: <sip:a@b>;tag=1\r\n\
         Call-ID: x\r\nCSeq: 1 MESSAGE\r\nContent-Type: text/plain\r\n"
        .to_owned();
    for _ in 0..64 {
        text.push_str(&format!("Via: SIP/2.0/UDP host.example.com{params}\r\n"));
    }
    for _ in 0..24 {
        text.push_str(&format!("Route: <sip:host.example.com;lr>{params}\r\n"));
    }
    text.push_str("Content-Length: 1\r\n\r\nx");
    text
}

fn parse(bytes: Bytes) -> Request {
    match Message::parse(bytes, true, &Limits::default()) {
        Ok(Message::Request(request)) => request,
        other => panic!("a request: {other:?}"),
    }
}

/// What a proxy looks at in every request.
fn types(request: &Request) {
    black_box(request.top_via().unwrap().branch());
    black_box(request.from().unwrap().tag());
    black_box(request.to().unwrap().tag());
    black_box(request.call_id().unwrap());
    black_box(request.cseq().unwrap().number);
    black_box(request.uri().unwrap().user);
    black_box(request.max_forwards().unwrap());
    black_box(request.addresses(HeaderName::Route).next().unwrap().unwrap().uri.params.has("lr"));
}

fn edits() -> RequestEdits<'static> {
    RequestEdits {
        uri: Some("sip:bob@198.51.100.7:5062;transport=tcp"),
        max_forwards: Some(68),
        via: Some("SIP/2.0/TCP proxy.example.com;branch=z9hG4bKd6e1f9a34c7b2"),
        drop_routes: 1,
        ..RequestEdits::default()
    }
}

fn codec(criterion: &mut Criterion) {
    for (name, text) in [("message", message()), ("invite", invite())] {
        let bytes = Bytes::from(text);
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function("parse", |b| b.iter(|| parse(black_box(bytes.clone()))));
        let parsed = parse(bytes.clone());
        group.bench_function("type", |b| b.iter(|| types(black_box(&parsed))));
        group.bench_function("validate", |b| b.iter(|| validate::request(black_box(&parsed))));
        group.bench_function("forward", |b| b.iter(|| forward::request(black_box(&parsed), &edits())));
        group.bench_function("parse, type, forward", |b| {
            b.iter(|| {
                let request = parse(black_box(bytes.clone()));
                types(&request);
                forward::request(&request, &edits())
            })
        });
        group.bench_function("rsip: parse, to_string", |b| {
            b.iter(|| rsip::Request::try_from(black_box(&bytes[..])).unwrap().to_string())
        });
        group.finish();
    }
    let bytes = Bytes::from(worst());
    let mut group = criterion.benchmark_group("worst");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("parse, validate", |b| {
        b.iter(|| validate::request(&parse(black_box(bytes.clone()))).unwrap())
    });
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);

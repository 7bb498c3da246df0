//! Messages meant to be read in two ways, or to be too much (A01-A05).

use std::time::Duration;

use crate::harness::phone::unique;
use crate::harness::{DOMAIN, Database, Phone, Server, Transport};

/// Sends an OPTIONS with these header lines in place of its Content-Length, another OPTIONS hidden in its body, and
/// gives the status of the answer. The hidden one must not be answered.
fn with_length_lines(server: &Server, via: Transport, lines: &str) -> Option<u16> {
    let mut phone = Phone::new(server, "alice", via);
    let (open, hidden) = (unique("open"), unique("hidden"));
    let uri = format!("sip:{DOMAIN}");
    let mut request = phone.request("OPTIONS", &uri).set("Call-ID", &open).without_length();
    for line in lines.split('\n').filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').expect("a header");
        request = request.header(name, value);
    }
    let mut bytes = request.bytes();
    let inner = phone.request("OPTIONS", &uri).set("Call-ID", &hidden);
    bytes.extend(inner.bytes());
    phone.send_raw(&bytes);
    let answer = phone.await_within(Duration::from_secs(2), |m| m.status().is_some());
    if let Some(answer) = &answer {
        assert_ne!(answer.call_id(), hidden, "the hidden request was interpreted: {lines}");
        // Not the one after it either.
        if via == Transport::Udp {
            phone.expect_nothing_more();
        } else if let Some(second) = phone.await_within(Duration::from_millis(300), |m| m.status().is_some())
        {
            assert_ne!(second.call_id(), hidden, "the hidden request was interpreted: {lines}");
        }
    }
    answer.and_then(|answer| answer.status())
}

fn a_lying_content_length_is_refused_a01(database: Database, via: Transport) {
    let server = Server::start(database);
    for length in ["-1", "", " 5x", "2147483648", "4294967328", "1e2", "+5", "0x10", &"9".repeat(40)] {
        let status = with_length_lines(&server, via, &format!("Content-Length:{length}"));
        assert!(
            matches!(status, Some(400 | 413 | 513)) || (status.is_none() && !via.is_udp()),
            "{length:?}: {status:?}"
        );
    }
    let mut phone = Phone::new(&server, "alice", via);
    assert_eq!(phone.options().status(), Some(200), "the server is well");
}

fn doubled_content_length_is_refused_a02(database: Database, via: Transport) {
    let server = Server::start(database);
    for lines in [
        "Content-Length:0\nl:120",
        "l:0\nContent-Length:0",
        "Content-Length:0\nContent-Length:5",
        "Content-Length:0, 0",
    ] {
        let status = with_length_lines(&server, via, lines);
        assert_eq!(status, Some(400), "{lines:?}");
    }
}

fn doubled_singletons_are_refused_a02(database: Database, via: Transport) {
    let server = Server::start(database);
    for (name, value) in [
        ("From", "<sip:eve@192.0.2.1>;tag=e"),
        ("f", "<sip:eve@192.0.2.1>;tag=e"),
        ("To", "<sip:eve@192.0.2.1>"),
        ("t", "<sip:eve@192.0.2.1>"),
        ("Call-ID", "another"),
        ("i", "another"),
        ("CSeq", "9 OPTIONS"),
        ("Max-Forwards", "7"),
    ] {
        let mut phone = Phone::new(&server, "alice", via);
        let request = phone.request("OPTIONS", &format!("sip:{DOMAIN}")).header(name, value);
        phone.send(&request);
        let response = phone.expect("an answer", |m| m.status().is_some());
        assert_eq!(response.status(), Some(400), "{name}:\n{response}");
    }
}

fn smuggled_headers_are_one_thing_to_all_a03(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    bob.register();
    let variants: [(&[u8], bool); 12] = [
        (b"X-Probe : spaced\r\n", true),
        (b"X-Probe\t: tabbed\r\n", true),
        (b"X-Probe: folded\r\n onto this line\r\n", true),
        (b"X-Probe: folded\r\n\tX-Hidden: not a header\r\n", true),
        (b"X-Probe: bare\rX-Hidden: yes\r\n", false),
        (b"X-Probe: bare\nX-Hidden: yes\r\n", false),
        (b"X-Probe: nul\0byte\r\n", false),
        (b"X-Pro\0be: nul\r\n", false),
        (b"X-Pro be: space inside\r\n", false),
        (b": no name\r\n", false),
        (b"X-Probe no colon\r\n", false),
        (b"X-Probe: bell\x07\r\n", false),
    ];
    for (line, may_pass) in variants {
        let mut alice = Phone::new(&server, "alice", via);
        let request = alice.message_request("bob", "probe");
        alice.send(&request);
        let challenge = alice.expect_final(&request);
        let header = alice.learn(&challenge);
        let mut request = alice.again(&request);
        alice.authorize(&mut request, header);
        let mut bytes = request.bytes();
        let at = bytes.windows(2).position(|w| w == b"\r\n").expect("line end") + 2;
        bytes.splice(at..at, line.iter().copied());
        alice.send_raw(&bytes);
        let shown = String::from_utf8_lossy(line).into_owned();
        if may_pass {
            let arrived = bob.expect_request("MESSAGE");
            assert!(arrived.header("X-Probe").is_some(), "{shown:?}:\n{arrived}");
            assert!(arrived.header("X-Hidden").is_none(), "{shown:?}:\n{arrived}");
            bob.answer(&arrived, 200, "OK");
            alice.expect_status(&request, 200);
        } else {
            let response = alice.await_within(crate::harness::DEADLINE, |m| m.status().is_some());
            match response.and_then(|m| m.status()) {
                Some(400) => bob.expect_nothing_more(),
                // A line end written otherwise may also be read as one, as long as both sides read the same.
                Some(status) => panic!("{shown:?}: {status}"),
                None => assert!(!via.is_udp(), "{shown:?}: no answer"),
            }
        }
    }
}

fn what_we_echo_cannot_break_a_line_a04(database: Database) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    bob.register();
    for from in [
        "\"Bank%0d%0aX-Injected: y\" <sip:alice@hither.example>",
        "\"Bank\\\r\nX-Injected: y\" <sip:alice@hither.example>",
        "\"a\\\"b\\\\c\" <sip:alice@hither.example>",
        "<sip:alice%0d%0aX-Injected:%20y@hither.example>",
    ] {
        let mut alice = Phone::new(&server, "alice", Transport::Udp);
        let request = alice.message_request("bob", "x").set("From", &format!("{from};tag=i"));
        alice.send(&request);
        let challenge = alice.expect("an answer", |m| m.status().is_some());
        if challenge.status() != Some(407) {
            assert!(matches!(challenge.status(), Some(400 | 403)), "{from:?}:\n{challenge}");
            continue;
        }
        assert!(challenge.header("X-Injected").is_none(), "{challenge}");
        let header = alice.learn(&challenge);
        let mut request = alice.again(&request);
        alice.authorize(&mut request, header);
        alice.send(&request);
        // Refused, or forwarded in one piece; the parser of the phone fails on a broken line.
        let refused = alice.await_within(Duration::from_millis(300), |m| m.status().is_some());
        match refused.and_then(|m| m.status()) {
            Some(status) => assert!(matches!(status, 400 | 403), "{from:?}: {status}"),
            None => {
                let arrived = bob.expect_request("MESSAGE");
                assert!(arrived.header("X-Injected").is_none(), "{arrived}");
                bob.answer(&arrived, 200, "OK");
            }
        }
    }
}

fn oversize_is_refused_and_costs_no_memory_a05(database: Database) {
    let server = Server::start(database);
    let uri = format!("sip:{DOMAIN}");
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    assert_eq!(alice.options().status(), Some(200));
    let before = server.resident_kib();
    for factor in [1, 7] {
        for case in 0..9 {
            let mut phone = Phone::new(&server, "alice", Transport::Tcp);
            let mut request = phone.request("OPTIONS", &uri);
            request = match case {
                0 => request.header("X-Long", &"x".repeat(8200 * factor)),
                1 => (0..130 * factor).fold(request, |r, n| r.header(&format!("X-{n}"), "v")),
                2 => (0..65 * factor)
                    .fold(request, |r, n| r.header("Via", &format!("SIP/2.0/UDP h{n};branch=z9hG4bK{n}"))),
                3 => (0..33 * factor).fold(request, |r, n| r.header("Route", &format!("<sip:h{n};lr>"))),
                4 => (0..21 * factor).fold(request, |r, n| r.header("Contact", &format!("<sip:a@h{n}>"))),
                5 => request.aimed_at(&format!("sip:{}@{DOMAIN}", "u".repeat(2100 * factor))),
                6 => request.set("From", &format!("<sip:x@h>;tag={}", "t".repeat(257 * factor))),
                7 => request.set("Call-ID", &"c".repeat(257 * factor)),
                _ => request.body("text/plain", &vec![b'b'; 66_000 * factor]),
            };
            phone.send(&request);
            let response = phone.await_within(Duration::from_secs(3), |m| m.status().is_some());
            if let Some(response) = response {
                let status = response.status().unwrap_or(0);
                assert!((400..600).contains(&status), "case {case} times {factor}: {}", response.start);
            } else {
                assert!(
                    phone.is_closed_within(Duration::from_secs(3)),
                    "case {case} times {factor}: neither refused nor closed"
                );
            }
        }
    }
    let grown = server.resident_kib().saturating_sub(before);
    assert!(grown < 32 * 1024, "{grown} KiB more than before");
}

fn what_is_just_inside_the_limits_is_served_a05(database: Database, via: Transport) {
    let server = Server::start(database);
    let uri = format!("sip:{DOMAIN}");
    let mut phone = Phone::new(&server, "alice", via);
    for case in 0..4 {
        let request = phone.request("OPTIONS", &uri);
        let request = match case {
            0 => request.header("X-Long", &"x".repeat(8000)),
            1 => (0..110).fold(request, |r, n| r.header(&format!("X-{n}"), "v")),
            2 => request.set("Call-ID", &"c".repeat(255)),
            _ => request.body("text/plain", &vec![b'b'; 60_000]),
        };
        let response = phone.transact(&request);
        assert_eq!(response.status(), Some(200), "case {case}: {}", response.start);
    }
}

over_each_transport!(
    a_lying_content_length_is_refused_a01,
    doubled_content_length_is_refused_a02,
    doubled_singletons_are_refused_a02,
    smuggled_headers_are_one_thing_to_all_a03,
    what_is_just_inside_the_limits_is_served_a05,
);
on_each_database!(what_we_echo_cannot_break_a_line_a04, oversize_is_refused_and_costs_no_memory_a05);

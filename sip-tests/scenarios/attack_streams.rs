//! Streams that are cut, mixed, slow or many (A22, A23; RFC 3261 section 18.3).

use std::time::{Duration, Instant};

use crate::harness::message::param;
use crate::harness::{DOMAIN, Database, Phone, Server, Transport};

fn two_requests_in_one_segment_are_two_rfc3261_7_5(database: Database) {
    let server = Server::start(database);
    let mut phone = Phone::new(&server, "alice", Transport::Tcp);
    let first = phone.request("OPTIONS", &format!("sip:{DOMAIN}")).body("text/plain", b"\r\n\r\n");
    let second = phone.request("OPTIONS", &format!("sip:{DOMAIN}"));
    let bytes = [b"\r\n\r\n\r\n".to_vec(), first.bytes(), b"\r\n".to_vec(), second.bytes()].concat();
    phone.send_raw(&bytes);
    phone.expect_status(&first, 200);
    phone.expect_status(&second, 200);
}

fn a_request_cut_anywhere_is_one_rfc3261_7_5(database: Database) {
    let server = Server::start(database);
    let mut phone = Phone::new(&server, "alice", Transport::Tcp);
    let length = {
        let request = phone.request("OPTIONS", &format!("sip:{DOMAIN}")).body("text/plain", b"body");
        phone.send(&request);
        phone.expect_status(&request, 200);
        request.bytes().len()
    };
    for at in 1..length {
        let request = phone.request("OPTIONS", &format!("sip:{DOMAIN}")).body("text/plain", b"body");
        let bytes = request.bytes();
        let at = at.min(bytes.len() - 1);
        phone.send_raw(&bytes[..at]);
        phone.send_raw(&bytes[at..]);
        phone.expect_status(&request, 200);
    }
}

fn a_stream_message_without_length_is_refused_rfc3261_18_3(database: Database) {
    let server = Server::start(database);
    let mut phone = Phone::new(&server, "alice", Transport::Tcp);
    let request = phone.request("OPTIONS", &format!("sip:{DOMAIN}")).without_length();
    phone.send(&request);
    match phone.await_within(Duration::from_secs(3), |m| m.status().is_some()) {
        Some(response) => assert_eq!(response.status(), Some(400), "{response}"),
        None => assert!(phone.is_closed_within(Duration::from_secs(3))),
    }
}

fn garbage_closes_the_connection_a22(database: Database) {
    let server = Server::start(database);
    for garbage in
        [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00", &[b'A'; 70_000]]
    {
        let mut phone = Phone::new(&server, "alice", Transport::Tcp);
        phone.second_opinion = false;
        phone.send_raw(garbage);
        assert!(phone.is_closed_within(Duration::from_secs(8)), "{:?} was tolerated", &garbage[..7]);
    }
}

fn a_header_that_never_ends_is_cut_off_a22(database: Database) {
    let server = Server::start(database);
    let start = Instant::now();
    let mut slow: Vec<Phone> = (0..3).map(|_| Phone::new(&server, "alice", Transport::Tcp)).collect();
    slow[0].send_raw(b"OPTIONS sip:hither.example SIP/2.0\r\nVia: SIP/2.0/TCP x");
    slow[1].send_raw(b"O");
    let whole = slow[2].request("OPTIONS", &format!("sip:{DOMAIN}")).body("text/plain", &[b'b'; 100]).bytes();
    slow[2].send_raw(&whole[..whole.len() - 50]);
    // Others are served meanwhile.
    let mut honest = Phone::new(&server, "bob", Transport::Tcp);
    honest.register();
    for phone in &mut slow {
        assert!(phone.is_closed_within(Duration::from_secs(16)), "a slow connection was kept");
    }
    assert!(start.elapsed() < Duration::from_secs(17));
    assert_eq!(honest.fetch_contacts().len(), 1, "the registered connection stays");
}

fn many_idle_connections_keep_nobody_out_a22(database: Database) {
    let server = Server::start(database);
    let idle: Vec<Phone> = (0..400).map(|_| Phone::new(&server, "alice", Transport::Tcp)).collect();
    let start = Instant::now();
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    bob.register();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    drop(idle);
}

fn connections_cut_in_the_middle_leave_nothing_a23(database: Database) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    bob.register();
    bob.options();
    let before = server.resident_kib();
    for number in 0..100 {
        let mut alice = Phone::new(&server, "alice", Transport::Tcp);
        if number % 2 == 0 {
            let request = alice.subscribe_request("bob", "presence", 600);
            let response = alice.ask(request);
            assert!(matches!(response.status(), Some(200 | 403 | 503)), "{response}");
        } else {
            let request = alice.message_request("bob", "gone before the answer");
            alice.start(request);
            let arrived = bob.expect_request("MESSAGE");
            drop(alice);
            bob.answer(&arrived, 200, "OK");
        }
    }
    assert_eq!(bob.options().status(), Some(200));
    let grown = server.resident_kib().saturating_sub(before);
    assert!(grown < 24 * 1024, "{grown} KiB more");
}

fn a_closed_connection_takes_its_binding_along_rfc5626(database: Database) {
    let server = Server::with(database, |config| config.set("messaging.store", false));
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    // Reachable only over this connection, as a phone behind a NAT is.
    bob.register_contact("<sip:bob@192.168.77.5:5060;transport=tcp>", Some(600));
    drop(bob);
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if alice.ask_message("bob", "anyone there?").status() == Some(480) {
            break;
        }
    }
    assert!(Instant::now() < deadline, "still believed to be there");
    // The binding itself has a last grace of thirty seconds, in which the device may come back unnoticed.
    let left = Phone::new(&server, "bob", Transport::Udp).fetch_contacts();
    let left = left.first().and_then(|contact| param(contact, "expires")).and_then(|s| s.parse::<u32>().ok());
    assert!(left.is_none_or(|seconds| seconds <= 30), "{left:?}");
}

on_each_database!(
    two_requests_in_one_segment_are_two_rfc3261_7_5,
    a_request_cut_anywhere_is_one_rfc3261_7_5,
    a_stream_message_without_length_is_refused_rfc3261_18_3,
    garbage_closes_the_connection_a22,
    a_header_that_never_ends_is_cut_off_a22,
    many_idle_connections_keep_nobody_out_a22,
    connections_cut_in_the_middle_leave_nothing_a23,
    a_closed_connection_takes_its_binding_along_rfc5626,
);

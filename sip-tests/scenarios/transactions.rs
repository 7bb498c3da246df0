//! Transactions as peers see them: connections that go, requests that come twice, answers nobody asked for (RFC 3261 9, 17, 18).

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use crate::harness::phone::{aor, unique};
use crate::harness::{DEADLINE, DOMAIN, Database, Dialog, Phone, Request, Server, Transport};

/// A request with credentials, sent as if its sender listened at `sent_by`.
fn started_at(alice: &mut Phone, request: Request, sent_by: SocketAddr) -> Request {
    let challenge = alice.transact(&request);
    alice.learn(&challenge);
    let via = format!("SIP/2.0/TCP {sent_by};branch={}", unique("z9hG4bK"));
    let mut request = alice.again(&request).set("Via", &via);
    alice.authorize(&mut request, "Proxy-Authorization");
    alice.send(&request);
    request
}

/// Drops the phone, and gives the server time to see that its connection is gone.
fn hang_up(server: &Server, phone: Phone) {
    let ended = |server: &Server| server.log().matches("connection ended").count();
    let before = ended(server);
    drop(phone);
    let deadline = Instant::now() + DEADLINE;
    while ended(server) == before {
        assert!(Instant::now() < deadline, "the connection is not gone");
        std::thread::yield_now();
    }
}

/// What `hither status` says of this.
fn status(server: &Server, name: &str) -> u64 {
    let output = server.cli(&["status"], "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in\n{text}"))
}

fn a_response_whose_connection_is_gone_goes_to_the_port_of_its_via_rfc3261_18_2_2(database: Database) {
    let server = Server::start(database);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let sent_by = listener.local_addr().expect("an address");
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    bob.register();
    let invite = alice.invite_request("bob");
    let invite = started_at(&mut alice, invite, sent_by);
    let arrived = bob.expect_request("INVITE");
    bob.ring(&arrived);
    alice.expect_status(&invite, 180);
    hang_up(&server, alice);
    bob.pick_up(&arrived);
    let mut alice = Phone::accepted(&server, "alice", &listener);
    let ok = alice.expect_status(&invite, 200);
    // And the call is one.
    alice.ack(&invite, &Dialog::of_caller(&invite, &ok));
    bob.expect_request("ACK");
    assert_eq!(status(&server, "reconnected"), 1);
    // What comes next goes over the connection that there is now.
    let text = alice.message_request("bob", "hello");
    let text = started_at(&mut alice, text, sent_by);
    let arrived = bob.expect_request("MESSAGE");
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&text, 200);
}

fn a_response_whose_sender_is_gone_for_good_is_dropped_and_counted_rfc3261_18_2_2(database: Database) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    bob.register();
    // To a port of ours we do not connect, whoever writes it into a Via (A14).
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    let text = alice.message_request("bob", "hello");
    started_at(&mut alice, text, server.address(Transport::Tcp));
    let arrived = bob.expect_request("MESSAGE");
    hang_up(&server, alice);
    bob.answer(&arrived, 200, "OK");
    bob.options();
    assert_eq!((status(&server, "send_failed"), status(&server, "connections")), (1, 0));
}

/// What two requests are answered, whichever comes first.
fn both(phone: &mut Phone, first: &Request, second: &Request) -> [u16; 2] {
    let mut statuses = [first, second].map(|request| phone.expect_final(request).status().unwrap_or(0));
    statuses.sort_unstable();
    statuses
}

fn a_merged_request_is_done_once_rfc3261_8_2_2_2(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let contact = alice.contact();
    let register = alice.register_request().header("Contact", &contact);
    let challenge = alice.transact(&register);
    alice.learn(&challenge);
    let mut first = alice.again(&register);
    alice.authorize(&mut first, "Authorization");
    // The same request by another way: only its branch differs.
    let second = first.clone().set("Via", &alice.via());
    alice.send(&first);
    alice.send(&second);
    assert_eq!(both(&mut alice, &first, &second), [200, 401], "its nonce count is spent");
    assert_eq!(alice.fetch_contacts().len(), 1);
    let subscribe = alice.subscribe_request("bob", "presence", 600);
    let mut first = alice.again(&subscribe);
    alice.authorize(&mut first, "Authorization");
    let second = first.clone().set("Via", &alice.via());
    alice.send(&first);
    alice.send(&second);
    assert_eq!(both(&mut alice, &first, &second), [200, 401], "its nonce count is spent");
    let notify = alice.expect_request("NOTIFY");
    alice.answer(&notify, 200, "OK");
    alice.expect_nothing_more();
}

fn cancel_of_another_method_changes_nothing_rfc3261_9_2(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    bob.register();
    let message = alice.message("bob", "hello");
    let arrived = bob.expect_request("MESSAGE");
    let cancel = alice.cancel(&message);
    alice.expect_status(&cancel, 200);
    bob.expect_nothing_more();
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&message, 200);
}

fn cancel_that_crosses_the_answer_is_200_and_the_call_stands_rfc3261_9_2(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    bob.register();
    let invite = alice.invite("bob");
    let arrived = bob.expect_request("INVITE");
    bob.ring(&arrived);
    alice.expect_status(&invite, 180);
    bob.pick_up(&arrived);
    let ok = alice.expect_status(&invite, 200);
    let cancel = alice.cancel(&invite);
    alice.expect_status(&cancel, 200);
    alice.ack(&invite, &Dialog::of_caller(&invite, &ok));
    bob.expect_request("ACK");
    bob.expect_nothing_more();
}

fn cancel_before_anything_was_said_waits_for_it_rfc3261_9_1(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    bob.register();
    let invite = alice.invite("bob");
    let arrived = bob.expect_request("INVITE");
    let cancel = alice.cancel(&invite);
    alice.expect_status(&cancel, 200);
    bob.expect_nothing_more();
    bob.ring(&arrived);
    let cancelled = bob.expect_request("CANCEL");
    assert_eq!(cancelled.branch(), arrived.branch());
    bob.answer(&cancelled, 200, "OK");
    bob.answer(&arrived, 487, "Request Terminated");
    alice.expect_status(&invite, 487);
}

/// One run, on one database: it is about memory.
#[test]
fn a_hundred_thousand_invented_responses_change_nothing_a33() {
    let server = Server::start(Database::Sqlite);
    let here = server.address(Transport::Udp);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let mut eve = Phone::new(&server, "carol", Transport::Udp);
    bob.register();
    let invite = alice.invite("bob");
    let arrived = bob.expect_request("INVITE");
    bob.ring(&arrived);
    alice.expect_status(&invite, 180);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    let (known, call, from) = (arrived.branch(), arrived.call_id(), arrived.need("From"));
    let statuses = [100, 180, 200, 302, 408, 486, 503, 603];
    for round in 0..500_usize {
        for n in 0..200_usize {
            let status = statuses[(round + n) % statuses.len()];
            // Every tenth knows everything but where it would have to come from.
            let branch = if n % 10 == 0 { known.clone() } else { format!("z9hG4bK{round:x}{n:x}") };
            let method = if n % 3 == 1 { "CANCEL" } else { "INVITE" };
            let response = format!(
                "SIP/2.0 {status} Invented\r\nVia: SIP/2.0/UDP {here};branch={branch}\r\nFrom: {from}\r\nTo: <{}>;tag=eve{n}\r\n\
                 Call-ID: {call}\r\nCSeq: {} {method}\r\nContact: <sip:eve@{}>\r\nContent-Length: 0\r\n\r\n",
                aor("bob"),
                arrived.cseq(),
                eve.local,
            );
            socket.send_to(response.as_bytes(), here).expect("sent");
        }
        // So that no burst is larger than the server's buffer: what this very socket sent is read in order.
        let options = eve.request("OPTIONS", &format!("sip:{DOMAIN}"));
        socket.send_to(&options.bytes(), here).expect("sent");
        socket.recv(&mut [0; 2_000]).expect("an answer");
    }
    assert_eq!(status(&server, "stray_responses"), 100_000);
    alice.expect_nothing_more();
    bob.expect_nothing_more();
    bob.pick_up(&arrived);
    let ok = alice.expect_status(&invite, 200);
    alice.ack(&invite, &Dialog::of_caller(&invite, &ok));
    bob.expect_request("ACK");
}

/// Timers D and H are 32 s: one run, on one database.
#[test]
fn a_thousand_connections_killed_in_the_middle_leave_nothing_a23() {
    let server = Server::with(Database::Sqlite, |config| config.set("subscription.max_per_watcher", 1_000));
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    bob.register();
    for number in 0..1_000 {
        let mut alice = Phone::new(&server, "alice", Transport::Tcp);
        if number % 2 == 0 {
            let subscribe = alice.subscribe_request("bob", "presence", 600);
            let challenge = alice.transact(&subscribe);
            alice.learn(&challenge);
            let mut subscribe = alice.again(&subscribe);
            alice.authorize(&mut subscribe, "Authorization");
            alice.send(&subscribe);
        } else {
            alice.invite("bob");
            let arrived = bob.expect_request("INVITE");
            drop(alice);
            bob.answer(&arrived, 486, "Busy Here");
            bob.expect_request("ACK");
        }
    }
    let deadline = Instant::now() + Duration::from_secs(64);
    let names = ["connections", "subscriptions", "client_transactions", "server_transactions"];
    let left = || names.map(|name| status(&server, name));
    // The sockets and what hangs on them go at once.
    while left()[0] > 0 {
        assert!(Instant::now() < deadline, "{names:?}: {:?}", left());
    }
    while left() != [0; 4] {
        assert!(Instant::now() < deadline, "64*T1 twice are over: {names:?}: {:?}", left());
        bob.await_within(Duration::from_secs(2), |_| false);
    }
    let options = bob.request("OPTIONS", &format!("sip:{DOMAIN}"));
    assert_eq!(bob.transact(&options).status(), Some(200));
}

over_each_transport!(
    cancel_of_another_method_changes_nothing_rfc3261_9_2,
    cancel_that_crosses_the_answer_is_200_and_the_call_stands_rfc3261_9_2,
    cancel_before_anything_was_said_waits_for_it_rfc3261_9_1,
);
on_each_database!(
    a_response_whose_connection_is_gone_goes_to_the_port_of_its_via_rfc3261_18_2_2,
    a_response_whose_sender_is_gone_for_good_is_dropped_and_counted_rfc3261_18_2_2,
    a_merged_request_is_done_once_rfc3261_8_2_2_2,
);

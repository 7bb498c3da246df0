//! Where a request goes when names lead there (RFC 3263), and what names may not do to us (A28).

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Record, RecordType};

use crate::harness::names::{NameServer, Said, address, cname, naptr, srv};
use crate::harness::phone::aor;
use crate::harness::socket::has_ipv6;
use crate::harness::{Database, Phone, Request, Server, Transport};

/// A server that asks this name server.
fn asking(names: &NameServer, database: Database) -> Server {
    Server::with(database, |config| {
        names.serve(config);
        // What the servers said is what is looked at.
        config.set("messaging.store", false);
    })
}

/// Bob registers from behind a proxy of that name (RFC 3327).
fn behind(bob: &mut Phone, name: &str) {
    let contact = bob.contact();
    let register = bob.register_request().header("Contact", &contact);
    let register = register.header("Path", &format!("<sip:{name};lr>")).set("Supported", "path");
    let registered = bob.ask(register);
    assert_eq!(registered.status(), Some(200), "{registered}");
}

/// `edge.example` is two servers, `first` before `second`.
fn edge(transport: &str, first: u16, second: u16) -> Vec<Record> {
    let service = format!("_sip._{transport}.edge.example.");
    vec![
        srv(&service, 20, second, "b.edge.example."),
        srv(&service, 10, first, "a.edge.example."),
        address("a.edge.example.", Ipv4Addr::LOCALHOST),
        address("b.edge.example.", Ipv4Addr::LOCALHOST),
    ]
}

/// A name server for `edge.example` whose two ports are known later.
fn edge_later() -> (NameServer, Arc<OnceLock<(u16, u16)>>) {
    let ports: Arc<OnceLock<(u16, u16)>> = Arc::default();
    let known = ports.clone();
    let names = NameServer::start(move |_, _| {
        let (first, second) = *known.get().expect("asked after both are there");
        Said::Zone(edge("udp", first, second))
    });
    (names, ports)
}

/// Alice, Bob behind `edge.example`, and the two servers that it is.
fn two_edges(database: Database) -> (Server, NameServer, [Phone; 4]) {
    two_edges_with(database, |server| Phone::new(server, "carol", Transport::Udp))
}

fn two_edges_with(
    database: Database,
    first: impl FnOnce(&Server) -> Phone,
) -> (Server, NameServer, [Phone; 4]) {
    let (names, ports) = edge_later();
    let server = asking(&names, database);
    let alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let first = first(&server);
    let second = Phone::new(&server, "dave", Transport::Udp);
    ports.set((first.local.port(), second.local.port())).expect("once");
    behind(&mut bob, "edge.example");
    (server, names, [alice, bob, first, second])
}

/// A request to Bob that no datagram should carry.
fn large_invite(alice: &mut Phone) -> Request {
    alice.invite_request("bob").header("Subject", &"x".repeat(1_400))
}

/// A listener for connections at a port that is free for datagrams too.
fn free_for_both() -> (TcpListener, SocketAddr) {
    (0..100)
        .find_map(|_| {
            let listener = TcpListener::bind("127.0.0.1:0").ok()?;
            let address = listener.local_addr().ok()?;
            UdpSocket::bind(address).ok()?;
            Some((listener, address))
        })
        .expect("a port for both")
}

/// A port of this machine where nobody listens, while the test holds the socket.
fn closed_port() -> (UdpSocket, u16) {
    let held = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = held.local_addr().expect("an address").port();
    (held, port)
}

fn the_next_server_is_tried_after_503_and_the_failed_one_is_remembered_rfc3263_4_3(database: Database) {
    let (_server, _names, [mut alice, _, mut first, mut second]) = two_edges(database);
    let invite = alice.invite("bob");
    let at_first = first.expect_request("INVITE");
    first.answer(&at_first, 503, "Service Unavailable");
    let acked = first.expect_request("ACK");
    assert_eq!(acked.branch(), at_first.branch());
    let at_second = second.expect_request("INVITE");
    assert_ne!(at_second.branch(), at_first.branch(), "a transaction of its own (16.7 step 6)");
    assert_eq!((at_second.uri(), at_second.call_id()), (at_first.uri(), at_first.call_id()));
    second.answer(&at_second, 486, "Busy Here");
    alice.expect_status(&invite, 486);
    // The next call does not wait for the one that said no.
    let invite = alice.invite("bob");
    let at_second = second.expect_request("INVITE");
    second.answer(&at_second, 486, "Busy Here");
    alice.expect_status(&invite, 486);
    first.expect_nothing_more();
}

fn when_every_server_refuses_the_caller_is_told_rfc3261_16_7(database: Database) {
    let (_server, _names, [mut alice, _, mut first, mut second]) = two_edges(database);
    let message = alice.request("MESSAGE", &aor("bob")).body("text/plain", b"hello");
    let message = alice.start(message);
    for server in [&mut first, &mut second] {
        let arrived = server.expect_request("MESSAGE");
        server.answer(&arrived, 503, "Service Unavailable");
    }
    alice.expect_status(&message, 500);
}

fn any_other_answer_is_the_answer_rfc3263_4_3(database: Database) {
    let (_server, _names, [mut alice, _, mut first, mut second]) = two_edges(database);
    for status in [404, 500, 603] {
        let invite = alice.invite("bob");
        let arrived = first.expect_request("INVITE");
        first.answer(&arrived, status, "No");
        alice.expect_status(&invite, status);
    }
    second.expect_nothing_more();
}

fn the_next_server_is_tried_at_once_where_a_connection_is_refused_rfc3263_4_3(database: Database) {
    let (_held, closed) = closed_port();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let names = NameServer::of(edge("tcp", closed, listener.local_addr().expect("an address").port()));
    let server = asking(&names, database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    behind(&mut bob, "edge.example;transport=tcp");
    let message = alice.request("MESSAGE", &aor("bob")).body("text/plain", b"hello");
    let message = alice.start(message);
    let mut second = Phone::accepted(&server, "carol", &listener);
    let arrived = second.expect_request("MESSAGE");
    second.answer(&arrived, 200, "OK");
    alice.expect_status(&message, 200);
}

fn all_addresses_of_a_server_are_tried_ipv6_too_rfc7984_3_1(database: Database) {
    if !has_ipv6() {
        return;
    }
    // Nobody listens on that port of the IPv4 address, so the other family has its turn.
    let listener = TcpListener::bind("[::1]:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let names = NameServer::of(vec![
        address("both.example.", Ipv4Addr::new(127, 0, 0, 7)),
        address("both.example.", std::net::Ipv6Addr::LOCALHOST),
    ]);
    let server = asking(&names, database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    behind(&mut bob, &format!("both.example:{port};transport=tcp"));
    let message = alice.request("MESSAGE", &aor("bob")).body("text/plain", b"hello");
    let message = alice.start(message);
    let mut edge = Phone::accepted(&server, "carol", &listener);
    let arrived = edge.expect_request("MESSAGE");
    edge.answer(&arrived, 200, "OK");
    alice.expect_status(&message, 200);
}

fn cancel_and_ack_go_to_the_server_that_was_chosen_rfc3263_4_4(database: Database) {
    let (_server, _names, [mut alice, _, mut first, mut second]) = two_edges(database);
    let invite = alice.invite("bob");
    let arrived = first.expect_request("INVITE");
    first.ring(&arrived);
    alice.expect_status(&invite, 180);
    let cancel = alice.cancel(&invite);
    alice.expect_status(&cancel, 200);
    let cancelled = first.expect_request("CANCEL");
    first.answer(&cancelled, 200, "OK");
    first.answer(&arrived, 487, "Request Terminated");
    let acked = first.expect_request("ACK");
    assert_eq!((cancelled.branch(), acked.branch()), (arrived.branch(), arrived.branch()));
    alice.expect_status(&invite, 487);
    second.expect_nothing_more();
}

fn retransmissions_go_to_the_server_that_was_chosen_rfc3263_4_4(database: Database) {
    let (_server, _names, [mut alice, _, mut first, mut second]) = two_edges(database);
    first.show_retransmissions = true;
    let message = alice.request("MESSAGE", &aor("bob")).body("text/plain", b"hello");
    let message = alice.start(message);
    let arrived = first.expect_request("MESSAGE");
    let again = first.expect_request("MESSAGE");
    assert_eq!(again.branch(), arrived.branch());
    first.answer(&again, 200, "OK");
    alice.expect_status(&message, 200);
    second.expect_nothing_more();
}

fn a_large_request_goes_over_tcp_and_a_small_one_does_not_rfc3261_18_1_1(database: Database) {
    let (listener, address) = free_for_both();
    let (server, _names, [mut alice, _, mut first, _]) =
        two_edges_with(database, |server| Phone::at(server, "carol", address));
    let large = large_invite(&mut alice);
    let large = alice.start(large);
    let mut stream = Phone::accepted(&server, "carol", &listener);
    let arrived = stream.expect_request("INVITE");
    assert!(arrived.list("Via")[0].starts_with("SIP/2.0/TCP "), "{arrived}");
    stream.answer(&arrived, 486, "Busy Here");
    alice.expect_status(&large, 486);
    stream.expect_request("ACK");
    // A text too, which over UDP would be refused (RFC 3428 8).
    let text = alice.request("MESSAGE", &aor("bob")).body("text/plain", &[b'x'; 1_400]);
    let text = alice.start(text);
    let arrived = stream.expect_request("MESSAGE");
    stream.answer(&arrived, 200, "OK");
    alice.expect_status(&text, 200);
    first.expect_nothing_more();
    let small = alice.invite("bob");
    let arrived = first.expect_request("INVITE");
    assert!(arrived.list("Via")[0].starts_with("SIP/2.0/UDP "), "{arrived}");
    first.answer(&arrived, 486, "Busy Here");
    alice.expect_status(&small, 486);
}

fn a_large_request_goes_over_udp_where_tcp_is_refused_rfc3261_18_1_1(database: Database) {
    let (_server, _names, [mut alice, _, mut first, mut second]) = two_edges(database);
    let large = large_invite(&mut alice);
    let large = alice.start(large);
    let arrived = first.expect_request("INVITE");
    assert!(arrived.list("Via")[0].starts_with("SIP/2.0/UDP "), "{arrived}");
    assert!(arrived.raw.len() > 1_300);
    first.answer(&arrived, 486, "Busy Here");
    alice.expect_status(&large, 486);
    // Nobody is thought to be gone for that.
    let small = alice.invite("bob");
    let arrived = first.expect_request("INVITE");
    first.answer(&arrived, 486, "Busy Here");
    alice.expect_status(&small, 486);
    second.expect_nothing_more();
}

fn that_a_name_does_not_exist_is_remembered_rfc2308_5(database: Database) {
    let names = NameServer::of(Vec::new());
    let server = asking(&names, database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    behind(&mut bob, "nowhere.example");
    assert_eq!(alice.ask_message("bob", "hello").status(), Some(500));
    let asked = names.asked();
    assert!(asked > 0);
    assert_eq!(alice.ask_message("bob", "hello").status(), Some(500));
    assert_eq!(names.asked(), asked, "asked once");
}

/// What a hostile zone says. `bystander`: where nobody wants to hear from us; `own`: the server's own port.
fn hostile(name: &str, kind: RecordType, bystander: SocketAddr, own: u16) -> Said {
    let zone = name.trim_end_matches(".example.").rsplit('.').next().unwrap_or_default();
    let records = match zone {
        "silent" => return Said::Silence,
        "broken" => return Said::Error(ResponseCode::ServFail),
        "refusing" => return Said::Error(ResponseCode::Refused),
        "garbage" => return Said::Bytes(vec![0xff; 300]),
        "forged" => return Said::Forged(vec![address(name, bystander.ip())]),
        "circle" => vec![cname(name, "a.circle.example."), cname("a.circle.example.", name)],
        "endless" => {
            let further = format!("x{}", name.chars().take(200).collect::<String>());
            vec![cname(name, &format!("{}.endless.example.", further.split('.').next().unwrap_or("x")))]
        }
        "huge" if kind == RecordType::A => {
            (0..3_000_u32).map(|n| address(name, Ipv4Addr::from_bits(0xa9fe_0000 + n))).collect()
        }
        "many" if kind == RecordType::SRV => {
            (0..500).map(|n| srv(name, 1, 5060, &format!("t{n}.silent.example."))).collect()
        }
        "own" if kind == RecordType::SRV => vec![srv(name, 1, own, "localhost.example.")],
        "localhost" if kind == RecordType::A => vec![address(name, Ipv4Addr::LOCALHOST)],
        "nothing" if kind == RecordType::SRV => vec![srv(name, 0, 5060, "."), srv(name, 0, 0, name)],
        "bystander" => {
            vec![address(name, bystander.ip()), address(name, Ipv4Addr::new(127, 0, 0, 9).to_ipv6_mapped())]
        }
        "nowhere" => vec![
            address(name, Ipv4Addr::UNSPECIFIED),
            address(name, Ipv4Addr::new(169, 254, 169, 254)),
            address(name, Ipv4Addr::new(224, 0, 1, 75)),
            address(name, std::net::Ipv6Addr::UNSPECIFIED),
        ],
        "rewriting" if kind == RecordType::NAPTR => {
            let elsewhere = format!("!^.*$!sip:x@{bystander}!");
            vec![naptr(name, "u", "SIP+D2U", &elsewhere, "."), naptr(name, "s", "SIP+D2U", "", name)]
        }
        _ => return Said::Zone(Vec::new()),
    };
    let asked = |record: &Record| record.record_type() == kind || record.record_type() == RecordType::CNAME;
    Said::Records(records.into_iter().filter(asked).collect())
}

fn hostile_zones_cost_an_answer_in_time_and_nobody_a_packet_a28(database: Database) {
    let bystander = UdpSocket::bind("127.0.0.9:0").expect("a port");
    bystander.set_nonblocking(true).expect("non-blocking");
    let aimed_at = bystander.local_addr().expect("an address");
    let own: Arc<OnceLock<u16>> = Arc::default();
    let known = own.clone();
    let names =
        NameServer::start(move |name, kind| hostile(name, kind, aimed_at, known.get().copied().unwrap_or(1)));
    let server = Server::with(database, |config| {
        config.set("messaging.store", false);
        names.serve(config);
        config.set("contact.deny", vec!["127.0.0.9/32"]);
    });
    own.set(server.address(Transport::Udp).port()).expect("once");
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let (before, port) = (server.cpu(), aimed_at.port());
    let mut sent = Vec::new();
    for zone in [
        "silent",
        "broken",
        "refusing",
        "garbage",
        "forged",
        "circle",
        "endless",
        "huge",
        "many",
        "own",
        "nothing",
        "bystander",
        "nowhere",
        "rewriting",
        "none",
    ] {
        for port in ["", &format!(":{port}")] {
            behind(&mut bob, &format!("{zone}.example{port}"));
            let message = alice.request("MESSAGE", &aor("bob")).body("text/plain", b"hello");
            let message = alice.start(message);
            sent.push((zone, message, Instant::now()));
        }
    }
    for (zone, message, at) in sent {
        let answer = alice.expect_final(&message);
        assert!(answer.status().is_some_and(|status| status >= 400), "{zone}: {answer}");
        assert!(at.elapsed() < Duration::from_secs(4), "{zone}: {:?}", at.elapsed());
    }
    let spent = server.cpu() - before;
    assert!(spent < Duration::from_secs(3), "{spent:?} of processor time");
    let mut buffer = [0; 2_048];
    assert!(bystander.recv_from(&mut buffer).is_err(), "a bystander heard from us");
    bob.expect_nothing_more();
}

/// Timer B is 32 s, and there is no way to hurry it: one run, on one database.
#[test]
fn the_next_server_is_tried_when_nobody_answers_rfc3263_4_3() {
    let (_server, _names, [mut alice, _, mut first, mut second]) = two_edges(Database::Sqlite);
    let invite = alice.invite("bob");
    let at_first = first.expect_request("INVITE");
    let at_second = second
        .await_within(Duration::from_secs(40), |message| message.is_request("INVITE"))
        .expect("the other server has its turn");
    assert_ne!(at_second.branch(), at_first.branch());
    second.pick_up(&at_second);
    alice.expect_status(&invite, 200);
    // Who did not answer is not waited for again.
    alice.invite("bob");
    second.expect_request("INVITE");
    first.expect_nothing_more();
}

on_each_database!(
    the_next_server_is_tried_after_503_and_the_failed_one_is_remembered_rfc3263_4_3,
    when_every_server_refuses_the_caller_is_told_rfc3261_16_7,
    any_other_answer_is_the_answer_rfc3263_4_3,
    the_next_server_is_tried_at_once_where_a_connection_is_refused_rfc3263_4_3,
    all_addresses_of_a_server_are_tried_ipv6_too_rfc7984_3_1,
    cancel_and_ack_go_to_the_server_that_was_chosen_rfc3263_4_4,
    retransmissions_go_to_the_server_that_was_chosen_rfc3263_4_4,
    a_large_request_goes_over_tcp_and_a_small_one_does_not_rfc3261_18_1_1,
    a_large_request_goes_over_udp_where_tcp_is_refused_rfc3261_18_1_1,
    that_a_name_does_not_exist_is_remembered_rfc2308_5,
    hostile_zones_cost_an_answer_in_time_and_nobody_a_packet_a28,
);

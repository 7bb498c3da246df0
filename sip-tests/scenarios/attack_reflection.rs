//! The server as a weapon against others (A15, A16, A24).

use std::net::UdpSocket;
use std::time::Duration;

use crate::harness::phone::aor;
use crate::harness::{DOMAIN, Database, Phone, Request, Server, Transport};

/// Somebody on this host who never asked for anything.
fn bystander() -> UdpSocket {
    bystander_at("127.0.0.1:0")
}

fn bystander_at(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).expect("a port");
    socket.set_nonblocking(true).expect("non-blocking");
    socket
}

fn assert_untouched(bystander: &UdpSocket) {
    let mut buffer = [0; 2048];
    if let Ok((length, from)) = bystander.recv_from(&mut buffer) {
        panic!("{from} sent to a bystander: {}", String::from_utf8_lossy(&buffer[..length]));
    }
}

/// The methods an outsider may try, each as a whole request of about 600 bytes.
fn outsiders_requests(phone: &mut Phone, contact: &str) -> Vec<Request> {
    ["REGISTER", "SUBSCRIBE", "PUBLISH", "MESSAGE", "INVITE", "OPTIONS", "NOTIFY", "BYE", "FOO"]
        .into_iter()
        .map(|method| {
            let uri = if method == "REGISTER" { format!("sip:{DOMAIN}") } else { aor("bob") };
            let request = phone
                .request(method, &uri)
                .header("Contact", &format!("<{contact}>"))
                .header("Event", "presence");
            let missing = 600usize.saturating_sub(request.bytes().len() + "Subject: \r\n".len());
            request.header("Subject", &"s".repeat(missing))
        })
        .collect()
}

fn an_unverified_source_gets_no_more_than_it_sends_a15(database: Database) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    bob.register();
    let mut stranger = Phone::new(&server, "nobody", Transport::Udp);
    stranger.show_retransmissions = true;
    let contact = stranger.contact_uri();
    for request in outsiders_requests(&mut stranger, &contact) {
        stranger.send(&request);
        let sent = request.bytes().len();
        let response = stranger.expect("an answer", |m| m.status().is_some());
        assert!(
            response.status().is_some_and(|status| status >= 200),
            "no provisional before the credentials:\n{response}"
        );
        assert!(
            response.raw.len() <= sent,
            "{}: {} bytes for {sent}:\n{response}",
            request.method,
            response.raw.len()
        );
        stranger.expect_nothing_more();
    }
}

fn a_short_request_is_not_amplified_much_a15(database: Database) {
    let server = Server::start(database);
    let mut stranger = Phone::new(&server, "nobody", Transport::Udp);
    for method in ["REGISTER", "SUBSCRIBE", "MESSAGE", "OPTIONS"] {
        let request = stranger.request(method, &format!("sip:{DOMAIN}"));
        stranger.send(&request);
        // Too short to be real may also be dropped.
        let Some(response) = stranger.await_within(Duration::from_millis(300), |m| m.status().is_some())
        else {
            continue;
        };
        let (sent, got) = (request.bytes().len(), response.raw.len());
        assert!(got * 2 <= sent * 3, "{method}: {got} bytes for {sent}:\n{response}");
    }
}

fn a_challenge_is_sent_once_rfc3261_26_3_2_4(database: Database) {
    let server = Server::start(database);
    let mut stranger = Phone::new(&server, "nobody", Transport::Udp);
    stranger.show_retransmissions = true;
    let request = stranger.invite_request("bob");
    stranger.send(&request);
    let challenge = stranger.expect("407", |m| m.status() == Some(407));
    // No ACK: a stateful answer would come again after half a second.
    let again = stranger.await_within(Duration::from_millis(1200), |m| m.status() == Some(407));
    assert!(again.is_none(), "stateless until the credentials are right");
    stranger.send(&request);
    let same = stranger.expect("407", |m| m.status() == Some(407));
    assert_eq!(challenge.to_tag(), same.to_tag(), "RFC 3261 8.2.7");
}

fn responses_go_to_the_source_only_a15(database: Database) {
    let server = Server::start(database);
    let victim = bystander_at("127.0.0.2:0");
    let mut stranger = Phone::new(&server, "nobody", Transport::Udp);
    let address = victim.local_addr().expect("address");
    // Without rport the port is the one in Via (RFC 3261 18.2.2), the host never.
    for suffix in
        ["", ";rport", &format!(";maddr={};ttl=1", address.ip()), &format!(";received={}", address.ip())]
    {
        let via = format!("SIP/2.0/UDP {address};branch=z9hG4bKspoof{}{suffix}", suffix.len());
        let request = stranger.request("OPTIONS", &format!("sip:{DOMAIN}")).set("Via", &via);
        stranger.send(&request);
        // The answer may be withheld; it may not go elsewhere.
        stranger.options();
        assert_untouched(&victim);
    }
}

fn an_unauthenticated_subscribe_wakes_nobody_a16(database: Database) {
    let server = Server::start(database);
    let victim = bystander();
    let contact = format!("sip:x@{}", victim.local_addr().expect("address"));
    let mut stranger = Phone::new(&server, "nobody", Transport::Udp);
    for request in outsiders_requests(&mut stranger, &contact) {
        stranger.send(&request);
        stranger.expect("an answer", |m| m.status().is_some());
    }
    stranger.expect_nothing_more();
    assert_untouched(&victim);
}

fn an_authenticated_subscribe_cannot_aim_elsewhere_a16(database: Database) {
    let server = Server::start(database);
    let victim = bystander();
    let contact = format!("<sip:x@{}>", victim.local_addr().expect("address"));
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let request = alice.subscribe_request("bob", "presence", 600).set("Contact", &contact);
    let response = alice.ask(request);
    if response.status() == Some(200) {
        // Accepted: then the NOTIFY comes to where the SUBSCRIBE came from.
        alice.expect_request("NOTIFY");
    }
    alice.options();
    assert_untouched(&victim);
}

fn a_registered_contact_elsewhere_is_not_a_cannon_a14(database: Database) {
    let server = Server::start(database);
    let victim = bystander();
    let address = victim.local_addr().expect("address");
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    for contact in [
        format!("<sip:bob@{address}>"),
        format!("<sip:bob@{address};maddr={}>", address.ip()),
        format!("<sip:bob@2130706433:{}>", address.port()),
        format!("<sip:bob@[::ffff:127.0.0.1]:{}>", address.port()),
        format!("<sip:bob@0.0.0.0:{}>", address.port()),
        format!("<sip:bob@{}?Route=%3Csip:{address}%3E>", bob.local),
    ] {
        let request = bob.register_request().header("Contact", &contact).header("Expires", "600");
        let response = bob.ask(request);
        if response.status() == Some(200) {
            let request = alice.message("bob", "boom");
            // It may reach bob's own phone, at his source; it may be refused.
            if let Some(arrived) = bob.await_within(Duration::from_millis(300), |m| m.is_request("MESSAGE")) {
                bob.answer(&arrived, 200, "OK");
            }
            alice.await_within(Duration::from_millis(300), |m| {
                m.branch() == request.branch() && m.status().is_some()
            });
            bob.register_contact("*", Some(0));
        }
        assert_untouched(&victim);
    }
}

fn junk_is_dropped_and_nothing_is_said_a15(database: Database) {
    let server = Server::start(database);
    let mut stranger = Phone::new(&server, "nobody", Transport::Udp);
    let oversized = vec![b'A'; 60_000];
    for junk in [
        &b"x"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"SIP/2.0 200 OK\r\n\r\n",
        b"\xff\xfe\xfd",
        b"REGISTER",
        &oversized,
    ] {
        stranger.send_raw(junk);
    }
    assert_eq!(stranger.options().status(), Some(200));
}

fn challenges_keep_no_state_a24(database: Database) {
    let server = Server::start(database);
    let mut stranger = Phone::new(&server, "nobody", Transport::Udp);
    stranger.options();
    let before = server.resident_kib();
    for _ in 0..5000 {
        let request = stranger.subscribe_request("bob", "presence", 600);
        stranger.send(&request);
        stranger.await_within(Duration::from_secs(1), |m| m.status().is_some());
    }
    let grown = server.resident_kib().saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB for five thousand strangers");
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    alice.register();
}

on_each_database!(
    an_unverified_source_gets_no_more_than_it_sends_a15,
    a_short_request_is_not_amplified_much_a15,
    a_challenge_is_sent_once_rfc3261_26_3_2_4,
    responses_go_to_the_source_only_a15,
    an_unauthenticated_subscribe_wakes_nobody_a16,
    an_authenticated_subscribe_cannot_aim_elsewhere_a16,
    a_registered_contact_elsewhere_is_not_a_cannon_a14,
    junk_is_dropped_and_nothing_is_said_a15,
    challenges_keep_no_state_a24,
);

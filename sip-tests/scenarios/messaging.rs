//! MESSAGE in pager mode, relayed (RFC 3428).

use crate::harness::documents::cpim;
use crate::harness::message::tag;
use crate::harness::phone::{aor, user_of};
use crate::harness::{DOMAIN, Database, Phone, Server, Transport};

/// Relays one body and compares what arrives, byte for byte; answers 200.
fn relay(alice: &mut Phone, bob: &mut Phone, content_type: &str, body: &[u8]) {
    let request = alice.request("MESSAGE", &aor("bob")).body(content_type, body);
    let request = alice.start(request);
    let arrived = bob.expect_request("MESSAGE");
    assert_eq!(arrived.body, body, "byte for byte");
    assert_eq!(arrived.need("Content-Type"), content_type);
    bob.answer(&arrived, 200, "OK");
    let response = alice.expect_status(&request, 200);
    assert!(response.body.is_empty() && response.header("Contact").is_none(), "{response}");
}

fn bodies_are_relayed_byte_for_byte_rfc3428_7(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    // A body of any bytes is beyond what the second parser takes for text.
    bob.second_opinion = false;
    bob.register();
    relay(&mut alice, &mut bob, "text/plain", b"hello");
    relay(&mut alice, &mut bob, "text/plain;charset=utf-8", "Grüße, 世界 \u{1f44b}\u{202e}".as_bytes());
    relay(&mut alice, &mut bob, "message/cpim", cpim("alice", "bob", "Grüße").as_bytes());
    let every_byte: Vec<u8> = (0..=255).collect();
    relay(&mut alice, &mut bob, "application/octet-stream", &every_byte);
    relay(&mut alice, &mut bob, "application/pkcs7-mime;smime-type=enveloped-data", &every_byte);
    relay(&mut alice, &mut bob, "text/plain", b"\r\n\r\nSIP/2.0 200 OK\r\n\r\n");
    relay(&mut alice, &mut bob, "text/plain", b"");
}

fn a_text_reaches_its_reader_as_it_was_sent_rfc3261_16_6(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    bob.register();
    let request = alice
        .message_request("bob", "hello")
        .header("X-Unknown", "kept, as it is")
        .header("Subject", "a subject")
        .header("X-Unknown", "and in order");
    let request = alice.start(request);
    let arrived = bob.expect_request("MESSAGE");
    assert_eq!(arrived.uri(), bob.contact_uri(), "{arrived}");
    assert_eq!(arrived.rows("X-Unknown"), ["kept, as it is", "and in order"], "{arrived}");
    assert_eq!(arrived.need("Subject"), "a subject");
    assert_eq!(arrived.need("Max-Forwards"), "69", "{arrived}");
    assert_eq!(arrived.call_id(), request.call_id());
    assert_eq!(arrived.tag_in_from(), tag(request.get("From")));
    assert_eq!(user_of(arrived.need("From")), "alice");
    assert_eq!(arrived.to_tag(), None, "{arrived}");
    assert_eq!(arrived.list("Via").len(), 2, "{arrived}");
    assert!(arrived.branch().starts_with("z9hG4bK"), "{arrived}");
    assert!(
        arrived.header("Proxy-Authorization").is_none(),
        "credentials for our realm go no further:\n{arrived}"
    );
    assert!(arrived.header("Contact").is_none(), "{arrived}");
    bob.answer_with(&arrived, arrived.reply(200, "OK").header("X-Answer", "kept too"));
    let response = alice.expect_status(&request, 200);
    assert_eq!(response.need("X-Answer"), "kept too");
    assert_eq!(response.list("Via").len(), 1, "{response}");
}

fn transports_are_crossed_rfc3261_18(database: Database) {
    let server = Server::start(database);
    let mut transports = vec![Transport::Udp, Transport::Tcp];
    if crate::harness::socket::has_ipv6() {
        transports.extend([Transport::Udp6, Transport::Tcp6]);
    }
    for from in &transports {
        for to in &transports {
            let mut alice = Phone::new(&server, "alice", *from);
            let mut bob = Phone::new(&server, "bob", *to);
            bob.register();
            let request = alice.message("bob", &format!("{from:?} to {to:?}"));
            let arrived = bob.expect_request("MESSAGE");
            assert!(arrived.need("Via").contains(to.token()), "{arrived}");
            bob.answer(&arrived, 200, "OK");
            alice.expect_status(&request, 200);
            bob.register_contact("*", Some(0));
        }
    }
}

fn every_device_gets_it_and_one_answer_comes_rfc3428_6(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut desk = Phone::new(&server, "bob", via);
    let mut mobile = Phone::new(&server, "bob", Transport::Udp);
    desk.register();
    mobile.register();
    let request = alice.message("bob", "to both");
    let at_desk = desk.expect_request("MESSAGE");
    let at_mobile = mobile.expect_request("MESSAGE");
    assert_eq!(at_desk.body, b"to both");
    assert_eq!(at_mobile.body, b"to both");
    assert_ne!(at_desk.branch(), at_mobile.branch());
    mobile.answer(&at_mobile, 200, "OK");
    alice.expect_status(&request, 200);
    desk.answer(&at_desk, 200, "OK");
    alice.expect_nothing_more();
}

fn known_without_device_is_480_unknown_is_404_rfc3261_16_5(database: Database, via: Transport) {
    // What becomes of it where messages are stored is told in `messaging_store`.
    let server = Server::with(database, |config| config.set("messaging.store", false));
    let mut alice = Phone::new(&server, "alice", via);
    assert_eq!(alice.ask_message("bob", "anyone?").status(), Some(480));
    assert_eq!(alice.ask_message("zoe", "anyone?").status(), Some(404));
    assert_eq!(alice.ask_message("Bob", "the user part is case-sensitive").status(), Some(404));
}

fn an_escaped_user_is_the_same_user_rfc3261_19_1_2(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    bob.register();
    let uri = format!("sip:%62ob@{}", DOMAIN.to_ascii_uppercase());
    let request = alice.message_request("bob", "escaped").aimed_at(&uri);
    let request = alice.start(request);
    let arrived = bob.expect_request("MESSAGE");
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&request, 200);
}

fn a_refusal_comes_back_as_it_is_rfc3261_16_7(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    bob.register();
    for (status, reason) in [(415, "Unsupported Media Type"), (486, "Busy Here"), (603, "Decline")] {
        let request = alice.message("bob", "take it");
        let arrived = bob.expect_request("MESSAGE");
        bob.answer(&arrived, status, reason);
        let response = alice.expect_status(&request, status);
        assert!(response.start.ends_with(reason), "{response}");
    }
}

fn a_from_of_someone_else_is_403_a18(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", via);
    let mut carol = Phone::new(&server, "carol", via);
    carol.register();
    for from in [aor("alice"), "sip:bob@elsewhere.example".into(), format!("sip:bob%00@{DOMAIN}")] {
        let request = bob.message_request("carol", "send money").set("From", &format!("<{from}>;tag=forged"));
        let response = bob.ask(request);
        assert!(matches!(response.status(), Some(400 | 403)), "{from}:\n{response}");
    }
    carol.expect_nothing_more();
}

fn a_retransmitted_text_arrives_once_rfc3261_17_2_2(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    bob.register();
    bob.show_retransmissions = true;
    let request = alice.message("bob", "once");
    let arrived = bob.expect_request("MESSAGE");
    alice.send(&request);
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&request, 200);
    alice.send(&request);
    bob.expect_nothing_more();
}

fn a_long_text_does_not_go_over_udp_rfc3428_8(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    bob.register();
    let response = alice.ask_message("bob", &"x".repeat(4000));
    assert!(matches!(response.status(), Some(413 | 513)), "{response}");
    bob.expect_nothing_more();
    let mut reliable = Phone::new(&server, "bob", Transport::Tcp);
    reliable.register();
    bob.register_contact(&format!("{};expires=0", bob.contact()), None);
    let text = "y".repeat(20_000);
    let request = alice.message("bob", &text);
    let arrived = reliable.expect_request("MESSAGE");
    assert_eq!(arrived.body, text.as_bytes());
    reliable.answer(&arrived, 200, "OK");
    alice.expect_status(&request, 200);
}

fn a_phone_behind_a_wrong_contact_is_reached_where_it_is_rfc5626_5_3(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", via);
    // What a phone behind a NAT, or a browser, writes into its Contact.
    bob.register_contact(&format!("<sip:bob@192.168.77.5:5060{}>", via.parameter()), Some(600));
    let request = alice.message("bob", "through the NAT");
    let arrived = bob.expect_request("MESSAGE");
    assert_eq!(arrived.uri(), format!("sip:bob@192.168.77.5:5060{}", via.parameter()), "{arrived}");
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&request, 200);
}

over_each_transport!(
    bodies_are_relayed_byte_for_byte_rfc3428_7,
    a_text_reaches_its_reader_as_it_was_sent_rfc3261_16_6,
    every_device_gets_it_and_one_answer_comes_rfc3428_6,
    known_without_device_is_480_unknown_is_404_rfc3261_16_5,
    a_refusal_comes_back_as_it_is_rfc3261_16_7,
    a_from_of_someone_else_is_403_a18,
    a_phone_behind_a_wrong_contact_is_reached_where_it_is_rfc5626_5_3,
);
on_each_database!(
    transports_are_crossed_rfc3261_18,
    an_escaped_user_is_the_same_user_rfc3261_19_1_2,
    a_retransmitted_text_arrives_once_rfc3261_17_2_2,
    a_long_text_does_not_go_over_udp_rfc3428_8,
);

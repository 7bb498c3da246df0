//! Calls through the proxy, one caller and one callee (RFC 3261 section 16).

use crate::harness::call::connect;
use crate::harness::message::uri_of;
use crate::harness::{Database, Dialog, Phone, Server, Transport};

fn pair(server: &Server, via: Transport) -> (Phone, Phone) {
    let mut alice = Phone::new(server, "alice", via);
    let mut bob = Phone::new(server, "bob", via);
    alice.register();
    bob.register();
    (alice, bob)
}

/// Sends a request in a dialog from one phone to the other; no challenge may come.
fn exchange(from: &mut Phone, dialog: &Dialog, to: &mut Phone, method: &str) {
    let request = from.in_dialog(dialog, method);
    from.send(&request);
    let arrived = to.expect_request(method);
    assert_eq!(arrived.uri(), to.contact_uri(), "the remote target:\n{arrived}");
    assert!(arrived.rows("Route").is_empty(), "our Route is taken off:\n{arrived}");
    to.answer(&arrived, 200, "OK");
    from.expect_status(&request, 200);
}

fn a_call_is_made_and_ended_rfc3261_16(database: Database, via: Transport) {
    let server = Server::start(database);
    let (mut alice, mut bob) = pair(&server, via);
    let (caller, callee) = connect(&mut alice, &mut bob);
    assert!(!caller.route.is_empty(), "the proxy stays in the path");
    assert!(
        caller.route.iter().chain(&callee.route).all(|route| uri_of(route).contains(";lr")),
        "{caller:?}"
    );
    exchange(&mut alice, &caller, &mut bob, "INFO");
    exchange(&mut bob, &callee, &mut alice, "INFO");
    exchange(&mut alice, &caller, &mut bob, "BYE");
    alice.expect_nothing_more();
    bob.expect_nothing_more();
}

fn the_callee_may_hang_up_rfc3261_15(database: Database, via: Transport) {
    let server = Server::start(database);
    let (mut alice, mut bob) = pair(&server, via);
    let (_, callee) = connect(&mut alice, &mut bob);
    exchange(&mut bob, &callee, &mut alice, "BYE");
}

fn a_call_crosses_transports_rfc3261_16(database: Database) {
    let server = Server::start(database);
    for (from, to) in [(Transport::Udp, Transport::Tcp), (Transport::Tcp, Transport::Udp)] {
        let mut alice = Phone::new(&server, "alice", from);
        let mut bob = Phone::new(&server, "bob", to);
        alice.register_contact("*", Some(0));
        bob.register_contact("*", Some(0));
        alice.register();
        bob.register();
        let (caller, callee) = connect(&mut alice, &mut bob);
        exchange(&mut bob, &callee, &mut alice, "INFO");
        exchange(&mut alice, &caller, &mut bob, "BYE");
    }
}

fn a_reinvite_passes_both_ways_rfc3261_14(database: Database, via: Transport) {
    let server = Server::start(database);
    let (mut alice, mut bob) = pair(&server, via);
    let (caller, callee) = connect(&mut alice, &mut bob);
    let request = alice.in_dialog(&caller, "INVITE").body("application/sdp", b"v=0\r\n");
    alice.send(&request);
    let arrived = bob.expect_request("INVITE");
    assert_eq!(arrived.body, b"v=0\r\n");
    bob.pick_up(&arrived);
    alice.expect_status(&request, 200);
    alice.ack(&request, &caller);
    let ack = bob.expect_request("ACK");
    assert_eq!(ack.cseq(), request.cseq());
    let request = bob.in_dialog(&callee, "INVITE").body("application/sdp", b"v=0\r\n");
    bob.send(&request);
    let arrived = alice.expect_request("INVITE");
    alice.pick_up(&arrived);
    bob.expect_status(&request, 200);
    bob.ack(&request, &callee);
    alice.expect_request("ACK");
    exchange(&mut alice, &caller, &mut bob, "BYE");
}

fn the_invite_arrives_as_it_was_sent_rfc3261_16_6(database: Database, via: Transport) {
    let server = Server::start(database);
    let (mut alice, mut bob) = pair(&server, via);
    let request = alice.invite_request("bob").header("X-Unknown", "kept").header("Require", "whatever");
    let invite = alice.start(request);
    let arrived = bob.expect_request("INVITE");
    assert_eq!(arrived.uri(), bob.contact_uri());
    assert_eq!(arrived.body, invite.body);
    assert_eq!(arrived.need("X-Unknown"), "kept");
    assert_eq!(arrived.need("Require"), "whatever", "Require is the callee's business");
    assert_eq!(arrived.need("Max-Forwards"), "69");
    assert_eq!(arrived.contact_uri(), alice.contact_uri(), "{arrived}");
    assert!(arrived.header("Proxy-Authorization").is_none(), "{arrived}");
    assert!(!arrived.list("Record-Route").is_empty(), "{arrived}");
    bob.answer(&arrived, 486, "Busy Here");
    alice.expect_status(&invite, 486);
}

fn trying_comes_at_once_and_is_not_forwarded_rfc3261_16_2(database: Database) {
    let server = Server::start(database);
    let (mut alice, mut bob) = pair(&server, Transport::Udp);
    let invite = alice.invite("bob");
    let arrived = bob.expect_request("INVITE");
    let trying = alice.expect_status(&invite, 100);
    assert_eq!(trying.to_tag(), None, "{trying}");
    bob.send_raw(&arrived.reply(100, "Trying").bytes());
    bob.ring(&arrived);
    alice.expect_status(&invite, 180);
    assert!(!alice.unread().iter().any(|line| line.contains(" 100 ")), "bob's 100 stays with the proxy");
    bob.answer(&arrived, 480, "Temporarily Unavailable");
    alice.expect_status(&invite, 480);
}

fn cancel_ends_a_ringing_call_rfc3261_16_10(database: Database, via: Transport) {
    let server = Server::start(database);
    let (mut alice, mut bob) = pair(&server, via);
    let invite = alice.invite("bob");
    let arrived = bob.expect_request("INVITE");
    bob.ring(&arrived);
    alice.expect_status(&invite, 180);
    let cancel = alice.cancel(&invite);
    alice.expect_status(&cancel, 200);
    let cancelled = bob.expect_request("CANCEL");
    assert_eq!(cancelled.branch(), arrived.branch(), "CANCEL reuses the branch:\n{cancelled}");
    assert_eq!(cancelled.uri(), arrived.uri());
    assert_eq!(cancelled.cseq(), arrived.cseq());
    assert_eq!(cancelled.list("Via").len(), 1, "{cancelled}");
    bob.answer(&cancelled, 200, "OK");
    bob.answer(&arrived, 487, "Request Terminated");
    let ack = bob.expect_request("ACK");
    assert_eq!(ack.branch(), arrived.branch(), "the proxy acknowledges:\n{ack}");
    alice.expect_status(&invite, 487);
}

fn cancel_before_any_answer_waits_for_one_rfc3261_9_1(database: Database) {
    let server = Server::start(database);
    let (mut alice, mut bob) = pair(&server, Transport::Udp);
    let invite = alice.invite("bob");
    let arrived = bob.expect_request("INVITE");
    alice.expect_status(&invite, 100);
    let cancel = alice.cancel(&invite);
    alice.expect_status(&cancel, 200);
    bob.ring(&arrived);
    let cancelled = bob.expect_request("CANCEL");
    bob.answer(&cancelled, 200, "OK");
    bob.answer(&arrived, 487, "Request Terminated");
    alice.expect_status(&invite, 487);
}

fn a_negative_answer_is_acknowledged_by_the_proxy_rfc3261_17_1_1(database: Database, via: Transport) {
    let server = Server::start(database);
    let (mut alice, mut bob) = pair(&server, via);
    let invite = alice.invite("bob");
    let arrived = bob.expect_request("INVITE");
    bob.answer(&arrived, 486, "Busy Here");
    let ack = bob.expect_request("ACK");
    assert_eq!(ack.branch(), arrived.branch());
    assert_eq!(ack.uri(), arrived.uri());
    assert!(ack.to_tag().is_some(), "{ack}");
    alice.expect_status(&invite, 486);
    bob.expect_nothing_more();
}

fn a_2xx_goes_end_to_end_again_and_again_rfc6026_7(database: Database) {
    let server = Server::start(database);
    let (mut alice, mut bob) = pair(&server, Transport::Udp);
    alice.show_retransmissions = true;
    let invite = alice.invite("bob");
    let arrived = bob.expect_request("INVITE");
    bob.pick_up(&arrived);
    let first = alice.expect_status(&invite, 200);
    // The callee repeats its 200 until the ACK comes: every copy must pass.
    bob.pick_up(&arrived);
    let second = alice.expect_status(&invite, 200);
    assert_eq!(first.to_tag(), second.to_tag());
    let caller = Dialog::of_caller(&invite, &first);
    alice.ack(&invite, &caller);
    let ack = bob.expect_request("ACK");
    assert_eq!(ack.uri(), bob.contact_uri(), "{ack}");
    assert_ne!(ack.branch(), arrived.branch(), "{ack}");
}

fn no_device_is_480_and_nobody_is_404_rfc3261_16_5(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let invite = alice.invite("bob");
    alice.expect_status(&invite, 480);
    let invite = alice.invite("zoe");
    alice.expect_status(&invite, 404);
}

fn a_phone_behind_nat_gets_its_bye_rfc5626_5_3(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    bob.register_contact(&format!("<sip:bob@192.168.77.5:5060{}>", via.parameter()), Some(600));
    let request = alice.invite_request("bob").set("Contact", "<sip:alice@10.9.8.7:5060>");
    let invite = alice.start(request);
    let arrived = bob.expect_request("INVITE");
    let reply = arrived.reply(200, "OK").header("Contact", "<sip:bob@192.168.77.5:5060>");
    let to = crate::harness::Message::parse(&reply.bytes()).need("To").to_string();
    bob.answer_with(&arrived, reply);
    let ok = alice.expect_status(&invite, 200);
    let caller = Dialog::of_caller(&invite, &ok);
    alice.ack(&invite, &caller);
    bob.expect_request("ACK");
    let callee = Dialog::of_callee(&arrived, &to);
    let bye = bob.in_dialog(&callee, "BYE");
    bob.send(&bye);
    let arrived = alice.expect_request("BYE");
    alice.answer(&arrived, 200, "OK");
    bob.expect_status(&bye, 200);
}

over_each_transport!(
    a_call_is_made_and_ended_rfc3261_16,
    the_callee_may_hang_up_rfc3261_15,
    a_reinvite_passes_both_ways_rfc3261_14,
    the_invite_arrives_as_it_was_sent_rfc3261_16_6,
    cancel_ends_a_ringing_call_rfc3261_16_10,
    a_negative_answer_is_acknowledged_by_the_proxy_rfc3261_17_1_1,
    no_device_is_480_and_nobody_is_404_rfc3261_16_5,
    a_phone_behind_nat_gets_its_bye_rfc5626_5_3,
);
on_each_database!(
    a_call_crosses_transports_rfc3261_16,
    trying_comes_at_once_and_is_not_forwarded_rfc3261_16_2,
    cancel_before_any_answer_waits_for_one_rfc3261_9_1,
    a_2xx_goes_end_to_end_again_and_again_rfc6026_7,
);

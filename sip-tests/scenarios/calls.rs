//! Calls through the proxy, one caller and one callee (RFC 3261 section 16).

use crate::harness::call::connect;
use crate::harness::message::uri_of;
use crate::harness::{Database, Dialog, Message, Phone, Server, Transport};

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
    let to = Message::parse(&reply.bytes()).need("To").to_string();
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

/// A reliable 183 to an INVITE (RFC 3262 section 3); gives the callee's early dialog.
fn progress(phone: &mut Phone, invite: &Message, tag: &str) -> Dialog {
    let contact = phone.contact();
    let to = format!("{};tag={tag}", invite.need("To"));
    let reply = invite.reply(183, "Session Progress").set("To", &to).header("Contact", &contact);
    let reply = reply.header("Require", "100rel").header("RSeq", "776656");
    phone.send_raw(&reply.bytes());
    Dialog::of_callee(invite, &to)
}

/// PRACK in an early dialog, which arrives at its phone (RFC 3262 section 4).
fn prack(caller: &mut Phone, dialog: &Dialog, invite: u32, callee: &mut Phone) {
    let rack = format!("776656 {invite} INVITE");
    let request = caller.in_dialog(dialog, "PRACK").header("RAck", &rack);
    caller.send(&request);
    let arrived = callee.expect_request("PRACK");
    assert_eq!(arrived.need("RAck"), rack);
    assert_eq!(arrived.uri(), callee.contact_uri(), "{arrived}");
    assert_eq!(Some(arrived.need("To")), Some(dialog.remote.as_str()), "{arrived}");
    callee.answer(&arrived, 200, "OK");
    caller.expect_status(&request, 200);
}

fn prack_and_update_pass_before_the_answer_rfc3262_rfc3311(database: Database, via: Transport) {
    let server = Server::start(database);
    let (mut alice, mut bob) = pair(&server, via);
    let request = alice.invite_request("bob").set("Supported", "100rel, timer");
    let invite = alice.start(request);
    let arrived = bob.expect_request("INVITE");
    assert_eq!(arrived.need("Supported"), "100rel, timer");
    let callee = progress(&mut bob, &arrived, "early");
    let early = alice.expect_status(&invite, 183);
    assert_eq!((early.need("Require"), early.need("RSeq")), ("100rel", "776656"));
    let caller = Dialog::of_caller(&invite, &early);
    prack(&mut alice, &caller, invite.cseq(), &mut bob);
    exchange(&mut alice, &caller, &mut bob, "UPDATE");
    exchange(&mut bob, &callee, &mut alice, "UPDATE");
    let contact = bob.contact();
    bob.answer_with(&arrived, arrived.reply(200, "OK").set("To", &callee.local).header("Contact", &contact));
    alice.expect_status(&invite, 200);
    alice.ack(&invite, &caller);
    bob.expect_request("ACK");
    exchange(&mut bob, &callee, &mut alice, "BYE");
    alice.expect_nothing_more();
    bob.expect_nothing_more();
}

fn each_early_dialog_of_a_fork_has_its_own_way_rfc3261_12_1(database: Database, via: Transport) {
    let server = Server::start(database);
    let (mut alice, mut desk) = pair(&server, via);
    let mut mobile = Phone::new(&server, "bob", Transport::Udp);
    mobile.register();
    let invite = alice.invite("bob");
    let (at_desk, at_mobile) = (desk.expect_request("INVITE"), mobile.expect_request("INVITE"));
    let of_desk = progress(&mut desk, &at_desk, "desk");
    let first = alice.expect_status(&invite, 183);
    let of_mobile = progress(&mut mobile, &at_mobile, "mobile");
    let second = alice.expect_status(&invite, 183);
    let (to_desk, to_mobile) = (Dialog::of_caller(&invite, &first), Dialog::of_caller(&invite, &second));
    prack(&mut alice, &to_mobile, invite.cseq(), &mut mobile);
    prack(&mut alice, &to_desk, invite.cseq(), &mut desk);
    exchange(&mut alice, &to_desk, &mut desk, "UPDATE");
    exchange(&mut desk, &of_desk, &mut alice, "UPDATE");
    exchange(&mut mobile, &of_mobile, &mut alice, "UPDATE");
    exchange(&mut alice, &to_mobile, &mut mobile, "UPDATE");
    let contact = mobile.contact();
    let reply = at_mobile.reply(200, "OK").set("To", &of_mobile.local).header("Contact", &contact);
    mobile.answer_with(&at_mobile, reply);
    alice.expect_status(&invite, 200);
    let cancelled = desk.expect_request("CANCEL");
    desk.answer(&cancelled, 200, "OK");
    desk.answer_with(&at_desk, at_desk.reply(487, "Request Terminated").set("To", &of_desk.local));
    desk.expect_request("ACK");
    alice.ack(&invite, &to_mobile);
    mobile.expect_request("ACK");
    exchange(&mut alice, &to_mobile, &mut mobile, "BYE");
    desk.expect_nothing_more();
    alice.expect_nothing_more();
}

fn a_session_timer_is_between_the_phones_rfc4028_8(database: Database, via: Transport) {
    let server = Server::start(database);
    let (mut alice, mut bob) = pair(&server, via);
    let brief = alice.invite_request("bob").header("Session-Expires", "90").header("Min-SE", "90");
    let invite = alice.start(brief);
    let arrived = bob.expect_request("INVITE");
    assert_eq!((arrived.need("Session-Expires"), arrived.need("Min-SE")), ("90", "90"), "{arrived}");
    bob.answer_with(&arrived, arrived.reply(422, "Session Interval Too Small").header("Min-SE", "3600"));
    let refused = alice.expect_status(&invite, 422);
    assert_eq!(refused.need("Min-SE"), "3600", "{refused}");
    bob.expect_request("ACK");
    let longer = alice.invite_request("bob").header("Session-Expires", "3600").header("Min-SE", "3600");
    let invite = alice.start(longer);
    let arrived = bob.expect_request("INVITE");
    assert_eq!((arrived.need("Session-Expires"), arrived.need("Min-SE")), ("3600", "3600"), "{arrived}");
    let contact = bob.contact();
    let reply = arrived.reply(200, "OK").header("Contact", &contact).header("Require", "timer");
    bob.answer_with(&arrived, reply.header("Session-Expires", "3600;refresher=uas"));
    let ok = alice.expect_status(&invite, 200);
    assert_eq!((ok.need("Session-Expires"), ok.need("Require")), ("3600;refresher=uas", "timer"), "{ok}");
}

fn the_callers_reason_reaches_every_device_rfc3326_2(database: Database) {
    let server = Server::start(database);
    let (mut alice, mut desk) = pair(&server, Transport::Udp);
    let mut mobile = Phone::new(&server, "bob", Transport::Tcp);
    mobile.register();
    let invite = alice.invite("bob");
    let (at_desk, at_mobile) = (desk.expect_request("INVITE"), mobile.expect_request("INVITE"));
    desk.ring(&at_desk);
    alice.expect_status(&invite, 180);
    let reasons = ["SIP;cause=487;text=\"No, later\"", "Q.850;cause=16"];
    let cancel = alice.cancel_request(&invite).header("Reason", reasons[0]).header("Reason", reasons[1]);
    alice.send(&cancel);
    alice.expect_status(&cancel, 200);
    // The mobile's CANCEL waits until it has said something (RFC 3261 section 9.1), and says the same.
    mobile.ring(&at_mobile);
    for (phone, arrived) in [(&mut desk, &at_desk), (&mut mobile, &at_mobile)] {
        let cancelled = phone.expect_request("CANCEL");
        assert_eq!(cancelled.list("Reason"), reasons, "{cancelled}");
        phone.answer(&cancelled, 200, "OK");
        phone.answer(arrived, 487, "Request Terminated");
    }
    alice.expect_status(&invite, 487);
}

fn cancel_is_answered_with_the_tag_of_what_it_cancels_rfc3261_9_2(database: Database) {
    let server = Server::start(database);
    let (mut alice, mut bob) = pair(&server, Transport::Tcp);
    let invite = alice.invite("bob");
    let arrived = bob.expect_request("INVITE");
    bob.ring(&arrived);
    alice.expect_status(&invite, 180);
    let cancel = alice.cancel(&invite);
    let ok = alice.expect_status(&cancel, 200);
    bob.expect_request("CANCEL");
    // Bob's phone goes without a word, so that the final answer is the server's own.
    drop(bob);
    let ended = alice.expect_final(&invite);
    assert!(ok.to_tag().is_some(), "{ok}");
    assert_eq!(ok.to_tag(), ended.to_tag(), "{ok}\n{ended}");
}

fn cancel_changes_nothing_but_an_invite_rfc3261_9_2(database: Database, via: Transport) {
    let server = Server::start(database);
    let (mut alice, mut bob) = pair(&server, via);
    let message = alice.message("bob", "not to be taken back");
    let arrived = bob.expect_request("MESSAGE");
    let cancel = alice.cancel(&message);
    alice.expect_status(&cancel, 200);
    bob.expect_nothing_more();
    bob.answer(&arrived, 202, "Accepted");
    alice.expect_status(&message, 202);
}

fn overload_control_stays_between_neighbours_rfc7339_5_6(database: Database, via: Transport) {
    let server = Server::start(database);
    let (mut alice, mut bob) = pair(&server, via);
    let first = alice.message("bob", "to learn the challenge");
    let arrived = bob.expect_request("MESSAGE");
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&first, 200);
    let mut request = alice.message_request("bob", "are you busy?");
    alice.authorize(&mut request, "Proxy-Authorization");
    let offer = format!("{};oc;oc-algo=\"loss,rate\"", request.get("Via"));
    let request =
        request.set("Via", &offer).header("Via", "SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKup;oc;oc-seq=7");
    alice.send(&request);
    let arrived = bob.expect_request("MESSAGE");
    let vias = arrived.list("Via");
    assert_eq!(vias.len(), 3, "{arrived}");
    assert!(vias[1..].iter().all(|via| !via.contains(";oc")), "{arrived}");
    assert!(vias[1].contains(";branch=") && vias[2] == "SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKup", "{arrived}");
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&request, 200);
}

over_each_transport!(
    prack_and_update_pass_before_the_answer_rfc3262_rfc3311,
    each_early_dialog_of_a_fork_has_its_own_way_rfc3261_12_1,
    a_session_timer_is_between_the_phones_rfc4028_8,
    cancel_changes_nothing_but_an_invite_rfc3261_9_2,
    overload_control_stays_between_neighbours_rfc7339_5_6,
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
    the_callers_reason_reaches_every_device_rfc3326_2,
    cancel_is_answered_with_the_tag_of_what_it_cancels_rfc3261_9_2,
    a_call_crosses_transports_rfc3261_16,
    trying_comes_at_once_and_is_not_forwarded_rfc3261_16_2,
    cancel_before_any_answer_waits_for_one_rfc3261_9_1,
    a_2xx_goes_end_to_end_again_and_again_rfc6026_7,
);

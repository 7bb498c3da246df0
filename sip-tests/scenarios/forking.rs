//! A callee with several phones (RFC 3261 sections 16.6, 16.7).

use crate::harness::phone::aor;
use crate::harness::{Database, Dialog, Phone, Server, Transport};

struct Bench {
    alice: Phone,
    desk: Phone,
    mobile: Phone,
}

fn bench(server: &Server, via: Transport) -> Bench {
    let alice = Phone::new(server, "alice", via);
    let mut desk = Phone::new(server, "bob", via);
    let mut mobile = Phone::new(server, "bob", Transport::Udp);
    desk.register();
    mobile.register();
    Bench { alice, desk, mobile }
}

fn the_first_200_wins_and_the_other_is_cancelled_rfc3261_16_7_10(database: Database, via: Transport) {
    let server = Server::start(database);
    let Bench { mut alice, mut desk, mut mobile } = bench(&server, via);
    let invite = alice.invite("bob");
    let at_desk = desk.expect_request("INVITE");
    let at_mobile = mobile.expect_request("INVITE");
    assert_ne!(at_desk.branch(), at_mobile.branch());
    desk.ring(&at_desk);
    mobile.ring(&at_mobile);
    alice.expect_status(&invite, 180);
    alice.expect_status(&invite, 180);
    mobile.pick_up(&at_mobile);
    let ok = alice.expect_status(&invite, 200);
    let cancelled = desk.expect_request("CANCEL");
    assert_eq!(cancelled.branch(), at_desk.branch());
    // RFC 3326 2.
    assert_eq!(cancelled.need("Reason"), "SIP;cause=200;text=\"Call completed elsewhere\"");
    desk.answer(&cancelled, 200, "OK");
    desk.answer(&at_desk, 487, "Request Terminated");
    desk.expect_request("ACK");
    let caller = Dialog::of_caller(&invite, &ok);
    alice.ack(&invite, &caller);
    mobile.expect_request("ACK");
    alice.expect_nothing_more();
}

fn a_second_200_is_forwarded_too_rfc3261_16_7_5(database: Database) {
    let server = Server::start(database);
    let Bench { mut alice, mut desk, mut mobile } = bench(&server, Transport::Udp);
    let invite = alice.invite("bob");
    let at_desk = desk.expect_request("INVITE");
    let at_mobile = mobile.expect_request("INVITE");
    desk.pick_up(&at_desk);
    let first = alice.expect_status(&invite, 200);
    mobile.pick_up(&at_mobile);
    let second = alice.expect_status(&invite, 200);
    assert_ne!(first.to_tag(), second.to_tag());
}

fn the_best_of_the_refusals_comes_back_rfc3261_16_7_6(database: Database, via: Transport) {
    let server = Server::start(database);
    let Bench { mut alice, mut desk, mut mobile } = bench(&server, via);
    let invite = alice.invite("bob");
    let at_desk = desk.expect_request("INVITE");
    let at_mobile = mobile.expect_request("INVITE");
    desk.answer(&at_desk, 500, "Server Internal Error");
    desk.expect_request("ACK");
    mobile.answer(&at_mobile, 486, "Busy Here");
    mobile.expect_request("ACK");
    alice.expect_status(&invite, 486);
    alice.expect_nothing_more();
}

fn a_challenge_is_worth_more_than_busy_rfc3261_16_7_6(database: Database) {
    let server = Server::start(database);
    let Bench { mut alice, mut desk, mut mobile } = bench(&server, Transport::Udp);
    let invite = alice.invite("bob");
    let at_desk = desk.expect_request("INVITE");
    let at_mobile = mobile.expect_request("INVITE");
    desk.answer(&at_desk, 486, "Busy Here");
    let offer = "Digest realm=\"phone\", nonce=\"n1\"";
    mobile.answer_with(&at_mobile, at_mobile.reply(401, "Unauthorized").header("WWW-Authenticate", offer));
    let response = alice.expect_status(&invite, 401);
    assert_eq!(response.rows("WWW-Authenticate"), [offer], "unchanged:\n{response}");
}

fn a_6xx_ends_every_branch_rfc3261_16_7_5(database: Database, via: Transport) {
    let server = Server::start(database);
    let Bench { mut alice, mut desk, mut mobile } = bench(&server, via);
    let invite = alice.invite("bob");
    let at_desk = desk.expect_request("INVITE");
    let at_mobile = mobile.expect_request("INVITE");
    desk.ring(&at_desk);
    alice.expect_status(&invite, 180);
    mobile.answer(&at_mobile, 603, "Decline");
    mobile.expect_request("ACK");
    let cancelled = desk.expect_request("CANCEL");
    desk.answer(&cancelled, 200, "OK");
    desk.answer(&at_desk, 487, "Request Terminated");
    alice.expect_status(&invite, 603);
}

fn cancel_reaches_every_phone_rfc3261_16_10(database: Database, via: Transport) {
    let server = Server::start(database);
    let Bench { mut alice, mut desk, mut mobile } = bench(&server, via);
    let invite = alice.invite("bob");
    let at_desk = desk.expect_request("INVITE");
    let at_mobile = mobile.expect_request("INVITE");
    desk.ring(&at_desk);
    mobile.ring(&at_mobile);
    alice.expect_status(&invite, 180);
    alice.expect_status(&invite, 180);
    let cancel = alice.cancel(&invite);
    alice.expect_status(&cancel, 200);
    for (phone, arrived) in [(&mut desk, &at_desk), (&mut mobile, &at_mobile)] {
        let cancelled = phone.expect_request("CANCEL");
        phone.answer(&cancelled, 200, "OK");
        phone.answer(arrived, 487, "Request Terminated");
        phone.expect_request("ACK");
    }
    alice.expect_status(&invite, 487);
    alice.expect_nothing_more();
}

fn a_sole_503_becomes_500_rfc3261_16_7_6(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    bob.register();
    let invite = alice.invite("bob");
    let arrived = bob.expect_request("INVITE");
    bob.answer(&arrived, 503, "Service Unavailable");
    alice.expect_status(&invite, 500);
}

fn a_dead_connection_does_not_hold_up_the_others_rfc3261_16_9(database: Database) {
    let server = Server::start(database);
    let Bench { mut alice, desk, mut mobile } = bench(&server, Transport::Tcp);
    drop(desk);
    let invite = alice.invite("bob");
    let arrived = mobile.expect_request("INVITE");
    mobile.pick_up(&arrived);
    alice.expect_status(&invite, 200);
}

/// The copy for a device with a long Contact does not fit into a datagram, so the system refuses it: alone, and among the datagrams of a burst.
fn what_the_system_refuses_to_send_has_failed_at_once_rfc3261_16_9(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut desk = Phone::new(&server, "bob", Transport::Udp);
    let mut carol = Phone::new(&server, "carol", Transport::Udp);
    let contact = format!("<{};x={}>", desk.contact_uri(), "x".repeat(900));
    desk.register_contact(&contact, Some(600));
    carol.register();
    let ask = |alice: &mut Phone, user: &str| {
        let body = if user == "bob" { 64_400 } else { 5 };
        let request = alice.request("OPTIONS", &aor(user)).body("text/plain", &vec![b'x'; body]);
        alice.start(request)
    };
    let alone = ask(&mut alice, "bob");
    alice.expect_status(&alone, 480);
    let whom = |at: usize| if at % 10 == 5 { "bob" } else { "carol" };
    let burst: Vec<_> = (0..30).map(|at| ask(&mut alice, whom(at))).collect();
    for _ in 0..27 {
        let asked = carol.expect_request("OPTIONS");
        carol.answer(&asked, 200, "OK");
    }
    for (at, request) in burst.iter().enumerate() {
        alice.expect_status(request, if whom(at) == "bob" { 480 } else { 200 });
    }
    // Another device is asked all the same.
    let mut mobile = Phone::new(&server, "bob", Transport::Tcp);
    mobile.register();
    let forked = ask(&mut alice, "bob");
    let asked = mobile.expect_request("OPTIONS");
    mobile.answer(&asked, 200, "OK");
    alice.expect_status(&forked, 200);
    desk.expect_nothing_more();
}

over_each_transport!(
    the_first_200_wins_and_the_other_is_cancelled_rfc3261_16_7_10,
    the_best_of_the_refusals_comes_back_rfc3261_16_7_6,
    a_6xx_ends_every_branch_rfc3261_16_7_5,
    cancel_reaches_every_phone_rfc3261_16_10,
);
on_each_database!(
    a_second_200_is_forwarded_too_rfc3261_16_7_5,
    a_challenge_is_worth_more_than_busy_rfc3261_16_7_6,
    a_sole_503_becomes_500_rfc3261_16_7_6,
    a_dead_connection_does_not_hold_up_the_others_rfc3261_16_9,
    what_the_system_refuses_to_send_has_failed_at_once_rfc3261_16_9,
);

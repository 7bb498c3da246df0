//! The search for a callee: who is tried when, what comes back, and what never ends in a circle (RFC 3261 16.4 to 16.7, RFC 5393).

use crate::harness::call::connect;
use crate::harness::message::{Message, uri_of};
use crate::harness::phone::{aor, unique};
use crate::harness::{DOMAIN, Database, Dialog, Phone, Request, Server, Transport};

/// Alice, and two phones of Bob's: the one at the desk is preferred.
fn preferred(server: &Server, via: Transport) -> (Phone, Phone, Phone) {
    let alice = Phone::new(server, "alice", via);
    let mut desk = Phone::new(server, "bob", via);
    let mut mobile = Phone::new(server, "bob", via);
    let contact = desk.contact();
    desk.register_contact(&format!("{contact};q=0.9"), Some(600));
    let contact = mobile.contact();
    mobile.register_contact(&format!("{contact};q=0.3"), Some(600));
    (alice, desk, mobile)
}

fn breadth(request: &Message) -> u32 {
    request.need("Max-Breadth").parse().expect("a number")
}

fn the_preferred_phone_rings_first_rfc3261_16_6(database: Database, via: Transport) {
    let server = Server::start(database);
    let (mut alice, mut desk, mut mobile) = preferred(&server, via);
    let invite = alice.invite("bob");
    let at_desk = desk.expect_request("INVITE");
    desk.ring(&at_desk);
    alice.expect_status(&invite, 180);
    mobile.expect_nothing_more();
    desk.answer(&at_desk, 486, "Busy Here");
    let at_mobile = mobile.expect_request("INVITE");
    mobile.pick_up(&at_mobile);
    let ok = alice.expect_status(&invite, 200);
    alice.ack(&invite, &Dialog::of_caller(&invite, &ok));
    mobile.expect_request("ACK");
}

fn who_does_not_pick_up_is_cancelled_and_the_next_one_rings(database: Database) {
    let server = Server::with(database, |config| config.set("proxy.ring_s", 1));
    let (mut alice, mut desk, mut mobile) = preferred(&server, Transport::Udp);
    let invite = alice.invite("bob");
    let at_desk = desk.expect_request("INVITE");
    desk.ring(&at_desk);
    alice.expect_status(&invite, 180);
    let cancelled = desk.expect_request("CANCEL");
    desk.answer(&cancelled, 200, "OK");
    desk.answer(&at_desk, 487, "Request Terminated");
    let at_mobile = mobile.expect_request("INVITE");
    mobile.pick_up(&at_mobile);
    alice.expect_status(&invite, 200);
}

fn without_an_answer_anywhere_the_best_refusal_comes_back_rfc3261_16_7_6(database: Database) {
    let server = Server::start(database);
    let (mut alice, mut desk, mut mobile) = preferred(&server, Transport::Udp);
    let invite = alice.invite("bob");
    let at_desk = desk.expect_request("INVITE");
    desk.answer(&at_desk, 486, "Busy Here");
    let at_mobile = mobile.expect_request("INVITE");
    mobile.answer(&at_mobile, 500, "Server Internal Error");
    alice.expect_status(&invite, 486);
}

fn all_phones_ring_at_once_if_the_operator_says_so_rfc3261_16_6(database: Database) {
    let server = Server::with(database, |config| config.set("proxy.fork_by_q", false));
    let (mut alice, mut desk, mut mobile) = preferred(&server, Transport::Udp);
    alice.invite("bob");
    desk.expect_request("INVITE");
    mobile.expect_request("INVITE");
}

fn a_phone_that_registers_while_it_rings_joins_rfc3261_16_5(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut desk = Phone::new(&server, "bob", via);
    desk.register();
    let invite = alice.invite("bob");
    let at_desk = desk.expect_request("INVITE");
    desk.ring(&at_desk);
    alice.expect_status(&invite, 180);
    let mut mobile = Phone::new(&server, "bob", via);
    mobile.register();
    let at_mobile = mobile.expect_request("INVITE");
    assert_ne!(at_desk.branch(), at_mobile.branch());
    // Refreshing makes nobody ring twice.
    mobile.register();
    desk.register();
    mobile.pick_up(&at_mobile);
    alice.expect_status(&invite, 200);
    let cancelled = desk.expect_request("CANCEL");
    desk.answer(&cancelled, 200, "OK");
    desk.answer(&at_desk, 487, "Request Terminated");
    desk.expect_request("ACK");
    desk.expect_nothing_more();
    // And nobody joins a call that is answered.
    let mut tablet = Phone::new(&server, "bob", via);
    tablet.register();
    tablet.expect_nothing_more();
}

fn the_breadth_of_a_request_is_shared_out_rfc5393_5_3_3(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut phones: Vec<Phone> = (0..3).map(|_| Phone::new(&server, "bob", Transport::Udp)).collect();
    for phone in &mut phones {
        phone.register();
    }
    // Missing, or above the ceiling: 60 in all.
    for sent in [None, Some("1000")] {
        let mut message = alice.request("MESSAGE", &aor("bob")).body("text/plain", b"hello");
        if let Some(sent) = sent {
            message = message.header("Max-Breadth", sent);
        }
        let message = alice.start(message);
        let arrived: Vec<Message> = phones.iter_mut().map(|phone| phone.expect_request("MESSAGE")).collect();
        assert_eq!(arrived.iter().map(breadth).sum::<u32>(), 60);
        assert!(arrived.iter().all(|message| message.rows("Max-Breadth").len() == 1));
        for (phone, arrived) in phones.iter_mut().zip(&arrived) {
            phone.answer(arrived, 200, "OK");
        }
        alice.expect_status(&message, 200);
    }
}

fn with_a_breadth_of_one_phones_are_tried_one_after_the_other_rfc5393_5_3_3_1(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut phones: Vec<Phone> = (0..2).map(|_| Phone::new(&server, "bob", Transport::Udp)).collect();
    for phone in &mut phones {
        phone.register();
    }
    let invite = alice.invite_request("bob").header("Max-Breadth", "1");
    let invite = alice.start(invite);
    let begun = |phone: &mut Phone| phone.await_within(SOON, |message| message.is_request("INVITE"));
    let (first, arrived) =
        (0..).zip(&mut phones).find_map(|(at, phone)| Some((at, begun(phone)?))).expect("one rings");
    assert_eq!(breadth(&arrived), 1);
    let second: usize = 1 - first;
    phones[second].expect_nothing_more();
    phones[first].answer(&arrived, 486, "Busy Here");
    let arrived = phones[second].expect_request("INVITE");
    assert_eq!(breadth(&arrived), 1);
    phones[second].pick_up(&arrived);
    alice.expect_status(&invite, 200);
}

fn a_breadth_that_is_no_number_is_400_rfc5393_5_3_1(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    for breadth in ["0", "-1", "many"] {
        let message = alice.request("MESSAGE", &aor("bob")).header("Max-Breadth", breadth);
        let response = alice.ask(message.body("text/plain", b"hello"));
        assert_eq!(response.status(), Some(400), "{breadth}:\n{response}");
    }
}

/// What an element that sends everything back would send: the request as it came, to `uri`, with a Via on top.
fn sent_back(by: &Phone, arrived: &Message, uri: &str) -> Request {
    let mut request = Request {
        method: arrived.method().into(),
        uri: uri.into(),
        headers: Vec::new(),
        body: arrived.body.clone(),
        with_length: true,
    }
    .header("Via", &by.via());
    for (name, value) in &arrived.headers {
        if name != "Content-Length" {
            request = request.header(name, value);
        }
    }
    request
}

fn what_comes_back_unchanged_is_482_and_a_spiral_is_not_rfc5393_4_2_2(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut mirror = Phone::new(&server, "bob", via);
    mirror.register();
    for method in ["INVITE", "MESSAGE"] {
        let contact = alice.contact();
        let mut request = alice.request(method, &aor("bob")).body("text/plain", b"hello");
        if method == "INVITE" {
            request = request.header("Contact", &contact);
        }
        let request = alice.start(request);
        let arrived = mirror.expect_request(method);
        let back = sent_back(&mirror, &arrived, &aor("bob"));
        mirror.send(&back);
        let refused = mirror.expect_final(&back);
        assert_eq!(refused.status(), Some(482), "{refused}");
        // For somebody else it is another search: the mirror has to say who it is, like anybody.
        let back = sent_back(&mirror, &arrived, &aor("carol"));
        mirror.send(&back);
        let challenged = mirror.expect_final(&back);
        assert_eq!(challenged.status(), Some(407), "{challenged}");
        mirror.answer(&arrived, 482, "Loop Detected");
        alice.expect_status(&request, 482);
    }
}

fn a_redirection_to_a_user_of_ours_is_followed_if_the_operator_says_so_rfc3261_16_7_4(database: Database) {
    let server = Server::with(database, |config| config.set("proxy.follow_redirects", true));
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let mut carol = Phone::new(&server, "carol", Transport::Udp);
    bob.register();
    carol.register();
    let invite = alice.invite("bob");
    let at_bob = bob.expect_request("INVITE");
    // To Carol, to himself, and to somebody that the caller may try.
    let contacts = format!("<{}>, <{}>, <sip:bob@elsewhere.example>", aor("carol"), aor("bob"));
    bob.answer_with(&at_bob, at_bob.reply(302, "Moved Temporarily").header("Contact", &contacts));
    let at_carol = carol.expect_request("INVITE");
    assert_eq!(at_carol.uri(), carol.contact_uri());
    carol.answer(&at_carol, 486, "Busy Here");
    let moved = alice.expect_status(&invite, 302);
    assert_eq!(moved.rows("Contact"), ["<sip:bob@elsewhere.example>"], "used ones are gone:\n{moved}");
    bob.expect_request("ACK");
    bob.expect_nothing_more();
}

fn a_redirection_is_the_callers_business_by_default_rfc3261_16_7_4(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let mut carol = Phone::new(&server, "carol", Transport::Udp);
    bob.register();
    carol.register();
    let invite = alice.invite("bob");
    let arrived = bob.expect_request("INVITE");
    let contact = format!("<{}>", aor("carol"));
    bob.answer_with(&arrived, arrived.reply(302, "Moved Temporarily").header("Contact", &contact));
    let moved = alice.expect_status(&invite, 302);
    assert_eq!(moved.rows("Contact"), [contact]);
    carol.expect_nothing_more();
}

fn a_strict_router_upstream_is_understood_rfc3261_16_4(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    alice.register();
    bob.register();
    let (caller, _) = connect(&mut alice, &mut bob);
    // As RFC 2543 had it: the first Route goes into the Request-URI, the remote target to the end of Route.
    let mut info = alice.in_dialog(&caller, "INFO").without("Route");
    info.uri = uri_of(&caller.route[0]);
    for route in caller.route[1..].iter().cloned().chain([format!("<{}>", caller.target)]) {
        info = info.header("Route", &route);
    }
    alice.send(&info);
    let arrived = bob.expect_request("INFO");
    assert_eq!(arrived.uri(), bob.contact_uri(), "{arrived}");
    assert!(arrived.rows("Route").is_empty(), "{arrived}");
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&info, 200);
}

fn a_strict_router_downstream_gets_its_uri_first_rfc3261_16_6_6(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let mut edge = Phone::new(&server, "carol", Transport::Udp);
    let strict = format!("sip:{}", edge.local);
    let contact = bob.contact();
    let register = bob
        .register_request()
        .header("Contact", &contact)
        .header("Path", &format!("<{strict}>"))
        .set("Supported", "path");
    let registered = bob.ask(register);
    assert_eq!(registered.status(), Some(200), "{registered}");
    let message = alice.request("MESSAGE", &aor("bob")).body("text/plain", b"hello");
    let message = alice.start(message);
    let arrived = edge.expect_request("MESSAGE");
    assert_eq!(arrived.uri(), strict, "{arrived}");
    assert_eq!(arrived.rows("Route"), [bob.contact()], "{arrived}");
    edge.answer(&arrived, 200, "OK");
    alice.expect_status(&message, 200);
}

fn maddr_that_names_this_server_has_done_its_work_rfc3261_16_4(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    bob.register();
    let here = server.address(Transport::Udp);
    let uri = format!("sip:bob@{DOMAIN}:{};maddr={}", here.port(), here.ip());
    let message = alice.request("MESSAGE", &uri).set("To", &format!("<{}>", aor("bob")));
    let message = alice.start(message.body("text/plain", b"hello"));
    let arrived = bob.expect_request("MESSAGE");
    assert_eq!(arrived.uri(), bob.contact_uri());
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&message, 200);
}

fn a_mirror_with_ten_contacts_gains_nothing_a21(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut mirror = Phone::new(&server, "bob", Transport::Udp);
    for _ in 0..10 {
        let contact = format!("<sip:{}@{}>", unique("m"), mirror.local);
        mirror.register_contact(&contact, Some(600));
    }
    alice.invite("bob");
    let arrived: Vec<Message> = (0..10).map(|_| mirror.expect_request("INVITE")).collect();
    assert!(arrived.iter().map(breadth).sum::<u32>() <= 60);
    for arrived in &arrived {
        let back = sent_back(&mirror, arrived, &aor("bob"));
        mirror.send(&back);
        let refused = mirror.expect_final(&back);
        assert_eq!(refused.status(), Some(482), "{refused}");
    }
    // Ten came; nothing that was sent back has made another one.
    assert!(
        mirror
            .await_within(SHORTLY, |message| message.is_request("INVITE")
                && !arrived.iter().any(|known| known.branch() == message.branch()))
            .is_none()
    );
}

fn a_caller_chooses_among_the_phones_rfc3841_7_2(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut desk = Phone::new(&server, "bob", Transport::Udp);
    let mut mobile = Phone::new(&server, "bob", Transport::Udp);
    let contact = desk.contact();
    desk.register_contact(&format!("{contact};mobility=\"fixed\";methods=\"INVITE,ACK,BYE\""), Some(600));
    let contact = mobile.contact();
    mobile.register_contact(&format!("{contact};mobility=\"mobile\";methods=\"INVITE,MESSAGE\""), Some(600));
    // What the caller says.
    let invite = alice.invite_request("bob").header("Reject-Contact", "*;mobility=\"mobile\"");
    let invite = alice.start(invite);
    let at_desk = desk.expect_request("INVITE");
    desk.answer(&at_desk, 486, "Busy Here");
    alice.expect_status(&invite, 486);
    desk.expect_request("ACK");
    // What the method says.
    let message = alice.request("MESSAGE", &aor("bob")).body("text/plain", b"hello");
    let message = alice.start(message);
    let at_mobile = mobile.expect_request("MESSAGE");
    mobile.answer(&at_mobile, 200, "OK");
    alice.expect_status(&message, 200);
    // Nobody fits.
    let invite = alice.invite_request("bob").header("Accept-Contact", "*;automata;require;explicit");
    let nobody = alice.ask(invite);
    assert_eq!(nobody.status(), Some(480), "{nobody}");
    desk.expect_nothing_more();
    mobile.expect_nothing_more();
}

fn a_caller_says_how_phones_are_tried_rfc3841_9_1(database: Database) {
    let server = Server::start(database);
    let (mut alice, mut desk, mut mobile) = preferred(&server, Transport::Udp);
    let invite = alice.invite_request("bob").header("Request-Disposition", "no-fork");
    let invite = alice.start(invite);
    let at_desk = desk.expect_request("INVITE");
    desk.answer(&at_desk, 486, "Busy Here");
    alice.expect_status(&invite, 486);
    mobile.expect_nothing_more();
    let invite = alice.invite_request("bob").header("Request-Disposition", "parallel, no-cancel");
    let invite = alice.start(invite);
    let at_desk = desk.expect_request("INVITE");
    let at_mobile = mobile.expect_request("INVITE");
    mobile.ring(&at_mobile);
    alice.expect_status(&invite, 180);
    desk.pick_up(&at_desk);
    let first = alice.expect_status(&invite, 200);
    mobile.expect_nothing_more();
    mobile.pick_up(&at_mobile);
    let second = alice.expect_status(&invite, 200);
    assert_ne!(first.to_tag(), second.to_tag());
}

const SOON: std::time::Duration = std::time::Duration::from_secs(1);
const SHORTLY: std::time::Duration = std::time::Duration::from_millis(200);

over_each_transport!(
    the_preferred_phone_rings_first_rfc3261_16_6,
    a_phone_that_registers_while_it_rings_joins_rfc3261_16_5,
    what_comes_back_unchanged_is_482_and_a_spiral_is_not_rfc5393_4_2_2,
    a_strict_router_upstream_is_understood_rfc3261_16_4,
);
on_each_database!(
    who_does_not_pick_up_is_cancelled_and_the_next_one_rings,
    without_an_answer_anywhere_the_best_refusal_comes_back_rfc3261_16_7_6,
    all_phones_ring_at_once_if_the_operator_says_so_rfc3261_16_6,
    the_breadth_of_a_request_is_shared_out_rfc5393_5_3_3,
    with_a_breadth_of_one_phones_are_tried_one_after_the_other_rfc5393_5_3_3_1,
    a_breadth_that_is_no_number_is_400_rfc5393_5_3_1,
    a_redirection_to_a_user_of_ours_is_followed_if_the_operator_says_so_rfc3261_16_7_4,
    a_redirection_is_the_callers_business_by_default_rfc3261_16_7_4,
    a_strict_router_downstream_gets_its_uri_first_rfc3261_16_6_6,
    maddr_that_names_this_server_has_done_its_work_rfc3261_16_4,
    a_mirror_with_ten_contacts_gains_nothing_a21,
    a_caller_chooses_among_the_phones_rfc3841_7_2,
    a_caller_says_how_phones_are_tried_rfc3841_9_1,
);

//! Messages in their order, once, and not too many (RFC 3428 8, `A26`).

use crate::harness::phone::aor;
use crate::harness::{Database, Message, Phone, Request, Server, Transport};
use crate::scenarios::messaging_store::wait_until_stored;

fn text(phone: &mut Phone, wanted: &str) -> Message {
    phone.expect(wanted, |m| m.is_request("MESSAGE") && m.body_text() == wanted)
}

/// The same request by another way: another branch.
fn repeat(phone: &mut Phone, first: &Request) -> Request {
    let mut second = first.clone().set("Via", &phone.via());
    phone.authorize(&mut second, "Proxy-Authorization");
    phone.send(&second);
    second
}

fn a_device_has_one_message_at_a_time_from_whomever_rfc3428_8(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut carol = Phone::new(&server, "carol", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", via);
    bob.register();
    let one = alice.message("bob", "one");
    let arrived = text(&mut bob, "one");
    let two = carol.message("bob", "two");
    let three = alice.message("bob", "three");
    bob.expect_nothing_more();
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&one, 200);
    // Two senders have no order between them. A refusal lets the next one come, too.
    let next = bob.expect("two or three", |m| m.is_request("MESSAGE") && m.body_text() != "one");
    bob.expect_nothing_more();
    for wanted in if next.body_text() == "two" { ["two", "three"] } else { ["three", "two"] } {
        let arrived = if next.body_text() == wanted { next.clone() } else { text(&mut bob, wanted) };
        match wanted {
            "two" => bob.answer(&arrived, 415, "Unsupported Media Type"),
            _ => bob.answer(&arrived, 200, "OK"),
        }
    }
    carol.expect_status(&two, 415);
    alice.expect_status(&three, 200);
}

fn who_waits_behind_a_silent_device_is_stored_in_time_and_in_order_rfc3428_8(database: Database) {
    let server = Server::with(database, |config| config.set("messaging.answer_s", 1));
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    bob.register();
    let requests: Vec<_> = ["one", "two", "three"].map(|text| alice.message("bob", text)).into();
    let arrived = text(&mut bob, "one");
    for request in &requests {
        alice.expect_status(request, 202);
    }
    bob.expect_nothing_more();
    bob.answer(&arrived, 200, "OK");
    for wanted in ["two", "three"] {
        let arrived = text(&mut bob, wanted);
        bob.expect_nothing_more();
        bob.answer(&arrived, 200, "OK");
    }
    bob.expect_nothing_more();
}

fn a_message_that_comes_again_is_answered_alike_and_arrives_once_rfc3428_x2(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    // Stored.
    let request = alice.message_request("bob", "stored");
    let (request, response) = alice.ask_and_tell(request);
    assert_eq!(response.status(), Some(202));
    let again = repeat(&mut alice, &request);
    alice.expect_status(&again, 202);
    bob.register();
    let arrived = text(&mut bob, "stored");
    bob.answer(&arrived, 200, "OK");
    wait_until_stored(&server, 0);
    bob.expect_nothing_more();
    // On its way, and delivered.
    let request = alice.message("bob", "live");
    let arrived = text(&mut bob, "live");
    let meanwhile = repeat(&mut alice, &request);
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&request, 200);
    alice.expect_status(&meanwhile, 200);
    let later = repeat(&mut alice, &request);
    alice.expect_status(&later, 200);
    bob.expect_nothing_more();
    // What was refused may come again.
    let request = alice.message("bob", "refused");
    let arrived = text(&mut bob, "refused");
    bob.answer(&arrived, 486, "Busy Here");
    alice.expect_status(&request, 486);
    let again = repeat(&mut alice, &request);
    let arrived = bob.expect("it again", |m| m.is_request("MESSAGE") && m.branch() != arrived.branch());
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&again, 200);
}

fn a_message_id_is_of_one_message_whoever_sends_it_again_rfc5438_6_3(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut carol = Phone::new(&server, "carol", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let named = |phone: &mut Phone, id: &str| {
        let body = format!(
            "From: <{}>\r\nTo: <im:b@x>\r\nNS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: {id}\r\n\r\n\
             Content-Type: text/plain\r\n\r\nhello",
            phone.aor()
        );
        let request = phone.request("MESSAGE", &aor("bob")).body("message/cpim", body.as_bytes());
        assert_eq!(phone.ask(request).status(), Some(202));
    };
    for id in ["34jk324j", "34jk324j", "34jk324J"] {
        named(&mut alice, id);
    }
    // Somebody else's is another one.
    named(&mut carol, "34jk324j");
    bob.register();
    for _ in 0..3 {
        let arrived = bob.expect_request("MESSAGE");
        bob.answer(&arrived, 200, "OK");
    }
    bob.expect_nothing_more();
}

fn a_flood_is_refused_beyond_the_burst_and_none_of_it_is_lost_a26(database: Database) {
    let server = Server::with(database, |config| {
        config.set("messaging.burst", 20);
        config.set("messaging.per_minute", 1);
    });
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    let mut carol = Phone::new(&server, "carol", Transport::Tcp);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    let mut accepted = Vec::new();
    for number in 0..60 {
        let body = format!("number {number}");
        let response = alice.ask_message("bob", &body);
        match response.status() {
            Some(202) => accepted.push(body),
            Some(503) => assert!(response.need("Retry-After").parse::<u32>().is_ok_and(|s| s > 0)),
            _ => panic!("{response}"),
        }
    }
    assert_eq!(accepted.len(), 20);
    // That she is typing has its own allowance, and so have others.
    let typing =
        alice.request("MESSAGE", &aor("bob")).body("application/im-iscomposing+xml", b"<isComposing/>");
    assert_eq!(alice.ask(typing).status(), Some(480));
    assert_eq!(carol.ask_message("bob", "hello").status(), Some(202));
    bob.register();
    for wanted in accepted.iter().map(String::as_str).chain(["hello"]) {
        let arrived = bob.expect_request("MESSAGE");
        assert_eq!(arrived.body_text(), wanted);
        bob.answer(&arrived, 200, "OK");
    }
    bob.expect_nothing_more();
}

fn a_hundred_in_a_row_between_friends_pass_and_strangers_are_few_a26(database: Database) {
    let server = Server::with(database, |config| {
        config.set("messaging.strangers_burst", 3);
        config.set("messaging.strangers_per_minute", 1);
    });
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    let mut carol = Phone::new(&server, "carol", Transport::Tcp);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    for _ in 0..3 {
        assert_eq!(alice.ask_message("bob", "do you know me?").status(), Some(202));
    }
    let refused = alice.ask_message("bob", "do you know me?");
    assert_eq!(refused.status(), Some(503), "{refused}");
    assert!(refused.header("Retry-After").is_some(), "{refused}");
    bob.subscribe("carol");
    for number in 0..100 {
        assert_eq!(carol.ask_message("bob", &format!("number {number}")).status(), Some(202));
    }
    // Others bear strangers of their own.
    assert_eq!(alice.ask_message("carol", "do you know me?").status(), Some(202));
}

fn who_is_blocked_writes_to_nobody_rfc3428_7(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    alice.register();
    let set = |handling: &str| {
        let output = server.cli(&["rules", "alice", handling, "bob"], "");
        assert!(output.status.success(), "{handling}: {output:?}");
    };
    let answer = |bob: &mut Phone, alice: &mut Phone, text: &str| {
        let (_, answer) = {
            let request = bob.message_request("alice", text);
            bob.ask_and_tell(request)
        };
        alice.expect_nothing_more();
        answer.status()
    };
    set("block");
    assert_eq!(answer(&mut bob, &mut alice, "let me in"), Some(403));
    // Polite: as if alice were away, and nothing is kept for her.
    set("polite-block");
    assert_eq!(answer(&mut bob, &mut alice, "are you there"), Some(202));
    wait_until_stored(&server, 0);
    // What is no rule about who may watch says nothing about who may write.
    set("confirm");
    let request = bob.message("alice", "thank you");
    let arrived = alice.expect_request("MESSAGE");
    assert_eq!(arrived.body_text(), "thank you");
    alice.answer(&arrived, 200, "OK");
    bob.expect_status(&request, 200);
}

over_each_transport!(
    a_device_has_one_message_at_a_time_from_whomever_rfc3428_8,
    who_is_blocked_writes_to_nobody_rfc3428_7,
);
on_each_database!(
    who_waits_behind_a_silent_device_is_stored_in_time_and_in_order_rfc3428_8,
    a_message_that_comes_again_is_answered_alike_and_arrives_once_rfc3428_x2,
    a_message_id_is_of_one_message_whoever_sends_it_again_rfc5438_6_3,
    a_flood_is_refused_beyond_the_burst_and_none_of_it_is_lost_a26,
    a_hundred_in_a_row_between_friends_pass_and_strangers_are_few_a26,
);

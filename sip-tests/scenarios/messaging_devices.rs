//! Which of a user's devices get a message, in which order, and what is known of it afterwards (RFC 3428 6, 8).

use crate::harness::phone::aor;
use crate::harness::{Database, Message, Phone, Request, Server, Transport};
use crate::scenarios::messaging_store::wait_until_stored;

/// The text, wherever it stands among what has come.
fn text(phone: &mut Phone, wanted: &str) -> Message {
    phone.expect(wanted, |m| m.is_request("MESSAGE") && m.body_text() == wanted)
}

fn take(phone: &mut Phone, wanted: &str) {
    let arrived = text(phone, wanted);
    phone.answer(&arrived, 200, "OK");
}

/// A device of bob's that is registered with an instance, and says whether somebody is at it.
fn device(server: &Server, via: Transport, number: u32, input: &str) -> Phone {
    let mut phone = Phone::new(server, "bob", via);
    let contact = format!(
        "{};+sip.instance=\"<urn:uuid:00000000-0000-0000-0000-00000000000{number}>\"",
        phone.contact()
    );
    phone.register_contact(&contact, Some(600));
    phone.publish(&format!(
        "<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" xmlns:dm=\"urn:ietf:params:xml:ns:pidf:data-model\" \
         xmlns:r=\"urn:ietf:params:xml:ns:pidf:rpid\" entity=\"{}\"><tuple id=\"t{number}\"><status><basic>open</basic></status></tuple>\
         <dm:person id=\"p{number}\"><r:user-input>{input}</r:user-input></dm:person></presence>",
        aor("bob")
    ));
    phone
}

fn is_typing(phone: &mut Phone, refresh_s: u32) -> Request {
    let body = format!(
        "<isComposing xmlns=\"urn:ietf:params:xml:ns:im-iscomposing\"><state>active</state><refresh>{refresh_s}</refresh></isComposing>"
    );
    phone.request("MESSAGE", &aor("bob")).body("application/im-iscomposing+xml", body.as_bytes())
}

fn the_device_that_somebody_is_at_gets_it_and_the_others_if_it_fails_rfc3428_6(
    database: Database,
    via: Transport,
) {
    let server = Server::with(database, |config| config.set("messaging.answer_s", 2));
    let mut alice = Phone::new(&server, "alice", via);
    let mut desk = device(&server, via, 1, "idle");
    let mut mobile = device(&server, via, 2, "active");
    let request = alice.message("bob", "on the move");
    take(&mut mobile, "on the move");
    alice.expect_status(&request, 200);
    desk.expect_nothing_more();
    // It refuses.
    let request = alice.message("bob", "refused");
    let arrived = text(&mut mobile, "refused");
    desk.expect_nothing_more();
    mobile.answer(&arrived, 486, "Busy Here");
    take(&mut desk, "refused");
    alice.expect_status(&request, 200);
    // It is silent: the other one is asked in time for the sender to hear of it.
    let request = alice.message("bob", "anybody?");
    let unanswered = text(&mut mobile, "anybody?");
    take(&mut desk, "anybody?");
    alice.expect_status(&request, 200);
    // While it has not answered it gets nothing else, and nobody waits for it.
    let request = alice.message("bob", "still there?");
    take(&mut desk, "still there?");
    alice.expect_status(&request, 200);
    mobile.expect_nothing_more();
    mobile.answer(&unanswered, 200, "OK");
    take(&mut mobile, "still there?");
    desk.expect_nothing_more();
}

fn who_says_nothing_of_it_gets_it_on_every_device_rfc3428_6(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut desk = device(&server, Transport::Udp, 1, "idle");
    let mut tablet = device(&server, Transport::Udp, 2, "idle");
    let mut mobile = Phone::new(&server, "bob", Transport::Udp);
    mobile.register();
    // Nobody says where bob is.
    let request = alice.message("bob", "wherever you are");
    for phone in [&mut desk, &mut tablet, &mut mobile] {
        take(phone, "wherever you are");
    }
    alice.expect_status(&request, 200);
    // Bob is at the desk; of the mobile nothing is known.
    let mut other = device(&server, Transport::Udp, 3, "active");
    let request = alice.message("bob", "here or there");
    for phone in [&mut other, &mut mobile] {
        take(phone, "here or there");
    }
    alice.expect_status(&request, 200);
    desk.expect_nothing_more();
    tablet.expect_nothing_more();
}

fn switched_off_every_device_gets_it_rfc3428_6(database: Database) {
    let server = Server::with(database, |config| config.set("messaging.active_first", false));
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut desk = device(&server, Transport::Udp, 1, "idle");
    let mut mobile = device(&server, Transport::Udp, 2, "active");
    let request = alice.message("bob", "to both");
    take(&mut desk, "to both");
    take(&mut mobile, "to both");
    alice.expect_status(&request, 200);
}

fn a_slow_device_has_one_message_at_a_time_and_holds_up_nobody_rfc3428_8(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut carol = Phone::new(&server, "carol", Transport::Udp);
    let mut slow = Phone::new(&server, "bob", via);
    let mut quick = Phone::new(&server, "bob", Transport::Udp);
    slow.register();
    quick.register();
    let mut unanswered = None;
    for (number, wanted) in ["one", "two", "three"].into_iter().enumerate() {
        let sender = if number == 1 { &mut carol } else { &mut alice };
        let request = sender.message("bob", wanted);
        take(&mut quick, wanted);
        sender.expect_status(&request, 200);
        unanswered = unanswered.or_else(|| Some(text(&mut slow, "one")));
        slow.expect_nothing_more();
    }
    let mut arrived = unanswered.expect("the first");
    for wanted in ["two", "three"] {
        slow.answer(&arrived, 200, "OK");
        arrived = text(&mut slow, wanted);
        slow.expect_nothing_more();
    }
    slow.answer(&arrived, 200, "OK");
    slow.expect_nothing_more();
    quick.expect_nothing_more();
}

fn what_is_stored_and_what_comes_now_go_to_a_device_one_by_one_rfc3428_8(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut carol = Phone::new(&server, "carol", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    assert_eq!(alice.ask_message("bob", "stored").status(), Some(202));
    bob.register();
    let arrived = text(&mut bob, "stored");
    let request = is_typing(&mut carol, 60);
    let request = carol.start(request);
    bob.expect_nothing_more();
    bob.answer(&arrived, 200, "OK");
    let arrived = bob.expect_request("MESSAGE");
    assert!(arrived.body_text().contains("isComposing"), "{arrived}");
    bob.answer(&arrived, 200, "OK");
    carol.expect_status(&request, 200);
    wait_until_stored(&server, 0);
}

fn that_somebody_was_typing_long_ago_is_told_to_nobody_rfc3994_3_3(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    bob.register();
    let old = is_typing(&mut alice, 60).header("Date", "Sat, 13 Nov 2010 23:29:00 GMT");
    let answer = alice.ask(old);
    assert_eq!(answer.status(), Some(480), "{answer}");
    bob.expect_nothing_more();
    let new = is_typing(&mut alice, 60);
    let new = alice.start(new);
    let arrived = bob.expect_request("MESSAGE");
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&new, 200);
    // It waits behind a message that the device has not answered, and is over before that.
    let first = alice.message("bob", "first");
    let arrived = text(&mut bob, "first");
    let short = is_typing(&mut alice, 1);
    let short = alice.start(short);
    let deadline = std::time::Instant::now() + std::time::Duration::from_millis(1_100);
    assert!(bob.await_within(deadline - std::time::Instant::now(), |_| true).is_none(), "one at a time");
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&first, 200);
    alice.expect_status(&short, 480);
    bob.expect_nothing_more();
    wait_until_stored(&server, 0);
}

/// What `hither message trace` prints.
fn trace(server: &Server, name: &str) -> String {
    let output = server.cli(&["message", "trace", name], "");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn is_in_order(text: &str, wanted: &[&str]) {
    let mut rest = text;
    for one in wanted {
        rest = rest.split_once(one).unwrap_or_else(|| panic!("no {one:?} where it should be in\n{text}")).1;
    }
}

fn a_message_is_followed_from_its_sender_to_its_devices_a34(database: Database) {
    let mut server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    bob.register();
    let request = alice.message("bob", "eyes-only");
    let arrived = text(&mut bob, "eyes-only");
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&request, 200);
    let device = bob.contact_uri();
    let said = trace(&server, request.call_id());
    is_in_order(
        &said,
        &[
            "text of 9 bytes",
            "came by udp",
            &format!("sent to {device}"),
            &format!("{device} said 200"),
            "answered 200",
        ],
    );
    // Stored, by its Message-ID, over a restart too.
    bob.register_contact(&format!("{};expires=0", bob.contact()), None);
    let body = "From: <im:alice@hither.example>\r\nTo: <im:b@x>\r\nNS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: 34jk324j\r\n\r\n\
                Content-Type: text/plain\r\n\r\neyes-only";
    let request = alice.request("MESSAGE", &aor("bob")).body("message/cpim", body.as_bytes());
    let (request, answer) = alice.ask_and_tell(request);
    assert_eq!(answer.status(), Some(202), "{answer}");
    let stored = trace(&server, "34jk324j");
    is_in_order(&stored, &["came by udp", "put before the store", "stored", "answered 202"]);
    server.restart();
    let found = trace(&server, request.call_id());
    is_in_order(&found, &["Message-ID 34jk324j", "stored", "found in the store"]);
    bob.register();
    let arrived = bob.expect_request("MESSAGE");
    bob.answer(&arrived, 200, "OK");
    wait_until_stored(&server, 0);
    // Our id is in the Call-ID that the device sees.
    let delivered = trace(&server, arrived.call_id());
    is_in_order(
        &delivered,
        &[
            "taken from the store",
            &format!("sent to {device}"),
            &format!("{device} said 200"),
            "delivered, and gone",
        ],
    );
    for text in [said, stored, found, delivered] {
        assert!(!text.contains("eyes-only"), "{text}");
    }
    let nothing = server.cli(&["message", "trace", "unheard-of"], "");
    assert_eq!(nothing.status.code(), Some(1), "{nothing:?}");
}

over_each_transport!(
    the_device_that_somebody_is_at_gets_it_and_the_others_if_it_fails_rfc3428_6,
    a_slow_device_has_one_message_at_a_time_and_holds_up_nobody_rfc3428_8,
);
on_each_database!(
    who_says_nothing_of_it_gets_it_on_every_device_rfc3428_6,
    switched_off_every_device_gets_it_rfc3428_6,
    what_is_stored_and_what_comes_now_go_to_a_device_one_by_one_rfc3428_8,
    that_somebody_was_typing_long_ago_is_told_to_nobody_rfc3994_3_3,
    a_message_is_followed_from_its_sender_to_its_devices_a34,
);

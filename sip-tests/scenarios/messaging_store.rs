//! MESSAGE that is stored and forwarded (RFC 3428 7).

use std::time::{Duration, Instant};

use crate::harness::message::tag;
use crate::harness::phone::user_of;
use crate::harness::{Database, Message, Phone, Server, Transport};

/// The next MESSAGE that comes, answered 200.
fn take(phone: &mut Phone) -> Message {
    let arrived = phone.expect_request("MESSAGE");
    phone.answer(&arrived, 200, "OK");
    arrived
}

/// How many messages the server says it has stored.
pub(super) fn stored(server: &Server) -> u64 {
    let output = server.cli(&["status"], "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let count = text.lines().find_map(|line| line.strip_prefix("messages: ")?.parse().ok());
    count.unwrap_or_else(|| panic!("no count in:\n{text}"))
}

pub(super) fn wait_until_stored(server: &Server, count: u64) {
    let deadline = Instant::now() + crate::harness::DEADLINE;
    while stored(server) != count {
        assert!(Instant::now() < deadline, "{} stored, not {count}", stored(server));
    }
}

fn a_message_for_who_is_away_is_202_and_comes_when_they_register_rfc3428_7(
    database: Database,
    via: Transport,
) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    let request = alice
        .message_request("bob", "Grüße\r\n\r\nfrom afar")
        .header("Date", "Sat, 13 Nov 2010 23:29:00 GMT")
        .header("Subject", "gruß")
        .header("Priority", "urgent")
        .header("In-Reply-To", "before@example.org")
        .header("P-Asserted-Identity", "<sip:boss@hither.example>")
        .header("X-Unknown", "kept")
        .header("Content-Disposition", "render");
    let (request, accepted) = alice.ask_and_tell(request);
    assert_eq!(accepted.status(), Some(202), "{accepted}");
    assert!(accepted.body.is_empty() && accepted.header("Contact").is_none(), "{accepted}");
    assert_eq!(stored(&server), 1);
    bob.register();
    let arrived = take(&mut bob);
    assert_eq!(arrived.uri(), bob.contact_uri(), "{arrived}");
    assert_eq!(arrived.body, "Grüße\r\n\r\nfrom afar".as_bytes(), "byte for byte");
    for (name, value) in [
        ("Content-Type", "text/plain;charset=utf-8"),
        ("Date", "Sat, 13 Nov 2010 23:29:00 GMT"),
        ("Subject", "gruß"),
        ("Priority", "urgent"),
        ("In-Reply-To", "before@example.org"),
        ("X-Unknown", "kept"),
        ("Content-Disposition", "render"),
        ("Max-Forwards", "70"),
    ] {
        assert_eq!(arrived.rows(name), [value], "{name} of\n{arrived}");
    }
    assert_eq!(user_of(arrived.need("From")), "alice");
    // A request of our own: Call-ID and tag are ours (RFC 3261 8.1.1).
    assert_ne!(arrived.call_id(), request.call_id());
    assert_ne!(arrived.tag_in_from(), tag(request.get("From")));
    assert_eq!(arrived.to_tag(), None);
    assert_eq!(arrived.list("Via").len(), 1, "{arrived}");
    for name in ["Contact", "Proxy-Authorization", "Record-Route", "P-Asserted-Identity"] {
        assert!(arrived.header(name).is_none(), "{name}:\n{arrived}");
    }
    wait_until_stored(&server, 0);
    bob.register();
    bob.expect_nothing_more();
    alice.expect_nothing_more();
}

fn messages_come_in_their_order_one_at_a_time_rfc3428_8(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut carol = Phone::new(&server, "carol", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", via);
    for number in 0..12 {
        let sender = if number % 3 == 0 { &mut carol } else { &mut alice };
        assert_eq!(sender.ask_message("bob", &format!("number {number}")).status(), Some(202));
    }
    bob.register();
    for number in 0..12 {
        let arrived = bob.expect_request("MESSAGE");
        assert_eq!(arrived.body_text(), format!("number {number}"));
        // A MESSAGE has no second one beside it before it is answered.
        bob.expect_nothing_more();
        bob.answer(&arrived, 200, "OK");
    }
    wait_until_stored(&server, 0);
    // From now on they come at once again.
    let request = alice.message("bob", "live");
    assert_eq!(take(&mut bob).body_text(), "live");
    alice.expect_status(&request, 200);
}

fn a_message_behind_others_does_not_overtake_them_rfc3428_8(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    assert_eq!(alice.ask_message("bob", "first").status(), Some(202));
    bob.register();
    let first = bob.expect_request("MESSAGE");
    assert_eq!(alice.ask_message("bob", "second").status(), Some(202));
    bob.answer(&first, 200, "OK");
    assert_eq!(take(&mut bob).body_text(), "second");
    wait_until_stored(&server, 0);
}

fn an_acknowledged_message_survives_a_crash_rfc3428_x1(database: Database) {
    let mut server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    for text in ["one", "two"] {
        assert_eq!(alice.ask_message("bob", text).status(), Some(202));
    }
    server.kill9();
    server.restart();
    wait_until_stored(&server, 2);
    bob.register();
    assert_eq!(take(&mut bob).body_text(), "one");
    assert_eq!(take(&mut bob).body_text(), "two");
    wait_until_stored(&server, 0);
    server.kill9();
    server.restart();
    bob.register();
    bob.expect_nothing_more();
}

fn after_a_restart_registered_devices_get_what_is_owed_without_being_asked(database: Database) {
    let mut server = Server::with(database, |config| config.set("messaging.answer_s", 1));
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    bob.register();
    let request = alice.message("bob", "owed");
    // The phone is there and says nothing.
    bob.expect_request("MESSAGE");
    alice.expect_status(&request, 202);
    server.kill9();
    server.restart();
    let again =
        bob.expect("the stored copy", |m| m.is_request("MESSAGE") && m.call_id() != request.call_id());
    assert_eq!(again.body_text(), "owed");
    bob.answer(&again, 200, "OK");
    wait_until_stored(&server, 0);
}

fn a_silent_device_is_202_after_a_while_and_its_late_answer_counts_rfc3428_x1(
    database: Database,
    via: Transport,
) {
    let server = Server::with(database, |config| config.set("messaging.answer_s", 1));
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    bob.register();
    let request = alice.message("bob", "slowly");
    let arrived = bob.expect_request("MESSAGE");
    alice.expect_status(&request, 202);
    assert_eq!(stored(&server), 1);
    // The first copy is still out: another one would be a second message.
    bob.register();
    bob.answer(&arrived, 200, "OK");
    wait_until_stored(&server, 0);
    bob.register();
    bob.expect_nothing_more();
    alice.expect_nothing_more();
}

fn a_device_that_cannot_now_is_asked_again_rfc3428_x3(database: Database) {
    let server = Server::with(database, |config| config.set("messaging.retry_s", 1));
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    bob.register();
    let request = alice.message("bob", "again");
    let arrived = bob.expect_request("MESSAGE");
    bob.answer(&arrived, 480, "Temporarily Unavailable");
    alice.expect_status(&request, 202);
    // While it stays registered.
    let mut numbers = Vec::new();
    for status in [503, 486] {
        let arrived = bob.expect_request("MESSAGE");
        numbers.push((arrived.call_id().to_owned(), arrived.cseq()));
        bob.answer(&arrived, status, "Not Now");
    }
    // And at once when it registers.
    bob.register();
    let arrived = take(&mut bob);
    numbers.push((arrived.call_id().to_owned(), arrived.cseq()));
    assert_eq!(arrived.body_text(), "again");
    assert!(numbers.windows(2).all(|pair| pair[0].0 == pair[1].0 && pair[0].1 < pair[1].1), "{numbers:?}");
    wait_until_stored(&server, 0);
}

fn what_every_device_refuses_for_good_is_given_up_rfc3428_x3(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    for text in ["refused", "welcome"] {
        assert_eq!(alice.ask_message("bob", text).status(), Some(202));
    }
    bob.register();
    let arrived = bob.expect_request("MESSAGE");
    assert_eq!(arrived.body_text(), "refused");
    bob.answer(&arrived, 415, "Unsupported Media Type");
    assert_eq!(take(&mut bob).body_text(), "welcome");
    wait_until_stored(&server, 0);
}

fn one_device_that_takes_it_is_enough_rfc3428_6(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut desk = Phone::new(&server, "bob", Transport::Udp);
    let mut mobile = Phone::new(&server, "bob", Transport::Udp);
    desk.register();
    mobile.register();
    let request = alice.message("bob", "to whoever understands it");
    let at_desk = desk.expect_request("MESSAGE");
    desk.answer(&at_desk, 415, "Unsupported Media Type");
    let at_mobile = mobile.expect_request("MESSAGE");
    mobile.answer(&at_mobile, 503, "Not Now");
    // One of them may take it yet.
    alice.expect_status(&request, 202);
    assert_eq!(stored(&server), 1);
}

fn an_expired_message_is_not_delivered_rfc3428_7(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let soon = alice.message_request("bob", "soon over").header("Expires", "1");
    assert_eq!(alice.ask(soon).status(), Some(202));
    assert_eq!(alice.ask_message("bob", "lasting").status(), Some(202));
    wait_until_stored(&server, 1);
    bob.register();
    assert_eq!(take(&mut bob).body_text(), "lasting");
    bob.expect_nothing_more();
    // What is over when it comes, or is for now or never, is not promised.
    for (name, value) in [("Expires", "0"), ("Require", "unheard-of")] {
        let carol = alice.message_request("carol", "now or never").header(name, value);
        assert_eq!(alice.ask(carol).status(), Some(480), "{name}");
    }
    let old = alice.message_request("carol", "old").header("Expires", "60");
    let old = old.header("Date", "Sat, 13 Nov 2010 23:29:00 GMT");
    assert_eq!(alice.ask(old).status(), Some(480));
    wait_until_stored(&server, 0);
}

fn that_somebody_is_typing_is_never_stored_rfc3994_3_2(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let typing = |alice: &mut Phone| {
        let body = b"<isComposing xmlns=\"urn:ietf:params:xml:ns:im-iscomposing\"><state>active</state></isComposing>";
        alice
            .request("MESSAGE", &crate::harness::phone::aor("bob"))
            .body("application/im-iscomposing+xml", body)
    };
    let request = typing(&mut alice);
    assert_eq!(alice.ask(request).status(), Some(480));
    assert_eq!(stored(&server), 0);
    bob.register();
    let request = typing(&mut alice);
    let request = alice.start(request);
    take(&mut bob);
    alice.expect_status(&request, 200);
}

fn a_full_mailbox_is_480_for_that_user_alone_a24(database: Database) {
    let server = Server::with(database, |config| {
        config.set("messaging.max_per_user", 3);
        config.set("messaging.max_bytes_per_user", 10_000);
    });
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    for number in 0..3 {
        assert_eq!(alice.ask_message("bob", &format!("number {number}")).status(), Some(202));
    }
    let full = alice.ask_message("bob", "one too many");
    assert_eq!(full.status(), Some(480), "{full}");
    assert!(full.start.ends_with("Mailbox Full"), "{full}");
    // By bytes.
    assert_eq!(alice.ask_message("carol", &"x".repeat(6_000)).status(), Some(202));
    assert_eq!(alice.ask_message("carol", &"x".repeat(6_000)).status(), Some(480));
    bob.register();
    for number in 0..3 {
        assert_eq!(take(&mut bob).body_text(), format!("number {number}"));
    }
    wait_until_stored(&server, 1);
    bob.expect_nothing_more();
}

fn what_is_too_large_for_a_device_lets_the_others_pass_rfc3428_8(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let long = "x".repeat(4_000);
    for text in [&long, "short"] {
        assert_eq!(alice.ask_message("bob", text).status(), Some(202));
    }
    bob.register();
    assert_eq!(take(&mut bob).body_text(), "short");
    wait_until_stored(&server, 1);
    let mut reliable = Phone::new(&server, "bob", Transport::Tcp);
    bob.register_contact(&format!("{};expires=0", bob.contact()), None);
    reliable.register();
    assert_eq!(take(&mut reliable).body_text(), long);
    wait_until_stored(&server, 0);
    bob.expect_nothing_more();
}

fn nothing_is_left_on_the_disk_of_what_was_delivered_a34(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let secret = format!("eyes-only-{}", std::process::id());
    assert_eq!(alice.ask_message("bob", &secret).status(), Some(202));
    let holds = |server: &Server| {
        std::fs::read_dir(server.dir.path()).expect("the directory").any(|file| {
            let bytes = std::fs::read(file.expect("a file").path()).unwrap_or_default();
            bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
        })
    };
    assert!(holds(&server) || database == Database::Postgres);
    bob.register();
    take(&mut bob);
    wait_until_stored(&server, 0);
    // The log of the database begins anew every few seconds.
    let deadline = Instant::now() + Duration::from_secs(15);
    while holds(&server) {
        assert!(Instant::now() < deadline, "still on disk");
    }
    assert!(!server.log().contains(&secret), "bodies are not logged");
}

fn without_a_store_the_sender_is_told_rfc3428_7(database: Database) {
    let server = Server::with(database, |config| config.set("messaging.store", false));
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    assert_eq!(alice.ask_message("bob", "anyone?").status(), Some(480));
    bob.register();
    let request = alice.message("bob", "hello");
    take(&mut bob);
    alice.expect_status(&request, 200);
}

fn many_who_come_back_at_once_are_served_in_order_and_calls_go_on(database: Database) {
    const USERS: usize = 30;
    let server = Server::start(database);
    let users: Vec<String> = (0..USERS).map(|number| format!("user{number}")).collect();
    users.iter().for_each(|user| server.add_user(user));
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    alice.register();
    bob.register();
    let mut phones: Vec<Phone> = users.iter().map(|user| Phone::new(&server, user, Transport::Udp)).collect();
    for user in &users {
        for number in 0..3 {
            assert_eq!(alice.ask_message(user, &format!("number {number}")).status(), Some(202));
        }
    }
    // All of them know the challenge, then all of them register before anybody reads an answer.
    phones.iter_mut().for_each(|phone| assert!(phone.fetch_contacts().is_empty()));
    for phone in &mut phones {
        let contact = phone.contact();
        let mut register = phone.register_request().header("Contact", &contact).header("Expires", "600");
        phone.authorize(&mut register, "Authorization");
        phone.send(&register);
    }
    let (caller, _) = crate::harness::call::connect(&mut alice, &mut bob);
    let bye = alice.in_dialog(&caller, "BYE");
    alice.send(&bye);
    let arrived = bob.expect_request("BYE");
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&bye, 200);
    for number in 0..3 {
        for phone in &mut phones {
            assert_eq!(take(phone).body_text(), format!("number {number}"), "to {}", phone.user);
        }
    }
    wait_until_stored(&server, 0);
}

over_each_transport!(
    a_message_for_who_is_away_is_202_and_comes_when_they_register_rfc3428_7,
    messages_come_in_their_order_one_at_a_time_rfc3428_8,
    a_silent_device_is_202_after_a_while_and_its_late_answer_counts_rfc3428_x1,
);
on_each_database!(
    a_message_behind_others_does_not_overtake_them_rfc3428_8,
    an_acknowledged_message_survives_a_crash_rfc3428_x1,
    after_a_restart_registered_devices_get_what_is_owed_without_being_asked,
    a_device_that_cannot_now_is_asked_again_rfc3428_x3,
    what_every_device_refuses_for_good_is_given_up_rfc3428_x3,
    one_device_that_takes_it_is_enough_rfc3428_6,
    an_expired_message_is_not_delivered_rfc3428_7,
    that_somebody_is_typing_is_never_stored_rfc3994_3_2,
    a_full_mailbox_is_480_for_that_user_alone_a24,
    what_is_too_large_for_a_device_lets_the_others_pass_rfc3428_8,
    nothing_is_left_on_the_disk_of_what_was_delivered_a34,
    without_a_store_the_sender_is_told_rfc3428_7,
    many_who_come_back_at_once_are_served_in_order_and_calls_go_on,
);

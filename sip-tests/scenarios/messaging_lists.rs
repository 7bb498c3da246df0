//! One MESSAGE for many recipients (RFC 5365).

use crate::harness::phone::{aor, user_of};
use crate::harness::{DOMAIN, Database, Message, Phone, Request, Server, Transport};
use crate::scenarios::messaging_store::wait_until_stored;

const OPTION: &str = "recipient-list-message";

/// "Hello World!" for these: user, `copyControl`, and whether others learn who it is.
fn to_all(phone: &mut Phone, entries: &[(&str, &str, bool)]) -> Request {
    let entry = |(uri, role, anonymous): &(&str, &str, bool)| {
        let uri = if uri.contains(':') { (*uri).to_owned() } else { aor(uri) };
        format!("<entry uri=\"{uri}\" cp:copyControl=\"{role}\" cp:anonymize=\"{anonymous}\"/>")
    };
    let all: String = entries.iter().map(entry).collect();
    let body = format!(
        "--boundary1\r\nContent-Type: text/plain\r\n\r\nHello World!\r\n--boundary1\r\n\
         Content-Type: application/resource-lists+xml\r\nContent-Disposition: recipient-list\r\n\r\n\
         <?xml version=\"1.0\"?><resource-lists xmlns=\"urn:ietf:params:xml:ns:resource-lists\" \
         xmlns:cp=\"urn:ietf:params:xml:ns:copycontrol\"><list>{all}</list></resource-lists>\r\n--boundary1--\r\n"
    );
    phone
        .request("MESSAGE", &format!("sip:{DOMAIN}"))
        .header("Require", OPTION)
        .body("multipart/mixed;boundary=\"boundary1\"", body.as_bytes())
}

fn take(phone: &mut Phone) -> Message {
    let arrived = phone.expect_request("MESSAGE");
    phone.answer(&arrived, 200, "OK");
    arrived
}

fn everybody_in_the_list_gets_a_copy_of_their_own_rfc5365_7_2(database: Database) {
    let mut server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    bob.register();
    let entries = [("bob", "to", false), ("carol", "cc", true), ("dave", "bcc", false)];
    let request =
        to_all(&mut alice, &entries).header("Subject", "all").header("Contact", "<sip:alice@192.0.2.9>");
    let (request, accepted) = alice.ask_and_tell(request);
    assert_eq!(accepted.status(), Some(202), "{accepted}");
    let arrived = take(&mut bob);
    assert_eq!(user_of(arrived.need("From")), "alice");
    assert_eq!(user_of(arrived.need("To")), "bob");
    assert_ne!(arrived.call_id(), request.call_id());
    assert_eq!(arrived.header("Subject"), Some("all"));
    assert_eq!(arrived.header("Max-Forwards"), Some("70"));
    for gone in ["Require", "Contact", "Authorization", "Proxy-Authorization"] {
        assert_eq!(arrived.header(gone), None, "{gone} in\n{arrived}");
    }
    let text = arrived.body_text();
    assert!(text.contains("Hello World!"), "{text}");
    assert!(text.contains("Content-Disposition: recipient-list-history;handling=optional"), "{text}");
    assert!(!text.contains("Content-Disposition: recipient-list\r\n"), "{text}");
    assert!(text.contains(&format!("<entry uri=\"{}\" cp:copyControl=\"to\"/>", aor("bob"))), "{text}");
    assert!(
        text.contains("sip:anonymous@anonymous.invalid\" cp:copyControl=\"cc\" cp:count=\"1\""),
        "{text}"
    );
    assert!(!text.contains("carol") && !text.contains("dave"), "{text}");
    // What was promised outlives the server.
    wait_until_stored(&server, 2);
    server.kill9();
    server.restart();
    for user in ["carol", "dave"] {
        let mut phone = Phone::new(&server, user, Transport::Tcp);
        phone.register();
        let arrived = take(&mut phone);
        assert_eq!(user_of(arrived.need("To")), user);
        assert!(arrived.body_text().contains("Hello World!"), "{arrived}");
        phone.expect_nothing_more();
    }
    wait_until_stored(&server, 0);
}

fn a_recipient_named_twice_gets_one_copy_rfc5365_7_1(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    bob.register();
    let spelled = format!("sip:%62ob@{};method=INVITE?Subject=x", DOMAIN.to_uppercase());
    let request = to_all(&mut alice, &[("bob", "bcc", false), (&spelled, "bcc", false)]);
    let response = alice.ask(request);
    assert_eq!(response.status(), Some(202), "{response}");
    let arrived = take(&mut bob);
    // Nobody is named in it, so the text stands alone (7.3).
    assert_eq!((arrived.need("Content-Type"), arrived.body_text().as_str()), ("text/plain", "Hello World!"));
    bob.expect_nothing_more();
}

fn what_is_no_list_is_refused_and_nobody_gets_anything_rfc5365_5(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    bob.register();
    assert!(alice.options().list("Supported").iter().any(|tag| tag == OPTION));
    // Strangers are challenged, whatever they ask for.
    let request = to_all(&mut alice, &[("bob", "to", false)]);
    assert_eq!(alice.transact(&request).status(), Some(401));
    let both = [("bob", "to", false), ("nobody", "to", false)];
    let elsewhere = [("bob", "to", false), ("sip:eve@elsewhere.example", "to", false)];
    for (entries, status) in [(&both, 404), (&elsewhere, 403)] {
        let request = to_all(&mut alice, entries);
        let response = alice.ask(request);
        assert_eq!(response.status(), Some(status), "{response}");
    }
    let request = to_all(&mut alice, &[("bob", "to", false)]).set("Require", "recipient-list-message, other");
    let response = alice.ask(request);
    assert_eq!((response.status(), response.header("Unsupported")), (Some(420), Some("other")), "{response}");
    let request = to_all(&mut alice, &[("bob", "to", false)]).body("text/plain", b"x");
    let response = alice.ask(request);
    assert_eq!(response.status(), Some(415), "{response}");
    assert!(response.need("Accept").contains("application/resource-lists+xml"), "{response}");
    // Without the option-tag it is a message for nobody.
    let request = to_all(&mut alice, &[("bob", "to", false)]).without("Require");
    assert_eq!(alice.ask(request).status(), Some(405));
    let many: Vec<String> = (0..51).map(|n| format!("sip:u{n}@{DOMAIN}")).collect();
    let many: Vec<_> = many.iter().map(|uri| (uri.as_str(), "to", false)).collect();
    let request = to_all(&mut alice, &many);
    assert!(matches!(alice.ask(request).status(), Some(403 | 404)));
    bob.expect_nothing_more();
    wait_until_stored(&server, 0);
}

/// Who keeps nothing can promise nothing to many.
fn without_a_store_there_are_no_lists_rfc5365_5(database: Database) {
    let server = Server::with(database, |config| config.set("messaging.store", false));
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    assert!(!alice.options().list("Supported").iter().any(|tag| tag == OPTION));
    let request = to_all(&mut alice, &[("bob", "to", false)]);
    let response = alice.ask(request);
    assert_eq!((response.status(), response.header("Unsupported")), (Some(420), Some(OPTION)), "{response}");
}

/// A list says no more than its sender could say without it.
fn a_list_is_no_amplifier_a26(database: Database) {
    let server = Server::with(database, |config| {
        config.set("messaging.burst", 4);
        config.set("messaging.per_minute", 1);
        config.set("messaging.max_per_user", 2);
    });
    let block = |handling: &str, user: &str| {
        let output = server.cli(&["rules", user, handling, "alice"], "");
        assert!(output.status.success(), "{output:?}");
    };
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    // Who does not want to hear her does not, openly or without her noticing.
    block("block", "bob");
    let request = to_all(&mut alice, &[("carol", "to", false), ("bob", "to", false)]);
    assert_eq!(alice.ask(request).status(), Some(403));
    wait_until_stored(&server, 0);
    block("polite-block", "bob");
    let request = to_all(&mut alice, &[("carol", "to", false), ("bob", "to", false)]);
    assert_eq!(alice.ask(request).status(), Some(202));
    wait_until_stored(&server, 1);
    // Each copy is one of hers: one for carol before she was refused, two since.
    let request = to_all(&mut alice, &[("carol", "to", false), ("dave", "to", false)]);
    let response = alice.ask(request);
    assert_eq!(response.status(), Some(503), "{response}");
    assert!(response.header("Retry-After").is_some(), "{response}");
    wait_until_stored(&server, 1);
}

/// All or nobody: who is told no may send it again without anybody reading it twice.
fn where_one_has_no_room_nobody_gets_a_copy_a24(database: Database) {
    let server = Server::with(database, |config| config.set("messaging.max_per_user", 1));
    let mut dave = Phone::new(&server, "dave", Transport::Tcp);
    assert_eq!(dave.ask_message("carol", "first").status(), Some(202));
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    bob.register();
    let request = to_all(&mut alice, &[("bob", "to", false), ("carol", "to", false)]);
    let response = alice.ask(request);
    assert_eq!(response.status(), Some(480), "{response}");
    bob.expect_nothing_more();
    wait_until_stored(&server, 1);
}

on_each_database!(
    everybody_in_the_list_gets_a_copy_of_their_own_rfc5365_7_2,
    a_recipient_named_twice_gets_one_copy_rfc5365_7_1,
    what_is_no_list_is_refused_and_nobody_gets_anything_rfc5365_5,
    without_a_store_there_are_no_lists_rfc5365_5,
    a_list_is_no_amplifier_a26,
    where_one_has_no_room_nobody_gets_a_copy_a24,
);

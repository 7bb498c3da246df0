//! Presence set by hand over XCAP: hard state beside what devices publish (RFC 4827).

use std::time::Instant;

use crate::harness::documents::basics;
use crate::harness::phone::aor;
use crate::harness::presence::Subscription;
use crate::harness::web::{ELEMENT, document, part};
use crate::harness::{Database, Message, Phone, Server, Transport, Web};
use crate::scenarios::rules::{SOON, date};
use crate::scenarios::xcap::start;

const PIDF: &str = "application/pidf+xml";

fn index() -> String {
    document("pidf-manipulation", "alice", "index")
}

/// The document of RFC 4827 11, as alice's.
fn vacation(inside: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" \
         xmlns:rp=\"urn:ietf:params:xml:ns:pidf:rpid\" xmlns:dm=\"urn:ietf:params:xml:ns:pidf:data-model\" \
         xmlns:ci=\"urn:ietf:params:xml:ns:pidf:cipid\" entity=\"{}\">{inside}\
         <tuple id=\"x8eg92n\"><status><basic>open</basic></status><rp:class>auth-1</rp:class>\
         <contact priority=\"1.0\">mailto:someone@example.com</contact><note>a couple of times a week</note></tuple>\
         <dm:person id=\"p1\"><rp:class>auth-A</rp:class><ci:homepage>http://www.example.com/~someone</ci:homepage>\
         <rp:activities><rp:vacation/></rp:activities></dm:person></presence>",
        aor("alice")
    )
}

fn cli(server: &Server, arguments: &[&str]) -> String {
    let output = server.cli(arguments, "");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn told(bob: &mut Phone, watching: &Subscription, since: Instant) -> Message {
    let notify = bob.expect_notify(&watching.call_id);
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
    assert_eq!(notify.subscription_state(), "active", "{notify}");
    notify
}

/// Alice is watched by bob, who may see everything.
fn watched(database: Database) -> (Server, Phone, Web, Subscription) {
    let server = start(database);
    cli(&server, &["rules", "alice", "allow", "bob"]);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    let watching = bob.subscribe("alice");
    assert_eq!(basics(&watching.notify.body_text()), ["closed"]);
    let web = Web::new(&server, "alice");
    (server, bob, web, watching)
}

fn what_is_set_by_hand_holds_until_it_is_taken_away_rfc4827_9(database: Database) {
    let (mut server, mut bob, mut alice, watching) = watched(database);
    let mut carol = Phone::new(&server, "carol", Transport::Tcp);
    assert_eq!(carol.subscribe("alice").notify.subscription_state(), "pending");
    let since = Instant::now();
    let made = alice.put(&index(), PIDF, &vacation(""));
    assert_eq!(made.status, 201, "{made:?}");
    let notify = told(&mut bob, &watching, since);
    let text = notify.body_text();
    assert!(text.contains("mailto:someone@example.com") && text.contains("vacation"), "{text}");
    assert_eq!(basics(&text), ["open"], "{text}");
    // One element of it, as in the example.
    let note = part(&index(), "presence/tuple[@id='x8eg92n']/note");
    let since = Instant::now();
    let headers = [("Content-Type", ELEMENT), ("If-Match", &made.tag())];
    assert_eq!(alice.ask("PUT", &note, &headers, b"<note>on Tuesdays and Fridays</note>").status, 200);
    let text = told(&mut bob, &watching, since).body_text();
    assert!(text.contains("on Tuesdays") && !text.contains("couple of times"), "{text}");
    assert_eq!(alice.ask("PUT", &note, &headers, b"<note>x</note>").status, 412);
    let explained = cli(&server, &["explain", "--watcher", "bob", "--presentity", "alice"]);
    assert!(explained.contains("document pidf-manipulation/index"), "{explained}");
    // Who is not let in hears of none of it.
    carol.expect_nothing_more();
    server.kill9();
    server.restart();
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    let watching = bob.subscribe("alice");
    assert!(watching.notify.body_text().contains("on Tuesdays"), "{}", watching.notify);
    let mut alice = Web::new(&server, "alice");
    assert!(alice.get(&index()).body.contains("on Tuesdays"));
    let since = Instant::now();
    assert_eq!(alice.delete(&index()).status, 200);
    let text = told(&mut bob, &watching, since).body_text();
    assert!(!text.contains("vacation") && basics(&text) == ["closed"], "{text}");
    assert_eq!(alice.get(&index()).status, 404);
}

fn it_is_one_source_beside_what_devices_publish_rfc4827_3(database: Database) {
    let (server, mut bob, mut web, watching) = watched(database);
    let since = Instant::now();
    assert_eq!(web.put(&index(), PIDF, &vacation("")).status, 201);
    told(&mut bob, &watching, since);
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    let since = Instant::now();
    let published = format!(
        "<?xml version=\"1.0\"?><presence xmlns=\"urn:ietf:params:xml:ns:pidf\" xmlns:dm=\"urn:ietf:params:xml:ns:pidf:data-model\" \
         xmlns:rpid=\"urn:ietf:params:xml:ns:pidf:rpid\" entity=\"{}\"><tuple id=\"x8eg92n\"><status><basic>closed</basic></status>\
         <note>soft</note></tuple><dm:person id=\"me\"><rpid:activities><rpid:meal/></rpid:activities></dm:person></presence>",
        aor("alice")
    );
    let tag = alice.publish(&published);
    let text = told(&mut bob, &watching, since).body_text();
    // Both services, each under its id; of the person what was said last.
    assert_eq!(basics(&text), ["open", "closed"], "{text}");
    assert_eq!(text.matches("id=\"x8eg92n\"").count(), 1, "{text}");
    assert!(text.contains("rpid:meal") && !text.contains("vacation") && text.contains("homepage"), "{text}");
    // One cannot be changed by way of the other.
    assert!(!web.get(&index()).body.contains("soft"));
    let since = Instant::now();
    alice.publish_as(None, Some(&tag), 0);
    let text = told(&mut bob, &watching, since).body_text();
    assert!(text.contains("vacation") && !text.contains("soft"), "{text}");
}

fn there_is_one_document_and_it_is_a_presence_document_of_its_owner_rfc4827_7(database: Database) {
    let server = start(database);
    let mut alice = Web::new(&server, "alice");
    let other = document("pidf-manipulation", "alice", "other");
    assert_eq!(alice.put(&other, PIDF, &vacation("")).condition(), "constraint-failure");
    assert_eq!(alice.get(&other).status, 404);
    assert_eq!(alice.put(&index(), "application/xml", &vacation("")).status, 415);
    let put = |alice: &mut Web, body: &str| alice.put(&index(), PIDF, body).condition().to_owned();
    let twice = "<tuple id=\"x8eg92n\"><status/></tuple>";
    assert_eq!(put(&mut alice, &vacation(twice)), "schema-validation-error");
    assert_eq!(put(&mut alice, &vacation("<tuple id=\"a\"/>")), "schema-validation-error");
    assert_eq!(put(&mut alice, &vacation("").replace(&aor("alice"), &aor("bob"))), "constraint-failure");
    let large = format!("<tuple id=\"a\"><status/><note>{}</note></tuple>", "x".repeat(40_000));
    assert_eq!(put(&mut alice, &vacation(&large)), "constraint-failure");
    assert_eq!(alice.get(&index()).status, 404, "nothing was kept");
    let mut bob = Web::new(&server, "bob");
    assert_eq!(bob.put(&index(), PIDF, &vacation("")).status, 403);
    assert_eq!(alice.put(&index(), PIDF, &vacation("")).status, 201);
    let caps = alice.get("/xcap-root/xcap-caps/global/index").body;
    assert!(caps.contains("<auid>pidf-manipulation</auid>"), "{caps}");
    let directory = document("org.openmobilealliance.xcap-directory", "alice", "directory.xml");
    assert!(alice.get(&directory).body.contains(&index()));
}

fn what_it_says_of_a_time_ends_by_itself_rfc4480_3_1(database: Database) {
    let (_server, mut bob, mut alice, watching) = watched(database);
    let until = date(3);
    let body = vacation("").replace("<rp:activities>", &format!("<rp:activities until=\"{until}\">"));
    assert_eq!(alice.put(&index(), PIDF, &body).status, 201);
    let notify = bob.expect_notify(&watching.call_id);
    assert!(notify.body_text().contains("vacation"), "{notify}");
    let notify = bob.expect_notify(&watching.call_id);
    assert!(!notify.body_text().contains("vacation"), "{notify}");
    assert!(notify.body_text().contains("mailto:"), "{notify}");
}

/// Who wants to know of changes asks again: it costs a head.
fn changes_of_documents_are_no_event_package_rfc5875_4_7(database: Database) {
    let server = start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    let request = alice.subscribe_request("alice", "xcap-diff", 600);
    let response = alice.ask(request);
    assert_eq!(response.status(), Some(489), "{response}");
    assert!(!response.need("Allow-Events").contains("xcap-diff"), "{response}");
    let mut web = Web::new(&server, "alice");
    let tag = web.put(&index(), PIDF, &vacation("")).tag();
    let unchanged = web.ask("GET", &index(), &[("If-None-Match", &tag)], b"");
    assert_eq!((unchanged.status, unchanged.body.as_str()), (304, ""));
}

on_each_database!(
    changes_of_documents_are_no_event_package_rfc5875_4_7,
    what_is_set_by_hand_holds_until_it_is_taken_away_rfc4827_9,
    it_is_one_source_beside_what_devices_publish_rfc4827_3,
    there_is_one_document_and_it_is_a_presence_document_of_its_owner_rfc4827_7,
    what_it_says_of_a_time_ends_by_itself_rfc4480_3_1,
);

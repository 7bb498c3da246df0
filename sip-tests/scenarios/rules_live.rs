//! Rules and lists over XCAP and by the command line: one document, and who watches already notices at once.
//!
//! How long it takes: `cargo test --test scenarios -- --ignored --nocapture revocation_by_the_clock`

use std::time::{Duration, Instant};

use crate::harness::web::{LISTS, RULES, document, part};
use crate::harness::{DOMAIN, Database, Message, Phone, Server, Transport, Web};
use crate::scenarios::rules::{ALL, BOB, SOON, rule, ruleset, secrets};
use crate::scenarios::xcap::{lists, start};

fn index() -> String {
    document("pres-rules", "alice", "index")
}

/// Writes `rules` over XCAP.
fn put(alice: &mut Web, rules: &str) {
    let reply = alice.put(&index(), RULES, &ruleset(rules));
    assert!(reply.status == 200 || reply.status == 201, "{reply:?}");
}

fn cli(server: &Server, arguments: &[&str]) -> String {
    let output = server.cli(arguments, "");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn about_bob(handling: &str) -> String {
    rule("a", BOB, handling, ALL)
}

/// The next NOTIFY, and how long after `since` it came.
fn notified(bob: &mut Phone, call_id: &str, since: Instant) -> (Message, Duration) {
    let notify = bob.take_notify(call_id);
    let after = since.elapsed();
    bob.answer(&notify, 200, "OK");
    (notify, after)
}

fn a_rule_over_xcap_turns_a_live_subscription_rfc5025_3_2_1(database: Database) {
    let server = start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    let mut web = Web::new(&server, "alice");
    alice.publish(&secrets());
    let watching = bob.subscribe("alice");
    assert_eq!(watching.notify.subscription_state(), "pending");
    let since = Instant::now();
    put(&mut web, &about_bob("allow"));
    let (notify, after) = notified(&mut bob, &watching.call_id, since);
    assert!(after < SOON, "{after:?}");
    assert_eq!(notify.subscription_state(), "active", "{notify}");
    assert!(notify.body_text().contains("SECRET-NOTE"), "{notify}");
    // One element of the rule alone.
    let query = "?xmlns(c=urn:ietf:params:xml:ns:common-policy)xmlns(p=urn:ietf:params:xml:ns:pres-rules)";
    let services = "c:ruleset/c:rule[@id=\"a\"]/c:transformations/p:provide-services";
    assert_eq!(web.delete(&(part(&index(), services) + query)).status, 200);
    let (notify, _) = notified(&mut bob, &watching.call_id, since);
    assert!(!notify.body_text().contains("SECRET-T"), "{notify}");
    assert!(notify.body_text().contains("SECRET-ACTIVITY"), "{notify}");
    let since = Instant::now();
    let gone = part(&index(), "c:ruleset/c:rule[@id=\"a\"]") + query;
    assert_eq!(web.delete(&gone).status, 200);
    let (notify, after) = notified(&mut bob, &watching.call_id, since);
    assert!(after < SOON, "{after:?}");
    assert_eq!(notify.subscription_state(), "terminated", "{notify}");
    assert!(notify.need("Subscription-State").contains("reason=rejected"), "{notify}");
    assert!(notify.body.is_empty(), "{notify}");
    // No document: as the domain says.
    assert_eq!(web.delete(&index()).status, 200);
    assert_eq!(bob.subscribe("alice").notify.subscription_state(), "pending");
}

fn the_command_line_and_xcap_edit_one_document(database: Database) {
    let server = start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    let mut web = Web::new(&server, "alice");
    alice.publish(&secrets());
    // Spaces, quotes and comments of her program's own.
    let own = ruleset(
        "<!-- mine --><cp:rule  id='m' ><cp:conditions/><cp:actions><pr:sub-handling>confirm</pr:sub-handling></cp:actions></cp:rule>",
    );
    let written = web.put(&index(), RULES, &own);
    assert_eq!(written.status, 201);
    let watching = bob.subscribe("alice");
    assert_eq!(watching.notify.subscription_state(), "pending");
    let since = Instant::now();
    cli(&server, &["rules", "alice", "allow", "bob"]);
    let (notify, after) = notified(&mut bob, &watching.call_id, since);
    assert!(after < SOON, "{after:?}");
    assert_eq!(notify.subscription_state(), "active", "{notify}");
    let edited = web.get(&index());
    let (head, tail) = own.split_once("</cp:ruleset>").expect("its end");
    assert!(
        edited.body.starts_with(head) && edited.body.ends_with(&format!("</cp:ruleset>{tail}")),
        "{edited:?}"
    );
    assert!(edited.body.contains(&format!("<one id=\"sip:bob@{DOMAIN}\"/>")), "{edited:?}");
    // Whoever has read it before that has to look again.
    let headers = [("Content-Type", RULES), ("If-Match", &written.tag())];
    assert_eq!(web.ask("PUT", &index(), &headers, own.as_bytes()).status, 412);
    let listed = cli(&server, &["rules", "alice", "list"]);
    for line in [
        "allow         bob",
        "1 more rules of other programs",
        "everybody else: nothing, unless a rule says so",
    ] {
        assert!(listed.contains(line), "{listed}");
    }
    cli(&server, &["rules", "alice", "remove", "bob"]);
    assert_eq!(web.get(&index()).body, own, "byte for byte");
    let (notify, _) = notified(&mut bob, &watching.call_id, since);
    assert_eq!(notify.subscription_state(), "pending", "{notify}");
}

fn lists_are_the_users_own_document_rfc4826_3(database: Database) {
    let mut server = start(database);
    let mut web = Web::new(&server, "alice");
    let index = document("resource-lists", "alice", "index");
    assert!(cli(&server, &["lists", "alice"]).contains("no lists"));
    cli(&server, &["lists", "alice", "add", "friends", "bob"]);
    let bob =
        part(&index, &format!("resource-lists/list[@name=\"friends\"]/entry[@uri=\"sip:bob@{DOMAIN}\"]"));
    assert_eq!(web.get(&bob).status, 200);
    let own = lists(
        "<!-- mine --><list  name='a' ><display-name>A</display-name><entry uri=\"sip:x@example.net\"/></list>",
    );
    assert_eq!(web.put(&index, LISTS, &own).status, 200);
    cli(&server, &["lists", "alice", "add", "a", "bob"]);
    cli(&server, &["lists", "alice", "add", "b", "dave@example.net"]);
    server.restart();
    let listed = cli(&server, &["lists", "alice", "list"]);
    assert_eq!(listed, format!("a  A\n  sip:x@example.net\n  sip:bob@{DOMAIN}\nb\n  sip:dave@example.net\n"));
    let mut web = Web::new(&server, "alice");
    assert_eq!(web.get(&part(&index, "resource-lists/list[2]/entry/@uri")).body, "\"sip:dave@example.net\"");
    cli(&server, &["lists", "alice", "remove", "a", "bob"]);
    cli(&server, &["lists", "alice", "remove", "b"]);
    assert_eq!(web.get(&index).body.replace('\n', ""), own.replace('\n', ""));
    for wrong in
        [["add", "a", "x@example.net"], ["remove", "b", "bob"], ["add", "", "bob"], ["add", "a", "a b"]]
    {
        let output = server.cli(&[&["lists", "alice"], &wrong[..]].concat(), "");
        assert_eq!(output.status.code(), Some(1), "{wrong:?}: {output:?}");
    }
    let output = server.cli(&["lists", "zoe"], "");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no user"), "{output:?}");
}

/// From the first byte of the PUT to the NOTIFY: how long a revocation takes, and a grant.
fn by_the_clock(database: Database) {
    let server = start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    let mut web = Web::new(&server, "alice");
    alice.publish(&secrets());
    let (mut revoked, mut granted) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        put(&mut web, &about_bob("confirm"));
        let watching = bob.subscribe("alice");
        assert_eq!(watching.notify.subscription_state(), "pending");
        let since = Instant::now();
        put(&mut web, &about_bob("allow"));
        let (notify, after) = notified(&mut bob, &watching.call_id, since);
        assert_eq!(notify.subscription_state(), "active", "{notify}");
        granted.push(after);
        let since = Instant::now();
        put(&mut web, &about_bob("block"));
        let (notify, after) = notified(&mut bob, &watching.call_id, since);
        assert_eq!(notify.subscription_state(), "terminated", "{notify}");
        revoked.push(after);
    }
    for (what, mut times) in [("revoked", revoked), ("granted", granted)] {
        times.sort();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        println!(
            "{database:?}: {what} within p50 {:?}, p99 {:?}, at most {:?} ({ROUNDS} times)",
            at(50),
            at(99),
            at(100)
        );
        assert!(at(99) < Duration::from_secs(1), "{what}");
    }
}

const ROUNDS: usize = 200;

mod revocation_by_the_clock {
    use crate::harness::Database;

    #[test]
    #[ignore = "a measurement"]
    fn sqlite() {
        super::by_the_clock(Database::Sqlite);
    }

    #[test]
    #[ignore = "a measurement"]
    fn postgres() {
        if crate::harness::postgres::required_or_present() {
            super::by_the_clock(Database::Postgres);
        }
    }
}

on_each_database!(
    a_rule_over_xcap_turns_a_live_subscription_rfc5025_3_2_1,
    the_command_line_and_xcap_edit_one_document,
    lists_are_the_users_own_document_rfc4826_3,
);

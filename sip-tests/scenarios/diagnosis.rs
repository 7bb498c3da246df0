//! What the operator can ask about a running server: `hither explain`, `hither trace`.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;

use serde_json::Value;

use crate::harness::documents::pidf;
use crate::harness::phone::aor;
use crate::harness::presence::befriend;
use crate::harness::{DEADLINE, Database, Phone, Server, Transport};

/// What `hither ..` prints, if it is done.
fn asked(server: &Server, arguments: &[&str]) -> String {
    let output = server.cli(arguments, "");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn explained(server: &Server, watcher: &str, presentity: &str) -> Value {
    let text = asked(server, &["explain", "--watcher", watcher, "--presentity", presentity, "--json"]);
    serde_json::from_str(&text).expect("JSON")
}

fn traced(server: &Server, user: &str) -> Vec<Value> {
    asked(server, &["trace", user, "--json"])
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn explain_says_which_rule_decides_and_what_the_state_is_made_of(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let before = explained(&server, "bob", "alice");
    assert_eq!((&before["sees"], &before["rule"]), (&"pending".into(), &"reciprocal".into()), "{before}");
    assert_eq!(
        (&before["subscriptions"], &before["next"]),
        (&Value::Array(vec![]), &Value::Null),
        "{before}"
    );
    let (_, watching) = befriend(&mut alice, &mut bob);
    alice.register();
    bob.expect_notify(&watching.call_id);
    let tag = alice.publish_basic("closed", "at lunch");
    let last = bob.expect_notify_until(&watching.call_id, "at lunch", |n| n.body_text().contains("at lunch"));
    let after = explained(&server, "bob", "alice");
    assert_eq!((&after["sees"], &after["open"]), (&"full".into(), &false.into()), "{after}");
    assert_eq!(
        after["because"],
        "alice@hither.example watches bob@hither.example too (presence.default_rule = \"reciprocal\")"
    );
    let sources = after["sources"].as_array().expect("sources");
    assert_eq!(sources[0]["kind"], "registration", "{after}");
    assert_eq!((&sources[1]["kind"], &sources[1]["tag"]), (&"publication".into(), &tag.into()), "{after}");
    let row = &after["subscriptions"][0];
    assert_eq!((&row["call_id"], &row["lives"]), (&watching.call_id.clone().into(), &true.into()), "{after}");
    assert_eq!(row["last"]["cseq"], last.cseq(), "{after}");
    assert!(after["next"]["in_s"].as_u64().is_some_and(|s| s <= 600), "{after}");
    let text = asked(&server, &["explain", "--watcher", "bob", "--presentity", "alice"]);
    assert!(text.starts_with("bob@hither.example sees all of alice@hither.example: "), "{text}");
    assert!(!text.contains("lunch"), "no body: {text}");
}

fn explain_names_the_owners_rules_that_have_a_part_in_it_rfc4745_10_2(database: Database) {
    let server = Server::start(database);
    let rule = |id: &str, who: &str, handling: &str| {
        format!(
            "<rule id=\"{id}\"><conditions><identity>{who}</identity></conditions><actions><sub-handling xmlns=\"urn:ietf:params:xml:ns:pres-rules\">\
             {handling}</sub-handling></actions></rule>"
        )
    };
    let bob = format!("<one id=\"{}\"/>", aor("bob"));
    let rules = [rule("everybody", "<many/>", "confirm"), rule("friends", &bob, "polite-block")].concat();
    let document = format!("<ruleset xmlns=\"urn:ietf:params:xml:ns:common-policy\">{rules}</ruleset>");
    let output = server.cli(&["rules", "alice", "replace", "-"], &document);
    assert!(output.status.success(), "{output:?}");
    for (watcher, sees, expected) in
        [("bob", "unavailable", vec!["everybody", "friends"]), ("carol", "pending", vec!["everybody"])]
    {
        let explained = explained(&server, watcher, "alice");
        assert_eq!((&explained["sees"], &explained["rule"]), (&sees.into(), &"owner".into()), "{explained}");
        assert_eq!(explained["rules"], Value::from(expected), "{explained}");
        let of_presence = &explained["packages"][0];
        assert_eq!((&of_presence["package"], &of_presence["sees"]), (&"presence".into(), &sees.into()));
    }
    let text = asked(&server, &["explain", "--watcher", "bob", "--presentity", "alice"]);
    assert!(text.contains("rules of alice@hither.example that match: everybody, friends"), "{text}");
}

fn explain_says_what_is_owed_and_why_it_is_not_sent(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    let (_, watching) = befriend(&mut alice, &mut bob);
    let mut tag = alice.publish_basic("open", "one");
    let notify = bob.take_notify(&watching.call_id);
    let row = |server: &Server| explained(server, "bob", "alice")["subscriptions"][0].clone();
    let in_flight = row(&server);
    assert_eq!(
        (&in_flight["owed"], &in_flight["waits_for"]),
        (&false.into(), &"answer".into()),
        "{in_flight}"
    );
    assert_eq!(in_flight["last"]["answer"], Value::Null, "{in_flight}");
    tag = alice.publish_as(Some(&pidf("alice", "t1", "open", "two")), Some(&tag), 600);
    let owed = row(&server);
    assert_eq!((&owed["owed"], &owed["waits_for"]), (&true.into(), &"answer".into()), "{owed}");
    bob.answer_with(&notify, notify.reply(503, "Busy").header("Retry-After", "100"));
    let mut later = row(&server);
    for _ in 0..100 {
        if later["waits_for"] == "retry_after" {
            break;
        }
        later = row(&server);
    }
    assert_eq!((&later["owed"], &later["waits_for"]), (&true.into(), &"retry_after".into()), "{later}");
    assert!(later["waits_s"].as_f64().is_some_and(|s| (90.0..=100.0).contains(&s)), "{later}");
    assert_eq!(later["last"]["answer"], "503", "{later}");
    // Whoever asks is told at once; then the burst is used up.
    let request = bob.resubscribe_request(&watching, 600);
    assert_eq!(bob.ask(request).status(), Some(200));
    bob.expect_notify(&watching.call_id);
    for number in 0..6 {
        tag = alice.publish_as(Some(&pidf("alice", "t1", "open", &format!("n{number}"))), Some(&tag), 600);
        if bob
            .await_within(DEADLINE / 10, |m| m.is_request("NOTIFY"))
            .map(|n| bob.answer(&n, 200, "OK"))
            .is_none()
        {
            break;
        }
    }
    let paced = row(&server);
    assert_eq!((&paced["owed"], &paced["waits_for"]), (&true.into(), &"pacing".into()), "{paced}");
    assert!(paced["waits_s"].as_f64().is_some_and(|s| s <= 5.0), "{paced}");
}

fn explain_of_nobody_fails(database: Database) {
    let server = Server::start(database);
    for pair in [["nobody", "alice"], ["alice", "nobody"], ["alice", "alice@elsewhere.example"]] {
        let output = server.cli(&["explain", "--watcher", pair[0], "--presentity", pair[1]], "");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{output:?}");
    }
    let foreign = explained(&server, "zoe@elsewhere.example", "alice");
    assert_eq!((&foreign["sees"], &foreign["rule"]), (&"pending".into(), &"foreign".into()), "{foreign}");
}

fn trace_shows_who_is_followed_without_bodies_and_credentials(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    bob.register();
    assert!(traced(&server, "bob").is_empty(), "nobody asked yet");
    asked(&server, &["trace", "bob", "--for", "60"]);
    bob.register();
    let watching = bob.subscribe("alice");
    let text = alice.message("bob", "the body of it");
    let arrived = bob.expect_request("MESSAGE");
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&text, 200);
    let messages = traced(&server, "bob");
    let has = |direction: &str, line: &str| {
        messages
            .iter()
            .any(|m| m["direction"] == direction && m["line"].as_str().is_some_and(|l| l.starts_with(line)))
    };
    for (direction, line) in [
        ("in", "REGISTER sip:hither.example"),
        ("out", "200 OK"),
        ("in", "SUBSCRIBE sip:alice@hither.example"),
        ("out", "NOTIFY sip:bob@"),
        ("in", "MESSAGE sip:bob@hither.example"),
        ("out", "MESSAGE sip:bob@"),
        ("in", "200 OK"),
    ] {
        assert!(has(direction, line), "{direction} {line}: {messages:#?}");
    }
    let all = format!("{messages:?}");
    assert!(all.contains(&watching.call_id) && all.contains("(left out)"), "{all}");
    for secret in ["the body of it", "response=", "<presence", "nonce="] {
        assert!(!all.contains(secret), "{secret}: {all}");
    }
    let numbers: Vec<_> = messages.iter().filter_map(|m| m["number"].as_u64()).collect();
    assert!(numbers.is_sorted() && numbers.len() == messages.len(), "{numbers:?}");
    let ladder = asked(&server, &["trace", "bob"]);
    assert!(ladder.contains("---->  SUBSCRIBE") && ladder.contains("<----  NOTIFY"), "{ladder}");
    assert!(ladder.contains(&format!("tcp:{}", bob.local)), "{ladder}");
    assert!(traced(&server, "carol").is_empty());
}

fn a_failure_is_recorded_of_everybody(database: Database) {
    let server = Server::start(database);
    let mut carol = Phone::new(&server, "carol", Transport::Udp);
    carol.subscribe("alice");
    let request = carol.subscribe_request("alice", "no-such-package", 600);
    assert_eq!(carol.ask(request).status(), Some(489));
    let messages = traced(&server, "carol");
    let lines: Vec<_> = messages.iter().filter_map(|m| m["line"].as_str()).collect();
    assert_eq!(lines, ["489 Bad Event"], "the refusal and nothing else, no challenge: {messages:#?}");
}

fn following_shows_what_comes_as_it_comes_and_survives_a_restart(database: Database) {
    let mut server = Server::start(database);
    let mut child = Command::new(env!("CARGO_BIN_EXE_hither"))
        .arg("--config")
        .arg(server.config_path())
        .args(["trace", "bob", "--follow", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("hither trace");
    let stdout = child.stdout.take().expect("stdout");
    let (lines, shown) = sync_channel(256);
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            drop(lines.try_send(line));
        }
    });
    let saw_register = |server: &Server| {
        let deadline = std::time::Instant::now() + 2 * DEADLINE;
        // It may not have asked yet when the first ones come.
        while std::time::Instant::now() < deadline {
            Phone::new(server, "bob", Transport::Udp).register();
            if shown
                .recv_timeout(DEADLINE / 5)
                .is_ok_and(|line| line.contains("\"REGISTER sip:hither.example\""))
            {
                return true;
            }
        }
        false
    };
    let before = saw_register(&server);
    server.restart();
    let after = saw_register(&server);
    drop(child.kill());
    drop(child.wait());
    assert!(before && after, "before: {before}, after a restart: {after}");
}

on_each_database!(
    explain_says_which_rule_decides_and_what_the_state_is_made_of,
    explain_names_the_owners_rules_that_have_a_part_in_it_rfc4745_10_2,
    explain_says_what_is_owed_and_why_it_is_not_sent,
    explain_of_nobody_fails,
    trace_shows_who_is_followed_without_bodies_and_credentials,
    a_failure_is_recorded_of_everybody,
    following_shows_what_comes_as_it_comes_and_survives_a_restart,
);

//! The operator's side: command line, switches, shutdown.

use std::time::Duration;

use crate::harness::phone::aor;
use crate::harness::server::{cli, password_of};
use crate::harness::{Database, Phone, Server, Transport};

fn users_are_added_listed_and_removed(database: Database) {
    let server = Server::start(database);
    server.add_user("erin");
    let listed = server.cli(&["user", "list"], "");
    assert!(listed.status.success(), "{listed:?}");
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    for user in ["alice", "bob", "carol", "dave", "erin"] {
        assert!(text.lines().any(|line| line.contains(user)), "{text}");
    }
    assert!(!text.contains("secret"), "{text}");
    let mut erin = Phone::new(&server, "erin", Transport::Udp);
    erin.register();
    let removed = server.cli(&["user", "remove", "erin"], "");
    assert!(removed.status.success(), "{removed:?}");
    let request = erin.register_request();
    assert_eq!(erin.ask(request).status(), Some(401), "removed is unknown");
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    assert_eq!(
        alice.ask_message("erin", "still there?").status(),
        Some(404),
        "the binding went with the account"
    );
}

fn a_new_password_counts_at_once(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    alice.register();
    let changed = server.cli(&["user", "passwd", "alice", "--password-stdin"], "another");
    assert!(changed.status.success(), "{changed:?}");
    let mut old = Phone::new(&server, "alice", Transport::Udp);
    let request = old.register_request();
    assert_eq!(old.ask(request).status(), Some(401));
    let mut new = Phone::new(&server, "alice", Transport::Udp);
    new.password = "another".into();
    assert_eq!(new.fetch_contacts().len(), 1, "bindings stay");
}

fn accounts_work_without_a_running_server(database: Database) {
    let mut server = Server::start(database);
    assert_eq!(server.stop(), 0);
    server.add_user("frank");
    server.restart();
    let mut frank = Phone::new(&server, "frank", Transport::Udp);
    frank.register();
}

fn the_command_line_says_no_with_an_exit_code(database: Database) {
    let server = Server::start(database);
    let twice = server.cli(&["user", "add", "alice", "--password-stdin"], &password_of("alice"));
    assert!(!twice.status.success() && !twice.stderr.is_empty(), "{twice:?}");
    let nobody = server.cli(&["user", "remove", "nobody"], "");
    assert!(!nobody.status.success() && !nobody.stderr.is_empty(), "{nobody:?}");
    let bad = server.cli(&["user", "add", "a b\u{7}", "--password-stdin"], "x");
    assert!(!bad.status.success(), "{bad:?}");
    let checked = server.cli(&["check-config"], "");
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn a_wrong_configuration_is_named_and_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("hither.toml");
    for (text, named) in [
        ("domain = \"hither.example\"\nlisten = [\"smoke:127.0.0.1:0\"]\n", "smoke"),
        ("domain = \"hither.example\"\nno_such_key = 1\n", "no_such_key"),
        ("domain = \"hither.example\"\n[registration]\nmin_interval_s = \"soon\"\n", "min_interval_s"),
        ("domain = ", "domain"),
    ] {
        std::fs::write(&path, text).expect("write");
        let output = cli(&path, &["check-config"], "");
        assert!(!output.status.success(), "{text}: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(named), "{text}: {said}");
    }
    let output = cli(&dir.path().join("absent.toml"), &["check-config"], "");
    assert!(!output.status.success(), "{output:?}");
}

fn sigterm_drains_and_ends_well(database: Database) {
    let mut server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    bob.register();
    // A message on its way is delivered and answered before the process ends.
    let request = alice.message("bob", "the last one");
    let arrived = bob.expect_request("MESSAGE");
    server.terminate();
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&request, 200);
    assert_eq!(server.wait_for_exit(), 0, "{}", server.log());
    assert!(alice.is_closed_within(Duration::from_secs(1)));
    server.restart();
    assert_eq!(bob.fetch_contacts().len(), 1);
}

fn presence_can_be_switched_off(database: Database) {
    let server = Server::with(database, |config| config.set("presence.enabled", false));
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    alice.register();
    let request = alice.subscribe_request("bob", "presence", 600);
    let response = alice.ask(request);
    assert!(matches!(response.status(), Some(405 | 489 | 501)), "{response}");
    let request = alice.publish_request(Some("<presence/>"), None, 600);
    let response = alice.ask(request);
    assert!(matches!(response.status(), Some(405 | 489 | 501)), "{response}");
    let allow = alice.options().list("Allow");
    assert!(!allow.iter().any(|method| method == "PUBLISH"), "{allow:?}");
}

fn messaging_can_be_switched_off(database: Database) {
    let server = Server::with(database, |config| config.set("messaging.enabled", false));
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    bob.register();
    let response = alice.ask_message("bob", "hello");
    assert!(matches!(response.status(), Some(403 | 405)), "{response}");
    bob.expect_nothing_more();
}

fn aliases_are_the_same_domain(database: Database) {
    let server = Server::with(database, |config| config.set("aliases", vec!["also.example"]));
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    bob.register();
    let request = alice.message_request("bob", "by the other name").aimed_at("sip:bob@also.example");
    let request = request.set("From", "<sip:alice@also.example>;tag=alias");
    let request = alice.start(request);
    let arrived = bob.expect_request("MESSAGE");
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&request, 200);
}

fn secrets_and_bodies_stay_out_of_the_log_a34(database: Database) {
    let server = Server::with(database, |config| config.set("log.filter", "trace"));
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    bob.register();
    let request = alice.message("bob", "PRIVATE-WORDS");
    let arrived = bob.expect_request("MESSAGE");
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&request, 200);
    let secret =
        crate::harness::digest::parameter(request.get("Proxy-Authorization"), "response").expect("response");
    let log = server.log();
    assert!(!log.contains("PRIVATE-WORDS"), "a body in the log");
    assert!(!log.contains(&secret), "credentials in the log");
    assert!(!log.contains("'s secret"), "a password in the log");
    assert!(!log.contains(&aor("bob")), "a whole URI in the log");
}

on_each_database!(
    users_are_added_listed_and_removed,
    a_new_password_counts_at_once,
    accounts_work_without_a_running_server,
    the_command_line_says_no_with_an_exit_code,
    sigterm_drains_and_ends_well,
    presence_can_be_switched_off,
    messaging_can_be_switched_off,
    aliases_are_the_same_domain,
    secrets_and_bodies_stay_out_of_the_log_a34,
);

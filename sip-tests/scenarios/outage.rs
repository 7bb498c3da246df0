//! The database goes away and comes back. Postgres only, with a server of the test's own.

use std::time::{Duration, Instant};

use crate::harness::message::uri_of;
use crate::harness::postgres::{Postgres, required_or_present};
use crate::harness::presence::expires_of;
use crate::harness::{Phone, Server, Transport};

/// A Postgres of our own, or `None` (said aloud) where there is none to start.
fn own_postgres() -> Option<Postgres> {
    let own = Postgres::throw_away();
    if own.is_none() && required_or_present() {
        println!("SKIPPED: HITHER_TEST_POSTGRES is set, but no Postgres is installed that a test may stop");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "the outage must be tested where CI=true");
    }
    own
}

/// Registers until the answer shows the wanted mode: capped to two minutes in an outage, or not.
fn register_until(phone: &mut Phone, capped: bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let contact = phone.contact();
    while Instant::now() < deadline {
        let response = phone.register_contact(&contact, Some(600));
        let contacts = response.list("Contact");
        let own = contacts.iter().find(|c| uri_of(c) == phone.contact_uri()).expect("our contact");
        if (expires_of(own).expect("expires") <= 120) == capped {
            return;
        }
    }
    panic!("never {}", if capped { "capped" } else { "back to normal" });
}

#[test]
fn registrations_and_messages_go_on_without_the_database() {
    let Some(postgres) = own_postgres() else { return };
    let server = Server::on(&postgres.new_database(), |_| {});
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let mut second = Phone::new(&server, "bob", Transport::Udp);
    alice.register();
    bob.register();
    postgres.stop();

    let request = alice.message("bob", "during the outage");
    let arrived = bob.expect_request("MESSAGE");
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&request, 200);

    let contact = second.contact();
    let response = second.register_contact(&contact, Some(600));
    let contacts = response.list("Contact");
    let own = contacts.iter().find(|c| uri_of(c) == second.contact_uri()).expect("the new contact");
    assert!(expires_of(own).expect("expires") <= 120, "capped, not refused:\n{response}");
    let request = alice.message("bob", "to both");
    for phone in [&mut bob, &mut second] {
        let arrived = phone.expect_request("MESSAGE");
        phone.answer(&arrived, 200, "OK");
    }
    alice.expect_status(&request, 200);

    postgres.start();
    register_until(&mut second, false);
}

#[test]
fn what_was_taken_during_an_outage_is_written_after_it() {
    let Some(postgres) = own_postgres() else { return };
    let mut server = Server::on(&postgres.new_database(), |_| {});
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    alice.register();
    bob.fetch_contacts();
    postgres.stop();
    bob.register();
    postgres.start();
    register_until(&mut alice, false);
    server.kill9();
    server.restart();
    assert_eq!(bob.fetch_contacts().len(), 1, "the volatile binding was written on recovery");
}

#[test]
fn an_outage_is_503_and_never_an_authentication_failure() {
    let Some(postgres) = own_postgres() else { return };
    let server = Server::on(&postgres.new_database(), |_| {});
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    alice.register();
    postgres.stop();
    // Carol was not seen since the start: her account cannot be looked up.
    let mut carol = Phone::new(&server, "carol", Transport::Udp);
    let request = carol.register_request();
    let response = carol.ask(request);
    match response.status() {
        Some(200) => {}
        Some(503) => assert!(response.header("Retry-After").is_some(), "{response}"),
        _ => panic!("not 401, 403, 404 or 407:\n{response}"),
    }
    postgres.start();
    register_until(&mut carol, false);
}

#[test]
fn no_message_is_promised_without_the_database_i1() {
    let Some(postgres) = own_postgres() else { return };
    let server = Server::on(&postgres.new_database(), |config| {
        config.set("messaging.answer_s", 1);
        config.set("messaging.retry_s", 1);
    });
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let mut carol = Phone::new(&server, "carol", Transport::Udp);
    alice.register();
    bob.fetch_contacts();
    carol.register();
    assert_eq!(alice.ask_message("bob", "before the outage").status(), Some(202));
    postgres.stop();

    // Nobody is there to take it, and nothing to keep it: the sender keeps it.
    let response = alice.ask_message("bob", "during the outage");
    assert_eq!(response.status(), Some(503), "{response}");
    assert!(response.header("Retry-After").is_some(), "{response}");
    // A device that thinks for longer than it should is waited for.
    let request = alice.message("carol", "slowly");
    let arrived = carol.expect_request("MESSAGE");
    assert!(alice.await_within(Duration::from_millis(2_500), |m| m.branch() == request.branch()).is_none());
    carol.answer(&arrived, 200, "OK");
    alice.expect_status(&request, 200);
    // What was promised before cannot be read now.
    bob.register();
    bob.expect_nothing_more();

    postgres.start();
    let arrived = bob
        .await_within(Duration::from_secs(30), |m| m.is_request("MESSAGE"))
        .expect("what was promised before the outage");
    assert_eq!(arrived.body_text(), "before the outage");
    bob.answer(&arrived, 200, "OK");
    bob.expect_nothing_more();
}

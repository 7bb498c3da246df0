//! What `kill -9` may not take away.

use crate::harness::message::uri_of;
use crate::harness::presence::befriend;
use crate::harness::{Database, Phone, Server, Transport};

fn an_answered_registration_survives_a_crash(database: Database) {
    let mut server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    bob.register_contact(&format!("{};q=0.4", bob.contact()), Some(600));
    server.kill9();
    server.restart();
    let contacts = bob.fetch_contacts();
    assert_eq!(contacts.len(), 1, "{contacts:?}");
    assert_eq!(uri_of(&contacts[0]), bob.contact_uri());
    assert!(contacts[0].contains("q=0.4"), "{contacts:?}");
    let request = alice.message("bob", "after the crash");
    let arrived = bob.expect_request("MESSAGE");
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&request, 200);
}

fn a_removal_survives_a_crash(database: Database) {
    let mut server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    bob.register();
    bob.register_contact("*", Some(0));
    server.restart();
    assert!(bob.fetch_contacts().is_empty(), "a removal never comes back");
}

fn the_order_of_registrations_survives_a_crash_a13(database: Database) {
    let mut server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    bob.continue_cseq(500);
    bob.register();
    server.restart();
    bob.continue_cseq(100);
    let contact = bob.contact();
    let request = bob.register_request().header("Contact", &contact).header("Expires", "0");
    let response = bob.ask(request);
    assert!(matches!(response.status(), Some(400 | 500)), "{response}");
    bob.continue_cseq(1000);
    assert_eq!(bob.fetch_contacts().len(), 1);
}

fn a_publication_survives_a_crash(database: Database) {
    let mut server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let tag = bob.publish_basic("open", "lasting");
    server.restart();
    let watching = bob.subscribe("bob");
    assert!(watching.notify.body_text().contains("lasting"), "{}", watching.notify);
    let next = bob.publish_as(None, Some(&tag), 600);
    assert_ne!(tag, next);
}

fn a_subscription_survives_a_crash_rfc6665(database: Database) {
    let mut server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let (watching, _) = befriend(&mut alice, &mut bob);
    bob.publish_basic("open", "before");
    let before = alice.expect_notify_until(&watching.call_id, "before", |m| m.body_text().contains("before"));
    server.restart();
    // Without being asked: full state, the CSeq jumped forward.
    let after = alice
        .await_within(std::time::Duration::from_secs(35), |m| {
            m.is_request("NOTIFY") && m.call_id() == watching.call_id
        })
        .expect("a NOTIFY after the restart");
    alice.answer(&after, 200, "OK");
    assert!(after.cseq() > before.cseq(), "I4: {} after {}", after.cseq(), before.cseq());
    assert_eq!(after.subscription_state(), "active", "{after}");
    assert!(after.body_text().contains("before"), "{after}");
    bob.publish_basic("closed", "after");
    let next = alice.expect_notify_until(&watching.call_id, "after", |m| m.body_text().contains("after"));
    assert!(next.cseq() > after.cseq());
    let request = alice.resubscribe_request(&watching, 600);
    assert_eq!(alice.ask(request).status(), Some(200), "the dialog goes on");
}

fn an_ended_subscription_stays_ended_after_a_crash(database: Database) {
    let mut server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let watching = alice.subscribe("bob");
    let request = alice.resubscribe_request(&watching, 0);
    assert_eq!(alice.ask(request).status(), Some(200));
    alice.expect_notify(&watching.call_id);
    server.restart();
    let request = alice.resubscribe_request(&watching, 600);
    assert_eq!(alice.ask(request).status(), Some(481));
    alice.expect_nothing_more();
}

fn a_call_survives_a_crash_of_the_proxy(database: Database) {
    let mut server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    alice.register();
    bob.register();
    let (caller, _) = crate::harness::call::connect(&mut alice, &mut bob);
    server.restart();
    let bye = alice.in_dialog(&caller, "BYE");
    alice.send(&bye);
    let arrived = bob.expect_request("BYE");
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&bye, 200);
}

fn a_server_killed_many_times_loses_nothing_it_answered(database: Database) {
    let mut server = Server::start(database);
    let mut phones: Vec<Phone> = (0..4).map(|_| Phone::new(&server, "bob", Transport::Udp)).collect();
    for count in 0..phones.len() {
        phones[count].register();
        server.kill9();
        server.restart();
        assert_eq!(phones[0].fetch_contacts().len(), count + 1);
    }
}

on_each_database!(
    an_answered_registration_survives_a_crash,
    a_removal_survives_a_crash,
    the_order_of_registrations_survives_a_crash_a13,
    a_publication_survives_a_crash,
    a_subscription_survives_a_crash_rfc6665,
    an_ended_subscription_stays_ended_after_a_crash,
    a_call_survives_a_crash_of_the_proxy,
    a_server_killed_many_times_loses_nothing_it_answered,
);

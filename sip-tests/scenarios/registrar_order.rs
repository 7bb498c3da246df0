//! REGISTER: order, retransmission and all-or-nothing (RFC 3261 sections 10.3, 17.2.2).

use crate::harness::documents::pidf;
use crate::harness::message::uri_of;
use crate::harness::presence::expires_of;
use crate::harness::{Database, Phone, Server, Transport};

fn lower_cseq_of_the_same_call_id_is_refused_rfc3261_10_3_7(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let contact = alice.contact();
    alice.continue_cseq(100);
    alice.register();
    alice.continue_cseq(50);
    let request = alice.register_request().header("Contact", &contact).header("Expires", "60");
    let response = alice.ask(request);
    assert!(matches!(response.status(), Some(400 | 500)), "{response}");
    alice.continue_cseq(200);
    let contacts = alice.fetch_contacts();
    assert!(expires_of(&contacts[0]).expect("expires") > 500, "unchanged: {contacts:?}");
}

fn another_call_id_starts_anew_rfc3261_10_3_7(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let contact = alice.contact();
    alice.continue_cseq(100);
    alice.register();
    alice.continue_cseq(1);
    alice.register_call_id.push_str("-rebooted");
    let response = alice.register_contact(&contact, Some(900));
    let contacts = response.list("Contact");
    assert_eq!(contacts.len(), 1, "{response}");
    assert!(expires_of(&contacts[0]).expect("expires") > 800, "{response}");
}

fn star_with_an_older_cseq_removes_nothing_rfc3261_10_3_6(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    alice.continue_cseq(100);
    alice.register();
    alice.continue_cseq(10);
    let request = alice.register_request().header("Contact", "*").header("Expires", "0");
    let response = alice.ask(request);
    assert!(matches!(response.status(), Some(400 | 500)), "{response}");
    alice.continue_cseq(200);
    assert_eq!(alice.fetch_contacts().len(), 1);
}

fn one_bad_contact_leaves_all_unchanged_rfc3261_10_3_7(database: Database) {
    let server = Server::with(database, |config| config.set("registration.min_interval_s", 60));
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let good = format!("<sip:alice@{};line=1>;expires=600", alice.local);
    let bad = format!("<sip:alice@{};line=2>;expires=5", alice.local);
    let request = alice.register_request().header("Contact", &format!("{good}, {bad}"));
    let response = alice.ask(request);
    assert_eq!(response.status(), Some(423), "{response}");
    assert!(alice.fetch_contacts().is_empty(), "none of a refused request's contacts is kept");
}

fn retransmission_gets_the_same_answer_rfc3261_17_2_2(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    alice.show_retransmissions = true;
    alice.fetch_contacts();
    let contact = alice.contact();
    let mut request = alice.register_request().header("Contact", &contact).header("Expires", "600");
    alice.authorize(&mut request, "Authorization");
    let first = alice.transact(&request);
    let second = alice.transact(&request);
    assert_eq!(first.status(), Some(200), "{first}");
    assert_eq!(first.raw, second.raw, "not a replay, not a second registration:\n{second}");
}

fn two_devices_register_side_by_side_rfc3261_10_3(database: Database) {
    let server = Server::start(database);
    let mut phones: Vec<Phone> = (0..5).map(|_| Phone::new(&server, "alice", Transport::Udp)).collect();
    for phone in &mut phones {
        phone.fetch_contacts();
    }
    let requests: Vec<_> = phones
        .iter_mut()
        .map(|phone| {
            let contact = phone.contact();
            let mut request = phone.register_request().header("Contact", &contact).header("Expires", "600");
            phone.authorize(&mut request, "Authorization");
            phone.send(&request);
            request
        })
        .collect();
    for (phone, request) in phones.iter_mut().zip(&requests) {
        let response = phone.expect_status(request, 200);
        assert!(response.list("Contact").iter().any(|c| uri_of(c) == phone.contact_uri()), "{response}");
    }
    assert_eq!(phones[0].fetch_contacts().len(), 5);
}

/// The second branch of a fork upstream: the same From tag, Call-ID, CSeq and credentials, another branch. The credentials are spent, so
/// nothing is done twice.
fn a_merged_request_is_not_done_again_rfc3261_8_2_2_2(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let contact = alice.contact();
    alice.fetch_contacts();
    let register = alice.register_request().header("Contact", &contact).header("Expires", "600");
    let publish = alice.publish_request(Some(&pidf("alice", "t1", "open", "once")), None, 600);
    let subscribe = alice.subscribe_request("bob", "presence", 600);
    for mut request in [register, publish, subscribe] {
        alice.authorize(&mut request, "Authorization");
        let response = alice.transact(&request);
        assert_eq!(response.status(), Some(200), "{response}");
        let merged = request.clone().set("Via", &alice.via());
        let response = alice.transact(&merged);
        assert_eq!(response.status(), Some(401), "{response}");
        assert!(response.rows("WWW-Authenticate").iter().all(|row| row.contains("stale=true")), "{response}");
    }
    let notify = alice.expect_request("NOTIFY");
    alice.answer(&notify, 200, "OK");
    alice.expect_nothing_more();
}

over_each_transport!(
    a_merged_request_is_not_done_again_rfc3261_8_2_2_2,
    lower_cseq_of_the_same_call_id_is_refused_rfc3261_10_3_7
);
on_each_database!(
    another_call_id_starts_anew_rfc3261_10_3_7,
    star_with_an_older_cseq_removes_nothing_rfc3261_10_3_6,
    one_bad_contact_leaves_all_unchanged_rfc3261_10_3_7,
    retransmission_gets_the_same_answer_rfc3261_17_2_2,
    two_devices_register_side_by_side_rfc3261_10_3,
);

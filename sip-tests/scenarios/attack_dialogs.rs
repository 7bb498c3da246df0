//! Speaking inside of other people's dialogs and transactions (A32, A33).

use std::time::Duration;

use crate::harness::call::connect;
use crate::harness::message::Message;
use crate::harness::phone::{aor, unique};
use crate::harness::{Database, Dialog, Phone, Server, Transport};

fn an_invented_to_tag_opens_nothing_a32(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", via);
    let mut alice = Phone::new(&server, "alice", via);
    bob.register();
    for method in ["INVITE", "BYE", "INFO", "UPDATE", "MESSAGE", "SUBSCRIBE", "NOTIFY", "REFER"] {
        for uri in [aor("bob"), bob.contact_uri()] {
            for with_credentials in [false, true] {
                let contact = alice.contact();
                let request = alice
                    .request(method, &uri)
                    .set("To", &format!("<{}>;tag=invented", aor("bob")))
                    .header("Contact", &contact)
                    .header("Subscription-State", "active")
                    .header("Event", "presence");
                let response = if with_credentials { alice.ask(request) } else { alice.transact(&request) };
                let status = response.status().unwrap_or(0);
                assert!(status >= 400, "{method} {uri}:\n{response}");
                if with_credentials {
                    assert!(!matches!(status, 401 | 407), "{method} {uri}, with credentials:\n{response}");
                }
            }
        }
    }
    bob.expect_nothing_more();
}

fn an_ack_out_of_nowhere_is_not_forwarded_a32(database: Database) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let mut stranger = Phone::new(&server, "eve", Transport::Udp);
    bob.register();
    for uri in [aor("bob"), bob.contact_uri()] {
        let ack = stranger.request("ACK", &uri).set("To", &format!("<{}>;tag=invented", aor("bob")));
        stranger.send(&ack);
    }
    stranger.expect_nothing_more();
    bob.expect_nothing_more();
}

fn a_forged_mark_in_route_is_refused_a32(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    let mut eve = Phone::new(&server, "carol", via);
    alice.register();
    bob.register();
    let (caller, _) = connect(&mut alice, &mut bob);
    let spoilt: Vec<String> = caller.route.iter().map(|route| spoil(route)).collect();
    let cases = [
        // Another call, with the mark of this one.
        Dialog { call_id: unique("other"), ..caller.clone() },
        // This call, with a mark changed in one place.
        Dialog { route: spoilt, ..caller.clone() },
        // No mark at all.
        Dialog { route: Vec::new(), ..caller.clone() },
    ];
    for dialog in cases {
        let bye = eve.in_dialog(&dialog, "BYE");
        let response = eve.transact(&bye);
        assert!(response.status().is_some_and(|status| status >= 400), "{dialog:?}:\n{response}");
    }
    bob.expect_nothing_more();
    let bye = alice.in_dialog(&caller, "BYE");
    alice.send(&bye);
    let arrived = bob.expect_request("BYE");
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&bye, 200);
}

/// Changes one letter or digit in the longest token of a Route: where the MAC must be.
fn spoil(route: &str) -> String {
    let longest = route
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_')
        .max_by_key(|part| part.len())
        .expect("a token")
        .to_string();
    let (head, tail) = longest.split_at(longest.len() / 2);
    let first = tail.chars().next().expect("a character");
    let other = if first == 'a' { 'b' } else { 'a' };
    route.replace(&longest, &format!("{head}{other}{}", &tail[1..]))
}

fn a_response_from_elsewhere_changes_nothing_a33(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let mut eve = Phone::new(&server, "eve", Transport::Udp);
    bob.register();
    let invite = alice.invite("bob");
    let arrived = bob.expect_request("INVITE");
    alice.expect_status(&invite, 100);
    let contact = eve.contact();
    let honest = arrived.reply(200, "OK").header("Contact", &contact);
    let text = String::from_utf8(honest.bytes()).expect("text");
    // A guessed branch from the right place, the right branch from the wrong place.
    let guessed = text.replace(&arrived.branch(), "z9hG4bKguessed");
    bob.send_raw(guessed.as_bytes());
    eve.send_raw(text.as_bytes());
    for number in 0..1000 {
        eve.send_raw(text.replace(&arrived.branch(), &format!("z9hG4bK{number}")).as_bytes());
    }
    eve.options();
    bob.options();
    let stray = alice.await_within(Duration::from_millis(100), |m| {
        m.branch() == invite.branch() && m.status() >= Some(180)
    });
    assert!(stray.is_none(), "{}", stray.map(|m: Message| m.to_string()).unwrap_or_default());
    bob.answer(&arrived, 486, "Busy Here");
    alice.expect_status(&invite, 486);
}

fn a_cancel_from_elsewhere_cancels_nothing_a33(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let mut eve = Phone::new(&server, "eve", Transport::Udp);
    bob.register();
    let invite = alice.invite("bob");
    let arrived = bob.expect_request("INVITE");
    bob.ring(&arrived);
    alice.expect_status(&invite, 180);
    // The very CANCEL that Alice would send, from another place (RFC 3261 section 22.1).
    let cancel = eve.cancel(&invite);
    eve.await_within(Duration::from_millis(300), |m| m.branch() == cancel.branch() && m.status().is_some());
    bob.expect_nothing_more();
    let cancel = alice.cancel(&invite);
    alice.expect_status(&cancel, 200);
    let cancelled = bob.expect_request("CANCEL");
    bob.answer(&cancelled, 200, "OK");
    bob.answer(&arrived, 487, "Request Terminated");
    alice.expect_status(&invite, 487);
}

fn a_stray_2xx_is_dropped_rfc6026_7_3(database: Database) {
    let server = Server::start(database);
    let bob = Phone::new(&server, "bob", Transport::Udp);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut eve = Phone::new(&server, "eve", Transport::Udp);
    let own = server.address(Transport::Udp);
    let text = format!(
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKnone\r\nVia: SIP/2.0/UDP {};branch=z9hG4bKalice\r\n\
         From: <{}>;tag=1\r\nTo: <{}>;tag=2\r\nCall-ID: stray\r\nCSeq: 1 INVITE\r\nContact: <{}>\r\nContent-Length: 0\r\n\r\n",
        alice.local,
        aor("alice"),
        aor("bob"),
        bob.contact_uri()
    );
    eve.send_raw(text.as_bytes());
    eve.expect_nothing_more();
    alice.expect_nothing_more();
}

over_each_transport!(an_invented_to_tag_opens_nothing_a32, a_forged_mark_in_route_is_refused_a32);
on_each_database!(
    an_ack_out_of_nowhere_is_not_forwarded_a32,
    a_response_from_elsewhere_changes_nothing_a33,
    a_cancel_from_elsewhere_cancels_nothing_a33,
    a_stray_2xx_is_dropped_rfc6026_7_3,
);

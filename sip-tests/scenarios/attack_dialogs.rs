//! Speaking inside of other people's dialogs and transactions (A32, A33).

use std::time::Duration;

use crate::harness::call::connect;
use crate::harness::message::{Message, uri_of};
use crate::harness::phone::{aor, unique};
use crate::harness::{DOMAIN, Database, Dialog, Phone, Request, Server, Transport};

/// What lives inside dialogs, and what could be sent as if it did. (REGISTER and PUBLISH know no dialogs, whatever their To says.)
const IN_DIALOG: [&str; 12] = [
    "INVITE",
    "BYE",
    "PRACK",
    "UPDATE",
    "INFO",
    "REFER",
    "MESSAGE",
    "OPTIONS",
    "SUBSCRIBE",
    "NOTIFY",
    "CANCEL",
    "FOO",
];

fn an_invented_to_tag_opens_nothing_a32(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", via);
    let mut alice = Phone::new(&server, "alice", via);
    bob.register();
    let ours = format!("sip:bob@{};gr=hither-1", server.address(via));
    // The second parser knows no methods but its own.
    alice.second_opinion = false;
    for method in IN_DIALOG {
        for uri in [aor("bob"), bob.contact_uri(), ours.clone(), format!("sip:{DOMAIN}")] {
            for with_credentials in [false, true] {
                let contact = alice.contact();
                let request = alice
                    .request(method, &uri)
                    .set("To", &format!("<{}>;tag=invented", aor("bob")))
                    .header("Contact", &contact)
                    .header("Subscription-State", "active")
                    .header("Event", "presence");
                let response = if with_credentials { alice.ask(request) } else { alice.transact(&request) };
                // A refresh of a subscription is ours to answer, so its sender is asked for first.
                let challenged = method == "SUBSCRIBE" && uri == ours && !with_credentials;
                let expected = if challenged { 401 } else { 481 };
                assert_eq!(response.status(), Some(expected), "{method} {uri}:\n{response}");
            }
        }
    }
    bob.expect_nothing_more();
}

fn a_to_tag_spares_nobody_the_challenge_a32(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    // These know no dialogs, so a To tag says nothing; least of all that somebody has proved who they are.
    for (method, uri) in [("REGISTER", format!("sip:{DOMAIN}")), ("PUBLISH", aor("bob"))] {
        let contact = alice.contact();
        let invented = |request: Request| {
            request
                .set("To", &format!("<{}>;tag=invented", aor("bob")))
                .header("Contact", &contact)
                .header("Event", "presence")
        };
        let request = invented(alice.request(method, &uri));
        assert_eq!(alice.transact(&request).status(), Some(401), "{method}");
        let request = invented(alice.request(method, &uri));
        assert_eq!(alice.ask(request).status(), Some(403), "{method} as alice, for bob");
    }
    assert!(Phone::new(&server, "bob", via).fetch_contacts().is_empty());
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

/// Sends requests of each method that must come to nothing; nor may an ACK arrive.
fn is_refused(eve: &mut Phone, dialog: &Dialog, status: u16) {
    for method in IN_DIALOG {
        let request = eve.in_dialog(dialog, method).header("Event", "presence");
        let response = eve.transact(&request);
        assert_eq!(response.status(), Some(status), "{method} {dialog:?}:\n{response}");
    }
    let ack = eve.in_dialog(dialog, "ACK");
    eve.send(&ack);
    eve.expect_nothing_more();
}

fn guessed_tags_open_nothing_a32(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    let mut eve = Phone::new(&server, "carol", via);
    eve.second_opinion = false;
    alice.register();
    bob.register();
    let (caller, callee) = connect(&mut alice, &mut bob);
    let (guess, to_bob) = (format!("<{}>;tag=guess", aor("alice")), format!("<{}>;tag=guess", aor("bob")));
    let without_tag = format!("<{}>", aor("alice"));
    // The Call-ID and even the mark are known; the caller's tag is not.
    for dialog in [
        Dialog { local: guess.clone(), ..caller.clone() },
        Dialog { local: guess.clone(), remote: to_bob.clone(), ..caller.clone() },
        Dialog { local: without_tag, ..caller.clone() },
        Dialog { remote: guess.clone(), ..callee.clone() },
        // All is known but the mark.
        Dialog { route: Vec::new(), ..caller.clone() },
        Dialog { route: Vec::new(), ..callee.clone() },
        Dialog { route: vec![format!("<sip:{};lr>", server.address(via))], ..caller.clone() },
    ] {
        is_refused(&mut eve, &dialog, 481);
    }
    alice.expect_nothing_more();
    bob.expect_nothing_more();
}

fn the_mark_of_another_dialog_opens_nothing_a32(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    let mut carol = Phone::new(&server, "carol", via);
    carol.second_opinion = false;
    bob.register();
    carol.register();
    let (theirs, _) = connect(&mut alice, &mut bob);
    let (own, _) = connect(&mut carol, &mut bob);
    for dialog in [
        // Her own mark, for their call.
        Dialog { route: own.route.clone(), ..theirs.clone() },
        // Her own call, with their mark.
        Dialog { route: theirs.route.clone(), ..own.clone() },
        // Her own mark and tag, with their Call-ID.
        Dialog { call_id: theirs.call_id.clone(), ..own.clone() },
    ] {
        is_refused(&mut carol, &dialog, 481);
    }
    alice.expect_nothing_more();
    bob.expect_nothing_more();
    // Theirs before her own: the first mark that fits decides, and leads to the other side of her own call.
    let both = Dialog { route: [theirs.route.clone(), own.route.clone()].concat(), ..own.clone() };
    let info = carol.in_dialog(&both, "INFO");
    carol.send(&info);
    let arrived = bob.expect_request("INFO");
    assert!(arrived.rows("Route").is_empty(), "{arrived}");
    bob.answer(&arrived, 200, "OK");
    carol.expect_status(&info, 200);
    alice.expect_nothing_more();
}

fn a_mark_begins_nothing_and_leads_nowhere_else_a20(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    bob.register();
    let inside = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    inside.set_nonblocking(true).expect("non-blocking");
    let away = format!("<sip:{};lr>", inside.local_addr().expect("address"));
    let (caller, _) = connect(&mut alice, &mut bob);
    let forged = format!("<sip:h1-{}@{};lr>", "A".repeat(64), server.address(via));
    let spoilt = spoil(&caller.route[0]);
    // Outside of a dialog a mark is no permission, true or not: whose request it is, is asked as ever.
    for route in [&caller.route[0], &forged, &spoilt] {
        for method in ["INVITE", "MESSAGE", "INFO"] {
            let mut stranger = Phone::new(&server, "eve", via);
            let request = stranger.request(method, &bob.contact_uri()).header("Route", route);
            let response = stranger.transact(&request.set("Call-ID", &caller.call_id));
            assert!(matches!(response.status(), Some(403 | 407)), "{response}");
            let request = stranger.request(method, &aor("bob")).header("Route", route);
            let response = stranger.transact(&request);
            assert_eq!(response.status(), Some(407), "{response}");
        }
    }
    // A forged mark as the Request-URI of a strict router, the true target last in Route (RFC 3261 16.4).
    for route in [&forged, &spoilt] {
        let strict = Dialog { target: uri_of(route), route: vec![away.clone()], ..caller.clone() };
        let request = alice.in_dialog(&strict, "INFO");
        let response = alice.transact(&request);
        assert_eq!(response.status(), Some(481), "{response}");
    }
    // What stands behind a true mark is not where the request goes: it goes to the other side.
    let further = Dialog { route: [caller.route.clone(), vec![away]].concat(), ..caller.clone() };
    let info = alice.in_dialog(&further, "INFO");
    alice.send(&info);
    let arrived = bob.expect_request("INFO");
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&info, 200);
    bob.expect_nothing_more();
    assert!(inside.recv_from(&mut [0; 2048]).is_err(), "sent where Route said");
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

over_each_transport!(
    an_invented_to_tag_opens_nothing_a32,
    a_to_tag_spares_nobody_the_challenge_a32,
    a_forged_mark_in_route_is_refused_a32,
    guessed_tags_open_nothing_a32,
    the_mark_of_another_dialog_opens_nothing_a32,
    a_mark_begins_nothing_and_leads_nowhere_else_a20,
);
on_each_database!(
    an_ack_out_of_nowhere_is_not_forwarded_a32,
    a_response_from_elsewhere_changes_nothing_a33,
    a_cancel_from_elsewhere_cancels_nothing_a33,
    a_stray_2xx_is_dropped_rfc6026_7_3,
);

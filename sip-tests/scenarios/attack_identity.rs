//! Being someone else, or nobody (A08, A11, A13, A17-A20).

use std::time::Duration;

use crate::harness::message::find;
use crate::harness::phone::aor;
use crate::harness::{DOMAIN, Database, Message, Phone, Request, Server, Transport};

/// An authorised REGISTER that was answered with 200, as sent.
fn accepted_register(alice: &mut Phone) -> Request {
    alice.fetch_contacts();
    let contact = alice.contact();
    let mut request = alice.register_request().header("Contact", &contact).header("Expires", "600");
    alice.authorize(&mut request, "Authorization");
    assert_eq!(alice.transact(&request).status(), Some(200));
    request
}

/// The same header lines as a new transaction of another phone.
fn replay(thief: &mut Phone, stolen: &Request, cseq: u32) -> Message {
    let via = thief.via();
    let request = stolen
        .clone()
        .set("Via", &via)
        .set("CSeq", &format!("{cseq} REGISTER"))
        .set("Contact", &thief.contact());
    thief.transact(&request)
}

fn replayed_credentials_are_refused_a08(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut thief = Phone::new(&server, "alice", via);
    let stolen = accepted_register(&mut alice);
    let response = replay(&mut thief, &stolen, stolen.cseq() + 1);
    assert_eq!(response.status(), Some(401), "{response}");
    let offers = response.rows("WWW-Authenticate");
    assert!(offers.iter().all(|offer| offer.contains("stale=true")), "{response}");
    let contacts = alice.fetch_contacts();
    assert_eq!(contacts.len(), 1, "{contacts:?}");
    assert!(contacts[0].contains(&alice.local.to_string()), "{contacts:?}");
}

fn a_nonce_count_never_serves_twice_a08(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let password = alice.password.clone();
    alice.fetch_contacts();
    let ask = |alice: &mut Phone, count: u32| {
        let request = alice.register_request();
        let value = alice.challenges["Authorization"].answer_with_count(
            "alice",
            &password,
            "REGISTER",
            &request.uri,
            count,
        );
        alice.transact(&request.set("Authorization", &value)).status()
    };
    assert_eq!(ask(&mut alice, 10), Some(200));
    assert_eq!(ask(&mut alice, 10), Some(401), "again");
    assert_eq!(ask(&mut alice, 11), Some(200));
    assert_eq!(ask(&mut alice, 11), Some(401), "again");
    assert_eq!(ask(&mut alice, 1), Some(401), "the first was spent by the fetch");
}

fn credentials_are_good_for_one_address_a08(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    alice.fetch_contacts();
    // Made, never used, and seen on its way.
    let contact = alice.contact();
    let mut stolen = alice.register_request().header("Contact", &contact);
    alice.authorize(&mut stolen, "Authorization");
    let mut thief = Phone::at(&server, "alice", "127.0.0.2:0".parse().expect("an address"));
    let response = replay(&mut thief, &stolen, stolen.cseq());
    assert_eq!(response.status(), Some(401), "{response}");
    let offers = response.rows("WWW-Authenticate");
    assert!(offers.iter().all(|offer| offer.contains("stale=true")), "{response}");
    assert!(alice.fetch_contacts().is_empty());
}

fn guessing_is_slowed_and_locks_nobody_out_a12(database: Database) {
    let server = Server::with(database, |config| config.set("log.filter", "warn"));
    let mut carol = Phone::new(&server, "carol", Transport::Udp);
    carol.register();
    let mut guesser = Phone::new(&server, "bob", Transport::Udp);
    guesser.second_opinion = false;
    let request = guesser.register_request();
    let challenge = guesser.transact(&request);
    let header = guesser.learn(&challenge);
    let guess = |guesser: &mut Phone, password: &str| {
        let request = guesser.again(&request);
        let value = guesser.challenges.get_mut(header).expect("challenge").answer(
            "bob",
            password,
            "REGISTER",
            &request.uri,
        );
        guesser.transact(&request.set(header, &value))
    };
    let began = std::time::Instant::now();
    for n in 0..10_000 {
        let response = guess(&mut guesser, &format!("guess {n}"));
        assert_eq!(response.status(), Some(401), "{response}");
    }
    // Ten at once and one in six seconds were looked at; the others were not, and neither is the right one, which looks like any other.
    let took = began.elapsed();
    if took < Duration::from_secs(60) {
        let right = crate::harness::server::password_of("bob");
        let response = guess(&mut guesser, &right);
        assert_eq!(response.status(), Some(401), "10,000 guesses in {took:?}:\n{response}");
        assert!(
            !response.to_string().contains("stale=true"),
            "it would say that the password is right:\n{response}"
        );
    }
    // Bob himself, elsewhere, and whoever has logged in from the guesser's address before.
    let mut bob = Phone::at(&server, "bob", "127.0.0.2:0".parse().expect("an address"));
    bob.register();
    assert_eq!(carol.fetch_contacts().len(), 1);
}

fn credentials_do_not_survive_a_crash_a08(database: Database) {
    let mut server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let stolen = accepted_register(&mut alice);
    server.kill9();
    server.restart();
    let mut thief = Phone::new(&server, "alice", Transport::Udp);
    let response = replay(&mut thief, &stolen, stolen.cseq() + 1);
    assert_eq!(response.status(), Some(401), "{response}");
    assert_eq!(alice.fetch_contacts().len(), 1);
}

fn nothing_is_done_without_an_identity_a17(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    bob.register();
    let methods = [
        "REGISTER",
        "SUBSCRIBE",
        "PUBLISH",
        "MESSAGE",
        "INVITE",
        "NOTIFY",
        "BYE",
        "INFO",
        "UPDATE",
        "PRACK",
        "REFER",
        "OPTIONS",
        "FOO",
    ];
    let identities: [&dyn Fn(Request) -> Request; 6] = [
        &|request| request,
        &|request| request.set("From", &format!("<{}>;tag=a", aor("bob"))),
        &|request| {
            request
                .set("From", "\"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=a")
                .header("Privacy", "id")
        },
        &|request| request.set("From", "<sip:eve@elsewhere.example>;tag=a"),
        &|request| request.header("P-Asserted-Identity", "<sip:alice@hither.example>"),
        &|request| {
            let made_up = format!(
                "Digest username=\"alice\", realm=\"{DOMAIN}\", nonce=\"AAAA\", uri=\"{}\", response=\"{}\", \
                 algorithm=MD5, qop=auth, nc=00000001, cnonce=\"c\"",
                request.uri,
                "0".repeat(32)
            );
            request.header("Authorization", &made_up).header("Proxy-Authorization", &made_up)
        },
    ];
    for method in methods {
        for (index, identity) in identities.iter().enumerate() {
            let mut stranger = Phone::new(&server, "alice", via);
            let contact = stranger.contact();
            let uri = if method == "REGISTER" { format!("sip:{DOMAIN}") } else { aor("bob") };
            let request = stranger
                .request(method, &uri)
                .header("Contact", &contact)
                .header("Event", "presence")
                .header("Refer-To", "<sip:x>");
            let request = identity(request);
            let response = stranger.transact(&request);
            assert!(
                response.status().is_some_and(|status| status >= 400),
                "{method} as identity {index}:\n{response}"
            );
        }
    }
    bob.expect_nothing_more();
}

fn asserted_identity_is_ours_to_write_a18(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    bob.register();
    let request = alice
        .message_request("bob", "trust me")
        .header("P-Asserted-Identity", "\"The Bank\" <sip:bank@hither.example>")
        .header("P-Preferred-Identity", "<sip:carol@hither.example>")
        .header("Remote-Party-ID", "<sip:carol@hither.example>;party=calling");
    let request = alice.start(request);
    let Some(arrived) = bob.await_within(Duration::from_millis(500), |m| m.is_request("MESSAGE")) else {
        let response = alice.expect_final(&request);
        assert_eq!(response.status(), Some(403), "{response}");
        return;
    };
    let text = arrived.to_string();
    assert!(!text.contains("bank@") && !text.contains("carol@"), "{arrived}");
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&request, 200);
}

fn no_number_of_identities_is_believed_rfc3325_9_1(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    bob.register();
    let uris = ["<sip:bank@hither.example>", "<tel:+4930110>", "<sip:carol@hither.example>"];
    for (count, privacy) in [(1, None), (2, Some("none")), (3, Some("id")), (1, Some("id;critical"))] {
        let mut request = alice.message_request("bob", "trust me");
        for uri in &uris[..count] {
            request = request.header("P-Asserted-Identity", uri);
        }
        // Even her own: a hint without anybody to whom we would assert it (RFC 3325 6).
        request = request.header("P-Preferred-Identity", "<sip:alice@hither.example>");
        if let Some(privacy) = privacy {
            request = request.header("Privacy", privacy);
        }
        let request = alice.start(request);
        let arrived = bob.expect_request("MESSAGE");
        for name in ["P-Asserted-Identity", "P-Preferred-Identity"] {
            assert!(arrived.rows(name).is_empty(), "{arrived}");
        }
        // RFC 3323 4.2: `none` is never altered; the other levels are for who provides them.
        assert_eq!(arrived.rows("Privacy"), Vec::from_iter(privacy), "{arrived}");
        bob.answer(&arrived, 200, "OK");
        alice.expect_status(&request, 200);
    }
}

fn an_identity_in_an_answer_is_not_believed_rfc3325_5(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    bob.register();
    let invite = alice.invite("bob");
    let arrived = bob.expect_request("INVITE");
    let contact = bob.contact();
    for (status, reason) in [(180, "Ringing"), (200, "OK")] {
        let reply = arrived
            .reply(status, reason)
            .header("Contact", &contact)
            .header("P-Asserted-Identity", "\"The Bank\" <sip:bank@hither.example>")
            .header("p-asserted-identity", "<tel:+4930110>")
            .header("Remote-Party-ID", "<sip:bank@hither.example>;party=called")
            .header("Privacy", "none");
        bob.answer_with(&arrived, reply);
        let passed = alice.expect_status(&invite, status);
        let text = passed.to_string();
        assert!(!text.contains("bank@") && !text.contains("+4930110"), "{passed}");
        assert_eq!(passed.rows("Privacy"), ["none"], "{passed}");
    }
}

fn privacy_is_no_service_of_ours_rfc3323_4_2(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    bob.register();
    // Who must have it asks so (RFC 3323 4.3), and hears that we do not have it.
    let request = alice
        .message_request("bob", "hide me")
        .header("Privacy", "header;session;critical")
        .header("Proxy-Require", "privacy");
    let response = alice.ask(request);
    assert_eq!(response.status(), Some(420), "{response}");
    assert_eq!(response.rows("Unsupported"), ["privacy"], "{response}");
    bob.expect_nothing_more();
}

fn a_refusal_of_the_anonymous_passes_rfc5079_4(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    bob.register();
    let request = alice
        .message_request("bob", "guess who")
        .set("From", "\"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=a")
        .header("Privacy", "id");
    let request = alice.start(request);
    let arrived = bob.expect_request("MESSAGE");
    assert!(!arrived.to_string().contains("alice"), "{arrived}");
    bob.answer(&arrived, 433, "Anonymity Disallowed");
    alice.expect_status(&request, 433);
}

fn we_are_no_relay_for_strangers_a19(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut stranger = Phone::new(&server, "eve", via);
    let elsewhere = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    elsewhere.set_nonblocking(true).expect("non-blocking");
    let target = format!("sip:victim@{}", elsewhere.local_addr().expect("address"));
    for method in ["INVITE", "MESSAGE", "OPTIONS", "SUBSCRIBE", "FOO"] {
        for uri in [target.as_str(), "sip:+4930123456@elsewhere.example", "tel:+4930123456"] {
            let contact = stranger.contact();
            let request = stranger
                .request(method, uri)
                .set("From", "<sip:eve@elsewhere.example>;tag=e")
                .header("Contact", &contact)
                .header("Event", "presence");
            let response = stranger.transact(&request);
            assert!(
                matches!(response.status(), Some(403 | 404 | 407 | 401 | 416)),
                "{method} {uri}:\n{response}"
            );
        }
    }
    let mut buffer = [0; 2048];
    assert!(elsewhere.recv_from(&mut buffer).is_err(), "relayed");
}

fn a_preloaded_route_is_not_followed_a20(database: Database, via: Transport) {
    let server = Server::start(database);
    let inside = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    inside.set_nonblocking(true).expect("non-blocking");
    let address = inside.local_addr().expect("address");
    let mut bob = Phone::new(&server, "bob", via);
    bob.register();
    let own = server.address(via);
    for routes in [
        vec![format!("<sip:{address};lr>")],
        vec![format!("<sip:{own};lr>"), format!("<sip:{address};lr>")],
        vec![format!("<sip:{address}>")],
        vec![format!("<sip:10.0.0.1;lr>")],
    ] {
        let mut alice = Phone::new(&server, "alice", via);
        let mut request = alice.message_request("bob", "around the corner");
        for route in &routes {
            request = request.header("Route", route);
        }
        let response = alice.ask(request);
        assert!(
            response.status().is_some_and(|status| (400..500).contains(&status)),
            "{routes:?}:\n{response}"
        );
    }
    bob.expect_nothing_more();
    let mut buffer = [0; 2048];
    assert!(inside.recv_from(&mut buffer).is_err(), "sent where Route said");
}

fn a_route_to_ourselves_is_taken_off_rfc3261_16_4(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    bob.register();
    // What baresip writes: its outbound proxy as a preloaded Route.
    let own = server.address(via);
    let request = alice.message_request("bob", "by way of you").header("Route", &format!("<sip:{own};lr>"));
    let request = alice.start(request);
    let arrived = bob.expect_request("MESSAGE");
    assert!(arrived.rows("Route").is_empty(), "{arrived}");
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&request, 200);
}

fn strangers_cannot_tell_who_exists_a11(database: Database) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    bob.register();
    for method in ["REGISTER", "SUBSCRIBE", "PUBLISH", "MESSAGE", "INVITE", "OPTIONS"] {
        let mut shapes = Vec::new();
        for user in ["bob", "zed", "dave"] {
            let mut stranger = Phone::new(&server, user, Transport::Udp);
            let uri = if method == "REGISTER" { format!("sip:{DOMAIN}") } else { aor(user) };
            let contact = "<sip:x@192.0.2.1>";
            let request = stranger
                .request(method, &uri)
                .set("To", &format!("<{}>", aor(user)))
                .set("From", "<sip:eve@elsewhere.example>;tag=e")
                .header("Contact", contact)
                .header("Event", "presence");
            let response = stranger.transact(&request);
            let names: Vec<String> = response.headers.iter().map(|(name, _)| name.clone()).collect();
            shapes.push((response.start.clone(), names));
        }
        shapes.dedup();
        assert_eq!(shapes.len(), 1, "{method}: {shapes:?}");
    }
    // With credentials that are wrong for all of them.
    let mut shapes = Vec::new();
    for user in ["bob", "zed"] {
        let mut stranger = Phone::new(&server, user, Transport::Udp);
        stranger.password = "guess".into();
        let request = stranger.register_request();
        let response = stranger.ask(request);
        let names: Vec<String> = response.headers.iter().map(|(name, _)| name.clone()).collect();
        shapes.push((response.start.clone(), names));
    }
    shapes.dedup();
    assert_eq!(shapes.len(), 1, "{shapes:?}");
}

fn a_challenge_by_a_phone_gets_no_credentials_a10(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let (request, _) = {
        let request = alice.subscribe_request("bob", "presence", 600);
        alice.ask_and_tell(request)
    };
    let notify = alice.take_notify(request.call_id());
    let offer = format!("Digest realm=\"{DOMAIN}\", nonce=\"phish\", algorithm=MD5, qop=\"auth\"");
    alice.answer_with(
        &notify,
        notify.reply(407, "Proxy Authentication Required").header("Proxy-Authenticate", &offer),
    );
    if let Some(again) = alice.await_within(Duration::from_millis(500), |m| m.is_request("NOTIFY")) {
        assert!(find(&again.raw, b"Authorization").is_none(), "{again}");
    }
}

over_each_transport!(
    no_number_of_identities_is_believed_rfc3325_9_1,
    an_identity_in_an_answer_is_not_believed_rfc3325_5,
    a_refusal_of_the_anonymous_passes_rfc5079_4,
    replayed_credentials_are_refused_a08,
    nothing_is_done_without_an_identity_a17,
    asserted_identity_is_ours_to_write_a18,
    we_are_no_relay_for_strangers_a19,
    a_preloaded_route_is_not_followed_a20,
    a_route_to_ourselves_is_taken_off_rfc3261_16_4,
);
on_each_database!(
    credentials_are_good_for_one_address_a08,
    guessing_is_slowed_and_locks_nobody_out_a12,
    privacy_is_no_service_of_ours_rfc3323_4_2,
    a_nonce_count_never_serves_twice_a08,
    credentials_do_not_survive_a_crash_a08,
    strangers_cannot_tell_who_exists_a11,
    a_challenge_by_a_phone_gets_no_credentials_a10,
);

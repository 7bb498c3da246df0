//! Digest over the wire (RFC 3261 section 22, RFC 7616, RFC 8760).

use crate::harness::digest::{Algorithm, Challenge, parameter};
use crate::harness::phone::aor;
use crate::harness::{DOMAIN, Database, Phone, Request, Server, Transport};

fn challenges_are_sha256_then_md5_rfc8760_2_3(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let request = alice.register_request();
    let response = alice.transact(&request);
    assert_eq!(response.status(), Some(401), "{response}");
    assert!(response.rows("Proxy-Authenticate").is_empty(), "{response}");
    let offers = response.rows("WWW-Authenticate");
    let algorithms: Vec<_> =
        offers.iter().map(|offer| parameter(offer, "algorithm").unwrap_or_default()).collect();
    assert_eq!(algorithms, ["SHA-256", "MD5"], "{response}");
    for offer in offers {
        assert!(offer.contains("qop=\"auth\""), "qop is quoted (RFC 7616 3.3): {offer}");
        assert!(offer.contains(&format!("realm=\"{DOMAIN}\"")), "{offer}");
        assert!(offer.contains("algorithm=SHA-256") || offer.contains("algorithm=MD5"), "unquoted: {offer}");
        assert!(!offer.contains("stale=true"), "{offer}");
    }
}

fn what_is_forwarded_is_challenged_with_407_rfc3261_22_1(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", via);
    for method in ["MESSAGE", "INVITE", "INFO", "FOO"] {
        let contact = bob.contact();
        let request = bob.request(method, &aor("alice")).header("Contact", &contact);
        let response = bob.transact(&request);
        assert_eq!(response.status(), Some(407), "{method}:\n{response}");
        assert!(response.rows("WWW-Authenticate").is_empty(), "{response}");
        assert_eq!(response.rows("Proxy-Authenticate").len(), 2, "{response}");
    }
    for (method, event) in [("SUBSCRIBE", "presence"), ("PUBLISH", "presence")] {
        let contact = bob.contact();
        let request = bob.request(method, &aor("bob")).header("Contact", &contact).header("Event", event);
        assert_eq!(bob.transact(&request).status(), Some(401), "{method}");
    }
}

fn both_algorithms_let_the_right_password_in_rfc8760_2(database: Database, via: Transport) {
    let server = Server::start(database);
    for algorithm in [Algorithm::Md5, Algorithm::Sha256] {
        let mut alice = Phone::new(&server, "alice", via);
        alice.algorithm = algorithm;
        alice.register();
        assert_eq!(alice.challenges["Authorization"].algorithm, algorithm);
    }
}

fn wrong_password_is_challenged_again_and_not_stale_rfc3261_22_1(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    alice.password = "guess".into();
    let contact = alice.contact();
    let request = alice.register_request().header("Contact", &contact);
    let response = alice.ask(request);
    assert_eq!(response.status(), Some(401), "{response}");
    assert!(
        response.rows("WWW-Authenticate").iter().all(|offer| !offer.contains("stale=true")),
        "{response}"
    );
    alice.password = crate::harness::server::password_of("alice");
    alice.challenges.clear();
    assert!(alice.fetch_contacts().is_empty());
}

fn user_name_with_realm_is_taken_too_rfc3261_22(database: Database) {
    let server = Server::start(database);
    for algorithm in [Algorithm::Md5, Algorithm::Sha256] {
        let mut alice = Phone::new(&server, "alice", Transport::Udp);
        alice.algorithm = algorithm;
        let request = alice.register_request();
        let challenge = alice.transact(&request);
        let header = alice.learn(&challenge);
        let mut request = alice.again(&request);
        let value = alice.challenges.get_mut(header).expect("challenge").answer(
            &format!("alice@{DOMAIN}"),
            &crate::harness::server::password_of("alice"),
            "REGISTER",
            &request.uri.clone(),
        );
        request.put(header, &value);
        let response = alice.transact(&request);
        assert_eq!(response.status(), Some(200), "{response}");
    }
}

fn a_nonce_serves_again_with_a_higher_count_rfc7616_3_4(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    alice.register();
    for _ in 0..3 {
        let mut request = alice.register_request();
        alice.authorize(&mut request, "Authorization");
        let response = alice.transact(&request);
        assert_eq!(response.status(), Some(200), "{response}");
    }
}

fn a_nonce_from_before_a_restart_is_stale_rfc7616_3_3(database: Database) {
    let mut server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    alice.register();
    server.restart();
    let mut request = alice.register_request();
    alice.authorize(&mut request, "Authorization");
    let response = alice.transact(&request);
    assert_eq!(response.status(), Some(401), "{response}");
    assert!(response.rows("WWW-Authenticate").iter().all(|offer| offer.contains("stale=true")), "{response}");
    alice.register();
}

fn an_old_nonce_is_stale_rfc7616_3_3(database: Database) {
    let server = Server::with(database, |config| config.set("auth.nonce_lifetime_s", 1));
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    alice.register();
    let old = alice.challenges["Authorization"].nonce.clone();
    let deadline = std::time::Instant::now() + crate::harness::DEADLINE;
    loop {
        assert!(std::time::Instant::now() < deadline, "the nonce never grew old");
        let mut request = alice.register_request();
        alice.authorize(&mut request, "Authorization");
        let response = alice.transact(&request);
        if response.status() == Some(401) {
            assert!(response.need("WWW-Authenticate").contains("stale=true"), "{response}");
            alice.learn(&response);
            assert_ne!(alice.challenges["Authorization"].nonce, old);
            return;
        }
    }
}

fn phones_that_stop_at_the_first_challenge_get_md5_rfc8760_2_3(database: Database) {
    let server = Server::start(database);
    for agent in ["JsSIP 3.10.0", "SIP.js/0.21.2", "baresip v1.0.0 (x86_64/linux)"] {
        let mut alice = Phone::new(&server, "alice", Transport::Udp);
        alice.user_agent = Some(agent.into());
        let request = alice.register_request();
        let response = alice.transact(&request);
        let offers = response.rows("WWW-Authenticate");
        assert_eq!(offers.len(), 1, "{agent}:\n{response}");
        assert_eq!(parameter(offers[0], "algorithm").as_deref(), Some("MD5"), "{response}");
    }
}

fn a_client_without_qop_is_taken_once_per_nonce_rfc2617_3_2_2(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    alice.algorithm = Algorithm::Md5;
    let request = alice.register_request();
    let challenge = alice.transact(&request);
    alice.learn(&challenge);
    alice.challenges.get_mut("Authorization").expect("challenge").qop = false;
    let mut request = alice.again(&request);
    alice.authorize(&mut request, "Authorization");
    assert_eq!(alice.transact(&request).status(), Some(200));
    let request = alice.again(&request);
    assert_eq!(alice.transact(&request).status(), Some(401), "a single-use nonce");
}

fn basic_is_not_accepted_rfc3261_22(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let request = alice.register_request().header("Authorization", "Basic YWxpY2U6YWxpY2UncyBzZWNyZXQ=");
    let response = alice.transact(&request);
    assert_eq!(response.status(), Some(401), "{response}");
    assert!(response.rows("WWW-Authenticate").iter().all(|offer| offer.starts_with("Digest")), "{response}");
}

fn two_spaces_after_the_header_name_are_read_rfc3261_7_3_1(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let request = alice.register_request();
    let challenge = alice.transact(&request);
    let header = alice.learn(&challenge);
    let mut request = alice.again(&request);
    alice.authorize(&mut request, header);
    let value = format!("  {}", request.get(header));
    let response = alice.transact(&request.set(header, &value));
    assert_eq!(response.status(), Some(200), "{response}");
}

/// Sends credentials that were changed by `spoil` and gives the status.
fn with_spoilt_credentials(
    server: &Server,
    spoil: impl Fn(&mut Challenge, &Request) -> String,
) -> Option<u16> {
    let mut alice = Phone::new(server, "alice", Transport::Udp);
    let contact = alice.contact();
    let request = alice.register_request().header("Contact", &contact);
    let challenge = alice.transact(&request);
    let header = alice.learn(&challenge);
    let request = alice.again(&request);
    let value = spoil(alice.challenges.get_mut(header).expect("challenge"), &request);
    alice.transact(&request.set(header, &value)).status()
}

fn what_we_did_not_issue_is_refused_a09(database: Database) {
    let server = Server::start(database);
    let password = crate::harness::server::password_of("alice");
    let answer = |challenge: &mut Challenge, request: &Request| {
        challenge.answer("alice", &password, "REGISTER", &request.uri)
    };
    assert_eq!(with_spoilt_credentials(&server, answer), Some(200), "the control");
    let alien_realm = with_spoilt_credentials(&server, |challenge, request| {
        challenge.realm = "elsewhere.example".into();
        answer(challenge, request)
    });
    assert_eq!(alien_realm, Some(401));
    let own_nonce = with_spoilt_credentials(&server, |challenge, request| {
        challenge.nonce = "dcd98b7102dd2f0e8b11d0f600bfb0c093".into();
        answer(challenge, request)
    });
    assert_eq!(own_nonce, Some(401));
    let other_uri = with_spoilt_credentials(&server, |challenge, _| {
        challenge.answer("alice", &password, "REGISTER", "sip:elsewhere.example")
    });
    assert!(matches!(other_uri, Some(400 | 401 | 403)), "{other_uri:?}");
    let other_qop = with_spoilt_credentials(&server, |challenge, request| {
        answer(challenge, request).replace("qop=auth,", "qop=auth-int,")
    });
    assert!(matches!(other_qop, Some(400 | 401)), "{other_qop:?}");
    let unknown_algorithm = with_spoilt_credentials(&server, |challenge, request| {
        answer(challenge, request).replace("algorithm=SHA-256", "algorithm=SHA-999")
    });
    assert!(matches!(unknown_algorithm, Some(400 | 401)), "{unknown_algorithm:?}");
}

fn md5_is_refused_where_only_it_was_not_offered_a09(database: Database) {
    let server = Server::start(database);
    let password = crate::harness::server::password_of("alice");
    let downgraded = with_spoilt_credentials(&server, |challenge, request| {
        // Wrong hash for the algorithm named: nothing but a right answer may pass.
        challenge
            .answer("alice", &password, "REGISTER", &request.uri)
            .replace("algorithm=SHA-256", "algorithm=MD5")
    });
    assert_eq!(downgraded, Some(401));
}

over_each_transport!(
    challenges_are_sha256_then_md5_rfc8760_2_3,
    what_is_forwarded_is_challenged_with_407_rfc3261_22_1,
    both_algorithms_let_the_right_password_in_rfc8760_2,
    wrong_password_is_challenged_again_and_not_stale_rfc3261_22_1,
    a_nonce_serves_again_with_a_higher_count_rfc7616_3_4,
);
on_each_database!(
    user_name_with_realm_is_taken_too_rfc3261_22,
    a_nonce_from_before_a_restart_is_stale_rfc7616_3_3,
    an_old_nonce_is_stale_rfc7616_3_3,
    phones_that_stop_at_the_first_challenge_get_md5_rfc8760_2_3,
    a_client_without_qop_is_taken_once_per_nonce_rfc2617_3_2_2,
    basic_is_not_accepted_rfc3261_22,
    two_spaces_after_the_header_name_are_read_rfc3261_7_3_1,
    what_we_did_not_issue_is_refused_a09,
    md5_is_refused_where_only_it_was_not_offered_a09,
);

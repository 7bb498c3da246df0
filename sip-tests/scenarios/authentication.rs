//! Digest over the wire (RFC 3261 section 22, RFC 7616, RFC 8760).

use crate::harness::digest::{Algorithm, Challenge, parameter};
use crate::harness::phone::aor;
use crate::harness::server::password_of;
use crate::harness::{DEADLINE, DOMAIN, Database, Message, Phone, Request, Server, Transport};

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

const ALL: [Algorithm; 3] = [Algorithm::Sha512_256, Algorithm::Sha256, Algorithm::Md5];

/// A server that offers these: the newest only when it has read that everybody has it.
fn offering(database: Database, algorithms: &[Algorithm]) -> Server {
    let names: Vec<&str> = algorithms.iter().map(|algorithm| algorithm.name()).collect();
    let server = Server::with(database, |config| config.set("auth.algorithms", names.clone()));
    let deadline = std::time::Instant::now() + DEADLINE;
    let mut phone = Phone::new(&server, "alice", Transport::Tcp);
    loop {
        let request = phone.register_request();
        let challenge = phone.transact(&request);
        if offered(&challenge) == names {
            return server;
        }
        assert!(std::time::Instant::now() < deadline, "{challenge}");
    }
}

/// The algorithms of a challenge, from the top.
fn offered(challenge: &Message) -> Vec<String> {
    let rows = challenge.rows("WWW-Authenticate");
    rows.iter().map(|row| parameter(row, "algorithm").unwrap_or_default()).collect()
}

fn sha512_256_is_offered_if_configured_rfc8760_2_2(database: Database, via: Transport) {
    let server = offering(database, &ALL);
    for algorithm in ALL {
        for user in ["alice", &format!("alice@{DOMAIN}")] {
            let mut alice = Phone::new(&server, "alice", via);
            alice.algorithm = algorithm;
            let contact = alice.contact();
            // As long as a phone's, so that all challenges have room (A15).
            let request =
                alice.register_request().header("Contact", &contact).header("Subject", &"s".repeat(200));
            let challenge = alice.transact(&request);
            assert_eq!(offered(&challenge), ["SHA-512-256", "SHA-256", "MD5"], "{challenge}");
            let header = alice.learn(&challenge);
            let mut request = alice.again(&request);
            let password = password_of("alice");
            let value = alice.challenges.get_mut(header).expect("challenge").answer(
                user,
                &password,
                "REGISTER",
                &request.uri,
            );
            let digits = parameter(&value, "response").expect("response").len();
            assert_eq!(digits, if algorithm == Algorithm::Md5 { 32 } else { 64 });
            request.put(header, &value);
            let response = alice.transact(&request);
            assert_eq!(response.status(), Some(200), "{algorithm:?} {user}:\n{response}");
        }
    }
    let mut alice = Phone::new(&server, "alice", via);
    alice.algorithm = Algorithm::Sha512_256;
    alice.password = "guess".into();
    let request = alice.register_request().header("Subject", &"s".repeat(200));
    assert_eq!(alice.ask(request).status(), Some(401));
}

fn a_short_request_loses_the_strongest_challenge_first_a15(database: Database) {
    let server = offering(database, &ALL);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut seen = Vec::new();
    for length in (0..400).step_by(20) {
        let request = alice.register_request().without("Allow").without("Supported").without("User-Agent");
        let request = request.header("Subject", &"s".repeat(length));
        let response = alice.transact(&request);
        assert!(
            response.raw.len() * 2 <= request.bytes().len() * 3 || offered(&response).len() == 1,
            "{response}"
        );
        seen.push(offered(&response));
    }
    seen.dedup();
    let expected = [vec!["MD5"], vec!["SHA-256", "MD5"], vec!["SHA-512-256", "SHA-256", "MD5"]];
    assert_eq!(seen, expected);
}

fn md5_can_be_switched_off_rfc8760_3(database: Database, via: Transport) {
    let server = offering(database, &[Algorithm::Sha256]);
    for agent in [None, Some("JsSIP 3.10.0"), Some("baresip v1.0.0 (x86_64/linux)")] {
        let mut alice = Phone::new(&server, "alice", via);
        alice.user_agent = agent.map(str::to_owned);
        let request = alice.register_request();
        let challenge = alice.transact(&request);
        assert_eq!(offered(&challenge), ["SHA-256"], "{challenge}");
        let header = alice.learn(&challenge);
        // Who answers with MD5 all the same is right about the password and not let in.
        let mut downgraded = alice.challenges[header].clone();
        downgraded.algorithm = Algorithm::Md5;
        let request = alice.again(&request);
        let value = downgraded.answer("alice", &password_of("alice"), "REGISTER", &request.uri);
        let refused = alice.transact(&request.clone().set(header, &value));
        assert_eq!((refused.status(), offered(&refused)), (Some(401), vec!["SHA-256".into()]), "{refused}");
        let unnamed = value.replace(", algorithm=MD5", "");
        let request = alice.again(&request);
        assert_eq!(alice.transact(&request.set(header, &unnamed)).status(), Some(401));
        assert!(alice.fetch_contacts().is_empty());
    }
}

fn sha512_256_is_refused_where_it_is_not_offered_a09(database: Database) {
    let server = Server::start(database);
    let password = password_of("alice");
    let status = with_spoilt_credentials(&server, |challenge, request| {
        challenge.algorithm = Algorithm::Sha512_256;
        challenge.answer("alice", &password, "REGISTER", &request.uri)
    });
    assert_eq!(status, Some(401));
}

fn integrity_protects_the_body_if_it_is_offered_rfc7616_3_4_3(database: Database, via: Transport) {
    let server = Server::with(database, |config| config.set("auth.integrity", true));
    let mut bob = Phone::new(&server, "bob", via);
    let request = bob.register_request();
    let challenge = bob.transact(&request);
    for row in challenge.rows("WWW-Authenticate") {
        assert!(row.contains("qop=\"auth,auth-int\""), "{challenge}");
    }
    // RFC 8760 2.6 item 7: an empty body is the empty string.
    let header = bob.learn(&challenge);
    bob.challenges.get_mut(header).expect("challenge").integrity = Some(Vec::new());
    let contact = bob.contact();
    let mut request = bob.again(&request).header("Contact", &contact);
    bob.authorize(&mut request, header);
    assert!(request.get(header).contains("qop=auth-int,"), "{request:?}");
    let response = bob.transact(&request);
    assert_eq!(response.status(), Some(200), "{response}");

    let mut alice = Phone::new(&server, "alice", via);
    let request = alice.message_request("bob", "as it was written");
    let challenge = alice.transact(&request);
    let header = alice.learn(&challenge);
    alice.challenges.get_mut(header).expect("challenge").integrity = Some(b"as it was written".to_vec());
    let mut request = alice.again(&request);
    alice.authorize(&mut request, header);
    alice.send(&request);
    let arrived = bob.expect_request("MESSAGE");
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&request, 200);
    let mut request = alice.again(&request);
    alice.authorize(&mut request, header);
    request.body = b"as it was WRITTEN".to_vec();
    assert_eq!(alice.transact(&request).status(), Some(407), "somebody wrote in it");
    bob.expect_nothing_more();
}

fn integrity_is_refused_where_it_is_not_offered_a09(database: Database) {
    let server = Server::start(database);
    let password = password_of("alice");
    let status = with_spoilt_credentials(&server, |challenge, request| {
        challenge.integrity = Some(Vec::new());
        challenge.answer("alice", &password, "REGISTER", &request.uri)
    });
    assert_eq!(status, Some(401));
}

fn a_name_given_twice_is_an_error_rfc7616_3_4(database: Database) {
    let server = Server::start(database);
    let password = password_of("alice");
    let with = |change: &dyn Fn(String) -> String| {
        with_spoilt_credentials(&server, |challenge, request| {
            change(challenge.answer("alice", &password, "REGISTER", &request.uri))
        })
    };
    assert_eq!(with(&|value| value), Some(200), "the control");
    assert_eq!(with(&|value| format!("{value}, username*=UTF-8''alice")), Some(401));
    assert_eq!(with(&|value| format!("{value}, username=\"alice\"")), Some(401));
    for nc in ["1", "0000000g", "000000001", ""] {
        assert_eq!(with(&|value| value.replace("nc=00000001", &format!("nc={nc}"))), Some(401), "{nc:?}");
    }
}

fn session_variants_are_not_offered_and_not_taken_rfc7616_3_4_2(database: Database) {
    let server = Server::start(database);
    let password = password_of("alice");
    for algorithm in [Algorithm::Md5, Algorithm::Sha256] {
        let status = with_spoilt_credentials(&server, |challenge, request| {
            challenge.algorithm = algorithm;
            challenge.session = true;
            challenge.answer("alice", &password, "REGISTER", &request.uri)
        });
        assert_eq!(status, Some(401), "{algorithm:?}");
    }
}

fn hashed_names_are_not_offered_and_not_taken_rfc7616_3_4_4(database: Database) {
    let server = Server::start(database);
    let password = password_of("alice");
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let request = alice.register_request();
    let challenge = alice.transact(&request);
    assert!(!challenge.to_string().contains("userhash"), "{challenge}");
    let status = with_spoilt_credentials(&server, |challenge, request| {
        let value = challenge.answer("alice", &password, "REGISTER", &request.uri);
        let hash = challenge.algorithm.hex(&format!("alice:{DOMAIN}"));
        format!("{}, userhash=true", value.replace("username=\"alice\"", &format!("username=\"{hash}\"")))
    });
    assert_eq!(status, Some(401));
}

fn passwords_are_of_any_characters_in_utf8_rfc7616_4(database: Database, via: Transport) {
    let server = offering(database, &ALL);
    let composed = "gr\u{fc}n \u{20ac} \u{5bc6}\u{7801}";
    // As some terminals write it: u and the two dots over it.
    let typed = composed.replace('\u{fc}', "u\u{308}");
    let done = server.cli(&["user", "passwd", "alice", "--password-stdin"], &typed);
    assert!(done.status.success(), "{done:?}");
    for algorithm in ALL {
        let mut alice = Phone::new(&server, "alice", via);
        alice.algorithm = algorithm;
        alice.password = composed.into();
        let request = alice.register_request().header("Subject", &"s".repeat(200));
        let response = alice.ask(request.clone());
        assert_eq!(response.status(), Some(200), "{algorithm:?}:\n{response}");
        let mut stranger = Phone::new(&server, "alice", via);
        let request = stranger.again(&request);
        let challenge = stranger.transact(&request);
        for row in challenge.rows("WWW-Authenticate") {
            assert_eq!(row.contains(", charset=UTF-8"), !row.contains("algorithm=MD5"), "{row}");
        }
    }
}

#[test]
fn no_password_is_in_the_store_rfc7616_5_2() {
    let mut server = Server::start(Database::Sqlite);
    let secret = "Sesame-4711";
    let done = server.cli(&["user", "passwd", "alice", "--password-stdin"], secret);
    assert!(done.status.success(), "{done:?}");
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    alice.password = secret.into();
    alice.register();
    assert_eq!(server.stop(), 0);
    let has = |text: &str| {
        let files =
            std::fs::read_dir(server.dir.path()).expect("directory").map(|file| file.expect("file").path());
        files.filter(|file| file.is_file()).any(|file| {
            let bytes = std::fs::read(&file).expect("readable");
            crate::harness::message::find(&bytes, text.as_bytes()).is_some()
        })
    };
    assert!(has(&Algorithm::Sha256.hex(&format!("alice:{DOMAIN}:{secret}"))), "the control: the hash");
    assert!(!has(secret), "the password");
}

fn failed_logins_are_logged_seldom_and_without_secrets_rfc7616_3_4(database: Database) {
    let server = Server::start(database);
    let began = std::time::Instant::now();
    let mut responses = Vec::new();
    for (user, guess) in
        [("alice", "first-guess"), ("zelda", "second-guess"), ("my-passw0rd", "third-guess")].repeat(10)
    {
        let mut guesser = Phone::new(&server, user, Transport::Udp);
        guesser.password = guess.into();
        let request = guesser.register_request();
        let (request, response) = guesser.ask_and_tell(request);
        assert_eq!(response.status(), Some(401), "{response}");
        responses.push(parameter(request.get("Authorization"), "response").expect("response"));
    }
    let deadline = std::time::Instant::now() + DEADLINE;
    while !server.log().contains("a log-in failed") {
        assert!(std::time::Instant::now() < deadline, "not logged:\n{}", server.log());
        std::thread::yield_now();
    }
    let (log, seconds) = (server.log(), began.elapsed().as_secs());
    let lines = log.lines().filter(|line| line.contains("a log-in failed")).count() as u64;
    assert!(lines <= seconds + 2, "{lines} lines in {seconds} s");
    assert!(log.contains("127.0.0.1"), "who it was");
    for secret in ["first-guess", "second-guess", "third-guess", "my-passw0rd"] {
        assert!(!log.contains(secret), "{secret} in the log");
    }
    assert!(!responses.iter().any(|response| log.contains(response)), "a response in the log");
}

fn other_schemes_are_challenged_like_none_rfc8898_2_1(database: Database) {
    let server = Server::start(database);
    let token = "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.";
    for (method, header, status) in
        [("REGISTER", "Authorization", 401), ("MESSAGE", "Proxy-Authorization", 407)]
    {
        let mut alice = Phone::new(&server, "alice", Transport::Udp);
        let uri = if method == "REGISTER" { format!("sip:{DOMAIN}") } else { aor("bob") };
        let request = alice.request(method, &uri).set("To", &format!("<{}>", aor("alice")));
        let none = alice.transact(&request);
        let request = alice.again(&request).header(header, token);
        let response = alice.transact(&request);
        assert_eq!((none.status(), response.status()), (Some(status), Some(status)), "{response}");
        for name in ["WWW-Authenticate", "Proxy-Authenticate"] {
            assert_eq!(response.rows(name).len(), none.rows(name).len(), "{response}");
            assert!(response.rows(name).iter().all(|row| row.starts_with("Digest ")), "{response}");
        }
    }
}

fn challenges_from_below_keep_their_order_rfc8760_2_5(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut desk = Phone::new(&server, "bob", via);
    let mut mobile = Phone::new(&server, "bob", Transport::Udp);
    desk.register();
    mobile.register();
    let invite = alice.invite("bob");
    let rows = |realm: &str, algorithms: [&str; 3]| {
        algorithms.map(|algorithm| {
            format!("Digest realm=\"{realm}\", nonce=\"n\", algorithm={algorithm}, qop=\"auth\"")
        })
    };
    let of_desk = rows("desk.example", ["SHA-512-256", "SHA-256", "MD5"]);
    let of_mobile = rows("mobile.example", ["MD5", "SHA-256", "SHA-512-256"]);
    for (phone, name, status, offers) in [
        (&mut desk, "Proxy-Authenticate", 407, &of_desk),
        (&mut mobile, "Proxy-Authenticate", 407, &of_mobile),
    ] {
        let arrived = phone.expect_request("INVITE");
        let reply = arrived.reply(status, "Prove it");
        phone.answer_with(&arrived, offers.iter().fold(reply, |reply, offer| reply.header(name, offer)));
        phone.expect_request("ACK");
    }
    let response = alice.expect_status(&invite, 407);
    let all = response.rows("Proxy-Authenticate");
    assert_eq!(all.len(), 6, "{response}");
    let of = |realm: &str| -> Vec<&str> { all.iter().copied().filter(|row| row.contains(realm)).collect() };
    assert_eq!(of("desk.example"), of_desk, "{response}");
    assert_eq!(of("mobile.example"), of_mobile, "{response}");
}

over_each_transport!(
    sha512_256_is_offered_if_configured_rfc8760_2_2,
    md5_can_be_switched_off_rfc8760_3,
    integrity_protects_the_body_if_it_is_offered_rfc7616_3_4_3,
    passwords_are_of_any_characters_in_utf8_rfc7616_4,
    challenges_from_below_keep_their_order_rfc8760_2_5,
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
    a_short_request_loses_the_strongest_challenge_first_a15,
    sha512_256_is_refused_where_it_is_not_offered_a09,
    integrity_is_refused_where_it_is_not_offered_a09,
    a_name_given_twice_is_an_error_rfc7616_3_4,
    session_variants_are_not_offered_and_not_taken_rfc7616_3_4_2,
    hashed_names_are_not_offered_and_not_taken_rfc7616_3_4_4,
    other_schemes_are_challenged_like_none_rfc8898_2_1,
    failed_logins_are_logged_seldom_and_without_secrets_rfc7616_3_4,
);

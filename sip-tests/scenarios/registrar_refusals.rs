//! REGISTER: what is refused, and that a refusal changes nothing (RFC 3261 section 10.3).

use crate::harness::phone::aor;
use crate::harness::presence::expires_of;
use crate::harness::{DOMAIN, Database, Phone, Server, Transport};

fn too_short_interval_is_423_with_min_expires_rfc3261_10_3_7(database: Database, via: Transport) {
    let server = Server::with(database, |config| config.set("registration.min_interval_s", 60));
    let mut alice = Phone::new(&server, "alice", via);
    let contact = alice.contact();
    let request = alice.register_request().header("Contact", &contact).header("Expires", "5");
    let response = alice.ask(request);
    assert_eq!(response.status(), Some(423), "{response}");
    assert_eq!(response.need("Min-Expires"), "60", "{response}");
    assert!(alice.fetch_contacts().is_empty());
}

fn an_hour_is_never_too_short_rfc3261_10_3_7(database: Database) {
    let server = Server::with(database, |config| {
        config.set("registration.min_interval_s", 7200);
        config.set("registration.default_interval_s", 7200);
        config.set("registration.max_interval_s", 86_400);
    });
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let contact = alice.contact();
    alice.register_contact(&contact, Some(3600));
}

fn star_asks_for_zero_and_to_be_alone_rfc3261_10_2_2(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    alice.register();
    let other = alice.contact();
    let with_expires = alice.register_request().header("Contact", "*").header("Expires", "600");
    let without_expires = alice.register_request().header("Contact", "*");
    let not_alone =
        alice.register_request().header("Contact", "*").header("Contact", &other).header("Expires", "0");
    for request in [with_expires, without_expires, not_alone] {
        let request = alice.again(&request);
        let response = alice.ask(request);
        assert_eq!(response.status(), Some(400), "{response}");
    }
    assert_eq!(alice.fetch_contacts().len(), 1);
}

fn unknown_require_is_420_rfc3261_10_3_2(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let contact = alice.contact();
    let request =
        alice.register_request().header("Contact", &contact).header("Require", "path, teleport, 100perc");
    let response = alice.ask(request);
    assert_eq!(response.status(), Some(420), "{response}");
    let mut unsupported = response.list("Unsupported");
    unsupported.sort();
    assert_eq!(unsupported, ["100perc", "teleport"], "{response}");
    assert!(alice.fetch_contacts().is_empty());
}

fn someone_elses_aor_is_403_rfc3261_10_3_4(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    alice.register();
    let contact = bob.contact();
    for from in ["bob", "alice"] {
        let request = bob
            .register_request()
            .set("From", &format!("<{}>;tag=x{from}", aor(from)))
            .set("To", &format!("<{}>", aor("alice")))
            .header("Contact", &contact);
        let response = bob.ask(request);
        assert_eq!(response.status(), Some(403), "{response}");
    }
    let contacts = alice.fetch_contacts();
    assert_eq!(contacts.len(), 1, "{contacts:?}");
}

fn unknown_aor_is_not_registered_rfc3261_10_3_5(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let contact = alice.contact();
    let request =
        alice.register_request().set("To", &format!("<{}>", aor("zoe"))).header("Contact", &contact);
    let response = alice.ask(request);
    assert!(matches!(response.status(), Some(403 | 404)), "{response}");
}

fn registrar_address_has_no_user_rfc3261_10_2(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let contact = alice.contact();
    let request =
        alice.register_request().aimed_at(&format!("sip:alice@{DOMAIN}")).header("Contact", &contact);
    let response = alice.ask(request);
    assert!(matches!(response.status(), Some(400 | 404)), "{response}");
    assert!(alice.fetch_contacts().is_empty());
}

fn bindings_have_a_limit_rfc3261_10_3(database: Database) {
    let server = Server::with(database, |config| config.set("registration.max_bindings", 3));
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    for line in 0..3 {
        alice.register_contact(&format!("<sip:alice@{};line={line}>", alice.local), Some(600));
    }
    let request = alice.register_request();
    let request =
        request.header("Contact", &format!("<sip:alice@{};line=9>", alice.local)).header("Expires", "600");
    let response = alice.ask(request);
    assert_eq!(response.status(), Some(403), "{response}");
    assert_eq!(alice.fetch_contacts().len(), 3);
    // One that is known may be refreshed all the same.
    alice.register_contact(&format!("<sip:alice@{};line=1>", alice.local), Some(900));
}

fn unusable_expires_are_never_wrapped_rfc3261_20_19(database: Database) {
    let server = Server::with(database, |config| config.set("registration.max_interval_s", 3600));
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let contact = alice.contact();
    for expires in ["2147483648", "4294967295", "4294967296", "1000000000000000000000000000000", "-1", "x"] {
        let request = alice.register_request().header("Contact", &contact).header("Expires", expires);
        let response = alice.ask(request);
        match response.status() {
            Some(200) => {
                let granted =
                    crate::harness::presence::expires_of(&response.list("Contact")[0]).expect("expires");
                assert!((1..=3600).contains(&granted), "Expires: {expires}:\n{response}");
            }
            Some(400 | 423) => {}
            _ => panic!("Expires: {expires}:\n{response}"),
        }
    }
}

fn no_refusal_is_a_6xx_rfc3261_10_3(database: Database, via: Transport) {
    let server = Server::with(database, |config| config.set("registration.max_bindings", 1));
    let mut alice = Phone::new(&server, "alice", via);
    alice.register();
    let plain = alice.register_request();
    let contact = |value: &str| plain.clone().header("Contact", value);
    let own = format!("<sip:alice@{}>", server.address(via));
    let spoilt = [
        contact("*"),
        contact("*, <sip:a@192.0.2.1>").header("Expires", "0"),
        contact("<tel:+4930123456>"),
        contact("<sip:a@192.0.2.1;maddr=192.0.2.2>"),
        contact(&own),
        contact("<sip:a@192.0.2.1>;q=7"),
        contact("<sip:a@192.0.2.1>;expires=5"),
        contact("<sip:a@[::>"),
        contact("<sip:one.too.many@192.0.2.1>"),
        contact("<sip:a@192.0.2.1>").header("Path", "<sip:b@>"),
        plain.clone().header("Require", "teleport"),
        plain.clone().set("To", &format!("<{}>", aor("bob"))),
        plain.clone().set("To", &format!("<{}>", aor("zoe"))),
        plain.clone().set("To", "<sip:alice@elsewhere.example>"),
        plain.clone().set("From", &format!("<{}>;tag=f", aor("bob"))),
        plain.clone().aimed_at(&aor("alice")),
        plain.clone().aimed_at("sip:elsewhere.example"),
        plain.clone().aimed_at("sips:hither.example"),
        plain.clone().header("Route", "<sip:192.0.2.1;lr>"),
        plain.clone().set("Max-Forwards", "0").aimed_at("sip:elsewhere.example"),
    ];
    for request in spoilt {
        let request = alice.again(&request);
        let (request, response) = alice.ask_and_tell(request);
        let status = response.status().unwrap_or_default();
        assert!((400..600).contains(&status), "{}\n{response}", String::from_utf8_lossy(&request.bytes()));
    }
    assert_eq!(alice.fetch_contacts().len(), 1);
}

fn a_register_for_another_domain_is_403_rfc3261_10_3_1(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let elsewhere = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    elsewhere.set_nonblocking(true).expect("non-blocking");
    let uri = format!("sip:{}", elsewhere.local_addr().expect("address"));
    for aimed_at in [uri.as_str(), "sip:elsewhere.example"] {
        let contact = alice.contact();
        let own = alice.register_request().header("Contact", &contact).aimed_at(aimed_at);
        let foreign =
            own.clone().set("From", "<sip:a@elsewhere.example>;tag=f").set("To", "<sip:a@elsewhere.example>");
        for request in [own, foreign] {
            let request = alice.again(&request);
            let response = alice.ask(request);
            assert_eq!(response.status(), Some(403), "{response}");
        }
    }
    assert!(elsewhere.recv_from(&mut [0; 2048]).is_err(), "forwarded");
    assert!(alice.fetch_contacts().is_empty());
}

fn every_edge_of_a_contacts_expires_is_clamped_or_refused_a36(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let ten_to_30 = format!("1{}", "0".repeat(30));
    for (expires, granted) in [
        ("0", Ok(None)),
        ("1", Err(423)),
        ("60", Ok(Some(60))),
        ("2147483648", Ok(Some(86_400))),
        ("4294967295", Ok(Some(86_400))),
        ("4294967296", Ok(Some(86_400))),
        (ten_to_30.as_str(), Ok(Some(86_400))),
        // RFC 3261 section 20.19: malformed is the default.
        ("-1", Ok(Some(3600))),
        ("x", Ok(Some(3600))),
    ] {
        let contact = format!("{};expires={expires}", alice.contact());
        let request = alice.register_request().header("Contact", &contact);
        let response = alice.ask(request);
        let told = match response.status() {
            Some(200) => Ok(response.list("Contact").first().and_then(|contact| expires_of(contact))),
            status => Err(status.unwrap_or_default()),
        };
        assert_eq!(told, granted, "expires={expires}:\n{response}");
    }
}

over_each_transport!(
    no_refusal_is_a_6xx_rfc3261_10_3,
    a_register_for_another_domain_is_403_rfc3261_10_3_1,
    too_short_interval_is_423_with_min_expires_rfc3261_10_3_7,
    star_asks_for_zero_and_to_be_alone_rfc3261_10_2_2,
    unknown_require_is_420_rfc3261_10_3_2,
    someone_elses_aor_is_403_rfc3261_10_3_4,
);
on_each_database!(
    every_edge_of_a_contacts_expires_is_clamped_or_refused_a36,
    an_hour_is_never_too_short_rfc3261_10_3_7,
    unknown_aor_is_not_registered_rfc3261_10_3_5,
    registrar_address_has_no_user_rfc3261_10_2,
    bindings_have_a_limit_rfc3261_10_3,
    unusable_expires_are_never_wrapped_rfc3261_20_19,
);

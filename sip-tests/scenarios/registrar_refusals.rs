//! REGISTER: what is refused, and that a refusal changes nothing (RFC 3261 section 10.3).

use crate::harness::phone::aor;
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

over_each_transport!(
    too_short_interval_is_423_with_min_expires_rfc3261_10_3_7,
    star_asks_for_zero_and_to_be_alone_rfc3261_10_2_2,
    unknown_require_is_420_rfc3261_10_3_2,
    someone_elses_aor_is_403_rfc3261_10_3_4,
);
on_each_database!(
    an_hour_is_never_too_short_rfc3261_10_3_7,
    unknown_aor_is_not_registered_rfc3261_10_3_5,
    registrar_address_has_no_user_rfc3261_10_2,
    bindings_have_a_limit_rfc3261_10_3,
    unusable_expires_are_never_wrapped_rfc3261_20_19,
);

//! REGISTER: what is kept and what is told (RFC 3261 section 10).

use crate::harness::message::{param, uri_of};
use crate::harness::presence::expires_of;
use crate::harness::socket::has_ipv6;
use crate::harness::{DOMAIN, Database, Phone, Server, Transport};

fn registration_is_answered_with_the_binding_rfc3261_10_3_8(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let response = alice.register();
    let contacts = response.list("Contact");
    assert_eq!(contacts.len(), 1, "{response}");
    assert_eq!(uri_of(&contacts[0]), alice.contact_uri());
    let expires = expires_of(&contacts[0]).expect("expires");
    assert!((590..=600).contains(&expires), "{response}");
    assert!(response.need("Date").ends_with("GMT"), "{response}");
}

fn fetch_lists_bindings_and_changes_nothing_rfc3261_10_2_3(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    assert!(alice.fetch_contacts().is_empty());
    alice.register();
    for _ in 0..2 {
        let contacts = alice.fetch_contacts();
        assert_eq!(contacts.len(), 1, "{contacts:?}");
        assert_eq!(uri_of(&contacts[0]), alice.contact_uri());
    }
}

fn refresh_extends_the_binding_rfc3261_10_2_4(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let contact = alice.contact();
    alice.register_contact(&contact, Some(300));
    let response = alice.register_contact(&contact, Some(900));
    let contacts = response.list("Contact");
    assert_eq!(contacts.len(), 1, "a refresh adds nothing:\n{response}");
    assert!(expires_of(&contacts[0]).expect("expires") > 800, "{response}");
}

fn contact_expires_beats_the_header_rfc3261_10_3_7(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let contact = format!("{};expires=300", alice.contact());
    let response = alice.register_contact(&contact, Some(900));
    assert!(expires_of(&response.list("Contact")[0]).expect("expires") <= 300, "{response}");
}

fn interval_defaults_and_is_capped_rfc3261_10_3_7(database: Database) {
    let server = Server::with(database, |config| {
        config.set("registration.default_interval_s", 1200);
        config.set("registration.max_interval_s", 1800);
    });
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let contact = alice.contact();
    let response = alice.register_contact(&contact, None);
    let expires = expires_of(&response.list("Contact")[0]).expect("expires");
    assert!((1190..=1200).contains(&expires), "{response}");
    let response = alice.register_contact(&contact, Some(4_294_967_295));
    let expires = expires_of(&response.list("Contact")[0]).expect("expires");
    assert!((1790..=1800).contains(&expires), "{response}");
}

fn several_contacts_are_kept_with_their_parameters_rfc3261_10_2_1(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let desk = format!("<sip:alice@{};line=desk>;q=0.3;methods=\"INVITE,BYE\"", alice.local);
    let mobile = format!("<sip:alice@{};line=mobile>;q=0.9", alice.local);
    let response = alice.register_contact(&format!("{desk}, {mobile}"), Some(600));
    let contacts = response.list("Contact");
    assert_eq!(contacts.len(), 2, "{response}");
    let find = |what: &str| contacts.iter().find(|c| c.contains(what)).expect("contact").clone();
    let q = |what: &str| param(&find(what), "q").and_then(|q| q.parse().ok());
    assert_eq!(q("line=desk"), Some(0.3), "{response}");
    assert_eq!(q("line=mobile"), Some(0.9), "{response}");
    assert_eq!(param(&find("line=desk"), "methods").as_deref(), Some("INVITE,BYE"), "{response}");
}

fn two_phones_are_two_bindings_rfc3261_10_3(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut desk = Phone::new(&server, "alice", via);
    let mut mobile = Phone::new(&server, "alice", Transport::Udp);
    desk.register();
    let response = mobile.register();
    assert_eq!(response.list("Contact").len(), 2, "{response}");
    assert_eq!(desk.fetch_contacts().len(), 2);
}

fn zero_removes_just_that_contact_rfc3261_10_2_2(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let other = format!("<sip:alice-2@{}>", alice.local);
    alice.register();
    alice.register_contact(&other, Some(600));
    let response = alice.register_contact(&format!("{other};expires=0"), None);
    let contacts = response.list("Contact");
    assert_eq!(contacts.len(), 1, "{response}");
    assert_eq!(uri_of(&contacts[0]), alice.contact_uri());
    let response = alice.register_contact(&format!("<sip:nobody@{}>;expires=0", alice.local), None);
    assert_eq!(response.list("Contact").len(), 1, "an unknown contact with 0 is no error:\n{response}");
}

fn star_with_zero_removes_all_rfc3261_10_2_2(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut second = Phone::new(&server, "alice", Transport::Udp);
    alice.register();
    second.register();
    let response = alice.register_contact("*", Some(0));
    assert!(response.list("Contact").is_empty(), "{response}");
    assert!(alice.fetch_contacts().is_empty());
}

fn binding_ends_at_its_expiry_rfc3261_10_3(database: Database) {
    let server = Server::with(database, |config| {
        config.set("registration.min_interval_s", 1);
        config.set("messaging.store", false);
    });
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let contact = alice.contact();
    alice.register_contact(&contact, Some(1));
    // No waiting: texts are relayed to the phone until the binding is gone.
    let deadline = std::time::Instant::now() + crate::harness::DEADLINE;
    loop {
        assert!(std::time::Instant::now() < deadline, "the binding did not end");
        if alice.fetch_contacts().is_empty() {
            break;
        }
    }
    assert_eq!(bob.ask_message("alice", "too late").status(), Some(480));
}

fn contacts_match_by_uri_equality_rfc3261_19_1_4(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    alice.register_contact(&format!("<sip:alice@{};a=1;b=2>", alice.local), Some(600));
    let response = alice.register_contact(&format!("<sip:%61lice@{};b=2;a=1>", alice.local), Some(600));
    assert_eq!(response.list("Contact").len(), 1, "order and escapes do not matter:\n{response}");
    let response = alice.register_contact(&format!("<sip:Alice@{};b=2;a=1>", alice.local), Some(600));
    assert_eq!(response.list("Contact").len(), 2, "the user part is case-sensitive:\n{response}");
}

fn aor_is_canonical_rfc3261_10_3_5(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    alice.register();
    let shouted = DOMAIN.to_ascii_uppercase();
    let request =
        alice.register_request().set("To", &format!("\"A. Lice\" <sip:%61lice@{shouted};user=phone>"));
    let response = alice.ask(request);
    assert_eq!(response.status(), Some(200), "{response}");
    assert_eq!(response.list("Contact").len(), 1, "the same AoR:\n{response}");
}

fn path_is_stored_and_echoed_rfc3327_5_3(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let contact = alice.contact();
    let path = format!("<sip:edge@{};lr>", alice.local);
    let request = alice
        .register_request()
        .header("Contact", &contact)
        .header("Supported", "path")
        .header("Path", &path)
        .header("Expires", "600");
    let response = alice.ask(request);
    assert_eq!(response.status(), Some(200), "{response}");
    assert_eq!(response.list("Path"), [path], "{response}");
}

fn ipv6_phones_register_rfc5954_4_1(database: Database) {
    if !has_ipv6() {
        return;
    }
    let server = Server::start(database);
    let mut udp = Phone::new(&server, "alice", Transport::Udp6);
    let mut tcp = Phone::new(&server, "alice", Transport::Tcp6);
    udp.register();
    let response = tcp.register();
    let uris: Vec<String> = response.list("Contact").iter().map(|contact| uri_of(contact)).collect();
    assert_eq!(uris.len(), 2, "{response}");
    assert!(uris.contains(&udp.contact_uri()) && uris.contains(&tcp.contact_uri()), "{response}");
}

fn received_and_rport_name_the_source_rfc3581_4(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let token = via.token();
    let request = alice.register_request();
    let request = request.set("Via", &format!("SIP/2.0/{token} 192.0.2.7:5062;branch=z9hG4bKnat1;rport"));
    let response = alice.transact(&request);
    let top = response.need("Via");
    assert_eq!(param(top, "received").as_deref(), Some("127.0.0.1"), "{response}");
    assert_eq!(param(top, "rport"), Some(alice.local.port().to_string()), "{response}");
    assert_eq!(param(top, "branch").as_deref(), Some("z9hG4bKnat1"), "{response}");
}

fn record_route_in_register_is_not_echoed_rfc3261_10_3(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let contact = alice.contact();
    let request =
        alice.register_request().header("Record-Route", "<sip:192.0.2.9;lr>").header("Contact", &contact);
    let response = alice.ask(request);
    assert_eq!(response.status(), Some(200), "{response}");
    assert!(response.rows("Record-Route").is_empty(), "{response}");
}

fn a_path_is_kept_without_supported_and_told_to_who_supports_it_rfc3327_5_3(
    database: Database,
    via: Transport,
) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut edge = Phone::new(&server, "edge", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let contact = alice.contact();
    let path = format!("<sip:edge@{};lr>", edge.local);
    let request = alice.register_request().header("Contact", &contact).header("Path", &path);
    let response = alice.ask(request.header("Expires", "600"));
    assert_eq!(response.status(), Some(200), "{response}");
    assert!(response.rows("Path").is_empty() && response.rows("Require").is_empty(), "{response}");
    let message = bob.message("alice", "by the edge");
    let arrived = edge.expect_request("MESSAGE");
    assert_eq!(arrived.list("Route"), [path], "{arrived}");
    edge.answer(&arrived, 200, "OK");
    bob.expect_status(&message, 200);
}

fn each_binding_is_reached_by_its_own_path_rfc3327_5_4(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let mut edges: Vec<Phone> = (0..2).map(|_| Phone::new(&server, "edge", Transport::Udp)).collect();
    let path = |edge: &Phone, number: usize| {
        [format!("<sip:edge{number}@{};lr>", edge.local), format!("<sip:inner{number}.example;lr>")]
    };
    for (number, edge) in edges.iter().enumerate() {
        let contact = format!("<sip:alice@192.0.2.{number}:5060>");
        let request = alice.register_request().header("Contact", &contact).header("Expires", "600");
        let request = request.header("Supported", "path").header("Path", &path(edge, number).join(", "));
        let response = alice.ask(request);
        assert_eq!(response.status(), Some(200), "{response}");
        assert_eq!(response.list("Path"), path(edge, number), "{response}");
    }
    let invite = bob.invite("alice");
    for (number, edge) in edges.iter_mut().enumerate() {
        let arrived = edge.expect_request("INVITE");
        assert_eq!(arrived.uri(), format!("sip:alice@192.0.2.{number}:5060"), "{arrived}");
        assert_eq!(arrived.list("Route"), path(edge, number), "{arrived}");
        edge.answer(&arrived, 486, "Busy Here");
        let ack = edge.expect_request("ACK");
        assert_eq!(ack.list("Route"), path(edge, number), "{ack}");
    }
    bob.expect_status(&invite, 486);
}

fn service_route_is_told_as_configured_rfc3608_6_3(database: Database, via: Transport) {
    let routes = ["<sip:edge.hither.example;lr>", "<sip:127.0.0.1:5070;transport=tcp;lr>"];
    let mut server = Server::with(database, |config| {
        let uris: Vec<&str> = routes.iter().map(|route| route.trim_matches(['<', '>'])).collect();
        config.set("registration.service_route", uris);
    });
    let mut alice = Phone::new(&server, "alice", via);
    assert_eq!(alice.register().list("Service-Route"), routes);
    let fetch = alice.register_request();
    assert_eq!(alice.ask(fetch).list("Service-Route"), routes, "a query tells it too");
    let refused = alice.register_request().header("Contact", "*").header("Expires", "600");
    assert!(alice.ask(refused).rows("Service-Route").is_empty(), "a refusal does not");
    server.restart();
    let mut again = Phone::new(&server, "alice", via);
    assert_eq!(again.register().list("Service-Route"), routes, "the same until it is changed");
}

over_each_transport!(
    a_path_is_kept_without_supported_and_told_to_who_supports_it_rfc3327_5_3,
    each_binding_is_reached_by_its_own_path_rfc3327_5_4,
    service_route_is_told_as_configured_rfc3608_6_3,
    registration_is_answered_with_the_binding_rfc3261_10_3_8,
    fetch_lists_bindings_and_changes_nothing_rfc3261_10_2_3,
    refresh_extends_the_binding_rfc3261_10_2_4,
    contact_expires_beats_the_header_rfc3261_10_3_7,
    several_contacts_are_kept_with_their_parameters_rfc3261_10_2_1,
    two_phones_are_two_bindings_rfc3261_10_3,
    zero_removes_just_that_contact_rfc3261_10_2_2,
    star_with_zero_removes_all_rfc3261_10_2_2,
    path_is_stored_and_echoed_rfc3327_5_3,
    received_and_rport_name_the_source_rfc3581_4,
);
on_each_database!(
    interval_defaults_and_is_capped_rfc3261_10_3_7,
    binding_ends_at_its_expiry_rfc3261_10_3,
    contacts_match_by_uri_equality_rfc3261_19_1_4,
    aor_is_canonical_rfc3261_10_3_5,
    ipv6_phones_register_rfc5954_4_1,
    record_route_in_register_is_not_echoed_rfc3261_10_3,
);

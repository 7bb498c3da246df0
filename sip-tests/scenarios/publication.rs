//! PUBLISH (RFC 3903 section 6).

use crate::harness::documents::pidf;
use crate::harness::phone::aor;
use crate::harness::{Database, Phone, Server, Transport};

fn a_publication_lives_changes_and_goes_rfc3903_6(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", via);
    let request = bob.publish_request(Some(&pidf("bob", "t1", "open", "a")), None, 600);
    let response = bob.ask(request);
    assert_eq!(response.status(), Some(200), "{response}");
    let expires: u32 = response.need("Expires").parse().expect("seconds");
    assert!((1..=600).contains(&expires), "{response}");
    let first = response.need("SIP-ETag").to_string();
    let second = bob.publish_as(None, Some(&first), 600);
    let third = bob.publish_as(Some(&pidf("bob", "t1", "open", "b")), Some(&second), 600);
    assert!(first != second && second != third && first != third, "{first} {second} {third}");
    bob.publish_as(None, Some(&third), 0);
    let request = bob.publish_request(None, Some(&third), 600);
    assert_eq!(bob.ask(request).status(), Some(412), "removed");
}

fn an_unknown_or_used_tag_is_412_rfc3903_6_3(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", via);
    let mut carol = Phone::new(&server, "carol", via);
    let used = bob.publish_basic("open", "a");
    let valid = bob.publish_as(None, Some(&used), 600);
    let foreign = carol.publish_basic("open", "c");
    for tag in ["never-issued", used.as_str(), foreign.as_str()] {
        for document in [None, Some(pidf("bob", "t1", "closed", "x"))] {
            let request = bob.publish_request(document.as_deref(), Some(tag), 600);
            let response = bob.ask(request);
            assert_eq!(response.status(), Some(412), "{tag}:\n{response}");
        }
    }
    bob.publish_as(None, Some(&valid), 600);
    carol.publish_as(None, Some(&foreign), 600);
}

fn a_tag_of_one_package_is_none_of_another_rfc3903_6_3(database: Database) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    let presence = bob.publish_basic("open", "a");
    let summary = "Messages-Waiting: yes\r\n";
    let request = bob.publish_request(None, None, 600).set("Event", "message-summary");
    let response = bob.ask(request.body("application/simple-message-summary", summary.as_bytes()));
    let messages = response.need("SIP-ETag").to_string();
    for (event, tag) in [("message-summary", &presence), ("presence", &messages)] {
        let request = bob.publish_request(None, Some(tag), 600).set("Event", event);
        let response = bob.ask(request);
        assert_eq!(response.status(), Some(412), "{event}:\n{response}");
    }
    bob.publish_as(None, Some(&presence), 600);
}

fn two_tags_are_400_rfc3903_6_3(database: Database) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let request = bob.publish_request(None, Some("a, b"), 600);
    assert_eq!(bob.ask(request).status(), Some(400));
    let request = bob.publish_request(None, Some("a"), 600).header("SIP-If-Match", "b");
    assert_eq!(bob.ask(request).status(), Some(400));
}

fn neither_body_nor_tag_is_400_rfc3903_6_5(database: Database) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let request = bob.publish_request(None, None, 600);
    assert_eq!(bob.ask(request).status(), Some(400));
}

fn an_unknown_event_is_489_rfc3903_6_2(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", via);
    let document = pidf("bob", "t1", "open", "a");
    for request in [
        bob.publish_request(Some(&document), None, 600).set("Event", "weather"),
        bob.publish_request(Some(&document), None, 600).without("Event"),
    ] {
        let request = bob.again(&request);
        let response = bob.ask(request);
        assert_eq!(response.status(), Some(489), "{response}");
        assert!(response.list("Allow-Events").iter().any(|event| event == "presence"), "{response}");
    }
}

fn another_body_type_is_415_with_accept_rfc3903_6_5(database: Database) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let request = bob.publish_request(None, None, 600).body("text/plain", b"I am here");
    let response = bob.ask(request);
    assert_eq!(response.status(), Some(415), "{response}");
    assert!(response.list("Accept").iter().any(|accept| accept == "application/pidf+xml"), "{response}");
}

fn a_part_that_is_not_understood_is_415_rfc5621_8_4(database: Database) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    let document = crate::harness::documents::pidf("bob", "t1", "open", "in parts");
    let icon =
        "--b\r\nContent-Type: image/png\r\nContent-Disposition: icon;handling=HANDLING\r\n\r\n\u{89}PNG\r\n";
    let pidf = format!("--b\r\nContent-Type: application/pidf+xml\r\n\r\n{document}\r\n");
    for (handling, status) in [("required", 415), ("optional", 200)] {
        let body = format!("{}{pidf}--b--\r\n", icon.replace("HANDLING", handling));
        let request =
            bob.publish_request(None, None, 600).body("multipart/related;boundary=b", body.as_bytes());
        let response = bob.ask(request);
        assert_eq!(response.status(), Some(status), "{handling}:\n{response}");
        if status == 415 {
            assert_eq!(response.list("Accept"), ["application/pidf+xml"], "{response}");
        }
    }
    let watching = bob.subscribe("bob");
    let shown = watching.notify.body_text();
    assert!(shown.contains("in parts") && !shown.contains("PNG"), "{shown}");
    for broken in ["--b", "--c\r\n\r\nx\r\n--c--", ""] {
        let body = if broken.is_empty() { format!("{pidf}no end") } else { broken.to_string() };
        let request =
            bob.publish_request(None, None, 600).body("multipart/mixed;boundary=b", body.as_bytes());
        let response = bob.ask(request);
        assert_eq!(response.status(), Some(400), "{broken}:\n{response}");
    }
}

fn too_short_is_423_but_zero_never_rfc3903_6_4(database: Database) {
    let server = Server::with(database, |config| config.set("publication.min_interval_s", 60));
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let document = pidf("bob", "t1", "open", "a");
    let request = bob.publish_request(Some(&document), None, 5);
    let response = bob.ask(request);
    assert_eq!(response.status(), Some(423), "{response}");
    assert_eq!(response.need("Min-Expires"), "60");
    let request = bob.publish_request(Some(&document), None, 0);
    assert_eq!(bob.ask(request).status(), Some(200), "stores nothing, but is no error");
}

fn only_the_owner_publishes_rfc3903_14_1(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", via);
    let mut alice = Phone::new(&server, "alice", via);
    let request = bob
        .publish_request(Some(&pidf("alice", "t1", "open", "forged")), None, 600)
        .aimed_at(&aor("alice"))
        .set("To", &format!("<{}>", aor("alice")));
    let response = bob.ask(request);
    assert_eq!(response.status(), Some(403), "{response}");
    let watching = alice.subscribe("alice");
    assert!(!watching.notify.body_text().contains("forged"), "{}", watching.notify);
}

fn nobody_of_that_name_is_404_rfc3903_6_1(database: Database) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let request = bob.publish_request(Some(&pidf("zoe", "t1", "open", "a")), None, 600).aimed_at(&aor("zoe"));
    let response = bob.ask(request);
    assert_eq!(response.status(), Some(404), "{response}");
}

fn a_publication_ends_at_its_expiry_rfc3903_6(database: Database) {
    let server = Server::with(database, |config| config.set("publication.min_interval_s", 1));
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let watching = bob.subscribe("bob");
    let document = pidf("bob", "t1", "open", "fleeting");
    let tag = bob.publish_as(Some(&document), None, 1);
    bob.expect_notify_until(&watching.call_id, "fleeting", |m| m.body_text().contains("fleeting"));
    bob.expect_notify_until(&watching.call_id, "gone", |m| !m.body_text().contains("fleeting"));
    let request = bob.publish_request(None, Some(&tag), 600);
    assert_eq!(bob.ask(request).status(), Some(412));
}

fn a_retransmitted_publish_gets_the_same_tag_rfc3903_6(database: Database) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    bob.show_retransmissions = true;
    bob.publish_basic("open", "first");
    let mut request = bob.publish_request(Some(&pidf("bob", "t2", "open", "again")), None, 600);
    bob.authorize(&mut request, "Authorization");
    let first = bob.transact(&request);
    let second = bob.transact(&request);
    assert_eq!(first.status(), Some(200), "{first}");
    assert_eq!(first.raw, second.raw);
}

fn route_headers_of_publish_are_not_echoed_rfc3903_4(database: Database) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let contact = bob.contact();
    let request = bob
        .publish_request(Some(&pidf("bob", "t1", "open", "a")), None, 600)
        .header("Contact", &contact)
        .header("Record-Route", "<sip:192.0.2.1;lr>");
    let response = bob.ask(request);
    assert_eq!(response.status(), Some(200), "{response}");
    assert!(response.header("Record-Route").is_none() && response.header("Contact").is_none(), "{response}");
}

fn publications_have_a_limit_rfc3903_14(database: Database) {
    let server = Server::with(database, |config| config.set("publication.max_per_aor", 2));
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    bob.publish(&pidf("bob", "t1", "open", "1"));
    let tag = bob.publish(&pidf("bob", "t2", "open", "2"));
    let request = bob.publish_request(Some(&pidf("bob", "t3", "open", "3")), None, 600);
    let response = bob.ask(request);
    assert!(matches!(response.status(), Some(403 | 503)), "{response}");
    bob.publish_as(None, Some(&tag), 600);
}

fn hostile_documents_are_refused_a07(database: Database) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let watching = bob.subscribe("bob");
    let head = "<?xml version=\"1.0\"?>";
    let open = "<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"sip:bob@hither.example\">";
    let tuple = "<tuple id=\"t\"><status><basic>open</basic></status><note>hostile</note></tuple>";
    let attributes = |count: u32| (0..count).map(|n| format!(" a{n}=\"x\"")).collect::<String>();
    let namespaces = |count: u32| (0..count).map(|n| format!(" xmlns:n{n}=\"urn:{n}\"")).collect::<String>();
    let documents = [
        format!(
            "{head}<!DOCTYPE p [<!ENTITY a \"hostile\"><!ENTITY b \"&a;&a;\">]>{open}{tuple}<note>&b;</note></presence>"
        ),
        format!(
            "{head}<!DOCTYPE p [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>{open}{tuple}<note>&x;</note></presence>"
        ),
        format!("{head}{open}{tuple}<note>&undefined;</note></presence>"),
        format!("{head}{open}{tuple}{}{}</presence>", "<x>".repeat(3000), "</x>".repeat(3000)),
        format!("{head}{open}{tuple}<x{}/></presence>", attributes(8000)),
        format!("{head}{open}{tuple}<x{}/></presence>", attributes(100)),
        format!("{head}{open}{tuple}<x{}/></presence>", namespaces(5000)),
        format!("{head}{open}{tuple}<x{}/></presence>", namespaces(100)),
        format!("{head}{open}{tuple}</presence>{open}</presence>"),
        format!("{head}{open}{tuple}</presence>trailing"),
        format!("{head}{open}{tuple}<u:x/></presence>"),
        format!("{head}{open}{tuple}"),
        format!("{head}{open}{tuple}</tuple></presence>"),
        "not xml at all".to_string(),
        String::from_utf8_lossy(b"<presence\0/>").into_owned(),
    ];
    for document in documents {
        // A connection each: what is over the limit of a message closes it.
        let mut hostile = Phone::new(&server, "bob", Transport::Tcp);
        let request = hostile.publish_request(Some(&document), None, 600);
        let response = hostile.ask(request);
        let short: String = document.chars().take(160).collect();
        assert!(matches!(response.status(), Some(400 | 403 | 413 | 415)), "{short}:\n{response}");
    }
    let marker = pidf("bob", "t9", "open", "honest");
    bob.publish(&marker);
    let seen = bob.expect_notify(&watching.call_id);
    assert!(seen.body_text().contains("honest") && !seen.body_text().contains("hostile"), "{seen}");
}

over_each_transport!(
    a_publication_lives_changes_and_goes_rfc3903_6,
    an_unknown_or_used_tag_is_412_rfc3903_6_3,
    an_unknown_event_is_489_rfc3903_6_2,
    only_the_owner_publishes_rfc3903_14_1,
);
on_each_database!(
    a_part_that_is_not_understood_is_415_rfc5621_8_4,
    two_tags_are_400_rfc3903_6_3,
    a_tag_of_one_package_is_none_of_another_rfc3903_6_3,
    neither_body_nor_tag_is_400_rfc3903_6_5,
    another_body_type_is_415_with_accept_rfc3903_6_5,
    too_short_is_423_but_zero_never_rfc3903_6_4,
    nobody_of_that_name_is_404_rfc3903_6_1,
    a_publication_ends_at_its_expiry_rfc3903_6,
    a_retransmitted_publish_gets_the_same_tag_rfc3903_6,
    route_headers_of_publish_are_not_echoed_rfc3903_4,
    publications_have_a_limit_rfc3903_14,
    hostile_documents_are_refused_a07,
);

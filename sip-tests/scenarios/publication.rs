//! PUBLISH (RFC 3903 section 6).

use crate::harness::documents::{basics, pidf};
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

fn of_writers_with_one_tag_exactly_one_wins_rfc3903_6_6(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut phones: Vec<Phone> = (0..4).map(|_| Phone::new(&server, "bob", via)).collect();
    // So that all of them know a challenge.
    phones.iter_mut().for_each(|phone| drop(phone.fetch_contacts()));
    let mut watcher = Phone::new(&server, "bob", Transport::Udp);
    let watching = watcher.subscribe("bob");
    let mut tag = phones[0].publish_basic("open", "begin");
    for round in 0..5 {
        let requests: Vec<_> = phones
            .iter_mut()
            .enumerate()
            .map(|(at, phone)| {
                let document = pidf("bob", "t1", "open", &format!("round {round} writer {at}"));
                let mut request = phone.publish_request(Some(&document), Some(&tag), 600);
                phone.authorize(&mut request, "Authorization");
                request
            })
            .collect();
        phones.iter_mut().zip(&requests).for_each(|(phone, request)| phone.send(request));
        let responses: Vec<_> =
            phones.iter_mut().zip(&requests).map(|(phone, request)| phone.expect_final(request)).collect();
        let won: Vec<usize> = (0..4).filter(|at| responses[*at].status() == Some(200)).collect();
        assert_eq!(won.len(), 1, "{responses:?}");
        assert!(responses.iter().all(|r| matches!(r.status(), Some(200 | 412))), "{responses:?}");
        let next = responses[won[0]].need("SIP-ETag").to_string();
        assert_ne!(next, tag);
        tag = next;
        let winner = format!("round {round} writer {}", won[0]);
        watcher.expect_notify_until(&watching.call_id, &winner, |m| m.body_text().contains(&winner));
    }
}

fn a_storm_is_slowed_and_nobody_else_is_rfc3903_9(database: Database) {
    let server = Server::with(database, |config| {
        config.set("publication.burst", 10);
        config.set("publication.per_second", 5);
    });
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let mut carol = Phone::new(&server, "carol", Transport::Udp);
    let mut tag = bob.publish_basic("open", "storm 0");
    let mut refused = None;
    for number in 1..200 {
        let document = pidf("bob", "t1", "open", &format!("storm {number}"));
        let request = bob.publish_request(Some(&document), Some(&tag), 600);
        let response = bob.ask(request);
        match response.status() {
            Some(200) => tag = response.need("SIP-ETag").to_string(),
            _ => {
                refused = Some(response);
                break;
            }
        }
    }
    let refused = refused.expect("200 at once are too many");
    assert_eq!(refused.status(), Some(503), "{refused}");
    assert!(matches!(refused.need("Retry-After").parse::<u32>(), Ok(1..=10)), "{refused}");
    carol.publish_basic("open", "calm");
    // What is refused changes nothing: the tag is still good as soon as there is room again.
    let deadline = std::time::Instant::now() + crate::harness::DEADLINE;
    loop {
        let request = bob.publish_request(None, Some(&tag), 600);
        let response = bob.ask(request);
        if response.status() == Some(200) {
            break;
        }
        assert_eq!(response.status(), Some(503), "{response}");
        assert!(std::time::Instant::now() < deadline, "slowed for ever");
    }
}

fn a_phone_that_starts_twice_is_one_publication(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", via);
    let watching = bob.subscribe("bob");
    // As baresip does: two initial PUBLISHes, a Call-ID each, the same ids.
    let forgotten = bob.publish(&pidf("bob", "t4109", "closed", "first"));
    let kept = bob.publish(&pidf("bob", "t4109", "open", "second"));
    let seen = bob.expect_notify_until(&watching.call_id, "second", |m| m.body_text().contains("second"));
    assert!(!seen.body_text().contains("first"), "{seen}");
    assert_eq!(basics(&seen.body_text()), ["open"], "{seen}");
    let request = bob.publish_request(None, Some(&forgotten), 600);
    assert_eq!(bob.ask(request).status(), Some(412));
    bob.publish_as(None, Some(&kept), 0);
    let last = bob.expect_notify_until(&watching.call_id, "gone", |m| !m.body_text().contains("second"));
    assert_eq!(basics(&last.body_text()), ["closed"], "nothing is left behind: {last}");
}

fn two_phones_of_one_model_lose_nothing_rfc3903_10(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut desk = Phone::new(&server, "bob", via);
    let mut hall = Phone::new(&server, "bob", via);
    for (phone, instance) in [(&mut desk, 1), (&mut hall, 2)] {
        let contact = format!(
            "{};+sip.instance=\"<urn:uuid:00000000-0000-0000-0000-00000000000{instance}>\"",
            phone.contact()
        );
        phone.register_contact(&contact, Some(600));
    }
    let watching = desk.subscribe("bob");
    let tag = desk.publish(&pidf("bob", "t4109", "open", "desk"));
    hall.publish(&pidf("bob", "t4109", "open", "hall"));
    let both = |m: &crate::harness::Message| m.body_text().contains("desk") && m.body_text().contains("hall");
    let two = desk.expect_notify_until(&watching.call_id, "both", both).body_text();
    let of_the_hall = tuple_ids(&two).into_iter().find(|id| *id != "t4109").expect("another id");
    desk.publish_as(None, Some(&tag), 0);
    let left = |m: &crate::harness::Message| !m.body_text().contains("desk");
    let one = desk.expect_notify_until(&watching.call_id, "the hall alone", left).body_text();
    assert!(tuple_ids(&one).contains(&of_the_hall) && !tuple_ids(&one).contains(&"t4109"), "{two}\n{one}");
}

fn tuple_ids(document: &str) -> Vec<&str> {
    document.split("<tuple id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

fn a_device_that_comes_back_anew_replaces_what_it_left_behind(database: Database) {
    let server = Server::start(database);
    let mut desk = Phone::new(&server, "bob", Transport::Udp);
    let watching = desk.subscribe("bob");
    let instance = "+sip.instance=\"<urn:uuid:00000000-0000-0000-0000-000000000007>\"";
    // As linphone does when its connection breaks: another connection, Call-ID and tuple id, the same instance.
    for (tuple, note) in [("kqdnj6", "before"), ("x3cvbn", "after")] {
        let mut mobile = Phone::new(&server, "bob", Transport::Tcp);
        let contact = format!("{};{instance}", mobile.contact());
        mobile.register_contact(&contact, Some(600));
        mobile.publish(&pidf("bob", tuple, "open", note));
        let seen = desk.expect_notify_until(&watching.call_id, note, |m| m.body_text().contains(note));
        assert_eq!(basics(&seen.body_text()).len(), 1, "{seen}");
    }
}

fn a_removal_needs_neither_body_nor_length_rfc3903_6_5(database: Database) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let tag = bob.publish_basic("open", "a");
    let request = bob.publish_request(None, Some(&tag), 0).without_length();
    let response = bob.ask(request);
    assert_eq!(response.status(), Some(200), "{response}");
    assert_eq!(response.need("Expires"), "0");
}

fn every_name_of_ours_is_the_domain_in_a_document_too_rfc3903_10_1(database: Database) {
    let server = Server::with(database, |config| config.set("aliases", vec!["old.example"]));
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let watching = bob.subscribe("bob");
    let address = format!("sip:bob@{}", server.address(Transport::Udp));
    for (entity, status) in [
        ("sip:bob@old.example", 200),
        ("pres:bob@OLD.example", 200),
        (address.as_str(), 200),
        ("sip:carol@old.example", 403),
        ("sip:bob@new.example", 403),
        ("sip:bob@127.0.0.1:9", 403),
    ] {
        let document = pidf("bob", "t1", "open", "named").replace(&aor("bob"), entity);
        let request = bob.publish_request(Some(&document), None, 600);
        let response = bob.ask(request);
        assert_eq!(response.status(), Some(status), "{entity}:\n{response}");
    }
    let seen = bob.expect_notify_until(&watching.call_id, "named", |m| m.body_text().contains("named"));
    assert!(seen.body_text().contains(&format!("entity=\"{}\"", aor("bob"))), "{seen}");
}

fn strange_tags_are_412_and_never_500_rfc3903_6_3(database: Database) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    let tag = bob.publish_basic("open", "a");
    let (long, upper) = ("f".repeat(4_000), tag.to_uppercase());
    for strange in [
        "0",
        "*",
        "\"quoted\"",
        "-1",
        "%00",
        "\u{fc}",
        "0x1234",
        long.as_str(),
        upper.as_str(),
        &tag[1..],
        "a b",
        "'; DROP TABLE publication; --",
    ] {
        let request = bob.publish_request(None, Some(strange), 600);
        let response = bob.ask(request);
        let same = strange == tag;
        assert!(same || matches!(response.status(), Some(400 | 412)), "{strange}:\n{response}");
    }
    bob.publish_as(None, Some(&tag), 600);
}

fn full_state_of_the_partial_type_is_taken_and_changes_are_415_rfc5264_4_3(database: Database) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let watching = bob.subscribe("bob");
    let document = |root: &str, note: &str| {
        format!(
            "<?xml version=\"1.0\"?><p:{root} xmlns=\"urn:ietf:params:xml:ns:pidf\" xmlns:p=\"urn:ietf:params:xml:ns:pidf-diff\" \
             entity=\"{}\" version=\"1\"><tuple id=\"t\"><status><basic>open</basic></status><note>{note}</note></tuple></p:{root}>",
            aor("bob")
        )
    };
    let mut tag = None;
    for note in ["initial", "modified"] {
        let request = bob
            .publish_request(None, tag.as_deref(), 600)
            .body("application/pidf-diff+xml", document("pidf-full", note).as_bytes());
        let response = bob.ask(request);
        assert_eq!(response.status(), Some(200), "{response}");
        tag = Some(response.need("SIP-ETag").to_string());
        let seen = bob.expect_notify_until(&watching.call_id, note, |m| m.body_text().contains(note));
        assert_eq!(seen.need("Content-Type"), "application/pidf+xml");
        assert!(!seen.body_text().contains("pidf-full"), "{seen}");
    }
    let request = bob
        .publish_request(None, tag.as_deref(), 600)
        .body("application/pidf-diff+xml", document("pidf-diff", "x").as_bytes());
    let response = bob.ask(request);
    assert_eq!(response.status(), Some(415), "{response}");
    assert_eq!(response.list("Accept"), ["application/pidf+xml"]);
    bob.publish_as(None, tag.as_deref(), 600);
}

over_each_transport!(
    of_writers_with_one_tag_exactly_one_wins_rfc3903_6_6,
    a_phone_that_starts_twice_is_one_publication,
    two_phones_of_one_model_lose_nothing_rfc3903_10,
    a_publication_lives_changes_and_goes_rfc3903_6,
    an_unknown_or_used_tag_is_412_rfc3903_6_3,
    an_unknown_event_is_489_rfc3903_6_2,
    only_the_owner_publishes_rfc3903_14_1,
);
on_each_database!(
    a_storm_is_slowed_and_nobody_else_is_rfc3903_9,
    a_device_that_comes_back_anew_replaces_what_it_left_behind,
    a_removal_needs_neither_body_nor_length_rfc3903_6_5,
    strange_tags_are_412_and_never_500_rfc3903_6_3,
    every_name_of_ours_is_the_domain_in_a_document_too_rfc3903_10_1,
    full_state_of_the_partial_type_is_taken_and_changes_are_415_rfc5264_4_3,
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

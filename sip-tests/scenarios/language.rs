//! What is said the same way however it is spelled: addresses, headers, numbers (RFC 3261 sections 7, 8, 10 and 19).

use crate::harness::documents::{basics, pidf};
use crate::harness::message::uri_of;
use crate::harness::phone::aor;
use crate::harness::presence::{befriend, expires_of};
use crate::harness::{DEADLINE, DOMAIN, Database, Phone, Server, Transport};

fn pair(server: &Server, via: Transport) -> (Phone, Phone) {
    let mut alice = Phone::new(server, "alice", via);
    let mut bob = Phone::new(server, "bob", via);
    alice.register();
    bob.register();
    (alice, bob)
}

// Addresses

fn equal_contacts_are_one_binding_rfc3261_19_1_4(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    for contact in [
        "<sip:alice@Phone.Example.com;transport=tcp;x=1>",
        "<sip:%61lice@phone.example.com;Transport=TCP;X=1>",
        "\"My desk\" <SIP:alice@PHONE.example.COM;x=1;transport=%74cp>;q=0.5",
        "<sip:alice@phone.example.com;transport=tcp>",
    ] {
        let response = alice.register_contact(contact, Some(600));
        assert_eq!(response.list("Contact").len(), 1, "{contact}:\n{response}");
    }
    let twice = "<sip:alice@other.example.com>, <sip:%61lice@OTHER.example.com>;q=0.2";
    let response = alice.register_contact(twice, Some(600));
    assert_eq!(response.list("Contact").len(), 2, "two spellings in one request are one:\n{response}");
    for (number, contact) in [
        "<sip:alice@phone.example.com:5060;transport=tcp>",
        "<sip:alice@phone.example.com>",
        "<sip:Alice@phone.example.com;transport=tcp>",
        "<sip:alice@phone.example.com;transport=tcp;user=phone>",
        "<sip:alice@phone.example.com;transport=tcp?subject=x>",
    ]
    .into_iter()
    .enumerate()
    {
        let response = alice.register_contact(contact, Some(600));
        assert_eq!(response.list("Contact").len(), number + 3, "{contact}:\n{response}");
    }
}

fn every_spelling_of_a_user_reaches_the_user_rfc3261_10_3_5(database: Database, via: Transport) {
    let server = Server::with(database, |config| config.set("aliases", vec!["b\u{fc}cher.example"]));
    let (mut alice, mut bob) = pair(&server, via);
    let shouted = DOMAIN.to_ascii_uppercase();
    for uri in [
        format!("sip:%62%6Fb@{shouted}"),
        format!("sip:bob@{DOMAIN}."),
        format!("sip:bob@{}", server.address(via)),
        format!("sip:bob@{DOMAIN};user=phone"),
        // An internationalized name travels as its A-label.
        "sip:bob@xn--bcher-kva.example".to_string(),
        "sip:bob@XN--BCHER-KVA.example.".to_string(),
        // RFC 3860: the messages of the same user.
        format!("im:bob@{DOMAIN}"),
        format!("IM:%62ob@{shouted}"),
        format!("pres:bob@{DOMAIN}"),
    ] {
        let request = alice.message_request("bob", "hello").aimed_at(&uri).set("To", &format!("<{uri}>"));
        let request = alice.start(request);
        let arrived = bob.expect("MESSAGE", |m| m.is_request("MESSAGE"));
        assert_eq!(arrived.uri(), bob.contact_uri(), "{uri}");
        assert_eq!(arrived.need("To"), format!("<{uri}>"), "To is not ours to change");
        bob.answer(&arrived, 200, "OK");
        alice.expect_status(&request, 200);
        alice.challenges.clear();
    }
    for (uri, status) in [
        (format!("sip:Bob@{DOMAIN}"), 404),
        (format!("im:nobody@{DOMAIN}"), 404),
        ("tel:+12015550199".to_string(), 404),
        ("tel:5550123;phone-context=example.com".to_string(), 416),
        ("isbn:2983792873".to_string(), 416),
    ] {
        let request = alice.message_request("bob", "hello").aimed_at(&uri).set("To", &format!("<{uri}>"));
        alice.challenges.clear();
        assert_eq!(alice.ask(request).status(), Some(status), "{uri}");
    }
    bob.expect_nothing_more();
}

fn a_presentity_is_watched_by_its_pres_uri_rfc3859(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    befriend(&mut alice, &mut bob);
    // Its own publication, too, and a document that calls it so.
    let pres = format!("pres:bob@{DOMAIN}");
    let document = pidf("bob", "t1", "open", "here");
    let document = document.replace(&format!("entity=\"{}\"", aor("bob")), &format!("entity=\"{pres}\""));
    let request =
        bob.publish_request(Some(&document), None, 600).aimed_at(&pres).set("To", &format!("<{pres}>"));
    assert_eq!(bob.ask(request).status(), Some(200));
    let mut watcher = Phone::new(&server, "alice", via);
    let request = watcher.subscribe_request("bob", "presence", 600);
    let request = request.aimed_at(&pres).set("To", &format!("<{pres}>"));
    let watching = watcher.subscribe_with(request);
    assert_eq!(uri_of(watching.notify.need("From")), pres, "{}", watching.notify);
    assert!(basics(&watching.notify.body_text()).contains(&"open".to_string()), "{}", watching.notify);
    let refresh = watcher.resubscribe_request(&watching, 600);
    assert_eq!(watcher.ask(refresh).status(), Some(200));
    watcher.expect_notify(&watching.call_id);
    for (uri, status) in [(format!("pres:zoe@{DOMAIN}"), 404), ("tel:+12015550199".into(), 404)] {
        let request = watcher.subscribe_request("bob", "presence", 600);
        watcher.challenges.clear();
        let response = watcher.ask(request.aimed_at(&uri).set("To", &format!("<{uri}>")));
        assert_eq!(response.status(), Some(status), "{uri}:\n{response}");
    }
}

fn a_number_is_one_user_however_it_is_written_rfc3966_5(database: Database, via: Transport) {
    let server = Server::start(database);
    server.add_user("+12015550123");
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "+12015550123", via);
    bob.register();
    for uri in [
        "tel:+12015550123".to_string(),
        "tel:+1-(201)-555-0123".to_string(),
        format!("sip:+12015550123@{DOMAIN};user=phone"),
    ] {
        let request = alice.message_request("bob", "hello").aimed_at(&uri).set("To", &format!("<{uri}>"));
        alice.challenges.clear();
        let request = alice.start(request);
        let arrived = bob.expect_request("MESSAGE");
        assert_eq!(arrived.uri(), bob.contact_uri(), "{uri}");
        bob.answer(&arrived, 200, "OK");
        alice.expect_status(&request, 200);
    }
}

fn an_address_of_record_is_a_sip_uri_rfc3261_10_2(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    for to in [format!("<pres:alice@{DOMAIN}>"), "<tel:+12015550123>".into(), "isbn:2983792873".into()] {
        let request = alice.register_request().set("To", &to);
        assert_eq!(alice.ask(request).status(), Some(400), "{to}");
    }
    assert!(alice.fetch_contacts().is_empty());
}

fn what_needs_brackets_has_them_rfc8217_4(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    for (number, uri) in [
        "sip:a,b@192.0.2.1",
        "sip:a;b@192.0.2.1",
        "sip:a?b@192.0.2.1",
        "sip:alice@192.0.2.1;transport=tcp",
        "sip:alice@192.0.2.1?Subject=x",
    ]
    .into_iter()
    .enumerate()
    {
        let response = alice.register_contact(&format!("<{uri}>"), Some(600));
        assert_eq!(response.list("Contact").len(), number + 1, "{response}");
        let shown = format!("<{uri}>;");
        assert!(
            response.list("Contact").iter().any(|contact| contact.starts_with(&shown)),
            "{uri}:\n{response}"
        );
    }
    // What this server writes of its own: Record-Route, and the Contact of a subscription.
    let mut bob = Phone::new(&server, "bob", via);
    bob.register();
    let invite = alice.invite("bob");
    let arrived = bob.expect_request("INVITE");
    for route in arrived.list("Record-Route") {
        assert!(route.starts_with('<') && route.contains(";lr") && route.ends_with('>'), "{route}");
    }
    bob.answer(&arrived, 486, "Busy Here");
    alice.expect_status(&invite, 486);
    let watching = alice.subscribe("bob");
    for contact in [watching.response.list("Contact"), watching.notify.list("Contact")] {
        assert_eq!(contact.len(), 1, "{contact:?}");
        assert!(contact[0].starts_with('<') && contact[0].contains(";gr=") && contact[0].ends_with('>'));
    }
}

// Headers

fn what_proxies_act_on_comes_first_rfc3261_7_3_1(database: Database, via: Transport) {
    let server = Server::start(database);
    let (mut alice, mut bob) = pair(&server, via);
    let foreign = "Digest username=\"a\", realm=\"elsewhere\", nonce=\"n\", uri=\"sip:x\", response=\"0\"";
    let mut request = alice.invite_request("bob");
    // Everything a proxy needs stands at the end.
    for name in ["Via", "Max-Forwards"] {
        let value = request.get(name).to_string();
        request = request.without(name).header(name, &value);
    }
    let request = request
        .header("Route", &format!("<sip:{};lr>", server.address(via)))
        .header("Record-Route", "<sip:edge.example.com;lr>")
        .header("Proxy-Authorization", foreign);
    alice.send(&request);
    let challenge = alice.expect_final(&request);
    alice.learn(&challenge);
    let request = alice.again(&request);
    let ours = {
        let mut copy = request.clone().without("Proxy-Authorization");
        alice.authorize(&mut copy, "Proxy-Authorization");
        copy.get("Proxy-Authorization").to_string()
    };
    let request = request.header("Proxy-Authorization", &ours);
    alice.send(&request);
    let arrived = bob.expect_request("INVITE");
    let names: Vec<_> = arrived.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    let needed = ["via", "route", "record-route", "proxy-require", "max-forwards", "proxy-authorization"];
    let last = names.iter().rposition(|name| needed.contains(&name.as_str())).expect("a Via");
    assert!(names[..last].iter().all(|name| needed.contains(&name.as_str())), "{arrived}");
    assert_eq!(arrived.rows("Proxy-Authorization"), [foreign], "{arrived}");
    bob.answer(&arrived, 486, "Busy Here");
    alice.expect_status(&request, 486);
}

fn a_header_of_the_other_kind_is_ignored_rfc3261_7_3_2(database: Database, via: Transport) {
    let server = Server::start(database);
    let (mut alice, mut bob) = pair(&server, via);
    // The second parser is stricter than it must be.
    (alice.second_opinion, bob.second_opinion) = (false, false);
    let request = alice
        .message_request("bob", "hello")
        .header("Min-Expires", "x")
        .header("Min-Expires", "1")
        .header("SIP-ETag", "a")
        .header("SIP-ETag", "b")
        .header("WWW-Authenticate", "Digest realm=\"elsewhere\"")
        .header("Unsupported", "everything")
        .header("Server", "(");
    let request = alice.start(request);
    let arrived = bob.expect_request("MESSAGE");
    let reply = arrived
        .reply(200, "OK")
        .header("Max-Forwards", "0")
        .header("Max-Forwards", "x")
        .header("Route", "<sip:192.0.2.1;lr>")
        .header("Proxy-Require", "everything")
        .header("Authorization", "Digest (");
    bob.answer_with(&arrived, reply);
    alice.expect_status(&request, 200);
    let ok =
        alice.register_request().header("Unsupported", "x").header("Warning", "1").header("SIP-ETag", "x");
    assert_eq!(alice.ask(ok).status(), Some(200));
}

fn an_extension_is_used_with_who_supports_it_rfc3261_8_2_4(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let (contact, path) = (alice.contact(), format!("<sip:edge@{};lr>", alice.local));
    let register = |alice: &mut Phone, supported: &str| {
        let request = alice
            .register_request()
            .set("Supported", supported)
            .header("Contact", &contact)
            .header("Path", &path)
            .header("Expires", "600");
        let response = alice.ask(request);
        assert_eq!(response.status(), Some(200), "{response}");
        response
    };
    assert_eq!(register(&mut alice, "timer, path").rows("Path"), [path.as_str()]);
    let response = register(&mut alice, "timer");
    assert!(response.header("Path").is_none(), "{response}");
    assert!(response.header("Require").is_none(), "no other is applied:\n{response}");
}

fn a_421_names_what_it_needs_rfc3261_21_4_21(database: Database, via: Transport) {
    let server = Server::start(database);
    let (mut alice, mut bob) = pair(&server, via);
    // This server needs no extension of anybody; what a callee needs goes back to the caller.
    let invite = alice.invite("bob");
    let arrived = bob.expect_request("INVITE");
    bob.answer_with(&arrived, arrived.reply(421, "Extension Required").header("Require", "100rel"));
    let refused = alice.expect_status(&invite, 421);
    assert_eq!(refused.list("Require"), ["100rel"], "{refused}");
    for method in ["OPTIONS", "MESSAGE", "SUBSCRIBE", "PUBLISH", "REGISTER"] {
        let bare = match method {
            "OPTIONS" => alice.request("OPTIONS", &format!("sip:{DOMAIN}")),
            "MESSAGE" => alice.message_request("carol", "x"),
            "SUBSCRIBE" => alice.subscribe_request("bob", "presence", 600),
            "PUBLISH" => alice.publish_request(Some(&pidf("alice", "t", "open", "")), None, 600),
            _ => alice.register_request(),
        };
        let response = alice.ask(bare.without("Supported"));
        assert!(matches!(response.status(), Some(200 | 202)), "{method} without Supported:\n{response}");
    }
}

fn the_server_header_is_the_operators_rfc3261_20_35(database: Database) {
    for (value, shown) in [(None, Some("hither")), (Some("gateway 7"), Some("gateway 7")), (Some(""), None)] {
        let server = Server::with(database, |config| {
            if let Some(value) = value {
                config.set("server_header", value);
            }
        });
        let mut alice = Phone::new(&server, "alice", Transport::Udp);
        let response = alice.register();
        assert_eq!(response.header("Server"), shown, "{response}");
        let refused = alice.request("OPTIONS", "isbn:1");
        let refused = alice.transact(&refused);
        assert_eq!((refused.status(), refused.header("Server")), (Some(416), shown), "{refused}");
    }
}

fn trying_tells_how_long_it_took_rfc3261_8_2_6_1(database: Database) {
    let server = Server::start(database);
    let (mut alice, mut bob) = pair(&server, Transport::Udp);
    let invite = alice.invite_request("bob").header("Timestamp", "54.5");
    let invite = alice.start(invite);
    let arrived = bob.expect_request("INVITE");
    let trying = alice.expect_status(&invite, 100);
    let stamp = trying.need("Timestamp");
    let delay: f64 = stamp.strip_prefix("54.5 ").and_then(|delay| delay.parse().ok()).expect(stamp);
    assert!((0.2..5.0).contains(&delay), "{trying}");
    bob.answer(&arrived, 486, "Busy Here");
    alice.expect_status(&invite, 486);
}

fn tags_are_long_and_never_the_same_rfc3261_19_3(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut tags = std::collections::HashSet::new();
    for _ in 0..50 {
        let options = alice.options().to_tag().expect("a tag");
        let fetched = alice.register_request();
        let fetched = alice.ask(fetched).to_tag().expect("a tag");
        for (tag, digits) in [(options, 8), (fetched, 32)] {
            assert!(tag.len() >= digits && tag.bytes().all(|b| b.is_ascii_hexdigit()), "{tag}");
            assert!(tags.insert(tag), "a tag came twice");
        }
    }
}

fn a_cancel_has_the_tag_of_its_request_and_undoes_nothing_rfc3261_9_2(database: Database) {
    let server = Server::start(database);
    let (mut alice, mut bob) = pair(&server, Transport::Udp);
    // What has been answered stays as it is.
    let request = alice.subscribe_request("alice", "presence", 600);
    let (request, response) = alice.ask_and_tell(request);
    assert_eq!(response.status(), Some(200), "{response}");
    alice.expect_notify(request.call_id());
    let cancel = alice.cancel(&request);
    let cancelled = alice.expect_status(&cancel, 200);
    assert_eq!(cancelled.to_tag(), response.to_tag(), "{cancelled}");
    let dialog = crate::harness::Dialog::of_caller(&request, &response);
    let refresh = alice.in_dialog(&dialog, "SUBSCRIBE").header("Event", "presence").header("Expires", "600");
    assert_eq!(alice.ask(refresh).status(), Some(200), "the subscription is there");
    alice.expect_notify(request.call_id());
    // What has not, and is no INVITE, goes on.
    let message = alice.message("bob", "on its way");
    let arrived = bob.expect_request("MESSAGE");
    let cancel = alice.cancel(&message);
    assert!(alice.expect_status(&cancel, 200).to_tag().is_some());
    bob.expect_nothing_more();
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&message, 200);
}

// Responses to what this server asks

fn codes_nobody_knows_count_as_their_class_rfc3261_8_1_3_2(database: Database, via: Transport) {
    let server = Server::start(database);
    let (mut alice, mut bob) = pair(&server, via);
    for (status, reason) in
        [(299, "Fine"), (399, "Look around"), (499, "Not like that"), (599, "Broken"), (699, "Never")]
    {
        let invite = alice.invite("bob");
        let arrived = bob.expect_request("INVITE");
        bob.send_raw(&arrived.reply(197, "Halfway").bytes());
        alice.expect_status(&invite, 197);
        let contact = bob.contact();
        bob.answer_with(&arrived, arrived.reply(status, reason).header("Contact", &contact));
        let answer = alice.expect_status(&invite, status);
        assert!(answer.start.ends_with(reason), "{answer}");
        if status >= 300 {
            bob.expect("the ACK of this hop", |m| m.is_request("ACK") && m.call_id() == invite.call_id());
        }
    }
    // NOTIFY: 299 is a success, 499 a failure of this one NOTIFY; the subscription lives on.
    for status in [299, 499] {
        let request = alice.subscribe_request("alice", "presence", 600);
        let (request, response) = alice.ask_and_tell(request);
        assert_eq!(response.status(), Some(200), "{response}");
        let notify = alice.take_notify(request.call_id());
        alice.answer(&notify, status, "Whatever");
        let dialog = crate::harness::Dialog::of_caller(&request, &response);
        let refresh =
            alice.in_dialog(&dialog, "SUBSCRIBE").header("Event", "presence").header("Expires", "600");
        let response = alice.ask(refresh);
        assert_eq!(response.status(), Some(200), "after {status}:\n{response}");
        alice.expect_notify(request.call_id());
    }
}

fn a_response_with_two_vias_is_not_ours_rfc3261_8_1_3_3(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let request = alice.subscribe_request("alice", "presence", 600);
    let (request, response) = alice.ask_and_tell(request);
    assert_eq!(response.status(), Some(200), "{response}");
    let notify = alice.take_notify(request.call_id());
    // The end of the subscription, if anybody believed it.
    let astray = notify.reply(481, "Gone").header("Via", "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx");
    alice.send_raw(&astray.bytes());
    alice.show_retransmissions = true;
    let again = alice.await_within(DEADLINE, |m| m.is_request("NOTIFY")).expect("the NOTIFY comes again");
    assert_eq!(again.branch(), notify.branch());
    alice.answer(&again, 200, "OK");
    let dialog = crate::harness::Dialog::of_caller(&request, &response);
    let refresh = alice.in_dialog(&dialog, "SUBSCRIBE").header("Event", "presence").header("Expires", "600");
    assert_eq!(alice.ask(refresh).status(), Some(200), "the subscription is there");
}

// Numbers

fn expires_at_every_edge_a36(database: Database) {
    let server = Server::with(database, |config| {
        for section in ["registration", "subscription", "publication"] {
            config.set(&format!("{section}.min_interval_s"), 60);
            config.set(&format!("{section}.default_interval_s"), 600);
            config.set(&format!("{section}.max_interval_s"), 3600);
        }
    });
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let ten_to_30 = format!("1{}", "0".repeat(30));
    for (expires, register, event) in [
        ("0", Ok(0), Ok(0)),
        ("1", Err(423), Err(423)),
        ("2147483648", Ok(3600), Ok(3600)),
        ("4294967296", Ok(3600), Ok(3600)),
        (ten_to_30.as_str(), Ok(3600), Ok(3600)),
        // 20.19: malformed is the default for a REGISTER; for others it is malformed.
        ("-1", Ok(600), Err(400)),
        ("x", Ok(600), Err(400)),
    ] {
        let contact = alice.contact();
        let request = alice.register_request().header("Contact", &contact).header("Expires", expires);
        let response = alice.ask(request);
        match register {
            Ok(0) => {
                assert!(response.status() == Some(200) && response.list("Contact").is_empty(), "{response}")
            }
            Ok(granted) => {
                assert_eq!(response.status(), Some(200), "REGISTER {expires}:\n{response}");
                assert_eq!(expires_of(&response.list("Contact")[0]), Some(granted), "REGISTER {expires}");
            }
            Err(status) => assert_eq!(response.status(), Some(status), "REGISTER {expires}:\n{response}"),
        }
        let subscribe = alice.subscribe_request("bob", "presence", 0).set("Expires", expires);
        let publish =
            alice.publish_request(Some(&pidf("alice", "t", "open", "")), None, 0).set("Expires", expires);
        for request in [subscribe, publish] {
            let method = request.method.clone();
            let response = alice.ask(request);
            match event {
                Ok(granted) => {
                    assert_eq!(response.status(), Some(200), "{method} {expires}:\n{response}");
                    assert_eq!(response.need("Expires"), granted.to_string(), "{method} {expires}");
                }
                Err(status) => assert_eq!(response.status(), Some(status), "{method} {expires}:\n{response}"),
            }
            if response.status() == Some(423) {
                assert_eq!(response.need("Min-Expires"), "60");
            }
        }
        while let Some(notify) = alice.await_within(std::time::Duration::ZERO, |m| m.is_request("NOTIFY")) {
            alice.answer(&notify, 200, "OK");
        }
    }
}

over_each_transport!(
    equal_contacts_are_one_binding_rfc3261_19_1_4,
    every_spelling_of_a_user_reaches_the_user_rfc3261_10_3_5,
    a_presentity_is_watched_by_its_pres_uri_rfc3859,
    a_number_is_one_user_however_it_is_written_rfc3966_5,
    what_needs_brackets_has_them_rfc8217_4,
    what_proxies_act_on_comes_first_rfc3261_7_3_1,
    a_header_of_the_other_kind_is_ignored_rfc3261_7_3_2,
    a_421_names_what_it_needs_rfc3261_21_4_21,
    codes_nobody_knows_count_as_their_class_rfc3261_8_1_3_2,
);
on_each_database!(
    an_address_of_record_is_a_sip_uri_rfc3261_10_2,
    an_extension_is_used_with_who_supports_it_rfc3261_8_2_4,
    the_server_header_is_the_operators_rfc3261_20_35,
    trying_tells_how_long_it_took_rfc3261_8_2_6_1,
    tags_are_long_and_never_the_same_rfc3261_19_3,
    a_response_with_two_vias_is_not_ours_rfc3261_8_1_3_3,
    a_cancel_has_the_tag_of_its_request_and_undoes_nothing_rfc3261_9_2,
    expires_at_every_edge_a36,
);

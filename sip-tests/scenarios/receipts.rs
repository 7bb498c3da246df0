//! What senders are told of their messages (RFC 5438), and CPIM on its way (RFC 3862).

use std::time::{Duration, Instant};

use crate::harness::phone::{aor, user_of};
use crate::harness::{DOMAIN, Database, Message, Phone, Request, Server, Transport};
use crate::scenarios::messaging_store::{stored, wait_until_stored};

const ALL: &str = "positive-delivery, negative-delivery, processing, display";

/// A CPIM message whose sender asks for notifications; `more`: further rows.
fn asking(from: &str, to: &str, id: &str, wishes: &str, more: &str) -> String {
    format!(
        "From: <{}>\r\nTo: <{}>\r\nDateTime: 2026-01-01T12:00:00+01:00\r\nNS: imdn <urn:ietf:params:imdn>\r\n\
         imdn.Message-ID: {id}\r\nimdn.Disposition-Notification: {wishes}\r\n{more}\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\r\nGr\u{fc}\u{df}e",
        aor(from),
        aor(to)
    )
}

/// A notification as a device writes it (7.2.1.2).
fn displayed(from: &str, to: &str, about: &str) -> String {
    format!(
        "From: <{}>\r\nTo: <{}>\r\nNS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: {about}d\r\n\r\n\
         Content-Type: message/imdn+xml\r\nContent-Disposition: notification\r\n\r\n\
         <?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<imdn xmlns=\"urn:ietf:params:xml:ns:imdn\">\r\n<message-id>{about}</message-id>\
         <datetime>2026-01-01T12:00:00+01:00</datetime><display-notification><status><displayed/></status></display-notification></imdn>\r\n",
        aor(from),
        aor(to)
    )
}

fn cpim(phone: &mut Phone, to: &str, body: &str) -> Request {
    phone.request("MESSAGE", &aor(to)).body("message/cpim", body.as_bytes())
}

/// Sends it and gives the status.
fn send(phone: &mut Phone, to: &str, body: &str) -> Option<u16> {
    let request = cpim(phone, to, body);
    phone.ask(request).status()
}

/// The next MESSAGE, answered 200.
fn take(phone: &mut Phone) -> Message {
    let arrived = phone.expect_request("MESSAGE");
    phone.answer(&arrived, 200, "OK");
    arrived
}

/// The text between two others.
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no {before} in\n{text}"));
    rest.split_once(after).unwrap_or_else(|| panic!("no {after} in\n{text}")).0
}

/// The next MESSAGE is the server's notification that `status` became of a message of `phone` to `other`. Gives its own Message-ID.
fn expect_told(phone: &mut Phone, other: &str, about: &str, status: &str) -> String {
    let told = take(phone);
    let text = told.body_text();
    assert_eq!(told.need("Content-Type"), "message/cpim", "{told}");
    assert_eq!(user_of(told.need("From")), other, "{told}");
    assert_eq!(told.uri(), phone.contact_uri(), "{told}");
    let (head, document) = text.split_once("<?xml").expect("a document");
    assert!(head.starts_with(&format!("From: <{}>\r\n", aor(other))), "{told}");
    assert!(
        head.contains("\r\nContent-Type: message/imdn+xml\r\nContent-Disposition: notification\r\n"),
        "{told}"
    );
    assert!(!head.contains("Disposition-Notification") && !head.contains("Record-Route"), "{told}");
    assert_eq!(between(document, "<message-id>", "</message-id>"), about, "{told}");
    assert_eq!(between(document, "<datetime>", "</datetime>"), "2026-01-01T12:00:00+01:00", "{told}");
    assert_eq!(between(document, "<recipient-uri>", "</recipient-uri>"), aor(other), "{told}");
    assert_eq!(between(document, "<status><", "/>"), status, "{told}");
    let id = between(head, "imdn.Message-ID: ", "\r\n").to_owned();
    assert!(id.len() == 32 && id != about, "128 bits of its own: {told}");
    id
}

fn a_stored_message_is_reported_once_to_who_asks_rfc5438_8_1(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    alice.register();
    let body = asking("alice", "bob", "34jk324j", ALL, "");
    assert_eq!(send(&mut alice, "bob", &body), Some(202));
    expect_told(&mut alice, "bob", "34jk324j", "stored");
    // Who did not ask for that is told nothing.
    let other = asking("alice", "bob", "34jk324k", "positive-delivery, negative-delivery, display", "");
    assert_eq!(send(&mut alice, "bob", &other), Some(202));
    assert_eq!(alice.ask_message("bob", "plain").status(), Some(202));
    bob.register();
    assert_eq!(take(&mut bob).body_text(), body, "byte for byte");
    assert_eq!(take(&mut bob).body_text(), other, "byte for byte");
    take(&mut bob);
    wait_until_stored(&server, 0);
    // It never becomes "processed", and that it was delivered is the device's to say.
    alice.expect_nothing_more();
    bob.expect_nothing_more();
}

fn every_stored_copy_of_a_list_is_reported_to_who_asks_rfc5438_8_1(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    alice.register();
    let output = server.cli(&["rules", "carol", "polite-block", "alice"], "");
    assert!(output.status.success(), "{output:?}");
    let entry = |user| format!("<entry uri=\"{}\" cp:copyControl=\"bcc\"/>", aor(user));
    // Nobody is named in a copy, so that the CPIM message stands alone in it (RFC 5365 7.3).
    let entries: String = ["bob", "carol"].map(entry).concat();
    let text = asking("alice", "bob", "34jk324j", ALL, "");
    let body = format!(
        "--b\r\nContent-Type: message/cpim\r\n\r\n{text}\r\n--b\r\nContent-Type: application/resource-lists+xml\r\n\
         Content-Disposition: recipient-list\r\n\r\n<resource-lists xmlns=\"urn:ietf:params:xml:ns:resource-lists\" \
         xmlns:cp=\"urn:ietf:params:xml:ns:copycontrol\"><list>{entries}</list></resource-lists>\r\n--b--\r\n"
    );
    let request = alice
        .request("MESSAGE", &format!("sip:{DOMAIN}"))
        .header("Require", "recipient-list-message")
        .body("multipart/mixed;boundary=b", body.as_bytes());
    assert_eq!(alice.ask(request).status(), Some(202));
    // In whichever order.
    let mut told: Vec<_> = (0..2).map(|_| take(&mut alice)).collect();
    told.sort_by_key(|told| user_of(told.need("From")));
    for (told, other) in told.iter().zip(["bob", "carol"]) {
        assert_eq!(user_of(told.need("From")), other, "{told}");
        let text = told.body_text();
        assert_eq!(between(&text, "<message-id>", "</message-id>"), "34jk324j", "{told}");
        // 11.1.3: it is read from To of the CPIM message, which is the same in all copies.
        assert_eq!(between(&text, "<recipient-uri>", "</recipient-uri>"), aor("bob"), "{told}");
        assert_eq!(between(&text, "<status><", "/>"), "stored", "{told}");
    }
    alice.expect_nothing_more();
}

fn a_message_that_is_relayed_gets_no_report_rfc5438_12_2(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    alice.register();
    bob.register();
    let more = format!("imdn.Original-To: <{}>\r\nRequire: imdn.Unheard-Of\r\nx.y: z\r\n", aor("carol"));
    for (status, answer, body) in [
        (200, "OK", asking("alice", "bob", "one", ALL, "")),
        (415, "Unsupported Media Type", asking("alice", "bob", "two", ALL, "")),
        (200, "OK", asking("alice", "bob", "three", ALL, &more)),
    ] {
        let request = cpim(&mut alice, "bob", &body);
        let request = alice.start(request);
        let arrived = bob.expect_request("MESSAGE");
        assert_eq!(
            arrived.body_text(),
            body,
            "byte for byte, no Original-To and no IMDN-Record-Route of ours"
        );
        bob.answer(&arrived, status, answer);
        alice.expect_status(&request, status);
    }
    alice.expect_nothing_more();
    wait_until_stored(&server, 0);
}

fn an_expired_message_is_reported_once_over_crashes_rfc5438_12_2(database: Database) {
    let mut server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let body = asking("alice", "bob", "34jk324j", "negative-delivery", "");
    let request = cpim(&mut alice, "bob", &body).header("Expires", "3");
    assert_eq!(alice.ask(request).status(), Some(202));
    // Nobody asked about this one.
    let request = cpim(&mut alice, "bob", &asking("alice", "bob", "other", "processing, display", ""));
    assert_eq!(alice.ask(request.header("Expires", "3")).status(), Some(202));
    // Both, and that the second one is stored.
    wait_until_stored(&server, 3);
    server.kill9();
    server.restart();
    // What is left is for alice.
    wait_until_stored(&server, 2);
    server.kill9();
    server.restart();
    alice.register();
    let statuses: Vec<_> = (0..2).map(|_| take(&mut alice).body_text()).collect();
    let status = |text: &String| between(text, "<status><", "/>").to_owned();
    let mut statuses: Vec<_> = statuses.iter().map(status).collect();
    statuses.sort();
    assert_eq!(statuses, ["failed", "stored"]);
    wait_until_stored(&server, 0);
    server.kill9();
    server.restart();
    alice.register();
    bob.register();
    alice.expect_nothing_more();
    bob.expect_nothing_more();
}

fn a_crash_amid_expiries_loses_and_doubles_no_report_rfc5438_8_2(database: Database) {
    const ASKED: u64 = 19;
    const UNASKED: u64 = 6;
    let mut server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    for number in 0..ASKED + UNASKED {
        let wishes = if number < ASKED { "negative-delivery" } else { "display" };
        let body = asking("alice", "bob", &format!("id{number}"), wishes, "");
        let request = cpim(&mut alice, "bob", &body).header("Expires", "4");
        assert_eq!(alice.ask(request).status(), Some(202));
    }
    // As soon as the first one expires, and again amid those that are left.
    for _ in 0..2 {
        let before = stored(&server);
        let deadline = Instant::now() + Duration::from_secs(10);
        while stored(&server) == before && before != ASKED {
            assert!(Instant::now() < deadline, "nothing expires");
        }
        server.kill9();
        server.restart();
    }
    wait_until_stored(&server, ASKED);
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    alice.register();
    let mut told: Vec<_> = (0..ASKED)
        .map(|_| {
            between(&take(&mut alice).body_text(), "<message-id>id", "</message-id>").parse::<u64>().unwrap()
        })
        .collect();
    told.sort_unstable();
    assert_eq!(told, (0..ASKED).collect::<Vec<u64>>());
    wait_until_stored(&server, 0);
    alice.expect_nothing_more();
}

fn what_a_device_refuses_after_the_202_is_reported_rfc5438_12_2(database: Database) {
    let server = Server::with(database, |config| config.set("messaging.answer_s", 1));
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    alice.register();
    let asked = "negative-delivery";
    // Stored, and refused when it is sent.
    assert_eq!(send(&mut alice, "bob", &asking("alice", "bob", "first", asked, "")), Some(202));
    bob.register();
    let arrived = bob.expect_request("MESSAGE");
    bob.answer(&arrived, 415, "Unsupported Media Type");
    let first = expect_told(&mut alice, "bob", "first", "failed");
    wait_until_stored(&server, 0);
    // Refused by a device that took longer than the sender was kept waiting.
    let request = cpim(&mut alice, "bob", &asking("alice", "bob", "second", asked, ""));
    let request = alice.start(request);
    let arrived = bob.expect_request("MESSAGE");
    alice.expect_status(&request, 202);
    bob.answer(&arrived, 603, "Decline");
    assert_ne!(expect_told(&mut alice, "bob", "second", "failed"), first);
    // "Not now" is no failure.
    let request = cpim(&mut alice, "bob", &asking("alice", "bob", "third", asked, ""));
    let request = alice.start(request);
    let arrived = bob.expect_request("MESSAGE");
    bob.answer(&arrived, 480, "Temporarily Unavailable");
    alice.expect_status(&request, 202);
    bob.register();
    take(&mut bob);
    wait_until_stored(&server, 0);
    alice.expect_nothing_more();
}

fn notifications_travel_back_and_wait_for_who_is_away_rfc5438_12_2(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    bob.register();
    let request = cpim(&mut alice, "bob", &asking("alice", "bob", "34jk324j", ALL, ""));
    let request = alice.start(request);
    take(&mut bob);
    alice.expect_status(&request, 200);
    // Even one that asks for a notification about itself gets none.
    let one = displayed("bob", "alice", "34jk324j");
    let one = one.replace(
        "\r\n\r\nContent-Type",
        &format!("\r\nimdn.Disposition-Notification: {ALL}\r\n\r\nContent-Type"),
    );
    assert_eq!(send(&mut bob, "alice", &one), Some(202));
    wait_until_stored(&server, 1);
    bob.expect_nothing_more();
    // It is nothing that waits to be read.
    let lamp = alice.subscribe_request("alice", "message-summary", 600);
    let lamp = alice.subscribe_with(lamp.set("Accept", "application/simple-message-summary"));
    assert!(lamp.notify.body_text().starts_with("Messages-Waiting: no\r\n"), "{}", lamp.notify);
    alice.register();
    assert_eq!(take(&mut alice).body_text(), one, "byte for byte");
    wait_until_stored(&server, 0);
    // As linphone writes it outside of CPIM: compressed, which is nobody's business here.
    let bare = bob.request("MESSAGE", &aor("alice")).header("Content-Encoding", "deflate");
    let bare = bare.body("message/imdn+xml", b"x\x9c\x00\xff");
    alice.second_opinion = false;
    let bare = bob.start(bare);
    assert_eq!(take(&mut alice).body, b"x\x9c\x00\xff");
    bob.expect_status(&bare, 200);
    // And at once to who is there.
    let two = displayed("bob", "alice", "34jk324j").replace("34jk324jd", "another");
    let request = cpim(&mut bob, "alice", &two);
    let request = bob.start(request);
    assert_eq!(take(&mut alice).body_text(), two);
    bob.expect_status(&request, 200);
}

fn a_forged_notification_is_refused_rfc5438_14_1(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let mut carol = Phone::new(&server, "carol", Transport::Udp);
    alice.register();
    assert_eq!(send(&mut alice, "bob", &asking("alice", "bob", "34jk324j", "display", "")), Some(202));
    // Carol did not get it, and bob does not speak for her.
    assert_eq!(send(&mut carol, "alice", &displayed("carol", "alice", "34jk324j")), Some(403));
    assert_eq!(send(&mut carol, "alice", &displayed("bob", "alice", "34jk324j")), Some(403));
    assert_eq!(send(&mut bob, "alice", &displayed("carol", "alice", "34jk324j")), Some(403));
    // As linphone writes it outside of CPIM.
    let document =
        displayed("carol", "alice", "34jk324j").split("\r\n\r\n").nth(2).unwrap_or_default().to_owned();
    let bare = carol.request("MESSAGE", &aor("alice")).body("message/imdn+xml", document.as_bytes());
    assert_eq!(carol.ask(bare).status(), Some(403));
    let unreadable = displayed("bob", "alice", "34jk324j").replace("</imdn>", "");
    assert_eq!(send(&mut bob, "alice", &unreadable), Some(400));
    alice.expect_nothing_more();
    // Of what nobody here knows, alice is the judge.
    for (phone, about) in [(&mut bob, "34jk324j"), (&mut carol, "older")] {
        let user = phone.user.clone();
        let request = cpim(phone, "alice", &displayed(&user, "alice", about));
        let request = phone.start(request);
        take(&mut alice);
        phone.expect_status(&request, 200);
    }
}

fn who_is_anonymous_or_encrypts_is_told_nothing_rfc5438_14(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    alice.register();
    let body = asking("alice", "bob", "one", ALL, "");
    let request = cpim(&mut alice, "bob", &body).header("Privacy", "id");
    assert_eq!(alice.ask(request).status(), Some(202));
    let anonymous = body.replace(&aor("alice"), "sip:anonymous@anonymous.invalid").replace("one", "two");
    let request = cpim(&mut alice, "bob", &anonymous)
        .set("From", "\"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=hidden")
        .header("Privacy", "user");
    assert_eq!(alice.ask(request).status(), Some(202));
    let encrypted =
        body.replace("text/plain; charset=utf-8", "application/pkcs7-mime; smime-type=enveloped-data");
    assert_eq!(send(&mut alice, "bob", &encrypted.replace("one", "three")), Some(202));
    wait_until_stored(&server, 3);
    alice.expect_nothing_more();
}

fn an_operator_may_tell_nobody_anything_rfc5438_14_2(database: Database) {
    let server = Server::with(database, |config| config.set("messaging.reports", false));
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    alice.register();
    let request = cpim(&mut alice, "bob", &asking("alice", "bob", "one", ALL, "")).header("Expires", "1");
    assert_eq!(alice.ask(request).status(), Some(202));
    wait_until_stored(&server, 0);
    alice.expect_nothing_more();
}

fn who_is_politely_blocked_is_told_what_others_are(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    alice.register();
    let output = server.cli(&["rules", "bob", "polite-block", "alice"], "");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(send(&mut alice, "bob", &asking("alice", "bob", "one", ALL, "")), Some(202));
    expect_told(&mut alice, "bob", "one", "stored");
    wait_until_stored(&server, 0);
}

fn a_notification_goes_the_way_the_message_names_rfc5438_7_2_1(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut carol = Phone::new(&server, "carol", Transport::Udp);
    carol.register();
    alice.register();
    let routes = |first: &str| {
        format!("imdn.IMDN-Record-Route: <{first}>\r\nimdn.IMDN-Record-Route: <{}>\r\n", aor("dave"))
    };
    // Without a way it comes back to her; when that has come, everybody is in memory.
    assert_eq!(send(&mut alice, "bob", &asking("alice", "bob", "none", "processing", "")), Some(202));
    expect_told(&mut alice, "bob", "none", "stored");
    let body = asking("alice", "bob", "one", "processing", &routes(&aor("carol")));
    assert_eq!(send(&mut alice, "bob", &body), Some(202));
    let text = take(&mut carol).body_text();
    let copied = format!("\r\nimdn.IMDN-Route: <{}>\r\nimdn.IMDN-Route: <{}>\r\n", aor("carol"), aor("dave"));
    assert!(text.contains(&copied) && text.contains(&format!("\r\nTo: <{}>\r\n", aor("alice"))), "{text}");
    // Other domains are not reached from here, nobody is not there, and who wants to hear nothing from alice does not.
    let output = server.cli(&["rules", "carol", "block", "alice"], "");
    assert!(output.status.success(), "{output:?}");
    for (id, first) in
        [("two", "sip:carol@elsewhere.example".to_owned()), ("three", aor("nobody")), ("four", aor("carol"))]
    {
        let body = asking("alice", "bob", id, "processing", &routes(&first));
        assert_eq!(send(&mut alice, "bob", &body), Some(202));
    }
    wait_until_stored(&server, 5);
    carol.expect_nothing_more();
    alice.expect_nothing_more();
}

fn a_cpim_from_is_its_senders_rfc3862_4_1(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    bob.register();
    let body = asking("bob", "bob", "one", "", "");
    assert_eq!(send(&mut alice, "bob", &body), Some(403));
    assert_eq!(send(&mut alice, "bob", &body.replace("From: ", "from:\t").replace("\r\n", "\n")), Some(403));
    bob.expect_nothing_more();
    // Every way to write the sender is theirs.
    for (id, from) in [("two", aor("alice")), ("three", format!("im:alice@{}", DOMAIN.to_uppercase()))] {
        let body = asking("alice", "bob", id, "", "").replace(&aor("alice"), &from);
        let request = cpim(&mut alice, "bob", &body);
        let request = alice.start(request);
        assert_eq!(take(&mut bob).body_text(), body);
        alice.expect_status(&request, 200);
    }
    // Where users send for others, the operator says so.
    let server = Server::with(database, |config| config.set("messaging.verify_cpim", false));
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    assert_eq!(send(&mut alice, "bob", &body), Some(202));
}

fn an_im_uri_means_the_user_of_the_domain_rfc3428_5(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    bob.register();
    let im = format!("im:bob@{DOMAIN}");
    let request = alice.request("MESSAGE", &im).body("text/plain", b"hello");
    let request = alice.start(request);
    let arrived = take(&mut bob);
    assert_eq!(arrived.uri(), bob.contact_uri(), "{arrived}");
    assert_eq!(arrived.need("To"), format!("<{im}>"), "{arrived}");
    assert!(arrived.header("Route").is_none() && arrived.header("Record-Route").is_none(), "{arrived}");
    alice.expect_status(&request, 200);
    // Whose it is elsewhere nobody here looks up.
    let request = alice.request("MESSAGE", "im:bob@elsewhere.example").body("text/plain", b"hello");
    assert_eq!(alice.ask(request).status(), Some(403));
}

fn who_writes_is_who_has_the_password_rfc3428_11(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    bob.register();
    let request = alice.message_request("bob", "hello");
    alice.send(&request);
    let challenge = alice.expect_status(&request, 407);
    assert!(challenge.header("Proxy-Authenticate").is_some(), "{challenge}");
    let request = alice.message_request("bob", "hello").set("From", &format!("<{}>;tag=x", aor("carol")));
    assert_eq!(alice.ask(request).status(), Some(403));
    bob.expect_nothing_more();
    let request = alice.message("bob", "hello");
    assert_eq!(user_of(take(&mut bob).need("From")), "alice");
    alice.expect_status(&request, 200);
}

over_each_transport!(
    a_stored_message_is_reported_once_to_who_asks_rfc5438_8_1,
    a_message_that_is_relayed_gets_no_report_rfc5438_12_2,
    notifications_travel_back_and_wait_for_who_is_away_rfc5438_12_2,
    an_im_uri_means_the_user_of_the_domain_rfc3428_5,
    who_writes_is_who_has_the_password_rfc3428_11,
);
on_each_database!(
    an_expired_message_is_reported_once_over_crashes_rfc5438_12_2,
    a_crash_amid_expiries_loses_and_doubles_no_report_rfc5438_8_2,
    what_a_device_refuses_after_the_202_is_reported_rfc5438_12_2,
    a_forged_notification_is_refused_rfc5438_14_1,
    who_is_anonymous_or_encrypts_is_told_nothing_rfc5438_14,
    an_operator_may_tell_nobody_anything_rfc5438_14_2,
    who_is_politely_blocked_is_told_what_others_are,
    every_stored_copy_of_a_list_is_reported_to_who_asks_rfc5438_8_1,
    a_notification_goes_the_way_the_message_names_rfc5438_7_2_1,
    a_cpim_from_is_its_senders_rfc3862_4_1,
);

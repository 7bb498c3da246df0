//! SUBSCRIBE and PUBLISH for `message-summary`: the lamp for waiting messages (RFC 3842).

use std::time::{Duration, Instant};

use crate::harness::phone::aor;
use crate::harness::presence::Subscription;
use crate::harness::{Database, Phone, Request, Server, Transport};

const TYPE: &str = "application/simple-message-summary";

/// A SUBSCRIBE for the messages of `target`.
fn request_for(phone: &mut Phone, target: &str) -> Request {
    phone.subscribe_request(target, "message-summary", 600).set("Accept", TYPE)
}

fn watch(phone: &mut Phone) -> Subscription {
    let request = request_for(phone, &phone.user.clone());
    phone.subscribe_with(request)
}

/// A PUBLISH of this phone's user.
fn publication(phone: &mut Phone, summary: Option<&str>, tag: Option<&str>) -> Request {
    let request = phone.publish_request(None, tag, 600).set("Event", "message-summary");
    match summary {
        Some(summary) => request.body(TYPE, summary.as_bytes()),
        None => request,
    }
}

/// Publishes; gives the entity-tag.
fn publish(phone: &mut Phone, summary: Option<&str>, tag: Option<&str>) -> String {
    let request = publication(phone, summary, tag);
    let response = phone.ask(request);
    assert_eq!(response.status(), Some(200), "{response}");
    response.need("SIP-ETag").to_string()
}

fn nothing(user: &str) -> String {
    format!("Messages-Waiting: no\r\nMessage-Account: {}\r\n", aor(user))
}

fn there_is_always_an_answer_rfc3842_3_8(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", via);
    let watching = watch(&mut bob);
    assert_eq!(watching.notify.subscription_state(), "active", "{}", watching.notify);
    assert_eq!(watching.notify.need("Event"), "message-summary");
    assert_eq!(watching.notify.need("Content-Type"), TYPE);
    assert_eq!(watching.notify.body_text(), nothing("bob"));
    // No Accept means this type (3.5); one that cannot be had is 406.
    let mut second = Phone::new(&server, "bob", via);
    let request = request_for(&mut second, "bob").without("Accept");
    assert_eq!(second.subscribe_with(request).notify.need("Content-Type"), TYPE);
    let request = bob.subscribe_request("bob", "message-summary", 600);
    let response = bob.ask(request);
    assert_eq!((response.status(), response.need("Accept")), (Some(406), TYPE), "{response}");
}

fn what_is_published_is_told_rfc3842_3_5(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", via);
    let mut mailbox = Phone::new(&server, "bob", Transport::Tcp);
    let watching = watch(&mut bob);
    let summary = format!(
        "Messages-Waiting: yes\r\nMessage-Account: {}\r\nVoice-Message: 2/8 (0/2)\r\n",
        "sip:bob@vmail.hither.example"
    );
    let with_headers = format!("{summary}\r\nTo: <{}>\r\nSubject: HELP! at home ill\r\n", aor("bob"));
    let tag = publish(&mut mailbox, Some(&with_headers), None);
    let told = bob.expect_notify(&watching.call_id);
    assert_eq!(told.body_text(), summary, "without headers of single messages");
    // Who begins to watch now is told the same; a refresh of the publication is no news.
    let mut second = Phone::new(&server, "bob", via);
    assert_eq!(watch(&mut second).notify.body_text(), summary);
    let tag = publish(&mut mailbox, None, Some(&tag));
    let heard = summary.replace("2/8", "0/10").replace(": yes", ": no");
    let tag = publish(&mut mailbox, Some(&heard), Some(&tag));
    assert_eq!(bob.expect_notify(&watching.call_id).body_text(), heard);
    let request = publication(&mut mailbox, None, Some(&tag)).set("Expires", "0");
    assert_eq!(mailbox.ask(request).status(), Some(200));
    assert_eq!(bob.expect_notify(&watching.call_id).body_text(), nothing("bob"));
}

fn several_mailboxes_are_one_summary_rfc3842_3_10(database: Database) {
    let mut server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    let voice = "Messages-Waiting: no\r\nMessage-Account: sip:v@x.example\r\nVoice-Message: 0/3\r\n";
    let fax = "Messages-Waiting: yes\r\nMessage-Account: sip:f@x.example\r\nFax-Message: 1/0\r\nVoice-Message: 4294967295/99999999999\r\n";
    publish(&mut bob, Some(voice), None);
    publish(&mut bob, Some(fax), None);
    // 3.5: whose they are is said without angle brackets, and no number is above 2^32-1.
    let both = format!(
        "Messages-Waiting: yes\r\nMessage-Account: {}\r\nVoice-Message: 4294967295/4294967295\r\nFax-Message: 1/0\r\n",
        aor("bob")
    );
    let request = request_for(&mut bob, "bob").set("Expires", "0");
    assert_eq!(bob.subscribe_with(request).notify.body_text(), both, "a fetch");
    server.kill9();
    server.restart();
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    assert_eq!(watch(&mut bob).notify.body_text(), both, "after a crash");
}

fn texts_that_are_kept_here_are_counted_rfc3842_3_8(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    publish(&mut bob, Some("Messages-Waiting: no\r\nVoice-Message: 0/4\r\n"), None);
    let watching = watch(&mut bob);
    for new in 1..=2 {
        assert_eq!(alice.ask_message("bob", "are you there?").status(), Some(202));
        let told = bob.expect_notify(&watching.call_id);
        let lines = format!("Voice-Message: 0/4\r\nText-Message: {new}/0\r\n");
        assert!(
            told.body_text().starts_with("Messages-Waiting: yes") && told.body_text().ends_with(&lines),
            "{told}"
        );
    }
    bob.register();
    for _ in 1..=2 {
        let message = bob.expect_request("MESSAGE");
        bob.answer(&message, 200, "OK");
    }
    bob.expect_notify_until(&watching.call_id, "without texts", |notify| {
        notify.body_text().starts_with("Messages-Waiting: no") && !notify.body_text().contains("Text-Message")
    });
}

fn messages_are_nobody_elses_business_rfc3842_3_7(database: Database, via: Transport) {
    let server = Server::with(database, |config| config.set("presence.default_rule", "full"));
    let mut bob = Phone::new(&server, "bob", via);
    publish(&mut bob, Some("Messages-Waiting: yes\r\nVoice-Message: 77/0\r\n"), None);
    let mut alice = Phone::new(&server, "alice", via);
    let request = request_for(&mut alice, "bob");
    let unproved = alice.transact(&request);
    assert_eq!(unproved.status(), Some(401), "{unproved}");
    alice.learn(&unproved);
    let request = request_for(&mut alice, "bob");
    let response = alice.ask(request);
    assert_eq!(response.status(), Some(403), "{response}");
    alice.expect_nothing_more();
    // Nor do they show in what others may see.
    let seen = alice.subscribe("bob").notify;
    assert!(seen.body_text().contains("closed") && !seen.body_text().contains("77"), "{seen}");
}

fn changes_come_once_a_second_at_most_rfc3842_3_11(database: Database) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    let mut mailbox = Phone::new(&server, "bob", Transport::Tcp);
    let watching = watch(&mut bob);
    let mut tag = publish(&mut mailbox, Some("Messages-Waiting: yes\r\nVoice-Message: 1/0\r\n"), None);
    for new in 2..=30 {
        let summary = format!("Messages-Waiting: yes\r\nVoice-Message: {new}/0\r\n");
        tag = publish(&mut mailbox, Some(&summary), Some(&tag));
    }
    let mut told = Vec::new();
    bob.expect_notify_until(&watching.call_id, "the last change", |notify| {
        notify.body_text().contains("Voice-Message: 30/0")
    });
    told.push(Instant::now());
    for new in 31..=33 {
        let summary = format!("Messages-Waiting: yes\r\nVoice-Message: {new}/0\r\n");
        tag = publish(&mut mailbox, Some(&summary), Some(&tag));
        bob.expect_notify_until(&watching.call_id, "the next one", |notify| {
            notify.body_text().contains(&format!("Voice-Message: {new}/0"))
        });
        told.push(Instant::now());
    }
    let last = told.last().expect("four of them").duration_since(told[0]);
    assert!(last >= Duration::from_millis(2_900), "three more took {last:?}");
}

fn what_is_no_summary_is_refused_rfc3903_6_5(database: Database) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    for broken in [
        "Voice-Message: 1/0\r\n",
        "Messages-Waiting: perhaps\r\n",
        "Messages-Waiting: yes\r\nVoice-Message: many\r\n",
        "Messages-Waiting: yes\r\nMessage-Account: nobody\r\n",
    ] {
        let request = publication(&mut bob, Some(broken), None);
        let response = bob.ask(request);
        assert_eq!(response.status(), Some(400), "{broken}:\n{response}");
    }
    let request = publication(&mut bob, None, None).body("application/pidf+xml", b"<presence/>");
    let response = bob.ask(request);
    assert_eq!((response.status(), response.need("Accept")), (Some(415), TYPE), "{response}");
    assert_eq!(watch(&mut bob).notify.body_text(), nothing("bob"));
}

over_each_transport!(
    there_is_always_an_answer_rfc3842_3_8,
    what_is_published_is_told_rfc3842_3_5,
    messages_are_nobody_elses_business_rfc3842_3_7,
);
on_each_database!(
    several_mailboxes_are_one_summary_rfc3842_3_10,
    texts_that_are_kept_here_are_counted_rfc3842_3_8,
    changes_come_once_a_second_at_most_rfc3842_3_11,
    what_is_no_summary_is_refused_rfc3903_6_5,
);

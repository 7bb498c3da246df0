//! SUBSCRIBE and NOTIFY for `presence`: who sees what (RFC 3856, RFC 6665).

use crate::harness::documents::{basics, pidf};
use crate::harness::phone::aor;
use crate::harness::presence::{befriend, expires_of};
use crate::harness::{Database, Phone, Server, Transport};

fn an_unreturned_watch_is_pending_and_empty(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    bob.register();
    bob.publish_basic("open", "private");
    let watching = alice.subscribe("bob");
    assert_eq!(watching.notify.subscription_state(), "pending", "{}", watching.notify);
    assert!(watching.notify.body.is_empty(), "nothing of bob's: {}", watching.notify);
    assert_eq!(watching.notify.need("Event"), "presence");
}

fn watching_each_other_opens_both_rfc3856_6_7(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    alice.publish_basic("open", "here I am");
    let watching = alice.subscribe("bob");
    assert_eq!(watching.notify.subscription_state(), "pending");
    let returned = bob.subscribe("alice");
    assert_eq!(returned.notify.subscription_state(), "active", "{}", returned.notify);
    assert!(returned.notify.body_text().contains("here I am"), "{}", returned.notify);
    let opened =
        alice.expect_notify_until(&watching.call_id, "active", |m| m.subscription_state() == "active");
    assert!(opened.body_text().contains(&format!("entity=\"{}\"", aor("bob"))), "{opened}");
    assert!(opened.cseq() > watching.notify.cseq());
}

fn subscribe_is_answered_as_a_dialog_rfc6665_4_2_1(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let watching = alice.subscribe("bob");
    let response = &watching.response;
    let expires: u32 = response.need("Expires").parse().expect("seconds");
    assert!((1..=600).contains(&expires), "{response}");
    assert_eq!(response.list("Contact").len(), 1, "{response}");
    let notify = &watching.notify;
    assert_eq!(notify.uri(), alice.contact_uri(), "to the Contact:\n{notify}");
    assert_eq!(notify.need("Max-Forwards"), "70", "{notify}");
    assert_eq!(notify.list("Contact").len(), 1, "{notify}");
    let left = expires_of(notify.need("Subscription-State")).expect("expires");
    assert!(left <= expires, "{notify}");
    alice.expect_nothing_more();
}

fn publishing_notifies_the_watchers_rfc3903_6(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let (watching, _) = befriend(&mut alice, &mut bob);
    let tag = bob.publish_basic("open", "first");
    let first = alice.expect_notify_until(&watching.call_id, "first", |m| m.body_text().contains("first"));
    assert_eq!(first.need("Content-Type"), "application/pidf+xml");
    assert!(basics(&first.body_text()).contains(&"open".to_string()), "{first}");
    let document = pidf("bob", "t1", "closed", "second");
    let tag = bob.publish_as(Some(&document), Some(&tag), 600);
    let second = alice.expect_notify_until(&watching.call_id, "second", |m| m.body_text().contains("second"));
    assert!(!second.body_text().contains("first"), "replaced:\n{second}");
    bob.publish_as(None, Some(&tag), 0);
    alice.expect_notify_until(&watching.call_id, "removed", |m| !m.body_text().contains("second"));
}

fn refreshing_a_publication_notifies_nobody_rfc3903_6_5(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let (watching, _) = befriend(&mut alice, &mut bob);
    let tag = bob.publish_basic("open", "steady");
    let before = alice.expect_notify_until(&watching.call_id, "steady", |m| m.body_text().contains("steady"));
    let refreshed = bob.publish_as(None, Some(&tag), 600);
    assert_ne!(tag, refreshed, "a new entity-tag each time (RFC 3903 6.6)");
    let document = pidf("bob", "t1", "open", "changed");
    bob.publish_as(Some(&document), Some(&refreshed), 600);
    let after = alice.take_notify(&watching.call_id);
    alice.answer(&after, 200, "OK");
    assert!(after.body_text().contains("changed"), "the refresh said nothing:\n{after}");
    assert_eq!(after.cseq(), before.cseq() + 1);
}

fn registration_feeds_presence_rfc3856_7_2(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    let (watching, _) = befriend(&mut alice, &mut bob);
    assert!(!basics(&watching.notify.body_text()).contains(&"open".to_string()), "{}", watching.notify);
    bob.register();
    alice.expect_notify_until(&watching.call_id, "open", |m| {
        basics(&m.body_text()).contains(&"open".to_string())
    });
    bob.register_contact("*", Some(0));
    alice.expect_notify_until(&watching.call_id, "closed", |m| {
        !basics(&m.body_text()).contains(&"open".to_string())
    });
}

fn two_publications_are_one_document_rfc3903_10(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut desk = Phone::new(&server, "bob", Transport::Udp);
    let mut mobile = Phone::new(&server, "bob", Transport::Udp);
    let (watching, _) = befriend(&mut alice, &mut desk);
    desk.publish(&pidf("bob", "t1", "open", "at the desk"));
    mobile.publish(&pidf("bob", "t1", "closed", "on the road"));
    let both = alice.expect_notify_until(&watching.call_id, "both", |m| {
        m.body_text().contains("at the desk") && m.body_text().contains("on the road")
    });
    let text = both.body_text();
    let mut ids: Vec<&str> =
        text.split("tuple id=").skip(1).filter_map(|rest| rest.get(1..)?.split(['"', '\'']).next()).collect();
    ids.sort_unstable();
    let count = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), count, "tuple ids are unique (RFC 3863 4.1.2):\n{both}");
}

fn unknown_package_is_489_with_allow_events_rfc6665_4_2_1_1(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let unknown = alice.subscribe_request("bob", "weather", 600);
    let none = alice.subscribe_request("bob", "presence", 600).without("Event");
    let case = alice.subscribe_request("bob", "presence.weather", 600);
    for request in [unknown, none, case] {
        let request = alice.again(&request);
        let response = alice.ask(request);
        assert_eq!(response.status(), Some(489), "{response}");
        assert!(response.list("Allow-Events").iter().any(|event| event == "presence"), "{response}");
    }
    alice.expect_nothing_more();
}

fn allow_events_lists_every_package_rfc6665_4_4_4(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let every = ["presence", "dialog", "message-summary", "reg", "presence.winfo"];
    let watching = alice.subscribe("alice");
    assert_eq!(watching.response.list("Allow-Events"), every, "{}", watching.response);
    assert_eq!(watching.notify.list("Allow-Events"), every, "{}", watching.notify);
    let options = alice.options();
    assert_eq!(options.list("Allow-Events"), every, "{options}");
    let request = alice.subscribe_request("alice", "weather", 600);
    let refused = alice.ask(request);
    assert_eq!(
        (refused.status(), refused.list("Allow-Events").as_slice()),
        (Some(489), &every.map(String::from)[..])
    );
    // What is only forwarded says nothing of it, neither way.
    let mut bob = Phone::new(&server, "bob", via);
    bob.register();
    let request = alice.message("bob", "hello");
    let message = bob.expect_request("MESSAGE");
    assert_eq!(message.header("Allow-Events"), None, "{message}");
    bob.answer(&message, 200, "OK");
    let answer = alice.expect_final(&request);
    assert_eq!(answer.header("Allow-Events"), None, "{answer}");
}

fn accept_of_no_presence_document_is_406_rfc6665_3_1_3(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let request = alice.subscribe_request("bob", "presence", 600).set("Accept", "text/html");
    let refused = alice.ask(request);
    assert_eq!(refused.status(), Some(406), "{refused}");
    assert_eq!(refused.list("Accept"), ["application/pidf+xml", XPIDF, CPIM_PIDF], "{refused}");
    for accept in ["*/*", "application/*", "text/html, application/pidf+xml;q=0.5"] {
        let request = alice.subscribe_request("bob", "presence", 600).set("Accept", accept);
        alice.subscribe_with(request);
    }
    let request = alice.subscribe_request("bob", "presence", 600).without("Accept");
    alice.subscribe_with(request);
}

fn unknown_require_is_420_rfc3261_8_2_2_3(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let request = alice.subscribe_request("bob", "presence", 600).header("Require", "teleport, eventlist");
    let response = alice.ask(request);
    assert_eq!(response.status(), Some(420), "{response}");
    assert_eq!(response.list("Unsupported"), ["teleport", "eventlist"], "{response}");
    let request = alice.publish_request(None, None, 600).header("Require", "teleport");
    let response = alice.ask(request);
    assert_eq!(response.status(), Some(420), "{response}");
    alice.expect_nothing_more();
}

fn a_retransmitted_subscribe_makes_no_second_notify_rfc3261_17_2_2(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    alice.show_retransmissions = true;
    let first = alice.subscribe("carol");
    assert_eq!(first.notify.cseq(), 1);
    let mut request = alice.subscribe_request("bob", "presence", 600);
    alice.authorize(&mut request, "Authorization");
    let answer = alice.transact(&request);
    assert_eq!(answer.status(), Some(200), "{answer}");
    alice.expect_notify(request.call_id());
    let again = alice.transact(&request);
    assert_eq!(answer.raw, again.raw);
    alice.expect_nothing_more();
}

fn too_short_a_subscription_is_423_rfc6665_4_2_1_1(database: Database) {
    let server = Server::with(database, |config| config.set("subscription.min_interval_s", 60));
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let request = alice.subscribe_request("bob", "presence", 5);
    let response = alice.ask(request);
    assert_eq!(response.status(), Some(423), "{response}");
    assert_eq!(response.need("Min-Expires"), "60", "{response}");
}

fn an_unknown_presentity_shows_nothing(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let request = alice.subscribe_request("zoe", "presence", 600);
    let response = alice.ask(request);
    assert!(matches!(response.status(), Some(404 | 200)), "{response}");
}

fn watching_oneself_is_active(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    alice.publish_basic("open", "myself");
    let watching = alice.subscribe("alice");
    assert_eq!(watching.notify.subscription_state(), "active", "{}", watching.notify);
    assert!(watching.notify.body_text().contains("myself"), "{}", watching.notify);
}

fn full_and_confirm_rules_are_obeyed(database: Database) {
    let server = Server::with(database, |config| config.set("presence.default_rule", "full"));
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    assert_eq!(alice.subscribe("bob").notify.subscription_state(), "active");
    let server = Server::with(database, |config| config.set("presence.default_rule", "confirm"));
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    assert_eq!(alice.subscribe("bob").notify.subscription_state(), "pending");
    assert_eq!(bob.subscribe("alice").notify.subscription_state(), "pending");
}

fn a_refresh_is_a_get_and_a_new_lease_rfc6665_4_2_1(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    let (watching, _) = befriend(&mut alice, &mut bob);
    let request = alice.resubscribe_request(&watching, 900);
    let response = alice.ask(request);
    assert_eq!(response.status(), Some(200), "{response}");
    let notify = alice.expect_notify(&watching.call_id);
    assert_eq!(notify.subscription_state(), "active", "{notify}");
    assert!(expires_of(notify.need("Subscription-State")).expect("expires") > 600, "{notify}");
}

fn notify_comes_back_on_the_flow_rfc5626(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let contact = format!("<sip:alice@192.168.77.5:5060{}>", via.parameter());
    let request = alice.subscribe_request("bob", "presence", 600).set("Contact", &contact);
    let watching = alice.subscribe_with(request);
    assert!(watching.notify.uri().starts_with("sip:alice@192.168.77.5"), "{}", watching.notify);
}

const XPIDF: &str = "application/xpidf+xml";
const CPIM_PIDF: &str = "application/cpim-pidf+xml";

/// Phones of before RFC 3863, and what each has read.
const OLD: [(&str, &str, &str); 2] = [
    (XPIDF, "<status status=\"open\"/>", "<status status=\"closed\"/>"),
    (CPIM_PIDF, "<basic>open</basic>", "<basic>closed</basic>"),
];

fn old_phones_are_told_in_the_form_they_read_rfc3261_20_1(database: Database) {
    let mut server = Server::with(database, |config| config.set("presence.default_rule", "full"));
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let tag = alice.publish_basic("open", "first");
    let watching = OLD.map(|(form, open, closed)| {
        let request = bob.subscribe_request("alice", "presence", 600).set("Accept", form);
        let watching = bob.subscribe_with(request);
        let notify = &watching.notify;
        assert_eq!(notify.subscription_state(), "active", "{notify}");
        assert_eq!(notify.need("Content-Type"), form, "{notify}");
        let text = notify.body_text();
        assert!(text.contains(open) && !text.contains(closed), "{notify}");
        assert!(!text.contains("urn:ietf:params:xml:ns:pidf"), "{notify}");
        watching
    });
    // The form is as durable as the subscription.
    server.restart();
    alice.publish_as(Some(&pidf("alice", "t1", "closed", "second")), Some(&tag), 600);
    for ((form, open, closed), watching) in OLD.iter().zip(&watching) {
        let notify = bob.expect_notify_until(&watching.call_id, "closed", |m| m.body_text().contains(closed));
        assert_eq!(&notify.need("Content-Type"), form, "{notify}");
        assert!(!notify.body_text().contains(open), "{notify}");
    }
    // Who reads PIDF too gets that.
    let accept = format!("{XPIDF}, {CPIM_PIDF}, application/pidf+xml");
    let request = bob.subscribe_request("alice", "presence", 600).set("Accept", &accept);
    assert_eq!(bob.subscribe_with(request).notify.need("Content-Type"), "application/pidf+xml");
}

fn who_is_blocked_politely_is_told_of_nobody_in_the_old_forms_rfc5025_3_2_1(database: Database) {
    let server = Server::with(database, |config| config.set("presence.default_rule", "full"));
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let offline = OLD.map(|(form, _, closed)| {
        let request = bob.subscribe_request("alice", "presence", 600).set("Accept", form);
        let watching = bob.subscribe_with(request);
        assert!(watching.notify.body_text().contains(closed), "{}", watching.notify);
        watching
    });
    alice.publish_basic("open", "SECRET");
    for ((_, open, _), watching) in OLD.iter().zip(&offline) {
        bob.expect_notify_until(&watching.call_id, "open", |m| m.body_text().contains(open));
    }
    let output = server.cli(&["rules", "alice", "polite-block", "bob"], "");
    assert!(output.status.success(), "{output:?}");
    for ((form, ..), watching) in OLD.iter().zip(&offline) {
        let absent = watching.notify.body_text();
        let notify = bob.expect_notify_until(&watching.call_id, "blocked", |m| m.body_text() == absent);
        assert_eq!(notify.subscription_state(), "active", "{notify}");
        assert_eq!(&notify.need("Content-Type"), form, "{notify}");
        let request = bob.subscribe_request("alice", "presence", 600).set("Accept", form);
        assert_eq!(bob.subscribe_with(request).notify.body_text(), absent);
    }
}

fn who_was_shown_and_waits_again_is_told_of_nobody_in_the_old_forms_rfc3856_6_7(database: Database) {
    for (form, open, closed) in OLD {
        let server = Server::start(database);
        let mut alice = Phone::new(&server, "alice", Transport::Udp);
        let mut bob = Phone::new(&server, "bob", Transport::Udp);
        alice.publish_basic("open", "SECRET");
        let returned = alice.subscribe("bob");
        let request = bob.subscribe_request("alice", "presence", 600).set("Accept", form);
        let watching = bob.subscribe_with(request);
        assert!(watching.notify.body_text().contains(open), "{}", watching.notify);
        let request = alice.resubscribe_request(&returned, 0);
        assert_eq!(alice.ask(request).status(), Some(200));
        let notify =
            bob.expect_notify_until(&watching.call_id, "pending", |m| m.subscription_state() == "pending");
        assert_eq!(notify.need("Content-Type"), form, "{notify}");
        let text = notify.body_text();
        assert!(text.contains(closed) && !text.contains(open) && !text.contains("SECRET"), "{notify}");
    }
}

over_each_transport!(
    an_unreturned_watch_is_pending_and_empty,
    watching_each_other_opens_both_rfc3856_6_7,
    subscribe_is_answered_as_a_dialog_rfc6665_4_2_1,
    publishing_notifies_the_watchers_rfc3903_6,
    registration_feeds_presence_rfc3856_7_2,
    unknown_package_is_489_with_allow_events_rfc6665_4_2_1_1,
    allow_events_lists_every_package_rfc6665_4_4_4,
    a_refresh_is_a_get_and_a_new_lease_rfc6665_4_2_1,
    notify_comes_back_on_the_flow_rfc5626,
);
on_each_database!(
    refreshing_a_publication_notifies_nobody_rfc3903_6_5,
    two_publications_are_one_document_rfc3903_10,
    accept_of_no_presence_document_is_406_rfc6665_3_1_3,
    old_phones_are_told_in_the_form_they_read_rfc3261_20_1,
    who_is_blocked_politely_is_told_of_nobody_in_the_old_forms_rfc5025_3_2_1,
    who_was_shown_and_waits_again_is_told_of_nobody_in_the_old_forms_rfc3856_6_7,
    unknown_require_is_420_rfc3261_8_2_2_3,
    a_retransmitted_subscribe_makes_no_second_notify_rfc3261_17_2_2,
    too_short_a_subscription_is_423_rfc6665_4_2_1_1,
    an_unknown_presentity_shows_nothing,
    watching_oneself_is_active,
    full_and_confirm_rules_are_obeyed,
);

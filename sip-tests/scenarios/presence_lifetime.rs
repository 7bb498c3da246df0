//! How a subscription begins, ends and fails (RFC 6665 section 4.2).

use std::time::Duration;

use crate::harness::documents::pidf;
use crate::harness::message::param;
use crate::harness::phone::unique;
use crate::harness::presence::befriend;
use crate::harness::{Database, Phone, Server, Transport};

fn a_fetch_gets_one_notify_and_leaves_nothing_rfc6665_4_4_3(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    let (_, _) = befriend(&mut alice, &mut bob);
    bob.publish_basic("open", "fetched");
    let mut second = Phone::new(&server, "alice", via);
    let request = second.subscribe_request("bob", "presence", 0);
    let fetched = second.subscribe_with(request);
    assert_eq!(fetched.notify.subscription_state(), "terminated", "{}", fetched.notify);
    assert!(fetched.notify.body_text().contains("fetched"), "{}", fetched.notify);
    bob.publish_basic("closed", "later");
    second.expect_nothing_more();
}

fn unsubscribing_ends_with_terminated_rfc6665_4_2_1_4(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    let (watching, _) = befriend(&mut alice, &mut bob);
    let request = alice.resubscribe_request(&watching, 0);
    let response = alice.ask(request);
    assert_eq!(response.status(), Some(200), "{response}");
    assert_eq!(response.need("Expires"), "0", "{response}");
    let last = alice.expect_notify(&watching.call_id);
    let state = last.need("Subscription-State");
    assert_eq!(last.subscription_state(), "terminated", "{last}");
    assert_eq!(param(state, "reason").as_deref(), Some("timeout"), "{last}");
    assert_eq!(param(state, "expires"), None, "{last}");
    bob.publish_basic("open", "nothing follows terminated");
    alice.expect_nothing_more();
    let request = alice.resubscribe_request(&watching, 600);
    assert_eq!(alice.ask(request).status(), Some(481), "the dialog is gone");
}

fn an_unrefreshed_subscription_ends_with_timeout_rfc6665_4_2_1_4(database: Database, via: Transport) {
    let server = Server::with(database, |config| config.set("subscription.min_interval_s", 1));
    let mut alice = Phone::new(&server, "alice", via);
    let request = alice.subscribe_request("bob", "presence", 1);
    let watching = alice.subscribe_with(request);
    let last = alice
        .expect_notify_until(&watching.call_id, "terminated", |m| m.subscription_state() == "terminated");
    assert_eq!(param(last.need("Subscription-State"), "reason").as_deref(), Some("timeout"), "{last}");
}

fn a_481_to_notify_ends_the_subscription_rfc6665_4_2_2(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    let (watching, _) = befriend(&mut alice, &mut bob);
    bob.publish_basic("open", "one");
    let notify = alice.take_notify(&watching.call_id);
    alice.answer(&notify, 481, "Subscription does not exist");
    let document = pidf("bob", "t2", "closed", "two");
    bob.publish(&document);
    alice.expect_nothing_more();
    let request = alice.resubscribe_request(&watching, 600);
    assert_eq!(alice.ask(request).status(), Some(481));
}

fn one_notify_at_a_time_and_the_latest_state_wins_rfc6665_4_2_2(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    let (watching, _) = befriend(&mut alice, &mut bob);
    let mut tag = bob.publish_basic("open", "state 0");
    let first = alice.take_notify(&watching.call_id);
    for number in 1..=5 {
        let document = pidf("bob", "t1", "open", &format!("state {number}"));
        tag = bob.publish_as(Some(&document), Some(&tag), 600);
    }
    // Not answered yet: nothing else may be on its way.
    alice.expect_nothing_more();
    alice.answer(&first, 200, "OK");
    let next = alice.expect_notify(&watching.call_id);
    assert!(next.body_text().contains("state 5"), "what lay between is skipped:\n{next}");
    assert_eq!(next.cseq(), first.cseq() + 1);
}

fn a_refresh_with_a_lower_cseq_is_500_rfc3261_12_2_2(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    alice.continue_cseq(1000);
    let watching = alice.subscribe("bob");
    alice.continue_cseq(10);
    let request = alice.resubscribe_request(&watching, 600);
    assert_eq!(alice.ask(request).status(), Some(500));
}

fn a_refresh_of_an_unknown_dialog_is_481_rfc6665_4_2_1_4(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let watching = alice.subscribe("bob");
    for (name, value) in [
        ("Call-ID", unique("no-such-call")),
        ("To", format!("{}x", watching.dialog.remote)),
        ("From", format!("{}x", watching.dialog.local)),
    ] {
        let request = alice.resubscribe_request(&watching, 600).set(name, &value);
        assert_eq!(alice.ask(request).status(), Some(481), "another {name}");
    }
    let request = alice.resubscribe_request(&watching, 600);
    assert_eq!(alice.ask(request).status(), Some(200), "the true one");
}

fn someone_elses_dialog_is_not_refreshed_a32(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut carol = Phone::new(&server, "carol", Transport::Udp);
    let watching = alice.subscribe("bob");
    let request = carol.resubscribe_request(&watching, 0);
    let response = carol.ask(request);
    assert!(matches!(response.status(), Some(403 | 481)), "{response}");
    let request = alice.resubscribe_request(&watching, 600);
    assert_eq!(alice.ask(request).status(), Some(200), "still there");
}

fn a_new_contact_is_the_new_target_rfc3261_12_2_2(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let watching = alice.subscribe("bob");
    let contact = format!("<sip:alice@{};line=7{}>", alice.local, via.parameter());
    let request = alice.resubscribe_request(&watching, 600).set("Contact", &contact);
    assert_eq!(alice.ask(request).status(), Some(200));
    let notify = alice.expect_notify(&watching.call_id);
    assert!(notify.uri().contains("line=7"), "{notify}");
}

fn a_silent_udp_watcher_costs_two_packets_a16(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    alice.show_retransmissions = true;
    let (request, response) = {
        let request = alice.subscribe_request("bob", "presence", 600);
        alice.ask_and_tell(request)
    };
    assert_eq!(response.status(), Some(200), "{response}");
    let mut copies = 0;
    // Long enough for what Timer E would send: 0.5, 1.5, 3.5 seconds.
    while alice
        .await_within(Duration::from_secs(4), |m| m.is_request("NOTIFY") && m.call_id() == request.call_id())
        .is_some()
    {
        copies += 1;
    }
    assert!((1..=2).contains(&copies), "{copies} packets");
}

fn the_route_set_of_the_subscriber_is_followed_rfc3261_12_2_1_1(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let edge = format!("<sip:edge@{};lr>", alice.local);
    let request = alice.subscribe_request("bob", "presence", 600).header("Record-Route", &edge);
    let watching = alice.subscribe_with(request);
    assert_eq!(watching.response.list("Record-Route"), std::slice::from_ref(&edge), "{}", watching.response);
    assert_eq!(watching.notify.list("Route"), [edge], "{}", watching.notify);
}

fn subscriptions_have_a_limit_rfc6665_6_3(database: Database) {
    let server = Server::with(database, |config| config.set("subscription.max_per_watcher", 2));
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    alice.subscribe("bob");
    alice.subscribe("carol");
    let request = alice.subscribe_request("dave", "presence", 600);
    let response = alice.ask(request);
    assert!(matches!(response.status(), Some(403 | 503)), "{response}");
    bob.subscribe("dave");
}

fn what_has_ended_stays_ended_over_a_crash_rfc6665_4_1_3(database: Database) {
    let mut server = Server::with(database, |config| config.set("subscription.min_interval_s", 1));
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let request = alice.subscribe_request("bob", "presence", 1);
    let watching = alice.subscribe_with(request);
    alice.expect_notify_until(&watching.call_id, "terminated", |m| m.subscription_state() == "terminated");
    server.kill9();
    assert_eq!(server.rows("subscription"), 0, "gone before its watcher was told");
    server.restart();
    let request = alice.resubscribe_request(&watching, 600);
    assert_eq!(alice.ask(request).status(), Some(481));
    alice.expect_nothing_more();
}

fn a_dialog_begun_anew_leaves_nothing_behind_rfc3261_12_1_2(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    bob.subscribe("alice");
    let request = alice.subscribe_request("bob", "presence", 600);
    let first = alice.subscribe_with(request.clone());
    // As if it had never heard of its 200.
    let request = alice.again(&request);
    let second = alice.subscribe_with(request);
    assert_eq!(first.call_id, second.call_id);
    assert_ne!(first.dialog.remote, second.dialog.remote, "a dialog of its own");
    bob.publish_basic("open", "once");
    let notify = alice.expect_notify_until(&second.call_id, "once", |n| n.body_text().contains("once"));
    assert_eq!(notify.tag_in_from(), second.response.to_tag(), "{notify}");
    alice.expect_nothing_more();
    let request = alice.resubscribe_request(&first, 600);
    assert_eq!(alice.ask(request).status(), Some(481), "the first is gone");
}

fn a_phone_that_starts_again_leaves_no_zombie_rfc6665_4_1_3(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    bob.subscribe("alice");
    let before = alice.subscribe("bob");
    // The same phone at the same address, which knows nothing of it any more.
    let after = alice.subscribe("bob");
    let astray = alice.take_notify(&before.call_id);
    alice.answer(&astray, 481, "Subscription does not exist");
    let tag = bob.publish_basic("open", "one");
    let request = alice.resubscribe_request(&before, 600);
    assert_eq!(alice.ask(request).status(), Some(481), "it has not waited for its end");
    alice.expect_notify_until(&after.call_id, "one", |n| n.body_text().contains("one"));
    bob.publish_as(Some(&pidf("bob", "t1", "closed", "two")), Some(&tag), 600);
    alice.expect_notify_until(&after.call_id, "two", |n| n.body_text().contains("two"));
    alice.expect_nothing_more();
}

fn a_refused_notify_is_sent_again_with_the_latest_state(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let (watching, _) = befriend(&mut alice, &mut bob);
    bob.publish_basic("open", "kept");
    let notify = alice.take_notify(&watching.call_id);
    alice.answer(&notify, 500, "Not now");
    let again = alice
        .await_within(Duration::from_secs(9), |m| m.is_request("NOTIFY") && m.call_id() == watching.call_id)
        .expect("told again");
    alice.answer(&again, 200, "OK");
    assert!(again.body_text().contains("kept") && again.cseq() > notify.cseq(), "{again}");
    alice.expect_nothing_more();
}

fn whoever_is_told_that_the_server_goes_for_good_may_go_elsewhere_rfc6665_4_4_2(
    database: Database,
    via: Transport,
) {
    let mut server = Server::with(database, |config| config.set("subscription.end_at_stop", true));
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    let (of_alice, of_bob) = befriend(&mut alice, &mut bob);
    server.terminate();
    for (phone, watching) in [(&mut alice, &of_alice), (&mut bob, &of_bob)] {
        let last = phone.expect_notify(&watching.call_id);
        let state = last.need("Subscription-State");
        assert_eq!(last.subscription_state(), "terminated", "{last}");
        assert_eq!(param(state, "reason").as_deref(), Some("deactivated"), "{last}");
        assert!(last.body.is_empty(), "{last}");
    }
    assert_eq!(server.wait_for_exit(), 0);
    assert_eq!(server.rows("subscription"), 0);
}

over_each_transport!(
    whoever_is_told_that_the_server_goes_for_good_may_go_elsewhere_rfc6665_4_4_2,
    a_dialog_begun_anew_leaves_nothing_behind_rfc3261_12_1_2,
    a_phone_that_starts_again_leaves_no_zombie_rfc6665_4_1_3,
    a_fetch_gets_one_notify_and_leaves_nothing_rfc6665_4_4_3,
    unsubscribing_ends_with_terminated_rfc6665_4_2_1_4,
    an_unrefreshed_subscription_ends_with_timeout_rfc6665_4_2_1_4,
    a_481_to_notify_ends_the_subscription_rfc6665_4_2_2,
    a_new_contact_is_the_new_target_rfc3261_12_2_2,
);
on_each_database!(
    what_has_ended_stays_ended_over_a_crash_rfc6665_4_1_3,
    a_refused_notify_is_sent_again_with_the_latest_state,
    one_notify_at_a_time_and_the_latest_state_wins_rfc6665_4_2_2,
    a_refresh_with_a_lower_cseq_is_500_rfc3261_12_2_2,
    a_refresh_of_an_unknown_dialog_is_481_rfc6665_4_2_1_4,
    someone_elses_dialog_is_not_refreshed_a32,
    a_silent_udp_watcher_costs_two_packets_a16,
    the_route_set_of_the_subscriber_is_followed_rfc3261_12_2_1_1,
    subscriptions_have_a_limit_rfc6665_6_3,
);

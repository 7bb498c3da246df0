//! SUBSCRIBE for `reg`: which of a user's devices are registered (RFC 3680).

use std::cell::RefCell;
use std::time::{Duration, Instant};

use crate::harness::message::Message;
use crate::harness::phone::aor;
use crate::harness::presence::{Subscription, expires_of};
use crate::harness::{Database, Phone, Request, Server, Transport};

const TYPE: &str = "application/reginfo+xml";

/// One that tells of changes at once, mostly, and lets registrations be short.
fn server(database: Database) -> Server {
    Server::with(database, |config| {
        config.set("presence.notify_interval_ms", 20);
        config.set("registration.min_interval_s", 1);
    })
}

/// A SUBSCRIBE for the registrations of `target`.
fn request_for(phone: &mut Phone, target: &str) -> Request {
    phone.subscribe_request(target, "reg", 600).set("Accept", TYPE)
}

fn watch(phone: &mut Phone) -> Subscription {
    let request = request_for(phone, &phone.user.clone());
    phone.subscribe_with(request)
}

/// Asks once (RFC 6665 4.4.3).
fn fetch(phone: &mut Phone) -> Message {
    let request = request_for(phone, &phone.user.clone()).set("Expires", "0");
    phone.subscribe_with(request).notify
}

/// What an attribute says, of the first element of that name; each element stands on its line.
fn value(text: &str, element: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{element} "))?;
    let (tag, _) = rest.split_once('>')?;
    let tag = format!(" {tag}");
    let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
    rest.split('"').next().map(str::to_owned)
}

/// How the registration stands.
fn state(notify: &Message) -> String {
    value(&notify.body_text(), "registration", "state").expect("a state")
}

fn version(notify: &Message) -> u32 {
    let text = notify.body_text();
    value(&text, "reginfo", "version").and_then(|digits| digits.parse().ok()).expect("a version")
}

/// Id, event and URI of every contact.
fn contacts(notify: &Message) -> Vec<[String; 3]> {
    let text = notify.body_text();
    let contact = |line: &str| {
        assert_eq!(value(line, "contact", "state").as_deref(), Some("active"), "{line}");
        let uri = line.split_once("<uri>")?.1.split_once("</uri>")?.0.to_owned();
        Some([value(line, "contact", "id")?, value(line, "contact", "event")?, uri])
    };
    text.lines().filter(|line| line.starts_with("<contact ")).map(|line| contact(line).expect(line)).collect()
}

fn uris(notify: &Message) -> Vec<String> {
    contacts(notify).into_iter().map(|[_, _, uri]| uri).collect()
}

fn ones_devices_are_told_of_each_other_rfc3680_4_7(database: Database, via: Transport) {
    let server = server(database);
    let mut mobile = Phone::new(&server, "bob", via);
    let mut desk = Phone::new(&server, "bob", via);
    let watching = watch(&mut mobile);
    let first = &watching.notify;
    assert_eq!((first.need("Event"), first.need("Content-Type")), ("reg", TYPE), "{first}");
    assert_eq!((state(first).as_str(), version(first)), ("init", 0), "{first}");
    assert!(contacts(first).is_empty() && first.body_text().contains("state=\"full\""), "{first}");
    assert_eq!(value(&first.body_text(), "registration", "aor"), Some(aor("bob")), "{first}");
    let id = value(&first.body_text(), "registration", "id");

    let contact = format!("{};q=0.5;+sip.instance=\"<urn:uuid:m>\";audio", mobile.contact());
    mobile.register_contact(&contact, Some(600));
    let one = mobile.expect_notify(&watching.call_id);
    assert_eq!((state(&one).as_str(), version(&one)), ("active", 1), "{one}");
    let [mobile_id, event, uri] = &contacts(&one)[0];
    assert_eq!((event.as_str(), uri), ("registered", &mobile.contact_uri()), "{one}");
    let text = one.body_text();
    assert_eq!(value(&text, "contact", "q").as_deref(), Some("0.5"), "{text}");
    assert!(text.contains("name=\"+sip.instance\">&quot;&lt;urn:uuid:m&gt;&quot;</unknown-param>"), "{text}");
    assert!(text.contains("<unknown-param name=\"audio\"></unknown-param>"), "{text}");

    desk.register();
    let two = mobile.expect_notify(&watching.call_id);
    assert_eq!(uris(&two), [mobile.contact_uri(), desk.contact_uri()], "{two}");
    assert_eq!((&contacts(&two)[0][0], version(&two)), (mobile_id, 2), "its id stays: {two}");
    assert_ne!(&contacts(&two)[1][0], mobile_id, "{two}");

    // Who comes later sees all there is, and a version of its own.
    let fetched = fetch(&mut desk);
    assert_eq!((contacts(&fetched), version(&fetched)), (contacts(&two), 0), "{fetched}");

    desk.register_contact(&desk.contact(), Some(0));
    let left = mobile.expect_notify(&watching.call_id);
    assert_eq!((uris(&left), state(&left).as_str()), (vec![mobile.contact_uri()], "active"), "{left}");
    mobile.register_contact("*", Some(0));
    let last = mobile.expect_notify(&watching.call_id);
    assert_eq!((contacts(&last).len(), state(&last).as_str()), (0, "terminated"), "{last}");
    assert_eq!(value(&last.body_text(), "registration", "id"), id, "{last}");
    // That it is as if nothing had ever been is no news (4.7.1), but what who asks is told.
    mobile.expect_nothing_more();
    assert_eq!(state(&fetch(&mut mobile)), "init");
}

fn a_device_that_stays_away_is_gone_when_its_time_is_over_rfc3680_4_7_1(database: Database, via: Transport) {
    let server = server(database);
    let mut mobile = Phone::new(&server, "bob", via);
    let mut desk = Phone::new(&server, "bob", via);
    mobile.register();
    desk.register_contact(&desk.contact(), Some(3));
    let watching = watch(&mut mobile);
    assert_eq!(uris(&watching.notify), [mobile.contact_uri(), desk.contact_uri()]);
    let without = mobile.expect_notify(&watching.call_id);
    assert_eq!(uris(&without), [mobile.contact_uri()], "{without}");
    // A refresh alone is no news; with the next change it is told.
    mobile.register();
    mobile.expect_nothing_more();
    desk.register();
    let again = mobile.expect_notify(&watching.call_id);
    let events: Vec<_> = contacts(&again).into_iter().map(|[_, event, _]| event).collect();
    assert_eq!(events, ["refreshed", "registered"], "{again}");
}

fn versions_grow_over_a_crash_rfc3680_5_1(database: Database) {
    let mut server = server(database);
    let mut mobile = Phone::new(&server, "bob", Transport::Udp);
    let mut desk = Phone::new(&server, "bob", Transport::Udp);
    mobile.register();
    let watching = watch(&mut mobile);
    desk.register();
    let before = mobile.expect_notify(&watching.call_id);
    assert_eq!((uris(&before).len(), version(&before)), (2, 1), "{before}");
    server.kill9();
    server.restart();
    let after = mobile.expect_notify_until(&watching.call_id, "after the crash", |_| true);
    assert_eq!(contacts(&after), contacts(&before), "ids are the same: {after}");
    assert!(version(&after) > version(&before), "{after}");
    let registration = |notify: &Message| value(&notify.body_text(), "registration", "id");
    assert_eq!(registration(&after), registration(&before));
    desk.register_contact(&desk.contact(), Some(0));
    let next = mobile.expect_notify(&watching.call_id);
    assert_eq!((uris(&next).len(), version(&next) > version(&after)), (1, true), "{next}");
}

fn devices_are_nobody_elses_business_rfc3680_4_6(database: Database, via: Transport) {
    let server = Server::with(database, |config| config.set("presence.default_rule", "full"));
    let mut bob = Phone::new(&server, "bob", via);
    bob.register();
    let mut alice = Phone::new(&server, "alice", via);
    let request = request_for(&mut alice, "bob");
    let unproved = alice.transact(&request);
    assert_eq!(unproved.status(), Some(401), "{unproved}");
    alice.learn(&unproved);
    let request = request_for(&mut alice, "bob");
    let response = alice.ask(request);
    assert_eq!(response.status(), Some(403), "{response}");
    alice.expect_nothing_more();
}

fn who_asks_for_nothing_gets_3761_seconds_and_reginfo_rfc3680_4_4(database: Database) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    let request = request_for(&mut bob, "bob").without("Expires").without("Accept");
    let watching = bob.subscribe_with(request);
    assert_eq!(watching.response.need("Expires"), "3761", "{}", watching.response);
    let left = expires_of(watching.notify.need("Subscription-State")).expect("expires");
    assert!((3_750..=3_761).contains(&left), "{}", watching.notify);
    assert_eq!(watching.notify.need("Content-Type"), TYPE, "{}", watching.notify);
    let request = bob.subscribe_request("bob", "reg", 600);
    let response = bob.ask(request);
    assert_eq!((response.status(), response.need("Accept")), (Some(406), TYPE), "{response}");
    // What is registered is said by REGISTER and by nothing else.
    let request = bob.publish_request(None, None, 600).set("Event", "reg").body(TYPE, b"<reginfo/>");
    let response = bob.ask(request);
    assert_eq!(response.status(), Some(489), "{response}");
    assert!(!response.list("Allow-Events").contains(&"reg".to_string()), "{response}");
}

fn changes_come_once_in_five_seconds_at_most_rfc3680_4_10(database: Database) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    let watching = watch(&mut bob);
    let mut others: Vec<_> = (0..7).map(|_| Phone::new(&server, "bob", Transport::Tcp)).collect();
    let told = RefCell::new(Vec::new());
    let counts = |notify: &Message, wanted: usize| {
        told.borrow_mut().push(Instant::now());
        contacts(notify).len() == wanted
    };
    others[0].register();
    // Each is read when it comes, so that its time is known.
    bob.expect_notify_until(&watching.call_id, "of the first", |notify| counts(notify, 1));
    for phone in &mut others[1..] {
        phone.register();
    }
    bob.expect_notify_until(&watching.call_id, "of all of them", |notify| counts(notify, 7));
    others[0].register_contact("*", Some(0));
    bob.expect_notify_until(&watching.call_id, "of none of them", |notify| counts(notify, 0));
    let told = told.into_inner();
    let between: Vec<_> = told.windows(2).map(|two| two[1].duration_since(two[0])).collect();
    // One that is read late, on a busy machine, seems nearer to the next.
    let are_far_apart = between.iter().all(|time| *time >= Duration::from_millis(4_500));
    assert!(are_far_apart && (2..=3).contains(&between.len()), "{between:?}");
}

over_each_transport!(
    ones_devices_are_told_of_each_other_rfc3680_4_7,
    a_device_that_stays_away_is_gone_when_its_time_is_over_rfc3680_4_7_1,
    devices_are_nobody_elses_business_rfc3680_4_6,
);
on_each_database!(
    versions_grow_over_a_crash_rfc3680_5_1,
    who_asks_for_nothing_gets_3761_seconds_and_reginfo_rfc3680_4_4,
    changes_come_once_in_five_seconds_at_most_rfc3680_4_10,
);

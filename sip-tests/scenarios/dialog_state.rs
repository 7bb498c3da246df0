//! SUBSCRIBE and PUBLISH for `dialog`: lamps, and the calls of one's own devices (RFC 4235).

use std::time::{Duration, Instant};

use crate::harness::message::Message;
use crate::harness::phone::aor;
use crate::harness::presence::{Subscription, befriend};
use crate::harness::{Database, Phone, Request, Server, Transport};

const TYPE: &str = "application/dialog-info+xml";

fn request_for(phone: &mut Phone, target: &str, event: &str) -> Request {
    phone.subscribe_request(target, event, 600).set("Accept", TYPE)
}

fn watch(phone: &mut Phone, target: &str) -> Subscription {
    let request = request_for(phone, target, "dialog");
    phone.subscribe_with(request)
}

/// A document with these dialogs.
fn document(user: &str, dialogs: &[String]) -> String {
    format!(
        "<?xml version=\"1.0\"?><dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" version=\"7\" state=\"full\" entity=\"{}\">{}</dialog-info>",
        aor(user),
        dialogs.concat()
    )
}

/// A call with carol, by its Call-ID.
fn call(call_id: &str, direction: &str, state: &str) -> String {
    format!(
        "<dialog id=\"{call_id}\" call-id=\"{call_id}@phone\" local-tag=\"l-{call_id}\" remote-tag=\"r-{call_id}\" direction=\"{direction}\">\
         <state>{state}</state><remote><identity display=\"Carol\">{}</identity>\
         <target uri=\"sip:carol@192.0.2.77:5060\"/></remote></dialog>",
        aor("carol")
    )
}

fn publication(phone: &mut Phone, dialogs: Option<&[String]>, tag: Option<&str>) -> Request {
    let user = phone.user.clone();
    let request = phone.publish_request(None, tag, 600).set("Event", "dialog");
    match dialogs {
        Some(dialogs) => request.body(TYPE, document(&user, dialogs).as_bytes()),
        None => request,
    }
}

fn publish(phone: &mut Phone, dialogs: Option<&[String]>, tag: Option<&str>) -> String {
    let request = publication(phone, dialogs, tag);
    let response = phone.ask(request);
    assert_eq!(response.status(), Some(200), "{response}");
    response.need("SIP-ETag").to_string()
}

fn value<'a>(text: &'a str, attribute: &str) -> &'a str {
    let root = text.find("<dialog-info").unwrap_or_else(|| panic!("no document: {text}"));
    let from =
        text[root..].find(&format!(" {attribute}=\"")).unwrap_or_else(|| panic!("{attribute} in {text}"));
    text[root + from..].split('"').nth(1).unwrap_or_default()
}

fn version(notify: &Message) -> u32 {
    value(&notify.body_text(), "version").parse().expect("a number")
}

/// The states that are shown, in order.
fn states(notify: &Message) -> Vec<String> {
    let text = notify.body_text();
    let parts = text.split("<state").skip(1);
    parts.filter_map(|part| Some(part.split_once('>')?.1.split('<').next()?.to_string())).collect()
}

fn ones_own_devices_see_every_call_rfc4235_3_6(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut desk = Phone::new(&server, "bob", via);
    let mut mobile = Phone::new(&server, "bob", via);
    let watching = watch(&mut mobile, "bob");
    let first = &watching.notify;
    assert_eq!((first.subscription_state(), first.need("Content-Type")), ("active".into(), TYPE), "{first}");
    assert_eq!((version(first), value(&first.body_text(), "state").to_string()), (0, "full".into()));
    assert!(states(first).is_empty() && value(&first.body_text(), "entity") == aor("bob"), "{first}");
    // No Accept means this type (3.5).
    let mut second = Phone::new(&server, "bob", via);
    let request = request_for(&mut second, "bob", "dialog").without("Accept");
    assert_eq!(second.subscribe_with(request).notify.need("Content-Type"), TYPE);

    let tag = publish(&mut desk, Some(&[call("c1", "recipient", "early")]), None);
    let ringing = mobile.expect_notify(&watching.call_id);
    let text = ringing.body_text();
    assert_eq!((states(&ringing), version(&ringing)), (vec!["early".to_string()], 1), "{ringing}");
    for shown in
        ["call-id=\"c1@phone\"", "local-tag=\"l-c1\"", "remote-tag=\"r-c1\"", "direction=\"recipient\""]
    {
        assert!(text.contains(shown), "{shown} in {text}");
    }
    assert!(text.contains(&format!("<identity display=\"Carol\">{}</identity>", aor("carol"))), "{text}");
    let tag = publish(&mut desk, Some(&[call("c1", "recipient", "confirmed")]), Some(&tag));
    let talking = mobile.expect_notify(&watching.call_id);
    assert_eq!((states(&talking), version(&talking)), (vec!["confirmed".to_string()], 2), "{talking}");
    assert_eq!(value(&talking.body_text(), "id"), value(&text, "id"), "it stays the same dialog");
    let tag = publish(&mut desk, Some(&[call("c1", "recipient", "terminated")]), Some(&tag));
    let over = mobile.expect_notify(&watching.call_id);
    assert_eq!(states(&over), ["terminated"], "{over}");
    // An end is told once, and not to who comes later; nothing that has ended comes back.
    let mut late = Phone::new(&server, "bob", via);
    assert!(states(&watch(&mut late, "bob").notify).is_empty());
    let again = [call("c1", "recipient", "confirmed"), call("c2", "initiator", "trying")];
    publish(&mut desk, Some(&again), Some(&tag));
    let next = mobile.expect_notify(&watching.call_id);
    assert_eq!(states(&next), ["trying"], "{next}");
    assert!(version(&next) > version(&over) && !next.body_text().contains("c1@phone"), "{next}");
}

fn others_see_that_the_line_is_busy_and_no_more_rfc4235_3_7_2(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    befriend(&mut alice, &mut bob);
    let lamp = watch(&mut alice, "bob");
    assert_eq!(lamp.notify.subscription_state(), "active", "{}", lamp.notify);
    assert!(states(&lamp.notify).is_empty(), "no telephone: {}", lamp.notify);
    bob.register();
    let idle = alice.expect_notify(&lamp.call_id);
    assert_eq!(states(&idle), ["terminated"], "{idle}");
    let (mut tag, mut last) = (None, version(&idle));
    for (calls, line) in [
        (vec![call("c1", "recipient", "early")], "early"),
        (vec![call("c1", "recipient", "confirmed")], "confirmed"),
        (vec![call("c1", "recipient", "terminated"), call("c2", "recipient", "early")], "early"),
        (vec![call("c2", "recipient", "terminated"), call("c3", "initiator", "early")], "confirmed"),
        (vec![], "terminated"),
    ] {
        tag = Some(publish(&mut bob, Some(&calls), tag.as_deref()));
        let now = alice.expect_notify(&lamp.call_id);
        assert_eq!(states(&now), [line], "{now}");
        assert!(version(&now) > last, "{now}");
        last = version(&now);
        let text = now.body_text();
        for private in ["c1", "c2", "c3", "carol", "Carol", "call-id", "tag=", "direction", "target"] {
            assert!(!text.contains(private), "{private} in {text}");
        }
    }
    bob.register_contact("*", Some(0));
    let gone = alice.expect_notify(&lamp.call_id);
    assert!(states(&gone).is_empty(), "{gone}");
}

fn who_may_not_see_presence_sees_no_calls_rfc4235_3_6(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    publish(&mut bob, Some(&[call("c1", "recipient", "confirmed")]), None);
    let request = request_for(&mut alice, "bob", "dialog");
    let unproved = alice.transact(&request);
    assert_eq!(unproved.status(), Some(401), "{unproved}");
    alice.learn(&unproved);
    let waiting = watch(&mut alice, "bob");
    assert_eq!(waiting.notify.subscription_state(), "pending", "{}", waiting.notify);
    assert!(waiting.notify.body.is_empty(), "{}", waiting.notify);
    // Single dialogs are not for others at all (3.7.2).
    let request = request_for(&mut alice, "bob", "dialog;call-id=\"c1@phone\";to-tag=l-c1;from-tag=r-c1");
    assert_eq!(alice.ask(request).status(), Some(403));
    alice.expect_nothing_more();
}

fn event_selects_dialogs_rfc4235_3_2(database: Database) {
    let mut server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    let calls = [
        call("c1", "initiator", "early"),
        call("c1", "initiator", "confirmed").replace("id=\"c1\" ", "id=\"fork\" ").replace("r-c1", "r-fork"),
        call("c2", "recipient", "confirmed"),
    ];
    publish(&mut bob, Some(&calls), None);
    let mut kept = None;
    for (params, shown) in [
        ("", vec!["early", "confirmed", "confirmed"]),
        (";call-id=\"c1@phone\";to-tag=l-c1", vec!["early", "confirmed"]),
        (";call-id=\"c1@phone\";to-tag=l-c1;from-tag=r-fork;include-session-description", vec!["confirmed"]),
        (";call-id=\"c3@phone\";to-tag=l-c1;from-tag=r-c1", vec![]),
    ] {
        let mut device = Phone::new(&server, "bob", Transport::Tcp);
        let request = request_for(&mut device, "bob", &format!("dialog{params}"));
        let watching = device.subscribe_with(request);
        assert_eq!(states(&watching.notify), shown, "{params}:\n{}", watching.notify);
        kept = kept.or(Some(watching).filter(|_| shown.len() == 2));
    }
    for params in [";call-id=\"c1@phone\"", ";to-tag=l-c1", ";from-tag=r-c1"] {
        let request = request_for(&mut bob, "bob", &format!("dialog{params}"));
        assert_eq!(bob.ask(request).status(), Some(400), "{params}");
    }
    // What was selected outlives a crash, and versions go on.
    let watching = kept.expect("one of them");
    server.kill9();
    server.restart();
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    bob.continue_cseq(1_000);
    let refresh = bob
        .resubscribe_request(&watching, 600)
        .set("Event", "dialog;call-id=\"c1@phone\";to-tag=l-c1")
        .set("Accept", TYPE);
    assert_eq!(bob.ask(refresh).status(), Some(200));
    let told = bob.expect_notify(&watching.call_id);
    assert_eq!(states(&told), ["early", "confirmed"], "{told}");
    assert!(version(&told) > version(&watching.notify), "{told}");
}

fn a_device_is_not_told_of_its_own_end_of_a_call_rfc4235_3_3(database: Database) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    let mut desk = Phone::new(&server, "bob", Transport::Tcp);
    let watching = watch(&mut bob, "bob");
    let with_itself =
        call("c1", "recipient", "early").replace("sip:carol@192.0.2.77:5060", &bob.contact_uri());
    let tag = publish(&mut desk, Some(std::slice::from_ref(&with_itself)), None);
    publish(&mut desk, Some(&[with_itself, call("c2", "recipient", "early")]), Some(&tag));
    let told = bob.expect_notify(&watching.call_id);
    assert_eq!((states(&told).len(), version(&told)), (1, 1), "nothing was sent of the first one:\n{told}");
    assert!(told.body_text().contains("c2@phone"), "{told}");
}

fn several_publishers_are_one_view_and_an_early_call_ends_with_its_publisher_rfc3903_10(database: Database) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    let mut desk = Phone::new(&server, "bob", Transport::Tcp);
    let mut mobile = Phone::new(&server, "bob", Transport::Tcp);
    let desk_tag = publish(&mut desk, Some(&[call("c1", "recipient", "early")]), None);
    let both = [call("c1", "recipient", "confirmed"), call("c2", "recipient", "early")];
    let mobile_tag = publish(&mut mobile, Some(&both), None);
    let watching = watch(&mut bob, "bob");
    assert_eq!(states(&watching.notify), ["confirmed", "early"], "one c1, one c2:\n{}", watching.notify);
    let request = publication(&mut mobile, None, Some(&mobile_tag)).set("Expires", "0");
    assert_eq!(mobile.ask(request).status(), Some(200));
    let left = bob.expect_notify(&watching.call_id);
    assert_eq!(states(&left), ["early"], "{left}");
    let request = publication(&mut desk, None, Some(&desk_tag)).set("Expires", "0");
    assert_eq!(desk.ask(request).status(), Some(200));
    let none = bob.expect_notify(&watching.call_id);
    assert!(states(&none).is_empty(), "{none}");
}

fn changes_come_once_a_second_at_most_rfc4235_3_10(database: Database) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    let mut desk = Phone::new(&server, "bob", Transport::Tcp);
    let watching = watch(&mut bob, "bob");
    let mut tag = publish(&mut desk, Some(&[call("c0", "recipient", "early")]), None);
    bob.expect_notify(&watching.call_id);
    let began = Instant::now();
    let mut told = 0_u32;
    for n in 1..=20 {
        tag = publish(&mut desk, Some(&[call(&format!("c{n}"), "recipient", "early")]), Some(&tag));
    }
    bob.expect_notify_until(&watching.call_id, "the last call", |notify| {
        notify.body_text().contains("c20@phone")
    });
    for n in 21..=22 {
        told += 1;
        let call_id = format!("c{n}");
        tag = publish(&mut desk, Some(&[call(&call_id, "recipient", "early")]), Some(&tag));
        bob.expect_notify_until(&watching.call_id, "the next call", |notify| {
            notify.body_text().contains(&format!("{call_id}@phone"))
        });
    }
    let took = began.elapsed();
    assert!(told == 2 && took >= Duration::from_millis(2_900), "three more took {took:?}");
}

fn what_is_no_dialog_state_is_refused_rfc3903_6_5(database: Database) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    let whole = document("bob", &[call("c1", "recipient", "early")]);
    for (broken, status) in [
        (whole.replace("state=\"full\"", "state=\"partial\""), 400),
        (whole.replace("<state>early</state>", ""), 400),
        (whole.replace(">early<", ">humming<"), 400),
        (whole.replace("</dialog-info>", ""), 400),
        (whole.replace("<?xml version=\"1.0\"?>", "<!DOCTYPE x [<!ENTITY y \"z\">]>"), 415),
        (whole.replace(&format!("entity=\"{}\"", aor("bob")), &format!("entity=\"{}\"", aor("alice"))), 403),
    ] {
        let request = publication(&mut bob, None, None).body(TYPE, broken.as_bytes());
        let response = bob.ask(request);
        assert_eq!(response.status(), Some(status), "{broken}:\n{response}");
    }
    let request = publication(&mut bob, None, None).body("application/pidf+xml", b"<presence/>");
    let response = bob.ask(request);
    assert_eq!((response.status(), response.need("Accept")), (Some(415), TYPE), "{response}");
    assert!(states(&watch(&mut bob, "bob").notify).is_empty());
}

fn who_is_in_a_call_is_on_the_phone_rfc4480_3_2(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let (watching, _) = befriend(&mut bob, &mut alice);
    let is_on_the_phone = |m: &Message| m.body_text().contains("on-the-phone");
    let early = [call("c1", "recipient", "early")];
    let tag = publish(&mut alice, Some(&early), None);
    let up = [call("c1", "recipient", "confirmed")];
    let tag = publish(&mut alice, Some(&up), Some(&tag));
    let notify = bob.expect_notify_until(&watching.call_id, "on-the-phone", is_on_the_phone);
    assert!(!notify.body_text().contains("c1@phone"), "nobody is told with whom:\n{notify}");
    publish(&mut alice, None, Some(&tag));
    let over = [call("c1", "recipient", "terminated")];
    publish(&mut alice, Some(&over), None);
    bob.expect_notify_until(&watching.call_id, "not on the phone", |m| !is_on_the_phone(m));
}

over_each_transport!(
    ones_own_devices_see_every_call_rfc4235_3_6,
    others_see_that_the_line_is_busy_and_no_more_rfc4235_3_7_2,
);
on_each_database!(
    who_may_not_see_presence_sees_no_calls_rfc4235_3_6,
    who_is_in_a_call_is_on_the_phone_rfc4480_3_2,
    event_selects_dialogs_rfc4235_3_2,
    a_device_is_not_told_of_its_own_end_of_a_call_rfc4235_3_3,
    several_publishers_are_one_view_and_an_early_call_ends_with_its_publisher_rfc3903_10,
    changes_come_once_a_second_at_most_rfc4235_3_10,
    what_is_no_dialog_state_is_refused_rfc3903_6_5,
);

//! What watchers see of several sources (RFC 4479, RFC 4480 3.1, RFC 5196).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::harness::documents::{basics, pidf};
use crate::harness::phone::aor;
use crate::harness::{Database, Phone, Server, Transport};

const INSTANCE: &str = "+sip.instance=\"<urn:uuid:00000000-0000-0000-0000-000000000007>\"";

fn a_device_that_has_left_is_closed_until_it_comes_back(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut watcher = Phone::new(&server, "bob", Transport::Udp);
    let watching = watcher.subscribe("bob");
    let mut mobile = Phone::new(&server, "bob", via);
    let contact = format!("{};{INSTANCE}", mobile.contact());
    mobile.register_contact(&contact, Some(600));
    mobile.publish(&pidf("bob", "t1", "open", "mobile"));
    let is = |expected: &'static str| {
        move |m: &crate::harness::Message| {
            m.body_text().contains("mobile") && basics(&m.body_text()) == [expected]
        }
    };
    watcher.expect_notify_until(&watching.call_id, "open", is("open"));
    mobile.register_contact(&contact, Some(0));
    watcher.expect_notify_until(&watching.call_id, "closed", is("closed"));
    mobile.register_contact(&contact, Some(600));
    watcher.expect_notify_until(&watching.call_id, "open again", is("open"));
}

fn a_registered_device_says_what_it_can_do_rfc5196_3(database: Database) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let watching = bob.subscribe("bob");
    let contact =
        format!("{};audio;video=\"FALSE\";methods=\"INVITE,MESSAGE\";mobility=\"fixed\"", bob.contact());
    bob.register_contact(&contact, Some(600));
    let seen = bob.expect_notify_until(&watching.call_id, "servcaps", |m| m.body_text().contains("servcaps"));
    for expected in [
        "<caps:audio>true</caps:audio>",
        "<caps:methods><caps:supported><caps:INVITE/><caps:MESSAGE/></caps:supported></caps:methods>",
        "<caps:video>false</caps:video>",
        "<caps:devcaps><caps:mobility><caps:supported><caps:fixed/>",
    ] {
        assert!(seen.body_text().contains(expected), "{expected} in {seen}");
    }
    assert_eq!(basics(&seen.body_text()), ["open"]);
}

fn an_activity_is_shown_from_its_beginning_to_its_end_rfc4480_3_1(database: Database) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let watching = bob.subscribe("bob");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let (from, until) = (date_time(now + Duration::from_secs(2)), date_time(now + Duration::from_secs(3)));
    let document = format!(
        "<?xml version=\"1.0\"?><presence xmlns=\"urn:ietf:params:xml:ns:pidf\" xmlns:dm=\"urn:ietf:params:xml:ns:pidf:data-model\" \
         xmlns:r=\"urn:ietf:params:xml:ns:pidf:rpid\" entity=\"{}\"><dm:person id=\"p\"><r:activities from=\"{from}\" until=\"{until}\">\
         <r:lunch/></r:activities><dm:note>working</dm:note></dm:person></presence>",
        aor("bob")
    );
    bob.publish(&document);
    let is = |lunch: bool| {
        move |m: &crate::harness::Message| {
            m.body_text().contains("working") && m.body_text().contains("lunch") == lunch
        }
    };
    bob.expect_notify_until(&watching.call_id, "before", is(false));
    bob.expect_notify_until(&watching.call_id, "meanwhile", is(true));
    let begun = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    assert!(begun.as_millis() / 1_000 >= (now + Duration::from_secs(2)).as_millis() / 1_000, "not too early");
    bob.expect_notify_until(&watching.call_id, "after", is(false));
}

fn a_timestamp_said_twice_is_shown_once_rfc3863_4_1_7(database: Database) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let watching = bob.subscribe("bob");
    let stamp = "<timestamp>2026-01-01T00:00:00Z</timestamp>";
    let mut tag = None;
    let mut shown = Vec::new();
    for note in ["first", "second", "third"] {
        let document = pidf("bob", "t1", "open", note).replace("</tuple>", &format!("{stamp}</tuple>"));
        tag = Some(bob.publish_as(Some(&document), tag.as_deref(), 600));
        let seen =
            bob.expect_notify_until(&watching.call_id, note, |m| m.body_text().contains(note)).body_text();
        shown.push(seen.split("timestamp>").nth(1).expect("a timestamp").to_string());
    }
    assert_eq!(shown[0], "2026-01-01T00:00:00Z</");
    assert!(shown[0] != shown[1] && shown[1] < shown[2], "{shown:?}");
}

/// RFC 3339, whole seconds.
fn date_time(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs();
    let (mut days, of_day) = (seconds / 86_400, seconds % 86_400);
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut month = 0;
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", month + 1, days + 1)
}

over_each_transport!(a_device_that_has_left_is_closed_until_it_comes_back,);
on_each_database!(
    a_registered_device_says_what_it_can_do_rfc5196_3,
    an_activity_is_shown_from_its_beginning_to_its_end_rfc4480_3_1,
    a_timestamp_said_twice_is_shown_once_rfc3863_4_1_7,
);

//! SUBSCRIBE for `presence.winfo`: who watches, who asks to, and what the owner makes of it (RFC 3857, RFC 3858).

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::phone::aor;
use crate::harness::presence::{Subscription, expires_of};
use crate::harness::web::{RULES, document};
use crate::harness::{Database, Message, Phone, Request, Server, Transport, Web};
use crate::scenarios::rules::{ALL, BOB, SOON, rule, ruleset, secrets};

const TYPE: &str = "application/watcherinfo+xml";

/// One that tells of changes at once, mostly, and lets subscriptions be short.
fn server(database: Database) -> Server {
    Server::with(database, |config| {
        config.set("http.listen", "127.0.0.1:0");
        config.set("presence.notify_interval_ms", 20);
        config.set("subscription.min_interval_s", 1);
    })
}

fn request_for(phone: &mut Phone, target: &str) -> Request {
    phone.subscribe_request(target, "presence.winfo", 600).set("Accept", TYPE)
}

fn watch(alice: &mut Phone) -> Subscription {
    let request = request_for(alice, "alice");
    let watching = alice.subscribe_with(request);
    let first = &watching.notify;
    assert_eq!((first.need("Event"), first.need("Content-Type")), ("presence.winfo", TYPE), "{first}");
    assert!(is_full(first), "{first}");
    watching
}

/// A SUBSCRIBE in the dialog, and the NOTIFY it brings.
fn refresh(alice: &mut Phone, watching: &Subscription) -> Message {
    let request = alice.resubscribe_request(watching, 600).set("Event", "presence.winfo").set("Accept", TYPE);
    let response = alice.ask(request);
    assert_eq!(response.status(), Some(200), "{response}");
    alice.expect_notify(&watching.call_id)
}

/// Who is listed by a NOTIFY.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Watcher {
    id: String,
    /// User, status and event.
    said: [String; 3],
    expiration: Option<u32>,
    duration: u32,
}

fn value(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!(" {name}=\""))?;
    rest.split('"').next().map(str::to_owned)
}

fn watchers(notify: &Message) -> Vec<Watcher> {
    let text = notify.body_text();
    assert_valid(&text);
    assert!(!text.contains("127.0.0.1") && !text.contains("display-name"), "an AoR and nothing else: {text}");
    assert_eq!(value(&text, "resource"), Some(aor("alice")), "{text}");
    assert_eq!(value(&text, "package").as_deref(), Some("presence"), "{text}");
    let watcher = |line: &str| {
        let uri = line.split_once('>')?.1.split('<').next()?;
        let user = uri.strip_prefix("sip:")?.split('@').next()?.to_owned();
        assert_eq!(uri, aor(&user), "{text}");
        Some(Watcher {
            id: value(line, "id")?,
            said: [user, value(line, "status")?, value(line, "event")?],
            expiration: value(line, "expiration").and_then(|digits| digits.parse().ok()),
            duration: value(line, "duration-subscribed")?.parse().ok()?,
        })
    };
    text.lines().filter(|line| line.starts_with("<watcher ")).map(|line| watcher(line).expect(line)).collect()
}

fn said(notify: &Message) -> Vec<[String; 3]> {
    watchers(notify).into_iter().map(|watcher| watcher.said).collect()
}

fn one(user: &str, status: &str, event: &str) -> [String; 3] {
    [user, status, event].map(str::to_owned)
}

fn is_full(notify: &Message) -> bool {
    match value(&notify.body_text(), "state").as_deref() {
        Some("full") => true,
        Some("partial") => false,
        other => panic!("{other:?}: {notify}"),
    }
}

fn version(notify: &Message) -> u32 {
    let (_, rest) = notify
        .body_text()
        .split_once("<watcherinfo ")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .expect("a root");
    value(&format!(" {rest}"), "version").and_then(|digits| digits.parse().ok()).expect("a version")
}

/// As the schema of RFC 3858 6 has it, if there is a program that can tell.
fn assert_valid(document: &str) {
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/sip-tests/schema/watcherinfo.xsd");
    let child = Command::new("xmllint")
        .args(["--nonet", "--noout", "--schema", schema, "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else { return };
    child.stdin.take().expect("a pipe").write_all(document.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("an end");
    assert!(output.status.success(), "{}\n{document}", String::from_utf8_lossy(&output.stderr));
}

fn cli(server: &Server, arguments: &[&str]) -> String {
    let output = server.cli(arguments, "");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Asks once, without a subscription.
fn fetch(bob: &mut Phone, target: &str) -> Message {
    let request = bob.subscribe_request(target, "presence", 0);
    bob.subscribe_with(request).notify
}

/// Watches for so many seconds.
fn subscribe_for(bob: &mut Phone, seconds: u32) -> Subscription {
    let request = bob.subscribe_request("alice", "presence", seconds);
    bob.subscribe_with(request)
}

fn the_owner_learns_who_asks_and_decides_rfc3857_4_7(database: Database, via: Transport) {
    let server = server(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    let mut web = Web::new(&server, "alice");
    alice.publish(&secrets());
    let watching = watch(&mut alice);
    assert_eq!((version(&watching.notify), said(&watching.notify).len()), (0, 0));

    let asking = bob.subscribe("alice");
    assert_eq!(asking.notify.subscription_state(), "pending");
    let asked = alice.expect_notify(&watching.call_id);
    assert_eq!((is_full(&asked), version(&asked)), (false, 1), "{asked}");
    assert_eq!(said(&asked), [one("bob", "pending", "subscribe")], "{asked}");
    let id = watchers(&asked)[0].id.clone();
    assert!(!asking.response.need("Contact").contains(&id), "nobody is told how a dialog is named");
    assert!(cli(&server, &["rules", "alice", "pending"]).contains("bob (since "));
    assert!(cli(&server, &["rules", "alice"]).contains("asks          bob (since "));

    let since = Instant::now();
    let index = document("pres-rules", "alice", "index");
    let written = web.put(&index, RULES, &ruleset(&rule("a", BOB, "allow", ALL)));
    assert_eq!(written.status, 201, "{written:?}");
    let active = bob.expect_notify(&asking.call_id);
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
    assert_eq!(active.subscription_state(), "active", "{active}");
    assert!(active.body_text().contains("SECRET-NOTE"), "{active}");
    let approved = alice.expect_notify(&watching.call_id);
    assert_eq!((is_full(&approved), version(&approved)), (false, 2), "{approved}");
    assert_eq!(said(&approved), [one("bob", "active", "approved")], "{approved}");
    assert_eq!(watchers(&approved)[0].id, id, "it keeps its name: {approved}");
    assert_eq!(
        cli(&server, &["rules", "alice", "pending"]).trim(),
        format!("nobody asks to see {}", &aor("alice")[4..])
    );

    // Who asks is told of all of them, with the times of the moment.
    let whole = refresh(&mut alice, &watching);
    assert_eq!((is_full(&whole), version(&whole)), (true, 3), "{whole}");
    assert_eq!(said(&whole), [one("bob", "active", "approved")], "{whole}");
    let listed = &watchers(&whole)[0];
    let left = expires_of(active.need("Subscription-State")).expect("expires");
    assert!(listed.expiration.is_some_and(|s| s.abs_diff(left) <= 2) && listed.duration <= 5, "{whole}");

    // Back to waiting, and away.
    assert_eq!(web.delete(&index).status, 200);
    cli(&server, &["rules", "alice", "confirm", "bob"]);
    let pending =
        bob.expect_notify_until(&asking.call_id, "pending", |m| m.subscription_state() == "pending");
    assert!(!pending.body_text().contains("SECRET"), "{pending}");
    let back = alice.expect_notify_until(&watching.call_id, "of who asks again", |m| {
        said(m) == [one("bob", "pending", "subscribe")]
    });
    assert_eq!(watchers(&back)[0].id, id, "{back}");
    cli(&server, &["rules", "alice", "block", "bob"]);
    let end = bob.expect_notify(&asking.call_id);
    assert!(end.need("Subscription-State").contains("reason=rejected"), "{end}");
    let rejected = alice.expect_notify(&watching.call_id);
    assert_eq!(said(&rejected), [one("bob", "terminated", "rejected")], "{rejected}");
    assert_eq!((is_full(&rejected), watchers(&rejected)[0].id == id), (false, true), "{rejected}");
    alice.expect_nothing_more();
}

fn who_asked_at_night_is_seen_in_the_morning_rfc3857_4_7_1(database: Database, via: Transport) {
    let mut server = server(database);
    let mut bob = Phone::new(&server, "bob", via);
    let asking = subscribe_for(&mut bob, 1);
    assert_eq!(asking.notify.subscription_state(), "pending");
    let end = bob.expect_notify(&asking.call_id);
    assert!(end.need("Subscription-State").contains("reason=timeout"), "{end}");
    assert_eq!((server.rows("subscription"), server.rows("waiting")), (0, 1));
    server.kill9();
    server.restart();
    assert!(cli(&server, &["rules", "alice", "pending"]).contains(", gone since "));
    let mut alice = Phone::new(&server, "alice", via);
    let watching = watch(&mut alice);
    assert_eq!(said(&watching.notify), [one("bob", "waiting", "timeout")], "{}", watching.notify);
    cli(&server, &["rules", "alice", "allow", "bob"]);
    let approved = alice.expect_notify(&watching.call_id);
    assert_eq!(said(&approved), [one("bob", "terminated", "approved")], "{approved}");
    assert_eq!(watchers(&approved)[0].id, watchers(&watching.notify)[0].id, "{approved}");
    assert!(said(&refresh(&mut alice, &watching)).is_empty());
    let mut bob = Phone::new(&server, "bob", via);
    assert_eq!(bob.subscribe("alice").notify.subscription_state(), "active");
    let back = alice.expect_notify(&watching.call_id);
    assert_eq!(said(&back), [one("bob", "active", "subscribe")], "{back}");
    server.stop();
    assert_eq!(server.rows("waiting"), 0);
}

fn a_request_is_still_pending_after_a_crash_rfc3857_4_7_1(database: Database) {
    let mut server = server(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let asking = bob.subscribe("alice");
    let watching = watch(&mut alice);
    let before = watchers(&watching.notify);
    assert_eq!(before[0].said, one("bob", "pending", "subscribe"));
    server.kill9();
    server.restart();
    let after = alice.expect_notify_until(&watching.call_id, "after the crash", |_| true);
    assert!(is_full(&after) && version(&after) > version(&watching.notify), "{after}");
    assert_eq!((&watchers(&after)[0].said, &watchers(&after)[0].id), (&before[0].said, &before[0].id));
    cli(&server, &["rules", "alice", "allow", "bob"]);
    bob.expect_notify_until(&asking.call_id, "active", |m| m.subscription_state() == "active");
    let approved = alice.expect_notify_until(&watching.call_id, "of the decision", |m| {
        said(m).iter().any(|[_, status, _]| status == "active")
    });
    assert_eq!(version(&approved), version(&after) + 1, "{approved}");
    assert!(!is_full(&approved), "{approved}");
}

fn a_fetch_waits_and_the_next_subscription_takes_its_place_rfc3857_4_7_1(database: Database, via: Transport) {
    let server = server(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    let watching = watch(&mut alice);
    assert!(fetch(&mut bob, "alice").body.is_empty());
    let waits = alice.expect_notify(&watching.call_id);
    assert_eq!(said(&waits), [one("bob", "waiting", "timeout")], "{waits}");
    assert_eq!(watchers(&waits)[0].expiration, None, "{waits}");
    let asking = bob.subscribe("alice");
    let told = alice.expect_notify(&watching.call_id);
    assert_eq!(
        said(&told),
        [one("bob", "pending", "subscribe"), one("bob", "terminated", "giveup")],
        "{told}"
    );
    assert_eq!(watchers(&told)[1].id, watchers(&waits)[0].id, "{told}");
    assert_eq!(server.rows("waiting"), 0);
    // Who leaves before the answer has asked all the same.
    let request = bob.resubscribe_request(&asking, 0);
    assert_eq!(bob.ask(request).status(), Some(200));
    let left = alice.expect_notify(&watching.call_id);
    assert_eq!(said(&left), [one("bob", "waiting", "timeout")], "{left}");
    assert_eq!(watchers(&left)[0].id, watchers(&told)[0].id, "it keeps its name: {left}");
}

fn nobody_waits_for_ever_and_one_for_so_many_only_rfc3857_4_7_1(database: Database) {
    let server = Server::with(database, |config| {
        config.set("presence.notify_interval_ms", 20);
        config.set("subscription.give_up_after_s", 4);
        config.set("subscription.max_waiting_per_watcher", 1);
        config.set("subscription.max_waiting_per_presentity", 1);
    });
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    let mut carol = Phone::new(&server, "carol", Transport::Tcp);
    let watching = watch(&mut alice);
    fetch(&mut bob, "alice");
    assert_eq!(said(&alice.expect_notify(&watching.call_id)), [one("bob", "waiting", "timeout")]);
    fetch(&mut bob, "carol");
    assert_eq!(server.rows("waiting"), 1, "bob asks one at a time");
    // There is room for one, and the older one gives way.
    fetch(&mut carol, "alice");
    let told = alice.expect_notify(&watching.call_id);
    assert_eq!(
        said(&told),
        [one("carol", "waiting", "timeout"), one("bob", "terminated", "giveup")],
        "{told}"
    );
    let gone = alice.expect_notify(&watching.call_id);
    assert_eq!(said(&gone), [one("carol", "terminated", "giveup")], "{gone}");
}

fn who_watches_is_nobody_elses_business_rfc3857_4_6(database: Database, via: Transport) {
    let server = Server::with(database, |config| config.set("presence.default_rule", "full"));
    let mut bob = Phone::new(&server, "bob", via);
    bob.subscribe("alice");
    let request = request_for(&mut bob, "alice");
    let response = bob.ask(request);
    assert_eq!(
        response.status(),
        Some(403),
        "who may see all of alice may not see who else does: {response}"
    );
    let mut stranger = Phone::new(&server, "carol", via);
    let request = request_for(&mut stranger, "alice");
    let unproved = stranger.transact(&request);
    assert_eq!(unproved.status(), Some(401), "{unproved}");
    for event in ["presence.winfo.winfo", "dialog.winfo", "winfo"] {
        let request = bob.subscribe_request("bob", event, 600).set("Accept", TYPE);
        let response = bob.ask(request);
        assert_eq!(response.status(), Some(489), "{event}: {response}");
        assert!(response.list("Allow-Events").contains(&"presence.winfo".to_owned()), "{response}");
    }
    let request = bob.subscribe_request("bob", "presence.winfo", 600);
    let response = bob.ask(request);
    assert_eq!((response.status(), response.need("Accept")), (Some(406), TYPE), "{response}");
    let request = request_for(&mut bob, "bob").without("Expires").without("Accept");
    let watching = bob.subscribe_with(request);
    assert_eq!(watching.response.need("Expires"), "3600", "{}", watching.response);
    assert_eq!(watching.notify.need("Content-Type"), TYPE, "{}", watching.notify);
    let request =
        bob.publish_request(None, None, 600).set("Event", "presence.winfo").body(TYPE, b"<watcherinfo/>");
    assert_eq!(bob.ask(request).status(), Some(489));
}

fn what_comes_and_goes_at_once_or_is_no_presence_is_not_told_rfc3857_4_7_2(
    database: Database,
    via: Transport,
) {
    let server = Server::with(database, |config| {
        config.set("presence.default_rule", "full");
        config.set("presence.notify_interval_ms", 20);
    });
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    let mut desk = Phone::new(&server, "bob", via);
    let watching = watch(&mut alice);
    assert!(!fetch(&mut bob, "alice").body.is_empty());
    let request = bob.subscribe_request("alice", "dialog", 600).set("Accept", "application/dialog-info+xml");
    bob.subscribe_with(request);
    alice.expect_nothing_more();
    // Each subscription of a watcher is one.
    let first = bob.subscribe("alice");
    assert_eq!(said(&alice.expect_notify(&watching.call_id)), [one("bob", "active", "subscribe")]);
    desk.subscribe("alice");
    assert_eq!(said(&alice.expect_notify(&watching.call_id)), [one("bob", "active", "subscribe")]);
    let request = bob.resubscribe_request(&first, 600);
    assert_eq!(bob.ask(request).status(), Some(200));
    alice.expect_nothing_more();
    let request = bob.resubscribe_request(&first, 0);
    assert_eq!(bob.ask(request).status(), Some(200));
    assert_eq!(said(&alice.expect_notify(&watching.call_id)), [one("bob", "terminated", "timeout")]);
    let request = request_for(&mut alice, "alice").set("Expires", "0");
    let fetched = alice.subscribe_with(request).notify;
    assert_eq!((is_full(&fetched), version(&fetched), said(&fetched).len()), (true, 0, 1), "{fetched}");
    // Whom she blocks politely she sees, and he does not see that.
    cli(&server, &["rules", "alice", "polite-block", "bob"]);
    let polite = bob.subscribe("alice");
    assert_eq!(polite.notify.subscription_state(), "active");
    assert_eq!(said(&alice.expect_notify(&watching.call_id)), [one("bob", "active", "subscribe")]);
    assert_eq!(server.rows("waiting"), 0);
}

fn the_owner_is_told_once_in_five_seconds_and_the_watcher_at_once_rfc3857_4_10(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    let watching = watch(&mut alice);
    let asking = bob.subscribe("alice");
    let asked = alice.expect_notify(&watching.call_id);
    let told = Instant::now();
    assert_eq!(said(&asked), [one("bob", "pending", "subscribe")], "{asked}");
    let since = Instant::now();
    cli(&server, &["rules", "alice", "allow", "bob"]);
    bob.expect_notify_until(&asking.call_id, "active", |m| m.subscription_state() == "active");
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
    let approved = alice.expect_notify_until(&watching.call_id, "of the decision", |_| true);
    assert_eq!(said(&approved), [one("bob", "active", "approved")], "{approved}");
    assert!(told.elapsed() > Duration::from_millis(4_800), "{:?}", told.elapsed());
}

over_each_transport!(
    the_owner_learns_who_asks_and_decides_rfc3857_4_7,
    who_asked_at_night_is_seen_in_the_morning_rfc3857_4_7_1,
    a_fetch_waits_and_the_next_subscription_takes_its_place_rfc3857_4_7_1,
    who_watches_is_nobody_elses_business_rfc3857_4_6,
    what_comes_and_goes_at_once_or_is_no_presence_is_not_told_rfc3857_4_7_2,
);
on_each_database!(
    a_request_is_still_pending_after_a_crash_rfc3857_4_7_1,
    nobody_waits_for_ever_and_one_for_so_many_only_rfc3857_4_7_1,
    the_owner_is_told_once_in_five_seconds_and_the_watcher_at_once_rfc3857_4_10,
);

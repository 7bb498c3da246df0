//! Presence rules: who sees what of alice, and what happens to those who watch when she changes her mind (RFC 4745, RFC 5025).

use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::harness::phone::aor;
use crate::harness::presence::{Subscription, befriend};
use crate::harness::{DOMAIN, Database, Message, Phone, Server, Transport};

/// What a watcher gets.
enum Seen {
    /// 403.
    Refused,
    /// `pending`, and not a byte.
    Pending,
    /// What somebody who is not there looks like.
    Offline,
    /// `active` with these bytes of alice's in the document, and not those.
    Active(&'static [&'static str], &'static [&'static str]),
}

use Seen::{Active, Offline, Pending, Refused};

const FULL: Seen = Active(
    &[
        "SECRET-NOTE",
        "SECRET-ACTIVITY",
        "SECRET-FOO",
        "SECRET-DEVICE",
        "last-input",
        "SECRET-TOP",
        "<rpid:work/>",
    ],
    &[],
);
const NOTHING: Seen = Active(&["<presence"], &["SECRET", "tuple", "person", "device"]);

pub fn secrets() -> String {
    format!(
        "<?xml version=\"1.0\"?><presence xmlns=\"urn:ietf:params:xml:ns:pidf\" xmlns:dm=\"urn:ietf:params:xml:ns:pidf:data-model\" \
         xmlns:rpid=\"urn:ietf:params:xml:ns:pidf:rpid\" entity=\"{}\"><tuple id=\"SECRET-T\"><status><basic>open</basic></status>\
         <rpid:class>biz</rpid:class><rpid:user-input idle-threshold=\"600\" last-input=\"2026-11-20T23:29:15Z\">idle</rpid:user-input>\
         <x:foo xmlns:x=\"urn:x\">SECRET-FOO</x:foo><contact>mailto:SECRET-MAIL@example.net</contact><note>SECRET-NOTE</note></tuple>\
         <dm:person id=\"SECRET-P\"><rpid:activities><rpid:other>SECRET-ACTIVITY</rpid:other></rpid:activities><rpid:sphere><rpid:work/>\
         </rpid:sphere><dm:note>SECRET-MINE</dm:note></dm:person><dm:device id=\"SECRET-D\"><dm:deviceID>urn:SECRET-DEVICE:1</dm:deviceID>\
         </dm:device><x:top xmlns:x=\"urn:x\">SECRET-TOP</x:top></presence>",
        aor("alice")
    )
}

pub fn ruleset(rules: &str) -> String {
    format!(
        "<cp:ruleset xmlns:cp=\"urn:ietf:params:xml:ns:common-policy\" xmlns:pr=\"urn:ietf:params:xml:ns:pres-rules\">{}</cp:ruleset>",
        rules.replace("DOMAIN", DOMAIN)
    )
}

/// One rule; `id` is what makes it another one than those beside it.
pub fn rule(id: &str, conditions: &str, handling: &str, transformations: &str) -> String {
    let handling = match handling {
        "" => String::new(),
        value => format!("<pr:sub-handling>{value}</pr:sub-handling>"),
    };
    format!(
        "<cp:rule id=\"{id}\"><cp:conditions>{conditions}</cp:conditions><cp:actions>{handling}</cp:actions>\
         <cp:transformations>{transformations}</cp:transformations></cp:rule>"
    )
}

fn who(members: &str) -> String {
    format!("<cp:identity>{members}</cp:identity>")
}

pub const BOB: &str = "<cp:identity><cp:one id=\"sip:bob@DOMAIN\"/></cp:identity>";
pub const ALL: &str = "<pr:provide-services><pr:all-services/></pr:provide-services><pr:provide-persons><pr:all-persons/></pr:provide-persons>\
    <pr:provide-devices><pr:all-devices/></pr:provide-devices><pr:provide-all-attributes/>";
const SERVICES: &str = "<pr:provide-services><pr:all-services/></pr:provide-services>";
const PERSONS: &str = "<pr:provide-persons><pr:all-persons/></pr:provide-persons>";

fn replace(server: &Server, rules: &str) {
    let output = server.cli(&["rules", "alice", "replace", "-"], &ruleset(rules));
    assert!(output.status.success(), "{rules}: {output:?}");
}

fn set(server: &Server, handling: &str, watcher: &str) {
    let output = server.cli(&["rules", "alice", handling, watcher], "");
    assert!(output.status.success(), "{handling} {watcher}: {output:?}");
}

/// Whatever alice has published, it is not in here.
fn assert_nothing_of_alice(message: &Message) {
    let text = String::from_utf8_lossy(&message.raw).into_owned();
    for word in ["SECRET", "open", "rpid", "person"] {
        assert!(!text.contains(word), "{word} leaked:\n{message}");
    }
}

/// Subscribes, looks, and goes away again.
fn assert_sees(phone: &mut Phone, case: &str, expected: &Seen) {
    let request = phone.subscribe_request("alice", "presence", 600);
    if matches!(expected, Refused) {
        let response = phone.ask(request);
        assert_eq!(response.status(), Some(403), "{case}: {response}");
        assert_nothing_of_alice(&response);
        return phone.expect_nothing_more();
    }
    let (request, response) = phone.ask_and_tell(request);
    assert_eq!(response.status(), Some(200), "{case}: {response}");
    let notify = phone.expect_notify(request.call_id());
    let state = notify.subscription_state();
    match expected {
        Refused => unreachable!(),
        Pending => {
            assert_eq!(state, "pending", "{case}: {notify}");
            assert!(notify.body.is_empty(), "{case}: {notify}");
            assert_nothing_of_alice(&notify);
        }
        Offline => {
            assert_eq!(state, "active", "{case}: {notify}");
            assert_eq!(notify.body_text(), offline("alice"), "{case}: {notify}");
            assert_nothing_of_alice(&notify);
        }
        Active(has, has_not) => {
            assert_eq!(state, "active", "{case}: {notify}");
            let body = notify.body_text();
            has.iter().for_each(|part| assert!(body.contains(part), "{case}: {part} is missing in {notify}"));
            has_not
                .iter()
                .for_each(|part| assert!(!body.contains(part), "{case}: {part} leaked in {notify}"));
        }
    }
    let subscription = Subscription {
        call_id: request.call_id().into(),
        dialog: crate::harness::Dialog::of_caller(&request, &response),
        response,
        notify,
    };
    let last = phone.resubscribe_request(&subscription, 0);
    assert_eq!(phone.ask(last).status(), Some(200));
    let notify = phone.expect_notify(&subscription.call_id);
    if !matches!(expected, Active(..)) {
        assert_nothing_of_alice(&notify);
    }
}

fn offline(user: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"{0}\">\n\
         <tuple id=\"offline\"><status><basic>closed</basic></status><contact>{0}</contact></tuple>\n</presence>\n",
        aor(user)
    )
}

/// Forty-two sets of rules, and what bob and carol get by each.
fn the_table_of_who_sees_what_a31(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    let mut carol = Phone::new(&server, "carol", Transport::Tcp);
    alice.publish(&secrets());
    assert_sees(&mut bob, "no rules", &Pending);
    let allow = |conditions: &str| rule("a", conditions, "allow", ALL);
    let one = |id: &str| allow(&who(&format!("<cp:one id=\"{id}\"/>")));
    let given = |transformations: &str| rule("a", BOB, "allow", transformations);
    let unknown = |ns: &str| {
        format!("<pr:provide-unknown-attribute ns=\"{ns}\" name=\"foo\">true</pr:provide-unknown-attribute>")
    };
    let input = |value: &str| format!("{SERVICES}<pr:provide-user-input>{value}</pr:provide-user-input>");
    let table: Vec<(&str, String, Seen, Seen)> = vec![
        ("no rule", String::new(), Refused, Refused),
        ("allow one", allow(BOB), FULL, Refused),
        ("allow, but provide nothing", given(""), NOTHING, Refused),
        ("confirm one", rule("a", BOB, "confirm", ""), Pending, Refused),
        ("confirm, providing all", rule("a", BOB, "confirm", ALL), Pending, Refused),
        ("polite-block one", rule("a", BOB, "polite-block", ""), Offline, Refused),
        ("polite-block, providing all", rule("a", BOB, "polite-block", ALL), Offline, Refused),
        ("block one", rule("a", BOB, "block", ALL), Refused, Refused),
        ("no action", rule("a", BOB, "", ALL), Refused, Refused),
        ("block one, allow all: the maximum", rule("b", BOB, "block", "") + &allow(""), FULL, FULL),
        (
            "polite-block beats confirm",
            rule("b", BOB, "confirm", "") + &rule("a", "", "polite-block", ""),
            Offline,
            Offline,
        ),
        (
            "confirm beats block",
            rule("b", BOB, "block", "") + &rule("a", "", "confirm", ""),
            Pending,
            Pending,
        ),
        ("without conditions", allow(""), FULL, FULL),
        ("an empty identity", allow(&who("")), FULL, FULL),
        ("many", allow(&who("<cp:many/>")), FULL, FULL),
        ("many of the domain", allow(&who("<cp:many domain=\"DOMAIN\"/>")), FULL, FULL),
        ("many of another domain", allow(&who("<cp:many domain=\"example.net\"/>")), Refused, Refused),
        ("many of a longer domain", allow(&who("<cp:many domain=\"a.DOMAIN\"/>")), Refused, Refused),
        ("many of a shorter domain", allow(&who("<cp:many domain=\"example\"/>")), Refused, Refused),
        (
            "many except one",
            allow(&who("<cp:many><cp:except id=\"sip:bob@DOMAIN\"/></cp:many>")),
            Refused,
            FULL,
        ),
        (
            "many except the domain",
            allow(&who("<cp:many><cp:except domain=\"DOMAIN\"/></cp:many>")),
            Refused,
            Refused,
        ),
        (
            "many of the domain except one",
            allow(&who("<cp:many domain=\"DOMAIN\"><cp:except id=\"sip:carol@DOMAIN\"/></cp:many>")),
            FULL,
            Refused,
        ),
        ("no patterns", one("sip:*@DOMAIN"), Refused, Refused),
        ("another scheme", one("sips:bob@DOMAIN"), Refused, Refused),
        ("another user by case", one("sip:Bob@DOMAIN"), Refused, Refused),
        ("the same host by case", one(&format!("sip:bob@{}", DOMAIN.to_uppercase())), FULL, Refused),
        ("the same user by escapes", one("sip:%62ob@DOMAIN"), FULL, Refused),
        ("an unknown condition", allow(&format!("{BOB}<x:moon xmlns:x=\"urn:x\"/>")), Refused, Refused),
        (
            "an unknown member beside a known one",
            allow(&who("<x:everybody xmlns:x=\"urn:x\"/><cp:one id=\"sip:carol@DOMAIN\"/>")),
            Refused,
            FULL,
        ),
        ("an interval that is over", allow(&validity(-200, -100)), Refused, Refused),
        ("an interval that has not begun", allow(&validity(1_000, 2_000)), Refused, Refused),
        ("an interval that holds", allow(&validity(-100, 1_000)), FULL, FULL),
        ("the sphere she is in", allow(&format!("{BOB}<cp:sphere value=\"home WORK\"/>")), FULL, Refused),
        ("another sphere", allow("<cp:sphere value=\"home\"/>"), Refused, Refused),
        (
            "services alone",
            given(SERVICES),
            Active(&["SECRET-MAIL"], &["NOTE", "FOO", "person", "dm:", "TOP"]),
            Refused,
        ),
        (
            "persons and what they do",
            given(&format!("{PERSONS}<pr:provide-activities>true</pr:provide-activities>")),
            Active(&["SECRET-ACTIVITY"], &["tuple", "sphere", "SECRET-MINE", "DEVICE", "TOP"]),
            Refused,
        ),
        (
            "two rules are one",
            given(SERVICES)
                + &rule("b", "", "", "<pr:provide-note>1</pr:provide-note>")
                + &rule("c", BOB, "block", "<pr:provide-note>0</pr:provide-note>"),
            Active(&["SECRET-NOTE"], &["FOO", "person", "DEVICE"]),
            Refused,
        ),
        (
            "an unknown attribute",
            given(&format!("{SERVICES}{}", unknown("urn:x"))),
            Active(&["SECRET-FOO"], &["TOP", "NOTE"]),
            Refused,
        ),
        (
            "the same of another namespace",
            given(&format!("{SERVICES}{}", unknown("urn:y"))),
            Active(&["SECRET-T"], &["FOO"]),
            Refused,
        ),
        (
            "bare user input",
            given(&input("bare")),
            Active(&["user-input>"], &["threshold", "last-input"]),
            Refused,
        ),
        (
            "its thresholds",
            given(&input("thresholds")),
            Active(&["idle-threshold=\"600\""], &["last-input"]),
            Refused,
        ),
        (
            "services by a scheme nobody has",
            given(
                "<pr:provide-services><pr:service-uri-scheme>sip</pr:service-uri-scheme></pr:provide-services>",
            ),
            NOTHING,
            Refused,
        ),
    ];
    assert!(table.len() >= 40, "{}", table.len());
    for (case, rules, bobs, carols) in &table {
        replace(&server, rules);
        assert_sees(&mut bob, case, bobs);
        assert_sees(&mut carol, case, carols);
    }
}

fn validity(from_s: i64, until_s: i64) -> String {
    format!(
        "<cp:validity><cp:from>{}</cp:from><cp:until>{}</cp:until></cp:validity>",
        date(from_s),
        date(until_s)
    )
}

/// So many seconds from now, as XML writes it.
pub fn date(seconds: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let at = format!("@{}", i64::try_from(now).expect("a date") + seconds);
    let output = Command::new("date").args(["-u", "-d", &at, "+%Y-%m-%dT%H:%M:%SZ"]).output().expect("date");
    String::from_utf8(output.stdout).expect("ASCII").trim().to_owned()
}

fn what_cannot_be_understood_is_not_taken(database: Database) {
    let server = Server::start(database);
    for document in ["", "hello", "<ruleset/>", "<!DOCTYPE a><a/>"] {
        let output = server.cli(&["rules", "alice", "replace", "-"], document);
        assert_eq!(output.status.code(), Some(1), "{document}: {output:?}");
    }
    let output = server.cli(&["rules", "zoe", "allow", "bob"], "");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no user"), "{output:?}");
}

/// 256 KiB, with as many characters in it as have to be escaped on their way.
fn a_document_may_be_as_large_as_over_xcap(database: Database) {
    let server = Server::start(database);
    let document = ruleset(&rule("a", BOB, "allow", ALL));
    let filled = |bytes: usize| format!("{document}{}", "\n".repeat(bytes - document.len()));
    let output = server.cli(&["rules", "alice", "replace", "-"], &filled(256 * 1024));
    assert!(output.status.success(), "{output:?}");
    let output = server.cli(&["rules", "alice", "replace", "-"], &filled(256 * 1024 + 1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("too large"), "{output:?}");
}

/// Three seconds for a busy machine; the server needs milliseconds.
pub const SOON: Duration = Duration::from_secs(3);

fn a_rule_acts_on_those_who_watch_already_rfc5025_3_2_1(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    alice.publish(&secrets());
    let watching = bob.subscribe("alice");
    assert_eq!(watching.notify.subscription_state(), "pending");
    let mut after = |handling: &str, state: &str| {
        let before = Instant::now();
        set(&server, handling, "bob");
        let notify = bob.expect_notify(&watching.call_id);
        assert!(before.elapsed() < SOON, "{handling} after {:?}", before.elapsed());
        assert_eq!(notify.subscription_state(), state, "{handling}: {notify}");
        notify
    };
    let approved = after("allow", "active");
    assert!(approved.body_text().contains("SECRET-NOTE"), "{approved}");
    let polite = after("polite-block", "active");
    assert_eq!(polite.body_text(), offline("alice"));
    after("allow", "active");
    let back = after("confirm", "pending");
    assert!(back.body.is_empty(), "no document any more:\n{back}");
    after("allow", "active");
    let refused = after("block", "terminated");
    assert!(refused.need("Subscription-State").contains("reason=rejected"), "{refused}");
    assert_nothing_of_alice(&refused);
    let again = bob.subscribe_request("alice", "presence", 600);
    assert_eq!(bob.ask(again).status(), Some(403));
    let removed = server.cli(&["rules", "alice", "remove", "bob"], "");
    assert!(removed.status.success(), "{removed:?}");
    assert_eq!(bob.subscribe("alice").notify.subscription_state(), "pending", "as before");
}

fn who_is_blocked_politely_cannot_tell_rfc5025_3_2_1(database: Database, via: Transport) {
    let server = Server::with(database, |config| config.set("presence.default_rule", "full"));
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    set(&server, "polite-block", "bob");
    let blocked = bob.subscribe("alice");
    // Dave is not there.
    let absent = bob.subscribe("dave");
    assert_eq!(blocked.notify.body_text().replace("alice", "dave"), absent.notify.body_text());
    let names = |message: &Message| {
        let text = String::from_utf8_lossy(&message.raw).into_owned();
        let head = text.split("\r\n\r\n").next().unwrap_or_default().to_owned();
        head.lines().skip(1).filter_map(|line| line.split(':').next().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(names(&blocked.notify), names(&absent.notify));
    assert_eq!(blocked.notify.need("Subscription-State").split(';').next(), Some("active"));
    assert_eq!(names(&blocked.response), names(&absent.response));
    // Whatever alice does, nothing comes.
    alice.publish(&secrets());
    alice.register();
    bob.expect_nothing_more();
    let request = bob.resubscribe_request(&blocked, 600);
    assert_eq!(bob.ask(request).status(), Some(200));
    assert_eq!(bob.expect_notify(&blocked.call_id).body_text(), offline("alice"));
}

fn an_interval_begins_and_ends_by_itself_rfc4745_7_4(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    alice.publish(&secrets());
    let (begins, ends) = (3, 6);
    replace(
        &server,
        &(rule("a", BOB, "confirm", "")
            + &rule("b", &format!("{BOB}{}", validity(begins, ends)), "allow", ALL)),
    );
    let watching = bob.subscribe("alice");
    assert_eq!(watching.notify.subscription_state(), "pending");
    let opened = bob.expect_notify_until(&watching.call_id, "active", |m| m.subscription_state() == "active");
    assert!(opened.body_text().contains("SECRET-NOTE"), "{opened}");
    let closed =
        bob.expect_notify_until(&watching.call_id, "pending", |m| m.subscription_state() == "pending");
    assert!(closed.body.is_empty(), "{closed}");
    bob.expect_nothing_more();
}

fn another_sphere_is_another_set_of_rules_rfc4745_7_3(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let sphere = format!("{BOB}<cp:sphere value=\"work\"/>");
    replace(&server, &(rule("a", BOB, "polite-block", "") + &rule("b", &sphere, "allow", ALL)));
    let tag = alice.publish(&secrets());
    let watching = bob.subscribe("alice");
    assert!(watching.notify.body_text().contains("SECRET-NOTE"), "{}", watching.notify);
    let elsewhere = secrets().replace("<rpid:work/>", "<rpid:home/>");
    let tag = alice.publish_as(Some(&elsewhere), Some(&tag), 600);
    let notify = bob.expect_notify(&watching.call_id);
    assert_eq!(notify.body_text(), offline("alice"), "{notify}");
    alice.publish_as(Some(&secrets()), Some(&tag), 600);
    assert!(bob.expect_notify(&watching.call_id).body_text().contains("SECRET-NOTE"));
    // Another device says something else: undefined (RFC 5025 3.1.2).
    alice.publish(&elsewhere.replace("SECRET", "OTHER"));
    let notify = bob.expect_notify_until(&watching.call_id, "offline", |m| !m.body_text().contains("SECRET"));
    assert_eq!(notify.body_text(), offline("alice"), "{notify}");
}

fn rules_survive_a_crash(database: Database) {
    let mut server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    alice.publish(&secrets());
    set(&server, "allow", "bob");
    set(&server, "block", "carol");
    server.restart();
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let mut carol = Phone::new(&server, "carol", Transport::Udp);
    assert!(bob.subscribe("alice").notify.body_text().contains("SECRET-NOTE"));
    let refused = carol.subscribe_request("alice", "presence", 600);
    assert_eq!(carol.ask(refused).status(), Some(403));
    let listed = server.cli(&["rules", "alice"], "");
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    for line in ["allow         bob", "block         carol", "everybody else: as the domain's rule says"] {
        assert!(text.contains(line), "{text}");
    }
}

fn naming_some_leaves_the_others_to_the_domains_rule(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut carol = Phone::new(&server, "carol", Transport::Udp);
    set(&server, "block", "bob");
    let (watching, _) = befriend(&mut carol, &mut alice);
    assert_eq!(watching.notify.subscription_state(), "active", "reciprocal, as before");
}

fn whom_the_operator_denies_sees_nobody(database: Database) {
    let server = Server::with(database, |config| config.set("presence.deny", vec![format!("bob@{DOMAIN}")]));
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    set(&server, "allow", "bob");
    let refused = bob.subscribe_request("alice", "presence", 600);
    assert_eq!(bob.ask(refused).status(), Some(403));
    assert_eq!(bob.subscribe("bob").notify.subscription_state(), "active", "but themselves");
}

fn who_waits_is_let_in_at_once_rfc5025_3_2_1(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    alice.publish(&secrets());
    replace(&server, &rule("a", &who("<cp:many/>"), "confirm", ""));
    let mut waiting =
        ["bob", "carol"].map(|user| Phone::new(&server, user, Transport::Tcp)).map(|mut phone| {
            let watching = phone.subscribe("alice");
            assert_eq!(watching.notify.subscription_state(), "pending");
            (phone, watching)
        });
    for (handling, shown, (phone, watching)) in ["allow", "polite-block"]
        .into_iter()
        .zip(["SECRET-NOTE", "offline"])
        .zip(&mut waiting)
        .map(|((a, b), c)| (a, b, c))
    {
        let since = Instant::now();
        set(&server, handling, &phone.user.clone());
        let notify = phone.expect_notify(&watching.call_id);
        assert!(since.elapsed() < SOON, "{handling} after {:?}", since.elapsed());
        assert_eq!(notify.subscription_state(), "active", "{notify}");
        assert!(notify.body_text().contains(shown), "{notify}");
        assert_eq!(notify.body_text().contains("SECRET"), handling == "allow", "{notify}");
    }
    // From block there is nothing to go on with: the subscription has ended.
    let (carol, watching) = &mut waiting[1];
    replace(&server, "");
    assert_eq!(carol.expect_notify(&watching.call_id).subscription_state(), "terminated");
    replace(&server, &rule("a", &who("<cp:many/>"), "allow", ALL));
    carol.expect_nothing_more();
    assert_eq!(carol.subscribe("alice").notify.subscription_state(), "active");
}

/// Who logged in is matched, whatever else the request says of its sender.
fn a_watcher_is_the_address_that_logged_in_rfc5025_3_1_1_2(database: Database) {
    let server = Server::with(database, |config| config.set("aliases", vec!["also.example"]));
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    alice.publish(&secrets());
    let one = |uri: &str| who(&format!("<cp:one id=\"{uri}\"/>"));
    replace(&server, &rule("a", &one("sip:bob@DOMAIN"), "allow", ALL));
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    assert_eq!(bob.subscribe("alice").notify.subscription_state(), "active");
    // An alias is another user to the rules.
    replace(&server, &rule("a", &one("sip:bob@also.example"), "allow", ALL));
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    let request = bob.subscribe_request("alice", "presence", 600);
    assert_eq!(bob.ask(request).status(), Some(403));
    // A login that names nobody is none.
    replace(&server, &rule("a", "", "allow", ALL));
    let mut nobody = Phone::new(&server, "anonymous", Transport::Tcp);
    let anonymous = "\"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=a";
    let request = nobody.subscribe_request("alice", "presence", 600);
    let response = nobody.ask(request.set("From", anonymous).header("Privacy", "id"));
    assert_eq!(response.status(), Some(401), "{response}");
    assert_nothing_of_alice(&response);
}

/// RFC 3323 hides somebody from those they write to, not from the rules.
fn who_asks_for_privacy_is_matched_by_their_name_rfc5025_3_1_1_2(database: Database) {
    let server = Server::with(database, |config| {
        let text = "peers = [{ name = \"trunk\", addresses = [\"127.0.0.1\"], assert_identity = true }]";
        let table: toml::Table = text.parse().expect("TOML");
        config.set("peers", table["peers"].clone());
    });
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    alice.publish(&secrets());
    replace(&server, &rule("a", BOB, "allow", ALL));
    let anonymous = "\"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=a";
    let private = |phone: &mut Phone| {
        let request = phone.subscribe_request("alice", "presence", 600);
        request.set("From", anonymous).header("Privacy", "id")
    };
    // By password.
    for (user, status) in [("bob", 200), ("carol", 403)] {
        let mut phone = Phone::new(&server, user, Transport::Tcp);
        let request = private(&mut phone);
        let (request, response) = phone.ask_and_tell(request);
        assert_eq!(response.status(), Some(status), "{user}: {response}");
        if status == 200 {
            let notify = phone.expect_notify(request.call_id());
            assert!(notify.body_text().contains("SECRET-NOTE"), "{notify}");
        }
    }
    // By assertion.
    let mut trunk = Phone::new(&server, "trunk", Transport::Tcp);
    for (user, status) in [("bob", 200), ("carol", 403)] {
        let request = private(&mut trunk).header("P-Asserted-Identity", &format!("<{}>", aor(user)));
        let response = trunk.transact(&request);
        assert_eq!(response.status(), Some(status), "{user}: {response}");
        if status == 200 {
            let notify = trunk.expect_notify(request.call_id());
            assert!(notify.body_text().contains("SECRET-NOTE"), "{notify}");
        }
    }
}

over_each_transport!(
    a_rule_acts_on_those_who_watch_already_rfc5025_3_2_1,
    who_is_blocked_politely_cannot_tell_rfc5025_3_2_1
);
on_each_database!(
    the_table_of_who_sees_what_a31,
    what_cannot_be_understood_is_not_taken,
    an_interval_begins_and_ends_by_itself_rfc4745_7_4,
    another_sphere_is_another_set_of_rules_rfc4745_7_3,
    rules_survive_a_crash,
    naming_some_leaves_the_others_to_the_domains_rule,
    whom_the_operator_denies_sees_nobody,
    who_waits_is_let_in_at_once_rfc5025_3_2_1,
    a_watcher_is_the_address_that_logged_in_rfc5025_3_1_1_2,
    who_asks_for_privacy_is_matched_by_their_name_rfc5025_3_1_1_2,
    a_document_may_be_as_large_as_over_xcap,
);

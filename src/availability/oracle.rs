//! A second implementation of RFC 4745 and RFC 5025, written from their text alone and in another style, to compare with: it knows nothing but
//! trees of elements, asks of every element whether some rule lets it be seen, and filters again until nothing changes. It shares no code with
//! what it judges, not even the reading of XML.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use crate::availability::composition::compose;
use crate::availability::document::rules::{COMMON_POLICY, PRES_RULES};
use crate::availability::fixtures::{NOW, home, keep, pidf, publish};
use crate::availability::view::{DomainRules, Grant, View, grant, render};
use crate::availability::{rules, sphere};
use crate::model::{Aor, HomeState, Timestamp};

// ---- trees ----

#[derive(Clone, Default)]
struct El {
    ns: String,
    name: String,
    attributes: BTreeMap<String, String>,
    text: String,
    kids: Vec<El>,
}

impl El {
    fn is(&self, ns: &str, name: &str) -> bool {
        self.ns == ns && self.name == name
    }
    fn kid(&self, ns: &str, name: &str) -> Option<&El> {
        self.kids.iter().find(|kid| kid.is(ns, name))
    }
    /// One text for all spellings.
    fn canonical(&self, out: &mut String) {
        let _ = write!(out, "<{{{}}}{}", self.ns, self.name);
        for (name, value) in &self.attributes {
            let _ = write!(out, " {name}={value:?}");
        }
        let _ = write!(out, ">{}", self.text.trim());
        self.kids.iter().for_each(|kid| kid.canonical(out));
        out.push_str("</>");
    }
}

/// Reads well-formed XML of the kind that is written here.
fn tree(text: &str) -> El {
    let mut open: Vec<(El, Vec<(String, String)>)> =
        vec![(El::default(), vec![("xml".into(), "xml".into())])];
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        open.last_mut().unwrap().0.text.push_str(&plain(&rest[..at]));
        let end = at + rest[at..].find('>').expect("no > in values here");
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if tag.starts_with('?') {
            continue;
        }
        if tag.starts_with('/') {
            let (done, _) = open.pop().unwrap();
            open.last_mut().unwrap().0.kids.push(done);
            continue;
        }
        let body = tag.strip_suffix('/').unwrap_or(tag);
        let name = body.split_whitespace().next().unwrap();
        let mut scope = open.last().unwrap().1.clone();
        let mut attributes = Vec::new();
        let mut values = body[name.len()..].trim();
        while let Some((key, after)) = values.split_once('=') {
            let quote = after.chars().next().unwrap();
            let (value, after) = after[1..].split_once(quote).unwrap();
            values = after.trim_start();
            match key.split_once(':') {
                _ if key == "xmlns" => scope.push((String::new(), plain(value))),
                Some(("xmlns", prefix)) => scope.push((prefix.into(), plain(value))),
                _ => attributes.push((key.to_owned(), plain(value))),
            }
        }
        let resolve = |prefix: &str| {
            scope.iter().rev().find(|(known, _)| known == prefix).map_or(String::new(), |(_, ns)| ns.clone())
        };
        let (prefix, local) = name.split_once(':').unwrap_or(("", name));
        let named = |(key, value): (String, String)| match key.split_once(':') {
            Some((prefix, local)) => (format!("{{{}}}{local}", resolve(prefix)), value),
            None => (key, value),
        };
        let element = El {
            ns: resolve(prefix),
            name: local.to_owned(),
            attributes: attributes.into_iter().map(named).collect(),
            ..El::default()
        };
        if tag.ends_with('/') {
            open.last_mut().unwrap().0.kids.push(element);
        } else {
            open.push((element, scope));
        }
    }
    open.remove(0).0.kids.remove(0)
}

fn plain(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
}

// ---- RFC 4745: which rules match ----

struct Asker<'a> {
    /// `sip:user@domain`, if there is one.
    uri: Option<&'a str>,
    sphere: Option<&'a str>,
    now: i64,
}

impl Asker<'_> {
    fn domain(&self) -> Option<&str> {
        self.uri.and_then(|uri| uri.split('@').nth(1))
    }
    /// URIs: scheme and host in any case, of one scheme only.
    fn is_called(&self, id: &str) -> bool {
        let folded = |uri: &str| match uri.split_once('@') {
            Some((user, host)) => {
                let (scheme, name) = user.split_once(':').unwrap();
                format!("{}:{name}@{}", scheme.to_lowercase(), host.to_lowercase())
            }
            None => uri.to_owned(),
        };
        self.uri.is_some_and(|own| folded(own) == folded(id))
    }
    fn matches(&self, rule: &El) -> bool {
        rule.kid(COMMON_POLICY, "conditions").is_none_or(|all| all.kids.iter().all(|one| self.holds(one)))
    }
    fn holds(&self, condition: &El) -> bool {
        if condition.is(COMMON_POLICY, "identity") {
            condition.kids.is_empty() || condition.kids.iter().any(|member| self.is_member(member))
        } else if condition.is(COMMON_POLICY, "sphere") {
            self.sphere.is_some_and(|is| {
                condition.attributes["value"].split(' ').any(|one| one.eq_ignore_ascii_case(is))
            })
        } else if condition.is(COMMON_POLICY, "validity") {
            condition
                .kids
                .chunks(2)
                .any(|pair| instant(&pair[0].text) <= self.now && self.now < instant(&pair[1].text))
        } else {
            false
        }
    }
    fn is_member(&self, member: &El) -> bool {
        if member.is(COMMON_POLICY, "one") {
            return self.is_called(&member.attributes["id"]);
        }
        let Some(own) = self.domain().filter(|_| member.is(COMMON_POLICY, "many")) else { return false };
        let named = |element: &El| {
            element.attributes.get("domain").is_some_and(|domain| domain.eq_ignore_ascii_case(own))
        };
        let is_inside = !member.attributes.contains_key("domain") || named(member);
        let is_excepted =
            |except: &El| named(except) || except.attributes.get("id").is_some_and(|id| self.is_called(id));
        is_inside && !member.kids.iter().any(is_excepted)
    }
}

/// The times that are used here, in milliseconds after [`NOW`].
const TIMES: [(&str, i64); 4] = [
    ("2026-11-20T23:29:25.123Z", 10_000),
    ("2026-11-21T00:29:35.123+01:00", 20_000),
    ("2026-11-20T18:29:45.123-05:00", 30_000),
    ("2026-11-20T23:29:55.123Z", 40_000),
];

fn instant(text: &str) -> i64 {
    TIMES.iter().find(|(known, _)| *known == text).unwrap().1
}

/// 0, 10, 20 or 30 (RFC 5025 3.2.1).
fn handling(matching: &[&El]) -> u32 {
    let actions =
        matching.iter().filter_map(|rule| rule.kid(COMMON_POLICY, "actions")).flat_map(|all| &all.kids);
    let values = actions.filter(|action| action.is(PRES_RULES, "sub-handling")).map(|action| {
        match action.text.trim() {
            "allow" => 30,
            "polite-block" => 20,
            "confirm" => 10,
            _ => 0,
        }
    });
    values.max().unwrap_or(0)
}

// ---- RFC 5025 3.3: what is seen ----

const PIDF: &str = "urn:ietf:params:xml:ns:pidf";
const DM: &str = "urn:ietf:params:xml:ns:pidf:data-model";
const RPID: &str = "urn:ietf:params:xml:ns:pidf:rpid";

struct Seen<'r>(&'r [&'r El]);

impl<'r> Seen<'r> {
    fn transformations(&self) -> impl Iterator<Item = &'r El> {
        let all = self.0.iter().filter_map(|rule| rule.kid(COMMON_POLICY, "transformations"));
        all.flat_map(|all| &all.kids).filter(|one| one.ns == PRES_RULES)
    }
    fn says(&self, name: &str) -> bool {
        self.transformations().any(|one| one.name == name && ["true", "1"].contains(&one.text.trim()))
    }
    fn all_attributes(&self) -> bool {
        self.transformations().any(|one| one.name == "provide-all-attributes")
    }
    fn all_of(&self, what: &str) -> bool {
        let (set, all) = (format!("provide-{what}"), format!("all-{what}"));
        self.transformations().any(|one| one.name == set && one.kid(PRES_RULES, &all).is_some())
    }
    fn is_seen(&self, what: &str, element: &El) -> bool {
        let set = format!("provide-{what}");
        let members = self.transformations().filter(|one| one.name == set).flat_map(|one| &one.kids);
        let uri = element.kid(PIDF, "contact").map(|contact| contact.text.trim());
        self.all_of(what)
            || members.into_iter().any(|member| {
                let value = member.text.trim();
                match member.name.as_str() {
                    "class" => {
                        element.kids.iter().any(|kid| kid.is(RPID, "class") && kid.text.trim() == value)
                    }
                    "occurrence-id" => element.attributes["id"] == value,
                    "deviceID" => element
                        .kid(DM, "deviceID")
                        .is_some_and(|id| id.text.trim().eq_ignore_ascii_case(value)),
                    "service-uri" => uri.is_some_and(|uri| uri == value),
                    "service-uri-scheme" => uri.is_some_and(|uri| uri.starts_with(&format!("{value}:"))),
                    _ => false,
                }
            })
    }

    /// One more time over the document.
    fn filtered(&self, document: &El) -> El {
        let mut seen = El { kids: Vec::new(), ..document.clone() };
        let is_everything =
            self.all_attributes() && ["services", "persons", "devices"].iter().all(|what| self.all_of(what));
        for kid in &document.kids {
            let what = match (kid.ns.as_str(), kid.name.as_str()) {
                (PIDF, "tuple") => "services",
                (DM, "person") => "persons",
                (DM, "device") => "devices",
                _ if is_everything || kid.is(PIDF, "note") => {
                    seen.kids.push(kid.clone());
                    continue;
                }
                _ => continue,
            };
            if self.is_seen(what, kid) {
                let mut shown = El { kids: Vec::new(), ..kid.clone() };
                shown.kids =
                    kid.kids.iter().filter_map(|attribute| self.attribute(what, attribute)).collect();
                seen.kids.push(shown);
            }
        }
        let without_notes = |kid: &El| kid.is(DM, "person") && kid.kid(DM, "note").is_none();
        let for_persons = self.all_of("persons") || seen.kids.iter().any(without_notes);
        if !(for_persons && (self.says("provide-note") || self.all_attributes())) {
            seen.kids.retain(|kid| !kid.is(PIDF, "note"));
        }
        seen
    }

    fn attribute(&self, what: &str, element: &El) -> Option<El> {
        if self.all_attributes() {
            return Some(element.clone());
        }
        let is_shown = match (what, element.ns.as_str(), element.name.as_str()) {
            ("services", PIDF, "status") => {
                let basic = element.kids.iter().filter(|kid| kid.is(PIDF, "basic")).cloned().collect();
                return Some(El { kids: basic, ..element.clone() });
            }
            ("services", PIDF, "contact" | "timestamp") => true,
            ("services", RPID, "service-class") => true,
            ("persons" | "devices", DM, "timestamp") | ("devices", DM, "deviceID") => true,
            (_, PIDF | DM, "note") => self.says("provide-note"),
            ("services", DM, "deviceID") => self.says("provide-deviceID"),
            (_, RPID, "user-input") => return self.user_input(element),
            (_, RPID, "class") => self.says("provide-class"),
            (
                "persons",
                RPID,
                "activities" | "mood" | "place-is" | "place-type" | "sphere" | "time-offset",
            )
            | ("persons" | "services", RPID, "privacy" | "status-icon")
            | ("services", RPID, "relationship") => self.says(&format!("provide-{}", element.name)),
            (
                _,
                RPID,
                "activities" | "mood" | "place-is" | "place-type" | "sphere" | "time-offset" | "privacy"
                | "status-icon",
            )
            | (_, RPID, "relationship" | "service-class") => false,
            (_, ns, name) => self.transformations().any(|one| {
                one.name == "provide-unknown-attribute"
                    && one.attributes["ns"] == ns
                    && one.attributes["name"] == name
                    && one.text.trim() == "true"
            }),
        };
        is_shown.then(|| element.clone())
    }

    fn user_input(&self, element: &El) -> Option<El> {
        let mut seen = element.clone();
        let named = |value: &str| {
            self.transformations().any(|one| one.name == "provide-user-input" && one.text.trim() == value)
        };
        if named("full") {
            return Some(seen);
        }
        if named("thresholds") {
            seen.attributes.retain(|name, _| name == "idle-threshold");
            return Some(seen);
        }
        ["idle-threshold", "since", "last-input"].iter().for_each(|name| drop(seen.attributes.remove(*name)));
        named("bare").then_some(seen)
    }

    /// D = F(D) (RFC 5025 4).
    fn document(&self, composed: &El) -> El {
        let mut document = composed.clone();
        loop {
            let next = self.filtered(&document);
            let (mut before, mut after) = (String::new(), String::new());
            document.canonical(&mut before);
            next.canonical(&mut after);
            if before == after {
                return next;
            }
            document = next;
        }
    }
}

/// RFC 5025 3.1.2, of the names of elements.
fn sphere_of(documents: &[El]) -> Option<String> {
    let persons = documents.iter().flat_map(|document| &document.kids).filter(|kid| kid.is(DM, "person"));
    let said: Vec<String> = persons
        .flat_map(|person| person.kids.iter().filter(|kid| kid.is(RPID, "sphere")))
        .map(|sphere| sphere.kids[0].name.clone())
        .collect();
    said.first().filter(|first| said.iter().all(|one| one == *first)).cloned()
}

// ---- random cases ----

/// xorshift64*: the same cases every time; another number, other cases.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % below
    }
    fn chance(&mut self, percent: usize) -> bool {
        self.next(100) < percent
    }
    fn pick<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.next(all.len())]
    }
    fn some(&mut self, percent: usize, all: &[&str]) -> String {
        all.iter().filter(|_| self.chance(percent)).copied().collect()
    }
}

const ATTRIBUTES: &[&str] = &[
    "<rpid:activities><rpid:note>busy</rpid:note><rpid:meeting/></rpid:activities>",
    "<rpid:mood><rpid:sad/></rpid:mood>",
    "<rpid:place-is><rpid:audio><rpid:noisy/></rpid:audio></rpid:place-is>",
    "<rpid:place-type><rpid:other>here</rpid:other></rpid:place-type>",
    "<rpid:privacy><rpid:audio/></rpid:privacy>",
    "<rpid:relationship><rpid:self/></rpid:relationship>",
    "<rpid:service-class><rpid:electronic/></rpid:service-class>",
    "<rpid:status-icon>http://www.example.org/i.gif</rpid:status-icon>",
    "<rpid:time-offset>-240</rpid:time-offset>",
    "<rpid:user-input idle-threshold=\"600\" last-input=\"2026-11-20T23:00:00Z\" since=\"2026\" id=\"i\">idle</rpid:user-input>",
    "<rpid:user-input>active</rpid:user-input>",
    "<rpid:later/>",
    "<x:foo xmlns:x=\"urn:x\" a=\"1\">one<x:in/></x:foo>",
    "<x:bar xmlns:x=\"urn:x\">two</x:bar>",
    "<y:foo xmlns:y=\"urn:y\">three</y:foo>",
];

fn presence(random: &mut Random) -> String {
    let classes = ["<rpid:class>biz</rpid:class>", "<rpid:class>home</rpid:class>", "", ""];
    let mut text = String::new();
    for n in 0..random.next(3) {
        let status = random.pick(&[
            "<basic>open</basic>",
            "<basic>closed</basic>",
            "",
            "<basic>open</basic><x:s xmlns:x=\"urn:x\"/>",
        ]);
        let contact = random.pick(&[
            "<contact>sip:alice@example.org</contact>",
            "<contact priority=\"0.5\">mailto:alice@example.org</contact>",
            "<contact>tel:+4930123</contact>",
            "",
        ]);
        let (class, device) =
            (random.pick(&classes), random.pick(&["<dm:deviceID>urn:d:1</dm:deviceID>", ""]));
        let attributes = random.some(20, ATTRIBUTES);
        let tail = random.some(40, &["<note xml:lang=\"en\">at work</note>", "<note>away</note>"]);
        let time = random.pick(&["<timestamp>2026-11-20T23:29:15Z</timestamp>", ""]);
        let _ = write!(
            text,
            "<tuple id=\"t{n}\"><status>{status}</status>{class}{device}{attributes}{contact}{tail}{time}</tuple>"
        );
    }
    text += &random.some(30, &["<note>top</note>"]);
    if random.chance(75) {
        let sphere = random.pick(&[
            "",
            "<rpid:sphere><rpid:work/></rpid:sphere>",
            "<rpid:sphere><rpid:home/></rpid:sphere>",
            "<rpid:sphere><rpid:work/></rpid:sphere>",
        ]);
        let (class, id) = (random.pick(&classes), random.pick(&["p", "q"]));
        let attributes = random.some(25, ATTRIBUTES);
        let tail = random
            .some(50, &["<dm:note>mine</dm:note>", "<dm:timestamp>2026-11-20T23:29:15Z</dm:timestamp>"]);
        let _ = write!(text, "<dm:person id=\"{id}\">{sphere}{class}{attributes}{tail}</dm:person>");
    }
    for n in 0..random.next(3) {
        let (class, attributes) = (random.pick(&classes), random.some(15, ATTRIBUTES));
        let tail = random.some(
            50,
            &["<dm:note>on the desk</dm:note>", "<dm:timestamp>2026-11-20T23:29:15Z</dm:timestamp>"],
        );
        let _ = write!(
            text,
            "<dm:device id=\"d{n}\">{class}{attributes}<dm:deviceID>urn:d:{n}</dm:deviceID>{tail}</dm:device>"
        );
    }
    text + &random.some(25, &["<x:top xmlns:x=\"urn:x\">beside</x:top>"])
}

const WATCHERS: [&str; 10] = [
    "bob@example.org",
    "carol@example.org",
    "Bob@example.org",
    "eve@example.net",
    "eve@sub.example.net",
    "dave@example.org",
    "carol@sub.example.org",
    "bob@example.net",
    "+4930@example.org",
    "anonymous@anonymous.invalid",
];

fn conditions(random: &mut Random) -> String {
    let mut text = String::new();
    if random.chance(70) {
        let members = random.some(
            22,
            &[
                "<cp:one id=\"sip:bob@example.org\"/>",
                "<cp:one id=\"SIP:eve@Example.NET\"/>",
                "<cp:one id=\"tel:+4930\"/>",
                "<cp:many/>",
                "<cp:many domain=\"Example.ORG\"/>",
                "<cp:many domain=\"example.net\"><cp:except id=\"sip:eve@example.net\"/></cp:many>",
                "<cp:many domain=\"example.org\"><cp:except id=\"sip:bob@example.org\"/><cp:except id=\"tel:+4930\"/></cp:many>",
                "<cp:many><cp:except domain=\"example.org\"/></cp:many>",
                "<cp:many><cp:except domain=\"example.net\"/><cp:except id=\"sip:carol@example.org\"/></cp:many>",
                "<u:everybody xmlns:u=\"urn:u\"/>",
            ],
        );
        let _ = write!(text, "<cp:identity>{members}</cp:identity>");
    }
    if random.chance(20) {
        let _ =
            write!(text, "<cp:sphere value=\"{}\"/>", random.pick(&["work", "HOME", "home Work", "moon"]));
    }
    if random.chance(25) {
        let mut pairs = String::new();
        for _ in 0..=random.next(2) {
            let (from, until) = (TIMES[random.next(4)].0, TIMES[random.next(4)].0);
            let _ = write!(pairs, "<cp:from>{from}</cp:from><cp:until>{until}</cp:until>");
        }
        let _ = write!(text, "<cp:validity>{pairs}</cp:validity>");
    }
    text + &random.some(4, &["<u:moon xmlns:u=\"urn:u\"/>", "<cp:later/>"])
}

fn ruleset(random: &mut Random) -> String {
    let mut text = String::new();
    for n in 0..1 + random.next(5) {
        let conditions = conditions(random);
        let action = random.pick(&["allow", "allow", "allow", "polite-block", "confirm", "block", ""]);
        let action = if action.is_empty() {
            String::new()
        } else {
            format!("<pr:sub-handling>{action}</pr:sub-handling>")
        };
        let set = |random: &mut Random, what: &str, members: &[&str]| {
            let all = random.some(35, &["all"]).replace("all", &format!("<pr:all-{what}/>"));
            if random.chance(60) {
                format!("<pr:provide-{what}>{all}{}</pr:provide-{what}>", random.some(25, members))
            } else {
                String::new()
            }
        };
        let common = ["<pr:class>biz</pr:class>", "<pr:class>home</pr:class>", "<pr:class>Biz</pr:class>"];
        let services = [
            &common[..],
            &["<pr:occurrence-id>t1</pr:occurrence-id>", "<pr:service-uri>tel:+4930123</pr:service-uri>"],
            &[
                "<pr:service-uri-scheme>mailto</pr:service-uri-scheme>",
                "<pr:service-uri-scheme>SIP</pr:service-uri-scheme>",
            ],
        ];
        let devices =
            [&common[..], &["<pr:deviceID>URN:D:1</pr:deviceID>", "<pr:occurrence-id>d0</pr:occurrence-id>"]];
        let persons =
            [&common[..], &["<pr:occurrence-id>p</pr:occurrence-id>", "<u:new xmlns:u=\"urn:u\"/>"]];
        let mut given = set(random, "services", &services.concat());
        given += &set(random, "devices", &devices.concat());
        given += &set(random, "persons", &persons.concat());
        for name in [
            "activities",
            "class",
            "deviceID",
            "mood",
            "place-is",
            "place-type",
            "privacy",
            "relationship",
            "sphere",
            "status-icon",
            "time-offset",
            "note",
        ] {
            if random.chance(30) {
                let _ = write!(
                    given,
                    "<pr:provide-{name}>{}</pr:provide-{name}>",
                    random.pick(&["true", "true", "1", "false"])
                );
            }
        }
        if random.chance(40) {
            let value = random.pick(&["false", "bare", "thresholds", "full"]);
            let _ = write!(given, "<pr:provide-user-input>{value}</pr:provide-user-input>");
        }
        given += &random.some(
            20,
            &[
                "<pr:provide-unknown-attribute ns=\"urn:x\" name=\"foo\">true</pr:provide-unknown-attribute>",
                "<pr:provide-unknown-attribute ns=\"urn:x\" name=\"bar\">false</pr:provide-unknown-attribute>",
                "<pr:provide-unknown-attribute ns=\"urn:ietf:params:xml:ns:pidf:rpid\" name=\"mood\">true</pr:provide-unknown-attribute>",
                "<pr:provide-unknown-attribute ns=\"urn:ietf:params:xml:ns:pidf:rpid\" name=\"later\">true</pr:provide-unknown-attribute>",
                "<u:provide-note xmlns:u=\"urn:u\">true</u:provide-note>",
            ],
        );
        if random.chance(12) {
            given += "<pr:provide-all-attributes/>";
        }
        let _ = write!(
            text,
            "<cp:rule id=\"r{n}\"><cp:conditions>{conditions}</cp:conditions><cp:actions>{action}</cp:actions>\
             <cp:transformations>{given}</cp:transformations></cp:rule>"
        );
    }
    format!("<cp:ruleset xmlns:cp=\"{COMMON_POLICY}\" xmlns:pr=\"{PRES_RULES}\">{text}</cp:ruleset>")
}

/// A presentity with one or two publications, and what the oracle knows of them.
struct Case {
    home: HomeState,
    composed: El,
    sphere: Option<String>,
}

fn case(random: &mut Random) -> Case {
    let mut home = home();
    let mut published = Vec::new();
    for id in 0..1 + random.next(2) as u128 {
        let text = pidf(&presence(random));
        publish(&mut home, id + 1, &text);
        published.push(tree(&text));
    }
    let composed = tree(std::str::from_utf8(&compose(&home, NOW).pidf).unwrap());
    Case { home, composed, sphere: sphere_of(&published) }
}

fn with_rules(text: &str) -> HomeState {
    let mut home = home();
    keep(&mut home, "index", text);
    home
}

fn canonical(element: &El) -> String {
    let mut text = String::new();
    element.canonical(&mut text);
    text
}

/// What the implementation shows.
fn shown(home: &HomeState, grant: &Grant, now: Timestamp) -> String {
    match render(home, grant, now) {
        View::Active(document) => canonical(&tree(std::str::from_utf8(&document).unwrap())),
        View::Pending => "pending".to_owned(),
        View::Rejected => "rejected".to_owned(),
    }
}

const OFFLINE: &str = "<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"sip:alice@example.org\"><tuple id=\"offline\"><status>\
    <basic>closed</basic></status><contact>sip:alice@example.org</contact></tuple></presence>";

/// `SETS` rule sets x `CASES` presentities each x 10 watchers x 8 instants.
#[test]
fn every_view_is_what_the_text_of_rfc5025_says_i7() {
    const SETS: u64 = 315;
    const CASES: usize = 4;
    let mut random = Random(0x00C0_FFEE_5025);
    let cases: Vec<Case> = (0..200).map(|_| case(&mut random)).collect();
    let (mut compared, mut seen) = (0_u32, HashMap::<u32, u32>::new());
    let domain = DomainRules::default();
    for set in 0..SETS {
        let text = ruleset(&mut random);
        let (ruled, oracle) = (with_rules(&text), tree(&text));
        for _ in 0..CASES {
            let case = &cases[random.next(cases.len())];
            let home = HomeState { documents: ruled.documents.clone(), ..case.home.clone() };
            let mut by_grant: Vec<(Grant, String)> = Vec::new();
            let mut by_rules: HashMap<Vec<usize>, (u32, String)> = HashMap::new();
            for (watcher, instant) in
                WATCHERS.iter().flat_map(|w| TIMES.iter().flat_map(move |(_, at)| [(w, at - 1), (w, *at)]))
            {
                let aor = Aor::from_stored(watcher).unwrap();
                let now = Timestamp(NOW.0 + instant);
                let sphere = || sphere::sphere(&home, now);
                let granted = grant(&home, &aor, &HomeState::empty(aor.clone()), &domain, &sphere, now);
                let known = by_grant.iter().position(|(grant, _)| *grant == granted).unwrap_or_else(|| {
                    by_grant.push((granted.clone(), shown(&home, &granted, now)));
                    by_grant.len() - 1
                });
                let uri = (!watcher.starts_with("anonymous")).then(|| format!("sip:{watcher}"));
                let asker = Asker { uri: uri.as_deref(), sphere: case.sphere.as_deref(), now: instant };
                let matching: Vec<usize> =
                    (0..oracle.kids.len()).filter(|at| asker.matches(&oracle.kids[*at])).collect();
                let (handled, expected) = by_rules.entry(matching.clone()).or_insert_with(|| {
                    let rules: Vec<&El> = matching.iter().map(|at| &oracle.kids[*at]).collect();
                    match handling(&rules) {
                        30 => (30, canonical(&Seen(&rules).document(&case.composed))),
                        20 => (20, canonical(&tree(OFFLINE))),
                        10 => (10, "pending".to_owned()),
                        other => (other, "rejected".to_owned()),
                    }
                });
                assert_eq!(
                    &by_grant[known].1, expected,
                    "set {set}, {watcher} at {instant} ms:\n{text}\n{:?}",
                    home.publications
                );
                *seen.entry(*handled).or_default() += 1;
                compared += 1;
            }
        }
        assert!(rules::of(&ruled).is_some_and(|rules| !rules.unreadable));
    }
    assert!(compared >= 100_000, "{compared} cases");
    assert!([0, 10, 20, 30].iter().all(|value| seen.get(value).is_some_and(|n| *n > 2_000)), "{seen:?}");
}

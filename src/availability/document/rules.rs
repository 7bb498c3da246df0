//! Reads presence rules: `application/auth-policy+xml` of RFC 4745 with the actions and transformations of RFC 5025.
//!
//! What the schemas forbid is refused as a whole. What they leave open and is not understood here narrows: a condition never matches, a
//! permission gives nothing.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use crate::availability::document::lexis::is_ncname;
use crate::availability::document::xml::{Document, Limits, Node, XmlError};
use crate::model::{
    Aor, Attribute, Permissions, Provided, Rule, Selector, SubHandling, Text, Timestamp, UserInput, Who,
};
use crate::sip::{Scheme, Uri};

/// Reads one document.
///
/// # Errors
/// What is wrong with it.
pub fn read(body: &[u8]) -> Result<Vec<Rule>, &'static str> {
    of(Document::read(body, &Limits::STORED).map_err(XmlError::what)?.root())
}

/// The same, of one that is read already.
///
/// # Errors
/// What is wrong with it.
pub fn of(root: Node<'_>) -> Result<Vec<Rule>, &'static str> {
    if !root.is(COMMON_POLICY, "ruleset") {
        return Err("the root is not ruleset");
    }
    let mut ids = HashSet::new();
    let mut rules = Vec::new();
    for node in root.children() {
        if !node.is(COMMON_POLICY, "rule") {
            return Err("in ruleset there is something else than rule");
        }
        let rule = rule(node)?;
        // RFC 4745 6.1
        if !ids.insert(rule.id.clone()) {
            return Err("two rules have the same id");
        }
        if rules.len() >= MAX_RULES {
            return Err("too many rules");
        }
        rules.push(rule);
    }
    Ok(rules)
}

fn rule(node: Node<'_>) -> Result<Rule, &'static str> {
    let id = node.attribute("id").filter(|id| is_ncname(id)).ok_or("a rule without a proper id")?;
    let mut rule = Rule { id: id.into(), ..Rule::default() };
    let mut parts = ["conditions", "actions", "transformations"].into_iter();
    for part in node.children() {
        // Each at most once, in this order.
        if part.namespace() != Some(COMMON_POLICY) || !parts.any(|name| name == part.local()) {
            return Err("a rule is conditions, actions and transformations");
        }
        match part.local() {
            "conditions" => conditions(part, &mut rule)?,
            "actions" => actions(part, &mut rule)?,
            _ => rule.permissions = Arc::new(transformations(part)?),
        }
    }
    Ok(rule)
}

fn conditions(node: Node<'_>, rule: &mut Rule) -> Result<(), &'static str> {
    for condition in node.children() {
        match (condition.namespace(), condition.local()) {
            (Some(COMMON_POLICY), "identity") => {
                let mut members = condition.children().map(who).collect::<Result<Vec<_>, _>>()?;
                members.sort_unstable();
                // RFC 5025 3.1.1.2: an empty one restricts nobody, not even those without a name.
                if !members.is_empty() {
                    rule.identities.push(members);
                }
            }
            (Some(COMMON_POLICY), "sphere") => {
                let value = condition.attribute("value").ok_or("a sphere without value")?;
                rule.spheres.push(value.split_whitespace().map(|t| t.to_lowercase().into()).collect());
            }
            (Some(COMMON_POLICY), "validity") => rule.validities.push(intervals(condition)?),
            _ => rule.never = true,
        }
    }
    Ok(())
}

fn who(node: Node<'_>) -> Result<Who, &'static str> {
    match (node.namespace(), node.local()) {
        (Some(COMMON_POLICY), "one") => {
            let id = node.attribute("id").ok_or("a one without id")?;
            if node.attribute("domain").is_some() {
                return Err("a one with a domain");
            }
            // What stands inside could only narrow it, and is not understood.
            let narrowed = node.children().next().is_some();
            Ok(identity(id).filter(|_| !narrowed).map_or(Who::Nobody, Who::One))
        }
        (Some(COMMON_POLICY), "many") => many(node),
        _ => Ok(Who::Nobody),
    }
}

fn many(node: Node<'_>) -> Result<Who, &'static str> {
    let (mut except, mut except_domains) = (Vec::new(), Vec::new());
    let mut is_understood = true;
    for child in node.children() {
        if !child.is(COMMON_POLICY, "except") {
            // It could be an exception of a kind that is not known here.
            is_understood = false;
            continue;
        }
        if let Some(id) = child.attribute("id") {
            except.extend(identity(id));
        }
        if let Some(name) = child.attribute("domain") {
            except_domains.extend(domain(name));
        }
    }
    let within = match node.attribute("domain") {
        None => None,
        Some(name) => match domain(name) {
            Some(domain) => Some(domain),
            // RFC 4745 7.1.3: what cannot be converted equals nothing.
            None => return Ok(Who::Nobody),
        },
    };
    except.sort_unstable();
    Ok(if is_understood { Who::Many { domain: within, except, except_domains } } else { Who::Nobody })
}

/// Whose identity this is. Identities are `sip:` URIs of an AoR, compared as URIs (RFC 5025 3.1.1.2); what differs from one in its scheme, a
/// port or a parameter that counts is nobody's.
pub fn identity(id: &str) -> Option<Aor> {
    let uri = Uri::parse(id.trim().as_bytes()).ok().filter(|uri| uri.scheme == Scheme::Sip)?;
    let aor = Aor::from_uri(&uri)?;
    let own = aor.uri();
    Uri::parse(own.as_bytes()).is_ok_and(|own| uri.equals(&own)).then_some(aor)
}

/// A domain as it is compared: escapes decoded, ASCII, lower case (RFC 4745 7.1.3).
fn domain(name: &str) -> Option<Text> {
    let bytes = name.trim().as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = rest.get(1..3).filter(|_| first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                rest = rest.get(3..).unwrap_or_default();
            }
            None => {
                decoded.push(first);
                rest = tail;
            }
        }
    }
    let ascii = idna::domain_to_ascii(std::str::from_utf8(&decoded).ok()?).ok()?;
    (!ascii.is_empty()).then(|| ascii.into())
}

/// `<from>` and `<until>` in pairs.
fn intervals(node: Node<'_>) -> Result<Vec<Range<Timestamp>>, &'static str> {
    let mut children = node.children();
    let mut intervals = Vec::new();
    while let Some(from) = children.next() {
        let until = children.next().ok_or("a validity is pairs of from and until")?;
        if !from.is(COMMON_POLICY, "from") || !until.is(COMMON_POLICY, "until") {
            return Err("a validity is pairs of from and until");
        }
        let [from, until] = [from, until].map(|at| date_time(at.text()));
        intervals.push(from.ok_or("no date and time")?..until.ok_or("no date and time")?);
    }
    if intervals.is_empty() { Err("a validity is pairs of from and until") } else { Ok(intervals) }
}

fn actions(node: Node<'_>, rule: &mut Rule) -> Result<(), &'static str> {
    for action in node.children() {
        match (action.namespace(), action.local()) {
            (Some(PRES_RULES), "sub-handling") => {
                let handling = match token(action).as_str() {
                    "block" => SubHandling::Block,
                    "confirm" => SubHandling::Confirm,
                    "polite-block" => SubHandling::PoliteBlock,
                    "allow" => SubHandling::Allow,
                    _ => return Err("no value of sub-handling"),
                };
                rule.sub_handling = rule.sub_handling.max(Some(handling));
            }
            (Some(OURS), DOMAIN_DEFAULT) => rule.domain_default = true,
            // RFC 5025 8: permissions that are not known are ignored.
            _ => {}
        }
    }
    Ok(())
}

fn transformations(node: Node<'_>) -> Result<Permissions, &'static str> {
    let mut given = Permissions::default();
    for one in node.children().filter(|one| one.namespace() == Some(PRES_RULES)) {
        let mut more = Permissions::default();
        match one.local() {
            "provide-devices" => more.devices = provided(one, "all-devices"),
            "provide-persons" => more.persons = provided(one, "all-persons"),
            "provide-services" => more.services = provided(one, "all-services"),
            "provide-user-input" => {
                more.user_input = match one.text().trim() {
                    "false" => UserInput::False,
                    "bare" => UserInput::Bare,
                    "thresholds" => UserInput::Thresholds,
                    "full" => UserInput::Full,
                    _ => return Err("no value of provide-user-input"),
                };
            }
            "provide-unknown-attribute" => {
                let name = one.attribute("name").ok_or("an unknown attribute without name")?;
                let namespace = one.attribute("ns").ok_or("an unknown attribute without ns")?;
                if boolean(one)? {
                    more.unknown.insert((namespace.into(), name.into()));
                }
            }
            "provide-all-attributes" => more.all_attributes = true,
            name => {
                if let Some((_, attribute)) = ATTRIBUTES.iter().find(|(known, _)| *known == name)
                    && boolean(one)?
                {
                    more.attributes.insert(*attribute);
                }
            }
        }
        given.merge(&more);
    }
    Ok(given)
}

fn provided(node: Node<'_>, all: &str) -> Provided {
    if node.children().any(|child| child.is(PRES_RULES, all)) {
        return Provided::All;
    }
    let selector = |child: Node<'_>| {
        let value = Text::from(token(child));
        match child.local() {
            "class" => Some(Selector::Class(value)),
            "occurrence-id" => Some(Selector::OccurrenceId(value)),
            "deviceID" => Some(Selector::DeviceId(value)),
            "service-uri" => Some(Selector::ServiceUri(value)),
            "service-uri-scheme" => Some(Selector::ServiceUriScheme(value)),
            _ => None,
        }
    };
    let own = node.children().filter(|child| child.namespace() == Some(PRES_RULES));
    Provided::These(own.filter_map(selector).collect())
}

fn boolean(node: Node<'_>) -> Result<bool, &'static str> {
    match token(node).as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("neither true nor false"),
    }
}

/// `xs:token`: white space at the ends goes, inside it is one space.
fn token(node: Node<'_>) -> String {
    node.text().split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

/// `xs:dateTime`; without a zone it is UTC.
fn date_time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let number = |at: Range<usize>| -> Option<i64> {
        let digits = text.get(at)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if marks.iter().any(|(at, mark)| text.as_bytes().get(*at) != Some(mark)) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let rest = text.get(19..)?;
    let fraction = rest.strip_prefix('.').map_or("", |rest| rest.split(['Z', '+', '-']).next().unwrap_or(""));
    if rest.starts_with('.') && (fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit())) {
        return None;
    }
    let zone = rest.get(if rest.starts_with('.') { 1 + fraction.len() } else { 0 }..)?;
    let offset_min = match zone.as_bytes() {
        [] | [b'Z'] => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let at = text.len() - zone.len();
            let (hours, minutes) = (number(at + 1..at + 3)?, number(at + 4..at + 6)?);
            if hours > 14 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if year < 1 || !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Days of the proleptic Gregorian calendar, in years that begin on 1 March.
    let (shifted_year, shifted_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let civil = shifted_year * 365 + shifted_year.div_euclid(4) - shifted_year.div_euclid(100)
        + shifted_year.div_euclid(400)
        + day_of_year
        - 719_468;
    let ms: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    Some(Timestamp(((civil * 1_440 + hour * 60 + minute - offset_min) * 60 + second) * 1_000 + ms))
}

/// The namespace of RFC 4745.
pub const COMMON_POLICY: &str = "urn:ietf:params:xml:ns:common-policy";
/// The namespace of RFC 5025.
pub const PRES_RULES: &str = "urn:ietf:params:xml:ns:pres-rules";
/// The namespace of what is added here.
pub const OURS: &str = "urn:hither:rules";
/// The action of a rule for those whom no other rule names: they get what the domain grants where an owner has no rules.
pub const DOMAIN_DEFAULT: &str = "domain-default";

/// Rules of one document: all of them are looked at for each watcher.
pub const MAX_RULES: usize = 1_000;

/// The boolean permissions of RFC 5025 3.3.2.
const ATTRIBUTES: [(&str, Attribute); 12] = [
    ("provide-activities", Attribute::Activities),
    ("provide-class", Attribute::Class),
    ("provide-deviceID", Attribute::DeviceId),
    ("provide-mood", Attribute::Mood),
    ("provide-place-is", Attribute::PlaceIs),
    ("provide-place-type", Attribute::PlaceType),
    ("provide-privacy", Attribute::Privacy),
    ("provide-relationship", Attribute::Relationship),
    ("provide-sphere", Attribute::Sphere),
    ("provide-status-icon", Attribute::StatusIcon),
    ("provide-time-offset", Attribute::TimeOffset),
    ("provide-note", Attribute::Note),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn ruleset(rules: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><cp:ruleset xmlns:cp=\"{COMMON_POLICY}\" xmlns:pr=\"{PRES_RULES}\" \
             xmlns:h=\"{OURS}\">{rules}</cp:ruleset>"
        )
    }

    fn one(rule: &str) -> Result<Rule, &'static str> {
        read(ruleset(&format!("<cp:rule id=\"a\">{rule}</cp:rule>")).as_bytes()).map(|mut all| all.remove(0))
    }

    fn when(condition: &str) -> Result<Rule, &'static str> {
        one(&format!("<cp:conditions>{condition}</cp:conditions>"))
    }

    fn aor(text: &str) -> Aor {
        Aor::from_stored(text).unwrap()
    }

    #[test]
    fn the_example_of_rfc5025_6_is_read() {
        let text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>
   <cr:ruleset xmlns=\"urn:ietf:params:xml:ns:pres-rules\"
    xmlns:pr=\"urn:ietf:params:xml:ns:pres-rules\"
    xmlns:cr=\"urn:ietf:params:xml:ns:common-policy\">
    <cr:rule id=\"a\">
     <cr:conditions><cr:identity><cr:one id=\"sip:user@example.com\"/></cr:identity></cr:conditions>
     <cr:actions><pr:sub-handling>allow</pr:sub-handling></cr:actions>
     <cr:transformations>
      <pr:provide-services>
        <pr:service-uri-scheme>sip</pr:service-uri-scheme>
        <pr:service-uri-scheme>mailto</pr:service-uri-scheme>
      </pr:provide-services>
      <pr:provide-persons><pr:all-persons/></pr:provide-persons>
      <pr:provide-activities>true</pr:provide-activities>
      <pr:provide-user-input>bare</pr:provide-user-input>
      <pr:provide-unknown-attribute ns=\"urn:vendor-specific:foo-namespace\" name=\"foo\">true</pr:provide-unknown-attribute>
     </cr:transformations>
    </cr:rule>
   </cr:ruleset>";
        let schemes = ["mailto", "sip"].map(|scheme| Selector::ServiceUriScheme(scheme.into()));
        let permissions = Permissions {
            services: Provided::These(schemes.into()),
            persons: Provided::All,
            attributes: [Attribute::Activities].into(),
            user_input: UserInput::Bare,
            unknown: [("urn:vendor-specific:foo-namespace".into(), "foo".into())].into(),
            ..Permissions::default()
        };
        let expected = Rule {
            id: "a".into(),
            identities: vec![vec![Who::One(aor("user@example.com"))]],
            sub_handling: Some(SubHandling::Allow),
            permissions: permissions.into(),
            ..Rule::default()
        };
        assert_eq!(read(text.as_bytes()), Ok(vec![expected]));
    }

    #[test]
    fn the_conditions_of_rfc4745_7_1_3_2_are_read() {
        let rule = when(
            "<cp:sphere value=\"Work  home\"/><cp:identity><cp:many><cp:except domain=\"Example.COM\"/>\
             <cp:except id=\"sip:alice@bad.example.net\"/><cp:except id=\"tel:+1-212-555-1234\"/></cp:many></cp:identity>\
             <cp:validity><cp:from>2003-12-24T17:00:00+01:00</cp:from><cp:until>2003-12-24T19:00:00.5+01:00</cp:until>\
             <cp:from>2004-01-01T00:00:00Z</cp:from><cp:until>2004-01-02T00:00:00</cp:until></cp:validity>",
        )
        .unwrap();
        let many = Who::Many {
            domain: None,
            except: vec![aor("alice@bad.example.net")],
            except_domains: vec!["example.com".into()],
        };
        assert_eq!(rule.identities, [vec![many]]);
        assert_eq!(rule.spheres, [vec![Text::from("work"), Text::from("home")]]);
        let at = |s: i64, ms: i64| Timestamp(s * 1_000 + ms);
        let first = at(1_072_281_600, 0)..at(1_072_288_800, 500);
        assert_eq!(rule.validities, [vec![first, at(1_072_915_200, 0)..at(1_073_001_600, 0)]]);
    }

    #[test]
    fn rule_ids_are_unique_rfc4745_6_1() {
        let twice = ruleset("<cp:rule id=\"a\"/><cp:rule id=\"a\"/>");
        assert_eq!(read(twice.as_bytes()), Err("two rules have the same id"));
        assert!(read(ruleset("<cp:rule id=\"a\"/><cp:rule id=\"b\"/>").as_bytes()).is_ok());
        let many = |n: usize| (0..n).map(|n| format!("<cp:rule id=\"r{n}\"/>")).collect::<String>();
        assert!(read(ruleset(&many(MAX_RULES)).as_bytes()).is_ok());
        assert_eq!(read(ruleset(&many(MAX_RULES + 1)).as_bytes()), Err("too many rules"));
        assert!(read(ruleset("<cp:rule/>").as_bytes()).is_err());
        assert!(read(ruleset("<cp:rule id=\"1 2\"/>").as_bytes()).is_err());
    }

    #[test]
    fn what_is_not_understood_matches_nobody_rfc4745_7() {
        assert!(when("<x:at xmlns:x=\"urn:x\"/>").unwrap().never);
        assert!(when("<cp:later/>").unwrap().never);
        assert!(!when("").unwrap().never);
        for member in [
            "<x:at xmlns:x=\"urn:x\"/>",
            "<cp:one id=\"tel:+12125551234\"/>",
            "<cp:one id=\"sips:bob@example.org\"/>",
            "<cp:one id=\"pres:bob@example.org\"/>",
            "<cp:one id=\"sip:bob@example.org:5060\"/>",
            "<cp:one id=\"sip:bob@example.org;user=phone\"/>",
            "<cp:one id=\"sip:*@example.org;x\"><x:y xmlns:x=\"urn:x\"/></cp:one>",
            "<cp:many><x:except xmlns:x=\"urn:x\"/></cp:many>",
            "<cp:many domain=\"%ff\"/>",
        ] {
            let rule = when(&format!("<cp:identity>{member}</cp:identity>")).unwrap();
            assert_eq!(rule.identities, [vec![Who::Nobody]], "{member}");
        }
        assert!(when("<cp:identity/>").unwrap().identities.is_empty());
    }

    #[test]
    fn identities_are_compared_as_uris_rfc4745_7_2() {
        for id in ["sip:bob@example.org", "SIP:%62ob@EXAMPLE.org", "sip:bob@example.org;x=y"] {
            let rule = when(&format!("<cp:identity><cp:one id=\"{id}\"/></cp:identity>")).unwrap();
            assert_eq!(rule.identities, [vec![Who::One(aor("bob@example.org"))]], "{id}");
        }
    }

    #[test]
    fn domains_are_compared_in_ascii_rfc4745_7_1_3() {
        for name in ["B\u{fc}cher.example", "b%C3%BCcher.example", "xn--BCHER-kva.example"] {
            assert_eq!(domain(name).as_deref(), Some("xn--bcher-kva.example"), "{name}");
        }
        assert_eq!(domain(""), None);
        assert_eq!(domain("%ff"), None);
    }

    #[test]
    fn what_the_schemas_forbid_is_refused() {
        for rule in [
            "<cp:actions/><cp:conditions/>",
            "<cp:actions/><cp:actions/>",
            "<x:y xmlns:x=\"urn:x\"/>",
            "<cp:conditions><cp:identity><cp:one/></cp:identity></cp:conditions>",
            "<cp:conditions><cp:identity><cp:one id=\"sip:a@b\" domain=\"b\"/></cp:identity></cp:conditions>",
            "<cp:conditions><cp:sphere/></cp:conditions>",
            "<cp:conditions><cp:validity/></cp:conditions>",
            "<cp:conditions><cp:validity><cp:from>2003-12-24T17:00:00Z</cp:from></cp:validity></cp:conditions>",
            "<cp:conditions><cp:validity><cp:until>2003-12-24T17:00:00Z</cp:until><cp:from>2003-12-24T17:00:00Z</cp:from>\
             </cp:validity></cp:conditions>",
            "<cp:conditions><cp:validity><cp:from>2003-02-30T17:00:00Z</cp:from><cp:until>2004-12-24T17:00:00Z</cp:until>\
             </cp:validity></cp:conditions>",
            "<cp:actions><pr:sub-handling>perhaps</pr:sub-handling></cp:actions>",
            "<cp:transformations><pr:provide-note>yes</pr:provide-note></cp:transformations>",
            "<cp:transformations><pr:provide-user-input>all</pr:provide-user-input></cp:transformations>",
            "<cp:transformations><pr:provide-unknown-attribute ns=\"urn:x\">true</pr:provide-unknown-attribute></cp:transformations>",
        ] {
            assert!(one(rule).is_err(), "{rule}");
        }
        assert!(read(b"<ruleset/>").is_err());
        assert!(read(b"<!DOCTYPE a><ruleset/>").is_err());
    }

    #[test]
    fn permissions_of_all_kinds_are_read_rfc5025_3_3() {
        let rule = one(
            "<cp:transformations><pr:provide-devices><pr:deviceID>urn:d:1</pr:deviceID><pr:class> biz </pr:class><x:y xmlns:x=\"urn:x\"/>\
             </pr:provide-devices><pr:provide-persons><pr:occurrence-id>p</pr:occurrence-id></pr:provide-persons><pr:provide-services>\
             <pr:service-uri>sip:a@b</pr:service-uri></pr:provide-services><pr:provide-mood>1</pr:provide-mood>\
             <pr:provide-note>0</pr:provide-note><x:all xmlns:x=\"urn:x\"/><pr:provide-all-attributes/></cp:transformations>",
        )
        .unwrap();
        let devices = [Selector::DeviceId("urn:d:1".into()), Selector::Class("biz".into())];
        let expected = Permissions {
            devices: Provided::These(devices.into()),
            persons: Provided::These([Selector::OccurrenceId("p".into())].into()),
            services: Provided::These([Selector::ServiceUri("sip:a@b".into())].into()),
            attributes: [Attribute::Mood].into(),
            all_attributes: true,
            ..Permissions::default()
        };
        assert_eq!(*rule.permissions, expected);
        let ours = one("<cp:actions><h:domain-default/></cp:actions>").unwrap();
        assert!(ours.domain_default && ours.sub_handling.is_none());
    }
}

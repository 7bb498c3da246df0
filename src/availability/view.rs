//! The only door through which presence leaves the server.
//!
//! [`grant`] says who may see how much, [`render`] makes that document, [`view`] is both. A notifier with many watchers of one presentity
//! renders once per grant.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::availability::composition::{
    MAX_BYTES, compose, compose_basic, gather, unavailable, write_reduced,
};
use crate::availability::document::pidf::Pidf;
use crate::availability::document::xml::Limits;
use crate::availability::filter::filter;
use crate::availability::{rules, sphere};
use crate::model::{Aor, HomeState, Permissions, SubHandling, Text, Timestamp};

/// What holds between users of the domain where the owner has no rules of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DomainDefault {
    /// Who watches me may be watched by me: a watcher sees those who watch the watcher.
    #[default]
    Reciprocal,
    /// Pending until the owner says so.
    Confirm,
    /// Everybody of the domain sees open or closed.
    Basic,
    /// Everybody of the domain sees everything.
    Full,
}

/// What the operator says about who sees whom.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DomainRules {
    /// Where an owner has no rules.
    pub default: DomainDefault,
    /// Users who see nobody, whatever anybody's rules say.
    pub denied: HashSet<Aor>,
    /// Whole domains of such users, in lower case.
    pub denied_domains: HashSet<Text>,
}

impl DomainRules {
    /// Sees this watcher nobody?
    pub fn denies(&self, watcher: &Aor) -> bool {
        self.denied.contains(watcher)
            || (!self.denied_domains.is_empty()
                && self.denied_domains.contains(&Text::from(watcher.domain())))
    }
}

impl From<DomainDefault> for DomainRules {
    fn from(default: DomainDefault) -> DomainRules {
        DomainRules { default, ..DomainRules::default() }
    }
}

/// How much of a presentity a watcher may see.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Grant {
    /// Not decided by the owner: nothing.
    Pending,
    /// Refused: nothing.
    Rejected,
    /// Somebody who is not there, whatever is true (polite blocking).
    Unavailable,
    /// Open or closed, per tuple.
    Basic,
    /// What the owner's rules provide, less than everything. Equal permissions are one grant.
    Part(Arc<Permissions>),
    /// The whole composed document.
    Full,
}

/// Which rule decided about a watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Everybody sees themselves.
    Own,
    /// The operator's list.
    Denied,
    /// The owner's rules.
    Owner,
    /// Who gives no name sees nobody.
    Nameless,
    /// Watchers of other domains wait for the owner.
    Foreign,
    /// The domain's default; for [`DomainDefault::Reciprocal`], does the presentity watch the watcher?
    Default(DomainDefault, Option<bool>),
}

/// What one watcher gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum View {
    /// Allowed: this document.
    Active(Bytes),
    /// Not decided by the owner: no document.
    Pending,
    /// Refused.
    Rejected,
}

/// What this watcher may see of this presentity at this instant. Nothing is released unless a rule provides it.
///
/// - `presentity`: everything about the watched AoR.
/// - `watched`: the watcher's own home, where the presentity may be found as a watcher (reciprocal rule).
pub fn view(
    presentity: &HomeState,
    watcher: &Aor,
    watched: &HomeState,
    domain: &DomainRules,
    now: Timestamp,
) -> View {
    let sphere = || sphere::sphere(presentity, now);
    render(presentity, &grant(presentity, watcher, watched, domain, &sphere, now), now)
}

/// Who may see how much.
///
/// - `sphere`: the presentity's ([`sphere::sphere`]), asked only where a rule hangs on it.
pub fn grant(
    presentity: &HomeState,
    watcher: &Aor,
    watched: &HomeState,
    domain: &DomainRules,
    sphere: &dyn Fn() -> Option<Vec<Text>>,
    now: Timestamp,
) -> Grant {
    decide(presentity, watcher, watched, domain, sphere, now).0
}

/// The same with the rule that decided, for who asks why. Everybody sees themselves; then the operator's list; then the owner's rules alone, if
/// there are any; then the domain's default.
pub fn decide(
    presentity: &HomeState,
    watcher: &Aor,
    watched: &HomeState,
    domain: &DomainRules,
    sphere: &dyn Fn() -> Option<Vec<Text>>,
    now: Timestamp,
) -> (Grant, Rule) {
    if *watcher == presentity.aor {
        return (Grant::Full, Rule::Own);
    }
    if domain.denies(watcher) {
        return (Grant::Rejected, Rule::Denied);
    }
    let Some(rules) = rules::of(presentity) else {
        return by_default(&presentity.aor, watcher, watched, domain.default, now);
    };
    let combined = rules::combine(rules, (!is_nameless(watcher)).then_some(watcher), sphere, now);
    let owners = match combined.handling {
        SubHandling::Block => Grant::Rejected,
        SubHandling::Confirm => Grant::Pending,
        SubHandling::PoliteBlock => Grant::Unavailable,
        SubHandling::Allow if combined.permissions.is_everything() => Grant::Full,
        SubHandling::Allow => Grant::Part(combined.permissions),
    };
    if combined.domain_default {
        let (default, rule) = by_default(&presentity.aor, watcher, watched, domain.default, now);
        // As two rules are: the higher one. An owner who allows has said how much, so of what is allowed by default only everything adds to it.
        if standing(&default) > standing(&owners) || default == Grant::Full {
            return (default, rule);
        }
    }
    (owners, Rule::Owner)
}

/// Within the domain its default decides; watchers from elsewhere wait for the owner, and those without a name are refused (RFC 3323 4.1.1.3).
fn by_default(
    presentity: &Aor,
    watcher: &Aor,
    watched: &HomeState,
    default: DomainDefault,
    now: Timestamp,
) -> (Grant, Rule) {
    if is_nameless(watcher) {
        return (Grant::Rejected, Rule::Nameless);
    }
    if watcher.domain() != presentity.domain() {
        return (Grant::Pending, Rule::Foreign);
    }
    let decided = |grant| (grant, Rule::Default(default, None));
    match default {
        DomainDefault::Reciprocal => {
            let returned = watched.aor == *watcher && watched.is_watched_by(presentity, now);
            let grant = if returned { Grant::Full } else { Grant::Pending };
            (grant, Rule::Default(default, Some(returned)))
        }
        DomainDefault::Confirm => decided(Grant::Pending),
        DomainDefault::Basic => decided(Grant::Basic),
        DomainDefault::Full => decided(Grant::Full),
    }
}

fn is_nameless(watcher: &Aor) -> bool {
    watcher.domain() == "anonymous.invalid"
}

/// Lowest first, as sub-handling is (RFC 5025 3.2.1).
fn standing(grant: &Grant) -> SubHandling {
    match grant {
        Grant::Rejected => SubHandling::Block,
        Grant::Pending => SubHandling::Confirm,
        Grant::Unavailable => SubHandling::PoliteBlock,
        Grant::Basic | Grant::Part(_) | Grant::Full => SubHandling::Allow,
    }
}

/// What a grant gives: the same for everybody who has it.
pub fn render(presentity: &HomeState, grant: &Grant, now: Timestamp) -> View {
    match grant {
        Grant::Pending => View::Pending,
        Grant::Rejected => View::Rejected,
        Grant::Unavailable => View::Active(unavailable(&presentity.aor.uri())),
        Grant::Basic => View::Active(compose_basic(presentity, now).pidf),
        Grant::Part(permissions) => View::Active(part(gather(presentity, now), permissions)),
        Grant::Full => View::Active(compose(presentity, now).pidf),
    }
}

/// Composed first, then filtered; what is too large even so is reduced, and filtered as what it is then (RFC 5025 4).
fn part(mut document: Pidf, permissions: &Permissions) -> Bytes {
    filter(&mut document, permissions);
    document.write(MAX_BYTES).unwrap_or_else(|| {
        let reduced = Pidf::parse_within(&write_reduced(&document), &Limits::STORED);
        let mut reduced = reduced.unwrap_or_else(|_| Pidf::empty(document.entity.clone()));
        filter(&mut reduced, permissions);
        reduced.write(MAX_BYTES).unwrap_or_else(|| unavailable(&document.entity))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::availability::composition::unavailable;
    use crate::availability::fixtures::{NOW, alice, home, keep, pidf, publish, watch};

    fn bob() -> Aor {
        Aor::new("bob", "example.org").unwrap()
    }

    fn bobs_home() -> HomeState {
        HomeState::empty(bob())
    }

    fn open_alice() -> HomeState {
        let mut home = home();
        let inner = "<tuple id=\"a\"><status><basic>open</basic><x:s xmlns:x=\"urn:x\">SECRET1</x:s></status><rpid:class>SECRET2</rpid:class>\
                     <contact>tel:SECRET3</contact><note>SECRET4</note><timestamp>2026-11-20T23:29:15Z</timestamp></tuple><tuple id=\"b\">\
                     <status/></tuple><note>SECRET5</note><dm:person id=\"p\"><rpid:activities><rpid:meeting/></rpid:activities>\
                     <dm:note>SECRET6</dm:note></dm:person><dm:device id=\"d\"><dm:deviceID>urn:SECRET7</dm:deviceID></dm:device>\
                     <x:top xmlns:x=\"urn:x\">SECRET8</x:top>";
        publish(&mut home, 1, &pidf(inner));
        home
    }

    fn default_for(watcher: &Aor, watched: &HomeState, default: DomainDefault) -> Grant {
        grant(&home(), watcher, watched, &default.into(), &|| None, NOW)
    }

    #[test]
    fn everybody_sees_themselves_whatever_the_default() {
        for default in
            [DomainDefault::Reciprocal, DomainDefault::Confirm, DomainDefault::Basic, DomainDefault::Full]
        {
            assert_eq!(default_for(&alice(), &home(), default), Grant::Full);
        }
        let View::Active(own) = view(&open_alice(), &alice(), &home(), &DomainDefault::Confirm.into(), NOW)
        else {
            panic!()
        };
        assert_eq!(own, compose(&open_alice(), NOW).pidf);
    }

    #[test]
    fn reciprocal_shows_only_to_those_the_presentity_watches_a31() {
        let mut watched = bobs_home();
        assert_eq!(default_for(&bob(), &watched, DomainDefault::Reciprocal), Grant::Pending);
        watch(&mut watched, &alice(), NOW.after_secs(1));
        assert_eq!(default_for(&bob(), &watched, DomainDefault::Reciprocal), Grant::Full);
        let after = NOW.after_secs(1);
        assert_eq!(
            grant(&home(), &bob(), &watched, &DomainDefault::Reciprocal.into(), &|| None, after),
            Grant::Pending
        );
    }

    #[test]
    fn somebody_elses_home_proves_nothing_a31() {
        let carol = Aor::new("carol", "example.org").unwrap();
        let mut watched = HomeState::empty(carol.clone());
        watch(&mut watched, &alice(), NOW.after_secs(1));
        assert_eq!(default_for(&bob(), &watched, DomainDefault::Reciprocal), Grant::Pending);
        let mut other_way = bobs_home();
        watch(&mut other_way, &carol, NOW.after_secs(1));
        assert_eq!(default_for(&bob(), &other_way, DomainDefault::Reciprocal), Grant::Pending);
    }

    #[test]
    fn confirm_waits_for_the_owner_even_when_reciprocal_a31() {
        let mut watched = bobs_home();
        watch(&mut watched, &alice(), NOW.after_secs(1));
        assert_eq!(default_for(&bob(), &watched, DomainDefault::Confirm), Grant::Pending);
        assert_eq!(view(&open_alice(), &bob(), &watched, &DomainDefault::Confirm.into(), NOW), View::Pending);
    }

    #[test]
    fn full_shows_the_whole_document_within_the_domain() {
        assert_eq!(default_for(&bob(), &bobs_home(), DomainDefault::Full), Grant::Full);
    }

    #[test]
    fn basic_leaks_nothing_but_open_or_closed_a31() {
        let seen = view(&open_alice(), &bob(), &bobs_home(), &DomainDefault::Basic.into(), NOW);
        let View::Active(document) = seen else { panic!() };
        assert_eq!(
            document,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" \
             entity=\"sip:alice@example.org\">\n<tuple id=\"a\"><status><basic>open</basic></status>\
             <contact>sip:alice@example.org</contact></tuple>\n</presence>\n"
        );
        let offline = view(&home(), &bob(), &bobs_home(), &DomainDefault::Basic.into(), NOW);
        assert_eq!(offline, View::Active(unavailable("sip:alice@example.org")));
    }

    fn ruled(rules: &str) -> HomeState {
        let mut home = open_alice();
        let text = format!(
            "<cp:ruleset xmlns:cp=\"urn:ietf:params:xml:ns:common-policy\" xmlns:pr=\"urn:ietf:params:xml:ns:pres-rules\" \
             xmlns:h=\"urn:hither:rules\">{rules}</cp:ruleset>"
        );
        keep(&mut home, "index", &text);
        home
    }

    fn rule(id: &str, who: &str, action: &str, transformations: &str) -> String {
        let identity =
            if who.is_empty() { String::new() } else { format!("<cp:identity>{who}</cp:identity>") };
        format!(
            "<cp:rule id=\"{id}\"><cp:conditions>{identity}</cp:conditions><cp:actions>{action}</cp:actions>\
             <cp:transformations>{transformations}</cp:transformations></cp:rule>"
        )
    }

    fn handling(value: &str) -> String {
        format!("<pr:sub-handling>{value}</pr:sub-handling>")
    }

    fn ruled_for(home: &HomeState, watcher: &Aor, domain: &DomainRules) -> (Grant, Rule) {
        decide(home, watcher, &HomeState::empty(watcher.clone()), domain, &|| None, NOW)
    }

    const BOB: &str = "<cp:one id=\"sip:bob@example.org\"/>";
    const ALL: &str = "<pr:provide-services><pr:all-services/></pr:provide-services><pr:provide-persons><pr:all-persons/></pr:provide-persons>\
        <pr:provide-devices><pr:all-devices/></pr:provide-devices><pr:provide-all-attributes/>";

    #[test]
    fn the_owners_rules_stand_above_the_domains_rfc5025_3_2() {
        let full = DomainDefault::Full.into();
        for (value, expected) in [
            ("block", Grant::Rejected),
            ("confirm", Grant::Pending),
            ("polite-block", Grant::Unavailable),
            ("allow", Grant::Part(Arc::default())),
        ] {
            let home = ruled(&rule("a", BOB, &handling(value), ""));
            assert_eq!(ruled_for(&home, &bob(), &full), (expected, Rule::Owner), "{value}");
            let carol = Aor::new("carol", "example.org").unwrap();
            assert_eq!(ruled_for(&home, &carol, &full).0, Grant::Rejected, "no rule, no presence");
            assert_eq!(ruled_for(&home, &alice(), &full), (Grant::Full, Rule::Own));
        }
        let home = ruled(&rule("a", BOB, &handling("allow"), ALL));
        assert_eq!(ruled_for(&home, &bob(), &full).0, Grant::Full);
        let stranger = Aor::new("x", "example.net").unwrap();
        let home = ruled(&rule("a", "<cp:many domain=\"example.net\"/>", &handling("allow"), ALL));
        assert_eq!(ruled_for(&home, &stranger, &full).0, Grant::Full);
    }

    #[test]
    fn polite_block_is_the_document_of_who_is_not_there_byte_for_byte_rfc5025_3_2_1() {
        let ruled = ruled(&rule("a", BOB, &handling("polite-block"), ALL));
        let View::Active(seen) = view(&ruled, &bob(), &bobs_home(), &DomainDefault::Full.into(), NOW) else {
            panic!()
        };
        let View::Active(absent) = view(&home(), &bob(), &bobs_home(), &DomainDefault::Full.into(), NOW)
        else {
            panic!()
        };
        assert_eq!(seen, absent);
    }

    #[test]
    fn who_has_no_name_is_matched_by_rules_without_identity_alone_rfc5025_3_1_1_2() {
        let nobody = Aor::new("anonymous", "anonymous.invalid").unwrap();
        let default = DomainDefault::Full.into();
        let everybody = ruled(&rule("a", "", &handling("allow"), ALL));
        assert_eq!(ruled_for(&everybody, &nobody, &default).0, Grant::Full);
        let named = ruled(&rule("a", "<cp:many/>", &handling("allow"), ALL));
        assert_eq!(ruled_for(&named, &nobody, &default).0, Grant::Rejected);
    }

    #[test]
    fn whom_the_operator_denies_no_rule_lets_in() {
        let home = ruled(&rule("a", "", &handling("allow"), ALL));
        let denied = DomainRules {
            denied: [bob()].into(),
            denied_domains: ["example.net".into()].into(),
            ..DomainRules::default()
        };
        assert_eq!(ruled_for(&home, &bob(), &denied), (Grant::Rejected, Rule::Denied));
        assert_eq!(ruled_for(&home, &Aor::new("x", "example.net").unwrap(), &denied).0, Grant::Rejected);
        assert_eq!(ruled_for(&home, &Aor::new("x", "a.example.net").unwrap(), &denied).0, Grant::Full);
        let mut own = home.clone();
        own.aor = bob();
        assert_eq!(ruled_for(&own, &bob(), &denied).0, Grant::Full, "but themselves");
    }

    #[test]
    fn the_domains_rule_may_be_one_of_the_owners_rules() {
        let rest = rule("rest", "", "<h:domain-default/>", "");
        let combined = |value: &str, given: &str, default: DomainDefault| {
            let home = ruled(&(rest.clone() + &rule("a", BOB, &handling(value), given)));
            ruled_for(&home, &bob(), &default.into()).0
        };
        assert_eq!(combined("block", "", DomainDefault::Full), Grant::Full);
        assert_eq!(combined("block", "", DomainDefault::Confirm), Grant::Pending);
        assert_eq!(combined("polite-block", "", DomainDefault::Confirm), Grant::Unavailable);
        assert_eq!(combined("confirm", "", DomainDefault::Basic), Grant::Basic);
        assert_eq!(combined("allow", "", DomainDefault::Full), Grant::Full);
        let part = combined("allow", "<pr:provide-note>true</pr:provide-note>", DomainDefault::Basic);
        assert!(matches!(part, Grant::Part(_)), "who allows has said how much");
        let nobody = Aor::new("anonymous", "anonymous.invalid").unwrap();
        assert_eq!(
            ruled_for(&ruled(&rest), &nobody, &DomainDefault::Full.into()),
            (Grant::Rejected, Rule::Owner)
        );
    }

    #[test]
    fn what_is_too_large_is_reduced_and_still_filtered_rfc5025_4() {
        let mut home = ruled(&rule(
            "a",
            BOB,
            &handling("allow"),
            "<pr:provide-services><pr:service-uri-scheme>tel</pr:service-uri-scheme><pr:occurrence-id>big1</pr:occurrence-id></pr:provide-services>\
             <pr:provide-note>true</pr:provide-note>",
        ));
        for id in 1..=2 {
            let tuple = |n: &str| {
                format!(
                    "<tuple id=\"{n}{id}\"><status><basic>open</basic></status><contact>tel:{id}</contact><note>{}</note></tuple>",
                    "x".repeat(13_000)
                )
            };
            publish(&mut home, id, &pidf(&(tuple("big") + &tuple("small"))));
        }
        let View::Active(seen) = view(&home, &bob(), &bobs_home(), &DomainRules::default(), NOW) else {
            panic!()
        };
        let text = String::from_utf8(seen.to_vec()).unwrap();
        assert!(text.contains("\"big1\"") && !text.contains("small") && !text.contains("big2"), "{text}");
        assert!(!text.contains("note"), "{text}");
    }

    #[test]
    fn foreign_watchers_wait_for_the_owner_and_the_nameless_are_refused_a31() {
        let stranger = Aor::new("bob", "example.net").unwrap();
        let mut watched = HomeState::empty(stranger.clone());
        watch(&mut watched, &alice(), NOW.after_secs(1));
        for default in
            [DomainDefault::Reciprocal, DomainDefault::Confirm, DomainDefault::Basic, DomainDefault::Full]
        {
            assert_eq!(default_for(&stranger, &watched, default), Grant::Pending);
        }
        let nobody = Aor::new("anonymous", "anonymous.invalid").unwrap();
        let seen =
            view(&open_alice(), &nobody, &HomeState::empty(nobody.clone()), &DomainDefault::Full.into(), NOW);
        assert_eq!(seen, View::Rejected);
    }
}

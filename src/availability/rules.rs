//! What an owner's rules come to for one watcher at one instant (RFC 4745 7 and 10, RFC 5025 3.1 and 3.2).

use std::cell::LazyCell;
use std::sync::Arc;

use crate::availability::{documents, sphere};
use crate::model::{
    Aor, Document, HomeState, Meaning, Permissions, Rule, RuleSet, SubHandling, Text, Timestamp, Who,
};

/// The rules of an owner: those of all documents (RFC 5025 9.7). Read when nobody has asked since they changed. `None`: the owner has none.
pub fn of(home: &HomeState) -> Option<&Arc<RuleSet>> {
    home.documents.rules(read)
}

fn read(documents: &[&Document]) -> RuleSet {
    let (mut all, mut unreadable) = (Vec::new(), false);
    for document in documents {
        match documents::said(document) {
            Meaning::Rules(rules) => all.push(rules.clone()),
            Meaning::Unreadable | Meaning::Presence(_) | Meaning::Nothing => unreadable = true,
        }
    }
    RuleSet::new(all, unreadable)
}

/// What all matching rules come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Combined {
    /// The maximum; `Block` if no rule matches.
    pub handling: SubHandling,
    /// Everything that any of them provides.
    pub permissions: Arc<Permissions>,
    /// One of them gives what the domain gives those whose owner has no rules.
    pub domain_default: bool,
}

/// Combines the rules that match (RFC 4745 10.2).
///
/// - `watcher`: authenticated; `None` for who has no name, whom rules about identities never match (RFC 4745 7.1.1).
/// - `sphere`: see [`crate::availability::sphere`]; asked only if a rule does.
pub fn combine(
    rules: &RuleSet,
    watcher: Option<&Aor>,
    sphere: impl FnOnce() -> Option<Vec<Text>>,
    now: Timestamp,
) -> Combined {
    // A document that cannot be read may have said anything, so nobody is sent away because of it.
    let least = if rules.unreadable { SubHandling::Confirm } else { SubHandling::Block };
    let mut combined = Combined { handling: least, permissions: Arc::default(), domain_default: false };
    for rule in matching(rules, watcher, sphere, now) {
        combined.handling = combined.handling.max(rule.sub_handling.unwrap_or_default());
        combined.domain_default |= rule.domain_default;
        if *combined.permissions == Permissions::default() {
            combined.permissions = rule.permissions.clone();
        } else if combined.permissions != rule.permissions {
            Arc::make_mut(&mut combined.permissions).merge(&rule.permissions);
        }
    }
    combined
}

/// Is somebody kept away from this owner?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barred {
    /// No.
    No,
    /// Yes, and may know it.
    Openly,
    /// Yes, and shall not notice.
    Politely,
}

/// For what is not presence (messages, calls): rules are about watchers, so nobody is kept away only because no rule lets them watch. Who is, is
/// matched by a rule about identities that says `block` or `polite-block`, and by none that says more.
pub fn barred(home: &HomeState, who: &Aor, now: Timestamp) -> Barred {
    let Some(rules) = of(home) else { return Barred::No };
    let sphere = || sphere::sphere(home, now);
    let combined = combine(rules, Some(who), sphere, now);
    if *who == home.aor || combined.domain_default {
        return Barred::No;
    }
    let says = |handling| {
        matching(rules, Some(who), sphere, now)
            .any(|rule| rule.sub_handling == Some(handling) && !rule.identities.is_empty())
    };
    match combined.handling {
        SubHandling::Block if says(SubHandling::Block) => Barred::Openly,
        SubHandling::PoliteBlock if says(SubHandling::PoliteBlock) => Barred::Politely,
        SubHandling::Block | SubHandling::Confirm | SubHandling::PoliteBlock | SubHandling::Allow => {
            Barred::No
        }
    }
}

/// The rules whose conditions all hold (RFC 4745 10.1).
pub fn matching<'r>(
    rules: &'r RuleSet,
    watcher: Option<&Aor>,
    sphere: impl FnOnce() -> Option<Vec<Text>>,
    now: Timestamp,
) -> impl Iterator<Item = &'r Rule> {
    let named = watcher.cloned().map(Who::One);
    let sphere = LazyCell::new(sphere);
    rules.iter().filter(move |rule| {
        !rule.never
            && rule.identities.iter().all(|members| named.as_ref().is_some_and(|who| is_among(who, members)))
            && rule
                .validities
                .iter()
                .all(|intervals| intervals.iter().any(|interval| interval.contains(&now)))
            && rule.spheres.iter().all(|tokens| {
                sphere.as_ref().is_some_and(|words| tokens.iter().any(|token| words.contains(token)))
            })
    })
}

/// Members are sorted, those with names first.
fn is_among(who: &Who, members: &[Who]) -> bool {
    let Who::One(aor) = who else { return false };
    let is_member = |member: &Who| match member {
        Who::One(_) | Who::Nobody => false,
        Who::Many { domain, except, except_domains } => {
            // Whole domains are compared, never parts of them (RFC 4745 7.1.3).
            domain.as_ref().is_none_or(|domain| domain.as_str() == aor.domain())
                && except.binary_search(aor).is_err()
                && !except_domains.iter().any(|domain| domain.as_str() == aor.domain())
        }
    };
    members.binary_search(who).is_ok()
        || members.iter().rev().take_while(|member| !matches!(member, Who::One(_))).any(is_member)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::availability::document::rules;
    use crate::availability::document::rules::{COMMON_POLICY, PRES_RULES};
    use crate::availability::fixtures::{NOW, home, keep};
    use crate::model::{Attribute, Provided, Selector};

    fn ruleset(rules: &str) -> RuleSet {
        let text = format!("<ruleset xmlns=\"{COMMON_POLICY}\" xmlns:pr=\"{PRES_RULES}\">{rules}</ruleset>");
        RuleSet::new(vec![rules::read(text.as_bytes()).unwrap().into()], false)
    }

    fn allow(conditions: &str) -> RuleSet {
        ruleset(&format!(
            "<rule id=\"a\"><conditions>{conditions}</conditions><actions><pr:sub-handling>allow</pr:sub-handling></actions></rule>"
        ))
    }

    fn matches(rules: &RuleSet, watcher: &str) -> bool {
        let aor = Aor::from_stored(watcher);
        combine(rules, aor.as_ref(), || None, NOW).handling == SubHandling::Allow
    }

    fn identity(members: &str) -> RuleSet {
        allow(&format!("<identity>{members}</identity>"))
    }

    #[test]
    fn one_is_one_user_and_no_pattern_rfc4745_7_1_2() {
        let rules = identity(
            "<one id=\"sip:bob@example.org\"/><one id=\"sip:*@example.net\"/><one id=\"tel:+4930\"/>",
        );
        for (watcher, is) in [
            ("bob@example.org", true),
            ("Bob@example.org", false),
            ("bob@example.net", false),
            ("bobby@example.org", false),
            ("bob@sub.example.org", false),
            ("+4930@example.org", false),
            ("", false),
        ] {
            assert_eq!(matches(&rules, watcher), is, "{watcher}");
        }
    }

    #[test]
    fn many_is_a_whole_domain_without_exceptions_rfc4745_7_1_3() {
        let everybody = identity("<many/>");
        assert!(matches(&everybody, "bob@example.org") && matches(&everybody, "x@example.net"));
        assert!(!matches(&everybody, ""), "only who has a name");
        let domain = identity("<many domain=\"example.org\"><except id=\"sip:bob@example.org\"/></many>");
        for (watcher, is) in [
            ("carol@example.org", true),
            ("bob@example.org", false),
            ("carol@sub.example.org", false),
            ("carol@badexample.org", false),
            ("carol@example.or", false),
        ] {
            assert_eq!(matches(&domain, watcher), is, "{watcher}");
        }
        let but =
            identity("<many><except domain=\"example.net\"/><except id=\"sip:eve@example.org\"/></many>");
        assert!(matches(&but, "bob@example.org") && matches(&but, "bob@sub.example.net"));
        assert!(!matches(&but, "bob@example.net") && !matches(&but, "eve@example.org"));
        let or = identity("<many domain=\"example.net\"/><one id=\"sip:eve@example.org\"/>");
        assert!(
            matches(&or, "eve@example.org")
                && matches(&or, "x@example.net")
                && !matches(&or, "bob@example.org")
        );
    }

    #[test]
    fn without_identity_a_rule_is_for_everybody_even_without_a_name_rfc5025_3_1_1_2() {
        for rules in [
            allow(""),
            identity(""),
            ruleset("<rule id=\"a\"><actions><pr:sub-handling>allow</pr:sub-handling></actions></rule>"),
        ] {
            assert!(matches(&rules, "bob@example.org") && matches(&rules, ""));
        }
    }

    #[test]
    fn all_conditions_must_hold_and_unknown_ones_never_do_rfc4745_7() {
        let bob = "<identity><one id=\"sip:bob@example.org\"/></identity>";
        assert!(matches(&allow(bob), "bob@example.org"));
        assert!(!matches(&allow(&format!("{bob}<x:moon xmlns:x=\"urn:x\"/>")), "bob@example.org"));
        assert!(!matches(&allow(&format!("{bob}<sphere value=\"work\"/>")), "bob@example.org"));
        let carol = bob.replace("bob", "carol");
        assert!(
            !matches(&allow(&format!("{bob}{carol}")), "bob@example.org"),
            "two identities are one AND the other"
        );
    }

    #[test]
    fn spheres_are_words_in_any_case_and_none_matches_nothing_rfc4745_7_3() {
        let rules = allow("<sphere value=\"Work  home\"/>");
        let handling = |sphere: Option<&str>| {
            let words = sphere.map(|words| words.split(' ').map(Text::from).collect());
            combine(&rules, None, || words, NOW).handling
        };
        assert_eq!(handling(Some("work")), SubHandling::Allow);
        assert_eq!(handling(Some("home")), SubHandling::Allow);
        assert_eq!(handling(Some("wor")), SubHandling::Block);
        assert_eq!(handling(None), SubHandling::Block);
        combine(&ruleset(""), None, || unreachable!("nobody asks for it"), NOW);
    }

    #[test]
    fn intervals_begin_at_from_and_end_before_until_rfc4745_7_4() {
        let rules = allow(
            "<validity><from>2026-11-20T23:29:15.123Z</from><until>2026-11-20T23:29:16Z</until><from>2026-11-20T23:30:00Z</from>\
             <until>2026-11-20T23:31:00Z</until></validity>",
        );
        let at =
            |ms: i64| combine(&rules, None, || None, Timestamp(NOW.0 + ms)).handling == SubHandling::Allow;
        assert_eq!(
            [-1, 0, 876, 877, 44_877, 104_876, 104_877].map(at),
            [false, true, true, false, true, true, false]
        );
        let flips: Vec<i64> = std::iter::successors(rules.next_flip(Timestamp(0)), |at| rules.next_flip(*at))
            .map(|at| at.0 - NOW.0)
            .collect();
        assert_eq!(flips, [0, 877, 44_877, 104_877]);
    }

    /// Rules 3 and 5 of the table fire (RFC 4745 10.3); here handling is the number and class the set.
    #[test]
    fn permissions_are_combined_each_by_itself_rfc4745_10_2() {
        let rule = |id: &str, who: &str, handling: &str, transformations: &str| {
            format!(
                "<rule id=\"{id}\"><conditions><identity><one id=\"sip:{who}@example.org\"/></identity></conditions><actions>{handling}\
                 </actions><transformations>{transformations}</transformations></rule>"
            )
        };
        let handling = |value: &str| format!("<pr:sub-handling>{value}</pr:sub-handling>");
        let devices =
            |class: &str| format!("<pr:provide-devices><pr:class>{class}</pr:class></pr:provide-devices>");
        let text = [
            rule(
                "a",
                "bob",
                &handling("block"),
                &format!("{}<pr:provide-note>true</pr:provide-note>", devices("home")),
            ),
            rule("b", "alice", &handling("allow"), "<pr:provide-mood>true</pr:provide-mood>"),
            rule(
                "c",
                "bob",
                &handling("polite-block"),
                &format!("{}<pr:provide-note>false</pr:provide-note>", devices("biz")),
            ),
            rule("d", "bob", "", "<pr:provide-user-input>bare</pr:provide-user-input>"),
            rule(
                "e",
                "bob",
                &handling("confirm"),
                "<pr:provide-user-input>thresholds</pr:provide-user-input>",
            ),
        ];
        let rules = ruleset(&text.concat());
        let bob = Aor::new("bob", "example.org").unwrap();
        let combined = combine(&rules, Some(&bob), || None, NOW);
        let classes = ["home", "biz"].map(|class| Selector::Class(class.into()));
        let expected = Permissions {
            devices: Provided::These(classes.into()),
            attributes: [Attribute::Note].into(),
            user_input: crate::model::UserInput::Thresholds,
            ..Permissions::default()
        };
        assert_eq!((combined.handling, &*combined.permissions), (SubHandling::PoliteBlock, &expected));
        let nobody = Aor::new("dave", "example.org").unwrap();
        assert_eq!(combine(&rules, Some(&nobody), || None, NOW).handling, SubHandling::Block);
    }

    #[test]
    fn an_unreadable_document_sends_nobody_away() {
        let unreadable = RuleSet::new(Vec::new(), true);
        assert_eq!(combine(&unreadable, None, || None, NOW).handling, SubHandling::Confirm);
    }

    fn about(who: &str, handling: &str) -> String {
        format!(
            "<ruleset xmlns=\"{COMMON_POLICY}\" xmlns:pr=\"{PRES_RULES}\"><rule id=\"a\"><conditions>{who}</conditions><actions>\
             <pr:sub-handling>{handling}</pr:sub-handling></actions></rule></ruleset>"
        )
    }

    const BOB: &str = "<identity><one id=\"sip:bob@example.org\"/></identity>";

    #[test]
    fn all_documents_of_an_owner_are_one_set_of_rules_rfc5025_9_7() {
        let mut home = home();
        assert!(of(&home).is_none());
        keep(&mut home, "index", &about(BOB, "confirm"));
        keep(&mut home, "other/folder", &about("", "polite-block"));
        let bob = Aor::new("bob", "example.org").unwrap();
        let handling = |home: &HomeState| combine(of(home).unwrap(), Some(&bob), || None, NOW).handling;
        assert_eq!((of(&home).unwrap().iter().count(), handling(&home)), (2, SubHandling::PoliteBlock));
        keep(&mut home, "third", "<broken");
        assert!(of(&home).unwrap().unreadable);
        assert_eq!(handling(&home), SubHandling::PoliteBlock, "what can be read still counts");
    }

    #[test]
    fn only_who_is_meant_is_kept_away_from_more_than_presence() {
        let bob = Aor::new("bob", "example.org").unwrap();
        for (rule, expected) in [
            (about(BOB, "block"), Barred::Openly),
            (about(BOB, "polite-block"), Barred::Politely),
            (about("<identity><many domain=\"example.org\"/></identity>", "block"), Barred::Openly),
            (about("", "block"), Barred::No),
            (about(BOB, "confirm"), Barred::No),
            (about(BOB, "allow"), Barred::No),
            (about(&BOB.replace("bob", "carol"), "block"), Barred::No),
        ] {
            let mut home = home();
            assert_eq!(barred(&home, &bob, NOW), Barred::No);
            keep(&mut home, "index", &rule);
            assert_eq!(barred(&home, &bob, NOW), expected, "{rule}");
            assert_eq!(barred(&home, &home.aor, NOW), Barred::No);
            keep(&mut home, "more", &about("<identity><many/></identity>", "allow"));
            assert_eq!(barred(&home, &bob, NOW), Barred::No, "{rule}: the maximum");
        }
    }
}

//! Rules about people by name, as the operator or a simple client sets them: `allow bob`, `block carol`.
//!
//! They are rules of the owner's own document like all others (`pres-rules`, `index`), one for each kind, known by their ids; everything else in
//! it stays byte for byte. As rules can only grant (RFC 4745 8), `block` needs one more: a document that begins here has a rule for everybody
//! who is not named, which gives them what the domain gives where an owner has no rules at all.

use std::collections::BTreeMap;

use crate::availability::document::edit::{self, Place};
use crate::availability::document::rules::{self, COMMON_POLICY, DOMAIN_DEFAULT, OURS, PRES_RULES};
use crate::availability::document::write;
use crate::availability::document::xml::{Document, Limits, Node};
use crate::model::{Aor, Auid, DocumentName, HomeState, SubHandling};

/// Where they are.
pub fn document() -> DocumentName {
    DocumentName::new(Auid::PresRules, "index")
}

/// What a document says by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Named {
    /// Who, and what of them.
    pub people: BTreeMap<Aor, SubHandling>,
    /// Does everybody else get what the domain gives where there are no rules?
    pub rest_by_default: bool,
    /// How many rules are of others.
    pub others: usize,
}

impl Named {
    /// What an owner's document says; of an owner without any, that nobody is named.
    ///
    /// # Errors
    /// What is wrong with the document.
    pub fn of(home: &HomeState) -> Result<Named, &'static str> {
        Named::read(home.documents.get(&document()).map(|there| &*there.body))
    }

    fn read(body: Option<&[u8]>) -> Result<Named, &'static str> {
        let Some(body) = body else { return Ok(Named { rest_by_default: true, ..Named::default() }) };
        let document = stored(body)?;
        rules::of(document.root())?;
        let mut named = Named::default();
        for rule in document.root().children() {
            let id = rule.attribute("id").unwrap_or_default();
            if let Some((handling, _)) = KINDS.iter().find(|(_, own)| *own == id) {
                named.people.extend(ones(rule).map(|who| (who, *handling)));
            } else if id == REST {
                named.rest_by_default = true;
            } else {
                named.others = named.others.saturating_add(1);
            }
        }
        Ok(named)
    }

    /// The rule of one kind; `None` if it would name nobody.
    fn rule(&self, handling: SubHandling, id: &str) -> Option<String> {
        let ones: String = self.of_kind(handling).map(|who| element("one", who)).collect();
        let action = format!("<pr:sub-handling>{}</pr:sub-handling>", word(handling));
        let all = if handling == SubHandling::Allow { EVERYTHING } else { "" };
        (!ones.is_empty()).then(|| rule(id, &ones, &action, all))
    }

    /// The rule for those who are not named.
    fn rest(&self) -> String {
        let named: String = self.people.keys().map(|who| element("except", who)).collect();
        rule(REST, &format!("<many>{named}</many>"), &format!("<{DOMAIN_DEFAULT} xmlns=\"{OURS}\"/>"), "")
    }

    fn of_kind(&self, handling: SubHandling) -> impl Iterator<Item = &Aor> {
        self.people.iter().filter(move |(_, kind)| **kind == handling).map(|(who, _)| who)
    }
}

/// An owner's document after this is said of somebody. `None`: it would say nothing, so it shall go.
///
/// - `body`: the document as it is; `None` if there is none.
/// - `handling`: `None`: nothing any more.
///
/// # Errors
/// What is wrong with the document.
pub fn edited(
    body: Option<&[u8]>,
    who: &Aor,
    handling: Option<SubHandling>,
) -> Result<Option<String>, &'static str> {
    let before = Named::read(body)?;
    let mut after = before.clone();
    match handling {
        Some(handling) => after.people.insert(who.clone(), handling),
        None => after.people.remove(who),
    };
    // Without the rule for the rest, a document without rules refuses everybody: it is not the same as none.
    if after.people.is_empty() && after.others == 0 && after.rest_by_default {
        return Ok(None);
    }
    let mut text = stored(body.unwrap_or(EMPTY.as_bytes()))?.text().to_owned();
    for (kind, id) in KINDS {
        if !before.of_kind(kind).eq(after.of_kind(kind)) {
            text = with_rule(&text, id, after.rule(kind, id).as_deref())?;
        }
    }
    if after.rest_by_default && (body.is_none() || before != after) {
        text = with_rule(&text, REST, Some(&after.rest()))?;
    }
    Ok(Some(text))
}

/// The text with one rule of ours set, or without it. A rule begins a line, which goes with it.
fn with_rule(text: &str, id: &str, rule: Option<&str>) -> Result<String, &'static str> {
    let document = stored(text.as_bytes())?;
    let there = document.root().children().find(|rule| rule.attribute("id") == Some(id));
    Ok(match (there, rule) {
        (Some(node), Some(rule)) => edit::replace(&document, node, rule),
        (Some(node), None) => {
            let mut without = edit::remove(&document, node);
            if let Some(before) = node.span().start.checked_sub(1)
                && without.as_bytes().get(before) == Some(&b'\n')
            {
                without.remove(before);
            }
            without
        }
        (None, Some(rule)) => edit::insert(&document, Place::LastIn(document.root()), &format!("\n{rule}")).0,
        (None, None) => text.to_owned(),
    })
}

fn stored(body: &[u8]) -> Result<Document<'_>, &'static str> {
    Document::read(body, &Limits::STORED).map_err(|_| "not well-formed")
}

/// It says itself what its prefixes are, as it may stand in a document of anybody's making.
fn rule(id: &str, members: &str, action: &str, transformations: &str) -> String {
    format!(
        "<rule xmlns=\"{COMMON_POLICY}\" xmlns:pr=\"{PRES_RULES}\" id=\"{id}\"><conditions><identity>{members}</identity></conditions>\
         <actions>{action}</actions><transformations>{transformations}</transformations></rule>"
    )
}

fn element(name: &str, who: &Aor) -> String {
    let mut uri = String::new();
    write::escape(&mut uri, &who.uri());
    format!("<{name} id=\"{uri}\"/>")
}

/// The people in a rule of ours.
fn ones(rule: Node<'_>) -> impl Iterator<Item = Aor> {
    let conditions = rule.children().filter(|part| part.is(COMMON_POLICY, "conditions"));
    let identities = conditions.flat_map(Node::children).filter(|one| one.is(COMMON_POLICY, "identity"));
    identities.flat_map(Node::children).filter_map(|one| rules::identity(one.attribute("id")?))
}

/// The value of `<sub-handling>` (RFC 5025 3.2.1).
pub fn word(handling: SubHandling) -> &'static str {
    match handling {
        SubHandling::Block => "block",
        SubHandling::Confirm => "confirm",
        SubHandling::PoliteBlock => "polite-block",
        SubHandling::Allow => "allow",
    }
}

/// The ids of our rules, which nobody else uses.
const KINDS: [(SubHandling, &str); 4] = [
    (SubHandling::Allow, "hither-allow"),
    (SubHandling::Confirm, "hither-confirm"),
    (SubHandling::PoliteBlock, "hither-polite-block"),
    (SubHandling::Block, "hither-block"),
];
/// The rule for those whom none of these names.
const REST: &str = "hither-rest";

const EMPTY: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ruleset xmlns=\"urn:ietf:params:xml:ns:common-policy\"></ruleset>\n";

const EVERYTHING: &str = "<pr:provide-devices><pr:all-devices/></pr:provide-devices><pr:provide-persons><pr:all-persons/></pr:provide-persons>\
    <pr:provide-services><pr:all-services/></pr:provide-services><pr:provide-all-attributes/>";

#[cfg(test)]
mod tests {
    use super::*;

    fn aor(text: &str) -> Aor {
        Aor::from_stored(text).unwrap()
    }

    fn set(text: Option<&str>, who: &str, handling: Option<SubHandling>) -> Option<String> {
        edited(text.map(str::as_bytes), &aor(who), handling).unwrap()
    }

    #[test]
    fn what_is_written_is_read_and_nothing_is_no_document() {
        let people = ["bob@example.org", "a&b@example.org", "x@example.net", "ö\"@example.org"];
        let kinds = [SubHandling::Block, SubHandling::Confirm, SubHandling::PoliteBlock, SubHandling::Allow];
        let mut text = set(None, "zoe@example.org", None);
        assert_eq!(text, None);
        for (who, kind) in people.iter().zip(kinds) {
            text = set(text.as_deref(), who, Some(kind));
        }
        let named = Named::read(text.as_deref().map(str::as_bytes)).unwrap();
        let expected = people.iter().map(|who| aor(who)).zip(kinds).collect();
        assert_eq!(named, Named { people: expected, rest_by_default: true, others: 0 });
        // Whoever changes sides stands on one side alone.
        text = set(text.as_deref(), people[0], Some(SubHandling::Allow));
        let named = Named::read(text.as_deref().map(str::as_bytes)).unwrap();
        assert_eq!(named.people.get(&aor(people[0])), Some(&SubHandling::Allow));
        assert!(!text.as_ref().unwrap().contains("hither-block"), "{text:?}");
        for who in people {
            text = set(text.as_deref(), who, None);
        }
        assert_eq!(text, None);
    }

    /// With prefixes, quotes, spaces and comments of somebody's own.
    const FOREIGN: &str = "<?xml version='1.0'?>\n<!-- mine -->\n<r:ruleset xmlns:r='urn:ietf:params:xml:ns:common-policy'\n \
        xmlns:p=\"urn:ietf:params:xml:ns:pres-rules\"><r:rule  id='mine'><r:conditions ><r:identity>\
        <r:one id='sip:dave@example.org'/></r:identity></r:conditions><r:actions>\n<p:sub-handling>allow</p:sub-handling>\
        </r:actions></r:rule ><!-- x --> </r:ruleset>\n";

    #[test]
    fn everything_of_others_stays_byte_for_byte() {
        let (head, tail) = FOREIGN.split_once("</r:ruleset>").unwrap();
        let with = set(Some(FOREIGN), "bob@example.org", Some(SubHandling::Allow)).unwrap();
        let inside = with.strip_prefix(head).unwrap().strip_suffix(tail).unwrap();
        assert!(inside.starts_with("\n<rule ") && inside.ends_with("</rule></r:ruleset>"), "{inside}");
        let rules = rules::read(with.as_bytes()).unwrap();
        assert_eq!(rules.len(), 2, "and none for the rest where their owner made none");
        let both = set(Some(&with), "carol@example.org", Some(SubHandling::Block)).unwrap();
        assert!(both.starts_with(head), "{both}");
        let one = set(Some(&both), "carol@example.org", None).unwrap();
        assert_eq!(one, with);
        assert_eq!(set(Some(&one), "bob@example.org", None).as_deref(), Some(FOREIGN));
    }

    #[test]
    fn who_refuses_everybody_goes_on_doing_so() {
        let nobody = "<ruleset xmlns=\"urn:ietf:params:xml:ns:common-policy\"/>";
        let bob = set(Some(nobody), "bob@example.org", Some(SubHandling::Allow)).unwrap();
        let again = set(Some(&bob), "bob@example.org", None).unwrap();
        assert_eq!(rules::read(again.as_bytes()), Ok(Vec::new()), "{again}");
    }

    #[test]
    fn what_cannot_be_read_is_not_edited() {
        assert!(edited(Some(b"<ruleset/>"), &aor("bob@example.org"), None).is_err());
    }
}

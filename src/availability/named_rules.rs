//! Rules about people by name, as the operator or a simple client sets them: `allow bob`, `block carol`.
//!
//! They are rules of the owner's own document like all others (`pres-rules`, `index`), one for each kind, known by their ids; the other rules in
//! it are left as they are. As rules can only grant (RFC 4745 8), `block` needs one more: a document that begins here has a rule for everybody
//! who is not named, which gives them what the domain gives where an owner has no rules at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

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
    /// All other rules, as they stand.
    others: Vec<String>,
}

impl Named {
    /// What an owner's document says; of an owner without any, that nobody is named.
    ///
    /// # Errors
    /// What is wrong with the document.
    pub fn of(home: &HomeState) -> Result<Named, &'static str> {
        match home.documents.get(&document()) {
            Some(there) => Named::read(&there.body),
            None => Ok(Named { rest_by_default: true, ..Named::default() }),
        }
    }

    fn read(body: &[u8]) -> Result<Named, &'static str> {
        rules::read(body)?;
        let document = Document::read(body, &Limits::STORED).map_err(|_| "not well-formed")?;
        let mut named = Named::default();
        for rule in document.root().children() {
            let id = rule.attribute("id").unwrap_or_default();
            if let Some((handling, _)) = KINDS.iter().find(|(_, own)| *own == id) {
                named.people.extend(ones(rule).map(|who| (who, *handling)));
            } else if id == REST {
                named.rest_by_default = true;
            } else {
                named.others.push(rule.fragment().alone());
            }
        }
        Ok(named)
    }

    /// How many rules are of others.
    pub fn others(&self) -> usize {
        self.others.len()
    }

    /// The document that says so; `None` if it would say nothing.
    pub fn write(&self) -> Option<String> {
        if self.people.is_empty() && self.others.is_empty() {
            return None;
        }
        let mut text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ruleset xmlns=\"{COMMON_POLICY}\" xmlns:pr=\"{PRES_RULES}\">\n"
        );
        for other in &self.others {
            let _ = writeln!(text, "{other}");
        }
        for (handling, id) in KINDS {
            let of_this_kind = self.people.iter().filter(|(_, kind)| **kind == handling);
            let ones: String = of_this_kind.map(|(who, _)| element("one", who)).collect();
            if !ones.is_empty() {
                let action = format!("<pr:sub-handling>{}</pr:sub-handling>", word(handling));
                let all = if handling == SubHandling::Allow { EVERYTHING } else { "" };
                rule(&mut text, id, &ones, &action, all);
            }
        }
        if self.rest_by_default {
            let named: BTreeSet<String> = self.people.keys().map(|who| element("except", who)).collect();
            let rest = format!("<many>{}</many>", named.into_iter().collect::<String>());
            rule(&mut text, REST, &rest, &format!("<{DOMAIN_DEFAULT} xmlns=\"{OURS}\"/>"), "");
        }
        text.push_str("</ruleset>\n");
        Some(text)
    }
}

fn rule(text: &mut String, id: &str, members: &str, action: &str, transformations: &str) {
    let _ = writeln!(
        text,
        "<rule id=\"{id}\"><conditions><identity>{members}</identity></conditions><actions>{action}</actions>\
         <transformations>{transformations}</transformations></rule>"
    );
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

const EVERYTHING: &str = "<pr:provide-devices><pr:all-devices/></pr:provide-devices><pr:provide-persons><pr:all-persons/></pr:provide-persons>\
    <pr:provide-services><pr:all-services/></pr:provide-services><pr:provide-all-attributes/>";

#[cfg(test)]
mod tests {
    use super::*;

    fn aor(text: &str) -> Aor {
        Aor::from_stored(text).unwrap()
    }

    fn fresh() -> Named {
        Named { rest_by_default: true, ..Named::default() }
    }

    #[test]
    fn what_is_written_is_read_and_nothing_is_no_document() {
        let mut named = fresh();
        assert_eq!(named.write(), None);
        let all = [SubHandling::Block, SubHandling::Confirm, SubHandling::PoliteBlock, SubHandling::Allow];
        for (who, handling) in
            ["bob@example.org", "a&b@example.org", "x@example.net", "ö\"@example.org"].iter().zip(all)
        {
            named.people.insert(aor(who), handling);
        }
        let text = named.write().unwrap();
        assert_eq!(Named::read(text.as_bytes()), Ok(named));
    }

    #[test]
    fn rules_of_others_stay_as_they_are() {
        let foreign = "<r:rule id=\"mine\"><r:conditions><r:identity><r:one id=\"sip:dave@example.org\"/></r:identity></r:conditions>\
                       <r:actions><p:sub-handling>allow</p:sub-handling></r:actions></r:rule>";
        let text = format!(
            "<r:ruleset xmlns:r=\"{COMMON_POLICY}\" xmlns:p=\"{PRES_RULES}\">{foreign}<!-- x --></r:ruleset>"
        );
        let before = rules::read(text.as_bytes()).unwrap();
        let mut named = Named::read(text.as_bytes()).unwrap();
        assert_eq!((named.others(), named.rest_by_default), (1, false));
        named.people.insert(aor("bob@example.org"), SubHandling::Allow);
        let after = rules::read(named.write().unwrap().as_bytes()).unwrap();
        assert_eq!(
            (&after[0], after.len()),
            (&before[0], 2),
            "and no rule for the rest where their owner made none"
        );
        named.people.clear();
        assert_eq!(rules::read(named.write().unwrap().as_bytes()).unwrap(), before);
    }
}

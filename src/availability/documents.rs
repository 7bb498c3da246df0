//! Changing the documents of a user: what is stored under which condition. The command line and XCAP ask here, and nobody else makes such rows.
//!
//! What a document says is read once ([`understand`], [`said`]) and kept with it. [`put`] and [`remove`] are decisions for a home's turn: they
//! give the rows (a [`Plan`]) and what to tell who asked. A document is durable before anybody is told, so while the store is away nothing
//! is taken.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::smallvec;

use crate::availability::document::pidf::Pidf;
use crate::availability::document::xml::{self, Limits, XmlError};
use crate::availability::document::{lists, rules};
use crate::model::{
    Auid, Document, DocumentName, Durability, EntityTag, HomeState, Meaning, Moved, Plan, Row, Said, Text,
    Timestamp,
};

/// Under which condition a document is changed (RFC 4825 7.11, RFC 2616 14.24 and 14.26).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// `If-Match`: it is there with one of these tags. What is no tag of ours matches nothing: leave it out of the list.
    Matches(Vec<EntityTag>),
    /// `If-Match: *`: it is there.
    Exists,
    /// `If-None-Match`: it is not there with any of these tags.
    MatchesNone(Vec<EntityTag>),
    /// `If-None-Match: *`: it is not there.
    Absent,
}

impl Condition {
    /// Does it hold for the document as it is? `None`: there is none.
    pub fn holds(&self, current: Option<EntityTag>) -> bool {
        match self {
            Condition::Matches(tags) => current.is_some_and(|tag| tags.contains(&tag)),
            Condition::Exists => current.is_some(),
            Condition::MatchesNone(tags) => !current.is_some_and(|tag| tags.contains(&tag)),
            Condition::Absent => current.is_none(),
        }
    }
}

/// A document as it shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDocument {
    /// Which.
    pub name: DocumentName,
    /// Its media type, checked by the caller.
    pub content_type: Text,
    /// The whole of it.
    pub body: Bytes,
    /// Random: no other document, and no other version of this one, has had it.
    pub tag: EntityTag,
    /// What the body says: what cannot be understood is never stored, so rules in force are always the owner's own.
    pub said: Said,
}

impl NewDocument {
    /// Reads what it says.
    ///
    /// # Errors
    /// [`Refused::TooLarge`], [`Refused::NotUnderstood`]
    pub fn read(
        name: DocumentName,
        content_type: &str,
        body: Bytes,
        tag: EntityTag,
    ) -> Result<NewDocument, Refused> {
        if body.len() > MAX_BYTES {
            return Err(Refused::TooLarge);
        }
        let meaning = xml::Document::read(&body, &Limits::STORED)
            .map_err(XmlError::what)
            .and_then(|document| understand(&name.auid, &document, &body));
        let said = Said::known(meaning.map_err(Refused::NotUnderstood)?);
        Ok(NewDocument { name, content_type: content_type.into(), body, tag, said })
    }
}

/// What a change came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// It was not there before; the tag is its own.
    Created(EntityTag),
    /// It was; the tag is the new one.
    Replaced(EntityTag),
    /// It is gone.
    Dropped,
}

/// Why nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A condition does not hold (412).
    #[error("it has changed meanwhile, or is there already")]
    Condition,
    /// There is no such document (404).
    #[error("there is no such document")]
    Missing,
    /// The name cannot be one (404).
    #[error("not a name of a document")]
    Name,
    /// More than [`MAX_BYTES`].
    #[error("the document is too large")]
    TooLarge,
    /// All documents of this user would be more than [`MAX_BYTES_PER_USER`] or [`MAX_PER_USER`].
    #[error("too many documents, or too large together")]
    Quota,
    /// It does not say what it would have to say; the text names the place (409).
    #[error("the document is not understood: {0}")]
    NotUnderstood(&'static str),
    /// What was to be changed in it is not there, or there already; the text says which.
    #[error("{0}")]
    NotDone(&'static str),
    /// The store is away (503).
    #[error("the store is away")]
    StoreAway,
}

/// Writes a whole document.
///
/// - `conditions`: all of them must hold.
/// - `durable`: the store answers (`Mode::Durable` of the turn).
pub fn put(
    home: &HomeState,
    new: &NewDocument,
    conditions: &[Condition],
    now: Timestamp,
    durable: bool,
) -> (Plan, Result<Changed, Refused>) {
    match may_put(home, new, conditions, durable) {
        Err(refused) => (Plan::nothing(), Err(refused)),
        Ok(was_there) => {
            let document = Document {
                owner: home.aor.clone(),
                name: new.name.clone(),
                tag: new.tag,
                content_type: new.content_type.clone(),
                body: new.body.clone(),
                modified_at: home
                    .documents
                    .get(&new.name)
                    .map_or(now, |old| now.max(Timestamp(old.modified_at.0.saturating_add(1)))),
                said: new.said.clone(),
            };
            let changed = if was_there { Changed::Replaced(new.tag) } else { Changed::Created(new.tag) };
            (plan(Row::PutDocument(Arc::new(document)), &new.name), Ok(changed))
        }
    }
}

/// Takes a document away; as [`put`].
pub fn remove(
    home: &HomeState,
    name: &DocumentName,
    conditions: &[Condition],
    durable: bool,
) -> (Plan, Result<Changed, Refused>) {
    let current = home.documents.get(name).map(|document| document.tag);
    let refused = match current {
        None => Refused::Missing,
        Some(_) if !conditions.iter().all(|condition| condition.holds(current)) => Refused::Condition,
        Some(_) if !durable => Refused::StoreAway,
        Some(_) => {
            let row = Row::DropDocument(home.aor.clone(), name.clone());
            return (plan(row, name), Ok(Changed::Dropped));
        }
    };
    (Plan::nothing(), Err(refused))
}

/// Says whether it is there already.
fn may_put(
    home: &HomeState,
    new: &NewDocument,
    conditions: &[Condition],
    durable: bool,
) -> Result<bool, Refused> {
    let current = home.documents.get(&new.name);
    if !is_name(&new.name) {
        return Err(Refused::Name);
    }
    if !conditions.iter().all(|condition| condition.holds(current.map(|document| document.tag))) {
        return Err(Refused::Condition);
    }
    if new.body.len() > MAX_BYTES {
        return Err(Refused::TooLarge);
    }
    let before = current.map_or(0, |document| document.body.len());
    let bytes = home.documents.bytes().saturating_sub(before).saturating_add(new.body.len());
    if bytes > MAX_BYTES_PER_USER || (current.is_none() && home.documents.len() >= MAX_PER_USER) {
        return Err(Refused::Quota);
    }
    if durable { Ok(current.is_some()) } else { Err(Refused::StoreAway) }
}

/// What a document of this application says.
///
/// - `document`: read from `body`.
///
/// # Errors
/// What is wrong with it.
pub fn understand(auid: &Auid, document: &xml::Document<'_>, body: &[u8]) -> Result<Meaning, &'static str> {
    match auid {
        Auid::PresRules => rules::of(document.root()).map(|rules| Meaning::Rules(rules.into())),
        Auid::ResourceLists => lists::of(document.root()).map(|()| Meaning::Nothing),
        // Watchers are sent its very bytes, so it is read like what is published: within tighter bounds.
        Auid::PidfManipulation => match Pidf::parse(body) {
            Ok(pidf) => Ok(Meaning::Presence(Arc::new(pidf))),
            Err(_) => Err("a presence document has at most 32 KiB, 2,000 elements and no instructions"),
        },
        // Nothing here acts on them.
        Auid::RlsServices | Auid::Other(_) => Ok(Meaning::Nothing),
    }
}

/// What a document that is kept says, read at most once.
pub fn said(document: &Document) -> &Meaning {
    document.said.get(|| {
        let read = xml::Document::read(&document.body, &Limits::STORED).ok();
        let meaning = read.and_then(|read| understand(&document.name.auid, &read, &document.body).ok());
        meaning.unwrap_or(Meaning::Unreadable)
    })
}

/// A path of names: none is empty or climbs, and nothing in it would be cut or hidden anywhere.
fn is_name(name: &DocumentName) -> bool {
    let part =
        |part: &str| !part.is_empty() && part != "." && part != ".." && !part.chars().any(char::is_control);
    let path = name.path();
    !name.auid.as_str().contains('/') && path.len() <= MAX_NAME && path.split('/').all(part)
}

fn plan(row: Row, name: &DocumentName) -> Plan {
    let presence = match name.auid {
        // Who sees what, and what there is to be seen.
        Auid::PresRules | Auid::PidfManipulation => true,
        // They concern nobody who watches.
        Auid::ResourceLists | Auid::RlsServices | Auid::Other(_) => false,
    };
    let moved = Moved { presence, watchers: false };
    Plan { rows: smallvec![row], durability: Durability::Durable, moved }
}

/// One document, in bytes.
pub const MAX_BYTES: usize = 256 * 1024;
/// All documents of one user, in bytes.
pub const MAX_BYTES_PER_USER: usize = 1024 * 1024;
/// Documents of one user.
pub const MAX_PER_USER: usize = 64;
/// Application and name together, in bytes.
const MAX_NAME: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::availability::fixtures::{NOW, home};

    const RULES: &str = "<ruleset xmlns=\"urn:ietf:params:xml:ns:common-policy\"/>";

    fn named(name: &str) -> DocumentName {
        DocumentName::new(Auid::PresRules, name)
    }

    fn new(name: &str, body: &str, tag: u128) -> NewDocument {
        let body = body.to_owned().into();
        NewDocument::read(named(name), "application/auth-policy+xml", body, EntityTag(tag)).unwrap()
    }

    fn asked(home: &HomeState, new: &NewDocument, conditions: &[Condition]) -> Result<Changed, Refused> {
        let (plan, result) = put(home, new, conditions, NOW, true);
        assert_eq!(plan.rows.is_empty(), result.is_err());
        result
    }

    fn with(name: &str, body: &str, tag: u128) -> HomeState {
        let mut home = home();
        put(&home, &new(name, body, tag), &[], NOW, true).0.rows.iter().for_each(|row| home.apply(row));
        home
    }

    #[test]
    fn a_document_is_durable_and_rules_move_presence() {
        let (plan, result) = put(&home(), &new("index", RULES, 1), &[], NOW, true);
        assert_eq!(result, Ok(Changed::Created(EntityTag(1))));
        assert_eq!((plan.durability, plan.moved.presence), (Durability::Durable, true));
        let list = NewDocument {
            name: DocumentName::new(Auid::ResourceLists, "index"),
            body: "<resource-lists xmlns=\"urn:ietf:params:xml:ns:resource-lists\"/>".into(),
            ..new("index", RULES, 1)
        };
        assert!(!put(&home(), &list, &[], NOW, true).0.moved.presence);
    }

    #[test]
    fn changes_are_conditional_on_the_tag_rfc4825_7_11() {
        let (there, not) = (with("index", RULES, 1), home());
        let newer = new("index", RULES, 2);
        let tags = |tag| vec![EntityTag(7), EntityTag(tag)];
        for (condition, if_there, if_not) in [
            (Condition::Matches(tags(1)), true, false),
            (Condition::Matches(tags(2)), false, false),
            (Condition::Exists, true, false),
            (Condition::MatchesNone(tags(1)), false, true),
            (Condition::MatchesNone(tags(2)), true, true),
            (Condition::Absent, false, true),
        ] {
            let conditions = [condition.clone()];
            let expected = |is, changed| if is { Ok(changed) } else { Err(Refused::Condition) };
            let replaced = Changed::Replaced(EntityTag(2));
            assert_eq!(asked(&there, &newer, &conditions), expected(if_there, replaced), "{condition:?}");
            let created = Changed::Created(EntityTag(2));
            assert_eq!(asked(&not, &newer, &conditions), expected(if_not, created), "{condition:?}");
            let gone = remove(&there, &named("index"), &conditions, true).1;
            assert_eq!(gone, expected(if_there, Changed::Dropped), "{condition:?}");
        }
        assert_eq!(remove(&not, &named("index"), &[Condition::Exists], true).1, Err(Refused::Missing));
        assert_eq!(asked(&there, &newer, &[Condition::Exists, Condition::Absent]), Err(Refused::Condition));
    }

    #[test]
    fn what_cannot_be_understood_is_not_stored() {
        let read = |auid, body: &'static str| {
            NewDocument::read(DocumentName::new(auid, "index"), "", body.into(), EntityTag(1))
        };
        for body in ["", "<ruleset/>", "<!DOCTYPE ruleset><ruleset/>"] {
            assert!(matches!(read(Auid::PresRules, body), Err(Refused::NotUnderstood(_))));
        }
        for auid in [Auid::ResourceLists, Auid::PidfManipulation] {
            assert!(matches!(read(auid, RULES), Err(Refused::NotUnderstood(_))));
        }
    }

    #[test]
    fn what_a_document_says_is_read_once() {
        let home = with("index", RULES, 1);
        let document = home.documents.get(&named("index")).unwrap();
        document.said.get(|| unreachable!("it was read when it was written"));
        let loaded = Document { said: Said::default(), ..Document::clone(document) };
        assert!(matches!(said(&loaded), Meaning::Rules(rules) if rules.is_empty()));
        loaded.said.get(|| unreachable!("it was read when it was asked for"));
    }

    #[test]
    fn a_document_is_newer_than_the_one_before_it() {
        let home = with("index", RULES, 1);
        let (plan, _) = put(&home, &new("index", RULES, 2), &[], NOW, true);
        assert!(matches!(&plan.rows[0], Row::PutDocument(new) if new.modified_at == Timestamp(NOW.0 + 1)));
    }

    #[test]
    fn names_do_not_climb() {
        for name in ["", "..", "a/../b", "./a", "/a", "a/", "a\0b", &"x".repeat(250)] {
            assert_eq!(asked(&home(), &new(name, RULES, 1), &[]), Err(Refused::Name), "{name}");
        }
        assert!(asked(&home(), &new("folder/i%2e..ndex", RULES, 1), &[]).is_ok());
    }

    #[test]
    fn documents_of_a_user_are_bounded() {
        let large = format!("{RULES}{}", " ".repeat(MAX_BYTES));
        let read = NewDocument::read(named("index"), "", large.clone().into(), EntityTag(1));
        assert_eq!(read, Err(Refused::TooLarge));
        let quarter = &large[..MAX_BYTES];
        let mut full = home();
        let keep = |home: &mut HomeState, new: &NewDocument| {
            put(home, new, &[], NOW, true).0.rows.iter().for_each(|row| home.apply(row));
        };
        for name in ["a", "b", "c", "d"] {
            keep(&mut full, &new(name, quarter, 1));
        }
        assert_eq!(full.documents.bytes(), MAX_BYTES_PER_USER);
        assert_eq!(asked(&full, &new("e", RULES, 1), &[]), Err(Refused::Quota));
        assert!(asked(&full, &new("d", RULES, 1), &[]).is_ok());
        let mut many = home();
        (0..MAX_PER_USER).for_each(|n| keep(&mut many, &new(&format!("n{n}"), RULES, 1)));
        assert_eq!(asked(&many, &new("one-more", RULES, 1), &[]), Err(Refused::Quota));
        assert!(asked(&many, &new("n1", RULES, 1), &[]).is_ok());
    }

    #[test]
    fn nothing_is_taken_while_the_store_is_away() {
        let there = with("index", RULES, 1);
        assert_eq!(put(&there, &new("index", RULES, 2), &[], NOW, false).1, Err(Refused::StoreAway));
        assert_eq!(remove(&there, &named("index"), &[], false).1, Err(Refused::StoreAway));
    }
}

//! Documents that users keep on the server about themselves: presence rules, lists (RFC 4825 5, RFC 5025 9, RFC 4826).

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::model::{Aor, EntityTag, Rule, RuleSet, Text, Timestamp};

/// What a document is for: the application's id of RFC 4825 section 5.1.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Auid {
    /// Who may see what (RFC 5025 9.1).
    PresRules,
    /// Lists of people (RFC 4826 3).
    ResourceLists,
    /// Lists that can be subscribed to (RFC 4826 4).
    RlsServices,
    /// Presence that its owner set by hand (RFC 4827).
    PidfManipulation,
    /// Of another release: kept, and left alone.
    Other(Text),
}

impl Auid {
    /// From its name.
    pub fn parse(name: &str) -> Auid {
        match name {
            "pres-rules" => Auid::PresRules,
            "resource-lists" => Auid::ResourceLists,
            "rls-services" => Auid::RlsServices,
            "pidf-manipulation" => Auid::PidfManipulation,
            other => Auid::Other(other.into()),
        }
    }
    /// Its name.
    pub fn as_str(&self) -> &str {
        match self {
            Auid::PresRules => "pres-rules",
            Auid::ResourceLists => "resource-lists",
            Auid::RlsServices => "rls-services",
            Auid::PidfManipulation => "pidf-manipulation",
            Auid::Other(name) => name,
        }
    }
}

impl fmt::Display for Auid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which document of an owner.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DocumentName {
    /// What it is for.
    pub auid: Auid,
    /// Its path below `users/<XUI>/` ("index").
    pub name: Text,
}

impl DocumentName {
    /// The document of that name.
    pub fn new(auid: Auid, name: &str) -> DocumentName {
        DocumentName { auid, name: name.into() }
    }
    /// `auid/name`, as stored.
    pub fn path(&self) -> String {
        format!("{}/{}", self.auid.as_str(), self.name)
    }
    /// From stored text.
    pub fn from_path(path: &str) -> Option<DocumentName> {
        let (auid, name) = path.split_once('/')?;
        Some(DocumentName::new(Auid::parse(auid), name))
    }
}

/// One document of one owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Whose.
    pub owner: Aor,
    /// Which.
    pub name: DocumentName,
    /// Changes with every change of it.
    pub tag: EntityTag,
    /// Media type ("application/auth-policy+xml").
    pub content_type: Text,
    /// Byte for byte.
    pub body: Bytes,
    /// Last written; grows with every change.
    pub modified_at: Timestamp,
    /// The same, read.
    pub said: Said,
}

/// What a document says, as far as anything here hangs on it.
#[derive(Debug, Clone)]
pub enum Meaning {
    /// Who may see what.
    Rules(Arc<[Rule]>),
    /// Presence that its owner set by hand, as who composes it has read it.
    Presence(Arc<dyn Any + Send + Sync>),
    /// Nothing that is acted on.
    Nothing,
    /// It cannot be read.
    Unreadable,
}

/// What a document says, kept with it: it is read once, when it is written or, after a start, when somebody first asks. Documents do not differ
/// by it.
#[derive(Clone, Default)]
pub struct Said(OnceLock<Meaning>);

impl Said {
    /// Known already.
    pub fn known(meaning: Meaning) -> Said {
        Said(meaning.into())
    }
    /// What it says.
    ///
    /// - `read`: reads it, if nobody has yet.
    pub fn get(&self, read: impl FnOnce() -> Meaning) -> &Meaning {
        self.0.get_or_init(read)
    }
}

impl PartialEq for Said {
    fn eq(&self, _: &Said) -> bool {
        true
    }
}

impl Eq for Said {}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.get().is_some() { "read" } else { "not read" })
    }
}

/// The documents of one owner, in the order of their names. A user without any costs one word. Cloning shares them, and with them what was
/// read in them: rules are read once, when they are first asked for, and forgotten when a document changes.
#[derive(Clone, Default)]
pub struct Documents(Option<Arc<Kept>>);

#[derive(Default)]
struct Kept {
    all: Vec<Arc<Document>>,
    rules: OnceLock<Arc<RuleSet>>,
}

impl Documents {
    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
    /// How many.
    pub fn len(&self) -> usize {
        self.all().len()
    }
    /// In the order of their names.
    pub fn iter(&self) -> std::slice::Iter<'_, Arc<Document>> {
        self.all().iter()
    }
    /// Those of one application.
    pub fn of<'a>(&'a self, auid: &'a Auid) -> impl Iterator<Item = &'a Arc<Document>> {
        self.iter().filter(move |document| document.name.auid == *auid)
    }
    /// The document of that name.
    pub fn get(&self, name: &DocumentName) -> Option<&Arc<Document>> {
        let at = self.place(name).ok()?;
        self.all().get(at)
    }
    /// All bodies together.
    pub fn bytes(&self) -> usize {
        self.iter().map(|document| document.body.len()).sum()
    }
    /// What all presence rules of the owner come to (RFC 5025 9.7); `None` if the owner keeps none.
    ///
    /// - `read`: reads them; called when nobody has asked since they changed.
    pub fn rules(&self, read: impl FnOnce(&[&Document]) -> RuleSet) -> Option<&Arc<RuleSet>> {
        let kept = self.0.as_ref()?;
        self.of(&Auid::PresRules).next()?;
        Some(kept.rules.get_or_init(|| {
            let documents: Vec<&Document> = self.of(&Auid::PresRules).map(Arc::as_ref).collect();
            Arc::new(read(&documents))
        }))
    }
    /// Inserts or replaces.
    pub fn put(&mut self, new: &Arc<Document>) {
        let place = self.place(&new.name);
        let mut all = self.all().to_vec();
        match place {
            Ok(at) => all[at] = new.clone(),
            Err(at) => all.insert(at, new.clone()),
        }
        self.replace(all, &new.name.auid);
    }
    /// Takes one out.
    pub fn remove(&mut self, name: &DocumentName) {
        if let Ok(at) = self.place(name) {
            let mut all = self.all().to_vec();
            all.remove(at);
            self.replace(all, &name.auid);
        }
    }

    fn all(&self) -> &[Arc<Document>] {
        self.0.as_ref().map_or(&[], |kept| &kept.all)
    }

    fn place(&self, name: &DocumentName) -> Result<usize, usize> {
        self.all().binary_search_by(|document| document.name.cmp(name))
    }

    /// What was read in presence rules stays true if a document of another kind changed.
    fn replace(&mut self, all: Vec<Arc<Document>>, changed: &Auid) {
        let rules = match &self.0 {
            Some(kept) if *changed != Auid::PresRules => kept.rules.clone(),
            _ => OnceLock::new(),
        };
        self.0 = (!all.is_empty()).then(|| Arc::new(Kept { all, rules }));
    }
}

impl PartialEq for Documents {
    fn eq(&self, other: &Documents) -> bool {
        self.all() == other.all()
    }
}

impl fmt::Debug for Documents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|document| &document.name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(auid: Auid, name: &str, body: &'static str) -> Arc<Document> {
        Arc::new(Document {
            owner: Aor::new("alice", "example.org").unwrap(),
            name: DocumentName::new(auid, name),
            tag: EntityTag(1),
            content_type: "application/auth-policy+xml".into(),
            body: Bytes::from_static(body.as_bytes()),
            modified_at: Timestamp(0),
            said: Said::default(),
        })
    }

    #[test]
    fn a_user_without_documents_costs_one_word() {
        assert_eq!(size_of::<Documents>(), size_of::<usize>());
        let mut documents = Documents::default();
        documents.put(&document(Auid::PresRules, "index", "a"));
        documents.remove(&DocumentName::new(Auid::PresRules, "index"));
        assert!(documents.is_empty() && documents.0.is_none());
    }

    #[test]
    fn a_put_replaces_its_namesake_and_nothing_else() {
        let mut documents = Documents::default();
        for (auid, name, body) in [
            (Auid::PresRules, "index", "old"),
            (Auid::PresRules, "b", "b"),
            (Auid::ResourceLists, "index", "list"),
            (Auid::PresRules, "index", "newer"),
        ] {
            documents.put(&document(auid, name, body));
        }
        let bodies: Vec<&[u8]> = documents.of(&Auid::PresRules).map(|d| &*d.body).collect();
        assert_eq!(bodies, [&b"b"[..], b"newer"]);
        assert_eq!((documents.len(), documents.bytes()), (3, 10));
        let name = DocumentName::new(Auid::ResourceLists, "index");
        assert_eq!(documents.get(&name).unwrap().body, "list");
        assert_eq!(DocumentName::from_path(&name.path()), Some(name));
    }

    #[test]
    fn rules_are_read_once_until_a_rule_document_changes() {
        let reads = std::cell::Cell::new(0);
        let read = |_: &[&Document]| {
            reads.set(reads.get() + 1);
            RuleSet::default()
        };
        let mut documents = Documents::default();
        assert!(documents.rules(read).is_none());
        documents.put(&document(Auid::ResourceLists, "index", "list"));
        assert!(documents.rules(read).is_none(), "a list is no rule");
        documents.put(&document(Auid::PresRules, "index", "rules"));
        let shared = documents.clone();
        assert!(documents.rules(read).is_some() && shared.rules(read).is_some());
        documents.put(&document(Auid::ResourceLists, "index", "other"));
        documents.rules(read);
        assert_eq!(reads.get(), 1);
        documents.put(&document(Auid::PresRules, "index", "newer"));
        documents.rules(read);
        shared.rules(read);
        assert_eq!(reads.get(), 2);
    }
}

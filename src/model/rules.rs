//! Presence rules as plain values (RFC 4745, RFC 5025). What they mean for a watcher is decided elsewhere; here is what an owner wrote.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use crate::model::{Aor, Text, Timestamp};

/// All rules of one owner, of all documents; their order means nothing (RFC 4745 6).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuleSet {
    /// The rules, document by document, shared with these.
    pub documents: Vec<Arc<[Rule]>>,
    /// A document was found that cannot be read: nobody is refused because of what it may have said.
    pub unreadable: bool,
    /// When intervals begin and end, in order.
    flips: Box<[Timestamp]>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// Its name within its document.
    pub id: Text,
    /// Every `<identity>` with a restriction: one of its members must match (RFC 4745 7.1). None: anybody. Members are sorted.
    pub identities: Vec<Vec<Who>>,
    /// Every `<sphere>`: its tokens, in lower case, of which one must be the sphere (RFC 4745 7.3).
    pub spheres: Vec<Vec<Text>>,
    /// Every `<validity>`: its intervals, of which one must hold the instant (RFC 4745 7.4).
    pub validities: Vec<Vec<Range<Timestamp>>>,
    /// It has a condition that is not understood, so it never matches (RFC 4745 7).
    pub never: bool,
    /// What it does with the subscription (RFC 5025 3.2.1); `None` if it says nothing, which counts as `block`.
    pub sub_handling: Option<SubHandling>,
    /// Whom it matches gets what the domain grants those whose owner has no rules (an action of ours).
    pub domain_default: bool,
    /// What it lets see.
    pub permissions: Arc<Permissions>,
}

/// A member of `<identity>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// `<one>`: exactly this user.
    One(Aor),
    /// `<many>`: everybody who has a name, but for exceptions.
    Many {
        /// Only of this domain, in lower-case ASCII.
        domain: Option<Text>,
        /// Without these users, sorted.
        except: Vec<Aor>,
        /// Without these domains, in lower-case ASCII.
        except_domains: Vec<Text>,
    },
    /// What is not understood, or can be nobody here (a `tel:` URI): matches nobody (RFC 4745 7.1.1).
    Nobody,
}

/// What becomes of a subscription (RFC 5025 3.2.1), lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum SubHandling {
    /// Refused.
    #[default]
    Block,
    /// Pending until the owner decides.
    Confirm,
    /// Active, and sees somebody who is not there.
    PoliteBlock,
    /// Active.
    Allow,
}

/// What may be seen (RFC 5025 3.3). The default is nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Permissions {
    /// Which devices.
    pub devices: Provided,
    /// Which persons.
    pub persons: Provided,
    /// Which services.
    pub services: Provided,
    /// Which presence attributes of these.
    pub attributes: BTreeSet<Attribute>,
    /// How much of `<user-input>`.
    pub user_input: UserInput,
    /// Attributes that are not known here: namespace and local name.
    pub unknown: BTreeSet<(Text, Text)>,
    /// All attributes, known or not.
    pub all_attributes: bool,
}

/// Which occurrences of a component of the document.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Provided {
    /// All of them.
    All,
    /// Those that one of these identifies.
    These(BTreeSet<Selector>),
}

/// How an occurrence is identified (RFC 5025 3.3.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Selector {
    /// Its RPID class.
    Class(Text),
    /// Its `id`.
    OccurrenceId(Text),
    /// The deviceID of a device.
    DeviceId(Text),
    /// The contact of a service.
    ServiceUri(Text),
    /// The scheme of the contact of a service.
    ServiceUriScheme(Text),
}

/// A presence attribute that has a boolean permission of its own (RFC 5025 3.3.2.1 to 3.3.2.13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "named as the elements are")]
pub enum Attribute {
    Activities,
    Class,
    DeviceId,
    Mood,
    PlaceIs,
    PlaceType,
    Privacy,
    Relationship,
    Sphere,
    StatusIcon,
    TimeOffset,
    Note,
}

/// How much of `<user-input>` may be seen (RFC 5025 3.3.2.12), lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum UserInput {
    /// Nothing.
    #[default]
    False,
    /// The element without its times.
    Bare,
    /// With `idle-threshold`.
    Thresholds,
    /// All of it.
    Full,
}

impl Permissions {
    /// Every byte of the document.
    pub fn everything() -> Permissions {
        Permissions {
            devices: Provided::All,
            persons: Provided::All,
            services: Provided::All,
            all_attributes: true,
            ..Permissions::default()
        }
    }
    /// Nothing is held back, whatever there is.
    pub fn is_everything(&self) -> bool {
        self.all_attributes
            && [&self.devices, &self.persons, &self.services].iter().all(|all| **all == Provided::All)
    }
    /// Combines what two rules provide (RFC 4745 10.2): booleans by OR, integers by maximum, sets by union.
    pub fn merge(&mut self, other: &Permissions) {
        self.devices.merge(&other.devices);
        self.persons.merge(&other.persons);
        self.services.merge(&other.services);
        self.attributes.extend(&other.attributes);
        self.user_input = self.user_input.max(other.user_input);
        self.unknown.extend(other.unknown.iter().cloned());
        self.all_attributes |= other.all_attributes;
    }
}

impl Provided {
    /// Does this provide anything at all?
    pub fn is_nothing(&self) -> bool {
        matches!(self, Provided::These(none) if none.is_empty())
    }
    fn merge(&mut self, other: &Provided) {
        match (&mut *self, other) {
            (Provided::All, _) => {}
            (_, Provided::All) => *self = Provided::All,
            (Provided::These(these), Provided::These(those)) => these.extend(those.iter().cloned()),
        }
    }
}

impl Default for Provided {
    fn default() -> Provided {
        Provided::These(BTreeSet::new())
    }
}

impl RuleSet {
    /// These rules.
    pub fn new(documents: Vec<Arc<[Rule]>>, unreadable: bool) -> RuleSet {
        let rules = documents.iter().flat_map(|rules| rules.iter());
        let lasting = rules.filter(|rule| !rule.never).flat_map(|rule| &rule.validities);
        let mut flips: Vec<Timestamp> = lasting.flatten().flat_map(|i| [i.start, i.end]).collect();
        flips.sort_unstable();
        flips.dedup();
        RuleSet { documents, unreadable, flips: flips.into() }
    }
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.documents.iter().flat_map(|rules| rules.iter())
    }
    /// The next instant after `now` at which an interval begins or ends, so that somebody may see more or less.
    pub fn next_flip(&self, now: Timestamp) -> Option<Timestamp> {
        self.flips.get(self.flips.partition_point(|at| *at <= now)).copied()
    }
}

//! Publications: event state set by PUBLISH (RFC 3903).

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Weak};

use bytes::Bytes;

use crate::model::{Aor, Package, Text, Timestamp};

/// What a publication is, over all its entity-tags; never shown to anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicationId(pub u128);

/// An entity-tag (RFC 3903 8): unique, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntityTag(pub u128);

impl EntityTag {
    /// Reads what [`EntityTag`] displays; `None` for anything foreign or malformed (which is then a 412).
    pub fn parse(text: &str) -> Option<EntityTag> {
        (text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
            .then(|| u128::from_str_radix(text, 16).ok().map(EntityTag))
            .flatten()
    }
}

impl std::fmt::Display for EntityTag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// One publication of one publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Whose state.
    pub aor: Aor,
    /// Which.
    pub id: PublicationId,
    /// Of which package.
    pub package: Package,
    /// Its entity-tag now.
    pub tag: EntityTag,
    /// Who published it last.
    pub publisher: Publisher,
    /// Media type as checked ("application/pidf+xml").
    pub content_type: String,
    /// The document, byte for byte.
    pub body: Bytes,
    /// The same, read.
    pub parsed: Parsed,
    /// When it will mean something else by time alone (RFC 4480 3.1), in order; those that have passed are taken out when the wheel comes by.
    pub turns: Box<[Timestamp]>,
    /// The body says something new under a timestamp that it had before: [`Publication::modified_at`] stands in its place (RFC 3863 4.1.7).
    pub is_restamped: bool,
    /// Which of its tuples have another id in the composed document, where somebody else had theirs when they came.
    pub renamed: Renamed,
    /// First published.
    pub created_at: Timestamp,
    /// Body last changed (refreshes do not move it); grows with every change.
    pub modified_at: Timestamp,
    /// Gone from this instant on.
    pub expires_at: Timestamp,
}

impl Publication {
    /// When something about it has to be looked at next.
    pub fn next_due(&self) -> Timestamp {
        self.turns.first().map_or(self.expires_at, |turn| self.expires_at.min(*turn))
    }
}

/// Tuples of a document, by place. Those beyond the first 63 belong to it always: nobody has so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Renamed(i64);

impl Renamed {
    /// What [`Renamed::bits`] gave.
    pub const fn of(bits: i64) -> Renamed {
        Renamed(bits)
    }
    /// As a number.
    pub const fn bits(self) -> i64 {
        self.0
    }
    /// Is the tuple at this place one of them?
    pub fn contains(self, place: usize) -> bool {
        Renamed::bit(place).is_none_or(|bit| self.0 & bit != 0)
    }
    /// From now on it is.
    pub fn insert(&mut self, place: usize) {
        self.0 |= Renamed::bit(place).unwrap_or_default();
    }
    fn bit(place: usize) -> Option<i64> {
        (place < 63).then(|| 1 << place)
    }
}

/// Where a publication came from, as far as one device can be told from another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Publisher {
    /// Call-ID of the last PUBLISH.
    pub call_id: Text,
    /// The flow of the last PUBLISH; empty if it did not come straight from the device.
    pub source: Text,
    /// The instance (RFC 5626 4.1) that was registered by that flow.
    pub instance: Option<Text>,
}

/// A document as it was read, for as long as somebody holds it; it can be read again from the bytes, so publications do not differ by it.
#[derive(Clone)]
pub struct Parsed(Weak<dyn Any + Send + Sync>);

impl Parsed {
    /// What `held` is, while it is held.
    pub fn of<T: Any + Send + Sync>(held: &Arc<T>) -> Parsed {
        let held: Arc<dyn Any + Send + Sync> = held.clone();
        Parsed(Arc::downgrade(&held))
    }
    /// The document, if it is still held and is of this type.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.0.upgrade()?.downcast().ok()
    }
}

impl Default for Parsed {
    fn default() -> Parsed {
        Parsed(Weak::<()>::new())
    }
}

impl PartialEq for Parsed {
    fn eq(&self, _: &Parsed) -> bool {
        true
    }
}

impl Eq for Parsed {}

impl fmt::Debug for Parsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.strong_count() > 0 { "held" } else { "not held" })
    }
}

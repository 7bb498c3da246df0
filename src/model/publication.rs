//! Publications: event state set by PUBLISH (RFC 3903).

use bytes::Bytes;

use crate::model::{Aor, Package, Timestamp};

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
    /// Media type as checked ("application/pidf+xml").
    pub content_type: String,
    /// The document, byte for byte.
    pub body: Bytes,
    /// First published.
    pub created_at: Timestamp,
    /// Body last changed (refreshes do not move it).
    pub modified_at: Timestamp,
    /// Gone from this instant on.
    pub expires_at: Timestamp,
}

//! Plans: what a decision wants to be true (a list of row changes).

use smallvec::SmallVec;

use crate::model::{Aor, Binding, BindingKey, Publication, PublicationId, Subscription, SubscriptionId};

/// One change of one row. The store writes it, memory applies it, loading replays `Put`s.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "rows live in short plans and go straight to the writer")]
pub enum Row {
    /// Insert or replace a binding.
    PutBinding(Binding),
    /// Remove a binding.
    DropBinding(Aor, BindingKey),
    /// Insert or replace a publication.
    PutPublication(Publication),
    /// Remove a publication.
    DropPublication(Aor, PublicationId),
    /// Insert or replace a subscription.
    PutSubscription(Subscription),
    /// Remove a subscription.
    DropSubscription(Aor, SubscriptionId),
}

/// Which row a change is about: one per batch is written, the newest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RowKey {
    /// A binding.
    Binding(Aor, BindingKey),
    /// A publication.
    Publication(PublicationId),
    /// A subscription.
    Subscription(SubscriptionId),
}

impl Row {
    /// The key.
    pub fn key(&self) -> RowKey {
        match self {
            Row::PutBinding(b) => RowKey::Binding(b.aor.clone(), b.key.clone()),
            Row::DropBinding(aor, key) => RowKey::Binding(aor.clone(), key.clone()),
            Row::PutPublication(p) => RowKey::Publication(p.id),
            Row::DropPublication(_, id) => RowKey::Publication(*id),
            Row::PutSubscription(s) => RowKey::Subscription(s.id),
            Row::DropSubscription(_, id) => RowKey::Subscription(*id),
        }
    }
    /// Whose home.
    pub fn aor(&self) -> &Aor {
        match self {
            Row::PutBinding(b) => &b.aor,
            Row::PutPublication(p) => &p.aor,
            Row::PutSubscription(s) => &s.presentity,
            Row::DropBinding(aor, _) | Row::DropPublication(aor, _) | Row::DropSubscription(aor, _) => aor,
        }
    }
}

/// When a plan's rows must be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Before anybody is answered.
    Durable,
    /// Within 30 s (an expiry moved a little).
    Lazy,
}

/// Rows in order, and when they must be on disk. Empty plans change nothing and wait for nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The rows.
    pub rows: SmallVec<[Row; 1]>,
    /// The strictest need among them.
    pub durability: Durability,
    /// What moved, as a hint for those who react.
    pub moved: Moved,
}

/// What a plan moved; a hint, never data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moved {
    /// Something that composition reads: bindings or publications came, went or changed.
    pub presence: bool,
    /// A subscription of this home came or went: those whom its watcher may see change too (reciprocal rule).
    pub watchers: bool,
}

impl Plan {
    /// Nothing changes.
    pub fn nothing() -> Plan {
        Plan { rows: SmallVec::new(), durability: Durability::Lazy, moved: Moved::default() }
    }
}

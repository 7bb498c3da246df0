//! Plans: what a decision wants to be true (a list of row changes).

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::model::{
    Aor, Binding, BindingKey, Document, DocumentName, MessageId, Publication, PublicationId, StoredMessage,
    Subscription, SubscriptionId, Timestamp, WaitingWatcher,
};

/// One change of one row. The store writes it, memory applies it, loading replays `Put`s. What is put is shared by all three.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// Insert or replace a binding.
    PutBinding(Arc<Binding>),
    /// A binding that is there gets another CSeq number and another end; all else in it is as it was.
    RefreshBinding(Arc<Binding>),
    /// Remove a binding.
    DropBinding(Aor, BindingKey),
    /// Insert or replace a publication.
    PutPublication(Arc<Publication>),
    /// Remove a publication.
    DropPublication(Aor, PublicationId),
    /// Insert or replace a subscription.
    PutSubscription(Arc<Subscription>),
    /// Remove a subscription.
    DropSubscription(Aor, SubscriptionId),
    /// Insert or replace a document of its owner.
    PutDocument(Arc<Document>),
    /// Remove a document.
    DropDocument(Aor, DocumentName),
    /// Insert a message.
    PutMessage(Arc<StoredMessage>),
    /// Remove a message.
    DropMessage(Aor, MessageId),
    /// Insert or replace what waits of one watcher.
    PutWaiting(Arc<WaitingWatcher>),
    /// What of this presentity (the first) this watcher (the second) waits for is over.
    DropWaiting(Aor, Aor),
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
    /// A document.
    Document(Aor, DocumentName),
    /// A message.
    Message(MessageId),
    /// A watcher who waits for a presentity (the first).
    Waiting(Aor, Aor),
}

impl Row {
    /// The key.
    pub fn key(&self) -> RowKey {
        match self {
            Row::PutBinding(b) | Row::RefreshBinding(b) => RowKey::Binding(b.aor.clone(), b.key.clone()),
            Row::DropBinding(aor, key) => RowKey::Binding(aor.clone(), key.clone()),
            Row::PutPublication(p) => RowKey::Publication(p.id),
            Row::DropPublication(_, id) => RowKey::Publication(*id),
            Row::PutSubscription(s) => RowKey::Subscription(s.id),
            Row::DropSubscription(_, id) => RowKey::Subscription(*id),
            Row::PutDocument(d) => RowKey::Document(d.owner.clone(), d.name.clone()),
            Row::DropDocument(aor, name) => RowKey::Document(aor.clone(), name.clone()),
            Row::PutMessage(m) => RowKey::Message(m.waiting.id),
            Row::DropMessage(_, id) => RowKey::Message(*id),
            Row::PutWaiting(w) => RowKey::Waiting(w.presentity.clone(), w.watcher.clone()),
            Row::DropWaiting(aor, watcher) => RowKey::Waiting(aor.clone(), watcher.clone()),
        }
    }
    /// This row, if an older change of the same row was overtaken by it and is never written: what that one would have written counts too.
    pub fn instead_of(&self, older: &Row) -> Row {
        match (self, older) {
            (Row::RefreshBinding(new), Row::PutBinding(_)) => Row::PutBinding(new.clone()),
            _ => self.clone(),
        }
    }
    /// This row as it counts at a start. A refresh of the last [`LAZY_MAX`] may not have been written, so what has ended in that time, or would
    /// end in it, is given that long: its owner comes back before it is called gone.
    pub fn with_grace(mut self, now: Timestamp) -> Row {
        let expires_at = match &mut self {
            Row::PutBinding(binding) | Row::RefreshBinding(binding) => &mut Arc::make_mut(binding).expires_at,
            Row::PutPublication(publication) => &mut Arc::make_mut(publication).expires_at,
            Row::PutSubscription(subscription) => &mut Arc::make_mut(subscription).expires_at,
            Row::DropBinding(..) | Row::DropPublication(..) | Row::DropSubscription(..) => return self,
            // A document does not end by itself.
            Row::PutDocument(_) | Row::DropDocument(..) => return self,
            // Nothing about a message is written late.
            Row::PutMessage(_) | Row::DropMessage(..) => return self,
            // Nor about who waits.
            Row::PutWaiting(_) | Row::DropWaiting(..) => return self,
        };
        let earliest = now.after(LAZY_MAX);
        if expires_at.after(LAZY_MAX) > now && *expires_at < earliest {
            *expires_at = earliest;
        }
        self
    }
    /// Whose home.
    pub fn aor(&self) -> &Aor {
        match self {
            Row::PutBinding(b) | Row::RefreshBinding(b) => &b.aor,
            Row::PutPublication(p) => &p.aor,
            Row::PutSubscription(s) => &s.presentity,
            Row::PutDocument(d) => &d.owner,
            Row::DropBinding(aor, _) | Row::DropPublication(aor, _) | Row::DropSubscription(aor, _) => aor,
            Row::DropDocument(aor, _) => aor,
            Row::PutMessage(m) => &m.recipient,
            Row::DropMessage(aor, _) => aor,
            Row::PutWaiting(w) => &w.presentity,
            Row::DropWaiting(aor, _) => aor,
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
    /// Something that composition or the rules read: bindings, publications, documents or stored messages came, went or changed.
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

/// How late a lazy row may be written.
pub const LAZY_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EntityTag, Package};

    fn publication(expires_at: i64) -> Row {
        Row::PutPublication(Arc::new(Publication {
            aor: Aor::new("bob", "example.org").unwrap(),
            id: PublicationId(1),
            package: Package::Presence,
            tag: EntityTag(1),
            publisher: crate::model::Publisher::default(),
            content_type: String::new(),
            body: bytes::Bytes::new(),
            parsed: crate::model::Parsed::default(),
            turns: Box::default(),
            is_restamped: false,
            renamed: crate::model::Renamed::default(),
            created_at: Timestamp(0),
            modified_at: Timestamp(0),
            expires_at: Timestamp(expires_at),
        }))
    }

    #[test]
    fn what_a_lost_refresh_may_have_kept_alive_gets_time_to_come_back() {
        let now = Timestamp(1_000_000);
        for (stored, counts) in
            [(1_010_000, 1_030_000), (980_000, 1_030_000), (1_040_000, 1_040_000), (970_000, 970_000)]
        {
            assert_eq!(publication(stored).with_grace(now), publication(counts), "{stored}");
        }
    }
}

//! Subscriptions: a watcher's dialog with this notifier (RFC 6665).

use crate::model::{Aor, DialogTexts, Flow, Package, Text, Timestamp};

/// 128 random bits; part of our Contact and index of the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(pub u128);

/// The durable part of a subscription. What is in flight or owed lives in the notifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Which.
    pub id: SubscriptionId,
    /// Watched: the home it lives in.
    pub presentity: Aor,
    /// The authenticated watcher.
    pub watcher: Aor,
    /// Package.
    pub package: Package,
    /// `id` parameter of Event.
    pub event_id: Option<Text>,
    /// The dialog: what names it, and whom NOTIFYs go to.
    pub dialog: DialogTexts,
    /// Record-Route of the SUBSCRIBE in order: Route of our NOTIFYs (RFC 3261 12.1.1).
    pub route_set: Box<[Text]>,
    /// The flow the last SUBSCRIBE came in on: NOTIFYs go back on it.
    pub flow: Flow,
    /// The body type that the Accept of the last SUBSCRIBE came to; empty for the package's default.
    pub accept: Text,
    /// CSeq number of the last SUBSCRIBE.
    pub remote_cseq: u32,
    /// NOTIFY CSeq numbers up to this are reserved; after a restart the next one is higher.
    pub notify_cseq_reserved: u32,
    /// Began.
    pub created_at: Timestamp,
    /// Ends.
    pub expires_at: Timestamp,
}

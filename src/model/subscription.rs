//! Subscriptions: a watcher's dialog with this notifier (RFC 6665).

use crate::model::{Aor, Flow, Text, Timestamp};

/// Event packages that are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Package {
    /// RFC 3856.
    Presence = 1,
}

impl Package {
    /// All of them, as listed in Allow-Events.
    pub const ALL: [Package; 1] = [Package::Presence];
    /// The token.
    pub fn as_str(self) -> &'static str {
        match self {
            Package::Presence => "presence",
        }
    }
    /// Exact token match (RFC 6665 8.2.1); old linphone sends `Presence`, so ASCII case is ignored.
    pub fn parse(token: &str) -> Option<Package> {
        Package::ALL.into_iter().find(|p| p.as_str().eq_ignore_ascii_case(token))
    }
    /// From its number, as stored.
    pub fn from_number(number: u8) -> Option<Package> {
        Package::ALL.into_iter().find(|p| *p as u8 == number)
    }
}

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
    /// Dialog: Call-ID.
    pub call_id: Text,
    /// Dialog: our tag (To of the SUBSCRIBE).
    pub local_tag: Text,
    /// Dialog: the watcher's tag (From of the SUBSCRIBE).
    pub remote_tag: Text,
    /// To of the SUBSCRIBE without tag, as sent: From of our NOTIFYs.
    pub local_address: Text,
    /// From of the SUBSCRIBE without tag, as sent: To of our NOTIFYs.
    pub remote_address: Text,
    /// Contact URI of the watcher: Request-URI of our NOTIFYs.
    pub remote_target: Text,
    /// Record-Route of the SUBSCRIBE in order: Route of our NOTIFYs (RFC 3261 12.1.1).
    pub route_set: Box<[Text]>,
    /// The flow the last SUBSCRIBE came in on: NOTIFYs go back on it.
    pub flow: Flow,
    /// Accept of the last SUBSCRIBE; empty if there was none.
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

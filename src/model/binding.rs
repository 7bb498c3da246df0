//! Bindings: AoR -> Contact (RFC 3261 10.3, RFC 3327, RFC 5626).

use std::sync::Arc;

use crate::model::{Aor, Flow, Timestamp};

/// What identifies a binding within its AoR: the canonical text of the Contact URI, so that URIs equal by RFC 3261 19.1.4
/// have one key (outbound registrations, keyed by instance and reg-id, join when they are built).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BindingKey(pub Arc<str>);

/// One registered contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Whose.
    pub aor: Aor,
    /// Which.
    pub key: BindingKey,
    /// The Contact URI as sent, without `<>`.
    pub contact: String,
    /// Contact header parameters as sent, with leading `;`, without `expires` and `q` (feature tags, `+sip.instance`..).
    pub params: String,
    /// `q` in thousandths, 0..=1000; 1000 if absent.
    pub q: u16,
    /// `+sip.instance` without quotes and `<>` (`urn:uuid:..`).
    pub instance: Option<String>,
    /// `reg-id`.
    pub reg_id: Option<u32>,
    /// Path vector in order, each element as sent (RFC 3327 5.3).
    pub path: Vec<String>,
    /// Call-ID of the REGISTER that made or refreshed it last.
    pub call_id: String,
    /// CSeq number of that REGISTER.
    pub cseq: u32,
    /// The flow that REGISTER came in on.
    pub flow: Flow,
    /// Did it come straight from the device (one Via)? Then the flow is the way back to it.
    pub direct: bool,
    /// User-Agent as sent (at most 256 bytes).
    pub user_agent: String,
    /// First registered.
    pub created_at: Timestamp,
    /// Last registered or refreshed.
    pub refreshed_at: Timestamp,
    /// Never used as a target from this instant on.
    pub expires_at: Timestamp,
}

impl Binding {
    /// Is it past its time?
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at <= now
    }
}

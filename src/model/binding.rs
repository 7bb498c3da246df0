//! Bindings: AoR -> Contact (RFC 3261 10.3, RFC 3327, RFC 5626).

use std::net::SocketAddr;

use crate::model::{Aor, Flow, Text, Timestamp};
use crate::sip::{Host, Uri};

/// What identifies a binding within its AoR: the canonical text of the Contact URI, so that URIs equal by RFC 3261 19.1.4
/// have one key (outbound registrations, keyed by instance and reg-id, join when they are built).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BindingKey(pub Text);

/// One registered contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Whose.
    pub aor: Aor,
    /// Which.
    pub key: BindingKey,
    /// The Contact URI as sent, without `<>`. Mostly written as its key is, and then the same memory.
    pub contact: Text,
    /// Contact header parameters as sent, with leading `;`, without `expires` and `q` (feature tags, `+sip.instance`..).
    pub params: Text,
    /// `q` in thousandths, 0..=1000; 1000 if absent.
    pub q: u16,
    /// `+sip.instance` without quotes and `<>` (`urn:uuid:..`).
    pub instance: Option<Text>,
    /// `reg-id`.
    pub reg_id: Option<u32>,
    /// Path vector in order, each element as sent (RFC 3327 5.3).
    pub path: Box<[Text]>,
    /// Call-ID of the REGISTER that made or refreshed it last.
    pub call_id: Text,
    /// CSeq number of that REGISTER.
    pub cseq: u32,
    /// The flow that REGISTER came in on.
    pub flow: Flow,
    /// Did it come straight from the device (one Via)? Then the flow is the way back to it.
    pub direct: bool,
    /// User-Agent as sent (at most 256 bytes). Many devices say the same.
    pub user_agent: Text,
    /// First registered.
    pub created_at: Timestamp,
    /// Last registered or refreshed.
    pub refreshed_at: Timestamp,
    /// Never used as a target from this instant on.
    pub expires_at: Timestamp,
}

impl Binding {
    /// Where a device that registered directly may be reached by a new connection once its flow is gone: at its Contact, if that names the very
    /// address it registered from (else it is behind a NAT, or not to be believed: `A14`).
    pub fn address_beside_flow(&self) -> Option<SocketAddr> {
        self.address_beside_flow_by(&Uri::parse(self.contact.as_bytes()).ok()?)
    }
    /// The same for who has read the Contact.
    pub fn address_beside_flow_by(&self, contact: &Uri<'_>) -> Option<SocketAddr> {
        let ip = match contact.host_port.host {
            Host::V4(ip) => ip.into(),
            Host::V6(ip) => ip.into(),
            Host::Name(_) => return None,
        };
        let same = self.flow.remote.ip() == ip;
        same.then(|| SocketAddr::new(ip, contact.host_port.port.unwrap_or(5060)))
    }
    /// Does it fall with this connection? It does if there is no other way to the device.
    pub fn hangs_on(&self, connection: u64) -> bool {
        connection != 0
            && self.flow.connection == connection
            && self.direct
            && self.path.is_empty()
            && self.address_beside_flow().is_none()
    }
    /// Is it past its time?
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at <= now
    }
}

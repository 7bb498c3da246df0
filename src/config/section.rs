//! The sections. Units are in the names: `_s` seconds, `_ms` milliseconds, `_bytes` bytes; everything else is a number of things.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::availability::view::{DomainDefault, DomainRules};
use crate::config::value::{self, NameServer, Net};
use crate::model::{Aor, Package, Text};
use crate::sip::digest::Algorithm;
use crate::transport::{ConnectionLimits, Datagrams};

/// `[server]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Threads that do the work, and sockets per UDP listener (Linux); 0: one per core. Example: `workers = 4`.
    pub workers: usize,
    /// Take the short way where there is one? `false` has the same answers the long way: every datagram read and sent by itself, every change
    /// of a user's state by a task, every presence document composed anew. To find out whether a fault is one of the short way.
    /// Example: `fast_path = false`.
    pub fast_path: bool,
}

impl Default for Server {
    fn default() -> Self {
        Server { workers: 0, fast_path: true }
    }
}

impl Server {
    /// How many there are in the end: at least one.
    pub fn workers(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MAX_WORKERS),
            workers => workers,
        }
    }
    /// How datagrams are read.
    pub fn datagrams(&self) -> Datagrams {
        Datagrams { sockets: self.workers(), together: self.fast_path }
    }
}

/// One of `[[peers]]`: a machine that is believed without a password.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// What you call it. Example: `name = "mailbox"`.
    pub name: String,
    /// Where it is: addresses or networks. What runs at these addresses is believed, whoever it is. Example: `addresses = ["192.0.2.40"]`.
    pub addresses: Vec<Net>,
    /// Believe it over UDP too, where whoever is on the way can write any source address? Default: no. Example: `udp = false`.
    #[serde(default)]
    pub udp: bool,
    /// Event packages in which it may publish for every user. Default: none. Example: `publish = ["message-summary"]`.
    #[serde(default, with = "value::packages")]
    pub publish: Vec<Package>,
    /// May it read the services of all users over XCAP (`rls-services/global/index`; RFC 4826 4.4.9)? Never say so of a reverse proxy. Default: no.
    /// Example: `read_services = false`.
    #[serde(default)]
    pub read_services: bool,
    /// Believe its P-Asserted-Identity (RFC 3325)? Whom it names there has then logged in, for everything but REGISTER. Default: no.
    /// Example: `assert_identity = false`.
    #[serde(default)]
    pub assert_identity: bool,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// What is logged: a level, or levels per module. The variable RUST_LOG stands above it.
    /// Example: `filter = "info,hither::presence=debug"`.
    pub filter: String,
    /// `text` for people, `json` for machines. Example: `format = "json"`.
    pub format: LogFormat,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Log { filter: "info".into(), format: LogFormat::Text }
    }
}

/// `[registration]` (RFC 3261 10.3)
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registration {
    /// A shorter interval is refused with 423 (10.3 step 7). Example: `min_interval_s = 60`.
    pub min_interval_s: u32,
    /// What a device gets that asks for nothing. Example: `default_interval_s = 3600`.
    pub default_interval_s: u32,
    /// A longer interval is shortened to it. Example: `max_interval_s = 86400`.
    pub max_interval_s: u32,
    /// Devices of one user at a time. Example: `max_bindings = 10`.
    pub max_bindings: usize,
    /// What devices are told to put into Route of their requests (RFC 3608), first hop first; each with `lr`; empty: nothing.
    /// Example: `service_route = ["sip:sip.example.org;lr"]`.
    pub service_route: Vec<String>,
}

impl Default for Registration {
    fn default() -> Self {
        Registration {
            min_interval_s: 60,
            default_interval_s: 3_600,
            max_interval_s: 86_400,
            max_bindings: 10,
            service_route: Vec::new(),
        }
    }
}

/// `[subscription]` (RFC 6665 4.2.1)
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Subscription {
    /// A shorter interval is refused with 423. Example: `min_interval_s = 60`.
    pub min_interval_s: u32,
    /// What a watcher gets that asks for nothing. Example: `default_interval_s = 3600`.
    pub default_interval_s: u32,
    /// A longer interval is shortened to it. Example: `max_interval_s = 86400`.
    pub max_interval_s: u32,
    /// Live subscriptions of one watcher. Example: `max_per_watcher = 500`.
    pub max_per_watcher: usize,
    /// Live subscriptions to one presentity. Example: `max_per_presentity = 10000`.
    pub max_per_presentity: usize,
    /// Who asks to watch somebody, and is gone before they have decided, is shown to them for so long (RFC 3857 4.7.1).
    /// Example: `give_up_after_s = 2592000`.
    pub give_up_after_s: u32,
    /// So many of these are kept for one presentity; then who has waited longest is forgotten. Example: `max_waiting_per_presentity = 500`.
    pub max_waiting_per_presentity: usize,
    /// So many of one watcher are kept, for all presentities together; then no more of that watcher. Example: `max_waiting_per_watcher = 100`.
    pub max_waiting_per_watcher: usize,
    /// Are subscriptions ended when the server stops (RFC 6665 4.4.2)? Else they go on after the next start. Example: `end_at_stop = true`.
    pub end_at_stop: bool,
}

impl Default for Subscription {
    fn default() -> Self {
        Subscription {
            min_interval_s: 60,
            default_interval_s: 3_600,
            max_interval_s: 86_400,
            max_per_watcher: 500,
            max_per_presentity: 10_000,
            give_up_after_s: 2_592_000,
            max_waiting_per_presentity: 500,
            max_waiting_per_watcher: 100,
            end_at_stop: false,
        }
    }
}

/// `[publication]` (RFC 3903 6)
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Publication {
    /// A shorter interval is refused with 423. Example: `min_interval_s = 60`.
    pub min_interval_s: u32,
    /// What a publisher gets that asks for nothing. Example: `default_interval_s = 3600`.
    pub default_interval_s: u32,
    /// A longer interval is shortened to it. Example: `max_interval_s = 86400`.
    pub max_interval_s: u32,
    /// Live publications of one user (one per device is usual). Example: `max_per_aor = 16`.
    pub max_per_aor: usize,
    /// PUBLISHes of one user that may come at once; what is more is 503 with Retry-After (RFC 3903 9). Example: `burst = 50`.
    pub burst: u32,
    /// PUBLISHes of one user in a second, again and again. Example: `per_second = 10`.
    pub per_second: u32,
}

impl Default for Publication {
    fn default() -> Self {
        Publication {
            min_interval_s: 60,
            default_interval_s: 3_600,
            max_interval_s: 86_400,
            max_per_aor: 16,
            burst: 50,
            per_second: 10,
        }
    }
}

/// `[presence]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Presence {
    /// Answer SUBSCRIBE and PUBLISH for presence at all? Example: `enabled = true`.
    pub enabled: bool,
    /// Between users of the domain, where the owner has no rules: `reciprocal` (who watches me may be watched by me),
    /// `confirm` (the owner decides), `basic` (everybody sees open or closed), `full` (everybody sees everything).
    /// Example: `default_rule = "confirm"`.
    #[serde(with = "value::default_rule")]
    pub default_rule: DomainDefault,
    /// Users (`eve@example.org`) and whole domains (`example.net`) who see nobody, whatever anybody's rules say.
    /// Example: `deny = ["example.net"]`.
    #[serde(with = "value::denied")]
    pub deny: Vec<String>,
    /// NOTIFYs of one subscription that may go at once before pacing begins. Example: `notify_burst = 4`.
    pub notify_burst: u32,
    /// After the burst, one NOTIFY of a subscription per this time; the newest state wins. Example: `notify_interval_ms = 5000`.
    pub notify_interval_ms: u64,
}

impl Default for Presence {
    fn default() -> Self {
        Presence {
            enabled: true,
            default_rule: DomainDefault::Reciprocal,
            deny: Vec::new(),
            notify_burst: 4,
            notify_interval_ms: 5_000,
        }
    }
}

impl Presence {
    /// Who sees whom where the owner has no rules, and who sees nobody.
    pub fn domain(&self) -> DomainRules {
        let (users, domains): (Vec<_>, Vec<_>) = self.deny.iter().partition(|entry| entry.contains('@'));
        DomainRules {
            default: self.default_rule,
            denied: users.iter().filter_map(|user| Aor::from_stored(user)).collect(),
            denied_domains: domains.iter().map(|domain| Text::from(domain.to_ascii_lowercase())).collect(),
        }
    }
}

/// `[messaging]` (RFC 3428)
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Messaging {
    /// Deliver MESSAGE at all? Example: `enabled = true`.
    pub enabled: bool,
    /// Keep messages for users who cannot be reached, and deliver them when they can? Else the sender is told (480). Example: `store = false`.
    pub store: bool,
    /// How long a message is kept at most; its sender may ask for less (Expires). Example: `retention_s = 604800`.
    pub retention_s: u32,
    /// Messages kept for one user; beyond it the sender gets 480. Example: `max_per_user = 500`.
    pub max_per_user: usize,
    /// Their bytes, headers included. Example: `max_bytes_per_user = 5242880`.
    pub max_bytes_per_user: u64,
    /// How long devices have to answer before a message is kept and its sender gets 202. Example: `answer_s = 10`.
    pub answer_s: u32,
    /// Are devices that somebody is using asked first, and those that nobody is using only if these do not take a message? They say so themselves, by
    /// `user-input` in what they publish; else all are asked. Example: `active_first = true`.
    pub active_first: bool,
    /// A device that stays registered and takes no message is tried again after this time, then after twice that, and so on up to half an
    /// hour. Example: `retry_s = 30`.
    pub retry_s: u32,
    /// Messages that one user may send at once; beyond it 503. That somebody is typing, and reports of delivery, are counted for themselves.
    /// Example: `burst = 120`.
    pub burst: u32,
    /// Messages that one user may go on sending in a minute. Example: `per_minute = 60`.
    pub per_minute: u32,
    /// Messages that one user gets at once from senders whom they do not watch. Example: `strangers_burst = 120`.
    pub strangers_burst: u32,
    /// The same in a minute. Example: `strangers_per_minute = 60`.
    pub strangers_per_minute: u32,
    /// Tell senders who ask for it (IMDN, RFC 5438) that their message is kept, or that nobody will get it? What devices tell of messages is
    /// theirs. Example: `reports = false`.
    pub reports: bool,
    /// Refuse messages whose CPIM From (RFC 3862) is not their sender's, and receipts from who did not get the message? To be switched off where
    /// a user of ours sends for others, like a mailing list. Example: `verify_cpim = false`.
    pub verify_cpim: bool,
}

impl Default for Messaging {
    fn default() -> Self {
        Messaging {
            enabled: true,
            store: true,
            retention_s: 604_800,
            max_per_user: 500,
            max_bytes_per_user: 5_242_880,
            answer_s: 10,
            active_first: true,
            retry_s: 30,
            burst: 120,
            per_minute: 60,
            strangers_burst: 120,
            strangers_per_minute: 60,
            reports: true,
            verify_cpim: true,
        }
    }
}

/// `[auth]` (RFC 3261 22, RFC 8760)
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// How long a nonce is good; afterwards a right answer gets `stale=true` and a new one. Example: `nonce_lifetime_s = 300`.
    pub nonce_lifetime_s: u32,
    /// Challenges offered, in this order (RFC 8760 2.4: strongest first). Example: `algorithms = ["SHA-256", "MD5"]`.
    /// SHA-512-256 is offered once every account has its hash, which a password set by an earlier release has not.
    #[serde(with = "value::algorithms")]
    pub algorithms: Vec<Algorithm>,
    /// Offer `auth-int` beside `auth`: who answers with it has the body protected too. Something between that rewrites bodies then
    /// makes right passwords wrong. Example: `integrity = true`.
    pub integrity: bool,
}

impl Default for Auth {
    fn default() -> Self {
        Auth { nonce_lifetime_s: 300, algorithms: vec![Algorithm::Sha256, Algorithm::Md5], integrity: false }
    }
}

/// `[proxy]` (RFC 3261 16)
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Proxy {
    /// How long a call may ring: Timer C, which must be above three minutes (16.6 step 11). Example: `timer_c_s = 200`.
    pub timer_c_s: u32,
    /// Devices one request is sent to at once. Example: `max_forks = 10`.
    pub max_forks: usize,
    /// Does a call ring at the devices with the highest `q` first, and at the others when these do not answer? Else at all of them
    /// at once. Example: `fork_by_q = true`.
    pub fork_by_q: bool,
    /// How long devices ring before those of a lower `q` have their turn. Example: `ring_s = 20`.
    pub ring_s: u32,
    /// Is a device that answers with the address of another user of this domain (3xx) followed? Else the caller is told.
    /// Example: `follow_redirects = false`.
    pub follow_redirects: bool,
}

impl Default for Proxy {
    fn default() -> Self {
        Proxy { timer_c_s: 200, max_forks: 10, fork_by_q: true, ring_s: 20, follow_redirects: false }
    }
}

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// One whole message. Example: `message_bytes = 65535`.
    pub message_bytes: usize,
    /// All TCP connections; beyond it the oldest unauthenticated one is closed. Example: `tcp_connections = 50000`.
    pub tcp_connections: usize,
    /// Connections from one address on which nobody has authenticated (an office may stand behind one address).
    /// Example: `tcp_unauthenticated_per_address = 1000`.
    pub tcp_unauthenticated_per_address: usize,
    /// A begun header section must be complete within. Example: `tcp_header_deadline_ms = 5000`.
    pub tcp_header_deadline_ms: u64,
    /// A body must be complete within. Example: `tcp_body_deadline_ms = 10000`.
    pub tcp_body_deadline_ms: u64,
    /// The first valid request must come within. Example: `tcp_first_request_deadline_ms = 5000`.
    pub tcp_first_request_deadline_ms: u64,
    /// An idle connection on which nobody has authenticated is closed after. Example: `tcp_idle_unauthenticated_s = 30`.
    pub tcp_idle_unauthenticated_s: u32,
    /// Any idle connection is closed after; keep it above the usual registration interval. Example: `tcp_idle_s = 3900`.
    pub tcp_idle_s: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            message_bytes: 65_535,
            tcp_connections: 50_000,
            tcp_unauthenticated_per_address: 1_000,
            tcp_header_deadline_ms: 5_000,
            tcp_body_deadline_ms: 10_000,
            tcp_first_request_deadline_ms: 5_000,
            tcp_idle_unauthenticated_s: 30,
            tcp_idle_s: 3_900,
        }
    }
}

impl Limits {
    /// Caps of the language.
    pub fn message(&self) -> crate::sip::Limits {
        crate::sip::Limits { message: self.message_bytes, ..crate::sip::Limits::default() }
    }
    /// Caps and deadlines of connections.
    pub fn connections(&self) -> ConnectionLimits {
        ConnectionLimits {
            message: self.message(),
            header_deadline: Duration::from_millis(self.tcp_header_deadline_ms),
            body_deadline: Duration::from_millis(self.tcp_body_deadline_ms),
            first_request_deadline: Duration::from_millis(self.tcp_first_request_deadline_ms),
            idle_unauthenticated: Duration::from_secs(self.tcp_idle_unauthenticated_s.into()),
            idle: Duration::from_secs(self.tcp_idle_s.into()),
            unauthenticated_per_address: self.tcp_unauthenticated_per_address,
            connections: self.tcp_connections,
            write_buffer: WRITE_BUFFER,
        }
    }
}

/// `[contact]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Contact {
    /// Networks a Contact may not point to, beside those that are always refused (a device is reached at the address it
    /// registered from in any case). Default: none. Example: `deny = ["10.0.0.0/8"]`.
    pub deny: Vec<Net>,
}

/// `[dns]` (RFC 3263)
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dns {
    /// Name servers to ask instead of those of the system, whose hosts file is not read then: an address, with a port if it is not 53.
    /// At most 8. Default: none, the system's. Example: `servers = ["192.0.2.53", "127.0.0.1:5353"]`.
    pub servers: Vec<NameServer>,
}

impl Dns {
    /// Their addresses.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(|server| server.0).collect()
    }
}

/// `[http]`: XCAP (RFC 4825). Off unless it listens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Where HTTP is spoken; `""`: nowhere. Beyond loopback give it a certificate, for documents are private.
    /// Example: `listen = "127.0.0.1:8080"`.
    #[serde(with = "value::optional_address")]
    pub listen: Option<SocketAddr>,
    /// The path below which XCAP documents are (RFC 4825 6.1). Example: `xcap_root = "/xcap-root"`.
    pub xcap_root: String,
    /// The certificate and those it hangs on, a PEM file; with `tls_key` HTTPS is spoken. Default: none.
    /// Example: `tls_cert = "/etc/hither/chain.pem"`.
    #[serde(with = "value::optional_text")]
    pub tls_cert: Option<String>,
    /// Its private key, a PEM file. Default: none. Example: `tls_key = "/etc/hither/key.pem"`.
    #[serde(with = "value::optional_text")]
    pub tls_key: Option<String>,
    /// Connections at a time; further ones wait. Example: `connections = 1000`.
    pub connections: usize,
    /// Connections from one address at a time; further ones are closed. Example: `connections_per_address = 200`.
    pub connections_per_address: usize,
    /// The head of a request must be complete within; an idle connection is closed after. Example: `header_deadline_ms = 10000`.
    pub header_deadline_ms: u64,
    /// A body must be complete within. Example: `body_deadline_ms = 10000`.
    pub body_deadline_ms: u64,
}

impl Default for Http {
    fn default() -> Self {
        Http {
            listen: None,
            xcap_root: "/xcap-root".into(),
            tls_cert: None,
            tls_key: None,
            connections: 1_000,
            connections_per_address: 200,
            header_deadline_ms: 10_000,
            body_deadline_ms: 10_000,
        }
    }
}

/// Peers, and networks of one. Each request is compared with all of them.
pub(super) const MAX_PEERS: usize = 64;
/// More name servers than these are of no use to anybody.
pub(super) const MAX_NAME_SERVERS: usize = 8;
/// Buffers of that many sockets are 512 MiB per listener, if ever all of them were filled.
pub(super) const MAX_WORKERS: usize = 256;
/// Bytes waiting for one slow reader: a few dozen NOTIFYs.
const WRITE_BUFFER: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_worker_per_core_unless_told_otherwise() {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        assert_eq!(Server::default().workers(), cores);
        let datagrams = Server { workers: 3, fast_path: false }.datagrams();
        assert_eq!(datagrams, Datagrams { sockets: 3, together: false });
    }

    #[test]
    fn connection_limits_carry_the_configured_values() {
        let limits = Limits { message_bytes: 4_096, tcp_idle_s: 40, ..Limits::default() }.connections();
        assert_eq!(limits.message.message, 4_096);
        assert_eq!(limits.idle, Duration::from_secs(40));
        assert_eq!(limits.header_deadline, Duration::from_secs(5));
    }
}

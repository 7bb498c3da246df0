//! The one place where transaction machines meet clock, randomness and sockets.
//!
//! Bytes become messages, messages find their transaction, and what is new goes to the [`Handler`] that the server gives, in the very task that
//! received it. Knows no service.

mod client_side;
pub mod clock;
mod finished;
pub mod incoming;
pub mod random;
mod server_side;
mod table;
mod throttle;
mod timer;
pub mod trace;
mod wakes;

#[cfg(test)]
mod room;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use tokio::sync::{Semaphore, watch};

use crate::model::{Flow, Transport};
use crate::sip::{HostPort, Limits, Message, Method, ParseError, Response, Writer};
use crate::transaction::ClientKey;
use crate::transport::{Note, Receiver, SendError, Sockets};

pub use client_side::ClientId;
pub use incoming::Incoming;
pub use random::Random;
pub use server_side::ServerTransaction;
pub use timer::WakeId;

/// Who decides about requests that begin something new. The server has one (dispatch); tests have another.
pub trait Handler: Send + Sync + 'static {
    /// A valid request that belongs to no transaction yet, or an ACK that belongs to none or to a 2xx. Must not block.
    fn request(&self, incoming: Incoming);
    /// A connection is gone.
    fn closed(&self, flow: &Flow);
}

/// How peers on one flow see us (RFC 3261 18.1.1): what our Vias and our URIs are made of.
#[derive(Debug, Clone)]
pub struct Ours {
    transport: Transport,
    /// `host:port`.
    sent_by: String,
}

/// Who is told how a transaction goes (RFC 3261 17): a response context, a notifier's dialog.
pub trait TransactionUser: Send + Sync {
    /// Something happened. Called without any lock of the endpoint held; must not block.
    fn event(self: Arc<Self>, event: UserEvent);
}

/// What a transaction user hears.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "events are handled where they are made")]
pub enum UserEvent {
    /// A response to the client transaction of that number.
    Response {
        /// The number given to [`Endpoint::send`].
        branch: u32,
        /// The response, top Via still ours.
        response: Response,
    },
    /// No final response came (Timer B or F): treated as 408 (8.1.3.1).
    Timeout {
        /// The number given to [`Endpoint::send`].
        branch: u32,
    },
    /// The request could not be delivered: treated as 503 (8.1.3.1).
    TransportFailed {
        /// The number given to [`Endpoint::send`].
        branch: u32,
    },
    /// The INVITE server transaction was cancelled; the CANCEL has been answered.
    Cancelled {
        /// Its Reason header (RFC 3326).
        reason: Option<String>,
    },
    /// A timer of [`Endpoint::wake`] is due.
    Timer {
        /// The number given to it.
        token: u32,
    },
}

/// Transactions, tasks and counters over the sockets.
pub struct Endpoint {
    sockets: Arc<Sockets>,
    random: Random,
    servers: server_side::Servers,
    clients: client_side::Clients,
    timers: timer::Timers,
    throttle: throttle::Throttle,
    handler: OnceLock<Arc<dyn Handler>>,
    tasks: Arc<Semaphore>,
    limits: Limits,
    server_header: Option<String>,
    own: OnceLock<Weak<Endpoint>>,
    /// What came in and went nowhere, by reason.
    pub counters: Counters,
    /// The last messages of who is followed.
    pub trace: trace::Trace,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").finish_non_exhaustive()
    }
}

/// Outcomes by closed sets; always on.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "the names are the reasons")]
pub struct Counters {
    pub requests: AtomicU64,
    pub responses: AtomicU64,
    pub retransmissions: AtomicU64,
    pub malformed_answered: AtomicU64,
    pub malformed_dropped: AtomicU64,
    pub stray_responses: AtomicU64,
    pub stray_acks: AtomicU64,
    pub table_full: AtomicU64,
    pub evicted: AtomicU64,
    pub send_failed: AtomicU64,
    pub reconnected: AtomicU64,
    pub throttled: AtomicU64,
}

impl Counters {
    /// Names and values, for the operator.
    pub fn snapshot(&self) -> [(&'static str, u64); 12] {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("requests", value(&self.requests)),
            ("responses", value(&self.responses)),
            ("retransmissions", value(&self.retransmissions)),
            ("malformed_answered", value(&self.malformed_answered)),
            ("malformed_dropped", value(&self.malformed_dropped)),
            ("stray_responses", value(&self.stray_responses)),
            ("stray_acks", value(&self.stray_acks)),
            ("table_full", value(&self.table_full)),
            ("evicted", value(&self.evicted)),
            ("send_failed", value(&self.send_failed)),
            ("reconnected", value(&self.reconnected)),
            ("throttled", value(&self.throttled)),
        ]
    }
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Endpoint {
    /// An endpoint over bound sockets. `server_header`: value of Server and User-Agent, if any.
    pub fn new(sockets: Arc<Sockets>, limits: Limits, server_header: Option<String>) -> Arc<Endpoint> {
        Endpoint::with_room(sockets, limits, server_header, MAX_TRANSACTIONS)
    }

    /// The same with room for so many server transactions, and as many client transactions.
    fn with_room(
        sockets: Arc<Sockets>,
        limits: Limits,
        server_header: Option<String>,
        transactions: usize,
    ) -> Arc<Endpoint> {
        let endpoint = Arc::new(Endpoint {
            sockets,
            random: Random::new(),
            servers: server_side::Servers::new(transactions),
            clients: client_side::Clients::new(transactions),
            timers: timer::Timers::default(),
            throttle: throttle::Throttle::default(),
            handler: OnceLock::new(),
            tasks: Arc::new(Semaphore::new(MAX_TASKS)),
            limits,
            server_header,
            own: OnceLock::new(),
            counters: Counters::default(),
            trace: trace::Trace::starting(clock::now()),
        });
        let _ = endpoint.own.set(Arc::downgrade(&endpoint));
        endpoint
    }

    /// Starts the sockets and the timers. They end after `stop`; see [`Endpoint::drained`].
    pub fn run(self: &Arc<Self>, handler: Arc<dyn Handler>, stop: watch::Receiver<bool>) {
        let _ = self.handler.set(handler);
        self.sockets.run(self.clone(), stop.clone());
        self.clone().run_timers(stop);
    }

    /// The sockets beneath.
    pub fn sockets(&self) -> &Arc<Sockets> {
        &self.sockets
    }

    /// Randomness for tags, branches and tokens.
    pub fn random(&self) -> &Random {
        &self.random
    }

    /// Sends bytes that belong to no transaction (an ACK for a 2xx, a response without state).
    pub fn send_stateless(&self, flow: &Flow, bytes: &Bytes) -> Result<(), SendError> {
        let sent = self.put(flow, bytes, false);
        if sent.is_err() {
            count(&self.counters.send_failed);
        }
        sent
    }

    /// Hands bytes to a socket. `taken_on`: they answer a request that was taken on.
    fn put(&self, flow: &Flow, bytes: &Bytes, taken_on: bool) -> Result<(), SendError> {
        self.put_by(flow, bytes, taken_on, || self.sockets.send(flow, bytes))
    }

    /// The same for the request of a client transaction: if the system refuses it later, the transaction fails then ([`Receiver::refused`]).
    fn put_noted(&self, flow: &Flow, bytes: &Bytes, note: Note) -> Result<(), SendError> {
        self.put_by(flow, bytes, false, || self.sockets.send_noted(flow, bytes, note))
    }

    /// The one way out.
    fn put_by(
        &self,
        flow: &Flow,
        bytes: &Bytes,
        taken_on: bool,
        send: impl FnOnce() -> Result<(), SendError>,
    ) -> Result<(), SendError> {
        let number = self.trace.goes();
        let sent = send();
        self.trace.went(number, bytes, flow, sent.is_ok(), taken_on);
        sent
    }

    /// Runs something that must wait. `false`: as many tasks run as may; nothing was started.
    #[expect(
        clippy::disallowed_methods,
        reason = "the endpoint owns these tasks: bounded by the semaphore, awaited by `drained`"
    )]
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> bool {
        let Ok(permit) = self.tasks.clone().try_acquire_owned() else {
            count(&self.counters.table_full);
            return false;
        };
        tokio::spawn(async move {
            task.await;
            drop(permit);
        });
        true
    }

    /// Waits until all tasks of [`Endpoint::spawn`] have ended.
    pub async fn drained(&self) {
        let all = u32::try_from(MAX_TASKS).unwrap_or(u32::MAX);
        drop(self.tasks.acquire_many(all).await);
    }

    /// Waits until every request that was taken on has its final response.
    pub async fn answered(&self) {
        self.servers.all_answered().await;
    }

    /// How many server and client transactions are held.
    pub fn transactions(&self) -> (usize, usize) {
        (self.servers.len(), self.clients.len())
    }

    /// How peers on this flow see us.
    pub fn ours(&self, flow: &Flow) -> Ours {
        let (mut sent_by, port) = self.sockets.sent_by(flow);
        sent_by.push(':');
        sent_by.push_str(&port.to_string());
        Ours::new(flow.transport, sent_by)
    }

    /// As [`Ours::via`], for one request.
    pub fn via(&self, flow: &Flow, branch: &str) -> String {
        self.ours(flow).via(branch)
    }

    /// As [`Ours::uri`], for one that is all that is asked for.
    pub fn own_uri(&self, flow: &Flow, user: Option<&str>) -> String {
        self.ours(flow).uri(user)
    }

    fn arc(&self) -> Option<Arc<Endpoint>> {
        self.own.get().and_then(Weak::upgrade)
    }

    fn with_server_header(&self, mut writer: Writer) -> Writer {
        if let Some(server) = &self.server_header {
            writer.header(crate::sip::HeaderName::Server, server);
        }
        writer
    }
}

impl Ours {
    /// `sent_by`: `host:port`.
    pub fn new(transport: Transport, sent_by: String) -> Ours {
        Ours { transport, sent_by }
    }

    /// The value of a Via that we put on top: `SIP/2.0/UDP host:port;branch=..;rport` (RFC 3261 16.6 step 8, RFC 3581 3).
    pub fn via(&self, branch: &str) -> String {
        let mut via = String::with_capacity(self.sent_by.len() + branch.len() + 32);
        let token = self.transport.via_token();
        for part in ["SIP/2.0/", token, " ", &self.sent_by, ";branch=", branch, ";rport"] {
            via.push_str(part);
        }
        via
    }

    /// A URI of ours as this peer should see it: `sip:[user@]host:port[;transport=tcp]`.
    pub fn uri(&self, user: Option<&str>) -> String {
        // Most who ask add a parameter.
        let mut uri = String::with_capacity(self.sent_by.len() + user.map_or(0, str::len) + 72);
        uri.push_str("sip:");
        if let Some(user) = user {
            uri.push_str(user);
            uri.push('@');
        }
        uri.push_str(&self.sent_by);
        if self.transport.is_reliable() {
            uri.push_str(";transport=tcp");
        }
        uri
    }

    fn key(&self, branch: &str, method: &Method) -> Option<ClientKey> {
        HostPort::parse(&self.sent_by).map(|sent_by| ClientKey::of_ours(&sent_by, branch, method))
    }
}

impl Receiver for Endpoint {
    fn received(&self, bytes: Bytes, flow: Flow) {
        let Some(endpoint) = self.arc() else { return };
        let message = Message::parse(bytes.clone(), flow.transport.is_reliable(), &self.limits);
        if let Ok(message) = &message {
            self.trace.came(message, &flow);
        }
        match message {
            Ok(Message::Request(request)) => incoming::request(&endpoint, request, flow),
            Ok(Message::Response(response)) => self.response(response, &flow),
            Err(error) => incoming::malformed(self, error, &bytes, &flow),
        }
    }

    fn malformed(&self, error: ParseError, head: Option<Bytes>, flow: Flow) {
        incoming::malformed(self, error, &head.unwrap_or_default(), &flow);
    }

    fn refused(&self, note: Note) {
        self.fail_client(note);
    }

    fn closed(&self, flow: Flow, had_requests: bool) {
        // Strangers who come and go cost no look at every transaction (`A22`).
        if had_requests {
            self.fail_flow(&flow);
        }
        if let Some(handler) = self.handler.get() {
            handler.closed(&flow);
        }
    }
}

/// Server transactions held at once, and client transactions. A finished one over datagrams lasts 32 s, so this is room for 15,600
/// requests a second of which every retransmission finds its answer; above that rate the oldest go earlier. One is its answer and some 200 B.
const MAX_TRANSACTIONS: usize = 500_000;
/// Tasks that wait for something; beyond it work is shed.
const MAX_TASKS: usize = 10_000;

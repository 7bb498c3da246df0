//! Sockets: datagrams and connections in, bytes out (RFC 3261 18, RFC 3581, RFC 5626 4.4.1).
//!
//! Knows framing, flows and deadlines; knows no transactions. Everything is bounded.

mod batch;
mod connection;
mod counters;
mod deny;
mod listener;
mod outbox;
mod resolve;
mod shared;
mod source;
mod spread;
mod stream;
mod table;
mod tcp;
#[cfg(test)]
mod testing;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::runtime::Handle;

use crate::model::{Flow, Transport};
use crate::sip::Limits;
use crate::transport::connection::Connection;
use crate::transport::counters::Counters;
use crate::transport::listener::Bound;
use crate::transport::shared::{Running, Shared, State, Tasks, is_stopped, lock};
use crate::transport::source::Sources;
use crate::transport::stream::Lease;
use crate::transport::table::{Caps, Found, Table};
use crate::transport::udp::UdpListener;

pub use counters::{Closed, Dropped, Snapshot};
pub use deny::may_contact;
pub use resolve::Resolver;

/// One listener as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Transport.
    pub transport: Transport,
    /// Address to bind; port 0 lets the system choose.
    pub bind: SocketAddr,
    /// What peers are told (host, optional port): a name or address; `None` = the bound address.
    pub advertise: Option<(String, Option<u16>)>,
}

/// One listener as bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Transport.
    pub transport: Transport,
    /// The real local address.
    pub local: SocketAddr,
    /// `host:port` for Via, Record-Route and Contact (IPv6 in brackets). An unspecified bind address without `advertise` is replaced per
    /// destination by [`Sockets::sent_by`].
    pub advertise: Option<(String, u16)>,
}

/// How datagrams are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagrams {
    /// Sockets per listener, each read by a task of its own; at least one. Only Linux shares datagrams out among several: elsewhere there is one.
    pub sockets: usize,
    /// Read and send many of them with one call of the system? Otherwise each by itself.
    pub together: bool,
}

impl Default for Datagrams {
    fn default() -> Self {
        Datagrams { sockets: 1, together: true }
    }
}

/// Caps and deadlines of connections (`A22`); every one has the default of the security page.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Caps of the language.
    pub message: Limits,
    /// A begun header section must be complete within (5 s).
    pub header_deadline: Duration,
    /// A body must be complete within (10 s).
    pub body_deadline: Duration,
    /// The first valid request must arrive within (5 s) of connecting.
    pub first_request_deadline: Duration,
    /// Idle time of a connection on which nobody authenticated (30 s).
    pub idle_unauthenticated: Duration,
    /// Idle time of any connection (at least 64*T1; default 3,900 s: above the usual registration interval).
    pub idle: Duration,
    /// Unauthenticated connections per remote address (1,000).
    pub unauthenticated_per_address: usize,
    /// All connections (50,000); beyond it the oldest unauthenticated one is closed.
    pub connections: usize,
    /// Bytes waiting to be written to one connection (256 KiB); beyond it the connection is closed.
    pub write_buffer: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        ConnectionLimits {
            message: Limits::default(),
            header_deadline: Duration::from_secs(5),
            body_deadline: Duration::from_secs(10),
            first_request_deadline: Duration::from_secs(5),
            idle_unauthenticated: Duration::from_secs(30),
            idle: Duration::from_secs(3_900),
            unauthenticated_per_address: 1_000,
            connections: 50_000,
            write_buffer: 256 * 1024,
        }
    }
}

/// Who is told what arrives. Called in the task that read it; must not block.
pub trait Receiver: Send + Sync + 'static {
    /// One datagram, or one whole message from a stream (`flow.transport` tells).
    fn received(&self, bytes: Bytes, flow: Flow);
    /// A stream held something that is no message; it is being closed. `head`: its complete header section, if there was one (so that a 400 can be
    /// sent with [`Sockets::send`] before the close).
    fn malformed(&self, error: crate::sip::ParseError, head: Option<Bytes>, flow: Flow);
    /// The system has refused a datagram that [`Sockets::send_noted`] had taken. Told by the task that reads the socket, never from within a send.
    fn refused(&self, note: Note);
    /// A connection is gone (closed, reset, idle, or could not be made). Told once, by the connection's own task, when its flow is
    /// no longer alive; never from within [`Sockets::send`] or [`Sockets::flow_to`].
    ///
    /// - `had_requests`: requests were sent on it, so that somebody may wait for their answers.
    fn closed(&self, flow: Flow, had_requests: bool);
}

/// What its sender calls a request, should it be refused later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Note(pub u128);

/// Why bytes could not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The connection of this flow is gone and a new one may not be made.
    #[error("flow is gone")]
    FlowGone,
    /// No listener of that transport and address family.
    #[error("no listener for that transport and address family")]
    NoListener,
    /// The peer does not read and its buffer is full, or a connection limit is reached.
    #[error("peer does not take more")]
    Full,
    /// The system refused the datagram (unreachable, too large..).
    #[error("the system refused")]
    Refused,
}

/// All sockets of the server.
///
/// In every [`Flow`], `local` is the [`Listener::local`] of the listener it belongs to, also for accepted connections and for those that
/// are made (they belong to the first TCP listener of their address family).
pub struct Sockets {
    shared: Arc<Shared>,
    udp: Vec<Arc<UdpListener>>,
    /// Taken by [`Sockets::run`].
    tcp: Mutex<Vec<(SocketAddr, TcpListener)>>,
}

impl std::fmt::Debug for Sockets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sockets").field("listeners", &self.shared.listeners).finish_non_exhaustive()
    }
}

impl Sockets {
    /// Binds every listener. Sets 4 MB socket buffers (datagrams) and warns if the kernel grants less.
    ///
    /// # Errors
    /// What the system says, with transport and address; no randomness.
    pub async fn bind(
        listeners: &[ListenerConfig],
        datagrams: Datagrams,
        limits: ConnectionLimits,
    ) -> io::Result<Arc<Sockets>> {
        let (mut bound, mut udp, mut tcp) = (Vec::new(), Vec::new(), Vec::new());
        let mut buffer_warned = false;
        for config in listeners {
            let (listener, socket) = listener::bind(config, datagrams.sockets, &mut buffer_warned)?;
            match socket {
                Bound::Udp(sockets) => udp.push(Arc::new(UdpListener::new(sockets, listener.local).await?)),
                Bound::Tcp(socket) => tcp.push((listener.local, socket)),
            }
            bound.push(listener);
        }
        let mut base = [0; 8];
        aws_lc_rs::rand::fill(&mut base).map_err(|_| io::Error::other("no random numbers"))?;
        let caps = Caps {
            connections: limits.connections,
            unauthenticated_per_address: limits.unauthenticated_per_address,
            write_buffer: limits.write_buffer,
        };
        let shared = Shared {
            listeners: bound,
            limits,
            counters: Counters::default(),
            table: Table::new(u64::from_ne_bytes(base), caps),
            sources: Sources::default(),
            tasks: Tasks::new(Handle::current()),
            datagrams,
            state: Mutex::new(State::Bound),
        };
        Ok(Arc::new(Sockets { shared: Arc::new(shared), udp, tcp: Mutex::new(tcp) }))
    }

    /// As bound, in configured order.
    pub fn listeners(&self) -> &[Listener] {
        &self.shared.listeners
    }

    /// Starts the receiving tasks. They end when `stop` is set to true (or its sender is dropped): listeners close, connections are
    /// drained and closed. Only the first call counts.
    pub fn run(self: &Arc<Self>, receiver: Arc<dyn Receiver>, stop: tokio::sync::watch::Receiver<bool>) {
        {
            let mut state = lock(&self.shared.state);
            if !matches!(*state, State::Bound) {
                return;
            }
            *state = State::Running(Running { receiver: Arc::clone(&receiver), stop: stop.clone() });
        }
        for udp in &self.udp {
            for reader in udp.readers(&self.shared, &receiver, &stop) {
                self.shared.tasks.spawn(reader);
            }
        }
        for (local, listener) in lock(&self.tcp).drain(..) {
            let (shared, receiver) = (Arc::clone(&self.shared), Arc::clone(&receiver));
            self.shared.tasks.spawn(tcp::accept(listener, local, shared, receiver, stop.clone()));
        }
    }

    /// Waits until all tasks have ended (after `stop`), and lets go of the receiver.
    pub async fn ended(&self) {
        self.shared.tasks.ended().await;
        let mut state = lock(&self.shared.state);
        if !matches!(&*state, State::Running(running) if is_stopped(&running.stop)) {
            // Not running yet, or without a listener: connections may still be made.
            return;
        }
        let ended = std::mem::replace(&mut *state, State::Ended);
        drop(state);
        // Freed outside the lock: the receiver may own these sockets.
        drop(ended);
    }

    /// A flow to this address: the live connection to it if there is one, else one that is being made now (TCP), or the right
    /// listener (UDP). Failure to connect is told by `Receiver::closed`.
    ///
    /// # Errors
    /// `NoListener`: none of that transport and family, or not running yet. `Full`: too many connections. `FlowGone`: stopping.
    pub fn flow_to(self: &Arc<Self>, transport: Transport, remote: SocketAddr) -> Result<Flow, SendError> {
        self.flow(transport, remote)
    }

    /// Is the flow usable? (Always for datagrams with a listener; for connections while they live.)
    pub fn is_alive(&self, flow: &Flow) -> bool {
        match flow.transport {
            Transport::Udp => self.udp_of(flow).is_some(),
            Transport::Tcp => self.shared.table.of(flow).is_some(),
        }
    }

    /// Sends at once or queues in the connection's buffer; never waits. A datagram that is sent from within [`Receiver::received`], while
    /// a burst of them is handled, leaves with the others of its burst; should the system refuse it then, that is counted ([`Dropped::Refused`]). A TCP flow with
    /// connection 0 goes over the live connection to its remote address, or one that is made now.
    ///
    /// # Errors
    /// As [`SendError`] says. After `Full` on a connection, the connection is closed.
    pub fn send(&self, flow: &Flow, bytes: &Bytes) -> Result<(), SendError> {
        self.put(flow, bytes, None)
    }

    /// The same for a request whose sender wants to know: if the system refuses it later, [`Receiver::refused`] is told of this note.
    ///
    /// # Errors
    /// As [`Sockets::send`]; the note is then of no use.
    pub fn send_noted(&self, flow: &Flow, bytes: &Bytes, note: Note) -> Result<(), SendError> {
        self.put(flow, bytes, Some(note))
    }

    fn put(&self, flow: &Flow, bytes: &Bytes, note: Option<Note>) -> Result<(), SendError> {
        match flow.transport {
            Transport::Udp => {
                let listener = self.udp_of(flow).ok_or(SendError::NoListener)?;
                listener.send(flow.remote, bytes, note, &self.shared.counters)
            }
            Transport::Tcp => {
                let connection = match self.shared.table.of(flow) {
                    Some(connection) => connection,
                    None if flow.connection == 0 => {
                        let flow = self.flow(flow.transport, flow.remote)?;
                        self.shared.table.of(&flow).ok_or(SendError::FlowGone)?
                    }
                    None => return Err(SendError::FlowGone),
                };
                connection.send(bytes)?;
                Counters::add(&self.shared.counters.messages_out);
                Ok(())
            }
        }
    }

    /// Runs something that sends to many at once: its datagrams leave with few calls of the system, when it has ended or earlier. It must not
    /// wait. What the system refuses then is counted ([`Dropped::Refused`]), and told if it was [noted](Sockets::send_noted).
    pub fn together(&self, send: impl FnOnce()) {
        struct Release<'a>(&'a Sockets, bool);
        impl Drop for Release<'_> {
            fn drop(&mut self) {
                if self.1 {
                    self.0.udp.iter().for_each(|udp| udp.release(&self.0.shared.counters));
                }
            }
        }
        if !self.shared.datagrams.together {
            return send();
        }
        // What was put before a panic leaves all the same.
        let mut release = Release(self, true);
        release.1 = outbox::together(send);
    }

    /// Somebody proved who they are on this connection: the longer idle time applies.
    pub fn authenticated(&self, flow: &Flow) {
        if flow.transport == Transport::Tcp
            && flow.connection != 0
            && let Some(connection) = self.shared.table.of(flow)
        {
            self.shared.table.authenticated(&connection);
        }
    }

    /// `(host, port)` that a peer on this flow should see as ours: the advertised one, else the local address the flow uses (the source
    /// address the kernel would choose, for wildcard binds).
    pub fn sent_by(&self, flow: &Flow) -> (String, u16) {
        let listener =
            self.shared.listeners.iter().find(|l| l.transport == flow.transport && l.local == flow.local);
        if let Some(advertise) = listener.and_then(|l| l.advertise.clone()) {
            return advertise;
        }
        let ip = match flow.local.ip() {
            ip if ip.is_unspecified() => self.shared.sources.source(flow.remote.ip()).unwrap_or(ip),
            ip => ip,
        };
        (listener::ip_text(ip), flow.local.port())
    }

    /// May a request be sent to this address, which somebody else chose (`A14`)? [`may_contact`] with our own listeners, and with our own
    /// addresses behind listeners that are bound to all of them.
    pub fn may_contact(&self, addr: SocketAddr, extra_denied: &[(std::net::IpAddr, u8)]) -> bool {
        let own: Vec<SocketAddr> = self.shared.listeners.iter().map(|l| l.local).collect();
        may_contact(addr, &own, extra_denied) && !self.is_own(addr)
    }
    /// Is this an address we listen on, also behind a wildcard bind?
    pub fn is_own(&self, addr: SocketAddr) -> bool {
        let ip = addr.ip().to_canonical();
        self.shared.listeners.iter().any(|listener| {
            let local = listener.local;
            local.port() == addr.port()
                && (local.ip() == ip || (local.ip().is_unspecified() && self.shared.sources.is_ours(ip)))
        })
    }

    /// The counters as they are now.
    pub fn counters(&self) -> Snapshot {
        self.shared.counters.snapshot(self.shared.table.len())
    }

    fn udp_of(&self, flow: &Flow) -> Option<&Arc<UdpListener>> {
        self.udp.iter().find(|udp| udp.local() == flow.local)
    }

    fn flow(&self, transport: Transport, remote: SocketAddr) -> Result<Flow, SendError> {
        let local = self.local_for(transport, remote).ok_or(SendError::NoListener)?;
        match transport {
            Transport::Udp => Ok(Flow { transport, local, remote, connection: 0 }),
            Transport::Tcp => self.connection_to(local, remote),
        }
    }

    fn connection_to(&self, local: SocketAddr, remote: SocketAddr) -> Result<Flow, SendError> {
        let shared = &self.shared;
        let (receiver, stop) = match &*lock(&shared.state) {
            State::Bound => return Err(SendError::NoListener),
            State::Ended => return Err(SendError::FlowGone),
            State::Running(running) => (Arc::clone(&running.receiver), running.stop.clone()),
        };
        if is_stopped(&stop) {
            return Err(SendError::FlowGone);
        }
        let connection: Arc<Connection> = match shared.table.find_or_make(local, remote) {
            Ok(Found::Live(flow)) => return Ok(flow),
            Ok(Found::New(connection)) => connection,
            Err(table::NoRoom) => {
                Counters::add(&shared.counters.refused);
                return Err(SendError::Full);
            }
        };
        Counters::add(&shared.counters.made);
        let flow = connection.flow();
        let lease = Lease { shared: Arc::clone(shared), receiver, connection };
        shared.tasks.spawn(stream::make(lease, stop));
        Ok(flow)
    }

    /// The listener to use towards a peer: the one bound to the address the kernel would choose, else one bound to all, else the first.
    fn local_for(&self, transport: Transport, remote: SocketAddr) -> Option<SocketAddr> {
        let fitting = || {
            let of_transport = self.shared.listeners.iter().filter(|l| l.transport == transport);
            of_transport.map(|l| l.local).filter(|l| l.is_ipv4() == remote.is_ipv4())
        };
        let first = fitting().next()?;
        if transport == Transport::Tcp || fitting().nth(1).is_none() {
            return Some(first);
        }
        let source = self.shared.sources.source(remote.ip());
        fitting()
            .find(|l| Some(l.ip()) == source)
            .or_else(|| fitting().find(|l| l.ip().is_unspecified()))
            .or(Some(first))
    }
}

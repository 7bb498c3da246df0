//! Sockets: datagrams and connections in, bytes out (RFC 3261 18, RFC 3581, RFC 5626 4.4.1).
//!
//! Knows framing, flows and deadlines; knows no transactions. Everything is bounded.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::{Flow, Transport};
use crate::sip::Limits;

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

/// Caps and deadlines of connections (`A22`); every one has the default of the security page.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Caps of the language.
    pub message: Limits,
    /// A begun header section must be complete within (5 s).
    pub header_deadline: std::time::Duration,
    /// A body must be complete within (10 s).
    pub body_deadline: std::time::Duration,
    /// The first valid request must arrive within (5 s) of connecting.
    pub first_request_deadline: std::time::Duration,
    /// Idle time of a connection on which nobody authenticated (30 s).
    pub idle_unauthenticated: std::time::Duration,
    /// Idle time of any connection (at least 64*T1; default 3,900 s: above the usual registration interval).
    pub idle: std::time::Duration,
    /// Unauthenticated connections per remote address (1,000).
    pub unauthenticated_per_address: usize,
    /// All connections (50,000); beyond it the oldest unauthenticated one is closed.
    pub connections: usize,
    /// Bytes waiting to be written to one connection (256 KiB); beyond it the connection is closed.
    pub write_buffer: usize,
}

/// Who is told what arrives. Called in the task that read it; must not block.
pub trait Receiver: Send + Sync + 'static {
    /// One datagram, or one whole message from a stream (`flow.transport` tells).
    fn received(&self, bytes: Bytes, flow: Flow);
    /// A stream held something that is no message; it is being closed. `head`: its complete header section, if there was one (so that a 400 can be
    /// sent with [`Sockets::send`] before the close).
    fn malformed(&self, error: crate::sip::ParseError, head: Option<Bytes>, flow: Flow);
    /// A connection is gone (closed, reset, idle, or could not be made).
    fn closed(&self, flow: Flow);
}

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
#[derive(Debug)]
pub struct Sockets {}

impl Sockets {
    /// Binds every listener. Sets 4 MB socket buffers and warns if the kernel grants less.
    pub async fn bind(
        listeners: &[ListenerConfig],
        limits: ConnectionLimits,
    ) -> std::io::Result<Arc<Sockets>> {
        let _ = (listeners, limits);
        todo!()
    }
    /// As bound, in configured order.
    pub fn listeners(&self) -> &[Listener] {
        todo!()
    }
    /// Starts the receiving tasks. They end when `stop` is set to true: listeners close, connections are drained and closed.
    pub fn run(self: &Arc<Self>, receiver: Arc<dyn Receiver>, stop: tokio::sync::watch::Receiver<bool>) {
        let _ = (receiver, stop);
        todo!()
    }
    /// Waits until all tasks have ended (after `stop`).
    pub async fn ended(&self) {
        todo!()
    }
    /// A flow to this address: the live connection to it if there is one, else one that is being made now (TCP), or the right
    /// listener (UDP). Failure to connect is told by `Receiver::closed`.
    pub fn flow_to(self: &Arc<Self>, transport: Transport, remote: SocketAddr) -> Result<Flow, SendError> {
        let _ = (transport, remote);
        todo!()
    }
    /// Is the flow usable? (Always for datagrams with a listener; for connections while they live.)
    pub fn is_alive(&self, flow: &Flow) -> bool {
        let _ = flow;
        todo!()
    }
    /// Sends at once or queues in the connection's buffer; never waits.
    pub fn send(&self, flow: &Flow, bytes: &Bytes) -> Result<(), SendError> {
        let _ = (flow, bytes);
        todo!()
    }
    /// Somebody proved who they are on this connection: the longer idle time applies.
    pub fn authenticated(&self, flow: &Flow) {
        let _ = flow;
        todo!()
    }
    /// `(host, port)` that a peer on this flow should see as ours: the advertised one, else the local address the flow uses (the source
    /// address the kernel would choose, for wildcard binds).
    pub fn sent_by(&self, flow: &Flow) -> (String, u16) {
        let _ = flow;
        todo!()
    }
}

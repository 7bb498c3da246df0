//! Flows: how a device is reached (RFC 5626 3.1).

use std::fmt;
use std::net::SocketAddr;

/// Transports that exist. TLS and WebSocket join here when they are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Transport {
    /// Datagrams.
    Udp = 1,
    /// Streams.
    Tcp = 2,
}

impl Transport {
    /// The token of Via ("UDP").
    pub fn via_token(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
        }
    }
    /// The value of the `transport` URI parameter, and of our own texts ("udp").
    pub fn param(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        }
    }
    /// From a token in any case.
    pub fn parse(token: &str) -> Option<Transport> {
        [Transport::Udp, Transport::Tcp].into_iter().find(|t| t.param().eq_ignore_ascii_case(token))
    }
    /// Reliable transports do not retransmit (RFC 3261 17).
    pub fn is_reliable(self) -> bool {
        self != Transport::Udp
    }
    /// From its number, as stored.
    pub fn from_number(number: u8) -> Option<Transport> {
        [Transport::Udp, Transport::Tcp].into_iter().find(|t| *t as u8 == number)
    }
}

/// One way to a device: local listener, remote address and, for connections, which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Transport.
    pub transport: Transport,
    /// Where our side listens or is bound (the real address, not the advertised one).
    pub local: SocketAddr,
    /// The peer.
    pub remote: SocketAddr,
    /// Which connection; never reused, not even by the next run of the server. 0 for datagrams, and for a connection that is yet to be made.
    pub connection: u64,
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.transport.param(), self.remote)?;
        if self.connection != 0 { write!(f, "#{:x}", self.connection) } else { Ok(()) }
    }
}

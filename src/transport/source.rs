//! Which of our addresses the kernel would use towards a peer.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::transport::shared::{lock, now};

/// Source addresses by remote address. Bounded: emptied when full; an entry is asked anew after a minute, since interfaces change.
#[derive(Debug, Default)]
pub(super) struct Sources {
    known: Mutex<HashMap<IpAddr, (Option<IpAddr>, Instant)>>,
}

impl Sources {
    /// The address the kernel would send from, `None` if there is no route.
    pub(super) fn source(&self, remote: IpAddr) -> Option<IpAddr> {
        let now = now();
        if let Some((source, asked)) = lock(&self.known).get(&remote).copied()
            && now.saturating_duration_since(asked) < FRESH
        {
            return source;
        }
        let source = ask(remote);
        let mut known = lock(&self.known);
        if known.len() >= CAPACITY {
            known.clear();
        }
        known.insert(remote, (source, now));
        source
    }

    /// Is this an address of this very host? (The kernel talks to its own addresses from themselves.)
    pub(super) fn is_ours(&self, ip: IpAddr) -> bool {
        self.source(ip) == Some(ip)
    }
}

/// Connects a throw-away datagram socket: the route is looked up, nothing is sent.
fn ask(remote: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match remote {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(SocketAddr::new(remote, DISCARD)).ok()?;
    let source = socket.local_addr().ok()?.ip();
    (!source.is_unspecified()).then_some(source)
}

/// Any port will do; this one is the discard service.
const DISCARD: u16 = 9;
/// Remote addresses remembered.
const CAPACITY: usize = 4096;
/// How long an answer is believed.
const FRESH: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_reached_from_loopback() {
        let sources = Sources::default();
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        assert_eq!(sources.source(loopback), Some(loopback));
        assert!(sources.is_ours(loopback));
    }

    #[test]
    fn the_cache_is_bounded() {
        let sources = Sources::default();
        for n in 0..u32::try_from(CAPACITY).expect("small") + 10 {
            sources.source(Ipv4Addr::from_bits(0x7f00_0001 + n).into());
        }
        assert!(lock(&sources.known).len() <= CAPACITY);
    }
}

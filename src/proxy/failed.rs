//! Servers that failed lately, so that not every request waits for the same dead one (RFC 3263 4.3, RFC 3261 21.5.4).
//!
//! Only of names that were looked up: a device has one flow, and there is nothing to choose.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::model::Transport;

/// Where nobody answered, until when it is tried last.
#[derive(Debug, Default)]
pub(super) struct Failed(Mutex<HashMap<(bool, SocketAddr), Instant>>);

impl Failed {
    /// - `pause`: what the server asked for (Retry-After), or [`PAUSE`]; at most [`MAX_PAUSE`].
    pub(super) fn note(&self, transport: Transport, address: SocketAddr, pause: Duration, now: Instant) {
        let mut until = self.lock();
        if until.len() >= MAX {
            until.retain(|_, until| *until > now);
        }
        if until.len() < MAX {
            until.insert((transport.is_reliable(), address), now + pause.min(MAX_PAUSE));
        }
    }

    /// Did it fail lately?
    pub(super) fn lately(&self, transport: Transport, address: SocketAddr, now: Instant) -> bool {
        self.lock().get(&(transport.is_reliable(), address)).is_some_and(|until| *until > now)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(bool, SocketAddr), Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a server that said nothing about it is tried last.
pub(super) const PAUSE: Duration = Duration::from_secs(60);
/// However long a server asks to be left alone.
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// Servers remembered; beyond it no more are.
const MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a base for virtual time")]
    fn base() -> Instant {
        Instant::now()
    }

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn a_failed_server_is_remembered_for_a_while_and_its_wish_is_bounded_rfc3263_x1() {
        let (failed, now) = (Failed::default(), base());
        failed.note(Transport::Udp, at(1), PAUSE, now);
        failed.note(Transport::Udp, at(2), Duration::from_secs(1 << 40), now);
        assert!(failed.lately(Transport::Udp, at(1), now));
        assert!(!failed.lately(Transport::Tcp, at(1), now), "the other transport is another server");
        assert!(!failed.lately(Transport::Udp, at(3), now));
        assert!(!failed.lately(Transport::Udp, at(1), now + PAUSE));
        assert!(failed.lately(Transport::Udp, at(2), now + PAUSE));
        assert!(!failed.lately(Transport::Udp, at(2), now + MAX_PAUSE));
    }

    #[test]
    fn no_more_than_a_bounded_number_is_remembered() {
        let (failed, now) = (Failed::default(), base());
        for port in 1..=2_000 {
            failed.note(Transport::Udp, at(port), PAUSE, now);
        }
        assert_eq!(failed.lock().len(), MAX);
        failed.note(Transport::Udp, at(3_000), PAUSE, now + PAUSE);
        assert!(failed.lately(Transport::Udp, at(3_000), now + PAUSE));
        assert_eq!(failed.lock().len(), 1);
    }
}

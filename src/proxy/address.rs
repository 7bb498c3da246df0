//! The addresses of one target, in the order in which they are tried (RFC 3263 4.3).

use std::net::SocketAddr;
use std::time::Instant;

use crate::model::Transport;
use crate::proxy::failed::Failed;

/// Where a branch may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) transport: Transport,
    pub(super) socket: SocketAddr,
    /// What is too large for a datagram may go over TCP instead (RFC 3261 18.1.1); not once that has failed.
    pub(super) may_switch: bool,
}

/// Addresses not tried yet, the next one last.
#[derive(Debug, Default)]
pub(super) struct Addresses(Vec<Address>);

impl Addresses {
    pub(super) fn new(found: impl DoubleEndedIterator<Item = (Transport, SocketAddr)>) -> Addresses {
        let address = |(transport, socket)| Address { transport, socket, may_switch: true };
        Addresses(found.rev().map(address).collect())
    }

    /// The same addresses, those that failed lately after the others.
    pub(super) fn with_failed_last(mut self, failed: &Failed, now: Instant) -> Addresses {
        self.0.sort_by_key(|address| !failed.lately(address.transport, address.socket, now));
        self
    }

    pub(super) fn next(&mut self) -> Option<Address> {
        self.0.pop()
    }

    /// The same address once more, as it is.
    pub(super) fn again(&mut self, address: Address) {
        self.0.push(Address { may_switch: false, ..address });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::failed::PAUSE;

    #[expect(clippy::disallowed_methods, reason = "a base for virtual time")]
    fn base() -> Instant {
        Instant::now()
    }

    #[test]
    fn what_failed_lately_is_tried_last_and_the_order_stays_otherwise_rfc3263_4_3() {
        let (failed, now) = (Failed::default(), base());
        let at = |port: u16| SocketAddr::from(([192, 0, 2, 1], port));
        for port in [1, 3] {
            failed.note(Transport::Udp, at(port), PAUSE, now);
        }
        let found = || Addresses::new([1, 2, 3, 4].map(|port| (Transport::Udp, at(port))).into_iter());
        let ports = |mut addresses: Addresses| -> Vec<u16> {
            std::iter::from_fn(|| addresses.next()).map(|address| address.socket.port()).collect()
        };
        assert_eq!(ports(found().with_failed_last(&failed, now)), [2, 4, 1, 3]);
        assert_eq!(ports(found().with_failed_last(&failed, now + PAUSE)), [1, 2, 3, 4]);
    }

    #[test]
    fn an_address_tried_again_does_not_switch_twice_rfc3261_18_1_1() {
        let only = SocketAddr::from(([192, 0, 2, 1], 5060));
        let mut addresses = Addresses::new([(Transport::Udp, only)].into_iter());
        let first = addresses.next().expect("one");
        assert!(first.may_switch && addresses.is_empty());
        addresses.again(first);
        assert_eq!(addresses.next(), Some(Address { may_switch: false, ..first }));
        assert_eq!(addresses.next(), None);
    }
}

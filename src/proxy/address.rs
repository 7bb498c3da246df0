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

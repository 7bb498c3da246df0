//! What the sockets count: closed sets only, never a label from the network.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a datagram was dropped without being shown to anybody, or not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Dropped {
    /// Too short to be a message (`A15`).
    Short,
    /// Nothing but line ends or NULs: holds a NAT binding open.
    KeepAlive,
    /// From port 0: cannot be answered.
    Source,
    /// The system reported an error on receiving.
    Receive,
    /// Not sent: the queue of the socket is full.
    Full,
    /// Not sent: the system refused it.
    Refused,
}

impl Dropped {
    /// Every reason, in order of its number.
    pub const ALL: [Dropped; 6] = [
        Dropped::Short,
        Dropped::KeepAlive,
        Dropped::Source,
        Dropped::Receive,
        Dropped::Full,
        Dropped::Refused,
    ];
    /// As a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Dropped::Short => "short",
            Dropped::KeepAlive => "keep_alive",
            Dropped::Source => "source",
            Dropped::Receive => "receive",
            Dropped::Full => "full",
            Dropped::Refused => "refused",
        }
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Closed {
    /// The peer closed it.
    Peer,
    /// It was reset, or the system reported an error.
    Reset,
    /// It could not be made (refused, unreachable, too slow).
    NotMade,
    /// A header section was not complete in time (`A22`).
    HeaderDeadline,
    /// A body was not complete in time.
    BodyDeadline,
    /// No message came after it was accepted.
    FirstRequest,
    /// Nothing came for too long.
    Idle,
    /// It held something that is no message.
    Malformed,
    /// The peer did not read and the write buffer was full.
    WriteBuffer,
    /// It had to make room for another one.
    Evicted,
    /// The server stops.
    Stopped,
    /// Its task panicked.
    Panicked,
}

impl Closed {
    /// Every reason, in order of its number.
    pub const ALL: [Closed; 12] = [
        Closed::Peer,
        Closed::Reset,
        Closed::NotMade,
        Closed::HeaderDeadline,
        Closed::BodyDeadline,
        Closed::FirstRequest,
        Closed::Idle,
        Closed::Malformed,
        Closed::WriteBuffer,
        Closed::Evicted,
        Closed::Stopped,
        Closed::Panicked,
    ];
    /// As a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Closed::Peer => "peer",
            Closed::Reset => "reset",
            Closed::NotMade => "not_made",
            Closed::HeaderDeadline => "header_deadline",
            Closed::BodyDeadline => "body_deadline",
            Closed::FirstRequest => "first_request",
            Closed::Idle => "idle",
            Closed::Malformed => "malformed",
            Closed::WriteBuffer => "write_buffer",
            Closed::Evicted => "evicted",
            Closed::Stopped => "stopped",
            Closed::Panicked => "panicked",
        }
    }
}

/// Live counters of all sockets.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) datagrams_in: AtomicU64,
    pub(super) datagrams_out: AtomicU64,
    pub(super) messages_in: AtomicU64,
    pub(super) messages_out: AtomicU64,
    pub(super) pings: AtomicU64,
    pub(super) accepted: AtomicU64,
    pub(super) made: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) accept_errors: AtomicU64,
    pub(super) panics: AtomicU64,
    dropped: [AtomicU64; Dropped::ALL.len()],
    closed: [AtomicU64; Closed::ALL.len()],
}

impl Counters {
    /// Adds one; tells the new count.
    pub(super) fn add(counter: &AtomicU64) -> u64 {
        counter.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    /// Adds many.
    pub(super) fn add_many(counter: &AtomicU64, many: usize) {
        counter.fetch_add(u64::try_from(many).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn dropped(&self, reason: Dropped) {
        if let Some(counter) = self.dropped.get(reason as usize) {
            Counters::add(counter);
        }
    }

    pub(super) fn closed(&self, reason: Closed) {
        if let Some(counter) = self.closed.get(reason as usize) {
            Counters::add(counter);
        }
    }

    pub(super) fn snapshot(&self, connections: usize) -> Snapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Snapshot {
            datagrams_in: read(&self.datagrams_in),
            datagrams_out: read(&self.datagrams_out),
            messages_in: read(&self.messages_in),
            messages_out: read(&self.messages_out),
            pings: read(&self.pings),
            accepted: read(&self.accepted),
            made: read(&self.made),
            refused: read(&self.refused),
            accept_errors: read(&self.accept_errors),
            panics: read(&self.panics),
            connections: u64::try_from(connections).unwrap_or(u64::MAX),
            dropped: Dropped::ALL.iter().zip(&self.dropped).map(|(r, c)| (*r, read(c))).collect(),
            closed: Closed::ALL.iter().zip(&self.closed).map(|(r, c)| (*r, read(c))).collect(),
        }
    }
}

/// The counters at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Datagrams shown to the receiver.
    pub datagrams_in: u64,
    /// Datagrams handed to the system.
    pub datagrams_out: u64,
    /// Whole messages read from connections.
    pub messages_in: u64,
    /// Writes taken by connections, sent or queued.
    pub messages_out: u64,
    /// CRLF keep-alives answered (RFC 5626 4.4.1).
    pub pings: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections made by us, successful or not.
    pub made: u64,
    /// Connections refused for a limit.
    pub refused: u64,
    /// Errors of accept (no more file descriptors, ..).
    pub accept_errors: u64,
    /// Panics of the receiver that were contained.
    pub panics: u64,
    /// Connections now.
    pub connections: u64,
    /// Datagrams dropped, by reason.
    pub dropped: Vec<(Dropped, u64)>,
    /// Connections ended, by reason.
    pub closed: Vec<(Closed, u64)>,
}

impl Snapshot {
    /// How many datagrams were dropped for this reason.
    pub fn dropped(&self, reason: Dropped) -> u64 {
        self.dropped.iter().find(|(r, _)| *r == reason).map_or(0, |(_, n)| *n)
    }
    /// How many connections ended for this reason.
    pub fn closed(&self, reason: Closed) -> u64 {
        self.closed.iter().find(|(r, _)| *r == reason).map_or(0, |(_, n)| *n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_numbered_in_the_order_of_their_lists() {
        assert!(Dropped::ALL.iter().enumerate().all(|(i, r)| *r as usize == i));
        assert!(Closed::ALL.iter().enumerate().all(|(i, r)| *r as usize == i));
    }

    #[test]
    fn a_snapshot_tells_each_reason_apart() {
        let counters = Counters::default();
        counters.dropped(Dropped::Short);
        counters.closed(Closed::Idle);
        counters.closed(Closed::Idle);
        let snapshot = counters.snapshot(3);
        assert_eq!((snapshot.dropped(Dropped::Short), snapshot.dropped(Dropped::Full)), (1, 0));
        assert_eq!((snapshot.closed(Closed::Idle), snapshot.closed(Closed::Peer)), (2, 0));
        assert_eq!(snapshot.connections, 3);
    }
}

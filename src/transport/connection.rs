//! One connection as others see it: its flow, and bytes to be written (RFC 3261 18.1.1, 18.2.2).
//!
//! Whoever sends writes straight to the socket; what the socket does not take waits here, bounded, for the connection's own task
//! ([`crate::transport::stream`]).

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{Buf, Bytes};
use smallvec::SmallVec;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::model::Flow;
use crate::transport::SendError;
use crate::transport::counters::Closed;
use crate::transport::shared::lock;

/// One connection, accepted or made.
pub(super) struct Connection {
    flow: Flow,
    made: bool,
    authenticated: AtomicBool,
    /// Something other than a response or a line end was sent.
    requests: AtomicBool,
    out: Mutex<Out>,
    wake: Notify,
    write_buffer: usize,
}

/// The writing side. `queue` is bounded by `write_buffer`; beyond it the connection is closed.
#[derive(Default)]
struct Out {
    /// `None` while the connection is being made, and after its end.
    stream: Option<Arc<TcpStream>>,
    queue: VecDeque<Bytes>,
    queued: usize,
    closed: Option<Closed>,
}

impl Connection {
    /// A connection without a socket yet: what is sent waits.
    pub(super) fn new(flow: Flow, made: bool, write_buffer: usize) -> Connection {
        Connection {
            flow,
            made,
            // Whom we call ourselves needs no proof to be kept.
            authenticated: AtomicBool::new(made),
            requests: AtomicBool::new(false),
            out: Mutex::default(),
            wake: Notify::new(),
            write_buffer,
        }
    }

    /// Its flow.
    pub(super) fn flow(&self) -> Flow {
        self.flow
    }

    /// Was it made by us?
    pub(super) fn made(&self) -> bool {
        self.made
    }

    /// May somebody wait for an answer to a request that was sent on it? Most connections end without.
    pub(super) fn had_requests(&self) -> bool {
        self.requests.load(Ordering::Acquire)
    }

    /// Did somebody authenticate on it?
    pub(super) fn is_authenticated(&self) -> bool {
        self.authenticated.load(Ordering::Acquire)
    }

    /// Notes that somebody authenticated; true the first time.
    pub(super) fn set_authenticated(&self) -> bool {
        !self.authenticated.swap(true, Ordering::AcqRel)
    }

    /// May bytes still be sent on it?
    pub(super) fn is_open(&self) -> bool {
        lock(&self.out).closed.is_none()
    }

    /// Gives it its socket.
    pub(super) fn connected(&self, stream: Arc<TcpStream>) {
        lock(&self.out).stream = Some(stream);
    }

    /// Writes at once, or queues; never waits.
    pub(super) fn send(&self, bytes: &Bytes) -> Result<(), SendError> {
        let mut out = lock(&self.out);
        if out.closed.is_some() {
            return Err(SendError::FlowGone);
        }
        if !bytes.starts_with(b"SIP/2.0 ") && !bytes.starts_with(b"\r\n") {
            self.requests.store(true, Ordering::Release);
        }
        let mut written = 0;
        if out.queue.is_empty()
            && let Some(stream) = &out.stream
        {
            match stream.try_write(bytes) {
                Ok(n) => written = n.min(bytes.len()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    self.close_locked(&mut out, Closed::Reset);
                    return Err(SendError::FlowGone);
                }
            }
        }
        if written == bytes.len() {
            return Ok(());
        }
        let rest = bytes.slice(written..);
        let sum = out.queued.saturating_add(rest.len());
        if sum > self.write_buffer {
            self.close_locked(&mut out, Closed::WriteBuffer);
            return Err(SendError::Full);
        }
        out.queued = sum;
        out.queue.push_back(rest);
        drop(out);
        self.wake.notify_one();
        Ok(())
    }

    /// Writes what waits; true when nothing is left.
    pub(super) fn flush(&self) -> io::Result<bool> {
        let mut out = lock(&self.out);
        let Some(stream) = out.stream.clone() else { return Ok(out.queue.is_empty()) };
        while !out.queue.is_empty() {
            let written = {
                let slices: SmallVec<[IoSlice<'_>; 16]> =
                    out.queue.iter().take(16).map(|bytes| IoSlice::new(bytes)).collect();
                stream.try_write_vectored(&slices)
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => out.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Does anything wait to be written?
    pub(super) fn waits(&self) -> bool {
        !lock(&self.out).queue.is_empty()
    }

    /// Waits until something is queued or the connection is closed. May wake for nothing.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Takes no more bytes; its task will end it. The first reason stands.
    pub(super) fn close(&self, reason: Closed) {
        self.close_locked(&mut lock(&self.out), reason);
    }

    /// Takes no more bytes, but what waits may still be written with [`Connection::flush`].
    pub(super) fn half_close(&self, reason: Closed) {
        lock(&self.out).closed.get_or_insert(reason);
    }

    /// Why it was closed, if it was.
    pub(super) fn closed(&self) -> Option<Closed> {
        lock(&self.out).closed
    }

    /// Lets go of the socket and of what waits; tells why.
    pub(super) fn end(&self) -> Closed {
        let mut out = lock(&self.out);
        out.stream = None;
        out.queue = VecDeque::new();
        out.queued = 0;
        *out.closed.get_or_insert(Closed::Panicked)
    }

    fn close_locked(&self, out: &mut Out, reason: Closed) {
        out.closed.get_or_insert(reason);
        // Half a message may have been written: nothing may follow it.
        out.queue.clear();
        out.queued = 0;
        self.wake.notify_one();
    }
}

impl Out {
    /// Takes bytes that were written off the queue.
    fn advance(&mut self, mut written: usize) {
        self.queued = self.queued.saturating_sub(written);
        while let Some(first) = self.queue.front_mut() {
            if written < first.len() {
                first.advance(written);
                return;
            }
            written -= first.len();
            self.queue.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Transport;

    fn connection(write_buffer: usize) -> Connection {
        let address = std::net::SocketAddr::from(([192, 0, 2, 1], 5060));
        let flow = Flow { transport: Transport::Tcp, local: address, remote: address, connection: 1 };
        Connection::new(flow, true, write_buffer)
    }

    #[test]
    fn bytes_wait_while_the_connection_is_being_made() {
        let connection = connection(10);
        assert_eq!(connection.send(&Bytes::from_static(b"12345")), Ok(()));
        assert_eq!(connection.send(&Bytes::from_static(b"67890")), Ok(()));
        assert!(connection.waits() && connection.is_open());
    }

    #[test]
    fn an_overfull_write_buffer_closes_the_connection() {
        let connection = connection(10);
        assert_eq!(connection.send(&Bytes::from_static(b"12345678")), Ok(()));
        assert_eq!(connection.send(&Bytes::from_static(b"901")), Err(SendError::Full));
        assert_eq!(connection.send(&Bytes::from_static(b"1")), Err(SendError::FlowGone));
        assert_eq!(connection.end(), Closed::WriteBuffer);
    }

    #[test]
    fn written_bytes_are_taken_off_across_pieces() {
        let mut out = Out { queued: 9, ..Out::default() };
        out.queue.extend([
            Bytes::from_static(b"abc"),
            Bytes::from_static(b"def"),
            Bytes::from_static(b"ghi"),
        ]);
        out.advance(4);
        assert_eq!(out.queue.front().map(|b| &b[..]), Some(&b"ef"[..]));
        assert_eq!(out.queued, 5);
        out.advance(5);
        assert!(out.queue.is_empty());
    }
}

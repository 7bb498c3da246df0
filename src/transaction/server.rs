//! Server transactions (RFC 3261 17.2, RFC 6026 7.1, RFC 4320 4).

use std::time::Instant;

use bytes::Bytes;

use crate::sip::StatusCode;

/// What the endpoint must do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerOutput {
    /// Send these bytes to where responses go.
    Send(Bytes),
    /// Build a 100 (Trying), hand it back by `handle_response`; the transaction user was silent for too long.
    Trying,
    /// The ACK never came (Timer H): tell the transaction user.
    AckTimeout,
    /// Remove the transaction from the table.
    Terminated,
}

/// What an ACK that matched means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckDisposition {
    /// It acknowledged a non-2xx; done.
    Absorbed,
    /// It belongs to a 2xx (Accepted): the transaction user wants it.
    ForUser,
}

/// One server transaction, INVITE or not.
#[derive(Debug)]
pub struct Server {}

impl Server {
    /// For an INVITE that has just arrived.
    pub fn invite(now: Instant, reliable: bool) -> Server {
        let _ = (now, reliable);
        todo!()
    }
    /// For any other request but ACK.
    pub fn non_invite(now: Instant, reliable: bool) -> Server {
        let _ = (now, reliable);
        todo!()
    }
    /// The same request arrived again.
    pub fn handle_retransmission(&mut self, now: Instant) {
        let _ = now;
    }
    /// An ACK arrived (INVITE only).
    pub fn handle_ack(&mut self, now: Instant) -> AckDisposition {
        let _ = now;
        todo!()
    }
    /// The transaction user responds. A second final is discarded (17.2.2), except further 2xx in Accepted. `false` if discarded.
    pub fn handle_response(&mut self, now: Instant, status: StatusCode, response: Bytes) -> bool {
        let _ = (now, status, response);
        todo!()
    }
    /// Time has passed; spurious calls do nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
    }
    /// When to call `handle_timeout` next.
    pub fn next_timeout(&self) -> Option<Instant> {
        todo!()
    }
    /// What to do; call until `None` after every `handle_*`.
    pub fn poll_output(&mut self) -> Option<ServerOutput> {
        todo!()
    }
    /// Has the transaction user given a final response?
    pub fn is_answered(&self) -> bool {
        todo!()
    }
}

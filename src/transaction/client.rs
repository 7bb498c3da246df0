//! Client transactions (RFC 3261 17.1, RFC 6026 7.2).

use std::time::Instant;

use bytes::Bytes;

use crate::sip::StatusCode;

/// What the endpoint must do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientOutput {
    /// Send the request again (the endpoint holds nothing: bytes included).
    Send(Bytes),
    /// Pass the response that was just handled to the transaction user.
    Response,
    /// Build the ACK for the non-2xx final that was just handled and give it to `handle_ack_built` (17.1.1.3).
    BuildAck,
    /// No final came (Timer B or F).
    Timeout,
    /// Remove the transaction from the table.
    Terminated,
}

/// One client transaction, INVITE or not.
#[derive(Debug)]
pub struct Client {}

impl Client {
    /// For an INVITE; the first `poll_output` is the `Send`.
    pub fn invite(now: Instant, reliable: bool, request: Bytes) -> Client {
        let _ = (now, reliable, request);
        todo!()
    }
    /// For any other request but ACK.
    pub fn non_invite(now: Instant, reliable: bool, request: Bytes) -> Client {
        let _ = (now, reliable, request);
        todo!()
    }
    /// A response that matched.
    pub fn handle_response(&mut self, now: Instant, status: StatusCode) {
        let _ = (now, status);
    }
    /// The ACK asked for by `BuildAck`; it is sent now and again with every retransmitted final.
    pub fn handle_ack_built(&mut self, ack: Bytes) {
        let _ = ack;
    }
    /// The transport could not send or lost the connection (17.1.4); ends the transaction silently, the endpoint tells the user.
    pub fn handle_transport_error(&mut self, now: Instant) {
        let _ = now;
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
    pub fn poll_output(&mut self) -> Option<ClientOutput> {
        todo!()
    }
    /// The request as sent.
    pub fn request(&self) -> &Bytes {
        todo!()
    }
    /// Has any provisional response arrived (CANCEL may be sent, 9.1)?
    pub fn has_provisional(&self) -> bool {
        todo!()
    }
    /// Has a final response arrived, or has it ended?
    pub fn is_done(&self) -> bool {
        todo!()
    }
}

//! Client transactions (RFC 3261 17.1, RFC 6026 7.2).

mod invite;
mod non_invite;

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
///
/// Outputs come in the order `Send` of the request, `BuildAck`, `Send` of the ACK, `Response`, `Timeout`, `Terminated`: the ACK goes out
/// before the transaction user hears of the response, so that whatever it sends next (another INVITE with credentials) follows the ACK.
/// For that, `handle_ack_built` is called as soon as `BuildAck` is seen, before the next `poll_output`.
#[derive(Debug)]
pub struct Client {
    machine: Machine,
}

#[derive(Debug)]
enum Machine {
    Invite(invite::InviteClient),
    NonInvite(non_invite::NonInviteClient),
}

impl Client {
    /// For an INVITE; the first `poll_output` is the `Send`.
    ///
    /// Nothing bounds the wait after a provisional response (17.1.1.2: Timer B is for Calling only). The transaction user bounds it, a
    /// proxy by Timer C (16.8): it sends CANCEL, and calls [`handle_cancel_sent`](Client::handle_cancel_sent).
    pub fn invite(now: Instant, reliable: bool, request: Bytes) -> Client {
        Client { machine: Machine::Invite(invite::InviteClient::new(now, reliable, request)) }
    }

    /// For any other request but ACK.
    pub fn non_invite(now: Instant, reliable: bool, request: Bytes) -> Client {
        Client { machine: Machine::NonInvite(non_invite::NonInviteClient::new(now, reliable, request)) }
    }

    /// A response that matched.
    pub fn handle_response(&mut self, now: Instant, status: StatusCode) {
        match &mut self.machine {
            Machine::Invite(invite) => invite.handle_response(now, status),
            Machine::NonInvite(non_invite) => non_invite.handle_response(now, status),
        }
    }

    /// The ACK asked for by `BuildAck`; it is sent now and again with every retransmitted final.
    pub fn handle_ack_built(&mut self, ack: Bytes) {
        match &mut self.machine {
            Machine::Invite(invite) => invite.handle_ack_built(ack),
            // Never asked for.
            Machine::NonInvite(_) => {}
        }
    }

    /// A CANCEL was sent for this INVITE: if no final response comes in 64*T1, it is over (9.1), which is a `Timeout`.
    ///
    /// Does nothing for other methods (their Timer F runs already), before a provisional response, or after a final one.
    pub fn handle_cancel_sent(&mut self, now: Instant) {
        match &mut self.machine {
            Machine::Invite(invite) => invite.handle_cancel_sent(now),
            Machine::NonInvite(_) => {}
        }
    }

    /// The transport could not send or lost the connection (17.1.4); ends the transaction silently, the endpoint tells the user.
    ///
    /// Where figures 5 (RFC 6026) and 6 have no such transition, it does nothing: in Accepted, which may still get a 2xx of another
    /// branch, and in Completed of a non-INVITE, which only absorbs. Both end by their timer.
    pub fn handle_transport_error(&mut self, now: Instant) {
        // The transition does not depend on the time.
        let _ = now;
        match &mut self.machine {
            Machine::Invite(invite) => invite.handle_transport_error(),
            Machine::NonInvite(non_invite) => non_invite.handle_transport_error(),
        }
    }

    /// Time has passed; spurious calls do nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        match &mut self.machine {
            Machine::Invite(invite) => invite.handle_timeout(now),
            Machine::NonInvite(non_invite) => non_invite.handle_timeout(now),
        }
    }

    /// When to call `handle_timeout` next.
    pub fn next_timeout(&self) -> Option<Instant> {
        match &self.machine {
            Machine::Invite(invite) => invite.next_timeout(),
            Machine::NonInvite(non_invite) => non_invite.next_timeout(),
        }
    }

    /// What to do; call until `None` after every `handle_*`.
    pub fn poll_output(&mut self) -> Option<ClientOutput> {
        match &mut self.machine {
            Machine::Invite(invite) => invite.poll_output(),
            Machine::NonInvite(non_invite) => non_invite.poll_output(),
        }
    }

    /// The request as sent.
    pub fn request(&self) -> &Bytes {
        match &self.machine {
            Machine::Invite(invite) => invite.request(),
            Machine::NonInvite(non_invite) => non_invite.request(),
        }
    }

    /// Has any provisional response arrived (CANCEL may be sent, 9.1)?
    pub fn has_provisional(&self) -> bool {
        match &self.machine {
            Machine::Invite(invite) => invite.has_provisional(),
            Machine::NonInvite(non_invite) => non_invite.has_provisional(),
        }
    }

    /// Has a final response arrived, or has it ended?
    pub fn is_done(&self) -> bool {
        match &self.machine {
            Machine::Invite(invite) => invite.is_done(),
            Machine::NonInvite(non_invite) => non_invite.is_done(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::testing::epoch;

    #[test]
    fn client_is_small() {
        assert!(size_of::<Client>() <= 128, "{} bytes", size_of::<Client>());
    }

    #[test]
    fn request_stays_readable_to_the_end() {
        let request = Bytes::from_static(b"OPTIONS");
        let mut client = Client::non_invite(epoch(), true, request.clone());
        client.handle_transport_error(epoch());
        assert!(client.is_done());
        assert_eq!(client.request(), &request);
    }
}

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

    /// Has any provisional response arrived (CANCEL may be sent, 9.1)?
    pub fn has_provisional(&self) -> bool {
        match &self.machine {
            Machine::Invite(invite) => invite.has_provisional(),
            Machine::NonInvite(non_invite) => non_invite.has_provisional(),
        }
    }

    /// May a response still be passed up? Before a final one, and for INVITE further 2xx after a 2xx (RFC 6026 7.2).
    pub fn passes_up(&self) -> bool {
        match &self.machine {
            Machine::Invite(invite) => invite.passes_up(),
            Machine::NonInvite(non_invite) => !non_invite.is_done(),
        }
    }

    /// Is all that is left to do to absorb responses, without a word (17.1.2.2, Completed)? A response that matches no transaction is
    /// dropped as well (RFC 6026 7.3), so the machine need not be kept for that.
    pub fn only_absorbs(&self) -> bool {
        match &self.machine {
            // In Completed it answers with ACK, in Accepted it passes 2xx up.
            Machine::Invite(_) => false,
            Machine::NonInvite(non_invite) => non_invite.only_absorbs(),
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
    fn a_request_that_was_answered_is_not_kept() {
        for (new, status) in [
            (Client::non_invite as fn(_, _, _) -> _, StatusCode::OK),
            (Client::invite, StatusCode::OK),
            (Client::invite, StatusCode::BUSY_HERE),
        ] {
            let request = Bytes::from(b"request".to_vec());
            let mut client = new(epoch(), false, request.clone());
            assert!(matches!(client.poll_output(), Some(ClientOutput::Send(_))));
            client.handle_response(epoch(), status);
            assert!(request.is_unique(), "{client:?}");
        }
    }

    #[test]
    fn after_its_final_a_non_invite_only_absorbs_and_an_invite_does_not_rfc3261_17_1_2_2_rfc6026_7_2() {
        let mut client = Client::non_invite(epoch(), false, Bytes::new());
        assert!(client.passes_up() && !client.only_absorbs());
        client.handle_response(epoch(), StatusCode::OK);
        assert!(!client.only_absorbs(), "the response is yet to be passed up");
        while client.poll_output().is_some() {}
        assert!(!client.passes_up() && client.only_absorbs());
        for (status, passes_up) in [(StatusCode::OK, true), (StatusCode::BUSY_HERE, false)] {
            let mut client = Client::invite(epoch(), false, Bytes::new());
            client.handle_response(epoch(), status);
            while client.poll_output().is_some() {}
            assert_eq!((client.passes_up(), client.only_absorbs()), (passes_up, false));
        }
    }
}

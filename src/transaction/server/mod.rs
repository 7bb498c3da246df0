//! Server transactions (RFC 3261 17.2, RFC 6026 7.1, RFC 4320 4).
//!
//! There is no input for a transport error, because it changes nothing: a server transaction that could not send its response remains in
//! its state, so that retransmitted requests are still absorbed (RFC 6026 7.1 and 8.8, for INVITE and all other methods). The endpoint
//! tries the backups of RFC 3263 5, tells the transaction user, and keeps the machine until `Terminated`.

mod invite;
mod non_invite;

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
///
/// Outputs come in the order `Send`, `Trying`, `AckTimeout`, `Terminated`. It keeps no request, and of the responses the bytes of the last
/// one only while a retransmission could still ask for it.
#[derive(Debug)]
pub struct Server {
    machine: Machine,
}

#[derive(Debug)]
enum Machine {
    Invite(invite::InviteServer),
    NonInvite(non_invite::NonInviteServer),
}

impl Server {
    /// For an INVITE that has just arrived.
    ///
    /// Nothing bounds the wait for a final response here (RFC 3261 17.2.1 has no timer in Proceeding): the transaction user must give one
    /// in the end. A proxy does so by Timer C (16.6 step 11, 16.8), a user agent by 487 after CANCEL or its own limit.
    pub fn invite(now: Instant, reliable: bool) -> Server {
        Server { machine: Machine::Invite(invite::InviteServer::new(now, reliable)) }
    }

    /// For any other request but ACK.
    ///
    /// A transaction that is never answered ends after 64*T1 (reliable) or [`UNANSWERED`](super::timers::UNANSWERED): the client has then
    /// timed out by Timer F, and a final response would be late (RFC 4320 4.2).
    pub fn non_invite(now: Instant, reliable: bool) -> Server {
        Server { machine: Machine::NonInvite(non_invite::NonInviteServer::new(now, reliable)) }
    }

    /// The same request arrived again.
    pub fn handle_retransmission(&mut self, now: Instant) {
        // No transition of either machine on a retransmission depends on the time.
        let _ = now;
        match &mut self.machine {
            Machine::Invite(invite) => invite.handle_retransmission(),
            Machine::NonInvite(non_invite) => non_invite.handle_retransmission(),
        }
    }

    /// An ACK arrived (INVITE only).
    pub fn handle_ack(&mut self, now: Instant) -> AckDisposition {
        match &mut self.machine {
            Machine::Invite(invite) => invite.handle_ack(now),
            // A key made of an ACK names an INVITE (17.2.3), so this is not reached through the table.
            Machine::NonInvite(_) => AckDisposition::Absorbed,
        }
    }

    /// The transaction user responds. A second final is discarded (17.2.2), except further 2xx in Accepted. `false` if discarded.
    ///
    /// Also discarded: for non-INVITE a provisional other than 100, a 100 before its time on an unreliable transport (RFC 4320 4.1), and
    /// 408 (RFC 4320 4.2), after which the transaction counts as answered though nothing is ever sent.
    pub fn handle_response(&mut self, now: Instant, status: StatusCode, response: Bytes) -> bool {
        match &mut self.machine {
            Machine::Invite(invite) => invite.handle_response(now, status, response),
            Machine::NonInvite(non_invite) => non_invite.handle_response(now, status, response),
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
    pub fn poll_output(&mut self) -> Option<ServerOutput> {
        match &mut self.machine {
            Machine::Invite(invite) => invite.poll_output(),
            Machine::NonInvite(non_invite) => non_invite.poll_output(),
        }
    }

    /// Is it that of an INVITE?
    pub fn is_invite(&self) -> bool {
        matches!(self.machine, Machine::Invite(_))
    }

    /// If all that is left to do is to give this answer to every retransmission until an instant (17.2.2, Completed): whoever does that
    /// needs the machine no more. `None` for INVITE, which waits for ACK or for more 2xx, and while an output is owed.
    pub fn only_repeats(&self) -> Option<(&Bytes, Instant)> {
        match &self.machine {
            Machine::Invite(_) => None,
            Machine::NonInvite(non_invite) => non_invite.only_repeats(),
        }
    }

    /// Has the transaction user given a final response?
    pub fn is_answered(&self) -> bool {
        match &self.machine {
            Machine::Invite(invite) => invite.is_answered(),
            Machine::NonInvite(non_invite) => non_invite.is_answered(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::testing::{epoch, ms};

    #[test]
    fn server_is_small() {
        // Tens of thousands wait for Timer J at a time: one cache line and a half each, besides the bytes of the answer.
        assert!(size_of::<Server>() <= 96, "{} bytes", size_of::<Server>());
    }

    #[test]
    fn ack_never_moves_a_non_invite_transaction_rfc3261_17_2_3() {
        let start = epoch();
        let mut server = Server::non_invite(start, false);
        assert_eq!(server.handle_ack(start + ms(1)), AckDisposition::Absorbed);
        assert_eq!(server.poll_output(), None);
        assert!(!server.is_answered());
    }
}

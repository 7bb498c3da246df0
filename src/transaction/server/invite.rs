//! The INVITE server transaction (RFC 3261 17.2.1, as replaced by RFC 6026 figure 7).

use std::mem;
use std::time::Instant;

use bytes::Bytes;

use super::{AckDisposition, ServerOutput};
use crate::sip::StatusCode;
use crate::transaction::timers::{Retransmit, T1_64, T2, T4, TRYING_AFTER, earlier};

#[derive(Debug)]
pub(super) struct InviteServer {
    state: State,
    reliable: bool,
    owed: Owed,
    /// Proceeding: the last provisional. Completed: the final. Accepted: a 2xx that waits for its `Send`. Empty: none.
    answer: Bytes,
}

#[derive(Debug)]
enum State {
    Proceeding { trying_at: Option<Instant> },
    Completed { timer_g: Option<Retransmit>, timer_h: Instant },
    Confirmed { timer_i: Instant },
    Accepted { timer_l: Instant },
    Terminated,
}

#[derive(Debug, Default)]
struct Owed {
    send: bool,
    trying: bool,
    ack_timeout: bool,
    terminated: bool,
}

impl InviteServer {
    pub(super) fn new(now: Instant, reliable: bool) -> InviteServer {
        // 17.2.1: "When a server transaction is constructed for a request, it enters the "Proceeding" state."
        InviteServer {
            state: State::Proceeding { trying_at: Some(now + TRYING_AFTER) },
            reliable,
            owed: Owed::default(),
            answer: Bytes::new(),
        }
    }

    pub(super) fn handle_retransmission(&mut self) {
        match self.state {
            // 17.2.1: the most recent provisional response MUST be passed to the transport again; there may be none yet.
            // In Completed the final response SHOULD be.
            State::Proceeding { .. } | State::Completed { .. } => self.owed.send = !self.answer.is_empty(),
            // RFC 6026 7.1: absorbed in Accepted; the transaction user retransmits the 2xx. Confirmed: the ACK was faster.
            State::Accepted { .. } | State::Confirmed { .. } | State::Terminated => {}
        }
    }

    pub(super) fn handle_ack(&mut self, now: Instant) -> AckDisposition {
        match self.state {
            State::Completed { .. } => {
                // 17.2.1: MUST transition to Confirmed; Timer I is T4, or zero on reliable transports.
                self.answer = Bytes::new();
                self.owed.send = false;
                if self.reliable {
                    self.terminate();
                } else {
                    self.state = State::Confirmed { timer_i: now + T4 };
                }
                AckDisposition::Absorbed
            }
            // RFC 6026 6, 7.1: "Any ACKs received from the network while in the "Accepted" state MUST be passed directly to the TU".
            State::Accepted { .. } => AckDisposition::ForUser,
            // Confirmed absorbs; in Proceeding there is nothing to acknowledge.
            State::Proceeding { .. } | State::Confirmed { .. } | State::Terminated => {
                AckDisposition::Absorbed
            }
        }
    }

    pub(super) fn handle_response(&mut self, now: Instant, status: StatusCode, response: Bytes) -> bool {
        match self.state {
            State::Proceeding { .. } => {
                self.owed.trying = false;
                self.state = if status.is_provisional() {
                    // 17.2.1: each is sent, none reliably, no change of state. The silence is broken: no 100 is owed.
                    State::Proceeding { trying_at: None }
                } else if status.is_success() {
                    // RFC 6026 8.5, 8.7: Accepted, Timer L 64*T1 for all transports.
                    State::Accepted { timer_l: now + T1_64 }
                } else {
                    // 17.2.1: Completed; Timer G for unreliable transports only, Timer H for all.
                    State::Completed { timer_g: Retransmit::start(now, self.reliable), timer_h: now + T1_64 }
                };
                self.send(response)
            }
            // RFC 6026 8.7: "if the TU passes a 2xx response, the server transaction MUST pass the response to the transport layer".
            State::Accepted { .. } if status.is_success() => self.send(response),
            // Figure 7 has no other response from the transaction user. (A 2xx of a fork that comes after a non-2xx final, which 16.7
            // step 5 wants forwarded, ends here: the client transaction it would meet is in Completed and has no use for it either.)
            State::Accepted { .. }
            | State::Completed { .. }
            | State::Confirmed { .. }
            | State::Terminated => false,
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        match &mut self.state {
            State::Proceeding { trying_at } => {
                if trying_at.is_some_and(|at| at <= now) {
                    // 17.2.1: 100 unless the transaction user answers within 200 ms.
                    *trying_at = None;
                    self.owed.trying = true;
                }
            }
            State::Completed { timer_g, timer_h } => {
                if *timer_h <= now {
                    // 17.2.1: Timer H "implies that the ACK was never received": tell the transaction user, terminate.
                    self.owed.ack_timeout = true;
                    self.terminate();
                } else if let Some(timer) = timer_g
                    && timer.due() <= now
                {
                    // 17.2.1: Timer G doubles up to T2.
                    timer.double(now, T2);
                    self.owed.send = true;
                }
            }
            State::Confirmed { timer_i: end } | State::Accepted { timer_l: end } => {
                if *end <= now {
                    self.terminate();
                }
            }
            State::Terminated => {}
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Proceeding { trying_at } => *trying_at,
            State::Completed { timer_g, timer_h } => {
                earlier(timer_g.as_ref().map(Retransmit::due), Some(*timer_h))
            }
            State::Confirmed { timer_i } => Some(*timer_i),
            State::Accepted { timer_l } => Some(*timer_l),
            State::Terminated => None,
        }
    }

    pub(super) fn poll_output(&mut self) -> Option<ServerOutput> {
        if mem::take(&mut self.owed.send) {
            return Some(ServerOutput::Send(match self.state {
                // Retransmissions are answered with it.
                State::Proceeding { .. } | State::Completed { .. } => self.answer.clone(),
                // Sent once by us (RFC 6026 7.1); holding it would only cost memory for 32 s.
                State::Accepted { .. } | State::Confirmed { .. } | State::Terminated => {
                    mem::take(&mut self.answer)
                }
            }));
        }
        if mem::take(&mut self.owed.trying) {
            return Some(ServerOutput::Trying);
        }
        if mem::take(&mut self.owed.ack_timeout) {
            return Some(ServerOutput::AckTimeout);
        }
        mem::take(&mut self.owed.terminated).then_some(ServerOutput::Terminated)
    }

    pub(super) fn is_answered(&self) -> bool {
        !matches!(self.state, State::Proceeding { .. })
    }

    fn send(&mut self, response: Bytes) -> bool {
        self.answer = response;
        self.owed.send = true;
        true
    }

    fn terminate(&mut self) {
        self.state = State::Terminated;
        self.answer = Bytes::new();
        self.owed.send = false;
        self.owed.terminated = true;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AckDisposition, Server, ServerOutput};
    use super::*;
    use crate::transaction::testing::{epoch, ms, secs};

    fn outputs(server: &mut Server) -> Vec<ServerOutput> {
        std::iter::from_fn(|| server.poll_output()).collect()
    }

    fn at(server: &mut Server, now: Instant) -> Vec<ServerOutput> {
        server.handle_timeout(now);
        outputs(server)
    }

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn send(text: &'static str) -> Vec<ServerOutput> {
        vec![ServerOutput::Send(bytes(text))]
    }

    /// An INVITE that was answered with `status` at `start`; the answer has been sent.
    fn answered(start: Instant, reliable: bool, status: StatusCode) -> Server {
        let mut server = Server::invite(start, reliable);
        assert!(server.handle_response(start, status, bytes("final")));
        assert_eq!(outputs(&mut server), send("final"));
        server
    }

    // 3261-17.2.1a
    #[test]
    fn silent_user_makes_100_due_after_200_ms_rfc3261_17_2_1() {
        for reliable in [false, true] {
            let start = epoch();
            let mut server = Server::invite(start, reliable);
            assert_eq!(server.next_timeout(), Some(start + ms(200)));
            assert_eq!(at(&mut server, start + ms(199)), []);
            assert_eq!(at(&mut server, start + ms(200)), [ServerOutput::Trying]);
            assert_eq!(at(&mut server, start + ms(400)), [], "asked once");
            assert!(server.handle_response(start + ms(200), StatusCode::TRYING, bytes("100")));
            assert_eq!(outputs(&mut server), send("100"));
            assert_eq!(server.next_timeout(), None);
        }
    }

    #[test]
    fn provisional_or_final_within_200_ms_makes_100_needless_rfc3261_17_2_1() {
        let start = epoch();
        let mut ringing = Server::invite(start, false);
        assert!(ringing.handle_response(start + ms(50), StatusCode::RINGING, bytes("180")));
        assert_eq!(outputs(&mut ringing), send("180"));
        assert_eq!(at(&mut ringing, start + ms(200)), []);

        let mut busy = answered(start, false, StatusCode::BUSY_HERE);
        assert_eq!(at(&mut busy, start + ms(200)), []);
    }

    // 3261-17.2.1a
    #[test]
    fn retransmitted_invite_gets_the_last_provisional_rfc3261_17_2_1() {
        let start = epoch();
        let mut server = Server::invite(start, false);
        server.handle_retransmission(start + ms(100));
        assert_eq!(outputs(&mut server), [], "nothing was sent yet");
        server.handle_response(start + ms(200), StatusCode::TRYING, bytes("100"));
        server.handle_response(start + ms(300), StatusCode::RINGING, bytes("180"));
        assert_eq!(outputs(&mut server), send("180"));
        server.handle_retransmission(start + ms(500));
        assert_eq!(outputs(&mut server), send("180"));
        assert!(!server.is_answered());
    }

    // 3261-17.2.1b
    #[test]
    fn non_2xx_is_resent_by_timer_g_from_t1_to_t2_until_timer_h_rfc3261_17_2_1() {
        let start = epoch();
        let mut server = answered(start, false, StatusCode::BUSY_HERE);
        assert!(server.is_answered());
        let mut resent = Vec::new();
        let (end, last) = loop {
            let now = server.next_timeout().expect("runs until Timer H");
            match at(&mut server, now) {
                out if out == send("final") => resent.push(now.duration_since(start).as_millis()),
                out => break (now, out),
            }
        };
        assert_eq!(resent, [500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]);
        assert_eq!(end, start + secs(32));
        assert_eq!(last, [ServerOutput::AckTimeout, ServerOutput::Terminated]);
        assert_eq!(server.next_timeout(), None);
    }

    // 3261-17.2.1b
    #[test]
    fn non_2xx_is_not_resent_over_reliable_transports_but_timer_h_runs_rfc3261_17_2_1() {
        let start = epoch();
        let mut server = answered(start, true, StatusCode::BUSY_HERE);
        assert_eq!(server.next_timeout(), Some(start + secs(32)));
        assert_eq!(at(&mut server, start + ms(500)), []);
        assert_eq!(at(&mut server, start + secs(32)), [ServerOutput::AckTimeout, ServerOutput::Terminated]);
    }

    // 3261-17.2.1b
    #[test]
    fn ack_confirms_for_t4_and_stops_timer_g_rfc3261_17_2_1() {
        let start = epoch();
        let mut server = answered(start, false, StatusCode::DECLINE);
        assert_eq!(server.handle_ack(start + ms(400)), AckDisposition::Absorbed);
        assert_eq!(outputs(&mut server), []);
        assert_eq!(at(&mut server, start + ms(500)), [], "Timer G is ignored");
        assert_eq!(server.handle_ack(start + ms(600)), AckDisposition::Absorbed);
        server.handle_retransmission(start + ms(700));
        assert_eq!(outputs(&mut server), []);
        assert_eq!(server.next_timeout(), Some(start + ms(5_400)));
        assert_eq!(at(&mut server, start + ms(5_400)), [ServerOutput::Terminated]);
    }

    // 3261-17.2.1b
    #[test]
    fn ack_over_a_reliable_transport_ends_at_once_rfc3261_17_2_1() {
        let start = epoch();
        let mut server = answered(start, true, StatusCode::DECLINE);
        assert_eq!(server.handle_ack(start + ms(20)), AckDisposition::Absorbed);
        assert_eq!(outputs(&mut server), [ServerOutput::Terminated]);
        assert_eq!(server.next_timeout(), None);
    }

    #[test]
    fn retransmitted_invite_in_completed_gets_the_final_rfc3261_17_2_1() {
        let start = epoch();
        let mut server = answered(start, false, StatusCode::NOT_FOUND);
        server.handle_retransmission(start + ms(10));
        assert_eq!(outputs(&mut server), send("final"));
    }

    #[test]
    fn responses_after_a_non_2xx_are_discarded_rfc3261_17_2_1() {
        let start = epoch();
        let mut server = answered(start, false, StatusCode::NOT_FOUND);
        for status in [StatusCode::RINGING, StatusCode::OK, StatusCode::DECLINE] {
            assert!(!server.handle_response(start + ms(10), status, bytes("late")));
        }
        assert_eq!(outputs(&mut server), []);
        server.handle_retransmission(start + ms(20));
        assert_eq!(outputs(&mut server), send("final"));
    }

    // 6026-7.1a
    #[test]
    fn accepted_absorbs_invites_and_sends_each_2xx_of_the_user_rfc6026_7_1() {
        let start = epoch();
        let mut server = answered(start, false, StatusCode::OK);
        assert!(server.is_answered());
        assert_eq!(server.next_timeout(), Some(start + secs(32)), "no retransmission of its own");
        server.handle_retransmission(start + ms(500));
        assert_eq!(outputs(&mut server), []);
        assert!(server.handle_response(start + ms(500), StatusCode::OK, bytes("final")));
        assert_eq!(outputs(&mut server), send("final"));
        assert!(server.handle_response(start + ms(600), StatusCode::OK, bytes("other fork")));
        assert_eq!(outputs(&mut server), send("other fork"));
        for status in [StatusCode::RINGING, StatusCode::BUSY_HERE] {
            assert!(!server.handle_response(start + ms(700), status, bytes("late")));
        }
        assert_eq!(outputs(&mut server), []);
        assert_eq!(server.next_timeout(), Some(start + secs(32)), "Timer L is not restarted");
    }

    // 6026-7.1a
    #[test]
    fn ack_in_accepted_is_for_the_user_each_time_rfc6026_7_1() {
        let start = epoch();
        let mut server = answered(start, true, StatusCode::OK);
        assert_eq!(server.handle_ack(start + ms(10)), AckDisposition::ForUser);
        assert_eq!(server.handle_ack(start + ms(20)), AckDisposition::ForUser);
        assert_eq!(outputs(&mut server), []);
    }

    // 6026-8.7
    #[test]
    fn timer_l_ends_accepted_on_every_transport_rfc6026_8_7() {
        for reliable in [false, true] {
            let start = epoch();
            let mut server = answered(start, reliable, StatusCode::OK);
            assert_eq!(at(&mut server, start + secs(32) - ms(1)), []);
            assert_eq!(at(&mut server, start + secs(32)), [ServerOutput::Terminated]);
            assert_eq!(server.next_timeout(), None);
            server.handle_retransmission(start + secs(33));
            assert!(!server.handle_response(start + secs(33), StatusCode::OK, bytes("late")));
            assert_eq!(outputs(&mut server), []);
        }
    }

    // 6026-7.1b
    #[test]
    fn a_response_that_could_not_be_sent_leaves_the_state_rfc6026_7_1() {
        let start = epoch();
        // The outputs are taken and lost, as by a transport that fails.
        let mut proceeding = Server::invite(start, false);
        proceeding.handle_response(start, StatusCode::RINGING, bytes("180"));
        drop(outputs(&mut proceeding));
        proceeding.handle_retransmission(start + ms(500));
        assert_eq!(outputs(&mut proceeding), send("180"));

        let mut completed = answered(start, false, StatusCode::BUSY_HERE);
        completed.handle_retransmission(start + ms(400));
        assert_eq!(outputs(&mut completed), send("final"));
        assert_eq!(completed.next_timeout(), Some(start + ms(500)));

        let mut accepted = answered(start, false, StatusCode::OK);
        accepted.handle_retransmission(start + ms(500));
        assert_eq!(outputs(&mut accepted), []);
        assert_eq!(accepted.next_timeout(), Some(start + secs(32)));
    }

    #[test]
    fn ack_before_any_final_is_absorbed() {
        let start = epoch();
        let mut server = Server::invite(start, false);
        assert_eq!(server.handle_ack(start), AckDisposition::Absorbed);
        assert_eq!(server.next_timeout(), Some(start + ms(200)));
    }

    #[test]
    fn late_wake_up_resends_once_and_counts_from_then() {
        let start = epoch();
        let mut server = answered(start, false, StatusCode::BUSY_HERE);
        assert_eq!(at(&mut server, start + secs(10)), send("final"));
        assert_eq!(server.next_timeout(), Some(start + secs(11)));
    }
}

//! The non-INVITE server transaction (RFC 3261 17.2.2, RFC 4320 4).

use std::mem;
use std::time::Instant;

use bytes::Bytes;

use super::ServerOutput;
use crate::sip::StatusCode;
use crate::transaction::timers::{NON_INVITE_TRYING_AFTER, T1_64, UNANSWERED, earlier};

#[derive(Debug)]
pub(super) struct NonInviteServer {
    state: State,
    reliable: bool,
    /// The transaction user gave up (408): no final is ever sent.
    gave_up: bool,
    owed: Owed,
    /// Proceeding: the 100. Completed: the final. Empty: none.
    answer: Bytes,
}

#[derive(Debug)]
enum State {
    /// `trying_at`: when RFC 4320 4.1 wants a 100; before that it forbids one on unreliable transports. `None`: it has been asked for.
    Trying {
        trying_at: Option<Instant>,
        end: Instant,
    },
    Proceeding {
        end: Instant,
    },
    Completed {
        timer_j: Instant,
    },
    Terminated,
}

#[derive(Debug, Default)]
struct Owed {
    send: bool,
    trying: bool,
    terminated: bool,
}

impl NonInviteServer {
    pub(super) fn new(now: Instant, reliable: bool) -> NonInviteServer {
        let end = now + if reliable { T1_64 } else { UNANSWERED };
        NonInviteServer {
            state: State::Trying { trying_at: Some(now + NON_INVITE_TRYING_AFTER), end },
            reliable,
            gave_up: false,
            owed: Owed::default(),
            answer: Bytes::new(),
        }
    }

    pub(super) fn handle_retransmission(&mut self) {
        match self.state {
            // 17.2.2: "Once in the "Trying" state, any further request retransmissions are discarded."
            State::Trying { .. } | State::Terminated => {}
            // 17.2.2: the most recent provisional, or the final, MUST be passed to the transport again.
            State::Proceeding { .. } | State::Completed { .. } => self.owed.send = true,
        }
    }

    pub(super) fn handle_response(&mut self, now: Instant, status: StatusCode, response: Bytes) -> bool {
        match self.state {
            State::Trying { trying_at, end } if status.is_provisional() => {
                if status != StatusCode::TRYING {
                    return false; // RFC 4320 4.1: no provisional but 100 to a non-INVITE.
                }
                if !self.reliable && trying_at.is_some_and(|at| now < at) {
                    return false; // RFC 4320 4.1: not over an unreliable transport before Timer E is T2; asked for then.
                }
                self.owed.trying = false;
                self.state = State::Proceeding { end };
                self.send(response)
            }
            // 17.2.2: "Any further provisional responses .. MUST be passed to the transport layer"; RFC 4320 4.1 leaves 100 only.
            State::Proceeding { .. } if status.is_provisional() => {
                status == StatusCode::TRYING && self.send(response)
            }
            State::Trying { .. } | State::Proceeding { .. } => {
                if self.gave_up {
                    return false;
                }
                if status == StatusCode::REQUEST_TIMEOUT {
                    // RFC 4320 4.2: MUST NOT be sent; "will not send a final response at all". The state stays, so that
                    // retransmissions are absorbed and a 100 that is owed is sent, until the transaction ends unanswered.
                    self.gave_up = true;
                    return false;
                }
                self.owed.trying = false;
                self.send(response);
                if self.reliable {
                    // 17.2.2: Timer J is zero on reliable transports. The answer still waits for its `Send`.
                    self.state = State::Terminated;
                    self.owed.terminated = true;
                } else {
                    self.state = State::Completed { timer_j: now + T1_64 };
                }
                true
            }
            // 17.2.2: "Any other final responses passed by the TU .. MUST be discarded while in the "Completed" state."
            // RFC 4320 4.2: and all of them once the transaction is gone.
            State::Completed { .. } | State::Terminated => false,
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        match &mut self.state {
            State::Trying { end, .. } | State::Proceeding { end } | State::Completed { timer_j: end }
                if *end <= now =>
            {
                self.state = State::Terminated;
                self.answer = Bytes::new();
                self.owed = Owed { terminated: true, ..Owed::default() };
            }
            State::Trying { trying_at, .. } => {
                if trying_at.is_some_and(|at| at <= now) {
                    // RFC 4320 4.1: MUST respond with 100 by now, without regard to transport.
                    *trying_at = None;
                    self.owed.trying = true;
                }
            }
            State::Proceeding { .. } | State::Completed { .. } | State::Terminated => {}
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Trying { trying_at, end } => earlier(*trying_at, Some(*end)),
            State::Proceeding { end } => Some(*end),
            State::Completed { timer_j } => Some(*timer_j),
            State::Terminated => None,
        }
    }

    pub(super) fn poll_output(&mut self) -> Option<ServerOutput> {
        if mem::take(&mut self.owed.send) {
            return Some(ServerOutput::Send(match self.state {
                State::Trying { .. } | State::Proceeding { .. } | State::Completed { .. } => {
                    self.answer.clone()
                }
                State::Terminated => mem::take(&mut self.answer),
            }));
        }
        if mem::take(&mut self.owed.trying) {
            return Some(ServerOutput::Trying);
        }
        mem::take(&mut self.owed.terminated).then_some(ServerOutput::Terminated)
    }

    pub(super) fn only_repeats(&self) -> Option<(&Bytes, Instant)> {
        match self.state {
            State::Completed { timer_j } if !self.owed.send => Some((&self.answer, timer_j)),
            State::Trying { .. } | State::Proceeding { .. } | State::Completed { .. } | State::Terminated => {
                None
            }
        }
    }

    pub(super) fn is_answered(&self) -> bool {
        self.gave_up || matches!(self.state, State::Completed { .. } | State::Terminated)
    }

    fn send(&mut self, response: Bytes) -> bool {
        self.answer = response;
        self.owed.send = true;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Server, ServerOutput};
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

    /// A request for which the 100 was asked and sent 3.5 s after `start`.
    fn proceeding(start: Instant, reliable: bool) -> Server {
        let mut server = Server::non_invite(start, reliable);
        assert_eq!(at(&mut server, start + ms(3_500)), [ServerOutput::Trying]);
        assert!(server.handle_response(start + ms(3_500), StatusCode::TRYING, bytes("100")));
        assert_eq!(outputs(&mut server), send("100"));
        server
    }

    // 3261-17.2.2a
    #[test]
    fn trying_absorbs_retransmissions_silently_rfc3261_17_2_2() {
        let start = epoch();
        let mut server = Server::non_invite(start, false);
        server.handle_retransmission(start + ms(500));
        assert_eq!(outputs(&mut server), []);
        assert!(!server.is_answered());
    }

    // 3261-17.2.2a
    #[test]
    fn proceeding_resends_the_100_rfc3261_17_2_2() {
        let start = epoch();
        let mut server = proceeding(start, false);
        server.handle_retransmission(start + ms(3_600));
        assert_eq!(outputs(&mut server), send("100"));
        server.handle_retransmission(start + ms(7_500));
        assert_eq!(outputs(&mut server), send("100"));
    }

    // 3261-17.2.2a
    #[test]
    fn completed_resends_the_final_until_timer_j_rfc3261_17_2_2() {
        let start = epoch();
        let mut server = Server::non_invite(start, false);
        assert!(server.handle_response(start + ms(10), StatusCode::OK, bytes("200")));
        assert_eq!(outputs(&mut server), send("200"));
        assert!(server.is_answered());
        for retransmitted in [500, 1_500, 3_500, 31_500] {
            server.handle_retransmission(start + ms(retransmitted));
            assert_eq!(outputs(&mut server), send("200"));
        }
        assert_eq!(server.next_timeout(), Some(start + ms(32_010)));
        assert_eq!(at(&mut server, start + ms(32_009)), []);
        assert_eq!(at(&mut server, start + ms(32_010)), [ServerOutput::Terminated]);
        assert_eq!(server.next_timeout(), None);
    }

    // 3261-17.2.2a
    #[test]
    fn in_completed_only_the_answer_and_timer_j_are_left_rfc3261_17_2_2() {
        let start = epoch();
        let mut server = Server::non_invite(start, false);
        assert_eq!(server.only_repeats(), None);
        server.handle_response(start + ms(10), StatusCode::OK, bytes("200"));
        assert_eq!(server.only_repeats(), None, "it is yet to be sent");
        outputs(&mut server);
        assert_eq!(server.only_repeats(), Some((&bytes("200"), start + ms(32_010))));
        assert_eq!(at(&mut server, start + ms(32_010)), [ServerOutput::Terminated]);
        assert_eq!(server.only_repeats(), None);
        let mut silent = Server::non_invite(start, false);
        silent.handle_response(start, StatusCode::REQUEST_TIMEOUT, bytes("408"));
        assert_eq!(silent.only_repeats(), None, "there is no answer");
    }

    // 3261-17.2.2a
    #[test]
    fn timer_j_is_zero_over_reliable_transports_rfc3261_17_2_2() {
        let start = epoch();
        let mut server = Server::non_invite(start, true);
        assert!(server.handle_response(start + ms(10), StatusCode::NOT_FOUND, bytes("404")));
        assert_eq!(outputs(&mut server), [ServerOutput::Send(bytes("404")), ServerOutput::Terminated]);
        assert_eq!(server.next_timeout(), None);
    }

    #[test]
    fn final_after_the_100_completes_rfc3261_17_2_2() {
        let start = epoch();
        let mut server = proceeding(start, false);
        assert!(server.handle_response(start + secs(6), StatusCode::OK, bytes("200")));
        assert_eq!(outputs(&mut server), send("200"));
        assert_eq!(server.next_timeout(), Some(start + secs(38)));
    }

    // 3261-17.2.2b
    #[test]
    fn second_final_is_discarded_rfc3261_17_2_2() {
        let start = epoch();
        let mut server = Server::non_invite(start, false);
        server.handle_response(start, StatusCode::OK, bytes("200"));
        assert_eq!(outputs(&mut server), send("200"));
        for status in [StatusCode::OK, StatusCode::SERVER_INTERNAL_ERROR, StatusCode::TRYING] {
            assert!(!server.handle_response(start + ms(1), status, bytes("second")));
        }
        assert_eq!(outputs(&mut server), []);
        server.handle_retransmission(start + ms(500));
        assert_eq!(outputs(&mut server), send("200"));
    }

    // 4320-4.1a
    #[test]
    fn provisional_other_than_100_is_discarded_rfc4320_4_1() {
        let start = epoch();
        for reliable in [false, true] {
            for mut server in [Server::non_invite(start, reliable), proceeding(start, reliable)] {
                for status in [StatusCode::RINGING, StatusCode::QUEUED, StatusCode::SESSION_PROGRESS] {
                    assert!(!server.handle_response(start + secs(4), status, bytes("1xx")));
                }
                assert_eq!(outputs(&mut server), []);
            }
        }
    }

    // 4320-4.1b
    #[test]
    fn hundred_is_asked_at_3500_ms_on_every_transport_rfc4320_4_1() {
        for reliable in [false, true] {
            let start = epoch();
            let mut server = Server::non_invite(start, reliable);
            assert_eq!(server.next_timeout(), Some(start + ms(3_500)));
            assert_eq!(at(&mut server, start + ms(3_499)), []);
            assert_eq!(at(&mut server, start + ms(3_500)), [ServerOutput::Trying]);
            assert_eq!(at(&mut server, start + ms(3_600)), [], "asked once");
        }
    }

    // 4320-4.1b
    #[test]
    fn early_100_is_discarded_over_unreliable_transports_only_rfc4320_4_1() {
        let start = epoch();
        let mut unreliable = Server::non_invite(start, false);
        assert!(!unreliable.handle_response(start + ms(3_499), StatusCode::TRYING, bytes("100")));
        assert_eq!(outputs(&mut unreliable), []);
        assert_eq!(unreliable.next_timeout(), Some(start + ms(3_500)), "still owed");
        assert!(unreliable.handle_response(start + ms(3_500), StatusCode::TRYING, bytes("100")));
        assert_eq!(outputs(&mut unreliable), send("100"));

        let mut reliable = Server::non_invite(start, true);
        assert!(reliable.handle_response(start + ms(1), StatusCode::TRYING, bytes("100")));
        assert_eq!(outputs(&mut reliable), send("100"));
        assert_eq!(at(&mut reliable, start + ms(3_500)), [], "has responded");
    }

    // 4320-4.1b
    #[test]
    fn answered_request_gets_no_100_rfc4320_4_1() {
        let start = epoch();
        let mut server = Server::non_invite(start, false);
        server.handle_response(start + secs(1), StatusCode::OK, bytes("200"));
        assert_eq!(outputs(&mut server), send("200"));
        assert_eq!(at(&mut server, start + ms(3_500)), []);
    }

    // 4320-4.2a
    #[test]
    fn a_408_is_never_sent_and_the_transaction_ends_quietly_rfc4320_4_2() {
        let start = epoch();
        let mut server = Server::non_invite(start, false);
        assert!(!server.handle_response(start + secs(1), StatusCode::REQUEST_TIMEOUT, bytes("408")));
        assert_eq!(outputs(&mut server), []);
        assert!(server.is_answered(), "the transaction user has had its say");
        assert!(!server.handle_response(start + secs(2), StatusCode::SERVER_INTERNAL_ERROR, bytes("500")));
        assert_eq!(at(&mut server, start + ms(3_500)), [ServerOutput::Trying], "4.1 still holds");
        assert!(server.handle_response(start + ms(3_500), StatusCode::TRYING, bytes("100")));
        assert_eq!(outputs(&mut server), send("100"));
        server.handle_retransmission(start + ms(7_500));
        assert_eq!(outputs(&mut server), send("100"));
        assert_eq!(server.next_timeout(), Some(start + secs(37)));
        assert_eq!(at(&mut server, start + secs(37)), [ServerOutput::Terminated]);
    }

    #[test]
    fn never_answered_ends_when_no_retransmission_can_come_any_more() {
        let start = epoch();
        let mut unreliable = proceeding(start, false);
        assert_eq!(at(&mut unreliable, start + secs(37) - ms(1)), []);
        assert_eq!(at(&mut unreliable, start + secs(37)), [ServerOutput::Terminated]);
        let mut reliable = proceeding(start, true);
        assert_eq!(at(&mut reliable, start + secs(32)), [ServerOutput::Terminated]);
        assert_eq!(reliable.next_timeout(), None);
    }

    #[test]
    fn final_after_the_end_is_discarded_rfc4320_4_2() {
        let start = epoch();
        let mut server = proceeding(start, false);
        assert_eq!(at(&mut server, start + secs(37)), [ServerOutput::Terminated]);
        assert!(!server.handle_response(start + secs(38), StatusCode::OK, bytes("late")));
        server.handle_retransmission(start + secs(38));
        assert_eq!(outputs(&mut server), []);
    }
}

//! The non-INVITE client transaction (RFC 3261 17.1.2).

use std::mem;
use std::time::Instant;

use bytes::Bytes;

use super::ClientOutput;
use crate::sip::StatusCode;
use crate::transaction::timers::{Retransmit, T1_64, T2, T4, earlier};

#[derive(Debug)]
pub(super) struct NonInviteClient {
    state: State,
    reliable: bool,
    has_provisional: bool,
    owed: Owed,
    /// Empty once it is answered.
    request: Bytes,
}

#[derive(Debug)]
enum State {
    Trying { timer_e: Option<Retransmit>, timer_f: Instant },
    Proceeding { timer_e: Option<Retransmit>, timer_f: Instant },
    Completed { timer_k: Instant },
    Terminated,
}

#[derive(Debug, Default)]
struct Owed {
    request: bool,
    response: bool,
    timeout: bool,
    terminated: bool,
}

impl NonInviteClient {
    pub(super) fn new(now: Instant, reliable: bool, request: Bytes) -> NonInviteClient {
        // 17.1.2.2: Timer F for all, Timer E for unreliable transports.
        let state = State::Trying { timer_e: Retransmit::start(now, reliable), timer_f: now + T1_64 };
        let owed = Owed { request: true, ..Owed::default() };
        NonInviteClient { state, reliable, has_provisional: false, owed, request }
    }

    pub(super) fn handle_response(&mut self, now: Instant, status: StatusCode) {
        match self.state {
            State::Trying { timer_e, timer_f } | State::Proceeding { timer_e, timer_f }
                if status.is_provisional() =>
            {
                // 17.1.2.2: to Proceeding. Timer E keeps running and is reset to T2 when it fires.
                self.state = State::Proceeding { timer_e, timer_f };
                self.has_provisional = true;
                // RFC 4320 4.1: nobody may send another provisional than 100 here. It shows that the server lives and says no more:
                // the transaction user never sees it, so cannot forward it.
                self.owed.response |= status == StatusCode::TRYING;
            }
            State::Trying { .. } | State::Proceeding { .. } => {
                // 17.1.2.2: passed up, to Completed, Timer K is T4, or zero on reliable transports.
                self.owed.response = true;
                self.owed.request = false;
                self.request = Bytes::new();
                if self.reliable {
                    self.state = State::Terminated;
                    self.owed.terminated = true;
                } else {
                    self.state = State::Completed { timer_k: now + T4 };
                }
            }
            // 17.1.2.2: "The "Completed" state exists to buffer any additional response retransmissions".
            State::Completed { .. } | State::Terminated => {}
        }
    }

    pub(super) fn handle_transport_error(&mut self) {
        match self.state {
            State::Trying { .. } | State::Proceeding { .. } => self.terminate(),
            State::Completed { .. } | State::Terminated => {}
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        match &mut self.state {
            State::Trying { timer_f, .. } | State::Proceeding { timer_f, .. } if *timer_f <= now => {
                // 17.1.2.2: tell the transaction user, terminate.
                self.owed.timeout = true;
                self.terminate();
            }
            State::Trying { timer_e: Some(timer), .. } if timer.due() <= now => {
                // 17.1.2.2: "reset it with a value of MIN(2*T1, T2)", then MIN(4*T1, T2), and so on.
                timer.double(now, T2);
                self.owed.request = true;
            }
            State::Proceeding { timer_e: Some(timer), .. } if timer.due() <= now => {
                // 17.1.2.2: "Timer E MUST be reset with a value of T2 seconds".
                timer.again_after(now, T2);
                self.owed.request = true;
            }
            State::Completed { timer_k } if *timer_k <= now => self.terminate(),
            State::Trying { .. } | State::Proceeding { .. } | State::Completed { .. } | State::Terminated => {
            }
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Trying { timer_e, timer_f } | State::Proceeding { timer_e, timer_f } => {
                earlier(timer_e.as_ref().map(Retransmit::due), Some(*timer_f))
            }
            State::Completed { timer_k } => Some(*timer_k),
            State::Terminated => None,
        }
    }

    pub(super) fn poll_output(&mut self) -> Option<ClientOutput> {
        if mem::take(&mut self.owed.request) {
            return Some(ClientOutput::Send(self.request.clone()));
        }
        if mem::take(&mut self.owed.response) {
            return Some(ClientOutput::Response);
        }
        if mem::take(&mut self.owed.timeout) {
            return Some(ClientOutput::Timeout);
        }
        mem::take(&mut self.owed.terminated).then_some(ClientOutput::Terminated)
    }

    pub(super) fn has_provisional(&self) -> bool {
        self.has_provisional
    }

    pub(super) fn only_absorbs(&self) -> bool {
        matches!(self.state, State::Completed { .. }) && !self.owed.response
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Completed { .. } | State::Terminated)
    }

    fn terminate(&mut self) {
        self.state = State::Terminated;
        self.owed.request = false;
        self.owed.terminated = true;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Client, ClientOutput};
    use super::*;
    use crate::transaction::testing::{epoch, ms, secs};

    fn outputs(client: &mut Client) -> Vec<ClientOutput> {
        std::iter::from_fn(|| client.poll_output()).collect()
    }

    fn at(client: &mut Client, now: Instant) -> Vec<ClientOutput> {
        client.handle_timeout(now);
        outputs(client)
    }

    fn got(client: &mut Client, now: Instant, status: StatusCode) -> Vec<ClientOutput> {
        client.handle_response(now, status);
        outputs(client)
    }

    fn send() -> ClientOutput {
        ClientOutput::Send(Bytes::from_static(b"OPTIONS"))
    }

    fn trying(start: Instant, reliable: bool) -> Client {
        let mut client = Client::non_invite(start, reliable, Bytes::from_static(b"OPTIONS"));
        assert_eq!(outputs(&mut client), [send()]);
        client
    }

    /// Runs until something else than a retransmission comes out: when it was resent (ms after `start`), when that came, and what.
    fn run(client: &mut Client, start: Instant) -> (Vec<u128>, Instant, Vec<ClientOutput>) {
        let mut resent = Vec::new();
        loop {
            let now = client.next_timeout().expect("runs until Timer F");
            match at(client, now) {
                out if out == [send()] => resent.push(now.duration_since(start).as_millis()),
                out => return (resent, now, out),
            }
        }
    }

    // 3261-17.1.2a
    #[test]
    fn timer_e_doubles_to_t2_until_timer_f_times_out_rfc3261_17_1_2_2() {
        let start = epoch();
        let mut client = trying(start, false);
        let (resent, end, last) = run(&mut client, start);
        assert_eq!(resent, [500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]);
        assert_eq!(end, start + secs(32));
        assert_eq!(last, [ClientOutput::Timeout, ClientOutput::Terminated]);
        assert!(client.is_done());
        assert_eq!(client.next_timeout(), None);
    }

    // 3261-17.1.2a
    #[test]
    fn timer_e_is_fixed_at_t2_in_proceeding_rfc3261_17_1_2_2() {
        let start = epoch();
        let mut client = trying(start, false);
        assert_eq!(got(&mut client, start + ms(100), StatusCode::TRYING), [ClientOutput::Response]);
        assert!(client.has_provisional());
        let (resent, end, last) = run(&mut client, start);
        assert_eq!(resent, [500, 4_500, 8_500, 12_500, 16_500, 20_500, 24_500, 28_500]);
        assert_eq!(end, start + secs(32));
        assert_eq!(last, [ClientOutput::Timeout, ClientOutput::Terminated]);
    }

    // 3261-17.1.2a
    #[test]
    fn reliable_transports_have_timer_f_only_rfc3261_17_1_2_2() {
        let start = epoch();
        let mut client = trying(start, true);
        assert_eq!(client.next_timeout(), Some(start + secs(32)));
        assert_eq!(got(&mut client, start + secs(4), StatusCode::TRYING), [ClientOutput::Response]);
        assert_eq!(client.next_timeout(), Some(start + secs(32)));
        assert_eq!(at(&mut client, start + secs(32)), [ClientOutput::Timeout, ClientOutput::Terminated]);
    }

    // 3261-17.1.2b
    #[test]
    fn duplicate_finals_are_absorbed_until_timer_k_rfc3261_17_1_2_2() {
        for provisional in [false, true] {
            let start = epoch();
            let mut client = trying(start, false);
            if provisional {
                got(&mut client, start, StatusCode::TRYING);
            }
            assert_eq!(got(&mut client, start + ms(20), StatusCode::OK), [ClientOutput::Response]);
            assert!(client.is_done());
            for duplicate in [StatusCode::OK, StatusCode::NOT_FOUND, StatusCode::TRYING] {
                assert_eq!(got(&mut client, start + ms(30), duplicate), []);
            }
            assert_eq!(at(&mut client, start + ms(500)), [], "no retransmission");
            assert_eq!(client.next_timeout(), Some(start + ms(5_020)));
            assert_eq!(at(&mut client, start + ms(5_020)), [ClientOutput::Terminated]);
        }
    }

    // 3261-17.1.2b
    #[test]
    fn timer_k_is_zero_over_reliable_transports_rfc3261_17_1_2_2() {
        let start = epoch();
        let mut client = trying(start, true);
        assert_eq!(
            got(&mut client, start, StatusCode::NOT_FOUND),
            [ClientOutput::Response, ClientOutput::Terminated]
        );
        assert_eq!(client.next_timeout(), None);
    }

    // 4320-4.1a
    #[test]
    fn provisional_other_than_100_is_not_passed_up_but_counts_rfc4320_4_1() {
        let start = epoch();
        let mut client = trying(start, false);
        assert_eq!(got(&mut client, start + ms(100), StatusCode::RINGING), []);
        assert!(client.has_provisional());
        assert_eq!(at(&mut client, start + ms(500)), [send()]);
        assert_eq!(client.next_timeout(), Some(start + ms(4_500)), "Proceeding: Timer E is T2");
        assert_eq!(got(&mut client, start + ms(600), StatusCode::OK), [ClientOutput::Response]);
    }

    // 3261-17.1.4
    #[test]
    fn transport_error_ends_the_transaction_rfc3261_17_1_4() {
        let start = epoch();
        let mut proceeding = trying(start, false);
        got(&mut proceeding, start, StatusCode::TRYING);
        for mut client in [trying(start, true), proceeding] {
            client.handle_transport_error(start + ms(1));
            assert_eq!(outputs(&mut client), [ClientOutput::Terminated]);
            assert!(client.is_done());
            assert_eq!(got(&mut client, start + ms(2), StatusCode::OK), []);
        }
    }

    #[test]
    fn transport_error_leaves_completed_rfc3261_figure_6() {
        let start = epoch();
        let mut client = trying(start, false);
        got(&mut client, start, StatusCode::OK);
        client.handle_transport_error(start + ms(1));
        assert_eq!(outputs(&mut client), []);
        assert_eq!(client.next_timeout(), Some(start + secs(5)));
    }

    #[test]
    fn ack_for_a_non_invite_is_ignored() {
        let start = epoch();
        let mut client = trying(start, false);
        client.handle_ack_built(Bytes::from_static(b"ACK"));
        client.handle_cancel_sent(start);
        assert_eq!(outputs(&mut client), []);
        assert_eq!(client.next_timeout(), Some(start + ms(500)));
    }
}

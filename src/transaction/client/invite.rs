//! The INVITE client transaction (RFC 3261 17.1.1, as replaced by RFC 6026 figure 5).

use std::mem;
use std::time::Instant;

use bytes::Bytes;

use super::ClientOutput;
use crate::sip::StatusCode;
use crate::transaction::timers::{Retransmit, T1_64, TIMER_D, earlier};

#[derive(Debug)]
pub(super) struct InviteClient {
    state: State,
    reliable: bool,
    has_provisional: bool,
    owed: Owed,
    /// Empty once a response has come.
    request: Bytes,
    /// Empty until it is built.
    ack: Bytes,
}

#[derive(Debug)]
enum State {
    Calling {
        timer_a: Option<Retransmit>,
        timer_b: Instant,
    },
    /// `cancelled`: 64*T1 after a CANCEL (9.1).
    Proceeding {
        cancelled: Option<Instant>,
    },
    Completed {
        timer_d: Instant,
    },
    Accepted {
        timer_m: Instant,
    },
    Terminated,
}

#[derive(Debug, Default)]
struct Owed {
    request: bool,
    build_ack: bool,
    ack: bool,
    response: bool,
    timeout: bool,
    terminated: bool,
}

impl InviteClient {
    pub(super) fn new(now: Instant, reliable: bool, request: Bytes) -> InviteClient {
        // 17.1.1.2: Timer A for unreliable transports, Timer B for any.
        let state = State::Calling { timer_a: Retransmit::start(now, reliable), timer_b: now + T1_64 };
        let owed = Owed { request: true, ..Owed::default() };
        InviteClient { state, reliable, has_provisional: false, owed, request, ack: Bytes::new() }
    }

    pub(super) fn handle_response(&mut self, now: Instant, status: StatusCode) {
        if let State::Calling { .. } = self.state {
            // It is sent again in Calling alone.
            self.request = Bytes::new();
            self.owed.request = false;
        }
        match self.state {
            State::Calling { .. } | State::Proceeding { .. } if status.is_provisional() => {
                // 17.1.1.2: to Proceeding, no more retransmissions; every provisional MUST be passed up.
                if let State::Calling { .. } = self.state {
                    self.state = State::Proceeding { cancelled: None };
                }
                self.has_provisional = true;
                self.owed.response = true;
            }
            State::Calling { .. } | State::Proceeding { .. } if status.is_success() => {
                // RFC 6026 8.4: to Accepted, Timer M, passed up; MUST NOT generate an ACK.
                self.state = State::Accepted { timer_m: now + T1_64 };
                self.owed.response = true;
            }
            State::Calling { .. } | State::Proceeding { .. } => {
                // RFC 6026 8.4: "MUST start Timer D when it enters the "Completed" state for any reason", zero if reliable;
                // passed up, and an ACK "even if the transport is reliable".
                self.state = State::Completed { timer_d: if self.reliable { now } else { now + TIMER_D } };
                self.owed.build_ack = true;
                self.owed.response = true;
            }
            // RFC 6026 8.4: retransmissions of 300-699 cause the ACK to be sent again and are not passed up; all else is absorbed.
            State::Completed { .. } if status.is_final() && !status.is_success() => {
                if self.ack.is_empty() {
                    self.owed.build_ack = true;
                } else {
                    self.owed.ack = true;
                }
            }
            // RFC 6026 8.4: "Any 2xx responses .. received while in the "Accepted" state MUST be passed up".
            State::Accepted { .. } if status.is_success() => self.owed.response = true,
            State::Completed { .. } | State::Accepted { .. } | State::Terminated => {}
        }
    }

    pub(super) fn handle_ack_built(&mut self, ack: Bytes) {
        if let State::Completed { .. } = self.state {
            self.ack = ack;
            self.owed.build_ack = false;
            self.owed.ack = true;
        }
    }

    pub(super) fn handle_cancel_sent(&mut self, now: Instant) {
        if let State::Proceeding { cancelled } = &mut self.state {
            cancelled.get_or_insert(now + T1_64);
        }
    }

    pub(super) fn handle_transport_error(&mut self) {
        match self.state {
            State::Calling { .. } | State::Proceeding { .. } | State::Completed { .. } => self.terminate(),
            State::Accepted { .. } | State::Terminated => {}
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        match &mut self.state {
            State::Calling { timer_a, timer_b } => {
                if *timer_b <= now {
                    // 17.1.1.2: tell the transaction user; "MUST NOT generate an ACK".
                    self.time_out();
                } else if let Some(timer) = timer_a
                    && timer.due() <= now
                {
                    // 17.1.1.2: intervals double; only Timer B ends them.
                    timer.double(now, T1_64);
                    self.owed.request = true;
                }
            }
            State::Proceeding { cancelled } => {
                if cancelled.is_some_and(|at| at <= now) {
                    // 9.1: no final 64*T1 after the CANCEL: "consider the original transaction cancelled" and destroy it.
                    self.time_out();
                }
            }
            State::Completed { timer_d: end } | State::Accepted { timer_m: end } => {
                if *end <= now {
                    self.terminate();
                }
            }
            State::Terminated => {}
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Calling { timer_a, timer_b } => {
                earlier(timer_a.as_ref().map(Retransmit::due), Some(*timer_b))
            }
            State::Proceeding { cancelled } => *cancelled,
            State::Completed { timer_d } => Some(*timer_d),
            State::Accepted { timer_m } => Some(*timer_m),
            State::Terminated => None,
        }
    }

    pub(super) fn poll_output(&mut self) -> Option<ClientOutput> {
        if mem::take(&mut self.owed.request) {
            return Some(ClientOutput::Send(self.request.clone()));
        }
        if mem::take(&mut self.owed.build_ack) {
            return Some(ClientOutput::BuildAck);
        }
        if mem::take(&mut self.owed.ack) {
            return Some(ClientOutput::Send(self.ack.clone()));
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

    pub(super) fn passes_up(&self) -> bool {
        !matches!(self.state, State::Completed { .. } | State::Terminated)
    }

    pub(super) fn is_done(&self) -> bool {
        !matches!(self.state, State::Calling { .. } | State::Proceeding { .. })
    }

    fn time_out(&mut self) {
        self.owed.timeout = true;
        self.terminate();
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
    use crate::sip::{HeaderName, Limits, Message, forward};
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

    fn send(text: &'static str) -> ClientOutput {
        ClientOutput::Send(Bytes::from_static(text.as_bytes()))
    }

    fn calling(start: Instant, reliable: bool) -> Client {
        let mut client = Client::invite(start, reliable, Bytes::from_static(b"INVITE"));
        assert_eq!(outputs(&mut client), [send("INVITE")]);
        client
    }

    /// A final 486 at `start`, its ACK built and sent.
    fn completed(start: Instant, reliable: bool) -> Client {
        let mut client = calling(start, reliable);
        client.handle_response(start, StatusCode::BUSY_HERE);
        assert_eq!(client.poll_output(), Some(ClientOutput::BuildAck));
        client.handle_ack_built(Bytes::from_static(b"ACK"));
        assert_eq!(outputs(&mut client), [send("ACK"), ClientOutput::Response]);
        client
    }

    // 3261-17.1.1a
    #[test]
    fn timer_a_doubles_until_timer_b_times_out_rfc3261_17_1_1_2() {
        let start = epoch();
        let mut client = calling(start, false);
        let mut resent = Vec::new();
        let (end, last) = loop {
            let now = client.next_timeout().expect("runs until Timer B");
            match at(&mut client, now) {
                out if out == [send("INVITE")] => resent.push(now.duration_since(start).as_millis()),
                out => break (now, out),
            }
        };
        // "the amount of time required to send seven requests"
        assert_eq!(resent, [500, 1_500, 3_500, 7_500, 15_500, 31_500]);
        assert_eq!(end, start + secs(32));
        assert_eq!(last, [ClientOutput::Timeout, ClientOutput::Terminated]);
        assert!(client.is_done());
        assert_eq!(client.next_timeout(), None);
    }

    // 3261-17.1.1a
    #[test]
    fn reliable_transports_have_timer_b_only_rfc3261_17_1_1_2() {
        let start = epoch();
        let mut client = calling(start, true);
        assert_eq!(client.next_timeout(), Some(start + secs(32)));
        assert_eq!(at(&mut client, start + ms(500)), []);
        assert_eq!(at(&mut client, start + secs(32)), [ClientOutput::Timeout, ClientOutput::Terminated]);
    }

    // 3261-17.1.1a
    #[test]
    fn provisional_stops_retransmission_and_timer_b_rfc3261_17_1_1_2() {
        let start = epoch();
        let mut client = calling(start, false);
        assert!(!client.has_provisional());
        assert_eq!(got(&mut client, start + ms(100), StatusCode::TRYING), [ClientOutput::Response]);
        assert!(client.has_provisional());
        assert!(!client.is_done());
        assert_eq!(client.next_timeout(), None);
        assert_eq!(at(&mut client, start + secs(60)), []);
        assert_eq!(got(&mut client, start + secs(61), StatusCode::RINGING), [ClientOutput::Response]);
        assert_eq!(got(&mut client, start + secs(62), StatusCode::RINGING), [ClientOutput::Response]);
    }

    // 3261-17.1.1b
    #[test]
    fn ack_is_sent_before_the_final_is_passed_up_rfc3261_17_1_1_2() {
        for status in [StatusCode::MOVED_TEMPORARILY, StatusCode::BUSY_HERE, StatusCode::DECLINE] {
            for provisional in [false, true] {
                let start = epoch();
                let mut client = calling(start, false);
                if provisional {
                    got(&mut client, start, StatusCode::RINGING);
                }
                client.handle_response(start, status);
                assert_eq!(client.poll_output(), Some(ClientOutput::BuildAck));
                client.handle_ack_built(Bytes::from_static(b"ACK"));
                assert_eq!(outputs(&mut client), [send("ACK"), ClientOutput::Response]);
                assert!(client.is_done());
            }
        }
    }

    // 3261-17.1.1b
    #[test]
    fn retransmitted_final_gets_the_ack_again_and_is_not_passed_up_rfc3261_17_1_1_2() {
        let start = epoch();
        let mut client = completed(start, false);
        assert_eq!(got(&mut client, start + ms(500), StatusCode::BUSY_HERE), [send("ACK")]);
        assert_eq!(got(&mut client, start + ms(1_500), StatusCode::DECLINE), [send("ACK")]);
        for absorbed in [StatusCode::RINGING, StatusCode::OK] {
            assert_eq!(got(&mut client, start + secs(2), absorbed), []);
        }
    }

    // 3261-17.1.1b, 6026-8.4
    #[test]
    fn timer_d_is_32_s_over_unreliable_transports_rfc6026_8_4() {
        let start = epoch();
        let mut client = completed(start, false);
        assert_eq!(client.next_timeout(), Some(start + secs(32)));
        assert_eq!(got(&mut client, start + secs(31), StatusCode::BUSY_HERE), [send("ACK")]);
        assert_eq!(client.next_timeout(), Some(start + secs(32)), "not restarted");
        assert_eq!(at(&mut client, start + secs(32) - ms(1)), []);
        assert_eq!(at(&mut client, start + secs(32)), [ClientOutput::Terminated]);
    }

    // 3261-17.1.1b, 6026-8.4
    #[test]
    fn timer_d_is_zero_over_reliable_transports_and_the_ack_is_sent_rfc6026_8_4() {
        let start = epoch();
        let mut client = completed(start, true);
        assert_eq!(client.next_timeout(), Some(start));
        assert_eq!(at(&mut client, start), [ClientOutput::Terminated]);
    }

    // 6026-8.4
    #[test]
    fn timer_d_runs_even_if_no_ack_is_ever_built_rfc6026_8_4() {
        let start = epoch();
        let mut client = calling(start, false);
        assert_eq!(
            got(&mut client, start, StatusCode::BUSY_HERE),
            [ClientOutput::BuildAck, ClientOutput::Response]
        );
        assert_eq!(got(&mut client, start + ms(500), StatusCode::BUSY_HERE), [ClientOutput::BuildAck]);
        assert_eq!(at(&mut client, start + secs(32)), [ClientOutput::Terminated]);
        client.handle_ack_built(Bytes::from_static(b"ACK"));
        assert_eq!(outputs(&mut client), []);
    }

    // 6026-7.2a
    #[test]
    fn every_2xx_is_passed_up_and_none_is_acknowledged_rfc6026_7_2() {
        for provisional in [false, true] {
            let start = epoch();
            let mut client = calling(start, false);
            if provisional {
                got(&mut client, start, StatusCode::RINGING);
            }
            assert_eq!(got(&mut client, start, StatusCode::OK), [ClientOutput::Response]);
            assert!(client.is_done());
            assert_eq!(got(&mut client, start + ms(500), StatusCode::OK), [ClientOutput::Response]);
            assert_eq!(got(&mut client, start + secs(31), StatusCode::ACCEPTED), [ClientOutput::Response]);
            for absorbed in [StatusCode::RINGING, StatusCode::BUSY_HERE] {
                assert_eq!(got(&mut client, start + secs(31), absorbed), []);
            }
        }
    }

    // 6026-7.2a
    #[test]
    fn timer_m_ends_accepted_on_every_transport_rfc6026_7_2() {
        for reliable in [false, true] {
            let start = epoch();
            let mut client = calling(start, reliable);
            got(&mut client, start, StatusCode::OK);
            got(&mut client, start + secs(20), StatusCode::OK);
            assert_eq!(client.next_timeout(), Some(start + secs(32)));
            assert_eq!(at(&mut client, start + secs(32)), [ClientOutput::Terminated]);
            assert_eq!(got(&mut client, start + secs(33), StatusCode::OK), []);
        }
    }

    // 3261-17.1.4
    #[test]
    fn transport_error_ends_the_transaction_rfc3261_17_1_4() {
        let start = epoch();
        let mut proceeding = calling(start, true);
        got(&mut proceeding, start, StatusCode::RINGING);
        for mut client in [calling(start, false), proceeding, completed(start, false)] {
            client.handle_transport_error(start + ms(1));
            assert_eq!(outputs(&mut client), [ClientOutput::Terminated]);
            assert!(client.is_done());
            assert_eq!(client.next_timeout(), None);
            client.handle_transport_error(start + ms(2));
            assert_eq!(outputs(&mut client), []);
        }
    }

    #[test]
    fn transport_error_leaves_accepted_rfc6026_figure_5() {
        let start = epoch();
        let mut client = calling(start, true);
        got(&mut client, start, StatusCode::OK);
        client.handle_transport_error(start + ms(1));
        assert_eq!(outputs(&mut client), []);
        assert_eq!(got(&mut client, start + ms(2), StatusCode::OK), [ClientOutput::Response]);
    }

    #[test]
    fn cancelled_invite_without_final_ends_after_64_t1_rfc3261_9_1() {
        let start = epoch();
        let mut client = calling(start, false);
        got(&mut client, start, StatusCode::RINGING);
        client.handle_cancel_sent(start + secs(180));
        client.handle_cancel_sent(start + secs(190));
        got(&mut client, start + secs(200), StatusCode::RINGING);
        assert_eq!(client.next_timeout(), Some(start + secs(212)));
        assert_eq!(at(&mut client, start + secs(212)), [ClientOutput::Timeout, ClientOutput::Terminated]);
    }

    #[test]
    fn cancelled_invite_still_takes_its_final_rfc3261_9_1() {
        let start = epoch();
        let mut client = calling(start, false);
        got(&mut client, start, StatusCode::RINGING);
        client.handle_cancel_sent(start + secs(1));
        client.handle_response(start + secs(2), StatusCode::REQUEST_TERMINATED);
        assert_eq!(client.poll_output(), Some(ClientOutput::BuildAck));
        assert_eq!(client.next_timeout(), Some(start + secs(34)));
    }

    // 3261-17.1.1.3
    #[test]
    fn ack_of_a_non_2xx_is_made_of_the_invite_and_the_response_rfc3261_17_1_1_3() {
        const INVITE: &str = "INVITE sip:bob@biloxi.com SIP/2.0\r\n\
            Via: SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bKkjshdyff\r\n\
            Via: SIP/2.0/UDP phone.atlanta.com;branch=z9hG4bKfirst\r\n\
            Route: <sip:p1.example.com;lr>\r\n\
            Route: <sip:p2.example.com;lr>\r\n\
            To: Bob <sip:bob@biloxi.com>\r\n\
            From: Alice <sip:alice@atlanta.com>;tag=88sja8x\r\n\
            Max-Forwards: 70\r\n\
            Call-ID: 987asjd97y7atg\r\n\
            CSeq: 986759 INVITE\r\n\
            Content-Length: 0\r\n\r\n";
        const RESPONSE: &str = "SIP/2.0 486 Busy Here\r\n\
            Via: SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bKkjshdyff\r\n\
            Via: SIP/2.0/UDP phone.atlanta.com;branch=z9hG4bKfirst\r\n\
            To: Bob <sip:bob@biloxi.com>;tag=99sa0xk\r\n\
            From: Alice <sip:alice@atlanta.com>;tag=88sja8x\r\n\
            Call-ID: 987asjd97y7atg\r\n\
            CSeq: 986759 INVITE\r\n\
            Content-Length: 0\r\n\r\n";
        let request = |bytes: Bytes| match Message::parse(bytes, false, &Limits::default()) {
            Ok(Message::Request(request)) => request,
            other => panic!("not a request: {other:?}"),
        };
        let Ok(Message::Response(response)) =
            Message::parse(Bytes::from_static(RESPONSE.as_bytes()), false, &Limits::default())
        else {
            panic!("not a response")
        };

        let start = epoch();
        let mut client = Client::invite(start, false, Bytes::from_static(INVITE.as_bytes()));
        outputs(&mut client);
        client.handle_response(start, response.status());
        assert_eq!(client.poll_output(), Some(ClientOutput::BuildAck));
        client.handle_ack_built(forward::ack(&request(Bytes::from_static(INVITE.as_bytes())), &response));
        let Some(ClientOutput::Send(sent)) = client.poll_output() else { panic!("no ACK") };

        let ack = request(sent);
        assert_eq!(ack.method().as_str(), "ACK");
        assert_eq!(ack.uri_bytes(), b"sip:bob@biloxi.com");
        assert_eq!(
            ack.elements(HeaderName::Via).collect::<Vec<_>>(),
            [b"SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bKkjshdyff"],
            "a single Via, that of the INVITE"
        );
        assert_eq!(
            ack.elements(HeaderName::Route).collect::<Vec<_>>(),
            [b"<sip:p1.example.com;lr>", b"<sip:p2.example.com;lr>"]
        );
        assert_eq!(ack.text(HeaderName::To), Some("Bob <sip:bob@biloxi.com>;tag=99sa0xk"));
        assert_eq!(ack.text(HeaderName::From), Some("Alice <sip:alice@atlanta.com>;tag=88sja8x"));
        assert_eq!(ack.text(HeaderName::CallId), Some("987asjd97y7atg"));
        assert_eq!(ack.text(HeaderName::CSeq), Some("986759 ACK"));
        assert!(ack.body().is_empty());
    }
}

//! A client and a server transaction joined by a bad network, in virtual time.
//!
//! The link loses, delays, doubles and so reorders messages as a seed says. Whatever it does: the server's user sees the request once, the
//! client's user gets one final response or, if none ever arrived, a timeout, and all transactions end. The client's user may cancel an
//! INVITE at any moment (9.1): its CANCEL is a transaction of its own between the same two.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::testing::{epoch, ms, secs};
use super::timers::{T1, T1_64, T2};
use super::{AckDisposition, Client, ClientOutput, Server, ServerOutput};
use crate::sip::StatusCode;

/// xorshift64*: small, seeded, the same on every machine.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        // Neighbouring seeds shall not begin alike, and zero is no state.
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        random.next();
        random.next();
        random
    }
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }
    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What happens at an instant.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// A message reaches the server.
    Request,
    Ack,
    /// The client's user acknowledges a 2xx, past the transactions (13.2.2.4).
    AckOf2xx,
    /// A message reaches the client.
    Response(StatusCode),
    /// The server's user responds.
    Answer(StatusCode),
    /// The server's user repeats its 2xx until it is acknowledged (13.3.1.4).
    Repeat2xx(Duration),
    /// The client's user has waited long enough and cancels.
    GiveUp,
    /// A CANCEL reaches the server.
    Cancel,
    /// The answer to it reaches the client.
    CancelResponse(StatusCode),
}

/// The network and the habits of the two users in one run.
#[derive(Debug, Clone, Copy)]
struct Weather {
    invite: bool,
    reliable: bool,
    /// The client's user cancels within so many milliseconds of the beginning, else after a minute.
    cancel_within_ms: Option<u64>,
    loss_percent: u64,
    double_percent: u64,
    /// Delay of a message in milliseconds: 1 to this. Less than T1, so that a request sent just before Timer F or B is not later at the
    /// server than Timer J or L, which began when the first one came.
    max_delay_ms: u64,
}

struct Pair {
    weather: Weather,
    random: Random,
    now: Instant,
    agenda: BTreeMap<(Instant, u64), Event>,
    scheduled: u64,
    client: Option<Client>,
    server: Option<Server>,
    /// Cancelled before any provisional response came (9.1).
    cancel_wanted: bool,
    cancel_client: Option<Client>,
    cancel_server: Option<Server>,
    /// What is asserted in the end.
    seen: Seen,
}

#[derive(Debug, Default)]
struct Seen {
    requests_at_user: u32,
    finals_at_user: Vec<StatusCode>,
    timeouts: u32,
    ack_timeouts: u32,
    acks_of_2xx_at_user: u32,
    /// A final response reached the client while its transaction waited for one.
    final_was_delivered: bool,
    sent: u32,
    answer: Option<StatusCode>,
    finals_sent: u32,
    cancels: u32,
    cancels_at_server: u32,
    /// Answers to the CANCEL at its sender, and timeouts.
    cancel_outcomes: Vec<Option<StatusCode>>,
}

impl Pair {
    fn new(seed: u64, weather: Weather) -> Pair {
        let now = epoch();
        let request = Bytes::from_static(b"request");
        let client = if weather.invite {
            Client::invite(now, weather.reliable, request)
        } else {
            Client::non_invite(now, weather.reliable, request)
        };
        Pair {
            weather,
            random: Random::new(seed),
            now,
            agenda: BTreeMap::new(),
            scheduled: 0,
            client: Some(client),
            server: None,
            cancel_wanted: false,
            cancel_client: None,
            cancel_server: None,
            seen: Seen::default(),
        }
    }

    /// Runs until nothing is left to happen.
    fn run(mut self) -> Seen {
        let start = self.now;
        self.poll_client(None);
        if self.weather.invite {
            let patience = self.weather.cancel_within_ms.map(|within| ms(self.random.below(within)));
            self.at(start + patience.unwrap_or(secs(60)), Event::GiveUp);
        }
        while let Some(next) = self.next() {
            assert!(next >= self.now, "time runs forwards");
            assert!(next < start + secs(300), "both transactions end");
            self.now = next;
            while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= next) {
                let event = entry.remove();
                self.happens(event);
            }
            if let Some(client) = &mut self.client {
                client.handle_timeout(next);
                self.poll_client(None);
            }
            if let Some(server) = &mut self.server {
                server.handle_timeout(next);
                self.poll_server();
            }
            if let Some(client) = &mut self.cancel_client {
                client.handle_timeout(next);
                self.poll_cancel_client(None);
            }
            if let Some(server) = &mut self.cancel_server {
                server.handle_timeout(next);
                self.poll_cancel_server();
            }
        }
        assert!(self.client.is_none(), "the client's table is empty");
        assert!(self.cancel_client.is_none() && self.cancel_server.is_none(), "the CANCEL has ended");
        assert!(self.server.is_none(), "the server's table is empty");
        self.seen
    }

    fn next(&self) -> Option<Instant> {
        let timers = [
            self.client.as_ref().and_then(Client::next_timeout),
            self.server.as_ref().and_then(Server::next_timeout),
            self.cancel_client.as_ref().and_then(Client::next_timeout),
            self.cancel_server.as_ref().and_then(Server::next_timeout),
        ];
        timers.into_iter().flatten().chain(self.agenda.keys().map(|key| key.0).take(1)).min()
    }

    fn at(&mut self, when: Instant, event: Event) {
        self.scheduled += 1;
        self.agenda.insert((when, self.scheduled), event);
    }

    /// Gives a message to the network.
    fn send(&mut self, event: Event) {
        self.seen.sent += 1;
        if self.weather.reliable {
            self.at(self.now + ms(self.weather.max_delay_ms), event);
            return;
        }
        let copies = 1 + u64::from(self.random.percent(self.weather.double_percent));
        for _ in 0..copies {
            if !self.random.percent(self.weather.loss_percent) {
                let delay = ms(1 + self.random.below(self.weather.max_delay_ms));
                self.at(self.now + delay, event);
            }
        }
    }

    fn happens(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Request => {
                if let Some(server) = &mut self.server {
                    server.handle_retransmission(now);
                } else {
                    self.arrives_anew();
                }
                self.poll_server();
            }
            Event::Ack => {
                if let Some(server) = &mut self.server {
                    assert_eq!(server.handle_ack(now), AckDisposition::Absorbed);
                }
                self.poll_server();
            }
            Event::AckOf2xx => self.seen.acks_of_2xx_at_user += 1,
            Event::Response(status) => {
                // RFC 6026 7.2: what matches no transaction is dropped.
                if let Some(client) = &mut self.client {
                    self.seen.final_was_delivered |= status.is_final() && !client.is_done();
                    client.handle_response(now, status);
                }
                self.poll_client(Some(status));
                if std::mem::take(&mut self.cancel_wanted) {
                    self.cancel();
                }
            }
            Event::Answer(status) => {
                let mut taken = false;
                if let Some(server) = self.server.as_mut().filter(|server| !server.is_answered()) {
                    taken = server.handle_response(now, status, Bytes::from(status.code().to_string()));
                    if status.is_final() && taken {
                        self.seen.answer = Some(status);
                    }
                }
                self.poll_server();
                if taken && self.weather.invite && status.is_success() {
                    self.at(now + T1, Event::Repeat2xx(T1));
                }
            }
            Event::Repeat2xx(interval) => {
                if self.seen.acks_of_2xx_at_user > 0 {
                    return;
                }
                if let Some(server) = &mut self.server {
                    assert!(server.handle_response(now, StatusCode::OK, Bytes::from_static(b"200")));
                    let next = (interval * 2).min(T2);
                    self.at(now + next, Event::Repeat2xx(next));
                }
                self.poll_server();
            }
            Event::GiveUp => self.cancel(),
            Event::Cancel => {
                if let Some(server) = &mut self.cancel_server {
                    server.handle_retransmission(now);
                    return self.poll_cancel_server();
                }
                self.seen.cancels_at_server += 1;
                // 9.2: 200 if there is something to cancel, 481 if not; 487 to what is not answered yet.
                let status = match &self.server {
                    Some(_) => StatusCode::OK,
                    None => StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST,
                };
                let mut server = Server::non_invite(now, self.weather.reliable);
                assert!(server.handle_response(now, status, status.code().to_string().into()));
                self.cancel_server = Some(server);
                self.poll_cancel_server();
                self.happens(Event::Answer(StatusCode::REQUEST_TERMINATED));
            }
            Event::CancelResponse(status) => {
                if let Some(client) = &mut self.cancel_client {
                    client.handle_response(now, status);
                }
                self.poll_cancel_client(Some(status));
            }
        }
    }

    /// 9.1: not before a provisional response, not after a final one.
    fn cancel(&mut self) {
        let now = self.now;
        let Some(client) = self.client.as_mut().filter(|client| !client.is_done()) else { return };
        if !client.has_provisional() {
            self.cancel_wanted = true;
            return;
        }
        client.handle_cancel_sent(now);
        self.seen.cancels += 1;
        self.cancel_client = Some(Client::non_invite(now, self.weather.reliable, "CANCEL".into()));
        self.poll_cancel_client(None);
    }

    fn poll_cancel_client(&mut self, handled: Option<StatusCode>) {
        while let Some(output) = self.cancel_client.as_mut().and_then(Client::poll_output) {
            match output {
                ClientOutput::Send(_) => self.send(Event::Cancel),
                ClientOutput::BuildAck => unreachable!("CANCEL has no ACK"),
                ClientOutput::Response => self.seen.cancel_outcomes.push(handled),
                ClientOutput::Timeout => self.seen.cancel_outcomes.push(None),
                ClientOutput::Terminated => self.cancel_client = None,
            }
        }
    }

    fn poll_cancel_server(&mut self) {
        while let Some(output) = self.cancel_server.as_mut().and_then(Server::poll_output) {
            match output {
                ServerOutput::Send(bytes) => self.send(Event::CancelResponse(status_of(&bytes))),
                ServerOutput::Trying | ServerOutput::AckTimeout => unreachable!("answered at once"),
                ServerOutput::Terminated => self.cancel_server = None,
            }
        }
    }

    /// The server's user sees a request, and makes up its mind.
    fn arrives_anew(&mut self) {
        self.seen.requests_at_user += 1;
        let (now, reliable) = (self.now, self.weather.reliable);
        let finals = [
            StatusCode::OK,
            StatusCode::OK,
            StatusCode::MOVED_TEMPORARILY,
            StatusCode::BUSY_HERE,
            StatusCode::DECLINE,
        ];
        let status = finals[self.random.below(finals.len() as u64) as usize];
        // At once, within the 200 ms, or after some thought.
        let thought = [0, 150, 5_000][self.random.below(3) as usize];
        let when = now + ms(self.random.below(thought + 1));
        if self.weather.invite {
            self.server = Some(Server::invite(now, reliable));
            if self.random.percent(50) {
                self.at(now + ms(100), Event::Answer(StatusCode::RINGING));
            }
        } else {
            self.server = Some(Server::non_invite(now, reliable));
        }
        if self.weather.invite || !self.random.percent(10) {
            self.at(when, Event::Answer(status));
        }
    }

    fn poll_client(&mut self, handled: Option<StatusCode>) {
        while let Some(output) = self.client.as_mut().and_then(Client::poll_output) {
            match output {
                ClientOutput::Send(bytes) if bytes == "ACK" => self.send(Event::Ack),
                ClientOutput::Send(_) => self.send(Event::Request),
                ClientOutput::BuildAck => {
                    self.client.iter_mut().for_each(|client| client.handle_ack_built("ACK".into()));
                }
                ClientOutput::Response => {
                    let status = handled.expect("a response was handled");
                    if status.is_final() {
                        self.seen.finals_at_user.push(status);
                    }
                    if self.weather.invite && status.is_success() {
                        self.send(Event::AckOf2xx);
                    }
                }
                ClientOutput::Timeout => self.seen.timeouts += 1,
                ClientOutput::Terminated => self.client = None,
            }
        }
    }

    fn poll_server(&mut self) {
        while let Some(output) = self.server.as_mut().and_then(Server::poll_output) {
            match output {
                ServerOutput::Send(bytes) => {
                    let status = status_of(&bytes);
                    self.seen.finals_sent += u32::from(status.is_final());
                    self.send(Event::Response(status));
                }
                ServerOutput::Trying => {
                    let now = self.now;
                    self.server.iter_mut().for_each(|server| {
                        assert!(server.handle_response(now, StatusCode::TRYING, "100".into()));
                    });
                }
                ServerOutput::AckTimeout => self.seen.ack_timeouts += 1,
                ServerOutput::Terminated => self.server = None,
            }
        }
    }
}

fn status_of(bytes: &[u8]) -> StatusCode {
    let code = std::str::from_utf8(bytes).ok().and_then(|code| code.parse().ok());
    code.and_then(StatusCode::new).expect("bytes are a status code")
}

/// Names the run that failed, whatever failed in it.
struct Named(u64, Weather);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with seed {} in {:?}", self.0, self.1);
        }
    }
}

/// What holds in any weather.
fn check(seed: u64, weather: Weather) -> Seen {
    let _named = Named(seed, weather);
    let seen = Pair::new(seed, weather).run();
    let context = || format!("seed {seed}, {weather:?}: {seen:?}");
    assert!(seen.requests_at_user <= 1, "seen once: {}", context());
    assert_eq!(seen.timeouts, u32::from(!seen.final_was_delivered), "a final or a timeout: {}", context());
    assert_eq!(seen.final_was_delivered, !seen.finals_at_user.is_empty(), "{}", context());
    assert!(
        seen.finals_at_user.iter().all(|&status| Some(status) == seen.answer),
        "the answer that was given: {}",
        context()
    );
    let is_2xx_of_invite = weather.invite && seen.answer.is_some_and(StatusCode::is_success);
    if !is_2xx_of_invite {
        // Every 2xx to an INVITE is passed up, duplicates included (RFC 6026 7.2).
        assert!(seen.finals_at_user.len() <= 1, "one final: {}", context());
    }
    assert!(seen.cancels <= 1 && seen.cancels_at_server <= seen.cancels, "cancelled once: {}", context());
    assert_eq!(seen.cancel_outcomes.len(), seen.cancels as usize, "an answer or a timeout: {}", context());
    // Retransmissions by timers: at most 11 requests, 11 responses; the network and replies to copies only multiply that.
    assert!(seen.sent <= 150, "traffic is bounded: {}", context());
    seen
}

fn udp(invite: bool, loss_percent: u64, seed: u64) -> Weather {
    Weather {
        invite,
        reliable: false,
        cancel_within_ms: None,
        loss_percent,
        double_percent: (seed % 4) * 20,
        max_delay_ms: [5, 80, 300, 450][(seed / 4 % 4) as usize],
    }
}

const SEEDS: u64 = 600;

#[test]
fn non_invite_over_a_lossy_link_gets_one_final_rfc3261_17_1_2() {
    for loss_percent in [0, 10, 30, 60, 90] {
        for seed in 0..SEEDS {
            check(seed, udp(false, loss_percent, seed));
        }
    }
}

#[test]
fn invite_over_a_lossy_link_gets_one_final_rfc3261_17_1_1() {
    for loss_percent in [0, 10, 30, 60, 90] {
        for seed in 0..SEEDS {
            check(seed, udp(true, loss_percent, seed));
        }
    }
}

#[test]
fn nothing_but_a_silent_user_times_out_where_nothing_is_lost() {
    for seed in 0..SEEDS {
        for invite in [false, true] {
            let seen = check(seed, udp(invite, 0, seed));
            assert_eq!(seen.requests_at_user, 1);
            assert_eq!(seen.timeouts, u32::from(seen.answer.is_none()), "seed {seed}: {seen:?}");
            assert_eq!(seen.ack_timeouts, 0, "seed {seed}: {seen:?}");
        }
    }
}

#[test]
fn little_loss_costs_nobody_an_answer_rfc3261_17() {
    for seed in 0..SEEDS {
        for invite in [false, true] {
            let seen = check(seed, udp(invite, 10, seed));
            assert_eq!(seen.requests_at_user, 1);
            assert_eq!(seen.timeouts, u32::from(seen.answer.is_none()), "seed {seed}: {seen:?}");
            assert_eq!(seen.ack_timeouts, 0, "the ACK comes through: seed {seed}: {seen:?}");
        }
    }
}

#[test]
fn all_lost_is_a_timeout_and_no_more_rfc3261_17_1() {
    for invite in [false, true] {
        let seen = check(1, udp(invite, 100, 1));
        assert_eq!((seen.requests_at_user, seen.timeouts), (0, 1));
        assert_eq!(seen.sent, if invite { 7 } else { 11 });
    }
}

#[test]
fn nothing_is_sent_twice_over_a_reliable_transport_rfc3261_17() {
    for seed in 0..SEEDS {
        for invite in [false, true] {
            let weather =
                Weather { reliable: true, double_percent: 0, max_delay_ms: 40, ..udp(invite, 0, seed) };
            let seen = check(seed, weather);
            assert_eq!(seen.requests_at_user, 1);
            // Request, at most two provisionals, final, ACK; no final where the user is silent.
            assert!(seen.sent <= 5, "seed {seed}: {seen:?}");
            assert_eq!(
                seen.finals_at_user.len(),
                usize::from(seen.answer.is_some()),
                "seed {seed}: {seen:?}"
            );
        }
    }
}

#[test]
fn a_cancelled_invite_gets_one_final_whoever_is_first_rfc3261_9() {
    let (mut terminated, mut too_late, mut never_sent) = (0, 0, 0);
    for loss_percent in [0, 10, 30, 60, 90] {
        for seed in 0..SEEDS {
            for reliable in [false, true] {
                let cancel_within_ms = Some([30, 500, 6_000][(seed % 3) as usize]);
                let weather = Weather { reliable, cancel_within_ms, ..udp(true, loss_percent, seed) };
                let seen = check(seed, weather);
                terminated += u32::from(seen.answer == Some(StatusCode::REQUEST_TERMINATED));
                too_late +=
                    u32::from(seen.cancels == 1 && seen.answer != Some(StatusCode::REQUEST_TERMINATED));
                never_sent += u32::from(seen.cancels == 0);
                if loss_percent == 0 {
                    assert_eq!(seen.timeouts, 0, "seed {seed}: {seen:?}");
                    assert_eq!(seen.finals_at_user.first().copied(), seen.answer, "seed {seed}: {seen:?}");
                    assert!(seen.cancel_outcomes.iter().all(|&outcome| outcome == Some(StatusCode::OK)));
                }
            }
        }
    }
    assert!(terminated > 100 && too_late > 10 && never_sent > 100, "{terminated} {too_late} {never_sent}");
}

#[test]
fn a_copy_that_comes_while_the_answer_is_kept_gets_it_again_rfc3261_17_2_2() {
    for seed in 0..SEEDS {
        let mut pair = Pair::new(seed, udp(false, 0, seed));
        // The user has answered within 5 s, if at all; Timer J is 32 s.
        for s in [8, 20, 31] {
            pair.at(pair.now + secs(s), Event::Request);
        }
        let seen = pair.run();
        assert_eq!(seen.requests_at_user, 1, "seed {seed}: {seen:?}");
        let copies = if seen.answer.is_some() { 4 } else { 0 };
        assert!(seen.finals_sent >= copies, "seed {seed}: {seen:?}");
        assert_eq!(seen.finals_at_user.len(), seen.answer.is_some() as usize, "seed {seed}: {seen:?}");
    }
}

// 6026-8.7
#[test]
fn invite_that_comes_after_timer_l_is_new_rfc6026_8_7() {
    let mut accepted = 0;
    for seed in 0..50 {
        let mut pair = Pair::new(seed, udp(true, 0, seed));
        // The user thinks for 5 s at most, so that Timers L and H have fired by then.
        pair.at(pair.now + secs(38), Event::Request);
        let seen = pair.run();
        assert_eq!(seen.requests_at_user, 2, "seed {seed}: {seen:?}");
        accepted += u32::from(seen.finals_at_user.contains(&StatusCode::OK));
    }
    assert!(accepted > 0, "some were accepted");
}

#[test]
fn delays_are_shorter_than_what_timers_j_and_l_leave() {
    // The bound on delays in `Weather` follows from these two being equal (RFC 6026 8.7: L matches B).
    assert_eq!(T1_64, T1 * 64);
    assert!(udp(true, 0, 15).max_delay_ms < T1.as_millis() as u64);
}

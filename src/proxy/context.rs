//! The response context: one request, its target set, its branches, and which responses go back (RFC 3261 16.5 to 16.10, RFC 5393
//! 5.3.3). A machine.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::sip::{HeaderName, Response, StatusCode};

/// What the proxy must do now.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "outputs are performed where they are made")]
pub enum Output {
    /// Send the request to the target of this number.
    Start {
        /// Which target; its branch bears the same number.
        branch: u32,
        /// The Max-Breadth to write.
        breadth: u32,
    },
    /// Pass this response on, without our Via.
    Forward(Response),
    /// Pass this final response on as the best one, with challenge rows of the other branches (16.7 step 7).
    ForwardBest {
        /// The best response.
        response: Response,
        /// Challenge rows of other branches.
        challenges: Vec<(HeaderName, Vec<u8>)>,
    },
    /// Answer with a final of our own.
    Respond(StatusCode),
    /// Cancel that branch; `completed_elsewhere` chooses the Reason (RFC 3326).
    Cancel {
        /// Which.
        branch: u32,
        /// Another branch answered (or else the caller gave up).
        completed_elsewhere: bool,
    },
}

/// How a branch ended without a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No final response: 408 (16.7 step 1, 8.1.3.1).
    Timeout,
    /// Could not be delivered: 503 (16.9).
    Transport,
    /// The flow to the device is gone (RFC 5626 5.3.1).
    FlowGone,
    /// Too large for the only transport there is (RFC 3428 8).
    TooLarge,
    /// Cancelled before it was sent.
    Cancelled,
}

impl Failure {
    /// What stands for it among the responses.
    pub fn status(self) -> StatusCode {
        match self {
            Failure::Timeout => StatusCode::REQUEST_TIMEOUT,
            Failure::Transport => StatusCode::SERVICE_UNAVAILABLE,
            Failure::FlowGone => StatusCode::FLOW_FAILED,
            Failure::TooLarge => StatusCode::REQUEST_ENTITY_TOO_LARGE,
            Failure::Cancelled => StatusCode::REQUEST_TERMINATED,
        }
    }
}

/// In which order targets are tried.
#[derive(Debug, Clone, Copy)]
pub struct Forking {
    /// INVITE, whose branches ring, are cancelled and may be joined by late targets.
    pub is_invite: bool,
    /// Timer C, over three minutes (16.6 step 11); only for INVITE.
    pub timer_c: Duration,
    /// Who waits for whom.
    pub order: Order,
    /// A 2xx does not end the other branches (Request-Disposition `no-cancel`, RFC 3841 9.1).
    pub no_cancel: bool,
    /// How long targets of an INVITE ring while others wait for their turn; how long those of another request may be silent.
    pub ring: Duration,
    /// Incoming Max-Breadth (RFC 5393 5.3.3), at least 1: the sum over branches without a final response stays below or equal.
    pub breadth: u32,
}

/// Who waits for whom (16.6: a proxy may forward to targets in parallel or serially; 16.5: `q` tells in which order).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// All targets at once.
    Parallel,
    /// Targets of the same `q` at once; those of a lower one wait until they have ended, or have rung long enough.
    ByQ,
    /// One after the other (Request-Disposition `sequential`, RFC 3841 9.1).
    Sequential,
}

/// The context of one forwarded request.
#[derive(Debug)]
pub struct Context {
    forking: Forking,
    branches: SmallVec<[Branch; 1]>,
    /// When the present targets have rung long enough, if others wait.
    rung: Option<Instant>,
    /// A final response has gone upstream.
    answered: bool,
    /// The caller gave up.
    cancelled: bool,
    /// Somebody answered 6xx: no new branches (16.7 step 5).
    declined: bool,
    outputs: Outputs,
}

/// What is to be done, the first first. Room is made for one: most contexts have one output in their life, and each may hold a response.
type Outputs = SmallVec<[Output; 1]>;

#[derive(Debug)]
struct Branch {
    /// In thousandths.
    q: u16,
    /// Max-Breadth it was sent with.
    breadth: u32,
    state: State,
    cancelled: bool,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "few branches, seldom moved")]
enum State {
    /// Not sent yet.
    Waiting,
    /// No provisional response yet. Timer C runs for INVITE.
    Calling { timer_c: Option<Instant> },
    /// A provisional response came.
    Proceeding { timer_c: Option<Instant> },
    /// Ended with a response.
    Final(Response),
    /// Ended without.
    Failed(StatusCode),
    /// Its 2xx has gone upstream.
    Succeeded,
    /// Ended without a say in the answer: never sent, or its Contacts were tried instead (16.7 step 4).
    Passed,
}

impl Context {
    /// A context with these targets, given by their `q` in thousandths, best first. The first of them start at once.
    pub fn new(forking: Forking, targets: impl IntoIterator<Item = u16>, now: Instant) -> Context {
        let mut context = Context {
            forking,
            outputs: Outputs::new(),
            branches: targets.into_iter().take(MAX_BRANCHES).map(Branch::waiting).collect(),
            rung: None,
            answered: false,
            cancelled: false,
            declined: false,
        };
        context.advance(now);
        context
    }

    /// One more target, found while the request is pending (16.5). Returns its number, or `None` if it is too late for one.
    pub fn handle_target(&mut self, q: u16, now: Instant) -> Option<u32> {
        if !self.is_open() {
            return None;
        }
        let number = u32::try_from(self.branches.len()).ok()?;
        self.branches.push(Branch::waiting(q));
        self.advance(now);
        Some(number)
    }

    /// May a target still be added?
    pub fn is_open(&self) -> bool {
        !(self.answered || self.cancelled || self.declined) && self.branches.len() < MAX_BRANCHES
    }

    /// A response to a branch.
    pub fn handle_response(&mut self, branch: u32, response: Response, now: Instant) {
        let status = response.status();
        let Forking { is_invite, timer_c, .. } = self.forking;
        let Some(at) = self.branch(branch) else { return };
        if status.is_provisional() {
            if !at.is_sent() {
                return;
            }
            if status == StatusCode::TRYING {
                // 16.7 step 2: 100 is not forwarded and does not reset timer C.
                if let State::Calling { timer_c } = at.state {
                    at.state = State::Proceeding { timer_c };
                }
                return;
            }
            if !at.cancelled {
                at.state = State::Proceeding { timer_c: is_invite.then(|| now + timer_c) };
            }
            // 16.7 step 5; RFC 4320 4.1: no provisional but 100 for anything but INVITE.
            if is_invite && !self.answered {
                self.outputs.push(Output::Forward(response));
            }
            return;
        }
        if status.is_success() {
            // 16.7 step 5: every 2xx to an INVITE goes upstream; of a non-INVITE only the first.
            at.state = State::Succeeded;
            if is_invite || !self.answered {
                self.outputs.push(Output::Forward(response));
            }
            self.answered = true;
            return if self.forking.no_cancel { self.stop_waiting() } else { self.give_up(true) };
        }
        if !at.is_sent() {
            return;
        }
        at.state = State::Final(response);
        if status.code() >= 600 {
            // 16.7 step 5: not forwarded at once, but the others are cancelled and no new ones are opened.
            self.declined = true;
            self.give_up(true);
        }
        self.advance(now);
    }

    /// A 3xx whose Contacts, or some of them, are tried instead (16.7 step 4).
    ///
    /// - `kept`: the response with the Contacts that are left; `None` if there are none.
    /// - `targets`: `q` of each new target, in thousandths.
    ///
    /// Returns how many targets were taken on; their numbers follow those that were there. 0: it is too late.
    pub fn handle_redirection(
        &mut self,
        branch: u32,
        kept: Option<Response>,
        targets: impl IntoIterator<Item = u16>,
        now: Instant,
    ) -> usize {
        let before = self.branches.len();
        let room = if self.is_open() { MAX_BRANCHES.saturating_sub(before) } else { 0 };
        let Some(at) = self.branch(branch).filter(|at| at.is_sent()) else { return 0 };
        at.state = kept.map_or(State::Passed, State::Final);
        self.branches.extend(targets.into_iter().take(room).map(Branch::waiting));
        let taken = self.branches.len() - before;
        self.advance(now);
        taken
    }

    /// The branch begins again with the next address of its target (RFC 3263 4.3). `false`: it must not, it is cancelled or ended.
    pub fn handle_retry(&mut self, branch: u32, now: Instant) -> bool {
        let due = self.forking.is_invite.then(|| now + self.forking.timer_c);
        match self.branch(branch) {
            Some(at) if at.is_sent() && !at.cancelled => {
                at.state = State::Calling { timer_c: due };
                true
            }
            _ => false,
        }
    }

    /// A branch ended without a response.
    pub fn handle_failure(&mut self, branch: u32, failure: Failure, now: Instant) {
        let Some(at) = self.branch(branch) else { return };
        if !at.is_sent() {
            return;
        }
        at.state = State::Failed(failure.status());
        self.advance(now);
    }

    /// The caller cancelled (16.10).
    pub fn handle_cancel(&mut self, now: Instant) {
        if self.answered {
            return;
        }
        self.cancelled = true;
        self.give_up(false);
        self.advance(now);
    }

    /// Timer C (16.8): a branch with a provisional is cancelled, one without is treated as 408. Targets that have rung long enough
    /// are cancelled too, and the next ones have their turn.
    pub fn handle_timeout(&mut self, now: Instant) {
        for (number, branch) in (0..).zip(&mut self.branches) {
            match branch.state {
                State::Calling { timer_c: Some(due) } if due <= now => {
                    branch.state = State::Failed(StatusCode::REQUEST_TIMEOUT);
                }
                State::Proceeding { timer_c: Some(due) } if due <= now && !branch.cancelled => {
                    branch.cancel(number, now, &mut self.outputs);
                }
                State::Proceeding { timer_c: Some(due) } if due <= now => {
                    branch.state = State::Failed(StatusCode::REQUEST_TIMEOUT);
                }
                _ => {}
            }
        }
        if self.rung.is_some_and(|due| due <= now) && !self.forking.is_invite {
            self.handle_busy(now);
        }
        if self.rung.is_some_and(|due| due <= now) {
            self.rung = None;
            for (number, branch) in (0..).zip(&mut self.branches) {
                if branch.is_sent() && !branch.cancelled {
                    branch.cancel(number, now, &mut self.outputs);
                }
            }
        }
        self.advance(now);
    }

    /// A target of a request that is no INVITE does not answer, or cannot be asked yet: nobody waits for it any longer. It goes on; only INVITE is
    /// cancelled (9.1).
    pub fn handle_busy(&mut self, now: Instant) {
        self.rung = None;
        self.forking.order = match self.forking.order {
            Order::ByQ => Order::Parallel,
            Order::Sequential => Order::Sequential,
            Order::Parallel => Order::Parallel,
        };
        self.advance(now);
    }

    /// Was this branch sent, or is it about to be, and has no final response yet?
    pub fn is_pending(&self, branch: u32) -> bool {
        let at = usize::try_from(branch).ok().and_then(|at| self.branches.get(at));
        at.is_some_and(Branch::is_sent)
    }

    /// Was this branch cancelled? Then it must not be sent any more.
    pub fn is_cancelled(&self, branch: u32) -> bool {
        usize::try_from(branch)
            .ok()
            .and_then(|at| self.branches.get(at))
            .is_some_and(|branch| branch.cancelled)
    }

    /// Have all branches ended and was the request answered? From here on nothing but further 2xx of ended branches can come (RFC 6026 7.2).
    pub fn is_over(&self) -> bool {
        self.answered && !self.branches.iter().any(Branch::is_sent)
    }

    /// How each branch ended that has no part in the answer that goes upstream; `true`: the status is ours, nobody answered it.
    pub fn others(&self) -> impl Iterator<Item = (StatusCode, bool)> {
        self.branches.iter().filter_map(|branch| match &branch.state {
            State::Final(response) => Some((response.status(), false)),
            State::Failed(status) => Some((*status, true)),
            State::Waiting
            | State::Calling { .. }
            | State::Proceeding { .. }
            | State::Succeeded
            | State::Passed => None,
        })
    }

    /// When to call `handle_timeout`.
    pub fn next_timeout(&self) -> Option<Instant> {
        let due = |branch: &Branch| match branch.state {
            State::Calling { timer_c } | State::Proceeding { timer_c } => timer_c,
            State::Waiting | State::Final(_) | State::Failed(_) | State::Succeeded | State::Passed => None,
        };
        self.branches.iter().filter_map(due).chain(self.rung).min()
    }

    /// What to do; call until `None` after `new` and every `handle_*`.
    pub fn poll_output(&mut self) -> Option<Output> {
        (!self.outputs.is_empty()).then(|| self.outputs.remove(0))
    }

    fn branch(&mut self, number: u32) -> Option<&mut Branch> {
        self.branches.get_mut(usize::try_from(number).ok()?)
    }

    /// 16.7 step 10 and 16.10: who was tried is cancelled; CANCEL is for INVITE alone.
    fn give_up(&mut self, completed_elsewhere: bool) {
        self.stop_waiting();
        for (branch, at) in (0..).zip(&mut self.branches) {
            if self.forking.is_invite && at.is_sent() && !at.cancelled {
                at.cancelled = true;
                self.outputs.push(Output::Cancel { branch, completed_elsewhere });
            }
        }
    }

    /// Nobody else is tried.
    fn stop_waiting(&mut self) {
        self.rung = None;
        for branch in self.branches.iter_mut().filter(|branch| matches!(branch.state, State::Waiting)) {
            branch.state = State::Passed;
        }
    }

    /// After every event: whoever has a turn is started; if nobody is left, the best response goes upstream (16.7 step 6).
    fn advance(&mut self, now: Instant) {
        if self.answered {
            return;
        }
        self.start(now);
        if !self.branches.iter().any(|branch| branch.is_sent() || matches!(branch.state, State::Waiting)) {
            self.conclude();
        }
    }

    /// Starts the targets whose turn it is, as far as Max-Breadth goes (RFC 5393 5.3.3; what ended branches had is used again, 5.3.3.1).
    fn start(&mut self, now: Instant) {
        let waits = |branch: &&Branch| matches!(branch.state, State::Waiting);
        let Some(best) = self.branches.iter().filter(waits).map(|branch| branch.q).max() else { return };
        let alive = |branch: &&Branch| branch.is_sent() && !branch.cancelled;
        // Whoever is being tried now keeps those of a lower q waiting.
        let present = self.branches.iter().filter(alive).map(|branch| branch.q).max();
        let floor = match (self.forking.order, present) {
            (Order::Parallel, _) => 0,
            (Order::ByQ, Some(present)) if best < present => return,
            (Order::Sequential, Some(_)) => return,
            (Order::ByQ | Order::Sequential, _) => best,
        };
        let used: u32 = self.branches.iter().filter(|b| b.is_sent()).map(|b| b.breadth).sum();
        let mut free = self.forking.breadth.saturating_sub(used);
        let mut ready: SmallVec<[usize; 4]> = (0..self.branches.len())
            .filter(|at| waits(&&self.branches[*at]) && self.branches[*at].q >= floor)
            .collect();
        ready.sort_by_key(|at| std::cmp::Reverse(self.branches[*at].q));
        let at_once = if self.forking.order == Order::Sequential { free.min(1) } else { free };
        ready.truncate(usize::try_from(at_once).unwrap_or(usize::MAX));
        let waiting = self.branches.iter().filter(waits).count() - ready.len();
        // Each that waits, and each that may come late, will need one of its own.
        let late = if self.forking.is_invite { LATE } else { 0 };
        let reserve = u32::try_from(waiting).unwrap_or(u32::MAX).saturating_add(late);
        let timer_c = self.forking.is_invite.then(|| now + self.forking.timer_c);
        for (done, at) in ready.iter().enumerate() {
            let left = u32::try_from(ready.len() - done).unwrap_or(u32::MAX);
            let breadth = (free.saturating_sub(reserve) / left).max(1);
            free = free.saturating_sub(breadth);
            let branch = &mut self.branches[*at];
            (branch.state, branch.breadth) = (State::Calling { timer_c }, breadth);
            self.outputs.push(Output::Start { branch: u32::try_from(*at).unwrap_or(u32::MAX), breadth });
        }
        if present.is_none() && !ready.is_empty() {
            let is_timed = self.forking.is_invite || self.forking.order == Order::ByQ;
            self.rung = (waiting > 0 && is_timed).then(|| now + self.forking.ring);
        }
    }

    fn conclude(&mut self) {
        self.answered = true;
        let best =
            (0..self.branches.len()).filter(|at| self.rank(*at).is_some()).min_by_key(|at| self.rank(*at));
        let Some(best) = best else {
            return self.outputs.push(Output::Respond(StatusCode::TEMPORARILY_UNAVAILABLE));
        };
        let challenges = self.challenges_beside(best);
        let branch = &mut self.branches[best];
        match std::mem::replace(&mut branch.state, State::Succeeded) {
            State::Final(response) if response.status() == StatusCode::SERVICE_UNAVAILABLE => {
                // 16.7 step 6: 503 speaks of the next hop, not of us.
                self.outputs.push(Output::Respond(StatusCode::SERVER_INTERNAL_ERROR));
            }
            State::Final(response) => self.outputs.push(Output::ForwardBest { response, challenges }),
            State::Failed(status) => {
                let status = match status {
                    StatusCode::REQUEST_TIMEOUT if self.cancelled => StatusCode::REQUEST_TERMINATED,
                    StatusCode::SERVICE_UNAVAILABLE => StatusCode::SERVER_INTERNAL_ERROR,
                    // All flows of the user are gone: for the caller the user is unavailable (RFC 5626 7).
                    StatusCode::FLOW_FAILED => StatusCode::TEMPORARILY_UNAVAILABLE,
                    other => other,
                };
                self.outputs.push(Output::Respond(status));
            }
            State::Waiting
            | State::Calling { .. }
            | State::Proceeding { .. }
            | State::Succeeded
            | State::Passed => {}
        }
    }

    /// Smaller is better: 6xx, then the lowest class, within 4xx what helps a retry, real responses before failures of ours.
    fn rank(&self, at: usize) -> Option<(u16, u8)> {
        let (status, ours) = match &self.branches[at].state {
            State::Final(response) => (response.status(), 0),
            State::Failed(status) => (*status, 1),
            State::Waiting
            | State::Calling { .. }
            | State::Proceeding { .. }
            | State::Succeeded
            | State::Passed => return None,
        };
        let class = if status.code() >= 600 { 0 } else { status.code() / 100 };
        let within = match status {
            StatusCode::UNAUTHORIZED
            | StatusCode::PROXY_AUTHENTICATION_REQUIRED
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::BAD_EXTENSION
            | StatusCode::ADDRESS_INCOMPLETE => 0,
            StatusCode::SERVICE_UNAVAILABLE => 4,
            // Silence says less than any answer.
            StatusCode::REQUEST_TIMEOUT | StatusCode::FLOW_FAILED => 3,
            _ => 1 + ours,
        };
        Some((class, within))
    }

    /// 16.7 step 7: a 401 or 407 carries the challenges of all branches.
    fn challenges_beside(&self, best: usize) -> Vec<(HeaderName, Vec<u8>)> {
        let is_challenge = |status| {
            status == StatusCode::UNAUTHORIZED || status == StatusCode::PROXY_AUTHENTICATION_REQUIRED
        };
        let State::Final(response) = &self.branches[best].state else { return Vec::new() };
        if !is_challenge(response.status()) {
            return Vec::new();
        }
        let mut rows = Vec::new();
        for (at, branch) in self.branches.iter().enumerate() {
            let State::Final(response) = &branch.state else { continue };
            if at == best || !is_challenge(response.status()) {
                continue;
            }
            for name in [HeaderName::WwwAuthenticate, HeaderName::ProxyAuthenticate] {
                rows.extend(response.values(name).map(|value| (name, value.to_vec())));
            }
        }
        rows
    }
}

impl Branch {
    fn waiting(q: u16) -> Branch {
        Branch { q, breadth: 0, state: State::Waiting, cancelled: false }
    }

    /// Sent, and without a final response.
    fn is_sent(&self) -> bool {
        matches!(self.state, State::Calling { .. } | State::Proceeding { .. })
    }

    /// The 487 is awaited for as long as a transaction may take, then the branch counts as timed out.
    fn cancel(&mut self, branch: u32, now: Instant, outputs: &mut Outputs) {
        self.cancelled = true;
        self.state = State::Proceeding { timer_c: Some(now + AFTER_CANCEL) };
        outputs.push(Output::Cancel { branch, completed_elsewhere: false });
    }
}

/// How long a cancelled branch may take to say so (64*T1).
const AFTER_CANCEL: Duration = Duration::from_secs(32);
/// Targets of one request, late ones and those of redirections included.
const MAX_BRANCHES: usize = 60;
/// Max-Breadth of an INVITE that is kept for devices that register while it rings, as long as there is that much.
const LATE: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    const TIMER_C: Duration = Duration::from_secs(181);

    #[expect(clippy::disallowed_methods, reason = "a base for virtual time")]
    fn base() -> Instant {
        Instant::now()
    }

    fn response(status: u16, extra: &str) -> Response {
        let text = format!(
            "SIP/2.0 {status} X\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKus\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\n\
             From: <sip:a@x>;tag=1\r\nTo: <sip:b@x>;tag=2\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n{extra}Content-Length: 0\r\n\r\n"
        );
        match crate::sip::Message::parse(text.into(), true, &crate::sip::Limits::default()) {
            Ok(crate::sip::Message::Response(response)) => response,
            other => panic!("{other:?}"),
        }
    }

    /// `S0/25`: branch 0 starts with Max-Breadth 25; `F180`: forwarded; `B486`: best; `R408`: our own; `C1`: cancel branch 1.
    fn outputs(context: &mut Context) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(output) = context.poll_output() {
            all.push(match output {
                Output::Start { branch, breadth } => format!("S{branch}/{breadth}"),
                Output::Forward(response) => format!("F{}", response.status().code()),
                Output::ForwardBest { response, challenges } => {
                    format!("B{}+{}", response.status().code(), challenges.len())
                }
                Output::Respond(status) => format!("R{}", status.code()),
                Output::Cancel { branch, .. } => format!("C{branch}"),
            });
        }
        all
    }

    const FORKING: Forking = Forking {
        is_invite: true,
        timer_c: TIMER_C,
        order: Order::ByQ,
        no_cancel: false,
        ring: Duration::from_secs(20),
        breadth: 60,
    };

    /// An INVITE to so many targets of the same q, all of them started.
    fn calling(targets: usize, now: Instant) -> Context {
        let mut context = Context::new(FORKING, vec![1_000; targets], now);
        assert_eq!(outputs(&mut context).len(), targets);
        context
    }

    /// The same with another request.
    fn asking(targets: usize, now: Instant) -> Context {
        let forking = Forking { is_invite: false, order: Order::Parallel, ..FORKING };
        let mut context = Context::new(forking, vec![1_000; targets], now);
        assert_eq!(outputs(&mut context).len(), targets);
        context
    }

    #[test]
    fn provisionals_and_the_2xx_go_upstream_and_the_losers_are_cancelled_rfc3261_16_7() {
        let now = base();
        let mut context = calling(2, now);
        context.handle_response(0, response(100, ""), now);
        context.handle_response(0, response(180, ""), now);
        context.handle_response(1, response(183, ""), now);
        assert_eq!(outputs(&mut context), ["F180", "F183"]);
        context.handle_response(1, response(200, ""), now);
        assert_eq!(outputs(&mut context), ["F200", "C0"]);
        context.handle_response(0, response(487, ""), now);
        assert!(outputs(&mut context).is_empty());
    }

    #[test]
    fn a_context_is_over_when_it_is_answered_and_its_last_branch_has_ended() {
        let now = base();
        let mut context = calling(2, now);
        context.handle_response(0, response(200, ""), now);
        assert!(!context.is_over(), "the other branch is yet to say 487");
        context.handle_response(1, response(487, ""), now);
        assert!(context.is_over() && context.next_timeout().is_none());
        assert_eq!(outputs(&mut context), ["F200", "C1"]);
        context.handle_response(0, response(200, ""), now);
        assert_eq!(outputs(&mut context), ["F200"], "a further 2xx of the same branch");
    }

    /// A request that is no INVITE for one target, and for one that is asked later.
    fn asking_one_first(now: Instant) -> Context {
        let forking =
            Forking { is_invite: false, order: Order::ByQ, ring: Duration::from_secs(4), ..FORKING };
        let mut context = Context::new(forking, [1_000, 0], now);
        assert_eq!(outputs(&mut context), ["S0/59"]);
        context
    }

    #[test]
    fn a_silent_target_is_waited_for_and_not_cancelled_when_the_next_one_is_asked() {
        let now = base();
        let mut context = asking_one_first(now);
        let due = context.next_timeout().unwrap();
        assert_eq!(due, now + Duration::from_secs(4));
        context.handle_timeout(now + Duration::from_secs(3));
        assert!(outputs(&mut context).is_empty());
        context.handle_timeout(due);
        assert_eq!(outputs(&mut context), ["S1/1"]);
        assert!(context.is_pending(0) && context.is_pending(1) && context.next_timeout().is_none());
        context.handle_response(0, response(200, ""), due);
        assert_eq!(outputs(&mut context), ["F200"]);
        assert!(!context.is_over(), "the other one is on its way");
    }

    #[test]
    fn a_target_that_refuses_or_fails_or_is_busy_gives_the_turn_to_the_next_one() {
        let now = base();
        let mut context = asking_one_first(now);
        context.handle_response(0, response(486, ""), now);
        assert_eq!(outputs(&mut context), ["S1/60"]);
        let mut context = asking_one_first(now);
        context.handle_failure(0, Failure::FlowGone, now);
        assert_eq!(outputs(&mut context), ["S1/60"]);
        let mut context = asking_one_first(now);
        context.handle_busy(now);
        assert_eq!(outputs(&mut context), ["S1/1"]);
        // Who has taken it has taken it.
        let mut context = asking_one_first(now);
        context.handle_response(0, response(200, ""), now);
        assert_eq!(outputs(&mut context), ["F200"]);
        assert!(context.is_over());
    }

    #[test]
    fn a_second_2xx_to_an_invite_goes_upstream_too_rfc3261_16_7_step_5() {
        let now = base();
        let mut context = calling(2, now);
        context.handle_response(0, response(200, ""), now);
        context.handle_response(1, response(200, ""), now);
        assert_eq!(outputs(&mut context), ["F200", "C1", "F200"]);
    }

    #[test]
    fn only_one_2xx_to_a_non_invite_goes_upstream_rfc3261_16() {
        let now = base();
        let mut context = asking(2, now);
        context.handle_response(0, response(200, ""), now);
        context.handle_response(1, response(200, ""), now);
        assert_eq!(outputs(&mut context), ["F200"]);
    }

    #[test]
    fn the_best_final_waits_for_all_branches_rfc3261_16_7_step_6() {
        let now = base();
        let mut context = calling(3, now);
        context.handle_response(0, response(500, ""), now);
        context.handle_response(1, response(486, ""), now);
        assert!(outputs(&mut context).is_empty());
        context.handle_failure(2, Failure::Timeout, now);
        assert_eq!(outputs(&mut context), ["B486+0"]);
    }

    #[test]
    fn a_6xx_wins_and_cancels_the_others_at_once_rfc3261_16_7_step_5() {
        let now = base();
        let mut context = calling(2, now);
        context.handle_response(0, response(603, ""), now);
        assert_eq!(outputs(&mut context), ["C1"]);
        context.handle_response(1, response(487, ""), now);
        assert_eq!(outputs(&mut context), ["B603+0"]);
    }

    #[test]
    fn challenges_of_all_branches_are_collected_rfc3261_16_7_step_7() {
        let now = base();
        let mut context = calling(2, now);
        context.handle_response(
            0,
            response(401, "WWW-Authenticate: Digest realm=\"a\", nonce=\"1\"\r\n"),
            now,
        );
        context.handle_response(
            1,
            response(407, "Proxy-Authenticate: Digest realm=\"b\", nonce=\"2\"\r\n"),
            now,
        );
        assert_eq!(outputs(&mut context), ["B401+1"]);
    }

    #[test]
    fn a_sole_503_becomes_500_and_no_answer_408_rfc3261_16_7_step_6() {
        let now = base();
        let mut context = calling(1, now);
        context.handle_response(0, response(503, ""), now);
        assert_eq!(outputs(&mut context), ["R500"]);
        let mut context = calling(1, now);
        context.handle_failure(0, Failure::Timeout, now);
        assert_eq!(outputs(&mut context), ["R408"]);
        let mut context = calling(1, now);
        context.handle_failure(0, Failure::Transport, now);
        assert_eq!(outputs(&mut context), ["R500"]);
        let mut context = calling(1, now);
        context.handle_failure(0, Failure::FlowGone, now);
        assert_eq!(outputs(&mut context), ["R480"]);
    }

    #[test]
    fn the_callers_cancel_reaches_every_branch_rfc3261_16_10() {
        let now = base();
        let mut context = calling(2, now);
        context.handle_response(0, response(180, ""), now);
        context.handle_cancel(now);
        assert_eq!(outputs(&mut context), ["F180", "C0", "C1"]);
        context.handle_response(0, response(487, ""), now);
        context.handle_failure(1, Failure::Timeout, now);
        assert_eq!(outputs(&mut context), ["B487+0"]);
    }

    #[test]
    fn a_branch_that_was_not_sent_before_the_cancel_ends_as_487_rfc3261_16_10() {
        let now = base();
        let mut context = calling(1, now);
        context.handle_cancel(now);
        assert!(context.is_cancelled(0));
        context.handle_failure(0, Failure::Cancelled, now);
        assert_eq!(outputs(&mut context), ["C0", "R487"]);
    }

    #[test]
    fn timer_c_cancels_a_ringing_branch_and_fails_a_silent_one_rfc3261_16_8() {
        let now = base();
        let mut context = calling(2, now);
        context.handle_response(0, response(100, ""), now);
        let ringing = now + Duration::from_secs(100);
        context.handle_response(0, response(180, ""), ringing);
        context.handle_timeout(now + TIMER_C);
        assert_eq!(outputs(&mut context), ["F180"], "101-199 resets timer C (16.7 step 2)");
        context.handle_timeout(ringing + TIMER_C);
        assert_eq!(outputs(&mut context), ["C0"]);
        context.handle_timeout(ringing + TIMER_C + AFTER_CANCEL);
        assert_eq!(outputs(&mut context), ["R408"]);
        assert_eq!(context.next_timeout(), None);
    }

    #[test]
    fn a_100_does_not_reset_timer_c_rfc3261_16_7_step_2() {
        let now = base();
        let mut context = calling(1, now);
        context.handle_response(0, response(100, ""), now + Duration::from_secs(60));
        assert_eq!(context.next_timeout(), Some(now + TIMER_C));
    }

    #[test]
    fn higher_q_first_and_the_same_q_at_once_rfc3261_16_6() {
        let now = base();
        let mut context = Context::new(FORKING, [1_000, 1_000, 500, 300], now);
        assert_eq!(outputs(&mut context), ["S0/24", "S1/24"]);
        context.handle_response(0, response(486, ""), now);
        assert!(outputs(&mut context).is_empty(), "the other one of this q still rings");
        context.handle_failure(1, Failure::FlowGone, now);
        assert_eq!(outputs(&mut context), ["S2/49"]);
        context.handle_response(2, response(404, ""), now);
        assert_eq!(outputs(&mut context), ["S3/50"]);
        context.handle_response(3, response(480, ""), now);
        assert_eq!(outputs(&mut context), ["B486+0"]);
    }

    #[test]
    fn who_has_rung_long_enough_is_cancelled_and_the_next_have_their_turn() {
        let now = base();
        let mut context = Context::new(FORKING, [1_000, 500], now);
        context.handle_response(0, response(180, ""), now);
        assert_eq!(outputs(&mut context), ["S0/49", "F180"]);
        let later = now + Duration::from_secs(20);
        assert_eq!(context.next_timeout(), Some(later));
        context.handle_timeout(later);
        assert_eq!(outputs(&mut context), ["C0", "S1/1"]);
        context.handle_response(0, response(487, ""), later);
        context.handle_timeout(later + Duration::from_secs(30));
        assert!(outputs(&mut context).is_empty(), "the last ones ring as long as Timer C lets them");
        context.handle_response(1, response(200, ""), later);
        assert_eq!(outputs(&mut context), ["F200"]);
    }

    #[test]
    fn a_6xx_opens_no_new_branch_rfc3261_16_7_step_5() {
        let now = base();
        let mut context = Context::new(FORKING, [1_000, 500], now);
        context.handle_response(0, response(603, ""), now);
        assert_eq!(outputs(&mut context), ["S0/49", "B603+0"]);
    }

    #[test]
    fn the_breadth_handed_out_never_exceeds_what_came_rfc5393_5_3_3() {
        let now = base();
        let forking = Forking { breadth: 2, order: Order::Parallel, ..FORKING };
        let mut context = Context::new(forking, [1_000, 900, 800], now);
        assert_eq!(outputs(&mut context), ["S0/1", "S1/1"]);
        // What an ended branch had is used again (5.3.3.1).
        context.handle_response(1, response(486, ""), now);
        assert_eq!(outputs(&mut context), ["S2/1"]);
        let mut context = Context::new(Forking { breadth: 1, ..FORKING }, [1_000, 1_000], now);
        assert_eq!(outputs(&mut context), ["S0/1"], "with one there is only one after the other");
    }

    #[test]
    fn a_request_that_nobody_joins_hands_all_its_breadth_on_rfc5393_5_3_3() {
        let now = base();
        let forking = Forking { is_invite: false, order: Order::Parallel, ..FORKING };
        assert_eq!(outputs(&mut Context::new(forking, [1_000], now)), ["S0/60"]);
        let all = outputs(&mut Context::new(forking, [1_000; 7], now));
        assert_eq!(all, ["S0/8", "S1/8", "S2/8", "S3/9", "S4/9", "S5/9", "S6/9"]);
    }

    #[test]
    fn a_device_that_registers_while_it_rings_joins_rfc3261_16_5() {
        let now = base();
        let mut context = calling(1, now);
        assert_eq!(context.handle_target(1_000, now), Some(1));
        assert_eq!(outputs(&mut context), ["S1/1"], "others may join as well");
        context.handle_response(1, response(200, ""), now);
        assert_eq!(outputs(&mut context), ["F200", "C0"]);
        assert_eq!(context.handle_target(1_000, now), None, "answered");
    }

    #[test]
    fn nobody_joins_what_is_cancelled_or_declined() {
        let now = base();
        let mut context = calling(1, now);
        context.handle_cancel(now);
        assert_eq!(context.handle_target(1_000, now), None);
        let mut context = calling(2, now);
        context.handle_response(0, response(600, ""), now);
        assert_eq!(context.handle_target(1_000, now), None);
    }

    #[test]
    fn contacts_of_a_3xx_are_tried_and_what_is_left_counts_rfc3261_16_7_step_4() {
        let now = base();
        let mut context = calling(1, now);
        assert_eq!(context.handle_redirection(0, None, [1_000, 500], now), 2);
        assert_eq!(outputs(&mut context), ["S1/49"]);
        context.handle_failure(1, Failure::Timeout, now);
        assert_eq!(outputs(&mut context), ["S2/50"]);
        let kept = Some(response(302, "Contact: <sip:c@elsewhere.example>\r\n"));
        context.handle_redirection(2, kept, [], now);
        assert_eq!(outputs(&mut context), ["B302+0"]);
    }

    #[test]
    fn a_branch_goes_on_to_the_next_address_unless_it_was_cancelled_rfc3263_4_3() {
        let now = base();
        let mut context = calling(1, now);
        assert!(context.handle_retry(0, now));
        context.handle_cancel(now);
        assert!(!context.handle_retry(0, now));
    }

    #[test]
    fn the_callers_cancel_ends_the_search_rfc3261_16_10() {
        let now = base();
        let mut context = Context::new(FORKING, [1_000, 500], now);
        context.handle_cancel(now);
        context.handle_response(0, response(487, ""), now);
        assert_eq!(outputs(&mut context), ["S0/49", "C0", "B487+0"]);
    }

    #[test]
    fn others_ring_on_if_the_caller_wants_it_so_rfc3841_9_1() {
        let now = base();
        let mut context = Context::new(Forking { no_cancel: true, ..FORKING }, [1_000, 1_000, 500], now);
        assert_eq!(outputs(&mut context), ["S0/24", "S1/25"]);
        context.handle_response(0, response(200, ""), now);
        assert_eq!(outputs(&mut context), ["F200"]);
        context.handle_response(1, response(200, ""), now);
        assert_eq!(outputs(&mut context), ["F200"]);
    }

    #[test]
    fn one_after_the_other_when_the_caller_says_so_rfc3841_9_1() {
        let now = base();
        let mut context = Context::new(Forking { order: Order::Sequential, ..FORKING }, [1_000, 1_000], now);
        assert_eq!(outputs(&mut context), ["S0/49"]);
        context.handle_response(0, response(486, ""), now);
        assert_eq!(outputs(&mut context), ["S1/50"]);
    }
}

//! The response context: one request, its branches, and which responses go back (RFC 3261 16.7 to 16.10). A machine.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::sip::{HeaderName, Response, StatusCode};

/// What the proxy must do now.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "outputs are performed where they are made")]
pub enum Output {
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

/// The context of one forwarded request.
#[derive(Debug)]
pub struct Context {
    is_invite: bool,
    timer_c: Duration,
    branches: Vec<Branch>,
    /// A final response has gone upstream.
    answered: bool,
    /// The caller gave up.
    cancelled: bool,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
struct Branch {
    state: State,
    cancelled: bool,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "few branches, seldom moved")]
enum State {
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
}

impl Context {
    /// A context with that many branches, all of them about to be sent.
    ///
    /// - `timer_c`: over three minutes (16.6 step 11); only for INVITE.
    pub fn new(is_invite: bool, branches: usize, timer_c: Duration, now: Instant) -> Context {
        let due = is_invite.then(|| now + timer_c);
        let branch = || Branch { state: State::Calling { timer_c: due }, cancelled: false };
        Context {
            is_invite,
            timer_c,
            branches: (0..branches).map(|_| branch()).collect(),
            answered: false,
            cancelled: false,
            outputs: VecDeque::new(),
        }
    }

    /// A response to a branch.
    pub fn handle_response(&mut self, branch: u32, response: Response, now: Instant) {
        let status = response.status();
        let (is_invite, timer_c) = (self.is_invite, self.timer_c);
        let Some(at) = self.branch(branch) else { return };
        if status.is_provisional() {
            if !at.is_open() {
                return;
            }
            if status == StatusCode::TRYING {
                // 16.7 step 2: 100 is not forwarded and does not reset timer C.
                if let State::Calling { timer_c } = at.state {
                    at.state = State::Proceeding { timer_c };
                }
                return;
            }
            at.state = State::Proceeding { timer_c: is_invite.then(|| now + timer_c) };
            // 16.7 step 5; RFC 4320 4.1: no provisional but 100 for anything but INVITE.
            if is_invite && !self.answered {
                put(&mut self.outputs, Output::Forward(response));
            }
            return;
        }
        if status.is_success() {
            // 16.7 step 5: every 2xx to an INVITE goes upstream; of a non-INVITE only the first.
            at.state = State::Succeeded;
            if is_invite || !self.answered {
                put(&mut self.outputs, Output::Forward(response));
            }
            self.answered = true;
            return self.cancel_open(true);
        }
        if !at.is_open() {
            return;
        }
        at.state = State::Final(response);
        if status.code() >= 600 {
            // 16.7 step 5: not forwarded at once, but the others are cancelled.
            self.cancel_open(true);
        }
        self.conclude();
    }

    /// A branch ended without a response.
    pub fn handle_failure(&mut self, branch: u32, failure: Failure) {
        let Some(at) = self.branch(branch) else { return };
        if !at.is_open() {
            return;
        }
        at.state = State::Failed(match failure {
            Failure::Timeout => StatusCode::REQUEST_TIMEOUT,
            Failure::Transport => StatusCode::SERVICE_UNAVAILABLE,
            Failure::FlowGone => StatusCode::FLOW_FAILED,
            Failure::TooLarge => StatusCode::REQUEST_ENTITY_TOO_LARGE,
            Failure::Cancelled => StatusCode::REQUEST_TERMINATED,
        });
        self.conclude();
    }

    /// The caller cancelled (16.10).
    pub fn handle_cancel(&mut self) {
        if self.answered {
            return;
        }
        self.cancelled = true;
        self.cancel_open(false);
        self.conclude();
    }

    /// Timer C (16.8): a branch with a provisional is cancelled, one without is treated as 408.
    pub fn handle_timeout(&mut self, now: Instant) {
        for number in 0..self.branches.len() {
            let branch = &mut self.branches[number];
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            match branch.state {
                State::Calling { timer_c: Some(due) } if due <= now => {
                    branch.state = State::Failed(StatusCode::REQUEST_TIMEOUT);
                }
                State::Proceeding { timer_c: Some(due) } if due <= now && !branch.cancelled => {
                    branch.cancelled = true;
                    // The 487 is awaited for as long as a transaction may take, then the branch counts as timed out.
                    branch.state = State::Proceeding { timer_c: Some(now + AFTER_CANCEL) };
                    put(&mut self.outputs, Output::Cancel { branch: number, completed_elsewhere: false });
                }
                State::Proceeding { timer_c: Some(due) } if due <= now => {
                    branch.state = State::Failed(StatusCode::REQUEST_TIMEOUT);
                }
                _ => {}
            }
        }
        self.conclude();
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
        self.answered && !self.branches.iter().any(Branch::is_open)
    }

    /// When to call `handle_timeout`.
    pub fn next_timeout(&self) -> Option<Instant> {
        let due = |branch: &Branch| match branch.state {
            State::Calling { timer_c } | State::Proceeding { timer_c } => timer_c,
            State::Final(_) | State::Failed(_) | State::Succeeded => None,
        };
        self.branches.iter().filter_map(due).min()
    }

    /// What to do; call until `None` after every `handle_*`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn branch(&mut self, number: u32) -> Option<&mut Branch> {
        self.branches.get_mut(usize::try_from(number).ok()?)
    }

    /// 16.7 step 10 and 16.10: CANCEL is for INVITE alone.
    fn cancel_open(&mut self, completed_elsewhere: bool) {
        if !self.is_invite {
            return;
        }
        for (number, branch) in self.branches.iter_mut().enumerate() {
            if branch.is_open() && !branch.cancelled {
                branch.cancelled = true;
                let branch = u32::try_from(number).unwrap_or(u32::MAX);
                put(&mut self.outputs, Output::Cancel { branch, completed_elsewhere });
            }
        }
    }

    /// 16.7 step 6: once every branch has ended, the best response goes upstream.
    fn conclude(&mut self) {
        if self.answered || self.branches.iter().any(Branch::is_open) {
            return;
        }
        self.answered = true;
        let best =
            (0..self.branches.len()).filter(|at| self.rank(*at).is_some()).min_by_key(|at| self.rank(*at));
        let Some(best) = best else {
            return put(&mut self.outputs, Output::Respond(StatusCode::TEMPORARILY_UNAVAILABLE));
        };
        let challenges = self.challenges_beside(best);
        let branch = &mut self.branches[best];
        match std::mem::replace(&mut branch.state, State::Succeeded) {
            State::Final(response) if response.status() == StatusCode::SERVICE_UNAVAILABLE => {
                // 16.7 step 6: 503 speaks of the next hop, not of us.
                put(&mut self.outputs, Output::Respond(StatusCode::SERVER_INTERNAL_ERROR));
            }
            State::Final(response) => put(&mut self.outputs, Output::ForwardBest { response, challenges }),
            State::Failed(status) => {
                let status = match status {
                    StatusCode::REQUEST_TIMEOUT if self.cancelled => StatusCode::REQUEST_TERMINATED,
                    StatusCode::SERVICE_UNAVAILABLE => StatusCode::SERVER_INTERNAL_ERROR,
                    // All flows of the user are gone: for the caller the user is unavailable (RFC 5626 7).
                    StatusCode::FLOW_FAILED => StatusCode::TEMPORARILY_UNAVAILABLE,
                    other => other,
                };
                put(&mut self.outputs, Output::Respond(status));
            }
            State::Calling { .. } | State::Proceeding { .. } | State::Succeeded => {}
        }
    }

    /// Smaller is better: 6xx, then the lowest class, within 4xx what helps a retry, real responses before failures of ours.
    fn rank(&self, at: usize) -> Option<(u16, u8)> {
        let (status, ours) = match &self.branches[at].state {
            State::Final(response) => (response.status(), 0),
            State::Failed(status) => (*status, 1),
            State::Calling { .. } | State::Proceeding { .. } | State::Succeeded => return None,
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

/// Room is made for one: most contexts have one output in their life, and each may hold a response.
fn put(outputs: &mut VecDeque<Output>, output: Output) {
    outputs.reserve_exact(1);
    outputs.push_back(output);
}

impl Branch {
    fn is_open(&self) -> bool {
        matches!(self.state, State::Calling { .. } | State::Proceeding { .. })
    }
}

/// How long a cancelled branch may take to say so (64*T1).
const AFTER_CANCEL: Duration = Duration::from_secs(32);

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

    /// `F180`: forwarded; `B486`: best; `R408`: our own; `C1`: cancel branch 1.
    fn outputs(context: &mut Context) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(output) = context.poll_output() {
            all.push(match output {
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

    #[test]
    fn provisionals_and_the_2xx_go_upstream_and_the_losers_are_cancelled_rfc3261_16_7() {
        let now = base();
        let mut context = Context::new(true, 2, TIMER_C, now);
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
        let mut context = Context::new(true, 2, TIMER_C, now);
        context.handle_response(0, response(200, ""), now);
        assert!(!context.is_over(), "the other branch is yet to say 487");
        context.handle_response(1, response(487, ""), now);
        assert!(context.is_over() && context.next_timeout().is_none());
        assert_eq!(outputs(&mut context), ["F200", "C1"]);
        context.handle_response(0, response(200, ""), now);
        assert_eq!(outputs(&mut context), ["F200"], "a further 2xx of the same branch");
    }

    #[test]
    fn a_second_2xx_to_an_invite_goes_upstream_too_rfc3261_16_7_step_5() {
        let now = base();
        let mut context = Context::new(true, 2, TIMER_C, now);
        context.handle_response(0, response(200, ""), now);
        context.handle_response(1, response(200, ""), now);
        assert_eq!(outputs(&mut context), ["F200", "C1", "F200"]);
    }

    #[test]
    fn only_one_2xx_to_a_non_invite_goes_upstream_rfc3261_16() {
        let now = base();
        let mut context = Context::new(false, 2, TIMER_C, now);
        context.handle_response(0, response(200, ""), now);
        context.handle_response(1, response(200, ""), now);
        assert_eq!(outputs(&mut context), ["F200"]);
    }

    #[test]
    fn the_best_final_waits_for_all_branches_rfc3261_16_7_step_6() {
        let now = base();
        let mut context = Context::new(true, 3, TIMER_C, now);
        context.handle_response(0, response(500, ""), now);
        context.handle_response(1, response(486, ""), now);
        assert!(outputs(&mut context).is_empty());
        context.handle_failure(2, Failure::Timeout);
        assert_eq!(outputs(&mut context), ["B486+0"]);
    }

    #[test]
    fn a_6xx_wins_and_cancels_the_others_at_once_rfc3261_16_7_step_5() {
        let now = base();
        let mut context = Context::new(true, 2, TIMER_C, now);
        context.handle_response(0, response(603, ""), now);
        assert_eq!(outputs(&mut context), ["C1"]);
        context.handle_response(1, response(487, ""), now);
        assert_eq!(outputs(&mut context), ["B603+0"]);
    }

    #[test]
    fn challenges_of_all_branches_are_collected_rfc3261_16_7_step_7() {
        let now = base();
        let mut context = Context::new(true, 2, TIMER_C, now);
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
        let mut context = Context::new(true, 1, TIMER_C, now);
        context.handle_response(0, response(503, ""), now);
        assert_eq!(outputs(&mut context), ["R500"]);
        let mut context = Context::new(true, 1, TIMER_C, now);
        context.handle_failure(0, Failure::Timeout);
        assert_eq!(outputs(&mut context), ["R408"]);
        let mut context = Context::new(true, 1, TIMER_C, now);
        context.handle_failure(0, Failure::Transport);
        assert_eq!(outputs(&mut context), ["R500"]);
        let mut context = Context::new(true, 1, TIMER_C, now);
        context.handle_failure(0, Failure::FlowGone);
        assert_eq!(outputs(&mut context), ["R480"]);
    }

    #[test]
    fn the_callers_cancel_reaches_every_branch_rfc3261_16_10() {
        let now = base();
        let mut context = Context::new(true, 2, TIMER_C, now);
        context.handle_response(0, response(180, ""), now);
        context.handle_cancel();
        assert_eq!(outputs(&mut context), ["F180", "C0", "C1"]);
        context.handle_response(0, response(487, ""), now);
        context.handle_failure(1, Failure::Timeout);
        assert_eq!(outputs(&mut context), ["B487+0"]);
    }

    #[test]
    fn a_branch_that_was_not_sent_before_the_cancel_ends_as_487_rfc3261_16_10() {
        let now = base();
        let mut context = Context::new(true, 1, TIMER_C, now);
        context.handle_cancel();
        assert!(context.is_cancelled(0));
        context.handle_failure(0, Failure::Cancelled);
        assert_eq!(outputs(&mut context), ["C0", "R487"]);
    }

    #[test]
    fn timer_c_cancels_a_ringing_branch_and_fails_a_silent_one_rfc3261_16_8() {
        let now = base();
        let mut context = Context::new(true, 2, TIMER_C, now);
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
        let mut context = Context::new(true, 1, TIMER_C, now);
        context.handle_response(0, response(100, ""), now + Duration::from_secs(60));
        assert_eq!(context.next_timeout(), Some(now + TIMER_C));
    }
}

//! One subscription's NOTIFYs: what is owed, one in flight, pacing, CSeq numbers. A machine; time is an argument.
//!
//! What is sent is decided when it is sent: the machine asks to [`Output::Look`], is told what is there now, and sends that or nothing. So
//! the latest state wins and bursts coalesce by themselves.

mod event;
mod rest;

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::presence::numbers::Numbers;
use crate::presence::pacing::{Bucket, Pacing};

pub use event::{
    Answer, Fingerprint, Outlook, Output, PutOff, Reason, Reserved, Seen, Standing, State, Wait,
};
use event::{GIVE_UP, LONGEST_RETRY_AFTER};
pub use rest::Rest;

/// How much a NOTIFY is owed, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Owed {
    Nothing,
    /// Something changed: paced, and only if it says anything new.
    Changed,
    /// The state line changed: at once, if it still does.
    Urgent,
    /// A SUBSCRIBE asks for it: at once, whatever it says (RFC 6665 4.2.1.2).
    Asked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Looking(Owed),
    LookingForLast(Reason),
    InFlight(u32),
    LastInFlight(u32),
    /// The row is being dropped; `true`: with a final NOTIFY.
    Dropping(bool),
    Over,
}

/// The machine.
#[derive(Debug)]
pub struct Dialog {
    phase: Phase,
    owed: Owed,
    /// The row is gone and the watcher must hear of it.
    ending: Option<Reason>,
    sent: Option<Fingerprint>,
    /// Changes wait until then.
    not_before: Option<(Instant, PutOff)>,
    bucket: Bucket,
    numbers: Numbers,
    proven: bool,
    /// Since when the watcher has only refused, and how often.
    refusing: Option<(Instant, u32)>,
    /// The watcher has been shown state (or may have been, by an earlier run).
    shown: bool,
    /// It was told that the owner has not decided, by this run.
    was_pending: bool,
    outputs: SmallVec<[Output; 2]>,
}

impl Dialog {
    /// For a subscription that has just begun; its row reserves numbers up to `reserved`.
    pub fn initial(now: Instant, pacing: Pacing, reserved: u32) -> Dialog {
        Dialog::new(Bucket::full(now, pacing), Numbers::from_first(reserved), false)
    }

    /// For a subscription that this run has not notified yet. Numbers go on above everything that may have been sent (RFC 3261 12.2.1.1).
    ///
    /// - `proven`: it has lived so long that an answer must have come.
    /// - `not_before`: changes wait until then.
    pub fn resumed(
        now: Instant,
        pacing: Pacing,
        reserved: u32,
        proven: bool,
        not_before: Option<Instant>,
    ) -> Dialog {
        let dialog = Dialog::new(Bucket::full(now, pacing), Numbers::resumed(reserved), proven);
        Dialog { not_before: not_before.map(|at| (at, PutOff::Turn)), shown: true, ..dialog }
    }

    fn new(bucket: Bucket, numbers: Numbers, proven: bool) -> Dialog {
        Dialog {
            phase: Phase::Idle,
            owed: Owed::Nothing,
            ending: None,
            sent: None,
            not_before: None,
            bucket,
            numbers,
            proven,
            refusing: None,
            shown: false,
            was_pending: false,
            outputs: SmallVec::new(),
        }
    }

    /// Nothing will ever come from it again.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Was the watcher told that the owner has not decided?
    pub fn was_pending(&self) -> bool {
        self.was_pending
    }

    /// A SUBSCRIBE was accepted (initial or refresh).
    pub fn handle_subscribed(&mut self, now: Instant) {
        self.owe(now, Owed::Asked);
    }

    /// Something about the presentity moved; the watcher's standing now is this.
    pub fn handle_changed(&mut self, now: Instant, standing: Standing) {
        let flips = self.sent.is_some_and(|sent| sent.standing != standing);
        // What is new is told at once; only the old is put off.
        self.not_before = self.not_before.filter(|(_, why)| *why != PutOff::Refusal);
        self.owe(now, if flips { Owed::Urgent } else { Owed::Changed });
    }

    /// The row is gone: the watcher is owed the final NOTIFY.
    pub fn handle_ended(&mut self, now: Instant, reason: Reason) {
        if self.ending.is_none() {
            self.ending = Some(reason);
            self.advance(now);
        }
    }

    /// The row is gone because the watcher began anew: what belonged to it is over, without a word.
    pub fn handle_replaced(&mut self) {
        if self.phase != Phase::Over {
            self.forget();
        }
    }

    /// The answer to [`Output::Look`].
    pub fn handle_state(&mut self, now: Instant, seen: Seen) {
        match (self.phase, seen) {
            (Phase::LookingForLast(reason), seen) => {
                let body = matches!(seen, Seen::State(Fingerprint { standing: Standing::Active, .. }));
                self.notify_last(reason, body);
            }
            // What was seen is of the past: the row has gone meanwhile, and the final NOTIFY says the rest.
            (Phase::Looking(_), _) if self.ending.is_some() => self.phase = Phase::Idle,
            (Phase::Looking(_), Seen::Missing) => self.forget(),
            (Phase::Looking(_), Seen::State(Fingerprint { standing: Standing::Refused, .. })) => {
                self.phase = Phase::Dropping(true);
                self.outputs.push(Output::Drop);
            }
            (Phase::Looking(owed), Seen::State(seen)) => {
                if owed == Owed::Asked || self.sent != Some(seen) {
                    self.notify(now, owed, seen);
                } else {
                    self.bucket.looked(now);
                    self.phase = Phase::Idle;
                }
            }
            _ => {}
        }
        self.advance(now);
    }

    /// How the NOTIFY of that number went. Answers to others are of the past.
    pub fn handle_answer(&mut self, now: Instant, cseq: u32, answer: Answer) {
        match self.phase {
            Phase::LastInFlight(sent) if sent == cseq => return self.forget(),
            Phase::InFlight(sent) if sent == cseq => {}
            _ => return,
        }
        self.proven |= matches!(answer, Answer::Accepted | Answer::Failed { .. });
        self.phase = Phase::Idle;
        match answer {
            Answer::Accepted => self.refusing = None,
            Answer::Unsent { retry_after } => {
                self.sent = None;
                if let Some(after) = retry_after {
                    self.put_off(now + after, PutOff::Ours);
                }
            }
            Answer::Failed { retry_after } => {
                self.sent = None;
                let (since, times) = self.refusing.unwrap_or((now, 0));
                self.refusing = Some((since, times.saturating_add(1)));
                if now.saturating_duration_since(since) >= GIVE_UP && self.ending.is_none() {
                    self.phase = Phase::Dropping(false);
                    self.outputs.push(Output::Drop);
                    return;
                }
                match retry_after {
                    Some(after) => self.put_off(now + after, PutOff::Peer),
                    None => {
                        let after = RETRY_AFTER.saturating_mul(1 << times.min(8)).min(LONGEST_RETRY_AFTER);
                        self.put_off(now + after, PutOff::Refusal);
                    }
                }
            }
            Answer::Gone if self.ending.is_some() => return self.forget(),
            Answer::Gone => {
                self.phase = Phase::Dropping(false);
                self.outputs.push(Output::Drop);
            }
        }
        self.advance(now);
    }

    /// The row is gone, as was asked.
    pub fn handle_dropped(&mut self, now: Instant) {
        match self.phase {
            Phase::Dropping(true) => {
                self.phase = Phase::Idle;
                self.ending.get_or_insert(Reason::Rejected);
                self.advance(now);
            }
            Phase::Dropping(false) => self.forget(),
            _ => {}
        }
    }

    /// The row could not be dropped now, or was refreshed meanwhile: look again a little later.
    pub fn handle_not_dropped(&mut self, now: Instant) {
        if let Phase::Dropping(_) = self.phase {
            self.phase = Phase::Idle;
            self.sent = None;
            self.put_off(now + RETRY_AFTER, PutOff::Ours);
            self.advance(now);
        }
    }

    /// The answer to [`Output::Reserve`].
    pub fn handle_reserved(&mut self, now: Instant, reserved: Reserved) {
        match reserved {
            Reserved::Taken { upto, durable } => self.numbers.taken(now, upto, durable),
            Reserved::Refused => self.numbers.refused(now),
            Reserved::Missing if self.phase == Phase::Idle && self.ending.is_none() => return self.forget(),
            Reserved::Missing => self.numbers.refused(now),
        }
        self.advance(now);
    }

    /// Time has passed; spurious calls do nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
    }

    /// When to call [`Dialog::handle_timeout`] next.
    pub fn next_timeout(&self) -> Option<Instant> {
        if self.phase != Phase::Idle || self.owed == Owed::Nothing || self.ending.is_some() {
            return None;
        }
        if let Some(at) = self.numbers.retry_at() {
            return Some(at);
        }
        (self.owed == Owed::Changed).then(|| self.not_before().max(self.bucket.next_at())).flatten()
    }

    /// What is owed to the watcher and what it waits for: for who asks why nothing comes.
    pub fn outlook(&self, now: Instant) -> Outlook {
        let owes = self.owed != Owed::Nothing || self.ending.is_some();
        let waits_for = match self.phase {
            Phase::InFlight(cseq) | Phase::LastInFlight(cseq) => Some(Wait::Answer(cseq)),
            Phase::Dropping(_) => Some(Wait::Row),
            Phase::Looking(_) | Phase::LookingForLast(_) | Phase::Over => None,
            Phase::Idle if !owes => None,
            Phase::Idle if self.numbers.is_asking() => Some(Wait::Numbers(None)),
            Phase::Idle => {
                let numbers = self.numbers.retry_at().map(|at| Wait::Numbers(Some(at)));
                let put_off =
                    self.not_before.filter(|(at, _)| *at > now).map(|(at, why)| Wait::PutOff(why, at));
                numbers.or(put_off).or_else(|| self.bucket.next_at().map(Wait::Pacing))
            }
        };
        Outlook { owes, waits_for }
    }

    /// What to do; call until `None` after every `handle_*`.
    pub fn poll_output(&mut self) -> Option<Output> {
        (!self.outputs.is_empty()).then(|| self.outputs.remove(0))
    }

    fn put_off(&mut self, until: Instant, why: PutOff) {
        self.not_before = Some((until, why));
        self.owed = self.owed.max(Owed::Changed);
    }

    fn not_before(&self) -> Option<Instant> {
        self.not_before.map(|(at, _)| at)
    }

    fn owe(&mut self, now: Instant, owed: Owed) {
        self.owed = self.owed.max(owed);
        self.advance(now);
    }

    fn advance(&mut self, now: Instant) {
        if self.phase != Phase::Idle {
            return;
        }
        match self.ending {
            // Current state goes with it only where the watcher did nothing wrong.
            Some(Reason::Timeout) => {
                self.phase = Phase::LookingForLast(Reason::Timeout);
                self.outputs.push(Output::Look { last: true });
            }
            Some(reason) => self.notify_last(reason, false),
            None => self.advance_running(now),
        }
    }

    fn advance_running(&mut self, now: Instant) {
        let due = match self.owed {
            Owed::Nothing => false,
            Owed::Changed => self.not_before().is_none_or(|at| at <= now) && self.bucket.has(now),
            Owed::Urgent | Owed::Asked => true,
        };
        if !due {
            return;
        }
        if !self.numbers.has_next(now) {
            if let Some(upto) = self.numbers.ask(now) {
                self.outputs.push(Output::Reserve { upto, durable: true });
            }
            return;
        }
        self.phase = Phase::Looking(self.owed);
        self.owed = Owed::Nothing;
        self.not_before = None;
        self.outputs.push(Output::Look { last: false });
    }

    fn notify(&mut self, now: Instant, owed: Owed, seen: Fingerprint) {
        if owed == Owed::Changed {
            self.bucket.take(now);
        }
        let cseq = self.numbers.next();
        self.phase = Phase::InFlight(cseq);
        self.sent = Some(seen);
        let state = match seen.standing {
            Standing::Active => {
                self.shown = true;
                State::Active
            }
            Standing::Pending | Standing::Refused => {
                self.was_pending = true;
                State::Pending { shown: self.shown }
            }
        };
        let whole = owed == Owed::Asked;
        self.outputs.push(Output::Notify { cseq, state, unproven: !self.proven, whole });
        if self.numbers.is_low()
            && let Some(upto) = self.numbers.ask(now)
        {
            self.outputs.push(Output::Reserve { upto, durable: false });
        }
    }

    /// No number is reserved for it: its row is gone, so nobody will ever go on from there.
    fn notify_last(&mut self, reason: Reason, body: bool) {
        let cseq = self.numbers.next();
        self.phase = Phase::LastInFlight(cseq);
        self.owed = Owed::Nothing;
        let state = State::Terminated { reason, body };
        self.outputs.push(Output::Notify { cseq, state, unproven: !self.proven, whole: true });
    }

    fn forget(&mut self) {
        self.phase = Phase::Over;
        self.owed = Owed::Nothing;
        self.outputs.push(Output::Forget);
    }
}

/// How long to wait after a fault of ours, and after the first refusal.
const RETRY_AFTER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::StatusCode;

    const PACING: Pacing = Pacing { burst: 4, interval: Duration::from_secs(5), looks: false };
    const ONE: Fingerprint = Fingerprint { standing: Standing::Active, body: 1 };
    const PENDING: Fingerprint = Fingerprint { standing: Standing::Pending, body: 0 };
    const REFUSED: Fingerprint = Fingerprint { standing: Standing::Refused, body: 0 };

    fn active(body: u64) -> Fingerprint {
        Fingerprint { standing: Standing::Active, body }
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do as the beginning of virtual time")]
    fn begin() -> Instant {
        Instant::now()
    }

    fn drain(dialog: &mut Dialog) -> Vec<Output> {
        std::iter::from_fn(|| dialog.poll_output()).collect()
    }

    /// Looks if it wants to look, and returns the NOTIFY that comes of it.
    fn look(dialog: &mut Dialog, now: Instant, seen: Fingerprint) -> Option<(u32, State)> {
        let mut notify = None;
        while let Some(output) = dialog.poll_output() {
            match output {
                Output::Look { .. } => dialog.handle_state(now, Seen::State(seen)),
                Output::Notify { cseq, state, .. } => {
                    assert_eq!(notify, None, "one at a time");
                    notify = Some((cseq, state));
                }
                Output::Reserve { upto, durable } => {
                    dialog.handle_reserved(now, Reserved::Taken { upto, durable });
                }
                Output::Drop | Output::Forget => {}
            }
        }
        notify
    }

    /// A dialog whose first NOTIFY said `seen` and was answered.
    fn running(now: Instant, seen: Fingerprint) -> Dialog {
        let mut dialog = Dialog::initial(now, PACING, 64);
        dialog.handle_subscribed(now);
        let (cseq, _) = look(&mut dialog, now, seen).expect("the first NOTIFY");
        dialog.handle_answer(now, cseq, Answer::Accepted);
        dialog
    }

    #[test]
    fn every_subscribe_is_answered_by_a_notify_even_if_nothing_changed_rfc6665_4_2_1_2() {
        let now = begin();
        let mut dialog = running(now, ONE);
        for expected in 2..20 {
            dialog.handle_subscribed(now);
            let (cseq, state) = look(&mut dialog, now, ONE).expect("a NOTIFY at once");
            assert_eq!((cseq, state), (expected, State::Active));
            dialog.handle_answer(now, cseq, Answer::Accepted);
        }
    }

    #[test]
    fn nothing_is_sent_if_nothing_changed() {
        let now = begin();
        let mut dialog = running(now, ONE);
        dialog.handle_changed(now, Standing::Active);
        assert_eq!(look(&mut dialog, now, ONE), None);
    }

    #[test]
    fn one_in_flight_and_the_latest_state_wins_rfc6665_4_2_2() {
        let now = begin();
        let mut dialog = running(now, ONE);
        dialog.handle_changed(now, Standing::Active);
        assert_eq!(look(&mut dialog, now, active(2)), Some((2, State::Active)));
        for _ in 0..10 {
            dialog.handle_changed(now, Standing::Active);
            dialog.handle_subscribed(now);
        }
        assert_eq!(drain(&mut dialog), []);
        dialog.handle_answer(now, 2, Answer::Accepted);
        assert_eq!(look(&mut dialog, now, active(9)), Some((3, State::Active)));
        dialog.handle_answer(now, 3, Answer::Accepted);
        assert_eq!(drain(&mut dialog), []);
    }

    #[test]
    fn a_change_while_looking_is_looked_at_again() {
        let now = begin();
        let mut dialog = running(now, ONE);
        dialog.handle_changed(now, Standing::Active);
        assert_eq!(dialog.poll_output(), Some(Output::Look { last: false }));
        dialog.handle_changed(now, Standing::Active);
        dialog.handle_state(now, Seen::State(ONE));
        assert_eq!(look(&mut dialog, now, active(2)), Some((2, State::Active)));
    }

    #[test]
    fn four_at_once_then_one_in_five_seconds_and_the_last_state_arrives_a25() {
        let begin = begin();
        let mut dialog = running(begin, ONE);
        let mut sent = Vec::new();
        // 200 changes a second for 20 seconds.
        for tick in 0..4_000_u64 {
            let now = begin + Duration::from_millis(tick * 5);
            dialog.handle_changed(now, Standing::Active);
            if let Some((cseq, _)) = look(&mut dialog, now, active(100 + tick)) {
                sent.push(now - begin);
                dialog.handle_answer(now, cseq, Answer::Accepted);
            }
        }
        assert_eq!(sent.len(), 4 + 3);
        assert!(sent[3] < Duration::from_millis(20) && sent[4] >= Duration::from_secs(5));
        let now = dialog.next_timeout().expect("the rest is owed");
        assert!(now <= begin + Duration::from_secs(20));
        dialog.handle_timeout(now);
        assert!(look(&mut dialog, now, active(99_999)).is_some());
    }

    #[test]
    fn pending_to_active_and_back_is_not_paced_rfc3856_6_7() {
        let now = begin();
        let mut dialog = running(now, ONE);
        for body in 2..6 {
            dialog.handle_changed(now, Standing::Active);
            let (cseq, _) = look(&mut dialog, now, active(body)).expect("within the burst");
            dialog.handle_answer(now, cseq, Answer::Accepted);
        }
        dialog.handle_changed(now, Standing::Active);
        assert_eq!(look(&mut dialog, now, active(7)), None);
        dialog.handle_changed(now, Standing::Pending);
        assert_eq!(look(&mut dialog, now, PENDING), Some((6, State::Pending { shown: true })));
        dialog.handle_answer(now, 6, Answer::Accepted);
        dialog.handle_changed(now, Standing::Active);
        assert_eq!(look(&mut dialog, now, active(8)), Some((7, State::Active)));
    }

    #[test]
    fn nothing_follows_terminated_i5() {
        let now = begin();
        let mut dialog = running(now, ONE);
        dialog.handle_ended(now, Reason::Timeout);
        let last = State::Terminated { reason: Reason::Timeout, body: true };
        assert_eq!(look(&mut dialog, now, ONE), Some((2, last)));
        dialog.handle_subscribed(now);
        dialog.handle_changed(now, Standing::Pending);
        dialog.handle_ended(now, Reason::NoResource);
        assert_eq!(drain(&mut dialog), []);
        dialog.handle_answer(now, 2, Answer::Failed { retry_after: Some(Duration::from_secs(1)) });
        assert_eq!(drain(&mut dialog), [Output::Forget]);
        assert!(dialog.is_over());
        dialog.handle_subscribed(now);
        dialog.handle_ended(now, Reason::Timeout);
        assert_eq!(drain(&mut dialog), []);
    }

    #[test]
    fn terminated_waits_for_the_notify_in_flight_rfc6665_4_2_2() {
        let now = begin();
        let mut dialog = running(now, ONE);
        dialog.handle_changed(now, Standing::Active);
        assert_eq!(look(&mut dialog, now, active(2)), Some((2, State::Active)));
        dialog.handle_ended(now, Reason::NoResource);
        assert_eq!(drain(&mut dialog), []);
        dialog.handle_answer(now, 2, Answer::Accepted);
        let last = State::Terminated { reason: Reason::NoResource, body: false };
        assert_eq!(look(&mut dialog, now, ONE), Some((3, last)));
    }

    #[test]
    fn where_looking_is_dear_it_is_paced_as_telling_is_a25() {
        let now = begin();
        let pacing = Pacing { burst: 1, interval: Duration::from_secs(5), looks: true };
        let mut dialog = Dialog::initial(now, pacing, 64);
        dialog.handle_subscribed(now);
        look(&mut dialog, now, ONE);
        dialog.handle_answer(now, 1, Answer::Accepted);
        dialog.handle_changed(now, Standing::Active);
        assert_eq!(look(&mut dialog, now, ONE), None, "nothing new");
        dialog.handle_changed(now, Standing::Active);
        assert_eq!(drain(&mut dialog), [], "not again at once");
        let later = dialog.next_timeout().expect("but later");
        assert_eq!(later - now, Duration::from_secs(5));
        dialog.handle_timeout(later);
        assert_eq!(look(&mut dialog, later, active(2)), Some((2, State::Active)));
    }

    #[test]
    fn a_pending_watcher_gets_no_document_with_terminated_rfc5025_3_2_1() {
        let now = begin();
        let mut dialog = running(now, PENDING);
        dialog.handle_ended(now, Reason::Timeout);
        let last = State::Terminated { reason: Reason::Timeout, body: false };
        assert_eq!(look(&mut dialog, now, PENDING), Some((2, last)));
    }

    #[test]
    fn a_refused_watcher_is_dropped_then_told_rejected_rfc3856_6_7() {
        let now = begin();
        let mut dialog = running(now, ONE);
        dialog.handle_changed(now, Standing::Refused);
        assert_eq!(dialog.poll_output(), Some(Output::Look { last: false }));
        dialog.handle_state(now, Seen::State(REFUSED));
        assert_eq!(drain(&mut dialog), [Output::Drop]);
        dialog.handle_dropped(now);
        let state = State::Terminated { reason: Reason::Rejected, body: false };
        assert_eq!(drain(&mut dialog), [Output::Notify { cseq: 2, state, unproven: false, whole: true }]);
    }

    #[test]
    fn fatal_answers_remove_the_subscription_without_a_word_rfc6665_4_2_2() {
        for code in [404, 405, 408, 410, 416, 480, 481, 482, 483, 484, 485, 489, 501, 604] {
            let now = begin();
            let mut dialog = Dialog::initial(now, PACING, 64);
            dialog.handle_subscribed(now);
            look(&mut dialog, now, ONE);
            dialog.handle_answer(now, 1, Answer::of(StatusCode::new(code).unwrap(), None));
            assert_eq!(drain(&mut dialog), [Output::Drop], "{code}");
            dialog.handle_dropped(now);
            assert_eq!(drain(&mut dialog), [Output::Forget], "{code}");
        }
    }

    #[test]
    fn other_failures_leave_the_subscription_rfc6665_4_2_2() {
        for code in [302, 400, 401, 403, 407, 486, 488, 500, 503, 600, 603] {
            let now = begin();
            let mut dialog = running(now, ONE);
            dialog.handle_subscribed(now);
            look(&mut dialog, now, ONE);
            dialog.handle_answer(now, 2, Answer::of(StatusCode::new(code).unwrap(), None));
            let again = Some(now + RETRY_AFTER);
            assert_eq!((drain(&mut dialog), dialog.next_timeout()), (vec![], again), "{code}");
            // What they did not take is told again with the next change, even if it is the same.
            dialog.handle_changed(now, Standing::Active);
            assert_eq!(look(&mut dialog, now, ONE), Some((3, State::Active)), "{code}");
        }
    }

    #[test]
    fn who_only_refuses_is_told_less_and_less_and_then_dropped() {
        let begin = begin();
        let mut dialog = running(begin, ONE);
        dialog.handle_changed(begin, Standing::Active);
        let (mut now, mut sent) = (begin, Vec::new());
        while let Some((cseq, _)) = look(&mut dialog, now, active(2)) {
            sent.push((now - begin).as_secs());
            dialog.handle_answer(now, cseq, Answer::Failed { retry_after: None });
            let Some(at) = dialog.next_timeout() else { break };
            now = at;
            dialog.handle_timeout(now);
        }
        assert_eq!(sent, [0, 5, 15, 35, 75, 155, 315, 615, 915, 1_215]);
        assert_eq!(drain(&mut dialog), [Output::Drop]);
        dialog.handle_dropped(now);
        assert_eq!(drain(&mut dialog), [Output::Forget]);
    }

    #[test]
    fn one_answer_makes_refusals_forgotten() {
        let begin = begin();
        let mut dialog = running(begin, ONE);
        for hour in 1..4 {
            let now = begin + Duration::from_secs(3_600 * hour);
            dialog.handle_changed(now, Standing::Active);
            let (cseq, _) = look(&mut dialog, now, active(2 * hour)).expect("a change");
            dialog.handle_answer(now, cseq, Answer::Failed { retry_after: None });
            let again = now + RETRY_AFTER;
            assert_eq!(dialog.next_timeout(), Some(again));
            dialog.handle_timeout(again);
            let (cseq, _) = look(&mut dialog, again, active(2 * hour)).expect("once more");
            dialog.handle_answer(again, cseq, Answer::Accepted);
        }
    }

    #[test]
    fn a_dialog_that_was_begun_anew_is_over_without_a_word() {
        let now = begin();
        let mut dialog = running(now, ONE);
        dialog.handle_subscribed(now);
        look(&mut dialog, now, ONE);
        dialog.handle_replaced();
        assert_eq!(drain(&mut dialog), [Output::Forget]);
        dialog.handle_answer(now, 2, Answer::Gone);
        dialog.handle_changed(now, Standing::Active);
        assert_eq!((drain(&mut dialog), dialog.is_over()), (vec![], true));
    }

    #[test]
    fn retry_after_is_honoured_within_reason_rfc3261_20_33() {
        let now = begin();
        let mut dialog = running(now, ONE);
        dialog.handle_subscribed(now);
        look(&mut dialog, now, ONE);
        dialog.handle_answer(now, 2, Answer::of(StatusCode::SERVICE_UNAVAILABLE, Some(4_000_000)));
        let at = dialog.next_timeout().expect("told again");
        assert_eq!(at - now, LONGEST_RETRY_AFTER);
        dialog.handle_timeout(at);
        assert_eq!(look(&mut dialog, at, ONE), Some((3, State::Active)));
    }

    #[test]
    fn a_watcher_is_unproven_until_its_first_answer_a16() {
        let now = begin();
        let mut dialog = Dialog::initial(now, PACING, 64);
        dialog.handle_subscribed(now);
        assert_eq!(drain(&mut dialog), [Output::Look { last: false }]);
        dialog.handle_state(now, Seen::State(ONE));
        assert_eq!(
            drain(&mut dialog),
            [Output::Notify { cseq: 1, state: State::Active, unproven: true, whole: true }]
        );
        dialog.handle_answer(now, 1, Answer::Failed { retry_after: None });
        dialog.handle_subscribed(now);
        dialog.poll_output();
        dialog.handle_state(now, Seen::State(ONE));
        assert_eq!(
            drain(&mut dialog),
            [Output::Notify { cseq: 2, state: State::Active, unproven: false, whole: true }]
        );
    }

    #[test]
    fn what_never_left_us_proves_nothing_and_is_tried_again_a16() {
        let now = begin();
        let mut dialog = Dialog::initial(now, PACING, 64);
        dialog.handle_subscribed(now);
        look(&mut dialog, now, ONE);
        dialog.handle_answer(now, 1, Answer::Unsent { retry_after: Some(RETRY_AFTER) });
        let at = dialog.next_timeout().expect("tried again");
        dialog.handle_timeout(at);
        dialog.poll_output();
        dialog.handle_state(at, Seen::State(ONE));
        assert_eq!(
            drain(&mut dialog),
            [Output::Notify { cseq: 2, state: State::Active, unproven: true, whole: false }]
        );
    }

    #[test]
    fn numbers_only_grow_and_go_on_above_the_reserved_block_i4() {
        let now = begin();
        let mut dialog = running(now, ONE);
        let mut reserved = 64;
        for expected in 2..500 {
            dialog.handle_subscribed(now);
            let mut sent = None;
            while let Some(output) = dialog.poll_output() {
                match output {
                    Output::Look { .. } => dialog.handle_state(now, Seen::State(ONE)),
                    Output::Notify { cseq, .. } => sent = Some(cseq),
                    Output::Reserve { upto, durable } => {
                        assert!(upto > reserved);
                        // A lazy row is still only in memory: what is on disk does not move.
                        if durable {
                            reserved = upto;
                        }
                        dialog.handle_reserved(now, Reserved::Taken { upto, durable });
                    }
                    Output::Drop | Output::Forget => panic!("it lives"),
                }
            }
            assert_eq!(sent, Some(expected));
            assert!(expected <= reserved, "{expected} was sent, but a restart would go on from {reserved}");
            dialog.handle_answer(now, expected, Answer::Accepted);
        }
        let mut again = Dialog::resumed(now, PACING, reserved, true, None);
        again.handle_subscribed(now);
        assert_eq!(look(&mut again, now, ONE), Some((reserved + 1, State::Active)));
    }

    #[test]
    fn without_numbers_it_waits_and_asks_again() {
        let now = begin();
        let mut dialog = Dialog::resumed(now, PACING, 64, true, None);
        dialog.handle_subscribed(now);
        assert_eq!(drain(&mut dialog), [Output::Reserve { upto: 128, durable: true }]);
        dialog.handle_reserved(now, Reserved::Refused);
        assert_eq!(drain(&mut dialog), []);
        let at = dialog.next_timeout().expect("asked again");
        dialog.handle_timeout(at);
        assert_eq!(drain(&mut dialog), [Output::Reserve { upto: 128, durable: true }]);
        dialog.handle_reserved(at, Reserved::Taken { upto: 128, durable: true });
        assert_eq!(look(&mut dialog, at, ONE), Some((65, State::Active)));
    }

    #[test]
    fn after_a_restart_full_state_is_owed_and_paced() {
        let now = begin();
        let slot = now + Duration::from_secs(3);
        let mut dialog = Dialog::resumed(now, PACING, 64, true, Some(slot));
        dialog.handle_changed(now, Standing::Active);
        assert_eq!((drain(&mut dialog), dialog.next_timeout()), (vec![], Some(slot)));
        dialog.handle_timeout(slot);
        assert_eq!(look(&mut dialog, slot, ONE), Some((65, State::Active)));
    }

    #[test]
    fn a_row_that_cannot_be_dropped_is_looked_at_again() {
        let now = begin();
        let mut dialog = running(now, ONE);
        dialog.handle_subscribed(now);
        look(&mut dialog, now, ONE);
        dialog.handle_answer(now, 2, Answer::Gone);
        assert_eq!(drain(&mut dialog), [Output::Drop]);
        dialog.handle_not_dropped(now);
        assert_eq!((drain(&mut dialog), dialog.next_timeout()), (vec![], Some(now + RETRY_AFTER)));
    }

    #[test]
    fn a_missing_row_is_forgotten_in_silence() {
        let now = begin();
        let mut dialog = running(now, ONE);
        dialog.handle_changed(now, Standing::Active);
        dialog.poll_output();
        dialog.handle_state(now, Seen::Missing);
        assert_eq!(drain(&mut dialog), [Output::Forget]);
    }

    #[test]
    fn an_answer_to_an_older_notify_means_nothing() {
        let now = begin();
        let mut dialog = running(now, ONE);
        dialog.handle_subscribed(now);
        look(&mut dialog, now, ONE);
        dialog.handle_answer(now, 1, Answer::Gone);
        assert_eq!(drain(&mut dialog), []);
    }
}

//! One MESSAGE while its sender waits: relayed to the devices, and stored if they do not take it. A machine.
//!
//! The sender hears one of: what a device answered, 202 after the message is on disk, or why neither was possible. Never 202 before the commit.

use bytes::Bytes;

use crate::model::Reject;
use crate::sip::StatusCode;

/// What the devices said to one copy, all of them taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// One of them took it.
    Delivered,
    /// Nobody could be reached, or not now: later it may be otherwise.
    Later,
    /// It is too large for the only transport there is (RFC 3428 8): this message waits for another one, those behind it need not.
    TooLarge,
    /// Every device that there is refuses this message, and would again. The best of their answers.
    Never(StatusCode),
}

/// Judges how a copy ended.
///
/// - `outcomes`: of each device, the best first; `true`: the status is ours, and stands for silence or a failure.
pub fn verdict(outcomes: &[(StatusCode, bool)]) -> Verdict {
    let Some((best, _)) = outcomes.first() else { return Verdict::Later };
    if best.is_success() {
        return Verdict::Delivered;
    }
    if outcomes.iter().any(|(status, ours)| may_change(*status, *ours)) {
        return Verdict::Later;
    }
    if outcomes.contains(&(StatusCode::REQUEST_ENTITY_TOO_LARGE, true)) {
        return Verdict::TooLarge;
    }
    Verdict::Never(*best)
}

/// May the same device take the same message another time? A user who is busy or has no device may; who does not understand it will not.
fn may_change(status: StatusCode, ours: bool) -> bool {
    match status {
        StatusCode::REQUEST_ENTITY_TOO_LARGE => false,
        StatusCode::NOT_IMPLEMENTED | StatusCode::VERSION_NOT_SUPPORTED | StatusCode::MESSAGE_TOO_LARGE => {
            false
        }
        StatusCode::REQUEST_TIMEOUT
        | StatusCode::FLOW_FAILED
        | StatusCode::TEMPORARILY_UNAVAILABLE
        | StatusCode::BUSY_HERE
        | StatusCode::REQUEST_TERMINATED
        | StatusCode::REQUEST_PENDING
        | StatusCode::BUSY_EVERYWHERE => true,
        // RFC 3261 8.1.3.2: a code nobody knows counts as x00 of its class.
        other => ours || other.code() / 100 == 5,
    }
}

/// Is the sender told what the devices said, instead of being promised that they will be asked again?
fn is_told(verdict: Verdict, best: Option<(StatusCode, bool)>) -> bool {
    match verdict {
        Verdict::Delivered | Verdict::TooLarge | Verdict::Never(_) => true,
        // Somebody is there and says so: it is the sender's to decide.
        Verdict::Later => matches!(best, Some((StatusCode::BUSY_HERE | StatusCode::BUSY_EVERYWHERE, false))),
    }
}

/// How a copy ended, and the answer that goes to the sender if there is one to pass on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Of all devices together.
    pub verdict: Verdict,
    /// The best outcome.
    pub best: Option<(StatusCode, bool)>,
    /// A device's answer, as it goes back.
    pub answer: Option<Bytes>,
}

impl Ended {
    /// From what the forwarding tells.
    pub fn new(outcomes: &[(StatusCode, bool)], answer: Option<Bytes>) -> Ended {
        Ended { verdict: verdict(outcomes), best: outcomes.first().copied(), answer }
    }
}

/// What to do now, in this order.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Send it to the devices.
    Carry,
    /// Put it before the store.
    Store,
    /// Tell the sender what the devices said.
    PassOn(Ended),
    /// Tell the sender that it is stored: 202 (RFC 3428 7).
    Accept,
    /// Tell the sender why it is neither delivered nor stored.
    Refuse(Reject),
    /// The devices have all said what they will to a message that is stored.
    Settle(Verdict),
}

/// The machine.
#[derive(Debug)]
pub struct Attempt {
    state: State,
    /// May it be stored?
    may_keep: bool,
}

#[derive(Debug)]
enum State {
    /// Another one for this recipient is on its way.
    Queued,
    /// The devices have it. `refusal`: the store was asked and said no.
    Carried {
        refusal: Option<Reject>,
    },
    /// The store has it, with what the devices said so far.
    Storing(SoFar),
    /// The sender has its 202, the devices still have a copy.
    Accepted,
    Over,
}

#[derive(Debug)]
enum SoFar {
    /// Others of this recipient wait already: it stands behind them.
    NotAsked,
    /// They had no time for it: another one was on its way all the while.
    NotReached,
    /// They have not answered.
    Silent,
    Said(Ended),
}

impl Attempt {
    /// A message that begins now. `may_keep`: the store takes it if the devices do not. `behind`: others wait for this recipient already.
    pub fn new(may_keep: bool, behind: bool) -> (Attempt, Output) {
        if may_keep && behind {
            return (Attempt { state: State::Storing(SoFar::NotAsked), may_keep }, Output::Store);
        }
        (Attempt { state: State::Carried { refusal: None }, may_keep }, Output::Carry)
    }

    /// A message that waits while another one for this recipient is on its way.
    pub fn queued(may_keep: bool) -> Attempt {
        Attempt { state: State::Queued, may_keep }
    }

    /// Nothing else is on its way to this recipient. `behind`: as at the beginning.
    pub fn handle_turn(&mut self, behind: bool) -> Option<Output> {
        match &self.state {
            State::Queued => {
                let output;
                (*self, output) = Attempt::new(self.may_keep, behind);
                Some(output)
            }
            State::Carried { .. } | State::Storing(_) | State::Accepted | State::Over => None,
        }
    }

    /// It was stored before the server was started: only its sender does not know.
    pub fn handle_known(&mut self) -> Option<Output> {
        match &self.state {
            State::Queued => {
                self.state = State::Over;
                Some(Output::Accept)
            }
            State::Carried { .. } | State::Storing(_) | State::Accepted | State::Over => None,
        }
    }

    /// Is there a copy out of which it is not known yet how it ends? Then nobody else sends it.
    pub fn is_out(&self) -> bool {
        matches!(self.state, State::Storing(SoFar::Silent) | State::Accepted)
    }

    /// The devices have all answered or will not.
    pub fn handle_ended(&mut self, ended: Ended) -> Option<Output> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Carried { refusal } => match refusal {
                _ if !self.may_keep || is_told(ended.verdict, ended.best) => Some(Output::PassOn(ended)),
                Some(refusal) => Some(Output::Refuse(refusal)),
                None => {
                    self.state = State::Storing(SoFar::Said(ended));
                    Some(Output::Store)
                }
            },
            State::Storing(_) => {
                self.state = State::Storing(SoFar::Said(ended));
                None
            }
            State::Accepted => Some(Output::Settle(ended.verdict)),
            State::Queued | State::Over => None,
        }
    }

    /// The devices have had their time.
    pub fn handle_patience(&mut self) -> Option<Output> {
        match &self.state {
            State::Carried { refusal: None } if self.may_keep => {
                self.state = State::Storing(SoFar::Silent);
                Some(Output::Store)
            }
            State::Queued if self.may_keep => {
                self.state = State::Storing(SoFar::NotReached);
                Some(Output::Store)
            }
            State::Queued => {
                self.state = State::Over;
                Some(Output::Refuse(Reject::new(StatusCode::TEMPORARILY_UNAVAILABLE)))
            }
            State::Carried { .. } | State::Storing(_) | State::Accepted | State::Over => None,
        }
    }

    /// It is on disk.
    pub fn handle_stored(&mut self) -> [Option<Output>; 2] {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Storing(SoFar::Silent) => {
                self.state = State::Accepted;
                [Some(Output::Accept), None]
            }
            // The device was quicker than the disk: its answer is the better news.
            State::Storing(SoFar::Said(ended)) if ended.verdict == Verdict::Delivered => {
                [Some(Output::PassOn(ended)), Some(Output::Settle(Verdict::Delivered))]
            }
            State::Storing(SoFar::Said(ended)) => [Some(Output::Accept), Some(Output::Settle(ended.verdict))],
            State::Storing(SoFar::NotAsked | SoFar::NotReached) => [Some(Output::Accept), None],
            State::Queued | State::Carried { .. } | State::Accepted | State::Over => [None, None],
        }
    }

    /// It is not on disk, and certainly will not be.
    pub fn handle_refused(&mut self, refusal: Reject) -> Option<Output> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Storing(SoFar::NotAsked) => {
                self.state = State::Carried { refusal: Some(refusal) };
                Some(Output::Carry)
            }
            State::Storing(SoFar::Silent) => {
                self.state = State::Carried { refusal: Some(refusal) };
                None
            }
            State::Storing(SoFar::Said(ended)) if is_told(ended.verdict, ended.best) => {
                Some(Output::PassOn(ended))
            }
            State::Storing(SoFar::Said(_) | SoFar::NotReached) => Some(Output::Refuse(refusal)),
            State::Queued | State::Carried { .. } | State::Accepted | State::Over => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(outcomes: &[(u16, bool)]) -> Ended {
        let outcomes: Vec<_> =
            outcomes.iter().map(|(code, ours)| (StatusCode::new(*code).unwrap(), *ours)).collect();
        Ended::new(&outcomes, None)
    }

    fn judged(outcomes: &[(u16, bool)]) -> Verdict {
        ended(outcomes).verdict
    }

    fn full() -> Reject {
        Reject::new(StatusCode::TEMPORARILY_UNAVAILABLE)
    }

    #[test]
    fn silence_and_what_passes_is_asked_again_rfc3428_x3() {
        for outcomes in [
            &[][..],
            &[(480, true)],
            &[(408, true)],
            &[(500, true)],
            &[(480, false)],
            &[(486, false)],
            &[(503, false)],
            &[(599, false)],
            // One of them may take it yet.
            &[(415, false), (408, true)],
        ] {
            assert_eq!(judged(outcomes), Verdict::Later, "{outcomes:?}");
        }
    }

    #[test]
    fn what_every_device_refuses_for_good_is_not_asked_again_rfc3428_x3() {
        for code in [400, 403, 404, 405, 413, 415, 488, 499, 501, 505, 513, 603, 606] {
            assert_eq!(judged(&[(code, false)]), Verdict::Never(StatusCode::new(code).unwrap()));
        }
        assert_eq!(judged(&[(415, false), (488, false)]), Verdict::Never(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }

    #[test]
    fn too_large_for_datagrams_waits_for_a_stream_rfc3428_8() {
        assert_eq!(judged(&[(413, true)]), Verdict::TooLarge);
        assert_eq!(judged(&[(415, false), (413, true)]), Verdict::TooLarge);
        assert_eq!(judged(&[(408, true), (413, true)]), Verdict::Later);
    }

    #[test]
    fn what_a_device_answers_goes_back_rfc3428_7() {
        for outcomes in [&[(200, false)][..], &[(415, false)], &[(486, false)], &[(413, true)]] {
            let (mut attempt, first) = Attempt::new(true, false);
            assert_eq!(first, Output::Carry);
            let said = ended(outcomes);
            assert_eq!(attempt.handle_ended(said.clone()), Some(Output::PassOn(said)));
            assert_eq!(attempt.handle_patience(), None);
        }
    }

    #[test]
    fn nobody_there_is_202_once_it_is_stored_rfc3428_7() {
        let (mut attempt, _) = Attempt::new(true, false);
        assert_eq!(attempt.handle_ended(ended(&[(480, true)])), Some(Output::Store));
        assert!(!attempt.is_out());
        assert_eq!(attempt.handle_stored(), [Some(Output::Accept), Some(Output::Settle(Verdict::Later))]);
    }

    #[test]
    fn a_late_2xx_settles_the_stored_copy_rfc3428_x1() {
        let (mut attempt, _) = Attempt::new(true, false);
        assert_eq!(attempt.handle_patience(), Some(Output::Store));
        assert!(attempt.is_out());
        assert_eq!(attempt.handle_stored(), [Some(Output::Accept), None]);
        assert!(attempt.is_out());
        assert_eq!(attempt.handle_ended(ended(&[(200, false)])), Some(Output::Settle(Verdict::Delivered)));
        assert!(!attempt.is_out());
    }

    #[test]
    fn a_device_that_answers_while_the_disk_is_busy_is_heard() {
        let (mut attempt, _) = Attempt::new(true, false);
        attempt.handle_patience();
        let said = ended(&[(200, false)]);
        assert_eq!(attempt.handle_ended(said.clone()), None);
        assert_eq!(
            attempt.handle_stored(),
            [Some(Output::PassOn(said)), Some(Output::Settle(Verdict::Delivered))]
        );
    }

    #[test]
    fn without_a_store_a_device_may_still_take_it_or_the_sender_is_told_why_not_i1() {
        let (mut attempt, _) = Attempt::new(true, false);
        attempt.handle_patience();
        assert_eq!(attempt.handle_refused(full()), None);
        assert_eq!(attempt.handle_patience(), None, "it is not asked twice");
        assert_eq!(attempt.handle_ended(ended(&[(408, true)])), Some(Output::Refuse(full())));

        let (mut attempt, _) = Attempt::new(true, false);
        attempt.handle_patience();
        attempt.handle_refused(full());
        let said = ended(&[(200, false)]);
        assert_eq!(attempt.handle_ended(said.clone()), Some(Output::PassOn(said)));

        let (mut attempt, _) = Attempt::new(true, false);
        attempt.handle_ended(ended(&[(480, true)]));
        assert_eq!(attempt.handle_refused(full()), Some(Output::Refuse(full())));
    }

    #[test]
    fn who_stands_behind_others_is_stored_first_and_carried_if_that_cannot_be() {
        let (mut attempt, first) = Attempt::new(true, true);
        assert_eq!((first, attempt.is_out()), (Output::Store, false));
        assert_eq!(attempt.handle_stored(), [Some(Output::Accept), None]);

        let (mut attempt, _) = Attempt::new(true, true);
        assert_eq!(attempt.handle_refused(full()), Some(Output::Carry));
        assert_eq!(attempt.handle_ended(ended(&[(480, true)])), Some(Output::Refuse(full())));
    }

    #[test]
    fn who_waits_for_others_is_sent_in_turn_or_stored_in_time_rfc3428_8() {
        let mut attempt = Attempt::queued(true);
        assert_eq!(attempt.handle_turn(false), Some(Output::Carry));
        assert_eq!(attempt.handle_turn(false), None);
        assert_eq!(attempt.handle_patience(), Some(Output::Store));

        let mut attempt = Attempt::queued(true);
        assert_eq!(attempt.handle_turn(true), Some(Output::Store), "the one before it was stored");
        assert_eq!(attempt.handle_stored(), [Some(Output::Accept), None]);

        let mut attempt = Attempt::queued(true);
        assert_eq!(attempt.handle_patience(), Some(Output::Store));
        assert_eq!((attempt.handle_turn(true), attempt.is_out()), (None, false));
        assert_eq!(attempt.handle_refused(full()), Some(Output::Refuse(full())), "it is not its turn");

        let mut attempt = Attempt::queued(false);
        assert_eq!(attempt.handle_patience(), Some(Output::Refuse(full())));
    }

    #[test]
    fn what_was_stored_before_a_crash_is_accepted_and_not_sent_again_rfc3428_x2() {
        let mut attempt = Attempt::queued(true);
        assert_eq!(attempt.handle_known(), Some(Output::Accept));
        assert_eq!((attempt.handle_turn(false), attempt.handle_patience()), (None, None));
        let (mut attempt, _) = Attempt::new(true, false);
        assert_eq!(attempt.handle_known(), None, "it is on its way");
    }

    #[test]
    fn what_may_not_be_kept_is_for_now_or_never_rfc3994_3_2() {
        let (mut attempt, first) = Attempt::new(false, true);
        assert_eq!(first, Output::Carry);
        assert_eq!(attempt.handle_patience(), None);
        let said = ended(&[(480, true)]);
        assert_eq!(attempt.handle_ended(said.clone()), Some(Output::PassOn(said)));
    }
}

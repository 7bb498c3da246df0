//! What is left of a machine that has nothing to do: some words instead of some hundred bytes. Most dialogs are like that most of the time.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::presence::dialog::{Dialog, Fingerprint, Owed, Phase, Standing};
use crate::presence::numbers::Numbers;
use crate::presence::pacing::{Bucket, Pacing};

/// A [`Dialog`] at rest: nothing owed, nothing in flight, nothing awaited. It goes on from here as if it had never rested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rest {
    pub(in crate::presence) next: u32,
    pub(in crate::presence) safe: u32,
    body: u64,
    /// Milliseconds after the instant that both sides know.
    since_ms: u64,
    tokens: u16,
    pub(in crate::presence) standing: Standing,
    proven: bool,
    pub(in crate::presence) shown: bool,
    pub(in crate::presence) was_pending: bool,
}

impl Dialog {
    /// What to keep of it, if it is at rest. `origin`: an instant before all others, the same for [`Dialog::awake`].
    pub fn rest(&mut self, now: Instant, origin: Instant) -> Option<Rest> {
        // Every field is named, so that one that is added is thought of here.
        let Dialog {
            phase,
            owed,
            ending,
            sent,
            not_before,
            bucket,
            numbers,
            proven,
            refusing,
            shown,
            was_pending,
            outputs,
        } = self;
        let is_idle =
            *phase == Phase::Idle && *owed == Owed::Nothing && ending.is_none() && outputs.is_empty();
        if !is_idle || refusing.is_some() || not_before.is_some_and(|(at, _)| at > now) {
            return None;
        }
        let (Some(sent), Some((next, safe))) = (*sent, numbers.at_rest(now)) else { return None };
        let (tokens, since) = bucket.level(now);
        // A little late is nobody's harm; early would be a NOTIFY too many. Intervals are whole milliseconds, so it is rounded once.
        let since = since.saturating_duration_since(origin);
        let part = u64::from(since.subsec_nanos().div_ceil(1_000_000));
        let since_ms = since.as_secs().saturating_mul(1_000).saturating_add(part);
        Some(Rest {
            next,
            safe,
            body: sent.body,
            since_ms,
            tokens: u16::try_from(tokens).unwrap_or(u16::MAX),
            standing: sent.standing,
            proven: *proven,
            shown: *shown,
            was_pending: *was_pending,
        })
    }

    /// The machine again.
    pub fn awake(rest: &Rest, origin: Instant, pacing: Pacing) -> Dialog {
        let since = origin.checked_add(Duration::from_millis(rest.since_ms)).unwrap_or(origin);
        Dialog {
            phase: Phase::Idle,
            owed: Owed::Nothing,
            ending: None,
            sent: Some(Fingerprint { standing: rest.standing, body: rest.body }),
            not_before: None,
            bucket: Bucket::with(pacing, rest.tokens.into(), since),
            numbers: Numbers::between(rest.next, rest.safe),
            proven: rest.proven,
            refusing: None,
            shown: rest.shown,
            was_pending: rest.was_pending,
            outputs: SmallVec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::dialog::{Answer, Output, Seen, State};

    const PACING: Pacing = Pacing { burst: 4, interval: Duration::from_secs(5), looks: false };

    fn seen(body: u64) -> Seen {
        Seen::State(Fingerprint { standing: Standing::Active, body })
    }

    /// Tells it of a change; the number of the NOTIFY, if there is one.
    fn changed(dialog: &mut Dialog, now: Instant, body: u64) -> Option<(u32, State)> {
        dialog.handle_changed(now, Standing::Active);
        let mut notify = None;
        while let Some(output) = dialog.poll_output() {
            match output {
                Output::Look { .. } => dialog.handle_state(now, seen(body)),
                Output::Notify { cseq, state, .. } => notify = Some((cseq, state)),
                Output::Reserve { .. } | Output::Drop | Output::Forget => panic!("{output:?}"),
            }
        }
        notify
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do as the beginning of virtual time")]
    fn a_dialog_that_rested_goes_on_as_one_that_did_not_a25() {
        let origin = Instant::now();
        let at = |ms| origin + Duration::from_millis(ms);
        let [mut rested, mut other] = [(); 2].map(|()| Dialog::initial(at(0), PACING, 64));
        for step in 0..400_u64 {
            let now = at(step * 437);
            let [one, two] = [&mut rested, &mut other].map(|dialog| {
                let notify = changed(dialog, now, step / 3);
                if let Some((cseq, _)) = notify {
                    assert_eq!(dialog.rest(now, origin), None, "in flight");
                    dialog.handle_answer(now, cseq, Answer::Accepted);
                }
                notify
            });
            assert_eq!(one, two, "{step}");
            if let Some(rest) = rested.rest(now, origin) {
                rested = Dialog::awake(&rest, origin, PACING);
            }
            if other.numbers.at_rest(now).is_some_and(|(next, _)| next > 40) {
                break;
            }
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do as the beginning of virtual time")]
    fn who_is_owed_something_does_not_rest() {
        let now = Instant::now();
        let mut dialog = Dialog::initial(now, PACING, 64);
        assert_eq!(dialog.rest(now, now), None, "never told");
        let (cseq, _) = changed(&mut dialog, now, 1).unwrap();
        dialog.handle_answer(now, cseq, Answer::Failed { retry_after: None });
        assert_eq!(dialog.rest(now, now), None, "told again later");
        let later = dialog.next_timeout().unwrap();
        let (cseq, _) = changed(&mut dialog, later, 1).unwrap();
        dialog.handle_answer(later, cseq, Answer::Accepted);
        assert!(dialog.rest(later, now).is_some());
        (0..4).for_each(|body| {
            if let Some((cseq, _)) = changed(&mut dialog, later, 10 + body) {
                dialog.handle_answer(later, cseq, Answer::Accepted);
            }
        });
        assert_eq!(dialog.rest(later, now), None, "paced");
    }
}

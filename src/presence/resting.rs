//! A subscription whose watcher knows everything, as the notifier keeps it: without a machine and what stands around it.

use std::time::Instant;

use crate::model::Timestamp;
use crate::presence::dialog::{Dialog, Rest, Standing, State};
use crate::presence::explain::{Heard, Told};
use crate::presence::pacing::Pacing;
use crate::sip::StatusCode;

/// The machine at rest, and what came of the last NOTIFY, for who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resting {
    rest: Rest,
    sent_at: Timestamp,
    /// Milliseconds from there to the answer.
    answered_after_ms: u32,
    /// What had ended when the watcher was told last.
    ended_told: u32,
    status: StatusCode,
}

impl Resting {
    /// What to keep; `None` if the machine is not at rest, or its last NOTIFY was not answered.
    pub(super) fn of(
        dialog: &mut Dialog,
        told: Option<&Told>,
        ended_told: u32,
        now: Instant,
        origin: Instant,
    ) -> Option<Resting> {
        let told = told?;
        let (Heard::Answer(status), at) = told.heard? else { return None };
        let rest = dialog.rest(now, origin)?;
        let answered_after_ms = u32::try_from(at.0.saturating_sub(told.at.0).max(0)).unwrap_or(u32::MAX);
        Some(Resting { rest, sent_at: told.at, answered_after_ms, ended_told, status })
    }

    /// The machine again.
    pub(super) fn dialog(&self, origin: Instant, pacing: Pacing) -> Dialog {
        Dialog::awake(&self.rest, origin, pacing)
    }

    /// What had ended when the watcher was told last.
    pub(super) fn ended_told(&self) -> u32 {
        self.ended_told
    }

    /// Was the watcher told that the owner has not decided?
    pub(super) fn was_pending(&self) -> bool {
        self.rest.was_pending
    }

    /// The last NOTIFY.
    pub(super) fn told(&self) -> Told {
        let state = match self.rest.standing {
            Standing::Active => State::Active,
            Standing::Pending | Standing::Refused => State::Pending { shown: self.rest.shown },
        };
        let heard_at = Timestamp(self.sent_at.0.saturating_add(self.answered_after_ms.into()));
        let cseq = self.rest.next.saturating_sub(1);
        Told { cseq, state, at: self.sent_at, heard: Some((Heard::Answer(self.status), heard_at)) }
    }
}

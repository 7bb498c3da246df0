//! What a dialog hears and what it wants.

use std::time::{Duration, Instant};

use crate::sip::StatusCode;

/// What a watcher may see, without saying what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A document.
    Active,
    /// Nothing yet: the owner has not decided.
    Pending,
    /// Nothing any more.
    Refused,
}

/// What a NOTIFY says, to know whether the next one would say anything new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// The state line without its countdown.
    pub standing: Standing,
    /// Hash of the body; 0 without one.
    pub body: u64,
}

/// Why a subscription ends (RFC 6665 4.1.3, 4.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It was not refreshed, or the watcher ended or fetched.
    Timeout,
    /// The owner's rules say no.
    Rejected,
    /// There is no such presentity any more.
    NoResource,
    /// This server will not be back: the watcher may subscribe elsewhere at once.
    Deactivated,
}

impl Reason {
    /// The token of Subscription-State.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Timeout => "timeout",
            Reason::Rejected => "rejected",
            Reason::NoResource => "noresource",
            Reason::Deactivated => "deactivated",
        }
    }
}

/// What was found by looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// This is there to be told.
    State(Fingerprint),
    /// The subscription is not there any more.
    Missing,
}

/// How a NOTIFY was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// 2xx.
    Accepted,
    /// The dialog or the watcher is gone (RFC 6665 4.2.2): a fatal code, a timeout, a dead transport.
    Gone,
    /// It never left us, for reasons of our own: the subscription lives on.
    Unsent {
        /// When to try again; `None`: with the next change.
        retry_after: Option<Duration>,
    },
    /// Any other failure: the subscription lives on, and is told again later and later. Who takes nothing for 20 minutes is gone.
    Failed {
        /// When the peer asked to be told again.
        retry_after: Option<Duration>,
    },
}

impl Answer {
    /// Reads a final status. A challenge is never answered: it is a failure like others (`A10`).
    pub fn of(status: StatusCode, retry_after_s: Option<u32>) -> Answer {
        match status.code() {
            200..=299 => Answer::Accepted,
            // RFC 5057 5.1, note 4: a 408 is what it stands for.
            404 | 405 | 408 | 410 | 416 | 480..=485 | 489 | 501 | 604 => Answer::Gone,
            _ => Answer::Failed {
                retry_after: retry_after_s.map(|secs| {
                    Duration::from_secs(secs.into()).clamp(SHORTEST_RETRY_AFTER, LONGEST_RETRY_AFTER)
                }),
            },
        }
    }
}

/// How an attempt to reserve CSeq numbers ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserved {
    /// The row says so now.
    Taken {
        /// Up to this number.
        upto: u32,
        /// It is on disk, not only on its way there.
        durable: bool,
    },
    /// Not now.
    Refused,
    /// There is no row any more.
    Missing,
}

/// What the notifier must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Look at the presentity and tell [`super::Dialog::handle_state`]. `last`: the row is gone, this is for the final NOTIFY.
    Look {
        /// For the final NOTIFY?
        last: bool,
    },
    /// Send what was just seen.
    Notify {
        /// CSeq number; also the number by which the answer comes back.
        cseq: u32,
        /// Subscription-State.
        state: State,
        /// The watcher has never answered: two packets at most (`A16`).
        unproven: bool,
        /// A SUBSCRIBE asked for it, or it is the last: all of the state, where others have what has changed alone (RFC 3857 4.3).
        whole: bool,
    },
    /// Write `notify_cseq_reserved`, then tell [`super::Dialog::handle_reserved`].
    Reserve {
        /// The new value.
        upto: u32,
        /// Must it be on disk before the answer?
        durable: bool,
    },
    /// Drop the subscription's row, then tell [`super::Dialog::handle_dropped`] or [`super::Dialog::handle_not_dropped`].
    Drop,
    /// It is over: forget this machine.
    Forget,
}

/// Subscription-State of a NOTIFY (RFC 6665 4.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// With the document.
    Active,
    /// Without one. `shown`: the watcher was shown state before, so it is told that the presentity is unavailable (RFC 3856 5 allows it,
    /// whatever is true): else it would go on showing the last it saw.
    Pending {
        /// See there.
        shown: bool,
    },
    /// The last; `body`: with what was just seen.
    Terminated {
        /// Why.
        reason: Reason,
        /// With current state?
        body: bool,
    },
}

impl State {
    /// Is the watcher served?
    pub fn is_active(self) -> bool {
        match self {
            State::Active => true,
            State::Pending { .. } | State::Terminated { .. } => false,
        }
    }
}

/// Why changes are put off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOff {
    /// After a restart full states go out one after the other.
    Turn,
    /// The watcher said Retry-After.
    Peer,
    /// The watcher refused the last one without saying for how long.
    Refusal,
    /// We could not: a full table, a store that is away.
    Ours,
}

/// What a NOTIFY waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The answer to the NOTIFY of this number: one is in flight at a time.
    Answer(u32),
    /// The row is being dropped.
    Row,
    /// CSeq numbers are being reserved, or will be asked for again then.
    Numbers(Option<Instant>),
    /// Not before this instant.
    PutOff(PutOff, Instant),
    /// The next NOTIFY is earned then.
    Pacing(Instant),
}

/// How it stands with a dialog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlook {
    /// Is the watcher owed a NOTIFY?
    pub owes: bool,
    /// What it waits for, or the one that is on its way.
    pub waits_for: Option<Wait>,
}

/// Nobody is told again sooner.
const SHORTEST_RETRY_AFTER: Duration = Duration::from_secs(5);
/// No Retry-After silences us longer.
pub(super) const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);
/// Who has answered nothing but refusals for so long is dropped.
pub(super) const GIVE_UP: Duration = Duration::from_secs(1_200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_nobody_knows_count_as_x00_of_their_class_rfc3261_8_1_3_2() {
        let of = |code| Answer::of(StatusCode::new(code).unwrap(), None);
        for (unknown, known) in [(299, 200), (399, 300), (499, 400), (599, 500), (699, 600)] {
            assert_eq!(of(unknown), of(known), "{unknown}");
        }
        let provisional = |code| StatusCode::new(code).unwrap().is_provisional();
        assert!(provisional(199) && provisional(183) && !provisional(200));
    }
}

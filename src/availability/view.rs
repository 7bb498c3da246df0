//! The only door through which presence leaves the server.
//!
//! [`grant`] says who may see how much, [`render`] makes that document, [`view`] is both. A notifier with many watchers of one presentity
//! renders once per grant.

use bytes::Bytes;

use crate::availability::composition::{compose, compose_basic};
use crate::model::{Aor, HomeState, Timestamp};

/// What holds between users of the domain where the owner has no rules of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DomainDefault {
    /// Who watches me may be watched by me... and the other way round: a watcher sees whom watches them.
    #[default]
    Reciprocal,
    /// Pending until the owner says so.
    Confirm,
    /// Everybody of the domain sees open or closed.
    Basic,
    /// Everybody of the domain sees everything.
    Full,
}

/// How much of a presentity a watcher may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grant {
    /// Not decided by the owner: nothing.
    Pending,
    /// Refused: nothing.
    Rejected,
    /// Open or closed, per tuple.
    Basic,
    /// The whole composed document.
    Full,
}

/// What one watcher gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum View {
    /// Allowed: this document.
    Active(Bytes),
    /// Not decided by the owner: no document.
    Pending,
    /// Refused.
    Rejected,
}

/// What this watcher may see of this presentity at this instant. Nothing is released unless a rule provides it.
///
/// - `presentity`: everything about the watched AoR.
/// - `watched`: the watcher's own home, where the presentity may be found as a watcher (reciprocal rule).
pub fn view(
    presentity: &HomeState,
    watcher: &Aor,
    watched: &HomeState,
    default: DomainDefault,
    now: Timestamp,
) -> View {
    render(presentity, grant(&presentity.aor, watcher, watched, default, now), now)
}

/// Who may see how much. Everybody sees themselves; within the domain its default decides; watchers from elsewhere wait for the owner, and
/// those without a name are refused (RFC 3323 4.1.1.3).
pub fn grant(
    presentity: &Aor,
    watcher: &Aor,
    watched: &HomeState,
    default: DomainDefault,
    now: Timestamp,
) -> Grant {
    if watcher == presentity {
        return Grant::Full;
    }
    if watcher.domain() == "anonymous.invalid" {
        return Grant::Rejected;
    }
    if watcher.domain() != presentity.domain() {
        return Grant::Pending;
    }
    match default {
        DomainDefault::Reciprocal if watched.aor == *watcher && watched.is_watched_by(presentity, now) => {
            Grant::Full
        }
        DomainDefault::Reciprocal | DomainDefault::Confirm => Grant::Pending,
        DomainDefault::Basic => Grant::Basic,
        DomainDefault::Full => Grant::Full,
    }
}

/// What a grant gives: the same for everybody who has it.
pub fn render(presentity: &HomeState, grant: Grant, now: Timestamp) -> View {
    match grant {
        Grant::Pending => View::Pending,
        Grant::Rejected => View::Rejected,
        Grant::Basic => View::Active(compose_basic(presentity, now).pidf),
        Grant::Full => View::Active(compose(presentity, now).pidf),
    }
}

//! The only door through which presence leaves the server.

use bytes::Bytes;

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
    let _ = (presentity, watcher, watched, default, now);
    todo!()
}

//! How often failed log-ins may be spoken of: whoever sends wrong passwords does not write our log.

use std::sync::{Mutex, PoisonError};

use crate::model::Timestamp;

/// One line a second at most, for all sources together; those between are counted.
#[derive(Debug, Default)]
pub struct Notices {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    spoken_at: Option<Timestamp>,
    left_out: u64,
}

impl Notices {
    /// May this failure be logged? Then: how many were not, since the last that was.
    pub fn due(&self, now: Timestamp) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back does not silence us.
        let is_due = state.spoken_at.is_none_or(|at| !(0..PAUSE_MS).contains(&now.0.saturating_sub(at.0)));
        if !is_due {
            state.left_out = state.left_out.saturating_add(1);
            return None;
        }
        state.spoken_at = Some(now);
        Some(std::mem::take(&mut state.left_out))
    }
}

/// Between two lines, in milliseconds.
const PAUSE_MS: i64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_logged_once_a_second_and_the_others_counted_rfc7616_3_4() {
        let notices = Notices::default();
        assert_eq!(notices.due(Timestamp(5_000)), Some(0));
        assert_eq!(notices.due(Timestamp(5_999)), None);
        assert_eq!(notices.due(Timestamp(5_999)), None);
        assert_eq!(notices.due(Timestamp(6_000)), Some(2));
        assert_eq!(notices.due(Timestamp(6_001)), None);
        assert_eq!(notices.due(Timestamp(1_000)), Some(1), "the clock was set back");
    }
}

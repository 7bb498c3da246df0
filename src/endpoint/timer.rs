//! Drives the machines' timers and the timers of transaction users.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::endpoint::{Endpoint, TransactionUser, UserEvent, clock};

/// Users that asked to be woken. A user that is gone by then is not.
#[derive(Default)]
pub(super) struct Wakes(Mutex<BinaryHeap<Reverse<Wake>>>);

struct Wake {
    at: Instant,
    user: Weak<dyn TransactionUser>,
    token: u32,
}

impl PartialEq for Wake {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}
impl Eq for Wake {}
impl PartialOrd for Wake {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Wake {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl Endpoint {
    /// Wakes a user with [`UserEvent::Timer`] after a while, if it still exists then.
    pub fn wake(&self, after: Duration, user: Weak<dyn TransactionUser>, token: u32) {
        let at = clock::instant() + after;
        self.wakes.0.lock().unwrap_or_else(PoisonError::into_inner).push(Reverse(Wake { at, user, token }));
    }

    #[expect(clippy::disallowed_methods, reason = "the one task behind all timers; it ends with `stop`")]
    pub(super) fn run_timers(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(TICK);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut stopping = false;
            loop {
                tokio::select! {
                    _ = tick.tick() => {}
                    _ = stop.changed(), if !stopping => stopping = true,
                }
                let now = clock::instant();
                let endpoint = self.clone();
                let round =
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || endpoint.fire(now)));
                if round.is_err() {
                    tracing::error!("a timer's work panicked; the timers go on");
                }
                if stopping && Arc::strong_count(&self) == 1 {
                    return;
                }
            }
        });
    }

    fn fire(&self, now: Instant) {
        self.server_timers(now);
        self.client_timers(now);
        while let Some(wake) = self.pop_wake(now) {
            if let Some(user) = wake.user.upgrade() {
                user.event(UserEvent::Timer { token: wake.token });
            }
        }
    }

    fn pop_wake(&self, now: Instant) -> Option<Wake> {
        let mut wakes = self.wakes.0.lock().unwrap_or_else(PoisonError::into_inner);
        if wakes.peek().is_some_and(|Reverse(wake)| wake.at <= now) {
            wakes.pop().map(|Reverse(w)| w)
        } else {
            None
        }
    }
}

/// Resolution of all timers: a fiftieth of T1.
const TICK: Duration = Duration::from_millis(10);

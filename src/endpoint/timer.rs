//! Drives the machines' timers and the timers of transaction users.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::endpoint::wakes::Wakes;
use crate::endpoint::{Endpoint, TransactionUser, UserEvent, clock};

/// Users that asked to be woken. A user that is gone by then is not.
#[derive(Default)]
pub(super) struct Timers(Mutex<Asked>);

/// Names one [`Endpoint::wake`], to take it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WakeId(u64);

/// Users apart from their instants: what is taken back leaves nothing but a number behind, and holds no user's memory.
#[derive(Default)]
struct Asked {
    users: HashMap<WakeId, (Weak<dyn TransactionUser>, u32)>,
    wakes: Wakes<WakeId>,
    last: u64,
}

impl Timers {
    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pop_due(&self, now: Instant) -> Option<(Weak<dyn TransactionUser>, u32)> {
        let mut asked = self.lock();
        while let Some(id) = asked.wakes.pop_due(now) {
            if let Some(user) = asked.users.remove(&id) {
                return Some(user);
            }
        }
        None
    }
}

impl Endpoint {
    /// Wakes a user with [`UserEvent::Timer`] after a while, if it still exists then.
    pub fn wake(&self, after: Duration, user: Weak<dyn TransactionUser>, token: u32) -> WakeId {
        let at = clock::instant() + after;
        let mut asked = self.timers.lock();
        asked.last += 1;
        let id = WakeId(asked.last);
        asked.users.insert(id, (user, token));
        asked.wakes.push(at, id);
        id
    }

    /// Takes back an [`Endpoint::wake`] that has not come yet.
    pub fn forget(&self, id: WakeId) {
        let user = self.timers.lock().users.remove(&id);
        // Freed outside the lock.
        drop(user);
    }

    #[expect(clippy::disallowed_methods, reason = "the one task behind all timers; it ends with `stop`")]
    pub(super) fn run_timers(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(TICK);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut stopping = false;
            let start = clock::instant();
            loop {
                tokio::select! {
                    _ = tick.tick() => {}
                    _ = stop.changed(), if !stopping => stopping = true,
                }
                let now = clock::instant();
                self.throttle.handle_time(now.saturating_duration_since(start));
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
        while let Some((user, token)) = self.timers.pop_due(now) {
            if let Some(user) = user.upgrade() {
                user.event(UserEvent::Timer { token });
            }
        }
    }
}

/// Resolution of all timers: a fiftieth of T1.
const TICK: Duration = Duration::from_millis(10);

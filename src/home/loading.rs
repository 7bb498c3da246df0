//! Filling the table at a start, while requests are answered already.
//!
//! Two ways in: everything, in pages ([`Homes::install`]), and one home at once, because a request needs it ([`Homes::bring`]). A home that was
//! brought may have changed since the page with its older rows was read, so pages leave it alone.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::home::{Homes, Slot, lock};
use crate::model::{Aor, HomeState, Row};

/// AoRs of one shard that were brought while everything is being loaded; `None` when it is done.
pub(super) type Brought = Option<HashSet<Aor>>;

impl Homes {
    /// Puts a row that the store held into memory, at start; unless its home was brought meanwhile.
    pub fn install(&self, row: &Row) {
        let aor = row.aor();
        let mut shard = self.shard(aor);
        let shard = &mut *shard;
        if shard.brought.as_ref().is_some_and(|brought| brought.contains(aor)) {
            return;
        }
        let slot = shard.slots.entry(aor.clone()).or_insert_with(|| Slot::empty(aor.clone()));
        self.unanswered.moves(&slot.state, row);
        Arc::make_mut(&mut slot.state).apply(row);
        slot.reschedule(&mut shard.due, aor);
    }

    /// From now on homes may be brought, until [`Homes::loaded`].
    pub fn loading(&self) {
        self.shards.iter().for_each(|shard| {
            lock(shard).brought.get_or_insert_default();
        });
    }

    /// Everything is in memory: what is not there does not exist.
    pub fn loaded(&self) {
        self.shards.iter().for_each(|shard| lock(shard).brought = None);
    }

    /// Is all of this home in memory, although not everything is?
    pub fn is_brought(&self, aor: &Aor) -> bool {
        self.shard(aor).brought.as_ref().is_none_or(|brought| brought.contains(aor))
    }

    /// Puts one home into memory, all of it; `rows` are what the store holds of it. A home that is there already stays as it is: it
    /// may have changed since it was read.
    pub fn bring(&self, aor: &Aor, rows: &[Row]) {
        let mut shard = self.shard(aor);
        let shard = &mut *shard;
        if !shard.brought.as_mut().is_some_and(|brought| brought.insert(aor.clone())) {
            return;
        }
        let slot = shard.slots.entry(aor.clone()).or_insert_with(|| Slot::empty(aor.clone()));
        let mut state = HomeState::empty(aor.clone());
        rows.iter().for_each(|row| state.apply(row));
        self.unanswered.replaced(&slot.state, &state);
        slot.state = Arc::new(state);
        shard.reschedule(aor);
    }

    /// Users for whom messages are stored.
    pub fn with_messages(&self) -> Vec<Aor> {
        let mut users = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            let stored = shard.slots.iter().filter(|(_, slot)| !slot.state.messages.is_empty());
            users.extend(stored.map(|(aor, _)| aor.clone()));
        }
        users
    }

    /// Marks every home that has subscriptions, or somebody waiting for one: after a start everybody is owed full state. One subscription per `gap`, so that nobody else
    /// waits for it; ends early when `stop` is set.
    pub async fn mark_watched(&self, gap: Duration, mut stop: watch::Receiver<bool>) {
        let mut tick = tokio::time::interval(MARKING);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let share = MARKING.as_nanos().checked_div(gap.as_nanos()).unwrap_or(u128::MAX).max(1);
        // Watchers that may be told before the next tick; below zero after a home with many.
        let mut left = 0i128;
        for shard in &self.shards {
            let watched: Vec<(Aor, usize)> = {
                let shard = lock(shard);
                let is_watched =
                    |state: &HomeState| !state.subscriptions.is_empty() || !state.waiting.is_empty();
                let slots = shard.slots.iter().filter(|(_, slot)| is_watched(&slot.state));
                slots.map(|(aor, slot)| (aor.clone(), slot.state.subscriptions.len())).collect()
            };
            for (aor, watchers) in watched {
                while left <= 0 {
                    tokio::select! {
                        _ = tick.tick() => left = left.saturating_add_unsigned(share),
                        _ = stop.changed() => return,
                    }
                }
                left -= watchers as i128;
                self.mark(&aor);
            }
        }
    }
}

/// Between two looks at how many watchers may be told.
const MARKING: Duration = Duration::from_millis(10);

//! Has a home's turn while something is awaited: a commit, or a load after an unknown outcome.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use smallvec::SmallVec;

use crate::home::change::{Job, Mode, Refusal, Touched};
use crate::home::{Homes, lock};
use crate::model::{Aor, Durability, HomeState, Moved, Row};
use crate::store::Outcome;

/// Changes that were decided one after the other and are committed together.
pub(super) struct Batch {
    pub(super) rows: SmallVec<[Row; 1]>,
    pub(super) moved: Moved,
    pub(super) jobs: SmallVec<[Box<dyn Job>; 1]>,
    pub(super) commit: Pin<Box<dyn Future<Output = Outcome> + Send>>,
}

/// What several changes decided together.
struct Decided {
    rows: SmallVec<[Row; 1]>,
    moved: Moved,
    durability: Durability,
    jobs: SmallVec<[Box<dyn Job>; 1]>,
}

/// A home's turn while it is held. However it ends, the home can be entered again.
struct Turn {
    homes: Arc<Homes>,
    aor: Aor,
    ended: bool,
}

impl Turn {
    async fn run(mut self, batch: Option<Batch>) {
        self.homes.turn(&self.aor, batch).await;
        self.ended = true;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.ended {
            // A decision or an answer panicked. What was committed is not known here, so the home is read again before its next change.
            tracing::error!("a change of a home panicked; the home goes on");
            if let Some(slot) = self.homes.shard(&self.aor).slots.get_mut(&self.aor) {
                slot.stale = true;
            }
            self.homes.refuse_waiting(&self.aor);
        }
        self.homes.drivers.fetch_sub(1, Ordering::AcqRel);
        self.homes.drivers_done.notify_waiters();
    }
}

impl Homes {
    /// Starts a driver for a home whose slot is already marked busy.
    #[expect(
        clippy::disallowed_methods,
        reason = "a turn that awaits a commit is a task; `drained` waits for all of them"
    )]
    pub(super) fn drive(self: &Arc<Self>, aor: Aor, batch: Option<Batch>) {
        self.drivers.fetch_add(1, Ordering::AcqRel);
        let turn = Turn { homes: self.clone(), aor, ended: false };
        tokio::spawn(turn.run(batch));
    }

    /// Waits until no change is in hand.
    pub async fn drained(&self) {
        loop {
            let done = self.drivers_done.notified();
            if self.drivers.load(Ordering::Acquire) == 0 {
                return;
            }
            done.await;
        }
    }

    /// Commits, applies, acts; then takes what has queued meanwhile, until nothing waits.
    async fn turn(&self, aor: &Aor, first: Option<Batch>) {
        let mut next = first;
        loop {
            if let Some(batch) = next.take() {
                self.finish(aor, batch).await;
            }
            if self.is_stale(aor) && !self.reload(aor).await {
                self.refuse_waiting(aor);
                return;
            }
            match self.next_batch(aor) {
                Some(batch) => next = Some(batch),
                None => return,
            }
        }
    }

    async fn finish(&self, aor: &Aor, batch: Batch) {
        let outcome = batch.commit.await;
        if outcome == Outcome::NotCommitted && self.mode() == Mode::Volatile {
            // The store went away under these changes and nothing of them was written: they are decided as an outage has it.
            let state = self.read(aor);
            let decided = decide(batch.jobs.into_iter(), &state, Mode::Volatile);
            return self.take_at_once(aor, decided);
        }
        let (state, touched) = {
            let mut shard = self.shard(aor);
            let touched = match outcome {
                Outcome::Committed => shard.apply(aor, &batch.rows, batch.moved, &self.unanswered),
                Outcome::NotCommitted => Touched::new(),
                Outcome::Unknown => {
                    if let Some(slot) = shard.slots.get_mut(aor) {
                        slot.stale = true;
                    }
                    Touched::new()
                }
            };
            (shard.slots.get(aor).map(|slot| slot.state.clone()), touched)
        };
        let state = state.unwrap_or_else(|| Arc::new(HomeState::empty(aor.clone())));
        for job in batch.jobs {
            match outcome {
                Outcome::Committed => job.finish(Ok(&state)),
                Outcome::NotCommitted | Outcome::Unknown => job.finish(Err(Refusal::Fault)),
            }
        }
        touched.into_iter().for_each(|changed| self.mark_for(changed));
    }

    /// Decides what waits, in order, each on the state its predecessors will have made. `None`: nothing waits, the turn is given up.
    fn next_batch(&self, aor: &Aor) -> Option<Batch> {
        loop {
            let (waiting, state) = {
                let mut shard = self.shard(aor);
                let slot = shard.slots.get_mut(aor)?;
                let Some(queue) = slot.queue.as_mut().filter(|queue| !queue.is_empty()) else {
                    (slot.busy, slot.queue) = (false, None);
                    shard.reschedule(aor);
                    return None;
                };
                let count = queue.len().min(MAX_BATCH);
                let waiting: Vec<_> = queue.drain(..count).collect();
                (waiting, slot.state.clone())
            };
            let mode = self.mode();
            let decided = decide(waiting.into_iter(), &state, mode);
            if decided.durability == Durability::Durable && mode == Mode::Durable {
                let Decided { rows, moved, jobs, .. } = decided;
                let commit = Box::pin(self.store.commit(rows.clone()));
                return Some(Batch { rows, moved, jobs, commit });
            }
            self.take_at_once(aor, decided);
        }
    }

    fn take_at_once(&self, aor: &Aor, decided: Decided) {
        let Decided { rows, moved, jobs, .. } = decided;
        let taken = rows.is_empty() || self.store.write_lazily(&rows);
        let (state, touched) = {
            let mut shard = self.shard(aor);
            let touched =
                if taken { shard.apply(aor, &rows, moved, &self.unanswered) } else { Touched::new() };
            (shard.slots.get(aor).map(|slot| slot.state.clone()), touched)
        };
        let state = state.unwrap_or_else(|| Arc::new(HomeState::empty(aor.clone())));
        for job in jobs {
            job.finish(if taken { Ok(&state) } else { Err(Refusal::Fault) });
        }
        touched.into_iter().for_each(|changed| self.mark_for(changed));
    }

    fn is_stale(&self, aor: &Aor) -> bool {
        self.shard(aor).slots.get(aor).is_some_and(|slot| slot.stale)
    }

    /// Reads a home again whose last commit ended `Unknown`.
    async fn reload(&self, aor: &Aor) -> bool {
        let rows = match self.store.load_home(aor).await {
            Ok(rows) => rows,
            Err(fault) => {
                tracing::error!(%fault, "a home could not be read again after an unknown commit");
                return false;
            }
        };
        {
            let mut shard = self.shard(aor);
            if let Some(slot) = shard.slots.get_mut(aor) {
                let mut state =
                    HomeState { version: slot.state.version + 1, ..HomeState::empty(aor.clone()) };
                rows.iter().for_each(|row| state.apply(row));
                self.unanswered.replaced(&slot.state, &state);
                slot.state = Arc::new(state);
                slot.stale = false;
            }
            shard.reschedule(aor);
        }
        self.mark(aor);
        true
    }

    /// The home stays stale: whoever waits gets 503 now, and the next change tries to load it again.
    fn refuse_waiting(&self, aor: &Aor) {
        let waiting = {
            let mut shard = self.shard(aor);
            let Some(slot) = shard.slots.get_mut(aor) else { return };
            slot.busy = false;
            slot.queue.take()
        };
        for job in waiting.into_iter().flat_map(|queue| *queue) {
            job.finish(Err(Refusal::Fault));
        }
    }

    /// Homes with something that ended at or before `now`.
    pub(super) fn due(&self, now: crate::model::Timestamp) -> Vec<Aor> {
        let mut due = Vec::new();
        for shard in &self.shards {
            let shard = &mut *lock(shard);
            let first = due.len();
            due.extend(shard.due.iter().take_while(|(at, _)| *at <= now).map(|(_, aor)| aor.clone()));
            for at in (first..due.len()).rev() {
                let aor = &due[at];
                let Some(slot) = shard.slots.get_mut(aor) else { continue };
                let next = slot.state.next_due();
                if next.is_some_and(|next| next > now) {
                    // Refreshed since.
                    slot.move_entry(next, &mut shard.due, aor);
                    due.swap_remove(at);
                }
            }
        }
        due
    }
}

/// Decides changes one after the other, each on the state that its predecessors will have made.
fn decide(waiting: impl Iterator<Item = Box<dyn Job>>, state: &HomeState, mode: Mode) -> Decided {
    let mut working = state.clone();
    let (mut rows, mut moved) = (SmallVec::<[Row; 1]>::new(), Moved::default());
    let mut durability = Durability::Lazy;
    let mut jobs = SmallVec::new();
    for mut job in waiting {
        let Some(plan) = job.decide(&working, mode) else { continue };
        plan.rows.iter().for_each(|row| working.apply(row));
        if !plan.rows.is_empty() && plan.durability == Durability::Durable {
            durability = Durability::Durable;
        }
        moved.presence |= plan.moved.presence;
        moved.watchers |= plan.moved.watchers;
        rows.extend(plan.rows);
        jobs.push(job);
    }
    Decided { rows, moved, durability, jobs }
}

/// Changes decided and committed together.
const MAX_BATCH: usize = 256;

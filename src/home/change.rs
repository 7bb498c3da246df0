//! One change of one home: enter, decide, commit, apply, act.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::home::unanswered::Unanswered;
use crate::home::{Changed, Decision, Homes, MAX_WAITING, Shard, Slot};
use crate::model::{Aor, Durability, HomeState, Moved, Packages, Plan, Reject, Row};

/// Under which durability a decision is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The store answers: durable rows are on disk before anybody hears of them.
    Durable,
    /// The store is away: rows live in memory, are written when it is back, and expiries are capped by the decision.
    Volatile,
}

/// Why a change did not happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The decision was no.
    Reject(Reject),
    /// Our store or our queue could not take it: 503 with Retry-After, memory untouched.
    Fault,
}

/// A change that waits for its turn.
pub(super) trait Job: Send {
    /// Decides on this state; may be asked again if the commit failed because the store went away. `None`: it was refused and has already acted.
    fn decide(&mut self, state: &HomeState, mode: Mode) -> Option<Plan>;
    /// Acts on the end.
    fn finish(self: Box<Self>, state: Result<&Arc<HomeState>, Refusal>);
}

struct Waiting<T, D, A> {
    decide: D,
    decided: Option<T>,
    act: Option<A>,
}

impl<T, D, A> Job for Waiting<T, D, A>
where
    T: Send,
    D: Fn(&HomeState, Mode) -> Decision<T> + Send,
    A: FnOnce(Result<(T, &Arc<HomeState>), Refusal>) + Send,
{
    fn decide(&mut self, state: &HomeState, mode: Mode) -> Option<Plan> {
        match (self.decide)(state, mode) {
            Ok((plan, decided)) => {
                self.decided = Some(decided);
                Some(plan)
            }
            Err(reject) => {
                if let Some(act) = self.act.take() {
                    act(Err(Refusal::Reject(reject)));
                }
                None
            }
        }
    }

    fn finish(mut self: Box<Self>, state: Result<&Arc<HomeState>, Refusal>) {
        let Some(act) = self.act.take() else { return };
        match (state, self.decided.take()) {
            (Ok(state), Some(decided)) => act(Ok((decided, state))),
            (Err(refusal), _) => act(Err(refusal)),
            (Ok(_), None) => act(Err(Refusal::Fault)),
        }
    }
}

impl Homes {
    /// Changes one home in its turn, first come first served in the order of calls.
    ///
    /// - `decide` is pure and gets the state as it will be when all earlier changes are done. If the store goes away while its plan is
    ///   being committed (and nothing was written), it is asked again, under [`Mode::Volatile`].
    /// - `act` is called exactly once, after the rows are on disk and in memory: only now may anybody hear of it.
    ///
    /// If nothing has to be awaited (a refusal, a query, a lazy row, an outage) everything happens before this returns, unless
    /// [`Homes::always_driven`] was asked for.
    pub fn change<T, D, A>(self: &Arc<Self>, aor: &Aor, decide: D, act: A)
    where
        T: Send + 'static,
        D: Fn(&HomeState, Mode) -> Decision<T> + Send + 'static,
        A: FnOnce(Result<(T, &Arc<HomeState>), Refusal>) + Send + 'static,
    {
        let mut guard = self.shard(aor);
        let shard = &mut *guard;
        let slot = shard.slots.entry(aor.clone()).or_insert_with(|| Slot::empty(aor.clone()));
        if slot.busy || slot.stale || self.always_driven {
            if slot.waiting() >= MAX_WAITING {
                drop(guard);
                return act(Err(Refusal::Fault));
            }
            slot.queue.get_or_insert_default().push_back(Box::new(Waiting {
                decide,
                decided: None,
                act: Some(act),
            }));
            if !slot.busy {
                slot.busy = true;
                drop(guard);
                self.drive(aor.clone(), None);
            }
            return;
        }
        let mode = self.mode();
        let (plan, decided) = match decide(&slot.state, mode) {
            Ok(decision) => decision,
            Err(reject) => {
                shard.reschedule(aor);
                drop(guard);
                return act(Err(Refusal::Reject(reject)));
            }
        };
        if plan.rows.is_empty() || plan.durability == Durability::Lazy || mode == Mode::Volatile {
            if !plan.rows.is_empty() && !self.store.write_lazily(&plan.rows) {
                shard.reschedule(aor);
                drop(guard);
                return act(Err(Refusal::Fault));
            }
            let touched = slot.apply(&plan.rows, plan.moved, &self.unanswered);
            let state = slot.state.clone();
            if slot.reschedule(&mut shard.due, aor) {
                shard.slots.remove(aor);
            }
            drop(guard);
            act(Ok((decided, &state)));
            touched.into_iter().for_each(|changed| self.mark_for(changed));
            return;
        }
        slot.busy = true;
        // Put before the writer while the turn is held, so that the order of decisions is the order of commits.
        let commit = Box::pin(self.store.commit(plan.rows.clone()));
        drop(guard);
        let job: Box<dyn Job> = Box::new(Waiting { decide, decided: Some(decided), act: Some(act) });
        let mut jobs = SmallVec::new();
        jobs.push(job);
        self.drive(
            aor.clone(),
            Some(super::driver::Batch { rows: plan.rows, moved: plan.moved, jobs, commit }),
        );
    }

    pub(super) fn mode(&self) -> Mode {
        if self.store.is_out() { Mode::Volatile } else { Mode::Durable }
    }
}

/// What to mark once a change has been acted on.
pub(super) type Touched = SmallVec<[Changed; 2]>;

impl Shard {
    /// Applies rows to a home, if it is here; see [`Slot::apply`].
    pub(super) fn apply(
        &mut self,
        aor: &Aor,
        rows: &[Row],
        moved: Moved,
        unanswered: &Unanswered,
    ) -> Touched {
        self.slots.get_mut(aor).map_or_else(Touched::new, |slot| slot.apply(rows, moved, unanswered))
    }
}

impl Slot {
    /// Applies rows to a home and returns what to mark: this one, and the watchers whose subscription here came or went (what
    /// *this* user, and nobody else, may see of *them* hangs on it: the reciprocal rule).
    fn apply(&mut self, rows: &[Row], moved: Moved, unanswered: &Unanswered) -> Touched {
        let mut touched = Touched::new();
        if rows.is_empty() {
            return touched;
        }
        let state = Arc::make_mut(&mut self.state);
        let mut packages = Packages::NONE;
        for row in rows {
            if moved.watchers {
                let watcher = match row {
                    Row::PutSubscription(new) => Some(&new.watcher),
                    Row::DropSubscription(_, id) => state.subscriptions.get(*id).map(|s| &s.watcher),
                    _ => None,
                };
                let only = || Some(state.aor.clone());
                let packages = Packages::SHOWN_TO_OTHERS;
                touched.extend(watcher.map(|w| Changed { aor: w.clone(), only: only(), packages }));
            }
            if moved.presence || moved.watchers {
                packages = packages.and(state.moves(row));
            }
            unanswered.moves(state, row);
            state.apply(row);
        }
        if moved.presence || moved.watchers {
            state.version += 1;
        }
        if moved.presence || !packages.is_empty() {
            touched.push(Changed { aor: state.aor.clone(), only: None, packages });
        }
        touched
    }
}

//! The table of homes: read, turn, wheel, Change.
//!
//! A service changes an address of record only through [`Homes::change`]: enter, decide, commit, apply, act. Reading is
//! [`Homes::read`]: a snapshot, never a wait, never a query.

mod change;
mod driver;
mod loading;
#[cfg(test)]
mod testing;
mod unanswered;
mod wheel;

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::home::change::Job;
use crate::home::unanswered::Unanswered;
use crate::model::{Aor, Auid, ByAor, HomeState, Packages, Reject, Row, Timestamp};
use crate::store::Store;

pub use change::{Mode, Refusal};

/// Every home that has anything in it. All of them are loaded at start and stay resident; an AoR that is not in the table has
/// nothing in the store either, because all writes of the store's rows pass through here. While they are being loaded that holds for homes
/// that were brought ([`Homes::bring`]): nobody may read or change another.
#[derive(Debug)]
pub struct Homes {
    shards: Box<[Mutex<Shard>]>,
    store: Store,
    clock: Clock,
    /// No change is made before [`Homes::change`] returns.
    always_driven: bool,
    /// What changed and nobody has looked at yet; of a home at most two entries, the second for all of it.
    changed: Mutex<VecDeque<Changed>>,
    changed_wakes: tokio::sync::Notify,
    unanswered: Unanswered,
    /// Drivers that are awaiting a commit or a load.
    drivers: AtomicUsize,
    drivers_done: tokio::sync::Notify,
}

/// A hint that what watchers of an AoR may see has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Of whom.
    pub aor: Aor,
    /// Nobody but this watcher is concerned; `None`: all of them may be.
    pub only: Option<Aor>,
    /// Watchers of other packages are not concerned.
    pub packages: Packages,
}

/// Where the time comes from; handed in, so that nothing here reads a clock by itself.
pub type Clock = fn() -> Timestamp;

#[derive(Debug, Default)]
struct Shard {
    slots: ByAor<Slot>,
    /// Instants at which something in a home may end, with the home; one entry per home that has something to end.
    due: Due,
    /// When a home is to be looked at, though nothing in it changes.
    reminders: ByAor<Timestamp>,
    brought: loading::Brought,
}

type Due = BTreeSet<(Timestamp, Aor)>;

struct Slot {
    state: Arc<HomeState>,
    /// A driver has this home's turn.
    busy: bool,
    /// A commit ended `Unknown`: what the store holds is read again before the next decision.
    stale: bool,
    /// Waiting changes in order of arrival, at most [`MAX_WAITING`]. Seldom any, so it takes one word.
    #[expect(
        clippy::box_collection,
        reason = "one word in every home instead of four, for the few that have a queue"
    )]
    queue: Option<Box<VecDeque<Box<dyn Job>>>>,
    /// Stands in `changed`.
    marked: Marked,
    /// For watchers of these packages.
    marked_for: Packages,
    /// Its entry in `due`: at its earliest end, or before.
    due: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marked {
    Not,
    /// For one watcher.
    One,
    /// For all; an entry for one that still stands before it says nothing any more.
    All,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot")
            .field("busy", &self.busy)
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}

impl Slot {
    fn empty(aor: Aor) -> Slot {
        Slot {
            state: Arc::new(HomeState::empty(aor)),
            busy: false,
            stale: false,
            queue: None,
            marked: Marked::Not,
            marked_for: Packages::NONE,
            due: None,
        }
    }

    fn waiting(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.len())
    }

    /// As [`Shard::reschedule`]; `true` if nothing is left to be kept.
    fn reschedule(&mut self, due: &mut Due, aor: &Aor) -> bool {
        let next = self.state.next_due();
        let stays = match (self.due, next) {
            (Some(entry), Some(next)) => entry <= next,
            (entry, next) => entry == next,
        };
        if !stays {
            self.move_entry(next, due, aor);
        }
        self.state.is_empty()
            && !self.busy
            && !self.stale
            && self.marked == Marked::Not
            && self.waiting() == 0
    }

    /// The entry stands where something ends, and nowhere else.
    fn move_entry(&mut self, next: Option<Timestamp>, due: &mut Due, aor: &Aor) {
        if next != self.due {
            let mut entry = (next.unwrap_or_default(), aor.clone());
            if let Some(old) = self.due {
                entry.0 = old;
                due.remove(&entry);
            }
            if let Some(new) = next {
                entry.0 = new;
                due.insert(entry);
            }
            self.due = next;
        }
    }
}

impl Homes {
    /// An empty table over a store.
    pub fn new(store: Store, clock: Clock) -> Arc<Homes> {
        Homes::with(store, clock, false)
    }

    /// The same, except that every change goes by a driver task, also one that has nothing to await: the same decisions the slow way.
    pub fn always_driven(store: Store, clock: Clock) -> Arc<Homes> {
        Homes::with(store, clock, true)
    }

    fn with(store: Store, clock: Clock, always_driven: bool) -> Arc<Homes> {
        Arc::new(Homes {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            store,
            clock,
            always_driven,
            changed: Mutex::default(),
            changed_wakes: tokio::sync::Notify::new(),
            unanswered: Unanswered::default(),
            drivers: AtomicUsize::new(0),
            drivers_done: tokio::sync::Notify::new(),
        })
    }

    /// The snapshot of an AoR; an empty one if nothing is known.
    pub fn read(&self, aor: &Aor) -> Arc<HomeState> {
        let shard = self.shard(aor);
        match shard.slots.get(aor) {
            Some(slot) => slot.state.clone(),
            None => Arc::new(HomeState::empty(aor.clone())),
        }
    }

    /// Marks an AoR as changed: whoever reacts reads it again. A hint, so it may come at any time and bursts coalesce.
    pub fn mark(&self, aor: &Aor) {
        self.mark_for(Changed { aor: aor.clone(), only: None, packages: Packages::ALL });
    }

    /// Marks an AoR for who is shown its watchers, if anybody is: how it stands with one of them has changed.
    pub fn mark_watchers(&self, aor: &Aor) {
        if self.read(aor).winfo().next().is_some() {
            self.mark_for(Changed { aor: aor.clone(), only: None, packages: Packages::SHOWING_WATCHERS });
        }
    }

    /// For how many presentities this watcher waits without a subscription.
    pub fn waits_for(&self, watcher: &Aor) -> usize {
        self.unanswered.of(watcher)
    }

    /// The same, if it concerns one watcher alone. Two such marks are one for all.
    fn mark_for(&self, mut changed: Changed) {
        let mut shard = self.shard(&changed.aor);
        let Some(slot) = shard.slots.get_mut(&changed.aor) else { return };
        slot.marked_for = slot.marked_for.and(changed.packages);
        slot.marked = match (slot.marked, &changed.only) {
            (Marked::All, _) => return,
            (Marked::Not, Some(_)) => Marked::One,
            (Marked::Not | Marked::One, _) => Marked::All,
        };
        if slot.marked == Marked::All {
            changed.only = None;
        }
        drop(shard);
        lock(&self.changed).push_back(changed);
        self.changed_wakes.notify_one();
    }

    /// Marks an AoR at this instant, or earlier if somebody else asked for that: what its watchers may see changes by time alone. Of this
    /// run only: who looks at the home asks again.
    pub fn remind(&self, aor: &Aor, at: Timestamp) {
        let mut shard = self.shard(aor);
        match shard.reminders.get_mut(aor) {
            Some(there) => *there = at.min(*there),
            None => drop(shard.reminders.insert(aor.clone(), at)),
        }
    }

    /// Marks whose time has come.
    fn mark_reminded(&self, now: Timestamp) {
        for shard in &self.shards {
            let reminded: Vec<_> = lock(shard).reminders.extract_if(|_, at| *at <= now).collect();
            reminded.iter().for_each(|(aor, _)| self.mark(aor));
        }
    }

    /// What changed next; waits until something has. One task calls this.
    pub async fn next_changed(&self) -> Changed {
        loop {
            let next = lock(&self.changed).pop_front();
            let Some(mut changed) = next else {
                self.changed_wakes.notified().await;
                continue;
            };
            if let Some(slot) = self.shard(&changed.aor).slots.get_mut(&changed.aor) {
                if slot.marked == Marked::All && changed.only.is_some() {
                    continue;
                }
                slot.marked = Marked::Not;
                changed.packages = std::mem::take(&mut slot.marked_for);
            }
            return changed;
        }
    }

    /// Forgets what memory holds of a user whose account was removed from the store, and returns the AoRs whose homes changed by it
    /// (the user's own, and those the user watched). Each of them is marked.
    pub fn purge(&self, user: &Aor) -> Vec<Arc<HomeState>> {
        let mut before = Vec::new();
        let mut touched = Vec::new();
        for shard in &self.shards {
            let mut shard = lock(shard);
            for (aor, slot) in &mut shard.slots {
                let watches = slot.state.subscriptions.of(user).next().is_some();
                if aor != user && !watches && slot.state.waiting.get(user).is_none() {
                    continue;
                }
                before.push(slot.state.clone());
                let state = Arc::make_mut(&mut slot.state);
                if aor == user {
                    let empty = HomeState { version: state.version + 1, ..HomeState::empty(aor.clone()) };
                    self.unanswered.replaced(state, &empty);
                    *state = empty;
                } else {
                    let theirs: Vec<_> = state.subscriptions.of(user).map(|s| s.id).collect();
                    for id in theirs {
                        state.subscriptions.remove(id);
                    }
                    let over = Row::DropWaiting(aor.clone(), user.clone());
                    self.unanswered.moves(state, &over);
                    state.apply(&over);
                    state.version += 1;
                }
                touched.push(aor.clone());
            }
        }
        for aor in &touched {
            self.shard(aor).reschedule(aor);
            self.mark(aor);
        }
        before
    }

    /// How many homes, bindings, publications, subscriptions and stored messages there are, in this order.
    pub fn census(&self) -> [usize; 5] {
        let mut census = [0; 5];
        for shard in &self.shards {
            for slot in lock(shard).slots.values() {
                census[0] += 1;
                census[1] += slot.state.bindings.len();
                census[2] += slot.state.publications.len();
                census[3] += slot.state.subscriptions.len();
                census[4] += slot.state.messages.len();
            }
        }
        census
    }

    /// The AoRs that somebody watches, with the number of their subscriptions.
    pub fn watched(&self) -> Vec<(Aor, usize)> {
        let mut watched = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            let slots = shard.slots.iter().filter(|(_, slot)| !slot.state.subscriptions.is_empty());
            watched.extend(slots.map(|(aor, slot)| (aor.clone(), slot.state.subscriptions.len())));
        }
        watched
    }

    /// The AoRs that keep documents of this application.
    pub fn keeping(&self, auid: &Auid) -> Vec<Arc<HomeState>> {
        let mut keeping = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            let states = shard.slots.values().map(|slot| &slot.state);
            keeping.extend(states.filter(|state| state.documents.of(auid).next().is_some()).cloned());
        }
        keeping
    }

    /// The store beneath.
    pub fn store(&self) -> &Store {
        &self.store
    }

    fn shard(&self, aor: &Aor) -> MutexGuard<'_, Shard> {
        lock(&self.shards[aor.place(SHARDS)])
    }
}

impl Shard {
    /// Keeps the wheel's entry of a home at its earliest end or before it, and lets go of a home with nothing in it. What ends later than it
    /// did, as after every refresh, leaves the entry where it is; the wheel moves it when it comes by.
    fn reschedule(&mut self, aor: &Aor) {
        let Some(slot) = self.slots.get_mut(aor) else { return };
        if slot.reschedule(&mut self.due, aor) {
            self.slots.remove(aor);
        }
    }
}

/// A panic while a lock was held has been counted where it was caught; the data behind these locks is replaced as a whole, so it is
/// consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The error type of decisions, for callers that write closures.
pub type Decision<T> = Result<(crate::model::Plan, T), Reject>;

/// Many, because some questions walk through a shard with its lock held (a thousandth of all homes), and because a table that grows copies itself.
const SHARDS: usize = 1_024;
/// Changes waiting for one home's turn; beyond it the newest is refused with 503 and the others go on.
const MAX_WAITING: usize = 2_048;

//! What callers and the writer share: the queue, the rows kept lazily, and the order of all changes.
//!
//! Every change gets a number under one short lock, in the order of calls; the queue is filled under the same lock. So
//! numbers decide which of two changes of a row is the newer, wherever they wait.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;
use tokio::sync::{mpsc, oneshot};

use crate::model::{Account, Aor, Row};
use crate::store::lazy::Lazy;
use crate::store::{Fault, Outcome};

/// Commits that wait at most; beyond, they are refused at once.
pub(super) const QUEUE: usize = 10_000;

/// What is asked of the writer.
#[derive(Debug)]
pub(super) enum Job {
    /// All or nothing.
    Rows(Unit),
    /// In a transaction of its own.
    Account(AccountJob),
}

/// Rows that stand or fall together.
#[derive(Debug)]
pub(super) struct Unit {
    /// Place in the order of all changes.
    pub number: u64,
    /// The rows, oldest first.
    pub rows: SmallVec<[Row; 1]>,
    /// Who waits; nobody does for rows kept lazily.
    pub reply: Option<oneshot::Sender<Outcome>>,
}

/// A change of accounts.
#[derive(Debug)]
pub(super) struct AccountJob {
    /// Place in the order of all changes.
    pub number: u64,
    /// What changes.
    pub change: AccountChange,
    /// Who waits: the number of accounts that were touched.
    pub reply: oneshot::Sender<Result<u64, Fault>>,
}

/// What changes about accounts.
#[derive(Debug)]
pub(super) enum AccountChange {
    /// Insert or replace.
    Put(Box<Account>),
    /// Remove, with everything of that user.
    Remove(Aor),
}

impl AccountChange {
    /// For messages.
    pub fn attempted(&self) -> &'static str {
        match self {
            AccountChange::Put(_) => "put an account",
            AccountChange::Remove(_) => "remove an account",
        }
    }
}

/// The shared part.
#[derive(Debug)]
pub(super) struct Desk {
    orders: Mutex<Orders>,
    out: AtomicBool,
}

#[derive(Debug)]
struct Orders {
    last: u64,
    lazy: Lazy,
    /// `None` once the store is closed.
    jobs: Option<mpsc::Sender<Job>>,
}

impl Desk {
    /// A desk and the writer's end of its queue.
    pub fn new() -> (Desk, mpsc::Receiver<Job>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let orders = Orders { last: 0, lazy: Lazy::default(), jobs: Some(sender) };
        (Desk { orders: Mutex::new(orders), out: AtomicBool::new(false) }, receiver)
    }

    /// Queues rows; `None` if they cannot be taken (outage, full queue, closed).
    pub fn commit(&self, rows: SmallVec<[Row; 1]>) -> Option<oneshot::Receiver<Outcome>> {
        let (reply, answer) = oneshot::channel();
        self.queue(|number| Job::Rows(Unit { number, rows, reply: Some(reply) }))?;
        Some(answer)
    }

    /// Queues a change of accounts; `None` as above.
    pub fn account(&self, change: AccountChange) -> Option<oneshot::Receiver<Result<u64, Fault>>> {
        let (reply, answer) = oneshot::channel();
        self.queue(|number| Job::Account(AccountJob { number, change, reply }))?;
        Some(answer)
    }

    /// Keeps rows to be written soon; `false` if there is no room, or the store is closed.
    pub fn keep(&self, rows: &[Row]) -> bool {
        let orders = &mut *self.orders();
        let last = &mut orders.last;
        orders.jobs.is_some()
            && orders.lazy.keep(rows, || {
                *last += 1;
                *last
            })
    }

    /// What is kept of one home.
    pub fn kept_of(&self, aor: &Aor) -> Vec<Row> {
        self.orders().lazy.of(aor)
    }

    /// Is the database away?
    pub fn is_out(&self) -> bool {
        self.out.load(Ordering::Acquire)
    }

    /// Takes no more; what is queued is still written.
    pub fn close(&self) {
        self.orders().jobs = None;
    }

    /// The number of the newest change (the writer's question).
    pub fn last(&self) -> u64 {
        self.orders().last
    }

    /// Kept rows up to `up_to`, at most `limit`, that are not newer than any change still in the queue: `taken` is the
    /// number of the newest change taken from it.
    pub fn due(&self, up_to: u64, taken: u64, limit: usize, jobs: &mpsc::Receiver<Job>) -> Vec<Unit> {
        let mut orders = self.orders();
        let horizon = if jobs.is_empty() { up_to } else { up_to.min(taken) };
        let rows = orders.lazy.oldest(horizon, limit);
        rows.into_iter()
            .map(|(number, row)| Unit { number, rows: SmallVec::from_buf([row]), reply: None })
            .collect()
    }

    /// Is nothing kept up to here?
    pub fn is_clear(&self, up_to: u64) -> bool {
        self.orders().lazy.is_clear(up_to)
    }

    /// These changes are settled: kept rows that they overtake go. With `waited_for`, only changes that somebody waits
    /// for count.
    pub fn settle(&self, units: &[Unit], waited_for: bool) {
        let mut orders = self.orders();
        for unit in units.iter().filter(|unit| !waited_for || unit.reply.is_some()) {
            for row in &unit.rows {
                orders.lazy.settle(unit.number, row);
            }
        }
    }

    /// Nothing of this user is written any more.
    pub fn forget(&self, number: u64, user: &Aor) {
        self.orders().lazy.forget(number, user);
    }

    /// From now on commits are refused at once.
    pub fn go_out(&self) {
        let _order = self.orders();
        self.out.store(true, Ordering::Release);
    }

    /// Back in service, if nothing is kept any more.
    pub fn come_back(&self) -> bool {
        let mut orders = self.orders();
        let clear = orders.lazy.is_clear(u64::MAX);
        if clear {
            self.out.store(false, Ordering::Release);
        }
        clear
    }

    fn queue(&self, job: impl FnOnce(u64) -> Job) -> Option<()> {
        let orders = &mut *self.orders();
        if self.is_out() {
            return None;
        }
        let place = orders.jobs.as_ref()?.try_reserve().ok()?;
        orders.last += 1;
        place.send(job(orders.last));
        Some(())
    }

    /// No code that can panic half-way runs under this lock, so a poisoned one is still right.
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

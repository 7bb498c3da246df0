//! The writer: one task, one session, one transaction at a time for everybody who waits.
//!
//! At saturation batches form by themselves, because the next one gathers while the previous one is in flight. At light
//! load commits keep a gap, cut short when enough rows wait. Rows kept lazily travel along. When the session is lost the
//! store is out: commits are refused at once, and the writer knocks until the database answers; what was kept is
//! written before the first new commit is taken.

mod recovery;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tracing::error;

use crate::model::Row;
use crate::store::checkpoint::Checkpoints;
use crate::store::desk::{AccountChange, AccountJob, Desk, Job, Unit};
use crate::store::failure::{Failure, deadline};
use crate::store::session::{Options, Session, Work};
use crate::store::{Fault, Outcome};

/// Between the beginnings of two commits, at light load. A commit that took longer keeps nobody waiting: what came meanwhile has gathered.
const GAP: Duration = Duration::from_millis(3);
/// Rows that cut the gap short.
const ENOUGH: usize = 32;
/// Rows of one batch that somebody waits for (one commit may bring more), and as many at most that nobody waits for.
const BATCH: usize = 512;
/// Rows that nobody waits for, beside some that somebody waits for; and as many at least without.
const BESIDE: usize = 32;
/// Rows that nobody waits for are written in turns of this length, and between two turns is as much time again: so long may a commit wait for them.
const TURN: Duration = Duration::from_millis(4);
/// Rows kept lazily are written this often; what was kept before a tick is written at it.
const TICK: Duration = Duration::from_secs(2);
/// A session that was quiet for so long is tried.
const QUIET: Duration = Duration::from_secs(5);

/// The task's own state.
pub(super) struct Writer {
    desk: Arc<Desk>,
    jobs: mpsc::Receiver<Job>,
    options: Options,
    /// `None` while the database is away.
    session: Option<Session>,
    /// Held until the last row is written; Postgres has its lock in the session.
    _lock: Option<File>,
    /// The newest change taken from the queue.
    taken: u64,
    /// Kept rows up to this number are due.
    due: u64,
    /// How many of them are written in one turn, by what the last ones cost.
    turn: usize,
    /// When the next turn may begin.
    next_turn: Instant,
    /// `None` on Postgres.
    checkpoints: Option<Checkpoints>,
    next_tick: Instant,
    last_begun: Instant,
    last_commit: Instant,
    /// Messages were deleted whose bytes may still stand in a log of the database.
    untidy: bool,
}

impl Writer {
    /// A writer that has the lock.
    #[expect(clippy::disallowed_methods, reason = "the writer has a clock")]
    pub fn new(
        desk: Arc<Desk>,
        jobs: mpsc::Receiver<Job>,
        options: Options,
        session: Session,
        lock: Option<File>,
    ) -> Writer {
        let now = Instant::now();
        let checkpoints = match &options {
            Options::Sqlite(options) => Some(Checkpoints::new((**options).clone())),
            Options::Postgres(_) => None,
        };
        Writer {
            desk,
            jobs,
            options,
            turn: BESIDE,
            next_turn: now,
            checkpoints,
            session: Some(session),
            _lock: lock,
            taken: 0,
            due: 0,
            next_tick: now + TICK,
            last_begun: now,
            last_commit: now,
            untidy: false,
        }
    }

    /// Until the store is closed and everything is written.
    pub async fn run(mut self) {
        loop {
            if self.session.is_none() {
                if self.wait_for_database().await {
                    continue;
                }
                break;
            }
            self.tick().await;
            let is_clear = self.desk.is_clear(self.due);
            let until = if is_clear { self.next_tick } else { self.next_turn };
            match timeout_at(until, self.jobs.recv()).await {
                Ok(Some(job)) => self.round(job).await,
                Ok(None) => break,
                Err(_) if is_clear => {
                    if let Some(checkpoints) = &mut self.checkpoints {
                        checkpoints.quiet().await;
                    }
                }
                Err(_) => self.lazy_turn().await,
            }
        }
        self.finish().await;
    }

    /// Gathers a batch that begins with `first`, and writes it.
    async fn round(&mut self, first: Job) {
        let mut units = Vec::new();
        let mut account = None;
        let mut rows = 0;
        let mut next = Some(first);
        let gap_ends = self.last_begun + GAP;
        while let Some(job) = next {
            match job {
                Job::Rows(unit) => {
                    self.taken = unit.number;
                    rows += unit.rows.len();
                    units.push(unit);
                }
                Job::Account(job) => {
                    self.taken = job.number;
                    account = Some(job);
                    break;
                }
            }
            next = if rows >= BATCH {
                None
            } else if rows >= ENOUGH {
                self.jobs.try_recv().ok()
            } else {
                // Nothing is lost if the gap ends first: a job stays in the queue until it is received.
                timeout_at(gap_ends, self.jobs.recv()).await.ok().flatten()
            };
        }
        // Who waits for an answer does not wait for hundreds of rows that nobody waits for.
        units.extend(self.desk.due(self.due, self.taken, BESIDE, &self.jobs));
        self.write(units, false).await;
        if let Some(job) = account {
            self.account(job).await;
        }
    }

    /// Writes some of what is kept and due, while nobody waits for anything.
    #[expect(clippy::disallowed_methods, reason = "the writer has a clock")]
    async fn lazy_turn(&mut self) {
        let begun = Instant::now();
        let units = self.desk.due(self.due, self.taken, self.turn, &self.jobs);
        let count = units.len();
        // The last ones bring all of them to disk.
        self.write(units, count == self.turn).await;
        let took = begun.elapsed();
        self.next_turn = begun + took * 2;
        self.turn = if took > TURN { self.turn * 2 / 3 } else { self.turn * 3 / 2 }.clamp(BESIDE, BATCH);
    }

    /// Writes units in one transaction; if the database refuses, in halves, until the guilty unit stands alone.
    ///
    /// - `is_lazy`: nobody waits until they are on disk.
    #[expect(clippy::disallowed_methods, reason = "the writer has a clock")]
    async fn write(&mut self, mut units: Vec<Unit>, is_lazy: bool) {
        units.sort_by_key(|unit| unit.number);
        let mut parts = vec![units];
        while let Some(mut part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let Some(session) = &mut self.session else {
                answer(part, Outcome::NotCommitted);
                continue;
            };
            self.last_begun = Instant::now();
            let newest = newest(&part);
            let rows: Vec<&Row> = newest.iter().map(AsRef::as_ref).collect();
            let work = if is_lazy { Work::Lazily(&rows) } else { Work::Rows(&rows) };
            let written = session.transaction(work).await;
            let count = rows.len();
            drop(newest);
            self.last_commit = Instant::now();
            match written {
                Ok(_) => {
                    let mut rows = part.iter().flat_map(|unit| &unit.rows);
                    self.untidy |= rows.any(|row| matches!(row, Row::DropMessage(..)));
                    self.desk.settle(&part, false);
                    answer(part, Outcome::Committed);
                    if let Some(checkpoints) = &mut self.checkpoints {
                        checkpoints.written(count).await;
                    }
                }
                Err(Failure::Refused(_)) if part.len() > 1 => {
                    let later = part.split_off(part.len() / 2);
                    parts.push(later);
                    parts.push(part);
                }
                Err(Failure::Refused(cause)) => {
                    // Without the message: it may quote the value.
                    error!(code = ?code(&cause), "the database refuses a row");
                    if part.iter().all(|unit| unit.reply.is_none()) {
                        self.desk.settle(&part, false);
                    }
                    answer(part, Outcome::NotCommitted);
                }
                Err(Failure::Lost(cause)) => {
                    self.lose(&cause);
                    answer(part, Outcome::NotCommitted);
                }
                Err(Failure::Unknown(cause)) => {
                    self.lose(&cause);
                    // It may be on disk: what was kept before it must not be written over it.
                    self.desk.settle(&part, true);
                    answer(part, Outcome::Unknown);
                }
            }
        }
    }

    async fn account(&mut self, job: AccountJob) {
        let attempted = job.change.attempted();
        let work = match &job.change {
            AccountChange::Put(account) => Work::PutAccount(account),
            AccountChange::Remove(aor) => Work::RemoveAccount(aor),
        };
        let done = match &mut self.session {
            Some(session) => session.transaction(work).await,
            None => Err(Failure::Lost(deadline())),
        };
        if let AccountChange::Remove(aor) = &job.change
            && matches!(done, Ok(_) | Err(Failure::Unknown(_)))
        {
            self.desk.forget(job.number, aor);
        }
        let done = done.map_err(|failure| {
            let source = match failure {
                Failure::Refused(source) => source,
                Failure::Lost(source) | Failure::Unknown(source) => {
                    self.lose(&source);
                    source
                }
            };
            Fault::Database { attempted, source }
        });
        let _ = job.reply.send(done);
    }

    /// From time to time: what is kept becomes due, and a quiet session is tried, so that an outage is noticed.
    #[expect(clippy::disallowed_methods, reason = "the writer has a clock")]
    async fn tick(&mut self) {
        let now = Instant::now();
        if now < self.next_tick {
            return;
        }
        self.next_tick = now + TICK;
        self.due = self.desk.last();
        if self.untidy
            && let Some(session) = &mut self.session
        {
            if let Some(checkpoints) = &mut self.checkpoints {
                checkpoints.quiet().await;
            }
            self.untidy = !session.tidy().await;
        }
        if now.duration_since(self.last_commit) > QUIET
            && let Some(session) = &mut self.session
            && let Err(Failure::Refused(cause) | Failure::Lost(cause) | Failure::Unknown(cause)) =
                session.transaction(Work::Nothing).await
        {
            self.lose(&cause);
        }
    }

    /// The database is away. In this order: the flag, then the answers.
    fn lose(&mut self, cause: &sqlx::Error) {
        if self.session.take().is_some() {
            self.desk.go_out();
            error!(error = %cause, "the database is away: nothing is committed until it answers");
        }
    }
}

/// The newest row of each key, in no particular order: keys differ, so order means nothing.
fn newest(units: &[Unit]) -> Vec<Cow<'_, Row>> {
    // Of what is kept there is one row of each key.
    if units.iter().all(|unit| unit.reply.is_none()) {
        return units.iter().flat_map(|unit| &unit.rows).map(Cow::Borrowed).collect();
    }
    let mut places = HashMap::new();
    let mut newest: Vec<Cow<'_, Row>> = Vec::new();
    for row in units.iter().flat_map(|unit| &unit.rows) {
        let place = *places.entry(row.key()).or_insert(newest.len());
        match newest.get_mut(place) {
            Some(older) => *older = Cow::Owned(row.instead_of(older)),
            None => newest.push(Cow::Borrowed(row)),
        }
    }
    newest
}

fn answer(units: Vec<Unit>, outcome: Outcome) {
    for reply in units.into_iter().filter_map(|unit| unit.reply) {
        // Whoever asked may have gone; the rows are written all the same.
        let _ = reply.send(outcome);
    }
}

fn code(cause: &sqlx::Error) -> Option<String> {
    cause.as_database_error().and_then(|answer| answer.code()).map(String::from)
}

//! While the database is away, and the way back.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::store::desk::Job;
use crate::store::failure::deadline;
use crate::store::session::{Options, Session, Work};
use crate::store::writer::{BATCH, Writer, answer};
use crate::store::{Fault, Outcome};

/// The first and the longest pause between attempts to reach a database that is away.
const KNOCK: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));

impl Writer {
    /// Knocks until the database is back and what was kept is written. `false`: the store is being closed.
    pub(super) async fn wait_for_database(&mut self) -> bool {
        let mut pause = KNOCK.0;
        loop {
            if !refuse_during(&mut self.jobs, sleep(jittered(pause))).await.1 {
                return false;
            }
            pause = (pause * 2).min(KNOCK.1);
            let (session, open) = refuse_during(&mut self.jobs, knock(&self.options)).await;
            self.session = session;
            if self.session.is_some() && self.flush().await && self.desk.come_back() {
                info!("the database is back");
                return true;
            }
            if !open {
                return false;
            }
        }
    }

    /// Writes all that is kept, oldest first. `false` if the session was lost meanwhile.
    async fn flush(&mut self) -> bool {
        while self.session.is_some() {
            let units = self.desk.due(u64::MAX, self.taken, BATCH * 4, &self.jobs);
            if units.is_empty() {
                return true;
            }
            self.write(units, false).await;
        }
        false
    }

    /// The queue is closed and empty: the last rows, then goodbye.
    pub(super) async fn finish(mut self) {
        if self.session.is_none() {
            self.session = knock(&self.options).await;
        }
        if !self.flush().await {
            error!("rows that were kept in memory could not be written before the end");
        }
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.end().await;
        }
        if let Some(session) = self.session.take() {
            session.close().await;
        }
    }
}

/// A session that can write, or none.
async fn knock(options: &Options) -> Option<Session> {
    let mut session = match Session::open(options).await {
        Ok(Some(session)) => session,
        Ok(None) => {
            error!("the database answers, but the lock of the store is taken");
            return None;
        }
        Err(cause) => {
            warn!(error = %cause, "the database is still away");
            return None;
        }
    };
    session.transaction(Work::Nothing).await.is_ok().then_some(session)
}

/// Waits for `work`; whoever asks meanwhile is refused. The second value is `false` once the store is being closed.
async fn refuse_during<T>(jobs: &mut mpsc::Receiver<Job>, work: impl Future<Output = T>) -> (T, bool) {
    let mut work = std::pin::pin!(work);
    let mut open = true;
    loop {
        // `recv` is cancel-safe; `work` is pinned and polled again.
        tokio::select! {
            done = &mut work => return (done, open),
            job = jobs.recv(), if open => match job {
                Some(Job::Rows(unit)) => answer(vec![unit], Outcome::NotCommitted),
                Some(Job::Account(job)) => {
                    let fault = Fault::Database { attempted: job.change.attempted(), source: deadline() };
                    let _ = job.reply.send(Err(fault));
                }
                None => open = false,
            },
        }
    }
}

/// Three quarters of a pause up to the whole.
fn jittered(pause: Duration) -> Duration {
    let part = u32::try_from(RandomState::new().hash_one(0_u8) % 256).unwrap_or(0);
    pause * 3 / 4 + pause * part / 1024
}

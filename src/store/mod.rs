//! Durable truth: Postgres, or an embedded SQLite file. The only user of `sqlx`.
//!
//! All writes go through one writer that gathers whatever waits into one transaction. A commit ends in exactly one
//! [`Outcome`]. What the rows mean is said once, in `model`.

mod checkpoint;
mod contents;
mod desk;
mod failure;
mod lazy;
mod migrations;
mod open;
mod packed;
mod reader;
mod session;
mod statement;
mod table;
mod value;
mod write;
mod writer;

#[cfg(test)]
mod battery;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod throwaway;

use std::sync::Arc;

use smallvec::SmallVec;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::model::{Account, Aor, Content, HomeState, MessageId, Row, StoredMessage};
use crate::store::contents::Contents;
use crate::store::desk::{AccountChange, Desk};
use crate::store::reader::Reader;
use crate::store::writer::Writer;

/// Which database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An embedded file; made if it is not there.
    Sqlite(std::path::PathBuf),
    /// `postgres://user:password@host:port/name`.
    Postgres(crate::model::Redacted<String>),
}

/// How a commit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// On disk.
    Committed,
    /// Certainly not written (refused, deadline, outage): memory stays as it was.
    NotCommitted,
    /// The connection was lost meanwhile: read again before deciding anything about these rows.
    Unknown,
}

/// What went wrong on our side of the store.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Another process has this store.
    #[error("the store is in use by another process")]
    InUse,
    /// The database said no or did not answer.
    #[error("{attempted}")]
    Database {
        /// What was attempted, without values.
        attempted: &'static str,
        /// The cause.
        #[source]
        source: sqlx::Error,
    },
    /// Migrations could not be applied.
    #[error("apply migrations")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A row in the store does not read back.
    #[error("row of {table} does not read back")]
    Corrupt {
        /// Which table.
        table: &'static str,
    },
    /// A file of the store could not be opened or locked.
    #[error("open store file")]
    File(#[source] std::io::Error),
}

/// Handle to the store; cheap to clone. When the last one is dropped without [`Store::close`], the writer writes what
/// waits and ends by itself.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    desk: Arc<Desk>,
    reader: Reader,
    contents: Contents,
    /// Taken by the one who closes; others wait for it.
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.desk.close();
    }
}

impl Store {
    /// Connects, takes the exclusive lock, applies migrations and starts the writer. A lock that is taken is asked for
    /// again for up to 3 s: a run that was killed leaves it to the system.
    #[expect(clippy::disallowed_methods, reason = "starts the writer, which `close` awaits")]
    pub async fn open(target: &Target) -> Result<Store, Fault> {
        let options = open::options(target)?;
        let (lock, session) = open::lock(target, &options).await?;
        let (reader, contents) = (Reader::new(&options), Contents::new(&options));
        reader.migrate().await?;
        let (desk, jobs) = Desk::new();
        let desk = Arc::new(desk);
        let writer = tokio::spawn(Writer::new(desk.clone(), jobs, options, session, lock).run());
        Ok(Store { shared: Arc::new(Shared { desk, reader, contents, writer: Mutex::new(Some(writer)) }) })
    }
    /// Puts rows before the writer *now* (in call order) and returns a future for the outcome. The rows stand or fall
    /// together, and are written even if the future is dropped.
    ///
    /// A full queue (10,000 commits), an outage and a closed store are answered [`Outcome::NotCommitted`] at once.
    pub fn commit(&self, rows: SmallVec<[Row; 1]>) -> impl Future<Output = Outcome> + Send + 'static + use<> {
        let queued =
            if rows.is_empty() { Err(Outcome::Committed) } else { Ok(self.shared.desk.commit(rows)) };
        async move {
            match queued {
                Err(nothing_to_do) => nothing_to_do,
                Ok(None) => Outcome::NotCommitted,
                // A writer that died without an answer may have sent COMMIT.
                Ok(Some(answer)) => answer.await.unwrap_or(Outcome::Unknown),
            }
        }
    }
    /// Rows that must be on disk within 30 s; the newest per key. `false` if the bound (200,000 rows) is reached or the
    /// store is closed: then nothing was taken. A commit of the same key that comes later wins.
    pub fn write_lazily(&self, rows: &[Row]) -> bool {
        self.shared.desk.keep(rows)
    }
    /// Is the database away? Then decisions are volatile (`write_lazily` keeps them until it is back).
    pub fn is_out(&self) -> bool {
        self.shared.desk.is_out()
    }
    /// Every row of every home, in batches of any order. Asked at start. What is written meanwhile may be given or not: homes that
    /// change while this runs are read on their own ([`Store::load_home`]).
    pub async fn load_all(&self, each: &mut (dyn FnMut(Row) + Send)) -> Result<(), Fault> {
        self.shared.reader.all(each).await
    }
    /// Every row of one home, with what is still kept of it. A fault while the database is away, even if it could be
    /// read: a commit whose outcome is unknown may still be under way there.
    pub async fn load_home(&self, aor: &Aor) -> Result<Vec<Row>, Fault> {
        if self.is_out() {
            return Err(away("load a home"));
        }
        // Before the question: what is written meanwhile is then in both.
        let kept = self.shared.desk.kept_of(aor);
        let rows = self.shared.reader.home(aor).await?;
        if kept.is_empty() {
            return Ok(rows);
        }
        let mut home = HomeState::empty(aor.clone());
        rows.iter().chain(&kept).for_each(|row| home.apply(row));
        let bindings = home.bindings.into_iter().map(Row::PutBinding);
        let publications = home.publications.into_iter().map(Row::PutPublication);
        let subscriptions = home.subscriptions.iter().cloned().map(Row::PutSubscription);
        let documents = home.documents.iter().cloned().map(Row::PutDocument);
        let waiting = home.waiting.iter().cloned().map(Row::PutWaiting);
        let messages = home.messages.iter().map(|one| {
            Row::PutMessage(Arc::new(StoredMessage { recipient: aor.clone(), waiting: *one, content: None }))
        });
        Ok(bindings
            .chain(publications)
            .chain(subscriptions)
            .chain(documents)
            .chain(messages)
            .chain(waiting)
            .collect())
    }
    /// What a device is sent of one stored message; `None`: it is not there.
    pub async fn content(&self, recipient: &Aor, id: MessageId) -> Result<Option<Content>, Fault> {
        self.contents(&[(recipient.clone(), id)]).await?.pop().unwrap_or(Ok(None))
    }
    /// What devices are sent of some, in their order; each may be missing, or not read back.
    pub async fn contents(
        &self,
        of: &[(Aor, MessageId)],
    ) -> Result<Vec<Result<Option<Content>, Fault>>, Fault> {
        self.shared.contents.read(of).await
    }
    /// Every account, in order.
    pub async fn load_accounts(&self, each: &mut (dyn FnMut(Account) + Send)) -> Result<(), Fault> {
        self.shared.reader.accounts(each).await
    }
    /// All accounts, in order.
    pub async fn accounts(&self) -> Result<Vec<Account>, Fault> {
        let mut all = Vec::new();
        self.load_accounts(&mut |account| all.push(account)).await?;
        Ok(all)
    }
    /// One account.
    pub async fn account(&self, aor: &Aor) -> Result<Option<Account>, Fault> {
        self.shared.reader.account(aor).await
    }
    /// Insert or replace an account.
    pub async fn put_account(&self, account: &Account) -> Result<(), Fault> {
        self.change_account(AccountChange::Put(Box::new(account.clone()))).await.map(|_| ())
    }
    /// Remove an account and everything of that user, in its own home and in the homes of others (subscriptions as watcher), in one transaction. `false` if there was none.
    ///
    /// It takes its turn among the commits, and rows of that user that were kept before it are forgotten.
    pub async fn remove_account(&self, aor: &Aor) -> Result<bool, Fault> {
        // Whom they watch stands in rows all over the table. These are read beside the writer first, so that it finds them in memory: everybody
        // waits for the writer (0.13 s for a million).
        self.shared.reader.watched_by(aor).await?;
        self.change_account(AccountChange::Remove(aor.clone())).await.map(|removed| removed > 0)
    }
    /// The installation secret: made from `fresh` at first use, the same ever after.
    pub async fn secret(&self, fresh: [u8; 32]) -> Result<[u8; 32], Fault> {
        self.shared.reader.secret(fresh).await
    }
    /// Writes what waits, then closes.
    pub async fn close(&self) {
        self.shared.desk.close();
        let mut writer = self.shared.writer.lock().await;
        if let Some(running) = writer.as_mut() {
            // Everything the writer does has a deadline. Dropped here, this future leaves the handle for the next call.
            let _ = running.await;
            *writer = None;
            self.shared.contents.close().await;
            self.shared.reader.close().await;
        }
    }

    async fn change_account(&self, change: AccountChange) -> Result<u64, Fault> {
        let attempted = change.attempted();
        match self.shared.desk.account(change) {
            Some(answer) => answer.await.unwrap_or_else(|_| Err(away(attempted))),
            None => Err(away(attempted)),
        }
    }
}

fn away(attempted: &'static str) -> Fault {
    Fault::Database { attempted, source: failure::deadline() }
}

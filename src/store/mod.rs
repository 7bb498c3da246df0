//! Durable truth: Postgres, or an embedded SQLite file. The only user of `sqlx`.
//!
//! All writes go through one writer that gathers whatever waits into one transaction. A commit ends in exactly one
//! [`Outcome`]. What the rows mean is said once, in `model`.

use smallvec::SmallVec;

use crate::model::{Account, Aor, Row};

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

/// Handle to the store; cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {}

impl Store {
    /// Connects, takes the exclusive lock, applies migrations and starts the writer.
    pub async fn open(target: &Target) -> Result<Store, Fault> {
        let _ = target;
        todo!()
    }
    /// Puts rows before the writer *now* (in call order) and returns a future for the outcome.
    pub fn commit(&self, rows: SmallVec<[Row; 1]>) -> impl Future<Output = Outcome> + Send + 'static {
        let _ = rows;
        async { todo!() }
    }
    /// Rows that must be on disk within 30 s; the newest per key. `false` if the bound is reached: then nothing was taken.
    pub fn write_lazily(&self, rows: &[Row]) -> bool {
        let _ = rows;
        todo!()
    }
    /// Is the database away? Then decisions are volatile (`write_lazily` keeps them until it is back).
    pub fn is_out(&self) -> bool {
        todo!()
    }
    /// Every row of every home, in batches of any order.
    pub async fn load_all(&self, each: &mut (dyn FnMut(Row) + Send)) -> Result<(), Fault> {
        let _ = each;
        todo!()
    }
    /// Every row of one home.
    pub async fn load_home(&self, aor: &Aor) -> Result<Vec<Row>, Fault> {
        let _ = aor;
        todo!()
    }
    /// All accounts.
    pub async fn accounts(&self) -> Result<Vec<Account>, Fault> {
        todo!()
    }
    /// Insert or replace an account.
    pub async fn put_account(&self, account: &Account) -> Result<(), Fault> {
        let _ = account;
        todo!()
    }
    /// Remove an account and everything of that user, in its own home and in the homes of others (subscriptions as watcher), in one transaction. `false` if there was none.
    pub async fn remove_account(&self, aor: &Aor) -> Result<bool, Fault> {
        let _ = aor;
        todo!()
    }
    /// The installation secret: made from `fresh` at first use, the same ever after.
    pub async fn secret(&self, fresh: [u8; 32]) -> Result<[u8; 32], Fault> {
        let _ = fresh;
        todo!()
    }
    /// Writes what waits, then closes.
    pub async fn close(&self) {
        todo!()
    }
}

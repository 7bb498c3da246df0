//! The writer's own connection: it holds the exclusive lock and is the only one that writes rows.
//!
//! On Postgres the lock is a session lock of this very connection. A session that is lost takes the lock with it, and
//! nothing is written before a new session has it again: so a transaction that is still alive somewhere in the network
//! is over before we go on, and two processes never write in turns.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Error, PgConnection, SqliteConnection, raw_sql};
use tokio::time::{Instant, timeout, timeout_at};

use crate::model::{Account, Aor, Row};
use crate::store::failure::{Failure, before_commit, deadline, in_commit};
use crate::store::table::account;
use crate::store::write;

/// A transaction, from its first byte to the answer to its COMMIT, and a connection attempt take no longer.
pub(super) const DEADLINE: Duration = Duration::from_secs(2);

/// How sessions are made.
#[derive(Debug, Clone)]
pub(super) enum Options {
    /// To a Postgres server.
    Postgres(Box<PgConnectOptions>),
    /// To a file.
    Sqlite(Box<SqliteConnectOptions>),
}

/// A connection that holds the exclusive lock.
#[derive(Debug)]
pub(super) enum Session {
    /// To a Postgres server.
    Postgres(PgConnection),
    /// To a file.
    Sqlite(SqliteConnection),
}

/// What one transaction does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Work<'a> {
    /// Nothing: proves that a transaction can begin, so that no other one is in the middle of writing.
    Nothing,
    /// These rows, one per key.
    Rows(&'a [&'a Row]),
    /// The same rows of which nobody waits to hear that they are on disk: committed, and there with the next transaction that somebody waits
    /// for (on Postgres within a second anyway).
    Lazily(&'a [&'a Row]),
    /// This account.
    PutAccount(&'a Account),
    /// This account goes, with everything of its user.
    RemoveAccount(&'a Aor),
}

macro_rules! on {
    ($session:expr, $connection:ident => $body:expr) => {
        match $session {
            Session::Postgres($connection) => $body,
            Session::Sqlite($connection) => $body,
        }
    };
}

impl Session {
    /// Connects and takes the lock. `Ok(None)`: another session has it.
    pub async fn open(options: &Options) -> Result<Option<Session>, Error> {
        timeout(DEADLINE, async {
            match options {
                Options::Postgres(options) => {
                    let mut connection = options.connect().await?;
                    let locked: bool = sqlx::query_scalar(LOCK).fetch_one(&mut connection).await?;
                    if !locked {
                        return Ok(None);
                    }
                    for setting in SETTINGS {
                        // A setting that this server does not know is one safety net less, no more.
                        match raw_sql(*setting).execute(&mut connection).await {
                            Ok(_) | Err(Error::Database(_)) => {}
                            Err(lost) => return Err(lost),
                        }
                    }
                    Ok(Some(Session::Postgres(connection)))
                }
                Options::Sqlite(options) => {
                    let mut connection = options.connect().await?;
                    for setting in FILE_SETTINGS {
                        raw_sql(*setting).execute(&mut connection).await?;
                    }
                    Ok(Some(Session::Sqlite(connection)))
                }
            }
        })
        .await
        .unwrap_or_else(|_| Err(deadline()))
    }

    /// One transaction within [`DEADLINE`]. Gives the number of rows of its main statement. After any failure but
    /// [`Failure::Refused`] the session must be dropped.
    ///
    /// BEGIN, the statements and COMMIT are separate round trips: COMMIT is handed to the driver only when all before
    /// it were answered, so whatever ends earlier is certainly not written.
    #[expect(clippy::disallowed_methods, reason = "the writer's deadline")]
    pub async fn transaction(&mut self, work: Work<'_>) -> Result<u64, Failure> {
        let until = Instant::now() + DEADLINE;
        let is_lazy = matches!((&*self, work), (Session::Sqlite(_), Work::Lazily(_)));
        if !is_lazy {
            return self.transaction_until(until, work).await;
        }
        if let Err(error) = self.simple("PRAGMA synchronous = NORMAL").await {
            return Err(Failure::Lost(error));
        }
        let done = self.transaction_until(until, work).await;
        match (done, self.simple("PRAGMA synchronous = FULL").await) {
            (Ok(_) | Err(Failure::Refused(_)), Err(error)) => Err(Failure::Unknown(error)),
            (done, _) => done,
        }
    }

    async fn transaction_until(&mut self, until: Instant, work: Work<'_>) -> Result<u64, Failure> {
        let written = match timeout_at(until, self.begin_and_write(work)).await {
            Ok(Ok(written)) => written,
            Ok(Err(error)) => return Err(self.after_refusal(before_commit(error)).await),
            Err(_) => return Err(Failure::Lost(deadline())),
        };
        match timeout_at(until, self.simple("COMMIT")).await {
            Ok(Ok(())) => Ok(written),
            Ok(Err(error)) => Err(self.after_refusal(in_commit(error)).await),
            Err(_) => Err(Failure::Unknown(deadline())),
        }
    }

    /// Leaves nothing behind of what was deleted: SQLite keeps it in its write-ahead log until that begins anew. `false`: somebody is reading, or it
    /// failed; nothing is lost by it.
    pub async fn tidy(&mut self) -> bool {
        let Session::Sqlite(connection) = self else { return true };
        let truncated = sqlx::query_scalar::<_, i64>("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(connection);
        matches!(timeout(DEADLINE, truncated).await, Ok(Ok(0)))
    }

    /// Says goodbye, so that the lock is free at once.
    pub async fn close(self) {
        let _ = timeout(DEADLINE, async { on!(self, connection => connection.close().await) }).await;
    }

    async fn begin_and_write(&mut self, work: Work<'_>) -> Result<u64, Error> {
        match (&*self, work) {
            (Session::Postgres(_), Work::Lazily(_)) => self.simple(BEGIN_LAZILY).await?,
            (Session::Postgres(_), _) => self.simple("BEGIN").await?,
            (Session::Sqlite(_), _) => self.simple("BEGIN IMMEDIATE").await?,
        }
        match work {
            Work::Nothing => Ok(0),
            Work::Rows(rows) | Work::Lazily(rows) => match self {
                Session::Postgres(connection) => write::to_postgres(connection, rows).await,
                Session::Sqlite(connection) => write::to_sqlite(connection, rows).await,
            },
            Work::PutAccount(new) => on!(self, connection => {
                write::one(connection, account::PUT, account::values(new)).await
            }),
            Work::RemoveAccount(aor) => on!(self, connection => {
                for purge in account::PURGE {
                    write::one(&mut *connection, purge, vec![aor.into()]).await?;
                }
                write::one(&mut *connection, account::REMOVE, vec![aor.into()]).await
            }),
        }
    }

    /// A refusal leaves the session usable once it is rolled back; if it cannot be, the session is lost.
    async fn after_refusal(&mut self, failure: Failure) -> Failure {
        let Failure::Refused(cause) = failure else {
            return failure;
        };
        match timeout(DEADLINE, self.simple("ROLLBACK")).await {
            Ok(Ok(())) => Failure::Refused(cause),
            Ok(Err(lost)) => Failure::Lost(lost),
            Err(_) => Failure::Lost(deadline()),
        }
    }

    async fn simple(&mut self, sql: &'static str) -> Result<(), Error> {
        on!(self, connection => raw_sql(sql).execute(connection).await.map(|_| ()))
    }
}

/// One store per schema.
const LOCK: &str = "SELECT pg_try_advisory_lock(hashtextextended('hither ' || current_schema(), 0))";

/// Who needs nothing on disk does not wait for the disk.
const BEGIN_LAZILY: &str = "BEGIN; SET LOCAL synchronous_commit = off";

/// No commit stops to copy the log into the file: that is done beside it (`checkpoint.rs`). Up to 16 MB of pages are kept, so that a row
/// is changed without being looked for on disk, and what a statement of many rows needs for itself stays in memory.
const FILE_SETTINGS: &[&str] =
    &["PRAGMA wal_autocheckpoint = 0", "PRAGMA cache_size = -16384", "PRAGMA temp_store = MEMORY"];

/// A server that loses sight of us lets go of the lock soon; *Committed* means on disk whatever the default is.
const SETTINGS: &[&str] = &[
    "SET statement_timeout = 4000",
    "SET idle_in_transaction_session_timeout = 4000",
    "SET client_connection_check_interval = 1000",
    "SET tcp_keepalives_idle = 5",
    "SET tcp_keepalives_interval = 2",
    "SET tcp_keepalives_count = 3",
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
];

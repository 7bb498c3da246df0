//! Opening: where the database is, and the exclusive lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use tokio::time::{Instant, sleep};

use crate::store::session::{Options, Session};
use crate::store::{Fault, Target};

/// A run that was killed leaves its lock to the system, which may take a moment: so long a lock is asked for again.
const PATIENCE: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_millis(100);

/// How sessions are made for a target.
pub(super) fn options(target: &Target) -> Result<Options, Fault> {
    match target {
        Target::Postgres(url) => {
            let options = PgConnectOptions::from_str(&url.0).map_err(|source| Fault::Database {
                attempted: "read the address of the database",
                source,
            })?;
            Ok(Options::Postgres(Box::new(options.application_name("hither").disable_statement_logging())))
        }
        Target::Sqlite(path) => {
            let options = SqliteConnectOptions::new()
                .filename(path)
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .busy_timeout(Duration::from_secs(1))
                // A message that was delivered is gone from the file, not only from the table.
                .pragma("secure_delete", "ON")
                .disable_statement_logging();
            Ok(Options::Sqlite(Box::new(options)))
        }
    }
}

/// The lock and the writer's session.
#[expect(clippy::disallowed_methods, reason = "the lock is asked for until a deadline")]
pub(super) async fn lock(target: &Target, options: &Options) -> Result<(Option<File>, Session), Fault> {
    let until = Instant::now() + PATIENCE;
    let file = match target {
        Target::Sqlite(path) => Some(lock_file(path).map_err(Fault::File)?),
        Target::Postgres(_) => None,
    };
    loop {
        let free = match file.as_ref().map(File::try_lock) {
            None | Some(Ok(())) => true,
            Some(Err(TryLockError::WouldBlock)) => false,
            Some(Err(TryLockError::Error(error))) => return Err(Fault::File(error)),
        };
        if free {
            let opened = Session::open(options).await;
            let opened =
                opened.map_err(|source| Fault::Database { attempted: "connect to the database", source })?;
            if let Some(session) = opened {
                return Ok((file, session));
            }
        }
        if Instant::now() >= until {
            return Err(Fault::InUse);
        }
        sleep(AGAIN).await;
    }
}

/// Makes the database file, for nobody else to read (it holds secrets; SQLite gives its other files the same mode),
/// and opens the file that is locked instead of it.
fn lock_file(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?;
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    options.open(lock)
}

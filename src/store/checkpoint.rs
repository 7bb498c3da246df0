//! The log of an SQLite file is copied into the file beside the writer, on a connection of its own: no commit stops for it.
//!
//! What is copied to its end while nothing is written ends the log: the next commit begins it anew. So rounds go on beside the writer, and when the
//! log has become long, or nobody writes, the little that a round has left is copied while the writer waits.

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Error, SqliteConnection};
use tokio::task::JoinHandle;

/// Which part of the log is in the file.
#[derive(Debug)]
pub(super) struct Checkpoints {
    options: SqliteConnectOptions,
    connection: Option<SqliteConnection>,
    running: Option<JoinHandle<Result<(SqliteConnection, i64), Error>>>,
    /// Rows written since the last round began..
    rows: usize,
    /// ..and since the log began anew.
    log: usize,
}

impl Checkpoints {
    pub fn new(options: SqliteConnectOptions) -> Checkpoints {
        Checkpoints { options, connection: None, running: None, rows: 0, log: 0 }
    }

    /// So many rows were written. Seldom waits: for the little that is left of a round, when the log has become long.
    pub async fn written(&mut self, rows: usize) {
        self.rows += rows;
        self.log += rows;
        if self.running.as_ref().is_some_and(|running| running.is_finished() || self.log >= MOST) {
            match self.join().await {
                Some(0) => self.log = 0,
                Some(left) if left <= LITTLE && self.log >= LONG => self.finish().await,
                Some(_) | None => {}
            }
        }
        if self.running.is_none() && self.rows >= EVERY {
            self.begin();
        }
    }

    /// Nobody has written anything for a while: the log ends.
    pub async fn quiet(&mut self) {
        if self.log > 0 {
            self.join().await;
            self.finish().await;
        }
    }

    async fn finish(&mut self) {
        self.begin();
        if self.join().await == Some(0) {
            self.log = 0;
        }
    }

    /// Waits for what is under way and lets go of the connection.
    pub async fn end(&mut self) {
        self.join().await;
        if let Some(connection) = self.connection.take() {
            let _ = connection.close().await;
        }
    }

    #[expect(clippy::disallowed_methods, reason = "copies beside the writer, which awaits it")]
    fn begin(&mut self) {
        self.rows = 0;
        let (options, connection) = (self.options.clone(), self.connection.take());
        self.running = Some(tokio::spawn(async move {
            let mut connection = match connection {
                Some(connection) => connection,
                None => options.connect().await?,
            };
            let (_, log, copied): (i64, i64, i64) =
                sqlx::query_as("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(&mut connection).await?;
            Ok((connection, log - copied))
        }));
    }

    /// Pages of the log that are not in the file yet, after what was under way; `None` if it failed or nothing was.
    async fn join(&mut self) -> Option<i64> {
        match self.running.take()?.await {
            Ok(Ok((connection, left))) => {
                self.connection = Some(connection);
                Some(left)
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the log of the database could not be copied into its file");
                None
            }
            Err(_) => None,
        }
    }
}

/// Rows after which a round begins: each is a few pages of 4 KB in the log.
const EVERY: usize = 400;
/// Rows in the log after which it is to begin anew, which one commit waits a few milliseconds for.
const LONG: usize = 12_000;
/// Rows in the log after which the writer waits for a round that takes so long: a few hundred MB at worst.
const MOST: usize = 50_000;
/// Pages of the log that are copied while the writer waits.
const LITTLE: i64 = 200;

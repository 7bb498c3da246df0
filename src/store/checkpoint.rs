//! The log of an SQLite file is copied into the file beside the writer, on a connection of its own: no commit stops for it.
//!
//! What is copied while nothing is written ends the log: the next commit begins it anew. So each round goes on beside the writer until little is
//! left, and that little is copied while the writer waits.

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Error, SqliteConnection};
use tokio::task::JoinHandle;

/// Which part of the log is in the file.
#[derive(Debug)]
pub(super) struct Checkpoints {
    options: SqliteConnectOptions,
    connection: Option<SqliteConnection>,
    running: Option<JoinHandle<Result<(SqliteConnection, i64), Error>>>,
    /// Rows written since the log began anew, or was last looked at.
    rows: usize,
}

impl Checkpoints {
    pub fn new(options: SqliteConnectOptions) -> Checkpoints {
        Checkpoints { options, connection: None, running: None, rows: 0 }
    }

    /// So many rows were written. Seldom waits: for the little that is left of a round, or because the log has grown far too long.
    pub async fn written(&mut self, rows: usize) {
        self.rows += rows;
        if self.running.as_ref().is_some_and(|running| running.is_finished() || self.rows >= MOST) {
            match self.join().await {
                Some(0) => self.rows = 0,
                Some(left) if left <= LITTLE => {
                    self.begin();
                    self.join().await;
                    self.rows = 0;
                }
                Some(_) => self.begin(),
                // Tried again after as many rows; meanwhile the log grows.
                None => self.rows = 0,
            }
        }
        if self.running.is_none() && self.rows >= EVERY {
            self.begin();
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
const EVERY: usize = 2_000;
/// Rows after which the writer waits for the round: the log is bounded, some hundred MB at worst.
const MOST: usize = 40_000;
/// Pages of the log that are copied while the writer waits: a few milliseconds.
const LITTLE: i64 = 200;

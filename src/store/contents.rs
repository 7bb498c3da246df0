//! What stored messages say, read when they are delivered.
//!
//! Over a connection of its own: a pool would ask it whether it still lives before and after each question, and every message waits for its answer.

use sqlx::{ConnectOptions, Connection, Error, PgConnection, SqliteConnection, query};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::model::{Aor, Content, MessageId};
use crate::store::Fault;
use crate::store::failure::deadline;
use crate::store::session::{DEADLINE, Options};
use crate::store::table::message;
use crate::store::value::{Columns, Value};
use crate::store::write::{arrays, bind_all};

/// The connection; made when it is first asked.
#[derive(Debug)]
pub(super) struct Contents {
    options: Options,
    /// Not there while a question is under way: if that is given up, so is the connection, which has its answer still to come.
    connection: Mutex<Option<Asked>>,
}

#[derive(Debug)]
enum Asked {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

impl Contents {
    pub fn new(options: &Options) -> Contents {
        Contents { options: options.clone(), connection: Mutex::new(None) }
    }

    /// What devices are sent of these messages, in their order; `None`: there is no such message.
    pub async fn read(&self, of: &[(Aor, MessageId)]) -> Result<Vec<Result<Option<Content>, Fault>>, Fault> {
        let asked = async {
            let mut place = self.connection.lock().await;
            if let Some(mut kept) = place.take()
                && let Ok(found) = kept.ask(of).await
            {
                *place = Some(kept);
                return Ok(found);
            }
            // The database may have gone and come back since the last question.
            let mut fresh = Asked::connect(&self.options).await?;
            let found = fresh.ask(of).await?;
            *place = Some(fresh);
            Ok(found)
        };
        let found = timeout(DEADLINE, asked).await.unwrap_or_else(|_| Err(deadline()));
        let found = found.map_err(|source| Fault::Database { attempted: "read messages", source })?;
        let mut contents: Vec<_> = of.iter().map(|_| Ok(None)).collect();
        for (place, content) in found {
            let content = content.map(Some).ok_or(Fault::Corrupt { table: message::TABLE.name });
            if let Some(at) = place.and_then(|place| contents.get_mut(place)) {
                *at = content;
            }
        }
        Ok(contents)
    }

    /// Lets go of the connection.
    pub async fn close(&self) {
        let _ = timeout(DEADLINE, async {
            match self.connection.lock().await.take() {
                Some(Asked::Postgres(connection)) => connection.close().await,
                Some(Asked::Sqlite(connection)) => connection.close().await,
                None => Ok(()),
            }
        })
        .await;
    }
}

impl Asked {
    async fn connect(options: &Options) -> Result<Asked, Error> {
        match options {
            Options::Postgres(options) => options.connect().await.map(Asked::Postgres),
            // Each row is read once: there is nothing to keep.
            Options::Sqlite(options) => {
                (**options).clone().pragma("cache_size", "-128").connect().await.map(Asked::Sqlite)
            }
        }
    }

    /// What is there, each with its place in the question.
    async fn ask(&mut self, of: &[(Aor, MessageId)]) -> Result<Vec<Found>, Error> {
        let wanted = of.iter().zip(0_u32..).map(|((recipient, id), place)| {
            let mut wanted = message::key(recipient, *id);
            wanted.push(place.into());
            wanted
        });
        let mut wanted: Vec<Vec<Value<'_>>> = wanted.collect();
        match self {
            Asked::Postgres(connection) => {
                let found = arrays(message::CONTENTS_POSTGRES, &wanted).fetch_all(connection).await?;
                Ok(found.iter().map(found_in).collect())
            }
            Asked::Sqlite(connection) => {
                let mut all = Vec::new();
                while !wanted.is_empty() {
                    let (sql, rows) = message::CONTENTS_SQLITE.of(wanted.len());
                    let values = wanted.drain(..rows).flatten();
                    let found = bind_all(query(sql), values).fetch_all(&mut *connection).await?;
                    all.extend(found.iter().map(found_in));
                }
                Ok(all)
            }
        }
    }
}

/// Which one, and what it says; `None`: it does not read back.
type Found = (Option<usize>, Option<Content>);

fn found_in(row: &impl Columns) -> Found {
    (row.narrow(4), message::read_content(row))
}

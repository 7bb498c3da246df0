//! What stored messages say, read one at a time when each is delivered.
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
use crate::store::write::bind_all;

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

    /// What a device is sent of one message; `None`: there is no such message.
    pub async fn read(&self, recipient: &Aor, id: MessageId) -> Result<Option<Content>, Fault> {
        let asked = async {
            let mut place = self.connection.lock().await;
            if let Some(mut kept) = place.take()
                && let Ok(found) = kept.ask(recipient, id).await
            {
                *place = Some(kept);
                return Ok(found);
            }
            // The database may have gone and come back since the last question.
            let mut fresh = Asked::connect(&self.options).await?;
            let found = fresh.ask(recipient, id).await?;
            *place = Some(fresh);
            Ok(found)
        };
        let found = timeout(DEADLINE, asked).await.unwrap_or_else(|_| Err(deadline()));
        match found.map_err(|source| Fault::Database { attempted: "read a message", source })? {
            Some(None) => Err(Fault::Corrupt { table: message::TABLE.name }),
            Some(content) => Ok(content),
            None => Ok(None),
        }
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

    /// `None`: no such row; `Some(None)`: it does not read back.
    async fn ask(&mut self, recipient: &Aor, id: MessageId) -> Result<Option<Option<Content>>, Error> {
        let key = message::key(recipient, id);
        match self {
            Asked::Postgres(connection) => {
                let found = bind_all(query(message::CONTENT), key).fetch_optional(connection).await?;
                Ok(found.map(|row| message::read_content(&row)))
            }
            Asked::Sqlite(connection) => {
                let found = bind_all(query(message::CONTENT), key).fetch_optional(connection).await?;
                Ok(found.map(|row| message::read_content(&row)))
            }
        }
    }
}

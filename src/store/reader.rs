//! Everything that is asked of the database: over a small pool, beside the writer's connection.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Error, PgPool, SqlitePool, query};
use tokio::time::timeout;

use crate::model::{Account, Aor, Row};
use crate::store::Fault;
use crate::store::failure::deadline;
use crate::store::migrations::migrator;
use crate::store::packed;
use crate::store::session::{DEADLINE, Options};
use crate::store::table::{
    self, Table, account, binding, document, message, publication, subscription, waiting,
};
use crate::store::value::{Columns, Value};
use crate::store::write::bind_all;

/// A pool of either kind.
#[derive(Debug)]
pub(super) enum Reader {
    /// To a Postgres server.
    Postgres(PgPool),
    /// To a file.
    Sqlite(SqlitePool),
}

/// Rows of one page when everything is loaded: few enough that whoever waits for the same thread waits for milliseconds.
const PAGE: i64 = 1_024;

/// Documents of one page: they may be large.
const DOCUMENTS: i64 = 64;

/// A connection that nobody needs is closed after this time: each to a file keeps megabytes of pages, and all are needed at a start.
const IDLE: Duration = Duration::from_secs(10);

/// A page is read, and a migration is applied, within this time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the same expression on either kind of pool; gives rows read by `$read`, or a fault.
macro_rules! rows {
    ($reader:expr, $patience:expr, $attempted:literal, $sql:expr, $values:expr, $table:expr, $read:expr) => {{
        let asked = async {
            match $reader {
                Reader::Postgres(pool) => {
                    let found = bind_all(query($sql), $values).fetch_all(pool).await?;
                    Ok(found.iter().map($read).collect::<Option<Vec<_>>>())
                }
                Reader::Sqlite(pool) => {
                    let found = bind_all(query($sql), $values).fetch_all(pool).await?;
                    Ok(found.iter().map($read).collect::<Option<Vec<_>>>())
                }
            }
        };
        within($patience, $attempted, asked).await?.ok_or(Fault::Corrupt { table: $table })
    }};
}

/// The same for a page of many rows without bodies: on SQLite it comes in one row.
macro_rules! page {
    ($reader:expr, $attempted:literal, $sql:expr, $values:expr, $table:expr, $read:expr) => {{
        match $reader {
            Reader::Postgres(_) => rows!($reader, PATIENCE, $attempted, $sql, $values, $table, $read),
            Reader::Sqlite(pool) => {
                let asked = async {
                    let found = bind_all(query(packed::question($sql)), $values).fetch_one(pool).await?;
                    let rows = found.str(0).and_then(packed::rows);
                    Ok(rows.and_then(|rows| rows.iter().map($read).collect::<Option<Vec<_>>>()))
                };
                within(PATIENCE, $attempted, asked).await?.ok_or(Fault::Corrupt { table: $table })
            }
        }
    }};
}

impl Reader {
    /// A pool; connects when it is asked.
    pub fn new(options: &Options) -> Reader {
        match options {
            Options::Postgres(options) => Reader::Postgres(
                PgPoolOptions::new()
                    .max_connections(8)
                    .acquire_timeout(DEADLINE)
                    .connect_lazy_with((**options).clone()),
            ),
            Options::Sqlite(options) => Reader::Sqlite(
                SqlitePoolOptions::new()
                    .max_connections(6)
                    .acquire_timeout(DEADLINE)
                    .idle_timeout(IDLE)
                    .connect_lazy_with((**options).clone()),
            ),
        }
    }

    /// Brings the schema up to date.
    pub async fn migrate(&self) -> Result<(), Fault> {
        let applied = timeout(PATIENCE, async {
            match self {
                Reader::Postgres(pool) => migrator().run(pool).await,
                Reader::Sqlite(pool) => migrator().run(pool).await,
            }
        });
        match applied.await {
            Ok(applied) => applied.map_err(Fault::Migrate),
            Err(_) => Err(Fault::Migrate(deadline().into())),
        }
    }

    /// Every row of every home; those of one home and table come in order of creation. The tables are read side by side.
    pub async fn all(&self, each: &mut (dyn FnMut(Row) + Send)) -> Result<(), Fault> {
        let each = Mutex::new(each);
        tokio::try_join!(
            self.table(&binding::TABLE, &each),
            self.table(&publication::TABLE, &each),
            self.table(&subscription::TABLE, &each),
            self.table(&document::TABLE, &each),
            self.table(&message::TABLE, &each),
            self.table(&waiting::TABLE, &each),
        )?;
        Ok(())
    }

    /// Every row of one home.
    pub async fn home(&self, aor: &Aor) -> Result<Vec<Row>, Fault> {
        let mut home = Vec::new();
        for table in table::ALL {
            home.extend(rows!(
                self,
                DEADLINE,
                "load a home",
                table.of_home,
                [Value::from(aor)],
                table.name,
                |row| read(table, row)
            )?);
        }
        Ok(home)
    }

    /// Every account, in order.
    pub async fn accounts(&self, each: &mut (dyn FnMut(Account) + Send)) -> Result<(), Fault> {
        let mut after = String::new();
        loop {
            let values = [Value::from(after.as_str()), Value::from(PAGE)];
            let page: Vec<Account> =
                page!(self, "read accounts", account::PAGE, values, account::NAME, account::read)?;
            let is_last = (page.len() as i64) < PAGE;
            if let Some(last) = page.last() {
                last.aor.as_str().clone_into(&mut after);
            }
            page.into_iter().for_each(&mut *each);
            if is_last {
                return Ok(());
            }
        }
    }

    /// One account.
    pub async fn account(&self, aor: &Aor) -> Result<Option<Account>, Fault> {
        let found: Vec<Account> = rows!(
            self,
            DEADLINE,
            "read an account",
            account::ONE,
            [Value::from(aor)],
            account::NAME,
            account::read
        )?;
        Ok(found.into_iter().next())
    }

    /// How many a user watches, wherever: reads all subscriptions.
    pub async fn watched_by(&self, aor: &Aor) -> Result<i64, Fault> {
        let found: Vec<i64> = rows!(
            self,
            PATIENCE,
            "read subscriptions",
            subscription::OF_WATCHER,
            [Value::from(aor)],
            subscription::TABLE.name,
            |row| row.number(0)
        )?;
        Ok(found.into_iter().sum())
    }

    /// Keeps `fresh` if there is no secret yet; gives the one that is kept.
    pub async fn secret(&self, fresh: [u8; 32]) -> Result<[u8; 32], Fault> {
        let put = async {
            match self {
                Reader::Postgres(pool) => {
                    query(account::SECRET_PUT).bind(fresh.to_vec()).execute(pool).await.map(|_| ())
                }
                Reader::Sqlite(pool) => {
                    query(account::SECRET_PUT).bind(fresh.to_vec()).execute(pool).await.map(|_| ())
                }
            }
        };
        within(DEADLINE, "keep the secret", put).await?;
        let secrets: Vec<[u8; 32]> =
            rows!(self, DEADLINE, "read the secret", account::SECRET, [], "installation", |row| row
                .bytes(0)?
                .try_into()
                .ok())?;
        secrets.first().copied().ok_or(Fault::Corrupt { table: "installation" })
    }

    /// Lets go of all connections.
    pub async fn close(&self) {
        let _ = timeout(DEADLINE, async {
            match self {
                Reader::Postgres(pool) => pool.close().await,
                Reader::Sqlite(pool) => pool.close().await,
            }
        })
        .await;
    }

    async fn table(&self, table: &'static Table, each: &Each<'_>) -> Result<(), Fault> {
        let mut place = (table.start)();
        let size = if table.name == document::TABLE.name { DOCUMENTS } else { PAGE };
        let mut home: Vec<Row> = Vec::new();
        loop {
            let values = place.into_iter().chain([Value::from(size)]);
            let page: Vec<Row> = if has_bodies(table) {
                rows!(self, PATIENCE, "load a page", table.page, values, table.name, |row| read(table, row))?
            } else {
                page!(self, "load a page", table.page, values, table.name, |row| read(table, row))?
            };
            let Some(last) = page.last() else { break };
            place = place_of(last);
            let is_last = (page.len() as i64) < size;
            for row in page {
                if home.last().is_some_and(|held| held.aor() != row.aor()) {
                    give(&mut home, each);
                }
                home.push(row);
            }
            if is_last {
                break;
            }
        }
        give(&mut home, each);
        Ok(())
    }
}

/// Are there rows in it that may be large?
fn has_bodies(table: &Table) -> bool {
    ![binding::TABLE.name, subscription::TABLE.name, waiting::TABLE.name].contains(&table.name)
}

/// Who takes the rows, of whichever table.
type Each<'a> = Mutex<&'a mut (dyn FnMut(Row) + Send)>;

/// Gives out the rows of one home in order of creation.
fn give(home: &mut Vec<Row>, each: &Each<'_>) {
    home.sort_by_key(|row| match row {
        Row::PutBinding(binding) | Row::RefreshBinding(binding) => binding.created_at,
        Row::PutPublication(publication) => publication.created_at,
        Row::PutSubscription(subscription) => subscription.created_at,
        Row::PutDocument(document) => document.modified_at,
        Row::DropBinding(..) | Row::DropPublication(..) | Row::DropSubscription(..) => Default::default(),
        Row::DropDocument(..) => Default::default(),
        Row::PutMessage(message) => message.waiting.taken_at,
        Row::DropMessage(..) => Default::default(),
        Row::PutWaiting(waiting) => waiting.ended_at,
        Row::DropWaiting(..) => Default::default(),
    });
    let mut each = each.lock().unwrap_or_else(PoisonError::into_inner);
    home.drain(..).for_each(&mut **each);
}

fn read(table: &Table, row: &impl Columns) -> Option<Row> {
    match table.name {
        "binding" => binding::read(row).map(|read| Row::PutBinding(read.into())),
        "publication" => publication::read(row).map(|read| Row::PutPublication(read.into())),
        "document" => document::read(row).map(|read| Row::PutDocument(read.into())),
        "message" => message::read(row).map(|read| Row::PutMessage(read.into())),
        "waiting" => waiting::read(row).map(|read| Row::PutWaiting(read.into())),
        _ => subscription::read(row).map(|read| Row::PutSubscription(read.into())),
    }
}

fn place_of(row: &Row) -> [Value<'static>; 2] {
    let key = match row {
        Row::PutBinding(binding) | Row::RefreshBinding(binding) => binding.key.0.to_string().into(),
        Row::DropBinding(_, key) => key.0.to_string().into(),
        Row::PutPublication(publication) => crate::store::value::id(publication.id.0),
        Row::DropPublication(_, id) => crate::store::value::id(id.0),
        Row::PutSubscription(subscription) => crate::store::value::id(subscription.id.0),
        Row::DropSubscription(_, id) => crate::store::value::id(id.0),
        Row::PutDocument(document) => document.name.path().into(),
        Row::DropDocument(_, name) => name.path().into(),
        Row::PutMessage(message) => crate::store::value::id(message.waiting.id.0),
        Row::DropMessage(_, id) => crate::store::value::id(id.0),
        Row::PutWaiting(waiting) => waiting.watcher.as_str().to_owned().into(),
        Row::DropWaiting(_, watcher) => watcher.as_str().to_owned().into(),
    };
    [row.aor().as_str().to_owned().into(), key]
}

async fn within<T>(
    patience: Duration,
    attempted: &'static str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Fault> {
    let done = timeout(patience, work).await.unwrap_or_else(|_| Err(deadline()));
    done.map_err(|source| Fault::Database { attempted, source })
}

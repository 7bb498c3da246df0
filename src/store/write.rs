//! Rows into statements: of each kind of change of each table one multi-row statement on Postgres, and a few of them on SQLite, where every
//! statement is a visit to another thread.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{
    Database, Encode, Error, Executor, IntoArguments, PgConnection, Postgres, SqliteConnection, Type, query,
};

use crate::model::Row;
use crate::store::table::{Table, binding, document, message, publication, subscription, waiting};
use crate::store::value::Value;

/// Writes rows, one per key, inside the transaction that is open.
pub(super) async fn to_postgres(connection: &mut PgConnection, rows: &[&Row]) -> Result<u64, Error> {
    for group in grouped(rows) {
        let changes = &group.changes;
        let sql = match group.kind {
            Kind::Drop => group.table.drop_postgres,
            Kind::Refresh => binding::REFRESH_POSTGRES,
            Kind::Put => group.table.put_postgres,
        };
        let touched = arrays(sql, changes).execute(&mut *connection).await?.rows_affected();
        if group.kind == Kind::Refresh && touched < changes.len() as u64 {
            let whole: Vec<_> = group.rows.iter().map(|row| whole(row)).collect();
            arrays(group.table.put_postgres, &whole).execute(&mut *connection).await?;
        }
    }
    Ok(rows.len() as u64)
}

/// The same on SQLite.
pub(super) async fn to_sqlite(connection: &mut SqliteConnection, rows: &[&Row]) -> Result<u64, Error> {
    for group in grouped(rows) {
        match group.kind {
            Kind::Drop => {
                for key in group.changes {
                    one(&mut *connection, group.table.drop_sqlite, key).await?;
                }
            }
            Kind::Refresh => {
                let count = group.changes.len() as u64;
                if several(&mut *connection, binding::REFRESH_SQLITE, group.changes).await? < count {
                    let whole = group.rows.iter().map(|row| whole(row)).collect();
                    several(&mut *connection, group.table.put_sqlite, whole).await?;
                }
            }
            Kind::Put => drop(several(&mut *connection, group.table.put_sqlite, group.changes).await?),
        }
    }
    Ok(rows.len() as u64)
}

/// Many rows by a few statements; gives the number of rows they touched.
async fn several(
    connection: &mut SqliteConnection,
    sql: &'static str,
    changes: Vec<Vec<Value<'_>>>,
) -> Result<u64, Error> {
    let mut touched = 0;
    let mut changes = changes.into_iter();
    while changes.len() > 0 {
        let size = SIZES.into_iter().find(|size| *size <= changes.len()).unwrap_or(1);
        let values = changes.by_ref().take(size).flatten().collect();
        touched += one(&mut *connection, for_rows(sql, size), values).await?;
    }
    Ok(touched)
}

/// The statement for so many rows: its list of values, repeated. There are a few of each text, which are made once.
fn for_rows(sql: &'static str, rows: usize) -> &'static str {
    static MADE: LazyLock<Mutex<HashMap<(&'static str, usize), &'static str>>> =
        LazyLock::new(Mutex::default);
    if rows == 1 {
        return sql;
    }
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.entry((sql, rows)).or_insert_with(|| repeated(sql, rows).map_or(sql, |text| text.leak()))
}

/// `None` if the text has no `VALUES ($1, ..)`.
fn repeated(sql: &str, rows: usize) -> Option<String> {
    let (before, rest) = sql.split_once("VALUES (")?;
    let (values, after) = rest.split_once(')')?;
    let columns = values.split(',').count();
    let row = |row| {
        let numbers = (1..=columns).map(|column| format!("${}", row * columns + column));
        format!("({})", numbers.collect::<Vec<_>>().join(", "))
    };
    Some(format!("{before}VALUES {}{after}", (0..rows).map(row).collect::<Vec<_>>().join(", ")))
}

/// Rows of one statement on SQLite, from which any number is made up.
const SIZES: [usize; 3] = [32, 4, 1];

/// Changes of one kind of one table.
struct Group<'a> {
    table: &'static Table,
    kind: Kind,
    rows: Vec<&'a Row>,
    changes: Vec<Vec<Value<'a>>>,
}

fn grouped<'a>(rows: &[&'a Row]) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for row in rows {
        let (table, kind, values) = change(row);
        let is_its = |group: &&mut Group<'_>| group.table.name == table.name && group.kind == kind;
        match groups.iter_mut().find(is_its) {
            Some(group) => {
                group.rows.push(row);
                group.changes.push(values);
            }
            None => groups.push(Group { table, kind, rows: vec![row], changes: vec![values] }),
        }
    }
    groups.sort_by_key(|group| group.kind);
    groups
}

/// One statement with single values; gives the number of rows it touched.
pub(super) async fn one<'c, DB, E>(
    executor: E,
    sql: &'static str,
    values: Vec<Value<'_>>,
) -> Result<u64, Error>
where
    DB: Database + Affected,
    E: Executor<'c, Database = DB>,
    DB::Arguments: IntoArguments<DB>,
    Option<String>: for<'q> Encode<'q, DB> + Type<DB>,
    Option<i64>: for<'q> Encode<'q, DB> + Type<DB>,
    Vec<u8>: for<'q> Encode<'q, DB> + Type<DB>,
{
    let done = bind_all(query::<DB>(sql), values).execute(executor).await?;
    Ok(DB::affected(&done))
}

/// Binds single values.
pub(super) fn bind_all<'q, DB>(
    query: Query<'q, DB, DB::Arguments>,
    values: impl IntoIterator<Item = Value<'q>>,
) -> Query<'q, DB, DB::Arguments>
where
    DB: Database,
    Option<String>: for<'e> Encode<'e, DB> + Type<DB>,
    Option<i64>: for<'e> Encode<'e, DB> + Type<DB>,
    Vec<u8>: for<'e> Encode<'e, DB> + Type<DB>,
{
    values.into_iter().fold(query, |query, value| match value {
        Value::Text(text) => query.bind(text.map(std::borrow::Cow::into_owned)),
        Value::Number(number) => query.bind(number),
        Value::Bytes(bytes) => query.bind(bytes.into_owned()),
    })
}

/// How many rows a statement touched.
pub(super) trait Affected: Database {
    /// From its result.
    fn affected(done: &Self::QueryResult) -> u64;
}

impl Affected for Postgres {
    fn affected(done: &Self::QueryResult) -> u64 {
        done.rows_affected()
    }
}

impl Affected for sqlx::Sqlite {
    fn affected(done: &Self::QueryResult) -> u64 {
        done.rows_affected()
    }
}

/// In the order in which they are written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Drop,
    /// Of a row that is there; one that is not is put as a whole.
    Refresh,
    Put,
}

fn change(row: &Row) -> (&'static Table, Kind, Vec<Value<'_>>) {
    match row {
        Row::PutBinding(new) => (&binding::TABLE, Kind::Put, binding::values(new)),
        Row::RefreshBinding(new) => (&binding::TABLE, Kind::Refresh, binding::refreshed(new)),
        Row::DropBinding(aor, key) => (&binding::TABLE, Kind::Drop, binding::key(aor, key)),
        Row::PutPublication(new) => (&publication::TABLE, Kind::Put, publication::values(new)),
        Row::DropPublication(_, id) => (&publication::TABLE, Kind::Drop, publication::key(*id)),
        Row::PutSubscription(new) => (&subscription::TABLE, Kind::Put, subscription::values(new)),
        Row::DropSubscription(_, id) => (&subscription::TABLE, Kind::Drop, subscription::key(*id)),
        Row::PutDocument(new) => (&document::TABLE, Kind::Put, document::values(new)),
        Row::DropDocument(owner, name) => (&document::TABLE, Kind::Drop, document::key(owner, name)),
        Row::PutMessage(new) => (&message::TABLE, Kind::Put, message::values(new)),
        Row::DropMessage(_, id) => (&message::TABLE, Kind::Drop, message::key(*id)),
        Row::PutWaiting(new) => (&waiting::TABLE, Kind::Put, waiting::values(new)),
        Row::DropWaiting(aor, watcher) => (&waiting::TABLE, Kind::Drop, waiting::key(aor, watcher)),
    }
}

/// All columns of what a refresh is of.
fn whole(row: &Row) -> Vec<Value<'_>> {
    match row {
        Row::RefreshBinding(new) => binding::values(new),
        row => change(row).2,
    }
}

/// Binds one array per column. All changes have the columns of the first.
fn arrays<'q>(sql: &'static str, changes: &'q [Vec<Value<'q>>]) -> Query<'q, Postgres, PgArguments> {
    let first = changes.first().map_or(&[][..], Vec::as_slice);
    let mut query = query::<Postgres>(sql);
    for (at, kind) in first.iter().enumerate() {
        let column = changes.iter().filter_map(|values| values.get(at));
        query = match kind {
            Value::Text(_) => query.bind(column.map(text).collect::<Vec<Option<&str>>>()),
            Value::Number(_) => query.bind(column.map(number).collect::<Vec<Option<i64>>>()),
            Value::Bytes(_) => query.bind(column.map(bytes).collect::<Vec<&[u8]>>()),
        };
    }
    query
}

fn text<'a>(value: &'a Value<'_>) -> Option<&'a str> {
    if let Value::Text(text) = value { text.as_deref() } else { None }
}

fn number(value: &Value<'_>) -> Option<i64> {
    if let Value::Number(number) = value { *number } else { None }
}

fn bytes<'a>(value: &'a Value<'_>) -> &'a [u8] {
    if let Value::Bytes(bytes) = value { bytes } else { &[] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_repeated_for_as_many_rows() {
        let sql = "INSERT INTO t (a, b) VALUES ($1, $2) ON CONFLICT (a) DO UPDATE SET b = EXCLUDED.b";
        let twice =
            "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4) ON CONFLICT (a) DO UPDATE SET b = EXCLUDED.b";
        assert_eq!(for_rows(sql, 2), twice);
        assert!(std::ptr::eq(for_rows(sql, 2), for_rows(sql, 2)));
        assert_eq!(for_rows(sql, 1), sql);
        for table in
            [&binding::TABLE, &publication::TABLE, &subscription::TABLE, &document::TABLE, &waiting::TABLE]
        {
            assert!(repeated(table.put_sqlite, 2).is_some(), "{}", table.name);
        }
        assert!(repeated(binding::REFRESH_SQLITE, 2).is_some());
    }
}

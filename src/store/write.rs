//! Rows into statements: on Postgres one multi-row statement per table and kind of change, on SQLite one prepared
//! statement per row.

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{
    Database, Encode, Error, Executor, IntoArguments, PgConnection, Postgres, SqliteConnection, Type, query,
};

use crate::model::Row;
use crate::store::table::{Table, binding, document, message, publication, subscription};
use crate::store::value::Value;

/// Writes rows, one per key, inside the transaction that is open.
pub(super) async fn to_postgres(connection: &mut PgConnection, rows: &[&Row]) -> Result<u64, Error> {
    for table in
        [&binding::TABLE, &publication::TABLE, &subscription::TABLE, &document::TABLE, &message::TABLE]
    {
        let mut puts = Vec::new();
        let mut drops = Vec::new();
        for (of, kind, values) in rows.iter().map(|row| change(row)) {
            match kind {
                _ if of.name != table.name => {}
                Kind::Put => puts.push(values),
                Kind::Drop => drops.push(values),
            }
        }
        for (sql, changes) in [(table.drop_postgres, drops), (table.put_postgres, puts)] {
            if !changes.is_empty() {
                arrays(sql, &changes).execute(&mut *connection).await?;
            }
        }
    }
    Ok(rows.len() as u64)
}

/// The same on SQLite.
pub(super) async fn to_sqlite(connection: &mut SqliteConnection, rows: &[&Row]) -> Result<u64, Error> {
    for row in rows {
        let (table, kind, values) = change(row);
        let sql = match kind {
            Kind::Put => table.put_sqlite,
            Kind::Drop => table.drop_sqlite,
        };
        one(&mut *connection, sql, values).await?;
    }
    Ok(rows.len() as u64)
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

#[derive(Clone, Copy)]
enum Kind {
    Put,
    Drop,
}

fn change(row: &Row) -> (&'static Table, Kind, Vec<Value<'_>>) {
    match row {
        Row::PutBinding(new) => (&binding::TABLE, Kind::Put, binding::values(new)),
        Row::DropBinding(aor, key) => (&binding::TABLE, Kind::Drop, binding::key(aor, key)),
        Row::PutPublication(new) => (&publication::TABLE, Kind::Put, publication::values(new)),
        Row::DropPublication(_, id) => (&publication::TABLE, Kind::Drop, publication::key(*id)),
        Row::PutSubscription(new) => (&subscription::TABLE, Kind::Put, subscription::values(new)),
        Row::DropSubscription(_, id) => (&subscription::TABLE, Kind::Drop, subscription::key(*id)),
        Row::PutDocument(new) => (&document::TABLE, Kind::Put, document::values(new)),
        Row::DropDocument(owner, name) => (&document::TABLE, Kind::Drop, document::key(owner, name)),
        Row::PutMessage(new) => (&message::TABLE, Kind::Put, message::values(new)),
        Row::DropMessage(_, id) => (&message::TABLE, Kind::Drop, message::key(*id)),
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

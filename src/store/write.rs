//! Rows into statements: of each kind of change of each table one multi-row statement on Postgres, and a few of them on SQLite, where every
//! statement is a visit to another thread.

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{
    Database, Encode, Error, Executor, IntoArguments, PgConnection, Postgres, SqliteConnection, Type, query,
};

use crate::model::Row;
use crate::store::statement::Statement;
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
        let count = group.changes.len() as u64;
        let statement = match group.kind {
            Kind::Drop => &group.table.drop_sqlite,
            Kind::Refresh => &binding::REFRESH_SQLITE,
            Kind::Put => &group.table.put_sqlite,
        };
        let touched = several(&mut *connection, statement, group.changes).await?;
        if group.kind == Kind::Refresh && touched < count {
            let whole = group.rows.iter().map(|row| whole(row)).collect();
            several(&mut *connection, &group.table.put_sqlite, whole).await?;
        }
    }
    Ok(rows.len() as u64)
}

/// Many rows by a few statements; gives the number of rows they touched.
async fn several(
    connection: &mut SqliteConnection,
    statement: &'static Statement,
    changes: Vec<Vec<Value<'_>>>,
) -> Result<u64, Error> {
    let mut touched = 0;
    let mut changes = changes.into_iter();
    while changes.len() > 0 {
        let (sql, rows) = statement.of(changes.len());
        let values = changes.by_ref().take(rows).flatten().collect();
        touched += one(&mut *connection, sql, values).await?;
    }
    Ok(touched)
}

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
        Row::DropPublication(aor, id) => (&publication::TABLE, Kind::Drop, publication::key(aor, *id)),
        Row::PutSubscription(new) => (&subscription::TABLE, Kind::Put, subscription::values(new)),
        Row::DropSubscription(aor, id) => (&subscription::TABLE, Kind::Drop, subscription::key(aor, *id)),
        Row::PutDocument(new) => (&document::TABLE, Kind::Put, document::values(new)),
        Row::DropDocument(owner, name) => (&document::TABLE, Kind::Drop, document::key(owner, name)),
        Row::PutMessage(new) => (&message::TABLE, Kind::Put, message::values(new)),
        Row::DropMessage(aor, id) => (&message::TABLE, Kind::Drop, message::key(aor, *id)),
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
pub(super) fn arrays<'q>(
    sql: &'static str,
    changes: &'q [Vec<Value<'q>>],
) -> Query<'q, Postgres, PgArguments> {
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

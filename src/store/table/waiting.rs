//! Table `waiting`.

use crate::model::{Aor, SubscriptionId, WaitingWatcher};
use crate::store::statement::Statement;
use crate::store::table::Table;
use crate::store::value::{self, Columns, Value};

/// Its SQL.
pub(in crate::store) static TABLE: Table = Table {
    name: "waiting",
    put_postgres: "INSERT INTO waiting (presentity, watcher, id, subscribed_at, ended_at, gives_up_at) \
         SELECT * FROM UNNEST($1::text[], $2::text[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bigint[]) \
         ON CONFLICT (presentity, watcher) DO UPDATE SET id = EXCLUDED.id, subscribed_at = EXCLUDED.subscribed_at, \
         ended_at = EXCLUDED.ended_at, gives_up_at = EXCLUDED.gives_up_at",
    put_sqlite: Statement::new(
        "INSERT INTO waiting (presentity, watcher, id, subscribed_at, ended_at, gives_up_at) \
         VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (presentity, watcher) DO UPDATE SET id = EXCLUDED.id, subscribed_at = EXCLUDED.subscribed_at, \
         ended_at = EXCLUDED.ended_at, gives_up_at = EXCLUDED.gives_up_at",
    ),
    drop_postgres: "DELETE FROM waiting USING UNNEST($1::text[], $2::text[]) AS gone (presentity, watcher) \
         WHERE waiting.presentity = gone.presentity AND waiting.watcher = gone.watcher",
    drop_sqlite: Statement::new(
        "DELETE FROM waiting WHERE rowid IN (SELECT waiting.rowid FROM (VALUES ($1, $2)) AS gone \
         CROSS JOIN waiting ON waiting.presentity = gone.column1 AND waiting.watcher = gone.column2)",
    ),
    of_home: "SELECT presentity, watcher, id, subscribed_at, ended_at, gives_up_at FROM waiting \
         WHERE presentity = $1 ORDER BY ended_at, watcher",
    page: "SELECT presentity, watcher, id, subscribed_at, ended_at, gives_up_at FROM waiting \
         WHERE (presentity, watcher) > ($1, $2) ORDER BY presentity, watcher LIMIT $3",
    start: || ["".into(), "".into()],
};

/// The columns of the key.
pub(in crate::store) fn key<'a>(presentity: &'a Aor, watcher: &'a Aor) -> Vec<Value<'a>> {
    vec![presentity.into(), watcher.into()]
}

/// All columns, in the order of the SQL above.
pub(in crate::store) fn values(waiting: &WaitingWatcher) -> Vec<Value<'_>> {
    vec![
        (&waiting.presentity).into(),
        (&waiting.watcher).into(),
        value::id(waiting.id.0),
        waiting.subscribed_at.into(),
        waiting.ended_at.into(),
        waiting.gives_up_at.into(),
    ]
}

/// The same columns back.
pub(in crate::store) fn read(row: &impl Columns) -> Option<WaitingWatcher> {
    Some(WaitingWatcher {
        presentity: row.aor(0)?,
        watcher: row.aor(1)?,
        id: SubscriptionId(row.id(2)?),
        subscribed_at: row.time(3)?,
        ended_at: row.time(4)?,
        gives_up_at: row.time(5)?,
    })
}

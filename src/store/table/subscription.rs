//! Table `subscription`.

use std::borrow::Cow;

use crate::model::{Aor, DialogParts, DialogTexts, Package, Subscription, SubscriptionId};
use crate::store::statement::Statement;
use crate::store::table::Table;
use crate::store::value::{self, Columns, Value};

/// Its SQL.
pub(in crate::store) static TABLE: Table = Table {
    name: "subscription",
    put_postgres: "INSERT INTO subscription (id, presentity, watcher, package, event_id, call_id, local_tag, remote_tag, \
         local_address, remote_address, remote_target, route_set, flow_transport, flow_local, flow_remote, \
         flow_connection, accept, remote_cseq, notify_cseq_reserved, created_at, expires_at) \
         SELECT * FROM UNNEST($1::bytea[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[], \
         $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::bigint[], $14::text[], $15::text[], \
         $16::bigint[], $17::text[], $18::bigint[], $19::bigint[], $20::bigint[], $21::bigint[]) \
         ON CONFLICT (presentity, id) DO UPDATE SET watcher = EXCLUDED.watcher, \
         package = EXCLUDED.package, event_id = EXCLUDED.event_id, call_id = EXCLUDED.call_id, \
         local_tag = EXCLUDED.local_tag, remote_tag = EXCLUDED.remote_tag, local_address = EXCLUDED.local_address, \
         remote_address = EXCLUDED.remote_address, remote_target = EXCLUDED.remote_target, \
         route_set = EXCLUDED.route_set, flow_transport = EXCLUDED.flow_transport, flow_local = EXCLUDED.flow_local, \
         flow_remote = EXCLUDED.flow_remote, flow_connection = EXCLUDED.flow_connection, accept = EXCLUDED.accept, \
         remote_cseq = EXCLUDED.remote_cseq, notify_cseq_reserved = EXCLUDED.notify_cseq_reserved, \
         created_at = EXCLUDED.created_at, expires_at = EXCLUDED.expires_at",
    put_sqlite: Statement::new(
        "INSERT INTO subscription (id, presentity, watcher, package, event_id, call_id, local_tag, remote_tag, \
         local_address, remote_address, remote_target, route_set, flow_transport, flow_local, flow_remote, \
         flow_connection, accept, remote_cseq, notify_cseq_reserved, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21) \
         ON CONFLICT (presentity, id) DO UPDATE SET watcher = EXCLUDED.watcher, \
         package = EXCLUDED.package, event_id = EXCLUDED.event_id, call_id = EXCLUDED.call_id, \
         local_tag = EXCLUDED.local_tag, remote_tag = EXCLUDED.remote_tag, local_address = EXCLUDED.local_address, \
         remote_address = EXCLUDED.remote_address, remote_target = EXCLUDED.remote_target, \
         route_set = EXCLUDED.route_set, flow_transport = EXCLUDED.flow_transport, flow_local = EXCLUDED.flow_local, \
         flow_remote = EXCLUDED.flow_remote, flow_connection = EXCLUDED.flow_connection, accept = EXCLUDED.accept, \
         remote_cseq = EXCLUDED.remote_cseq, notify_cseq_reserved = EXCLUDED.notify_cseq_reserved, \
         created_at = EXCLUDED.created_at, expires_at = EXCLUDED.expires_at",
    ),
    drop_postgres: "DELETE FROM subscription USING UNNEST($1::text[], $2::bytea[]) AS gone (presentity, id) \
         WHERE subscription.presentity = gone.presentity AND subscription.id = gone.id",
    drop_sqlite: Statement::new(
        "DELETE FROM subscription WHERE rowid IN (SELECT subscription.rowid FROM (VALUES ($1, $2)) AS gone \
         CROSS JOIN subscription ON subscription.presentity = gone.column1 AND subscription.id = gone.column2)",
    ),
    of_home: "SELECT id, presentity, watcher, package, event_id, call_id, local_tag, remote_tag, local_address, \
         remote_address, remote_target, route_set, flow_transport, flow_local, flow_remote, flow_connection, accept, \
         remote_cseq, notify_cseq_reserved, created_at, expires_at \
         FROM subscription WHERE presentity = $1 ORDER BY created_at, id",
    page: "SELECT id, presentity, watcher, package, event_id, call_id, local_tag, remote_tag, local_address, \
         remote_address, remote_target, route_set, flow_transport, flow_local, flow_remote, flow_connection, accept, \
         remote_cseq, notify_cseq_reserved, created_at, expires_at \
         FROM subscription WHERE (presentity, id) > ($1, $2) ORDER BY presentity, id LIMIT $3",
    start: || ["".into(), Value::Bytes(Cow::Borrowed(&[]))],
};

/// How many a watcher has anywhere: all rows are read for it.
pub(in crate::store) const OF_WATCHER: &str = "SELECT COUNT(*) FROM subscription WHERE watcher = $1";

/// The columns of the key.
pub(in crate::store) fn key(presentity: &Aor, id: SubscriptionId) -> Vec<Value<'_>> {
    vec![presentity.into(), value::id(id.0)]
}

/// All columns, in the order of the SQL above.
pub(in crate::store) fn values(subscription: &Subscription) -> Vec<Value<'_>> {
    let [transport, local, remote, connection] = value::flow(&subscription.flow);
    let dialog = subscription.dialog.parts();
    vec![
        value::id(subscription.id.0),
        (&subscription.presentity).into(),
        (&subscription.watcher).into(),
        (subscription.package as u8).into(),
        (&subscription.event_id).into(),
        dialog.call_id.into(),
        dialog.local_tag.into(),
        dialog.remote_tag.into(),
        dialog.local_address.into(),
        dialog.remote_address.into(),
        dialog.remote_target.into(),
        value::list(&subscription.route_set),
        transport,
        local,
        remote,
        connection,
        subscription.accept.as_str().into(),
        subscription.remote_cseq.into(),
        subscription.notify_cseq_reserved.into(),
        subscription.created_at.into(),
        subscription.expires_at.into(),
    ]
}

/// The same columns back.
pub(in crate::store) fn read(row: &impl Columns) -> Option<Subscription> {
    Some(Subscription {
        id: SubscriptionId(row.id(0)?),
        presentity: row.aor(1)?,
        watcher: row.aor(2)?,
        package: Package::from_number(row.narrow(3)?)?,
        event_id: row.maybe_text(4)?,
        dialog: DialogTexts::new(DialogParts {
            call_id: row.str(5)?,
            local_tag: row.str(6)?,
            remote_tag: row.str(7)?,
            local_address: row.str(8)?,
            remote_address: row.str(9)?,
            remote_target: row.str(10)?,
        }),
        route_set: row.list(11)?,
        flow: row.flow(12)?,
        accept: row.text(16)?,
        remote_cseq: row.narrow(17)?,
        notify_cseq_reserved: row.narrow(18)?,
        created_at: row.time(19)?,
        expires_at: row.time(20)?,
    })
}

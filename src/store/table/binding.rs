//! Table `binding`.

use crate::model::{Aor, Binding, BindingKey};
use crate::store::statement::Statement;
use crate::store::table::Table;
use crate::store::value::{self, Columns, Value};

/// Its SQL.
pub(in crate::store) static TABLE: Table = Table {
    name: "binding",
    put_postgres: "INSERT INTO binding (aor, key, contact, params, q, instance, reg_id, path, call_id, cseq, \
         flow_transport, flow_local, flow_remote, flow_connection, direct, user_agent, created_at, refreshed_at, \
         expires_at) \
         SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::bigint[], \
         $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::text[], $13::text[], $14::bigint[], \
         $15::bigint[], $16::text[], $17::bigint[], $18::bigint[], $19::bigint[]) \
         ON CONFLICT (aor, key) DO UPDATE SET contact = EXCLUDED.contact, params = EXCLUDED.params, q = EXCLUDED.q, \
         instance = EXCLUDED.instance, reg_id = EXCLUDED.reg_id, path = EXCLUDED.path, call_id = EXCLUDED.call_id, \
         cseq = EXCLUDED.cseq, flow_transport = EXCLUDED.flow_transport, flow_local = EXCLUDED.flow_local, \
         flow_remote = EXCLUDED.flow_remote, flow_connection = EXCLUDED.flow_connection, direct = EXCLUDED.direct, \
         user_agent = EXCLUDED.user_agent, created_at = EXCLUDED.created_at, refreshed_at = EXCLUDED.refreshed_at, \
         expires_at = EXCLUDED.expires_at",
    put_sqlite: Statement::new(
        "INSERT INTO binding (aor, key, contact, params, q, instance, reg_id, path, call_id, cseq, \
         flow_transport, flow_local, flow_remote, flow_connection, direct, user_agent, created_at, refreshed_at, \
         expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19) \
         ON CONFLICT (aor, key) DO UPDATE SET contact = EXCLUDED.contact, params = EXCLUDED.params, q = EXCLUDED.q, \
         instance = EXCLUDED.instance, reg_id = EXCLUDED.reg_id, path = EXCLUDED.path, call_id = EXCLUDED.call_id, \
         cseq = EXCLUDED.cseq, flow_transport = EXCLUDED.flow_transport, flow_local = EXCLUDED.flow_local, \
         flow_remote = EXCLUDED.flow_remote, flow_connection = EXCLUDED.flow_connection, direct = EXCLUDED.direct, \
         user_agent = EXCLUDED.user_agent, created_at = EXCLUDED.created_at, refreshed_at = EXCLUDED.refreshed_at, \
         expires_at = EXCLUDED.expires_at",
    ),
    drop_postgres: "DELETE FROM binding USING UNNEST($1::text[], $2::text[]) AS gone (aor, key) \
         WHERE binding.aor = gone.aor AND binding.key = gone.key",
    drop_sqlite: Statement::new(
        "DELETE FROM binding WHERE rowid IN (SELECT binding.rowid FROM (VALUES ($1, $2)) AS gone \
         CROSS JOIN binding ON binding.aor = gone.column1 AND binding.key = gone.column2)",
    ),
    of_home: "SELECT aor, key, contact, params, q, instance, reg_id, path, call_id, cseq, flow_transport, flow_local, \
         flow_remote, flow_connection, direct, user_agent, created_at, refreshed_at, expires_at \
         FROM binding WHERE aor = $1 ORDER BY created_at, key",
    page: "SELECT aor, key, contact, params, q, instance, reg_id, path, call_id, cseq, flow_transport, flow_local, \
         flow_remote, flow_connection, direct, user_agent, created_at, refreshed_at, expires_at \
         FROM binding WHERE (aor, key) > ($1, $2) ORDER BY aor, key LIMIT $3",
    start: || ["".into(), "".into()],
};

/// Another CSeq number and other instants for bindings that are there, one per array element.
pub(in crate::store) const REFRESH_POSTGRES: &str = "UPDATE binding SET cseq = fresh.cseq, refreshed_at = fresh.refreshed_at, expires_at = fresh.expires_at \
     FROM UNNEST($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[]) \
     AS fresh (aor, key, cseq, refreshed_at, expires_at) \
     WHERE binding.aor = fresh.aor AND binding.key = fresh.key";
/// The same for one binding; SQLite names the columns of a list of values by itself.
pub(in crate::store) static REFRESH_SQLITE: Statement = Statement::new(
    "UPDATE binding SET cseq = fresh.column3, refreshed_at = fresh.column4, expires_at = fresh.column5 \
     FROM (VALUES ($1, $2, $3, $4, $5)) AS fresh WHERE binding.aor = fresh.column1 AND binding.key = fresh.column2",
);

/// What a refresh changes, in the order of the SQL above.
pub(in crate::store) fn refreshed(binding: &Binding) -> Vec<Value<'_>> {
    vec![
        (&binding.aor).into(),
        binding.key.0.as_str().into(),
        binding.cseq.into(),
        binding.refreshed_at.into(),
        binding.expires_at.into(),
    ]
}

/// The columns of the key.
pub(in crate::store) fn key<'a>(aor: &'a Aor, key: &'a BindingKey) -> Vec<Value<'a>> {
    vec![aor.into(), key.0.as_str().into()]
}

/// All columns, in the order of the SQL above.
pub(in crate::store) fn values(binding: &Binding) -> Vec<Value<'_>> {
    let [transport, local, remote, connection] = value::flow(&binding.flow);
    vec![
        (&binding.aor).into(),
        binding.key.0.as_str().into(),
        binding.contact.as_str().into(),
        binding.params.as_str().into(),
        binding.q.into(),
        (&binding.instance).into(),
        Value::Number(binding.reg_id.map(i64::from)),
        value::list(&binding.path),
        binding.call_id.as_str().into(),
        binding.cseq.into(),
        transport,
        local,
        remote,
        connection,
        binding.direct.into(),
        binding.user_agent.as_str().into(),
        binding.created_at.into(),
        binding.refreshed_at.into(),
        binding.expires_at.into(),
    ]
}

/// The same columns back.
pub(in crate::store) fn read(row: &impl Columns) -> Option<Binding> {
    let reg_id = match row.maybe_number(6)? {
        Some(number) => Some(u32::try_from(number).ok()?),
        None => None,
    };
    let key = row.text(1)?;
    Some(Binding {
        aor: row.aor(0)?,
        contact: row.text(2)?.or_shared(&key),
        key: BindingKey(key),
        params: row.text(3)?,
        q: row.narrow(4)?,
        instance: row.maybe_text(5)?,
        reg_id,
        path: row.list(7)?,
        call_id: row.text(8)?,
        cseq: row.narrow(9)?,
        flow: row.flow(10)?,
        direct: row.number(14)? != 0,
        user_agent: row.text(15)?,
        created_at: row.time(16)?,
        refreshed_at: row.time(17)?,
        expires_at: row.time(18)?,
    })
}

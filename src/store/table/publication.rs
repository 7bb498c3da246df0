//! Table `publication`.

use std::borrow::Cow;

use crate::model::{
    Aor, EntityTag, Package, Parsed, Publication, PublicationId, Publisher, Renamed, Timestamp,
};
use crate::store::statement::Statement;
use crate::store::table::Table;
use crate::store::value::{self, Columns, Value};

/// Its SQL.
pub(in crate::store) static TABLE: Table = Table {
    name: "publication",
    put_postgres: "INSERT INTO publication (id, aor, package, tag, content_type, body, created_at, modified_at, expires_at, \
         call_id, source, instance, turns, is_restamped, renamed) \
         SELECT * FROM UNNEST($1::bytea[], $2::text[], $3::bigint[], $4::bytea[], $5::text[], $6::bytea[], \
         $7::bigint[], $8::bigint[], $9::bigint[], $10::text[], $11::text[], $12::text[], $13::text[], $14::bigint[], $15::bigint[]) \
         ON CONFLICT (aor, id) DO UPDATE SET package = EXCLUDED.package, tag = EXCLUDED.tag, \
         content_type = EXCLUDED.content_type, body = EXCLUDED.body, created_at = EXCLUDED.created_at, \
         modified_at = EXCLUDED.modified_at, expires_at = EXCLUDED.expires_at, \
         call_id = EXCLUDED.call_id, source = EXCLUDED.source, instance = EXCLUDED.instance, turns = EXCLUDED.turns, \
         is_restamped = EXCLUDED.is_restamped, renamed = EXCLUDED.renamed",
    put_sqlite: Statement::new(
        "INSERT INTO publication (id, aor, package, tag, content_type, body, created_at, modified_at, expires_at, \
         call_id, source, instance, turns, is_restamped, renamed) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) \
         ON CONFLICT (aor, id) DO UPDATE SET package = EXCLUDED.package, tag = EXCLUDED.tag, \
         content_type = EXCLUDED.content_type, body = EXCLUDED.body, created_at = EXCLUDED.created_at, \
         modified_at = EXCLUDED.modified_at, expires_at = EXCLUDED.expires_at, \
         call_id = EXCLUDED.call_id, source = EXCLUDED.source, instance = EXCLUDED.instance, turns = EXCLUDED.turns, \
         is_restamped = EXCLUDED.is_restamped, renamed = EXCLUDED.renamed",
    ),
    drop_postgres: "DELETE FROM publication USING UNNEST($1::text[], $2::bytea[]) AS gone (aor, id) \
         WHERE publication.aor = gone.aor AND publication.id = gone.id",
    drop_sqlite: Statement::new(
        "DELETE FROM publication WHERE rowid IN (SELECT publication.rowid FROM (VALUES ($1, $2)) AS gone \
         CROSS JOIN publication ON publication.aor = gone.column1 AND publication.id = gone.column2)",
    ),
    of_home: "SELECT id, aor, package, tag, content_type, body, created_at, modified_at, expires_at, \
         call_id, source, instance, turns, is_restamped, renamed \
         FROM publication WHERE aor = $1 ORDER BY created_at, id",
    page: "SELECT id, aor, package, tag, content_type, body, created_at, modified_at, expires_at, \
         call_id, source, instance, turns, is_restamped, renamed \
         FROM publication WHERE (aor, id) > ($1, $2) ORDER BY aor, id LIMIT $3",
    start: || ["".into(), Value::Bytes(Cow::Borrowed(&[]))],
};

/// The columns of the key.
pub(in crate::store) fn key(aor: &Aor, id: PublicationId) -> Vec<Value<'_>> {
    vec![aor.into(), value::id(id.0)]
}

/// All columns, in the order of the SQL above.
pub(in crate::store) fn values(publication: &Publication) -> Vec<Value<'_>> {
    vec![
        value::id(publication.id.0),
        (&publication.aor).into(),
        (publication.package as u8).into(),
        value::id(publication.tag.0),
        publication.content_type.as_str().into(),
        Value::Bytes(Cow::Borrowed(&publication.body)),
        publication.created_at.into(),
        publication.modified_at.into(),
        publication.expires_at.into(),
        publication.publisher.call_id.as_str().into(),
        publication.publisher.source.as_str().into(),
        (&publication.publisher.instance).into(),
        turns(&publication.turns).into(),
        publication.is_restamped.into(),
        publication.renamed.bits().into(),
    ]
}

/// The same columns back.
pub(in crate::store) fn read(row: &impl Columns) -> Option<Publication> {
    Some(Publication {
        id: PublicationId(row.id(0)?),
        aor: row.aor(1)?,
        package: Package::from_number(row.narrow(2)?)?,
        tag: EntityTag(row.id(3)?),
        content_type: row.str(4)?.into(),
        body: bytes::Bytes::copy_from_slice(row.bytes(5)?),
        created_at: row.time(6)?,
        modified_at: row.time(7)?,
        expires_at: row.time(8)?,
        publisher: Publisher { call_id: row.text(9)?, source: row.text(10)?, instance: row.maybe_text(11)? },
        turns: read_turns(row.str(12)?)?,
        is_restamped: row.number(13)? != 0,
        renamed: Renamed::of(row.number(14)?),
        parsed: Parsed::default(),
    })
}

fn turns(turns: &[Timestamp]) -> String {
    turns.iter().map(|turn| turn.0.to_string()).collect::<Vec<_>>().join(" ")
}

fn read_turns(text: &str) -> Option<Box<[Timestamp]>> {
    text.split_whitespace().map(|turn| turn.parse().ok().map(Timestamp)).collect()
}

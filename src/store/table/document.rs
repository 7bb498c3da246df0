//! Table `document`.

use std::borrow::Cow;

use crate::model::{Aor, Document, DocumentName, EntityTag, Said};
use crate::store::statement::Statement;
use crate::store::table::Table;
use crate::store::value::{self, Columns, Value};

/// Its SQL.
pub(in crate::store) static TABLE: Table = Table {
    name: "document",
    put_postgres: "INSERT INTO document (owner, path, tag, content_type, body, modified_at) \
         SELECT * FROM UNNEST($1::text[], $2::text[], $3::bytea[], $4::text[], $5::bytea[], $6::bigint[]) \
         ON CONFLICT (owner, path) DO UPDATE SET tag = EXCLUDED.tag, content_type = EXCLUDED.content_type, \
         body = EXCLUDED.body, modified_at = EXCLUDED.modified_at",
    put_sqlite: Statement::new(
        "INSERT INTO document (owner, path, tag, content_type, body, modified_at) \
         VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (owner, path) DO UPDATE SET tag = EXCLUDED.tag, content_type = EXCLUDED.content_type, \
         body = EXCLUDED.body, modified_at = EXCLUDED.modified_at",
    ),
    drop_postgres: "DELETE FROM document USING UNNEST($1::text[], $2::text[]) AS gone (owner, path) \
         WHERE document.owner = gone.owner AND document.path = gone.path",
    drop_sqlite: Statement::new(
        "DELETE FROM document WHERE rowid IN (SELECT document.rowid FROM (VALUES ($1, $2)) AS gone \
         CROSS JOIN document ON document.owner = gone.column1 AND document.path = gone.column2)",
    ),
    of_home: "SELECT owner, path, tag, content_type, body, modified_at FROM document WHERE owner = $1 \
         ORDER BY modified_at, path",
    page: "SELECT owner, path, tag, content_type, body, modified_at FROM document \
         WHERE (owner, path) > ($1, $2) ORDER BY owner, path LIMIT $3",
    start: || ["".into(), "".into()],
};

/// The columns of the key.
pub(in crate::store) fn key<'a>(owner: &'a Aor, name: &DocumentName) -> Vec<Value<'a>> {
    vec![owner.into(), name.path().into()]
}

/// All columns, in the order of the SQL above.
pub(in crate::store) fn values(document: &Document) -> Vec<Value<'_>> {
    vec![
        (&document.owner).into(),
        document.name.path().into(),
        value::id(document.tag.0),
        document.content_type.as_str().into(),
        Value::Bytes(Cow::Borrowed(&document.body)),
        document.modified_at.into(),
    ]
}

/// The same columns back.
pub(in crate::store) fn read(row: &impl Columns) -> Option<Document> {
    Some(Document {
        owner: row.aor(0)?,
        name: DocumentName::from_path(row.str(1)?)?,
        tag: EntityTag(row.id(2)?),
        content_type: row.text(3)?,
        body: bytes::Bytes::copy_from_slice(row.bytes(4)?),
        modified_at: row.time(5)?,
        said: Said::default(),
    })
}

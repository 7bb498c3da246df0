//! Table `message`.

use std::borrow::Cow;

use bytes::Bytes;

use crate::model::Aor;
use crate::model::message::{Content, MessageId, StoredMessage, Waiting};
use crate::store::statement::Statement;
use crate::store::table::Table;
use crate::store::value::{self, Columns, Value};

/// Its SQL. Loading leaves the content where it is.
pub(in crate::store) static TABLE: Table = Table {
    name: "message",
    put_postgres: "INSERT INTO message (id, recipient, taken_at, expires_at, size, sender, call_id, head, body, \
         is_notification) \
         SELECT * FROM UNNEST($1::bytea[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], \
         $7::text[], $8::bytea[], $9::bytea[], $10::bigint[]) \
         ON CONFLICT (recipient, id) DO NOTHING",
    put_sqlite: Statement::new(
        "INSERT INTO message (id, recipient, taken_at, expires_at, size, sender, call_id, head, body, \
         is_notification) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
         ON CONFLICT (recipient, id) DO NOTHING",
    ),
    drop_postgres: "DELETE FROM message USING UNNEST($1::text[], $2::bytea[]) AS gone (recipient, id) \
         WHERE message.recipient = gone.recipient AND message.id = gone.id",
    drop_sqlite: Statement::new(
        "DELETE FROM message WHERE rowid IN (SELECT message.rowid FROM (VALUES ($1, $2)) AS gone \
         CROSS JOIN message ON message.recipient = gone.column1 AND message.id = gone.column2)",
    ),
    of_home: "SELECT id, recipient, taken_at, expires_at, size, is_notification \
         FROM message WHERE recipient = $1 ORDER BY taken_at, id",
    page: "SELECT id, recipient, taken_at, expires_at, size, is_notification \
         FROM message WHERE (recipient, id) > ($1, $2) ORDER BY recipient, id LIMIT $3",
    start: || ["".into(), Value::Bytes(Cow::Borrowed(&[]))],
};

/// What devices are sent of those with these keys, each with its place in the question (arrays).
pub(in crate::store) const CONTENTS_POSTGRES: &str = "SELECT sender, call_id, head, body, wanted.place \
     FROM UNNEST($1::text[], $2::bytea[], $3::bigint[]) AS wanted (recipient, id, place) \
     JOIN message ON message.recipient = wanted.recipient AND message.id = wanted.id";
/// The same, key and place of one after the other.
pub(in crate::store) static CONTENTS_SQLITE: Statement = Statement::new(
    "SELECT sender, call_id, head, body, wanted.column3 FROM (VALUES ($1, $2, $3)) AS wanted \
     CROSS JOIN message ON message.recipient = wanted.column1 AND message.id = wanted.column2",
);

/// The columns of the key.
pub(in crate::store) fn key(recipient: &Aor, id: MessageId) -> Vec<Value<'_>> {
    vec![recipient.into(), value::id(id.0)]
}

/// All columns, in the order of the SQL above.
pub(in crate::store) fn values(message: &StoredMessage) -> Vec<Value<'_>> {
    let Waiting { id, taken_at, expires_at, size, is_notification } = message.waiting;
    let content = message.content.as_ref();
    vec![
        value::id(id.0),
        (&message.recipient).into(),
        taken_at.into(),
        expires_at.into(),
        size.into(),
        // A row without content is never written: the database would refuse it.
        Value::Text(content.map(|content| Cow::Borrowed(content.sender.as_str()))),
        Value::Text(content.map(|content| Cow::Borrowed(content.call_id.as_str()))),
        Value::Bytes(Cow::Borrowed(content.map_or(&[][..], |content| &content.head))),
        Value::Bytes(Cow::Borrowed(content.map_or(&[][..], |content| &content.body))),
        is_notification.into(),
    ]
}

/// What memory holds, back.
pub(in crate::store) fn read(row: &impl Columns) -> Option<StoredMessage> {
    Some(StoredMessage {
        recipient: row.aor(1)?,
        waiting: Waiting {
            id: MessageId(row.id(0)?),
            taken_at: row.time(2)?,
            expires_at: row.time(3)?,
            size: row.narrow(4)?,
            is_notification: row.number(5)? != 0,
        },
        content: None,
    })
}

/// The content, back.
pub(in crate::store) fn read_content(row: &impl Columns) -> Option<Content> {
    Some(Content {
        sender: row.aor(0)?,
        call_id: row.text(1)?,
        head: Bytes::copy_from_slice(row.bytes(2)?),
        body: Bytes::copy_from_slice(row.bytes(3)?),
    })
}

//! The tables of a home: SQL in plain text, and what a row means.

pub(super) mod account;
pub(super) mod binding;
pub(super) mod document;
pub(super) mod message;
pub(super) mod publication;
pub(super) mod subscription;
pub(super) mod waiting;

use crate::store::statement::Statement;
use crate::store::value::Value;

/// The questions and changes of one table. Where one text cannot serve both databases there are two.
#[derive(Debug)]
pub(super) struct Table {
    /// Its name, for messages.
    pub name: &'static str,
    /// Insert or replace one row per array element.
    pub put_postgres: &'static str,
    /// Insert or replace rows.
    pub put_sqlite: Statement,
    /// Delete the rows with these keys (arrays).
    pub drop_postgres: &'static str,
    /// Delete the rows with these keys.
    pub drop_sqlite: Statement,
    /// All rows of one AoR in order of creation.
    pub of_home: &'static str,
    /// The next rows after ($1, $2), at most $3, in the order of (AoR, key).
    pub page: &'static str,
    /// The place before the first row, as `page` understands it.
    pub start: fn() -> [Value<'static>; 2],
}

/// All tables of a home.
pub(super) static ALL: [&Table; 6] = [
    &binding::TABLE,
    &publication::TABLE,
    &subscription::TABLE,
    &document::TABLE,
    &message::TABLE,
    &waiting::TABLE,
];

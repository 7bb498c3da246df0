//! A page of an SQLite table as one row: every row of an answer is a visit to another thread, and after a start there may be millions.
//!
//! The database writes the page as one JSON array of arrays. Bytes come as hexadecimal text: they are ids here, and nothing else.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::{LazyLock, Mutex, PoisonError};

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use crate::store::value::Columns;

/// The same question, answered in one row of one column. There are a few questions, whose texts are made once.
pub(super) fn question(sql: &'static str) -> &'static str {
    static MADE: LazyLock<Mutex<HashMap<&'static str, &'static str>>> = LazyLock::new(Mutex::default);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.entry(sql).or_insert_with(|| in_one_row(sql).leak())
}

/// The rows of such an answer. `None`: not what was asked for.
pub(super) fn rows(page: &str) -> Option<Vec<PackedRow<'_>>> {
    serde_json::from_str(page).ok()
}

/// One row of the page, its texts borrowed from it wherever they are written there as they are.
#[derive(Debug, Deserialize)]
pub(super) struct PackedRow<'a>(#[serde(borrow)] Vec<Cell<'a>>);

#[derive(Debug, PartialEq)]
enum Cell<'a> {
    Null,
    Number(i64),
    Text(Cow<'a, str>),
}

impl Columns for PackedRow<'_> {
    fn str(&self, at: usize) -> Option<&str> {
        self.maybe_str(at)?
    }
    fn maybe_str(&self, at: usize) -> Option<Option<&str>> {
        match self.0.get(at)? {
            Cell::Text(text) => Some(Some(text)),
            Cell::Null => Some(None),
            Cell::Number(_) => None,
        }
    }
    fn number(&self, at: usize) -> Option<i64> {
        self.maybe_number(at)?
    }
    fn maybe_number(&self, at: usize) -> Option<Option<i64>> {
        match self.0.get(at)? {
            Cell::Number(number) => Some(Some(*number)),
            Cell::Null => Some(None),
            Cell::Text(_) => None,
        }
    }
    fn bytes(&self, _at: usize) -> Option<&[u8]> {
        None
    }
    fn id(&self, at: usize) -> Option<u128> {
        let hex = self.str(at).filter(|hex| hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u128::from_str_radix(hex, 16).ok()
    }
}

fn in_one_row(sql: &str) -> String {
    let columns = sql.split_once("SELECT ").and_then(|(_, rest)| rest.split_once(" FROM "));
    let columns = columns.map_or("", |(columns, _)| columns).split(',').map(str::trim);
    let cell = |column: &str| format!("iif(typeof({column}) = 'blob', hex({column}), {column})");
    let cells: Vec<String> = columns.map(cell).collect();
    // A question with a limit is answered by itself, in its order.
    format!("SELECT json_group_array(json_array({})) FROM ({sql})", cells.join(", "))
}

impl<'de: 'a, 'a> Deserialize<'de> for Cell<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Cell<'a>, D::Error> {
        deserializer.deserialize_any(CellVisitor)
    }
}

struct CellVisitor;

impl<'de> Visitor<'de> for CellVisitor {
    type Value = Cell<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a whole number or null")
    }
    fn visit_unit<E: Error>(self) -> Result<Cell<'de>, E> {
        Ok(Cell::Null)
    }
    fn visit_i64<E: Error>(self, number: i64) -> Result<Cell<'de>, E> {
        Ok(Cell::Number(number))
    }
    fn visit_u64<E: Error>(self, number: u64) -> Result<Cell<'de>, E> {
        i64::try_from(number).map(Cell::Number).map_err(|_| E::custom("out of range"))
    }
    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Cell<'de>, E> {
        Ok(Cell::Text(Cow::Borrowed(text)))
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<Cell<'de>, E> {
        Ok(Cell::Text(Cow::Owned(text.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_back_from_its_text() {
        let page = format!("[[\"a\\n\u{fc}\",null,{},\"00ff{:028}\"],[]]", i64::MIN, 7);
        let rows = rows(&page).unwrap();
        let row = &rows[0];
        assert_eq!(
            (row.str(0), row.maybe_str(1), row.maybe_number(1)),
            (Some("a\n\u{fc}"), Some(None), Some(None))
        );
        assert_eq!((row.number(2), row.str(2), row.number(0)), (Some(i64::MIN), None, None));
        assert_eq!(row.id(3), Some(0xff << 112 | 7));
        assert_eq!((row.id(0), row.str(4), rows.len()), (None, None, 2));
        assert!(super::rows("[[1.5]]").is_none() && super::rows("{").is_none());
    }
}

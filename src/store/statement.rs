//! Statements for several rows at once on SQLite, where every statement is a visit to another thread.

use std::sync::OnceLock;

/// A statement that says `VALUES ($1, ..)` of one row, and what is made of it for several.
#[derive(Debug)]
pub(super) struct Statement {
    one: &'static str,
    /// For each of [`SIZES`], once it was asked for.
    made: [OnceLock<String>; SIZES.len()],
}

impl Statement {
    /// - `one`: each of its parameters once, in order, and all of them in its list of values.
    pub const fn new(one: &'static str) -> Statement {
        Statement { one, made: [const { OnceLock::new() }; SIZES.len()] }
    }

    /// The text for the first of so many rows (at least one), and how many these are.
    pub fn of(&'static self, rows: usize) -> (&'static str, usize) {
        let size = SIZES.iter().zip(&self.made).find(|(size, _)| **size <= rows);
        size.map_or((self.one, 1), |(size, made)| {
            (made.get_or_init(|| repeated(self.one, *size).unwrap_or_else(|| self.one.into())), *size)
        })
    }
}

/// `None` if the text has no `VALUES ($1, ..)`.
///
/// Parameters lose their names: the driver asks for the name of each, and SQLite goes through the list of all names to find it, which for
/// 32 rows took longer than to write them.
fn repeated(sql: &str, rows: usize) -> Option<String> {
    let (before, rest) = sql.split_once("VALUES (")?;
    let (values, after) = rest.split_once(')')?;
    let row = format!("({})", vec!["?"; values.split(',').count()].join(", "));
    Some(format!("{before}VALUES {}{after}", vec![row; rows].join(", ")))
}

/// Rows of one statement, from which any number is made up with few of them. At most 2,688 parameters (SQLite takes 32,766).
const SIZES: [usize; 8] = [128, 64, 32, 16, 8, 4, 2, 1];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::table::{self, binding, message};

    #[test]
    fn a_statement_is_repeated_for_as_many_rows() {
        static ONE: Statement = Statement::new(
            "INSERT INTO t (a, b) VALUES ($1, $2) ON CONFLICT (a) DO UPDATE SET b = EXCLUDED.b",
        );
        let twice = "INSERT INTO t (a, b) VALUES (?, ?), (?, ?) ON CONFLICT (a) DO UPDATE SET b = EXCLUDED.b";
        assert_eq!((ONE.of(2), ONE.of(3)), ((twice, 2), (twice, 2)));
        assert!(std::ptr::eq(ONE.of(2).0, ONE.of(3).0));
        assert_eq!(
            ONE.of(1).0,
            "INSERT INTO t (a, b) VALUES (?, ?) ON CONFLICT (a) DO UPDATE SET b = EXCLUDED.b"
        );
        assert_eq!((ONE.of(127).1, ONE.of(9_999).1), (64, 128));
    }

    #[test]
    fn every_statement_has_values_to_repeat_and_nothing_else_that_is_bound() {
        let of = table::ALL.into_iter().flat_map(|table| [&table.put_sqlite, &table.drop_sqlite]);
        for statement in of.chain([&binding::REFRESH_SQLITE, &message::CONTENTS_SQLITE]) {
            let (text, _) = statement.of(1);
            assert!(
                !text.contains('$') && text.matches('?').count() == statement.one.matches('$').count(),
                "{text}"
            );
        }
    }
}

//! Rows that need not be on disk at once: the newest per key, each with its place in the order of all changes.

use std::collections::{BTreeMap, HashMap};

use crate::model::{Aor, Row, RowKey};

/// Rows that are kept at most; beyond, nothing more is taken.
pub(super) const BOUND: usize = 200_000;

/// The rows that wait.
#[derive(Debug, Default)]
pub(super) struct Lazy {
    homes: HashMap<Aor, HashMap<RowKey, (u64, Row)>>,
    order: BTreeMap<u64, (Aor, RowKey)>,
}

impl Lazy {
    /// Takes all rows, or none if they do not fit. `number` is called once per row and only grows.
    pub fn keep(&mut self, rows: &[Row], mut number: impl FnMut() -> u64) -> bool {
        let fresh =
            |rows: &[Row]| rows.iter().filter(|row| self.number_of(row.aor(), &row.key()).is_none()).count();
        // Which of them are new need not be known while all of them would fit.
        if self.order.len().saturating_add(rows.len()) > BOUND
            && self.order.len().saturating_add(fresh(rows)) > BOUND
        {
            return false;
        }
        for row in rows {
            let (aor, key, number) = (row.aor().clone(), row.key(), number());
            let home = self.homes.entry(aor.clone()).or_default();
            if let Some((older, _)) = home.insert(key.clone(), (number, row.clone())) {
                self.order.remove(&older);
            }
            self.order.insert(number, (aor, key));
        }
        true
    }

    /// The oldest rows up to a place in the order, at most `limit`; they stay until they are settled.
    pub fn oldest(&self, up_to: u64, limit: usize) -> Vec<(u64, Row)> {
        let due = self.order.range(..=up_to).take(limit);
        due.filter_map(|(_, (aor, key))| self.homes.get(aor)?.get(key).cloned()).collect()
    }

    /// This change of this key is settled (written, or overtaken): what is kept of it up to there goes.
    pub fn settle(&mut self, number: u64, aor: &Aor, key: &RowKey) {
        if self.number_of(aor, key).is_none_or(|kept| kept > number) {
            return;
        }
        if let Some(home) = self.homes.get_mut(aor) {
            if let Some((kept, _)) = home.remove(key) {
                self.order.remove(&kept);
            }
            if home.is_empty() {
                self.homes.remove(aor);
            }
        }
    }

    /// A user is gone: nothing of theirs up to there is written any more.
    pub fn forget(&mut self, number: u64, user: &Aor) {
        let theirs = |row: &Row| {
            row.aor() == user
                || matches!(row, Row::PutSubscription(subscription) if subscription.watcher == *user)
        };
        let rows = self.homes.values().flat_map(HashMap::values);
        let gone: Vec<(Aor, RowKey)> = rows
            .filter(|(kept, row)| *kept <= number && theirs(row))
            .map(|(_, row)| (row.aor().clone(), row.key()))
            .collect();
        for (aor, key) in gone {
            self.settle(number, &aor, &key);
        }
    }

    /// What waits of one home, oldest first.
    pub fn of(&self, aor: &Aor) -> Vec<Row> {
        let mut kept: Vec<&(u64, Row)> = self.homes.get(aor).into_iter().flat_map(HashMap::values).collect();
        kept.sort_by_key(|(number, _)| *number);
        kept.into_iter().map(|(_, row)| row.clone()).collect()
    }

    /// Nothing waits up to this place in the order.
    pub fn is_clear(&self, up_to: u64) -> bool {
        self.order.first_key_value().is_none_or(|(oldest, _)| *oldest > up_to)
    }

    fn number_of(&self, aor: &Aor, key: &RowKey) -> Option<u64> {
        self.homes.get(aor)?.get(key).map(|(number, _)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BindingKey, PublicationId, SubscriptionId};

    fn aor(user: &str) -> Aor {
        Aor::new(user, "example.org").unwrap()
    }
    fn drop_of(user: &str, key: &str) -> Row {
        Row::DropBinding(aor(user), BindingKey(key.into()))
    }
    fn lazy(rows: &[Row]) -> Lazy {
        let mut lazy = Lazy::default();
        let mut last = 0;
        assert!(lazy.keep(rows, || {
            last += 1;
            last
        }));
        lazy
    }

    #[test]
    fn the_newest_row_of_a_key_replaces_the_older_one() {
        let lazy = lazy(&[drop_of("a", "1"), drop_of("a", "2"), drop_of("a", "1")]);
        assert_eq!(lazy.oldest(u64::MAX, 9), [(2, drop_of("a", "2")), (3, drop_of("a", "1"))]);
    }

    #[test]
    fn settling_an_older_change_keeps_the_newer_row() {
        let mut lazy = lazy(&[drop_of("a", "1"), drop_of("a", "1")]);
        let key = drop_of("a", "1").key();
        lazy.settle(1, &aor("a"), &key);
        assert_eq!(lazy.of(&aor("a")).len(), 1);
        lazy.settle(2, &aor("a"), &key);
        assert!(lazy.is_clear(u64::MAX) && lazy.homes.is_empty());
    }

    #[test]
    fn only_what_is_due_is_given_and_no_more_than_the_limit() {
        let lazy = lazy(&[drop_of("a", "1"), drop_of("b", "1"), drop_of("c", "1")]);
        assert_eq!(lazy.oldest(2, 9).len(), 2);
        assert_eq!(lazy.oldest(u64::MAX, 1).len(), 1);
        assert!(lazy.is_clear(0) && !lazy.is_clear(1));
    }

    #[test]
    fn a_removed_user_leaves_no_rows_behind() {
        let mut lazy = lazy(&[
            drop_of("a", "1"),
            Row::DropPublication(aor("a"), PublicationId(1)),
            Row::DropSubscription(aor("b"), SubscriptionId(1)),
        ]);
        lazy.forget(9, &aor("a"));
        assert!(lazy.of(&aor("a")).is_empty());
        assert_eq!(lazy.of(&aor("b")).len(), 1);
    }

    #[test]
    fn rows_beyond_the_bound_are_refused_as_a_whole() {
        let mut lazy = Lazy::default();
        let mut last = 0;
        let mut next = || {
            last += 1;
            last
        };
        let full: Vec<Row> = (0..BOUND).map(|n| drop_of("a", &n.to_string())).collect();
        assert!(lazy.keep(&full, &mut next));
        assert!(!lazy.keep(&[drop_of("a", "0"), drop_of("a", "new")], &mut next));
        assert!(lazy.keep(&[drop_of("a", "0")], &mut next), "a newer row of a known key fits");
    }
}

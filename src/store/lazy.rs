//! Rows that need not be on disk at once: the newest per key, each with its place in the order of all changes.

use std::collections::{HashMap, VecDeque};

use crate::model::{Aor, ByAor, Row, RowKey};

/// Rows that are kept at most; beyond, nothing more is taken.
pub(super) const BOUND: usize = 200_000;

/// The rows that wait.
#[derive(Debug, Default)]
pub(super) struct Lazy {
    homes: ByAor<Home>,
    /// Every change in order. One whose row has gone, or has a newer number, says nothing any more.
    order: VecDeque<(u64, Aor, RowKey)>,
    /// Rows that wait; there may be twice as many places in the order.
    len: usize,
}

/// What waits of one home, each with its number. Mostly it is one row, and then nothing is made for it.
#[derive(Debug, Default)]
struct Home {
    one: Option<(u64, Row)>,
    #[expect(
        clippy::box_collection,
        reason = "one word in every home instead of six, for the few that have others"
    )]
    others: Option<Box<HashMap<RowKey, (u64, Row)>>>,
}

impl Home {
    fn get(&self, key: &RowKey) -> Option<&(u64, Row)> {
        let one = self.one.as_ref().filter(|(_, row)| row.key() == *key);
        one.or_else(|| self.others.as_ref()?.get(key))
    }

    /// `false` if it replaced an older one.
    fn put(&mut self, key: &RowKey, number: u64, row: &Row) -> bool {
        if let Some(older) = self.get(key) {
            let newer = (number, row.instead_of(&older.1));
            match &mut self.others {
                Some(others) if others.contains_key(key) => drop(others.insert(key.clone(), newer)),
                _ => self.one = Some(newer),
            }
            return false;
        }
        if self.one.is_none() {
            self.one = Some((number, row.clone()));
        } else {
            self.others.get_or_insert_default().insert(key.clone(), (number, row.clone()));
        }
        true
    }

    fn remove(&mut self, key: &RowKey) {
        if self.one.as_ref().is_some_and(|(_, row)| row.key() == *key) {
            self.one = None;
        } else if let Some(others) = &mut self.others {
            others.remove(key);
            if others.is_empty() {
                self.others = None;
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.one.is_none() && self.others.is_none()
    }

    fn iter(&self) -> impl Iterator<Item = &(u64, Row)> {
        self.one.iter().chain(self.others.iter().flat_map(|others| others.values()))
    }
}

impl Lazy {
    /// Takes all rows, or none if they do not fit. `number` is called once per row and only grows.
    pub fn keep(&mut self, rows: &[Row], mut number: impl FnMut() -> u64) -> bool {
        let is_fresh =
            |row: &&Row| self.homes.get(row.aor()).is_none_or(|home| home.get(&row.key()).is_none());
        let fresh = |rows: &[Row]| rows.iter().filter(is_fresh).count();
        // Which of them are new need not be known while all of them would fit.
        if self.len.saturating_add(rows.len()) > BOUND && self.len.saturating_add(fresh(rows)) > BOUND {
            return false;
        }
        for row in rows {
            let (aor, key, number) = (row.aor().clone(), row.key(), number());
            let is_new = self.homes.entry(aor.clone()).or_default().put(&key, number, row);
            self.len += usize::from(is_new);
            self.order.push_back((number, aor, key));
        }
        if self.order.len() > 2 * self.len + SLACK {
            let Lazy { homes, order, .. } = self;
            order.retain(|place| row_of(homes, place).is_some());
        }
        true
    }

    /// The oldest rows up to a place in the order, at most `limit`; they stay until they are settled.
    pub fn oldest(&mut self, up_to: u64, limit: usize) -> Vec<(u64, Row)> {
        self.trim();
        let due = self.order.iter().take_while(|(number, ..)| *number <= up_to);
        due.filter_map(|place| row_of(&self.homes, place).cloned()).take(limit).collect()
    }

    /// The change with this row is settled (written, or overtaken): what is kept of the same row up to there goes.
    pub fn settle(&mut self, number: u64, row: &Row) {
        let Some(home) = self.homes.get_mut(row.aor()) else { return };
        let key = row.key();
        if home.get(&key).is_none_or(|(kept, _)| *kept > number) {
            return;
        }
        home.remove(&key);
        self.len -= 1;
        if home.is_empty() {
            self.homes.remove(row.aor());
        }
    }

    /// A user is gone: nothing of theirs up to there is written any more.
    pub fn forget(&mut self, number: u64, user: &Aor) {
        let theirs = |row: &Row| {
            row.aor() == user
                || matches!(row, Row::PutSubscription(subscription) if subscription.watcher == *user)
                || matches!(row, Row::PutWaiting(waiting) if waiting.watcher == *user)
        };
        let rows = self.homes.values().flat_map(Home::iter);
        let gone = rows.filter(|(kept, row)| *kept <= number && theirs(row)).map(|(_, row)| row.clone());
        for row in gone.collect::<Vec<_>>() {
            self.settle(number, &row);
        }
    }

    /// What waits of one home, oldest first.
    pub fn of(&self, aor: &Aor) -> Vec<Row> {
        let mut kept: Vec<&(u64, Row)> = self.homes.get(aor).into_iter().flat_map(Home::iter).collect();
        kept.sort_by_key(|(number, _)| *number);
        kept.into_iter().map(|(_, row)| row.clone()).collect()
    }

    /// Nothing waits up to this place in the order.
    pub fn is_clear(&mut self, up_to: u64) -> bool {
        self.trim();
        self.order.front().is_none_or(|(oldest, ..)| *oldest > up_to)
    }

    /// The first place in the order says something again.
    fn trim(&mut self) {
        while self.order.front().is_some_and(|place| row_of(&self.homes, place).is_none()) {
            self.order.pop_front();
        }
    }
}

/// The row that this change put, if it still waits.
fn row_of<'a>(homes: &'a ByAor<Home>, (number, aor, key): &(u64, Aor, RowKey)) -> Option<&'a (u64, Row)> {
    homes.get(aor)?.get(key).filter(|(kept, _)| kept == number)
}

/// Places in the order that may say nothing, beside as many as say something.
const SLACK: usize = 1_024;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Binding, BindingKey, PublicationId, SubscriptionId};

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
        let mut lazy = lazy(&[drop_of("a", "1"), drop_of("a", "2"), drop_of("a", "1")]);
        assert_eq!(lazy.oldest(u64::MAX, 9), [(2, drop_of("a", "2")), (3, drop_of("a", "1"))]);
    }

    #[test]
    fn settling_an_older_change_keeps_the_newer_row() {
        let mut lazy = lazy(&[drop_of("a", "1"), drop_of("a", "1")]);
        lazy.settle(1, &drop_of("a", "1"));
        assert_eq!(lazy.of(&aor("a")).len(), 1);
        lazy.settle(2, &drop_of("a", "1"));
        assert!(lazy.is_clear(u64::MAX) && lazy.homes.is_empty() && lazy.order.is_empty());
    }

    #[test]
    fn only_what_is_due_is_given_and_no_more_than_the_limit() {
        let mut lazy = lazy(&[drop_of("a", "1"), drop_of("b", "1"), drop_of("c", "1")]);
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
    fn a_row_that_changes_for_ever_takes_the_room_of_a_few() {
        let mut lazy = Lazy::default();
        for number in 1..100_000 {
            assert!(lazy.keep(&[drop_of("a", "1")], || number));
        }
        assert!(lazy.order.len() <= 2 + SLACK);
        assert_eq!(lazy.oldest(u64::MAX, 9), [(99_999, drop_of("a", "1"))]);
    }

    #[test]
    fn a_refresh_of_what_was_never_written_is_written_as_a_whole() {
        let row = crate::store::fixtures::binding("a", "1", 1);
        let newer = Arc::new(Binding { cseq: 9, ..row.clone() });
        let lazy = lazy(&[Row::PutBinding(row.into()), Row::RefreshBinding(newer.clone())]);
        assert_eq!(lazy.of(&aor("a")), [Row::PutBinding(newer)]);
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

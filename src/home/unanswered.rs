//! How many presentities each watcher waits for, of all homes together: who asks everybody is not kept everywhere (RFC 3857 4.7.1).

use std::sync::Mutex;

use crate::home::lock;
use crate::model::{Aor, ByAor, HomeState, Row};

/// Counts what is waiting in homes, as rows come and go there. Few users wait for anybody, so one lock does.
#[derive(Debug, Default)]
pub(super) struct Unanswered(Mutex<ByAor<usize>>);

impl Unanswered {
    /// For how many presentities this watcher waits.
    pub(super) fn of(&self, watcher: &Aor) -> usize {
        lock(&self.0).get(watcher).copied().unwrap_or(0)
    }

    /// This row is about to be applied to that home.
    pub(super) fn moves(&self, home: &HomeState, row: &Row) {
        let waits = |watcher: &Aor| home.waiting.get(watcher).is_some();
        if let Row::PutWaiting(new) = row
            && !waits(&new.watcher)
        {
            self.came(&new.watcher);
        }
        if let Row::DropWaiting(_, watcher) = row
            && waits(watcher)
        {
            self.went(watcher);
        }
    }

    /// One state takes the place of another.
    pub(super) fn replaced(&self, old: &HomeState, new: &HomeState) {
        old.waiting.iter().for_each(|one| self.went(&one.watcher));
        new.waiting.iter().for_each(|one| self.came(&one.watcher));
    }

    fn came(&self, watcher: &Aor) {
        *lock(&self.0).entry(watcher.clone()).or_insert(0) += 1;
    }

    fn went(&self, watcher: &Aor) {
        let mut counts = lock(&self.0);
        let Some(count) = counts.get_mut(watcher) else { return };
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(watcher);
        }
    }
}

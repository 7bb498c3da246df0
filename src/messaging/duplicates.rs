//! Messages that come again: the same request by another way, or from a client that did not hear the answer. What was taken once is not taken twice.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::time::{Duration, Instant};

use crate::model::AsHashed;
use crate::sip::StatusCode;

/// The messages that are under way, and those that were taken in the last [`WINDOW`]. What was refused is forgotten: it may be tried again. `T`: who
/// asks.
#[derive(Debug)]
pub struct Duplicates<T> {
    /// Few, and apart from the many that are over: who asked for the same meanwhile.
    under_way: ByKey<Vec<T>>,
    /// With the answer that they had.
    taken: ByKey<StatusCode>,
    /// When each of those was taken, in that order.
    order: VecDeque<(Instant, u64)>,
}

/// By the key of a message, which is a keyed hash already.
type ByKey<V> = HashMap<u64, V, BuildHasherDefault<AsHashed>>;

/// What is known of a message that came.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen<T> {
    /// Nothing: it is on its way from now on, until [`Duplicates::answered`].
    Never(T),
    /// It was taken, with this answer.
    Taken(StatusCode, T),
    /// It is on its way: whoever asks is answered with the first.
    Waits,
    /// So many ask for the same that this one is told so at once.
    TooOften(T),
}

impl<T> Default for Duplicates<T> {
    fn default() -> Duplicates<T> {
        Duplicates { under_way: HashMap::default(), taken: HashMap::default(), order: VecDeque::new() }
    }
}

impl<T> Duplicates<T> {
    /// A message has come. `key`: a keyed hash of what makes it this one.
    pub fn seen(&mut self, key: u64, who: T, now: Instant) -> Seen<T> {
        let is_over = |(at, _): &(Instant, u64)| now.saturating_duration_since(*at) >= WINDOW;
        while self.order.front().is_some_and(is_over) {
            self.forget_oldest();
        }
        if let Some(status) = self.taken.get(&key) {
            return Seen::Taken(*status, who);
        }
        match self.under_way.get_mut(&key) {
            Some(waiting) if waiting.len() < MAX_WAITING => {
                waiting.push(who);
                Seen::Waits
            }
            Some(_) => Seen::TooOften(who),
            None => {
                if self.under_way.len() < MAX_KNOWN {
                    self.under_way.insert(key, Vec::new());
                }
                Seen::Never(who)
            }
        }
    }

    /// It was taken before the server was started.
    pub fn remember(&mut self, key: u64, status: StatusCode, now: Instant) {
        if self.order.len() < MAX_KNOWN && !self.under_way.contains_key(&key) {
            self.take(key, status, now);
        }
    }

    /// It was answered so. Returns who waits for the same answer.
    pub fn answered(&mut self, key: u64, status: StatusCode, now: Instant) -> Vec<T> {
        let Some(waiting) = self.under_way.remove(&key) else { return Vec::new() };
        if status.is_success() {
            if self.order.len() >= MAX_KNOWN {
                self.forget_oldest();
            }
            self.take(key, status, now);
        }
        waiting
    }

    fn take(&mut self, key: u64, status: StatusCode, now: Instant) {
        if self.taken.insert(key, status).is_none() {
            self.order.push_back((now, key));
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.taken.remove(&key);
        }
    }
}

/// How long a message that was taken is known: a client that comes back after its 64*T1 is met, and one that lost its network for a while.
pub const WINDOW: Duration = Duration::from_secs(300);
/// 4 MiB; beyond it those that were taken first are forgotten first. More are not under way: each is a server transaction.
const MAX_KNOWN: usize = 65_536;
/// Who asks for the same while it is on its way.
const MAX_WAITING: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const TAKEN: StatusCode = StatusCode::ACCEPTED;

    #[expect(clippy::disallowed_methods, reason = "a base for virtual time")]
    fn base() -> Instant {
        Instant::now()
    }

    #[test]
    fn what_was_taken_is_answered_alike_and_what_was_refused_may_come_again_rfc3428_x2() {
        let (mut duplicates, now) = (Duplicates::default(), base());
        assert_eq!(duplicates.seen(1, 'a', now), Seen::Never('a'));
        assert_eq!(duplicates.seen(1, 'b', now), Seen::Waits);
        assert_eq!(duplicates.answered(1, TAKEN, now), ['b']);
        assert_eq!(duplicates.seen(1, 'c', now), Seen::Taken(TAKEN, 'c'));
        assert_eq!(duplicates.seen(2, 'a', now), Seen::Never('a'));
        assert_eq!(duplicates.seen(2, 'b', now), Seen::Waits);
        assert_eq!(duplicates.answered(2, StatusCode::SERVICE_UNAVAILABLE, now), ['b']);
        assert_eq!(duplicates.seen(2, 'c', now), Seen::Never('c'));
    }

    #[test]
    fn what_was_taken_before_a_start_is_known_too_rfc3428_x2() {
        let (mut duplicates, now) = (Duplicates::default(), base());
        duplicates.remember(1, TAKEN, now);
        assert_eq!(duplicates.seen(1, 'a', now), Seen::Taken(TAKEN, 'a'));
        // What is on its way is not touched.
        assert_eq!(duplicates.seen(2, 'a', now), Seen::Never('a'));
        duplicates.remember(2, TAKEN, now);
        assert_eq!(duplicates.seen(2, 'b', now), Seen::Waits);
    }

    #[test]
    fn after_the_window_it_is_another_one() {
        let (mut duplicates, now) = (Duplicates::default(), base());
        duplicates.seen(1, (), now);
        duplicates.answered(1, TAKEN, now);
        let last = now + WINDOW - Duration::from_millis(1);
        assert_eq!(duplicates.seen(1, (), last), Seen::Taken(TAKEN, ()));
        assert_eq!(duplicates.seen(1, (), now + WINDOW), Seen::Never(()));
    }

    #[test]
    fn one_that_was_refused_and_came_again_is_known_from_then_on() {
        let (mut duplicates, now) = (Duplicates::default(), base());
        duplicates.seen(1, (), now);
        duplicates.answered(1, StatusCode::SERVICE_UNAVAILABLE, now);
        let later = now + Duration::from_secs(10);
        duplicates.seen(1, (), later);
        duplicates.answered(1, TAKEN, later);
        assert_eq!(duplicates.seen(1, (), now + WINDOW), Seen::Taken(TAKEN, ()));
    }

    #[test]
    fn it_is_bounded_a24() {
        let (mut duplicates, now) = (Duplicates::default(), base());
        let many = u64::try_from(MAX_KNOWN).unwrap() + 10;
        for key in 0..many {
            assert_eq!(duplicates.seen(key, (), now), Seen::Never(()));
        }
        assert_eq!(duplicates.under_way.len(), MAX_KNOWN);
        (0..many).for_each(|key| drop(duplicates.answered(key, TAKEN, now)));
        for key in many..2 * many {
            duplicates.seen(key, (), now);
            duplicates.answered(key, TAKEN, now);
        }
        let known = (duplicates.under_way.len(), duplicates.taken.len(), duplicates.order.len());
        assert_eq!(known, (0, MAX_KNOWN, MAX_KNOWN));
        assert_eq!(duplicates.seen(2 * many - 1, (), now), Seen::Taken(TAKEN, ()), "the last ones are known");
        let many = 2 * many;
        let asked: Vec<_> = (0..5).map(|_| duplicates.seen(many, (), now)).collect();
        let expected = [Seen::Never(()), Seen::Waits, Seen::Waits, Seen::Waits, Seen::TooOften(())];
        assert_eq!(asked, expected);
    }
}

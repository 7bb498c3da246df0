//! Messages that come again: the same request by another way, or from a client that did not hear the answer. What was taken once is not taken twice.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::sip::StatusCode;

/// The messages of the last [`WINDOW`] that are under way or were taken. What was refused is forgotten: it may be tried again. `T`: who asks.
#[derive(Debug)]
pub struct Duplicates<T> {
    known: HashMap<u64, Known<T>>,
    /// In the order in which they came; may name what is forgotten already.
    order: VecDeque<(Instant, u64)>,
}

#[derive(Debug)]
struct Known<T> {
    /// When it came.
    at: Instant,
    state: State<T>,
}

#[derive(Debug)]
enum State<T> {
    UnderWay(Vec<T>),
    Taken(StatusCode),
}

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
        Duplicates { known: HashMap::new(), order: VecDeque::new() }
    }
}

impl<T> Duplicates<T> {
    /// A message has come. `key`: a keyed hash of what makes it this one.
    pub fn seen(&mut self, key: u64, who: T, now: Instant) -> Seen<T> {
        while self.order.len() >= MAX_KNOWN
            || self.order.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW)
        {
            let Some((at, old)) = self.order.pop_front() else { break };
            // It may have come again since.
            if self.known.get(&old).is_some_and(|known| known.at == at) {
                self.known.remove(&old);
            }
        }
        match self.known.get_mut(&key).map(|known| &mut known.state) {
            Some(State::Taken(status)) => Seen::Taken(*status, who),
            Some(State::UnderWay(waiting)) if waiting.len() < MAX_WAITING => {
                waiting.push(who);
                Seen::Waits
            }
            Some(State::UnderWay(_)) => Seen::TooOften(who),
            None => {
                self.known.insert(key, Known { at: now, state: State::UnderWay(Vec::new()) });
                self.order.push_back((now, key));
                Seen::Never(who)
            }
        }
    }

    /// It was taken before the server was started.
    pub fn remember(&mut self, key: u64, status: StatusCode, now: Instant) {
        if self.order.len() < MAX_KNOWN && !self.known.contains_key(&key) {
            self.known.insert(key, Known { at: now, state: State::Taken(status) });
            self.order.push_back((now, key));
        }
    }

    /// It was answered so. Returns who waits for the same answer.
    pub fn answered(&mut self, key: u64, status: StatusCode) -> Vec<T> {
        if !status.is_success() {
            return match self.known.remove(&key).map(|known| known.state) {
                Some(State::UnderWay(waiting)) => waiting,
                Some(State::Taken(_)) | None => Vec::new(),
            };
        }
        let Some(known) = self.known.get_mut(&key) else { return Vec::new() };
        match std::mem::replace(&mut known.state, State::Taken(status)) {
            State::UnderWay(waiting) => waiting,
            State::Taken(_) => Vec::new(),
        }
    }
}

/// How long a message that was taken is known: a client that comes back after its 64*T1 is met, and one that lost its network for a while.
pub const WINDOW: Duration = Duration::from_secs(300);
/// 3 MiB; beyond it the oldest are forgotten first.
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
        assert_eq!(duplicates.answered(1, TAKEN), ['b']);
        assert_eq!(duplicates.seen(1, 'c', now), Seen::Taken(TAKEN, 'c'));
        assert_eq!(duplicates.seen(2, 'a', now), Seen::Never('a'));
        assert_eq!(duplicates.seen(2, 'b', now), Seen::Waits);
        assert_eq!(duplicates.answered(2, StatusCode::SERVICE_UNAVAILABLE), ['b']);
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
        duplicates.answered(1, TAKEN);
        let last = now + WINDOW - Duration::from_millis(1);
        assert_eq!(duplicates.seen(1, (), last), Seen::Taken(TAKEN, ()));
        assert_eq!(duplicates.seen(1, (), now + WINDOW), Seen::Never(()));
    }

    #[test]
    fn one_that_was_refused_and_came_again_is_known_from_then_on() {
        let (mut duplicates, now) = (Duplicates::default(), base());
        duplicates.seen(1, (), now);
        duplicates.answered(1, StatusCode::SERVICE_UNAVAILABLE);
        let later = now + Duration::from_secs(10);
        duplicates.seen(1, (), later);
        duplicates.answered(1, TAKEN);
        assert_eq!(duplicates.seen(1, (), now + WINDOW), Seen::Taken(TAKEN, ()));
    }

    #[test]
    fn it_is_bounded_a24() {
        let (mut duplicates, now) = (Duplicates::default(), base());
        let many = u64::try_from(MAX_KNOWN).unwrap() + 10;
        for key in 0..many {
            assert_eq!(duplicates.seen(key, (), now), Seen::Never(()));
        }
        assert_eq!((duplicates.known.len(), duplicates.order.len()), (MAX_KNOWN, MAX_KNOWN));
        let asked: Vec<_> = (0..5).map(|_| duplicates.seen(many, (), now)).collect();
        let expected = [Seen::Never(()), Seen::Waits, Seen::Waits, Seen::Waits, Seen::TooOften(())];
        assert_eq!(asked, expected);
    }
}

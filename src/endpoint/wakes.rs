//! Instants at which to look at something, in the order in which they come.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Instant;

/// What is to be looked at when. Nothing is taken back: who is woken in vain does nothing.
///
/// Most timers have one of a few lengths (T1, 3.5 s, 64*T1), so of each length they are asked for in the order of their instants: each length
/// finds a queue of its own, into which and out of which all goes at the ends. What fits behind no queue is in a heap.
pub(super) struct Wakes<T> {
    queues: [VecDeque<Wake<T>>; QUEUES],
    others: BinaryHeap<Reverse<Wake<T>>>,
}

struct Wake<T> {
    at: Instant,
    what: T,
}

impl<T> Default for Wakes<T> {
    fn default() -> Wakes<T> {
        Wakes { queues: std::array::from_fn(|_| VecDeque::new()), others: BinaryHeap::new() }
    }
}

impl<T> Wakes<T> {
    /// Asks for `what` to be given back at that instant.
    pub(super) fn push(&mut self, at: Instant, what: T) {
        // Behind the latest one that is not later; an empty queue is taken last.
        let fits = |queue: &&mut VecDeque<Wake<T>>| queue.back().is_none_or(|last| last.at <= at);
        match self.queues.iter_mut().filter(fits).max_by_key(|queue| queue.back().map(|last| last.at)) {
            Some(queue) => queue.push_back(Wake { at, what }),
            None => self.others.push(Reverse(Wake { at, what })),
        }
    }

    /// One whose instant has come, if there is any. Among those the order is none in particular.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<T> {
        for queue in &mut self.queues {
            if queue.front().is_some_and(|wake| wake.at <= now) {
                return queue.pop_front().map(|wake| wake.what);
            }
        }
        if self.others.peek().is_some_and(|Reverse(wake)| wake.at <= now) {
            return self.others.pop().map(|Reverse(wake)| wake.what);
        }
        None
    }
}

impl<T> PartialEq for Wake<T> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}
impl<T> Eq for Wake<T> {}
impl<T> PartialOrd for Wake<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Wake<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

/// As many as there are timers that run often: E and A, the 100 of non-INVITE, J or L and the like, and one for the rest.
const QUEUES: usize = 4;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a base for virtual time")]
    fn base() -> Instant {
        Instant::now()
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn timers_of_few_lengths_wait_in_queues_of_their_own() {
        let (start, mut wakes) = (base(), Wakes::default());
        for step in 0..100 {
            for length in [500, 3_500, 32_000, 200] {
                wakes.push(start + ms(step + length), length);
            }
        }
        assert!(wakes.others.is_empty());
        // The first few go where there is room.
        let settled =
            |queue: &VecDeque<Wake<u64>>| queue.iter().skip(5).all(|wake| wake.what == queue[5].what);
        assert!(wakes.queues.iter().all(|queue| queue.len() > 90 && settled(queue)));
    }

    #[test]
    fn nobody_is_woken_early_and_nobody_is_forgotten() {
        let (start, mut wakes) = (base(), Wakes::default());
        let at = |number: u64| start + ms(number * 7_919 % 1_000);
        for number in 0..1_000 {
            wakes.push(at(number), number);
        }
        let mut woken = 0;
        for now in 0..1_000 {
            let now = start + ms(now);
            while let Some(number) = wakes.pop_due(now) {
                assert_eq!(at(number), now);
                woken += 1;
            }
        }
        assert_eq!(woken, 1_000);
    }
}

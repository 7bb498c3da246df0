//! Requests that wait for something, in the order in which each sender sent them. Pure.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// For each sender, what waits behind what is being done.
#[derive(Debug)]
pub(super) struct Turns<K, V> {
    queues: HashMap<K, VecDeque<V>>,
    waiting: usize,
    most: usize,
}

/// Whose turn it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entered<V> {
    /// This one's: nothing of the same sender is under way. [`Turns::next`] ends the turn.
    First(V),
    /// Somebody else's; [`Turns::next`] will give it back.
    Waits,
    /// Too many wait.
    Full(V),
}

impl<K: Hash + Eq, V> Turns<K, V> {
    /// - `most`: so many may wait behind others, over all senders.
    pub(super) fn new(most: usize) -> Turns<K, V> {
        Turns { queues: HashMap::new(), waiting: 0, most }
    }

    /// One more of this sender.
    pub(super) fn enter(&mut self, sender: K, what: V) -> Entered<V> {
        match self.queues.get_mut(&sender) {
            None => {
                self.queues.insert(sender, VecDeque::new());
                Entered::First(what)
            }
            Some(_) if self.waiting >= self.most => Entered::Full(what),
            Some(queue) => {
                queue.push_back(what);
                self.waiting += 1;
                Entered::Waits
            }
        }
    }

    /// A turn has ended: the next one's; `None` if nothing of this sender waits.
    pub(super) fn next(&mut self, sender: &K) -> Option<V> {
        let next = self.queues.get_mut(sender).and_then(VecDeque::pop_front);
        match next {
            Some(_) => self.waiting -= 1,
            None => drop(self.queues.remove(sender)),
        }
        next
    }

    /// A turn ended without an end: what waits behind it is given up.
    pub(super) fn abandon(&mut self, sender: &K) {
        self.waiting -= self.queues.remove(sender).map_or(0, |queue| queue.len());
    }

    /// Is nobody's turn?
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sender_has_an_order_and_none_waits_for_another() {
        let mut turns = Turns::new(10);
        assert_eq!(turns.enter("alice", 1), Entered::First(1));
        assert_eq!(turns.enter("bob", 1), Entered::First(1));
        assert_eq!((turns.enter("alice", 2), turns.enter("alice", 3)), (Entered::Waits, Entered::Waits));
        assert_eq!((turns.next(&"bob"), turns.next(&"alice")), (None, Some(2)));
        assert_eq!(turns.enter("alice", 4), Entered::Waits, "while the second is under way");
        assert_eq!((turns.next(&"alice"), turns.next(&"alice")), (Some(3), Some(4)));
        assert!(!turns.is_empty(), "the last one is under way");
        assert_eq!(turns.next(&"alice"), None);
        assert!(turns.is_empty());
        assert_eq!(turns.enter("alice", 5), Entered::First(5));
    }

    #[test]
    fn so_many_wait_and_no_more() {
        let mut turns = Turns::new(1);
        assert_eq!(turns.enter("alice", 1), Entered::First(1));
        assert_eq!((turns.enter("alice", 2), turns.enter("alice", 3)), (Entered::Waits, Entered::Full(3)));
        assert_eq!(turns.enter("bob", 1), Entered::First(1), "who waits for nothing is not counted");
        turns.abandon(&"alice");
        assert_eq!((turns.enter("alice", 4), turns.enter("alice", 5)), (Entered::First(4), Entered::Waits));
    }
}

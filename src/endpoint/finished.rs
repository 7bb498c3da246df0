//! What is kept of server transactions that only repeat their answer (RFC 3261 17.2.2, Completed): its bytes and where they go, until Timer J.
//!
//! Timer J has one length, so they end in the order in which they were answered. When the table is full, room is made by letting go of the oldest
//! ones before their time; see [`Repetition`] for which. They stand one behind the other in a few large pieces of memory that are used again: a busy server
//! keeps half a million of them, and a place of its own for each would cost more than the answer.

use std::collections::VecDeque;
use std::time::Instant;

use crate::endpoint::table::{ByKey, Key};
use crate::model::Flow;

/// What a repetition of the request would meet if its transaction were forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repetition {
    /// A challenge: its credentials are spent, so it is done by nobody twice. May be forgotten early.
    Challenged,
    /// It would be done again: a request inside a dialog is let in by its mark, and its other side might act twice or refuse with 500 what it had
    /// accepted (12.2.2). Kept until Timer J, whatever comes.
    DoneAgain,
}

/// The finished server transactions of one shard.
#[derive(Default)]
pub(super) struct Finished {
    places: ByKey<Place>,
    challenged: Answers,
    done_again: Answers,
}

/// The answer that every retransmission gets, and where it goes.
pub(super) struct Answered<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) reply_to: Flow,
}

/// Where an answer is kept.
#[derive(Clone, Copy)]
struct Place {
    /// Number of its chunk.
    chunk: u32,
    /// Its place in there.
    at: u16,
    repetition: Repetition,
}

/// Answers in the order of their ends.
#[derive(Default)]
struct Answers {
    chunks: VecDeque<Chunk>,
    /// The number of the first chunk. It goes round.
    first: u32,
    /// A chunk that has served, to be used again while there are others.
    spare: Option<Chunk>,
}

struct Chunk {
    answers: Vec<Answer>,
    /// Of all answers, one behind the other.
    bytes: Vec<u8>,
    /// How many of the first answers are forgotten.
    forgotten: usize,
}

struct Answer {
    key: Key,
    /// Timer J.
    until: Instant,
    reply_to: Flow,
    /// Where its bytes end in those of the chunk.
    end: usize,
}

impl Finished {
    /// Keeps an answer until that instant (Timer J).
    pub(super) fn keep(&mut self, key: Key, answered: &Answered<'_>, until: Instant, repetition: Repetition) {
        let answers = match repetition {
            Repetition::Challenged => &mut self.challenged,
            Repetition::DoneAgain => &mut self.done_again,
        };
        let (chunk, at) = answers.push(key, answered, until);
        self.places.insert(key, Place { chunk, at, repetition });
    }

    pub(super) fn get(&self, key: Key) -> Option<Answered<'_>> {
        let place = self.places.get(&key)?;
        match place.repetition {
            Repetition::Challenged => self.challenged.get(place),
            Repetition::DoneAgain => self.done_again.get(place),
        }
    }

    /// Forgets those whose Timer J has fired; how many.
    pub(super) fn expire(&mut self, now: Instant) -> usize {
        let mut expired = 0;
        for answers in [&mut self.challenged, &mut self.done_again] {
            while answers.oldest().is_some_and(|oldest| oldest.until <= now) {
                expired += usize::from(answers.pop().is_some_and(|key| self.places.remove(&key).is_some()));
            }
        }
        expired
    }

    /// Forgets the oldest one that may be forgotten. `false`: there is none.
    pub(super) fn evict(&mut self) -> bool {
        self.challenged.pop().is_some_and(|key| self.places.remove(&key).is_some())
    }
}

impl Answers {
    /// Puts an answer behind the others; the number of its chunk and its place in there.
    fn push(&mut self, key: Key, answered: &Answered<'_>, until: Instant) -> (u32, u16) {
        if self.chunks.back().is_none_or(|last| !last.has_room(answered.bytes.len())) {
            let chunk = self.spare.take().unwrap_or_else(Chunk::new);
            self.chunks.push_back(chunk);
        }
        let number =
            self.first.wrapping_add(u32::try_from(self.chunks.len()).unwrap_or_default().wrapping_sub(1));
        let at = self.chunks.back_mut().map_or(0, |chunk| chunk.push(key, answered, until));
        (number, at)
    }

    fn get(&self, place: &Place) -> Option<Answered<'_>> {
        let chunk = self.chunks.get(usize::try_from(place.chunk.wrapping_sub(self.first)).ok()?)?;
        let at = usize::from(place.at);
        let answer = chunk.answers.get(at)?;
        let start =
            at.checked_sub(1).and_then(|before| chunk.answers.get(before)).map_or(0, |before| before.end);
        Some(Answered { bytes: chunk.bytes.get(start..answer.end)?, reply_to: answer.reply_to })
    }

    fn oldest(&self) -> Option<&Answer> {
        // A chunk of which all are forgotten is none.
        self.chunks.front().and_then(|first| first.answers.get(first.forgotten))
    }

    /// Forgets the oldest one; whose it was.
    fn pop(&mut self) -> Option<Key> {
        let key = self.oldest()?.key;
        let first = self.chunks.front_mut()?;
        first.forgotten += 1;
        if first.forgotten == first.answers.len()
            && let Some(served) = self.chunks.pop_front()
        {
            self.first = self.first.wrapping_add(1);
            self.spare = if self.chunks.is_empty() { None } else { served.emptied() };
        }
        Some(key)
    }
}

impl Chunk {
    fn new() -> Chunk {
        Chunk { answers: Vec::with_capacity(CHUNK), bytes: Vec::with_capacity(CHUNK_BYTES), forgotten: 0 }
    }

    /// The first one has room in any case.
    fn has_room(&self, bytes: usize) -> bool {
        self.answers.is_empty()
            || (self.answers.len() < CHUNK && self.bytes.len().saturating_add(bytes) <= CHUNK_BYTES)
    }

    fn push(&mut self, key: Key, answered: &Answered<'_>, until: Instant) -> u16 {
        let at = u16::try_from(self.answers.len()).unwrap_or_default();
        self.bytes.extend_from_slice(answered.bytes);
        self.answers.push(Answer { key, until, reply_to: answered.reply_to, end: self.bytes.len() });
        at
    }

    /// To be used again; `None` if it has grown for one large answer.
    fn emptied(mut self) -> Option<Chunk> {
        self.answers.clear();
        self.bytes.clear();
        self.forgotten = 0;
        (self.bytes.capacity() <= CHUNK_BYTES).then_some(self)
    }
}

/// Answers of a chunk..
const CHUNK: usize = 128;
/// ..and their bytes: as much as so many ordinary ones take.
const CHUNK_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;
    use crate::endpoint::table::Table;
    use crate::model::Transport;

    #[expect(clippy::disallowed_methods, reason = "a base for virtual time")]
    fn base() -> Instant {
        Instant::now()
    }

    fn answered(bytes: &[u8]) -> Answered<'_> {
        let address = SocketAddr::from(([192, 0, 2, 1], 5060));
        let reply_to = Flow { transport: Transport::Udp, local: address, remote: address, connection: 0 };
        Answered { bytes, reply_to }
    }

    #[test]
    fn an_answer_is_kept_until_timer_j_rfc3261_17_2_2() {
        let (start, mut finished) = (base(), Finished::default());
        let table = Table::<()>::new(1);
        let until = start + Duration::from_secs(32);
        for (values, repetition) in [(b"a", Repetition::Challenged), (b"b", Repetition::DoneAgain)] {
            finished.keep(table.key(values), &answered(b"200"), until, repetition);
        }
        assert_eq!(finished.expire(until - Duration::from_millis(1)), 0);
        assert_eq!(finished.get(table.key(b"a")).unwrap().bytes, b"200");
        assert_eq!(finished.expire(until), 2);
        assert!(finished.get(table.key(b"a")).is_none() && finished.places.is_empty());
    }

    #[test]
    fn every_answer_is_found_as_it_was_until_it_ends() {
        let (start, mut finished) = (base(), Finished::default());
        let table = Table::<()>::new(1);
        let number = |at: usize| table.key(&at.to_be_bytes());
        // Short ones, long ones, and a few that fill a chunk alone or do not fit into one.
        let text = |at: usize| {
            vec![b'0' + (at % 10) as u8; at * 37 % 700 + usize::from(at.is_multiple_of(97)) * 70_000]
        };
        let until = |at: usize| start + Duration::from_millis(at as u64);
        let repetition =
            |at: usize| if at.is_multiple_of(3) { Repetition::DoneAgain } else { Repetition::Challenged };
        for at in 0..3_000 {
            finished.keep(number(at), &answered(&text(at)), until(at), repetition(at));
            // As many live as in half a second.
            if at >= 500 {
                assert_eq!(finished.expire(until(at - 500)), 1, "{at}");
                assert!(finished.get(number(at - 500)).is_none());
                assert_eq!(finished.get(number(at - 499)).unwrap().bytes, text(at - 499));
            }
            assert_eq!(finished.get(number(at)).unwrap().bytes, text(at), "{at}");
        }
        for at in 2_500..3_000 {
            assert_eq!(finished.get(number(at)).unwrap().bytes, text(at), "{at}");
        }
        assert!(finished.challenged.chunks.len() < 20 && finished.challenged.first > 10);
        assert_eq!(finished.expire(until(3_000)), 500);
        assert!(finished.places.is_empty() && finished.challenged.chunks.is_empty());
    }

    #[test]
    fn the_oldest_is_evicted_and_none_that_would_be_done_again() {
        let (start, mut finished) = (base(), Finished::default());
        let table = Table::<()>::new(1);
        finished.keep(table.key(b"bye"), &answered(b"200"), start, Repetition::DoneAgain);
        for values in [b"old", b"new"] {
            finished.keep(table.key(values), &answered(b"200"), start, Repetition::Challenged);
        }
        assert!(finished.evict());
        assert!(finished.get(table.key(b"old")).is_none() && finished.get(table.key(b"new")).is_some());
        assert!(finished.evict());
        assert!(!finished.evict());
        assert!(finished.get(table.key(b"bye")).is_some());
    }
}

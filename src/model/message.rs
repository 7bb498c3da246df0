//! Messages that wait for a device (RFC 3428 7: a relay that stores and forwards).

use bytes::Bytes;

use crate::model::{Aor, Text, Timestamp};

/// 128 random bits: which stored message. Our Call-ID towards the devices is made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub u128);

impl std::fmt::Display for MessageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// What memory holds of a stored message: enough to know that it is owed, in which order, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Which.
    pub id: MessageId,
    /// When it was taken; within a home no two are the same, so this is the order of delivery.
    pub taken_at: Timestamp,
    /// Never delivered from this instant on.
    pub expires_at: Timestamp,
    /// Bytes of head and body.
    pub size: u32,
    /// Does it tell of another message (RFC 5438)? Then nobody is waiting to read it.
    pub is_notification: bool,
}

/// One stored message, in the home of its recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// For whom: the home it lives in.
    pub recipient: Aor,
    /// What memory holds of it.
    pub waiting: Waiting,
    /// What only the store holds once it is written: a row that was loaded has `None` here and is never written.
    pub content: Option<Content>,
}

/// What a device is sent. Never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Content {
    /// Who sent it, authenticated.
    pub sender: Aor,
    /// Call-ID of the sender's request.
    pub call_id: Text,
    /// Header rows, each with its line end, as every attempt carries them: those of the sender that go end to end, in their order and with
    /// their bytes, and our own tag and Call-ID. Missing is what belongs to one attempt and one hop: Via, Max-Forwards, CSeq,
    /// Content-Length.
    pub head: Bytes,
    /// The body, byte for byte.
    pub body: Bytes,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Content({} and {} bytes)", self.head.len(), self.body.len())
    }
}

/// The messages that wait in one home, in the order of delivery. Most homes have none: that is one word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mailbox(
    #[expect(clippy::box_collection, reason = "one word in every home instead of three")]
    Option<Box<Vec<Waiting>>>,
);

impl Mailbox {
    /// All of them, the next one first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Waiting> {
        self.0.iter().flat_map(|all| all.iter())
    }
    /// How many.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |all| all.len())
    }
    /// None?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Bytes of all of them in the store.
    pub fn bytes(&self) -> u64 {
        self.iter().map(|one| u64::from(one.size)).sum()
    }
    /// When the next of them expires.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.iter().map(|one| one.expires_at).min()
    }
    /// When the next one is taken: now, or as soon after the last one that the order is kept.
    pub fn next_place(&self, now: Timestamp) -> Timestamp {
        self.iter().next_back().map_or(now, |last| now.max(Timestamp(last.taken_at.0.saturating_add(1))))
    }
    /// Adds or replaces one.
    pub fn put(&mut self, new: Waiting) {
        let all = self.0.get_or_insert_default();
        all.retain(|old| old.id != new.id);
        let at = all.partition_point(|old| (old.taken_at, old.id) < (new.taken_at, new.id));
        all.insert(at, new);
    }
    /// Takes one out.
    pub fn remove(&mut self, id: MessageId) {
        let Some(all) = &mut self.0 else { return };
        all.retain(|old| old.id != id);
        if all.is_empty() {
            self.0 = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(id: u128, taken_at: i64) -> Waiting {
        Waiting {
            id: MessageId(id),
            taken_at: Timestamp(taken_at),
            expires_at: Timestamp(taken_at + 5),
            size: 3,
            is_notification: false,
        }
    }

    #[test]
    fn messages_stand_in_the_order_they_were_taken_however_they_are_read() {
        let mut mailbox = Mailbox::default();
        for (id, at) in [(9, 1), (2, 3), (5, 2), (5, 2)] {
            mailbox.put(waiting(id, at));
        }
        assert_eq!(mailbox.iter().map(|one| one.id.0).collect::<Vec<_>>(), [9, 5, 2]);
        assert_eq!((mailbox.len(), mailbox.bytes()), (3, 9));
        assert_eq!(mailbox.next_expiry(), Some(Timestamp(6)));
        mailbox.remove(MessageId(9));
        assert_eq!(mailbox.iter().next(), Some(&waiting(5, 2)));
    }

    #[test]
    fn places_only_grow_also_within_a_millisecond_or_when_the_clock_is_set_back() {
        let mut mailbox = Mailbox::default();
        assert_eq!(mailbox.next_place(Timestamp(7)), Timestamp(7));
        mailbox.put(waiting(1, 7));
        assert_eq!(mailbox.next_place(Timestamp(7)), Timestamp(8));
        assert_eq!(mailbox.next_place(Timestamp(3)), Timestamp(8));
        assert_eq!(mailbox.next_place(Timestamp(9)), Timestamp(9));
    }

    #[test]
    fn an_empty_mailbox_is_one_word_and_holds_no_memory() {
        assert_eq!(size_of::<Mailbox>(), size_of::<usize>());
        let mut mailbox = Mailbox::default();
        mailbox.put(waiting(1, 7));
        mailbox.remove(MessageId(1));
        assert_eq!(mailbox, Mailbox(None));
    }

    #[test]
    fn bodies_are_not_shown_a34() {
        let content = Content {
            sender: Aor::new("a", "example.org").unwrap(),
            call_id: "c".into(),
            head: "Subject: secret\r\n".into(),
            body: "secret".into(),
        };
        assert!(!format!("{content:?}").contains("secret"));
    }
}

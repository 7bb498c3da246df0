//! Decides whether a message is kept for its recipient (RFC 3428 7).

use smallvec::SmallVec;

use crate::home::{Decision, Mode};
use crate::model::{
    Content, Durability, HomeState, MessageId, Moved, Plan, Reject, Row, StoredMessage, Timestamp, Waiting,
};
use crate::sip::{HeaderName, StatusCode};

/// A message that is to be kept.
pub(super) struct Keep {
    pub id: MessageId,
    pub content: Content,
    pub expires_at: Timestamp,
    pub is_notification: bool,
    /// How many messages a user may have, and how many bytes of them.
    pub room: (usize, u64),
    /// Seconds, for who is to ask again when the database is back.
    pub retry_after: String,
}

impl Keep {
    /// Behind what the recipient has already.
    ///
    /// # Errors
    /// 503 while the database is away: a promise that only memory keeps is none. 480 if that user has no room; the others have (`A24`).
    pub(super) fn decide(&self, home: &HomeState, mode: Mode, now: Timestamp) -> Decision<()> {
        if mode == Mode::Volatile {
            let reject = Reject::new(StatusCode::SERVICE_UNAVAILABLE);
            return Err(reject.with(HeaderName::RetryAfter, self.retry_after.as_str()));
        }
        let Keep { id, ref content, expires_at, is_notification, room: (max_messages, max_bytes), .. } =
            *self;
        let size = u32::try_from(content.head.len().saturating_add(content.body.len())).unwrap_or(u32::MAX);
        let bytes = home.messages.bytes().saturating_add(size.into());
        if home.messages.len() >= max_messages || bytes > max_bytes {
            return Err(Reject::because(StatusCode::TEMPORARILY_UNAVAILABLE, "Mailbox Full"));
        }
        let taken_at = home.messages.next_place(now);
        let waiting = Waiting { id, taken_at, expires_at, size, is_notification };
        let message = StoredMessage { recipient: home.aor.clone(), waiting, content: Some(content.clone()) };
        let rows = SmallVec::from_buf([Row::PutMessage(message.into())]);
        // What is told of a message lights no lamp.
        let moved = Moved { presence: !is_notification, watchers: false };
        Ok((Plan { rows, durability: Durability::Durable, moved }, ()))
    }
}

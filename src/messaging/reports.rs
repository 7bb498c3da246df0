//! Tells senders what becomes of messages that are stored (RFC 5438 8), and refuses what others falsely tell them. A notification is a message
//! like any other: it is stored first, in the home of whom it is for, and goes to their devices as the stored messages do.

use std::hash::BuildHasher;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use crate::availability::rules::{self, Barred};
use crate::endpoint::clock;
use crate::home::Refusal;
use crate::messaging::admission::{self, Carried, Kind};
use crate::messaging::asked::Asked;
use crate::messaging::cpim;
use crate::messaging::imdn::{self, Disposition, Facts, Notification, Wishes};
use crate::messaging::keep::Keep;
use crate::messaging::outbox::End;
use crate::messaging::trace::Step;
use crate::messaging::{Messaging, copy};
use crate::model::{Aor, Content, MessageId, Plan, Reject, Timestamp};
use crate::sip::{HeaderName, Request, StatusCode, Uri};

/// A notification that is owed: whom it is for, and its body.
struct Owed {
    to: Aor,
    id: MessageId,
    body: bytes::Bytes,
}

/// What a sender is to be told.
enum Debt {
    Nothing,
    Owed(Owed),
    /// It is for somebody who may not be in memory yet.
    Later,
}

impl Messaging {
    /// Is a message from whom it says, and what it tells of another one told by somebody who got that?
    ///
    /// # Errors
    /// 403; 400 for a notification that cannot be read: nobody knows what its reader makes of it.
    pub(super) fn is_honest(
        &self,
        request: &Request,
        carried: Carried,
        sender: &Aor,
        recipient: &Aor,
    ) -> Result<(), Reject> {
        if !self.policy.verify_cpim {
            return Ok(());
        }
        admission::is_from(request, carried, |uri| (self.names)(uri).as_ref() == Some(sender))?;
        if carried.kind != Kind::Notification {
            return Ok(());
        }
        let about = match carried.cpim(request) {
            Some(cpim) if cpim.is_encoded() => None,
            Some(cpim) => imdn::reported(cpim.content()),
            // Without CPIM around it, and compressed: that is how some write it.
            None if request.value(HeaderName::ContentEncoding).is_some() => return Ok(()),
            None => imdn::reported(request.body()),
        };
        let Some(about) = about else {
            return Err(Reject::because(StatusCode::BAD_REQUEST, "Unreadable IMDN"));
        };
        let (message, told) = self.keys(recipient, &about, sender);
        if self.asked().knows_better(message, told) {
            return Err(Reject::because(StatusCode::FORBIDDEN, "Not a recipient of that message"));
        }
        self.trace.note_receipt(&about, clock::now(), "told by a device");
        Ok(())
    }

    /// A message is on its way to somebody, who may tell its sender about it from now on.
    pub(super) fn note_recipient(&self, request: &Request, carried: Carried, sender: &Aor, recipient: &Aor) {
        let Some(cpim) = carried.cpim(request).filter(|cpim| Wishes::of(*cpim).are_any()) else { return };
        if let Some(id) = cpim.value(cpim::IMDN, "Message-ID") {
            let (message, told) = self.keys(sender, id, recipient);
            self.asked().note(message, told);
        }
    }

    /// A message was stored, and its sender has got 202: they are told so, if they asked.
    pub(super) fn tell_stored(
        self: &Arc<Self>,
        request: &Request,
        sender: &Aor,
        recipient: &Aor,
        id: MessageId,
        taken_at: Timestamp,
    ) {
        let call_id = request.call_id().unwrap_or_default();
        let facts = Facts { call_id, recipient, taken_at, id };
        match self.debt(request, Disposition::Stored, sender, facts) {
            Debt::Owed(owed) => {
                self.trace.note(id, clock::now(), Step::Receipt("stored".into()));
                self.post(owed, recipient, |_| {});
            }
            // 12.2 leaves it to us: in the first moments after a start it is not told to others than the sender.
            Debt::Nothing | Debt::Later => {}
        }
    }

    /// Nobody will get a stored message. Its sender is told if they asked, then its row goes; if they cannot be told now, it stays.
    ///
    /// - `why`: for its trace.
    pub(super) fn give_up(self: &Arc<Self>, recipient: &Aor, id: MessageId, why: Step) {
        let (messaging, of) = (self.clone(), recipient.clone());
        self.tell_failed(recipient, id, move |is_told| match is_told {
            true => messaging.drop_message(&of, id, why),
            false => messaging.ended(&of, End::Untold),
        });
    }

    /// `then` is called once, with whether everything is told that is owed. The row is still there then: if the server dies now, it is told
    /// again, under the same Message-ID.
    pub(super) fn tell_failed(
        self: &Arc<Self>,
        recipient: &Aor,
        id: MessageId,
        then: impl FnOnce(bool) + Send + 'static,
    ) {
        if !self.policy.reports {
            return then(true);
        }
        let home = self.homes.read(recipient);
        let Some(waiting) = home.messages.iter().find(|one| one.id == id).copied() else { return then(true) };
        let (messaging, recipient, then) = (self.clone(), recipient.clone(), Then(Some(then)));
        // If it is not started, it is dropped: that is a "no", too.
        self.endpoint.spawn(async move {
            let content = match messaging.homes.store().content(&recipient, id).await {
                Ok(content) => content,
                Err(fault) => {
                    tracing::warn!(%fault, "a stored message could not be read; its sender is told later");
                    return then.call(false);
                }
            };
            let request = content.as_ref().and_then(|content| copy::request(&recipient, content, 1));
            let Some((request, content)) = request.zip(content) else { return then.call(true) };
            let (call_id, taken_at) = (&*content.call_id, waiting.taken_at);
            let facts = Facts { call_id, recipient: &recipient, taken_at, id };
            match messaging.debt(&request, Disposition::Failed, &content.sender, facts) {
                Debt::Owed(owed) => {
                    messaging.trace.note(id, clock::now(), Step::Receipt("failed".into()));
                    messaging.post(owed, &recipient, move |is_told| then.call(is_told));
                }
                Debt::Nothing => then.call(true),
                Debt::Later => then.call(false),
            }
        });
    }

    fn debt(&self, request: &Request, what: Disposition, sender: &Aor, facts: Facts<'_>) -> Debt {
        let facts = Facts { id: self.ids.of(facts.id, what), ..facts };
        let notification = match self.policy.reports {
            true => imdn::notification(request, what, &facts),
            false => None,
        };
        let Some(Notification { to, body }) = notification else { return Debt::Nothing };
        let to = Uri::parse(to.as_bytes()).ok().and_then(|uri| (self.names)(&uri));
        match to {
            Some(to) if to == *sender => Debt::Owed(Owed { to, id: facts.id, body }),
            Some(_) | None if !self.is_resident.load(Ordering::Acquire) => Debt::Later,
            None => Debt::Nothing,
            Some(to) => {
                // RFC 5438 14: a message must not send to others what they would not take from its sender or its recipient.
                let (home, now) = (self.homes.read(&to), clock::now());
                let is_welcome = |from| rules::barred(&home, from, now) == Barred::No;
                match is_welcome(sender) && is_welcome(facts.recipient) {
                    true => Debt::Owed(Owed { to, id: facts.id, body }),
                    false => Debt::Nothing,
                }
            }
        }
    }

    /// Stores a notification from the recipient of a message. `then`: is it stored, or is there no room for it?
    fn post(self: &Arc<Self>, owed: Owed, from: &Aor, then: impl FnOnce(bool) + Send + 'static) {
        let (Owed { to, id, body }, now) = (owed, clock::now());
        let head = copy::notification_head(from, &to, id, &self.policy.domain, now);
        let call_id = copy::call_id(id, &self.policy.domain).into();
        let content = Content { sender: from.clone(), call_id, head, body };
        let keep = Keep {
            id,
            content,
            expires_at: now.after(self.policy.retention),
            is_notification: true,
            room: self.policy.room(),
            // Nobody waits for an answer.
            retry_after: String::new(),
        };
        let (messaging, of) = (self.clone(), to.clone());
        self.homes.change(
            &to,
            move |home, mode| match home.messages.iter().any(|one| one.id == id) {
                // It was told before the server died.
                true => Ok((Plan::nothing(), ())),
                false => keep.decide(home, mode, now),
            },
            move |result| match result {
                Ok(_) => {
                    messaging.stored(&of);
                    then(true);
                }
                Err(Refusal::Reject(reject)) if reject.status == StatusCode::TEMPORARILY_UNAVAILABLE => {
                    tracing::debug!(id = %id, recipient = %of, "no room for a notification");
                    then(true);
                }
                Err(Refusal::Reject(_) | Refusal::Fault) => then(false),
            },
        );
    }

    /// Of a message, and of one recipient of it.
    fn keys(&self, sender: &Aor, id: &str, recipient: &Aor) -> (u64, u64) {
        (self.hasher.hash_one((sender, id)), self.hasher.hash_one((sender, id, recipient)))
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Called once; with `false` if it is dropped.
struct Then<F: FnOnce(bool)>(Option<F>);

impl<F: FnOnce(bool)> Then<F> {
    fn call(mut self, is_told: bool) {
        if let Some(then) = self.0.take() {
            then(is_told);
        }
    }
}

impl<F: FnOnce(bool)> Drop for Then<F> {
    fn drop(&mut self) {
        if let Some(then) = self.0.take() {
            then(false);
        }
    }
}

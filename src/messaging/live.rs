//! Performs what the [`attempt`](crate::messaging::attempt) machine of one message wants, while its sender waits.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::endpoint::{ServerTransaction, TransactionUser, UserEvent, WakeId, clock};
use crate::home::{Mode, Refusal};
use crate::messaging::attempt::{Attempt, Ended, Output, Verdict};
use crate::messaging::{Messaging, Parcel, admission, copy};
use crate::model::{
    Aor, Content, Durability, Flow, MessageId, Moved, Plan, Reject, Row, StoredMessage, Timestamp, Waiting,
};
use crate::sip::forward::Hop;
use crate::sip::{HeaderName, Limits, Message, Request, StatusCode, forward};

/// One message whose sender waits for an answer.
struct Live {
    messaging: Arc<Messaging>,
    id: MessageId,
    /// The request, which the forwarding has meanwhile; read again when it is needed, which is seldom.
    bytes: Bytes,
    flow: Flow,
    transaction: ServerTransaction,
    sender: Aor,
    recipient: Aor,
    hop: Hop,
    now: Timestamp,
    /// Until when it may be kept.
    until: Option<Timestamp>,
    inner: Mutex<Inner>,
}

struct Inner {
    attempt: Attempt,
    /// What wakes us when the devices have had their time.
    patience: Option<WakeId>,
}

impl Messaging {
    /// Delivers a message to the devices of a user, or stores it.
    ///
    /// - `sender`: authenticated; From is theirs.
    /// - `recipient`: an account of ours.
    #[expect(clippy::too_many_arguments, reason = "what dispatch found out about one request")]
    pub fn deliver(
        self: &Arc<Self>,
        request: Request,
        flow: Flow,
        transaction: ServerTransaction,
        sender: Aor,
        recipient: Aor,
        hop: Hop,
        now: Timestamp,
    ) {
        let until = match self.policy.store {
            true => admission::kept_until(&request, now, self.policy.retention),
            false => None,
        };
        let behind = until.is_some() && !self.homes.read(&recipient).messages.is_empty();
        let (attempt, first) = Attempt::new(until.is_some(), behind);
        let id = MessageId(self.endpoint.random().bits128());
        let inner = Mutex::new(Inner { attempt, patience: None });
        let (messaging, bytes) = (self.clone(), request.bytes().clone());
        let live =
            Live { messaging, id, bytes, flow, transaction, sender, recipient, hop, now, until, inner };
        let live = Arc::new(live);
        match first {
            Output::Carry => live.carry(request),
            other => live.perform(other),
        }
    }
}

impl Live {
    /// Feeds the machine and performs what it wants, after the lock is let go: what is performed may come back at once.
    fn with<const N: usize>(self: &Arc<Self>, feed: impl FnOnce(&mut Attempt) -> [Option<Output>; N]) {
        let outputs = {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            feed(&mut inner.attempt)
        };
        outputs.into_iter().flatten().for_each(|output| self.perform(output));
    }

    fn perform(self: &Arc<Self>, output: Output) {
        match output {
            Output::Carry => {
                if let Some(request) = self.request() {
                    self.carry(request);
                }
            }
            Output::Store => self.store(),
            Output::PassOn(ended) => {
                self.forget_patience();
                match (ended.best, ended.answer) {
                    (Some((status, _)), Some(answer)) => self.transaction.respond(status, answer),
                    (best, _) => {
                        let status = best.map_or(StatusCode::TEMPORARILY_UNAVAILABLE, |(status, _)| status);
                        self.reject(&Reject::new(status));
                    }
                }
            }
            Output::Accept => {
                if let Some(request) = self.request() {
                    let accepted = self.transaction.response(&request, StatusCode::ACCEPTED).finish();
                    self.transaction.respond(StatusCode::ACCEPTED, accepted);
                }
            }
            Output::Refuse(reject) => self.reject(&reject),
            Output::Settle(verdict) => self.messaging.settle(&self.recipient, self.id, verdict),
        }
    }

    fn reject(&self, reject: &Reject) {
        if let Some(request) = self.request() {
            self.transaction.reject(&request, reject);
        }
    }

    /// The request as it came, stamped with where it came from.
    fn request(&self) -> Option<Request> {
        let limits = Limits { message: usize::MAX, ..Limits::default() };
        match Message::parse(self.bytes.clone(), false, &limits) {
            Ok(Message::Request(request)) => Some(forward::stamp(request, self.flow.remote)),
            Ok(Message::Response(_)) | Err(_) => {
                tracing::error!("a request that was read once does not read again");
                None
            }
        }
    }

    fn carry(self: &Arc<Self>, request: Request) {
        if self.until.is_some() {
            let user: Weak<dyn TransactionUser> = Arc::downgrade(self) as Weak<dyn TransactionUser>;
            let wake = self.messaging.endpoint.wake(self.messaging.policy.patience, user, 0);
            self.inner.lock().unwrap_or_else(PoisonError::into_inner).patience = Some(wake);
        }
        let live = self.clone();
        (self.messaging.carrier)(Parcel {
            request,
            from: Some(self.flow),
            user: self.recipient.clone(),
            hop: self.hop,
            told: Box::new(move |outcomes, answer| {
                let ended = Ended::new(outcomes, answer);
                live.with(|attempt| [attempt.handle_ended(ended)]);
            }),
        });
    }

    fn forget_patience(&self) {
        let patience = self.inner.lock().unwrap_or_else(PoisonError::into_inner).patience.take();
        if let Some(wake) = patience {
            self.messaging.endpoint.forget(wake);
        }
    }

    fn is_out(&self) -> bool {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).attempt.is_out()
    }

    /// Puts it before the store. The sender hears nothing before it is on disk.
    fn store(self: &Arc<Self>) {
        self.forget_patience();
        let messaging = &self.messaging;
        let kept = self.request().and_then(|request| {
            let head = copy::head(&request, self.id, &messaging.policy.domain, self.now)?;
            Some((request, head, self.until?))
        });
        let Some((request, head, expires_at)) = kept else {
            let reject = Reject::new(StatusCode::TEMPORARILY_UNAVAILABLE);
            return self.with(|attempt| [attempt.handle_refused(reject)]);
        };
        let content = Content {
            sender: self.sender.clone(),
            call_id: request.call_id().unwrap_or_default().into(),
            head,
            // A copy: it outlives the request, of which it is often the smaller part.
            body: Bytes::copy_from_slice(request.body()),
        };
        if self.is_out() {
            messaging.outbox().hold(&self.recipient, self.id);
        }
        let (max_messages, max_bytes) = (messaging.policy.max_messages, messaging.policy.max_bytes);
        let (id, recipient, now) = (self.id, self.recipient.clone(), self.now);
        let retry_after = self.transaction.retry_after();
        let live = self.clone();
        messaging.homes.change(
            &self.recipient,
            move |home, mode| {
                if mode == Mode::Volatile {
                    // A promise that only memory keeps is none.
                    let reject = Reject::new(StatusCode::SERVICE_UNAVAILABLE);
                    return Err(reject.with(HeaderName::RetryAfter, retry_after.as_str()));
                }
                let size = u32::try_from(content.head.len() + content.body.len()).unwrap_or(u32::MAX);
                let bytes = home.messages.bytes().saturating_add(size.into());
                if home.messages.len() >= max_messages || bytes > max_bytes {
                    // `A24`: that user has no room; the others have.
                    return Err(Reject::because(StatusCode::TEMPORARILY_UNAVAILABLE, "Mailbox Full"));
                }
                let taken_at = home.messages.next_place(now);
                let waiting = Waiting { id, taken_at, expires_at, size };
                let content = Some(content.clone());
                let message = StoredMessage { recipient: recipient.clone(), waiting, content };
                let rows = SmallVec::from_buf([Row::PutMessage(message.into())]);
                let moved = Moved { presence: true, watchers: false };
                Ok((Plan { rows, durability: Durability::Durable, moved }, ()))
            },
            move |result| match result {
                Ok(_) => live.stored(),
                Err(refusal) => live.refused(refusal),
            },
        );
    }

    fn stored(self: &Arc<Self>) {
        tracing::debug!(id = %self.id, recipient = %self.recipient, "a message is stored");
        let was_out = self.is_out();
        self.with(Attempt::handle_stored);
        if !was_out {
            self.messaging.stored(&self.recipient);
        }
    }

    fn refused(self: &Arc<Self>, refusal: Refusal) {
        self.messaging.outbox().release(&self.recipient, self.id);
        let reject = match refusal {
            Refusal::Reject(reject) => reject,
            Refusal::Fault => Reject::new(StatusCode::SERVICE_UNAVAILABLE)
                .with(HeaderName::RetryAfter, self.transaction.retry_after()),
        };
        self.with(|attempt| [attempt.handle_refused(reject)]);
    }
}

impl TransactionUser for Live {
    fn event(self: Arc<Self>, event: UserEvent) {
        match event {
            UserEvent::Timer { .. } => self.with(|attempt| [attempt.handle_patience()]),
            // It sends nothing by itself, and nobody cancels a MESSAGE (RFC 3261 9.1).
            UserEvent::Response { .. }
            | UserEvent::Timeout { .. }
            | UserEvent::TransportFailed { .. }
            | UserEvent::Cancelled { .. } => {}
        }
    }
}

impl Messaging {
    /// The devices have said what they will to a message that is stored since.
    fn settle(self: &Arc<Self>, recipient: &Aor, id: MessageId, verdict: Verdict) {
        match verdict {
            Verdict::Delivered | Verdict::Never(_) => {
                let (messaging, of) = (self.clone(), recipient.clone());
                self.remove(recipient, id, move |removed| {
                    // Until its row is gone nobody else may send it.
                    if !removed {
                        messaging.outbox().handle_undropped(&of, id);
                        messaging.outbox().release(&of, id);
                    }
                    messaging.stored(&of);
                });
            }
            Verdict::Later | Verdict::TooLarge => {
                self.outbox().release(recipient, id);
                let now = clock::now();
                if self.homes.read(recipient).live_bindings(now).next().is_some() {
                    self.outbox().handle_failed(recipient, clock::instant());
                }
                self.stored(recipient);
            }
        }
    }

    /// A message was stored, or is free to be sent.
    fn stored(&self, recipient: &Aor) {
        self.outbox().handle_stored(recipient, clock::instant());
        self.wakes.notify_one();
    }
}

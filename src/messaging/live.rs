//! Performs what the [`attempt`](crate::messaging::attempt) machine of one message wants, while its sender waits.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;

use crate::endpoint::{ServerTransaction, TransactionUser, UserEvent, WakeId, clock};
use crate::home::Refusal;
use crate::messaging::admission::{Carried, Kind};
use crate::messaging::attempt::{Attempt, Ended, Output, Verdict};
use crate::messaging::duplicates::Seen;
use crate::messaging::keep::Keep;
use crate::messaging::lanes::Place;
use crate::messaging::trace::{About, Step, Traced};
use crate::messaging::{Messaging, Parcel, admission, copy, failpoint, noting};
use crate::model::{Aor, Content, Flow, HomeState, MessageId, Reject, Timestamp};
use crate::sip::forward::Hop;
use crate::sip::{HeaderName, Limits, Message, Request, StatusCode, forward};

/// One message whose sender waits for an answer.
pub(super) struct Live {
    messaging: Arc<Messaging>,
    id: MessageId,
    /// What makes it this message and no other.
    key: u64,
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
    /// From when on it says nothing any more.
    stale_from: Option<Timestamp>,
    traced: Arc<Traced>,
    /// It is answered, and stands in nobody's way.
    has_left: AtomicBool,
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
        let carried = Carried::by(&request);
        let key = self.key(&request, carried, &sender, &recipient);
        let Some((transaction, request)) = self.unless_known(key, transaction, request) else { return };
        failpoint::reach("taken in");
        let id = MessageId(self.endpoint.random().bits128());
        if let Err(reject) = self.is_honest(&request, carried, &sender, &recipient) {
            self.answered(key, reject.status);
            return transaction.reject(&request, &reject);
        }
        let about = About {
            id,
            call_id: request.call_id().unwrap_or_default().into(),
            message_id: carried.message_id(&request).map(Into::into),
            sender: sender.clone(),
            recipient: recipient.clone(),
            kind: carried.kind,
            bytes: request.body().len(),
        };
        let traced = self.trace.begin(about, now, Step::Came(flow.transport));
        let until = match self.policy.store {
            true => admission::kept_until(&request, carried, now, self.policy.retention),
            false => None,
        };
        if let Some(status) = admission::barred(&self.homes.read(&recipient), &sender, until.is_some(), now) {
            self.answered(key, status);
            traced.note(now, Step::Answered(status));
            return match status.is_success() {
                true => {
                    transaction.respond(status, transaction.response(&request, status).finish());
                    // Who is not to notice is told what the others are, within the same bounds.
                    if self.protection.take(carried.kind, &sender, &recipient, true, now).is_ok() {
                        self.tell_stored(&request, &sender, &recipient, id, now);
                    }
                }
                false => transaction.reject(&request, &Reject::new(status)),
            };
        }
        let stale_from = admission::stale_from(&request, carried, now);
        if stale_from.is_some_and(|at| at <= now) {
            // RFC 3994 3.3: whoever got it now would be told what is not so.
            let reject = Reject::because(StatusCode::TEMPORARILY_UNAVAILABLE, "Out Of Date");
            self.answered(key, reject.status);
            traced.note(now, Step::Answered(reject.status));
            return transaction.reject(&request, &reject);
        }
        // Who is watched by the recipient is no stranger.
        let is_known = sender == recipient || self.homes.read(&sender).is_watched_by(&recipient, now);
        if let Err(seconds) = self.protection.take(carried.kind, &sender, &recipient, is_known, now) {
            let reject = Reject::because(StatusCode::SERVICE_UNAVAILABLE, "Too Many Messages");
            self.answered(key, StatusCode::SERVICE_UNAVAILABLE);
            traced.note(now, Step::Answered(StatusCode::SERVICE_UNAVAILABLE));
            return transaction.reject(&request, &reject.with(HeaderName::RetryAfter, seconds.to_string()));
        }
        self.note_recipient(&request, carried, &sender, &recipient);
        failpoint::reach("admitted");
        let attempt = Attempt::queued(until.is_some());
        let inner = Mutex::new(Inner { attempt, patience: None });
        let (messaging, bytes) = (self.clone(), request.bytes().clone());
        let live = Arc::new(Live {
            messaging,
            id,
            key,
            bytes,
            flow,
            transaction,
            sender,
            recipient,
            hop,
            now,
            until,
            stale_from,
            traced,
            has_left: AtomicBool::new(false),
            inner,
        });
        let place = self.lanes().enter(&live.recipient, id, live.clone());
        match place {
            Place::First => {
                live.wait_for_devices();
                live.turn(Some(request));
            }
            Place::Waits => {
                live.wait_for_devices();
                live.note(Step::Waits);
                failpoint::reach("waits for its turn");
            }
            Place::None => {
                let retry_after = live.transaction.retry_after();
                let reject = Reject::new(StatusCode::SERVICE_UNAVAILABLE);
                live.perform(Output::Refuse(reject.with(HeaderName::RetryAfter, retry_after)));
            }
        }
    }

    /// RFC 5438 6.3: a Message-ID is of one message for ever; without one, From, Call-ID and CSeq tell (RFC 3261 8.2.2.2).
    pub(super) fn key(&self, request: &Request, carried: Carried, sender: &Aor, recipient: &Aor) -> u64 {
        match carried.message_id(request) {
            Some(id) => self.hasher.hash_one((sender, recipient, id)),
            None => {
                let from = request.from().ok();
                let tag = from.as_ref().and_then(|from| from.tag());
                let cseq = request.cseq().ok().map(|cseq| cseq.number);
                self.hasher.hash_one((sender, recipient, tag, request.value(HeaderName::CallId), cseq))
            }
        }
    }

    /// The same, if it has not come before; else it has its answer, or will have that of the first.
    pub(super) fn unless_known(
        &self,
        key: u64,
        transaction: ServerTransaction,
        request: Request,
    ) -> Option<(ServerTransaction, Request)> {
        let asked = self.duplicates().seen(key, (transaction, request), clock::instant());
        match asked {
            Seen::Never(message) => return Some(message),
            Seen::Waits => {}
            Seen::Taken(status, (transaction, request)) => {
                transaction.respond(status, transaction.response(&request, status).finish());
            }
            // RFC 3261 8.2.2.2.
            Seen::TooOften((transaction, request)) => {
                transaction.reject(&request, &Reject::new(StatusCode::LOOP_DETECTED));
            }
        }
        None
    }

    /// The sender of a message is answered next: so are those who asked for the same. Before it, for a sender who hears that it was refused may try
    /// again at once.
    pub(super) fn answered(&self, key: u64, status: StatusCode) {
        let waiting = self.duplicates().answered(key, status, clock::instant());
        for (transaction, request) in waiting {
            match status.is_success() {
                true => transaction.respond(status, transaction.response(&request, status).finish()),
                false => transaction.reject(&request, &Reject::new(status)),
            }
        }
    }

    /// It is answered: the next one for the same recipient has its turn.
    fn leave(&self, recipient: &Aor, id: MessageId) {
        let next = self.lanes().leave(recipient, id);
        if let Some(next) = next {
            let again = next.clone();
            // Not here: many may be answered one after the other as soon as they have their turn.
            if !self.endpoint.spawn(async move { again.turn(None) }) {
                next.turn(None);
            }
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
                    self.carry(request, self.messaging.homes.read(&self.recipient));
                }
            }
            Output::Store => self.store(),
            Output::PassOn(ended) => {
                self.forget_patience();
                let status = ended.best.map_or(StatusCode::TEMPORARILY_UNAVAILABLE, |(status, _)| status);
                failpoint::reach("passes on");
                self.answers(status);
                match ended.answer {
                    Some(answer) => self.transaction.respond(status, answer),
                    None => self.reject(&Reject::new(status)),
                }
                failpoint::reach("passed on");
                self.leave();
            }
            Output::Accept => {
                self.forget_patience();
                failpoint::reach("accepts");
                self.answers(StatusCode::ACCEPTED);
                if let Some(request) = self.request() {
                    let accepted = self.transaction.response(&request, StatusCode::ACCEPTED).finish();
                    self.transaction.respond(StatusCode::ACCEPTED, accepted);
                    let (messaging, of) = (&self.messaging, (&self.sender, &self.recipient));
                    messaging.tell_stored(&request, of.0, of.1, self.id, self.now);
                }
                failpoint::reach("accepted");
                self.leave();
            }
            Output::Refuse(reject) => {
                self.forget_patience();
                self.answers(reject.status);
                self.reject(&reject);
                self.leave();
            }
            Output::Settle(verdict) => self.messaging.settle(&self.recipient, self.id, verdict),
        }
    }

    fn note(&self, step: Step) {
        self.traced.note(clock::now(), step);
    }

    /// Nothing else is on its way to the recipient. `request`: if it is at hand.
    fn turn(self: &Arc<Self>, request: Option<Request>) {
        if self.messaging.is_unsure(&self.recipient) {
            let live = self.clone();
            let waits = self.messaging.endpoint.spawn(async move {
                live.messaging.until_sure().await;
                live.turn_after_recovery(None);
            });
            if waits {
                return;
            }
        }
        self.turn_after_recovery(request);
    }

    /// The same, when it is known what was stored right before the start.
    fn turn_after_recovery(self: &Arc<Self>, request: Option<Request>) {
        if self.until.is_some()
            && self.messaging.has_recovered(clock::now())
            && self
                .request()
                .is_some_and(|it| self.messaging.is_recovered(&it, &self.sender, &self.recipient))
        {
            return self.with(|attempt| [attempt.handle_known()]);
        }
        // Now, not earlier: the one before it may just have been stored.
        let home = self.messaging.homes.read(&self.recipient);
        let behind = self.until.is_some() && self.messaging.outbox().owes(&home);
        let output = {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            match self.stale_from.is_some_and(|at| at <= clock::now()) {
                // RFC 3994 3.3: it has waited for too long.
                true => inner.attempt.handle_patience(),
                false => inner.attempt.handle_turn(behind),
            }
        };
        match (output, request) {
            (Some(Output::Carry), Some(request)) => self.carry(request, home),
            (Some(output), _) => self.perform(output),
            (None, _) => {}
        }
    }

    /// The sender is answered next, and so are those who asked for the same.
    fn answers(&self, status: StatusCode) {
        self.note(Step::Answered(status));
        self.messaging.answered(self.key, status);
    }

    fn leave(&self) {
        if !self.has_left.swap(true, Ordering::Relaxed) {
            self.messaging.leave(&self.recipient, self.id);
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

    /// From now on: the sender waits no longer for those who are sent to before it.
    fn wait_for_devices(self: &Arc<Self>) {
        let user: Weak<dyn TransactionUser> = Arc::downgrade(self) as Weak<dyn TransactionUser>;
        let wake = self.messaging.endpoint.wake(self.messaging.policy.patience, user, 0);
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).patience = Some(wake);
    }

    /// - `home`: of the recipient, as it is now.
    fn carry(self: &Arc<Self>, request: Request, home: Arc<HomeState>) {
        let live = self.clone();
        let (later, silence) = self.messaging.later(&home, clock::now());
        failpoint::reach("carries");
        (self.messaging.carrier)(Parcel {
            request,
            from: Some(self.flow),
            home,
            hop: self.hop,
            later,
            silence,
            noted: noting(Some(self.traced.clone())),
            told: Box::new(move |outcomes, answer| {
                failpoint::reach("was answered");
                let ended = Ended::new(outcomes, answer);
                live.with(|attempt| [attempt.handle_ended(ended)]);
            }),
        });
        failpoint::reach("carried");
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
        let keep = Keep {
            id: self.id,
            content,
            expires_at,
            is_notification: admission::kind(&request) == Kind::Notification,
            room: messaging.policy.room(),
            retry_after: self.transaction.retry_after(),
        };
        let (live, now) = (self.clone(), self.now);
        self.note(Step::Stores);
        failpoint::reach("stores");
        messaging.homes.change(
            &self.recipient,
            move |home, mode| keep.decide(home, mode, now),
            move |result| match result {
                Ok(_) => live.stored(),
                Err(refusal) => live.refused(refusal),
            },
        );
    }

    fn stored(self: &Arc<Self>) {
        failpoint::reach("stored");
        self.note(Step::Stored);
        tracing::debug!(id = %self.id, recipient = %self.recipient, "a message is stored");
        let was_out = self.is_out();
        self.with(Attempt::handle_stored);
        if !was_out {
            self.messaging.stored(&self.recipient);
            failpoint::reach("put before the outbox");
        }
    }

    fn refused(self: &Arc<Self>, refusal: Refusal) {
        self.messaging.outbox().release(&self.recipient, self.id);
        let reject = match refusal {
            Refusal::Reject(reject) => reject,
            Refusal::Fault => Reject::new(StatusCode::SERVICE_UNAVAILABLE)
                .with(HeaderName::RetryAfter, self.transaction.retry_after()),
        };
        self.note(Step::NotStored(reject.status));
        self.with(|attempt| [attempt.handle_refused(reject)]);
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // However it ended, nobody waits for it.
        if !self.has_left.load(Ordering::Relaxed) {
            self.messaging.answered(self.key, StatusCode::SERVER_INTERNAL_ERROR);
            self.leave();
        }
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
    pub(super) fn settle(self: &Arc<Self>, recipient: &Aor, id: MessageId, verdict: Verdict) {
        match verdict {
            Verdict::Never(_) => {
                let (messaging, of) = (self.clone(), recipient.clone());
                self.tell_failed(recipient, id, move |is_told| {
                    let verdict = if is_told { Verdict::Delivered } else { Verdict::Later };
                    messaging.settle(&of, id, verdict);
                });
            }
            Verdict::Delivered => {
                let (messaging, of) = (self.clone(), recipient.clone());
                failpoint::reach("settles");
                self.remove(recipient, vec![id], move |removed| {
                    failpoint::reach("settled");
                    if removed {
                        messaging.trace.note(id, clock::now(), over(verdict));
                    }
                    // Until its row is gone nobody else may send it.
                    if !removed {
                        messaging.outbox().handle_undropped(&of, id, clock::instant());
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
    pub(super) fn stored(&self, recipient: &Aor) {
        self.outbox().handle_stored(recipient, clock::instant());
        self.wakes.notify_one();
    }
}

/// How a message has ended that is not sent any more.
pub(super) fn over(verdict: Verdict) -> Step {
    match verdict {
        Verdict::Delivered => Step::Delivered,
        Verdict::Never(_) => Step::GivenUp,
        Verdict::Later | Verdict::TooLarge => Step::Kept,
    }
}

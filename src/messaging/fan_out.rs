//! Performs a MESSAGE for many recipients (RFC 5365): all copies are on disk before the sender hears 202, or none is sent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::endpoint::ServerTransaction;
use crate::home::Refusal;
use crate::messaging::admission::{Carried, Kind};
use crate::messaging::attempt::Verdict;
use crate::messaging::imdn::Wishes;
use crate::messaging::keep::Keep;
use crate::messaging::lists::List;
use crate::messaging::{Messaging, admission, copy};
use crate::model::{Aor, Content, MessageId, Reject, Timestamp};
use crate::sip::{HeaderName, Request, StatusCode, Uri};

/// A copy that is to be kept.
struct Copy {
    recipient: Aor,
    keep: Keep,
}

/// A copy whose sender asks to be told of it (RFC 5438), as it is sent. Whoever is not to get it does not show by silence.
struct Asked {
    recipient: Aor,
    id: MessageId,
    sent: Request,
}

/// Copies on their way to the disk.
struct FanOut {
    messaging: Arc<Messaging>,
    key: u64,
    transaction: ServerTransaction,
    sender: Aor,
    now: Timestamp,
    progress: Mutex<Progress>,
}

struct Progress {
    /// Until it is answered.
    request: Option<Request>,
    left: usize,
    kept: Vec<(Aor, MessageId)>,
    asked: Vec<Asked>,
    /// The first of what was said against it.
    refused: Option<Reject>,
}

impl Messaging {
    /// Can messages be sent to lists here? What cannot be kept cannot be promised to many.
    pub fn serves_lists(&self) -> bool {
        self.policy.store
    }

    /// Keeps a copy for everybody in the list of the request, and sends them from there.
    ///
    /// - `sender`: authenticated; From is theirs.
    /// - `user`: whose address a URI would be; for other domains, the answer.
    /// - `exists`: is there such a user?
    pub fn deliver_to_list(
        self: &Arc<Self>,
        request: Request,
        transaction: ServerTransaction,
        sender: &Aor,
        user: impl Fn(&Uri<'_>) -> Result<Aor, Reject>,
        exists: impl Fn(&Aor) -> bool,
        now: Timestamp,
    ) {
        let key = self.key(&request, Carried::by(&request), sender, sender);
        let Some((transaction, request)) = self.unless_known(key, transaction, request) else { return };
        match self.copies(&request, sender, user, exists, &transaction.retry_after(), now) {
            Err(reject) => {
                self.answered(key, reject.status);
                transaction.reject(&request, &reject);
            }
            Ok((copies, asked)) => {
                let left = copies.len();
                let (request, kept) = (Some(request), Vec::new());
                let progress = Mutex::new(Progress { request, left, kept, asked, refused: None });
                let (messaging, sender) = (self.clone(), sender.clone());
                let fan_out = FanOut { messaging, key, transaction, sender, now, progress };
                Arc::new(fan_out).keep(copies);
            }
        }
    }

    /// The copies for those who get one, and of which their sender asks to be told: for who does not want to hear the sender there is none, and the sender is not to notice where the
    /// recipient wants it so.
    ///
    /// # Errors
    /// What the sender hears; nobody gets anything then.
    fn copies(
        &self,
        request: &Request,
        sender: &Aor,
        user: impl Fn(&Uri<'_>) -> Result<Aor, Reject>,
        exists: impl Fn(&Aor) -> bool,
        retry_after: &str,
        now: Timestamp,
    ) -> Result<(Vec<Copy>, Vec<Asked>), Reject> {
        let list = List::read(request, user, self.endpoint.random().bits128())?;
        if !list.recipients.iter().all(|recipient| self.homes.is_brought(&recipient.aor)) {
            // After a start: who is not in memory yet may exist.
            let reject = Reject::new(StatusCode::SERVICE_UNAVAILABLE);
            return Err(reject.with(HeaderName::RetryAfter, WHILE_LOADING_S.to_string()));
        }
        if !list.recipients.iter().all(|recipient| exists(&recipient.aor)) {
            return Err(Reject::new(StatusCode::NOT_FOUND));
        }
        let (mut copies, mut asked) = (Vec::with_capacity(list.recipients.len()), Vec::new());
        for recipient in list.recipients.iter().map(|recipient| &recipient.aor) {
            let id = MessageId(self.endpoint.random().bits128());
            let malformed = || Reject::new(StatusCode::BAD_REQUEST);
            let head = list.head(request, recipient, id, &self.policy.domain, now).ok_or_else(malformed)?;
            let call_id = request.call_id().unwrap_or_default().into();
            let content = Content { sender: sender.clone(), call_id, head, body: list.body().clone() };
            let sent = copy::request(recipient, &content, 1).ok_or_else(malformed)?;
            let carried = Carried::by(&sent);
            let expires_at = admission::kept_until(&sent, carried, now, self.policy.retention)
                .ok_or(Reject::because(StatusCode::TEMPORARILY_UNAVAILABLE, "For Now Or Never"))?;
            let is_wanted = match admission::barred(&self.homes.read(recipient), sender, true, now) {
                None => true,
                Some(status) if status.is_success() => false,
                Some(status) => return Err(Reject::new(status)),
            };
            // `A26`: for each recipient one, so that a list says no more than its sender could say without.
            let is_known = sender == recipient || self.homes.read(sender).is_watched_by(recipient, now);
            self.is_honest(&sent, carried, sender, recipient)?;
            if let Err(seconds) =
                self.protection.take(carried.kind, sender, recipient, is_known || !is_wanted, now)
            {
                let reject = Reject::because(StatusCode::SERVICE_UNAVAILABLE, "Too Many Messages");
                return Err(reject.with(HeaderName::RetryAfter, seconds.to_string()));
            }
            if is_wanted {
                self.note_recipient(&sent, carried, sender, recipient);
                let keep = Keep {
                    id,
                    content,
                    expires_at,
                    is_notification: carried.kind == Kind::Notification,
                    room: self.policy.room(),
                    retry_after: retry_after.to_owned(),
                };
                copies.push(Copy { recipient: recipient.clone(), keep });
            }
            if carried.cpim(&sent).is_some_and(|cpim| Wishes::of(cpim).are_any()) {
                asked.push(Asked { recipient: recipient.clone(), id, sent });
            }
        }
        Ok((copies, asked))
    }
}

impl FanOut {
    fn keep(self: &Arc<Self>, copies: Vec<Copy>) {
        if copies.is_empty() {
            return self.end();
        }
        // Nobody gets a copy before everybody's is on disk.
        for copy in &copies {
            self.messaging.outbox().hold(&copy.recipient, copy.keep.id);
        }
        for copy in copies {
            self.keep_one(copy);
        }
    }

    fn keep_one(self: &Arc<Self>, copy: Copy) {
        let Copy { recipient, keep } = copy;
        let (whose, id) = (recipient.clone(), keep.id);
        let (fan_out, now) = (self.clone(), self.now);
        self.messaging.homes.change(
            &recipient,
            move |home, mode| keep.decide(home, mode, now),
            move |result| fan_out.one_more(whose, id, result.map(|_| ()).err()),
        );
    }

    /// One copy is on disk, or will not be.
    fn one_more(self: &Arc<Self>, recipient: Aor, id: MessageId, refusal: Option<Refusal>) {
        let is_last = {
            let mut progress = self.progress();
            match refusal {
                None => progress.kept.push((recipient, id)),
                Some(refusal) => {
                    self.messaging.outbox().release(&recipient, id);
                    let reject = match refusal {
                        Refusal::Reject(reject) => reject,
                        Refusal::Fault => Reject::new(StatusCode::SERVICE_UNAVAILABLE)
                            .with(HeaderName::RetryAfter, self.transaction.retry_after()),
                    };
                    progress.refused.get_or_insert(reject);
                }
            }
            progress.left = progress.left.saturating_sub(1);
            progress.left == 0
        };
        if is_last {
            self.end();
        }
    }

    /// Everybody's is on disk, or nobody gets one.
    fn end(&self) {
        let messaging = &self.messaging;
        let (request, kept, asked, refused) = {
            let mut progress = self.progress();
            let (kept, asked) = (std::mem::take(&mut progress.kept), std::mem::take(&mut progress.asked));
            (progress.request.take(), kept, asked, progress.refused.take())
        };
        let Some(request) = request else { return };
        match refused {
            None => {
                messaging.answered(self.key, StatusCode::ACCEPTED);
                let accepted = self.transaction.response(&request, StatusCode::ACCEPTED).finish();
                self.transaction.respond(StatusCode::ACCEPTED, accepted);
                for (recipient, id) in kept {
                    tracing::debug!(%id, %recipient, "a message of a list is stored");
                    messaging.outbox().release(&recipient, id);
                    messaging.stored(&recipient);
                }
                for Asked { recipient, id, sent } in asked {
                    messaging.tell_stored(&sent, &self.sender, &recipient, id, self.now);
                }
            }
            Some(reject) => {
                for (recipient, id) in kept {
                    messaging.settle(&recipient, id, Verdict::Delivered);
                }
                messaging.answered(self.key, reject.status);
                self.transaction.reject(&request, &reject);
            }
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A start takes seconds.
const WHILE_LOADING_S: u32 = 5;

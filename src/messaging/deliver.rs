//! Sends what is stored: one message of a recipient at a time, recipients one after the other, at a pace that leaves room for calls.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::watch;
use tokio::time::sleep_until;

use crate::endpoint::clock;
use crate::messaging::attempt::{Verdict, verdict};
use crate::messaging::cpim::{self, Cpim};
use crate::messaging::live::over;
use crate::messaging::outbox::{End, Turn};
use crate::messaging::trace::{About, Step, Traced};
use crate::messaging::{Messaging, Parcel, admission, copy, failpoint, noting};
use crate::model::{Aor, Content, Durability, MessageId, Moved, Plan, Row, Timestamp, Waiting};
use crate::sip::Request;
use crate::sip::forward::Hop;

impl Messaging {
    /// Sends what is due, until `stop` is set.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        self.recover().await;
        self.resume();
        let (mut last, mut in_vain) = (clock::instant(), 0);
        loop {
            let due = self.outbox().next_due().map(|due| due.max(last + PACE));
            let wait = async {
                match due {
                    Some(due) => sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = stop.changed() => return,
                // A wake that is lost with this branch was for an outbox that is looked at again right below.
                () = self.wakes.notified() => {}
                () = wait => {}
            }
            let now = clock::instant();
            if now < last + PACE || self.draining.load(Ordering::Acquire) {
                continue;
            }
            let Some(user) = self.outbox().next(now) else { continue };
            let turn = catch_unwind(AssertUnwindSafe(|| self.serve(&user)));
            let is_served = turn.unwrap_or_else(|_| {
                tracing::error!("sending a stored message panicked; the others go on");
                self.ended(&user, End::Kept);
                true
            });
            in_vain = if is_served { 0 } else { in_vain + 1 };
            // Who is not there takes no turn from who is.
            if is_served || in_vain >= LOOKS_PER_PACE {
                (last, in_vain) = (now, 0);
            }
        }
    }

    /// A device of this user has registered.
    pub fn reachable(&self, user: &Aor) {
        self.outbox().handle_reachable(user, clock::instant());
        self.wakes.notify_one();
    }

    /// From now on nothing stored is sent; what is under way ends.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Waits until nothing stored is under way.
    pub async fn drained(&self) {
        loop {
            let settled = self.settled.notified();
            if self.outbox().under_way() == 0 {
                return;
            }
            settled.await;
        }
    }

    /// After a start: whatever is stored is tried again.
    fn resume(&self) {
        self.is_resident.store(true, Ordering::Release);
        let users = self.homes.with_messages();
        if !users.is_empty() {
            tracing::info!(users = users.len(), "messages are stored for users");
        }
        let (mut outbox, now) = (self.outbox(), clock::instant());
        users.iter().for_each(|user| outbox.handle_reachable(user, now));
        drop(outbox);
        failpoint::reach("resumed");
    }

    /// One turn of one recipient. `false`: there was nothing to do.
    fn serve(self: &Arc<Self>, user: &Aor) -> bool {
        failpoint::reach("picked");
        let home = self.homes.read(user);
        let (now, instant) = (clock::now(), clock::instant());
        let turn = self.outbox().turn(&home, now);
        match turn {
            Turn::Drop(id, expired) => {
                match expired {
                    true => {
                        tracing::debug!(id = %id, recipient = %user, "a stored message expired");
                        self.give_up(user, id, Step::Expired);
                    }
                    false => self.drop_message(user, id, Step::Delivered),
                }
                true
            }
            Turn::Send(next) if home.live_bindings(now).next().is_some() => {
                self.send(user, next, now);
                true
            }
            Turn::Send(_) | Turn::Rest => {
                let expiry = home.messages.next_expiry();
                let until = expiry.map(|at| instant + at.duration_from(now).max(NOT_AT_ONCE));
                self.ended(user, End::Rested(until));
                false
            }
        }
    }

    fn send(self: &Arc<Self>, user: &Aor, next: Waiting, now: Timestamp) {
        if self.homes.store().is_out() {
            return self.ended(user, End::Kept);
        }
        // Numbers that grow over restarts too, without being kept: turns are a pace apart, so every one counts on.
        let age = now.duration_from(next.taken_at).as_millis() / PACE.as_millis() + 1;
        let cseq = u32::try_from(age).unwrap_or(u32::MAX).min(i32::MAX.cast_unsigned());
        let (messaging, to) = (self.clone(), user.clone());
        let started = self.endpoint.spawn(async move {
            failpoint::reach("reads");
            match messaging.homes.store().content(&to, next.id).await {
                Ok(Some(content)) => match copy::request(&to, &content, cseq) {
                    Some(request) => {
                        let traced = messaging.traced(&to, next, &content, &request);
                        traced.note(clock::now(), Step::Picked);
                        messaging.carry_stored(request, to, next.id, traced);
                    }
                    None => {
                        tracing::error!(id = %next.id, "a stored message does not read back");
                        messaging.drop_message(&to, next.id, Step::Unreadable);
                    }
                },
                // Somebody else removed the row: nothing is owed any more.
                Ok(None) => messaging.drop_message(&to, next.id, Step::Unreadable),
                Err(fault) => {
                    tracing::warn!(%fault, "a stored message could not be read; it is tried again");
                    messaging.ended(&to, End::Kept);
                }
            }
        });
        if !started {
            self.ended(user, End::Kept);
        }
    }

    fn carry_stored(self: &Arc<Self>, request: Request, user: Aor, id: MessageId, traced: Arc<Traced>) {
        let (messaging, to) = (self.clone(), user.clone());
        let (later, silence) = self.later(&self.homes.read(&user), clock::now());
        let noted = noting(Some(traced.clone()));
        failpoint::reach("sends");
        (self.carrier)(Parcel {
            request,
            from: None,
            user,
            hop: Hop { max_forwards: 70, own_routes: 0, breadth: 60 },
            later,
            silence,
            noted,
            told: Box::new(move |outcomes, _| {
                failpoint::reach("was taken");
                let verdict = verdict(outcomes);
                tracing::debug!(id = %id, recipient = %to, ?verdict, "a stored message was sent");
                match verdict {
                    Verdict::Delivered => messaging.drop_message(&to, id, over(verdict)),
                    Verdict::Never(_) => messaging.give_up(&to, id, over(verdict)),
                    Verdict::Later => {
                        traced.note(clock::now(), Step::Kept);
                        messaging.ended(&to, End::Kept);
                    }
                    Verdict::TooLarge => {
                        traced.note(clock::now(), Step::Kept);
                        messaging.ended(&to, End::TooLarge(id));
                    }
                }
            }),
        });
        failpoint::reach("sent");
    }

    /// Nothing more is owed for this message, whose turn it was: its row goes.
    pub(super) fn drop_message(self: &Arc<Self>, user: &Aor, id: MessageId, why: Step) {
        let (messaging, of) = (self.clone(), user.clone());
        failpoint::reach("drops");
        self.remove(user, id, move |removed| {
            failpoint::reach("dropped");
            if removed {
                messaging.trace.note(id, clock::now(), why);
            }
            messaging.ended(&of, if removed { End::Gone } else { End::Undropped(id) });
        });
    }

    /// Removes the row of a message, and says whether it is gone. From the disk it goes a little later with others, and nobody waits for that: if the server
    /// dies meanwhile, each of them comes once more, as it would have if the server had died a moment before the device answered.
    pub(super) fn remove(
        self: &Arc<Self>,
        user: &Aor,
        id: MessageId,
        then: impl FnOnce(bool) + Send + 'static,
    ) {
        let (messaging, of) = (self.clone(), user.clone());
        self.homes.change(
            user,
            move |home, _| {
                if !home.messages.iter().any(|one| one.id == id) {
                    return Ok((Plan::nothing(), ()));
                }
                let rows = SmallVec::from_buf([Row::DropMessage(home.aor.clone(), id)]);
                let moved = Moved { presence: true, watchers: false };
                Ok((Plan { rows, durability: Durability::Lazy, moved }, ()))
            },
            move |result| {
                if result.is_ok() {
                    messaging.outbox().handle_gone(&of, id);
                }
                then(result.is_ok());
            },
        );
    }

    /// The trace of a stored message; begun anew from its row if it is remembered no more.
    fn traced(&self, user: &Aor, row: Waiting, content: &Content, request: &Request) -> Arc<Traced> {
        self.trace.of(row.id).unwrap_or_else(|| {
            let traced = self.trace.begin(about(user, row, content, request), row.taken_at, Step::Stored);
            traced.note(clock::now(), Step::Found);
            traced
        })
    }

    /// What is known of messages with this name ([`Trace::find`](crate::messaging::trace::Trace::find)): remembered, or else found among those that are
    /// stored, of which the first so many are read.
    pub async fn find(&self, name: &str) -> Vec<Arc<Traced>> {
        let mut found = self.trace.find(name);
        if !found.is_empty() {
            return found;
        }
        let stored = self.homes.with_messages().into_iter().flat_map(|user| {
            let home = self.homes.read(&user);
            home.messages.iter().map(|row| (user.clone(), *row)).collect::<Vec<_>>()
        });
        for (user, row) in stored.take(MAX_READ) {
            let Ok(Some(content)) = self.homes.store().content(&user, row.id).await else { continue };
            let Some(request) = copy::request(&user, &content, 1) else { continue };
            if about(&user, row, &content, &request).is_called(name) {
                found.push(self.traced(&user, row, &content, &request));
            }
        }
        found
    }

    pub(super) fn ended(&self, user: &Aor, end: End) {
        self.outbox().handle_end(user, end, clock::instant());
        failpoint::reach("turn over");
        self.wakes.notify_one();
        self.settled.notify_waiters();
    }
}

/// What a row says of its message.
fn about(user: &Aor, row: Waiting, content: &Content, request: &Request) -> About {
    About {
        id: row.id,
        call_id: content.call_id.clone(),
        message_id: Cpim::of(request).and_then(|cpim| cpim.value(cpim::IMDN, "Message-ID")).map(Into::into),
        sender: content.sender.clone(),
        recipient: user.clone(),
        kind: admission::kind(request),
        bytes: content.body.len(),
    }
}

/// Rows that a question of the operator reads at most.
const MAX_READ: usize = 5_000;
/// Between the beginnings of two turns, over all recipients: a thousand users who come back at once take two seconds.
const PACE: Duration = Duration::from_millis(2);
/// Users in a row for whom nothing can be done now; then all wait for a pace.
const LOOKS_PER_PACE: u32 = 64;
/// What has expired and cannot go yet is not looked at all the time.
const NOT_AT_ONCE: Duration = Duration::from_secs(1);

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
use crate::messaging::outbox::{End, Turn};
use crate::messaging::{Messaging, Parcel, copy};
use crate::model::{Aor, Durability, MessageId, Moved, Plan, Row, Timestamp, Waiting};
use crate::sip::Request;
use crate::sip::forward::Hop;

impl Messaging {
    /// Sends what is due, until `stop` is set.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        self.resume();
        let mut last = clock::instant();
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
            last = now;
            let turn = catch_unwind(AssertUnwindSafe(|| self.serve(&user)));
            if turn.is_err() {
                tracing::error!("sending a stored message panicked; the others go on");
                self.ended(&user, End::Kept);
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
    }

    /// One turn of one recipient.
    fn serve(self: &Arc<Self>, user: &Aor) {
        let home = self.homes.read(user);
        let (now, instant) = (clock::now(), clock::instant());
        let turn = self.outbox().turn(&home, now);
        match turn {
            Turn::Drop(id, expired) => {
                if expired {
                    tracing::debug!(id = %id, recipient = %user, "a stored message expired");
                    return self.give_up(user, id);
                }
                self.drop_message(user, id);
            }
            Turn::Send(next) if home.live_bindings(now).next().is_some() => self.send(user, next, now),
            Turn::Send(_) | Turn::Rest => {
                let expiry = home.messages.next_expiry();
                let until = expiry.map(|at| instant + at.duration_from(now).max(NOT_AT_ONCE));
                self.ended(user, End::Rested(until));
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
            match messaging.homes.store().content(next.id).await {
                Ok(Some(content)) => match copy::request(&to, &content, cseq) {
                    Some(request) => messaging.carry_stored(request, to, next.id),
                    None => {
                        tracing::error!(id = %next.id, "a stored message does not read back");
                        messaging.drop_message(&to, next.id);
                    }
                },
                // Somebody else removed the row: nothing is owed any more.
                Ok(None) => messaging.drop_message(&to, next.id),
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

    fn carry_stored(self: &Arc<Self>, request: Request, user: Aor, id: MessageId) {
        let (messaging, to) = (self.clone(), user.clone());
        (self.carrier)(Parcel {
            request,
            from: None,
            user,
            hop: Hop { max_forwards: 70, own_routes: 0, breadth: 60 },
            told: Box::new(move |outcomes, _| {
                let verdict = verdict(outcomes);
                tracing::debug!(id = %id, recipient = %to, ?verdict, "a stored message was sent");
                match verdict {
                    Verdict::Delivered => messaging.drop_message(&to, id),
                    Verdict::Never(_) => messaging.give_up(&to, id),
                    Verdict::Later => messaging.ended(&to, End::Kept),
                    Verdict::TooLarge => messaging.ended(&to, End::TooLarge(id)),
                }
            }),
        });
    }

    /// Nothing more is owed for this message, whose turn it was: its row goes, from the disk too.
    pub(super) fn drop_message(self: &Arc<Self>, user: &Aor, id: MessageId) {
        let (messaging, of) = (self.clone(), user.clone());
        self.remove(user, id, move |removed| {
            messaging.ended(&of, if removed { End::Gone } else { End::Undropped(id) });
        });
    }

    /// Removes the row of a message, and says whether it is gone.
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
                Ok((Plan { rows, durability: Durability::Durable, moved }, ()))
            },
            move |result| {
                if result.is_ok() {
                    messaging.outbox().handle_gone(&of, id);
                }
                then(result.is_ok());
            },
        );
    }

    pub(super) fn ended(&self, user: &Aor, end: End) {
        self.outbox().handle_end(user, end, clock::instant());
        self.wakes.notify_one();
        self.settled.notify_waiters();
    }
}

/// Between the beginnings of two turns, over all recipients: a thousand users who come back at once take two seconds.
const PACE: Duration = Duration::from_millis(2);
/// What has expired and cannot go yet is not looked at all the time.
const NOT_AT_ONCE: Duration = Duration::from_secs(1);

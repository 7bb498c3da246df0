//! Sends what is stored: one message of a recipient at a time, recipients one after the other, at a pace that leaves room for calls.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

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
use crate::model::{Aor, Content, Durability, MessageId, Moved, Plan, Row, Waiting};
use crate::sip::Request;
use crate::sip::forward::Hop;
use crate::store::Fault;

impl Messaging {
    /// Sends what is due, until `stop` is set.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        self.recover().await;
        self.resume();
        let (mut next_round, mut in_vain) = (clock::instant(), 0);
        loop {
            let due = {
                let outbox = self.outbox();
                let round = outbox.next_due().map(|due| due.max(next_round));
                round.into_iter().chain(outbox.next_tidy()).min()
            };
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
            if self.outbox().next_tidy().is_some_and(|at| at <= now) {
                self.tidy();
            }
            if now < next_round || self.draining.load(Ordering::Acquire) {
                continue;
            }
            let (looked, served) = self.round(now);
            in_vain = if served > 0 { 0 } else { in_vain + looked };
            // Who is not there takes no turn from who is.
            if served > 0 {
                next_round = now + PACE * served;
            } else if in_vain >= LOOKS_PER_PACE {
                (next_round, in_vain) = (now + PACE, 0);
            }
        }
    }

    /// Some recipients have their turns. Gives at how many was looked, and for how many there was something to do.
    fn round(self: &Arc<Self>, now: Instant) -> (usize, u32) {
        // All are chosen first: nobody has two turns in one round.
        let users: Vec<Aor> = {
            let mut outbox = self.outbox();
            std::iter::from_fn(|| outbox.next(now)).take(TURNS).collect()
        };
        let (mut served, mut owed) = (0, Vec::new());
        for user in &users {
            match contained(|| self.serve(user)) {
                Some(Served::Nothing) => continue,
                Some(Served::Owed(next)) => owed.push((user.clone(), next)),
                Some(Served::Done) => {}
                None => self.ended(user, End::Kept),
            }
            served += 1;
        }
        if !owed.is_empty() {
            self.send(owed);
        }
        (users.len(), served)
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

    /// Waits until nothing stored is under way, and nothing that was delivered would be sent again after a start.
    pub async fn drained(&self) {
        loop {
            let settled = self.settled.notified();
            if self.outbox().is_settled() {
                return;
            }
            settled.await;
        }
    }

    /// Rows of messages that are over go, with one commit.
    fn tidy(self: &Arc<Self>) {
        let over = self.outbox().tidy();
        for (user, ids) in over {
            contained(|| {
                let (messaging, of, all) = (self.clone(), user.clone(), ids.clone());
                ids.iter().for_each(|_| failpoint::reach("drops"));
                self.remove(&user, ids, move |removed| {
                    all.iter().for_each(|_| failpoint::reach("dropped"));
                    if !removed {
                        let (mut outbox, now) = (messaging.outbox(), clock::instant());
                        all.iter().for_each(|id| outbox.handle_undropped(&of, *id, now));
                        drop(outbox);
                        messaging.wakes.notify_one();
                    }
                    messaging.settled.notify_waiters();
                });
            });
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

    /// One turn of one recipient, but for what is to be sent.
    fn serve(self: &Arc<Self>, user: &Aor) -> Served {
        failpoint::reach("picked");
        let home = self.homes.read(user);
        let (now, instant) = (clock::now(), clock::instant());
        let turn = self.outbox().turn(&home, now, instant);
        match turn {
            Turn::Expired(id) => {
                tracing::debug!(id = %id, recipient = %user, "a stored message expired");
                self.give_up(user, id, Step::Expired);
                Served::Done
            }
            Turn::Send(next) if home.live_bindings(now).next().is_some() => Served::Owed(next),
            Turn::Send(_) | Turn::Rest => {
                let expiry = home.messages.next_expiry();
                let until = expiry.map(|at| instant + at.duration_from(now).max(NOT_AT_ONCE));
                self.ended(user, End::Rested(until));
                Served::Nothing
            }
        }
    }

    /// Sends what is owed to these users, one message to each: read together, with one question.
    fn send(self: &Arc<Self>, owed: Vec<(Aor, Waiting)>) {
        let users: Vec<Aor> = owed.iter().map(|(user, _)| user.clone()).collect();
        let messaging = self.clone();
        let started = !self.homes.store().is_out()
            && self.endpoint.spawn(async move {
                failpoint::reach("reads");
                let wanted: Vec<_> = owed.iter().map(|(user, next)| (user.clone(), next.id)).collect();
                match messaging.homes.store().contents(&wanted).await {
                    Ok(contents) => {
                        for ((user, next), content) in owed.iter().zip(contents) {
                            if contained(|| messaging.send_one(user, *next, content)).is_none() {
                                messaging.ended(user, End::Kept);
                            }
                        }
                    }
                    Err(fault) => {
                        tracing::warn!(%fault, "stored messages could not be read; they are tried again");
                        owed.iter().for_each(|(user, _)| messaging.ended(user, End::Kept));
                    }
                }
            });
        if !started {
            users.iter().for_each(|user| self.ended(user, End::Kept));
        }
    }

    fn send_one(self: &Arc<Self>, user: &Aor, next: Waiting, content: Result<Option<Content>, Fault>) {
        let content = match content {
            Ok(Some(content)) => content,
            // Somebody else removed the row: nothing is owed any more.
            Ok(None) => return self.drop_message(user, next.id, Step::Unreadable),
            Err(fault) => {
                tracing::warn!(%fault, "a stored message could not be read; it is tried again");
                return self.ended(user, End::Kept);
            }
        };
        // Numbers that grow over restarts too, without being kept: a user's turns are a pace apart, so every one counts on.
        let age = clock::now().duration_from(next.taken_at).as_millis() / PACE.as_millis() + 1;
        let cseq = u32::try_from(age).unwrap_or(u32::MAX).min(i32::MAX.cast_unsigned());
        match copy::request(user, &content, cseq) {
            Some(request) => {
                let traced = self.traced(user, next, &content, &request);
                traced.note(clock::now(), Step::Picked);
                self.carry_stored(request, user.clone(), next.id, traced);
            }
            None => {
                tracing::error!(id = %next.id, "a stored message does not read back");
                self.drop_message(user, next.id, Step::Unreadable);
            }
        }
    }

    fn carry_stored(self: &Arc<Self>, request: Request, user: Aor, id: MessageId, traced: Arc<Traced>) {
        let (messaging, to) = (self.clone(), user.clone());
        let home = self.homes.read(&user);
        let (later, silence) = self.later(&home, clock::now());
        let noted = noting(Some(traced.clone()));
        failpoint::reach("sends");
        (self.carrier)(Parcel {
            request,
            from: None,
            home,
            hop: Hop { max_forwards: 70, own_routes: 0, breadth: 60 },
            later,
            silence,
            noted,
            told: Box::new(move |outcomes, _| {
                failpoint::reach("was taken");
                let verdict = verdict(outcomes);
                tracing::debug!(id = %id, recipient = %to, ?verdict, "a stored message was sent");
                match verdict {
                    Verdict::Delivered => {
                        traced.note(clock::now(), over(verdict));
                        messaging.ended(&to, End::Over(id));
                    }
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

    /// Nothing more is owed for this message, whose turn it was: its row goes, from the disk too.
    pub(super) fn drop_message(self: &Arc<Self>, user: &Aor, id: MessageId, why: Step) {
        let (messaging, of) = (self.clone(), user.clone());
        failpoint::reach("drops");
        self.remove(user, vec![id], move |removed| {
            failpoint::reach("dropped");
            if removed {
                messaging.trace.note(id, clock::now(), why);
            }
            messaging.ended(&of, if removed { End::Gone } else { End::Undropped(id) });
        });
    }

    /// Removes the rows of messages, and says whether they are gone.
    pub(super) fn remove(
        self: &Arc<Self>,
        user: &Aor,
        ids: Vec<MessageId>,
        then: impl FnOnce(bool) + Send + 'static,
    ) {
        let (messaging, of, gone) = (self.clone(), user.clone(), ids.clone());
        self.homes.change(
            user,
            move |home, _| {
                let there = home.messages.iter().filter(|one| ids.contains(&one.id));
                let rows: SmallVec<[Row; 1]> =
                    there.map(|one| Row::DropMessage(home.aor.clone(), one.id)).collect();
                if rows.is_empty() {
                    return Ok((Plan::nothing(), ()));
                }
                let moved = Moved { presence: true, watchers: false };
                Ok((Plan { rows, durability: Durability::Durable, moved }, ()))
            },
            move |result| {
                if result.is_ok() {
                    let mut outbox = messaging.outbox();
                    gone.iter().for_each(|id| outbox.handle_gone(&of, *id));
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
        let mut outbox = self.outbox();
        let before = (outbox.next_due(), outbox.next_tidy());
        outbox.handle_end(user, end, clock::instant());
        let is_sooner = sooner(outbox.next_due(), before.0) || sooner(outbox.next_tidy(), before.1);
        drop(outbox);
        failpoint::reach("turn over");
        if is_sooner {
            self.wakes.notify_one();
        }
        self.settled.notify_waiters();
    }
}

/// One user's part of what is done for several. `None`: it panicked.
fn contained<T>(part: impl FnOnce() -> T) -> Option<T> {
    let done = catch_unwind(AssertUnwindSafe(part)).ok();
    if done.is_none() {
        tracing::error!("sending a stored message panicked; the others go on");
    }
    done
}

/// Must who waits for `before` be woken for this?
fn sooner(at: Option<Instant>, before: Option<Instant>) -> bool {
    at.is_some_and(|at| before.is_none_or(|before| at < before))
}

/// What came of a turn so far.
enum Served {
    /// There was nothing to do.
    Nothing,
    /// What there was is done, or under way.
    Done,
    /// This is to be sent.
    Owed(Waiting),
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
/// For each turn, over all recipients: a thousand users who come back at once take two seconds.
const PACE: Duration = Duration::from_millis(2);
/// So many have their turns at once, if as many are due; then all wait for as many paces. One awakening, one question to the store and mostly one reading of
/// the socket serve them all.
const TURNS: usize = 8;
/// Users in a row for whom nothing can be done now; then all wait for a pace.
const LOOKS_PER_PACE: usize = 64;
/// What has expired and cannot go yet is not looked at all the time.
const NOT_AT_ONCE: Duration = Duration::from_secs(1);

//! Server transactions in their table.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::endpoint::finished::{Answered, Finished, Repetition};
use crate::endpoint::incoming::{listens_on, reply_to};
use crate::endpoint::table::{self, Key, Table};
use crate::endpoint::wakes::Wakes;
use crate::endpoint::{Endpoint, TransactionUser, UserEvent, clock, count};
use crate::model::{Flow, Reject};
use crate::sip::{HeaderName, Limits, Message, Method, Request, StatusCode, Writer, forward};
use crate::transaction::{AckDisposition, Server, ServerKey, ServerOutput};
use crate::transport::SendError;

pub(super) struct Entry {
    machine: Server,
    /// Where the request came from.
    flow: Flow,
    /// Where responses go.
    reply_to: Flow,
    /// On streams: the port of sent-by, where the sender listens for responses whose connection is gone (18.2.2).
    listens_on: Option<u16>,
    /// Kept until the final response, for a 100. It is seldom needed, so it is read again then.
    request: Option<Taken>,
    user: Option<Arc<dyn TransactionUser>>,
    /// A CANCEL that came before there was a user to tell; its Reason.
    cancelled: Option<Option<String>>,
    /// The 200 to its CANCEL has the same.
    to_tag: Arc<str>,
    /// A final response is owed.
    owed: bool,
    /// What to do with it once it is finished.
    repetition: Repetition,
    scheduled: Option<Instant>,
}

/// A request that was taken on: its bytes, and when.
struct Taken {
    bytes: Bytes,
    at: Instant,
}

pub(super) struct Servers(Table<Entry, Finished>, Unanswered);

/// How many requests are owed a final response.
#[derive(Default)]
struct Unanswered {
    count: AtomicUsize,
    none: tokio::sync::Notify,
}

impl Servers {
    pub(super) fn new(capacity: usize) -> Servers {
        Servers(Table::new(capacity), Unanswered::default())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn begun(&self) {
        self.1.count.fetch_add(1, Ordering::AcqRel);
    }

    fn answered(&self) {
        if self.1.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.1.none.notify_waiters();
        }
    }

    /// Waits until every request that was taken on has its final response.
    pub(super) async fn all_answered(&self) {
        loop {
            let none = self.1.none.notified();
            if self.1.count.load(Ordering::Acquire) == 0 {
                return;
            }
            none.await;
        }
    }
}

/// The way back to one client: a request that was taken on and is owed exactly one final response.
pub struct ServerTransaction {
    endpoint: Arc<Endpoint>,
    key: Key,
    to_tag: Arc<str>,
}

impl std::fmt::Debug for ServerTransaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTransaction").finish_non_exhaustive()
    }
}

impl ServerTransaction {
    /// Our tag in To, if we answer this request ourselves.
    pub fn to_tag(&self) -> &str {
        &self.to_tag
    }
    /// A response of our own to `request` (RFC 3261 8.2.6), with the Server header, ready for more headers.
    pub fn response(&self, request: &Request, status: StatusCode) -> Writer {
        self.endpoint.with_server_header(Writer::respond(request, status, &self.to_tag))
    }
    /// Sends a response. After the first final one only 2xx to an INVITE still go out.
    pub fn respond(&self, status: StatusCode, response: Bytes) {
        self.endpoint.server_respond(self.key, status, response);
    }
    /// Answers with a refusal.
    pub fn reject(&self, request: &Request, reject: &Reject) {
        let writer = self.endpoint.rejection(request, reject, &self.to_tag);
        self.respond(reject.status, writer.finish());
    }
    /// Answers that we could not (a store or a queue of ours): never a challenge, never 404 (a phone that is challenged again asks for a password).
    pub fn fault(&self, request: &Request) {
        let reject =
            Reject::new(StatusCode::SERVICE_UNAVAILABLE).with(HeaderName::RetryAfter, self.retry_after());
        self.reject(request, &reject);
    }
    /// A value of Retry-After between 5 and 30 seconds, so that those who were refused together do not come back together.
    pub fn retry_after(&self) -> String {
        (5 + self.endpoint.random.bits64() % 26).to_string()
    }
    /// Who is told of CANCEL; at once, if it has already come.
    pub fn set_user(&self, user: Arc<dyn TransactionUser>) {
        let mut shard = self.endpoint.servers.0.shard(self.key);
        let Some(entry) = shard.entries.get_mut(&self.key) else { return };
        entry.user = Some(user.clone());
        let cancelled = entry.cancelled.take();
        drop(shard);
        if let Some(reason) = cancelled {
            user.event(UserEvent::Cancelled { reason });
        }
    }
    /// The endpoint it lives in.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }
}

/// What became of a message that looked for a server transaction.
pub(super) enum Matched {
    /// It was a retransmission or an ACK that the transaction took.
    Absorbed,
    /// An ACK for a 2xx: the user wants it.
    AckForUser,
    /// There is no such transaction.
    None,
}

type Outputs = SmallVec<[Bytes; 2]>;

impl Endpoint {
    /// The key of a request in the table.
    pub(super) fn server_key(&self, key: &ServerKey) -> Key {
        self.servers.0.key(key.as_bytes())
    }

    /// Lets a request find its transaction (17.2.3).
    pub(super) fn match_server(&self, key: Key, is_ack: bool) -> Matched {
        let mut matched = Matched::None;
        let finished = self.with_server(key, |entry, now| {
            matched = if is_ack {
                match entry.machine.handle_ack(now) {
                    AckDisposition::Absorbed => Matched::Absorbed,
                    AckDisposition::ForUser => Matched::AckForUser,
                }
            } else {
                entry.machine.handle_retransmission(now);
                Matched::Absorbed
            };
        });
        if let Some((answer, reply_to)) = finished {
            self.reply(&answer, &reply_to);
            return Matched::Absorbed;
        }
        matched
    }

    /// Makes a server transaction. `None`: the same request is already being handled, or the table is full.
    pub(super) fn accept(
        self: &Arc<Self>,
        key: Key,
        request: &Request,
        flow: &Flow,
        to_tag: Arc<str>,
        repetition: Repetition,
    ) -> Option<ServerTransaction> {
        if !self.has_room(key) {
            count(&self.counters.table_full);
            return None;
        }
        let now = clock::instant();
        let reliable = flow.transport.is_reliable();
        let machine = match request.method() {
            Method::Invite => Server::invite(now, reliable),
            _ => Server::non_invite(now, reliable),
        };
        let mut entry = Box::new(Entry {
            machine,
            flow: *flow,
            reply_to: reply_to(request, flow),
            listens_on: listens_on(request, flow),
            request: Some(Taken { bytes: request.bytes().clone(), at: now }),
            user: None,
            cancelled: None,
            to_tag: to_tag.clone(),
            owed: true,
            repetition,
            scheduled: None,
        });
        let shard = &mut *self.servers.0.shard(key);
        if shard.beside.get(key).is_some() {
            return None;
        }
        let std::collections::hash_map::Entry::Vacant(place) = shard.entries.entry(key) else { return None };
        // A new machine has nothing to send and does not end.
        self.settle_server(&mut shard.wakes, key, &mut entry, now);
        place.insert(entry);
        self.servers.0.inserted();
        self.servers.begun();
        Some(ServerTransaction { endpoint: self.clone(), key, to_tag })
    }

    /// Is there room for one more? If not, it is made by forgetting the oldest finished transaction of the shard, before its Timer J: a server that
    /// takes nothing new on because it remembers what is over would be silent for half a minute.
    fn has_room(&self, key: Key) -> bool {
        if !self.servers.0.is_full() {
            return true;
        }
        let evicted = self.servers.0.shards_from(key).any(|mut shard| shard.beside.evict());
        if evicted {
            self.servers.0.removed(1);
            count(&self.counters.evicted);
        }
        evicted
    }

    fn server_respond(&self, key: Key, status: StatusCode, response: Bytes) {
        self.with_server(key, |entry, now| {
            // It waits for its ACK: a copy without the room to spare that a writer's buffer has.
            let waits = status.code() >= 300 && entry.machine.is_invite();
            let response = if waits { Bytes::copy_from_slice(&response) } else { response };
            entry.machine.handle_response(now, status, response);
            if entry.machine.is_answered() {
                entry.request = None;
                entry.user = None;
            }
        });
    }

    /// Lets something happen to a transaction that lives, if there is one, and does what follows. Of a finished one, gives the answer and where it goes.
    fn with_server(&self, key: Key, happens: impl FnOnce(&mut Entry, Instant)) -> Option<(Bytes, Flow)> {
        let mut guard = self.servers.0.shard(key);
        let shard = &mut *guard;
        let Some(entry) = shard.entries.get_mut(&key) else {
            let finished = shard.beside.get(key)?;
            return Some((Bytes::copy_from_slice(finished.bytes), finished.reply_to));
        };
        let now = clock::instant();
        happens(entry, now);
        let (reply_to, listens_on) = (entry.reply_to, entry.listens_on);
        let (outputs, ended) = self.settle_server(&mut shard.wakes, key, entry, now);
        let answers = entry.owed && (ended || entry.machine.is_answered());
        entry.owed &= !answers;
        let finished = entry.machine.only_repeats();
        let over = ended || finished.is_some();
        if let Some((bytes, until)) = finished {
            shard.beside.keep(key, &Answered { bytes, reply_to }, until, entry.repetition);
        }
        // What the entry held is freed outside the lock.
        let over = over.then(|| shard.entries.remove(&key));
        drop(guard);
        drop(over);
        for bytes in outputs {
            self.answer(&bytes, &reply_to, listens_on);
        }
        if answers {
            // After the bytes are with the socket: whoever waits for this closes it next.
            self.servers.answered();
        }
        None
    }

    /// CANCEL (9.2): answered at once; the INVITE's user is told if it has not answered finally. Other requests go on as if nothing had come.
    pub(super) fn cancel_server(self: &Arc<Self>, cancel: &Request, key: Key, flow: &Flow) {
        let reason: Vec<_> = cancel.elements(HeaderName::Reason).map(String::from_utf8_lossy).collect();
        let reason = (!reason.is_empty()).then(|| reason.join(", "));
        let (to_tag, user) = match self.cancel_invite(cancel, flow, &reason) {
            Some(found) => found,
            None => (self.cancelled_other(cancel, flow), None),
        };
        let Some(to_tag) = to_tag else {
            // Nothing is kept of it: a CANCEL from elsewhere must not stand in the way of the true one (`A33`).
            let status = StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST;
            let response = Writer::respond(cancel, status, &self.random.keyed_tag(&key.bytes())).finish();
            return self.reply_to_stranger(&response, &reply_to(cancel, flow));
        };
        // Done again it cancels nothing more.
        let accepted = self.accept(key, cancel, flow, to_tag, Repetition::Challenged);
        let Some(transaction) = accepted else { return };
        transaction.respond(StatusCode::OK, transaction.response(cancel, StatusCode::OK).finish());
        if let Some(user) = user {
            user.event(UserEvent::Cancelled { reason });
        }
    }

    /// The To tag of the INVITE that is cancelled, and its user if it is still to be told.
    #[allow(clippy::type_complexity, reason = "two answers to one question")]
    fn cancel_invite(
        &self,
        cancel: &Request,
        flow: &Flow,
        reason: &Option<String>,
    ) -> Option<(Option<Arc<str>>, Option<Arc<dyn TransactionUser>>)> {
        let target = self.server_key(&ServerKey::cancelled_by(cancel).ok()?);
        let mut shard = self.servers.0.shard(target);
        let entry = shard.entries.get_mut(&target).filter(|entry| came_from(entry, flow))?;
        let to_tag = Some(entry.to_tag.clone());
        if entry.machine.is_answered() {
            return Some((to_tag, None));
        }
        if entry.user.is_none() {
            entry.cancelled = Some(reason.clone());
        }
        Some((to_tag, entry.user.clone()))
    }

    /// The To tag of a request other than INVITE that is meant.
    fn cancelled_other(&self, cancel: &Request, flow: &Flow) -> Option<Arc<str>> {
        const OTHERS: [Method; 6] = [
            Method::Message,
            Method::Subscribe,
            Method::Publish,
            Method::Register,
            Method::Options,
            Method::Notify,
        ];
        OTHERS.iter().find_map(|method| {
            let target = self.server_key(&ServerKey::cancelled_by_as(cancel, method).ok()?);
            let shard = self.servers.0.shard(target);
            match shard.entries.get(&target) {
                Some(entry) => came_from(entry, flow).then(|| entry.to_tag.clone()),
                // The two have the same top Via, so their answers go to the same place if they came from the same one.
                None => {
                    let finished = shard.beside.get(target)?;
                    (finished.reply_to == reply_to(cancel, flow)).then(|| to_tag_of(finished.bytes))?
                }
            }
        })
    }

    pub(super) fn server_timers(&self, now: Instant) {
        for mut guard in self.servers.0.shards() {
            let shard = &mut *guard;
            let expired = shard.beside.expire(now);
            if expired > 0 {
                self.servers.0.removed(expired);
            }
            let mut due: SmallVec<[(Outputs, Flow); 4]> = SmallVec::new();
            while let Some(key) = shard.pop_due(now) {
                let Some(entry) = shard.entries.get_mut(&key) else { continue };
                entry.scheduled = None;
                entry.machine.handle_timeout(now);
                let reply_to = entry.reply_to;
                let (outputs, ended) = self.settle_server(&mut shard.wakes, key, entry, now);
                if ended {
                    if entry.owed {
                        self.servers.answered();
                    }
                    shard.entries.remove(&key);
                }
                if !outputs.is_empty() {
                    due.push((outputs, reply_to));
                }
            }
            drop(guard);
            for (outputs, reply_to) in due {
                // What a timer sends over a stream is a 100, and that is no reason to make a connection.
                outputs.iter().for_each(|bytes| self.reply(bytes, &reply_to));
            }
        }
    }

    /// Collects what the machine wants, and says whether the transaction has ended: then its entry is to be removed.
    fn settle_server(
        &self,
        wakes: &mut Wakes<Key>,
        key: Key,
        entry: &mut Entry,
        now: Instant,
    ) -> (Outputs, bool) {
        let mut outputs = Outputs::new();
        while let Some(output) = entry.machine.poll_output() {
            match output {
                ServerOutput::Trying => {
                    if let Some(taken) = &entry.request
                        && let Some(request) = read_again(&taken.bytes, &entry.flow)
                    {
                        let delay = now.saturating_duration_since(taken.at);
                        let trying = self.with_server_header(Writer::trying(&request, delay)).finish();
                        entry.machine.handle_response(now, StatusCode::TRYING, trying);
                    }
                }
                ServerOutput::AckTimeout => {}
                ServerOutput::Terminated => {
                    self.servers.0.removed(1);
                    return (outputs, true);
                }
                ServerOutput::Send(bytes) => outputs.push(bytes),
            }
        }
        if entry.machine.only_repeats().is_none() {
            table::schedule(wakes, key, entry.machine.next_timeout(), &mut entry.scheduled);
        }
        (outputs, false)
    }

    /// Sends a response of a transaction: over the connection of its request, and if that is gone, over a new one to the address that it came from
    /// and the port where the sender says he listens (18.2.2, 17.2.4). Only who has been let in has a transaction, so no stranger makes us
    /// connect to anything; and nothing but a port is his to choose (`A14`, `A15`).
    fn answer(&self, bytes: &Bytes, reply_to: &Flow, listens_on: Option<u16>) {
        let Err(error) = self.put(reply_to, bytes, true) else { return };
        let again = listens_on.filter(|_| error == SendError::FlowGone).map(|port| Flow {
            remote: SocketAddr::new(reply_to.remote.ip(), port),
            connection: 0,
            ..*reply_to
        });
        let sent = again.is_some_and(|flow| {
            self.sockets.may_contact(flow.remote, &[]) && self.put(&flow, bytes, true).is_ok()
        });
        count(if sent { &self.counters.reconnected } else { &self.counters.send_failed });
    }

    /// Answers who has proved nothing. What would be too much for one address is counted and lost (`A15`).
    pub(super) fn reply_to_stranger(&self, bytes: &Bytes, reply_to: &Flow) {
        if reply_to.transport.is_reliable() || self.throttle.allows(reply_to.remote.ip()) {
            self.reply(bytes, reply_to);
        } else {
            count(&self.counters.throttled);
        }
    }

    /// Sends a response to where it belongs. If its connection is gone, it is counted and lost.
    pub(super) fn reply(&self, bytes: &Bytes, reply_to: &Flow) {
        if self.put(reply_to, bytes, false).is_err() {
            count(&self.counters.send_failed);
        }
    }
}

impl Endpoint {
    /// A refusal as a response.
    pub(super) fn rejection(&self, request: &Request, reject: &Reject, to_tag: &str) -> Writer {
        let reason = reject.reason.unwrap_or_else(|| reject.status.reason());
        let mut writer =
            self.with_server_header(Writer::respond_with_reason(request, reject.status, reason, to_tag));
        for (name, value) in &reject.headers {
            writer.header(*name, value);
        }
        writer
    }
}

/// A request that was accepted, as it was read then: it has been read once, so no cap stands in its way.
fn read_again(bytes: &Bytes, flow: &Flow) -> Option<Request> {
    let limits =
        Limits { message: usize::MAX, start_line: usize::MAX, header: usize::MAX, headers: usize::MAX };
    match Message::parse(bytes.clone(), false, &limits) {
        Ok(Message::Request(request)) => Some(forward::stamp(request, flow.remote)),
        Ok(Message::Response(_)) | Err(_) => None,
    }
}

/// Only the hop that sent a request may cancel it (22.1, `A33`): the same source, and on streams the same connection.
fn came_from(entry: &Entry, flow: &Flow) -> bool {
    entry.flow.transport == flow.transport
        && entry.flow.remote == flow.remote
        && entry.flow.connection == flow.connection
}

/// The To tag of an answer of ours.
fn to_tag_of(answer: &[u8]) -> Option<Arc<str>> {
    let limits = Limits { message: usize::MAX, ..Limits::default() };
    let answer = Message::parse(Bytes::copy_from_slice(answer), false, &limits).ok()?;
    answer.headers().to().ok()?.tag().map(Arc::from)
}

//! Server transactions in their table.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::endpoint::incoming::reply_to;
use crate::endpoint::table::Table;
use crate::endpoint::{Endpoint, TransactionUser, UserEvent, clock, count};
use crate::model::{Flow, Reject};
use crate::sip::{HeaderName, Method, Request, StatusCode, Writer};
use crate::transaction::{AckDisposition, Server, ServerKey, ServerOutput};

pub(super) struct Entry {
    machine: Server,
    /// Where the request came from.
    flow: Flow,
    /// Where responses go.
    reply_to: Flow,
    /// Kept until the final response: for a 100, for CANCEL.
    request: Option<Request>,
    user: Option<Arc<dyn TransactionUser>>,
    /// A CANCEL that came before there was a user to tell.
    cancelled: Option<UserEvent>,
    to_tag: Box<str>,
    scheduled: Option<Instant>,
}

pub(super) struct Servers(pub(super) Table<ServerKey, Entry>, Unanswered);

/// How many requests are owed a final response.
#[derive(Default)]
struct Unanswered {
    count: AtomicUsize,
    none: tokio::sync::Notify,
}

impl Default for Servers {
    fn default() -> Servers {
        Servers(Table::new(MAX_SERVER_TRANSACTIONS), Unanswered::default())
    }
}

impl Servers {
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
    key: ServerKey,
    to_tag: Box<str>,
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
        self.endpoint.server_respond(&self.key, status, response);
    }
    /// Answers with a refusal.
    pub fn reject(&self, request: &Request, reject: &Reject) {
        let writer = self.endpoint.rejection(request, reject, &self.to_tag);
        self.respond(reject.status, writer.finish());
    }
    /// Answers that we could not (a store or a queue of ours): never a challenge, never 404 (a phone that is challenged again asks for a password).
    pub fn fault(&self, request: &Request) {
        let reject = Reject::new(StatusCode::SERVICE_UNAVAILABLE).with(HeaderName::RetryAfter, RETRY_AFTER_S);
        self.reject(request, &reject);
    }
    /// Who is told of CANCEL; at once, if it has already come.
    pub fn set_user(&self, user: Arc<dyn TransactionUser>) {
        let mut shard = self.endpoint.servers.0.shard(self.key.shard_hash());
        let Some(entry) = shard.entries.get_mut(&self.key) else { return };
        entry.user = Some(user.clone());
        let cancelled = entry.cancelled.take();
        drop(shard);
        if let Some(cancelled) = cancelled {
            user.event(cancelled);
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

type Outputs = SmallVec<[ServerOutput; 2]>;

impl Endpoint {
    /// Lets a request find its transaction (17.2.3).
    pub(super) fn match_server(&self, key: &ServerKey, is_ack: bool) -> Matched {
        let mut shard = self.servers.0.shard(key.shard_hash());
        let Some(mut entry) = shard.entries.remove(key) else { return Matched::None };
        let now = clock::instant();
        let matched = if is_ack {
            match entry.machine.handle_ack(now) {
                AckDisposition::Absorbed => Matched::Absorbed,
                AckDisposition::ForUser => Matched::AckForUser,
            }
        } else {
            entry.machine.handle_retransmission(now);
            Matched::Absorbed
        };
        let reply_to = entry.reply_to;
        let outputs = self.settle_server(&mut shard, key, entry, now);
        drop(shard);
        self.perform_server(outputs, &reply_to);
        matched
    }

    /// Makes a server transaction. `None`: the same request is already being handled, or the table is full.
    pub(super) fn accept(
        self: &Arc<Self>,
        key: ServerKey,
        request: &Request,
        flow: &Flow,
        to_tag: String,
    ) -> Option<ServerTransaction> {
        if self.servers.0.is_full() {
            count(&self.counters.table_full);
            return None;
        }
        let now = clock::instant();
        let reliable = flow.transport.is_reliable();
        let machine = match request.method() {
            Method::Invite => Server::invite(now, reliable),
            _ => Server::non_invite(now, reliable),
        };
        let mut shard = self.servers.0.shard(key.shard_hash());
        if shard.entries.contains_key(&key) {
            return None;
        }
        let to_tag: Box<str> = to_tag.into();
        let entry = Entry {
            machine,
            flow: *flow,
            reply_to: reply_to(request, flow),
            request: Some(request.clone()),
            user: None,
            cancelled: None,
            to_tag: to_tag.clone(),
            scheduled: None,
        };
        self.servers.0.inserted();
        self.servers.begun();
        self.settle_server(&mut shard, &key, entry, now);
        drop(shard);
        Some(ServerTransaction { endpoint: self.clone(), key, to_tag })
    }

    fn server_respond(&self, key: &ServerKey, status: StatusCode, response: Bytes) {
        let mut shard = self.servers.0.shard(key.shard_hash());
        let Some(mut entry) = shard.entries.remove(key) else { return };
        let now = clock::instant();
        entry.machine.handle_response(now, status, response);
        let answered = entry.machine.is_answered() && entry.request.take().is_some();
        if answered {
            entry.user = None;
        }
        let reply_to = entry.reply_to;
        let outputs = self.settle_server(&mut shard, key, entry, now);
        drop(shard);
        self.perform_server(outputs, &reply_to);
        if answered {
            // Counted after it is sent: a stop that waits for the last answer must not close its connection before.
            self.servers.answered();
        }
    }

    /// CANCEL (9.2): answered at once; the INVITE's user is told if it has not answered finally. Other requests go on as if nothing had come.
    pub(super) fn cancel_server(self: &Arc<Self>, cancel: &Request, key: ServerKey, flow: &Flow) {
        let reason = cancel.text(HeaderName::Reason).map(str::to_owned);
        let (to_tag, user) = match self.cancel_invite(cancel, flow, &reason) {
            Some(found) => found,
            None => (self.cancelled_other(cancel, flow), None),
        };
        let Some(to_tag) = to_tag else {
            // Nothing is kept of it: a CANCEL from elsewhere must not stand in the way of the true one (`A33`).
            let status = StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST;
            let response = Writer::respond(cancel, status, &self.random.keyed_tag(key.as_bytes())).finish();
            return self.reply(&response, &reply_to(cancel, flow));
        };
        let Some(transaction) = self.accept(key, cancel, flow, to_tag) else { return };
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
    ) -> Option<(Option<String>, Option<Arc<dyn TransactionUser>>)> {
        let target = ServerKey::cancelled_by(cancel).ok()?;
        let mut shard = self.servers.0.shard(target.shard_hash());
        let entry = shard.entries.get_mut(&target).filter(|entry| came_from(entry, flow))?;
        let to_tag = Some(entry.to_tag.to_string());
        if entry.machine.is_answered() {
            return Some((to_tag, None));
        }
        if entry.user.is_none() {
            entry.cancelled = Some(UserEvent::Cancelled { reason: reason.clone() });
        }
        Some((to_tag, entry.user.clone()))
    }

    /// The To tag of a request other than INVITE that is meant.
    fn cancelled_other(&self, cancel: &Request, flow: &Flow) -> Option<String> {
        const OTHERS: [Method; 6] = [
            Method::Message,
            Method::Subscribe,
            Method::Publish,
            Method::Register,
            Method::Options,
            Method::Notify,
        ];
        OTHERS.iter().find_map(|method| {
            let target = ServerKey::cancelled_by_as(cancel, method).ok()?;
            let shard = self.servers.0.shard(target.shard_hash());
            shard
                .entries
                .get(&target)
                .filter(|entry| came_from(entry, flow))
                .map(|entry| entry.to_tag.to_string())
        })
    }

    pub(super) fn server_timers(&self, now: Instant) {
        for mut shard in self.servers.0.shards() {
            let mut due: SmallVec<[(Outputs, Flow); 4]> = SmallVec::new();
            while let Some(key) = shard.pop_due(now) {
                let Some(mut entry) = shard.entries.remove(&key) else { continue };
                entry.scheduled = None;
                entry.machine.handle_timeout(now);
                let reply_to = entry.reply_to;
                let outputs = self.settle_server(&mut shard, &key, entry, now);
                if !outputs.is_empty() {
                    due.push((outputs, reply_to));
                }
            }
            drop(shard);
            for (outputs, reply_to) in due {
                self.perform_server(outputs, &reply_to);
            }
        }
    }

    /// Collects what the machine wants, and puts the entry back unless it ended.
    fn settle_server(
        &self,
        shard: &mut super::table::Shard<ServerKey, Entry>,
        key: &ServerKey,
        mut entry: Entry,
        now: Instant,
    ) -> Outputs {
        let mut outputs = Outputs::new();
        while let Some(output) = entry.machine.poll_output() {
            match output {
                ServerOutput::Trying => {
                    if let Some(request) = &entry.request {
                        let trying = self
                            .with_server_header(Writer::respond(request, StatusCode::TRYING, ""))
                            .finish();
                        entry.machine.handle_response(now, StatusCode::TRYING, trying);
                    }
                }
                ServerOutput::AckTimeout => {}
                ServerOutput::Terminated => {
                    if entry.request.is_some() {
                        self.servers.answered();
                    }
                    self.servers.0.removed();
                    return outputs;
                }
                ServerOutput::Send(_) => outputs.push(output),
            }
        }
        let next = entry.machine.next_timeout();
        shard.schedule(key, next, &mut entry.scheduled);
        shard.entries.insert(key.clone(), entry);
        outputs
    }

    fn perform_server(&self, outputs: Outputs, reply_to: &Flow) {
        for output in outputs {
            if let ServerOutput::Send(bytes) = output {
                self.reply(&bytes, reply_to);
            }
        }
    }

    /// Sends a response to where it belongs; if its connection is gone, by a new one to the same address (18.2.2).
    pub(super) fn reply(&self, bytes: &Bytes, reply_to: &Flow) {
        if self.sockets.send(reply_to, bytes).is_err() {
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

/// Only the hop that sent a request may cancel it (22.1, `A33`): the same source, and on streams the same connection.
fn came_from(entry: &Entry, flow: &Flow) -> bool {
    entry.flow.transport == flow.transport
        && entry.flow.remote == flow.remote
        && entry.flow.connection == flow.connection
}

/// Server transactions held at once: at 700 B each about 350 MB. Beyond it new requests are dropped and counted.
const MAX_SERVER_TRANSACTIONS: usize = 500_000;
/// What a client is told to wait after a fault of ours.
const RETRY_AFTER_S: &str = "5";

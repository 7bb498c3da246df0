//! Client transactions in their table.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::endpoint::table::{self, Key, Table};
use crate::endpoint::wakes::Wakes;
use crate::endpoint::{Endpoint, Ours, TransactionUser, UserEvent, clock, count};
use crate::model::Flow;
use crate::sip::{HeaderName, Limits, Message, Method, Request, Response, forward, validate};
use crate::transaction::{Client, ClientKey, ClientOutput};
use crate::transport::{Note, SendError};

pub(super) struct Entry {
    machine: Client,
    flow: Flow,
    /// Told of what happens; let go of once nothing more can.
    user: Option<Arc<dyn TransactionUser>>,
    branch: u32,
    /// An INVITE as sent: for ACK and CANCEL, which most calls never need.
    invite: Option<Bytes>,
    /// CANCEL was asked for before any provisional came (9.1); its Reason.
    cancel_wanted: Option<Option<String>>,
    scheduled: Option<Instant>,
    /// How often the machine has wanted it sent.
    sends: u8,
    /// How often it may go out before anything comes back.
    max_sends: u8,
    /// The request began here: a response to it has one Via (8.1.3.3).
    begins_here: bool,
}

/// A request on its way into a transaction.
struct Outgoing<'a> {
    bytes: Bytes,
    flow: &'a Flow,
    user: Arc<dyn TransactionUser>,
    branch: u32,
    max_sends: u8,
    begins_here: bool,
}

pub(super) struct Clients(Table<Entry>);

impl Clients {
    pub(super) fn new(capacity: usize) -> Clients {
        Clients(Table::new(capacity))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Names a client transaction, to cancel it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientId(Key);

/// What is left to do once the shard is let go, in this order.
#[derive(Default)]
struct Effects {
    send: SmallVec<[Bytes; 2]>,
    /// The response that was just handled goes to the user.
    response: bool,
    timeout: bool,
    /// The transaction has ended: its entry is to be removed.
    ended: bool,
}

impl Endpoint {
    /// Sends a request in a new client transaction. Its top Via must be ours with a fresh branch.
    ///
    /// - `branch`: a number that comes back with every event.
    ///
    /// # Errors
    /// The request could not even be handed to a socket; no event will follow.
    pub fn send(
        &self,
        bytes: Bytes,
        flow: &Flow,
        user: Arc<dyn TransactionUser>,
        branch: u32,
    ) -> Result<ClientId, SendError> {
        let Some(request) = as_sent(&bytes) else { return Err(SendError::Refused) };
        let Ok(key) = ClientKey::of_request(&request) else { return Err(SendError::Refused) };
        let begins_here = request.elements(HeaderName::Via).nth(1).is_none();
        let is_invite = *request.method() == Method::Invite;
        let max_sends = u8::MAX;
        self.begin(key, is_invite, Outgoing { bytes, flow, user, branch, max_sends, begins_here })
    }

    /// As [`Endpoint::send_written`] for a NOTIFY with a Via of [`Ours`] and this branch, to somebody who has never answered (`A16`): at most `max_sends` packets go out before the first answer. Two
    /// retransmission intervals after the last one the user is told of a timeout. The first answer of any kind lifts the limit.
    ///
    /// # Errors
    /// As for [`Endpoint::send`].
    pub fn send_limited(
        &self,
        bytes: Bytes,
        (ours, via_branch): (&Ours, &str),
        flow: &Flow,
        user: Arc<dyn TransactionUser>,
        branch: u32,
        max_sends: u8,
    ) -> Result<ClientId, SendError> {
        let Some(key) = ours.key(via_branch, &Method::Notify) else { return Err(SendError::Refused) };
        self.begin(key, false, Outgoing { bytes, flow, user, branch, max_sends, begins_here: true })
    }

    /// As [`Endpoint::send`], for one who has just written the request: it is not read again unless ACK or CANCEL need it.
    ///
    /// - `via`: the value of the top Via in `bytes`, which is ours with a fresh branch.
    ///
    /// # Errors
    /// The request could not even be handed to a socket; no event will follow.
    pub fn send_written(
        &self,
        bytes: Bytes,
        method: &Method,
        via: &str,
        flow: &Flow,
        user: Arc<dyn TransactionUser>,
        branch: u32,
    ) -> Result<ClientId, SendError> {
        let Ok(key) = ClientKey::of_own_via(via, method) else { return Err(SendError::Refused) };
        // What is forwarded has the Via of its sender below ours.
        let outgoing = Outgoing { bytes, flow, user, branch, max_sends: u8::MAX, begins_here: false };
        self.begin(key, *method == Method::Invite, outgoing)
    }

    fn begin(&self, key: ClientKey, is_invite: bool, outgoing: Outgoing<'_>) -> Result<ClientId, SendError> {
        let Outgoing { bytes, flow, user, branch, max_sends, begins_here } = outgoing;
        if self.clients.0.is_full() {
            count(&self.counters.table_full);
            return Err(SendError::Full);
        }
        let key = self.clients.0.key(key.as_bytes());
        let now = clock::instant();
        let reliable = flow.transport.is_reliable();
        let invite = is_invite.then(|| bytes.clone());
        let mut machine = match is_invite {
            true => Client::invite(now, reliable, bytes),
            false => Client::non_invite(now, reliable, bytes),
        };
        // The first Send is done here, before the entry is visible to timers; the answer cannot overtake the insertion below
        // because the insertion comes first.
        let first = machine.poll_output();
        let mut entry = Box::new(Entry {
            machine,
            flow: *flow,
            user: Some(user),
            branch,
            invite,
            cancel_wanted: None,
            scheduled: None,
            sends: 1,
            max_sends,
            begins_here,
        });
        let mut shard = self.clients.0.shard(key);
        // A new machine wants nothing but that first Send.
        self.settle_client(&mut shard.wakes, key, &mut entry, None);
        if shard.entries.insert(key, entry).is_none() {
            self.clients.0.inserted();
        }
        drop(shard);
        if let Some(ClientOutput::Send(bytes)) = first
            && let Err(error) = self.put_noted(flow, &bytes, Note(key.number()))
        {
            count(&self.counters.send_failed);
            self.remove_client(key);
            return Err(error);
        }
        Ok(ClientId(key))
    }

    /// Cancels an INVITE that was sent (9.1): at once if a provisional response has come, else when one comes. Does nothing after a final.
    pub fn cancel(&self, id: &ClientId, reason: Option<&str>) {
        let key = id.0;
        let mut guard = self.clients.0.shard(key);
        let shard = &mut *guard;
        let Some(entry) = shard.entries.get_mut(&key) else { return };
        if entry.machine.is_done() {
            return;
        }
        if !entry.machine.has_provisional() {
            entry.cancel_wanted = Some(reason.map(str::to_owned));
            return;
        }
        let Some(invite) = entry.invite.clone() else { return };
        let flow = entry.flow;
        // 9.1: no final within 64*T1 of the CANCEL ends the wait.
        entry.machine.handle_cancel_sent(clock::instant());
        table::schedule(&mut shard.wakes, key, entry.machine.next_timeout(), &mut entry.scheduled);
        drop(guard);
        self.send_cancel(&invite, &flow, reason);
    }

    /// A response arrived from the network.
    pub(super) fn response(&self, response: Response, flow: &Flow) {
        count(&self.counters.responses);
        if validate::response(&response).is_err() {
            return count(&self.counters.malformed_dropped);
        }
        let Ok(key) = ClientKey::of_response(&response) else {
            return count(&self.counters.malformed_dropped);
        };
        let key = self.clients.0.key(key.as_bytes());
        let mut guard = self.clients.0.shard(key);
        let shard = &mut *guard;
        let Some(entry) = shard.entries.get_mut(&key) else {
            // RFC 6026 7.3: what matches no client transaction is dropped, a stray 2xx too.
            return count(&self.counters.stray_responses);
        };
        // A response must come from where the request went (`A33`); RFC 3581 4 has it sent from the very port, and we always ask for that.
        if entry.flow.transport != flow.transport || entry.flow.remote != flow.remote {
            return count(&self.counters.stray_responses);
        }
        if entry.begins_here && response.elements(HeaderName::Via).nth(1).is_some() {
            // 8.1.3.3: it was routed astray.
            return count(&self.counters.stray_responses);
        }
        let now = clock::instant();
        entry.max_sends = u8::MAX;
        entry.machine.handle_response(now, response.status());
        let cancel = match &entry.invite {
            Some(invite) if response.status().is_provisional() => {
                entry.cancel_wanted.take().map(|reason| (invite.clone(), reason))
            }
            _ => None,
        };
        if cancel.is_some() {
            entry.machine.handle_cancel_sent(now);
        }
        let (branch, flow) = (entry.branch, entry.flow);
        let mut effects = self.settle_client(&mut shard.wakes, key, entry, Some(&response));
        if !effects.ended && entry.machine.only_absorbs() {
            // Nothing is held for Timer K: what comes again matches nothing and is dropped above, as the machine would.
            self.clients.0.removed(1);
            effects.ended = true;
        }
        let user = if entry.machine.passes_up() { entry.user.clone() } else { entry.user.take() };
        // For CANCEL and for ACK, which has just been built.
        let invite = entry.machine.is_done().then(|| entry.invite.take());
        // What the entry held is freed outside the lock.
        let ended = effects.ended.then(|| shard.entries.remove(&key));
        drop(guard);
        drop((ended, invite));
        self.perform_client(effects, Some(response), &flow, user, branch);
        if let Some((invite, reason)) = cancel {
            self.send_cancel(&invite, &flow, reason.as_deref());
        }
    }

    /// A connection is gone: its client transactions fail at once (17.1.4).
    pub(super) fn fail_flow(&self, flow: &Flow) {
        let mut failed = Vec::new();
        let now = clock::instant();
        for mut shard in self.clients.0.shards() {
            let keys: Vec<_> = shard
                .entries
                .iter()
                .filter(|(_, e)| e.flow.connection == flow.connection && !e.machine.is_done())
                .map(|(key, _)| *key)
                .collect();
            for key in keys {
                if let Some(mut entry) = shard.entries.remove(&key) {
                    entry.machine.handle_transport_error(now);
                    self.clients.0.removed(1);
                    failed.extend(entry.user.map(|user| (user, entry.branch)));
                }
            }
        }
        for (user, branch) in failed {
            user.event(UserEvent::TransportFailed { branch });
        }
    }

    /// The system has refused a request after all: its transaction fails at once (17.1.4), as if that had been known when it was sent.
    pub(super) fn fail_client(&self, note: Note) {
        count(&self.counters.send_failed);
        let key = Key::from_number(note.0);
        let mut shard = self.clients.0.shard(key);
        if shard.entries.get(&key).is_none_or(|entry| entry.machine.is_done()) {
            return;
        }
        let Some(entry) = shard.entries.remove(&key) else { return };
        self.clients.0.removed(1);
        drop(shard);
        if let Some(user) = entry.user {
            user.event(UserEvent::TransportFailed { branch: entry.branch });
        }
    }

    pub(super) fn client_timers(&self, now: Instant) {
        for mut guard in self.clients.0.shards() {
            let shard = &mut *guard;
            let mut due = Vec::new();
            while let Some(key) = shard.pop_due(now) {
                let Some(entry) = shard.entries.get_mut(&key) else { continue };
                entry.scheduled = None;
                entry.machine.handle_timeout(now);
                let effects = self.settle_client(&mut shard.wakes, key, entry, None);
                let tells = !effects.send.is_empty() || effects.timeout;
                let whom = tells.then(|| (entry.flow, entry.user.clone(), entry.branch));
                if effects.ended {
                    shard.entries.remove(&key);
                }
                if let Some((flow, user, branch)) = whom {
                    due.push((effects, flow, user, branch));
                }
            }
            drop(guard);
            for (effects, flow, user, branch) in due {
                self.perform_client(effects, None, &flow, user, branch);
            }
        }
    }

    fn send_cancel(&self, invite: &Bytes, flow: &Flow, reason: Option<&str>) {
        if let Some(invite) = as_sent(invite) {
            let cancel = forward::cancel(&invite, reason);
            let _ = self.send(cancel, flow, Arc::new(Nobody), 0);
        }
    }

    fn remove_client(&self, key: Key) {
        if self.clients.0.shard(key).entries.remove(&key).is_some() {
            self.clients.0.removed(1);
        }
    }

    /// Collects what the machine wants.
    fn settle_client(
        &self,
        wakes: &mut Wakes<Key>,
        key: Key,
        entry: &mut Entry,
        response: Option<&Response>,
    ) -> Effects {
        let mut effects = Effects::default();
        while let Some(output) = entry.machine.poll_output() {
            match output {
                ClientOutput::Send(bytes) => {
                    entry.sends = entry.sends.saturating_add(1);
                    if entry.sends <= entry.max_sends {
                        effects.send.push(bytes);
                    } else if entry.sends > entry.max_sends.saturating_add(1) {
                        self.clients.0.removed(1);
                        effects.timeout = true;
                        effects.ended = true;
                        return effects;
                    }
                }
                ClientOutput::BuildAck => {
                    let invite = entry.invite.as_ref().and_then(as_sent);
                    if let (Some(invite), Some(response)) = (invite, response) {
                        entry.machine.handle_ack_built(forward::ack(&invite, response));
                    }
                }
                ClientOutput::Response => effects.response = true,
                ClientOutput::Timeout => effects.timeout = true,
                ClientOutput::Terminated => {
                    self.clients.0.removed(1);
                    effects.ended = true;
                    return effects;
                }
            }
        }
        if !entry.machine.only_absorbs() {
            table::schedule(wakes, key, entry.machine.next_timeout(), &mut entry.scheduled);
        }
        effects
    }

    fn perform_client(
        &self,
        effects: Effects,
        response: Option<Response>,
        flow: &Flow,
        user: Option<Arc<dyn TransactionUser>>,
        branch: u32,
    ) {
        for bytes in effects.send {
            if self.put(flow, &bytes, false).is_err() {
                count(&self.counters.send_failed);
            }
        }
        let Some(user) = user else { return };
        if let Some(response) = response.filter(|_| effects.response) {
            self.trace.answered(&response, flow);
            user.clone().event(UserEvent::Response { branch, response });
        }
        if effects.timeout {
            user.event(UserEvent::Timeout { branch });
        }
    }
}

/// A request that we have written, read. It may have more rows than we would take from others.
fn as_sent(bytes: &Bytes) -> Option<Request> {
    let limits =
        Limits { message: usize::MAX, start_line: usize::MAX, header: usize::MAX, headers: usize::MAX };
    match Message::parse(bytes.clone(), true, &limits) {
        Ok(Message::Request(request)) => Some(request),
        Ok(Message::Response(_)) | Err(_) => None,
    }
}

/// The user of a CANCEL's transaction: nobody acts on its answer (9.1).
struct Nobody;

impl TransactionUser for Nobody {
    fn event(self: Arc<Self>, _: UserEvent) {}
}

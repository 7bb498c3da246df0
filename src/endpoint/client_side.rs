//! Client transactions in their table.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::endpoint::table::{Shard, Table};
use crate::endpoint::{Endpoint, TransactionUser, UserEvent, clock, count};
use crate::model::Flow;
use crate::sip::{Limits, Message, Method, Request, Response, forward, validate};
use crate::transaction::{Client, ClientKey, ClientOutput};
use crate::transport::SendError;

pub(super) struct Entry {
    machine: Client,
    flow: Flow,
    user: Arc<dyn TransactionUser>,
    branch: u32,
    /// An INVITE as sent: for ACK and CANCEL.
    invite: Option<Request>,
    /// CANCEL was asked for before any provisional came (9.1); its Reason.
    cancel_wanted: Option<Option<String>>,
    scheduled: Option<Instant>,
    /// How often the machine has wanted it sent.
    sends: u8,
    /// How often it may go out before anything comes back.
    max_sends: u8,
}

pub(super) struct Clients(pub(super) Table<ClientKey, Entry>);

impl Default for Clients {
    fn default() -> Clients {
        Clients(Table::new(MAX_CLIENT_TRANSACTIONS))
    }
}

impl Clients {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Names a client transaction, to cancel it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientId(ClientKey);

/// What is left to do once the shard is let go.
#[allow(clippy::large_enum_variant, reason = "effects are performed where they are made")]
enum Effect {
    Send(Bytes),
    Tell(UserEvent),
}

type Effects = SmallVec<[Effect; 2]>;

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
        self.send_limited(bytes, flow, user, branch, u8::MAX)
    }

    /// As [`Endpoint::send`], to somebody who has never answered (`A16`): at most `max_sends` packets go out before the first answer. Two
    /// retransmission intervals after the last one the user is told of a timeout. The first answer of any kind lifts the limit.
    ///
    /// # Errors
    /// As for [`Endpoint::send`].
    pub fn send_limited(
        &self,
        bytes: Bytes,
        flow: &Flow,
        user: Arc<dyn TransactionUser>,
        branch: u32,
        max_sends: u8,
    ) -> Result<ClientId, SendError> {
        if self.clients.0.is_full() {
            count(&self.counters.table_full);
            return Err(SendError::Full);
        }
        let Ok(Message::Request(request)) =
            Message::parse(bytes.clone(), true, &Limits { message: usize::MAX, ..self.limits })
        else {
            return Err(SendError::Refused);
        };
        let Ok(key) = ClientKey::of_request(&request) else { return Err(SendError::Refused) };
        let now = clock::instant();
        let reliable = flow.transport.is_reliable();
        let is_invite = *request.method() == Method::Invite;
        let mut machine = if is_invite {
            Client::invite(now, reliable, bytes.clone())
        } else {
            Client::non_invite(now, reliable, bytes.clone())
        };
        // The first Send is done here, before the entry is visible to timers; the answer cannot overtake the insertion below
        // because the insertion comes first.
        let first = machine.poll_output();
        let invite = is_invite.then_some(request);
        let entry = Entry {
            machine,
            flow: *flow,
            user,
            branch,
            invite,
            cancel_wanted: None,
            scheduled: None,
            sends: 1,
            max_sends,
        };
        let mut shard = self.clients.0.shard(key.shard_hash());
        self.clients.0.inserted();
        let effects = self.settle_client(&mut shard, &key, entry, None, now);
        drop(shard);
        self.perform_client(effects, flow, None);
        if let Some(ClientOutput::Send(bytes)) = first
            && let Err(error) = self.sockets.send(flow, &bytes)
        {
            count(&self.counters.send_failed);
            self.remove_client(&key);
            return Err(error);
        }
        Ok(ClientId(key))
    }

    /// Cancels an INVITE that was sent (9.1): at once if a provisional response has come, else when one comes. Does nothing after a final.
    pub fn cancel(&self, id: &ClientId, reason: Option<&str>) {
        let key = &id.0;
        let mut shard = self.clients.0.shard(key.shard_hash());
        let Some(entry) = shard.entries.get_mut(key) else { return };
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
        let (next, mut scheduled) = (entry.machine.next_timeout(), entry.scheduled);
        shard.schedule(key, next, &mut scheduled);
        if let Some(entry) = shard.entries.get_mut(key) {
            entry.scheduled = scheduled;
        }
        drop(shard);
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
        let mut shard = self.clients.0.shard(key.shard_hash());
        let Some(mut entry) = shard.entries.remove(&key) else {
            // RFC 6026 7.3: what matches no client transaction is dropped, a stray 2xx too.
            return count(&self.counters.stray_responses);
        };
        // A response must come from where the request went (`A33`); RFC 3581 4 has it sent from the very port, and we always ask for that.
        if entry.flow.transport != flow.transport || entry.flow.remote != flow.remote {
            shard.entries.insert(key, entry);
            return count(&self.counters.stray_responses);
        }
        let now = clock::instant();
        entry.max_sends = u8::MAX;
        entry.machine.handle_response(now, response.status());
        let cancel = match (response.status().is_provisional(), entry.invite.clone()) {
            (true, Some(invite)) => entry.cancel_wanted.take().map(|reason| (invite, reason)),
            _ => None,
        };
        if cancel.is_some() {
            entry.machine.handle_cancel_sent(now);
        }
        let user = entry.user.clone();
        let flow = entry.flow;
        let effects = self.settle_client(&mut shard, &key, entry, Some(response), now);
        drop(shard);
        self.perform_client(effects, &flow, Some(user));
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
                .map(|(key, _)| key.clone())
                .collect();
            for key in keys {
                if let Some(mut entry) = shard.entries.remove(&key) {
                    entry.machine.handle_transport_error(now);
                    self.clients.0.removed();
                    failed.push((entry.user, entry.branch));
                }
            }
        }
        for (user, branch) in failed {
            user.event(UserEvent::TransportFailed { branch });
        }
    }

    pub(super) fn client_timers(&self, now: Instant) {
        for mut shard in self.clients.0.shards() {
            let mut due = Vec::new();
            while let Some(key) = shard.pop_due(now) {
                let Some(mut entry) = shard.entries.remove(&key) else { continue };
                entry.scheduled = None;
                entry.machine.handle_timeout(now);
                let (flow, user) = (entry.flow, entry.user.clone());
                let effects = self.settle_client(&mut shard, &key, entry, None, now);
                if !effects.is_empty() {
                    due.push((effects, flow, user));
                }
            }
            drop(shard);
            for (effects, flow, user) in due {
                self.perform_client(effects, &flow, Some(user));
            }
        }
    }

    fn send_cancel(&self, invite: &Request, flow: &Flow, reason: Option<&str>) {
        let cancel = forward::cancel(invite, reason);
        let _ = self.send(cancel, flow, Arc::new(Nobody), 0);
    }

    fn remove_client(&self, key: &ClientKey) {
        if self.clients.0.shard(key.shard_hash()).entries.remove(key).is_some() {
            self.clients.0.removed();
        }
    }

    fn settle_client(
        &self,
        shard: &mut Shard<ClientKey, Entry>,
        key: &ClientKey,
        mut entry: Entry,
        mut response: Option<Response>,
        now: Instant,
    ) -> Effects {
        let mut effects = Effects::new();
        let branch = entry.branch;
        while let Some(output) = entry.machine.poll_output() {
            match output {
                ClientOutput::Send(bytes) => {
                    entry.sends = entry.sends.saturating_add(1);
                    if entry.sends <= entry.max_sends {
                        effects.push(Effect::Send(bytes));
                    } else if entry.sends > entry.max_sends.saturating_add(1) {
                        self.clients.0.removed();
                        effects.push(Effect::Tell(UserEvent::Timeout { branch }));
                        return effects;
                    }
                }
                ClientOutput::BuildAck => {
                    if let (Some(invite), Some(response)) = (&entry.invite, &response) {
                        entry.machine.handle_ack_built(forward::ack(invite, response));
                    }
                }
                ClientOutput::Response => {
                    if let Some(response) = response.clone() {
                        effects.push(Effect::Tell(UserEvent::Response { branch, response }));
                    }
                }
                ClientOutput::Timeout => effects.push(Effect::Tell(UserEvent::Timeout { branch })),
                ClientOutput::Terminated => {
                    self.clients.0.removed();
                    return effects;
                }
            }
        }
        response.take();
        let _ = now;
        let next = entry.machine.next_timeout();
        shard.schedule(key, next, &mut entry.scheduled);
        shard.entries.insert(key.clone(), entry);
        effects
    }

    fn perform_client(&self, effects: Effects, flow: &Flow, user: Option<Arc<dyn TransactionUser>>) {
        for effect in effects {
            match effect {
                Effect::Send(bytes) => {
                    if self.sockets.send(flow, &bytes).is_err() {
                        count(&self.counters.send_failed);
                    }
                }
                Effect::Tell(event) => {
                    if let Some(user) = &user {
                        user.clone().event(event);
                    }
                }
            }
        }
    }
}

/// The user of a CANCEL's transaction: nobody acts on its answer (9.1).
struct Nobody;

impl TransactionUser for Nobody {
    fn event(self: Arc<Self>, _: UserEvent) {}
}

/// Client transactions held at once.
const MAX_CLIENT_TRANSACTIONS: usize = 500_000;

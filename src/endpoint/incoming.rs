//! What comes in, in the order of the architecture: transaction, cheap checks, then the handler.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::endpoint::finished::Repetition;
use crate::endpoint::server_side::Matched;
use crate::endpoint::table::Key;
use crate::endpoint::{Endpoint, ServerTransaction, count};
use crate::model::{Flow, Reject, Transport};
use crate::sip::{Method, ParseError, Request, StatusCode, Writer, forward, salvage, validate};
use crate::transaction::ServerKey;

/// A request that nobody has taken on yet. No state is held for it.
#[derive(Debug)]
pub struct Incoming {
    endpoint: Arc<Endpoint>,
    request: Request,
    flow: Flow,
    key: Key,
}

impl Incoming {
    /// The request, its top Via stamped with where it came from.
    pub fn request(&self) -> &Request {
        &self.request
    }
    /// The flow it came in on.
    pub fn flow(&self) -> &Flow {
        &self.flow
    }
    /// The request as it is to be read from now on (16.4). Its transaction is the one it came with.
    pub fn reread_as(self, request: Request) -> Incoming {
        Incoming { request, ..self }
    }
    /// The endpoint.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }
    /// A response for [`Incoming::reply`], with what is mandatory and nothing more (`A15`). Its To tag is the same for every
    /// retransmission of the request (8.2.7).
    pub fn response(&self, status: StatusCode) -> Writer {
        Writer::respond(&self.request, status, &self.stateless_tag())
    }
    /// May a response with so many bytes more of rows go to a source that has proved nothing? Over datagrams an answer is at most half as
    /// large again as the request (`A15`).
    pub fn is_proportionate(&self, response: &Writer, more: usize) -> bool {
        self.flow.transport.is_reliable() || response.finished() + more <= self.request.bytes().len() * 3 / 2
    }
    /// Answers without keeping anything (8.2.7): challenges and refusals that cost nothing to make again. An ACK is never answered.
    pub fn reply(&self, response: &Bytes) {
        if *self.request.method() != Method::Ack {
            self.endpoint.reply_to_stranger(response, &reply_to(&self.request, &self.flow));
        }
    }
    /// Refuses without keeping anything.
    pub fn reject(&self, reject: &Reject) {
        self.reply(&self.endpoint.rejection(&self.request, reject, &self.stateless_tag()).finish());
    }
    /// Takes the request on, after its credentials were found right. `None`: it is a retransmission that another worker is already handling, or
    /// the table is full; both are counted and dropped.
    pub fn accept(self) -> Option<(Request, Flow, ServerTransaction)> {
        if !self.flow.transport.is_reliable() {
            self.endpoint.throttle.proved(self.flow.remote.ip());
        }
        self.taken_on(Repetition::Challenged)
    }
    /// The same for a request that no credentials protect from being done twice: one inside a dialog that we forwarded.
    pub fn accept_unchallenged(self) -> Option<(Request, Flow, ServerTransaction)> {
        self.taken_on(Repetition::DoneAgain)
    }

    fn taken_on(self, repetition: Repetition) -> Option<(Request, Flow, ServerTransaction)> {
        let to_tag = self.endpoint.random.tag();
        let transaction = self.endpoint.accept(self.key, &self.request, &self.flow, to_tag, repetition)?;
        Some((self.request, self.flow, transaction))
    }

    fn stateless_tag(&self) -> String {
        self.endpoint.random.keyed_tag(&self.key.bytes())
    }
}

/// A well-formed request arrived.
pub(super) fn request(endpoint: &Arc<Endpoint>, request: Request, flow: Flow) {
    count(&endpoint.counters.requests);
    let request = forward::stamp(request, flow.remote);
    let is_ack = *request.method() == Method::Ack;
    let key = match ServerKey::of(&request) {
        Ok(key) => endpoint.server_key(&key),
        Err(error) => return malformed(endpoint, error, request.bytes(), &flow),
    };
    match endpoint.match_server(key, is_ack) {
        Matched::Absorbed => return count(&endpoint.counters.retransmissions),
        Matched::AckForUser | Matched::None => {}
    }
    if let Err(error) = validate::request(&request) {
        if is_ack {
            return count(&endpoint.counters.malformed_dropped);
        }
        count(&endpoint.counters.malformed_answered);
        let tag = endpoint.random.keyed_tag(&key.bytes());
        return refuse(endpoint, &request, error, &tag, &flow);
    }
    if *request.method() == Method::Cancel {
        return endpoint.cancel_server(&request, key, &flow);
    }
    if let Some(handler) = endpoint.handler.get() {
        handler.request(Incoming { endpoint: endpoint.clone(), request, flow, key });
    }
}

/// Something arrived that is no message: answered with what is owed if it can be, else dropped; counted either way.
pub(super) fn malformed(endpoint: &Endpoint, error: ParseError, bytes: &Bytes, flow: &Flow) {
    match salvage(bytes) {
        Some(request) if *request.method() != Method::Ack => {
            count(&endpoint.counters.malformed_answered);
            let request = forward::stamp(request, flow.remote);
            let tag = endpoint.random.keyed_tag(request.bytes());
            refuse(endpoint, &request, error, &tag, flow);
        }
        _ => count(&endpoint.counters.malformed_dropped),
    }
}

/// RFC 3261 21.4.1: the phrase names the problem.
fn refuse(endpoint: &Endpoint, request: &Request, error: ParseError, to_tag: &str, flow: &Flow) {
    let mut writer = Writer::respond_with_reason(request, error.status, error.what, to_tag);
    if let Some(server) = &endpoint.server_header {
        writer.header(crate::sip::HeaderName::Server, server);
    }
    endpoint.reply_to_stranger(&writer.finish(), &reply_to(request, flow));
}

/// Where responses to a request go (RFC 3261 18.2.2, RFC 3581 4): on streams its connection; for datagrams the source address, and the
/// source port if `rport` was asked for, else the port of sent-by. `maddr` is not followed: a response goes to nobody but the sender.
pub(super) fn reply_to(request: &Request, flow: &Flow) -> Flow {
    if flow.transport != Transport::Udp {
        return *flow;
    }
    let port = request.response_port().unwrap_or(flow.remote.port());
    Flow { remote: SocketAddr::new(flow.remote.ip(), port), ..*flow }
}

/// Where the sender of a request over a stream listens (RFC 3261 18.2.2): the port of sent-by. Who names the port of the connection itself
/// listens nowhere. Datagrams have [`reply_to`].
pub(super) fn listens_on(request: &Request, flow: &Flow) -> Option<u16> {
    if !flow.transport.is_reliable() {
        return None;
    }
    let port = request.top_via().ok()?.sent_by.port.unwrap_or(5060);
    (port != flow.remote.port()).then_some(port)
}

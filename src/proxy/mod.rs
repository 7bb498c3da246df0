//! Everything that is forwarded, INVITE above all (RFC 3261 16). The thinking is in [`target`] and [`context`].

pub mod context;
mod shell;
pub mod target;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::auth::Marks;
use crate::endpoint::{Endpoint, ServerTransaction, clock};
use crate::home::Homes;
use crate::model::{Aor, Flow, Reject, Timestamp, Transport};
use crate::proxy::context::{Context, Failure};
use crate::proxy::shell::{Branch, ResponseContext};
use crate::proxy::target::{Target, Way};
use crate::sip::forward::{self, RequestEdits};
use crate::sip::{HeaderName, Method, NameAddr, Request, StatusCode, Uri};
use crate::transport::Resolver;

/// How the proxy forwards.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Timer C (16.6 step 11), over three minutes.
    pub timer_c: Duration,
    /// Contacts of one user that are tried.
    pub max_forks: usize,
    /// Our realm: credentials for it are taken out (22.3; `A10`).
    pub realm: String,
    /// Nets that a Contact may not lead to, beside the ones that none may (`A14`).
    pub denied: Vec<(IpAddr, u8)>,
}

/// The proxy.
pub struct Proxy {
    endpoint: Arc<Endpoint>,
    homes: Arc<Homes>,
    marks: Arc<Marks>,
    resolver: Option<Resolver>,
    policy: Policy,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// How often a request may still be forwarded, and what the route processing of 16.4 left.
#[derive(Debug, Clone, Copy)]
pub struct Hop {
    /// The Max-Forwards value to write.
    pub max_forwards: u8,
    /// Route elements of ours to take from the top.
    pub own_routes: usize,
}

impl Proxy {
    /// A proxy. `resolver`: `None` if the system has no name servers; then only numeric addresses are reached.
    pub fn new(
        endpoint: Arc<Endpoint>,
        homes: Arc<Homes>,
        marks: Arc<Marks>,
        resolver: Option<Resolver>,
        policy: Policy,
    ) -> Proxy {
        Proxy { endpoint, homes, marks, resolver, policy }
    }

    /// Forwards a request to all contacts of a local user, in parallel.
    pub fn to_user(
        self: &Arc<Self>,
        request: Request,
        flow: Flow,
        transaction: ServerTransaction,
        user: &Aor,
        hop: Hop,
        now: Timestamp,
    ) {
        let targets = target::targets(&self.homes.read(user), now, self.policy.max_forks);
        if targets.is_empty() {
            // 16.5: a user of ours who is nowhere to be found now.
            return transaction.reject(&request, &Reject::new(StatusCode::TEMPORARILY_UNAVAILABLE));
        }
        let is_invite = *request.method() == Method::Invite;
        let machine = Context::new(is_invite, targets.len(), self.policy.timer_c, clock::instant());
        let context =
            ResponseContext::new(self.endpoint.clone(), request, flow, transaction, machine, targets.len());
        context.watch();
        for (number, target) in targets.into_iter().enumerate() {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            self.start(&context, number, target, hop);
        }
    }

    /// Forwards a request inside a dialog to the side that its mark names (`Side`, flow): no location look-up, no challenge.
    /// `transaction`: `None` for ACK.
    pub fn in_dialog(
        self: &Arc<Self>,
        request: Request,
        flow: Flow,
        transaction: Option<ServerTransaction>,
        to: Flow,
        hop: Hop,
    ) {
        let remaining = request.addresses(HeaderName::Route).nth(hop.own_routes).and_then(Result::ok);
        let again = match remaining {
            Some(route) => target::numeric(&route.uri),
            None => request.uri().ok().and_then(|uri| target::numeric(&uri)),
        };
        let way = Way::Flow {
            flow: to,
            again: again.map(|(_, address)| address).filter(|a| a.ip() == to.remote.ip()),
        };
        let uri = String::from_utf8_lossy(request.uri_bytes()).into_owned();
        let target = Target { uri, routes: Vec::new(), way };
        let Some(transaction) = transaction else {
            if let Ok(next) = self.flow(&target.way) {
                let via = self.via(&next);
                let bytes = self.copy(&request, &flow, &next, &via, &target, hop, false);
                let _ = self.endpoint.send_stateless(&next, &bytes);
            }
            return;
        };
        let is_invite = *request.method() == Method::Invite;
        let machine = Context::new(is_invite, 1, self.policy.timer_c, clock::instant());
        let context = ResponseContext::new(self.endpoint.clone(), request, flow, transaction, machine, 1);
        context.watch();
        self.start(&context, 0, target, hop);
    }

    /// Sends one branch, at once if its address is known, else when it has been looked up.
    fn start(self: &Arc<Self>, context: &Arc<ResponseContext>, number: u32, target: Target, hop: Hop) {
        if let Way::Resolve(uri) = &target.way {
            let (proxy, context, uri) = (self.clone(), context.clone(), uri.clone());
            let fails = context.clone();
            let started = self.endpoint.spawn(async move {
                match proxy.resolve(&uri).await {
                    Some((transport, address)) => {
                        let target = Target { way: Way::Address(transport, address), ..target };
                        proxy.launch(&context, number, &target, hop);
                    }
                    None => context.fail(number, Failure::Transport),
                }
            });
            if !started {
                fails.fail(number, Failure::Transport);
            }
            return;
        }
        self.launch(context, number, &target, hop);
    }

    fn launch(&self, context: &Arc<ResponseContext>, number: u32, target: &Target, hop: Hop) {
        let flow = match self.flow(&target.way) {
            Ok(flow) => flow,
            Err(failure) => return context.fail(number, failure),
        };
        // Without it all is over: nobody waits for this branch.
        let Some(request) = context.request() else { return };
        let via = self.via(&flow);
        let bytes = self.copy(&request, context.flow(), &flow, &via, target, hop, true);
        if *request.method() == Method::Message
            && flow.transport == Transport::Udp
            && bytes.len() > MAX_UDP_MESSAGE
        {
            // RFC 3428 8: a large MESSAGE needs congestion control; the device has only registered a datagram address.
            return context.fail(number, Failure::TooLarge);
        }
        let to_device = matches!(target.way, Way::Flow { .. });
        context.launch(Branch { number, flow, via, to_device }, request.method(), bytes);
    }

    /// 16.6 step 8: our Via towards the next hop, with a branch of its own.
    fn via(&self, to: &Flow) -> String {
        self.endpoint.via(to, &self.endpoint.random().branch())
    }

    /// The flow of a way; an address is judged after it is known (`A14`).
    fn flow(&self, way: &Way) -> Result<Flow, Failure> {
        let sockets = self.endpoint.sockets();
        let to_address = |transport, address| {
            if !sockets.may_contact(address, &self.policy.denied) {
                return Err(Failure::Transport);
            }
            sockets.flow_to(transport, address).map_err(|_| Failure::Transport)
        };
        match way {
            Way::Flow { flow, .. } if sockets.is_alive(flow) => Ok(*flow),
            // The listener it came in on is configured away; another one of the kind reaches the same address.
            Way::Flow { flow, .. } if flow.transport == Transport::Udp => {
                sockets.flow_to(flow.transport, flow.remote).map_err(|_| Failure::FlowGone)
            }
            Way::Flow { flow, again: Some(address) } => {
                to_address(flow.transport, *address).map_err(|_| Failure::FlowGone)
            }
            Way::Flow { again: None, .. } => Err(Failure::FlowGone),
            Way::Address(transport, address) => to_address(*transport, *address),
            Way::Resolve(_) => Err(Failure::Transport),
        }
    }

    async fn resolve(&self, uri: &str) -> Option<(Transport, SocketAddr)> {
        let resolver = self.resolver.as_ref()?;
        let uri = Uri::parse(uri.as_bytes()).ok()?;
        let transport = match uri.params.get("transport") {
            Some(token) => Some(Transport::parse(token)?),
            None => None,
        };
        let found = resolver.resolve(&uri.host_port, transport, self.endpoint.random().bits64()).await;
        let sockets = self.endpoint.sockets();
        found.into_iter().find(|(_, address)| sockets.may_contact(*address, &self.policy.denied))
    }

    /// 16.6: the copy for one target.
    #[expect(clippy::too_many_arguments, reason = "what 16.6 reads: the request, both sides, the target")]
    fn copy(
        &self,
        request: &Request,
        from: &Flow,
        to: &Flow,
        via: &str,
        target: &Target,
        hop: Hop,
        transacted: bool,
    ) -> Bytes {
        let record_routes = if transacted && forms_dialog(request) {
            self.record_routes(request, from, to)
        } else {
            SmallVec::new()
        };
        let record_routes: SmallVec<[&str; 2]> = record_routes.iter().map(String::as_str).collect();
        let mut uri = target.uri.as_str();
        let swapped = if target.routes.is_empty() { String::new() } else { format!("<{uri}>") };
        let mut routes: SmallVec<[&str; 4]> = target.routes.iter().map(String::as_str).collect();
        // 16.6 step 6: a strict router first gets its URI into the Request-URI and ours to the end of Route.
        if let Some(first) = routes.first().and_then(|r| NameAddr::parse(r.as_bytes()).ok())
            && !first.uri.params.has("lr")
        {
            routes.remove(0);
            routes.push(&swapped);
            uri = first.uri.as_str();
        }
        forward::request(
            request,
            &RequestEdits {
                uri: Some(uri),
                max_forwards: Some(hop.max_forwards),
                via: Some(via),
                drop_routes: hop.own_routes,
                routes: &routes,
                record_routes: &record_routes,
                remove: &UNTRUSTED_IDENTITY,
                remove_credentials_of: Some(&self.policy.realm),
                ..RequestEdits::default()
            },
        )
    }

    /// 16.6 step 4: our mark, as each side sees us; two values if they see different ones (RFC 5658).
    fn record_routes(&self, request: &Request, from: &Flow, to: &Flow) -> SmallVec<[String; 2]> {
        let (Ok(call_id), Ok(sender)) = (request.call_id(), request.from()) else { return SmallVec::new() };
        let mark = self.marks.make(call_id, sender.tag().unwrap_or_default(), from, to);
        let uri = |flow| format!("<{};lr>", self.endpoint.own_uri(flow, Some(&mark)));
        let (outgoing, incoming) = (uri(to), uri(from));
        let mut values = SmallVec::new();
        if outgoing != incoming {
            values.push(outgoing);
        }
        values.push(incoming);
        values
    }
}

/// Does a 2xx to this make a dialog (RFC 3261 12, RFC 6665, RFC 3515), or is it inside one that must keep its route?
fn forms_dialog(request: &Request) -> bool {
    let in_dialog = request.to().is_ok_and(|to| to.tag().is_some());
    !in_dialog && matches!(request.method(), Method::Invite | Method::Subscribe | Method::Refer)
}

/// RFC 3428 8, RFC 3261 18.1.1.
const MAX_UDP_MESSAGE: usize = 1_300;
/// Who somebody says they are beside From: believed from nobody yet, so handed to nobody (RFC 3325 5, `A18`).
const UNTRUSTED_IDENTITY: [HeaderName; 3] =
    [HeaderName::PAssertedIdentity, HeaderName::PPreferredIdentity, HeaderName::RemotePartyId];

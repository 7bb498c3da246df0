//! Everything that is forwarded, INVITE above all (RFC 3261 16). The thinking is in [`target`],
//! [`preferences`], [`context`] and [`loops`].

mod address;
pub mod context;
mod failed;
pub mod loops;
mod outstanding;
pub mod preferences;
mod ringing;
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
use crate::model::{Aor, Flow, HomeState, Text, Timestamp, Transport};
use crate::proxy::address::Addresses;
use crate::proxy::context::{Context, Failure, Forking, Order};
use crate::proxy::failed::Failed;
use crate::proxy::loops::{Loops, SecondPart};
use crate::proxy::outstanding::Outstanding;
use crate::proxy::preferences::Disposition;
use crate::proxy::ringing::Ringing;
use crate::proxy::shell::{Forwarded, ResponseContext, Upstream};
use crate::proxy::target::{Target, Way};
use crate::sip::forward::{self, RequestEdits};
use crate::sip::{Contacts, HeaderName, Host, Method, NameAddr, Request, Response, Scheme, StatusCode, Uri};
use crate::transport::Resolver;

pub use crate::sip::forward::Hop;
pub use shell::{Noted, Told};

/// How the proxy forwards.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Contacts of one user that are tried.
    pub max_forks: usize,
    /// In which order; `is_invite` and `breadth` are those of the request at hand.
    pub forking: Forking,
    /// Are Contacts of a 3xx tried that name users of ours (16.7 step 4)?
    pub recurse: bool,
    /// The names of our domain.
    pub domains: Vec<String>,
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
    loops: Loops,
    ringing: Ringing,
    failed: Failed,
    /// MESSAGEs on their way.
    outstanding: Outstanding<(Arc<ResponseContext>, u32)>,
}

/// Which devices of a user are asked only after the others.
#[derive(Debug, Clone, Default)]
pub struct Later {
    /// Contacts, as they are registered.
    pub contacts: SmallVec<[Text; 2]>,
    /// When the others have been silent for so long, at the latest.
    pub after: Duration,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("policy", &self.policy).finish_non_exhaustive()
    }
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
        let (loops, ringing, failed) = (Loops::default(), Ringing::default(), Failed::default());
        let outstanding = Outstanding::default();
        Proxy { endpoint, homes, marks, resolver, policy, loops, ringing, failed, outstanding }
    }

    /// Forwards a request to the contacts of a local user.
    pub fn to_user(
        self: &Arc<Self>,
        request: Request,
        flow: Flow,
        transaction: ServerTransaction,
        user: &Aor,
        hop: Hop,
        now: Timestamp,
    ) {
        let upstream = Upstream::Client(transaction);
        self.carry(request, Some(flow), upstream, &self.homes.read(user), &Later::default(), hop, now);
    }

    /// The same for a request that somebody in this server answers for: `told` is called once, when it has ended, and `noted` whenever a target was
    /// sent to or has ended.
    ///
    /// - `from`: where it came from; `None`: it begins here.
    /// - `home`: of the user, as it is now.
    /// - `later`: who is asked after the others, unless the request has a wish of its own.
    #[expect(clippy::too_many_arguments, reason = "a parcel, and where it goes")]
    pub fn carry_for(
        self: &Arc<Self>,
        request: Request,
        from: Option<Flow>,
        (told, noted): (Told, Noted),
        home: &HomeState,
        later: &Later,
        hop: Hop,
        now: Timestamp,
    ) {
        self.carry(request, from, Upstream::Told(told, noted), home, later, hop, now);
    }

    #[expect(clippy::too_many_arguments, reason = "a request, who answers for it, and where it goes")]
    fn carry(
        self: &Arc<Self>,
        request: Request,
        flow: Option<Flow>,
        upstream: Upstream,
        home: &HomeState,
        later: &Later,
        hop: Hop,
        now: Timestamp,
    ) {
        let user = &home.aor;
        let disposition = Disposition::of(&request);
        let max = if disposition.no_fork { 1 } else { self.policy.max_forks };
        let mut targets = target::targets(home, &request, now, max);
        if targets.is_empty() {
            // 16.5: a user of ours who is nowhere to be found now.
            return upstream.refuse(&request, StatusCode::TEMPORARILY_UNAVAILABLE, &[]);
        }
        let is_invite = *request.method() == Method::Invite;
        let order = match disposition.sequential {
            Some(true) => Order::Sequential,
            Some(false) => Order::Parallel,
            // Whom nobody waits for at a ringing phone is asked at once.
            None if !is_invite && later.contacts.is_empty() => Order::Parallel,
            None if !is_invite => {
                for target in &mut targets {
                    target.q =
                        if later.contacts.iter().any(|contact| target.is_at(contact)) { 0 } else { 1_000 };
                }
                Order::ByQ
            }
            None => self.policy.forking.order,
        };
        let ring = if is_invite { self.policy.forking.ring } else { later.after };
        let no_cancel = disposition.no_cancel;
        let forking =
            Forking { is_invite, order, no_cancel, ring, breadth: hop.breadth, ..self.policy.forking };
        let machine = Context::new(forking, targets.iter().map(|target| target.q), clock::instant());
        let second_part = Some(self.loops.second_part(&request));
        let may_join = is_invite && !disposition.no_fork;
        let callee = may_join.then(|| user.clone());
        let reader = (*request.method() == Method::Message).then(|| user.clone());
        let forwarded = Forwarded { request, flow, upstream, hop, second_part, user: callee, reader };
        let context = ResponseContext::new(self.clone(), forwarded, machine, targets);
        if may_join {
            self.ringing.insert(user, &context);
        }
        context.start();
        if may_join && self.homes.read(user).version != home.version {
            // Somebody registered while nobody could know of this context yet.
            self.registered(user, now);
        }
    }

    /// The bindings of a user changed: devices that are new join what is under way (16.5).
    pub fn registered(&self, user: &Aor, now: Timestamp) {
        let contexts = self.ringing.of(user);
        if contexts.is_empty() {
            return;
        }
        let home = self.homes.read(user);
        for context in contexts {
            context.join(&home, now);
        }
    }

    /// A MESSAGE to this device has ended: the next one has its turn, or, if the device was silent, all that wait for it end as this one did.
    fn device_is_free(&self, device: u64, was_silent: bool) {
        for (context, number) in self.outstanding.leave(device, was_silent) {
            let go_on = move |context: &Arc<ResponseContext>| match was_silent {
                true => context.passed_over(number),
                false => context.turn(number, device),
            };
            let again = context.clone();
            // Not here: many may follow one another.
            if !self.endpoint.spawn(async move { go_on(&again) }) {
                go_on(&context);
            }
        }
    }

    /// Has this request been here before, with nothing changed (RFC 5393 4.2.2)?
    pub fn is_loop(&self, request: &Request) -> bool {
        self.loops.is_loop(request)
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
        let remaining = request.elements(HeaderName::Route).nth(hop.own_routes);
        let remaining = remaining.and_then(|route| NameAddr::parse(route).ok());
        let again = match remaining {
            Some(route) => target::numeric(&route.uri),
            None => request.uri().ok().and_then(|uri| target::numeric(&uri)),
        };
        let way = Way::Flow {
            flow: to,
            again: again.map(|(_, address)| address).filter(|a| a.ip() == to.remote.ip()),
        };
        let uri = Text::from(&*String::from_utf8_lossy(request.uri_bytes()));
        let target = Target { uri, routes: SmallVec::new(), way, q: 1_000 };
        let Some(transaction) = transaction else {
            if let Ok(next) = self.flow(&target.way) {
                let via = self.via(&next, None);
                let bytes = self.copy(&request, Some(&flow), &next, &via, &target, hop, hop.breadth);
                let _ = self.endpoint.send_stateless(&next, &bytes);
            }
            return;
        };
        let is_invite = *request.method() == Method::Invite;
        let forking = Forking { is_invite, breadth: hop.breadth, ..self.policy.forking };
        let machine = Context::new(forking, [target.q], clock::instant());
        let (flow, upstream) = (Some(flow), Upstream::Client(transaction));
        let forwarded =
            Forwarded { request, flow, upstream, hop, second_part: None, user: None, reader: None };
        ResponseContext::new(self.clone(), forwarded, machine, [target]).start();
    }

    /// 16.6 step 8: our Via towards the next hop, with a branch of its own.
    fn via(&self, to: &Flow, second_part: Option<SecondPart>) -> String {
        let mut branch = self.endpoint.random().branch();
        if let Some(second_part) = second_part {
            second_part.end(&mut branch);
        }
        self.endpoint.via(to, &branch)
    }

    /// The flow to an address, which is judged after it is known (`A14`).
    fn to_address(&self, transport: Transport, address: SocketAddr) -> Result<Flow, Failure> {
        let sockets = self.endpoint.sockets();
        if !sockets.may_contact(address, &self.policy.denied) {
            return Err(Failure::Transport);
        }
        sockets.flow_to(transport, address).map_err(|_| Failure::Transport)
    }

    /// The flow of a way that needs no look-up.
    fn flow(&self, way: &Way) -> Result<Flow, Failure> {
        let sockets = self.endpoint.sockets();
        match way {
            Way::Flow { flow, .. } if sockets.is_alive(flow) => Ok(*flow),
            // The listener it came in on is configured away; another one of the kind reaches the same address.
            Way::Flow { flow, .. } if flow.transport == Transport::Udp => {
                sockets.flow_to(flow.transport, flow.remote).map_err(|_| Failure::FlowGone)
            }
            Way::Flow { flow, again: Some(address) } => {
                self.to_address(flow.transport, *address).map_err(|_| Failure::FlowGone)
            }
            Way::Flow { again: None, .. } => Err(Failure::FlowGone),
            Way::Address(transport, address) => self.to_address(*transport, *address),
            Way::Resolve(_) => Err(Failure::Transport),
        }
    }

    /// All addresses of a URI that may be contacted, in the order of RFC 3263 4.
    async fn resolve(&self, uri: &str) -> Addresses {
        let (Some(resolver), Ok(uri)) = (self.resolver.as_ref(), Uri::parse(uri.as_bytes())) else {
            return Addresses::default();
        };
        let transport = match uri.params.get("transport").map(Transport::parse) {
            Some(None) => return Addresses::default(),
            Some(known) => known,
            None => None,
        };
        let found = resolver.resolve(&uri.host_port, transport, self.endpoint.random().bits64()).await;
        let sockets = self.endpoint.sockets();
        let found =
            found.into_iter().filter(|(_, address)| sockets.may_contact(*address, &self.policy.denied));
        Addresses::new(found).with_failed_last(&self.failed, clock::instant())
    }

    /// Where the Contacts of a 3xx lead, and the 3xx with those that are left to the caller (16.7 step 4): users of our own domain are tried,
    /// nobody else. `None`: nothing to try.
    fn redirection(&self, request: &Request, response: &Response) -> Option<(Vec<Target>, Option<Response>)> {
        if !self.policy.recurse || Disposition::of(request).no_recurse {
            return None;
        }
        let Ok(Contacts::List(contacts)) = response.contacts() else { return None };
        let user = |uri: &Uri<'_>| {
            let Host::Name(host) = uri.host_port.host else { return None };
            let is_ours = self.policy.domains.iter().any(|domain| domain.eq_ignore_ascii_case(host));
            // 16.7 step 4: never from SIPS to SIP, and here not from SIP to anything else.
            let is_ours = is_ours && uri.scheme == Scheme::Sip && uri.host_port.port.is_none();
            Aor::new(&uri.user_decoded().filter(|_| is_ours)?, &self.policy.realm)
        };
        let users: Vec<_> = contacts.iter().map(|contact| user(&contact.uri)).collect();
        let now = clock::now();
        let targets: Vec<_> = users
            .iter()
            .flatten()
            .flat_map(|user| target::targets(&self.homes.read(user), request, now, self.policy.max_forks))
            .take(self.policy.max_forks)
            .collect();
        if targets.is_empty() {
            return None;
        }
        let left = users.iter().any(Option::is_none);
        let kept =
            left.then(|| forward::with_contacts(response, |at| users.get(at).is_some_and(Option::is_none)));
        Some((targets, kept.flatten()))
    }

    /// 16.6: the copy for one target.
    #[expect(clippy::too_many_arguments, reason = "what 16.6 reads: the request, both sides, the target")]
    fn copy(
        &self,
        request: &Request,
        from: Option<&Flow>,
        to: &Flow,
        via: &str,
        target: &Target,
        hop: Hop,
        breadth: u32,
    ) -> Bytes {
        let record_routes = match from {
            Some(from) if is_recorded(request) => self.record_routes(request, from, to),
            Some(_) | None => SmallVec::new(),
        };
        let record_routes: SmallVec<[&str; 2]> = record_routes.iter().map(String::as_str).collect();
        let mut uri = target.uri.as_str();
        let swapped = if target.routes.is_empty() { String::new() } else { format!("<{uri}>") };
        let mut routes: SmallVec<[&str; 4]> = target.routes.iter().map(Text::as_str).collect();
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
                max_breadth: Some(breadth),
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
        let uri = |flow| ["<", &self.endpoint.own_uri(flow, Some(&mark)), ";lr>"].concat();
        let (outgoing, incoming) = (uri(to), uri(from));
        let mut values = SmallVec::new();
        if outgoing != incoming {
            values.push(outgoing);
        }
        values.push(incoming);
        values
    }
}

/// Does this, or a 2xx to it, make a dialog (RFC 3261 12, RFC 3515)? So does a NOTIFY for who subscribed (RFC 6665 4.4.1): as only those come here whose
/// dialogs have our mark, every one of them is recorded as the first request was (4.3).
fn is_recorded(request: &Request) -> bool {
    let in_dialog = request.to().is_ok_and(|to| to.tag().is_some());
    match request.method() {
        Method::Notify => in_dialog,
        Method::Invite | Method::Subscribe | Method::Refer => !in_dialog,
        _ => false,
    }
}

/// Who somebody says they are beside From: believed from nobody yet, so handed to nobody (RFC 3325 5, `A18`).
const UNTRUSTED_IDENTITY: [HeaderName; 3] =
    [HeaderName::PAssertedIdentity, HeaderName::PPreferredIdentity, HeaderName::RemotePartyId];

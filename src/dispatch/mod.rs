//! Each request that begins something, in order: where does it go ([`route`]), who sent it, then the service that answers.

pub mod residency;
pub mod route;
mod turns;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tracing::debug_span;

use crate::auth::{self, Auth, Authenticated, Identity, Marks, Role, digest};
use crate::dispatch::route::{Address, Destination, Own, Route};
use crate::endpoint::{Endpoint, Handler, Incoming, ServerTransaction, clock};
use crate::messaging::{Messaging, admission, lists};
use crate::model::{Aor, Flow, HomeState, Reject, Timestamp};
use crate::presence::{Presence, Principal, package};
use crate::proxy::Proxy;
use crate::registrar::Registrar;
use crate::sip::{HeaderName, Method, Request, Scheme, StatusCode, Uri, Writer};

/// What is switched on, and who we are.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The domain.
    pub domain: String,
    /// Other names of the domain.
    pub aliases: Vec<String>,
    /// Names that listeners advertise.
    pub advertised: Vec<(String, u16)>,
    /// Ports we listen on.
    pub ports: Vec<u16>,
    /// SUBSCRIBE and PUBLISH are answered.
    pub presence: bool,
    /// MESSAGE is delivered.
    pub messaging: bool,
}

/// The handler of the endpoint.
pub struct Dispatch {
    endpoint: Arc<Endpoint>,
    auth: Arc<Auth>,
    marks: Arc<Marks>,
    registrar: Registrar,
    presence: Arc<Presence>,
    messaging: Arc<Messaging>,
    proxy: Arc<Proxy>,
    policy: Policy,
    /// Those of our names that are written as addresses.
    addresses: Vec<Address>,
    /// The rows of a 200 to OPTIONS that are the same for everybody.
    capabilities: Bytes,
    draining: AtomicBool,
}

impl std::fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatch").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Dispatch {
    /// Joins the services.
    #[expect(clippy::too_many_arguments, reason = "all of them meet here")]
    pub fn new(
        endpoint: Arc<Endpoint>,
        auth: Arc<Auth>,
        marks: Arc<Marks>,
        registrar: Registrar,
        presence: Arc<Presence>,
        messaging: Arc<Messaging>,
        proxy: Arc<Proxy>,
        policy: Policy,
    ) -> Dispatch {
        let domains = std::iter::once(&policy.domain).chain(&policy.aliases);
        let addresses = route::addresses(domains, &policy.advertised);
        let capabilities = capabilities(&policy, policy.messaging && messaging.serves_lists());
        Dispatch {
            endpoint,
            auth,
            marks,
            registrar,
            presence,
            messaging,
            proxy,
            policy,
            addresses,
            capabilities,
            draining: AtomicBool::new(false),
        }
    }

    /// Is a trusted peer at the other end? What it says then stands without credentials, as far as it may say it.
    pub fn is_peer(&self, flow: &Flow) -> bool {
        self.auth.peer(flow).is_some()
    }

    /// Who is who, for what is not spoken over SIP: one lock-out and one set of nonces for both.
    pub fn auth(&self) -> &Arc<Auth> {
        &self.auth
    }

    /// From now on what begins something new is answered 503; what is in hand goes on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    fn dispatch(&self, incoming: Incoming) {
        let now = clock::now();
        let is_domain = |host: &str| self.is_domain(host);
        let is_own = |address| self.endpoint.sockets().is_own(address);
        let own = Own {
            domain: &self.policy.domain,
            is_domain: &is_domain,
            advertised: &self.policy.advertised,
            addresses: &self.addresses,
            ports: &self.policy.ports,
            is_own: &is_own,
        };
        let effective = route::effective(incoming.request(), &own, &self.marks, incoming.flow());
        let incoming = match effective {
            Some(request) => incoming.reread_as(request),
            None => incoming,
        };
        let request = incoming.request();
        let route = match route::route(request, &own, &self.marks) {
            Ok(route) => route,
            Err(reject) => return incoming.reject(&reject),
        };
        if self.proxy.is_loop(request) {
            // RFC 5393 4.2.2. Before anybody is authenticated: the credentials were ours and are gone from the copy that came back.
            return incoming.reject(&Reject::new(StatusCode::LOOP_DETECTED));
        }
        if let Destination::Dialog(_, flow) = route.destination {
            return self.in_dialog(incoming, route.own_routes, flow);
        }
        if *request.method() == Method::Ack {
            return crate::endpoint::count(&self.endpoint.counters.stray_acks);
        }
        if self.draining.load(Ordering::Acquire) {
            let reject = Reject::new(StatusCode::SERVICE_UNAVAILABLE).with(HeaderName::RetryAfter, "2");
            return incoming.reject(&reject);
        }
        match (request.method(), &route.destination) {
            (Method::Register, Destination::Server) => self.register(incoming, &own, now),
            (Method::Register, Destination::User(_)) => {
                // 10.2: the Request-URI of a REGISTER names a domain, no user.
                let what = "REGISTER names a domain, not a user";
                incoming.reject(&Reject::because(StatusCode::BAD_REQUEST, what));
            }
            (Method::Options, Destination::Server) => self.capabilities(&incoming),
            (Method::Message, Destination::Server)
                if self.policy.messaging && lists::is_asked_for(incoming.request()) =>
            {
                self.to_list(incoming, &own, now);
            }
            (_, Destination::Server) => incoming.reject(&self.not_allowed()),
            (Method::Publish | Method::Subscribe, Destination::User(target)) => {
                let target = target.clone();
                self.event_state(incoming, &own, target, now);
            }
            _ => self.forward(incoming, &own, route, now),
        }
    }

    /// REGISTER: RFC 3261 10.3.
    fn register(&self, incoming: Incoming, own: &Own<'_>, now: Timestamp) {
        let is_sip = |uri: &Uri<'_>| matches!(uri.scheme, Scheme::Sip | Scheme::Sips);
        if !incoming.request().to().is_ok_and(|to| is_sip(&to.uri)) {
            // 10.2: an address of record is a SIP or SIPS URI (RFC 4475 3.3.4). Nobody's password makes one of another.
            return incoming.reject(&Reject::because(StatusCode::BAD_REQUEST, "To is not a SIP URI"));
        }
        let Some((request, flow, transaction, identity)) = self.identified(incoming, Role::Server, own, now)
        else {
            return;
        };
        let target = request.to().ok().and_then(|to| match own.means(&to.uri, identity.aor()) {
            true => Some(identity.aor().clone()),
            false => own.aor(&to.uri),
        });
        match target {
            Some(target) => {
                // The account's name, which is held already.
                let target = if target == *identity.aor() { identity.aor().clone() } else { target };
                let is_ours = |uri: &Uri<'_>| own.is_ours(uri);
                let (proxy, messaging) = (self.proxy.clone(), self.messaging.clone());
                let registered = move |home: &HomeState, has_moved: bool| {
                    if has_moved {
                        proxy.registered(&home.aor, now);
                    }
                    if !home.messages.is_empty() {
                        messaging.reachable(&home.aor);
                    }
                };
                self.registrar.register(
                    request,
                    flow,
                    transaction,
                    identity.aor(),
                    target,
                    now,
                    is_ours,
                    registered,
                );
                if !self.endpoint.sockets().is_alive(&flow) {
                    // Its end was told while the request waited for its user to be loaded.
                    self.closed(&flow);
                }
            }
            None => transaction.reject(&request, &Reject::new(StatusCode::NOT_FOUND)),
        }
    }

    /// PUBLISH and SUBSCRIBE to a user of ours.
    fn event_state(&self, incoming: Incoming, own: &Own<'_>, target: Aor, now: Timestamp) {
        if !self.policy.presence {
            return incoming.reject(&self.not_allowed());
        }
        let by_peer = self.is_peers_publication(&incoming);
        let identified = match by_peer {
            true => self.taken_on_trust(incoming).map(|(request, flow, on)| (request, flow, on, None)),
            false => self
                .identified(incoming, Role::Server, own, now)
                .map(|(request, flow, on, identity)| (request, flow, on, Some(identity))),
        };
        let Some((request, flow, transaction, identity)) = identified else { return };
        if !self.auth.accounts().exists(&target) {
            return transaction.reject(&request, &Reject::new(StatusCode::NOT_FOUND));
        }
        if let Err(reject) = route::require(&request) {
            return transaction.reject(&request, &reject);
        }
        // In a document every name of ours is the domain, as anywhere else.
        let means = |uri: &Uri<'_>| {
            Aor::from_uri(uri).as_ref() == Some(&target) || own.aor(uri).as_ref() == Some(&target)
        };
        match (request.method(), &identity) {
            (_, None) => {
                let by = Principal::Peer;
                self.presence.publish(request, flow, transaction, by, target.clone(), means, now);
            }
            (Method::Publish, Some(identity)) => {
                let by = Principal::User(identity.aor());
                self.presence.publish(request, flow, transaction, by, target.clone(), means, now);
            }
            (_, Some(identity)) => {
                self.presence.subscribe(request, flow, transaction, identity.aor().clone(), target, now);
            }
        }
    }

    /// Does a trusted peer publish what it may? Who brings credentials is judged by them. Of an Event that is not served it is told, too.
    fn is_peers_publication(&self, incoming: &Incoming) -> bool {
        let request = incoming.request();
        if *request.method() != Method::Publish || auth::has_credentials(request) {
            return false;
        }
        let Some(peer) = self.auth.peer(incoming.flow()) else { return false };
        match package::published(request) {
            Ok((package, _)) => peer.publish.has(package),
            Err(_) => !peer.publish.is_empty(),
        }
    }

    /// Takes on what no credentials protect from being done twice, from a trusted peer.
    fn taken_on_trust(&self, incoming: Incoming) -> Option<(Request, Flow, ServerTransaction)> {
        let (request, flow, transaction) = incoming.accept_unchallenged()?;
        self.endpoint.sockets().authenticated(&flow);
        Some((request, flow, transaction))
    }

    /// Everything else: to the devices of a user, if the sender is somebody we know.
    fn forward(&self, incoming: Incoming, own: &Own<'_>, route: Route, now: Timestamp) {
        let request = incoming.request();
        let checked = self.may_be_forwarded(request).and_then(|()| route::hop(request, route.own_routes));
        let hop = match checked {
            Ok(hop) => hop,
            Err(reject) => return incoming.reject(&reject),
        };
        let from_us = request.from().is_ok_and(|from| own.is_ours(&from.uri) || is_anonymous(&from.uri));
        if route.destination == Destination::Foreign && !from_us {
            // `A19`: from elsewhere to elsewhere, never.
            return incoming.reject(&Reject::new(StatusCode::FORBIDDEN));
        }
        let Some((request, flow, transaction, identity)) = self.identified(incoming, Role::Proxy, own, now)
        else {
            return;
        };
        let Destination::User(target) = route.destination else {
            let what = "Other domains are not reached from here";
            return transaction.reject(&request, &Reject::because(StatusCode::FORBIDDEN, what));
        };
        if !self.auth.accounts().exists(&target) {
            return transaction.reject(&request, &Reject::new(StatusCode::NOT_FOUND));
        }
        if *request.method() == Method::Message {
            let sender = identity.aor().clone();
            return self.messaging.deliver(request, flow, transaction, sender, target, hop, now);
        }
        self.proxy.to_user(request, flow, transaction, &target, hop, now);
    }

    /// A MESSAGE for many recipients, addressed to the server itself (RFC 5365).
    fn to_list(&self, incoming: Incoming, own: &Own<'_>, now: Timestamp) {
        if !self.messaging.serves_lists() {
            let reject = Reject::new(StatusCode::BAD_EXTENSION).with(HeaderName::Unsupported, lists::OPTION);
            return incoming.reject(&reject);
        }
        if let Err(reject) = admission::admit(incoming.request()) {
            return incoming.reject(&reject);
        }
        let Some((request, _, transaction, identity)) = self.identified(incoming, Role::Server, own, now)
        else {
            return;
        };
        let what = "Other domains are not reached from here";
        let user = |uri: &Uri<'_>| own.aor(uri).ok_or(Reject::because(StatusCode::FORBIDDEN, what));
        let exists = |aor: &Aor| self.auth.accounts().exists(aor);
        self.messaging.deliver_to_list(request, transaction, identity.aor(), user, exists, now);
    }

    fn may_be_forwarded(&self, request: &Request) -> Result<(), Reject> {
        route::proxy_require(request)?;
        match request.method() {
            Method::Message if !self.policy.messaging => Err(self.not_allowed()),
            Method::Message => admission::admit(request),
            // These live inside dialogs only, and this one has no To tag.
            Method::Bye | Method::Prack | Method::Update | Method::Notify => {
                Err(Reject::new(StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST))
            }
            _ => Ok(()),
        }
    }

    /// A request inside a dialog that we forwarded: its mark is its permission.
    fn in_dialog(&self, incoming: Incoming, own_routes: usize, to: Flow) {
        let checked = route::proxy_require(incoming.request())
            .and_then(|()| route::hop(incoming.request(), own_routes));
        if *incoming.request().method() == Method::Ack {
            let Ok(hop) = checked else { return };
            let (request, flow) = (incoming.request().clone(), *incoming.flow());
            return self.proxy.in_dialog(request, flow, None, to, hop);
        }
        let hop = match checked {
            Ok(hop) => hop,
            Err(reject) => return incoming.reject(&reject),
        };
        let Some((request, flow, transaction)) = incoming.accept_unchallenged() else { return };
        self.proxy.in_dialog(request, flow, Some(transaction), to, hop);
    }

    /// Who sent it? Challenges without keeping anything; with right credentials makes the transaction, spends the nonce count and checks From.
    /// The word of a trusted peer is as good (RFC 3325 5).
    fn identified(
        &self,
        incoming: Incoming,
        role: Role,
        own: &Own<'_>,
        now: Timestamp,
    ) -> Option<(Request, Flow, ServerTransaction, Identity)> {
        let source = incoming.flow().remote.ip();
        let salt = self.endpoint.random().bits64();
        let is_ours = |uri: &Uri<'_>| own.is_ours(uri);
        let status = match role {
            Role::Server => StatusCode::UNAUTHORIZED,
            Role::Proxy => StatusCode::PROXY_AUTHENTICATION_REQUIRED,
        };
        let asserted = self.auth.asserted(incoming.request(), incoming.flow(), |uri| own.aor(uri));
        let authenticated = match asserted {
            Some(identity) => Authenticated::As(identity),
            None => self.auth.authenticate(incoming.request(), role, source, now, salt, is_ours),
        };
        match authenticated {
            Authenticated::Challenge(rows) => {
                let mut writer = incoming.response(status);
                let mut rows = rows.as_slice();
                let name = role.challenge();
                // `name: row`, CR LF.
                let length =
                    |rows: &[String]| rows.iter().map(|row| name.as_str().len() + 4 + row.len()).sum();
                while let [_, fewer @ ..] = rows
                    && !fewer.is_empty()
                    && !incoming.is_proportionate(&writer, length(rows))
                {
                    // `A15`: a request this short gets the challenges that more clients know, at least the last.
                    rows = fewer;
                }
                for row in rows {
                    writer.header(name, row);
                }
                incoming.reply(&writer.finish());
                None
            }
            Authenticated::As(identity) => {
                let (request, flow, transaction) = match identity.is_asserted() {
                    true => incoming.accept_unchallenged()?,
                    false => incoming.accept()?,
                };
                if !self.auth.spend(&identity, now) {
                    let mut writer = transaction.response(&request, status);
                    for row in self.auth.stale(&request, source, now, salt) {
                        writer.header(role.challenge(), row);
                    }
                    transaction.respond(status, writer.finish());
                    return None;
                }
                self.endpoint.sockets().authenticated(&flow);
                if !digest::may_use_from(&request, |uri| own.means(uri, identity.aor())) {
                    // `A18`: the credentials are somebody else's.
                    transaction.reject(&request, &Reject::new(StatusCode::FORBIDDEN));
                    return None;
                }
                Some((request, flow, transaction, identity))
            }
        }
    }

    /// OPTIONS to the server (11.2): what it would say to anybody; no state, no challenge. A short one gets a short answer (`A15`).
    fn capabilities(&self, incoming: &Incoming) {
        let mut writer = incoming.response(StatusCode::OK);
        if incoming.is_proportionate(&writer, self.capabilities.len()) {
            writer.rows(&self.capabilities);
        }
        incoming.reply(&writer.finish());
    }

    fn not_allowed(&self) -> Reject {
        Reject::new(StatusCode::METHOD_NOT_ALLOWED).with(HeaderName::Allow, allow(&self.policy))
    }

    fn is_domain(&self, host: &str) -> bool {
        // Most write it as it is configured, which is quick to see.
        self.policy.domain == host
            || self.policy.domain.eq_ignore_ascii_case(host)
            || self.policy.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(host))
    }
}

impl Handler for Dispatch {
    fn request(&self, incoming: Incoming) {
        let span = debug_span!(
            "request",
            method = incoming.request().method().as_str(),
            call_id = incoming.request().call_id().unwrap_or_default(),
            flow = %incoming.flow(),
        );
        span.in_scope(|| self.dispatch(incoming));
    }

    fn closed(&self, flow: &Flow) {
        // While stopping, all connections are closed by us: the devices will come back to the next run.
        if !self.draining.load(Ordering::Acquire) {
            self.registrar.closed(flow, clock::now());
        }
    }
}

/// What OPTIONS is told (11.2).
fn capabilities(policy: &Policy, serves_lists: bool) -> Bytes {
    let mut writer = Writer::only_rows();
    writer.header(HeaderName::Allow, allow(policy));
    writer.header(HeaderName::Accept, if policy.presence { package::publishable() } else { "" });
    if policy.presence {
        writer.header(HeaderName::AllowEvents, package::allow_events());
    }
    writer.header(HeaderName::AcceptEncoding, "identity");
    writer.header(HeaderName::AcceptLanguage, "en");
    writer.header(HeaderName::Supported, if serves_lists { "path, recipient-list-message" } else { "path" });
    writer.into_rows()
}

fn allow(policy: &Policy) -> &'static str {
    match (policy.presence, policy.messaging) {
        (true, true) => "INVITE, ACK, CANCEL, BYE, OPTIONS, REGISTER, MESSAGE, SUBSCRIBE, NOTIFY, PUBLISH",
        (true, false) => "INVITE, ACK, CANCEL, BYE, OPTIONS, REGISTER, SUBSCRIBE, NOTIFY, PUBLISH",
        (false, true) => "INVITE, ACK, CANCEL, BYE, OPTIONS, REGISTER, MESSAGE",
        (false, false) => "INVITE, ACK, CANCEL, BYE, OPTIONS, REGISTER",
    }
}

fn is_anonymous(uri: &Uri<'_>) -> bool {
    matches!(uri.host_port.host, crate::sip::Host::Name(name) if name.eq_ignore_ascii_case("anonymous.invalid"))
}

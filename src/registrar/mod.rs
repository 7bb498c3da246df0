//! REGISTER -> bindings (RFC 3261 10.3). Enter, decide, commit, apply, act; the thinking is in [`binding`].

pub mod binding;
mod flows;

use std::sync::Arc;

use crate::endpoint::ServerTransaction;
use crate::home::{Homes, Refusal};
use crate::model::{Aor, Flow, HomeState, Reject, Timestamp};
use crate::registrar::binding::{Policy, Register};
use crate::registrar::flows::Flows;
use crate::sip::{HeaderName, Request, StatusCode};

/// The registrar.
#[derive(Debug)]
pub struct Registrar {
    homes: Arc<Homes>,
    policy: Policy,
    /// The value of Service-Route (RFC 3608), if devices are told one.
    service_route: Option<Arc<str>>,
    flows: Flows,
}

impl Registrar {
    /// A registrar over the homes. `service_route`: URIs that devices are told to route their requests by, the same ones for everybody.
    pub fn new(homes: Arc<Homes>, policy: Policy, service_route: &[String]) -> Registrar {
        let values: Vec<_> = service_route.iter().map(|uri| format!("<{uri}>")).collect();
        let service_route = (!values.is_empty()).then(|| values.join(", ").into());
        Registrar { homes, policy, service_route, flows: Flows::default() }
    }

    /// Answers a REGISTER that is authenticated as `identity` and names `target` in To.
    ///
    /// - `is_ours`: does a Contact URI lead back to this server?
    /// - `registered`: told when it is done, and whether devices came or went (`true`) or stayed.
    #[allow(clippy::too_many_arguments, reason = "what dispatch found out about one request")]
    pub fn register(
        &self,
        request: Request,
        flow: Flow,
        transaction: ServerTransaction,
        identity: &Aor,
        target: Aor,
        now: Timestamp,
        is_ours: impl Fn(&crate::sip::Uri<'_>) -> bool,
        registered: impl FnOnce(&HomeState, bool) + Send + 'static,
    ) {
        if *identity != target {
            // 10.3 step 4: nobody registers for somebody else (`A13`).
            return transaction.reject(&request, &Reject::new(StatusCode::FORBIDDEN));
        }
        let register = match Register::read(&request, flow, is_ours) {
            Ok(register) => register,
            Err(reject) => return transaction.reject(&request, &reject),
        };
        let policy = self.policy;
        if register.may_hang_on_its_connection() {
            // Before the commit: should the connection close meanwhile, its end waits for this home's turn and finds the binding.
            self.flows.note(flow.connection, &target);
        }
        let service_route = self.service_route.clone();
        self.homes.change(
            &target,
            move |home, mode| {
                let plan = binding::register(home, &register, now, &policy, mode)?;
                let has_moved = plan.moved.presence;
                Ok((plan, has_moved))
            },
            move |result| match result {
                Ok((has_moved, home)) => {
                    let response = accepted(&request, &transaction, home, now, service_route.as_deref());
                    transaction.respond(StatusCode::OK, response);
                    registered(home, has_moved);
                }
                Err(Refusal::Reject(reject)) => transaction.reject(&request, &reject),
                Err(Refusal::Fault) => {
                    // 10.3 step 7: a commit that fails is 500; nothing visible has changed.
                    let reject = Reject::new(StatusCode::SERVER_INTERNAL_ERROR)
                        .with(HeaderName::RetryAfter, transaction.retry_after());
                    transaction.reject(&request, &reject);
                }
            },
        );
    }
}

impl Registrar {
    /// A connection is gone: bindings that can be reached over it alone end soon, unless their device comes back.
    pub fn closed(&self, flow: &Flow, now: Timestamp) {
        let connection = flow.connection;
        for aor in self.flows.take(connection) {
            self.homes.change(&aor, move |home, _| flows::fall(home, connection, now), |_| ());
        }
    }
}

/// 10.3 step 8: all current bindings, each with its remaining time.
fn accepted(
    request: &Request,
    transaction: &ServerTransaction,
    home: &HomeState,
    now: Timestamp,
    service_route: Option<&str>,
) -> bytes::Bytes {
    let mut writer = transaction.response(request, StatusCode::OK);
    for binding in home.live_bindings(now) {
        let expires = binding.expires_at.secs_from(now);
        match binding.q {
            1_000 => writer.contact(&binding.contact, &[&binding.params], expires),
            q => writer.contact(&binding.contact, &[&binding.params, &format!(";q=0.{q:03}")], expires),
        };
    }
    // RFC 3327 5.3: the Path as stored, for a client that understands it.
    if request.has_token(HeaderName::Supported, "path") {
        writer.copy(request, HeaderName::Path);
    }
    if let Some(value) = service_route {
        // RFC 3608 6.3: also for a query, and whatever the client says it supports.
        writer.header(HeaderName::ServiceRoute, value);
    }
    writer.header(HeaderName::Date, now.sip_date());
    writer.finish()
}

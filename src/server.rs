//! The composition root: store, sockets, services, and the order in which they start and stop.

use std::io::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::api;
use crate::api::control::{self, Control, Request, Response};
use crate::api::explain;
use crate::api::http::{self, Http};
use crate::api::lists;
use crate::api::message;
use crate::api::rules;
use crate::api::users::{self, AccountChange};
use crate::auth::{self, Accounts, Auth, Marks};
use crate::cli::dev::{self, Dev};
use crate::config::{self, Config};
use crate::dispatch::residency::{Gate, Residency};
use crate::dispatch::route::{Own, addresses};
use crate::dispatch::{self, Dispatch};
use crate::endpoint::{Endpoint, clock};
use crate::home::Homes;
use crate::messaging::{self, Messaging};
use crate::model::{Aor, EntityTag, Packages};
use crate::presence::{self, Presence};
use crate::proxy::context::{Forking, Order};
use crate::proxy::{self, Proxy};
use crate::registrar::{self, Registrar};
use crate::sip::digest::Algorithm;
use crate::store::{self, Store};
use crate::transport::{Resolver, Sockets};
use crate::xcap::{self, Xcap};

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The store.
    #[error("the store could not be opened")]
    Store(#[from] store::Fault),
    /// The sockets.
    #[error("the listeners could not be bound")]
    Listen(#[source] std::io::Error),
    /// The control socket.
    #[error("the control socket could not be opened")]
    Control(#[from] control::Fault),
    /// The HTTP listener.
    #[error("the HTTP listener could not be opened")]
    Http(#[from] http::Fault),
    /// The accounts of `--dev`.
    #[error("the accounts of --dev could not be made: {0}")]
    Dev(String),
}

/// Runs until `stop`, then drains: what is in hand is finished, nothing new is begun, subscriptions live on in the store.
///
/// Prints `listening TRANSPORT:ADDRESS` for every listener and then `ready` on standard output.
///
/// # Errors
/// [`Fault`] if it cannot start.
pub async fn run(config: Config, dev: Option<Dev>, stop: impl Future<Output = ()>) -> Result<(), Fault> {
    // One provider for all TLS, whoever asks first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // Before the store is read: a phone that comes back right after a restart waits for a moment instead of being refused.
    let sockets = Sockets::bind(&config.listeners(), config.server.datagrams(), config.limits.connections())
        .await
        .map_err(Fault::Listen)?;
    let http = match http_settings(&config) {
        Some(settings) => Some(Http::bind(&settings).await?),
        None => None,
    };
    let store = Store::open(&config.target()).await?;
    if let Some(dev) = &dev {
        dev.ensure_accounts(&store, clock::now()).await.map_err(Fault::Dev)?;
    }
    let with_sha512_256 = config.auth.algorithms.contains(&Algorithm::Sha512_256);
    let accounts = Arc::new(Accounts::new(with_sha512_256));
    let homes = match config.server.fast_path {
        true => Homes::new(store.clone(), clock::now),
        false => Homes::always_driven(store.clone(), clock::now),
    };
    let residency = Arc::new(Residency::new(store.clone(), homes.clone(), accounts.clone()));

    let control = Control::bind(&config.control_socket).await?;
    let endpoint = Endpoint::new(sockets, config.limits.message(), config.server_header.clone());
    let mut fresh = [0; 32];
    endpoint.random().fill(&mut fresh);
    let secret = store.secret(fresh).await?;
    let marks = Arc::new(Marks::new(secret));
    let presence = Presence::new(homes.clone(), endpoint.clone(), presence_policy(&config));
    let proxy = Arc::new(proxy(&config, &endpoint, &homes, &marks));
    let messaging = messaging(&config, &endpoint, &homes, &accounts, &proxy, &secret);
    let dispatch =
        dispatch(&config, &endpoint, &homes, &accounts, &marks, &presence, messaging.clone(), proxy);
    let dispatch = Arc::new(dispatch);

    let (stopping, stopped) = watch::channel(false);
    let gate = Gate::new(residency.clone(), endpoint.clone(), dispatch.clone(), config.domain.clone());
    endpoint.run(Arc::new(gate), stopped.clone());
    let mut tasks = JoinSet::new();
    let operator = operator(&config, &store, &residency, &accounts, &homes, &endpoint, &presence, &messaging);
    tasks.spawn(control.serve(operator, stopped.clone()));
    announce(&endpoint, http.as_ref(), dev.as_ref());
    if let Some(http) = http {
        let policy = xcap::Policy {
            root: config.http.xcap_root.clone(),
            domain: config.domain.clone(),
            aliases: config.aliases.clone(),
        };
        let auth = dispatch.auth().clone();
        let xcap = Xcap::new(policy, auth, homes.clone(), endpoint.clone(), residency.clone());
        let router = http::Router::default().below(&config.http.xcap_root, xcap.handler());
        tasks.spawn(http.serve(router, stopped.clone()));
    }
    info!(domain = %config.domain, version = env!("CARGO_PKG_VERSION"), "started");

    // Who is here already is told about before all are.
    let bringing = residency.clone();
    tasks.spawn(presence.clone().run(move |user| bringing.bring_with_watchers(user), stopped.clone()));

    let mut stop = std::pin::pin!(stop);
    let is_stopped = tokio::select! {
        loaded = residency.load() => { loaded?; false }
        () = &mut stop => true,
    };
    if !is_stopped {
        info!(accounts = accounts.len(), "loaded");
        accounts.all_are_here();
        let passwords = accounts.without_sha512_256();
        if with_sha512_256 && passwords > 0 {
            warn!(
                passwords,
                "SHA-512-256 is offered once these passwords are set again (hither user passwd)"
            );
        }
        // What looks at homes of its own accord begins when all of them are there.
        let (ended, unanswered) = (presence.clone(), presence.clone());
        tasks.spawn(homes.clone().run_wheel(
            move |subscription| ended.ended(subscription),
            move |home, now| unanswered.unanswered(home, now),
            stopped.clone(),
        ));
        tasks.spawn(messaging.clone().run(stopped.clone()));
        let owed = homes.clone();
        tasks.spawn(async move { owed.mark_watched(presence::RESUME_GAP, stopped).await });
        stop.await;
    }
    info!("draining");
    dispatch.drain();
    messaging.drain();
    let in_hand = async {
        endpoint.answered().await;
        messaging.drained().await;
        homes.drained().await;
        endpoint.drained().await;
    };
    if tokio::time::timeout(DRAIN, in_hand).await.is_err() {
        warn!("something in hand did not end in time");
    }
    if config.subscription.end_at_stop
        && !is_stopped
        && tokio::time::timeout(DRAIN, presence.deactivate()).await.is_err()
    {
        warn!("not every watcher has answered that its subscription is ended");
    }
    let _ = stopping.send(true);
    if tokio::time::timeout(DRAIN, endpoint.sockets().ended()).await.is_err() {
        warn!("a connection did not end in time");
    }
    if tokio::time::timeout(DRAIN, async { while tasks.join_next().await.is_some() {} }).await.is_err() {
        warn!("a task did not end in time");
    }
    store.close().await;
    info!("stopped");
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "all that is joined there")]
fn dispatch(
    config: &Config,
    endpoint: &Arc<Endpoint>,
    homes: &Arc<Homes>,
    accounts: &Arc<Accounts>,
    marks: &Arc<Marks>,
    presence: &Arc<Presence>,
    messaging: Arc<Messaging>,
    proxy: Arc<Proxy>,
) -> Dispatch {
    let mut run_key = [0; 32];
    endpoint.random().fill(&mut run_key);
    let auth_policy = auth::Policy {
        realm: config.domain.clone(),
        nonce_lifetime_s: config.auth.nonce_lifetime_s,
        algorithms: config.auth.algorithms.clone(),
        integrity: config.auth.integrity,
        peers: auth::Peers::new(config.peers.iter().map(peer).collect()),
    };
    let registrar_policy = registrar::binding::Policy {
        min_interval_s: config.registration.min_interval_s,
        default_interval_s: config.registration.default_interval_s,
        max_interval_s: config.registration.max_interval_s,
        max_bindings: config.registration.max_bindings,
    };
    let listeners = endpoint.sockets().listeners();
    let policy = dispatch::Policy {
        domain: config.domain.clone(),
        aliases: config.aliases.clone(),
        advertised: listeners.iter().filter_map(|listener| listener.advertise.clone()).collect(),
        ports: listeners.iter().map(|listener| listener.local.port()).collect(),
        presence: config.presence.enabled,
        messaging: config.messaging.enabled,
    };
    Dispatch::new(
        endpoint.clone(),
        Arc::new(Auth::new(auth_policy, accounts.clone(), run_key)),
        marks.clone(),
        Registrar::new(homes.clone(), registrar_policy, &config.registration.service_route),
        presence.clone(),
        messaging,
        proxy,
        policy,
    )
}

fn proxy(config: &Config, endpoint: &Arc<Endpoint>, homes: &Arc<Homes>, marks: &Arc<Marks>) -> Proxy {
    let policy = proxy::Policy {
        max_forks: config.proxy.max_forks,
        forking: Forking {
            is_invite: true,
            timer_c: Duration::from_secs(config.proxy.timer_c_s.into()),
            no_cancel: false,
            order: if config.proxy.fork_by_q { Order::ByQ } else { Order::Parallel },
            ring: Duration::from_secs(config.proxy.ring_s.into()),
            breadth: 60,
        },
        recurse: config.proxy.follow_redirects,
        domains: std::iter::once(&config.domain).chain(&config.aliases).cloned().collect(),
        realm: config.domain.clone(),
        denied: denied(config),
    };
    let resolver = match config.dns.addresses().as_slice() {
        [] => Resolver::system(),
        servers => Resolver::with_servers(servers),
    };
    let resolver = resolver
        .inspect_err(|error| warn!(%error, "no name servers: only numeric addresses are reached"))
        .ok();
    Proxy::new(endpoint.clone(), homes.clone(), marks.clone(), resolver, policy)
}

/// Messages, which the proxy carries to devices.
fn messaging(
    config: &Config,
    endpoint: &Arc<Endpoint>,
    homes: &Arc<Homes>,
    accounts: &Arc<Accounts>,
    proxy: &Arc<Proxy>,
    secret: &[u8; 32],
) -> Arc<Messaging> {
    let policy = messaging::Policy {
        store: config.messaging.store,
        retention: Duration::from_secs(config.messaging.retention_s.into()),
        max_messages: config.messaging.max_per_user,
        max_bytes: config.messaging.max_bytes_per_user,
        patience: Duration::from_secs(config.messaging.answer_s.into()),
        retry: Duration::from_secs(config.messaging.retry_s.into()),
        active_first: config.messaging.active_first,
        of_sender: messaging::Allowance {
            burst: config.messaging.burst,
            per_minute: config.messaging.per_minute,
        },
        of_strangers: messaging::Allowance {
            burst: config.messaging.strangers_burst,
            per_minute: config.messaging.strangers_per_minute,
        },
        reports: config.messaging.reports,
        verify_cpim: config.messaging.verify_cpim,
        domain: config.domain.clone(),
    };
    let proxy = proxy.clone();
    let carrier = move |parcel: messaging::Parcel| {
        let messaging::Parcel { request, from, home, hop, later, silence, told, noted } = parcel;
        let later = proxy::Later { contacts: later, after: silence };
        proxy.carry_for(request, from, (told, noted), &home, &later, hop, clock::now());
    };
    let ids = messaging::imdn::Ids::new(secret);
    let names = names(config, endpoint, accounts);
    Messaging::new(homes.clone(), endpoint.clone(), policy, Box::new(carrier), names, ids)
}

/// Whom of our users a URI means, as dispatch reads it.
fn names(config: &Config, endpoint: &Arc<Endpoint>, accounts: &Arc<Accounts>) -> messaging::Names {
    let names: Vec<_> = std::iter::once(&config.domain).chain(&config.aliases).cloned().collect();
    let listeners = endpoint.sockets().listeners();
    let advertised: Vec<_> = listeners.iter().filter_map(|listener| listener.advertise.clone()).collect();
    let ports: Vec<_> = listeners.iter().map(|listener| listener.local.port()).collect();
    let addresses = addresses(&names, &advertised);
    let (domain, endpoint, accounts) = (config.domain.clone(), endpoint.clone(), accounts.clone());
    Box::new(move |uri| {
        let own = Own {
            domain: &domain,
            is_domain: &|host| names.iter().any(|name| name.eq_ignore_ascii_case(host)),
            advertised: &advertised,
            addresses: &addresses,
            ports: &ports,
            is_own: &|address| endpoint.sockets().is_own(address),
        };
        own.aor(uri).filter(|aor| accounts.exists(aor))
    })
}

/// One of `peers`.
fn peer(peer: &config::Peer) -> auth::Peer {
    auth::Peer {
        name: peer.name.clone(),
        networks: peer.addresses.iter().map(|net| (net.address, net.prefix)).collect(),
        udp: peer.udp,
        publish: Packages::of(&peer.publish),
        asserts: peer.assert_identity,
        reads_services: peer.read_services,
    }
}

/// What `[http]` asks for; `None`: nothing.
fn http_settings(config: &Config) -> Option<http::Settings> {
    let section = &config.http;
    let files = section.tls_cert.as_ref().zip(section.tls_key.as_ref());
    Some(http::Settings {
        listen: section.listen?,
        tls: files.map(|(certificate, key)| (certificate.into(), key.into())),
        server_header: config.server_header.clone(),
        limits: http::Limits {
            connections: section.connections,
            per_address: section.connections_per_address,
            header_deadline: Duration::from_millis(section.header_deadline_ms),
            body_deadline: Duration::from_millis(section.body_deadline_ms),
        },
    })
}

/// Networks of `contact.deny`.
fn denied(config: &Config) -> Vec<(std::net::IpAddr, u8)> {
    config.contact.deny.iter().map(|net| (net.address, net.prefix)).collect()
}

fn presence_policy(config: &Config) -> presence::Policy {
    presence::Policy {
        publication: presence::Intervals {
            min_s: config.publication.min_interval_s,
            default_s: config.publication.default_interval_s,
            max_s: config.publication.max_interval_s,
        },
        subscription: presence::Intervals {
            min_s: config.subscription.min_interval_s,
            default_s: config.subscription.default_interval_s,
            max_s: config.subscription.max_interval_s,
        },
        max_publications_per_aor: config.publication.max_per_aor,
        publish_burst: config.publication.burst,
        publish_per_second: config.publication.per_second,
        max_per_watcher: config.subscription.max_per_watcher,
        max_per_presentity: config.subscription.max_per_presentity,
        waiting: presence::waiting::Limits {
            give_up: Duration::from_secs(config.subscription.give_up_after_s.into()),
            max_per_presentity: config.subscription.max_waiting_per_presentity,
            max_per_watcher: config.subscription.max_waiting_per_watcher,
        },
        domain: config.presence.domain(),
        notify_burst: config.presence.notify_burst,
        notify_interval: Duration::from_millis(config.presence.notify_interval_ms),
        denied: denied(config),
        keep_documents: config.server.fast_path,
        ..presence::Policy::default()
    }
}

/// What the command line asks of a running server.
#[expect(clippy::too_many_arguments, reason = "all that can be asked")]
fn operator(
    config: &Config,
    store: &Store,
    residency: &Arc<Residency>,
    accounts: &Arc<Accounts>,
    homes: &Arc<Homes>,
    endpoint: &Arc<Endpoint>,
    presence: &Arc<Presence>,
    messaging: &Arc<Messaging>,
) -> control::Handler {
    let (store, residency, domain) = (store.clone(), residency.clone(), config.domain.clone());
    let (accounts, homes, endpoint, presence) =
        (accounts.clone(), homes.clone(), endpoint.clone(), presence.clone());
    let messaging = messaging.clone();
    Arc::new(move |request: Request| {
        let (store, residency, domain) = (store.clone(), residency.clone(), domain.clone());
        let (accounts, homes, endpoint, presence) =
            (accounts.clone(), homes.clone(), endpoint.clone(), presence.clone());
        let messaging = messaging.clone();
        let answer = async move {
            if matches!(request, Request::Status {}) {
                return status(&residency, &accounts, &homes, &endpoint, &store);
            }
            if let Request::Trace { user, after, follow_s } = &request {
                return api::trace::answer(&endpoint.trace, &domain, user, *after, *follow_s, clock::now());
            }
            // What is still being read must not overtake what changes now.
            residency.completed().await;
            if let Request::Explain { watcher, presentity } = &request {
                let (now, instant) = (clock::now(), clock::instant());
                let when = explain::When { now, instant, is_out: store.is_out() };
                return explain::answer(&presence, &accounts, &domain, watcher, presentity, when);
            }
            if let Request::MessageTrace { name } = &request {
                return message::answer(&messaging, name).await;
            }
            let observer = |change| match change {
                AccountChange::Put(account) => accounts.put(account),
                AccountChange::Removed(user) => {
                    accounts.remove(&user);
                    presence.removed(&homes.purge(&user), &user);
                }
            };
            let tag = EntityTag(endpoint.random().bits128());
            let asking = |owner: &Aor| presence.asking(owner, clock::now());
            let about_rules =
                rules::perform(&homes, &accounts, &domain, &asking, &request, tag, clock::now());
            if let Some(answer) = about_rules.await {
                return answer;
            }
            let about_lists = lists::perform(&homes, &accounts, &domain, &request, tag, clock::now());
            if let Some(answer) = about_lists.await {
                return answer;
            }
            users::perform(&store, &domain, &request, clock::now(), &observer).await
        };
        Box::pin(answer) as Pin<Box<dyn Future<Output = Response> + Send>>
    })
}

fn status(
    residency: &Residency,
    accounts: &Accounts,
    homes: &Homes,
    endpoint: &Endpoint,
    store: &Store,
) -> Response {
    let [homes, bindings, publications, subscriptions, messages] = homes.census();
    let (servers, clients) = endpoint.transactions();
    let mut values = serde_json::Map::new();
    let mut put = |name: &str, value: serde_json::Value| values.insert(name.into(), value);
    put("loaded", residency.is_complete().into());
    put("accounts", accounts.len().into());
    put("homes", homes.into());
    put("bindings", bindings.into());
    put("publications", publications.into());
    put("subscriptions", subscriptions.into());
    put("messages", messages.into());
    put("server_transactions", servers.into());
    put("client_transactions", clients.into());
    put("connections", endpoint.sockets().counters().connections.into());
    put("database", if store.is_out() { "away" } else { "answers" }.into());
    for (name, value) in endpoint.counters.snapshot() {
        put(name, value.into());
    }
    Response::Status { values }
}

/// Standard output is read by people and by programs that wait for `ready`.
fn announce(endpoint: &Endpoint, http: Option<&Http>, dev: Option<&Dev>) {
    let mut out = std::io::stdout().lock();
    for listener in endpoint.sockets().listeners() {
        let _ = writeln!(out, "listening {}:{}", listener.transport.param(), listener.local);
    }
    if let Some(http) = http {
        let _ = writeln!(out, "listening {}:{}", http.scheme(), http.local());
    }
    let _ = writeln!(out, "ready");
    if let Some(dev) = dev {
        let port = endpoint.sockets().listeners().first().map_or(5060, |listener| listener.local.port());
        // A domain that is a name may not be in any DNS yet: phones are pointed at the address.
        let host = if dev.domain.parse::<std::net::IpAddr>().is_ok() {
            dev.domain.clone()
        } else {
            dev::own_address()
        };
        let _ = write!(out, "{}", dev::greeting(dev, &host, port));
    }
    let _ = out.flush();
}

/// How long each step of draining may take.
const DRAIN: Duration = Duration::from_secs(5);

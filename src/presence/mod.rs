//! Presence: PUBLISH (RFC 3903) and SUBSCRIBE/NOTIFY (RFC 6665) for the event package `presence` (RFC 3856).
//!
//! Enter, decide, commit, apply, act: [`publication`] and [`subscription`] decide, [`dialog`] is the machine of one subscription's NOTIFYs,
//! and the notifier carries out what it wants. Who sent a request, and for which AoR, was settled before it comes here.

mod backlog;
mod by_id;
pub mod dialog;
pub mod explain;
mod notifier;
mod notify;
mod numbers;
mod orphan;
pub mod pacing;
pub mod package;
pub mod policy;
pub mod publication;
mod resting;
mod seats;
pub mod subscribe;
pub mod subscription;
#[cfg(test)]
mod testing;
mod told_lists;
mod views;
pub mod waiting;
#[cfg(test)]
mod wire;

use std::collections::{HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::availability::document::pidf::Pidf;
use crate::availability::view::Grant;
use crate::availability::{sphere, view};
use crate::endpoint::{Endpoint, ServerTransaction, clock};
use crate::home::{Changed, Homes, Refusal};
use crate::model::rate::Rate;
use crate::model::{
    Aor, EntityTag, Flow, HomeState, Package, PublicationId, Reject, Row, Subscription, SubscriptionId,
    Timestamp,
};
use crate::presence::backlog::Backlog;
use crate::presence::dialog::Reason;
use crate::presence::explain::{Decided, Explained};
use crate::presence::notifier::Notifier;
use crate::presence::publication::{Body, Fresh, Publish};
use crate::presence::subscribe::Subscribe;
use crate::presence::subscription::{Outcome, Source};
use crate::sip::{HeaderName, Request, StatusCode, Uri};

pub use notifier::RESUME_GAP;
pub use policy::{Intervals, Policy};

/// In whose name something is published.
#[derive(Debug, Clone, Copy)]
pub enum Principal<'a> {
    /// A user, authenticated: for nobody else.
    User(&'a Aor),
    /// A trusted peer that may publish in the package of this request, for any user (RFC 3903 14.1).
    Peer,
}

/// Who asks to watch somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asking {
    /// Who.
    pub watcher: Aor,
    /// Since when.
    pub since: Timestamp,
    /// When the subscription ended, if it has.
    pub ended_at: Option<Timestamp>,
}

/// The service.
#[derive(Debug)]
pub struct Presence {
    homes: Arc<Homes>,
    endpoint: Arc<Endpoint>,
    policy: Arc<Policy>,
    notifier: Arc<Notifier>,
    rate: Rate,
    /// Documents that were published last, read: they are composed next.
    documents: Mutex<Documents>,
}

impl Presence {
    /// Presence of all homes of a table.
    pub fn new(homes: Arc<Homes>, endpoint: Arc<Endpoint>, policy: Policy) -> Arc<Presence> {
        let policy = Arc::new(policy);
        let notifier = Notifier::new(homes.clone(), endpoint.clone(), policy.clone());
        let rate = Rate::new(policy.publish_burst, Duration::from_secs(1) / policy.publish_per_second.max(1));
        Arc::new(Presence { homes, endpoint, policy, notifier, rate, documents: Mutex::default() })
    }

    /// Answers a PUBLISH (RFC 3903 6).
    ///
    /// - `target`: the AoR of the Request-URI, an account of ours.
    /// - `means_target`: does this URI mean it, too?
    #[expect(
        clippy::too_many_arguments,
        reason = "each of them is something else that only the caller knows"
    )]
    pub fn publish(
        &self,
        request: Request,
        flow: Flow,
        transaction: ServerTransaction,
        principal: Principal<'_>,
        target: Aor,
        means_target: impl Fn(&Uri<'_>) -> bool,
        now: Timestamp,
    ) {
        // RFC 3903 14.1: state is published by its owner.
        let may_publish = match principal {
            Principal::User(user) => *user == target,
            Principal::Peer => true,
        };
        if !may_publish {
            return transaction.reject(&request, &Reject::new(StatusCode::FORBIDDEN));
        }
        if let Err(seconds) = self.rate.take(&target, now) {
            let reject = Reject::because(StatusCode::SERVICE_UNAVAILABLE, "Published Too Often")
                .with(HeaderName::RetryAfter, seconds.to_string());
            return transaction.reject(&request, &reject);
        }
        let publish = match Publish::read(&request, flow, means_target) {
            Ok(publish) => publish,
            Err(reject) => return transaction.reject(&request, &reject),
        };
        self.hold(&publish);
        let random = self.endpoint.random();
        let fresh = Fresh { id: PublicationId(random.bits128()), tag: EntityTag(random.bits128()) };
        let policy = self.policy.clone();
        self.homes.change(
            &target,
            move |home, mode| publication::publish(home, &publish, fresh, now, &policy, mode),
            move |result| match result {
                Ok((published, _)) => {
                    let mut ok = transaction.response(&request, StatusCode::OK);
                    ok.header(HeaderName::Expires, published.expires.to_string())
                        .header(HeaderName::SipEtag, published.tag.to_string());
                    transaction.respond(StatusCode::OK, ok.finish());
                }
                Err(refusal) => refuse_or_fail(&request, &transaction, refusal),
            },
        );
    }

    /// Keeps what was read until it has been composed; the oldest is let go, and would be read again.
    fn hold(&self, publish: &Publish) {
        let Some(Ok(Body { bytes, pidf: Some(pidf), .. })) = &publish.body else { return };
        let mut documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        documents.bytes += bytes.len();
        documents.held.push_back((bytes.len(), pidf.clone()));
        while documents.bytes > HELD_BYTES
            && let Some((bytes, _)) = documents.held.pop_front()
        {
            documents.bytes = documents.bytes.saturating_sub(bytes);
        }
    }

    /// Answers a SUBSCRIBE, then notifies (RFC 6665 4.2.1).
    ///
    /// - `watcher`: authenticated.
    /// - `target`: the AoR of the Request-URI, an account of ours; in a dialog the Request-URI is our Contact, whose user part is the
    ///   presentity's.
    pub fn subscribe(
        &self,
        request: Request,
        flow: Flow,
        transaction: ServerTransaction,
        watcher: Aor,
        target: Aor,
        now: Timestamp,
    ) {
        let subscribe = match Subscribe::read(&request) {
            Ok(subscribe) => subscribe,
            Err(reject) => return transaction.reject(&request, &reject),
        };
        let mut seat = None;
        if subscribe.local_tag.is_none() {
            seat = self.notifier.seat(&watcher);
            if seat.is_none() {
                let reject = Reject::because(StatusCode::SERVICE_UNAVAILABLE, "Too Many Subscriptions")
                    .with(HeaderName::RetryAfter, transaction.retry_after());
                return transaction.reject(&request, &reject);
            }
        }
        let watched = self.homes.read(&watcher);
        let id = SubscriptionId(self.endpoint.random().bits128());
        let waits_for = self.homes.waits_for(&watcher);
        let source = Source { watcher, flow, local_tag: transaction.to_tag().to_owned(), id, waits_for };
        let (policy, notifier, endpoint) =
            (self.policy.clone(), self.notifier.clone(), self.endpoint.clone());
        self.homes.change(
            &target,
            move |home, mode| {
                subscription::subscribe(home, &watched, &subscribe, &source, now, &policy, mode)
            },
            move |result| match result {
                Ok((accepted, home)) => {
                    let s = &accepted.subscription;
                    let contact = notify::contact(&endpoint.ours(&flow), s);
                    let mut ok = transaction.response(&request, StatusCode::OK);
                    ok.copy(&request, HeaderName::RecordRoute)
                        .header_of(HeaderName::Contact, &["<", &contact, ">"])
                        .header(HeaderName::Expires, accepted.expires.to_string())
                        .header(HeaderName::AllowEvents, package::allow_events());
                    let ok = ok.finish();
                    endpoint.sockets().together(|| {
                        transaction.respond(StatusCode::OK, ok);
                        match (accepted.outcome, seat) {
                            (Outcome::Begun, Some(seat)) => {
                                notifier.replaced(&accepted.replaces, &s.watcher);
                                notifier.begun(s, seat);
                                notifier.ask_others(home, s);
                            }
                            (Outcome::Fetched, Some(seat)) => notifier.fetched(s, seat),
                            (Outcome::Ended, _) => notifier.ended(s, Reason::Timeout),
                            (Outcome::Begun | Outcome::Refreshed | Outcome::Fetched, _) => {
                                notifier.refreshed(s);
                            }
                        }
                    });
                }
                Err(refusal) => refuse_or_fail(&request, &transaction, refusal),
            },
        );
    }

    /// A subscription has expired and its row is gone (RFC 6665 4.2.1.4): the wheel tells.
    pub fn ended(&self, subscription: &Arc<Subscription>) {
        self.notifier.ended(subscription, Reason::Timeout);
    }

    /// The rows that keep those whose subscriptions have expired by now before the owner decided (RFC 3857 4.7.1): the wheel asks.
    pub fn unanswered(&self, home: &HomeState, now: Timestamp) -> Vec<Row> {
        self.notifier.unanswered(home, now)
    }

    /// Who asks to watch this user and is not decided about, who has asked first first.
    pub fn asking(&self, owner: &Aor, now: Timestamp) -> Vec<Asking> {
        let home = self.homes.read(owner);
        let is_undecided = |watcher: &Aor| self.notifier.grant_of(&home, watcher, now) == Grant::Pending;
        let live = home.subscriptions.iter().filter(|s| s.package == Package::Presence && s.expires_at > now);
        let live = live.map(|s| Asking { watcher: s.watcher.clone(), since: s.created_at, ended_at: None });
        let waiting = home.waiting.iter().filter(|waiting| waiting.gives_up_at > now).map(|waiting| Asking {
            watcher: waiting.watcher.clone(),
            since: waiting.subscribed_at,
            ended_at: Some(waiting.ended_at),
        });
        let mut asking: Vec<Asking> = live.chain(waiting).filter(|one| is_undecided(&one.watcher)).collect();
        asking.sort_by_key(|one| one.since);
        let mut names = HashSet::new();
        asking.retain(|one| names.insert(one.watcher.clone()));
        asking
    }

    /// An account is gone. Who watched it hears that there is no such presentity any more; what it watched itself ends as rejected.
    ///
    /// - `before`: the homes it concerned, as they were.
    pub fn removed(&self, before: &[Arc<HomeState>], user: &Aor) {
        for home in before {
            for subscription in &home.subscriptions {
                if home.aor == *user {
                    self.notifier.ended(subscription, Reason::NoResource);
                } else if subscription.watcher == *user {
                    self.notifier.ended(subscription, Reason::Rejected);
                }
            }
        }
    }

    /// Ends every subscription, as this server will not be back (RFC 6665 4.4.2). Returns when every watcher has answered or is given up; the caller
    /// may lose patience sooner.
    pub async fn deactivate(&self) {
        for (aor, watchers) in self.homes.watched() {
            for _ in 0..watchers.div_ceil(subscription::ENDED_AT_ONCE) {
                let notifier = self.notifier.clone();
                self.homes.change(
                    &aor,
                    |home, _| Ok(subscription::end_some(home)),
                    move |result| {
                        // Those whose rows could not be dropped go on after the next start.
                        for subscription in result.into_iter().flat_map(|(ended, _)| ended) {
                            notifier.ended(&subscription, Reason::Deactivated);
                        }
                    },
                );
                self.homes.drained().await;
            }
        }
        while self.notifier.len() > 0 {
            tokio::time::sleep(PACE).await;
        }
    }

    /// Why this watcher sees of this presentity what it sees, and what it is still owed.
    pub fn explain(&self, watcher: &Aor, presentity: &Aor, now: Timestamp) -> Explained {
        let (home, watched) = (self.homes.read(presentity), self.homes.read(watcher));
        let sphere = || sphere::sphere(&home, now);
        let decided = Package::ALL.map(|package| {
            let (grant, rule) =
                package::decide(package, &home, watcher, &watched, &self.policy, &sphere, now);
            Decided { package, grant, rule }
        });
        let rules = view::matching(&home, watcher, &sphere, now);
        let watches = self.notifier.watches(&home, watcher, now);
        Explained { packages: decided.into(), rules, home, watches }
    }

    /// How many subscriptions have been notified by this run and live.
    pub fn dialogs(&self) -> usize {
        self.notifier.len()
    }

    /// Reacts to what changes in homes, until `stop` is set. Subscriptions outlive the server: nothing is terminated then.
    ///
    /// - `missing`: while homes are still being loaded, brings those of an AoR and of its watchers; `None`: they are here. Ends it as `false`, these
    ///   watchers are told when the wheel runs ([`Homes::run_wheel`]), which is after everything was loaded.
    pub async fn run<F: Future<Output = bool>>(
        self: Arc<Self>,
        missing: impl Fn(&Aor) -> Option<F>,
        mut stop: watch::Receiver<bool>,
    ) {
        self.notifier.stops_with(stop.clone());
        let mut backlog = Backlog::default();
        let mut pace = tokio::time::interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let turn = tokio::select! {
                _ = stop.changed() => return,
                // Takes an AoR only when it returns one, so losing it half-way loses nothing.
                Changed { aor, only, packages } = self.homes.next_changed() => {
                    if backlog.has(&aor) {
                        backlog.push(aor, packages);
                        None
                    } else {
                        Some((aor, only, (packages, None)))
                    }
                }
                _ = pace.tick(), if !backlog.is_empty() => backlog.pop().map(|(aor, round)| (aor, None, round)),
            };
            let Some((aor, only, round)) = turn else { continue };
            if let Some(bringing) = missing(&aor) {
                let are_here = tokio::select! {
                    _ = stop.changed() => return,
                    are_here = bringing => are_here,
                };
                if !are_here {
                    self.homes.remind(&aor, clock::now());
                    continue;
                }
            }
            let told = catch_unwind(AssertUnwindSafe(|| match &only {
                Some(watcher) => self.notifier.react_for(&aor, watcher, round.0),
                None => self.notifier.react(&aor, round),
            }));
            let next = told.unwrap_or_else(|_| {
                tracing::error!("notifying the watchers of a presentity panicked; the others go on");
                None
            });
            backlog.done(aor, round.0, next);
            tokio::task::yield_now().await;
        }
    }
}

/// From one turn of a presentity with a great many watchers to the next of the same or another such: as long again as such a turn takes with
/// the answers to it, so that half of a core is left for others and nobody's request waits behind ten thousand answers (`A25`).
const PACE: Duration = Duration::from_millis(2);

/// Documents as they were read, the oldest first.
#[derive(Debug, Default)]
struct Documents {
    held: VecDeque<(usize, Arc<Pidf>)>,
    bytes: usize,
}

/// Of documents held as read, as they came: a document is composed some milliseconds after it was published. Read, they are at worst ten times as large.
const HELD_BYTES: usize = 1 << 20;

fn refuse_or_fail(request: &Request, transaction: &ServerTransaction, refusal: Refusal) {
    match refusal {
        Refusal::Reject(reject) => transaction.reject(request, &reject),
        Refusal::Fault => transaction.fault(request),
    }
}

//! Carries out what the dialogs want: looks, sends, reserves, drops. Every live subscription that this run has touched has one [`Watch`] here.
//!
//! Nothing is composed or sent with a lock held. What a home holds is read each time; what stands here can be lost and made again.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use crate::availability::view::{DomainDefault, Grant};
use crate::availability::{hard_state, rules};
use crate::endpoint::{Endpoint, TransactionUser, UserEvent, clock};
use crate::home::{Homes, Refusal};
use crate::model::{
    Aor, Durability, Flow, HomeState, Package, Packages, Row, Subscription, SubscriptionId, Timestamp,
};
use crate::presence::backlog;
use crate::presence::by_id::{self, ById};
use crate::presence::dialog::{Answer, Dialog, Outlook, Output, Reason, Reserved, Seen, State};
use crate::presence::explain::{Heard, Told, Watched};
use crate::presence::notify::{self, Notify};
use crate::presence::pacing::Pacing;
use crate::presence::package::{self, Document, Others, Shown};
use crate::presence::policy::Policy;
use crate::presence::resting::Resting;
use crate::presence::seats::{Seat, Seats};
use crate::presence::subscription::{self, Dropped};
use crate::presence::told_lists::ToldLists;
use crate::presence::views::{Rendered, Views, standing};
use crate::presence::waiting;
use crate::sip::HeaderName;
use crate::transport::SendError;

/// All dialogs of this server in the role of notifier.
pub(super) struct Notifier {
    homes: Arc<Homes>,
    endpoint: Arc<Endpoint>,
    policy: Arc<Policy>,
    shards: Box<[Mutex<Dialogs>]>,
    seats: Arc<Seats>,
    views: Views,
    told_lists: ToldLists,
    /// When the next dialog of an earlier run may send its full state.
    next_slot: Mutex<Option<Instant>>,
    /// Set to true when the server stops.
    stop: OnceLock<watch::Receiver<bool>>,
    /// From which the times of resting dialogs are counted.
    origin: Instant,
}

/// One dialog, and what its machine needs around it. The user of its NOTIFY transactions.
struct Watch {
    notifier: Weak<Notifier>,
    id: SubscriptionId,
    presentity: Aor,
    watcher: Aor,
    package: Package,
    held: Mutex<Held>,
}

type Dialogs = ById<Entry>;

enum Entry {
    Busy(Arc<Watch>),
    /// The watcher knows everything: only what the next NOTIFY needs is kept.
    Resting(Resting),
}

struct Held {
    dialog: Dialog,
    /// Stays taken while the dialog rests.
    seat: Option<Seat>,
    /// The row as it was last, once it is gone.
    ended: Option<Arc<Subscription>>,
    /// What was seen by a look, until it is sent.
    seen: Option<(Arc<Subscription>, Rendered)>,
    /// Which SUBSCRIBE the last look followed.
    remote_cseq: u32,
    /// What had ended when the watcher was told last ([`Document::ended`]).
    ended_told: Option<u32>,
    /// The last NOTIFY.
    told: Option<Told>,
    /// The earliest wake that is under way.
    wake_at: Option<Instant>,
    /// It rests: whoever still has this goes on with what comes after it.
    has_left: bool,
}

/// A presentity while its watchers are told, one after the other: what holds for most of them is found out once.
struct Round<'a> {
    home: &'a Arc<HomeState>,
    now: Timestamp,
    /// What the last one was shown.
    last: RefCell<Option<(Shown, Rendered)>>,
}

/// What one watcher of a round is about to see, unless the presentity changes meanwhile.
struct Sight<'a> {
    round: &'a Round<'a>,
    row: &'a Arc<Subscription>,
    granted: Grant,
}

impl<'a> Round<'a> {
    fn new(home: &'a Arc<HomeState>, now: Timestamp) -> Round<'a> {
        Round { home, now, last: RefCell::default() }
    }
}

impl std::fmt::Debug for Notifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notifier").field("dialogs", &self.len()).finish_non_exhaustive()
    }
}

impl Notifier {
    pub(super) fn new(homes: Arc<Homes>, endpoint: Arc<Endpoint>, policy: Arc<Policy>) -> Arc<Notifier> {
        let views = Views::new(policy.keep_documents);
        Arc::new(Notifier {
            homes,
            endpoint,
            policy,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            seats: Seats::new(),
            views,
            told_lists: ToldLists::default(),
            next_slot: Mutex::new(None),
            stop: OnceLock::new(),
            origin: clock::instant(),
        })
    }

    /// Listens to the server's stop.
    pub(super) fn stops_with(&self, stop: watch::Receiver<bool>) {
        let _ = self.stop.set(stop);
    }

    /// How many dialogs are held.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// A seat for one more subscription of this watcher.
    pub(super) fn seat(&self, watcher: &Aor) -> Option<Seat> {
        self.seats.take(watcher, self.policy.max_per_watcher)
    }

    /// A subscription began: its first NOTIFY goes out.
    pub(super) fn begun(self: &Arc<Self>, subscription: &Arc<Subscription>, seat: Seat) {
        let dialog =
            Dialog::initial(clock::instant(), self.pacing(subscription), subscription.notify_cseq_reserved);
        let watch = self.enter(subscription, || self.watch(subscription, dialog, Some(seat)));
        self.tell(&watch, Dialog::handle_subscribed);
    }

    /// A subscription was refreshed: the watcher gets the current state at once.
    pub(super) fn refreshed(self: &Arc<Self>, subscription: &Arc<Subscription>) {
        let watch = self.enter(subscription, || self.resume(subscription, None));
        self.tell(&watch, Dialog::handle_subscribed);
    }

    /// Subscriptions whose rows gave way to the same dialog begun anew: forgotten without a word. They were `watcher`'s.
    pub(super) fn replaced(self: &Arc<Self>, ids: &[SubscriptionId], watcher: &Aor) {
        for id in ids {
            let mut shard = self.shard(*id);
            match shard.get(id) {
                Some(Entry::Busy(watch)) => {
                    let watch = watch.clone();
                    drop(shard);
                    self.tell(&watch, |dialog, _| dialog.handle_replaced());
                }
                Some(Entry::Resting(_)) => {
                    shard.remove(id);
                    drop(shard);
                    drop(self.seats.back(watcher));
                    self.told_lists.forget(*id);
                }
                None => {}
            }
        }
    }

    /// A watcher has begun a subscription. What it has of the same kind to the same Contact may be of a phone that has started again since and knows
    /// nothing of it any more: a NOTIFY finds out, for who is gone answers 481 (RFC 6665 4.1.3), and whoever is not learns nothing new.
    pub(super) fn ask_others(self: &Arc<Self>, home: &HomeState, new: &Subscription) {
        let now = clock::now();
        let others = home.subscriptions.of(&new.watcher).filter(|other| {
            other.id != new.id
                && other.expires_at > now
                && (other.dialog.remote_target(), other.package, &other.event_id)
                    == (new.dialog.remote_target(), new.package, &new.event_id)
        });
        others.take(ASKED).for_each(|other| self.refreshed(other));
    }

    /// State was fetched: one NOTIFY, and nothing is kept after its answer.
    pub(super) fn fetched(self: &Arc<Self>, subscription: &Arc<Subscription>, seat: Seat) {
        let dialog =
            Dialog::initial(clock::instant(), self.pacing(subscription), subscription.notify_cseq_reserved);
        let watch = self.watch(subscription, dialog, Some(seat));
        self.end(&watch, subscription, Reason::Timeout);
    }

    /// A subscription's row is gone: the watcher gets its last NOTIFY.
    pub(super) fn ended(self: &Arc<Self>, subscription: &Arc<Subscription>, reason: Reason) {
        let watch = self.enter(subscription, || self.resume(subscription, None));
        self.end(&watch, subscription, reason);
    }

    /// Something about a presentity moved: every watcher of this round, in order of id, is told as its pacing allows.
    ///
    /// Returns where to go on; `None` if that was the last one.
    pub(super) fn react(
        self: &Arc<Self>,
        presentity: &Aor,
        (packages, after): backlog::Round,
    ) -> Option<SubscriptionId> {
        let home = self.homes.read(presentity);
        if after.is_none() {
            self.settle(&home, packages, None);
        }
        if packages == Packages::SHOWING_WATCHERS {
            self.show_watchers(&home);
            return None;
        }
        let mut rest = home.subscriptions.after(after).filter(|s| packages.has(s.package));
        let mut last = None;
        let turn = if after.is_none() { FIRST_TURN } else { TURN };
        let round = Round::new(&home, clock::now());
        self.endpoint.sockets().together(|| {
            for subscription in rest.by_ref().take(turn) {
                last = Some(subscription.id);
                self.changed(&round, subscription);
            }
        });
        last.filter(|_| rest.next().is_some())
    }

    /// The same for the subscriptions of one watcher, who alone is concerned.
    pub(super) fn react_for(
        self: &Arc<Self>,
        presentity: &Aor,
        watcher: &Aor,
        packages: Packages,
    ) -> Option<SubscriptionId> {
        let home = self.homes.read(presentity);
        self.settle(&home, packages, Some(watcher));
        let mut theirs = home.subscriptions.of(watcher).filter(|s| packages.has(s.package));
        let round = Round::new(&home, clock::now());
        self.endpoint.sockets().together(|| {
            for subscription in theirs.by_ref().take(FIRST_TURN) {
                self.changed(&round, subscription);
            }
        });
        // Somebody with so many is told of the rest in the turns of all.
        theirs.next().and_then(|_| self.react(presentity, (packages, None)))
    }

    /// Somebody began or ceased to watch, or how it stands with them has changed: the owner is told, who alone may know (RFC 3857 4.6).
    fn show_watchers(self: &Arc<Self>, home: &Arc<HomeState>) {
        let round = Round::new(home, clock::now());
        self.endpoint.sockets().together(|| {
            for subscription in home.winfo().take(FIRST_TURN) {
                self.changed(&round, subscription);
            }
        });
    }

    /// Who has waited for a decision that is there now waits no more (RFC 3857 4.7.1). `only`: this watcher alone is concerned.
    fn settle(&self, home: &HomeState, packages: Packages, only: Option<&Aor>) {
        if home.waiting.is_empty() || !packages.has(Package::Presence) {
            return;
        }
        let now = clock::now();
        let concerned =
            home.waiting.iter().filter(|waiting| only.is_none_or(|only| *only == waiting.watcher));
        let decided =
            concerned.filter(|waiting| self.grant_of(home, &waiting.watcher, now) != Grant::Pending);
        let decided: Vec<Aor> = decided.map(|waiting| waiting.watcher.clone()).collect();
        if !decided.is_empty() {
            self.homes.change(&home.aor, move |home, _| Ok((waiting::decided(home, &decided), ())), |_| {});
        }
    }

    /// The rows that keep those whose subscriptions have ended undecided by now.
    pub(super) fn unanswered(&self, home: &HomeState, now: Timestamp) -> Vec<Row> {
        let mut rows = Vec::new();
        // Each is decided on what those before it leave behind.
        let mut working = home.clone();
        for subscription in home.subscriptions.ended(now).take(KEPT_AT_ONCE) {
            let kept = self.kept(&working, subscription, now);
            kept.iter().for_each(|row| working.apply(row));
            rows.extend(kept);
        }
        rows
    }

    /// The rows that keep a subscription waiting that ends now, if its owner has not decided.
    fn kept(&self, home: &HomeState, ends: &Subscription, now: Timestamp) -> Vec<Row> {
        if ends.package != Package::Presence || self.grant_of(home, &ends.watcher, now) != Grant::Pending {
            return Vec::new();
        }
        let waits_for = self.homes.waits_for(&ends.watcher);
        waiting::keep(home, ends, waits_for, &self.policy.waiting, now).into_iter().collect()
    }

    /// How much of the presence of this user a watcher may see.
    pub(super) fn grant_of(&self, home: &HomeState, watcher: &Aor, now: Timestamp) -> Grant {
        self.granted(home, Package::Presence, watcher, now)
    }

    /// Was it told that the owner has not decided?
    fn was_pending(&self, id: SubscriptionId) -> bool {
        match self.shard(id).get(&id) {
            Some(Entry::Busy(watch)) => watch.held().dialog.was_pending(),
            Some(Entry::Resting(resting)) => resting.was_pending(),
            None => false,
        }
    }

    /// The watcher's subscriptions in this home, and those that have ended but not been answered yet. Looks at every dialog: for people.
    pub(super) fn watches(&self, home: &HomeState, watcher: &Aor, now: Timestamp) -> Vec<Watched> {
        let live = home.subscriptions.of(watcher).filter(|row| row.expires_at > now);
        let mut watches: Vec<Watched> = live
            .map(|row| {
                let unknown = Watched { row: row.clone(), lives: true, told: None, outlook: None };
                match self.shard(row.id).get(&row.id) {
                    Some(Entry::Busy(watch)) => watch.watched(Some(row)).unwrap_or(unknown),
                    Some(Entry::Resting(resting)) => Watched {
                        told: Some(resting.told()),
                        outlook: Some(Outlook { owes: false, waits_for: None }),
                        ..unknown
                    },
                    None => unknown,
                }
            })
            .collect();
        for shard in &self.shards {
            let is_theirs = |watch: &Arc<Watch>| watch.presentity == home.aor && watch.watcher == *watcher;
            let busy = |entry: &Entry| match entry {
                Entry::Busy(watch) => Some(watch.clone()),
                Entry::Resting(_) => None,
            };
            let theirs: Vec<_> = lock(shard).values().filter_map(busy).filter(is_theirs).collect();
            let ended = theirs.iter().filter(|watch| watches.iter().all(|known| known.row.id != watch.id));
            let ended: Vec<_> = ended.filter_map(|watch| watch.watched(None)).collect();
            watches.extend(ended);
        }
        watches
    }

    fn changed(self: &Arc<Self>, round: &Round<'_>, row: &Arc<Subscription>) {
        if row.expires_at <= round.now {
            return;
        }
        let watch = self.enter(row, || self.resume(row, Some(self.slot())));
        let granted = self.granted(round.home, watch.package, &watch.watcher, round.now);
        let standing = standing(&granted);
        self.tell_seeing(&watch, Some(Sight { round, row, granted }), |held, now| {
            held.dialog.handle_changed(now, standing);
        });
    }

    /// How much the watcher may see. Its own home is read only where the answer hangs on it. Where it will be another one by time alone, the
    /// home is looked at again then.
    fn granted(&self, home: &HomeState, package: Package, watcher: &Aor, now: Timestamp) -> Grant {
        let flip = Packages::RULED.has(package).then(|| rules::of(home)?.next_flip(now)).flatten();
        let turn = (package == Package::Presence).then(|| hard_state::next_turn(home, now)).flatten();
        if let Some(at) = flip.into_iter().chain(turn).min() {
            self.homes.remind(&home.aor, at);
        }
        let sphere = || self.views.sphere(home, now);
        let granted =
            |watched: &HomeState| package::grant(package, home, watcher, watched, &self.policy, &sphere, now);
        match self.policy.domain.default {
            DomainDefault::Reciprocal if Packages::SHOWN_TO_OTHERS.has(package) => {
                granted(&self.homes.read(watcher))
            }
            DomainDefault::Reciprocal
            | DomainDefault::Confirm
            | DomainDefault::Basic
            // Any home would do.
            | DomainDefault::Full => granted(home),
        }
    }

    /// Do the presentity's own rules decide?
    fn is_ruled(&self, watch: &Watch) -> bool {
        Packages::RULED.has(watch.package) && rules::of(&self.homes.read(&watch.presentity)).is_some()
    }

    fn end(self: &Arc<Self>, watch: &Arc<Watch>, subscription: &Arc<Subscription>, reason: Reason) {
        self.tell_seeing(watch, None, |held, now| {
            held.ended = Some(subscription.clone());
            held.dialog.handle_ended(now, reason);
        });
    }

    /// Tells the machine something, then does what it wants.
    fn tell(self: &Arc<Self>, watch: &Arc<Watch>, handle: impl FnOnce(&mut Dialog, Instant)) {
        self.tell_seeing(watch, None, |held, now| handle(&mut held.dialog, now));
    }

    /// The same, where it was seen a moment ago what the watcher will be shown if it is told at once.
    fn tell_seeing(
        self: &Arc<Self>,
        watch: &Arc<Watch>,
        mut sight: Option<Sight<'_>>,
        handle: impl FnOnce(&mut Held, Instant),
    ) {
        let mut later = None;
        let (watch, mut output) = loop {
            let watch = later.as_ref().unwrap_or(watch);
            let mut held = watch.held();
            if !held.has_left {
                handle(&mut held, clock::instant());
                let first = held.dialog.poll_output();
                drop(held);
                break (watch, first);
            }
            drop(held);
            let Some(awake) = self.awake(watch) else { return };
            later = Some(awake);
        };
        loop {
            match output {
                None => return self.schedule(watch),
                Some(Output::Look { last: true }) => self.look_last(watch),
                Some(Output::Look { last: false }) => self.look(watch, sight.take()),
                Some(Output::Notify { cseq, state, unproven, whole }) => {
                    self.send(watch, (cseq, state), unproven, whole);
                }
                Some(Output::Reserve { upto, durable }) => self.reserve(watch, upto, durable),
                Some(Output::Drop) => self.drop_row(watch),
                Some(Output::Forget) => self.forget(watch),
            }
            output = watch.held().dialog.poll_output();
        }
    }

    fn look(&self, watch: &Watch, sight: Option<Sight<'_>>) {
        let home = self.homes.read(&watch.presentity);
        // Is it still that one? Then what was found out of it holds.
        if let Some(Sight { round, row, granted }) =
            sight.filter(|sight| Arc::ptr_eq(sight.round.home, &home))
        {
            let rendered = self.rendered(round, row, granted);
            return self.seen(watch, Some((row.clone(), rendered)));
        }
        let round = Round::new(&home, clock::now());
        // What has expired but is not swept yet will be ended by the wheel, by a dialog that goes on from the row.
        let row = subscription::by_id(&home, watch.id).filter(|s| s.expires_at > round.now);
        self.look_at(watch, &round, row);
    }

    fn look_last(&self, watch: &Watch) {
        let home = self.homes.read(&watch.presentity);
        let row = watch.held().ended.clone();
        self.look_at(watch, &Round::new(&home, clock::now()), row.as_ref());
    }

    fn look_at(&self, watch: &Watch, round: &Round<'_>, row: Option<&Arc<Subscription>>) {
        let seen = row.map(|row| {
            let granted = self.granted(round.home, watch.package, &watch.watcher, round.now);
            (row.clone(), self.rendered(round, row, granted))
        });
        self.seen(watch, seen);
    }

    /// What this subscription is shown.
    fn rendered(&self, round: &Round<'_>, row: &Subscription, granted: Grant) -> Rendered {
        let shown = Shown::to(row, granted);
        if let Some((_, rendered)) = round.last.borrow().as_ref().filter(|(last, _)| *last == shown) {
            return rendered.clone();
        }
        let rendered = self.asking(round.home, round.now, |others| {
            self.views.document(round.home, shown.clone(), row, others, round.now)
        });
        if self.views.are_kept(&shown) {
            round.last.replace(Some((shown, rendered.clone())));
        }
        rendered
    }

    fn seen(&self, watch: &Watch, seen: Option<(Arc<Subscription>, Rendered)>) {
        let mut held = watch.held();
        let found = seen.as_ref().map_or(Seen::Missing, |(_, rendered)| Seen::State(rendered.fingerprint));
        if let Some((row, _)) = &seen {
            held.remote_cseq = row.remote_cseq;
        }
        held.seen = seen;
        held.dialog.handle_state(clock::instant(), found);
    }

    /// Lets a document ask how it stands with the watchers of this home.
    fn asking<T>(&self, home: &HomeState, now: Timestamp, ask: impl FnOnce(&Others<'_>) -> T) -> T {
        let granted = |watcher: &Aor| self.grant_of(home, watcher, now);
        ask(&Others { granted: &granted, was_pending: &|id| self.was_pending(id) })
    }

    /// The document as this watcher is sent it. `whole`: with all of the state, whatever is known already.
    fn body(&self, watch: &Watch, document: &Document, version: u32, whole: bool) -> Bytes {
        let ended = watch.held().ended_told.replace(document.ended());
        let Some(watchers) = document.watchers() else { return document.sent_after(ended, version) };
        let known = if whole { None } else { self.told_lists.get(watch.id) };
        self.told_lists.put(watch.id, watchers.clone());
        let (now, home) = (clock::now(), self.homes.read(&watch.presentity));
        self.asking(&home, now, |others| watchers.write(known.as_deref(), others, version, now))
    }

    fn send(self: &Arc<Self>, watch: &Arc<Watch>, (cseq, state): (u32, State), unproven: bool, whole: bool) {
        let flips;
        let (row, document) = {
            let mut held = watch.held();
            let before = held.told.replace(Told { cseq, state, at: clock::now(), heard: None });
            flips = before.is_some_and(|told| told.state.is_active() != state.is_active());
            let (row, document) = match held.seen.take() {
                Some((row, rendered)) => (Some(row), rendered.document),
                None => (None, Document::none()),
            };
            match state {
                State::Active => (row, document),
                // Where the owner has said `confirm`, no further document is sent (RFC 5025 3.2.1).
                State::Pending { shown: true } if self.is_ruled(watch) => (row, Document::none()),
                State::Pending { shown: true } => {
                    let shown = row.as_ref().map(|row| package::polite(row, &watch.presentity));
                    (row, shown.unwrap_or_else(Document::none))
                }
                State::Pending { shown: false } => (row, Document::none()),
                State::Terminated { body: true, .. } => (held.ended.clone(), document),
                State::Terminated { body: false, .. } => (held.ended.clone(), Document::none()),
            }
        };
        if flips && watch.package == Package::Presence && !matches!(state, State::Terminated { .. }) {
            self.homes.mark_watchers(&watch.presentity);
        }
        let (heard, answer) = match row.and_then(|row| self.flow_of(&row).map(|flow| (row, flow))) {
            None => (Heard::Undelivered, self.undelivered()),
            Some((row, flow)) => {
                let ours = self.endpoint.ours(&flow);
                let contact = notify::contact(&ours, &row);
                let branch = self.endpoint.random().branch();
                let via = ours.via(&branch);
                let format = package::body_type(&row);
                // It only grows, over restarts too, as the numbers of NOTIFYs do; the first one is 0 (RFC 4235 4.1, RFC 3680 5.1).
                let body = self.body(watch, &document, cseq.saturating_sub(1), whole);
                let notify = Notify { cseq, state, format, body: &body, via: &via, contact: &contact };
                let bytes = notify::write(&row, &notify, clock::now());
                let max_sends = if unproven { UNPROVEN_SENDS } else { u8::MAX };
                match self.endpoint.send_limited(
                    bytes,
                    (&ours, &branch),
                    &flow,
                    watch.clone(),
                    cseq,
                    max_sends,
                ) {
                    Ok(_) => return,
                    // Our table or the peer's buffer is full: it lives, and is told a little later.
                    Err(SendError::Full) => (Heard::Full, Answer::Unsent { retry_after: Some(WHEN_FULL) }),
                    Err(SendError::FlowGone | SendError::NoListener | SendError::Refused) => {
                        (Heard::Undelivered, self.undelivered())
                    }
                }
            }
        };
        watch.heard(cseq, heard);
        self.unheard(watch, answer);
        watch.held().dialog.handle_answer(clock::instant(), cseq, answer);
    }

    /// Who has not taken a list of watchers is told of all of them next.
    fn unheard(&self, watch: &Watch, answer: Answer) {
        if watch.package == Package::PresenceWinfo && answer != Answer::Accepted {
            self.told_lists.forget(watch.id);
        }
    }

    /// The watcher is out of reach. While the server stops that is our doing: subscriptions outlive it.
    fn undelivered(&self) -> Answer {
        if self.stop.get().is_some_and(|stop| *stop.borrow()) {
            Answer::Unsent { retry_after: None }
        } else {
            Answer::Gone
        }
    }

    /// The flow of the last SUBSCRIBE. If that connection is gone, a new one to the next hop, if it is at the address that subscribed: who
    /// authenticated from one address cannot have connections made to another (`A14`, `A16`). Datagrams go to where the SUBSCRIBE came
    /// from, by whichever listener there is now.
    fn flow_of(&self, row: &Subscription) -> Option<Flow> {
        let sockets = self.endpoint.sockets();
        if sockets.is_alive(&row.flow) {
            return Some(row.flow);
        }
        let transport = row.flow.transport;
        if !transport.is_reliable() {
            return sockets.flow_to(transport, row.flow.remote).ok();
        }
        let next_hop = notify::next_hop(row)?;
        let same = next_hop.ip().to_canonical() == row.flow.remote.ip().to_canonical();
        if !same || !sockets.may_contact(next_hop, &self.policy.denied) {
            return None;
        }
        sockets.flow_to(transport, next_hop).ok()
    }

    fn reserve(self: &Arc<Self>, watch: &Arc<Watch>, upto: u32, durable: bool) {
        let id = watch.id;
        let durability = if durable { Durability::Durable } else { Durability::Lazy };
        let (notifier, user) = (self.clone(), watch.clone());
        self.homes.change(
            &watch.presentity,
            move |home, _| Ok(subscription::reserve(home, id, upto, durability)),
            move |result| {
                let reserved = match result {
                    Ok((true, _)) => Reserved::Taken { upto, durable },
                    Ok((false, _)) => Reserved::Missing,
                    Err(Refusal::Reject(_) | Refusal::Fault) => Reserved::Refused,
                };
                notifier.tell(&user, |dialog, now| dialog.handle_reserved(now, reserved));
            },
        );
    }

    fn drop_row(self: &Arc<Self>, watch: &Arc<Watch>) {
        let id = watch.id;
        let remote_cseq = watch.held().remote_cseq;
        let home = self.homes.read(&watch.presentity);
        let last_row = subscription::by_id(&home, id).cloned();
        let kept = last_row.as_ref().map(|row| self.kept(&home, row, clock::now())).unwrap_or_default();
        drop(home);
        let (notifier, user) = (self.clone(), watch.clone());
        self.homes.change(
            &watch.presentity,
            move |home, _| Ok(subscription::drop_row(home, id, remote_cseq, &kept)),
            move |result| match result {
                Ok((Dropped::Now | Dropped::Missing, _)) => {
                    let mut held = user.held();
                    if held.ended.is_none() {
                        held.ended = last_row;
                    }
                    drop(held);
                    notifier.tell(&user, Dialog::handle_dropped);
                }
                Ok((Dropped::Refreshed, _)) | Err(Refusal::Reject(_) | Refusal::Fault) => {
                    notifier.tell(&user, Dialog::handle_not_dropped);
                }
            },
        );
    }

    fn forget(&self, watch: &Arc<Watch>) {
        let mut shard = self.shard(watch.id);
        if matches!(shard.get(&watch.id), Some(Entry::Busy(held)) if Arc::ptr_eq(held, watch)) {
            shard.remove(&watch.id);
        }
        drop(shard);
        if watch.package == Package::PresenceWinfo {
            self.told_lists.forget(watch.id);
        }
    }

    /// Lets go of a machine that is at rest; its seat stays taken.
    fn leave(&self, watch: &Arc<Watch>) {
        let mut shard = self.shard(watch.id);
        let Some(entry) = shard.get_mut(&watch.id) else { return };
        if !matches!(entry, Entry::Busy(held) if Arc::ptr_eq(held, watch)) {
            return;
        }
        let mut held = watch.held();
        let Some(resting) = held.resting(self.origin) else { return };
        let Some(seat) = held.seat.take() else { return };
        seat.stay();
        held.has_left = true;
        *entry = Entry::Resting(resting);
    }

    /// The dialog that goes on after one that has left. `None`: the subscription was forgotten.
    fn awake(self: &Arc<Self>, left: &Watch) -> Option<Arc<Watch>> {
        let mut shard = self.shard(left.id);
        let entry = shard.get_mut(&left.id)?;
        let names = (&left.presentity, &left.watcher, left.package);
        Some(self.woken(entry, left.id, names))
    }

    fn woken(
        self: &Arc<Self>,
        entry: &mut Entry,
        id: SubscriptionId,
        (presentity, watcher, package): (&Aor, &Aor, Package),
    ) -> Arc<Watch> {
        let resting = match entry {
            Entry::Busy(watch) => return watch.clone(),
            Entry::Resting(resting) => resting,
        };
        let dialog = resting.dialog(self.origin, package::pacing(package, &self.policy));
        let watch = Arc::new(Watch {
            notifier: Arc::downgrade(self),
            id,
            presentity: presentity.clone(),
            watcher: watcher.clone(),
            package,
            held: Mutex::new(Held {
                told: Some(resting.told()),
                ended_told: Some(resting.ended_told()),
                ..Held::new(dialog, Some(self.seats.back(watcher)))
            }),
        });
        *entry = Entry::Busy(watch.clone());
        watch
    }

    fn schedule(&self, watch: &Arc<Watch>) {
        let mut held = watch.held();
        let Some(at) = held.dialog.next_timeout() else {
            let is_at_rest = held.may_rest();
            drop(held);
            return if is_at_rest {
                self.leave(watch)
            };
        };
        if held.wake_at.is_some_and(|earlier| earlier <= at) {
            return;
        }
        held.wake_at = Some(at);
        drop(held);
        let user: Weak<Watch> = Arc::downgrade(watch);
        self.endpoint.wake(at.saturating_duration_since(clock::instant()), user, 0);
    }

    /// The dialog of a subscription, made if there is none that lives.
    fn enter(self: &Arc<Self>, subscription: &Subscription, make: impl FnOnce() -> Arc<Watch>) -> Arc<Watch> {
        if let Some(watch) = self.living(subscription, &mut self.shard(subscription.id)) {
            return watch;
        }
        let made = make();
        let mut shard = self.shard(subscription.id);
        // Perhaps somebody was faster.
        self.living(subscription, &mut shard).unwrap_or_else(|| {
            shard.insert(subscription.id, Entry::Busy(made.clone()));
            made
        })
    }

    fn living(self: &Arc<Self>, subscription: &Subscription, shard: &mut Dialogs) -> Option<Arc<Watch>> {
        let names = (&subscription.presentity, &subscription.watcher, subscription.package);
        let watch = self.woken(shard.get_mut(&subscription.id)?, subscription.id, names);
        let is_over = watch.held().dialog.is_over();
        (!is_over).then_some(watch)
    }

    /// For a subscription of which this run knows nothing but its row.
    fn resume(self: &Arc<Self>, subscription: &Subscription, not_before: Option<Instant>) -> Arc<Watch> {
        // Whoever never answers is dropped well within Timer F.
        let proven = subscription.created_at.after(TIMER_F) <= clock::now();
        let reserved = subscription.notify_cseq_reserved;
        let dialog =
            Dialog::resumed(clock::instant(), self.pacing(subscription), reserved, proven, not_before);
        let seat = self.seats.take(&subscription.watcher, usize::MAX);
        self.watch(subscription, dialog, seat)
    }

    fn watch(
        self: &Arc<Self>,
        subscription: &Subscription,
        dialog: Dialog,
        seat: Option<Seat>,
    ) -> Arc<Watch> {
        Arc::new(Watch {
            notifier: Arc::downgrade(self),
            id: subscription.id,
            presentity: subscription.presentity.clone(),
            watcher: subscription.watcher.clone(),
            package: subscription.package,
            held: Mutex::new(Held::new(dialog, seat)),
        })
    }

    /// Full states after a restart go out one after the other, not all at once.
    fn slot(&self) -> Instant {
        let mut next = lock(&self.next_slot);
        let slot = next.unwrap_or_else(clock::instant).max(clock::instant());
        *next = Some(slot + RESUME_GAP);
        slot
    }

    fn pacing(&self, subscription: &Subscription) -> Pacing {
        package::pacing(subscription.package, &self.policy)
    }

    fn shard(&self, id: SubscriptionId) -> MutexGuard<'_, Dialogs> {
        lock(&self.shards[by_id::shard(id, SHARDS)])
    }
}

impl Held {
    fn new(dialog: Dialog, seat: Option<Seat>) -> Held {
        Held {
            dialog,
            seat,
            ended: None,
            seen: None,
            remote_cseq: 0,
            ended_told: None,
            told: None,
            wake_at: None,
            has_left: false,
        }
    }

    /// Is there nothing around its dialog that speaks against a rest?
    fn may_rest(&self) -> bool {
        let is_answered = self.told.is_some_and(|told| told.heard.is_some());
        is_answered && self.ended.is_none() && self.seen.is_none() && !self.has_left
    }

    /// What to keep of it if it is at rest.
    fn resting(&mut self, origin: Instant) -> Option<Resting> {
        if !self.may_rest() {
            return None;
        }
        let Held { dialog, told, ended_told, .. } = self;
        let ended_told = (*ended_told)?;
        Resting::of(dialog, told.as_ref(), ended_told, clock::instant(), origin)
    }
}

impl Watch {
    fn held(&self) -> MutexGuard<'_, Held> {
        lock(&self.held)
    }

    /// Remembers what came of the last NOTIFY.
    fn heard(&self, cseq: u32, heard: Heard) {
        if let Some(told) = self.held().told.as_mut().filter(|told| told.cseq == cseq) {
            told.heard.get_or_insert((heard, clock::now()));
        }
    }

    /// As it stands now. `row`: the live one, if there is any.
    fn watched(&self, row: Option<&Arc<Subscription>>) -> Option<Watched> {
        let held = self.held();
        let lives = row.is_some();
        let row = row.or(held.ended.as_ref())?.clone();
        Some(Watched { row, lives, told: held.told, outlook: Some(held.dialog.outlook(clock::instant())) })
    }
}

impl TransactionUser for Watch {
    fn event(self: Arc<Self>, event: UserEvent) {
        let Some(notifier) = self.notifier.upgrade() else { return };
        match event {
            UserEvent::Response { branch, response } if response.status().is_final() => {
                let retry_after = response.text(HeaderName::RetryAfter).and_then(seconds);
                let answer = Answer::of(response.status(), retry_after);
                self.heard(branch, Heard::Answer(response.status()));
                notifier.unheard(&self, answer);
                notifier.tell(&self, |dialog, now| dialog.handle_answer(now, branch, answer));
            }
            UserEvent::Timeout { branch } => {
                self.heard(branch, Heard::Silence);
                notifier.unheard(&self, Answer::Gone);
                notifier.tell(&self, |dialog, now| dialog.handle_answer(now, branch, Answer::Gone));
            }
            UserEvent::TransportFailed { branch } => {
                let answer = notifier.undelivered();
                self.heard(branch, Heard::Undelivered);
                notifier.unheard(&self, answer);
                notifier.tell(&self, |dialog, now| dialog.handle_answer(now, branch, answer));
            }
            UserEvent::Timer { .. } => {
                self.held().wake_at = None;
                notifier.tell(&self, Dialog::handle_timeout);
            }
            UserEvent::Response { .. } | UserEvent::Cancelled { .. } => {}
        }
    }
}

/// The number of `Retry-After: 120 (comment);duration=60` (RFC 3261 20.33).
fn seconds(value: &str) -> Option<u32> {
    let digits = value.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// What stands behind these locks is replaced as a whole; a panic elsewhere leaves it consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const SHARDS: usize = 64;
/// Watchers told in one go: almost always all..
const FIRST_TURN: usize = 256;
/// ..and of those who have more, the next ones, before other presentities have their turn.
const TURN: usize = 64;
/// Of so many that end at one instant it is asked whether anybody has decided.
const KEPT_AT_ONCE: usize = 1_024;
/// Subscriptions that a new one of the same watcher asks after: a phone that starts again leaves one behind.
const ASKED: usize = 4;
/// Packets to a watcher that has never answered (`A16`).
const UNPROVEN_SENDS: u8 = 2;
/// At most 2,000 full states a second after a restart.
pub const RESUME_GAP: Duration = Duration::from_micros(500);
const WHEN_FULL: Duration = Duration::from_secs(5);
const TIMER_F: Duration = Duration::from_secs(32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_may_have_comment_and_parameters_rfc3261_20_33() {
        assert_eq!(seconds("120 (in a meeting);duration=60"), Some(120));
        assert_eq!(seconds("18000;duration=3600"), Some(18_000));
        assert_eq!(seconds("soon"), None);
    }
}

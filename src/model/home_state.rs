//! Everything about one address of record, as one snapshot.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::model::{
    Aor, Auid, Binding, Documents, Mailbox, Package, Packages, Publication, Row, Subscription, Subscriptions,
    Timestamp, WaitingWatchers,
};

/// One AoR's bindings, publications, watchers and waiting messages. Replaced as a whole, never changed while somebody reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct HomeState {
    /// Whose.
    pub aor: Aor,
    /// In order of registration. May hold expired ones until they are swept: ask [`HomeState::live_bindings`].
    pub bindings: Few<Binding>,
    /// In order of publication.
    pub publications: Few<Publication>,
    /// Sorted by id.
    pub subscriptions: Subscriptions,
    /// Watchers whose subscription has ended before the owner decided.
    pub waiting: WaitingWatchers,
    /// Rules and lists.
    pub documents: Documents,
    /// Messages that no device has taken yet.
    pub messages: Mailbox,
    /// Grows with every applied plan that moved presence or watchers; a NOTIFY is owed while what was notified is older.
    pub version: u64,
}

impl HomeState {
    /// An AoR about which nothing is known.
    pub fn empty(aor: Aor) -> HomeState {
        HomeState {
            aor,
            bindings: Few::new(),
            publications: Few::new(),
            subscriptions: Subscriptions::default(),
            waiting: WaitingWatchers::default(),
            documents: Documents::default(),
            messages: Mailbox::default(),
            version: 0,
        }
    }
    /// Nothing in it.
    pub fn is_empty(&self) -> bool {
        self.bindings.is_empty()
            && self.publications.is_empty()
            && self.subscriptions.is_empty()
            && self.waiting.is_empty()
            && self.documents.is_empty()
            && self.messages.is_empty()
    }
    /// Bindings that may be used now.
    pub fn live_bindings(&self, now: Timestamp) -> impl Iterator<Item = &Arc<Binding>> {
        self.bindings.iter().filter(move |b| !b.is_expired(now))
    }
    /// Publications that count now.
    pub fn live_publications(&self, now: Timestamp) -> impl Iterator<Item = &Arc<Publication>> {
        self.publications.iter().filter(move |p| p.expires_at > now)
    }
    /// Does this watcher have a live subscription here (pending ones count)?
    pub fn is_watched_by(&self, watcher: &Aor, now: Timestamp) -> bool {
        self.subscriptions.of(watcher).any(|s| s.expires_at > now)
    }
    /// The earliest instant at which anything in it ends, or means something else by time alone. Not of messages: one that expires may owe its
    /// sender a report, and who delivers them sees to that.
    pub fn next_due(&self) -> Option<Timestamp> {
        let bindings = self.bindings.iter().map(|b| b.expires_at);
        let publications = self.publications.iter().map(|p| p.next_due());
        let watchers = self.subscriptions.next_due().into_iter().chain(self.waiting.next_due());
        bindings.chain(publications).chain(watchers).min()
    }
    /// Subscriptions of the owner to who watches: nobody else has any (RFC 3857 4.6).
    pub fn winfo(&self) -> impl Iterator<Item = &Arc<Subscription>> {
        self.subscriptions.of(&self.aor).filter(|s| s.package == Package::PresenceWinfo)
    }
    /// The packages whose documents show that a watcher came or went.
    fn showing_watchers(&self) -> Packages {
        if self.winfo().next().is_some() { Packages::SHOWING_WATCHERS } else { Packages::NONE }
    }
    /// The packages whose documents a document of this application may change; rules decide about watchers, too.
    fn moved_by(&self, auid: &Auid) -> Packages {
        let moved = Packages::moved_by(auid);
        if *auid == Auid::PresRules { moved.and(self.showing_watchers()) } else { moved }
    }
    /// The packages whose documents this row may change; asked before it is applied.
    pub fn moves(&self, row: &Row) -> Packages {
        match row {
            Row::PutBinding(_) | Row::DropBinding(..) => Packages::SHOWING_BINDINGS,
            Row::PutPublication(p) => Packages::showing_publications_of(p.package),
            Row::DropPublication(_, id) => self
                .publications
                .iter()
                .find(|p| p.id == *id)
                .map_or(Packages::NONE, |p| Packages::showing_publications_of(p.package)),
            Row::RefreshBinding(_) => Packages::NONE,
            // A refresh is no news.
            Row::PutSubscription(new) if self.subscriptions.get(new.id).is_some() => Packages::NONE,
            Row::PutSubscription(new) if new.package == Package::Presence => self.showing_watchers(),
            Row::PutSubscription(_) => Packages::NONE,
            Row::DropSubscription(_, id) => match self.subscriptions.get(*id) {
                Some(old) if old.package == Package::Presence => self.showing_watchers(),
                Some(_) | None => Packages::NONE,
            },
            Row::PutWaiting(_) | Row::DropWaiting(..) => self.showing_watchers(),
            Row::PutDocument(new) => self.moved_by(&new.name.auid),
            Row::DropDocument(_, name) => self.moved_by(&name.auid),
            Row::PutMessage(_) | Row::DropMessage(..) => Packages::SHOWING_MESSAGES,
        }
    }
    /// Applies one row; the store means the same by it.
    pub fn apply(&mut self, row: &Row) {
        match row {
            Row::PutBinding(new) | Row::RefreshBinding(new) => {
                put(&mut self.bindings, new, |b| b.key == new.key)
            }
            Row::DropBinding(_, key) => self.bindings.retain(|b| b.key != *key),
            Row::PutPublication(new) => put(&mut self.publications, new, |p| p.id == new.id),
            Row::DropPublication(_, id) => self.publications.retain(|p| p.id != *id),
            Row::PutSubscription(new) => self.subscriptions.put(new),
            Row::DropSubscription(_, id) => drop(self.subscriptions.remove(*id)),
            Row::PutDocument(new) => self.documents.put(new),
            Row::DropDocument(_, name) => self.documents.remove(name),
            Row::PutMessage(new) => self.messages.put(new.waiting),
            Row::DropMessage(_, id) => self.messages.remove(*id),
            Row::PutWaiting(new) => self.waiting.put(new),
            Row::DropWaiting(_, watcher) => self.waiting.remove(watcher),
        }
    }
}

/// Most users have one device: it stands here itself, not somewhere else.
pub type Few<T> = SmallVec<[Arc<T>; 2]>;

fn put<T>(all: &mut Few<T>, new: &Arc<T>, same: impl Fn(&T) -> bool) {
    match all.iter_mut().find(|old| same(old)) {
        Some(old) => *old = new.clone(),
        None => all.push(new.clone()),
    }
}

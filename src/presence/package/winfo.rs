//! Package `presence.winfo` (RFC 3857): who watches a user, and who asks to.
//!
//! A SUBSCRIBE is answered with all of them, a change with those who have changed since this subscriber was told last ([`Watchers::write`]).
//! A list that would be longer than a document may be is cut: who waits for a decision comes first, and then every document is a full one, so that
//! nobody goes on being shown who is not in it any more.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;

use crate::availability::document::watcherinfo::{Event, Status, Watcher, WatcherInfo};
use crate::availability::view::Grant;
use crate::model::{Aor, HomeState, Package, SubscriptionId, Timestamp};
use crate::presence::package::{Document, Format, Others};

/// RFC 3857 4.5.
pub(super) const FORMATS: &[Format] = &[Format::WatcherInfo];

/// Who asks for somebody is nobody else's business (RFC 3857 4.6).
pub(super) fn grant(presentity: &Aor, watcher: &Aor) -> Grant {
    if presentity == watcher { Grant::Full } else { Grant::Rejected }
}

/// Everybody who watches or asks to.
pub(super) fn document(
    home: &HomeState,
    grant: &Grant,
    others: &Others<'_>,
    now: Timestamp,
) -> Option<Document> {
    (*grant == Grant::Full).then(|| Document::of_watchers(Watchers::of(home, others, now, MOST_BYTES)))
}

/// The watchers of a user at one instant, as far as a document holds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::presence) struct Watchers {
    resource: String,
    listed: Vec<Listed>,
    /// There are more.
    is_cut: bool,
}

/// One subscription, or what is left of one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    id: SubscriptionId,
    watcher: Aor,
    status: Status,
    event: Event,
    subscribed_at: Timestamp,
    expires_at: Timestamp,
}

impl Watchers {
    fn of(home: &HomeState, others: &Others<'_>, now: Timestamp, most_bytes: usize) -> Watchers {
        let live = home.subscriptions.iter().filter(|s| s.package == Package::Presence && s.expires_at > now);
        let live = live.filter_map(|s| {
            let (status, event) = match (others.granted)(&s.watcher) {
                // It ends in a moment.
                Grant::Rejected => return None,
                Grant::Pending => (Status::Pending, Event::Subscribe),
                Grant::Unavailable | Grant::Basic | Grant::Part(_) | Grant::Full => {
                    let was_pending = (others.was_pending)(s.id);
                    (Status::Active, if was_pending { Event::Approved } else { Event::Subscribe })
                }
            };
            let (id, watcher) = (s.id, s.watcher.clone());
            Some(Listed { id, watcher, status, event, subscribed_at: s.created_at, expires_at: s.expires_at })
        });
        let waiting = home.waiting.iter().filter(|w| w.gives_up_at > now);
        // Who has been decided about does not wait any more.
        let waiting = waiting.filter(|w| (others.granted)(&w.watcher) == Grant::Pending).map(|w| Listed {
            id: w.id,
            watcher: w.watcher.clone(),
            status: Status::Waiting,
            event: Event::Timeout,
            subscribed_at: w.subscribed_at,
            expires_at: w.gives_up_at,
        });
        let mut listed: Vec<Listed> = live.chain(waiting).collect();
        // Who has asked first is decided about first.
        listed.sort_unstable_by_key(|one| (one.status == Status::Active, one.subscribed_at, one.id));
        let mut left = most_bytes;
        let fits = |one: &&Listed| {
            left = left.saturating_sub(one.most_bytes());
            left > 0
        };
        let kept = listed.iter().take_while(fits).count();
        let is_cut = kept < listed.len();
        listed.truncate(kept);
        Watchers { resource: home.aor.uri(), listed, is_cut }
    }

    /// What it says, apart from what time alone changes.
    pub(super) fn key(&self) -> Bytes {
        let mut key = self.resource.clone().into_bytes();
        for one in &self.listed {
            key.extend(one.id.0.to_be_bytes());
            key.push(one.status as u8);
        }
        key.into()
    }

    /// How many are listed.
    pub(in crate::presence) fn len(&self) -> usize {
        self.listed.len()
    }

    /// The document for a subscriber.
    ///
    /// - `known`: what this subscriber was told last; with it, only who has changed since is in the document.
    pub(in crate::presence) fn write(
        &self,
        known: Option<&Watchers>,
        others: &Others<'_>,
        version: u32,
        now: Timestamp,
    ) -> Bytes {
        let known = known.filter(|known| !known.is_cut && !self.is_cut);
        let changed = known.map(|known| self.since(known, others, now));
        let most = self.listed.len().max(1);
        // Rather the whole than a change that is longer.
        let changed = changed.filter(|changed| changed.len() <= most.max(FEW));
        let is_full = changed.is_none();
        let watchers = changed.unwrap_or_else(|| self.listed.iter().map(|one| one.written(now)).collect());
        let package = Package::Presence.as_str();
        WatcherInfo { version, is_full, resource: &self.resource, package, watchers }.write().into()
    }

    /// Who has changed, and who is not there any more and why.
    fn since(&self, known: &Watchers, others: &Others<'_>, now: Timestamp) -> Vec<Watcher> {
        let mut before: HashMap<SubscriptionId, &Listed> =
            known.listed.iter().map(|one| (one.id, one)).collect();
        let mut changed = Vec::new();
        for one in &self.listed {
            if before.remove(&one.id).is_none_or(|old| old.status != one.status) {
                changed.push(one.written(now));
            }
        }
        let mut ended: Vec<&Listed> = before.into_values().collect();
        ended.sort_unstable_by_key(|one| (one.subscribed_at, one.id));
        changed.extend(ended.into_iter().map(|one| {
            let event = match ((others.granted)(&one.watcher), one.status) {
                (Grant::Rejected, _) => Event::Rejected,
                // Its time is over, or the watcher has subscribed again.
                (Grant::Pending, Status::Waiting) => Event::Giveup,
                (Grant::Unavailable | Grant::Basic | Grant::Part(_) | Grant::Full, Status::Waiting) => {
                    Event::Approved
                }
                (_, Status::Pending | Status::Active | Status::Terminated) => Event::Timeout,
            };
            Listed { status: Status::Terminated, event, ..one.clone() }.written(now)
        }));
        changed
    }
}

impl Listed {
    fn written(&self, now: Timestamp) -> Watcher {
        // What waits or has ended does not expire.
        let expires = matches!(self.status, Status::Pending | Status::Active);
        Watcher {
            id: id(self.id),
            status: self.status,
            event: self.event,
            expiration_s: expires.then(|| self.expires_at.duration_from(now).as_secs()),
            duration_subscribed_s: now.duration_from(self.subscribed_at).as_secs(),
            uri: self.watcher.uri(),
        }
    }

    /// How long its element may be.
    fn most_bytes(&self) -> usize {
        // An escaped character is six times as long at most.
        let uri = self.watcher.uri();
        let escaped = uri.bytes().filter(|byte| !byte.is_ascii_alphanumeric()).count();
        ELEMENT_BYTES + uri.len() + 5 * escaped
    }
}

/// Names a subscription to its presentity: the same over restarts, and nothing by which the dialog could be found.
fn id(id: SubscriptionId) -> String {
    let hash = digest(&SHA256, &id.0.to_be_bytes());
    hash.as_ref().iter().take(ID_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

/// 128 bits, as the ids of subscriptions.
const ID_BYTES: usize = 16;
/// An element without its URI: names of attributes, and values as long as they can be.
const ELEMENT_BYTES: usize = 160;
/// As of a composed presence document.
const MOST_BYTES: usize = 48 * 1024;
/// So many changes go without the rest, however few are listed.
const FEW: usize = 16;

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::HashSet;
    use std::sync::Arc;

    use super::*;
    use crate::model::{Subscription, WaitingWatcher};
    use crate::presence::testing::{NOW, aor, subscription};

    /// Alice's home, and what is decided about her watchers.
    struct Scene {
        home: HomeState,
        grants: RefCell<HashMap<Aor, Grant>>,
        were_pending: HashSet<SubscriptionId>,
    }

    impl Scene {
        fn new() -> Scene {
            let home = HomeState::empty(aor("alice@example.org"));
            Scene { home, grants: RefCell::default(), were_pending: HashSet::new() }
        }

        fn subscribed(mut self, id: u128, watcher: &str, grant: Grant) -> Scene {
            let watcher = aor(watcher);
            self.grants.borrow_mut().insert(watcher.clone(), grant);
            self.home.subscriptions.put(&Arc::new(Subscription { watcher, ..subscription(id) }));
            self
        }

        fn waiting(mut self, id: u128, watcher: &str) -> Scene {
            self.home.waiting.put(&Arc::new(WaitingWatcher {
                presentity: self.home.aor.clone(),
                watcher: aor(watcher),
                id: SubscriptionId(id),
                subscribed_at: NOW,
                ended_at: NOW.after_secs(60),
                gives_up_at: NOW.after_secs(86_400),
            }));
            self
        }

        fn decided(self, watcher: &str, grant: Grant) -> Scene {
            self.grants.borrow_mut().insert(aor(watcher), grant);
            self
        }

        fn ask<T>(&self, ask: impl FnOnce(&Others<'_>) -> T) -> T {
            let granted = |who: &Aor| self.grants.borrow().get(who).cloned().unwrap_or(Grant::Pending);
            let was_pending = |id: SubscriptionId| self.were_pending.contains(&id);
            ask(&Others { granted: &granted, was_pending: &was_pending })
        }

        fn watchers(&self) -> Watchers {
            self.ask(|others| Watchers::of(&self.home, others, LATER, MOST_BYTES))
        }

        /// What a subscriber is sent who knew that much.
        fn told(&self, known: Option<&Watchers>) -> String {
            let text = self.ask(|others| self.watchers().write(known, others, 3, LATER));
            String::from_utf8(text.to_vec()).unwrap()
        }
    }

    /// Ten seconds after everything began.
    const LATER: Timestamp = Timestamp(NOW.0 + 10_000);

    /// Whole or partial, and of each watcher the name, status and event.
    fn said(text: &str) -> (bool, Vec<[String; 3]>) {
        let value = |line: &str, name: &str| {
            let (_, rest) = line.split_once(&format!(" {name}=\"")).unwrap();
            rest.split('"').next().unwrap().to_owned()
        };
        let watcher = |line: &str| {
            let uri = line.split_once('>').unwrap().1.split('<').next().unwrap();
            [uri.trim_start_matches("sip:").to_owned(), value(line, "status"), value(line, "event")]
        };
        let lines = text.lines().filter(|line| line.starts_with("<watcher "));
        (text.contains(" state=\"full\""), lines.map(watcher).collect())
    }

    fn one(name: &str, status: &str, event: &str) -> [String; 3] {
        [format!("{name}@example.org"), status.to_owned(), event.to_owned()]
    }

    fn three() -> Scene {
        let mut scene = Scene::new()
            .subscribed(1, "bob@example.org", Grant::Full)
            .subscribed(2, "carol@example.org", Grant::Pending)
            .subscribed(3, "dave@example.org", Grant::Unavailable)
            .waiting(4, "erin@example.org");
        scene.were_pending.insert(SubscriptionId(3));
        scene
    }

    #[test]
    fn a_subscriber_is_told_of_all_watchers_first_those_who_ask_rfc3857_4_7_2() {
        let (is_full, watchers) = said(&three().told(None));
        let all = [
            one("carol", "pending", "subscribe"),
            one("erin", "waiting", "timeout"),
            one("bob", "active", "subscribe"),
            one("dave", "active", "approved"),
        ];
        assert_eq!((is_full, watchers), (true, all.into()));
        assert_eq!(said(&Scene::new().told(None)), (true, Vec::new()), "nobody is an answer too");
    }

    #[test]
    fn a_change_is_told_without_the_rest_rfc3857_4_7_2() {
        let known = three().watchers();
        let scene = three().decided("carol@example.org", Grant::Full);
        let scene = Scene { were_pending: [2, 3].map(SubscriptionId).into(), ..scene };
        let scene = scene.subscribed(5, "frank@example.org", Grant::Pending);
        let told = scene.told(Some(&known));
        let changed = vec![one("frank", "pending", "subscribe"), one("carol", "active", "approved")];
        assert_eq!(said(&told), (false, changed), "{told}");
        assert!(told.contains(" version=\"3\""), "{told}");
    }

    #[test]
    fn who_is_gone_is_told_once_with_the_reason_rfc3857_4_7_1() {
        let known = three().waiting(6, "frank@example.org").waiting(7, "gina@example.org").watchers();
        let gone = Scene::new()
            .decided("carol@example.org", Grant::Rejected)
            .decided("dave@example.org", Grant::Full)
            .decided("erin@example.org", Grant::Full)
            .decided("frank@example.org", Grant::Rejected);
        let (is_full, mut watchers) = said(&gone.told(Some(&known)));
        watchers.sort();
        let all = [
            one("bob", "terminated", "timeout"),
            one("carol", "terminated", "rejected"),
            one("dave", "terminated", "timeout"),
            one("erin", "terminated", "approved"),
            one("frank", "terminated", "rejected"),
            one("gina", "terminated", "giveup"),
        ];
        assert_eq!((is_full, watchers), (false, all.into()));
        assert_eq!(said(&gone.told(Some(&gone.watchers()))), (false, Vec::new()));
    }

    #[test]
    fn a_subscription_that_expires_undecided_goes_on_waiting_under_its_id_rfc3857_4_7_1() {
        let known = Scene::new().subscribed(2, "carol@example.org", Grant::Pending).watchers();
        let told = Scene::new().waiting(2, "carol@example.org").told(Some(&known));
        assert_eq!(said(&told), (false, vec![one("carol", "waiting", "timeout")]));
        assert!(told.contains(&format!(" id=\"{}\"", id(SubscriptionId(2)))), "{told}");
        assert!(!told.contains("expiration"), "{told}");
    }

    #[test]
    fn other_packages_and_who_is_being_refused_are_no_watchers_rfc3857_4_7() {
        let mut scene = Scene::new().subscribed(1, "bob@example.org", Grant::Rejected);
        let of = |id, package| Arc::new(Subscription { package, ..subscription(id) });
        for (id, package) in [(2, Package::Dialog), (3, Package::PresenceWinfo), (4, Package::Reg)] {
            scene.home.subscriptions.put(&of(id, package));
        }
        assert_eq!(said(&scene.told(None)), (true, Vec::new()));
    }

    #[test]
    fn times_are_of_the_moment_and_no_news_rfc3858_3() {
        let text = three().told(None);
        assert!(
            text.contains(" expiration=\"3590\" duration-subscribed=\"10\">sip:bob@example.org<"),
            "{text}"
        );
        let key = |now| three().ask(|others| Watchers::of(&three().home, others, now, MOST_BYTES).key());
        assert_eq!(key(NOW), key(LATER));
        assert_ne!(key(NOW), three().decided("carol@example.org", Grant::Full).watchers().key());
    }

    #[test]
    fn ids_are_tokens_the_same_each_time_and_say_nothing_of_the_dialog_rfc3858_3() {
        let ids: HashSet<String> = (0..1_000).map(|n| id(SubscriptionId(n))).collect();
        assert_eq!(ids.len(), 1_000);
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())));
        assert_eq!(id(SubscriptionId(7)), id(SubscriptionId(7)));
        assert!(!ids.contains(&format!("{:032x}", 7)));
    }

    #[test]
    fn ten_thousand_watchers_are_as_many_as_a_document_holds_who_asks_first() {
        let mut scene = Scene::new();
        for n in 0..10_000_u32 {
            let watcher = aor(&format!("user{n:05}@example.org"));
            let created_at = NOW.after_secs(n);
            let one = Subscription {
                watcher: watcher.clone(),
                created_at,
                expires_at: NOW.after_secs(100_000),
                ..subscription((n + 1).into())
            };
            let grant = if n % 1_000 == 999 { Grant::Pending } else { Grant::Full };
            scene.grants.borrow_mut().insert(watcher, grant);
            scene.home.subscriptions.put(&Arc::new(one));
        }
        let all = scene.watchers();
        let text = scene.told(None);
        assert!(all.is_cut && text.len() <= MOST_BYTES + 512, "{}", text.len());
        let (is_full, said) = said(&text);
        let asking = said.iter().take_while(|[_, status, _]| status == "pending").count();
        assert!(is_full && asking == 10 && (200..300).contains(&said.len()), "{}", said.len());
        // Who was not in it can be neither changed nor ended: each document is a full one.
        assert!(scene.told(Some(&all)).contains(" state=\"full\""));
    }
}

//! The subscriptions of one home. A snapshot is a pointer or two and a change copies a path, however many watchers there are.
//!
//! A tree over the bits of a key, four ways at each level: ids are random, so it is balanced by itself. Every node knows how many it holds
//! and which of them ends first, so counting the living and finding what has ended look at what has ended alone. A second tree of the same
//! kind answers who watches, where there are more than a look at all of them could tell.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::model::{Aor, Subscription, SubscriptionId, Timestamp};

/// Sorted by id. Cloning costs the same for one watcher and for ten thousand.
#[derive(Clone, Default)]
pub struct Subscriptions {
    by_id: Tree<ById>,
    /// Empty while there are [`FEW`]: most users have so few watchers, and there are many users.
    by_watcher: Tree<ByWatcher>,
}

impl Subscriptions {
    /// How many, expired ones included.
    pub fn len(&self) -> usize {
        self.by_id.root.as_ref().map_or(0, |root| root.len)
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.by_id.root.is_none()
    }

    /// The one of that id.
    pub fn get(&self, id: SubscriptionId) -> Option<&Arc<Subscription>> {
        self.by_id.get(ById::key_of(id))
    }

    /// Inserts or replaces by id.
    pub fn put(&mut self, new: &Arc<Subscription>) {
        let old = self.by_id.put(new);
        if self.by_watcher.root.is_some() {
            if let Some(old) = old.filter(|old| old.watcher != new.watcher) {
                self.by_watcher.remove(ByWatcher::key(&old));
            }
            self.by_watcher.put(new);
        } else if self.len() > FEW {
            for one in self.by_id.from((0, 0)) {
                self.by_watcher.put(one);
            }
        }
    }

    /// Takes out the one of that id.
    pub fn remove(&mut self, id: SubscriptionId) -> Option<Arc<Subscription>> {
        let old = self.by_id.remove(ById::key_of(id))?;
        if self.len() <= FEW / 2 {
            self.by_watcher = Tree::default();
        } else {
            self.by_watcher.remove(ByWatcher::key(&old));
        }
        Some(old)
    }

    /// All, in order of id.
    pub fn iter(&self) -> Iter<'_> {
        self.by_id.from((0, 0))
    }

    /// Those whose id is greater, in order of id; all without one.
    pub fn after(&self, id: Option<SubscriptionId>) -> impl Iterator<Item = &Arc<Subscription>> {
        let skipped = id;
        let from = id.map_or((0, 0), ById::key_of);
        self.by_id.from(from).skip_while(move |s| Some(s.id) == skipped)
    }

    /// Those of one watcher.
    pub fn of<'a>(&'a self, watcher: &'a Aor) -> impl Iterator<Item = &'a Arc<Subscription>> {
        let is_indexed = self.by_watcher.root.is_some();
        let hash = if is_indexed { ByWatcher::hash(watcher) } else { 0 };
        let all = if is_indexed { self.by_watcher.from((hash << 32, 0)) } else { self.iter() };
        all.take_while(move |s| !is_indexed || ByWatcher::hash(&s.watcher) == hash)
            .filter(move |s| s.watcher == *watcher)
    }

    /// When the first of them ends.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.by_id.root.as_ref().map(|root| root.due)
    }

    /// How many have not ended.
    pub fn live(&self, now: Timestamp) -> usize {
        self.len().saturating_sub(self.ended(now).count())
    }

    /// Those that have ended, in order of id.
    pub fn ended(&self, now: Timestamp) -> impl Iterator<Item = &Arc<Subscription>> {
        Iter::new(self.by_id.root.as_ref(), Some(now)).filter(move |s| s.expires_at <= now)
    }
}

/// In which order a tree holds its entries.
trait Order {
    /// The first part spreads them; the second tells apart what the first does not.
    fn key(subscription: &Subscription) -> Key;
}

type Key = (u64, u128);

#[derive(Clone)]
struct ById;

impl ById {
    fn key_of(id: SubscriptionId) -> Key {
        #[allow(clippy::cast_possible_truncation, reason = "the upper half fits")]
        let upper = (id.0 >> 64) as u64;
        (upper, id.0)
    }
}

impl Order for ById {
    fn key(subscription: &Subscription) -> Key {
        ById::key_of(subscription.id)
    }
}

#[derive(Clone)]
struct ByWatcher;

impl ByWatcher {
    /// 32 bits. Names belong to accounts, which the operator makes, so a quick hash does; two that meet are told apart by their names.
    fn hash(watcher: &Aor) -> u64 {
        let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(MULTIPLIER);
        let (words, rest) = watcher.as_str().as_bytes().as_chunks::<8>();
        let hash = words.iter().fold(0, |hash, word| mix(hash, u64::from_le_bytes(*word)));
        let hash = rest.iter().fold(hash, |hash, byte| mix(hash, u64::from(*byte)));
        // The upper half is mixed best, once the last bytes have gone through it twice.
        mix(hash, 0) >> 32
    }
}

impl Order for ByWatcher {
    fn key(subscription: &Subscription) -> Key {
        let (upper, id) = ById::key(subscription);
        (ByWatcher::hash(&subscription.watcher) << 32 | upper >> 32, id)
    }
}

struct Tree<O> {
    root: Option<Arc<Node>>,
    order: std::marker::PhantomData<O>,
}

#[derive(Clone)]
struct Node {
    len: usize,
    /// The earliest end of anything in it.
    due: Timestamp,
    held: Held,
}

#[derive(Clone)]
enum Held {
    /// Sorted.
    Leaf(Leaf),
    /// By two bits of the key.
    Branch([Option<Arc<Node>>; WAYS]),
}

/// One or two stand in the node itself.
type Leaf = SmallVec<[Arc<Subscription>; 2]>;

impl<O: Order> Tree<O> {
    fn get(&self, key: Key) -> Option<&Arc<Subscription>> {
        let mut node = self.root.as_ref()?;
        for level in 0.. {
            match &node.held {
                Held::Leaf(all) => return all.get(find::<O>(all, key).ok()?),
                Held::Branch(ways) => node = ways[way(key, level)].as_ref()?,
            }
        }
        None
    }

    /// Returns what it replaces.
    fn put(&mut self, new: &Arc<Subscription>) -> Option<Arc<Subscription>> {
        put::<O>(&mut self.root, O::key(new), 0, new)
    }

    fn remove(&mut self, key: Key) -> Option<Arc<Subscription>> {
        // First a look, so that nothing is copied for nothing.
        self.get(key)?;
        remove::<O>(&mut self.root, key, 0)
    }

    /// Everything whose key is not below this one, in order.
    fn from(&self, key: Key) -> Iter<'_> {
        let mut iter = Iter { waiting: SmallVec::new(), leaf: [].iter(), ended: None };
        let mut next = self.root.as_ref();
        let mut level = 0;
        while let Some(node) = next {
            match &node.held {
                Held::Leaf(all) => {
                    let at = find::<O>(all, key).unwrap_or_else(|at| at);
                    iter.leaf = all.get(at..).unwrap_or_default().iter();
                    break;
                }
                Held::Branch(ways) => {
                    let at = way(key, level);
                    iter.waiting.extend(ways.iter().skip(at + 1).rev().flatten());
                    next = ways[at].as_ref();
                    level += 1;
                }
            }
        }
        iter
    }
}

fn put<O: Order>(
    slot: &mut Option<Arc<Node>>,
    key: Key,
    level: u32,
    new: &Arc<Subscription>,
) -> Option<Arc<Subscription>> {
    let Some(node) = slot else {
        *slot = Some(Arc::new(Node {
            len: 1,
            due: new.expires_at,
            held: Held::Leaf(SmallVec::from_iter([new.clone()])),
        }));
        return None;
    };
    let node = Arc::make_mut(node);
    let old = match &mut node.held {
        Held::Leaf(all) => match find::<O>(all, key) {
            Ok(at) => Some(std::mem::replace(&mut all[at], new.clone())),
            Err(at) => {
                all.insert(at, new.clone());
                None
            }
        },
        Held::Branch(ways) => put::<O>(&mut ways[way(key, level)], key, level + 1, new),
    };
    match &old {
        // What ended first may end later now.
        Some(old) if old.expires_at == node.due => node.count(),
        Some(_) => node.due = node.due.min(new.expires_at),
        None => {
            node.len += 1;
            node.due = node.due.min(new.expires_at);
        }
    }
    if let Held::Leaf(all) = &mut node.held
        && all.len() > LEAF
        && level < LEVELS
    {
        let mut parts: [Leaf; WAYS] = Default::default();
        for one in all.drain(..) {
            parts[way(O::key(&one), level)].push(one);
        }
        node.held = Held::Branch(parts.map(|part| (!part.is_empty()).then(|| Arc::new(Node::leaf(part)))));
    }
    old
}

fn remove<O: Order>(slot: &mut Option<Arc<Node>>, key: Key, level: u32) -> Option<Arc<Subscription>> {
    let node = Arc::make_mut(slot.as_mut()?);
    let old = match &mut node.held {
        Held::Leaf(all) => all.remove(find::<O>(all, key).ok()?),
        Held::Branch(ways) => remove::<O>(&mut ways[way(key, level)], key, level + 1)?,
    };
    node.len -= 1;
    if node.len == 0 {
        *slot = None;
        return Some(old);
    }
    if matches!(node.held, Held::Branch(_)) && node.len <= LEAF / 2 {
        let all = Iter::of(node).cloned().collect();
        *node = Node::leaf(all);
    } else if old.expires_at == node.due {
        node.count();
    }
    Some(old)
}

impl Node {
    fn leaf(all: Leaf) -> Node {
        let mut node = Node { len: all.len(), due: Timestamp(i64::MAX), held: Held::Leaf(all) };
        node.count();
        node
    }

    /// What is held decides what is known of it.
    fn count(&mut self) {
        let (len, due) = match &self.held {
            Held::Leaf(all) => (all.len(), all.iter().map(|s| s.expires_at).min()),
            Held::Branch(ways) => {
                let ways = || ways.iter().flatten();
                (ways().map(|node| node.len).sum(), ways().map(|node| node.due).min())
            }
        };
        (self.len, self.due) = (len, due.unwrap_or(self.due));
    }
}

fn find<O: Order>(all: &[Arc<Subscription>], key: Key) -> Result<usize, usize> {
    all.binary_search_by(|s| O::key(s).cmp(&key))
}

fn way((spread, _): Key, level: u32) -> usize {
    let shift = 62_u32.saturating_sub(level.saturating_mul(2));
    usize::try_from(spread >> shift & 3).unwrap_or(0)
}

/// In order of the tree.
pub struct Iter<'a> {
    /// The last one is next.
    waiting: SmallVec<[&'a Arc<Node>; 16]>,
    leaf: std::slice::Iter<'a, Arc<Subscription>>,
    /// Only nodes in which something has ended by then.
    ended: Option<Timestamp>,
}

impl<'a> Iter<'a> {
    fn new(root: Option<&'a Arc<Node>>, ended: Option<Timestamp>) -> Iter<'a> {
        Iter { waiting: root.into_iter().collect(), leaf: [].iter(), ended }
    }

    fn of(node: &'a Node) -> Iter<'a> {
        let mut iter = Iter::new(None, None);
        iter.enter(node);
        iter
    }

    fn enter(&mut self, node: &'a Node) {
        if self.ended.is_some_and(|now| node.due > now) {
            return;
        }
        match &node.held {
            Held::Leaf(all) => self.leaf = all.iter(),
            Held::Branch(ways) => self.waiting.extend(ways.iter().rev().flatten()),
        }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Arc<Subscription>;

    fn next(&mut self) -> Option<&'a Arc<Subscription>> {
        loop {
            if let Some(one) = self.leaf.next() {
                return Some(one);
            }
            let node = self.waiting.pop()?;
            self.enter(node);
        }
    }
}

impl<'a> IntoIterator for &'a Subscriptions {
    type Item = &'a Arc<Subscription>;
    type IntoIter = Iter<'a>;
    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl FromIterator<Arc<Subscription>> for Subscriptions {
    fn from_iter<I: IntoIterator<Item = Arc<Subscription>>>(all: I) -> Subscriptions {
        let mut subscriptions = Subscriptions::default();
        all.into_iter().for_each(|one| subscriptions.put(&one));
        subscriptions
    }
}

impl PartialEq for Subscriptions {
    fn eq(&self, other: &Subscriptions) -> bool {
        self.iter().eq(other.iter())
    }
}

impl std::fmt::Debug for Subscriptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl<O> Clone for Tree<O> {
    fn clone(&self) -> Tree<O> {
        Tree { root: self.root.clone(), order: self.order }
    }
}

impl<O> Default for Tree<O> {
    fn default() -> Tree<O> {
        Tree { root: None, order: std::marker::PhantomData }
    }
}

const WAYS: usize = 4;
/// Two bits each.
const LEVELS: u32 = 32;
/// A leaf that holds more becomes a branch.
const LEAF: usize = 16;
/// So many are looked at one by one.
const FEW: usize = 8;
/// 2^64 over the golden ratio, odd.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{DialogParts, DialogTexts, Flow, Package, Text, Transport};

    fn aor(user: &str) -> Aor {
        Aor::new(user, "example.org").unwrap()
    }

    fn subscription(id: u128, watcher: &str, expires_at: i64) -> Arc<Subscription> {
        Arc::new(Subscription {
            id: SubscriptionId(id),
            presentity: aor("alice"),
            watcher: aor(watcher),
            package: Package::Presence,
            event_id: None,
            dialog: DialogTexts::new(DialogParts::default()),
            route_set: Box::default(),
            flow: Flow {
                transport: Transport::Udp,
                local: "192.0.2.1:5060".parse().unwrap(),
                remote: "192.0.2.9:5060".parse().unwrap(),
                connection: 0,
            },
            accept: Text::default(),
            remote_cseq: 1,
            notify_cseq_reserved: 64,
            created_at: Timestamp(0),
            expires_at: Timestamp(expires_at),
        })
    }

    fn holds(subscriptions: &Subscriptions, model: &BTreeMap<u128, (String, i64)>, now: i64) {
        let read = |s: &Arc<Subscription>| (s.id.0, (s.watcher.user().to_owned(), s.expires_at.0));
        let all: Vec<_> = subscriptions.iter().map(read).collect();
        assert_eq!(all, model.iter().map(|(id, rest)| (*id, rest.clone())).collect::<Vec<_>>());
        assert_eq!((subscriptions.len(), subscriptions.is_empty()), (model.len(), model.is_empty()));
        let due = model.values().map(|(_, at)| Timestamp(*at)).min();
        assert_eq!(subscriptions.next_due(), due);
        let ended = model.values().filter(|(_, at)| *at <= now).count();
        assert_eq!(subscriptions.ended(Timestamp(now)).count(), ended);
        assert_eq!(subscriptions.live(Timestamp(now)), model.len() - ended);
        for watcher in ["w0", "w1", "w2"] {
            let theirs: Vec<_> = subscriptions.of(&aor(watcher)).map(|s| s.id.0).collect();
            let expected: Vec<_> =
                model.iter().filter(|(_, (w, _))| w == watcher).map(|(id, _)| *id).collect();
            assert_eq!(theirs, expected);
        }
        for id in model.keys() {
            let after: Vec<_> =
                subscriptions.after(Some(SubscriptionId(*id))).take(3).map(|s| s.id.0).collect();
            assert_eq!(after, model.range(id + 1..).take(3).map(|(id, _)| *id).collect::<Vec<_>>());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Ids that share long prefixes and ids that share none; puts, replacements and removals; and what was read before stays.
        #[test]
        fn it_is_a_sorted_map_and_snapshots_do_not_change(
            steps in proptest::collection::vec((0..3_u8, 0..200_u128, any::<bool>(), 0..3_u8, 0..50_i64), 1..300)
        ) {
            let (mut subscriptions, mut model) = (Subscriptions::default(), BTreeMap::new());
            let mut before = None;
            for (nth, (what, id, near, watcher, at)) in steps.into_iter().enumerate() {
                let id = if near { id } else { id.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) };
                if what == 0 {
                    let old = subscriptions.remove(SubscriptionId(id)).map(|s| s.expires_at.0);
                    prop_assert_eq!(old, model.remove(&id).map(|(_, at)| at));
                } else {
                    let watcher = format!("w{watcher}");
                    subscriptions.put(&subscription(id, &watcher, at));
                    model.insert(id, (watcher, at));
                }
                prop_assert_eq!(subscriptions.get(SubscriptionId(id)).is_some(), model.contains_key(&id));
                if nth == 100 {
                    before = Some((subscriptions.clone(), model.clone()));
                }
            }
            holds(&subscriptions, &model, 25);
            if let Some((subscriptions, model)) = before {
                holds(&subscriptions, &model, 25);
            }
        }
    }

    #[test]
    fn a_change_of_ten_thousand_copies_a_path_and_no_more() {
        let random = |n: u128| n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let mut subscriptions: Subscriptions =
            (0..10_000).map(|n| subscription(random(n), &format!("u{n}"), 100)).collect();
        let before = subscriptions.clone();
        let watched = subscription(random(5_000), "u5000", 100);
        subscriptions.put(&watched);
        let nodes = |of: &Subscriptions| {
            let mut nodes = Vec::new();
            let mut waiting: Vec<_> = of.by_id.root.iter().chain(&of.by_watcher.root).collect();
            while let Some(node) = waiting.pop() {
                nodes.push(Arc::as_ptr(node));
                if let Held::Branch(ways) = &node.held {
                    waiting.extend(ways.iter().flatten());
                }
            }
            nodes
        };
        let (old, new) = (nodes(&before), nodes(&subscriptions));
        let made = new.iter().filter(|node| !old.contains(node)).count();
        assert!((2..=20).contains(&made), "{made} of {}", new.len());
        assert!(before.get(watched.id).is_some_and(|old| !Arc::ptr_eq(old, &watched)));
        assert_eq!(subscriptions.of(&aor("u5000")).count(), 1);
    }

    #[test]
    fn a_watcher_with_many_subscriptions_to_one_presentity_has_them_all() {
        let subscriptions: Subscriptions = (0..500).map(|n| subscription(n, "bob", 10)).collect();
        assert_eq!(subscriptions.of(&aor("bob")).count(), 500);
        assert_eq!(subscriptions.of(&aor("carol")).count(), 0);
        assert_eq!(subscriptions.ended(Timestamp(9)).count(), 0);
    }
}

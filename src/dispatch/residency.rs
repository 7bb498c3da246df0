//! Whose account and home are in memory yet: after a start the server answers at once, while a million homes are still being read.
//!
//! "Not loaded" never means "absent". Until everything is there, a request with credentials waits until the users it names have been
//! brought: who claims to send it, and whom it is for. A request without credentials needs nobody: it is challenged.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::{Notify, RwLock};
use tracing::warn;

use crate::auth::{Accounts, peers};
use crate::dispatch::Dispatch;
use crate::dispatch::turns::{Entered, Turns};
use crate::endpoint::{Endpoint, Handler, Incoming, clock};
use crate::home::Homes;
use crate::messaging::lists;
use crate::model::{Aor, Flow, Reject, Row, Text};
use crate::sip::{HeaderName, Request, StatusCode, Uri};
use crate::store::{self, Store};

/// What is in memory of what the store holds.
#[derive(Debug)]
pub struct Residency {
    store: Store,
    homes: Arc<Homes>,
    accounts: Arc<Accounts>,
    complete: AtomicBool,
    completed: Notify,
    /// Shared by all who bring somebody; taken alone before everything counts as loaded, so that nobody puts old rows after it.
    bringing: RwLock<()>,
}

impl Residency {
    /// Nothing is in memory yet.
    pub fn new(store: Store, homes: Arc<Homes>, accounts: Arc<Accounts>) -> Residency {
        homes.loading();
        let (complete, completed, bringing) = (AtomicBool::new(false), Notify::new(), RwLock::new(()));
        Residency { store, homes, accounts, complete, completed, bringing }
    }

    /// Is everything in memory?
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// Waits until everything is in memory.
    pub async fn completed(&self) {
        loop {
            let completed = self.completed.notified();
            if self.is_complete() {
                return;
            }
            completed.await;
        }
    }

    /// Loads everything. A database that goes away meanwhile is asked again: what was read before is read once more.
    ///
    /// # Errors
    /// [`store::Fault`] of a row that does not read back.
    pub async fn load(&self) -> Result<(), store::Fault> {
        while let Err(fault) = self.load_once().await {
            if !matches!(fault, store::Fault::Database { .. }) {
                return Err(fault);
            }
            warn!(%fault, "the store could not be read; it is tried again");
            tokio::time::sleep(AGAIN).await;
        }
        let _alone = self.bringing.write().await;
        self.homes.loaded();
        self.complete.store(true, Ordering::Release);
        self.completed.notify_waiters();
        Ok(())
    }

    async fn load_once(&self) -> Result<(), store::Fault> {
        let now = clock::now();
        self.store.load_accounts(&mut |account| self.accounts.put(account)).await?;
        let mut common = HashSet::new();
        let mut install = |row: Row| self.homes.install(&self.shared(row, &mut common).with_grace(now));
        self.store.load_all(&mut install).await
    }

    /// The same row, its names held once with the accounts', and what many rows say alike held once for all of them.
    fn shared(&self, mut row: Row, common: &mut HashSet<Text>) -> Row {
        let name = |aor: &mut Aor| {
            if let Some(known) = self.accounts.find(aor) {
                *aor = known.account.aor.clone();
            }
        };
        match &mut row {
            Row::PutBinding(binding) | Row::RefreshBinding(binding) => {
                let binding = Arc::make_mut(binding);
                name(&mut binding.aor);
                share(&mut binding.user_agent, common);
            }
            Row::PutPublication(publication) => name(&mut Arc::make_mut(publication).aor),
            Row::PutSubscription(subscription) => {
                let subscription = Arc::make_mut(subscription);
                name(&mut subscription.presentity);
                name(&mut subscription.watcher);
                share(&mut subscription.accept, common);
            }
            Row::DropBinding(..) | Row::DropPublication(..) | Row::DropSubscription(..) => {}
            Row::PutDocument(document) => {
                let document = Arc::make_mut(document);
                name(&mut document.owner);
                share(&mut document.content_type, common);
            }
            Row::DropDocument(..) => {}
            Row::PutMessage(message) => name(&mut Arc::make_mut(message).recipient),
            Row::DropMessage(..) => {}
            Row::PutWaiting(waiting) => {
                let waiting = Arc::make_mut(waiting);
                name(&mut waiting.presentity);
                name(&mut waiting.watcher);
            }
            Row::DropWaiting(..) => {}
        }
        row
    }

    /// Brings those whom a request concerns: these users, or (`anybody`, a message to a list) whoever there is. `false`: it cannot be served yet.
    async fn has_whom_it_concerns(&self, users: &[Aor], anybody: bool) -> bool {
        match anybody {
            true => tokio::time::timeout(UNTIL_COMPLETE, self.completed()).await.is_ok(),
            false => self.bring_all(users).await,
        }
    }

    /// Brings these users, and owes full state to those who watch them. `false`: the store does not say whether there are such.
    async fn bring_all(&self, users: &[Aor]) -> bool {
        for user in users {
            if self.is_complete() {
                return true;
            }
            let was_there = self.homes.is_brought(user);
            if !self.bring(user).await && !self.is_complete() {
                return false;
            }
            if !was_there && !self.homes.read(user).subscriptions.is_empty() {
                self.homes.mark(user);
            }
        }
        true
    }

    /// Brings a user and everybody who watches: what hangs on them can be told then. `None`: nobody is missing. Gives `false` if they are too
    /// many, or the store does not say: they are told when everything is in memory.
    pub fn bring_with_watchers(self: &Arc<Self>, user: &Aor) -> Option<Bringing> {
        if self.is_complete() {
            return None;
        }
        let (residency, user) = (self.clone(), user.clone());
        Some(Box::pin(async move {
            if !residency.bring(&user).await {
                return false;
            }
            let home = residency.homes.read(&user);
            if home.subscriptions.len() > MOST_WATCHERS {
                return false;
            }
            for subscription in &home.subscriptions {
                if !residency.bring(&subscription.watcher).await {
                    return false;
                }
            }
            true
        }))
    }

    /// Brings one user, if there is one. `false`: the store does not say whether there is.
    async fn bring(&self, user: &Aor) -> bool {
        let _bringing = self.bringing.read().await;
        if self.homes.is_brought(user) {
            return true;
        }
        // Both are asked for in any case, so that an answer takes as long for a user who does not exist (`A11`).
        let asked = async { tokio::try_join!(self.store.account(user), self.store.load_home(user)) };
        match tokio::time::timeout(DEADLINE, asked).await {
            Ok(Ok((Some(account), rows))) => {
                let now = clock::now();
                self.accounts.put(account);
                let mut common = HashSet::new();
                let rows = rows.into_iter().map(|row| self.shared(row, &mut common).with_grace(now));
                let rows: Vec<_> = rows.collect();
                self.homes.bring(user, &rows);
                true
            }
            Ok(Ok((None, _))) => true,
            Ok(Err(fault)) => {
                warn!(%fault, "a user could not be loaded");
                false
            }
            Err(_) => {
                warn!("a user could not be loaded in time");
                false
            }
        }
    }
}

/// The handler of the endpoint until everything is in memory, and after it.
#[derive(Debug)]
pub struct Gate {
    residency: Arc<Residency>,
    endpoint: Arc<Endpoint>,
    dispatch: Arc<Dispatch>,
    domain: String,
    /// What one user sends by one flow stays in its order.
    turns: Arc<Mutex<Turns<Sender, Waiting>>>,
    /// Nobody waits any more, nor will.
    done: AtomicBool,
}

type Users = SmallVec<[Aor; 3]>;
type Sender = (Flow, Aor);
type Waiting = (Users, Incoming);

/// One sender's turn; should it break off, nobody waits for it for ever.
struct Turn {
    turns: Arc<Mutex<Turns<Sender, Waiting>>>,
    sender: Sender,
    is_over: bool,
}

impl Turn {
    fn next(&mut self) -> Option<Waiting> {
        let next = lock(&self.turns).next(&self.sender);
        self.is_over = next.is_none();
        next
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.is_over {
            lock(&self.turns).abandon(&self.sender);
        }
    }
}

/// What stands behind this lock is whole after every step; a panic elsewhere leaves it so.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gate {
    /// Before `dispatch`, which asks memory alone.
    pub fn new(
        residency: Arc<Residency>,
        endpoint: Arc<Endpoint>,
        dispatch: Arc<Dispatch>,
        domain: String,
    ) -> Gate {
        let turns = Arc::new(Mutex::new(Turns::new(MOST_WAITING)));
        Gate { residency, endpoint, dispatch, domain, turns, done: AtomicBool::new(false) }
    }
}

impl Handler for Gate {
    fn request(&self, incoming: Incoming) {
        if self.done.load(Ordering::Acquire) {
            return self.dispatch.request(incoming);
        }
        let is_peer = self.dispatch.is_peer(incoming.flow());
        let users = named(incoming.request(), &self.domain, is_peer);
        let Some(claimed) = users.first() else { return self.dispatch.request(incoming) };
        let sender = (*incoming.flow(), claimed.clone());
        let entered = {
            let mut turns = lock(&self.turns);
            if self.residency.is_complete() && turns.is_empty() {
                self.done.store(true, Ordering::Release);
                drop(turns);
                return self.dispatch.request(incoming);
            }
            turns.enter(sender.clone(), (users, incoming))
        };
        let first = match entered {
            Entered::First(first) => first,
            Entered::Waits => return,
            Entered::Full((_, incoming)) => return incoming.reject(&soon()),
        };
        let (residency, dispatch) = (self.residency.clone(), self.dispatch.clone());
        let mut turn = Turn { turns: self.turns.clone(), sender, is_over: false };
        // With too many under way it is dropped and counted; over datagrams it comes again.
        self.endpoint.spawn(async move {
            let mut next = Some(first);
            while let Some((users, incoming)) = next {
                let anybody = lists::is_asked_for(incoming.request());
                match residency.has_whom_it_concerns(&users, anybody).await {
                    true => dispatch.request(incoming),
                    false => incoming.reject(&soon()),
                }
                next = turn.next();
            }
        });
    }

    fn closed(&self, flow: &Flow) {
        self.dispatch.closed(flow);
    }
}

/// One memory for all that say the same, as long as there are not too many different ones to remember.
fn share(text: &mut Text, common: &mut HashSet<Text>) {
    match common.get(text) {
        Some(known) => *text = known.clone(),
        None if common.len() < MOST_COMMON => drop(common.insert(text.clone())),
        None => {}
    }
}

fn soon() -> Reject {
    Reject::new(StatusCode::SERVICE_UNAVAILABLE).with(HeaderName::RetryAfter, "2")
}

/// The users whose accounts and homes decide about a request: those its credentials claim, its Request-URI, its To. All names of hosts are
/// taken for ours: one user too many is only read for nothing. Empty without credentials, unless a trusted peer needs none: then whom it asserts.
fn named(request: &Request, domain: &str, is_peer: bool) -> Users {
    let mut users = SmallVec::new();
    let mut add = |user: &str| {
        if let Some(aor) = Aor::new(user, domain)
            && !users.contains(&aor)
        {
            users.push(aor);
        }
    };
    let roles = [HeaderName::Authorization, HeaderName::ProxyAuthorization];
    let claims = roles.into_iter().flat_map(|role| request.credentials(role)).filter_map(Result::ok);
    let mut is_claimed = false;
    for credentials in claims.filter(|c| c.realm.eq_ignore_ascii_case(domain)).take(MOST_CLAIMS) {
        is_claimed = true;
        add(credentials.username.rsplit_once('@').map_or(credentials.username, |(user, _)| user));
    }
    if !is_claimed && !is_peer {
        return SmallVec::new();
    }
    let mut add_uri = |uri: &Uri<'_>| {
        if let Some(user) = uri.name() {
            add(&user);
        }
    };
    if let Ok(uri) = request.uri() {
        add_uri(&uri);
    }
    if let Ok(to) = request.to() {
        add_uri(&to.uri);
    }
    if is_peer && let Some(asserted) = peers::asserted(request) {
        add_uri(&asserted);
    }
    users
}

/// Users are being brought.
pub type Bringing = Pin<Box<dyn Future<Output = bool> + Send>>;

/// Of a presentity who is told about before everything is in memory; each is read by itself.
const MOST_WATCHERS: usize = 32;
/// How long the store may take to tell of one user.
const DEADLINE: Duration = Duration::from_secs(2);
/// How long a message to a list waits for everything to be loaded.
const UNTIL_COMPLETE: Duration = Duration::from_secs(10);
/// Between two attempts to load everything.
const AGAIN: Duration = Duration::from_secs(1);
/// Different texts that are remembered while everything is loaded: there are not that many kinds of phone.
const MOST_COMMON: usize = 1_024;
/// Requests that wait behind others of their senders.
const MOST_WAITING: usize = 10_000;
/// Credentials of one request that are looked at; a phone sends one per role.
const MOST_CLAIMS: usize = 2;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use smallvec::smallvec;

    use super::*;
    use crate::model::{
        Account, Binding, BindingKey, DialogParts, DialogTexts, Durability, Ha1Set, Moved, Package, Plan,
        Subscription, SubscriptionId, Timestamp, Transport,
    };
    use crate::sip::Message;
    use crate::store::{Outcome, Target};

    async fn stored(dir: &tempfile::TempDir) -> (Store, Residency) {
        let store = Store::open(&Target::Sqlite(dir.path().join("h.sqlite"))).await.unwrap();
        let ha1 = Ha1Set::derive("bob", "example.org", "secret");
        let account = Account { aor: bob(), realm: "example.org".into(), ha1, created_at: Timestamp(0) };
        store.put_account(&account).await.unwrap();
        assert_eq!(store.commit(smallvec![binding()]).await, Outcome::Committed);
        let homes = Homes::new(store.clone(), clock::now);
        let residency = Residency::new(store.clone(), homes, Arc::new(Accounts::default()));
        (store, residency)
    }

    fn bob() -> Aor {
        Aor::new("bob", "example.org").unwrap()
    }

    fn binding() -> Row {
        let address = SocketAddr::from(([192, 0, 2, 1], 5060));
        let flow = Flow { transport: Transport::Udp, local: address, remote: address, connection: 0 };
        Row::PutBinding(Arc::new(Binding {
            aor: bob(),
            key: BindingKey("sip:bob@192.0.2.1".into()),
            contact: "sip:bob@192.0.2.1".into(),
            params: Text::default(),
            q: 1_000,
            instance: None,
            reg_id: None,
            path: Box::default(),
            call_id: "c".into(),
            cseq: 1,
            flow,
            direct: true,
            user_agent: Text::default(),
            created_at: Timestamp(0),
            refreshed_at: Timestamp(0),
            expires_at: Timestamp(i64::MAX),
        }))
    }

    #[tokio::test]
    async fn a_user_is_brought_before_everything_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let (store, residency) = stored(&dir).await;
        let nobody = Aor::new("nobody", "example.org").unwrap();
        assert!(residency.bring(&bob()).await && residency.bring(&nobody).await);
        assert!(!residency.is_complete());
        assert!(residency.accounts.exists(&bob()) && !residency.accounts.exists(&nobody));
        let names = [
            residency.accounts.find(&bob()).unwrap().account.aor.clone(),
            residency.homes.read(&bob()).bindings[0].aor.clone(),
        ];
        assert!(std::ptr::eq(names[0].as_str(), names[1].as_str()), "a name is held once");
        assert_eq!(residency.homes.read(&bob()).bindings.len(), 1);
        store.close().await;
    }

    fn subscription(watcher: &str) -> Row {
        let address = SocketAddr::from(([192, 0, 2, 1], 5060));
        let flow = Flow { transport: Transport::Udp, local: address, remote: address, connection: 0 };
        Row::PutSubscription(Arc::new(Subscription {
            id: SubscriptionId(1),
            presentity: bob(),
            watcher: Aor::new(watcher, "example.org").unwrap(),
            package: Package::Presence,
            event_id: None,
            dialog: DialogTexts::new(DialogParts {
                call_id: "s",
                local_tag: "ours",
                remote_tag: "theirs",
                local_address: "<sip:bob@example.org>",
                remote_address: "<sip:carol@example.org>",
                remote_target: "sip:carol@192.0.2.1",
            }),
            route_set: Box::default(),
            flow,
            accept: Text::default(),
            remote_cseq: 1,
            notify_cseq_reserved: 64,
            created_at: Timestamp(0),
            expires_at: Timestamp(i64::MAX),
        }))
    }

    #[tokio::test]
    async fn who_watches_a_user_that_was_brought_is_told_before_everything_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let (store, residency) = stored(&dir).await;
        let residency = Arc::new(residency);
        let carol = Aor::new("carol", "example.org").unwrap();
        let ha1 = Ha1Set::derive("carol", "example.org", "secret");
        let account =
            Account { aor: carol.clone(), realm: "example.org".into(), ha1, created_at: Timestamp(0) };
        store.put_account(&account).await.unwrap();
        assert_eq!(store.commit(smallvec![subscription("carol")]).await, Outcome::Committed);
        assert!(residency.bring_all(&[bob()]).await);
        let owed = tokio::time::timeout(Duration::from_secs(10), residency.homes.next_changed()).await;
        assert_eq!(owed.unwrap().aor, bob());
        // What carol may see hangs on carol, too.
        assert!(!residency.homes.is_brought(&carol));
        assert!(residency.bring_with_watchers(&bob()).unwrap().await);
        assert!(residency.homes.is_brought(&carol) && !residency.is_complete());
        residency.load().await.unwrap();
        assert!(residency.bring_with_watchers(&bob()).is_none());
        store.close().await;
    }

    #[tokio::test]
    async fn what_changed_while_everything_was_loaded_stays_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (store, residency) = stored(&dir).await;
        assert!(residency.bring(&bob()).await);
        let gone = Row::DropBinding(bob(), BindingKey("sip:bob@192.0.2.1".into()));
        let plan = Plan { rows: smallvec![gone], durability: Durability::Lazy, moved: Moved::default() };
        residency.homes.change(&bob(), move |_, _| Ok((plan.clone(), ())), |_| {});
        residency.load().await.unwrap();
        assert!(residency.is_complete());
        residency.completed().await;
        assert!(residency.homes.read(&bob()).is_empty());
        assert!(residency.accounts.exists(&bob()));
        store.close().await;
    }

    fn request(text: &str) -> Request {
        let bytes = text.replace('\n', "\r\n").into_bytes();
        match Message::parse(bytes.into(), false, &Default::default()) {
            Ok(Message::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }
    fn message(credentials: &str) -> Request {
        request(&format!(
            "MESSAGE sip:bob@example.org SIP/2.0\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\nFrom: <sip:alice@example.org>;tag=1\n\
             To: <sip:bob@example.org>\nCall-ID: 1\nCSeq: 1 MESSAGE\n{credentials}Content-Length: 0\n\n"
        ))
    }

    #[test]
    fn a_request_without_credentials_waits_for_nobody() {
        assert!(named(&message(""), "example.org", false).is_empty());
        let elsewhere = "Authorization: Digest username=\"alice\", realm=\"example.net\", nonce=\"1\", uri=\"sip:a\", response=\"1\"\n";
        assert!(named(&message(elsewhere), "example.org", false).is_empty());
    }

    #[test]
    fn a_request_waits_for_its_sender_and_for_whom_it_is_meant() {
        let claim = "Proxy-Authorization: Digest username=\"alice@example.org\", realm=\"example.org\", nonce=\"1\", uri=\"sip:a\", response=\"1\"\n";
        let users = named(&message(claim), "example.org", false);
        assert_eq!(
            users.iter().map(Aor::as_str).collect::<Vec<_>>(),
            ["alice@example.org", "bob@example.org"]
        );
    }

    #[test]
    fn a_trusted_peers_request_waits_for_whom_it_names() {
        let users = named(&message("P-Asserted-Identity: <sip:carol@example.org>\n"), "example.org", true);
        assert_eq!(
            users.iter().map(Aor::as_str).collect::<Vec<_>>(),
            ["bob@example.org", "carol@example.org"]
        );
    }
}

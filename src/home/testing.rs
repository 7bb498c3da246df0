//! The turn, on a real store.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smallvec::smallvec;
use tokio::sync::mpsc;

use crate::home::{Changed, Decision, Homes, Mode, Refusal};
use crate::model::{
    Aor, Binding, BindingKey, DialogParts, DialogTexts, Durability, Flow, HomeState, Moved, Package,
    Packages, Plan, Reject, Row, Subscription, SubscriptionId, Text, Timestamp, Transport,
};
use crate::sip::StatusCode;
use crate::store::{Store, Target};

const NOW: Timestamp = Timestamp(1_000_000);

fn now() -> Timestamp {
    NOW
}

fn bob() -> Aor {
    Aor::new("bob", "example.org").unwrap()
}

async fn homes(dir: &tempfile::TempDir) -> Arc<Homes> {
    Homes::new(Store::open(&Target::Sqlite(dir.path().join("h.sqlite"))).await.unwrap(), now)
}

fn flow() -> Flow {
    let address = SocketAddr::from(([192, 0, 2, 1], 5060));
    Flow { transport: Transport::Udp, local: address, remote: address, connection: 0 }
}

fn binding(contact: &str, expires_at: Timestamp) -> Row {
    Row::PutBinding(
        Binding {
            aor: bob(),
            key: BindingKey(contact.into()),
            contact: contact.into(),
            params: Text::default(),
            q: 1_000,
            instance: None,
            reg_id: None,
            path: Box::default(),
            call_id: "c".into(),
            cseq: 1,
            flow: flow(),
            direct: true,
            user_agent: Text::default(),
            created_at: NOW,
            refreshed_at: NOW,
            expires_at,
        }
        .into(),
    )
}

fn subscription(watcher: &Aor) -> Row {
    Row::PutSubscription(
        Subscription {
            id: SubscriptionId(7),
            presentity: bob(),
            watcher: watcher.clone(),
            package: Package::Presence,
            event_id: None,
            dialog: DialogTexts::new(DialogParts {
                call_id: "c",
                local_tag: "l",
                remote_tag: "r",
                local_address: "<sip:bob@example.org>",
                remote_address: "<sip:alice@example.org>",
                remote_target: "sip:alice@192.0.2.1",
            }),
            route_set: Box::default(),
            flow: flow(),
            accept: Text::default(),
            remote_cseq: 1,
            notify_cseq_reserved: 64,
            created_at: NOW,
            expires_at: Timestamp(2_000_000),
        }
        .into(),
    )
}

fn plan(row: Row, durability: Durability) -> Plan {
    Plan { rows: smallvec![row], durability, moved: Moved { presence: true, watchers: true } }
}

async fn next<T>(events: &mut mpsc::Receiver<T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), events.recv()).await.expect("in time").expect("an event")
}

#[tokio::test]
async fn changes_of_one_home_are_decided_in_order_each_on_the_state_of_its_predecessor() {
    let dir = tempfile::tempdir().unwrap();
    let homes = homes(&dir).await;
    let (tell, mut told) = mpsc::channel(1_000);
    let seen = Arc::new(Mutex::new(Vec::new()));
    for number in 0..200 {
        let (tell, seen) = (tell.clone(), seen.clone());
        homes.change(
            &bob(),
            move |home, _| {
                seen.lock().unwrap().push(home.bindings.len());
                let row = binding(&format!("sip:{number}@192.0.2.1"), Timestamp(2_000_000));
                Ok((plan(row, Durability::Durable), number))
            },
            move |result| {
                tell.try_send(result.map(|(number, home)| (number, home.bindings.len())).unwrap()).unwrap()
            },
        );
    }
    for number in 0..200 {
        let (acted, bindings) = next(&mut told).await;
        assert_eq!(acted, number);
        assert!(bindings > number, "acted before it was in memory");
    }
    assert_eq!(*seen.lock().unwrap(), (0..200).collect::<Vec<_>>());
    assert_eq!(homes.store().load_home(&bob()).await.unwrap().len(), 200);
}

#[tokio::test]
async fn a_refusal_acts_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let homes = homes(&dir).await;
    let (tell, mut told) = mpsc::channel(1);
    homes.change(
        &bob(),
        |_, _| Err::<(Plan, ()), _>(Reject::new(StatusCode::FORBIDDEN)),
        move |result| tell.try_send(result.map(|_| ()).unwrap_err()).unwrap(),
    );
    assert_eq!(next(&mut told).await, Refusal::Reject(Reject::new(StatusCode::FORBIDDEN)));
    assert_eq!(homes.census(), [0; 5], "an empty home is not kept");
}

#[tokio::test]
async fn lazy_rows_are_applied_before_the_call_returns() {
    let dir = tempfile::tempdir().unwrap();
    let homes = homes(&dir).await;
    homes.change(
        &bob(),
        |_, mode| {
            assert_eq!(mode, Mode::Durable);
            Ok((plan(binding("sip:a@192.0.2.1", Timestamp(2_000_000)), Durability::Lazy), ()))
        },
        |result| assert!(result.is_ok()),
    );
    assert_eq!(homes.read(&bob()).bindings.len(), 1);
}

#[tokio::test]
async fn the_slow_way_makes_the_same_of_lazy_rows_queries_and_refusals() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&Target::Sqlite(dir.path().join("h.sqlite"))).await.unwrap();
    let homes = Homes::always_driven(store, now);
    let (tell, mut told) = mpsc::channel(3);
    let lazy = |_: &HomeState, mode| {
        assert_eq!(mode, Mode::Durable);
        Ok((plan(binding("sip:a@192.0.2.1", Timestamp(2_000_000)), Durability::Lazy), ()))
    };
    let query = |_: &HomeState, _| {
        let nothing = Plan { rows: smallvec![], durability: Durability::Durable, moved: Moved::default() };
        Ok((nothing, ()))
    };
    let refusal = |_: &HomeState, _| Err(Reject::new(StatusCode::FORBIDDEN));
    let decisions: [fn(&HomeState, Mode) -> Decision<()>; 3] = [lazy, query, refusal];
    for decide in decisions {
        let tell = tell.clone();
        homes.change(&bob(), decide, move |result| {
            tell.try_send(result.map(|((), home)| home.bindings.len())).unwrap();
        });
    }
    assert!(homes.read(&bob()).bindings.is_empty(), "nothing is done before a driver has its turn");
    let refused = Err(Refusal::Reject(Reject::new(StatusCode::FORBIDDEN)));
    let mut all = [next(&mut told).await, next(&mut told).await, next(&mut told).await];
    all.sort_by_key(Result::is_err);
    assert_eq!(all, [Ok(1), Ok(1), refused]);
    homes.drained().await;
    assert_eq!(homes.read(&bob()).bindings.len(), 1);
}

#[tokio::test]
async fn a_snapshot_that_is_being_read_does_not_change() {
    let dir = tempfile::tempdir().unwrap();
    let homes = homes(&dir).await;
    homes.install(&binding("sip:a@192.0.2.1", Timestamp(2_000_000)));
    let before = homes.read(&bob());
    homes.change(
        &bob(),
        |_, _| Ok((plan(binding("sip:b@192.0.2.1", Timestamp(2_000_000)), Durability::Lazy), ())),
        |_| {},
    );
    assert_eq!(before.bindings.len(), 1);
    assert_eq!(homes.read(&bob()).bindings.len(), 2);
}

#[tokio::test]
async fn a_change_marks_the_home_once_and_the_watchers_home_when_watching_begins() {
    let dir = tempfile::tempdir().unwrap();
    let homes = homes(&dir).await;
    let alice = Aor::new("alice", "example.org").unwrap();
    homes.install(&Row::PutBinding(
        Binding {
            aor: alice.clone(),
            ..match binding("sip:x@192.0.2.1", Timestamp(2_000_000)) {
                Row::PutBinding(binding) => Binding::clone(&binding),
                _ => unreachable!(),
            }
        }
        .into(),
    ));
    for _ in 0..3 {
        let row = subscription(&alice);
        homes.change(&bob(), move |_, _| Ok((plan(row.clone(), Durability::Lazy), ())), |_| {});
    }
    let marked = [homes.next_changed().await.aor, homes.next_changed().await.aor];
    assert!(marked.contains(&alice) && marked.contains(&bob()), "{marked:?}");
    let more = tokio::time::timeout(Duration::from_millis(20), homes.next_changed()).await;
    assert!(more.is_err(), "bursts coalesce");
}

#[tokio::test]
async fn who_begins_to_watch_is_marked_for_the_watched_alone_and_twice_for_all() {
    let dir = tempfile::tempdir().unwrap();
    let homes = homes(&dir).await;
    let [alice, carol] = ["alice", "carol"].map(|user| Aor::new(user, "example.org").unwrap());
    // Alice has a watcher, so that there is somebody to be told.
    let Row::PutSubscription(row) = subscription(&carol) else { unreachable!() };
    let row = Subscription { presentity: alice.clone(), ..Subscription::clone(&row) };
    homes.install(&Row::PutSubscription(row.into()));
    let watch = || {
        let row = subscription(&alice);
        let moved = Moved { presence: false, watchers: true };
        let plan = Plan { moved, ..plan(row, Durability::Lazy) };
        homes.change(&bob(), move |_, _| Ok((plan.clone(), ())), |_| {});
    };
    let changed = |only, packages| Changed { aor: alice.clone(), only, packages };
    let some = Packages::SHOWN_TO_OTHERS;
    watch();
    assert_eq!(homes.next_changed().await, changed(Some(bob()), some));
    watch();
    watch();
    assert_eq!(homes.next_changed().await, changed(None, some));
    watch();
    homes.mark(&alice);
    assert_eq!(homes.next_changed().await, changed(None, Packages::ALL));
    watch();
    assert_eq!(homes.next_changed().await, changed(Some(bob()), some));
    let more = tokio::time::timeout(Duration::from_millis(20), homes.next_changed()).await;
    assert!(more.is_err(), "bursts coalesce");
}

#[tokio::test]
async fn a_home_whose_change_panicked_can_be_entered_again() {
    let dir = tempfile::tempdir().unwrap();
    let homes = homes(&dir).await;
    homes.change(
        &bob(),
        |_, _| Ok((plan(binding("sip:a@192.0.2.1", Timestamp(2_000_000)), Durability::Durable), ())),
        |_| panic!("an answer that panics"),
    );
    let (tell, mut told) = mpsc::channel(1);
    homes.drained().await;
    homes.change(
        &bob(),
        |_, _| Ok((plan(binding("sip:b@192.0.2.1", Timestamp(2_000_000)), Durability::Durable), ())),
        move |result| tell.try_send(result.map(|(_, home)| home.bindings.len())).unwrap(),
    );
    assert_eq!(next(&mut told).await, Ok(2));
}

#[tokio::test]
async fn what_has_ended_is_swept_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let homes = homes(&dir).await;
    let alice = Aor::new("alice", "example.org").unwrap();
    homes.install(&binding("sip:old@192.0.2.1", NOW));
    homes.install(&binding("sip:new@192.0.2.1", Timestamp(2_000_000)));
    let Row::PutSubscription(ended) = subscription(&alice) else { unreachable!() };
    homes.install(&Row::PutSubscription(
        Subscription { expires_at: NOW, ..Subscription::clone(&ended) }.into(),
    ));
    let (tell, mut told) = mpsc::channel(1);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let wheel = homes.clone().run_wheel(
        move |s| tell.try_send(s.watcher.clone()).unwrap(),
        |_, _| Vec::new(),
        stopped,
    );
    let check = async {
        assert_eq!(next(&mut told).await, alice);
        stop.send(true).unwrap();
    };
    tokio::join!(wheel, check);
    let home = homes.read(&bob());
    assert_eq!(home.bindings.iter().map(|b| b.contact.as_str()).collect::<Vec<_>>(), ["sip:new@192.0.2.1"]);
    assert!(home.subscriptions.is_empty());
}

#[tokio::test]
async fn a_removed_user_leaves_every_home() {
    let dir = tempfile::tempdir().unwrap();
    let homes = homes(&dir).await;
    let alice = Aor::new("alice", "example.org").unwrap();
    homes.install(&binding("sip:a@192.0.2.1", Timestamp(2_000_000)));
    homes.install(&subscription(&alice));
    assert_eq!(homes.purge(&alice).len(), 1);
    assert!(homes.read(&bob()).subscriptions.is_empty());
    assert_eq!(homes.read(&bob()).bindings.len(), 1);
    homes.purge(&bob());
    assert!(homes.read(&bob()).is_empty());
}

#[tokio::test]
async fn a_home_that_was_brought_is_left_alone_by_pages_that_were_read_before() {
    let dir = tempfile::tempdir().unwrap();
    let homes = homes(&dir).await;
    let stored = binding("sip:a@192.0.2.1", Timestamp(2_000_000));
    homes.loading();
    assert!(!homes.is_brought(&bob()));
    homes.install(&stored);
    homes.bring(&bob(), std::slice::from_ref(&stored));
    assert!(homes.is_brought(&bob()));
    let gone = Row::DropBinding(bob(), BindingKey("sip:a@192.0.2.1".into()));
    homes.change(&bob(), move |_, _| Ok((plan(gone.clone(), Durability::Lazy), ())), |_| {});
    // What was read before the change must not come back, neither from a page nor from another request's question.
    homes.install(&stored);
    homes.bring(&bob(), std::slice::from_ref(&stored));
    assert!(homes.read(&bob()).is_empty());
    homes.loaded();
    assert!(homes.is_brought(&bob()));
}

#[tokio::test]
async fn a_brought_home_is_whole_whatever_pages_had_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let homes = homes(&dir).await;
    let (first, second) =
        (binding("sip:a@192.0.2.1", Timestamp(2_000_000)), binding("sip:b@192.0.2.1", Timestamp(2_000_000)));
    homes.loading();
    homes.install(&second);
    homes.bring(&bob(), &[first, second]);
    let home = homes.read(&bob());
    let contacts: Vec<_> = home.bindings.iter().map(|b| b.contact.as_str()).collect();
    assert_eq!(contacts, ["sip:a@192.0.2.1", "sip:b@192.0.2.1"]);
}

#[tokio::test]
async fn watchers_are_owed_their_state_at_a_pace() {
    let dir = tempfile::tempdir().unwrap();
    let homes = homes(&dir).await;
    for n in 0..30 {
        let presentity = Aor::new(&format!("p{n}"), "example.org").unwrap();
        let Row::PutSubscription(row) = subscription(&bob()) else { unreachable!() };
        homes.install(&Row::PutSubscription(Arc::new(Subscription {
            presentity,
            ..Subscription::clone(&row)
        })));
    }
    let (_stopping, stop) = tokio::sync::watch::channel(false);
    #[expect(clippy::disallowed_methods, reason = "a test measures the pace")]
    let begun = tokio::time::Instant::now();
    homes.mark_watched(Duration::from_millis(10), stop).await;
    assert!(begun.elapsed() >= Duration::from_millis(280), "{:?}", begun.elapsed());
    let mut marked = std::collections::HashSet::new();
    for _ in 0..30 {
        marked.insert(homes.next_changed().await.aor);
    }
    assert_eq!(marked.len(), 30);
}

#[tokio::test]
async fn the_wheel_comes_by_where_a_refreshed_home_stood_and_looks_where_it_stands_then() {
    let dir = tempfile::tempdir().unwrap();
    let homes = homes(&dir).await;
    let put = |expires_at| {
        let row = binding("sip:1@192.0.2.1", expires_at);
        homes.change(&bob(), move |_, _| Ok((plan(row.clone(), Durability::Lazy), ())), |_| {});
    };
    let stands = || homes.shard(&bob()).due.iter().map(|(at, _)| *at).collect::<Vec<_>>();
    let [first, later, last] = [10, 20, 30].map(|s| NOW.after_secs(s));
    put(later);
    put(last);
    assert_eq!(stands(), [later], "a refresh moves nothing");
    put(first);
    assert_eq!(stands(), [first], "what ends sooner does");
    put(last);
    assert_eq!(homes.due(first), []);
    assert_eq!(stands(), [last]);
    assert_eq!(homes.due(last), [bob()]);
    put(NOW.after_secs(40));
    let (end, _) = crate::home::wheel::sweep(&homes.read(&bob()), &[], NOW.after_secs(40));
    homes.change(&bob(), move |_, _| Ok((end.clone(), ())), |_| {});
    assert_eq!(stands(), []);
}

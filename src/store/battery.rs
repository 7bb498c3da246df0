//! One battery for both databases: every rule below is held on SQLite and on Postgres.

use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use smallvec::{SmallVec, smallvec};
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, raw_sql};
use tokio::time::timeout;

use crate::model::*;
use crate::store::throwaway;
use crate::store::{Fault, Outcome, Store, Target};

/// A database of its own.
struct Place {
    target: Target,
    dir: Option<tempfile::TempDir>,
    /// Where it was made, and its name.
    admin: Option<(String, String)>,
}

impl Place {
    fn sqlite() -> Option<Place> {
        let dir = tempfile::tempdir().unwrap();
        Some(Place { target: Target::Sqlite(dir.path().join("hither.db")), dir: Some(dir), admin: None })
    }
    async fn postgres() -> Option<Place> {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let admin = tokio::task::spawn_blocking(throwaway::shared).await.unwrap()?;
        let name = format!("hither_test_{}_{}", std::process::id(), LAST.fetch_add(1, Ordering::Relaxed));
        admin_does(admin, format!("CREATE DATABASE {name}")).await;
        let url = PgConnectOptions::from_str(admin).unwrap().database(&name).to_url_lossy().to_string();
        let target = Target::Postgres(Redacted(url));
        Some(Place { target, dir: None, admin: Some((admin.to_owned(), name)) })
    }
    async fn open(&self) -> Store {
        Store::open(&self.target).await.unwrap()
    }
    async fn end(self, store: Store) {
        soon(store.close()).await;
        if let Some((admin, name)) = self.admin {
            admin_does(&admin, format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
        drop(self.dir);
    }
    /// A row that this database refuses.
    async fn guilty(&self) -> Row {
        match &self.target {
            Target::Postgres(_) => {
                Row::PutBinding(Binding { contact: "sip:a\0b@host".into(), ..binding("guilty", "1", 0) })
            }
            Target::Sqlite(path) => {
                let mut other = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
                let trigger = "CREATE TRIGGER refuse BEFORE INSERT ON binding WHEN NEW.contact = 'sip:guilty' \
                               BEGIN SELECT RAISE(ABORT, 'refused'); END";
                raw_sql(trigger).execute(&mut other).await.unwrap();
                other.close().await.unwrap();
                Row::PutBinding(Binding { contact: "sip:guilty".into(), ..binding("guilty", "1", 0) })
            }
        }
    }
}

async fn admin_does(url: &str, sql: String) {
    let mut admin = PgConnectOptions::from_str(url).unwrap().connect().await.unwrap();
    raw_sql(AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
    admin.close().await.unwrap();
}

macro_rules! on_both {
    ($($rule:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                if let Some(place) = super::Place::sqlite() { super::$rule(place).await }
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                if let Some(place) = super::Place::postgres().await { super::$rule(place).await }
            })*
        }
    };
}

on_both! {
    every_kind_of_row_reads_back_as_it_was_written
    a_put_replaces_and_a_drop_removes
    the_order_of_calls_is_the_order_of_commits
    the_newest_row_of_a_key_in_one_commit_wins
    a_guilty_row_fails_alone
    a_guilty_lazy_row_does_not_stop_the_others
    kept_rows_are_seen_at_once_and_written_at_close
    kept_rows_are_written_by_themselves
    a_commit_overtakes_what_was_kept_before_it
    what_is_kept_after_a_commit_overtakes_it
    everything_is_loaded_in_order_of_creation_within_a_home
    a_second_opener_is_refused
    the_secret_stays_the_same
    accounts_are_put_replaced_and_listed
    a_removed_account_takes_everything_of_its_user_along
    a_closed_store_commits_nothing
}

pub(super) fn aor(user: &str) -> Aor {
    Aor::new(user, "example.org").unwrap()
}

fn flow() -> Flow {
    Flow {
        transport: Transport::Tcp,
        local: "[::1]:5060".parse().unwrap(),
        remote: "192.0.2.1:40000".parse().unwrap(),
        connection: u64::MAX - 7,
    }
}

pub(super) fn binding(user: &str, key: &str, created: i64) -> Binding {
    Binding {
        aor: aor(user),
        key: BindingKey(key.into()),
        contact: format!("sip:{key}@192.0.2.1;transport=tcp"),
        params: ";+sip.ice;methods=\"INVITE, MESSAGE\"".into(),
        q: 700,
        instance: Some("urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF".into()),
        reg_id: Some(u32::MAX),
        path: vec!["<sip:p1;lr>".into(), "<sip:\"ü\"@p2;lr>".into()],
        call_id: "a@b".into(),
        cseq: u32::MAX,
        flow: flow(),
        direct: true,
        user_agent: "Phone/1.0".into(),
        created_at: Timestamp(created),
        refreshed_at: Timestamp(2),
        expires_at: Timestamp(i64::MAX),
    }
}

fn publication(user: &str, id: u128) -> Publication {
    Publication {
        aor: aor(user),
        id: PublicationId(id),
        package: Package::Presence,
        tag: EntityTag(u128::MAX - id),
        content_type: "application/pidf+xml".into(),
        body: bytes::Bytes::from_static(b"<presence>\0\xff</presence>"),
        created_at: Timestamp(1),
        modified_at: Timestamp(2),
        expires_at: Timestamp(3),
    }
}

fn subscription(presentity: &str, watcher: &str, id: u128) -> Subscription {
    Subscription {
        id: SubscriptionId(id),
        presentity: aor(presentity),
        watcher: aor(watcher),
        package: Package::Presence,
        event_id: None,
        call_id: "c".into(),
        local_tag: "l".into(),
        remote_tag: "r".into(),
        local_address: "\"Bob\" <sip:bob@example.org>".into(),
        remote_address: "<sip:alice@example.org>".into(),
        remote_target: "sip:alice@192.0.2.1:5060".into(),
        route_set: vec!["<sip:p1;lr>".into()],
        flow: Flow { transport: Transport::Udp, connection: 0, ..flow() },
        accept: String::new(),
        remote_cseq: 7,
        notify_cseq_reserved: 128,
        created_at: Timestamp(1),
        expires_at: Timestamp(2),
    }
}

pub(super) fn account(user: &str, password: &str) -> Account {
    Account {
        aor: aor(user),
        realm: "example.org".into(),
        ha1: Ha1Set {
            md5: Redacted(format!("1{password}")),
            md5_at: Redacted(format!("2{password}")),
            sha256: Redacted(format!("3{password}")),
            sha256_at: Redacted(format!("4{password}")),
        },
        created_at: Timestamp(5),
    }
}

pub(super) async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), work).await.expect("within its deadline")
}

pub(super) async fn put(store: &Store, row: Row) {
    assert_eq!(soon(store.commit(smallvec![row])).await, Outcome::Committed);
}

pub(super) async fn home(store: &Store, user: &str) -> Vec<Row> {
    soon(store.load_home(&aor(user))).await.unwrap()
}

pub(super) async fn everything(store: &Store) -> Vec<Row> {
    let mut rows = Vec::new();
    soon(store.load_all(&mut |row| rows.push(row))).await.unwrap();
    rows
}

async fn every_kind_of_row_reads_back_as_it_was_written(place: Place) {
    let store = place.open().await;
    let plain = Binding { instance: None, reg_id: None, path: vec![], direct: false, ..binding("a", "2", 9) };
    let rows = [
        Row::PutBinding(binding("a", "1", 8)),
        Row::PutBinding(plain),
        Row::PutPublication(publication("a", 1)),
        Row::PutSubscription(subscription("a", "b", u128::MAX)),
        Row::PutSubscription(Subscription { event_id: Some("7".into()), ..subscription("b", "a", 0) }),
    ];
    assert_eq!(soon(store.commit(SmallVec::from(rows.to_vec()))).await, Outcome::Committed);
    assert_eq!(home(&store, "a").await, rows[..4]);
    assert_eq!(home(&store, "b").await, rows[4..]);
    assert_eq!(home(&store, "nobody").await, []);
    assert_eq!(everything(&store).await, rows);
    place.end(store).await;
}

async fn a_put_replaces_and_a_drop_removes(place: Place) {
    let store = place.open().await;
    for row in [
        Row::PutBinding(binding("a", "1", 1)),
        Row::PutPublication(publication("a", 1)),
        Row::PutSubscription(subscription("a", "b", 1)),
    ] {
        put(&store, row).await;
    }
    let newer = [
        Row::PutBinding(Binding { q: 1, cseq: 2, ..binding("a", "1", 1) }),
        Row::PutPublication(Publication { tag: EntityTag(9), body: "new".into(), ..publication("a", 1) }),
        Row::PutSubscription(Subscription { remote_cseq: 8, ..subscription("a", "b", 1) }),
    ];
    assert_eq!(soon(store.commit(newer.iter().cloned().collect())).await, Outcome::Committed);
    assert_eq!(home(&store, "a").await, newer);
    let drops = smallvec![
        Row::DropBinding(aor("a"), BindingKey("1".into())),
        Row::DropPublication(aor("a"), PublicationId(1)),
        Row::DropSubscription(aor("a"), SubscriptionId(1)),
        Row::DropBinding(aor("a"), BindingKey("never".into())),
    ];
    assert_eq!(soon(store.commit(drops)).await, Outcome::Committed);
    assert_eq!(home(&store, "a").await, []);
    place.end(store).await;
}

async fn the_order_of_calls_is_the_order_of_commits(place: Place) {
    let store = place.open().await;
    let last = Row::PutBinding(Binding { cseq: 3_000, ..binding("a", "1", 1) });
    let mut outcomes: Vec<_> = (0..3_000)
        .map(|cseq| store.commit(smallvec![Row::PutBinding(Binding { cseq, ..binding("a", "1", 1) })]))
        .collect();
    outcomes.push(store.commit(smallvec![last.clone()]));
    for outcome in outcomes {
        assert_eq!(soon(outcome).await, Outcome::Committed);
    }
    assert_eq!(home(&store, "a").await, [last]);
    place.end(store).await;
}

async fn the_newest_row_of_a_key_in_one_commit_wins(place: Place) {
    let store = place.open().await;
    let last = Row::PutBinding(binding("a", "1", 1));
    let rows = smallvec![
        Row::PutBinding(Binding { q: 0, ..binding("a", "1", 1) }),
        Row::DropBinding(aor("a"), BindingKey("1".into())),
        last.clone(),
        Row::PutBinding(binding("a", "2", 1)),
        Row::DropBinding(aor("a"), BindingKey("2".into())),
    ];
    assert_eq!(soon(store.commit(rows)).await, Outcome::Committed);
    assert_eq!(home(&store, "a").await, [last]);
    place.end(store).await;
}

async fn a_guilty_row_fails_alone(place: Place) {
    let store = place.open().await;
    let guilty = place.guilty().await;
    let outcomes: Vec<_> = (0..200)
        .map(|n| match n {
            77 => store.commit(smallvec![guilty.clone()]),
            _ => store.commit(smallvec![Row::PutBinding(binding(&format!("user{n}"), "1", 1))]),
        })
        .collect();
    let mut failed = Vec::new();
    for (n, outcome) in outcomes.into_iter().enumerate() {
        match soon(outcome).await {
            Outcome::Committed => {}
            other => failed.push((n, other)),
        }
    }
    assert_eq!(failed, [(77, Outcome::NotCommitted)]);
    assert_eq!(everything(&store).await.len(), 199);
    assert!(!store.is_out());
    place.end(store).await;
}

async fn a_guilty_lazy_row_does_not_stop_the_others(place: Place) {
    let store = place.open().await;
    let kept = Row::PutBinding(binding("a", "1", 1));
    assert!(store.write_lazily(&[place.guilty().await, kept.clone()]));
    soon(store.close()).await;
    let store = place.open().await;
    assert_eq!(everything(&store).await, [kept]);
    place.end(store).await;
}

async fn kept_rows_are_seen_at_once_and_written_at_close(place: Place) {
    let store = place.open().await;
    put(&store, Row::PutBinding(binding("a", "1", 1))).await;
    put(&store, Row::PutBinding(binding("a", "2", 2))).await;
    let refreshed = Row::PutBinding(Binding { cseq: 9, ..binding("a", "1", 1) });
    assert!(store.write_lazily(&[refreshed.clone(), Row::DropBinding(aor("a"), BindingKey("2".into()))]));
    assert_eq!(home(&store, "a").await, std::slice::from_ref(&refreshed));
    soon(store.close()).await;
    let store = place.open().await;
    assert_eq!(everything(&store).await, [refreshed]);
    place.end(store).await;
}

async fn kept_rows_are_written_by_themselves(place: Place) {
    let store = place.open().await;
    let kept = Row::PutBinding(binding("a", "1", 1));
    assert!(store.write_lazily(std::slice::from_ref(&kept)));
    let mut look = tokio::time::interval(Duration::from_millis(50));
    soon(async {
        while everything(&store).await.is_empty() {
            look.tick().await;
        }
    })
    .await;
    assert_eq!(everything(&store).await, [kept]);
    place.end(store).await;
}

async fn a_commit_overtakes_what_was_kept_before_it(place: Place) {
    let store = place.open().await;
    assert!(store.write_lazily(&[Row::PutBinding(binding("a", "1", 1))]));
    put(&store, Row::DropBinding(aor("a"), BindingKey("1".into()))).await;
    assert_eq!(home(&store, "a").await, []);
    soon(store.close()).await;
    let store = place.open().await;
    assert_eq!(everything(&store).await, []);
    place.end(store).await;
}

async fn what_is_kept_after_a_commit_overtakes_it(place: Place) {
    let store = place.open().await;
    let commit = store.commit(smallvec![Row::PutBinding(binding("a", "1", 1))]);
    let newer = Row::PutBinding(Binding { cseq: 9, ..binding("a", "1", 1) });
    assert!(store.write_lazily(std::slice::from_ref(&newer)));
    assert_eq!(soon(commit).await, Outcome::Committed);
    soon(store.close()).await;
    let store = place.open().await;
    assert_eq!(everything(&store).await, [newer]);
    place.end(store).await;
}

async fn everything_is_loaded_in_order_of_creation_within_a_home(place: Place) {
    let store = place.open().await;
    let rows: Vec<Row> = (0..9_000)
        .map(|n| Row::PutBinding(binding(&format!("user{}", n / 3), &(n % 3).to_string(), 10 - n % 3)))
        .collect();
    assert_eq!(soon(store.commit(rows.clone().into())).await, Outcome::Committed);
    let loaded = everything(&store).await;
    assert_eq!(loaded.len(), 9_000);
    for home in loaded.chunks(3) {
        let keys = home.iter().map(Row::key);
        let expected =
            ["2", "1", "0"].map(|key| RowKey::Binding(home[0].aor().clone(), BindingKey(key.into())));
        assert!(keys.eq(expected));
    }
    place.end(store).await;
}

async fn a_second_opener_is_refused(place: Place) {
    let store = place.open().await;
    assert!(matches!(soon(Store::open(&place.target)).await, Err(Fault::InUse)));
    put(&store, Row::PutBinding(binding("a", "1", 1))).await;
    soon(store.close()).await;
    let store = place.open().await;
    place.end(store).await;
}

async fn the_secret_stays_the_same(place: Place) {
    let store = place.open().await;
    assert_eq!(soon(store.secret([1; 32])).await.unwrap(), [1; 32]);
    assert_eq!(soon(store.secret([2; 32])).await.unwrap(), [1; 32]);
    soon(store.close()).await;
    let store = place.open().await;
    assert_eq!(soon(store.secret([3; 32])).await.unwrap(), [1; 32]);
    place.end(store).await;
}

async fn accounts_are_put_replaced_and_listed(place: Place) {
    let store = place.open().await;
    for account in [account("b", "1"), account("a", "1"), account("b", "2")] {
        soon(store.put_account(&account)).await.unwrap();
    }
    assert_eq!(soon(store.accounts()).await.unwrap(), [account("a", "1"), account("b", "2")]);
    place.end(store).await;
}

async fn a_removed_account_takes_everything_of_its_user_along(place: Place) {
    let store = place.open().await;
    soon(store.put_account(&account("a", "1"))).await.unwrap();
    soon(store.put_account(&account("b", "1"))).await.unwrap();
    let others = [Row::PutBinding(binding("b", "1", 1)), Row::PutSubscription(subscription("b", "c", 3))];
    let rows: SmallVec<[Row; 1]> = smallvec![
        Row::PutBinding(binding("a", "1", 1)),
        Row::PutPublication(publication("a", 1)),
        Row::PutSubscription(subscription("a", "b", 1)),
        Row::PutSubscription(subscription("b", "a", 2)),
    ];
    assert_eq!(soon(store.commit(others.iter().cloned().collect())).await, Outcome::Committed);
    assert_eq!(soon(store.commit(rows)).await, Outcome::Committed);
    assert!(store.write_lazily(&[Row::PutBinding(binding("a", "2", 1))]));
    assert!(store.write_lazily(&[Row::PutSubscription(subscription("b", "a", 4))]));
    assert!(soon(store.remove_account(&aor("a"))).await.unwrap());
    assert!(!soon(store.remove_account(&aor("a"))).await.unwrap());
    soon(store.close()).await;
    let store = place.open().await;
    assert_eq!(everything(&store).await, others);
    assert_eq!(soon(store.accounts()).await.unwrap(), [account("b", "1")]);
    place.end(store).await;
}

async fn a_closed_store_commits_nothing(place: Place) {
    let store = place.open().await;
    let waiting = store.commit(smallvec![Row::PutBinding(binding("a", "1", 1))]);
    soon(store.close()).await;
    assert_eq!(soon(waiting).await, Outcome::Committed);
    let late = store.commit(smallvec![Row::PutBinding(binding("a", "2", 1))]);
    assert_eq!(soon(late).await, Outcome::NotCommitted);
    assert!(!store.write_lazily(&[Row::PutBinding(binding("a", "2", 1))]));
    assert!(soon(store.put_account(&account("a", "1"))).await.is_err());
    place.end(store).await;
}

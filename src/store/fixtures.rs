//! Databases of their own and rows to put into them, for the tests of this module.

use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use smallvec::smallvec;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, raw_sql};
use tokio::time::timeout;

use crate::model::*;
use crate::store::session::Options;
use crate::store::{Outcome, Store, Target, migrations, open, throwaway, write};

/// A database of its own.
pub(super) struct Place {
    pub target: Target,
    dir: Option<tempfile::TempDir>,
    /// Where it was made, and its name.
    admin: Option<(String, String)>,
}

impl Place {
    pub fn sqlite() -> Option<Place> {
        let dir = tempfile::tempdir().unwrap();
        Some(Place { target: Target::Sqlite(dir.path().join("hither.db")), dir: Some(dir), admin: None })
    }
    pub async fn postgres() -> Option<Place> {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let admin = tokio::task::spawn_blocking(throwaway::shared).await.unwrap()?;
        let name = format!("hither_test_{}_{}", std::process::id(), LAST.fetch_add(1, Ordering::Relaxed));
        admin_does(admin, format!("CREATE DATABASE {name}")).await;
        let url = PgConnectOptions::from_str(admin).unwrap().database(&name).to_url_lossy().to_string();
        let target = Target::Postgres(Redacted(url));
        Some(Place { target, dir: None, admin: Some((admin.to_owned(), name)) })
    }
    pub async fn open(&self) -> Store {
        Store::open(&self.target).await.unwrap()
    }
    pub async fn end(self, store: Store) {
        soon(store.close()).await;
        if let Some((admin, name)) = self.admin {
            admin_does(&admin, format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
        drop(self.dir);
    }
    /// Makes the store with the schema of an earlier release, and these rows in it.
    pub async fn of_schema(&self, last: i64, rows: &[Row]) {
        let rows: Vec<&Row> = rows.iter().collect();
        match open::options(&self.target).unwrap() {
            Options::Postgres(options) => {
                let mut earlier = options.connect().await.unwrap();
                migrations::up_to(last).run(&mut earlier).await.unwrap();
                write::to_postgres(&mut earlier, &rows).await.unwrap();
                earlier.close().await.unwrap();
            }
            Options::Sqlite(options) => {
                let mut earlier = options.connect().await.unwrap();
                migrations::up_to(last).run(&mut earlier).await.unwrap();
                write::to_sqlite(&mut earlier, &rows).await.unwrap();
                earlier.close().await.unwrap();
            }
        }
    }
    /// A row that this database refuses.
    pub async fn guilty(&self) -> Row {
        match &self.target {
            Target::Postgres(_) => Row::PutBinding(
                Binding { contact: "sip:a\0b@host".into(), ..binding("guilty", "1", 0) }.into(),
            ),
            Target::Sqlite(path) => {
                let mut other = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
                let trigger = "CREATE TRIGGER refuse BEFORE INSERT ON binding WHEN NEW.contact = 'sip:guilty' \
                               BEGIN SELECT RAISE(ABORT, 'refused'); END";
                raw_sql(trigger).execute(&mut other).await.unwrap();
                other.close().await.unwrap();
                Row::PutBinding(Binding { contact: "sip:guilty".into(), ..binding("guilty", "1", 0) }.into())
            }
        }
    }
}

async fn admin_does(url: &str, sql: String) {
    let mut admin = PgConnectOptions::from_str(url).unwrap().connect().await.unwrap();
    raw_sql(AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
    admin.close().await.unwrap();
}

pub(super) fn aor(user: &str) -> Aor {
    Aor::new(user, "example.org").unwrap()
}

pub(super) fn flow() -> Flow {
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
        contact: format!("sip:{key}@192.0.2.1;transport=tcp").into(),
        params: ";+sip.ice;methods=\"INVITE, MESSAGE\"".into(),
        q: 700,
        instance: Some("urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF".into()),
        reg_id: Some(u32::MAX),
        path: ["<sip:p1;lr>".into(), "<sip:\"ü\"@p2;lr>".into()].into(),
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

pub(super) fn publication(user: &str, id: u128) -> Publication {
    Publication {
        aor: aor(user),
        id: PublicationId(id),
        package: Package::Presence,
        tag: EntityTag(u128::MAX - id),
        publisher: Publisher {
            call_id: "c".into(),
            source: "udp:192.0.2.7:5062".into(),
            instance: Some("urn:uuid:1".into()),
        },
        content_type: "application/pidf+xml".into(),
        parsed: Default::default(),
        turns: [Timestamp(2), Timestamp(i64::MAX)].into(),
        is_restamped: true,
        renamed: crate::model::Renamed::of(1 << 62 | 5),
        body: bytes::Bytes::from_static(b"<presence>\0\xff</presence>"),
        created_at: Timestamp(1),
        modified_at: Timestamp(2),
        expires_at: Timestamp(3),
    }
}

pub(super) fn subscription(presentity: &str, watcher: &str, id: u128) -> Subscription {
    Subscription {
        id: SubscriptionId(id),
        presentity: aor(presentity),
        watcher: aor(watcher),
        package: Package::Presence,
        event_id: None,
        dialog: DialogTexts::new(DialogParts {
            call_id: "c",
            local_tag: "l",
            remote_tag: "r",
            local_address: "\"Bob\" <sip:bob@example.org>",
            remote_address: "<sip:alice@example.org>",
            remote_target: "sip:alice@192.0.2.1:5060",
        }),
        route_set: ["<sip:p1;lr>".into()].into(),
        flow: Flow { transport: Transport::Udp, connection: 0, ..flow() },
        accept: Text::default(),
        remote_cseq: 7,
        notify_cseq_reserved: 128,
        created_at: Timestamp(1),
        expires_at: Timestamp(2),
    }
}

pub(super) fn waiting(presentity: &str, watcher: &str) -> WaitingWatcher {
    WaitingWatcher {
        presentity: aor(presentity),
        watcher: aor(watcher),
        id: SubscriptionId(u128::MAX - 3),
        subscribed_at: Timestamp(1),
        ended_at: Timestamp(2),
        gives_up_at: Timestamp(i64::MAX),
    }
}

pub(super) fn document(user: &str, name: &str) -> Document {
    Document {
        owner: aor(user),
        name: DocumentName::new(Auid::PresRules, name),
        tag: EntityTag(u128::MAX - 7),
        content_type: "application/auth-policy+xml".into(),
        body: bytes::Bytes::from_static(b"<ruleset/>\0\xff"),
        modified_at: Timestamp(9),
        said: Said::default(),
    }
}

pub(super) fn message(recipient: &str, id: u128, taken_at: i64) -> StoredMessage {
    let head = bytes::Bytes::from_static(b"From: <sip:b@example.org>\r\nSubject: \xc3\xbc\r\n");
    let body = bytes::Bytes::from_static(b"\0\xff\r\n\r\nbody");
    StoredMessage {
        recipient: aor(recipient),
        waiting: Waiting {
            id: MessageId(id),
            taken_at: Timestamp(taken_at),
            expires_at: Timestamp(i64::MAX),
            size: 1 << 20,
            is_notification: id % 2 == 1,
        },
        content: Some(Content { sender: aor("b"), call_id: "c@d".into(), head, body }),
    }
}

/// The same as it is loaded: without its content.
pub(super) fn loaded(message: &StoredMessage) -> Row {
    Row::PutMessage(StoredMessage { content: None, ..message.clone() }.into())
}

pub(super) fn account(user: &str, password: &str) -> Account {
    Account {
        aor: aor(user),
        realm: "example.org".into(),
        ha1: Ha1Set::derive(user, "example.org", password),
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
    // The tables come side by side.
    rows.sort_by_key(|row| match row {
        Row::PutBinding(_) | Row::RefreshBinding(_) | Row::DropBinding(..) => 0,
        Row::PutPublication(_) | Row::DropPublication(..) => 1,
        Row::PutSubscription(_) | Row::DropSubscription(..) => 2,
        Row::PutDocument(_) | Row::DropDocument(..) => 3,
        Row::PutMessage(_) | Row::DropMessage(..) => 4,
        Row::PutWaiting(_) | Row::DropWaiting(..) => 5,
    });
    rows
}

//! Fills the database before the server starts: in the database itself, a few statements for a million rows.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use hither::model::Redacted;
use hither::store::{Store, Target};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection, raw_sql};

use crate::database::{DOMAIN, Database};

/// The password's hash is the same for everybody: the server compares hashes and never sees a password.
pub const HA1: &str = "0123456789abcdef0123456789abcdef";
/// As a phone says it.
pub const USER_AGENT: &str = "Linphone-Desktop/5.2.4 (desk) ubuntu/22.04 Qt/5.15.2 LinphoneSDK/5.3.47";

/// What the database is to hold.
#[derive(Debug, Clone, Copy)]
pub struct Seed {
    /// Accounts, and bindings.
    pub size: u32,
    /// Subscriptions, over all presentities in turns.
    pub subscriptions: u32,
    /// Where all devices are.
    pub phones: SocketAddr,
    /// Where the server will listen.
    pub port: u16,
}

impl Seed {
    /// The schema, as the server makes it.
    pub fn prepare(&self, database: &Database) {
        let target = match database.address().strip_prefix("sqlite:") {
            Some(file) => Target::Sqlite(file.into()),
            None => Target::Postgres(Redacted(database.address())),
        };
        block_on(async { Store::open(&target).await.expect("the database opens").close().await });
    }

    /// One account per user.
    pub fn accounts(&self, database: &Database) {
        let name = name(database, "i");
        let long = format!("{HA1}{HA1}");
        run(
            database,
            &format!(
                "INSERT INTO account (aor, realm, ha1_md5, ha1_md5_at, ha1_sha256, ha1_sha256_at, created_at) \
                 SELECT {name} || '@{DOMAIN}', '{DOMAIN}', '{HA1}', '{HA1}', '{long}', '{long}', 0 FROM {}",
                series(database, self.size)
            ),
        );
    }

    /// One binding per user.
    pub fn bindings(&self, database: &Database) {
        let (name, now) = (name(database, "i"), now());
        let contact = format!("'sip:' || {name} || '@{}'", self.phones);
        let instance = format!("'urn:uuid:00000000-0000-4000-8000-0000' || {name}");
        run(
            database,
            &format!(
                "INSERT INTO binding SELECT {name} || '@{DOMAIN}', {contact}, {contact}, \
                 ';+sip.instance=\"<' || {instance} || '>\"', 1000, {instance}, NULL, '[]', 'hTg7~Qx2pL-' || {name}, 1, \
                 1, '127.0.0.1:{}', '{}', 0, 1, '{USER_AGENT}', {now}, {now}, {} FROM {}",
                self.port,
                self.phones,
                now + HOURS,
                series(database, self.size)
            ),
        );
    }

    /// Every presentity has as many watchers as every other.
    pub fn subscriptions(&self, database: &Database) {
        let size = self.size;
        let evenly = (format!("(i % {size})"), format!("((i * 7 + 1) % {size})"));
        self.watch(database, "s", evenly, self.subscriptions);
    }

    /// The first user is watched by so many others.
    pub fn crowd(&self, database: &Database, watchers: u32) {
        self.watch(database, "c", ("0".into(), format!("(i % {})", self.size)), watchers);
    }

    /// Subscriptions; of whose presence, and who watches, as SQL.
    fn watch(
        &self,
        database: &Database,
        prefix: &str,
        (presentity, watcher): (String, String),
        subscriptions: u32,
    ) {
        let now = now();
        let (presentity, watcher) = (name(database, &presentity), name(database, &watcher));
        let id = match is_sqlite(database) {
            true => "randomblob(16)".to_owned(),
            false => format!("decode(md5('{prefix}' || i), 'hex')"),
        };
        run(
            database,
            &format!(
                "INSERT INTO subscription (id, presentity, watcher, package, event_id, call_id, local_tag, remote_tag, \
                 local_address, remote_address, remote_target, route_set, flow_transport, flow_local, flow_remote, \
                 flow_connection, accept, remote_cseq, notify_cseq_reserved, created_at, expires_at) \
                 SELECT {id}, {presentity} || '@{DOMAIN}', {watcher} || '@{DOMAIN}', 1, NULL, \
                 'Zk9-4fQw2~{prefix}' || i, 'a1b2c3d4e5' || i, 'f6g7h8' || i, '<sip:' || {presentity} || '@{DOMAIN}>', \
                 '<sip:' || {watcher} || '@{DOMAIN}>', 'sip:' || {watcher} || '@{}', '[]', 1, '127.0.0.1:{}', '{}', 0, \
                 'application/pidf+xml', 1, 64, {}, {} FROM {}",
                self.phones,
                self.port,
                self.phones,
                now - 60_000,
                now + HOURS,
                series(database, subscriptions)
            ),
        );
    }
}

/// The name of a user, as SQL.
fn name(database: &Database, number: &str) -> String {
    match is_sqlite(database) {
        true => format!("printf('u%07d', {number})"),
        false => format!("('u' || lpad(({number})::text, 7, '0'))"),
    }
}

/// The name of a user.
pub fn name_of(number: u32) -> String {
    format!("u{number:07}")
}

fn series(database: &Database, size: u32) -> String {
    match is_sqlite(database) {
        true => format!(
            "(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {size} - 1) SELECT i FROM n WHERE i < {size})"
        ),
        false => format!("generate_series(0::bigint, {size} - 1) AS s(i)"),
    }
}

fn is_sqlite(database: &Database) -> bool {
    matches!(database, Database::File(_))
}

fn run(database: &Database, sql: &str) {
    let address = database.address();
    let sql = AssertSqlSafe(sql.to_owned());
    block_on(async {
        if is_sqlite(database) {
            let mut connection = SqliteConnection::connect(&address).await.expect("connected");
            raw_sql("PRAGMA synchronous = OFF").execute(&mut connection).await.expect("set");
            raw_sql(sql).execute(&mut connection).await.expect("inserted");
            raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await.expect("written");
            connection.close().await.expect("closed");
        } else {
            let mut connection = PgConnection::connect(&address).await.expect("connected");
            raw_sql(sql).execute(&mut connection).await.expect("inserted");
            // As a database that has been in use for a while.
            raw_sql("VACUUM ANALYZE").execute(&mut connection).await.expect("analysed");
            raw_sql("CHECKPOINT").execute(&mut connection).await.expect("written");
            connection.close().await.expect("closed");
        }
    });
}

/// Runs something that waits.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(0)
}

/// Milliseconds until everything ends.
const HOURS: i64 = 3 * 3_600_000;

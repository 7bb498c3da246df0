//! The server under test: its configuration, its process, its command line.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use sqlx::Connection;

use super::ladder::Ladder;
use super::socket::Transport;
use super::{DOMAIN, postgres};

/// The users that every server starts with.
pub const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];

/// Their passwords.
pub fn password_of(user: &str) -> String {
    format!("{user}'s secret")
}

/// Where a server keeps what must last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Database {
    Sqlite,
    Postgres,
}

/// A configuration being written: dotted keys, TOML values.
pub struct Config(toml::Table);

impl Config {
    fn new(database: &str, dir: &Path) -> Config {
        let mut config = Config(toml::Table::new());
        config.set("domain", DOMAIN);
        config.set("database", database);
        config.set("control_socket", dir.join("control.sock").display().to_string());
        let mut listen = vec!["udp:127.0.0.1:0", "tcp:127.0.0.1:0"];
        if std::net::UdpSocket::bind("[::1]:0").is_ok() {
            listen.extend(["udp:[::1]:0", "tcp:[::1]:0"]);
        }
        config.set("listen", listen);
        config.set("log.filter", "hither=debug,info");
        if let Some(way) = std::env::var_os("HITHER_TEST_FAST_PATH") {
            config.set("server.fast_path", way != "off");
        }
        config
    }

    /// Sets `section.key`.
    pub fn set(&mut self, key: &str, value: impl Into<toml::Value>) {
        let mut parts: Vec<&str> = key.split('.').collect();
        let last = parts.pop().unwrap_or_default();
        let mut table = &mut self.0;
        for part in parts {
            table = table
                .entry(part)
                .or_insert_with(|| toml::Table::new().into())
                .as_table_mut()
                .expect("a section");
        }
        table.insert(last.into(), value.into());
    }
}

/// A running server (or one that was killed), with its directory, database and log.
pub struct Server {
    pub ladder: Ladder,
    pub dir: tempfile::TempDir,
    /// Variables that it is started with the next time.
    pub environment: Vec<(String, String)>,
    config: Config,
    child: Option<Child>,
    addresses: HashMap<Transport, SocketAddr>,
    http: Option<SocketAddr>,
    log: Arc<Mutex<String>>,
    /// Name of the Postgres database to drop at the end.
    created: Option<String>,
}

impl Server {
    /// With the default configuration.
    pub fn start(database: Database) -> Server {
        Server::with(database, |_| {})
    }

    /// With changes to the default configuration.
    pub fn with(database: Database, change: impl FnOnce(&mut Config)) -> Server {
        let dir = tempfile::tempdir().expect("a directory");
        match database {
            Database::Sqlite => {
                let file = dir.path().join("hither.sqlite");
                copy_sqlite_template(&file);
                Server::launch(dir, &format!("sqlite:{}", file.display()), None, change)
            }
            Database::Postgres => {
                let name = postgres::copy_of(postgres_template());
                let url = postgres::shared().url(&name);
                Server::launch(dir, &url, Some(name), change)
            }
        }
    }

    /// On a database given by URL, with the users made by the command line first.
    pub fn on(url: &str, change: impl FnOnce(&mut Config)) -> Server {
        let dir = tempfile::tempdir().expect("a directory");
        add_users(url);
        Server::launch(dir, url, None, change)
    }

    fn launch(
        dir: tempfile::TempDir,
        url: &str,
        created: Option<String>,
        change: impl FnOnce(&mut Config),
    ) -> Server {
        let mut config = Config::new(url, dir.path());
        change(&mut config);
        let mut server = Server {
            ladder: Ladder::new(),
            dir,
            environment: Vec::new(),
            config,
            child: None,
            addresses: HashMap::new(),
            http: None,
            log: Arc::default(),
            created,
        };
        server.spawn();
        server
    }

    pub fn config_path(&self) -> PathBuf {
        self.dir.path().join("hither.toml")
    }

    pub fn address(&self, transport: Transport) -> SocketAddr {
        *self.addresses.get(&transport).unwrap_or_else(|| panic!("no {transport:?} listener"))
    }

    /// Where HTTP is spoken.
    pub fn http(&self) -> SocketAddr {
        self.http.expect("an HTTP listener")
    }

    /// Everything the server wrote to stderr so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Resident memory, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let pid = self.child.as_ref().expect("a running server").id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
        let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
    }

    /// Processor time used so far, of all its threads.
    pub fn cpu(&self) -> Duration {
        let pid = self.child.as_ref().expect("a running server").id();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
        // After the name, which may hold spaces: utime and stime are the 14th and 15th field (proc(5)), in hundredths of a second.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
        let ticks: u64 = fields.take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10)
    }

    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// `kill -9`, no farewell.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill");
            child.wait().expect("wait");
            self.ladder.note("server", "**", "killed");
        }
    }

    /// Starts again on the same ports and the same database.
    pub fn restart(&mut self) {
        self.kill9();
        self.spawn();
    }

    /// SIGTERM; gives the exit code.
    ///
    /// # Panics
    /// If the process does not end in 15 seconds.
    pub fn stop(&mut self) -> i32 {
        self.terminate();
        self.wait_for_exit()
    }

    /// SIGTERM, without waiting.
    pub fn terminate(&self) {
        let pid = self.child.as_ref().expect("a running server").id().to_string();
        let done = Command::new("kill").args(["-TERM", &pid]).status().expect("kill");
        assert!(done.success());
        self.ladder.note("server", "**", "SIGTERM");
    }

    pub fn wait_for_exit(&mut self) -> i32 {
        let mut child = self.child.take().expect("a running server");
        // The log ends when the process does: that is the wait, and its thread is the deadline's.
        let (done, ended) = sync_channel(1);
        let pid = child.id();
        let waiter = std::thread::spawn(move || {
            let status = child.wait();
            let _ = done.send(());
            status
        });
        if ended.recv_timeout(Duration::from_secs(15)).is_err() {
            drop(Command::new("kill").args(["-9", &pid.to_string()]).status());
            panic!("the server did not end after SIGTERM");
        }
        waiter.join().expect("waiter").expect("status").code().unwrap_or(-1)
    }

    /// How many rows a table of its database has, whether or not it runs.
    pub fn rows(&self, table: &str) -> i64 {
        let url = self.config.0["database"].as_str().expect("a database").to_string();
        let count = sqlx::AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let counted = runtime.block_on(async {
            if url.starts_with("sqlite:") {
                let mut connection = sqlx::SqliteConnection::connect(&url).await?;
                sqlx::query_scalar(count).fetch_one(&mut connection).await
            } else {
                let mut connection = sqlx::PgConnection::connect(&url).await?;
                sqlx::query_scalar(count).fetch_one(&mut connection).await
            }
        });
        counted.unwrap_or_else(|error| panic!("{table}: {error}"))
    }

    /// Runs the binary with `--config` of this server.
    pub fn cli(&self, arguments: &[&str], input: &str) -> Output {
        cli(&self.config_path(), arguments, input)
    }

    pub fn add_user(&self, user: &str) {
        let output = self.cli(&["user", "add", user, "--password-stdin"], &password_of(user));
        assert!(output.status.success(), "{output:?}");
    }

    fn spawn(&mut self) {
        std::fs::write(self.config_path(), toml::to_string(&self.config.0).expect("toml")).expect("write");
        let mut child = Command::new(env!("CARGO_BIN_EXE_hither"))
            .arg("--config")
            .arg(self.config_path())
            .env_remove("RUST_LOG")
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start hither");
        let stdout = child.stdout.take().expect("stdout");
        let mut stderr = child.stderr.take().expect("stderr");
        self.child = Some(child);
        let log = self.log.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(length @ 1..) = stderr.read(&mut buffer) {
                log.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        });
        let (lines, said) = sync_channel(64);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                drop(lines.try_send(line));
            }
        });
        self.read_until_ready(&said);
        self.ladder.note("server", "**", "ready");
    }

    fn read_until_ready(&mut self, said: &Receiver<String>) {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut listen = Vec::new();
        loop {
            let line = said
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
                .unwrap_or_else(|_| panic!("the server did not become ready"));
            if line == "ready" {
                break;
            }
            if let Some(spec) = line.strip_prefix("listening ") {
                let (protocol, address) = spec.split_once(':').expect("protocol:address");
                let address: SocketAddr = address.parse().expect("an address");
                if protocol.starts_with("http") {
                    self.http = Some(address);
                    self.config.set("http.listen", address.to_string());
                    continue;
                }
                let transport = match (protocol, address.is_ipv6()) {
                    ("udp", false) => Transport::Udp,
                    ("udp", true) => Transport::Udp6,
                    ("tcp", false) => Transport::Tcp,
                    ("tcp", true) => Transport::Tcp6,
                    other => panic!("unknown listener {other:?}"),
                };
                self.addresses.insert(transport, address);
                listen.push(spec.to_string());
            }
        }
        // From now on with these very ports, so that a restart comes back where its phones look for it.
        self.config.set("listen", listen);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.ladder.print();
            eprintln!("--- log of the server ---\n{}", self.log());
        }
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
        if let Some(name) = &self.created {
            postgres::drop_database(name);
        }
    }
}

/// Runs the binary once.
pub fn cli(config: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_hither"))
        .arg("--config")
        .arg(config)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start hither");
    let mut stdin = child.stdin.take().expect("stdin");
    // A command that needs no input may have closed it already.
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    child.wait_with_output().expect("output")
}

fn add_users(url: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("hither.toml");
    let config = Config::new(url, dir.path());
    std::fs::write(&path, toml::to_string(&config.0).expect("toml")).expect("write");
    for user in USERS {
        let output = cli(&path, &["user", "add", user, "--password-stdin"], &password_of(user));
        assert!(output.status.success(), "user add {user}: {output:?}");
    }
}

/// A database file with the users in it, made once per process.
fn copy_sqlite_template(to: &Path) {
    static TEMPLATE: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    let files = TEMPLATE.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a directory");
        add_users(&format!("sqlite:{}", dir.path().join("hither.sqlite").display()));
        let mut files = Vec::new();
        // With its write-ahead log, should it have one left.
        for suffix in ["", "-wal"] {
            if let Ok(bytes) = std::fs::read(dir.path().join(format!("hither.sqlite{suffix}"))) {
                files.push((suffix.to_string(), bytes));
            }
        }
        files
    });
    for (suffix, bytes) in files {
        std::fs::write(format!("{}{suffix}", to.display()), bytes).expect("copy");
    }
}

/// The same as a Postgres database; gives its name.
fn postgres_template() -> &'static str {
    static TEMPLATE: OnceLock<String> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let name = postgres::create();
        add_users(&postgres::shared().url(&name));
        name
    })
}

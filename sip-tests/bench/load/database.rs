//! The database below the server: a file, a Postgres of its own, or one that is there.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use hither::model::{Account, Aor, Ha1Set, Redacted, Timestamp};
use hither::store::{Store, Target};

use crate::process::Cpu;

/// A database for one server.
pub enum Database {
    /// None: everything is in the server's memory.
    Memory,
    /// An SQLite file.
    File(tempfile::TempDir),
    /// A Postgres server that is thrown away.
    Own(Postgres),
    /// Somebody else's.
    Other(String),
}

impl Database {
    /// From the command line.
    pub fn start(which: &str) -> Database {
        match which {
            "sqlite" => Database::File(tempfile::tempdir().expect("a temporary directory")),
            "postgres" => Database::Own(Postgres::start()),
            url => Database::Other(url.into()),
        }
    }

    /// For Kamailio: bindings in memory, or written through to a Postgres of its own, which gets Kamailio's tables.
    pub fn start_for_kamailio(which: &str, tables: &[&str]) -> Database {
        if which != "postgres" {
            return Database::Memory;
        }
        let postgres = Postgres::start();
        for file in tables {
            postgres.run_script(file);
        }
        Database::Own(postgres)
    }

    /// As the configuration names it.
    pub fn address(&self) -> String {
        match self {
            Database::Memory => String::new(),
            Database::File(dir) => format!("sqlite:{}", dir.path().join("hither.sqlite").display()),
            Database::Own(postgres) => postgres.url(),
            Database::Other(url) => url.clone(),
        }
    }

    /// For the head of the table.
    pub fn kind(&self) -> &'static str {
        match self {
            Database::Memory => "memory",
            Database::File(_) => "SQLite",
            Database::Own(_) => "Postgres of its own",
            Database::Other(_) => "Postgres elsewhere",
        }
    }

    /// Processor time of the database's own processes, if they can be known.
    pub fn cpu(&self) -> Option<Cpu> {
        match self {
            Database::Own(postgres) => postgres.cpu(),
            Database::Memory | Database::File(_) | Database::Other(_) => None,
        }
    }

    /// Makes the accounts `u0..` and `n0..` before the server starts.
    pub fn put_accounts(&self, users: u32, fresh: u32) {
        let target = match self.address().strip_prefix("sqlite:") {
            Some(file) => Target::Sqlite(file.into()),
            None => Target::Postgres(Redacted(self.address())),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let store = Store::open(&target).await.expect("the database opens");
            let names = (0..users).map(|n| format!("u{n}")).chain((0..fresh).map(|n| format!("n{n}")));
            for user in names {
                let aor = Aor::new(&user, DOMAIN).expect("a name");
                let ha1 = Ha1Set::derive(&user, DOMAIN, PASSWORD);
                let account = Account { aor, realm: DOMAIN.into(), ha1, created_at: Timestamp(0) };
                store.put_account(&account).await.expect("an account is put");
            }
            store.close().await;
        });
    }
}

/// A Postgres server with its usual durability, on a free port of the loopback interface. A small shell that waits for the end of its own
/// input stops and removes it, however this process ends.
pub struct Postgres {
    dir: String,
    port: u16,
    watchdog: Child,
}

impl Postgres {
    /// Are its programs here?
    pub fn is_installed() -> bool {
        programs().is_some()
    }

    fn start() -> Postgres {
        assert!(Postgres::is_installed(), "initdb and pg_ctl are needed");
        let programs = programs().expect("just found");
        let made = unprivileged("mktemp").args(["-d", "/tmp/hither-load.XXXXXX"]).output().expect("mktemp");
        let dir = String::from_utf8(made.stdout).expect("a path").trim().to_owned();
        let watchdog = unprivileged("sh")
            .args([
                "-c",
                "read _; \"$1/pg_ctl\" stop -s -m immediate -D \"$2/data\"; rm -rf \"$2\"",
                "watchdog",
            ])
            .args([&*programs.to_string_lossy(), &*dir])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("a port").port();
        let (data, log) = (format!("{dir}/data"), format!("{dir}/log"));
        let postgres = Postgres { dir, port, watchdog };
        let run = |name: &str, arguments: &[&str]| {
            let mut command = unprivileged(programs.join(name));
            command.args(arguments).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
            assert!(command.status().expect("it runs").success(), "{name} failed; see {log}");
        };
        run("initdb", &["-N", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-D", &data]);
        let options = format!("-p {port} -c listen_addresses=127.0.0.1 -k '{}'", postgres.dir);
        run("pg_ctl", &["start", "-s", "-w", "-D", &data, "-l", &log, "-o", &options]);
        postgres
    }

    fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    fn run_script(&self, file: &str) {
        let psql = programs().expect("initdb and pg_ctl are installed").join("psql");
        let mut command = Command::new(psql);
        command.args(["-q", "-X", "-v", "ON_ERROR_STOP=1", "-f", file, &self.url()]);
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status().expect("psql runs");
        assert!(status.success(), "psql could not run {file}");
    }

    /// The first process and all that it started.
    fn cpu(&self) -> Option<Cpu> {
        let file = std::fs::read_to_string(format!("{}/data/postmaster.pid", self.dir)).ok()?;
        Cpu::of_family(file.lines().next()?.trim().parse().ok()?)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
    }
}

/// Where initdb and pg_ctl are.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut places: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    places.sort();
    places.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    places.into_iter().find(|place| ["initdb", "pg_ctl"].iter().all(|name| place.join(name).is_file()))
}

/// Postgres does not run as root: then as the user `postgres`.
fn unprivileged(program: impl AsRef<Path>) -> Command {
    let id = Command::new("id").arg("-u").output().expect("id");
    if id.stdout.trim_ascii() != b"0" {
        return Command::new(program.as_ref());
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(program.as_ref());
    command
}

/// The domain of the server.
pub const DOMAIN: &str = "example.org";
/// Everybody's password.
pub const PASSWORD: &str = "load";

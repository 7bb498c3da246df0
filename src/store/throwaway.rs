//! A Postgres server for tests: made, used, thrown away. It listens on a free port of the loopback interface and keeps
//! nothing. However the test process ends, a small shell that waits for the end of its own input stops the server.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// A running server; stopped and removed when dropped.
pub(super) struct Server {
    programs: PathBuf,
    dir: String,
    port: u16,
    watchdog: Child,
}

impl Server {
    /// A new server, or `None` if no Postgres is installed.
    pub fn start() -> Option<Server> {
        let programs = programs()?;
        let made = unprivileged("mktemp").args(["-d", "/tmp/hither-postgres.XXXXXX"]).output().ok()?;
        let dir = String::from_utf8(made.stdout).ok()?.trim().to_owned();
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
        let mut server = Server { programs, dir, port: 0, watchdog };
        let data = format!("{}/data", server.dir);
        let mut initdb = server.program("initdb");
        initdb.args(["-N", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-D"]).arg(&data);
        assert!(initdb.status().expect("initdb").success(), "initdb failed");
        // Another process may take the port between the question and the start.
        for _ in 0..5 {
            server.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if server.up() {
                return Some(server);
            }
        }
        panic!("Postgres does not start; see {}/log", server.dir);
    }

    /// Starts it (again) on its port.
    pub fn up(&mut self) -> bool {
        let options =
            format!("-p {} -c listen_addresses=127.0.0.1 -c fsync=off -k '{}'", self.port, self.dir);
        let (data, log) = (format!("{}/data", self.dir), format!("{}/log", self.dir));
        let start = &mut self.program("pg_ctl");
        start.args(["start", "-s", "-w", "-D", &data, "-l", &log, "-o", &options]);
        start.status().expect("pg_ctl").success()
    }

    /// Kills it, as a crash would.
    pub fn down(&mut self) {
        let data = format!("{}/data", self.dir);
        let stop = &mut self.program("pg_ctl");
        stop.args(["stop", "-s", "-w", "-m", "immediate", "-D", &data]);
        assert!(stop.status().expect("pg_ctl").success());
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The address of its first database.
    pub fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.address())
    }

    fn program(&self, name: &str) -> Command {
        let mut command = unprivileged(self.programs.join(name));
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
    }
}

/// The address of a server where databases may be made: the one named by `HITHER_TEST_POSTGRES`, else one for this
/// process. `None` if there is neither.
pub(super) fn shared() -> Option<&'static str> {
    static URL: OnceLock<Option<(String, Option<Server>)>> = OnceLock::new();
    let shared = URL.get_or_init(|| match std::env::var("HITHER_TEST_POSTGRES") {
        Ok(url) if !url.is_empty() => Some((url, None)),
        _ => Server::start().map(|server| (server.url(), Some(server))),
    });
    if shared.is_none() {
        eprintln!("SKIPPED: no Postgres (set HITHER_TEST_POSTGRES, or install a server with initdb)");
    }
    shared.as_ref().map(|(url, _)| url.as_str())
}

/// Where initdb and pg_ctl are.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut places: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    places.sort();
    places.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let whole = |place: &PathBuf| ["initdb", "pg_ctl"].iter().all(|name| place.join(name).is_file());
    places.into_iter().find(whole)
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

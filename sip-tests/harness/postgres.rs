//! Postgres for the tests: `HITHER_TEST_POSTGRES` names a server where databases may be made, or a throw-away
//! server is started for this process and ends with it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::Connection as _;

/// A server in which databases may be made.
pub struct Postgres {
    /// URL without a database name.
    base: String,
    own: Option<Own>,
}

/// What is ours about a throw-away server.
struct Own {
    programs: PathBuf,
    data: PathBuf,
    port: u16,
    /// Stops the server and removes its files when its standard input closes: with us, however we end.
    _watchdog: Child,
}

impl Postgres {
    /// Starts a throw-away server, or gives `None` where no Postgres is installed.
    pub fn throw_away() -> Option<Postgres> {
        let programs = find_programs()?;
        let dir = capture(as_postgres("mktemp").args(["-d", "/tmp/hither-postgres.XXXXXX"]))?;
        let data = PathBuf::from(dir.trim()).join("data");
        let made = as_postgres(programs.join("initdb"))
            .arg("-D")
            .arg(&data)
            .args(["-U", "hither", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status();
        assert!(made.is_ok_and(|status| status.success()), "initdb");
        let watchdog = Command::new("sh")
            .arg("-c")
            .arg(format!(
                "read -r _; {}'{}' -D '{}' -m immediate stop; rm -rf '{}'",
                if is_root() { "runuser -u postgres -- " } else { "" },
                programs.join("pg_ctl").display(),
                data.display(),
                dir.trim()
            ))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let server = Postgres {
            base: format!("postgres://hither@127.0.0.1:{port}"),
            own: Some(Own { programs, data, port, _watchdog: watchdog }),
        };
        server.start();
        Some(server)
    }

    /// Starts a throw-away server (again); returns when it answers.
    pub fn start(&self) {
        let own = self.own.as_ref().expect("a throw-away server");
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c max_connections=400 -c fsync=off",
            own.port,
            own.data.display()
        );
        let started = own.ctl(
            &["-w", "-t", "60", "-l"],
            &[&own.data.join("log").display().to_string(), "-o", &options, "start"],
        );
        assert!(started, "pg_ctl start");
    }

    /// Stops a throw-away server as a crash would.
    pub fn stop(&self) {
        let own = self.own.as_ref().expect("a throw-away server");
        assert!(own.ctl(&["-w", "-m", "immediate"], &["stop"]), "pg_ctl stop");
    }

    /// Makes an empty database; gives its URL.
    pub fn new_database(&self) -> String {
        let name = fresh_name();
        self.execute(&format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    pub fn url(&self, database: &str) -> String {
        format!("{}/{database}", self.base)
    }

    /// Runs one statement on the maintenance database.
    fn execute(&self, statement: &str) {
        self.try_execute(statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    fn try_execute(&self, statement: &str) -> Result<(), sqlx::Error> {
        let url = self.url("postgres");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut connection = sqlx::PgConnection::connect(&url).await?;
            sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_string())).execute(&mut connection).await?;
            connection.close().await
        })
    }
}

impl Own {
    fn ctl(&self, before: &[&str], after: &[&str]) -> bool {
        as_postgres(self.programs.join("pg_ctl"))
            .arg("-D")
            .arg(&self.data)
            .args(before)
            .args(after)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }
}

/// Whether the Postgres variant of a test can run; where it must (`CI=true`), a missing server is a failure.
pub fn required_or_present() -> bool {
    let present = find_shared().is_some();
    if !present {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "no Postgres, and CI=true");
        println!("SKIPPED: no Postgres installed and HITHER_TEST_POSTGRES not set");
    }
    present
}

/// The server all tests share.
pub fn shared() -> &'static Postgres {
    find_shared().expect("a Postgres server")
}

/// Makes an empty database in the shared server; gives its name.
pub fn create() -> String {
    let name = fresh_name();
    shared().execute(&format!("CREATE DATABASE {name}"));
    name
}

/// Makes a copy of a database nobody is connected to; gives its name.
pub fn copy_of(template: &str) -> String {
    let name = fresh_name();
    shared().execute(&format!("CREATE DATABASE {name} TEMPLATE {template}"));
    name
}

/// Removes a database that `create` or `copy_of` made.
pub fn drop_database(name: &str) {
    assert!(name.starts_with(&our_prefix()), "not ours to drop: {name}");
    // A database left behind fails no test.
    drop(shared().try_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")));
}

fn find_shared() -> Option<&'static Postgres> {
    static SHARED: OnceLock<Option<Postgres>> = OnceLock::new();
    SHARED
        .get_or_init(|| match std::env::var("HITHER_TEST_POSTGRES") {
            Ok(url) => Some(Postgres { base: without_database(&url), own: None }),
            Err(_) => Postgres::throw_away(),
        })
        .as_ref()
}

fn without_database(url: &str) -> String {
    let start = url.find("://").map_or(0, |at| at + 3);
    match url[start..].find('/') {
        Some(slash) => url[..start + slash].to_string(),
        None => url.to_string(),
    }
}

fn our_prefix() -> String {
    format!("hither_test_{}_", std::process::id())
}

fn fresh_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{}{}", our_prefix(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn find_programs() -> Option<PathBuf> {
    let mut candidates: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|version| version.path().join("bin")).collect())
        .unwrap_or_default();
    candidates.sort();
    candidates.reverse();
    if let Some(path) = std::env::var_os("PATH") {
        candidates.extend(std::env::split_paths(&path));
    }
    candidates.into_iter().find(|dir| dir.join("initdb").exists() && dir.join("pg_ctl").exists())
}

/// A command under an account that Postgres agrees to run as.
fn as_postgres(program: impl AsRef<Path>) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program.as_ref());
        command
    } else {
        Command::new(program.as_ref())
    };
    command.current_dir("/");
    command
}

fn is_root() -> bool {
    capture(Command::new("id").arg("-u")).is_some_and(|id| id.trim() == "0")
}

fn capture(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::Postgres;

    #[test]
    fn a_throw_away_server_comes_and_goes() {
        let Some(server) = Postgres::throw_away() else { return };
        server.new_database();
        server.stop();
        assert!(server.try_execute("SELECT 1").is_err());
        server.start();
        server.new_database();
    }
}

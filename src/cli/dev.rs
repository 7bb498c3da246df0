//! `hither --dev`: a complete server to try out, with two accounts and the words to type into two softphones.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, Socket, Type};

use crate::api::users;
use crate::cli::password;
use crate::config::Config;
use crate::model::{Account, Redacted, Timestamp, Transport};
use crate::store::Store;

/// Why `--dev` does not start.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Somebody has the port.
    #[error(
        "port {} ({}) is taken by another program.\n  choose another one:   hither --dev --port {}",
        .0.port(), .1.param(), if .0.port() == DEFAULT_PORT { 5070 } else { DEFAULT_PORT }
    )]
    PortTaken(SocketAddr, Transport),
    /// Directory or accounts file.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The accounts file was changed into something else.
    #[error("{} must hold lines of name and password; delete it to get new ones", .0.display())]
    Accounts(PathBuf),
    /// No passwords.
    #[error("the system gives no random bytes")]
    NoRandomness,
}

/// What the server is given beside its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dev {
    /// Where the files are.
    pub dir: PathBuf,
    /// As in the configuration.
    pub domain: String,
    /// Names and passwords, the same at every start.
    pub accounts: Vec<DevAccount>,
}

/// One account of `accounts.txt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevAccount {
    /// `alice`
    pub user: String,
    /// Ten letters.
    pub password: Redacted<String>,
}

impl Dev {
    /// Makes `dir` and its accounts file (both for the owner only) if they are not there, reads the accounts, and looks whether
    /// the listeners' ports are free.
    ///
    /// # Errors
    /// [`Fault`]
    pub fn prepare(dir: &Path, config: &Config) -> Result<Dev, Fault> {
        let file = |path: &Path| {
            let path = path.to_owned();
            move |source| Fault::File { path, source }
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(file(dir))?;
        for listen in &config.listen {
            probe(listen.transport, listen.bind)?;
        }
        let path = dir.join("accounts.txt");
        let accounts = match std::fs::read_to_string(&path) {
            Ok(text) => read(&text).ok_or_else(|| Fault::Accounts(path.clone()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let accounts = fresh().ok_or(Fault::NoRandomness)?;
                let mut options = std::fs::OpenOptions::new();
                let made = options.write(true).create_new(true).mode(0o600).open(&path);
                made.and_then(|mut made| made.write_all(written(&accounts).as_bytes()))
                    .map_err(file(&path))?;
                accounts
            }
            Err(error) => return Err(file(&path)(error)),
        };
        Ok(Dev { dir: dir.into(), domain: config.domain.clone(), accounts })
    }

    /// Puts the accounts into the store; what is there already stays. Returns them all, for the memory of the server.
    ///
    /// # Errors
    /// What was refused, as a sentence.
    pub async fn ensure_accounts(&self, store: &Store, now: Timestamp) -> Result<Vec<Account>, String> {
        let mut accounts = Vec::with_capacity(self.accounts.len());
        for DevAccount { user, password } in &self.accounts {
            accounts.push(users::ensure(store, &self.domain, user, &password.0, now).await?);
        }
        Ok(accounts)
    }
}

/// What a person types into two softphones, and what to try. `port`: where the server listens.
pub fn greeting(dev: &Dev, host: &str, port: u16) -> String {
    let Dev { dir, domain, accounts } = dev;
    let address = if port == DEFAULT_PORT { host.to_owned() } else { format!("{host}:{port}") };
    let mut text = String::from("\nhither is ready. Set up two softphones on this network:\n\n");
    for DevAccount { user, password } in accounts {
        let _ = writeln!(text, "  user name       {user}");
        let _ = writeln!(text, "  password        {}", password.0);
        let _ = writeln!(text, "  domain          {domain}");
        let _ = writeln!(text, "  outbound proxy  {address}");
        let _ = writeln!(text, "  transport       UDP or TCP\n");
    }
    let name = |at: usize| accounts.get(at).map_or("", |account| account.user.as_str());
    let (first, second) = (name(0), name(1));
    let _ = write!(
        text,
        "Then try:
  1. register both phones
  2. add sip:{second}@{domain} as a buddy of {first}, and sip:{first}@{domain} as a buddy of {second}
     (with presence on): each sees the other come and go
  3. send a message from one to the other
  4. call

More users:  hither --dev{dir_option}{domain_option} user add NAME
Files:       {dir}/ (delete it to begin anew; the passwords are in accounts.txt)
Stop:        Ctrl-C
",
        dir = dir.display(),
        dir_option =
            if dir == Path::new(DEFAULT_DIR) { String::new() } else { format!(" --dir {}", dir.display()) },
        domain_option = if domain == host { String::new() } else { format!(" --domain {domain}") },
    );
    if host.starts_with("127.") {
        text.push_str("This machine has no network address: only phones on this machine can register.\n");
    }
    text
}

/// This machine's address towards others: what a datagram to a documentation address (RFC 5737) would be sent from. None
/// is sent. `127.0.0.1` if there is no network.
pub fn own_address() -> String {
    let chosen = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    match chosen {
        Ok(address) if !address.ip().is_unspecified() => address.ip().to_string(),
        _ => "127.0.0.1".into(),
    }
}

/// Is the port free? Bound as the server will bind it, and let go at once.
fn probe(transport: Transport, bind: SocketAddr) -> Result<(), Fault> {
    let (kind, protocol) = match transport {
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
        Transport::Tcp => (Type::STREAM, Protocol::TCP),
    };
    let attempt = || {
        let socket = Socket::new(Domain::for_address(bind), kind, Some(protocol))?;
        if bind.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        if transport == Transport::Tcp {
            socket.set_reuse_address(true)?;
        }
        socket.bind(&bind.into())?;
        // A stream port with SO_REUSEADDR is refused only here if somebody listens.
        if transport == Transport::Tcp { socket.listen(1) } else { Ok(()) }
    };
    match attempt() {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(Fault::PortTaken(bind, transport)),
        // Anything else is the listener's to tell.
        _ => Ok(()),
    }
}

fn fresh() -> Option<Vec<DevAccount>> {
    let account = |user: &str| {
        Some(DevAccount { user: user.into(), password: password::generate(password::system_random).ok()? })
    };
    ["alice", "bob"].into_iter().map(account).collect()
}

fn written(accounts: &[DevAccount]) -> String {
    let mut text = String::from("# Accounts of `hither --dev`: name and password.\n");
    for DevAccount { user, password } in accounts {
        let _ = writeln!(text, "{user} {}", password.0);
    }
    text
}

fn read(text: &str) -> Option<Vec<DevAccount>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let account = |line: &str| {
        let (user, password) = line.split_once(char::is_whitespace)?;
        Some(DevAccount { user: user.into(), password: Redacted(password.trim().into()) })
    };
    lines.map(account).collect::<Option<Vec<_>>>().filter(|accounts| !accounts.is_empty())
}

/// Where `--dev` keeps its files unless told otherwise.
pub(super) const DEFAULT_DIR: &str = "hither-dev";
/// The port of SIP (RFC 3261 19.1.2).
pub(super) const DEFAULT_PORT: u16 = 5060;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn config(dir: &Path) -> Config {
        Config::dev(dir, "192.0.2.7", 0, std::iter::empty()).unwrap()
    }

    fn dev() -> Dev {
        let account = |user: &str, password: &str| DevAccount {
            user: user.into(),
            password: Redacted(password.into()),
        };
        Dev {
            dir: "hither-dev".into(),
            domain: "192.0.2.7".into(),
            accounts: vec![account("alice", "abcdefghjk"), account("bob", "kjhgfedcba")],
        }
    }

    #[test]
    fn the_greeting_says_what_to_type() {
        let text = greeting(&dev(), "192.0.2.7", 5060);
        for needed in
            ["alice", "abcdefghjk", "bob", "kjhgfedcba", "UDP or TCP", "sip:bob@192.0.2.7", "register both"]
        {
            assert!(text.contains(needed), "{needed}\n{text}");
        }
        assert!(text.contains("outbound proxy  192.0.2.7\n"), "{text}");
        assert!(greeting(&dev(), "192.0.2.7", 5070).contains("outbound proxy  192.0.2.7:5070\n"));
        let other = Dev { dir: "/tmp/x".into(), domain: "127.0.0.1".into(), ..dev() };
        let text = greeting(&other, "127.0.0.1", 5060);
        assert!(text.contains("hither --dev --dir /tmp/x user add"), "{text}");
        assert!(text.contains("no network address"), "{text}");
    }

    #[test]
    fn passwords_stay_the_same_and_are_the_owners_only() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("dev");
        let first = Dev::prepare(&at, &config(&at)).unwrap();
        assert_eq!(first.accounts.len(), 2);
        assert_ne!(first.accounts[0].password, first.accounts[1].password);
        assert_eq!(Dev::prepare(&at, &config(&at)).unwrap(), first);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&at), mode(&at.join("accounts.txt"))), (0o700, 0o600));
    }

    #[test]
    fn a_broken_accounts_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("accounts.txt"), "alice\n").unwrap();
        let error = Dev::prepare(dir.path(), &config(dir.path())).unwrap_err();
        assert!(error.to_string().contains("accounts.txt"), "{error}");
    }

    #[test]
    fn a_taken_port_is_said_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let taken = UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let config = Config::dev(dir.path(), "192.0.2.7", port, std::iter::empty()).unwrap();
        let error = Dev::prepare(dir.path(), &config).unwrap_err().to_string();
        assert!(
            error.contains(&format!("port {port} (udp) is taken")) && error.contains("--port"),
            "{error}"
        );

        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let error = probe(Transport::Tcp, taken.local_addr().unwrap());
        assert!(matches!(error, Err(Fault::PortTaken(..))));
    }

    #[test]
    fn the_own_address_is_an_address() {
        assert!(own_address().parse::<std::net::Ipv4Addr>().is_ok());
    }
}

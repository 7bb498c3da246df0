//! Kamailio beside hither: configured, started, its processor time read over all its processes, stopped.

use std::net::{SocketAddr, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::cores::Cores;
use crate::database::{DOMAIN, Database, PASSWORD};
use crate::process::Cpu;
use crate::wire::Transport;

/// What Kamailio has to do.
#[derive(Debug, Clone, Copy)]
pub struct Task {
    /// Processes that read datagrams, and as many that read connections.
    pub children: u32,
    /// Does it keep a transaction for what it answers itself?
    pub stateful: bool,
    /// Does it do presence?
    pub presence: bool,
    /// What the phones speak.
    pub transport: Transport,
    /// Users `u0..`.
    pub users: u32,
    /// Users `n0..`.
    pub fresh: u32,
}

/// A running Kamailio: a group of processes.
pub struct Kamailio {
    child: Child,
    watchdog: Child,
    /// Where it listens: for datagrams always, for connections on the same port if it is to.
    pub address: SocketAddr,
    dir: tempfile::TempDir,
}

impl Kamailio {
    /// Its name and version, if it is installed.
    pub fn installed() -> Option<String> {
        let output = Command::new("kamailio").arg("-v").output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let words = text.lines().next()?.strip_prefix("version: ")?;
        Some(words.split(" (").next()?.to_owned())
    }

    /// Does it know presence?
    pub fn has_presence() -> bool {
        let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        folders
            .map(|folder| folder.path().join("kamailio/modules/presence_xml.so"))
            .any(|module| module.is_file())
            || Path::new("/usr/lib64/kamailio/modules/presence_xml.so").is_file()
    }

    /// Starts it on its cores and waits until it answers.
    pub fn start(task: Task, database: &Database, cores: &Cores) -> Kamailio {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let probe = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let free = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("a port");
        let config = dir.path().join("kamailio.cfg");
        std::fs::write(&config, configuration(task, address, database)).expect("written");
        let log = std::fs::File::create(dir.path().join(LOG)).expect("a log");
        drop(free);
        let mut command = cores.pinned(Path::new("kamailio"));
        // Stays in the foreground, logs to its standard error; fast allocator; memory that is touched only when needed.
        command.args(["-DD", "-E", "-x", "fm", "-m", "8192", "-M", "32", "-w"]).arg(dir.path());
        command.arg("-Y").arg(dir.path()).arg("-f").arg(&config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        let child = command.spawn().expect("Kamailio starts");
        let watchdog = Command::new("sh")
            .args(["-c", "read _; kill -TERM \"-$1\"; sleep 2; kill -KILL \"-$1\"; rm -rf \"$2\""])
            .args(["watchdog", &child.id().to_string()])
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("a shell");
        let kamailio = Kamailio { child, watchdog, address, dir };
        kamailio.wait_for_answer(&probe);
        kamailio
    }

    fn wait_for_answer(&self, probe: &UdpSocket) {
        probe.set_read_timeout(Some(Duration::from_millis(200))).expect("a deadline");
        let own = probe.local_addr().expect("bound");
        let request = format!(
            "OPTIONS sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKready;rport\r\nMax-Forwards: 70\r\n\
             From: <sip:u0@{DOMAIN}>;tag=t\r\nTo: <sip:{DOMAIN}>\r\nCall-ID: ready\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        );
        let mut buffer = [0; 2_048];
        for _ in 0..100 {
            let _ = probe.send_to(request.as_bytes(), self.address);
            if let Ok(length) = probe.recv(&mut buffer)
                && buffer[..length].starts_with(b"SIP/2.0 200 ")
            {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("Kamailio does not answer; it says:\n{}", self.log());
    }

    /// Its first process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What all its processes used so far.
    pub fn cpu(&self) -> Cpu {
        Cpu::of_family(self.child.id()).expect("Kamailio runs")
    }

    /// What it complains of. A line costs time, and none is expected.
    pub fn complaints(&self) -> Vec<String> {
        let is_complaint =
            |line: &&str| ["ERROR", "CRITICAL", "ALERT", "BUG"].iter().any(|word| line.contains(word));
        self.log().lines().filter(is_complaint).map(str::to_owned).collect()
    }

    fn log(&self) -> String {
        let bytes = std::fs::read(self.dir.path().join(LOG)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-TERM", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.child.wait();
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
    }
}

fn configuration(task: Task, address: SocketAddr, database: &Database) -> String {
    let mut defines = String::new();
    if !matches!(database, Database::Memory) {
        defines.push_str("#!define WITH_POSTGRES\n");
    }
    if task.transport == Transport::Tcp {
        defines.push_str("#!define WITH_TCP\n");
    }
    if task.stateful {
        defines.push_str("#!define WITH_TRANSACTIONS\n");
    }
    // A power of two that is not below the number of processes (README of Kamailio's module `auth`).
    let pools = task.children.next_power_of_two().min(64);
    let presence = if task.presence { include_str!("kamailio-presence.cfg") } else { "" };
    if task.presence {
        defines.push_str("#!define WITH_PRESENCE\n");
    }
    include_str!("kamailio.cfg")
        .replace("@presence@\n", presence)
        .replace("@defines@\n", &defines)
        .replace("@children@", &task.children.to_string())
        .replace("@port@", &address.port().to_string())
        .replace("@domain@", DOMAIN)
        .replace("@password@", PASSWORD)
        .replace("@users@", &task.users.to_string())
        .replace("@fresh@", &task.fresh.to_string())
        .replace("@pools@", &pools.to_string())
        .replace("@database@", &database.address())
}

/// Its tables, from Debian's package `kamailio-postgres-modules`.
pub const TABLES: [&str; 3] = [
    "/usr/share/kamailio/postgres/standard-create.sql",
    "/usr/share/kamailio/postgres/usrloc-create.sql",
    "/usr/share/kamailio/postgres/presence-create.sql",
];
const LOG: &str = "log";

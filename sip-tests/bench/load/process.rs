//! The server process: started, pinned, its processor time read, killed.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::ops::{Add, Sub};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::cores::Cores;
use crate::database::{DOMAIN, Database};
use crate::wire::Transport;

/// Processor time of a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    /// In the program.
    pub user: Duration,
    /// In the kernel.
    pub system: Duration,
}

impl Sub for Cpu {
    type Output = Cpu;
    fn sub(self, other: Cpu) -> Cpu {
        Cpu { user: self.user.saturating_sub(other.user), system: self.system.saturating_sub(other.system) }
    }
}

impl Add for Cpu {
    type Output = Cpu;
    fn add(self, other: Cpu) -> Cpu {
        Cpu { user: self.user + other.user, system: self.system + other.system }
    }
}

impl Cpu {
    /// What the process used so far, with children that ended. `None`: there is no such process.
    pub fn of(pid: u32) -> Option<Cpu> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in brackets may hold anything; fields are counted after it.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_ascii_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok().map(|t| Duration::from_millis(t * 10));
        Some(Cpu { user: ticks(11)? + ticks(13)?, system: ticks(12)? + ticks(14)? })
    }

    /// What the process and all that it started itself used so far.
    pub fn of_family(first: u32) -> Option<Cpu> {
        Some(children(first).into_iter().filter_map(Cpu::of).fold(Cpu::of(first)?, |sum, cpu| sum + cpu))
    }
}

/// The processes that a process started itself.
pub fn children(first: u32) -> Vec<u32> {
    let parent = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split_ascii_whitespace().nth(1)?.parse::<u32>().ok()
    };
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| parent(*pid) == Some(first)).collect()
}

/// A running server.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Server {
    /// Starts the binary on its cores and waits until it is ready.
    /// `paced`: NOTIFYs as usual; else nothing ever holds one back.
    pub fn start(
        binary: &Path,
        database: &Database,
        transport: Transport,
        cores: &Cores,
        paced: bool,
    ) -> Server {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = dir.path().join("hither.toml");
        let pacing = if paced { "" } else { "notify_burst = 1000\nnotify_interval_ms = 1\n" };
        let text = format!(
            "domain = \"{DOMAIN}\"\ndatabase = \"{}\"\ncontrol_socket = \"{}\"\nlisten = [\"udp:127.0.0.1:0\", \"tcp:127.0.0.1:0\"]\n\
             [log]\nfilter = \"warn\"\n[auth]\nnonce_lifetime_s = 86400\n\
             [subscription]\nmax_per_watcher = 1000000\nmax_per_presentity = 1000000\n\
             [publication]\nburst = 1000000\nper_second = 1000\n\
             [presence]\ndefault_rule = \"full\"\n{pacing}\
             [messaging]\nburst = 1000000\nper_minute = 60000\nstrangers_burst = 1000000\nstrangers_per_minute = 60000\n",
            database.address(),
            dir.path().join("sock").display(),
        );
        std::fs::write(&config, text).expect("written");
        let mut command = cores.pinned(binary);
        command.arg("--config").arg(&config).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the server starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut address = None;
        let listening = format!("listening {}:", transport.token().to_ascii_lowercase());
        for line in lines.map_while(Result::ok) {
            if let Some(text) = line.strip_prefix(&listening) {
                address = text.parse().ok();
            }
            if line == "ready" {
                break;
            }
        }
        let address = address.expect("the server listens");
        Server { child, address, _dir: dir }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it used so far.
    pub fn cpu(&self) -> Cpu {
        Cpu::of(self.child.id()).expect("the server runs")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Load averages of one, five and fifteen minutes: what else is running here?
pub fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_ascii_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

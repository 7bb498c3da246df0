//! The server process, and when it did what after its start.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hither::api::control::{self, Request, Response};

use crate::database::{DOMAIN, Database};
use crate::phone::{Operation, Phones};
use crate::process::Cpu;
use crate::{resident, seed};

/// After the process was started.
#[derive(Debug, Default, Clone, Copy)]
pub struct Times {
    pub options: Option<Duration>,
    pub register: Option<Duration>,
    pub message: Option<Duration>,
    pub loaded: Option<Duration>,
    pub notify: Option<Duration>,
}

/// A running server; killed when dropped, as a crash would.
pub struct Server {
    child: Child,
    /// When it was started.
    pub begun: Instant,
    pub times: Times,
    /// Resident when everything was loaded.
    loaded: u64,
    _dir: tempfile::TempDir,
}

impl Server {
    /// Starts it and asks at once, for users too if they are bound; returns when everything is loaded.
    pub fn start(binary: &Path, database: &Database, phones: &mut Phones, is_bound: bool) -> Server {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (config, socket) = (dir.path().join("hither.toml"), dir.path().join("sock"));
        let text = format!(
            "domain = \"{DOMAIN}\"\ndatabase = \"{}\"\ncontrol_socket = \"{}\"\nlisten = [\"udp:127.0.0.1:{}\"]\n\
             [log]\nfilter = \"warn\"\n[auth]\nnonce_lifetime_s = 86400\n[presence]\ndefault_rule = \"full\"\n",
            database.address(),
            socket.display(),
            phones.server_port(),
        );
        std::fs::write(&config, text).expect("written");
        phones.fresh_start();
        let begun = Instant::now();
        let mut command = Command::new(binary);
        command.arg("--config").arg(&config).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().expect("the server starts");
        let pid = child.id();
        let loaded = std::thread::spawn(move || when_loaded(&socket, begun, pid));
        let mut times = Times { options: phones.first(Operation::Options, begun), ..Times::default() };
        if is_bound {
            times.register = phones.first(Operation::Refresh, begun);
            times.message = phones.first(Operation::Message, begun);
        }
        while !loaded.is_finished() {
            phones.listen(Duration::from_millis(10));
        }
        let (loaded_at, resident) = loaded.join().expect("asked");
        times.loaded = Some(loaded_at);
        phones.listen(Duration::from_millis(500));
        times.notify = phones.first_notify.map(|at| at.duration_since(begun));
        Server { child, begun, times, loaded: resident, _dir: dir }
    }

    /// Resident memory when everything was loaded.
    pub fn memory(&self) -> u64 {
        self.loaded
    }

    /// Resident memory now.
    pub fn memory_now(&self) -> u64 {
        resident(self.child.id())
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

/// Asks for the status until it says that everything is loaded (an answer that does not speak of it comes from a server that loads first).
fn when_loaded(socket: &Path, begun: Instant, pid: u32) -> (Duration, u64) {
    seed::block_on(async {
        loop {
            if let Ok(Response::Status { values }) = control::ask(socket, &Request::Status {}).await
                && values.get("loaded").is_none_or(|loaded| loaded == true)
            {
                let at = begun.elapsed();
                return (at, resident(pid));
            }
            assert!(begun.elapsed() < Duration::from_secs(120), "the server does not load");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
}

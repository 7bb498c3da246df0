//! What a server costs under load: closed loop (or paced) over datagrams on the loopback interface.
//!
//! `cargo bench --bench load -- --server target/release/hither`; see the README beside this file.

#![allow(clippy::disallowed_methods, reason = "a load tool reads the clock")]
#![allow(clippy::print_stdout, reason = "its table is its product")]

#[path = "load/credentials.rs"]
mod credentials;
#[path = "load/database.rs"]
mod database;
#[path = "load/kamailio.rs"]
mod kamailio;
#[path = "load/memory.rs"]
mod memory;
#[path = "load/notify.rs"]
mod notify;
#[path = "load/operation.rs"]
mod operation;
#[path = "load/phone.rs"]
mod phone;
#[path = "load/presence.rs"]
mod presence;
#[path = "load/process.rs"]
mod process;
#[path = "load/report.rs"]
mod report;
#[path = "load/run.rs"]
mod run;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use hither::sip::digest::Algorithm;

use crate::database::Database;
use crate::kamailio::{Kamailio, Task};
use crate::operation::Operation;
use crate::phone::Phones;
use crate::presence::Presence;
use crate::process::{Cpu, Server};
use crate::report::Report;
use crate::run::Loop;

/// Loads a hither server and prints what each operation costs.
#[derive(Debug, Parser)]
struct Arguments {
    /// A server binary; several are measured in turns within the same run.
    #[arg(long = "server", required_unless_present = "kamailio")]
    servers: Vec<PathBuf>,
    /// Measures the installed Kamailio in turns with the others: bindings in memory, or with `--database postgres` written through.
    #[arg(long)]
    kamailio: bool,
    /// Processes of Kamailio that read datagrams.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    kamailio_children: u32,
    /// Kamailio keeps transactions of REGISTER and of MESSAGE to nobody too, as hither does.
    #[arg(long)]
    kamailio_stateful: bool,
    /// `sqlite`, `postgres` (a server of its own, thrown away afterwards) or `postgres://..` (an empty database).
    #[arg(long, default_value = "sqlite")]
    database: String,
    /// What is measured.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Operation::USUAL.to_vec())]
    operations: Vec<Operation>,
    /// Length of one measurement.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How often the whole list is measured; the table shows medians.
    #[arg(long, default_value_t = 1)]
    repeats: usize,
    /// Registered users.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    users: u32,
    /// Operations under way at once.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    window: u32,
    /// Operations begun per second; without it the loop is closed: one ends, the next begins.
    #[arg(long)]
    rate: Option<f64>,
    /// `md5` or `sha-256`.
    #[arg(long, default_value = "md5", value_parser = algorithm)]
    algorithm: Algorithm,
    /// Measures no time but bytes: per binding, per subscription, and per transaction that is held. Takes some minutes.
    #[arg(long)]
    memory: bool,
    /// Cargo says so; means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    fn fresh_users(&self) -> u32 {
        if self.memory || self.operations.contains(&Operation::RegisterNew) { FRESH_USERS } else { 0 }
    }

    fn presence(&self, server: SocketAddr) -> Presence {
        Presence::new(server, self.users, self.window, self.algorithm)
    }

    fn has_presence(&self) -> bool {
        self.memory || self.operations.iter().any(|operation| operation.is_presence())
    }

    fn phones(&self, server: SocketAddr) -> Phones {
        Phones::new(server, self.users, self.fresh_users(), self.window, self.algorithm)
    }

    /// Kamailio's name, if it is to be measured and can be.
    fn kamailio(&self) -> Option<String> {
        if !self.kamailio {
            return None;
        }
        assert!(!self.database.contains("://"), "Kamailio has a database of its own or none");
        assert!(self.algorithm == Algorithm::Md5, "Kamailio is configured for MD5");
        let name = Kamailio::installed();
        if name.is_none() {
            println!("kamailio is not installed and is left out");
        }
        if self.has_presence() && !Kamailio::has_presence() {
            println!("kamailio-presence-modules is not installed and Kamailio is left out");
            return None;
        }
        name
    }
}

fn algorithm(text: &str) -> Result<Algorithm, String> {
    match text {
        "md5" => Ok(Algorithm::Md5),
        "sha-256" => Ok(Algorithm::Sha256),
        _ => Err("md5 or sha-256".into()),
    }
}

/// A server that runs.
enum Running {
    Hither(Server),
    Kamailio(Kamailio),
}

impl Running {
    fn cpu(&self) -> Cpu {
        match self {
            Running::Hither(server) => server.cpu(),
            Running::Kamailio(server) => server.cpu(),
        }
    }

    fn pid(&self) -> u32 {
        match self {
            Running::Hither(server) => server.pid(),
            Running::Kamailio(server) => server.pid(),
        }
    }
}

/// One server under load, with the phones that play its users.
struct Side {
    name: String,
    server: Running,
    // Freed after the server, which uses it.
    database: Database,
    phones: Phones,
    presence: Presence,
    /// Until when which number of transactions is held.
    held: Vec<(Instant, u64)>,
}

impl Side {
    fn hither(arguments: &Arguments, at: usize) -> Side {
        let binary = &arguments.servers[at];
        let database = Database::start(&arguments.database);
        database.put_accounts(arguments.users, arguments.fresh_users());
        let server = Server::start(binary, &database);
        let (phones, presence) = (arguments.phones(server.address), arguments.presence(server.address));
        let name = match arguments.servers.len() {
            1 if !arguments.kamailio => String::new(),
            _ => binary.display().to_string(),
        };
        Side { name, server: Running::Hither(server), database, phones, presence, held: Vec::new() }
    }

    fn kamailio(arguments: &Arguments, name: String) -> Side {
        let database = Database::start_for_kamailio(&arguments.database, &kamailio::TABLES);
        let children = arguments.kamailio_children;
        let (users, fresh) = (arguments.users, arguments.fresh_users());
        let presence = arguments.has_presence();
        let task = Task { children, stateful: arguments.kamailio_stateful, presence, users, fresh };
        let server = Kamailio::start(task, &database);
        let (phones, presence) = (arguments.phones(server.address), arguments.presence(server.address));
        Side { name, server: Running::Kamailio(server), database, phones, presence, held: Vec::new() }
    }

    /// Everybody registers once, so that there is something to refresh and somebody to reach.
    fn enrol(&mut self, arguments: &Arguments) {
        let seconds = Duration::from_secs(60);
        let once = Loop { window: arguments.window, rate: None, seconds, most: u64::MAX };
        run::run(&mut self.phones, Operation::Enrol, &once);
        run::run(&mut self.phones, Operation::Ask, &once);
    }

    fn measure(&mut self, operation: Operation, pace: &Loop) -> run::Measured {
        self.wait_for_room(operation);
        if operation.is_presence() {
            self.presence.prepare(operation);
        }
        let before = (self.server.cpu(), self.database.cpu());
        let mut measured = match operation.is_presence() {
            true => self.presence.run(operation, pace),
            false => run::run(&mut self.phones, operation, pace),
        };
        measured.server = self.server.cpu() - before.0;
        measured.database = self.database.cpu().zip(before.1).map(|(after, before)| after - before);
        let (mut requests, mut notifies) = (measured.done() as u64, 0);
        if operation.is_presence() {
            self.presence.tidy();
            (requests, notifies) = self.presence.exchanged();
        }
        if operation.is_held() && matches!(self.server, Running::Hither(_)) {
            let now = Instant::now();
            self.held.extend([(now + HELD, requests), (now + HELD_BY_CLIENT, notifies)]);
        }
        measured
    }

    /// Waits until the server has let go of so many transactions that one more measurement finds room.
    fn wait_for_room(&mut self, operation: Operation) {
        while operation.is_held() {
            self.held.retain(|(until, _)| *until > Instant::now());
            if self.held.iter().map(|(_, number)| number).sum::<u64>() <= run::MOST_HELD {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Starts all servers.
fn start(arguments: &Arguments) -> Vec<Side> {
    let own = (0..arguments.servers.len()).map(|at| Side::hither(arguments, at));
    own.chain(arguments.kamailio().map(|name| Side::kamailio(arguments, name))).collect()
}

fn main() {
    let arguments = Arguments::parse();
    assert!(!arguments.database.contains("://") || arguments.servers.len() == 1, "one database, one server");
    assert!(arguments.window <= arguments.users, "a window is no larger than the number of users");
    assert!(!arguments.has_presence() || arguments.users >= 10, "presence needs ten users");
    process::pin_self();
    let load = process::load_average();
    if arguments.memory {
        print!("{}", memory::measure(&arguments));
        return;
    }
    let mut sides = start(&arguments);
    if sides.is_empty() {
        return;
    }
    let seconds = Duration::from_secs_f64(arguments.seconds.clamp(0.1, 600.0));
    let pace = Loop { window: arguments.window, rate: arguments.rate, seconds, most: u64::MAX };
    for side in &mut sides {
        side.enrol(&arguments);
    }
    let mut report = Report::default();
    for repeat in 0..arguments.repeats {
        for operation in &arguments.operations {
            // Nobody is always the first.
            let first = repeat % sides.len();
            for at in (first..sides.len()).chain(0..first) {
                let side = &mut sides[at];
                let measured = side.measure(*operation, &pace);
                report.add(*operation, &side.name, measured);
            }
        }
    }
    println!(
        "{} users, window {}, {}, {} x {:.1} s, {}, {}, load average {load} before and {} after",
        arguments.users,
        arguments.window,
        arguments.rate.map_or("closed loop".into(), |rate| format!("{rate} operations a second")),
        arguments.repeats,
        seconds.as_secs_f64(),
        sides.iter().map(|side| side.database.kind()).collect::<Vec<_>>().join(" and "),
        arguments.algorithm.as_str(),
        process::load_average(),
    );
    print!("{}", report.table());
    if let Some(side) =
        sides.iter().find(|side| matches!(side.server, Running::Kamailio(_)) && sides.len() > 1)
    {
        print!("\n{}", report.ratios(&side.name));
    }
    for side in &sides {
        let Running::Kamailio(server) = &side.server else { continue };
        let complaints = server.complaints();
        if let Some(last) = complaints.last() {
            println!("\n{} complained {} times, last of: {last}", side.name, complaints.len());
        }
    }
}

/// Timer J (RFC 3261 17.2.2), and a little.
const HELD: Duration = Duration::from_secs(34);
/// Timer K (RFC 3261 17.1.2.2), and a little.
const HELD_BY_CLIENT: Duration = Duration::from_secs(6);
/// Users who have never registered, for [`Operation::RegisterNew`].
const FRESH_USERS: u32 = 10_000;

//! What a server costs under load: closed loop (or paced) over datagrams or connections on the loopback interface.
//!
//! `cargo bench --bench load -- --server target/release/hither`; see the README beside this file.

#![allow(clippy::disallowed_methods, reason = "a load tool reads the clock")]
#![allow(clippy::print_stdout, reason = "its table is its product")]

#[path = "load/call.rs"]
mod call;
#[path = "load/cores.rs"]
mod cores;
#[path = "load/credentials.rs"]
mod credentials;
#[path = "load/database.rs"]
mod database;
#[path = "load/delivery.rs"]
mod delivery;
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
#[path = "load/wire.rs"]
mod wire;

use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;
use hither::sip::digest::Algorithm;

use crate::cores::Cores;
use crate::database::Database;
use crate::delivery::Delivery;
use crate::kamailio::{Kamailio, Task};
use crate::operation::Operation;
use crate::phone::Phones;
use crate::presence::Presence;
use crate::process::{Cpu, Server};
use crate::report::Report;
use crate::run::Loop;
use crate::wire::{Transport, Wire};

/// Loads a hither server and prints what each operation costs.
#[derive(Debug, Parser)]
struct Arguments {
    /// A server binary; several are measured in turns within the same run.
    #[arg(long = "server", required_unless_present = "kamailio")]
    servers: Vec<PathBuf>,
    /// Measures the installed Kamailio in turns with the others: bindings in memory, or with `--database postgres` written through.
    #[arg(long)]
    kamailio: bool,
    /// Processes of Kamailio that read datagrams, or connections.
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
    /// What the phones speak.
    #[arg(long, value_enum, default_value = "udp")]
    transport: Transport,
    /// Sockets (source ports) of the tool: 1 for datagrams, 32 connections; a user always has the same.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    sockets: Option<u32>,
    /// Threads of the tool, each with its part of users, window and sockets.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: u32,
    /// Cores of the server, the first ones; the tool has the others, or the same if there are no others. Several numbers are measured in turns.
    #[arg(long, value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u32).range(1..=64))]
    cores: Vec<u32>,
    /// The tool has the same cores as the server, always.
    #[arg(long)]
    together: bool,
    /// Operations begun per second; without it the loop is closed: one ends, the next begins.
    #[arg(long)]
    rate: Option<f64>,
    /// hither paces NOTIFYs as it usually does; without it nothing ever holds one back.
    #[arg(long)]
    paced: bool,
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
        let wanted = [Operation::RegisterNew, Operation::MessageStored];
        let is_wanted = self.memory || wanted.iter().any(|one| self.operations.contains(one));
        if is_wanted { FRESH_USERS } else { 0 }
    }

    /// Fresh users to whom stored messages are delivered: those behind the others.
    fn away(&self) -> Range<u32> {
        let wanted = !self.memory && self.operations.contains(&Operation::MessageDelivered);
        let first = self.fresh_users();
        first..first + if wanted { delivery::RECIPIENTS } else { 0 }
    }

    fn delivery(&self, server: SocketAddr) -> Option<Delivery> {
        let away = self.away();
        let sockets = self.sockets.unwrap_or(self.transport.usual_sockets()).min(delivery::RECIPIENTS);
        let wire = || Wire::open(self.transport, server, sockets);
        (!away.is_empty()).then(|| Delivery::new(wire(), away.clone(), self.algorithm))
    }

    fn presence(&self, server: SocketAddr) -> Option<Presence> {
        let sockets = self.sockets.unwrap_or(self.transport.usual_sockets()).min(self.users);
        let wire = || Wire::open(self.transport, server, sockets);
        self.has_presence().then(|| Presence::new(wire(), self.users, self.window, self.algorithm))
    }

    fn has_presence(&self) -> bool {
        self.memory || self.operations.iter().any(|operation| operation.is_presence())
    }

    /// One set of phones for each thread.
    fn phones(&self, server: SocketAddr) -> Vec<Phones> {
        let sockets = self.sockets.unwrap_or(self.transport.usual_sockets()).min(self.users);
        let part = |of: u32, thread| of * thread / self.threads..of * (thread + 1) / self.threads;
        let phones = |thread| {
            let wire = Wire::open(self.transport, server, sockets.div_ceil(self.threads));
            let (users, fresh) = (part(self.users, thread), part(self.fresh_users(), thread));
            let window = (self.window / self.threads).max(1);
            Phones::new(wire, users, fresh, self.away(), window, self.algorithm)
        };
        (0..self.threads).map(phones).collect()
    }

    /// The servers and the shares of the cores, in turns.
    fn shares(&self) -> Vec<Cores> {
        self.cores.iter().map(|number| Cores::share(*number, self.together)).collect()
    }

    /// How a side is called in the table.
    fn name(&self, server: &str, cores: &Cores) -> String {
        let alone = self.servers.len() + usize::from(self.kamailio) == 1;
        match (alone, self.cores.len()) {
            (true, 1) => String::new(),
            (true, _) => cores.name(),
            (false, 1) => server.to_owned(),
            (false, _) => format!("{server}, {}", cores.name()),
        }
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
        if self.operations.iter().any(|operation| operation.is_storage()) {
            println!("Kamailio stores no messages here: what is stored or delivered is measured without it");
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
    cores: Cores,
    phones: Vec<Phones>,
    presence: Option<Presence>,
    delivery: Option<Delivery>,
    /// Until when the server looks whether those are there for whom something was stored.
    looks_until: Instant,
    /// Until when which number of transactions is held.
    held: Vec<(Instant, u64)>,
}

impl Side {
    fn hither(arguments: &Arguments, binary: &Path, cores: Cores) -> Side {
        cores.pin_self();
        let database = Database::start(&arguments.database);
        database.put_accounts(arguments.users, arguments.away().end);
        let server = Server::start(binary, &database, arguments.transport, &cores, arguments.paced);
        let (phones, presence) = (arguments.phones(server.address), arguments.presence(server.address));
        let delivery = arguments.delivery(server.address);
        let name = arguments.name(&binary.display().to_string(), &cores);
        let server = Running::Hither(server);
        Side {
            name,
            server,
            database,
            cores,
            phones,
            presence,
            delivery,
            looks_until: Instant::now(),
            held: Vec::new(),
        }
    }

    fn kamailio(arguments: &Arguments, name: &str, cores: Cores) -> Side {
        cores.pin_self();
        let database = Database::start_for_kamailio(&arguments.database, &kamailio::TABLES);
        let children = arguments.kamailio_children;
        let (users, fresh) = (arguments.users, arguments.fresh_users());
        let (stateful, transport) = (arguments.kamailio_stateful, arguments.transport);
        let presence = arguments.has_presence();
        let task = Task { children, stateful, presence, transport, users, fresh };
        let server = Kamailio::start(task, &database, &cores);
        let (phones, presence) = (arguments.phones(server.address), arguments.presence(server.address));
        let name = arguments.name(name, &cores);
        let server = Running::Kamailio(server);
        Side {
            name,
            server,
            database,
            cores,
            phones,
            presence,
            delivery: None,
            looks_until: Instant::now(),
            held: Vec::new(),
        }
    }

    /// Everybody registers once, so that there is something to refresh and somebody to reach; at once, because no server waits long for the
    /// first request on a connection.
    fn enrolled(mut self) -> Side {
        let once = Loop { rate: None, seconds: Duration::from_secs(60), most: u64::MAX };
        run::run(&mut self.phones, Operation::Enrol, &once);
        run::run(&mut self.phones, Operation::Ask, &once);
        if let Some(presence) = &mut self.presence {
            presence.begin();
        }
        if let Some(delivery) = &mut self.delivery {
            delivery.begin();
        }
        self
    }

    /// Can it do that at all?
    fn can(&self, operation: Operation) -> bool {
        matches!(self.server, Running::Hither(_)) || !operation.is_storage()
    }

    /// Messages are stored for those who are away, when the server's turns are free for them. Not measured.
    fn fill(&mut self, seconds: Duration) {
        std::thread::sleep(self.looks_until.saturating_duration_since(Instant::now()));
        let most = delivery::messages(seconds);
        let pace = Loop { rate: None, seconds: Duration::from_secs(60), most };
        let stored = run::run(&mut self.phones, Operation::Fill, &pace).done() as u64;
        if let Some(delivery) = &mut self.delivery {
            delivery.stored(stored);
        }
    }

    fn measure(&mut self, operation: Operation, pace: &Loop) -> run::Measured {
        self.wait_for_room(operation);
        self.cores.pin_self();
        if operation == Operation::MessageDelivered {
            self.fill(pace.seconds);
        }
        let mut delivery = self.delivery.as_mut().filter(|_| operation == Operation::MessageDelivered);
        let mut presence = self.presence.as_mut().filter(|_| operation.is_presence());
        if let Some(presence) = &mut presence {
            presence.prepare(operation);
        }
        let before = (self.server.cpu(), self.database.cpu());
        let mut measured = match (&mut presence, &mut delivery) {
            (Some(presence), _) => presence.run(operation, pace),
            (None, Some(delivery)) => delivery.run(),
            (None, None) => run::run(&mut self.phones, operation, pace),
        };
        measured.server = self.server.cpu() - before.0;
        measured.database = self.database.cpu().zip(before.1).map(|(after, before)| after - before);
        if let Some(delivery) = delivery {
            delivery.tidy();
        }
        if operation == Operation::MessageStored {
            let users = u32::try_from(measured.done()).map_or(FRESH_USERS, |done| done.min(FRESH_USERS));
            self.looks_until = Instant::now() + delivery::TURN * users;
        }
        let exchanged = presence.map(|presence| {
            presence.tidy();
            presence.exchanged()
        });
        let held = self.held_by(operation);
        if held > 0 {
            let now = Instant::now();
            let (requests, notifies) = exchanged.unwrap_or((measured.done() as u64 * held, 0));
            self.held.extend([(now + HELD, requests), (now + HELD_BY_CLIENT, notifies)]);
        }
        measured
    }

    /// Transactions that one operation leaves behind.
    fn held_by(&self, operation: Operation) -> u64 {
        match self.server {
            Running::Hither(_) => operation.held(self.phones[0].wire.transport),
            Running::Kamailio(_) => 0,
        }
    }

    /// Waits until the server has let go of so many transactions that one more measurement finds room.
    fn wait_for_room(&mut self, operation: Operation) {
        while self.held_by(operation) > 0 {
            self.held.retain(|(until, _)| *until > Instant::now());
            if self.held.iter().map(|(_, number)| number).sum::<u64>() <= run::MOST_HELD {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Starts all servers.
fn start(arguments: &Arguments, kamailio: Option<&str>) -> Vec<Side> {
    let mut sides = Vec::new();
    for cores in arguments.shares() {
        for binary in &arguments.servers {
            sides.push(Side::hither(arguments, binary, cores.clone()).enrolled());
        }
        sides.extend(kamailio.map(|name| Side::kamailio(arguments, name, cores.clone()).enrolled()));
    }
    sides
}

fn main() {
    let arguments = Arguments::parse();
    assert!(!arguments.database.contains("://") || arguments.servers.len() == 1, "one database, one server");
    assert!(arguments.window <= arguments.users, "a window is no larger than the number of users");
    assert!(arguments.threads <= arguments.window, "a thread has one operation under way at least");
    assert!(arguments.threads * 2 <= arguments.users, "a thread has two users at least");
    assert!(!arguments.has_presence() || arguments.users >= 10, "presence needs ten users");
    let both = [Operation::RegisterNew, Operation::MessageStored];
    let is_contrary = both.iter().all(|one| arguments.operations.contains(one));
    assert!(!is_contrary, "register-new leaves nobody without a binding: message-stored is for another run");
    let load = process::load_average();
    let kamailio = arguments.kamailio();
    if arguments.memory {
        print!("{}", memory::measure(&arguments, || start(&arguments, kamailio.as_deref())));
        return;
    }
    let mut sides = start(&arguments, kamailio.as_deref());
    if sides.is_empty() {
        return;
    }
    let seconds = Duration::from_secs_f64(arguments.seconds.clamp(0.1, 600.0));
    let pace = Loop { rate: arguments.rate, seconds, most: u64::MAX };
    let mut report = Report::default();
    for repeat in 0..arguments.repeats {
        for operation in &arguments.operations {
            // Nobody is always the first.
            let first = repeat % sides.len();
            for at in (first..sides.len()).chain(0..first) {
                let side = &mut sides[at];
                if !side.can(*operation) {
                    continue;
                }
                let measured = side.measure(*operation, &pace);
                report.add(*operation, &side.name, side.cores.number, measured);
            }
        }
    }
    println!(
        "{} users, {} with {} sockets, {} threads, window {}, {}, {} x {:.1} s, {}, {}, load average {load} before and {} after",
        arguments.users,
        arguments.transport.token(),
        sides[0].phones.iter().map(|phones| phones.wire.lines()).sum::<u32>(),
        arguments.threads,
        arguments.window,
        arguments.rate.map_or("closed loop".into(), |rate| format!("{rate} operations a second")),
        arguments.repeats,
        seconds.as_secs_f64(),
        sides.iter().map(|side| side.database.kind()).collect::<Vec<_>>().join(" and "),
        arguments.algorithm.as_str(),
        process::load_average(),
    );
    print!("{}", report.table());
    for cores in arguments.shares() {
        if let Some(name) = kamailio.as_ref().filter(|_| !arguments.servers.is_empty()) {
            print!("\n{}", report.ratios(&arguments.name(name, &cores), cores.number));
        }
    }
    for name in arguments.servers.iter().map(|binary| binary.display().to_string()).chain(kamailio) {
        let shares = arguments.shares();
        let [first, others @ ..] = &shares[..] else { continue };
        for other in others {
            print!("\n{}", report.scaling(&arguments.name(&name, first), &arguments.name(&name, other)));
        }
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
/// Users who have never registered, for [`Operation::RegisterNew`] and [`Operation::MessageStored`].
const FRESH_USERS: u32 = 10_000;

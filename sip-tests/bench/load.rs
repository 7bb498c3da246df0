//! What a server costs under load: closed loop (or paced) over datagrams on the loopback interface.
//!
//! `cargo bench --bench load -- --server target/release/hither`; see the README beside this file.

#![allow(clippy::disallowed_methods, reason = "a load tool reads the clock")]
#![allow(clippy::print_stdout, reason = "its table is its product")]

#[path = "load/database.rs"]
mod database;
#[path = "load/operation.rs"]
mod operation;
#[path = "load/phone.rs"]
mod phone;
#[path = "load/process.rs"]
mod process;
#[path = "load/report.rs"]
mod report;
#[path = "load/run.rs"]
mod run;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use hither::sip::digest::Algorithm;

use crate::database::Database;
use crate::operation::Operation;
use crate::phone::Phones;
use crate::process::Server;
use crate::report::Report;
use crate::run::Loop;

/// Loads a hither server and prints what each operation costs.
#[derive(Debug, Parser)]
struct Arguments {
    /// A server binary; several are measured in turns within the same run.
    #[arg(long = "server", required = true)]
    servers: Vec<PathBuf>,
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
    /// Cargo says so; means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}

fn algorithm(text: &str) -> Result<Algorithm, String> {
    match text {
        "md5" => Ok(Algorithm::Md5),
        "sha-256" => Ok(Algorithm::Sha256),
        _ => Err("md5 or sha-256".into()),
    }
}

/// One server under load, with the phones that play its users.
struct Side {
    name: String,
    server: Server,
    // Freed after the server, which uses it.
    database: Database,
    phones: Phones,
    /// When which number of transactions began to be held.
    held: Vec<(Instant, u64)>,
}

impl Side {
    fn start(arguments: &Arguments, at: usize) -> Side {
        let binary = &arguments.servers[at];
        let database = Database::start(&arguments.database);
        let fresh = if arguments.operations.contains(&Operation::RegisterNew) { FRESH_USERS } else { 0 };
        database.put_accounts(arguments.users, fresh);
        let server = Server::start(binary, &database);
        let phones =
            Phones::new(server.address, arguments.users, fresh, arguments.window, arguments.algorithm);
        let name = match arguments.servers.len() {
            1 => String::new(),
            _ => binary.display().to_string(),
        };
        Side { name, server, database, phones, held: Vec::new() }
    }

    fn measure(&mut self, operation: Operation, pace: &Loop) -> run::Measured {
        self.wait_for_room(operation);
        let before = (self.server.cpu(), self.database.cpu());
        let mut measured = run::run(&mut self.phones, operation, pace);
        measured.server = self.server.cpu() - before.0;
        if operation.is_held() {
            self.held.push((Instant::now(), measured.done() as u64));
        }
        measured.database = self.database.cpu().zip(before.1).map(|(after, before)| after - before);
        measured
    }

    /// Waits until the server has let go of so many transactions that one more measurement finds room.
    fn wait_for_room(&mut self, operation: Operation) {
        while operation.is_held() {
            self.held.retain(|(since, _)| since.elapsed() < HELD);
            if self.held.iter().map(|(_, number)| number).sum::<u64>() <= run::MOST_HELD {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn main() {
    let arguments = Arguments::parse();
    assert!(!arguments.database.contains("://") || arguments.servers.len() == 1, "one database, one server");
    assert!(arguments.window <= arguments.users, "a window is no larger than the number of users");
    process::pin_self();
    let mut sides: Vec<Side> = (0..arguments.servers.len()).map(|at| Side::start(&arguments, at)).collect();
    let seconds = Duration::from_secs_f64(arguments.seconds.clamp(0.1, 600.0));
    let pace = Loop { window: arguments.window, rate: arguments.rate, seconds };
    let once = Loop { rate: None, seconds: Duration::from_secs(60), ..pace };
    for side in &mut sides {
        // Everybody registers once, so that there is something to refresh and somebody to reach.
        run::run(&mut side.phones, Operation::Enrol, &once);
        run::run(&mut side.phones, Operation::Ask, &once);
    }
    let mut report = Report::default();
    for _ in 0..arguments.repeats {
        for operation in &arguments.operations {
            for side in &mut sides {
                let measured = side.measure(*operation, &pace);
                report.add(*operation, &side.name, measured);
            }
        }
    }
    println!(
        "{} users, window {}, {}, {} x {:.1} s, {}, {}",
        arguments.users,
        arguments.window,
        arguments.rate.map_or("closed loop".into(), |rate| format!("{rate} operations a second")),
        arguments.repeats,
        seconds.as_secs_f64(),
        sides[0].database.kind(),
        arguments.algorithm.as_str(),
    );
    print!("{}", report.table());
}

/// Timer J (RFC 3261 17.2.2), and a little.
const HELD: Duration = Duration::from_secs(34);
/// Users who have never registered, for [`Operation::RegisterNew`].
const FRESH_USERS: u32 = 10_000;

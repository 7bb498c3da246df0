//! Does the server stay as quick and as small when there is more of everything? It starts it over a database that holds so many accounts,
//! bindings and subscriptions already, and measures the start, the memory, and what one operation costs.
//!
//! `cargo bench --bench growth -- --server target/release/hither`; see the README beside this file.

#![allow(clippy::disallowed_methods, reason = "a load tool reads the clock")]
#![allow(clippy::print_stdout, reason = "its table is its product")]

#[allow(dead_code, reason = "some of it serves another tool")]
#[path = "load/cores.rs"]
mod cores;
#[allow(dead_code, reason = "some of it serves another tool")]
#[path = "load/database.rs"]
mod database;
#[path = "growth/phone.rs"]
mod phone;
#[allow(dead_code, reason = "some of it serves another tool")]
#[path = "load/process.rs"]
mod process;
#[path = "growth/seed.rs"]
mod seed;
#[path = "growth/server.rs"]
mod server;
#[allow(dead_code, reason = "some of it serves another tool")]
#[path = "load/wire.rs"]
mod wire;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;

use crate::database::Database;
use crate::phone::{Operation, Phones};
use crate::seed::Seed;
use crate::server::Server;

/// Measures one server at several sizes.
#[derive(Debug, Parser)]
struct Arguments {
    /// The server binary.
    #[arg(long)]
    server: PathBuf,
    /// `sqlite` or `postgres` (a server of its own, thrown away afterwards).
    #[arg(long, default_value = "sqlite")]
    database: String,
    /// Sizes: accounts, with one binding each.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 100_000])]
    bindings: Vec<u32>,
    /// Subscriptions at the same places of the list; the last one counts for the rest.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 100_000])]
    subscriptions: Vec<u32>,
    /// Length of one measurement of an operation; 0 leaves operations out.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Which operations, in which order: `options`, `refresh`, `message`, `subscribe`.
    #[arg(long, value_delimiter = ',', default_values_t = Operation::ALL)]
    operations: Vec<Operation>,
    /// After each operation: waits until the server is quiet, and says what it did later (rows that are written later, timers).
    #[arg(long)]
    settle: bool,
    /// Leaves out the starts that measure memory alone.
    #[arg(long)]
    once: bool,
    /// Waits until every watcher has been notified, and measures the memory once more.
    #[arg(long)]
    notified: bool,
    /// The first user has so many watchers; how long a PUBLISH takes to the last of them, and what others notice.
    #[arg(long)]
    crowd: Option<u32>,
    /// Cargo says so; means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let arguments = Arguments::parse();
    println!("load average {} before", process::load_average());
    for (at, size) in arguments.bindings.iter().enumerate() {
        let subscriptions =
            arguments.subscriptions.get(at).or(arguments.subscriptions.last()).copied().unwrap_or(0);
        one_size(&arguments, *size, subscriptions);
    }
    println!("load average {} after", process::load_average());
}

fn one_size(arguments: &Arguments, size: u32, subscriptions: u32) {
    let database = Database::start(&arguments.database);
    let mut phones = Phones::new(size);
    let port = phones.server_port();
    let seed = Seed { size, subscriptions, phones: phones.own(), port };
    let begun = Instant::now();
    seed.prepare(&database);
    let start = |phones: &mut Phones, is_bound| Server::start(&arguments.server, &database, phones, is_bound);

    // An empty one, then one thing more each time.
    let memory = |phones: &mut Phones, is_bound| match arguments.once {
        true => 0,
        false => start(phones, is_bound).memory(),
    };
    let empty = memory(&mut phones, false);
    seed.accounts(&database);
    let accounts = memory(&mut phones, false);
    seed.bindings(&database);
    let seeded = begun.elapsed();
    let bindings = memory(&mut phones, true);
    seed.subscriptions(&database);
    if let Some(watchers) = arguments.crowd {
        seed.crowd(&database, watchers);
    }

    let mut server = start(&mut phones, true);
    let watched = server.memory();
    println!(
        "\n{size} accounts and bindings, {subscriptions} subscriptions, {} (made in {:.1} s)",
        database.kind(),
        seeded.as_secs_f64()
    );
    let ms = |at: Option<Duration>| at.map_or("-".into(), |at| format!("{:.0} ms", at.as_secs_f64() * 1e3));
    println!("  after exec: first OPTIONS answered      {:>10}", ms(server.times.options));
    println!("              last user's REGISTER 200    {:>10}", ms(server.times.register));
    println!("              MESSAGE to the last user    {:>10}", ms(server.times.message));
    println!("              everything loaded           {:>10}", ms(server.times.loaded));
    if subscriptions > 0 {
        println!("              first NOTIFY                {:>10}", ms(server.times.notify));
    }
    let each = |more: u64, less: u64, n: u32| more.saturating_sub(less) as f64 / f64::from(n.max(1));
    println!("  resident:   {:.1} MB empty, {:.1} MB with everything", mega(empty), mega(watched));
    if !arguments.once {
        println!("              per account                 {:>8.0} B", each(accounts, empty, size));
        println!("              per binding                 {:>8.0} B", each(bindings, accounts, size));
    }
    if subscriptions > 0 && !arguments.once {
        println!(
            "              per subscription            {:>8.0} B",
            each(watched, bindings, subscriptions)
        );
    }
    if arguments.notified && subscriptions > 0 {
        let all = phones.wait_for_notifies(subscriptions, Duration::from_secs(300));
        let after = all.map(|at| at.duration_since(server.begun));
        println!("              all watchers notified       {:>10}", ms(after));
        let told = server.memory_now();
        println!("              per subscription, notified  {:>8.0} B", each(told, bindings, subscriptions));
    }
    if let Some(watchers) = arguments.crowd {
        phones.wait_for_notifies(subscriptions + watchers, Duration::from_secs(300));
        crowd(&mut phones, watchers);
    }
    if arguments.seconds > 0.0 {
        let seconds = Duration::from_secs_f64(arguments.seconds.clamp(0.1, 600.0));
        for operation in &arguments.operations {
            measure(&mut phones, &mut server, &database, *operation, seconds, arguments.settle);
        }
    }
}

fn measure(
    phones: &mut Phones,
    server: &mut Server,
    database: &Database,
    operation: Operation,
    seconds: Duration,
    settle: bool,
) {
    let before = (server.cpu(), database.cpu());
    let done = phones.run(operation, seconds);
    let cpu = server.cpu() - before.0;
    let of_database = database.cpu().zip(before.1).map(|(after, before)| after - before);
    let per = |cpu: process::Cpu| (cpu.user + cpu.system).as_secs_f64() * 1e6 / (done.ended.max(1) as f64);
    println!(
        "  {:<10}  {:>7.2} us CPU  {:>7} db  {:>8.0} a second  p99 {:>6} us  lost {}",
        operation.name(),
        per(cpu),
        of_database.map_or("-".into(), |cpu| format!("{:.2}", per(cpu))),
        done.ended as f64 / done.elapsed.as_secs_f64(),
        done.p99_us,
        done.lost,
    );
    if settle {
        let before = (server.cpu(), database.cpu());
        until_quiet(phones, server);
        let later = server.cpu() - before.0;
        let of_database = database.cpu().zip(before.1).map(|(after, before)| after - before);
        println!(
            "   and later  {:>7.2} us CPU  {:>7} db",
            per(later),
            of_database.map_or("-".into(), |cpu| format!("{:.2}", per(cpu))),
        );
    }
}

/// One PUBLISH after the other to all of a crowd; a phone of others, with it and without.
fn crowd(phones: &mut Phones, watchers: u32) {
    // A challenge for each of both, and what is left of the start.
    phones.crowd(0, true);
    phones.listen(Duration::from_secs(6));
    let alone = phones.crowd(watchers, false).meanwhile;
    println!(
        "  MESSAGE, nobody publishes       p50 {:>5} p99 {:>6} longest {:>6} us, {} one after the other",
        alone.p50_us, alone.p99_us, alone.longest_us, alone.ended
    );
    for _ in 0..PUBLISHED {
        let told = phones.crowd(watchers, true);
        let ms = |at: Duration| at.as_secs_f64() * 1e3;
        println!(
            "  PUBLISH: 200 after {:.1} ms, NOTIFYs after {:.1} to {:.0} ms ({} of {watchers})",
            ms(told.ok),
            ms(told.first),
            ms(told.last),
            told.notifies,
        );
        let other = told.meanwhile;
        println!(
            "  MESSAGE meanwhile               p50 {:>5} p99 {:>6} longest {:>6} us, {} one after the other, lost {}",
            other.p50_us, other.p99_us, other.longest_us, other.ended, other.lost
        );
        // Pacing lets the next one pass at once.
        phones.listen(Duration::from_secs(6));
    }
}

/// PUBLISHes to a crowd.
const PUBLISHED: u32 = 3;

/// Until the server has done nearly nothing for longer than rows are kept back (5 s) or a finished transaction lives after the other.
fn until_quiet(phones: &mut Phones, server: &Server) {
    let begun = Instant::now();
    let (mut since, mut last) = (Instant::now(), server.cpu());
    while since.elapsed() < Duration::from_secs(7) && begun.elapsed() < Duration::from_secs(60) {
        phones.listen(Duration::from_millis(500));
        let spent = server.cpu() - last;
        last = server.cpu();
        if spent.user + spent.system > Duration::from_millis(30) {
            since = Instant::now();
        }
    }
}

fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Resident memory of a process.
fn resident(pid: u32) -> u64 {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(Path::new(&path)).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilo = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
    kilo.unwrap_or(0) * 1024
}

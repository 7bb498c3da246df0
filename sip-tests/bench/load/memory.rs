//! Bytes per binding, per subscription, and per transaction that is held: how much the server's memory grew, by what came.

use std::fmt::Write;
use std::time::{Duration, Instant};

use crate::operation::Operation;
use crate::phone::MAX_CONTACTS;
use crate::process::children;
use crate::run::{self, Loop};
use crate::{Arguments, HELD, Side};

/// What came, and what it left.
struct Growth {
    what: &'static str,
    side: String,
    number: usize,
    /// Of all processes, in bytes, before what is kept came.
    before: f64,
    /// Bytes of one, when its transaction is gone.
    kept: f64,
    /// Bytes of the transactions that one operation leaves for a while.
    held: f64,
}

/// Measures all servers, each started twice.
///
/// What lets go of memory seldom gives it back to the system. So operations that leave nothing behind come first, as many as will come: what
/// the memory grows by is their transactions. When these are gone, those that leave something find the room for their transactions: what
/// the memory grows by is what they leave.
pub fn measure(arguments: &Arguments, start: impl Fn() -> Vec<Side>) -> String {
    let mut sides = start();
    let mut grown = grow("binding", &mut sides, |side, keep| {
        let operation = if keep { Operation::RegisterNew } else { Operation::Register };
        let most = u64::from(arguments.fresh_users() * MAX_CONTACTS);
        run::run(&mut side.phones, operation, &at_most(most)).done()
    });
    drop(sides);
    let mut sides = start();
    grown.extend(grow("subscription", &mut sides, |side, keep| {
        let presence = side.presence.as_mut().expect("there is presence");
        let pace = at_most(SUBSCRIPTIONS);
        if keep { presence.run(Operation::Subscribe, &pace) } else { presence.fetch(&pace) }.done()
    }));
    table(&grown)
}

fn grow(
    what: &'static str,
    sides: &mut [Side],
    mut come: impl FnMut(&mut Side, bool) -> usize,
) -> Vec<Growth> {
    settle(sides);
    let empty: Vec<f64> = sides.iter().map(bytes).collect();
    let mut full = Vec::new();
    for side in &mut *sides {
        let number = come(side, false);
        full.push((bytes(side), number));
    }
    settle(sides);
    let before: Vec<f64> = sides.iter().map(bytes).collect();
    let numbers: Vec<usize> = sides.iter_mut().map(|side| come(side, true)).collect();
    settle(sides);
    let grown = sides.iter().enumerate().map(|(at, side)| Growth {
        what,
        side: side.name.clone(),
        number: numbers[at],
        before: before[at],
        kept: (bytes(side) - before[at]) / numbers[at].max(1) as f64,
        held: (full[at].0 - empty[at]) / full[at].1.max(1) as f64,
    });
    grown.collect()
}

fn at_most(most: u64) -> Loop {
    Loop { rate: None, seconds: Duration::from_secs(300), most }
}

/// Waits until the servers have let go of their transactions, and then until no memory moves any more.
fn settle(sides: &[Side]) {
    let begun = Instant::now();
    std::thread::sleep(HELD);
    let mut last: f64 = sides.iter().map(bytes).sum();
    while begun.elapsed() < DEADLINE {
        std::thread::sleep(Duration::from_secs(1));
        let now: f64 = sides.iter().map(bytes).sum();
        if (now - last).abs() < last / 1_000.0 {
            return;
        }
        last = now;
    }
}

fn table(grown: &[Growth]) -> String {
    let mut table = format!(
        "{:<14} {:>9} {:>11} {:>11} {:>11}  server\n",
        "one more", "of them", "MB before", "bytes kept", "bytes held"
    );
    for one in grown {
        let _ = writeln!(
            table,
            "{:<14} {:>9} {:>11.1} {:>11.0} {:>11.0}  {}",
            one.what,
            one.number,
            one.before / 1e6,
            one.kept,
            one.held,
            one.side
        );
    }
    table
}

/// What the server's processes occupy: pages of their own, and each page that they share once. Programs and mapped files do not count.
fn bytes(side: &Side) -> f64 {
    let pid = side.server.pid();
    children(pid).into_iter().chain([pid]).map(proportional).sum()
}

fn proportional(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let counted = text.lines().filter(|line| line.starts_with("Pss_Anon:") || line.starts_with("Pss_Shmem:"));
    counted.filter_map(|line| line.split_ascii_whitespace().nth(1)?.parse::<f64>().ok()).sum::<f64>()
        * 1_024.0
}

const SUBSCRIPTIONS: u64 = 20_000;
const DEADLINE: Duration = Duration::from_secs(60);

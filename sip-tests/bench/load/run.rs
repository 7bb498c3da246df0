//! One measurement: a window of operations, each begun when one ends (or when its time has come), until the time is up.

use std::time::{Duration, Instant};

use crate::operation::Operation;
use crate::phone::{Actor, COOKIE, Phones, find};
use crate::process::Cpu;
use crate::wire::Inbox;

/// How the load is given.
#[derive(Debug, Clone, Copy)]
pub struct Loop {
    /// Operations begun per second; `None`: as fast as they end.
    pub rate: Option<f64>,
    /// For how long.
    pub seconds: Duration,
    /// Operations at most.
    pub most: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Measured {
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Microseconds of each operation that ended as it should.
    latencies: Vec<u32>,
    /// Operations that ended as they should and have no latency: the server began them.
    pub untimed: usize,
    /// Operations without an answer in time, or with a wrong one.
    pub lost: u64,
    /// Challenges that came.
    pub challenged: u64,
    /// Processor time of the server.
    pub server: Cpu,
    /// Processor time of the database's own processes.
    pub database: Option<Cpu>,
}

impl Measured {
    /// Operations that ended as they should.
    pub fn done(&self) -> usize {
        self.latencies.len() + self.untimed
    }

    /// Counts an operation that ended as it should.
    pub fn ended(&mut self, took: Duration) {
        self.latencies.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    }

    /// What several threads did at the same time.
    pub fn together(all: Vec<Measured>) -> Measured {
        let mut sum = Measured::default();
        for one in all {
            sum.elapsed = sum.elapsed.max(one.elapsed);
            sum.latencies.extend(one.latencies);
            sum.untimed += one.untimed;
            sum.lost += one.lost;
            sum.challenged += one.challenged;
        }
        sum.latencies.sort_unstable();
        sum
    }

    /// In microseconds; 999 is p99.9.
    pub fn percentile(&self, per_mille: usize) -> f64 {
        let at = (self.latencies.len() * per_mille / 1_000).min(self.latencies.len().saturating_sub(1));
        self.latencies.get(at).copied().unwrap_or_default().into()
    }
}

/// One place in the window.
struct Slot {
    busy: Option<Actor>,
    number: u32,
    round: u32,
    sent: Instant,
}

/// Runs one operation over and over, a thread for each of the phones.
pub fn run(phones: &mut [Phones], operation: Operation, pace: &Loop) -> Measured {
    let threads = phones.len();
    let share = Loop { rate: pace.rate.map(|rate| rate / threads as f64), ..*pace };
    let held = operation.held(phones[0].wire.transport);
    let most = if pace.rate.is_none() && held > 0 { MOST_HELD / held } else { MOST };
    let most = most.min(pace.most).div_ceil(threads as u64);
    std::thread::scope(|scope| {
        let others: Vec<_> =
            phones.iter_mut().map(|own| scope.spawn(move || run_one(own, operation, &share, most))).collect();
        Measured::together(others.into_iter().map(|thread| thread.join().expect("no panic")).collect())
    })
}

/// `most`: operations begun at most.
fn run_one(phones: &mut Phones, operation: Operation, pace: &Loop, most: u64) -> Measured {
    let begun = Instant::now();
    let reached = phones.reached;
    let idle = || Slot { busy: None, number: 0, round: 0, sent: begun };
    let mut slots: Vec<Slot> = (0..phones.window).map(|_| idle()).collect();
    let mut free: Vec<u32> = (0..phones.window).rev().collect();
    let mut busy = 0u32;
    let mut measured = Measured::default();
    let mut started = 0u64;
    let mut inbox = Inbox::new();
    let wait = if pace.rate.is_some() { Duration::ZERO } else { PATIENCE / 10 };
    loop {
        let now = Instant::now();
        let elapsed = now - begun;
        let due = pace.rate.map_or(u64::MAX, |rate| (elapsed.as_secs_f64() * rate) as u64);
        while elapsed < pace.seconds && started < due && started < most {
            let Some(at) = free.pop() else { break };
            let slot = &mut slots[at as usize];
            let Some(actor) = phones.actor(operation, at, slot.round) else {
                // Nobody is left in this slot; it stays away.
                continue;
            };
            slot.round += 1;
            slot.number = phones.next_number();
            (slot.busy, slot.sent) = (Some(actor), now);
            started += 1;
            busy += 1;
            phones.send(operation, actor, &branch(at, slot.number), true);
        }
        if busy == 0 && (elapsed >= pace.seconds || started >= most || free.is_empty()) {
            break;
        }
        if !phones.wire.receive(&mut inbox, wait) {
            if pace.rate.is_some() {
                std::thread::sleep(NAP);
            }
            for (at, slot) in (0..).zip(&mut slots) {
                if slot.busy.is_some() && slot.sent.elapsed() > PATIENCE {
                    slot.busy = None;
                    busy -= 1;
                    measured.lost += 1;
                    free.push(at);
                }
            }
            continue;
        }
        for (line, message) in inbox.messages() {
            if !message.starts_with(b"SIP/2.0 ") {
                phones.answer(line, message);
                continue;
            }
            let Some((at, number)) = named(message) else { continue };
            let Some(slot) = slots.get_mut(at as usize).filter(|slot| slot.number == number) else {
                continue;
            };
            let Some(actor) = slot.busy else { continue };
            let status = status(message);
            if status < 200 {
                continue;
            }
            if operation == Operation::Invite && phones.acknowledge(line, message) {
                continue;
            }
            let is_challenge = status == 401 || status == 407;
            if is_challenge {
                phones.challenged(actor, message);
                measured.challenged += 1;
            }
            if is_challenge && operation.wanted() != status {
                slot.number = phones.next_number();
                phones.send(operation, actor, &branch(at, slot.number), false);
                continue;
            }
            if status == operation.wanted() {
                measured.ended(slot.sent.elapsed());
            } else {
                measured.lost += 1;
            }
            slot.busy = None;
            busy -= 1;
            free.push(at);
        }
    }
    measured.elapsed = begun.elapsed();
    if operation == Operation::Message {
        // A 200 without a message at the other end is none.
        measured.lost += (measured.done() as u64).saturating_sub(phones.reached - reached);
    }
    measured
}

/// The slot and the number within it stand in the branch.
pub fn branch(slot: u32, number: u32) -> String {
    format!("{COOKIE}{slot:08x}{number:08x}.{:08x}", std::process::id())
}

/// Both of them, from a response.
pub fn named(response: &[u8]) -> Option<(u32, u32)> {
    let at = find(response, b"branch=")? + COOKIE.len();
    let digits = |from: usize| {
        let text = std::str::from_utf8(response.get(from..from + 8)?).ok()?;
        u32::from_str_radix(text, 16).ok()
    };
    Some((digits(at)?, digits(at + 8)?))
}

/// The status code; 0 if there is none.
pub fn status(response: &[u8]) -> u16 {
    response.get(8..11).and_then(|code| std::str::from_utf8(code).ok()?.parse().ok()).unwrap_or(0)
}

/// After that an operation counts as lost.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// Between looks at the socket when the loop is paced.
pub const NAP: Duration = Duration::from_micros(50);
/// Operations of one measurement at most.
const MOST: u64 = 2_000_000;
/// Transactions that the server holds for half a minute, of one measurement: it has room for 500,000.
pub const MOST_HELD: u64 = 200_000;

//! One measurement: a window of operations, each begun when one ends (or when its time has come), until the time is up.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use crate::operation::Operation;
use crate::phone::{Actor, Phones, find};
use crate::process::Cpu;

/// How the load is given.
#[derive(Debug, Clone, Copy)]
pub struct Loop {
    /// Operations under way at once, at most.
    pub window: u32,
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
        self.latencies.len()
    }

    /// Counts an operation that ended as it should.
    pub fn ended(&mut self, took: Duration) {
        self.latencies.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    }

    /// Before percentiles are asked for.
    pub fn sort(&mut self) {
        self.latencies.sort_unstable();
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

/// Runs one operation over and over.
pub fn run(phones: &mut Phones, operation: Operation, pace: &Loop) -> Measured {
    let begun = Instant::now();
    let reached = phones.reached;
    let idle = || Slot { busy: None, number: 0, round: 0, sent: begun };
    let mut slots: Vec<Slot> = (0..pace.window).map(|_| idle()).collect();
    let mut free: Vec<u32> = (0..pace.window).rev().collect();
    let mut measured = Measured::default();
    let mut started = 0u64;
    let mut buffer = vec![0; 65_536];
    let most = if pace.rate.is_none() && operation.is_held() { MOST_HELD } else { MOST }.min(pace.most);
    phones.socket.set_nonblocking(pace.rate.is_some()).expect("a mode");
    phones.socket.set_read_timeout(Some(PATIENCE / 10)).expect("a deadline");
    loop {
        let mut now = Instant::now();
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
            phones.send(operation, actor, &branch(at, slot.number), true);
        }
        if slots.iter().all(|slot| slot.busy.is_none()) {
            let ended = elapsed >= pace.seconds || started >= most || free.is_empty();
            if ended {
                break;
            }
        }
        let length = match phones.socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if pace.rate.is_some() {
                    std::thread::sleep(NAP);
                }
                for (at, slot) in (0..).zip(&mut slots) {
                    if slot.busy.is_some() && slot.sent.elapsed() > PATIENCE {
                        slot.busy = None;
                        measured.lost += 1;
                        free.push(at);
                    }
                }
                continue;
            }
            Err(error) => panic!("the server is gone: {error}"),
        };
        let message = &buffer[..length];
        if !message.starts_with(b"SIP/2.0 ") {
            phones.answer(message);
            continue;
        }
        let Some((at, number)) = named(message) else { continue };
        let Some(slot) = slots.get_mut(at as usize).filter(|slot| slot.number == number) else { continue };
        let Some(actor) = slot.busy else { continue };
        let status = status(message);
        if status < 200 {
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
        now = Instant::now();
        if status == operation.wanted() {
            measured.ended(now - slot.sent);
        } else {
            measured.lost += 1;
        }
        slot.busy = None;
        free.push(at);
    }
    measured.elapsed = begun.elapsed();
    if operation == Operation::Message {
        // A 200 without a message at the other end is none.
        measured.lost += (measured.done() as u64).saturating_sub(phones.reached - reached);
    }
    measured.sort();
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

const COOKIE: &str = "z9hG4bK";
/// After that an operation counts as lost.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// Between looks at the socket when the loop is paced.
pub const NAP: Duration = Duration::from_micros(50);
/// Operations of one measurement at most.
const MOST: u64 = 2_000_000;
/// Of operations whose transactions the server holds for half a minute: it has room for 500,000.
pub const MOST_HELD: u64 = 200_000;

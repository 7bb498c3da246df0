//! The table.

use std::fmt::Write;
use std::time::Duration;

use crate::operation::Operation;
use crate::run::Measured;

/// All measurements of a run, in order of their first.
#[derive(Default)]
pub struct Report {
    lines: Vec<Line>,
}

struct Line {
    operation: Operation,
    side: String,
    cores: u32,
    runs: Vec<Measured>,
}

impl Report {
    /// Adds one measurement.
    pub fn add(&mut self, operation: Operation, side: &str, cores: u32, measured: Measured) {
        let known = self.lines.iter_mut().find(|line| line.operation == operation && line.side == side);
        match known {
            Some(line) => line.runs.push(measured),
            None => self.lines.push(Line { operation, side: side.into(), cores, runs: vec![measured] }),
        }
    }

    /// Medians over the repeats; losses and challenges are sums.
    pub fn table(&self) -> String {
        let mut table = format!(
            "{:<20} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>15} {:>6} {:>8} {:>6} {:>6}  server\n",
            "operation",
            "ops/s",
            "p50 us",
            "p99 us",
            "p99.9 us",
            "CPU us",
            "user",
            "system",
            "least..most",
            "busy",
            "db CPU",
            "401s",
            "lost"
        );
        for line in &self.lines {
            let runs = &line.runs;
            let total = per_op(|run| run.server.user + run.server.system);
            let database = match runs.iter().all(|run| run.database.is_some()) {
                true => format!(
                    "{:.1}",
                    median(
                        runs,
                        per_op(|run| run.database.map_or(Duration::ZERO, |cpu| cpu.user + cpu.system))
                    )
                ),
                false => "-".into(),
            };
            let _ = writeln!(
                table,
                "{:<20} {:>9.0} {:>8} {:>8} {:>8} {:>8.2} {:>8.2} {:>8.2} {:>15} {:>6.2} {:>8} {:>6} {:>6}  {}",
                line.operation.name(),
                median(runs, |run| run.done() as f64 / run.elapsed.as_secs_f64()),
                latency(runs, 500),
                latency(runs, 990),
                latency(runs, 999),
                median(runs, total),
                median(runs, per_op(|run| run.server.user)),
                median(runs, per_op(|run| run.server.system)),
                range(runs.iter().map(&total)),
                median(runs, |run| (run.server.user + run.server.system).as_secs_f64()
                    / run.elapsed.as_secs_f64()),
                database,
                runs.iter().map(|run| run.challenged).sum::<u64>(),
                runs.iter().map(|run| run.lost).sum::<u64>(),
                line.side,
            );
        }
        table
    }

    /// What every other server costs beside the one named, databases of their own included.
    pub fn ratios(&self, beside: &str, cores: u32) -> String {
        let mut table = format!(
            "{:<20} {:>10} {:>15} {:>10} {:>15} {:>7} {:>13}  server\n",
            "operation", "CPU us", "least..most", "Kamailio", "least..most", "ratio", "in a pair"
        );
        let cost = per_op(|run| {
            let database = run.database.unwrap_or_default();
            run.server.user + run.server.system + database.user + database.system
        });
        for line in self.lines.iter().filter(|line| line.side != beside && line.cores == cores) {
            let mut others = self.lines.iter().filter(|other| other.side == beside);
            let Some(other) = others.find(|other| other.operation == line.operation) else { continue };
            let (own, its) = (median(&line.runs, cost), median(&other.runs, cost));
            // Both of a pair were measured within seconds of each other.
            let pairs = line.runs.iter().zip(&other.runs).map(|(own, its)| cost(own) / cost(its));
            let _ = writeln!(
                table,
                "{:<20} {own:>10.2} {:>15} {its:>10.2} {:>15} {:>7.2} {:>13}  {}",
                line.operation.name(),
                range(line.runs.iter().map(cost)),
                range(other.runs.iter().map(cost)),
                own / its,
                range(pairs),
                line.side,
            );
        }
        table
    }

    /// What a server does with more cores than another: throughput as measured, and its capacity, which is cores by processor time per
    /// operation.
    pub fn scaling(&self, few: &str, many: &str) -> String {
        let mut table = format!(
            "{:<20} {:>10} {:>10} {:>10} {:>13} {:>10} {:>13}  server\n",
            "operation", "ops/s", "ops/s", "throughput", "in a pair", "capacity", "in a pair"
        );
        let rate = |run: &Measured| run.done() as f64 / run.elapsed.as_secs_f64();
        let cost = per_op(|run| run.server.user + run.server.system);
        for line in self.lines.iter().filter(|line| line.side == few) {
            let mut others = self.lines.iter().filter(|other| other.side == many);
            let Some(other) = others.find(|other| other.operation == line.operation) else { continue };
            let cores = f64::from(other.cores) / f64::from(line.cores);
            let pairs = || line.runs.iter().zip(&other.runs);
            let _ = writeln!(
                table,
                "{:<20} {:>10.0} {:>10.0} {:>10.2} {:>13} {:>10.2} {:>13}  {many} by {few}",
                line.operation.name(),
                median(&line.runs, rate),
                median(&other.runs, rate),
                median(&other.runs, rate) / median(&line.runs, rate),
                range(pairs().map(|(few, many)| rate(many) / rate(few))),
                cores * median(&line.runs, cost) / median(&other.runs, cost),
                range(pairs().map(|(few, many)| cores * cost(few) / cost(many))),
            );
        }
        table
    }
}

/// Microseconds per operation.
fn per_op(time: fn(&Measured) -> Duration) -> impl Fn(&Measured) -> f64 + Copy {
    move |run| time(run).as_secs_f64() * 1e6 / run.done().max(1) as f64
}

/// In microseconds; `-` if the operation has none.
fn latency(runs: &[Measured], per_mille: usize) -> String {
    match runs.iter().any(|run| run.untimed > 0) {
        true => "-".into(),
        false => format!("{:.0}", median(runs, |run| run.percentile(per_mille))),
    }
}

/// The least and the most of some values.
fn range(values: impl Iterator<Item = f64>) -> String {
    let (least, most) = values.fold((f64::MAX, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)));
    format!("{least:.2}..{most:.2}")
}

fn median(runs: &[Measured], value: impl Fn(&Measured) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

//! Arguments, configuration, tracing, and the server until a signal.

use std::error::Error;
use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use hither::cli::{Cli, Start};
use hither::config::LogFormat;

#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let start = match Cli::parse().start(std::env::vars_os()) {
        Ok(start) => start,
        Err(error) => {
            eprintln!("hither: {error}");
            return ExitCode::from(error.exit_code());
        }
    };
    trace(&start);
    let workers = start.config.server.workers();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    match runtime.block_on(run(start)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&*error),
    }
}

async fn run(start: Start) -> Result<(), Box<dyn Error>> {
    let Start { command, config, dev } = start;
    if let Some(command) = command {
        return Ok(command.run(&config).await?);
    }
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    // Before anything else, so that no signal is missed.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    Ok(hither::server::run(config, dev, stop).await?)
}

/// Log lines go to standard error: standard output is for what is asked and for `listening` and `ready`.
/// A command says what it did by itself: only what went wrong is logged.
fn trace(start: &Start) {
    let configured = if start.command.is_none() { start.config.log.filter.as_str() } else { "warn" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(configured));
    let colours = std::io::stderr().is_terminal();
    let lines =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    match start.config.log.format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
}

fn failed(error: &dyn Error) -> ExitCode {
    eprintln!("hither: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        eprintln!("  because: {cause}");
        source = cause.source();
    }
    ExitCode::from(1)
}

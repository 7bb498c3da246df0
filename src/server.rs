//! The composition root.

use crate::cli::dev::Dev;
use crate::config::Config;

/// Why the server ended.
#[derive(Debug, thiserror::Error)]
#[error("the server is not built in")]
pub struct Fault;

/// Runs until `stop`.
pub async fn run(config: Config, dev: Option<Dev>, stop: impl Future<Output = ()>) -> Result<(), Fault> {
    let _ = (config, dev, stop);
    Err(Fault)
}

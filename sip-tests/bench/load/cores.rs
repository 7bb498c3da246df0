//! Who has which processor cores: the server the first ones, the tool the others, or both the same.

use std::path::Path;
use std::process::{Command, Stdio};

/// How the cores are shared out.
#[derive(Debug, Clone)]
pub struct Cores {
    /// Of the server.
    pub number: u32,
    server: String,
    tool: String,
}

impl Cores {
    /// The server has the first `number`, the tool what remains; the very same if nothing remains, or if they are to be `together`.
    pub fn share(number: u32, together: bool) -> Cores {
        let server = format!("0-{}", number - 1);
        let others = format!("{number}-{}", available().saturating_sub(1));
        let tool = if together || number >= available() { server.clone() } else { others };
        Cores { number, server, tool }
    }

    /// How many the server has, in words.
    pub fn name(&self) -> String {
        if self.number == 1 { "1 core".into() } else { format!("{} cores", self.number) }
    }

    /// Binds this process to the tool's cores, and what it starts from now on.
    pub fn pin_self(&self) {
        if has_taskset() {
            let pid = std::process::id().to_string();
            let _ =
                Command::new("taskset").args(["-a", "-cp", &self.tool, &pid]).stdout(Stdio::null()).status();
        }
    }

    /// A server on its cores. `taskset` becomes the program, so its process is the program's.
    pub fn pinned(&self, binary: &Path) -> Command {
        if !has_taskset() {
            return Command::new(binary);
        }
        let mut command = Command::new("taskset");
        command.args(["-c", &self.server]).arg(binary);
        command
    }
}

/// Cores of this machine, also those that this process was kept from.
fn available() -> u32 {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    u32::try_from(text.lines().filter(|line| line.starts_with("processor")).count()).unwrap_or(1).max(1)
}

/// Also true only if there are two cores to choose from.
fn has_taskset() -> bool {
    let found = Command::new("taskset").args(["-c", "1", "true"]).stderr(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

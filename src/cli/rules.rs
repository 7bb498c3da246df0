//! `hither rules`: who may see a user. Through the running server alone, for it is what acts on them.

use std::io::Read as _;
use std::path::PathBuf;

use clap::Subcommand;

use crate::api::control::{Handling, Request};
use crate::cli::user::{self, Fault};
use crate::config::Config;

/// `hither rules alice ..`
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum RulesCommand {
    /// Whom they name, and who asks (as without a command)
    List,
    /// Who asks and waits for an answer
    Pending,
    /// Let somebody see everything
    Allow {
        /// Who (bob, or bob@example.net)
        watcher: String,
    },
    /// Let somebody wait until it is decided
    Confirm {
        /// Who (bob, or bob@example.net)
        watcher: String,
    },
    /// Let somebody see a user who is never there
    PoliteBlock {
        /// Who (bob, or bob@example.net)
        watcher: String,
    },
    /// Refuse somebody
    Block {
        /// Who (bob, or bob@example.net)
        watcher: String,
    },
    /// Say nothing of somebody any more
    Remove {
        /// Who (bob, or bob@example.net)
        watcher: String,
    },
    /// Print the rules as they are kept (RFC 5025)
    Show,
    /// Replace all rules by a document (RFC 5025)
    Replace {
        /// File with the document; `-` is standard input
        file: PathBuf,
    },
}

/// Runs `hither rules ..`.
pub(super) async fn run(user: &str, command: Option<&RulesCommand>, config: &Config) -> Result<(), Fault> {
    let user = user.to_owned();
    let set = |watcher: &String, handling| Request::RulesSet {
        user: user.clone(),
        watcher: watcher.clone(),
        handling,
    };
    let request = match command {
        None | Some(RulesCommand::List) => Request::Rules { user },
        Some(RulesCommand::Pending) => Request::RulesPending { user },
        Some(RulesCommand::Allow { watcher }) => set(watcher, Handling::Allow),
        Some(RulesCommand::Confirm { watcher }) => set(watcher, Handling::Confirm),
        Some(RulesCommand::PoliteBlock { watcher }) => set(watcher, Handling::PoliteBlock),
        Some(RulesCommand::Block { watcher }) => set(watcher, Handling::Block),
        Some(RulesCommand::Remove { watcher }) => Request::RulesRemove { user, watcher: watcher.clone() },
        Some(RulesCommand::Show) => Request::RulesShow { user },
        Some(RulesCommand::Replace { file }) => Request::RulesReplace { user, document: read(file)? },
    };
    user::tell(&request, config).await
}

fn read(file: &PathBuf) -> Result<String, Fault> {
    let mut text = String::new();
    let read = match file.as_os_str() == "-" {
        true => std::io::stdin().read_to_string(&mut text).map(drop),
        false => std::fs::read_to_string(file).map(|read| text = read),
    };
    read.map_err(|error| Fault::Refused(format!("{}: {error}", file.display())))?;
    Ok(text)
}

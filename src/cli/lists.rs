//! `hither lists`: a user's contact lists. Through the running server alone, for it is what hands them to clients.

use clap::Subcommand;

use crate::api::control::Request;
use crate::cli::user::{self, Fault};
use crate::config::Config;

/// `hither lists alice ..`
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ListsCommand {
    /// All lists with who is in them (as without a command)
    List,
    /// Put somebody into a list, which is made if it is not there
    Add {
        /// Name of the list (friends)
        list: String,
        /// Who (bob, or bob@example.net)
        who: String,
    },
    /// Take somebody out of a list, or the whole list away
    Remove {
        /// Name of the list (friends)
        list: String,
        /// Who (bob, or bob@example.net); without it the list goes
        who: Option<String>,
    },
}

/// Runs `hither lists ..`.
pub(super) async fn run(user: &str, command: Option<&ListsCommand>, config: &Config) -> Result<(), Fault> {
    let user = user.to_owned();
    let request = match command {
        None | Some(ListsCommand::List) => Request::Lists { user },
        Some(ListsCommand::Add { list, who }) => {
            Request::ListsAdd { user, list: list.clone(), entry: who.clone() }
        }
        Some(ListsCommand::Remove { list, who }) => {
            Request::ListsRemove { user, list: list.clone(), entry: who.clone() }
        }
    };
    user::tell(&request, config).await
}

//! The command line: what can be typed, and what comes before the server runs.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

use crate::config::{Config, ConfigError};

pub mod dev;
mod explain;
mod lists;
mod message;
mod password;
mod rules;
mod trace;
mod user;

pub use lists::ListsCommand;
pub use message::MessageCommand;
pub use rules::RulesCommand;
pub use user::Fault;

/// A SIP registrar, proxy, presence agent and message service.
///
/// Without a command it runs the server.
#[derive(Debug, Parser)]
#[command(name = "hither", version)]
pub struct Cli {
    /// Configuration file; without it ./hither.toml, else the HITHER__ variables alone
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Complete server to try out: embedded store, two accounts, no configuration
    #[arg(long, global = true)]
    dev: bool,
    /// Where --dev keeps its files; without it ./hither-dev
    #[arg(long, value_name = "DIR", global = true)]
    dir: Option<PathBuf>,
    /// Port of --dev; without it 5060
    #[arg(long, value_name = "N", global = true)]
    port: Option<u16>,
    /// Domain of --dev; without it this machine's address
    #[arg(long, value_name = "DOMAIN", global = true)]
    domain: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Print the configuration that holds, passwords left out
    CheckConfig,
    /// Users: add, list, passwd, remove
    #[command(subcommand)]
    User(UserCommand),
    /// How the running server does
    Status,
    /// Who may see a user: list, pending, allow, confirm, polite-block, block, remove, show, replace
    Rules {
        /// Whose rules (alice)
        user: String,
        /// Without one: whom they name, and who asks
        #[command(subcommand)]
        command: Option<RulesCommand>,
    },
    /// A user's contact lists: list, add, remove
    Lists {
        /// Whose lists (alice)
        user: String,
        /// Without one: all of them
        #[command(subcommand)]
        command: Option<ListsCommand>,
    },
    /// Why a watcher sees what it sees of somebody, and what it is still owed
    Explain {
        /// Who watches (bob)
        #[arg(long, value_name = "USER")]
        watcher: String,
        /// Who is watched (alice)
        #[arg(long, value_name = "USER")]
        presentity: String,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Messages: trace
    #[command(subcommand)]
    Message(MessageCommand),
    /// The last messages of one user
    ///
    /// Failures are always recorded, everything while the user is followed. Bodies and credentials never are.
    Trace {
        /// Whose (bob)
        user: String,
        /// Record everything, and show it as it comes until Ctrl-C
        #[arg(long)]
        follow: bool,
        /// Record everything for so long, to be looked at later
        #[arg(long = "for", value_name = "SECONDS", default_value_t = 0)]
        for_s: u32,
        /// Show every header that is kept
        #[arg(long)]
        headers: bool,
        /// For programs: a JSON object per line
        #[arg(long)]
        json: bool,
    },
}

/// `hither user ..`
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum UserCommand {
    /// Make a user
    Add {
        /// User name (alice)
        name: String,
        /// Where the password comes from
        #[command(flatten)]
        password: PasswordFrom,
    },
    /// All users
    List,
    /// Set a password
    Passwd {
        /// User name (alice)
        name: String,
        /// Where the password comes from
        #[command(flatten)]
        password: PasswordFrom,
    },
    /// Remove a user with registrations, publications and subscriptions
    Remove {
        /// User name (alice)
        name: String,
    },
}

/// Where a password comes from; without either it is asked for, or read from standard input if that is no terminal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::Args)]
pub struct PasswordFrom {
    /// Read the password from standard input (one line)
    #[arg(long)]
    password_stdin: bool,
    /// Make a password and print it
    #[arg(long, conflicts_with = "password_stdin")]
    generate: bool,
}

/// Why nothing runs.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Nobody said how.
    #[error(
        "there is no configuration.\n  to try it out:   hither --dev\n  to run it:       write `domain = \"example.org\"` into ./hither.toml, or set HITHER__DOMAIN,\n                   or name a file with --config FILE"
    )]
    NoConfiguration,
    /// Options that only go together.
    #[error("{0}")]
    Usage(&'static str),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The files or the port of `--dev`.
    #[error(transparent)]
    Dev(#[from] dev::Fault),
}

impl StartError {
    /// 2 for usage and configuration, 1 for the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::NoConfiguration | StartError::Usage(_) | StartError::Config(_) => 2,
            StartError::Dev(_) => 1,
        }
    }
}

/// What is to be done, ready to be done.
#[derive(Debug)]
pub struct Start {
    /// `None`: run the server.
    pub command: Option<Command>,
    /// The checked configuration.
    pub config: Config,
    /// `--dev` without a command: the accounts, and what to tell people.
    pub dev: Option<dev::Dev>,
}

impl Cli {
    /// Loads the configuration; for `--dev` without a command also makes its directory and accounts and looks whether the
    /// port is free.
    ///
    /// # Errors
    /// [`StartError`], with a text for people.
    pub fn start(self, environment: impl Iterator<Item = (OsString, OsString)>) -> Result<Start, StartError> {
        // What is not Unicode is refused by the key it names.
        let environment: Vec<(String, String)> = environment
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect();
        if !self.dev {
            if self.domain.is_some() || self.dir.is_some() || self.port.is_some() {
                return Err(StartError::Usage(ONLY_DEV));
            }
            let config = self.configured(Path::new(DEFAULT_FILE), environment)?;
            return Ok(Start { command: self.command, config, dev: None });
        }
        if self.config.is_some() {
            return Err(StartError::Usage("--dev needs no configuration: leave out --config, or --dev"));
        }
        let domain = self.domain.unwrap_or_else(dev::own_address);
        let dir = self.dir.unwrap_or_else(|| dev::DEFAULT_DIR.into());
        let port = self.port.unwrap_or(dev::DEFAULT_PORT);
        let config = Config::dev(&dir, &domain, port, environment.into_iter())?;
        let dev = match self.command {
            None => Some(dev::Dev::prepare(&dir, &config)?),
            Some(_) => None,
        };
        Ok(Start { command: self.command, config, dev })
    }

    fn configured(&self, beside: &Path, environment: Vec<(String, String)>) -> Result<Config, StartError> {
        let is_set = environment.iter().any(|(name, _)| name.starts_with("HITHER__"));
        let file = match &self.config {
            Some(file) => Some(file.as_path()),
            None if beside.exists() => Some(beside),
            None if is_set => None,
            None => return Err(StartError::NoConfiguration),
        };
        Ok(Config::load(file, environment.into_iter())?)
    }
}

impl Command {
    /// Does it and prints what came of it.
    ///
    /// # Errors
    /// [`Fault`], with a text for people.
    pub async fn run(&self, config: &Config) -> Result<(), Fault> {
        match self {
            Command::CheckConfig => {
                for warning in config.warnings() {
                    eprintln!("hither: warning: {warning}");
                }
                print!("{}", config.to_toml());
                Ok(())
            }
            Command::User(command) => user::run(command, config).await,
            Command::Status => user::status(config).await,
            Command::Rules { user, command } => rules::run(user, command.as_ref(), config).await,
            Command::Lists { user, command } => lists::run(user, command.as_ref(), config).await,
            Command::Explain { watcher, presentity, json } => {
                explain::run(watcher, presentity, *json, config).await
            }
            Command::Message(command) => message::run(command, config).await,
            Command::Trace { user, follow, for_s, headers, json } => {
                let how = trace::How { follow: *follow, for_s: *for_s, headers: *headers, json: *json };
                trace::run(user, how, config).await
            }
        }
    }
}

const DEFAULT_FILE: &str = "hither.toml";
const ONLY_DEV: &str =
    "--domain, --dir and --port belong to --dev; a configuration has `domain`, `database` and `listen`";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    fn start(line: &str, environment: &[(&str, &str)]) -> Result<Start, StartError> {
        parse(line).unwrap().start(environment.iter().map(|(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_read_as_documented() {
        assert_eq!(parse("hither").unwrap().command, None);
        assert_eq!(parse("hither check-config --config x").unwrap().command, Some(Command::CheckConfig));
        assert_eq!(parse("hither user list").unwrap().command, Some(Command::User(UserCommand::List)));
        let password = PasswordFrom { password_stdin: true, generate: false };
        let add = UserCommand::Add { name: "alice".into(), password };
        let parsed = parse("hither --dev user add alice --password-stdin").unwrap();
        assert_eq!((parsed.dev, parsed.command), (true, Some(Command::User(add))));
        let trace = MessageCommand::Trace { id: "a@b".into(), json: true };
        let parsed = parse("hither message trace a@b --json").unwrap();
        assert_eq!(parsed.command, Some(Command::Message(trace)));
        let remove = UserCommand::Remove { name: "alice".into() };
        assert_eq!(parse("hither user remove alice").unwrap().command, Some(Command::User(remove)));
    }

    #[test]
    fn wrong_usage_is_exit_code_2() {
        for line in [
            "hither --nope",
            "hither user",
            "hither user add",
            "hither --port 70000",
            "hither user add a --generate --password-stdin",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
        assert_eq!(start("hither --dev --config x", &[]).unwrap_err().exit_code(), 2);
        assert_eq!(start("hither --domain example.org", &[]).unwrap_err().exit_code(), 2);
        assert_eq!(start("hither --port 5070", &[]).unwrap_err().to_string(), ONLY_DEV);
        assert_eq!(start("hither --config /nowhere/x.toml", &[]).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn a_named_file_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("my.toml");
        std::fs::write(&file, "domain = \"example.org\"").unwrap();
        let start = start(&format!("hither --config {}", file.display()), &[]).unwrap();
        assert_eq!(start.config.domain, "example.org");
        assert!(start.dev.is_none() && start.command.is_none());
    }

    #[test]
    fn without_a_file_the_environment_is_enough_and_nothing_is_not() {
        let nowhere = Path::new("/nowhere/hither.toml");
        let cli = parse("hither").unwrap();
        let environment = vec![("HITHER__DOMAIN".to_owned(), "example.org".to_owned())];
        assert_eq!(cli.configured(nowhere, environment).unwrap().domain, "example.org");
        let error = cli.configured(nowhere, vec![("PATH".into(), "/bin".into())]).unwrap_err();
        assert!(error.to_string().contains("hither --dev"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn dev_is_complete_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("dev");
        let line = format!("hither --dev --dir {} --port 0 --domain 192.0.2.7", at.display());
        let first = start(&line, &[]).unwrap();
        assert_eq!(first.config.domain, "192.0.2.7");
        assert_eq!(first.config.control_socket, at.join("hither.sock"));
        let again = start(&line, &[]).unwrap();
        assert_eq!(first.dev.unwrap().accounts, again.dev.unwrap().accounts);
    }
}

//! What can be wrong with a configuration, in the words of whoever wrote it.

use std::fmt;
use std::path::PathBuf;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{} is not valid TOML: {source}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// The cause, with line and column.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// Everything that is wrong in it.
    #[error("{}", .0.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
    Problems(Vec<Problem>),
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where the value came from.
    pub origin: Origin,
    /// The key with its section (`registration.min_interval_s`).
    pub key: String,
    /// What is wrong with it.
    pub wrong: Wrong,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// A variable of the environment.
    Variable(String),
    /// Nobody set it.
    Default,
}

/// What is wrong with a key or its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// There is no such key.
    Unknown {
        /// The nearest key that exists, if one is near, written as the origin writes it.
        nearest: Option<String>,
    },
    /// Another type is needed.
    Kind {
        /// What is needed ("a whole number").
        expected: &'static str,
        /// What is there ("text").
        found: &'static str,
    },
    /// The value is not acceptable; the text says what would be.
    Value(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::File(path) => write!(f, "{}: `{}`", path.display(), self.key)?,
            Origin::Variable(name) => write!(f, "environment variable {name}: `{}`", self.key)?,
            Origin::Default => write!(f, "`{}`", self.key)?,
        }
        match &self.wrong {
            Wrong::Unknown { nearest: Some(nearest) } => {
                write!(f, " is not a known key; did you mean `{nearest}`?")
            }
            Wrong::Unknown { nearest: None } => write!(f, " is not a known key"),
            Wrong::Kind { expected, found } => write!(f, " must be {expected}, not {found}"),
            Wrong::Value(reason) => write!(f, " {reason}"),
        }
    }
}

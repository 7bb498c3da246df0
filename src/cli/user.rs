//! `hither user` and `hither status`: through the running server if there is one, else on the store itself.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::api::control::{self, Request, Response};
use crate::api::users;
use crate::cli::UserCommand;
use crate::cli::password::{self, PasswordError};
use crate::config::Config;
use crate::model::Timestamp;
use crate::store::{self, Store};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// No password.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] control::Fault),
    /// Another process has the store, yet nobody answers.
    #[error(
        "the store is in use by another process, and no server answers on {0}; is its `control_socket` another one, or does it start or stop right now?"
    )]
    InUse(String),
    /// The store.
    #[error("{}", users::told(.0))]
    Store(store::Fault),
    /// It was refused; the text says why.
    #[error("{0}")]
    Refused(String),
}

/// Runs `hither user ..`.
pub(super) async fn run(command: &UserCommand, config: &Config) -> Result<(), Fault> {
    let mut made = None;
    let mut obtain = |from| {
        let (password, is_made) = password::obtain(from)?;
        made = is_made.then(|| password.clone());
        Ok::<_, PasswordError>(password)
    };
    let request = match command {
        UserCommand::Add { name, password } => {
            Request::UserAdd { user: name.clone(), password: obtain(*password)? }
        }
        UserCommand::Passwd { name, password } => {
            Request::UserPasswd { user: name.clone(), password: obtain(*password)? }
        }
        UserCommand::Remove { name } => Request::UserRemove { user: name.clone() },
        UserCommand::List => Request::UserList {},
    };
    println!("{}", shown(&answer(&request, config).await?)?);
    if let Some(password) = made {
        println!("password: {}", password.0);
    }
    Ok(())
}

/// Asks the running server and prints what it did.
pub(super) async fn tell(request: &Request, config: &Config) -> Result<(), Fault> {
    match control::ask(&config.control_socket, request).await? {
        Response::Error { text, .. } => Err(Fault::Refused(text)),
        Response::Done { text } => {
            println!("{text}");
            Ok(())
        }
        Response::Users { .. }
        | Response::Status { .. }
        | Response::Explained { .. }
        | Response::Traced { .. }
        | Response::MessageTraced { .. } => Err(control::Fault::Mute(config.control_socket.clone()).into()),
    }
}

/// Runs `hither status`.
pub(super) async fn status(config: &Config) -> Result<(), Fault> {
    println!("{}", shown(&control::ask(&config.control_socket, &Request::Status {}).await?)?);
    Ok(())
}

async fn answer(request: &Request, config: &Config) -> Result<Response, Fault> {
    match control::ask(&config.control_socket, request).await {
        Err(control::Fault::Nobody(_)) => {}
        asked => return Ok(asked?),
    }
    let store = Store::open(&config.target()).await.map_err(|fault| match fault {
        store::Fault::InUse => Fault::InUse(config.control_socket.display().to_string()),
        other => Fault::Store(other),
    })?;
    let response = users::perform(&store, &config.domain, request, now(), &|_| {}).await;
    store.close().await;
    Ok(response)
}

/// What the operator sees.
fn shown(response: &Response) -> Result<String, Fault> {
    match response {
        Response::Done { text } => Ok(text.clone()),
        Response::Users { users } if users.is_empty() => {
            Ok("no users; `hither user add NAME` makes one".into())
        }
        Response::Users { users } => {
            let width = users.iter().map(|user| user.aor.len()).max().unwrap_or(0);
            let line = |user: &users::UserLine| format!("{:width$}  {}", user.aor, user.created_at);
            Ok(users.iter().map(line).collect::<Vec<_>>().join("\n"))
        }
        Response::Status { values } => {
            let line = |(name, value): (&String, &serde_json::Value)| match value.as_str() {
                Some(text) => format!("{name}: {text}"),
                None => format!("{name}: {value}"),
            };
            Ok(values.iter().map(line).collect::<Vec<_>>().join("\n"))
        }
        // Nobody asks for them here.
        Response::Explained { .. } | Response::Traced { .. } | Response::MessageTraced { .. } => {
            Ok(String::new())
        }
        Response::Error { text, .. } => Err(Fault::Refused(text.clone())),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a command is the edge of the program: it reads the clock once"
)]
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::control::Reason;
    use crate::api::users::UserLine;

    #[test]
    fn users_are_listed_in_columns() {
        let user = |aor: &str| UserLine { aor: aor.into(), created_at: "2026-11-20T23:29:15Z".into() };
        let users = vec![user("al@example.org"), user("alice@example.org")];
        assert_eq!(
            shown(&Response::Users { users }).unwrap(),
            "al@example.org     2026-11-20T23:29:15Z\nalice@example.org  2026-11-20T23:29:15Z"
        );
        assert!(shown(&Response::Users { users: Vec::new() }).unwrap().contains("hither user add"));
    }

    #[test]
    fn a_refusal_is_a_failure() {
        let refused = Response::Error { reason: Reason::NotFound, text: "there is no user x@y".into() };
        assert_eq!(shown(&refused).unwrap_err().to_string(), "there is no user x@y");
    }

    #[test]
    fn status_is_a_line_per_value() {
        let serde_json::Value::Object(values) = serde_json::json!({"domain": "example.org", "homes": 3})
        else {
            unreachable!()
        };
        assert_eq!(shown(&Response::Status { values }).unwrap(), "domain: example.org\nhomes: 3");
    }
}

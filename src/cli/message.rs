//! `hither message`: what became of a message, for people or as a JSON object per message for programs.

use clap::Subcommand;

use crate::api::control::{self, Request, Response};
use crate::api::message::{MessageLine, StepLine};
use crate::cli::user::Fault;
use crate::config::Config;

/// `hither message ..`
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum MessageCommand {
    /// What became of a message: from its sender to the store, to devices and their answers
    ///
    /// The last few thousand are remembered until the server is started again; of those that are stored, what is owed is always known. Texts never are.
    Trace {
        /// Message-ID of IMDN, Call-ID of the sender, or the server's own id
        id: String,
        /// For programs
        #[arg(long)]
        json: bool,
    },
}

/// Asks the running server and prints.
pub(super) async fn run(command: &MessageCommand, config: &Config) -> Result<(), Fault> {
    let MessageCommand::Trace { id, json } = command;
    match control::ask(&config.control_socket, &Request::MessageTrace { name: id.clone() }).await? {
        Response::MessageTraced { messages } => {
            for message in &messages {
                match json {
                    true => println!("{}", serde_json::to_string(message).unwrap_or_default()),
                    false => print!("{}", text(message)),
                }
            }
            Ok(())
        }
        Response::Error { text, .. } => Err(Fault::Refused(text)),
        Response::Done { .. }
        | Response::Users { .. }
        | Response::Status { .. }
        | Response::Explained { .. }
        | Response::Traced { .. } => Err(control::Fault::Mute(config.control_socket.clone()).into()),
    }
}

fn text(message: &MessageLine) -> String {
    let MessageLine { id, call_id, sender, recipient, kind, bytes, .. } = message;
    let mut lines = vec![
        format!("{kind} of {bytes} bytes from {sender} to {recipient}"),
        format!("  id {id}"),
        format!("  Call-ID {call_id}"),
    ];
    lines.extend(message.message_id.iter().map(|id| format!("  Message-ID {id}")));
    lines.extend(message.steps.iter().map(|step| format!("  {}  {}", step.at, what(step))));
    if message.left_out > 0 {
        lines.push(format!("  {} steps after the first ones are not kept any more", message.left_out));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn what(step: &StepLine) -> String {
    let about = step.about.as_deref().unwrap_or_default();
    let status = step.status.unwrap_or_default();
    match step.what.as_str() {
        "came" => format!("came by {about}"),
        "waits" => "waits: another message for this user is on its way".to_owned(),
        "stores" => "put before the store".to_owned(),
        "not stored" => format!("not stored ({status})"),
        "found" => "found in the store, and not remembered".to_owned(),
        "picked" => "taken from the store to be sent".to_owned(),
        "sent" => format!("sent to {about}"),
        "said" => format!("{about} said {status}"),
        "failed" if status == 408 => format!("{about} was silent"),
        "failed" => format!("{about} could not be reached ({status})"),
        "answered" => format!("the sender was answered {status}"),
        "kept" => "no device took it now: it is tried again".to_owned(),
        "delivered" => "delivered, and gone from the store".to_owned(),
        "given up" => "refused for good by every device, and gone from the store".to_owned(),
        "expired" => "expired, and gone from the store".to_owned(),
        "unreadable" => "did not read back from the store".to_owned(),
        "receipt" => format!("receipt: {about}"),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_from_its_sender_to_its_devices() {
        let step = |at: &str, what: &str, about: Option<&str>, status| StepLine {
            at: at.to_owned(),
            what: what.to_owned(),
            about: about.map(ToOwned::to_owned),
            status,
        };
        let message = MessageLine {
            id: "07".to_owned(),
            call_id: "a@b".to_owned(),
            message_id: Some("34jk324j".to_owned()),
            sender: "alice@example.org".to_owned(),
            recipient: "bob@example.org".to_owned(),
            kind: "text".to_owned(),
            bytes: 5,
            steps: vec![
                step("t1", "came", Some("udp"), None),
                step("t2", "failed", Some("sip:bob@192.0.2.9"), Some(408)),
                step("t3", "answered", None, Some(202)),
            ],
            left_out: 0,
        };
        let expected = "text of 5 bytes from alice@example.org to bob@example.org\n  id 07\n  Call-ID a@b\n  Message-ID 34jk324j\n  \
                        t1  came by udp\n  t2  sip:bob@192.0.2.9 was silent\n  t3  the sender was answered 202\n";
        assert_eq!(text(&message), expected);
    }
}

//! `hither message trace`: what became of one message.

use serde::{Deserialize, Serialize};

use crate::api::control::{Reason, Response};
use crate::messaging::Messaging;
use crate::messaging::admission::Kind;
use crate::messaging::trace::{Step, Traced};

/// One message; its text is not in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageLine {
    /// Ours; the Call-ID towards devices is made of it if the message was stored.
    pub id: String,
    /// Of the sender's request.
    pub call_id: String,
    /// `imdn.Message-ID` (RFC 5438 6.3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Who sent it.
    pub sender: String,
    /// For whom it is.
    pub recipient: String,
    /// `text`, `typing`, `notification`.
    pub kind: String,
    /// Bytes of its body, which is not kept here.
    pub bytes: usize,
    /// What happened, in order.
    pub steps: Vec<StepLine>,
    /// Steps between the first and the last that are not kept any more.
    pub left_out: u32,
}

/// What happened to a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepLine {
    /// When (RFC 3339, milliseconds).
    pub at: String,
    /// What, in one word or two: `came`, `waits`, `stores`, `stored`, `not stored`, `found`, `picked`, `sent`, `said`, `failed`, `answered`, `kept`,
    /// `delivered`, `given up`, `expired`, `unreadable`, `receipt`.
    pub what: String,
    /// The URI of a device, or the transport by which it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// A status code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

/// What is known of messages with this name: our id, the sender's Call-ID, or the Message-ID.
pub async fn answer(messaging: &Messaging, name: &str) -> Response {
    let messages: Vec<MessageLine> = messaging.find(name.trim()).await.iter().map(|one| line(one)).collect();
    if messages.is_empty() {
        let text = "no message with this id is stored or remembered: the last few thousand are, since the server was started";
        return Response::Error { reason: Reason::NotFound, text: text.to_owned() };
    }
    Response::MessageTraced { messages }
}

fn line(traced: &Traced) -> MessageLine {
    let (steps, left_out) = traced.taken();
    let about = &traced.about;
    let kind = match about.kind {
        Kind::Text => "text",
        Kind::Typing => "typing",
        Kind::Notification => "notification",
    };
    MessageLine {
        id: about.id.to_string(),
        call_id: about.call_id.to_string(),
        message_id: about.message_id.as_ref().map(ToString::to_string),
        sender: about.sender.to_string(),
        recipient: about.recipient.to_string(),
        kind: kind.to_owned(),
        bytes: about.bytes,
        steps: steps.into_iter().map(|(at, step)| step_line(at.rfc3339_ms(), step)).collect(),
        left_out,
    }
}

fn step_line(at: String, step: Step) -> StepLine {
    let (what, about, status) = match step {
        Step::Came(transport) => ("came", Some(transport.param().to_owned()), None),
        Step::Waits => ("waits", None, None),
        Step::Stores => ("stores", None, None),
        Step::Stored => ("stored", None, None),
        Step::NotStored(status) => ("not stored", None, Some(status)),
        Step::Found => ("found", None, None),
        Step::Picked => ("picked", None, None),
        Step::Sent(device) => ("sent", Some(device.to_string()), None),
        Step::Ended(device, status, false) => ("said", Some(device.to_string()), Some(status)),
        Step::Ended(device, status, true) => ("failed", Some(device.to_string()), Some(status)),
        Step::Answered(status) => ("answered", None, Some(status)),
        Step::Kept => ("kept", None, None),
        Step::Delivered => ("delivered", None, None),
        Step::GivenUp => ("given up", None, None),
        Step::Expired => ("expired", None, None),
        Step::Unreadable => ("unreadable", None, None),
        Step::Receipt(what) => ("receipt", Some(what.to_string()), None),
    };
    StepLine { at, what: what.to_owned(), about, status: status.map(|status| status.code()) }
}

//! `hither trace`: messages of one user as a ladder for people, or as a JSON object per line for programs.

use std::io::Write;
use std::time::Duration;

use crate::api::control::{self, Request, Response};
use crate::api::trace::TraceLine;
use crate::cli::user::Fault;
use crate::config::Config;

/// What to print, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    /// Go on until somebody stops it.
    pub(super) follow: bool,
    /// Record for so many seconds from now on.
    pub(super) for_s: u32,
    /// Every header that is kept.
    pub(super) headers: bool,
    /// For programs.
    pub(super) json: bool,
}

/// Asks the running server and prints.
pub(super) async fn run(user: &str, how: How, config: &Config) -> Result<(), Fault> {
    let (mut after, mut was_there, mut is_mute) = (0, false, false);
    loop {
        let follow_s = if how.follow { how.for_s.max(LEASE_S) } else { how.for_s };
        let request = Request::Trace { user: user.to_owned(), after, follow_s };
        let answer = match control::ask(&config.control_socket, &request).await {
            Ok(answer) => answer,
            // A server that is started again is what people want to see.
            Err(control::Fault::Nobody(_) | control::Fault::Mute(_)) if how.follow && was_there => {
                if !is_mute {
                    eprintln!("hither: the server does not answer");
                }
                is_mute = true;
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(fault) => return Err(fault.into()),
        };
        (was_there, is_mute) = (true, false);
        let (messages, following_s) = match answer {
            Response::Traced { messages, following_s } => (messages, following_s),
            Response::Error { text, .. } => return Err(Fault::Refused(text)),
            Response::Done { .. }
            | Response::Users { .. }
            | Response::Status { .. }
            | Response::Explained { .. }
            | Response::MessageTraced { .. } => {
                return Err(control::Fault::Mute(config.control_socket.clone()).into());
            }
        };
        let mut out = std::io::stdout().lock();
        for message in &messages {
            let text = match how.json {
                true => serde_json::to_string(message).unwrap_or_default(),
                false => rung(message, how.headers),
            };
            if writeln!(out, "{text}").is_err() {
                // Whoever read it has gone.
                return Ok(());
            }
        }
        let _ = out.flush();
        drop(out);
        after = messages.last().map_or(after, |message| message.number);
        if !how.follow {
            if !how.json {
                eprintln!("{}", ending(user, messages.is_empty(), following_s));
            }
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn ending(user: &str, is_empty: bool, following_s: u32) -> String {
    match (is_empty, following_s) {
        (true, 0) => {
            format!(
                "nothing is recorded of {user}; `hither trace {user} --follow` shows what comes from now on"
            )
        }
        (false, 0) => {
            format!("only failures were recorded since; `hither trace {user} --follow` shows everything")
        }
        (_, left) => format!("everything of {user} is recorded for {left} s yet"),
    }
}

/// One message: time, peer, which way, first line; below it what says how it went.
fn rung(message: &TraceLine, all_headers: bool) -> String {
    let TraceLine { transport, remote, line, body_bytes, .. } = message;
    let time = message.at.split(['T', 'Z']).nth(1).unwrap_or(&message.at);
    let arrow = match message.direction.as_str() {
        "in" => "---->",
        "out" => "<----",
        _ => "<-- x",
    };
    let peer = format!("{transport}:{remote}");
    let mut text = format!("{time}  {peer:<26} {arrow}  {line}");
    let shown = message.headers.iter().filter(|(name, _)| all_headers || SHOWN.contains(&name.as_str()));
    let shown: Vec<String> = shown.map(|(name, value)| format!("{name}: {value}")).collect();
    let margin = " ".repeat(48);
    if all_headers {
        shown.iter().for_each(|header| text.extend(["\n", &margin, header]));
    } else if !shown.is_empty() {
        text.extend(["\n", &margin, &shown.join("  ")]);
    }
    if *body_bytes > 0 {
        text.extend(["\n", &margin, &format!("({body_bytes} bytes of body)")]);
    }
    text
}

/// Without `--headers`.
const SHOWN: [&str; 10] = [
    "CSeq",
    "Call-ID",
    "Event",
    "Subscription-State",
    "Expires",
    "Min-Expires",
    "SIP-ETag",
    "Retry-After",
    "Reason",
    "Warning",
];
/// From one question to the next.
const PAUSE: Duration = Duration::from_millis(300);
/// How long the server goes on recording when nobody asks any more.
const LEASE_S: u32 = 15;

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> TraceLine {
        TraceLine {
            number: 7,
            at: "2026-11-20T23:29:15.123Z".into(),
            direction: "in".into(),
            transport: "udp".into(),
            local: "192.0.2.1:5060".into(),
            remote: "192.0.2.7:5062".into(),
            line: "SUBSCRIBE sip:alice@example.org".into(),
            headers: vec![
                ("From".into(), "<sip:bob@example.org>".into()),
                ("CSeq".into(), "1 SUBSCRIBE".into()),
                ("Event".into(), "presence".into()),
            ],
            body_bytes: 0,
        }
    }

    #[test]
    fn a_ladder_has_a_rung_per_message() {
        let margin = " ".repeat(48);
        assert_eq!(
            rung(&message(), false),
            format!(
                "23:29:15.123  udp:192.0.2.7:5062         ---->  SUBSCRIBE sip:alice@example.org\n\
                 {margin}CSeq: 1 SUBSCRIBE  Event: presence"
            )
        );
        let out = rung(&TraceLine { direction: "out".into(), body_bytes: 12, ..message() }, true);
        assert!(out.contains("<----") && out.contains("(12 bytes of body)"), "{out}");
        assert!(out.contains(&format!("\n{margin}From: <sip:bob@example.org>\n")), "{out}");
        let unsent = TraceLine { direction: "unsent".into(), ..message() };
        assert!(rung(&unsent, false).contains("<-- x"));
    }

    #[test]
    fn what_is_not_recorded_is_said() {
        assert!(ending("bob", true, 0).contains("hither trace bob --follow"));
        assert!(ending("bob", false, 30).contains("30 s"));
    }
}

//! `hither explain`: what the server says, as text for people or JSON for programs.

use crate::api::control::{self, Request, Response};
use crate::api::explain::{Explanation, Source, Subscribed};
use crate::cli::user::Fault;
use crate::config::Config;

/// Asks the running server and prints.
pub(super) async fn run(watcher: &str, presentity: &str, json: bool, config: &Config) -> Result<(), Fault> {
    let request = Request::Explain { watcher: watcher.to_owned(), presentity: presentity.to_owned() };
    match control::ask(&config.control_socket, &request).await? {
        Response::Explained { explanation } if json => {
            println!("{}", serde_json::to_string_pretty(&explanation).unwrap_or_default());
            Ok(())
        }
        Response::Explained { explanation } => {
            print!("{}", text(&explanation));
            Ok(())
        }
        Response::Error { text, .. } => Err(Fault::Refused(text)),
        Response::Done { .. }
        | Response::Users { .. }
        | Response::Status { .. }
        | Response::Traced { .. }
        | Response::MessageTraced { .. } => Err(control::Fault::Mute(config.control_socket.clone()).into()),
    }
}

fn text(explanation: &Explanation) -> String {
    let Explanation { watcher, presentity, because, .. } = explanation;
    let mut lines = vec![match explanation.sees.as_str() {
        "full" => format!("{watcher} sees all of {presentity}: {because}"),
        "part" => format!("{watcher} sees a part of {presentity}: {because}"),
        "unavailable" => {
            format!("{watcher} sees {presentity} as somebody who is not there (polite-block): {because}")
        }
        "basic" => format!("{watcher} sees whether {presentity} is open or closed: {because}"),
        "pending" => format!("{watcher} sees nothing of {presentity} yet: {because}"),
        _ => format!("{watcher} sees nothing of {presentity}: {because}"),
    }];
    if !explanation.rules.is_empty() {
        lines.push(format!("rules of {presentity} that match: {}", explanation.rules.join(", ")));
    }
    let others = explanation.packages.iter().filter(|other| other.because != *because);
    lines.extend(others.map(|other| format!("in {}: {} ({})", other.package, other.sees, other.because)));
    let state = if explanation.open { "open" } else { "closed" };
    match explanation.sources.as_slice() {
        [] => lines.push(format!("{presentity} is {state}: nothing is registered, nothing published")),
        sources => {
            lines.push(format!("{presentity} is {state}; its sources:"));
            lines.extend(sources.iter().map(source));
        }
    }
    if explanation.subscriptions.is_empty() {
        lines.push(format!("{watcher} does not watch {presentity} now"));
    }
    for subscription in &explanation.subscriptions {
        lines.extend(subscribed(subscription));
    }
    if let Some(next) = &explanation.next {
        lines.push(format!("next: {} {} ends in {} s unless refreshed", next.kind, next.what, next.in_s));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn source(source: &Source) -> String {
    let Source { kind, what, device, since, changed, expires_in_s, .. } = source;
    let tag = source.tag.as_ref().map(|tag| format!(", entity-tag {tag}")).unwrap_or_default();
    let content_type = source.content_type.as_ref().map(|kind| format!(", {kind}")).unwrap_or_default();
    let flow = source.flow.as_ref().map(|flow| format!(" over {flow}")).unwrap_or_default();
    let which = format!("{what}{tag}{content_type}{flow}, {device}");
    let ends = expires_in_s.map(|in_s| format!(", ends in {in_s} s")).unwrap_or_default();
    format!("  {kind} {which}\n    since {since}, last changed {changed}{ends}")
}

fn subscribed(subscription: &Subscribed) -> Vec<String> {
    let Subscribed { id, package, target, flow, call_id, since, expires_in_s, says, .. } = subscription;
    let end = if subscription.lives { format!("ends in {expires_in_s} s") } else { "has ended".to_owned() };
    let event = match &subscription.event_id {
        Some(event_id) => format!("{package};id={event_id}"),
        None => package.clone(),
    };
    let mut lines = vec![
        format!("subscription {id} ({event}), since {since}, {end}"),
        format!("  to {target} over {flow}, Call-ID {call_id}"),
    ];
    if let Some(last) = &subscription.last {
        let answer = match (&last.answer, &last.answered_at) {
            (Some(answer), Some(at)) => format!("answered {answer} at {at}"),
            (Some(answer), None) => answer.clone(),
            (None, _) => "not answered yet".to_owned(),
        };
        lines.push(format!("  last NOTIFY: CSeq {}, {}, sent {}, {answer}", last.cseq, last.state, last.at));
    }
    let owed = if subscription.owed { "a NOTIFY is owed" } else { "nothing is owed" };
    lines.push(format!("  {owed}: {says}"));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::explain::{LastNotify, Next, Sees};

    fn explanation() -> Explanation {
        Explanation {
            watcher: "bob@example.org".into(),
            presentity: "alice@example.org".into(),
            at: "2026-11-20T23:29:15.123Z".into(),
            sees: "full".into(),
            rule: "reciprocal".into(),
            because: "alice@example.org watches bob@example.org too".into(),
            rules: vec!["friends".into(), "work".into()],
            packages: vec![Sees {
                package: "message-summary".into(),
                sees: "rejected".into(),
                rule: "private".into(),
                because: "only alice@example.org sees it".into(),
            }],
            open: true,
            sources: vec![Source {
                kind: "publication".into(),
                what: "presence".into(),
                device: "Call-ID p".into(),
                flow: Some("udp:192.0.2.9:5060".into()),
                content_type: Some("application/pidf+xml".into()),
                tag: Some("0f".into()),
                since: "2026-11-20T23:00:00Z".into(),
                changed: "2026-11-20T23:01:00Z".into(),
                expires_in_s: Some(60),
            }],
            subscriptions: vec![Subscribed {
                id: "hither-05".into(),
                package: "presence".into(),
                event_id: None,
                lives: true,
                target: "sip:bob@192.0.2.7".into(),
                flow: "udp:192.0.2.7:5060".into(),
                call_id: "c".into(),
                subscribe_cseq: 1,
                reserved_cseq: 64,
                since: "2026-11-20T23:00:00Z".into(),
                expires_in_s: 600,
                last: Some(LastNotify {
                    cseq: 3,
                    state: "active".into(),
                    at: "2026-11-20T23:01:00.001Z".into(),
                    answer: None,
                    answered_at: None,
                }),
                owed: true,
                waits_for: "answer".into(),
                waits_s: None,
                says: "the answer to NOTIFY 3 is awaited".into(),
            }],
            next: Some(Next { kind: "publication".into(), what: "0f".into(), in_s: 60 }),
        }
    }

    #[test]
    fn an_explanation_reads_from_the_rule_to_what_is_next() {
        assert_eq!(
            text(&explanation()),
            "bob@example.org sees all of alice@example.org: alice@example.org watches bob@example.org too\n\
             rules of alice@example.org that match: friends, work\n\
             in message-summary: rejected (only alice@example.org sees it)\n\
             alice@example.org is open; its sources:\n\
             \u{20} publication presence, entity-tag 0f, application/pidf+xml over udp:192.0.2.9:5060, Call-ID p\n\
             \u{20}   since 2026-11-20T23:00:00Z, last changed 2026-11-20T23:01:00Z, ends in 60 s\n\
             subscription hither-05 (presence), since 2026-11-20T23:00:00Z, ends in 600 s\n\
             \u{20} to sip:bob@192.0.2.7 over udp:192.0.2.7:5060, Call-ID c\n\
             \u{20} last NOTIFY: CSeq 3, active, sent 2026-11-20T23:01:00.001Z, not answered yet\n\
             \u{20} a NOTIFY is owed: the answer to NOTIFY 3 is awaited\n\
             next: publication 0f ends in 60 s unless refreshed\n"
        );
    }

    #[test]
    fn nobody_and_nothing_are_said_too() {
        let nothing = Explanation {
            sees: "pending".into(),
            open: false,
            sources: Vec::new(),
            subscriptions: Vec::new(),
            next: None,
            ..explanation()
        };
        let text = text(&nothing);
        assert!(text.contains("sees nothing of alice@example.org yet"), "{text}");
        assert!(text.contains("is closed: nothing is registered, nothing published"), "{text}");
        assert!(text.contains("bob@example.org does not watch alice@example.org now"), "{text}");
    }
}

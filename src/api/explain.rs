//! `hither explain`: why a watcher sees what it sees of a presentity, and what it is still owed.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::api::control::{Reason, Response};
use crate::api::users;
use crate::auth::Accounts;
use crate::availability::composition::compose;
use crate::availability::hard_state;
use crate::availability::view::{DomainDefault, Grant, Rule};
use crate::model::{Aor, HomeState, Timestamp};
use crate::presence::Presence;
use crate::presence::dialog::{Outlook, PutOff, State, Wait};
use crate::presence::explain::{Decided, Explained, Heard, Told, Watched};
use crate::presence::subscribe::gr;

/// The answer, in words for programs; instants are RFC 3339, spans seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Who watches.
    pub watcher: String,
    /// Who is watched.
    pub presentity: String,
    /// When this was so.
    pub at: String,
    /// In `presence`: `full`, `part`, `basic`, `unavailable`, `pending` or `rejected`.
    pub sees: String,
    /// Which rule says so: `own`, `denied`, `owner`, `nameless`, `foreign`, `reciprocal`, `confirm`, `basic`, `full`.
    pub rule: String,
    /// The same as a sentence.
    pub because: String,
    /// Ids of the presentity's own rules that match the watcher; what they grant is added up.
    pub rules: Vec<String>,
    /// The same for every event package.
    pub packages: Vec<Sees>,
    /// Does the presentity's state say open?
    pub open: bool,
    /// What the state is made of, oldest first.
    pub sources: Vec<Source>,
    /// The watcher's subscriptions to the presentity.
    pub subscriptions: Vec<Subscribed>,
    /// What ends next of all this.
    pub next: Option<Next>,
}

/// What the watcher sees in one package.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sees {
    /// Event package.
    pub package: String,
    /// As in [`Explanation`].
    pub sees: String,
    /// As in [`Explanation`].
    pub rule: String,
    /// As in [`Explanation`].
    pub because: String,
}

/// A registration or a publication.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// `registration`, `publication` or `document`.
    pub kind: String,
    /// Contact, or event package.
    pub what: String,
    /// What is known of the device: User-Agent of a registration; instance of a publisher, or Call-ID of the PUBLISH.
    pub device: String,
    /// The way it came.
    pub flow: Option<String>,
    /// Media type, of a publication.
    pub content_type: Option<String>,
    /// Entity-tag, of a publication.
    pub tag: Option<String>,
    /// Since when it is there.
    pub since: String,
    /// When it changed last.
    pub changed: String,
    /// Ends in so many seconds; what was set by hand does not.
    pub expires_in_s: Option<u32>,
}

/// One subscription.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subscribed {
    /// As in the `gr` of its Contact.
    pub id: String,
    /// Event package.
    pub package: String,
    /// `id` of Event.
    pub event_id: Option<String>,
    /// `false`: it has ended, and only the answer to its last NOTIFY is awaited.
    pub lives: bool,
    /// Where its NOTIFYs go.
    pub target: String,
    /// Over which way the last SUBSCRIBE came.
    pub flow: String,
    /// Call-ID of the dialog.
    pub call_id: String,
    /// CSeq number of the last SUBSCRIBE.
    pub subscribe_cseq: u32,
    /// After a restart, NOTIFYs go on above this number.
    pub reserved_cseq: u32,
    /// Since when it is there.
    pub since: String,
    /// Ends in so many seconds.
    pub expires_in_s: u32,
    /// The last NOTIFY of this run.
    pub last: Option<LastNotify>,
    /// Is a NOTIFY owed that has not gone?
    pub owed: bool,
    /// `nothing`, `answer`, `row`, `numbers`, `turn`, `retry_after`, `refusal`, `room`, `pacing` or `store`.
    pub waits_for: String,
    /// For so long yet, if that is known.
    pub waits_s: Option<f64>,
    /// The same as a sentence.
    pub says: String,
}

/// A NOTIFY, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastNotify {
    /// CSeq number.
    pub cseq: u32,
    /// Subscription-State: `active`, `pending`, `terminated;reason=..`.
    pub state: String,
    /// When it was sent.
    pub at: String,
    /// A status, `no answer`, `undelivered` or `not sent`; none yet.
    pub answer: Option<String>,
    /// When that was known.
    pub answered_at: Option<String>,
}

/// What ends next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Next {
    /// `registration`, `publication` or `subscription`.
    pub kind: String,
    /// Which.
    pub what: String,
    /// In so many seconds.
    pub in_s: u32,
}

/// What is known when it is asked.
#[derive(Debug, Clone, Copy)]
pub struct When {
    /// Wall time.
    pub now: Timestamp,
    /// The same instant, monotonic.
    pub instant: Instant,
    /// Is the store away?
    pub is_out: bool,
}

/// Answers the question.
pub fn answer(
    presence: &Presence,
    accounts: &Accounts,
    domain: &str,
    watcher: &str,
    presentity: &str,
    when: When,
) -> Response {
    let refused = |reason, text: String| Response::Error { reason, text };
    let presentity = match users::aor(presentity, domain) {
        Ok(aor) if accounts.exists(&aor) => aor,
        Ok(aor) => return refused(Reason::NotFound, format!("there is no user {aor}")),
        Err(error) => return refused(Reason::Invalid, error.to_string()),
    };
    // Watchers may be of other domains.
    let elsewhere = Aor::from_stored(watcher.strip_prefix("sip:").unwrap_or(watcher));
    let watcher = match (users::aor(watcher, domain), elsewhere) {
        (Ok(aor), _) if accounts.exists(&aor) => aor,
        (Ok(aor), _) => return refused(Reason::NotFound, format!("there is no user {aor}")),
        (Err(_), Some(aor)) if aor.domain() != domain => aor,
        (Err(error), _) => return refused(Reason::Invalid, error.to_string()),
    };
    let explained = presence.explain(&watcher, &presentity, when.now);
    Response::Explained { explanation: Box::new(explain(&explained, &watcher, &presentity, when)) }
}

/// Puts it into words.
pub fn explain(explained: &Explained, watcher: &Aor, presentity: &Aor, when: When) -> Explanation {
    let sources = sources(&explained.home, when.now);
    let subscriptions: Vec<_> = explained.watches.iter().map(|watched| subscribed(watched, when)).collect();
    let next_source = sources
        .iter()
        .filter_map(|s| Some((s.expires_in_s?, s.kind.as_str(), s.tag.as_ref().unwrap_or(&s.what))));
    let lives = subscriptions.iter().filter(|s| s.lives);
    let next = next_source
        .chain(lives.map(|s| (s.expires_in_s, "subscription", &s.id)))
        .min_by_key(|(in_s, ..)| *in_s)
        .map(|(in_s, kind, what)| Next { kind: kind.to_owned(), what: what.clone(), in_s });
    let packages: Vec<_> =
        explained.packages.iter().map(|decided| sees(decided, watcher, presentity)).collect();
    // It is the first of them.
    let presence = packages.first().cloned().unwrap_or_default();
    Explanation {
        watcher: watcher.to_string(),
        presentity: presentity.to_string(),
        at: when.now.rfc3339_ms(),
        sees: presence.sees,
        rule: presence.rule,
        because: presence.because,
        rules: explained.rules.iter().map(ToString::to_string).collect(),
        packages,
        open: compose(&explained.home, when.now).open,
        sources,
        subscriptions,
        next,
    }
}

fn sees(decided: &Decided, watcher: &Aor, presentity: &Aor) -> Sees {
    let sees = match decided.grant {
        Grant::Full => "full",
        Grant::Part(_) => "part",
        Grant::Basic => "basic",
        Grant::Unavailable => "unavailable",
        Grant::Pending => "pending",
        Grant::Rejected => "rejected",
    };
    Sees {
        package: decided.package.as_str().to_owned(),
        sees: sees.to_owned(),
        rule: rule(decided.rule).to_owned(),
        because: because(decided.rule, watcher, presentity),
    }
}

fn rule(rule: Rule) -> &'static str {
    match rule {
        Rule::Own => "own",
        Rule::Alone => "alone",
        Rule::Denied => "denied",
        Rule::Owner => "owner",
        Rule::Nameless => "nameless",
        Rule::Foreign => "foreign",
        Rule::Default(DomainDefault::Reciprocal, _) => "reciprocal",
        Rule::Default(DomainDefault::Confirm, _) => "confirm",
        Rule::Default(DomainDefault::Basic, _) => "basic",
        Rule::Default(DomainDefault::Full, _) => "full",
    }
}

fn because(rule: Rule, watcher: &Aor, presentity: &Aor) -> String {
    let default = |what: &str| format!("presence.default_rule = \"{what}\"");
    match rule {
        Rule::Own => "everybody sees themselves".to_owned(),
        Rule::Alone => format!("that is nobody's business but {presentity}'s"),
        Rule::Denied => format!("the operator lets {watcher} see nobody (presence.deny)"),
        Rule::Owner => {
            format!("the rules of {presentity} say so (`hither rules {}`)", presentity.user())
        }
        Rule::Nameless => "who gives no name sees nobody".to_owned(),
        Rule::Foreign => format!("watchers of other domains wait for {presentity}"),
        Rule::Default(DomainDefault::Reciprocal, Some(true)) => {
            format!("{presentity} watches {watcher} too ({})", default("reciprocal"))
        }
        Rule::Default(DomainDefault::Reciprocal, _) => {
            format!("{presentity} does not watch {watcher} ({})", default("reciprocal"))
        }
        Rule::Default(DomainDefault::Confirm, _) => {
            format!("{presentity} has not decided ({})", default("confirm"))
        }
        Rule::Default(DomainDefault::Basic, _) => {
            format!("everybody of the domain sees open or closed ({})", default("basic"))
        }
        Rule::Default(DomainDefault::Full, _) => {
            format!("everybody of the domain sees everything ({})", default("full"))
        }
    }
}

fn sources(home: &HomeState, now: Timestamp) -> Vec<Source> {
    let registrations = home.live_bindings(now).map(|binding| Source {
        kind: "registration".to_owned(),
        what: binding.contact.to_string(),
        device: binding.user_agent.to_string(),
        flow: Some(binding.flow.to_string()),
        content_type: None,
        tag: None,
        since: binding.created_at.rfc3339(),
        changed: binding.refreshed_at.rfc3339(),
        expires_in_s: Some(binding.expires_at.secs_from(now)),
    });
    let publications = home.live_publications(now).map(|publication| Source {
        kind: "publication".to_owned(),
        what: publication.package.as_str().to_owned(),
        device: match &publication.publisher.instance {
            Some(instance) => instance.to_string(),
            None => format!("Call-ID {}", publication.publisher.call_id),
        },
        flow: Some(publication.publisher.source.to_string()).filter(|source| !source.is_empty()),
        content_type: Some(publication.content_type.clone()),
        tag: Some(publication.tag.to_string()),
        since: publication.created_at.rfc3339(),
        changed: publication.modified_at.rfc3339(),
        expires_in_s: Some(publication.expires_at.secs_from(now)),
    });
    let by_hand = hard_state::document(home).map(|document| Source {
        kind: "document".to_owned(),
        what: document.name.path(),
        device: "set by hand".to_owned(),
        flow: None,
        content_type: Some(document.content_type.to_string()),
        tag: Some(document.tag.to_string()),
        since: document.modified_at.rfc3339(),
        changed: document.modified_at.rfc3339(),
        expires_in_s: None,
    });
    registrations.chain(by_hand).chain(publications).collect()
}

fn subscribed(watched: &Watched, when: When) -> Subscribed {
    let row = &watched.row;
    let last = watched.told.map(last_notify);
    let (owed, waits_for, span, says) = standing(watched, when);
    Subscribed {
        id: gr(row.id),
        package: row.package.as_str().to_owned(),
        event_id: row.event_id.as_ref().map(ToString::to_string),
        lives: watched.lives,
        target: row.dialog.remote_target().to_owned(),
        flow: row.flow.to_string(),
        call_id: row.dialog.call_id().to_owned(),
        subscribe_cseq: row.remote_cseq,
        reserved_cseq: row.notify_cseq_reserved,
        since: row.created_at.rfc3339(),
        expires_in_s: row.expires_at.secs_from(when.now),
        last,
        owed,
        waits_for: waits_for.to_owned(),
        waits_s: span.map(|span| (span.as_secs_f64() * 1_000.0).round() / 1_000.0),
        says,
    }
}

fn last_notify(told: Told) -> LastNotify {
    let state = match told.state {
        State::Active => "active".to_owned(),
        State::Pending { .. } => "pending".to_owned(),
        State::Terminated { reason, .. } => format!("terminated;reason={}", reason.as_str()),
    };
    let answer = told.heard.map(|(heard, _)| match heard {
        Heard::Answer(status) => status.code().to_string(),
        Heard::Silence => "no answer".to_owned(),
        Heard::Undelivered => "undelivered".to_owned(),
        Heard::Full => "not sent".to_owned(),
    });
    let answered_at = told.heard.map(|(_, at)| at.rfc3339_ms());
    LastNotify { cseq: told.cseq, state, at: told.at.rfc3339_ms(), answer, answered_at }
}

/// Is something owed; what it waits for, and for how long; the same as a sentence.
fn standing(watched: &Watched, when: When) -> (bool, &'static str, Option<Duration>, String) {
    let outlook = watched.outlook.unwrap_or(Outlook { owes: false, waits_for: None });
    let until = |at: Instant| Some(at.saturating_duration_since(when.instant));
    let says = |what: &str, span: Option<Duration>| match span {
        Some(span) => format!("{what}, for {:.1} s yet", span.as_secs_f64()),
        None => what.to_owned(),
    };
    let (waits_for, span, text) = match outlook.waits_for {
        None if outlook.owes => ("nothing", None, "it goes out now".to_owned()),
        None if watched.told.is_none() => {
            ("nothing", None, "nothing has been sent since the server started".to_owned())
        }
        None => ("nothing", None, "the watcher has been told all there is".to_owned()),
        Some(Wait::Answer(cseq)) => {
            ("answer", None, format!("the answer to NOTIFY {cseq} is awaited: one is in flight at a time"))
        }
        Some(Wait::Row) => ("row", None, "its row is being dropped".to_owned()),
        Some(Wait::Numbers(at)) => {
            let (waits_for, text) = match when.is_out {
                true => ("store", "CSeq numbers must be reserved, and the store is away"),
                false => ("numbers", "CSeq numbers are being reserved"),
            };
            (waits_for, at.and_then(until), text.to_owned())
        }
        Some(Wait::PutOff(PutOff::Turn, at)) => {
            ("turn", until(at), "after the start watchers are told one after the other".to_owned())
        }
        Some(Wait::PutOff(PutOff::Peer, at)) => {
            ("retry_after", until(at), "the watcher asked to be told later (Retry-After)".to_owned())
        }
        Some(Wait::PutOff(PutOff::Refusal, at)) => {
            ("refusal", until(at), "the watcher refused the last one, and is told again".to_owned())
        }
        Some(Wait::PutOff(PutOff::Ours, at)) => {
            ("room", until(at), "it could not be sent or dropped, and is tried again".to_owned())
        }
        Some(Wait::Pacing(at)) => {
            ("pacing", until(at), "so many were sent that the next is paced".to_owned())
        }
    };
    (outlook.owes, waits_for, span, says(&text, span))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::dialog::Reason;
    use crate::sip::StatusCode;

    #[test]
    fn a_notify_is_told_with_its_answer() {
        let at = Timestamp(1_795_217_355_123);
        let told = |state, heard| last_notify(Told { cseq: 7, state, at, heard });
        let ok = told(State::Active, Some((Heard::Answer(StatusCode::OK), Timestamp(at.0 + 5))));
        assert_eq!((ok.state.as_str(), ok.answer.as_deref()), ("active", Some("200")));
        assert_eq!(ok.answered_at.as_deref(), Some("2026-11-20T23:29:15.128Z"));
        let last = told(State::Terminated { reason: Reason::Timeout, body: true }, None);
        assert_eq!((last.state.as_str(), last.answer), ("terminated;reason=timeout", None));
    }

    #[test]
    fn every_rule_is_explained_with_both_names() {
        let aor = |name| Aor::new(name, "example.org").unwrap();
        let because = |rule| because(rule, &aor("bob"), &aor("alice"));
        let reciprocal = |returned| because(Rule::Default(DomainDefault::Reciprocal, Some(returned)));
        assert_eq!(
            reciprocal(true),
            "alice@example.org watches bob@example.org too (presence.default_rule = \"reciprocal\")"
        );
        assert!(reciprocal(false).contains("does not watch bob@example.org"));
        assert!(because(Rule::Owner).contains("hither rules alice"));
        assert!(because(Rule::Denied).contains("bob@example.org see nobody"));
        assert!(because(Rule::Foreign).contains("wait for alice@example.org"));
    }
}

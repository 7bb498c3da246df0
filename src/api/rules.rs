//! Who may see a user: what `hither rules` asks of the server. The rules are the user's own document; here it is changed like by any client.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::api::control::{Reason, Request, Response};
use crate::api::users;
use crate::auth::Accounts;
use crate::availability::documents::{self, Changed, NewDocument, Refused};
use crate::availability::named_rules::{self, Named, word};
use crate::availability::rules;
use crate::home::{Homes, Mode, Refusal};
use crate::model::{Aor, Auid, EntityTag, HomeState, Plan, SubHandling, Timestamp};
use crate::presence::Asking;

/// What is asked about rules.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    /// This about this watcher; `None`: nothing any more.
    About(Aor, Option<SubHandling>),
    /// The whole document.
    Whole(String),
}

/// Answers a request about rules; `None` for another one.
///
/// - `asking`: who asks to see a user and is not decided about.
/// - `tag`: random.
pub async fn perform(
    homes: &Arc<Homes>,
    accounts: &Accounts,
    domain: &str,
    asking: &(dyn Fn(&Aor) -> Vec<Asking> + Sync),
    request: &Request,
    tag: EntityTag,
    now: Timestamp,
) -> Option<Response> {
    let (user, change) = match request {
        Request::Rules { user } => (user, Ok(None)),
        Request::RulesShow { user } => {
            let shown =
                owner(user, domain, accounts).map(|owner| Response::Done { text: text(&homes.read(&owner)) });
            return Some(shown.unwrap_or_else(|refused| refused));
        }
        Request::RulesPending { user } => {
            let shown = owner(user, domain, accounts).map(|owner| {
                let lines = asked(&asking(&owner), domain);
                let nobody = || format!("nobody asks to see {owner}");
                Response::Done { text: if lines.is_empty() { nobody() } else { lines.join("\n") } }
            });
            return Some(shown.unwrap_or_else(|refused| refused));
        }
        Request::RulesSet { user, watcher, handling } => {
            let change = who(watcher, domain).map(|who| Some(Change::About(who, Some((*handling).into()))));
            (user, change)
        }
        Request::RulesRemove { user, watcher } => {
            (user, who(watcher, domain).map(|who| Some(Change::About(who, None))))
        }
        Request::RulesReplace { user, document } => (user, Ok(Some(Change::Whole(document.clone())))),
        Request::UserAdd { .. }
        | Request::UserList {}
        | Request::UserPasswd { .. }
        | Request::UserRemove { .. }
        | Request::Status {}
        | Request::Lists { .. }
        | Request::ListsAdd { .. }
        | Request::ListsRemove { .. }
        | Request::Explain { .. }
        | Request::Trace { .. }
        | Request::MessageTrace { .. } => return None,
    };
    let answered = match (owner(user, domain, accounts), change) {
        (Err(refused), _) | (_, Err(refused)) => Err(refused),
        (Ok(owner), Ok(None)) => {
            let asked = asked(&asking(&owner), domain);
            let lines = std::iter::once(listed(&homes.read(&owner), domain)).chain(asked);
            Ok(Response::Done { text: lines.collect::<Vec<_>>().join("\n") })
        }
        (Ok(owner), Ok(Some(asked))) => {
            let about = match &asked {
                Change::About(who, _) => Some(who.clone()),
                Change::Whole(_) => None,
            };
            let decide = move |home: &HomeState, durable| decide(home, &asked, tag, now, durable);
            carry_out(homes, &owner, decide, move |home| came_to(home, about.as_ref(), now)).await
        }
    };
    Some(answered.unwrap_or_else(|refused| refused))
}

/// Rules are of users of ours.
pub(super) fn owner(user: &str, domain: &str, accounts: &Accounts) -> Result<Aor, Response> {
    match users::aor(user, domain) {
        Ok(aor) if accounts.exists(&aor) => Ok(aor),
        Ok(aor) => Err(refused(Reason::NotFound, format!("there is no user {aor}"))),
        Err(error) => Err(refused(Reason::Invalid, error.to_string())),
    }
}

/// Watchers may be of other domains.
pub(super) fn who(watcher: &str, domain: &str) -> Result<Aor, Response> {
    let stated = watcher.strip_prefix("sip:").unwrap_or(watcher);
    let aor = match stated.contains('@') {
        true => Aor::from_stored(stated),
        false => users::aor(stated, domain).ok(),
    };
    aor.ok_or_else(|| {
        refused(Reason::Invalid, format!("`{watcher}` is no user: it would be `bob` or `bob@{domain}`"))
    })
}

/// Changes documents of a user in the turn of their home.
///
/// - `decide`: see [`documents`].
/// - `told`: what is said when it is done.
pub(super) async fn carry_out<T: Send + 'static>(
    homes: &Arc<Homes>,
    owner: &Aor,
    decide: impl Fn(&HomeState, bool) -> (Plan, Result<T, Refused>) + Send + 'static,
    told: impl FnOnce(&HomeState) -> String + Send + 'static,
) -> Result<Response, Response> {
    let (done, outcome) = oneshot::channel();
    homes.change(
        owner,
        move |home, mode| Ok(decide(home, mode == Mode::Durable)),
        move |result| {
            // Who asked may have gone.
            let _ = done.send(match result {
                Ok((Ok(_), home)) => Ok(told(home)),
                Ok((Err(why), _)) => Err(why),
                Err(Refusal::Reject(_) | Refusal::Fault) => Err(Refused::StoreAway),
            });
        },
    );
    match outcome.await.unwrap_or(Err(Refused::StoreAway)) {
        Ok(text) => Ok(Response::Done { text }),
        Err(why) => {
            let reason = if why == Refused::StoreAway { Reason::Store } else { Reason::Invalid };
            Err(refused(reason, why.to_string()))
        }
    }
}

fn decide(
    home: &HomeState,
    change: &Change,
    tag: EntityTag,
    now: Timestamp,
    durable: bool,
) -> (Plan, Result<Option<Changed>, Refused>) {
    let name = named_rules::document();
    let there = home.documents.get(&name);
    let body = match change {
        Change::Whole(text) => Ok(Some(text.clone())),
        Change::About(who, handling) => {
            named_rules::edited(there.map(|document| &*document.body), who, *handling)
        }
    };
    let (plan, result) = match body {
        Err(wrong) => return (Plan::nothing(), Err(Refused::NotUnderstood(wrong))),
        Ok(Some(body)) => match NewDocument::read(name, CONTENT_TYPE, body.into(), tag) {
            Ok(new) => documents::put(home, &new, &[], now, durable),
            Err(refused) => return (Plan::nothing(), Err(refused)),
        },
        Ok(None) if there.is_none() => return (Plan::nothing(), Ok(None)),
        Ok(None) => documents::remove(home, &name, &[], durable),
    };
    (plan, result.map(Some))
}

/// What the rules come to now, for who was named. Rules of other programs may grant more, so it is not always what was asked for.
fn came_to(home: &HomeState, about: Option<&Aor>, now: Timestamp) -> String {
    let Some(who) = about else { return format!("the rules of {} are replaced", home.aor) };
    let Some(rules) = rules::of(home) else {
        return format!("{} has no rules: the domain's hold", home.aor);
    };
    let combined = rules::combine(rules, Some(who), || None, now);
    let most = word(combined.handling);
    match combined.domain_default {
        true => format!("{who} is nobody in particular for {}: the domain's rule holds", home.aor),
        false => format!("for {who} the rules of {} come to `{most}`", home.aor),
    }
}

/// A line for each who asks, who has asked first first.
fn asked(asking: &[Asking], domain: &str) -> Vec<String> {
    let line = |one: &Asking| {
        let (state, since) = ("asks", one.since.rfc3339());
        let gone = one.ended_at.map(|at| format!(", gone since {}", at.rfc3339()));
        format!("{state:12}  {} (since {since}{})", name(&one.watcher, domain), gone.unwrap_or_default())
    };
    let mut lines: Vec<String> = asking.iter().take(ASKING_LISTED).map(line).collect();
    match asking.len().saturating_sub(ASKING_LISTED) {
        0 => {}
        more => lines.push(format!("{more} more ask")),
    }
    lines
}

/// Without the domain for who is of ours.
fn name(who: &Aor, domain: &str) -> String {
    if who.domain() == domain { who.user().to_owned() } else { who.to_string() }
}

fn listed(home: &HomeState, domain: &str) -> String {
    if rules::of(home).is_none() {
        return format!("{} has no rules: the domain's hold (presence.default_rule)", home.aor);
    }
    let named = match Named::of(home) {
        Ok(named) => named,
        Err(wrong) => return format!("the rules of {} cannot be read: {wrong}", home.aor),
    };
    let mut lines: Vec<String> = named
        .people
        .iter()
        .map(|(who, handling)| format!("{:12}  {}", word(*handling), name(who, domain)))
        .collect();
    let elsewhere = home.documents.of(&Auid::PresRules).filter(|one| one.name != named_rules::document());
    if named.others > 0 {
        let others = named.others;
        lines
            .push(format!("{others} more rules of other programs (`hither rules {} show`)", home.aor.user()));
    }
    match elsewhere.count() {
        0 => {}
        more => lines.push(format!("rules in {more} more documents, which count too")),
    }
    let rest =
        if named.rest_by_default { "as the domain's rule says" } else { "nothing, unless a rule says so" };
    lines.push(format!("everybody else: {rest}"));
    lines.join("\n")
}

fn text(home: &HomeState) -> String {
    let rules = home.documents.of(&Auid::PresRules);
    let texts: Vec<_> = rules.map(|document| String::from_utf8_lossy(&document.body).into_owned()).collect();
    texts.join("\n")
}

pub(super) fn refused(reason: Reason, text: String) -> Response {
    Response::Error { reason, text }
}

/// Lines of one answer about who asks.
const ASKING_LISTED: usize = 200;
const CONTENT_TYPE: &str = "application/auth-policy+xml";

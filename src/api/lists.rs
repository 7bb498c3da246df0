//! Contact lists of a user: what `hither lists` asks of the server. The lists are the user's own document; here it is changed like by any client.

use std::sync::Arc;

use crate::api::control::{Reason, Request, Response};
use crate::api::rules::{carry_out, owner, refused, who};
use crate::auth::Accounts;
use crate::availability::documents::{self, Changed, NewDocument, Refused};
use crate::availability::named_lists;
use crate::home::Homes;
use crate::model::{Aor, EntityTag, HomeState, Plan, Timestamp};

/// What is asked about a list.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Add(String, Aor),
    /// Without somebody: the whole list.
    Remove(String, Option<Aor>),
}

/// Answers a request about lists; `None` for another one.
///
/// - `tag`: random.
pub async fn perform(
    homes: &Arc<Homes>,
    accounts: &Accounts,
    domain: &str,
    request: &Request,
    tag: EntityTag,
    now: Timestamp,
) -> Option<Response> {
    let (user, asked) = match request {
        Request::Lists { user } => (user, Ok(None)),
        Request::ListsAdd { user, list, entry } => {
            (user, who(entry, domain).map(|who| Some(Change::Add(list.clone(), who))))
        }
        Request::ListsRemove { user, list, entry } => {
            let entry = entry.as_ref().map(|entry| who(entry, domain)).transpose();
            (user, entry.map(|who| Some(Change::Remove(list.clone(), who))))
        }
        Request::UserAdd { .. }
        | Request::UserList {}
        | Request::UserPasswd { .. }
        | Request::UserRemove { .. }
        | Request::Status {}
        | Request::Rules { .. }
        | Request::RulesPending { .. }
        | Request::RulesShow { .. }
        | Request::RulesSet { .. }
        | Request::RulesRemove { .. }
        | Request::RulesReplace { .. }
        | Request::Explain { .. }
        | Request::Trace { .. }
        | Request::MessageTrace { .. } => return None,
    };
    let answered = match (owner(user, domain, accounts), asked) {
        (Err(refused), _) | (_, Err(refused)) => Err(refused),
        (Ok(owner), Ok(None)) => listed(&homes.read(&owner)),
        (Ok(owner), Ok(Some(asked))) => {
            let text = match &asked {
                Change::Add(list, who) => format!("{who} is in the list `{list}` of {owner}"),
                Change::Remove(list, Some(who)) => {
                    format!("{who} is not in the list `{list}` of {owner} any more")
                }
                Change::Remove(list, None) => format!("{owner} has no list `{list}` any more"),
            };
            let decide = move |home: &HomeState, durable| decide(home, &asked, tag, now, durable);
            carry_out(homes, &owner, decide, move |_| text).await
        }
    };
    Some(answered.unwrap_or_else(|refused| refused))
}

fn decide(
    home: &HomeState,
    change: &Change,
    tag: EntityTag,
    now: Timestamp,
    durable: bool,
) -> (Plan, Result<Changed, Refused>) {
    let name = named_lists::document();
    let there = home.documents.get(&name).map(|document| &*document.body);
    let body = match change {
        Change::Add(list, who) => named_lists::added(there, list, who),
        Change::Remove(list, who) => named_lists::removed(there, list, who.as_ref()),
    };
    let new = body
        .map_err(Refused::NotDone)
        .and_then(|body| NewDocument::read(name, CONTENT_TYPE, body.into(), tag));
    match new {
        Err(refused) => (Plan::nothing(), Err(refused)),
        Ok(new) => documents::put(home, &new, &[], now, durable),
    }
}

fn listed(home: &HomeState) -> Result<Response, Response> {
    let lines = match home.documents.get(&named_lists::document()) {
        None => Vec::new(),
        Some(document) => named_lists::lines(&document.body).map_err(|wrong| {
            refused(Reason::Invalid, format!("the lists of {} cannot be read: {wrong}", home.aor))
        })?,
    };
    let text = if lines.is_empty() { format!("{} has no lists", home.aor) } else { lines.join("\n") };
    Ok(Response::Done { text })
}

const CONTENT_TYPE: &str = "application/resource-lists+xml";

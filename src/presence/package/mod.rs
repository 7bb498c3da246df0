//! Everything in which event packages differ. What they have in common (dialogs, rows, the machine of NOTIFYs) is elsewhere and asks here.
//!
//! A package is a variant of [`Package`] and a file here; the compiler then names the matches in which it is missing. Which watchers a change
//! concerns is said in [`crate::model::Packages`], as homes ask it.

mod dialog;
mod document;
mod format;
mod kept;
mod message_summary;
mod presence;
mod reg;
mod summary;
mod winfo;

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;

use crate::availability::document::pidf::Pidf;
use crate::availability::view::{self, Grant, Rule};
use crate::model::{Aor, HomeState, Package, Reject, Subscription, SubscriptionId, Text, Timestamp};
use crate::presence::pacing::Pacing;
use crate::presence::policy::{Intervals, Policy};
use crate::sip::{HeaderName, Request, StatusCode, Uri};

pub use dialog::Selection;
pub use format::Format;
pub use kept::Wanted;

pub(super) use document::Document;
pub(super) use kept::body_type;
pub(super) use winfo::Watchers;

/// The package and the `id` parameter of Event.
///
/// # Errors
/// 489 with Allow-Events if Event is missing or names a package that is not served (RFC 6665 4.2.1.1, 4.2.3; RFC 3903 6 step 2); 400 if
/// it cannot be read.
pub(super) fn event(request: &Request) -> Result<(Package, Option<&str>), Reject> {
    let event = request
        .event()
        .map_err(|error| Reject::because(StatusCode::BAD_REQUEST, error.what))?
        .and_then(|event| Package::parse(event.package).map(|package| (package, event.id)));
    event.ok_or_else(|| Reject::new(StatusCode::BAD_EVENT).with(HeaderName::AllowEvents, allow_events()))
}

/// What a SUBSCRIBE asks to be shown.
///
/// # Errors
/// 406 with Accept if no body type is one that it accepts; 400 for an Event that names half a dialog.
pub(super) fn wanted(request: &Request, package: Package) -> Result<Wanted, Reject> {
    let selection = match package {
        Package::Dialog => Selection::read(request)?,
        Package::Presence | Package::MessageSummary | Package::Reg | Package::PresenceWinfo => None,
    };
    Ok(Wanted { format: format::accept(request, package)?, selection })
}

/// The package that is published in, and the body type it takes.
///
/// # Errors
/// As `event`; 489 too for a package whose state nobody publishes.
pub fn published(request: &Request) -> Result<(Package, Format), Reject> {
    let (package, _) = event(request)?;
    let format = takes(package);
    format.map(|format| (package, format)).ok_or_else(|| {
        let publishable = Package::ALL.into_iter().filter(|package| takes(*package).is_some());
        let tokens: Vec<_> = publishable.map(Package::as_str).collect();
        Reject::new(StatusCode::BAD_EVENT).with(HeaderName::AllowEvents, tokens.join(", "))
    })
}

/// The value of Allow-Events (RFC 6665 4.4.4).
pub fn allow_events() -> &'static str {
    static ALL: LazyLock<String> = LazyLock::new(|| Package::ALL.map(Package::as_str).join(", "));
    &ALL
}

/// The body types that PUBLISH takes: Accept of a 200 to OPTIONS (RFC 3261 11.2).
pub fn publishable() -> &'static str {
    static ALL: LazyLock<String> = LazyLock::new(|| {
        Package::ALL.into_iter().filter_map(takes).map(Format::as_str).collect::<Vec<_>>().join(", ")
    });
    &ALL
}

/// The body types a NOTIFY may have; the first is the default (RFC 6665 5.4.4), and what is preferred where a watcher wants several alike.
fn formats(package: Package) -> &'static [Format] {
    match package {
        Package::Presence => presence::FORMATS,
        Package::Dialog => dialog::FORMATS,
        Package::MessageSummary => message_summary::FORMATS,
        Package::Reg => reg::FORMATS,
        Package::PresenceWinfo => winfo::FORMATS,
    }
}

/// The body type that PUBLISH takes; `None`: it has no publications.
fn takes(package: Package) -> Option<Format> {
    match package {
        Package::Presence => Some(Format::Pidf),
        Package::Dialog => Some(Format::DialogInfo),
        Package::MessageSummary => Some(Format::MessageSummary),
        Package::Reg | Package::PresenceWinfo => None,
    }
}

/// All body types in which a published document may come: the one that [`published`] says, and what carries the same in another form.
pub(super) fn media_types(package: Package) -> &'static [&'static str] {
    match package {
        Package::Presence => &presence::MEDIA_TYPES,
        Package::Dialog => &dialog::MEDIA_TYPES,
        Package::MessageSummary => &message_summary::MEDIA_TYPES,
        Package::Reg | Package::PresenceWinfo => &[],
    }
}

/// Checks a document of one of the [`media_types`]. What is composed with others is given back as it was read.
///
/// - `means_target`: does a URI mean the AoR it is published for?
///
/// # Errors
/// 400, 403, 413 or 415, as it is malformed, about somebody else, too large, or no document; 489 where nothing is published.
pub(super) fn check(
    package: Package,
    media_type: &str,
    body: &[u8],
    means_target: impl Fn(&Uri<'_>) -> bool,
) -> Result<Option<Pidf>, Reject> {
    match package {
        Package::Presence => presence::check(media_type, body, means_target).map(Some),
        Package::Dialog => dialog::check(body, means_target).map(|()| None),
        Package::MessageSummary => message_summary::check(body).map(|()| None),
        Package::Reg | Package::PresenceWinfo => Err(Reject::new(StatusCode::BAD_EVENT)),
    }
}

/// What a publication comes to that has said `before` and now says `body`.
pub(super) fn succeed(package: Package, before: &[u8], body: Bytes) -> Bytes {
    match package {
        Package::Presence | Package::MessageSummary | Package::Reg | Package::PresenceWinfo => body,
        Package::Dialog => dialog::succeed(before, body),
    }
}

/// Expiry of subscriptions (RFC 6665 5.4.5).
pub(super) fn intervals(package: Package, policy: &Policy) -> Intervals {
    match package {
        // RFC 3842 3.4, RFC 4235 3.4 and RFC 3857 4.4: an hour by default, as everything else.
        Package::Presence | Package::Dialog | Package::MessageSummary | Package::PresenceWinfo => {
            policy.subscription
        }
        Package::Reg => {
            let default_s = reg::DEFAULT_EXPIRES_S.max(policy.subscription.min_s);
            Intervals { default_s, ..policy.subscription }
        }
    }
}

/// How often a watcher is told of changes (RFC 6665 5.4.10).
pub(super) fn pacing(package: Package, policy: &Policy) -> Pacing {
    match package {
        Package::Presence => {
            Pacing { burst: policy.notify_burst, interval: policy.notify_interval, looks: false }
        }
        // RFC 3842 3.11, RFC 4235 3.10: not more than one per second, but for an operator who wants everything sooner.
        Package::Dialog | Package::MessageSummary => {
            Pacing { burst: 1, interval: policy.notify_interval.min(SECOND), looks: false }
        }
        // RFC 3680 4.10, RFC 3857 4.10: not more than one per five seconds, with the same exception. Who has ten thousand watchers is not looked at
        // for each of them.
        Package::Reg | Package::PresenceWinfo => {
            let looks = package == Package::PresenceWinfo;
            Pacing { burst: 1, interval: policy.notify_interval.min(5 * SECOND), looks }
        }
    }
}

/// Who may see how much (RFC 6665 5.4.6).
///
/// - `sphere`: the presentity's, asked only where a rule hangs on it.
/// - `watched`: the watcher's own home, looked at only where [`crate::model::Packages::SHOWN_TO_OTHERS`] has the package.
pub(super) fn grant(
    package: Package,
    presentity: &HomeState,
    watcher: &Aor,
    watched: &HomeState,
    policy: &Policy,
    sphere: &dyn Fn() -> Option<Vec<Text>>,
    now: Timestamp,
) -> Grant {
    match package {
        Package::Presence | Package::Dialog => {
            view::grant(presentity, watcher, watched, &policy.domain, sphere, now)
        }
        Package::MessageSummary => message_summary::grant(&presentity.aor, watcher),
        Package::Reg => reg::grant(&presentity.aor, watcher),
        Package::PresenceWinfo => winfo::grant(&presentity.aor, watcher),
    }
}

/// The same as [`grant`], with the rule that decided: for who asks why.
pub(super) fn decide(
    package: Package,
    presentity: &HomeState,
    watcher: &Aor,
    watched: &HomeState,
    policy: &Policy,
    sphere: &dyn Fn() -> Option<Vec<Text>>,
    now: Timestamp,
) -> (Grant, Rule) {
    match package {
        Package::Presence | Package::Dialog => {
            view::decide(presentity, watcher, watched, &policy.domain, sphere, now)
        }
        Package::MessageSummary | Package::Reg | Package::PresenceWinfo => {
            let rule = if *watcher == presentity.aor { Rule::Own } else { Rule::Alone };
            (grant(package, presentity, watcher, watched, policy, sphere, now), rule)
        }
    }
}

/// Which document: all that it hangs on besides the home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    /// Of which package.
    pub(super) package: Package,
    /// As what.
    pub(super) format: Format,
    /// How much.
    pub(super) grant: Grant,
    /// More than that, because it is the watcher's own (RFC 4235 3.6).
    pub(super) is_owner: bool,
}

impl Shown {
    /// What this subscription is shown.
    pub(super) fn to(row: &Subscription, grant: Grant) -> Shown {
        let is_owner = match row.package {
            Package::Presence | Package::MessageSummary | Package::Reg | Package::PresenceWinfo => false,
            Package::Dialog => row.watcher == row.presentity,
        };
        Shown { package: row.package, format: kept::body_type(row), grant, is_owner }
    }
}

/// How it stands with the watchers of a presentity.
#[derive(Clone, Copy)]
pub(super) struct Others<'a> {
    /// How much a watcher may see of presence.
    pub(super) granted: &'a dyn Fn(&Aor) -> Grant,
    /// Was this subscription told that the owner has not decided, by this run?
    pub(super) was_pending: &'a dyn Fn(SubscriptionId) -> bool,
}

/// The document that a NOTIFY carries; `None` if the grant shows nothing. Equal state gives equal documents, whatever `now` is.
///
/// - `row`: whose document it is, where [`may_be_kept`] says that it is for one subscription alone.
/// - `others`: asked where the document is about watchers.
pub(super) fn document(
    home: &HomeState,
    shown: Shown,
    row: &Subscription,
    others: &Others<'_>,
    now: Timestamp,
) -> Option<Document> {
    match shown.package {
        Package::Presence => presence::document(home, &shown, now),
        Package::Dialog => dialog::document(home, shown, row, now),
        Package::MessageSummary => message_summary::document(home, &shown.grant, now),
        Package::Reg => reg::document(home, &shown.grant, now),
        Package::PresenceWinfo => winfo::document(home, &shown.grant, others, now),
    }
}

/// Does a document hang on nothing but live bindings (which, not until when) and publications, so that it can be kept until they change, and shared?
pub(super) fn may_be_kept(shown: &Shown) -> bool {
    match shown.package {
        Package::Presence => true,
        // A device's own view leaves out its own dialogs.
        Package::Dialog => !shown.is_owner,
        // Short, seldom asked for, and soon made.
        Package::MessageSummary | Package::Reg | Package::PresenceWinfo => false,
    }
}

/// What somebody is told who was shown state and may see nothing any more: neutral, whatever is true.
pub(super) fn polite(subscription: &Subscription, presentity: &Aor) -> Document {
    match subscription.package {
        Package::Presence => presence::polite(presentity, kept::body_type(subscription)),
        Package::Dialog => dialog::polite(presentity),
        // The owner may always see it, and nobody else was ever shown anything.
        Package::MessageSummary | Package::Reg | Package::PresenceWinfo => Document::none(),
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::testing::request;

    fn subscribe(rows: &str) -> Request {
        request("SUBSCRIBE", "sip:alice@example.org", rows, "")
    }

    #[test]
    fn event_missing_or_unknown_is_489_with_allow_events_rfc6665_4_2_3() {
        for rows in ["", "Event: conference\r\n", "Event: presence.x\r\n"] {
            let reject = event(&subscribe(rows)).unwrap_err();
            assert_eq!(reject.status, StatusCode::BAD_EVENT);
            assert_eq!(reject.headers[0], (HeaderName::AllowEvents, allow_events().to_owned()));
        }
    }

    #[test]
    fn allow_events_names_every_package_rfc6665_4_4_4() {
        assert!(allow_events().split(", ").eq(Package::ALL.map(Package::as_str)));
    }

    #[test]
    fn event_id_is_kept_and_other_parameters_are_ignored_rfc6665_8_2_1() {
        assert_eq!(event(&subscribe("Event: presence;id=7;x=y\r\n")), Ok((Package::Presence, Some("7"))));
        assert_eq!(event(&subscribe("o: Presence\r\n")), Ok((Package::Presence, None)));
    }
}

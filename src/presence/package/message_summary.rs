//! Package `message-summary` (RFC 3842): how many messages wait for a user, as messaging systems publish it, and of texts as many as are kept here.

use crate::availability::view::Grant;
use crate::model::{Aor, HomeState, Package, Reject, Timestamp};
use crate::presence::package::summary::{Counts, Summary};
use crate::presence::package::{Document, Format};

/// RFC 3842 3.5.
pub(super) const FORMATS: &[Format] = &[Format::MessageSummary];

/// What is published.
pub(super) const MEDIA_TYPES: [&str; 1] = [Format::MessageSummary.as_str()];

/// Messages are nobody else's business (RFC 3842 3.7).
pub(super) fn grant(presentity: &Aor, watcher: &Aor) -> Grant {
    if presentity == watcher { Grant::Full } else { Grant::Rejected }
}

/// What all messaging systems of this user say together. There is always an answer: of whom nothing is known, no messages wait.
pub(super) fn document(home: &HomeState, grant: &Grant, now: Timestamp) -> Option<Document> {
    if *grant != Grant::Full {
        return None;
    }
    let published = home
        .live_publications(now)
        .filter(|publication| publication.package == Package::MessageSummary)
        // They were checked when they were published.
        .filter_map(|publication| Summary::parse(&publication.body).ok());
    let summary = published.chain(stored(home)).reduce(Summary::and).unwrap_or_default();
    // RFC 3842 3.5: which account it is must be said to who watches an alias, and may be said to everybody.
    Some(Document::fixed(summary.write(&home.aor.uri()).into()))
}

/// Is it a summary? Its account may be anything: a mailbox is often reached at another address than its owner.
pub(super) fn check(body: &[u8]) -> Result<(), Reject> {
    Summary::parse(body).map(drop)
}

/// The text messages that are kept here for this user until a device comes; `None` if there are none. What tells of other messages is none.
fn stored(home: &HomeState) -> Option<Summary> {
    let texts = home.messages.iter().filter(|one| !one.is_notification);
    let new = u32::try_from(texts.count()).unwrap_or(u32::MAX);
    (new > 0).then(|| Summary::of_texts(Counts { all: (new, 0), urgent: None }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::Publication;
    use crate::presence::testing::{NOW, aor, publication};

    fn home(bodies: &[&str]) -> HomeState {
        let mut home = HomeState::empty(aor("alice@example.org"));
        for (id, body) in (1..).zip(bodies) {
            let body = body.as_bytes().to_vec().into();
            let package = Package::MessageSummary;
            home.publications.push(Arc::new(Publication { package, body, ..publication(id, id) }));
        }
        home
    }

    fn shown(home: &HomeState, now: Timestamp) -> String {
        let document = document(home, &Grant::Full, now).expect("the owner sees it");
        String::from_utf8_lossy(document.text()).into_owned()
    }

    const NOTHING: &str = "Messages-Waiting: no\r\nMessage-Account: sip:alice@example.org\r\n";

    #[test]
    fn of_whom_nothing_is_known_no_messages_wait_rfc3842_3_8() {
        assert_eq!(shown(&home(&[]), NOW), NOTHING);
        let mut with_presence = home(&[]);
        with_presence.publications.push(Arc::new(publication(1, 1)));
        assert_eq!(shown(&with_presence, NOW), NOTHING);
    }

    #[test]
    fn several_systems_are_one_summary_and_the_end_of_one_is_seen_rfc3842_3_10() {
        let mut home = home(&[
            "Messages-Waiting: yes\r\nVoice-Message: 2/8 (0/2)\r\n",
            "Messages-Waiting: no\r\nVoice-Message: 0/1\r\nFax-Message: 0/4\r\n",
        ]);
        let both = "Messages-Waiting: yes\r\nMessage-Account: sip:alice@example.org\r\nVoice-Message: 2/9 (0/2)\r\nFax-Message: 0/4\r\n";
        assert_eq!(shown(&home, NOW), both);
        Arc::make_mut(&mut home.publications[0]).expires_at = NOW;
        assert!(shown(&home, NOW).starts_with("Messages-Waiting: no\r\n"));
        assert_eq!(shown(&home, NOW.after_secs(3_600)), NOTHING);
    }

    #[test]
    fn nobody_but_the_owner_sees_it_rfc3842_3_7() {
        let (alice, bob) = (aor("alice@example.org"), aor("bob@example.org"));
        assert_eq!((grant(&alice, &alice), grant(&alice, &bob)), (Grant::Full, Grant::Rejected));
        for refused in [Grant::Basic, Grant::Pending, Grant::Rejected] {
            assert_eq!(document(&home(&[]), &refused, NOW), None);
        }
    }
}

//! Package `dialog` (RFC 4235): who is in which call, for the user's own devices; for others, whether the line is busy.

mod composition;
mod selection;

use bytes::Bytes;

use crate::availability::document::dialog_info::{Dialog, DialogInfo, Direction, State};
use crate::availability::view::Grant;
use crate::model::{
    Aor, Attribute, HomeState, Package, Permissions, Publication, Reject, Subscription, Timestamp,
};
use crate::presence::package::{Document, Format, Shown, kept};
use crate::sip::{StatusCode, Uri};

pub use selection::Selection;

/// RFC 4235 3.5.
pub(super) const FORMATS: &[Format] = &[Format::DialogInfo];

/// What is published.
pub(super) const MEDIA_TYPES: [&str; 1] = [Format::DialogInfo.as_str()];

/// The user's own devices see all dialogs, or those that they have selected (3.7.2). Others see one virtual dialog.
pub(super) fn document(
    home: &HomeState,
    shown: Shown,
    row: &Subscription,
    now: Timestamp,
) -> Option<Document> {
    let dialogs = match &shown.grant {
        Grant::Pending | Grant::Rejected => return None,
        Grant::Unavailable => return Some(polite(&home.aor)),
        Grant::Part(permissions) if !shows_activities(permissions) => Vec::new(),
        Grant::Basic | Grant::Part(_) | Grant::Full => composition::compose(sources(home, now)),
    };
    let entity = home.aor.uri();
    if !shown.is_owner {
        let is_registered = home.live_bindings(now).next().is_some();
        let state = line(&dialogs, &shown.grant, is_registered);
        let dialogs = state.map(|state| Dialog::bare(LINE.to_owned(), state)).into_iter().collect();
        return Some(written(&DialogInfo { entity, dialogs }));
    }
    let selection = kept::selection(row);
    let is_shown = |dialog: &Dialog| match &selection {
        Some(selection) => selection.has(dialog),
        // 3.3: who is on the other end of a dialog knows of it.
        None => !is_with(dialog, row),
    };
    let all = DialogInfo { entity, dialogs: dialogs.into_iter().filter(is_shown).collect() };
    let whole = written(&all);
    let (ended, lasting): (Vec<_>, _) =
        all.dialogs.into_iter().partition(|dialog| dialog.state == State::Terminated);
    if ended.is_empty() {
        return Some(whole);
    }
    let lasting = written(&DialogInfo { entity: all.entity, dialogs: lasting });
    Some(whole.once(lasting, fingerprint(&ended)))
}

/// Nobody is told whether there is a call.
pub(super) fn polite(presentity: &Aor) -> Document {
    written(&DialogInfo { entity: presentity.uri(), dialogs: Vec::new() })
}

/// Is it the full state of the dialogs of whom it is published for?
pub(super) fn check(body: &[u8], means_target: impl Fn(&Uri<'_>) -> bool) -> Result<(), Reject> {
    let entity = DialogInfo::parse(body)?.entity;
    if Uri::parse(entity.as_bytes()).is_ok_and(|entity| means_target(&entity)) {
        return Ok(());
    }
    Err(Reject::because(StatusCode::FORBIDDEN, "Document Is About Another User"))
}

/// What a publisher is taken to say, after what it said before.
pub(super) fn succeed(before: &[u8], now: Bytes) -> Bytes {
    let (Ok(old), Ok(new)) = (DialogInfo::parse(before), DialogInfo::parse(&now)) else { return now };
    let next = composition::succeed(&old, new.clone());
    if next == new {
        return now;
    }
    let text = written(&next).with_version(0);
    // Should it be more than can be read again, the memory is what goes.
    if DialogInfo::parse(&text).is_ok_and(|read| read == next) { text } else { now }
}

/// What publishers say, each under a name that stays. What the proxy knows of calls joins them here.
fn sources(home: &HomeState, now: Timestamp) -> impl Iterator<Item = composition::Source> {
    let name = |publication: &Publication| format!("{:08x}", publication.id.0 & 0xffff_ffff);
    home.live_publications(now)
        .filter(|publication| publication.package == Package::Dialog)
        // They were checked when they were published.
        .filter_map(move |publication| Some((name(publication), DialogInfo::parse(&publication.body).ok()?)))
}

/// The virtual dialog (3.7.2): no more than who calls would find out. `None`: there is none, and nobody would answer either; so a lamp can tell an idle line
/// from one without a telephone.
fn line(dialogs: &[Dialog], grant: &Grant, is_registered: bool) -> Option<State> {
    let busiest = dialogs.iter().filter(|dialog| dialog.state < State::Terminated).map(|dialog| {
        // Who calls is busy; it does not ring here. Without the whole grant every call is just a call.
        let is_told = *grant == Grant::Full && dialog.direction != Some(Direction::Initiator);
        if is_told { dialog.state } else { State::Confirmed }
    });
    busiest.max().or(is_registered.then_some(State::Terminated))
}

/// That somebody is on the phone is what RPID calls an activity, and provided like one (RFC 5025 3.3.2.1).
fn shows_activities(permissions: &Permissions) -> bool {
    permissions.all_attributes || permissions.attributes.contains(&Attribute::Activities)
}

/// Is the subscriber's Contact the other end of this dialog?
fn is_with(dialog: &Dialog, row: &Subscription) -> bool {
    let Some(target) = &dialog.remote.target else { return false };
    let (theirs, own) =
        (Uri::parse(target.uri.as_bytes()), Uri::parse(row.dialog.remote_target().as_bytes()));
    matches!((theirs, own), (Ok(theirs), Ok(own)) if theirs.equals(&own))
}

fn written(info: &DialogInfo) -> Document {
    let (text, version_at) = info.write(MOST_BYTES);
    Document::versioned(text.into(), version_at)
}

/// Differs when other dialogs have ended (FNV-1a over their ids).
fn fingerprint(ended: &[Dialog]) -> u32 {
    let ids = ended.iter().flat_map(|dialog| {
        let call = dialog.call_id.as_deref().unwrap_or(&dialog.id);
        [
            call,
            dialog.local_tag.as_deref().unwrap_or_default(),
            dialog.remote_tag.as_deref().unwrap_or_default(),
        ]
    });
    let bytes = ids.flat_map(|id| id.bytes().chain([0]));
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// The id of the virtual dialog.
const LINE: &str = "line";
/// As of a composed presence document.
const MOST_BYTES: usize = 48 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{DialogParts, DialogTexts};
    use crate::presence::testing::{NOW, aor, publication, subscription};

    fn home(bodies: &[&str]) -> HomeState {
        let mut home = HomeState::empty(aor("alice@example.org"));
        for (id, inner) in (1..).zip(bodies) {
            let body = format!(
                "<dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" version=\"0\" state=\"full\" entity=\"sip:alice@example.org\">{inner}</dialog-info>"
            );
            let (package, body) = (Package::Dialog, body.into());
            home.publications.push(Arc::new(Publication { package, body, ..publication(id, id) }));
        }
        home
    }

    fn row(watcher: &str) -> Subscription {
        Subscription { watcher: aor(watcher), package: Package::Dialog, ..subscription(1) }
    }

    fn shown(home: &HomeState, grant: Grant, row: &Subscription) -> Option<Document> {
        let is_owner = row.watcher == home.aor;
        document(
            home,
            Shown { package: Package::Dialog, format: Format::DialogInfo, grant, is_owner },
            row,
            NOW,
        )
    }

    fn text(home: &HomeState, grant: Grant, watcher: &str) -> String {
        let document = shown(home, grant, &row(watcher)).expect("a document");
        String::from_utf8_lossy(document.text()).into_owned()
    }

    const EARLY: &str = "<dialog id=\"1\" call-id=\"SECRET\" local-tag=\"l\" remote-tag=\"r\" direction=\"recipient\"><state>early</state>\
                         <remote><identity>sip:SECRET@example.org</identity><target uri=\"sip:bob@192.0.2.7:5062\"/></remote></dialog>";

    #[test]
    fn others_see_that_there_is_a_call_and_nothing_else_rfc4235_3_7_2() {
        let bob = "bob@example.org";
        let seen = text(&home(&[EARLY]), Grant::Full, bob);
        assert!(seen.contains("<dialog id=\"line\"><state>early</state></dialog>"), "{seen}");
        assert!(!seen.contains("SECRET"), "{seen}");
        let basic = text(&home(&[EARLY]), Grant::Basic, bob);
        assert!(basic.contains("<state>confirmed</state>"), "{basic}");
        let calling = text(&home(&[&EARLY.replace("recipient", "initiator")]), Grant::Full, bob);
        assert!(calling.contains("<state>confirmed</state>"), "{calling}");
        assert!(!text(&home(&[]), Grant::Full, bob).contains("<dialog "));
        for refused in [Grant::Pending, Grant::Rejected] {
            assert_eq!(shown(&home(&[EARLY]), refused, &row(bob)), None);
        }
    }

    #[test]
    fn two_calls_are_as_one_that_is_furthest_and_an_ended_one_is_none_rfc4235_3_7_2() {
        let two = "<dialog id=\"1\"><state>trying</state></dialog><dialog id=\"2\"><state>proceeding</state></dialog>\
                   <dialog id=\"3\"><state>terminated</state></dialog>";
        let seen = text(&home(&[two]), Grant::Full, "bob@example.org");
        assert_eq!(seen.matches("<dialog ").count(), 1, "{seen}");
        assert!(seen.contains("proceeding"), "{seen}");
        let ended = "<dialog id=\"3\"><state>terminated</state></dialog>";
        assert!(!text(&home(&[ended]), Grant::Full, "bob@example.org").contains("<dialog "));
    }

    #[test]
    fn the_owner_sees_everything_but_the_dialogs_with_that_very_device_rfc4235_3_3() {
        let owner = row("alice@example.org");
        let whole = shown(&home(&[EARLY]), Grant::Full, &owner).expect("a document");
        assert!(!String::from_utf8_lossy(whole.text()).contains("SECRET"), "with itself");
        let remote_target = "sip:alice@192.0.2.9";
        let dialog = DialogTexts::new(DialogParts { remote_target, ..owner.dialog.parts() });
        let other = Subscription { dialog, ..owner };
        let whole = shown(&home(&[EARLY]), Grant::Full, &other).expect("a document");
        let seen = String::from_utf8_lossy(whole.text()).into_owned();
        assert!(seen.contains("id=\"00000001.1\" call-id=\"SECRET\""), "{seen}");
        assert!(seen.contains("<identity>sip:SECRET@example.org</identity>"), "{seen}");
    }

    #[test]
    fn an_end_is_told_once_rfc4235_4_3() {
        let ended = EARLY.replace("early", "terminated").replace("bob@192", "carol@192");
        let document = shown(&home(&[&ended]), Grant::Full, &row("alice@example.org")).expect("a document");
        let has_it = |before| String::from_utf8_lossy(&document.sent_after(before, 7)).contains("terminated");
        assert!(!has_it(None), "who has just come has missed it");
        assert!(has_it(Some(Document::none().ended())), "who knew of no end");
        assert!(!has_it(Some(document.ended())), "who was told");
        let version = String::from_utf8_lossy(&document.sent_after(None, 7)).contains("version=\"7\"");
        assert!(version);
    }

    #[test]
    fn a_publisher_tells_all_it_knows_of_the_owner_rfc3903_10_1() {
        let alice = aor("alice@example.org");
        let body = home(&[EARLY]).publications[0].body.clone();
        let checked = |body: &[u8], aor: &Aor| check(body, |uri| Aor::from_uri(uri).as_ref() == Some(aor));
        let refusal = |body: &[u8], aor: &Aor| checked(body, aor).unwrap_err().status;
        assert_eq!(checked(&body, &alice), Ok(()));
        assert_eq!(refusal(&body, &aor("bob@example.org")), StatusCode::FORBIDDEN);
        assert_eq!(refusal(b"<dialog-info/>", &alice), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn what_has_ended_is_remembered_with_the_publication_rfc4235_3_7_1() {
        let body = |inner: &str| home(&[inner]).publications[0].body.clone();
        let ended = body(&EARLY.replace("early", "terminated"));
        let silent = succeed(&ended, body(""));
        assert_eq!(DialogInfo::parse(&silent), DialogInfo::parse(&ended));
        let again = DialogInfo::parse(&succeed(&silent, body(EARLY))).expect("readable");
        assert_eq!(again.dialogs[0].state, State::Terminated);
        // What ends nothing is kept byte for byte.
        let early = body(EARLY);
        assert_eq!(succeed(&body(""), early.clone()).as_ptr(), early.as_ptr());
    }
}

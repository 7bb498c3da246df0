//! Package `reg` (RFC 3680): which of a user's devices are registered.
//!
//! Every document is the full state. A contact that has gone is in none after: why it went is not kept with a home.

use crate::availability::document::reginfo::{Contact, Event, RegInfo, State};
use crate::availability::view::Grant;
use crate::model::{Aor, Binding, HomeState, Timestamp};
use crate::presence::package::{Document, Format};
use crate::sip::Params;

/// RFC 3680 4.5.
pub(super) const FORMATS: &[Format] = &[Format::RegInfo];

/// Seconds, for who asks for nothing: slightly longer than a registration, so that both are not refreshed at once (4.4).
pub(super) const DEFAULT_EXPIRES_S: u32 = 3_761;

/// One's devices are nobody else's business (4.6).
pub(super) fn grant(presentity: &Aor, watcher: &Aor) -> Grant {
    if presentity == watcher { Grant::Full } else { Grant::Rejected }
}

/// All that is registered. Of who has no device there is a document too (4.7.1).
pub(super) fn document(home: &HomeState, grant: &Grant, now: Timestamp) -> Option<Document> {
    if *grant != Grant::Full {
        return None;
    }
    let contacts: Vec<_> = home.live_bindings(now).map(|binding| contact(binding)).collect();
    if !contacts.is_empty() {
        return Some(written(home, State::Active, contacts));
    }
    // The step from terminated to init is told to nobody (4.7.1): who knew of a device hears once that there is none any more, all others
    // that there is none.
    let lasting = written(home, State::Init, Vec::new());
    Some(written(home, State::Terminated, Vec::new()).once(lasting, NOTHING_LEFT))
}

fn contact(binding: &Binding) -> Contact<'_> {
    let params = Params::of_header(&binding.params).unwrap_or_default();
    Contact {
        id: id(&binding.key.0),
        event: if binding.refreshed_at > binding.created_at { Event::Refreshed } else { Event::Registered },
        // Said or not, 1 means the same.
        q: Some(binding.q).filter(|q| *q != 1_000),
        uri: &binding.contact,
        unknown: params.iter().collect(),
    }
}

fn written(home: &HomeState, state: State, contacts: Vec<Contact<'_>>) -> Document {
    let aor = home.aor.uri();
    let (text, version_at) = RegInfo { id: id(&aor), aor, state, contacts }.write(MOST_BYTES);
    Document::versioned(text.into(), version_at)
}

/// The same over restarts, and another one for another URI (5.1): FNV-1a, 64 bits.
fn id(name: &str) -> String {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// Names the end of the last contact, for [`Document::once`].
const NOTHING_LEFT: u32 = 1;
/// As of a composed presence document.
const MOST_BYTES: usize = 48 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{BindingKey, Transport};
    use crate::presence::testing::{NOW, aor, flow};

    fn binding(contact: &str, params: &str) -> Binding {
        Binding {
            aor: aor("alice@example.org"),
            key: BindingKey(contact.into()),
            contact: contact.into(),
            params: params.into(),
            q: 1_000,
            instance: None,
            reg_id: None,
            path: Box::default(),
            call_id: "SECRET".into(),
            cseq: 1,
            flow: flow(Transport::Udp),
            direct: true,
            user_agent: Default::default(),
            created_at: NOW,
            refreshed_at: NOW,
            expires_at: NOW.after_secs(3_600),
        }
    }

    fn home(bindings: &[Binding]) -> HomeState {
        let mut home = HomeState::empty(aor("alice@example.org"));
        home.bindings.extend(bindings.iter().cloned().map(Arc::new));
        home
    }

    fn whole(home: &HomeState, now: Timestamp) -> Document {
        document(home, &Grant::Full, now).expect("the owner sees it")
    }

    fn shown(home: &HomeState) -> String {
        String::from_utf8_lossy(whole(home, NOW).text()).into_owned()
    }

    #[test]
    fn nobody_but_the_owner_sees_it_rfc3680_4_6() {
        let (alice, bob) = (aor("alice@example.org"), aor("bob@example.org"));
        assert_eq!((grant(&alice, &alice), grant(&alice, &bob)), (Grant::Full, Grant::Rejected));
        for refused in [Grant::Basic, Grant::Pending, Grant::Rejected] {
            assert_eq!(document(&home(&[]), &refused, NOW), None);
        }
    }

    #[test]
    fn every_contact_has_an_id_that_stays_rfc3680_5_1() {
        let two = home(&[binding("sip:a@192.0.2.7", ""), binding("sip:b@192.0.2.7", "")]);
        let seen = shown(&two);
        let ids: Vec<_> = seen.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert_eq!(ids.len(), 3, "of the registration and of two contacts: {seen}");
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "{ids:?}");
        let one = shown(&home(&[binding("sip:b@192.0.2.7", ";audio")]));
        assert!(one.contains(ids[0]) && one.contains(ids[2]) && !one.contains(ids[1]), "{one}");
        assert!(!seen.contains("SECRET"), "{seen}");
    }

    #[test]
    fn a_contact_says_how_it_came_and_what_else_it_is_rfc3680_4_7_1() {
        let fresh = binding("sip:a@192.0.2.7", ";+sip.instance=\"<urn:uuid:0>\";audio");
        let seen = shown(&home(std::slice::from_ref(&fresh)));
        assert!(seen.contains("state=\"active\" event=\"registered\"><uri>sip:a@192.0.2.7</uri>"), "{seen}");
        assert!(
            seen.contains("<unknown-param name=\"+sip.instance\">&quot;&lt;urn:uuid:0&gt;&quot;<"),
            "{seen}"
        );
        assert!(seen.contains("<unknown-param name=\"audio\"><"), "{seen}");
        let later = Binding { refreshed_at: NOW.after_secs(60), q: 500, ..fresh };
        let seen = shown(&home(&[later]));
        assert!(seen.contains("event=\"refreshed\" q=\"0.5\""), "{seen}");
    }

    #[test]
    fn time_alone_changes_nothing_but_the_end_does() {
        let home = home(&[binding("sip:a@192.0.2.7", "")]);
        assert_eq!(whole(&home, NOW), whole(&home, NOW.after_secs(3_599)));
        assert_ne!(whole(&home, NOW), whole(&home, NOW.after_secs(3_600)));
    }

    #[test]
    fn the_last_end_is_told_once_and_init_never_follows_it_rfc3680_4_7_1() {
        let (active, none) = (whole(&home(&[binding("sip:a@192.0.2.7", "")]), NOW), whole(&home(&[]), NOW));
        let state = |document: &Document, before| {
            let text = String::from_utf8_lossy(&document.sent_after(before, 0)).into_owned();
            ["init", "active", "terminated"]
                .into_iter()
                .find(|state| text.contains(&format!("state=\"{state}\"")))
        };
        assert_eq!(state(&none, None), Some("init"), "who has just come");
        assert_eq!(state(&active, Some(none.ended())), Some("active"));
        assert_eq!(state(&none, Some(active.ended())), Some("terminated"));
        assert_eq!(state(&none, Some(none.ended())), Some("init"), "who asks again");
    }
}

//! One person out of all that is said about the presentity as a person (RFC 4479 3.2, 3.5).
//!
//! Element by element: what was said or began last holds, so that a calendar, a phone and a badge reader complete one another. What says something
//! comes before what says nothing (`<activities/>`), and `active` before `idle` (RFC 4480 3.14). Elements that nobody here knows are all kept.

use std::collections::HashMap;

use crate::availability::attributes::{in_force, timestamp};
use crate::availability::document::pidf::{CIPID, Person, RPID};
use crate::availability::document::xml::Fragment;
use crate::model::{Publication, Timestamp};

/// Merges the persons of all publications.
///
/// - `said`: in order of publication. The first one's id stays for as long as it is published.
///
/// A person of one publication keeps its timestamp; one of several has none, as it has changed whenever one of them did.
pub(super) fn merge(said: &[(&Publication, &Person)], now: Timestamp) -> Option<Person> {
    let (publication, first) = *said.first()?;
    if said.len() == 1 {
        let timestamp = timestamp(first.timestamp.as_deref(), &first.extensions, publication, now);
        let notes = first.notes.clone();
        return Some(Person {
            id: first.id.clone(),
            extensions: in_force(&first.extensions, now),
            notes,
            timestamp,
        });
    }
    let mut newest_first: Vec<&(&Publication, &Person)> = said.iter().collect();
    newest_first.sort_by_key(|(publication, _)| std::cmp::Reverse(publication.modified_at));
    let mut merged = Merged::default();
    for (nth, (publication, person)) in newest_first.iter().enumerate() {
        for fragment in in_force(&person.extensions, now) {
            merged.put(nth, fragment, publication.modified_at);
        }
    }
    let extensions = merged.elements.into_iter().flat_map(|element| element.fragments).collect();
    let notes = newest_first.iter().map(|(_, person)| &person.notes).find(|notes| !notes.is_empty());
    Some(Person {
        id: first.id.clone(),
        extensions,
        notes: notes.cloned().unwrap_or_default(),
        timestamp: None,
    })
}

#[derive(Default)]
struct Merged {
    elements: Vec<Element>,
    /// Where they are: by namespace and name, or each by itself.
    places: HashMap<Key, usize>,
}

/// The element of one name, as one person has it; of CIPID there may be several.
struct Element {
    person: usize,
    claim: Claim,
    fragments: Vec<Fragment>,
}

#[derive(PartialEq, Eq, Hash)]
enum Key {
    Name(&'static str, String),
    Whole(Fragment),
}

/// Why one counts rather than another: in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    says_something: bool,
    is_active: bool,
    since: Timestamp,
}

impl Merged {
    fn put(&mut self, person: usize, fragment: Fragment, said_at: Timestamp) {
        let claim = Claim::of(&fragment, said_at);
        let known = [RPID, CIPID].into_iter().find(|known| *known == fragment.namespace());
        let key = match known {
            Some(namespace) => Key::Name(namespace, fragment.local().to_owned()),
            None => Key::Whole(fragment.clone()),
        };
        let is_whole = known.is_none();
        let place = *self.places.entry(key).or_insert(self.elements.len());
        match self.elements.get_mut(place) {
            None => self.elements.push(Element { person, claim, fragments: vec![fragment] }),
            // It says the very same.
            Some(_) if is_whole => {}
            Some(present) if present.person == person => present.fragments.push(fragment),
            Some(present) if present.claim < claim => {
                *present = Element { person, claim, fragments: vec![fragment] }
            }
            Some(_) => {}
        }
    }
}

impl Claim {
    fn of(fragment: &Fragment, said_at: Timestamp) -> Claim {
        let is_input = fragment.namespace() == RPID && fragment.local() == "user-input";
        let began_at = fragment.range().0.filter(|_| fragment.namespace() == RPID);
        Claim {
            says_something: !fragment.is_empty(),
            is_active: is_input && fragment.text() == "active",
            since: began_at.map_or(said_at, |from| from.max(said_at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::availability::document::pidf::Pidf;
    use crate::availability::fixtures::{NOW, home, pidf, publish};

    /// The merged person of publications, the first of which is the oldest, as its elements.
    fn merged(persons: &[&str]) -> (Vec<String>, Person) {
        let mut home = home();
        for (nth, inner) in (1_u32..).zip(persons) {
            let person = format!("<dm:person id=\"p{nth}\">{inner}</dm:person>");
            publish(&mut home, nth.into(), &pidf(&person));
        }
        let read: Vec<Pidf> = home.publications.iter().map(|p| Pidf::parse(&p.body).unwrap()).collect();
        let said: Vec<_> =
            home.publications.iter().map(AsRef::as_ref).zip(read.iter().map(|d| &d.persons[0])).collect();
        let person = merge(&said, NOW.after_secs(100)).unwrap();
        (person.extensions.iter().map(|f| f.raw().to_owned()).collect(), person)
    }

    fn rpid(name: &str, value: &str) -> String {
        format!("<rpid:{name}><rpid:{value}/></rpid:{name}>")
    }

    #[test]
    fn each_element_is_what_was_said_last_rfc4479_3_5() {
        let (work, mood) = (rpid("sphere", "work"), rpid("mood", "happy"));
        let (lunch, meeting) = (rpid("activities", "lunch"), rpid("activities", "meeting"));
        let (elements, person) = merged(&[&[work.clone(), lunch].concat(), &mood, &meeting]);
        assert_eq!(elements, [meeting, mood, work]);
        assert_eq!((person.id.as_str(), person.timestamp), ("p1", None));
    }

    #[test]
    fn what_says_nothing_hides_nothing() {
        let (lunch, empty) = (rpid("activities", "lunch"), "<rpid:activities/>");
        assert_eq!(merged(&[&lunch, empty]).0, [lunch]);
        assert_eq!(merged(&[empty, empty]).0, [empty]);
    }

    #[test]
    fn what_began_last_counts_and_active_beats_idle_rfc4480_3_14() {
        let meeting = "<rpid:activities from=\"2026-11-20T23:30:05Z\"><rpid:meeting/></rpid:activities>";
        let away = rpid("activities", "away");
        assert_eq!(merged(&[meeting, &away]).0, [meeting], "begun after the other was said");
        assert_eq!(merged(&[&meeting.replace("30:05", "28:00"), &away]).0, [away.as_str()]);
        let (active, idle) =
            ("<rpid:user-input>active</rpid:user-input>", "<rpid:user-input>idle</rpid:user-input>");
        assert_eq!(merged(&[active, idle]).0, [active]);
        assert_eq!(merged(&[idle, active]).0, [active]);
        let last = "<rpid:user-input last-input=\"2026-11-20T23:00:00Z\">idle</rpid:user-input>";
        assert_eq!(merged(&[idle, last]).0, [last]);
    }

    #[test]
    fn names_nobody_knows_are_all_kept_and_cards_are_of_one_rfc4482_3() {
        let (one, two) = ("<x:a xmlns:x=\"urn:x\">1</x:a>", "<x:a xmlns:x=\"urn:x\">2</x:a>");
        let card = |name: &str, value: &str| {
            format!("<c:{name} xmlns:c=\"urn:ietf:params:xml:ns:pidf:cipid\">{value}</c:{name}>")
        };
        let older = [one, &card("icon", "http://a/1"), &card("card", "http://a/c")].concat();
        let newer = [one, two, &card("icon", "http://b/1"), &card("icon", "http://b/2")].concat();
        let kept =
            [one, two, &card("icon", "http://b/1"), &card("icon", "http://b/2"), &card("card", "http://a/c")];
        assert_eq!(merged(&[&older, &newer]).0, kept);
    }

    #[test]
    fn notes_are_those_of_who_wrote_any_last() {
        let (_, person) = merged(&[
            "<dm:note>old</dm:note>",
            "<dm:note>new</dm:note><dm:note xml:lang=\"de\">neu</dm:note>",
            "",
        ]);
        let notes: Vec<&str> = person.notes.iter().map(|n| n.text.as_str()).collect();
        assert_eq!(notes, ["new", "neu"]);
    }
}

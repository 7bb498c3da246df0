//! The sphere a presentity is in, as rules ask for it (RFC 4745 7.3, RFC 5025 3.1.2).

use std::sync::Arc;

use crate::availability::composition;
use crate::availability::document::alone;
use crate::availability::document::pidf::RPID;
use crate::availability::document::xml::Fragment;
use crate::availability::hard_state;
use crate::model::{HomeState, Package, Text, Timestamp};

/// What the persons of all published documents say: the names of the elements inside (or the words, as drafts before RFC 4480 had it), in lower
/// case, sorted. `None` if nobody says anything, or not all say the same.
pub fn sphere(home: &HomeState, now: Timestamp) -> Option<Vec<Text>> {
    let by_hand = hard_state::publication(home);
    let live = home.live_publications(now).map(Arc::as_ref).filter(|p| p.package == Package::Presence);
    let mut sphere = None;
    for document in by_hand.iter().chain(live).filter_map(composition::read) {
        let attributes = document.persons.iter().flat_map(|person| &person.extensions);
        for value in attributes.filter(|attribute| holds(attribute, now)).filter_map(value) {
            if *sphere.get_or_insert_with(|| value.clone()) != value {
                return None;
            }
        }
    }
    sphere
}

/// Within its `from` and `until`, if it has them (RFC 4480 3.1).
fn holds(attribute: &Fragment, now: Timestamp) -> bool {
    let (from, until) = attribute.range();
    from.is_none_or(|from| from <= now) && until.is_none_or(|until| now < until)
}

fn value(fragment: &Fragment) -> Option<Vec<Text>> {
    if fragment.namespace() != RPID || fragment.local() != "sphere" {
        return None;
    }
    alone::read(fragment, |node| {
        let names = node.children().map(|child| child.local().to_lowercase());
        let words = node.text().split_whitespace().map(str::to_lowercase);
        let mut all: Vec<_> = names.chain(words).map(Text::from).collect();
        all.sort_unstable();
        all.dedup();
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::availability::fixtures::{NOW, home, pidf, publish};

    fn sphere_of(documents: &[&str]) -> Option<Vec<String>> {
        let mut home = home();
        for (id, inner) in (1..).zip(documents) {
            publish(&mut home, id, &pidf(inner));
        }
        sphere(&home, NOW).map(|words| words.iter().map(ToString::to_string).collect())
    }

    fn person(sphere: &str) -> String {
        format!("<dm:person id=\"p\"><rpid:sphere>{sphere}</rpid:sphere></dm:person>")
    }

    #[test]
    fn all_who_say_it_must_say_the_same_rfc5025_3_1_2() {
        let (work, home, none) = (person("<rpid:work/>"), person("<rpid:home/>"), "<dm:person id=\"p\"/>");
        let is = |word: &str| Some(vec![word.to_owned()]);
        assert_eq!(sphere_of(&[]), None);
        assert_eq!(sphere_of(&[none]), None);
        assert_eq!(sphere_of(&[&work]), is("work"));
        assert_eq!(sphere_of(&[&work, none, &work]), is("work"));
        assert_eq!(sphere_of(&[&work, &home]), None);
        assert_eq!(sphere_of(&[&format!("{work}{}", home.replace("\"p\"", "\"q\""))]), None);
        let tuple = "<tuple id=\"a\"><status/><rpid:sphere><rpid:work/></rpid:sphere></tuple>";
        assert_eq!(sphere_of(&[tuple]), None, "only of persons");
    }

    #[test]
    fn a_sphere_that_is_over_is_none_rfc4480_3_1() {
        let at = |from: &str, until: &str| {
            let sphere = format!("<rpid:sphere from=\"{from}\" until=\"{until}\"><rpid:work/></rpid:sphere>");
            sphere_of(&[&format!("<dm:person id=\"p\">{sphere}</dm:person>")])
        };
        assert!(at("2026-11-20T23:29:15Z", "2026-11-20T23:29:16Z").is_some());
        assert_eq!(at("2026-11-20T23:29:14Z", "2026-11-20T23:29:15Z"), None);
        assert_eq!(at("2026-11-20T23:29:16Z", "2026-11-20T23:29:17Z"), None);
    }

    #[test]
    fn spheres_of_ones_own_are_spheres_rfc4480_3_11() {
        assert_eq!(
            sphere_of(&[&person("<x:Scouting xmlns:x=\"urn:x\"/>")]),
            Some(vec!["scouting".to_owned()])
        );
        assert_eq!(sphere_of(&[&person("Bowling")]), Some(vec!["bowling".to_owned()]));
    }
}

//! Which attributes of a person, service or device hold at an instant (RFC 4480 3.1, 5).

use std::collections::HashMap;

use crate::availability::document::pidf::RPID;
use crate::availability::document::values::date_time;
use crate::availability::document::xml::Fragment;
use crate::model::{Publication, Timestamp};

/// What is left of a component's attributes: of each element of RPID at most one, and only if it holds now. Where several do, one that
/// names its time comes before one that does not, and what began last before what began earlier. Everything else stays as it is.
pub(super) fn in_force(all: &[Fragment], now: Timestamp) -> Vec<Fragment> {
    let mut left: Vec<&Fragment> = Vec::with_capacity(all.len());
    let mut places: HashMap<&str, usize> = HashMap::new();
    for fragment in all {
        if fragment.namespace() != RPID {
            left.push(fragment);
            continue;
        }
        if !fragment.holds_at(now) {
            continue;
        }
        let place = *places.entry(fragment.local()).or_insert(left.len());
        match left.get_mut(place) {
            Some(present) if rank(present) < rank(fragment) => *present = fragment,
            Some(_) => {}
            None => left.push(fragment),
        }
    }
    left.into_iter().cloned().collect()
}

fn rank(fragment: &Fragment) -> (bool, Option<Timestamp>) {
    let (from, until) = fragment.range();
    (from.is_some() || until.is_some(), from)
}

/// The timestamp of a component whose publisher wrote `own`: never the same for another content (RFC 3863 4.1.7). Its own, unless something was
/// said under it before ([`Publication::is_restamped`]), or an attribute has begun or ended since.
pub(super) fn timestamp(
    own: Option<&str>,
    attributes: &[Fragment],
    publication: &Publication,
    now: Timestamp,
) -> Option<String> {
    let own = own?;
    let restamped = publication.is_restamped.then_some(publication.modified_at);
    let said_at = restamped.or_else(|| date_time(own));
    let ends = attributes.iter().filter(|a| a.namespace() == RPID).flat_map(|attribute| {
        let (from, until) = attribute.range();
        from.into_iter().chain(until)
    });
    let turned_at = ends.filter(|end| *end <= now && Some(*end) > said_at).max();
    Some(turned_at.or(restamped).map_or_else(|| own.to_owned(), Timestamp::rfc3339_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::availability::document::pidf::Pidf;
    use crate::availability::fixtures::{NOW, home, pidf, publish};

    fn read(inner: &str) -> Vec<Fragment> {
        let person = format!("<dm:person id=\"p\">{inner}</dm:person>");
        Pidf::parse(pidf(&person).as_bytes()).unwrap().persons.remove(0).extensions
    }

    fn left(inner: &str, now: Timestamp) -> Vec<String> {
        in_force(&read(inner), now).iter().map(|f| f.raw().to_owned()).collect()
    }

    const MEETING: &str = "<rpid:activities from=\"2026-11-20T23:29:00Z\" until=\"2026-11-20T23:30:00Z\"><rpid:meeting/></rpid:activities>";
    const LUNCH: &str = "<rpid:activities from=\"2026-11-20T23:30:00Z\"><rpid:lunch/></rpid:activities>";
    const AWAY: &str = "<rpid:activities><rpid:away/></rpid:activities>";

    #[test]
    fn what_has_not_begun_or_is_over_is_not_current_rfc4480_3_1() {
        let all = [MEETING, LUNCH, AWAY].concat();
        assert_eq!(left(&all, Timestamp(NOW.0 - 16_000)), [AWAY]);
        assert_eq!(left(&all, NOW), [MEETING]);
        assert_eq!(left(&all, Timestamp(1_795_217_399_999)), [MEETING], "until the very end");
        assert_eq!(left(&all, Timestamp(1_795_217_400_000)), [LUNCH]);
        assert_eq!(left(MEETING, NOW.after_secs(60)), Vec::<String>::new());
    }

    #[test]
    fn an_element_stands_at_most_once_rfc4480_5() {
        let class = |name: &str| format!("<rpid:class>{name}</rpid:class>");
        let all = [
            &class("a"),
            AWAY,
            &class("b"),
            "<x:class xmlns:x=\"urn:x\"/>",
            "<x:class xmlns:x=\"urn:x\"/>",
            AWAY,
        ];
        assert_eq!(left(&all.concat(), NOW), [all[0], all[1], all[3], all[4]]);
    }

    #[test]
    fn ranges_of_other_namespaces_are_for_the_watcher_rfc4481_3() {
        let timed = "<t:timed-status xmlns:t=\"urn:ietf:params:xml:ns:pidf:timed-status\" from=\"2030-01-01T00:00:00Z\"/>";
        assert_eq!(left(timed, NOW), [timed]);
    }

    #[test]
    fn other_contents_have_other_timestamps_rfc3863_4_1_7() {
        let mut home = home();
        publish(&mut home, 1, "");
        let mut publication = Publication::clone(&home.publications[0]);
        let attributes = read(&[MEETING, LUNCH].concat());
        let mut stamp = |own: &str, is_restamped: bool, now: Timestamp| {
            publication.is_restamped = is_restamped;
            timestamp(Some(own), &attributes, &publication, now).unwrap()
        };
        assert_eq!(stamp("2026-11-20T23:29:15Z", false, NOW), "2026-11-20T23:29:15Z");
        assert_eq!(stamp("2026-11-20T23:28:15Z", false, NOW), "2026-11-20T23:29:00.000Z");
        assert_eq!(stamp("2026-11-20T23:29:15Z", false, NOW.after_secs(60)), "2026-11-20T23:30:00.000Z");
        assert_eq!(stamp("2026-11-20T23:29:15Z", true, NOW), "2026-11-20T23:29:16.123Z", "modified at");
        assert_eq!(timestamp(None, &attributes, &publication, NOW), None);
    }
}

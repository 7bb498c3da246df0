//! Is the presentity on the phone (RFC 4235 seen as RFC 4480 3.2)? What publishers tell of dialogs says so.

use crate::availability::document::dialog_info::{Dialog, DialogInfo, State};
use crate::availability::document::pidf::{Person, RPID};
use crate::availability::document::xml::Fragment;
use crate::model::{HomeState, Package, Publication, Timestamp};

/// The presentity as somebody who is on the phone, and the publication that says so: the one modified last. `None` if no call is up. A call that
/// rings is none yet; one that has ended for any publisher has ended.
pub(super) fn person(home: &HomeState, now: Timestamp) -> Option<(&Publication, Person)> {
    let live = home.live_publications(now).filter(|publication| publication.package == Package::Dialog);
    let mut told: Vec<(&Publication, Dialog)> = Vec::new();
    for publication in live {
        let read = DialogInfo::parse(&publication.body).ok();
        told.extend(read.into_iter().flat_map(|info| info.dialogs).map(|dialog| (&**publication, dialog)));
    }
    let has_ended =
        |call: &Dialog| told.iter().any(|(_, other)| other.state == State::Terminated && other.is_same(call));
    let is_up = |call: &Dialog| call.state == State::Confirmed && !has_ended(call);
    let up = told.iter().filter(|(_, dialog)| is_up(dialog)).map(|(publication, _)| *publication);
    let publication = up.max_by_key(|publication| publication.modified_at)?;
    let activity = Fragment::of("rpid", RPID, "activities", "<rpid:on-the-phone/>");
    let (notes, timestamp) = Default::default();
    Some((publication, Person { id: ID.to_owned(), extensions: vec![activity], notes, timestamp }))
}

const ID: &str = "line";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::availability::composition::compose;
    use crate::availability::fixtures::{NOW, home, pidf, publish};

    const ON_THE_PHONE: &str = "<rpid:activities><rpid:on-the-phone/></rpid:activities>";

    fn call(home: &mut HomeState, id: u128, call_id: &str, state: &str) {
        let body = format!(
            "<dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" version=\"0\" state=\"full\" entity=\"sip:alice@example.org\">\
             <dialog id=\"d\" call-id=\"{call_id}\"><state>{state}</state></dialog></dialog-info>"
        );
        publish(home, id, &body);
        let last = home.publications.last_mut().unwrap();
        *last = Arc::new(Publication {
            package: Package::Dialog,
            content_type: "application/dialog-info+xml".to_owned(),
            ..Publication::clone(last)
        });
    }

    fn composed(home: &HomeState) -> String {
        String::from_utf8(compose(home, NOW.after_secs(1)).pidf.to_vec()).unwrap()
    }

    #[test]
    fn a_call_that_is_up_is_on_the_phone_and_nothing_else_is_rfc4235() {
        for (state, is_up) in
            [("trying", false), ("early", false), ("confirmed", true), ("terminated", false)]
        {
            let mut home = home();
            call(&mut home, 1, "c", state);
            assert_eq!(composed(&home).contains(ON_THE_PHONE), is_up, "{state}");
        }
        assert!(composed(&home()).contains("closed") && !composed(&home()).contains("person"));
    }

    #[test]
    fn what_has_ended_for_one_has_ended_rfc4235_3_7_1() {
        let mut home = home();
        call(&mut home, 1, "one", "confirmed");
        call(&mut home, 2, "one", "terminated");
        assert!(person(&home, NOW).is_none());
        call(&mut home, 3, "two", "confirmed");
        assert_eq!(person(&home, NOW).unwrap().0.id.0, 3);
        assert!(person(&home, NOW.after_secs(600)).is_none(), "no longer than it is published");
    }

    #[test]
    fn a_call_takes_the_place_of_an_earlier_activity_and_of_nothing_else_rfc4479_3_5() {
        let mut home = home();
        let said = "<dm:person id=\"me\"><rpid:activities><rpid:meal/></rpid:activities><rpid:mood><rpid:happy/></rpid:mood></dm:person>";
        publish(&mut home, 1, &pidf(said));
        call(&mut home, 2, "c", "confirmed");
        let seen = composed(&home);
        assert!(seen.contains(ON_THE_PHONE) && seen.contains("happy") && !seen.contains("meal"), "{seen}");
        assert!(seen.contains("id=\"me\""), "{seen}");
        publish(&mut home, 3, &pidf(&said.replace("me\"", "calendar\"")));
        assert!(composed(&home).contains("meal"), "what was said last holds");
    }
}

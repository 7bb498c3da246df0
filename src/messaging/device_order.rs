//! Which of a user's devices are asked first. Pure.
//!
//! Devices answer a MESSAGE by themselves, so a 2xx does not say that somebody read it: who is asked first gets it alone. A message that lights up a
//! desk phone while its reader walks about with a mobile is as good as lost. So only this is enough to leave a device for later: another
//! device of the same user says that somebody is at it (`user-input` `active`, RFC 4480 3.10), and this one says that nobody is
//! (`user-input` `idle`, or all its services closed). Both find that out by themselves and take it back by themselves.
//!
//! What is not enough: when a device was last published, for many publish once a day; `q`, which says whom to call; what the person does
//! (`away`, `meeting`), which was said of the person and not of a device; `open`, which most programs say as long as they run. A device that says
//! nothing, or of which it is not known what it published (no instance, RFC 5626 4.1), is asked with the first. Of what one device
//! has published several times the last word counts.

use std::time::Duration;

use smallvec::SmallVec;

use crate::availability::composition;
use crate::availability::document::pidf::{Basic, Pidf, RPID};
use crate::model::{Binding, HomeState, Package, Text, Timestamp};

/// What a device says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    /// Somebody is at it.
    AtIt,
    /// Nobody is.
    Left,
}

/// The Contacts of those devices that are asked only if the others do not take a message; mostly none, and never all.
pub fn later(home: &HomeState, now: Timestamp) -> SmallVec<[Text; 2]> {
    let mut later = SmallVec::new();
    if home.publications.is_empty() || home.live_bindings(now).nth(1).is_none() {
        return later;
    }
    let mut is_sure = false;
    for binding in home.live_bindings(now) {
        match word(home, binding, now) {
            Some(Word::AtIt) => is_sure = true,
            Some(Word::Left) => later.push(binding.contact.clone()),
            None => {}
        }
    }
    if is_sure { later } else { SmallVec::new() }
}

/// How long the first may be silent until the others are asked too: long enough for two retransmissions over UDP, and so short that the others have as
/// much time left of what the sender is kept waiting.
pub fn silence(patience: Duration) -> Duration {
    SILENCE.min(patience / 2)
}

/// The last word of a device.
fn word(home: &HomeState, binding: &Binding, now: Timestamp) -> Option<Word> {
    let instance = binding.instance.as_ref()?;
    home.live_publications(now)
        .filter(|publication| publication.package == Package::Presence)
        .filter(|publication| publication.publisher.instance.as_ref() == Some(instance))
        .filter_map(|publication| {
            Some((publication.modified_at, of_document(&*composition::read(publication)?, now)?))
        })
        .max_by_key(|(at, _)| *at)
        .map(|(_, word)| word)
}

fn of_document(document: &Pidf, now: Timestamp) -> Option<Word> {
    let tuples = document.tuples.iter().map(|tuple| &tuple.extensions);
    let persons = document.persons.iter().map(|person| &person.extensions);
    let devices = document.devices.iter().map(|device| &device.extensions);
    let mut is_idle = false;
    for attribute in tuples.chain(persons).chain(devices).flatten() {
        if attribute.namespace() != RPID || attribute.local() != "user-input" || !attribute.holds_at(now) {
            continue;
        }
        match attribute.text().as_str() {
            "active" => return Some(Word::AtIt),
            "idle" => is_idle = true,
            _ => {}
        }
    }
    let is_closed =
        !document.tuples.is_empty() && document.tuples.iter().all(|tuple| tuple.basic == Some(Basic::Closed));
    (is_idle || is_closed).then_some(Word::Left)
}

/// RFC 3261 17.1.2.2: it has been sent again after 0.5 and 1.5 seconds, and is about to be a third time.
const SILENCE: Duration = Duration::from_millis(3_400);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::availability::fixtures::{NOW, home, pidf, publish};
    use crate::model::{BindingKey, Flow, Publication, Transport};

    const OPEN: &str = "<tuple id=\"t\"><status><basic>open</basic></status></tuple>";
    const CLOSED: &str = "<tuple id=\"t\"><status><basic>closed</basic></status></tuple>";

    fn input(value: &str) -> String {
        format!("{OPEN}<dm:person id=\"p\"><rpid:user-input>{value}</rpid:user-input></dm:person>")
    }

    fn register(home: &mut HomeState, name: &str, instance: Option<&str>) {
        let local = std::net::SocketAddr::from(([192, 0, 2, 1], 5060));
        home.bindings.push(Arc::new(Binding {
            aor: home.aor.clone(),
            key: BindingKey(name.into()),
            contact: name.into(),
            params: Text::default(),
            q: 1_000,
            instance: instance.map(Text::from),
            reg_id: None,
            path: Box::default(),
            call_id: "c".into(),
            cseq: 1,
            flow: Flow { transport: Transport::Udp, local, remote: local, connection: 0 },
            direct: true,
            user_agent: Text::default(),
            created_at: NOW,
            refreshed_at: NOW,
            expires_at: NOW.after_secs(600),
        }));
    }

    /// Who is asked later, of devices `desk`, `mobile` and `tablet`, which have published this.
    fn asked_later(published: &[(&str, &str)]) -> Vec<String> {
        let mut home = home();
        for name in ["desk", "mobile", "tablet"] {
            register(&mut home, name, Some(name));
        }
        for (id, (device, inner)) in (1..).zip(published) {
            publish(&mut home, id, &pidf(inner));
            let mut publication = Publication::clone(home.publications.last().unwrap());
            publication.publisher.instance = Some((*device).into());
            *home.publications.last_mut().unwrap() = publication.into();
        }
        later(&home, NOW).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn who_has_published_nothing_gets_it_everywhere() {
        assert!(asked_later(&[]).is_empty());
    }

    #[test]
    fn a_device_that_nobody_is_at_comes_after_one_that_somebody_is_at() {
        let (active, idle) = (input("active"), input("idle"));
        assert_eq!(asked_later(&[("desk", &idle), ("mobile", &active)]), ["desk"]);
        assert_eq!(
            asked_later(&[("mobile", &active), ("desk", CLOSED), ("tablet", &idle)]),
            ["desk", "tablet"]
        );
    }

    #[test]
    fn devices_that_are_alike_get_it_both() {
        let (active, idle) = (input("active"), input("idle"));
        assert!(asked_later(&[("desk", &active), ("mobile", &active)]).is_empty());
        assert!(asked_later(&[("desk", &idle), ("mobile", &idle)]).is_empty());
    }

    #[test]
    fn a_device_that_does_not_say_that_nobody_is_at_it_is_asked_at_once() {
        let active = input("active");
        let away =
            format!("{OPEN}<dm:person id=\"p\"><rpid:activities><rpid:away/></rpid:activities></dm:person>");
        assert!(asked_later(&[("desk", &active)]).is_empty());
        assert!(asked_later(&[("desk", &active), ("mobile", OPEN), ("tablet", &away)]).is_empty());
    }

    #[test]
    fn that_nobody_is_at_one_device_does_not_say_where_they_are() {
        assert!(asked_later(&[("desk", &input("idle")), ("mobile", OPEN)]).is_empty());
        assert!(asked_later(&[("desk", CLOSED)]).is_empty());
    }

    #[test]
    fn the_last_word_of_a_device_counts() {
        let (active, idle) = (input("active"), input("idle"));
        let said = [("desk", idle.as_str()), ("mobile", &active), ("desk", &active)];
        assert!(asked_later(&said).is_empty());
        let said = [("desk", active.as_str()), ("mobile", &active), ("desk", &idle)];
        assert_eq!(asked_later(&said), ["desk"]);
        // What says nothing of it is no word.
        let said = [("desk", idle.as_str()), ("mobile", &active), ("desk", OPEN)];
        assert_eq!(asked_later(&said), ["desk"]);
    }

    #[test]
    fn a_word_counts_while_it_holds_and_its_device_is_there_rfc4480_3_1() {
        let over = format!(
            "{OPEN}<dm:person id=\"p\"><rpid:user-input until=\"2020-01-01T00:00:00Z\">active</rpid:user-input></dm:person>"
        );
        assert!(asked_later(&[("desk", &input("idle")), ("mobile", &over)]).is_empty());
        assert!(asked_later(&[("desk", &input("idle")), ("watch", &input("active"))]).is_empty());
    }

    #[test]
    fn a_device_without_an_instance_is_asked_at_once() {
        let mut home = home();
        register(&mut home, "desk", None);
        register(&mut home, "mobile", Some("mobile"));
        publish(&mut home, 1, &pidf(&input("idle")));
        assert!(later(&home, NOW).is_empty());
    }

    #[test]
    fn the_others_have_half_of_the_time_at_least() {
        assert_eq!(silence(Duration::from_secs(10)), SILENCE);
        assert_eq!(silence(Duration::from_secs(1)), Duration::from_millis(500));
    }
}

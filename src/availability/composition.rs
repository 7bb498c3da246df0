//! All sources of a presentity composed into one PIDF document (RFC 4479, RFC 3903 10.3).
//!
//! The policy, the only one there is:
//! 1. Every tuple of every live publication is in the document, in order of publication, under the id its publisher gave it. An id that an
//!    earlier publication has already taken gets a suffix that belongs to the later publication.
//! 2. Registered devices are tuples, open, only if nothing is published as a tuple: who publishes `closed` means it, though registered.
//!    Bindings of one instance are one tuple.
//! 3. With no tuple at all there is one closed tuple.
//! 4. There is at most one person: that of the publication modified last among those that have one. Of the devices with one deviceID, the
//!    one modified last counts. Notes and unknown elements of all publications are kept; equal notes once.
//! 5. The entity is the AoR. A contact that would show a device's address is replaced by the AoR ([`is_public`]).
//! 6. A document beyond [`MAX_BYTES`] is reduced to ids and status, then to one tuple.
//!
//! Equal state gives equal bytes, whatever `now` is.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::availability::contact::is_public;
use crate::availability::document::pidf::{Basic, Contact, Device, Pidf, Tuple, hash};
use crate::model::{Binding, HomeState, Package, Publication, PublicationId, Timestamp};

/// The composed document of a presentity, before any watcher is considered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Composed {
    /// The whole document.
    pub pidf: Bytes,
    /// Is any tuple open?
    pub open: bool,
}

/// Composes registrations and publications: a tuple per device, persons and devices of all publications, unknown XML kept.
pub fn compose(home: &HomeState, now: Timestamp) -> Composed {
    let document = gather(home, now);
    let open = document.is_open();
    let pidf = document.write(MAX_BYTES).unwrap_or_else(|| write_reduced(&document));
    Composed { pidf, open }
}

/// The same, reduced to what says open or closed: tuples with id, `basic` and the AoR as contact. Nothing else that was published is in it.
pub fn compose_basic(home: &HomeState, now: Timestamp) -> Composed {
    let document = gather(home, now);
    Composed { open: document.is_open(), pidf: write_reduced(&document) }
}

/// The document of somebody about whom nothing may be known or nothing is: one closed tuple. Byte for byte the same for an
/// offline user and for polite-block.
pub fn unavailable(entity: &str) -> Bytes {
    let mut document = Pidf::empty(entity.to_owned());
    document.tuples.push(offline(entity));
    // Only an entity beyond every limit of an AoR would not fit.
    document.write(usize::MAX).unwrap_or_default()
}

/// A publication's document, read; `None` if it no longer reads.
pub fn read(publication: &Publication) -> Option<Arc<Pidf>> {
    let read = || Pidf::read(&publication.content_type, &publication.body).ok().flatten().map(Arc::new);
    publication.parsed.get().or_else(read)
}

/// Everything, as one document.
pub(super) fn gather(home: &HomeState, now: Timestamp) -> Pidf {
    let entity = home.aor.uri();
    let live = home.live_publications(now).filter(|p| p.package == Package::Presence);
    let sources: Vec<(&Publication, Arc<Pidf>)> = live.filter_map(|p| Some((p.as_ref(), read(p)?))).collect();
    let mut document = Pidf::empty(entity.clone());
    let mut ids = Ids::default();
    for (publication, source) in &sources {
        for tuple in &source.tuples {
            let id = ids.unique(&tuple.id, publication.id);
            let contact = tuple.contact.clone().map(|contact| public(contact, home));
            document.tuples.push(Tuple { id, contact, ..tuple.clone() });
        }
    }
    if document.tuples.is_empty() {
        document.tuples = registered(home, now);
        if document.tuples.is_empty() {
            document.tuples.push(offline(&entity));
        }
        ids.used.extend(document.tuples.iter().map(|t| t.id.clone()));
    }
    let with_person = sources.iter().filter(|(_, source)| !source.persons.is_empty());
    if let Some((publication, source)) = with_person.max_by_key(|(p, _)| p.modified_at) {
        let person = source.persons.first().cloned().into_iter();
        document.persons.extend(person.map(|mut person| {
            person.id = ids.unique(&person.id, publication.id);
            person
        }));
    }
    document.devices = devices(&sources, &mut ids);
    let mut seen = HashSet::new();
    let notes = sources.iter().flat_map(|(_, source)| &source.notes);
    document.notes = notes.filter(|&note| seen.insert(note)).cloned().collect();
    document.extensions = sources.iter().flat_map(|(_, source)| source.extensions.iter().cloned()).collect();
    document
}

/// Bindings as tuples. The id must tell nothing about the device: a hash of a Contact URI could be inverted by trying all addresses.
fn registered(home: &HomeState, now: Timestamp) -> Vec<Tuple> {
    let mut tuples: Vec<Tuple> = Vec::new();
    let mut same_instant: HashMap<Timestamp, usize> = HashMap::new();
    for binding in home.live_bindings(now) {
        let id = match &binding.instance {
            Some(instance) => format!("d{}", hash(&[home.aor.as_str(), "instance", instance])),
            None => {
                let nth = same_instant.entry(binding.created_at).and_modify(|n| *n += 1).or_default();
                device_id(home, binding, *nth)
            }
        };
        if tuples.iter().any(|t| t.id == id) {
            continue;
        }
        let contact = Some(Contact { uri: home.aor.uri(), priority: None });
        let timestamp = Some(binding.created_at.rfc3339());
        tuples.push(Tuple { contact, timestamp, ..Tuple::new(id, Basic::Open) });
    }
    tuples
}

fn device_id(home: &HomeState, binding: &Binding, nth: usize) -> String {
    let created = binding.created_at.0.to_string();
    format!("d{}", hash(&[home.aor.as_str(), "created", &created, &nth.to_string()]))
}

fn offline(entity: &str) -> Tuple {
    let contact = Some(Contact { uri: entity.to_owned(), priority: None });
    Tuple { contact, ..Tuple::new(OFFLINE_ID.to_owned(), Basic::Closed) }
}

fn public(contact: Contact, home: &HomeState) -> Contact {
    if is_public(&contact.uri, &home.aor) { contact } else { Contact { uri: home.aor.uri(), ..contact } }
}

/// One device per deviceID, in the place of its first mention, as the publication modified last has it.
fn devices(sources: &[(&Publication, Arc<Pidf>)], ids: &mut Ids) -> Vec<Device> {
    let mut chosen: Vec<(Timestamp, PublicationId, &Device)> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (publication, source) in sources {
        for device in &source.devices {
            let candidate = (publication.modified_at, publication.id, device);
            let place = *places.entry(&device.device_id).or_insert(chosen.len());
            match chosen.get_mut(place) {
                Some(present) if present.0 <= candidate.0 => *present = candidate,
                Some(_) => {}
                None => chosen.push(candidate),
            }
        }
    }
    let renamed =
        chosen.into_iter().map(|(_, id, device)| Device { id: ids.unique(&device.id, id), ..device.clone() });
    renamed.collect()
}

/// The ids taken in the composed document: `xs:ID` is one space for tuples, persons and devices.
#[derive(Default)]
struct Ids {
    used: HashSet<String>,
}

impl Ids {
    /// The wanted id, or one derived from it and the publication, which is itself never shown.
    fn unique(&mut self, wanted: &str, publication: PublicationId) -> String {
        let mut id = wanted.to_owned();
        let mut round = 0_u32;
        while !self.used.insert(id.clone()) {
            let salt = format!("{:032x}", publication.0);
            id = format!("{wanted}-{}", hash(&[&salt, &round.to_string()]));
            round = round.saturating_add(1);
        }
        id
    }
}

/// Ids and status alone.
pub(super) fn write_reduced(document: &Pidf) -> Bytes {
    let mut reduced = Pidf::empty(document.entity.clone());
    let contact = Contact { uri: document.entity.clone(), priority: None };
    let bare =
        |t: &Tuple| Some(Tuple { contact: Some(contact.clone()), ..Tuple::new(t.id.clone(), t.basic?) });
    reduced.tuples = document.tuples.iter().filter_map(bare).collect();
    if reduced.tuples.is_empty() {
        return unavailable(&document.entity);
    }
    reduced.write(MAX_BYTES).unwrap_or_else(|| {
        let open = reduced.tuples.iter().position(|t| t.basic == Some(Basic::Open)).unwrap_or(0);
        reduced.tuples = reduced.tuples.drain(..).skip(open).take(1).collect();
        reduced.write(usize::MAX).unwrap_or_default()
    })
}

/// A NOTIFY with its headers has to stay under the 64 KiB that a message may have (`A05`).
pub const MAX_BYTES: usize = 48 * 1024;

/// The tuple of somebody who has none.
const OFFLINE_ID: &str = "offline";

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;
    use crate::availability::document::xml::Limits;
    use crate::availability::fixtures::{NOW, home, pidf, publish, register};

    fn text(home: &HomeState) -> String {
        String::from_utf8(compose(home, NOW).pidf.to_vec()).unwrap()
    }

    fn read(home: &HomeState) -> Pidf {
        let wide = Limits { elements: 20_000, bytes: MAX_BYTES, ..Limits::PUBLISHED };
        Pidf::parse_within(&compose(home, NOW).pidf, &wide).unwrap()
    }

    fn tuple(id: &str, basic: &str) -> String {
        format!("<tuple id=\"{id}\"><status><basic>{basic}</basic></status></tuple>")
    }

    #[test]
    fn nobody_registered_looks_like_polite_block_byte_for_byte_rfc3856_6_6_2() {
        let mut home = home();
        let offline = compose(&home, NOW);
        assert_eq!(offline.pidf, unavailable("sip:alice@example.org"));
        assert!(!offline.open);
        assert_eq!(compose_basic(&home, NOW).pidf, offline.pidf);
        register(&mut home, 1, None);
        publish(&mut home, 1, &pidf(&tuple("a", "open")));
        assert_eq!(compose(&home, NOW.after_secs(10_000)).pidf, offline.pidf);
        assert_eq!(
            offline.pidf,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" \
             entity=\"sip:alice@example.org\">\n<tuple id=\"offline\"><status><basic>closed</basic></status>\
             <contact>sip:alice@example.org</contact></tuple>\n</presence>\n"
        );
    }

    #[test]
    fn registered_is_open_until_the_last_binding_goes_rfc3856_7_2() {
        let mut home = home();
        register(&mut home, 1, None);
        register(&mut home, 2, None);
        assert!(compose(&home, NOW).open);
        assert_eq!(read(&home).tuples.len(), 2);
        assert_eq!(read(&home).tuples[0].timestamp.as_deref(), Some("2026-11-20T23:29:16Z"));
        let later = compose(&home, NOW.after_secs(301));
        assert!(later.open);
        assert!(!compose(&home, NOW.after_secs(302)).open);
        home.bindings.clear();
        assert_eq!(compose(&home, NOW).pidf, unavailable("sip:alice@example.org"));
    }

    #[test]
    fn one_instance_is_one_tuple_with_a_lasting_id() {
        let mut home = home();
        register(&mut home, 1, Some("urn:uuid:1"));
        let id = read(&home).tuples[0].id.clone();
        register(&mut home, 2, Some("urn:uuid:1"));
        assert_eq!(read(&home).tuples.len(), 1);
        home.bindings.remove(0);
        assert_eq!(read(&home).tuples[0].id, id);
    }

    #[test]
    fn no_address_of_a_device_is_shown_rfc2779_5_1_18() {
        let mut registered = home();
        register(&mut registered, 7, None);
        assert!(!text(&registered).contains("198.51.100"));
        let mut moved = registered.clone();
        let mut binding = moved.bindings[0].as_ref().clone();
        binding.contact = "sip:alice@203.0.113.9".into();
        binding.key.0 = binding.contact.as_str().into();
        moved.bindings[0] = Arc::new(binding);
        assert_eq!(text(&moved), text(&registered));
        let mut published = home();
        let contact = "<contact priority=\"0.7\">sip:alice@198.51.100.7:5062</contact>";
        publish(
            &mut published,
            1,
            &pidf(&format!("<tuple id=\"a\"><status><basic>open</basic></status>{contact}</tuple>")),
        );
        assert!(!text(&published).contains("198.51.100"));
        assert!(text(&published).contains("<contact priority=\"0.7\">sip:alice@example.org</contact>"));
    }

    #[test]
    fn published_closed_is_not_contradicted_by_a_registration() {
        let mut home = home();
        register(&mut home, 1, None);
        publish(&mut home, 1, &pidf(&tuple("a", "closed")));
        assert!(!compose(&home, NOW).open);
        assert_eq!(read(&home).tuples.len(), 1);
        assert!(compose(&home, NOW).pidf != unavailable("sip:alice@example.org"));
    }

    #[test]
    fn publication_without_tuples_goes_with_the_registration() {
        let mut home = home();
        register(&mut home, 1, None);
        publish(&mut home, 1, &pidf("<dm:person id=\"p\"><rpid:mood><rpid:happy/></rpid:mood></dm:person>"));
        let read = read(&home);
        assert!(read.is_open() && read.persons.len() == 1);
    }

    #[test]
    fn colliding_ids_and_prefixes_lose_nothing_rfc3903_10_4() {
        let one = "<p:presence xmlns:p='urn:ietf:params:xml:ns:pidf' xmlns:x='urn:one' entity='sip:alice@example.org'>\
                   <p:tuple id='a'><p:status><p:basic>open</p:basic><x:s/></p:status><x:e x:k='1'>x</x:e></p:tuple><x:top><y/></x:top>\
                   </p:presence>";
        let two = "<presence xmlns='urn:ietf:params:xml:ns:pidf' xmlns:x='urn:two' xmlns:p='urn:three' entity='sip:alice@example.org'>\
                   <tuple id='a'><status><basic>closed</basic><x:s/></status><p:e/></tuple><x:top xmlns='urn:four'><y/></x:top></presence>";
        let mut both = home();
        publish(&mut both, 1, one);
        publish(&mut both, 2, two);
        let read = read(&both);
        let [first, second] = read.tuples.as_slice() else { panic!() };
        assert_eq!(first.id, "a");
        assert!(second.id.starts_with("a-") && second.id.len() > 8);
        let names = text(&both);
        for expected in [
            "<x:s/>",
            "<x:s xmlns:x=\"urn:two\"/>",
            "<x:e x:k='1'>x</x:e>",
            "<p:e/>",
            "<x:top xmlns=\"\"><y/></x:top>",
        ] {
            assert!(names.contains(expected), "{expected} in {names}");
        }
        assert!(names.contains("xmlns:x=\"urn:one\""));
        assert!(names.contains("<x:top xmlns:x=\"urn:two\" xmlns='urn:four'><y/></x:top>"));
        assert_eq!(compose(&both, NOW), compose(&both.clone(), NOW.after_secs(5)));
        let mut other = home();
        publish(&mut other, 1, one);
        publish(&mut other, 3, two);
        assert_ne!(text(&other), names, "the suffix belongs to the publication");
    }

    #[test]
    fn unknown_elements_survive_byte_for_byte_rfc3863_4_2_3() {
        let status =
            "<c:s xmlns:c='urn:c'  a = \"1\"><!-- kept --><c:in><![CDATA[<&]]></c:in>\r\n &#x41;</c:s>";
        let inner = "<z:odd xmlns:z=\"urn:z\"><z:deep q='&lt;'/></z:odd>";
        let activities = "<rpid:activities from=\"2026-01-01T00:00:00Z\"><rpid:note>n</rpid:note><rpid:meeting/><rpid:lunch/>\
                          <v:brew xmlns:v='urn:v'/></rpid:activities>";
        let mut home = home();
        publish(
            &mut home,
            1,
            &pidf(&format!(
                "<tuple id=\"a\"><status><basic>open</basic>{status}</status>{inner}</tuple>\
                 <dm:person id=\"p\">{activities}</dm:person>{inner}"
            )),
        );
        let composed = text(&home);
        assert!(composed.contains(status) && composed.contains(activities), "{composed}");
        assert_eq!(composed.matches(inner).count(), 2);
    }

    #[test]
    fn one_person_of_the_latest_publication_and_one_device_per_id_rfc4479_3_2() {
        let device = |id: &str, mark: &str| {
            format!(
                "<dm:device id=\"{id}\"><rpid:class>{mark}</rpid:class><dm:deviceID>urn:uuid:1</dm:deviceID></dm:device>"
            )
        };
        let person = |mark: &str| {
            format!("<dm:person id=\"p\"><rpid:class>{mark}</rpid:class></dm:person><note>{mark}</note>")
        };
        let mut home = home();
        publish(
            &mut home,
            9,
            &pidf(&format!("{}{}<note>same</note>", person("newest"), device("d1", "new-device"))),
        );
        publish(
            &mut home,
            1,
            &pidf(&format!("{}{}<note>same</note>", person("older"), device("d2", "old-device"))),
        );
        let read = read(&home);
        assert_eq!((read.persons.len(), read.devices.len()), (1, 1));
        assert!(read.persons[0].extensions[0].raw().contains("newest"));
        assert!(read.devices[0].extensions[0].raw().contains("new-device"));
        let notes: Vec<&str> = read.notes.iter().map(|n| n.text.as_str()).collect();
        assert_eq!(notes, ["newest", "same", "older"]);
    }

    #[test]
    fn entity_is_the_address_of_record_whoever_published_rfc3903_10_1() {
        let mut home = home();
        publish(
            &mut home,
            1,
            &pidf(&tuple("a", "open")).replace("sip:alice@example.org", "pres:mallory@example.net"),
        );
        assert_eq!(read(&home).entity, "sip:alice@example.org");
    }

    #[test]
    fn what_no_longer_reads_is_left_out() {
        let mut home = home();
        publish(&mut home, 1, "<!DOCTYPE a><presence/>");
        assert_eq!(compose(&home, NOW).pidf, unavailable("sip:alice@example.org"));
    }

    #[test]
    fn documents_too_large_for_a_notify_are_reduced_a05() {
        let mut home = home();
        let note = |n: u32| {
            format!("{}<note>{}</note>", tuple(&format!("t{n}"), "open"), n.to_string().repeat(30_000))
        };
        publish(&mut home, 1, &pidf(&note(1)));
        assert!(compose(&home, NOW).pidf.len() > 30_000);
        publish(&mut home, 2, &pidf(&note(2)));
        let composed = compose(&home, NOW);
        assert!(composed.open && composed.pidf.len() < 1_000);
        assert_eq!(read(&home).tuples.len(), 2);
        let many: String = (0..400)
            .map(|n| format!("<tuple id='c{n}'><status><basic>closed</basic></status></tuple>"))
            .collect();
        for id in 3..6 {
            publish(&mut home, id, &pidf(&many[..]));
        }
        assert_eq!(read(&home).tuples.len(), 1);
        assert!(compose(&home, NOW).open && read(&home).is_open());
    }

    #[test]
    fn composed_documents_are_schema_valid_rfc3863_4_4() {
        if Command::new("xmllint").arg("--version").stderr(Stdio::null()).status().is_err() {
            println!("skipped: xmllint is not installed");
            return;
        }
        let mut home = home();
        assert_valid(&text(&home));
        register(&mut home, 1, None);
        register(&mut home, 2, Some("urn:uuid:1"));
        assert_valid(&text(&home));
        // baresip: person first; PJSIP: notes and activities; linphone: foreign elements inside status, and what is not valid at all.
        publish(
            &mut home,
            1,
            &pidf(&format!(
                "<dm:person id=\"p4159\"><rpid:activities/></dm:person>{}",
                tuple("t4109", "open")
            )),
        );
        assert_valid(&text(&home));
        publish(
            &mut home,
            2,
            &pidf(
                "<note>n</note><tuple id=\"4711\"><timestamp>2026-11-20T23:29:15Z</timestamp><note xml:lang=\"en\">x</note>\
                 <contact priority=\"7\">sip:alice@192.0.2.7</contact><status><x:y xmlns:x=\"urn:x\"/><basic>open</basic></status>\
                 <rpid:user-input>idle</rpid:user-input><dm:deviceID>urn:uuid:1</dm:deviceID><odd/></tuple><tuple/>\
                 <dm:device><dm:note>d</dm:note><dm:deviceID>urn:uuid:1</dm:deviceID><rpid:class>c</rpid:class></dm:device>\
                 <dm:person id=\"t4109\"><dm:timestamp>2026-11-20t23:29:15z</dm:timestamp><dm:note>busy</dm:note><rpid:activities>\
                 <rpid:busy/></rpid:activities></dm:person><q:top xmlns:q=\"urn:q\"/>",
            ),
        );
        assert_valid(&text(&home));
        let basic = compose_basic(&home, NOW).pidf;
        assert_valid(std::str::from_utf8(&basic).unwrap());
    }

    fn assert_valid(document: &str) {
        let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/sip-tests/schema/presence.xsd");
        let mut child = Command::new("xmllint")
            .args(["--nonet", "--noout", "--schema", schema, "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(document.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}\n{document}", String::from_utf8_lossy(&output.stderr));
    }

    proptest! {
        #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]
        #[test]
        fn composed_documents_read_again(parts in proptest::collection::vec((0usize..9, 0usize..9), 0..8)) {
            let prefixes = ["x", "y", "dm", "p"];
            let mut home = home();
            for (n, (what, which)) in parts.iter().enumerate() {
                let prefix = prefixes[which % prefixes.len()];
                let body = format!(
                    "<i:presence xmlns:i='urn:ietf:params:xml:ns:pidf' xmlns:d='urn:ietf:params:xml:ns:pidf:data-model' xmlns:{prefix}='urn:{what}' \
                     xmlns='urn:{which}' entity='sip:a@b'><i:tuple id='t{what}'><i:status><{prefix}:s><b/></{prefix}:s></i:status></i:tuple>\
                     <d:person id='t{which}'><{prefix}:q/></d:person><d:device id='d'><e/><d:deviceID>urn:{what}</d:deviceID></d:device></i:presence>"
                );
                publish(&mut home, u128::try_from(n).unwrap(), &body);
            }
            let composed = compose(&home, NOW);
            let wide = Limits { attributes: 200, namespaces: 200, ..Limits::PUBLISHED };
            let read = Pidf::parse_within(&composed.pidf, &wide).unwrap();
            prop_assert_eq!(read.tuples.len(), parts.len().max(1));
            prop_assert!(read.tuples.iter().all(|t| t.status.len() == usize::from(!parts.is_empty())));
            prop_assert_eq!(read.write(MAX_BYTES).unwrap().len(), composed.pidf.len());
        }
    }
}

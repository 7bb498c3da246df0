//! All sources of a presentity composed into one PIDF document (RFC 4479, RFC 3903 10.3).
//!
//! The policy, the only one there is:
//! 0. What the owner set by hand is a publication like the others ([`hard_state`]): the first of them, and of no device.
//! 1. Services. Every tuple of every live publication is in the document, in order of publication, under the id its publisher gave it. If
//!    another publication had that id when the tuple came, it gets a suffix that belongs to its own publication ([`renamed`]), and keeps it.
//! 2. A device that has left: what was published by a device that was registered then and is not any more ([`Publication::publisher`]) stays, but
//!    services that are reached by SIP are closed. Availability is what was published, reachability what is registered; `open` needs both.
//! 3. Registered devices are tuples, open, with what they can do (`capabilities`), unless they have published tuples. A device counts as one that
//!    has not only if that is certain: if nobody has, or all who have are known to be other devices. Bindings of one instance are one tuple.
//! 4. With no tuple at all there is one closed tuple.
//! 5. There is at most one person, merged from all of them (`person`). Of the devices with one deviceID, the one modified last counts. Notes
//!    and unknown elements of all publications are kept; equal notes once.
//! 6. An element of RPID is in a component once at most, and only from its `from` until its `until` (`attributes`).
//! 7. The entity is the AoR. A contact that would show a device's address is replaced by the AoR ([`is_public`]).
//! 8. A document beyond [`MAX_BYTES`] is reduced to ids and status, then to one tuple.
//!
//! Equal state gives equal bytes until the next turn of a publication ([`Publication::turns`]), whatever `now` is. Calls are
//! a source of their own (`line`): a matter of the person (`on-the-phone`), which neither opens nor closes a service.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::availability::attributes::{in_force, timestamp};
use crate::availability::contact::is_public;
use crate::availability::document::pidf::{
    Basic, CAPS, Contact, DATA_MODEL, Device, Person, Pidf, Tuple, hash,
};
use crate::availability::document::xml::Fragment;
use crate::availability::{capabilities, hard_state, line, person};
use crate::model::{Binding, HomeState, Package, Publication, PublicationId, Renamed, Text, Timestamp};

/// The composed document of a presentity, before any watcher is considered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Composed {
    /// The whole document.
    pub pidf: Bytes,
    /// Is any tuple open?
    pub open: bool,
}

/// Composes registrations and publications: a tuple per service, one person, devices of all publications, unknown XML kept.
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

/// Which tuples of a document that is being published get a suffix: those whose id somebody else has in the composed document, now that they come.
/// What was in the document before stays as it was, so that a tuple has one id from when it comes until it goes (RFC 3903 10.4).
///
/// - `publication`: whose document it will be.
/// - `old`: the same publication, if it is there already.
/// - `others`: all others that are composed.
pub fn renamed<'h>(
    publication: PublicationId,
    old: Option<&Publication>,
    document: &Pidf,
    others: impl Iterator<Item = &'h Publication>,
) -> Renamed {
    let old = old.and_then(|old| Some((old, read(old)?)));
    let before: HashMap<&str, bool> = old.as_ref().map_or_else(HashMap::new, |(old, document)| {
        let tuples = document.tuples.iter().enumerate();
        tuples.map(|(place, tuple)| (tuple.id.as_str(), old.renamed.contains(place))).collect()
    });
    let mut renamed = Renamed::default();
    let mut new = Vec::new();
    for (place, tuple) in document.tuples.iter().enumerate() {
        match before.get(tuple.id.as_str()) {
            Some(true) => renamed.insert(place),
            Some(false) => {}
            None => new.push((place, tuple)),
        }
    }
    if new.is_empty() {
        return renamed;
    }
    let mut taken: HashSet<String> = others.flat_map(composed_ids).collect();
    let own = before.iter().filter(|(_, is_renamed)| **is_renamed);
    taken.extend(own.map(|(id, _)| with_suffix(id, publication, 0)));
    new.iter().filter(|(_, tuple)| taken.contains(&tuple.id)).for_each(|(place, _)| renamed.insert(*place));
    renamed
}

/// The ids that the tuples of a publication have in the composed document.
fn composed_ids(publication: &Publication) -> Vec<String> {
    let Some(document) = read(publication) else { return Vec::new() };
    let id = |(place, tuple): (usize, &Tuple)| {
        let is_renamed = publication.renamed.contains(place);
        if is_renamed { with_suffix(&tuple.id, publication.id, 0) } else { tuple.id.clone() }
    };
    document.tuples.iter().enumerate().map(id).collect()
}

/// Everything, as one document, before it is written and before its length is looked at.
pub fn gather(home: &HomeState, now: Timestamp) -> Pidf {
    let by_hand = hard_state::publication(home);
    let sources = sources(home, by_hand.as_ref(), now);
    let mut document = Pidf::empty(home.aor.uri());
    let mut ids = Ids::default();
    for source in &sources {
        let tuples = source.document.tuples.iter();
        document.tuples.extend(tuples.enumerate().map(|(place, tuple)| {
            let id = if source.publication.renamed.contains(place) {
                ids.renamed(&tuple.id, source.publication.id)
            } else {
                ids.unique(&tuple.id, source.publication.id)
            };
            source.service(tuple, id, home, now)
        }));
    }
    for (mut tuple, device) in registered(home, &sources, now) {
        tuple.id = ids.unique(&tuple.id, NOT_PUBLISHED);
        document.tuples.push(tuple);
        document
            .devices
            .extend(device.map(|device| Device { id: ids.unique(&device.id, NOT_PUBLISHED), ..device }));
    }
    if document.tuples.is_empty() {
        document.tuples.push(offline(&document.entity));
        ids.used.insert(OFFLINE_ID.to_owned());
    }
    let line = line::person(home, now);
    let persons = sources.iter().flat_map(Source::persons);
    let persons: Vec<(&Publication, &Person)> =
        persons.chain(line.as_ref().map(|(publication, person)| (*publication, person))).collect();
    if let Some(mut merged) = person::merge(&persons, now) {
        let publication = persons.first().map_or(NOT_PUBLISHED, |(publication, _)| publication.id);
        merged.id = ids.unique(&merged.id, publication);
        document.persons.push(merged);
    }
    document.devices.extend(devices(&sources, &mut ids, now));
    let mut seen = HashSet::new();
    let notes = sources.iter().flat_map(|source| &source.document.notes);
    document.notes = notes.filter(|&note| seen.insert(note)).cloned().collect();
    document.extensions =
        sources.iter().flat_map(|source| source.document.extensions.iter().cloned()).collect();
    document
}

/// One publication, as it is to be taken.
struct Source<'h> {
    publication: &'h Publication,
    document: Arc<Pidf>,
    device: Origin<'h>,
}

/// The device that published.
enum Origin<'h> {
    /// Nothing is known of it.
    Unknown,
    /// It is not registered any more.
    Left,
    /// It is registered, lately by this binding.
    Registered(&'h Binding),
}

fn sources<'h>(home: &'h HomeState, by_hand: Option<&'h Publication>, now: Timestamp) -> Vec<Source<'h>> {
    let live = home.live_publications(now).map(Arc::as_ref).filter(|p| p.package == Package::Presence);
    by_hand.into_iter().chain(live).filter_map(|publication| Source::of(publication, home, now)).collect()
}

impl<'h> Source<'h> {
    fn of(publication: &'h Publication, home: &'h HomeState, now: Timestamp) -> Option<Source<'h>> {
        let device = match &publication.publisher.instance {
            None => Origin::Unknown,
            Some(instance) => home
                .live_bindings(now)
                .filter(|binding| binding.instance.as_ref() == Some(instance))
                .last()
                .map_or(Origin::Left, |binding| Origin::Registered(binding)),
        };
        Some(Source { publication, document: read(publication)?, device })
    }

    fn persons(&self) -> impl Iterator<Item = (&'h Publication, &Person)> {
        self.document.persons.iter().map(|person| (self.publication, person))
    }

    fn service(&self, tuple: &Tuple, id: String, home: &HomeState, now: Timestamp) -> Tuple {
        let mut extensions = in_force(&tuple.extensions, now);
        let mut timestamp = timestamp(tuple.timestamp.as_deref(), &tuple.extensions, self.publication, now);
        let mut basic = tuple.basic;
        match self.device {
            Origin::Left if basic == Some(Basic::Open) && is_reached_by_sip(tuple) => {
                // Its publisher did not say so then (RFC 3863 4.1.7).
                timestamp = None;
                basic = Some(Basic::Closed);
            }
            Origin::Registered(binding) if !extensions.iter().any(is_servcaps) => {
                let capabilities = capabilities::of_service(&binding.params);
                if capabilities.is_some() {
                    timestamp = None;
                }
                extensions.extend(capabilities);
            }
            Origin::Left | Origin::Registered(_) | Origin::Unknown => {}
        }
        let contact = tuple.contact.clone().map(|contact| public(contact, home));
        let (status, notes) = (tuple.status.clone(), tuple.notes.clone());
        Tuple { id, basic, status, extensions, contact, notes, timestamp }
    }
}

fn is_servcaps(fragment: &Fragment) -> bool {
    fragment.namespace() == CAPS && fragment.local() == "servcaps"
}

/// Does nobody answer there once the device is gone? A number in the telephone network or a mailbox still does.
fn is_reached_by_sip(tuple: &Tuple) -> bool {
    let Some(contact) = &tuple.contact else { return true };
    let scheme = contact.uri.split(':').next().unwrap_or_default();
    ["sip", "sips", "pres", "im"].iter().any(|sip| scheme.eq_ignore_ascii_case(sip))
}

/// Registered devices that have not published tuples, as such. The id must tell nothing about the device: a hash of a Contact URI could be
/// inverted by trying all addresses.
fn registered(home: &HomeState, sources: &[Source<'_>], now: Timestamp) -> Vec<(Tuple, Option<Device>)> {
    let publishers: Vec<Option<&Text>> = sources
        .iter()
        .filter(|source| !source.document.tuples.is_empty() && source.publication.id != hard_state::ID)
        .map(|source| source.publication.publisher.instance.as_ref())
        .collect();
    let has_not_published = |binding: &Binding| {
        let is_other = |publisher: &Option<&Text>| match (publisher, &binding.instance) {
            (Some(publisher), Some(own)) => *publisher != own,
            (None, _) | (_, None) => false,
        };
        publishers.iter().all(is_other)
    };
    let mut found: Vec<(Tuple, Option<Device>)> = Vec::new();
    let mut same_instant: HashMap<Timestamp, usize> = HashMap::new();
    for binding in home.live_bindings(now).filter(|binding| has_not_published(binding)) {
        let id = match &binding.instance {
            Some(instance) => format!("d{}", hash(&[home.aor.as_str(), "instance", instance])),
            None => {
                let nth = same_instant.entry(binding.created_at).and_modify(|n| *n += 1).or_default();
                device_id(home, binding, *nth)
            }
        };
        let (mut tuple, device) = as_registered(home, binding, id);
        match found.iter_mut().find(|(present, _)| present.id == tuple.id) {
            // The last one knows best what it can do, the first one since when it is there.
            Some(present) => {
                tuple.timestamp = tuple.timestamp.and(present.0.timestamp.take());
                *present = (tuple, device);
            }
            None => found.push((tuple, device)),
        }
    }
    found
}

/// A device as its binding describes it. With a description it has no timestamp: nothing tells when it last changed.
fn as_registered(home: &HomeState, binding: &Binding, id: String) -> (Tuple, Option<Device>) {
    let contact = Some(Contact { uri: home.aor.uri(), priority: None });
    let mut tuple = Tuple { contact, ..Tuple::new(id, Basic::Open) };
    tuple.extensions.extend(capabilities::of_service(&binding.params));
    let device = capabilities::of_device(&binding.params).map(|capabilities| {
        let device_id = device_urn(&tuple.id);
        tuple.extensions.push(Fragment::of("dm", DATA_MODEL, "deviceID", &device_id));
        let (notes, timestamp) = Default::default();
        Device { id: format!("{}-d", tuple.id), device_id, extensions: vec![capabilities], notes, timestamp }
    });
    tuple.timestamp = tuple.extensions.is_empty().then(|| binding.created_at.rfc3339());
    (tuple, device)
}

/// A URN for a device (RFC 4479 3.4), of its own for each presentity: an instance is one for all.
fn device_urn(id: &str) -> String {
    let hex = format!("{}{}", hash(&[id, "1"]), hash(&[id, "2"]));
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    // Version 8, variant 1 (RFC 9562 5.8).
    format!("urn:uuid:{}-{}-8{}-8{}-{}", part(0, 8), part(8, 12), part(12, 15), part(15, 18), part(18, 30))
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
fn devices(sources: &[Source<'_>], ids: &mut Ids, now: Timestamp) -> Vec<Device> {
    let mut chosen: Vec<Chosen<'_>> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for source in sources {
        for device in &source.document.devices {
            let candidate = Chosen { publication: source.publication, device, shares_its_timestamp: false };
            let place = *places.entry(&device.device_id).or_insert(chosen.len());
            let Some(present) = chosen.get_mut(place) else {
                chosen.push(candidate);
                continue;
            };
            let is_shared = present.shares_its_timestamp
                || present.device.timestamp == device.timestamp && present.device != device;
            if present.publication.modified_at <= source.publication.modified_at {
                *present = candidate;
            }
            present.shares_its_timestamp = is_shared;
        }
    }
    let composed = chosen.into_iter().map(|Chosen { publication, device, shares_its_timestamp }| {
        let own = timestamp(device.timestamp.as_deref(), &device.extensions, publication, now);
        Device {
            id: ids.unique(&device.id, publication.id),
            device_id: device.device_id.clone(),
            extensions: in_force(&device.extensions, now),
            notes: device.notes.clone(),
            timestamp: own.filter(|_| !shares_its_timestamp),
        }
    });
    composed.collect()
}

struct Chosen<'s> {
    publication: &'s Publication,
    device: &'s Device,
    /// Another one has the same timestamp and says something else (RFC 3863 4.1.7).
    shares_its_timestamp: bool,
}

/// The ids taken in the composed document: `xs:ID` is one space for tuples, persons and devices.
#[derive(Default)]
struct Ids {
    used: HashSet<String>,
}

impl Ids {
    /// The wanted id, or one derived from it and the publication, which is itself never shown.
    fn unique(&mut self, wanted: &str, publication: PublicationId) -> String {
        if self.used.insert(wanted.to_owned()) {
            wanted.to_owned()
        } else {
            self.renamed(wanted, publication)
        }
    }

    /// The derived one, though the wanted one may be free.
    fn renamed(&mut self, wanted: &str, publication: PublicationId) -> String {
        let mut round = 0_u32;
        loop {
            let id = with_suffix(wanted, publication, round);
            if self.used.insert(id.clone()) {
                return id;
            }
            round = round.saturating_add(1);
        }
    }
}

fn with_suffix(id: &str, publication: PublicationId, round: u32) -> String {
    let salt = format!("{:032x}", publication.0);
    format!("{id}-{}", hash(&[&salt, &round.to_string()]))
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

/// Of components that are made here.
const NOT_PUBLISHED: PublicationId = PublicationId(0);
/// The tuple of somebody who has none.
const OFFLINE_ID: &str = "offline";

#[cfg(test)]
mod tests {

    use proptest::prelude::*;

    use super::*;
    use crate::availability::document::xml::Limits;
    use crate::availability::fixtures::{NOW, assert_valid_if_possible, home, pidf, publish, register};

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

    fn published_by(home: &mut HomeState, id: u128, instance: &str, inner: &str) {
        publish(home, id, &pidf(inner));
        let mut publication = Publication::clone(home.publications.last().unwrap());
        publication.publisher.instance = Some(instance.into());
        *home.publications.last_mut().unwrap() = publication.into();
    }

    #[test]
    fn a_device_that_has_left_is_closed_until_it_comes_back_rfc4479_3_3_4() {
        let stamp = "<timestamp>2026-11-20T23:29:15Z</timestamp>";
        let inner = [
            &tuple("a", "open").replace("</tuple>", &format!("{stamp}</tuple>")),
            "<tuple id=\"b\"><status><basic>open</basic></status><contact>tel:+4930123456</contact></tuple>",
            "<tuple id=\"c\"><status><basic>open</basic></status><contact>sips:alice@example.org</contact></tuple>",
            "<dm:person id=\"p\"><rpid:activities><rpid:meeting/></rpid:activities></dm:person>",
        ];
        let mut home = home();
        register(&mut home, 1, Some("urn:uuid:1"));
        published_by(&mut home, 1, "urn:uuid:1", &inner.concat());
        let is = |home: &HomeState, now| {
            let document = gather(home, now);
            let tuples =
                document.tuples.iter().map(|t| (t.basic == Some(Basic::Open), t.timestamp.is_some()));
            (tuples.collect::<Vec<_>>(), document.persons.len())
        };
        assert_eq!(is(&home, NOW), (vec![(true, true), (true, false), (true, false)], 1));
        assert_eq!(is(&home, NOW.after_secs(301)), (vec![(false, false), (true, false), (false, false)], 1));
        register(&mut home, 2, Some("urn:uuid:1"));
        assert_eq!(is(&home, NOW.after_secs(301)), (vec![(true, true), (true, false), (true, false)], 1));
        home.bindings.clear();
        register(&mut home, 3, Some("urn:uuid:2"));
        assert_eq!(
            is(&home, NOW).0,
            [(false, false), (true, false), (false, false), (true, true)],
            "another one is there"
        );
    }

    #[test]
    fn a_device_known_to_be_another_one_than_all_publishers_stands_beside_them() {
        let mut home = home();
        register(&mut home, 1, Some("urn:uuid:1"));
        register(&mut home, 2, Some("urn:uuid:2"));
        register(&mut home, 3, None);
        published_by(&mut home, 1, "urn:uuid:1", &tuple("a", "closed"));
        let open = |home: &HomeState| -> Vec<bool> {
            gather(home, NOW).tuples.iter().map(|t| t.basic == Some(Basic::Open)).collect()
        };
        assert_eq!(open(&home), [false, true]);
        publish(&mut home, 2, &pidf(&tuple("b", "closed")));
        assert_eq!(open(&home), [false, false], "it may be any of them");
    }

    #[test]
    fn capabilities_come_from_the_registration_where_none_are_published_rfc5196_3() {
        let mut home = home();
        for (nth, instance) in [(1, None), (2, Some("urn:uuid:2"))] {
            register(&mut home, nth, instance);
            let mut binding = Binding::clone(home.bindings.last().unwrap());
            binding.params =
                ";audio;methods=\"INVITE,MESSAGE\";mobility=\"mobile\";+sip.instance=\"<urn:uuid:2>\"".into();
            *home.bindings.last_mut().unwrap() = binding.into();
        }
        let registered = gather(&home, NOW);
        for (tuple, device) in registered.tuples.iter().zip(&registered.devices) {
            let names: Vec<&str> = tuple.extensions.iter().map(Fragment::local).collect();
            assert_eq!(names, ["servcaps", "deviceID"]);
            assert_eq!(tuple.extensions[1].text(), device.device_id);
            assert_eq!(device.extensions[0].local(), "devcaps");
        }
        assert_eq!(registered.devices.len(), 2);
        assert!(!text(&home).contains("urn:uuid:2"), "an instance is the same for all presentities");
        assert_valid_if_possible("presence", &text(&home));
        let own =
            "<c:servcaps xmlns:c=\"urn:ietf:params:xml:ns:pidf:caps\"><c:video>true</c:video></c:servcaps>";
        let inner = format!("<tuple id=\"a\"><status/>{own}</tuple>{}", tuple("b", "open"));
        published_by(&mut home, 1, "urn:uuid:2", &inner);
        let published = gather(&home, NOW);
        assert_eq!(published.tuples[0].extensions.iter().map(Fragment::raw).collect::<Vec<_>>(), [own]);
        assert!(published.tuples[1].extensions[0].raw().contains("<caps:MESSAGE/>"));
        assert!(published.devices.is_empty());
    }

    #[test]
    fn persons_services_and_devices_are_kept_apart_in_one_document_rfc4479_3_1() {
        let class = |name: &str| format!("<rpid:class>{name}</rpid:class>");
        let mut home = home();
        for id in 1..=2 {
            let inner = format!(
                "<tuple id=\"t\"><status><basic>open</basic>{}</status></tuple><dm:person id=\"p\">{}</dm:person>\
                 <dm:device id=\"d\">{}<dm:deviceID>urn:uuid:{id}</dm:deviceID></dm:device>",
                class("service"),
                class("person"),
                class("device")
            );
            publish(&mut home, id, &pidf(&inner));
        }
        let read = read(&home);
        let classes = |all: &[Fragment]| all.iter().map(Fragment::text).collect::<Vec<_>>();
        assert_eq!((read.tuples.len(), read.persons.len(), read.devices.len()), (2, 1, 2));
        // Attributes of a service are children of its tuple (RFC 4479 3.7).
        assert!(read.tuples.iter().all(|t| t.status.is_empty() && classes(&t.extensions) == ["service"]));
        assert_eq!(classes(&read.persons[0].extensions), ["person"]);
        assert!(read.devices.iter().all(|d| classes(&d.extensions) == ["device"]));
        assert_eq!(text(&home).matches("<presence").count(), 1);
    }

    #[test]
    fn timed_status_is_apart_from_the_current_one_rfc4481_3() {
        let timed = "<ts:timed-status xmlns:ts=\"urn:ietf:params:xml:ns:pidf:timed-status\" from=\"2030-01-01T00:00:00Z\">\
                     <ts:basic>open</ts:basic></ts:timed-status>";
        let mut home = home();
        publish(&mut home, 1, &pidf(&tuple("a", "closed").replace("</tuple>", &format!("{timed}</tuple>"))));
        assert!(!compose(&home, NOW).open);
        assert!(text(&home).contains(timed));
        assert!(
            home.publications[0].turns.is_empty()
                && !String::from_utf8_lossy(&compose_basic(&home, NOW).pidf).contains("open")
        );
        assert_valid_if_possible("presence", &text(&home));
    }

    #[test]
    fn what_people_print_on_cards_passes_rfc4482_3() {
        let card = ["card", "display-name", "homepage", "icon", "map", "sound"].map(|name| {
            format!(
                "<c:{name} xmlns:c=\"urn:ietf:params:xml:ns:pidf:cipid\">http://example.org/{name}</c:{name}>"
            )
        });
        let mut home = home();
        publish(&mut home, 1, &pidf(&format!("<dm:person id=\"p\">{}</dm:person>", card.concat())));
        publish(&mut home, 2, &pidf("<dm:person id=\"q\"><rpid:activities/></dm:person>"));
        assert!(card.iter().all(|element| text(&home).contains(element)));
        assert_valid_if_possible("presence", &text(&home));
    }

    #[test]
    fn attributes_come_and_go_with_the_clock_and_the_timestamp_with_them_rfc4480_3_1() {
        let inner = "<dm:person id=\"p\"><rpid:activities from=\"2026-11-20T23:30:00Z\" until=\"2026-11-20T23:31:00Z\"><rpid:lunch/>\
                     </rpid:activities><dm:timestamp>2026-11-20T23:29:00Z</dm:timestamp></dm:person>";
        let mut home = home();
        publish(&mut home, 1, &pidf(inner));
        let at = |now| {
            let person = gather(&home, now).persons.remove(0);
            (person.extensions.len(), person.timestamp.unwrap())
        };
        assert_eq!(at(NOW), (0, "2026-11-20T23:29:00Z".to_owned()));
        assert_eq!(at(Timestamp(1_795_217_400_000)), (1, "2026-11-20T23:30:00.000Z".to_owned()));
        assert_eq!(at(Timestamp(1_795_217_460_000)), (0, "2026-11-20T23:31:00.000Z".to_owned()));
        let turns = Pidf::parse(&home.publications[0].body).unwrap().turns(NOW);
        assert_eq!(
            *turns,
            [Timestamp(1_795_217_400_000), Timestamp(1_795_217_460_000)],
            "and watchers hear of it then"
        );
    }

    #[test]
    fn of_two_that_share_a_timestamp_the_device_has_none_rfc3863_4_1_7() {
        let device = |mark: &str| {
            pidf(&format!(
                "<dm:device id=\"d\"><rpid:class>{mark}</rpid:class><dm:deviceID>urn:uuid:1</dm:deviceID>\
                 <dm:timestamp>2026-11-20T23:29:15Z</dm:timestamp></dm:device>"
            ))
        };
        let mut home = home();
        publish(&mut home, 1, &device("one"));
        assert!(read(&home).devices[0].timestamp.is_some());
        publish(&mut home, 2, &device("two"));
        assert_eq!(read(&home).devices[0].timestamp, None);
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

    /// Publishes as a PUBLISH does: in the place of what `id` has published before.
    fn put(home: &mut HomeState, id: u128, inner: &str) {
        let mut alone = HomeState::empty(home.aor.clone());
        publish(&mut alone, id, &pidf(inner));
        let mut new = alone.publications[0].as_ref().clone();
        let old = home.publications.iter().find(|p| p.id == new.id).cloned();
        let document = super::read(&new).unwrap();
        let others = home.publications.iter().map(Arc::as_ref).filter(|p| p.id != new.id);
        new.renamed = renamed(new.id, old.as_deref(), &document, others);
        home.apply(&crate::model::Row::PutPublication(new.into()));
    }

    #[test]
    fn a_tuple_keeps_its_id_whoever_goes_rfc3903_10_4() {
        let ids = |home: &HomeState| -> Vec<String> { read(home).tuples.into_iter().map(|t| t.id).collect() };
        let leave = |home: &mut HomeState, id: u128| home.publications.retain(|p| p.id != PublicationId(id));
        let (a, b, c) = (tuple("a", "open"), tuple("b", "open"), tuple("c", "closed"));
        let mut home = home();
        put(&mut home, 1, &a);
        put(&mut home, 2, &a);
        let of_two = |id: &str| with_suffix(id, PublicationId(2), 0);
        assert_eq!(ids(&home), ["a".to_owned(), of_two("a")]);
        leave(&mut home, 1);
        assert_eq!(ids(&home), [of_two("a")], "the other one goes");
        put(&mut home, 3, &format!("{a}{b}"));
        assert_eq!(ids(&home), [of_two("a"), "a".to_owned(), "b".to_owned()], "who comes takes what is free");
        put(&mut home, 2, &format!("{c}{b}{a}"));
        let all = ["c".to_owned(), of_two("b"), of_two("a")];
        assert_eq!(ids(&home)[..3], all, "a modification brings one that is taken, and moves one");
        assert_eq!(ids(&home)[3..], ["a", "b"], "and takes nothing from who has it, though it came first");
        leave(&mut home, 3);
        assert_eq!(ids(&home), all);
        put(&mut home, 4, &tuple(&of_two("a"), "open"));
        assert_ne!(ids(&home)[3], of_two("a"), "what is taken is what is shown");
        let shown = ids(&home)[3].clone();
        leave(&mut home, 2);
        assert_eq!(ids(&home), [shown]);
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
        let mut home = home();
        assert_valid_if_possible("presence", &text(&home));
        register(&mut home, 1, None);
        register(&mut home, 2, Some("urn:uuid:1"));
        assert_valid_if_possible("presence", &text(&home));
        // baresip: person first; PJSIP: notes and activities; linphone: foreign elements inside status, and what is not valid at all.
        publish(
            &mut home,
            1,
            &pidf(&format!(
                "<dm:person id=\"p4159\"><rpid:activities/></dm:person>{}",
                tuple("t4109", "open")
            )),
        );
        assert_valid_if_possible("presence", &text(&home));
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
        assert_valid_if_possible("presence", &text(&home));
        let basic = compose_basic(&home, NOW).pidf;
        assert_valid_if_possible("presence", std::str::from_utf8(&basic).unwrap());
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

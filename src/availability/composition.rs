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

fn gather(home: &HomeState, now: Timestamp) -> Pidf {
    let entity = home.aor.uri();
    let live = home.live_publications(now).filter(|p| p.package == Package::Presence);
    let sources: Vec<(&Publication, Pidf)> =
        live.filter_map(|p| Some((p.as_ref(), Pidf::parse(&p.body).ok()?))).collect();
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
fn devices(sources: &[(&Publication, Pidf)], ids: &mut Ids) -> Vec<Device> {
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

fn write_reduced(document: &Pidf) -> Bytes {
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

//! PIDF with the data model and RPID (RFC 3863, 4479, 4480).
//!
//! Reading is strict where safety asks for it (well-formedness, caps, root and entity) and lenient where a usable part can be
//! taken out of a document that is not quite valid (RFC 4479 5): order does not matter, a missing or unusable id is made up
//! from the place in the document, an unknown `basic`, priority or timestamp is as if absent. RPID and everything unknown is
//! kept as [`Fragment`]s, in whatever namespace (RFC 3863 4.2.3). Not kept: what the schemas allow nowhere (elements of no namespace
//! or unknown ones of PIDF itself directly under PIDF's elements, foreign attributes of PIDF's own elements) and comments.

use std::collections::HashSet;

use aws_lc_rs::digest;

use crate::availability::document::lexis::is_ncname;
use crate::availability::document::values::{is_date_time, is_language, is_priority};
use crate::availability::document::xml::{Document, Fragment, Limits, Node, XmlError};
use crate::model::{Reject, Timestamp};
use crate::sip::StatusCode;

/// The media type of partial PIDF, whose documents may be whole too (RFC 5262).
pub const PIDF_DIFF: &str = "application/pidf-diff+xml";
/// The namespace of its roots.
const DIFF: &str = "urn:ietf:params:xml:ns:pidf-diff";
/// The namespace of PIDF.
pub const PIDF: &str = "urn:ietf:params:xml:ns:pidf";
/// The namespace of the data model.
pub const DATA_MODEL: &str = "urn:ietf:params:xml:ns:pidf:data-model";

/// A checked presence document: its entity and its top-level components, each with its own bytes so that unknown XML survives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pidf {
    /// `entity` attribute.
    pub entity: String,
    /// Services (RFC 4479 3.3), in order.
    pub tuples: Vec<Tuple>,
    /// Notes on the presentity (RFC 3863 4.1.6).
    pub notes: Vec<Note>,
    /// Persons (RFC 4479 3.2).
    pub persons: Vec<Person>,
    /// Devices (RFC 4479 3.4); those without deviceID are left out.
    pub devices: Vec<Device>,
    /// Unknown elements of other namespaces.
    pub extensions: Vec<Fragment>,
}

/// `basic` (RFC 3863 4.1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basic {
    /// Available.
    Open,
    /// Not available.
    Closed,
}

/// A `tuple` (RFC 3863 4.1.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuple {
    /// Unique in its document, an NCName.
    pub id: String,
    /// Open or closed; `None` if it does not say.
    pub basic: Option<Basic>,
    /// Other children of `status`, understood or not.
    pub status: Vec<Fragment>,
    /// Attributes of the service: RPID, capabilities, deviceID, anything.
    pub extensions: Vec<Fragment>,
    /// Where to reach it.
    pub contact: Option<Contact>,
    /// Notes on the service.
    pub notes: Vec<Note>,
    /// RFC 3339, with capital `T` and `Z`.
    pub timestamp: Option<String>,
}

/// A `contact` (RFC 3863 4.1.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// The URI.
    pub uri: String,
    /// 0 to 1 with at most three decimals, as written.
    pub priority: Option<String>,
}

/// A `note` and its language.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Note {
    /// `xml:lang`, own or inherited.
    pub lang: Option<String>,
    /// For people to read.
    pub text: String,
}

/// A `person` (RFC 4479 3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Unique in its document, an NCName.
    pub id: String,
    /// RPID and anything else.
    pub extensions: Vec<Fragment>,
    /// Notes of the person.
    pub notes: Vec<Note>,
    /// RFC 3339.
    pub timestamp: Option<String>,
}

/// A `device` (RFC 4479 3.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Unique in its document, an NCName.
    pub id: String,
    /// The URN that names the device over all documents.
    pub device_id: String,
    /// Anything.
    pub extensions: Vec<Fragment>,
    /// Notes on the device.
    pub notes: Vec<Note>,
    /// RFC 3339.
    pub timestamp: Option<String>,
}

impl Pidf {
    /// Reads a document within the caps of `A07`.
    ///
    /// # Errors
    /// 400 for what is not well-formed or not PIDF, 415 for DOCTYPE and encodings other than UTF-8, 413 for too large.
    pub fn parse(bytes: &[u8]) -> Result<Pidf, Reject> {
        Pidf::parse_within(bytes, &Limits::PUBLISHED)
    }

    /// Reads a document within other caps.
    ///
    /// # Errors
    /// As [`Pidf::parse`].
    pub fn parse_within(bytes: &[u8], limits: &Limits) -> Result<Pidf, Reject> {
        let document = Document::read(bytes, limits).map_err(refusal)?;
        let root = document.root();
        Pidf::below(root, root.is(PIDF, "presence"))
    }

    /// Reads what was published under this media type. `None`: changes of a document, not a document (RFC 5264 4.3.2).
    ///
    /// # Errors
    /// As [`Pidf::parse`].
    pub fn read(content_type: &str, bytes: &[u8]) -> Result<Option<Pidf>, Reject> {
        if content_type != PIDF_DIFF {
            return Pidf::parse(bytes).map(Some);
        }
        let document = Document::read(bytes, &Limits::PUBLISHED).map_err(refusal)?;
        let root = document.root();
        if root.is(DIFF, "pidf-diff") {
            return Ok(None);
        }
        Pidf::below(root, root.is(DIFF, "pidf-full")).map(Some)
    }

    fn below(root: Node<'_>, is_known: bool) -> Result<Pidf, Reject> {
        let not_pidf = || Reject::because(StatusCode::BAD_REQUEST, "Not a PIDF document");
        let entity = root.attribute("entity").map(str::trim).filter(|entity| !entity.is_empty());
        let entity = entity.filter(|_| is_known).ok_or_else(not_pidf)?;
        let mut pidf = Pidf::empty(entity.to_owned());
        let mut ids = Ids::default();
        for child in root.children() {
            match (child.namespace(), child.local()) {
                (Some(PIDF), "tuple") => pidf.tuples.push(tuple(child, ids.of(child))),
                (Some(PIDF), "note") => pidf.notes.push(note(child)),
                (Some(DATA_MODEL), "person") => pidf.persons.push(person(child, ids.of(child))),
                (Some(DATA_MODEL), "device") => pidf.devices.extend(device(child, ids.of(child))),
                (Some(PIDF), _) | (None, _) => {}
                (Some(_), _) => pidf.extensions.push(child.fragment()),
            }
        }
        Ok(pidf)
    }

    /// A document that says nothing yet.
    pub fn empty(entity: String) -> Pidf {
        let (tuples, notes, persons, devices, extensions) = Default::default();
        Pidf { entity, tuples, notes, persons, devices, extensions }
    }

    /// Is any tuple open?
    pub fn is_open(&self) -> bool {
        self.tuples.iter().any(|t| t.basic == Some(Basic::Open))
    }

    /// Do both name one component as theirs: a tuple or, where neither has any, a person?
    pub fn has_a_tuple_of(&self, other: &Pidf) -> bool {
        let tuples = || self.tuples.iter().any(|t| other.tuples.iter().any(|o| o.id == t.id));
        let persons = || self.persons.iter().any(|p| other.persons.iter().any(|o| o.id == p.id));
        tuples() || self.tuples.is_empty() && other.tuples.is_empty() && persons()
    }

    /// When it will mean something else by time alone: the ends of what RPID qualifies with `from` and `until` (RFC 4480 3.1), after `now`, in
    /// order, the first [`MAX_TURNS`].
    pub fn turns(&self, now: Timestamp) -> Box<[Timestamp]> {
        let qualified = self.attributes().filter(|a| a.namespace() == RPID).map(Fragment::range);
        let mut turns: Vec<Timestamp> = qualified
            .flat_map(|(from, until)| from.into_iter().chain(until))
            .filter(|at| *at > now)
            .collect();
        turns.sort_unstable();
        turns.dedup();
        turns.truncate(MAX_TURNS);
        turns.into()
    }

    /// The first of these instants, however many there are.
    pub fn next_turn(&self, now: Timestamp) -> Option<Timestamp> {
        let qualified = self.attributes().filter(|a| a.namespace() == RPID).map(Fragment::range);
        qualified.flat_map(|(from, until)| from.into_iter().chain(until)).filter(|at| *at > now).min()
    }

    /// All attributes of tuples, persons and devices.
    fn attributes(&self) -> impl Iterator<Item = &Fragment> {
        let tuples = self.tuples.iter().flat_map(|t| &t.extensions);
        let persons = self.persons.iter().flat_map(|p| &p.extensions);
        tuples.chain(persons).chain(self.devices.iter().flat_map(|d| &d.extensions))
    }

    /// All timestamps of tuples, persons and devices.
    pub fn timestamps(&self) -> impl Iterator<Item = &str> {
        let tuples = self.tuples.iter().filter_map(|t| t.timestamp.as_deref());
        let persons = self.persons.iter().filter_map(|p| p.timestamp.as_deref());
        tuples.chain(persons).chain(self.devices.iter().filter_map(|d| d.timestamp.as_deref()))
    }

    /// Does a component have the timestamp that it had in `old`, but say something else (RFC 3863 4.1.7)?
    pub fn repeats_a_timestamp_of(&self, old: &Pidf) -> bool {
        let is_same = |new: &Option<String>, old: &Option<String>| new.is_some() && new == old;
        let tuple = |new: &Tuple| {
            old.tuples.iter().any(|t| t.id == new.id && is_same(&t.timestamp, &new.timestamp) && t != new)
        };
        let person = |new: &Person| {
            old.persons.iter().any(|p| p.id == new.id && is_same(&p.timestamp, &new.timestamp) && p != new)
        };
        let device = |new: &Device| {
            old.devices.iter().any(|d| d.id == new.id && is_same(&d.timestamp, &new.timestamp) && d != new)
        };
        self.tuples.iter().any(tuple) || self.persons.iter().any(person) || self.devices.iter().any(device)
    }
}

impl Tuple {
    /// A tuple with nothing but its status.
    pub fn new(id: String, basic: Basic) -> Tuple {
        let (status, extensions, notes) = Default::default();
        Tuple { id, basic: Some(basic), status, extensions, contact: None, notes, timestamp: None }
    }
}

/// What is owed for a published document that cannot be read.
pub(super) fn refusal(error: XmlError) -> Reject {
    match error {
        XmlError::Malformed(_) => Reject::because(StatusCode::BAD_REQUEST, "Malformed XML"),
        XmlError::TooComplex => Reject::because(StatusCode::BAD_REQUEST, "XML too complex"),
        XmlError::Doctype | XmlError::Encoding => Reject::new(StatusCode::UNSUPPORTED_MEDIA_TYPE),
        XmlError::TooLarge => Reject::new(StatusCode::REQUEST_ENTITY_TOO_LARGE),
    }
}

/// Makes the ids of one document unique and valid (`xs:ID`): kept where they are, made of a hash of place and text where not.
#[derive(Default)]
struct Ids {
    used: HashSet<String>,
    seen: usize,
}

impl Ids {
    fn of(&mut self, component: Node<'_>) -> String {
        let wanted = component.attribute("id").map(str::trim).unwrap_or_default();
        self.seen = self.seen.saturating_add(1);
        let usable = wanted.len() <= MAX_ID && is_ncname(wanted);
        if usable && self.used.insert(wanted.to_owned()) {
            return wanted.to_owned();
        }
        // A missing or repeated id depends on the place too; one that is merely no NCName does not, so it stays when others move.
        let mut place = if wanted.is_empty() || usable { self.seen } else { 0 };
        loop {
            let id = format!("t{}", hash(&[component.local(), wanted, &place.to_string()]));
            if self.used.insert(id.clone()) {
                return id;
            }
            place = place.saturating_add(self.seen).saturating_add(1);
        }
    }
}

/// 64 bits of SHA-256 in lower-case hex, over parts that cannot run into one another.
pub(crate) fn hash(parts: &[&str]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&part.len().to_be_bytes());
        context.update(part.as_bytes());
    }
    context.finish().as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn tuple(node: Node<'_>, id: String) -> Tuple {
    let mut tuple = Tuple { basic: None, ..Tuple::new(id, Basic::Closed) };
    let mut status_seen = false;
    for child in node.children() {
        match (child.namespace(), child.local()) {
            (Some(PIDF), "status") if !status_seen => {
                status_seen = true;
                status(&mut tuple, child);
            }
            (Some(PIDF), "contact") if tuple.contact.is_none() => tuple.contact = contact(child),
            (Some(PIDF), "note") => tuple.notes.push(note(child)),
            (Some(PIDF), "timestamp") if tuple.timestamp.is_none() => tuple.timestamp = timestamp(child),
            (Some(PIDF), _) | (None, _) => {}
            (Some(_), _) => tuple.extensions.push(child.fragment()),
        }
    }
    tuple
}

/// `mustUnderstand` on a child asks that its meaning be left alone, which it is (RFC 3863 4.2.3).
fn status(tuple: &mut Tuple, node: Node<'_>) {
    for child in node.children() {
        match (child.namespace(), child.local()) {
            (Some(PIDF), "basic") if tuple.basic.is_none() => {
                tuple.basic = match child.text().trim() {
                    "open" => Some(Basic::Open),
                    "closed" => Some(Basic::Closed),
                    _ => None,
                }
            }
            (Some(PIDF), _) | (None, _) => {}
            // Attributes of a service are children of its tuple (RFC 4479 3.7); drafts before it had them here.
            (Some(namespace), _) if ATTRIBUTES.contains(&namespace) => {
                tuple.extensions.push(child.fragment())
            }
            (Some(_), _) => tuple.status.push(child.fragment()),
        }
    }
}

fn person(node: Node<'_>, id: String) -> Person {
    let Parts { extensions, notes, timestamp, .. } = parts(node);
    Person { id, extensions, notes, timestamp }
}

fn device(node: Node<'_>, id: String) -> Option<Device> {
    let Parts { extensions, notes, timestamp, device_id } = parts(node);
    Some(Device { id, device_id: device_id?, extensions, notes, timestamp })
}

#[derive(Default)]
struct Parts {
    extensions: Vec<Fragment>,
    device_id: Option<String>,
    notes: Vec<Note>,
    timestamp: Option<String>,
}

/// What person and device have in common (RFC 4479 5.1.2).
fn parts(node: Node<'_>) -> Parts {
    let mut parts = Parts::default();
    for child in node.children() {
        match (child.namespace(), child.local()) {
            (Some(DATA_MODEL), "note") => parts.notes.push(note(child)),
            (Some(DATA_MODEL), "timestamp") if parts.timestamp.is_none() => {
                parts.timestamp = timestamp(child)
            }
            (Some(DATA_MODEL), "deviceID") if parts.device_id.is_none() => parts.device_id = uri(child),
            (Some(DATA_MODEL), _) | (None, _) => {}
            (Some(_), _) => parts.extensions.push(child.fragment()),
        }
    }
    parts
}

fn note(node: Node<'_>) -> Note {
    let lang = node.language().map(str::trim).filter(|lang| is_language(lang));
    Note { lang: lang.map(str::to_owned), text: node.text().to_owned() }
}

fn contact(node: Node<'_>) -> Option<Contact> {
    let priority = node.attribute("priority").map(str::trim).filter(|p| is_priority(p));
    Some(Contact { uri: uri(node)?, priority: priority.map(str::to_owned) })
}

/// The text as a URI: a scheme, and none of the characters that no URI has (RFC 3986 2).
fn uri(node: Node<'_>) -> Option<String> {
    let text = node.text().trim();
    let (scheme, rest) = text.split_once(':')?;
    let scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let rest = !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic() && !b"<>\"{}|\\^`".contains(&b));
    (scheme && rest).then(|| text.to_owned())
}

fn timestamp(node: Node<'_>) -> Option<String> {
    let text = node.text().trim().to_ascii_uppercase();
    is_date_time(&text).then_some(text)
}

/// The namespace of RPID.
pub const RPID: &str = "urn:ietf:params:xml:ns:pidf:rpid";
/// The namespace of CIPID (RFC 4482).
pub const CIPID: &str = "urn:ietf:params:xml:ns:pidf:cipid";
/// The namespace of capabilities (RFC 5196).
pub const CAPS: &str = "urn:ietf:params:xml:ns:pidf:caps";
/// Namespaces whose elements are attributes of services, persons and devices: data model, RPID, CIPID, timed status, capabilities.
const ATTRIBUTES: [&str; 5] = [DATA_MODEL, RPID, CIPID, "urn:ietf:params:xml:ns:pidf:timed-status", CAPS];
/// A day in which every half hour is another appointment has 48; what comes after them is looked at when the document is published again.
pub const MAX_TURNS: usize = 64;
/// Longer ids are replaced by a hash of themselves.
const MAX_ID: usize = 128;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::availability::fixtures::pidf;

    fn parse(inner: &str) -> Pidf {
        Pidf::parse(pidf(inner).as_bytes()).unwrap()
    }

    fn status_of(bytes: &[u8]) -> StatusCode {
        Pidf::parse(bytes).unwrap_err().status
    }

    #[test]
    fn root_is_presence_with_an_entity_rfc3863_4_1_1() {
        let ok = "<p:presence xmlns:p='urn:ietf:params:xml:ns:pidf' entity='pres:a@b'/>";
        assert_eq!(Pidf::parse(ok.as_bytes()).unwrap().entity, "pres:a@b");
        for text in [
            "<presence entity='pres:a@b'/>",
            "<presence xmlns='urn:ietf:params:xml:ns:pidf:' entity='pres:a@b'/>",
            "<presence xmlns='urn:ietf:params:xml:ns:pidf'/>",
            "<presence xmlns='urn:ietf:params:xml:ns:pidf' entity=' '/>",
            "<tuple xmlns='urn:ietf:params:xml:ns:pidf' entity='pres:a@b'/>",
            "hello",
            "",
        ] {
            assert_eq!(status_of(text.as_bytes()), StatusCode::BAD_REQUEST, "{text}");
        }
    }

    #[test]
    fn refusals_have_the_status_that_is_owed_a07() {
        let doctype = "<!DOCTYPE presence SYSTEM 'file:///etc/passwd'><presence/>";
        assert_eq!(status_of(doctype.as_bytes()), StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let latin = "<?xml version='1.0' encoding='latin1'?><presence/>";
        assert_eq!(status_of(latin.as_bytes()), StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert_eq!(status_of(&vec![b' '; 32 * 1024 + 1]), StatusCode::REQUEST_ENTITY_TOO_LARGE);
        assert_eq!(status_of(pidf(&"<a>".repeat(40)).as_bytes()), StatusCode::BAD_REQUEST);
        assert_eq!(status_of(format!("{}<x/>", pidf("")).as_bytes()), StatusCode::BAD_REQUEST);
        assert_eq!(status_of(pidf("<undeclared:x/>").as_bytes()), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn linphone_document_with_foreign_elements_inside_status_is_read() {
        let read = parse(
            "<tuple id=\"kqdnj6\"><status><basic>open</basic>\
             <pp:service xmlns:pp=\"urn:ietf:params:xml:ns:pidf:person\" xmlns=\"urn:x\"><id>org.x</id></pp:service></status>\
             <contact priority=\"0.8\">sip:alice@example.org;gr=urn:uuid:1</contact>\
             <timestamp>2026-11-20T23:29:15Z</timestamp></tuple>",
        );
        let [tuple] = read.tuples.as_slice() else { panic!() };
        assert_eq!((tuple.id.as_str(), tuple.basic), ("kqdnj6", Some(Basic::Open)));
        assert_eq!(tuple.status.len(), 1);
        let contact = tuple.contact.clone().unwrap();
        assert_eq!(contact.uri, "sip:alice@example.org;gr=urn:uuid:1");
        assert_eq!(contact.priority.as_deref(), Some("0.8"));
        assert_eq!(tuple.timestamp.as_deref(), Some("2026-11-20T23:29:15Z"));
    }

    #[test]
    fn baresip_document_with_the_person_first_and_empty_activities_is_read() {
        let read = parse(
            "<dm:person id=\"p4159\"><rpid:activities/></dm:person>\r\n<tuple id=\"t4109\">\r\n  <status>\r\n    <basic> open </basic>\
             \r\n  </status>\r\n  <contact>sip:alice@192.0.2.7</contact>\r\n</tuple>",
        );
        assert_eq!(read.tuples.first().unwrap().basic, Some(Basic::Open));
        assert_eq!(read.persons.first().unwrap().extensions.first().unwrap().raw(), "<rpid:activities/>");
    }

    #[test]
    fn pjsip_document_with_activity_and_note_is_read() {
        let read = parse(
            "<tuple id=\"pj1\"><status><basic>open</basic></status></tuple><dm:person id=\"pj2\"><rpid:activities>\
             <rpid:busy/></rpid:activities><dm:note xml:lang=\"en\">Busy</dm:note></dm:person><note>On the phone &amp; busy</note>",
        );
        let person = read.persons.first().unwrap();
        assert_eq!(person.notes, [Note { lang: Some("en".into()), text: "Busy".into() }]);
        assert_eq!(read.notes, [Note { lang: None, text: "On the phone & busy".into() }]);
    }

    #[test]
    fn usable_parts_of_invalid_documents_are_kept_rfc4479_5() {
        let read = parse(
            "<tuple><status><basic>maybe</basic></status><timestamp>yesterday</timestamp></tuple><tuple id='a'/>\
             <tuple id='a'><note>n</note><contact priority='2'>sip:alice@example.org</contact><contact>tel:1</contact>\
             <status><basic>closed</basic></status><status><basic>open</basic></status></tuple><tuple id='4711'/>\
             <dm:device id='x'/>text<nonsense/>",
        );
        let [missing, first, repeated, number] = read.tuples.as_slice() else { panic!() };
        assert!(is_ncname(&missing.id) && missing.basic.is_none() && missing.timestamp.is_none());
        assert_eq!(first.id, "a");
        assert_ne!(repeated.id, "a");
        assert_eq!(repeated.basic, Some(Basic::Closed));
        let contact = Contact { uri: "sip:alice@example.org".into(), priority: None };
        assert_eq!(repeated.contact, Some(contact));
        assert!(
            is_ncname(&number.id) && number.id == parse("<tuple id='b'/><tuple id='4711'/>").tuples[1].id
        );
        assert!(read.devices.is_empty());
    }

    #[test]
    fn not_understood_does_not_change_basic_rfc3863_4_2_3() {
        let inner = "<tuple id='a'><status><basic>open</basic><x:s xmlns:x='urn:x' xmlns:p='urn:ietf:params:xml:ns:pidf' \
                     p:mustUnderstand='1'><p:basic>closed</p:basic></x:s></status></tuple>";
        let tuple = parse(inner).tuples.remove(0);
        assert_eq!(tuple.basic, Some(Basic::Open));
        assert!(
            inner.contains(tuple.status[0].raw()) && tuple.status[0].raw().contains("mustUnderstand='1'")
        );
    }

    #[test]
    fn notes_keep_their_language_own_or_inherited_rfc3863_4_1_6() {
        let read =
            parse("<note xml:lang='de'>hallo</note><note xml:lang='not a language'>x</note><note>y</note>");
        let langs: Vec<_> = read.notes.iter().map(|n| n.lang.as_deref()).collect();
        assert_eq!(langs, [Some("de"), None, None]);
        let inherited = parse("<tuple id='a' xml:lang='fr'><note>z</note></tuple>");
        assert_eq!(inherited.tuples[0].notes[0].lang.as_deref(), Some("fr"));
    }

    proptest! {
        #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]
        #[test]
        fn parsing_never_panics_on_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Pidf::parse(&bytes);
        }

        #[test]
        fn parsing_never_panics_on_mutated_documents(at in 0usize..2000, cut in 0usize..20, insert in "[<>/&;:='\"a-z#x!\\[\\]?-]{0,6}") {
            let mut text = SAMPLE.to_owned();
            let at = at.min(text.len());
            text.replace_range(at..at.saturating_add(cut).min(SAMPLE.len()), &insert);
            if let Ok(read) = Pidf::parse(text.as_bytes()) {
                let written = read.write(1 << 20).unwrap();
                let wide = Limits { bytes: 1 << 20, attributes: 200, namespaces: 200, ..Limits::PUBLISHED };
                let again = Pidf::parse_within(&written, &wide).unwrap();
                prop_assert_eq!(&again.write(1 << 20).unwrap(), &written);
            }
        }
    }

    const SAMPLE: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- c --><presence xmlns=\"urn:ietf:params:xml:ns:pidf\" \
        xmlns:dm='urn:ietf:params:xml:ns:pidf:data-model' xmlns:r=\"urn:ietf:params:xml:ns:pidf:rpid\" xmlns:x=\"urn:x\" entity=\"sip:a@b\">\
        <tuple id=\"a\"><status><basic>open</basic><x:s y=\"1&amp;2\" x:z='x:q'><r:t/></x:s></status><r:class>c</r:class>\
        <dm:deviceID>urn:d:1</dm:deviceID><contact priority=\"0.5\">sip:a@b</contact><note xml:lang=\"en\">n &#65; <![CDATA[<x>]]></note>\
        <timestamp>2026-11-20T23:29:15Z</timestamp></tuple><note>top</note><dm:person id=\"p\"><r:activities><r:busy/><x:o xmlns=\"\"><y/>\
        </x:o></r:activities><dm:note>m</dm:note></dm:person><dm:device id=\"d\"><x:b/><dm:deviceID>urn:d:1</dm:deviceID></dm:device>\
        <x:top xmlns:x=\"urn:other\"><x:in/></x:top></presence>";
}

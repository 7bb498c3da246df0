//! What permissions leave of a presence document (RFC 5025 3.3): what is not provided is not there.
//!
//! Filtering what was filtered changes nothing (RFC 5025 4). Therefore a component that only its class identifies is shown only to who may see
//! the class too: without it nobody could tell from the document that it may be in it.

use crate::availability::document::alone;
use crate::availability::document::pidf::{DATA_MODEL, Device, Note, Person, Pidf, RPID, Tuple};
use crate::availability::document::xml::Fragment;
use crate::model::{Attribute, Permissions, Provided, Selector, UserInput};
use crate::sip::{Scheme, Uri};

/// Takes out of a composed document everything that is not provided.
pub fn filter(document: &mut Pidf, permissions: &Permissions) {
    if permissions.is_everything() {
        return;
    }
    document
        .tuples
        .retain(|tuple| is_provided(&permissions.services, permissions, &Occurrence::of_service(tuple)));
    document
        .persons
        .retain(|person| is_provided(&permissions.persons, permissions, &Occurrence::of_person(person)));
    document
        .devices
        .retain(|device| is_provided(&permissions.devices, permissions, &Occurrence::of_device(device)));
    for tuple in &mut document.tuples {
        attributes(&mut tuple.extensions, Component::Service, permissions);
        notes(&mut tuple.notes, permissions);
        if !permissions.all_attributes {
            // Not children of the tuple, which permissions by name are about (RFC 5025 3.3.2.14).
            tuple.status.clear();
        }
    }
    for person in &mut document.persons {
        attributes(&mut person.extensions, Component::Person, permissions);
        notes(&mut person.notes, permissions);
    }
    for device in &mut document.devices {
        attributes(&mut device.extensions, Component::Device, permissions);
        notes(&mut device.notes, permissions);
    }
    // They are the notes of every person without one (RFC 4479 5.1.2).
    let is_of_a_shown_person =
        permissions.persons == Provided::All || document.persons.iter().any(|person| person.notes.is_empty());
    if !is_of_a_shown_person {
        document.notes.clear();
    }
    notes(&mut document.notes, permissions);
    // No permission is about what stands beside tuples, persons and devices.
    document.extensions.clear();
}

/// What an occurrence of a component can be identified by (RFC 5025 3.3.1).
struct Occurrence<'d> {
    id: &'d str,
    extensions: &'d [Fragment],
    /// The deviceID of a device.
    device_id: Option<&'d str>,
    /// The contact of a service.
    service_uri: Option<&'d str>,
}

impl<'d> Occurrence<'d> {
    fn of_service(tuple: &'d Tuple) -> Occurrence<'d> {
        let service_uri = tuple.contact.as_ref().map(|contact| contact.uri.as_str());
        Occurrence { id: &tuple.id, extensions: &tuple.extensions, device_id: None, service_uri }
    }
    fn of_person(person: &'d Person) -> Occurrence<'d> {
        Occurrence { id: &person.id, extensions: &person.extensions, device_id: None, service_uri: None }
    }
    fn of_device(device: &'d Device) -> Occurrence<'d> {
        let device_id = Some(device.device_id.as_str());
        Occurrence { id: &device.id, extensions: &device.extensions, device_id, service_uri: None }
    }

    fn is(&self, selector: &Selector) -> bool {
        match selector {
            Selector::Class(class) => self.classes().any(|own| own == class.as_str()),
            Selector::OccurrenceId(id) => self.id == id.as_str(),
            Selector::DeviceId(id) => self.device_id.is_some_and(|own| is_same_uri(own, id)),
            Selector::ServiceUri(uri) => self.service_uri.is_some_and(|own| is_same_uri(own, uri)),
            Selector::ServiceUriScheme(scheme) => self
                .service_uri
                .and_then(|own| own.split_once(':'))
                .is_some_and(|(own, _)| own == scheme.as_str()),
        }
    }

    fn classes(&self) -> impl Iterator<Item = String> {
        let class = |fragment: &Fragment| {
            let is_class = fragment.namespace() == RPID && fragment.local() == "class";
            is_class.then(|| fragment.text().split_ascii_whitespace().collect::<Vec<_>>().join(" "))
        };
        self.extensions.iter().filter_map(class)
    }
}

fn is_provided(provided: &Provided, permissions: &Permissions, occurrence: &Occurrence<'_>) -> bool {
    let shows_class = permissions.all_attributes || permissions.attributes.contains(&Attribute::Class);
    match provided {
        Provided::All => true,
        Provided::These(these) => these
            .iter()
            .filter(|selector| shows_class || !matches!(selector, Selector::Class(_)))
            .any(|selector| occurrence.is(selector)),
    }
}

/// URIs by the rules of their scheme, as far as these are known here (RFC 3261 19.1.4, RFC 2141 5, RFC 4122 3); else letter by letter.
fn is_same_uri(a: &str, b: &str) -> bool {
    let sip = |text: &'_ str| {
        let uri = Uri::parse(text.as_bytes()).ok();
        uri.is_some_and(|uri| matches!(uri.scheme, Scheme::Sip | Scheme::Sips | Scheme::Pres | Scheme::Im))
    };
    if sip(a) && sip(b) {
        return Uri::parse(a.as_bytes()).is_ok_and(|a| Uri::parse(b.as_bytes()).is_ok_and(|b| a.equals(&b)));
    }
    normal(a) == normal(b)
}

/// With its scheme in lower case, of a URN its namespace too, and of a `urn:uuid` all of it.
fn normal(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once(':') else { return uri.to_owned() };
    let scheme = scheme.to_ascii_lowercase();
    match rest.split_once(':') {
        Some((namespace, name)) if scheme == "urn" => {
            let namespace = namespace.to_ascii_lowercase();
            let name = if namespace == "uuid" { name.to_ascii_lowercase() } else { name.to_owned() };
            format!("{scheme}:{namespace}:{name}")
        }
        _ => format!("{scheme}:{rest}"),
    }
}

fn notes(notes: &mut Vec<Note>, permissions: &Permissions) {
    if !permissions.all_attributes && !permissions.attributes.contains(&Attribute::Note) {
        notes.clear();
    }
}

fn attributes(fragments: &mut Vec<Fragment>, component: Component, permissions: &Permissions) {
    if permissions.all_attributes {
        return;
    }
    fragments.retain_mut(|fragment| match shown(fragment, component, permissions) {
        Shown::Whole => true,
        Shown::Without(goes) => {
            if let Some(less) = alone::without(fragment, goes) {
                *fragment = less;
            }
            true
        }
        Shown::Not => false,
    });
}

/// How much of an attribute is shown.
enum Shown {
    Whole,
    /// The element without some of its XML attributes.
    Without(fn(&str) -> bool),
    Not,
}

fn shown(fragment: &Fragment, component: Component, permissions: &Permissions) -> Shown {
    let (namespace, local) = (fragment.namespace(), fragment.local());
    let whole = |is_shown| if is_shown { Shown::Whole } else { Shown::Not };
    // RFC 4480 has deviceID in a table of its own elements, and takes it from RFC 4479.
    let is_device_id = local == "deviceID" && (namespace == DATA_MODEL || namespace == RPID);
    if is_device_id {
        let is_shown = permissions.attributes.contains(&Attribute::DeviceId);
        return whole(component == Component::Service && is_shown);
    }
    if namespace == RPID {
        if local == "user-input" {
            return match permissions.user_input {
                UserInput::False => Shown::Not,
                UserInput::Bare => {
                    Shown::Without(|name| ["idle-threshold", "since", "last-input"].contains(&name))
                }
                UserInput::Thresholds => Shown::Without(|name| name != "idle-threshold"),
                UserInput::Full => Shown::Whole,
            };
        }
        if local == "service-class" {
            return whole(component == Component::Service);
        }
        if let Some((_, attribute, places)) = KNOWN.iter().find(|(known, ..)| *known == local) {
            return whole(places.contains(&component) && permissions.attributes.contains(attribute));
        }
    }
    whole(permissions.unknown.contains(&(namespace.into(), local.into())))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Component {
    Service,
    Person,
    Device,
}

use Component::{Device as InDevice, Person as InPerson, Service as InService};

/// The attributes of RPID that have a permission of their own, and the components in which that shows them (RFC 5025 3.3.2).
const KNOWN: [(&str, Attribute, &[Component]); 10] = [
    ("activities", Attribute::Activities, &[InPerson]),
    ("class", Attribute::Class, &[InPerson, InService, InDevice]),
    ("mood", Attribute::Mood, &[InPerson]),
    ("place-is", Attribute::PlaceIs, &[InPerson]),
    ("place-type", Attribute::PlaceType, &[InPerson]),
    ("privacy", Attribute::Privacy, &[InPerson, InService]),
    ("relationship", Attribute::Relationship, &[InService]),
    ("sphere", Attribute::Sphere, &[InPerson]),
    ("status-icon", Attribute::StatusIcon, &[InPerson, InService]),
    ("time-offset", Attribute::TimeOffset, &[InPerson]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::availability::document::pidf::Pidf;
    use crate::availability::document::rules;
    use crate::availability::fixtures::pidf;

    /// What transformations leave of a document.
    fn left(transformations: &str, inner: &str) -> String {
        let text = format!(
            "<cp:ruleset xmlns:cp=\"{}\" xmlns=\"{}\"><cp:rule id=\"a\"><cp:transformations>{transformations}</cp:transformations>\
             </cp:rule></cp:ruleset>",
            rules::COMMON_POLICY,
            rules::PRES_RULES
        );
        let permissions = rules::read(text.as_bytes()).unwrap().remove(0).permissions;
        let mut document = Pidf::parse(pidf(inner).as_bytes()).unwrap();
        filter(&mut document, &permissions);
        let written = document.write(usize::MAX).unwrap();
        let mut again = Pidf::parse(&written).unwrap();
        filter(&mut again, &permissions);
        assert_eq!(again.write(usize::MAX).unwrap(), written, "filtered twice (RFC 5025 4)");
        String::from_utf8(written.to_vec()).unwrap()
    }

    fn assert_has(text: &str, has: &[&str], has_not: &[&str]) {
        has.iter().for_each(|part| assert!(text.contains(part), "{part} is missing:\n{text}"));
        has_not.iter().for_each(|part| assert!(!text.contains(part), "{part} is shown:\n{text}"));
    }

    const RICH: &str = "<tuple id=\"a\"><status><basic>open</basic><x:s xmlns:x=\"urn:x\">ext</x:s></status><rpid:class>biz</rpid:class>\
        <dm:deviceID>urn:uuid:AB</dm:deviceID><rpid:mood><rpid:sad/></rpid:mood><rpid:privacy/><rpid:relationship><rpid:self/></rpid:relationship>\
        <rpid:service-class><rpid:electronic/></rpid:service-class><rpid:status-icon>http://icon</rpid:status-icon><rpid:user-input \
        idle-threshold=\"600\" last-input=\"2026-11-20T23:29:15Z\" since=\"x\" id=\"u\">idle</rpid:user-input><x:foo xmlns:x=\"urn:x\">bar</x:foo>\
        <contact>mailto:a@b</contact><note>tuple note</note><timestamp>2026-11-20T23:29:15Z</timestamp></tuple>\
        <tuple id=\"b\"><status><basic>closed</basic></status><contact>sip:alice@example.org;a=b</contact></tuple>\
        <note>top note</note><dm:person id=\"p\"><rpid:activities><rpid:note>in a meeting</rpid:note><rpid:meeting/></rpid:activities>\
        <rpid:class>biz</rpid:class><rpid:mood><rpid:happy/></rpid:mood><rpid:place-is/><rpid:place-type/><rpid:sphere><rpid:work/></rpid:sphere>\
        <rpid:time-offset>60</rpid:time-offset><x:foo xmlns:x=\"urn:x\">mine</x:foo><dm:note>person note</dm:note>\
        <dm:timestamp>2026-11-20T23:29:16Z</dm:timestamp></dm:person><dm:device id=\"d\"><rpid:class>biz</rpid:class><rpid:user-input>active\
        </rpid:user-input><dm:deviceID>urn:uuid:ab</dm:deviceID><dm:note>device note</dm:note></dm:device><x:top xmlns:x=\"urn:x\">beside</x:top>";

    #[test]
    fn nothing_provided_is_nothing_seen_rfc5025_3_3() {
        assert_has(&left("", RICH), &["<presence"], &["<tuple", "<dm:person", "<dm:device", "note", "x:top"]);
        let attributes_alone =
            "<provide-note>true</provide-note><provide-activities>true</provide-activities>";
        assert_has(&left(attributes_alone, RICH), &[], &["<tuple", "<dm:person", "<dm:device", "note"]);
    }

    #[test]
    fn components_are_seen_by_what_identifies_them_rfc5025_3_3_1() {
        let services = |inner: &str| left(&format!("<provide-services>{inner}</provide-services>"), RICH);
        assert_has(&services("<all-services/>"), &["id=\"a\"", "id=\"b\""], &["dm:person", "dm:device"]);
        assert_has(
            &services("<service-uri-scheme>mailto</service-uri-scheme>"),
            &["id=\"a\""],
            &["id=\"b\""],
        );
        assert_has(&services("<service-uri-scheme>MAILTO</service-uri-scheme>"), &[], &["<tuple"]);
        assert_has(
            &services("<service-uri>sip:%61lice@EXAMPLE.org</service-uri>"),
            &["id=\"b\""],
            &["id=\"a\""],
        );
        assert_has(&services("<service-uri>sip:bob@example.org</service-uri>"), &[], &["<tuple"]);
        assert_has(&services("<occurrence-id>a</occurrence-id>"), &["id=\"a\""], &["id=\"b\""]);
        assert_has(&services("<occurrence-id>A</occurrence-id>"), &[], &["<tuple"]);
        let class = "<provide-services><class>biz</class></provide-services>";
        let shown = "<provide-class>true</provide-class>";
        assert_has(&left(&format!("{class}{shown}"), RICH), &["id=\"a\"", "class>biz<"], &["id=\"b\""]);
        assert_has(&left(class, RICH), &[], &["<tuple"]);
        let persons = |inner: &str| left(&format!("<provide-persons>{inner}</provide-persons>"), RICH);
        assert_has(
            &persons("<all-persons/>"),
            &["<dm:person", "29:16Z"],
            &["<tuple", "<dm:device", "<rpid:"],
        );
        assert_has(&persons("<occurrence-id>p</occurrence-id>"), &["<dm:person"], &[]);
        assert_has(&persons("<occurrence-id>a</occurrence-id>"), &[], &["<dm:person", "<tuple"]);
        let devices = |inner: &str| left(&format!("<provide-devices>{inner}</provide-devices>"), RICH);
        assert_has(
            &devices("<deviceID>URN:UUID:aB</deviceID>"),
            &["<dm:device", "<dm:deviceID"],
            &["<tuple"],
        );
        assert_has(&devices("<deviceID>urn:uuid:ac</deviceID>"), &[], &["<dm:device"]);
        assert_has(&devices("<all-devices/>"), &["<dm:device"], &["<dm:person", "device note"]);
    }

    const ALL_COMPONENTS: &str = "<provide-services><all-services/></provide-services><provide-persons><all-persons/></provide-persons>\
        <provide-devices><all-devices/></provide-devices>";

    #[test]
    fn what_is_always_reported_is_rfc5025_3_3_2() {
        assert_has(
            &left(ALL_COMPONENTS, RICH),
            &[
                "<contact>mailto:a@b",
                "service-class",
                "<basic>open",
                "23:29:15Z",
                "<dm:timestamp>",
                "<dm:deviceID>urn:uuid:ab",
            ],
            &[
                "note",
                "activities",
                "rpid:class",
                "mood",
                "urn:uuid:AB",
                "user-input",
                "foo",
                "x:s",
                "x:top",
                "privacy",
                "sphere",
            ],
        );
    }

    #[test]
    fn each_attribute_has_its_permission_rfc5025_3_3_2() {
        for (name, has) in [
            ("activities", &["<rpid:meeting/>", "in a meeting"][..]),
            ("class", &["<rpid:class>biz"]),
            ("deviceID", &["urn:uuid:AB"]),
            ("mood", &["<rpid:happy/>"]),
            ("place-is", &["<rpid:place-is/>"]),
            ("place-type", &["<rpid:place-type/>"]),
            ("privacy", &["<rpid:privacy/>"]),
            ("relationship", &["<rpid:self/>"]),
            ("sphere", &["<rpid:work/>"]),
            ("status-icon", &["http://icon"]),
            ("time-offset", &["<rpid:time-offset>60"]),
            ("note", &["tuple note", "top note", "person note", "device note"]),
        ] {
            let text = left(&format!("{ALL_COMPONENTS}<provide-{name}>true</provide-{name}>"), RICH);
            assert_has(&text, has, &["foo", "user-input", "<rpid:sad/>"]);
            let is_all = text.matches("<rpid:").count() + text.matches("note>").count();
            assert!(is_all <= 10, "{name} shows more than itself:\n{text}");
            assert_has(
                &left(&format!("{ALL_COMPONENTS}<provide-{name}>false</provide-{name}>"), RICH),
                &[],
                has,
            );
        }
    }

    #[test]
    fn user_input_loses_exactly_what_is_stated_rfc5025_3_3_2_12() {
        let input = |value: &str| {
            left(&format!("{ALL_COMPONENTS}<provide-user-input>{value}</provide-user-input>"), RICH)
        };
        assert_has(&input("false"), &[], &["user-input"]);
        assert_has(
            &input("bare"),
            &[">idle<", " id=\"u\"", ">active"],
            &["idle-threshold", "since", "last-input"],
        );
        assert_has(
            &input("thresholds"),
            &["idle-threshold=\"600\"", ">idle<"],
            &["since", "last-input", " id=\"u\""],
        );
        assert_has(&input("full"), &["idle-threshold", "since=\"x\"", "last-input", " id=\"u\""], &[]);
    }

    #[test]
    fn unknown_attributes_are_shown_by_their_name_rfc5025_3_3_2_14() {
        let named = |ns: &str, name: &str, value: &str| {
            let unknown = format!(
                "<provide-unknown-attribute ns=\"{ns}\" name=\"{name}\">{value}</provide-unknown-attribute>"
            );
            left(&format!("{ALL_COMPONENTS}{unknown}"), RICH)
        };
        assert_has(&named("urn:x", "foo", "true"), &[">bar<", ">mine<"], &["ext", "beside"]);
        assert_has(&named("urn:x", "foo", "false"), &[], &[">bar<", ">mine<"]);
        assert_has(&named("urn:y", "foo", "true"), &[], &[">bar<", ">mine<"]);
        assert_has(&named("urn:x", "s", "true"), &[], &["ext"]);
        assert_has(&named(RPID, "activities", "true"), &[], &["activities"]);
        assert_has(&named(DATA_MODEL, "deviceID", "true"), &[], &["urn:uuid:AB"]);
    }

    #[test]
    fn all_attributes_are_all_but_of_provided_components_alone_rfc5025_3_3_2_15() {
        let person = "<provide-persons><all-persons/></provide-persons><provide-all-attributes/>";
        assert_has(
            &left(person, RICH),
            &["in a meeting", ">mine<", "person note", "top note"],
            &["<tuple", "<dm:device", "beside"],
        );
        let all = left(&format!("{ALL_COMPONENTS}<provide-all-attributes/>"), RICH);
        let whole = Pidf::parse(pidf(RICH).as_bytes()).unwrap().write(usize::MAX).unwrap();
        assert_eq!(all.as_bytes(), whole);
    }

    #[test]
    fn notes_of_the_presentity_are_those_of_persons_without_any_rfc4479_5_1_2() {
        let notes = "<provide-note>true</provide-note>";
        let persons = "<provide-persons><occurrence-id>p</occurrence-id></provide-persons>";
        let bare = "<note>top note</note><dm:person id=\"p\"/>";
        assert_has(&left(&format!("{persons}{notes}"), bare), &["top note"], &[]);
        assert_has(&left(&format!("{persons}{notes}"), RICH), &["person note"], &["top note"]);
        assert_has(&left(notes, bare), &[], &["top note"]);
    }
}

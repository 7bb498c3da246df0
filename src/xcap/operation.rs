//! What a GET, PUT or DELETE of a part makes of a document (RFC 4825 8). Pure: text in, text out.

use crate::availability::document::edit::{self, Place};
use crate::availability::document::xml::{Document, Limits, Node, XmlError};
use crate::availability::documents::understand;
use crate::model::{Aor, Said};
use crate::xcap::conflict::Conflict;
use crate::xcap::selector::{Name, Selected, Selector, Step, Terminal};
use crate::xcap::usage::{LIMITS, Usage};

/// Why it is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// 404: no such document, or nothing in it, or several things, are chosen.
    NotFound,
    /// 405: namespaces can only be read (8.2, 8.4).
    ReadOnly,
    /// 409
    Conflict(Conflict),
    /// 413: the whole document would be too large.
    TooLarge,
    /// 415: the body must be of this type.
    MediaType(&'static str),
}

impl From<Conflict> for Refused {
    fn from(conflict: Conflict) -> Refused {
        Refused::Conflict(conflict)
    }
}

/// A part of a document as it is handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its media type.
    pub media_type: &'static str,
    /// Its text.
    pub text: String,
}

/// A document as it becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// The whole text.
    pub text: String,
    /// What it says.
    pub said: Said,
    /// What was put was not there before.
    pub created: bool,
}

/// `application/xcap-el+xml`: one element.
pub const ELEMENT: &str = "application/xcap-el+xml";
/// `application/xcap-att+xml`: one attribute's value, with its quotes.
pub const ATTRIBUTE: &str = "application/xcap-att+xml";
/// `application/xcap-ns+xml`: the namespaces in scope.
pub const NAMESPACES: &str = "application/xcap-ns+xml";

/// A part of a stored document (8.3).
///
/// # Errors
/// [`Refused::NotFound`].
pub fn get(stored: &[u8], selector: &Selector) -> Result<Part, Refused> {
    get_within(stored, selector, &LIMITS)
}

/// The same of a document that may be larger.
///
/// # Errors
/// [`Refused::NotFound`].
pub fn get_within(stored: &[u8], selector: &Selector, limits: &Limits) -> Result<Part, Refused> {
    let document = Document::read(stored, limits).map_err(|_| Refused::NotFound)?;
    let Selected::One(node) = selector.element(&document) else { return Err(Refused::NotFound) };
    match &selector.terminal {
        None => {
            // No declarations are added: the client knows them, or asks for them (8.3).
            let text = document.text().get(node.span()).unwrap_or_default().to_owned();
            Ok(Part { media_type: ELEMENT, text })
        }
        Some(Terminal::Attribute(Name { namespace, local })) => {
            let written = edit::written_value(&document, node, namespace.as_deref(), local);
            let text = written.ok_or(Refused::NotFound)?.to_owned();
            Ok(Part { media_type: ATTRIBUTE, text })
        }
        Some(Terminal::Namespaces) => Ok(Part { media_type: NAMESPACES, text: namespaces(node) }),
    }
}

/// A whole new document (8.2.2, 8.2.5), and what it says.
///
/// - `sent_as`: the media type of the body, without parameters.
///
/// # Errors
/// Everything but [`Refused::NotFound`] and [`Refused::ReadOnly`].
pub fn put_document(usage: Usage, owner: &Aor, body: &[u8], sent_as: &str) -> Result<Said, Refused> {
    expect_type(sent_as, usage.media_type())?;
    let document = Document::read(body, &LIMITS).map_err(|error| unreadable(error, body))?;
    check(usage, owner, &document, body)
}

/// Puts an element or an attribute into a document (8.2).
///
/// # Errors
/// All of [`Refused`].
pub fn put(
    usage: Usage,
    owner: &Aor,
    stored: &[u8],
    selector: &Selector,
    body: &[u8],
    sent_as: &str,
) -> Result<Edited, Refused> {
    let document = read_stored(stored)?;
    let (text, created) = match &selector.terminal {
        Some(Terminal::Namespaces) => return Err(Refused::ReadOnly),
        Some(Terminal::Attribute(name)) => put_attribute(&document, selector, name, body, sent_as)?,
        None => put_element(&document, selector, body, sent_as)?,
    };
    edited(usage, owner, with_lead(stored, &document, text), created)
}

/// Takes an element or an attribute out of a document (8.4).
///
/// # Errors
/// `NotFound`, `ReadOnly`, `Conflict`.
pub fn delete(usage: Usage, owner: &Aor, stored: &[u8], selector: &Selector) -> Result<Edited, Refused> {
    let document = read_stored(stored)?;
    if selector.terminal == Some(Terminal::Namespaces) {
        return Err(Refused::ReadOnly);
    }
    let Selected::One(node) = selector.element(&document) else { return Err(Refused::NotFound) };
    let text = match &selector.terminal {
        Some(Terminal::Attribute(Name { namespace, local })) => {
            edit::remove_attribute(&document, node, namespace.as_deref(), local).ok_or(Refused::NotFound)?
        }
        Some(Terminal::Namespaces) | None if node.parent().is_none() => {
            return Err(Conflict::SchemaValidation("a document has a root element").into());
        }
        Some(Terminal::Namespaces) | None => {
            let text = edit::remove(&document, node);
            let after = Document::read(text.as_bytes(), &LIMITS).map_err(|error| not_stored(&error))?;
            // Else the same DELETE again would take something else (7.5).
            if !matches!(selector.element(&after), Selected::None) {
                return Err(Conflict::CannotDelete.into());
            }
            text
        }
    };
    edited(usage, owner, with_lead(stored, &document, text), false)
}

fn put_element(
    document: &Document<'_>,
    selector: &Selector,
    body: &[u8],
    sent_as: &str,
) -> Result<(String, bool), Refused> {
    let parent = selector.parent(document).map_err(|reached| no_parent(selector, reached))?;
    let Some(target) = selector.steps.last() else { return Err(Refused::NotFound) };
    expect_type(sent_as, ELEMENT)?;
    let found = match parent {
        Some(parent) => target.among(parent.children()),
        None => target.among(std::iter::once(document.root())),
    };
    let within = parent.unwrap_or(document.root());
    let body = std::str::from_utf8(body).map_err(|_| Conflict::NotUtf8)?;
    // Space around the element is no part of it.
    let element = body.trim_matches([' ', '\t', '\r', '\n']);
    let (text, at, created) = match (found, parent) {
        (Selected::Several, _) => {
            return Err(Conflict::CannotInsert("the selector chooses several elements").into());
        }
        (Selected::One(node), Some(_)) => {
            read_fragment(element, within)?;
            (edit::replace(document, node, element), node.span().start, false)
        }
        (Selected::One(node), None) => {
            // The root stands in nothing, so it takes no namespaces from outside.
            if Document::read(element.as_bytes(), &LIMITS).is_err() {
                return Err(Conflict::NotXmlFragment("not one well-balanced element").into());
            }
            (edit::replace(document, node, element), node.span().start, false)
        }
        (Selected::None, None) => {
            return Err(Conflict::CannotInsert("a document has one root element").into());
        }
        (Selected::None, Some(parent)) => {
            let name = read_fragment(element, within)?;
            let place = place(parent, target, &name)?;
            let (text, at) = edit::insert(document, place, element);
            (text, at, true)
        }
    };
    let after = Document::read(text.as_bytes(), &LIMITS).map_err(|error| not_stored(&error))?;
    let end = at.saturating_add(element.len());
    // GET(PUT(x)) == x (7.4).
    match selector.element(&after) {
        Selected::One(node) if node.span() == (at..end) => Ok((text, created)),
        Selected::One(_) | Selected::None | Selected::Several => {
            Err(Conflict::CannotInsert("the URI would not choose the element that was sent").into())
        }
    }
}

/// Where a new element goes (8.2.3): at the earliest place where it is the n-th, or the last of its name, or the last of all.
fn place<'d>(parent: Node<'d>, target: &Step, new: &Name) -> Result<Place<'d>, Refused> {
    let counted = |node: &Node<'d>| target.name.as_ref().is_none_or(|name| name.is_of(*node));
    let mut counted = parent.children().filter(counted);
    let too_few = || Refused::from(Conflict::CannotInsert("there are too few elements before that position"));
    match target.position {
        None => {
            let last_of_its_name = parent.children().filter(|node| new.is_of(*node)).last();
            Ok(last_of_its_name.map_or(Place::LastIn(parent), Place::After))
        }
        Some(0) => Err(too_few()),
        Some(1) => Ok(counted.next().map_or(Place::LastIn(parent), Place::Before)),
        Some(position) => {
            let before = usize::try_from(position.saturating_sub(2)).unwrap_or(usize::MAX);
            counted.nth(before).map(Place::After).ok_or_else(too_few)
        }
    }
}

fn put_attribute(
    document: &Document<'_>,
    selector: &Selector,
    name: &Name,
    body: &[u8],
    sent_as: &str,
) -> Result<(String, bool), Refused> {
    let Selected::One(node) = selector.element(document) else {
        return Err(no_parent(selector, selector.reaches(document)));
    };
    expect_type(sent_as, ATTRIBUTE)?;
    let body = std::str::from_utf8(body).map_err(|_| Conflict::NotUtf8)?;
    let written = body.trim_matches([' ', '\t', '\r', '\n']);
    let value = edit::read_value(written).ok_or(Conflict::NotXmlAttributeValue)?;
    let Name { namespace, local } = name;
    if namespace.is_none() && local == "xmlns" {
        // A declaration is no attribute: the URI would not choose it (6.3).
        return Err(Conflict::CannotInsert("a namespace declaration is no attribute").into());
    }
    let created = edit::written_value(document, node, namespace.as_deref(), local).is_none();
    let text = edit::set_attribute(document, node, namespace.as_deref(), local, written)
        .ok_or(Conflict::CannotInsert("no prefix of the document stands for that namespace"))?;
    let after = Document::read(text.as_bytes(), &LIMITS).map_err(|error| match error {
        XmlError::Malformed(_) | XmlError::Doctype | XmlError::Encoding => {
            Refused::from(Conflict::NotXmlAttributeValue)
        }
        XmlError::TooLarge | XmlError::TooComplex => not_stored(&error),
    })?;
    let is_there = match selector.element(&after) {
        Selected::One(node) => node
            .attributes()
            .any(|(space, own, now)| (space, own, now) == (namespace.as_deref(), local, value.as_str())),
        Selected::None | Selected::Several => false,
    };
    if !is_there {
        return Err(Conflict::CannotInsert("the URI would not choose the attribute that was sent").into());
    }
    Ok((text, created))
}

fn read_fragment(element: &str, parent: Node<'_>) -> Result<Name, Refused> {
    match edit::read_element(element, parent, &LIMITS) {
        Ok((namespace, local)) => Ok(Name { namespace, local }),
        Err(XmlError::Malformed(_)) => {
            Err(Conflict::NotXmlFragment("not one well-balanced element with known prefixes").into())
        }
        Err(XmlError::Doctype) => Err(Conflict::NotXmlFragment("a document type declaration").into()),
        Err(XmlError::Encoding) => Err(Conflict::NotUtf8.into()),
        Err(error @ (XmlError::TooLarge | XmlError::TooComplex)) => Err(not_stored(&error)),
    }
}

fn no_parent(selector: &Selector, reached: usize) -> Refused {
    let ancestor = (reached > 0).then(|| selector.prefix(reached));
    Conflict::NoParent { ancestor }.into()
}

/// The element whose namespaces are asked for, with all of them (10).
fn namespaces(node: Node<'_>) -> String {
    let mut text = format!("<{}", node.name());
    for (prefix, uri) in node.bindings() {
        let colon = if prefix.is_empty() { "" } else { ":" };
        text.push_str(&format!(" xmlns{colon}{prefix}=\"{}\"", edit::escaped(uri)));
    }
    text.push_str("/>");
    text
}

fn expect_type(sent_as: &str, wanted: &'static str) -> Result<(), Refused> {
    if sent_as.eq_ignore_ascii_case(wanted) { Ok(()) } else { Err(Refused::MediaType(wanted)) }
}

/// The document was checked when it was stored; one that does not read any more has no parts.
fn read_stored(stored: &[u8]) -> Result<Document<'_>, Refused> {
    Document::read(stored, &LIMITS).map_err(|_| Refused::NotFound)
}

fn edited(usage: Usage, owner: &Aor, text: String, created: bool) -> Result<Edited, Refused> {
    let document = Document::read(text.as_bytes(), &LIMITS).map_err(|error| not_stored(&error))?;
    let said = check(usage, owner, &document, text.as_bytes())?;
    Ok(Edited { text, said, created })
}

/// Holds a document to what its application says of all of them, and tells what it says.
fn check(usage: Usage, owner: &Aor, document: &Document<'_>, body: &[u8]) -> Result<Said, Refused> {
    usage.validate(document, owner)?;
    let Some(auid) = usage.kept_as() else { return Ok(Said::default()) };
    Ok(Said::known(understand(&auid, document, body).map_err(Conflict::Constraint)?))
}

/// What stood before the text that was read: a byte order mark, space.
fn with_lead(stored: &[u8], document: &Document<'_>, text: String) -> String {
    let lead = stored.get(..stored.len().saturating_sub(document.text().len())).unwrap_or_default();
    match std::str::from_utf8(lead) {
        Ok("") | Err(_) => text,
        Ok(lead) => [lead, &text].concat(),
    }
}

/// Why a body is no document (8.2.2).
fn unreadable(error: XmlError, body: &[u8]) -> Refused {
    match error {
        XmlError::Malformed(_) if std::str::from_utf8(body).is_err() => Conflict::NotUtf8.into(),
        XmlError::Encoding => Conflict::NotUtf8.into(),
        XmlError::Malformed(what) => Conflict::NotWellFormed(what).into(),
        XmlError::Doctype => Conflict::Constraint("document type declarations are not taken").into(),
        XmlError::TooLarge | XmlError::TooComplex => not_stored(&error),
    }
}

fn not_stored(error: &XmlError) -> Refused {
    match error {
        XmlError::TooLarge => Refused::TooLarge,
        XmlError::TooComplex => {
            Conflict::Constraint("more elements, depth, attributes or namespaces than are taken").into()
        }
        XmlError::Malformed(_) | XmlError::Doctype | XmlError::Encoding => {
            Conflict::CannotInsert("the document would not be well-formed").into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text that is left.
    fn delete(usage: Usage, owner: &Aor, stored: &[u8], selector: &Selector) -> Result<String, Refused> {
        super::delete(usage, owner, stored, selector).map(|edited| edited.text)
    }

    fn bill() -> Aor {
        Aor::new("bill", "example.com").unwrap()
    }

    fn selector(text: &str) -> Selector {
        Selector::parse(text, Some("xmlns(x=urn:x)"), Usage::ResourceLists.namespace()).unwrap()
    }

    fn lists(stored: &str, at: &str, element: &str) -> Result<Edited, Refused> {
        put(Usage::ResourceLists, &bill(), stored.as_bytes(), &selector(at), element.as_bytes(), ELEMENT)
    }

    fn conflict<T: std::fmt::Debug>(result: Result<T, Refused>) -> Conflict {
        match result {
            Err(Refused::Conflict(conflict)) => conflict,
            other => panic!("{other:?}"),
        }
    }

    /// Insertion alone, without an application's schema.
    fn insert(at: &str, element: &str) -> Result<String, Refused> {
        let stored = "<?xml version=\"1.0\"?>\n<root>\n <el1 att=\"first\"/>\n <el1 att=\"second\"/>\n <!-- comment -->\n <el2 att=\"first\"/>\n</root>";
        let document = Document::read(stored.as_bytes(), &LIMITS).unwrap();
        let selector = Selector::parse(at, None, "").unwrap();
        put_element(&document, &selector, element.as_bytes(), ELEMENT).map(|(text, _)| text)
    }

    fn root(inside: &str) -> String {
        format!("<?xml version=\"1.0\"?>\n<root>{inside}</root>")
    }

    #[test]
    fn the_insertions_of_rfc4825_8_2_3() {
        let third = root(
            "\n <el1 att=\"first\"/>\n <el1 att=\"second\"/><el1 att=\"third\"/>\n <!-- comment -->\n <el2 att=\"first\"/>\n",
        );
        for at in ["root/el1[@att=\"third\"]", "root/el1[3][@att=\"third\"]", "root/*[3][@att=\"third\"]"] {
            assert_eq!(insert(at, "<el1 att=\"third\"/>").as_ref(), Ok(&third), "{at}");
        }
        let last = root(
            "\n <el1 att=\"first\"/>\n <el1 att=\"second\"/>\n <!-- comment -->\n <el2 att=\"first\"/>\n<el3 att=\"first\"/>",
        );
        assert_eq!(insert("root/el3", "<el3 att=\"first\"/>"), Ok(last));
        let second = root(
            "\n <el1 att=\"first\"/>\n <el1 att=\"second\"/>\n <!-- comment -->\n <el2 att=\"first\"/><el2 att=\"2\"/>\n",
        );
        for at in ["root/el2[@att=\"2\"]", "root/el2[2][@att=\"2\"]"] {
            assert_eq!(insert(at, "<el2 att=\"2\"/>").as_ref(), Ok(&second), "{at}");
        }
        let between = root(
            "\n <el1 att=\"first\"/><el2 att=\"2\"/>\n <el1 att=\"second\"/>\n <!-- comment -->\n <el2 att=\"first\"/>\n",
        );
        assert_eq!(insert("root/*[2][@att=\"2\"]", "<el2 att=\"2\"/>"), Ok(between));
        let before = root(
            "\n <el1 att=\"first\"/>\n <el1 att=\"second\"/>\n <!-- comment -->\n <el2 att=\"2\"/><el2 att=\"first\"/>\n",
        );
        assert_eq!(insert("root/el2[1][@att=\"2\"]", "<el2 att=\"2\"/>"), Ok(before));
    }

    #[test]
    fn the_places_that_rfc4825_8_2_3_has_no_example_of() {
        let first = insert("root/*[1][@att='0']", "<el0 att='0'/>").unwrap();
        assert!(first.contains("<root>\n <el0 att='0'/><el1 att=\"first\"/>"), "{first}");
        let alone = insert("root/*[@att='0']", "<el0 att='0'/>").unwrap();
        assert!(alone.ends_with("\n<el0 att='0'/></root>"), "no other of its name: the last of all: {alone}");
        let beside = insert("root/*[@att='0']", "<el1 att='0'/>").unwrap();
        assert!(beside.contains("<el1 att=\"second\"/><el1 att='0'/>"), "the last of its name: {beside}");
        let first_of_new = insert("root/el3[1]", "<el3/>").unwrap();
        assert!(first_of_new.ends_with("\n<el3/></root>"), "{first_of_new}");
        let within_nothing = insert("root/el2/el3", "<el3/>").unwrap();
        assert!(within_nothing.contains("<el2 att=\"first\"><el3/></el2>"), "{within_nothing}");
    }

    #[test]
    fn what_the_uri_would_not_choose_is_not_inserted_rfc4825_7_4() {
        for (at, element) in [
            ("root/el1[4][@att='x']", "<el1 att='x'/>"),
            ("root/el3[2]", "<el3/>"),
            ("root/el3[0]", "<el3/>"),
            ("root/*[5]", "<el3/>"),
            ("root/el1[@att='x']", "<el1 att='y'/>"),
            ("root/el1[@att='x']", "<el2 att='x'/>"),
            ("root/el1[@att='first']", "<el1 att='other'/>"),
            ("root/el1", "<el1/>"),
            ("other", "<other/>"),
            ("root", "<other/>"),
        ] {
            let refused = insert(at, element);
            assert!(matches!(conflict(refused), Conflict::CannotInsert(_)), "{at} {element}");
        }
        assert_eq!(insert("root/*[4]", "<el3/>").unwrap().matches("<el3/>").count(), 1);
    }

    #[test]
    fn the_session_of_rfc4825_13() {
        let created = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<resource-lists xmlns=\"urn:ietf:params:xml:ns:resource-lists\">\n  <list name=\"friends\">\n  </list>\n</resource-lists>";
        put_document(Usage::ResourceLists, &bill(), created.as_bytes(), "application/resource-lists+xml")
            .unwrap();
        let entry =
            "<entry uri=\"sip:bob@example.com\">\n    <display-name>Bob Jones</display-name>\n  </entry>";
        let edited = lists(created, "resource-lists/list[@name=\"friends\"]/entry", entry).unwrap();
        assert!(edited.created);
        assert_eq!(edited.text, created.replace("\n  </list>", &format!("\n  {entry}</list>")));
        let close = "<list name=\"close-friends\">\n   <entry uri=\"sip:joe@example.com\">\n     <display-name>Joe Smith</display-name>\n   </entry>\n   <entry uri=\"sip:nancy@example.com\">\n     <display-name>Nancy Gross</display-name>\n   </entry>\n   <entry uri=\"sip:petri@example.com\">\n     <display-name>Petri Aukia</display-name>\n   </entry>\n</list>\n";
        let edited = lists(
            &edited.text,
            "resource-lists/list[@name=\"friends\"]/list[@name=\"close-friends\"]",
            close,
        )
        .unwrap();
        let petri = "resource-lists/list/list/entry[@uri=\"sip:petri@example.com\"]";
        let without =
            delete(Usage::ResourceLists, &bill(), edited.text.as_bytes(), &selector(petri)).unwrap();
        assert!(!without.contains("petri") && without.contains("</entry>\n   \n</list>"), "{without}");
        let again = delete(Usage::ResourceLists, &bill(), without.as_bytes(), &selector(petri));
        assert_eq!(again, Err(Refused::NotFound));
        let nancy = get(without.as_bytes(), &selector("resource-lists/list/list/entry[2]/@uri")).unwrap();
        assert_eq!(nancy, Part { media_type: ATTRIBUTE, text: "\"sip:nancy@example.com\"".into() });
    }

    const STORED: &str = "<resource-lists xmlns='urn:ietf:params:xml:ns:resource-lists' xmlns:e='urn:x'>\
        <list name='a'><entry uri='1'/><entry uri='2'/></list><list name='b' e:x='y'/></resource-lists>";

    #[test]
    fn an_element_is_replaced_whole_and_nothing_else_moves_rfc4825_8_2_4() {
        let edited =
            lists(STORED, "resource-lists/list[@name='a']/entry[2]", "<entry uri='3' xmlns:e='urn:x'/>")
                .unwrap();
        assert!(!edited.created);
        assert_eq!(edited.text, STORED.replace("<entry uri='2'/>", "<entry uri='3' xmlns:e='urn:x'/>"));
        let element = get(edited.text.as_bytes(), &selector("resource-lists/list[1]/entry[2]")).unwrap();
        assert_eq!(element, Part { media_type: ELEMENT, text: "<entry uri='3' xmlns:e='urn:x'/>".into() });
        let root = "<resource-lists xmlns='urn:ietf:params:xml:ns:resource-lists'/>";
        assert_eq!(lists(STORED, "resource-lists", root).unwrap().text, root);
    }

    #[test]
    fn attributes_are_put_read_and_taken_out_rfc4825_7_7_to_7_9() {
        let put_at = |at: &str, value: &str| {
            put(Usage::ResourceLists, &bill(), STORED.as_bytes(), &selector(at), value.as_bytes(), ATTRIBUTE)
        };
        let edited = put_at("resource-lists/list[1]/@name", "\"c&amp;d\"").unwrap();
        assert_eq!((edited.created, edited.text), (false, STORED.replace("'a'", "\"c&amp;d\"")));
        let edited = put_at("resource-lists/list[1]/@x:x", "'z'").unwrap();
        assert_eq!((edited.created, edited.text), (true, STORED.replace("name='a'", "name='a' e:x='z'")));
        assert_eq!(
            get(STORED.as_bytes(), &selector("resource-lists/list[2]/@x:x")).unwrap().text,
            "'y'",
            "by its namespace, whatever the prefix"
        );
        let removed = delete(
            Usage::ResourceLists,
            &bill(),
            STORED.as_bytes(),
            &selector("resource-lists/list[2]/@name"),
        );
        assert_eq!(removed.unwrap(), STORED.replace(" name='b'", ""));
        // 7.7: the selector hangs on the old value.
        let renamed = put_at("resource-lists/list[@name='a']/@name", "'c'");
        assert!(matches!(conflict(renamed), Conflict::CannotInsert(_)));
        assert!(matches!(
            conflict(put_at("resource-lists/list[1]/@xmlns", "'u'")),
            Conflict::CannotInsert(_)
        ));
        let missing = conflict(put_at("resource-lists/list[3]/@name", "'c'"));
        assert_eq!(missing, Conflict::NoParent { ancestor: Some("resource-lists?xmlns(x=urn:x)".into()) });
        for wrong in ["c", "\"c", "'<'", "'&nope;'", "", "'a' b='c'"] {
            assert_eq!(
                conflict(put_at("resource-lists/list[1]/@name", wrong)),
                Conflict::NotXmlAttributeValue,
                "{wrong}"
            );
        }
        assert_eq!(
            delete(
                Usage::ResourceLists,
                &bill(),
                STORED.as_bytes(),
                &selector("resource-lists/list[1]/@nope")
            ),
            Err(Refused::NotFound)
        );
    }

    #[test]
    fn the_namespaces_in_scope_can_be_read_and_nothing_else_rfc4825_10() {
        let at = selector("resource-lists/list[1]/namespace::*");
        let Part { media_type, text } = get(STORED.as_bytes(), &at).unwrap();
        assert_eq!(media_type, NAMESPACES);
        let document = Document::read(text.as_bytes(), &LIMITS).unwrap();
        let mut bindings = document.root().bindings();
        bindings.sort_unstable();
        assert_eq!(bindings, [("", Usage::ResourceLists.namespace()), ("e", "urn:x")]);
        assert_eq!(document.root().name(), "list");
        assert_eq!(
            put(Usage::ResourceLists, &bill(), STORED.as_bytes(), &at, b"", ELEMENT),
            Err(Refused::ReadOnly)
        );
        assert_eq!(delete(Usage::ResourceLists, &bill(), STORED.as_bytes(), &at), Err(Refused::ReadOnly));
    }

    #[test]
    fn deletions_that_would_choose_another_are_refused_rfc4825_7_5() {
        let delete = |at: &str| delete(Usage::ResourceLists, &bill(), STORED.as_bytes(), &selector(at));
        assert_eq!(conflict(delete("resource-lists/list[1]/entry[1]")), Conflict::CannotDelete);
        assert_eq!(conflict(delete("resource-lists/*[1]")), Conflict::CannotDelete);
        assert_eq!(
            delete("resource-lists/list[1]/entry[2]").unwrap(),
            STORED.replace("<entry uri='2'/>", "")
        );
        assert_eq!(
            delete("resource-lists/list[1]/entry[1][@uri='1']").unwrap(),
            STORED.replace("<entry uri='1'/>", "")
        );
        assert_eq!(delete("resource-lists/list"), Err(Refused::NotFound), "several are none");
        assert!(matches!(conflict(delete("resource-lists")), Conflict::SchemaValidation(_)));
        assert!(matches!(
            conflict(delete("resource-lists/list[1]/entry[1]/@uri")),
            Conflict::SchemaValidation(_)
        ));
    }

    #[test]
    fn the_parent_must_be_there_rfc4825_8_2_1() {
        let missing = conflict(lists(STORED, "resource-lists/list[@name='c']/entry[1]", "<entry uri='1'/>"));
        assert_eq!(missing, Conflict::NoParent { ancestor: Some("resource-lists?xmlns(x=urn:x)".into()) });
        let several = conflict(lists(STORED, "resource-lists/list/entry[1]", "<entry uri='1'/>"));
        assert!(matches!(several, Conflict::NoParent { .. }));
        assert_eq!(conflict(lists(STORED, "other/x", "<x/>")), Conflict::NoParent { ancestor: None });
    }

    #[test]
    fn bodies_are_what_their_types_say_rfc4825_8_2_2() {
        let at = "resource-lists/list[1]/entry[@uri='3']";
        for wrong in [
            "",
            "x",
            "<entry uri='3'>",
            "<entry uri='3'/><entry uri='4'/>",
            "<p:entry uri='3'/>",
            "<!-- c -->",
        ] {
            assert!(matches!(conflict(lists(STORED, at, wrong)), Conflict::NotXmlFragment(_)), "{wrong}");
        }
        let put = |body: &[u8], kind: &str| {
            put(Usage::ResourceLists, &bill(), STORED.as_bytes(), &selector(at), body, kind)
        };
        assert_eq!(conflict(put(b"<entry uri='3'>\xE9</entry>", ELEMENT)), Conflict::NotUtf8);
        for kind in ["application/xml", "application/xcap-att+xml", "", "application/resource-lists+xml"] {
            assert_eq!(put(b"<entry uri='3'/>", kind), Err(Refused::MediaType(ELEMENT)), "{kind}");
        }
        let document =
            |body: &[u8]| put_document(Usage::ResourceLists, &bill(), body, "application/resource-lists+xml");
        assert!(matches!(conflict(document(b"<resource-lists>")), Conflict::NotWellFormed(_)));
        assert_eq!(conflict(document(b"<?xml version='1.0' encoding='ISO-8859-1'?><a/>")), Conflict::NotUtf8);
        assert_eq!(conflict(document(b"<a>\xE9</a>")), Conflict::NotUtf8);
        assert!(matches!(conflict(document(b"<!DOCTYPE a><a/>")), Conflict::Constraint(_)), "A07");
        assert!(matches!(conflict(document(b"<a/>")), Conflict::SchemaValidation(_)));
        assert_eq!(document(&vec![b' '; 256 * 1024 + 1]), Err(Refused::TooLarge));
        assert_eq!(
            put_document(Usage::ResourceLists, &bill(), b"<a/>", "application/xml"),
            Err(Refused::MediaType("application/resource-lists+xml"))
        );
    }

    #[test]
    fn what_the_application_forbids_is_not_stored_rfc4825_8_2_5() {
        let schema = conflict(lists(STORED, "resource-lists/list[1]/unknown", "<unknown/>"));
        assert!(matches!(schema, Conflict::SchemaValidation(_)));
        let twice = conflict(lists(STORED, "resource-lists/list[1]/entry[3]", "<entry uri='1'/>"));
        assert!(matches!(twice, Conflict::Uniqueness(_)));
        let absolute = conflict(lists(STORED, "resource-lists/list[1]/entry-ref", "<entry-ref ref='/a'/>"));
        assert!(matches!(absolute, Conflict::Constraint(_)));
        assert!(
            lists(STORED, "resource-lists/list[1]/x:any", "<any xmlns='urn:x'><deep xmlns=''/></any>")
                .is_ok()
        );
    }

    #[test]
    fn a_list_of_a_thousand_grows_by_one() {
        let entries: String = (0..1_000)
            .map(|n| {
                format!(
                    "\n  <entry uri=\"sip:user{n}@example.com\"><display-name>User {n}</display-name></entry>"
                )
            })
            .collect();
        let stored = format!(
            "<resource-lists xmlns=\"urn:ietf:params:xml:ns:resource-lists\"><list name=\"all\">{entries}\n</list></resource-lists>"
        );
        let new = "<entry uri=\"sip:new@example.com\"/>";
        let edited = lists(&stored, "resource-lists/list/entry[@uri=\"sip:new@example.com\"]", new).unwrap();
        assert_eq!(edited.text, stored.replace("\n</list>", &format!("{new}\n</list>")));
        let renamed =
            lists(&edited.text, "resource-lists/list/entry[500]", "<entry uri=\"sip:x@example.com\"/>");
        assert!(renamed.is_ok());
    }

    #[test]
    fn what_stands_before_the_document_stays() {
        let stored = format!("\u{FEFF}\n{STORED}\n<!-- end -->\n");
        let edited = lists(&stored, "resource-lists/list[2]/entry", "<entry uri='9'/>").unwrap();
        assert_eq!(edited.text, stored.replace("e:x='y'/>", "e:x='y'><entry uri='9'/></list>"));
    }
}

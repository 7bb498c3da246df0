//! Changes of a document that is kept as its own text: what is not touched stays byte for byte (RFC 4825 8.2.3, 8.4).
//!
//! Callers have read the text as a [`Document`] and name nodes of it; they get the new text and read that again before they believe it.

use std::borrow::Cow;
use std::ops::Range;

use crate::availability::document::lexis::{SPACE, decode_value, is_qualified_name};
use crate::availability::document::xml::{Document, Limits, Node, XmlError};

/// Where a new element goes.
#[derive(Debug, Clone, Copy)]
pub enum Place<'d> {
    /// Just before this element.
    Before(Node<'d>),
    /// Just after this element.
    After(Node<'d>),
    /// Into this element, after everything in it.
    LastIn(Node<'d>),
}

/// The text with `element` put in, and where it stands now.
pub fn insert(document: &Document<'_>, place: Place<'_>, element: &str) -> (String, usize) {
    let text = document.text();
    let put = |at: usize| (splice(text, at..at, element), at);
    match place {
        Place::Before(node) => put(node.span().start),
        Place::After(node) => put(node.span().end),
        Place::LastIn(node) => match Tag::of(text, node) {
            Tag { is_empty: true, end, .. } => {
                // `<list name="a"/>` needs an end tag to have content.
                let slash = end.saturating_sub("/>".len());
                let name = node.name();
                (splice(text, slash..end, &format!(">{element}</{name}>")), slash.saturating_add(1))
            }
            Tag { is_empty: false, .. } => {
                let span = node.span();
                let inside = text.get(span.clone()).unwrap_or_default();
                put(span.start.saturating_add(inside.rfind("</").unwrap_or(inside.len())))
            }
        },
    }
}

/// The text with `element` in the place of a node.
pub fn replace(document: &Document<'_>, node: Node<'_>, element: &str) -> String {
    splice(document.text(), node.span(), element)
}

/// The text without an element; space around it stays (RFC 4825 8.4).
pub fn remove(document: &Document<'_>, node: Node<'_>) -> String {
    splice(document.text(), node.span(), "")
}

/// An attribute's value as it is written, quotes included (XML 1.0 production 10). `None` if the element has no such attribute.
pub fn written_value<'x>(
    document: &Document<'x>,
    node: Node<'_>,
    namespace: Option<&str>,
    local: &str,
) -> Option<&'x str> {
    document.text().get(find(document, node, namespace, local)?.value)
}

/// The text with an attribute set.
///
/// - `written`: the value with its quotes, a valid AttValue.
///
/// `None` if the attribute is new and nothing in the document stands for its namespace there.
pub fn set_attribute(
    document: &Document<'_>,
    node: Node<'_>,
    namespace: Option<&str>,
    local: &str,
    written: &str,
) -> Option<String> {
    let text = document.text();
    if let Some(found) = find(document, node, namespace, local) {
        return Some(splice(text, found.value, written));
    }
    let name = match namespace {
        None => local.to_owned(),
        Some(crate::availability::document::xml::XML_NAMESPACE) => format!("xml:{local}"),
        Some(uri) => {
            // The default namespace is none of an attribute's (Namespaces in XML 6.2).
            let bindings = node.bindings();
            let (prefix, _) = bindings.iter().find(|(prefix, bound)| !prefix.is_empty() && *bound == uri)?;
            format!("{prefix}:{local}")
        }
    };
    let tag = Tag::of(text, node);
    Some(splice(text, tag.attributes_end..tag.attributes_end, &format!(" {name}={written}")))
}

/// The text without an attribute and the space before it. `None` if the element has none.
pub fn remove_attribute(
    document: &Document<'_>,
    node: Node<'_>,
    namespace: Option<&str>,
    local: &str,
) -> Option<String> {
    Some(splice(document.text(), find(document, node, namespace, local)?.whole, ""))
}

/// The value that an AttValue (XML 1.0 production 10) stands for, quotes and references read. `None` if it is none.
pub fn read_value(written: &str) -> Option<String> {
    let quote = written.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let inside = written.strip_prefix(quote)?.strip_suffix(quote)?;
    let is_plain = !inside.contains([quote, '<']);
    is_plain.then(|| decode_value(inside).map(Cow::into_owned)).flatten()
}

/// Is this a name with at most one colon (Namespaces in XML 1.0, production 7)?
pub fn is_name(text: &str) -> bool {
    is_qualified_name(text)
}

/// Text as it stands in content or between double quotes.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // Else a reader would make spaces of them (XML 1.0 3.3.3).
            '\t' | '\n' | '\r' => out.push_str(&format!("&#{};", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// Namespace and name of the one element that `text` is, as it would be read inside `parent`.
///
/// # Errors
/// What is not exactly one well-balanced element there, or beyond `limits`.
pub fn read_element(
    text: &str,
    parent: Node<'_>,
    limits: &Limits,
) -> Result<(Option<String>, String), XmlError> {
    // A root of our own lends it the namespaces that it may take from outside.
    let mut wrapped = String::from("<x");
    for (prefix, uri) in parent.bindings() {
        let colon = if prefix.is_empty() { "" } else { ":" };
        wrapped.push_str(&format!(" xmlns{colon}{prefix}=\"{}\"", escaped(uri)));
    }
    wrapped.push('>');
    let start = wrapped.len();
    wrapped.push_str(text);
    let end = wrapped.len();
    wrapped.push_str("</x>");
    let room = wrapped.len().saturating_sub(text.len());
    let limits = Limits {
        bytes: limits.bytes.saturating_add(room),
        elements: limits.elements.saturating_add(1),
        depth: limits.depth.saturating_add(1),
        attributes: limits.attributes.max(limits.namespaces.saturating_add(1)),
        ..*limits
    };
    let document = Document::read(wrapped.as_bytes(), &limits)?;
    let mut children = document.root().children();
    match (children.next(), children.next()) {
        (Some(element), None) if element.span() == (start..end) => {
            Ok((element.namespace().map(str::to_owned), element.local().to_owned()))
        }
        _ => Err(XmlError::Malformed("not one element")),
    }
}

/// A start tag, or the tag of an element without content.
struct Tag {
    /// Just before `>` or `/>`, and the space before that.
    attributes_end: usize,
    /// Just after `>`.
    end: usize,
    is_empty: bool,
}

impl Tag {
    /// The document was read, so quotes are closed and the tag ends.
    fn of(text: &str, node: Node<'_>) -> Tag {
        let span = node.span();
        let inside = text.get(span.clone()).unwrap_or_default();
        let mut quote = None;
        let mut length = inside.len();
        for (at, c) in inside.char_indices() {
            match (quote, c) {
                (None, '"' | '\'') => quote = Some(c),
                (Some(open), c) if open == c => quote = None,
                (None, '>') => {
                    length = at.saturating_add(1);
                    break;
                }
                (None | Some(_), _) => {}
            }
        }
        let tag = inside.get(..length).unwrap_or_default();
        let is_empty = tag.ends_with("/>");
        let body = tag.trim_end_matches('>');
        let body = if is_empty { body.trim_end_matches('/') } else { body };
        let attributes_end = span.start.saturating_add(body.trim_end_matches(SPACE).len());
        Tag { attributes_end, end: span.start.saturating_add(length), is_empty }
    }
}

/// Where one attribute stands.
struct Written {
    /// With the space before it.
    whole: Range<usize>,
    /// The value with its quotes.
    value: Range<usize>,
}

/// An attribute by its expanded name. Declarations of namespaces are no attributes.
fn find(document: &Document<'_>, node: Node<'_>, namespace: Option<&str>, local: &str) -> Option<Written> {
    let text = document.text();
    let tag = Tag::of(text, node);
    let bindings = node.bindings();
    let mut at = node.span().start.saturating_add(1).saturating_add(node.name().len());
    while at < tag.attributes_end {
        let whole = at;
        let trimmed = text.get(at..tag.attributes_end)?.trim_start_matches(SPACE);
        let (before, after) = trimmed.split_once('=')?;
        let name = before.trim_end_matches(SPACE);
        let value_text = after.trim_start_matches(SPACE);
        let quote = value_text.chars().next()?;
        let length = value_text.get(1..)?.find(quote)?.saturating_add(2);
        let start = tag.attributes_end.saturating_sub(value_text.len());
        at = start.saturating_add(length);
        let (prefix, own) = name.split_once(':').unwrap_or(("", name));
        let uri = match prefix {
            "" => None,
            "xml" => Some(crate::availability::document::xml::XML_NAMESPACE),
            _ => bindings.iter().find(|(bound, _)| *bound == prefix).map(|(_, uri)| *uri),
        };
        let is_declaration = name == "xmlns" || prefix == "xmlns";
        if !is_declaration && own == local && uri == namespace {
            return Some(Written { whole: whole..at, value: start..at });
        }
    }
    None
}

fn splice(text: &str, range: Range<usize>, with: &str) -> String {
    let before = text.get(..range.start).unwrap_or_default();
    let after = text.get(range.end..).unwrap_or_default();
    [before, with, after].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { instructions: true, ..Limits::PUBLISHED };

    fn read(text: &str) -> Document<'_> {
        Document::read(text.as_bytes(), &LIMITS).unwrap()
    }

    fn child<'d>(document: &'d Document<'_>, at: usize) -> Node<'d> {
        document.root().children().nth(at).unwrap()
    }

    #[test]
    fn what_is_not_touched_stays_byte_for_byte() {
        let text = "<?xml version='1.0'?>\n<!-- a > b -->\n<r a = \"'>'\"  b='\">'>\n  <x/> <?keep  this?>\t<y c='1' ></y >\n</r >\n<!-- z -->\n";
        let document = read(text);
        assert_eq!(remove(&document, child(&document, 0)), text.replace("<x/>", ""));
        assert_eq!(replace(&document, child(&document, 1), "<n/>"), text.replace("<y c='1' ></y >", "<n/>"));
        let (after, at) = insert(&document, Place::After(child(&document, 0)), "<n/>");
        assert_eq!((after.as_str(), &after[at..at + 4]), (text.replace("<x/>", "<x/><n/>").as_str(), "<n/>"));
        assert_eq!(
            insert(&document, Place::Before(child(&document, 1)), "<n/>").0,
            text.replace("<y", "<n/><y")
        );
        assert_eq!(
            insert(&document, Place::LastIn(document.root()), "<n/>").0,
            text.replace("\n</r >", "\n<n/></r >")
        );
    }

    #[test]
    fn an_element_without_content_gets_an_end_tag() {
        let document = read("<r><p:x xmlns:p='u' a='/>' /></r>");
        let (text, at) = insert(&document, Place::LastIn(child(&document, 0)), "<n/>");
        assert_eq!(text, "<r><p:x xmlns:p='u' a='/>' ><n/></p:x></r>");
        assert!(text[at..].starts_with("<n/>"));
        let document = read("<r><x></x></r>");
        assert_eq!(insert(&document, Place::LastIn(child(&document, 0)), "<n/>").0, "<r><x><n/></x></r>");
    }

    #[test]
    fn attributes_are_found_by_their_expanded_names() {
        let text = "<r xmlns:p='u' xmlns:q='u' xmlns='d'><x name = 'a\"b' p:name=\"c\"\n xml:lang='de' xmlns:name='no'/></r>";
        let document = read(text);
        let x = child(&document, 0);
        let written = |ns, local| written_value(&document, x, ns, local);
        assert_eq!(written(None, "name"), Some("'a\"b'"));
        assert_eq!(written(Some("u"), "name"), Some("\"c\""));
        assert_eq!(written(Some("http://www.w3.org/XML/1998/namespace"), "lang"), Some("'de'"));
        assert_eq!(written(Some("d"), "name"), None);
        assert_eq!(written(None, "xmlns"), None);
        assert_eq!(
            set_attribute(&document, x, Some("u"), "name", "'n'").unwrap(),
            text.replace("\"c\"", "'n'")
        );
        let added = set_attribute(&document, x, Some("u"), "new", "\"n\"").unwrap();
        assert!(
            added.contains("xmlns:name='no' p:new=\"n\"/>")
                || added.contains("xmlns:name='no' q:new=\"n\"/>")
        );
        assert!(set_attribute(&document, x, Some("d"), "new", "''").is_none(), "no prefix stands for it");
        assert_eq!(remove_attribute(&document, x, None, "name").unwrap(), text.replace(" name = 'a\"b'", ""));
        assert_eq!(
            remove_attribute(&document, x, Some("http://www.w3.org/XML/1998/namespace"), "lang").unwrap(),
            text.replace("\n xml:lang='de'", "")
        );
        assert!(remove_attribute(&document, x, None, "absent").is_none());
    }

    #[test]
    fn values_are_quoted_and_their_references_read_xml_3_1() {
        for (written, value) in [("\"a\"", "a"), ("'a\"&amp;b'", "a\"&b"), ("''", ""), ("\"&#65;\"", "A")] {
            assert_eq!(read_value(written).as_deref(), Some(value), "{written}");
        }
        for wrong in ["", "a", "\"", "\"a'", "\"a\"b\"", "\"<\"", "\"&nope;\"", "\"a & b\"", "'a' "] {
            assert_eq!(read_value(wrong), None, "{wrong}");
        }
        assert_eq!(escaped("<a b=\"&\n\">"), "&lt;a b=&quot;&amp;&#10;&quot;&gt;");
    }

    #[test]
    fn one_element_is_read_with_the_namespaces_around_it() {
        let document = read("<r xmlns='d' xmlns:p='u'><x xmlns=''/></r>");
        let named = |text| read_element(text, document.root(), &LIMITS).unwrap();
        assert_eq!(named("<a>text<!-- c --></a>"), (Some("d".into()), "a".into()));
        assert_eq!(named("<p:a/>"), (Some("u".into()), "a".into()));
        assert_eq!(named("<a xmlns='other'/>"), (Some("other".into()), "a".into()));
        assert_eq!(read_element("<a/>", child(&document, 0), &LIMITS), Ok((None, "a".into())));
        for wrong in [
            "",
            "text",
            "<a/><b/>",
            "<a/> ",
            "<!-- c --><a/>",
            "<a>",
            "<q:a/>",
            "</x><a/><x>",
            "<a/></x><x>",
            "<a/><!--",
            "<?xml version='1.0'?><a/>",
            "<!DOCTYPE a><a/>",
        ] {
            assert!(read_element(wrong, document.root(), &LIMITS).is_err(), "{wrong}");
        }
        let deep = format!("{}{}", "<a>".repeat(33), "</a>".repeat(33));
        assert_eq!(read_element(&deep, document.root(), &LIMITS), Err(XmlError::TooComplex));
    }

    #[test]
    fn instructions_are_read_where_they_do_no_harm() {
        assert!(Document::read(b"<?keep x?><a><?php y?></a>", &LIMITS).is_ok());
        assert!(Document::read(b"<?keep x?><a/>", &Limits::PUBLISHED).is_err());
        for wrong in
            ["<a><?xml x?></a>", "<a><?XML x?></a>", "<a><?1 x?></a>", "<a><? x?></a>", "<a><?p x></a>"]
        {
            assert!(Document::read(wrong.as_bytes(), &LIMITS).is_err(), "{wrong}");
        }
    }
}

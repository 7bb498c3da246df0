//! One XML document as a bounded tree: well-formed, namespaces resolved, no document type, no entities (`A07`).
//!
//! Every cap is checked while reading, so the work is linear in at most [`Limits::bytes`]. What a recipient's parser would
//! refuse is refused here: elements are passed on to watchers as the bytes they came in ([`Fragment`]).

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use quick_xml::Reader;
use quick_xml::events::{BytesDecl, BytesRef, BytesStart, Event};

use crate::availability::document::lexis::{
    SPACE, decode_value, is_name_char, is_ncname, is_qualified_name, is_space, is_xml_text, local, prefixed,
    raw_attributes, referenced,
};
use crate::availability::document::values::date_time;
use crate::model::Timestamp;

/// The namespace that the prefix `xml` always has.
pub const XML_NAMESPACE: &str = "http://www.w3.org/XML/1998/namespace";

/// What stands for it in every document.
static XML: LazyLock<Arc<Namespace>> =
    LazyLock::new(|| Arc::new(Namespace { prefix: "xml".into(), uri: XML_NAMESPACE.into() }));

/// How much of a document is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole document.
    pub bytes: usize,
    /// Elements, the root included.
    pub elements: usize,
    /// Nesting; the root stands at 1.
    pub depth: usize,
    /// Attributes of one element, namespace declarations included.
    pub attributes: usize,
    /// Namespace declarations in scope at once.
    pub namespaces: usize,
    /// May it hold processing instructions? In what is only kept and handed back to its owner, they do no harm.
    pub instructions: bool,
}

impl Limits {
    /// What a publisher may send (`A07`): far more than any presence document needs.
    pub const PUBLISHED: Limits = Limits {
        bytes: 32 * 1024,
        elements: 2_000,
        depth: 32,
        attributes: 64,
        namespaces: 32,
        instructions: false,
    };

    /// What a user may keep here: lists with thousands of entries.
    pub const STORED: Limits =
        Limits { bytes: 256 * 1024, elements: 20_000, instructions: true, ..Limits::PUBLISHED };
}

/// Why a document is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// Not well-formed, or not namespace-well-formed.
    #[error("not well-formed: {0}")]
    Malformed(&'static str),
    /// It has a document type declaration, and could so define entities.
    #[error("document type declaration")]
    Doctype,
    /// Not UTF-8.
    #[error("encoding is not UTF-8")]
    Encoding,
    /// More bytes than [`Limits::bytes`].
    #[error("document too large")]
    TooLarge,
    /// More elements, depth, attributes or namespaces than the limits.
    #[error("document too complex")]
    TooComplex,
}

impl XmlError {
    /// In a few words.
    pub fn what(self) -> &'static str {
        match self {
            XmlError::Malformed(what) => what,
            XmlError::Doctype => "document type declaration",
            XmlError::Encoding => "not UTF-8",
            XmlError::TooLarge => "too large",
            XmlError::TooComplex => "too complex",
        }
    }
}

/// A document that was read to its end.
#[derive(Debug)]
pub struct Document<'x> {
    text: &'x str,
    elements: Vec<Element<'x>>,
    bindings: Vec<Arc<Namespace>>,
}

#[derive(Debug)]
struct Element<'x> {
    name: &'x str,
    namespace: Option<usize>,
    declares: Range<usize>,
    attributes: Vec<Attribute<'x>>,
    text: String,
    span: Range<usize>,
    parent: Option<usize>,
    /// The element after its last descendant, in document order.
    end: usize,
}

#[derive(Debug)]
struct Attribute<'x> {
    namespace: Option<usize>,
    local: &'x str,
    value: Cow<'x, str>,
}

/// A prefix (empty: the default) and the namespace that it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Namespace {
    /// Without colon.
    pub prefix: Box<str>,
    /// The name; empty for no namespace.
    pub uri: Box<str>,
}

impl<'x> Document<'x> {
    /// Reads a whole document.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn read(bytes: &'x [u8], limits: &Limits) -> Result<Document<'x>, XmlError> {
        let text = decode_utf8(bytes, limits)?;
        let document = Document { text, elements: Vec::new(), bindings: vec![XML.clone()] };
        let mut builder = Builder { document, limits, open: Vec::new(), scope: vec![0] };
        let mut reader = Reader::from_str(text);
        reader.config_mut().check_comments = true;
        loop {
            let start = position(&reader);
            let event = reader.read_event().map_err(|_| XmlError::Malformed("syntax"))?;
            let end = position(&reader);
            match event {
                Event::Start(tag) => builder.open(&tag, start..end, false)?,
                Event::Empty(tag) => builder.open(&tag, start..end, true)?,
                Event::End(_) => builder.close(end)?,
                Event::Text(content) => builder.characters(&content)?,
                Event::CData(content) => builder.literal(&content)?,
                Event::GeneralRef(reference) => builder.reference(&reference)?,
                Event::Comment(_) => {}
                Event::Decl(declaration) => check_declaration(&declaration, start)?,
                // Nobody who publishes presence sends one, and what a watcher would do with it is unknown.
                Event::PI(_) if !limits.instructions => {
                    return Err(XmlError::Malformed("processing instruction"));
                }
                Event::PI(instruction) => check_instruction(instruction.target())?,
                Event::DocType(_) => return Err(XmlError::Doctype),
                Event::Eof => break,
            }
        }
        builder.finish()
    }

    /// The root element.
    pub fn root(&self) -> Node<'_> {
        Node { document: self, at: 0 }
    }
    /// What was read, without a byte order mark and space before it.
    pub fn text(&self) -> &'x str {
        self.text
    }
}

/// Reads the tree event by event; quick-xml checks that tags match and markup ends.
struct Builder<'x, 'l> {
    document: Document<'x>,
    limits: &'l Limits,
    open: Vec<usize>,
    /// Bindings in scope, innermost last.
    scope: Vec<usize>,
}

impl<'x> Builder<'x, '_> {
    fn open(&mut self, tag: &BytesStart<'_>, span: Range<usize>, empty: bool) -> Result<(), XmlError> {
        let limits = self.limits;
        if self.document.elements.len() >= limits.elements || self.open.len() >= limits.depth {
            return Err(XmlError::TooComplex);
        }
        if self.open.is_empty() && !self.document.elements.is_empty() {
            return Err(XmlError::Malformed("second root"));
        }
        let markup = self.document.text.get(span.clone()).ok_or(XmlError::Malformed("markup"))?;
        let body = markup.strip_prefix('<').ok_or(XmlError::Malformed("markup"))?;
        let name = body.get(..tag.name().0.len()).ok_or(XmlError::Malformed("markup"))?;
        let rest = body.get(name.len()..).and_then(|rest| rest.strip_suffix(if empty { "/>" } else { ">" }));
        let raw = raw_attributes(rest.ok_or(XmlError::Malformed("markup"))?, limits.attributes)?;
        let declares = self.declare(&raw)?;
        let namespace = self.resolve(name, true)?;
        let attributes = self.attributes(&raw)?;
        let at = self.document.elements.len();
        let parent = self.open.last().copied();
        let end = at.saturating_add(1);
        let element =
            Element { name, namespace, declares, attributes, text: String::new(), span, parent, end };
        self.document.elements.push(element);
        self.open.push(at);
        if empty { self.close(position_after(&self.document, at)) } else { Ok(()) }
    }

    fn close(&mut self, end: usize) -> Result<(), XmlError> {
        let at = self.open.pop().ok_or(XmlError::Malformed("end tag"))?;
        let count = self.document.elements.len();
        if let Some(element) = self.document.elements.get_mut(at) {
            element.span.end = end;
            element.end = count;
            let declared = element.declares.len();
            self.scope.truncate(self.scope.len().saturating_sub(declared));
        }
        Ok(())
    }

    fn characters(&mut self, content: &str) -> Result<(), XmlError> {
        if self.open.is_empty() {
            let blank = content.bytes().all(is_space);
            return if blank { Ok(()) } else { Err(XmlError::Malformed("text outside the root")) };
        }
        if content.contains("]]>") {
            return Err(XmlError::Malformed("]]> in text"));
        }
        self.literal(content)
    }

    fn literal(&mut self, content: &str) -> Result<(), XmlError> {
        let element = self.open.last().and_then(|&at| self.document.elements.get_mut(at));
        element.ok_or(XmlError::Malformed("text outside the root"))?.text.push_str(content);
        Ok(())
    }

    fn reference(&mut self, reference: &BytesRef<'_>) -> Result<(), XmlError> {
        let character = referenced(reference).ok_or(XmlError::Malformed("entity reference"))?;
        self.literal(character.encode_utf8(&mut [0; 4]))
    }

    /// Namespace declarations of one element (Namespaces in XML 1.0, sections 2 and 3).
    fn declare(&mut self, raw: &[(&'x str, &'x str)]) -> Result<Range<usize>, XmlError> {
        let first = self.document.bindings.len();
        for (name, value) in raw {
            let prefix = match prefixed(name) {
                None if *name == "xmlns" => "",
                Some(("xmlns", prefix)) => prefix,
                _ => continue,
            };
            let uri = decode_value(value).ok_or(XmlError::Malformed("namespace declaration"))?;
            let reserved = prefix == "xmlns" || uri == "http://www.w3.org/2000/xmlns/";
            let is_no_uri = |b| matches!(b, b'<' | b'>' | b'"' | b'{' | b'}' | b'|' | b'\\' | b'^' | b'`');
            let is_uri = uri.bytes().all(|b| b.is_ascii_graphic() && !is_no_uri(b));
            if reserved
                || !is_uri
                || (prefix == "xml") != (uri == XML_NAMESPACE)
                || (uri.is_empty() && !prefix.is_empty())
            {
                return Err(XmlError::Malformed("namespace declaration"));
            }
            // They are repeated wherever a fragment needs them, so their size is bounded too.
            if self.scope.len() > self.limits.namespaces || uri.len() > 512 || prefix.len() > 64 {
                return Err(XmlError::TooComplex);
            }
            self.scope.push(self.document.bindings.len());
            self.document.bindings.push(Namespace { prefix: prefix.into(), uri: (*uri).into() }.into());
        }
        Ok(first..self.document.bindings.len())
    }

    fn attributes(&self, raw: &[(&'x str, &'x str)]) -> Result<Vec<Attribute<'x>>, XmlError> {
        let mut attributes: Vec<Attribute<'x>> = Vec::new();
        for (at, (name, value)) in raw.iter().enumerate() {
            if raw.iter().take(at).any(|(other, _)| other == name) {
                return Err(XmlError::Malformed("duplicate attribute"));
            }
            if *name == "xmlns" || name.starts_with("xmlns:") {
                continue;
            }
            let namespace = self.resolve(name, false)?;
            let local = local(name);
            let uri = |ns: Option<usize>| ns.and_then(|ns| self.document.bindings.get(ns)).map(|b| &b.uri);
            let same = |other: &Attribute<'_>| other.local == local && uri(other.namespace) == uri(namespace);
            if attributes.iter().any(same) {
                return Err(XmlError::Malformed("duplicate attribute"));
            }
            let value = decode_value(value).ok_or(XmlError::Malformed("attribute value"))?;
            attributes.push(Attribute { namespace, local, value });
        }
        Ok(attributes)
    }

    /// The binding of a name's prefix; `None` for no namespace.
    fn resolve(&self, name: &str, element: bool) -> Result<Option<usize>, XmlError> {
        if !is_qualified_name(name) {
            return Err(XmlError::Malformed("name"));
        }
        let prefix = match prefixed(name) {
            Some((prefix, _)) => prefix,
            None if element => "",
            None => return Ok(None),
        };
        let binding = |at: &usize| self.document.bindings.get(*at).map(|b| (*at, b));
        let found = self.scope.iter().rev().filter_map(binding).find(|(_, b)| *b.prefix == *prefix);
        match found {
            Some((_, binding)) if binding.uri.is_empty() => Ok(None),
            Some((at, _)) => Ok(Some(at)),
            None if prefix.is_empty() => Ok(None),
            None => Err(XmlError::Malformed("undeclared prefix")),
        }
    }

    fn finish(self) -> Result<Document<'x>, XmlError> {
        if !self.open.is_empty() || self.document.elements.is_empty() {
            return Err(XmlError::Malformed("unfinished"));
        }
        Ok(self.document)
    }
}

/// One element of a [`Document`].
#[derive(Debug, Clone, Copy)]
pub struct Node<'d> {
    document: &'d Document<'d>,
    at: usize,
}

impl<'d> Node<'d> {
    fn element(self) -> Option<&'d Element<'d>> {
        self.document.elements.get(self.at)
    }
    /// Its namespace name; `None` if it is in none.
    pub fn namespace(self) -> Option<&'d str> {
        let namespace = self.element()?.namespace?;
        self.document.bindings.get(namespace).map(|b| &*b.uri)
    }
    /// Its name without prefix.
    pub fn local(self) -> &'d str {
        self.element().map_or("", |e| local(e.name))
    }
    /// Is it this element?
    pub fn is(self, namespace: &str, name: &str) -> bool {
        self.local() == name && self.namespace() == Some(namespace)
    }
    /// Its name as it is written, with the prefix.
    pub fn name(self) -> &'d str {
        self.element().map_or("", |e| e.name)
    }
    /// Where it stands in [`Document::text`], from `<` to `>`.
    pub fn span(self) -> Range<usize> {
        self.element().map_or(0..0, |e| e.span.clone())
    }
    /// The element it stands in; `None` for the root.
    pub fn parent(self) -> Option<Node<'d>> {
        let at = self.element()?.parent?;
        Some(Node { document: self.document, at })
    }
    /// Namespace (`None`: in none), name without prefix and normalised value of every attribute; declarations are none (Namespaces in XML 3).
    pub fn attributes(self) -> impl Iterator<Item = (Option<&'d str>, &'d str, &'d str)> {
        let document = self.document;
        let uri = move |at: usize| document.bindings.get(at).map(|b| &*b.uri);
        let attributes = self.element().map_or(&[] as &[Attribute<'_>], |e| &e.attributes);
        attributes.iter().map(move |a| (a.namespace.and_then(uri), a.local, &*a.value))
    }
    /// Prefixes (empty: the default namespace) and the namespaces they stand for inside this element, without `xml`.
    pub fn bindings(self) -> Vec<(&'d str, &'d str)> {
        let mut found: Vec<(&str, &str)> = Vec::new();
        let mut element = self.element();
        while let Some(current) = element {
            for binding in self.document.bindings.get(current.declares.clone()).unwrap_or_default() {
                let prefix = &*binding.prefix;
                if prefix != "xml" && !found.iter().any(|(inner, _)| *inner == prefix) {
                    found.push((prefix, &binding.uri));
                }
            }
            element = current.parent.and_then(|at| self.document.elements.get(at));
        }
        // `xmlns=""` takes the default namespace away.
        found.retain(|(_, uri)| !uri.is_empty());
        found
    }
    /// The normalised value of an attribute without prefix.
    pub fn attribute(self, name: &str) -> Option<&'d str> {
        let found = self.element()?.attributes.iter().find(|a| a.namespace.is_none() && a.local == name);
        found.map(|a| &*a.value)
    }
    /// `xml:lang` of this element or of the nearest ancestor that has one (XML 1.0 section 2.12).
    pub fn language(self) -> Option<&'d str> {
        let mut element = self.element();
        while let Some(current) = element {
            let lang = current.attributes.iter().find(|a| a.namespace == Some(0) && a.local == "lang");
            if let Some(lang) = lang {
                return Some(&lang.value);
            }
            element = current.parent.and_then(|at| self.document.elements.get(at));
        }
        None
    }
    /// The text directly inside, references decoded.
    pub fn text(self) -> &'d str {
        self.element().map_or("", |e| e.text.as_str())
    }
    /// The elements directly inside, in order.
    pub fn children(self) -> impl Iterator<Item = Node<'d>> {
        let document = self.document;
        let end = self.element().map_or(self.at, |e| e.end);
        let within = move |at: usize| (at < end).then_some(Node { document, at });
        let first = self.at.checked_add(1).and_then(within);
        std::iter::successors(first, move |node| node.element().map(|e| e.end).and_then(within))
    }

    /// This element as bytes that mean the same under another root.
    pub fn fragment(self) -> Fragment {
        let Some(element) = self.element() else { return Fragment::default() };
        let raw = self.document.text.get(element.span.clone()).unwrap_or_default();
        let declared = |range: &Range<usize>| self.document.bindings.get(range.clone()).unwrap_or_default();
        let mut seen: Vec<&str> = declared(&element.declares).iter().map(|b| &*b.prefix).collect();
        let mut needs = Vec::new();
        let mut ancestor = element.parent;
        while let Some(outer) = ancestor.and_then(|at| self.document.elements.get(at)) {
            for binding in declared(&outer.declares) {
                if seen.contains(&&*binding.prefix) {
                    continue;
                }
                seen.push(&binding.prefix);
                if binding.prefix.is_empty() || mentions(raw, &binding.prefix) {
                    needs.push(binding.clone());
                }
            }
            ancestor = outer.parent;
        }
        // Under a root with a default namespace, an element in no namespace has to say so.
        let inside = self.document.elements.get(self.at..element.end).unwrap_or_default();
        if !seen.contains(&"") && inside.iter().any(|e| e.namespace.is_none()) {
            needs.push(Arc::default());
        }
        let namespace = element.namespace.and_then(|at| self.document.bindings.get(at)).cloned();
        let instant =
            |name| self.attribute(name).and_then(|value| date_time(&value.trim().to_ascii_uppercase()));
        Fragment(Arc::new(Content {
            raw: raw.into(),
            name_end: 1 + element.name.len(),
            namespace,
            needs: needs.into(),
            from: instant("from"),
            until: instant("until"),
            is_empty: element.text.trim().is_empty() && inside.len() <= 1,
        }))
    }
}

/// An element byte for byte, and the namespace declarations from outside of it that it depends on. A copy is the same memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Fragment(Arc<Content>);

#[derive(Debug, PartialEq, Eq, Hash, Default)]
struct Content {
    raw: Box<str>,
    /// Where its name ends: declarations are put in here.
    name_end: usize,
    /// What its own prefix stands for.
    namespace: Option<Arc<Namespace>>,
    /// What is declared outside and used inside.
    needs: Box<[Arc<Namespace>]>,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
    is_empty: bool,
}

impl Fragment {
    /// An element of our own with one namespace; `inside` is written already.
    pub(in crate::availability) fn of(prefix: &str, uri: &str, name: &str, inside: &str) -> Fragment {
        let namespace = Arc::new(Namespace { prefix: prefix.into(), uri: uri.into() });
        Fragment(Arc::new(Content {
            raw: format!("<{prefix}:{name}>{inside}</{prefix}:{name}>").into(),
            name_end: 2 + prefix.len() + name.len(),
            namespace: Some(namespace.clone()),
            needs: [namespace].into(),
            from: None,
            until: None,
            is_empty: inside.is_empty(),
        }))
    }
    /// The bytes as they came.
    pub fn raw(&self) -> &str {
        &self.0.raw
    }
    /// The start tag up to the end of its name, and everything after it.
    pub fn split(&self) -> (&str, &str) {
        self.raw().split_at_checked(self.0.name_end).unwrap_or((self.raw(), ""))
    }
    /// Prefixes (empty: the default namespace) and the namespaces they must have around it.
    pub fn needs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.needs.iter().map(|needed| (&*needed.prefix, &*needed.uri))
    }
    /// Its namespace; empty if it is in none.
    pub fn namespace(&self) -> &str {
        self.0.namespace.as_deref().map_or("", |namespace| &namespace.uri)
    }
    /// Its name without prefix.
    pub fn local(&self) -> &str {
        local(self.raw().get(1..self.0.name_end).unwrap_or_default())
    }
    /// Its attributes `from` and `until`, as far as they are instants (RFC 4480 3.1).
    pub fn range(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        (self.0.from, self.0.until)
    }
    /// Does this instant lie between `from` and `until`, as far as it has them? From the first on, up to the second.
    pub fn holds_at(&self, now: Timestamp) -> bool {
        self.0.from.is_none_or(|from| from <= now) && self.0.until.is_none_or(|until| now < until)
    }
    /// No element and no text inside.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty
    }
}

/// Does this prefix stand before a colon anywhere? More than names: values and text may hold qualified names too (`xsi:type`).
fn mentions(raw: &str, prefix: &str) -> bool {
    raw.match_indices(prefix).any(|(at, _)| {
        let before = raw.get(..at).and_then(|before| before.chars().next_back());
        let after = raw.get(at.saturating_add(prefix.len())..);
        after.is_some_and(|after| after.starts_with(':')) && !before.is_some_and(is_name_char)
    })
}

fn position(reader: &Reader<&[u8]>) -> usize {
    usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX)
}

fn position_after(document: &Document<'_>, at: usize) -> usize {
    document.elements.get(at).map_or(0, |e| e.span.end)
}

/// UTF-8 of characters that XML 1.0 allows (section 2.2); a byte order mark and space before the declaration are let go.
fn decode_utf8<'x>(bytes: &'x [u8], limits: &Limits) -> Result<&'x str, XmlError> {
    if bytes.len() > limits.bytes {
        return Err(XmlError::TooLarge);
    }
    match bytes {
        [0xFE, 0xFF, ..] | [0xFF, 0xFE, ..] | [0, ..] | [_, 0, ..] => return Err(XmlError::Encoding),
        _ => {}
    }
    let text = std::str::from_utf8(bytes).map_err(|_| XmlError::Malformed("not UTF-8"))?;
    if !is_xml_text(text) {
        return Err(XmlError::Malformed("forbidden character"));
    }
    Ok(text.trim_start_matches('\u{FEFF}').trim_start_matches(SPACE))
}

fn check_instruction(target: &str) -> Result<(), XmlError> {
    // XML 1.0 production 17.
    if is_ncname(target) && !target.eq_ignore_ascii_case("xml") {
        Ok(())
    } else {
        Err(XmlError::Malformed("processing instruction"))
    }
}

fn check_declaration(declaration: &BytesDecl<'_>, start: usize) -> Result<(), XmlError> {
    let version = declaration.version().map_err(|_| XmlError::Malformed("XML declaration"))?;
    if start != 0 || version != "1.0" {
        return Err(XmlError::Malformed("XML declaration"));
    }
    match declaration.encoding() {
        None => Ok(()),
        Some(Ok(name)) if name.eq_ignore_ascii_case("utf-8") || name.eq_ignore_ascii_case("utf8") => Ok(()),
        Some(Ok(_)) => Err(XmlError::Encoding),
        Some(Err(_)) => Err(XmlError::Malformed("XML declaration")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<usize, XmlError> {
        Document::read(text.as_bytes(), &Limits::PUBLISHED).map(|d| d.elements.len())
    }

    fn nested(depth: usize) -> String {
        "<a>".repeat(depth) + &"</a>".repeat(depth)
    }

    #[test]
    fn document_types_and_entities_are_refused_a07() {
        let laughs = "<!DOCTYPE a [<!ENTITY x \"ha\"><!ENTITY y \"&x;&x;&x;\">]><a>&y;</a>";
        let system = "<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><a>&x;</a>";
        assert_eq!(read(laughs), Err(XmlError::Doctype));
        assert_eq!(read(system), Err(XmlError::Doctype));
        assert_eq!(read("<!DOCTYPE a SYSTEM 'http://x/'><a/>"), Err(XmlError::Doctype));
        assert!(read("<a>&x;</a>").is_err());
        assert!(read("<a b='&x;'/>").is_err());
        assert!(read("<a>&#0;</a>").is_err());
        assert!(read("<a>&#xD800;</a>").is_err());
        assert_eq!(read("<a b='&lt;&#65;&#x42;'>&amp;&gt;&quot;&apos;&#x1F600;</a>"), Ok(1));
    }

    #[test]
    fn depth_is_capped_a07() {
        assert_eq!(read(&nested(32)), Ok(32));
        assert_eq!(read(&nested(33)), Err(XmlError::TooComplex));
        assert_eq!(read(&nested(100_000)), Err(XmlError::TooLarge));
        let wide = Limits { bytes: 1 << 20, ..Limits::PUBLISHED };
        assert!(Document::read(nested(100_000).as_bytes(), &wide).is_err());
    }

    #[test]
    fn elements_attributes_namespaces_and_bytes_are_capped_a07() {
        assert_eq!(read(&format!("<a>{}</a>", "<b/>".repeat(1_999))), Ok(2_000));
        assert_eq!(read(&format!("<a>{}</a>", "<b/>".repeat(2_000))), Err(XmlError::TooComplex));
        let attributes = |n: usize| (0..n).map(|i| format!(" a{i}=''")).collect::<String>();
        assert_eq!(read(&format!("<a{}/>", attributes(64))), Ok(1));
        assert_eq!(read(&format!("<a{}/>", attributes(65))), Err(XmlError::TooComplex));
        let wide = Limits { bytes: 1 << 20, ..Limits::PUBLISHED };
        let many = format!("<a{}/>", attributes(8_000));
        assert_eq!(Document::read(many.as_bytes(), &wide).err(), Some(XmlError::TooComplex));
        let spaces = |n: usize| (0..n).map(|i| format!(" xmlns:n{i}='u'")).collect::<String>();
        assert_eq!(read(&format!("<a{}/>", spaces(32))), Ok(1));
        assert_eq!(read(&format!("<a{}/>", spaces(33))), Err(XmlError::TooComplex));
        let many = format!("<a{}/>", spaces(5_000));
        assert_eq!(Document::read(many.as_bytes(), &wide).err(), Some(XmlError::TooComplex));
        let spread = format!("<r>{}</r>", "<a xmlns:n='u'/>".repeat(5_000));
        assert_eq!(Document::read(spread.as_bytes(), &wide).err(), Some(XmlError::TooComplex));
        assert_eq!(read(&" ".repeat(32 * 1024 + 1)), Err(XmlError::TooLarge));
    }

    #[test]
    fn only_one_complete_root_is_read_a07() {
        for text in [
            "",
            " ",
            "x",
            "<a/><b/>",
            "<a></a><a></a>",
            "<a/>x",
            "<a/>&amp;",
            "<a/><![CDATA[x]]>",
            "x<a/>",
            "<a>",
            "<a><b></a>",
            "<a",
            "<a b='",
            "</a>",
            "<a/></a>",
            "<a><!-- x</a>",
            "<a><![CDATA[x</a>",
            "<a>&amp</a>",
            "<a/><?xml version='1.0'?>",
        ] {
            assert!(matches!(read(text), Err(XmlError::Malformed(_))), "{text}");
        }
        assert_eq!(
            read("\u{FEFF}\r\n<?xml version='1.0' encoding='UTF-8'?>\n<!-- x --><a/> \n<!-- y -->"),
            Ok(1)
        );
    }

    #[test]
    fn what_a_watcher_would_refuse_is_refused() {
        for text in [
            "<a b='1'c='2'/>",
            "<a b=1/>",
            "<a b/>",
            "<a b='<'/>",
            "<a b='1' b='2'/>",
            "<p:a/>",
            "<a p:b=''/>",
            "<a:b:c xmlns:a='u'/>",
            "<1a/>",
            "<a 1b=''/>",
            "< a/>",
            "<a/ >",
            "<a xmlns:p=''/>",
            "<a xmlns:xml='u'/>",
            "<a xmlns:xmlns='u'/>",
            "<a xmlns:p='http://www.w3.org/XML/1998/namespace'/>",
            "<a xmlns:p='u' xmlns:q='u' p:x='' q:x=''/>",
            "<a>]]></a>",
            "<a>\u{1}</a>",
            "<a><?php x?></a>",
            "<a><!-- a -- b --></a>",
            "<xmlns:a/>",
            "<a>\u{FFFE}</a>",
            "<?xml version='1.1'?><a/>",
            "<a><b xmlns:p='u'/><p:c/></a>",
            "<a xmlns:p='no uri'/>",
        ] {
            assert!(matches!(read(text), Err(XmlError::Malformed(_))), "{text}");
        }
    }

    #[test]
    fn other_encodings_are_refused_rfc3863_4_1() {
        let utf16: Vec<u8> = "<?xml version='1.0'?><a/>".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let with_mark = [&[0xFF, 0xFE], utf16.as_slice()].concat();
        for bytes in
            [utf16.as_slice(), with_mark.as_slice(), b"<?xml version='1.0' encoding='ISO-8859-1'?><a/>"]
        {
            assert_eq!(Document::read(bytes, &Limits::PUBLISHED).err(), Some(XmlError::Encoding));
        }
        assert!(Document::read(b"<a>\xE9</a>", &Limits::PUBLISHED).is_err());
        assert_eq!(read("<?xml version=\"1.0\" encoding=\"utf-8\" standalone=\"no\"?><a/>"), Ok(1));
    }

    #[test]
    fn fragment_names_the_namespaces_it_takes_from_outside() {
        let text = "<r xmlns='d' xmlns:p='u' xmlns:q='v' xmlns:t='w'><p:a q:x='1' xmlns:s='z'>\
                    <s:b y=\"t:name\"/>http://x</p:a></r>";
        let document = Document::read(text.as_bytes(), &Limits::PUBLISHED).unwrap();
        let fragment = document.root().children().next().unwrap().fragment();
        assert!(text.contains(fragment.raw()) && fragment.raw().ends_with("</p:a>"));
        let mut needs: Vec<_> = fragment.needs().collect();
        needs.sort_unstable();
        assert_eq!(needs, [("", "d"), ("p", "u"), ("q", "v"), ("t", "w")]);
        assert_eq!(fragment.split().0, "<p:a");
    }
}

//! Node selectors: which element, attribute or set of namespaces of a document is meant (RFC 4825 6.3 and 6.4).

use crate::availability::document::edit;
use crate::availability::document::xml::{Document, Node, XML_NAMESPACE};

/// A node selector with its names expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// From the root element inwards; at least one, the last is the target unless there is a terminal.
    pub steps: Vec<Step>,
    /// What of the element, if not the element itself.
    pub terminal: Option<Terminal>,
    /// The query, as it came: it belongs to every URI made of these steps.
    query: String,
}

/// One step: exactly one element among the children of the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// `None`: any (`*`).
    pub name: Option<Name>,
    /// From 1.
    pub position: Option<u32>,
    /// An attribute and its value.
    pub attribute: Option<(Name, String)>,
    /// As it was written, escapes decoded.
    text: String,
}

/// What a selector may mean at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Terminal {
    /// An attribute of the element.
    Attribute(Name),
    /// The namespaces in scope for it.
    Namespaces,
}

/// An expanded name (Namespaces in XML 2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// `None`: in no namespace.
    pub namespace: Option<String>,
    /// Without prefix.
    pub local: String,
}

/// Why a selector cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// A prefix that the query does not bind, or a query that does not read: 400 (RFC 4825 8).
    #[error("{0}")]
    Bindings(&'static str),
    /// Not of the grammar, so an extension that is not known here: 404 (RFC 4825 8).
    #[error("unknown selector")]
    Extension,
}

/// What a selector, or the first steps of it, choose.
#[derive(Debug, Clone, Copy)]
pub enum Selected<'d> {
    /// One element.
    One(Node<'d>),
    /// No element.
    None,
    /// Several, which is never valid (6.3).
    Several,
}

impl Selector {
    /// Reads a selector and the query that binds its prefixes.
    ///
    /// - `text`, `query`: percent-decoded, once.
    /// - `default`: the namespace of element names without prefix, which the application says (5.2).
    ///
    /// # Errors
    /// [`Wrong`].
    pub fn parse(text: &str, query: Option<&str>, default: &str) -> Result<Selector, Wrong> {
        let bindings = query.map_or(Ok(Vec::new()), bindings)?;
        let context = Context { bindings, default };
        let mut parts = split(text);
        if parts.len() > MAX_STEPS {
            return Err(Wrong::Extension);
        }
        let terminal = match parts.last() {
            Some(&"namespace::*") => Some(Terminal::Namespaces),
            Some(last) => match last.strip_prefix('@') {
                Some(name) => Some(Terminal::Attribute(context.attribute(name)?)),
                None => None,
            },
            None => None,
        };
        if terminal.is_some() {
            parts.pop();
        }
        let steps: Vec<Step> = parts.iter().map(|part| context.step(part)).collect::<Result<_, _>>()?;
        if steps.is_empty() {
            return Err(Wrong::Extension);
        }
        Ok(Selector { steps, terminal, query: query.unwrap_or_default().to_owned() })
    }

    /// The element that all steps choose.
    pub fn element<'d>(&self, document: &'d Document<'_>) -> Selected<'d> {
        self.walk(document, self.steps.len())
    }

    /// The parent of the target element: `Ok(None)` stands for the document itself.
    ///
    /// # Errors
    /// How many steps do lead somewhere, if not all do.
    pub fn parent<'d>(&self, document: &'d Document<'_>) -> Result<Option<Node<'d>>, usize> {
        let depth = self.steps.len().saturating_sub(1);
        if depth == 0 {
            return Ok(None);
        }
        match self.walk(document, depth) {
            Selected::One(node) => Ok(Some(node)),
            Selected::None | Selected::Several => Err(self.reaches(document)),
        }
    }

    /// How many steps lead to one element.
    pub fn reaches(&self, document: &Document<'_>) -> usize {
        (1..=self.steps.len())
            .take_while(|depth| matches!(self.walk(document, *depth), Selected::One(_)))
            .count()
    }

    /// The first `depth` steps as a relative URI of the document (RFC 4825 11.1).
    pub fn prefix(&self, depth: usize) -> String {
        let steps: Vec<String> = self.steps.iter().take(depth).map(|step| encoded(&step.text)).collect();
        let query = if self.query.is_empty() { String::new() } else { format!("?{}", encoded(&self.query)) };
        steps.join("/") + &query
    }

    fn walk<'d>(&self, document: &'d Document<'_>, depth: usize) -> Selected<'d> {
        let mut steps = self.steps.iter().take(depth);
        let Some(first) = steps.next() else { return Selected::None };
        let mut selected = first.among(std::iter::once(document.root()));
        for step in steps {
            match selected {
                Selected::One(node) => selected = step.among(node.children()),
                Selected::None | Selected::Several => return selected,
            }
        }
        selected
    }
}

impl Step {
    /// Chooses among children in document order: by name, then by position, then by attribute (6.3).
    pub fn among<'d>(&self, children: impl Iterator<Item = Node<'d>>) -> Selected<'d> {
        let mut found = Selected::None;
        let mut position: u32 = 0;
        for node in children.filter(|node| self.name.as_ref().is_none_or(|name| name.is_of(*node))) {
            position = position.saturating_add(1);
            if self.position.is_some_and(|wanted| wanted != position) || !self.has_attribute(node) {
                continue;
            }
            match found {
                Selected::None => found = Selected::One(node),
                Selected::One(_) | Selected::Several => return Selected::Several,
            }
        }
        found
    }

    fn has_attribute(&self, node: Node<'_>) -> bool {
        let Some((name, value)) = &self.attribute else { return true };
        node.attributes().any(|(namespace, local, own)| {
            namespace == name.namespace.as_deref() && local == name.local && own == value
        })
    }
}

impl Name {
    /// Is it the name of this element?
    pub fn is_of(&self, node: Node<'_>) -> bool {
        node.local() == self.local && node.namespace() == self.namespace.as_deref()
    }
}

struct Context<'a> {
    bindings: Vec<(String, String)>,
    default: &'a str,
}

impl Context<'_> {
    fn step(&self, text: &str) -> Result<Step, Wrong> {
        let (name, mut rest) = text.split_at(text.find('[').unwrap_or(text.len()));
        let name = if name == "*" { None } else { Some(self.element(name)?) };
        let mut position = None;
        let mut attribute = None;
        while let Some(inside) = rest.strip_prefix('[') {
            let end = closing(inside).ok_or(Wrong::Extension)?;
            let (predicate, after) = inside.split_at(end);
            rest = after.strip_prefix(']').ok_or(Wrong::Extension)?;
            match predicate.strip_prefix('@') {
                Some(test) if attribute.is_none() => {
                    let (name, value) = test.split_once('=').ok_or(Wrong::Extension)?;
                    let value = edit::read_value(value).ok_or(Wrong::Extension)?;
                    attribute = Some((self.attribute(name)?, value));
                }
                // The grammar has the position first, and each once.
                None if position.is_none() && attribute.is_none() => position = Some(number(predicate)?),
                Some(_) | None => return Err(Wrong::Extension),
            }
        }
        if rest.is_empty() {
            Ok(Step { name, position, attribute, text: text.to_owned() })
        } else {
            Err(Wrong::Extension)
        }
    }

    fn element(&self, name: &str) -> Result<Name, Wrong> {
        let default = (!self.default.is_empty()).then(|| self.default.to_owned());
        self.name(name, default)
    }

    /// Without prefix an attribute is in no namespace (6.3).
    fn attribute(&self, name: &str) -> Result<Name, Wrong> {
        self.name(name, None)
    }

    fn name(&self, name: &str, default: Option<String>) -> Result<Name, Wrong> {
        if !edit::is_name(name) {
            return Err(Wrong::Extension);
        }
        let Some((prefix, local)) = name.split_once(':') else {
            return Ok(Name { namespace: default, local: name.to_owned() });
        };
        // The last one counts (XPointer xmlns() 3).
        let bound = self.bindings.iter().rev().find(|(bound, _)| bound == prefix);
        let namespace = match bound {
            Some((_, uri)) => uri.clone(),
            None if prefix == "xml" => XML_NAMESPACE.to_owned(),
            None => return Err(Wrong::Bindings("a prefix is not bound by xmlns() in the query")),
        };
        Ok(Name { namespace: Some(namespace), local: local.to_owned() })
    }
}

fn number(digits: &str) -> Result<u32, Wrong> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Wrong::Extension);
    }
    // No document has so many elements that it would matter.
    Ok(digits.parse().unwrap_or(u32::MAX))
}

/// Where the bracket of a predicate closes; one inside quotes does not.
fn closing(text: &str) -> Option<usize> {
    outside_quotes(text, ']')
}

/// The steps; a slash inside quotes is part of a value.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = outside_quotes(rest, '/') {
        let (part, after) = rest.split_at(at);
        parts.push(part);
        rest = after.get(1..).unwrap_or_default();
    }
    parts.push(rest);
    parts
}

fn outside_quotes(text: &str, wanted: char) -> Option<usize> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (None, c) if c == wanted => return Some(at),
            (Some(open), c) if open == c => quote = None,
            (None | Some(_), _) => {}
        }
    }
    None
}

/// The `xmlns()` parts of an XPointer expression; parts of other schemes are ignored (RFC 4825 6.4).
fn bindings(query: &str) -> Result<Vec<(String, String)>, Wrong> {
    let wrong = Wrong::Bindings("the query is no XPointer expression");
    let space = [' ', '\t', '\r', '\n'];
    let mut bindings = Vec::new();
    let mut rest = query.trim_matches(space);
    while !rest.is_empty() {
        let (scheme, after) = rest.split_once('(').ok_or(wrong)?;
        if !edit::is_name(scheme) || bindings.len() >= MAX_BINDINGS {
            return Err(wrong);
        }
        let (data, after) = scheme_data(after).ok_or(wrong)?;
        rest = after.trim_start_matches(space);
        if scheme != "xmlns" {
            continue;
        }
        let (prefix, uri) = data.split_once('=').ok_or(wrong)?;
        let (prefix, uri) = (prefix.trim_end_matches(space), uri.trim_start_matches(space));
        if !edit::is_name(prefix) || prefix.contains(':') || prefix == "xmlns" {
            return Err(wrong);
        }
        // The prefix `xml` stands for what it always stands for.
        if prefix != "xml" {
            bindings.push((prefix.to_owned(), uri.to_owned()));
        }
    }
    Ok(bindings)
}

/// Up to the parenthesis that closes; `^` escapes the next character (XPointer framework 3.1).
fn scheme_data(text: &str) -> Option<(String, &str)> {
    let mut data = String::new();
    let mut depth: usize = 0;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '^' => data.push(chars.next().map(|(_, c)| c).filter(|c| matches!(c, '^' | '(' | ')'))?),
            ')' if depth == 0 => return Some((data, text.get(at.checked_add(1)?..)?)),
            ')' => {
                depth = depth.checked_sub(1)?;
                data.push(c);
            }
            '(' => {
                depth = depth.checked_add(1)?;
                data.push(c);
            }
            c => data.push(c),
        }
    }
    None
}

/// Percent-encoded as far as a path segment or a query needs it (RFC 3986 3.3).
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// More than any document may be deep.
const MAX_STEPS: usize = 64;
const MAX_BINDINGS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::availability::document::xml::Limits;

    fn parse(text: &str) -> Result<Selector, Wrong> {
        Selector::parse(text, None, "urn:d")
    }

    fn name(namespace: Option<&str>, local: &str) -> Name {
        Name { namespace: namespace.map(str::to_owned), local: local.to_owned() }
    }

    /// The start tag of what is selected, or why not.
    fn chosen(selector: &Selector, text: &str) -> String {
        let document = Document::read(text.as_bytes(), &Limits::PUBLISHED).unwrap();
        match selector.element(&document) {
            Selected::One(node) => text[node.span()].split_inclusive('>').next().unwrap().to_owned(),
            Selected::None => "none".into(),
            Selected::Several => "several".into(),
        }
    }

    #[test]
    fn every_form_of_a_step_reads_rfc4825_6_3() {
        let step = |text: &str| {
            let selector = parse(text).unwrap();
            let Step { name, position, attribute, .. } = selector.steps[0].clone();
            (name.map(|n| n.local), position, attribute.map(|(n, v)| (n.local, v)))
        };
        assert_eq!(step("a"), (Some("a".into()), None, None));
        assert_eq!(step("*"), (None, None, None));
        assert_eq!(step("a[3]"), (Some("a".into()), Some(3), None));
        assert_eq!(step("*[@id=\"x\"]"), (None, None, Some(("id".into(), "x".into()))));
        assert_eq!(
            step("a[2][@id='a]/\"b&amp;c']"),
            (Some("a".into()), Some(2), Some(("id".into(), "a]/\"b&c".into())))
        );
        assert_eq!(parse("a/b/@c").unwrap().terminal, Some(Terminal::Attribute(name(None, "c"))));
        assert_eq!(parse("a/namespace::*").unwrap().terminal, Some(Terminal::Namespaces));
        assert_eq!(parse("a").unwrap().steps[0].name, Some(name(Some("urn:d"), "a")));
    }

    #[test]
    fn what_is_not_of_the_grammar_is_an_unknown_extension_rfc4825_8() {
        for text in [
            "",
            "/a",
            "a/",
            "a//b",
            "@a",
            "namespace::*",
            "a/namespace::*/b",
            "a/@b/c",
            "a[]",
            "a[-1]",
            "a[last()]",
            "a[1][2]",
            "a[@b='1'][1]",
            "a[@b=1]",
            "a[@b]",
            "a[@b='<']",
            "a[1",
            "a]",
            "a[1]x",
            "a()",
            "..",
            "1a",
            "a:b:c",
            "a b",
        ] {
            assert_eq!(parse(text), Err(Wrong::Extension), "{text}");
        }
        assert_eq!(parse(&"a/".repeat(100_000)), Err(Wrong::Extension));
    }

    const FOO: &str = "<foo xmlns='urn:test:default-namespace'><ns1:bar xmlns:ns1='urn:test:namespace1-uri' \
        xmlns='urn:test:namespace1-uri'><baz/><ns2:baz xmlns:ns2='urn:test:namespace2-uri'/></ns1:bar>\
        <ns3:hi xmlns:ns3='urn:test:namespace3-uri'><there/></ns3:hi></foo>";

    #[test]
    fn the_examples_of_rfc4825_6_4() {
        let select = |text, query| {
            chosen(&Selector::parse(text, Some(query), "urn:test:default-namespace").unwrap(), FOO)
        };
        let first = "xmlns(a=urn:test:namespace1-uri)xmlns(b=urn:test:namespace1-uri)";
        let second = "xmlns(a=urn:test:namespace1-uri) xmlns(b=urn:test:namespace2-uri)";
        let third = "xmlns(a=urn:test:namespace1-uri)xmlns(b=urn:test:namespace2-uri)xmlns(d=urn:test:default-namespace)";
        assert_eq!(select("foo/a:bar/b:baz", first), "<baz/>");
        assert_eq!(select("foo/a:bar/b:baz", second), "<ns2:baz xmlns:ns2='urn:test:namespace2-uri'/>");
        assert_eq!(select("d:foo/a:bar/b:baz", third), "<ns2:baz xmlns:ns2='urn:test:namespace2-uri'/>");
        assert_eq!(
            select("foo/bar", first),
            "none",
            "the default of the document is not that of the selector"
        );
    }

    #[test]
    fn prefixes_are_bound_by_the_query_or_refused_rfc4825_8() {
        let with = |query| Selector::parse("p:a", query, "urn:d");
        assert_eq!(with(Some("xmlns(p=u)")).unwrap().steps[0].name, Some(name(Some("u"), "a")));
        assert_eq!(with(Some("xmlns( p = u)")), Err(Wrong::Bindings("the query is no XPointer expression")));
        assert_eq!(
            with(Some("element(/1)xmlns(p = u^(1^)(2)) ")).unwrap().steps[0].name,
            Some(name(Some("u(1)(2)"), "a")),
            "other schemes are ignored, parentheses balance or are escaped"
        );
        assert!(matches!(with(None), Err(Wrong::Bindings(_))));
        assert!(matches!(with(Some("xmlns(q=u)")), Err(Wrong::Bindings(_))));
        for wrong in
            ["xmlns", "xmlns(p)", "xmlns(p=u", "xmlns(p=u^)", "p=u", "xmlns(=u)", "xmlns(xmlns=u)", ")"]
        {
            assert!(matches!(with(Some(wrong)), Err(Wrong::Bindings(_))), "{wrong}");
        }
        let xml = Selector::parse("a/@xml:lang", Some("xmlns(xml=u)"), "urn:d").unwrap();
        assert_eq!(xml.terminal, Some(Terminal::Attribute(name(Some(XML_NAMESPACE), "lang"))));
    }

    #[test]
    fn a_step_chooses_by_name_position_and_attribute_in_this_order_rfc4825_6_3() {
        let text = "<r xmlns='urn:d'><a i='1'/><b i='1'/><a i='2'/><a xmlns='other' i='3'/><a i='1' xmlns:p='u' p:i='9'/></r>";
        let select = |selector: &str| chosen(&parse(selector).unwrap(), text);
        assert_eq!(select("r/b"), "<b i='1'/>");
        assert_eq!(select("r/a"), "several");
        assert_eq!(select("r/*[@i='1']"), "several");
        assert_eq!(select("r/a[2]"), "<a i='2'/>");
        assert_eq!(select("r/*[2]"), "<b i='1'/>");
        assert_eq!(select("r/a[3][@i='1']"), "<a i='1' xmlns:p='u' p:i='9'/>");
        assert_eq!(select("r/a[2][@i='1']"), "none", "the position counts before the attribute");
        for none in
            ["r/a[4]", "r/a[0]", "r/a[99999999999]", "r/c", "x/a", "r/a[@xmlns='other']", "r/a[@p='x']"]
        {
            assert_eq!(select(none), "none", "{none}");
        }
        assert_eq!(select("r/a/x"), "several");
    }

    #[test]
    fn the_part_that_leads_somewhere_is_a_uri_rfc4825_11_1() {
        let text = "<r xmlns='urn:d'><a i='1 2'><b/></a></r>";
        let document = Document::read(text.as_bytes(), &Limits::PUBLISHED).unwrap();
        let selector = Selector::parse("r/a[@i=\"1 2\"]/p:x/y", Some("xmlns(p=u)"), "urn:d").unwrap();
        let reached = selector.parent(&document).unwrap_err();
        assert_eq!(selector.prefix(reached), "r/a%5B@i=%221%202%22%5D?xmlns(p=u)");
        assert!(parse("r").unwrap().parent(&document).unwrap().is_none());
        assert_eq!(parse("x/y/z").unwrap().parent(&document).unwrap_err(), 0);
    }
}

//! `resource-lists` (RFC 4826 3.2), and what must be unique in it (3.4.5).

use crate::availability::document::xml::Node;
use crate::xcap::conflict::Conflict;
use crate::xcap::schema::{Attributes, Unique, invalid, no_children, no_text, other};
use crate::xcap::usage::namespace::RESOURCE_LISTS;

/// Checks a whole document.
///
/// # Errors
/// The first thing that is wrong: of the schema, then of uniqueness, then of URIs.
pub fn validate(root: Node<'_>) -> Result<(), Conflict> {
    if !root.is(RESOURCE_LISTS, "resource-lists") {
        return Err(invalid("the root is not resource-lists"));
    }
    Attributes::none().check(root, false)?;
    no_text(root)?;
    for child in root.children() {
        if !child.is(RESOURCE_LISTS, "list") {
            return Err(invalid("something else than a list in resource-lists"));
        }
        schema(child)?;
    }
    let mut unique = Unique::default();
    root.children().for_each(|list| unique.note(list, "name"));
    unique.into_conflict()?;
    root.children().try_for_each(uniqueness)?;
    root.children().try_for_each(references)
}

/// An element of `listType`, whatever its own name is.
pub(super) fn schema(list: Node<'_>) -> Result<(), Conflict> {
    Attributes { own: &["name"], others: true }.check(list, true)?;
    no_text(list)?;
    // 0: display-name; 1: members; 2: of other namespaces.
    let mut stage = 0;
    for child in list.children() {
        let here = match child.local() {
            _ if child.namespace() != Some(RESOURCE_LISTS) => {
                other(child, RESOURCE_LISTS)?;
                stage = 2;
                continue;
            }
            "display-name" if stage == 0 => {
                display_name(child)?;
                stage = 1;
                continue;
            }
            "list" => schema(child),
            "entry" => member(child, "uri", true),
            "entry-ref" => member(child, "ref", true),
            // The schema leaves `anchor` out of what is required, the text does not (3.1); see `references`.
            "external" => member(child, "anchor", false),
            _ => Err(invalid("an element that a list does not have, or not there")),
        };
        here?;
        if stage == 2 {
            return Err(invalid("a member of a list after elements of other namespaces"));
        }
        stage = 1;
    }
    Ok(())
}

fn member(node: Node<'_>, key: &'static str, required: bool) -> Result<(), Conflict> {
    let own: &'static [&'static str] = match key {
        "uri" => &["uri"],
        "ref" => &["ref"],
        _ => &["anchor"],
    };
    Attributes { own, others: true }.check(node, true)?;
    if required && node.attribute(key).is_none() {
        return Err(invalid("an entry without its uri, or an entry-ref without its ref"));
    }
    no_text(node)?;
    for (at, child) in node.children().enumerate() {
        if child.namespace() != Some(RESOURCE_LISTS) {
            other(child, RESOURCE_LISTS)?;
        } else if at == 0 && child.local() == "display-name" {
            display_name(child)?;
        } else {
            return Err(invalid("something else than a display-name in a member of a list"));
        }
    }
    Ok(())
}

fn display_name(node: Node<'_>) -> Result<(), Conflict> {
    Attributes::none().check(node, true)?;
    no_children(node)
}

/// Names, URIs and references are unique among siblings, compared letter by letter (3.4.5).
pub(super) fn uniqueness(list: Node<'_>) -> Result<(), Conflict> {
    let [mut names, mut uris, mut refs, mut anchors] = [(); 4].map(|()| Unique::default());
    for child in list.children().filter(|child| child.namespace() == Some(RESOURCE_LISTS)) {
        match child.local() {
            "list" => names.note(child, "name"),
            "entry" => uris.note(child, "uri"),
            "entry-ref" => refs.note(child, "ref"),
            "external" => anchors.note(child, "anchor"),
            _ => {}
        }
    }
    for unique in [names, uris, refs, anchors] {
        unique.into_conflict()?;
    }
    lists(list).try_for_each(uniqueness)
}

/// `ref` is a relative path reference, `anchor` an absolute HTTP URI (3.4.5).
pub(super) fn references(list: Node<'_>) -> Result<(), Conflict> {
    for child in list.children().filter(|child| child.namespace() == Some(RESOURCE_LISTS)) {
        match (child.local(), child.attribute("ref"), child.attribute("anchor")) {
            ("entry-ref", Some(reference), _) if !is_relative_path(reference) => {
                return Err(Conflict::Constraint("ref of an entry-ref must be a relative path reference"));
            }
            ("external", _, anchor) if !anchor.is_some_and(is_absolute_http) => {
                return Err(Conflict::Constraint("anchor of an external must be an absolute HTTP URI"));
            }
            _ => {}
        }
    }
    lists(list).try_for_each(references)
}

fn lists(list: Node<'_>) -> impl Iterator<Item = Node<'_>> {
    list.children().filter(|child| child.is(RESOURCE_LISTS, "list"))
}

/// RFC 3986 4.2: `path-noscheme`, with a query perhaps.
fn is_relative_path(text: &str) -> bool {
    let first = text.split(['/', '?', '#']).next().unwrap_or_default();
    !text.is_empty() && !text.starts_with('/') && !first.contains(':') && is_uri_text(text)
}

/// RFC 3986 4.3 with the scheme `http` or `https` and somebody to ask.
pub(super) fn is_absolute_http(text: &str) -> bool {
    let after = text
        .split_once("://")
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"));
    after.is_some_and(|(_, rest)| !rest.is_empty() && !rest.starts_with(['/', '?', '#'])) && is_uri_text(text)
}

/// Only what may stand in a URI: everything else is to be percent-encoded (RFC 4826 3.1).
fn is_uri_text(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:/?#@!$&'()*+,;=%".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::availability::document::xml::Document;
    use crate::xcap::usage::LIMITS;

    fn check(inside: &str) -> Result<(), Conflict> {
        let text = format!(
            "<resource-lists xmlns='urn:ietf:params:xml:ns:resource-lists' xmlns:x='urn:x' \
             xmlns:pr='urn:ietf:params:xml:ns:pres-rules'>{inside}</resource-lists>"
        );
        validate(Document::read(text.as_bytes(), &LIMITS).unwrap().root())
    }

    fn is_schema(inside: &str) -> bool {
        matches!(check(inside), Err(Conflict::SchemaValidation(_)))
    }

    /// RFC 4826 3.3, its line breaks within values taken out.
    const EXAMPLE: &str = "<list name=\"friends\"> <entry uri=\"sip:bill@example.com\"> \
        <display-name>Bill Doe</display-name> </entry> \
        <entry-ref ref=\"resource-lists/users/sip:bill@example.com/index/~~/resource-lists/list%5b@name=%22list1%22%5d/entry%5b@uri=%22sip:petri@example.com%22%5d\"/> \
        <list name=\"close-friends\"> <display-name>Close Friends</display-name> <entry uri=\"sip:joe@example.com\"> \
        <display-name>Joe Smith</display-name> </entry> <entry uri=\"sip:nancy@example.com\"> <display-name>Nancy Gross</display-name> \
        </entry> <external anchor=\"http://xcap.example.org/resource-lists/users/sip:a@example.org/index/~~/resource-lists/list%5b@name=%22mkting%22%5d\"> \
        <display-name>Marketing</display-name> </external> </list> </list>";

    #[test]
    fn the_example_of_rfc4826_3_3_and_extensions_hold() {
        for good in [
            "",
            EXAMPLE,
            "<list/>",
            "<list name='a' x:y='z'><display-name xml:lang='de'>A</display-name><x:a><b xmlns=''/>text</x:a></list>",
            "<list><entry uri='a' x:y='z'><x:phone>1</x:phone></entry><x:a/></list>",
            "<list name='a'/><list name='b'/><list/><list/>",
            "<!-- c --><?p i?><list><!-- c --></list>",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn what_the_schema_does_not_have_is_refused_rfc4826_3_2() {
        for bad in [
            "text",
            "<entry uri='a'/>",
            "<x:a/>",
            "<list>text</list>",
            "<list other='a'/>",
            "<list><entry/></list>",
            "<list><entry-ref/></list>",
            "<list><entry uri='a' name='b'/></list>",
            "<list><entry uri='a'><entry uri='b'/></entry></list>",
            "<list><entry uri='a'>text</entry></list>",
            "<list><entry uri='a'><x:p/><display-name/></entry></list>",
            "<list><entry uri='a'/><display-name>late</display-name></list>",
            "<list><display-name/><display-name/></list>",
            "<list><display-name><b/></display-name></list>",
            "<list><display-name x:y='z'/></list>",
            "<list><x:a/><entry uri='a'/></list>",
            "<list><unknown/></list>",
            "<list><a xmlns=''/></list>",
            "<list><pr:unknown/></list>",
            "<list><resource-lists/></list>",
        ] {
            assert!(is_schema(bad), "{bad}: {:?}", check(bad));
        }
        let other = "<list xmlns='urn:ietf:params:xml:ns:resource-lists'/>";
        let document = Document::read(other.as_bytes(), &LIMITS).unwrap();
        assert!(matches!(validate(document.root()), Err(Conflict::SchemaValidation(_))));
    }

    #[test]
    fn names_and_uris_are_unique_among_siblings_rfc4826_3_4_5() {
        let field = |inside: &str| match check(inside) {
            Err(Conflict::Uniqueness(exists)) => exists[0].field.clone(),
            other => format!("{other:?}"),
        };
        assert_eq!(field("<list name='a'/><list name='a'/>"), "resource-lists/*%5B2%5D/@name");
        assert_eq!(
            field("<list><entry uri='a'/><entry uri='A'/><entry uri='a'/></list>"),
            "resource-lists/*%5B1%5D/*%5B3%5D/@uri"
        );
        assert!(
            field("<list><list><entry-ref ref='a'/><entry-ref ref='a'/></list></list>").ends_with("/@ref")
        );
        let twice = "<external anchor='http://a/'/>".repeat(2);
        assert!(field(&format!("<list>{twice}</list>")).ends_with("/@anchor"));
        assert_eq!(check("<list><entry uri='a'/><list><entry uri='a'/></list></list>"), Ok(()));
    }

    #[test]
    fn references_have_their_forms_rfc4826_3_4_5() {
        for bad in ["/a", "http://a/b", "a b", "", "a:b", "//a"] {
            let text = format!("<list><entry-ref ref='{bad}'/></list>");
            assert!(matches!(check(&text), Err(Conflict::Constraint(_))), "{bad}");
        }
        for bad in [
            "<external/>",
            "<external anchor='a/b'/>",
            "<external anchor='ftp://a/b'/>",
            "<external anchor='http://'/>",
        ] {
            let text = format!("<list><list>{bad}</list></list>");
            assert!(matches!(check(&text), Err(Conflict::Constraint(_))), "{bad}");
        }
    }
}

//! Contact lists by name, as the operator sees and changes them: lists of the user's own document (`resource-lists`, `index`; RFC 4826 3).
//! Everything else in it stays byte for byte.

use crate::availability::document::edit::{self, Place};
use crate::availability::document::lists::{self, NAMESPACE};
use crate::availability::document::rules::identity;
use crate::availability::document::xml::{Document, Limits, Node};
use crate::model::{Aor, Auid, DocumentName};

/// Where they are.
pub fn document() -> DocumentName {
    DocumentName::new(Auid::ResourceLists, "index")
}

/// What is in a document, a line for each list and member, indented by its depth.
///
/// # Errors
/// What is wrong with the document.
pub fn lines(body: &[u8]) -> Result<Vec<String>, &'static str> {
    let document = stored(body)?;
    lists::of(document.root())?;
    let mut all = Vec::new();
    tell(document.root(), 0, &mut all);
    Ok(all)
}

/// At most as deep as a document may be ([`Limits::depth`]).
fn tell(list: Node<'_>, depth: usize, all: &mut Vec<String>) {
    for child in list.children().filter(|child| child.namespace() == Some(NAMESPACE)) {
        let what = match child.local() {
            "list" => child.attribute("name").unwrap_or("(without a name)"),
            "entry" => child.attribute("uri").unwrap_or_default(),
            "entry-ref" => child.attribute("ref").unwrap_or_default(),
            "external" => child.attribute("anchor").unwrap_or_default(),
            _ => continue,
        };
        let shown = child.children().find(|one| one.is(NAMESPACE, "display-name"));
        let shown = shown.map(|one| format!("  {}", one.text().trim())).unwrap_or_default();
        // Terminals obey some of the characters that XML lets through.
        let text: String = format!("{what}{shown}").chars().filter(|c| !c.is_control()).collect();
        all.push(format!("{}{text}", "  ".repeat(depth)));
        if child.local() == "list" {
            tell(child, depth.saturating_add(1), all);
        }
    }
}

/// A document with somebody in a list, which is made if it is not there.
///
/// - `body`: the document as it is; `None` if there is none.
/// - `name`: of a list that stands in no other.
///
/// # Errors
/// Why it is not done.
pub fn added(body: Option<&[u8]>, name: &str, who: &Aor) -> Result<String, &'static str> {
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err("that is not a name of a list");
    }
    let body = body.unwrap_or(EMPTY.as_bytes());
    let document = stored(body)?;
    lists::of(document.root())?;
    let root = document.root();
    let uri = edit::escaped(&who.uri());
    let Some(list) = find(root, name) else {
        let (list, declared) = called(root, "list");
        let (entry, _) = called(root, "entry");
        let name = edit::escaped(name);
        let new = format!("\n<{list}{declared} name=\"{name}\"><{entry} uri=\"{uri}\"/></{list}>");
        return Ok(edit::insert(&document, Place::LastIn(root), &new).0);
    };
    if entry(list, who).is_some() {
        return Err("they are in that list already");
    }
    let (entry, declared) = called(list, "entry");
    // Members stand before elements of other namespaces (RFC 4826 3.2).
    let own = list.children().filter(|child| child.namespace() == Some(NAMESPACE)).last();
    let place = match (own, list.children().next()) {
        (Some(last), _) => Place::After(last),
        (None, Some(other)) => Place::Before(other),
        (None, None) => Place::LastIn(list),
    };
    Ok(edit::insert(&document, place, &format!("<{entry}{declared} uri=\"{uri}\"/>")).0)
}

/// A document without somebody in a list, or without the list.
///
/// - `who`: `None`: the whole list.
///
/// # Errors
/// Why it is not done.
pub fn removed(body: Option<&[u8]>, name: &str, who: Option<&Aor>) -> Result<String, &'static str> {
    let body = body.ok_or(NO_LIST)?;
    let document = stored(body)?;
    lists::of(document.root())?;
    let list = find(document.root(), name).ok_or(NO_LIST)?;
    let node = match who {
        None => list,
        Some(who) => entry(list, who).ok_or("they are not in that list")?,
    };
    Ok(edit::remove(&document, node))
}

fn stored(body: &[u8]) -> Result<Document<'_>, &'static str> {
    Document::read(body, &Limits::STORED).map_err(|_| "not well-formed")
}

fn find<'d>(root: Node<'d>, name: &str) -> Option<Node<'d>> {
    root.children().find(|list| list.is(NAMESPACE, "list") && list.attribute("name") == Some(name))
}

fn entry<'d>(list: Node<'d>, who: &Aor) -> Option<Node<'d>> {
    let is_theirs = |uri: &str| uri == who.uri() || identity(uri).as_ref() == Some(who);
    list.children().find(|one| one.is(NAMESPACE, "entry") && one.attribute("uri").is_some_and(is_theirs))
}

/// How an element of lists is called inside `parent`, and what it has to declare for that.
fn called(parent: Node<'_>, local: &str) -> (String, String) {
    let bindings = parent.bindings();
    // The default namespace first.
    let prefix = bindings.iter().filter(|(_, uri)| *uri == NAMESPACE).map(|(prefix, _)| *prefix).min();
    match prefix {
        Some("") => (local.to_owned(), String::new()),
        Some(prefix) => (format!("{prefix}:{local}"), String::new()),
        None => (local.to_owned(), format!(" xmlns=\"{NAMESPACE}\"")),
    }
}

const EMPTY: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<resource-lists xmlns=\"urn:ietf:params:xml:ns:resource-lists\">\n\
    </resource-lists>\n";
const NO_LIST: &str = "there is no list of that name";

#[cfg(test)]
mod tests {
    use super::*;

    fn aor(text: &str) -> Aor {
        Aor::from_stored(text).unwrap()
    }

    #[test]
    fn lists_are_made_filled_and_emptied() {
        let bob = aor("bob@example.org");
        let one = added(None, "a & b", &bob).unwrap();
        let two = added(Some(one.as_bytes()), "a & b", &aor("carol@example.net")).unwrap();
        let expected = ["a & b", "  sip:bob@example.org", "  sip:carol@example.net"];
        assert_eq!(lines(two.as_bytes()).unwrap(), expected);
        assert!(added(Some(two.as_bytes()), "a & b", &bob).is_err());
        let back = removed(Some(two.as_bytes()), "a & b", Some(&aor("carol@example.net"))).unwrap();
        assert_eq!(back, one);
        assert!(removed(Some(back.as_bytes()), "a & b", Some(&aor("carol@example.net"))).is_err());
        let none = removed(Some(back.as_bytes()), "a & b", None).unwrap();
        assert!(lines(none.as_bytes()).unwrap().is_empty());
        assert!(removed(Some(none.as_bytes()), "a & b", None).is_err());
        assert!(removed(None, "a", None).is_err() && added(None, "", &bob).is_err());
        assert!(added(Some(b"<ruleset/>"), "a", &bob).is_err());
    }

    #[test]
    fn everything_of_others_stays_byte_for_byte_rfc4826_3_2() {
        let before = "<l:resource-lists xmlns:l='urn:ietf:params:xml:ns:resource-lists'><!-- x -->\n<l:list name='a' >";
        let inside = "<l:display-name>A</l:display-name>";
        let after = "<x:y xmlns:x='urn:x'/></l:list ><l:list name='b'><l:list name='c'/></l:list></l:resource-lists>\n";
        let text = format!("{before}{inside}{after}");
        let with = added(Some(text.as_bytes()), "a", &aor("bob@example.org")).unwrap();
        assert_eq!(with, format!("{before}{inside}<l:entry uri=\"sip:bob@example.org\"/>{after}"));
        assert_eq!(removed(Some(with.as_bytes()), "a", Some(&aor("bob@example.org"))).unwrap(), text);
        assert_eq!(lines(with.as_bytes()).unwrap(), ["a  A", "  sip:bob@example.org", "b", "  c"]);
        let bare = format!("{before}{after}");
        let with = added(Some(bare.as_bytes()), "a", &aor("bob@example.org")).unwrap();
        assert_eq!(with, format!("{before}<l:entry uri=\"sip:bob@example.org\"/>{after}"));
    }

    #[test]
    fn what_a_terminal_would_obey_is_not_shown() {
        let name = "<list name=\"a\u{9b}31m\"/>";
        let text = format!("<resource-lists xmlns=\"{NAMESPACE}\">{name}</resource-lists>");
        assert_eq!(lines(text.as_bytes()).unwrap(), ["a31m"]);
    }
}

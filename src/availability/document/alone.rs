//! A [`Fragment`] by itself: read, or with fewer attributes.

use std::fmt::Write as _;

use crate::availability::document::lexis::{SPACE, raw_attributes};
use crate::availability::document::xml::{Document, Fragment, Limits, Node};

/// What `look` says of the element; `None` only if it cannot stand alone, which what was read out of a document can.
pub(in crate::availability) fn read<T>(fragment: &Fragment, look: impl FnOnce(Node<'_>) -> T) -> Option<T> {
    let text = fragment.alone();
    let document = Document::read(text.as_bytes(), &limits(&text)).ok()?;
    Some(look(document.root()))
}

/// The element without those attributes of its start tag that `goes` (asked with the names as written, never with declarations of namespaces).
/// `None` if none of them goes.
pub(in crate::availability) fn without(fragment: &Fragment, goes: impl Fn(&str) -> bool) -> Option<Fragment> {
    let alone = fragment.alone();
    let (start, rest) = alone.split_at_checked(fragment.split().0.len())?;
    let (tag, after) = rest.split_at_checked(end_of_tag(rest)?)?;
    let attributes = raw_attributes(tag.trim_end_matches(SPACE), usize::MAX).ok()?;
    let stays = |name: &str| name == "xmlns" || name.starts_with("xmlns:") || !goes(name);
    if attributes.iter().all(|(name, _)| stays(name)) {
        return None;
    }
    let mut text = start.to_owned();
    for (name, value) in attributes.into_iter().filter(|(name, _)| stays(name)) {
        let quote = if value.contains('"') { '\'' } else { '"' };
        // Writing to a string does not fail.
        let _ = write!(text, " {name}={quote}{value}{quote}");
    }
    text.push_str(after);
    let document = Document::read(text.as_bytes(), &limits(&text)).ok()?;
    Some(document.root().fragment())
}

/// Where `>` or `/>` of a start tag begins.
fn end_of_tag(rest: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in rest.char_indices() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (None, '>') => return Some(if rest.get(..at)?.ends_with('/') { at.checked_sub(1)? } else { at }),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
    }
    None
}

/// It was within limits where it stood; alone it bears at most what was declared around it.
fn limits(text: &str) -> Limits {
    Limits { bytes: text.len(), attributes: 256, namespaces: 256, ..Limits::STORED }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(outer: &str) -> Fragment {
        let document = Document::read(outer.as_bytes(), &Limits::PUBLISHED).unwrap();
        document.root().children().next().unwrap().fragment()
    }

    #[test]
    fn an_element_is_read_with_the_namespaces_around_it() {
        let inner = fragment("<r xmlns='d&amp;d' xmlns:p='u'><p:a x='1'>t<b/></p:a></r>");
        let seen = read(&inner, |node| {
            let child = node.children().next().and_then(|child| child.namespace().map(str::to_owned));
            (node.is("u", "a"), node.text().to_owned(), child)
        });
        assert_eq!(seen, Some((true, "t".to_owned(), Some("d&d".to_owned()))));
    }

    #[test]
    fn attributes_go_and_nothing_else_does() {
        let inner = fragment(
            "<r xmlns='d' xmlns:p='u'><p:a xmlns:q='v' x = '>\"' q:y=\"'/>\" z='3' ><b c='x'/><!-- x='1' --></p:a></r>",
        );
        let left = without(&inner, |name| name == "x" || name == "z").unwrap();
        assert_eq!(
            left.raw(),
            "<p:a xmlns=\"d\" xmlns:p=\"u\" xmlns:q=\"v\" q:y=\"'/>\"><b c='x'/><!-- x='1' --></p:a>"
        );
        assert_eq!(without(&left, |name| name == "x"), None);
        let none = without(&fragment("<r><a b='1'/></r>"), |_| true).unwrap();
        assert_eq!(none.raw(), "<a xmlns=\"\"/>");
    }
}

//! XCAP URIs: which document, and which part of it (RFC 4825 6). Pure; nothing here ever becomes a path of a file.

use crate::xcap::selector::{Selector, Wrong};
use crate::xcap::usage::Usage;

/// What a URI below the root names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Of which application.
    pub usage: Usage,
    /// Whose.
    pub tree: Tree,
    /// Path segments of the document's name, decoded; at least one.
    pub name: Vec<String>,
    /// A part of it, or all of it.
    pub node: Option<Selector>,
}

/// The two trees below an application (6.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tree {
    /// For everybody.
    Global,
    /// Of this XCAP User Identifier, decoded.
    User(String),
}

/// Why a URI names nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// 404: an application, tree or selector that is not known here (RFC 4825 8).
    NotFound,
    /// 400: it cannot be read, or tries to climb out of its tree.
    Bad(&'static str),
}

/// Reads a URI.
///
/// - `path`: what follows the XCAP root, beginning with a slash, as it came over the wire.
/// - `query`: what follows `?`, as it came.
///
/// Escapes are decoded once, after the path was cut at its slashes: what hides behind one is part of a name.
///
/// # Errors
/// [`Unread`].
pub fn parse(path: &str, query: Option<&str>) -> Result<Address, Unread> {
    let path = path.strip_prefix('/').ok_or(Unread::NotFound)?;
    let (document, node) = at_separator(path);
    let mut segments = document.split('/');
    let mut next = || segments.next().ok_or(Unread::NotFound);
    let usage = Usage::parse(&segment(next()?)?).ok_or(Unread::NotFound)?;
    let tree = match segment(next()?)?.as_str() {
        "global" => Tree::Global,
        "users" => Tree::User(user(next()?)?),
        _ => return Err(Unread::NotFound),
    };
    let name: Vec<String> = segments.map(segment).collect::<Result<_, _>>()?;
    if name.is_empty() || name.len() > MAX_SEGMENTS || name.iter().map(String::len).sum::<usize>() > MAX_NAME
    {
        return Err(Unread::NotFound);
    }
    let node = match node {
        None => None,
        Some(text) => {
            let query = query.map(decoded).transpose()?;
            let selector = Selector::parse(&decoded(text)?, query.as_deref(), usage.namespace());
            Some(selector.map_err(|wrong| match wrong {
                Wrong::Bindings(what) => Unread::Bad(what),
                Wrong::Extension => Unread::NotFound,
            })?)
        }
    };
    Ok(Address { usage, tree, name, node })
}

/// Cuts at the first segment that is `~~` in any spelling (6).
fn at_separator(path: &str) -> (&str, Option<&str>) {
    let mut start = 0_usize;
    for segment in path.split('/') {
        let end = start.saturating_add(segment.len());
        if matches!(decoded(segment).as_deref(), Ok("~~")) {
            let document = path.get(..start.saturating_sub(1)).unwrap_or_default();
            return (document, Some(path.get(end.saturating_add(1)..).unwrap_or_default()));
        }
        start = end.saturating_add(1);
    }
    (path, None)
}

/// An XCAP User Identifier: an address may hold a slash (6.2), which is a character of it like any other.
fn user(raw: &str) -> Result<String, Unread> {
    let text = decoded(raw)?;
    checked(&text.replace('/', "")).map(|()| text)
}

/// One segment of a document selector.
fn segment(raw: &str) -> Result<String, Unread> {
    let text = decoded(raw)?;
    checked(&text).map(|()| text)
}

fn checked(text: &str) -> Result<(), Unread> {
    match text {
        // A directory, which XCAP can neither list nor make (6.2).
        "" => Err(Unread::NotFound),
        "." | ".." => Err(Unread::Bad("dot segments lead nowhere")),
        text if text.chars().any(|c| c.is_control() || matches!(c, '/' | '\\')) => {
            Err(Unread::Bad("a segment holds what no name can"))
        }
        _ => Ok(()),
    }
}

/// Percent-decoding, once (RFC 3986 2.1).
pub fn decoded(text: &str) -> Result<String, Unread> {
    let bad = Unread::Bad("malformed percent-encoding");
    if !text.contains('%') {
        return Ok(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(bad) };
        bytes.push(u8::try_from(high.saturating_mul(16).saturating_add(low)).map_err(|_| bad)?);
    }
    String::from_utf8(bytes).map_err(|_| bad)
}

/// Subdirectories are none here, but a URI may name some (6.2).
const MAX_SEGMENTS: usize = 8;
/// Bytes of a document's name, decoded.
const MAX_NAME: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(path: &str) -> Result<(Usage, Tree, String), Unread> {
        parse(path, None).map(|a| (a.usage, a.tree, a.name.join("/")))
    }

    #[test]
    fn documents_of_users_and_of_everybody_rfc4825_6_2() {
        let joe = Tree::User("sip:joe@example.com".into());
        let expected = Ok((Usage::ResourceLists, joe.clone(), "index".into()));
        assert_eq!(tree("/resource-lists/users/sip:joe@example.com/index"), expected);
        assert_eq!(tree("/resource-lists/users/sip%3Ajoe%40example.com/%69ndex"), expected);
        assert_eq!(tree("/xcap-caps/global/index"), Ok((Usage::Caps, Tree::Global, "index".into())));
        let slash = Tree::User("sip:a/b?c@example.com".into());
        // The very spelling of 6.2: what a path cannot hold is escaped, and decoded once.
        let expected = Ok((Usage::PresRules, slash, "index".into()));
        assert_eq!(tree("/pres-rules/users/sip:a%2Fb%3Fc@example.com/index"), expected);
        assert_eq!(
            tree("/pres-rules/users/sip:a%2541@example.com/index"),
            Ok((Usage::PresRules, Tree::User("sip:a%41@example.com".into()), "index".into()))
        );
    }

    #[test]
    fn what_is_not_known_is_not_found_rfc4825_8() {
        for path in [
            "",
            "/",
            "/nope/users/sip:joe@example.com/index",
            "/resource-lists",
            "/resource-lists/users",
            "/resource-lists/users/sip:joe@example.com",
            "/resource-lists/users/sip:joe@example.com/",
            "/resource-lists/other/index",
            "/resource-lists/global/",
            "/resource-lists/users//index",
            "/resource-lists/users/sip:joe@example.com/index/~~/a[last()]",
            "/resource-lists/users/sip:joe@example.com/index/~~/",
            "/resource-lists/users/sip:joe@example.com/index/~~",
            "/resource-lists/users/sip:joe@example.com/~~/a",
        ] {
            assert_eq!(parse(path, None), Err(Unread::NotFound), "{path}");
        }
        let long = format!("/resource-lists/users/sip:joe@example.com/{}", "a".repeat(129));
        assert_eq!(parse(&long, None), Err(Unread::NotFound));
    }

    #[test]
    fn nothing_climbs_out_a27() {
        for path in [
            "/resource-lists/users/sip:joe@example.com/../sip:bob@example.com/index",
            "/resource-lists/users/sip:joe@example.com/%2e%2e/index",
            "/resource-lists/users/../global/index",
            "/resource-lists/users/sip:joe@example.com/./index",
            "/resource-lists/users/sip:joe@example.com/..%2findex",
            "/resource-lists/users/sip:joe@example.com/a%5cb",
            "/resource-lists/users/sip:joe@example.com/a%00b",
            "/resource-lists/users/sip:joe@example.com/a%0d%0ab",
            "/resource-lists/users/sip:joe@example.com/%c3%28",
            "/resource-lists/users/sip:joe@example.com/%ff",
            "/resource-lists/users/sip:joe@example.com/%4",
            "/resource-lists/users/sip:joe@example.com/%zz",
        ] {
            assert!(matches!(parse(path, None), Err(Unread::Bad(_))), "{path}");
        }
        let name = tree("/resource-lists/users/sip:joe@example.com/%252e%252e").unwrap().2;
        assert_eq!(name, "%2e%2e", "decoded once: a name like any other");
    }

    #[test]
    fn the_first_separator_in_any_spelling_cuts_rfc4825_6() {
        for separator in ["~~", "%7E%7E", "%7e~"] {
            let path = format!(
                "/resource-lists/users/sip:joe@example.com/index/{separator}/resource-lists/list%5b@name=%22~~/x%22%5d/@name"
            );
            let node = parse(&path, None).unwrap().node.unwrap();
            assert_eq!(node.steps.len(), 2, "{separator}");
            assert_eq!(node.steps[1].attribute.as_ref().unwrap().1, "~~/x");
            assert!(node.terminal.is_some());
        }
        assert!(matches!(parse("/resource-lists/global/index/~~/p:a", None), Err(Unread::Bad(_))));
        assert!(parse("/resource-lists/global/index/~~/p:a", Some("xmlns(p=urn%3Ax)")).is_ok());
        assert!(matches!(parse("/resource-lists/global/index/~~/a", Some("%")), Err(Unread::Bad(_))));
        assert!(parse("/resource-lists/global/index", Some("%")).is_ok(), "it binds nothing");
    }
}

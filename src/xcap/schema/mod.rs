//! Is a document what its schema says? Written by hand from the schemas of the RFCs, one file each (RFC 4825 8.2.5).
//!
//! Where a schema lets elements or attributes of other namespaces in, they are let in unread, unless their namespace is one of ours
//! ([`namespace::KNOWN`]): then they have to be elements of it.

pub mod pidf;
pub mod pres_rules;
pub mod resource_lists;
pub mod rls_services;

use std::collections::HashSet;

use crate::availability::document::xml::{Node, XML_NAMESPACE};
use crate::xcap::conflict::{Conflict, Exists};
use crate::xcap::selector::encoded;
use crate::xcap::usage::namespace;

/// Which attributes an element may have.
#[derive(Debug, Clone, Copy)]
struct Attributes {
    /// In no namespace.
    own: &'static [&'static str],
    /// Any of other namespaces (`anyAttribute`).
    others: bool,
}

impl Attributes {
    const fn none() -> Attributes {
        Attributes { own: &[], others: false }
    }

    fn check(self, node: Node<'_>, language: bool) -> Result<(), Conflict> {
        for (space, local, _) in node.attributes() {
            let is_allowed = match space {
                None => self.own.contains(&local),
                // Any element may have these (XML Schema Structures 2.6).
                Some("http://www.w3.org/2001/XMLSchema-instance") => true,
                Some(XML_NAMESPACE) => self.others || (language && local == "lang"),
                Some(space) => self.others && !namespace::KNOWN.contains(&space),
            };
            if !is_allowed {
                return Err(Conflict::SchemaValidation("an attribute that the schema does not have there"));
            }
        }
        Ok(())
    }
}

fn invalid(what: &'static str) -> Conflict {
    Conflict::SchemaValidation(what)
}

/// Elements alone, no text between them.
fn no_text(node: Node<'_>) -> Result<(), Conflict> {
    if node.text().trim_matches([' ', '\t', '\r', '\n']).is_empty() {
        Ok(())
    } else {
        Err(invalid("text where the schema has elements alone"))
    }
}

/// Neither elements nor text.
fn empty(node: Node<'_>) -> Result<(), Conflict> {
    no_text(node)?;
    no_children(node)
}

fn no_children(node: Node<'_>) -> Result<(), Conflict> {
    match node.children().next() {
        None => Ok(()),
        Some(_) => Err(invalid("an element where the schema has none")),
    }
}

/// An element that `xs:any namespace="##other"` takes: of a namespace, and not of this one.
fn other(node: Node<'_>, own: &str) -> Result<(), Conflict> {
    let Some(space) = node.namespace() else {
        return Err(invalid("an element of no namespace"));
    };
    let is_global = match space {
        namespace::CAPS => node.local() == "xcap-caps",
        namespace::RESOURCE_LISTS => node.local() == "resource-lists",
        namespace::RLS_SERVICES => node.local() == "rls-services",
        namespace::COMMON_POLICY => node.local() == "ruleset",
        namespace::PRES_RULES => return pres_rules::element(node),
        namespace::PIDF => node.local() == "presence",
        namespace::DATA_MODEL if space != own => return pidf::data_model(node),
        _ => true,
    };
    if space == own || !is_global {
        return Err(invalid("an element that the schema does not have there"));
    }
    Ok(())
}

/// Text without white space around it (`xs:token`, as far as values of one word go).
fn token(node: Node<'_>) -> Result<&str, Conflict> {
    no_children(node)?;
    Ok(node.text().trim_matches([' ', '\t', '\r', '\n']))
}

/// Every value at most once.
#[derive(Default)]
struct Unique<'d> {
    seen: HashSet<&'d str>,
    twice: Vec<Exists>,
}

impl<'d> Unique<'d> {
    fn note(&mut self, node: Node<'d>, attribute: &str) {
        if let Some(value) = node.attribute(attribute)
            && !self.seen.insert(value)
            && self.twice.len() < MAX_TOLD
        {
            let field = format!("{}/@{attribute}", place(node));
            self.twice.push(Exists { field, alternatives: Vec::new() });
        }
    }

    fn into_conflict(self) -> Result<(), Conflict> {
        if self.twice.is_empty() { Ok(()) } else { Err(Conflict::Uniqueness(self.twice)) }
    }
}

/// A node selector of an element, encoded: names and positions from the root. Names of the root's namespace need no prefix; others are
/// matched by position alone.
fn place(node: Node<'_>) -> String {
    let mut steps = Vec::new();
    let mut current = Some(node);
    while let Some(node) = current {
        let parent = node.parent();
        let step = match parent {
            None => node.local().to_owned(),
            Some(parent) => {
                let before = |child: &Node<'_>| child.span().start <= node.span().start;
                let position = parent.children().filter(before).count();
                format!("*[{position}]")
            }
        };
        steps.push(encoded(&step));
        current = parent;
    }
    steps.reverse();
    steps.join("/")
}

/// Doubled values that are told of, for each of them costs a look at its siblings.
const MAX_TOLD: usize = 32;

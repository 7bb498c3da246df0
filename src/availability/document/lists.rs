//! Resource lists (RFC 4826 3): who is in which list.

use crate::availability::document::xml::Node;

/// Is it a document of `resource-lists`?
///
/// # Errors
/// What is wrong with it.
pub fn of(root: Node<'_>) -> Result<(), &'static str> {
    if root.is(NAMESPACE, "resource-lists") { Ok(()) } else { Err("the root is not resource-lists") }
}

/// The namespace of all its elements.
pub const NAMESPACE: &str = "urn:ietf:params:xml:ns:resource-lists";

//! Resource lists (RFC 4826 3): who is in which list.

use crate::availability::document::xml::{Document, Limits};

/// Reads a document of `resource-lists`.
///
/// # Errors
/// What is wrong with it.
pub fn read(body: &[u8]) -> Result<(), &'static str> {
    let document = Document::read(body, &Limits::STORED).map_err(|_| "not well-formed")?;
    if document.root().is(NAMESPACE, "resource-lists") {
        Ok(())
    } else {
        Err("the root is not resource-lists")
    }
}

/// The namespace of all its elements.
pub const NAMESPACE: &str = "urn:ietf:params:xml:ns:resource-lists";

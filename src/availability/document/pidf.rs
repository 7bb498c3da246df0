//! PIDF with the data model and RPID (RFC 3863, 4479, 4480).

use crate::model::Reject;

/// A checked presence document: its entity and its top-level components, each with its own bytes so that unknown XML survives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pidf {
    /// `entity` attribute.
    pub entity: String,
}

impl Pidf {
    /// Reads a document within the caps of `A07`.
    ///
    /// # Errors
    /// 400 for what is not well-formed or not PIDF, 415 for DOCTYPE, 413 for too large.
    pub fn parse(bytes: &[u8]) -> Result<Pidf, Reject> {
        let _ = bytes;
        todo!()
    }
}

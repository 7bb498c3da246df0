//! All sources of a presentity composed into one PIDF document (RFC 4479, RFC 3903 10.3).

use bytes::Bytes;

use crate::model::{HomeState, Timestamp};

/// The composed document of a presentity, before any watcher is considered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Composed {
    /// The whole document.
    pub pidf: Bytes,
    /// Is any tuple open?
    pub open: bool,
}

/// Composes registrations and publications: a tuple per device, persons and devices of all publications, unknown XML kept.
pub fn compose(home: &HomeState, now: Timestamp) -> Composed {
    let _ = (home, now);
    todo!()
}

/// The document of somebody about whom nothing may be known or nothing is: one closed tuple. Byte for byte the same for an
/// offline user and for polite-block.
pub fn unavailable(entity: &str) -> Bytes {
    let _ = entity;
    todo!()
}

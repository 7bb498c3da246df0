//! What a peer got wrong, and the caps that are checked before anything is believed (`A01`..`A05`).

use crate::sip::StatusCode;

/// Where and what was wrong in a message. Never carries text of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset}")]
pub struct ParseError {
    /// A fixed phrase that names the problem ("Missing Call-ID"); fit for a reason phrase (RFC 3261 21.4.1).
    pub what: &'static str,
    /// Offset in the message or value, in bytes.
    pub offset: u32,
    /// The status owed if the message is a request that can be answered (400, 413, 414, 505, 513).
    pub status: StatusCode,
}

impl ParseError {
    /// A syntax error: 400 is owed.
    pub(super) fn bad(what: &'static str, offset: usize) -> ParseError {
        ParseError::owing(StatusCode::BAD_REQUEST, what, offset)
    }

    /// An error for which another status than 400 is owed.
    pub(super) fn owing(status: StatusCode, what: &'static str, offset: usize) -> ParseError {
        ParseError { what, offset: u32::try_from(offset).unwrap_or(u32::MAX), status }
    }
}

/// Hard caps of the language; every one of them is checked before memory is spent.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Whole message in bytes (default 65,535).
    pub message: usize,
    /// Start line in bytes (2,048).
    pub start_line: usize,
    /// One header row in bytes (8,192).
    pub header: usize,
    /// Number of header rows (128).
    pub headers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { message: 65_535, start_line: 2_048, header: 8_192, headers: 128 }
    }
}

/// Longest Request-URI in bytes; beyond it 414 is owed (`A05`).
pub const MAX_URI: usize = 1_024;
/// Most Via elements: more hops than Max-Forwards 70 allows in practice (`A05`).
pub const MAX_VIAS: usize = 64;
/// Most Route elements (`A05`).
pub const MAX_ROUTES: usize = 32;
/// Most Contact elements (`A05`).
pub const MAX_CONTACTS: usize = 20;
/// Longest tag, branch or Call-ID in bytes: they are keys of our tables (`A05`).
pub const MAX_ID: usize = 256;
/// Longest display name in bytes (`A05`).
pub const MAX_DISPLAY: usize = 256;
/// Most parameters of one element; keeps the search for duplicates cheap (`A35`).
pub const MAX_PARAMS: usize = 64;
/// Most header components of one URI (`A35`).
pub const MAX_URI_HEADERS: usize = 32;

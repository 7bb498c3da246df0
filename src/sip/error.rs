//! What a peer got wrong, and the caps that are checked before anything is believed (`A01`..`A05`).

/// Where and what was wrong in a message. Never carries text of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset}")]
pub struct ParseError {
    /// A fixed phrase that names the problem ("missing Call-ID").
    pub what: &'static str,
    /// Offset in the message or value, in bytes.
    pub offset: u32,
    /// The status owed if the message is a request that can be answered (400, 413, 414, 505, 513).
    pub status: crate::sip::StatusCode,
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

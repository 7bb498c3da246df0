//! A correct negative answer.

use smallvec::SmallVec;

use crate::sip::{HeaderName, StatusCode};

/// Status, phrase and headers of a refusal; made where the rule is, written by dispatch. Not an error of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The status.
    pub status: StatusCode,
    /// Reason phrase; `None` for the usual one.
    pub reason: Option<&'static str>,
    /// Headers that belong to it (Min-Expires, Unsupported, Accept..).
    pub headers: SmallVec<[(HeaderName, String); 1]>,
}

impl Reject {
    /// A bare status.
    pub fn new(status: StatusCode) -> Reject {
        Reject { status, reason: None, headers: SmallVec::new() }
    }
    /// A status with a phrase that names the problem (RFC 3261 21.4.1).
    pub fn because(status: StatusCode, reason: &'static str) -> Reject {
        Reject { status, reason: Some(reason), headers: SmallVec::new() }
    }
    /// Adds a header.
    pub fn with(mut self, name: HeaderName, value: impl Into<String>) -> Reject {
        self.headers.push((name, value.into()));
        self
    }
}

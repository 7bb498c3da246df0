//! `Via` (RFC 3261 20.42, RFC 3581).

use std::net::IpAddr;

use crate::sip::{HostPort, Params, ParseError};

/// One Via element.
#[derive(Debug, Clone, Copy)]
pub struct Via<'a> {
    /// Transport token as written ("UDP").
    pub transport: &'a str,
    /// `sent-by`.
    pub sent_by: HostPort<'a>,
    /// Parameters.
    pub params: Params<'a>,
    pub(super) text: &'a str,
}

impl<'a> Via<'a> {
    /// Reads one element.
    pub fn parse(text: &'a [u8]) -> Result<Via<'a>, ParseError> {
        let _ = text;
        todo!()
    }
    /// As written.
    pub fn as_str(&self) -> &'a str {
        self.text
    }
    /// The branch parameter.
    pub fn branch(&self) -> Option<&'a str> {
        todo!()
    }
    /// The branch if it has the magic cookie `z9hG4bK` and something after it (17.2.3, RFC 4475 3.2.1).
    pub fn rfc3261_branch(&self) -> Option<&'a str> {
        todo!()
    }
    /// `received`, with or without brackets.
    pub fn received(&self) -> Option<IpAddr> {
        todo!()
    }
    /// `rport`: `None` absent, `Some(None)` without value, `Some(Some(port))`.
    pub fn rport(&self) -> Option<Option<u16>> {
        todo!()
    }
}

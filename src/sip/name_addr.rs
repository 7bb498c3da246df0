//! `name-addr` and `addr-spec` with header parameters (RFC 3261 20.10, 25.1).

use crate::sip::{Params, ParseError, Uri};

/// From, To, Contact, Route..: a URI with optional display name and header parameters.
#[derive(Debug, Clone, Copy)]
pub struct NameAddr<'a> {
    /// Display name as written, without surrounding quotes.
    pub display: Option<&'a str>,
    /// The URI.
    pub uri: Uri<'a>,
    /// Header parameters (`tag`, `expires`, `q`, `+sip.instance`..).
    pub params: Params<'a>,
    /// The whole element as written.
    pub(super) text: &'a str,
}

impl<'a> NameAddr<'a> {
    /// Reads one element.
    pub fn parse(text: &'a [u8]) -> Result<NameAddr<'a>, ParseError> {
        let _ = text;
        todo!()
    }
    /// The `tag` parameter.
    pub fn tag(&self) -> Option<&'a str> {
        todo!()
    }
    /// As written.
    pub fn as_str(&self) -> &'a str {
        self.text
    }
}

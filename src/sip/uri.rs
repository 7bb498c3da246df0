//! SIP, SIPS and TEL URIs (RFC 3261 19.1, RFC 3966, RFC 5954).

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::sip::ParseError;

/// Scheme of a URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme<'a> {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:`
    Tel,
    /// `im:`
    Im,
    /// `pres:`
    Pres,
    /// Anything else, as written.
    Other(&'a str),
}

/// A host: name, IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Host<'a> {
    /// A name as written.
    Name(&'a str),
    /// Dotted quad.
    V4(Ipv4Addr),
    /// In brackets on the wire.
    V6(Ipv6Addr),
}

/// Host and optional port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPort<'a> {
    /// The host.
    pub host: Host<'a>,
    /// The port, if written.
    pub port: Option<u16>,
}

/// `;name=value;flag` after a URI or a header value. Borrowed text, checked for duplicates at parse.
#[derive(Debug, Clone, Copy, Default)]
pub struct Params<'a> {
    pub(super) text: &'a str,
}

impl<'a> Params<'a> {
    /// Name and value (as written; quoted strings keep their quotes) in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> + use<'a> {
        std::iter::empty::<(&'a str, Option<&'a str>)>()
    }
    /// The value of a parameter; `Some("")` for a flag; name in any case; surrounding quotes are taken off.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let _ = name;
        todo!()
    }
    /// Is it there, with or without value?
    pub fn has(&self, name: &str) -> bool {
        let _ = name;
        todo!()
    }
    /// As written, with the leading `;` (or empty).
    pub fn as_str(&self) -> &'a str {
        self.text
    }
}

/// A URI, borrowed from the text it was read from.
#[derive(Debug, Clone, Copy)]
pub struct Uri<'a> {
    pub(super) text: &'a str,
    /// Scheme.
    pub scheme: Scheme<'a>,
    /// User part as written (escaped), or the number of a `tel:`; `None` if there is none.
    pub user: Option<&'a str>,
    /// Password as written.
    pub password: Option<&'a str>,
    /// Host and port; for schemes without host (`tel:`) an empty name.
    pub host_port: HostPort<'a>,
    /// URI parameters.
    pub params: Params<'a>,
    /// What follows `?`, as written, without the `?`.
    pub headers: Option<&'a str>,
}

impl<'a> Uri<'a> {
    /// Reads a URI. Unknown schemes are read as far as scheme and text.
    pub fn parse(text: &'a [u8]) -> Result<Uri<'a>, ParseError> {
        let _ = text;
        todo!()
    }
    /// As written.
    pub fn as_str(&self) -> &'a str {
        self.text
    }
    /// The user part with escapes decoded; `None` if there is none or it does not decode to UTF-8 without control characters.
    pub fn user_decoded(&self) -> Option<Cow<'a, str>> {
        todo!()
    }
    /// RFC 3261 19.1.4 equality.
    pub fn equals(&self, other: &Uri<'_>) -> bool {
        let _ = other;
        todo!()
    }
}

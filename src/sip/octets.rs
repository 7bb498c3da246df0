//! A message's octets, and whether they are text: found out once, so that no part of them is checked again.

use std::str::Utf8Error;

use bytes::Bytes;
use bytestring::ByteString;

use crate::sip::lexer::Span;

/// What a message was read from.
#[derive(Debug, Clone)]
pub(super) enum Octets {
    /// All of it is UTF-8, as nearly every message is.
    Text(ByteString),
    /// A body, or a value, is something else: each part is checked when it is asked for.
    Mixed(Bytes),
}

impl Octets {
    pub(super) fn new(bytes: Bytes) -> Octets {
        ByteString::try_from(bytes.clone()).map_or(Octets::Mixed(bytes), Octets::Text)
    }

    pub(super) fn bytes(&self) -> &Bytes {
        match self {
            Octets::Text(text) => text.as_bytes(),
            Octets::Mixed(bytes) => bytes,
        }
    }

    pub(super) fn of(&self, span: Span) -> &[u8] {
        span.of(self.bytes())
    }

    /// A part as text; one that begins and ends beside ASCII.
    pub(super) fn text(&self, span: Span) -> Result<&str, Utf8Error> {
        match self {
            Octets::Text(text) => Ok(span.of_text(text)),
            Octets::Mixed(bytes) => std::str::from_utf8(span.of(bytes)),
        }
    }

    /// The same of octets that were cut from these.
    pub(super) fn text_of<'a>(&'a self, part: &'a [u8]) -> Result<&'a str, Utf8Error> {
        self.text(Span::of_part(self.bytes(), part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_beside_what_is_none_is_text_still() {
        for whole in [&b"To: \"J\xc3\xb6rg\" x"[..], b"To: \"J\xc3\xb6rg\" x\xff", b"To: \"J\xf6rg\" x"] {
            let octets = Octets::new(Bytes::from_static(whole));
            let name = octets.of(Span::new(4, whole.iter().rposition(|&b| b == b'"').unwrap() + 1));
            assert_eq!(octets.text_of(name), std::str::from_utf8(name));
            assert_eq!(octets.text_of(&name[..1]), Ok("\""));
            assert_eq!(octets.text_of(&name[..0]), Ok(""));
        }
    }
}

//! Methods (RFC 3261 7.1 and extensions).

use std::fmt;

use crate::sip::ParseError;
use crate::sip::lexer;

/// A method (RFC 3261 7.1; case-sensitive token).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the variants are the method names")]
pub enum Method {
    Ack,
    Bye,
    Cancel,
    Info,
    Invite,
    Message,
    Notify,
    Options,
    Prack,
    Publish,
    Refer,
    Register,
    Subscribe,
    Update,
    /// Any other token.
    Extension(Box<str>),
}

impl Method {
    /// Reads a token.
    pub fn parse(token: &[u8]) -> Result<Method, ParseError> {
        Ok(match token {
            b"ACK" => Method::Ack,
            b"BYE" => Method::Bye,
            b"CANCEL" => Method::Cancel,
            b"INFO" => Method::Info,
            b"INVITE" => Method::Invite,
            b"MESSAGE" => Method::Message,
            b"NOTIFY" => Method::Notify,
            b"OPTIONS" => Method::Options,
            b"PRACK" => Method::Prack,
            b"PUBLISH" => Method::Publish,
            b"REFER" => Method::Refer,
            b"REGISTER" => Method::Register,
            b"SUBSCRIBE" => Method::Subscribe,
            b"UPDATE" => Method::Update,
            other => match std::str::from_utf8(other) {
                Ok(text) if lexer::is_token(other) => Method::Extension(text.into()),
                _ => return Err(ParseError::bad("Malformed method", 0)),
            },
        })
    }

    /// As on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Method::Ack => "ACK",
            Method::Bye => "BYE",
            Method::Cancel => "CANCEL",
            Method::Info => "INFO",
            Method::Invite => "INVITE",
            Method::Message => "MESSAGE",
            Method::Notify => "NOTIFY",
            Method::Options => "OPTIONS",
            Method::Prack => "PRACK",
            Method::Publish => "PUBLISH",
            Method::Refer => "REFER",
            Method::Register => "REGISTER",
            Method::Subscribe => "SUBSCRIBE",
            Method::Update => "UPDATE",
            Method::Extension(name) => name,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_case_sensitive_tokens_rfc3261_7_1() {
        assert_eq!(Method::parse(b"INVITE"), Ok(Method::Invite));
        assert_eq!(Method::parse(b"invite"), Ok(Method::Extension("invite".into())));
        assert_eq!(Method::parse(b"RE%47IST%45R").unwrap().as_str(), "RE%47IST%45R");
        for bad in [&b""[..], b"IN VITE", b"a/b", b"\xc3\xa9", b"a:"] {
            assert!(Method::parse(bad).is_err());
        }
    }
}

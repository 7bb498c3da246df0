//! Writes messages. Cannot emit CR, LF or NUL inside a value (`A04`).

use bytes::Bytes;

use crate::sip::{HeaderName, Method, Request, StatusCode};

/// A message under construction; the buffer is the message.
#[derive(Debug)]
pub struct Writer {
    pub(super) buffer: Vec<u8>,
}

impl Writer {
    /// `METHOD uri SIP/2.0`.
    pub fn request(method: &Method, uri: &str) -> Writer {
        let _ = (method, uri);
        todo!()
    }
    /// `SIP/2.0 code reason`, default phrase.
    pub fn response(status: StatusCode) -> Writer {
        let _ = status;
        todo!()
    }
    /// `SIP/2.0 code phrase`.
    pub fn response_with_reason(status: StatusCode, reason: &str) -> Writer {
        let _ = (status, reason);
        todo!()
    }
    /// A response to `request` with what 8.2.6.2 copies: all Vias in order (the topmost as sent: transport has already
    /// stamped `received` and `rport`), From, To (with `to_tag` if it had none and the status is not 100), Call-ID, CSeq;
    /// Timestamp for 100.
    pub fn respond(request: &Request, status: StatusCode, to_tag: &str) -> Writer {
        let _ = (request, status, to_tag);
        todo!()
    }
    /// As [`Writer::respond`], with a phrase of its own.
    pub fn respond_with_reason(request: &Request, status: StatusCode, reason: &str, to_tag: &str) -> Writer {
        let _ = (request, status, reason, to_tag);
        todo!()
    }
    /// Copies all rows of a name from a request.
    pub fn copy(&mut self, request: &Request, name: HeaderName) -> &mut Writer {
        let _ = (request, name);
        todo!()
    }
    /// Adds a row. CR, LF and NUL in the value become spaces.
    pub fn header(&mut self, name: HeaderName, value: impl AsRef<[u8]>) -> &mut Writer {
        let _ = (name, value.as_ref());
        todo!()
    }
    /// Adds a row from a displayable value, without an intermediate string.
    pub fn header_fmt(&mut self, name: HeaderName, value: std::fmt::Arguments<'_>) -> &mut Writer {
        let _ = (name, value);
        todo!()
    }
    /// Adds a row of a name that has no [`HeaderName`].
    pub fn other_header(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Writer {
        let _ = (name, value.as_ref());
        todo!()
    }
    /// Content-Type (if the body is not empty), Content-Length, empty line, body.
    pub fn body(self, content_type: &str, body: &[u8]) -> Bytes {
        let _ = (content_type, body);
        todo!()
    }
    /// Content-Length: 0 and the empty line.
    pub fn finish(self) -> Bytes {
        todo!()
    }
}

//! A parsed message: bytes and an index (RFC 3261 7).

use bytes::Bytes;
use smallvec::SmallVec;

use crate::sip::digest::Credentials;
use crate::sip::{Header, HeaderName, Limits, NameAddr, ParseError, StatusCode, Uri, Via};

/// Request or response.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "messages are handled in place and seldom moved")]
pub enum Message {
    /// A request.
    Request(Request),
    /// A response.
    Response(Response),
}

impl Message {
    /// Reads one whole message: a datagram, or what the [`crate::sip::framer::Framer`] cut from a stream.
    ///
    /// `stream`: a missing Content-Length is an error on streams and means "the rest" on datagrams (18.3).
    pub fn parse(bytes: Bytes, stream: bool, limits: &Limits) -> Result<Message, ParseError> {
        let _ = (bytes, stream, limits);
        todo!()
    }
}

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
        let _ = token;
        todo!()
    }
    /// As on the wire.
    pub fn as_str(&self) -> &str {
        todo!()
    }
}

/// A request: its line and [`Headers`] (by `Deref`).
#[derive(Debug, Clone)]
pub struct Request {
    pub(super) method: Method,
    pub(super) uri: Span,
    pub(super) headers: Headers,
}

impl Request {
    /// The method of the request line.
    pub fn method(&self) -> &Method {
        &self.method
    }
    /// The Request-URI as sent.
    pub fn uri_bytes(&self) -> &[u8] {
        todo!()
    }
    /// The Request-URI, typed (any scheme).
    pub fn uri(&self) -> Result<Uri<'_>, ParseError> {
        todo!()
    }
}

impl std::ops::Deref for Request {
    type Target = Headers;
    fn deref(&self) -> &Headers {
        &self.headers
    }
}

/// A response: its line and [`Headers`] (by `Deref`).
#[derive(Debug, Clone)]
pub struct Response {
    pub(super) status: StatusCode,
    pub(super) reason: Span,
    pub(super) headers: Headers,
}

impl Response {
    /// The status code.
    pub fn status(&self) -> StatusCode {
        self.status
    }
    /// The reason phrase as sent.
    pub fn reason_bytes(&self) -> &[u8] {
        todo!()
    }
}

impl std::ops::Deref for Response {
    type Target = Headers;
    fn deref(&self) -> &Headers {
        &self.headers
    }
}

/// A range of the message's bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) name: HeaderName,
    pub(super) raw_name: Span,
    pub(super) value: Span,
}

/// The header section and body of a message. Typed views borrow from it and are made on demand.
#[derive(Debug, Clone)]
pub struct Headers {
    pub(super) bytes: Bytes,
    pub(super) index: SmallVec<[Entry; 24]>,
    pub(super) body: Span,
}

/// `CSeq` (20.16).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CSeq {
    /// 0..2^32; below 2^31 in what we send.
    pub number: u32,
    /// The method.
    pub method: Method,
}

/// `Contact` of a request or response (20.10).
#[derive(Debug, Clone)]
pub enum Contacts<'a> {
    /// `*`, alone.
    Star,
    /// Zero or more addresses in order.
    List(SmallVec<[NameAddr<'a>; 4]>),
}

/// `Event` (RFC 6665 8.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// Package with templates ("presence.winfo"), exact token.
    pub package: &'a str,
    /// The `id` parameter.
    pub id: Option<&'a str>,
}

impl Headers {
    /// All rows in order.
    pub fn iter(&self) -> impl Iterator<Item = Header<'_>> {
        std::iter::empty::<Header<'_>>()
    }
    /// The first row of that name, unfolded, trimmed.
    pub fn value(&self, name: HeaderName) -> Option<&[u8]> {
        let _ = name;
        todo!()
    }
    /// The first row of that name if it is UTF-8.
    pub fn text(&self, name: HeaderName) -> Option<&str> {
        let _ = name;
        todo!()
    }
    /// Every row of that name.
    pub fn values(&self, name: HeaderName) -> impl Iterator<Item = &[u8]> {
        let _ = name;
        std::iter::empty::<&[u8]>()
    }
    /// The elements of a comma list over all rows of that name, in order; commas inside quotes and `<>` do not split.
    pub fn elements(&self, name: HeaderName) -> impl Iterator<Item = &[u8]> {
        let _ = name;
        std::iter::empty::<&[u8]>()
    }
    /// The first row whose name (any case) is this; for headers without a [`HeaderName`].
    pub fn other(&self, name: &str) -> Option<&[u8]> {
        let _ = name;
        todo!()
    }
    /// Does a token list (Require, Supported, Accept..) hold this token, case-insensitively?
    pub fn has_token(&self, name: HeaderName, token: &str) -> bool {
        let _ = (name, token);
        todo!()
    }
    /// The body, byte for byte.
    pub fn body(&self) -> &[u8] {
        todo!()
    }
    /// The body as shared bytes.
    pub fn body_bytes(&self) -> Bytes {
        todo!()
    }
    /// The whole message as received (folded rows read as one).
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
    /// All Vias, top first.
    pub fn vias(&self) -> impl Iterator<Item = Result<Via<'_>, ParseError>> {
        std::iter::empty::<Result<Via<'_>, ParseError>>()
    }
    /// The topmost Via.
    pub fn top_via(&self) -> Result<Via<'_>, ParseError> {
        todo!()
    }
    /// `From`.
    pub fn from(&self) -> Result<NameAddr<'_>, ParseError> {
        todo!()
    }
    /// `To`.
    pub fn to(&self) -> Result<NameAddr<'_>, ParseError> {
        todo!()
    }
    /// `Call-ID`.
    pub fn call_id(&self) -> Result<&str, ParseError> {
        todo!()
    }
    /// `CSeq`.
    pub fn cseq(&self) -> Result<CSeq, ParseError> {
        todo!()
    }
    /// `Max-Forwards` (0..=255).
    pub fn max_forwards(&self) -> Result<Option<u8>, ParseError> {
        todo!()
    }
    /// `Expires`, clamped to 2^32-1; `Ok(None)` if absent, an error if malformed (20.19).
    pub fn expires(&self) -> Result<Option<u32>, ParseError> {
        todo!()
    }
    /// `Contact`.
    pub fn contacts(&self) -> Result<Contacts<'_>, ParseError> {
        todo!()
    }
    /// Route, Record-Route, Path, Service-Route, P-Asserted-Identity: a list of addresses.
    pub fn addresses(&self, name: HeaderName) -> impl Iterator<Item = Result<NameAddr<'_>, ParseError>> {
        let _ = name;
        std::iter::empty::<Result<NameAddr<'_>, ParseError>>()
    }
    /// `Event`.
    pub fn event(&self) -> Result<Option<Event<'_>>, ParseError> {
        todo!()
    }
    /// Digest credentials in Authorization or Proxy-Authorization, one per row; other schemes are skipped.
    pub fn credentials(&self, name: HeaderName) -> impl Iterator<Item = Result<Credentials<'_>, ParseError>> {
        let _ = name;
        std::iter::empty::<Result<Credentials<'_>, ParseError>>()
    }
    /// Media type of the body in lower case without parameters ("application/pidf+xml").
    pub fn content_type(&self) -> Option<String> {
        todo!()
    }
}

/// A lenient reading of a message that [`Message::parse`] refused: enough of a request to answer it.
pub fn salvage(bytes: &Bytes) -> Option<Request> {
    let _ = bytes;
    todo!()
}

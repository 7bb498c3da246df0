//! A parsed message: bytes and an index (RFC 3261 7).

use std::net::SocketAddr;

use bytes::Bytes;
use smallvec::SmallVec;

pub use crate::sip::lexer::Span;
use crate::sip::lexer::{self, Row};
pub use crate::sip::method::Method;
use crate::sip::octets::Octets;
use crate::sip::places::Seen;
use crate::sip::via::{self, Stamp};
use crate::sip::{HeaderName, Limits, NameAddr, ParseError, StatusCode, Uri, uri};

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
    ///
    /// # Errors
    /// Anything that would let two systems read the message differently (`A01`..`A03`), or a cap that is exceeded.
    /// A request that fails here may still be answered by way of [`crate::sip::salvage()`].
    pub fn parse(bytes: Bytes, stream: bool, limits: &Limits) -> Result<Message, ParseError> {
        if bytes.len() > limits.message || u32::try_from(bytes.len()).is_err() {
            return Err(ParseError::owing(
                StatusCode::MESSAGE_TOO_LARGE,
                "Message too large",
                limits.message,
            ));
        }
        let bytes = without_leading_line_ends(bytes);
        let (line, line_end) = start_line(&bytes, limits)?;
        let rows = read_rows(&bytes, line_end, stream, limits)?;
        let bytes = if rows.folded { unfolded(&bytes, line_end, rows.body) } else { bytes };
        let rest = bytes.len().saturating_sub(rows.body);
        let length = match rows.content_length {
            Some(length) if length as usize <= rest => length as usize,
            Some(_) => return Err(ParseError::bad("Content-Length beyond end of message", rows.body)),
            None if stream => return Err(ParseError::bad("Missing Content-Length", rows.body)),
            None => rest,
        };
        let end = rows.body + length;
        let headers = Headers {
            surplus: bytes.len() - end,
            octets: Octets::new(if end < bytes.len() { bytes.slice(..end) } else { bytes }),
            index: rows.index,
            body: Span::new(rows.body, end),
        };
        Ok(match line {
            StartLine::Request { method, uri } => {
                Message::Request(Request { method, uri, headers, stamp: None })
            }
            StartLine::Response { status, reason } => Message::Response(Response { status, reason, headers }),
        })
    }

    /// The header section and body, of either kind.
    pub fn headers(&self) -> &Headers {
        match self {
            Message::Request(request) => request,
            Message::Response(response) => response,
        }
    }
}

/// Line ends before the start line are ignored (7.5).
fn without_leading_line_ends(bytes: Bytes) -> Bytes {
    let blank = bytes.chunks_exact(2).take_while(|pair| pair == b"\r\n").count() * 2;
    if blank == 0 { bytes } else { bytes.slice(blank..) }
}

enum StartLine {
    Request { method: Method, uri: Span },
    Response { status: StatusCode, reason: Span },
}

/// The start line and the position after it: single SPs between its parts, none around them (7.1, 7.2).
fn start_line(bytes: &[u8], limits: &Limits) -> Result<(StartLine, usize), ParseError> {
    let end = lexer::find_control(bytes, 0);
    if end > limits.start_line {
        return Err(ParseError::owing(StatusCode::REQUEST_URI_TOO_LONG, "Start line too long", end));
    }
    if bytes.get(end..end + 2) != Some(b"\r\n") {
        return Err(ParseError::bad("Malformed start line", end));
    }
    let line = bytes.get(..end).unwrap_or_default();
    let line = if is_version_like(line) { status_line(line)? } else { request_line(line)? };
    Ok((line, end + 2))
}

fn request_line(line: &[u8]) -> Result<StartLine, ParseError> {
    let first =
        line.iter().position(|&b| b == b' ').ok_or_else(|| ParseError::bad("Malformed start line", 0))?;
    let last = line.iter().rposition(|&b| b == b' ').unwrap_or(first);
    let method = Method::parse(line.get(..first).unwrap_or_default())?;
    let uri = line.get(first + 1..last).unwrap_or_default();
    let version = line.get(last + 1..).unwrap_or_default();
    if uri.is_empty() || lexer::run(uri, lexer::URI) < uri.len() {
        return Err(ParseError::bad("Malformed Request-URI", first + 1));
    }
    if !version.eq_ignore_ascii_case(b"SIP/2.0") {
        let problem = if is_version_like(version) {
            ParseError::owing(StatusCode::VERSION_NOT_SUPPORTED, "Version not supported", last + 1)
        } else {
            ParseError::bad("Malformed SIP version", last + 1)
        };
        return Err(problem);
    }
    Ok(StartLine::Request { method, uri: Span::new(first + 1, last) })
}

fn status_line(line: &[u8]) -> Result<StartLine, ParseError> {
    let (version, rest) = line.split_at_checked(7).unwrap_or((line, &[]));
    if !version.eq_ignore_ascii_case(b"SIP/2.0") {
        return Err(ParseError::bad("Version not supported", 0));
    }
    let digits = match rest {
        [b' ', digits @ ..] if digits.len() == 3 => digits,
        [b' ', a, b, c, b' ', ..] => &[*a, *b, *c],
        _ => return Err(ParseError::bad("Malformed status line", 7)),
    };
    let status = lexer::exact_u32(digits)
        .and_then(|code| u16::try_from(code).ok())
        .and_then(StatusCode::new)
        .ok_or_else(|| ParseError::bad("Malformed status code", 8))?;
    Ok(StartLine::Response { status, reason: Span::new(line.len().min(12), line.len()) })
}

/// Does it begin as a SIP version does? No method can: `/` is not a token character.
fn is_version_like(bytes: &[u8]) -> bool {
    bytes.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/"))
}

struct Rows {
    index: Box<Index>,
    content_length: Option<u32>,
    /// Where the body begins.
    body: usize,
    folded: bool,
}

fn read_rows(bytes: &[u8], start: usize, stream: bool, limits: &Limits) -> Result<Rows, ParseError> {
    let mut rows = Rows { index: Box::default(), content_length: None, body: start, folded: false };
    let mut at = start;
    // A datagram may end after its last row: nothing can follow, and deployed clients omit the empty line (RFC 5118 4.10).
    while stream || at < bytes.len() || at == start {
        let Some(row) = lexer::row(bytes, at)? else {
            at += 2;
            break;
        };
        if row.end - at > limits.header {
            return Err(ParseError::owing(StatusCode::MESSAGE_TOO_LARGE, "Header too long", at));
        }
        if rows.index.rows.len() == limits.headers {
            return Err(ParseError::owing(StatusCode::MESSAGE_TOO_LARGE, "Too many headers", at));
        }
        let name = HeaderName::parse(row.raw_name.of(bytes));
        if name == HeaderName::ContentLength {
            read_content_length(bytes, &row, &mut rows.content_length)?;
        }
        rows.folded |= row.folded;
        rows.index.push(Entry { name, raw_name: row.raw_name, value: row.value });
        at = row.end;
    }
    rows.body = at;
    Ok(rows)
}

/// Digits only, once, below 2^31 (20.14; `A01`, `A02`).
pub(super) fn read_content_length(
    bytes: &[u8],
    row: &Row,
    known: &mut Option<u32>,
) -> Result<(), ParseError> {
    let at = row.value.start as usize;
    if known.is_some() {
        return Err(ParseError::bad("Duplicate Content-Length", at));
    }
    match lexer::exact_u32(row.value.of(bytes)) {
        Some(length) if length < 1 << 31 => {
            *known = Some(length);
            Ok(())
        }
        _ => Err(ParseError::bad("Malformed Content-Length", at)),
    }
}

/// A copy with each line end inside a header value replaced by spaces, so that positions stay and values are one piece (7.3.1).
pub(super) fn unfolded(bytes: &[u8], start: usize, end: usize) -> Bytes {
    let mut copy = bytes.to_vec();
    let section = copy.get_mut(start..end).unwrap_or_default();
    let mut at = 0;
    while let Some(window) = section.get_mut(at..at + 3) {
        if let [b'\r', b'\n', b' ' | b'\t'] = window {
            window.fill(b' ');
        }
        at += 1;
    }
    Bytes::from(copy)
}

/// A request: its line and [`Headers`] (by `Deref`).
#[derive(Debug, Clone)]
pub struct Request {
    pub(super) method: Method,
    pub(super) uri: Span,
    pub(super) headers: Headers,
    pub(super) stamp: Option<Stamp>,
}

impl Request {
    /// The method of the request line.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The Request-URI as sent.
    pub fn uri_bytes(&self) -> &[u8] {
        self.headers.octets.of(self.uri)
    }

    /// The Request-URI, typed (any scheme).
    pub fn uri(&self) -> Result<Uri<'_>, ParseError> {
        let octets = &self.headers.octets;
        let read = || octets.text(self.uri).map_err(uri::not_text).and_then(Uri::read);
        self.headers.index.seen.uri.view(octets, read)
    }

    /// The source that [`crate::sip::forward::stamp`] noted. The bytes of the topmost Via do not show it; what is written does.
    pub fn source(&self) -> Option<SocketAddr> {
        self.stamp.map(|stamp| stamp.source)
    }

    /// The port that responses over datagrams go to (RFC 3261 18.2.2): that of sent-by. `None`: the port it came from, because `rport`
    /// asks for it (RFC 3581 4) or the topmost Via cannot be read.
    pub fn response_port(&self) -> Option<u16> {
        match self.stamp {
            Some(stamp) => stamp.response_port,
            None => self.top_via().ok().as_ref().and_then(via::response_port),
        }
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
        self.headers.octets.of(self.reason)
    }
}

impl std::ops::Deref for Response {
    type Target = Headers;
    fn deref(&self) -> &Headers {
        &self.headers
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) name: HeaderName,
    pub(super) raw_name: Span,
    pub(super) value: Span,
}

/// What is known of a message's bytes. Boxed, so that messages are cheap to move.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    /// In order; beside the rest up to the number of an ordinary message.
    pub(super) rows: SmallVec<[Entry; 22]>,
    /// The names that are there, as bits; most that are asked for are not.
    present: u64,
    /// Those that more than one row has.
    pub(super) repeated: u64,
    pub(super) seen: Seen,
}

impl Index {
    pub(super) fn push(&mut self, entry: Entry) {
        let bit = entry.name.bit();
        self.repeated |= self.present & bit;
        self.present |= bit;
        self.rows.push(entry);
    }

    /// Is there a row of that name?
    pub(super) fn has(&self, name: HeaderName) -> bool {
        self.present & name.bit() != 0
    }

    /// The rows of that name, in order.
    pub(super) fn rows_of(&self, name: HeaderName) -> impl Iterator<Item = &Entry> {
        let rows = if self.has(name) { self.rows.as_slice() } else { &[] };
        rows.iter().filter(move |entry| entry.name == name)
    }
}

/// Up to here the allocator of the C library keeps what was freed at hand.
const _: () = assert!(size_of::<Index>() <= 1_024);

/// The header section and body of a message. Typed views borrow from it and are made on demand.
#[derive(Debug, Clone)]
pub struct Headers {
    pub(super) octets: Octets,
    pub(super) index: Box<Index>,
    pub(super) body: Span,
    pub(super) surplus: usize,
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
#[allow(clippy::large_enum_variant, reason = "read in place")]
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Message, ParseError> {
        Message::parse(Bytes::copy_from_slice(text.as_bytes()), false, &Limits::default())
    }

    fn on_stream(text: &str) -> Result<Message, ParseError> {
        Message::parse(Bytes::copy_from_slice(text.as_bytes()), true, &Limits::default())
    }

    fn status(result: Result<Message, ParseError>) -> u16 {
        result.unwrap_err().status.code()
    }

    #[test]
    fn request_and_status_lines_rfc3261_7_1_and_7_2() {
        let Ok(Message::Request(request)) = parse("\r\n\r\nOPTIONS sip:a@b sip/2.0\r\nX: y\r\n\r\nbody")
        else {
            panic!("a request");
        };
        assert_eq!((request.method(), request.uri_bytes()), (&Method::Options, &b"sip:a@b"[..]));
        assert_eq!(request.body(), b"body");
        let Ok(Message::Response(response)) = parse("SIP/2.0 183 = 2**3 \u{43d}\r\n\r\n") else {
            panic!("a response");
        };
        assert_eq!((response.status().code(), response.reason_bytes()), (183, "= 2**3 \u{43d}".as_bytes()));
        for empty in ["SIP/2.0 100 \r\n\r\n", "SIP/2.0 100\r\n\r\n"] {
            let Ok(Message::Response(response)) = parse(empty) else { panic!("a response") };
            assert_eq!(response.reason_bytes(), b"");
        }
    }

    #[test]
    fn separators_are_single_spaces_rfc3261_25_1() {
        for bad in [
            "OPTIONS  sip:a@b SIP/2.0",
            "OPTIONS sip:a@b  SIP/2.0",
            "OPTIONS sip:a@b SIP/2.0 ",
            " OPTIONS sip:a@b SIP/2.0",
            "OPTIONS\tsip:a@b SIP/2.0",
            "OPTIONS <sip:a@b> SIP/2.0",
            "OPTIONS sip:a@b; lr SIP/2.0",
            "OPTIONS sip:a@b",
            "OPTIONS",
            "",
            "SIP/2.0 99 x",
            "SIP/2.0 4294967301 x",
            "SIP/2.0 2000",
            "SIP/3.0 200 OK",
        ] {
            assert_eq!(status(parse(&format!("{bad}\r\n\r\n"))), 400, "{bad}");
        }
        assert_eq!(status(parse("OPTIONS sip:a@b SIP/7.0\r\n\r\n")), 505);
        assert_eq!(status(parse("OPTIONS sip:a@b SIP/2.0\n\n")), 400);
    }

    #[test]
    fn content_length_is_digits_once_and_true_a01() {
        let with = |rows: &str| format!("OPTIONS sip:a@b SIP/2.0\r\n{rows}\r\nbody");
        for lie in [
            "-1",
            "",
            "5x",
            "5",
            "2147483648",
            "4294967328",
            "10000000000000000000000000000000000000000",
            "+4",
            "0x4",
        ] {
            assert_eq!(status(parse(&with(&format!("Content-Length: {lie}\r\n")))), 400, "{lie}");
        }
        assert_eq!(status(parse(&with("Content-Length: 4\r\nl: 4\r\n"))), 400);
        assert_eq!(status(on_stream(&with(""))), 400);
        let short = parse(&with("Content-Length: 2\r\n")).unwrap();
        assert_eq!((short.headers().body(), short.headers().surplus()), (&b"bo"[..], 2));
        assert_eq!(parse(&with("")).unwrap().headers().body(), b"body");
        assert_eq!(parse(&with("L\t:\r\n 4\r\n")).unwrap().headers().body(), b"body");
    }

    #[test]
    fn folds_are_read_as_spaces_rfc3261_7_3_1() {
        let message =
            parse("OPTIONS sip:a@b SIP/2.0\r\nSubject:\r\n I know\r\n\tyou\r\n \r\nX: y\r\n\r\nb").unwrap();
        assert_eq!(message.headers().value(HeaderName::Subject).unwrap(), b"I know   you");
        assert_eq!(message.headers().other("x").unwrap(), b"y");
        assert_eq!(message.headers().body(), b"b");
        assert!(!message.headers().bytes().windows(3).any(|w| w == b"\r\n "));
    }

    #[test]
    fn caps_hold_at_their_edge_a05() {
        let limits = Limits { message: 400, start_line: 40, header: 50, headers: 3 };
        let parse = |text: &str| Message::parse(Bytes::copy_from_slice(text.as_bytes()), false, &limits);
        let line = |n: usize| format!("OPTIONS sip:{} SIP/2.0\r\n\r\n", "a".repeat(n - 20));
        assert!(parse(&line(40)).is_ok());
        assert_eq!(status(parse(&line(41))), 414);
        let row = |n: usize| format!("OPTIONS sip:a SIP/2.0\r\nX:{}\r\n\r\n", "a".repeat(n - 4));
        assert!(parse(&row(50)).is_ok());
        assert_eq!(status(parse(&row(51))), 513);
        let rows = |n: usize| format!("OPTIONS sip:a SIP/2.0\r\n{}\r\n", "X: y\r\n".repeat(n));
        assert!(parse(&rows(3)).is_ok());
        assert_eq!(status(parse(&rows(4))), 513);
        let whole = |n: usize| format!("OPTIONS sip:a SIP/2.0\r\n\r\n{}", "a".repeat(n - 25));
        assert!(parse(&whole(400)).is_ok());
        assert_eq!(status(parse(&whole(401))), 513);
    }

    #[test]
    fn a_datagram_may_end_with_its_last_row_rfc5118_4_10() {
        assert!(parse("OPTIONS sip:a SIP/2.0\r\nX: y\r\n").is_ok());
        assert!(parse("OPTIONS sip:a SIP/2.0\r\nX: y").is_err());
        assert!(parse("OPTIONS sip:a SIP/2.0\r\n").is_err());
        assert!(on_stream("OPTIONS sip:a SIP/2.0\r\nl: 0\r\n").is_err());
    }
}

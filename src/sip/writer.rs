//! Writes messages. Cannot emit CR, LF or NUL inside a value (`A04`).

use std::io::Write;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::sip::lexer::{self, Elements};
use crate::sip::{HeaderName, Method, Request, StatusCode};

/// A message under construction; the buffer is the message.
#[derive(Debug)]
pub struct Writer {
    pub(super) buffer: Vec<u8>,
}

impl Writer {
    /// `METHOD uri SIP/2.0`.
    pub fn request(method: &Method, uri: &str) -> Writer {
        let mut buffer = Vec::with_capacity(ORDINARY);
        buffer.extend(method.as_str().bytes().filter(|&b| lexer::is(b, lexer::TOKEN)));
        buffer.push(b' ');
        push_uri(&mut buffer, uri);
        buffer.extend_from_slice(b" SIP/2.0\r\n");
        Writer { buffer }
    }

    /// `SIP/2.0 code reason`, default phrase.
    pub fn response(status: StatusCode) -> Writer {
        Writer::response_with_reason(status, status.reason())
    }

    /// `SIP/2.0 code phrase`.
    pub fn response_with_reason(status: StatusCode, reason: &str) -> Writer {
        let mut buffer = Vec::with_capacity(ORDINARY);
        buffer.extend_from_slice(b"SIP/2.0 ");
        push_number(&mut buffer, status.code().into());
        buffer.push(b' ');
        push_value(&mut buffer, reason.as_bytes());
        buffer.extend_from_slice(b"\r\n");
        Writer { buffer }
    }

    /// A response to `request` with what 8.2.6.2 copies: all Vias in order (the topmost with the `received` and `rport` that
    /// [`crate::sip::forward::stamp`] noted), From, To (with `to_tag` if it had none and the status is not 100), Call-ID, CSeq.
    pub fn respond(request: &Request, status: StatusCode, to_tag: &str) -> Writer {
        Writer::response(status).answering(request, status, to_tag)
    }

    /// The same as [`Writer::respond`] with a reason phrase that names the problem (21.4.1).
    pub fn respond_with_reason(request: &Request, status: StatusCode, reason: &str, to_tag: &str) -> Writer {
        Writer::response_with_reason(status, reason).answering(request, status, to_tag)
    }

    /// 100 to `request`. `delay`: since it came in; said in Timestamp, if the request had one (8.2.6.1).
    pub fn trying(request: &Request, delay: Duration) -> Writer {
        let status = StatusCode::TRYING;
        let mut writer = Writer::response(status).answering(request, status, "");
        match request.text(HeaderName::Timestamp).filter(|sent| is_decimal(sent)) {
            Some(sent) if delay >= Duration::from_millis(1) => {
                let (secs, ms) = (delay.as_secs(), delay.subsec_millis());
                writer.header(HeaderName::Timestamp, format!("{sent} {secs}.{ms:03}"));
            }
            Some(_) | None => {
                writer.copy(request, HeaderName::Timestamp);
            }
        }
        writer
    }

    fn answering(mut self, request: &Request, status: StatusCode, to_tag: &str) -> Writer {
        self.copy(request, HeaderName::Via);
        self.copy(request, HeaderName::From);
        if let Some(value) = request.value(HeaderName::To) {
            self.buffer.extend_from_slice(b"To: ");
            self.buffer.extend_from_slice(value);
            if status != StatusCode::TRYING && !to_tag.is_empty() && !has_tag(request, value) {
                self.buffer.extend_from_slice(b";tag=");
                push_token(&mut self.buffer, to_tag);
            }
            self.buffer.extend_from_slice(b"\r\n");
        }
        self.copy(request, HeaderName::CallId);
        self.copy(request, HeaderName::CSeq);
        self
    }

    /// Adds a row. CR, LF and NUL in the value become spaces.
    pub fn header(&mut self, name: HeaderName, value: impl AsRef<[u8]>) -> &mut Writer {
        push_row(&mut self.buffer, name, value.as_ref());
        self
    }

    /// Adds a row whose value is these parts one after the other.
    pub fn header_of(&mut self, name: HeaderName, parts: &[&str]) -> &mut Writer {
        debug_assert!(name != HeaderName::Other, "a row needs a name");
        if name == HeaderName::Other {
            return self;
        }
        self.buffer.extend_from_slice(name.row_start().as_bytes());
        for part in parts {
            push_value(&mut self.buffer, part.as_bytes());
        }
        self.buffer.extend_from_slice(b"\r\n");
        self
    }

    /// Adds a Contact row: `<uri>`, then `params` as they stand, then `expires` in seconds.
    pub fn contact(&mut self, uri: &str, params: &[&str], expires: u32) -> &mut Writer {
        self.buffer.extend_from_slice(b"Contact: <");
        push_value(&mut self.buffer, uri.as_bytes());
        self.buffer.push(b'>');
        for part in params {
            push_value(&mut self.buffer, part.as_bytes());
        }
        self.buffer.extend_from_slice(b";expires=");
        push_number(&mut self.buffer, expires.into());
        self.buffer.extend_from_slice(b"\r\n");
        self
    }

    /// Adds a row of a name that has no [`HeaderName`].
    pub fn other_header(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Writer {
        self.buffer.extend(name.bytes().filter(|&b| lexer::is(b, lexer::TOKEN)));
        self.buffer.extend_from_slice(b": ");
        push_value(&mut self.buffer, value.as_ref());
        self.buffer.extend_from_slice(b"\r\n");
        self
    }

    /// Copies all rows of a name in order; the topmost Via with its stamp.
    pub fn copy(&mut self, request: &Request, name: HeaderName) -> &mut Writer {
        if name == HeaderName::Via {
            push_vias(&mut self.buffer, request);
        } else if name != HeaderName::Other {
            for value in request.values(name) {
                push_parsed_row(&mut self.buffer, name, value);
            }
        }
        self
    }

    /// Content-Type (if the body is not empty), Content-Length, empty line, body.
    pub fn body(mut self, content_type: &str, body: &[u8]) -> Bytes {
        if !body.is_empty() {
            self.header(HeaderName::ContentType, content_type);
        }
        push_body(&mut self.buffer, body);
        Bytes::from(self.buffer)
    }

    /// Adds rows that [`crate::sip::forward::end_to_end_rows`] or another writer wrote, as they stand.
    pub fn rows(&mut self, rows: &[u8]) -> &mut Writer {
        self.buffer.extend_from_slice(rows);
        self
    }

    /// The rows alone, without a start line before or an end behind them.
    pub fn only_rows() -> Writer {
        Writer { buffer: Vec::with_capacity(ORDINARY) }
    }

    /// What was written so far.
    pub fn into_rows(self) -> Bytes {
        Bytes::from(self.buffer)
    }

    /// Content-Length, empty line and a body whose type is among the rows already.
    pub fn body_of_rows(mut self, body: &[u8]) -> Bytes {
        push_body(&mut self.buffer, body);
        Bytes::from(self.buffer)
    }

    /// How long it will be, finished now.
    pub fn finished(&self) -> usize {
        self.buffer.len() + b"Content-Length: 0\r\n\r\n".len()
    }

    /// Content-Length: 0 and the empty line.
    pub fn finish(mut self) -> Bytes {
        push_body(&mut self.buffer, b"");
        Bytes::from(self.buffer)
    }
}

/// Room for an ordinary message, so that it is written without growing.
const ORDINARY: usize = 1_024;

/// Does the To of the request have a tag? One that cannot be read is looked through for the word.
fn has_tag(request: &Request, value: &[u8]) -> bool {
    if lexer::find(value, b';').is_none() {
        return false;
    }
    match request.to() {
        Ok(to) => to.tag().is_some(),
        Err(_) => value.windows(4).any(|window| window.eq_ignore_ascii_case(b"tag=")),
    }
}

/// `1*(DIGIT) [ "." *(DIGIT) ]` (25.1 `Timestamp`), no delay behind it.
fn is_decimal(text: &str) -> bool {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    !whole.is_empty() && whole.bytes().chain(part.bytes()).all(|b| b.is_ascii_digit())
}

/// A value from anywhere: CR, LF and NUL become spaces.
pub(super) fn push_value(buffer: &mut Vec<u8>, value: &[u8]) {
    let start = buffer.len();
    buffer.extend_from_slice(value);
    if lexer::find_control(value, 0) == value.len() {
        return;
    }
    for byte in buffer.iter_mut().skip(start) {
        if matches!(byte, b'\r' | b'\n' | 0) {
            *byte = b' ';
        }
    }
}

/// A token from anywhere: what is none in it is left out.
fn push_token(buffer: &mut Vec<u8>, token: &str) {
    let is_token = |byte: u8| lexer::is(byte, lexer::TOKEN);
    if token.bytes().all(is_token) {
        buffer.extend_from_slice(token.as_bytes());
    } else {
        buffer.extend(token.bytes().filter(|&byte| is_token(byte)));
    }
}

/// A number in decimal digits, without the machinery of formatting.
pub(super) fn push_number(buffer: &mut Vec<u8>, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut first = digits.len();
    for (at, digit) in digits.iter_mut().enumerate().rev() {
        // What is left of a division by ten fits.
        *digit = b'0' + (number % 10) as u8;
        (first, number) = (at, number / 10);
        if number == 0 {
            break;
        }
    }
    buffer.extend_from_slice(digits.get(first..).unwrap_or_default());
}

/// An address as it is written in `received`.
pub(super) fn push_address(buffer: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for (at, octet) in address.octets().into_iter().enumerate() {
                if at > 0 {
                    buffer.push(b'.');
                }
                push_number(buffer, octet.into());
            }
        }
        IpAddr::V6(address) => {
            // Writing to a vector cannot fail.
            let _ = write!(buffer, "{address}");
        }
    }
}

/// A URI from anywhere: what would break the line is escaped.
pub(super) fn push_uri(buffer: &mut Vec<u8>, uri: &str) {
    let bytes = uri.as_bytes();
    if lexer::find_control(bytes, 0) == bytes.len() && lexer::find(bytes, b' ').is_none() {
        return buffer.extend_from_slice(bytes);
    }
    for byte in uri.bytes() {
        if byte <= b' ' || byte == 0x7f {
            // Writing to a vector cannot fail.
            let _ = write!(buffer, "%{byte:02X}");
        } else {
            buffer.push(byte);
        }
    }
}

pub(super) fn push_row(buffer: &mut Vec<u8>, name: HeaderName, value: &[u8]) {
    debug_assert!(name != HeaderName::Other, "a row needs a name");
    if name == HeaderName::Other {
        return;
    }
    buffer.extend_from_slice(name.row_start().as_bytes());
    push_value(buffer, value);
    buffer.extend_from_slice(b"\r\n");
}

/// A value that came through the parser: no line end is in it, and controls only where the grammar has them.
pub(super) fn push_parsed_row(buffer: &mut Vec<u8>, name: HeaderName, value: &[u8]) {
    buffer.extend_from_slice(name.row_start().as_bytes());
    buffer.extend_from_slice(value);
    buffer.extend_from_slice(b"\r\n");
}

/// All Via rows; the stamp goes into the topmost element (18.2.1, RFC 3581 4).
pub(super) fn push_vias(buffer: &mut Vec<u8>, request: &Request) {
    let mut stamp = request.stamp.as_ref().filter(|stamp| stamp.changes());
    for value in request.values(HeaderName::Via) {
        let mut elements = Elements::new(value);
        match stamp {
            Some(due) => {
                let Some(top) = elements.next() else { continue };
                buffer.extend_from_slice(b"Via: ");
                due.write(top, buffer);
                for element in elements {
                    buffer.extend_from_slice(b", ");
                    buffer.extend_from_slice(element);
                }
                buffer.extend_from_slice(b"\r\n");
                stamp = None;
            }
            None => push_parsed_row(buffer, HeaderName::Via, value),
        }
    }
}

/// Content-Length, the empty line and the body.
pub(super) fn push_body(buffer: &mut Vec<u8>, body: &[u8]) {
    buffer.extend_from_slice(b"Content-Length: ");
    push_number(buffer, body.len() as u64);
    buffer.extend_from_slice(b"\r\n\r\n");
    buffer.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::{Limits, Message, forward};

    fn request(rows: &str) -> Request {
        let text = format!("OPTIONS sip:a@b SIP/2.0\r\n{rows}\r\n");
        match Message::parse(Bytes::from(text), false, &Limits::default()).unwrap() {
            Message::Request(request) => request,
            Message::Response(_) => panic!("a request"),
        }
    }

    fn text(bytes: Bytes) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    const ROWS: &str = "CSeq: 1 OPTIONS\r\nv: SIP/2.0/UDP h;rport, SIP/2.0/TCP i\r\nVIA: SIP/2.0/UDP j\r\nTimestamp: 54\r\ni: x\r\nt: sip:c@d\r\nf: sip:a@b;tag=1\r\n";

    #[test]
    fn a_response_copies_what_rfc3261_8_2_6_2_names() {
        let request = forward::stamp(request(ROWS), "192.0.2.1:6000".parse().unwrap());
        assert_eq!(
            text(Writer::respond(&request, StatusCode::OK, "t1").finish()),
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;received=192.0.2.1;rport=6000, SIP/2.0/TCP i\r\nVia: SIP/2.0/UDP j\r\n\
             From: sip:a@b;tag=1\r\nTo: sip:c@d;tag=t1\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        );
    }

    #[test]
    fn trying_has_no_tag_and_copies_timestamp_rfc3261_8_2_6_1() {
        let trying =
            |rows: &str, ms| text(Writer::trying(&request(rows), Duration::from_millis(ms)).finish());
        let at_once = trying(ROWS, 0);
        assert!(at_once.contains("To: sip:c@d\r\n") && at_once.contains("Timestamp: 54\r\n"));
        // The delay, in seconds, where there is one and a number to put it behind.
        assert!(trying(ROWS, 200).contains("Timestamp: 54 0.200\r\n"));
        assert!(trying(&ROWS.replace("54", "54.25"), 3_500).contains("Timestamp: 54.25 3.500\r\n"));
        for odd in ["54 0.1", "x", ".5", ""] {
            assert!(
                trying(&ROWS.replace("54", odd), 200).contains(&format!("Timestamp: {odd}\r\n")),
                "{odd}"
            );
        }
        assert!(!trying(&ROWS.replace("Timestamp: 54\r\n", ""), 200).contains("Timestamp"));
        assert!(!text(Writer::respond(&request(ROWS), StatusCode::OK, "t").finish()).contains("Timestamp"));
    }

    #[test]
    fn a_tag_of_the_requests_own_is_kept() {
        let rows = ROWS.replace("t: sip:c@d", "t: \"x\" <sip:c@d;tag=no>;tag=own");
        let ok = text(Writer::respond(&request(&rows), StatusCode::OK, "t1").finish());
        assert!(ok.contains("To: \"x\" <sip:c@d;tag=no>;tag=own\r\n"));
    }

    #[test]
    fn no_value_breaks_its_line_a04() {
        let evil = "a\r\nX: y\0";
        let mut writer = Writer::request(&Method::Extension("A\r\nB".into()), "sip:a\r\nX: y@b c");
        writer.header(HeaderName::Subject, evil).header_of(HeaderName::Reason, &[evil]);
        writer.other_header("N\r\n: ame", evil);
        assert_eq!(
            text(writer.body("t\r\n/x", b"\r\n")),
            "AB sip:a%0D%0AX:%20y@b%20c SIP/2.0\r\nSubject: a  X: y \r\nReason: a  X: y \r\nName: a  X: y \r\n\
             Content-Type: t  /x\r\nContent-Length: 2\r\n\r\n\r\n"
        );
        let response = text(Writer::response_with_reason(StatusCode::BAD_REQUEST, evil).finish());
        assert!(response.starts_with("SIP/2.0 400 a  X: y \r\n"));
    }

    #[test]
    fn numbers_and_addresses_are_written_as_formatting_writes_them() {
        for number in [0, 7, 10, 99, 100, 65_535, u64::from(u32::MAX), u64::MAX] {
            let mut buffer = Vec::new();
            push_number(&mut buffer, number);
            assert_eq!(buffer, number.to_string().into_bytes());
        }
        for address in ["0.0.0.0", "192.0.2.10", "255.255.255.255", "2001:db8::1"] {
            let mut buffer = Vec::new();
            push_address(&mut buffer, address.parse().unwrap());
            assert_eq!(buffer, address.as_bytes());
        }
    }

    #[test]
    fn rows_of_a_name_are_copied_in_order() {
        let request = request("Record-Route: <sip:a;lr>\r\nX: y\r\nrecord-route: <sip:b;lr>\r\n");
        let mut writer = Writer::response(StatusCode::OK);
        writer.copy(&request, HeaderName::RecordRoute);
        assert!(text(writer.finish()).contains("Record-Route: <sip:a;lr>\r\nRecord-Route: <sip:b;lr>\r\n"));
    }
}

//! The parts of a multipart body (RFC 2046 5.1, RFC 5621), for those who read bodies: PUBLISH. What is forwarded is never looked into.
//!
//! Bounded in number, and parts are not looked into again (`A06`): a multipart inside a multipart is a part nobody here understands.

use smallvec::SmallVec;

use crate::sip::lexer::{self, Row};
use crate::sip::params::Grammar;
use crate::sip::{HeaderName, Headers, Params, ParseError};

/// One part: what it says of itself, and its octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'a> {
    /// Content-Type as written; `text/plain` where there is none (RFC 2046 5.1).
    pub content_type: &'a [u8],
    /// Content-Encoding or Content-Transfer-Encoding other than the plain ones.
    pub is_encoded: bool,
    /// Content-Disposition with `handling=optional` (RFC 3261 20.11, RFC 5621 8.4): may be ignored if it is not understood.
    pub is_optional: bool,
    /// Its Content-Disposition, as written; empty where there is none.
    pub disposition: &'a [u8],
    /// Its body, byte for byte.
    pub body: &'a [u8],
    /// All of it: header rows, the empty line, the body.
    pub text: &'a [u8],
}

impl Part<'_> {
    /// Is it of this media type? Parameters and case do not count.
    pub fn is(&self, media_type: &str) -> bool {
        media_type_of(self.content_type).eq_ignore_ascii_case(media_type.as_bytes())
    }

    /// Is it there for this purpose (RFC 2183)? Parameters and case do not count.
    pub fn has_disposition(&self, purpose: &str) -> bool {
        media_type_of(self.disposition).eq_ignore_ascii_case(purpose.as_bytes())
    }

    /// The rows that say what its body is, for a message that has this body alone: `Content-*` but for the length, which is another one's
    /// business. Whatever else stands here is not said of a message.
    pub fn content_rows(&self) -> Vec<u8> {
        let (mut rows, mut at, mut has_type) = (Vec::new(), 0, false);
        while let Ok(Some(row)) = lexer::row(self.text, at) {
            let (name, value) = (row.raw_name.of(self.text), row.value.of(self.text));
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            let is_content = name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"Content-"));
            if is_content && !row.folded && !is("Content-Length") {
                has_type |= is("Content-Type");
                [name, b": ", value, b"\r\n"].iter().for_each(|piece| rows.extend_from_slice(piece));
            }
            at = row.end;
        }
        if !has_type {
            rows.extend_from_slice(b"Content-Type: text/plain\r\n");
        }
        rows
    }
}

impl Headers {
    /// May the body be ignored by who does not understand it? (`Content-Disposition`, 20.11)
    pub fn body_is_optional(&self) -> bool {
        self.other("Content-Disposition").is_some_and(is_optional)
    }

    /// The parts of the body: `None` if it is no multipart.
    ///
    /// # Errors
    /// 400: a boundary that is missing or malformed, a body without it or without its end, a part with malformed headers, or more than
    /// sixteen parts.
    pub fn parts(&self) -> Option<Result<SmallVec<[Part<'_>; 2]>, ParseError>> {
        let content_type = self.value(HeaderName::ContentType)?;
        let media = media_type_of(content_type);
        let is_multipart = media.get(..10).is_some_and(|start| start.eq_ignore_ascii_case(b"multipart/"));
        is_multipart.then(|| boundary(content_type).and_then(|boundary| split(self.body(), boundary)))
    }
}

fn media_type_of(content_type: &[u8]) -> &[u8] {
    let end = content_type.iter().position(|&b| b == b';').unwrap_or(content_type.len());
    lexer::trim(content_type.get(..end).unwrap_or_default())
}

/// RFC 2046 5.1.1: 1 to 70 characters, none of them a line end.
fn boundary(content_type: &[u8]) -> Result<&str, ParseError> {
    let bad = || ParseError::bad("Malformed boundary", 0);
    let text = std::str::from_utf8(content_type).map_err(|_| bad())?;
    let params = text.find(';').and_then(|at| text.get(at..)).ok_or_else(bad)?;
    let boundary = Params::parse(params, Grammar::Header)?.get("boundary").ok_or_else(bad)?;
    let is_fit = (1..=70).contains(&boundary.len()) && boundary.bytes().all(|b| (b' '..0x7f).contains(&b));
    if is_fit { Ok(boundary) } else { Err(bad()) }
}

/// What stands between the delimiters; what stands before the first and after the last is nobody's.
fn split<'a>(body: &'a [u8], boundary: &str) -> Result<SmallVec<[Part<'a>; 2]>, ParseError> {
    let mut parts = SmallVec::new();
    // Where the line that is looked at begins, and where the part that is open does.
    let (mut line, mut open) = (0, None);
    while line < body.len() {
        let end = body.iter().skip(line).position(|&b| b == b'\n').map_or(body.len(), |feed| line + feed + 1);
        if let Some(closes) = delimiter(body.get(line..end).unwrap_or_default(), boundary) {
            if let Some(start) = open {
                if parts.len() == MAX_PARTS {
                    return Err(ParseError::bad("Too many parts", line));
                }
                // The line end before a delimiter is the delimiter's.
                let text = body.get(start..line).unwrap_or_default();
                parts.push(part(text.strip_suffix(b"\r\n").or(text.strip_suffix(b"\n")).unwrap_or(text))?);
            }
            if closes {
                return if parts.is_empty() { Err(ParseError::bad("No parts", line)) } else { Ok(parts) };
            }
            open = Some(end);
        }
        line = end;
    }
    Err(ParseError::bad("Multipart without end", body.len()))
}

/// `--boundary`, with `--` behind it if it is the last; white space may follow.
fn delimiter(line: &[u8], boundary: &str) -> Option<bool> {
    let rest = line.strip_prefix(b"--")?.strip_prefix(boundary.as_bytes())?;
    let (rest, closes) = match rest.strip_prefix(b"--") {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    lexer::trim(rest).is_empty().then_some(closes)
}

fn part(text: &[u8]) -> Result<Part<'_>, ParseError> {
    let mut part = Part {
        content_type: b"text/plain",
        is_encoded: false,
        is_optional: false,
        disposition: b"",
        body: b"",
        text,
    };
    let mut at = 0;
    loop {
        if text.len() <= at {
            // No empty line: headers alone.
            return Ok(part);
        }
        let Some(row) = lexer::row(text, at)? else { break };
        read_row(&mut part, text, &row)?;
        at = row.end;
    }
    part.body = text.get(at + 2..).unwrap_or_default();
    Ok(part)
}

fn read_row<'a>(part: &mut Part<'a>, text: &'a [u8], row: &Row) -> Result<(), ParseError> {
    let (name, value) = (row.raw_name.of(text), row.value.of(text));
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    if row.folded && (is("Content-Type") || is("Content-Disposition")) {
        return Err(ParseError::bad("Folded header in part", row.value.start as usize));
    }
    if is("Content-Type") {
        part.content_type = value;
    } else if is("Content-Disposition") {
        part.is_optional = is_optional(value);
        part.disposition = value;
    } else if is("Content-Encoding") || is("Content-Transfer-Encoding") {
        let plain: [&[u8]; 4] = [b"identity", b"binary", b"8bit", b"7bit"];
        part.is_encoded |= !plain.iter().any(|plain| value.eq_ignore_ascii_case(plain));
    }
    Ok(())
}

/// 20.11: `handling` is `required` unless it says otherwise.
fn is_optional(disposition: &[u8]) -> bool {
    std::str::from_utf8(disposition)
        .ok()
        .and_then(|text| text.find(';').and_then(|at| text.get(at..)))
        .and_then(|params| Params::parse(params, Grammar::Header).ok())
        .and_then(|params| params.get("handling"))
        .is_some_and(|handling| handling.eq_ignore_ascii_case("optional"))
}

/// More is no document with attachments (`A06`).
const MAX_PARTS: usize = 16;

#[cfg(test)]
mod tests {
    use crate::sip::{Limits, Message};

    fn message(content_type: &str, body: &str) -> Message {
        let text = format!("PUBLISH sip:a@b SIP/2.0\r\nContent-Type: {content_type}\r\n\r\n{body}");
        Message::parse(text.into(), false, &Limits::default()).unwrap()
    }

    fn bodies(content_type: &str, body: &str) -> Option<Result<Vec<String>, &'static str>> {
        let message = message(content_type, body);
        let parts = message.headers().parts()?;
        Some(
            parts.map_err(|e| e.what).map(|parts| {
                parts.iter().map(|part| String::from_utf8(part.body.to_vec()).unwrap()).collect()
            }),
        )
    }

    #[test]
    fn parts_are_what_stands_between_the_delimiters_rfc2046_5_1() {
        let body = "preamble\r\n--b\r\nContent-Type: text/html\r\n\r\none\r\n\r\n--b \r\n\r\n--bb\r\ntwo\r\n--b--\r\nepilogue\r\n--b\r\n";
        assert_eq!(
            bodies("multipart/mixed;boundary=b", body),
            Some(Ok(vec!["one\r\n".into(), "--bb\r\ntwo".into()]))
        );
        assert_eq!(
            bodies("Multipart/Related ; type=x; BOUNDARY=\"a b\"", "--a b\r\n\r\nx\r\n--a b--"),
            Some(Ok(vec!["x".into()]))
        );
        assert_eq!(bodies("text/plain", body), None);
    }

    #[test]
    fn a_part_says_what_it_is_and_whether_it_is_needed_rfc5621_8_4() {
        let rows = "c: text/html\r\nContent-TYPE : Application/PIDF+xml;x=y\r\nContent-Disposition: render;handling=OPTIONAL\r\n\
                    Content-Transfer-Encoding: base64\r\n";
        let message =
            message("multipart/mixed;boundary=b", &format!("--b\r\n{rows}\r\nx\r\n--b\r\n\r\ny\r\n--b--"));
        let parts = message.headers().parts().unwrap().unwrap();
        assert!(parts[0].is("application/pidf+xml") && parts[0].is_optional && parts[0].is_encoded);
        assert!(parts[1].is("text/plain") && !parts[1].is_optional && !parts[1].is_encoded);
    }

    #[test]
    fn what_is_no_multipart_is_refused_a06() {
        let whole = "--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--";
        for (content_type, body) in [
            ("multipart/mixed", whole),
            ("multipart/mixed;boundary=", whole),
            ("multipart/mixed;boundary=\"\"", whole),
            ("multipart/mixed;boundary=\"a\u{fc}\"", whole),
            ("multipart/mixed;boundary=c", whole),
            ("multipart/mixed;boundary=b", "--b--"),
            ("multipart/mixed;boundary=b", "x"),
            ("multipart/mixed;boundary=b", "--b\r\nno header\r\n\r\n--b--"),
            ("multipart/mixed;boundary=b", "--b\r\nX: \0\r\n\r\n--b--"),
        ] {
            assert!(matches!(bodies(content_type, body), Some(Err(_))), "{content_type} {body:?}");
        }
        assert!(matches!(
            bodies(&format!("multipart/mixed;boundary={}", "b".repeat(71)), whole),
            Some(Err(_))
        ));
        // Cut short anywhere before the last delimiter is whole.
        for end in 0..whole.len() {
            assert!(matches!(bodies("multipart/mixed;boundary=b", &whole[..end]), Some(Err(_))), "{end}");
        }
        let many = |count| format!("{}--b--", "--b\r\n\r\nx\r\n".repeat(count));
        assert!(matches!(bodies("multipart/mixed;boundary=b", &many(16)), Some(Ok(_))));
        assert_eq!(bodies("multipart/mixed;boundary=b", &many(17)), Some(Err("Too many parts")));
    }
}

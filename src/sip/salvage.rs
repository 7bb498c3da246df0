//! A lenient reading of a request that could not be parsed, good enough to refuse it (RFC 3261 8.2, 16.3 step 1).

use bytes::Bytes;

use crate::sip::lexer::{self, Span};
use crate::sip::message::{Entry, Headers, Index, unfolded};
use crate::sip::octets::Octets;
use crate::sip::{HeaderName, Method, Request};

/// Reads what an error response needs: `None` unless From, To, Call-ID and CSeq are there once and can be read, and a Via is there.
/// A Via that cannot be read is echoed as the row it is (8.2.6.2); the answer goes to where the request came from (RFC 4475 3.1.2.1).
///
/// Never for a response or an ACK: those are dropped and counted. Rows that no line of a message may hold are left out, so that
/// nothing of them is echoed; there is no body. The result serves [`crate::sip::Writer::respond`] and nothing else.
pub fn salvage(bytes: &Bytes) -> Option<Request> {
    let bytes = bytes.slice(..bytes.len().min(LONGEST));
    let bytes = if bytes.windows(2).any(|pair| pair == b"\r\n") { bytes } else { with_line_ends(&bytes) };
    let start = bytes.chunks_exact(2).take_while(|pair| pair == b"\r\n").count() * 2;
    let line_end = start + bytes.get(start..)?.windows(2).position(|pair| pair == b"\r\n")?;
    let rest = bytes.get(line_end..)?;
    let section_end =
        line_end + rest.windows(4).position(|four| four == b"\r\n\r\n").map_or(rest.len(), |at| at + 4);
    let bytes = unfolded(&bytes, line_end + 2, section_end);

    let line = bytes.get(start..line_end)?;
    let (method, uri) = request_line(line)?;
    let mut index: Box<Index> = Box::default();
    let mut at = line_end + 2;
    while at < section_end && index.rows.len() < MOST_ROWS {
        let rest = bytes.get(at..section_end)?;
        let end = at + rest.windows(2).position(|pair| pair == b"\r\n").map_or(rest.len(), |found| found + 2);
        if let Ok(Some(row)) = lexer::row(&bytes, at)
            && row.end == end
        {
            let name = HeaderName::parse(row.raw_name.of(&bytes));
            index.push(Entry { name, raw_name: row.raw_name, value: row.value });
        }
        at = end;
    }
    let headers = Headers { octets: Octets::new(bytes), index, body: Span::default(), surplus: 0 };
    let uri = Span { start: start as u32 + uri.start, end: start as u32 + uri.end };
    is_answerable(&method, &headers).then_some(Request { method, uri, headers, stamp: None })
}

/// More than any message we accept; beyond it nothing is worth an answer.
const LONGEST: usize = 128 * 1024;
const MOST_ROWS: usize = 512;

fn with_line_ends(bytes: &[u8]) -> Bytes {
    let mut copy = Vec::with_capacity(bytes.len() + bytes.len() / 16);
    for &byte in bytes {
        if byte == b'\n' {
            copy.push(b'\r');
        }
        copy.push(byte);
    }
    Bytes::from(copy)
}

/// A method, anything, and at the end something that claims to be SIP.
fn request_line(line: &[u8]) -> Option<(Method, Span)> {
    let method_end = line.iter().position(|&b| lexer::is_blank(b))?;
    let method = Method::parse(line.get(..method_end)?).ok()?;
    let trimmed = lexer::trim(line);
    let version = trimmed.len() - trimmed.iter().rev().take_while(|&&b| !lexer::is_blank(b)).count();
    let claims_sip = trimmed.get(version..version + 4)?.eq_ignore_ascii_case(b"SIP/");
    claims_sip.then(|| (method, Span::new((method_end + 1).min(version), version)))
}

fn is_answerable(method: &Method, headers: &Headers) -> bool {
    let once = |name| headers.values(name).count() == 1;
    let cseq = headers.cseq();
    *method != Method::Ack
        && [HeaderName::From, HeaderName::To, HeaderName::CallId, HeaderName::CSeq].into_iter().all(once)
        && headers.value(HeaderName::Via).is_some()
        && headers.from().is_ok()
        && headers.to().is_ok()
        && headers.call_id().is_ok()
        && cseq.is_ok_and(|cseq| cseq.method != Method::Ack)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::{StatusCode, Writer, forward};

    const ROWS: &str = "Via: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\ni: x\r\nCSeq: 1 OPTIONS\r\n";

    fn rescued(text: &str) -> bool {
        salvage(&Bytes::copy_from_slice(text.as_bytes())).is_some()
    }

    #[test]
    fn what_an_error_response_needs_is_enough() {
        for line in [
            "OPTIONS <sip:a@b> SIP/2.0",
            "OPTIONS sip:a@b SIP/7.0",
            "OPTIONS  sip:a  SIP/2.0  ",
            "OPTIONS sip:a; lr SIP/2.0",
        ] {
            assert!(rescued(&format!("{line}\r\n{ROWS}\r\n")), "{line}");
        }
        assert!(rescued(&format!("OPTIONS sip:a@b SIP/2.0\r\n{ROWS}l: -9\r\nbad row\r\nX: \0\r\n\r\n")));
        assert!(rescued(&format!("OPTIONS sip:a@b SIP/2.0\r\n{ROWS}\r\n").replace("\r\n", "\n")));
        assert!(rescued(&format!("\r\nOPTIONS sip:a@b SIP/2.0\r\n{ROWS}Subject: cut of")));
    }

    #[test]
    fn nothing_malformed_is_echoed_a04() {
        let text = format!("OPTIONS sip:a@b SIP/2.0\r\n{ROWS}v: SIP/2.0/UDP evil\0\r\nl: x\r\n\r\n");
        let request = salvage(&Bytes::from(text)).unwrap();
        let response = Writer::respond(&request, StatusCode::BAD_REQUEST, "t").finish();
        assert!(!response.contains(&0) && !response.windows(4).any(|w| w == b"evil"));
    }

    #[test]
    fn an_unreadable_via_is_echoed_as_it_is_rfc4475_3_1_2_1() {
        let via = "Via: SIP/2.0/UDP 192.0.2.15;;,;,,\r\n";
        let text = format!(
            "OPTIONS sip:a@b SIP/2.0\r\n{}\r\n",
            ROWS.replacen("Via: SIP/2.0/UDP h;branch=z9hG4bK1\r\n", via, 1)
        );
        let request = forward::stamp(salvage(&Bytes::from(text)).unwrap(), "192.0.2.1:6000".parse().unwrap());
        // Nobody says where else to answer.
        assert_eq!(request.response_port(), None);
        let response = Writer::respond(&request, StatusCode::BAD_REQUEST, "t").finish();
        assert!(response.starts_with(format!("SIP/2.0 400 Bad Request\r\n{via}From: ").as_bytes()));
        assert!(!rescued(&format!(
            "OPTIONS sip:a@b SIP/2.0\r\n{}\r\n",
            ROWS.replacen("Via: SIP/2.0/UDP h;branch=z9hG4bK1\r\n", "", 1)
        )));
    }

    #[test]
    fn acks_responses_and_rubbish_get_no_answer() {
        assert!(!rescued(&format!("ACK sip:a@b SIP/7.0\r\n{ROWS}\r\n")));
        assert!(!rescued(&format!("SIP/2.0 2000 x\r\n{ROWS}\r\n")));
        assert!(!rescued(&format!("GET / HTTP/1.1\r\n{ROWS}\r\n")));
        assert!(!rescued(&format!("OPTIONS sip:a SIP/2.0\r\n{ROWS}From: <sip:x@y>\r\n\r\n")));
        assert!(!rescued("OPTIONS sip:a SIP/2.0\r\n\r\n"));
        assert!(!rescued(""));
        assert!(!rescued("\r\n"));
        assert!(!rescued("\u{0}\u{1}"));
    }
}

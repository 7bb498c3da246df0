//! Cuts a byte stream into messages (RFC 3261 7.5, 18.3; RFC 5626 3.5.1).
//!
//! Only line ends, row syntax and Content-Length are looked at; what a message says is the parser's affair. A row that two
//! systems could read differently ends the stream, for its length cannot be trusted (`A03`).

use bytes::{Buf, Bytes, BytesMut};

use crate::sip::message::read_content_length;
use crate::sip::{HeaderName, Limits, ParseError, StatusCode, lexer};

/// One thing read from a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A whole message, header to end of body.
    Message(Bytes),
    /// CRLF CRLF between messages: a keep-alive that is owed a CRLF.
    Ping,
}

/// What a stream is in the middle of; deadlines hang on it (`A22`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Between messages.
    Idle,
    /// A start line or header has begun.
    Headers,
    /// The header section is complete, the body is not.
    Body,
}

/// Incremental and linear: bytes already looked at are not looked at again.
#[derive(Debug)]
pub struct Framer {
    buffer: BytesMut,
    limits: Limits,
    /// Up to here no line end is left to be found.
    scanned: usize,
    /// Start of the line that is being read.
    line: usize,
    lines: usize,
    /// Whole length of the message whose header section is complete.
    needed: Option<usize>,
    failed: Option<ParseError>,
    /// End of the header section that failed.
    failed_section: Option<usize>,
}

impl Framer {
    /// An empty framer.
    pub fn new(limits: Limits) -> Framer {
        Framer {
            buffer: BytesMut::new(),
            limits,
            scanned: 0,
            line: 0,
            lines: 0,
            needed: None,
            failed: None,
            failed_section: None,
        }
    }

    /// Where the next bytes are read into (`BytesMut` with spare room).
    pub fn buffer_mut(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next whole frame; `Ok(None)` if more bytes are needed. After an error the stream must be closed; if the error
    /// concerns a request whose header section is complete, `partial` returns those bytes so that a 400 can be sent.
    ///
    /// # Errors
    /// Caps exceeded (414, 513, 413), a line end that is not CRLF, a malformed row, Content-Length missing or wrong (400).
    /// The error stays.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ParseError> {
        if let Some(problem) = self.failed {
            return Err(problem);
        }
        let result = self.step();
        self.failed = result.as_ref().err().copied();
        result
    }

    /// The header section that caused the last error, if complete.
    pub fn partial(&self) -> Option<Bytes> {
        let section = self.buffer.get(..self.failed_section?)?;
        Some(Bytes::copy_from_slice(section))
    }

    /// Where the stream stands.
    pub fn phase(&self) -> Phase {
        match self.needed {
            Some(_) => Phase::Body,
            None if self.buffer.iter().take(4).all(|b| matches!(b, b'\r' | b'\n')) => Phase::Idle,
            None => Phase::Headers,
        }
    }

    fn step(&mut self) -> Result<Option<Frame>, ParseError> {
        if self.needed.is_none() {
            if self.scanned == 0 {
                match self.skip_line_ends() {
                    Between::Ping => return Ok(Some(Frame::Ping)),
                    Between::Undecided => return Ok(None),
                    Between::Message => {}
                }
            }
            let Some(section) = self.find_section_end()? else { return Ok(None) };
            self.needed =
                Some(self.whole_length(section).inspect_err(|_| self.failed_section = Some(section))?);
        }
        match self.needed {
            Some(needed) if self.buffer.len() >= needed => {
                (self.scanned, self.line, self.lines, self.needed) = (0, 0, 0, None);
                Ok(Some(Frame::Message(self.buffer.split_to(needed).freeze())))
            }
            _ => Ok(None),
        }
    }

    /// CRLF CRLF is a ping, a single CRLF before a start line is skipped.
    fn skip_line_ends(&mut self) -> Between {
        match self.buffer.get(..self.buffer.len().min(4)).unwrap_or_default() {
            b"\r\n\r\n" => {
                self.buffer.advance(4);
                Between::Ping
            }
            b"" | b"\r" | b"\r\n" | b"\r\n\r" => Between::Undecided,
            [b'\r', b'\n', ..] => {
                self.buffer.advance(2);
                Between::Message
            }
            _ => Between::Message,
        }
    }

    /// The position after the empty line, looking only at what is new.
    fn find_section_end(&mut self) -> Result<Option<usize>, ParseError> {
        while let Some(feed) = lexer::find_line_feed(&self.buffer, self.scanned) {
            self.scanned = feed + 1;
            let end = feed + 1;
            self.check_line(end)?;
            if feed == 0 || self.buffer.get(feed - 1) != Some(&b'\r') {
                return Err(ParseError::bad("Bare LF in header", feed));
            }
            if end - self.line == 2 && self.lines > 0 {
                return Ok(Some(end));
            }
            self.line = end;
            self.lines += 1;
        }
        self.scanned = self.buffer.len();
        self.check_line(self.scanned)?;
        Ok(None)
    }

    /// Caps of a line that reaches to `end`, complete or not.
    fn check_line(&self, end: usize) -> Result<(), ParseError> {
        let length = end - self.line;
        // A start line is measured without its CRLF, a row with it, as the parser does.
        if self.lines == 0 && length > self.limits.start_line + 2 {
            return Err(ParseError::owing(StatusCode::REQUEST_URI_TOO_LONG, "Start line too long", end));
        }
        if self.lines > 0 && length > self.limits.header {
            return Err(ParseError::owing(StatusCode::MESSAGE_TOO_LARGE, "Header too long", self.line));
        }
        if end > self.limits.message {
            return Err(ParseError::owing(
                StatusCode::MESSAGE_TOO_LARGE,
                "Message too large",
                self.limits.message,
            ));
        }
        Ok(())
    }

    fn whole_length(&self, section: usize) -> Result<usize, ParseError> {
        let bytes = self.buffer.get(..section).unwrap_or_default();
        let mut at = lexer::find_line_feed(bytes, 0).map_or(section, |feed| feed + 1);
        let (mut length, mut rows) = (None, 0);
        while let Some(row) = lexer::row(bytes, at)? {
            rows += 1;
            if rows > self.limits.headers {
                return Err(ParseError::owing(StatusCode::MESSAGE_TOO_LARGE, "Too many headers", at));
            }
            if HeaderName::parse(row.raw_name.of(bytes)) == HeaderName::ContentLength {
                read_content_length(bytes, &row, &mut length)?;
            }
            at = row.end;
        }
        let length = length.ok_or_else(|| ParseError::bad("Missing Content-Length", section))?;
        let whole = section.saturating_add(length as usize);
        if whole > self.limits.message {
            let status = StatusCode::REQUEST_ENTITY_TOO_LARGE;
            return Err(ParseError::owing(status, "Request entity too large", section));
        }
        Ok(whole)
    }
}

enum Between {
    Ping,
    Undecided,
    Message,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sip::Message;

    fn feed(framer: &mut Framer, bytes: &[u8], frames: &mut Vec<Result<Frame, ParseError>>) {
        framer.buffer_mut().extend_from_slice(bytes);
        loop {
            match framer.next_frame() {
                Ok(Some(frame)) => frames.push(Ok(frame)),
                Ok(None) => return,
                Err(problem) => {
                    if !matches!(frames.last(), Some(Err(_))) {
                        frames.push(Err(problem));
                    }
                    return;
                }
            }
        }
    }

    fn cut(stream: &[u8], sizes: &[usize], limits: Limits) -> Vec<Result<Frame, ParseError>> {
        let (mut framer, mut frames, mut rest) = (Framer::new(limits), Vec::new(), stream);
        for &size in sizes {
            let (now, later) = rest.split_at(size.min(rest.len()));
            feed(&mut framer, now, &mut frames);
            rest = later;
        }
        feed(&mut framer, rest, &mut frames);
        frames
    }

    fn message(body: usize) -> String {
        format!("OPTIONS sip:a SIP/2.0\r\nX: y\r\n z\r\nl:\r\n {body}\r\n\r\n{}", "b".repeat(body))
    }

    #[test]
    fn messages_pings_and_leftover_line_ends_rfc5626_3_5_1() {
        let stream = format!("\r\n\r\n{}\r\n{}\r\n\r\n\r\n\r\n\r\n{}", message(3), message(0), message(1));
        let frames = cut(stream.as_bytes(), &[], Limits::default());
        let expected = [
            Frame::Ping,
            Frame::Message(message(3).into()),
            Frame::Message(message(0).into()),
            Frame::Ping,
            Frame::Ping,
            Frame::Message(message(1).into()),
        ];
        assert_eq!(frames, expected.map(Ok));
    }

    #[test]
    fn every_split_in_two_yields_the_same_rfc3261_7_5() {
        let stream = format!("{}{}\r\n\r\n{}", message(5), message(0), message(2));
        let whole = cut(stream.as_bytes(), &[], Limits::default());
        for at in 0..stream.len() {
            assert_eq!(cut(stream.as_bytes(), &[at], Limits::default()), whole, "split at {at}");
        }
        assert_eq!(cut(stream.as_bytes(), &vec![1; stream.len()], Limits::default()), whole);
    }

    #[test]
    fn phases_tell_what_a_deadline_is_for_a22() {
        let mut framer = Framer::new(Limits::default());
        for (bytes, phase) in [
            ("", Phase::Idle),
            ("\r\n", Phase::Idle),
            ("OPT", Phase::Headers),
            ("IONS sip:a SIP/2.0\r\nl: 2\r\n", Phase::Headers),
            ("\r\n", Phase::Body),
            ("x", Phase::Body),
        ] {
            framer.buffer_mut().extend_from_slice(bytes.as_bytes());
            assert_eq!(framer.next_frame(), Ok(None));
            assert_eq!(framer.phase(), phase);
        }
        framer.buffer_mut().extend_from_slice(b"x");
        assert!(matches!(framer.next_frame(), Ok(Some(Frame::Message(_)))));
        assert_eq!(framer.phase(), Phase::Idle);
    }

    #[test]
    fn errors_stay_and_keep_a_complete_header_section() {
        for (rows, status) in [
            ("X: y\r\n", 400),
            ("l: -1\r\n", 400),
            ("l: 1\r\nContent-Length: 1\r\n", 400),
            ("l: 70000\r\n", 413),
            ("l: 4294967296\r\n", 400),
            ("X: \0\r\nl: 0\r\n", 400),
            ("nonsense\r\n", 400),
        ] {
            let text = format!("OPTIONS sip:a SIP/2.0\r\n{rows}\r\n");
            let mut framer = Framer::new(Limits::default());
            framer.buffer_mut().extend_from_slice(text.as_bytes());
            assert_eq!(framer.next_frame().unwrap_err().status.code(), status, "{rows}");
            assert!(framer.next_frame().is_err());
            assert_eq!(framer.partial().unwrap(), text.as_bytes());
        }
        let mut framer = Framer::new(Limits::default());
        framer.buffer_mut().extend_from_slice(b"OPTIONS sip:a SIP/2.0\n\n");
        assert!(framer.next_frame().is_err() && framer.partial().is_none());
    }

    #[test]
    fn caps_hold_before_the_end_is_seen_a05() {
        let limits = Limits { message: 200, start_line: 40, header: 50, headers: 3 };
        let status =
            |text: &str| cut(text.as_bytes(), &[], limits).pop().map(|r| r.map_err(|e| e.status.code()));
        assert_eq!(status(&"a".repeat(43)), Some(Err(414)));
        assert_eq!(status(&format!("a\r\n{}", "a".repeat(51))), Some(Err(513)));
        assert_eq!(status(&format!("a\r\n{}", "a:b\r\n".repeat(40))), Some(Err(513)));
        assert_eq!(status(&format!("a\r\n{}\r\n", "a:b\r\n".repeat(4))), Some(Err(513)));
        assert_eq!(status(&"a".repeat(42)), None);
    }

    proptest! {
        #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]
        #[test]
        fn segmentation_does_not_matter(
            pieces in proptest::collection::vec(prop_oneof![
                Just("\r\n".to_owned()), Just("\r\n\r\n".to_owned()), (0usize..9).prop_map(message),
                Just("\r".to_owned()), Just("OPTIONS sip:a SIP/2.0\r\nl: x\r\n\r\n".to_owned()), Just("\n".to_owned()),
                Just("X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".to_owned()),
            ], 0..8),
            sizes in proptest::collection::vec(0usize..40, 0..40),
            small in any::<bool>(),
        ) {
            let stream = pieces.concat();
            let limits = if small { Limits { message: 90, start_line: 30, header: 40, headers: 3 } } else { Limits::default() };
            let whole = cut(stream.as_bytes(), &[], limits);
            let outcome = |frames: &[Result<Frame, ParseError>]| -> Vec<Result<Frame, StatusCode>> {
                frames.iter().cloned().map(|f| f.map_err(|e| e.status)).collect()
            };
            prop_assert_eq!(outcome(&cut(stream.as_bytes(), &sizes, limits)), outcome(&whole));
        }

        #[test]
        fn a_frame_parses_without_surplus(body in 0usize..100) {
            let frames = cut(message(body).as_bytes(), &[7, 7, 7], Limits::default());
            let Some(Ok(Frame::Message(bytes))) = frames.first() else { panic!("a frame") };
            let parsed = Message::parse(bytes.clone(), true, &Limits::default()).unwrap();
            prop_assert_eq!(parsed.headers().body().len(), body);
            prop_assert_eq!(parsed.headers().surplus(), 0);
        }
    }
}

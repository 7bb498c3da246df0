//! Cuts a byte stream into messages (RFC 3261 7.5, 18.3; RFC 5626 3.5.1).

use bytes::{Bytes, BytesMut};

use crate::sip::{Limits, ParseError};

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
    pub(super) buffer: BytesMut,
    pub(super) limits: Limits,
    pub(super) scanned: usize,
    pub(super) needed: Option<usize>,
}

impl Framer {
    /// An empty framer.
    pub fn new(limits: Limits) -> Framer {
        Framer { buffer: BytesMut::new(), limits, scanned: 0, needed: None }
    }
    /// Where the next bytes are read into (`BytesMut` with spare room).
    pub fn buffer_mut(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }
    /// The next whole frame; `Ok(None)` if more bytes are needed. After an error the stream must be closed; if the error
    /// concerns a request whose header section is complete, `partial` returns those bytes so that a 400 can be sent.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ParseError> {
        todo!()
    }
    /// The header section that caused the last error, if complete.
    pub fn partial(&self) -> Option<Bytes> {
        todo!()
    }
    /// Where the stream stands.
    pub fn phase(&self) -> Phase {
        todo!()
    }
}

//! How messages find their transaction (RFC 3261 17.1.3, 17.2.3).

use crate::sip::{ParseError, Request, Response};

/// Server side: branch + sent-by + method (ACK matches INVITE), or the RFC 2543 rules when the branch has no cookie. A 128-bit
/// keyed hash would do as well as the text; equality is what matters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerKey(pub(super) Box<[u8]>);

impl ServerKey {
    /// The key of the transaction that this request makes or belongs to. For ACK: the key of its INVITE.
    pub fn of(request: &Request) -> Result<ServerKey, ParseError> {
        let _ = request;
        todo!()
    }
    /// For a CANCEL: the key of the request it cancels (an INVITE or other; 9.2 says same branch, sent-by, method ignored: INVITE here).
    pub fn cancelled_by(cancel: &Request) -> Result<ServerKey, ParseError> {
        let _ = cancel;
        todo!()
    }
    /// A number to choose a shard by.
    pub fn shard_hash(&self) -> u64 {
        todo!()
    }
    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Client side: branch of our Via + CSeq method.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientKey(pub(super) Box<[u8]>);

impl ClientKey {
    /// Of a request as sent.
    pub fn of_request(request: &Request) -> Result<ClientKey, ParseError> {
        let _ = request;
        todo!()
    }
    /// Of a response, by its top Via and CSeq.
    pub fn of_response(response: &Response) -> Result<ClientKey, ParseError> {
        let _ = response;
        todo!()
    }
    /// A number to choose a shard by.
    pub fn shard_hash(&self) -> u64 {
        todo!()
    }
}

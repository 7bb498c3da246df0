//! Writes the copy of a message that a proxy sends on (RFC 3261 16.6, 16.7), from its parsed form.
//!
//! Unknown headers keep their bytes and order. What routing and security depend on is written anew.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::sip::{HeaderName, Request, Response};

/// What changes in a forwarded request; `Default` changes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestEdits<'a> {
    /// New Request-URI (16.6 step 2).
    pub uri: Option<&'a str>,
    /// Value of Max-Forwards to write (16.6 step 3); `None` keeps.
    pub max_forwards: Option<u8>,
    /// A complete Via value to put on top (16.6 step 8).
    pub via: Option<&'a str>,
    /// How many Route elements to take from the top (16.4).
    pub drop_routes: usize,
    /// Route values to put before the remaining ones (Path of the binding), each `<uri>`.
    pub routes: &'a [&'a str],
    /// Record-Route values to put on top, first one topmost, each `<uri>` (16.6 step 4).
    pub record_routes: &'a [&'a str],
    /// Rows of these names are dropped.
    pub remove: &'a [HeaderName],
    /// Drop Proxy-Authorization and Authorization rows whose realm is this one (22.3; `A10`).
    pub remove_credentials_of: Option<&'a str>,
    /// Rows to add after the routing headers.
    pub add: &'a [(HeaderName, &'a str)],
    /// Value of Max-Breadth to write; `None` keeps.
    pub max_breadth: Option<u32>,
}

/// The copy of a request. Content-Length is always written, right (16.6 step 9).
pub fn request(request: &Request, edits: &RequestEdits<'_>) -> Bytes {
    let _ = (request, edits);
    todo!()
}

/// The copy of a response without its topmost Via (16.7 step 3). `None` if no Via is left: it was for us.
pub fn response(response: &Response) -> Option<Bytes> {
    let _ = response;
    todo!()
}

/// Stamps `received` and `rport` into the topmost Via (RFC 3261 18.2.1, RFC 3581 4): `received` if the sent-by is not
/// numerically the source or `rport` was asked; `rport` is filled if it was there. Returns the request unchanged if nothing is due.
pub fn stamp(request: Request, source: SocketAddr) -> Request {
    let _ = source;
    request
}

/// The ACK for a non-2xx final (17.1.1.3): Request-URI, top Via, From, Call-ID, Route and CSeq number of the `invite` as sent, To of the `response`.
pub fn ack(invite: &Request, response: &Response) -> Bytes {
    let _ = (invite, response);
    todo!()
}

/// The CANCEL of a request as sent (9.1). `reason`: a Reason header value (RFC 3326).
pub fn cancel(invite: &Request, reason: Option<&str>) -> Bytes {
    let _ = (invite, reason);
    todo!()
}

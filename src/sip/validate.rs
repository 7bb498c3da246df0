//! Is a parsed message fit to be acted on? (RFC 3261 8.1.1, 16.3 step 1, 8.2.2; `A02`..`A05`)

use crate::sip::{ParseError, Request, Response};

/// Mandatory headers present once and well-formed, CSeq method agrees, counts and lengths in bounds, no request-scheme problem.
///
/// # Errors
/// The status owed (400, 413, 414, 416, 420, 483 are for callers; here 400, 414, 505, 513) and a phrase for the reason.
pub fn request(request: &Request) -> Result<(), ParseError> {
    let _ = request;
    todo!()
}

/// Mandatory headers of a response; a bad response is dropped and counted.
pub fn response(response: &Response) -> Result<(), ParseError> {
    let _ = response;
    todo!()
}

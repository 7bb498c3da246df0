//! May this MESSAGE be delivered at all? Pure.

use crate::model::Reject;
use crate::sip::{HeaderName, Request, StatusCode};

/// A MESSAGE with a body must say what the body is (RFC 3261 7.4.1, 20.15). Which types a device takes is the device's business (RFC 3428 7).
///
/// # Errors
/// 400.
pub fn admit(request: &Request) -> Result<(), Reject> {
    if !request.body().is_empty() && request.value(HeaderName::ContentType).is_none() {
        return Err(Reject::because(StatusCode::BAD_REQUEST, "Missing Content-Type"));
    }
    Ok(())
}

//! Package `presence` (RFC 3856): what everything published and registered comes to, as far as a watcher may see it.

use crate::availability::composition::unavailable;
use crate::availability::document::pidf::{PIDF_DIFF, Pidf};
use crate::availability::view::{self, Grant, View};
use crate::model::{Aor, HomeState, Reject, Timestamp};
use crate::presence::package::{Document, Format};
use crate::sip::{HeaderName, StatusCode, Uri};

/// The first is the default (RFC 3856 6.5).
pub(super) const FORMATS: &[Format] = &[Format::Pidf];

/// PIDF, and whole documents of its partial form (RFC 5264 4.3.1).
pub(super) const MEDIA_TYPES: [&str; 2] = [Format::Pidf.as_str(), PIDF_DIFF];

/// The composed document, as far as this grant shows it.
pub(super) fn document(home: &HomeState, grant: &Grant, now: Timestamp) -> Option<Document> {
    match view::render(home, grant, now) {
        View::Active(pidf) => Some(Document::fixed(pidf)),
        View::Pending | View::Rejected => None,
    }
}

/// Nobody is there, whatever is true (RFC 3856 5).
pub(super) fn polite(presentity: &Aor) -> Document {
    Document::fixed(unavailable(&presentity.uri()))
}

/// Is it a presence document about whom it is published for (RFC 3903 10.1)? `sip:`, `sips:` and `pres:` URIs name one presentity (RFC 3856 5,
/// RFC 3859); escapes, case of the host, port and parameters do not count.
pub(super) fn check(
    media_type: &str,
    body: &[u8],
    means_target: impl Fn(&Uri<'_>) -> bool,
) -> Result<Pidf, Reject> {
    let changes =
        || Reject::new(StatusCode::UNSUPPORTED_MEDIA_TYPE).with(HeaderName::Accept, Format::Pidf.as_str());
    let pidf = Pidf::read(media_type, body)?.ok_or_else(changes)?;
    if Uri::parse(pidf.entity.trim().as_bytes()).is_ok_and(|entity| means_target(&entity)) {
        return Ok(pidf);
    }
    Err(Reject::because(StatusCode::FORBIDDEN, "Document Is About Another Presentity"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::testing::aor;

    #[test]
    fn entity_is_compared_as_an_aor_rfc3856_5() {
        let alice = aor("alice@example.org");
        let is_about = |entity: &str| {
            let body = format!("<presence xmlns='urn:ietf:params:xml:ns:pidf' entity='{entity}'/>");
            let means = |uri: &Uri<'_>| Aor::from_uri(uri).as_ref() == Some(&alice);
            check(Format::Pidf.as_str(), body.as_bytes(), means).map_err(|reject| reject.status)
        };
        for entity in ["pres:alice@example.org", "sip:%61lice@EXAMPLE.org", "sips:alice@example.org:5061;a=b"]
        {
            assert!(is_about(entity).is_ok(), "{entity}");
        }
        for entity in ["alice", "sip:bob@example.org", "sip:example.org"] {
            assert_eq!(is_about(entity).err(), Some(StatusCode::FORBIDDEN), "{entity}");
        }
    }
}

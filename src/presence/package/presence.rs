//! Package `presence` (RFC 3856): what everything published and registered comes to, as far as a watcher may see it.

use crate::availability::composition::unavailable;
use crate::availability::document::pidf::Pidf;
use crate::availability::view::{self, Grant, View};
use crate::model::{Aor, HomeState, Reject, Timestamp};
use crate::presence::package::{Document, Format, is_about};
use crate::sip::StatusCode;

/// The first is the default (RFC 3856 6.5).
pub(super) const FORMATS: &[Format] = &[Format::Pidf];

/// The composed document, as far as this grant shows it.
pub(super) fn document(home: &HomeState, grant: Grant, now: Timestamp) -> Option<Document> {
    match view::render(home, grant, now) {
        View::Active(pidf) => Some(Document::fixed(pidf)),
        View::Pending | View::Rejected => None,
    }
}

/// Nobody is there, whatever is true (RFC 3856 5).
pub(super) fn polite(presentity: &Aor) -> Document {
    Document::fixed(unavailable(&presentity.uri()))
}

/// Is it a presence document about `target` (RFC 3903 10.1)?
pub(super) fn check(body: &[u8], target: &Aor) -> Result<(), Reject> {
    if is_about(&Pidf::parse(body)?.entity, target) {
        return Ok(());
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
        for entity in ["pres:alice@example.org", "sip:%61lice@EXAMPLE.org", "sips:alice@example.org:5061;a=b"]
        {
            assert!(is_about(entity, &alice), "{entity}");
        }
        for entity in ["", "alice", "sip:bob@example.org", "sip:example.org"] {
            assert!(!is_about(entity, &alice), "{entity}");
        }
    }
}

//! Package `presence` (RFC 3856): what everything published and registered comes to, as far as a watcher may see it.

use bytes::Bytes;

use crate::availability::composition::unavailable;
use crate::availability::document::pidf::{PIDF_DIFF, Pidf};
use crate::availability::document::xml::Limits;
use crate::availability::document::{cpim_pidf, xpidf};
use crate::availability::view::{self, View};
use crate::model::{Aor, HomeState, Reject, Timestamp};
use crate::presence::package::{Document, Format, Shown};
use crate::sip::{HeaderName, StatusCode, Uri};

/// The first is the default (RFC 3856 6.5).
pub(super) const FORMATS: &[Format] = &[Format::Pidf, Format::Xpidf, Format::CpimPidf];

/// PIDF, and whole documents of its partial form (RFC 5264 4.3.1).
pub(super) const MEDIA_TYPES: [&str; 2] = [Format::Pidf.as_str(), PIDF_DIFF];

/// The composed document, as far as the grant shows it.
pub(super) fn document(home: &HomeState, shown: &Shown, now: Timestamp) -> Option<Document> {
    match view::render(home, &shown.grant, now) {
        View::Active(pidf) => Some(written(pidf, shown.format, &home.aor)),
        View::Pending | View::Rejected => None,
    }
}

/// Nobody is there, whatever is true (RFC 3856 5).
pub(super) fn polite(presentity: &Aor, format: Format) -> Document {
    written(unavailable(&presentity.uri()), format, presentity)
}

/// What a watcher may see, in the form that was asked for. The older forms are made of the PIDF document alone, so they cannot say more.
fn written(pidf: Bytes, format: Format, presentity: &Aor) -> Document {
    let write = match format {
        Format::Xpidf => xpidf::write,
        Format::CpimPidf => cpim_pidf::write,
        Format::Pidf
        | Format::DialogInfo
        | Format::MessageSummary
        | Format::RegInfo
        | Format::WatcherInfo => {
            return Document::fixed(pidf);
        }
    };
    let entity = presentity.uri();
    let read = |text: &[u8]| Pidf::parse_within(text, &COMPOSED);
    let read = read(&pidf).or_else(|_| read(&unavailable(&entity)));
    Document::fixed(write(&read.unwrap_or_else(|_| Pidf::empty(entity))))
}

/// What we have written: several documents within [`Limits::PUBLISHED`], and our own declarations.
const COMPOSED: Limits = Limits { depth: 64, attributes: 128, namespaces: 128, ..Limits::STORED };

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
    use std::sync::Arc;

    use super::*;
    use crate::availability::view::Grant;
    use crate::model::{Package, Publication};
    use crate::presence::testing::{NOW, aor, publication};

    /// Somebody who is open and on the phone, and says so.
    fn home() -> HomeState {
        let body = "<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" xmlns:dm=\"urn:ietf:params:xml:ns:pidf:data-model\" \
                    xmlns:rpid=\"urn:ietf:params:xml:ns:pidf:rpid\" entity=\"sip:alice@example.org\"><tuple id=\"t\"><status>\
                    <basic>open</basic></status><note>SECRET</note></tuple><dm:person id=\"p\"><rpid:activities>\
                    <rpid:on-the-phone/></rpid:activities></dm:person></presence>";
        let open = Publication { body: Bytes::from_static(body.as_bytes()), ..publication(1, 1) };
        HomeState { publications: vec![Arc::new(open)].into(), ..HomeState::empty(aor("alice@example.org")) }
    }

    fn seen(home: &HomeState, format: Format, grant: Grant) -> Option<String> {
        let shown = Shown { package: Package::Presence, format, grant, is_owner: false };
        let document = document(home, &shown, NOW)?;
        Some(String::from_utf8(document.text().to_vec()).unwrap())
    }

    #[test]
    fn older_forms_say_what_the_grant_shows_and_no_more_a31() {
        let all = |format| seen(&home(), format, Grant::Full).unwrap();
        assert!(all(Format::Xpidf).contains("status=\"inuse\""), "{}", all(Format::Xpidf));
        assert!(all(Format::CpimPidf).contains("<note>SECRET</note>"), "{}", all(Format::CpimPidf));
        let basic = |format| seen(&home(), format, Grant::Basic).unwrap();
        assert!(
            basic(Format::Xpidf).contains("<status status=\"open\"/>\n<msnsubstatus substatus=\"online\"/>")
        );
        assert!(basic(Format::CpimPidf).contains("<basic>open</basic>"));
        for format in [Format::Xpidf, Format::CpimPidf] {
            assert!(!basic(format).contains("SECRET"), "{}", basic(format));
            // Nothing is provided.
            let part = seen(&home(), format, Grant::Part(Arc::default())).unwrap();
            assert!(!part.contains("SECRET") && !part.contains("open") && !part.contains("inuse"), "{part}");
            for grant in [Grant::Pending, Grant::Rejected] {
                assert_eq!(seen(&home(), format, grant), None);
            }
        }
    }

    #[test]
    fn polite_is_who_is_not_there_in_every_form_rfc5025_3_2_1() {
        let nobody = HomeState::empty(aor("alice@example.org"));
        for &format in FORMATS {
            let absent = seen(&nobody, format, Grant::Full).unwrap();
            assert_eq!(seen(&home(), format, Grant::Unavailable).as_ref(), Some(&absent));
            assert_eq!(polite(&nobody.aor, format).text(), absent.as_bytes());
            assert!(absent.contains("closed"), "{absent}");
        }
    }

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

//! Body types: which one a watcher gets (RFC 6665 3.1.3), which one is published.

use std::borrow::Cow;

use crate::availability::document::cpim_pidf::CPIM_PIDF;
use crate::availability::document::xpidf::XPIDF;
use crate::model::{Package, Reject};
use crate::presence::package::formats;
use crate::sip::{HeaderName, Request, StatusCode};

/// A body type of event state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// RFC 3863.
    Pidf,
    /// draft-rosenberg-impp-pidf, as Windows Messenger has it.
    Xpidf,
    /// The drafts before RFC 3863.
    CpimPidf,
    /// RFC 4235.
    DialogInfo,
    /// RFC 3842.
    MessageSummary,
    /// RFC 3680.
    RegInfo,
    /// RFC 3858.
    WatcherInfo,
}

impl Format {
    /// The media type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Format::Pidf => "application/pidf+xml",
            Format::Xpidf => XPIDF,
            Format::CpimPidf => CPIM_PIDF,
            Format::DialogInfo => "application/dialog-info+xml",
            Format::MessageSummary => "application/simple-message-summary",
            Format::RegInfo => "application/reginfo+xml",
            Format::WatcherInfo => "application/watcherinfo+xml",
        }
    }

    /// How much a range of Accept wants it; `None` if it says nothing of it. The closer range counts (RFC 2616 14.1).
    fn wanted_by(self, range: &[u8]) -> Option<(Closeness, Thousandths)> {
        let range = std::str::from_utf8(range).ok()?;
        let mut parts = range.split(';');
        let kind = parts.next().unwrap_or_default().trim();
        let kind: Cow<'_, str> = if kind.bytes().any(|b| !b.is_ascii_graphic()) {
            kind.split_whitespace().collect::<String>().into()
        } else {
            kind.into()
        };
        let closeness = [self.as_str(), "application/*", "*/*"];
        let closeness = closeness.iter().position(|known| kind.eq_ignore_ascii_case(known))?;
        let q = parts
            .filter_map(|param| param.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
            .map_or(1_000, |(_, value)| thousandths(value.trim()));
        Some((closeness, q))
    }
}

/// The less, the closer.
type Closeness = usize;
type Thousandths = u16;

/// `0.5` as 500; what is no number between 0 and 1 is as if nothing had been said.
fn thousandths(q: &str) -> Thousandths {
    let (whole, fraction) = q.split_once('.').unwrap_or((q, ""));
    let padded = format!("{fraction:0<3}");
    match (whole, padded.get(..3).and_then(|digits| digits.parse::<Thousandths>().ok())) {
        ("0", Some(fraction)) if fraction < 1_000 => fraction,
        _ => 1_000,
    }
}

/// The body type of this package that who sent the request wants most: by `q`, then in our order. No Accept means the package's default
/// (RFC 6665 3.1.3).
///
/// # Errors
/// 406 with Accept if Accept is there and names no type that can be produced (RFC 3261 20.1, RFC 3856 6.5).
pub(in crate::presence) fn accept(request: &Request, package: Package) -> Result<Format, Reject> {
    if request.value(HeaderName::Accept).is_none() {
        return Ok(default(package));
    }
    let mut best: Option<(Thousandths, Format)> = None;
    for &format in formats(package) {
        let wanted = request.elements(HeaderName::Accept).filter_map(|range| format.wanted_by(range));
        let Some((_, q)) = wanted.min_by_key(|(closeness, _)| *closeness) else { continue };
        if q > best.map_or(0, |(q, _)| q) {
            best = Some((q, format));
        }
    }
    best.map(|(_, format)| format).ok_or_else(|| {
        let producible: Vec<_> = formats(package).iter().map(|format| format.as_str()).collect();
        Reject::new(StatusCode::NOT_ACCEPTABLE).with(HeaderName::Accept, producible.join(", "))
    })
}

/// The one for who does not say what is wanted.
pub(super) fn default(package: Package) -> Format {
    // Every package has one; the test below holds the tables to it.
    formats(package).first().copied().unwrap_or(Format::Pidf)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::testing::request;

    fn accepted(rows: &str) -> Result<Format, Reject> {
        accept(&request("SUBSCRIBE", "sip:alice@example.org", rows, ""), Package::Presence)
    }

    #[test]
    fn every_package_has_a_default_type_rfc6665_5_4_4() {
        for package in Package::ALL {
            assert!(!formats(package).is_empty(), "{package:?}");
            for &format in formats(package) {
                assert!(!format.as_str().contains('\n'));
            }
        }
    }

    #[test]
    fn no_accept_means_pidf_rfc3856_6_5() {
        assert_eq!(accepted(""), Ok(Format::Pidf));
    }

    #[test]
    fn ranges_match_pidf_rfc3261_20_1() {
        for value in
            ["application/pidf+xml", "text/plain, Application/*", "*/*;q=0.1", "application / pidf+xml"]
        {
            assert_eq!(accepted(&format!("Accept: {value}\r\n")), Ok(Format::Pidf), "{value}");
        }
        let two_rows = "Accept: text/plain\r\nAccept: application/pidf+xml;q=1\r\n";
        assert_eq!(accepted(two_rows), Ok(Format::Pidf));
    }

    #[test]
    fn older_forms_are_for_who_wants_them_more_than_pidf_rfc3261_20_1() {
        for (value, expected) in [
            ("application/xpidf+xml", Format::Xpidf),
            ("text/xml+msrtc.pidf, Application/XPIDF+xml", Format::Xpidf),
            ("application/cpim-pidf+xml", Format::CpimPidf),
            ("application/cpim-pidf+xml, application/xpidf+xml", Format::Xpidf),
            ("application/xpidf+xml, application/pidf+xml", Format::Pidf),
            ("application/cpim-pidf+xml, application/pidf+xml;q=0.9", Format::CpimPidf),
            ("application/xpidf+xml;q=0.2, */*;q=0.1", Format::Xpidf),
            ("*/*, application/pidf+xml;q=0.0", Format::Xpidf),
        ] {
            assert_eq!(accepted(&format!("Accept: {value}\r\n")), Ok(expected), "{value}");
        }
    }

    #[test]
    fn accept_of_no_presence_document_is_406_with_all_there_are_rfc3856_6_5() {
        let all = "application/pidf+xml, application/xpidf+xml, application/cpim-pidf+xml";
        for value in ["text/html", "application/pidf+xml;q=0", "", "*/*;q=0", "application/pidf-diff+xml"] {
            let reject = accepted(&format!("Accept: {value}\r\n")).unwrap_err();
            assert_eq!(reject.status, StatusCode::NOT_ACCEPTABLE, "{value}");
            assert_eq!(reject.headers[0], (HeaderName::Accept, all.to_owned()));
        }
    }

    #[test]
    fn q_is_read_in_thousandths_rfc3261_25_1() {
        for (q, expected) in [
            ("0", 0),
            ("0.", 0),
            ("0.000", 0),
            ("0.5", 500),
            ("0.001", 1),
            ("1", 1_000),
            ("1.0", 1_000),
            ("x", 1_000),
        ] {
            assert_eq!(thousandths(q), expected, "{q}");
        }
    }
}

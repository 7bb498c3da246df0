//! Bodies: PIDF, CPIM and SDP, as phones write them.

use super::phone::aor;

/// A PIDF document with one tuple (RFC 3863).
pub fn pidf(user: &str, tuple: &str, basic: &str, note: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"{}\">\
         <tuple id=\"{tuple}\"><status><basic>{basic}</basic></status><note>{note}</note></tuple></presence>\r\n",
        aor(user)
    )
}

/// A CPIM message (RFC 3862) with text inside.
pub fn cpim(from: &str, to: &str, text: &str) -> String {
    format!(
        "From: <{}>\r\nTo: <{}>\r\nDateTime: 2026-01-01T12:00:00Z\r\nSubject: l\u{e4}uft\r\n\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\r\n{text}",
        aor(from),
        aor(to)
    )
}

/// An offer or answer; nobody looks into it.
pub const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 49170 RTP/AVP 0\r\n";

/// The `<basic>` values in a document, in order.
pub fn basics(document: &str) -> Vec<String> {
    document
        .split("basic>")
        .skip(1)
        .step_by(2)
        .filter_map(|rest| rest.split('<').next())
        .map(|text| text.trim().to_string())
        .collect()
}

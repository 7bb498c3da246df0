//! `application/cpim-pidf+xml`: PIDF as the drafts before RFC 3863 had it, for phones that ask for nothing newer.
//!
//! The same document under its older namespace, without what came later (data model, RPID and everything else in a namespace of its own).

use bytes::Bytes;

use crate::availability::document::pidf::{Basic, Note, Pidf, Tuple};
use crate::availability::document::write::escape;

/// The media type.
pub const CPIM_PIDF: &str = "application/cpim-pidf+xml";

/// Writes what those drafts can say of a document; at most `MAX_TUPLES` tuples.
pub fn write(document: &Pidf) -> Bytes {
    let mut out = String::with_capacity(512);
    out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<presence xmlns=\"urn:ietf:params:xml:ns:cpim-pidf\" entity=\"");
    escape(&mut out, &document.entity);
    out.push_str("\">\n");
    for tuple in document.tuples.iter().take(MAX_TUPLES) {
        write_tuple(&mut out, tuple);
    }
    document.notes.iter().take(MAX_NOTES).for_each(|note| write_note(&mut out, note));
    out.push_str("</presence>\n");
    out.into()
}

fn write_tuple(out: &mut String, tuple: &Tuple) {
    out.push_str("<tuple id=\"");
    escape(out, &tuple.id);
    out.push_str("\"><status><basic>");
    // A status without one is of no use to who knows nothing else.
    out.push_str(tuple.basic.unwrap_or(Basic::Closed).as_str());
    out.push_str("</basic></status>");
    if let Some(contact) = &tuple.contact {
        out.push_str("<contact");
        if let Some(priority) = &contact.priority {
            out.push_str(" priority=\"");
            escape(out, priority);
            out.push('"');
        }
        out.push('>');
        escape(out, &contact.uri);
        out.push_str("</contact>");
    }
    tuple.notes.iter().take(MAX_NOTES).for_each(|note| write_note(out, note));
    if let Some(timestamp) = &tuple.timestamp {
        out.push_str("<timestamp>");
        escape(out, timestamp);
        out.push_str("</timestamp>");
    }
    out.push_str("</tuple>\n");
}

fn write_note(out: &mut String, note: &Note) {
    out.push_str("<note");
    if let Some(lang) = &note.lang {
        out.push_str(" xml:lang=\"");
        escape(out, lang);
        out.push('"');
    }
    out.push('>');
    let cut: String = note.text.chars().take(MAX_NOTE).collect();
    escape(out, &cut);
    out.push_str("</note>");
}

/// So that the document fits into a NOTIFY whatever was published.
const MAX_TUPLES: usize = 16;
const MAX_NOTES: usize = 2;
/// Characters of a note.
const MAX_NOTE: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::availability::fixtures::pidf;

    fn written(inner: &str) -> String {
        let document = Pidf::parse(pidf(inner).as_bytes()).unwrap();
        String::from_utf8(write(&document).to_vec()).unwrap()
    }

    #[test]
    fn a_whole_document_in_the_older_form() {
        let inner = "<tuple id=\"a\"><status><basic>open</basic><x:s xmlns:x=\"urn:x\"/></status><rpid:class>c</rpid:class>\
                     <contact priority=\"0.8\">sip:alice@example.org</contact><note xml:lang=\"en\">Here &amp; &lt;there&gt;</note>\
                     <timestamp>2026-11-20T23:29:15Z</timestamp></tuple><tuple id=\"b\"><status/></tuple><note>n</note>\
                     <dm:person id=\"p\"><rpid:activities><rpid:busy/></rpid:activities></dm:person>";
        assert_eq!(
            written(inner),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<presence xmlns=\"urn:ietf:params:xml:ns:cpim-pidf\" \
             entity=\"sip:alice@example.org\">\n<tuple id=\"a\"><status><basic>open</basic></status>\
             <contact priority=\"0.8\">sip:alice@example.org</contact><note xml:lang=\"en\">Here &amp; &lt;there&gt;</note>\
             <timestamp>2026-11-20T23:29:15Z</timestamp></tuple>\n<tuple id=\"b\"><status><basic>closed</basic></status></tuple>\n\
             <note>n</note></presence>\n"
        );
    }

    #[test]
    fn whatever_was_published_it_fits_into_a_notify_a05() {
        let tuple = |n: u32| {
            format!(
                "<tuple id=\"t{n}\"><status><basic>open</basic></status><note>{}</note></tuple>",
                "&quot;".repeat(250)
            )
        };
        let all: String = (0..20).map(tuple).collect();
        assert!(written(&all).len() < crate::availability::composition::MAX_BYTES);
    }
}

//! Writes a [`Pidf`]: always the same bytes for the same value, valid against the schema of RFC 3863 4.4.
//!
//! The default namespace is PIDF, `dm` is the data model. A prefix of a fragment is declared on the root if nothing else has it
//! there; where two publishers use one prefix for two namespaces, the later fragment declares it on its own start tag.

use bytes::Bytes;

use crate::availability::document::lexis::is_xml_char;
use crate::availability::document::pidf::{Basic, DATA_MODEL, Note, PIDF, Pidf, Tuple};
use crate::availability::document::xml::{Document, Fragment, Limits};

impl Pidf {
    /// The document, or `None` if it would be longer than `most` bytes.
    pub fn write(&self, most: usize) -> Option<Bytes> {
        let mut out = Writer { text: String::with_capacity(1024), most, root: self.root_namespaces() };
        out.text.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<presence");
        for (prefix, uri) in out.root.clone() {
            out.declare(prefix, uri);
        }
        out.attribute("entity", &self.entity);
        out.text.push_str(">\n");
        for tuple in &self.tuples {
            out.tuple(tuple)?;
        }
        for note in &self.notes {
            out.note("note", note)?;
        }
        for person in &self.persons {
            out.open_with_id("dm:person", &person.id);
            out.fragments(&person.extensions)?;
            out.closing("dm:", &person.notes, person.timestamp.as_deref())?;
            out.text.push_str("</dm:person>\n");
        }
        for device in &self.devices {
            out.open_with_id("dm:device", &device.id);
            out.fragments(&device.extensions)?;
            out.leaf("dm:deviceID", &device.device_id);
            out.closing("dm:", &device.notes, device.timestamp.as_deref())?;
            out.text.push_str("</dm:device>\n");
        }
        out.fragments(&self.extensions)?;
        out.text.push_str("</presence>\n");
        out.within()?;
        Some(out.text.into())
    }

    /// What is declared on the root; the first fragment that needs a prefix decides what it means there.
    fn root_namespaces(&self) -> Vec<(&str, &str)> {
        let mut root = vec![("", PIDF)];
        if !self.persons.is_empty() || !self.devices.is_empty() {
            root.push(("dm", DATA_MODEL));
        }
        let tuples = self.tuples.iter().flat_map(|t| t.status.iter().chain(&t.extensions));
        let persons = self.persons.iter().flat_map(|p| &p.extensions);
        let devices = self.devices.iter().flat_map(|d| &d.extensions);
        let fragments = tuples.chain(persons).chain(devices).chain(&self.extensions);
        for (prefix, uri) in fragments.flat_map(|f| f.needs()) {
            if root.len() < MAX_ROOT_NAMESPACES && !root.iter().any(|(known, _)| *known == prefix) {
                root.push((prefix, uri));
            }
        }
        root
    }
}

impl Fragment {
    /// The element as a document of its own.
    pub(in crate::availability) fn alone(&self) -> String {
        let (start, rest) = self.split();
        let mut out =
            Writer { text: String::with_capacity(self.raw().len() + 64), most: usize::MAX, root: Vec::new() };
        out.text.push_str(start);
        for (prefix, uri) in self.needs() {
            out.declare(prefix, uri);
        }
        out.text.push_str(rest);
        out.text
    }

    /// The elements directly inside that are in its own namespace: name and text, in order.
    pub fn values(&self) -> Vec<(String, String)> {
        let alone = self.alone();
        let limits = Limits { bytes: alone.len(), namespaces: 64, ..Limits::PUBLISHED };
        let Ok(document) = Document::read(alone.as_bytes(), &limits) else { return Vec::new() };
        let own = document.root().children().filter(|child| child.namespace() == Some(self.namespace()));
        own.map(|child| (child.local().to_owned(), child.text().trim().to_owned())).collect()
    }

    /// The text directly inside.
    pub fn text(&self) -> String {
        let alone = self.alone();
        let limits = Limits { bytes: alone.len(), namespaces: 64, ..Limits::PUBLISHED };
        Document::read(alone.as_bytes(), &limits).map_or(String::new(), |d| d.root().text().trim().to_owned())
    }
}

struct Writer<'p> {
    text: String,
    most: usize,
    root: Vec<(&'p str, &'p str)>,
}

impl Writer<'_> {
    fn tuple(&mut self, tuple: &Tuple) -> Option<()> {
        self.open_with_id("tuple", &tuple.id);
        match (tuple.basic, tuple.status.is_empty()) {
            (None, true) => self.text.push_str("<status/>"),
            (basic, _) => {
                self.text.push_str("<status>");
                if let Some(basic) = basic {
                    self.leaf("basic", basic.as_str());
                }
                self.fragments(&tuple.status)?;
                self.text.push_str("</status>");
            }
        }
        self.fragments(&tuple.extensions)?;
        if let Some(contact) = &tuple.contact {
            self.text.push_str("<contact");
            if let Some(priority) = &contact.priority {
                self.attribute("priority", priority);
            }
            self.text.push('>');
            escape(&mut self.text, &contact.uri);
            self.text.push_str("</contact>");
        }
        self.closing("", &tuple.notes, tuple.timestamp.as_deref())?;
        self.text.push_str("</tuple>\n");
        self.within()
    }

    fn closing(&mut self, prefix: &str, notes: &[Note], timestamp: Option<&str>) -> Option<()> {
        for note in notes {
            self.note(&format!("{prefix}note"), note)?;
        }
        if let Some(timestamp) = timestamp {
            self.leaf(&format!("{prefix}timestamp"), timestamp);
        }
        self.within()
    }

    fn note(&mut self, name: &str, note: &Note) -> Option<()> {
        self.text.push('<');
        self.text.push_str(name);
        if let Some(lang) = &note.lang {
            self.attribute("xml:lang", lang);
        }
        self.text.push('>');
        escape(&mut self.text, &note.text);
        self.close(name);
        self.within()
    }

    fn fragments(&mut self, fragments: &[Fragment]) -> Option<()> {
        for fragment in fragments {
            let (start, rest) = fragment.split();
            self.text.push_str(start);
            for (prefix, uri) in fragment.needs() {
                let known = self.root.iter().any(|&(p, u)| p == prefix && u == uri);
                if !known {
                    self.declare(prefix, uri);
                }
            }
            self.text.push_str(rest);
            self.within()?;
        }
        Some(())
    }

    fn declare(&mut self, prefix: &str, uri: &str) {
        self.text.push_str(" xmlns");
        if !prefix.is_empty() {
            self.text.push(':');
            self.text.push_str(prefix);
        }
        self.value(uri);
    }

    fn attribute(&mut self, name: &str, value: &str) {
        self.text.push(' ');
        self.text.push_str(name);
        self.value(value);
    }

    fn value(&mut self, value: &str) {
        self.text.push_str("=\"");
        escape(&mut self.text, value);
        self.text.push('"');
    }

    fn open_with_id(&mut self, name: &str, id: &str) {
        self.text.push('<');
        self.text.push_str(name);
        self.attribute("id", id);
        self.text.push('>');
    }

    fn leaf(&mut self, name: &str, text: &str) {
        self.text.push('<');
        self.text.push_str(name);
        self.text.push('>');
        escape(&mut self.text, text);
        self.close(name);
    }

    fn close(&mut self, name: &str) {
        self.text.push_str("</");
        self.text.push_str(name);
        self.text.push('>');
    }

    fn within(&self) -> Option<()> {
        (self.text.len() <= self.most).then_some(())
    }
}

impl Basic {
    /// `open` or `closed` (RFC 3863 4.1.4).
    pub fn as_str(self) -> &'static str {
        match self {
            Basic::Open => "open",
            Basic::Closed => "closed",
        }
    }
}

/// Text or an attribute's value in double quotes; line ends and tabs survive as references, what XML cannot carry is left out.
pub(in crate::availability) fn escape(out: &mut String, text: &str) {
    let is_plain = |b: u8| matches!(b, b' '..=b'~') && !matches!(b, b'&' | b'<' | b'>' | b'"');
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        // Nearly everything is plain: it is copied as it stands.
        let plain = rest.bytes().position(|b| !is_plain(b)).unwrap_or(rest.len());
        if let Some((copied, after)) = rest.split_at_checked(plain).filter(|_| plain > 0) {
            out.push_str(copied);
            rest = after;
            continue;
        }
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#13;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            c if is_xml_char(c) => out.push(c),
            _ => {}
        }
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
    }
}

/// More go on the fragments: a root with hundreds would be refused by others as it is by us.
const MAX_ROOT_NAMESPACES: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_and_line_ends_in_values_cannot_leave_their_place_a04() {
        let mut out = String::new();
        escape(&mut out, "a<b>&\"\r\n\t\u{1}\u{FFFE}é");
        assert_eq!(out, "a&lt;b&gt;&amp;&quot;&#13;&#10;&#9;é");
    }
}

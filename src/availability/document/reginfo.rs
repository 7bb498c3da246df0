//! `application/reginfo+xml` (RFC 3680 5), as written; nobody publishes it, so it is never read.
//!
//! Left out is what changes with every second or every refresh: `expires`, `duration-registered`, `callid` and `cseq`, all of them optional (5.1).

use crate::availability::document::write::escape;

/// The namespace.
pub const REGINFO: &str = "urn:ietf:params:xml:ns:reginfo";

/// The registration of one address of record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegInfo<'a> {
    /// Whose.
    pub aor: String,
    /// Names it in every document of a subscription.
    pub id: String,
    /// How it stands.
    pub state: State,
    /// What is registered.
    pub contacts: Vec<Contact<'a>>,
}

/// The states of 4.7.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing is registered.
    Init,
    /// Something is.
    Active,
    /// The last contact has just gone.
    Terminated,
}

/// One contact that may be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact<'a> {
    /// Names it in every document of a subscription.
    pub id: String,
    /// Why it is active.
    pub event: Event,
    /// In thousandths; `None`: as if it were 1.
    pub q: Option<u16>,
    /// Its URI.
    pub uri: &'a str,
    /// Parameters of the header that RFC 3261 does not know, as written: quoted strings keep their quotes.
    pub unknown: Vec<(&'a str, Option<&'a str>)>,
}

/// What made a contact as it is (4.7.1), of that which can make one active here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A first REGISTER.
    Registered,
    /// A later one.
    Refreshed,
}

impl State {
    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Init => "init",
            State::Active => "active",
            State::Terminated => "terminated",
        }
    }
}

impl Event {
    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Event::Registered => "registered",
            Event::Refreshed => "refreshed",
        }
    }
}

impl RegInfo<'_> {
    /// The document in full, and where the digits of its version belong.
    ///
    /// - `most`: longer than so many bytes, it goes without the parameters of contacts.
    pub fn write(&self, most: usize) -> (String, usize) {
        let whole = self.written(true);
        if whole.0.len() <= most { whole } else { self.written(false) }
    }

    fn written(&self, with_unknown: bool) -> (String, usize) {
        let mut out = String::with_capacity(512);
        out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<reginfo xmlns=\"");
        out.push_str(REGINFO);
        out.push_str("\" version=\"");
        let version_at = out.len();
        out.push_str("\" state=\"full\">\n<registration");
        attribute(&mut out, "aor", &self.aor);
        attribute(&mut out, "id", &self.id);
        attribute(&mut out, "state", self.state.as_str());
        out.push_str(">\n");
        for contact in &self.contacts {
            contact.write(&mut out, with_unknown);
        }
        out.push_str("</registration>\n</reginfo>\n");
        (out, version_at)
    }
}

impl Contact<'_> {
    fn write(&self, out: &mut String, with_unknown: bool) {
        out.push_str("<contact");
        attribute(out, "id", &self.id);
        attribute(out, "state", "active");
        attribute(out, "event", self.event.as_str());
        if let Some(q) = self.q {
            attribute(out, "q", &decimal(q));
        }
        out.push_str("><uri>");
        escape(out, self.uri);
        out.push_str("</uri>");
        for (name, value) in self.unknown.iter().filter(|_| with_unknown) {
            out.push_str("<unknown-param");
            attribute(out, "name", name);
            out.push('>');
            escape(out, value.unwrap_or_default());
            out.push_str("</unknown-param>");
        }
        out.push_str("</contact>\n");
    }
}

/// 800 as `0.8`.
fn decimal(thousandths: u16) -> String {
    let digits = format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000);
    digits.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn attribute(out: &mut String, name: &str, value: &str) {
    out.push_str(&format!(" {name}=\""));
    escape(out, value);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::availability::fixtures::assert_valid_if_possible;

    fn phone() -> RegInfo<'static> {
        RegInfo {
            aor: "sip:user@example.com".into(),
            id: "as9".into(),
            state: State::Active,
            contacts: vec![Contact {
                id: "76".into(),
                event: Event::Registered,
                q: Some(800),
                uri: "sip:user@pc887.example.com;x=a&b",
                unknown: vec![("+sip.instance", Some("\"<urn:uuid:0>\"")), ("audio", None)],
            }],
        }
    }

    #[test]
    fn a_registration_is_written_as_in_the_example_rfc3680_5_3() {
        let (mut text, version_at) = phone().write(usize::MAX);
        text.insert(version_at, '7');
        let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
            <reginfo xmlns=\"urn:ietf:params:xml:ns:reginfo\" version=\"7\" state=\"full\">\n\
            <registration aor=\"sip:user@example.com\" id=\"as9\" state=\"active\">\n\
            <contact id=\"76\" state=\"active\" event=\"registered\" q=\"0.8\"><uri>sip:user@pc887.example.com;x=a&amp;b</uri>\
            <unknown-param name=\"+sip.instance\">&quot;&lt;urn:uuid:0&gt;&quot;</unknown-param>\
            <unknown-param name=\"audio\"></unknown-param></contact>\n\
            </registration>\n</reginfo>\n";
        assert_eq!(text, expected);
        assert_valid_if_possible("reginfo", &text);
    }

    #[test]
    fn what_would_be_too_long_goes_without_parameters() {
        let (short, _) = phone().write(10);
        assert!(short.contains("<uri>") && !short.contains("unknown-param"), "{short}");
    }

    #[test]
    fn q_is_a_decimal() {
        let written = [0, 1, 500, 820, 1_000].map(decimal);
        assert_eq!(written, ["0", "0.001", "0.5", "0.82", "1"]);
    }
}

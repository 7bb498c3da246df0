//! `application/dialog-info+xml` (RFC 4235 4): read, and written in one form.
//!
//! Kept is what tells who talks to whom in which dialog. Left out: session descriptions, which nobody is to see who was not let (3.3),
//! durations, which would be untrue a second later, route sets and what other namespaces add.

use crate::availability::document::pidf::refusal;
use crate::availability::document::write::escape;
use crate::availability::document::xml::{Document, Limits, Node};
use crate::model::Reject;
use crate::sip::StatusCode;

/// The namespace.
pub const DIALOG_INFO: &str = "urn:ietf:params:xml:ns:dialog-info";

/// All dialogs of one user that somebody knows of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialogInfo {
    /// Whose.
    pub entity: String,
    /// In order; their ids differ.
    pub dialogs: Vec<Dialog>,
}

/// A dialog, or what may become one (4.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialog {
    /// Names it in its document.
    pub id: String,
    /// Call-ID.
    pub call_id: Option<String>,
    /// Tag of the observed user.
    pub local_tag: Option<String>,
    /// Tag of the other side, once there is one.
    pub remote_tag: Option<String>,
    /// Who began it.
    pub direction: Option<Direction>,
    /// How far it is.
    pub state: State,
    /// Why it ended.
    pub event: Option<&'static str>,
    /// The response that made it what it is.
    pub code: Option<u16>,
    /// Which dialog it stands in for (4.1.4).
    pub replaces: Option<Replaces>,
    /// Who referred to it (4.1.5).
    pub referred_by: Option<Identity>,
    /// The observed user.
    pub local: Participant,
    /// The other side.
    pub remote: Participant,
}

/// `direction`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The observed user called.
    Initiator,
    /// The observed user was called.
    Recipient,
}

/// The states of 3.7.1, in the order in which they can follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// An INVITE.
    Trying,
    /// A 1xx without tag.
    Proceeding,
    /// A 1xx with tag.
    Early,
    /// A 2xx.
    Confirmed,
    /// It has ended, and will never be anything else.
    Terminated,
}

/// The ids of a replaced dialog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaces {
    /// Call-ID, local tag, remote tag.
    pub ids: [String; 3],
}

/// One side (4.1.6).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Participant {
    /// Its address.
    pub identity: Option<Identity>,
    /// Its Contact.
    pub target: Option<Target>,
}

/// An address with its display name (4.1.6.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The URI.
    pub uri: String,
    /// As people read it.
    pub display: Option<String>,
}

/// A Contact with its parameters (4.1.6.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The URI.
    pub uri: String,
    /// Names and values.
    pub params: Vec<(String, String)>,
}

impl State {
    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Trying => "trying",
            State::Proceeding => "proceeding",
            State::Early => "early",
            State::Confirmed => "confirmed",
            State::Terminated => "terminated",
        }
    }
    const ALL: [State; 5] =
        [State::Trying, State::Proceeding, State::Early, State::Confirmed, State::Terminated];
}

impl Direction {
    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::Initiator => "initiator",
            Direction::Recipient => "recipient",
        }
    }
}

impl DialogInfo {
    /// Reads a document within the caps of `A07`. It says all there is: a partial one, which tells what has changed since one that we
    /// need not have seen, says nothing by itself.
    ///
    /// # Errors
    /// 400 for what is not well-formed, no dialog-info, not full, or names dialogs alike; 415 for DOCTYPE and encodings other than UTF-8; 413 for
    /// too large.
    pub fn parse(bytes: &[u8]) -> Result<DialogInfo, Reject> {
        let document = Document::read(bytes, &Limits::PUBLISHED).map_err(refusal)?;
        let root = document.root();
        let wrong = |what: &'static str| Reject::because(StatusCode::BAD_REQUEST, what);
        let entity = root.attribute("entity").map(str::trim).filter(|entity| !entity.is_empty());
        let entity = entity.filter(|_| root.is(DIALOG_INFO, "dialog-info"));
        let entity = entity.ok_or_else(|| wrong("Not A dialog-info Document"))?.to_owned();
        if root.attribute("state") == Some("partial") {
            return Err(wrong("Full Dialog State Is Needed"));
        }
        let mut dialogs: Vec<Dialog> = Vec::new();
        for child in root.children().filter(|child| child.is(DIALOG_INFO, "dialog")) {
            let dialog = dialog(child).ok_or_else(|| wrong("Malformed Dialog"))?;
            if dialogs.iter().any(|other| other.id == dialog.id) {
                return Err(wrong("Dialog Ids Are Not Unique"));
            }
            if dialogs.len() >= MOST_DIALOGS {
                return Err(wrong("Too Many Dialogs"));
            }
            dialogs.push(dialog);
        }
        Ok(DialogInfo { entity, dialogs })
    }

    /// Full state, without the digits of its version, and where these belong. Names and addresses are left out if it would be longer than
    /// `most` bytes with them.
    pub fn write(&self, most: usize) -> (String, usize) {
        let whole = self.written(true);
        if whole.0.len() <= most { whole } else { self.written(false) }
    }

    fn written(&self, with_participants: bool) -> (String, usize) {
        let mut out = String::with_capacity(512);
        out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<dialog-info xmlns=\"");
        out.push_str(DIALOG_INFO);
        out.push_str("\" version=\"");
        let version_at = out.len();
        out.push_str("\" state=\"full\"");
        attribute(&mut out, "entity", Some(&self.entity));
        out.push_str(">\n");
        for dialog in &self.dialogs {
            dialog.write(&mut out, with_participants);
        }
        out.push_str("</dialog-info>\n");
        (out, version_at)
    }
}

impl Dialog {
    /// Do both mean one dialog? Its ids say so; a tag that one of them does not know yet is no difference.
    pub fn is_same(&self, other: &Dialog) -> bool {
        let agree = |a: &Option<String>, b: &Option<String>| a.is_none() || b.is_none() || a == b;
        self.call_id.is_some()
            && self.call_id == other.call_id
            && agree(&self.local_tag, &other.local_tag)
            && agree(&self.remote_tag, &other.remote_tag)
    }
    /// One that says no more than how far it is.
    pub fn bare(id: String, state: State) -> Dialog {
        let (call_id, local_tag, remote_tag, direction, event, code) = Default::default();
        let (replaces, referred_by, local, remote) = Default::default();
        Dialog {
            id,
            call_id,
            local_tag,
            remote_tag,
            direction,
            state,
            event,
            code,
            replaces,
            referred_by,
            local,
            remote,
        }
    }

    fn write(&self, out: &mut String, with_participants: bool) {
        out.push_str("<dialog");
        attribute(out, "id", Some(&self.id));
        attribute(out, "call-id", self.call_id.as_deref());
        attribute(out, "local-tag", self.local_tag.as_deref());
        attribute(out, "remote-tag", self.remote_tag.as_deref());
        attribute(out, "direction", self.direction.map(Direction::as_str));
        out.push_str("><state");
        attribute(out, "event", self.event);
        attribute(out, "code", self.code.map(|code| code.to_string()).as_deref());
        out.push('>');
        out.push_str(self.state.as_str());
        out.push_str("</state>");
        if with_participants {
            if let Some(Replaces { ids: [call_id, local_tag, remote_tag] }) = &self.replaces {
                out.push_str("<replaces");
                attribute(out, "call-id", Some(call_id));
                attribute(out, "local-tag", Some(local_tag));
                attribute(out, "remote-tag", Some(remote_tag));
                out.push_str("/>");
            }
            if let Some(identity) = &self.referred_by {
                identity.write(out, "referred-by");
            }
            self.local.write(out, "local");
            self.remote.write(out, "remote");
        }
        out.push_str("</dialog>\n");
    }
}

impl Participant {
    fn write(&self, out: &mut String, name: &str) {
        if self.identity.is_none() && self.target.is_none() {
            return;
        }
        out.push_str(&format!("<{name}>"));
        if let Some(identity) = &self.identity {
            identity.write(out, "identity");
        }
        if let Some(Target { uri, params }) = &self.target {
            out.push_str("<target");
            attribute(out, "uri", Some(uri));
            out.push('>');
            for (name, value) in params {
                out.push_str("<param");
                attribute(out, "pname", Some(name));
                attribute(out, "pval", Some(value));
                out.push_str("/>");
            }
            out.push_str("</target>");
        }
        out.push_str(&format!("</{name}>"));
    }
}

impl Identity {
    /// 4.1.5 and 4.1.6.1 name the attribute `display`, as phones do; the schema has `display-name`.
    fn write(&self, out: &mut String, name: &str) {
        out.push_str(&format!("<{name}"));
        attribute(out, "display", self.display.as_deref());
        out.push('>');
        escape(out, &self.uri);
        out.push_str(&format!("</{name}>"));
    }
}

fn attribute(out: &mut String, name: &str, value: Option<&str>) {
    let Some(value) = value else { return };
    out.push_str(&format!(" {name}=\""));
    escape(out, value);
    out.push('"');
}

/// `None` without an id or a state that is known.
fn dialog(node: Node<'_>) -> Option<Dialog> {
    let own = |node: Node<'_>, name: &str| node.is(DIALOG_INFO, name);
    let child = |name: &'static str| node.children().find(|child| own(*child, name));
    let state = child("state")?;
    let known = State::ALL.into_iter().find(|known| known.as_str() == state.text().trim())?;
    let text = |name: &str| node.attribute(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let replaces = child("replaces").and_then(|node| {
        let id = |name: &str| node.attribute(name).map(str::to_owned);
        Some(Replaces { ids: [id("call-id")?, id("local-tag")?, id("remote-tag")?] })
    });
    Some(Dialog {
        call_id: text("call-id"),
        local_tag: text("local-tag"),
        remote_tag: text("remote-tag"),
        direction: [Direction::Initiator, Direction::Recipient]
            .into_iter()
            .find(|known| Some(known.as_str()) == node.attribute("direction")),
        event: EVENTS.into_iter().find(|known| Some(*known) == state.attribute("event")),
        code: state.attribute("code").and_then(|code| code.parse().ok()).filter(|c| (100..700).contains(c)),
        replaces,
        referred_by: child("referred-by").and_then(identity),
        local: child("local").map(participant).unwrap_or_default(),
        remote: child("remote").map(participant).unwrap_or_default(),
        ..Dialog::bare(text("id")?, known)
    })
}

fn participant(node: Node<'_>) -> Participant {
    let child = |name: &'static str| node.children().find(|child| child.is(DIALOG_INFO, name));
    let target = child("target").and_then(|node| {
        let params = node.children().filter(|child| child.is(DIALOG_INFO, "param"));
        let params = params.filter_map(|param| Some((param.attribute("pname")?, param.attribute("pval")?)));
        let params = params.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Some(Target { uri: node.attribute("uri")?.trim().to_owned(), params })
    });
    Participant { identity: child("identity").and_then(identity), target }
}

fn identity(node: Node<'_>) -> Option<Identity> {
    let uri = Some(node.text().trim()).filter(|uri| !uri.is_empty())?.to_owned();
    let display = node.attribute("display").or_else(|| node.attribute("display-name"));
    Some(Identity { uri, display: display.map(str::to_owned) })
}

/// Why a dialog ended (3.7.1).
const EVENTS: [&str; 7] =
    ["cancelled", "rejected", "replaced", "local-bye", "remote-bye", "error", "timeout"];
/// Dialogs that one publisher may tell of: more than a telephone has.
const MOST_DIALOGS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::availability::fixtures::assert_valid_if_possible;

    fn document(inner: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?><dialog-info xmlns=\"{DIALOG_INFO}\" version=\"3\" state=\"full\" entity=\"sip:alice@example.org\">{inner}\
             </dialog-info>"
        )
    }

    fn read(inner: &str) -> Result<DialogInfo, Reject> {
        DialogInfo::parse(document(inner).as_bytes())
    }

    const WHOLE: &str = concat!(
        "<dialog id=\"as7d\" call-id=\"a84b &quot;4c&quot;\" local-tag=\"19\" remote-tag=\"45\" direction=\"recipient\">",
        "<state event=\"rejected\" code=\"486\">terminated</state><replaces call-id=\"h\" local-tag=\"6\" remote-tag=\"0\"/>",
        "<referred-by display=\"Bob\">sip:bob@example.org</referred-by>",
        "<local><identity display=\"Alice\">sip:alice@example.org</identity><target uri=\"sip:alice@pc33.example.org\">",
        "<param pname=\"class\" pval=\"Alice&apos;s &amp; office\"/></target></local>",
        "<remote><identity>sip:carol@example.org</identity></remote></dialog>\n"
    );

    #[test]
    fn what_is_known_of_a_dialog_is_read_and_written_rfc4235_4_1() {
        let info = read(WHOLE).unwrap();
        let (text, version_at) = info.write(usize::MAX);
        assert_eq!(&text[version_at - 9..version_at + 2], "version=\"\" ");
        assert!(text.contains(&WHOLE.replace("&apos;", "'")), "{text}");
        let again = DialogInfo::parse(text.as_bytes()).unwrap();
        assert_eq!(again, info);
        // The schema calls a display name otherwise than the text does (4.1.6); the text is what phones write.
        let (mut text, version_at) =
            read(&WHOLE.replace(" display=", " display-name=")).unwrap().write(usize::MAX);
        text.insert(version_at, '7');
        assert_valid_if_possible("dialog-info", &text.replace(" display=", " display-name="));
    }

    #[test]
    fn session_descriptions_go_no_further_rfc4235_3_3() {
        let inner = "<dialog id=\"1\"><state>early</state><duration>5</duration><route-set><hop>sip:p</hop></route-set><remote>\
                     <session-description type=\"application/sdp\">v=0 SECRET</session-description><cseq>1</cseq></remote>\
                     <x:y xmlns:x=\"urn:x\">SECRET</x:y></dialog>";
        let (text, _) = read(inner).unwrap().write(usize::MAX);
        assert!(text.contains("<dialog id=\"1\"><state>early</state></dialog>"), "{text}");
    }

    #[test]
    fn what_is_no_full_state_is_refused_rfc4235_4_1() {
        for inner in [
            "<dialog><state>early</state></dialog>",
            "<dialog id=\"1\"/>",
            "<dialog id=\"1\"><state>ringing</state></dialog>",
            "<dialog id=\"1\"><state>early</state></dialog><dialog id=\"1\"><state>early</state></dialog>",
        ] {
            assert_eq!(read(inner).unwrap_err().status, StatusCode::BAD_REQUEST, "{inner}");
        }
        let many = |count: usize| -> String {
            (0..count).map(|n| format!("<dialog id=\"{n}\"><state>early</state></dialog>")).collect()
        };
        assert!(read(&many(64)).is_ok() && read(&many(65)).is_err());
        let partial = document("").replace("full", "partial");
        for text in
            [partial.as_str(), "<dialog-info/>", "<presence xmlns=\"urn:ietf:params:xml:ns:pidf\"/>", ""]
        {
            assert!(DialogInfo::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_document_that_is_too_long_says_who_no_more() {
        let info = read(WHOLE).unwrap();
        let (text, _) = info.write(400);
        assert!(text.contains("call-id=") && !text.contains("carol"), "{text}");
    }
}

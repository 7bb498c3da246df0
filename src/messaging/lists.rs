//! One MESSAGE for many recipients (RFC 5365): who gets it, and what each of them gets. Pure; `fan_out.rs` performs it.
//!
//! The copies are stored like every message for who is away, all of them before the sender is answered, and sent from there. So a 202
//! promises for each recipient what it does for one.

use bytes::Bytes;

use crate::availability::document::edit::escaped;
use crate::availability::document::xml::{Document, Limits, Node};
use crate::messaging::copy;
use crate::model::{Aor, MessageId, Reject, Timestamp};
use crate::sip::multipart::Part;
use crate::sip::{HeaderName, Request, StatusCode, Uri, Writer};

/// The option-tag (5).
pub const OPTION: &str = "recipient-list-message";

/// Does the request want to be sent to a list?
pub fn is_asked_for(request: &Request) -> bool {
    request.elements(HeaderName::Require).any(|tag| tag.eq_ignore_ascii_case(OPTION.as_bytes()))
}

/// A message and its recipients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// Each once, in the order in which they are named first (7.1).
    pub recipients: Vec<Recipient>,
    /// Header rows that say what the body is.
    content: Vec<u8>,
    /// What everybody gets (7.3).
    body: Bytes,
}

/// Somebody who gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// A user of ours.
    pub aor: Aor,
    role: Role,
    /// The others do not learn who it is (RFC 5364 4).
    is_anonymous: bool,
}

/// `copyControl` of RFC 5364 4, lowest precedence first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Bcc,
    Cc,
    To,
}

impl List {
    /// Reads the request.
    ///
    /// - `user`: whose address a URI is.
    /// - `boundary`: random, of hexadecimal digits.
    ///
    /// # Errors
    /// 420 for other extensions, 415 for bodies that are no list with a message, 400 for what is malformed or empty, 403 for more than
    /// [`MAX_RECIPIENTS`], and what `user` says.
    pub fn read(
        request: &Request,
        user: impl Fn(&Uri<'_>) -> Result<Aor, Reject>,
        boundary: u128,
    ) -> Result<List, Reject> {
        let unknown: Vec<_> = request
            .elements(HeaderName::Require)
            .filter(|tag| !tag.eq_ignore_ascii_case(OPTION.as_bytes()))
            .map(|tag| String::from_utf8_lossy(tag).into_owned())
            .collect();
        if !unknown.is_empty() {
            return Err(
                Reject::new(StatusCode::BAD_EXTENSION).with(HeaderName::Unsupported, unknown.join(", "))
            );
        }
        let other_body =
            || Reject::new(StatusCode::UNSUPPORTED_MEDIA_TYPE).with(HeaderName::Accept, ACCEPTED);
        let malformed = |what| Reject::because(StatusCode::BAD_REQUEST, what);
        let parts = request.parts().ok_or_else(other_body)?.map_err(|error| malformed(error.what))?;
        let (lists, rest): (Vec<Part<'_>>, Vec<Part<'_>>) =
            parts.into_iter().partition(|part| part.has_disposition("recipient-list"));
        let mut recipients: Vec<Recipient> = Vec::new();
        for list in &lists {
            if !list.is(RESOURCE_LISTS_TYPE) || list.is_encoded {
                return Err(other_body());
            }
            let document = Document::read(list.body, &Limits::PUBLISHED)
                .map_err(|_| malformed("Malformed Recipient List"))?;
            if !document.root().is(RESOURCE_LISTS, "resource-lists") {
                return Err(other_body());
            }
            collect(document.root(), &user, &mut recipients)?;
        }
        if recipients.is_empty() {
            return Err(malformed("No Recipients"));
        }
        if rest.is_empty() {
            return Err(malformed("No Message Beside The List"));
        }
        let history = history(&recipients);
        let (content, body) = match (rest.as_slice(), &history) {
            ([only], None) => (only.content_rows(), Bytes::copy_from_slice(only.body)),
            (parts, history) => mixed(parts, history.as_deref(), boundary),
        };
        Ok(List { recipients, content, body })
    }

    /// The header rows of a copy, as it is kept; `None` if From cannot be read, which validation has excluded (7.2).
    pub fn head(
        &self,
        request: &Request,
        recipient: &Aor,
        id: MessageId,
        domain: &str,
        now: Timestamp,
    ) -> Option<Bytes> {
        let from = request.from().ok()?.without_tag();
        let mut rows = Writer::only_rows();
        rows.header_of(HeaderName::From, &[&from, ";tag=", &format!("{:016x}", id.0 >> 64)])
            .header_of(HeaderName::To, &["<", &recipient.uri(), ">"])
            .header_of(HeaderName::CallId, &[&id.to_string(), "@", domain]);
        if request.value(HeaderName::Date).is_none() {
            rows.header(HeaderName::Date, now.sip_date());
        }
        rows.rows(&without_content(&copy::rows_of_the_message(request))).rows(&self.content);
        Some(rows.into_rows())
    }

    /// What every copy carries.
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}

/// All entries below a node. Lists within lists are flat here; what stands elsewhere and is only referred to is not fetched (4).
fn collect(
    node: Node<'_>,
    user: &impl Fn(&Uri<'_>) -> Result<Aor, Reject>,
    all: &mut Vec<Recipient>,
) -> Result<(), Reject> {
    for child in node.children().filter(|child| child.namespace() == Some(RESOURCE_LISTS)) {
        match child.local() {
            "list" => collect(child, user, all)?,
            "entry" => {
                let recipient = entry(child, user)?;
                match all.iter().position(|known| known.aor == recipient.aor) {
                    // RFC 5364 4: the highest role counts; who is not to be named once is not named.
                    Some(at) => {
                        if let Some(known) = all.get_mut(at) {
                            known.role = known.role.max(recipient.role);
                            known.is_anonymous |= recipient.is_anonymous;
                        }
                    }
                    None if all.len() >= MAX_RECIPIENTS => {
                        return Err(Reject::because(StatusCode::FORBIDDEN, "Too Many Recipients"));
                    }
                    None => all.push(recipient),
                }
            }
            "entry-ref" | "external" => {
                return Err(Reject::because(StatusCode::BAD_REQUEST, "The List Refers To Others"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Method and headers of the URI are left aside: what is sent is a MESSAGE, and what it carries is for its sender to say in the open (7.3).
fn entry(node: Node<'_>, user: &impl Fn(&Uri<'_>) -> Result<Aor, Reject>) -> Result<Recipient, Reject> {
    let malformed = || Reject::because(StatusCode::BAD_REQUEST, "Malformed URI In The List");
    let uri = node.attribute("uri").ok_or_else(malformed)?;
    let parsed = Uri::parse(uri.trim().as_bytes()).map_err(|_| malformed())?;
    let attribute = |name: &str| {
        let mut all = node.attributes();
        all.find(|(space, local, _)| *space == Some(COPY_CONTROL) && *local == name)
            .map(|(_, _, value)| value)
    };
    let role = match attribute("copyControl") {
        Some("to") => Role::To,
        Some("cc") => Role::Cc,
        // RFC 5364 4: what is not there is `bcc`; so is what nobody knows, as it shows least.
        Some(_) | None => Role::Bcc,
    };
    let is_anonymous = matches!(attribute("anonymize"), Some("true" | "1"));
    Ok(Recipient { aor: user(&parsed)?, role, is_anonymous })
}

/// The list as recipients may see it (RFC 5364 4): without `bcc`, and with one entry for all whose names are not told. `None`: nobody is in it.
fn history(recipients: &[Recipient]) -> Option<String> {
    let mut entries = String::new();
    for (role, name) in [(Role::To, "to"), (Role::Cc, "cc")] {
        let (hidden, named): (Vec<_>, Vec<_>) =
            recipients.iter().filter(|one| one.role == role).partition(|one| one.is_anonymous);
        for one in named {
            let uri = escaped(&one.aor.uri());
            entries.push_str(&format!("<entry uri=\"{uri}\" cp:copyControl=\"{name}\"/>"));
        }
        if !hidden.is_empty() {
            entries.push_str(&format!(
                "<entry uri=\"sip:anonymous@anonymous.invalid\" cp:copyControl=\"{name}\" cp:count=\"{}\"/>",
                hidden.len()
            ));
        }
    }
    (!entries.is_empty()).then(|| {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<resource-lists xmlns=\"{RESOURCE_LISTS}\" xmlns:cp=\"{COPY_CONTROL}\">\
             <list>{entries}</list></resource-lists>"
        )
    })
}

/// The parts as they came, byte for byte, and the history behind them.
fn mixed(parts: &[Part<'_>], history: Option<&str>, boundary: u128) -> (Vec<u8>, Bytes) {
    // Nobody who wrote the parts could know it.
    let boundary = format!("{boundary:032x}");
    let mut body = Vec::new();
    for part in parts {
        body.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
        body.extend_from_slice(part.text);
        body.extend_from_slice(b"\r\n");
    }
    if let Some(history) = history {
        body.extend_from_slice(
            format!(
                "--{boundary}\r\nContent-Type: {RESOURCE_LISTS_TYPE}\r\n\
                 Content-Disposition: recipient-list-history;handling=optional\r\n\r\n{history}\r\n"
            )
            .as_bytes(),
        );
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    (format!("Content-Type: multipart/mixed;boundary=\"{boundary}\"\r\n").into_bytes(), body.into())
}

/// What said what the body is speaks of the body that came.
fn without_content(rows: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(rows.len());
    let mut is_content = false;
    for line in rows.split_inclusive(|byte| *byte == b'\n') {
        if !line.starts_with(b" ") && !line.starts_with(b"\t") {
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            let name = String::from_utf8_lossy(name).trim().to_ascii_lowercase();
            is_content = name.starts_with("content-") || matches!(name.as_str(), "c" | "e" | "mime-version");
        }
        if !is_content {
            kept.extend_from_slice(line);
        }
    }
    kept
}

/// Recipients of one message: each of them costs the sender a message of their allowance (`A26`).
pub const MAX_RECIPIENTS: usize = 50;
const ACCEPTED: &str = "multipart/mixed, application/resource-lists+xml";
const RESOURCE_LISTS_TYPE: &str = "application/resource-lists+xml";
const RESOURCE_LISTS: &str = "urn:ietf:params:xml:ns:resource-lists";
const COPY_CONTROL: &str = "urn:ietf:params:xml:ns:copycontrol";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messaging::testing::message_of;

    const NOW: Timestamp = Timestamp(1_795_217_355_123);

    fn with_list(entries: &str, more: &str, rows: &str) -> Request {
        let list = format!(
            "<?xml version=\"1.0\"?><resource-lists xmlns=\"urn:ietf:params:xml:ns:resource-lists\" \
             xmlns:cp=\"urn:ietf:params:xml:ns:copycontrol\"><list>{entries}</list></resource-lists>"
        );
        let body = format!(
            "--b1\r\nContent-Type: text/plain\r\n\r\nHello World!\r\n--b1\r\nContent-Type: application/resource-lists+xml\r\n\
             Content-Disposition: recipient-list\r\n\r\n{list}\r\n{more}--b1--\r\n"
        );
        message_of("multipart/mixed;boundary=\"b1\"", rows, &body)
    }

    fn read_request(request: &Request) -> Result<List, Reject> {
        let user = |uri: &Uri<'_>| match Aor::from_uri(uri) {
            Some(aor) if aor.domain() == "example.com" => Ok(aor),
            _ => Err(Reject::new(StatusCode::NOT_FOUND)),
        };
        List::read(request, user, 7)
    }

    fn read(entries: &str) -> Result<List, Reject> {
        read_request(&with_list(entries, "", "Require: recipient-list-message\r\n"))
    }

    fn users(list: &List) -> Vec<&str> {
        list.recipients.iter().map(|one| one.aor.user()).collect()
    }

    /// RFC 5365 9, within one domain.
    const EXAMPLE: &str = "<entry uri=\"sip:bill@example.com\" cp:copyControl=\"to\"/>\
        <entry uri=\"sip:randy@example.com\" cp:copyControl=\"to\" cp:anonymize=\"true\"/>\
        <entry uri=\"sip:eddy@example.com\" cp:copyControl=\"to\" cp:anonymize=\"true\"/>\
        <entry uri=\"sip:joe@example.com\" cp:copyControl=\"cc\"/>\
        <entry uri=\"sip:carol@example.com\" cp:copyControl=\"cc\" cp:anonymize=\"true\"/>\
        <entry uri=\"sip:ted@example.com\" cp:copyControl=\"bcc\"/><entry uri=\"sip:andy@example.com\"/>";

    #[test]
    fn the_example_of_rfc5365_9() {
        let list = read(EXAMPLE).unwrap();
        assert_eq!(users(&list), ["bill", "randy", "eddy", "joe", "carol", "ted", "andy"]);
        let body = String::from_utf8(list.body.to_vec()).unwrap();
        let boundary = format!("{:032x}", 7);
        assert!(
            body.starts_with(&format!("--{boundary}\r\nContent-Type: text/plain\r\n\r\nHello World!\r\n--")),
            "{body}"
        );
        assert!(body.contains("Content-Disposition: recipient-list-history;handling=optional\r\n"), "{body}");
        let entries: Vec<_> =
            body.split("<entry ").skip(1).map(|entry| entry.split("/>").next().unwrap()).collect();
        assert_eq!(
            entries,
            [
                "uri=\"sip:bill@example.com\" cp:copyControl=\"to\"",
                "uri=\"sip:anonymous@anonymous.invalid\" cp:copyControl=\"to\" cp:count=\"2\"",
                "uri=\"sip:joe@example.com\" cp:copyControl=\"cc\"",
                "uri=\"sip:anonymous@anonymous.invalid\" cp:copyControl=\"cc\" cp:count=\"1\"",
            ]
        );
        assert_eq!(
            list.content,
            format!("Content-Type: multipart/mixed;boundary=\"{boundary}\"\r\n").as_bytes()
        );
    }

    #[test]
    fn equal_uris_are_one_recipient_in_the_highest_role_rfc5365_7_1() {
        let list = read(
            "<entry uri=\"sip:bill@example.com\"/><entry uri=\"sip:joe@example.com\" cp:copyControl=\"cc\"/>\
             <list><entry uri=\"sip:%62ill@EXAMPLE.com;method=INVITE?Subject=x\" cp:copyControl=\"to\"/></list>",
        )
        .unwrap();
        assert_eq!(users(&list), ["bill", "joe"]);
        assert_eq!(list.recipients[0].role, Role::To);
    }

    #[test]
    fn one_body_that_is_left_stands_alone_rfc5365_7_3() {
        let list = read("<entry uri=\"sip:bill@example.com\"/>").unwrap();
        assert_eq!(
            (list.content.as_slice(), &*list.body),
            (&b"Content-Type: text/plain\r\n"[..], &b"Hello World!"[..])
        );
        let more = "--b1\r\nContent-Type: image/png\r\nVia: x\r\n\r\n\x01\x02\r\n";
        let request = with_list("<entry uri=\"sip:bill@example.com\"/>", more, "");
        let body = read_request(&request).unwrap().body;
        assert!(
            String::from_utf8_lossy(&body).contains("Content-Type: image/png"),
            "two stay in a multipart"
        );
    }

    #[test]
    fn rows_of_a_part_that_are_not_about_content_stay_inside_a04() {
        let body = "--b1\r\nContent-Type: text/plain\r\nFrom: <sip:mallory@example.com>\r\nContent-Length: 3\r\nContent-Language: en\r\n\r\nhi\
            \r\n--b1\r\nContent-Type: application/resource-lists+xml\r\nContent-Disposition: recipient-list\r\n\r\n\
            <resource-lists xmlns=\"urn:ietf:params:xml:ns:resource-lists\"><list><entry uri=\"sip:a@example.com\"/></list></resource-lists>\
            \r\n--b1--\r\n";
        let list = read_request(&message_of("multipart/mixed;boundary=b1", "", body)).unwrap();
        assert_eq!(list.content, b"Content-Type: text/plain\r\nContent-Language: en\r\n");
    }

    #[test]
    fn a_copy_is_a_request_of_its_own_rfc5365_7_2() {
        let rows = "Require: recipient-list-message\r\nSubject: s\r\nContent-Language: en\r\nAuthorization: Digest x\r\n";
        let request = with_list(EXAMPLE, "", rows);
        let list = read_request(&request).unwrap();
        let id = MessageId(0xabc);
        let head = list.head(&request, &list.recipients[0].aor, id, "example.com", NOW).unwrap();
        let head = String::from_utf8(head.to_vec()).unwrap();
        assert!(head.starts_with("From: \"Alice\" <sip:alice@example.org>"), "{head}");
        assert!(head.contains("To: <sip:bill@example.com>\r\n") && head.contains("Subject: s\r\n"), "{head}");
        for gone in ["alices", "Require", "Authorization", "Content-Language", "Max-Forwards", "CSeq"] {
            assert!(!head.contains(gone), "{gone}: {head}");
        }
        assert_eq!(head.matches("Content-Type").count(), 1, "{head}");
        let other =
            list.head(&request, &list.recipients[1].aor, MessageId(1 << 100), "example.com", NOW).unwrap();
        assert!(!String::from_utf8(other.to_vec()).unwrap().contains(&id.to_string()), "a Call-ID for each");
    }

    #[test]
    fn what_is_no_list_with_a_message_is_refused_rfc5365_5() {
        let status = |refused: Result<List, Reject>| refused.unwrap_err().status.code();
        assert_eq!(status(read("")), 400);
        assert_eq!(status(read("<entry/>")), 400);
        assert_eq!(status(read("<entry-ref ref=\"x\"/>")), 400);
        assert_eq!(status(read("<entry uri=\"sip:zoe@example.org\"/>")), 404);
        assert_eq!(status(read_request(&message_of("text/plain", "", "x"))), 415);
        let two = with_list(EXAMPLE, "", "Require: recipient-list-message, other\r\n");
        let refused = read_request(&two).unwrap_err();
        assert_eq!(refused.status.code(), 420);
        let entry = |n| format!("<entry uri=\"sip:u{n}@example.com\"/>");
        let many: String = (0..MAX_RECIPIENTS).map(entry).collect();
        assert!(read(&many).is_ok());
        assert_eq!(status(read(&format!("{many}{}", entry(MAX_RECIPIENTS)))), 403);
    }
}

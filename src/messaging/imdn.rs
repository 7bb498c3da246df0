//! IMDN (RFC 5438): what a sender asks to be told of a message, what of it a store may tell, and the notification itself. Pure.
//!
//! A store knows two things nobody else does: that it has a message, and that nobody will get it any more. That a message was delivered or
//! displayed only a device knows (12.2); what devices say of it passes like any message.

use aws_lc_rs::hmac;
use bytes::Bytes;

use crate::availability::document::xml::{Document, Limits};
use crate::messaging::cpim::{Address, Cpim, HEADERS, IMDN};
use crate::messaging::cpim_write::Writer;
use crate::model::{Aor, MessageId, Timestamp};
use crate::sip::{HeaderName, Host, NameAddr, Request, Uri};

/// What a sender wants to be told (6.2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wishes {
    /// That it was delivered.
    pub positive_delivery: bool,
    /// That it could not be delivered.
    pub negative_delivery: bool,
    /// What somebody between has done with it.
    pub processing: bool,
    /// That it was displayed.
    pub display: bool,
}

impl Wishes {
    /// Those of a message. What is asked in a notification is not asked (7.2.1), nor what nobody here knows.
    pub fn of(cpim: Cpim<'_>) -> Wishes {
        let mut wishes = Wishes::default();
        if cpim.content_type().as_deref() == Some(MEDIA_TYPE) {
            return wishes;
        }
        for wish in cpim.values(IMDN, "Disposition-Notification").flat_map(|value| value.split(',')) {
            match wish.split(';').next().unwrap_or_default().trim_matches(' ') {
                "positive-delivery" => wishes.positive_delivery = true,
                "negative-delivery" => wishes.negative_delivery = true,
                "processing" => wishes.processing = true,
                "display" => wishes.display = true,
                _ => {}
            }
        }
        wishes
    }

    /// Is anything wanted?
    pub fn are_any(self) -> bool {
        self != Wishes::default()
    }
}

/// What the store has to tell. Each is told once: "stored" is never followed by "processed" (8.1), "failed" by nothing (8.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// It is kept, and its sender has got 202.
    Stored,
    /// It was kept, and nobody will get it: it has expired, or the devices refuse it for good.
    Failed,
}

impl Disposition {
    fn is_wanted(self, wishes: Wishes) -> bool {
        match self {
            Disposition::Stored => wishes.processing,
            Disposition::Failed => wishes.negative_delivery,
        }
    }

    /// Category and status (11.1.6, 11.1.7).
    fn elements(self) -> (&'static str, &'static str) {
        match self {
            Disposition::Stored => ("processing-notification", "stored"),
            Disposition::Failed => ("delivery-notification", "failed"),
        }
    }
}

/// What is known of a message besides what it says.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Call-ID of the sender's request: which message it was, for who has not named it.
    pub call_id: &'a str,
    /// Whose device it was for.
    pub recipient: &'a Aor,
    /// When it came, for who does not say when it was sent.
    pub taken_at: Timestamp,
    /// Of the notification: see [`Ids`].
    pub id: MessageId,
}

/// A notification and whom it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// A URI: the first one that the message was to be reported to on its way, else that of its sender (7.2.1).
    pub to: String,
    /// `message/cpim`.
    pub body: Bytes,
}

/// The notification that is owed for a message; `None`: it was not asked for, or must not be sent.
///
/// - `request`: the message, From and body as they came.
pub fn notification(request: &Request, what: Disposition, facts: &Facts<'_>) -> Option<Notification> {
    let cpim = Cpim::of(request)?;
    if !what.is_wanted(Wishes::of(cpim)) || is_anonymous(request) {
        return None;
    }
    // 14: what is encrypted or signed would need a notification that is, too; nobody has given us a key.
    let is_protected = |kind: &str| PROTECTED.contains(&kind) || kind.ends_with("pkcs7-mime");
    if cpim.content_type().is_none_or(|kind| is_protected(&kind)) {
        return None;
    }
    // RFC 3862 3.5: nothing is done with a message that insists on what nobody here knows.
    if cpim.insists_on_other_than(is_known) {
        return None;
    }
    let sender = cpim.address("From")?;
    let tos: Vec<_> = cpim.values(HEADERS, "To").take(MAX_ADDRESSES).filter_map(Address::parse).collect();
    let is_recipient = |to: &&Address<'_>| {
        Uri::parse(to.uri.as_bytes()).is_ok_and(|uri| Aor::from_uri(&uri).as_ref() == Some(facts.recipient))
    };
    let own = facts.recipient.uri();
    let recipient = tos.iter().find(is_recipient).or(tos.first()).cloned();
    let recipient = recipient.unwrap_or(Address { formal_name: None, uri: &own });
    let original = cpim.value(IMDN, "Original-To").and_then(Address::parse);
    let routes: Option<Vec<_>> = cpim.values(IMDN, "IMDN-Record-Route").map(Address::parse).collect();
    let routes = routes.filter(|routes| routes.len() <= MAX_ADDRESSES)?;
    let message_id = cpim.value(IMDN, "Message-ID").filter(|id| !id.is_empty()).unwrap_or(facts.call_id);
    let taken_at = facts.taken_at.rfc3339();
    let date_time = cpim.value(HEADERS, "DateTime").unwrap_or(&taken_at);
    let document = document(
        message_id,
        date_time,
        recipient.uri,
        original.as_ref().map_or(recipient.uri, |to| to.uri),
        what,
    );

    let mut writer = Writer::default();
    writer
        .address("From", &recipient)
        .address("To", &sender)
        .namespace("imdn", IMDN)
        // No DateTime: nobody asks for one (7.2.1.1), and linphone 5.1 refuses a message with any date in January.
        .header("imdn.Message-ID", &facts.id.to_string());
    for route in &routes {
        writer.address("imdn.IMDN-Route", route);
    }
    let to = routes.first().unwrap_or(&sender).uri.to_owned();
    let length = document.len().to_string();
    let headers =
        [("Content-Type", MEDIA_TYPE), ("Content-Disposition", "notification"), ("Content-Length", &length)];
    Some(Notification { to, body: writer.enclosing(&headers, document.as_bytes()) })
}

/// 11.1.9. Who an original recipient is stands there with who the recipient is, or neither.
fn document(message_id: &str, date_time: &str, recipient: &str, original: &str, what: Disposition) -> String {
    let (category, status) = what.elements();
    let [message_id, date_time, recipient, original] =
        [message_id, date_time, recipient, original].map(escape);
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<imdn xmlns=\"{NAMESPACE}\"><message-id>{message_id}</message-id>\
         <datetime>{date_time}</datetime><recipient-uri>{recipient}</recipient-uri>\
         <original-recipient-uri>{original}</original-recipient-uri><{category}><status><{status}/></status></{category}></imdn>"
    )
}

/// As XML text; what XML cannot hold is left out.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\u{fffe}' | '\u{ffff}' => {}
            control if control.is_control() => {}
            plain => escaped.push(plain),
        }
    }
    escaped
}

/// 12.1.1: who does not want to be known gets none, and could not be told whom it is for.
fn is_anonymous(request: &Request) -> bool {
    let hides = |privacy: &str| {
        privacy.split([';', ',']).any(|value| !["", "none", "critical"].contains(&value.trim()))
    };
    request.values(HeaderName::Privacy).any(|value| std::str::from_utf8(value).is_ok_and(hides))
        || request.from().is_ok_and(|from: NameAddr<'_>| names_nobody(&from.uri))
}

/// RFC 3261 8.1.1.3, RFC 3323 4.1.1.3.
pub fn names_nobody(uri: &Uri<'_>) -> bool {
    matches!(uri.host_port.host, Host::Name(name) if name.eq_ignore_ascii_case("anonymous.invalid"))
}

/// What this program does something with.
fn is_known(namespace: &str, name: &str) -> bool {
    match namespace {
        HEADERS => ["From", "To", "cc", "DateTime", "Subject", "NS", "Require"].contains(&name),
        IMDN => {
            let known =
                ["Message-ID", "Disposition-Notification", "Original-To", "IMDN-Record-Route", "IMDN-Route"];
            known.contains(&name)
        }
        _ => false,
    }
}

/// Which message a document is about (9). `None`: it does not say, or cannot be read.
pub fn reported(document: &[u8]) -> Option<String> {
    let document = Document::read(document, &Limits::PUBLISHED).ok()?;
    let root = Some(document.root()).filter(|root| root.is(NAMESPACE, "imdn"))?;
    let mut ids = root.children().filter(|child| child.is(NAMESPACE, "message-id"));
    let id = ids.next()?.text().trim().to_owned();
    ids.next().is_none().then_some(id)
}

/// Makes the Message-IDs of notifications (6.3): 128 bits that nobody can guess, and the same ones if the server dies before it has put
/// down that a notification was sent.
pub struct Ids {
    key: hmac::Key,
}

impl std::fmt::Debug for Ids {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ids").finish_non_exhaustive()
    }
}

impl Ids {
    /// `secret`: of the installation, from the store.
    pub fn new(secret: &[u8; 32]) -> Ids {
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"hither notification id 1");
        Ids { key: hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()) }
    }

    /// The one of the notification of that kind about a message.
    pub fn of(&self, about: MessageId, what: Disposition) -> MessageId {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&about.0.to_be_bytes());
        context.update(what.elements().1.as_bytes());
        let mut id = [0; 16];
        for (to, from) in id.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        MessageId(u128::from_be_bytes(id))
    }
}

/// 11.1.8.
pub const MEDIA_TYPE: &str = "message/imdn+xml";
/// 11.1.
const NAMESPACE: &str = "urn:ietf:params:xml:ns:imdn";
/// What is encrypted or signed inside of CPIM: S/MIME, PGP, and whatever else is packed so.
const PROTECTED: [&str; 4] =
    ["multipart/encrypted", "multipart/signed", "application/pgp-encrypted", "application/pgp-signature"];
/// Recipients that are looked at, and stations on the way back.
const MAX_ADDRESSES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messaging::testing::message_of;

    const NOW: Timestamp = Timestamp(1_795_217_355_000);
    const ID: MessageId = MessageId(0x0123_4567_89ab_cdef_0000_0000_0000_0001);
    /// RFC 5438 7.1.1.3, with the empty line that RFC 3862 2 asks for.
    const ASKING: &str = "From: Alice <im:alice@example.com>\r\nTo: Bob <im:bob@example.com>\r\nNS: imdn <urn:ietf:params:imdn>\r\n\
         imdn.Message-ID: 34jk324j\r\nDateTime: 2008-04-04T12:16:49-05:00\r\n\
         imdn.Disposition-Notification: negative-delivery, processing\r\n\r\nContent-type: text/plain\r\nContent-length: 12\r\n\r\nHello World";

    fn owed(body: &str, rows: &str, what: Disposition) -> Option<Notification> {
        let request = message_of("message/cpim", rows, body);
        let recipient = Aor::new("bob", "example.com").unwrap();
        let taken_at = Timestamp(NOW.0 - 60_000);
        let facts = Facts { call_id: "alices-call", recipient: &recipient, taken_at, id: ID };
        notification(&request, what, &facts)
    }

    fn failed(body: &str) -> Option<String> {
        owed(body, "", Disposition::Failed).map(|one| String::from_utf8(one.body.to_vec()).unwrap())
    }

    fn wishes(value: &str) -> Wishes {
        let body = format!(
            "NS: x <urn:ietf:params:imdn>\r\nx.Disposition-Notification: {value}\r\n\r\nContent-Type: text/plain\r\n\r\n"
        );
        Wishes::of(Cpim::parse(body.leak().as_bytes()).unwrap())
    }

    #[test]
    fn the_notification_is_that_of_the_rfc_rfc5438_7_2_1() {
        let document = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<imdn xmlns=\"urn:ietf:params:xml:ns:imdn\">\
             <message-id>34jk324j</message-id><datetime>2008-04-04T12:16:49-05:00</datetime>\
             <recipient-uri>im:bob@example.com</recipient-uri>\
             <original-recipient-uri>im:bob@example.com</original-recipient-uri>\
             <delivery-notification><status><failed/></status></delivery-notification></imdn>";
        let expected = format!(
            "From: Bob <im:bob@example.com>\r\nTo: Alice <im:alice@example.com>\r\nNS: imdn <urn:ietf:params:imdn>\r\n\
             imdn.Message-ID: 0123456789abcdef0000000000000001\r\n\r\n\
             Content-Type: message/imdn+xml\r\nContent-Disposition: notification\r\nContent-Length: {}\r\n\r\n{document}",
            document.len()
        );
        let one = owed(ASKING, "", Disposition::Failed).unwrap();
        assert_eq!(String::from_utf8_lossy(&one.body), expected);
        assert_eq!(one.to, "im:alice@example.com");
        let stored = owed(ASKING, "", Disposition::Stored).unwrap();
        let stored = String::from_utf8_lossy(&stored.body).into_owned();
        let processing =
            "<processing-notification><status><stored/></status></processing-notification></imdn>";
        assert!(stored.ends_with(processing), "{stored}");
    }

    #[test]
    fn only_what_is_asked_for_is_told_rfc5438_6_2() {
        let none = Wishes::default();
        assert_eq!(wishes("positive-delivery"), Wishes { positive_delivery: true, ..none });
        assert_eq!(wishes("negative-delivery"), Wishes { negative_delivery: true, ..none });
        assert_eq!(wishes("processing"), Wishes { processing: true, ..none });
        assert_eq!(wishes("display"), Wishes { display: true, ..none });
        let all =
            Wishes { positive_delivery: true, negative_delivery: true, processing: true, display: true };
        assert_eq!(wishes("display,positive-delivery , processing;x=y,  negative-delivery"), all);
        for unknown in ["", "Display", "delivery", "positive-delivery2", "display processing", "none"] {
            assert_eq!(wishes(unknown), none, "{unknown}");
        }
        let two = "display\r\nx.Disposition-Notification: processing";
        assert_eq!(wishes(two), Wishes { display: true, processing: true, ..none });
        for (asked, what) in [
            ("positive-delivery, display, processing", Disposition::Failed),
            ("positive-delivery, display, negative-delivery", Disposition::Stored),
        ] {
            let body = ASKING.replace("negative-delivery, processing", asked);
            assert_eq!(owed(&body, "", what), None, "{asked}");
        }
    }

    #[test]
    fn there_is_none_about_a_notification_rfc5438_7_2_1() {
        assert_eq!(failed(&ASKING.replace("text/plain", "Message/imdn+xml;charset=utf-8")), None);
    }

    #[test]
    fn it_goes_back_the_way_the_message_asked_for_rfc5438_7_2_1() {
        let routes = "imdn.IMDN-Record-Route: <im:second@example.com>\r\nimdn.IMDN-Record-Route: The \"first\" <im:first@x>\r\nDateTime";
        assert_eq!(failed(&ASKING.replace("DateTime", routes)), None, "no name is written so");
        let routes = "imdn.IMDN-Record-Route: <im:second@example.com>\r\nimdn.IMDN-Record-Route: First <im:first@x>\r\nDateTime";
        let one = owed(&ASKING.replace("DateTime", routes), "", Disposition::Failed).unwrap();
        let text = String::from_utf8_lossy(&one.body).into_owned();
        let copied =
            "imdn.IMDN-Route: <im:second@example.com>\r\nimdn.IMDN-Route: First <im:first@x>\r\n\r\n";
        assert!(text.contains(copied) && !text.contains("Record-Route"), "{text}");
        assert_eq!(one.to, "im:second@example.com");
        let many = "imdn.IMDN-Record-Route: <im:a@x>\r\n".repeat(17) + "DateTime";
        assert_eq!(failed(&ASKING.replace("DateTime", &many)), None);
    }

    #[test]
    fn who_it_was_meant_for_first_is_said_rfc5438_11_1_4() {
        let text = failed(&ASKING.replace("DateTime", "imdn.Original-To: <im:list@example.com>\r\nDateTime"))
            .unwrap();
        assert!(
            text.contains("<original-recipient-uri>im:list@example.com</original-recipient-uri>"),
            "{text}"
        );
        assert!(text.contains("<recipient-uri>im:bob@example.com</recipient-uri>"), "{text}");
    }

    #[test]
    fn what_a_message_does_not_say_is_what_is_known_of_it_rfc5438_11_1() {
        let bare = ASKING
            .replace("To: Bob <im:bob@example.com>\r\n", "")
            .replace("imdn.Message-ID: 34jk324j\r\n", "")
            .replace("DateTime: 2008-04-04T12:16:49-05:00\r\n", "");
        let text = failed(&bare).unwrap();
        assert!(
            text.contains("<message-id>alices-call</message-id><datetime>2026-11-20T23:28:15Z</datetime>")
        );
        assert!(
            text.starts_with("From: <sip:bob@example.com>\r\nTo: Alice <im:alice@example.com>\r\n"),
            "{text}"
        );
        let two = ASKING.replace("To: Bob", "To: <im:carol@example.com>\r\nTo: Bob");
        assert!(
            failed(&two).unwrap().starts_with("From: Bob <im:bob@example.com>\r\n"),
            "which of them it is"
        );
    }

    #[test]
    fn what_is_protected_and_who_is_anonymous_gets_none_rfc5438_14() {
        for kind in [
            "application/pkcs7-mime; smime-type=enveloped-data",
            "application/x-pkcs7-mime",
            "multipart/encrypted; protocol=\"application/lime\"",
            "Multipart/Signed; boundary=x",
        ] {
            assert_eq!(failed(&ASKING.replace("text/plain", kind)), None, "{kind}");
        }
        assert_eq!(owed(ASKING, "Content-Encoding: gzip\r\n", Disposition::Failed), None);
        assert_eq!(owed(ASKING, "Privacy: id;critical\r\n", Disposition::Failed), None);
        assert!(owed(ASKING, "Privacy: none\r\n", Disposition::Failed).is_some());
        let anonymous = Uri::parse(b"sip:anonymous@Anonymous.Invalid").unwrap();
        assert!(names_nobody(&anonymous));
        assert_eq!(failed(&ASKING.replace("From: Alice <im:alice@example.com>\r\n", "")), None);
    }

    #[test]
    fn a_message_that_insists_on_something_unknown_is_left_alone_rfc3862_3_5() {
        assert_eq!(failed(&ASKING.replace("DateTime", "Require: imdn.Unheard-Of\r\nDateTime")), None);
        assert!(failed(&ASKING.replace("DateTime", "Require: imdn.Message-ID\r\nDateTime")).is_some());
    }

    #[test]
    fn nothing_in_a_message_becomes_markup_or_another_line_a04() {
        let text = failed(&ASKING.replace("34jk324j", "<x>&\"\u{fc}\u{ffff}]]>")).unwrap();
        assert!(text.contains("<message-id>&lt;x&gt;&amp;\"\u{fc}]]&gt;</message-id>"), "{text}");
        let name = ASKING.replace("From: Alice", "From: \"A\\r\\nTo: <im:c@x>\\u0000\"");
        let text = failed(&name).unwrap();
        assert!(text.contains("To: \"A\\r\\nTo: <im:c@x>\\u0000\" <im:alice@example.com>\r\n"), "{text}");
        let reread = Cpim::parse(text.leak().as_bytes()).unwrap();
        assert_eq!(reported(reread.content()).as_deref(), Some("34jk324j"), "our own parser reads it");
    }

    #[test]
    fn ids_cannot_be_guessed_and_stay_the_same_rfc5438_6_3() {
        let ids = Ids::new(&[7; 32]);
        let failed = ids.of(ID, Disposition::Failed);
        assert_eq!(failed, Ids::new(&[7; 32]).of(ID, Disposition::Failed));
        assert_ne!(failed, ids.of(ID, Disposition::Stored));
        assert_ne!(failed, ids.of(MessageId(2), Disposition::Failed));
        assert_ne!(failed, Ids::new(&[8; 32]).of(ID, Disposition::Failed), "without the secret nobody knows");
        assert!((failed.0 ^ ID.0).count_ones() > 24, "nothing of the message is seen in it");
    }

    #[test]
    fn which_message_a_notification_is_about_is_read_rfc5438_9() {
        let of = |document: &str| reported(document.as_bytes());
        let example = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<imdn xmlns=\"urn:ietf:params:xml:ns:imdn\">\r\n\
             <message-id> 34jk324j\r\n</message-id><datetime>2008-04-04T12:16:49-05:00</datetime><display-notification><status>\
             <displayed/></status></display-notification></imdn>";
        assert_eq!(of(example).as_deref(), Some("34jk324j"));
        for wrong in [
            "",
            "<imdn/>",
            "<imdn xmlns=\"urn:ietf:params:xml:ns:imdn\"/>",
            "<imdn xmlns=\"urn:ietf:params:xml:ns:imdn\"><message-id>a</message-id><message-id>b</message-id></imdn>",
            "<!DOCTYPE imdn><imdn xmlns=\"urn:ietf:params:xml:ns:imdn\"><message-id>a</message-id></imdn>",
            "<imdn xmlns=\"urn:ietf:params:xml:ns:imdn\"><message-id>a</message-id>",
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}

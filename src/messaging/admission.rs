//! May this MESSAGE be delivered at all, and may it be kept if nobody takes it now? Pure.

use std::time::Duration;

use crate::availability::document::xml::{self, Document};
use crate::availability::rules::{self, Barred};
use crate::messaging::cpim::{self, Cpim};
use crate::messaging::imdn;
use crate::model::{Aor, HomeState, Reject, Timestamp};
use crate::sip::{HeaderName, Request, StatusCode, Uri};

/// A MESSAGE with a body must say what the body is (RFC 3261 7.4.1, 20.15). Which types a device takes is the device's business (RFC 3428 7).
///
/// # Errors
/// 400.
pub fn admit(request: &Request) -> Result<(), Reject> {
    if !request.body().is_empty() && request.value(HeaderName::ContentType).is_none() {
        return Err(Reject::because(StatusCode::BAD_REQUEST, "Missing Content-Type"));
    }
    Ok(())
}

/// What a MESSAGE carries, read once for all who ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// What it is for.
    pub kind: Kind,
    /// Does it say that it carries `message/cpim`, and as it is?
    is_cpim: bool,
}

impl Carried {
    /// By this request.
    pub fn by(request: &Request) -> Carried {
        let media_type = request.content_type();
        let is_cpim =
            media_type == Some(cpim::MEDIA_TYPE) && request.value(HeaderName::ContentEncoding).is_none();
        let kind = match media_type {
            Some(IS_COMPOSING) => Kind::Typing,
            // Linphone 5 writes it so to who is not known to read CPIM.
            Some(imdn::MEDIA_TYPE) => Kind::Notification,
            Some(_) | None => Kind::Text,
        };
        let carried = Carried { kind, is_cpim };
        match carried.cpim(request).and_then(Cpim::content_type).as_deref() {
            Some(IS_COMPOSING) => Carried { kind: Kind::Typing, ..carried },
            Some(imdn::MEDIA_TYPE) => Carried { kind: Kind::Notification, ..carried },
            Some(_) | None => carried,
        }
    }

    /// The CPIM message that this request carries, if it does and that can be read.
    pub fn cpim(self, request: &Request) -> Option<Cpim<'_>> {
        self.is_cpim.then(|| Cpim::parse(request.body()))?
    }

    /// `imdn.Message-ID` (RFC 5438 6.3), if it has one.
    pub fn message_id(self, request: &Request) -> Option<&str> {
        self.cpim(request).and_then(|cpim| cpim.value(cpim::IMDN, "Message-ID"))
    }
}

/// RFC 3862 4.1: what a `message/cpim` says it is from is its sender, or nobody (RFC 3261 8.1.1.3), however it is written.
///
/// # Errors
/// 403.
pub fn is_from(
    request: &Request,
    carried: Carried,
    is_sender: impl Fn(&Uri<'_>) -> bool,
) -> Result<(), Reject> {
    let may_be = |uri: &Uri<'_>| is_sender(uri) || imdn::names_nobody(uri);
    let is_true = |claim: Option<&str>| {
        claim.and_then(|uri| Uri::parse(uri.as_bytes()).ok()).is_some_and(|uri| may_be(&uri))
    };
    if carried.is_cpim && !cpim::claimed_senders(request.body()).all(is_true) {
        return Err(Reject::because(StatusCode::FORBIDDEN, "From in message/cpim is somebody else"));
    }
    Ok(())
}

/// What a message is for, as far as it matters to its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Somebody says something.
    Text,
    /// Somebody is typing (RFC 3994).
    Typing,
    /// What became of another message (RFC 5438).
    Notification,
}

/// Which kind is it?
pub fn kind(request: &Request) -> Kind {
    Carried::by(request).kind
}

/// From when on a message says nothing any more though it may be on its way: that somebody is typing holds for as long as it says (RFC 3994 3.3),
/// from Date, if there is one. `None`: it is not of that kind.
pub fn stale_from(request: &Request, carried: Carried, now: Timestamp) -> Option<Timestamp> {
    if carried.kind != Kind::Typing {
        return None;
    }
    // In CPIM it comes after the headers of the message and those of the content (RFC 3862 2).
    let parts = if carried.cpim(request).is_some() { 2 } else { 0 };
    let body = (0..parts).try_fold(request.body(), |body, _| after_empty_line(body)).unwrap_or_default();
    let refresh = refresh(body).unwrap_or(REFRESH_S);
    let expires = request.expires().ok().flatten().unwrap_or(u32::MAX);
    let sent = request.text(HeaderName::Date).and_then(Timestamp::from_sip_date);
    // A Date is whole seconds: what was sent within this one is not older than that.
    let sent = sent.map_or(now, |sent| Timestamp(sent.0.saturating_add(999)).min(now));
    Some(sent.after_secs(refresh.min(expires)))
}

fn after_empty_line(bytes: &[u8]) -> Option<&[u8]> {
    let at = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    bytes.get(at + 4..)
}

/// RFC 3994 3.2: after how many seconds `active` has to be said again.
fn refresh(body: &[u8]) -> Option<u32> {
    let document = Document::read(body, &xml::Limits::PUBLISHED).ok()?;
    let refresh = document.root().children().find(|child| child.local() == "refresh")?;
    refresh.text().trim().parse().ok()
}

/// Until when a message may be kept for a recipient who is away; `None`: it is for now or never.
///
/// - `retention`: how long anything is kept at most.
pub fn kept_until(
    request: &Request,
    carried: Carried,
    now: Timestamp,
    retention: Duration,
) -> Option<Timestamp> {
    // RFC 3994 3.2: that somebody is typing is of no use later.
    if carried.kind == Kind::Typing {
        return None;
    }
    // Who answers 202 is a UAS, and must know what it is required to know (RFC 3261 8.2.2.3). Devices may; they are not here.
    if request.value(HeaderName::Require).is_some() {
        return None;
    }
    let longest = now.after(retention);
    // What cannot be read says nothing (RFC 3261 20.19).
    let Some(seconds) = request.expires().ok().flatten() else { return Some(longest) };
    // RFC 3428 7: from Date, if there is one. A clock that is ahead does not make a message live longer.
    let sent = request.text(HeaderName::Date).and_then(Timestamp::from_sip_date);
    let expires = sent.map_or(now, |sent| sent.min(now)).after_secs(seconds).min(longest);
    (expires > now).then_some(expires)
}

/// What a sender hears whom the recipient does not want to hear; `None` for all others. It holds before anything is stored or forked.
///
/// - `may_be_kept`: would the message be kept for somebody who is away? Who is not to notice hears what they would hear then.
pub fn barred(recipient: &HomeState, sender: &Aor, may_be_kept: bool, now: Timestamp) -> Option<StatusCode> {
    match rules::barred(recipient, sender, now) {
        Barred::No => None,
        Barred::Openly => Some(StatusCode::FORBIDDEN),
        Barred::Politely if may_be_kept => Some(StatusCode::ACCEPTED),
        Barred::Politely => Some(StatusCode::TEMPORARILY_UNAVAILABLE),
    }
}

const IS_COMPOSING: &str = "application/im-iscomposing+xml";
/// RFC 3994 3.3: where it does not say how long.
const REFRESH_S: u32 = 120;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messaging::testing::message;

    const NOW: Timestamp = Timestamp(1_795_217_355_000);
    const WEEK: Duration = Duration::from_secs(604_800);

    fn left(rows: &str) -> Option<u32> {
        until(&message(rows, "hello")).map(|until| until.secs_from(NOW))
    }

    fn until(request: &Request) -> Option<Timestamp> {
        kept_until(request, Carried::by(request), NOW, WEEK)
    }

    fn stale(request: &Request) -> Option<Timestamp> {
        stale_from(request, Carried::by(request), NOW)
    }

    #[test]
    fn a_message_is_kept_for_the_retention_or_its_expires_rfc3428_7() {
        assert_eq!(left(""), Some(604_800));
        assert_eq!(left("Expires: 60\r\n"), Some(60));
        assert_eq!(left("Expires: 4294967295\r\n"), Some(604_800));
        assert_eq!(left("Expires: soon\r\n"), Some(604_800));
    }

    #[test]
    fn expires_counts_from_date_rfc3428_7() {
        let date =
            |seconds_ago: i64| format!("Date: {}\r\n", Timestamp(NOW.0 - seconds_ago * 1_000).sip_date());
        assert_eq!(left(&format!("{}Expires: 60\r\n", date(20))), Some(40));
        assert_eq!(left(&format!("{}Expires: 60\r\n", date(60))), None, "it has expired");
        assert_eq!(left(&format!("{}Expires: 60\r\n", date(-3_600))), Some(60), "a clock that is ahead");
        assert_eq!(left("Date: yesterday\r\nExpires: 60\r\n"), Some(60));
        assert_eq!(left(&date(1_000_000)), Some(604_800), "without Expires it does not expire");
    }

    #[test]
    fn what_is_for_now_is_not_kept_rfc3994_3_2() {
        assert_eq!(left("Expires: 0\r\n"), None);
        assert_eq!(left("Require: something\r\n"), None);
        let composing = message("", "<isComposing/>");
        assert!(until(&composing).is_some());
        let composing =
            crate::messaging::testing::message_of("Application/im-isComposing+xml; charset=utf-8", "", "x");
        assert_eq!(until(&composing), None);
        let enclosed =
            "From: <im:a@x>\r\n\r\nContent-Type: application/im-iscomposing+xml\r\n\r\n<isComposing/>";
        let composing = crate::messaging::testing::message_of("message/cpim", "", enclosed);
        assert_eq!(until(&composing), None);
    }

    #[test]
    fn a_cpim_message_is_from_its_sender_or_from_nobody_rfc3862_4_1() {
        let sent = |body: &str| {
            let request = crate::messaging::testing::message_of("message/cpim", "", body);
            let carried = Carried::by(&request);
            is_from(&request, carried, |uri| uri.as_str() == "im:alice@example.org")
                .map_err(|no| no.status.code())
        };
        let enclosed = "\r\n\r\nContent-Type: text/plain\r\n\r\nhello";
        for from in ["From: Alice <im:alice@example.org>", "From: <sip:a@anonymous.invalid>", "To: <im:b@x>"]
        {
            assert_eq!(sent(&format!("{from}{enclosed}")), Ok(()), "{from}");
        }
        for from in [
            "From: Alice <im:bob@example.org>",
            "From: <im:alice@example.org>\r\nFrom: <im:bob@example.org>",
            "From: im:bob@example.org",
            "From: <bob>",
            "from:<im:bob@example.org>",
            "To: <im:b@x>\nFrom: <im:bob@example.org>\n",
        ] {
            assert_eq!(sent(&format!("{from}{enclosed}")), Err(403), "{from}");
        }
        // What another type says is nobody's business.
        let text =
            crate::messaging::testing::message_of("text/plain", "", "From: <im:bob@example.org>\r\n\r\n");
        assert_eq!(is_from(&text, Carried::by(&text), |_| false), Ok(()));
    }

    #[test]
    fn that_somebody_is_typing_holds_for_as_long_as_it_says_rfc3994_3_3() {
        let of = |rows: &str, inner: &str| {
            let body = format!(
                "<isComposing xmlns=\"urn:ietf:params:xml:ns:im-iscomposing\"><state>active</state>{inner}</isComposing>"
            );
            let request = crate::messaging::testing::message_of(IS_COMPOSING, rows, &body);
            stale(&request).map(|at| at.0.saturating_sub(NOW.0) / 1_000)
        };
        assert_eq!(of("", "<refresh>90</refresh>"), Some(90));
        assert_eq!(of("", ""), Some(120));
        assert_eq!(of("", "<refresh>soon</refresh>"), Some(120));
        assert_eq!(of("Expires: 30\r\n", "<refresh>90</refresh>"), Some(30));
        let date = format!("Date: {}\r\n", Timestamp(NOW.0 - 100_000).sip_date());
        assert!(of(&date, "<refresh>90</refresh>").is_some_and(|left| left < 0), "it is over");
        assert_eq!(stale(&message("", "hello")), None);
        let enclosed = "From: <im:a@x>\r\n\r\nContent-Type: application/im-iscomposing+xml\r\n\r\n\
                        <isComposing><refresh>60</refresh></isComposing>";
        let enclosed = crate::messaging::testing::message_of("message/cpim", "", enclosed);
        assert_eq!(stale(&enclosed), Some(NOW.after_secs(60)));
    }

    #[test]
    fn notifications_are_known_by_what_they_enclose_rfc5438_7_2_1() {
        let of = |enclosed: &str| {
            let body = format!("From: <im:a@x>\r\n\r\nContent-Type: {enclosed}\r\n\r\n");
            kind(&crate::messaging::testing::message_of("message/cpim", "", &body))
        };
        assert_eq!(of("message/imdn+xml"), Kind::Notification);
        assert_eq!(of("Message/IMDN+xml; charset=utf-8"), Kind::Notification);
        assert_eq!(of("text/plain"), Kind::Text);
        let bare =
            crate::messaging::testing::message_of("message/imdn+xml", "Content-Encoding: deflate\r\n", "x");
        assert_eq!(kind(&bare), Kind::Notification);
        assert_eq!(kind(&message("", "hello")), Kind::Text);
    }
}

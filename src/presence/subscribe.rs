//! Reads a SUBSCRIBE: what it asks, and in which dialog (RFC 6665 4.1.2, RFC 3261 12).

use crate::model::{Package, Reject, SubscriptionId};
use crate::presence::package::{self, Wanted};
use crate::sip::{Contacts, HeaderName, NameAddr, Request, Scheme, StatusCode};

/// A SUBSCRIBE as far as it concerns us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// Event package.
    pub package: Package,
    /// `id` of Event.
    pub event_id: Option<String>,
    /// Expires, in seconds.
    pub expires: Option<u32>,
    /// What it asks to be shown.
    pub wanted: Wanted,
    /// Dialog: Call-ID.
    pub call_id: String,
    /// CSeq number.
    pub cseq: u32,
    /// From tag.
    pub remote_tag: String,
    /// To tag; `None` begins a dialog.
    pub local_tag: Option<String>,
    /// From without tag.
    pub remote_address: String,
    /// To without tag.
    pub local_address: String,
    /// Contact URI.
    pub contact: Option<String>,
    /// Record-Route in order.
    pub route_set: Vec<String>,
    /// Which subscription the Request-URI names.
    pub named: Named,
}

/// What the `gr` parameter of the Request-URI says: it is in the Contact that we gave (RFC 6665 4.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// No `gr`: somebody on the way took it off; the dialog's ids decide.
    Not,
    /// One of ours.
    Ours(SubscriptionId),
    /// Something that we cannot have made.
    Foreign,
}

impl Subscribe {
    /// Reads a SUBSCRIBE.
    ///
    /// # Errors
    /// 489 or 400 (Event), 406 (Accept), 400 (Contact that is not exactly one SIP URI, malformed headers).
    pub fn read(request: &Request) -> Result<Subscribe, Reject> {
        let (package, event_id) = package::event(request)?;
        let event_id = event_id.map(str::to_owned);
        let wanted = package::wanted(request, package)?;
        let (from, to) = (request.from().map_err(bad)?, request.to().map_err(bad)?);
        let contact = contact(request)?;
        let local_tag = to.tag().map(str::to_owned);
        if contact.is_none() && local_tag.is_none() {
            return Err(Reject::because(StatusCode::BAD_REQUEST, "Missing Contact"));
        }
        let route_set = request
            .addresses(HeaderName::RecordRoute)
            .map(|route| route.map(|route| format!("<{}>{}", route.uri.as_str(), route.params.as_str())))
            .collect::<Result<_, _>>()
            .map_err(bad)?;
        Ok(Subscribe {
            package,
            event_id,
            expires: request.expires().map_err(bad)?,
            wanted,
            call_id: request.call_id().map_err(bad)?.to_owned(),
            cseq: request.cseq().map_err(bad)?.number,
            remote_tag: from.tag().unwrap_or_default().to_owned(),
            local_tag,
            remote_address: without_tag(&from),
            local_address: without_tag(&to),
            contact,
            route_set,
            named: named(request),
        })
    }
}

/// The `gr` parameter by which a subscription is found again.
pub fn gr(id: SubscriptionId) -> String {
    let mut gr = String::with_capacity(GR_PREFIX.len() + 32);
    push_gr(&mut gr, id);
    gr
}

/// The same behind what is there.
pub(super) fn push_gr(text: &mut String, id: SubscriptionId) {
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' - 10 + value };
    let mut digits = [b'0'; 32];
    for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(id.0.to_be_bytes()) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
    text.push_str(GR_PREFIX);
    // Digits are text.
    text.push_str(std::str::from_utf8(&digits).unwrap_or_default());
}

fn named(request: &Request) -> Named {
    let Some(gr) = request.uri().ok().and_then(|uri| uri.params.get("gr")) else { return Named::Not };
    gr.strip_prefix(GR_PREFIX)
        .filter(|hex| hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
        .and_then(|hex| u128::from_str_radix(hex, 16).ok())
        .map_or(Named::Foreign, |id| Named::Ours(SubscriptionId(id)))
}

fn contact(request: &Request) -> Result<Option<String>, Reject> {
    let Contacts::List(contacts) = request.contacts().map_err(bad)? else {
        return Err(Reject::because(StatusCode::BAD_REQUEST, "Contact Is Not One URI"));
    };
    match contacts.as_slice() {
        [] => Ok(None),
        [contact] if matches!(contact.uri.scheme, Scheme::Sip | Scheme::Sips) => {
            let uri = contact.uri.as_str();
            if uri.len() > MAX_CONTACT {
                return Err(Reject::because(StatusCode::BAD_REQUEST, "Contact Too Long"));
            }
            // RFC 3261 19.1.1: headers have no place in a Request-URI.
            Ok(Some(contact.uri.without_headers().to_owned()))
        }
        _ => Err(Reject::because(StatusCode::BAD_REQUEST, "Contact Is Not One SIP URI")),
    }
}

/// An address as it was sent, without its `tag`.
fn without_tag(address: &NameAddr<'_>) -> String {
    address.without_tag()
}

fn bad(error: crate::sip::ParseError) -> Reject {
    Reject::because(StatusCode::BAD_REQUEST, error.what)
}

const GR_PREFIX: &str = "hither-";
/// A Contact that leaves room in a start line.
const MAX_CONTACT: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::testing::request;

    fn read(rows: &str) -> Result<Subscribe, Reject> {
        Subscribe::read(&request("SUBSCRIBE", "sip:alice@example.org", rows, ""))
    }

    fn refusal<T>(result: Result<T, Reject>) -> u16 {
        result.err().expect("a refusal").status.code()
    }

    #[test]
    fn contact_must_be_exactly_one_sip_uri_rfc6665_4_1_2() {
        for contact in ["", "Contact: *\r\n", "Contact: <tel:+1>\r\n", "Contact: <sip:a@b>, <sip:c@d>\r\n"] {
            let rows = format!("Event: presence\r\n{contact}");
            assert_eq!(refusal(read(&rows)), 400, "{contact}");
        }
    }

    #[test]
    fn event_and_accept_are_checked_rfc6665_3_1() {
        let rows = "Contact: <sip:a@b>\r\nEvent: conference\r\n";
        assert_eq!(refusal(read(rows)), 489);
        assert_eq!(refusal(read("Contact: <sip:a@b>\r\nEvent: presence\r\nAccept: text/plain\r\n")), 406);
    }

    #[test]
    fn other_parameters_of_from_and_to_are_kept_rfc3261_12_2_1_1() {
        for (address, kept) in [
            ("sip:a@b;tag=x", "sip:a@b"),
            ("<sip:a@b;p=q>;x=y;tag=1;z", "<sip:a@b;p=q>;x=y;z"),
            ("\"A; B\" <sip:a@b> ;tag=1", "\"A; B\" <sip:a@b>"),
        ] {
            assert_eq!(without_tag(&NameAddr::parse(address.as_bytes()).unwrap()), kept);
        }
    }
}

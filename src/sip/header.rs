//! Header names, long and compact (RFC 3261 7.3.3, 20).

macro_rules! header_names {
    ($($variant:ident = $text:literal),* $(,)?) => {
        /// The headers this server acts on; all others are `Other` and keep their bytes and their place.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum HeaderName {
            $(#[doc = concat!("`", $text, "`")] $variant,)*
            /// Any name not in this list.
            Other,
        }

        impl HeaderName {
            /// Every name but `Other`.
            pub const ALL: &[HeaderName] = &[$(HeaderName::$variant),*];

            /// The long form as it is written ("Call-ID"); `""` for `Other`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(HeaderName::$variant => $text,)*
                    HeaderName::Other => "",
                }
            }

            /// What a row of that name begins with: name, colon, space.
            pub(super) fn row_start(self) -> &'static str {
                match self {
                    $(HeaderName::$variant => concat!($text, ": "),)*
                    HeaderName::Other => "",
                }
            }
        }
    };
}

header_names! {
    Accept = "Accept",
    AcceptContact = "Accept-Contact",
    AcceptEncoding = "Accept-Encoding",
    AcceptLanguage = "Accept-Language",
    Allow = "Allow",
    AllowEvents = "Allow-Events",
    Authorization = "Authorization",
    CallId = "Call-ID",
    Contact = "Contact",
    ContentEncoding = "Content-Encoding",
    ContentLength = "Content-Length",
    ContentType = "Content-Type",
    CSeq = "CSeq",
    Date = "Date",
    Event = "Event",
    Expires = "Expires",
    From = "From",
    MaxBreadth = "Max-Breadth",
    MaxForwards = "Max-Forwards",
    MinExpires = "Min-Expires",
    PAssertedIdentity = "P-Asserted-Identity",
    PPreferredIdentity = "P-Preferred-Identity",
    Path = "Path",
    Priority = "Priority",
    Privacy = "Privacy",
    ProxyAuthenticate = "Proxy-Authenticate",
    ProxyAuthorization = "Proxy-Authorization",
    ProxyRequire = "Proxy-Require",
    Reason = "Reason",
    RecordRoute = "Record-Route",
    RejectContact = "Reject-Contact",
    RemotePartyId = "Remote-Party-ID",
    RequestDisposition = "Request-Disposition",
    Require = "Require",
    RetryAfter = "Retry-After",
    Route = "Route",
    Server = "Server",
    ServiceRoute = "Service-Route",
    SipEtag = "SIP-ETag",
    SipIfMatch = "SIP-If-Match",
    Subject = "Subject",
    SubscriptionState = "Subscription-State",
    Supported = "Supported",
    Timestamp = "Timestamp",
    To = "To",
    Unsupported = "Unsupported",
    UserAgent = "User-Agent",
    Via = "Via",
    Warning = "Warning",
    WwwAuthenticate = "WWW-Authenticate",
}

impl HeaderName {
    /// Long and compact forms, any case. Unknown names are `Other`.
    pub fn parse(name: &[u8]) -> HeaderName {
        use HeaderName as H;
        let at = |index: usize| name.get(index).map_or(0, u8::to_ascii_lowercase);
        let candidate = match (name.len(), at(0)) {
            (1, first) => return compact(first),
            (2, b't') => H::To,
            (3, b'v') => H::Via,
            (4, b'f') => H::From,
            (4, b'd') => H::Date,
            (4, b'p') => H::Path,
            (4, b'c') => H::CSeq,
            (5, b'r') => H::Route,
            (5, b'e') => H::Event,
            (5, b'a') => H::Allow,
            (6, b'a') => H::Accept,
            (6, b's') => H::Server,
            (6, b'r') => H::Reason,
            (7, b'c') if at(1) == b'a' => H::CallId,
            (7, b'c') => H::Contact,
            (7, b'e') => H::Expires,
            (7, b'p') => H::Privacy,
            (7, b'r') => H::Require,
            (7, b's') => H::Subject,
            (7, b'w') => H::Warning,
            (8, b'p') => H::Priority,
            (8, b's') => H::SipEtag,
            (9, b's') => H::Supported,
            (9, b't') => H::Timestamp,
            (10, b'u') => H::UserAgent,
            (11, b'm') if at(1) == b'a' => H::MaxBreadth,
            (11, b'm') => H::MinExpires,
            (11, b'r') => H::RetryAfter,
            (11, b'u') => H::Unsupported,
            (12, b'c') => H::ContentType,
            (12, b'm') => H::MaxForwards,
            (12, b'r') => H::RecordRoute,
            (12, b's') => H::SipIfMatch,
            (12, b'a') => H::AllowEvents,
            (13, b'a') => H::Authorization,
            (13, b'p') => H::ProxyRequire,
            (13, b's') => H::ServiceRoute,
            (14, b'c') => H::ContentLength,
            (14, b'a') => H::AcceptContact,
            (14, b'r') => H::RejectContact,
            (15, b'r') => H::RemotePartyId,
            (15, b'a') if at(7) == b'e' => H::AcceptEncoding,
            (15, b'a') => H::AcceptLanguage,
            (16, b'c') => H::ContentEncoding,
            (16, b'w') => H::WwwAuthenticate,
            (18, b'p') => H::ProxyAuthenticate,
            (18, b's') => H::SubscriptionState,
            (19, b'p') if at(1) == b'-' => H::PAssertedIdentity,
            (19, b'p') => H::ProxyAuthorization,
            (19, b'r') => H::RequestDisposition,
            (20, b'p') => H::PPreferredIdentity,
            _ => return H::Other,
        };
        // Most are written as in the RFC, which is quick to see.
        let text = candidate.as_str().as_bytes();
        if text == name || text.eq_ignore_ascii_case(name) { candidate } else { H::Other }
    }

    /// Authorization and its kin: rows hold commas of their own and are never split or merged (RFC 3261 7.3.1).
    pub(super) fn is_credentials_or_challenge(self) -> bool {
        matches!(
            self,
            HeaderName::Authorization
                | HeaderName::ProxyAuthorization
                | HeaderName::WwwAuthenticate
                | HeaderName::ProxyAuthenticate
        )
    }

    /// A set of names as bits.
    pub(super) const fn bit(self) -> u64 {
        1 << (self as u8)
    }
}

/// Compact forms of RFC 3261 7.3.3, RFC 6665 8.2.1 and RFC 3841 9.
fn compact(letter: u8) -> HeaderName {
    match letter {
        b'a' => HeaderName::AcceptContact,
        b'c' => HeaderName::ContentType,
        b'd' => HeaderName::RequestDisposition,
        b'e' => HeaderName::ContentEncoding,
        b'f' => HeaderName::From,
        b'i' => HeaderName::CallId,
        b'j' => HeaderName::RejectContact,
        b'k' => HeaderName::Supported,
        b'l' => HeaderName::ContentLength,
        b'm' => HeaderName::Contact,
        b'o' => HeaderName::Event,
        b's' => HeaderName::Subject,
        b't' => HeaderName::To,
        b'u' => HeaderName::AllowEvents,
        b'v' => HeaderName::Via,
        _ => HeaderName::Other,
    }
}

/// One header row as it stands in the message, unfolded.
#[derive(Debug, Clone, Copy)]
pub struct Header<'a> {
    /// Known name or `Other`.
    pub name: HeaderName,
    /// The name as it was sent, without white space.
    pub raw_name: &'a [u8],
    /// The value without leading and trailing white space.
    pub value: &'a [u8],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_in_any_case_rfc3261_7_3() {
        for &name in HeaderName::ALL {
            assert_eq!(HeaderName::parse(name.as_str().as_bytes()), name);
            assert_eq!(HeaderName::parse(name.as_str().to_uppercase().as_bytes()), name);
            assert_eq!(HeaderName::parse(name.as_str().to_lowercase().as_bytes()), name);
        }
        assert!(HeaderName::ALL.len() < 64, "names are bits of a u64");
    }

    #[test]
    fn compact_forms_are_the_long_forms_rfc3261_7_3_3() {
        for (letter, name) in [
            ("i", HeaderName::CallId),
            ("M", HeaderName::Contact),
            ("e", HeaderName::ContentEncoding),
            ("L", HeaderName::ContentLength),
            ("c", HeaderName::ContentType),
            ("F", HeaderName::From),
            ("s", HeaderName::Subject),
            ("k", HeaderName::Supported),
            ("T", HeaderName::To),
            ("v", HeaderName::Via),
            ("o", HeaderName::Event),
            ("U", HeaderName::AllowEvents),
            ("D", HeaderName::RequestDisposition),
            ("x", HeaderName::Other),
        ] {
            assert_eq!(HeaderName::parse(letter.as_bytes()), name);
        }
    }

    #[test]
    fn near_misses_are_other() {
        for name in ["Vie", "", "Call_ID", "Contact-", "C%6Fntact", "Content-Lengt", "Max-Forwardz"] {
            assert_eq!(HeaderName::parse(name.as_bytes()), HeaderName::Other, "{name}");
        }
    }
}

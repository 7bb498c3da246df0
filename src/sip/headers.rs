//! Typed views of a header section, made on demand (RFC 3261 20).

use std::borrow::Cow;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::sip::digest::Credentials;
use crate::sip::lexer::{self, Elements, Span};
use crate::sip::params::Grammar;
use crate::sip::places::MediaType;
use crate::sip::{
    CSeq, Contacts, Event, Header, HeaderName, Headers, Method, NameAddr, Params, ParseError, Via, name_addr,
    via,
};

impl Headers {
    /// All rows in order.
    pub fn iter(&self) -> impl Iterator<Item = Header<'_>> {
        self.index.rows.iter().map(|entry| Header {
            name: entry.name,
            raw_name: self.octets.of(entry.raw_name),
            value: self.octets.of(entry.value),
        })
    }

    /// The first row of that name, unfolded, trimmed.
    pub fn value(&self, name: HeaderName) -> Option<&[u8]> {
        self.index.rows_of(name).next().map(|entry| self.octets.of(entry.value))
    }

    /// The first row of that name if it is UTF-8.
    pub fn text(&self, name: HeaderName) -> Option<&str> {
        self.octets.text(self.index.rows_of(name).next()?.value).ok()
    }

    /// Every row of that name.
    pub fn values(&self, name: HeaderName) -> impl Iterator<Item = &[u8]> {
        self.index.rows_of(name).map(|entry| self.octets.of(entry.value))
    }

    /// The elements of a comma list over all rows of that name, in order; commas inside quotes and `<>` do not split.
    /// Rows of the Authorization family are elements as they stand (7.3.1).
    pub fn elements(&self, name: HeaderName) -> impl Iterator<Item = &[u8]> {
        let whole_rows = name.is_credentials_or_challenge();
        self.values(name).flat_map(move |value| {
            let (row, list) = if whole_rows { (Some(value), &[][..]) } else { (None, value) };
            row.into_iter().chain(Elements::new(list))
        })
    }

    /// The first row whose name (any case) is this; for headers without a [`HeaderName`].
    pub fn other(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|row| row.raw_name.eq_ignore_ascii_case(name.as_bytes())).map(|row| row.value)
    }

    /// Does a token list (Require, Supported, Accept..) hold this token, case-insensitively? Parameters do not count.
    pub fn has_token(&self, name: HeaderName, token: &str) -> bool {
        self.elements(name).any(|element| {
            let end = element.iter().position(|&b| b == b';').unwrap_or(element.len());
            lexer::trim(element.get(..end).unwrap_or_default()).eq_ignore_ascii_case(token.as_bytes())
        })
    }

    /// The body, byte for byte.
    pub fn body(&self) -> &[u8] {
        self.octets.of(self.body)
    }

    /// The body as shared bytes.
    pub fn body_bytes(&self) -> Bytes {
        self.bytes().slice_ref(self.body())
    }

    /// The whole message as received (folded rows read as one).
    pub fn bytes(&self) -> &Bytes {
        self.octets.bytes()
    }

    /// How many octets after the body were dropped from the datagram (18.3; `A01`), to be counted.
    pub fn surplus(&self) -> usize {
        self.surplus
    }

    /// All Vias, top first.
    pub fn vias(&self) -> impl Iterator<Item = Result<Via<'_>, ParseError>> {
        self.elements(HeaderName::Via)
            .map(|element| self.octets.text_of(element).map_err(via::not_text).and_then(Via::read))
    }

    /// The topmost Via.
    pub fn top_via(&self) -> Result<Via<'_>, ParseError> {
        let read = || self.vias().next().unwrap_or_else(|| Err(ParseError::bad("Missing Via", 0)));
        self.index.seen.top_via.view(&self.octets, read)
    }

    /// `From`.
    pub fn from(&self) -> Result<NameAddr<'_>, ParseError> {
        self.index.seen.from.view(&self.octets, || self.read_from())
    }

    /// The same for one who asks once: its places are not kept.
    pub(super) fn read_from(&self) -> Result<NameAddr<'_>, ParseError> {
        let value = self.value(HeaderName::From).ok_or_else(|| ParseError::bad("Missing From", 0))?;
        self.address(value).map_err(|e| ParseError { what: "Malformed From", ..e })
    }

    /// `To`.
    pub fn to(&self) -> Result<NameAddr<'_>, ParseError> {
        self.index.seen.to.view(&self.octets, || self.read_to())
    }

    /// As [`Headers::read_from`].
    pub(super) fn read_to(&self) -> Result<NameAddr<'_>, ParseError> {
        let value = self.value(HeaderName::To).ok_or_else(|| ParseError::bad("Missing To", 0))?;
        self.address(value).map_err(|e| ParseError { what: "Malformed To", ..e })
    }

    /// `Call-ID`.
    pub fn call_id(&self) -> Result<&str, ParseError> {
        let value = self.value(HeaderName::CallId).ok_or_else(|| ParseError::bad("Missing Call-ID", 0))?;
        let (word, host) = match lexer::find(value, b'@') {
            Some(at) => (value.get(..at).unwrap_or_default(), value.get(at + 1..)),
            None => (value, None),
        };
        let is_word = |part: &[u8]| !part.is_empty() && lexer::run(part, lexer::WORD) == part.len();
        match self.octets.text_of(value) {
            Ok(text) if is_word(word) && host.is_none_or(is_word) => Ok(text),
            _ => Err(ParseError::bad("Malformed Call-ID", 0)),
        }
    }

    /// `CSeq`.
    pub fn cseq(&self) -> Result<CSeq, ParseError> {
        let bad = || ParseError::bad("Malformed CSeq", 0);
        let value = self.value(HeaderName::CSeq).ok_or_else(|| ParseError::bad("Missing CSeq", 0))?;
        let end = value.iter().position(|&b| lexer::is_blank(b)).ok_or_else(bad)?;
        let (number, method) = value.split_at_checked(end).ok_or_else(bad)?;
        let number = lexer::exact_u32(number).ok_or_else(bad)?;
        Ok(CSeq { number, method: Method::parse(lexer::trim(method)).map_err(|_| bad())? })
    }

    /// `Max-Forwards` (0..=255).
    pub fn max_forwards(&self) -> Result<Option<u8>, ParseError> {
        self.value(HeaderName::MaxForwards)
            .map(|value| {
                lexer::exact_u32(value)
                    .and_then(|hops| u8::try_from(hops).ok())
                    .ok_or_else(|| ParseError::bad("Malformed Max-Forwards", 0))
            })
            .transpose()
    }

    /// `Max-Breadth`, clamped to 2^32-1 (RFC 5393 5.3.1).
    ///
    /// # Errors
    /// It is not a positive integer.
    pub fn max_breadth(&self) -> Result<Option<u32>, ParseError> {
        let positive = |value| lexer::clamped_u32(value).filter(|breadth| *breadth > 0);
        self.value(HeaderName::MaxBreadth)
            .map(|value| positive(value).ok_or_else(|| ParseError::bad("Malformed Max-Breadth", 0)))
            .transpose()
    }

    /// `Expires`, clamped to 2^32-1; `Ok(None)` if absent, an error if malformed (20.19).
    pub fn expires(&self) -> Result<Option<u32>, ParseError> {
        self.value(HeaderName::Expires)
            .map(|value| lexer::clamped_u32(value).ok_or_else(|| ParseError::bad("Malformed Expires", 0)))
            .transpose()
    }

    /// `Contact`.
    ///
    /// # Errors
    /// An address that cannot be read, or `*` beside another element (10.3 step 6).
    pub fn contacts(&self) -> Result<Contacts<'_>, ParseError> {
        let mut elements = self.elements(HeaderName::Contact);
        let mut list = SmallVec::new();
        while let Some(element) = elements.next() {
            if element == b"*" {
                return if list.is_empty() && elements.next().is_none() {
                    Ok(Contacts::Star)
                } else {
                    Err(ParseError::bad("Contact * is not alone", 0))
                };
            }
            let address = self.address(element).map_err(|e| ParseError { what: "Malformed Contact", ..e })?;
            list.push(address);
        }
        Ok(Contacts::List(list))
    }

    /// Route, Record-Route, Path, Service-Route, P-Asserted-Identity: a list of addresses.
    pub fn addresses(&self, name: HeaderName) -> impl Iterator<Item = Result<NameAddr<'_>, ParseError>> {
        self.elements(name).map(|element| self.address(element))
    }

    /// The address that an element of these headers is.
    fn address<'a>(&'a self, element: &'a [u8]) -> Result<NameAddr<'a>, ParseError> {
        self.octets.text_of(element).map_err(name_addr::not_text).and_then(NameAddr::read)
    }

    /// `Event`.
    pub fn event(&self) -> Result<Option<Event<'_>>, ParseError> {
        let Some(value) = self.value(HeaderName::Event) else { return Ok(None) };
        let bad = || ParseError::bad("Malformed Event", 0);
        let text = self.octets.text_of(value).map_err(|_| bad())?;
        let end = text.find(';').unwrap_or(text.len());
        let (package, params) = text.split_at_checked(end).ok_or_else(bad)?;
        let package = package.trim_matches([' ', '\t']);
        if !package.split('.').all(|part| lexer::is_token(part.as_bytes())) {
            return Err(bad());
        }
        let params = Params::parse(params, Grammar::Header).map_err(|_| bad())?;
        Ok(Some(Event { package, id: params.get("id") }))
    }

    /// A parameter of `Event`; of a quoted string what it says (RFC 3261 25.1).
    pub fn event_param(&self, name: &str) -> Option<String> {
        let text = self.text(HeaderName::Event)?;
        let params = Params::parse(text.get(text.find(';')?..)?, Grammar::Header).ok()?;
        let mut chars = params.get(name)?.chars();
        Some(
            std::iter::from_fn(|| chars.next().and_then(|c| if c == '\\' { chars.next() } else { Some(c) }))
                .collect(),
        )
    }

    /// Digest credentials in Authorization or Proxy-Authorization, one per row; other schemes are skipped.
    pub fn credentials(&self, name: HeaderName) -> impl Iterator<Item = Result<Credentials<'_>, ParseError>> {
        let text_of = |part| self.octets.text_of(part);
        self.values(name).filter_map(move |value| Credentials::read(value, text_of).transpose())
    }

    /// Media type of the body in lower case without parameters ("application/pidf+xml").
    pub fn content_type(&self) -> Option<&str> {
        match self.index.seen.media_type.get_or_init(|| self.read_media_type()) {
            MediaType::AsWritten(place) => self.octets.text(*place).ok(),
            MediaType::Lowered(text) => Some(text),
            MediaType::Unknown => None,
        }
    }

    fn read_media_type(&self) -> MediaType {
        let Some(text) = self.text(HeaderName::ContentType) else { return MediaType::Unknown };
        let media = lexer::split_once(text, b';').map_or(text, |(media, _)| media).trim();
        let Some((kind, subtype)) = lexer::split_once(media, b'/') else { return MediaType::Unknown };
        let is_token = |part: &str| lexer::is_token(part.as_bytes());
        if is_token(kind) && is_token(subtype) && !media.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return MediaType::AsWritten(Span::of_part(self.bytes(), media.as_bytes()));
        }
        let (kind, subtype) = (kind.trim(), subtype.trim());
        if is_token(kind) && is_token(subtype) {
            MediaType::Lowered(format!("{kind}/{subtype}").to_ascii_lowercase().into())
        } else {
            MediaType::Unknown
        }
    }

    /// A value for a log or a reason: text with what is not UTF-8 replaced.
    pub fn text_lossy(&self, name: HeaderName) -> Option<Cow<'_, str>> {
        self.value(name).map(String::from_utf8_lossy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::{Limits, Message};

    fn headers(rows: &str) -> Message {
        let text = format!("OPTIONS sip:a@b SIP/2.0\r\n{rows}\r\n");
        Message::parse(Bytes::from(text), false, &Limits::default()).unwrap()
    }

    #[test]
    fn lists_are_the_same_in_one_row_or_many_rfc3261_7_3_1() {
        let message = headers("Route: <sip:a;lr>, <sip:b,c@d;lr>\r\nX: y\r\nroute: \"q, q\" <sip:e>\r\n");
        let routes: Vec<_> =
            message.headers().addresses(HeaderName::Route).map(|r| r.unwrap().uri.as_str()).collect();
        assert_eq!(routes, ["sip:a;lr", "sip:b,c@d;lr", "sip:e"]);
    }

    #[test]
    fn authorization_rows_are_never_split_rfc3261_7_3_1() {
        let message = headers("Authorization: Digest a=\"b\", c=d\r\nAuthorization: X e, f\r\n");
        let rows: Vec<_> = message.headers().elements(HeaderName::Authorization).collect();
        assert_eq!(rows, [&b"Digest a=\"b\", c=d"[..], b"X e, f"]);
    }

    #[test]
    fn tokens_compare_in_any_case_and_without_parameters() {
        let message = headers("k: Path , gruu\r\nAccept: application/PIDF+xml;q=1\r\n");
        assert!(message.headers().has_token(HeaderName::Supported, "path"));
        assert!(message.headers().has_token(HeaderName::Supported, "GRUU"));
        assert!(!message.headers().has_token(HeaderName::Supported, "gru"));
        assert!(message.headers().has_token(HeaderName::Accept, "application/pidf+xml"));
    }

    #[test]
    fn numbers_of_the_mandatory_headers() {
        let message = headers("CSeq: 0009\t INVITE\r\nMax-Forwards: 0068\r\nExpires: 99999999999999\r\n");
        let headers_ = message.headers();
        assert_eq!(headers_.cseq().unwrap(), CSeq { number: 9, method: Method::Invite });
        assert_eq!(headers_.max_forwards(), Ok(Some(68)));
        assert_eq!(headers_.expires(), Ok(Some(u32::MAX)));
        for bad in ["CSeq: 4294967296 A", "CSeq: 1", "CSeq: 1 A B", "CSeq: A 1", "CSeq: -1 A"] {
            assert!(headers(&format!("{bad}\r\n")).headers().cseq().is_err(), "{bad}");
        }
        for bad in ["256", "-1", "", "7 0"] {
            assert!(headers(&format!("Max-Forwards: {bad}\r\n")).headers().max_forwards().is_err(), "{bad}");
        }
        assert!(headers("Expires: soon\r\n").headers().expires().is_err());
        assert_eq!(headers("").headers().expires(), Ok(None));
    }

    #[test]
    fn call_ids_are_words_rfc3261_25_1() {
        let odd = "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{";
        assert_eq!(headers(&format!("i: {odd}\r\n")).headers().call_id(), Ok(odd));
        for bad in ["", "a b", "a@", "@a", "a@b@c", "é"] {
            assert!(headers(&format!("i: {bad}\r\n")).headers().call_id().is_err(), "{bad}");
        }
    }

    #[test]
    fn contact_star_stands_alone_rfc3261_10_3() {
        assert!(matches!(headers("m: *\r\n").headers().contacts(), Ok(Contacts::Star)));
        assert!(headers("m: *, <sip:a@b>\r\n").headers().contacts().is_err());
        assert!(headers("m: <sip:a@b>\r\nm: *\r\n").headers().contacts().is_err());
        let message = headers("m: <sip:a@b;x>;q=0.5, sip:c@d;expires=7\r\n");
        let Ok(Contacts::List(list)) = message.headers().contacts() else { panic!("a list") };
        assert_eq!(list.len(), 2);
        assert_eq!(list[1].params.get("expires"), Some("7"));
    }

    #[test]
    fn event_is_a_package_with_templates_and_an_id_rfc6665_8_2_1() {
        let message = headers("o: presence.winfo ; id=4\r\n");
        assert_eq!(message.headers().event(), Ok(Some(Event { package: "presence.winfo", id: Some("4") })));
        for bad in ["", "a b", ".a", "a..b", "a;", "a;id=1;id=2"] {
            assert!(headers(&format!("o: {bad}\r\n")).headers().event().is_err(), "{bad}");
        }
    }

    #[test]
    fn content_type_is_lower_case_without_parameters() {
        let message = headers("c: Application / PIDF+xml ; charset=UTF-8\r\n");
        assert_eq!(message.headers().content_type(), Some("application/pidf+xml"));
        assert_eq!(headers("c: text\r\n").headers().content_type(), None);
    }
}

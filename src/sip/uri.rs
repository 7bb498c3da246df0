//! SIP, SIPS and TEL URIs (RFC 3261 19.1, RFC 3966, RFC 5954).

use std::borrow::Cow;
use std::fmt;
use std::str::Utf8Error;

use crate::sip::ParseError;
use crate::sip::error::MAX_URI_HEADERS;
pub use crate::sip::host::{Host, HostPort};
use crate::sip::lexer;
pub use crate::sip::params::Params;
use crate::sip::params::{Grammar, Unescape};

/// Scheme of a URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme<'a> {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:`
    Tel,
    /// `im:`
    Im,
    /// `pres:`
    Pres,
    /// Anything else, as written.
    Other(&'a str),
}

impl<'a> Scheme<'a> {
    fn parse(text: &'a str) -> Option<Scheme<'a>> {
        let is = |name: &str| text.eq_ignore_ascii_case(name);
        if is("sip") {
            return Some(Scheme::Sip);
        }
        let first_is_letter = text.as_bytes().first().is_some_and(u8::is_ascii_alphabetic);
        if !first_is_letter || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) {
            return None;
        }
        Some(match text.len() {
            4 if is("sips") => Scheme::Sips,
            4 if is("pres") => Scheme::Pres,
            3 if is("tel") => Scheme::Tel,
            2 if is("im") => Scheme::Im,
            _ => Scheme::Other(text),
        })
    }

    /// As it is written, without the colon.
    pub fn as_str(&self) -> &'a str {
        match self {
            Scheme::Sip => "sip",
            Scheme::Sips => "sips",
            Scheme::Tel => "tel",
            Scheme::Im => "im",
            Scheme::Pres => "pres",
            Scheme::Other(text) => text,
        }
    }
}

/// A URI, borrowed from the text it was read from.
#[derive(Debug, Clone, Copy)]
pub struct Uri<'a> {
    pub(super) text: &'a str,
    /// Scheme.
    pub scheme: Scheme<'a>,
    /// User part as written (escaped), or the number of a `tel:`; `None` if there is none.
    pub user: Option<&'a str>,
    /// Password as written.
    pub password: Option<&'a str>,
    /// Host and port; for schemes without host (`tel:`) an empty name.
    pub host_port: HostPort<'a>,
    /// URI parameters.
    pub params: Params<'a>,
    /// What follows `?`, as written, without the `?`.
    pub headers: Option<&'a str>,
}

impl<'a> Uri<'a> {
    /// Reads a URI. Unknown schemes are read as far as scheme and text.
    pub fn parse(text: &'a [u8]) -> Result<Uri<'a>, ParseError> {
        std::str::from_utf8(text).map_err(not_text).and_then(Uri::read)
    }

    /// Reads a URI from text.
    pub(super) fn read(text: &'a str) -> Result<Uri<'a>, ParseError> {
        if let Some(rest) = text.strip_prefix("sip:") {
            return read_sip(text, Scheme::Sip, rest);
        }
        let (scheme, rest) =
            lexer::split_once(text, b':').ok_or_else(|| ParseError::bad("URI without scheme", 0))?;
        let scheme = Scheme::parse(scheme).ok_or_else(|| ParseError::bad("Malformed URI scheme", 0))?;
        match scheme {
            Scheme::Sip | Scheme::Sips | Scheme::Im | Scheme::Pres => read_sip(text, scheme, rest),
            Scheme::Tel => read_tel(text, rest),
            Scheme::Other(_) => {
                if rest.is_empty() || lexer::run(rest.as_bytes(), lexer::URI) < rest.len() {
                    return Err(ParseError::bad("Malformed URI", text.len() - rest.len()));
                }
                let params = Params { text: "", grammar: Grammar::Uri };
                let host_port = HostPort::NONE;
                Ok(Uri { text, scheme, user: None, password: None, host_port, params, headers: None })
            }
        }
    }

    /// As written.
    pub fn as_str(&self) -> &'a str {
        self.text
    }

    /// As written, but for the headers (RFC 3261 19.1.1: they have no place in a Request-URI).
    pub fn without_headers(&self) -> &'a str {
        let end = self.headers.map_or(self.text.len(), |headers| self.text.len() - headers.len() - 1);
        self.text.get(..end).unwrap_or_default()
    }

    /// The user part with escapes decoded; `None` if there is none or it does not decode to UTF-8 without control characters.
    pub fn user_decoded(&self) -> Option<Cow<'a, str>> {
        let user = self.user?;
        if lexer::find(user.as_bytes(), b'%').is_none() {
            return Some(Cow::Borrowed(user));
        }
        let decoded = String::from_utf8(Unescape::new(user).map(|(byte, _)| byte).collect()).ok()?;
        (!decoded.chars().any(char::is_control)).then_some(Cow::Owned(decoded))
    }

    /// The name by which a domain knows whom the URI means: its user part, decoded; of a `tel:` URI the number without visual separators
    /// (RFC 3966 5.1.1, RFC 3261 19.1.6). `None` for a local number too: it means somebody else in each place.
    pub fn name(&self) -> Option<Cow<'a, str>> {
        if self.scheme != Scheme::Tel {
            return self.user_decoded();
        }
        let digits = self.user?.strip_prefix('+')?.chars().filter(char::is_ascii_digit);
        Some(Cow::Owned(std::iter::once('+').chain(digits).collect()))
    }

    /// RFC 3261 19.1.4 equality.
    pub fn equals(&self, other: &Uri<'_>) -> bool {
        crate::sip::uri_equality::equal(self, other)
    }
}

/// What is owed for one that is no text.
pub(super) fn not_text(e: Utf8Error) -> ParseError {
    ParseError::bad("Malformed URI", e.valid_up_to())
}

impl fmt::Display for Uri<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text)
    }
}

fn read_sip<'a>(text: &'a str, scheme: Scheme<'a>, rest: &'a str) -> Result<Uri<'a>, ParseError> {
    let offset = |part: &str| (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    // Nearly every user part is one run up to the `@`.
    let plain = lexer::run(rest.as_bytes(), lexer::USER);
    let found = match rest.as_bytes().get(plain) {
        Some(b'@') => rest.get(..plain).zip(rest.get(plain + 1..)),
        Some(_) => lexer::split_once(rest, b'@'),
        None => None,
    };
    let (user, password, rest) = match found {
        None => (None, None, rest),
        Some((user, rest)) if user.len() == plain && plain > 0 => (Some(user), None, rest),
        Some((userinfo, rest)) => {
            let (user, password) = match lexer::split_once(userinfo, b':') {
                Some((user, password)) => (user, Some(password)),
                None => (userinfo, None),
            };
            if user.is_empty() || !lexer::all_or_escaped(user.as_bytes(), lexer::USER) {
                return Err(ParseError::bad("Malformed user in URI", offset(user)));
            }
            if password.is_some_and(|p| !lexer::all_or_escaped(p.as_bytes(), lexer::PASSWORD)) {
                return Err(ParseError::bad("Malformed password in URI", offset(rest)));
            }
            (Some(user), password, rest)
        }
    };
    let host_end = rest.bytes().position(|b| b == b';' || b == b'?').unwrap_or(rest.len());
    let (host, rest) = rest.split_at_checked(host_end).unwrap_or((rest, ""));
    let host_port =
        HostPort::parse(host).ok_or_else(|| ParseError::bad("Malformed host in URI", offset(host)))?;
    let (params, headers) = match lexer::split_once(rest, b'?') {
        Some((params, headers)) => (params, Some(headers)),
        None => (rest, None),
    };
    let params = Params::parse(params, Grammar::Uri)?;
    if headers.is_some_and(|headers| !are_headers(headers)) {
        return Err(ParseError::bad("Malformed headers in URI", offset(rest)));
    }
    Ok(Uri { text, scheme, user, password, host_port, params, headers })
}

/// `hname=hvalue&...`, bounded in number.
fn are_headers(text: &str) -> bool {
    text.split('&').count() <= MAX_URI_HEADERS
        && text.split('&').all(|header| {
            header.split_once('=').is_some_and(|(name, value)| {
                !name.is_empty()
                    && lexer::all_or_escaped(name.as_bytes(), lexer::URI_HEADER)
                    && lexer::all_or_escaped(value.as_bytes(), lexer::URI_HEADER)
            })
        })
}

/// RFC 3966 3: digits and visual separators, then parameters.
fn read_tel<'a>(text: &'a str, rest: &'a str) -> Result<Uri<'a>, ParseError> {
    let end = rest.find(';').unwrap_or(rest.len());
    let (number, params) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let digits = number.strip_prefix('+').unwrap_or(number);
    let local = digits.len() == number.len();
    let is_digit = |b: u8| b.is_ascii_digit() || (local && (b.is_ascii_hexdigit() || b == b'*' || b == b'#'));
    if !digits.bytes().any(is_digit) || !digits.bytes().all(|b| is_digit(b) || b"-.()".contains(&b)) {
        return Err(ParseError::bad("Malformed telephone number", text.len() - rest.len()));
    }
    let params = Params::parse(params, Grammar::Uri)?;
    Ok(Uri {
        text,
        scheme: Scheme::Tel,
        user: Some(number),
        password: None,
        host_port: HostPort::NONE,
        params,
        headers: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri<'_> {
        Uri::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn the_parts_of_a_sip_uri_rfc3261_19_1_1() {
        let u = uri("sips:alice:secret@[2001:db8::10]:5070;transport=tcp;lr?subject=a%20b&priority=urgent");
        assert_eq!(u.scheme, Scheme::Sips);
        assert_eq!((u.user, u.password), (Some("alice"), Some("secret")));
        assert_eq!(u.host_port.port, Some(5070));
        assert_eq!(u.params.as_str(), ";transport=tcp;lr");
        assert_eq!(u.headers, Some("subject=a%20b&priority=urgent"));
    }

    #[test]
    fn unusual_users_are_lawful_rfc4475_3_1_1() {
        let odd = "sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com";
        assert_eq!(uri(odd).user, Some("1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"));
        assert_eq!(uri("sip:user;par=u%40example.net@example.com").user, Some("user;par=u%40example.net"));
        assert_eq!(
            uri("sip:sips%3Auser%40example.com@example.net").host_port.host,
            Host::Name("example.net")
        );
    }

    #[test]
    fn malformed_uris_are_refused() {
        for bad in [
            "sip:@example.com",
            "sip:",
            "sip:a@",
            "example.com",
            ":a",
            "1sip:a@b",
            "sip:a b@example.com",
            "<sip:a@example.com>",
            "sip:a@example.com;x=1;X=2",
            "sip:a@example.com; lr",
            "sip:a@b@c",
            "sip:a%4@example.com",
            "sip:a@example.com?x",
            "sip:2001:db8::10",
            "sip:a@example.com:",
            "sip:a\u{e9}@example.com",
            "tel:",
            "tel:+12x",
            "tel:+-",
            "isbn:",
            "isbn:1 2",
        ] {
            assert!(Uri::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Uri::parse(b"sip:a\xff@b").is_err());
    }

    #[test]
    fn headers_come_off_and_nothing_else_rfc3261_19_1_1() {
        assert_eq!(uri("sip:a?b@h;x=y?Subject=z&p=q").without_headers(), "sip:a?b@h;x=y");
        assert_eq!(uri("sip:a?b@h").without_headers(), "sip:a?b@h");
    }

    #[test]
    fn other_schemes_are_kept_as_text() {
        assert_eq!(uri("soap.beep://192.0.2.103:3002").scheme, Scheme::Other("soap.beep"));
        assert_eq!(uri("tel:+1-201-555-0123;ext=5").user, Some("+1-201-555-0123"));
        assert_eq!(uri("PRES:alice@example.com").scheme, Scheme::Pres);
        assert_eq!(uri("isbn:2983792873").host_port, HostPort::NONE);
    }

    #[test]
    fn users_decode_unless_they_hide_controls_a04() {
        assert_eq!(uri("sip:%75ser@h").user_decoded().unwrap(), "user");
        assert_eq!(uri("sip:j%C3%B6rg@h").user_decoded().unwrap(), "jörg");
        assert!(uri("sip:a%0d%0ab@h").user_decoded().is_none());
        assert!(uri("sip:null-%00-null@h").user_decoded().is_none());
        assert!(uri("sip:%ff@h").user_decoded().is_none());
        assert!(uri("sip:h").user_decoded().is_none());
    }
}

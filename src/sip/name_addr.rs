//! `name-addr` and `addr-spec` with header parameters (RFC 3261 20.10, 25.1).

use std::str::Utf8Error;

use crate::sip::lexer;
use crate::sip::params::{Grammar, Noted, keep};
use crate::sip::{Params, ParseError, Uri};

/// From, To, Contact, Route..: a URI with optional display name and header parameters.
#[derive(Debug, Clone, Copy)]
pub struct NameAddr<'a> {
    /// Display name as written, without surrounding quotes.
    pub display: Option<&'a str>,
    /// The URI.
    pub uri: Uri<'a>,
    /// Header parameters (`tag`, `expires`, `q`, `+sip.instance`..).
    pub params: Params<'a>,
    /// The whole element as written.
    pub(super) text: &'a str,
    pub(super) tag: Option<&'a str>,
}

impl<'a> NameAddr<'a> {
    /// Reads one element.
    pub fn parse(text: &'a [u8]) -> Result<NameAddr<'a>, ParseError> {
        std::str::from_utf8(text).map_err(not_text).and_then(NameAddr::read)
    }

    /// Reads one element from text.
    pub(super) fn read(text: &'a str) -> Result<NameAddr<'a>, ParseError> {
        let text = lexer::trim_blank(text);
        let (display, open) = display(text)?;
        match open {
            Some(open) => in_angles(text, display, open),
            None => bare(text),
        }
    }

    /// The `tag` parameter.
    pub fn tag(&self) -> Option<&'a str> {
        self.tag
    }

    /// As written, without its `tag`.
    pub fn without_tag(&self) -> String {
        let (text, params) = (self.text, self.params.as_str());
        let mut kept = text.strip_suffix(params).unwrap_or(text).trim_end().to_owned();
        for (name, value) in self.params.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("tag")) {
            kept.push(';');
            kept.push_str(name);
            if let Some(value) = value {
                kept.push('=');
                kept.push_str(value);
            }
        }
        kept
    }

    /// As written.
    pub fn as_str(&self) -> &'a str {
        self.text
    }
}

/// What is owed for one that is no text.
pub(super) fn not_text(e: Utf8Error) -> ParseError {
    ParseError::bad("Malformed address", e.valid_up_to())
}

/// The display name and the position of the `<`; no position means a bare `addr-spec`.
fn display(text: &str) -> Result<(Option<&str>, Option<usize>), ParseError> {
    let bytes = text.as_bytes();
    if bytes.first() == Some(&b'<') {
        return Ok((None, Some(0)));
    }
    let skip = |from: usize| from + bytes.iter().skip(from).take_while(|&&b| lexer::is_blank(b)).count();
    if bytes.first() == Some(&b'"') {
        let end = lexer::quoted_end(bytes, 0).ok_or_else(|| ParseError::bad("Unbalanced quotes", 0))?;
        let open = skip(end);
        if bytes.get(open) != Some(&b'<') {
            return Err(ParseError::bad("Address without <", open));
        }
        return Ok((text.get(1..end - 1), Some(open)));
    }
    // Unquoted names are tokens; UTF-8 in them is common enough to be read.
    let tokens = |b: &&u8| lexer::is(**b, lexer::TOKEN) || lexer::is_blank(**b) || **b >= 0x80;
    let end = bytes.iter().take_while(tokens).count();
    match bytes.get(end) {
        Some(b'<') => {
            let name = lexer::trim_blank(text.get(..end).unwrap_or_default());
            Ok(((!name.is_empty()).then_some(name), Some(end)))
        }
        Some(b':') => Ok((None, None)),
        _ => Err(ParseError::bad("Malformed address", end)),
    }
}

fn in_angles<'a>(text: &'a str, display: Option<&'a str>, open: usize) -> Result<NameAddr<'a>, ParseError> {
    let inner = text.get(open + 1..).unwrap_or_default();
    let (uri, params) =
        lexer::split_once(inner, b'>').ok_or_else(|| ParseError::bad("Address without >", open))?;
    let uri = Uri::read(uri)?;
    let (params, tag) = params_and_tag(lexer::trim_blank(params))?;
    Ok(NameAddr { display, uri, params, text, tag })
}

/// Without `<>` what follows `;` belongs to the header, and `,` and `?` may not occur (RFC 3261 20, 20.10).
fn bare(text: &str) -> Result<NameAddr<'_>, ParseError> {
    let end = text.bytes().position(|b| b == b';').unwrap_or(text.len());
    let (uri, params) = text.split_at_checked(end).unwrap_or((text, ""));
    let uri = lexer::trim_blank(uri);
    if let Some(at) = uri.bytes().position(|b| b == b'?' || b == b',') {
        return Err(ParseError::bad("URI needs < and >", at));
    }
    let uri = Uri::read(uri)?;
    let (params, tag) = params_and_tag(params)?;
    Ok(NameAddr { display: None, uri, params, text, tag })
}

/// The tag is asked for of nearly every address.
fn params_and_tag(text: &str) -> Result<(Params<'_>, Option<&str>), ParseError> {
    let mut tag = None;
    let params = Params::parse_noting(text, Grammar::Header, |param| {
        if param.name.eq_ignore_ascii_case("tag") { keep(&mut tag, param) } else { Noted::Unknown }
    })?;
    Ok((params, tag.map(|param| param.unquoted())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> NameAddr<'_> {
        NameAddr::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn parameters_after_a_bare_uri_belong_to_the_header_rfc3261_20() {
        let address = parse("sip:a@example.com ;   tag    = 19n;lr");
        assert_eq!(address.uri.as_str(), "sip:a@example.com");
        assert_eq!(address.tag(), Some("19n"));
        assert!(address.uri.params.as_str().is_empty());
        let angled = parse("<sip:a@example.com;unknownparam>");
        assert!(angled.uri.params.has("unknownparam") && !angled.params.has("unknownparam"));
    }

    #[test]
    fn display_names_quoted_and_not() {
        assert_eq!(parse("\"J \\\"R\\\\\" <sip:a@b>  ;\ttag = x").display, Some("J \\\"R\\\\"));
        assert_eq!(parse("caller<sip:a@b>").display, Some("caller"));
        assert_eq!(
            parse("token1~` token2'+_ token3*%!.- <sip:a@b>").display,
            Some("token1~` token2'+_ token3*%!.-")
        );
        assert_eq!(parse("<sip:a@b>").display, None);
        assert_eq!(parse("\"\" <sip:a@b>").display, Some(""));
        assert_eq!(parse("Jörg <sip:a@b>").display, Some("Jörg"));
        assert_eq!(parse("\"Watson, <T>\" <sip:a@b>;tag=1").tag(), Some("1"));
    }

    #[test]
    fn malformed_addresses_are_refused_rfc4475_3_1_2() {
        for bad in [
            "",
            "\"Mr. J. User <sip:j.user@example.com>",
            "\"Watson\" < sip:t.watson@example.org >",
            "Bell, Alexander <sip:a@b>",
            "sip:a@b?Route=%3Csip:c%3E",
            "<sip:a@b",
            "sip:a@b>",
            "<>",
            "<sip:a@b>;tag=1;TAG=2",
            "<sip:a@b>;;",
            "<sip:a@b> x",
            "\"a\" sip:a@b",
            "\"a\"x <sip:a@b>",
            "<sip:a@b>;tag=",
            "*",
        ] {
            assert!(NameAddr::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}

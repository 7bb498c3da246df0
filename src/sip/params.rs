//! Parameters of URIs and header values (RFC 3261 7.3.1, 19.1.1, 25.1).

use smallvec::SmallVec;

use crate::sip::ParseError;
use crate::sip::error::MAX_PARAMS;
use crate::sip::lexer;

/// `;name=value;flag` after a URI or a header value. Borrowed text, checked for duplicates at parse.
#[derive(Debug, Clone, Copy, Default)]
pub struct Params<'a> {
    pub(super) text: &'a str,
    pub(super) grammar: Grammar,
}

/// Whose parameters they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Grammar {
    /// `generic-param` of a header: tokens, hosts, quoted strings, white space.
    #[default]
    Header,
    /// `uri-parameter`: escapes, no white space.
    Uri,
    /// `auth-param`: separated by commas.
    Credentials,
}

impl<'a> Params<'a> {
    /// Checks the whole text once: syntax, number, no name twice (RFC 3261 7.3.1).
    pub(super) fn parse(text: &'a str, grammar: Grammar) -> Result<Params<'a>, ParseError> {
        Params::parse_noting(text, grammar, |_| Noted::Unknown)
    }

    /// The same, and tells each parameter, so that nobody reads the text again for those that are always asked for. Who is told says whether
    /// it is one of those and was there before; only the others are compared with each other.
    pub(super) fn parse_noting(
        text: &'a str,
        grammar: Grammar,
        mut note: impl FnMut(Param<'a>) -> Noted,
    ) -> Result<Params<'a>, ParseError> {
        let params = Params { text, grammar };
        if !text.is_empty() {
            match grammar {
                Grammar::Header => params.check::<HEADER>(&mut note)?,
                Grammar::Uri => params.check::<URI>(&mut note)?,
                Grammar::Credentials => params.check::<CREDENTIALS>(&mut note)?,
            }
        }
        Ok(params)
    }

    fn check<const GRAMMAR: u8>(&self, note: &mut impl FnMut(Param<'a>) -> Noted) -> Result<(), ParseError> {
        let mut cursor = self.cursor();
        let mut count = 0;
        let mut others: SmallVec<[(u32, &str); 16]> = SmallVec::new();
        while let Some(param) = cursor.next_of::<GRAMMAR>()? {
            if count == MAX_PARAMS {
                return Err(ParseError::bad("Too many parameters", cursor.at));
            }
            count += 1;
            let again = match note(param) {
                Noted::First => false,
                Noted::Again => true,
                // Alone, it is like no other.
                Noted::Unknown if count == 1 && cursor.at == self.text.len() => false,
                Noted::Unknown => {
                    let hash = hash(param.name, self.grammar);
                    lexer::visit(others.len());
                    let again = others
                        .iter()
                        .any(|&(other, name)| other == hash && same_name(name, param.name, self.grammar));
                    others.push((hash, param.name));
                    again
                }
            };
            if again {
                return Err(ParseError::bad("Duplicate parameter", cursor.at));
            }
        }
        Ok(())
    }

    /// Parameters of a header value, by themselves: `;name=value;flag`, or nothing.
    ///
    /// # Errors
    /// Not of that form, too many, or a name twice.
    pub fn of_header(text: &'a str) -> Result<Params<'a>, ParseError> {
        Params::parse(text, Grammar::Header)
    }

    /// Name and value (as written; quoted strings keep their quotes) in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> + use<'a> {
        self.raw().map(|param| (param.name, param.value))
    }

    /// The value of a parameter; `Some("")` for a flag; name in any case; surrounding quotes are taken off.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let found = self.raw().find(|param| same_name(param.name, name, self.grammar))?;
        Some(found.unquoted())
    }

    /// Is it there, with or without value?
    pub fn has(&self, name: &str) -> bool {
        self.raw().any(|param| same_name(param.name, name, self.grammar))
    }

    /// As written, with the leading `;` (or empty).
    pub fn as_str(&self) -> &'a str {
        self.text
    }

    /// The parameters with their whole text, separator included.
    pub(super) fn raw(&self) -> impl Iterator<Item = Param<'a>> + use<'a> {
        let mut cursor = self.cursor();
        std::iter::from_fn(move || cursor.next_param().ok().flatten())
    }

    fn cursor(&self) -> Cursor<'a> {
        Cursor { text: self.text, at: 0, grammar: self.grammar }
    }
}

/// One parameter as written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Param<'a> {
    pub(super) name: &'a str,
    pub(super) value: Option<&'a str>,
    /// From the separator to the end of the value.
    pub(super) whole: &'a str,
}

impl<'a> Param<'a> {
    /// The value as [`Params::get`] gives it.
    pub(super) fn unquoted(&self) -> &'a str {
        let value = self.value.unwrap_or_default();
        match value.as_bytes() {
            [b'"', .., b'"'] => value.get(1..value.len() - 1).unwrap_or_default(),
            _ => value,
        }
    }
}

/// What one who is told of a parameter says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    /// It is kept, and was not there before.
    First,
    /// Its name was there before.
    Again,
    /// It is none of those that are kept.
    Unknown,
}

/// Keeps what is known by name.
pub(super) fn keep<'a>(slot: &mut Option<Param<'a>>, param: Param<'a>) -> Noted {
    match slot.replace(param) {
        None => Noted::First,
        Some(_) => Noted::Again,
    }
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
    grammar: Grammar,
}

impl<'a> Cursor<'a> {
    fn next_param(&mut self) -> Result<Option<Param<'a>>, ParseError> {
        match self.grammar {
            Grammar::Header => self.next_of::<HEADER>(),
            Grammar::Uri => self.next_of::<URI>(),
            Grammar::Credentials => self.next_of::<CREDENTIALS>(),
        }
    }

    /// One function per grammar: the grammar is known when it is compiled.
    fn next_of<const GRAMMAR: u8>(&mut self) -> Result<Option<Param<'a>>, ParseError> {
        self.skip_white_space::<GRAMMAR>();
        if self.at >= self.text.len() {
            return Ok(None);
        }
        let start = self.at;
        if GRAMMAR == CREDENTIALS {
            while self.peek() == Some(b',') {
                self.at += 1;
                self.skip_white_space::<GRAMMAR>();
            }
            if self.at >= self.text.len() {
                return Ok(None);
            }
            if start > 0 && self.text.as_bytes().get(start) != Some(&b',') {
                return Err(ParseError::bad("Malformed parameter", start));
            }
        } else {
            if self.peek() != Some(b';') {
                return Err(ParseError::bad("Malformed parameter", self.at));
            }
            self.at += 1;
            self.skip_white_space::<GRAMMAR>();
        }
        let name = self.take::<GRAMMAR>(if GRAMMAR == URI { lexer::PARAM } else { lexer::TOKEN })?;
        if name.is_empty() {
            return Err(ParseError::bad("Empty parameter", self.at));
        }
        let mut end = self.at;
        self.skip_white_space::<GRAMMAR>();
        let mut value = None;
        if self.peek() == Some(b'=') {
            self.at += 1;
            self.skip_white_space::<GRAMMAR>();
            value = Some(self.value::<GRAMMAR>()?);
            end = self.at;
        }
        let whole = self.text.get(start..end).unwrap_or_default();
        Ok(Some(Param { name, value, whole }))
    }

    fn value<const GRAMMAR: u8>(&mut self) -> Result<&'a str, ParseError> {
        let start = self.at;
        if GRAMMAR != URI && self.peek() == Some(b'"') {
            self.at = lexer::quoted_end(self.text.as_bytes(), start)
                .ok_or_else(|| ParseError::bad("Unbalanced quotes", start))?;
            return Ok(self.text.get(start..self.at).unwrap_or_default());
        }
        let value = self.take::<GRAMMAR>(if GRAMMAR == URI { lexer::PARAM } else { lexer::VALUE })?;
        if value.is_empty() { Err(ParseError::bad("Empty parameter", start)) } else { Ok(value) }
    }

    /// The run of octets of this class (and of escapes in URIs).
    fn take<const GRAMMAR: u8>(&mut self, class: u16) -> Result<&'a str, ParseError> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        loop {
            self.at += lexer::run(bytes.get(self.at..).unwrap_or_default(), class);
            if GRAMMAR != URI || self.peek() != Some(b'%') {
                break;
            }
            let escape = bytes.get(self.at..self.at + 3).unwrap_or_default();
            if escape.len() != 3 || !lexer::all_or_escaped(escape, 0) {
                return Err(ParseError::bad("Malformed escape", self.at));
            }
            self.at += 3;
        }
        lexer::visit(self.at - start + 1);
        Ok(self.text.get(start..self.at).unwrap_or_default())
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_white_space<const GRAMMAR: u8>(&mut self) {
        if GRAMMAR != URI {
            while self.peek().is_some_and(lexer::is_blank) {
                self.at += 1;
            }
        }
    }
}

/// The grammars as parameters of functions.
const HEADER: u8 = Grammar::Header as u8;
const URI: u8 = Grammar::Uri as u8;
const CREDENTIALS: u8 = Grammar::Credentials as u8;

/// Names compare in any case; in URIs an escape is the character it stands for (RFC 3261 19.1.4).
fn same_name(left: &str, right: &str, grammar: Grammar) -> bool {
    if grammar == Grammar::Uri && (left.contains('%') || right.contains('%')) {
        unescaped(left).eq(unescaped(right))
    } else {
        left.eq_ignore_ascii_case(right)
    }
}

fn hash(name: &str, grammar: Grammar) -> u32 {
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    if grammar == Grammar::Uri && name.contains('%') {
        unescaped(name).map(|b| b | 0x20).fold(0x811c_9dc5, step)
    } else {
        // One bit tells the cases apart; that it also joins what is no letter costs a comparison at most.
        name.bytes().map(|b| b | 0x20).fold(0x811c_9dc5, step)
    }
}

fn unescaped(text: &str) -> impl Iterator<Item = u8> + '_ {
    Unescape::new(text).map(|(byte, _)| byte.to_ascii_lowercase())
}

/// Octets with `%HH` decoded, and whether each was escaped.
pub(super) struct Unescape<'a> {
    rest: &'a [u8],
}

impl<'a> Unescape<'a> {
    pub(super) fn new(text: &'a str) -> Unescape<'a> {
        Unescape { rest: text.as_bytes() }
    }
}

impl Iterator for Unescape<'_> {
    type Item = (u8, bool);

    fn next(&mut self) -> Option<(u8, bool)> {
        let (&first, rest) = self.rest.split_first()?;
        if first == b'%'
            && let [high, low, rest @ ..] = rest
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            self.rest = rest;
            return Some((high << 4 | low, true));
        }
        self.rest = rest;
        Some((first, false))
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_compare_in_any_case_and_quotes_come_off() {
        let params = Params::parse(" ; TAG = abc;lr ;x=\"a;\\\"b\"", Grammar::Header).unwrap();
        assert_eq!(params.get("tag"), Some("abc"));
        assert_eq!(params.get("LR"), Some(""));
        assert_eq!(params.get("x"), Some("a;\\\"b"));
        assert!(params.has("Lr") && !params.has("l"));
        let all: Vec<_> = params.iter().collect();
        assert_eq!(all, [("TAG", Some("abc")), ("lr", None), ("x", Some("\"a;\\\"b\""))]);
    }

    #[test]
    fn a_name_twice_is_malformed_rfc3261_7_3_1() {
        assert!(Params::parse(";a=1;B;A", Grammar::Header).is_err());
        assert!(Params::parse(";lr;%6C%72", Grammar::Uri).is_err());
        assert!(Params::parse(";lr;%6C%72", Grammar::Header).is_ok());
    }

    #[test]
    fn escaped_names_of_uri_parameters_are_the_names_rfc4475_3_1_1_3() {
        let params = Params::parse(";%6C%72;n%61me=v%61lue%25%34%31", Grammar::Uri).unwrap();
        assert!(params.has("lr"));
        assert_eq!(params.get("name"), Some("v%61lue%25%34%31"));
    }

    #[test]
    fn empty_and_unbalanced_parameters_are_malformed() {
        for bad in [";;a", ";", ";a=", ";a=\"x", "a", ";a b", ";a=b c", ";=b"] {
            assert!(Params::parse(bad, Grammar::Header).is_err(), "{bad}");
        }
        for bad in [";a=%4", ";a=\"b\"", "; a", ";a=b c", ";a@b"] {
            assert!(Params::parse(bad, Grammar::Uri).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_number_of_parameters_is_bounded_a35() {
        let text = |count: usize| (0..count).map(|n| format!(";p{n}")).collect::<String>();
        assert!(Params::parse(&text(MAX_PARAMS), Grammar::Header).is_ok());
        assert!(Params::parse(&text(MAX_PARAMS + 1), Grammar::Header).is_err());
    }
}

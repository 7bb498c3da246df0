//! Bytes: character classes, scanning, rows and lists (RFC 3261 7.3.1, 25.1). Linear, without allocation.

use crate::sip::ParseError;

/// A range of the message's bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    /// The caller has checked that the message is shorter than 4 GiB (caps come first).
    pub(super) fn new(start: usize, end: usize) -> Span {
        let narrow = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Span { start: narrow(start), end: narrow(end) }
    }

    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    pub(super) fn of_text(self, text: &str) -> &str {
        text.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// Where a part that was cut from the whole stands in it. What is empty may have come from elsewhere, and stands at the start.
    pub(super) fn of_part(whole: &[u8], part: &[u8]) -> Span {
        if part.is_empty() {
            return Span::default();
        }
        let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
        Span::new(start, start + part.len())
    }
}

/// One header row as positions in the message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) raw_name: Span,
    /// Without surrounding white space; may hold folds.
    pub(super) value: Span,
    /// Position after the CRLF that ends the row.
    pub(super) end: usize,
    pub(super) folded: bool,
}

/// Reads the row at `at`; `None` at the empty line. Strict on line ends: a bare CR or LF is an error (`A03`).
pub(super) fn row(bytes: &[u8], at: usize) -> Result<Option<Row>, ParseError> {
    let rest = bytes.get(at..).unwrap_or_default();
    if rest.starts_with(b"\r\n") {
        return Ok(None);
    }
    let name = run(rest, TOKEN);
    if name == 0 {
        return Err(ParseError::bad("Malformed header name", at));
    }
    let mut colon = name;
    if rest.get(colon) != Some(&b':') {
        colon += rest.iter().skip(name).take_while(|&&b| is_blank(b)).count();
        if rest.get(colon) != Some(&b':') {
            return Err(ParseError::bad("Malformed header name", at + colon));
        }
    }
    let value_start = at + colon + 1;
    let (mut position, mut folded, mut controls) = (value_start, false, false);
    let value_end = loop {
        let found = find_control(bytes, position);
        match bytes.get(found) {
            Some(b'\t') => position = found + 1,
            Some(b'\r') if bytes.get(found + 1) == Some(&b'\n') => {
                if !matches!(bytes.get(found + 2), Some(b' ' | b'\t')) {
                    break found;
                }
                folded = true;
                position = found + 3;
            }
            Some(b'\r') => return Err(ParseError::bad("Bare CR in header", found)),
            Some(b'\n') => return Err(ParseError::bad("Bare LF in header", found)),
            Some(_) => {
                controls = true;
                position = found + 1;
            }
            None => return Err(ParseError::bad("Header row without end", found)),
        }
    };
    let value = bytes.get(value_start..value_end).unwrap_or_default();
    if controls && !controls_are_quoted_pairs(value) {
        return Err(ParseError::bad("Control character in header", value_start));
    }
    let value = trim_start(value);
    let start = value_end - value.len();
    let trimmed = trim_end(value).len();
    Ok(Some(Row {
        raw_name: Span::new(at, at + name),
        value: Span::new(start, start + trimmed),
        end: value_end + 2,
        folded,
    }))
}

/// Control characters are lawful only as `quoted-pair` inside a quoted string (RFC 3261 25.1, RFC 4475 3.1.1.2).
fn controls_are_quoted_pairs(value: &[u8]) -> bool {
    let (mut quoted, mut escaped) = (false, false);
    visit(value.len());
    for &byte in value {
        let control = (byte < 0x20 && !is_lws(byte)) || byte == 0x7f;
        if control && !escaped {
            return false;
        }
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
    }
    true
}

/// Notes what reading costs, in octets and comparisons; counted in tests alone (`A35`).
#[cfg(not(test))]
#[inline(always)]
pub(super) fn visit(_: usize) {}
#[cfg(test)]
pub(super) use crate::sip::effort::visit;

/// Position of the first octet below 0x20 or equal to 0x7f at or after `from`; the length if there is none.
pub(super) fn find_control(bytes: &[u8], from: usize) -> usize {
    let below = |word: u64| word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
    let rest = bytes.get(from..).unwrap_or_default();
    let found = position(rest, |word| below(word) | equal(word, 0x7f), |byte| byte < 0x20 || byte == 0x7f);
    visit(found + 1);
    from + found
}

/// Position of the first octet that is wanted, looked for in eights; the length if there is none.
///
/// `hits`: of eight octets the high bit of the first one that is wanted, and of none before it.
#[inline]
fn position(bytes: &[u8], hits: impl Fn(u64) -> u64, is_wanted: impl Fn(u8) -> bool) -> usize {
    let (words, tail) = bytes.as_chunks::<8>();
    let mut at = 0;
    for word in words {
        let hits = hits(u64::from_le_bytes(*word));
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at + tail.iter().position(|&byte| is_wanted(byte)).unwrap_or(tail.len())
}

/// Of eight octets the high bit of the first one that is this one, and of none before it.
#[inline]
fn equal(word: u64, wanted: u8) -> u64 {
    let differ = word ^ (ONES * u64::from(wanted));
    differ.wrapping_sub(ONES) & !differ & HIGHS
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Position of the first LF at or after `from`.
pub(super) fn find_line_feed(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at = find_control(bytes, at);
        match bytes.get(at) {
            Some(b'\n') => return Some(at),
            Some(_) => at += 1,
            None => return None,
        }
    }
}

/// How many octets at the start belong to the class.
pub(super) fn run(bytes: &[u8], class: u16) -> usize {
    let (fours, tail) = bytes.as_chunks::<4>();
    let (mut at, mut rest) = (0, tail);
    for four in fours {
        // All of them at once: most runs that are looked for are longer.
        if four.iter().fold(class, |all, &byte| all & CLASSES[byte as usize]) == 0 {
            rest = four;
            break;
        }
        at += 4;
    }
    at + rest.iter().take_while(|&&byte| is(byte, class)).count()
}

/// Position of the first octet that is this one.
pub(super) fn find(bytes: &[u8], wanted: u8) -> Option<usize> {
    let found = position(bytes, |word| equal(word, wanted), |byte| byte == wanted);
    (found < bytes.len()).then_some(found)
}

/// Position of the first octet that is one of the two; the length if there is none.
pub(super) fn find_either(bytes: &[u8], one: u8, other: u8) -> usize {
    position(bytes, |word| equal(word, one) | equal(word, other), |byte| byte == one || byte == other)
}

/// Text before and after the first octet that is this one (an ASCII character).
pub(super) fn split_once(text: &str, wanted: u8) -> Option<(&str, &str)> {
    let at = find(text.as_bytes(), wanted)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// Without leading and trailing SP, HTAB, CR and LF.
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    trim_end(trim_start(bytes))
}

fn trim_start(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_lws(*first)
    {
        bytes = rest;
    }
    bytes
}

/// Without trailing SP, HTAB, CR and LF.
pub(super) fn trim_end(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., last] = bytes
        && is_lws(*last)
    {
        bytes = rest;
    }
    bytes
}

/// Text without leading SP and HTAB.
pub(super) fn trim_blank_start(mut text: &str) -> &str {
    while text.as_bytes().first().is_some_and(|&b| is_blank(b)) {
        text = text.get(1..).unwrap_or_default();
    }
    text
}

/// Text without leading and trailing SP and HTAB.
pub(super) fn trim_blank(text: &str) -> &str {
    let mut text = trim_blank_start(text);
    while text.as_bytes().last().is_some_and(|&b| is_blank(b)) {
        text = text.get(..text.len() - 1).unwrap_or_default();
    }
    text
}

/// The elements of one row's comma list, trimmed; commas inside quotes and `<>` do not split; empty ones are skipped.
#[derive(Debug, Clone)]
pub(super) struct Elements<'a> {
    rest: &'a [u8],
}

impl<'a> Elements<'a> {
    pub(super) fn new(value: &'a [u8]) -> Elements<'a> {
        Elements { rest: value }
    }

    /// What follows the elements taken so far (after the comma).
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let end = element_end(self.rest);
            let (element, rest) = self.rest.split_at_checked(end)?;
            self.rest = rest.get(1..).unwrap_or_default();
            let element = trim(element);
            if !element.is_empty() {
                return Some(element);
            }
        }
        None
    }
}

fn element_end(bytes: &[u8]) -> usize {
    if find(bytes, b',').is_none() {
        visit(bytes.len());
        return bytes.len();
    }
    let (mut quoted, mut escaped, mut angle) = (false, false, false);
    for (at, &byte) in bytes.iter().enumerate() {
        if !is(byte, LIST) {
            escaped = false;
            continue;
        }
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' if !angle => quoted = !quoted,
            b'<' if !quoted => angle = true,
            b'>' if !quoted => angle = false,
            b',' if !quoted && !angle => {
                visit(at + 1);
                return at;
            }
            _ => {}
        }
    }
    visit(bytes.len());
    bytes.len()
}

/// The position after the closing quote of a quoted string that starts at `open` (RFC 3261 25.1).
pub(super) fn quoted_end(bytes: &[u8], open: usize) -> Option<usize> {
    let mut at = open + 1;
    loop {
        at += find_either(bytes.get(at..).unwrap_or_default(), b'"', b'\\');
        match bytes.get(at) {
            Some(b'"') => {
                visit(at + 1 - open);
                return Some(at + 1);
            }
            // A quoted pair.
            Some(_) => at += 2,
            None => return None,
        }
    }
}

/// A number of digits only, clamped to 2^32-1; `None` if empty or anything else stands in it.
pub(super) fn clamped_u32(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u32, |number, &digit| {
        digit.is_ascii_digit().then(|| {
            number.checked_mul(10).and_then(|n| n.checked_add(u32::from(digit - b'0'))).unwrap_or(u32::MAX)
        })
    })
}

/// A number of digits only that fits 32 bits.
pub(super) fn exact_u32(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u32, |number, &digit| {
        if !digit.is_ascii_digit() {
            return None;
        }
        number.checked_mul(10)?.checked_add(u32::from(digit - b'0'))
    })
}

/// Is it a non-empty token?
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && run(bytes, TOKEN) == bytes.len()
}

/// Does every octet belong to the class, or to a `%HH` escape?
pub(super) fn all_or_escaped(bytes: &[u8], class: u16) -> bool {
    let mut rest = bytes;
    visit(bytes.len());
    loop {
        rest = rest.get(run(rest, class)..).unwrap_or_default();
        rest = match rest {
            [] => return true,
            [b'%', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => tail,
            _ => return false,
        };
    }
}

/// SP or HTAB.
pub(super) fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// SP, HTAB, CR or LF.
pub(super) fn is_lws(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Does the octet belong to the class?
pub(super) fn is(byte: u8, class: u16) -> bool {
    CLASSES[byte as usize] & class != 0
}

/// `token`
pub(super) const TOKEN: u16 = 1;
/// `user` of a SIP URI, unescaped
pub(super) const USER: u16 = 2;
/// `password`, unescaped
pub(super) const PASSWORD: u16 = 4;
/// `paramchar` of a URI parameter, unescaped
pub(super) const PARAM: u16 = 8;
/// `hname` and `hvalue`, unescaped
pub(super) const URI_HEADER: u16 = 16;
/// `word` of a Call-ID
pub(super) const WORD: u16 = 32;
/// Unquoted value of a header parameter: what grammar and deployed clients put there, without any separator.
pub(super) const VALUE: u16 = 64;
/// What the splitting of lists looks at
pub(super) const LIST: u16 = 128;
/// A host's name: letters, digits, hyphens, dots, and underscores, which deployed networks use
pub(super) const HOST: u16 = 256;
/// What any URI can hold: visible ASCII without `<`, `>` and `"`
pub(super) const URI: u16 = 512;

static CLASSES: [u16; 256] = classes();

const fn classes() -> [u16; 256] {
    let mut table = [0u16; 256];
    let mut byte = 0usize;
    while byte < 256 {
        let character = byte as u8;
        if character.is_ascii_alphanumeric() {
            table[byte] |= TOKEN | USER | PASSWORD | PARAM | URI_HEADER | WORD | HOST;
        }
        if byte > 0x20 && byte != 0x7f {
            table[byte] |= VALUE;
        }
        if character.is_ascii_graphic() {
            table[byte] |= URI;
        }
        byte += 1;
    }
    table = mark(table, b"-.!%*_+`'~", TOKEN);
    table = mark(table, b"-_.!~*'()", USER | PASSWORD | PARAM | URI_HEADER);
    table = mark(table, b"&=+$,;?/", USER);
    table = mark(table, b"&=+$,", PASSWORD);
    table = mark(table, b"[]/:&+$", PARAM);
    table = mark(table, b"[]/?:+$", URI_HEADER);
    table = mark(table, b"-.!%*_+`'~()<>:\\\"/[]?{}", WORD);
    table = mark(table, b"\\\"<>,", LIST);
    table = mark(table, b"-_.", HOST);
    table = clear(table, b"<>\"", URI);
    clear(table, b";,\"<>\\", VALUE)
}

const fn mark(mut table: [u16; 256], characters: &[u8], class: u16) -> [u16; 256] {
    let mut at = 0;
    while at < characters.len() {
        table[characters[at] as usize] |= class;
        at += 1;
    }
    table
}

const fn clear(mut table: [u16; 256], characters: &[u8], class: u16) -> [u16; 256] {
    let mut at = 0;
    while at < characters.len() {
        table[characters[at] as usize] &= !class;
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn elements(value: &str) -> Vec<&str> {
        Elements::new(value.as_bytes()).map(|e| std::str::from_utf8(e).unwrap()).collect()
    }

    #[test]
    fn commas_split_outside_quotes_and_angles_only_rfc3261_7_3_1() {
        assert_eq!(elements("a, b ,c"), ["a", "b", "c"]);
        assert_eq!(
            elements("\"x, \\\" y\" <sip:a,b@h>;p=\"1,2\", <sip:c>"),
            ["\"x, \\\" y\" <sip:a,b@h>;p=\"1,2\"", "<sip:c>"]
        );
        assert_eq!(elements(" ,, a,"), ["a"]);
        assert_eq!(elements("\"open, b"), ["\"open, b"]);
    }

    #[test]
    fn rows_accept_blanks_before_the_colon_and_folds() {
        let bytes = b"To \t:\r\n  x\r\n\ty \r\nV: z\r\n\r\n";
        let first = row(bytes, 0).unwrap().unwrap();
        assert_eq!(first.raw_name.of(bytes), b"To");
        assert_eq!(first.value.of(bytes), b"x\r\n\ty");
        assert!(first.folded);
        let second = row(bytes, first.end).unwrap().unwrap();
        assert_eq!(second.value.of(bytes), b"z");
        assert!(row(bytes, second.end).unwrap().is_none());
    }

    #[test]
    fn bare_line_ends_and_controls_are_errors_a03() {
        for bad in [
            &b"A: x\ny\r\n\r\n"[..],
            b"A: x\ry\r\n\r\n",
            b"A: x\0y\r\n\r\n",
            b"A: x\x7fy\r\n\r\n",
            b"A\0: x\r\n\r\n",
            b"A: \"x\0y\"\r\n\r\n",
            b" A: x\r\n\r\n",
            b": x\r\n\r\n",
            b"A x\r\n\r\n",
            b"A: x",
        ] {
            assert!(row(bad, 0).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        assert!(row(b"A: \"x\\\0y\\\x7f\" <sip:a>\r\n\r\n", 0).is_ok());
    }

    #[test]
    fn numbers_are_digits_only_and_never_wrap() {
        assert_eq!(exact_u32(b"4294967295"), Some(u32::MAX));
        assert_eq!(exact_u32(b"4294967296"), None);
        assert_eq!(exact_u32(b""), None);
        assert_eq!(exact_u32(b"+5"), None);
        assert_eq!(clamped_u32(b"99999999999999999999"), Some(u32::MAX));
        assert_eq!(clamped_u32(b"99999999999999999999x"), None);
    }

    proptest! {
        #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]
        #[test]
        fn runs_and_finds_are_the_naive_ones(text in "[a-z@;%\\x00\u{e9}]{0,40}", wanted in "[a-z@;%]") {
            let (bytes, wanted) = (text.as_bytes(), wanted.as_bytes()[0]);
            prop_assert_eq!(find(bytes, wanted), bytes.iter().position(|&b| b == wanted));
            prop_assert_eq!(split_once(&text, wanted), text.split_once(char::from(wanted)));
            prop_assert_eq!(run(bytes, USER), bytes.iter().take_while(|&&b| is(b, USER)).count());
            let either = bytes.iter().position(|&b| b == wanted || b == b'@').unwrap_or(bytes.len());
            prop_assert_eq!(find_either(bytes, wanted, b'@'), either);
        }
        #[test]
        fn a_quoted_string_ends_where_octet_after_octet_says(text in "\"[a\\\\\"\u{e9}]{0,24}") {
            let (bytes, mut escaped) = (text.as_bytes(), false);
            let naive = bytes.iter().skip(1).position(|&byte| {
                let ends = byte == b'"' && !escaped;
                escaped = byte == b'\\' && !escaped;
                ends
            });
            prop_assert_eq!(quoted_end(bytes, 0), naive.map(|at| at + 2));
        }
        #[test]
        fn control_search_is_the_naive_search(bytes in proptest::collection::vec(any::<u8>(), 0..64), from in 0usize..64) {
            let naive = bytes.iter().enumerate().skip(from).find(|&(_, &b)| b < 0x20 || b == 0x7f);
            let expected = naive.map_or(bytes.len().max(from), |(at, _)| at);
            prop_assert_eq!(find_control(&bytes, from), expected);
        }
    }
}

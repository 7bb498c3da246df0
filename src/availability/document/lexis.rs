//! The small words of XML: attributes, references, names, characters (XML 1.0 and Namespaces in XML 1.0), strictly.

use std::borrow::Cow;

use crate::availability::document::xml::XmlError;

/// Names and raw values of a start tag (XML 1.0 productions 25, 40 and 41), strictly.
pub(super) fn raw_attributes(text: &str, most: usize) -> Result<Vec<(&str, &str)>, XmlError> {
    let wrong = XmlError::Malformed("attribute");
    let mut attributes = Vec::new();
    let mut rest = text;
    loop {
        let trimmed = rest.trim_start_matches(SPACE);
        if trimmed.is_empty() {
            return Ok(attributes);
        }
        if trimmed.len() == rest.len() {
            return Err(wrong);
        }
        let (name, after) = trimmed.split_once('=').ok_or(wrong)?;
        let after = after.trim_start_matches(SPACE);
        let quote = after.chars().next().filter(|c| matches!(c, '"' | '\'')).ok_or(wrong)?;
        let (value, after) = after.get(1..).and_then(|value| value.split_once(quote)).ok_or(wrong)?;
        let name = name.trim_end_matches(SPACE);
        if attributes.len() >= most {
            return Err(XmlError::TooComplex);
        }
        if !is_qualified_name(name) || value.contains('<') {
            return Err(wrong);
        }
        attributes.push((name, value));
        rest = after;
    }
}

/// An attribute's value: line ends and tabs are spaces, references are decoded (XML 1.0 section 3.3.3). Nearly every value is what it stands for.
pub(super) fn decode_value(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.bytes().any(|b| matches!(b, b'&' | b'\r' | b'\n' | b'\t')) {
        return Some(Cow::Borrowed(raw));
    }
    let mut value = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((plain, after)) = rest.split_once('&') {
        push_normalised(&mut value, plain);
        let (name, after) = after.split_once(';')?;
        value.push(referenced(name)?);
        rest = after;
    }
    push_normalised(&mut value, rest);
    Some(Cow::Owned(value))
}

fn push_normalised(value: &mut String, plain: &str) {
    value.extend(plain.replace("\r\n", "\n").chars().map(|c| if SPACE.contains(&c) { ' ' } else { c }));
}

/// The character a reference stands for: one of the five predefined entities or a character reference, nothing else.
pub(super) fn referenced(name: &str) -> Option<char> {
    match name {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "apos" => Some('\''),
        "quot" => Some('"'),
        _ => {
            let number = name.strip_prefix('#')?;
            let (digits, radix) = number.strip_prefix('x').map_or((number, 10), |hex| (hex, 16));
            if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            let code = u32::from_str_radix(digits, radix).ok()?;
            char::from_u32(code).filter(|c| is_xml_char(*c))
        }
    }
}

/// A name's prefix and the rest, at its first colon. Names are short: they are looked through byte by byte.
pub(super) fn prefixed(name: &str) -> Option<(&str, &str)> {
    let colon = name.bytes().position(|b| b == b':')?;
    Some((name.get(..colon)?, name.get(colon + 1..)?))
}

/// A name without its prefix.
pub(super) fn local(name: &str) -> &str {
    prefixed(name).map_or(name, |(_, local)| local)
}

/// A name with at most one colon (Namespaces in XML 1.0, production 7).
pub(super) fn is_qualified_name(name: &str) -> bool {
    match prefixed(name) {
        Some((prefix, local)) => is_ncname(prefix) && is_ncname(local),
        None => is_ncname(name),
    }
}

/// A name without colon (Namespaces in XML 1.0, production 4): also what `xs:ID` asks for.
pub(super) fn is_ncname(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| is_name_char(c) && !matches!(c, '-' | '.' | '0'..='9' | '\u{B7}' | '\u{300}'..='\u{36F}' | '\u{203F}'..='\u{2040}'))
        && chars.all(is_name_char)
}

/// XML 1.0 production 4a without the colon.
pub(super) fn is_name_char(c: char) -> bool {
    matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' | '.' | '\u{B7}' | '\u{C0}'..='\u{D6}' | '\u{D8}'..='\u{F6}'
        | '\u{F8}'..='\u{37D}' | '\u{37F}'..='\u{1FFF}' | '\u{200C}'..='\u{200D}' | '\u{203F}'..='\u{2040}'
        | '\u{2070}'..='\u{218F}' | '\u{2C00}'..='\u{2FEF}' | '\u{3001}'..='\u{D7FF}' | '\u{F900}'..='\u{FDCF}'
        | '\u{FDF0}'..='\u{FFFD}' | '\u{10000}'..='\u{EFFFF}')
}

/// XML 1.0 production 2.
pub(super) fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..='\u{10FFFF}')
}

/// Are these nothing but characters of XML 1.0? What is ASCII alone is told by its bytes.
pub(super) fn is_xml_text(text: &str) -> bool {
    let is_plain = |b: u8| b >= b' ' || is_space(b);
    if text.is_ascii() { text.bytes().all(is_plain) } else { text.chars().all(is_xml_char) }
}

/// XML 1.0 production 3.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// XML 1.0 production 3, as characters.
pub(super) const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

//! What a `message/cpim` body says of itself (RFC 3862 2 to 4), read where it lies: what passes is never written anew
//! ([`cpim_write`](crate::messaging::cpim_write) writes what begins here).

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::messaging::admission::Carried;
use crate::sip::Request;

/// The message headers of a CPIM message, the MIME headers of what it encloses, and that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpim<'a> {
    headers: &'a str,
    enclosed: &'a str,
    content: &'a [u8],
}

/// One message header, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a> {
    /// What the prefix stands for (3.4); empty if it was not declared before this row.
    pub namespace: &'a str,
    /// Without prefix.
    pub name: &'a str,
    /// `;lang=fr` (3.3), with the semicolon; mostly empty.
    pub parameters: &'a str,
    /// As written, escapes and all: see [`unescape`].
    pub value: &'a str,
}

impl<'a> Cpim<'a> {
    /// The one that a request carries. `None`: it carries something else, or what cannot be read.
    pub fn of(request: &'a Request) -> Option<Cpim<'a>> {
        Carried::by(request).cpim(request)
    }

    /// 2: message headers, an empty line, headers of the enclosed content, an empty line, the content.
    pub fn parse(body: &'a [u8]) -> Option<Cpim<'a>> {
        let (headers, rest) = until_empty_line(body)?;
        let (enclosed, content) = until_empty_line(rest)?;
        Some(Cpim { headers, enclosed, content })
    }

    /// The message headers in their order. A line that is none (2.2) says nothing.
    pub fn rows(self) -> impl Iterator<Item = Row<'a>> {
        let mut namespaces = Namespaces::default();
        self.headers.split("\r\n").filter_map(move |line| {
            let (prefix, name, parameters, value) = row(line)?;
            let namespace = match (prefix, name) {
                (None, "NS") => {
                    namespaces.declare(value);
                    HEADERS
                }
                (None | Some(_), _) => namespaces.of(prefix),
            };
            Some(Row { namespace, name, parameters, value })
        })
    }

    /// The values of a header of a namespace (3.4), as they are written.
    pub fn values(self, namespace: &str, name: &str) -> impl Iterator<Item = &'a str> {
        // 2.2: names are case-sensitive.
        self.rows().filter(move |row| row.namespace == namespace && row.name == name).map(|row| row.value)
    }

    /// The first of them.
    pub fn value(self, namespace: &str, name: &str) -> Option<&'a str> {
        self.values(namespace, name).next()
    }

    /// From, To or cc, if there is one that can be read.
    pub fn address(self, name: &str) -> Option<Address<'a>> {
        self.value(HEADERS, name).and_then(Address::parse)
    }

    /// 3.5: does it insist on something that `knows` (namespace, name) does not know?
    pub fn insists_on_other_than(self, knows: impl Fn(&str, &str) -> bool) -> bool {
        let mut namespaces = Namespaces::default();
        for row in self.rows().filter(|row| row.namespace == HEADERS) {
            match row.name {
                "NS" => namespaces.declare(row.value),
                "Require" => {
                    let is_known = |feature: &str| {
                        let feature = feature.trim();
                        let (prefix, name) = prefix_and_name(feature);
                        knows(namespaces.of(prefix), name)
                    };
                    if !row.value.split(',').all(is_known) {
                        return true;
                    }
                }
                _ => {}
            }
        }
        false
    }

    /// Type and subtype of what is enclosed, in small letters.
    pub fn content_type(self) -> Option<String> {
        let value = self.mime("Content-Type")?;
        let essence = value.split(';').next().unwrap_or_default();
        Some(essence.trim().to_ascii_lowercase())
    }

    /// Is what is enclosed written in another way than it is read (RFC 2045 6)?
    pub fn is_encoded(self) -> bool {
        let plain = ["7bit", "8bit", "binary"];
        self.mime("Content-Transfer-Encoding")
            .is_some_and(|value| !plain.iter().any(|plain| value.trim().eq_ignore_ascii_case(plain)))
    }

    /// What is enclosed.
    pub fn content(self) -> &'a [u8] {
        self.content
    }

    /// A MIME header of what is enclosed: other rules than for message headers (RFC 2045).
    fn mime(self, name: &str) -> Option<&'a str> {
        let rows = self.enclosed.split("\r\n").filter_map(|row| row.split_once(':'));
        rows.filter(|(key, _)| key.trim_end().eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .next()
    }
}

/// What prefixes stand for, down to a row (3.4).
struct Namespaces<'a> {
    default: &'a str,
    declared: SmallVec<[(&'a str, &'a str); 2]>,
}

impl Default for Namespaces<'_> {
    fn default() -> Self {
        Namespaces { default: HEADERS, declared: SmallVec::new() }
    }
}

impl<'a> Namespaces<'a> {
    /// `prefix <uri>`, or `<uri>` for headers without one.
    fn declare(&mut self, value: &'a str) {
        let parts = value.strip_suffix('>').and_then(|value| value.split_once('<'));
        match parts.map(|(prefix, uri)| (prefix.trim_end(), uri)) {
            Some(("", uri)) => self.default = uri,
            Some(one) if self.declared.len() < MAX_NAMESPACES => self.declared.push(one),
            Some(_) | None => {}
        }
    }

    /// Empty: it was not declared.
    fn of(&self, prefix: Option<&str>) -> &'a str {
        let Some(prefix) = prefix else { return self.default };
        let declared = self.declared.iter().rev().find(|(known, _)| *known == prefix);
        declared.map_or("", |(_, uri)| uri)
    }
}

/// An address as From, To and cc have it (4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address<'a> {
    /// The name of whom it means, escapes decoded.
    pub formal_name: Option<Cow<'a, str>>,
    /// The URI, as written.
    pub uri: &'a str,
}

impl<'a> Address<'a> {
    /// `[ Formal-name ] "<" URI ">"`.
    pub fn parse(value: &'a str) -> Option<Address<'a>> {
        let (name, rest) = match value.strip_prefix('"') {
            Some(quoted) => {
                let mut is_escaped = false;
                let end = quoted.find(|c| {
                    let ends = c == '"' && !is_escaped;
                    is_escaped = c == '\\' && !is_escaped;
                    ends
                })?;
                (quoted.get(..end)?, quoted.get(end + 1..)?.trim_start_matches(' '))
            }
            None => {
                let at = value.find('<')?;
                let name = value.get(..at)?.trim_end_matches(' ');
                (Some(name).filter(|name| !name.contains(['"', '\\']))?, value.get(at..)?)
            }
        };
        let uri = rest.strip_prefix('<')?.strip_suffix('>')?;
        let is_of_uri = |c: char| !c.is_control() && !c.is_whitespace() && !"<>\"\\".contains(c);
        let formal_name = (!name.is_empty()).then(|| unescape(name));
        (!uri.is_empty() && uri.chars().all(is_of_uri)).then_some(Address { formal_name, uri })
    }
}

/// Whom a body says it is from, to whoever may read it more kindly than we do: any line end, any case, blanks around. `None`: a From that
/// names nobody. For what must not be believed; a proper message has one.
pub fn claimed_senders(body: &[u8]) -> impl Iterator<Item = Option<&str>> {
    let mut rest = body;
    let mut has_begun = false;
    std::iter::from_fn(move || {
        loop {
            let end = rest.iter().position(|byte| b"\r\n".contains(byte));
            let line = rest.get(..end.unwrap_or(rest.len()))?;
            let width = if rest.get(line.len()..)?.starts_with(b"\r\n") { 2 } else { 1 };
            rest = rest.get(line.len() + width..).unwrap_or_default();
            let line = line.trim_ascii();
            if line.is_empty() && (has_begun || rest.is_empty()) {
                return None;
            }
            has_begun |= !line.is_empty();
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let (name, value) = line.split_at(colon);
            let name = name.rsplit(|byte| *byte == b'.').next().unwrap_or_default().trim_ascii();
            if name.eq_ignore_ascii_case(b"From") {
                return Some(std::str::from_utf8(value).ok().and_then(named));
            }
        }
    })
}

/// The URI of `: "Name" <uri>`, with anything between the colon and the name that may be there.
fn named(value: &str) -> Option<&str> {
    let value = value.strip_prefix(':')?.trim();
    // 3.3: parameters end at the first blank.
    let value = match value.strip_prefix(';') {
        Some(_) => value.split_once(' ')?.1.trim(),
        None => value,
    };
    if value.contains('<') { Address::parse(value).map(|address| address.uri) } else { Some(value) }
}

/// The text that an escaped one stands for (2.3.1).
pub fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let mut following = after.chars();
        rest = match following.next() {
            Some('u') => match code_point(after) {
                Some((character, rest)) => {
                    plain.push(character);
                    rest
                }
                None => after,
            },
            Some(character) => {
                plain.push(match character {
                    'b' => '\u{8}',
                    't' => '\t',
                    'n' => '\n',
                    'r' => '\r',
                    // Quotes, the backslash itself, and what is not an escape: the character.
                    other => other,
                });
                following.as_str()
            }
            // An isolated backslash at the end is ignored.
            None => "",
        };
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

/// `uXXXX`, twice for a character beyond the first 65,536 (2.3: it is UCS-2 that is escaped), and what follows it.
fn code_point(text: &str) -> Option<(char, &str)> {
    let unit = |text: &str| -> Option<u16> {
        let digits = text.strip_prefix('u')?.get(..4)?;
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| u16::from_str_radix(digits, 16).ok())?
    };
    let (first, rest) = (unit(text)?, text.get(5..)?);
    if let Some(second) = rest.strip_prefix('\\').and_then(unit)
        && let Some(Ok(pair)) = char::decode_utf16([first, second]).next()
        && u32::from(pair) > 0xffff
    {
        return Some((pair, rest.get(6..)?));
    }
    let single = char::from_u32(first.into());
    Some((single.unwrap_or(char::REPLACEMENT_CHARACTER), rest))
}

/// Prefix, name, parameters and value of a line (3.6). `None`: it is no header.
fn row(line: &str) -> Option<(Option<&str>, &str, &str, &str)> {
    let (key, rest) = line.split_once(':')?;
    let (parameters, value) = match rest.strip_prefix(' ') {
        Some(value) => ("", value),
        None => rest.starts_with(';').then(|| rest.split_once(' '))??,
    };
    // 2.2: no control characters, no white space at the end of a line.
    if value.chars().any(|c| c.is_ascii_control()) || value.ends_with(' ') {
        return None;
    }
    let (prefix, name) = prefix_and_name(key);
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(is_name_byte);
    (is_name(name) && prefix.is_none_or(is_name)).then_some((prefix, name, parameters, value))
}

fn prefix_and_name(key: &str) -> (Option<&str>, &str) {
    key.split_once('.').map_or((None, key), |(prefix, name)| (Some(prefix), name))
}

/// 3.6 NAMECHAR.
pub(super) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-^_`|~".contains(&byte)
}

/// What stands before the first empty line, and what after it; bounded, so that a body without one costs little.
fn until_empty_line(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let head = bytes.get(..bytes.len().min(MAX_HEADERS))?;
    if let Some(rest) = bytes.strip_prefix(b"\r\n") {
        return Some(("", rest));
    }
    let at = head.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some((std::str::from_utf8(bytes.get(..at)?).ok()?, bytes.get(at + 4..)?))
}

/// Its media type (2).
pub const MEDIA_TYPE: &str = "message/cpim";
/// The namespace of headers without prefix, until `NS` says otherwise (4).
pub const HEADERS: &str = "urn:ietf:params:cpim-headers:";
/// The namespace of IMDN headers (RFC 5438 6).
pub const IMDN: &str = "urn:ietf:params:imdn";
/// Bytes of headers in one part (`A06`).
const MAX_HEADERS: usize = 8_192;
/// Prefixes that are remembered.
const MAX_NAMESPACES: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::messaging::testing::SANDERS;

    /// RFC 5438 7.1.1, the example.
    const ASKING: &str = "From: Alice <im:alice@example.com>\r\nTo: Bob <im:bob@example.com>\r\nNS: imdn <urn:ietf:params:imdn>\r\n\
         imdn.Message-ID: 34jk324j\r\nDateTime: 2006-04-04T12:16:49-05:00\r\n\
         imdn.Disposition-Notification: positive-delivery, negative-delivery\r\n\r\nContent-type: text/plain\r\nContent-length: 12\r\n\r\nHello World";

    fn read(headers: &str) -> Cpim<'static> {
        let body = format!("{headers}\r\n\r\nContent-Type: text/plain\r\n\r\n").leak();
        Cpim::parse(body.as_bytes()).unwrap()
    }

    fn message_id(headers: &str) -> Option<&'static str> {
        read(headers).value(IMDN, "Message-ID")
    }

    #[test]
    fn the_example_is_read_rfc5438_7_1_1() {
        let cpim = Cpim::parse(ASKING.as_bytes()).unwrap();
        assert_eq!(cpim.value(IMDN, "Message-ID"), Some("34jk324j"));
        assert_eq!(
            cpim.value(IMDN, "Disposition-Notification"),
            Some("positive-delivery, negative-delivery")
        );
        assert_eq!(cpim.content_type().as_deref(), Some("text/plain"));
    }

    #[test]
    fn the_example_has_three_parts_rfc3862_2_4() {
        let cpim = Cpim::parse(SANDERS.as_bytes()).unwrap();
        let address = cpim.address("From").unwrap();
        assert_eq!(address.formal_name.as_deref(), Some("MR SANDERS"));
        assert_eq!(address.uri, "im:piglet@100akerwood.com");
        assert_eq!(cpim.address("To").unwrap().uri, "im:eeyore@100akerwood.com");
        assert_eq!(cpim.value(HEADERS, "DateTime"), Some("2000-12-13T13:40:00-08:00"));
        assert_eq!(cpim.content_type().as_deref(), Some("text/xml"));
        assert_eq!(cpim.content(), b"<body>\r\nHere is the text of my message.\r\n</body>");
        let features: Vec<_> =
            cpim.rows().filter(|row| row.namespace == "mid:MessageFeatures@id.foo.com").collect();
        let names: Vec<_> = features.iter().map(|row| (row.name, row.value)).collect();
        let expected =
            [("VitalMessageOption", "Confirmation-requested"), ("WackyMessageOption", "Use-silly-font")];
        assert_eq!(names, expected);
        // Without message headers, which is no message of anybody, and with nothing in it.
        let bare = Cpim::parse(b"\r\nContent-Type: text/plain\r\n\r\n").unwrap();
        assert_eq!((bare.rows().count(), bare.content()), (0, &b""[..]));
    }

    #[test]
    fn a_value_may_say_its_language_rfc3862_3_3() {
        let subjects = |row: &Row<'_>| row.name == "Subject";
        let rows: Vec<_> = Cpim::parse(SANDERS.as_bytes()).unwrap().rows().filter(subjects).collect();
        assert_eq!((rows[0].parameters, rows[0].value), ("", "the weather will be fine today"));
        assert_eq!((rows[1].parameters, rows[1].value), (";lang=fr", "beau temps prevu pour aujourd'hui"));
    }

    #[test]
    fn a_prefix_means_what_was_declared_before_it_rfc3862_3_4() {
        assert_eq!(message_id("NS: x <urn:ietf:params:imdn>\r\nx.Message-ID: 1"), Some("1"));
        assert_eq!(message_id("NS: <urn:ietf:params:imdn>\r\nMessage-ID: 1"), Some("1"));
        for other in [
            "imdn.Message-ID: 1",
            "imdn.Message-ID: 1\r\nNS: imdn <urn:ietf:params:imdn>",
            "NS: imdn <urn:other>\r\nimdn.Message-ID: 1",
            "NS: imdn <urn:ietf:params:imdn>\r\nimdn.message-id: 1",
            "NS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID:1",
            "NS: imdn\r\nimdn.Message-ID: 1",
        ] {
            assert_eq!(message_id(other), None, "{other}");
        }
        // The two of the RFC mean the same.
        for (ns, header) in [
            ("NS: acme <http://id.acme.widgets/wily-headers/>", "acme.runner-trap: set"),
            ("NS: widget <http://id.acme.widgets/wily-headers/>", "widget.runner-trap: set"),
            ("NS: <http://id.acme.widgets/wily-headers/>", "runner-trap: set"),
        ] {
            let cpim = read(&format!("From: <im:a@x>\r\n{ns}\r\n{header}"));
            assert_eq!(cpim.value("http://id.acme.widgets/wily-headers/", "runner-trap"), Some("set"));
            assert_eq!(cpim.address("From").unwrap().uri, "im:a@x");
        }
    }

    #[test]
    fn a_line_is_a_header_or_says_nothing_rfc3862_2_2() {
        for line in [
            "To:<im:b@x>",
            "to: <im:b@x>",
            " To: <im:b@x>",
            "To : <im:b@x>",
            "To: <im:b@x> ",
            "To: <im:b\t@x>",
            "To\u{f6}: <im:b@x>",
            "a.b.To: <im:b@x>",
            "To",
        ] {
            let cpim = read(&format!("{line}\r\nFrom: <im:a@x>"));
            assert_eq!((cpim.address("To"), cpim.address("From").unwrap().uri), (None, "im:a@x"), "{line}");
        }
        assert_eq!(read("To: <im:gr\u{fc}n@x>").address("To").unwrap().uri, "im:gr\u{fc}n@x");
        // A line that ends otherwise is part of this one, and so none.
        assert_eq!(read("From: <im:a@x>\nTo: <im:b@x>").address("To"), None);
    }

    #[test]
    fn escapes_are_characters_rfc3862_2_3_1() {
        for (escaped, plain) in [
            (r#"a\\b\"c\'d"#, "a\\b\"c'd"),
            (r"\b\t\n\r", "\u{8}\t\n\r"),
            (r"\u0041\u00fc\u20AC", "A\u{fc}\u{20ac}"),
            (r"\ud83d\ude00!", "\u{1f600}!"),
            (r"\ud83dx", "\u{fffd}x"),
            (r"\ud83d\u0041", "\u{fffd}A"),
            (r"\x\y", "xy"),
            (r"\u12", "u12"),
            (r"\u+041", "u+041"),
            ("\\\u{fc}", "\u{fc}"),
            (r"end\", "end"),
            ("plain", "plain"),
        ] {
            assert_eq!(unescape(escaped), plain, "{escaped}");
        }
    }

    #[test]
    fn addresses_have_a_name_or_none_rfc3862_4_1() {
        let of = |value: &'static str| {
            Address::parse(value).map(|one| (one.formal_name.map(Cow::into_owned), one.uri))
        };
        let named = |name: &str, uri| Some((Some(name.to_owned()), uri));
        assert_eq!(
            of("Winnie the Pooh <im:pooh@100akerwood.com>"),
            named("Winnie the Pooh", "im:pooh@100akerwood.com")
        );
        assert_eq!(of("<im:tigger@100akerwood.com>"), Some((None, "im:tigger@100akerwood.com")));
        assert_eq!(of(r#""A \"<B>\" \\" <sip:b@x>"#), named("A \"<B>\" \\", "sip:b@x"));
        for none in ["", "im:a@x", "<>", "<im:a@x", "A <im:a@x> ;x", "\"A <im:a@x>", "<im:a b@x>", "<a><b>"] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn what_a_message_insists_on_is_known_or_not_rfc3862_3_5() {
        let knows = |namespace: &str, name: &str| {
            namespace == HEADERS && name == "Subject" || namespace == IMDN && name == "Message-ID"
        };
        let insists = |headers: &str| read(headers).insists_on_other_than(knows);
        assert!(!insists("From: <im:a@x>"));
        assert!(!insists("NS: i <urn:ietf:params:imdn>\r\nRequire: Subject,i.Message-ID"));
        assert!(insists("NS: i <urn:ietf:params:imdn>\r\nRequire: Subject,i.Other"));
        assert!(insists("Require: i.Message-ID\r\nNS: i <urn:ietf:params:imdn>"));
        assert!(insists("Require: Locale.MustRenderKanji"));
        assert!(Cpim::parse(SANDERS.as_bytes()).unwrap().insists_on_other_than(knows));
    }

    #[test]
    fn a_sender_is_claimed_however_it_is_written_a18() {
        let of = |body: &'static str| claimed_senders(body.as_bytes()).collect::<Vec<_>>();
        for body in [
            "From: <im:a@x>\r\nTo: <im:b@x>\r\n\r\nFrom: <im:c@x>",
            "\r\n\r\nFrom: <im:a@x>\r\n\r\n",
            "To: <im:b@x>\nfrom : A <im:a@x>\n\nFrom: <im:c@x>",
            "x.FROM:<im:a@x>\r\rFrom: <im:c@x>",
            "From:;lang=en \"<im:b@x>\" <im:a@x>",
            "From: im:a@x",
        ] {
            assert_eq!(of(body), [Some("im:a@x")], "{body}");
        }
        assert_eq!(of("From: <im:a@x>\r\nFrom: <im:b@x>\r\n"), [Some("im:a@x"), Some("im:b@x")]);
        assert_eq!(of("From: <im:a@x> <im:b@x>"), [None]);
        assert_eq!(claimed_senders(b"From: \xff\r\n").collect::<Vec<_>>(), [None]);
        assert!(of("").is_empty() && of("\r\n\r\n").is_empty() && of("To: <im:b@x>").is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_and_any_cut_are_read_without_harm_a06(
            bytes in proptest::collection::vec(any::<u8>(), 0..300), text in any::<String>(), cut in 0..600_usize,
        ) {
            let cut_short = SANDERS.as_bytes().get(..cut.min(SANDERS.len())).unwrap();
            let with_text = format!("From: {text}\r\nNS: {text}\r\nRequire: {text}\r\n{text}: {text}\r\n\r\n{text}\r\n\r\n");
            for body in [&bytes[..], cut_short, with_text.as_bytes()] {
                claimed_senders(body).for_each(drop);
                if let Some(cpim) = Cpim::parse(body) {
                    cpim.rows().for_each(drop);
                    let _ = (cpim.address("From"), cpim.content_type(), cpim.is_encoded(), cpim.content());
                    let _ = cpim.insists_on_other_than(|_, _| true);
                }
            }
            prop_assert!(unescape(&text).chars().count() <= text.chars().count());
            let _ = Address::parse(&text);
        }
    }

    #[test]
    fn what_is_not_cpim_is_not_read_a06() {
        for body in [&b""[..], b"\r\n", b"From: a", b"From: a\r\n\r\n", b"\xff\r\n\r\n\r\n\r\n"] {
            assert_eq!(Cpim::parse(body), None, "{body:?}");
        }
        let long = format!("From: {}\r\n\r\nContent-Type: text/plain\r\n\r\n", "a".repeat(MAX_HEADERS));
        assert_eq!(Cpim::parse(long.as_bytes()), None);
        // As many prefixes as fit cost no more than a few.
        let many = "NS: x <urn:x>\r\n".repeat(500);
        let cpim = read(&format!("{many}x.a: 1"));
        assert_eq!(cpim.value("urn:x", "a"), Some("1"));
    }
}

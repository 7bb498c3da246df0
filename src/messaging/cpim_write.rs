//! Writes a `message/cpim` (RFC 3862 2): whatever the values, a line stays a line. Pure.

use bytes::Bytes;

use crate::messaging::cpim::{Address, is_name_byte};

/// The message headers so far.
#[derive(Debug, Default)]
pub struct Writer {
    text: String,
}

impl Writer {
    /// A header (3): its name as it stands, with its prefix if it has one, and what its value is to be read as.
    pub fn header(&mut self, name: &str, value: &str) -> &mut Writer {
        self.row(name, None, |text| escape(text, value, None))
    }

    /// A header whose value is in a language (3.3).
    pub fn header_in(&mut self, name: &str, language: &str, value: &str) -> &mut Writer {
        self.row(name, Some(language), |text| escape(text, value, None))
    }

    /// From, To, cc and the like (4.1).
    pub fn address(&mut self, name: &str, address: &Address<'_>) -> &mut Writer {
        self.row(name, None, |text| {
            if let Some(name) = address.formal_name.as_deref().filter(|name| !name.is_empty()) {
                if name.split(' ').all(is_token) {
                    text.push_str(name);
                } else {
                    text.push('"');
                    escape(text, name, Some('"'));
                    text.push('"');
                }
                text.push(' ');
            }
            text.push('<');
            push_uri(text, address.uri);
            text.push('>');
        })
    }

    /// What a prefix stands for (4.6); before it is used.
    pub fn namespace(&mut self, prefix: &str, uri: &str) -> &mut Writer {
        self.row("NS", None, |text| {
            text.extend(prefix.bytes().filter(|byte| is_name_byte(*byte)).map(char::from));
            text.push_str(" <");
            push_uri(text, uri);
            text.push('>');
        })
    }

    /// The whole message around a content with its MIME headers, Content-Type among them (2.4).
    pub fn enclosing(self, headers: &[(&str, &str)], content: &[u8]) -> Bytes {
        let mut text = self.text;
        text.push_str("\r\n");
        for (name, value) in headers {
            text.extend(name.bytes().filter(|byte| is_name_byte(*byte)).map(char::from));
            text.push_str(": ");
            text.extend(value.chars().map(|c| if c.is_control() { ' ' } else { c }));
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(content);
        bytes.into()
    }

    fn row(&mut self, name: &str, language: Option<&str>, value: impl FnOnce(&mut String)) -> &mut Writer {
        let is_of_name = |byte: &u8| is_name_byte(*byte) || *byte == b'.';
        self.text.extend(name.bytes().filter(is_of_name).map(char::from));
        self.text.push(':');
        if let Some(language) = language {
            self.text.push_str(";lang=");
            self.text.extend(language.bytes().filter(|byte| is_name_byte(*byte)).map(char::from));
        }
        self.text.push(' ');
        let start = self.text.len();
        value(&mut self.text);
        // 2.2: no white space at the end of a line.
        let end = self.text.trim_end_matches(' ').len().max(start);
        self.text.truncate(end);
        self.text.push_str("\r\n");
        self
    }
}

/// 2.3.1: what must be escaped is, and nothing else. `quote`: what ends the string it stands in.
fn escape(out: &mut String, text: &str, quote: Option<char>) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            control if control.is_ascii_control() => {
                out.push_str(&format!("\\u{:04x}", u32::from(control)));
            }
            quoted if Some(quoted) == quote => {
                out.push('\\');
                out.push(quoted);
            }
            plain => out.push(plain),
        }
    }
}

/// What no URI has (RFC 3986 2) is escaped as URIs do.
fn push_uri(out: &mut String, uri: &str) {
    for character in uri.chars() {
        if character.is_ascii_control() || " <>\"\\".contains(character) {
            out.push_str(&format!("%{:02X}", u32::from(character)));
        } else {
            out.push(character);
        }
    }
}

/// 3.6 Token.
fn is_token(word: &str) -> bool {
    let is_of_token = |c: char| match u8::try_from(c) {
        Ok(byte) if byte.is_ascii() => is_name_byte(byte) || byte == b'.',
        Ok(_) | Err(_) => true,
    };
    !word.is_empty() && word.chars().all(is_of_token)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::*;
    use crate::messaging::cpim::{Cpim, HEADERS, IMDN, unescape};
    use crate::messaging::testing::SANDERS;

    fn address<'a>(formal_name: &'a str, uri: &'a str) -> Address<'a> {
        Address { formal_name: Some(Cow::Borrowed(formal_name)), uri }
    }

    #[test]
    fn the_example_is_written_byte_for_byte_rfc3862_5_1() {
        let mut writer = Writer::default();
        writer
            .address("From", &address("MR SANDERS", "im:piglet@100akerwood.com"))
            .address("To", &address("Depressed Donkey", "im:eeyore@100akerwood.com"))
            .header("DateTime", "2000-12-13T13:40:00-08:00")
            .header("Subject", "the weather will be fine today")
            .header_in("Subject", "fr", "beau temps prevu pour aujourd'hui")
            .namespace("MyFeatures", "mid:MessageFeatures@id.foo.com")
            .header("Require", "MyFeatures.VitalMessageOption")
            .header("MyFeatures.VitalMessageOption", "Confirmation-requested")
            .header("MyFeatures.WackyMessageOption", "Use-silly-font");
        let headers = [("Content-type", "text/xml; charset=utf-8"), ("Content-ID", "<1234567890@foo.com>")];
        let content = b"<body>\r\nHere is the text of my message.\r\n</body>";
        assert_eq!(writer.enclosing(&headers, content), SANDERS);
    }

    #[test]
    fn the_examples_of_single_headers_are_written_so_rfc3862_4() {
        let mut writer = Writer::default();
        writer
            .address("To", &address("Winnie the Pooh", "im:pooh@100akerwood.com"))
            .address("cc", &Address { formal_name: None, uri: "im:tigger@100akerwood.com" })
            .header_in("Subject", "en", "Eeyore's feeling very depressed today")
            .namespace("MyAlias", "mid:MessageFeatures@id.foo.com");
        let expected = "To: Winnie the Pooh <im:pooh@100akerwood.com>\r\ncc: <im:tigger@100akerwood.com>\r\n\
                        Subject:;lang=en Eeyore's feeling very depressed today\r\n\
                        NS: MyAlias <mid:MessageFeatures@id.foo.com>\r\n";
        assert_eq!(writer.text, expected);
    }

    #[test]
    fn controls_are_escaped_and_nothing_else_is_rfc3862_2_3_1() {
        let mut writer = Writer::default();
        writer.header("Subject", "\\ \u{8}\t\n\r\0\u{1f}\u{7f} \"'\u{fc}\u{1f600}");
        assert_eq!(writer.text, "Subject: \\\\ \\b\\t\\n\\r\\u0000\\u001f\\u007f \"'\u{fc}\u{1f600}\r\n");
        let mut writer = Writer::default();
        writer.address("To", &address("B\"o'b\\", "im:b <>@x"));
        assert_eq!(writer.text, "To: \"B\\\"o'b\\\\\" <im:b%20%3C%3E@x>\r\n");
    }

    proptest! {
        #[test]
        fn no_value_ends_its_line_a04(
            name in any::<String>(), uri in any::<String>(), value in any::<String>(), language in any::<String>(),
        ) {
            let mut writer = Writer::default();
            writer
                .namespace("i", &uri)
                .namespace("imdn", IMDN)
                .address("From", &Address { formal_name: Some(Cow::Borrowed(&name)), uri: &uri })
                .header("imdn.Message-ID", &value)
                .header_in(&name, &language, &value)
                .header("Subject", &value);
            let bytes = writer.enclosing(&[("Content-Type", &value), (&value, &name)], b"x");
            prop_assert!(bytes.iter().filter(|byte| **byte == 0).count() == 0);
            prop_assert!(bytes.windows(2).all(|two| (two[0] == b'\r') == (two[1] == b'\n')));
            prop_assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 6 + 1 + 2 + 1);
            if let Some(cpim) = Cpim::parse(&bytes) {
                let written = value.trim_end_matches(' ');
                for (namespace, name) in [(HEADERS, "Subject"), (IMDN, "Message-ID")] {
                    let read = cpim.value(namespace, name).map(unescape);
                    prop_assert_eq!(read.as_deref(), Some(written));
                }
                if !uri.is_empty() && !uri.chars().any(|c| c.is_whitespace() || c.is_control()) {
                    let read = cpim.address("From").unwrap();
                    prop_assert_eq!(read.formal_name.as_deref().unwrap_or_default(), name.as_str());
                }
            }
        }
    }
}

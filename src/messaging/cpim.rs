//! What a `message/cpim` body says of itself (RFC 3862 2, 3), read where it lies: the body is never written anew.

use crate::sip::Request;

/// The message headers of a CPIM message, and the Content-Type of what it encloses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpim<'a> {
    headers: &'a str,
    enclosed: &'a str,
}

impl<'a> Cpim<'a> {
    /// The one that a request carries. `None`: it carries something else, or what cannot be read.
    pub fn of(request: &'a Request) -> Option<Cpim<'a>> {
        (request.content_type().as_deref() == Some("message/cpim")).then(|| Cpim::parse(request.body()))?
    }

    /// 2: message headers, an empty line, headers of the enclosed content, an empty line, the content.
    pub fn parse(body: &'a [u8]) -> Option<Cpim<'a>> {
        let (headers, rest) = until_empty_line(body)?;
        let (enclosed, _) = until_empty_line(rest)?;
        Some(Cpim { headers, enclosed })
    }

    /// The value of a header of a namespace (3.4), as it is written: the prefix is whatever an `NS` header before it declares.
    pub fn value(&self, namespace: &str, name: &str) -> Option<&'a str> {
        let mut prefix = None;
        for (key, value) in rows(self.headers) {
            if key == "NS" {
                let (declared, uri) = value.trim_end().strip_suffix('>')?.split_once('<')?;
                if uri == namespace {
                    prefix = Some(declared.trim_end());
                }
                continue;
            }
            // 2.2: names are case-sensitive.
            match (key.split_once('.'), prefix) {
                (Some((of, key)), Some(prefix)) if of == prefix && key == name => return Some(value),
                (None, Some("")) if key == name => return Some(value),
                _ => {}
            }
        }
        None
    }

    /// Type and subtype of what is enclosed, in small letters.
    pub fn content_type(&self) -> Option<String> {
        let is_type = |(name, _): &(&str, &str)| name.eq_ignore_ascii_case("Content-Type");
        let (_, value) = rows(self.enclosed).find(is_type)?;
        let essence = value.split(';').next().unwrap_or_default();
        Some(essence.trim().to_ascii_lowercase())
    }
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

/// 2.2: `Name: value`, with one space.
fn rows(headers: &str) -> impl Iterator<Item = (&str, &str)> {
    headers.split("\r\n").filter_map(|row| row.split_once(": "))
}

/// The namespace of IMDN headers (RFC 5438 6).
pub const IMDN: &str = "urn:ietf:params:imdn";
/// Bytes of headers in one part (`A06`).
const MAX_HEADERS: usize = 8_192;

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5438 7.1.1, the example.
    const ASKING: &str = "From: Alice <im:alice@example.com>\r\nTo: Bob <im:bob@example.com>\r\nNS: imdn <urn:ietf:params:imdn>\r\n\
         imdn.Message-ID: 34jk324j\r\nDateTime: 2006-04-04T12:16:49-05:00\r\n\
         imdn.Disposition-Notification: positive-delivery, negative-delivery\r\n\r\nContent-type: text/plain\r\nContent-length: 12\r\n\r\nHello World";

    fn message_id(headers: &str) -> Option<&str> {
        let body = format!("{headers}\r\n\r\nContent-Type: text/plain\r\n\r\n").leak();
        Cpim::parse(body.as_bytes())?.value(IMDN, "Message-ID")
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
    }

    #[test]
    fn what_is_not_cpim_is_not_read_a06() {
        for body in [&b""[..], b"\r\n", b"From: a", b"From: a\r\n\r\n", b"\xff\r\n\r\n\r\n\r\n"] {
            assert_eq!(Cpim::parse(body), None, "{body:?}");
        }
        let long = format!("From: {}\r\n\r\nContent-Type: text/plain\r\n\r\n", "a".repeat(MAX_HEADERS));
        assert_eq!(Cpim::parse(long.as_bytes()), None);
    }
}

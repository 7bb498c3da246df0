//! What arrived: a light parser of our own, and replies built from it.

use std::fmt::Write as _;

/// A received message.
#[derive(Clone, Debug)]
pub struct Message {
    pub raw: Vec<u8>,
    pub start: String,
    /// Name as sent (compact forms made long), value unfolded and trimmed.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Message {
    /// Reads one whole message.
    ///
    /// # Panics
    /// If it is not SIP: the server must not send such a thing.
    pub fn parse(raw: &[u8]) -> Message {
        let end = find(raw, b"\r\n\r\n")
            .unwrap_or_else(|| panic!("no end of headers: {:?}", String::from_utf8_lossy(raw)));
        let head = std::str::from_utf8(&raw[..end]).expect("headers are UTF-8");
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap_or("").to_string();
        let headers: Vec<(String, String)> = lines
            .map(|line| {
                assert!(!line.contains(['\r', '\n']), "control character in {line:?}");
                let (name, value) =
                    line.split_once(':').unwrap_or_else(|| panic!("header without colon: {line:?}"));
                (long(name.trim()).to_string(), value.trim().to_string())
            })
            .collect();
        Message { raw: raw.to_vec(), start, headers, body: raw[end + 4..].to_vec() }
    }

    /// Asks `rsip` as well; both must agree on the kind of message and on the Call-ID.
    pub fn second_opinion(&self) {
        // It knows no IPv6 references.
        if self.raw.contains(&b'[') {
            return;
        }
        use rsip::headers::UntypedHeader as _;
        use rsip::prelude::HeadersExt as _;
        let other = rsip::SipMessage::try_from(self.raw.as_slice())
            .unwrap_or_else(|error| panic!("rsip cannot read this: {error}\n{self}"));
        assert_eq!(other.is_request(), self.status().is_none(), "request or response?\n{self}");
        // It knows no compact forms, so a header it cannot find says nothing.
        if let Ok(call_id) = other.call_id_header() {
            assert_eq!(Some(call_id.value().trim()), self.header("Call-ID"), "Call-ID of\n{self}");
        }
    }

    /// Status code of a response.
    pub fn status(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// Method of a request, or of the CSeq of a response.
    pub fn method(&self) -> &str {
        match self.status() {
            None => self.start.split(' ').next().unwrap_or(""),
            Some(_) => self.header("CSeq").and_then(|cseq| cseq.split_whitespace().nth(1)).unwrap_or(""),
        }
    }

    /// Request-URI.
    pub fn uri(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or("")
    }

    pub fn is_request(&self, method: &str) -> bool {
        self.status().is_none() && self.method() == method
    }

    /// First value of a header, by its long name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// First value of a header that must be there.
    pub fn need(&self, name: &str) -> &str {
        self.header(name).unwrap_or_else(|| panic!("no {name} in\n{self}"))
    }

    /// Rows of a header, in order, as sent.
    pub fn rows(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    /// Values of a list header, commas taken apart.
    pub fn list(&self, name: &str) -> Vec<String> {
        self.rows(name).into_iter().flat_map(split_commas).collect()
    }

    pub fn cseq(&self) -> u32 {
        self.need("CSeq").split_whitespace().next().and_then(|n| n.parse().ok()).expect("CSeq number")
    }

    pub fn call_id(&self) -> &str {
        self.need("Call-ID")
    }

    pub fn branch(&self) -> String {
        param(self.list("Via").first().map_or("", String::as_str), "branch").unwrap_or_default()
    }

    pub fn to_tag(&self) -> Option<String> {
        tag(self.need("To"))
    }

    pub fn tag_in_from(&self) -> Option<String> {
        tag(self.need("From"))
    }

    /// URI inside the first Contact.
    pub fn contact_uri(&self) -> String {
        uri_of(self.list("Contact").first().unwrap_or_else(|| panic!("no Contact in\n{self}")))
    }

    pub fn body_text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// `Subscription-State` without its parameters.
    pub fn subscription_state(&self) -> String {
        self.need("Subscription-State").split(';').next().unwrap_or("").trim().to_string()
    }

    /// A response to this request: Via, From, To (with a tag), Call-ID, CSeq and, in 101-299, Record-Route are copied.
    pub fn reply(&self, status: u16, reason: &str) -> Reply {
        let mut reply =
            Reply { start: format!("SIP/2.0 {status} {reason}"), headers: Vec::new(), body: Vec::new() };
        for (name, value) in &self.headers {
            let copied = match name.to_ascii_lowercase().as_str() {
                "via" | "from" | "call-id" | "cseq" => Some(value.clone()),
                "to" if tag(value).is_none() && status > 100 => {
                    Some(format!("{value};tag=uas{}", self.short_id()))
                }
                "to" => Some(value.clone()),
                "record-route" if (101..300).contains(&status) => Some(value.clone()),
                _ => None,
            };
            if let Some(value) = copied {
                reply.headers.push((name.clone(), value));
            }
        }
        reply
    }

    fn short_id(&self) -> String {
        super::digest::Algorithm::Md5.hex(&format!("{}{}", self.call_id(), self.branch()))[..8].to_string()
    }
}

impl std::fmt::Display for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(&self.raw))
    }
}

/// A response being written.
#[derive(Clone, Debug)]
pub struct Reply {
    start: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Reply {
    pub fn header(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Replaces the value of a header that is there.
    pub fn set(mut self, name: &str, value: &str) -> Reply {
        for (_, old) in self.headers.iter_mut().filter(|(n, _)| n.eq_ignore_ascii_case(name)) {
            *old = value.into();
        }
        self
    }

    pub fn body(mut self, content_type: &str, body: &[u8]) -> Reply {
        self.headers.push(("Content-Type".into(), content_type.into()));
        self.body = body.to_vec();
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.start);
        for (name, value) in &self.headers {
            write!(text, "{name}: {value}\r\n").unwrap();
        }
        write!(text, "Content-Length: {}\r\n\r\n", self.body.len()).unwrap();
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// `;tag=` of a From or To value.
pub fn tag(value: &str) -> Option<String> {
    param(value.rsplit('>').next().unwrap_or(value), "tag")
}

/// A `;name=value` parameter outside of angle brackets where there are any.
pub fn param(value: &str, name: &str) -> Option<String> {
    let after = if value.contains('<') { value.rsplit('>').next().unwrap_or("") } else { value };
    after.split(';').skip(1).find_map(|part| {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"').to_string())
    })
}

/// The URI of a name-addr or addr-spec.
pub fn uri_of(value: &str) -> String {
    match value.split_once('<') {
        Some((_, rest)) => rest.split('>').next().unwrap_or("").to_string(),
        None => value.split(';').next().unwrap_or("").trim().to_string(),
    }
}

/// Splits at commas outside of quotes and angle brackets.
pub fn split_commas(value: &str) -> Vec<String> {
    let (mut quoted, mut angle, mut parts, mut part) = (false, false, Vec::new(), String::new());
    for c in value.chars() {
        match c {
            '"' => quoted = !quoted,
            '<' if !quoted => angle = true,
            '>' if !quoted => angle = false,
            _ => {}
        }
        if c == ',' && !quoted && !angle {
            parts.push(std::mem::take(&mut part).trim().to_string());
        } else {
            part.push(c);
        }
    }
    parts.push(part.trim().to_string());
    parts
}

/// Position of `needle` in `haystack`.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn long(name: &str) -> &str {
    match name {
        "v" => "Via",
        "f" => "From",
        "t" => "To",
        "i" => "Call-ID",
        "m" => "Contact",
        "l" => "Content-Length",
        "c" => "Content-Type",
        "k" => "Supported",
        "e" => "Content-Encoding",
        "s" => "Subject",
        "o" => "Event",
        "u" => "Allow-Events",
        name => name,
    }
}

#[cfg(test)]
mod tests {
    use super::{Message, param, split_commas, uri_of};

    #[test]
    fn a_message_is_read() {
        let text = b"NOTIFY sip:a@b SIP/2.0\r\nv: SIP/2.0/UDP h;branch=z9hG4bK1;rport=5\r\nf: \"A, B\" <sip:x@y;p=1>;tag=9\r\n\
                     t: <sip:z@y>\r\ni: c1\r\nCSeq: 7 NOTIFY\r\nm: <sip:q@w>;expires=5, <sip:r@w>\r\nl: 2\r\n\r\nhi";
        let message = Message::parse(text);
        message.second_opinion();
        assert_eq!((message.method(), message.uri(), message.cseq()), ("NOTIFY", "sip:a@b", 7));
        assert_eq!(message.tag_in_from().as_deref(), Some("9"));
        assert_eq!(message.to_tag(), None);
        assert_eq!(message.branch(), "z9hG4bK1");
        assert_eq!(message.list("Contact").len(), 2);
        assert_eq!(message.contact_uri(), "sip:q@w");
        assert_eq!(message.body, b"hi");
        let reply = Message::parse(&message.reply(200, "OK").header("X", "y").bytes());
        assert_eq!((reply.status(), reply.method()), (Some(200), "NOTIFY"));
        assert!(reply.to_tag().is_some());
    }

    #[test]
    fn values_are_taken_apart() {
        assert_eq!(split_commas("\"a,b\" <sip:x?y=1,2>, <sip:z>"), ["\"a,b\" <sip:x?y=1,2>", "<sip:z>"]);
        assert_eq!(param("<sip:x;tag=no>;tag=yes", "tag").as_deref(), Some("yes"));
        assert_eq!(uri_of("sip:a@b;tag=1"), "sip:a@b");
    }
}

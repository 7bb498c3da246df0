//! Hosts and ports (RFC 3261 25.1, RFC 5954).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::sip::lexer;

/// A host: name, IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Host<'a> {
    /// A name as written.
    Name(&'a str),
    /// Dotted quad.
    V4(Ipv4Addr),
    /// In brackets on the wire.
    V6(Ipv6Addr),
}

impl<'a> Host<'a> {
    /// Reads a host; IPv6 stands in brackets.
    pub(super) fn parse(text: &'a str) -> Option<Host<'a>> {
        if let Some(inner) = text.strip_prefix('[') {
            return v6(inner.strip_suffix(']')?).map(Host::V6);
        }
        if let Some(address) = v4(text.as_bytes()) {
            return Some(Host::V4(address));
        }
        is_name(text).then_some(Host::Name(text))
    }

    /// The address, if it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match *self {
            Host::Name(_) => None,
            Host::V4(address) => Some(IpAddr::V4(address)),
            Host::V6(address) => Some(IpAddr::V6(address)),
        }
    }

    /// Names compare in any case, addresses by binary value (RFC 3261 19.1.4, RFC 5954 4.2).
    pub fn equals(&self, other: &Host<'_>) -> bool {
        match (self, other) {
            (Host::Name(left), Host::Name(right)) => left.eq_ignore_ascii_case(right),
            (Host::V4(left), Host::V4(right)) => left == right,
            (Host::V6(left), Host::V6(right)) => left == right,
            (Host::Name(_) | Host::V4(_) | Host::V6(_), _) => false,
        }
    }
}

impl fmt::Display for Host<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => formatter.write_str(name),
            Host::V4(address) => address.fmt(formatter),
            Host::V6(address) => write!(formatter, "[{address}]"),
        }
    }
}

/// Host and optional port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPort<'a> {
    /// The host.
    pub host: Host<'a>,
    /// The port, if written.
    pub port: Option<u16>,
}

impl<'a> HostPort<'a> {
    /// What stands for the host in schemes that have none.
    pub(super) const NONE: HostPort<'static> = HostPort { host: Host::Name(""), port: None };

    /// Reads `host[:port]` without white space.
    pub fn parse(text: &'a str) -> Option<HostPort<'a>> {
        let host_end = if text.starts_with('[') {
            text.find(']')? + 1
        } else {
            lexer::find(text.as_bytes(), b':').unwrap_or(text.len())
        };
        let (host, port) = text.split_at_checked(host_end)?;
        let port = match port.strip_prefix(':') {
            Some(digits) => Some(port_number(digits)?),
            None if port.is_empty() => None,
            None => return None,
        };
        Some(HostPort { host: Host::parse(host)?, port })
    }
}

impl fmt::Display for HostPort<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.host.fmt(formatter)?;
        match self.port {
            Some(port) => write!(formatter, ":{port}"),
            None => Ok(()),
        }
    }
}

/// `1*DIGIT` within 16 bits.
pub(super) fn port_number(digits: &str) -> Option<u16> {
    lexer::exact_u32(digits.as_bytes()).and_then(|port| u16::try_from(port).ok())
}

/// Four numbers up to 255 without leading zeros; as `std` reads it, but for the many other hosts that are no address at once.
fn v4(text: &[u8]) -> Option<Ipv4Addr> {
    let (mut octets, mut at, mut digits, mut number) = ([0u8; 4], 0usize, 0u8, 0u16);
    for &byte in text {
        match byte {
            b'0'..=b'9' => {
                if digits > 0 && number == 0 {
                    return None;
                }
                digits += 1;
                number = number * 10 + u16::from(byte - b'0');
                if number > 255 {
                    return None;
                }
            }
            b'.' if digits > 0 && at < 3 => {
                *octets.get_mut(at)? = u8::try_from(number).ok()?;
                (at, digits, number) = (at + 1, 0, 0);
            }
            _ => return None,
        }
    }
    *octets.get_mut(at)? = u8::try_from(number).ok()?;
    (at == 3 && digits > 0).then(|| Ipv4Addr::from(octets))
}

/// RFC 3986 IPv6; the third colon that the grammar of RFC 3261 allowed before an embedded IPv4 address must be tolerated
/// (RFC 5118 4.10) and is never written.
fn v6(text: &str) -> Option<Ipv6Addr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let (head, tail) = text.split_once(":::")?;
    tail.parse::<Ipv4Addr>().ok()?;
    format!("{head}::{tail}").parse().ok()
}

/// `hostname`: labels between dots, and perhaps a dot at the end; the last one is not a number.
fn is_name(text: &str) -> bool {
    let bytes = text.strip_suffix('.').unwrap_or(text).as_bytes();
    let mut before = b'.';
    for &byte in bytes {
        if !lexer::is(byte, lexer::HOST) || (byte == b'.' && before == b'.') {
            return false;
        }
        before = byte;
    }
    // Nearly every name ends with a letter.
    let ends_in_number =
        || bytes.rsplit(|&b| b == b'.').next().is_some_and(|l| l.iter().all(u8::is_ascii_digit));
    before != b'.' && bytes.len() <= 253 && !(before.is_ascii_digit() && ends_in_number())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ipv6_follows_rfc3986_and_tolerates_the_third_colon_rfc5118_4_10() {
        let right = Host::parse("[2001:db8::192.0.2.1]").unwrap();
        let wrong = Host::parse("[2001:db8:::192.0.2.1]").unwrap();
        assert!(right.equals(&wrong));
        assert_eq!(wrong.to_string(), "[2001:db8::c000:201]");
        assert_eq!(Host::parse("[2001:db8:::1]"), None);
        assert_eq!(Host::parse("2001:db8::1"), None);
        assert!(
            Host::parse("[2001:db8::9:1]").unwrap().equals(&Host::parse("[2001:DB8:0:0:0:0:9:1]").unwrap())
        );
    }

    #[test]
    fn names_and_quads() {
        assert_eq!(Host::parse("192.0.2.1"), Some(Host::V4(Ipv4Addr::new(192, 0, 2, 1))));
        assert_eq!(Host::parse("192.0.2.256"), None);
        assert_eq!(Host::parse("a.example.com."), Some(Host::Name("a.example.com.")));
        for bad in ["", ".", "a..b", "a b", "a%41", "2001", "a@b", "é.example"] {
            assert_eq!(Host::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn quads_are_those_of_the_standard_library() {
        for text in [
            "0.0.0.0",
            "255.255.255.255",
            "256.1.1.1",
            "01.1.1.1",
            "1.1.1.00",
            "1.1.1",
            "1.1.1.1.1",
            "1..1.1",
            ".1.1.1",
            "1.1.1.",
            "1.1.1.1 ",
            "+1.1.1.1",
            "1.1.1.1000",
            "a.1.1.1",
            "",
            "1.1.1.0",
            "999999999999.1.1.1",
        ] {
            assert_eq!(v4(text.as_bytes()), text.parse().ok(), "{text}");
        }
    }

    proptest! {
        #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]
        #[test]
        fn names_are_labels_of_which_the_last_is_no_number(text in "[a1._\\-:]{0,12}") {
            let whole = text.strip_suffix('.').unwrap_or(&text);
            let is_label = |label: &str| !label.is_empty() && !label.contains(':');
            let last_is_number = whole.rsplit('.').next().unwrap().bytes().all(|b| b.is_ascii_digit());
            prop_assert_eq!(is_name(&text), whole.split('.').all(is_label) && !last_is_number);
        }
    }

    #[test]
    fn ports_fit_sixteen_bits() {
        assert_eq!(HostPort::parse("[::1]:5070").unwrap().port, Some(5070));
        assert_eq!(HostPort::parse("h:65535").unwrap().to_string(), "h:65535");
        for bad in ["h:", "h:65536", "h:+1", "h:1x", "[::1]5060", "h:1:2"] {
            assert_eq!(HostPort::parse(bad), None, "{bad}");
        }
    }
}

//! Host names and addresses as they are written in a configuration.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The canonical text of a host (RFC 3261 25.1 `host`): a name in lower case without a final dot, an IPv4 address, or an
/// IPv6 address in brackets (they may be left out). A name of other letters becomes its A-label (RFC 5891 4), which is what
/// SIP writes: its hosts are ASCII.
///
/// # Errors
/// What is wrong with it.
pub(super) fn canonical(text: &str) -> Result<String, &'static str> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    if let Ok(ip) = bare.unwrap_or(text).parse::<Ipv6Addr>() {
        return Ok(format!("[{ip}]"));
    }
    if let Ok(ip) = text.parse::<Ipv4Addr>() {
        return Ok(ip.to_string());
    }
    let labels;
    let name = text.strip_suffix('.').unwrap_or(text);
    let name = if name.is_ascii() {
        name
    } else {
        labels = idna::domain_to_ascii(name).map_err(|_| "is not an internationalized host name")?;
        labels.as_str()
    };
    if name.is_empty() {
        return Err("must not be empty");
    }
    if name.len() > MAX_NAME || name.split('.').any(|label| label.len() > MAX_LABEL) {
        return Err("is too long for a host name");
    }
    if name.contains([':', '@', '/']) {
        return Err("must be a bare host name or address, without scheme, user or port");
    }
    let is_label = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    if !name.split('.').all(is_label) {
        return Err("is not a host name (letters, digits and `-` between dots) and not an address");
    }
    // RFC 3261 25.1: toplabel begins with a letter, so that a name is never taken for an address.
    if !name.rsplit('.').next().is_some_and(|label| label.starts_with(|c: char| c.is_ascii_alphabetic())) {
        return Err("looks like an address but is none (the last label of a name begins with a letter)");
    }
    Ok(name.to_ascii_lowercase())
}

/// `host` or `host:port`, an IPv6 host in brackets.
///
/// # Errors
/// What is wrong with it.
pub(super) fn with_port(text: &str) -> Result<(String, Option<u16>), &'static str> {
    if let Ok(host) = canonical(text) {
        return Ok((host, None));
    }
    let Some((host, port)) = text.rsplit_once(':') else { return canonical(text).map(|host| (host, None)) };
    let port =
        port.parse::<u16>().ok().filter(|port| *port != 0).ok_or("has no port of 1 to 65535 after `:`")?;
    Ok((canonical(host)?, Some(port)))
}

const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_without_final_dot() {
        assert_eq!(canonical("Example.ORG.").unwrap(), "example.org");
        assert_eq!(canonical("localhost").unwrap(), "localhost");
        assert_eq!(canonical("3com.example").unwrap(), "3com.example");
    }

    #[test]
    fn names_of_other_letters_become_a_labels_rfc5891_4() {
        for text in
            ["bücher.example", "B\u{dc}CHER.example.", "bu\u{308}cher.example", "xn--bcher-kva.example"]
        {
            assert_eq!(canonical(text).unwrap(), "xn--bcher-kva.example", "{text}");
        }
    }

    #[test]
    fn addresses_are_hosts_too() {
        assert_eq!(canonical("192.0.2.7").unwrap(), "192.0.2.7");
        assert_eq!(canonical("2001:DB8::1").unwrap(), "[2001:db8::1]");
        assert_eq!(canonical("[2001:db8::1]").unwrap(), "[2001:db8::1]");
    }

    #[test]
    fn what_is_no_host_is_refused_rfc3261_25_1() {
        for bad in
            ["", ".", "a..b", "-a.org", "a-.org", "a_b.org", "a b", "1.2.3", "300.1.1.1", "é b.org", "[::1"]
        {
            assert!(canonical(bad).is_err(), "{bad}");
        }
        assert!(canonical(&"a".repeat(64)).is_err());
        assert!(canonical(&["abcdefghi"; 26].join(".")).is_err());
        assert!(canonical("sip:example.org").unwrap_err().contains("without scheme"));
        assert!(canonical("example.org:5060").unwrap_err().contains("port"));
    }

    #[test]
    fn a_port_is_optional_where_one_may_stand() {
        assert_eq!(with_port("sip.example.org").unwrap(), ("sip.example.org".into(), None));
        assert_eq!(with_port("sip.example.org:5062").unwrap(), ("sip.example.org".into(), Some(5062)));
        assert_eq!(with_port("[2001:db8::1]:5062").unwrap(), ("[2001:db8::1]".into(), Some(5062)));
        assert_eq!(with_port("2001:db8::1").unwrap(), ("[2001:db8::1]".into(), None));
        for bad in ["sip.example.org:0", "sip.example.org:x", "sip.example.org:65536", ":5060", ""] {
            assert!(with_port(bad).is_err(), "{bad}");
        }
    }
}

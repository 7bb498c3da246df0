//! Which published contact a watcher may see: no address of a device leaves the server (RFC 2779 5.1.18).

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::model::Aor;

/// Does this URI name only what the domain itself answers for, or another network altogether?
///
/// A SIP URI has to be an address of the presentity's own domain, with at most a GRUU's `gr` parameter (RFC 5627): a port, `maddr` or
/// headers lead past the domain. Any other scheme passes unless its host is an IP address.
pub fn is_public(uri: &str, presentity: &Aor) -> bool {
    let Some((scheme, rest)) = uri.split_once(':') else { return false };
    let (before_host, host_on) = match rest.rsplit_once('@') {
        Some((user, host)) => (!user.is_empty(), host),
        None => (false, rest.trim_start_matches('/')),
    };
    let end = if host_on.starts_with('[') {
        host_on.find(']').map_or(host_on.len(), |at| at.saturating_add(1))
    } else {
        host_on.find([':', ';', '?', '/', '#', '>']).unwrap_or(host_on.len())
    };
    let (host, after) = host_on.split_at_checked(end).unwrap_or((host_on, ""));
    if scheme.eq_ignore_ascii_case("sip") || scheme.eq_ignore_ascii_case("sips") {
        let gruu = |after: &str| {
            after.get(..4).is_some_and(|gr| gr.eq_ignore_ascii_case(";gr="))
                && !after.get(4..).unwrap_or_default().contains([';', '?'])
        };
        let plain = after.is_empty() || gruu(after) || after.eq_ignore_ascii_case(";gr");
        return before_host && plain && host.eq_ignore_ascii_case(presentity.domain());
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<Ipv4Addr>().is_err() && bare.parse::<Ipv6Addr>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_devices_are_not_public_rfc2779_5_1_18() {
        let alice = Aor::new("alice", "example.org").unwrap();
        for uri in [
            "sip:alice@192.0.2.7",
            "sip:alice@192.0.2.7:5062;transport=tcp",
            "SIPS:alice@[2001:db8::1]:5061",
            "sip:alice@3221225991",
            "sip:alice@laptop.lan",
            "sip:example.org",
            "sip:alice@example.org:5070",
            "sip:alice@example.org;maddr=192.0.2.7",
            "sip:alice@example.org?Route=%3Csip:192.0.2.7%3E",
            "sip:alice@example.org;gr=x;maddr=192.0.2.7",
            "im:alice@192.0.2.7",
            "pres:alice@[2001:db8::1]",
            "http://192.0.2.7/x",
            "msrp://192.0.2.7:2855/s;tcp",
            "http://[2001:db8::1]:80/",
            "no-uri",
            "sip:alice@example.org@192.0.2.7",
        ] {
            assert!(!is_public(uri, &alice), "{uri}");
        }
        for uri in [
            "sip:alice@example.org",
            "sips:Alice@EXAMPLE.org",
            "sip:bob@example.org",
            "tel:+4930123456",
            "mailto:alice@example.com",
            "sip:alice@example.org;gr=urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            "sip:x@example.org;gr",
            "im:alice@example.org",
            "xmpp:alice@example.net",
            "http://example.org/alice",
        ] {
            assert!(is_public(uri, &alice), "{uri}");
        }
    }
}

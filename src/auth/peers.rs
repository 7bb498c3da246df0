//! Trusted peers: machines that the operator believes without a password, by the address they are at. Pure.
//!
//! The address is the source of the connection or datagram, never what a Via or another header says. Over UDP anybody on the way can write
//! any source, so datagrams count only where the operator says so.

use std::net::IpAddr;

use crate::model::{Flow, Packages};
use crate::sip::{HeaderName, Request, Scheme, Uri};

/// One trusted machine, or several alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The operator's word for it, for logs.
    pub name: String,
    /// Where it is: address and prefix length.
    pub networks: Vec<(IpAddr, u8)>,
    /// Is it believed over UDP too?
    pub udp: bool,
    /// It may publish in these packages, for any user of the domain.
    pub publish: Packages,
    /// Is its P-Asserted-Identity believed (RFC 3325 5)?
    pub asserts: bool,
    /// It may read the services of all users (RFC 4826 4.4.9).
    pub reads_services: bool,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peers(Vec<Peer>);

impl Peers {
    /// The first one that has an address is the one that counts.
    pub fn new(peers: Vec<Peer>) -> Peers {
        Peers(peers)
    }

    /// Who is at the other end of this flow?
    pub fn at(&self, flow: &Flow) -> Option<&Peer> {
        let peer = self.at_address(flow.remote.ip())?;
        (flow.transport.is_reliable() || peer.udp).then_some(peer)
    }

    /// Who is at the other end of a connection from this address?
    pub fn at_address(&self, source: IpAddr) -> Option<&Peer> {
        let source = source.to_canonical();
        self.0.iter().find(|peer| peer.networks.iter().any(|net| is_within(source, *net)))
    }
}

/// Whom a request's P-Asserted-Identity names, as a SIP URI (RFC 3325 9.1: one value, or two of which one is a tel URI). `None` if it names nobody,
/// or is not as it must be.
pub fn asserted(request: &Request) -> Option<Uri<'_>> {
    let mut values = request.addresses(HeaderName::PAssertedIdentity);
    let (first, second, third) = (values.next()?.ok()?, values.next(), values.next());
    let second = second.transpose().ok()?;
    if third.is_some() {
        return None;
    }
    let is_sip = |uri: &Uri<'_>| matches!(uri.scheme, Scheme::Sip | Scheme::Sips);
    match second {
        None => Some(first.uri).filter(is_sip),
        Some(second) if is_sip(&first.uri) && second.uri.scheme == Scheme::Tel => Some(first.uri),
        Some(second) if is_sip(&second.uri) && first.uri.scheme == Scheme::Tel => Some(second.uri),
        Some(_) => None,
    }
}

/// - `source`: as IPv4 if it is that.
fn is_within(source: IpAddr, (net, prefix): (IpAddr, u8)) -> bool {
    let same = |a: u128, b: u128, width: u32| {
        let shift = width.saturating_sub(prefix.into());
        shift >= width || a >> shift == b >> shift
    };
    match (source, net) {
        (IpAddr::V4(ip), IpAddr::V4(net)) => same(ip.to_bits().into(), net.to_bits().into(), 32),
        (IpAddr::V6(ip), IpAddr::V6(net)) => same(ip.to_bits(), net.to_bits(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Transport;
    use crate::sip::{Limits, Message};

    fn flow(transport: Transport, remote: &str) -> Flow {
        let local = "192.0.2.1:5060".parse().unwrap();
        Flow { transport, local, remote: remote.parse().unwrap(), connection: 0 }
    }

    fn peers() -> Peers {
        let peer = |name: &str, net: &str, prefix, udp| Peer {
            name: name.into(),
            networks: vec![(net.parse().unwrap(), prefix)],
            udp,
            publish: Packages::NONE,
            asserts: false,
            reads_services: false,
        };
        Peers::new(vec![
            peer("voicemail", "192.0.2.40", 32, false),
            peer("trunk", "198.51.100.0", 24, true),
            peer("six", "2001:db8:1::", 48, false),
            peer("late", "192.0.2.40", 32, true),
        ])
    }

    fn name(transport: Transport, remote: &str) -> Option<String> {
        peers().at(&flow(transport, remote)).map(|peer| peer.name.clone())
    }

    #[test]
    fn a_peer_is_known_by_its_source_alone_a18() {
        let tcp = |remote| name(Transport::Tcp, remote);
        assert_eq!(tcp("192.0.2.40:40000").as_deref(), Some("voicemail"));
        assert_eq!(tcp("[::ffff:192.0.2.40]:40000").as_deref(), Some("voicemail"));
        assert_eq!(tcp("198.51.100.255:5060").as_deref(), Some("trunk"));
        assert_eq!(tcp("[2001:db8:1:2::3]:5060").as_deref(), Some("six"));
        for stranger in
            ["192.0.2.41:5060", "198.51.101.0:5060", "[2001:db8:2::1]:5060", "[::192.0.2.40]:5060"]
        {
            assert_eq!(tcp(stranger), None, "{stranger}");
        }
        assert_eq!(Peers::default().at(&flow(Transport::Tcp, "192.0.2.40:5060")), None);
    }

    #[test]
    fn datagrams_are_believed_only_where_the_operator_says_so_a18() {
        assert_eq!(name(Transport::Udp, "198.51.100.7:5060").as_deref(), Some("trunk"));
        assert_eq!(name(Transport::Udp, "192.0.2.40:5060"), None, "the first one that has it counts");
    }

    fn named(values: &str) -> Option<String> {
        let text = format!(
            "SUBSCRIBE sip:b@example.org SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.9;branch=z9hG4bK1\r\n\
             From: <sip:a@example.org>;tag=a\r\nTo: <sip:b@example.org>\r\nCall-ID: c\r\nCSeq: 1 SUBSCRIBE\r\n{values}Content-Length: 0\r\n\r\n"
        );
        match Message::parse(text.into(), true, &Limits::default()) {
            Ok(Message::Request(request)) => asserted(&request).map(|uri| uri.as_str().to_owned()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_identity_or_a_sip_and_a_tel_one_rfc3325_9_1() {
        let alice = Some("sip:alice@example.org".to_owned());
        for values in [
            "P-Asserted-Identity: \"Alice\" <sip:alice@example.org>\r\n",
            "P-Asserted-Identity: <sip:alice@example.org>, <tel:+12015550123>\r\n",
            "P-Asserted-Identity: tel:+12015550123\r\nP-Asserted-Identity: sip:alice@example.org\r\n",
        ] {
            assert_eq!(named(values), alice, "{values}");
        }
        for values in [
            "",
            "P-Asserted-Identity: <tel:+12015550123>\r\n",
            "P-Asserted-Identity: <sip:alice@example.org>, <sip:bob@example.org>\r\n",
            "P-Asserted-Identity: <sip:alice@example.org>, <tel:+1>, <tel:+2>\r\n",
            "P-Asserted-Identity: <sip:alice@example.org>, <\r\n",
            "P-Preferred-Identity: <sip:alice@example.org>\r\n",
        ] {
            assert_eq!(named(values), None, "{values}");
        }
    }
}

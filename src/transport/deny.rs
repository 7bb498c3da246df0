//! Where a request may not go, whoever asks for it (`A14`). Pure; asked after DNS.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// May a request be sent to an address that somebody else chose (`A14`)? Asked after DNS, of every address.
///
/// - `own`: addresses we listen on (SIP, HTTP, ..). They are denied; loopback is denied unless one of them is on loopback.
/// - `extra_denied`: networks, as address and prefix length.
///
/// Denied always: unspecified and "this" network, link-local, multicast, broadcast and reserved, port 0. IPv4 inside IPv6 (mapped,
/// compatible, NAT64) is judged as IPv4.
pub fn may_contact(addr: SocketAddr, own: &[SocketAddr], extra_denied: &[(IpAddr, u8)]) -> bool {
    let ip = judged_as(addr.ip());
    let own = || own.iter().map(|own| (judged_as(own.ip()), own.port()));
    if addr.port() == 0 || own().any(|(own, port)| own == ip && port == addr.port()) {
        return false;
    }
    if ip.is_loopback() && !own().any(|(own, _)| own.is_loopback()) {
        return false;
    }
    let denied_class = match ip {
        IpAddr::V4(ip) => {
            ip.octets()[0] == 0 || ip.is_link_local() || ip.is_multicast() || ip.octets()[0] >= 240
        }
        IpAddr::V6(ip) => ip.is_unspecified() || ip.is_unicast_link_local() || ip.is_multicast(),
    };
    !denied_class && !extra_denied.iter().any(|(net, prefix)| is_within(ip, *net, *prefix))
}

/// The IPv4 address inside an IPv6 one, where the system or a gateway would take it out.
fn judged_as(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    if let Some(mapped) = v6.to_ipv4_mapped() {
        return mapped.into();
    }
    let low = Ipv4Addr::from_bits(v6.to_bits() as u32);
    let high = v6.to_bits() >> 32;
    // RFC 4291 2.5.5.1 (without :: and ::1), RFC 6052 2.1.
    let compatible = high == 0 && v6 != Ipv6Addr::UNSPECIFIED && v6 != Ipv6Addr::LOCALHOST;
    if compatible || high == NAT64 >> 32 { low.into() } else { ip }
}

fn is_within(ip: IpAddr, net: IpAddr, prefix: u8) -> bool {
    let same = |a: u128, b: u128, width: u32| {
        let shift = width.saturating_sub(u32::from(prefix));
        shift >= width || a >> shift == b >> shift
    };
    match (ip, judged_as(net)) {
        (IpAddr::V4(ip), IpAddr::V4(net)) => same(ip.to_bits().into(), net.to_bits().into(), 32),
        (IpAddr::V6(ip), IpAddr::V6(net)) => same(ip.to_bits(), net.to_bits(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// 64:ff9b::/96.
const NAT64: u128 = 0x0064_ff9b << 96;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("address")
    }

    fn allowed(text: &str) -> bool {
        may_contact(at(text), &[at("198.51.100.1:5060")], &[])
    }

    #[test]
    fn ordinary_and_private_addresses_may_be_contacted() {
        assert!(allowed("203.0.113.9:5060"));
        assert!(allowed("10.1.2.3:5060"));
        assert!(allowed("192.168.1.9:49152"));
        assert!(allowed("[2001:db8::9]:5060"));
    }

    #[test]
    fn loopback_is_denied_unless_we_listen_there_a14() {
        assert!(!allowed("127.0.0.1:5060"));
        assert!(!allowed("127.8.8.8:5060"));
        assert!(!allowed("[::1]:5060"));
        let own = [at("127.0.0.1:5060")];
        assert!(may_contact(at("127.0.0.1:5070"), &own, &[]));
        assert!(may_contact(at("[::1]:5070"), &own, &[]));
    }

    #[test]
    fn listening_on_all_addresses_does_not_open_loopback_a14() {
        assert!(!may_contact(at("127.0.0.1:5070"), &[at("0.0.0.0:5060")], &[]));
    }

    #[test]
    fn our_own_listeners_are_denied_a14() {
        assert!(!allowed("198.51.100.1:5060"));
        assert!(allowed("198.51.100.1:5070"));
        assert!(!may_contact(at("127.0.0.1:5060"), &[at("127.0.0.1:5060")], &[]));
        assert!(!may_contact(at("[::ffff:127.0.0.1]:5060"), &[at("127.0.0.1:5060")], &[]));
    }

    #[test]
    fn unspecified_and_this_network_are_denied_a14() {
        assert!(!allowed("0.0.0.0:5060"));
        assert!(!allowed("0.1.2.3:5060"));
        assert!(!allowed("[::]:5060"));
    }

    #[test]
    fn link_local_is_denied_a14() {
        assert!(!allowed("169.254.169.254:80"));
        assert!(!allowed("[fe80::1]:5060"));
        assert!(!allowed("[febf::1]:5060"));
    }

    #[test]
    fn multicast_broadcast_and_reserved_are_denied_a14() {
        assert!(!allowed("224.0.1.75:5060"));
        assert!(!allowed("255.255.255.255:5060"));
        assert!(!allowed("240.0.0.1:5060"));
        assert!(!allowed("[ff02::1]:5060"));
    }

    #[test]
    fn ipv4_inside_ipv6_is_judged_as_ipv4_a14() {
        assert!(!allowed("[::ffff:127.0.0.1]:5060"));
        assert!(!allowed("[::ffff:169.254.1.1]:5060"));
        assert!(!allowed("[::127.0.0.1]:5060"));
        assert!(!allowed("[64:ff9b::7f00:1]:5060"));
        assert!(allowed("[::ffff:203.0.113.9]:5060"));
    }

    #[test]
    fn port_zero_is_denied_a14() {
        assert!(!allowed("203.0.113.9:0"));
    }

    #[test]
    fn configured_networks_are_denied_a14() {
        let denied = [("10.0.0.0".parse().expect("ip"), 8), ("2001:db8:1::".parse().expect("ip"), 48)];
        let allowed = |text: &str| may_contact(at(text), &[], &denied);
        assert!(!allowed("10.255.0.1:5060"));
        assert!(!allowed("[::ffff:10.0.0.1]:5060"));
        assert!(allowed("11.0.0.1:5060"));
        assert!(!allowed("[2001:db8:1:2::3]:5060"));
        assert!(allowed("[2001:db8:2::3]:5060"));
        let everything = [("0.0.0.0".parse().expect("ip"), 0)];
        assert!(!may_contact(at("203.0.113.9:5060"), &[], &everything));
        let one = [("203.0.113.9".parse().expect("ip"), 32)];
        assert!(!may_contact(at("203.0.113.9:5060"), &[], &one));
        assert!(may_contact(at("203.0.113.8:5060"), &[], &one));
        let absurd = [("203.0.113.9".parse().expect("ip"), 200)];
        assert!(!may_contact(at("203.0.113.9:5060"), &[], &absurd));
    }
}

//! Where a request goes (RFC 3263 4.1, 4.2; RFC 2782), and where it may not go (`A14`).
//!
//! NAPTR is not asked: without transport and port, SRV of every transport we have is.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use crate::model::Transport;
use crate::sip::{Host, HostPort};

/// Asks DNS. Answers, also negative ones, are cached by their TTL.
pub struct Resolver {
    dns: TokioResolver,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

impl Resolver {
    /// With the name servers of the system.
    ///
    /// # Errors
    /// If the system's configuration cannot be read.
    pub fn system() -> std::io::Result<Resolver> {
        let mut builder = TokioResolver::builder_tokio().map_err(std::io::Error::other)?;
        let options = builder.options_mut();
        options.timeout = DNS_TRY;
        options.attempts = 2;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.cache_size = CACHE;
        Ok(Resolver { dns: builder.build().map_err(std::io::Error::other)? })
    }

    /// The addresses to try for a target, best first; empty if there are none, or none were found within 3 s.
    ///
    /// - `transport`: the `transport` parameter, if the URI has one.
    /// - `random`: decides between SRV records of equal priority (RFC 2782).
    ///
    /// At most 20 targets. What comes back is DNS's word: ask [`may_contact`] before sending anything there.
    pub async fn resolve(
        &self,
        target: &HostPort<'_>,
        transport: Option<Transport>,
        random: u64,
    ) -> Vec<(Transport, SocketAddr)> {
        let mut found = Vec::new();
        // What was found before the deadline counts.
        let _ = tokio::time::timeout(DEADLINE, self.gather(target, transport, random, &mut found)).await;
        found
    }

    async fn gather(
        &self,
        target: &HostPort<'_>,
        transport: Option<Transport>,
        random: u64,
        found: &mut Vec<(Transport, SocketAddr)>,
    ) {
        let host = match steps(target, transport) {
            Step::Address(transport, address) => return found.push((transport, address)),
            Step::Nowhere => return,
            Step::Addresses(transport, host, port) => {
                return self.addresses(&host, transport, port, found).await;
            }
            Step::Services(host) => host,
        };
        let (udp, tcp) = match transport {
            Some(Transport::Udp) => (self.services(&host, Transport::Udp).await, Services::None),
            Some(Transport::Tcp) => (Services::None, self.services(&host, Transport::Tcp).await),
            None => tokio::join!(self.services(&host, Transport::Udp), self.services(&host, Transport::Tcp)),
        };
        if matches!((&udp, &tcp), (Services::None, Services::None)) {
            return self.addresses(&host, transport.unwrap_or(Transport::Udp), DEFAULT_PORT, found).await;
        }
        for (transport, services) in [(Transport::Udp, udp), (Transport::Tcp, tcp)] {
            let Services::Some(services) = services else { continue };
            for service in in_order(services, random) {
                // All addresses of one record before the next one (4.2).
                self.addresses(&service.target, transport, service.port, found).await;
            }
        }
    }

    /// A and AAAA.
    async fn addresses(
        &self,
        host: &Name,
        transport: Transport,
        port: u16,
        found: &mut Vec<(Transport, SocketAddr)>,
    ) {
        if found.len() >= TARGETS {
            return;
        }
        let Ok(addresses) = self.dns.lookup_ip(host.clone()).await else { return };
        for ip in addresses.iter() {
            let target = (transport, SocketAddr::new(ip, port));
            if found.len() < TARGETS && !found.contains(&target) {
                found.push(target);
            }
        }
    }

    async fn services(&self, host: &Name, transport: Transport) -> Services {
        let Ok(name) = Name::from_ascii(format!("_sip._{}.{host}", transport.param())) else {
            return Services::None;
        };
        let Ok(answer) = self.dns.lookup(name, RecordType::SRV).await else { return Services::None };
        let mut any = false;
        let mut services = Vec::new();
        for record in answer.answers() {
            let RData::SRV(srv) = &record.data else { continue };
            any = true;
            // "." says that the service is decidedly not available (RFC 2782).
            if !srv.target.is_root() && srv.port != 0 && services.len() < TARGETS {
                let mut target = srv.target.clone();
                target.set_fqdn(true);
                services.push(Service { priority: srv.priority, weight: srv.weight, port: srv.port, target });
            }
        }
        if any { Services::Some(services) } else { Services::None }
    }
}

/// What DNS says about a service.
enum Services {
    /// No record.
    None,
    /// Records; an empty list means that the service is not offered.
    Some(Vec<Service>),
}

/// One SRV record.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Service {
    priority: u16,
    weight: u16,
    port: u16,
    target: Name,
}

/// What is to be asked for a target.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Nothing: it is an address.
    Address(Transport, SocketAddr),
    /// A and AAAA, with this port.
    Addresses(Transport, Name, u16),
    /// SRV first.
    Services(Name),
    /// The name cannot exist.
    Nowhere,
}

/// RFC 3263 4.1, 4.2: a numeric address or a port skips SRV and means UDP unless a transport is named.
fn steps(target: &HostPort<'_>, transport: Option<Transport>) -> Step {
    if target.port == Some(0) {
        return Step::Nowhere;
    }
    let numeric = |ip: IpAddr| {
        let address = SocketAddr::new(ip, target.port.unwrap_or(DEFAULT_PORT));
        Step::Address(transport.unwrap_or(Transport::Udp), address)
    };
    match target.host {
        Host::V4(ip) => numeric(ip.into()),
        Host::V6(ip) => numeric(ip.into()),
        Host::Name(name) => match (dns_name(name), target.port) {
            (None, _) => Step::Nowhere,
            (Some(name), Some(port)) => Step::Addresses(transport.unwrap_or(Transport::Udp), name, port),
            (Some(name), None) => Step::Services(name),
        },
    }
}

/// A host name (RFC 3261 25.1 `hostname`, with underscores tolerated), as a full name so that no search list is applied. The last
/// label begins with a letter: `2130706433` and `0x7f.1` are no names.
fn dns_name(text: &str) -> Option<Name> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let top = text.rsplit('.').next()?;
    if text.len() > 253 || !text.split('.').all(label) || !top.starts_with(|c: char| c.is_ascii_alphabetic())
    {
        return None;
    }
    Name::from_ascii(format!("{text}.")).ok()
}

/// RFC 2782: lowest priority value first; within it by chance, weighted.
fn in_order(mut services: Vec<Service>, random: u64) -> Vec<Service> {
    let mut random = random;
    // Zero weights first within a priority, so that they have a small chance; taken from the end below.
    services.sort_by_key(|s| (Reverse(s.priority), s.weight != 0));
    let mut ordered = Vec::with_capacity(services.len());
    while let Some(priority) = services.last().map(|s| s.priority) {
        let start = services.partition_point(|s| s.priority > priority);
        let mut rest = services.split_off(start);
        while !rest.is_empty() {
            let sum: u64 = rest.iter().map(|s| u64::from(s.weight)).sum();
            random = next_random(random);
            let drawn = random % (sum + 1);
            let mut running = 0;
            let chosen = rest.iter().position(|s| {
                running += u64::from(s.weight);
                running >= drawn
            });
            ordered.push(rest.remove(chosen.unwrap_or(0)));
        }
    }
    ordered
}

/// SplitMix64: several draws from one random number.
fn next_random(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

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
/// Time for all questions about one target.
const DEADLINE: Duration = Duration::from_secs(3);
/// Time for one question to one name server.
const DNS_TRY: Duration = Duration::from_millis(1_200);
/// Answers remembered.
const CACHE: u64 = 4_096;
/// Targets tried at most.
const TARGETS: usize = 20;
/// RFC 3261 19.1.2.
const DEFAULT_PORT: u16 = 5060;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("address")
    }

    fn allowed(text: &str) -> bool {
        may_contact(at(text), &[at("198.51.100.1:5060")], &[])
    }

    fn target<'a>(host: Host<'a>, port: Option<u16>) -> HostPort<'a> {
        HostPort { host, port }
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

    #[test]
    fn a_numeric_target_needs_no_dns_rfc3263_4_2() {
        let v4 = Host::V4(Ipv4Addr::new(192, 0, 2, 1));
        let expected = Step::Address(Transport::Udp, at("192.0.2.1:5060"));
        assert_eq!(steps(&target(v4, None), None), expected);
        let expected = Step::Address(Transport::Tcp, at("192.0.2.1:5070"));
        assert_eq!(steps(&target(v4, Some(5070)), Some(Transport::Tcp)), expected);
        let v6 = Host::V6("2001:db8::1".parse().expect("ip"));
        let expected = Step::Address(Transport::Udp, at("[2001:db8::1]:5060"));
        assert_eq!(steps(&target(v6, None), None), expected);
    }

    #[test]
    fn an_explicit_port_skips_srv_and_means_udp_rfc3263_4_2() {
        let name = Name::from_ascii("example.org.").expect("name");
        let host = Host::Name("example.org");
        let expected = Step::Addresses(Transport::Udp, name.clone(), 5060);
        assert_eq!(steps(&target(host, Some(5060)), None), expected);
        let expected = Step::Addresses(Transport::Tcp, name.clone(), 5060);
        assert_eq!(steps(&target(host, Some(5060)), Some(Transport::Tcp)), expected);
        assert_eq!(steps(&target(host, None), Some(Transport::Tcp)), Step::Services(name));
    }

    #[test]
    fn what_is_no_host_name_is_never_asked_a14() {
        for name in
            ["2130706433", "0x7f.1", "127.1", "", ".", "a..b", "-a.org", "a-.org", "a b.org", "a\r\n.org"]
        {
            assert_eq!(steps(&target(Host::Name(name), None), None), Step::Nowhere, "{name:?}");
        }
        let long = format!("{}.org", "a".repeat(64));
        assert_eq!(steps(&target(Host::Name(&long), None), None), Step::Nowhere);
        assert_eq!(steps(&target(Host::Name("example.org"), Some(0)), None), Step::Nowhere);
        assert!(dns_name("a.example.org.").is_some_and(|name| name.is_fqdn()));
        assert!(dns_name("proxy").is_some());
    }

    fn service(priority: u16, weight: u16, port: u16) -> Service {
        Service { priority, weight, port, target: Name::from_ascii("a.example.org.").expect("name") }
    }

    #[test]
    fn srv_records_are_tried_by_priority_rfc2782() {
        let services = vec![service(20, 0, 3), service(10, 0, 2), service(0, 5, 1)];
        let ports: Vec<u16> = in_order(services, 7).iter().map(|s| s.port).collect();
        assert_eq!(ports, [1, 2, 3]);
    }

    #[test]
    fn srv_records_of_one_priority_are_chosen_by_weight_rfc2782() {
        let first = |random: u64| {
            let services = vec![service(0, 0, 1), service(0, 10, 2), service(0, 90, 3)];
            in_order(services, random).first().map(|s| s.port)
        };
        let share = |port: u16| (0..10_000).filter(|n| first(*n) == Some(port)).count();
        assert!((20..=250).contains(&share(1)));
        assert!((700..=1_300).contains(&share(2)));
        assert!((8_500..=9_300).contains(&share(3)));
    }

    #[test]
    fn no_srv_record_is_lost_or_doubled() {
        let services: Vec<Service> = (0..9).map(|n| service(n / 3, n % 3, n)).collect();
        for random in 0..100 {
            let mut ports: Vec<u16> = in_order(services.clone(), random).iter().map(|s| s.port).collect();
            ports.sort_unstable();
            assert_eq!(ports, (0..9).collect::<Vec<_>>());
        }
    }
}

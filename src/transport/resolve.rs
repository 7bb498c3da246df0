//! Where a request goes (RFC 3263 4.1, 4.2; RFC 2782, RFC 3403).

use std::cmp::Reverse;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::rdata::NAPTR;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver};

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
        Resolver::build(TokioResolver::builder_tokio().map_err(std::io::Error::other)?)
    }

    /// With these name servers only; the hosts file of the system is not read.
    ///
    /// # Errors
    /// If no resolver can be made.
    pub fn with_servers(servers: &[SocketAddr]) -> std::io::Result<Resolver> {
        let servers = servers.iter().map(|server| {
            let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            connections.iter_mut().for_each(|connection| connection.port = server.port());
            NameServerConfig::new(server.ip(), true, connections)
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        builder.options_mut().use_hosts_file = ResolveHosts::Never;
        Resolver::build(builder)
    }

    fn build(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> std::io::Result<Resolver> {
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
    /// At most 20 targets. What comes back is DNS's word: ask [`crate::transport::may_contact`] before sending anything there.
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
        let (pointers, udp, tcp) = match transport {
            Some(Transport::Udp) => (Vec::new(), self.services(&host, Transport::Udp).await, Services::None),
            Some(Transport::Tcp) => (Vec::new(), Services::None, self.services(&host, Transport::Tcp).await),
            // All at once: whose NAPTR points to the usual names has the answers by then.
            None => tokio::join!(
                self.pointers(&host),
                self.services(&host, Transport::Udp),
                self.services(&host, Transport::Tcp)
            ),
        };
        for (transport, name) in pointers {
            let Services::Some(services) = self.srv(name).await else { continue };
            self.all_addresses(services, transport, random, found).await;
        }
        if !found.is_empty() {
            return;
        }
        if matches!((&udp, &tcp), (Services::None, Services::None)) {
            return self.addresses(&host, transport.unwrap_or(Transport::Udp), DEFAULT_PORT, found).await;
        }
        for (transport, services) in [(Transport::Udp, udp), (Transport::Tcp, tcp)] {
            let Services::Some(services) = services else { continue };
            self.all_addresses(services, transport, random, found).await;
        }
    }

    async fn all_addresses(
        &self,
        services: Vec<Service>,
        transport: Transport,
        random: u64,
        found: &mut Vec<(Transport, SocketAddr)>,
    ) {
        for service in in_order(services, random) {
            // All addresses of one record before the next one (4.2).
            self.addresses(&service.target, transport, service.port, found).await;
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

    /// NAPTR: the transports the domain prefers, and the names of their SRV records (4.1).
    async fn pointers(&self, host: &Name) -> Vec<(Transport, Name)> {
        let Ok(answer) = self.dns.lookup(host.clone(), RecordType::NAPTR).await else { return Vec::new() };
        let records = answer.answers().iter().filter_map(|record| match &record.data {
            RData::NAPTR(naptr) => Some(naptr.clone()),
            _ => None,
        });
        usable(records.collect())
    }

    async fn services(&self, host: &Name, transport: Transport) -> Services {
        match Name::from_ascii(format!("_sip._{}.{host}", transport.param())) {
            Ok(name) => self.srv(name).await,
            Err(_) => Services::None,
        }
    }

    async fn srv(&self, name: Name) -> Services {
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

/// What of these NAPTR records we can follow, the most wanted first (RFC 3263 4.1): services of transports that we have, whose replacement is the
/// name of SRV records (flag `s`). A regular expression is nobody's to run here.
fn usable(mut records: Vec<NAPTR>) -> Vec<(Transport, Name)> {
    records.sort_by_key(|record| (record.order, record.preference));
    let usable = records.into_iter().filter_map(|record| {
        let transport = match record.services.to_ascii_uppercase().as_slice() {
            b"SIP+D2U" => Transport::Udp,
            b"SIP+D2T" => Transport::Tcp,
            _ => return None,
        };
        let is_srv = record.flags.eq_ignore_ascii_case(b"s") && record.regexp.is_empty();
        let mut name = record.replacement;
        name.set_fqdn(true);
        (is_srv && !name.is_root()).then_some((transport, name))
    });
    usable.take(POINTERS).collect()
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

/// Time for all questions about one target.
const DEADLINE: Duration = Duration::from_secs(3);
/// Time for one question to one name server.
const DNS_TRY: Duration = Duration::from_millis(1_200);
/// Answers remembered.
const CACHE: u64 = 4_096;
/// Targets tried at most.
const TARGETS: usize = 20;
/// NAPTR records followed at most.
const POINTERS: usize = 4;
/// RFC 3261 19.1.2.
const DEFAULT_PORT: u16 = 5060;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
    use hickory_resolver::proto::rr::Record;
    use hickory_resolver::proto::rr::rdata::SRV;
    use tokio::net::UdpSocket;

    use super::*;
    use crate::transport::testing::within;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).expect("name")
    }

    fn srv(owner: &str, priority: u16, port: u16, target: &str) -> Record {
        Record::from_rdata(name(owner), 60, RData::SRV(SRV::new(priority, 1, port, name(target))))
    }

    fn address(owner: &str, ip: &str) -> Record {
        Record::from_rdata(name(owner), 60, ip.parse::<IpAddr>().expect("ip").into())
    }

    /// Asks a name server that knows exactly these records.
    async fn resolved(
        records: Vec<Record>,
        host: &str,
        port: Option<u16>,
        transport: Option<Transport>,
    ) -> Vec<(Transport, SocketAddr)> {
        let server = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        let resolver = Resolver::with_servers(&[server.local_addr().expect("address")]).expect("made");
        let serve = async {
            let mut buffer = [0; 4096];
            loop {
                let (length, from) = server.recv_from(&mut buffer).await.expect("received");
                let query = Message::from_vec(&buffer[..length]).expect("a query");
                let mut answer = Message::response(query.metadata.id, OpCode::Query);
                answer.metadata.recursion_available = true;
                for question in &query.queries {
                    let fits =
                        |r: &&Record| r.name == *question.name() && r.record_type() == question.query_type();
                    answer.add_answers(records.iter().filter(fits).cloned());
                    if !records.iter().any(|r| r.name == *question.name()) {
                        answer.metadata.response_code = ResponseCode::NXDomain;
                    }
                }
                answer.queries = query.queries;
                server.send_to(&answer.to_vec().expect("encoded"), from).await.expect("sent");
            }
        };
        let target = HostPort { host: Host::Name(host), port };
        within(async {
            tokio::select! {
                () = serve => unreachable!("serves for ever"),
                found = resolver.resolve(&target, transport, 7) => found,
            }
        })
        .await
    }

    #[tokio::test]
    async fn srv_of_every_transport_is_asked_and_all_addresses_of_a_record_come_first_rfc3263_4_2() {
        let records = vec![
            srv("_sip._udp.example.org.", 20, 5062, "b.example.org."),
            srv("_sip._udp.example.org.", 10, 5061, "a.example.org."),
            srv("_sip._tcp.example.org.", 10, 5063, "a.example.org."),
            address("a.example.org.", "192.0.2.1"),
            address("a.example.org.", "2001:db8::1"),
            address("b.example.org.", "192.0.2.2"),
        ];
        let expected = vec![
            (Transport::Udp, at("192.0.2.1:5061")),
            (Transport::Udp, at("[2001:db8::1]:5061")),
            (Transport::Udp, at("192.0.2.2:5062")),
            (Transport::Tcp, at("192.0.2.1:5063")),
            (Transport::Tcp, at("[2001:db8::1]:5063")),
        ];
        assert_eq!(resolved(records.clone(), "example.org", None, None).await, expected);
        let tcp = resolved(records, "example.org", None, Some(Transport::Tcp)).await;
        assert_eq!(tcp, expected[3..]);
    }

    #[tokio::test]
    async fn without_srv_the_addresses_of_the_name_are_used_with_udp_and_5060_rfc3263_4_1() {
        let records = vec![address("example.org.", "192.0.2.1"), address("example.org.", "2001:db8::1")];
        let expected = [(Transport::Udp, at("192.0.2.1:5060")), (Transport::Udp, at("[2001:db8::1]:5060"))];
        assert_eq!(resolved(records, "example.org", None, None).await, expected);
    }

    #[tokio::test]
    async fn an_explicit_port_leaves_srv_unasked_rfc3263_4_2() {
        let records = vec![
            srv("_sip._udp.example.org.", 10, 5061, "a.example.org."),
            address("a.example.org.", "192.0.2.9"),
            address("example.org.", "192.0.2.1"),
        ];
        let found = resolved(records, "example.org", Some(5070), None).await;
        assert_eq!(found, [(Transport::Udp, at("192.0.2.1:5070"))]);
    }

    #[tokio::test]
    async fn a_service_that_is_decidedly_not_offered_is_not_sought_by_address_rfc2782() {
        let records = vec![
            srv("_sip._udp.example.org.", 0, 0, "."),
            srv("_sip._tcp.example.org.", 0, 0, "."),
            address("example.org.", "192.0.2.1"),
        ];
        assert_eq!(resolved(records, "example.org", None, None).await, []);
    }

    fn naptr(order: u16, preference: u16, flags: &str, service: &str, regexp: &str, to: &str) -> Record {
        let bytes = |text: &str| text.as_bytes().into();
        let data = NAPTR::new(order, preference, bytes(flags), bytes(service), bytes(regexp), name(to));
        Record::from_rdata(name("example.org."), 60, RData::NAPTR(data))
    }

    #[tokio::test]
    async fn naptr_chooses_among_the_transports_we_have_by_order_then_preference_rfc3263_4_1() {
        let records = vec![
            naptr(10, 1, "s", "SIPS+D2T", "", "_sips._tcp.example.org."),
            naptr(10, 2, "u", "SIP+D2U", "!.*!sip:info@example.org!", "."),
            naptr(30, 1, "S", "sip+d2u", "", "_sip._udp.elsewhere.example."),
            naptr(20, 9, "s", "SIP+D2U", "", "_sip._udp.example.org."),
            naptr(20, 5, "s", "SIP+D2T", "", "_sip._tcp.example.org."),
            srv("_sips._tcp.example.org.", 1, 5061, "a.example.org."),
            srv("_sip._udp.example.org.", 1, 5062, "a.example.org."),
            srv("_sip._tcp.example.org.", 1, 5063, "a.example.org."),
            srv("_sip._udp.elsewhere.example.", 1, 5064, "a.example.org."),
            address("a.example.org.", "192.0.2.1"),
        ];
        let expected = vec![
            (Transport::Tcp, at("192.0.2.1:5063")),
            (Transport::Udp, at("192.0.2.1:5062")),
            (Transport::Udp, at("192.0.2.1:5064")),
        ];
        assert_eq!(resolved(records.clone(), "example.org", None, None).await, expected);
        // A transport that is named needs no NAPTR.
        let udp = resolved(records, "example.org", None, Some(Transport::Udp)).await;
        assert_eq!(udp, [expected[1]]);
    }

    #[tokio::test]
    async fn naptr_of_nothing_we_have_leaves_srv_rfc3263_4_1() {
        let records = vec![
            naptr(10, 1, "s", "SIPS+D2T", "", "_sips._tcp.example.org."),
            naptr(10, 1, "u", "E2U+sip", "!.*!sip:info@example.org!", "."),
            srv("_sip._udp.example.org.", 1, 5062, "a.example.org."),
            address("a.example.org.", "192.0.2.1"),
        ];
        let found = resolved(records, "example.org", None, None).await;
        assert_eq!(found, [(Transport::Udp, at("192.0.2.1:5062"))]);
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_has_no_targets() {
        assert_eq!(resolved(Vec::new(), "nowhere.example.org", None, None).await, []);
    }

    #[tokio::test]
    async fn at_most_twenty_targets_are_told() {
        let records: Vec<Record> =
            (1..=30).map(|n| address("many.example.org.", &format!("192.0.2.{n}"))).collect();
        assert_eq!(resolved(records, "many.example.org", None, None).await.len(), 20);
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("address")
    }

    fn target<'a>(host: Host<'a>, port: Option<u16>) -> HostPort<'a> {
        HostPort { host, port }
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

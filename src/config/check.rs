//! Ranges, and what must hold between keys. Also where names get their canonical form.

use std::ops::RangeInclusive;

use crate::config::{Config, Listen, Net, Peer, host, section};
use crate::sip::{Scheme, Uri};

/// One thing that does not hold: the keys it concerns (the first one set by somebody is blamed) and why.
pub(super) struct Found {
    pub(super) keys: Vec<&'static str>,
    pub(super) reason: String,
}

/// Makes host names canonical and returns what is out of range.
pub(super) fn check(config: &mut Config) -> Vec<Found> {
    let mut found = Vec::new();
    names(config, &mut found);
    places(config, &mut found);
    for (keys, min, default, max) in intervals(config) {
        interval(keys, min, default, max, &mut found);
    }
    numbers(config, &mut found);
    found
}

/// What is allowed but should be known.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if !config.server.fast_path {
        warnings.push("server.fast_path is off: the server works, slowly; for finding faults".into());
    }
    let timer_c_s = config.proxy.timer_c_s;
    if timer_c_s <= TIMER_C_FLOOR_S {
        warnings.push(format!(
            "proxy.timer_c_s is {timer_c_s}: RFC 3261 16.6 step 11 asks for more than {TIMER_C_FLOOR_S} s"
        ));
    }
    for peer in config.peers.iter().filter(|peer| peer.udp) {
        let name = &peer.name;
        warnings.push(format!(
            "peers: `{name}` is believed over UDP: whoever can send from its address, or write it, is believed"
        ));
    }
    if let Some(listen) = config.http.listen
        && !listen.ip().is_loopback()
        && config.http.tls_cert.is_none()
    {
        warnings
            .push(format!("http.listen is {listen} without TLS: private documents can be read on their way"));
    }
    if config.auth.algorithms.iter().rev().skip(1).any(|one| *one == crate::sip::digest::Algorithm::Md5) {
        warnings.push("auth.algorithms offers MD5 before a SHA: phones take the first they know".into());
    }
    warnings
}

fn names(config: &mut Config, found: &mut Vec<Found>) {
    if config.domain.is_empty() {
        let reason = "is not set; it is the one key that is needed, as in `domain = \"example.org\"`".into();
        found.push(Found { keys: vec!["domain"], reason });
    } else {
        canonical("domain", &mut config.domain, found);
    }
    for alias in &mut config.aliases {
        canonical("aliases", alias, found);
    }
}

fn canonical(key: &'static str, name: &mut String, found: &mut Vec<Found>) {
    match host::canonical(name) {
        Ok(host) => *name = host,
        Err(wrong) => found.push(Found { keys: vec![key], reason: format!("holds `{name}`, which {wrong}") }),
    }
}

fn places(config: &Config, found: &mut Vec<Found>) {
    let mut say = |key, reason: String| found.push(Found { keys: vec![key], reason });
    let database = config.database.as_str();
    let is_file =
        database.strip_prefix("sqlite:").is_some_and(|file| !file.is_empty() && !file.contains('\0'));
    let is_postgres = ["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| database.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()));
    if !is_file && !is_postgres {
        // Without the value: it may hold a password.
        say("database", "must be `sqlite:FILE` or `postgres://user:password@host/name`".into());
    }
    if database.starts_with("sqlite::memory") {
        say("database", "must be a file: what is kept in memory is lost with the process".into());
    }
    let socket = config.control_socket.as_os_str().len();
    if !(1..=MAX_SOCKET_PATH).contains(&socket) {
        say("control_socket", format!("must be a path of 1 to {MAX_SOCKET_PATH} bytes"));
    }
    if let Some(text) = &config.server_header
        && (text.len() > MAX_SERVER_HEADER || !text.bytes().all(|byte| matches!(byte, b' '..=b'~')))
    {
        say("server_header", format!("must be at most {MAX_SERVER_HEADER} printable ASCII characters"));
    }
    if let Err(error) = tracing_subscriber::EnvFilter::try_new(&config.log.filter) {
        say(
            "log.filter",
            format!("is not a filter ({error}); as in `info` or `info,hither::presence=debug`"),
        );
    }
    listeners(&config.listen, &mut say);
    peers(&config.peers, &mut say);
    service_route(&config.registration.service_route, &mut say);
    if config.dns.servers.len() > section::MAX_NAME_SERVERS {
        say("dns.servers", format!("must name at most {} name servers", section::MAX_NAME_SERVERS));
    }
    http(&config.http, &mut say);
    let algorithms = &config.auth.algorithms;
    let repeated =
        algorithms.iter().enumerate().any(|(at, one)| algorithms.iter().take(at).any(|a| a == one));
    if algorithms.is_empty() || repeated {
        say("auth.algorithms", "must name at least one algorithm, each once".into());
    }
}

fn listeners(listen: &[Listen], say: &mut impl FnMut(&'static str, String)) {
    if listen.is_empty() {
        say("listen", "must name at least one listener, as in `udp:0.0.0.0:5060`".into());
    }
    for (at, one) in listen.iter().enumerate() {
        let same = |other: &Listen| (other.transport, other.bind) == (one.transport, one.bind);
        if one.bind.port() != 0 && listen.iter().take(at).any(same) {
            say("listen", format!("names `{one}` twice"));
        }
        if one.bind.ip().is_multicast() {
            say("listen", format!("holds `{one}`, a multicast address"));
        }
    }
}

fn peers(peers: &[Peer], say: &mut impl FnMut(&'static str, String)) {
    let mut wrong = |reason: String| say("peers", reason);
    if peers.len() > section::MAX_PEERS {
        wrong(format!("must be at most {}", section::MAX_PEERS));
    }
    for (at, Peer { name, addresses, .. }) in peers.iter().enumerate() {
        let is_name = (1..=MAX_PEER_NAME).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
        if !is_name || peers.iter().take(at).any(|other| other.name == *name) {
            wrong(format!(
                "holds the name `{name}`; each has its own, of 1 to {MAX_PEER_NAME} printable characters"
            ));
        }
        if !(1..=section::MAX_PEERS).contains(&addresses.len()) {
            wrong(format!("must name 1 to {} addresses or networks of `{name}`", section::MAX_PEERS));
        }
        let is_too_wide = |net: &&Net| {
            net.prefix < MIN_PEER_PREFIX || net.address.is_unspecified() || net.address.is_multicast()
        };
        if let Some(net) = addresses.iter().find(is_too_wide) {
            wrong(format!(
                "holds `{net}` for `{name}`: no network that wide (less than /{MIN_PEER_PREFIX}) is one machine's"
            ));
        }
    }
}

fn http(http: &section::Http, say: &mut impl FnMut(&'static str, String)) {
    let root = http.xcap_root.as_str();
    // Compared with paths letter by letter, so nothing in it may be spelled in two ways.
    let is_segment = |s: &str| {
        !s.is_empty()
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
            && !s.starts_with('.')
    };
    let is_path = root.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_segment));
    if !is_path || root.len() > MAX_XCAP_ROOT {
        let reason =
            format!("is `{root}`; it is a path of letters, digits, `-`, `_` and `.`, as in `/xcap-root`");
        say("http.xcap_root", reason);
    }
    if http.tls_cert.is_some() != http.tls_key.is_some() {
        let missing = if http.tls_cert.is_some() { "http.tls_key" } else { "http.tls_cert" };
        say(missing, "is not set; certificate and key go together".into());
    }
}

fn service_route(routes: &[String], say: &mut impl FnMut(&'static str, String)) {
    // RFC 3608 5: name-addrs of loose routers. `>` would end the angle brackets around it.
    let is_route = |text: &String| {
        let uri = Uri::parse(text.as_bytes());
        uri.is_ok_and(|uri| uri.scheme == Scheme::Sip && uri.params.has("lr") && uri.headers.is_none())
            && !text.contains(['<', '>', '"'])
    };
    if let Some(wrong) = routes.iter().find(|text| !is_route(text)) {
        let reason = format!("holds `{wrong}`; a route is a SIP URI with lr, as in `sip:sip.example.org;lr`");
        say("registration.service_route", reason);
    }
    if routes.len() > MAX_SERVICE_ROUTES {
        say("registration.service_route", format!("must name at most {MAX_SERVICE_ROUTES} hops"));
    }
}

type Interval = ([&'static str; 3], u32, u32, u32);

fn intervals(config: &Config) -> [Interval; 3] {
    let Config { registration: r, subscription: s, publication: p, .. } = config;
    [
        (
            ["registration.min_interval_s", "registration.default_interval_s", "registration.max_interval_s"],
            r.min_interval_s,
            r.default_interval_s,
            r.max_interval_s,
        ),
        (
            ["subscription.min_interval_s", "subscription.default_interval_s", "subscription.max_interval_s"],
            s.min_interval_s,
            s.default_interval_s,
            s.max_interval_s,
        ),
        (
            ["publication.min_interval_s", "publication.default_interval_s", "publication.max_interval_s"],
            p.min_interval_s,
            p.default_interval_s,
            p.max_interval_s,
        ),
    ]
}

fn interval(keys: [&'static str; 3], min: u32, default: u32, max: u32, found: &mut Vec<Found>) {
    for (key, value) in keys.into_iter().zip([min, default, max]) {
        range(key, u64::from(value), 1..=YEAR_S, found);
    }
    if min > default || default > max {
        let reason = format!("is out of order: min ({min}) <= default ({default}) <= max ({max}) must hold");
        found.push(Found { keys: keys.to_vec(), reason });
    }
}

fn numbers(config: &Config, found: &mut Vec<Found>) {
    let count = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
    let Config { server, registration, subscription, publication, presence, .. } = config;
    let Config { messaging, auth, proxy, limits, http, .. } = config;
    let all: [(&'static str, u64, RangeInclusive<u64>); 37] = [
        ("server.workers", count(server.workers), 0..=count(section::MAX_WORKERS)),
        ("registration.max_bindings", count(registration.max_bindings), 1..=1_000),
        ("subscription.max_per_watcher", count(subscription.max_per_watcher), 1..=1_000_000),
        ("subscription.max_per_presentity", count(subscription.max_per_presentity), 1..=1_000_000),
        ("subscription.give_up_after_s", subscription.give_up_after_s.into(), 1..=YEAR_S),
        (
            "subscription.max_waiting_per_presentity",
            count(subscription.max_waiting_per_presentity),
            0..=10_000,
        ),
        ("subscription.max_waiting_per_watcher", count(subscription.max_waiting_per_watcher), 0..=10_000),
        ("publication.max_per_aor", count(publication.max_per_aor), 1..=1_000),
        ("publication.burst", publication.burst.into(), 1..=1_000_000),
        ("publication.per_second", publication.per_second.into(), 1..=1_000),
        ("presence.notify_burst", presence.notify_burst.into(), 1..=1_000),
        ("presence.notify_interval_ms", presence.notify_interval_ms, 1..=3_600_000),
        ("messaging.retention_s", messaging.retention_s.into(), 1..=2_592_000),
        ("messaging.max_per_user", count(messaging.max_per_user), 1..=10_000),
        ("messaging.max_bytes_per_user", messaging.max_bytes_per_user, 1..=1 << 32),
        // The sender waits no longer than 64*T1 (RFC 3261 17.1.2.2).
        ("messaging.answer_s", messaging.answer_s.into(), 1..=25),
        ("messaging.retry_s", messaging.retry_s.into(), 1..=1_800),
        ("messaging.burst", messaging.burst.into(), 1..=1_000_000),
        ("messaging.per_minute", messaging.per_minute.into(), 1..=60_000),
        ("messaging.strangers_burst", messaging.strangers_burst.into(), 1..=1_000_000),
        ("messaging.strangers_per_minute", messaging.strangers_per_minute.into(), 1..=60_000),
        ("auth.nonce_lifetime_s", auth.nonce_lifetime_s.into(), 1..=86_400),
        ("proxy.timer_c_s", proxy.timer_c_s.into(), 1..=3_600),
        // RFC 5393 5.3: Max-Breadth begins at 60.
        ("proxy.max_forks", count(proxy.max_forks), 1..=60),
        ("proxy.ring_s", proxy.ring_s.into(), 1..=3_600),
        ("limits.message_bytes", count(limits.message_bytes), 2_048..=1_048_576),
        ("limits.tcp_connections", count(limits.tcp_connections), 1..=10_000_000),
        (
            "limits.tcp_unauthenticated_per_address",
            count(limits.tcp_unauthenticated_per_address),
            1..=10_000_000,
        ),
        ("limits.tcp_header_deadline_ms", limits.tcp_header_deadline_ms, 10..=600_000),
        ("limits.tcp_body_deadline_ms", limits.tcp_body_deadline_ms, 10..=600_000),
        ("limits.tcp_first_request_deadline_ms", limits.tcp_first_request_deadline_ms, 10..=600_000),
        ("limits.tcp_idle_unauthenticated_s", limits.tcp_idle_unauthenticated_s.into(), 1..=86_400),
        // Never below 64*T1: an answer may be on its way (RFC 3261 18).
        ("limits.tcp_idle_s", limits.tcp_idle_s.into(), 32..=YEAR_S),
        ("http.connections", count(http.connections), 1..=100_000),
        ("http.connections_per_address", count(http.connections_per_address), 1..=100_000),
        ("http.header_deadline_ms", http.header_deadline_ms, 10..=600_000),
        ("http.body_deadline_ms", http.body_deadline_ms, 10..=600_000),
    ];
    for (key, value, allowed) in all {
        range(key, value, allowed, found);
    }
}

fn range(key: &'static str, value: u64, allowed: RangeInclusive<u64>, found: &mut Vec<Found>) {
    if !allowed.contains(&value) {
        let reason = format!("is {value}; it must be {} to {}", allowed.start(), allowed.end());
        found.push(Found { keys: vec![key], reason });
    }
}

const YEAR_S: u64 = 31_536_000;
/// `sun_path` is 108 bytes with its final NUL.
const MAX_SOCKET_PATH: usize = 100;
const MAX_SERVER_HEADER: usize = 128;
const MAX_PEER_NAME: usize = 64;
/// Who writes `0.0.0.0/0` believes everybody.
const MIN_PEER_PREFIX: u8 = 8;
const MAX_XCAP_ROOT: usize = 128;
const TIMER_C_FLOOR_S: u32 = 180;
/// Every request of every device carries them.
const MAX_SERVICE_ROUTES: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn said(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config { domain: "example.org".into(), ..Config::default() };
        change(&mut config);
        let found = check(&mut config);
        found.iter().map(|f| format!("{} {}\n", f.keys.join(" "), f.reason)).collect()
    }

    #[test]
    fn the_defaults_hold() {
        assert_eq!(said(|_| {}), "");
    }

    #[test]
    fn the_domain_must_be_a_host() {
        assert!(said(|c| c.domain = "sip:example.org".into()).starts_with("domain holds `sip:example.org`"));
        assert!(
            said(|c| c.aliases = vec!["ok.example".into(), "no no".into()])
                .starts_with("aliases holds `no no`")
        );
    }

    #[test]
    fn intervals_stand_in_order_and_may_be_short() {
        assert_eq!(said(|c| (c.registration.min_interval_s, c.registration.default_interval_s) = (1, 1)), "");
        assert!(
            said(|c| c.registration.min_interval_s = 0)
                .contains("registration.min_interval_s is 0; it must be 1 to")
        );
        assert!(
            said(|c| c.subscription.max_interval_s = 1_800)
                .contains("min (60) <= default (3600) <= max (1800)")
        );
        assert!(said(|c| c.publication.min_interval_s = 7_200).contains("publication.min_interval_s"));
    }

    #[test]
    fn numbers_have_ranges() {
        assert!(said(|c| c.registration.max_bindings = 0).contains("registration.max_bindings is 0"));
        assert!(said(|c| c.server.workers = 257).contains("server.workers is 257; it must be 0 to 256"));
        assert!(said(|c| c.proxy.max_forks = 61).contains("proxy.max_forks is 61; it must be 1 to 60"));
        assert!(said(|c| c.proxy.timer_c_s = 0).contains("proxy.timer_c_s"));
        assert!(said(|c| c.limits.message_bytes = 100).contains("limits.message_bytes"));
        assert!(said(|c| c.limits.tcp_idle_s = 31).contains("limits.tcp_idle_s is 31; it must be 32"));
        assert!(said(|c| c.presence.notify_interval_ms = 0).contains("presence.notify_interval_ms"));
        assert!(said(|c| c.auth.nonce_lifetime_s = 0).contains("auth.nonce_lifetime_s"));
    }

    #[test]
    fn places_must_be_possible() {
        assert!(
            said(|c| c.database = "mysql://u:geheim@h/d".into()).contains("database must be `sqlite:FILE`")
        );
        assert!(!said(|c| c.database = "mysql://u:geheim@h/d".into()).contains("geheim"));
        assert!(said(|c| c.database = "sqlite:".into()).contains("database must be"));
        assert!(said(|c| c.database = "sqlite::memory:".into()).contains("must be a file"));
        assert_eq!(said(|c| c.database = "postgresql://db/hither".into()), "");
        assert!(
            said(|c| c.control_socket = "x".repeat(101).into()).contains("control_socket must be a path")
        );
        assert!(said(|c| c.server_header = Some("a\r\nb".into())).contains("printable"));
        let nine = vec!["192.0.2.53".parse().unwrap(); 9];
        assert!(said(|c| c.dns.servers = nine).contains("dns.servers must name at most 8"));
        assert!(said(|c| c.log.filter = "hither=loud".into()).contains("log.filter is not a filter"));
    }

    #[test]
    fn http_has_a_plain_root_and_both_or_no_files() {
        let root = |root: &str| said(|c| c.http.xcap_root = root.into());
        assert_eq!(root("/a/b-c.d_e"), "");
        for wrong in ["", "/", "a", "/a/", "/a//b", "/..", "/a/%41", "/~~", "/a?b"] {
            assert!(root(wrong).starts_with("http.xcap_root is"), "{wrong}");
        }
        assert!(said(|c| c.http.tls_cert = Some("a".into())).starts_with("http.tls_key is not set"));
        assert!(said(|c| c.http.tls_key = Some("a".into())).starts_with("http.tls_cert is not set"));
        assert!(said(|c| c.http.connections = 0).contains("http.connections is 0"));
        let mut config = Config { domain: "example.org".into(), ..Config::default() };
        config.http.listen = Some("127.0.0.1:80".parse().unwrap());
        assert!(warnings(&config).is_empty());
        config.http.listen = Some("192.0.2.1:80".parse().unwrap());
        assert!(warnings(&config)[0].contains("without TLS"));
    }

    #[test]
    fn listeners_are_named_once_and_at_least_one() {
        assert!(said(|c| c.listen.clear()).contains("at least one listener"));
        assert!(said(|c| c.listen.push(c.listen[0].clone())).contains("names `udp:0.0.0.0:5060` twice"));
        assert!(said(|c| c.listen = vec!["udp:224.0.0.1:5060".parse().unwrap()]).contains("multicast"));
        assert_eq!(said(|c| c.listen = vec!["udp:127.0.0.1:0".parse().unwrap(); 2]), "");
    }

    #[test]
    fn a_service_route_is_made_of_loose_routers_rfc3608_5() {
        let with = |routes: &[&str]| {
            let routes = routes.iter().map(|route| (*route).to_owned()).collect();
            said(|c| c.registration.service_route = routes)
        };
        assert_eq!(with(&["sip:sip.example.org;lr", "sip:hop@[2001:db8::1]:5070;transport=tcp;lr"]), "");
        for wrong in [
            "sip:sip.example.org",
            "sips:sip.example.org;lr",
            "sip.example.org;lr",
            "<sip:a.example;lr>",
            "sip:a.example;lr>",
        ] {
            assert!(with(&[wrong]).contains("registration.service_route holds"), "{wrong}");
        }
        assert!(with(&["sip:a.example;lr"; 6]).contains("at most 5"));
    }

    #[test]
    fn peers_have_names_and_places_of_their_own_a18() {
        let peer = |name: &str, nets: &[&str]| Peer {
            name: name.into(),
            addresses: nets.iter().map(|net| net.parse().unwrap()).collect(),
            udp: false,
            publish: vec![],
            assert_identity: false,
            read_services: false,
        };
        let with = |peers: Vec<Peer>| said(|c| c.peers = peers);
        let (mailbox, trunk) =
            (peer("mailbox", &["192.0.2.40"]), peer("trunk", &["10.0.0.0/8", "2001:db8::/32"]));
        assert_eq!(with(vec![mailbox.clone(), trunk]), "");
        assert!(with(vec![mailbox.clone(), mailbox.clone()]).contains("the name `mailbox`"));
        assert!(with(vec![peer("", &["192.0.2.40"])]).contains("peers holds the name ``"));
        assert!(with(vec![peer("nowhere", &[])]).contains("addresses or networks of `nowhere`"));
        for wide in ["0.0.0.0/0", "::/0", "128.0.0.0/1", "0.0.0.0", "::", "224.0.0.0/24"] {
            assert!(with(vec![peer("wide", &[wide])]).contains("for `wide`"), "{wide}");
        }
        let many = (0..65).map(|n| peer(&format!("p{n}"), &["192.0.2.40"])).collect();
        assert!(with(many).contains("at most 64"));
        let udp = Config { peers: vec![Peer { udp: true, ..mailbox }], ..Config::default() };
        assert!(warnings(&udp)[0].contains("`mailbox` is believed over UDP"));
    }

    #[test]
    fn algorithms_are_named_once_and_at_least_one() {
        use crate::sip::digest::Algorithm::Md5;
        assert!(said(|c| c.auth.algorithms.clear()).contains("auth.algorithms"));
        assert!(said(|c| c.auth.algorithms = vec![Md5, Md5]).contains("each once"));
    }

    #[test]
    fn a_short_timer_c_is_warned_about_rfc3261_16_6() {
        let mut config = Config { domain: "example.org".into(), ..Config::default() };
        assert!(warnings(&config).is_empty());
        config.proxy.timer_c_s = 180;
        assert!(warnings(&config)[0].contains("16.6"));
    }
}

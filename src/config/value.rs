//! Values that are written as text: listeners, networks, rules, algorithms.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::de::{Error as _, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::host;
use crate::model::Transport;

/// One listener: `"udp:0.0.0.0:5060"`, or `{ listen = "udp:0.0.0.0:5060", advertise = "sip.example.org:5060" }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Transport.
    pub transport: Transport,
    /// Address to bind; port 0 lets the system choose.
    pub bind: SocketAddr,
    /// What peers are told in Via, Record-Route and Contact instead: host (IPv6 in brackets) and port.
    pub advertise: Option<(String, Option<u16>)>,
}

impl Listen {
    /// UDP and TCP on every address of both families.
    pub fn everywhere(port: u16) -> Vec<Listen> {
        let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let on = |ip| {
            [Transport::Udp, Transport::Tcp].map(|transport| Listen {
                transport,
                bind: SocketAddr::new(ip, port),
                advertise: None,
            })
        };
        any.into_iter().flat_map(on).collect()
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            format!(
                "holds `{text}`; a listener is transport:address:port, as in `udp:0.0.0.0:5060` or `tcp:[::]:5060`"
            )
        };
        let (transport, bind) = text.split_once(':').ok_or_else(wrong)?;
        let transport = Transport::parse(transport).ok_or_else(wrong)?;
        Ok(Listen { transport, bind: bind.parse().map_err(|_| wrong())?, advertise: None })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.transport.param(), self.bind)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListenTable {
    listen: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    advertise: Option<String>,
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some((host, port)) = &self.advertise else { return serializer.collect_str(self) };
        let advertise = port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        ListenTable { listen: self.to_string(), advertise: Some(advertise) }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Listen;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text such as \"udp:0.0.0.0:5060\" or a table with `listen` and `advertise`")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Listen, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Listen, A::Error> {
                let table = ListenTable::deserialize(MapAccessDeserializer::new(map))?;
                let listen: Listen = table.listen.parse().map_err(A::Error::custom)?;
                let advertise = table.advertise.map(|text| {
                    host::with_port(&text)
                        .map_err(|wrong| A::Error::custom(format!("advertises `{text}`, which {wrong}")))
                });
                Ok(Listen { advertise: advertise.transpose()?, ..listen })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// A network: `10.0.0.0/8`, `2001:db8::/32`, or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Net {
    /// The first address.
    pub address: IpAddr,
    /// How many leading bits count.
    pub prefix: u8,
}

impl Net {
    /// Is the address in it? IPv4-mapped IPv6 addresses count as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let shift = 32_u32.saturating_sub(self.prefix.into());
                net.to_bits().checked_shr(shift) == ip.to_bits().checked_shr(shift)
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let shift = 128_u32.saturating_sub(self.prefix.into());
                net.to_bits().checked_shr(shift) == ip.to_bits().checked_shr(shift)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for Net {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("holds `{text}`; a network is address/prefix, as in `10.0.0.0/8`");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(bits);
        if prefix > bits {
            return Err(wrong());
        }
        Ok(Net { address, prefix })
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Serialize for Net {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Net {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A name server: `192.0.2.53`, `2001:db8::53`, or with a port `127.0.0.1:5353`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameServer(pub SocketAddr);

impl FromStr for NameServer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let alone = || text.parse().map(|ip: IpAddr| SocketAddr::new(ip, DNS_PORT));
        let address: SocketAddr = text.parse().or_else(|_| alone()).map_err(|_| {
            format!("holds `{text}`; a name server is an address, as in `192.0.2.53` or `127.0.0.1:5353`")
        })?;
        if address.port() == 0 || address.ip().is_unspecified() || address.ip().is_multicast() {
            return Err(format!("holds `{text}`, where no name server can be"));
        }
        Ok(NameServer(address))
    }
}

impl Serialize for NameServer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NameServer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// `""` is "none": TOML has no null.
pub(super) mod optional_text {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(text: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text.as_deref().unwrap_or_default())
    }
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<String>, D::Error> {
        Ok(Some(String::deserialize(deserializer)?).filter(|text| !text.is_empty()))
    }
}

/// An address with its port; `""` is "none".
pub(super) mod optional_address {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        address: &Option<SocketAddr>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&address.map(|address| address.to_string()).unwrap_or_default())
    }
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SocketAddr>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || {
            D::Error::custom(format!("holds `{text}`; it is an address with a port, as in `127.0.0.1:8080`"))
        };
        if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|_| wrong()) }
    }
}

/// The four rules between users of the domain.
pub(super) mod default_rule {
    use super::*;
    use crate::availability::view::DomainDefault;

    pub(crate) fn serialize<S: Serializer>(rule: &DomainDefault, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match rule {
            DomainDefault::Reciprocal => "reciprocal",
            DomainDefault::Confirm => "confirm",
            DomainDefault::Basic => "basic",
            DomainDefault::Full => "full",
        })
    }
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DomainDefault, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "reciprocal" => Ok(DomainDefault::Reciprocal),
            "confirm" => Ok(DomainDefault::Confirm),
            "basic" => Ok(DomainDefault::Basic),
            "full" => Ok(DomainDefault::Full),
            other => Err(D::Error::custom(format!(
                "is `{other}`; it must be `reciprocal`, `confirm`, `basic` or `full`"
            ))),
        }
    }
}

/// Users and domains.
pub(super) mod denied {
    use super::*;
    use crate::model::Aor;

    pub(crate) fn serialize<S: Serializer>(all: &[String], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(all)
    }
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
        let all = Vec::<String>::deserialize(deserializer)?;
        let is_domain =
            |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || ":/*".contains(c));
        let is_known = |entry: &&String| match entry.split_once('@') {
            Some((_, domain)) => {
                is_domain(domain) && !entry.contains(':') && Aor::from_stored(entry).is_some()
            }
            None => is_domain(entry),
        };
        match all.iter().find(|entry| !is_known(entry)) {
            Some(other) => Err(D::Error::custom(format!(
                "holds `{other}`; it takes users as `eve@example.org` and domains as `example.net`"
            ))),
            None => Ok(all),
        }
    }
}

/// Digest algorithms by their registered names (RFC 7616 3.3).
pub(super) mod algorithms {
    use super::*;
    use crate::sip::digest::Algorithm;

    pub(crate) fn serialize<S: Serializer>(all: &[Algorithm], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(all.iter().map(|algorithm| algorithm.as_str()))
    }
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Algorithm>, D::Error> {
        let parse = |name: String| {
            Algorithm::parse(&name).ok_or_else(|| {
                let all = Algorithm::ALL.map(Algorithm::as_str).join("`, `");
                D::Error::custom(format!("holds `{name}`; the algorithms are `{all}`"))
            })
        };
        Vec::<String>::deserialize(deserializer)?.into_iter().map(parse).collect()
    }
}

/// Event packages by their tokens.
pub(super) mod packages {
    use super::*;
    use crate::model::Package;

    pub(crate) fn serialize<S: Serializer>(all: &[Package], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(all.iter().map(|package| package.as_str()))
    }
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Package>, D::Error> {
        let parse = |name: String| {
            Package::parse(&name).ok_or_else(|| {
                let all = Package::ALL.map(Package::as_str).join("`, `");
                D::Error::custom(format!("holds `{name}`; the event packages are `{all}`"))
            })
        };
        Vec::<String>::deserialize(deserializer)?.into_iter().map(parse).collect()
    }
}

/// A database URL with the password, and whatever stands after `?`, left out.
pub(super) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.into() };
    let shown = |text: &str| match text.split_once('?') {
        Some((before, _)) => format!("{before}?redacted"),
        None => text.into(),
    };
    // The last `@`: a password may hold one, or a `?`, that nobody escaped. Rather too much is left out than too little.
    match rest.rsplit_once('@') {
        Some((login, place)) => {
            let user = login.split([':', '?']).next().unwrap_or_default();
            let password = if user.len() < login.len() { ":redacted" } else { "" };
            format!("{scheme}://{user}{password}@{}", shown(place))
        }
        None => format!("{scheme}://{}", shown(rest)),
    }
}

const DNS_PORT: u16 = 53;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_transport_address_port() {
        let listen: Listen = "TCP:[::1]:5060".parse().unwrap();
        assert_eq!(listen.transport, Transport::Tcp);
        assert_eq!(listen.to_string(), "tcp:[::1]:5060");
        for bad in [
            "",
            "udp",
            "udp:5060",
            "udp:localhost:5060",
            "sctp:0.0.0.0:5060",
            "0.0.0.0:5060",
            "udp:0.0.0.0:66666",
        ] {
            assert!(bad.parse::<Listen>().unwrap_err().contains("udp:0.0.0.0:5060"), "{bad}");
        }
    }

    #[test]
    fn networks_hold_their_addresses_and_no_others() {
        let net: Net = "10.0.0.0/8".parse().unwrap();
        assert!(net.contains("10.255.0.1".parse().unwrap()));
        assert!(net.contains("::ffff:10.0.0.1".parse().unwrap()));
        assert!(!net.contains("11.0.0.1".parse().unwrap()));
        let net: Net = "2001:db8::/32".parse().unwrap();
        assert!(net.contains("2001:db8:1::1".parse().unwrap()));
        assert!(!net.contains("2001:db9::1".parse().unwrap()));
        let all: Net = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("203.0.113.9".parse().unwrap()));
        assert!(!all.contains("::1".parse().unwrap()));
        let one: Net = "203.0.113.9".parse().unwrap();
        assert!(one.contains("203.0.113.9".parse().unwrap()));
        assert!(!one.contains("203.0.113.8".parse().unwrap()));
        for bad in ["10.0.0.0/33", "10.0.0.0/-1", "10.0.0/8", "::/129", "ten", ""] {
            assert!(bad.parse::<Net>().is_err(), "{bad}");
        }
    }

    #[test]
    fn passwords_leave_the_database_url() {
        assert_eq!(without_password("postgres://u:p@h/d"), "postgres://u:redacted@h/d");
        assert_eq!(without_password("postgres://u:p@q@h/d"), "postgres://u:redacted@h/d");
        assert_eq!(without_password("postgres://u:p?q@h/d"), "postgres://u:redacted@h/d");
        assert_eq!(without_password("postgres://u@h/d?password=p@q"), "postgres://u@h/d:redacted@q");
        assert_eq!(without_password("postgres://h/d?password=p"), "postgres://h/d?redacted");
        assert_eq!(without_password("postgres://u@h/d?sslmode=require"), "postgres://u@h/d?redacted");
        assert_eq!(without_password("sqlite:hither.sqlite"), "sqlite:hither.sqlite");
    }

    #[test]
    fn a_name_server_is_an_address_with_port_53_unless_it_says_another() {
        let at = |text: &str| text.parse::<NameServer>().map(|server| server.0.to_string());
        assert_eq!(at("192.0.2.53").unwrap(), "192.0.2.53:53");
        assert_eq!(at("2001:db8::53").unwrap(), "[2001:db8::53]:53");
        assert_eq!(at("127.0.0.1:5353").unwrap(), "127.0.0.1:5353");
        for bad in ["", "ns.example.org", "192.0.2.53:0", "0.0.0.0", "224.0.0.1:53", "192.0.2.53:99999"] {
            assert!(at(bad).is_err(), "{bad}");
        }
    }
}

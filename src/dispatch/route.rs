//! What a request is for (RFC 3261 16.3 and 16.4): this server, a user of ours, a dialog we forwarded, or none of these. Pure.

use std::net::{IpAddr, SocketAddr};

use crate::auth::{Marks, Side};
use crate::model::{Aor, Flow, Reject, Transport};
use crate::proxy::Hop;
use crate::sip::{HeaderName, Host, Method, NameAddr, Request, Scheme, StatusCode, Uri, forward};

/// The names and addresses that mean this server.
pub struct Own<'a> {
    /// The domain.
    pub domain: &'a str,
    /// Is this host name (or address text) the domain or an alias?
    pub is_domain: &'a dyn Fn(&str) -> bool,
    /// Names that listeners advertise, with their ports.
    pub advertised: &'a [(String, u16)],
    /// Those of these names that are written as addresses ([`addresses`]).
    pub addresses: &'a [Address],
    /// Ports we listen on.
    pub ports: &'a [u16],
    /// Is this an address we listen on?
    pub is_own: &'a dyn Fn(SocketAddr) -> bool,
}

impl Own<'_> {
    /// Does this URI lead to us? The domain's names do with no port or one of ours; addresses only with the port we listen on.
    pub fn is_ours(&self, uri: &Uri<'_>) -> bool {
        let port = uri.host_port.port;
        let port_fits = port.is_none_or(|port| self.ports.contains(&port));
        let advertised = |host: &str| {
            self.advertised
                .iter()
                .any(|(name, known)| name.eq_ignore_ascii_case(host) && port.unwrap_or(5060) == *known)
        };
        let address = |ip: IpAddr| {
            let names_us = |own: &Address| {
                own.ip == ip && own.port.map_or(port_fits, |known| port.unwrap_or(5060) == known)
            };
            self.addresses.iter().any(names_us) || (self.is_own)(SocketAddr::new(ip, port.unwrap_or(5060)))
        };
        match uri.host_port.host {
            Host::Name(name) => {
                // A name with its final dot is the same name (RFC 1034 3.1).
                let name = name.trim_end_matches('.');
                (port_fits && (self.is_domain)(name)) || advertised(name)
            }
            Host::V4(ip) => address(ip.into()),
            Host::V6(ip) => address(ip.into()),
        }
    }

    /// Does a URI of ours mean this address of record?
    pub fn means(&self, uri: &Uri<'_>, aor: &Aor) -> bool {
        self.is_ours(uri) && uri.user_decoded().is_some_and(|user| aor.is(&user, self.domain))
    }

    /// The address of record that a URI of ours means: every name and address of ours is the domain (10.3 step 5).
    ///
    /// A telephone number is looked for among our users: there is nobody else to ask (RFC 3261 19.1.6).
    pub fn aor(&self, uri: &Uri<'_>) -> Option<Aor> {
        if uri.scheme != Scheme::Tel && !self.is_ours(uri) {
            return None;
        }
        Aor::new(&uri.name()?, self.domain)
    }
}

/// A name of ours that is an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    ip: IpAddr,
    /// An advertised name has a port of its own; the domain and its aliases do with none or one that we listen on.
    port: Option<u16>,
}

/// The names that are written as addresses (IPv6 in brackets): phones name addresses all the time, and compare as such.
pub fn addresses<'a>(
    domains: impl IntoIterator<Item = &'a String>,
    advertised: &[(String, u16)],
) -> Vec<Address> {
    let read = |name: &str| match name.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse().ok().map(IpAddr::V6),
        None => name.parse().ok().map(IpAddr::V4),
    };
    let domains = domains.into_iter().filter_map(|name| Some(Address { ip: read(name)?, port: None }));
    let advertised = advertised.iter().filter_map(|(name, port)| {
        let ip = read(name)?;
        Some(Address { ip, port: Some(*port) })
    });
    domains.chain(advertised).collect()
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq)]
pub enum Destination {
    /// This server itself: no user part.
    Server,
    /// A user of our domain (who may not exist).
    User(Aor),
    /// The other side of a dialog whose mark is true.
    Dialog(Side, Flow),
    /// Another domain.
    Foreign,
}

/// A destination and what 16.4 took away to find it.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Where to.
    pub destination: Destination,
    /// Route elements of ours at the top, to be dropped.
    pub own_routes: usize,
}

/// Decides where a request goes, before anybody is authenticated.
///
/// # Errors
/// 416 for a scheme that is not routed; 403 for Routes of others in a request that begins something (`A20`); 481 for a request inside a dialog
/// that we did not forward (`A32`); 400 for Routes that do not parse.
pub fn route(request: &Request, own: &Own<'_>, marks: &Marks) -> Result<Route, Reject> {
    let uri = request.uri().map_err(|e| Reject::because(StatusCode::BAD_REQUEST, e.what))?;
    let is_number = uri.scheme == Scheme::Tel && uri.name().is_some();
    if !is_number && !matches!(uri.scheme, Scheme::Sip | Scheme::Im | Scheme::Pres) {
        // 16.3 step 2. SIPS is routed once there is TLS to route it over.
        return Err(Reject::new(StatusCode::UNSUPPORTED_URI_SCHEME));
    }
    let to_tag = request.to().ok().and_then(|to| to.tag());
    let mut own_routes = 0;
    let mut others = false;
    let mut dialog = None;
    for element in request.addresses(HeaderName::Route) {
        let element = element.map_err(|e| Reject::because(StatusCode::BAD_REQUEST, e.what))?;
        if others || !own.is_ours(&element.uri) {
            others = true;
            continue;
        }
        own_routes += 1;
        if let (Some(user), Some(to_tag)) = (element.uri.user, to_tag) {
            dialog = dialog.or_else(|| read_mark(request, marks, user, to_tag));
        }
    }
    if let Some((side, flow)) = dialog {
        return Ok(Route { destination: Destination::Dialog(side, flow), own_routes });
    }
    let ours = own.is_ours(&uri);
    if to_tag.is_some() && !answered_by_us(request.method(), &uri, ours) {
        return Err(Reject::new(StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST));
    }
    if others {
        return Err(Reject::because(StatusCode::FORBIDDEN, "Preloaded Route not allowed"));
    }
    let destination = match own.aor(&uri) {
        Some(aor) => Destination::User(aor),
        None if ours && uri.user.is_none() => Destination::Server,
        None if ours => return Err(Reject::new(StatusCode::NOT_FOUND)),
        None => Destination::Foreign,
    };
    Ok(Route { destination, own_routes })
}

/// What 16.4 makes of a request before it is looked at: `None` if it stays as it is.
///
/// - A strict router upstream has put our Record-Route value into the Request-URI: the last Route value is the true one.
/// - `maddr` names us: it has done its work. It goes, with port and transport if they are those that the request came by.
pub fn effective(request: &Request, own: &Own<'_>, marks: &Marks, flow: &Flow) -> Option<Request> {
    let uri = request.uri().ok()?;
    if !matches!(uri.scheme, Scheme::Sip) {
        return None;
    }
    if let Some(maddr) = uri.params.get("maddr") {
        return without_maddr(request, &uri, maddr, own, flow);
    }
    let (user, to_tag) = (uri.user?, request.to().ok()?.tag()?.to_owned());
    if !own.is_ours(&uri) || read_mark(request, marks, user, &to_tag).is_none() {
        return None;
    }
    let routes: Vec<_> = request.elements(HeaderName::Route).map(String::from_utf8_lossy).collect();
    let (last, before) = routes.split_last()?;
    let last = NameAddr::parse(last.as_bytes()).ok()?;
    // Our own value stays on top: it names the dialog.
    let own_value = format!("<{}>", uri.as_str());
    let routes: Vec<_> =
        std::iter::once(own_value.as_str()).chain(before.iter().map(AsRef::as_ref)).collect();
    forward::retargeted(request, last.uri.as_str(), &routes)
}

fn without_maddr(
    request: &Request,
    uri: &Uri<'_>,
    maddr: &str,
    own: &Own<'_>,
    flow: &Flow,
) -> Option<Request> {
    let transport = uri.params.get("transport");
    let came_so = transport.map_or(Some(Transport::Udp), Transport::parse) == Some(flow.transport)
        && uri.host_port.port.unwrap_or(5060) == flow.local.port();
    let named = Uri::parse(format!("sip:{maddr}:{}", flow.local.port()).as_bytes())
        .is_ok_and(|uri| own.is_ours(&uri));
    if !came_so || !named {
        return None;
    }
    let user = uri.user.map(|user| format!("{user}@")).unwrap_or_default();
    let mut plain = format!("sip:{user}{}", uri.host_port.host);
    for (name, value) in uri.params.iter() {
        if name.eq_ignore_ascii_case("maddr") || name.eq_ignore_ascii_case("transport") {
            continue;
        }
        plain.push(';');
        plain.push_str(name);
        if let Some(value) = value {
            plain.push('=');
            plain.push_str(value);
        }
    }
    let routes: Vec<_> = request.elements(HeaderName::Route).map(String::from_utf8_lossy).collect();
    let routes: Vec<_> = routes.iter().map(AsRef::as_ref).collect();
    forward::retargeted(request, &plain, &routes)
}

/// Requests with a To tag that end here: a SUBSCRIBE inside a dialog with our notifier (its Contact has our `gr`), and REGISTER and PUBLISH, which know no
/// dialogs (RFC 3261 10.2, RFC 3903 4), whatever a client writes into To.
fn answered_by_us(method: &Method, uri: &Uri<'_>, ours: bool) -> bool {
    match method {
        Method::Subscribe => ours && uri.params.has("gr"),
        Method::Register | Method::Publish => true,
        _ => false,
    }
}

fn read_mark(request: &Request, marks: &Marks, user: &str, to_tag: &str) -> Option<(Side, Flow)> {
    let call_id = request.call_id().ok()?;
    let from = request.from().ok()?;
    marks.read(user, call_id, from.tag().unwrap_or_default(), to_tag)
}

/// How far a request may still go.
///
/// # Errors
/// 483 if it may not be forwarded any more (16.3 step 3), 400 if that cannot be read.
pub fn hop(request: &Request, own_routes: usize) -> Result<Hop, Reject> {
    let max_forwards = next_max_forwards(request)?;
    // RFC 5393 5.3.3: what is missing or too large becomes 60.
    let breadth =
        request.max_breadth().map_err(|error| Reject::because(StatusCode::BAD_REQUEST, error.what))?;
    Ok(Hop { max_forwards, own_routes, breadth: breadth.unwrap_or(MAX_BREADTH).min(MAX_BREADTH) })
}

/// 16.3 step 3: the Max-Forwards to write (16.6 step 3).
fn next_max_forwards(request: &Request) -> Result<u8, Reject> {
    match request.max_forwards() {
        Ok(Some(0)) => Err(Reject::new(StatusCode::TOO_MANY_HOPS)),
        // `A21`: a larger budget than the usual one is not handed on.
        Ok(Some(left)) => Ok((left - 1).min(MAX_FORWARDS)),
        Ok(None) => Ok(MAX_FORWARDS),
        Err(error) => Err(Reject::because(StatusCode::BAD_REQUEST, error.what)),
    }
}

/// 16.3 step 5: extensions that a proxy must understand; this one has none.
///
/// # Errors
/// 420 that names them all.
pub fn proxy_require(request: &Request) -> Result<(), Reject> {
    none_of(request, HeaderName::ProxyRequire)
}

/// 8.2.2.3: extensions that the presence agent must understand; it has none.
///
/// # Errors
/// 420 that names them all.
pub fn require(request: &Request) -> Result<(), Reject> {
    none_of(request, HeaderName::Require)
}

fn none_of(request: &Request, header: HeaderName) -> Result<(), Reject> {
    let unknown: Vec<_> =
        request.elements(header).map(|tag| String::from_utf8_lossy(tag).into_owned()).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(Reject::new(StatusCode::BAD_EXTENSION).with(HeaderName::Unsupported, unknown.join(", ")))
}

/// The initial value (8.1.1.6).
const MAX_FORWARDS: u8 = 70;
/// The recommended value, and the largest one (RFC 5393 5.3.3).
const MAX_BREADTH: u32 = 60;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::{Limits, Message};

    fn request(line: &str, headers: &str) -> Request {
        let text = format!(
            "{line} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\nFrom: <sip:a@example.org>;tag=a\r\n\
             Call-ID: c\r\nCSeq: 1 {}\r\n{headers}\r\n",
            line.split(' ').next().unwrap()
        );
        match Message::parse(text.into(), false, &Limits::default()) {
            Ok(Message::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    fn with_own<T>(look: impl FnOnce(&Own<'_>) -> T) -> T {
        look(&Own {
            domain: "example.org",
            is_domain: &|host| host.eq_ignore_ascii_case("example.org") || host == "alias.example",
            advertised: &[("sip.example.org".into(), 5060)],
            addresses: &[],
            ports: &[5060],
            is_own: &|address| address == SocketAddr::from(([192, 0, 2, 1], 5060)),
        })
    }

    fn decide(line: &str, headers: &str) -> Result<Route, u16> {
        with_own(|own| route(&request(line, headers), own, &marks()).map_err(|reject| reject.status.code()))
    }

    /// Request-URI and Route as they are to be read.
    fn read_as(line: &str, headers: &str) -> Option<(String, Vec<String>)> {
        let request = with_own(|own| effective(&request(line, headers), own, &marks(), &flow(40_000)))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some((text(request.uri_bytes()), request.elements(HeaderName::Route).map(text).collect()))
    }

    #[test]
    fn a_strict_router_upstream_has_its_uri_put_back_rfc3261_16_4() {
        let mark = marks().make("c", "a", &flow(1), &flow(2));
        let line = format!("BYE sip:{mark}@192.0.2.1:5060;lr");
        let routes = "Route: <sip:192.0.2.77;lr>, <sip:b@192.0.2.9:5070>\r\n";
        let read = read_as(&line, &format!("{TO_TAG}{routes}")).expect("strictly routed");
        assert_eq!(read.0, "sip:b@192.0.2.9:5070");
        assert_eq!(read.1, [format!("<sip:{mark}@192.0.2.1:5060;lr>"), "<sip:192.0.2.77;lr>".to_owned()]);
        // Not ours, nothing to put back, or nobody's mark.
        assert_eq!(read_as("BYE sip:b@192.0.2.9", &format!("{TO_TAG}{routes}")), None);
        assert_eq!(read_as(&line, TO_TAG), None);
        assert_eq!(read_as("BYE sip:b@192.0.2.1:5060;lr", &format!("{TO_TAG}{routes}")), None);
    }

    #[test]
    fn maddr_that_names_us_goes_with_port_and_transport_rfc3261_16_4() {
        let read = |uri: &str| read_as(&format!("MESSAGE {uri}"), TO).map(|(uri, _)| uri);
        let plain = Some("sip:b@example.org;x=y".to_owned());
        assert_eq!(read("sip:b@example.org;maddr=192.0.2.1;x=y"), plain);
        assert_eq!(read("sip:b@example.org:5060;transport=udp;x=y;maddr=192.0.2.1"), plain);
        for other in [
            "sip:b@example.org;maddr=192.0.2.2",
            "sip:b@example.org;maddr=192.0.2.1;transport=tcp",
            "sip:b@example.org:5070;maddr=192.0.2.1",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    fn marks() -> Marks {
        Marks::new([1; 32])
    }

    fn flow(port: u16) -> Flow {
        let local = SocketAddr::from(([192, 0, 2, 1], 5060));
        Flow {
            transport: Transport::Udp,
            local,
            remote: SocketAddr::from(([192, 0, 2, 9], port)),
            connection: 0,
        }
    }

    fn to_user(aor: &str) -> Result<Route, u16> {
        Ok(Route { destination: Destination::User(Aor::from_stored(aor).unwrap()), own_routes: 0 })
    }

    const TO: &str = "To: <sip:b@example.org>\r\n";
    const TO_TAG: &str = "To: <sip:b@example.org>;tag=b\r\n";

    #[test]
    fn every_name_and_address_of_ours_is_the_domain_rfc3261_16_5() {
        for host in [
            "example.org",
            "EXAMPLE.org",
            "alias.example",
            "sip.example.org",
            "192.0.2.1",
            "192.0.2.1:5060",
            "example.org:5060",
            "Example.ORG.",
            "sip.example.org.",
        ] {
            assert_eq!(decide(&format!("MESSAGE sip:b@{host}"), TO), to_user("b@example.org"), "{host}");
        }
        for host in ["example.com", "192.0.2.1:5062", "192.0.2.2", "sip.example.org:5070"] {
            assert_eq!(
                decide(&format!("MESSAGE sip:b@{host}"), TO).unwrap().destination,
                Destination::Foreign,
                "{host}"
            );
        }
    }

    #[test]
    fn a_name_that_is_written_as_an_address_is_that_address_rfc3261_16_5() {
        for (domain, advertised) in [("192.0.2.7", "192.0.2.8"), ("[2001:db8::7]", "[2001:db8::8]")] {
            let advertised = [(advertised.to_owned(), 5070)];
            let is_ours = |uri: &str| {
                let own = Own {
                    domain,
                    is_domain: &|host| host == domain,
                    advertised: &advertised,
                    addresses: &addresses([&domain.to_owned()], &advertised),
                    ports: &[5060],
                    is_own: &|_| false,
                };
                own.is_ours(&Uri::parse(uri.as_bytes()).unwrap())
            };
            assert!(
                is_ours(&format!("sip:b@{domain}")) && is_ours(&format!("sip:{domain}:5060")),
                "{domain}"
            );
            assert!(!is_ours(&format!("sip:{domain}:5070")) && !is_ours("sip:192.0.2.9"), "{domain}");
            let advertised = &advertised[0].0;
            assert!(is_ours(&format!("sip:{advertised}:5070")) && !is_ours(&format!("sip:{advertised}")));
        }
        assert!(addresses([&"example.org".to_owned(), &"192.0.2".to_owned()], &[]).is_empty());
    }

    #[test]
    fn without_a_user_it_is_for_the_server() {
        assert_eq!(decide("OPTIONS sip:example.org", TO).unwrap().destination, Destination::Server);
    }

    #[test]
    fn schemes_that_are_not_routed_are_416_rfc3261_16_3_step_2() {
        assert_eq!(decide("OPTIONS nobodyKnowsThisScheme:totallyopaque", TO), Err(416));
        assert_eq!(decide("INVITE tel:5550100;phone-context=example.com", TO), Err(416));
        assert_eq!(decide("INVITE sips:b@example.org", TO), Err(416));
    }

    #[test]
    fn a_number_is_one_however_it_is_written_rfc3966_5() {
        let number = to_user("+12025550100@example.org");
        assert_eq!(decide("INVITE tel:+12025550100", TO), number);
        assert_eq!(decide("INVITE tel:+1-(202)-555.0100;x=y", TO), number);
        assert_eq!(decide("INVITE sip:+12025550100@example.org;user=phone", TO), number);
    }

    #[test]
    fn our_own_topmost_route_is_taken_and_others_are_refused_a20() {
        let preloaded = format!("{TO}Route: <sip:192.0.2.1;lr>\r\n");
        assert_eq!(decide("MESSAGE sip:b@example.org", &preloaded).unwrap().own_routes, 1);
        let others = format!("{TO}Route: <sip:192.0.2.1;lr>, <sip:10.0.0.1;lr>\r\n");
        assert_eq!(decide("MESSAGE sip:b@example.org", &others), Err(403));
        let foreign = format!("{TO}Route: <sip:10.0.0.1;lr>\r\n");
        assert_eq!(decide("MESSAGE sip:b@example.org", &foreign), Err(403));
    }

    #[test]
    fn a_true_mark_leads_into_the_dialog_and_nothing_else_does_a32() {
        let mark = marks().make("c", "a", &flow(1), &flow(2));
        let routed = format!("{TO_TAG}Route: <sip:{mark}@192.0.2.1;lr>\r\n");
        let to_callee = Route { destination: Destination::Dialog(Side::Callee, flow(2)), own_routes: 1 };
        assert_eq!(decide("BYE sip:b@10.0.0.7", &routed), Ok(to_callee));
        let other = marks().make("other", "a", &flow(1), &flow(2));
        let forged = format!("{TO_TAG}Route: <sip:{other}@192.0.2.1;lr>\r\n");
        assert_eq!(decide("BYE sip:b@10.0.0.7", &forged), Err(481));
        assert_eq!(decide("BYE sip:b@10.0.0.7", TO_TAG), Err(481));
        assert_eq!(decide("BYE sip:b@example.org", TO_TAG), Err(481));
    }

    #[test]
    fn two_routes_of_ours_are_both_taken_rfc3261_16_4() {
        let mark = marks().make("c", "a", &flow(1), &flow(2));
        let routed = format!("{TO_TAG}Route: <sip:{mark}@192.0.2.1;lr>, <sip:{mark}@sip.example.org;lr>\r\n");
        assert_eq!(decide("BYE sip:b@10.0.0.7", &routed).unwrap().own_routes, 2);
    }

    #[test]
    fn max_forwards_counts_down_and_starts_at_70_rfc3261_16_6_step_3() {
        let next = |headers: &str| {
            next_max_forwards(&request("MESSAGE sip:b@example.org", headers)).map_err(|r| r.status.code())
        };
        assert_eq!(next("Max-Forwards: 10\r\n"), Ok(9));
        assert_eq!(next(""), Ok(70));
        assert_eq!(next("Max-Forwards: 255\r\n"), Ok(70));
        assert_eq!(next("Max-Forwards: 0\r\n"), Err(483));
    }

    #[test]
    fn unknown_requirements_are_named_rfc3261_8_2_2_3() {
        let asked = request("SUBSCRIBE sip:b@example.org", "Require: foo\r\nRequire: eventlist\r\n");
        let reject = require(&asked).unwrap_err();
        assert_eq!(reject.status.code(), 420);
        assert_eq!(reject.headers[0], (HeaderName::Unsupported, "foo, eventlist".to_owned()));
        assert!(require(&request("SUBSCRIBE sip:b@example.org", "Proxy-Require: foo\r\n")).is_ok());
    }

    #[test]
    fn unknown_proxy_requirements_are_named_rfc3261_16_3_step_5() {
        let reject =
            proxy_require(&request("MESSAGE sip:b@example.org", "Proxy-Require: foo, bar\r\n")).unwrap_err();
        assert_eq!(reject.headers[0], (HeaderName::Unsupported, "foo, bar".to_owned()));
    }
}

//! The target set of a local user (RFC 3261 16.5) and the way to each target. Pure.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use smallvec::SmallVec;

use crate::model::{Binding, Flow, HomeState, Text, Timestamp, Transport};
use crate::proxy::preferences;
use crate::sip::{Host, NameAddr, Request, Uri};

/// One contact to send to.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// The Request-URI to write: the Contact without what is illegal there (16.6 step 2).
    pub uri: Text,
    /// Path of the binding, to be written as Route (RFC 3327 5.4).
    pub routes: SmallVec<[Text; 1]>,
    /// How to get there.
    pub way: Way,
    /// Preference of the binding, in thousandths.
    pub q: u16,
}

/// How a target is reached.
#[derive(Debug, Clone, PartialEq)]
pub enum Way {
    /// Over the flow it registered on (RFC 5626 5.3.1; datagrams go back to where they came from).
    Flow {
        /// That flow.
        flow: Flow,
        /// Where a new connection may be made if the flow is gone: only if the Contact names the very address it registered from.
        again: Option<SocketAddr>,
    },
    /// To this address.
    Address(Transport, SocketAddr),
    /// To what this URI resolves to (RFC 3263).
    Resolve(String),
}

impl Target {
    /// Is it the device with this Contact?
    pub fn is_at(&self, contact: &str) -> bool {
        self.uri == *contact
            || Uri::parse(contact.as_bytes()).is_ok_and(|contact| *request_uri(&contact) == *self.uri)
    }
}

/// The live SIP contacts of a home that the request prefers (RFC 3841), best q first, at most `max`.
pub fn targets(home: &HomeState, request: &Request, now: Timestamp, max: usize) -> SmallVec<[Target; 2]> {
    let mut bindings: SmallVec<[&Binding; 8]> = home.live_bindings(now).map(AsRef::as_ref).collect();
    bindings.sort_by_key(|binding| std::cmp::Reverse(binding.q));
    preferences::prefer(&mut bindings, request);
    bindings.into_iter().filter_map(target).take(max).collect()
}

fn target(binding: &Binding) -> Option<Target> {
    let contact = Uri::parse(binding.contact.as_bytes()).ok()?;
    let way = match binding.path.first() {
        Some(first) => by_uri(&NameAddr::parse(first.as_bytes()).ok()?.uri),
        None if binding.direct => {
            Way::Flow { flow: binding.flow, again: binding.address_beside_flow_by(&contact) }
        }
        None => by_uri(&contact),
    };
    let uri = match request_uri(&contact) {
        Cow::Borrowed(whole) if whole == &*binding.contact => binding.contact.clone(),
        uri => Text::from(&*uri),
    };
    Some(Target { uri, routes: binding.path.iter().cloned().collect(), way, q: binding.q })
}

/// Is the target in the set already? The same URI is never tried twice for one request (16.5).
pub fn is_among<'a>(target: &Target, mut known: impl Iterator<Item = &'a Target>) -> bool {
    let uri = Uri::parse(target.uri.as_bytes()).ok();
    known.any(|other| {
        other.uri == target.uri
            || uri
                .as_ref()
                .is_some_and(|uri| Uri::parse(other.uri.as_bytes()).is_ok_and(|other| uri.equals(&other)))
    })
}

/// Where a URI leads.
pub fn by_uri(uri: &Uri<'_>) -> Way {
    match numeric(uri) {
        Some((transport, address)) => Way::Address(transport, address),
        None => Way::Resolve(uri.as_str().to_owned()),
    }
}

/// RFC 3263 4: a numeric host needs no look-up; the transport is the one named, else UDP.
pub fn numeric(uri: &Uri<'_>) -> Option<(Transport, SocketAddr)> {
    let ip = match uri.host_port.host {
        Host::V4(ip) => IpAddr::V4(ip),
        Host::V6(ip) => IpAddr::V6(ip),
        Host::Name(_) => return None,
    };
    let transport = match uri.params.get("transport") {
        Some(token) => Transport::parse(token)?,
        None => Transport::Udp,
    };
    Some((transport, SocketAddr::new(ip, uri.host_port.port.unwrap_or(5060))))
}

/// 16.6 step 2 with table 1 of 19.1.1: no `method` parameter, no headers.
pub fn request_uri<'a>(uri: &Uri<'a>) -> Cow<'a, str> {
    if uri.headers.is_none() && !uri.params.has("method") {
        return uri.as_str().into();
    }
    let text = uri.without_headers();
    let (base, _) = text.split_at(text.len().saturating_sub(uri.params.as_str().len()));
    let mut out = base.to_owned();
    for (name, value) in uri.params.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("method")) {
        out.push(';');
        out.push_str(name);
        if let Some(value) = value {
            out.push('=');
            out.push_str(value);
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Aor, BindingKey};
    use crate::sip::{Limits, Message};

    const NOW: Timestamp = Timestamp(1_000);

    fn flow() -> Flow {
        let local = SocketAddr::from(([192, 0, 2, 1], 5060));
        Flow {
            transport: Transport::Udp,
            local,
            remote: SocketAddr::from(([192, 0, 2, 9], 40_000)),
            connection: 0,
        }
    }

    fn binding(contact: &str, q: u16) -> Binding {
        Binding {
            aor: Aor::new("bob", "example.org").unwrap(),
            key: BindingKey(contact.into()),
            contact: contact.into(),
            params: Text::default(),
            q,
            instance: None,
            reg_id: None,
            path: Box::default(),
            call_id: "c".into(),
            cseq: 1,
            flow: flow(),
            direct: true,
            user_agent: Text::default(),
            created_at: NOW,
            refreshed_at: NOW,
            expires_at: Timestamp(2_000),
        }
    }

    fn targets(home: &HomeState, now: Timestamp) -> SmallVec<[Target; 2]> {
        let text = "MESSAGE sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\nFrom: <sip:a@x>;tag=1\r\n\
                    To: <sip:bob@example.org>\r\nCall-ID: c\r\nCSeq: 1 MESSAGE\r\n\r\n";
        match Message::parse(text.into(), false, &Limits::default()) {
            Ok(Message::Request(request)) => super::targets(home, &request, now, 10),
            other => panic!("{other:?}"),
        }
    }

    fn home(bindings: Vec<Binding>) -> HomeState {
        let mut home = HomeState::empty(Aor::new("bob", "example.org").unwrap());
        home.bindings = bindings.into_iter().map(Arc::new).collect();
        home
    }

    #[test]
    fn contacts_are_ordered_by_q_and_expired_ones_are_never_used_rfc3261_10_3() {
        let home = home(vec![
            binding("sip:a@192.0.2.9", 100),
            binding("sip:b@192.0.2.9", 900),
            Binding { expires_at: NOW, ..binding("sip:c@192.0.2.9", 1_000) },
        ]);
        let targets = targets(&home, NOW);
        let uris: Vec<_> = targets.iter().map(|t| &*t.uri).collect();
        assert_eq!(uris, ["sip:b@192.0.2.9", "sip:a@192.0.2.9"]);
    }

    #[test]
    fn a_device_is_reached_at_the_source_it_registered_from() {
        let target = &targets(&home(vec![binding("sip:a@10.0.0.5:5060", 1_000)]), NOW)[0];
        assert_eq!(target.way, Way::Flow { flow: flow(), again: None });
        let target = &targets(&home(vec![binding("sip:a@192.0.2.9:5062", 1_000)]), NOW)[0];
        let again = Some(SocketAddr::from(([192, 0, 2, 9], 5062)));
        assert_eq!(target.way, Way::Flow { flow: flow(), again });
    }

    #[test]
    fn a_binding_with_a_path_is_reached_by_its_first_element_rfc3327_5_4() {
        let path = ["<sip:edge@192.0.2.77;lr;transport=tcp>"];
        let home =
            home(vec![Binding { path: path.map(Text::from).into(), ..binding("sip:a@10.0.0.5", 1_000) }]);
        let target = &targets(&home, NOW)[0];
        assert_eq!(target.way, Way::Address(Transport::Tcp, SocketAddr::from(([192, 0, 2, 77], 5060))));
        assert_eq!(target.routes.as_slice(), path.map(Text::from));
    }

    #[test]
    fn a_request_uri_carries_no_method_and_no_headers_rfc3261_19_1_1() {
        let uri = Uri::parse(b"sip:a@192.0.2.9;method=INVITE;ob?Subject=x&Route=%3Csip:evil%3E").unwrap();
        assert_eq!(request_uri(&uri), "sip:a@192.0.2.9;ob");
        // A question mark is lawful in a user part (25.1).
        assert_eq!(request_uri(&Uri::parse(b"sip:a?b@192.0.2.9?Subject=x").unwrap()), "sip:a?b@192.0.2.9");
    }
}

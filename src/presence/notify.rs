//! The NOTIFY on the wire, and where it goes (RFC 6665 4.2.2, RFC 3261 12.2.1.1).

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use crate::endpoint::Ours;
use crate::model::{Subscription, Timestamp};
use crate::presence::dialog::State;
use crate::presence::package::{Format, allow_events};
use crate::presence::subscribe::push_gr;
use crate::sip::{HeaderName, Host, Method, NameAddr, Uri, Writer};

/// What differs from NOTIFY to NOTIFY.
#[derive(Debug, Clone, Copy)]
pub(super) struct Notify<'a> {
    pub(super) cseq: u32,
    pub(super) state: State,
    /// Of the document.
    pub(super) format: Format,
    /// The document; empty without one.
    pub(super) body: &'a [u8],
    /// Our Via with a fresh branch.
    pub(super) via: &'a str,
    /// Our Contact URI.
    pub(super) contact: &'a str,
}

/// Writes a NOTIFY of this subscription.
pub(super) fn write(subscription: &Subscription, notify: &Notify<'_>, now: Timestamp) -> Bytes {
    let (uri, routes) = route(subscription);
    let mut writer = Writer::request(&Method::Notify, uri);
    writer.header(HeaderName::Via, notify.via).rows(b"Max-Forwards: 70\r\n");
    for route in routes {
        writer.header(HeaderName::Route, route);
    }
    let package = subscription.package.as_str();
    writer
        .rows(subscription.dialog.rows().as_bytes())
        .header_of(HeaderName::CSeq, &[&notify.cseq.to_string(), " NOTIFY"])
        .header_of(HeaderName::Contact, &["<", notify.contact, ">"]);
    match &subscription.event_id {
        Some(id) => writer.header_of(HeaderName::Event, &[package, ";id=", id]),
        None => writer.header(HeaderName::Event, package),
    };
    // Rounded down: a NOTIFY never lengthens a subscription (RFC 6665 4.2.2).
    let expires = subscription.expires_at.duration_from(now).as_secs().to_string();
    let state: [&str; 2] = match notify.state {
        State::Active => ["active;expires=", &expires],
        State::Pending { .. } => ["pending;expires=", &expires],
        State::Terminated { reason, .. } => ["terminated;reason=", reason.as_str()],
    };
    writer.header_of(HeaderName::SubscriptionState, &state);
    writer.header(HeaderName::AllowEvents, allow_events());
    if notify.body.is_empty() { writer.finish() } else { writer.body(notify.format.as_str(), notify.body) }
}

/// Our Contact in the dialog: our URI with the presentity's user part, and the name of the subscription (RFC 6665 4.5.1).
pub(super) fn contact(ours: &Ours, subscription: &Subscription) -> String {
    let mut uri = ours.uri(Some(&subscription.presentity.escaped_user()));
    uri.push_str(";gr=");
    push_gr(&mut uri, subscription.id);
    uri
}

/// The numeric address of the next hop: the first Route, else the remote target. `None` for names, which are not looked up here.
pub(super) fn next_hop(subscription: &Subscription) -> Option<SocketAddr> {
    let first = subscription.route_set.first().and_then(|route| NameAddr::parse(route.as_bytes()).ok());
    let uri = match first {
        Some(route) => route.uri,
        None => Uri::parse(subscription.dialog.remote_target().as_bytes()).ok()?,
    };
    let ip = match uri.host_port.host {
        Host::V4(ip) => IpAddr::V4(ip),
        Host::V6(ip) => IpAddr::V6(ip),
        Host::Name(_) => return None,
    };
    Some(SocketAddr::new(ip, uri.host_port.port.unwrap_or(5060)))
}

/// Request-URI and Route (RFC 3261 12.2.1.1): behind a strict router its URI is the Request-URI, and the remote target is the last Route.
fn route(subscription: &Subscription) -> (&str, Vec<String>) {
    let target = subscription.dialog.remote_target();
    let strict = subscription
        .route_set
        .split_first()
        .and_then(|(first, rest)| Some((NameAddr::parse(first.as_bytes()).ok()?.uri, rest)))
        .filter(|(uri, _)| !uri.params.has("lr"));
    match strict {
        Some((uri, rest)) => (
            uri.without_headers(),
            rest.iter().map(ToString::to_string).chain([format!("<{target}>")]).collect(),
        ),
        None => (target, subscription.route_set.iter().map(ToString::to_string).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DialogParts, DialogTexts, Transport};
    use crate::presence::dialog::Reason;
    use crate::presence::testing::{NOW, aor, subscription};
    use crate::sip::{Limits, Message, Request, validate};

    fn written(subscription: &Subscription, state: State, body: &[u8]) -> Request {
        written_at(subscription, state, body, NOW.after_secs(100))
    }

    fn written_at(subscription: &Subscription, state: State, body: &[u8], now: Timestamp) -> Request {
        let ours = Ours::new(Transport::Udp, "192.0.2.1:5060".to_owned());
        let contact = contact(&ours, subscription);
        let via = "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKx;rport";
        let bytes = write(
            subscription,
            &Notify { cseq: 7, state, format: Format::Pidf, body, via, contact: &contact },
            now,
        );
        match Message::parse(bytes, true, &Limits::default()) {
            Ok(Message::Request(request)) => {
                assert_eq!(validate::request(&request), Ok(()));
                request
            }
            other => panic!("not a request: {other:?}"),
        }
    }

    #[test]
    fn a_notify_is_a_request_in_the_dialog_rfc3261_12_2_1_1() {
        let mut s = subscription(5);
        s.event_id = Some("7".into());
        let notify = written(&s, State::Active, b"<presence/>");
        assert_eq!(notify.uri_bytes(), b"sip:bob@192.0.2.7:5062");
        assert_eq!(notify.text(HeaderName::From), Some("<sip:alice@example.org>;tag=ours"));
        assert_eq!(notify.text(HeaderName::To), Some("\"Bob\" <sip:bob@example.org>;tag=bobs"));
        assert_eq!(notify.text(HeaderName::CallId), Some("call-1"));
        assert_eq!(notify.text(HeaderName::CSeq), Some("7 NOTIFY"));
        // RFC 6665 3.2.1: the Event of the SUBSCRIBE.
        assert_eq!(notify.text(HeaderName::Event), Some("presence;id=7"));
        assert_eq!(
            notify.text(HeaderName::Contact),
            Some("<sip:alice@192.0.2.1:5060;gr=hither-00000000000000000000000000000005>")
        );
        assert_eq!(notify.content_type(), Some("application/pidf+xml"));
        assert_eq!(notify.body(), b"<presence/>");
    }

    #[test]
    fn state_has_the_remaining_expiry_or_a_reason_rfc6665_4_2_2() {
        let s = subscription(5);
        let state = |state| {
            written(&s, state, b"").text(HeaderName::SubscriptionState).map(str::to_owned).unwrap_or_default()
        };
        assert_eq!(state(State::Active), "active;expires=3500");
        assert_eq!(state(State::Pending { shown: false }), "pending;expires=3500");
        let last = |reason| State::Terminated { reason, body: false };
        assert_eq!(state(last(Reason::Timeout)), "terminated;reason=timeout");
        assert_eq!(state(last(Reason::Rejected)), "terminated;reason=rejected");
        assert_eq!(state(last(Reason::NoResource)), "terminated;reason=noresource");
    }

    #[test]
    fn a_notify_never_lengthens_the_subscription_rfc6665_4_2_2() {
        let s = subscription(5);
        for ms in [0, 1, 999, 1_000, 1_001, 3_599_999, 3_600_000] {
            let now = Timestamp(NOW.0 + ms);
            let notify = written_at(&s, State::Active, b"", now);
            let state = notify.text(HeaderName::SubscriptionState).unwrap_or_default();
            let expires = state.strip_prefix("active;expires=").expect("expires");
            let says = expires.parse::<i64>().unwrap() * 1_000;
            assert!(
                says <= s.expires_at.0 - now.0 && says + 1_000 > s.expires_at.0 - now.0,
                "{ms}: {expires}"
            );
        }
    }

    #[test]
    fn pending_has_no_document_rfc5025_3_2_1() {
        let notify = written(&subscription(5), State::Pending { shown: false }, b"");
        assert!(notify.body().is_empty());
        assert_eq!(notify.value(HeaderName::ContentType), None);
    }

    #[test]
    fn loose_routes_stay_in_order_rfc3261_12_2_1_1() {
        let mut s = subscription(5);
        s.route_set = ["<sip:p1.example.org;lr>", "<sip:p2.example.org;lr>"].map(Into::into).into();
        let notify = written(&s, State::Active, b"");
        assert_eq!(notify.uri_bytes(), b"sip:bob@192.0.2.7:5062");
        let routes: Vec<_> = notify.values(HeaderName::Route).collect();
        assert_eq!(routes, [b"<sip:p1.example.org;lr>", b"<sip:p2.example.org;lr>"]);
    }

    #[test]
    fn a_strict_router_is_the_request_uri_rfc3261_12_2_1_1() {
        let mut s = subscription(5);
        s.route_set = ["<sip:p1.example.org>", "<sip:p2.example.org;lr>"].map(Into::into).into();
        let notify = written(&s, State::Active, b"");
        assert_eq!(notify.uri_bytes(), b"sip:p1.example.org");
        let routes: Vec<_> = notify.values(HeaderName::Route).collect();
        assert_eq!(routes, [&b"<sip:p2.example.org;lr>"[..], b"<sip:bob@192.0.2.7:5062>"]);
    }

    #[test]
    fn next_hop_is_numeric_or_nothing() {
        let mut s = subscription(5);
        assert_eq!(next_hop(&s), Some("192.0.2.7:5062".parse().unwrap()));
        let remote_target = "sip:bob@k2j3.invalid;transport=ws";
        s.dialog = DialogTexts::new(DialogParts { remote_target, ..s.dialog.parts() });
        assert_eq!(next_hop(&s), None);
        s.route_set = ["<sip:[2001:db8::1];lr>".into()].into();
        assert_eq!(next_hop(&s), Some("[2001:db8::1]:5060".parse().unwrap()));
    }

    #[test]
    fn user_parts_are_escaped_in_our_contact_rfc3261_25_1() {
        assert_eq!(aor("a b@example.org").escaped_user(), "a%20b");
    }
}

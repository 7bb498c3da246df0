//! Publications that their own publisher has left behind.
//!
//! A phone that crashes, loses its connection or starts twice forgets its entity-tag and publishes anew; what it said before would stand beside it
//! until it expires, and be wrong. So an *initial* publication takes the place of an older one of the same package and
//! - the same instance (RFC 5626 4.1): both came in by flows by which that one instance was registered; or
//! - the same Call-ID: a publisher that goes on after an error (as RFC 3261 10.2.4 has it for registrations); or
//! - the same flow straight from the device, by which no second device is registered, with a tuple id in common (baresip starts twice).
//!
//! Whatever else is equal (model, tuple ids, address of a network), publications of two devices never touch one another: two instances that are
//! known are never one device, neither are two flows, and what a proxy forwards is told apart by Call-ID alone.

use crate::availability::composition;
use crate::availability::document::pidf::Pidf;
use crate::model::{Flow, HomeState, Package, Publication, Publisher, Text, Timestamp};

/// What registrations tell about who is at the other end of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Device<'h> {
    /// The one instance that is registered by it.
    pub(super) instance: Option<&'h Text>,
    /// More than one device is registered by it: an edge that does not show itself in Via.
    pub(super) is_shared: bool,
}

/// Who is at the other end of `flow`? `None`: the request came through a proxy.
pub(super) fn device(home: &HomeState, flow: Option<Flow>, now: Timestamp) -> Device<'_> {
    let by_it = || home.live_bindings(now).filter(|b| b.direct && Some(b.flow) == flow);
    let Some(first) = by_it().next() else { return Device::default() };
    // One device may have several bindings (old contacts, both transports of it), if it says that it is one.
    let is_shared = by_it().any(|b| match (&b.instance, &first.instance) {
        (Some(one), Some(other)) => one != other,
        (None, _) | (_, None) => b.key != first.key,
    });
    Device { instance: first.instance.as_ref().filter(|_| !is_shared), is_shared }
}

/// Has who publishes this document for the first time left `old` behind?
pub(super) fn is_left_behind(
    old: &Publication,
    package: Package,
    publisher: &Publisher,
    device: &Device<'_>,
    document: Option<&Pidf>,
) -> bool {
    if old.package != package {
        return false;
    }
    if let (Some(one), Some(other)) = (&old.publisher.instance, &publisher.instance) {
        return one == other;
    }
    let is_same_call = !publisher.call_id.is_empty() && old.publisher.call_id == publisher.call_id;
    let is_same_flow = !publisher.source.is_empty() && old.publisher.source == publisher.source;
    is_same_call
        || is_same_flow
            && !device.is_shared
            && document.is_some_and(|new| composition::read(old).is_some_and(|old| old.has_a_tuple_of(new)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::availability::fixtures::{NOW, home, pidf, register};

    fn document(tuple: &str) -> Pidf {
        let inner = format!("<tuple id=\"{tuple}\"><status><basic>open</basic></status></tuple>");
        Pidf::parse(pidf(&inner).as_bytes()).unwrap()
    }

    fn publisher(call_id: &str, source: &str, instance: Option<&str>) -> Publisher {
        Publisher { call_id: call_id.into(), source: source.into(), instance: instance.map(Text::from) }
    }

    /// Does the new one take the place of the old one, whose tuple is `t1`?
    fn replaces(old: Publisher, new: Publisher, tuple: &str, device: Device<'_>) -> bool {
        let body = pidf("<tuple id=\"t1\"><status><basic>open</basic></status></tuple>");
        let old =
            Publication { publisher: old, body: body.into(), ..crate::presence::testing::publication(1, 1) };
        is_left_behind(&old, Package::Presence, &new, &device, Some(&document(tuple)))
    }

    #[test]
    fn one_instance_is_one_device_whatever_else_has_changed() {
        let old = publisher("c1", "tcp:192.0.2.7:5062#1", Some("urn:uuid:1"));
        let new = publisher("c2", "tcp:192.0.2.7:5064#2", Some("urn:uuid:1"));
        assert!(replaces(old.clone(), new, "t2", Device::default()));
        let other = publisher("c1", "tcp:192.0.2.7:5062#1", Some("urn:uuid:2"));
        assert!(!replaces(old, other, "t1", Device::default()), "two instances are never one");
    }

    #[test]
    fn one_call_id_is_one_publisher() {
        let old = publisher("c1", "udp:192.0.2.7:5062", None);
        assert!(replaces(old.clone(), publisher("c1", "udp:198.51.100.7:9", None), "t2", Device::default()));
        assert!(!replaces(old, publisher("", "udp:198.51.100.7:9", None), "t1", Device::default()));
    }

    #[test]
    fn one_flow_and_tuple_id_is_one_device_unless_others_register_by_that_flow() {
        let old = publisher("c1", "udp:192.0.2.7:5062", None);
        let new = publisher("c2", "udp:192.0.2.7:5062", None);
        assert!(replaces(old.clone(), new.clone(), "t1", Device::default()), "baresip starts twice");
        assert!(
            !replaces(old.clone(), new.clone(), "t2", Device::default()),
            "another service of the device"
        );
        let shared = Device { instance: None, is_shared: true };
        assert!(!replaces(old.clone(), new, "t1", shared));
        let elsewhere = publisher("c2", "udp:192.0.2.7:5063", None);
        assert!(!replaces(old, elsewhere, "t1", Device::default()), "two phones of one model behind one NAT");
        let (a, b) = (publisher("c1", "", None), publisher("c2", "", None));
        assert!(!replaces(a, b, "t1", Device::default()), "two phones of one model behind one proxy");
    }

    #[test]
    fn who_registers_by_a_flow_tells_whose_it_is() {
        let mut home = home();
        let flow = |home: &HomeState| Some(home.bindings[0].flow);
        register(&mut home, 1, Some("urn:uuid:1"));
        register(&mut home, 2, Some("urn:uuid:1"));
        let at = flow(&home);
        assert_eq!(device(&home, at, NOW).instance.map(Text::as_str), Some("urn:uuid:1"));
        assert_eq!(device(&home, None, NOW), Device::default());
        assert_eq!(device(&home, at, NOW.after_secs(10_000)), Device::default(), "expired");
        let mut indirect = home.bindings[0].as_ref().clone();
        indirect.direct = false;
        home.bindings = [Arc::new(indirect)].into_iter().collect();
        assert_eq!(device(&home, at, NOW), Device::default(), "through a proxy");
        register(&mut home, 3, Some("urn:uuid:3"));
        register(&mut home, 4, None);
        assert_eq!(device(&home, at, NOW), Device { instance: None, is_shared: true });
    }
}

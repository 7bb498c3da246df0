//! `application/watcherinfo+xml` (RFC 3858), as written; nobody publishes it, so it is never read.
//!
//! A watcher is its address of record and nothing else: no `display-name`, which nobody has proved, and no address of a device.

use crate::availability::document::write::escape;

/// The namespace.
pub const WATCHERINFO: &str = "urn:ietf:params:xml:ns:watcherinfo";

/// The watchers of one resource in one package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatcherInfo<'a> {
    /// Grows by one with each document of a subscription.
    pub version: u32,
    /// Are these all of them? Else those that have changed.
    pub is_full: bool,
    /// Whom they watch, a URI.
    pub resource: &'a str,
    /// In which package.
    pub package: &'a str,
    /// Who watches.
    pub watchers: Vec<Watcher>,
}

/// One watcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watcher {
    /// Names the subscription in every document; a token (RFC 3261 25.1).
    pub id: String,
    /// How it stands.
    pub status: Status,
    /// What made it so.
    pub event: Event,
    /// Seconds until it ends.
    pub expiration_s: Option<u64>,
    /// Seconds since it began.
    pub duration_subscribed_s: u64,
    /// The address of record, a URI.
    pub uri: String,
}

/// The states of RFC 3857 4.7.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// The owner has not decided.
    Pending,
    /// It has ended before that.
    Waiting,
    /// It is served.
    Active,
    /// It has ended.
    Terminated,
}

/// What moves a subscription (RFC 3857 4.7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named as the events are")]
pub enum Event {
    Subscribe,
    Approved,
    Deactivated,
    Probation,
    Rejected,
    Timeout,
    Giveup,
    Noresource,
}

impl Status {
    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Waiting => "waiting",
            Status::Active => "active",
            Status::Terminated => "terminated",
        }
    }
}

impl Event {
    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Event::Subscribe => "subscribe",
            Event::Approved => "approved",
            Event::Deactivated => "deactivated",
            Event::Probation => "probation",
            Event::Rejected => "rejected",
            Event::Timeout => "timeout",
            Event::Giveup => "giveup",
            Event::Noresource => "noresource",
        }
    }
}

impl WatcherInfo<'_> {
    /// The document.
    pub fn write(&self) -> String {
        let mut out = String::with_capacity(256 + self.watchers.len() * 200);
        out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<watcherinfo");
        attribute(&mut out, "xmlns", WATCHERINFO);
        attribute(&mut out, "version", &self.version.to_string());
        attribute(&mut out, "state", if self.is_full { "full" } else { "partial" });
        out.push_str(">\n<watcher-list");
        attribute(&mut out, "resource", self.resource);
        attribute(&mut out, "package", self.package);
        out.push_str(">\n");
        self.watchers.iter().for_each(|watcher| watcher.write(&mut out));
        out.push_str("</watcher-list>\n</watcherinfo>\n");
        out
    }
}

impl Watcher {
    fn write(&self, out: &mut String) {
        out.push_str("<watcher");
        attribute(out, "id", &self.id);
        attribute(out, "status", self.status.as_str());
        attribute(out, "event", self.event.as_str());
        if let Some(seconds) = self.expiration_s {
            attribute(out, "expiration", &seconds.to_string());
        }
        attribute(out, "duration-subscribed", &self.duration_subscribed_s.to_string());
        out.push('>');
        escape(out, &self.uri);
        out.push_str("</watcher>\n");
    }
}

fn attribute(out: &mut String, name: &str, value: &str) {
    out.push(' ');
    out.push_str(name);
    out.push_str("=\"");
    escape(out, value);
    out.push('"');
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::availability::fixtures::assert_valid_if_possible;

    fn watcher(status: Status, event: Event) -> Watcher {
        Watcher {
            id: "0123456789abcdef".into(),
            status,
            event,
            expiration_s: (status == Status::Pending).then_some(3_599),
            duration_subscribed_s: 1,
            uri: "sip:bob@example.org".into(),
        }
    }

    fn info(watchers: Vec<Watcher>) -> String {
        WatcherInfo {
            version: 7,
            is_full: true,
            resource: "sip:alice@example.org",
            package: "presence",
            watchers,
        }
        .write()
    }

    #[test]
    fn a_document_is_as_the_rfc_has_it_rfc3858_3() {
        let text = info(vec![watcher(Status::Pending, Event::Subscribe)]);
        assert_eq!(
            text,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <watcherinfo xmlns=\"urn:ietf:params:xml:ns:watcherinfo\" version=\"7\" state=\"full\">\n\
             <watcher-list resource=\"sip:alice@example.org\" package=\"presence\">\n\
             <watcher id=\"0123456789abcdef\" status=\"pending\" event=\"subscribe\" expiration=\"3599\" \
             duration-subscribed=\"1\">sip:bob@example.org</watcher>\n\
             </watcher-list>\n</watcherinfo>\n"
        );
    }

    #[test]
    fn names_cannot_leave_their_place_a04() {
        let odd =
            Watcher { uri: "sip:\"/><x&@example.org".into(), ..watcher(Status::Active, Event::Approved) };
        assert!(info(vec![odd]).contains(">sip:&quot;/&gt;&lt;x&amp;@example.org</watcher>"));
    }

    #[test]
    fn every_status_and_event_is_schema_valid_rfc3858_6() {
        let statuses = [Status::Pending, Status::Waiting, Status::Active, Status::Terminated];
        let events = [
            Event::Subscribe,
            Event::Approved,
            Event::Deactivated,
            Event::Probation,
            Event::Rejected,
            Event::Timeout,
            Event::Giveup,
            Event::Noresource,
        ];
        let all = statuses.iter().flat_map(|status| events.map(|event| watcher(*status, event)));
        assert_valid_if_possible("watcherinfo", &info(all.collect()));
        assert_valid_if_possible("watcherinfo", &info(Vec::new()));
    }
}

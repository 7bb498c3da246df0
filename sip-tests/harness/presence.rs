//! Registering, publishing, watching and writing messages: the phone's everyday acts.

use super::documents::pidf;
use super::message::{Message, param};
use super::phone::{Phone, aor};
use super::request::{Dialog, Request};
use super::{DEADLINE, DOMAIN};

/// A subscription a phone holds, with the latest NOTIFY.
pub struct Subscription {
    pub call_id: String,
    pub dialog: Dialog,
    pub response: Message,
    pub notify: Message,
}

impl Phone {
    /// A REGISTER of this phone's Call-ID, without Contact.
    pub fn register_request(&mut self) -> Request {
        let aor = self.aor();
        let call_id = self.register_call_id.clone();
        self.request("REGISTER", &format!("sip:{DOMAIN}"))
            .set("To", &format!("<{aor}>"))
            .set("Call-ID", &call_id)
    }

    /// Registers this phone's Contact for ten minutes.
    pub fn register(&mut self) -> Message {
        let contact = self.contact();
        self.register_contact(&contact, Some(600))
    }

    /// Registers a Contact value of the test's choice.
    pub fn register_contact(&mut self, contact: &str, expires: Option<u32>) -> Message {
        let mut request = self.register_request().header("Contact", contact);
        if let Some(expires) = expires {
            request = request.header("Expires", &expires.to_string());
        }
        let response = self.ask(request);
        assert_eq!(response.status(), Some(200), "to REGISTER {contact}:\n{response}");
        response
    }

    /// The Contact values registered now (RFC 3261 section 10.2.3).
    pub fn fetch_contacts(&mut self) -> Vec<String> {
        let request = self.register_request();
        let response = self.ask(request);
        assert_eq!(response.status(), Some(200), "to a fetch:\n{response}");
        response.list("Contact")
    }

    /// A SUBSCRIBE as a phone sends it.
    pub fn subscribe_request(&mut self, target: &str, event: &str, expires: u32) -> Request {
        let contact = self.contact();
        self.request("SUBSCRIBE", &aor(target))
            .header("Contact", &contact)
            .header("Event", event)
            .header("Accept", "application/pidf+xml")
            .header("Expires", &expires.to_string())
    }

    /// Watches a user's presence for ten minutes; waits for 200 and the first NOTIFY.
    pub fn subscribe(&mut self, target: &str) -> Subscription {
        let request = self.subscribe_request(target, "presence", 600);
        self.subscribe_with(request)
    }

    /// Sends this SUBSCRIBE, expects 200 and a NOTIFY in whatever order, answers the NOTIFY with 200.
    pub fn subscribe_with(&mut self, request: Request) -> Subscription {
        let (request, response) = self.ask_and_tell(request);
        assert_eq!(response.status(), Some(200), "to SUBSCRIBE:\n{response}");
        let notify = self.expect_notify(request.call_id());
        assert_eq!(
            notify.tag_in_from(),
            response.to_tag(),
            "NOTIFY belongs to the dialog of the 200:\n{notify}"
        );
        assert_eq!(notify.to_tag(), super::message::tag(request.get("From")), "NOTIFY's To tag:\n{notify}");
        Subscription {
            call_id: request.call_id().into(),
            dialog: Dialog::of_caller(&request, &response),
            response,
            notify,
        }
    }

    /// The next NOTIFY of a subscription, answered with 200.
    pub fn expect_notify(&mut self, call_id: &str) -> Message {
        let notify = self.take_notify(call_id);
        self.answer(&notify, 200, "OK");
        notify
    }

    /// The next NOTIFY of a subscription, not answered yet.
    pub fn take_notify(&mut self, call_id: &str) -> Message {
        self.expect("NOTIFY", |m| m.is_request("NOTIFY") && m.call_id() == call_id)
    }

    /// NOTIFYs of a subscription, each answered, until one is as wanted.
    pub fn expect_notify_until(
        &mut self,
        call_id: &str,
        what: &str,
        wanted: impl Fn(&Message) -> bool,
    ) -> Message {
        let deadline = std::time::Instant::now() + 4 * DEADLINE;
        while let Some(left) = deadline.checked_duration_since(std::time::Instant::now()) {
            let Some(notify) = self.await_within(left, |m| m.is_request("NOTIFY") && m.call_id() == call_id)
            else {
                break;
            };
            self.answer(&notify, 200, "OK");
            if wanted(&notify) {
                return notify;
            }
        }
        panic!("no NOTIFY {what}");
    }

    /// A SUBSCRIBE inside the dialog of a subscription.
    pub fn resubscribe_request(&mut self, subscription: &Subscription, expires: u32) -> Request {
        self.in_dialog(&subscription.dialog, "SUBSCRIBE")
            .header("Event", "presence")
            .header("Accept", "application/pidf+xml")
            .header("Expires", &expires.to_string())
    }

    /// A PUBLISH; `tag` refers to an earlier one, no `document` makes it a refresh or a removal.
    pub fn publish_request(&mut self, document: Option<&str>, tag: Option<&str>, expires: u32) -> Request {
        let aor = self.aor();
        let mut request =
            self.request("PUBLISH", &aor).header("Event", "presence").header("Expires", &expires.to_string());
        if let Some(tag) = tag {
            request = request.header("SIP-If-Match", tag);
        }
        if let Some(document) = document {
            request = request.body("application/pidf+xml", document.as_bytes());
        }
        request
    }

    /// Publishes a document; gives the entity-tag.
    pub fn publish(&mut self, document: &str) -> String {
        self.publish_as(Some(document), None, 600)
    }

    /// Publishes `open` or `closed` with a note; gives the entity-tag.
    pub fn publish_basic(&mut self, basic: &str, note: &str) -> String {
        let document = pidf(&self.user.clone(), "t1", basic, note);
        self.publish(&document)
    }

    pub fn publish_as(&mut self, document: Option<&str>, tag: Option<&str>, expires: u32) -> String {
        let request = self.publish_request(document, tag, expires);
        let response = self.ask(request);
        assert_eq!(response.status(), Some(200), "to PUBLISH:\n{response}");
        let tags = response.rows("SIP-ETag");
        assert_eq!(tags.len(), 1, "exactly one SIP-ETag:\n{response}");
        tags[0].to_string()
    }

    pub fn message_request(&mut self, target: &str, body: &str) -> Request {
        self.request("MESSAGE", &aor(target)).body("text/plain;charset=utf-8", body.as_bytes())
    }

    /// Sends a text and does not wait for its answer; the receiving phone must answer first.
    pub fn message(&mut self, target: &str, body: &str) -> Request {
        let request = self.message_request(target, body);
        self.start(request)
    }

    /// Sends a text and gives the final response.
    pub fn ask_message(&mut self, target: &str, body: &str) -> Message {
        let request = self.message_request(target, body);
        self.ask(request)
    }

    /// OPTIONS to the server itself.
    pub fn options(&mut self) -> Message {
        let request = self.request("OPTIONS", &format!("sip:{DOMAIN}"));
        self.transact(&request)
    }
}

/// Two users who watch each other, so that under the reciprocal default both are let in. Gives the first's subscription
/// after it became active, then the second's.
pub fn befriend(a: &mut Phone, b: &mut Phone) -> (Subscription, Subscription) {
    let mut first = a.subscribe(&b.user.clone());
    let second = b.subscribe(&a.user.clone());
    if first.notify.subscription_state() != "active" {
        first.notify =
            a.expect_notify_until(&first.call_id.clone(), "active", |m| m.subscription_state() == "active");
    }
    (first, second)
}

/// Seconds in the `expires` parameter of a Contact or Subscription-State value.
pub fn expires_of(value: &str) -> Option<u32> {
    param(value, "expires").and_then(|seconds| seconds.parse().ok())
}

//! Calls: INVITE and what belongs to it.

use super::documents::SDP;
use super::message::Message;
use super::phone::{Phone, aor};
use super::request::{Dialog, Request};

impl Phone {
    pub fn invite_request(&mut self, target: &str) -> Request {
        let contact = self.contact();
        self.request("INVITE", &aor(target))
            .header("Contact", &contact)
            .body("application/sdp", SDP.as_bytes())
    }

    /// Calls a user with credentials; answers are the test's to await.
    pub fn invite(&mut self, target: &str) -> Request {
        let request = self.invite_request(target);
        self.start(request)
    }

    /// 200 to an INVITE, with Contact and SDP; gives the callee's dialog.
    pub fn pick_up(&mut self, invite: &Message) -> Dialog {
        let contact = self.contact();
        let reply =
            invite.reply(200, "OK").header("Contact", &contact).body("application/sdp", SDP.as_bytes());
        let sent = Message::parse(&reply.bytes());
        self.answer_with(invite, reply);
        Dialog::of_callee(invite, sent.need("To"))
    }

    /// 180 to an INVITE, with Contact.
    pub fn ring(&mut self, invite: &Message) {
        let contact = self.contact();
        let reply = invite.reply(180, "Ringing").header("Contact", &contact);
        self.send_raw(&reply.bytes());
    }

    /// ACK of a 200: a transaction of its own, through the route set (RFC 3261 section 13.2.2.4).
    pub fn ack(&mut self, invite: &Request, dialog: &Dialog) {
        let cseq = invite.cseq();
        let mut ack = self.in_dialog(dialog, "ACK").set("CSeq", &format!("{cseq} ACK"));
        let credentials = invite.get("Proxy-Authorization");
        if !credentials.is_empty() {
            ack = ack.header("Proxy-Authorization", credentials);
        }
        self.send(&ack);
    }

    /// Cancels.
    pub fn cancel(&mut self, invite: &Request) -> Request {
        let cancel = self.cancel_request(invite);
        self.send(&cancel);
        cancel
    }

    /// CANCEL of an INVITE: same branch, same CSeq number (RFC 3261 section 9.1).
    pub fn cancel_request(&self, invite: &Request) -> Request {
        let mut cancel = Request {
            method: "CANCEL".into(),
            uri: invite.uri.clone(),
            headers: Vec::new(),
            body: Vec::new(),
            with_length: true,
        };
        for name in ["Via", "Max-Forwards", "From", "To", "Call-ID"] {
            cancel = cancel.header(name, invite.get(name));
        }
        cancel.header("CSeq", &format!("{} CANCEL", invite.cseq()))
    }
}

/// A call set up from `a` to `b`, acknowledged; gives both sides' dialogs.
pub fn connect(a: &mut Phone, b: &mut Phone) -> (Dialog, Dialog) {
    let invite = a.invite(&b.user.clone());
    let arrived = b.expect_request("INVITE");
    b.ring(&arrived);
    a.expect_status(&invite, 180);
    let callee = b.pick_up(&arrived);
    let ok = a.expect_status(&invite, 200);
    let caller = Dialog::of_caller(&invite, &ok);
    a.ack(&invite, &caller);
    b.expect_request("ACK");
    (caller, callee)
}

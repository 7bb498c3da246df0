//! Dialogs of subscriptions as the whole network sees them: whose address is in them, who stays in the way, and what cannot be taken back (RFC 6665 4.3, 4.5, 4.6).

use crate::harness::message::{Message, uri_of};
use crate::harness::phone::aor;
use crate::harness::presence::befriend;
use crate::harness::request::Dialog;
use crate::harness::{DOMAIN, Database, Phone, Server, Transport};

/// Bob has agreed to call carol for alice, and will tell how that goes: his side of the dialog, and the REFER with its answer.
fn refer(alice: &mut Phone, bob: &mut Phone) -> (Dialog, crate::harness::request::Request, Message) {
    // The second parser knows no REFER.
    (alice.second_opinion, bob.second_opinion) = (false, false);
    bob.register();
    let contact = alice.contact();
    let request = alice
        .request("REFER", &aor("bob"))
        .header("Contact", &contact)
        .header("Refer-To", &format!("<{}>", aor("carol")));
    let request = alice.start(request);
    let arrived = bob.expect_request("REFER");
    let reply = arrived.reply(202, "Accepted").header("Contact", &bob.contact());
    let to = Message::parse(&reply.bytes()).need("To").to_string();
    bob.answer_with(&arrived, reply);
    let accepted = alice.expect_status(&request, 202);
    (Dialog::of_callee(&arrived, &to), request, accepted)
}

fn notify_of(bob: &mut Phone, dialog: &Dialog) -> crate::harness::request::Request {
    let contact = bob.contact();
    bob.in_dialog(dialog, "NOTIFY")
        .header("Contact", &contact)
        .header("Event", "refer")
        .header("Subscription-State", "active;expires=60")
        .body("message/sipfrag", b"SIP/2.0 100 Trying\r\n")
}

fn whoever_is_told_by_notify_alone_finds_the_way_back_rfc6665_4_3(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    let (dialog, referred, accepted) = refer(&mut alice, &mut bob);
    let notify = notify_of(&mut bob, &dialog);
    bob.send(&notify);
    let arrived = alice.expect_request("NOTIFY");
    let ours = arrived.list("Record-Route");
    assert_eq!(ours.len(), 1, "as the REFER was recorded, so is every NOTIFY:\n{arrived}");
    alice.answer(&arrived, 200, "OK");
    let ok = bob.expect_status(&notify, 200);
    assert_eq!(ok.list("Record-Route"), ours, "{ok}");
    // RFC 6665 4.4.1: the NOTIFY makes the dialog, so its Record-Route is the way.
    let told = Dialog {
        call_id: arrived.call_id().into(),
        local: referred.get("From").into(),
        remote: arrived.need("From").into(),
        target: arrived.contact_uri(),
        route: ours,
    };
    for dialog in [&told, &Dialog::of_caller(&referred, &accepted)] {
        let refresh = alice.in_dialog(dialog, "SUBSCRIBE").header("Event", "refer").header("Expires", "60");
        alice.send(&refresh);
        let arrived = bob.expect_request("SUBSCRIBE");
        assert_eq!(arrived.uri(), bob.contact_uri(), "{arrived}");
        bob.answer(&arrived, 200, "OK");
        alice.expect_status(&refresh, 200);
    }
}

fn nobody_stays_in_the_way_of_a_dialog_that_was_not_recorded_rfc6665_4_3(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let (mut dialog, ..) = refer(&mut alice, &mut bob);
    dialog.route.clear();
    let notify = notify_of(&mut bob, &dialog);
    bob.send(&notify);
    bob.expect_status(&notify, 481);
    alice.expect_nothing_more();
}

fn cancel_of_subscribe_and_notify_is_answered_and_does_nothing_rfc6665_4_6(
    database: Database,
    via: Transport,
) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    let request = alice.subscribe_request("bob", "presence", 600);
    let (request, response) = alice.ask_and_tell(request);
    assert_eq!(response.status(), Some(200), "{response}");
    let cancel = alice.cancel(&request);
    // Over a stream nobody repeats a request, so one that is answered is not known any more (RFC 3261 17.2.2, 9.2).
    alice.expect_status(&cancel, if via == Transport::Udp { 200 } else { 481 });
    let notify = alice.expect_notify(request.call_id());
    assert_eq!(notify.subscription_state(), "pending", "{notify}");
    let dialog = Dialog::of_caller(&request, &response);
    let refresh = alice.in_dialog(&dialog, "SUBSCRIBE").header("Event", "presence");
    assert_eq!(alice.ask(refresh).status(), Some(200), "it lives");
    alice.expect_notify(request.call_id());
    // One that is forwarded, and not answered yet.
    let (dialog, ..) = refer(&mut alice, &mut bob);
    let notify = notify_of(&mut bob, &dialog);
    bob.send(&notify);
    let arrived = alice.expect_request("NOTIFY");
    let cancel = bob.cancel(&notify);
    bob.expect_status(&cancel, 200);
    alice.expect_nothing_more();
    alice.answer(&arrived, 200, "OK");
    bob.expect_status(&notify, 200);
}

fn our_contact_is_a_gruu_rfc7621_2(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let (watching, _) = befriend(&mut alice, &mut bob);
    let gruu = watching.response.contact_uri();
    assert!(gruu.starts_with("sip:bob@") && gruu.contains(";gr=hither-"), "{gruu}");
    assert_eq!(watching.notify.contact_uri(), gruu, "in each request and response the same");
    let other = alice.subscribe("bob");
    assert_ne!(other.response.contact_uri(), gruu, "each dialog is named by its own");
    alice.expect_notify(&watching.call_id);
    // From anywhere, by any listener, a request to it reaches that very dialog..
    let mut moved = Phone::new(&server, "alice", Transport::Tcp);
    moved.continue_cseq(100);
    let host = format!("@{}", server.address(Transport::Tcp));
    let (_, params) = gruu.split_once(';').expect("parameters");
    for uri in [gruu.clone(), format!("sip:bob{host};{params}"), format!("sip:bob@{DOMAIN};{params}")] {
        let mut dialog = watching.dialog.clone();
        dialog.target = uri.clone();
        let refresh = moved.in_dialog(&dialog, "SUBSCRIBE").header("Event", "presence");
        let response = moved.ask(refresh);
        assert_eq!(response.status(), Some(200), "{uri}:\n{response}");
        moved.expect_notify(&watching.call_id);
    }
    // ..and outside of the dialog the one who is watched there (RFC 6665 4.5.1).
    let request = moved.subscribe_request("bob", "presence", 600).aimed_at(&gruu);
    let again = moved.subscribe_with(request);
    assert_eq!(again.notify.subscription_state(), "active", "{}", again.notify);
    assert_eq!(uri_of(again.notify.need("From")), aor("bob"));
}

fn presence_is_not_moved_to_a_phone_that_could_serve_it_rfc3856_6_11_2(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let contact = format!("{};methods=\"INVITE,SUBSCRIBE,NOTIFY\";events=\"presence\"", bob.contact());
    bob.register_contact(&contact, Some(600));
    let watching = alice.subscribe("bob");
    assert!(watching.response.contact_uri().contains(";gr=hither-"), "{}", watching.response);
    bob.expect_nothing_more();
}

fn who_watches_may_be_called_by_a_pres_uri_rfc3856_5(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    let mut bob = Phone::new(&server, "bob", via);
    bob.subscribe("alice");
    let request = alice.subscribe_request("bob", "presence", 600);
    let tag = request.get("From").split_once(";tag=").map(|(_, tag)| tag.to_string()).expect("tag");
    let (me, them) = (format!("pres:alice@{DOMAIN}"), format!("pres:bob@{DOMAIN}"));
    let request =
        request.set("From", &format!("<{me}>;tag={tag}")).set("To", &format!("<{them}>")).aimed_at(&them);
    let watching = alice.subscribe_with(request);
    assert_eq!(
        watching.notify.subscription_state(),
        "active",
        "the one whom bob watches:\n{}",
        watching.notify
    );
    let said = (uri_of(watching.notify.need("From")), uri_of(watching.notify.need("To")));
    assert_eq!(said, (them, me), "{}", watching.notify);
    assert!(watching.response.contact_uri().starts_with("sip:bob@"), "the SIP URI is learnt from Contact");
    // Nobody else's.
    let request = alice.subscribe_request("bob", "presence", 600);
    let request = request.set("From", &format!("<pres:bob@{DOMAIN}>;tag={tag}x"));
    assert_eq!(alice.ask(request).status(), Some(403));
}

fn a_signed_document_is_not_taken_for_a_true_one_rfc3856_9_4(database: Database) {
    let server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let signed = "multipart/signed;protocol=\"application/pkcs7-signature\";micalg=sha-256;boundary=b";
    for kind in [signed, "application/pkcs7-mime;smime-type=signed-data"] {
        let request = bob.publish_request(None, None, 600).body(kind, b"--b\r\n\r\n--b--\r\n");
        let response = bob.ask(request);
        assert_eq!(response.status(), Some(415), "{kind}:\n{response}");
    }
}

over_each_transport!(
    whoever_is_told_by_notify_alone_finds_the_way_back_rfc6665_4_3,
    cancel_of_subscribe_and_notify_is_answered_and_does_nothing_rfc6665_4_6,
    who_watches_may_be_called_by_a_pres_uri_rfc3856_5,
);
on_each_database!(
    nobody_stays_in_the_way_of_a_dialog_that_was_not_recorded_rfc6665_4_3,
    our_contact_is_a_gruu_rfc7621_2,
    presence_is_not_moved_to_a_phone_that_could_serve_it_rfc3856_6_11_2,
    a_signed_document_is_not_taken_for_a_true_one_rfc3856_9_4,
);

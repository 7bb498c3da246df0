//! What a proxy may not touch, and the little that it must (RFC 3261 section 16).

use crate::harness::call::connect;
use crate::harness::message::tag;
use crate::harness::{Database, Phone, Server, Transport};

fn pair(server: &Server, via: Transport) -> (Phone, Phone) {
    let mut alice = Phone::new(server, "alice", via);
    let mut bob = Phone::new(server, "bob", via);
    alice.register();
    bob.register();
    (alice, bob)
}

fn unknown_methods_are_forwarded_rfc3261_7_1(database: Database, via: Transport) {
    let server = Server::start(database);
    let (mut alice, mut bob) = pair(&server, via);
    // The second parser knows no methods but its own.
    (alice.second_opinion, bob.second_opinion) = (false, false);
    for method in ["FOO", "foo", "!interesting-Method0123456789_*+`.%indeed'~"] {
        let to = bob.aor();
        let request = alice.request(method, &to).body("application/x-unknown", b"\0\x01body");
        let request = alice.start(request);
        let arrived = bob.expect_request(method);
        assert_eq!(arrived.body, b"\0\x01body");
        bob.answer(&arrived, 200, "OK");
        alice.expect_status(&request, 200);
    }
}

fn what_the_proxy_does_not_need_passes_though_malformed_rfc3261_16_3(database: Database, via: Transport) {
    let server = Server::start(database);
    let (mut alice, mut bob) = pair(&server, via);
    let date = "Sat, 01 Jan 2005 16:00:00 EST";
    let request = alice
        .message_request("bob", "odd")
        .header("Date", date)
        .header("Retry-After", ",;(")
        .header("Warning", "nonsense");
    let request = alice.start(request);
    let arrived = bob.expect_request("MESSAGE");
    assert_eq!(arrived.need("Date"), date);
    assert_eq!(arrived.need("Retry-After"), ",;(");
    assert_eq!(arrived.need("Warning"), "nonsense");
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&request, 200);
}

fn missing_max_forwards_becomes_70_rfc3261_16_6_3(database: Database) {
    let server = Server::start(database);
    let (mut alice, mut bob) = pair(&server, Transport::Udp);
    let request = alice.message_request("bob", "how far?").without("Max-Forwards");
    let request = alice.start(request);
    let arrived = bob.expect_request("MESSAGE");
    assert_eq!(arrived.rows("Max-Forwards"), ["70"], "{arrived}");
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&request, 200);
}

fn a_length_is_written_for_a_stream_rfc3261_16_6_9(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    bob.register();
    let request = alice.message_request("bob", "to the end of the datagram").without_length();
    let request = alice.start(request);
    let arrived = bob.expect_request("MESSAGE");
    assert_eq!(arrived.rows("Content-Length"), ["26"], "{arrived}");
    assert_eq!(arrived.body, b"to the end of the datagram");
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&request, 200);
}

fn credentials_for_another_realm_go_on_rfc3261_22_3(database: Database, via: Transport) {
    let server = Server::start(database);
    let (mut alice, mut bob) = pair(&server, via);
    let first = alice.message("bob", "to learn the challenge");
    let arrived = bob.expect_request("MESSAGE");
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&first, 200);
    let foreign = "Digest username=\"alice\", realm=\"pbx.example\", nonce=\"n\", uri=\"sip:bob@hither.example\", \
                   response=\"0123456789abcdef0123456789abcdef\"";
    let mut request = alice.message_request("bob", "for you and for them");
    alice.authorize(&mut request, "Proxy-Authorization");
    let request =
        request.header("Proxy-Authorization", foreign).header("Authorization", "Custom opaque-token");
    alice.send(&request);
    let arrived = bob.expect_request("MESSAGE");
    assert_eq!(arrived.rows("Proxy-Authorization"), [foreign], "{arrived}");
    assert_eq!(arrived.rows("Authorization"), ["Custom opaque-token"], "{arrived}");
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&request, 200);
}

fn responses_pass_unchanged_rfc3261_16_7(database: Database, via: Transport) {
    let server = Server::start(database);
    let (mut alice, mut bob) = pair(&server, via);
    let invite = alice.invite("bob");
    let arrived = bob.expect_request("INVITE");
    let mut sent = Vec::new();
    for (status, reason) in
        [(199, "Early Dialog Terminated"), (183, "Session Progress"), (200, "Alles in \u{d6}l")]
    {
        let contact = bob.contact();
        let reply = arrived
            .reply(status, reason)
            .header("Contact", &contact)
            .header("X-Unknown", "a,  b;c=\"d\"")
            .header("Session-Expires", "1800;refresher=uac")
            .body("application/x-unknown", b"\0\r\n\r\nbody");
        sent.push(tag(crate::harness::Message::parse(&reply.bytes()).need("To")));
        if status < 200 {
            bob.send_raw(&reply.bytes());
        } else {
            bob.answer_with(&arrived, reply);
        }
        let passed = alice.expect_status(&invite, status);
        assert!(passed.start.ends_with(reason), "{passed}");
        assert_eq!(passed.to_tag(), sent[0], "the callee's own tag:\n{passed}");
        assert_eq!(passed.need("X-Unknown"), "a,  b;c=\"d\"");
        assert_eq!(passed.need("Session-Expires"), "1800;refresher=uac");
        assert_eq!(passed.body, b"\0\r\n\r\nbody");
        assert_eq!(passed.list("Via").len(), 1, "{passed}");
        assert_eq!(passed.list("Contact"), [contact], "{passed}");
    }
    assert!(sent.iter().all(|one| *one == sent[0]));
}

fn every_method_passes_inside_a_dialog_rfc3262_and_others(database: Database, via: Transport) {
    let server = Server::start(database);
    let (mut alice, mut bob) = pair(&server, via);
    let (caller, callee) = connect(&mut alice, &mut bob);
    // The second parser knows no methods but its own.
    (alice.second_opinion, bob.second_opinion) = (false, false);
    for method in ["PRACK", "UPDATE", "INFO", "REFER", "MESSAGE", "NOTIFY", "OPTIONS", "FOO", "BYE"] {
        let (from, dialog, to) = if method == "NOTIFY" {
            (&mut bob, &callee, &mut alice)
        } else {
            (&mut alice, &caller, &mut bob)
        };
        let request = from
            .in_dialog(dialog, method)
            .header("RAck", "776656 1 INVITE")
            .header("Refer-To", "<sip:carol@hither.example>")
            .header("Event", "refer")
            .header("Subscription-State", "active;expires=60")
            .body("application/x-unknown", b"\0any\xff");
        from.send(&request);
        let arrived = to.expect_request(method);
        assert_eq!(arrived.body, b"\0any\xff", "{method}");
        assert_eq!(arrived.uri(), to.contact_uri(), "{arrived}");
        assert_eq!(arrived.need("RAck"), "776656 1 INVITE");
        to.answer(&arrived, 200, "OK");
        from.expect_status(&request, 200);
    }
}

fn a_merged_request_is_no_error_for_a_proxy_rfc3261_16_3(database: Database) {
    let server = Server::start(database);
    let (mut alice, mut bob) = pair(&server, Transport::Udp);
    let first = alice.invite("bob");
    let one = bob.expect_request("INVITE");
    // The other branch of a fork upstream: the same From tag, Call-ID and CSeq, another branch.
    let mut second = first.clone().set("Via", &alice.via());
    alice.authorize(&mut second, "Proxy-Authorization");
    alice.send(&second);
    let two = bob.expect_request("INVITE");
    assert_ne!(one.branch(), two.branch());
    bob.answer(&one, 486, "Busy Here");
    bob.answer(&two, 482, "Loop Detected");
    alice.expect_status(&first, 486);
    alice.expect_status(&second, 482);
}

fn require_in_cancel_is_ignored_rfc3261_8_2_2_3(database: Database, via: Transport) {
    let server = Server::start(database);
    let (mut alice, mut bob) = pair(&server, via);
    let invite = alice.invite("bob");
    let arrived = bob.expect_request("INVITE");
    bob.ring(&arrived);
    alice.expect_status(&invite, 180);
    let mut cancel = alice.request("CANCEL", &invite.uri);
    for name in ["Via", "From", "To", "Call-ID"] {
        cancel = cancel.set(name, invite.get(name));
    }
    let cancel = cancel
        .set("CSeq", &format!("{} CANCEL", invite.cseq()))
        .header("Require", "teleport")
        .header("Proxy-Require", "teleport");
    alice.send(&cancel);
    alice.expect_status(&cancel, 200);
    let cancelled = bob.expect_request("CANCEL");
    bob.answer(&cancelled, 200, "OK");
    bob.answer(&arrived, 487, "Request Terminated");
    alice.expect_status(&invite, 487);
}

fn provisionals_to_a_non_invite_stay_here_rfc4320_4_1(database: Database, via: Transport) {
    let server = Server::start(database);
    let (mut alice, mut bob) = pair(&server, via);
    let request = alice.message("bob", "in a moment");
    let arrived = bob.expect_request("MESSAGE");
    for (status, reason) in [(100, "Trying"), (180, "Ringing"), (183, "Session Progress")] {
        bob.send_raw(&arrived.reply(status, reason).bytes());
    }
    alice.expect_nothing_more();
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&request, 200);
    alice.expect_nothing_more();
}

fn our_requests_ask_for_rport_rfc3581_3(database: Database) {
    let server = Server::start(database);
    let (mut alice, mut bob) = pair(&server, Transport::Udp);
    let request = alice.message("bob", "where from?");
    let arrived = bob.expect_request("MESSAGE");
    assert!(arrived.list("Via")[0].split(';').any(|p| p.trim() == "rport"), "{arrived}");
    bob.answer(&arrived, 200, "OK");
    alice.expect_status(&request, 200);
}

over_each_transport!(
    unknown_methods_are_forwarded_rfc3261_7_1,
    what_the_proxy_does_not_need_passes_though_malformed_rfc3261_16_3,
    credentials_for_another_realm_go_on_rfc3261_22_3,
    responses_pass_unchanged_rfc3261_16_7,
    every_method_passes_inside_a_dialog_rfc3262_and_others,
    require_in_cancel_is_ignored_rfc3261_8_2_2_3,
    provisionals_to_a_non_invite_stay_here_rfc4320_4_1,
);
on_each_database!(
    missing_max_forwards_becomes_70_rfc3261_16_6_3,
    a_length_is_written_for_a_stream_rfc3261_16_6_9,
    a_merged_request_is_no_error_for_a_proxy_rfc3261_16_3,
    our_requests_ask_for_rport_rfc3581_3,
);

//! What the server says about itself, and how it answers at all (RFC 3261 sections 8.2, 11).

use crate::harness::message::param;
use crate::harness::socket::has_ipv6;
use crate::harness::{DOMAIN, Database, Phone, Server, Transport};

fn options_to_the_server_lists_what_it_can_rfc3261_11_2(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut anyone = Phone::new(&server, "alice", via);
    let response = anyone.options();
    assert_eq!(response.status(), Some(200), "no credentials needed:\n{response}");
    let allow = response.list("Allow");
    for method in ["INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "REGISTER", "SUBSCRIBE", "PUBLISH", "MESSAGE"]
    {
        assert!(allow.iter().any(|a| a == method), "Allow lacks {method}:\n{response}");
    }
    assert!(response.list("Allow-Events").iter().any(|event| event == "presence"), "{response}");
    for header in ["Accept", "Accept-Encoding", "Accept-Language", "Supported"] {
        assert!(response.header(header).is_some(), "{header} in\n{response}");
    }
}

fn response_copies_via_from_call_id_cseq_rfc3261_8_2_6_2(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut anyone = Phone::new(&server, "alice", via);
    let second_via = "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKupstream";
    let request = anyone.request("OPTIONS", &format!("sip:{DOMAIN}")).header("Via", second_via);
    let response = anyone.transact(&request);
    assert_eq!(response.rows("Via").len(), 2, "{response}");
    assert_eq!(response.rows("Via")[1], second_via, "{response}");
    for name in ["From", "Call-ID", "CSeq"] {
        assert_eq!(response.need(name), request.get(name), "{response}");
    }
    assert!(response.to_tag().is_some_and(|tag| tag.len() >= 8), "{response}");
    assert_eq!(response.need("Content-Length"), "0", "{response}");
}

fn options_over_ipv6_is_answered_rfc5954(database: Database) {
    if !has_ipv6() {
        return;
    }
    let server = Server::start(database);
    for via in [Transport::Udp6, Transport::Tcp6] {
        let mut anyone = Phone::new(&server, "alice", via);
        let response = anyone.options();
        assert_eq!(response.status(), Some(200), "{response}");
        let received = param(response.need("Via"), "received").unwrap_or_default();
        assert!(received == "::1" || received == "[::1]", "{response}");
    }
}

fn rport_with_a_value_is_overwritten_rfc3581_4(database: Database) {
    let server = Server::start(database);
    let mut anyone = Phone::new(&server, "alice", Transport::Udp);
    let request = anyone.request("OPTIONS", &format!("sip:{DOMAIN}"));
    let via = request.get("Via").replace(";rport", ";rport=1");
    let response = anyone.transact(&request.set("Via", &via));
    assert_eq!(param(response.need("Via"), "rport"), Some(anyone.local.port().to_string()), "{response}");
}

fn compact_and_folded_headers_are_the_same_rfc3261_7_3(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut anyone = Phone::new(&server, "alice", via);
    let text = format!(
        "OPTIONS sip:{DOMAIN} sip/2.0\r\nv : SIP / 2.0 / {}\r\n {};branch=z9hG4bKfold;rport\r\nf: <sip:x@192.0.2.1>\r\n\t;tag=f1\r\n\
         t:sip:{DOMAIN}\r\ni: folded\r\nCSEQ:  7\r\n OPTIONS\r\nmax-forwards: 70\r\nl:0\r\n\r\n",
        via.token(),
        anyone.local
    );
    anyone.send_raw(text.as_bytes());
    let response = anyone.expect("200", |m| m.call_id() == "folded");
    assert_eq!(response.status(), Some(200), "{response}");
    assert!(
        response.start.starts_with("SIP/2.0 200"),
        "the version is written in capitals: {}",
        response.start
    );
    assert_eq!(response.cseq(), 7);
}

fn unknown_version_is_505_rfc3261_7_1(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut anyone = Phone::new(&server, "alice", via);
    let request = anyone.request("OPTIONS", &format!("sip:{DOMAIN}"));
    let text = String::from_utf8(request.bytes()).expect("text").replacen("SIP/2.0\r\n", "SIP/7.0\r\n", 1);
    anyone.send_raw(text.as_bytes());
    let response = anyone.expect_final(&request);
    assert_eq!(response.status(), Some(505), "{response}");
}

fn unknown_method_to_the_server_has_an_allow_rfc3261_8_2_1(database: Database, via: Transport) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", via);
    for method in ["FOO", "INFO"] {
        let request = alice.request(method, &format!("sip:{DOMAIN}"));
        let response = alice.ask(request);
        assert!(matches!(response.status(), Some(405 | 501)), "{method}:\n{response}");
        assert!(!response.list("Allow").is_empty(), "{response}");
    }
}

fn unknown_scheme_is_416_rfc3261_8_2_2_1(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let request = alice
        .request("OPTIONS", "nobodyKnowsThisScheme:totallyopaquecontent")
        .set("To", &format!("<sip:{DOMAIN}>"));
    let response = alice.transact(&request);
    assert!(matches!(response.status(), Some(416)), "{response}");
}

fn max_forwards_zero_is_483_rfc3261_16_3(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    bob.register();
    let request = alice.message_request("bob", "no further").set("Max-Forwards", "0");
    let response = alice.ask(request);
    assert_eq!(response.status(), Some(483), "{response}");
    bob.expect_nothing_more();
}

fn proxy_require_is_420_rfc3261_16_3(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    bob.register();
    let request =
        alice.message_request("bob", "x").header("Proxy-Require", "teleport").header("Require", "other");
    let response = alice.ask(request);
    assert_eq!(response.status(), Some(420), "{response}");
    assert_eq!(response.list("Unsupported"), ["teleport"], "Require is not the proxy's:\n{response}");
    bob.expect_nothing_more();
}

fn stray_cancel_is_481_rfc3261_9_2(database: Database) {
    let server = Server::start(database);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let invite = alice.invite_request("bob");
    let cancel = alice.cancel(&invite);
    let response = alice.expect_final(&cancel);
    assert_eq!(response.status(), Some(481), "{response}");
}

fn keep_alives_are_answered_or_ignored_rfc5626_4_4(database: Database) {
    let server = Server::start(database);
    let mut udp = Phone::new(&server, "alice", Transport::Udp);
    udp.send_raw(b"\r\n\r\n");
    udp.send_raw(b"\0");
    assert_eq!(udp.options().status(), Some(200));
    let mut tcp = Phone::new(&server, "alice", Transport::Tcp);
    tcp.send_raw(b"\r\n\r\n");
    assert_eq!(tcp.options().status(), Some(200), "a ping before a request is no garbage");
}

over_each_transport!(
    options_to_the_server_lists_what_it_can_rfc3261_11_2,
    response_copies_via_from_call_id_cseq_rfc3261_8_2_6_2,
    compact_and_folded_headers_are_the_same_rfc3261_7_3,
    unknown_version_is_505_rfc3261_7_1,
    unknown_method_to_the_server_has_an_allow_rfc3261_8_2_1,
);
on_each_database!(
    options_over_ipv6_is_answered_rfc5954,
    rport_with_a_value_is_overwritten_rfc3581_4,
    unknown_scheme_is_416_rfc3261_8_2_2_1,
    max_forwards_zero_is_483_rfc3261_16_3,
    proxy_require_is_420_rfc3261_16_3,
    stray_cancel_is_481_rfc3261_9_2,
    keep_alives_are_answered_or_ignored_rfc5626_4_4,
);

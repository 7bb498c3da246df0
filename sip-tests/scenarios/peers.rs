//! Machines that the operator believes without a password, and everybody else who says to be one (A17, A18, RFC 3325).

use crate::harness::message::Message;
use crate::harness::phone::aor;
use crate::harness::socket::has_ipv6;
use crate::harness::{Database, Phone, Request, Server, Transport};

const TYPE: &str = "application/simple-message-summary";
const WAITING: &str = "Messages-Waiting: yes\r\nVoice-Message: 3/0\r\n";

/// With one peer, at this address, that may do this.
fn server(database: Database, address: &str, may: &str) -> Server {
    Server::with(database, |config| {
        let text = format!("peers = [{{ name = \"mailbox\", addresses = [\"{address}\"], {may} }}]");
        let table: toml::Table = text.parse().expect("TOML");
        config.set("peers", table["peers"].clone());
    })
}

const MAILBOX: &str = "publish = [\"message-summary\"]";

/// A PUBLISH of a mailbox, which is nobody's phone.
fn summary(phone: &mut Phone, user: &str, text: &str) -> Request {
    phone
        .publish_request(None, None, 600)
        .aimed_at(&aor(user))
        .set("To", &format!("<{}>", aor(user)))
        .set("From", "<sip:mailbox@voicemail.example>;tag=mb1")
        .set("Event", "message-summary")
        .body(TYPE, text.as_bytes())
}

/// What is shown to the owner.
fn shown(phone: &mut Phone) -> String {
    let target = phone.user.clone();
    let request = phone.subscribe_request(&target, "message-summary", 0).set("Accept", TYPE);
    phone.subscribe_with(request).notify.body_text()
}

fn is_challenged(response: &Message) -> bool {
    matches!(response.status(), Some(401 | 407))
        && (response.header("WWW-Authenticate").is_some() || response.header("Proxy-Authenticate").is_some())
}

fn a_mailbox_publishes_for_every_user_without_a_password_rfc3903_14_1(database: Database) {
    let server = server(database, "127.0.0.1", MAILBOX);
    let mut mailbox = Phone::new(&server, "mailbox", Transport::Tcp);
    for user in ["bob", "carol"] {
        let mut owner = Phone::new(&server, user, Transport::Tcp);
        let request = owner.subscribe_request(user, "message-summary", 600).set("Accept", TYPE);
        let watching = owner.subscribe_with(request);
        let request = summary(&mut mailbox, user, WAITING);
        let response = mailbox.transact(&request);
        assert_eq!(response.status(), Some(200), "{response}");
        let told = owner.expect_notify(&watching.call_id);
        assert!(told.body_text().contains("Voice-Message: 3/0"), "{told}");
        // It goes on with its publication as anybody does.
        let tag = response.need("SIP-ETag").to_string();
        let heard = "Messages-Waiting: no\r\nVoice-Message: 0/3\r\n";
        let request = summary(&mut mailbox, user, heard).header("SIP-If-Match", &tag);
        let response = mailbox.transact(&request);
        assert_eq!(response.status(), Some(200), "{response}");
        let told = owner.expect_notify(&watching.call_id);
        assert!(told.body_text().contains("Voice-Message: 0/3"), "{told}");
    }
    // It is told what is wrong, instead of being asked who it is.
    let request = summary(&mut mailbox, "nobody", WAITING);
    assert_eq!(mailbox.transact(&request).status(), Some(404));
    let request = summary(&mut mailbox, "bob", WAITING).set("Event", "weather");
    assert_eq!(mailbox.transact(&request).status(), Some(489));
    let request = summary(&mut mailbox, "bob", "nonsense");
    assert_eq!(mailbox.transact(&request).status(), Some(400));
}

fn after_a_restart_a_mailbox_finds_its_users_rfc3903_6(database: Database) {
    let mut server = server(database, "127.0.0.1", MAILBOX);
    for round in 1..=3 {
        server.kill9();
        server.restart();
        // At once: homes are still being read.
        let mut mailbox = Phone::new(&server, "mailbox", Transport::Tcp);
        let request = summary(&mut mailbox, "bob", WAITING);
        let response = mailbox.transact(&request);
        assert_eq!(response.status(), Some(200), "{response}");
        let mut bob = Phone::new(&server, "bob", Transport::Tcp);
        assert!(shown(&mut bob).contains(&format!("Voice-Message: {}/0", 3 * round)), "each added one");
    }
}

fn over_udp_a_peer_is_believed_only_if_it_is_said_a18(database: Database) {
    let with_streams_alone = server(database, "127.0.0.1", MAILBOX);
    let mut forger = Phone::new(&with_streams_alone, "mailbox", Transport::Udp);
    let request = summary(&mut forger, "bob", WAITING);
    let response = forger.transact(&request);
    assert!(is_challenged(&response), "{response}");
    let mut bob = Phone::new(&with_streams_alone, "bob", Transport::Udp);
    assert!(shown(&mut bob).starts_with("Messages-Waiting: no"));

    let server = server(database, "127.0.0.1", &format!("udp = true, {MAILBOX}"));
    assert!(server.log().contains("`mailbox` is believed over UDP"), "{}", server.log());
    let mut mailbox = Phone::new(&server, "mailbox", Transport::Udp);
    mailbox.show_retransmissions = true;
    let request = summary(&mut mailbox, "bob", WAITING);
    let first = mailbox.transact(&request);
    assert_eq!(first.status(), Some(200), "{first}");
    let again = mailbox.transact(&request);
    assert_eq!(first.raw, again.raw, "a repetition is not done twice");
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    assert!(shown(&mut bob).contains("Voice-Message: 3/0"));
}

fn an_address_that_is_only_written_proves_nothing_a18(database: Database) {
    let server = server(database, "127.0.0.1", &format!("udp = true, assert_identity = true, {MAILBOX}"));
    let mut forgers = vec![Phone::at(&server, "bob", "127.0.0.2:0".parse().expect("an address"))];
    if has_ipv6() {
        forgers.push(Phone::new(&server, "bob", Transport::Tcp6));
    }
    for forger in &mut forgers {
        let branch = |request: &Request| request.branch();
        let claim = |request: Request| {
            let (branch, transport) =
                (branch(&request), request.get("Via").split(' ').next().unwrap_or_default().to_string());
            request
                .set("Via", &format!("{transport} 127.0.0.1:5060;branch={branch};received=127.0.0.1;rport"))
                .set("Contact", "<sip:mailbox@127.0.0.1:5060>")
                .header("P-Asserted-Identity", &format!("<{}>", aor("bob")))
                .header("X-Forwarded-For", "127.0.0.1")
                .header("X-Real-IP", "127.0.0.1")
        };
        let published = claim(summary(forger, "bob", WAITING));
        let asked = claim(forger.subscribe_request("bob", "message-summary", 600).set("Accept", TYPE));
        let written = claim(forger.message_request("carol", "from bob, I swear"));
        for request in [published, asked, written] {
            let response = forger.transact(&request);
            assert!(is_challenged(&response), "{}:\n{response}", request.method);
        }
        forger.expect_nothing_more();
    }
    let mut bob = Phone::new(&server, "bob", Transport::Tcp);
    assert!(shown(&mut bob).starts_with("Messages-Waiting: no"));
}

fn a_peer_may_do_no_more_than_it_was_told_a17(database: Database) {
    for (may, may_publish) in [("udp = false", false), (MAILBOX, true)] {
        let server = server(database, "127.0.0.1", may);
        let mut mailbox = Phone::new(&server, "mailbox", Transport::Tcp);
        let asserted = format!("<{}>", aor("bob"));
        let document = crate::harness::documents::pidf("bob", "t1", "open", "forged");
        let request = summary(&mut mailbox, "bob", WAITING);
        let response = mailbox.transact(&request);
        assert_eq!(response.status() == Some(200), may_publish, "{response}");
        assert!(may_publish || is_challenged(&response), "{response}");
        let presence = summary(&mut mailbox, "bob", "")
            .set("Event", "presence")
            .body("application/pidf+xml", document.as_bytes());
        let watched = mailbox.subscribe_request("bob", "message-summary", 600).set("Accept", TYPE);
        let registered = mailbox
            .register_request()
            .set("To", &asserted)
            .set("From", &format!("{asserted};tag=r"))
            .header("Contact", "<sip:mailbox@127.0.0.1:5060;transport=tcp>");
        let written = mailbox.message_request("bob", "hello");
        for request in [presence, watched, registered, written] {
            let request = request.header("P-Asserted-Identity", &asserted);
            let response = mailbox.transact(&request);
            assert!(is_challenged(&response), "{}:\n{response}", request.method);
        }
        // Who logs in is a user like any other.
        let mut alice = Phone::new(&server, "alice", Transport::Tcp);
        let request = alice.register_request();
        let challenge = alice.transact(&request);
        alice.learn(&challenge);
        let mut request =
            summary(&mut alice, "bob", WAITING).set("From", &format!("<{}>;tag=a", aor("alice")));
        alice.authorize(&mut request, "Authorization");
        let response = alice.transact(&request);
        assert_eq!(response.status(), Some(403), "{response}");
    }
}

fn an_asserted_identity_is_believed_from_a_trusted_peer_rfc3325_5(database: Database) {
    let server = server(database, "127.0.0.1", "assert_identity = true");
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    bob.register();
    let mut trunk = Phone::new(&server, "alice", Transport::Tcp);
    let alice = format!("\"Alice\" <{}>", aor("alice"));
    let say = |request: Request, who: &str| request.header("P-Asserted-Identity", who);
    // Watching, and going on watching.
    let request = trunk.subscribe_request("alice", "message-summary", 600).set("Accept", TYPE);
    let watching = trunk.subscribe_with(say(request, &alice));
    assert!(watching.notify.body_text().starts_with("Messages-Waiting: no"), "{}", watching.notify);
    let refresh =
        trunk.resubscribe_request(&watching, 900).set("Event", "message-summary").set("Accept", TYPE);
    let response = trunk.transact(&say(refresh, &alice));
    assert_eq!(response.status(), Some(200), "{response}");
    trunk.expect_notify(&watching.call_id);
    // Publishing for oneself alone.
    let publication = |trunk: &mut Phone, user: &str| {
        summary(trunk, user, WAITING).set("From", &format!("<{}>;tag=p", aor("alice")))
    };
    for (user, status) in [("alice", 200), ("bob", 403)] {
        let request = say(publication(&mut trunk, user), &alice);
        let response = trunk.transact(&request);
        assert_eq!(response.status(), Some(status), "{response}");
    }
    trunk.expect_notify(&watching.call_id);
    // Writing: with a tel URI beside, the SIP URI counts. Who it is stays between the two of us.
    let request = trunk.message_request("bob", "from the trunk");
    let request = say(request, &format!("<tel:+12015550123>, {alice}"));
    trunk.send(&request);
    let message = bob.expect_request("MESSAGE");
    assert_eq!(message.body_text(), "from the trunk");
    assert_eq!(message.header("P-Asserted-Identity"), None, "{message}");
    bob.answer(&message, 200, "OK");
    assert_eq!(trunk.expect_final(&request).status(), Some(200));
    // From is that user's own, as for everybody.
    let request =
        say(trunk.message_request("bob", "x").set("From", &format!("<{}>;tag=c", aor("carol"))), &alice);
    assert_eq!(trunk.transact(&request).status(), Some(403));
    // What names nobody here, or not one, proves nothing (9.1).
    let [alice, bob_too] = ["alice", "bob"].map(aor);
    for who in [
        format!("<{}>", aor("nobody")),
        "<sip:alice@elsewhere.example>".to_string(),
        "<tel:+12015550123>".to_string(),
        format!("<{alice}>, <{bob_too}>"),
        format!("<{alice}>, <tel:+1201>, <tel:+1202>"),
        "<sip:alice".to_string(),
    ] {
        let request = say(trunk.message_request("bob", "x"), &who);
        let response = trunk.transact(&request);
        assert!(is_challenged(&response), "{who}:\n{response}");
    }
    // A registration is a matter of passwords.
    let contact = trunk.contact();
    let request = say(trunk.register_request().header("Contact", &contact), &format!("<{alice}>"));
    assert!(is_challenged(&trunk.transact(&request)));
    // Wrong credentials are wrong, whoever brings them.
    let wrong = "Digest username=\"alice\", realm=\"hither.example\", nonce=\"x\", uri=\"sip:bob@hither.example\", response=\"y\"";
    let request = say(trunk.message_request("bob", "x"), &format!("<{alice}>"));
    assert!(is_challenged(&trunk.transact(&request.header("Proxy-Authorization", wrong))));
    // The same words over UDP.
    let mut forger = Phone::new(&server, "alice", Transport::Udp);
    let request = say(forger.message_request("bob", "x"), &format!("<{alice}>"));
    assert!(is_challenged(&forger.transact(&request)));
    bob.expect_nothing_more();
}

on_each_database!(
    a_mailbox_publishes_for_every_user_without_a_password_rfc3903_14_1,
    after_a_restart_a_mailbox_finds_its_users_rfc3903_6,
    over_udp_a_peer_is_believed_only_if_it_is_said_a18,
    an_address_that_is_only_written_proves_nothing_a18,
    a_peer_may_do_no_more_than_it_was_told_a17,
    an_asserted_identity_is_believed_from_a_trusted_peer_rfc3325_5,
);

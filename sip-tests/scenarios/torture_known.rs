//! The torture messages that a stranger is only asked for credentials, sent again by a user of the server: what the application layer owes them
//! (RFC 4475 sections 3.1.1 and 3.3, RFC 5118 section 4).

use std::time::Duration;

use super::torture::{at_sent_by, read_file, with_true_length};
use crate::harness::message::find;
use crate::harness::phone::unique;
use crate::harness::server::password_of;
use crate::harness::{DOMAIN, Database, Message, Phone, Server, Transport};

/// Users that the messages come from and go to, beside those of every server.
const USERS: [&str; 10] =
    ["user", "caller", "jdrosen", "vivekg", "mundane", "fluffy", "kumiko", "watson", "j.user", "UserB"];

fn server() -> Server {
    let server = Server::with(Database::Sqlite, |config| {
        config.set(
            "aliases",
            vec![
                "example.com",
                "example.org",
                "example.net",
                "chair-dnrc.example.com",
                "services.example.com",
                "east.example.com",
                "ift.client.example.net",
                "[2001:db8::10]",
                "[2001:db8::10:5070]",
                "[2001:db8::c000:201]",
            ],
        );
    });
    USERS.iter().for_each(|user| server.add_user(user));
    server.add_user("+13035551111");
    server
}

fn rfc4475(name: &str) -> Vec<u8> {
    read_file("rfc4475", &format!("{name}.dat"))
}

fn rfc5118(name: &str) -> Vec<u8> {
    with_true_length(read_file("rfc5118", name))
}

/// The message with this text in the place of that, which must be there.
fn with(message: &[u8], that: &str, this: &str) -> Vec<u8> {
    let at = find(message, that.as_bytes()).unwrap_or_else(|| panic!("no {that:?}"));
    [&message[..at], this.as_bytes(), &message[at + that.len()..]].concat()
}

/// The message with a branch of its own, so that it is nobody's retransmission: files share theirs.
fn anew(message: &[u8]) -> Vec<u8> {
    const COOKIE: &str = "branch=z9hG4bK";
    match find(message, COOKIE.as_bytes()).map(|at| at + COOKIE.len()) {
        Some(at) if message[at].is_ascii_alphanumeric() => {
            [&message[..at], unique("n").as_bytes(), &message[at..]].concat()
        }
        // Without cookie, or with nothing but the cookie, other headers tell requests apart.
        _ => message.to_vec(),
    }
}

/// A message that was sent with credentials.
struct Sent {
    phone: Phone,
    call_id: String,
}

impl Sent {
    /// Its final response; what comes again for an earlier one is passed over.
    fn answer(&mut self) -> Message {
        let call_id = self.call_id.clone();
        self.phone.expect("a final response", |m| {
            m.status().is_some_and(|status| status >= 200) && m.call_id() == call_id
        })
    }
}

/// Sends it as `user`: first as it is, then with the credentials that were asked for.
fn send_as(server: &Server, via: Transport, user: &str, message: &[u8]) -> Sent {
    let message = anew(message);
    let mut phone = match via {
        Transport::Udp => at_sent_by(server, &message),
        via => Phone::new(server, user, via),
    };
    (phone.user, phone.password) = (user.into(), password_of(user));
    phone.second_opinion = false;
    phone.send_raw(&message);
    let head = String::from_utf8_lossy(&message).into_owned();
    let call_id = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        matches!(name.trim().to_ascii_lowercase().as_str(), "call-id" | "i").then(|| value.trim().to_string())
    });
    let mut sent = Sent { phone, call_id: call_id.expect("a Call-ID") };
    let challenge = sent.answer();
    let header = sent.phone.learn(&challenge);
    let line_end = find(&message, b"\r\n").expect("a line") + 2;
    let mut words = head.split(' ');
    let (method, uri) = (words.next().expect("a method"), words.next().expect("a URI"));
    let challenge = sent.phone.challenges.get_mut(header).expect("learned");
    let credentials = challenge.answer(user, &password_of(user), method, uri);
    let row = format!("{header}: {credentials}\r\n");
    sent.phone.send_raw(&[&message[..line_end], row.as_bytes(), &message[line_end..]].concat());
    sent
}

/// Sends it as `from`; it arrives at a phone of `to`, whose answer comes back. Gives what arrived.
fn delivered(
    server: &Server,
    via: Transport,
    from: &str,
    to: &str,
    message: &[u8],
    answer: (u16, &str),
) -> Message {
    let mut callee = Phone::new(server, to, Transport::Tcp);
    callee.password = password_of(to);
    callee.register();
    callee.second_opinion = false;
    let mut caller = send_as(server, via, from, message);
    let arrived = callee.expect("the request", |m| m.status().is_none());
    callee.answer(&arrived, answer.0, answer.1);
    let back = caller.answer();
    assert_eq!(back.status(), Some(answer.0), "{back}");
    let body = find(message, b"\r\n\r\n").map_or(&[][..], |at| &message[at + 4..]);
    assert_eq!(arrived.body, body, "the body is the callee's, byte for byte");
    assert_eq!(arrived.rows("Proxy-Authorization").len(), 0, "{arrived}");
    if arrived.method() == "INVITE" && answer.0 >= 300 {
        callee.expect_request("ACK");
    }
    callee.expect_nothing_more();
    let contact = callee.contact();
    callee.register_contact(&contact, Some(0));
    arrived
}

fn on_both(test: impl Fn(&Server, Transport)) {
    for via in [Transport::Udp, Transport::Tcp] {
        test(&server(), via);
    }
}

#[test]
fn a_short_tortuous_invite_is_forwarded_whole_rfc4475_3_1_1_1() {
    on_both(|server, via| {
        // As it stands it belongs to a dialog that nobody knows (481); without the tag it begins one.
        let message = with(&rfc4475("wsinv"), " ;   tag    = 1918181833n", "");
        let arrived = delivered(server, via, "jdrosen", "vivekg", &message, (486, "Busy Here"));
        assert_eq!(arrived.need("Max-Forwards"), "67");
        assert_eq!(arrived.need("Subject"), "");
        assert_eq!(arrived.need("UnknownHeaderWithUnusualValue"), ";;,,;;,;");
        assert_eq!(
            arrived.need("NewFangledHeader").split_whitespace().collect::<Vec<_>>().join(" "),
            "newfangled value continued newfangled value"
        );
        assert!(arrived.need("From").contains("\"J Rosenberg \\\\\\\"\""), "{arrived}");
        assert_eq!(arrived.tag_in_from().as_deref(), Some("98asjd8"));
        assert_eq!(arrived.list("Via").len(), 4, "{arrived}");
        assert!(arrived.rows("Route").is_empty(), "its Route was us:\n{arrived}");
    });
}

#[test]
fn unusual_names_are_looked_up_as_they_are_rfc4475_3_1_1() {
    on_both(|server, via| {
        for (name, from) in [
            // 3.1.1.2: nobody of that name.
            ("intmeth", "mundane"),
            // 3.1.1.9: the user is `user;par=u@example.net`, not `user`.
            ("semiuri", "caller"),
        ] {
            let answer = send_as(server, via, from, &rfc4475(name)).answer();
            assert_eq!(answer.status(), Some(404), "{name}:\n{answer}");
        }
        // 3.1.1.3: the user is `sips:user@example.com`, not `user`. No account has spaces in its name.
        let message = with(&rfc4475("esc01"), "I%20have%20spaces", "c%61ller");
        let answer = send_as(server, via, "caller", &message).answer();
        assert_eq!(answer.status(), Some(404), "{answer}");
    });
}

#[test]
fn what_is_lawful_is_forwarded_without_loss_rfc4475_3_1_1() {
    on_both(|server, via| {
        let options = |name| delivered(server, via, "caller", "user", &rfc4475(name), (200, "OK"));
        // 3.1.1.6: no white space before `<`.
        assert_eq!(options("lwsdisp").need("From"), "caller<sip:caller@example.com>;tag=323");
        // 3.1.1.10: transports nobody knows, below the one that sent it.
        let vias = options("transports").list("Via");
        let below: Vec<_> = vias[2..].iter().map(|via| via.split(' ').next().unwrap_or("")).collect();
        assert_eq!(below, ["SIP/2.0/SCTP", "SIP/2.0/TLS", "SIP/2.0/UNKNOWN", "SIP/2.0/TCP"]);
        // 3.2.1: a cookie with nothing after it.
        assert!(options("badbranch").list("Via")[1].contains("branch=z9hG4bK"));
    });
}

#[test]
fn long_values_are_forwarded_whole_rfc4475_3_1_1_7() {
    on_both(|server, via| {
        // No account has a name of 115 characters.
        let long = "amazinglylongcallername".repeat(5);
        let message = with(&rfc4475("longreq"), &long, "caller");
        let arrived = delivered(server, via, "caller", "user", &message, (486, "Busy Here"));
        assert_eq!(arrived.list("Via").len(), 34 + 1, "{arrived}");
        assert!(arrived.need("To").starts_with("\"I have a user name of extremeextreme"));
        assert!(arrived.headers.iter().any(|(name, _)| name.len() > 60), "the long header name is kept");
    });
}

#[test]
fn what_follows_in_the_datagram_is_nothing_rfc4475_3_1_1_8() {
    let server = server();
    let mut sent = send_as(&server, Transport::Udp, "j.user", &rfc4475("dblreq"));
    let answer = sent.answer();
    assert_eq!((answer.status(), answer.method()), (Some(200), "REGISTER"), "{answer}");
    assert!(
        sent.phone.await_within(Duration::from_millis(200), |_| true).is_none(),
        "the INVITE was no request"
    );
}

#[test]
fn binary_parts_are_forwarded_byte_for_byte_rfc4475_3_1_1_11() {
    on_both(|server, via| {
        // Its Route leads elsewhere, which no stranger may ask for (403); with the way of this server it goes on.
        let own = format!("Route: <sip:{};lr>", server.address(via));
        let message = with(&rfc4475("mpart01"), "Route: <sip:127.0.0.1:5080>", &own);
        let arrived = delivered(server, via, "fluffy", "kumiko", &message, (200, "OK"));
        assert_eq!(arrived.need("Content-Type"), "multipart/mixed;boundary=7a9cbec02ceef655");
        assert_eq!(arrived.need("Content-Transfer-Encoding"), "binary");
        assert!(arrived.need("Identity").starts_with("r5mwreLuyDRYBi/0TiPwEsY3rEVsk"));
    });
}

#[test]
fn what_is_for_the_callee_is_left_to_the_callee_rfc4475_3_3() {
    on_both(|server, via| {
        let to_user = |name, answer| delivered(server, via, "caller", "user", &rfc4475(name), answer);
        // 3.1.2.12: nobody here needs the Date.
        assert_eq!(to_user("baddate", (486, "Busy Here")).need("Date"), "Fri, 01 Jan 2010 16:00:00 EST");
        // 3.3.6: as any other INVITE.
        let arrived = to_user("invut", (415, "Unsupported Media Type"));
        assert_eq!(arrived.need("Content-Type"), "application/unknownformat");
        // 3.3.15: the recipient's to refuse.
        assert_eq!(to_user("sdp01", (406, "Not Acceptable")).need("Accept"), "text/nobodyKnowsThis");
    });
}

#[test]
fn an_invite_of_rfc2543_is_forwarded_rfc4475_3_4_1() {
    let server = server();
    let message = rfc4475("inv2543");
    let arrived = delivered(&server, Transport::Udp, "+13035551111", "UserB", &message, (486, "Busy Here"));
    assert_eq!(arrived.need("Max-Forwards"), "70");
    assert_eq!(arrived.need("From"), "<sip:+13035551111@ift.client.example.net;user=phone>");
    assert!(
        arrived.list("Record-Route").contains(&"<sip:UserB@example.com;maddr=ss1.example.com>".to_string())
    );
}

fn contacts(server: &Server, user: &str) -> Vec<String> {
    let mut phone = Phone::new(server, user, Transport::Tcp);
    phone.password = password_of(user);
    phone.fetch_contacts()
}

#[test]
fn parameters_of_header_and_uri_are_told_apart_rfc4475_3_3_12_and_3_3_13() {
    on_both(|server, via| {
        for (name, starts) in [
            ("cparam01", "<sip:+19725552222@gw1.example.net>;unknownparam;"),
            ("cparam02", "<sip:+19725552222@gw1.example.net;unknownparam>;"),
        ] {
            // An unknown URI parameter makes no other URI of it (RFC 3261 19.1.4): one binding, over and over.
            let message = with(&rfc4475(name), "Call-ID: ", &format!("Call-ID: {via:?}"));
            let answer = send_as(server, via, "watson", &message).answer();
            assert_eq!(answer.status(), Some(200), "{name}:\n{answer}");
            for contacts in [answer.list("Contact"), contacts(server, "watson")] {
                assert_eq!(contacts.len(), 1, "{contacts:?}");
                assert!(contacts[0].starts_with(starts), "{name}: {contacts:?}");
            }
        }
    });
}

#[test]
fn an_escaped_header_in_a_contact_is_kept_rfc4475_3_3_14() {
    on_both(|server, via| {
        // As it stands the Contact is the address of record itself: a request to it would come back to us for ever.
        let message = with(&rfc4475("regescrt"), "Call-ID: ", &format!("Call-ID: {via:?}"));
        assert_eq!(send_as(server, via, "user", &message).answer().status(), Some(403));
        let elsewhere = with(&message, "M: <sip:user@example.com?", "M: <sip:user@host5.example.com?");
        let answer = send_as(server, via, "user", &elsewhere).answer();
        assert_eq!(answer.status(), Some(200), "{answer}");
        let kept = "<sip:user@host5.example.com?Route=%3Csip:sip.example.com%3E>";
        assert!(contacts(server, "user")[0].starts_with(kept), "{:?}", contacts(server, "user"));
    });
}

#[test]
fn an_unknown_scheme_beside_ours_does_no_harm_rfc4475_3_3_7() {
    on_both(|server, via| {
        let message = with(&rfc4475("regaut01"), "Call-ID: ", &format!("Call-ID: {via:?}"));
        let answer = send_as(server, via, "j.user", &message).answer();
        assert_eq!(answer.status(), Some(200), "{answer}");
    });
}

#[test]
fn ipv6_references_are_hosts_like_others_rfc5118_4() {
    on_both(|server, via| {
        let called =
            |name: &str| with(&rfc5118(name), "sip:user@example.com;tag", "sip:caller@example.com;tag");
        // 4.1, 4.3: a domain of ours by its address; what looks like a port is none.
        for name in ["ipv6-good", "port-ambiguous"] {
            let message = with(&rfc5118(name), "Call-ID: ", &format!("Call-ID: {via:?}{name}"));
            let answer = send_as(server, via, "user", &message).answer();
            assert_eq!(answer.status(), Some(200), "{name}:\n{answer}");
            assert!(
                answer
                    .list("Contact")
                    .iter()
                    .any(|contact| contact.starts_with("<sip:caller@[2001:db8::1]>")),
                "{answer}"
            );
        }
        // 4.4: another port is another place.
        let answer = send_as(server, via, "user", &rfc5118("port-unambiguous")).answer();
        assert_eq!(answer.status(), Some(403), "{answer}");
        // 4.6, 4.8: addresses in a body are the callee's affair.
        for name in ["ipv6-in-sdp", "mult-ip-in-sdp"] {
            delivered(
                server,
                via,
                "caller",
                "bob",
                &with(&called(name), "sip:user@[", "sip:bob@["),
                (486, "Busy Here"),
            );
        }
        // 4.9: IPv4-mapped addresses in Via and Contact.
        let message = with(&rfc5118("ipv4-mapped-ipv6"), "sip:user@east", "sip:caller@east");
        let message = with(&message, "INVITE sip:user@", "INVITE sip:bob@");
        let arrived = delivered(server, via, "caller", "bob", &message, (486, "Busy Here"));
        assert_eq!(arrived.list("Via")[2], "SIP/2.0/UDP [::ffff:192.0.2.2];branch=z9hG4bKas3-111");
        assert_eq!(arrived.contact_uri(), "sip:ted@[::ffff:192.0.2.2]");
        // 4.10: two colons and three are one address.
        for name in ["ipv6-bug-abnf-3-colons", "ipv6-correct-abnf-2-colons"] {
            let message = with(&called(name), "OPTIONS sip:user@", "OPTIONS sip:bob@");
            delivered(server, via, "caller", "bob", &message, (200, "OK"));
        }
        // 4.5: `received` without brackets; the OPTIONS is for the server itself.
        let mut phone = Phone::new(server, "alice", via);
        phone.second_opinion = false;
        assert_eq!(phone.options().status(), Some(200), "{DOMAIN} is well after all that");
    });
}

//! The torture messages of RFC 4475 and RFC 5118, as they are, over UDP and TCP: what is owed for each.

use std::path::PathBuf;
use std::time::Duration;

use crate::harness::message::find;
use crate::harness::{Database, Phone, Server, Transport};

/// What is owed for one message of a stranger, to a server that asks for credentials before it looks further.
enum Owed {
    /// This status.
    Is(u16),
    /// This status over UDP, that over TCP.
    Over { udp: u16, tcp: u16 },
    /// Nothing: it is a response to nobody, or names nobody to answer.
    Dropped,
    /// This status over UDP; on a stream the rest of the body is waited for.
    CutShort(u16),
}

use Owed::{CutShort, Dropped, Is, Over};

/// File, section, outcome.
const RFC4475: [(&str, &str, Owed); 49] = [
    // In a dialog that we do not know.
    ("wsinv", "3.1.1.1", Is(481)),
    // To be forwarded: credentials first.
    ("intmeth", "3.1.1.2", Is(407)),
    // The escapes make no other domain of it: foreign, and the caller is a stranger.
    ("esc01", "3.1.1.3", Is(403)),
    ("escnull", "3.1.1.4", Is(401)),
    // RE%47IST%45R is not REGISTER, and the server itself knows no such method.
    ("esc02", "3.1.1.5", Is(405)),
    ("lwsdisp", "3.1.1.6", Is(407)),
    ("longreq", "3.1.1.7", Is(407)),
    ("dblreq", "3.1.1.8", Is(401)),
    ("semiuri", "3.1.1.9", Is(407)),
    ("transports", "3.1.1.10", Is(407)),
    // Read, but its Route was not written by us.
    ("mpart01", "3.1.1.11", Is(403)),
    ("unreason", "3.1.1.12", Dropped),
    ("noreason", "3.1.1.13", Dropped),
    // Its Via cannot be read: answered where it came from.
    ("badinv01", "3.1.2.1", Is(400)),
    ("clerr", "3.1.2.2", CutShort(400)),
    ("ncl", "3.1.2.3", Is(400)),
    ("scalar02", "3.1.2.4", Is(400)),
    ("scalarlg", "3.1.2.5", Dropped),
    ("quotbal", "3.1.2.6", Is(400)),
    ("ltgtruri", "3.1.2.7", Is(400)),
    ("lwsruri", "3.1.2.8", Is(400)),
    ("lwsstart", "3.1.2.9", Is(400)),
    ("trws", "3.1.2.10", Is(400)),
    ("escruri", "3.1.2.11", Is(400)),
    // The Date is for the callee.
    ("baddate", "3.1.2.12", Is(407)),
    ("regbadct", "3.1.2.13", Is(400)),
    ("badaspec", "3.1.2.14", Is(400)),
    ("baddn", "3.1.2.15", Is(400)),
    ("badvers", "3.1.2.16", Is(505)),
    ("mismatch01", "3.1.2.17", Is(400)),
    ("mismatch02", "3.1.2.18", Is(400)),
    ("bigcode", "3.1.2.19", Dropped),
    ("badbranch", "3.2.1", Is(407)),
    ("insuf", "3.3.1", Is(400)),
    ("unkscm", "3.3.2", Is(416)),
    ("novelsc", "3.3.3", Is(416)),
    // No address of record in To.
    ("unksm2", "3.3.4", Is(400)),
    ("bext01", "3.3.5", Is(420)),
    // To be forwarded: the body is the callee's affair.
    ("invut", "3.3.6", Is(407)),
    ("regaut01", "3.3.7", Is(401)),
    ("multi01", "3.3.8", Is(400)),
    ("mcl01", "3.3.9", Is(400)),
    ("bcast", "3.3.10", Dropped),
    ("zeromf", "3.3.11", Is(483)),
    ("cparam01", "3.3.12", Is(401)),
    ("cparam02", "3.3.13", Is(401)),
    ("regescrt", "3.3.14", Is(401)),
    // To be forwarded: Accept is the callee's affair.
    ("sdp01", "3.3.15", Is(407)),
    // Without Content-Length, which a stream asks for.
    ("inv2543", "3.4.1", Over { udp: 407, tcp: 400 }),
];

/// File, section, outcome.
const RFC5118: [(&str, &str, Owed); 12] = [
    ("ipv6-good", "4.1", Is(407)),
    ("ipv6-bad", "4.2", Is(400)),
    ("port-ambiguous", "4.3", Is(407)),
    ("port-unambiguous", "4.4", Is(407)),
    // In a dialog that we do not know.
    ("via-received-param-with-delim", "4.5", Is(481)),
    ("via-received-param-no-delim", "4.5", Is(407)),
    ("ipv6-in-sdp", "4.6", Is(407)),
    // In a dialog that we do not know.
    ("mult-ip-in-header", "4.7", Is(481)),
    ("mult-ip-in-sdp", "4.8", Is(407)),
    ("ipv4-mapped-ipv6", "4.9", Is(407)),
    // The extra colon of the old grammar is tolerated.
    ("ipv6-bug-abnf-3-colons", "4.10", Is(407)),
    ("ipv6-correct-abnf-2-colons", "4.10", Is(407)),
];

pub(super) fn read_file(folder: &str, name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("sip-tests/torture").join(folder).join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The archive of RFC 5118 miscounts some bodies and cuts the last line of two; its text means well-formed messages.
pub(super) fn with_true_length(message: Vec<u8>) -> Vec<u8> {
    let mut message = message;
    if find(&message, b"\r\n\r\n").is_none() {
        message.extend_from_slice(b"\r\n");
    }
    let end = find(&message, b"\r\n\r\n").expect("an end of headers") + 4;
    let head = String::from_utf8_lossy(&message[..end]).into_owned();
    let fixed: String = head
        .split_inclusive("\r\n")
        .map(|line| {
            if line.to_ascii_lowercase().starts_with("content-length") {
                format!("Content-Length: {}\r\n", message.len() - end)
            } else {
                line.to_string()
            }
        })
        .collect();
    [fixed.as_bytes(), &message[end..]].concat()
}

/// Sends one message from a fresh socket; says what was wrong with the outcome.
fn judge(server: &Server, via: Transport, message: &[u8], owed: &Owed) -> Option<String> {
    let mut phone = match via {
        Transport::Udp => at_sent_by(server, message),
        via => Phone::new(server, "nobody", via),
    };
    // The echoed headers of a torture message torture the second parser, too.
    phone.second_opinion = false;
    phone.send_raw(message);
    if !via.is_udp() && find(message, b"\r\n\r\n").is_none() {
        // Some files end without the empty line, which a datagram can do without.
        phone.send_raw(b"\r\n");
    }
    let owed = match owed {
        Is(status) => Some(*status),
        Over { udp, tcp } => Some(if via.is_udp() { *udp } else { *tcp }),
        CutShort(status) => via.is_udp().then_some(*status),
        Dropped => None,
    };
    let patience = Duration::from_millis(if owed.is_some() { 5000 } else { 200 });
    let answer = phone.await_within(patience, |m| m.status().is_some_and(|status| status >= 200));
    let right = answer.as_ref().and_then(|m| m.status()) == owed;
    (!right).then(|| match answer {
        Some(answer) => format!("answered {}", answer.start),
        None => "not answered".to_string(),
    })
}

/// Without rport the answer goes to the port in the topmost Via (RFC 3261 section 18.2.2): that is where this phone stands.
pub(super) fn at_sent_by(server: &Server, message: &[u8]) -> Phone {
    Phone::at(server, "nobody", (own_loopback(), sent_by_port(message)).into())
}

/// A loopback address of this thread alone, so that nobody else stands on its ports.
fn own_loopback() -> std::net::Ipv4Addr {
    static NEXT: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(1);
    thread_local!(static OWN: u8 = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    let pid = std::process::id();
    std::net::Ipv4Addr::new(127, 1 + (pid % 250) as u8, (pid / 250 % 250) as u8, OWN.with(|own| *own))
}

/// The port of the first Via, 5060 where it names none or cannot be read.
fn sent_by_port(message: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(message).replace("\r\n ", " ").replace("\r\n\t", " ");
    let via = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        matches!(name.trim().to_ascii_lowercase().as_str(), "via" | "v").then(|| value.to_string())
    });
    let sent_by = via.as_deref().and_then(|via| via.split(';').next()).unwrap_or("").trim();
    let after_host = sent_by.rsplit(']').next().unwrap_or("");
    after_host.rsplit(':').next().and_then(|port| port.trim().parse().ok()).unwrap_or(5060)
}

fn judge_all(via: Transport, folder: &str, cases: &[(&str, &str, Owed)], read: impl Fn(&str) -> Vec<u8>) {
    let mut server = Server::with(Database::Sqlite, |config| {
        config.set(
            "aliases",
            vec![
                "example.com",
                "example.org",
                "company.com",
                "chair-dnrc.example.com",
                "registrar.example.com",
            ],
        );
    });
    let mut wrong = Vec::new();
    for (name, section, owed) in cases {
        if let Some(what) = judge(&server, via, &read(name), owed) {
            wrong.push(format!("{folder} {section} {name}: {what}"));
        }
        assert!(server.is_running(), "{folder}/{name} ended the server");
    }
    let mut phone = Phone::new(&server, "alice", via);
    assert_eq!(phone.options().status(), Some(200), "well after all that");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rfc4475_over_udp() {
    judge_all(Transport::Udp, "rfc4475", &RFC4475, |name| read_file("rfc4475", &format!("{name}.dat")));
}

#[test]
fn rfc4475_over_tcp() {
    judge_all(Transport::Tcp, "rfc4475", &RFC4475, |name| read_file("rfc4475", &format!("{name}.dat")));
}

#[test]
fn rfc5118_over_udp() {
    judge_all(Transport::Udp, "rfc5118", &RFC5118, |name| with_true_length(read_file("rfc5118", name)));
}

#[test]
fn rfc5118_over_tcp() {
    judge_all(Transport::Tcp, "rfc5118", &RFC5118, |name| with_true_length(read_file("rfc5118", name)));
}

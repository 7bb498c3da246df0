//! The torture messages of RFC 4475 and RFC 5118, as they are, over UDP and TCP: what is owed for each.

use std::path::PathBuf;
use std::time::Duration;

use crate::harness::message::find;
use crate::harness::{Database, Phone, Server, Transport};

/// What is owed for one message.
enum Owed {
    /// Read without complaint: any final answer but 400, 501 or 505.
    Read,
    /// One of these.
    Status(&'static [u16]),
    /// Nothing: it is a response to nobody.
    Dropped,
    /// Refused as malformed, or dropped.
    Unanswerable,
    /// Refused as malformed over UDP; on a stream the rest of the body is waited for.
    CutShort,
    /// The RFC leaves it to the element: anything but silence.
    Any,
}

use Owed::{Any, CutShort, Dropped, Read, Status, Unanswerable};

const BAD: Owed = Status(&[400]);

const RFC4475: [(&str, Owed); 49] = [
    // 3.1.1 valid messages
    ("wsinv", Read),
    ("intmeth", Read),
    ("esc01", Read),
    ("escnull", Read),
    ("esc02", Read),
    ("lwsdisp", Read),
    ("longreq", Any),
    ("dblreq", Read),
    ("semiuri", Read),
    ("transports", Read),
    ("mpart01", Read),
    ("unreason", Dropped),
    ("noreason", Dropped),
    // 3.1.2 invalid messages
    // Its Via cannot be read: nobody to answer.
    ("badinv01", Unanswerable),
    ("clerr", CutShort),
    ("ncl", BAD),
    ("scalar02", BAD),
    ("scalarlg", Dropped),
    ("quotbal", BAD),
    ("ltgtruri", BAD),
    ("lwsruri", BAD),
    ("lwsstart", BAD),
    ("trws", BAD),
    ("escruri", Any),
    ("baddate", Any),
    ("regbadct", Status(&[400, 401])),
    ("badaspec", BAD),
    ("baddn", Any),
    ("badvers", Status(&[505])),
    ("mismatch01", BAD),
    ("mismatch02", Status(&[400, 501])),
    ("bigcode", Dropped),
    // 3.2 transaction layer
    ("badbranch", Read),
    // 3.3 application layer
    ("insuf", BAD),
    ("unkscm", Status(&[416])),
    ("novelsc", Status(&[416])),
    ("unksm2", Status(&[400, 401, 403, 404])),
    ("bext01", Status(&[420, 401, 407])),
    ("invut", Status(&[407, 415])),
    ("regaut01", Status(&[401])),
    ("multi01", BAD),
    ("mcl01", BAD),
    ("bcast", Dropped),
    ("zeromf", Status(&[483, 407, 200])),
    ("cparam01", Status(&[401])),
    ("cparam02", Status(&[401])),
    ("regescrt", Status(&[401])),
    ("sdp01", Status(&[406, 407])),
    // 3.4 backward compatibility
    ("inv2543", Read),
];

const RFC5118: [(&str, Owed); 12] = [
    ("ipv6-good", Read),
    ("ipv6-bad", BAD),
    ("port-ambiguous", Read),
    ("port-unambiguous", Read),
    ("via-received-param-with-delim", Read),
    ("via-received-param-no-delim", Read),
    ("ipv6-in-sdp", Read),
    ("mult-ip-in-header", Read),
    ("mult-ip-in-sdp", Read),
    ("ipv4-mapped-ipv6", Read),
    // Section 4.10: 3261's grammar allows three colons by mistake; "more tolerant" elements may read it.
    ("ipv6-bug-abnf-3-colons", Any),
    ("ipv6-correct-abnf-2-colons", Read),
];

fn read_file(folder: &str, name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("sip-tests/torture").join(folder).join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The archive of RFC 5118 miscounts some bodies and cuts the last line of two; its text means well-formed messages.
fn with_true_length(message: Vec<u8>) -> Vec<u8> {
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
    // Without rport the answer goes to the port in the topmost Via (RFC 3261 section 18.2.2): that is where we stand.
    let mut phone = match via {
        Transport::Udp => Phone::at(server, "nobody", (own_loopback(), sent_by_port(message)).into()),
        via => Phone::new(server, "nobody", via),
    };
    // The echoed headers of a torture message torture the second parser, too.
    phone.second_opinion = false;
    phone.send_raw(message);
    if !via.is_udp() && find(message, b"\r\n\r\n").is_none() {
        // Some files end without the empty line, which a datagram can do without.
        phone.send_raw(b"\r\n");
    }
    let patience = match owed {
        Dropped | CutShort | Unanswerable => Duration::from_millis(200),
        _ => Duration::from_secs(3),
    };
    let answer = phone.await_within(patience, |m| m.status().is_some_and(|status| status >= 200));
    let status = answer.as_ref().and_then(|m| m.status());
    let right = match (owed, status) {
        // Without Content-Length, which only a stream asks for.
        (Read, Some(400)) => !via.is_udp() && find(message, b"ontent-Length").is_none(),
        (Read, Some(status)) => !matches!(status, 501 | 505) && (200..700).contains(&status),
        (Status(wanted), Some(status)) => wanted.contains(&status),
        (Dropped, None) => true,
        (CutShort | Unanswerable, Some(status)) => status == 400,
        (Unanswerable, None) => true,
        (CutShort, None) => !via.is_udp(),
        (Any, Some(_)) => true,
        _ => false,
    };
    (!right).then(|| match answer {
        Some(answer) => format!("answered {}", answer.start),
        None => "not answered".to_string(),
    })
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

fn judge_all(via: Transport, folder: &str, cases: &[(&str, Owed)], read: impl Fn(&str) -> Vec<u8>) {
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
    for (name, owed) in cases {
        if let Some(what) = judge(&server, via, &read(name), owed) {
            wrong.push(format!("{folder}/{name}: {what}"));
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

//! A message reads alike however TCP cuts it (RFC 3261 section 7.5), on a real connection.

use super::torture::read_file;
use crate::harness::phone::unique;
use crate::harness::{DEADLINE, DOMAIN, Database, Phone, Server, Transport};

/// Sends the head, waits until the server has had the time to read it (somebody else is answered meanwhile), sends the tail.
fn send_in_two(phone: &mut Phone, other: &mut Phone, message: &[u8], at: usize) {
    phone.send_raw(&message[..at]);
    assert_eq!(other.options().status(), Some(200));
    phone.send_raw(&message[at..]);
}

fn status_of_next(phone: &mut Phone) -> Option<u16> {
    phone.await_within(DEADLINE, |m| m.status().is_some()).and_then(|m| m.status())
}

#[test]
fn torture_messages_cut_anywhere_are_answered_alike_rfc3261_7_5() {
    let server = Server::with(Database::Sqlite, |config| {
        config.set("aliases", vec!["example.com", "example.org"]);
    });
    let mut other = Phone::new(&server, "bob", Transport::Tcp);
    for (name, status) in
        [("zeromf", 483), ("bext01", 420), ("lwsdisp", 407), ("unkscm", 416), ("mismatch01", 400)]
    {
        let message = read_file("rfc4475", &format!("{name}.dat"));
        let mut phone = Phone::new(&server, "alice", Transport::Tcp);
        phone.second_opinion = false;
        phone.show_retransmissions = true;
        for at in 1..message.len() {
            send_in_two(&mut phone, &mut other, &message, at);
            assert_eq!(status_of_next(&mut phone), Some(status), "{name} cut at {at}");
        }
    }
}

#[test]
fn what_ends_a_stream_ends_it_however_it_is_cut_rfc4475_3_3_9() {
    let server = Server::start(Database::Sqlite);
    let mut other = Phone::new(&server, "bob", Transport::Tcp);
    for name in ["mcl01", "ncl"] {
        let message = read_file("rfc4475", &format!("{name}.dat"));
        for at in (1..message.len()).step_by(11) {
            let mut phone = Phone::new(&server, "alice", Transport::Tcp);
            phone.second_opinion = false;
            send_in_two(&mut phone, &mut other, &message, at);
            assert_eq!(status_of_next(&mut phone), Some(400), "{name} cut at {at}");
            assert!(phone.is_closed_within(DEADLINE), "{name} cut at {at} leaves the stream open");
        }
    }
}

#[test]
fn a_request_byte_by_byte_is_one_rfc3261_7_5() {
    let server = Server::start(Database::Sqlite);
    let mut phone = Phone::new(&server, "alice", Transport::Tcp);
    let first = phone.request("OPTIONS", &format!("sip:{DOMAIN}")).body("text/plain", b"\r\n\r\nbody");
    let second = phone.request("OPTIONS", &format!("sip:{DOMAIN}")).set("Call-ID", &unique("second"));
    for byte in [first.bytes(), b"\r\n".to_vec(), second.bytes()].concat() {
        phone.send_raw(&[byte]);
    }
    phone.expect_status(&first, 200);
    phone.expect_status(&second, 200);
}

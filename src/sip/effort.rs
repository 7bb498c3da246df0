//! The worst lawful messages cost a constant number of looks per octet, whatever their size (`A35`). Counted, not timed.

use std::cell::Cell;

use bytes::Bytes;

use crate::sip::framer::{Frame, Framer};
use crate::sip::{HeaderName, Limits, Message, StatusCode, Writer, forward, salvage, validate};

thread_local! {
    static VISITED: Cell<usize> = const { Cell::new(0) };
}

/// Octets looked at, and comparisons made.
pub(super) fn visit(count: usize) {
    VISITED.set(VISITED.get() + count);
}

/// What it costs to frame, read, check and forward (or refuse) a message.
fn effort(message: &[u8]) -> usize {
    VISITED.set(0);
    let mut framer = Framer::new(Limits::default());
    // As a stream brings it: a segment at a time.
    let mut framed = None;
    for piece in message.chunks(1_460) {
        framer.buffer_mut().extend_from_slice(piece);
        if let Ok(Some(Frame::Message(bytes))) = framer.next_frame() {
            framed = Some(bytes);
        }
    }
    let bytes = framed.unwrap_or_else(|| Bytes::copy_from_slice(message));
    match Message::parse(bytes.clone(), true, &Limits::default()) {
        Ok(Message::Request(request)) => {
            let request = forward::stamp(request, "192.0.2.1:6000".parse().unwrap());
            let _ = validate::request(&request);
            let edits = forward::RequestEdits {
                via: Some("SIP/2.0/UDP us;branch=z9hG4bKu"),
                drop_routes: 1,
                remove_credentials_of: Some("ours"),
                ..forward::RequestEdits::default()
            };
            drop(forward::request(&request, &edits));
            let _ = (request.contacts().map(drop), request.credentials(HeaderName::Authorization).count());
        }
        Ok(Message::Response(response)) => {
            let _ = validate::response(&response);
            drop(forward::response(&response, &[]));
        }
        Err(_) => {
            if let Some(request) = salvage(&bytes) {
                drop(Writer::respond(&request, StatusCode::BAD_REQUEST, "t").finish());
            }
        }
    }
    VISITED.get()
}

const START: &str =
    "v: SIP/2.0/UDP h;branch=z9hG4bK1\r\nf: <sip:a@b>;tag=1\r\nt: <sip:c@d>\r\ni: x\r\nCSeq: 1 OPTIONS\r\n";

/// A message with about `size` octets of this row, again and again.
fn filled(row: &str, size: usize) -> Vec<u8> {
    let rows = row.repeat((size / row.len()).clamp(1, 120));
    format!("OPTIONS sip:c@d SIP/2.0\r\n{START}{rows}l: 0\r\n\r\n").into_bytes()
}

/// One row of at most 8 KiB: `name`, then `piece` again and again, then `end`.
fn row(name: &str, piece: &str, end: &str, length: usize) -> String {
    let room = length.min(8_100).saturating_sub(name.len() + end.len() + 4);
    format!("{name}: {}{end}\r\n", piece.repeat(room / piece.len()))
}

/// The row that costs most, for every kind of row there is work to do for. `length`: octets of one row.
fn worst(length: usize) -> Vec<(&'static str, String)> {
    vec![
        ("many names", "X:\r\n".repeat(length / 4)),
        ("folds", row("X", "\r\n ", "y", length)),
        ("tabs", row("X", "\t", "y", length)),
        ("commas", row("Route", ",", "<sip:r;lr>", length)),
        ("commas in quotes", row("Contact", "\",\" <sip:a>,", "<sip:a>", length)),
        ("open quotes", row("Contact", "\",", "", length)),
        ("quoted pairs", row("Subject", "\\\"", "", length)),
        ("quoted controls", row("Subject", "\"\\\u{7}\",", "", length)),
        ("one control at the end", row("Subject", "\"\\\\\" ", "\"\\\u{7}\"", length)),
        ("angles", row("Record-Route", "<", "", length)),
        ("vias", row("Via", "SIP/2.0/UDP h,", "SIP/2.0/UDP h", length)),
        ("parameters of a Via", format!("Via: SIP/2.0/UDP h{}\r\n", params(length / 64))),
        ("parameters of a Contact", format!("Contact: <sip:a@b>{}\r\n", params(length / 64))),
        ("parameters of a URI", format!("Route: <sip:a@b{}>\r\n", params(length / 64))),
        ("escapes", row("Route", "<sip:%61%62%63@h;%61=%62>,", "<sip:r;lr>", length)),
        ("credentials", row("Authorization", "a=\"b\",", "c=d", length).replace(": ", ": Digest ")),
        ("no colon", "X\r\n".repeat(length / 3)),
    ]
}

/// 64 parameters of that length.
fn params(length: usize) -> String {
    (0..64).map(|n| format!(";{}{n:02}", "p".repeat(length.clamp(4, 100) - 3))).collect()
}

#[test]
fn the_worst_lawful_message_costs_a_constant_per_octet_a35() {
    for length in [256, 1_024, 4_096, 8_000] {
        for (name, row) in worst(length) {
            for size in [length, 16_000, 32_000, 64_000] {
                let message = filled(&row, size);
                let effort = effort(&message);
                assert!(
                    effort <= message.len() * PER_OCTET,
                    "{name}, rows of {length}, {} octets: {effort} looks",
                    message.len()
                );
            }
        }
    }
}

#[test]
fn twice_the_message_is_twice_the_effort_a35() {
    for (name, row) in worst(1_000) {
        let (half, whole) = (filled(&row, 30_000), filled(&row, 60_000));
        let grown = effort(&whole) as f64 / effort(&half) as f64;
        let expected = whole.len() as f64 / half.len() as f64;
        assert!(grown <= expected * 1.3, "{name}: {grown} for {expected}");
    }
}

#[test]
fn names_that_only_look_alike_cost_no_second_reading_a35() {
    // 64 long parameters that all differ: a comparison of each with each is what there is, not of each with all text.
    let long = format!("Contact: <sip:a@b>{}\r\n", params(100));
    let message = filled(&long, 60_000);
    assert!(effort(&message) <= message.len() * PER_OCTET);
}

/// Looks per octet: framing, reading, a few views of each row, and at most 64 names compared with each other.
const PER_OCTET: usize = 32;

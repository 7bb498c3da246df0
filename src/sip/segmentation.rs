//! Every message reads alike however a stream cuts it (RFC 3261 7.5, 18.3): the torture messages and some usual ones, cut at every
//! position, short ones at every two, and byte by byte.

use std::path::PathBuf;

use bytes::Bytes;

use crate::sip::framer::{Frame, Framer, Phase};
use crate::sip::{Limits, StatusCode};

/// All that can be told of a stream: its frames, how it failed, what is left of that, and what it is in the middle of.
#[derive(Debug, PartialEq)]
struct Reading {
    frames: Vec<Frame>,
    problem: Option<(&'static str, StatusCode)>,
    partial: Option<Bytes>,
    phase: Phase,
}

fn read(pieces: &[&[u8]]) -> Reading {
    let mut framer = Framer::new(Limits::default());
    let (mut frames, mut problem) = (Vec::new(), None);
    for piece in pieces {
        framer.buffer_mut().extend_from_slice(piece);
        while problem.is_none() {
            match framer.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => problem = Some((error.what, error.status)),
            }
        }
    }
    let (partial, phase) = (framer.partial(), framer.phase());
    // After an error the stream is closed: what it was in the middle of depends on what had come.
    Reading { frames, problem, partial, phase: if problem.is_some() { Phase::Idle } else { phase } }
}

fn torture(folder: &str) -> Vec<(String, Vec<u8>)> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("sip-tests/torture").join(folder);
    let mut files: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
        .into_iter()
        .map(|file| (file.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(file).unwrap()))
        .collect()
}

const ROWS: &str = "v: SIP/2.0/TCP h;branch=z9hG4bK1\r\nf: <sip:a@b>;tag=1\r\nt: <sip:c@d>\r\ni: x\r\n";

fn usual() -> Vec<(String, Vec<u8>)> {
    let message = |line: &str, rows: &str, body: &str| {
        format!("{line}\r\n{ROWS}{rows}l: {}\r\n\r\n{body}", body.len()).into_bytes()
    };
    [
        ("register", message("REGISTER sip:d SIP/2.0", "CSeq: 1 REGISTER\r\nm: <sip:c@e>\r\n", "")),
        (
            "message",
            message("MESSAGE sip:c@d SIP/2.0", "CSeq: 1 MESSAGE\r\nc: text/plain\r\n", "a\r\n\r\nb\0"),
        ),
        ("folded", message("OPTIONS sip:d SIP/2.0", "CSeq: 1\r\n\tOPTIONS\r\nX:\r\n \r\n  y\r\n", "")),
        ("response", message("SIP/2.0 200 OK", "CSeq: 1 INVITE\r\n", "v=0\r\n")),
        ("pings", b"\r\n\r\n\r\n\r\n\r\n".to_vec()),
        ("bare line feed", b"OPTIONS sip:d SIP/2.0\r\nX: y\nl: 0\r\n\r\n".to_vec()),
        ("no stream of ours", b"GET / HTTP/1.1\r\nHost: d\r\n\r\n".to_vec()),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .into()
}

/// The message, and one more behind it, so that where it ends matters.
fn streams() -> Vec<(String, Vec<u8>)> {
    let next = format!("\r\nOPTIONS sip:d SIP/2.0\r\n{ROWS}CSeq: 2 OPTIONS\r\nl: 1\r\n\r\nb").into_bytes();
    let all = [torture("rfc4475"), torture("rfc5118"), usual()].concat();
    all.into_iter().map(|(name, message)| (name, [message, next.clone()].concat())).collect()
}

#[test]
fn every_cut_of_every_message_reads_alike_rfc3261_7_5() {
    let streams = streams();
    assert_eq!(streams.len(), 49 + 12 + 7);
    for (name, stream) in streams {
        let whole = read(&[&stream]);
        assert!(!whole.frames.is_empty() || whole.problem.is_some() || whole.phase != Phase::Idle, "{name}");
        for at in 1..stream.len() {
            let (head, tail) = stream.split_at(at);
            assert_eq!(read(&[head, tail]), whole, "{name} cut at {at}");
        }
    }
}

#[test]
fn every_message_byte_by_byte_reads_alike_rfc3261_7_5() {
    for (name, stream) in streams() {
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(read(&bytes), read(&[&stream]), "{name}");
    }
}

#[test]
fn every_two_cuts_of_short_messages_read_alike_rfc3261_7_5() {
    let short = [torture("rfc4475"), torture("rfc5118"), usual()].concat();
    let short: Vec<_> = short.into_iter().filter(|(_, message)| message.len() <= SHORT).collect();
    assert!(short.len() >= 20, "{}", short.len());
    for (name, stream) in short {
        let whole = read(&[&stream]);
        for one in 1..stream.len() {
            for two in one + 1..stream.len() {
                let pieces = [&stream[..one], &stream[one..two], &stream[two..]];
                assert_eq!(read(&pieces), whole, "{name} cut at {one} and {two}");
            }
        }
    }
}

/// Bytes; all pairs of cuts grow with the cube.
const SHORT: usize = 310;

//! A call: INVITE, 180, 200, ACK, and BYE from the one who was called. Both ends keep the route set (RFC 3261 12.1) and send by it (12.2.1.1).

use std::io::Write;

use crate::phone::{Phones, find};

/// What the one who is called knows of a call: the route set and where the caller is.
#[derive(Debug, Default)]
pub struct Call {
    id: Vec<u8>,
    route: Vec<u8>,
    target: Vec<u8>,
}

impl Phones {
    /// A request of a call that came to a phone: INVITE is answered 180 and 200, ACK with the BYE, and BYE with 200.
    pub fn in_call(&mut self, line: u32, request: &[u8]) {
        if request.starts_with(b"INVITE ") && request.ends_with(SDP.as_bytes()) {
            self.ring(line, request);
        } else if request.starts_with(b"ACK ") {
            self.hang_up(line, request);
        } else if request.starts_with(b"BYE ") {
            self.respond(line, request, "200 OK", false);
        }
    }

    fn ring(&mut self, line: u32, invite: &[u8]) {
        let Some((at, id, _)) = place(invite) else { return };
        let Some(target) = uri(invite, b"Contact:") else { return };
        if self.calls.len() <= at {
            self.calls.resize_with(at + 1, Call::default);
        }
        let call = &mut self.calls[at];
        for (kept, new) in [(&mut call.id, id), (&mut call.target, target)] {
            kept.clear();
            kept.extend_from_slice(new);
        }
        // 12.1.1: the callee's route set has the order of Record-Route.
        call.route.clear();
        for value in values(invite, b"Record-Route:") {
            put_value(&mut call.route, value);
        }
        self.respond(line, invite, "180 Ringing", false);
        self.respond(line, invite, "200 OK", true);
    }

    /// The ACK came: the call is hung up, once.
    fn hang_up(&mut self, line: u32, ack: &[u8]) {
        let Phones { wire, calls, .. } = self;
        let Some((at, id, from)) = place(ack) else { return };
        let Some(to) = header(ack, b"To:") else { return };
        let Some(call) = calls.get_mut(at).filter(|call| call.id == id) else { return };
        let token = wire.transport.token();
        let (out, own) = wire.begin(line);
        out.extend_from_slice(b"BYE ");
        out.extend_from_slice(&call.target);
        let _ = write!(out, " SIP/2.0\r\nVia: SIP/2.0/{token} {own};branch=z9hG4bK");
        out.extend_from_slice(id);
        out.extend_from_slice(b"b;rport\r\nRoute:");
        out.extend_from_slice(&call.route);
        out.extend_from_slice(b"\r\nMax-Forwards: 70\r\nFrom:");
        out.extend_from_slice(to);
        out.extend_from_slice(b"\r\nTo:");
        out.extend_from_slice(from);
        out.extend_from_slice(b"\r\nCall-ID: ");
        out.extend_from_slice(id);
        out.extend_from_slice(b"\r\nCSeq: 1 BYE\r\nUser-Agent: Load 1.0\r\nContent-Length: 0\r\n\r\n");
        call.id.clear();
        wire.end(line);
    }

    fn respond(&mut self, line: u32, request: &[u8], status: &str, with_body: bool) {
        let parameter = self.wire.transport.parameter();
        let is_invite = request.starts_with(b"INVITE ");
        let (out, own) = self.wire.begin(line);
        let _ = write!(out, "SIP/2.0 {status}\r\n");
        for row in lines(request) {
            if row.starts_with(b"To:") && is_invite {
                out.extend_from_slice(row.trim_ascii_end());
                out.extend_from_slice(b";tag=callee\r\n");
            } else if COPIED.iter().any(|name| row.starts_with(name)) {
                out.extend_from_slice(row);
            }
        }
        if is_invite {
            let _ = write!(out, "Contact: <sip:callee@{own}{parameter}>\r\n");
        }
        if with_body {
            let _ =
                write!(out, "Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{SDP}", SDP.len());
        } else {
            out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
        }
        self.wire.end(line);
    }

    /// A final response to an INVITE came: it is acknowledged. `true`: the call is answered, and goes on until its BYE.
    pub fn acknowledge(&mut self, line: u32, response: &[u8]) -> bool {
        let Some((_, id, from)) = place(response) else { return false };
        let Some(cseq) = header(response, b"CSeq:").and_then(|cseq| cseq.strip_suffix(b" INVITE")) else {
            return false;
        };
        let Some(to) = header(response, b"To:") else { return false };
        let answered = response.starts_with(b"SIP/2.0 2");
        let mut route: Vec<&[u8]> = values(response, b"Record-Route:").collect();
        // 12.1.2: the caller's route set has the order turned round.
        route.reverse();
        let wire = &mut self.wire;
        if answered && route.first().is_none_or(|first| find(first, wire.server.as_bytes()).is_none()) {
            // Without the server's Record-Route the call is none, and is lost.
            return true;
        }
        let token = wire.transport.token();
        let (out, own) = wire.begin(line);
        out.extend_from_slice(b"ACK ");
        match uri(response, b"Contact:").filter(|_| answered) {
            Some(target) => out.extend_from_slice(target),
            // 17.1.1.3: the Request-URI of the INVITE, which here was the address of record.
            None => out.extend_from_slice(uri(response, b"To:").unwrap_or_default()),
        }
        let _ = write!(out, " SIP/2.0\r\nVia: SIP/2.0/{token} {own};branch=z9hG4bK");
        out.extend_from_slice(id);
        // The ACK for a 2xx is a transaction of its own, for others it belongs to the INVITE's (17).
        out.extend_from_slice(if answered { b"a;rport\r\n" } else { b";rport\r\n" });
        if answered {
            out.extend_from_slice(b"Route:");
            for (at, value) in route.iter().enumerate() {
                out.extend_from_slice(if at == 0 { b" " } else { b", " });
                out.extend_from_slice(value);
            }
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"Max-Forwards: 70\r\nFrom:");
        out.extend_from_slice(from);
        out.extend_from_slice(b"\r\nTo:");
        out.extend_from_slice(to);
        out.extend_from_slice(b"\r\nCall-ID: ");
        out.extend_from_slice(id);
        out.extend_from_slice(b"\r\nCSeq:");
        out.extend_from_slice(cseq);
        out.extend_from_slice(b" ACK\r\nContent-Length: 0\r\n\r\n");
        wire.end(line);
        answered
    }
}

/// The place in the window that the Call-ID begins with, the whole Call-ID, and what stands in From.
fn place(message: &[u8]) -> Option<(usize, &[u8], &[u8])> {
    let id = header(message, b"Call-ID:")?.trim_ascii();
    let digits = std::str::from_utf8(id.get(..8)?).ok()?;
    Some((usize::from_str_radix(digits, 16).ok()?.min(MAX_PLACE), id, header(message, b"From:")?))
}

/// Header lines with their ends.
fn lines(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    message.split_inclusive(|byte| *byte == b'\n').skip(1).take_while(|line| *line != b"\r\n")
}

/// What stands after the name in the first such line.
fn header<'a>(message: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    lines(message).find_map(|line| line.strip_prefix(name)).map(<[u8]>::trim_ascii_end)
}

/// The URI of a header, between angle brackets.
fn uri<'a>(message: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let value = header(message, name)?;
    value.get(find(value, b"<")?..)?.split(|byte| *byte == b'>').next()
}

/// All values of a header, in order. Neither server writes a comma within one.
fn values<'a>(message: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let rows = lines(message).filter_map(move |line| line.strip_prefix(name));
    rows.flat_map(|row| row.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

fn put_value(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(if out.is_empty() { b" " } else { b", " });
    out.extend_from_slice(value);
}

/// What a response takes over as it is, beside To (8.2.6.2, 12.1.1).
const COPIED: [&[u8]; 6] = [b"Via:", b"Record-Route:", b"From:", b"To:", b"Call-ID:", b"CSeq:"];
/// No window is as large.
const MAX_PLACE: usize = 4_096;
/// The session that is offered, and the one that is answered.
pub const SDP: &str = "v=0\r\no=- 3838281 2 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 49217 RTP/AVP 9 8 101\r\n\
                       a=rtpmap:9 G722/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n";

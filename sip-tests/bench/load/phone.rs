//! The phones: users behind a few sockets, messages written from templates, answers read as far as needed.

use std::io::Write;
use std::ops::Range;

use hither::sip::digest::Algorithm;

use crate::call::{Call, SDP};
use crate::database::{DOMAIN, PASSWORD};
use crate::operation::Operation;
use crate::wire::Wire;

/// The users of one thread, and the sockets they share.
pub struct Phones {
    /// Connected to the server. A user has one line.
    pub wire: Wire,
    /// Operations under way at once, at most.
    pub window: u32,
    algorithm: Algorithm,
    users: Vec<User>,
    fresh: Vec<User>,
    /// Numbers of users for whom messages are stored that will be delivered.
    away: Range<u32>,
    /// Messages stored so far for the fresh users, and for those who are away.
    stored: (u32, u32),
    /// Fresh users that have registered, over all rounds.
    used: u32,
    /// Requests so far: no branch is ever used twice.
    number: u32,
    /// Messages that came to a user, whole.
    pub reached: u64,
    /// The calls that the users were asked to, by place in the window.
    pub calls: Vec<Call>,
}

struct User {
    name: String,
    ha1: String,
    nonce: String,
    nonce_count: u32,
    cseq: u32,
    boots: u32,
}

/// Who acts in a slot of the window.
#[derive(Debug, Clone, Copy)]
pub struct Actor {
    fresh: bool,
    user: u32,
    contact: u32,
    /// Whom a message to be stored is for, among the fresh users or those who are away.
    recipient: u32,
}

impl Phones {
    /// Phones for users `u` and `n` of these numbers.
    /// `away`: users `n` who have phones elsewhere, and get messages meanwhile.
    pub fn new(
        wire: Wire,
        users: Range<u32>,
        fresh: Range<u32>,
        away: Range<u32>,
        window: u32,
        algorithm: Algorithm,
    ) -> Phones {
        let user = |name: String| User {
            ha1: algorithm.hash_hex(&[name.as_bytes(), DOMAIN.as_bytes(), PASSWORD.as_bytes()]),
            name,
            nonce: String::new(),
            nonce_count: 0,
            cseq: 0,
            boots: 0,
        };
        Phones {
            wire,
            window,
            algorithm,
            users: users.map(|n| user(format!("u{n}"))).collect(),
            fresh: fresh.map(|n| user(format!("n{n}"))).collect(),
            away,
            stored: (0, 0),
            used: 0,
            number: 0,
            reached: 0,
            calls: Vec::new(),
        }
    }

    /// A number for a request.
    pub fn next_number(&mut self) -> u32 {
        self.number = self.number.wrapping_add(1);
        self.number
    }

    /// Who acts next in a slot: a user has one slot, so nobody has two requests under way. `None`: everybody has acted.
    pub fn actor(&mut self, operation: Operation, slot: u32, round: u32) -> Option<Actor> {
        let (fresh, count) = (u32::try_from(self.fresh.len()).ok()?, u32::try_from(self.users.len()).ok()?);
        match operation {
            Operation::Ask => {
                let user = slot.checked_add(round.checked_mul(self.window)?)?;
                (user < fresh).then_some(Actor { fresh: true, user, contact: 0, recipient: 0 })
            }
            Operation::RegisterNew => {
                let (user, contact) = (self.used.checked_rem(fresh)?, self.used.checked_div(fresh)?);
                self.used += 1;
                (contact < MAX_CONTACTS).then_some(Actor { fresh: true, user, contact, recipient: 0 })
            }
            _ => {
                let mine = count.saturating_sub(slot).div_ceil(self.window);
                if operation == Operation::Enrol && round >= mine {
                    return None;
                }
                let user = slot + round.checked_rem(mine)? * self.window;
                let recipient = self.recipient(operation)?;
                Some(Actor { fresh: false, user, contact: 0, recipient })
            }
        }
    }

    /// Whom the next message is for, if it is to be stored: everybody in turns. `None`: nobody has room.
    fn recipient(&mut self, operation: Operation) -> Option<u32> {
        let (number, stored) = match operation {
            Operation::MessageStored => (u32::try_from(self.fresh.len()).ok()?, &mut self.stored.0),
            Operation::Fill => (u32::try_from(self.away.len()).ok()?, &mut self.stored.1),
            _ => return Some(0),
        };
        let (round, recipient) = (stored.checked_div(number)?, stored.checked_rem(number)?);
        // What is delivered leaves its room.
        let has_room = operation == Operation::Fill || round < MAX_STORED;
        *stored = stored.wrapping_add(1);
        has_room.then_some(recipient)
    }

    /// Whom a request is for; `None`: the server, or the user who sends it.
    fn callee(&self, operation: Operation, actor: Actor) -> Option<String> {
        match operation {
            Operation::Message | Operation::Invite => {
                let callee = (actor.user as usize + 1) % self.users.len().max(1);
                self.users.get(callee).map(|user| user.name.clone())
            }
            Operation::MessageNobody => Some("nobody".to_owned()),
            Operation::MessageStored => Some(self.fresh[actor.recipient as usize].name.clone()),
            Operation::Fill => Some(format!("n{}", self.away.start + actor.recipient)),
            _ => None,
        }
    }

    /// Sends the request of an operation.
    pub fn send(&mut self, operation: Operation, actor: Actor, branch: &str, first: bool) {
        let to = self.callee(operation, actor);
        let Phones { wire, algorithm, users, fresh, .. } = self;
        let line = actor.user % wire.lines();
        let transport = wire.transport;
        let (out, own) = wire.begin(line);
        let user = match actor.fresh {
            true => &mut fresh[actor.user as usize],
            false => &mut users[actor.user as usize],
        };
        user.cseq += 1;
        if operation == Operation::RegisterAgain && first {
            user.boots += 1;
        }
        if operation == Operation::RegisterChallenged && first {
            user.nonce.clear();
        }
        let method = match operation {
            Operation::Options => "OPTIONS",
            Operation::Message | Operation::MessageNobody | Operation::MessageStored | Operation::Fill => {
                "MESSAGE"
            }
            Operation::Invite => "INVITE",
            _ => "REGISTER",
        };
        let uri = match &to {
            Some(callee) => format!("sip:{callee}@{DOMAIN}"),
            None => format!("sip:{DOMAIN}"),
        };
        let to = to.unwrap_or_else(|| user.name.clone());
        let token = transport.token();
        let (name, cseq, boots, contact) = (&user.name, user.cseq, user.boots, actor.contact);
        let _ = write!(
            out,
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{token} {own};branch={branch};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:{name}@{DOMAIN}>;tag=t{name}b{boots}\r\nTo: <sip:{to}@{DOMAIN}>\r\n\
             CSeq: {cseq} {method}\r\nUser-Agent: Load 1.0\r\n"
        );
        let _ = match method {
            // A call has an id of its own, and its place in the window in it.
            "INVITE" => write!(out, "Call-ID: {}\r\n", branch.trim_start_matches(COOKIE)),
            _ => write!(out, "Call-ID: {name}-{boots}-{contact}@127.0.0.1\r\n"),
        };
        if matches!(method, "REGISTER" | "INVITE") {
            let parameter = transport.parameter();
            let _ = write!(out, "Contact: <sip:{name}c{contact}@{own}{parameter}>\r\n");
        }
        if method == "REGISTER" {
            out.extend_from_slice(b"Expires: 3600\r\n");
        }
        if method != "OPTIONS" && !user.nonce.is_empty() {
            let header = if method == "REGISTER" { "Authorization" } else { "Proxy-Authorization" };
            user.nonce_count += 1;
            let count = format!("{:08x}", user.nonce_count);
            let ha2 = algorithm.hash_hex(&[method.as_bytes(), uri.as_bytes()]);
            let parts = [&user.ha1, &user.nonce, &count, CNONCE, "auth", &ha2].map(str::as_bytes);
            let response = algorithm.hash_hex(&parts);
            let _ = write!(
                out,
                "{header}: Digest username=\"{name}\", realm=\"{DOMAIN}\", nonce=\"{}\", uri=\"{uri}\", response=\"{response}\", \
                 algorithm={}, cnonce=\"{CNONCE}\", qop=auth, nc={count}\r\n",
                user.nonce,
                algorithm.as_str(),
            );
        }
        let (kind, body) = match method {
            "MESSAGE" => ("Content-Type: text/plain\r\n", BODY),
            "INVITE" => ("Content-Type: application/sdp\r\n", SDP),
            _ => ("", ""),
        };
        let _ = write!(out, "{kind}Content-Length: {}\r\n\r\n{body}", body.len());
        wire.end(line);
    }

    /// Keeps the nonce of a challenge.
    pub fn challenged(&mut self, actor: Actor, response: &[u8]) {
        let user = match actor.fresh {
            true => &mut self.fresh[actor.user as usize],
            false => &mut self.users[actor.user as usize],
        };
        let nonce =
            find(response, b"nonce=\"").and_then(|at| response.get(at..)?.split(|b| *b == b'"').next());
        user.nonce.clear();
        user.nonce.push_str(nonce.and_then(|nonce| std::str::from_utf8(nonce).ok()).unwrap_or_default());
        user.nonce_count = 0;
    }

    /// The user whom a request reaches answers it; a message 200, if it came whole.
    pub fn answer(&mut self, line: u32, request: &[u8]) {
        if !request.starts_with(b"MESSAGE ") {
            return self.in_call(line, request);
        }
        if !is_whole_message(request, b'u') {
            return;
        }
        self.reached += 1;
        let (out, _) = self.wire.begin(line);
        write_ok(out, request);
        self.wire.end(line);
    }
}

/// Is it a message of the tool, with all of its text, to a user whose name begins so?
pub fn is_whole_message(request: &[u8], user: u8) -> bool {
    let rest = request.strip_prefix(b"MESSAGE sip:").filter(|rest| rest.first() == Some(&user));
    rest.is_some_and(|rest| rest.ends_with(BODY.as_bytes()))
}

/// 200 to a request outside a dialog.
pub fn write_ok(out: &mut Vec<u8>, request: &[u8]) {
    out.extend_from_slice(b"SIP/2.0 200 OK\r\n");
    let lines = request.split_inclusive(|byte| *byte == b'\n').skip(1).take_while(|line| *line != b"\r\n");
    for line in lines {
        let kept: [&[u8]; 4] = [b"Via:", b"From:", b"Call-ID:", b"CSeq:"];
        if kept.iter().any(|name| line.starts_with(name)) {
            out.extend_from_slice(line);
        } else if line.starts_with(b"To:") {
            out.extend_from_slice(line.trim_ascii_end());
            out.extend_from_slice(b";tag=callee\r\n");
        }
    }
    out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
}

/// What a branch begins with.
pub const COOKIE: &str = "z9hG4bK";

/// The position after a pattern.
pub fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    let (first, rest) = pattern.split_first()?;
    let mut at = 0;
    loop {
        at += text.get(at..)?.iter().position(|byte| byte == first)? + 1;
        if text[at..].starts_with(rest) {
            return Some(at + rest.len());
        }
    }
}

const CNONCE: &str = "0a4f113b";
const BODY: &str = "Shall we meet at nine in the small room? I bring the drawings.";
/// The server's bound of bindings per user.
pub const MAX_CONTACTS: u32 = 10;
/// The server's usual bound of messages stored for one user.
const MAX_STORED: u32 = 500;

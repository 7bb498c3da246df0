//! Stored messages under load: users who were away come back, and their phones take what waited for them.
//!
//! It has a loop of its own, because here the server begins: each message comes when it has its turn.

use std::collections::HashSet;
use std::io::Write;
use std::ops::Range;
use std::time::{Duration, Instant};

use hither::sip::digest::Algorithm;

use crate::credentials::Credentials;
use crate::database::DOMAIN;
use crate::notify::header;
use crate::phone::{is_whole_message, write_ok};
use crate::run::{Measured, PATIENCE, branch, named, status};
use crate::wire::{Inbox, Wire};

/// The users for whom messages are stored, and the sockets they share.
pub struct Delivery {
    /// Connected to the server. A user has one line.
    wire: Wire,
    users: Vec<User>,
    /// Messages that are stored for them.
    waiting: u64,
    /// Call-IDs of the messages that came: one that comes again counts once. The server makes them of the messages' own ids (RFC 3428 7).
    came: HashSet<Box<[u8]>>,
    /// Requests so far: no branch is ever used twice.
    number: u32,
}

struct User {
    credentials: Credentials,
    cseq: u32,
}

/// What a REGISTER does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// Nothing, it only asks (RFC 3261 10.2.3): the user gets a nonce, and the connection is known.
    Ask,
    /// The user is there.
    Come,
    /// The user is away again.
    Leave,
}

/// What came of a REGISTER by everybody.
#[derive(Debug, Default)]
struct Answers {
    accepted: usize,
    challenged: u64,
}

impl Delivery {
    /// Users `n` of these numbers, who are away.
    pub fn new(wire: Wire, users: Range<u32>, algorithm: Algorithm) -> Delivery {
        let user = |n| User { credentials: Credentials::new(format!("n{n}"), algorithm), cseq: 0 };
        Delivery { wire, users: users.map(user).collect(), waiting: 0, came: HashSet::new(), number: 0 }
    }

    /// Everybody gets a nonce. Not measured.
    pub fn begin(&mut self) {
        self.all(Change::Ask);
    }

    /// So many messages more are stored.
    pub fn stored(&mut self, number: u64) {
        self.waiting += number;
    }

    /// Measures: everybody registers once, and answers what comes, until all has come or [`LONGEST`] is over.
    pub fn run(&mut self) -> Measured {
        let (begun, expected) = (Instant::now(), self.waiting);
        let answers = self.exchange(Change::Come, LONGEST, |delivery, _| delivery.waiting == 0);
        let elapsed = begun.elapsed();
        // What the last answers cost belongs to them.
        std::thread::sleep(AFTERWARDS);
        let untimed = usize::try_from(expected - self.waiting).unwrap_or(usize::MAX);
        let mut measured = Measured::default();
        (measured.elapsed, measured.untimed) = (elapsed, untimed);
        (measured.lost, measured.challenged) = (self.waiting, answers.challenged);
        measured
    }

    /// Everybody is away again. Not measured.
    pub fn tidy(&mut self) {
        self.all(Change::Leave);
    }

    /// # Panics
    /// If somebody could not.
    fn all(&mut self, change: Change) {
        let all = self.users.len();
        let answers = self.exchange(change, PATIENCE * 10, |_, answers| answers.accepted == all);
        assert!(answers.accepted == all, "{} of {all} users could register ({change:?})", answers.accepted);
    }

    /// Everybody registers; then answers are read and messages taken until it is over, or so long.
    fn exchange(
        &mut self,
        change: Change,
        longest: Duration,
        is_over: impl Fn(&Delivery, &Answers) -> bool,
    ) -> Answers {
        let begun = Instant::now();
        for user in 0..u32::try_from(self.users.len()).unwrap_or(u32::MAX) {
            self.register(user, change);
        }
        let (mut answers, mut inbox) = (Answers::default(), Inbox::new());
        while !is_over(self, &answers) && begun.elapsed() < longest {
            self.wire.receive(&mut inbox, PATIENCE / 10);
            for (line, message) in inbox.messages() {
                match message.starts_with(b"SIP/2.0 ") {
                    true => self.answered(message, change, &mut answers),
                    false => self.take(line, message),
                }
            }
        }
        self.wire.flush();
        answers
    }

    fn answered(&mut self, response: &[u8], change: Change, answers: &mut Answers) {
        let Some((user, _)) = named(response).filter(|(user, _)| (*user as usize) < self.users.len()) else {
            return;
        };
        match status(response) {
            200 => answers.accepted += 1,
            401 => {
                answers.challenged += 1;
                self.users[user as usize].credentials.challenged(response);
                self.register(user, change);
            }
            _ => {}
        }
    }

    /// The phone answers 200, if the message came whole.
    fn take(&mut self, line: u32, request: &[u8]) {
        if !is_whole_message(request, b'n') {
            return;
        }
        let (out, _) = self.wire.begin(line);
        write_ok(out, request);
        self.wire.end(line);
        let id = header(request, b"Call-ID:").unwrap_or_default();
        if self.came.insert(id.into()) {
            self.waiting = self.waiting.saturating_sub(1);
        }
    }

    fn register(&mut self, at: u32, change: Change) {
        self.number += 1;
        let branch = branch(at, self.number);
        let Delivery { wire, users, .. } = self;
        let (line, transport) = (at % wire.lines(), wire.transport);
        let (out, own) = wire.begin(line);
        let User { credentials, cseq } = &mut users[at as usize];
        *cseq += 1;
        let (name, token, parameter) = (&credentials.name, transport.token(), transport.parameter());
        let _ = write!(
            out,
            "REGISTER sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/{token} {own};branch={branch};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:{name}@{DOMAIN}>;tag=d{name}\r\nTo: <sip:{name}@{DOMAIN}>\r\nCall-ID: d{name}@127.0.0.1\r\n\
             CSeq: {cseq} REGISTER\r\nUser-Agent: Load 1.0\r\n"
        );
        if change != Change::Ask {
            let expires = if change == Change::Come { 3600 } else { 0 };
            let _ = write!(out, "Contact: <sip:{name}@{own}{parameter}>\r\nExpires: {expires}\r\n");
        }
        credentials.write(out, "REGISTER", &format!("sip:{DOMAIN}"));
        out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
        wire.end(line);
    }
}

/// How many messages are stored for a measurement that shall take so long. The server sends one per 2 ms at most, and 3 ms is
/// what its timers make of that.
pub fn messages(seconds: Duration) -> u64 {
    ((seconds.as_secs_f64() * PER_SECOND) as u64).clamp(RECIPIENTS.into(), MOST)
}

/// For whom messages are stored: their REGISTERs are few beside the messages, and while one answers there are others.
pub const RECIPIENTS: u32 = 40;
/// How long the server may be about one user for whom something was stored: it looks once whether they are there, in turns like those of messages.
pub const TURN: Duration = Duration::from_millis(4);
const PER_SECOND: f64 = 250.0;
/// For all of them; what comes in less than [`LONGEST`], and less for one user than may be stored (500).
const MOST: u64 = RECIPIENTS as u64 * 150;
/// What has not come by then is lost.
const LONGEST: Duration = Duration::from_secs(30);
/// The row of a message goes after its answer.
const AFTERWARDS: Duration = Duration::from_millis(100);

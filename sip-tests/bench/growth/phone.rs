//! The devices of all users behind one socket. Whoever asks is one of a window of lanes; each lane has a nonce that any user may use.

use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use hither::sip::digest::Algorithm;

use crate::database::DOMAIN;
use crate::seed::{HA1, USER_AGENT, name_of};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Options,
    /// REGISTER of any user, again.
    Refresh,
    /// MESSAGE from any user to any other, relayed and answered.
    Message,
    /// SUBSCRIBE of any user to any other, and its first NOTIFY.
    Subscribe,
    /// PUBLISH of the first user, whom a crowd watches.
    Publish,
}

impl Operation {
    pub const ALL: [Operation; 4] =
        [Operation::Options, Operation::Refresh, Operation::Message, Operation::Subscribe];

    pub fn name(self) -> &'static str {
        match self {
            Operation::Options => "OPTIONS",
            Operation::Refresh => "refresh",
            Operation::Message => "MESSAGE",
            Operation::Subscribe => "SUBSCRIBE",
            Operation::Publish => "PUBLISH",
        }
    }
}

impl std::str::FromStr for Operation {
    type Err = String;
    fn from_str(word: &str) -> Result<Operation, String> {
        let named = Operation::ALL.into_iter().find(|operation| operation.name().eq_ignore_ascii_case(word));
        named.ok_or_else(|| "options, refresh, message or subscribe".to_owned())
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name().to_ascii_lowercase())
    }
}

/// What came of a measurement.
#[derive(Debug, Default)]
pub struct Done {
    pub ended: u64,
    pub lost: u64,
    pub elapsed: Duration,
    pub p50_us: u128,
    pub p99_us: u128,
    pub longest_us: u128,
}

/// How a crowd was told.
#[derive(Debug, Default)]
pub struct Told {
    /// From the PUBLISH to its 200, to the first NOTIFY, to the last of them.
    pub ok: Duration,
    pub first: Duration,
    pub last: Duration,
    /// NOTIFYs that came.
    pub notifies: u32,
    /// What else one phone did meanwhile, one after the other.
    pub meanwhile: Done,
}

impl Done {
    fn took(&mut self, elapsed: Duration, mut took: Vec<u128>) {
        self.elapsed = elapsed;
        took.sort_unstable();
        let at = |per_cent: usize| took.get(took.len() * per_cent / 100).copied().unwrap_or(0);
        (self.p50_us, self.p99_us) = (at(50), at(99));
        self.longest_us = took.last().copied().unwrap_or(0);
    }
}

#[derive(Debug, Default, Clone)]
struct Lane {
    operation: Option<Operation>,
    nonce: String,
    count: u32,
    number: u32,
    user: u32,
    other: u32,
    sent: Option<Instant>,
}

/// All devices.
pub struct Phones {
    socket: UdpSocket,
    server: SocketAddr,
    users: u32,
    lanes: Vec<Lane>,
    number: u32,
    seed: u64,
    /// NOTIFYs that came since the server was started.
    notifies: u32,
    pub first_notify: Option<Instant>,
    out: Vec<u8>,
    buffer: Vec<u8>,
}

impl Phones {
    pub fn new(users: u32) -> Phones {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let sized = socket2::SockRef::from(&socket);
        let _ = sized.set_recv_buffer_size(BUFFER).and_then(|()| sized.set_send_buffer_size(BUFFER));
        // A port that nobody has just now.
        let free = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
        Phones {
            socket,
            server: free,
            users,
            lanes: vec![Lane::default(); WINDOW],
            number: 0,
            seed: 0x9e37_79b9_7f4a_7c15,
            notifies: 0,
            first_notify: None,
            out: Vec::with_capacity(2_048),
            buffer: vec![0; 65_536],
        }
    }

    pub fn own(&self) -> SocketAddr {
        self.socket.local_addr().expect("bound")
    }

    pub fn server_port(&self) -> u16 {
        self.server.port()
    }

    /// A new server: nonces of the old one are worth nothing.
    pub fn fresh_start(&mut self) {
        self.lanes.fill(Lane::default());
        (self.notifies, self.first_notify) = (0, None);
    }

    /// Asks until an answer comes that is final and no challenge; the last user asks, or is asked.
    pub fn first(&mut self, operation: Operation, begun: Instant) -> Option<Duration> {
        let last = self.users - 1;
        let (user, other) = if operation == Operation::Message { (0, last) } else { (last, 0) };
        self.lanes[0] = Lane { user, other, ..self.lanes[0].clone() };
        let mut again = Instant::now();
        self.send(operation, 0);
        while begun.elapsed() < Duration::from_secs(120) {
            if let Some((0, true)) = self.receive(Duration::from_millis(5)) {
                return Some(begun.elapsed());
            }
            // Before the server listens, datagrams are lost.
            if again.elapsed() > Duration::from_millis(if operation == Operation::Options { 5 } else { 500 })
            {
                again = Instant::now();
                self.send(operation, 0);
            }
        }
        None
    }

    /// Answers whatever comes.
    pub fn listen(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.receive(Duration::from_millis(5));
        }
    }

    /// Answers until so many NOTIFYs have come; when the last did.
    pub fn wait_for_notifies(&mut self, count: u32, patience: Duration) -> Option<Instant> {
        let until = Instant::now() + patience;
        while self.notifies < count {
            if Instant::now() > until {
                println!("              only {} were notified", self.notifies);
                return None;
            }
            self.receive(Duration::from_millis(100));
        }
        Some(Instant::now())
    }

    /// One operation after the other in every lane, each for other users.
    pub fn run(&mut self, operation: Operation, seconds: Duration) -> Done {
        let begun = Instant::now();
        let mut done = Done::default();
        let mut took = Vec::new();
        let mut started = 0;
        for lane in 0..WINDOW {
            self.begin(operation, lane);
            started += 1;
        }
        while self.lanes.iter().any(|lane| lane.sent.is_some()) {
            let is_over = begun.elapsed() >= seconds || started >= MOST;
            match self.receive(Duration::from_millis(20)) {
                Some((lane, is_right)) => {
                    let sent = self.lanes[lane].sent.take();
                    took.extend(sent.map(|sent| sent.elapsed().as_micros()));
                    *(if is_right { &mut done.ended } else { &mut done.lost }) += 1;
                    if !is_over {
                        self.begin(operation, lane);
                        started += 1;
                    }
                }
                None => {
                    for lane in 0..WINDOW {
                        if self.lanes[lane].sent.is_some_and(|sent| sent.elapsed() > PATIENCE) {
                            self.lanes[lane].sent = None;
                            done.lost += 1;
                            if !is_over {
                                self.begin(operation, lane);
                                started += 1;
                            }
                        }
                    }
                }
            }
        }
        done.took(begun.elapsed(), took);
        done
    }

    /// The first user publishes something new, and so many are to be told; one phone sends MESSAGEs to anybody meanwhile, or, if nobody publishes, for
    /// as long as that usually takes.
    pub fn crowd(&mut self, watchers: u32, publishes: bool) -> Told {
        let begun = Instant::now();
        let before = self.notifies;
        let (mut told, mut took) = (Told::default(), Vec::new());
        if publishes {
            (self.lanes[1].user, self.lanes[1].other) = (0, 0);
            self.send(Operation::Publish, 1);
        }
        self.begin(Operation::Message, 0);
        let is_done = |told: &Told| match publishes {
            true => told.notifies >= watchers && !told.ok.is_zero(),
            false => begun.elapsed() > Duration::from_secs(1),
        };
        while begun.elapsed() < Duration::from_secs(30) && !is_done(&told) {
            match self.receive(Duration::from_millis(20)) {
                Some((1, is_right)) if is_right => told.ok = begun.elapsed(),
                Some((0, is_right)) => {
                    took.extend(self.lanes[0].sent.take().map(|sent| sent.elapsed().as_micros()));
                    *(if is_right { &mut told.meanwhile.ended } else { &mut told.meanwhile.lost }) += 1;
                    self.begin(Operation::Message, 0);
                }
                Some(_) | None => {}
            }
            let now = self.notifies - before;
            if now > told.notifies {
                if told.notifies == 0 {
                    told.first = begun.elapsed();
                }
                (told.notifies, told.last) = (now, begun.elapsed());
            }
        }
        told.meanwhile.took(begun.elapsed(), took);
        self.listen(Duration::from_millis(100));
        self.lanes[0].sent = None;
        told
    }

    fn begin(&mut self, operation: Operation, lane: usize) {
        let (user, other) = (self.random(), self.random());
        let lane_of = &mut self.lanes[lane];
        (lane_of.user, lane_of.other, lane_of.sent) = (user, other, Some(Instant::now()));
        self.send(operation, lane);
    }

    /// Anybody (xorshift).
    fn random(&mut self) -> u32 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        u32::try_from(self.seed % u64::from(self.users)).unwrap_or(0)
    }

    fn send(&mut self, operation: Operation, at: usize) {
        self.number += 1;
        let (own, number) = (self.own(), self.number);
        let Phones { socket, server, lanes, out, .. } = self;
        let lane = &mut lanes[at];
        (lane.number, lane.operation) = (number, Some(operation));
        let (name, other) = (name_of(lane.user), name_of(lane.other));
        let (method, uri, to, call_id) = match operation {
            Operation::Options => ("OPTIONS", format!("sip:{DOMAIN}"), name.clone(), format!("o{number}")),
            Operation::Refresh => {
                ("REGISTER", format!("sip:{DOMAIN}"), name.clone(), format!("hTg7~Qx2pL-{name}"))
            }
            Operation::Message => {
                ("MESSAGE", format!("sip:{other}@{DOMAIN}"), other.clone(), format!("m{number}"))
            }
            Operation::Subscribe => {
                ("SUBSCRIBE", format!("sip:{other}@{DOMAIN}"), other.clone(), format!("s{number}"))
            }
            Operation::Publish => {
                ("PUBLISH", format!("sip:{name}@{DOMAIN}"), name.clone(), format!("p{number}"))
            }
        };
        out.clear();
        let _ = write!(
            out,
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch={COOKIE}{at:04x}{number:08x};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:{name}@{DOMAIN}>;tag=t{number}\r\nTo: <sip:{to}@{DOMAIN}>\r\nCall-ID: {call_id}\r\n\
             CSeq: {} {method}\r\nUser-Agent: {USER_AGENT}\r\n",
            number + 10,
        );
        let _ = match operation {
            Operation::Options => Ok(()),
            Operation::Refresh => write!(
                out,
                "Contact: <sip:{name}@{own}>;+sip.instance=\"<urn:uuid:00000000-0000-4000-8000-0000{name}>\"\r\nExpires: 3600\r\n"
            ),
            Operation::Message => write!(out, "Content-Type: text/plain\r\n"),
            Operation::Subscribe => write!(
                out,
                "Contact: <sip:{name}@{own}>\r\nEvent: presence\r\nAccept: application/pidf+xml\r\nExpires: 3600\r\n"
            ),
            Operation::Publish => {
                write!(out, "Event: presence\r\nContent-Type: application/pidf+xml\r\nExpires: 3600\r\n")
            }
        };
        if operation != Operation::Options && !lane.nonce.is_empty() {
            let header =
                if operation == Operation::Message { "Proxy-Authorization" } else { "Authorization" };
            lane.count += 1;
            let count = format!("{:08x}", lane.count);
            let ha2 = Algorithm::Md5.hash_hex(&[method.as_bytes(), uri.as_bytes()]);
            let parts = [HA1, &lane.nonce, &count, CNONCE, "auth", &ha2].map(str::as_bytes);
            let response = Algorithm::Md5.hash_hex(&parts);
            let _ = write!(
                out,
                "{header}: Digest username=\"{name}\", realm=\"{DOMAIN}\", nonce=\"{}\", uri=\"{uri}\", response=\"{response}\", \
                 algorithm=MD5, cnonce=\"{CNONCE}\", qop=auth, nc={count}\r\n",
                lane.nonce,
            );
        }
        let body = match operation {
            Operation::Message => BODY.to_owned(),
            Operation::Publish => format!(
                "<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"sip:{name}@{DOMAIN}\"><tuple id=\"t1\"><status>\
                 <basic>open</basic></status><note>Number {number}</note></tuple></presence>"
            ),
            Operation::Options | Operation::Refresh | Operation::Subscribe => String::new(),
        };
        let _ = write!(out, "Content-Length: {}\r\n\r\n{body}", body.len());
        let _ = socket.send_to(out, *server);
    }

    /// One datagram: a request is answered, a challenge is taken up. The lane and whether it ended well, if one ended.
    fn receive(&mut self, patience: Duration) -> Option<(usize, bool)> {
        self.socket.set_read_timeout(Some(patience)).expect("a deadline");
        let (length, from) = self.socket.recv_from(&mut self.buffer).ok()?;
        let text = &self.buffer[..length];
        if from != self.server {
            return None;
        }
        if !text.starts_with(b"SIP/2.0 ") {
            if text.starts_with(b"NOTIFY ") {
                self.notifies += 1;
                self.first_notify.get_or_insert_with(Instant::now);
            }
            self.answer(length);
            return None;
        }
        let status: u16 = std::str::from_utf8(&text[8..11]).ok()?.parse().ok()?;
        let branch = find(text, b"branch=")? + COOKIE.len();
        let digits = std::str::from_utf8(text.get(branch..branch + 12)?).ok()?;
        let lane = usize::from_str_radix(&digits[..4], 16).ok()?;
        let number = u32::from_str_radix(&digits[4..], 16).ok()?;
        if status < 200 || self.lanes.get(lane)?.number != number {
            return None;
        }
        if status == 401 || status == 407 {
            let nonce = find(text, b"nonce=\"").and_then(|at| text.get(at..)?.split(|b| *b == b'"').next());
            let nonce = String::from_utf8_lossy(nonce.unwrap_or_default()).into_owned();
            let lane_of = &mut self.lanes[lane];
            (lane_of.nonce, lane_of.count) = (nonce, 0);
            let operation = lane_of.operation?;
            self.send(operation, lane);
            return None;
        }
        if status != 200 {
            let what = self.lanes[lane].operation.map_or("something", Operation::name);
            println!("              {what} was answered {status}");
        }
        Some((lane, status == 200))
    }

    /// 200 to whatever comes.
    fn answer(&mut self, length: usize) {
        let request = &self.buffer[..length];
        self.out.clear();
        self.out.extend_from_slice(b"SIP/2.0 200 OK\r\n");
        let lines =
            request.split_inclusive(|byte| *byte == b'\n').skip(1).take_while(|line| *line != b"\r\n");
        for line in lines {
            let kept: [&[u8]; 4] = [b"Via:", b"From:", b"Call-ID:", b"CSeq:"];
            if kept.iter().any(|name| line.starts_with(name)) {
                self.out.extend_from_slice(line);
            } else if line.starts_with(b"To:") {
                self.out.extend_from_slice(line.trim_ascii_end());
                let has_tag = line.windows(5).any(|part| part == b";tag=");
                self.out.extend_from_slice(if has_tag { b"\r\n" } else { b";tag=callee\r\n" });
            }
        }
        self.out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
        let _ = self.socket.send_to(&self.out, self.server);
    }
}

/// The position after a pattern.
fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    text.windows(pattern.len()).position(|window| window == pattern).map(|at| at + pattern.len())
}

const COOKIE: &str = "z9hG4bK";
const CNONCE: &str = "0a4f113b";
const BODY: &str = "Shall we meet at nine in the small room? I bring the drawings.";
const BUFFER: usize = 4 * 1024 * 1024;
const WINDOW: usize = 32;
/// After that an operation counts as lost.
const PATIENCE: Duration = Duration::from_secs(2);
/// Operations of one measurement: the server holds their transactions for half a minute.
const MOST: u32 = 100_000;

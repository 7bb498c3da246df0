//! A scripted phone: a real socket, a user, and a digest client. It does nothing that the test did not ask for, but
//! for three things no scenario wants to write: it answers retransmitted requests again, it acknowledges negative
//! answers to INVITE, and it retries once with credentials in `ask`.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::digest::{Algorithm, Challenge};
use super::ladder::Ladder;
use super::message::{Message, Reply, uri_of};
use super::request::{Dialog, Request};
use super::server::{Server, password_of};
use super::socket::{Socket, Transport};
use super::{DEADLINE, DOMAIN};

pub struct Phone {
    pub user: String,
    pub password: String,
    pub transport: Transport,
    pub local: SocketAddr,
    /// The algorithm taken when several are offered.
    pub algorithm: Algorithm,
    /// Added to every request when set.
    pub user_agent: Option<String>,
    /// Whether `rsip` must be able to read what arrives.
    pub second_opinion: bool,
    /// Whether an identical datagram that comes again is shown again.
    pub show_retransmissions: bool,
    /// The challenges at hand: for `Authorization` and for `Proxy-Authorization`.
    pub challenges: HashMap<&'static str, Challenge>,
    pub register_call_id: String,
    socket: Socket,
    name: String,
    cseq: u32,
    inbox: VecDeque<Message>,
    seen: HashSet<Vec<u8>>,
    answered: HashMap<(String, String), Vec<u8>>,
    ladder: Ladder,
}

impl Phone {
    /// A phone of one of the template's users (alice, bob, carol, dave), not registered yet.
    pub fn new(server: &Server, user: &str, transport: Transport) -> Phone {
        Phone::with_socket(server, user, transport, Socket::connect(transport, server.address(transport)))
    }

    /// A phone on UDP at an address of the test's choice.
    pub fn at(server: &Server, user: &str, local: SocketAddr) -> Phone {
        let socket = Socket::at(local, server.address(Transport::Udp));
        Phone::with_socket(server, user, Transport::Udp, socket)
    }

    /// A phone at the other end of the next connection that the server makes to `listener`.
    pub fn accepted(server: &Server, user: &str, listener: &TcpListener) -> Phone {
        let socket = Socket::accepted(listener).expect("the server connects");
        Phone::with_socket(server, user, Transport::Tcp, socket)
    }

    fn with_socket(server: &Server, user: &str, transport: Transport, socket: Socket) -> Phone {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Phone {
            user: user.into(),
            password: password_of(user),
            transport,
            local: socket.local(),
            algorithm: Algorithm::Sha256,
            user_agent: None,
            second_opinion: true,
            show_retransmissions: false,
            challenges: HashMap::new(),
            register_call_id: unique("reg"),
            socket,
            name: format!("{user}#{number}"),
            cseq: 0,
            inbox: VecDeque::new(),
            seen: HashSet::new(),
            answered: HashMap::new(),
            ladder: server.ladder.clone(),
        }
    }

    // What this phone is called

    pub fn aor(&self) -> String {
        aor(&self.user)
    }

    /// `sip:alice@127.0.0.1:40000`, with `;transport=tcp` where it is so.
    pub fn contact_uri(&self) -> String {
        format!("sip:{}@{}{}", self.user, self.local, self.transport.parameter())
    }

    pub fn contact(&self) -> String {
        format!("<{}>", self.contact_uri())
    }

    pub fn via(&self) -> String {
        format!("SIP/2.0/{} {};branch={};rport", self.transport.token(), self.local, unique("z9hG4bK"))
    }

    // Writing

    /// A request outside of a dialog, complete but for what the method needs.
    pub fn request(&mut self, method: &str, to: &str) -> Request {
        self.cseq += 1;
        let request = Request {
            method: method.into(),
            uri: to.into(),
            headers: Vec::new(),
            body: Vec::new(),
            with_length: true,
        }
        .header("Via", &self.via())
        .header("Max-Forwards", "70")
        .header("From", &format!("<{}>;tag={}", self.aor(), unique("t")))
        .header("To", &format!("<{to}>"))
        .header("Call-ID", &unique("call"))
        .header("CSeq", &format!("{} {method}", self.cseq));
        // As phones do: a request much shorter than theirs gets a shorter challenge (A15).
        let agent = self.user_agent.as_deref().unwrap_or("scripted phone (hither sip-tests)");
        request
            .header("User-Agent", agent)
            .header("Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS, MESSAGE, NOTIFY, INFO, UPDATE, PRACK, REFER")
            .header("Supported", "replaces, timer")
    }

    /// A request inside a dialog (RFC 3261 section 12.2.1.1).
    pub fn in_dialog(&mut self, dialog: &Dialog, method: &str) -> Request {
        let mut request = self
            .request(method, &dialog.target)
            .set("From", &dialog.local)
            .set("To", &dialog.remote)
            .set("Call-ID", &dialog.call_id);
        for route in &dialog.route {
            request = request.header("Route", route);
        }
        if matches!(method, "INVITE" | "SUBSCRIBE" | "UPDATE") {
            request = request.header("Contact", &self.contact());
        }
        request
    }

    /// The same request as a new transaction: new branch, next CSeq.
    pub fn again(&mut self, request: &Request) -> Request {
        self.cseq += 1;
        request.clone().set("Via", &self.via()).set("CSeq", &format!("{} {}", self.cseq, request.method))
    }

    /// Sets the CSeq that the next request follows on.
    pub fn continue_cseq(&mut self, last: u32) {
        self.cseq = last;
    }

    /// Adds credentials if a challenge is at hand; `uri` is the Request-URI.
    pub fn authorize(&mut self, request: &mut Request, header: &'static str) {
        let (user, password) = (self.user.clone(), self.password.clone());
        if let Some(challenge) = self.challenges.get_mut(header) {
            let value = challenge.answer(&user, &password, &request.method, &request.uri);
            request.put(header, &value);
        }
    }

    /// Remembers the challenge in a 401 or 407 that suits this phone; says which header answers it.
    pub fn learn(&mut self, response: &Message) -> &'static str {
        let (from, header) = match response.status() {
            Some(401) => ("WWW-Authenticate", "Authorization"),
            Some(407) => ("Proxy-Authenticate", "Proxy-Authorization"),
            _ => panic!("not a challenge:\n{response}"),
        };
        let offers: Vec<Challenge> = response.rows(from).into_iter().filter_map(Challenge::parse).collect();
        let chosen = offers
            .iter()
            .find(|offer| offer.algorithm == self.algorithm)
            .or(offers.first())
            .unwrap_or_else(|| panic!("no {from} that we can answer:\n{response}"));
        self.challenges.insert(header, chosen.clone());
        header
    }

    // Sending

    pub fn send(&mut self, request: &Request) {
        self.send_raw(&request.bytes());
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.ladder.record(&self.name, "->", bytes);
        self.socket.send(bytes);
    }

    /// Answers a request; the same answer goes out again if the request comes again.
    pub fn answer(&mut self, request: &Message, status: u16, reason: &str) {
        self.answer_with(request, request.reply(status, reason));
    }

    pub fn answer_with(&mut self, request: &Message, reply: Reply) {
        let bytes = reply.bytes();
        self.answered.insert(key(request), bytes.clone());
        self.send_raw(&bytes);
    }

    // Receiving

    /// The first message, already here or yet to come, that `wanted` accepts. Others stay for later.
    ///
    /// # Panics
    /// If it does not come in time.
    pub fn expect(&mut self, what: &str, wanted: impl Fn(&Message) -> bool) -> Message {
        self.await_within(DEADLINE, wanted).unwrap_or_else(|| {
            panic!("{}: {what} did not come; waiting unread: {:?}", self.name, self.unread())
        })
    }

    /// As `expect`, with a deadline of its own and `None` when it passes.
    pub fn await_within(&mut self, within: Duration, wanted: impl Fn(&Message) -> bool) -> Option<Message> {
        if let Some(at) = self.inbox.iter().position(&wanted) {
            return self.inbox.remove(at);
        }
        let deadline = Instant::now() + within;
        loop {
            let message = self.read(deadline)?;
            if wanted(&message) {
                return Some(message);
            }
            self.inbox.push_back(message);
        }
    }

    pub fn expect_request(&mut self, method: &str) -> Message {
        self.expect(method, |message| message.is_request(method))
    }

    /// The next final response to this request.
    pub fn expect_final(&mut self, request: &Request) -> Message {
        let (branch, method) = (request.branch(), request.method.clone());
        let response = self.expect(&format!("a final response to {method}"), |message| {
            message.status().is_some_and(|status| status >= 200)
                && message.branch() == branch
                && message.method() == method
        });
        if method == "INVITE" && response.status().is_some_and(|status| status >= 300) {
            self.ack_negative(request, &response);
        }
        response
    }

    /// A response of this status to this request.
    pub fn expect_status(&mut self, request: &Request, status: u16) -> Message {
        let branch = request.branch();
        let method = request.method.clone();
        let response = self.expect(&format!("{status} to {method}"), |message| {
            message.branch() == branch
                && message.method() == method
                && message.status().is_some_and(|s| s == status || s >= 300)
        });
        assert_eq!(response.status(), Some(status), "to {method}:\n{response}");
        if method == "INVITE" && status >= 300 {
            self.ack_negative(request, &response);
        }
        response
    }

    /// ACK of a negative answer: same branch, To of the response (RFC 3261 section 17.1.1.3).
    pub fn ack_negative(&mut self, invite: &Request, response: &Message) {
        let mut ack = Request {
            method: "ACK".into(),
            uri: invite.uri.clone(),
            headers: Vec::new(),
            body: Vec::new(),
            with_length: true,
        }
        .header("Via", invite.get("Via"))
        .header("Max-Forwards", "70")
        .header("From", invite.get("From"))
        .header("To", response.need("To"))
        .header("Call-ID", invite.call_id())
        .header("CSeq", &format!("{} ACK", invite.cseq()));
        for (name, value) in &invite.headers {
            if name.eq_ignore_ascii_case("route") {
                ack = ack.header(name, value);
            }
        }
        self.send(&ack);
    }

    // Asking

    /// Sends as it is and waits for the final response.
    pub fn transact(&mut self, request: &Request) -> Message {
        self.send(request);
        self.expect_final(request)
    }

    /// Sends, answers a challenge if there is one (twice if the nonce was stale), gives the final response.
    pub fn ask(&mut self, request: Request) -> Message {
        self.ask_and_tell(request).1
    }

    /// As `ask`; also gives the request as it was sent last.
    pub fn ask_and_tell(&mut self, mut request: Request) -> (Request, Message) {
        let header = if matches!(request.method.as_str(), "REGISTER" | "SUBSCRIBE" | "PUBLISH") {
            "Authorization"
        } else {
            "Proxy-Authorization"
        };
        self.authorize(&mut request, header);
        for _ in 0..2 {
            let response = self.transact(&request);
            if !matches!(response.status(), Some(401 | 407)) {
                return (request, response);
            }
            let refused =
                !request.get("Authorization").is_empty() || !request.get("Proxy-Authorization").is_empty();
            let header = self.learn(&response);
            if refused && !self.challenges[header].stale {
                return (request, response);
            }
            request = self.again(&request);
            self.authorize(&mut request, header);
        }
        let response = self.transact(&request);
        (request, response)
    }

    /// Sends with credentials and gives the request as sent; the answer is the test's to await.
    pub fn start(&mut self, mut request: Request) -> Request {
        let header = "Proxy-Authorization";
        if !self.challenges.contains_key(header) {
            self.send(&request);
            let branch = request.branch();
            let challenge =
                self.expect("a challenge", |m| m.branch() == branch && m.status().is_some_and(|s| s >= 200));
            if request.method == "INVITE" {
                self.ack_negative(&request, &challenge);
            }
            self.learn(&challenge);
            request = self.again(&request);
        }
        self.authorize(&mut request, header);
        self.send(&request);
        request
    }

    /// Asserts that nothing but the answer to an OPTIONS sent now arrives, and nothing lies unread.
    pub fn expect_nothing_more(&mut self) {
        let marker = self.request("OPTIONS", &format!("sip:{DOMAIN}"));
        self.send(&marker);
        self.expect_final(&marker);
        assert!(self.inbox.is_empty(), "{}: unexpected: {:?}", self.name, self.unread());
    }

    /// Whether the server closes the connection in time.
    pub fn is_closed_within(&mut self, within: Duration) -> bool {
        self.socket.is_closed_before(Instant::now() + within)
    }

    /// First lines of what nobody asked for yet.
    pub fn unread(&self) -> Vec<&str> {
        self.inbox.iter().map(|message| message.start.as_str()).collect()
    }

    fn read(&mut self, deadline: Instant) -> Option<Message> {
        loop {
            let bytes = self.socket.receive(deadline)?;
            self.ladder.record(&self.name, "<-", &bytes);
            let message = Message::parse(&bytes);
            if self.second_opinion {
                message.second_opinion();
            }
            let again = !self.seen.insert(bytes);
            let answer = self.answered.get(&key(&message)).filter(|_| message.status().is_none());
            if let Some(answer) = answer.cloned() {
                self.send_raw(&answer);
                continue;
            }
            if !again || self.show_retransmissions {
                return Some(message);
            }
        }
    }
}

/// `sip:user@` our domain.
pub fn aor(user: &str) -> String {
    format!("sip:{user}@{DOMAIN}")
}

/// A value nobody used before, here or in another run.
pub fn unique(prefix: &str) -> String {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}{:x}x{number}", std::process::id())
}

/// The user part of a URI.
pub fn user_of(value: &str) -> String {
    let uri = uri_of(value);
    uri.split_once(':').map_or(uri.as_str(), |(_, rest)| rest).split('@').next().unwrap_or("").to_string()
}

fn key(message: &Message) -> (String, String) {
    (message.branch(), message.method().to_string())
}

static NEXT: AtomicU32 = AtomicU32::new(1);

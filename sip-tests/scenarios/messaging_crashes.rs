//! An evening of two senders and one reader, and a server that dies between any two steps of a message's life. What was acknowledged arrives, once
//! or, if the server died while it was on its way, twice; nothing is left over.
//!
//! Where it dies is `HITHER_FAILPOINT` (`src/messaging/failpoint.rs`).

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::harness::{Database, Message, Phone, Request, Server, Transport};
use crate::scenarios::messaging_store::stored;

const ALICE: usize = 0;
const BOB: usize = 1;
const CAROL: usize = 2;
/// All that happens between two looks at the phones.
const GLANCE: Duration = Duration::from_millis(5);
/// A phase of the evening, with a crash, a restart and what is sent again.
const PHASE: Duration = Duration::from_secs(20);

/// A step, how often it comes by before the server dies there, and whether bob falls silent for that.
type Point = (&'static str, u32, bool);

/// Every step of a message's life.
const ALL: &[Point] = &[
    ("taken in", 1, false),
    ("taken in", 2, false),
    ("taken in", 3, false),
    ("admitted", 1, false),
    ("admitted", 2, false),
    ("admitted", 4, false),
    ("waits for its turn", 1, true),
    ("waits for its turn", 2, true),
    ("carries", 1, false),
    ("carries", 2, false),
    ("carries", 3, true),
    ("carried", 1, false),
    ("carried", 2, false),
    ("carried", 3, true),
    ("was answered", 1, false),
    ("was answered", 2, false),
    ("was answered", 3, true),
    ("passes on", 1, false),
    ("passes on", 2, false),
    ("passed on", 1, false),
    ("passed on", 2, false),
    ("stores", 1, false),
    ("stores", 2, true),
    ("stored", 1, false),
    ("stored", 2, true),
    ("accepts", 1, false),
    ("accepts", 2, true),
    ("accepted", 1, false),
    ("accepted", 2, true),
    ("put before the outbox", 1, false),
    ("settles", 1, true),
    ("settled", 1, true),
    ("resumed", 1, false),
    ("picked", 1, false),
    ("picked", 2, false),
    ("picked", 3, false),
    ("picked", 4, true),
    ("reads", 1, false),
    ("reads", 2, false),
    ("sends", 1, false),
    ("sends", 2, false),
    ("sent", 1, false),
    ("sent", 2, false),
    ("was taken", 1, false),
    ("was taken", 2, false),
    ("drops", 1, false),
    ("drops", 2, false),
    ("dropped", 1, false),
    ("dropped", 2, false),
    ("turn over", 1, false),
    ("turn over", 2, false),
    ("turn over", 3, false),
];

/// Those of them at which there is most to lose: before and after each commit, before and after each answer.
const SOME: &[Point] = &[
    ("carried", 1, false),
    ("passed on", 1, false),
    ("stores", 1, false),
    ("stored", 1, false),
    ("accepted", 1, false),
    ("settles", 1, true),
    ("sent", 1, false),
    ("was taken", 2, false),
    ("dropped", 1, false),
    ("turn over", 2, false),
];

/// A request that has no final answer yet. `text`: if it is one, which.
struct Pending {
    phone: usize,
    request: Request,
    text: Option<String>,
}

struct Evening {
    server: Server,
    via: Transport,
    phones: [Phone; 3],
    pending: Vec<Pending>,
    acknowledged: HashSet<String>,
    /// How often each text was shown to bob.
    arrived: HashMap<String, u32>,
    /// The texts in the order in which bob saw each first.
    first_seen: Vec<String>,
    is_registered: bool,
    /// What bob has not answered, while he is silent.
    silent: Option<Vec<Message>>,
    crashes: u32,
    texts: u32,
}

impl Evening {
    fn begin(database: Database, via: Transport) -> Evening {
        let server = Server::with(database, |config| {
            config.set("messaging.answer_s", 1);
            config.set("messaging.retry_s", 1);
        });
        let phones = ["alice", "bob", "carol"].map(|user| Phone::new(&server, user, via));
        Evening {
            server,
            via,
            phones,
            pending: Vec::new(),
            acknowledged: HashSet::new(),
            arrived: HashMap::new(),
            first_seen: Vec::new(),
            is_registered: false,
            silent: None,
            crashes: 0,
            texts: 0,
        }
    }

    /// Sends a text to bob and does not wait.
    fn say(&mut self, phone: usize) -> String {
        self.texts += 1;
        let text = format!("{} {}", self.phones[phone].user, self.texts);
        let request = self.phones[phone].message_request("bob", &text);
        self.ask(phone, request, Some(text.clone()));
        text
    }

    /// Bob comes or goes. `also`: a Contact of his that is no more.
    fn register(&mut self, is_registered: bool, also: Option<&str>) {
        self.is_registered = is_registered;
        let bob = &mut self.phones[BOB];
        let expires = if is_registered { 600 } else { 0 };
        let contact = format!("{};expires={expires}", bob.contact());
        let mut request = bob.register_request().header("Contact", &contact);
        if let Some(also) = also {
            request = request.header("Contact", &format!("{also};expires=0"));
        }
        self.ask(BOB, request, None);
    }

    fn ask(&mut self, phone: usize, mut request: Request, text: Option<String>) {
        let header = if text.is_some() { "Proxy-Authorization" } else { "Authorization" };
        self.phones[phone].authorize(&mut request, header);
        self.phones[phone].send(&request);
        self.pending.push(Pending { phone, request, text });
    }

    /// Lets the evening go on until it has come so far.
    fn until(&mut self, what: &str, reached: impl Fn(&mut Evening) -> bool) {
        let deadline = Instant::now() + PHASE;
        while !reached(self) {
            assert!(Instant::now() < deadline, "{what}: not in time");
            if !self.server.is_running() {
                self.crashed();
            }
            for phone in 0..self.phones.len() {
                while let Some(message) = self.phones[phone].await_within(GLANCE, |_| true) {
                    self.handle(phone, message);
                }
            }
        }
    }

    fn all_answered(&mut self, what: &str) {
        self.until(what, |evening| evening.pending.is_empty());
    }

    fn handle(&mut self, phone: usize, message: Message) {
        if message.is_request("MESSAGE") {
            let text = message.body_text();
            if !self.arrived.contains_key(&text) {
                self.first_seen.push(text.clone());
            }
            *self.arrived.entry(text).or_default() += 1;
            match &mut self.silent {
                Some(unanswered) => unanswered.push(message),
                None => self.phones[phone].answer(&message, 200, "OK"),
            }
            return;
        }
        let branch = message.branch();
        // An answer to what was sent again meanwhile.
        let Some(at) = self.pending.iter().position(|one| one.request.branch() == branch) else { return };
        let Pending { phone, request, text } = self.pending.swap_remove(at);
        match message.status() {
            Some(401 | 407) => {
                self.phones[phone].learn(&message);
                let request = self.phones[phone].again(&request);
                self.ask(phone, request, text);
            }
            Some(200..300) => self.acknowledged.extend(text),
            // Not yet: RFC 3261 21.5.4.
            Some(480 | 500 | 503) => {
                let request = self.phones[phone].again(&request);
                self.ask(phone, request, text);
            }
            Some(100..200) => self.pending.push(Pending { phone, request, text }),
            _ => panic!("{message}"),
        }
    }

    /// The server has died: it starts again, and so do those who wait for an answer.
    fn crashed(&mut self) {
        self.crashes += 1;
        self.server.environment.clear();
        self.server.restart();
        let pending = std::mem::take(&mut self.pending);
        self.reconnect(pending.iter().any(|one| one.text.is_none()));
        for Pending { phone, request, text } in pending {
            // A registration has been made again already.
            if text.is_some() {
                let via = self.phones[phone].via();
                self.ask(phone, request.set("Via", &via), text);
            }
        }
    }

    /// After a restart: connections are gone, and who was registered says where they are now; so does who was about to register or to leave.
    fn reconnect(&mut self, was_at_it: bool) {
        let was = self.phones[BOB].contact();
        if !self.via.is_udp() {
            for phone in &mut self.phones {
                let user = phone.user.clone();
                *phone = Phone::new(&self.server, &user, self.via);
            }
        }
        let is_registered = self.is_registered;
        let moved = (self.phones[BOB].contact() != was).then_some(was.as_str());
        if is_registered || moved.is_some() || was_at_it {
            self.register(is_registered, moved);
        }
    }

    /// One evening at which the server dies at that point. Gives how many texts were sent, and how many came twice.
    fn pass(&mut self, (point, times, with_silence): Point) -> (usize, usize) {
        let before = self.first_seen.len();
        // Bob is away; two are owed to him.
        for phone in [ALICE, CAROL] {
            self.say(phone);
        }
        self.all_answered("the first two");
        self.crashes = 0;
        self.server.environment = vec![("HITHER_FAILPOINT".into(), format!("{point}:{times}"))];
        self.server.restart();
        self.reconnect(false);
        // One more for who is away, then he comes back.
        self.say(ALICE);
        self.all_answered("one for who is away");
        self.register(true, None);
        self.all_answered("bob comes back");
        self.until("what was owed", |evening| evening.arrived.len() == evening.texts as usize);
        // Two at once, then one after the other.
        self.say(ALICE);
        self.say(CAROL);
        self.all_answered("two at once");
        self.say(ALICE);
        self.all_answered("one after them");
        if with_silence {
            self.silent = Some(Vec::new());
            for phone in [ALICE, CAROL, ALICE] {
                self.say(phone);
            }
            self.all_answered("to who does not answer");
            let unanswered = self.silent.take().expect("he was silent");
            for message in unanswered {
                self.phones[BOB].answer(&message, 200, "OK");
            }
        }
        self.until("the end of the evening", |evening| {
            evening.arrived.len() == evening.texts as usize
                && evening.pending.is_empty()
                && (!evening.server.is_running() || stored(&evening.server) == 0)
        });
        assert_eq!(self.crashes, 1, "the server did not come by {point:?} {times} times");
        self.register(false, None);
        self.all_answered("bob leaves");
        let seen = &self.first_seen[before..];
        for sender in ["alice", "carol"] {
            let numbers: Vec<u32> =
                seen.iter().filter_map(|text| text.strip_prefix(sender)?.trim().parse().ok()).collect();
            assert!(numbers.is_sorted(), "the order of {sender}: {seen:?}");
        }
        let twice = seen.iter().filter(|text| self.arrived[*text] > 1).count();
        let too_often: Vec<_> = seen.iter().filter(|text| self.arrived[*text] > 2).collect();
        assert!(too_often.is_empty(), "{too_often:?}");
        assert!(seen.iter().all(|text| self.acknowledged.contains(text)), "sent again until it is taken");
        (seen.len(), twice)
    }
}

fn evenings(database: Database, via: Transport, points: &[Point]) {
    let mut evening = Evening::begin(database, via);
    println!("{:<24}{:>8}{:>12}{:>6}{:>8}", "dies at", "time", "sent, taken", "lost", "twice");
    let mut sum = (0, 0);
    for point in points {
        let (sent, twice) = evening.pass(*point);
        println!("{:<24}{:>8}{:>12}{:>6}{:>8}", point.0, point.1, sent, 0, twice);
        sum = (sum.0 + sent, sum.1 + twice);
    }
    println!("{} cycles: {} acknowledged, 0 lost, {} came twice", points.len(), sum.0, sum.1);
    assert_eq!(evening.server.stop(), 0);
    assert_eq!(evening.server.rows("message"), 0, "nothing is left");
}

fn what_was_acknowledged_survives_a_death_at_any_step_rfc3428_x1(database: Database, via: Transport) {
    evenings(database, via, SOME);
}

/// All of them, with their table: `cargo test --test scenarios all_points -- --ignored --nocapture --test-threads 1`.
mod all_points {
    use super::{ALL, evenings};
    use crate::harness::{Database, Transport, postgres};

    #[test]
    #[ignore = "two minutes: every step of a message's life"]
    fn sqlite_udp() {
        evenings(Database::Sqlite, Transport::Udp, ALL);
    }

    #[test]
    #[ignore = "two minutes: every step of a message's life"]
    fn postgres_tcp() {
        if postgres::required_or_present() {
            evenings(Database::Postgres, Transport::Tcp, ALL);
        }
    }
}

over_each_transport!(what_was_acknowledged_survives_a_death_at_any_step_rfc3428_x1);

//! The last messages of one user, for who asks (`hither trace`).
//!
//! Messages are recorded while their user is followed ([`Trace::follow`]); failures in transactions that were taken on are recorded of everybody, a
//! hundred a second, so that there is something to look at when somebody asks afterwards. With nobody followed a message costs one load. Bodies and
//! credentials are never kept, of headers only those that say how a message went. Bounded per user and in all; the oldest go.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::endpoint::clock;
use crate::model::{Flow, Timestamp};
use crate::sip::{HeaderName, Headers, Limits, Message, NameAddr, ParseError, Request, Response};

/// One message, as far as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traced {
    /// Its number; only grows, over restarts too.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// Which way.
    pub direction: Direction,
    /// Between whom.
    pub flow: Flow,
    /// Its first line, without `SIP/2.0` of a request.
    pub line: String,
    /// Name and value, in the order of the message. What is secret says so.
    pub headers: Vec<(&'static str, String)>,
    /// Bytes of its body, which is not kept.
    pub body_bytes: usize,
}

/// Which way a message went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// It came.
    In,
    /// It was handed to a socket.
    Out,
    /// It was to go out, and there was no way.
    Unsent,
}

/// What is recorded, and of whom.
#[derive(Debug, Default)]
pub struct Trace {
    /// Is anybody followed?
    follows: AtomicBool,
    /// The last number given.
    number: AtomicU64,
    /// The present second, and in its lowest 16 bits how many failures were recorded in it.
    failures: AtomicU64,
    ring: Mutex<Ring>,
}

/// The number of a message that goes out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number(u64);

/// A message that may be recorded.
#[derive(Debug, Clone, Copy)]
pub(super) enum Seen<'a> {
    Request(&'a Request),
    Response(&'a Response),
}

#[derive(Debug, Default)]
struct Ring {
    /// User part -> until when.
    followed: HashMap<String, Timestamp>,
    entries: BTreeMap<u64, Kept>,
    /// User part -> numbers, ascending.
    by_user: HashMap<String, VecDeque<u64>>,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    traced: Arc<Traced>,
    users: Users,
    bytes: usize,
}

type Users = SmallVec<[String; 2]>;

impl Trace {
    /// Nothing yet. Numbers begin with the time, so that those of a later run are higher.
    pub fn starting(now: Timestamp) -> Trace {
        let first = u64::try_from(now.0).unwrap_or(0).saturating_mul(1_000);
        Trace { number: AtomicU64::new(first), ..Trace::default() }
    }

    /// Records the messages of this user (the user part of From, To or Request-URI) until then; earlier calls never end sooner for it.
    /// `false`: so many others are followed that nobody more is.
    pub fn follow(&self, user: &str, until: Timestamp, now: Timestamp) -> bool {
        let mut ring = self.lock();
        ring.forget_followed(now);
        if ring.followed.len() >= MAX_FOLLOWED && !ring.followed.contains_key(user) {
            return false;
        }
        let entry = ring.followed.entry(user.to_owned()).or_insert(until);
        *entry = until.max(*entry);
        self.follows.store(true, Ordering::Relaxed);
        true
    }

    /// Until when this user is followed.
    pub fn followed_until(&self, user: &str, now: Timestamp) -> Option<Timestamp> {
        self.lock().followed.get(user).copied().filter(|until| *until > now)
    }

    /// What is recorded of this user with a number above `after`, oldest first.
    pub fn of(&self, user: &str, after: u64) -> Vec<Arc<Traced>> {
        let ring = self.lock();
        let numbers = ring.by_user.get(user).into_iter().flatten().filter(|number| **number > after);
        numbers.filter_map(|number| ring.entries.get(number)).map(|kept| kept.traced.clone()).collect()
    }

    /// A message came.
    pub(super) fn came(&self, message: &Message, flow: &Flow) {
        if self.follows.load(Ordering::Relaxed) {
            self.record(self.next(), Seen::of(message), flow, Direction::In, true);
        }
    }

    /// A final response came to a request of ours.
    pub(super) fn answered(&self, response: &Response, flow: &Flow) {
        if is_failure(response.status().code()) && self.has_room(clock::now()) {
            self.record(self.next(), Seen::Response(response), flow, Direction::In, false);
        }
    }

    /// To be asked before a message goes out: its answer may be here before [`Trace::went`] is called.
    pub(super) fn goes(&self) -> Option<Number> {
        self.follows.load(Ordering::Relaxed).then(|| self.next())
    }

    /// A message went out, or could not.
    ///
    /// - `taken_on`: it answers a request that was taken on, so that a failure is recorded.
    pub(super) fn went(
        &self,
        number: Option<Number>,
        bytes: &Bytes,
        flow: &Flow,
        is_sent: bool,
        taken_on: bool,
    ) {
        // `SIP/2.0 4..`
        let fails = taken_on && fails(bytes) && self.has_room(clock::now());
        if number.is_some() || fails {
            self.went_slowly(number, bytes, flow, is_sent, fails);
        }
    }

    #[cold]
    fn went_slowly(&self, number: Option<Number>, bytes: &Bytes, flow: &Flow, is_sent: bool, fails: bool) {
        let unlimited =
            Limits { message: usize::MAX, start_line: usize::MAX, header: usize::MAX, headers: usize::MAX };
        let Ok(message) = Message::parse(bytes.clone(), false, &unlimited) else { return };
        let direction = if is_sent { Direction::Out } else { Direction::Unsent };
        let seen = Seen::of(&message);
        if let Some(number) = number {
            self.record(number, seen, flow, direction, true);
        }
        if fails {
            self.record(self.next(), seen, flow, direction, false);
        }
    }

    /// May one more failure be recorded? To write one down costs as much as the whole rest of a refusal, and more of them would only push each other out.
    fn has_room(&self, now: Timestamp) -> bool {
        let second = u64::try_from(now.0 / 1_000).unwrap_or(0) << 16;
        let one_more = |before: u64| match before & !0xffff == second {
            true => (before & 0xffff < MAX_PER_SECOND).then_some(before + 1),
            false => Some(second + 1),
        };
        self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    fn next(&self) -> Number {
        Number(self.number.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Records it for those of its users who are followed, or for the others.
    #[cold]
    fn record(&self, number: Number, seen: Seen<'_>, flow: &Flow, direction: Direction, for_followed: bool) {
        let now = clock::now();
        let mut users = users(seen);
        let mut ring = self.lock();
        if ring.forget_followed(now) {
            self.follows.store(false, Ordering::Relaxed);
        }
        users.retain(|user| ring.followed.contains_key(user) == for_followed);
        if !users.is_empty() {
            ring.put(users, traced(number.0, now, seen, flow, direction));
        }
    }

    /// A panic elsewhere leaves what stands behind it usable.
    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    /// Lets go of those whose time is over; is nobody left?
    fn forget_followed(&mut self, now: Timestamp) -> bool {
        self.followed.retain(|_, until| *until > now);
        self.followed.is_empty()
    }

    fn put(&mut self, users: Users, traced: Traced) {
        let bytes = traced.size() + users.iter().map(String::len).sum::<usize>();
        for user in &users {
            let numbers = self.by_user.entry(user.clone()).or_default();
            // Almost always last: what went out has a number from before it went.
            let place = numbers.partition_point(|number| *number < traced.number);
            numbers.insert(place, traced.number);
            let oldest = (numbers.len() > MAX_PER_USER).then(|| numbers.pop_front()).flatten();
            if let Some(number) = oldest {
                self.unlink(number, user);
            }
        }
        self.bytes += bytes;
        self.entries.insert(traced.number, Kept { traced: Arc::new(traced), users, bytes });
        while self.bytes > MAX_BYTES {
            let Some((number, kept)) = self.entries.pop_first() else { break };
            self.bytes -= kept.bytes;
            for user in &kept.users {
                self.forget(user, number);
            }
        }
    }

    /// One user has it no more; who else it belongs to keeps it.
    fn unlink(&mut self, number: u64, user: &str) {
        let Some(kept) = self.entries.get_mut(&number) else { return };
        kept.users.retain(|other| other != user);
        if kept.users.is_empty() {
            self.bytes -= kept.bytes;
            self.entries.remove(&number);
        }
    }

    /// The oldest entry is gone: it stands first with each of its users.
    fn forget(&mut self, user: &str, number: u64) {
        let Some(numbers) = self.by_user.get_mut(user) else { return };
        if numbers.front() == Some(&number) {
            numbers.pop_front();
        }
        if numbers.is_empty() {
            self.by_user.remove(user);
        }
    }
}

impl Traced {
    fn size(&self) -> usize {
        let headers = self.headers.iter().map(|(_, value)| value.len() + PER_HEADER).sum::<usize>();
        self.line.len() + headers + PER_ENTRY
    }
}

fn traced(number: u64, at: Timestamp, seen: Seen<'_>, flow: &Flow, direction: Direction) -> Traced {
    let headers = seen.headers();
    let kept = headers.iter().filter_map(|row| {
        let value = String::from_utf8_lossy(row.value);
        let value = match row.name {
            // The mark in our Record-Route is as good as a password for its dialog.
            HeaderName::Route | HeaderName::RecordRoute => masked(&value, Mask::User),
            name if SECRET.contains(&name) => LEFT_OUT.to_owned(),
            name if KEPT.contains(&name) => masked(&value, Mask::Password),
            _ => return None,
        };
        Some((row.name.as_str(), cut(value, MAX_VALUE)))
    });
    Traced {
        number,
        at,
        direction,
        flow: *flow,
        line: cut(seen.line(), MAX_LINE),
        headers: kept.take(MAX_HEADERS).collect(),
        body_bytes: headers.body().len(),
    }
}

impl<'a> Seen<'a> {
    fn of(message: &'a Message) -> Seen<'a> {
        match message {
            Message::Request(request) => Seen::Request(request),
            Message::Response(response) => Seen::Response(response),
        }
    }
    fn headers(self) -> &'a Headers {
        match self {
            Seen::Request(request) => request,
            Seen::Response(response) => response,
        }
    }
    fn line(self) -> String {
        match self {
            Seen::Request(request) => {
                let uri = String::from_utf8_lossy(request.uri_bytes());
                format!("{} {}", request.method().as_str(), masked(&uri, Mask::Password))
            }
            Seen::Response(response) => {
                format!("{} {}", response.status().code(), String::from_utf8_lossy(response.reason_bytes()))
            }
        }
    }
}

/// Whose message it is: the user parts of From, To and Request-URI. One domain is served, under whatever names.
fn users(seen: Seen<'_>) -> Users {
    let headers = seen.headers();
    let of = |address: Result<NameAddr<'_>, ParseError>| {
        address.ok().and_then(|address| Some(address.uri.user_decoded()?.into_owned()))
    };
    let target = match seen {
        Seen::Request(request) => {
            request.uri().ok().and_then(|uri| uri.user_decoded().map(|user| user.into_owned()))
        }
        Seen::Response(_) => None,
    };
    let mut users = Users::new();
    for user in [of(headers.from()), of(headers.to()), target].into_iter().flatten() {
        if !user.is_empty() && user.len() <= MAX_USER && !users.contains(&user) {
            users.push(user);
        }
    }
    users
}

/// Is it a response that [`is_failure`] means?
fn fails(bytes: &[u8]) -> bool {
    let code = bytes.strip_prefix(b"SIP/2.0 ").and_then(|rest| rest.get(..3));
    code.and_then(|code| std::str::from_utf8(code).ok()?.parse().ok()).is_some_and(is_failure)
}

/// A refusal that tells something: a challenge is none, nor is the end of a call that was not taken.
fn is_failure(code: u16) -> bool {
    code >= 400 && ![401, 407, 487].contains(&code)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mask {
    /// `sip:user:password@host` loses the password (RFC 3261 19.1.1).
    Password,
    /// ..or all before the host.
    User,
}

fn masked(value: &str, mask: Mask) -> String {
    let lower = value.to_ascii_lowercase();
    let (mut out, mut at) = (String::with_capacity(value.len()), 0);
    let scheme = |at: usize| {
        let rest = lower.get(at..)?;
        ["sip:", "sips:"].iter().filter_map(|scheme| Some(at + rest.find(scheme)? + scheme.len())).min()
    };
    while let Some(begin) = scheme(at) {
        let from = value.get(begin..).unwrap_or_default();
        let end = from.find(['@', '>', '<', ' ', '"']).unwrap_or(from.len());
        let (user, after) = from.split_at(end);
        out.push_str(value.get(at..begin).unwrap_or_default());
        match (after.starts_with('@'), mask) {
            (true, Mask::User) => out.push('*'),
            (true, Mask::Password) => match user.split_once(':') {
                Some((user, _)) => out.extend([user, ":*"]),
                None => out.push_str(user),
            },
            (false, Mask::User | Mask::Password) => out.push_str(user),
        }
        at = begin + end;
    }
    out.push_str(value.get(at..).unwrap_or_default());
    out
}

fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str("..");
    }
    text.retain(|c| !c.is_control());
    text
}

/// What says how a message went.
const KEPT: &[HeaderName] = &[
    HeaderName::Via,
    HeaderName::From,
    HeaderName::To,
    HeaderName::CallId,
    HeaderName::CSeq,
    HeaderName::Contact,
    HeaderName::Expires,
    HeaderName::MinExpires,
    HeaderName::Event,
    HeaderName::SubscriptionState,
    HeaderName::Accept,
    HeaderName::AllowEvents,
    HeaderName::SipEtag,
    HeaderName::SipIfMatch,
    HeaderName::RetryAfter,
    HeaderName::Reason,
    HeaderName::Require,
    HeaderName::Unsupported,
    HeaderName::Warning,
    HeaderName::UserAgent,
    HeaderName::Server,
    HeaderName::ContentType,
];
/// That they were there says enough.
const SECRET: &[HeaderName] = &[
    HeaderName::Authorization,
    HeaderName::ProxyAuthorization,
    HeaderName::WwwAuthenticate,
    HeaderName::ProxyAuthenticate,
];
const LEFT_OUT: &str = "(left out)";

/// Failures of everybody that are recorded in one second: half of what is kept of one user.
const MAX_PER_SECOND: u64 = 100;
/// Messages kept of one user.
const MAX_PER_USER: usize = 200;
/// Bytes kept of all users together.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Users followed at once.
const MAX_FOLLOWED: usize = 16;
const MAX_LINE: usize = 300;
const MAX_VALUE: usize = 300;
const MAX_HEADERS: usize = 40;
/// Longer than any of ours.
const MAX_USER: usize = 64;
/// What an entry costs besides its text, with its places in the indexes.
const PER_ENTRY: usize = 400;
const PER_HEADER: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Transport;

    const NOW: Timestamp = Timestamp(1_795_217_355_123);

    fn flow() -> Flow {
        Flow {
            transport: Transport::Udp,
            local: "192.0.2.1:5060".parse().unwrap(),
            remote: "192.0.2.7:5062".parse().unwrap(),
            connection: 0,
        }
    }

    fn request(method: &str, from: &str, to: &str, rows: &str) -> Message {
        let text = format!(
            "{method} sip:{to}@example.org SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7:5062;branch=z9hG4bK1\r\n\
             From: <sip:{from}@example.org>;tag=1\r\nTo: <sip:{to}@example.org>\r\nCall-ID: c\r\nCSeq: 1 {method}\r\n{rows}\
             Content-Type: text/plain\r\nContent-Length: 6\r\n\r\nSECRET"
        );
        Message::parse(Bytes::from(text), false, &Limits::default()).unwrap()
    }

    fn answer(code: u16) -> Bytes {
        Bytes::from(format!(
            "SIP/2.0 {code} Because\r\nVia: SIP/2.0/UDP 192.0.2.7:5062;branch=z9hG4bK1\r\nFrom: <sip:bob@example.org>;tag=1\r\n\
             To: <sip:alice@example.org>;tag=2\r\nCall-ID: c\r\nCSeq: 1 SUBSCRIBE\r\nContent-Length: 0\r\n\r\n"
        ))
    }

    fn went(trace: &Trace, code: u16, is_sent: bool, taken_on: bool) {
        trace.went(trace.goes(), &answer(code), &flow(), is_sent, taken_on);
    }

    fn lines(trace: &Trace, user: &str) -> Vec<String> {
        trace.of(user, 0).iter().map(|traced| traced.line.clone()).collect()
    }

    fn long_from_now() -> Timestamp {
        clock::now().after_secs(3_600)
    }

    #[test]
    fn who_is_followed_is_recorded_both_ways_and_nobody_else() {
        let trace = Trace::default();
        trace.came(&request("OPTIONS", "bob", "alice", ""), &flow());
        assert!(lines(&trace, "bob").is_empty());
        assert!(trace.follow("bob", long_from_now(), clock::now()));
        trace.came(&request("SUBSCRIBE", "bob", "alice", ""), &flow());
        went(&trace, 200, true, true);
        trace.came(&request("OPTIONS", "carol", "alice", ""), &flow());
        assert_eq!(lines(&trace, "bob"), ["SUBSCRIBE sip:alice@example.org", "200 Because"]);
        assert!(lines(&trace, "alice").is_empty() && lines(&trace, "carol").is_empty());
        let numbers: Vec<_> = trace.of("bob", 0).iter().map(|traced| traced.number).collect();
        assert_eq!(trace.of("bob", numbers[0]).len(), 1);
    }

    #[test]
    fn failures_of_what_was_taken_on_are_recorded_of_everybody_and_once() {
        let trace = Trace::default();
        went(&trace, 401, true, true);
        went(&trace, 403, true, false);
        went(&trace, 200, true, true);
        assert!(lines(&trace, "bob").is_empty());
        went(&trace, 403, true, true);
        assert_eq!((lines(&trace, "bob").len(), lines(&trace, "alice").len()), (1, 1));
        trace.follow("bob", long_from_now(), clock::now());
        went(&trace, 503, false, true);
        assert_eq!((lines(&trace, "bob").len(), lines(&trace, "alice").len()), (2, 2));
        assert_eq!(trace.of("bob", 0)[1].direction, Direction::Unsent);
    }

    #[test]
    fn so_many_failures_are_recorded_in_a_second_a23() {
        let trace = Trace::default();
        let room = |now| (0..1_000).filter(|_| trace.has_room(now)).count() as u64;
        assert_eq!(room(NOW), MAX_PER_SECOND);
        assert_eq!(room(NOW.after_secs(1)), MAX_PER_SECOND);
        // Who is followed has all of them.
        trace.follow("bob", long_from_now(), clock::now());
        for _ in 0..MAX_PER_USER {
            went(&trace, 403, true, true);
        }
        assert_eq!(lines(&trace, "bob").len(), MAX_PER_USER);
    }

    #[test]
    fn no_body_no_credentials_no_passwords_are_kept() {
        let trace = Trace::default();
        trace.follow("bob", long_from_now(), clock::now());
        let rows = "Authorization: Digest username=\"bob\", response=\"SECRET\"\r\nSubject: SECRET\r\nX-Other: SECRET\r\n\
                    Contact: \"Bob\" <sip:bob:SECRET@192.0.2.7:5062>;expires=60\r\n\
                    Route: <sip:SECRET@192.0.2.1:5060;lr>, <sips:SECRET@192.0.2.1;lr>\r\n";
        trace.came(&request("MESSAGE", "bob", "alice", rows), &flow());
        let traced = &trace.of("bob", 0)[0];
        assert!(!format!("{traced:?}").contains("SECRET"), "{traced:?}");
        assert_eq!(traced.body_bytes, 6);
        let value =
            |name: &str| traced.headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str());
        assert_eq!(value("Authorization"), Some("(left out)"));
        assert_eq!(value("Contact"), Some("\"Bob\" <sip:bob:*@192.0.2.7:5062>;expires=60"));
        assert_eq!(value("Route"), Some("<sip:*@192.0.2.1:5060;lr>, <sips:*@192.0.2.1;lr>"));
        assert_eq!(value("From"), Some("<sip:bob@example.org>;tag=1"));
    }

    #[test]
    fn following_ends_by_itself() {
        let trace = Trace::default();
        let now = clock::now();
        assert!(trace.follow("bob", now, now.after_secs(0)));
        assert_eq!(trace.followed_until("bob", now), None);
        trace.came(&request("OPTIONS", "bob", "alice", ""), &flow());
        assert!(lines(&trace, "bob").is_empty());
        assert!(!trace.follows.load(Ordering::Relaxed));
    }

    #[test]
    fn so_many_are_followed_at_once() {
        let trace = Trace::default();
        for n in 0..MAX_FOLLOWED {
            assert!(trace.follow(&format!("u{n}"), NOW.after_secs(1), NOW));
        }
        assert!(!trace.follow("bob", NOW.after_secs(1), NOW));
        assert!(trace.follow("u0", NOW.after_secs(9), NOW));
        assert!(trace.follow("bob", NOW.after_secs(3), NOW.after_secs(2)));
    }

    #[test]
    fn the_oldest_go_per_user_and_in_all() {
        let mut ring = Ring::default();
        let mut number = 0;
        let mut put = |ring: &mut Ring, users: &[&str], line: usize| {
            number += 1;
            let users = users.iter().map(|user| (*user).to_owned()).collect();
            ring.put(
                users,
                Traced {
                    number,
                    at: NOW,
                    direction: Direction::In,
                    flow: flow(),
                    line: "x".repeat(line),
                    headers: Vec::new(),
                    body_bytes: 0,
                },
            );
        };
        for _ in 0..MAX_PER_USER + 50 {
            put(&mut ring, &["bob", "alice"], 10);
        }
        put(&mut ring, &["alice"], 10);
        assert_eq!((ring.by_user["bob"].len(), ring.by_user["alice"].len()), (MAX_PER_USER, MAX_PER_USER));
        assert!(ring.entries.len() <= MAX_PER_USER + 1);
        for n in 0..100_000 {
            put(&mut ring, &[&format!("u{n}")], 300);
            assert!(ring.bytes <= MAX_BYTES);
        }
        assert!(!ring.by_user.contains_key("bob"));
        assert_eq!(ring.by_user.len(), ring.entries.len());
        let bytes: usize = ring.entries.values().map(|kept| kept.bytes).sum();
        assert_eq!(bytes, ring.bytes);
    }
}

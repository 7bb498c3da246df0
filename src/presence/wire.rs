//! The service over real sockets and a real store: what a watcher and a publisher see.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;

use crate::availability::view::DomainDefault;
use crate::endpoint::{Endpoint, Handler, Incoming, clock};
use crate::home::Homes;
use crate::model::{Aor, Flow, Transport};
use crate::presence::testing::aor;
use crate::presence::{Policy, Presence, Principal, RESUME_GAP};
use crate::sip::framer::{Frame, Framer};
use crate::sip::{HeaderName, Limits, Message, Method, Request, Response, Writer};
use crate::store::{Store, Target};
use crate::transport::{ConnectionLimits, Datagrams, ListenerConfig, Sockets};

/// Everything below dispatch. Believes From.
struct Server {
    homes: Arc<Homes>,
    presence: Arc<Presence>,
    store: Store,
    port: u16,
    tcp_port: u16,
    stop: watch::Sender<bool>,
}

#[derive(Default)]
struct Door(OnceLock<Arc<Presence>>);

impl Handler for Door {
    fn request(&self, incoming: Incoming) {
        let Some((request, flow, transaction)) = incoming.accept() else { return };
        let presence = self.0.get().expect("set before anything arrives");
        let who = Aor::from_uri(&request.from().expect("From").uri).expect("an AoR");
        let user = request.uri().expect("a URI").user_decoded().expect("a user").into_owned();
        let target = Aor::new(&user, "example.org").expect("an AoR");
        match request.method() {
            Method::Publish => {
                let means = |uri: &crate::sip::Uri<'_>| Aor::from_uri(uri).as_ref() == Some(&target);
                presence.publish(
                    request,
                    flow,
                    transaction,
                    Principal::User(&who),
                    target.clone(),
                    means,
                    clock::now(),
                );
            }
            _ => presence.subscribe(request, flow, transaction, who, target, clock::now()),
        }
    }
    fn closed(&self, _: &Flow) {}
}

impl Server {
    async fn start(folder: &tempfile::TempDir, domain_default: DomainDefault) -> Server {
        Server::while_missing(folder, domain_default, Arc::default()).await
    }

    /// So many times whoever changes has watchers who are not here yet.
    #[expect(clippy::disallowed_methods, reason = "the task ends with the test")]
    async fn while_missing(
        folder: &tempfile::TempDir,
        domain_default: DomainDefault,
        times: Arc<AtomicUsize>,
    ) -> Server {
        let store = Store::open(&Target::Sqlite(folder.path().join("presence.db"))).await.expect("a store");
        let listeners = [Transport::Udp, Transport::Tcp].map(|transport| ListenerConfig {
            transport,
            bind: "127.0.0.1:0".parse().expect("address"),
            advertise: None,
        });
        let sockets = Sockets::bind(&listeners, Datagrams::default(), ConnectionLimits::default())
            .await
            .expect("a port");
        let [port, tcp_port] = [0, 1].map(|n| sockets.listeners()[n].local.port());
        let endpoint = Endpoint::new(sockets, Limits::default(), None);
        let homes = Homes::new(store.clone(), clock::now);
        store.load_all(&mut |row| homes.install(&row)).await.expect("rows");
        let policy = Policy { domain: domain_default.into(), ..Policy::default() };
        let presence = Presence::new(homes.clone(), endpoint.clone(), policy);
        let (stop, stopped) = watch::channel(false);
        let door = Arc::new(Door::default());
        door.0.set(presence.clone()).expect("once");
        endpoint.run(door, stopped.clone());
        homes.mark_watched(RESUME_GAP, stopped.clone()).await;
        let missing = move |_: &Aor| {
            let left = times.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            left.is_ok().then(|| std::future::ready(false))
        };
        tokio::spawn(presence.clone().run(missing, stopped));
        Server { homes, presence, store, port, tcp_port, stop }
    }

    async fn end(self) {
        self.stop.send(true).expect("somebody listens");
        self.homes.drained().await;
        self.store.close().await;
    }
}

/// One user with one socket.
struct Phone {
    socket: UdpSocket,
    user: &'static str,
    server: u16,
    cseq: u32,
    /// Each has dialogs and a Contact of its own.
    line: u32,
}

impl Phone {
    async fn of(user: &'static str, server: &Server) -> Phone {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        Phone { socket, user, server: server.port, cseq: 0, line: 0 }
    }

    async fn send(&mut self, method: &str, uri: &str, to: &str, rows: &str, body: &str) {
        self.cseq += 1;
        let (user, cseq, line) = (self.user, self.cseq, self.line);
        let port = self.socket.local_addr().expect("bound").port();
        let text = format!(
            "{method} {uri} SIP/2.0\r\n\
             Via: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK{user}{port}-{cseq};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:{user}@example.org>;tag={user}s\r\n\
             To: {to}\r\n\
             Call-ID: call-{user}-{port}-{line}\r\n\
             CSeq: {cseq} {method}\r\n\
             Contact: <sip:{user}@127.0.0.1:{port};line={line}>\r\n\
             Event: presence\r\n\
             {rows}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.socket.send_to(text.as_bytes(), ("127.0.0.1", self.server)).await.expect("sent");
    }

    async fn subscribe(&mut self, to: &str, rows: &str) {
        self.send("SUBSCRIBE", to, &format!("<{to}>"), rows, "").await;
    }

    async fn subscribe_again(&mut self, ok: &Response, rows: &str) {
        let contact = ok.text(HeaderName::Contact).expect("a Contact").trim_matches(['<', '>']).to_owned();
        let to = ok.text(HeaderName::To).expect("To").to_owned();
        self.send("SUBSCRIBE", &contact, &to, rows, "").await;
    }

    async fn publish(&mut self, rows: &str, basic: &str) {
        let user = self.user;
        let body = format!(
            "<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"sip:{user}@example.org\">\
             <tuple id=\"t1\"><status><basic>{basic}</basic></status></tuple></presence>"
        );
        let rows = format!("Content-Type: application/pidf+xml\r\n{rows}");
        let uri = format!("sip:{user}@example.org");
        self.send("PUBLISH", &uri, &format!("<{uri}>"), &rows, &body).await;
    }

    async fn receive(&self) -> Message {
        let mut buffer = vec![0; 65_536];
        let received = tokio::time::timeout(DEADLINE, self.socket.recv(&mut buffer)).await;
        buffer.truncate(received.expect("a message in time").expect("a datagram"));
        Message::parse(Bytes::from(buffer), false, &Limits::default()).expect("a message")
    }

    async fn response(&self) -> Response {
        match self.receive().await {
            Message::Response(response) => response,
            Message::Request(request) => panic!("a request: {request:?}"),
        }
    }

    /// A NOTIFY, unanswered.
    async fn hear(&self) -> Request {
        match self.receive().await {
            Message::Request(request) => request,
            Message::Response(response) => panic!("a response: {response:?}"),
        }
    }

    async fn answer(&self, notify: &Request, status: u16) {
        let status = crate::sip::StatusCode::new(status).expect("a status");
        let answer = Writer::respond(notify, status, "").finish();
        self.socket.send_to(&answer, ("127.0.0.1", self.server)).await.expect("sent");
    }

    /// A NOTIFY, answered with 200.
    async fn notify(&self) -> Request {
        let notify = self.hear().await;
        self.answer(&notify, 200).await;
        notify
    }
}

/// Bob on a connection.
struct Line {
    stream: TcpStream,
    framer: Framer,
}

impl Line {
    fn over(stream: TcpStream) -> Line {
        Line { stream, framer: Framer::new(Limits::default()) }
    }

    /// Bob subscribes with this Contact, and has answered the first NOTIFY.
    async fn subscribed(server: &Server, contact: &str) -> Line {
        let mut line =
            Line::over(TcpStream::connect(("127.0.0.1", server.tcp_port)).await.expect("connected"));
        let text = format!(
            "SUBSCRIBE {ALICE} SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1;branch=z9hG4bKline;rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:bob@example.org>;tag=bobs\r\nTo: <{ALICE}>\r\nCall-ID: line\r\n\
             CSeq: 1 SUBSCRIBE\r\nContact: <{contact}>\r\nEvent: presence\r\nContent-Length: 0\r\n\r\n"
        );
        line.stream.write_all(text.as_bytes()).await.expect("sent");
        assert!(matches!(line.receive().await, Message::Response(ok) if ok.status().code() == 200));
        let Message::Request(notify) = line.receive().await else { panic!("a NOTIFY") };
        let answer = Writer::respond(&notify, crate::sip::StatusCode::OK, "").finish();
        line.stream.write_all(&answer).await.expect("sent");
        line
    }

    /// Hangs up, and waits until the server knows.
    async fn hang_up(self, server: &Server) {
        let flow = server
            .homes
            .read(&aor("alice@example.org"))
            .subscriptions
            .iter()
            .next()
            .expect("a subscription")
            .flow;
        drop(self);
        until(|| !server.presence.endpoint.sockets().is_alive(&flow)).await;
    }

    async fn receive(&mut self) -> Message {
        loop {
            if let Some(Frame::Message(bytes)) = self.framer.next_frame().expect("a frame") {
                return Message::parse(bytes, true, &Limits::default()).expect("a message");
            }
            let read = tokio::time::timeout(DEADLINE, self.stream.read_buf(self.framer.buffer_mut())).await;
            assert_ne!(read.expect("bytes in time").expect("bytes"), 0, "hung up");
        }
    }
}

fn state(notify: &Request) -> &str {
    let state = notify.text(HeaderName::SubscriptionState).expect("Subscription-State");
    state.split_once(";expires=").map_or(state, |(state, _)| state)
}

fn body(notify: &Request) -> String {
    String::from_utf8_lossy(notify.body()).into_owned()
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the task ends with the test")]
async fn who_cannot_be_told_while_homes_are_loaded_is_told_after_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let times = Arc::<AtomicUsize>::default();
    let server = Server::while_missing(&folder, DomainDefault::Full, times.clone()).await;
    let (mut alice, mut bob) = (Phone::of("alice", &server).await, Phone::of("bob", &server).await);
    bob.subscribe(ALICE, "").await;
    bob.response().await;
    bob.notify().await;
    times.store(1, Ordering::Relaxed);
    alice.publish("", "open").await;
    assert_eq!(alice.response().await.status().code(), 200);
    until(|| times.load(Ordering::Relaxed) == 0).await;
    let stopped = server.stop.subscribe();
    tokio::spawn(server.homes.clone().run_wheel(|_| {}, |_, _| Vec::new(), stopped));
    assert!(body(&bob.notify().await).contains("open"));
    server.end().await;
}

/// Waits until something is so.
async fn until(what: impl Fn() -> bool) {
    let mut look = tokio::time::interval(Duration::from_millis(20));
    let waited = tokio::time::timeout(DEADLINE, async {
        while !what() {
            look.tick().await;
        }
    });
    waited.await.expect("it came to be");
}

const ALICE: &str = "sip:alice@example.org";
const DEADLINE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_watcher_sees_publications_come_change_and_go_rfc3856_6_7() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder, DomainDefault::Full).await;
    let (mut alice, mut bob) = (Phone::of("alice", &server).await, Phone::of("bob", &server).await);

    bob.subscribe(ALICE, "Expires: 600\r\n").await;
    let ok = bob.response().await;
    assert_eq!((ok.status().code(), ok.text(HeaderName::Expires)), (200, Some("600")));
    let first = bob.notify().await;
    assert_eq!((state(&first), first.cseq().unwrap().number), ("active", 1));
    assert!(body(&first).contains("closed"));

    alice.publish("", "open").await;
    let published = alice.response().await;
    let tag = published.text(HeaderName::SipEtag).expect("SIP-ETag").to_owned();
    assert_eq!(published.text(HeaderName::Expires), Some("3600"));
    let second = bob.notify().await;
    assert_eq!((state(&second), second.cseq().unwrap().number), ("active", 2));
    assert!(body(&second).contains("open"));
    // RFC 3903 4: no dialog arises.
    assert_eq!(published.value(HeaderName::Contact), None);

    alice.send("PUBLISH", ALICE, &format!("<{ALICE}>"), &format!("SIP-If-Match: {tag}\r\n"), "").await;
    let refreshed = alice.response().await;
    let newer = refreshed.text(HeaderName::SipEtag).expect("SIP-ETag").to_owned();
    assert_ne!(tag, newer);
    alice.publish(&format!("SIP-If-Match: {tag}\r\n"), "open").await;
    assert_eq!(alice.response().await.status().code(), 412);
    let remove = format!("SIP-If-Match: {newer}\r\nExpires: 0\r\n");
    alice.send("PUBLISH", ALICE, &format!("<{ALICE}>"), &remove, "").await;
    assert_eq!(alice.response().await.status().code(), 200);
    // The refresh in between was not notified: this is the next one.
    let third = bob.notify().await;
    assert_eq!(third.cseq().unwrap().number, 3);
    assert!(body(&third).contains("closed"));

    bob.subscribe_again(&ok, "Expires: 0\r\n").await;
    assert_eq!(bob.response().await.status().code(), 200);
    let last = bob.notify().await;
    assert_eq!(state(&last), "terminated;reason=timeout");
    assert!(!body(&last).is_empty());
    bob.subscribe_again(&ok, "").await;
    assert_eq!(bob.response().await.status().code(), 481);
    until(|| server.presence.dialogs() == 0).await;
    server.end().await;
}

#[tokio::test]
async fn pending_becomes_active_when_the_other_watches_back_rfc3856_6_7() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder, DomainDefault::Reciprocal).await;
    let (mut alice, mut bob) = (Phone::of("alice", &server).await, Phone::of("bob", &server).await);

    bob.subscribe(ALICE, "").await;
    assert_eq!(bob.response().await.status().code(), 200);
    let pending = bob.notify().await;
    assert_eq!((state(&pending), pending.body().len()), ("pending", 0));

    alice.subscribe("sip:bob@example.org", "").await;
    let ok = alice.response().await;
    assert_eq!(state(&alice.notify().await), "active");
    let active = bob.notify().await;
    assert_eq!(state(&active), "active");
    assert!(!body(&active).is_empty());

    alice.subscribe_again(&ok, "Expires: 0\r\n").await;
    assert_eq!(alice.response().await.status().code(), 200);
    assert!(state(&alice.notify().await).starts_with("terminated"));
    let back = bob.notify().await;
    assert_eq!(state(&back), "pending");
    let offline = crate::availability::composition::unavailable("sip:alice@example.org");
    assert_eq!(back.body(), offline, "who was shown something is told that it holds no more");
    server.end().await;
}

#[tokio::test]
async fn fetch_is_one_notify_and_nothing_remains_rfc6665_4_4_3() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder, DomainDefault::Full).await;
    let mut bob = Phone::of("bob", &server).await;
    bob.subscribe(ALICE, "Expires: 0\r\n").await;
    let ok = bob.response().await;
    assert_eq!((ok.status().code(), ok.text(HeaderName::Expires)), (200, Some("0")));
    let notify = bob.notify().await;
    assert_eq!(state(&notify), "terminated;reason=timeout");
    assert!(!body(&notify).is_empty());
    assert_eq!((server.homes.census()[3], server.presence.dialogs()), (0, 0));
    server.end().await;
}

#[tokio::test]
async fn a_silent_watcher_gets_two_packets_and_is_dropped_a16() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder, DomainDefault::Full).await;
    let mut bob = Phone::of("bob", &server).await;
    bob.subscribe(ALICE, "").await;
    assert_eq!(bob.response().await.status().code(), 200);
    let (first, second) = (bob.hear().await, bob.hear().await);
    assert_eq!(first.bytes(), second.bytes());
    until(|| server.homes.census()[3] == 0).await;
    until(|| server.presence.dialogs() == 0).await;
    let more = bob.socket.try_recv(&mut [0; 1]);
    assert_eq!(more.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    server.end().await;
}

#[tokio::test]
async fn a_notify_answered_481_ends_the_subscription_rfc6665_4_2_2() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder, DomainDefault::Full).await;
    let mut bob = Phone::of("bob", &server).await;
    bob.subscribe(ALICE, "").await;
    let ok = bob.response().await;
    let notify = bob.hear().await;
    bob.answer(&notify, 481).await;
    until(|| server.homes.census()[3] == 0).await;
    bob.subscribe_again(&ok, "").await;
    assert_eq!(bob.response().await.status().code(), 481);
    server.end().await;
}

#[tokio::test]
async fn a_challenge_to_a_notify_is_never_answered_a10() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder, DomainDefault::Full).await;
    let mut bob = Phone::of("bob", &server).await;
    bob.subscribe(ALICE, "").await;
    let ok = bob.response().await;
    let notify = bob.hear().await;
    bob.answer(&notify, 407).await;
    bob.subscribe_again(&ok, "").await;
    // The next thing is the answer to the refresh, and its NOTIFY carries no credentials.
    assert_eq!(bob.response().await.status().code(), 200);
    let next = bob.notify().await;
    assert_eq!(next.cseq().unwrap().number, 2);
    assert_eq!(next.value(HeaderName::ProxyAuthorization), None);
    server.end().await;
}

#[tokio::test]
async fn subscriptions_survive_a_restart_and_numbers_go_on_rfc6665_x1() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder, DomainDefault::Full).await;
    let mut bob = Phone::of("bob", &server).await;
    bob.subscribe(ALICE, "").await;
    let ok = bob.response().await;
    let first = bob.notify().await;
    server.end().await;

    let server = Server::start(&folder, DomainDefault::Full).await;
    bob.server = server.port;
    let bobs = server
        .homes
        .read(&aor("alice@example.org"))
        .subscriptions
        .iter()
        .next()
        .expect("a subscription")
        .clone();
    assert_eq!((bobs.watcher.as_str(), bobs.dialog.call_id()), ("bob@example.org", first.call_id().unwrap()));
    let next = bob.notify().await;
    assert_eq!((state(&next), next.cseq().unwrap().number), ("active", 65));
    assert_eq!(next.text(HeaderName::From), first.text(HeaderName::From));
    bob.subscribe_again(&ok, "").await;
    assert_eq!(bob.response().await.status().code(), 200);
    assert_eq!(bob.notify().await.cseq().unwrap().number, 66);
    server.end().await;
}

#[tokio::test]
async fn nobody_publishes_for_another_rfc3903_14_1() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder, DomainDefault::Full).await;
    let mut bob = Phone::of("bob", &server).await;
    bob.send(
        "PUBLISH",
        ALICE,
        &format!("<{ALICE}>"),
        "Content-Type: application/pidf+xml\r\n",
        "<presence/>",
    )
    .await;
    assert_eq!(bob.response().await.status().code(), 403);
    server.end().await;
}

#[tokio::test]
async fn a_change_reaches_more_watchers_than_one_turn_has_a25() {
    const WATCHERS: usize = 300;
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder, DomainDefault::Full).await;
    let (mut alice, mut bob) = (Phone::of("alice", &server).await, Phone::of("bob", &server).await);
    for _ in 0..WATCHERS {
        bob.line += 1;
        bob.subscribe(ALICE, "").await;
        assert_eq!(bob.response().await.status().code(), 200);
        bob.notify().await;
    }
    alice.publish("", "open").await;
    assert_eq!(alice.response().await.status().code(), 200);
    let mut told = HashSet::new();
    while told.len() < WATCHERS {
        let notify = bob.notify().await;
        if body(&notify).contains("open") {
            told.insert(notify.text(HeaderName::Contact).expect("a Contact").to_owned());
        }
    }
    server.end().await;
}

#[tokio::test]
async fn an_account_that_goes_takes_its_watchers_with_it_rfc6665_4_1_3() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder, DomainDefault::Full).await;
    let mut bob = Phone::of("bob", &server).await;
    bob.subscribe(ALICE, "").await;
    bob.response().await;
    bob.notify().await;
    let alice = aor("alice@example.org");
    let before = server.homes.purge(&alice);
    server.presence.removed(&before, &alice);
    let last = bob.notify().await;
    assert_eq!((state(&last), last.body().len()), ("terminated;reason=noresource", 0));
    until(|| server.presence.dialogs() == 0).await;
    server.end().await;
}

#[tokio::test]
async fn a_lost_connection_is_made_anew_to_the_host_that_subscribed() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder, DomainDefault::Full).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let line = Line::subscribed(&server, &format!("sip:bob@127.0.0.1:{port};transport=tcp")).await;
    line.hang_up(&server).await;
    let mut alice = Phone::of("alice", &server).await;
    alice.publish("", "open").await;
    assert_eq!(alice.response().await.status().code(), 200);
    let accepted = tokio::time::timeout(DEADLINE, listener.accept()).await;
    let mut line = Line::over(accepted.expect("a connection in time").expect("a connection").0);
    let Message::Request(notify) = line.receive().await else { panic!("a NOTIFY") };
    assert_eq!((state(&notify), notify.cseq().unwrap().number), ("active", 2));
    server.end().await;
}

#[tokio::test]
async fn a_stop_ends_no_subscription_rfc6665_x1() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder, DomainDefault::Full).await;
    let mut line = Line::subscribed(&server, "sip:bob@k2j3.invalid;transport=tcp").await;
    let mut alice = Phone::of("alice", &server).await;
    alice.publish("", "open").await;
    assert_eq!(alice.response().await.status().code(), 200);
    // Its NOTIFY is in flight when the connection is closed.
    assert!(matches!(line.receive().await, Message::Request(_)));
    let flow = server
        .homes
        .read(&aor("alice@example.org"))
        .subscriptions
        .iter()
        .next()
        .expect("a subscription")
        .flow;
    server.stop.send(true).expect("somebody listens");
    until(|| !server.presence.endpoint.sockets().is_alive(&flow)).await;
    until(|| server.presence.endpoint.transactions().1 == 0).await;
    server.homes.drained().await;
    assert_eq!(server.homes.census()[3], 1);
    server.store.close().await;
}

#[tokio::test]
async fn no_connection_is_made_to_another_host_or_a_name_a14() {
    for contact in ["sip:bob@127.0.0.2:5060;transport=tcp", "sip:bob@k2j3.invalid;transport=tcp"] {
        let folder = tempfile::tempdir().expect("a folder");
        let server = Server::start(&folder, DomainDefault::Full).await;
        Line::subscribed(&server, contact).await.hang_up(&server).await;
        let mut alice = Phone::of("alice", &server).await;
        alice.publish("", "open").await;
        assert_eq!(alice.response().await.status().code(), 200);
        until(|| server.homes.census()[3] == 0).await;
        server.end().await;
    }
}

//! What the tables hold and for how long, and what happens when they are full: an endpoint fed with datagrams, its timers in virtual time.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::watch;

use crate::endpoint::throttle::PER_SECOND;
use crate::endpoint::{Endpoint, Handler, Incoming, ServerTransaction, TransactionUser, UserEvent, clock};
use crate::model::{Flow, Transport};
use crate::sip::{Limits, Method, StatusCode};
use crate::transport::{ConnectionLimits, Datagrams, ListenerConfig, Receiver, Sockets};

/// Answers MESSAGE as one that was challenged, BYE as one that was not, and keeps the rest without an answer.
#[derive(Default)]
struct Phone {
    taken_on: Mutex<Vec<String>>,
    unanswered: Mutex<Vec<ServerTransaction>>,
}

impl Handler for Phone {
    fn request(&self, incoming: Incoming) {
        let accepted = match incoming.request().method() {
            Method::Bye => incoming.accept_unchallenged(),
            _ => incoming.accept(),
        };
        let Some((request, _, transaction)) = accepted else { return };
        self.taken_on.lock().unwrap().push(request.call_id().unwrap().to_owned());
        match request.method() {
            Method::Bye | Method::Message => {
                transaction.respond(StatusCode::OK, transaction.response(&request, StatusCode::OK).finish());
            }
            _ => self.unanswered.lock().unwrap().push(transaction),
        }
    }
    fn closed(&self, _: &Flow) {}
}

/// Counts what it is told.
#[derive(Default)]
struct Recorder(Mutex<Vec<u16>>);

impl TransactionUser for Recorder {
    fn event(self: Arc<Self>, event: UserEvent) {
        if let UserEvent::Response { response, .. } = event {
            self.0.lock().unwrap().push(response.status().code());
        }
    }
}

struct Room {
    endpoint: Arc<Endpoint>,
    phone: Arc<Phone>,
    peer: UdpSocket,
    flow: Flow,
    _stop: watch::Sender<bool>,
}

impl Room {
    async fn of(transactions: usize) -> Room {
        let bind = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = ListenerConfig { transport: Transport::Udp, bind, advertise: None };
        let sockets = Sockets::bind(&[listener], Datagrams::default(), ConnectionLimits::default())
            .await
            .expect("a port");
        let local = sockets.listeners()[0].local;
        let endpoint = Endpoint::with_room(sockets, Limits::default(), None, transactions);
        let phone = Arc::new(Phone::default());
        let (_stop, stopped) = watch::channel(false);
        endpoint.run(phone.clone(), stopped);
        let peer = UdpSocket::bind(bind).await.expect("a port");
        let remote = peer.local_addr().expect("an address");
        let flow = Flow { transport: Transport::Udp, local, remote, connection: 0 };
        Room { endpoint, phone, peer, flow, _stop }
    }

    fn request(&self, method: &str, call: &str) {
        let text = format!(
            "{method} sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bK{call}\r\nMax-Forwards: 70\r\n\
             From: <sip:alice@example.org>;tag=1\r\nTo: <sip:bob@example.org>\r\nCall-ID: {call}\r\nCSeq: 1 {method}\r\n\
             Content-Length: 0\r\n\r\n",
            self.flow.remote
        );
        self.endpoint.received(Bytes::from(text), self.flow);
    }

    /// The next datagram that the endpoint sent.
    async fn answer(&self) -> String {
        let mut buffer = [0; 2_048];
        let received = tokio::time::timeout(Duration::from_secs(5), self.peer.recv(&mut buffer)).await;
        let length = received.expect("in time").expect("an answer");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    fn taken_on(&self) -> Vec<String> {
        self.phone.taken_on.lock().unwrap().clone()
    }

    fn counter(&self, name: &str) -> u64 {
        self.endpoint.counters.snapshot().into_iter().find(|(known, _)| *known == name).expect("a counter").1
    }
}

#[tokio::test]
async fn strangers_at_one_address_hear_so_much_in_a_second_and_no_more_a15() {
    let mut room = Room::of(3).await;
    room.flow.remote = SocketAddr::from(([192, 0, 2, 9], 5060));
    // No timer runs while nothing is awaited, so all of it is in one second.
    for _ in 0..PER_SECOND + 10 {
        room.request("CANCEL", "nothing-to-cancel");
    }
    assert_eq!(room.counter("throttled"), 10);
    // Once somebody there has been let in, all of them are heard.
    room.request("MESSAGE", "a");
    room.request("CANCEL", "nothing-to-cancel");
    assert_eq!((room.taken_on().len(), room.counter("throttled")), (1, 10));
}

#[tokio::test]
async fn a_full_table_lets_go_of_finished_transactions_and_takes_new_ones_on() {
    let room = Room::of(3).await;
    for call in ["a", "b", "c"] {
        room.request("MESSAGE", call);
    }
    assert_eq!((room.endpoint.transactions().0, room.counter("evicted")), (3, 0));
    for call in ["d", "e", "f"] {
        room.request("MESSAGE", call);
    }
    assert_eq!(
        (room.endpoint.transactions().0, room.counter("evicted"), room.counter("table_full")),
        (3, 3, 0)
    );
    assert_eq!(room.taken_on(), ["a", "b", "c", "d", "e", "f"]);
}

#[tokio::test]
async fn what_is_unanswered_or_would_be_done_again_is_never_let_go_of() {
    let room = Room::of(3).await;
    room.request("BYE", "in-dialog");
    room.request("MESSAGE", "finished");
    room.request("INFO", "unanswered");
    room.request("INFO", "next");
    assert_eq!((room.counter("evicted"), room.counter("table_full")), (1, 0));
    room.request("INFO", "too-many");
    assert_eq!((room.counter("evicted"), room.counter("table_full")), (1, 1));
    room.request("BYE", "in-dialog");
    room.request("INFO", "unanswered");
    assert_eq!(room.counter("retransmissions"), 2, "both are still known");
    assert_eq!(room.taken_on(), ["in-dialog", "finished", "unanswered", "next"]);
}

// 3261-17.2.2a
#[tokio::test]
async fn a_finished_transaction_repeats_its_answer_until_timer_j_rfc3261_17_2_2() {
    let room = Room::of(3).await;
    room.request("MESSAGE", "a");
    let first = room.answer().await;
    assert!(first.starts_with("SIP/2.0 200"), "{first}");
    room.request("MESSAGE", "a");
    assert_eq!(room.answer().await, first);
    let answered = clock::instant();
    room.endpoint.server_timers(answered + Duration::from_secs(31));
    room.request("MESSAGE", "a");
    assert_eq!((room.answer().await, room.taken_on().len()), (first, 1));
    room.endpoint.server_timers(answered + Duration::from_secs(33));
    assert_eq!(room.endpoint.transactions().0, 0);
    room.request("MESSAGE", "a");
    assert_eq!(room.taken_on(), ["a", "a"]);
}

#[tokio::test]
async fn a_cancel_of_a_finished_request_is_answered_200_with_its_to_tag_rfc3261_9_2() {
    let room = Room::of(3).await;
    room.request("MESSAGE", "a");
    let to = |text: String| text.lines().find(|line| line.starts_with("To:")).map(str::to_owned);
    let answer = room.answer().await;
    room.request("CANCEL", "a");
    let cancelled = room.answer().await;
    assert!(cancelled.starts_with("SIP/2.0 200"), "{cancelled}");
    assert_eq!(to(cancelled), to(answer));
    room.request("CANCEL", "unknown");
    assert!(room.answer().await.starts_with("SIP/2.0 481"));
}

#[tokio::test]
async fn a_client_transaction_other_than_invite_ends_with_its_final_rfc3261_17_1_2_2() {
    let room = Room::of(1).await;
    for (method, held) in [("MESSAGE", 0), ("INVITE", 1)] {
        let user = Arc::new(Recorder::default());
        let branch = room.endpoint.random().branch();
        let rest = format!(
            "Via: {}\r\nFrom: <sip:a@example.org>;tag=1\r\nTo: <sip:b@example.org>\r\nCall-ID: x\r\nCSeq: 1 {method}\r\n\
             Content-Length: 0\r\n\r\n",
            room.endpoint.via(&room.flow, &branch)
        );
        let request = format!("{method} sip:b@example.org SIP/2.0\r\nMax-Forwards: 70\r\n{rest}");
        room.endpoint.send(Bytes::from(request), &room.flow, user.clone(), 0).expect("sent");
        assert_eq!(room.endpoint.transactions().1, 1);
        for _ in 0..2 {
            room.endpoint.received(Bytes::from(format!("SIP/2.0 200 OK\r\n{rest}")), room.flow);
        }
        assert_eq!(room.endpoint.transactions().1, held, "{method}");
        let told = if method == "INVITE" { vec![200, 200] } else { vec![200] };
        assert_eq!(
            *user.0.lock().unwrap(),
            told,
            "a further 2xx is for the user (RFC 6026 7.2), a repetition is not"
        );
    }
    assert_eq!(room.counter("stray_responses"), 1);
}

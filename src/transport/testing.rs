//! What the tests of this module share: running sockets on loopback and a receiver that records.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

use crate::model::{Flow, Transport};
use crate::sip::ParseError;
use crate::transport::{ConnectionLimits, Datagrams, ListenerConfig, Note, Receiver, Snapshot, Sockets};

/// What a receiver was told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    Received(Bytes, Flow),
    Malformed(Option<Bytes>, Flow),
    Refused(Note),
    /// With whether requests were sent on it.
    Closed(Flow, bool),
}

/// Running sockets: one listener per transport on 127.0.0.1.
pub(super) struct Running {
    pub(super) sockets: Arc<Sockets>,
    told: mpsc::Receiver<Told>,
    pub(super) stop: watch::Sender<bool>,
}

/// Records what it is told. `b"panic"` makes it panic; what is malformed is answered with a 400.
struct Recorder {
    told: mpsc::Sender<Told>,
    sockets: Arc<Sockets>,
}

impl Receiver for Recorder {
    fn received(&self, bytes: Bytes, flow: Flow) {
        assert!(!bytes.starts_with(b"PANIC"), "as asked");
        self.told.try_send(Told::Received(bytes, flow)).expect("room");
    }
    fn malformed(&self, _: ParseError, head: Option<Bytes>, flow: Flow) {
        if head.is_some() {
            self.sockets.send(&flow, &Bytes::from_static(b"SIP/2.0 400 Bad\r\n\r\n")).expect("sent");
        }
        self.told.try_send(Told::Malformed(head, flow)).expect("room");
    }
    fn refused(&self, note: Note) {
        self.told.try_send(Told::Refused(note)).expect("room");
    }
    fn closed(&self, flow: Flow, had_requests: bool) {
        // The test may be over.
        let _ = self.told.try_send(Told::Closed(flow, had_requests));
    }
}

impl Running {
    pub(super) async fn start() -> Running {
        Running::with(ConnectionLimits::default()).await
    }

    pub(super) async fn with(limits: ConnectionLimits) -> Running {
        let listener = |transport| ListenerConfig {
            transport,
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: None,
        };
        let listeners = [listener(Transport::Udp), listener(Transport::Tcp)];
        let sockets =
            Sockets::bind(&listeners, Datagrams { sockets: 2, together: true }, limits).await.expect("bound");
        let (sender, told) = mpsc::channel(10_000);
        let (stop, stopping) = watch::channel(false);
        let recorder = Recorder { told: sender, sockets: Arc::clone(&sockets) };
        sockets.run(Arc::new(recorder), stopping);
        Running { sockets, told, stop }
    }

    pub(super) fn local(&self, transport: Transport) -> SocketAddr {
        self.sockets.listeners().iter().find(|l| l.transport == transport).expect("bound").local
    }

    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.local(Transport::Tcp)).await.expect("connected")
    }

    /// The next thing the receiver was told.
    pub(super) async fn told(&mut self) -> Told {
        within(self.told.recv()).await.expect("sockets live")
    }

    pub(super) async fn received(&mut self) -> (Bytes, Flow) {
        match self.told().await {
            Told::Received(bytes, flow) => (bytes, flow),
            other => panic!("expected a message, got {other:?}"),
        }
    }

    /// Whether the connection that ended had requests.
    pub(super) async fn closed_with_requests(&mut self) -> bool {
        match self.told().await {
            Told::Closed(_, had_requests) => had_requests,
            other => panic!("expected a close, got {other:?}"),
        }
    }

    pub(super) async fn closed(&mut self) -> Flow {
        match self.told().await {
            Told::Closed(flow, _) => flow,
            other => panic!("expected a close, got {other:?}"),
        }
    }

    /// Waits until the counters say so.
    pub(super) async fn counted(&self, enough: impl Fn(&Snapshot) -> bool) {
        within(async {
            while !enough(&self.sockets.counters()) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// With the deadline of the tests.
pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("in time")
}

/// Writes all.
pub(super) async fn write(stream: &mut TcpStream, bytes: &[u8]) {
    within(stream.write_all(bytes)).await.expect("written");
}

/// Reads exactly this many bytes.
pub(super) async fn read(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    within(stream.read_exact(&mut bytes)).await.expect("read");
    bytes
}

/// Reads to the end; a reset is an end, too.
pub(super) async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = within(stream.read_to_end(&mut bytes)).await;
    bytes
}

/// A request with a body of this many bytes.
pub(super) fn request(body: usize) -> Vec<u8> {
    let mut text = format!(
        "MESSAGE sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
         From: <sip:alice@example.org>;tag=1\r\nTo: <sip:bob@example.org>\r\nCall-ID: 1\r\nCSeq: 1 MESSAGE\r\n\
         Content-Type: text/plain\r\nContent-Length: {body}\r\n\r\n"
    )
    .into_bytes();
    text.extend(std::iter::repeat_n(b'x', body));
    text
}

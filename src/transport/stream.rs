//! The task of one connection: it makes it, reads it, writes what waits, keeps its deadlines and reports its end (`A22`, `A23`).

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::sip::ParseError;
use crate::sip::framer::{Frame, Framer, Phase};
use crate::transport::Receiver;
use crate::transport::connection::Connection;
use crate::transport::counters::{Closed, Counters};
use crate::transport::shared::{Shared, now, stopped};

/// A connection that is in the table. When this is dropped, however that comes, the connection is out of it and reported.
pub(super) struct Lease {
    pub(super) shared: Arc<Shared>,
    pub(super) receiver: Arc<dyn Receiver>,
    pub(super) connection: Arc<Connection>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shared.table.remove(&self.connection);
        let reason = self.connection.end();
        self.shared.counters.closed(reason);
        let flow = self.connection.flow();
        tracing::debug!(%flow, reason = reason.label(), "connection ended");
        let had_requests = self.connection.had_requests();
        self.shared.tell(self.receiver.as_ref(), |receiver| receiver.closed(flow, had_requests));
    }
}

/// Makes the connection, then serves it. What was sent meanwhile waits in it.
pub(super) async fn make(lease: Lease, mut stop: watch::Receiver<bool>) {
    let connecting = tokio::time::timeout(CONNECT, TcpStream::connect(lease.connection.flow().remote));
    let stream = tokio::select! {
        biased;
        () = stopped(&mut stop) => return lease.connection.close(Closed::Stopped),
        made = connecting => match made {
            // From the very port it was to reach: where nobody listens the system may connect a socket to itself.
            Ok(Ok(stream)) if stream.local_addr().ok() == Some(lease.connection.flow().remote) => {
                return lease.connection.close(Closed::NotMade);
            }
            Ok(Ok(stream)) => stream,
            Ok(Err(_)) | Err(_) => return lease.connection.close(Closed::NotMade),
        },
    };
    serve(lease, stream, stop).await;
}

/// Serves a connected stream to its end.
pub(super) async fn serve(lease: Lease, stream: TcpStream, mut stop: watch::Receiver<bool>) {
    // Messages are whole when they are written: waiting for more only delays them. Harmless if refused.
    let _ = stream.set_nodelay(true);
    let stream = Arc::new(stream);
    lease.connection.connected(Arc::clone(&stream));
    let mut reading = Reading::new(&lease);
    let deadline = tokio::time::sleep_until(reading.deadline(&lease).0);
    tokio::pin!(deadline);

    let end = loop {
        if let Some(reason) = lease.connection.closed() {
            break End::Now(reason);
        }
        // A deadline that moved away is looked at when the old one has passed: no timer is touched per message.
        let (due, _) = reading.deadline(&lease);
        if due < deadline.deadline() {
            deadline.as_mut().reset(due);
        }
        // Every branch only waits, and is safe to drop.
        tokio::select! {
            biased;
            () = stopped(&mut stop) => break End::Drained(Closed::Stopped),
            () = lease.connection.woken() => {}
            _ = stream.writable(), if lease.connection.waits() => {
                if lease.connection.flush().is_err() {
                    break End::Now(Closed::Reset);
                }
            }
            () = deadline.as_mut() => {
                let (due, reason) = reading.deadline(&lease);
                if due <= now() {
                    break End::Now(reason);
                }
                deadline.as_mut().reset(due);
            }
            _ = stream.readable() => match reading.read(&stream, &lease) {
                Ok(More::No) => {}
                Ok(More::Perhaps) => tokio::task::yield_now().await,
                Err(end) => break end,
            },
        }
    };
    match end {
        End::Now(reason) => lease.connection.close(reason),
        End::Drained(reason) => drain(&lease, &stream, reason).await,
    }
}

/// How a connection ends.
enum End {
    /// At once; what waits is dropped.
    Now(Closed),
    /// After what waits has been written.
    Drained(Closed),
}

/// Is there more to read?
enum More {
    No,
    Perhaps,
}

/// The reading side of a connection.
struct Reading {
    framer: Framer,
    since: Instant,
    /// The last message, or keep-alive of somebody who authenticated.
    active: Instant,
    /// When the message in hand reached the phase it is in.
    begun: Instant,
    phase: Phase,
    spoken: bool,
}

impl Reading {
    fn new(lease: &Lease) -> Reading {
        let now = now();
        Reading {
            framer: Framer::new(lease.shared.limits.message),
            since: now,
            active: now,
            begun: now,
            phase: Phase::Idle,
            spoken: false,
        }
    }

    /// When the connection must end if nothing more comes, and why.
    fn deadline(&self, lease: &Lease) -> (Instant, Closed) {
        let limits = &lease.shared.limits;
        let idle =
            if lease.connection.is_authenticated() { limits.idle } else { limits.idle_unauthenticated };
        let idle = (later(self.active, idle), Closed::Idle);
        let first = (!self.spoken && !lease.connection.made())
            .then(|| (later(self.since, limits.first_request_deadline), Closed::FirstRequest));
        let message = match self.phase {
            Phase::Idle => None,
            Phase::Headers => Some((later(self.begun, limits.header_deadline), Closed::HeaderDeadline)),
            Phase::Body => Some((later(self.begun, limits.body_deadline), Closed::BodyDeadline)),
        };
        [first, message].into_iter().flatten().fold(idle, |a, b| if b.0 < a.0 { b } else { a })
    }

    /// Reads what is there, in a bounded burst, and hands over every frame.
    fn read(&mut self, stream: &TcpStream, lease: &Lease) -> Result<More, End> {
        // On the stack, and not held while waiting: an idle connection holds no buffer.
        let mut chunk = [0; CHUNK];
        for _ in 0..BURST {
            let length = match stream.try_read(&mut chunk) {
                Ok(0) => return Err(End::Drained(Closed::Peer)),
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(More::No),
                Err(_) => return Err(End::Now(Closed::Reset)),
            };
            self.framer.buffer_mut().extend_from_slice(chunk.get(..length).unwrap_or_default());
            self.frames(lease)?;
        }
        Ok(More::Perhaps)
    }

    fn frames(&mut self, lease: &Lease) -> Result<(), End> {
        let now = now();
        let flow = lease.connection.flow();
        let mut whole = false;
        loop {
            match self.framer.next_frame() {
                Ok(Some(Frame::Message(bytes))) => {
                    whole = true;
                    self.spoken = true;
                    self.active = now;
                    Counters::add(&lease.shared.counters.messages_in);
                    lease.shared.tell(lease.receiver.as_ref(), |receiver| receiver.received(bytes, flow));
                }
                Ok(Some(Frame::Ping)) => {
                    whole = true;
                    // Whoever has not said who they are cannot stay by keep-alives alone.
                    if lease.connection.is_authenticated() {
                        self.active = now;
                    }
                    Counters::add(&lease.shared.counters.pings);
                    // If it cannot be sent the connection is closed already.
                    let _ = lease.connection.send(&Bytes::from_static(b"\r\n"));
                }
                Ok(None) => break,
                Err(error) => return Err(self.malformed(error, lease)),
            }
            if let Some(reason) = lease.connection.closed() {
                return Err(End::Now(reason));
            }
        }
        let phase = self.framer.phase();
        if whole || phase != self.phase {
            self.begun = now;
        }
        self.phase = phase;
        if phase == Phase::Idle && self.framer.buffer_mut().is_empty() {
            // An idle connection holds on to no memory.
            *self.framer.buffer_mut() = BytesMut::new();
        }
        Ok(())
    }

    fn malformed(&self, error: ParseError, lease: &Lease) -> End {
        let flow = lease.connection.flow();
        let head = self.framer.partial();
        // An answer sent from within this call is written before the end.
        lease.shared.tell(lease.receiver.as_ref(), |receiver| receiver.malformed(error, head, flow));
        End::Drained(Closed::Malformed)
    }
}

/// Writes what waits, within a deadline, and says goodbye.
async fn drain(lease: &Lease, stream: &TcpStream, reason: Closed) {
    lease.connection.half_close(reason);
    let flushed = async {
        while let Ok(false) = lease.connection.flush() {
            if stream.writable().await.is_err() {
                break;
            }
        }
    };
    if tokio::time::timeout(DRAIN, flushed).await.is_err() {
        return;
    }
    let shut = SockRef::from(stream).shutdown(std::net::Shutdown::Write);
    if reason == Closed::Malformed && shut.is_ok() {
        // Closing with bytes unread resets the connection, and the peer may lose the answer that says why.
        let _ = tokio::time::timeout(LINGER, discard(stream)).await;
    }
}

/// Reads and forgets until the peer closes, up to a bound.
async fn discard(stream: &TcpStream) {
    let mut left = DISCARD;
    while left > 0 && stream.readable().await.is_ok() {
        left -= 1;
        let mut chunk = [0; CHUNK];
        match stream.try_read(&mut chunk) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// This much later; a configured eternity is a year.
fn later(instant: Instant, duration: Duration) -> Instant {
    instant + duration.min(YEAR)
}

/// Time to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// Time to write what waits at the end of a connection.
const DRAIN: Duration = Duration::from_secs(2);
/// Time for the peer to read why its connection is closed.
const LINGER: Duration = Duration::from_secs(1);
/// Reads after which a peer that goes on sending is cut off all the same.
const DISCARD: usize = 64;
/// Bytes read at once.
const CHUNK: usize = 16 * 1024;
/// Reads before others have a turn.
const BURST: usize = 4;
/// Longest time counted.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::model::{Flow, Transport};
    use crate::sip::Limits;
    use crate::transport::testing::{Running, Told, read, read_to_end, request, within, write};
    use crate::transport::{ConnectionLimits, SendError};

    const SOON: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn messages_are_framed_by_content_length_wherever_they_are_split_rfc3261_7_5() {
        let mut running = Running::start().await;
        let mut stream = running.connect().await;
        let mut two = request(40);
        two.extend(request(0));
        for at in
            [1, 2, 30, 100, request(40).len() - 41, request(40).len() - 1, request(40).len(), two.len() - 1]
        {
            write(&mut stream, &two[..at]).await;
            within(stream.flush()).await.expect("flushed");
            tokio::task::yield_now().await;
            write(&mut stream, &two[at..]).await;
            let (first, flow) = running.received().await;
            assert_eq!(&first[..], &request(40)[..], "split at {at}");
            assert_eq!(&running.received().await.0[..], &request(0)[..], "split at {at}");
            assert_eq!((flow.transport, flow.local), (Transport::Tcp, running.local(Transport::Tcp)));
            assert_eq!(flow.remote, stream.local_addr().expect("address"));
            assert_ne!(flow.connection, 0);
        }
    }

    #[tokio::test]
    async fn a_message_may_come_byte_by_byte() {
        let mut running = Running::start().await;
        let mut stream = running.connect().await;
        stream.set_nodelay(true).expect("set");
        for byte in request(5) {
            write(&mut stream, &[byte]).await;
        }
        assert_eq!(&running.received().await.0[..], &request(5)[..]);
    }

    #[tokio::test]
    async fn a_response_goes_over_the_connection_of_the_request_rfc3261_18_2_2() {
        let mut running = Running::start().await;
        let mut stream = running.connect().await;
        write(&mut stream, &request(0)).await;
        let (_, flow) = running.received().await;
        running.sockets.send(&flow, &Bytes::from_static(b"answer")).expect("sent");
        assert_eq!(read(&mut stream, 6).await, b"answer");
    }

    #[tokio::test]
    async fn a_double_crlf_is_answered_with_one_crlf_at_once_rfc5626_4_4_1() {
        let mut running = Running::start().await;
        let mut stream = running.connect().await;
        write(&mut stream, b"\r\n\r\n").await;
        assert_eq!(read(&mut stream, 2).await, b"\r\n");
        write(&mut stream, &request(0)).await;
        let (_, flow) = running.received().await;
        write(&mut stream, b"\r\n\r\n").await;
        assert_eq!(read(&mut stream, 2).await, b"\r\n");
        // Nothing else was written for them.
        running.sockets.send(&flow, &Bytes::from_static(b"answer")).expect("sent");
        assert_eq!(read(&mut stream, 6).await, b"answer");
        assert_eq!(running.sockets.counters().pings, 2);
    }

    #[tokio::test]
    async fn a_closed_connection_is_reported_once_and_its_flow_is_gone_a23() {
        let mut running = Running::start().await;
        let mut stream = running.connect().await;
        write(&mut stream, &request(0)).await;
        let (_, flow) = running.received().await;
        assert!(running.sockets.is_alive(&flow));
        drop(stream);
        assert_eq!(running.closed().await, flow);
        assert!(!running.sockets.is_alive(&flow));
        assert_eq!(running.sockets.send(&flow, &Bytes::from_static(b"late")), Err(SendError::FlowGone));
        assert_eq!(running.sockets.counters().connections, 0);
    }

    #[tokio::test]
    async fn the_end_of_a_connection_tells_whether_requests_were_sent_on_it_a22() {
        let mut running = Running::start().await;
        for (sent, had_requests) in
            [(&b"SIP/2.0 401 Unauthorized\r\n\r\n"[..], false), (b"NOTIFY sip:a", true)]
        {
            let mut stream = running.connect().await;
            write(&mut stream, b"\r\n\r\n").await;
            write(&mut stream, &request(0)).await;
            let (_, flow) = running.received().await;
            running.sockets.send(&flow, &Bytes::copy_from_slice(sent)).expect("sent");
            drop(stream);
            assert_eq!(running.closed_with_requests().await, had_requests);
        }
    }

    #[tokio::test]
    async fn what_is_no_message_is_answered_and_the_connection_closed() {
        let mut running = Running::start().await;
        let mut stream = running.connect().await;
        let mut bad = request(0);
        let at = bad.windows(14).position(|w| w == b"Content-Length").expect("there");
        bad.splice(at..at + 17, *b"Content-Length: x");
        write(&mut stream, &bad).await;
        let Told::Malformed(head, flow) = running.told().await else { panic!("malformed") };
        assert_eq!(head.as_deref(), Some(&bad[..]));
        assert!(read_to_end(&mut stream).await.starts_with(b"SIP/2.0 400"));
        drop(stream);
        assert_eq!(running.closed().await, flow);
        assert_eq!(running.sockets.counters().closed(Closed::Malformed), 1);
    }

    #[tokio::test]
    async fn a_connection_is_made_on_demand_and_bytes_sent_meanwhile_arrive_in_order() {
        let mut running = Running::start().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let remote = listener.local_addr().expect("address");
        let flow = running.sockets.flow_to(Transport::Tcp, remote).expect("flow");
        assert_eq!((flow.local, flow.remote), (running.local(Transport::Tcp), remote));
        assert!(running.sockets.is_alive(&flow));
        running.sockets.send(&flow, &Bytes::from_static(b"one")).expect("queued");
        running.sockets.send(&flow, &Bytes::from_static(b"two")).expect("queued");
        assert_eq!(running.sockets.flow_to(Transport::Tcp, remote), Ok(flow));
        let (mut peer, _) = within(listener.accept()).await.expect("accepted");
        assert_eq!(read(&mut peer, 6).await, b"onetwo");
        write(&mut peer, &request(3)).await;
        assert_eq!(running.received().await, (request(3).into(), flow));
    }

    #[tokio::test]
    async fn an_accepted_connection_is_used_for_requests_to_its_address() {
        let mut running = Running::start().await;
        let mut stream = running.connect().await;
        write(&mut stream, &request(0)).await;
        let (_, flow) = running.received().await;
        assert_eq!(running.sockets.flow_to(Transport::Tcp, flow.remote), Ok(flow));
        let unmade = Flow { connection: 0, ..flow };
        running.sockets.send(&unmade, &Bytes::from_static(b"hello")).expect("sent");
        assert_eq!(read(&mut stream, 5).await, b"hello");
    }

    #[tokio::test]
    async fn a_refused_connection_is_reported() {
        let mut running = Running::start().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let remote = listener.local_addr().expect("address");
        drop(listener);
        let flow = running.sockets.flow_to(Transport::Tcp, remote).expect("flow");
        assert_eq!(running.closed().await, flow);
        assert!(!running.sockets.is_alive(&flow));
        assert_eq!(running.sockets.counters().closed(Closed::NotMade), 1);
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_closed_when_its_buffer_is_full_a22() {
        let mut running = Running::start().await;
        let mut stream = running.connect().await;
        write(&mut stream, &request(0)).await;
        let (_, flow) = running.received().await;
        let bytes = Bytes::from(vec![b'x'; 60_000]);
        let refused = (0..10_000).find_map(|_| running.sockets.send(&flow, &bytes).err());
        assert_eq!(refused, Some(SendError::Full));
        assert!(!running.sockets.is_alive(&flow));
        assert_eq!(running.closed().await, flow);
        assert_eq!(running.sockets.counters().closed(Closed::WriteBuffer), 1);
    }

    #[tokio::test]
    async fn what_the_socket_does_not_take_at_once_is_written_later_and_in_order() {
        let limits = ConnectionLimits { write_buffer: 64 * 1024 * 1024, ..ConnectionLimits::default() };
        let mut running = Running::with(limits).await;
        let mut stream = running.connect().await;
        write(&mut stream, &request(0)).await;
        let (_, flow) = running.received().await;
        for n in 0..200_u8 {
            running.sockets.send(&flow, &Bytes::from(vec![n; 100_000])).expect("sent or queued");
        }
        for n in 0..200_u8 {
            assert!(read(&mut stream, 100_000).await.iter().all(|byte| *byte == n), "piece {n}");
        }
    }

    async fn closed_for(limits: ConnectionLimits, sent: &[u8], reason: Closed) {
        let mut running = Running::with(limits).await;
        let mut stream = running.connect().await;
        write(&mut stream, sent).await;
        assert_eq!(read_to_end(&mut stream).await, b"");
        while let Told::Received(..) = running.told().await {}
        assert_eq!(running.sockets.counters().closed(reason), 1);
    }

    #[tokio::test]
    async fn headers_must_be_complete_in_time_a22() {
        let limits = ConnectionLimits { header_deadline: SOON, ..ConnectionLimits::default() };
        closed_for(limits, b"REGISTER sip:example.org SIP/2.0\r\nVia: ", Closed::HeaderDeadline).await;
    }

    #[tokio::test]
    async fn a_body_must_be_complete_in_time_a22() {
        let limits = ConnectionLimits { body_deadline: SOON, ..ConnectionLimits::default() };
        let message = request(100);
        closed_for(limits, &message[..message.len() - 1], Closed::BodyDeadline).await;
    }

    #[tokio::test]
    async fn a_connection_that_says_nothing_is_closed_a22() {
        let limits = ConnectionLimits { first_request_deadline: SOON, ..ConnectionLimits::default() };
        closed_for(limits, b"", Closed::FirstRequest).await;
    }

    #[tokio::test]
    async fn an_idle_unauthenticated_connection_is_closed_a22() {
        let limits = ConnectionLimits { idle_unauthenticated: SOON, ..ConnectionLimits::default() };
        closed_for(limits, &request(0), Closed::Idle).await;
    }

    #[tokio::test]
    async fn a_trickle_of_bytes_does_not_move_the_header_deadline_a22() {
        // No cap but the deadline ends it.
        let message = Limits { message: usize::MAX, start_line: 2_048, header: usize::MAX, headers: 128 };
        let limits = ConnectionLimits { header_deadline: SOON, message, ..ConnectionLimits::default() };
        let mut running = Running::with(limits).await;
        let mut stream = running.connect().await;
        write(&mut stream, b"REGISTER sip:example.org SIP/2.0\r\nX-Slow: ").await;
        let trickle = async {
            while stream.write_all(b"x").await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        within(trickle).await;
        running.closed().await;
        assert_eq!(running.sockets.counters().closed(Closed::HeaderDeadline), 1);
    }

    #[tokio::test]
    async fn keep_alives_alone_do_not_keep_a_stranger_a22() {
        let limits = ConnectionLimits { idle_unauthenticated: SOON, ..ConnectionLimits::default() };
        let mut running = Running::with(limits).await;
        let mut stream = running.connect().await;
        write(&mut stream, &request(0)).await;
        running.received().await;
        let pings = async {
            while stream.write_all(b"\r\n\r\n").await.is_ok() {
                let mut pong = [0; 2];
                if stream.read_exact(&mut pong).await.is_err() {
                    break;
                }
            }
        };
        within(pings).await;
        running.closed().await;
        assert_eq!(running.sockets.counters().closed(Closed::Idle), 1);
    }

    #[tokio::test]
    async fn five_hundred_slow_connections_are_cut_while_others_are_served_a22() {
        let limits =
            ConnectionLimits { header_deadline: Duration::from_secs(1), ..ConnectionLimits::default() };
        let mut running = Running::with(limits).await;
        let mut slow = Vec::new();
        for _ in 0..500 {
            let mut stream = running.connect().await;
            write(&mut stream, b"REGISTER sip:example.org SIP/2.0\r\n").await;
            slow.push(stream);
        }
        let mut honest = running.connect().await;
        write(&mut honest, &request(0)).await;
        loop {
            match running.told().await {
                Told::Received(_, flow) => {
                    assert!(running.sockets.is_alive(&flow));
                    break;
                }
                Told::Closed(..) => {}
                Told::Malformed(..) | Told::Refused(_) => panic!("well formed"),
            }
        }
        for stream in &mut slow {
            assert_eq!(read_to_end(stream).await, b"");
        }
        running.counted(|c| c.closed(Closed::HeaderDeadline) == 500 && c.connections == 1).await;
    }

    #[tokio::test]
    async fn an_authenticated_connection_outlives_the_short_idle_time() {
        let idle_unauthenticated = Duration::from_millis(500);
        let limits = ConnectionLimits { idle_unauthenticated, ..ConnectionLimits::default() };
        let mut running = Running::with(limits).await;
        let mut known = running.connect().await;
        write(&mut known, &request(0)).await;
        let (_, flow) = running.received().await;
        running.sockets.authenticated(&flow);
        let mut stranger = running.connect().await;
        write(&mut stranger, &request(0)).await;
        let (_, strange) = running.received().await;
        // The stranger came later and goes first.
        assert_eq!(running.closed().await, strange);
        assert!(running.sockets.is_alive(&flow));
    }

    #[tokio::test]
    async fn the_oldest_stranger_makes_room_when_there_are_too_many_a22() {
        let limits = ConnectionLimits { connections: 2, ..ConnectionLimits::default() };
        let mut running = Running::with(limits).await;
        let mut streams = Vec::new();
        let mut flows = Vec::new();
        for _ in 0..3 {
            let mut stream = running.connect().await;
            write(&mut stream, &request(0)).await;
            streams.push(stream);
            loop {
                match running.told().await {
                    Told::Received(_, flow) => break flows.push(flow),
                    Told::Closed(flow, _) => assert_eq!(flow, flows[0]),
                    Told::Malformed(..) | Told::Refused(_) => panic!("well formed"),
                }
            }
        }
        assert_eq!(read_to_end(&mut streams[0]).await, b"");
        running.counted(|c| c.closed(Closed::Evicted) == 1).await;
        assert!(running.sockets.is_alive(&flows[1]) && running.sockets.is_alive(&flows[2]));
    }

    #[tokio::test]
    async fn connections_beyond_the_cap_of_an_address_are_refused_a22() {
        let limits = ConnectionLimits { unauthenticated_per_address: 1, ..ConnectionLimits::default() };
        let mut running = Running::with(limits).await;
        let mut first = running.connect().await;
        write(&mut first, &request(0)).await;
        let (_, flow) = running.received().await;
        let mut second = running.connect().await;
        assert_eq!(read_to_end(&mut second).await, b"");
        assert!(running.sockets.is_alive(&flow));
        assert_eq!(running.sockets.counters().refused, 1);
    }

    #[tokio::test]
    async fn a_panic_of_the_receiver_leaves_the_connection_alive() {
        let mut running = Running::start().await;
        let mut stream = running.connect().await;
        let mut bad = b"PANIC".to_vec();
        bad.extend(&request(0)[7..]);
        write(&mut stream, &bad).await;
        write(&mut stream, &request(0)).await;
        assert_eq!(&running.received().await.0[..], &request(0)[..]);
        assert_eq!(running.sockets.counters().panics, 1);
    }

    #[tokio::test]
    async fn stopping_writes_what_waits_closes_and_reports() {
        let mut running = Running::start().await;
        let mut stream = running.connect().await;
        write(&mut stream, &request(0)).await;
        let (_, flow) = running.received().await;
        running.sockets.send(&flow, &Bytes::from_static(b"goodbye")).expect("sent");
        running.stop.send(true).expect("running");
        assert_eq!(read_to_end(&mut stream).await, b"goodbye");
        within(running.sockets.ended()).await;
        assert_eq!(running.closed().await, flow);
        let elsewhere = SocketAddr::from(([127, 0, 0, 1], 9));
        assert_eq!(running.sockets.flow_to(Transport::Tcp, elsewhere), Err(SendError::FlowGone));
        assert!(TcpStream::connect(running.local(Transport::Tcp)).await.is_err());
    }

    #[tokio::test]
    async fn ids_differ_between_runs() {
        let (one, other) = (Running::start().await, Running::start().await);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let remote = listener.local_addr().expect("address");
        let one = one.sockets.flow_to(Transport::Tcp, remote).expect("flow");
        let other = other.sockets.flow_to(Transport::Tcp, remote).expect("flow");
        assert_ne!(one.connection, other.connection);
    }
}

//! Datagrams (RFC 3261 18.1, 18.2.1): read in bursts, handled in the task that read them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::watch;

use crate::model::{Flow, Transport};
use crate::transport::batch::{Pool, Received};
use crate::transport::counters::{Counters, Dropped};
use crate::transport::outbox::{self, Outbox};
use crate::transport::shared::{Shared, stopped};
use crate::transport::{Note, Receiver, SendError, spread};

/// One address on which datagrams are received, by one or more sockets; each peer belongs to one of them ([`spread::place`]).
#[derive(Debug)]
pub(super) struct UdpListener {
    local: SocketAddr,
    outboxes: Box<[Outbox]>,
}

impl UdpListener {
    /// Takes sockets that are bound to this address and waits until they can be written, so that the first datagram leaves at once.
    pub(super) async fn new(sockets: Vec<UdpSocket>, local: SocketAddr) -> io::Result<UdpListener> {
        let mut outboxes = Vec::with_capacity(sockets.len());
        for socket in sockets {
            socket.writable().await?;
            outboxes.push(Outbox::new(socket, local));
        }
        Ok(UdpListener { local, outboxes: outboxes.into() })
    }

    /// The address it is bound to.
    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Sends or queues; never waits. All that goes to one peer leaves by that peer's socket, so it keeps its order.
    pub(super) fn send(
        &self,
        remote: SocketAddr,
        bytes: &Bytes,
        note: Option<Note>,
        counters: &Counters,
    ) -> Result<(), SendError> {
        let outbox = self.outboxes.get(spread::place(remote, self.outboxes.len()));
        outbox.ok_or(SendError::NoListener)?.send(remote, bytes, note, counters)
    }

    /// Sends what waits for the end of what is sent together.
    pub(super) fn release(&self, counters: &Counters) {
        self.outboxes.iter().for_each(|outbox| outbox.release(counters));
    }

    /// The work of each socket: it reads until `stop`; the receiver is called in that task.
    pub(super) fn readers(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        receiver: &Arc<dyn Receiver>,
        stop: &watch::Receiver<bool>,
    ) -> impl Iterator<Item = impl Future<Output = ()> + Send + 'static> {
        (0..self.outboxes.len()).map(move |at| {
            let reader = Reader { listener: Arc::clone(self), at, shared: Arc::clone(shared) };
            reader.run(Arc::clone(receiver), stop.clone())
        })
    }
}

/// Reads one socket of a listener.
struct Reader {
    listener: Arc<UdpListener>,
    at: usize,
    shared: Arc<Shared>,
}

impl Reader {
    async fn run(self, receiver: Arc<dyn Receiver>, mut stop: watch::Receiver<bool>) {
        let Some(outbox) = self.listener.outboxes.get(self.at) else { return };
        let shared = &self.shared;
        let mut pool = Pool::new(shared.datagrams.together);
        loop {
            // Every branch only waits for readiness and is safe to drop.
            tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                _ = outbox.socket.writable(), if outbox.is_waiting() => outbox.resume(&shared.counters),
                () = outbox.woken() => self.tell_refused(outbox, receiver.as_ref()),
                _ = outbox.socket.readable() => match self.burst(outbox, &mut pool, receiver.as_ref()) {
                    Burst::Dry => {}
                    Burst::More => tokio::task::yield_now().await,
                    Burst::Failed => {
                        shared.counters.dropped(Dropped::Receive);
                        tokio::time::sleep(RECEIVE_BACK_OFF).await;
                    }
                },
            }
        }
        let drained = async {
            while outbox.is_waiting() {
                if outbox.socket.writable().await.is_err() {
                    break;
                }
                outbox.resume(&shared.counters);
            }
        };
        // What the system does not take in time is lost, as datagrams are.
        let _ = tokio::time::timeout(DRAIN, drained).await;
    }

    fn burst(&self, outbox: &Outbox, pool: &mut Pool, receiver: &dyn Receiver) -> Burst {
        let mut count = 0;
        while count < BURST {
            let received = match pool.receive(&outbox.socket, outbox.local) {
                Ok(received) => received,
                // An earlier datagram could not be delivered: of no use here, the next one may be fine.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    count += 1;
                    continue;
                }
                Err(_) => return Burst::Failed,
            };
            // What is sent for several leaves together, what is sent for one at once.
            let together =
                (pool.len() > 1).then(|| outbox::burst(&self.listener.outboxes, &self.shared.counters));
            for (datagram, remote) in pool.datagrams() {
                self.tell(datagram, remote, receiver);
            }
            drop(together);
            if received == Received::All {
                return Burst::Dry;
            }
            count += pool.len();
        }
        Burst::More
    }

    fn tell_refused(&self, outbox: &Outbox, receiver: &dyn Receiver) {
        for note in outbox.refused() {
            self.shared.tell(receiver, |receiver| receiver.refused(note));
        }
    }

    fn tell(&self, datagram: &[u8], remote: SocketAddr, receiver: &dyn Receiver) {
        let shared = &self.shared;
        if let Some(reason) = useless(datagram, remote) {
            shared.counters.dropped(reason);
            return;
        }
        Counters::add(&shared.counters.datagrams_in);
        let flow = Flow { transport: Transport::Udp, local: self.listener.local, remote, connection: 0 };
        let bytes = Bytes::copy_from_slice(datagram);
        shared.tell(receiver, |receiver| receiver.received(bytes, flow));
    }
}

/// How a burst of reading ended.
enum Burst {
    Dry,
    More,
    Failed,
}

/// Why a datagram need not be shown to anybody.
fn useless(datagram: &[u8], remote: SocketAddr) -> Option<Dropped> {
    if datagram.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        Some(Dropped::KeepAlive)
    } else if datagram.len() < SHORTEST {
        Some(Dropped::Short)
    } else if remote.port() == 0 {
        Some(Dropped::Source)
    } else {
        None
    }
}

/// Shorter than any start line with a header (`A15`).
const SHORTEST: usize = 20;
/// Datagrams read before others have a turn.
const BURST: usize = 64;
/// Time to send what waits when the server stops.
const DRAIN: Duration = Duration::from_secs(2);
/// Pause after an error, so that a lasting one does not spin.
const RECEIVE_BACK_OFF: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::testing::{Running, Told, within};
    use crate::transport::{ConnectionLimits, Datagrams, ListenerConfig, Sockets};

    async fn client() -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0").await.expect("bound")
    }

    async fn send(client: &UdpSocket, to: SocketAddr, bytes: &[u8]) {
        within(client.send_to(bytes, to)).await.expect("sent");
    }

    const HELLO: &[u8] = b"OPTIONS sip:a SIP/2.0\r\n\r\n";

    #[tokio::test]
    async fn a_datagram_is_received_and_answered_from_the_same_port_rfc3581_4() {
        let mut running = Running::start().await;
        let (client, local) = (client().await, running.local(Transport::Udp));
        send(&client, local, HELLO).await;
        let (bytes, flow) = running.received().await;
        assert_eq!(&bytes[..], HELLO);
        let remote = client.local_addr().expect("address");
        assert_eq!(flow, Flow { transport: Transport::Udp, local, remote, connection: 0 });
        running.sockets.send(&flow, &Bytes::from_static(b"answer")).expect("sent");
        let mut buffer = [0; 100];
        let (length, from) = within(client.recv_from(&mut buffer)).await.expect("received");
        assert_eq!((&buffer[..length], from), (&b"answer"[..], local));
        let counters = running.sockets.counters();
        assert_eq!((counters.datagrams_in, counters.datagrams_out), (1, 1));
    }

    #[tokio::test]
    async fn the_largest_datagram_is_received_whole_rfc3261_18_1_1() {
        let mut running = Running::start().await;
        let client = client().await;
        let largest = vec![b'x'; 65_507];
        send(&client, running.local(Transport::Udp), &largest).await;
        let (bytes, _) = running.received().await;
        assert_eq!(bytes.len(), 65_507);
    }

    #[tokio::test]
    async fn what_is_too_short_or_a_keep_alive_is_dropped_and_counted_a15() {
        let mut running = Running::start().await;
        let (client, local) = (client().await, running.local(Transport::Udp));
        for bytes in [&b""[..], b"\r\n", b"\r\n\r\n", b"\0\0\0\0", b"short", HELLO] {
            send(&client, local, bytes).await;
        }
        assert_eq!(&running.received().await.0[..], HELLO);
        let counters = running.sockets.counters();
        assert_eq!((counters.dropped(Dropped::KeepAlive), counters.dropped(Dropped::Short)), (4, 1));
    }

    #[tokio::test]
    async fn a_panic_of_the_receiver_is_contained_and_counted() {
        let mut running = Running::start().await;
        let (client, local) = (client().await, running.local(Transport::Udp));
        send(&client, local, b"PANIC sip:a SIP/2.0\r\n\r\n").await;
        send(&client, local, HELLO).await;
        assert_eq!(&running.received().await.0[..], HELLO);
        assert_eq!(running.sockets.counters().panics, 1);
    }

    #[tokio::test]
    async fn a_flow_is_made_from_the_listener_of_the_family_and_lives() {
        let running = Running::start().await;
        let client = client().await;
        let remote = client.local_addr().expect("address");
        let flow = running.sockets.flow_to(Transport::Udp, remote).expect("listener");
        assert_eq!((flow.local, flow.connection), (running.local(Transport::Udp), 0));
        assert!(running.sockets.is_alive(&flow));
        let v6 = "[::1]:5060".parse().expect("address");
        assert_eq!(running.sockets.flow_to(Transport::Udp, v6), Err(SendError::NoListener));
        let elsewhere = Flow { local: remote, ..flow };
        assert!(!running.sockets.is_alive(&elsewhere));
        assert_eq!(running.sockets.send(&elsewhere, &Bytes::new()), Err(SendError::NoListener));
    }

    #[tokio::test]
    async fn a_datagram_that_is_too_large_is_refused_and_counted() {
        let running = Running::start().await;
        let remote = client().await.local_addr().expect("address");
        let flow = running.sockets.flow_to(Transport::Udp, remote).expect("listener");
        let bytes = Bytes::from(vec![b'x'; 70_000]);
        assert_eq!(running.sockets.send(&flow, &bytes), Err(SendError::Refused));
        assert_eq!(running.sockets.counters().dropped(Dropped::Refused), 1);
    }

    /// Answers each datagram to where it came from, with a response and then a request that bear its text.
    struct Echo(Arc<Sockets>);

    impl Receiver for Echo {
        fn received(&self, bytes: Bytes, flow: Flow) {
            for start in [&b"SIP/2.0 200 "[..], b"INFO "] {
                let answer = [start, &bytes[..]].concat();
                self.0.send(&flow, &Bytes::from(answer)).expect("sent");
            }
        }
        fn malformed(&self, _: crate::sip::ParseError, _: Option<Bytes>, _: Flow) {}
        fn refused(&self, _: Note) {}
        fn closed(&self, _: Flow, _: bool) {}
    }

    #[tokio::test]
    async fn a_burst_arrives_whole_and_in_order_and_so_do_its_answers() {
        let ways = [
            ("127.0.0.1:0", true, 1),
            ("[::1]:0", true, 2),
            ("127.0.0.1:0", false, 2),
            ("[::1]:0", false, 1),
        ];
        for (address, together, sockets) in ways {
            let bind = address.parse().expect("address");
            let config = ListenerConfig { transport: Transport::Udp, bind, advertise: None };
            let datagrams = Datagrams { sockets, together };
            let sockets =
                Sockets::bind(&[config], datagrams, ConnectionLimits::default()).await.expect("bound");
            let local = sockets.listeners()[0].local;
            let peer = UdpSocket::bind(address).await.expect("bound");
            let text = |number: usize| format!("{number:>20} {}", "x".repeat(number * 5));
            // All of them are there before the first one is read.
            for number in 0..150 {
                send(&peer, local, text(number).as_bytes()).await;
            }
            let (stop, stopping) = watch::channel(false);
            sockets.run(Arc::new(Echo(Arc::clone(&sockets))), stopping);
            let mut buffer = [0; 2_000];
            for number in 0..150 {
                for start in ["SIP/2.0 200 ", "INFO "] {
                    let (length, from) = within(peer.recv_from(&mut buffer)).await.expect("received");
                    assert_eq!(
                        String::from_utf8_lossy(&buffer[..length]),
                        format!("{start}{}", text(number))
                    );
                    assert_eq!(from, local);
                }
            }
            let counters = sockets.counters();
            assert_eq!((counters.datagrams_in, counters.datagrams_out), (150, 300));
            stop.send(true).expect("running");
            within(sockets.ended()).await;
        }
    }

    #[tokio::test]
    async fn who_noted_a_request_is_told_that_the_system_refused_it_later() {
        let mut running = Running::start().await;
        let remote = client().await.local_addr().expect("address");
        let flow = running.sockets.flow_to(Transport::Udp, remote).expect("listener");
        let (large, note) = (Bytes::from(vec![b'x'; 70_000]), Note(7));
        running.sockets.together(|| {
            assert_eq!(running.sockets.send_noted(&flow, &large, note), Ok(()));
            assert_eq!(running.sockets.send(&flow, &large), Ok(()));
        });
        assert_eq!(running.told().await, Told::Refused(note));
        assert_eq!(running.sockets.counters().dropped(Dropped::Refused), 2);
    }

    #[tokio::test]
    async fn the_largest_datagrams_of_a_burst_do_not_touch_each_other() {
        let mut running = Running::start().await;
        let (client, local) = (client().await, running.local(Transport::Udp));
        let large = |byte: u8| vec![byte; 65_507];
        for byte in [b'a', b'b', b'c'] {
            send(&client, local, &large(byte)).await;
        }
        for byte in [b'a', b'b', b'c'] {
            assert_eq!(running.received().await.0, large(byte));
        }
    }

    #[tokio::test]
    async fn stopping_ends_every_task() {
        let running = Running::start().await;
        running.stop.send(true).expect("running");
        within(running.sockets.ended()).await;
    }

    #[tokio::test]
    async fn ended_sockets_are_freed_though_their_receiver_owns_them() {
        let running = Running::start().await;
        let local = running.local(Transport::Udp);
        running.stop.send(true).expect("running");
        within(running.sockets.ended()).await;
        drop(running);
        UdpSocket::bind(local).await.expect("the port is free again");
    }

    #[tokio::test]
    async fn ipv6_is_served_and_written_in_brackets_rfc3261_25_1() {
        let bind = "[::1]:0".parse().expect("address");
        let config = ListenerConfig { transport: Transport::Udp, bind, advertise: None };
        let sockets =
            Sockets::bind(&[config], Datagrams::default(), ConnectionLimits::default()).await.expect("bound");
        let peer = UdpSocket::bind("[::1]:0").await.expect("bound");
        let remote = peer.local_addr().expect("address");
        let flow = sockets.flow_to(Transport::Udp, remote).expect("listener");
        assert_eq!(sockets.sent_by(&flow), ("[::1]".to_owned(), flow.local.port()));
        sockets.send(&flow, &Bytes::from_static(b"hello")).expect("sent");
        let mut buffer = [0; 10];
        let (length, from) = within(peer.recv_from(&mut buffer)).await.expect("received");
        assert_eq!((length, from), (5, flow.local));
    }

    #[tokio::test]
    async fn a_wildcard_listener_names_the_address_the_peer_can_see() {
        let bind = "0.0.0.0:0".parse().expect("address");
        let config = ListenerConfig { transport: Transport::Udp, bind, advertise: None };
        let sockets =
            Sockets::bind(&[config], Datagrams::default(), ConnectionLimits::default()).await.expect("bound");
        let remote = "127.0.0.1:9".parse().expect("address");
        let flow = sockets.flow_to(Transport::Udp, remote).expect("listener");
        assert_eq!(sockets.sent_by(&flow), ("127.0.0.1".to_owned(), flow.local.port()));
        // And that address is ours, though the listener does not name it.
        assert!(!sockets.may_contact(SocketAddr::from(([127, 0, 0, 1], flow.local.port())), &[]));
        assert!(sockets.may_contact("203.0.113.9:5060".parse().expect("address"), &[]));
    }
}

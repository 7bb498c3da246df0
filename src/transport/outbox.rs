//! What leaves a datagram socket: at once, with all else that is sent while a burst is handled, or when the system takes it again. In order, per
//! destination. What the system refuses later is told to who noted it.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::Notify;

use crate::transport::batch::{self, BATCH};
use crate::transport::counters::{Counters, Dropped};
use crate::transport::shared::lock;
use crate::transport::{Note, SendError, spread};

/// A bound datagram socket and what waits for it.
#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) socket: UdpSocket,
    pub(super) local: SocketAddr,
    waiting: Mutex<Waiting>,
    /// Length of the queue, read without its lock. Zero: nothing waits and nothing that waited is on its way.
    pending: AtomicUsize,
    destinations: Destinations,
    wake: Notify,
}

/// Datagrams that leave at the end of a burst, or when the system takes more. Bounded by count and bytes; what does not fit is dropped and
/// counted.
#[derive(Debug, Default)]
struct Waiting {
    queue: VecDeque<Datagram>,
    bytes: usize,
    /// Notes of what the system refused; the reader of the socket tells of them. They take room as if they still waited.
    refused: Vec<Note>,
    /// The system took no more; [`Outbox::resume`] goes on when it does.
    blocked: bool,
}

/// One that waits.
#[derive(Debug)]
struct Datagram {
    remote: SocketAddr,
    bytes: Bytes,
    note: Option<Note>,
}

impl Outbox {
    /// Takes a socket that can be written.
    pub(super) fn new(socket: UdpSocket, local: SocketAddr) -> Outbox {
        Outbox {
            socket,
            local,
            waiting: Mutex::default(),
            pending: AtomicUsize::new(0),
            destinations: Destinations::default(),
            wake: Notify::new(),
        }
    }

    /// Does anything wait?
    pub(super) fn is_waiting(&self) -> bool {
        self.pending.load(Ordering::Acquire) > 0
    }

    /// Returns when something may have begun to wait, or was refused.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Notes of what was refused since the last call.
    pub(super) fn refused(&self) -> Vec<Note> {
        std::mem::take(&mut lock(&self.waiting).refused)
    }

    /// Sends or queues; never waits. What waits for its end: what is sent while a burst is handled, or [`together`].
    pub(super) fn send(
        &self,
        remote: SocketAddr,
        bytes: &Bytes,
        note: Option<Note>,
        counters: &Counters,
    ) -> Result<(), SendError> {
        let datagram = || Datagram { remote, bytes: bytes.clone(), note };
        if (TOGETHER.get() || self.is_in_burst()) && remote.is_ipv4() == self.local.is_ipv4() {
            let mut waiting = lock(&self.waiting);
            self.put(&mut waiting, datagram(), counters)?;
            if waiting.queue.len() >= BATCH && !waiting.blocked {
                self.flush(&mut waiting, counters);
            }
            return Ok(());
        }
        if !self.destinations.may_hold(remote)
            && let Some(sent) = self.send_now(remote, bytes, counters)
        {
            return sent;
        }
        let mut waiting = lock(&self.waiting);
        if !waiting.blocked && waiting.queue.iter().any(|earlier| earlier.remote == remote) {
            self.flush(&mut waiting, counters);
        }
        if !waiting.blocked {
            if let Some(sent) = self.send_now(remote, bytes, counters) {
                return sent;
            }
            waiting.blocked = true;
        }
        self.put(&mut waiting, datagram(), counters)?;
        drop(waiting);
        self.wake.notify_one();
        Ok(())
    }

    /// Sends what waits, unless that is for the burst that this thread is handling.
    pub(super) fn release(&self, counters: &Counters) {
        if self.is_waiting() && !self.is_in_burst() {
            let mut waiting = lock(&self.waiting);
            if !waiting.blocked {
                self.flush(&mut waiting, counters);
            }
        }
    }

    /// The system takes more again.
    pub(super) fn resume(&self, counters: &Counters) {
        self.flush(&mut lock(&self.waiting), counters);
    }

    fn is_in_burst(&self) -> bool {
        IN_BURST.get() == Some(self.local)
    }

    /// `None`: the system takes no more.
    fn send_now(
        &self,
        remote: SocketAddr,
        bytes: &Bytes,
        counters: &Counters,
    ) -> Option<Result<(), SendError>> {
        match self.socket.try_send_to(bytes, remote) {
            Ok(_) => {
                Counters::add(&counters.datagrams_out);
                Some(Ok(()))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(_) => {
                counters.dropped(Dropped::Refused);
                Some(Err(SendError::Refused))
            }
        }
    }

    fn put(
        &self,
        waiting: &mut MutexGuard<'_, Waiting>,
        datagram: Datagram,
        counters: &Counters,
    ) -> Result<(), SendError> {
        let sum = waiting.bytes.saturating_add(datagram.bytes.len());
        if waiting.queue.len() + waiting.refused.len() >= WAITING || sum > WAITING_BYTES {
            counters.dropped(Dropped::Full);
            return Err(SendError::Full);
        }
        waiting.bytes = sum;
        self.destinations.enter(datagram.remote);
        waiting.queue.push_back(datagram);
        self.pending.store(waiting.queue.len(), Ordering::Release);
        Ok(())
    }

    /// Sends what waits, in order, until nothing is left or the system takes no more. The lock is held meanwhile, so that nobody overtakes.
    fn flush(&self, waiting: &mut MutexGuard<'_, Waiting>, counters: &Counters) {
        waiting.blocked = false;
        while !waiting.queue.is_empty() {
            let queue = waiting.queue.iter().map(|datagram| (datagram.remote, &datagram.bytes));
            let gone = match batch::send(&self.socket, self.local, queue) {
                Ok(sent) => {
                    Counters::add_many(&counters.datagrams_out, sent);
                    sent
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    waiting.blocked = true;
                    // Whoever is here may not be who goes on.
                    self.wake.notify_one();
                    break;
                }
                // An error is about the first one.
                Err(_) => {
                    counters.dropped(Dropped::Refused);
                    if let Some(note) = waiting.queue.front().and_then(|datagram| datagram.note) {
                        waiting.refused.push(note);
                        self.wake.notify_one();
                    }
                    1
                }
            };
            for _ in 0..gone {
                if let Some(datagram) = waiting.queue.pop_front() {
                    self.destinations.leave(datagram.remote);
                    waiting.bytes = waiting.bytes.saturating_sub(datagram.bytes.len());
                }
            }
        }
        self.pending.store(waiting.queue.len(), Ordering::Release);
    }
}

/// For whom something waits or is on its way, read without the lock: who sends to somebody else need not wait for those who do. Counted
/// by a few bits of the destination, so the answer may be "perhaps" where it is "no".
#[derive(Debug)]
struct Destinations(Box<[AtomicU16]>);

impl Default for Destinations {
    fn default() -> Destinations {
        Destinations((0..DESTINATIONS).map(|_| AtomicU16::new(0)).collect())
    }
}

impl Destinations {
    fn of(&self, remote: SocketAddr) -> Option<&AtomicU16> {
        self.0.get(spread::place(remote, DESTINATIONS))
    }

    /// No more than [`WAITING`] at once.
    fn enter(&self, remote: SocketAddr) {
        self.of(remote).map(|count| count.fetch_add(1, Ordering::AcqRel));
    }

    fn leave(&self, remote: SocketAddr) {
        self.of(remote).map(|count| count.fetch_sub(1, Ordering::AcqRel));
    }

    fn may_hold(&self, remote: SocketAddr) -> bool {
        self.of(remote).is_none_or(|count| count.load(Ordering::Acquire) > 0)
    }
}

/// What is sent in a burst waits for its end; there it leaves.
pub(super) struct Burst<'a> {
    outboxes: &'a [Outbox],
    counters: &'a Counters,
}

/// From now on, until the guard is dropped, what this thread sends by any socket of one address waits for the end of the burst.
pub(super) fn burst<'a>(outboxes: &'a [Outbox], counters: &'a Counters) -> Burst<'a> {
    IN_BURST.set(outboxes.first().map(|outbox| outbox.local));
    Burst { outboxes, counters }
}

impl Drop for Burst<'_> {
    fn drop(&mut self) {
        IN_BURST.set(None);
        self.outboxes.iter().for_each(|outbox| outbox.release(self.counters));
    }
}

/// Runs something that sends a lot: until it has ended, what this thread sends waits in all outboxes. `true`: they are to be
/// [released](Outbox::release) now; else this was a part of something that sends even more.
pub(super) fn together(send: impl FnOnce()) -> bool {
    struct End(bool);
    impl Drop for End {
        fn drop(&mut self) {
            TOGETHER.set(self.0);
        }
    }
    let end = End(TOGETHER.replace(true));
    send();
    !end.0
}

thread_local! {
    /// This thread sends a lot.
    static TOGETHER: Cell<bool> = const { Cell::new(false) };
    /// The address at which the burst came that this thread is handling. A burst is handled without a pause, so it stays on its thread.
    static IN_BURST: Cell<Option<SocketAddr>> = const { Cell::new(None) };
}

/// Counts of [`Destinations`]: with a full batch waiting, one in thirty of the others is taken for one of its destinations. A prime number, since
/// the places of one socket's peers have bits in common.
const DESTINATIONS: usize = 1_021;
/// Datagrams that may wait for a socket..
const WAITING: usize = 4_096;
/// ..and their bytes.
const WAITING_BYTES: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::testing::within;

    const COUNT: u8 = 100;

    async fn client(address: &str) -> UdpSocket {
        let socket = UdpSocket::bind(address).await.expect("bound");
        within(socket.writable()).await.expect("writable");
        socket
    }

    /// An outbox, a peer, and where the peer is.
    async fn pair(address: &str) -> (Outbox, UdpSocket, SocketAddr) {
        let (socket, peer) = (client(address).await, client(address).await);
        let local = socket.local_addr().expect("address");
        let remote = peer.local_addr().expect("address");
        (Outbox::new(socket, local), peer, remote)
    }

    fn answer(number: u8) -> Bytes {
        Bytes::from(format!("SIP/2.0 200 {number}").into_bytes())
    }

    fn request(number: u8) -> Bytes {
        Bytes::from(format!("INFO {number}").into_bytes())
    }

    async fn read(peer: &UdpSocket) -> Bytes {
        let mut buffer = [0; 100];
        let (length, _) = within(peer.recv_from(&mut buffer)).await.expect("received");
        Bytes::copy_from_slice(&buffer[..length])
    }

    fn is_silent(peer: &UdpSocket) -> bool {
        peer.try_recv(&mut [0; 100]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    #[tokio::test]
    async fn what_is_sent_in_a_burst_leaves_at_its_end_in_order() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (outbox, peer, remote) = pair(address).await;
            let counters = Counters::default();
            let burst = burst(std::slice::from_ref(&outbox), &counters);
            let sent = |number| if number % 2 == 0 { answer(number) } else { request(number) };
            for number in 0..20 {
                assert_eq!(outbox.send(remote, &sent(number), None, &counters), Ok(()));
            }
            assert!(outbox.is_waiting() && is_silent(&peer));
            drop(burst);
            assert!(!outbox.is_waiting());
            for number in 0..20 {
                assert_eq!(read(&peer).await, sent(number));
            }
            assert_eq!(counters.snapshot(0).datagrams_out, 20);
            assert_eq!(lock(&outbox.waiting).bytes, 0);
            // After it, nothing waits any more.
            assert_eq!(outbox.send(remote, &answer(1), None, &counters), Ok(()));
            assert!(!outbox.is_waiting());
        }
    }

    #[tokio::test]
    async fn what_is_sent_in_a_burst_waits_in_all_sockets_of_its_address() {
        let (first, peer, remote) = pair("127.0.0.1:0").await;
        let (second, other) = (client("127.0.0.1:0").await, client("127.0.0.1:0").await);
        let elsewhere = other.local_addr().expect("address");
        let counters = Counters::default();
        let second = Outbox::new(second, first.local);
        let both = [first, second];
        let burst = burst(&both, &counters);
        assert_eq!(both[0].send(remote, &answer(1), None, &counters), Ok(()));
        assert_eq!(both[1].send(elsewhere, &request(2), None, &counters), Ok(()));
        assert!(both.iter().all(Outbox::is_waiting) && is_silent(&peer) && is_silent(&other));
        drop(burst);
        assert_eq!((read(&peer).await, read(&other).await), (answer(1), request(2)));
        assert!(!both.iter().any(Outbox::is_waiting));
    }

    #[tokio::test]
    async fn a_full_batch_does_not_wait_for_the_end_of_its_burst() {
        let (outbox, peer, remote) = pair("127.0.0.1:0").await;
        let counters = Counters::default();
        let _burst = burst(std::slice::from_ref(&outbox), &counters);
        for number in 0..COUNT {
            assert_eq!(outbox.send(remote, &answer(number), None, &counters), Ok(()));
        }
        assert!(counters.snapshot(0).datagrams_out >= 96);
        assert_eq!(read(&peer).await, answer(0));
    }

    #[tokio::test]
    async fn requests_that_are_sent_together_leave_together_and_in_order() {
        let (outbox, peer, remote) = pair("127.0.0.1:0").await;
        let counters = Counters::default();
        let is_to_be_released = together(|| {
            assert!(
                !together(|| outbox.send(remote, &request(1), None, &counters).expect("put")),
                "by the outer one"
            );
            outbox.send(remote, &request(2), None, &counters).expect("put");
            assert!(outbox.is_waiting() && is_silent(&peer));
        });
        assert!(is_to_be_released);
        outbox.release(&counters);
        assert_eq!((read(&peer).await, read(&peer).await), (request(1), request(2)));
        outbox.send(remote, &request(3), None, &counters).expect("sent");
        assert_eq!((read(&peer).await, outbox.is_waiting()), (request(3), false));
        assert_eq!(counters.snapshot(0).datagrams_out, 3);
    }

    #[tokio::test]
    async fn what_is_sent_together_within_a_burst_leaves_at_its_end() {
        let (outbox, peer, remote) = pair("127.0.0.1:0").await;
        let counters = Counters::default();
        let burst = burst(std::slice::from_ref(&outbox), &counters);
        outbox.send(remote, &answer(1), None, &counters).expect("put");
        assert!(together(|| outbox.send(remote, &request(2), None, &counters).expect("put")));
        outbox.release(&counters);
        outbox.send(remote, &answer(3), None, &counters).expect("put");
        assert!(is_silent(&peer));
        drop(burst);
        for expected in [answer(1), request(2), answer(3)] {
            assert_eq!(read(&peer).await, expected);
        }
    }

    #[tokio::test]
    async fn another_thread_goes_at_once_but_never_before_what_waits_for_the_same_destination() {
        let (outbox, peer, remote) = pair("127.0.0.1:0").await;
        let (other, counters) = (client("127.0.0.1:0").await, Counters::default());
        let elsewhere = other.local_addr().expect("address");
        let burst = burst(std::slice::from_ref(&outbox), &counters);
        outbox.send(remote, &answer(1), None, &counters).expect("put");
        std::thread::scope(|scope| {
            scope.spawn(|| outbox.send(elsewhere, &request(2), None, &counters).expect("sent"));
        });
        assert_eq!(read(&other).await, request(2));
        assert!(outbox.is_waiting() && is_silent(&peer));
        std::thread::scope(|scope| {
            scope.spawn(|| outbox.send(remote, &answer(2), None, &counters).expect("sent"));
        });
        assert!(!outbox.is_waiting());
        outbox.send(remote, &answer(3), None, &counters).expect("put");
        drop(burst);
        for number in 1..=3 {
            assert_eq!(read(&peer).await, answer(number));
        }
    }

    #[tokio::test]
    async fn who_sends_to_somebody_else_does_not_wait_for_a_batch_that_is_leaving() {
        let (outbox, _peer, remote) = pair("127.0.0.1:0").await;
        let (other, counters) = (client("127.0.0.1:0").await, Counters::default());
        let elsewhere = other.local_addr().expect("address");
        let _burst = burst(std::slice::from_ref(&outbox), &counters);
        outbox.send(remote, &answer(1), None, &counters).expect("put");
        if outbox.destinations.may_hold(elsewhere) {
            // One in a thousand ports looks like the other.
            return;
        }
        let leaving = lock(&outbox.waiting);
        std::thread::scope(|scope| {
            scope.spawn(|| outbox.send(elsewhere, &request(2), None, &counters).expect("sent"));
        });
        drop(leaving);
        assert_eq!(read(&other).await, request(2));
    }

    #[tokio::test]
    async fn what_the_system_refuses_is_counted_and_the_rest_of_the_batch_leaves() {
        let (outbox, peer, remote) = pair("127.0.0.1:0").await;
        let (counters, nowhere) = (Counters::default(), SocketAddr::from(([127, 0, 0, 1], 0)));
        let burst = burst(std::slice::from_ref(&outbox), &counters);
        for to in [nowhere, remote, nowhere, nowhere, remote, nowhere] {
            outbox.send(to, &answer(1), None, &counters).expect("put");
        }
        let v6 = "[::1]:5060".parse().expect("address");
        assert_eq!(outbox.send(v6, &answer(1), None, &counters), Err(SendError::Refused));
        drop(burst);
        // At once, it is said at once.
        assert_eq!(outbox.send(nowhere, &request(1), None, &counters), Err(SendError::Refused));
        assert_eq!((read(&peer).await, read(&peer).await), (answer(1), answer(1)));
        let counters = counters.snapshot(0);
        assert_eq!((counters.datagrams_out, counters.dropped(Dropped::Refused)), (2, 6));
        assert!(outbox.refused().is_empty());
    }

    #[tokio::test]
    async fn who_noted_what_is_refused_later_is_told_and_nobody_else() {
        let (outbox, peer, remote) = pair("127.0.0.1:0").await;
        let (counters, nowhere) = (Counters::default(), SocketAddr::from(([127, 0, 0, 1], 0)));
        let burst = burst(std::slice::from_ref(&outbox), &counters);
        for (number, to) in [(1, nowhere), (2, remote), (3, nowhere)] {
            let note = Some(Note(number.into()));
            assert_eq!(outbox.send(to, &request(number), note, &counters), Ok(()));
        }
        assert!(outbox.refused().is_empty());
        drop(burst);
        within(outbox.woken()).await;
        assert_eq!(outbox.refused(), [Note(1), Note(3)]);
        assert_eq!(read(&peer).await, request(2));
        assert!(outbox.refused().is_empty());
    }

    #[tokio::test]
    async fn waiting_datagrams_are_bounded_and_sent_when_the_socket_takes_them() {
        let (outbox, _peer, remote) = pair("127.0.0.1:0").await;
        let counters = Counters::default();
        // As if the system had refused one before.
        lock(&outbox.waiting).blocked = true;
        outbox.pending.store(1, Ordering::Release);
        let burst = burst(std::slice::from_ref(&outbox), &counters);
        for _ in 0..WAITING / 2 {
            assert_eq!(outbox.send(remote, &answer(1), None, &counters), Ok(()));
            assert_eq!(outbox.send(remote, &request(1), None, &counters), Ok(()));
        }
        assert_eq!(outbox.send(remote, &answer(1), None, &counters), Err(SendError::Full));
        assert_eq!(outbox.send(remote, &request(1), None, &counters), Err(SendError::Full));
        drop(burst);
        assert_eq!(counters.snapshot(0).dropped(Dropped::Full), 2);
        assert_eq!(lock(&outbox.waiting).queue.len(), WAITING);
        while outbox.is_waiting() {
            within(outbox.socket.writable()).await.expect("writable");
            outbox.resume(&counters);
        }
        assert_eq!(counters.snapshot(0).datagrams_out, WAITING as u64);
        let waiting = lock(&outbox.waiting);
        assert_eq!((waiting.bytes, waiting.blocked), (0, false));
    }
}

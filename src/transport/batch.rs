//! Many datagrams with one system call: `recvmmsg` and `sendmmsg` on Linux, one after the other elsewhere.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::net::UdpSocket;

/// Datagrams of one call.
pub(super) const BATCH: usize = 32;

/// Buffers for one call, used again by the next. Each takes the largest datagram; the system gives memory to those pages alone that were ever written.
#[derive(Debug)]
pub(super) struct Pool {
    /// Datagrams of one call.
    most: usize,
    buffer: Vec<u8>,
    met: SmallVec<[(usize, SocketAddr); BATCH]>,
}

/// What [`Pool::receive`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    /// All there was at that moment, perhaps nothing. What comes later makes the socket readable again.
    All,
    /// As much as one call takes; there may be more.
    Full,
}

impl Pool {
    /// For [`BATCH`] datagrams at once where the system has such a call, or for one.
    pub(super) fn new(together: bool) -> Pool {
        let most = if together { PER_CALL } else { 1 };
        Pool { most, buffer: vec![0; STRIDE * most], met: SmallVec::new() }
    }

    /// Reads what is there, at most as many datagrams as there are buffers; never waits.
    ///
    /// An error that hides behind datagrams of the same call is told by the next call, as the system does.
    pub(super) fn receive(&mut self, socket: &UdpSocket, local: SocketAddr) -> io::Result<Received> {
        self.met.clear();
        let read = system::receive(socket, local, &mut self.buffer, &mut self.met);
        match read {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ if self.met.len() >= self.most => Ok(Received::Full),
            _ => Ok(Received::All),
        }
    }

    /// How many datagrams the last call found.
    pub(super) fn len(&self) -> usize {
        self.met.len()
    }

    /// These datagrams, in the order in which they came.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = (&[u8], SocketAddr)> {
        let buffers = self.buffer.chunks_exact(STRIDE);
        self.met.iter().zip(buffers).filter_map(|((length, remote), b)| Some((b.get(..*length)?, *remote)))
    }
}

/// Sends the first datagrams of a queue, at most [`BATCH`], and tells how many the system took. An error is about the first one;
/// the queue is not empty.
pub(super) fn send<'a>(
    socket: &UdpSocket,
    local: SocketAddr,
    queue: impl Iterator<Item = (SocketAddr, &'a Bytes)>,
) -> io::Result<usize> {
    // An address of the other family ends the batch, and is refused at its head.
    let fitting = queue.take(PER_CALL).take_while(|(remote, _)| remote.is_ipv4() == local.is_ipv4());
    let batch: SmallVec<[(SocketAddr, &Bytes); BATCH]> = fitting.collect();
    if batch.is_empty() {
        return Err(io::ErrorKind::AddrNotAvailable.into());
    }
    system::send(socket, &batch)
}

/// Larger than any datagram (65,507 bytes over IPv4), so none is cut off.
const DATAGRAM: usize = 65_536;
/// From one buffer to the next: their beginnings share no lines of the processor's caches, as they would at a power of two.
const STRIDE: usize = DATAGRAM + 832;
const PER_CALL: usize = system::PER_CALL;

#[cfg(target_os = "linux")]
mod system {
    use std::io::{self, IoSlice, IoSliceMut};
    use std::net::SocketAddr;
    use std::os::fd::{AsRawFd, RawFd};

    use bytes::Bytes;
    use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, SockaddrLike, recvmmsg};
    use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg};
    use smallvec::SmallVec;
    use tokio::io::Interest;
    use tokio::net::UdpSocket;

    use super::{BATCH, STRIDE};

    pub(super) const PER_CALL: usize = BATCH;

    type Met = SmallVec<[(usize, SocketAddr); BATCH]>;

    pub(super) fn receive(
        socket: &UdpSocket,
        local: SocketAddr,
        buffer: &mut [u8],
        met: &mut Met,
    ) -> io::Result<()> {
        socket.try_io(Interest::READABLE, || {
            let fd = socket.as_raw_fd();
            let most = buffer.len() / STRIDE;
            match local {
                SocketAddr::V4(_) => receive_from::<SockaddrIn>(fd, buffer, met)?,
                SocketAddr::V6(_) => receive_from::<SockaddrIn6>(fd, buffer, met)?,
            }
            // The system stopped early because nothing was left: said so, that costs no second call.
            if met.len() < most { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        })
    }

    /// `S`: the addresses of this socket's family. Headers are made for each call: the system writes lengths into them.
    fn receive_from<S>(fd: RawFd, buffer: &mut [u8], met: &mut Met) -> io::Result<()>
    where
        S: SockaddrLike + Copy,
        SocketAddr: From<S>,
    {
        let mut buffers = buffer.chunks_exact_mut(STRIDE);
        let count = buffers.len();
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
            std::array::from_fn(|_| [IoSliceMut::new(buffers.next().unwrap_or_default())]);
        let mut headers = MultiHeaders::<S>::preallocate(count, None);
        let received =
            recvmmsg(fd, &mut headers, slices.iter_mut().take(count), MsgFlags::MSG_DONTWAIT, None)?;
        met.extend(received.filter_map(|one| Some((one.bytes, SocketAddr::from(one.address?)))));
        Ok(())
    }

    pub(super) fn send(socket: &UdpSocket, batch: &[(SocketAddr, &Bytes)]) -> io::Result<usize> {
        if let [(remote, bytes)] = batch {
            return socket.try_send_to(bytes, *remote).map(|_| 1);
        }
        let addresses: SmallVec<[SocketAddrAny; BATCH]> =
            batch.iter().map(|(remote, _)| SocketAddrAny::from(*remote)).collect();
        let slices: SmallVec<[[IoSlice<'_>; 1]; BATCH]> =
            batch.iter().map(|(_, bytes)| [IoSlice::new(bytes)]).collect();
        let mut controls: [SendAncillaryBuffer<'_, '_, '_>; BATCH] = Default::default();
        let mut headers: SmallVec<[MMsgHdr<'_>; BATCH]> = addresses
            .iter()
            .zip(&slices)
            .zip(&mut controls)
            .map(|((address, slice), control)| MMsgHdr::new_with_addr(address, slice, control))
            .collect();
        socket.try_io(Interest::WRITABLE, || Ok(sendmmsg(socket, &mut headers, SendFlags::DONTWAIT)?))
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::io;
    use std::net::SocketAddr;

    use bytes::Bytes;
    use smallvec::SmallVec;
    use tokio::net::UdpSocket;

    use super::BATCH;

    pub(super) const PER_CALL: usize = 1;

    pub(super) fn receive(
        socket: &UdpSocket,
        _: SocketAddr,
        buffer: &mut [u8],
        met: &mut SmallVec<[(usize, SocketAddr); BATCH]>,
    ) -> io::Result<()> {
        met.push(socket.try_recv_from(buffer)?);
        Ok(())
    }

    pub(super) fn send(socket: &UdpSocket, batch: &[(SocketAddr, &Bytes)]) -> io::Result<usize> {
        let Some((remote, bytes)) = batch.first() else { return Ok(0) };
        socket.try_send_to(bytes, *remote).map(|_| 1)
    }
}

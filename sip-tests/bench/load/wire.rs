//! The sockets of the phones: datagrams or connections. What is sent waits for [`Wire::flush`] and goes with few system calls, what came is read
//! the same way: the tool shall cost less than the server it measures. One thread has one wire.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use clap::ValueEnum;
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg};
use rustix::event::epoll;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};

/// What SIP is spoken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// Connections that stay.
    Tcp,
}

impl Transport {
    /// As in Via.
    pub fn token(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
        }
    }

    /// What a SIP URI says beside the address.
    pub fn parameter(self) -> &'static str {
        match self {
            Transport::Udp => "",
            Transport::Tcp => ";transport=tcp",
        }
    }

    /// Sockets if nobody said a number.
    pub fn usual_sockets(self) -> u32 {
        match self {
            Transport::Udp => 1,
            Transport::Tcp => 32,
        }
    }
}

/// All sockets of one thread, each connected to the server.
pub struct Wire {
    /// What they speak.
    pub transport: Transport,
    /// The server, as it calls itself in its Record-Route.
    pub server: String,
    lines: Vec<Line>,
    epoll: OwnedFd,
    /// Lines on which something may wait.
    ready: VecDeque<u32>,
    /// Lines that have something to send.
    full: Vec<u32>,
}

/// One socket.
struct Line {
    socket: Socket,
    /// Its address, as phones write it.
    own: String,
    /// Messages to send, one after the other.
    out: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
    /// The beginning of a message whose end has not come.
    begun: Vec<u8>,
}

enum Socket {
    Datagrams(UdpSocket),
    Connection(TcpStream),
}

/// What one look at a socket found.
pub struct Inbox {
    bytes: Vec<u8>,
    line: u32,
    met: Vec<(usize, usize)>,
}

impl Inbox {
    /// An empty one.
    pub fn new() -> Inbox {
        Inbox { bytes: vec![0; STRIDE * BATCH], line: 0, met: Vec::with_capacity(BATCH) }
    }

    /// The messages, in the order in which they came, and the line they came on.
    pub fn messages(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.met.iter().map(|(begin, end)| (self.line, &self.bytes[*begin..*end]))
    }
}

impl Wire {
    /// Opens that many sockets to the server.
    pub fn open(transport: Transport, server: SocketAddr, sockets: u32) -> Wire {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
        let lines: Vec<Line> = (0..sockets).map(|_| Line::open(transport, server)).collect();
        for (number, line) in (0..).zip(&lines) {
            let data = epoll::EventData::new_u64(number);
            epoll::add(&epoll, line.socket.fd(), data, epoll::EventFlags::IN).expect("watched");
        }
        Wire { transport, server: server.to_string(), lines, epoll, ready: VecDeque::new(), full: Vec::new() }
    }

    /// How many sockets there are.
    pub fn lines(&self) -> u32 {
        u32::try_from(self.lines.len()).unwrap_or(u32::MAX)
    }

    /// Where a message on this line is to be written, up to [`Wire::end`]; and the address of the line.
    pub fn begin(&mut self, line: u32) -> (&mut Vec<u8>, &str) {
        let Line { out, own, .. } = &mut self.lines[line as usize];
        (out, own)
    }

    /// The message is complete.
    pub fn end(&mut self, number: u32) {
        let line = &mut self.lines[number as usize];
        if line.ends.is_empty() {
            self.full.push(number);
        }
        line.ends.push(line.out.len());
    }

    /// Sends all that is complete. A datagram that the system does not take is lost; a connection keeps what it cannot take yet.
    pub fn flush(&mut self) {
        let lines = &mut self.lines;
        self.full.retain(|number| !lines[*number as usize].flush());
    }

    /// Sends what is complete and reads one of the sockets that have something. `false`: none had, for so long.
    pub fn receive(&mut self, inbox: &mut Inbox, wait: Duration) -> bool {
        inbox.met.clear();
        self.flush();
        if self.ready.is_empty() {
            self.watch(wait);
        }
        let Some(number) = self.ready.pop_front() else { return false };
        inbox.line = number;
        if self.lines[number as usize].read(inbox) {
            self.ready.push_back(number);
        }
        true
    }

    fn watch(&mut self, wait: Duration) {
        let mut events =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 64];
        let wait = if self.full.is_empty() { wait } else { wait.min(STALLED) };
        let wait = wait.try_into().expect("less than a minute");
        match epoll::wait(&self.epoll, &mut events, Some(&wait)) {
            Ok(met) => self.ready.extend(events[..met].iter().map(|event| { event.data }.u64() as u32)),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("the sockets cannot be watched: {error}"),
        }
    }
}

impl Line {
    fn open(transport: Transport, server: SocketAddr) -> Line {
        let socket = match transport {
            Transport::Udp => {
                let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
                let sized = socket2::SockRef::from(&socket);
                let _ = sized.set_recv_buffer_size(BUFFER).and_then(|()| sized.set_send_buffer_size(BUFFER));
                socket.connect(server).and_then(|()| socket.set_nonblocking(true)).expect("connected");
                Socket::Datagrams(socket)
            }
            Transport::Tcp => {
                let socket = TcpStream::connect(server).expect("a connection");
                socket.set_nodelay(true).and_then(|()| socket.set_nonblocking(true)).expect("a mode");
                Socket::Connection(socket)
            }
        };
        let own = match &socket {
            Socket::Datagrams(socket) => socket.local_addr(),
            Socket::Connection(socket) => socket.local_addr(),
        };
        let own = own.expect("bound").to_string();
        Line { socket, own, out: Vec::new(), ends: Vec::new(), begun: Vec::new() }
    }

    /// `true`: nothing is left.
    fn flush(&mut self) -> bool {
        let sent = match &mut self.socket {
            Socket::Datagrams(socket) => {
                send_all(socket, &self.out, &self.ends);
                self.out.len()
            }
            Socket::Connection(socket) => match socket.write(&self.out) {
                Ok(sent) => sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) => panic!("the server has closed a connection: {error}"),
            },
        };
        if sent < self.out.len() {
            self.out.drain(..sent);
            return false;
        }
        self.out.clear();
        self.ends.clear();
        true
    }

    /// `true`: there may be more.
    fn read(&mut self, inbox: &mut Inbox) -> bool {
        match &mut self.socket {
            Socket::Datagrams(socket) => {
                let mut buffers = inbox.bytes.chunks_exact_mut(STRIDE);
                let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
                    std::array::from_fn(|_| [IoSliceMut::new(buffers.next().unwrap_or_default())]);
                // Made for each call: the system writes lengths into them.
                let mut headers = MultiHeaders::<()>::preallocate(BATCH, None);
                match recvmmsg(
                    socket.as_raw_fd(),
                    &mut headers,
                    slices.iter_mut(),
                    MsgFlags::MSG_DONTWAIT,
                    None,
                ) {
                    Ok(met) => {
                        inbox.met.extend(met.zip(0..).map(|(one, at)| (at * STRIDE, at * STRIDE + one.bytes)))
                    }
                    Err(nix::errno::Errno::EAGAIN) => {}
                    Err(error) => panic!("the server is gone: {error}"),
                }
                inbox.met.len() == BATCH
            }
            Socket::Connection(socket) => {
                let room = inbox.bytes.len();
                // What was begun stands before what comes now.
                let begun = self.begun.len();
                inbox.bytes[..begun].copy_from_slice(&self.begun);
                let end = begun
                    + match socket.read(&mut inbox.bytes[begun..room.min(begun + STRIDE)]) {
                        Ok(0) => panic!("the server has closed a connection"),
                        Ok(length) => length,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                        Err(error) => panic!("the server is gone: {error}"),
                    };
                let mut at = 0;
                while let Some(length) = message_length(&inbox.bytes[at..end]) {
                    // Line ends between messages keep a connection alive (RFC 5626 3.5.1).
                    if inbox.bytes[at] != b'\r' {
                        inbox.met.push((at, at + length));
                    }
                    at += length;
                }
                self.begun.clear();
                self.begun.extend_from_slice(&inbox.bytes[at..end]);
                end == begun + STRIDE
            }
        }
    }
}

impl Socket {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Datagrams(socket) => socket.as_fd(),
            Socket::Connection(socket) => socket.as_fd(),
        }
    }
}

/// Sends datagrams; what the system does not take is lost.
fn send_all(socket: &UdpSocket, bytes: &[u8], ends: &[usize]) {
    if let [_] = ends {
        let _ = socket.send(bytes);
        return;
    }
    let mut begin = 0;
    for ends in ends.chunks(BATCH) {
        let mut slices = [[IoSlice::new(&[])]; BATCH];
        for (slice, end) in slices.iter_mut().zip(ends) {
            *slice = [IoSlice::new(&bytes[begin..*end])];
            begin = *end;
        }
        let mut controls: [SendAncillaryBuffer<'_, '_, '_>; BATCH] = Default::default();
        let mut headers: Vec<MMsgHdr<'_>> = slices
            .iter()
            .zip(&mut controls)
            .take(ends.len())
            .map(|(slice, control)| MMsgHdr::new(slice, control))
            .collect();
        let mut sent = 0;
        while sent < headers.len() {
            // The system stops at one that it refuses; that one is lost.
            sent += sendmmsg(socket, &mut headers[sent..], SendFlags::DONTWAIT).unwrap_or(1).max(1);
        }
    }
}

/// The length of the first message (RFC 3261 18.3), or of a line end before it. `None`: it is not whole.
fn message_length(bytes: &[u8]) -> Option<usize> {
    if bytes.starts_with(b"\r\n") {
        return Some(2);
    }
    let head = head_length(bytes)?;
    let line = bytes[..head].rsplit(|byte| *byte == b'\n').find(|line| line.starts_with(b"Content-Length:"));
    let digits = line.expect("both servers say Content-Length")["Content-Length:".len()..].trim_ascii();
    let length: usize =
        std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).expect("a number");
    let whole = head + length;
    assert!(whole <= STRIDE, "a message of {whole} bytes");
    (bytes.len() >= whole).then_some(whole)
}

/// Up to and with the empty line.
fn head_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 3;
    // Of four bytes in a row at most one is looked at, unless it may belong to the end.
    while let Some(byte) = bytes.get(at) {
        at += match byte {
            b'\n' if bytes[..=at].ends_with(b"\r\n\r\n") => return Some(at + 1),
            b'\n' => 2,
            b'\r' => 1,
            _ => 4,
        };
    }
    None
}

/// Messages of one system call.
const BATCH: usize = 32;
/// Larger than any message in a measurement; beginnings share no lines of the processor's caches, as they would at a power of two.
const STRIDE: usize = 16_384 + 832;
const BUFFER: usize = 4 * 1024 * 1024;
/// How soon a connection that could not take all is tried again.
const STALLED: Duration = Duration::from_millis(1);

//! A phone's socket: UDP or TCP, IPv4 or IPv6, with deadlines.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::message::find;

/// How a phone reaches the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Transport {
    Udp,
    Tcp,
    Udp6,
    Tcp6,
}

impl Transport {
    pub fn is_udp(self) -> bool {
        matches!(self, Transport::Udp | Transport::Udp6)
    }

    /// As written in Via.
    pub fn token(self) -> &'static str {
        if self.is_udp() { "UDP" } else { "TCP" }
    }

    /// As written in a URI.
    pub fn parameter(self) -> &'static str {
        if self.is_udp() { "" } else { ";transport=tcp" }
    }
}

/// Whether this machine has an IPv6 loopback address; prints why a test does nothing if not.
pub fn has_ipv6() -> bool {
    let present = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !present {
        println!("SKIPPED: no IPv6 loopback on this machine");
    }
    present
}

pub enum Socket {
    Udp(UdpSocket, SocketAddr),
    Tcp(TcpStream, Vec<u8>),
}

impl Socket {
    pub fn connect(transport: Transport, server: SocketAddr) -> Socket {
        if transport.is_udp() {
            let host: IpAddr = match server {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            };
            Socket::Udp(UdpSocket::bind((host, 0)).expect("a UDP port"), server)
        } else {
            let stream =
                TcpStream::connect_timeout(&server, super::DEADLINE).expect("a connection to the server");
            stream.set_nodelay(true).expect("TCP_NODELAY");
            Socket::Tcp(stream, Vec::new())
        }
    }

    /// A UDP socket at an address of the test's choice. Somebody else may have the port on all addresses for a moment: a resolver with a question.
    pub fn at(local: SocketAddr, server: SocketAddr) -> Socket {
        let deadline = Instant::now() + super::DEADLINE;
        loop {
            match UdpSocket::bind(local) {
                Ok(socket) => return Socket::Udp(socket, server),
                Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                    std::thread::yield_now();
                }
                Err(error) => panic!("{local}: {error}"),
            }
        }
    }

    /// The next connection that is made to us.
    pub fn accepted(listener: &TcpListener) -> Option<Socket> {
        let listener = listener.try_clone().expect("a listener");
        let (sender, accepted) = std::sync::mpsc::sync_channel(1);
        // Nothing but a connection ends the wait of that thread; the deadline is ours.
        std::thread::spawn(move || sender.try_send(listener.accept()));
        let (stream, _) = accepted.recv_timeout(super::DEADLINE).ok()?.expect("a connection");
        Some(Socket::Tcp(stream, Vec::new()))
    }

    pub fn local(&self) -> SocketAddr {
        match self {
            Socket::Udp(socket, _) => socket.local_addr(),
            Socket::Tcp(stream, _) => stream.local_addr(),
        }
        .expect("a local address")
    }

    pub fn send(&mut self, bytes: &[u8]) {
        match self {
            Socket::Udp(socket, server) => {
                socket.send_to(bytes, *server).expect("send a datagram");
            }
            // The server may close at any time; whoever expected an answer will miss it and say so.
            Socket::Tcp(stream, _) => drop(stream.write_all(bytes)),
        }
    }

    /// The next message, or `None` at the deadline or when the peer closed.
    pub fn receive(&mut self, deadline: Instant) -> Option<Vec<u8>> {
        match self {
            Socket::Udp(socket, _) => {
                let mut buffer = vec![0; 65_535];
                loop {
                    socket.set_read_timeout(Some(remaining(deadline)?)).expect("a timeout");
                    match socket.recv_from(&mut buffer) {
                        Ok((length, _)) if buffer[..length].iter().all(|b| b"\r\n".contains(b)) => {}
                        Ok((length, _)) => return Some(buffer[..length].to_vec()),
                        Err(error) if is_timeout(&error) => return None,
                        // An ICMP error of an earlier datagram, while the server is away.
                        Err(_) => {}
                    }
                }
            }
            Socket::Tcp(stream, pending) => loop {
                if let Some(message) = take_framed(pending) {
                    return Some(message);
                }
                stream.set_read_timeout(Some(remaining(deadline)?)).expect("a timeout");
                let mut buffer = [0; 16_384];
                match stream.read(&mut buffer) {
                    Ok(0) => return None,
                    Ok(length) => pending.extend_from_slice(&buffer[..length]),
                    // A process that was stopped and goes on is told so here (signal(7)).
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => return None,
                }
            },
        }
    }

    /// Whether the peer closes the connection before the deadline, whatever it sends until then.
    pub fn is_closed_before(&mut self, deadline: Instant) -> bool {
        let Socket::Tcp(stream, pending) = self else { return false };
        let mut buffer = [0; 16_384];
        while let Some(left) = remaining(deadline) {
            stream.set_read_timeout(Some(left)).expect("a timeout");
            match stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(length) => pending.extend_from_slice(&buffer[..length]),
                Err(error) if is_timeout(&error) => return false,
                Err(_) => return true,
            }
        }
        false
    }
}

fn take_framed(pending: &mut Vec<u8>) -> Option<Vec<u8>> {
    let skip = pending.iter().take_while(|byte| b"\r\n".contains(byte)).count();
    pending.drain(..skip);
    let end = find(pending, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&pending[..end]).to_ascii_lowercase();
    let length: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:").or_else(|| line.strip_prefix("l:")))
        .unwrap_or_else(|| panic!("no Content-Length on a stream (RFC 3261 18.3):\n{head}"))
        .trim()
        .parse()
        .expect("Content-Length digits");
    (pending.len() >= end + length).then(|| pending.drain(..end + length).collect())
}

fn remaining(deadline: Instant) -> Option<Duration> {
    deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

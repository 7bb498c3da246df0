//! Binding: socket options, buffers, and the name under which a listener is known.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

use crate::model::Transport;
use crate::transport::{Listener, ListenerConfig, spread};

/// A listener's sockets.
#[derive(Debug)]
pub(super) enum Bound {
    /// At least one, all on one address, in the order of [`spread::place`].
    Udp(Vec<UdpSocket>),
    Tcp(TcpListener),
}

/// Binds one listener, one of datagrams with this many sockets where the system can share them out. `buffer_warned` is set once a warning
/// about small buffers has been written.
pub(super) fn bind(
    config: &ListenerConfig,
    sockets: usize,
    buffer_warned: &mut bool,
) -> io::Result<(Listener, Bound)> {
    let context = |error: io::Error| {
        io::Error::new(error.kind(), format!("bind {} {}: {error}", config.transport.param(), config.bind))
    };
    let (local, bound) = match config.transport {
        Transport::Udp => {
            let sockets = if spread::SHARES { sockets } else { 1 };
            let (local, sockets) = udp(config.bind, sockets, buffer_warned).map_err(context)?;
            (local, Bound::Udp(sockets))
        }
        Transport::Tcp => {
            let socket = tcp(config.bind).map_err(context)?;
            (socket.local_addr()?, Bound::Tcp(socket))
        }
    };
    let advertise = match &config.advertise {
        Some((host, port)) => Some((host_text(host), port.unwrap_or(local.port()))),
        None if local.ip().is_unspecified() => None,
        None => Some((ip_text(local.ip()), local.port())),
    };
    Ok((Listener { transport: config.transport, local, advertise }, bound))
}

/// An address as a host of SIP: IPv6 in brackets.
pub(super) fn ip_text(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// A configured host as a host of SIP: an IPv6 address gets its brackets, anything else is left alone.
fn host_text(host: &str) -> String {
    host.parse::<IpAddr>().map_or_else(|_| host.to_owned(), ip_text)
}

/// Sockets that share one address, and that address.
///
/// The first one is bound while it does not share (`SO_REUSEPORT`): an address that anybody has is refused, also one that another server
/// shares among its own sockets. From then on only sockets of the same user that ask to share it could join.
fn udp(
    address: SocketAddr,
    sockets: usize,
    buffer_warned: &mut bool,
) -> io::Result<(SocketAddr, Vec<UdpSocket>)> {
    let first = datagrams(address, buffer_warned)?;
    first.bind(&address.into())?;
    // With the port that the system chose, if it was to choose.
    let local = first.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let mut all = vec![first];
    if sockets > 1 {
        share(&mut all, local, sockets, buffer_warned)?;
    }
    let all = all.into_iter().map(|socket| UdpSocket::from_std(socket.into()));
    Ok((local, all.collect::<io::Result<_>>()?))
}

/// Lets others stand beside the first socket, and peers have their places among them.
#[cfg(unix)]
fn share(
    all: &mut Vec<Socket>,
    local: SocketAddr,
    sockets: usize,
    buffer_warned: &mut bool,
) -> io::Result<()> {
    all.iter().try_for_each(|first| first.set_reuse_port(true))?;
    while all.len() < sockets {
        let socket = datagrams(local, buffer_warned)?;
        socket.set_reuse_port(true)?;
        socket.bind(&local.into())?;
        all.push(socket);
    }
    if let Some(Err(error)) = all.last().map(|last| spread::attach(last, local, sockets)) {
        tracing::warn!(%error, "the system spreads datagrams by a rule of its own: fewer answers leave together");
    }
    Ok(())
}

#[cfg(not(unix))]
fn share(_: &mut Vec<Socket>, _: SocketAddr, _: usize, _: &mut bool) -> io::Result<()> {
    Ok(())
}

fn datagrams(address: SocketAddr, buffer_warned: &mut bool) -> io::Result<Socket> {
    let socket = open(address, Type::DGRAM, Protocol::UDP)?;
    let receive = grant(BUFFER, |n| socket.set_recv_buffer_size(n), || socket.recv_buffer_size());
    let send = grant(BUFFER, |n| socket.set_send_buffer_size(n), || socket.send_buffer_size());
    if (receive < BUFFER || send < BUFFER) && !*buffer_warned {
        *buffer_warned = true;
        tracing::warn!(
            wanted = BUFFER,
            receive,
            send,
            "the system grants smaller socket buffers: bursts of datagrams may be lost (net.core.rmem_max, net.core.wmem_max)"
        );
    }
    Ok(socket)
}

/// Buffers of connections are left to the system's own tuning: fixed ones would be inherited by every accepted connection, and
/// 50,000 peers that do not read would hold 4 MB each.
fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = open(address, Type::STREAM, Protocol::TCP)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn open(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // So that 0.0.0.0 and [::] can be bound side by side, and no IPv4-mapped address ever appears.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Asks for a buffer of this size and tells how much of it was granted.
fn grant(
    wanted: usize,
    set: impl FnOnce(usize) -> io::Result<()>,
    read: impl FnOnce() -> io::Result<usize>,
) -> usize {
    // Refused or not, what is read back counts.
    let _ = set(wanted);
    let granted = read().unwrap_or(0);
    // Linux reports twice the payload, for its own bookkeeping (socket(7)).
    if cfg!(target_os = "linux") { granted / 2 } else { granted }
}

/// Socket buffers of datagrams: 4 MB, a burst of some 5,000 requests.
const BUFFER: usize = 4 * 1024 * 1024;
/// Connections that wait to be accepted; the system may cap it (net.core.somaxconn).
const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::testing::within;

    fn config(transport: Transport, bind: &str) -> ListenerConfig {
        ListenerConfig { transport, bind: bind.parse().expect("address"), advertise: None }
    }

    #[tokio::test]
    async fn wildcards_of_both_families_are_bound_side_by_side_on_one_port() {
        let mut warned = false;
        for transport in [Transport::Udp, Transport::Tcp] {
            let (v4, _keep) = bind(&config(transport, "0.0.0.0:0"), 2, &mut warned).expect("v4");
            let v6 = config(transport, &format!("[::]:{}", v4.local.port()));
            let (v6, _keep_too) = bind(&v6, 2, &mut warned).expect("v6");
            assert_eq!(v4.local.port(), v6.local.port());
            assert_eq!((v4.advertise, v6.advertise), (None, None));
        }
    }

    #[tokio::test]
    async fn a_listener_advertises_its_configured_name_with_the_bound_port() {
        let mut warned = false;
        let mut named = config(Transport::Udp, "127.0.0.1:0");
        named.advertise = Some(("sip.example.org".to_owned(), None));
        let (listener, _keep) = bind(&named, 1, &mut warned).expect("bind");
        assert_eq!(listener.advertise, Some(("sip.example.org".to_owned(), listener.local.port())));
        named.advertise = Some(("2001:db8::1".to_owned(), Some(5070)));
        let (listener, _keep) = bind(&named, 1, &mut warned).expect("bind");
        assert_eq!(listener.advertise, Some(("[2001:db8::1]".to_owned(), 5070)));
    }

    #[tokio::test]
    async fn an_address_in_use_is_named_in_the_error() {
        let mut warned = false;
        for (own, others) in [(1, 1), (1, 3), (3, 1), (3, 3)] {
            let (first, _keep) =
                bind(&config(Transport::Udp, "127.0.0.1:0"), own, &mut warned).expect("bind");
            let again = config(Transport::Udp, &first.local.to_string());
            let error = bind(&again, others, &mut warned).expect_err("in use");
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            assert!(error.to_string().contains(&first.local.to_string()));
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_comes_from_a_peer_is_read_at_its_place() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let mut warned = false;
            let (listener, bound) = bind(&config(Transport::Udp, address), 3, &mut warned).expect("bind");
            let Bound::Udp(sockets) = bound else { panic!("datagrams") };
            assert_eq!(sockets.len(), 3);
            for _ in 0..30 {
                let peer = UdpSocket::bind(address).await.expect("bound");
                peer.send_to(b"hello", listener.local).await.expect("sent");
                let at = spread::place(peer.local_addr().expect("address"), 3);
                let mut buffer = [0; 10];
                let (_, from) = within(sockets[at].recv_from(&mut buffer)).await.expect("received");
                assert_eq!(from, peer.local_addr().expect("address"));
            }
        }
    }
}

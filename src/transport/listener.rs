//! Binding: socket options, buffers, and the name under which a listener is known.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

use crate::model::Transport;
use crate::transport::{Listener, ListenerConfig};

/// A listener's socket.
#[derive(Debug)]
pub(super) enum Bound {
    Udp(UdpSocket),
    Tcp(TcpListener),
}

/// Binds one listener. `buffer_warned` is set once a warning about small buffers has been written.
pub(super) fn bind(config: &ListenerConfig, buffer_warned: &mut bool) -> io::Result<(Listener, Bound)> {
    let context = |error: io::Error| {
        io::Error::new(error.kind(), format!("bind {} {}: {error}", config.transport.param(), config.bind))
    };
    let (local, bound) = match config.transport {
        Transport::Udp => {
            let socket = udp(config.bind, buffer_warned).map_err(context)?;
            (socket.local_addr()?, Bound::Udp(socket))
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

fn udp(address: SocketAddr, buffer_warned: &mut bool) -> io::Result<UdpSocket> {
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
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
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

    fn config(transport: Transport, bind: &str) -> ListenerConfig {
        ListenerConfig { transport, bind: bind.parse().expect("address"), advertise: None }
    }

    #[tokio::test]
    async fn wildcards_of_both_families_are_bound_side_by_side_on_one_port() {
        let mut warned = false;
        for transport in [Transport::Udp, Transport::Tcp] {
            let (v4, _keep) = bind(&config(transport, "0.0.0.0:0"), &mut warned).expect("v4");
            let v6 = config(transport, &format!("[::]:{}", v4.local.port()));
            let (v6, _keep_too) = bind(&v6, &mut warned).expect("v6");
            assert_eq!(v4.local.port(), v6.local.port());
            assert_eq!((v4.advertise, v6.advertise), (None, None));
        }
    }

    #[tokio::test]
    async fn a_listener_advertises_its_configured_name_with_the_bound_port() {
        let mut warned = false;
        let mut named = config(Transport::Udp, "127.0.0.1:0");
        named.advertise = Some(("sip.example.org".to_owned(), None));
        let (listener, _keep) = bind(&named, &mut warned).expect("bind");
        assert_eq!(listener.advertise, Some(("sip.example.org".to_owned(), listener.local.port())));
        named.advertise = Some(("2001:db8::1".to_owned(), Some(5070)));
        let (listener, _keep) = bind(&named, &mut warned).expect("bind");
        assert_eq!(listener.advertise, Some(("[2001:db8::1]".to_owned(), 5070)));
    }

    #[tokio::test]
    async fn an_address_in_use_is_named_in_the_error() {
        let mut warned = false;
        let (first, _keep) = bind(&config(Transport::Udp, "127.0.0.1:0"), &mut warned).expect("bind");
        let error = bind(&config(Transport::Udp, &first.local.to_string()), &mut warned).expect_err("in use");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&first.local.to_string()));
    }
}

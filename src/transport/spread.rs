//! Which of a listener's datagram sockets a peer belongs to: what comes from one address and port is read by one socket, and what goes
//! there leaves by the same, so that its order is in one hand.
//!
//! Only who reads hangs on it, and how well answers are gathered: a system that spreads by a rule of its own is served as rightly.

use std::net::{IpAddr, SocketAddr};

/// The place of a peer's socket among `sockets` of them (at least one). The system is told to choose by the same rule; see [`system::attach`].
pub(super) fn place(remote: SocketAddr, sockets: usize) -> usize {
    let Ok(sockets) = u32::try_from(sockets) else { return 0 };
    if sockets < 2 {
        return 0;
    }
    let address = match remote.ip() {
        IpAddr::V4(ip) => ip.to_bits(),
        IpAddr::V6(ip) => {
            let bytes = ip.octets();
            let words = bytes
                .chunks_exact(4)
                .map(|word| word.iter().fold(0, |all, byte| all << 8 | u32::from(*byte)));
            words.fold(0, |all, word: u32| all ^ word)
        }
    };
    let mixed = (address ^ u32::from(remote.port())).wrapping_mul(MIX) >> HIGH;
    usize::try_from(mixed % sockets).unwrap_or(0)
}

pub(super) use system::attach;

/// 2^32 divided by the golden ratio: neighbouring ports are told apart in the high bits..
const MIX: u32 = 0x9E37_79B1;
/// ..which are taken.
const HIGH: u32 = 16;

#[cfg(target_os = "linux")]
mod system {
    use std::io;
    use std::net::SocketAddr;

    use nix::libc::{self, sock_filter, sock_fprog};
    use nix::sys::socket::{setsockopt, sockopt::AttachReusePortCbpf};
    use socket2::Socket;

    use super::{HIGH, MIX};

    /// Can several sockets share one address, so that each peer has its own one of them?
    pub(in crate::transport) const SHARES: bool = true;

    /// Tells the system to give each datagram to the socket at [`super::place`] of the group that `socket` is in, counted in the order in
    /// which they were bound (`SO_ATTACH_REUSEPORT_CBPF`, socket(7)).
    pub(in crate::transport) fn attach(socket: &Socket, local: SocketAddr, sockets: usize) -> io::Result<()> {
        let sockets = u32::try_from(sockets).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut program = program(local.is_ipv4(), sockets);
        let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        // The system copies the program before the call returns.
        let fprog = sock_fprog { len, filter: program.as_mut_ptr() };
        Ok(setsockopt(socket, AttachReusePortCbpf, &fprog)?)
    }

    /// Reads address and port of the source, mixes them as [`super::place`] does, and returns the place. An IP header with options has its
    /// port elsewhere: such a datagram is read at another place.
    fn program(is_ipv4: bool, sockets: u32) -> Vec<sock_filter> {
        let one = |code: u32, k: u32| sock_filter { code: u16::try_from(code).unwrap_or(0), jt: 0, jf: 0, k };
        // Offsets are from the IP header (RFC 791 3.1, RFC 8200 3).
        let header = libc::SKF_NET_OFF.cast_unsigned();
        let at = |offset: u32| header.wrapping_add(offset);
        let (port, words): (u32, &[u32]) = if is_ipv4 { (20, &[12]) } else { (40, &[8, 12, 16, 20]) };
        let mut program = vec![one(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, at(port))];
        for word in words {
            program.push(one(libc::BPF_MISC | libc::BPF_TAX, 0));
            program.push(one(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at(*word)));
            program.push(one(libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X, 0));
        }
        program.push(one(libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K, MIX));
        program.push(one(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, HIGH));
        program.push(one(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, sockets));
        program.push(one(libc::BPF_RET | libc::BPF_A, 0));
        program
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::io;
    use std::net::SocketAddr;

    use socket2::Socket;

    /// Elsewhere sockets that share an address do not share its datagrams: a listener has one.
    pub(in crate::transport) const SHARES: bool = false;

    pub(in crate::transport) fn attach(_: &Socket, _: SocketAddr, _: usize) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

pub(super) use system::SHARES;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_has_its_share_of_the_peers() {
        for address in ["192.0.2.7", "2001:db8::7"] {
            let ip: IpAddr = address.parse().expect("address");
            for sockets in [1, 2, 3, 8] {
                let mut peers = vec![0_usize; sockets];
                for port in 20_000..20_000 + 1_000 {
                    peers[place(SocketAddr::new(ip, port), sockets)] += 1;
                }
                let fair = 1_000 / sockets;
                assert!(
                    peers.iter().all(|peers| *peers > fair / 2 && *peers < fair * 2),
                    "{address} {peers:?}"
                );
            }
        }
    }

    #[test]
    fn a_peer_keeps_its_place() {
        let peer = SocketAddr::from(([192, 0, 2, 7], 5060));
        assert!((0..10).all(|_| place(peer, 4) == place(peer, 4)));
        assert_eq!(place(peer, 1), 0);
    }
}

//! The mark in our Record-Route: proves that we forwarded the dialog, and names the flows of both sides.
//!
//! A request inside a dialog carries it back in Route and needs no second challenge. The mark is a MAC over Call-ID, the caller's tag and
//! both flows under a key of the installation, so it survives a restart and fits no other dialog (`A20`, `A32`).

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::model::{Flow, Transport};

/// To which side of the dialog a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one who sent the request that formed the dialog.
    Caller,
    /// The one who answered it.
    Callee,
}

/// Makes and reads marks.
pub struct Marks {
    key: hmac::Key,
}

impl std::fmt::Debug for Marks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Marks").finish_non_exhaustive()
    }
}

impl Marks {
    /// `secret`: of the installation, from the store.
    pub fn new(secret: [u8; 32]) -> Marks {
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), b"hither record-route mark 1");
        Marks { key: hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()) }
    }

    /// The user part for our Record-Route URI.
    pub fn make(&self, call_id: &str, caller_tag: &str, caller: &Flow, callee: &Flow) -> String {
        let mut payload = Vec::with_capacity(96);
        put_flow(&mut payload, caller);
        put_flow(&mut payload, callee);
        let mac = self.mac(call_id, caller_tag, &payload);
        payload.extend_from_slice(&mac);
        let mut mark = String::with_capacity(128);
        mark.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(payload, &mut mark);
        mark
    }

    /// Reads a mark that came back in a request of this dialog: where the request goes, and to which side.
    pub fn read(&self, user: &str, call_id: &str, from_tag: &str, to_tag: &str) -> Option<(Side, Flow)> {
        let bytes = URL_SAFE_NO_PAD.decode(user.strip_prefix(PREFIX)?).ok()?;
        let (payload, mac) = bytes.split_at_checked(bytes.len().checked_sub(MAC)?)?;
        let is = |tag| {
            aws_lc_rs::constant_time::verify_slices_are_equal(&self.mac(call_id, tag, payload), mac).is_ok()
        };
        let side = if is(from_tag) {
            Side::Callee
        } else if is(to_tag) {
            Side::Caller
        } else {
            return None;
        };
        let (caller, rest) = take_flow(payload)?;
        let (callee, _) = take_flow(rest)?;
        Some((side, if side == Side::Callee { callee } else { caller }))
    }

    /// Does this user part look like a mark (whether true or not)?
    pub fn is_mark(user: &str) -> bool {
        user.starts_with(PREFIX)
    }

    fn mac(&self, call_id: &str, caller_tag: &str, payload: &[u8]) -> [u8; MAC] {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [call_id.as_bytes(), caller_tag.as_bytes(), payload] {
            context.update(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            context.update(part);
        }
        let mut mac = [0; MAC];
        mac.copy_from_slice(&context.sign().as_ref()[..MAC]);
        mac
    }
}

fn put_flow(out: &mut Vec<u8>, flow: &Flow) {
    out.push(flow.transport as u8);
    put_address(out, flow.local);
    put_address(out, flow.remote);
    out.extend_from_slice(&flow.connection.to_be_bytes());
}

fn put_address(out: &mut Vec<u8>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            out.extend_from_slice(&ip.octets());
        }
    }
    out.extend_from_slice(&address.port().to_be_bytes());
}

fn take_flow(bytes: &[u8]) -> Option<(Flow, &[u8])> {
    let (&transport, bytes) = bytes.split_first()?;
    let (local, bytes) = take_address(bytes)?;
    let (remote, bytes) = take_address(bytes)?;
    let (connection, bytes) = bytes.split_first_chunk::<8>()?;
    let transport = Transport::from_number(transport)?;
    Some((Flow { transport, local, remote, connection: u64::from_be_bytes(*connection) }, bytes))
}

fn take_address(bytes: &[u8]) -> Option<(SocketAddr, &[u8])> {
    let (&family, bytes) = bytes.split_first()?;
    let (ip, bytes) = match family {
        4 => bytes.split_first_chunk::<4>().map(|(ip, rest)| (IpAddr::from(*ip), rest))?,
        6 => bytes.split_first_chunk::<16>().map(|(ip, rest)| (IpAddr::from(*ip), rest))?,
        _ => return None,
    };
    let (port, bytes) = bytes.split_first_chunk::<2>()?;
    Some((SocketAddr::new(ip, u16::from_be_bytes(*port)), bytes))
}

const PREFIX: &str = "h1-";
const MAC: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(port: u16, connection: u64) -> Flow {
        Flow {
            transport: if connection == 0 { Transport::Udp } else { Transport::Tcp },
            local: SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 5060)),
            remote: SocketAddr::from(([192, 0, 2, 1], port)),
            connection,
        }
    }

    #[test]
    fn a_mark_leads_each_side_to_the_other() {
        let marks = Marks::new([7; 32]);
        let mark = marks.make("call@a", "caller-tag", &flow(1, 0), &flow(2, 99));
        assert!(Marks::is_mark(&mark));
        assert_eq!(marks.read(&mark, "call@a", "caller-tag", "x"), Some((Side::Callee, flow(2, 99))));
        assert_eq!(marks.read(&mark, "call@a", "x", "caller-tag"), Some((Side::Caller, flow(1, 0))));
    }

    #[test]
    fn a_mark_fits_no_other_dialog_and_cannot_be_bent_a32() {
        let marks = Marks::new([7; 32]);
        let mark = marks.make("call@a", "caller-tag", &flow(1, 0), &flow(2, 99));
        assert_eq!(marks.read(&mark, "call@b", "caller-tag", "x"), None);
        assert_eq!(marks.read(&mark, "call@a", "other", "x"), None);
        assert_eq!(Marks::new([8; 32]).read(&mark, "call@a", "caller-tag", "x"), None);
        for at in PREFIX.len()..mark.len() {
            let mut bent = mark.clone().into_bytes();
            bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
            let bent = String::from_utf8(bent).unwrap();
            assert_eq!(marks.read(&bent, "call@a", "caller-tag", "x"), None, "byte {at}");
        }
        assert_eq!(marks.read("h1-", "call@a", "caller-tag", "x"), None);
    }
}

//! `Via` (RFC 3261 20.42, RFC 3581).

use std::net::{IpAddr, SocketAddr};
use std::str::Utf8Error;

use crate::sip::host::{Host, port_number};
use crate::sip::lexer;
use crate::sip::params::{Grammar, Noted, Param, keep};
use crate::sip::writer::{push_address, push_number};
use crate::sip::{HostPort, Params, ParseError};

/// One Via element.
#[derive(Debug, Clone, Copy)]
pub struct Via<'a> {
    /// Transport token as written ("UDP").
    pub transport: &'a str,
    /// `sent-by`.
    pub sent_by: HostPort<'a>,
    /// Parameters.
    pub params: Params<'a>,
    pub(super) text: &'a str,
    pub(super) branch: Option<&'a str>,
    pub(super) received: Option<Param<'a>>,
    pub(super) rport: Option<Param<'a>>,
}

impl<'a> Via<'a> {
    /// The sent-by and the branch of one that begins `SIP/2.0/UDP host:port;branch=`, as those begin that we write.
    pub fn sent_by_and_branch(text: &'a str) -> Option<(HostPort<'a>, &'a str)> {
        let (sent_by, params) = text.split_once(' ')?.1.split_once(';')?;
        let branch = params.strip_prefix("branch=")?.split(';').next()?;
        Some((HostPort::parse(sent_by)?, branch))
    }

    /// Reads one element.
    pub fn parse(text: &'a [u8]) -> Result<Via<'a>, ParseError> {
        std::str::from_utf8(text).map_err(not_text).and_then(Via::read)
    }

    /// Reads one element from text.
    pub(super) fn read(text: &'a str) -> Result<Via<'a>, ParseError> {
        let text = lexer::trim_blank(text);
        let offset = |rest: &str| text.len() - rest.len();
        let bad = |rest: &str| ParseError::bad("Malformed Via", offset(rest));
        let rest = match text.strip_prefix("SIP/2.0/") {
            Some(rest) => lexer::trim_blank_start(rest),
            None => after_version(text).ok_or_else(|| bad(text))?,
        };
        let (transport, rest) = token(rest).ok_or_else(|| bad(rest))?;
        if !rest.as_bytes().first().is_some_and(|&b| lexer::is_blank(b)) {
            return Err(bad(rest));
        }
        let rest = lexer::trim_blank_start(rest);
        let end = lexer::find(rest.as_bytes(), b';').unwrap_or(rest.len());
        let (sent_by, params) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let sent_by = host_port(sent_by).ok_or_else(|| bad(rest))?;
        let (mut branch, mut received, mut rport) = (None, None, None);
        let params = Params::parse_noting(params, Grammar::Header, |param| {
            let is = |known: &str| param.name.eq_ignore_ascii_case(known);
            match param.name.len() {
                6 if is("branch") => keep(&mut branch, param),
                8 if is("received") => keep(&mut received, param),
                5 if is("rport") => keep(&mut rport, param),
                _ => Noted::Unknown,
            }
        })?;
        let branch = branch.map(|param| param.unquoted());
        Ok(Via { transport, sent_by, params, text, branch, received, rport })
    }

    /// As written.
    pub fn as_str(&self) -> &'a str {
        self.text
    }

    /// The branch parameter.
    pub fn branch(&self) -> Option<&'a str> {
        self.branch
    }

    /// The branch if it has the magic cookie `z9hG4bK` and something after it (17.2.3, RFC 4475 3.2.1).
    pub fn rfc3261_branch(&self) -> Option<&'a str> {
        self.branch().filter(|branch| {
            let (cookie, rest) = branch.split_at_checked(7).unwrap_or_default();
            cookie.eq_ignore_ascii_case("z9hG4bK") && !rest.is_empty()
        })
    }

    /// `received`, with or without brackets.
    pub fn received(&self) -> Option<IpAddr> {
        let text = self.received?.unquoted();
        text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text).parse().ok()
    }

    /// `rport`: `None` absent, `Some(None)` without value, `Some(Some(port))`.
    pub fn rport(&self) -> Option<Option<u16>> {
        self.rport.map(|param| port_number(param.unquoted()))
    }
}

/// What is owed for one that is no text.
pub(super) fn not_text(e: Utf8Error) -> ParseError {
    ParseError::bad("Malformed Via", e.valid_up_to())
}

/// What the receiver adds to the topmost Via (RFC 3261 18.2.1, RFC 3581 4). Applied when the Via is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) source: SocketAddr,
    received: bool,
    rport: bool,
    /// See [`response_port`].
    pub(super) response_port: Option<u16>,
    /// Where in the element its parameters begin, and where those two stand that are written anew, in order: it is not read again for that.
    params: u32,
    anew: [(u32, u32); 2],
}

impl Stamp {
    /// `received` is due if `sent-by` is not numerically the source, if `rport` asks for it, and if the sender wrote one
    /// itself: a response must not go where he says.
    pub(super) fn new(via: Option<&Via<'_>>, source: SocketAddr) -> Stamp {
        let rport = via.is_some_and(|via| via.rport.is_some());
        let received = via.is_some_and(|via| {
            let sent_by = via.sent_by.host.ip().map(|ip| ip.to_canonical());
            rport || via.received.is_some() || sent_by != Some(source.ip().to_canonical())
        });
        let response_port = via.and_then(response_port);
        let mut stamp = Stamp { source, received, rport, response_port, params: 0, anew: [(0, 0); 2] };
        if let Some(via) = via {
            let narrow = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
            let head = via.text.len() - via.params.as_str().len();
            let place = |param: Option<Param<'_>>| {
                let whole = param.map_or("", |param| param.whole);
                let from = (whole.as_ptr() as usize).saturating_sub(via.text.as_ptr() as usize);
                if whole.is_empty() {
                    (narrow(head), narrow(head))
                } else {
                    (narrow(from), narrow(from + whole.len()))
                }
            };
            stamp.params = narrow(head);
            stamp.anew = [place(via.received), place(via.rport)];
            stamp.anew.sort_unstable();
        }
        stamp
    }

    /// Does it change the element at all? Not one that could not be read.
    pub(super) fn changes(&self) -> bool {
        self.received || self.rport
    }

    /// Writes the element that it was made of with the stamp in it; one that could not be read is written as it came.
    pub(super) fn write(&self, element: &[u8], out: &mut Vec<u8>) {
        if !self.changes() {
            return out.extend_from_slice(element);
        }
        let [first, second] = self.anew;
        for (from, to) in
            [(0, self.params), (self.params, first.0), (first.1, second.0), (second.1, u32::MAX)]
        {
            let to = element.len().min(to as usize);
            out.extend_from_slice(lexer::trim_end(element.get(from as usize..to).unwrap_or_default()));
        }
        out.extend_from_slice(b";received=");
        push_address(out, self.source.ip().to_canonical());
        if self.rport {
            out.extend_from_slice(b";rport=");
            push_number(out, self.source.port().into());
        }
    }
}

/// The port that the sender listens on for responses to datagrams (RFC 3261 18.2.2); `None` if `rport` says that it is the one he
/// sent from (RFC 3581 4).
pub(super) fn response_port(via: &Via<'_>) -> Option<u16> {
    if via.rport.is_some() { None } else { Some(via.sent_by.port.unwrap_or(5060)) }
}

const BLANK: [char; 2] = [' ', '\t'];

/// What follows `protocol-name SLASH protocol-version SLASH`, with white space around the slashes.
fn after_version(text: &str) -> Option<&str> {
    let (_, rest) = token(text)?;
    let (_, rest) = token(slash(rest)?)?;
    slash(rest)
}

fn token(text: &str) -> Option<(&str, &str)> {
    let end = lexer::run(text.as_bytes(), lexer::TOKEN);
    if end == 0 { None } else { text.split_at_checked(end) }
}

fn slash(text: &str) -> Option<&str> {
    Some(text.trim_start_matches(BLANK).strip_prefix('/')?.trim_start_matches(BLANK))
}

/// `host [COLON port]`, white space allowed around the colon.
fn host_port(text: &str) -> Option<HostPort<'_>> {
    let text = lexer::trim_blank(text);
    if let Some(found) = HostPort::parse(text) {
        return Some(found);
    }
    let (host, port) = text.rsplit_once(':')?;
    let host = Host::parse(host.trim_end_matches(BLANK))?;
    Some(HostPort { host, port: Some(port_number(port.trim_start_matches(BLANK))?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Via<'_> {
        Via::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    fn stamped(text: &str, source: &str) -> String {
        let mut out = Vec::new();
        Stamp::new(Via::parse(text.as_bytes()).ok().as_ref(), source.parse().unwrap())
            .write(text.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn white_space_stands_where_the_grammar_allows_it_rfc4475_3_1_1_1() {
        let via = parse("SIP  / 2.0  / TCP     spindle.example.com   ;   branch  =   z9hG4bK9ikj8");
        assert_eq!(via.transport, "TCP");
        assert_eq!(via.sent_by, HostPort { host: Host::Name("spindle.example.com"), port: None });
        assert_eq!(via.branch(), Some("z9hG4bK9ikj8"));
        assert_eq!(parse("SIP/2.0/ UDP h").transport, "UDP");
        assert_eq!(parse("SIP/2.0/UDP first.example.com: 4000;ttl=16").sent_by.port, Some(4000));
        assert_eq!(parse("SIP/2.0/UDP [2001:db8::9:1] : 6050").sent_by.port, Some(6050));
    }

    #[test]
    fn received_with_and_without_brackets_rfc5118_4_5() {
        let address: IpAddr = "2001:db8::9:255".parse().unwrap();
        assert_eq!(parse("SIP/2.0/UDP [2001:db8::9:1];received=2001:db8::9:255").received(), Some(address));
        assert_eq!(parse("SIP/2.0/UDP [2001:db8::9:1];received=[2001:db8::9:255]").received(), Some(address));
    }

    #[test]
    fn a_cookie_alone_is_no_branch_rfc4475_3_2_1() {
        assert_eq!(parse("SIP/2.0/UDP h;branch=z9hG4bK").rfc3261_branch(), None);
        assert_eq!(parse("SIP/2.0/UDP h;branch=390skdjuw").rfc3261_branch(), None);
        assert_eq!(parse("SIP/2.0/UDP h;branch=z9hG4bK1").rfc3261_branch(), Some("z9hG4bK1"));
    }

    #[test]
    fn rport_is_absent_empty_or_a_port_rfc3581() {
        assert_eq!(parse("SIP/2.0/UDP h").rport(), None);
        assert_eq!(parse("SIP/2.0/UDP h;rport").rport(), Some(None));
        assert_eq!(parse("SIP/2.0/UDP h;rport=5070").rport(), Some(Some(5070)));
    }

    #[test]
    fn malformed_vias_are_refused() {
        for bad in [
            "SIP/2.0/UDP 192.0.2.15;;",
            "SIP/2.0/UDP",
            "SIP/2.0 UDP h",
            "SIP/2.0/UDPh;x",
            "SIP/2.0/UDP h;branch=1;Branch=2",
            "SIP/2.0/UDP h h",
            "SIP/2.0/UDP 2001:db8::1",
            "",
        ] {
            assert!(Via::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn received_is_added_where_the_source_differs_rfc3261_18_2_1() {
        assert_eq!(
            stamped("SIP/2.0/UDP pc.example.com;branch=z9hG4bK1", "192.0.2.4:5060"),
            "SIP/2.0/UDP pc.example.com;branch=z9hG4bK1;received=192.0.2.4"
        );
        let same = "SIP/2.0/UDP 192.0.2.4:9999;branch=z9hG4bK1";
        assert_eq!(stamped(same, "192.0.2.4:5060"), same);
        assert_eq!(stamped(same, "[::ffff:192.0.2.4]:5060"), same);
        assert_eq!(
            stamped("SIP/2.0/UDP 192.0.2.4 ; branch=z9hG4bK1", "[2001:db8::1]:5060"),
            "SIP/2.0/UDP 192.0.2.4; branch=z9hG4bK1;received=2001:db8::1"
        );
    }

    #[test]
    fn rport_is_filled_and_received_always_added_rfc3581_4() {
        let expected = "SIP/2.0/UDP 192.0.2.4;branch=z9hG4bK1;received=192.0.2.4;rport=6000";
        assert_eq!(stamped("SIP/2.0/UDP 192.0.2.4;rport;branch=z9hG4bK1", "192.0.2.4:6000"), expected);
        assert_eq!(stamped("SIP/2.0/UDP 192.0.2.4;RPORT=1;branch=z9hG4bK1", "192.0.2.4:6000"), expected);
    }

    #[test]
    fn a_received_of_the_senders_own_is_overwritten() {
        assert_eq!(
            stamped("SIP/2.0/UDP 192.0.2.4;received=198.51.100.7", "192.0.2.4:5060"),
            "SIP/2.0/UDP 192.0.2.4;received=192.0.2.4"
        );
    }
}

//! Has this request been here before, with nothing changed (RFC 5393 4.2)? Pure.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use crate::sip::{HeaderName, Request};

/// Writes and reads the second part of the branches that this server puts into its Vias. It is keyed, so that nobody else can write one: where it
/// fits, the sent-by is ours.
#[derive(Debug, Default)]
pub struct Loops(RandomState);

impl Loops {
    /// The second part for the branches of this request (4.2.1): it varies with all that decides where the request goes, and with neither method
    /// nor hop.
    pub fn second_part(&self, request: &Request) -> SecondPart {
        SecondPart(self.fingerprint(request))
    }

    /// Has the request been forwarded here before, to be decided by the very same values (4.2.2)? Then it is 482. Where they differ it is a
    /// spiral, and goes on.
    pub fn is_loop(&self, request: &Request) -> bool {
        if request.elements(HeaderName::Via).nth(1).is_none() {
            return false;
        }
        let mut own = None;
        request.vias().filter_map(Result::ok).any(|via| {
            let second = via.branch().and_then(second_part);
            second.is_some_and(|second| second == *own.get_or_insert_with(|| self.fingerprint(request)))
        })
    }

    fn fingerprint(&self, request: &Request) -> u64 {
        let mut hasher = self.0.build_hasher();
        request.uri_bytes().hash(&mut hasher);
        for name in ROUTED_BY {
            request.elements(name).for_each(|element| (name, element).hash(&mut hasher));
        }
        hasher.finish()
    }
}

/// What the branches of a request end in.
#[derive(Debug, Clone, Copy)]
pub struct SecondPart(u64);

impl SecondPart {
    /// Puts it behind the first part.
    pub fn end(self, branch: &mut String) {
        let (mut digits, mut left) = ([0; DIGITS], self.0);
        for digit in digits.iter_mut().rev() {
            *digit = b"0123456789abcdef"[(left & 15) as usize];
            left >>= 4;
        }
        branch.push_str(MARK);
        branch.push_str(std::str::from_utf8(&digits).unwrap_or_default());
    }
}

fn second_part(branch: &str) -> Option<u64> {
    let at = branch.len().checked_sub(DIGITS + MARK.len())?;
    let digits = branch.get(at..)?.strip_prefix(MARK)?;
    u64::from_str_radix(digits, 16).ok()
}

/// Beside the Request-URI: what the routes and the choice of devices depend on (4.2.1; RFC 3841).
const ROUTED_BY: [HeaderName; 4] =
    [HeaderName::Route, HeaderName::AcceptContact, HeaderName::RejectContact, HeaderName::RequestDisposition];
const MARK: &str = "-";
const DIGITS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::{Limits, Message};

    fn request(method: &str, uri: &str, branches: &[&str], more: &str) -> Request {
        let vias: String = branches
            .iter()
            .map(|branch| format!("Via: SIP/2.0/UDP 192.0.2.1:5060;branch={branch}\r\n"))
            .collect();
        let text = format!(
            "{method} {uri} SIP/2.0\r\n{vias}From: <sip:a@x>;tag=1\r\nTo: <sip:b@x>\r\nCall-ID: c\r\nCSeq: 1 {method}\r\n\
             Max-Forwards: 10\r\n{more}Content-Length: 0\r\n\r\n"
        );
        match Message::parse(text.into(), true, &Limits::default()) {
            Ok(Message::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    fn branch(loops: &Loops, request: &Request) -> String {
        let mut branch = "z9hG4bK0123".to_owned();
        loops.second_part(request).end(&mut branch);
        branch
    }

    #[test]
    fn what_comes_back_unchanged_has_looped_rfc5393_4_2_2() {
        let loops = Loops::default();
        let first = request("INVITE", "sip:bob@example.org", &["z9hG4bKphone"], "");
        assert!(!loops.is_loop(&first));
        let ours = branch(&loops, &first);
        let back = request("INVITE", "sip:bob@example.org", &["z9hG4bKelse", &ours, "z9hG4bKphone"], "");
        assert!(loops.is_loop(&back));
    }

    #[test]
    fn what_comes_back_for_somebody_else_spirals_rfc5393_4_2_2() {
        let loops = Loops::default();
        let ours = branch(&loops, &request("INVITE", "sip:bob@example.org", &["z9hG4bKphone"], ""));
        let vias = ["z9hG4bKelse", ours.as_str()];
        assert!(!loops.is_loop(&request("INVITE", "sip:carol@example.org", &vias, "")));
        let routed = "Route: <sip:x@192.0.2.1;lr>\r\n";
        assert!(!loops.is_loop(&request("INVITE", "sip:bob@example.org", &vias, routed)));
        let choosy = "Reject-Contact: *;mobility=\"mobile\"\r\n";
        assert!(!loops.is_loop(&request("INVITE", "sip:bob@example.org", &vias, choosy)));
    }

    #[test]
    fn the_second_part_does_not_vary_with_the_method_rfc5393_4_2_1() {
        let loops = Loops::default();
        let part = |method| branch(&loops, &request(method, "sip:bob@example.org", &["z9hG4bK1"], ""));
        assert_eq!(part("INVITE"), part("CANCEL"));
    }

    #[test]
    fn branches_of_others_say_nothing() {
        let loops = Loops::default();
        let vias =
            ["z9hG4bK", "z9hG4bK-0123456789abcdef", "-", "é-0123456789abcdef", "z9hG4bK-x123456789abcdef"];
        assert!(!loops.is_loop(&request("INVITE", "sip:bob@example.org", &vias, "")));
        let other = branch(&Loops::default(), &request("INVITE", "sip:bob@example.org", &["z9hG4bK1"], ""));
        assert!(!loops.is_loop(&request("INVITE", "sip:bob@example.org", &[&other], "")));
    }
}

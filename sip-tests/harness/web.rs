//! A client of HTTP over a raw socket: it sends what it is told to, letter by letter.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::digest::Challenge;
use super::server::{Server, password_of};
use super::{DEADLINE, DOMAIN};

/// A response.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Reply {
    /// The first value of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// All values of that name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = move |(own, _): &&(String, String)| own.eq_ignore_ascii_case(name);
        self.headers.iter().filter(named).map(|(_, value)| value.as_str())
    }

    /// The entity-tag, which every success of XCAP has.
    pub fn tag(&self) -> String {
        self.header("ETag").unwrap_or_else(|| panic!("no ETag in {self:?}")).to_owned()
    }

    /// The condition that a 409 tells.
    pub fn condition(&self) -> &str {
        assert_eq!(
            (self.status, self.header("Content-Type")),
            (409, Some("application/xcap-error+xml")),
            "{self:?}"
        );
        let (_, inside) = self.body.split_once("xcap-error\">").expect("an error document");
        inside.trim_start_matches('<').split([' ', '/', '>']).next().unwrap_or_default()
    }
}

/// One user with one connection.
pub struct Web {
    address: SocketAddr,
    stream: Option<TcpStream>,
    user: String,
    password: String,
    challenge: Option<Challenge>,
}

impl Web {
    pub fn new(server: &Server, user: &str) -> Web {
        Web {
            address: server.http(),
            stream: None,
            user: user.to_owned(),
            password: password_of(user),
            challenge: None,
        }
    }

    /// With a password of the caller's choice.
    pub fn with_password(mut self, password: &str) -> Web {
        self.password = password.to_owned();
        self
    }

    /// One request, authenticated: answered again with credentials if it is challenged.
    pub fn ask(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        for _ in 0..2 {
            let mut rows: Vec<(&str, &str)> = headers.to_vec();
            let answer = self
                .challenge
                .as_mut()
                .map(|challenge| challenge.answer(&self.user, &self.password, method, target));
            if let Some(answer) = &answer {
                rows.push(("Authorization", answer));
            }
            let reply = self.ask_plainly(method, target, &rows, body);
            let is_final = reply.status != 401 || (answer.is_some() && !reply.headers.iter().any(is_stale));
            if reply.status == 401 {
                self.challenge = reply.all("WWW-Authenticate").find_map(Challenge::parse);
            }
            if is_final {
                return reply;
            }
        }
        panic!("challenged again: {method} {target}");
    }

    /// One request with these headers and no others than Host and Content-Length.
    pub fn ask_plainly(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: {DOMAIN}\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || method == "PUT" {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        let bytes = [request.as_bytes(), b"\r\n", body].concat();
        // A connection that was idle may have been closed by now.
        if self.stream.is_some()
            && let Some(reply) = self.exchange(&bytes, method)
        {
            return reply;
        }
        self.stream = None;
        self.exchange(&bytes, method).unwrap_or_else(|| panic!("no answer to {method} {target}"))
    }

    pub fn get(&mut self, target: &str) -> Reply {
        self.ask("GET", target, &[], b"")
    }

    pub fn delete(&mut self, target: &str) -> Reply {
        self.ask("DELETE", target, &[], b"")
    }

    pub fn put(&mut self, target: &str, media_type: &str, body: &str) -> Reply {
        self.ask("PUT", target, &[("Content-Type", media_type)], body.as_bytes())
    }

    /// The next credentials, without sending anything; there must have been a challenge.
    pub fn credentials(&mut self, method: &str, target: &str) -> String {
        let challenge = self.challenge.as_mut().expect("a challenge");
        challenge.answer(&self.user, &self.password, method, target)
    }

    fn exchange(&mut self, bytes: &[u8], method: &str) -> Option<Reply> {
        if self.stream.is_none() {
            self.stream = Some(connect(self.address));
        }
        let stream = self.stream.as_mut()?;
        stream.write_all(bytes).ok()?;
        let reply = read_reply(stream, method == "HEAD")?;
        if reply.header("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            self.stream = None;
        }
        Some(reply)
    }
}

/// A connection with the usual deadline.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, DEADLINE).expect("connect");
    stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    stream.set_nodelay(true).expect("nodelay");
    stream
}

/// Reads one response; `None` if the connection ends before it does.
///
/// - `bodiless`: the answer to a HEAD.
pub fn read_reply(stream: &mut impl Read, bodiless: bool) -> Option<Reply> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            Ok(_) | Err(_) => return None,
        }
    }
    let text = String::from_utf8(head).expect("a head of text");
    let mut lines = text.split("\r\n").filter(|line| !line.is_empty());
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .map(|line| {
            let (name, value) = line.split_once(':').expect("a header");
            (name.to_owned(), value.trim().to_owned())
        })
        .collect();
    let mut reply = Reply { status, headers, body: String::new() };
    let length = reply.header("Content-Length").map_or(0, |length| length.parse().expect("a length"));
    if !bodiless && status != 304 && length > 0 {
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        reply.body = String::from_utf8(body).expect("a body of text");
    }
    Some(reply)
}

fn is_stale(header: &(String, String)) -> bool {
    header.0.eq_ignore_ascii_case("WWW-Authenticate") && header.1.contains("stale=true")
}

/// A document of a user below the default root.
pub fn document(auid: &str, user: &str, name: &str) -> String {
    format!("/xcap-root/{auid}/users/sip:{user}@{DOMAIN}/{name}")
}

/// A part of a document: the selector is percent-encoded where a path needs it.
pub fn part(document: &str, selector: &str) -> String {
    let mut encoded = String::new();
    for c in selector.chars() {
        match c {
            '[' | ']' | '"' | ' ' | '<' | '>' | '%' => encoded.push_str(&format!("%{:02x}", u32::from(c))),
            c => encoded.push(c),
        }
    }
    format!("{document}/~~/{encoded}")
}

pub const LISTS: &str = "application/resource-lists+xml";
pub const RULES: &str = "application/auth-policy+xml";
pub const SERVICES: &str = "application/rls-services+xml";
pub const ELEMENT: &str = "application/xcap-el+xml";
pub const ATTRIBUTE: &str = "application/xcap-att+xml";

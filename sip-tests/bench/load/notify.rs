//! SUBSCRIBE, PUBLISH and NOTIFY: written from templates, read as far as needed.

use std::io::Write;

use crate::database::DOMAIN;
use crate::presence::Presence;

/// A NOTIFY as far as it concerns the loop.
pub struct Notify<'a> {
    /// From the Contact to which it was sent.
    pub subscription: u32,
    /// From its document: the number of the publication. `None`: no document, or none of ours.
    pub token: Option<u32>,
    message: &'a [u8],
}

impl Notify<'_> {
    /// `None` for anything else.
    pub fn read(message: &[u8]) -> Option<Notify<'_>> {
        let subscription = hex(message.strip_prefix(START)?)?;
        // The token stands near the end.
        let at = message.windows(TOKEN.len()).rposition(|text| text == TOKEN);
        let token = at.and_then(|at| hex(&message[at + TOKEN.len()..]));
        Some(Notify { subscription, token, message })
    }

    /// Is the subscription in this state?
    pub fn is(&self, state: &[u8]) -> bool {
        header(self.message, b"Subscription-State:").is_some_and(|value| value.starts_with(state))
    }
}

impl Presence {
    /// SUBSCRIBE that begins a dialog, or goes on in it if there is one.
    pub fn send_subscribe(&mut self, at: u32, branch: &str, expires: u32) {
        let Presence { wire, users, subscriptions, .. } = self;
        let one = &mut subscriptions[at as usize];
        let (line, transport) = (one.watcher % wire.lines(), wire.transport);
        let (token, parameter) = (transport.token(), transport.parameter());
        let (out, own) = wire.begin(line);
        let presentity = &users[one.presentity as usize].credentials.name;
        let (to, uri) = match &one.dialog {
            Some((to, target)) => (to.clone(), target.clone()),
            None => (format!("<sip:{presentity}@{DOMAIN}>"), format!("sip:{presentity}@{DOMAIN}")),
        };
        one.cseq += 1;
        let (cseq, process) = (one.cseq, std::process::id());
        let credentials = &mut users[one.watcher as usize].credentials;
        let name = &credentials.name;
        let _ = write!(
            out,
            "SUBSCRIBE {uri} SIP/2.0\r\nVia: SIP/2.0/{token} {own};branch={branch};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:{name}@{DOMAIN}>;tag=w{at:08x}\r\nTo: {to}\r\nCall-ID: w{at:08x}.{process:08x}@127.0.0.1\r\n\
             CSeq: {cseq} SUBSCRIBE\r\nContact: <sip:w{at:08x}@{own}{parameter}>\r\nEvent: presence\r\nAccept: application/pidf+xml\r\n\
             Expires: {expires}\r\nUser-Agent: Load 1.0\r\n"
        );
        credentials.write(out, "SUBSCRIBE", &uri);
        out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
        wire.end(line);
    }

    /// PUBLISH that begins a publication, or changes it if there is one.
    pub fn send_publish(&mut self, user: u32, branch: &str, token: u32) {
        let Presence { wire, users, .. } = self;
        let (line, transport) = (user % wire.lines(), wire.transport.token());
        let (out, own) = wire.begin(line);
        let user = &mut users[user as usize];
        user.cseq += 1;
        let (cseq, name, process) = (user.cseq, &user.credentials.name, std::process::id());
        let basic = if token.is_multiple_of(2) { "open" } else { "closed" };
        let uri = format!("sip:{name}@{DOMAIN}");
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" \
             xmlns:dm=\"urn:ietf:params:xml:ns:pidf:data-model\" xmlns:rpid=\"urn:ietf:params:xml:ns:pidf:rpid\" \
             entity=\"{uri}\"><tuple id=\"t1\"><status><basic>{basic}</basic></status><note>In the small room, load-{token:08x}\
             </note></tuple><dm:person id=\"p1\"><rpid:activities><rpid:meeting/></rpid:activities></dm:person></presence>\r\n"
        );
        let _ = write!(
            out,
            "PUBLISH {uri} SIP/2.0\r\nVia: SIP/2.0/{transport} {own};branch={branch};rport\r\nMax-Forwards: 70\r\n\
             From: <{uri}>;tag=p{name}\r\nTo: <{uri}>\r\nCall-ID: p{name}.{process:08x}@127.0.0.1\r\nCSeq: {cseq} PUBLISH\r\n\
             Event: presence\r\nExpires: 3600\r\nUser-Agent: Load 1.0\r\nContent-Type: application/pidf+xml\r\n"
        );
        if let Some(tag) = &user.tag {
            let _ = write!(out, "SIP-If-Match: {tag}\r\n");
        }
        user.credentials.write(out, "PUBLISH", &uri);
        let _ = write!(out, "Content-Length: {}\r\n\r\n{body}", body.len());
        wire.end(line);
    }

    /// 200 to a request inside a dialog.
    pub fn answer(&mut self, line: u32, request: &[u8]) {
        let (out, _) = self.wire.begin(line);
        out.extend_from_slice(b"SIP/2.0 200 OK\r\n");
        for row in request.split_inclusive(|byte| *byte == b'\n').skip(1).take_while(|row| *row != b"\r\n") {
            let kept: [&[u8]; 5] = [b"Via:", b"From:", b"To:", b"Call-ID:", b"CSeq:"];
            if kept.iter().any(|name| row.starts_with(name)) {
                out.extend_from_slice(row);
            }
        }
        out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
        self.wire.end(line);
    }
}

/// The value of a header, its name with the colon, as the servers write it.
pub fn header<'a>(message: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut lines = message.split(|byte| *byte == b'\n').take_while(|line| *line != b"\r");
    Some(lines.find_map(|line| line.strip_prefix(name))?.trim_ascii())
}

fn hex(text: &[u8]) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(text.get(..8)?).ok()?, 16).ok()
}

const START: &[u8] = b"NOTIFY sip:w";
const TOKEN: &[u8] = b"load-";

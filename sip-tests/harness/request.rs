//! Requests as plain text: every line can be changed, doubled or left out.

use super::message::Message;

/// A request being written. Header order is as added.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub uri: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether `Content-Length` is added when the bytes are made.
    pub with_length: bool,
}

impl Request {
    pub fn header(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Replaces every row of this name by one, in the place of the first.
    pub fn set(mut self, name: &str, value: &str) -> Request {
        self.put(name, value);
        self
    }

    pub fn without(mut self, name: &str) -> Request {
        self.headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        self
    }

    pub fn aimed_at(mut self, uri: &str) -> Request {
        self.uri = uri.into();
        self
    }

    pub fn body(self, content_type: &str, body: &[u8]) -> Request {
        let mut request = self.set("Content-Type", content_type);
        request.body = body.to_vec();
        request
    }

    /// Leaves `Content-Length` to the test.
    pub fn without_length(mut self) -> Request {
        self.with_length = false;
        self
    }

    pub fn get(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map_or("", |(_, v)| v.as_str())
    }

    pub fn put(&mut self, name: &str, value: &str) {
        match self.headers.iter().position(|(n, _)| n.eq_ignore_ascii_case(name)) {
            None => self.headers.push((name.into(), value.into())),
            Some(at) => {
                self.headers[at].1 = value.into();
                let mut index = 0;
                self.headers.retain(|(n, _)| {
                    index += 1;
                    index - 1 <= at || !n.eq_ignore_ascii_case(name)
                });
            }
        }
    }

    pub fn branch(&self) -> String {
        super::message::param(self.get("Via"), "branch").unwrap_or_default()
    }

    pub fn call_id(&self) -> &str {
        self.get("Call-ID")
    }

    pub fn cseq(&self) -> u32 {
        self.get("CSeq").split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{} {} SIP/2.0\r\n", self.method, self.uri);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.with_length {
            text.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// One side's view of a dialog (RFC 3261 section 12).
#[derive(Clone, Debug)]
pub struct Dialog {
    pub call_id: String,
    /// Our From value, with tag.
    pub local: String,
    /// Their To value, with tag.
    pub remote: String,
    /// Their Contact.
    pub target: String,
    pub route: Vec<String>,
}

impl Dialog {
    /// The caller's side, out of its request and the response that made the dialog (section 12.1.2).
    pub fn of_caller(request: &Request, response: &Message) -> Dialog {
        let mut route = response.list("Record-Route");
        route.reverse();
        Dialog {
            call_id: request.call_id().into(),
            local: request.get("From").into(),
            remote: response.need("To").into(),
            target: response.contact_uri(),
            route,
        }
    }

    /// The callee's side, out of the request and the To value it answered with (section 12.1.1).
    pub fn of_callee(request: &Message, answered_to: &str) -> Dialog {
        Dialog {
            call_id: request.call_id().into(),
            local: answered_to.into(),
            remote: request.need("From").into(),
            target: request.contact_uri(),
            route: request.list("Record-Route"),
        }
    }
}

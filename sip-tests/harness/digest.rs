//! The client's half of digest authentication (RFC 7616, RFC 8760), written apart from the server's.

use md5::{Digest, Md5};

/// A hash algorithm as challenges name it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    Md5,
    Sha256,
    Sha512_256,
}

impl Algorithm {
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
            Algorithm::Sha512_256 => "SHA-512-256",
        }
    }

    pub fn hex(self, text: &str) -> String {
        self.hex_of(text.as_bytes())
    }

    pub fn hex_of(self, text: &[u8]) -> String {
        use aws_lc_rs::digest::{SHA256, SHA512_256, digest};
        let bytes: Vec<u8> = match self {
            Algorithm::Md5 => Md5::digest(text).to_vec(),
            Algorithm::Sha256 => digest(&SHA256, text).as_ref().to_vec(),
            Algorithm::Sha512_256 => digest(&SHA512_256, text).as_ref().to_vec(),
        };
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// One challenge as received, and how often its nonce was used.
#[derive(Clone, Debug)]
pub struct Challenge {
    pub realm: String,
    pub nonce: String,
    pub algorithm: Algorithm,
    pub qop: bool,
    /// Answer with `auth-int` over this body.
    pub integrity: Option<Vec<u8>>,
    /// Answer with the `-sess` variant of the algorithm.
    pub session: bool,
    pub stale: bool,
    pub opaque: Option<String>,
    pub count: u32,
}

impl Challenge {
    /// Reads one `WWW-Authenticate` or `Proxy-Authenticate` row; `None` for an algorithm we do not know.
    pub fn parse(value: &str) -> Option<Challenge> {
        let algorithm = match parameter(value, "algorithm").as_deref() {
            None | Some("MD5") => Algorithm::Md5,
            Some("SHA-256") => Algorithm::Sha256,
            Some("SHA-512-256") => Algorithm::Sha512_256,
            Some(_) => return None,
        };
        Some(Challenge {
            realm: parameter(value, "realm")?,
            nonce: parameter(value, "nonce")?,
            algorithm,
            qop: parameter(value, "qop").is_some_and(|qop| qop.split(',').any(|q| q.trim() == "auth")),
            integrity: None,
            session: false,
            stale: parameter(value, "stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
            opaque: parameter(value, "opaque"),
            count: 0,
        })
    }

    /// The `Digest ..` credentials for the next use of this nonce.
    pub fn answer(&mut self, user: &str, password: &str, method: &str, uri: &str) -> String {
        self.count += 1;
        self.answer_with_count(user, password, method, uri, self.count)
    }

    /// Credentials with a nonce count of the caller's choice.
    pub fn answer_with_count(
        &self,
        user: &str,
        password: &str,
        method: &str,
        uri: &str,
        count: u32,
    ) -> String {
        let hash = |text: &str| self.algorithm.hex(text);
        let nonce = &self.nonce;
        let cnonce = "0a4f113b";
        let mut ha1 = hash(&format!("{user}:{}:{password}", self.realm));
        if self.session {
            ha1 = hash(&format!("{ha1}:{nonce}:{cnonce}"));
        }
        let (qop, ha2) = match &self.integrity {
            None => ("auth", hash(&format!("{method}:{uri}"))),
            Some(body) => ("auth-int", hash(&format!("{method}:{uri}:{}", self.algorithm.hex_of(body)))),
        };
        let mut value = format!(
            "Digest username=\"{user}\", realm=\"{}\", nonce=\"{nonce}\", uri=\"{uri}\", algorithm={}{}",
            self.realm,
            self.algorithm.name(),
            if self.session { "-sess" } else { "" }
        );
        let response = if self.qop {
            let nc = format!("{count:08x}");
            value.push_str(&format!(", qop={qop}, nc={nc}, cnonce=\"{cnonce}\""));
            hash(&format!("{ha1}:{nonce}:{nc}:{cnonce}:{qop}:{ha2}"))
        } else {
            hash(&format!("{ha1}:{nonce}:{ha2}"))
        };
        value.push_str(&format!(", response=\"{response}\""));
        if let Some(opaque) = &self.opaque {
            value.push_str(&format!(", opaque=\"{opaque}\""));
        }
        value
    }
}

/// The value of a digest parameter, quotes taken off.
pub fn parameter(value: &str, name: &str) -> Option<String> {
    let rest = value.trim().strip_prefix("Digest").unwrap_or(value);
    let mut parts = Vec::new();
    let (mut quoted, mut part) = (false, String::new());
    for c in rest.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => parts.push(std::mem::take(&mut part)),
            c => part.push(c),
        }
    }
    parts.push(part);
    parts.iter().find_map(|part| {
        let (key, value) = part.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::{Algorithm, Challenge};

    /// RFC 7616 section 3.9.1 gives both responses for one request.
    #[test]
    fn the_examples_of_rfc7616_come_out() {
        let row = "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm=SHA-256, \
                   nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"";
        let challenge = Challenge::parse(row).expect("a challenge");
        assert!(challenge.qop && challenge.algorithm == Algorithm::Sha256);
        let answer = challenge.answer_with_count("Mufasa", "Circle of Life", "GET", "/dir/index.html", 1);
        let cnonce = super::parameter(&answer, "cnonce").expect("cnonce");
        let ha1 = Algorithm::Sha256.hex("Mufasa:http-auth@example.org:Circle of Life");
        let ha2 = Algorithm::Sha256.hex("GET:/dir/index.html");
        let respond = |cnonce: &str| {
            Algorithm::Sha256.hex(&format!("{ha1}:{}:00000001:{cnonce}:auth:{ha2}", challenge.nonce))
        };
        assert_eq!(
            respond("f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"),
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
        );
        assert_eq!(super::parameter(&answer, "response"), Some(respond(&cnonce)));
    }
}

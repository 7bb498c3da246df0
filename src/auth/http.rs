//! Digest on HTTP requests (RFC 7616): the same accounts, nonces and lock-out as on SIP requests.

use std::net::IpAddr;

use crate::auth::{Auth, Claim, clients};
use crate::model::{Aor, Timestamp};
use crate::sip::digest::Credentials;

/// What authentication looks at.
#[derive(Debug, Clone)]
pub struct HttpRequest<'a> {
    /// `GET`
    pub method: &'a str,
    /// The request target as it came.
    pub target: &'a str,
    /// Values of Authorization, one per row.
    pub authorization: Vec<&'a [u8]>,
    /// User-Agent, if it is text.
    pub user_agent: Option<&'a str>,
}

/// What came of it.
#[derive(Debug)]
pub enum HttpAuthenticated {
    /// Right, and the nonce count is spent.
    As(Aor),
    /// 401 with these values of WWW-Authenticate, one per row.
    Challenge(Vec<String>),
}

impl Auth {
    /// Looks at the Digest credentials for our realm; those of other schemes, Basic among them, are as if there were none.
    ///
    /// The `uri` of the credentials must be the request target, letter by letter (RFC 7616 3.4.6): else an answer could be used elsewhere.
    /// `auth-int` is not offered: nobody's body is read before the password is right.
    ///
    /// - `source`, `salt`: as in [`Auth::authenticate`].
    pub fn authenticate_http(
        &self,
        request: &HttpRequest<'_>,
        source: IpAddr,
        now: Timestamp,
        salt: u64,
    ) -> HttpAuthenticated {
        let rows = request.authorization.iter().filter_map(|value| Credentials::parse(value).ok().flatten());
        let credentials = self.own(rows);
        let claim = credentials.map(|credentials| Claim {
            credentials,
            method: request.method,
            body: &[],
            integrity: false,
            uri_is_right: credentials.uri == request.target,
        });
        let stale = match self.judge(claim, source, now) {
            Ok(identity) if self.spend(&identity, now) => {
                return HttpAuthenticated::As(identity.aor().clone());
            }
            // Used before: a replay, or a request that was sent again.
            Ok(_) => true,
            Err(stale) => stale,
        };
        let offered = clients::algorithms(request.user_agent, &self.algorithms());
        HttpAuthenticated::Challenge(self.rows_with(false, &offered, source, now, salt, stale))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use super::*;
    use crate::auth::{Accounts, Policy};
    use crate::model::{Account, Ha1Set};
    use crate::sip::digest::Algorithm;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const NOW: Timestamp = Timestamp(1_000);

    fn auth() -> Auth {
        let algorithms = vec![Algorithm::Sha256, Algorithm::Md5];
        let policy = Policy {
            realm: "example.org".into(),
            nonce_lifetime_s: 300,
            algorithms,
            integrity: true,
            peers: Default::default(),
        };
        let accounts = Arc::new(Accounts::new(false));
        let aor = Aor::new("alice", "example.org").unwrap();
        let ha1 = Ha1Set::derive("alice", "example.org", "pw");
        accounts.put(Account { aor, realm: "example.org".into(), ha1, created_at: Timestamp(0) });
        Auth::new(policy, accounts, [7; 32])
    }

    fn ask(auth: &Auth, method: &str, target: &str, authorization: &[&str]) -> HttpAuthenticated {
        let authorization = authorization.iter().map(|value| value.as_bytes()).collect();
        let request = HttpRequest { method, target, authorization, user_agent: None };
        auth.authenticate_http(&request, HERE, NOW, 1)
    }

    fn is_stale(outcome: &HttpAuthenticated) -> bool {
        let HttpAuthenticated::Challenge(rows) = outcome else { panic!("{outcome:?}") };
        rows.iter().all(|row| row.contains("stale=true"))
    }

    fn credentials(auth: &Auth, method: &str, uri: &str, count: u32) -> String {
        let nonce = auth.nonces.make(HERE, NOW, 1);
        let algorithm = Algorithm::Sha256;
        let ha1 = algorithm.hash_hex(&[b"alice", b"example.org", b"pw"]);
        let ha2 = algorithm.hash_hex(&[method.as_bytes(), uri.as_bytes()]);
        let nc = format!("{count:08x}");
        let response =
            algorithm.hash_hex(&[&ha1, &nonce, &nc, "c", "auth", &ha2].map(|part: &str| part.as_bytes()));
        format!(
            "Digest username=\"alice\", realm=\"example.org\", nonce=\"{nonce}\", uri=\"{uri}\", algorithm=SHA-256, \
             qop=auth, nc={nc}, cnonce=\"c\", response=\"{response}\""
        )
    }

    #[test]
    fn the_strongest_is_offered_first_and_never_auth_int_rfc7616_3_7() {
        let HttpAuthenticated::Challenge(rows) = ask(&auth(), "GET", "/x", &[]) else { panic!("let in") };
        assert_eq!(rows.len(), 2);
        assert!(rows[0].contains("algorithm=SHA-256, qop=\"auth\"") && rows[1].contains("algorithm=MD5"));
    }

    #[test]
    fn a_count_is_good_once_rfc7616_3_3() {
        let auth = auth();
        let first = credentials(&auth, "GET", "/x", 1);
        let second = credentials(&auth, "GET", "/x", 2);
        assert!(matches!(ask(&auth, "GET", "/x", &[&first]), HttpAuthenticated::As(_)));
        assert!(is_stale(&ask(&auth, "GET", "/x", &[&first])));
        assert!(matches!(ask(&auth, "GET", "/x", &["Basic YQ==", &second]), HttpAuthenticated::As(_)));
    }

    #[test]
    fn the_uri_is_the_request_target_letter_by_letter_rfc7616_3_4_6() {
        let auth = auth();
        for (method, target) in [("GET", "/x?y"), ("GET", "/%78"), ("GET", "http://h/x"), ("PUT", "/x")] {
            let value = credentials(&auth, "GET", "/x", 1);
            assert!(!is_stale(&ask(&auth, method, target, &[&value])), "{method} {target}");
        }
        assert!(matches!(
            ask(&auth, "GET", "/x", &[&credentials(&auth, "GET", "/x", 1)]),
            HttpAuthenticated::As(_)
        ));
    }

    #[test]
    fn guessing_is_slowed_as_on_sip_a12() {
        let auth = auth();
        for count in 0..10 {
            let wrong = credentials(&auth, "GET", "/x", count).replace("cnonce=\"c\"", "cnonce=\"d\"");
            ask(&auth, "GET", "/x", &[&wrong]);
        }
        let right = credentials(&auth, "GET", "/x", 20);
        assert!(!is_stale(&ask(&auth, "GET", "/x", &[&right])), "not even looked at");
    }
}

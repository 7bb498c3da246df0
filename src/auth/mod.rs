//! Who sent this: digest, nonces, lock-out, and the MAC on what we write into Record-Route.
//!
//! Stateless until the credentials are right: a challenge keeps nothing.

pub mod accounts;
pub mod clients;
pub mod digest;
pub mod http;
pub mod lockout;
pub mod mark;
pub mod nonce;
pub mod notices;
pub mod peers;
pub mod proven;

use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;
use tracing::info;

use crate::auth::digest::{Offer, Verdict};
use crate::model::{Account, Aor, Flow, Timestamp};
use crate::sip::digest::{Algorithm, Credentials};
use crate::sip::{HeaderName, Method, Request};

pub use accounts::{Accounts, Known};
pub use mark::{Marks, Side};
pub use peers::{Peer, Peers};

/// How digest is done here.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The realm of challenges: the domain.
    pub realm: String,
    /// How long a nonce is good for, in seconds.
    pub nonce_lifetime_s: u32,
    /// Algorithms offered, strongest first (RFC 8760 2.3).
    pub algorithms: Vec<Algorithm>,
    /// Offer `auth-int` beside `auth`.
    pub integrity: bool,
    /// Who is believed without a password.
    pub peers: Peers,
}

/// Which header pair a role uses (RFC 3261 22.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// What we answer ourselves: 401, WWW-Authenticate, Authorization.
    Server,
    /// What we forward: 407, Proxy-Authenticate, Proxy-Authorization.
    Proxy,
}

impl Role {
    /// The header that carries credentials for it.
    pub fn credentials(self) -> HeaderName {
        match self {
            Role::Server => HeaderName::Authorization,
            Role::Proxy => HeaderName::ProxyAuthorization,
        }
    }
    /// The header that carries its challenges.
    pub fn challenge(self) -> HeaderName {
        match self {
            Role::Server => HeaderName::WwwAuthenticate,
            Role::Proxy => HeaderName::ProxyAuthenticate,
        }
    }
}

/// What came of looking at a request's credentials.
#[derive(Debug)]
pub enum Authenticated {
    /// Right. The nonce count must still be spent ([`Auth::spend`]) once the transaction exists.
    As(Identity),
    /// None, wrong or old: these challenge values are owed.
    Challenge(Vec<String>),
}

/// Who somebody is, and how we know.
#[derive(Debug)]
pub struct Identity {
    known: Arc<Known>,
    proof: Proof,
}

#[derive(Debug)]
enum Proof {
    /// The password, with this nonce.
    Digest(nonce::Proof),
    /// The word of a trusted peer.
    Asserted,
}

impl Identity {
    /// The user's address of record.
    pub fn aor(&self) -> &Aor {
        &self.known.account.aor
    }

    /// Is this the word of a trusted peer? No credentials then protect the request from being done twice.
    pub fn is_asserted(&self) -> bool {
        matches!(self.proof, Proof::Asserted)
    }
}

/// Credentials for our realm, and what they are for.
struct Claim<'a> {
    credentials: Credentials<'a>,
    method: &'a str,
    body: &'a [u8],
    /// `auth-int` was offered beside `auth`.
    integrity: bool,
    /// Their `uri` is what is asked for.
    uri_is_right: bool,
}

/// Accounts, nonces and failures.
#[derive(Debug)]
pub struct Auth {
    policy: Policy,
    accounts: Arc<Accounts>,
    nonces: nonce::Nonces,
    failures: lockout::Failures,
    notices: notices::Notices,
}

impl Auth {
    /// `run_key`: random, of this run alone: nonces of an earlier run are stale.
    pub fn new(policy: Policy, accounts: Arc<Accounts>, run_key: [u8; 32]) -> Auth {
        let nonces = nonce::Nonces::new(run_key, policy.nonce_lifetime_s);
        Auth {
            policy,
            accounts,
            nonces,
            failures: lockout::Failures::default(),
            notices: notices::Notices::default(),
        }
    }

    /// The accounts.
    pub fn accounts(&self) -> &Arc<Accounts> {
        &self.accounts
    }

    /// The trusted peers.
    pub fn peers(&self) -> &Peers {
        &self.policy.peers
    }

    /// The trusted peer at the other end of a flow.
    pub fn peer(&self, flow: &Flow) -> Option<&Peer> {
        self.policy.peers.at(flow)
    }

    /// Whom a trusted peer says that a request comes from (RFC 3325 5): a user of ours, of whom we need no password then. A request that brings
    /// credentials is judged by these, and a registration is never made on somebody's word (9.1: no REGISTER).
    ///
    /// - `aor`: the address of record that a URI means.
    pub fn asserted(
        &self,
        request: &Request,
        flow: &Flow,
        aor: impl FnOnce(&crate::sip::Uri<'_>) -> Option<Aor>,
    ) -> Option<Identity> {
        self.peer(flow).filter(|peer| peer.asserts)?;
        if *request.method() == Method::Register || has_credentials(request) {
            return None;
        }
        let known = self.accounts.find(&aor(&peers::asserted(request)?)?)?;
        Some(Identity { known, proof: Proof::Asserted })
    }

    /// Looks at the credentials for our realm. Nothing is kept unless they are wrong (then a failure is counted).
    ///
    /// - `source`: where the request came from; a nonce is good for one address.
    /// - `salt`: 64 fresh random bits for a new nonce.
    /// - `is_ours`: does this host name or address mean us?
    pub fn authenticate(
        &self,
        request: &Request,
        role: Role,
        source: IpAddr,
        now: Timestamp,
        salt: u64,
        is_ours: impl Fn(&crate::sip::Uri<'_>) -> bool,
    ) -> Authenticated {
        let credentials = self.own(request.credentials(role.credentials()).filter_map(Result::ok));
        let claim = credentials.map(|credentials| Claim {
            credentials,
            method: request.method().as_str(),
            body: request.body(),
            integrity: self.policy.integrity,
            uri_is_right: digest::names_same_resource(credentials.uri, request, &is_ours),
        });
        match self.judge(claim, source, now) {
            Ok(identity) => Authenticated::As(identity),
            Err(stale) => Authenticated::Challenge(self.challenges(request, source, now, salt, stale)),
        }
    }

    /// The credentials for our realm.
    fn own<'a>(&self, mut all: impl Iterator<Item = Credentials<'a>>) -> Option<Credentials<'a>> {
        all.find(|c| c.realm.eq_ignore_ascii_case(&self.policy.realm))
    }

    /// Are these credentials right? `Err`: a challenge is owed, with `stale` if only the nonce is not good.
    fn judge(&self, claim: Option<Claim<'_>>, source: IpAddr, now: Timestamp) -> Result<Identity, bool> {
        let Some(claim) = claim else { return Err(false) };
        let credentials = &claim.credentials;
        let aor = self.claimed(credentials);
        let bucket = aor.as_ref().map_or("", |aor| aor.as_str());
        let known = aor.as_ref().and_then(|aor| self.accounts.find(aor));
        let is_proven = known.as_ref().is_some_and(|known| known.proven.has(source));
        if !self.failures.may_try(bucket, source, is_proven, now) {
            return Err(false);
        }
        let account = known.as_ref().map(|known| &known.account);
        let offer = Offer { algorithms: &self.policy.algorithms, integrity: claim.integrity };
        match digest::check(credentials, claim.method, claim.body, account, offer) {
            Verdict::Right if claim.uri_is_right => {}
            Verdict::Right | Verdict::Wrong => {
                self.failures.failed(bucket, source, now);
                self.tell_of_failure(account, source, now);
                return Err(false);
            }
        }
        let known = known.ok_or(false)?;
        // A right answer to a nonce that is old, of an earlier run, or of another address is stale (RFC 7616 3.3).
        let proof = self.nonces.check(credentials, source, now).ok_or(true)?;
        self.failures.succeeded(bucket, source, now);
        known.proven.note(source);
        Ok(Identity { known, proof: Proof::Digest(proof) })
    }

    /// Spends the nonce count. `false`: it was used before (a replay); the request must get [`Auth::stale`].
    pub fn spend(&self, identity: &Identity, now: Timestamp) -> bool {
        match &identity.proof {
            Proof::Digest(proof) => self.nonces.spend(proof, now),
            Proof::Asserted => true,
        }
    }

    /// Challenge values with `stale=true`.
    pub fn stale(&self, request: &Request, source: IpAddr, now: Timestamp, salt: u64) -> Vec<String> {
        self.challenges(request, source, now, salt, true)
    }

    fn challenges(
        &self,
        request: &Request,
        source: IpAddr,
        now: Timestamp,
        salt: u64,
        stale: bool,
    ) -> Vec<String> {
        let offered = clients::algorithms(request.text(HeaderName::UserAgent), &self.algorithms());
        self.rows(&offered, source, now, salt, stale)
    }

    /// What is offered now. SHA-512/256 only if every account has a hash of it: which one has not is nobody's business (`A11`). Who answers
    /// with it all the same, because it was offered before, and has the hash, is let in.
    fn algorithms(&self) -> SmallVec<[Algorithm; 3]> {
        let configured = self.policy.algorithms.as_slice();
        let is_missing = configured.len() > 1
            && configured.contains(&Algorithm::Sha512_256)
            && !self.accounts.have_all_sha512_256();
        configured.iter().copied().filter(|a| !is_missing || *a != Algorithm::Sha512_256).collect()
    }

    /// RFC 7616 3.4: a failed log-in is logged, without what was typed: a password may stand where the name belongs.
    fn tell_of_failure(&self, account: Option<&Account>, source: IpAddr, now: Timestamp) {
        if let Some(left_out) = self.notices.due(now) {
            let aor = account.map_or("of nobody here", |account| account.aor.as_str());
            info!(%source, aor, left_out, "a log-in failed");
        }
    }

    fn rows(
        &self,
        offered: &[Algorithm],
        source: IpAddr,
        now: Timestamp,
        salt: u64,
        stale: bool,
    ) -> Vec<String> {
        self.rows_with(self.policy.integrity, offered, source, now, salt, stale)
    }

    fn rows_with(
        &self,
        integrity: bool,
        offered: &[Algorithm],
        source: IpAddr,
        now: Timestamp,
        salt: u64,
        stale: bool,
    ) -> Vec<String> {
        let nonce = self.nonces.make(source, now, salt);
        let realm = &self.policy.realm;
        let row = |algorithm: &Algorithm| {
            crate::sip::digest::challenge(realm, &nonce, *algorithm, integrity, stale)
        };
        offered.iter().map(row).collect()
    }

    /// The AoR that the username claims: `alice` or `alice@realm`.
    fn claimed(&self, credentials: &Credentials<'_>) -> Option<Aor> {
        let user = match credentials.username.rsplit_once('@') {
            Some((user, host)) if host.eq_ignore_ascii_case(&self.policy.realm) => user,
            Some(_) => return None,
            None => credentials.username,
        };
        Aor::new(user, &self.policy.realm)
    }
}

/// Does a request bring credentials, right or wrong?
pub fn has_credentials(request: &Request) -> bool {
    [HeaderName::Authorization, HeaderName::ProxyAuthorization]
        .into_iter()
        .any(|header| request.value(header).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Ha1Set;
    use crate::sip::{Limits, Message};

    fn register(authorization: &str) -> Request {
        let text = format!(
            "REGISTER sip:example.org SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
             From: <sip:alice@example.org>;tag=1\r\nTo: <sip:alice@example.org>\r\nCall-ID: c\r\nCSeq: 1 REGISTER\r\n\
             {authorization}Content-Length: 0\r\n\r\n"
        );
        match Message::parse(text.into_bytes().into(), false, &Limits::default()).unwrap() {
            Message::Request(request) => request,
            Message::Response(_) => panic!("a request"),
        }
    }

    fn account(user: &str) -> Account {
        let aor = Aor::new(user, "example.org").unwrap();
        let ha1 = Ha1Set::derive(user, "example.org", "pw");
        Account { aor, realm: "example.org".into(), ha1, created_at: Timestamp(0) }
    }

    fn auth(algorithms: &[Algorithm]) -> Auth {
        let policy = Policy {
            realm: "example.org".into(),
            nonce_lifetime_s: 300,
            algorithms: algorithms.to_vec(),
            integrity: false,
            peers: Peers::default(),
        };
        let accounts = Arc::new(Accounts::new(true));
        accounts.all_are_here();
        Auth::new(policy, accounts, [7; 32])
    }

    fn ask(auth: &Auth, request: &Request) -> Authenticated {
        auth.authenticate(request, Role::Server, SOURCE, Timestamp(1_000), 1, |_| true)
    }

    /// The algorithms of the challenge that is owed.
    fn offered(auth: &Auth, request: &Request) -> Vec<Algorithm> {
        let Authenticated::Challenge(rows) = ask(auth, request) else { panic!("not challenged") };
        let named = |row: &String| {
            Algorithm::ALL.into_iter().find(|a| row.contains(&format!("algorithm={},", a.as_str())))
        };
        rows.iter().filter_map(named).collect()
    }

    /// Right credentials of `pw`.
    fn credentials(auth: &Auth, user: &str, algorithm: Algorithm) -> Request {
        let nonce = auth.nonces.make(SOURCE, Timestamp(1_000), 1);
        let ha1 = algorithm.hash_hex(&[user.as_bytes(), b"example.org", b"pw"]);
        let ha2 = algorithm.hash_hex(&[b"REGISTER", b"sip:example.org"]);
        let parts = [&ha1, &nonce, "00000001", "c", "auth", &ha2].map(|part: &str| part.as_bytes());
        let response = algorithm.hash_hex(&parts);
        register(&format!(
            "Authorization: Digest username=\"{user}\", realm=\"example.org\", nonce=\"{nonce}\", uri=\"sip:example.org\", \
             algorithm={}, qop=auth, nc=00000001, cnonce=\"c\", response=\"{response}\"\r\n",
            algorithm.as_str()
        ))
    }

    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn sha512_256_is_offered_once_every_account_has_it_rfc8760_2_2() {
        let auth = auth(&Algorithm::ALL);
        auth.accounts().put(account("bob"));
        assert_eq!(offered(&auth, &register("")), Algorithm::ALL);
        let mut old = account("alice");
        old.ha1.sha512_256 = None;
        auth.accounts().put(old);
        assert_eq!(offered(&auth, &register("")), [Algorithm::Sha256, Algorithm::Md5]);
        // `A11`: no hash is like no user.
        for user in ["alice", "zelda"] {
            let request = credentials(&auth, user, Algorithm::Sha512_256);
            assert_eq!(offered(&auth, &request), [Algorithm::Sha256, Algorithm::Md5], "{user}");
        }
        assert!(matches!(
            ask(&auth, &credentials(&auth, "alice", Algorithm::Sha256)),
            Authenticated::As(identity) if identity.aor().user() == "alice"
        ));
        auth.accounts().put(account("alice"));
        assert_eq!(offered(&auth, &register("")), Algorithm::ALL);
        assert!(matches!(
            ask(&auth, &credentials(&auth, "alice", Algorithm::Sha512_256)),
            Authenticated::As(identity) if identity.aor().user() == "alice"
        ));
    }

    #[test]
    fn an_account_without_the_only_hash_offered_is_like_nobody_a11() {
        let auth = auth(&[Algorithm::Sha512_256]);
        let mut old = account("alice");
        old.ha1.sha512_256 = None;
        auth.accounts().put(old);
        for user in ["alice", "zelda"] {
            let request = credentials(&auth, user, Algorithm::Sha512_256);
            assert_eq!(offered(&auth, &request), [Algorithm::Sha512_256], "{user}");
        }
    }
}

//! Who sent this: digest, nonces, lock-out, and the MAC on what we write into Record-Route.
//!
//! Stateless until the credentials are right: a challenge keeps nothing.

pub mod accounts;
pub mod clients;
pub mod digest;
pub mod lockout;
pub mod mark;
pub mod nonce;

use std::net::IpAddr;
use std::sync::Arc;

use crate::auth::digest::Verdict;
use crate::model::{Account, Aor, Timestamp};
use crate::sip::digest::{Algorithm, Credentials};
use crate::sip::{HeaderName, Request};

pub use accounts::Accounts;
pub use mark::{Marks, Side};

/// How digest is done here.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The realm of challenges: the domain.
    pub realm: String,
    /// How long a nonce is good for, in seconds.
    pub nonce_lifetime_s: u32,
    /// Algorithms offered, strongest first (RFC 8760 2.3).
    pub algorithms: Vec<Algorithm>,
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

/// A proven identity and the nonce that proved it.
#[derive(Debug)]
pub struct Identity {
    /// Who.
    pub account: Arc<Account>,
    proof: nonce::Proof,
}

impl Identity {
    /// The user's address of record.
    pub fn aor(&self) -> &Aor {
        &self.account.aor
    }
}

/// Accounts, nonces and failures.
#[derive(Debug)]
pub struct Auth {
    policy: Policy,
    accounts: Arc<Accounts>,
    nonces: nonce::Nonces,
    failures: lockout::Failures,
}

impl Auth {
    /// `run_key`: random, of this run alone: nonces of an earlier run are stale.
    pub fn new(policy: Policy, accounts: Arc<Accounts>, run_key: [u8; 32]) -> Auth {
        let nonces = nonce::Nonces::new(run_key, policy.nonce_lifetime_s);
        Auth { policy, accounts, nonces, failures: lockout::Failures::default() }
    }

    /// The accounts.
    pub fn accounts(&self) -> &Arc<Accounts> {
        &self.accounts
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
        let credentials = request
            .credentials(role.credentials())
            .filter_map(Result::ok)
            .find(|c| c.realm.eq_ignore_ascii_case(&self.policy.realm));
        let offered = clients::algorithms(request.text(HeaderName::UserAgent), &self.policy.algorithms);
        let Some(credentials) = credentials else {
            return self.challenge(&offered, source, now, salt, false);
        };
        let aor = self.claimed(&credentials);
        let bucket = aor.as_ref().map_or("", |aor| aor.as_str());
        if !self.failures.may_try(bucket, source, now) {
            return self.challenge(&offered, source, now, salt, false);
        }
        let account = aor.as_ref().and_then(|aor| self.accounts.find(aor));
        let uri_is_right = digest::names_same_resource(credentials.uri, request, &is_ours);
        match digest::check(
            &credentials,
            request.method().as_str(),
            account.as_deref(),
            &self.policy.algorithms,
        ) {
            Verdict::Right if uri_is_right => {}
            Verdict::Right | Verdict::Wrong => {
                self.failures.failed(bucket, source, now);
                return self.challenge(&offered, source, now, salt, false);
            }
        }
        let Some(account) = account else { return self.challenge(&offered, source, now, salt, false) };
        match self.nonces.check(&credentials, source, now) {
            Some(proof) => {
                self.failures.succeeded(bucket, source, now);
                Authenticated::As(Identity { account, proof })
            }
            // A right answer to a nonce that is old, of an earlier run, or of another address (RFC 7616 3.3).
            None => self.challenge(&offered, source, now, salt, true),
        }
    }

    /// Spends the nonce count. `false`: it was used before (a replay); the request must get [`Auth::stale`].
    pub fn spend(&self, identity: &Identity, now: Timestamp) -> bool {
        self.nonces.spend(&identity.proof, now)
    }

    /// Challenge values with `stale=true`.
    pub fn stale(&self, request: &Request, source: IpAddr, now: Timestamp, salt: u64) -> Vec<String> {
        let offered = clients::algorithms(request.text(HeaderName::UserAgent), &self.policy.algorithms);
        let nonce = self.nonces.make(source, now, salt);
        offered.iter().map(|a| crate::sip::digest::challenge(&self.policy.realm, &nonce, *a, true)).collect()
    }

    fn challenge(
        &self,
        offered: &[Algorithm],
        source: IpAddr,
        now: Timestamp,
        salt: u64,
        stale: bool,
    ) -> Authenticated {
        let nonce = self.nonces.make(source, now, salt);
        let rows =
            offered.iter().map(|a| crate::sip::digest::challenge(&self.policy.realm, &nonce, *a, stale));
        Authenticated::Challenge(rows.collect())
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

//! Accounts: what `hither user` does, with or without a running server.

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use crate::api::control::{Reason, Request, Response};
use crate::model::{Account, Aor, Ha1Set, Timestamp};
use crate::store::{Fault, Store};

/// Why an account cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsersError {
    /// The name is not one.
    #[error("a user name is 1 to {MAX_NAME} letters, digits or any of {MARKS}")]
    Name,
    /// `user@another.domain`.
    #[error("users of this server are of domain {0}")]
    Domain(String),
    /// The password is not one.
    #[error("a password is 1 to {MAX_PASSWORD} bytes without control characters")]
    Password,
}

/// What happened to the accounts of the store: a running server does the same in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountChange {
    /// New, or with a new password.
    Put(Account),
    /// Gone, with everything of that user.
    Removed(Aor),
}

/// One line of `hither user list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserLine {
    /// `alice@example.org`
    pub aor: String,
    /// When it was made (RFC 3339).
    pub created_at: String,
}

/// The account of `user` (or `user@domain`) in `domain`, with hashes instead of the password.
///
/// # Errors
/// [`UsersError`] if name or password are not acceptable. Names are of the characters that need no escape in a SIP URI
/// (RFC 3261 25.1 `unreserved`, and `+` for numbers); their case is kept. A password is of any characters, in UTF-8 and composed (NFC), as
/// phones are told to send it (RFC 7616 4).
pub fn build(user: &str, domain: &str, password: &str, now: Timestamp) -> Result<Account, UsersError> {
    let aor = aor(user, domain)?;
    if password.is_empty() || password.len() > MAX_PASSWORD || password.chars().any(char::is_control) {
        return Err(UsersError::Password);
    }
    let password: String = password.nfc().collect();
    let ha1 = Ha1Set::derive(aor.user(), domain, &password);
    Ok(Account { aor, realm: domain.into(), ha1, created_at: now })
}

/// The address of record that `user` or `user@domain` names.
///
/// # Errors
/// `Name` or `Domain`.
pub fn aor(user: &str, domain: &str) -> Result<Aor, UsersError> {
    let user = match user.strip_prefix("sip:").unwrap_or(user).split_once('@') {
        Some((user, of)) if of.eq_ignore_ascii_case(domain) => user,
        Some(_) => return Err(UsersError::Domain(domain.into())),
        None => user,
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || MARKS.as_bytes().contains(&byte);
    if user.is_empty() || user.len() > MAX_NAME || !user.bytes().all(is_plain) {
        return Err(UsersError::Name);
    }
    Aor::new(user, domain).ok_or(UsersError::Name)
}

/// Does what a request about users asks, and tells `observer` after each change that the store has taken.
///
/// Requests must come one at a time (the control socket sees to that): "is it there" and "put it" are two steps. A
/// `status` request is not about users and is refused as `Invalid`: the server answers it itself.
pub async fn perform(
    store: &Store,
    domain: &str,
    request: &Request,
    now: Timestamp,
    observer: &(dyn Fn(AccountChange) + Send + Sync),
) -> Response {
    let done = match request {
        Request::UserAdd { user, password } => add(store, domain, user, &password.0, now, observer).await,
        Request::UserPasswd { user, password } => {
            passwd(store, domain, user, &password.0, now, observer).await
        }
        Request::UserRemove { user } => remove(store, domain, user, observer).await,
        Request::UserList {} => list(store).await,
        Request::Status {}
        | Request::Explain { .. }
        | Request::Trace { .. }
        | Request::MessageTrace { .. }
        | Request::Rules { .. }
        | Request::RulesPending { .. }
        | Request::RulesShow { .. }
        | Request::RulesSet { .. }
        | Request::RulesRemove { .. }
        | Request::RulesReplace { .. }
        | Request::Lists { .. }
        | Request::ListsAdd { .. }
        | Request::ListsRemove { .. } => Err(Refused(Reason::Invalid, "the server does not run".into())),
    };
    done.unwrap_or_else(|Refused(reason, text)| Response::Error { reason, text })
}

/// Makes the account what it should be, whether or not it is there: for the accounts of `hither --dev`.
///
/// # Errors
/// What was refused, as a sentence.
pub async fn ensure(
    store: &Store,
    domain: &str,
    user: &str,
    password: &str,
    now: Timestamp,
) -> Result<Account, String> {
    let account = build(user, domain, password, now).map_err(|error| error.to_string())?;
    let found = find(store, &account.aor).await.map_err(|Refused(_, text)| text)?;
    if let Some(there) = found.filter(|there| there.ha1 == account.ha1 && there.realm == account.realm) {
        return Ok(there);
    }
    store.put_account(&account).await.map_err(|fault| told(&fault))?;
    Ok(account)
}

/// A fault of the store with its cause, for the operator.
pub fn told(fault: &Fault) -> String {
    match std::error::Error::source(fault) {
        Some(source) => format!("{fault}: {source}"),
        None => fault.to_string(),
    }
}

async fn add(
    store: &Store,
    domain: &str,
    user: &str,
    password: &str,
    now: Timestamp,
    observer: &(dyn Fn(AccountChange) + Send + Sync),
) -> Result<Response, Refused> {
    let account = build(user, domain, password, now)?;
    let aor = account.aor.clone();
    if find(store, &aor).await?.is_some() {
        return Err(Refused(
            Reason::Exists,
            format!("{aor} is there already; `hither user passwd` sets a password"),
        ));
    }
    store.put_account(&account).await?;
    observer(AccountChange::Put(account));
    let has_upper = aor.user().bytes().any(|byte| byte.is_ascii_uppercase());
    let note =
        if has_upper { " (upper and lower case differ in SIP: phones must send it like this)" } else { "" };
    Ok(Response::Done { text: format!("{aor} added{note}") })
}

async fn passwd(
    store: &Store,
    domain: &str,
    user: &str,
    password: &str,
    now: Timestamp,
    observer: &(dyn Fn(AccountChange) + Send + Sync),
) -> Result<Response, Refused> {
    let fresh = build(user, domain, password, now)?;
    let Some(old) = find(store, &fresh.aor).await? else { return Err(nobody(&fresh.aor)) };
    let account = Account { created_at: old.created_at, ..fresh };
    store.put_account(&account).await?;
    let text = format!("{} has a new password", account.aor);
    observer(AccountChange::Put(account));
    Ok(Response::Done { text })
}

async fn remove(
    store: &Store,
    domain: &str,
    user: &str,
    observer: &(dyn Fn(AccountChange) + Send + Sync),
) -> Result<Response, Refused> {
    let aor = aor(user, domain)?;
    if !store.remove_account(&aor).await? {
        return Err(nobody(&aor));
    }
    let text = format!("{aor} removed, with its registrations, publications and subscriptions");
    observer(AccountChange::Removed(aor));
    Ok(Response::Done { text })
}

async fn list(store: &Store) -> Result<Response, Refused> {
    let mut accounts = store.accounts().await?;
    accounts.sort_by(|a, b| a.aor.cmp(&b.aor));
    let line = |account: Account| UserLine {
        aor: account.aor.as_str().into(),
        created_at: account.created_at.rfc3339(),
    };
    Ok(Response::Users { users: accounts.into_iter().map(line).collect() })
}

async fn find(store: &Store, aor: &Aor) -> Result<Option<Account>, Refused> {
    Ok(store.account(aor).await?)
}

fn nobody(aor: &Aor) -> Refused {
    Refused(Reason::NotFound, format!("there is no user {aor}"))
}

/// An error answer in the making.
struct Refused(Reason, String);

impl From<UsersError> for Refused {
    fn from(error: UsersError) -> Self {
        Refused(Reason::Invalid, error.to_string())
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Refused(Reason::Store, told(&fault))
    }
}

const MAX_NAME: usize = 64;
const MAX_PASSWORD: usize = 256;
const MARKS: &str = "-_.!~*'()+";

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::model::Redacted;
    use crate::store::Target;

    #[test]
    fn names_need_no_escape_in_a_uri_rfc3261_25_1() {
        for good in ["alice", "Alice.Smith", "+4930123456", "a-b_c!~*'()", &"a".repeat(64)] {
            assert_eq!(aor(good, "example.org").unwrap().user(), good);
        }
        for bad in ["", "a b", "a:b", "a/b", "ä", "a%40", "a\"b", "a\nb", &"a".repeat(65)] {
            assert_eq!(aor(bad, "example.org"), Err(UsersError::Name), "{bad:?}");
        }
    }

    #[test]
    fn the_own_domain_may_be_written_and_no_other() {
        assert_eq!(aor("alice@Example.org", "example.org").unwrap().as_str(), "alice@example.org");
        assert_eq!(aor("sip:alice@example.org", "example.org").unwrap().as_str(), "alice@example.org");
        let error = aor("alice@example.com", "example.org").unwrap_err();
        assert_eq!(error.to_string(), "users of this server are of domain example.org");
    }

    #[test]
    fn passwords_are_not_empty_and_printable() {
        for bad in ["", "a\nb", "a\0b", &"x".repeat(257)] {
            assert_eq!(build("alice", "example.org", bad, Timestamp(0)), Err(UsersError::Password));
        }
    }

    #[test]
    fn a_password_is_the_same_however_it_is_composed_rfc7616_4() {
        let with = |password| build("alice", "example.org", password, Timestamp(0)).unwrap();
        assert_eq!(with("p\u{e4}ssword"), with("pa\u{308}ssword"));
        assert_ne!(with("p\u{e4}ssword"), with("password"));
    }

    /// A store of its own, and what the observer was told.
    struct Bench {
        _dir: tempfile::TempDir,
        store: Store,
        told: Mutex<Vec<AccountChange>>,
    }

    impl Bench {
        async fn open() -> Bench {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(&Target::Sqlite(dir.path().join("users.sqlite"))).await.unwrap();
            Bench { _dir: dir, store, told: Mutex::new(Vec::new()) }
        }
        async fn ask(&self, request: Request, now: i64) -> Response {
            let observer = |change| self.told.lock().unwrap().push(change);
            perform(&self.store, "example.org", &request, Timestamp(now), &observer).await
        }
        async fn add(&self, user: &str) -> Response {
            self.ask(Request::UserAdd { user: user.into(), password: Redacted("pw".into()) }, 0).await
        }
    }

    fn reason(response: Response) -> Option<Reason> {
        match response {
            Response::Error { reason, .. } => Some(reason),
            Response::Done { .. }
            | Response::Users { .. }
            | Response::Status { .. }
            | Response::Explained { .. }
            | Response::Traced { .. }
            | Response::MessageTraced { .. } => None,
        }
    }

    #[tokio::test]
    async fn a_user_is_made_once() {
        let bench = Bench::open().await;
        assert_eq!(reason(bench.add("alice").await), None);
        assert_eq!(reason(bench.add("alice").await), Some(Reason::Exists));
        assert_eq!(reason(bench.add("al ice").await), Some(Reason::Invalid));
        let accounts = bench.store.accounts().await.unwrap();
        assert_eq!(accounts, [build("alice", "example.org", "pw", Timestamp(0)).unwrap()]);
        assert_eq!(*bench.told.lock().unwrap(), [AccountChange::Put(accounts[0].clone())]);
        bench.store.close().await;
    }

    #[tokio::test]
    async fn a_new_password_keeps_the_user() {
        let bench = Bench::open().await;
        let passwd = Request::UserPasswd { user: "alice".into(), password: Redacted("new".into()) };
        assert_eq!(reason(bench.ask(passwd.clone(), 5_000).await), Some(Reason::NotFound));
        bench.add("alice").await;
        assert_eq!(reason(bench.ask(passwd, 5_000).await), None);
        let expected = build("alice", "example.org", "new", Timestamp(0)).unwrap();
        assert_eq!(bench.store.accounts().await.unwrap(), std::slice::from_ref(&expected));
        assert_eq!(bench.told.lock().unwrap().last(), Some(&AccountChange::Put(expected)));
        bench.store.close().await;
    }

    #[tokio::test]
    async fn a_removed_user_is_gone() {
        let bench = Bench::open().await;
        bench.add("alice").await;
        let remove = Request::UserRemove { user: "alice".into() };
        assert_eq!(reason(bench.ask(remove.clone(), 0).await), None);
        assert_eq!(reason(bench.ask(remove, 0).await), Some(Reason::NotFound));
        assert!(bench.store.accounts().await.unwrap().is_empty());
        let gone = Aor::new("alice", "example.org").unwrap();
        assert_eq!(bench.told.lock().unwrap().last(), Some(&AccountChange::Removed(gone)));
        bench.store.close().await;
    }

    #[tokio::test]
    async fn users_are_listed_in_order() {
        let bench = Bench::open().await;
        for user in ["carol", "alice", "bob"] {
            bench.add(user).await;
        }
        let Response::Users { users } = bench.ask(Request::UserList {}, 0).await else { panic!("no list") };
        let aors: Vec<_> = users.iter().map(|user| user.aor.as_str()).collect();
        assert_eq!(aors, ["alice@example.org", "bob@example.org", "carol@example.org"]);
        assert_eq!(users[0].created_at, "1970-01-01T00:00:00Z");
        bench.store.close().await;
    }

    #[tokio::test]
    async fn ensured_accounts_are_made_once_and_follow_the_password() {
        let bench = Bench::open().await;
        let first = ensure(&bench.store, "example.org", "alice", "pw", Timestamp(1_000)).await.unwrap();
        let again = ensure(&bench.store, "example.org", "alice", "pw", Timestamp(2_000)).await.unwrap();
        assert_eq!((&first, first.created_at), (&again, Timestamp(1_000)));
        let other = ensure(&bench.store, "example.org", "alice", "new", Timestamp(3_000)).await.unwrap();
        assert_ne!(other.ha1, first.ha1);
        assert_eq!(bench.store.accounts().await.unwrap(), [other]);
        bench.store.close().await;
    }
}

//! Tables `account` and `installation`. Each text serves both databases.

use std::borrow::Cow;

use crate::model::account::Ha1;
use crate::model::{Account, Ha1Pair, Ha1Set};
use crate::store::value::{Columns, Value};

/// Name, for messages.
pub(in crate::store) const NAME: &str = "account";

/// The next accounts after $1, at most $2.
pub(in crate::store) const PAGE: &str = "SELECT aor, realm, ha1_md5, ha1_md5_at, ha1_sha256, ha1_sha256_at, created_at, \
     ha1_sha512_256, ha1_sha512_256_at, ha1_sha512_256_beside \
     FROM account WHERE aor > $1 ORDER BY aor LIMIT $2";

/// One of them.
pub(in crate::store) const ONE: &str = "SELECT aor, realm, ha1_md5, ha1_md5_at, ha1_sha256, ha1_sha256_at, created_at, \
     ha1_sha512_256, ha1_sha512_256_at, ha1_sha512_256_beside \
     FROM account WHERE aor = $1";

/// Insert or replace one.
pub(in crate::store) const PUT: &str = "INSERT INTO account (aor, realm, ha1_md5, ha1_md5_at, ha1_sha256, ha1_sha256_at, created_at, \
     ha1_sha512_256, ha1_sha512_256_at, ha1_sha512_256_beside) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
     ON CONFLICT (aor) DO UPDATE SET realm = EXCLUDED.realm, ha1_md5 = EXCLUDED.ha1_md5, \
     ha1_md5_at = EXCLUDED.ha1_md5_at, ha1_sha256 = EXCLUDED.ha1_sha256, ha1_sha256_at = EXCLUDED.ha1_sha256_at, \
     created_at = EXCLUDED.created_at, ha1_sha512_256 = EXCLUDED.ha1_sha512_256, \
     ha1_sha512_256_at = EXCLUDED.ha1_sha512_256_at, ha1_sha512_256_beside = EXCLUDED.ha1_sha512_256_beside";

/// Remove one: the account itself.
pub(in crate::store) const REMOVE: &str = "DELETE FROM account WHERE aor = $1";

/// Remove one: everything of that user, in its own home and in the homes of others.
pub(in crate::store) const PURGE: [&str; 8] = [
    "DELETE FROM binding WHERE aor = $1",
    "DELETE FROM publication WHERE aor = $1",
    "DELETE FROM subscription WHERE presentity = $1",
    "DELETE FROM document WHERE owner = $1",
    "DELETE FROM subscription WHERE watcher = $1",
    "DELETE FROM message WHERE recipient = $1",
    "DELETE FROM waiting WHERE presentity = $1",
    "DELETE FROM waiting WHERE watcher = $1",
];

/// Keep the first secret.
pub(in crate::store) const SECRET_PUT: &str =
    "INSERT INTO installation (one, secret) VALUES (1, $1) ON CONFLICT (one) DO NOTHING";

/// The secret that was kept.
pub(in crate::store) const SECRET: &str = "SELECT secret FROM installation WHERE one = 1";

/// All columns, in the order of the SQL above.
pub(in crate::store) fn values(account: &Account) -> Vec<Value<'_>> {
    let newest = account.ha1.sha512_256.as_ref();
    vec![
        (&account.aor).into(),
        account.realm.as_str().into(),
        account.ha1.md5.hex().into(),
        account.ha1.md5_at.hex().into(),
        account.ha1.sha256.hex().into(),
        account.ha1.sha256_at.hex().into(),
        account.created_at.into(),
        maybe(newest.map(|pair| pair.plain.hex())),
        maybe(newest.map(|pair| pair.at.hex())),
        maybe(newest.map(|_| account.ha1.sha256.hex())),
    ]
}

fn maybe(text: Option<String>) -> Value<'static> {
    Value::Text(text.map(Cow::Owned))
}

/// The same columns back.
pub(in crate::store) fn read(row: &impl Columns) -> Option<Account> {
    // Beside another SHA-256 it is of another password: an earlier release has set a new one since.
    let is_of_this_password = row.maybe_str(9)? == Some(row.str(4)?);
    let newest = match (row.maybe_str(7)?, row.maybe_str(8)?) {
        (Some(plain), Some(at)) if is_of_this_password => {
            Some(Box::new(Ha1Pair { plain: Ha1::from_hex(plain)?, at: Ha1::from_hex(at)? }))
        }
        (_, _) => None,
    };
    Some(Account {
        aor: row.aor(0)?,
        realm: row.text(1)?,
        ha1: Ha1Set {
            md5: Ha1::from_hex(row.str(2)?)?,
            md5_at: Ha1::from_hex(row.str(3)?)?,
            sha256: Ha1::from_hex(row.str(4)?)?,
            sha256_at: Ha1::from_hex(row.str(5)?)?,
            sha512_256: newest,
        },
        created_at: row.time(6)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Aor, Timestamp};

    /// A row as it would come back: text, or a number.
    struct Row<'a>(Vec<Value<'a>>);

    impl Columns for Row<'_> {
        fn str(&self, at: usize) -> Option<&str> {
            self.maybe_str(at)?
        }
        fn maybe_str(&self, at: usize) -> Option<Option<&str>> {
            match &self.0[at] {
                Value::Text(text) => Some(text.as_deref()),
                Value::Number(_) | Value::Bytes(_) => None,
            }
        }
        fn number(&self, at: usize) -> Option<i64> {
            self.maybe_number(at)?
        }
        fn maybe_number(&self, at: usize) -> Option<Option<i64>> {
            match &self.0[at] {
                Value::Number(number) => Some(*number),
                Value::Text(_) | Value::Bytes(_) => None,
            }
        }
        fn bytes(&self, _: usize) -> Option<&[u8]> {
            None
        }
    }

    #[test]
    fn the_newest_hash_of_a_password_that_is_no_more_is_not_believed() {
        let aor = Aor::new("alice", "example.org").unwrap();
        let with = |password| Account {
            aor: aor.clone(),
            realm: "example.org".into(),
            ha1: Ha1Set::derive("alice", "example.org", password),
            created_at: Timestamp(5),
        };
        let (old, new) = (with("old"), with("new"));
        assert_eq!(read(&Row(values(&old))).as_ref(), Some(&old));
        // What a release without the column leaves, and what one leaves that knows four hashes and sets a new password.
        let mut row = values(&old);
        row[7..].fill(Value::Text(None));
        let mut without = old.clone();
        without.ha1.sha512_256 = None;
        assert_eq!(read(&Row(row)).as_ref(), Some(&without));
        let mut row = values(&new);
        row[7..].clone_from_slice(&values(&old)[7..]);
        let read = read(&Row(row)).unwrap();
        assert_eq!((read.ha1.sha512_256, read.ha1.sha256), (None, new.ha1.sha256));
    }
}

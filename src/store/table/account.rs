//! Tables `account` and `installation`. Each text serves both databases.

use crate::model::account::Ha1;
use crate::model::{Account, Ha1Set};
use crate::store::value::{Columns, Value};

/// Name, for messages.
pub(in crate::store) const NAME: &str = "account";

/// The next accounts after $1, at most $2.
pub(in crate::store) const PAGE: &str = "SELECT aor, realm, ha1_md5, ha1_md5_at, ha1_sha256, ha1_sha256_at, created_at \
     FROM account WHERE aor > $1 ORDER BY aor LIMIT $2";

/// One of them.
pub(in crate::store) const ONE: &str = "SELECT aor, realm, ha1_md5, ha1_md5_at, ha1_sha256, ha1_sha256_at, created_at \
     FROM account WHERE aor = $1";

/// Insert or replace one.
pub(in crate::store) const PUT: &str = "INSERT INTO account (aor, realm, ha1_md5, ha1_md5_at, ha1_sha256, ha1_sha256_at, created_at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7) \
     ON CONFLICT (aor) DO UPDATE SET realm = EXCLUDED.realm, ha1_md5 = EXCLUDED.ha1_md5, \
     ha1_md5_at = EXCLUDED.ha1_md5_at, ha1_sha256 = EXCLUDED.ha1_sha256, ha1_sha256_at = EXCLUDED.ha1_sha256_at, \
     created_at = EXCLUDED.created_at";

/// Remove one: the account itself.
pub(in crate::store) const REMOVE: &str = "DELETE FROM account WHERE aor = $1";

/// Remove one: everything of that user, in its own home and in the homes of others.
pub(in crate::store) const PURGE: [&str; 4] = [
    "DELETE FROM binding WHERE aor = $1",
    "DELETE FROM publication WHERE aor = $1",
    "DELETE FROM subscription WHERE presentity = $1",
    "DELETE FROM subscription WHERE watcher = $1",
];

/// Keep the first secret.
pub(in crate::store) const SECRET_PUT: &str =
    "INSERT INTO installation (one, secret) VALUES (1, $1) ON CONFLICT (one) DO NOTHING";

/// The secret that was kept.
pub(in crate::store) const SECRET: &str = "SELECT secret FROM installation WHERE one = 1";

/// All columns, in the order of the SQL above.
pub(in crate::store) fn values(account: &Account) -> Vec<Value<'_>> {
    vec![
        (&account.aor).into(),
        account.realm.as_str().into(),
        account.ha1.md5.hex().into(),
        account.ha1.md5_at.hex().into(),
        account.ha1.sha256.hex().into(),
        account.ha1.sha256_at.hex().into(),
        account.created_at.into(),
    ]
}

/// The same columns back.
pub(in crate::store) fn read(row: &impl Columns) -> Option<Account> {
    Some(Account {
        aor: row.aor(0)?,
        realm: row.text(1)?,
        ha1: Ha1Set {
            md5: Ha1::from_hex(row.str(2)?)?,
            md5_at: Ha1::from_hex(row.str(3)?)?,
            sha256: Ha1::from_hex(row.str(4)?)?,
            sha256_at: Ha1::from_hex(row.str(5)?)?,
        },
        created_at: row.time(6)?,
    })
}

//! The schema, in steps. Forward only: a released file is never edited.

use std::borrow::Cow;

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// Version, what it is about, text. One text serves both databases: BIGINT, TEXT, BYTEA.
const STEPS: [(i64, &str, &str); 15] = [
    (1, "account", include_str!("../../migrations/0001_account.sql")),
    (2, "binding", include_str!("../../migrations/0002_binding.sql")),
    (3, "publication", include_str!("../../migrations/0003_publication.sql")),
    (4, "subscription", include_str!("../../migrations/0004_subscription.sql")),
    (5, "installation", include_str!("../../migrations/0005_installation.sql")),
    (6, "account_sha512_256", include_str!("../../migrations/0006_account_sha512_256.sql")),
    (7, "document", include_str!("../../migrations/0007_document.sql")),
    (10, "message", include_str!("../../migrations/0010_message.sql")),
    (11, "waiting", include_str!("../../migrations/0011_waiting.sql")),
    (12, "message_is_notification", include_str!("../../migrations/0012_message_is_notification.sql")),
    (14, "publication_publisher", include_str!("../../migrations/0014_publication_publisher.sql")),
    (16, "publication_renamed", include_str!("../../migrations/0016_publication_renamed.sql")),
    (17, "subscription_by_presentity", include_str!("../../migrations/0017_subscription_by_presentity.sql")),
    (18, "publication_by_aor", include_str!("../../migrations/0018_publication_by_aor.sql")),
    (19, "message_by_recipient", include_str!("../../migrations/0019_message_by_recipient.sql")),
];

/// All steps. Steps of a later release that are already applied are no error: a release may be taken back.
pub(super) fn migrator() -> Migrator {
    up_to(i64::MAX)
}

/// The steps up to this one: the schema of an earlier release.
pub(super) fn up_to(last: i64) -> Migrator {
    let steps = STEPS.into_iter().filter(|(version, ..)| *version <= last).map(|(version, about, text)| {
        Migration::new(version, Cow::Borrowed(about), MigrationType::Simple, text.into_sql_str(), false)
    });
    let mut migrator = Migrator::with_migrations(steps.collect());
    migrator.set_ignore_missing(true);
    migrator
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_migration_file_is_a_step_in_the_order_of_its_number() {
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap();
        let mut names: Vec<String> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        let steps: Vec<String> = STEPS.iter().map(|(n, about, _)| format!("{n:04}_{about}.sql")).collect();
        assert_eq!(names, steps);
    }
}

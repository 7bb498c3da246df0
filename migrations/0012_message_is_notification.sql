-- Which stored messages only tell what became of others (RFC 5438): nobody is told that they wait. None of those of a release before this one.
ALTER TABLE message ADD COLUMN is_notification BIGINT NOT NULL DEFAULT 0;

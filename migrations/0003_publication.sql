-- Event state set by PUBLISH. Identifiers and entity-tags are 16 bytes, the most significant first.
CREATE TABLE publication (
    id            BYTEA  NOT NULL PRIMARY KEY,
    aor           TEXT   NOT NULL,
    package       BIGINT NOT NULL,
    tag           BYTEA  NOT NULL,
    content_type  TEXT   NOT NULL,
    body          BYTEA  NOT NULL,
    created_at    BIGINT NOT NULL,
    modified_at   BIGINT NOT NULL,
    expires_at    BIGINT NOT NULL
);
-- All of one AoR, and the order in which everything is loaded.
CREATE UNIQUE INDEX publication_by_aor ON publication (aor, id);

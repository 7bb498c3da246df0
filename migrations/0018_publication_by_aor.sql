-- A publication is known by its home and its id, as a subscription is: one index instead of two.
CREATE TABLE new_publication (
    aor           TEXT   NOT NULL,
    id            BYTEA  NOT NULL,
    package       BIGINT NOT NULL,
    tag           BYTEA  NOT NULL,
    content_type  TEXT   NOT NULL,
    body          BYTEA  NOT NULL,
    created_at    BIGINT NOT NULL,
    modified_at   BIGINT NOT NULL,
    expires_at    BIGINT NOT NULL,
    call_id       TEXT   NOT NULL,
    source        TEXT   NOT NULL,
    instance      TEXT,
    turns         TEXT   NOT NULL,
    is_restamped  BIGINT NOT NULL,
    renamed       BIGINT NOT NULL,
    CONSTRAINT publication_key PRIMARY KEY (aor, id)
);
INSERT INTO new_publication (aor, id, package, tag, content_type, body, created_at, modified_at, expires_at, call_id, source, instance,
    turns, is_restamped, renamed)
SELECT aor, id, package, tag, content_type, body, created_at, modified_at, expires_at, call_id, source, instance, turns, is_restamped, renamed
FROM publication ORDER BY aor, id;
DROP TABLE publication;
ALTER TABLE new_publication RENAME TO publication;

-- What users keep on the server about themselves: presence rules, lists. Read as a whole at start, written one at a time. `path` is the
-- application's id and the name below the user's folder ("pres-rules/index"), so that one column is the key within a home.
CREATE TABLE document (
    owner         TEXT   NOT NULL,
    path          TEXT   NOT NULL,
    tag           BYTEA  NOT NULL,
    content_type  TEXT   NOT NULL,
    body          BYTEA  NOT NULL,
    modified_at   BIGINT NOT NULL,
    PRIMARY KEY (owner, path)
);

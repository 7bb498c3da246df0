-- Who may authenticate. Read as a whole at start, written one at a time: the primary key is the only question.
CREATE TABLE account (
    aor            TEXT   NOT NULL PRIMARY KEY,
    realm          TEXT   NOT NULL,
    ha1_md5        TEXT   NOT NULL,
    ha1_md5_at     TEXT   NOT NULL,
    ha1_sha256     TEXT   NOT NULL,
    ha1_sha256_at  TEXT   NOT NULL,
    created_at     BIGINT NOT NULL
);

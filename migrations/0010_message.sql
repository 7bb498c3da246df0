-- Messages that no device has taken yet. They live in the recipient's home and are deleted once they are delivered or have expired. The last
-- two columns are read only when one is delivered: header rows as they were sent, and the body byte for byte.
CREATE TABLE message (
    id          BYTEA  NOT NULL PRIMARY KEY,
    recipient   TEXT   NOT NULL,
    taken_at    BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    size        BIGINT NOT NULL,
    sender      TEXT   NOT NULL,
    call_id     TEXT   NOT NULL,
    head        BYTEA  NOT NULL,
    body        BYTEA  NOT NULL
);
-- All of one recipient, and the order in which everything is loaded.
CREATE UNIQUE INDEX message_by_recipient ON message (recipient, id);

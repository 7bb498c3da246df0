-- A stored message is known by its home and its id, as a subscription is: one index instead of two.
CREATE TABLE new_message (
    recipient        TEXT   NOT NULL,
    id               BYTEA  NOT NULL,
    taken_at         BIGINT NOT NULL,
    expires_at       BIGINT NOT NULL,
    size             BIGINT NOT NULL,
    is_notification  BIGINT NOT NULL,
    sender           TEXT   NOT NULL,
    call_id          TEXT   NOT NULL,
    head             BYTEA  NOT NULL,
    body             BYTEA  NOT NULL,
    CONSTRAINT message_key PRIMARY KEY (recipient, id)
);
INSERT INTO new_message (recipient, id, taken_at, expires_at, size, is_notification, sender, call_id, head, body)
SELECT recipient, id, taken_at, expires_at, size, is_notification, sender, call_id, head, body
FROM message ORDER BY recipient, id;
DROP TABLE message;
ALTER TABLE new_message RENAME TO message;

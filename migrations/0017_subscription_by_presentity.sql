-- A subscription is known by its home and its id: one index instead of three, so a row touches two pages instead of four. What one watcher has
-- anywhere is asked only when an account is removed, and then all rows are read. Copied in the order of the new key, which is a matter of
-- seconds for a million rows; the file keeps the room of the old table and fills it again.
CREATE TABLE new_subscription (
    presentity            TEXT   NOT NULL,
    id                    BYTEA  NOT NULL,
    watcher               TEXT   NOT NULL,
    package               BIGINT NOT NULL,
    event_id              TEXT,
    call_id               TEXT   NOT NULL,
    local_tag             TEXT   NOT NULL,
    remote_tag            TEXT   NOT NULL,
    local_address         TEXT   NOT NULL,
    remote_address        TEXT   NOT NULL,
    remote_target         TEXT   NOT NULL,
    route_set             TEXT   NOT NULL,
    flow_transport        BIGINT NOT NULL,
    flow_local            TEXT   NOT NULL,
    flow_remote           TEXT   NOT NULL,
    flow_connection       BIGINT NOT NULL,
    accept                TEXT   NOT NULL,
    remote_cseq           BIGINT NOT NULL,
    notify_cseq_reserved  BIGINT NOT NULL,
    created_at            BIGINT NOT NULL,
    expires_at            BIGINT NOT NULL,
    CONSTRAINT subscription_key PRIMARY KEY (presentity, id)
);
INSERT INTO new_subscription (presentity, id, watcher, package, event_id, call_id, local_tag, remote_tag, local_address,
    remote_address, remote_target, route_set, flow_transport, flow_local, flow_remote, flow_connection, accept, remote_cseq,
    notify_cseq_reserved, created_at, expires_at)
SELECT presentity, id, watcher, package, event_id, call_id, local_tag, remote_tag, local_address, remote_address, remote_target,
    route_set, flow_transport, flow_local, flow_remote, flow_connection, accept, remote_cseq, notify_cseq_reserved, created_at, expires_at
FROM subscription ORDER BY presentity, id;
DROP TABLE subscription;
ALTER TABLE new_subscription RENAME TO subscription;

-- Dialogs of watchers. They live in the presentity's home.
CREATE TABLE subscription (
    id                    BYTEA  NOT NULL PRIMARY KEY,
    presentity            TEXT   NOT NULL,
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
    expires_at            BIGINT NOT NULL
);
-- All of one presentity, and the order in which everything is loaded.
CREATE UNIQUE INDEX subscription_by_presentity ON subscription (presentity, id);
-- All that one watcher has anywhere: asked when an account is removed.
CREATE INDEX subscription_by_watcher ON subscription (watcher);

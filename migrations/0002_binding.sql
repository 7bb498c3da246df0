-- AoR -> Contact. The primary key answers "all of one AoR" and is the order in which everything is loaded.
CREATE TABLE binding (
    aor              TEXT   NOT NULL,
    key              TEXT   NOT NULL,
    contact          TEXT   NOT NULL,
    params           TEXT   NOT NULL,
    q                BIGINT NOT NULL,
    instance         TEXT,
    reg_id           BIGINT,
    path             TEXT   NOT NULL,
    call_id          TEXT   NOT NULL,
    cseq             BIGINT NOT NULL,
    flow_transport   BIGINT NOT NULL,
    flow_local       TEXT   NOT NULL,
    flow_remote      TEXT   NOT NULL,
    flow_connection  BIGINT NOT NULL,
    direct           BIGINT NOT NULL,
    user_agent       TEXT   NOT NULL,
    created_at       BIGINT NOT NULL,
    refreshed_at     BIGINT NOT NULL,
    expires_at       BIGINT NOT NULL,
    PRIMARY KEY (aor, key)
);

-- Watchers whose subscription has ended before its owner decided (RFC 3857 4.7.1: "waiting"). They live in the presentity's home, one of each
-- watcher, until the owner decides, the watcher subscribes again, or the time in the last column has come.
CREATE TABLE waiting (
    presentity     TEXT   NOT NULL,
    watcher        TEXT   NOT NULL,
    id             BYTEA  NOT NULL,
    subscribed_at  BIGINT NOT NULL,
    ended_at       BIGINT NOT NULL,
    gives_up_at    BIGINT NOT NULL,
    PRIMARY KEY (presentity, watcher)
);
-- All of one watcher: asked when an account is removed.
CREATE INDEX waiting_by_watcher ON waiting (watcher);

-- One row: the secret of this installation, from which MAC keys are derived. It outlives every run.
CREATE TABLE installation (
    one     BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    secret  BYTEA  NOT NULL
);

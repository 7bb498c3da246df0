//! Black-box scenarios: raw SIP over real sockets against the built `hither` binary, on SQLite and on Postgres.
//!
//! `harness` starts servers and scripted phones; `scenarios` holds one file per service; `foreign` drives other
//! people's SIP programs through a server. Nothing here uses the `hither` library: what the server says is read by
//! a parser of our own and by `rsip`, so that a mistake of the server's parser cannot hide itself.

#![expect(clippy::disallowed_methods, reason = "a test waits for real sockets and reads the real clock")]

#[macro_use]
mod harness;
mod foreign;
mod scenarios;

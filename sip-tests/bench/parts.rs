//! What the parts cost without sockets: transactions, a registration, a presence document, a commit.
//!
//! `cargo bench --bench parts`; one of them: `cargo bench --bench parts -- registration`

#[allow(dead_code, reason = "shared with the load tool")]
#[path = "load/cores.rs"]
mod cores;
#[allow(dead_code, reason = "shared with the load tool")]
#[path = "load/database.rs"]
mod database;
#[path = "parts/document.rs"]
mod document;
#[allow(dead_code, reason = "shared with the load tool")]
#[path = "load/process.rs"]
mod process;
#[path = "parts/registration.rs"]
mod registration;
#[path = "parts/transaction.rs"]
mod transaction;
#[allow(dead_code, reason = "shared with the load tool")]
#[path = "load/wire.rs"]
mod wire;
#[path = "parts/writer.rs"]
mod writer;

use criterion::{criterion_group, criterion_main};

criterion_group!(parts, transaction::bench, registration::bench, document::bench, writer::bench);
criterion_main!(parts);

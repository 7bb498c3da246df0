//! Transaction machines (RFC 3261 17 with RFC 6026 and RFC 4320), sans I/O: time is an argument.

pub mod client;
pub mod key;
pub mod server;
pub mod timers;

pub use client::{Client, ClientOutput};
pub use key::{ClientKey, ServerKey};
pub use server::{AckDisposition, Server, ServerOutput};

//! Transaction machines (RFC 3261 17 with RFC 6026 and RFC 4320), sans I/O: time is an argument.
//!
//! Four machines behind two types: [`Client`] and [`Server`], each for INVITE and for all other methods. The endpoint holds them in tables
//! under [`ClientKey`] and [`ServerKey`], feeds them by `handle_*`, and after every `handle_*` calls `poll_output` until it gives `None`:
//! a machine remembers *that* an output is owed, not how often, so two inputs without a poll between them may share one output.
//! No machine reads a clock, sends a byte or keeps a parsed message.

pub mod client;
pub mod key;
pub mod server;
pub mod timers;

#[cfg(test)]
mod pair;
#[cfg(test)]
mod testing;

pub use client::{Client, ClientOutput};
pub use key::{ClientKey, ServerKey};
pub use server::{AckDisposition, Server, ServerOutput};

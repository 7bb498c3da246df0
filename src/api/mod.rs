//! How operators reach the server: the control socket, and the functions behind the command line.
//!
//! The command line calls [`users::perform`] through the socket of a running server, or itself on the store when none runs. [`http`] is the listener for
//! what is spoken over HTTP.

pub mod control;
pub mod explain;
pub mod http;
pub mod lists;
pub mod message;
pub mod rules;
pub mod trace;
pub mod users;

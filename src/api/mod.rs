//! How operators reach the server: the control socket, and the functions behind the command line.
//!
//! The command line calls [`users::perform`] through the socket of a running server, or itself on the store when none runs.

pub mod control;
pub mod explain;
pub mod rules;
pub mod trace;
pub mod users;

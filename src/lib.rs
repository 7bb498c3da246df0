//! hither
pub mod api;
pub mod availability;
pub mod cli;
pub mod config;
pub mod model;
pub mod server;
pub mod sip;
pub mod store;
pub mod transaction;
pub mod transport;

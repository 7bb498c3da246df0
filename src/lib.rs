//! hither
pub mod auth;
pub mod availability;
pub mod endpoint;
pub mod home;
pub mod model;
pub mod proxy;
pub mod registrar;
pub mod sip;
pub mod store;
pub mod transaction;
pub mod transport;

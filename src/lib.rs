//! hither
pub mod availability;
pub mod endpoint;
pub mod home;
pub mod model;
pub mod presence;
pub mod sip;
pub mod store;
pub mod transaction;
pub mod transport;

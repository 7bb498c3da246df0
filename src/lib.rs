//! hither
pub mod model;
pub mod sip;

//! hither
pub mod sip;

//! Who is available, and who may know: pure functions over a home.

pub mod composition;
pub mod document;
pub mod view;

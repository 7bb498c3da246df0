//! Who is available, and who may know: pure functions over a home.
//!
//! [`composition`] makes one document of everything a presentity's devices said; [`view`] decides what of it a watcher gets.

mod attributes;
mod capabilities;
pub mod composition;
pub mod contact;
pub mod document;
pub mod documents;
#[cfg(test)]
pub(crate) mod fixtures;
mod person;
pub mod view;

//! Who is available, and who may know: pure functions over a home.
//!
//! [`composition`] makes one document of everything a presentity's devices said; [`view`] decides what of it a watcher gets: by the owner's
//! [`rules`], which may hang on the owner's [`mod@sphere`], and with a [`mod@filter`] for those who get a part.

mod attributes;
mod capabilities;
pub mod composition;
pub mod contact;
pub mod document;
pub mod documents;
pub mod filter;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod hard_state;
mod line;
pub mod named_lists;
pub mod named_rules;
#[cfg(test)]
mod oracle;
mod person;
pub mod rules;
pub mod sphere;
pub mod view;

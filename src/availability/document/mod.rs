//! XML documents, read defensively (`A07`) and written in one form. The only users of `quick-xml`.
//!
//! [`xml`] reads any document within limits; [`pidf`] gives it the meaning of RFC 3863 and 4479; [`mod@write`] writes it back.
//! [`xpidf`] and [`cpim_pidf`] write it for phones of before RFC 3863. [`mod@edit`] changes a document that is kept as text.
//! What is not understood travels as a [`xml::Fragment`]: its own bytes, and the namespaces they need.

pub(in crate::availability) mod alone;
pub mod cpim_pidf;
pub mod dialog_info;
pub mod edit;
mod lexis;
pub mod lists;
pub mod pidf;
pub mod reginfo;
pub mod rules;
pub(in crate::availability) mod values;
pub mod watcherinfo;
pub mod write;
pub mod xml;
pub mod xpidf;

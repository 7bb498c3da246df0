//! XML documents, read defensively (`A07`). The only users of `quick-xml`.

pub mod pidf;

//! The language: framing, lexing, typed views, validation and writing of SIP messages (RFC 3261 7, 19, 20, 25).
//!
//! A message is its bytes plus an index of header positions; nothing is copied or typed until somebody asks.
//! Pure: no clock, no I/O, no randomness. The only user of `rsip`.

pub mod digest;
pub mod error;
pub mod forward;
pub mod framer;
pub mod header;
mod headers;
mod host;
mod lexer;
pub mod message;
pub mod method;
pub mod multipart;
pub mod name_addr;
mod octets;
mod params;
mod places;
pub mod salvage;
pub mod status;
pub mod uri;
mod uri_equality;
pub mod validate;
pub mod via;
pub mod writer;

#[cfg(test)]
mod effort;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod second_opinion;
#[cfg(test)]
mod segmentation;
#[cfg(test)]
mod torture;

pub use error::{Limits, ParseError};
pub use header::{Header, HeaderName};
pub use message::{CSeq, Contacts, Event, Headers, Message, Method, Request, Response};
pub use name_addr::NameAddr;
pub use salvage::salvage;
pub use status::StatusCode;
pub use uri::{Host, HostPort, Params, Scheme, Uri};
pub use via::Via;
pub use writer::Writer;

//! What the server keeps about people, as plain values: no I/O, no clock, no wire format.
//!
//! [`HomeState`] is everything about one address of record; a [`Plan`] is a list of [`Row`]s. The store writes rows,
//! [`HomeState::apply`] applies the very same rows in memory: one meaning, three uses.

pub mod account;
pub mod aor;
pub mod binding;
pub mod flow;
pub mod home_state;
pub mod message;
pub mod plan;
pub mod publication;
pub mod redacted;
pub mod reject;
pub mod subscription;
pub mod subscriptions;
pub mod text;
pub mod time;

pub use account::{Account, Ha1Pair, Ha1Set};
pub use aor::Aor;
pub use binding::{Binding, BindingKey};
pub use flow::{Flow, Transport};
pub use home_state::HomeState;
pub use message::{Content, Mailbox, MessageId, StoredMessage, Waiting};
pub use plan::{Durability, Moved, Plan, Row, RowKey};
pub use publication::{EntityTag, Publication, PublicationId};
pub use redacted::Redacted;
pub use reject::Reject;
pub use subscription::{Package, Subscription, SubscriptionId};
pub use subscriptions::Subscriptions;
pub use text::Text;
pub use time::Timestamp;

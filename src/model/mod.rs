//! What the server keeps about people, as plain values: no I/O, no clock, no wire format.
//!
//! [`HomeState`] is everything about one address of record; a [`Plan`] is a list of [`Row`]s. The store writes rows,
//! [`HomeState::apply`] applies the very same rows in memory: one meaning, three uses.

pub mod account;
pub mod aor;
pub mod binding;
pub mod dialog_texts;
pub mod document;
pub mod flow;
pub mod hashed;
pub mod home_state;
pub mod message;
pub mod package;
pub mod plan;
pub mod publication;
pub mod rate;
pub mod redacted;
pub mod reject;
pub mod rules;
pub mod subscription;
pub mod subscriptions;
pub mod text;
pub mod time;
pub mod waiting;

pub use account::{Account, Ha1Pair, Ha1Set};
pub use aor::{Aor, ByAor};
pub use binding::{Binding, BindingKey};
pub use dialog_texts::{DialogParts, DialogTexts};
pub use document::{Auid, Document, DocumentName, Documents, Meaning, Said};
pub use flow::{Flow, Transport};
pub use hashed::AsHashed;
pub use home_state::HomeState;
pub use message::{Content, Mailbox, MessageId, StoredMessage, Waiting};
pub use package::{Package, Packages};
pub use plan::{Durability, Moved, Plan, Row, RowKey};
pub use publication::{EntityTag, Parsed, Publication, PublicationId, Publisher, Renamed};
pub use redacted::Redacted;
pub use reject::Reject;
pub use rules::{Attribute, Permissions, Provided, Rule, RuleSet, Selector, SubHandling, UserInput, Who};
pub use subscription::{Subscription, SubscriptionId};
pub use subscriptions::Subscriptions;
pub use text::Text;
pub use time::Timestamp;
pub use waiting::{WaitingWatcher, WaitingWatchers};

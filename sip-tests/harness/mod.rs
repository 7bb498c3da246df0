//! Servers, databases and scripted phones.

pub mod call;
pub mod digest;
pub mod documents;
pub mod ladder;
pub mod message;
pub mod names;
pub mod phone;
pub mod postgres;
pub mod presence;
pub mod request;
pub mod server;
pub mod socket;
pub mod web;

pub use message::Message;
pub use phone::Phone;
pub use request::{Dialog, Request};
pub use server::{Database, Server};
pub use socket::Transport;
pub use web::Web;

/// The domain that every test server serves.
pub const DOMAIN: &str = "hither.example";
/// How long anything may take before it counts as not happening.
pub const DEADLINE: std::time::Duration = std::time::Duration::from_secs(5);

/// Makes `fn name(Database)` into the tests `name::sqlite` and `name::postgres`.
macro_rules! on_each_database {
    ($($name:ident),* $(,)?) => { $(
        mod $name {
            use crate::harness::Database;
            #[test]
            fn sqlite() {
                super::$name(Database::Sqlite);
            }
            #[test]
            fn postgres() {
                if crate::harness::postgres::required_or_present() {
                    super::$name(Database::Postgres);
                }
            }
        }
    )* };
}

/// Makes `fn name(Database, Transport)` into `name::sqlite_udp`, `name::sqlite_tcp` and `name::postgres_tcp`.
macro_rules! over_each_transport {
    ($($name:ident),* $(,)?) => { $(
        mod $name {
            use crate::harness::{Database, Transport};
            #[test]
            fn sqlite_udp() {
                super::$name(Database::Sqlite, Transport::Udp);
            }
            #[test]
            fn sqlite_tcp() {
                super::$name(Database::Sqlite, Transport::Tcp);
            }
            #[test]
            fn postgres_tcp() {
                if crate::harness::postgres::required_or_present() {
                    super::$name(Database::Postgres, Transport::Tcp);
                }
            }
        }
    )* };
}

//! Why a watcher sees what it sees, and what it is still owed: for who asks (`hither explain`).

use std::sync::Arc;

use crate::availability::view::{Grant, Rule};
use crate::model::{HomeState, Package, Subscription, Text, Timestamp};
use crate::presence::dialog::{Outlook, State};
use crate::sip::StatusCode;

/// How it stands between a watcher and a presentity.
#[derive(Debug, Clone)]
pub struct Explained {
    /// In each package.
    pub packages: Vec<Decided>,
    /// The presentity's own rules that match the watcher.
    pub rules: Vec<Text>,
    /// The presentity's home, as everything else here was read.
    pub home: Arc<HomeState>,
    /// The watcher's subscriptions, also those that only wait for the answer to their last NOTIFY.
    pub watches: Vec<Watched>,
}

/// What was decided about a watcher in one package.
#[derive(Debug, Clone)]
pub struct Decided {
    /// Which.
    pub package: Package,
    /// How much the watcher may see..
    pub grant: Grant,
    /// ..and which rule says so.
    pub rule: Rule,
}

/// One subscription.
#[derive(Debug, Clone)]
pub struct Watched {
    /// Its row, for one that has ended as it was last.
    pub row: Arc<Subscription>,
    /// Does it live?
    pub lives: bool,
    /// The last NOTIFY of this run.
    pub told: Option<Told>,
    /// `None`: this run has not sent anything yet and owes nothing.
    pub outlook: Option<Outlook>,
}

/// A NOTIFY, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Its CSeq number.
    pub cseq: u32,
    /// Its Subscription-State.
    pub state: State,
    /// When it was sent.
    pub at: Timestamp,
    /// What came back, and when.
    pub heard: Option<(Heard, Timestamp)>,
}

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// A final response.
    Answer(StatusCode),
    /// Nothing, until the time was over.
    Silence,
    /// It could not be delivered: the connection is gone, or there is no way to the address.
    Undelivered,
    /// It never left us: a table or a buffer was full.
    Full,
}

//! MESSAGE (RFC 3428): delivered to the devices of a user, or stored until one of them takes it.
//!
//! [`admission`] says what may be delivered and kept, [`attempt`] is the machine of one message while its sender waits, [`outbox`] the schedule
//! of those that are stored, and [`copy`] what a device is sent of them. How a request gets to devices is not known here: the server hands in a
//! [`Carrier`], which is the proxy.

pub mod admission;
pub mod attempt;
pub mod copy;
pub mod cpim;
mod deliver;
mod duplicates;
mod fan_out;
mod lanes;
pub mod lists;
mod live;
pub mod outbox;
mod protection;
#[cfg(test)]
mod testing;

use std::hash::RandomState;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::endpoint::{Endpoint, ServerTransaction};
use crate::home::Homes;
use crate::messaging::duplicates::Duplicates;
use crate::messaging::lanes::Lanes;
use crate::messaging::live::Live;
use crate::messaging::outbox::Outbox;
use crate::messaging::protection::Protection;
use crate::model::{Aor, Flow};
use crate::sip::forward::Hop;
use crate::sip::{Request, StatusCode};

pub use protection::Allowance;

/// What is kept, for how long and for whom.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Is anything stored at all?
    pub store: bool,
    /// How long a message is kept at most.
    pub retention: Duration,
    /// Messages stored for one user.
    pub max_messages: usize,
    /// Their bytes.
    pub max_bytes: u64,
    /// How long devices have to answer before the message is stored.
    pub patience: Duration,
    /// The pause after the first attempt that a device did not take.
    pub retry: Duration,
    /// How many messages of each kind one user may send.
    pub of_sender: Allowance,
    /// How many one user gets from senders whom they do not watch.
    pub of_strangers: Allowance,
    /// Our domain, for Call-IDs.
    pub domain: String,
}

/// Told once how a copy ended: what each device said, the best first (`true`: the status is ours, and stands for silence or a failure), and
/// the best answer as it goes back to the client, if there is one of each.
pub type Told = Box<dyn Fn(&[(StatusCode, bool)], Option<Bytes>) + Send + Sync>;

/// A request for the devices of a user.
pub struct Parcel {
    /// What is sent.
    pub request: Request,
    /// Where it came from; `None`: it begins here.
    pub from: Option<Flow>,
    /// Whose devices.
    pub user: Aor,
    /// How far it may still go.
    pub hop: Hop,
    /// Who is told how it ended.
    pub told: Told,
}

/// Takes a request to the devices of a user.
pub type Carrier = Box<dyn Fn(Parcel) + Send + Sync>;

/// The service.
pub struct Messaging {
    homes: Arc<Homes>,
    endpoint: Arc<Endpoint>,
    policy: Policy,
    carrier: Carrier,
    outbox: Mutex<Outbox>,
    /// Messages whose senders wait.
    lanes: Mutex<Lanes<Arc<Live>>>,
    duplicates: Mutex<Duplicates<(ServerTransaction, Request)>>,
    /// Keys of duplicates.
    hasher: RandomState,
    protection: Protection,
    /// Something is due earlier than it was.
    wakes: Notify,
    /// The server is stopping: nothing stored is sent any more.
    draining: AtomicBool,
    /// A turn has ended while stopping.
    settled: Notify,
}

impl std::fmt::Debug for Messaging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Messaging").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Messaging {
    /// Messages of all homes of a table.
    pub fn new(
        homes: Arc<Homes>,
        endpoint: Arc<Endpoint>,
        policy: Policy,
        carrier: Carrier,
    ) -> Arc<Messaging> {
        let outbox = Mutex::new(Outbox::new(policy.retry));
        let (wakes, settled, draining) = (Notify::new(), Notify::new(), AtomicBool::new(false));
        let protection = Protection::new(policy.of_sender, policy.of_strangers);
        Arc::new(Messaging {
            homes,
            endpoint,
            policy,
            carrier,
            outbox,
            lanes: Mutex::default(),
            duplicates: Mutex::default(),
            hasher: RandomState::new(),
            protection,
            wakes,
            draining,
            settled,
        })
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes<Arc<Live>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn duplicates(&self) -> MutexGuard<'_, Duplicates<(ServerTransaction, Request)>> {
        self.duplicates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

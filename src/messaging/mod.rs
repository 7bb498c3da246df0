//! MESSAGE (RFC 3428): delivered to the devices of a user, or stored until one of them takes it.
//!
//! [`admission`] says what may be delivered and kept, [`attempt`] is the machine of one message while its sender waits, [`outbox`] the schedule
//! of those that are stored, and [`copy`] what a device is sent of them. [`imdn`] is what their senders are told. How a request gets to devices is not known here: the server hands in a
//! [`Carrier`], which is the proxy.

pub mod admission;
mod asked;
pub mod attempt;
pub mod copy;
pub mod cpim;
pub mod cpim_write;
mod deliver;
pub mod device_order;
mod duplicates;
mod failpoint;
mod fan_out;
pub mod imdn;
mod keep;
mod lanes;
pub mod lists;
mod live;
pub mod outbox;
mod protection;
mod recovered;
mod reports;
#[cfg(test)]
mod testing;
pub mod trace;

use std::hash::RandomState;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::sync::Notify;

use crate::endpoint::{Endpoint, ServerTransaction, clock};
use crate::home::Homes;
use crate::messaging::asked::Asked;
use crate::messaging::duplicates::Duplicates;
use crate::messaging::lanes::Lanes;
use crate::messaging::live::Live;
use crate::messaging::outbox::Outbox;
use crate::messaging::protection::Protection;
use crate::messaging::recovered::Recovered;
use crate::messaging::trace::{Step, Trace, Traced};
use crate::model::{Aor, Flow, HomeState, Text, Timestamp};
use crate::sip::forward::Hop;
use crate::sip::{Request, StatusCode, Uri};

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
    /// Are devices asked first that somebody is at ([`device_order`])?
    pub active_first: bool,
    /// The pause after the first attempt that a device did not take.
    pub retry: Duration,
    /// How many messages of each kind one user may send.
    pub of_sender: Allowance,
    /// How many one user gets from senders whom they do not watch.
    pub of_strangers: Allowance,
    /// Are senders told, if they ask, that a message is stored or will not be delivered?
    pub reports: bool,
    /// Must From in `message/cpim` be the sender's, and a notification be from somebody who got the message?
    pub verify_cpim: bool,
    /// Our domain, for Call-IDs.
    pub domain: String,
}

impl Policy {
    /// How many messages one user may have, and how many bytes of them.
    fn room(&self) -> (usize, u64) {
        (self.max_messages, self.max_bytes)
    }
}

/// Told once how a copy ended: what each device said, the best first (`true`: the status is ours, and stands for silence or a failure), and
/// the best answer as it goes back to the client, if there is one of each.
pub type Told = Box<dyn Fn(&[(StatusCode, bool)], Option<Bytes>) + Send + Sync>;

/// Told of each device, by the URI it is reached at, when it is sent to (`None`) and how that ended (`true`: with silence or a failure).
pub type Noted = Box<dyn Fn(&Text, Option<(StatusCode, bool)>) + Send + Sync>;

/// A request for the devices of a user.
pub struct Parcel {
    /// What is sent.
    pub request: Request,
    /// Where it came from; `None`: it begins here.
    pub from: Option<Flow>,
    /// Whose devices: the home, as it is now.
    pub home: Arc<HomeState>,
    /// How far it may still go.
    pub hop: Hop,
    /// Contacts of devices that are asked after the others have failed, refused, or been silent for [`Parcel::silence`].
    pub later: SmallVec<[Text; 2]>,
    /// How long that is.
    pub silence: Duration,
    /// Who is told how it ended.
    pub told: Told,
    /// Who is told of each device.
    pub noted: Noted,
}

/// Takes a request to the devices of a user.
pub type Carrier = Box<dyn Fn(Parcel) + Send + Sync>;

/// Whom of our users a URI means.
pub type Names = Box<dyn Fn(&Uri<'_>) -> Option<Aor> + Send + Sync>;

/// The service.
pub struct Messaging {
    homes: Arc<Homes>,
    endpoint: Arc<Endpoint>,
    policy: Policy,
    carrier: Carrier,
    names: Names,
    /// Of notifications.
    ids: imdn::Ids,
    outbox: Mutex<Outbox>,
    /// Messages whose senders wait.
    lanes: Mutex<Lanes<Arc<Live>>>,
    duplicates: Mutex<Duplicates<(ServerTransaction, Request)>>,
    /// Who may tell of which message.
    asked: Mutex<Asked>,
    /// Keys of duplicates, and of what was asked.
    hasher: RandomState,
    protection: Protection,
    trace: Trace,
    recovered: Recovered,
    /// Something is due earlier than it was.
    wakes: Notify,
    /// The server is stopping: nothing stored is sent any more.
    draining: AtomicBool,
    /// All homes are in memory.
    is_resident: AtomicBool,
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
        names: Names,
        ids: imdn::Ids,
    ) -> Arc<Messaging> {
        let outbox = Mutex::new(Outbox::new(policy.retry));
        let (wakes, settled, draining) = (Notify::new(), Notify::new(), AtomicBool::new(false));
        let protection = Protection::new(policy.of_sender, policy.of_strangers);
        Arc::new(Messaging {
            homes,
            endpoint,
            policy,
            carrier,
            names,
            ids,
            outbox,
            lanes: Mutex::default(),
            duplicates: Mutex::default(),
            asked: Mutex::default(),
            hasher: RandomState::new(),
            protection,
            trace: Trace::default(),
            recovered: Recovered::new(clock::now()),
            wakes,
            draining,
            is_resident: AtomicBool::new(false),
            settled,
        })
    }

    /// What became of the last messages.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Which devices are asked later, and after how long.
    fn later(&self, home: &HomeState, now: Timestamp) -> (SmallVec<[Text; 2]>, Duration) {
        let later = match self.policy.active_first {
            true => device_order::later(home, now),
            false => SmallVec::new(),
        };
        (later, device_order::silence(self.policy.patience))
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

/// Notes what devices are sent and say.
fn noting(traced: Option<Arc<Traced>>) -> Noted {
    Box::new(move |device, ended| {
        let Some(traced) = &traced else { return };
        let step = match ended {
            None => Step::Sent(device.clone()),
            Some((status, ours)) => Step::Ended(device.clone(), status, ours),
        };
        traced.note(clock::now(), step);
    })
}

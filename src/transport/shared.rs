//! What the tasks of this module share: limits, counters, the table, and an owner that waits for every task.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::transport::counters::Counters;
use crate::transport::source::Sources;
use crate::transport::table::Table;
use crate::transport::{ConnectionLimits, Datagrams, Listener, Receiver};

/// Shared by every task of the sockets.
pub(super) struct Shared {
    pub(super) listeners: Vec<Listener>,
    pub(super) limits: ConnectionLimits,
    pub(super) counters: Counters,
    pub(super) table: Table,
    pub(super) sources: Sources,
    pub(super) tasks: Tasks,
    pub(super) datagrams: Datagrams,
    pub(super) state: Mutex<State>,
}

/// Where the sockets are in their life. The receiver commonly owns the sockets: it is let go of at the end, or neither would ever be freed.
pub(super) enum State {
    /// Nothing is received yet.
    Bound,
    /// Tasks run.
    Running(Running),
    /// Every task has ended.
    Ended,
}

/// What [`crate::transport::Sockets::run`] was given.
pub(super) struct Running {
    pub(super) receiver: Arc<dyn Receiver>,
    pub(super) stop: watch::Receiver<bool>,
}

impl Shared {
    /// Calls the receiver; a panic in it ends nothing but that call.
    pub(super) fn tell(&self, receiver: &dyn Receiver, call: impl FnOnce(&dyn Receiver)) {
        if catch_unwind(AssertUnwindSafe(|| call(receiver))).is_err() {
            let panics = Counters::add(&self.counters.panics);
            // A peer may be able to repeat it: 1st, 2nd, 4th, 8th..
            if panics.is_power_of_two() {
                tracing::error!(panics, "a message made its handler panic; the socket goes on");
            }
        }
    }
}

/// Counts the tasks that live, so that somebody can wait for their end.
pub(super) struct Tasks {
    runtime: Handle,
    live: Arc<Live>,
}

#[derive(Default)]
struct Live {
    tasks: AtomicUsize,
    none_left: Notify,
}

impl Tasks {
    /// Tasks run on this runtime, whoever spawns them.
    pub(super) fn new(runtime: Handle) -> Tasks {
        Tasks { runtime, live: Arc::default() }
    }

    /// Runs a task that [`Tasks::ended`] waits for.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.live.tasks.fetch_add(1, Ordering::AcqRel);
        let ticket = Ticket(Arc::clone(&self.live));
        self.runtime.spawn(async move {
            let _ticket = ticket;
            task.await;
        });
    }

    /// Waits until no task lives.
    pub(super) async fn ended(&self) {
        loop {
            let none_left = self.live.none_left.notified();
            tokio::pin!(none_left);
            none_left.as_mut().enable();
            if self.live.tasks.load(Ordering::Acquire) == 0 {
                return;
            }
            none_left.await;
        }
    }
}

/// Held by a task; dropped when it ends, panics, or its runtime goes.
struct Ticket(Arc<Live>);

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.0.tasks.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none_left.notify_waiters();
        }
    }
}

/// Waits until `stop` is true, or nobody is left who could say so.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// As [`stopped`], asked at this moment.
pub(super) fn is_stopped(stop: &watch::Receiver<bool>) -> bool {
    *stop.borrow() || stop.has_changed().is_err()
}

/// Locks; what a panicking thread left behind is still whole, since nothing here panics half-way.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The clock of the sockets: deadlines of connections, age of cached routes.
#[expect(clippy::disallowed_methods, reason = "deadlines of sockets are kept where the sockets are")]
pub(super) fn now() -> Instant {
    Instant::now()
}

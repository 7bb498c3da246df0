//! Performs what the context machine wants: the transaction user of a forwarded request.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use crate::endpoint::{ClientId, Endpoint, ServerTransaction, TransactionUser, UserEvent, WakeId, clock};
use crate::model::{Flow, Reject};
use crate::proxy::context::{Context, Failure, Output};
use crate::sip::{HeaderName, Method, Request, forward};

/// One request that was forwarded, until all its branches have ended.
pub(super) struct ResponseContext {
    endpoint: Arc<Endpoint>,
    flow: Flow,
    transaction: ServerTransaction,
    inner: Mutex<Inner>,
}

struct Inner {
    machine: Context,
    /// Until all is over. What may still come then, for 32 s, is another 2xx to an INVITE, and that needs no request.
    request: Option<Arc<Request>>,
    branches: SmallVec<[Option<ClientId>; 1]>,
    /// Branches that go straight to a device: if it cannot be reached any more, that is a failed flow (RFC 5626 5.3.1), not a failed server.
    to_devices: SmallVec<[u32; 2]>,
    /// When Timer C is due, and what wakes us then.
    armed: Option<(Instant, WakeId)>,
}

/// One branch about to be sent.
pub(super) struct Branch {
    pub(super) number: u32,
    pub(super) flow: Flow,
    /// Straight to a device, over its flow or at the address it registered from.
    pub(super) to_device: bool,
    /// The Via on top of it.
    pub(super) via: String,
}

impl ResponseContext {
    pub(super) fn new(
        endpoint: Arc<Endpoint>,
        request: Request,
        flow: Flow,
        transaction: ServerTransaction,
        machine: Context,
        branches: usize,
    ) -> Arc<ResponseContext> {
        let inner = Inner {
            machine,
            request: Some(Arc::new(request)),
            branches: smallvec![None; branches],
            to_devices: SmallVec::new(),
            armed: None,
        };
        Arc::new(ResponseContext { endpoint, flow, transaction, inner: Mutex::new(inner) })
    }

    /// Lets CANCEL find this context, and arms Timer C.
    pub(super) fn watch(self: &Arc<Self>) {
        self.transaction.set_user(self.clone());
        self.with(|_| ());
    }

    /// The request, until all is over.
    pub(super) fn request(&self) -> Option<Arc<Request>> {
        self.lock().request.clone()
    }

    /// The flow the request came in on.
    pub(super) fn flow(&self) -> &Flow {
        &self.flow
    }

    /// Sends one branch. The lock is held meanwhile: an answer that comes at once waits for it, so a branch is known before it is answered.
    pub(super) fn launch(self: &Arc<Self>, branch: Branch, method: &Method, bytes: Bytes) {
        let Branch { number, flow, to_device, via } = branch;
        self.with(|inner| {
            if inner.machine.is_cancelled(number) {
                // The caller gave up while the address was looked up.
                return inner.machine.handle_failure(number, Failure::Cancelled);
            }
            if to_device {
                inner.to_devices.push(number);
            }
            match self.endpoint.send_written(bytes, method, &via, &flow, self.clone(), number) {
                Ok(id) => {
                    if let Some(slot) = usize::try_from(number).ok().and_then(|n| inner.branches.get_mut(n)) {
                        *slot = Some(id);
                    }
                }
                Err(_) => inner.machine.handle_failure(number, inner.unreachable(number)),
            }
        });
    }

    pub(super) fn fail(self: &Arc<Self>, branch: u32, failure: Failure) {
        self.with(|inner| inner.machine.handle_failure(branch, failure));
    }

    /// Feeds the machine and performs what it wants.
    fn with(self: &Arc<Self>, feed: impl FnOnce(&mut Inner)) {
        let mut inner = self.lock();
        feed(&mut inner);
        while let Some(output) = inner.machine.poll_output() {
            self.perform(&inner, output);
        }
        if inner.machine.is_over() {
            inner.request = None;
            if let Some((_, wake)) = inner.armed.take() {
                self.endpoint.forget(wake);
            }
        } else if let Some(due) = inner.machine.next_timeout()
            && inner.armed.is_none_or(|(armed, _)| due < armed)
        {
            let user: Weak<dyn TransactionUser> = Arc::downgrade(self) as Weak<dyn TransactionUser>;
            let wake = self.endpoint.wake(due.saturating_duration_since(clock::instant()), user, 0);
            if let Some((_, later)) = inner.armed.replace((due, wake)) {
                self.endpoint.forget(later);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn perform(&self, inner: &Inner, output: Output) {
        match output {
            Output::Forward(response) => {
                if let Some(bytes) = forward::response(&response) {
                    self.transaction.respond(response.status(), bytes);
                }
            }
            Output::ForwardBest { response, challenges } => {
                if let Some(bytes) = forward::response(&response) {
                    self.transaction.respond(response.status(), with_rows(bytes, &challenges));
                }
            }
            Output::Respond(status) => {
                if let Some(request) = &inner.request {
                    self.transaction.reject(request, &Reject::new(status));
                }
            }
            Output::Cancel { branch, completed_elsewhere } => {
                let reason = completed_elsewhere.then_some(COMPLETED_ELSEWHERE);
                let id =
                    usize::try_from(branch).ok().and_then(|n| inner.branches.get(n)).and_then(Option::as_ref);
                if let Some(id) = id {
                    self.endpoint.cancel(id, reason);
                }
            }
        }
    }
}

impl Inner {
    fn unreachable(&self, branch: u32) -> Failure {
        if self.to_devices.contains(&branch) { Failure::FlowGone } else { Failure::Transport }
    }
}

impl TransactionUser for ResponseContext {
    fn event(self: Arc<Self>, event: UserEvent) {
        let now = clock::instant();
        self.with(|inner| match event {
            UserEvent::Response { branch, response } => inner.machine.handle_response(branch, response, now),
            UserEvent::Timeout { branch } => inner.machine.handle_failure(branch, Failure::Timeout),
            UserEvent::TransportFailed { branch } => {
                inner.machine.handle_failure(branch, inner.unreachable(branch));
            }
            UserEvent::Cancelled { .. } => inner.machine.handle_cancel(),
            UserEvent::Timer { .. } => {
                inner.armed = None;
                inner.machine.handle_timeout(now);
            }
        });
    }
}

/// Adds rows under the start line.
fn with_rows(bytes: Bytes, rows: &[(HeaderName, Vec<u8>)]) -> Bytes {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n").filter(|_| !rows.is_empty()) else {
        return bytes;
    };
    let (line, rest) = bytes.split_at(end + 2);
    let mut out = line.to_vec();
    for (name, value) in rows {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(rest);
    out.into()
}

/// RFC 3326 2.
const COMPLETED_ELSEWHERE: &str = "SIP;cause=200;text=\"Call completed elsewhere\"";

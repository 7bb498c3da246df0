//! Performs what the context machine wants: the transaction user of a forwarded request.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::endpoint::{ClientId, ServerTransaction, TransactionUser, UserEvent, WakeId, clock};
use crate::model::{Aor, Flow, HomeState, Reject, Text, Timestamp, Transport};
use crate::proxy::address::{Address, Addresses};
use crate::proxy::context::{Context, Failure, Output};
use crate::proxy::failed::PAUSE;
use crate::proxy::loops::SecondPart;
use crate::proxy::outstanding::Place;
use crate::proxy::target::{self, Target, Way};
use crate::proxy::{Hop, Proxy, UNTRUSTED_IDENTITY};
use crate::sip::{HeaderName, Method, Request, Response, StatusCode, forward};

/// One request that was forwarded, until all its branches have ended.
pub(super) struct ResponseContext {
    proxy: Arc<Proxy>,
    /// Where the request came from; `None`: it began here.
    flow: Option<Flow>,
    upstream: Upstream,
    hop: Hop,
    /// What our branches end in (RFC 5393 4.2.1); nothing inside a dialog.
    second_part: Option<SecondPart>,
    /// Whose devices may join while the request is pending: the user that an INVITE is for.
    user: Option<Aor>,
    /// Whose devices get one such request at a time: the user that a MESSAGE is for (RFC 3428 8).
    reader: Option<Aor>,
    inner: Mutex<Inner>,
}

struct Inner {
    machine: Context,
    /// Until all is over. What may still come then, for 32 s, is another 2xx to an INVITE, and that needs no request.
    request: Option<Request>,
    branches: SmallVec<[Branch; 1]>,
    /// Why the caller cancelled (RFC 3326).
    reason: Option<String>,
    /// When Timer C is due, and what wakes us then.
    armed: Option<(Instant, WakeId)>,
}

/// One target and what became of it.
struct Branch {
    target: Target,
    breadth: u32,
    sent: Option<ClientId>,
    /// Where to go on if the present address fails.
    addresses: Addresses,
    /// The present address.
    at: Option<(Transport, SocketAddr)>,
    /// The device that gets nothing else meanwhile.
    device: Option<u64>,
    /// It was sent, and nobody answered.
    was_silent: bool,
}

/// Told once how a request ended: what each target said, the best first (`true`: the status is ours, and stands for silence or a failure), and the
/// best answer without our Via, if there is one and somebody to pass it on to. Called with the context locked: it must not come back to it.
pub type Told = Box<dyn Fn(&[(StatusCode, bool)], Option<Bytes>) + Send + Sync>;

/// Told of each target when it is sent to (`None`), and how that ended: what it said, or (`true`) what stands for silence or a failure. Called with
/// the context locked, too.
pub type Noted = Box<dyn Fn(&Text, Option<(StatusCode, bool)>) + Send + Sync>;

/// Where the answer to a forwarded request goes.
pub(super) enum Upstream {
    /// Back to the client.
    Client(ServerTransaction),
    /// To somebody in this server who answers for the request.
    Told(Told, Noted),
}

impl Upstream {
    /// A target's response goes up, with challenges of others (16.7 step 7).
    fn pass_on(&self, response: &Response, challenges: &[(HeaderName, Vec<u8>)], machine: &Context) {
        let bytes =
            forward::response(response, &UNTRUSTED_IDENTITY).map(|bytes| with_rows(bytes, challenges));
        match (self, bytes) {
            (Upstream::Client(transaction), Some(bytes)) => transaction.respond(response.status(), bytes),
            // It had one Via, ours: there is nobody above.
            (Upstream::Client(_), None) => {}
            (Upstream::Told(told, _), bytes) => {
                let best = std::iter::once((response.status(), false));
                told(&best.chain(machine.others()).collect::<SmallVec<[_; 4]>>(), bytes);
            }
        }
    }

    /// A target was sent to, or has ended.
    fn note(&self, target: &Target, ended: Option<(StatusCode, bool)>) {
        match self {
            Upstream::Client(_) => {}
            Upstream::Told(_, noted) => noted(&target.uri, ended),
        }
    }

    /// An answer of our own goes up.
    pub(super) fn refuse(&self, request: &Request, status: StatusCode, others: &[(StatusCode, bool)]) {
        match self {
            Upstream::Client(transaction) => transaction.reject(request, &Reject::new(status)),
            Upstream::Told(told, _) => {
                let best = std::iter::once((status, true));
                told(&best.chain(others.iter().copied()).collect::<SmallVec<[_; 4]>>(), None);
            }
        }
    }
}

/// What came in, and what was found out about it.
pub(super) struct Forwarded {
    pub(super) request: Request,
    pub(super) flow: Option<Flow>,
    pub(super) upstream: Upstream,
    pub(super) hop: Hop,
    pub(super) second_part: Option<SecondPart>,
    pub(super) user: Option<Aor>,
    pub(super) reader: Option<Aor>,
}

impl ResponseContext {
    /// - `machine`: knows of as many targets as there are here.
    pub(super) fn new(
        proxy: Arc<Proxy>,
        forwarded: Forwarded,
        machine: Context,
        targets: impl IntoIterator<Item = Target>,
    ) -> Arc<ResponseContext> {
        let Forwarded { request, flow, upstream, hop, second_part, user, reader } = forwarded;
        let branches = targets.into_iter().map(Branch::new).collect();
        let inner = Inner { machine, request: Some(request), branches, reason: None, armed: None };
        let inner = Mutex::new(inner);
        Arc::new(ResponseContext { proxy, flow, upstream, hop, second_part, user, reader, inner })
    }

    /// Lets CANCEL find this context, sends the first branches and arms Timer C.
    pub(super) fn start(self: &Arc<Self>) {
        if let Upstream::Client(transaction) = &self.upstream {
            transaction.set_user(self.clone());
        }
        self.with(|_| ());
    }

    /// Devices of the user that registered while the request was pending join it (16.5).
    pub(super) fn join(self: &Arc<Self>, home: &HomeState, now: Timestamp) {
        self.with(|inner| {
            let Some(request) = &inner.request else { return };
            for target in target::targets(home, request, now, self.proxy.policy.max_forks) {
                if !inner.knows(&target) && inner.machine.handle_target(target.q, clock::instant()).is_some()
                {
                    inner.branches.push(Branch::new(target));
                }
            }
        });
    }

    /// Feeds the machine and performs what it wants. The lock is held meanwhile: an answer that comes at once waits for it, so a branch is
    /// known before it is answered.
    fn with(self: &Arc<Self>, feed: impl FnOnce(&mut Inner)) {
        let mut inner = self.lock();
        feed(&mut inner);
        while let Some(output) = inner.machine.poll_output() {
            self.perform(&mut inner, output);
        }
        let free = inner.free_devices();
        if inner.machine.is_over() {
            inner.request = None;
            inner.branches = SmallVec::new();
            if let Some((_, wake)) = inner.armed.take() {
                self.proxy.endpoint.forget(wake);
            }
        } else if let Some(due) = inner.machine.next_timeout()
            && inner.armed.is_none_or(|(armed, _)| due < armed)
        {
            let user: Weak<dyn TransactionUser> = Arc::downgrade(self) as Weak<dyn TransactionUser>;
            let wake = self.proxy.endpoint.wake(due.saturating_duration_since(clock::instant()), user, 0);
            if let Some((_, later)) = inner.armed.replace((due, wake)) {
                self.proxy.endpoint.forget(later);
            }
        }
        drop(inner);
        for (device, was_silent) in free {
            self.proxy.device_is_free(device, was_silent);
        }
    }

    /// Nothing else is on its way to the device of this branch.
    pub(super) fn turn(self: &Arc<Self>, number: u32, device: u64) {
        self.with(|inner| {
            if let Some(branch) = inner.branch(number) {
                branch.device = Some(device);
                self.begin(inner, number);
            }
        });
    }

    /// The device of this branch has not answered what was sent to it before: it is not asked.
    pub(super) fn passed_over(self: &Arc<Self>, number: u32) {
        self.with(|inner| self.fail(inner, number, Failure::Timeout));
    }

    /// Is the device of this branch free for it (RFC 3428 8)? If not, the branch has its turn later, and those that come after it need not wait.
    fn has_turn(self: &Arc<Self>, inner: &mut Inner, number: u32) -> bool {
        let (Some(reader), Some(branch)) = (&self.reader, inner.branch(number)) else { return true };
        let device = self.proxy.outstanding.device(reader, &branch.target.uri);
        match self.proxy.outstanding.enter(device, || (self.clone(), number)) {
            Place::First => {
                branch.device = Some(device);
                true
            }
            Place::Waits => {
                inner.machine.handle_busy(clock::instant());
                false
            }
            Place::Full => {
                self.fail(inner, number, Failure::Timeout);
                false
            }
        }
    }

    /// The branch has ended without a response.
    fn fail(&self, inner: &mut Inner, number: u32, failure: Failure) {
        if let Some(branch) = inner.branch(number) {
            branch.was_silent = failure == Failure::Timeout;
            self.upstream.note(&branch.target, Some((failure.status(), true)));
        }
        inner.machine.handle_failure(number, failure, clock::instant());
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn perform(self: &Arc<Self>, inner: &mut Inner, output: Output) {
        match output {
            Output::Start { branch, breadth } => {
                if let Some(at) = inner.branch(branch) {
                    at.breadth = breadth;
                    if self.has_turn(inner, branch) {
                        self.begin(inner, branch);
                    }
                }
            }
            Output::Forward(response) => {
                self.upstream.pass_on(&response, &[], &inner.machine);
            }
            Output::ForwardBest { response, challenges } => {
                self.upstream.pass_on(&response, &challenges, &inner.machine);
            }
            Output::Respond(status) => {
                if let Some(request) = &inner.request {
                    let others: SmallVec<[_; 4]> = inner.machine.others().collect();
                    self.upstream.refuse(request, status, &others);
                }
            }
            Output::Cancel { branch, completed_elsewhere } => {
                let reason = if completed_elsewhere {
                    Some(COMPLETED_ELSEWHERE.to_owned())
                } else {
                    inner.reason.clone()
                };
                if let Some(id) = inner.branch(branch).and_then(|branch| branch.sent.as_ref()) {
                    self.proxy.endpoint.cancel(id, reason.as_deref());
                }
            }
        }
    }

    /// Sends a branch to its target, at once if the address is known, else when it has been looked up.
    fn begin(self: &Arc<Self>, inner: &mut Inner, number: u32) {
        let (Some(request), Some(branch)) = inner.parts(number) else { return };
        match &branch.target.way {
            Way::Flow { .. } => {
                let sent = self
                    .proxy
                    .flow(&branch.target.way)
                    .and_then(|flow| self.send(request, branch, number, flow));
                if let Err(failure) = sent {
                    self.fail(inner, number, failure);
                }
            }
            Way::Address(transport, address) => {
                branch.addresses = Addresses::new([(*transport, *address)].into_iter());
                self.go_on(inner, number, Failure::Transport);
            }
            Way::Resolve(uri) => {
                let (context, uri) = (self.clone(), uri.clone());
                let looked_up = self.proxy.endpoint.spawn(async move {
                    let found = context.proxy.resolve(&uri).await;
                    context.with(|inner| {
                        let Some(branch) = inner.branch(number) else { return };
                        branch.addresses = found;
                        if inner.machine.is_cancelled(number) {
                            // The caller gave up while the address was looked up.
                            return context.fail(inner, number, Failure::Cancelled);
                        }
                        context.go_on(inner, number, Failure::Transport);
                    });
                });
                if !looked_up {
                    self.fail(inner, number, Failure::Transport);
                }
            }
        }
    }

    /// Sends a branch to the first address left that takes it (RFC 3263 4.3); `failure`: how it ends if there is none.
    fn go_on(self: &Arc<Self>, inner: &mut Inner, number: u32, mut failure: Failure) {
        let (Some(request), Some(branch)) = inner.parts(number) else { return };
        while let Some(address) = branch.addresses.next() {
            let sent = self.proxy.to_address(address.transport, address.socket).and_then(|flow| {
                if address.may_switch && flow.transport == Transport::Udp {
                    self.send_or_switch(request, branch, number, flow, address)
                } else {
                    self.send(request, branch, number, flow)
                }
            });
            match sent {
                Ok(()) => return,
                Err(why) => failure = why,
            }
        }
        self.fail(inner, number, failure);
    }

    /// 18.1.1: what is too large for a datagram goes over TCP, and over UDP after all if nobody listens there.
    fn send_or_switch(
        self: &Arc<Self>,
        request: &Request,
        branch: &mut Branch,
        number: u32,
        flow: Flow,
        address: Address,
    ) -> Result<(), Failure> {
        let copy = self.copy(request, branch, &flow);
        if copy.1.len() <= MAX_UDP_REQUEST {
            return self.hand_over(request, branch, number, flow, copy);
        }
        branch.addresses.again(address);
        let stream = self.proxy.to_address(Transport::Tcp, address.socket)?;
        self.send(request, branch, number, stream)
    }

    fn send(
        self: &Arc<Self>,
        request: &Request,
        branch: &mut Branch,
        number: u32,
        flow: Flow,
    ) -> Result<(), Failure> {
        let copy = self.copy(request, branch, &flow);
        self.hand_over(request, branch, number, flow, copy)
    }

    /// The copy for a next hop, with the Via on top of it (16.6 step 8).
    fn copy(&self, request: &Request, branch: &Branch, to: &Flow) -> (String, Bytes) {
        let via = self.proxy.via(to, self.second_part);
        let bytes =
            self.proxy.copy(request, self.flow.as_ref(), to, &via, &branch.target, self.hop, branch.breadth);
        (via, bytes)
    }

    fn hand_over(
        self: &Arc<Self>,
        request: &Request,
        branch: &mut Branch,
        number: u32,
        flow: Flow,
        (via, bytes): (String, Bytes),
    ) -> Result<(), Failure> {
        let method = request.method();
        let is_datagram = flow.transport == Transport::Udp;
        if *method == Method::Message && is_datagram && bytes.len() > MAX_UDP_REQUEST {
            // RFC 3428 8: a large MESSAGE needs congestion control; the device has only registered a datagram address.
            return Err(Failure::TooLarge);
        }
        branch.at = Some((flow.transport, flow.remote));
        let sent = self.proxy.endpoint.send_written(bytes, method, &via, &flow, self.clone(), number);
        branch.sent = Some(sent.map_err(|_| branch.unreachable())?);
        self.upstream.note(&branch.target, None);
        Ok(())
    }

    /// The branch has failed at one address: is there another one to try (16.6 step 7, RFC 3263 4.3)?
    ///
    /// - `pause`: how long that address is tried after others.
    fn retry(self: &Arc<Self>, inner: &mut Inner, number: u32, failure: Failure, pause: Duration) -> bool {
        if let Some(branch) = inner.branch(number)
            && matches!(branch.target.way, Way::Resolve(_))
            && let Some((transport, address)) = branch.at
        {
            self.proxy.failed.note(transport, address, pause, clock::instant());
        }
        let left = inner.branch(number).is_some_and(|branch| !branch.addresses.is_empty());
        let retried = left && inner.machine.handle_retry(number, clock::instant());
        if retried {
            self.go_on(inner, number, failure);
        }
        retried
    }

    fn failed(self: &Arc<Self>, inner: &mut Inner, number: u32, failure: Failure) {
        if !self.retry(inner, number, failure, PAUSE) {
            self.fail(inner, number, failure);
        }
    }

    fn answered(self: &Arc<Self>, inner: &mut Inner, number: u32, response: Response) {
        let status = response.status();
        let now = clock::instant();
        if status == StatusCode::SERVICE_UNAVAILABLE
            && self.retry(inner, number, Failure::Transport, pause(&response))
        {
            return;
        }
        if !status.is_provisional()
            && let Some(branch) = inner.branch(number)
        {
            self.upstream.note(&branch.target, Some((status, false)));
        }
        if status.code() / 100 == 3
            && let Some(request) = &inner.request
            && let Some((targets, kept)) = self.proxy.redirection(request, &response)
        {
            let targets: Vec<_> = targets.into_iter().filter(|target| !inner.knows(target)).collect();
            let q = targets.iter().map(|target| target.q);
            let taken = inner.machine.handle_redirection(number, kept, q, now);
            return inner.branches.extend(targets.into_iter().take(taken).map(Branch::new));
        }
        inner.machine.handle_response(number, response, now);
    }
}

impl Inner {
    fn branch(&mut self, number: u32) -> Option<&mut Branch> {
        self.branches.get_mut(usize::try_from(number).ok()?)
    }

    fn parts(&mut self, number: u32) -> (Option<&Request>, Option<&mut Branch>) {
        let branch = usize::try_from(number).ok().and_then(|at| self.branches.get_mut(at));
        (self.request.as_ref(), branch)
    }

    /// Devices whose branches have ended; `true`: they were silent.
    fn free_devices(&mut self) -> SmallVec<[(u64, bool); 1]> {
        let mut free = SmallVec::new();
        for (number, branch) in (0..).zip(&mut self.branches) {
            if branch.device.is_some() && !self.machine.is_pending(number) {
                free.extend(branch.device.take().map(|device| (device, branch.was_silent)));
            }
        }
        free
    }

    fn knows(&self, target: &Target) -> bool {
        target::is_among(target, self.branches.iter().map(|branch| &branch.target))
    }
}

impl Branch {
    fn new(target: Target) -> Branch {
        let addresses = Addresses::default();
        Branch { target, breadth: 0, sent: None, addresses, at: None, device: None, was_silent: false }
    }

    /// A device that cannot be reached any more is a failed flow (RFC 5626 5.3.1), not a failed server.
    fn unreachable(&self) -> Failure {
        if matches!(self.target.way, Way::Flow { .. }) { Failure::FlowGone } else { Failure::Transport }
    }
}

impl TransactionUser for ResponseContext {
    fn event(self: Arc<Self>, event: UserEvent) {
        self.with(|inner| match event {
            UserEvent::Response { branch, response } => self.answered(inner, branch, response),
            UserEvent::Timeout { branch } => self.failed(inner, branch, Failure::Timeout),
            UserEvent::TransportFailed { branch } => {
                let failure = inner.branch(branch).map_or(Failure::Transport, |branch| branch.unreachable());
                self.failed(inner, branch, failure);
            }
            UserEvent::Cancelled { reason } => {
                // RFC 3326 2: copied into the CANCELs that follow from it.
                inner.reason = reason;
                inner.machine.handle_cancel(clock::instant());
            }
            UserEvent::Timer { .. } => {
                inner.armed = None;
                inner.machine.handle_timeout(clock::instant());
            }
        });
    }
}

impl Drop for ResponseContext {
    fn drop(&mut self) {
        if let Some(user) = &self.user {
            self.proxy.ringing.forget(user);
        }
    }
}

/// For how long a server asks to be left alone (21.5.4, 20.33).
fn pause(response: &Response) -> Duration {
    let text = response.text(HeaderName::RetryAfter).unwrap_or_default();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text.get(..digits).and_then(|seconds| seconds.parse().ok()).map_or(PAUSE, Duration::from_secs)
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
/// RFC 3261 18.1.1, RFC 3428 8.
const MAX_UDP_REQUEST: usize = 1_300;

//! Presence under load: users who publish and users who watch, in one thread.
//!
//! It has a loop of its own, because an operation here has several ends: the 200, and a NOTIFY at one watcher or at a hundred.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hither::sip::digest::Algorithm;

use crate::credentials::Credentials;
use crate::notify::{Notify, header};
use crate::operation::Operation;
use crate::run::{self, Loop, Measured, NAP, PATIENCE, branch, named, status};
use crate::wire::{Inbox, Wire};

/// All users, and the sockets they share.
pub struct Presence {
    /// Connected to the server. A user has one line.
    pub(super) wire: Wire,
    window: u32,
    pub(super) users: Vec<User>,
    pub(super) subscriptions: Vec<Subscription>,
    /// Audiences that have their watchers.
    audiences: Vec<Operation>,
    /// Requests so far: no branch and no token is ever used twice.
    number: u32,
    /// Subscriptions measured so far, over all rounds.
    measured: u32,
    /// Requests and NOTIFYs since somebody asked.
    exchanged: (u64, u64),
}

/// One user.
pub(super) struct User {
    pub(super) credentials: Credentials,
    pub(super) cseq: u32,
    /// Entity-tag of the publication.
    pub(super) tag: Option<String>,
    /// Where in the window the user publishes.
    slot: u32,
}

/// One subscription: a dialog. Its place in the list is in its Contact, so that a NOTIFY tells whose it is.
pub(super) struct Subscription {
    pub(super) watcher: u32,
    pub(super) presentity: u32,
    pub(super) cseq: u32,
    /// To, and where requests in the dialog go: known after the 200.
    pub(super) dialog: Option<(String, String)>,
    /// Where in the window it begins or ends.
    slot: u32,
    /// The last publication that it was told of and that counted.
    told: u32,
    kept: bool,
}

/// What goes on in a place of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// PUBLISH by this user, until so many watchers have it.
    Publish { user: u32, watchers: u32 },
    /// SUBSCRIBE with its first NOTIFY, which must be active and have a document.
    Subscribe(u32),
    /// SUBSCRIBE with Expires 0 (RFC 6665 4.4.3), and its one NOTIFY.
    Fetch(u32),
    /// The end of a subscription, with its last NOTIFY.
    End(u32),
}

/// Where tasks come from.
enum Source {
    /// One list per place of the window, taken from its end.
    Lists(Vec<Vec<Task>>),
    /// New subscriptions, watchers and presentities in turns. `fetch`: they end with their first NOTIFY.
    Subscriptions { fetch: bool },
    /// Users in turns, from this one, so many, each with so many watchers.
    Publications { first: u32, count: u32, watchers: u32 },
}

/// One place in the window.
struct Slot {
    busy: Option<Task>,
    round: u32,
    /// Stands in the branch.
    number: u32,
    /// Stands in the document.
    token: u32,
    sent: Instant,
    is_answered: bool,
    /// NOTIFYs still to come.
    missing: u32,
}

impl Presence {
    /// Users `u0..`, of whom nobody publishes or watches yet.
    pub fn new(wire: Wire, users: u32, window: u32, algorithm: Algorithm) -> Presence {
        let user = |n| User {
            credentials: Credentials::new(format!("u{n}"), algorithm),
            cseq: 0,
            tag: None,
            slot: 0,
        };
        Presence {
            wire,
            window,
            users: (0..users).map(user).collect(),
            subscriptions: Vec::new(),
            audiences: Vec::new(),
            number: 0,
            measured: 0,
            exchanged: (0, 0),
        }
    }

    /// Everybody publishes once, so that there is something to see. Not measured.
    pub fn begin(&mut self) {
        let tasks = (0..self.count()).map(|user| (user, Task::Publish { user, watchers: 0 }));
        self.all_of("publish", tasks.collect());
    }

    /// Gives those who will publish in this operation their watchers. Not measured.
    pub fn prepare(&mut self, operation: Operation) {
        let Some(watchers) = operation.watchers().filter(|_| !self.audiences.contains(&operation)) else {
            return;
        };
        self.audiences.push(operation);
        let (first, count) = self.publishers(watchers);
        let pairs = (first..first + count).flat_map(|user| (1..=watchers).map(move |n| (user, n)));
        let tasks = pairs.map(|(presentity, n)| {
            let watcher = (presentity + n) % self.count();
            (watcher, Task::Subscribe(self.subscription(watcher, presentity, true)))
        });
        let tasks = tasks.collect();
        self.all_of("subscribe", tasks);
    }

    /// Measures.
    pub fn run(&mut self, operation: Operation, pace: &Loop) -> Measured {
        let source = match operation.watchers() {
            None => Source::Subscriptions { fetch: false },
            Some(watchers) => {
                let (first, count) = self.publishers(watchers);
                Source::Publications { first, count, watchers }
            }
        };
        self.work(source, pace)
    }

    /// Measures subscriptions that end with their first NOTIFY.
    pub fn fetch(&mut self, pace: &Loop) -> Measured {
        self.work(Source::Subscriptions { fetch: true }, pace)
    }

    /// Ends the subscriptions that were measured. Not measured itself.
    pub fn tidy(&mut self) {
        let live = (0..).zip(&self.subscriptions).filter(|(_, one)| one.dialog.is_some() && !one.kept);
        let tasks: Vec<(u32, Task)> = live.map(|(at, one)| (one.watcher, Task::End(at))).collect();
        if !tasks.is_empty() {
            self.all_of("end", tasks);
        }
    }

    /// Requests and NOTIFYs since the last time: the server holds a transaction of each.
    pub fn exchanged(&mut self) -> (u64, u64) {
        std::mem::take(&mut self.exchanged)
    }

    fn count(&self) -> u32 {
        u32::try_from(self.users.len()).unwrap_or(u32::MAX)
    }

    /// Who publishes to so many watchers: others for each number, so that nobody has more watchers than are waited for.
    fn publishers(&self, watchers: u32) -> (u32, u32) {
        let tenth = self.count() / 10;
        let (first, count) = match watchers {
            100 => (0, tenth),
            10 => (tenth, 4 * tenth),
            _ => (5 * tenth, 5 * tenth),
        };
        (first, count.min(MOST_WATCHERS / watchers))
    }

    fn subscription(&mut self, watcher: u32, presentity: u32, kept: bool) -> u32 {
        let at = u32::try_from(self.subscriptions.len()).expect("fewer");
        let one = Subscription { watcher, presentity, cseq: 0, dialog: None, slot: 0, told: 0, kept };
        self.subscriptions.push(one);
        at
    }

    /// Does all of these, each by its user; nobody has two requests under way.
    fn all_of(&mut self, what: &str, tasks: Vec<(u32, Task)>) {
        let number = tasks.len();
        let mut lists = vec![Vec::new(); self.window as usize];
        for (user, task) in tasks {
            lists[(user % self.window) as usize].push(task);
        }
        let pace = Loop { rate: None, seconds: Duration::from_secs(120), most: u64::MAX };
        let done = self.work(Source::Lists(lists), &pace).done();
        assert!(done * 100 >= number * 99, "{what}: the server did {done} of {number}");
    }

    fn next_number(&mut self) -> u32 {
        self.number = self.number.wrapping_add(1);
        self.number
    }

    /// What comes next in a slot: a user has one slot, so nobody has two requests under way.
    fn next_task(&mut self, source: &mut Source, at: u32, round: u32) -> Option<Task> {
        let turn = |count: u32| {
            let mine = count.saturating_sub(at).div_ceil(self.window);
            Some(at + round.checked_rem(mine)? * self.window)
        };
        match source {
            Source::Lists(lists) => lists[at as usize].pop(),
            Source::Publications { first, count, watchers } => {
                Some(Task::Publish { user: *first + turn(*count)?, watchers: *watchers })
            }
            Source::Subscriptions { fetch } => {
                let watcher = turn(self.count())?;
                self.measured = self.measured.wrapping_add(1);
                let presentity = (watcher + 1 + self.measured % (self.count() - 1)) % self.count();
                let one = self.subscription(watcher, presentity, false);
                Some(if *fetch { Task::Fetch(one) } else { Task::Subscribe(one) })
            }
        }
    }

    fn work(&mut self, mut source: Source, pace: &Loop) -> Measured {
        let begun = Instant::now();
        let idle = || Slot {
            busy: None,
            round: 0,
            number: 0,
            token: 0,
            sent: begun,
            is_answered: false,
            missing: 0,
        };
        let mut slots: Vec<Slot> = (0..self.window).map(|_| idle()).collect();
        // In turns, so that at a low rate everybody publishes as seldom as the number of users allows.
        let mut free: VecDeque<u32> = (0..self.window).collect();
        let mut measured = Measured::default();
        let mut started = 0u64;
        let room = self.exchanged.0 + self.exchanged.1 + run::MOST_HELD;
        let mut inbox = Inbox::new();
        let wait = if pace.rate.is_some() { Duration::ZERO } else { PATIENCE / 10 };
        loop {
            let now = Instant::now();
            let elapsed = now - begun;
            let due = pace.rate.map_or(u64::MAX, |rate| (elapsed.as_secs_f64() * rate) as u64);
            while elapsed < pace.seconds
                && started < due.min(pace.most)
                && self.exchanged.0 + self.exchanged.1 < room
            {
                let Some(at) = free.pop_front() else { break };
                let slot = &mut slots[at as usize];
                // Nobody is left in a slot without a task; it stays away.
                let Some(task) = self.next_task(&mut source, at, slot.round) else { continue };
                let number = self.next_number();
                *slot = Slot {
                    busy: Some(task),
                    round: slot.round + 1,
                    number,
                    token: number,
                    sent: now,
                    ..idle()
                };
                slot.missing = match task {
                    Task::Publish { user, watchers } => {
                        self.users[user as usize].slot = at;
                        watchers
                    }
                    Task::Subscribe(one) | Task::Fetch(one) | Task::End(one) => {
                        self.subscriptions[one as usize].slot = at;
                        1
                    }
                };
                started += 1;
                self.send(task, &branch(at, number), number);
            }
            if slots.iter().all(|slot| slot.busy.is_none()) {
                let held_back = elapsed < pace.seconds && started < pace.most && started >= due;
                if !held_back {
                    break;
                }
            }
            if !self.wire.receive(&mut inbox, wait) {
                if pace.rate.is_some() {
                    std::thread::sleep(NAP);
                }
                for (at, slot) in (0..).zip(&mut slots) {
                    if slot.busy.is_some() && slot.sent.elapsed() > PATIENCE {
                        slot.busy = None;
                        measured.lost += 1;
                        free.push_back(at);
                    }
                }
                continue;
            }
            for (line, message) in inbox.messages() {
                let at = match message.starts_with(b"SIP/2.0 ") {
                    true => self.answered(&mut slots, message, &mut measured),
                    false => self.notified(&mut slots, line, message),
                };
                let Some(at) = at else { continue };
                let slot = &mut slots[at as usize];
                if slot.busy.is_some() && slot.is_answered && slot.missing == 0 {
                    measured.ended(slot.sent.elapsed());
                    slot.busy = None;
                    free.push_back(at);
                }
            }
        }
        measured.elapsed = begun.elapsed();
        Measured::together(vec![measured])
    }

    fn send(&mut self, task: Task, branch: &str, token: u32) {
        self.exchanged.0 += 1;
        match task {
            Task::Publish { user, .. } => self.send_publish(user, branch, token),
            Task::Subscribe(one) => self.send_subscribe(one, branch, EXPIRES),
            Task::Fetch(one) | Task::End(one) => self.send_subscribe(one, branch, 0),
        }
    }

    /// Takes a response. Gives the slot that it concerns.
    fn answered(&mut self, slots: &mut [Slot], message: &[u8], measured: &mut Measured) -> Option<u32> {
        let (at, number) = named(message)?;
        let slot = slots.get_mut(at as usize).filter(|slot| slot.number == number && !slot.is_answered)?;
        let task = slot.busy?;
        let user = match task {
            Task::Publish { user, .. } => user,
            Task::Subscribe(one) | Task::Fetch(one) | Task::End(one) => {
                self.subscriptions[one as usize].watcher
            }
        };
        match status(message) {
            ..200 => return None,
            401 => {
                self.users[user as usize].credentials.challenged(message);
                measured.challenged += 1;
                slot.number = self.next_number();
                self.send(task, &branch(at, slot.number), slot.token);
                return None;
            }
            200 => slot.is_answered = true,
            // Lost when patience ends.
            _ => return None,
        }
        let text = |name: &[u8]| Some(std::str::from_utf8(header(message, name)?).ok()?.to_owned());
        match task {
            Task::Publish { user, .. } => self.users[user as usize].tag = text(b"SIP-ETag:"),
            Task::Subscribe(one) => {
                let contact = text(b"Contact:");
                let target = contact.as_deref().and_then(|contact| contact.split(['<', '>']).nth(1));
                self.subscriptions[one as usize].dialog = text(b"To:").zip(target.map(str::to_owned));
            }
            Task::Fetch(_) => {}
            Task::End(one) => self.subscriptions[one as usize].dialog = None,
        }
        Some(at)
    }

    /// Takes a NOTIFY and answers it. Gives the slot that it concerns.
    fn notified(&mut self, slots: &mut [Slot], line: u32, message: &[u8]) -> Option<u32> {
        let notify = Notify::read(message)?;
        self.exchanged.1 += 1;
        self.answer(line, message);
        let one = self.subscriptions.get_mut(notify.subscription as usize)?;
        let own = &mut slots[one.slot as usize];
        let is_wanted = match own.busy {
            Some(Task::Subscribe(at)) if at == notify.subscription => {
                notify.is(b"active") && notify.token.is_some()
            }
            Some(Task::Fetch(at) | Task::End(at)) if at == notify.subscription => notify.is(b"terminated"),
            _ => {
                let at = self.users[one.presentity as usize].slot;
                let slot = &mut slots[at as usize];
                let is_its = matches!(slot.busy, Some(Task::Publish { user, .. }) if user == one.presentity);
                if !is_its || notify.token != Some(slot.token) || one.told == slot.token {
                    return None;
                }
                one.told = slot.token;
                slot.missing = slot.missing.saturating_sub(1);
                return Some(at);
            }
        };
        if is_wanted {
            own.missing = 0;
        }
        Some(one.slot)
    }
}

/// Longer than any run.
const EXPIRES: u32 = 3_600;
/// Watchers of one operation, over all who publish.
const MOST_WATCHERS: u32 = 10_000;

//! What holds for a dialog whatever happens, in whatever order, in virtual time: a watcher, a presentity, a store that is away now and then, and
//! a server that is killed now and then, around the machine.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

const PACING: Pacing = Pacing { burst: 4, interval: Duration::from_secs(5), looks: false };
const FIRST_BLOCK: u32 = 64;

/// What may happen next.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// The watcher refreshes.
    Refresh,
    /// The presentity's document changes.
    Change,
    /// What the watcher may see changes.
    Decide(Standing),
    /// The NOTIFY in flight is answered, or never.
    Answer(Answer),
    /// The store finishes what it was asked, if it is not away; else it refuses.
    Store,
    StoreGoes,
    StoreComes,
    /// The watcher unsubscribes, the time is over, or the account goes.
    End(Reason),
    /// `kill -9` and a start.
    Crash,
    /// Time passes.
    Pass(u16),
}

/// The subscription's row.
#[derive(Debug, Clone, Copy)]
struct Row {
    /// As it is on disk.
    reserved: u32,
    /// A lazy row on its way there: up to what, and when it will be.
    lazy: Option<(u32, Instant)>,
    remote_cseq: u32,
}

#[derive(Debug, Clone, Copy)]
enum Asked {
    Reserve { upto: u32, durable: bool },
    Drop { remote_cseq: u32 },
}

struct World {
    now: Instant,
    dialog: Dialog,
    row: Option<Row>,
    body: u64,
    standing: Standing,
    /// What was seen by the last look, and after which SUBSCRIBE.
    seen: Option<Fingerprint>,
    looked_after: u32,
    in_flight: Option<(u32, Option<Fingerprint>)>,
    /// What the watcher has taken last.
    shown: Option<Fingerprint>,
    last_cseq: u32,
    terminated: bool,
    forgotten: bool,
    drops: u32,
    store_is_away: bool,
    asked: Vec<Asked>,
}

impl World {
    fn begin() -> World {
        #[expect(clippy::disallowed_methods, reason = "any instant will do as the beginning of virtual time")]
        let now = Instant::now();
        let mut world = World {
            now,
            dialog: Dialog::initial(now, PACING, FIRST_BLOCK),
            row: Some(Row { reserved: FIRST_BLOCK, lazy: None, remote_cseq: 1 }),
            body: 1,
            standing: Standing::Active,
            seen: None,
            looked_after: 0,
            in_flight: None,
            shown: None,
            last_cseq: 0,
            terminated: false,
            forgotten: false,
            drops: 0,
            store_is_away: false,
            asked: Vec::new(),
        };
        world.tell(Dialog::handle_subscribed);
        world
    }

    fn current(&self) -> Fingerprint {
        let body = if self.standing == Standing::Active { self.body } else { 0 };
        Fingerprint { standing: self.standing, body }
    }

    /// Tells the machine something and does what it wants, as the notifier does.
    fn tell(&mut self, handle: impl FnOnce(&mut Dialog, Instant)) {
        handle(&mut self.dialog, self.now);
        while let Some(output) = self.dialog.poll_output() {
            assert!(!self.forgotten, "{output:?} after the end");
            match output {
                Output::Look { last } => {
                    assert!(!last || self.row.is_none(), "the last look is for a row that is gone");
                    // For the last NOTIFY the row is remembered.
                    let found = self.row.is_some() || last;
                    self.seen = found.then(|| self.current());
                    self.looked_after = self.row.map_or(self.looked_after, |row| row.remote_cseq);
                    let seen = self.seen.map_or(Seen::Missing, Seen::State);
                    self.dialog.handle_state(self.now, seen);
                }
                Output::Notify { cseq, state, .. } => self.notify(cseq, state),
                Output::Reserve { upto, durable } => self.asked.push(Asked::Reserve { upto, durable }),
                Output::Drop => {
                    let drops = |asked: &&Asked| matches!(asked, Asked::Drop { .. });
                    assert_eq!(self.asked.iter().filter(drops).count(), 0, "one drop at a time");
                    self.asked.push(Asked::Drop { remote_cseq: self.looked_after });
                }
                Output::Forget => self.forgotten = true,
            }
        }
        assert_eq!(self.forgotten, self.dialog.is_over());
    }

    fn notify(&mut self, cseq: u32, state: State) {
        assert!(self.in_flight.is_none(), "one at a time: {cseq} while {:?} is on its way", self.in_flight);
        assert!(cseq > self.last_cseq, "{cseq} after {}", self.last_cseq);
        assert!(!self.terminated, "{state:?} after terminated");
        self.last_cseq = cseq;
        let ends = matches!(state, State::Terminated { .. });
        match self.row {
            Some(row) => {
                assert!(!ends, "terminated, and the row is there");
                let on_disk = match row.lazy {
                    Some((upto, at)) if at <= self.now => row.reserved.max(upto),
                    _ => row.reserved,
                };
                assert!(
                    cseq <= on_disk || self.store_is_away,
                    "{cseq}, and a restart goes on from {on_disk}"
                );
            }
            None => assert!(ends, "{state:?} without a row"),
        }
        self.terminated |= ends;
        self.in_flight = Some((cseq, self.seen.filter(|_| !ends)));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Refresh => {
                if let Some(row) = &mut self.row {
                    row.remote_cseq += 1;
                    self.tell(Dialog::handle_subscribed);
                }
            }
            Event::Change => {
                self.body += 1;
                self.react();
            }
            Event::Decide(standing) => {
                self.standing = standing;
                self.react();
            }
            Event::Answer(answer) => {
                if let Some((cseq, seen)) = self.in_flight.take() {
                    if answer == Answer::Accepted && seen.is_some() {
                        self.shown = seen;
                    }
                    self.tell(|dialog, now| dialog.handle_answer(now, cseq, answer));
                }
            }
            Event::Store => {
                if !self.asked.is_empty() {
                    let asked = self.asked.remove(0);
                    self.perform(asked);
                }
            }
            Event::StoreGoes => self.store_is_away = true,
            Event::StoreComes => self.store_is_away = false,
            Event::End(reason) => {
                if self.row.take().is_some() {
                    self.tell(|dialog, now| dialog.handle_ended(now, reason));
                }
            }
            Event::Crash => self.crash(),
            Event::Pass(ms) => {
                let until = self.now + Duration::from_millis(ms.into());
                self.pass(until);
            }
        }
    }

    fn react(&mut self) {
        if self.row.is_some() && !self.forgotten {
            let standing = self.standing;
            self.tell(|dialog, now| dialog.handle_changed(now, standing));
        }
    }

    fn perform(&mut self, asked: Asked) {
        match (asked, &mut self.row) {
            (Asked::Reserve { .. }, None) => self.reserved(Reserved::Missing),
            (Asked::Reserve { .. }, Some(_)) if self.store_is_away => self.reserved(Reserved::Refused),
            (Asked::Reserve { upto, durable }, Some(row)) => {
                if durable {
                    row.reserved = row.reserved.max(upto);
                } else {
                    row.lazy = Some((upto, self.now + Duration::from_secs(30)));
                }
                self.reserved(Reserved::Taken { upto, durable });
            }
            (Asked::Drop { .. }, Some(_)) if self.store_is_away => self.tell(Dialog::handle_not_dropped),
            (Asked::Drop { remote_cseq }, Some(row)) if row.remote_cseq != remote_cseq => {
                self.tell(Dialog::handle_not_dropped);
            }
            (Asked::Drop { .. }, row) => {
                self.drops += u32::from(row.take().is_some());
                self.tell(Dialog::handle_dropped);
            }
        }
    }

    fn reserved(&mut self, reserved: Reserved) {
        self.tell(|dialog, now| dialog.handle_reserved(now, reserved));
    }

    fn crash(&mut self) {
        self.asked.clear();
        self.in_flight = None;
        let Some(row) = &mut self.row else {
            // Nothing of it is left.
            return self.tell(|dialog, _| dialog.handle_replaced());
        };
        if let Some((upto, at)) = row.lazy.take()
            && at <= self.now
        {
            row.reserved = row.reserved.max(upto);
        }
        let turn = self.now + Duration::from_millis(500);
        self.dialog = Dialog::resumed(self.now, PACING, row.reserved, true, Some(turn));
        self.forgotten = false;
        self.react();
    }

    /// Lets time pass, with the machine's wakes on the way.
    fn pass(&mut self, until: Instant) {
        while let Some(at) = self.dialog.next_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.tell(Dialog::handle_timeout);
            if self.dialog.next_timeout() == Some(at) {
                // It waits for something else.
                break;
            }
        }
        self.now = until;
    }

    /// Faults stop: the store answers, the watcher takes everything at once.
    fn settle(&mut self, within: Duration) {
        self.store_is_away = false;
        let end = self.now + within;
        loop {
            while !self.asked.is_empty() || self.in_flight.is_some() {
                self.happen(Event::Store);
                self.happen(Event::Answer(Answer::Accepted));
            }
            match self.dialog.next_timeout().filter(|at| *at <= end) {
                Some(at) => self.pass(at.max(self.now)),
                None => break,
            }
        }
    }
}

fn answer() -> impl Strategy<Value = Answer> {
    let retry = prop_oneof![Just(None), (5_u64..300).prop_map(|s| Some(Duration::from_secs(s)))];
    prop_oneof![
        6 => Just(Answer::Accepted),
        1 => Just(Answer::Gone),
        1 => retry.prop_map(|retry_after| Answer::Failed { retry_after }),
        1 => (1_u64..10).prop_map(|s| Answer::Unsent { retry_after: Some(Duration::from_secs(s)) }),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Refresh),
        8 => Just(Event::Change),
        2 => prop_oneof![Just(Standing::Active), Just(Standing::Active), Just(Standing::Pending), Just(Standing::Refused)]
            .prop_map(Event::Decide),
        10 => answer().prop_map(Event::Answer),
        6 => Just(Event::Store),
        1 => Just(Event::StoreGoes),
        2 => Just(Event::StoreComes),
        1 => prop_oneof![Just(Reason::Timeout), Just(Reason::NoResource), Just(Reason::Rejected)].prop_map(Event::End),
        1 => Just(Event::Crash),
        6 => (0_u16..20_000).prop_map(Event::Pass),
    ]
}

/// No faults: changes, refreshes, answers within their time.
fn quiet_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => Just(Event::Change),
        1 => Just(Event::Refresh),
        3 => Just(Event::Answer(Answer::Accepted)),
        2 => Just(Event::Store),
        3 => (0_u16..3_000).prop_map(Event::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    /// Whatever happens: one NOTIFY at a time, numbers that grow over crashes and stay below what the disk knows (I4), nothing after
    /// `terminated` (I5), a row dropped once at most; and when faults stop, who still watches has the latest state (I3), who does not was told so.
    #[test]
    fn whatever_happens_the_dialog_is_right_i3_i4_i5(events in proptest::collection::vec(event(), 1..120)) {
        let mut world = World::begin();
        for event in events {
            world.happen(event);
        }
        let was_refused = world.standing == Standing::Refused;
        // The longest Retry-After, then a paced NOTIFY.
        world.settle(Duration::from_secs(400));
        prop_assert!(world.drops <= 1);
        match world.row {
            Some(_) => {
                prop_assert!(!was_refused, "who may see nothing has no row");
                prop_assert!(!world.forgotten && !world.terminated);
                prop_assert_eq!(world.shown, Some(world.current()));
                prop_assert!(!world.dialog.outlook(world.now).owes);
            }
            None => prop_assert!(world.forgotten, "nothing is held of what has ended"),
        }
    }

    /// Without faults the latest state is there within the pacing interval (I3).
    #[test]
    fn the_latest_state_is_there_within_the_pacing_i3(events in proptest::collection::vec(quiet_event(), 1..200)) {
        let mut world = World::begin();
        for event in events {
            world.happen(event);
        }
        let begin = world.now;
        world.settle(PACING.interval);
        prop_assert_eq!(world.shown, Some(world.current()));
        prop_assert!(world.now - begin <= PACING.interval);
    }
}

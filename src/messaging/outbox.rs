//! Whose messages are due when: the schedule of all recipients for whom something is stored. A machine.
//!
//! One message of a recipient is under way at a time, so their order is kept (RFC 3428 8). Recipients have their turns in the order in which they
//! became due, whoever has how many messages.

use std::collections::{BTreeSet, HashSet};
use std::time::{Duration, Instant};

use crate::model::{Aor, ByAor, HomeState, MessageId, Timestamp, Waiting};

/// The schedule.
#[derive(Debug)]
pub struct Outbox {
    /// One for each recipient of a stored message.
    lanes: ByAor<Lane>,
    due: BTreeSet<(Instant, Aor)>,
    under_way: usize,
    /// Rows of messages that are over go together, at that instant..
    tidy_at: Option<Instant>,
    /// ..of these recipients.
    untidy: HashSet<Aor>,
    /// The first pause after a failure; doubled up to [`LONGEST_PAUSE`].
    pause: Duration,
}

#[derive(Debug, Default)]
struct Lane {
    due: Option<Instant>,
    /// It has its turn.
    busy: bool,
    /// Something came while it had its turn: it is looked at again at once.
    again: bool,
    /// Attempts in a row that the devices did not take.
    failures: u32,
    /// Nothing is sent before that instant: an attempt has failed. What expires meanwhile is seen to all the same.
    quiet_until: Option<Instant>,
    /// A device has registered since its turn began.
    is_fresh: bool,
    /// What must wait for another kind of device, and does not hold up the rest.
    passed: Vec<MessageId>,
    /// Of which devices still have a copy from when they came in: not sent again before that has ended.
    out: Vec<MessageId>,
    /// Delivered, or given up: not sent again. Their rows are still to go.
    over: Vec<MessageId>,
}

/// What a recipient's turn is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It has expired and must go.
    Expired(MessageId),
    /// It is to be sent.
    Send(Waiting),
    /// Nothing can be done now.
    Rest,
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The row is gone.
    Gone,
    /// A device took it. Its row goes a little later, with others.
    Over(MessageId),
    /// It is over, but its row could not be removed.
    Undropped(MessageId),
    /// No device took it now.
    Kept,
    /// It is over, but its sender could not be told.
    Untold,
    /// Too large for the devices that are there (RFC 3428 8).
    TooLarge(MessageId),
    /// Nothing could be done; look again at that instant.
    Rested(Option<Instant>),
}

impl Outbox {
    /// Nothing is owed. `pause`: the first one after a failure.
    pub fn new(pause: Duration) -> Outbox {
        let (lanes, due, untidy) = (ByAor::default(), BTreeSet::new(), HashSet::new());
        Outbox { lanes, due, under_way: 0, tidy_at: None, untidy, pause }
    }

    /// A device of this user has registered, or the server has started: whatever waits is tried now.
    pub fn handle_reachable(&mut self, user: &Aor, now: Instant) {
        let lane = self.lanes.entry(user.clone()).or_default();
        (lane.failures, lane.again, lane.is_fresh) = (0, lane.busy, true);
        lane.quiet_until = None;
        lane.passed.clear();
        self.schedule(user, Some(now));
    }

    /// A message was stored for this user. If the last attempt failed, it waits with the others, and is looked at for when it expires.
    pub fn handle_stored(&mut self, user: &Aor, now: Instant) {
        let lane = self.lanes.entry(user.clone()).or_default();
        lane.again = lane.busy;
        self.schedule(user, Some(now));
    }

    /// The devices of this user have just not taken a message that was then stored.
    pub fn handle_failed(&mut self, user: &Aor, now: Instant) {
        let lane = self.lanes.entry(user.clone()).or_default();
        lane.rest(self.pause, now);
        self.schedule(user, Some(now));
    }

    /// Devices have a copy of this message that has not ended yet.
    pub fn hold(&mut self, user: &Aor, id: MessageId) {
        self.lanes.entry(user.clone()).or_default().out.push(id);
    }

    /// It has ended.
    pub fn release(&mut self, user: &Aor, id: MessageId) {
        if let Some(lane) = self.lanes.get_mut(user) {
            lane.out.retain(|out| *out != id);
            self.forget_if_idle(user);
        }
    }

    /// Whose turn it is. The turn ends with [`Outbox::handle_end`].
    pub fn next(&mut self, now: Instant) -> Option<Aor> {
        if self.under_way >= MAX_UNDER_WAY || self.due.first().is_none_or(|(at, _)| *at > now) {
            return None;
        }
        let (_, user) = self.due.pop_first()?;
        let lane = self.lanes.entry(user.clone()).or_default();
        (lane.due, lane.busy, lane.again, lane.is_fresh) = (None, true, false, false);
        self.under_way += 1;
        Some(user)
    }

    /// When to call [`Outbox::next`].
    pub fn next_due(&self) -> Option<Instant> {
        let (at, _) = self.due.first()?;
        (self.under_way < MAX_UNDER_WAY).then_some(*at)
    }

    /// What a user's turn is for. Whether a device is there is the caller's question.
    ///
    /// - `now`, `instant`: the same moment, for what is on disk and for what is in memory.
    pub fn turn(&self, home: &HomeState, now: Timestamp, instant: Instant) -> Turn {
        let none = Lane::default();
        let lane = self.lanes.get(&home.aor).unwrap_or(&none);
        let is_out = |one: &&Waiting| lane.out.contains(&one.id);
        let owed = || home.messages.iter().filter(|one| !lane.over.contains(&one.id));
        if let Some(expired) = owed().find(|one| one.expires_at <= now && !is_out(one)) {
            return Turn::Expired(expired.id);
        }
        if lane.is_quiet(instant) {
            return Turn::Rest;
        }
        let next = owed().find(|one| !lane.passed.contains(&one.id));
        match next {
            Some(next) if !is_out(&next) => Turn::Send(*next),
            Some(_) | None => Turn::Rest,
        }
    }

    /// Is there a message in this home that is not over?
    pub fn owes(&self, home: &HomeState) -> bool {
        let over = self.lanes.get(&home.aor).map_or(&[][..], |lane| &lane.over);
        home.messages.iter().any(|one| !over.contains(&one.id))
    }

    /// When to call [`Outbox::tidy`].
    pub fn next_tidy(&self) -> Option<Instant> {
        self.tidy_at
    }

    /// Messages that are over and whose rows are to go now, by recipient; what cannot go is to be put back ([`Outbox::handle_undropped`]).
    pub fn tidy(&mut self) -> Vec<(Aor, Vec<MessageId>)> {
        self.tidy_at = None;
        let lanes = &self.lanes;
        let over = self.untidy.drain().filter_map(|user| {
            let over = lanes.get(&user)?.over.clone();
            Some((user, over))
        });
        over.collect()
    }

    /// A turn has ended.
    pub fn handle_end(&mut self, user: &Aor, end: End, now: Instant) {
        let Some(lane) = self.lanes.get_mut(user).filter(|lane| lane.busy) else { return };
        lane.busy = false;
        self.under_way = self.under_way.saturating_sub(1);
        let due = match end {
            // What expired in a pause says nothing about the devices.
            End::Gone if lane.is_quiet(now) => Some(now),
            End::Gone => {
                lane.failures = 0;
                Some(now)
            }
            End::Over(id) => {
                (lane.failures, lane.quiet_until) = (0, None);
                note(&mut lane.over, id);
                Some(now)
            }
            End::Undropped(id) => {
                note(&mut lane.over, id);
                Some(now + self.pause)
            }
            End::TooLarge(id) => {
                note(&mut lane.passed, id);
                Some(now)
            }
            // A device that came meanwhile is tried; else the others are looked at for when the next one expires.
            End::Kept if lane.is_fresh => {
                lane.failures = lane.failures.saturating_add(1);
                Some(now + pause(self.pause, lane.failures))
            }
            End::Kept => {
                lane.rest(self.pause, now);
                Some(now)
            }
            End::Untold => {
                lane.rest(self.pause, now);
                lane.quiet_until
            }
            End::Rested(until) => {
                let quiet_until = lane.quiet_until.filter(|at| *at > now);
                until.into_iter().chain(quiet_until).min()
            }
        };
        let due = if std::mem::take(&mut lane.again) { Some(now) } else { due };
        match end {
            End::Over(_) => self.tidy_by(user, now + TOGETHER),
            End::Undropped(_) => self.tidy_by(user, now + self.pause),
            End::Gone | End::TooLarge(_) | End::Kept | End::Untold | End::Rested(_) => {}
        }
        self.schedule(user, due);
        self.forget_if_idle(user);
    }

    /// The message is gone from its home, whoever removed it.
    pub fn handle_gone(&mut self, user: &Aor, id: MessageId) {
        if let Some(lane) = self.lanes.get_mut(user) {
            for list in [&mut lane.passed, &mut lane.out, &mut lane.over] {
                list.retain(|known| *known != id);
            }
            self.forget_if_idle(user);
        }
    }

    /// It is over, but its row could not be removed: it is tried again.
    pub fn handle_undropped(&mut self, user: &Aor, id: MessageId, now: Instant) {
        note(&mut self.lanes.entry(user.clone()).or_default().over, id);
        self.tidy_by(user, now + self.pause);
    }

    /// Is nothing under way, and no row left that should have gone?
    pub fn is_settled(&self) -> bool {
        self.under_way == 0 && self.lanes.values().all(|lane| lane.over.is_empty())
    }

    /// How many messages are under way.
    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// Users for whom something is scheduled.
    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Nothing is scheduled.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    fn tidy_by(&mut self, user: &Aor, at: Instant) {
        self.untidy.insert(user.clone());
        self.tidy_at = Some(self.tidy_at.map_or(at, |earlier| earlier.min(at)));
    }

    fn schedule(&mut self, user: &Aor, at: Option<Instant>) {
        let Some(lane) = self.lanes.get_mut(user).filter(|lane| !lane.busy) else { return };
        if let Some(old) = std::mem::replace(&mut lane.due, at) {
            self.due.remove(&(old, user.clone()));
        }
        if let Some(at) = at {
            self.due.insert((at, user.clone()));
        }
    }

    fn forget_if_idle(&mut self, user: &Aor) {
        let idle =
            |lane: &Lane| !lane.busy && lane.due.is_none() && lane.out.is_empty() && lane.over.is_empty();
        if self.lanes.get(user).is_some_and(idle) {
            self.lanes.remove(user);
        }
    }
}

impl Lane {
    /// One more attempt has failed.
    fn rest(&mut self, first: Duration, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.quiet_until = Some(now + pause(first, self.failures));
    }

    fn is_quiet(&self, now: Instant) -> bool {
        self.quiet_until.is_some_and(|until| until > now)
    }
}

fn note(list: &mut Vec<MessageId>, id: MessageId) {
    if !list.contains(&id) {
        list.push(id);
    }
}

/// So long wait rows of messages that were delivered for others, to go with one commit. Each of them would be sent once more if the server died meanwhile.
const TOGETHER: Duration = Duration::from_millis(50);

/// After so many failures in a row.
fn pause(first: Duration, failures: u32) -> Duration {
    let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    first.saturating_mul(doubled).min(LONGEST_PAUSE.max(first))
}

/// However often a device has not taken a message while it stays registered.
const LONGEST_PAUSE: Duration = Duration::from_secs(1_800);
/// Messages from the store that are under way at once, over all recipients: a device that does not answer keeps one for 32 s.
const MAX_UNDER_WAY: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(30);
    const NOW: Timestamp = Timestamp(1_000);

    #[expect(clippy::disallowed_methods, reason = "a base for virtual time")]
    fn base() -> Instant {
        Instant::now()
    }

    fn aor(user: &str) -> Aor {
        Aor::new(user, "example.org").unwrap()
    }

    fn home(user: &str, messages: &[(u128, i64)]) -> HomeState {
        let mut home = HomeState::empty(aor(user));
        for (at, (id, expires_at)) in messages.iter().enumerate() {
            home.messages.put(Waiting {
                id: MessageId(*id),
                taken_at: Timestamp(at as i64),
                expires_at: Timestamp(*expires_at),
                size: 1,
                is_notification: false,
            });
        }
        home
    }

    fn sent(turn: Turn) -> u128 {
        match turn {
            Turn::Send(one) => one.id.0,
            Turn::Expired(_) | Turn::Rest => panic!("{turn:?}"),
        }
    }

    #[test]
    fn one_at_a_time_and_in_order_rfc3428_8() {
        let (mut outbox, now) = (Outbox::new(PAUSE), base());
        let (bob, mut full) = (aor("bob"), home("bob", &[(7, 9_000), (3, 9_000)]));
        outbox.handle_reachable(&bob, now);
        assert_eq!(outbox.next(now), Some(bob.clone()));
        assert_eq!(sent(outbox.turn(&full, NOW, now)), 7);
        outbox.handle_reachable(&bob, now);
        outbox.handle_stored(&bob, now);
        assert_eq!(outbox.next(now), None, "it has its turn");
        full.messages.remove(MessageId(7));
        outbox.handle_end(&bob, End::Gone, now);
        assert_eq!(outbox.next(now), Some(bob.clone()));
        assert_eq!(sent(outbox.turn(&full, NOW, now)), 3);
        outbox.handle_end(&bob, End::Gone, now);
        assert_eq!(outbox.next(now), Some(bob.clone()));
        assert_eq!(outbox.turn(&home("bob", &[]), NOW, now), Turn::Rest);
        outbox.handle_end(&bob, End::Rested(None), now);
        assert!(outbox.is_empty() && outbox.next_due().is_none() && outbox.under_way() == 0);
    }

    #[test]
    fn recipients_have_their_turns_one_after_the_other() {
        let (mut outbox, now) = (Outbox::new(PAUSE), base());
        let later = |ms| now + Duration::from_millis(ms);
        outbox.handle_reachable(&aor("carol"), later(0));
        outbox.handle_reachable(&aor("alice"), later(1));
        outbox.handle_reachable(&aor("bob"), later(2));
        assert_eq!(outbox.next(later(5)), Some(aor("carol")));
        // Whoever has more is behind those who came before.
        outbox.handle_end(&aor("carol"), End::Gone, later(5));
        assert_eq!(outbox.next(later(5)), Some(aor("alice")));
        assert_eq!(outbox.next(later(5)), Some(aor("bob")));
        assert_eq!(outbox.next(later(5)), Some(aor("carol")));
    }

    #[test]
    fn a_failure_waits_longer_each_time_until_a_device_registers_rfc3428_x3() {
        let (mut outbox, mut now) = (Outbox::new(PAUSE), base());
        let (bob, home) = (aor("bob"), home("bob", &[(1, 9_000)]));
        let rests = |outbox: &mut Outbox, now| {
            assert_eq!(outbox.next(now), Some(bob.clone()));
            assert_eq!(outbox.turn(&home, NOW, now), Turn::Rest);
            outbox.handle_end(&bob, End::Rested(Some(now + Duration::from_secs(9_000))), now);
        };
        outbox.handle_reachable(&bob, now);
        for seconds in [30, 60, 120, 240, 480, 960, 1_800, 1_800] {
            assert_eq!(outbox.next(now), Some(bob.clone()));
            assert_eq!(sent(outbox.turn(&home, NOW, now)), 1);
            outbox.handle_end(&bob, End::Kept, now);
            let due = now + Duration::from_secs(seconds);
            rests(&mut outbox, now);
            assert_eq!(outbox.next_due(), Some(due));
            outbox.handle_stored(&bob, now);
            rests(&mut outbox, now);
            assert_eq!(outbox.next_due(), Some(due), "another message does not hurry it");
            now = due;
        }
        outbox.next(now);
        outbox.handle_end(&bob, End::Kept, now);
        outbox.handle_reachable(&bob, now);
        assert_eq!(outbox.next(now), Some(bob.clone()));
        assert_eq!(sent(outbox.turn(&home, NOW, now)), 1);
        outbox.handle_end(&bob, End::Kept, now);
        rests(&mut outbox, now);
        assert_eq!(outbox.next_due(), Some(now + PAUSE), "and begins anew");
    }

    #[test]
    fn what_expires_while_its_device_is_left_alone_is_seen_to_in_time_rfc3428_7() {
        let (mut outbox, now) = (Outbox::new(PAUSE), base());
        let (bob, home) = (aor("bob"), home("bob", &[(1, 9_000), (2, 1_005)]));
        outbox.handle_reachable(&bob, now);
        outbox.next(now);
        outbox.handle_end(&bob, End::Kept, now);
        outbox.next(now);
        assert_eq!(outbox.turn(&home, NOW, now), Turn::Rest);
        let expiry = now + Duration::from_millis(5);
        outbox.handle_end(&bob, End::Rested(Some(expiry)), now);
        assert_eq!(outbox.next_due(), Some(expiry));
        assert_eq!(outbox.next(expiry), Some(bob.clone()));
        assert_eq!(outbox.turn(&home, Timestamp(1_005), expiry), Turn::Expired(MessageId(2)));
        // Its sender cannot be told now: it is tried again later, not at once.
        outbox.handle_end(&bob, End::Untold, expiry);
        let again = expiry + PAUSE * 2;
        assert_eq!(outbox.next_due(), Some(again));
        outbox.next(again);
        outbox.handle_end(&bob, End::Gone, again);
        assert_eq!(outbox.next(again), Some(bob));
    }

    #[test]
    fn a_device_that_registers_during_an_attempt_is_tried_after_it() {
        let (mut outbox, now) = (Outbox::new(PAUSE), base());
        let bob = aor("bob");
        outbox.handle_reachable(&bob, now);
        outbox.next(now);
        outbox.handle_reachable(&bob, now);
        outbox.handle_end(&bob, End::Kept, now);
        assert_eq!(outbox.next(now), Some(bob));
    }

    #[test]
    fn what_is_too_large_for_a_device_lets_the_others_pass_rfc3428_8() {
        let (mut outbox, now) = (Outbox::new(PAUSE), base());
        let (bob, home) = (aor("bob"), home("bob", &[(1, 9_000), (2, 9_000)]));
        outbox.handle_reachable(&bob, now);
        outbox.next(now);
        outbox.handle_end(&bob, End::TooLarge(MessageId(1)), now);
        assert_eq!(sent(outbox.turn(&home, NOW, now)), 2);
        // Another device may be another matter.
        outbox.handle_reachable(&bob, now);
        assert_eq!(sent(outbox.turn(&home, NOW, now)), 1);
    }

    #[test]
    fn a_message_whose_copy_is_out_holds_back_itself_and_those_behind_it() {
        let (mut outbox, now) = (Outbox::new(PAUSE), base());
        let (bob, home) = (aor("bob"), home("bob", &[(1, 9_000), (2, 9_000)]));
        outbox.hold(&bob, MessageId(1));
        outbox.handle_stored(&bob, now);
        assert_eq!(outbox.turn(&home, NOW, now), Turn::Rest);
        outbox.release(&bob, MessageId(1));
        assert_eq!(sent(outbox.turn(&home, NOW, now)), 1);
    }

    #[test]
    fn what_has_expired_is_dropped_and_never_sent_rfc3428_7() {
        let (outbox, now) = (Outbox::new(PAUSE), base());
        let home = home("bob", &[(1, 9_000), (2, 1_000)]);
        assert_eq!(outbox.turn(&home, NOW, now), Turn::Expired(MessageId(2)));
        assert_eq!(sent(outbox.turn(&home, Timestamp(999), now)), 1);
    }

    #[test]
    fn what_was_delivered_is_not_sent_again_because_its_row_is_still_there_i2() {
        let (mut outbox, now) = (Outbox::new(PAUSE), base());
        let (bob, home) = (aor("bob"), home("bob", &[(1, 9_000), (2, 9_000)]));
        outbox.handle_reachable(&bob, now);
        outbox.next(now);
        outbox.handle_end(&bob, End::Undropped(MessageId(1)), now);
        assert_eq!(sent(outbox.turn(&home, NOW, now)), 2);
        assert_eq!(outbox.next_tidy(), Some(now + PAUSE), "and its row is removed as soon as it can be");
        assert_eq!(outbox.tidy(), [(bob.clone(), vec![MessageId(1)])]);
        assert_eq!(sent(outbox.turn(&home, NOW, now)), 2, "not while it is being removed either");
        outbox.handle_undropped(&bob, MessageId(1), now);
        assert_eq!(outbox.tidy(), [(bob.clone(), vec![MessageId(1)])]);
        outbox.handle_gone(&bob, MessageId(1));
        assert!(outbox.next_tidy().is_none() && outbox.is_settled());
        assert_eq!(outbox.next_due(), Some(now + PAUSE));
    }

    #[test]
    fn the_next_message_does_not_wait_for_the_row_of_the_one_before() {
        let (mut outbox, now) = (Outbox::new(PAUSE), base());
        let (bob, home) = (aor("bob"), home("bob", &[(1, 9_000), (2, 9_000), (3, 1_000)]));
        outbox.handle_reachable(&bob, now);
        outbox.next(now);
        outbox.handle_end(&bob, End::Over(MessageId(1)), now);
        assert_eq!(outbox.next(now), Some(bob.clone()));
        assert_eq!(sent(outbox.turn(&home, Timestamp(999), now)), 2);
        let later = now + Duration::from_millis(20);
        outbox.handle_end(&bob, End::Over(MessageId(2)), later);
        outbox.handle_end(&bob, End::Over(MessageId(3)), later);
        assert!(outbox.owes(&home), "that was not its turn");
        outbox.next(later);
        outbox.handle_end(&bob, End::Over(MessageId(3)), later);
        assert!(!outbox.owes(&home));
        assert_eq!(outbox.turn(&home, NOW, now), Turn::Rest, "what is over does not expire");
        assert_eq!(outbox.next_tidy(), Some(now + TOGETHER));
        assert_eq!(outbox.tidy(), [(bob.clone(), [1, 2, 3].map(MessageId).to_vec())]);
    }
}

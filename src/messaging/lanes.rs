//! Who may be sent to now: of all messages for one recipient one is on its way to the devices, the others wait for their turn in the order in which they
//! came (RFC 3428 8: one MESSAGE outside of a dialog at a time, so that none overtakes another).

use std::collections::VecDeque;

use crate::model::{Aor, ByAor, MessageId};

/// The lanes of all recipients to whom something is on its way. `T`: what is called when its turn comes.
#[derive(Debug)]
pub struct Lanes<T>(ByAor<Lane<T>>);

#[derive(Debug)]
struct Lane<T> {
    holder: MessageId,
    waiting: VecDeque<(MessageId, T)>,
}

/// Where a message that came stands.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// It has its turn.
    First,
    /// It waits for it.
    Waits,
    /// Too many wait for this recipient.
    None,
}

impl<T> Default for Lanes<T> {
    fn default() -> Lanes<T> {
        Lanes(ByAor::default())
    }
}

impl<T> Lanes<T> {
    /// A message for this user has come.
    pub fn enter(&mut self, user: &Aor, id: MessageId, message: T) -> Place {
        let Some(lane) = self.0.get_mut(user) else {
            self.0.insert(user.clone(), Lane { holder: id, waiting: VecDeque::new() });
            return Place::First;
        };
        if lane.waiting.len() >= MAX_WAITING {
            return Place::None;
        }
        lane.waiting.push_back((id, message));
        Place::Waits
    }

    /// It is answered. Returns whose turn it is, if that was what the next one waited for.
    pub fn leave(&mut self, user: &Aor, id: MessageId) -> Option<T> {
        let lane = self.0.get_mut(user)?;
        if lane.holder != id {
            lane.waiting.retain(|(waits, _)| *waits != id);
            return None;
        }
        let Some((holder, next)) = lane.waiting.pop_front() else {
            self.0.remove(user);
            return None;
        };
        lane.holder = holder;
        Some(next)
    }
}

/// Messages that wait for one recipient: more than senders' rates let come while one is answered.
const MAX_WAITING: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn bob() -> Aor {
        Aor::new("bob", "example.org").unwrap()
    }

    #[test]
    fn one_at_a_time_in_the_order_they_came_rfc3428_8() {
        let mut lanes = Lanes::default();
        let places: Vec<_> = (1..=3).map(|id| lanes.enter(&bob(), MessageId(id), id)).collect();
        assert_eq!(places, [Place::First, Place::Waits, Place::Waits]);
        let carol = Aor::new("carol", "example.org").unwrap();
        assert_eq!(lanes.enter(&carol, MessageId(9), 9), Place::First, "others have their own");
        assert_eq!(lanes.leave(&bob(), MessageId(1)), Some(2));
        assert_eq!(lanes.leave(&bob(), MessageId(1)), None, "once");
        assert_eq!(lanes.leave(&bob(), MessageId(2)), Some(3));
        assert_eq!(lanes.leave(&bob(), MessageId(3)), None);
        assert_eq!(lanes.leave(&carol, MessageId(9)), None);
        assert!(lanes.0.is_empty());
    }

    #[test]
    fn who_does_not_wait_any_more_is_passed_over() {
        let mut lanes = Lanes::default();
        for id in 1..=3 {
            lanes.enter(&bob(), MessageId(id), id);
        }
        assert_eq!(lanes.leave(&bob(), MessageId(2)), None);
        assert_eq!(lanes.leave(&bob(), MessageId(1)), Some(3));
    }

    #[test]
    fn a_lane_has_an_end_a24() {
        let mut lanes = Lanes::default();
        let ids = 0..=u128::try_from(MAX_WAITING).unwrap();
        assert!(ids.clone().all(|id| lanes.enter(&bob(), MessageId(id), ()) != Place::None));
        assert_eq!(lanes.enter(&bob(), MessageId(u128::MAX), ()), Place::None);
        assert_eq!(lanes.leave(&bob(), MessageId(0)), Some(()));
        assert_eq!(lanes.enter(&bob(), MessageId(u128::MAX), ()), Place::Waits);
    }
}

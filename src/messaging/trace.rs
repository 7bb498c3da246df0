//! What became of the last messages: from the sender to the store, to devices and their answers. In memory, bounded, without texts.
//!
//! A message that is stored is followed beyond a restart by its row: what is owed is found there if nothing is remembered of it any more.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

use crate::messaging::admission::Kind;
use crate::model::{Aor, AsHashed, MessageId, Text, Timestamp, Transport};
use crate::sip::StatusCode;

/// The last 4,096.
#[derive(Debug, Default)]
pub struct Trace(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    known: HashMap<MessageId, Arc<Traced>, BuildHasherDefault<AsHashed>>,
    /// By the Message-ID of those that have one (RFC 5438 6.3).
    named: HashMap<Text, MessageId>,
    /// In the order in which they came.
    order: VecDeque<MessageId>,
}

/// One message.
#[derive(Debug)]
pub struct Traced {
    /// What does not change.
    pub about: About,
    steps: Mutex<Steps>,
}

/// What is known of a message, apart from what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Ours.
    pub id: MessageId,
    /// Of the sender's request.
    pub call_id: Text,
    /// `imdn.Message-ID`.
    pub message_id: Option<Text>,
    /// Authenticated.
    pub sender: Aor,
    /// Whose devices.
    pub recipient: Aor,
    /// What it is for.
    pub kind: Kind,
    /// Bytes of the body, or of what is stored.
    pub bytes: usize,
}

#[derive(Debug, Default)]
struct Steps {
    all: SmallVec<[(Timestamp, Step); 6]>,
    /// Between the first and the last ones.
    left_out: u32,
}

/// What happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It came, by this transport.
    Came(Transport),
    /// Another one for the same user is on its way.
    Waits,
    /// It is put before the store.
    Stores,
    /// It is on disk.
    Stored,
    /// It is not, and will not be.
    NotStored(StatusCode),
    /// Its row was found when the server started, or after it had been forgotten here.
    Found,
    /// Its turn has come among those that are stored.
    Picked,
    /// Sent to this device.
    Sent(Text),
    /// What this device said; `true`: nothing, and that stands for it.
    Ended(Text, StatusCode, bool),
    /// The sender was answered.
    Answered(StatusCode),
    /// No device took it now; it is tried again.
    Kept,
    /// A device has it, and its row is gone.
    Delivered,
    /// Every device refuses it for good, and its row is gone.
    GivenUp,
    /// It has expired, and its row is gone.
    Expired,
    /// Its row does not read.
    Unreadable,
    /// Somebody was told what became of it, or told us (RFC 5438): what.
    Receipt(Text),
}

impl Traced {
    /// One more step.
    pub fn note(&self, at: Timestamp, step: Step) {
        let mut steps = self.steps();
        if steps.all.len() >= MAX_STEPS {
            steps.all.remove(FIRST_STEPS);
            steps.left_out = steps.left_out.saturating_add(1);
        }
        steps.all.push((at, step));
    }

    /// All that are kept, in their order, and how many are left out after the first ones.
    pub fn taken(&self) -> (Vec<(Timestamp, Step)>, u32) {
        let steps = self.steps();
        (steps.all.to_vec(), steps.left_out)
    }

    fn steps(&self) -> MutexGuard<'_, Steps> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trace {
    /// A message begins here, with this step. The oldest one is forgotten for it.
    pub fn begin(&self, about: About, at: Timestamp, step: Step) -> Arc<Traced> {
        let traced = Arc::new(Traced { about, steps: Mutex::default() });
        traced.note(at, step);
        let mut ring = self.ring();
        if ring.order.len() >= MAX_MESSAGES
            && let Some(old) = ring.order.pop_front()
            && let Some(old) = ring.known.remove(&old)
            && let Some(name) = &old.about.message_id
            && ring.named.get(name) == Some(&old.about.id)
        {
            ring.named.remove(name);
        }
        let id = traced.about.id;
        if let Some(name) = &traced.about.message_id {
            ring.named.insert(name.clone(), id);
        }
        if ring.known.insert(id, traced.clone()).is_none() {
            ring.order.push_back(id);
        }
        traced
    }

    /// One of them.
    pub fn of(&self, id: MessageId) -> Option<Arc<Traced>> {
        self.ring().known.get(&id).cloned()
    }

    /// One more step of a message that is remembered.
    pub fn note(&self, id: MessageId, at: Timestamp, step: Step) {
        if let Some(traced) = self.of(id) {
            traced.note(at, step);
        }
    }

    /// The same for one that is known by its Message-ID: a receipt was made, sent or has come.
    pub fn note_receipt(&self, message_id: &str, at: Timestamp, what: &str) {
        let id = self.ring().named.get(&Text::from(message_id)).copied();
        if let Some(id) = id {
            self.note(id, at, Step::Receipt(what.into()));
        }
    }

    /// All to which a name belongs, in the order in which they came: our id (also as it stands in the Call-ID towards devices), the sender's Call-ID, or the
    /// Message-ID.
    pub fn find(&self, name: &str) -> Vec<Arc<Traced>> {
        let ring = self.ring();
        let all = ring.order.iter().filter_map(|id| ring.known.get(id));
        all.filter(|traced| traced.about.is_called(name)).cloned().collect()
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl About {
    /// Does this name belong to it?
    pub fn is_called(&self, name: &str) -> bool {
        let ours = name.split('@').next().filter(|id| id.len() == 32);
        *self.call_id == *name
            || self.message_id.as_deref() == Some(name)
            || ours.is_some_and(|id| u128::from_str_radix(id, 16) == Ok(self.id.0))
    }
}

/// Some 3 MiB.
const MAX_MESSAGES: usize = 4_096;
/// Of one message: a device that never takes it is asked for a week.
const MAX_STEPS: usize = 48;
/// How it began is always kept.
const FIRST_STEPS: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_217_355_000);

    fn about(id: u128, name: Option<&str>) -> About {
        let aor = |user| Aor::new(user, "example.org").unwrap();
        About {
            id: MessageId(id),
            call_id: format!("call-{id}").into(),
            message_id: name.map(Text::from),
            sender: aor("alice"),
            recipient: aor("bob"),
            kind: Kind::Text,
            bytes: 5,
        }
    }

    #[test]
    fn a_message_is_found_by_each_of_its_names() {
        let trace = Trace::default();
        trace.begin(about(7, Some("34jk324j")), NOW, Step::Came(Transport::Udp));
        trace.begin(about(8, None), NOW, Step::Came(Transport::Udp));
        let ours = MessageId(7).to_string();
        for name in ["call-7", "34jk324j", &ours, &format!("{ours}@example.org")] {
            let found = trace.find(name);
            assert_eq!(found.iter().map(|one| one.about.id.0).collect::<Vec<_>>(), [7], "{name}");
        }
        assert!(trace.find("call-9").is_empty() && trace.find("").is_empty());
    }

    #[test]
    fn steps_are_kept_in_their_order_and_receipts_with_them() {
        let trace = Trace::default();
        let traced = trace.begin(about(7, Some("34jk324j")), NOW, Step::Came(Transport::Udp));
        traced.note(NOW.after_secs(1), Step::Stored);
        trace.note(MessageId(7), NOW.after_secs(2), Step::Delivered);
        trace.note_receipt("34jk324j", NOW.after_secs(3), "delivered");
        trace.note_receipt("unheard-of", NOW, "delivered");
        let (steps, left_out) = traced.taken();
        let steps: Vec<_> = steps.into_iter().map(|(_, step)| step).collect();
        let receipt = Step::Receipt("delivered".into());
        assert_eq!(
            (steps, left_out),
            (vec![Step::Came(Transport::Udp), Step::Stored, Step::Delivered, receipt], 0)
        );
    }

    #[test]
    fn messages_and_their_steps_are_bounded_a24() {
        let trace = Trace::default();
        for id in 0..u128::try_from(MAX_MESSAGES).unwrap() + 10 {
            trace.begin(about(id, Some(&format!("name-{id}"))), NOW, Step::Came(Transport::Udp));
        }
        let ring = trace.ring();
        assert_eq!([ring.known.len(), ring.named.len(), ring.order.len()], [MAX_MESSAGES; 3]);
        drop(ring);
        assert!(trace.find("call-9").is_empty());
        let traced = trace.of(MessageId(10)).unwrap();
        (0..100).for_each(|_| traced.note(NOW, Step::Kept));
        traced.note(NOW, Step::Expired);
        let (steps, left_out) = traced.taken();
        assert_eq!((steps.len(), left_out), (MAX_STEPS, 54));
        assert_eq!(steps.first().unwrap().1, Step::Came(Transport::Udp));
        assert_eq!(steps.last().unwrap().1, Step::Expired);
    }
}

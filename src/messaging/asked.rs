//! Who got the messages whose senders want to be told of: only they may tell (RFC 5438 14.1). In memory, so as far as is known.

use std::collections::{HashSet, VecDeque};

/// The last [`MAX_KNOWN`] of them. Keys are keyed hashes.
#[derive(Debug, Default)]
pub struct Asked {
    messages: HashSet<u64>,
    recipients: HashSet<u64>,
    order: VecDeque<(u64, u64)>,
}

impl Asked {
    /// A message goes to somebody. `message`: of its sender and its Message-ID; `recipient`: of these and the recipient.
    pub fn note(&mut self, message: u64, recipient: u64) {
        if !self.recipients.insert(recipient) {
            return;
        }
        self.messages.insert(message);
        self.order.push_back((message, recipient));
        if self.order.len() > MAX_KNOWN
            && let Some((message, recipient)) = self.order.pop_front()
        {
            // If it went to others too they may tell, and for a while anybody: as after a start.
            self.messages.remove(&message);
            self.recipients.remove(&recipient);
        }
    }

    /// Did the message go to others only?
    pub fn knows_better(&self, message: u64, recipient: u64) -> bool {
        self.messages.contains(&message) && !self.recipients.contains(&recipient)
    }
}

/// 3 MiB; beyond it the oldest are forgotten.
const MAX_KNOWN: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_got_a_message_tells_of_it_rfc5438_14_1() {
        let mut asked = Asked::default();
        asked.note(1, 11);
        asked.note(1, 12);
        assert!(!asked.knows_better(1, 11) && !asked.knows_better(1, 12));
        assert!(asked.knows_better(1, 13));
        assert!(!asked.knows_better(2, 13), "of that message nothing is known");
    }

    #[test]
    fn it_is_bounded_and_what_is_forgotten_accuses_nobody_a24() {
        let mut asked = Asked::default();
        let many = u64::try_from(MAX_KNOWN).unwrap() + 5;
        for message in 0..many {
            asked.note(message, many + message);
            asked.note(message, many + message);
        }
        assert_eq!((asked.order.len(), asked.recipients.len()), (MAX_KNOWN, MAX_KNOWN));
        assert!(!asked.knows_better(0, 1));
        assert!(asked.knows_better(many - 1, 1));
    }
}

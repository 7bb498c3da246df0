//! How many messages one user may send, and how many one may get from strangers (`A26`).

use std::time::Duration;

use crate::messaging::admission::Kind;
use crate::model::rate::Rate;
use crate::model::{Aor, Timestamp};

/// What may come at once, and how much in a minute goes on coming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// At once.
    pub burst: u32,
    /// In a minute.
    pub per_minute: u32,
}

impl Allowance {
    fn rate(self) -> Rate {
        Rate::new(self.burst, Duration::from_secs(60) / self.per_minute.max(1))
    }
}

/// The buckets. That somebody is typing, or has read something, takes nothing from what they may write.
#[derive(Debug)]
pub(super) struct Protection {
    texts: Rate,
    typing: Rate,
    notifications: Rate,
    strangers: Rate,
}

impl Protection {
    /// - `of_sender`: for each kind of message.
    /// - `of_strangers`: for one recipient, from all senders whom they do not watch.
    pub(super) fn new(of_sender: Allowance, of_strangers: Allowance) -> Protection {
        Protection {
            texts: of_sender.rate(),
            typing: of_sender.rate(),
            notifications: of_sender.rate(),
            strangers: of_strangers.rate(),
        }
    }

    /// One more message. `is_known`: the recipient watches the sender.
    ///
    /// # Errors
    /// After how many seconds there will be room for it.
    pub(super) fn take(
        &self,
        kind: Kind,
        sender: &Aor,
        recipient: &Aor,
        is_known: bool,
        now: Timestamp,
    ) -> Result<(), u32> {
        match kind {
            Kind::Text => self.texts.take(sender, now),
            Kind::Typing => self.typing.take(sender, now),
            Kind::Notification => self.notifications.take(sender, now),
        }?;
        if is_known || kind == Kind::Notification {
            return Ok(());
        }
        self.strangers.take(recipient, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_217_355_000);

    fn aor(user: &str) -> Aor {
        Aor::new(user, "example.org").unwrap()
    }

    fn protection(strangers: u32) -> Protection {
        let of = |burst| Allowance { burst, per_minute: 60 };
        Protection::new(of(120), of(strangers))
    }

    #[test]
    fn of_a_thousand_at_once_the_burst_passes_and_then_one_a_second_a26() {
        let protection = protection(10_000);
        let (alice, bob) = (aor("alice"), aor("bob"));
        let passed = |now| {
            (0..1_000).filter(|_| protection.take(Kind::Text, &alice, &bob, false, now).is_ok()).count()
        };
        assert_eq!(passed(NOW), 120);
        assert_eq!(protection.take(Kind::Text, &alice, &bob, false, NOW), Err(1));
        assert_eq!(passed(NOW.after_secs(3)), 3);
        // Others have their own, and so have other kinds.
        assert_eq!(protection.take(Kind::Text, &aor("carol"), &bob, false, NOW), Ok(()));
        assert_eq!(protection.take(Kind::Typing, &alice, &bob, false, NOW), Ok(()));
        assert_eq!(protection.take(Kind::Notification, &alice, &bob, false, NOW), Ok(()));
    }

    #[test]
    fn strangers_share_what_a_recipient_bears_and_friends_do_not_a26() {
        let protection = protection(5);
        let bob = aor("bob");
        let from = |number: u32, is_known| {
            protection.take(Kind::Text, &aor(&format!("u{number}")), &bob, is_known, NOW)
        };
        assert!((0..5).all(|number| from(number, false).is_ok()));
        assert_eq!(from(6, false), Err(1));
        assert!((7..107).all(|number| from(number, true).is_ok()));
        assert_eq!(protection.take(Kind::Text, &aor("u6"), &aor("carol"), false, NOW), Ok(()));
    }
}

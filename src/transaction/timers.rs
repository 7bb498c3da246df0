//! Timer values (RFC 3261 table 4, RFC 6026 8.11, RFC 4320 4) and the doubling of a retransmission timer.

use std::time::{Duration, Instant};

/// Round-trip estimate.
pub const T1: Duration = Duration::from_millis(500);
/// Maximum retransmit interval.
pub const T2: Duration = Duration::from_secs(4);
/// Maximum time a message stays in the network.
pub const T4: Duration = Duration::from_secs(5);
/// Timers B, F, H, J, L, M.
pub const T1_64: Duration = Duration::from_secs(32);
/// Timer D on unreliable transports.
pub const TIMER_D: Duration = Duration::from_secs(32);
/// When an INVITE server transaction sends 100 by itself (17.2.1).
pub const TRYING_AFTER: Duration = Duration::from_millis(200);
/// When a non-INVITE server transaction may send 100: Timer E of the client has reached T2 (RFC 4320 4.1).
///
/// Timer E fires after 0.5 s, 1 s and 2 s; at 3.5 s it is reset to T2.
pub const NON_INVITE_TRYING_AFTER: Duration = Duration::from_millis(3_500);
/// How long a non-INVITE server transaction without a final answer is kept over unreliable transports.
///
/// No RFC names this timer. The client started Timer F (64*T1) before the request reached us, so after 64*T1 here nobody waits for an
/// answer any more; its last retransmission may still be on its way for T4 and must not be taken for a new request.
pub const UNANSWERED: Duration = T1_64.saturating_add(T4);

/// A timer that resends with growing intervals: A, E and G.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retransmit {
    due: Instant,
    doublings: u8,
}

impl Retransmit {
    /// Fires first after T1; never on reliable transports (17.1.1.2, 17.1.2.2, 17.2.1).
    pub(super) fn start(now: Instant, reliable: bool) -> Option<Retransmit> {
        (!reliable).then(|| Retransmit { due: now + T1, doublings: 0 })
    }
    /// When it fires next.
    pub(super) fn due(&self) -> Instant {
        self.due
    }
    /// Has fired: the next interval is twice the last one, at most `cap`.
    pub(super) fn double(&mut self, now: Instant, cap: Duration) {
        // 2^16 * T1 is beyond every cap, so counting further says nothing.
        self.doublings = self.doublings.saturating_add(1).min(16);
        self.due = now + T1.saturating_mul(1 << self.doublings).min(cap);
    }
    /// Has fired: the next interval is `interval`, whatever the last one was.
    pub(super) fn again_after(&mut self, now: Instant, interval: Duration) {
        self.due = now + interval;
    }
}

/// The earlier of two timers that may both be off.
pub(super) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::testing::epoch;

    #[test]
    fn intervals_double_to_the_cap_and_stay_there_rfc3261_17_1_2_2() {
        let mut now = epoch();
        let mut timer = Retransmit::start(now, false).expect("unreliable");
        let mut intervals = Vec::new();
        for _ in 0..300 {
            intervals.push(timer.due().duration_since(now).as_millis());
            now = timer.due();
            timer.double(now, T2);
        }
        assert_eq!(intervals[..6], [500, 1_000, 2_000, 4_000, 4_000, 4_000]);
        assert!(intervals[6..].iter().all(|&interval| interval == 4_000));
    }

    #[test]
    fn reliable_transports_have_no_retransmission_timer_rfc3261_17_1_1_2() {
        assert_eq!(Retransmit::start(epoch(), true), None);
    }

    #[test]
    fn hundred_is_due_when_timer_e_is_reset_to_t2_rfc4320_4_1() {
        let start = epoch();
        let mut timer_e = Retransmit::start(start, false).expect("unreliable");
        let mut now = start;
        loop {
            let fired = timer_e.due();
            timer_e.double(fired, T2);
            now = now.max(fired);
            if timer_e.due().duration_since(fired) == T2 {
                break;
            }
        }
        assert_eq!(now.duration_since(start), NON_INVITE_TRYING_AFTER);
    }
}

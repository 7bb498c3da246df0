//! Timer values (RFC 3261 table 4).

use std::time::Duration;

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
pub const NON_INVITE_TRYING_AFTER: Duration = Duration::from_millis(3_500);

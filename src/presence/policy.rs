//! What the operator decides about presence.

use std::net::IpAddr;
use std::time::Duration;

use crate::availability::view::DomainRules;
use crate::model::Reject;
use crate::presence::waiting;
use crate::sip::{HeaderName, StatusCode};

/// Bounds of an expiry in seconds: `min_s <= default_s <= max_s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intervals {
    /// A shorter one is refused with 423.
    pub min_s: u32,
    /// What who asks for nothing gets.
    pub default_s: u32,
    /// A longer one is shortened.
    pub max_s: u32,
}

impl Intervals {
    /// The interval to grant; never longer than what was requested (RFC 6665 3.1.1, RFC 3903 6 step 4). 0 stays 0.
    ///
    /// - `cap_s`: a further upper bound, during an outage of the store.
    ///
    /// # Errors
    /// 423 with Min-Expires for a requested interval between 0 and the minimum, both exclusive.
    pub fn choose(&self, requested: Option<u32>, cap_s: Option<u32>) -> Result<u32, Reject> {
        let chosen = match requested {
            Some(0) => return Ok(0),
            Some(requested) if requested < self.min_s => {
                return Err(Reject::new(StatusCode::INTERVAL_TOO_BRIEF)
                    .with(HeaderName::MinExpires, self.min_s.to_string()));
            }
            Some(requested) => requested.min(self.max_s),
            None => self.default_s.min(self.max_s),
        };
        Ok(chosen.min(cap_s.unwrap_or(u32::MAX)))
    }
}

/// Everything that may be set about PUBLISH, SUBSCRIBE and NOTIFY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Expiry of publications.
    pub publication: Intervals,
    /// Live publications of one AoR (`A24`).
    pub max_publications_per_aor: usize,
    /// PUBLISHes of one user that may come at once (`A25`).
    pub publish_burst: u32,
    /// PUBLISHes of one user that may come in a second, again and again.
    pub publish_per_second: u32,
    /// Expiry of subscriptions.
    pub subscription: Intervals,
    /// Live subscriptions of one watcher, fetches in hand included (`A24`).
    pub max_per_watcher: usize,
    /// Live subscriptions to one presentity (`A24`).
    pub max_per_presentity: usize,
    /// Requests that outlive their subscriptions (RFC 3857 4.7.1).
    pub waiting: waiting::Limits,
    /// Who sees whom where the owner has no rules, and who sees nobody.
    pub domain: DomainRules,
    /// NOTIFYs of one subscription that may go at once before pacing begins (`A25`).
    pub notify_burst: u32,
    /// After the burst, one NOTIFY of a subscription per this time.
    pub notify_interval: Duration,
    /// No longer expiry for a subscription taken while the store is away.
    pub outage_subscription_s: u32,
    /// No longer expiry for a publication taken while the store is away.
    pub outage_publication_s: u32,
    /// Networks to which no connection is made for a NOTIFY, besides those that are always refused (`A14`).
    pub denied: Vec<(IpAddr, u8)>,
    /// Compose a document once for all who may see the same, or anew for each of them?
    pub keep_documents: bool,
}

impl Default for Policy {
    fn default() -> Policy {
        let intervals = Intervals { min_s: 60, default_s: 3_600, max_s: 86_400 };
        Policy {
            publication: intervals,
            max_publications_per_aor: 16,
            publish_burst: 50,
            publish_per_second: 10,
            subscription: intervals,
            max_per_watcher: 500,
            max_per_presentity: 10_000,
            waiting: waiting::Limits::default(),
            domain: DomainRules::default(),
            notify_burst: 4,
            notify_interval: Duration::from_secs(5),
            outage_subscription_s: 300,
            outage_publication_s: 120,
            denied: Vec::new(),
            keep_documents: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVALS: Intervals = Intervals { min_s: 60, default_s: 3_600, max_s: 7_200 };

    #[test]
    fn missing_expires_gets_the_default_rfc3856_6_4() {
        assert_eq!(INTERVALS.choose(None, None), Ok(3_600));
    }

    #[test]
    fn expiry_is_shortened_and_never_lengthened_rfc6665_3_1_1() {
        assert_eq!(INTERVALS.choose(Some(100_000), None), Ok(7_200));
        assert_eq!(INTERVALS.choose(Some(61), None), Ok(61));
    }

    #[test]
    fn too_brief_is_423_with_min_expires_but_never_for_zero_rfc3903_6() {
        let reject = INTERVALS.choose(Some(59), None).unwrap_err();
        assert_eq!(reject.status, StatusCode::INTERVAL_TOO_BRIEF);
        assert_eq!(reject.headers[0], (HeaderName::MinExpires, "60".to_owned()));
        assert_eq!(INTERVALS.choose(Some(0), None), Ok(0));
    }

    #[test]
    fn during_an_outage_expiry_is_capped() {
        assert_eq!(INTERVALS.choose(None, Some(300)), Ok(300));
        assert_eq!(INTERVALS.choose(Some(60), Some(300)), Ok(60));
    }
}

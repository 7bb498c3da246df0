//! Presence: the walls.
use std::sync::Arc;
use std::time::Duration;

use crate::availability::view::DomainDefault;
use crate::endpoint::{Endpoint, ServerTransaction};
use crate::home::Homes;
use crate::model::{Aor, Flow, HomeState, Subscription, Timestamp};
use crate::sip::Request;

/// Intervals.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct Intervals {
    pub min_s: u32,
    pub default_s: u32,
    pub max_s: u32,
}
/// Policy.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Policy {
    pub publication: Intervals,
    pub subscription: Intervals,
    pub max_publications_per_aor: usize,
    pub max_per_watcher: usize,
    pub max_per_presentity: usize,
    pub domain_default: DomainDefault,
    pub notify_burst: u32,
    pub notify_interval: Duration,
}
/// Presence.
#[derive(Debug)]
pub struct Presence {}
#[allow(missing_docs)]
impl Presence {
    pub fn new(_: Arc<Homes>, _: Arc<Endpoint>, _: Policy) -> Presence {
        Presence {}
    }
    pub fn publish(&self, request: Request, transaction: ServerTransaction, _: &Aor, _: Aor, _: Timestamp) {
        transaction.fault(&request);
    }
    pub fn subscribe(
        &self,
        request: Request,
        _: Flow,
        transaction: ServerTransaction,
        _: Aor,
        _: Aor,
        _: Timestamp,
    ) {
        transaction.fault(&request);
    }
    pub async fn run(self: Arc<Self>, mut stop: tokio::sync::watch::Receiver<bool>) {
        let _ = stop.changed().await;
    }
    pub fn ended(&self, _: &Arc<Subscription>) {}
    pub fn removed(&self, _: &[Arc<HomeState>], _: &Aor) {}
}

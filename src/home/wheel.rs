//! What has ended is taken out of homes: expired bindings, publications, subscriptions, and who has waited long enough; and a publication that means something else from now on
//! is said to have changed. Who wanted to be reminded is.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::home::Homes;
use crate::model::{Durability, HomeState, Moved, Plan, Publication, Row, Subscription, Timestamp};

impl Homes {
    /// Sweeps until `stop` is set. Expired rows are never *used*, swept or not; sweeping is what makes watchers hear of it.
    ///
    /// - `ended`: told of every subscription that expired, after it is gone.
    /// - `unanswered`: which rows keep those that expire undecided (RFC 3857 4.7.1: "waiting"); asked before, of the home as it is.
    pub async fn run_wheel(
        self: Arc<Self>,
        ended: impl Fn(&Arc<Subscription>) + Send + Sync + Clone + 'static,
        unanswered: impl Fn(&HomeState, Timestamp) -> Vec<Row> + Send + Sync + 'static,
        mut stop: tokio::sync::watch::Receiver<bool>,
    ) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                _ = stop.changed() => return,
            }
            let now = (self.clock)();
            self.mark_reminded(now);
            for aor in self.due(now) {
                let ended = ended.clone();
                let kept = {
                    let home = self.read(&aor);
                    let expires = home.subscriptions.ended(now).next().is_some();
                    if expires { unanswered(&home, now) } else { Vec::new() }
                };
                self.change(
                    &aor,
                    move |state, _| Ok(sweep(state, &kept, now)),
                    move |result| {
                        if let Ok((subscriptions, _)) = result {
                            subscriptions.iter().for_each(&ended);
                        }
                    },
                );
            }
        }
    }
}

/// Drops what has ended, and the turns that have come. The rows are lazy: a row left behind by a crash is expired when it is loaded, and swept
/// again. Only the end of a subscription is durable: it would be given grace at the next start, and its watcher be told more after
/// `terminated` (RFC 6665 4.1.3).
///
/// - `kept`: rows that go with the end of subscriptions; those of one that has not ended after all are left out.
pub fn sweep(state: &HomeState, kept: &[Row], now: Timestamp) -> (Plan, Vec<Arc<Subscription>>) {
    let mut rows: SmallVec<[Row; 1]> = SmallVec::new();
    let mut moved = Moved::default();
    for binding in state.bindings.iter().filter(|b| b.is_expired(now)) {
        rows.push(Row::DropBinding(state.aor.clone(), binding.key.clone()));
        moved.presence = true;
    }
    for publication in state.publications.iter().filter(|p| p.next_due() <= now) {
        rows.push(if publication.expires_at <= now {
            Row::DropPublication(state.aor.clone(), publication.id)
        } else {
            let turns = publication.turns.iter().filter(|turn| **turn > now).copied().collect();
            Row::PutPublication(Arc::new(Publication { turns, ..Publication::clone(publication) }))
        });
        moved.presence = true;
    }
    let ended: Vec<_> = state.subscriptions.ended(now).cloned().collect();
    for subscription in &ended {
        rows.push(Row::DropSubscription(state.aor.clone(), subscription.id));
        moved.watchers = true;
    }
    for waiting in state.waiting.iter().filter(|waiting| waiting.gives_up_at <= now) {
        rows.push(Row::DropWaiting(state.aor.clone(), waiting.watcher.clone()));
        moved.watchers = true;
    }
    let goes_on = |row: &Row| matches!(row, Row::PutWaiting(w) if ended.iter().all(|s| s.id != w.id));
    rows.extend(kept.iter().filter(|row| !goes_on(row)).cloned());
    let durability = if ended.is_empty() { Durability::Lazy } else { Durability::Durable };
    (Plan { rows, durability, moved }, ended)
}

const TICK: Duration = Duration::from_millis(100);

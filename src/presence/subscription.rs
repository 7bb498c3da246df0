//! What one SUBSCRIBE does to the subscriptions of a presentity (RFC 6665 4.2.1, RFC 3856 6).

use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use crate::availability::sphere;
use crate::availability::view::Grant;
use crate::home::{Decision, Mode};
use crate::model::{
    Aor, DialogParts, DialogTexts, Durability, Flow, HomeState, Moved, Package, Plan, Reject, Row,
    Subscription, SubscriptionId, Text, Timestamp,
};
use crate::presence::numbers::BLOCK;
use crate::presence::package;
use crate::presence::policy::{Intervals, Policy};
use crate::presence::subscribe::{Named, Subscribe};
use crate::presence::waiting;
use crate::sip::{HeaderName, StatusCode};

/// Who subscribes, and what the new subscription will be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Authenticated.
    pub watcher: Aor,
    /// The way back.
    pub flow: Flow,
    /// Our tag for a new dialog.
    pub local_tag: String,
    /// For a new subscription: random, no other call has had it.
    pub id: SubscriptionId,
    /// For how many presentities the watcher waits (RFC 3857 4.7.1).
    pub waits_for: usize,
}

/// What a SUBSCRIBE came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Expires of the 200, in seconds.
    pub expires: u32,
    /// As it is now; for what ended, as it was last.
    pub subscription: Arc<Subscription>,
    /// What happened to it.
    pub outcome: Outcome,
    /// Subscriptions whose place it takes: the same dialog, begun anew by a watcher that never heard of the first.
    pub replaces: SmallVec<[SubscriptionId; 1]>,
}

/// What happened to a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It began.
    Begun,
    /// It goes on.
    Refreshed,
    /// Its watcher ended it.
    Ended,
    /// State was fetched; there was never a row (RFC 6665 4.4.3).
    Fetched,
}

/// Applies one SUBSCRIBE of an authenticated watcher.
///
/// - `home`: the presentity's; `watched`: the watcher's own, for the reciprocal rule.
///
/// New and ended subscriptions are durable, refreshes are lazy and move nothing; a fetch leaves no row. What ends before the owner has decided
/// waits (RFC 3857 4.7.1), a fetch too.
///
/// # Errors
/// New: 403 if the owner's rules refuse the watcher, 503 if the presentity has as many watchers as it may have. In a dialog: 481 if
/// there is no such subscription, 403 if it is somebody else's or of another event, 500 for an old CSeq. 423 with Min-Expires for both.
pub fn subscribe(
    home: &HomeState,
    watched: &HomeState,
    request: &Subscribe,
    source: &Source,
    now: Timestamp,
    policy: &Policy,
    mode: Mode,
) -> Decision<Accepted> {
    let cap = (mode == Mode::Volatile).then_some(policy.outage_subscription_s);
    // RFC 6665 4.2.1.1: 423 only for durations of less than an hour.
    let intervals = package::intervals(request.package, policy);
    let intervals = Intervals { min_s: intervals.min_s.min(3_600), ..intervals };
    if request.wanted.selection.is_some() && source.watcher != home.aor {
        // RFC 4235 3.7.2: single dialogs are for those who have them.
        return Err(Reject::new(StatusCode::FORBIDDEN));
    }
    let sphere = || sphere::sphere(home, now);
    let granted = || package::grant(request.package, home, &source.watcher, watched, policy, &sphere, now);
    match &request.local_tag {
        None => {
            let granted = granted();
            if granted == Grant::Rejected {
                return Err(Reject::new(StatusCode::FORBIDDEN));
            }
            let is_pending = granted == Grant::Pending;
            begin(home, request, source, now, policy, is_pending, intervals.choose(request.expires, cap)?)
        }
        Some(local_tag) => {
            let current = find(home, request, local_tag, &source.watcher, now)
                .ok_or_else(|| Reject::new(StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST))?;
            if current.watcher != source.watcher {
                return Err(Reject::new(StatusCode::FORBIDDEN));
            }
            if (current.package, current.event_id.as_deref())
                != (request.package, request.event_id.as_deref())
            {
                // RFC 6665 4.5.2
                return Err(Reject::because(StatusCode::FORBIDDEN, "Dialog Sharing Is Not Supported"));
            }
            if request.cseq < current.remote_cseq {
                // RFC 3261 12.2.2
                return Err(Reject::new(StatusCode::SERVER_INTERNAL_ERROR));
            }
            let expires = intervals.choose(request.expires, cap)?;
            let mut decision = go_on(current, request, source, now, expires)?;
            if expires == 0 && granted() == Grant::Pending {
                let kept = waiting::keep(home, current, source.waits_for, &policy.waiting, now);
                decision.0.rows.extend(kept);
            }
            Ok(decision)
        }
    }
}

/// Drops a subscription whose watcher is gone or refused, unless it was refreshed since.
///
/// - `remote_cseq`: of the SUBSCRIBE that was the last one when the reason to drop it arose.
/// - `kept`: the rows that keep it waiting, if nobody has decided about it.
pub fn drop_row(home: &HomeState, id: SubscriptionId, remote_cseq: u32, kept: &[Row]) -> (Plan, Dropped) {
    match by_id(home, id) {
        None => (Plan::nothing(), Dropped::Missing),
        Some(current) if current.remote_cseq != remote_cseq => (Plan::nothing(), Dropped::Refreshed),
        Some(current) => {
            let mut plan = drop_plan(home, current);
            plan.rows.extend(kept.iter().cloned());
            (plan, Dropped::Now)
        }
    }
}

/// Ends the first [`ENDED_AT_ONCE`] subscriptions.
pub fn end_some(home: &HomeState) -> (Plan, Vec<Arc<Subscription>>) {
    let ended: Vec<_> = home.subscriptions.iter().take(ENDED_AT_ONCE).cloned().collect();
    let plan = Plan {
        rows: ended.iter().map(|s| Row::DropSubscription(home.aor.clone(), s.id)).collect(),
        durability: Durability::Durable,
        moved: Moved::default(),
    };
    (plan, ended)
}

/// As many rows as one commit takes well.
pub const ENDED_AT_ONCE: usize = 256;

/// What [`drop_row`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// It was there and goes.
    Now,
    /// It was gone already.
    Missing,
    /// The watcher has spoken again: it stays.
    Refreshed,
}

/// Reserves NOTIFY CSeq numbers up to `upto`; `false` if there is no such subscription.
pub fn reserve(home: &HomeState, id: SubscriptionId, upto: u32, durability: Durability) -> (Plan, bool) {
    let Some(current) = by_id(home, id) else { return (Plan::nothing(), false) };
    let mut row = Subscription::clone(current);
    row.notify_cseq_reserved = row.notify_cseq_reserved.max(upto);
    (Plan { rows: smallvec![Row::PutSubscription(row.into())], durability, moved: Moved::default() }, true)
}

/// The subscription of that id.
pub fn by_id(home: &HomeState, id: SubscriptionId) -> Option<&Arc<Subscription>> {
    home.subscriptions.get(id)
}

fn begin(
    home: &HomeState,
    request: &Subscribe,
    source: &Source,
    now: Timestamp,
    policy: &Policy,
    is_pending: bool,
    expires: u32,
) -> Decision<Accepted> {
    let subscription = Subscription {
        id: source.id,
        presentity: home.aor.clone(),
        watcher: source.watcher.clone(),
        package: request.package,
        event_id: request.event_id.as_deref().map(Text::from),
        dialog: DialogTexts::new(DialogParts {
            call_id: &request.call_id,
            local_tag: &source.local_tag,
            remote_tag: &request.remote_tag,
            local_address: &request.local_address,
            remote_address: &request.remote_address,
            remote_target: request.contact.as_deref().unwrap_or_default(),
        }),
        route_set: request.route_set.iter().map(Text::from).collect(),
        flow: source.flow,
        accept: request.wanted.kept(request.package),
        remote_cseq: request.cseq,
        notify_cseq_reserved: BLOCK,
        created_at: now,
        expires_at: now.after_secs(expires),
    };
    let subscription = Arc::new(subscription);
    if expires == 0 {
        let accepted =
            Accepted { expires, subscription, outcome: Outcome::Fetched, replaces: SmallVec::new() };
        let mut plan = Plan::nothing();
        if is_pending {
            plan.rows = waiting::keep(home, &accepted.subscription, source.waits_for, &policy.waiting, now)
                .into_iter()
                .collect();
            plan.durability = Durability::Durable;
            plan.moved.watchers = !plan.rows.is_empty();
        }
        return Ok((plan, accepted));
    }
    let replaces = same_dialog(home, &subscription, now);
    if home.subscriptions.live(now).saturating_sub(replaces.len()) >= policy.max_per_presentity {
        return Err(Reject::because(StatusCode::SERVICE_UNAVAILABLE, "Too Many Watchers")
            .with(HeaderName::RetryAfter, RETRY_WHEN_FULL_S.to_string()));
    }
    let is_winfo = |s: &Subscription| s.package == Package::PresenceWinfo && !replaces.contains(&s.id);
    if request.package == Package::PresenceWinfo && home.winfo().filter(|s| is_winfo(s)).count() >= MOST_WINFO
    {
        return Err(Reject::because(StatusCode::SERVICE_UNAVAILABLE, "Too Many Subscriptions")
            .with(HeaderName::RetryAfter, RETRY_WHEN_FULL_S.to_string()));
    }
    let mut rows: SmallVec<[Row; 1]> =
        replaces.iter().map(|id| Row::DropSubscription(home.aor.clone(), *id)).collect();
    if request.package == Package::Presence {
        rows.extend(waiting::over(home, &source.watcher));
    }
    rows.push(Row::PutSubscription(subscription.clone()));
    let moved = Moved { presence: false, watchers: true };
    let plan = Plan { rows, durability: Durability::Durable, moved };
    Ok((plan, Accepted { expires, subscription, outcome: Outcome::Begun, replaces }))
}

/// Subscriptions that this one begins anew: of the same watcher, with the same Call-ID, tag and Event. A subscriber's Call-ID and tag name one
/// dialog (RFC 3261 12.1.2, 19.3), so it has not heard of the first: its 200 was lost, or the server died before it was sent.
fn same_dialog(home: &HomeState, new: &Subscription, now: Timestamp) -> SmallVec<[SubscriptionId; 1]> {
    let theirs = home.subscriptions.of(&new.watcher).filter(|old| old.expires_at > now);
    let same = theirs.filter(|old| {
        (old.dialog.call_id(), old.dialog.remote_tag(), old.package, &old.event_id)
            == (new.dialog.call_id(), new.dialog.remote_tag(), new.package, &new.event_id)
    });
    same.map(|old| old.id).collect()
}

fn go_on(
    current: &Arc<Subscription>,
    request: &Subscribe,
    source: &Source,
    now: Timestamp,
    expires: u32,
) -> Decision<Accepted> {
    let mut row = Subscription::clone(current);
    row.remote_cseq = request.cseq;
    row.flow = source.flow;
    row.accept = request.wanted.kept(request.package).or_shared(&row.accept);
    if let Some(remote_target) = request.contact.as_deref().filter(|new| *new != row.dialog.remote_target()) {
        row.dialog = DialogTexts::new(DialogParts { remote_target, ..row.dialog.parts() });
    }
    if expires == 0 {
        let plan = Plan {
            rows: smallvec![Row::DropSubscription(row.presentity.clone(), row.id)],
            durability: Durability::Durable,
            moved: Moved { presence: false, watchers: true },
        };
        let (subscription, replaces) = (Arc::new(row), SmallVec::new());
        return Ok((plan, Accepted { expires, subscription, outcome: Outcome::Ended, replaces }));
    }
    row.expires_at = now.after_secs(expires);
    let subscription = Arc::new(row);
    let plan = Plan {
        rows: smallvec![Row::PutSubscription(subscription.clone())],
        durability: Durability::Lazy,
        moved: Moved::default(),
    };
    Ok((plan, Accepted { expires, subscription, outcome: Outcome::Refreshed, replaces: SmallVec::new() }))
}

fn drop_plan(home: &HomeState, subscription: &Subscription) -> Plan {
    Plan {
        rows: smallvec![Row::DropSubscription(home.aor.clone(), subscription.id)],
        durability: Durability::Durable,
        moved: Moved { presence: false, watchers: true },
    }
}

/// RFC 3261 12.2.2: the dialog is named by Call-ID and both tags; the id in our Contact only finds it faster.
fn find<'a>(
    home: &'a HomeState,
    request: &Subscribe,
    local_tag: &str,
    watcher: &'a Aor,
    now: Timestamp,
) -> Option<&'a Arc<Subscription>> {
    let is_it = |s: &&Arc<Subscription>| {
        s.dialog.call_id() == request.call_id
            && s.dialog.local_tag() == local_tag
            && s.dialog.remote_tag() == request.remote_tag
            && s.expires_at > now
    };
    match request.named {
        Named::Ours(id) => by_id(home, id).filter(is_it),
        Named::Foreign => None,
        // Somebody else's dialog is not looked for: that it is there is nobody's business.
        Named::Not => home.subscriptions.of(watcher).find(is_it),
    }
}

const RETRY_WHEN_FULL_S: u32 = 300;
/// Subscriptions of an owner to who watches: each has a list of its own, which may be long. More than devices.
const MOST_WINFO: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::availability::view::DomainDefault;
    use crate::model::Transport;
    use crate::presence::subscribe::gr;
    use crate::presence::testing::{NOW, aor, dialog_request, flow, request, subscription};

    const ALICE: &str = "sip:alice@example.org";
    const CONTACT: &str = "Contact: <sip:bob@192.0.2.7:5062>\r\nEvent: presence\r\n";
    const IN_DIALOG: &str = "<sip:alice@example.org>;tag=ours";

    fn alice() -> HomeState {
        HomeState::empty(aor("alice@example.org"))
    }

    fn watched_by_bob() -> HomeState {
        let mut home = alice();
        home.subscriptions.put(&Arc::new(subscription(5)));
        home
    }

    fn source() -> Source {
        Source {
            watcher: aor("bob@example.org"),
            flow: flow(Transport::Udp),
            local_tag: "ours".to_owned(),
            id: SubscriptionId(77),
            waits_for: 0,
        }
    }

    fn initial(rows: &str) -> Result<Subscribe, Reject> {
        Subscribe::read(&request("SUBSCRIBE", ALICE, &format!("{CONTACT}{rows}"), ""))
    }

    /// In the dialog of subscription 5.
    fn within(cseq: u32, rows: &str) -> Subscribe {
        let uri = format!("sip:alice@192.0.2.1:5060;gr={}", gr(SubscriptionId(5)));
        let rows = format!("{CONTACT}{rows}");
        Subscribe::read(&dialog_request("SUBSCRIBE", &uri, IN_DIALOG, cseq, &rows, "")).unwrap()
    }

    fn decide(home: &HomeState, request: &Subscribe) -> Decision<Accepted> {
        decide_with(home, request, &Policy::default(), Mode::Durable)
    }

    fn decide_with(home: &HomeState, request: &Subscribe, policy: &Policy, mode: Mode) -> Decision<Accepted> {
        let bob = HomeState::empty(aor("bob@example.org"));
        subscribe(home, &bob, request, &source(), NOW, policy, mode)
    }

    fn refusal<T>(result: Result<T, Reject>) -> u16 {
        result.err().expect("a refusal").status.code()
    }

    #[test]
    fn initial_makes_a_durable_row_with_the_default_expiry_rfc3856_6_4() {
        let rows = "Record-Route: <sip:p1.example.org;lr>, <sip:p2.example.org;lr>\r\n";
        let (plan, accepted) = decide(&alice(), &initial(rows).unwrap()).unwrap();
        assert_eq!((accepted.expires, accepted.outcome), (3_600, Outcome::Begun));
        assert_eq!(
            (plan.durability, plan.moved),
            (Durability::Durable, Moved { presence: false, watchers: true })
        );
        let s = &accepted.subscription;
        assert_eq!(plan.rows[0], Row::PutSubscription(s.clone()));
        let dialog = s.dialog.parts();
        assert_eq!((s.id, dialog.local_tag, dialog.remote_tag), (SubscriptionId(77), "ours", "bobs"));
        assert_eq!(dialog.remote_address, "\"Bob\" <sip:bob@example.org>");
        assert_eq!(dialog.local_address, "<sip:alice@example.org>");
        assert_eq!(dialog.remote_target, "sip:bob@192.0.2.7:5062");
        assert_eq!(*s.route_set, ["<sip:p1.example.org;lr>", "<sip:p2.example.org;lr>"]);
        assert_eq!((s.notify_cseq_reserved, s.expires_at), (64, NOW.after_secs(3_600)));
    }

    #[test]
    fn a_dialog_begun_anew_takes_the_place_of_the_first_rfc3261_12_1_2() {
        let (plan, accepted) = decide(&watched_by_bob(), &initial("").unwrap()).unwrap();
        assert_eq!(accepted.replaces.as_slice(), [SubscriptionId(5)]);
        let dropped = Row::DropSubscription(aor("alice@example.org"), SubscriptionId(5));
        assert_eq!(plan.rows.as_slice(), [dropped, Row::PutSubscription(accepted.subscription.clone())]);
        let full = Policy { max_per_presentity: 1, ..Policy::default() };
        assert!(decide_with(&watched_by_bob(), &initial("").unwrap(), &full, Mode::Durable).is_ok());
    }

    #[test]
    fn another_call_tag_event_or_watcher_is_another_subscription() {
        let others: [fn(&mut Subscription); 4] = [
            |s| s.dialog = DialogTexts::new(DialogParts { call_id: "call-2", ..s.dialog.parts() }),
            |s| s.dialog = DialogTexts::new(DialogParts { remote_tag: "another", ..s.dialog.parts() }),
            |s| s.event_id = Some("7".into()),
            |s| s.watcher = aor("carol@example.org"),
        ];
        for (nth, other) in others.iter().enumerate() {
            let mut old = subscription(5);
            other(&mut old);
            let mut home = alice();
            home.subscriptions.put(&Arc::new(old));
            let (plan, accepted) = decide(&home, &initial("").unwrap()).unwrap();
            assert_eq!((plan.rows.len(), accepted.replaces.len()), (1, 0), "{nth}");
        }
    }

    #[test]
    fn too_brief_is_423_in_and_out_of_dialog_rfc6665_4_2_1_1() {
        let brief = "Expires: 59\r\n";
        let refused = decide(&alice(), &initial(brief).unwrap()).unwrap_err();
        assert_eq!(refused.status, StatusCode::INTERVAL_TOO_BRIEF);
        assert_eq!(refused.headers[0], (HeaderName::MinExpires, "60".to_owned()));
        assert_eq!(refusal(decide(&watched_by_bob(), &within(2, brief))), 423);
    }

    #[test]
    fn an_hour_is_never_too_brief_rfc6665_4_2_1_1() {
        let mut policy = Policy::default();
        policy.subscription.min_s = 7_200;
        let hour = initial("Expires: 3600\r\n").unwrap();
        assert_eq!(decide_with(&alice(), &hour, &policy, Mode::Durable).unwrap().1.expires, 3_600);
    }

    #[test]
    fn requested_expiry_is_shortened_never_lengthened_rfc6665_3_1_1() {
        let (_, long) = decide(&alice(), &initial("Expires: 4294967295\r\n").unwrap()).unwrap();
        let (_, short) = decide(&alice(), &initial("Expires: 60\r\n").unwrap()).unwrap();
        assert_eq!((long.expires, short.expires), (86_400, 60));
    }

    #[test]
    fn during_an_outage_expiry_is_300_s() {
        let (_, accepted) =
            decide_with(&alice(), &initial("").unwrap(), &Policy::default(), Mode::Volatile).unwrap();
        assert_eq!(accepted.expires, 300);
    }

    #[test]
    fn fetch_leaves_no_row_rfc6665_4_4_3() {
        let policy = Policy { domain: DomainDefault::Full.into(), ..Policy::default() };
        let fetch = initial("Expires: 0\r\n").unwrap();
        let (plan, accepted) = decide_with(&alice(), &fetch, &policy, Mode::Durable).unwrap();
        assert_eq!((plan.rows.len(), plan.moved, accepted.expires), (0, Moved::default(), 0));
        assert_eq!(accepted.outcome, Outcome::Fetched);
    }

    #[test]
    fn what_ends_or_fetches_undecided_waits_and_a_new_subscription_takes_its_place_rfc3857_4_7_1() {
        let (bob, mut home) = (aor("bob@example.org"), alice());
        for (of, request) in
            [(&alice(), initial("Expires: 0\r\n").unwrap()), (&watched_by_bob(), within(2, "Expires: 0\r\n"))]
        {
            let (plan, accepted) = decide(of, &request).unwrap();
            assert_eq!((plan.durability, plan.moved.watchers), (Durability::Durable, true));
            let Some(Row::PutWaiting(waiting)) = plan.rows.last() else { panic!("{plan:?}") };
            assert_eq!((&waiting.watcher, waiting.id), (&bob, accepted.subscription.id));
            home.apply(&Row::PutWaiting(waiting.clone()));
        }
        let (plan, _) = decide(&home, &initial("").unwrap()).unwrap();
        assert_eq!(plan.rows[0], Row::DropWaiting(home.aor.clone(), bob));
        assert!(matches!(plan.rows[1], Row::PutSubscription(_)));
    }

    #[test]
    fn refused_watcher_is_403_at_once_rfc3856_6_6_2() {
        let anonymous = Source { watcher: aor("anonymous@anonymous.invalid"), ..source() };
        let bob = HomeState::empty(anonymous.watcher.clone());
        let policy = Policy { domain: DomainDefault::Full.into(), ..Policy::default() };
        for rows in ["", "Expires: 0\r\n"] {
            let request = initial(rows).unwrap();
            let refused = subscribe(&alice(), &bob, &request, &anonymous, NOW, &policy, Mode::Durable);
            assert_eq!(refusal(refused), 403);
        }
    }

    #[test]
    fn a_full_presentity_is_503_for_new_ones_and_not_for_refreshes_a24() {
        let home = watched_by_bob();
        let policy = Policy { max_per_presentity: 1, ..Policy::default() };
        let mut another = initial("").unwrap();
        another.call_id = "call-2".to_owned();
        assert_eq!(refusal(decide_with(&home, &another, &policy, Mode::Durable)), 503);
        assert!(decide_with(&home, &within(2, ""), &policy, Mode::Durable).is_ok());
    }

    #[test]
    fn an_owner_watches_the_watchers_by_as_many_telephones_as_there_may_be_a24() {
        let mut request = initial("").unwrap();
        request.package = Package::PresenceWinfo;
        let alice = Source { watcher: aor("alice@example.org"), ..source() };
        let own = |home: &HomeState| {
            let policy = Policy::default();
            subscribe(home, home, &request, &alice, NOW, &policy, Mode::Durable)
        };
        let mut home = self::alice();
        for id in 0..16 {
            assert!(own(&home).is_ok(), "{id}");
            let (call_id, package) = (&*format!("call {id}"), Package::PresenceWinfo);
            let old = subscription(id);
            let dialog = DialogTexts::new(DialogParts { call_id, ..old.dialog.parts() });
            let one = Subscription { dialog, package, watcher: alice.watcher.clone(), ..old };
            home.subscriptions.put(&Arc::new(one));
        }
        assert_eq!(refusal(own(&home)), 503);
    }

    #[test]
    fn refresh_is_lazy_and_takes_the_new_target_and_accept_rfc3856_6_7() {
        let mut request = within(2, "Expires: 600\r\nAccept: application/*\r\n");
        request.contact = Some("sip:bob@192.0.2.8".to_owned());
        let (plan, accepted) = decide(&watched_by_bob(), &request).unwrap();
        assert_eq!((plan.durability, plan.moved), (Durability::Lazy, Moved::default()));
        let s = accepted.subscription;
        assert_eq!((s.dialog.remote_target(), s.accept.as_str()), ("sip:bob@192.0.2.8", ""));
        assert_eq!((s.id, s.remote_cseq, s.expires_at), (SubscriptionId(5), 2, NOW.after_secs(600)));
    }

    #[test]
    fn unsubscribe_drops_the_row_durably_rfc6665_4_2_1_4() {
        let (plan, accepted) = decide(&watched_by_bob(), &within(2, "Expires: 0\r\n")).unwrap();
        assert_eq!(accepted.outcome, Outcome::Ended);
        assert_eq!(plan.rows[0], Row::DropSubscription(aor("alice@example.org"), SubscriptionId(5)));
        assert_eq!(plan.durability, Durability::Durable);
        assert!(plan.moved.watchers);
    }

    #[test]
    fn unknown_or_expired_dialog_is_481_rfc6665_4_2_1_4() {
        assert_eq!(refusal(decide(&alice(), &within(2, ""))), 481);
        for change in [
            (|r| r.call_id = "other".to_owned()) as fn(&mut Subscribe),
            |r| r.local_tag = Some("other".to_owned()),
            |r| r.remote_tag = "other".to_owned(),
            |r| r.named = Named::Ours(SubscriptionId(6)),
            |r| r.named = Named::Foreign,
        ] {
            let mut request = within(2, "");
            change(&mut request);
            assert_eq!(refusal(decide(&watched_by_bob(), &request)), 481, "{request:?}");
        }
        let mut expired = subscription(5);
        expired.expires_at = NOW;
        let mut home = alice();
        home.subscriptions.put(&Arc::new(expired));
        assert_eq!(refusal(decide(&home, &within(2, ""))), 481);
    }

    #[test]
    fn a_dialog_is_found_without_gr_by_its_ids_rfc3261_12_2_2() {
        let mut request = within(2, "");
        request.named = Named::Not;
        assert!(decide(&watched_by_bob(), &request).is_ok());
    }

    #[test]
    fn somebody_elses_dialog_is_403() {
        let carol = Source { watcher: aor("carol@example.org"), ..source() };
        let own = HomeState::empty(carol.watcher.clone());
        let request = within(2, "Expires: 0\r\n");
        let policy = Policy::default();
        let refused = subscribe(&watched_by_bob(), &own, &request, &carol, NOW, &policy, Mode::Durable);
        assert_eq!(refusal(refused), 403);
    }

    #[test]
    fn a_second_subscription_in_a_dialog_is_403_rfc6665_4_5_2() {
        let mut request = within(2, "");
        request.event_id = Some("2".to_owned());
        assert_eq!(refusal(decide(&watched_by_bob(), &request)), 403);
    }

    #[test]
    fn an_old_cseq_is_500_rfc3261_12_2_2() {
        let mut newer = subscription(5);
        newer.remote_cseq = 9;
        let mut home = alice();
        home.subscriptions.put(&Arc::new(newer));
        assert_eq!(refusal(decide(&home, &within(8, ""))), 500);
        assert!(decide(&home, &within(9, "")).is_ok());
    }

    #[test]
    fn a_subscription_that_was_refreshed_meanwhile_is_not_dropped() {
        let home = watched_by_bob();
        assert_eq!(drop_row(&home, SubscriptionId(5), 1, &[]).1, Dropped::Now);
        assert_eq!(drop_row(&home, SubscriptionId(5), 0, &[]).1, Dropped::Refreshed);
        assert_eq!(drop_row(&home, SubscriptionId(6), 1, &[]), (Plan::nothing(), Dropped::Missing));
    }

    #[test]
    fn reserved_numbers_never_shrink_i4() {
        let (plan, found) = reserve(&watched_by_bob(), SubscriptionId(5), 10, Durability::Lazy);
        let Row::PutSubscription(row) = &plan.rows[0] else { panic!("a subscription") };
        assert_eq!((row.notify_cseq_reserved, found), (64, true));
        assert!(!reserve(&alice(), SubscriptionId(5), 128, Durability::Lazy).1);
    }
}

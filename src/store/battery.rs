//! One battery for both databases: every rule below is held on SQLite and on Postgres.

use std::sync::Arc;
use std::time::Duration;

use smallvec::{SmallVec, smallvec};

use crate::model::*;
use crate::store::fixtures::*;
use crate::store::{Fault, Outcome, Store};

macro_rules! on_both {
    ($($rule:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                if let Some(place) = super::Place::sqlite() { super::$rule(place).await }
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                if let Some(place) = super::Place::postgres().await { super::$rule(place).await }
            })*
        }
    };
}

on_both! {
    every_kind_of_row_reads_back_as_it_was_written
    a_put_replaces_and_a_drop_removes
    the_order_of_calls_is_the_order_of_commits
    the_newest_row_of_a_key_in_one_commit_wins
    a_refresh_changes_what_is_there_and_puts_what_is_not
    many_rows_of_every_number_are_written
    a_guilty_row_fails_alone
    a_guilty_lazy_row_does_not_stop_the_others
    kept_rows_are_seen_at_once_and_written_at_close
    kept_rows_are_written_by_themselves
    a_commit_overtakes_what_was_kept_before_it
    what_is_kept_after_a_commit_overtakes_it
    everything_is_loaded_in_order_of_creation_within_a_home
    a_second_opener_is_refused
    documents_are_loaded_page_by_page
    the_secret_stays_the_same
    accounts_are_put_replaced_and_listed
    accounts_are_read_page_by_page_and_one_alone
    a_removed_account_takes_everything_of_its_user_along
    a_closed_store_commits_nothing
    messages_are_loaded_without_their_content_and_read_when_asked_for
    a_removed_account_takes_its_messages_along_and_not_those_it_sent
    who_waits_is_there_once_until_it_is_over
    many_rows_of_every_table_go_at_once
    a_store_of_an_earlier_schema_keeps_its_rows
}

async fn every_kind_of_row_reads_back_as_it_was_written(place: Place) {
    let store = place.open().await;
    let plain =
        Binding { instance: None, reg_id: None, path: Box::default(), direct: false, ..binding("a", "2", 9) };
    let rows = [
        Row::PutBinding(binding("a", "1", 8).into()),
        Row::PutBinding(plain.into()),
        Row::PutPublication(publication("a", 1).into()),
        Row::PutSubscription(subscription("a", "b", u128::MAX).into()),
        Row::PutSubscription(Subscription { event_id: Some("7".into()), ..subscription("b", "a", 0) }.into()),
        Row::PutDocument(document("b", "folder/index").into()),
    ];
    assert_eq!(soon(store.commit(SmallVec::from(rows.to_vec()))).await, Outcome::Committed);
    assert_eq!(home(&store, "a").await, rows[..4]);
    assert_eq!(home(&store, "b").await, rows[4..]);
    assert_eq!(home(&store, "nobody").await, []);
    assert_eq!(everything(&store).await, rows);
    place.end(store).await;
}

async fn a_put_replaces_and_a_drop_removes(place: Place) {
    let store = place.open().await;
    for row in [
        Row::PutBinding(binding("a", "1", 1).into()),
        Row::PutPublication(publication("a", 1).into()),
        Row::PutSubscription(subscription("a", "b", 1).into()),
        Row::PutDocument(document("a", "index").into()),
    ] {
        put(&store, row).await;
    }
    let newer = [
        Row::PutBinding(Binding { q: 1, cseq: 2, ..binding("a", "1", 1) }.into()),
        Row::PutPublication(
            Publication { tag: EntityTag(9), body: "new".into(), ..publication("a", 1) }.into(),
        ),
        Row::PutSubscription(Subscription { remote_cseq: 8, ..subscription("a", "b", 1) }.into()),
        Row::PutDocument(Document { tag: EntityTag(9), body: "new".into(), ..document("a", "index") }.into()),
    ];
    assert_eq!(soon(store.commit(newer.iter().cloned().collect())).await, Outcome::Committed);
    assert_eq!(home(&store, "a").await, newer);
    let drops = smallvec![
        Row::DropBinding(aor("a"), BindingKey("1".into())),
        Row::DropPublication(aor("a"), PublicationId(1)),
        Row::DropSubscription(aor("a"), SubscriptionId(1)),
        Row::DropDocument(aor("a"), document("a", "index").name),
        Row::DropBinding(aor("a"), BindingKey("never".into())),
    ];
    assert_eq!(soon(store.commit(drops)).await, Outcome::Committed);
    assert_eq!(home(&store, "a").await, []);
    place.end(store).await;
}

async fn the_order_of_calls_is_the_order_of_commits(place: Place) {
    let store = place.open().await;
    let last = Row::PutBinding(Binding { cseq: 3_000, ..binding("a", "1", 1) }.into());
    let mut outcomes: Vec<_> = (0..3_000)
        .map(|cseq| store.commit(smallvec![Row::PutBinding(Binding { cseq, ..binding("a", "1", 1) }.into())]))
        .collect();
    outcomes.push(store.commit(smallvec![last.clone()]));
    for outcome in outcomes {
        assert_eq!(soon(outcome).await, Outcome::Committed);
    }
    assert_eq!(home(&store, "a").await, [last]);
    place.end(store).await;
}

async fn the_newest_row_of_a_key_in_one_commit_wins(place: Place) {
    let store = place.open().await;
    let last = Row::PutBinding(binding("a", "1", 1).into());
    let rows = smallvec![
        Row::PutBinding(Binding { q: 0, ..binding("a", "1", 1) }.into()),
        Row::DropBinding(aor("a"), BindingKey("1".into())),
        last.clone(),
        Row::PutBinding(binding("a", "2", 1).into()),
        Row::DropBinding(aor("a"), BindingKey("2".into())),
    ];
    assert_eq!(soon(store.commit(rows)).await, Outcome::Committed);
    assert_eq!(home(&store, "a").await, [last]);
    place.end(store).await;
}

async fn a_refresh_changes_what_is_there_and_puts_what_is_not(place: Place) {
    let store = place.open().await;
    let refreshed = |key: &str| {
        let binding = Binding { cseq: 9, refreshed_at: Timestamp(7), ..binding("a", key, 1) };
        Row::RefreshBinding(Binding { expires_at: Timestamp(8), ..binding }.into())
    };
    let read = |row: Row| match row {
        Row::RefreshBinding(binding) => Row::PutBinding(binding),
        other => other,
    };
    put(&store, Row::PutBinding(binding("a", "1", 1).into())).await;
    put(&store, refreshed("1")).await;
    assert_eq!(home(&store, "a").await, [read(refreshed("1"))]);
    // Of the second nobody knows.
    assert!(store.write_lazily(&[refreshed("1"), refreshed("2")]));
    soon(store.close()).await;
    let store = place.open().await;
    assert_eq!(home(&store, "a").await, ["1", "2"].map(|key| read(refreshed(key))));
    // A change that the refresh of it overtook counts too.
    let changed = Row::PutBinding(Binding { q: 1, ..binding("a", "1", 1) }.into());
    let newer = Row::RefreshBinding(Binding { q: 1, cseq: 10, ..binding("a", "1", 1) }.into());
    assert_eq!(soon(store.commit(smallvec![changed, newer.clone()])).await, Outcome::Committed);
    assert_eq!(home(&store, "a").await[0], read(newer));
    place.end(store).await;
}

async fn many_rows_of_every_number_are_written(place: Place) {
    let store = place.open().await;
    let keys: Vec<String> = (100..181).map(|key: u32| key.to_string()).collect();
    for rows in [
        keys.iter().map(|key| Row::PutBinding(binding("a", key, 1).into())).collect::<Vec<_>>(),
        keys.iter().map(|key| Row::PutBinding(Binding { q: 3, ..binding("a", key, 1) }.into())).collect(),
    ] {
        assert_eq!(soon(store.commit(rows.clone().into())).await, Outcome::Committed);
        assert_eq!(home(&store, "a").await, rows);
    }
    let (gone, left) = keys.split_at(40);
    let mut rows: Vec<Row> =
        gone.iter().map(|key| Row::DropBinding(aor("a"), BindingKey(key.as_str().into()))).collect();
    let fresh = |key: &String| Arc::new(Binding { q: 3, cseq: 5, ..binding("a", key, 1) });
    rows.extend(left.iter().map(|key| Row::RefreshBinding(fresh(key))));
    assert_eq!(soon(store.commit(rows.into())).await, Outcome::Committed);
    let expected: Vec<Row> = left.iter().map(|key| Row::PutBinding(fresh(key))).collect();
    assert_eq!(home(&store, "a").await, expected);
    place.end(store).await;
}

async fn a_guilty_row_fails_alone(place: Place) {
    let store = place.open().await;
    let guilty = place.guilty().await;
    let outcomes: Vec<_> = (0..200)
        .map(|n| match n {
            77 => store.commit(smallvec![guilty.clone()]),
            _ => store.commit(smallvec![Row::PutBinding(binding(&format!("user{n}"), "1", 1).into())]),
        })
        .collect();
    let mut failed = Vec::new();
    for (n, outcome) in outcomes.into_iter().enumerate() {
        match soon(outcome).await {
            Outcome::Committed => {}
            other => failed.push((n, other)),
        }
    }
    assert_eq!(failed, [(77, Outcome::NotCommitted)]);
    assert_eq!(everything(&store).await.len(), 199);
    assert!(!store.is_out());
    place.end(store).await;
}

async fn a_guilty_lazy_row_does_not_stop_the_others(place: Place) {
    let store = place.open().await;
    let kept = Row::PutBinding(binding("a", "1", 1).into());
    assert!(store.write_lazily(&[place.guilty().await, kept.clone()]));
    soon(store.close()).await;
    let store = place.open().await;
    assert_eq!(everything(&store).await, [kept]);
    place.end(store).await;
}

async fn kept_rows_are_seen_at_once_and_written_at_close(place: Place) {
    let store = place.open().await;
    put(&store, Row::PutBinding(binding("a", "1", 1).into())).await;
    put(&store, Row::PutBinding(binding("a", "2", 2).into())).await;
    let refreshed = Row::PutBinding(Binding { cseq: 9, ..binding("a", "1", 1) }.into());
    assert!(store.write_lazily(&[refreshed.clone(), Row::DropBinding(aor("a"), BindingKey("2".into()))]));
    assert_eq!(home(&store, "a").await, std::slice::from_ref(&refreshed));
    soon(store.close()).await;
    let store = place.open().await;
    assert_eq!(everything(&store).await, [refreshed]);
    place.end(store).await;
}

async fn kept_rows_are_written_by_themselves(place: Place) {
    let store = place.open().await;
    let kept = Row::PutBinding(binding("a", "1", 1).into());
    assert!(store.write_lazily(std::slice::from_ref(&kept)));
    let mut look = tokio::time::interval(Duration::from_millis(50));
    soon(async {
        while everything(&store).await.is_empty() {
            look.tick().await;
        }
    })
    .await;
    assert_eq!(everything(&store).await, [kept]);
    place.end(store).await;
}

async fn a_commit_overtakes_what_was_kept_before_it(place: Place) {
    let store = place.open().await;
    assert!(store.write_lazily(&[Row::PutBinding(binding("a", "1", 1).into())]));
    put(&store, Row::DropBinding(aor("a"), BindingKey("1".into()))).await;
    assert_eq!(home(&store, "a").await, []);
    soon(store.close()).await;
    let store = place.open().await;
    assert_eq!(everything(&store).await, []);
    place.end(store).await;
}

async fn what_is_kept_after_a_commit_overtakes_it(place: Place) {
    let store = place.open().await;
    let commit = store.commit(smallvec![Row::PutBinding(binding("a", "1", 1).into())]);
    let newer = Row::PutBinding(Binding { cseq: 9, ..binding("a", "1", 1) }.into());
    assert!(store.write_lazily(std::slice::from_ref(&newer)));
    assert_eq!(soon(commit).await, Outcome::Committed);
    soon(store.close()).await;
    let store = place.open().await;
    assert_eq!(everything(&store).await, [newer]);
    place.end(store).await;
}

async fn everything_is_loaded_in_order_of_creation_within_a_home(place: Place) {
    let store = place.open().await;
    let rows: Vec<Row> = (0..9_000)
        .map(|n| Row::PutBinding(binding(&format!("user{}", n / 3), &(n % 3).to_string(), 10 - n % 3).into()))
        .collect();
    assert_eq!(soon(store.commit(rows.clone().into())).await, Outcome::Committed);
    let loaded = everything(&store).await;
    assert_eq!(loaded.len(), 9_000);
    for home in loaded.chunks(3) {
        let keys = home.iter().map(Row::key);
        let expected =
            ["2", "1", "0"].map(|key| RowKey::Binding(home[0].aor().clone(), BindingKey(key.into())));
        assert!(keys.eq(expected));
    }
    place.end(store).await;
}

async fn a_second_opener_is_refused(place: Place) {
    let store = place.open().await;
    assert!(matches!(soon(Store::open(&place.target)).await, Err(Fault::InUse)));
    put(&store, Row::PutBinding(binding("a", "1", 1).into())).await;
    soon(store.close()).await;
    let store = place.open().await;
    place.end(store).await;
}

async fn documents_are_loaded_page_by_page(place: Place) {
    let store = place.open().await;
    // A page has 64; names that a careless order or a careless query would trip over.
    let names: Vec<String> =
        (0..150).map(|n| if n % 3 == 0 { format!("%a'--{n}") } else { format!("folder/ü{n}") }).collect();
    let rows: Vec<Row> = names
        .iter()
        .map(|name| Row::PutDocument(document(&format!("u{}", name.len()), name).into()))
        .collect();
    assert_eq!(soon(store.commit(rows.clone().into())).await, Outcome::Committed);
    let loaded = everything(&store).await;
    assert_eq!(loaded.len(), rows.len());
    assert!(rows.iter().all(|row| loaded.contains(row)));
    place.end(store).await;
}

async fn the_secret_stays_the_same(place: Place) {
    let store = place.open().await;
    assert_eq!(soon(store.secret([1; 32])).await.unwrap(), [1; 32]);
    assert_eq!(soon(store.secret([2; 32])).await.unwrap(), [1; 32]);
    soon(store.close()).await;
    let store = place.open().await;
    assert_eq!(soon(store.secret([3; 32])).await.unwrap(), [1; 32]);
    place.end(store).await;
}

async fn accounts_are_put_replaced_and_listed(place: Place) {
    let store = place.open().await;
    for account in [account("b", "1"), account("a", "1"), account("b", "2")] {
        soon(store.put_account(&account)).await.unwrap();
    }
    assert_eq!(soon(store.accounts()).await.unwrap(), [account("a", "1"), account("b", "2")]);
    place.end(store).await;
}

async fn accounts_are_read_page_by_page_and_one_alone(place: Place) {
    let store = place.open().await;
    // A page has 1,024.
    let users: Vec<String> = (0..1_030).map(|n| format!("u{n:04}")).collect();
    for user in &users {
        soon(store.put_account(&account(user, "1"))).await.unwrap();
    }
    let listed = soon(store.accounts()).await.unwrap();
    assert!(listed.iter().map(|account| account.aor.user()).eq(&users));
    assert_eq!(soon(store.account(&aor("u1029"))).await.unwrap(), Some(account("u1029", "1")));
    assert_eq!(soon(store.account(&aor("nobody"))).await.unwrap(), None);
    place.end(store).await;
}

async fn a_removed_account_takes_everything_of_its_user_along(place: Place) {
    let store = place.open().await;
    soon(store.put_account(&account("a", "1"))).await.unwrap();
    soon(store.put_account(&account("b", "1"))).await.unwrap();
    let others = [
        Row::PutBinding(binding("b", "1", 1).into()),
        Row::PutSubscription(subscription("b", "c", 3).into()),
        Row::PutDocument(document("b", "index").into()),
        Row::PutWaiting(waiting("b", "c").into()),
    ];
    let rows: SmallVec<[Row; 1]> = smallvec![
        Row::PutBinding(binding("a", "1", 1).into()),
        Row::PutPublication(publication("a", 1).into()),
        Row::PutSubscription(subscription("a", "b", 1).into()),
        Row::PutSubscription(subscription("b", "a", 2).into()),
        Row::PutDocument(document("a", "index").into()),
        Row::PutWaiting(waiting("a", "b").into()),
        Row::PutWaiting(waiting("b", "a").into()),
    ];
    assert_eq!(soon(store.commit(others.iter().cloned().collect())).await, Outcome::Committed);
    assert_eq!(soon(store.commit(rows)).await, Outcome::Committed);
    assert!(store.write_lazily(&[Row::PutBinding(binding("a", "2", 1).into())]));
    assert!(store.write_lazily(&[Row::PutSubscription(subscription("b", "a", 4).into())]));
    assert!(soon(store.remove_account(&aor("a"))).await.unwrap());
    assert!(!soon(store.remove_account(&aor("a"))).await.unwrap());
    soon(store.close()).await;
    let store = place.open().await;
    assert_eq!(everything(&store).await, others);
    assert_eq!(soon(store.accounts()).await.unwrap(), [account("b", "1")]);
    place.end(store).await;
}

async fn a_closed_store_commits_nothing(place: Place) {
    let store = place.open().await;
    let waiting = store.commit(smallvec![Row::PutBinding(binding("a", "1", 1).into())]);
    soon(store.close()).await;
    assert_eq!(soon(waiting).await, Outcome::Committed);
    let late = store.commit(smallvec![Row::PutBinding(binding("a", "2", 1).into())]);
    assert_eq!(soon(late).await, Outcome::NotCommitted);
    assert!(!store.write_lazily(&[Row::PutBinding(binding("a", "2", 1).into())]));
    assert!(soon(store.put_account(&account("a", "1"))).await.is_err());
    place.end(store).await;
}

async fn messages_are_loaded_without_their_content_and_read_when_asked_for(place: Place) {
    let store = place.open().await;
    // Written in another order than that of delivery.
    let [second, first, other] = [message("a", 1, 20), message("a", 9, 10), message("c", 5, 1)];
    for message in [&second, &first, &other] {
        put(&store, Row::PutMessage(message.clone().into())).await;
    }
    assert_eq!(home(&store, "a").await, [loaded(&first), loaded(&second)]);
    assert_eq!(everything(&store).await, [loaded(&first), loaded(&second), loaded(&other)]);
    let a = aor("a");
    let content = |id| store.content(&a, MessageId(id));
    assert_eq!(soon(content(9)).await.unwrap(), first.content);
    assert_eq!(soon(content(7)).await.unwrap(), None);
    assert_eq!(soon(content(5)).await.unwrap(), None, "it is somebody else's");
    // What was loaded has no content to write, so it cannot take away what is there.
    assert_eq!(soon(store.commit(smallvec![loaded(&first)])).await, Outcome::NotCommitted);
    assert_eq!(soon(content(9)).await.unwrap(), first.content);
    // With something kept lazily the home is put together from both.
    assert!(store.write_lazily(&[Row::DropMessage(aor("a"), MessageId(9))]));
    assert_eq!(home(&store, "a").await, [loaded(&second)]);
    put(&store, Row::DropMessage(aor("a"), MessageId(1))).await;
    soon(store.close()).await;
    let store = place.open().await;
    assert_eq!(everything(&store).await, [loaded(&other)]);
    place.end(store).await;
}

async fn who_waits_is_there_once_until_it_is_over(place: Place) {
    let store = place.open().await;
    let (first, other) = (waiting("a", "b"), waiting("a", "c"));
    let again = WaitingWatcher { id: SubscriptionId(9), ended_at: Timestamp(7), ..first.clone() };
    for row in [&first, &other, &again] {
        put(&store, Row::PutWaiting(row.clone().into())).await;
    }
    let both = [other.clone(), again.clone()].map(|row| Row::PutWaiting(row.into()));
    assert_eq!(everything(&store).await, both);
    assert_eq!(home(&store, "a").await, both);
    // With something kept lazily the home is put together from both.
    assert!(store.write_lazily(&[Row::DropWaiting(aor("a"), aor("c"))]));
    assert_eq!(home(&store, "a").await, both[1..]);
    soon(store.close()).await;
    let store = place.open().await;
    assert_eq!(everything(&store).await, both[1..]);
    put(&store, Row::DropWaiting(aor("a"), aor("b"))).await;
    assert_eq!(everything(&store).await, []);
    place.end(store).await;
}

async fn a_removed_account_takes_its_messages_along_and_not_those_it_sent(place: Place) {
    let store = place.open().await;
    for user in ["a", "b"] {
        soon(store.put_account(&account(user, "1"))).await.unwrap();
    }
    let kept = message("a", 1, 1);
    for message in [kept.clone(), message("b", 2, 1)] {
        put(&store, Row::PutMessage(message.into())).await;
    }
    // It is `b` who sent them.
    assert!(soon(store.remove_account(&aor("b"))).await.unwrap());
    assert_eq!(everything(&store).await, [loaded(&kept)]);
    place.end(store).await;
}

async fn many_rows_of_every_table_go_at_once(place: Place) {
    let store = place.open().await;
    let of = |n: u128| {
        let name = format!("index{n}");
        let put = [
            Row::PutPublication(publication("a", n).into()),
            Row::PutSubscription(subscription("a", "b", n).into()),
            Row::PutDocument(document("a", &name).into()),
            Row::PutMessage(message("a", n, 1).into()),
            Row::PutWaiting(waiting("a", &format!("w{n}")).into()),
        ];
        let drop = [
            Row::DropPublication(aor("a"), PublicationId(n)),
            Row::DropSubscription(aor("a"), SubscriptionId(n)),
            Row::DropDocument(aor("a"), document("a", &name).name),
            Row::DropMessage(aor("a"), MessageId(n)),
            Row::DropWaiting(aor("a"), aor(&format!("w{n}"))),
        ];
        (put, drop)
    };
    let put: Vec<Row> = (0..51).flat_map(|n| of(n).0).collect();
    assert_eq!(soon(store.commit(put.into())).await, Outcome::Committed);
    // Nobody else's row of the same id.
    let others = Row::PutSubscription(subscription("b", "c", 7).into());
    put_one_and_drop(&store, &others, (0..50).flat_map(|n| of(n).1).collect()).await;
    let mut left = of(50).0.to_vec();
    left[3] = loaded(&message("a", 50, 1));
    left.insert(2, others);
    assert_eq!(everything(&store).await, left);
    place.end(store).await;
}

async fn put_one_and_drop(store: &Store, one: &Row, drops: Vec<Row>) {
    put(store, one.clone()).await;
    assert_eq!(soon(store.commit(drops.into())).await, Outcome::Committed);
}

async fn a_store_of_an_earlier_schema_keeps_its_rows(place: Place) {
    let mut rows = Vec::new();
    for n in 0..150 {
        rows.push(Row::PutPublication(publication(&format!("u{}", n % 7), n).into()));
        rows.push(Row::PutSubscription(subscription(&format!("u{}", n % 5), "b", n).into()));
        rows.push(Row::PutMessage(message(&format!("u{}", n % 3), n, 1).into()));
    }
    place.of_schema(16, &rows).await;
    let store = place.open().await;
    for user in ["u0", "u2", "u6"] {
        let is_theirs = |row: &&Row| *row.aor() == aor(user);
        let mut theirs: Vec<Row> = rows.iter().filter(is_theirs).cloned().collect();
        for row in &mut theirs {
            if let Row::PutMessage(message) = row {
                let content = soon(store.content(&aor(user), message.waiting.id)).await.unwrap();
                assert_eq!(content, message.content);
                *row = loaded(message);
            }
        }
        let found = home(&store, user).await;
        assert_eq!(found.len(), theirs.len());
        assert!(theirs.iter().all(|row| found.contains(row)));
    }
    assert_eq!(everything(&store).await.len(), rows.len());
    put(&store, Row::DropSubscription(aor("u0"), SubscriptionId(0))).await;
    let renewed = Publication { tag: EntityTag(1), ..publication("u0", 7) };
    put(&store, Row::PutPublication(renewed.clone().into())).await;
    let found = home(&store, "u0").await;
    assert!(found.contains(&Row::PutPublication(renewed.into())));
    assert!(!found.iter().any(|row| matches!(row, Row::PutSubscription(one) if one.id.0 == 0)));
    place.end(store).await;
}

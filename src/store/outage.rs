//! What happens when Postgres goes away, before a COMMIT and in the middle of one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use smallvec::smallvec;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{interval, timeout};

use crate::model::*;
use crate::store::fixtures::{account, aor, binding, everything, home, put, soon};
use crate::store::throwaway::Server;
use crate::store::{Fault, Outcome, Store, Target};

/// A server of its own.
async fn server() -> Option<Server> {
    let server = tokio::task::spawn_blocking(Server::start).await.unwrap();
    if server.is_none() {
        eprintln!("SKIPPED: no Postgres");
    }
    server
}

async fn until_back(store: &Store) {
    let mut look = interval(Duration::from_millis(10));
    soon(async {
        while store.is_out() {
            look.tick().await;
        }
    })
    .await;
}

/// Relays one connection. When armed, it lets the next COMMIT through, sees its answer, and hangs up on both.
async fn relay(mut client: TcpStream, mut server: TcpStream, armed: Arc<AtomicBool>) -> std::io::Result<()> {
    let (mut up, mut down) = ([0; 65_536], [0; 65_536]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let read = read?;
                server.write_all(&up[..read]).await?;
                let commits = up[..read].windows(6).any(|word| word == b"COMMIT");
                if read == 0 || (commits && armed.swap(false, Ordering::AcqRel)) {
                    server.read_u8().await?;
                    return Ok(());
                }
            }
            read = server.read(&mut down) => {
                let read = read?;
                client.write_all(&down[..read]).await?;
                if read == 0 {
                    return Ok(());
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "the relay ends with the test's runtime")]
async fn a_connection_lost_in_commit_is_unknown_and_older_kept_rows_stay_away() {
    let Some(server) = server().await else { return };
    let relayed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = server.url().replace(&server.address(), &relayed.local_addr().unwrap().to_string());
    let armed = Arc::new(AtomicBool::new(false));
    let (address, arm) = (server.address(), armed.clone());
    tokio::spawn(async move {
        while let Ok((client, _)) = relayed.accept().await {
            let Ok(server) = TcpStream::connect(&address).await else { return };
            tokio::spawn(relay(client, server, arm.clone()));
        }
    });
    let store = Store::open(&Target::Postgres(Redacted(url))).await.unwrap();
    put(&store, Row::PutBinding(binding("a", "1", 1).into())).await;
    assert!(store.write_lazily(&[Row::PutBinding(Binding { cseq: 9, ..binding("a", "1", 1) }.into())]));
    let other = Row::PutBinding(binding("b", "1", 1).into());
    assert!(store.write_lazily(std::slice::from_ref(&other)));

    armed.store(true, Ordering::Release);
    let lost = store.commit(smallvec![Row::DropBinding(aor("a"), BindingKey("1".into()))]);
    assert_eq!(soon(lost).await, Outcome::Unknown);
    until_back(&store).await;
    assert_eq!(home(&store, "a").await, []);
    assert_eq!(everything(&store).await, [other]);
    soon(store.close()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_answered_at_once_and_ends_by_itself() {
    let Some(mut server) = server().await else { return };
    let store = Store::open(&Target::Postgres(Redacted(server.url()))).await.unwrap();
    let kept = Row::PutBinding(Binding { cseq: 9, ..binding("a", "1", 1) }.into());
    put(&store, Row::PutBinding(binding("a", "1", 1).into())).await;
    assert!(store.write_lazily(std::slice::from_ref(&kept)));

    server.down();
    let lost = store.commit(smallvec![Row::DropBinding(aor("a"), BindingKey("1".into()))]);
    let lost = timeout(Duration::from_millis(2_500), lost).await.expect("within the deadline");
    assert_eq!(lost, Outcome::NotCommitted);
    assert!(store.is_out());
    assert_eq!(soon(store.commit(smallvec![kept.clone()])).await, Outcome::NotCommitted);
    assert!(matches!(store.load_home(&aor("a")).await, Err(Fault::Database { .. })));
    assert!(store.put_account(&account("a", "1")).await.is_err());
    let volatile = Row::PutBinding(binding("b", "1", 1).into());
    assert!(store.write_lazily(std::slice::from_ref(&volatile)));

    assert!(server.up());
    until_back(&store).await;
    // What was kept was written before the outage ended: another reader sees it.
    let loaded = everything(&store).await;
    assert_eq!(loaded, [kept, volatile]);
    put(&store, Row::DropBinding(aor("a"), BindingKey("1".into()))).await;
    soon(store.close()).await;
}

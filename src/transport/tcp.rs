//! Accepting connections (`A22`): limits first, then one task each.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::transport::Receiver;
use crate::transport::counters::Counters;
use crate::transport::shared::{Shared, stopped};
use crate::transport::stream::{self, Lease};

/// Accepts until `stop`.
pub(super) async fn accept(
    listener: TcpListener,
    local: SocketAddr,
    shared: Arc<Shared>,
    receiver: Arc<dyn Receiver>,
    mut stop: watch::Receiver<bool>,
) {
    let mut failing = false;
    loop {
        // Both branches are safe to drop: a connection not taken stays in the backlog.
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, remote)) => {
                failing = false;
                enter(stream, local, remote, &shared, &receiver, &stop);
            }
            Err(error) if concerns_the_peer(&error) => {
                Counters::add(&shared.counters.accept_errors);
            }
            Err(error) => {
                Counters::add(&shared.counters.accept_errors);
                if !failing {
                    tracing::warn!(%local, %error, "cannot accept connections; trying on");
                }
                failing = true;
                // File descriptors are short: the oldest stranger gives way.
                shared.table.evict_oldest();
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

fn enter(
    stream: TcpStream,
    local: SocketAddr,
    remote: SocketAddr,
    shared: &Arc<Shared>,
    receiver: &Arc<dyn Receiver>,
    stop: &watch::Receiver<bool>,
) {
    let Ok(connection) = shared.table.accept(local, remote) else {
        Counters::add(&shared.counters.refused);
        return;
    };
    Counters::add(&shared.counters.accepted);
    let lease = Lease { shared: Arc::clone(shared), receiver: Arc::clone(receiver), connection };
    shared.tasks.spawn(stream::serve(lease, stream, stop.clone()));
}

/// An error of one connection that was about to be accepted (accept(2)), not of the listener.
fn concerns_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::TimedOut
    )
}

/// Pause after an error of the listener, so that a lasting one does not spin.
const BACK_OFF: Duration = Duration::from_millis(100);

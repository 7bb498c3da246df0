//! The four transaction machines, each from its request to its end.

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use criterion::Criterion;

use hither::sip::StatusCode;
use hither::transaction::{Client, ClientOutput, Server, ServerOutput};

/// Over datagrams, so that every timer takes part.
pub fn bench(criterion: &mut Criterion) {
    #[allow(clippy::disallowed_methods, reason = "the machines get their time from here")]
    let now = Instant::now();
    let message = Bytes::from_static(&[b'x'; 500]);
    let mut group = criterion.benchmark_group("transaction");
    group.bench_function("server: MESSAGE, 200, Timer J", |b| {
        b.iter(|| {
            let mut server = Server::non_invite(black_box(now), false);
            server.handle_response(now, StatusCode::OK, message.clone());
            server_to_its_end(server)
        })
    });
    group.bench_function("server: INVITE, 180, 200, ACK, Timer L", |b| {
        b.iter(|| {
            let mut server = Server::invite(black_box(now), false);
            for status in [StatusCode::RINGING, StatusCode::OK] {
                server.handle_response(now, status, message.clone());
                while let Some(output) = server.poll_output() {
                    black_box(output);
                }
            }
            server.handle_ack(now);
            server_to_its_end(server)
        })
    });
    group.bench_function("client: MESSAGE, 200, Timer K", |b| {
        b.iter(|| {
            let mut client = Client::non_invite(black_box(now), false, message.clone());
            black_box(client.poll_output());
            client.handle_response(now, StatusCode::OK);
            client_to_its_end(client)
        })
    });
    group.bench_function("client: INVITE, 180, 200, Timer M", |b| {
        b.iter(|| {
            let mut client = Client::invite(black_box(now), false, message.clone());
            black_box(client.poll_output());
            client.handle_response(now, StatusCode::RINGING);
            client.handle_response(now, StatusCode::OK);
            client_to_its_end(client)
        })
    });
    group.finish();
}

/// All outputs, and its timers as if their time had come, until it is over.
fn server_to_its_end(mut server: Server) {
    loop {
        while let Some(output) = server.poll_output() {
            if black_box(output) == ServerOutput::Terminated {
                return;
            }
        }
        server.handle_timeout(server.next_timeout().expect("a timer ends it"));
    }
}

fn client_to_its_end(mut client: Client) {
    loop {
        while let Some(output) = client.poll_output() {
            if black_box(output) == ClientOutput::Terminated {
                return;
            }
        }
        client.handle_timeout(client.next_timeout().expect("a timer ends it"));
    }
}

//! A REGISTER that refreshes: read, decided, applied; and through the turn of a home over a real store.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion};

use hither::home::{Homes, Mode};
use hither::model::{Aor, Flow, HomeState, Row, Timestamp, Transport};
use hither::registrar::binding::{Policy, Register, register};
use hither::sip::{Limits, Message, Request};
use hither::store::{Store, Target};

/// Read, decide and apply, each alone, and the whole turn.
pub fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("registration");
    let request = request("alice", 2);
    group.bench_function("read", |b| {
        b.iter(|| Register::read(black_box(&request), flow(), |_| false).unwrap())
    });
    let home = registered("alice");
    let refresh = wish("alice", 2);
    group.bench_function("refresh: decide, apply", |b| {
        b.iter(|| {
            let plan = register(black_box(&home), &refresh, NOW, &POLICY, Mode::Durable).unwrap();
            let mut state = home.clone();
            plan.rows.iter().for_each(|row| state.apply(row));
            state
        })
    });
    let dir = tempfile::tempdir().expect("a temporary directory");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let _inside = runtime.enter();
    let target = Target::Sqlite(dir.path().join("parts.sqlite"));
    let store = runtime.block_on(Store::open(&target)).expect("the store opens");
    let homes = Homes::new(store.clone(), || NOW);
    rows("alice").iter().for_each(|row| homes.install(row));
    let aor = aor("alice");
    let mut cseq = 1;
    group.bench_function("refresh: the turn of a home over SQLite", |b| {
        let next = || {
            cseq += 1;
            wish("alice", cseq)
        };
        let turn = |wish: Register| {
            homes.change(
                &aor,
                move |home, mode| register(home, &wish, NOW, &POLICY, mode).map(|plan| (plan, ())),
                |outcome| assert!(outcome.is_ok(), "refreshed"),
            );
        };
        b.iter_batched(next, turn, BatchSize::SmallInput);
    });
    group.finish();
    runtime.block_on(store.close());
}

/// What a first REGISTER of this user writes.
pub fn rows(user: &str) -> Vec<Row> {
    let empty = HomeState::empty(aor(user));
    register(&empty, &wish(user, 1), NOW, &POLICY, Mode::Durable).expect("registered").rows.to_vec()
}

/// The home of a user with one device.
fn registered(user: &str) -> HomeState {
    let mut home = HomeState::empty(aor(user));
    rows(user).iter().for_each(|row| home.apply(row));
    home
}

pub fn aor(user: &str) -> Aor {
    Aor::new(user, "example.org").expect("a name")
}

fn wish(user: &str, cseq: u32) -> Register {
    Register::read(&request(user, cseq), flow(), |_| false).expect("a REGISTER")
}

fn request(user: &str, cseq: u32) -> Request {
    let text = format!(
        "REGISTER sip:example.org SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.15:5060;branch=z9hG4bK-1;rport\r\nMax-Forwards: 70\r\n\
         From: <sip:{user}@example.org>;tag=49583af1\r\nTo: <sip:{user}@example.org>\r\nCall-ID: 843817637684230998sdasdh09\r\n\
         CSeq: {cseq} REGISTER\r\nContact: <sip:{user}@192.0.2.15:5060;ob>;+sip.instance=\"<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>\"\r\n\
         Expires: 3600\r\nUser-Agent: Example Phone 5.4.2\r\nContent-Length: 0\r\n\r\n"
    );
    match Message::parse(Bytes::from(text), true, &Limits::default()) {
        Ok(Message::Request(request)) => request,
        other => panic!("a request: {other:?}"),
    }
}

fn flow() -> Flow {
    Flow {
        transport: Transport::Udp,
        local: ([192, 0, 2, 1], 5060).into(),
        remote: ([192, 0, 2, 15], 5060).into(),
        connection: 0,
    }
}

const POLICY: Policy =
    Policy { min_interval_s: 60, default_interval_s: 3_600, max_interval_s: 86_400, max_bindings: 10 };
pub const NOW: Timestamp = Timestamp(1_795_217_355_123);

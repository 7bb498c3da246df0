//! The writer: commits that wait together go to the disk together.

use criterion::{Criterion, Throughput};
use smallvec::SmallVec;

use hither::model::{Redacted, Row};
use hither::store::{Outcome, Store, Target};

use crate::database::{Database, Postgres};
use crate::registration::rows;

/// One commit alone, and 64 and 1,000 at once, on each database.
pub fn bench(criterion: &mut Criterion) {
    on(criterion, "SQLite", &Database::start("sqlite"));
    if Postgres::is_installed() {
        on(criterion, "Postgres", &Database::start("postgres"));
    } else {
        println!("initdb and pg_ctl are not installed: no commits on Postgres");
    }
}

fn on(criterion: &mut Criterion, name: &str, database: &Database) {
    let address = database.address();
    let target = match address.strip_prefix("sqlite:") {
        Some(file) => Target::Sqlite(file.into()),
        None => Target::Postgres(Redacted(address)),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let store = runtime.block_on(Store::open(&target)).expect("the store opens");
    let bindings: Vec<SmallVec<[Row; 1]>> =
        (0..1_000).map(|n| rows(&format!("u{n}")).into_iter().collect()).collect();
    let mut group = criterion.benchmark_group(format!("commit, {name}"));
    group.sample_size(20);
    for together in [1, 64, 1_000] {
        group.throughput(Throughput::Elements(together as u64));
        group.bench_function(format!("{together} at once"), |b| {
            b.iter(|| {
                // A commit stands in line as soon as it is asked for.
                let waiting: Vec<_> =
                    bindings[..together].iter().map(|rows| store.commit(rows.clone())).collect();
                runtime.block_on(async {
                    for commit in waiting {
                        assert_eq!(commit.await, Outcome::Committed);
                    }
                });
            })
        });
    }
    group.finish();
    runtime.block_on(store.close());
}

//! A presence document: composed of three devices, and shown to a thousand watchers.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, Throughput};

use hither::availability::composition::{compose, compose_basic};
use hither::availability::view::{DomainDefault, grant, render};
use hither::model::{Aor, EntityTag, HomeState, Package, Publication, PublicationId};

use crate::registration::{NOW, aor, rows};

/// The document alone, and what 1,000 watchers take: a decision for each, a document for each kind of view.
pub fn bench(criterion: &mut Criterion) {
    let mut home = HomeState::empty(aor("alice"));
    rows("alice").iter().for_each(|row| home.apply(row));
    for id in 1..=3 {
        home.publications.push(Arc::new(publication(id)));
    }
    let mut group = criterion.benchmark_group("document");
    group.bench_function("compose 3 publications and a binding", |b| {
        b.iter(|| compose(black_box(&home), NOW))
    });
    group.bench_function("compose what is open or closed", |b| {
        b.iter(|| compose_basic(black_box(&home), NOW))
    });
    let watchers: Vec<(Aor, HomeState)> =
        (0..1_000).map(|n| aor(&format!("u{n}"))).map(|aor| (aor.clone(), HomeState::empty(aor))).collect();
    group.throughput(Throughput::Elements(1_000));
    for (name, default) in [("full", DomainDefault::Full), ("basic", DomainDefault::Basic)] {
        group.bench_function(format!("1,000 watchers, {name}"), |b| {
            b.iter(|| {
                let mut views = HashMap::new();
                for (watcher, watched) in black_box(&watchers) {
                    let grant = grant(&home, watcher, watched, &default.into(), &|| None, NOW);
                    black_box(views.entry(grant.clone()).or_insert_with(|| render(&home, &grant, NOW)));
                }
                views
            })
        });
    }
    group.finish();
}

fn publication(id: u32) -> Publication {
    let body = format!(
        "<?xml version=\"1.0\"?><presence xmlns=\"urn:ietf:params:xml:ns:pidf\" xmlns:dm=\"urn:ietf:params:xml:ns:pidf:data-model\" \
         xmlns:rpid=\"urn:ietf:params:xml:ns:pidf:rpid\" entity=\"sip:alice@example.org\"><tuple id=\"t{id}\"><status><basic>open</basic></status>\
         <dm:deviceID>urn:uuid:{id}</dm:deviceID><contact priority=\"0.8\">sip:alice@example.org</contact><note>Device {id}</note>\
         <timestamp>2026-11-20T23:29:15Z</timestamp></tuple><dm:person id=\"p{id}\"><rpid:activities><rpid:meeting/></rpid:activities>\
         <dm:note>In the small room</dm:note></dm:person></presence>"
    );
    Publication {
        aor: aor("alice"),
        id: PublicationId(id.into()),
        package: Package::Presence,
        tag: EntityTag(id.into()),
        publisher: Default::default(),
        parsed: Default::default(),
        turns: Default::default(),
        is_restamped: false,
        renamed: Default::default(),
        content_type: "application/pidf+xml".into(),
        body: Bytes::from(body),
        created_at: NOW,
        modified_at: NOW.after_secs(id),
        expires_at: NOW.after_secs(600),
    }
}

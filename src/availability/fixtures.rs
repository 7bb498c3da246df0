//! Homes and documents for the tests of this module.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;

use crate::model::{
    Aor, Auid, Binding, BindingKey, DialogParts, DialogTexts, Document, DocumentName, EntityTag, Flow,
    HomeState, Package, Publication, PublicationId, Said, Subscription, SubscriptionId, Text, Timestamp,
    Transport,
};

pub const NOW: Timestamp = Timestamp(1_795_217_355_123);

pub fn alice() -> Aor {
    Aor::new("alice", "example.org").unwrap()
}

pub fn home() -> HomeState {
    HomeState::empty(alice())
}

/// Keeps presence rules in a home.
pub fn keep(home: &mut HomeState, name: &str, rules: &str) {
    home.documents.put(&Arc::new(Document {
        owner: home.aor.clone(),
        name: DocumentName::new(Auid::PresRules, name),
        tag: EntityTag(1),
        content_type: "application/auth-policy+xml".into(),
        body: rules.to_owned().into(),
        modified_at: NOW,
        said: Said::default(),
    }));
}

/// Sets presence by hand.
pub fn set_by_hand(home: &mut HomeState, pidf: &str, modified_at: Timestamp) {
    home.documents.put(&Arc::new(Document {
        owner: home.aor.clone(),
        name: DocumentName::new(Auid::PidfManipulation, "index"),
        tag: EntityTag(2),
        content_type: "application/pidf+xml".into(),
        body: pidf.to_owned().into(),
        modified_at,
        said: Said::default(),
    }));
}

/// A document of alice's.
pub fn pidf(inner: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><presence xmlns=\"urn:ietf:params:xml:ns:pidf\" \
         xmlns:dm=\"urn:ietf:params:xml:ns:pidf:data-model\" xmlns:rpid=\"urn:ietf:params:xml:ns:pidf:rpid\" \
         entity=\"sip:alice@example.org\">{inner}</presence>"
    )
}

pub fn publish(home: &mut HomeState, id: u128, body: &str) {
    home.publications.push(Arc::new(Publication {
        aor: home.aor.clone(),
        id: PublicationId(id),
        package: Package::Presence,
        tag: EntityTag(id),
        publisher: Default::default(),
        parsed: Default::default(),
        turns: Default::default(),
        is_restamped: false,
        renamed: Default::default(),
        content_type: "application/pidf+xml".to_owned(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        created_at: NOW,
        modified_at: NOW.after_secs(u32::try_from(id).unwrap_or(0)),
        expires_at: NOW.after_secs(600),
    }));
}

pub fn register(home: &mut HomeState, nth: u32, instance: Option<&str>) {
    let flow = Flow {
        transport: Transport::Udp,
        local: "192.0.2.1:5060".parse().unwrap(),
        remote: "198.51.100.7:5062".parse().unwrap(),
        connection: 0,
    };
    home.bindings.push(Arc::new(Binding {
        aor: home.aor.clone(),
        key: BindingKey(format!("sip:alice@198.51.100.{nth}:5062").into()),
        contact: format!("sip:alice@198.51.100.{nth}:5062").into(),
        params: Text::default(),
        q: 1000,
        instance: instance.map(Text::from),
        reg_id: None,
        path: Box::default(),
        call_id: format!("call-{nth}").into(),
        cseq: 1,
        flow,
        direct: true,
        user_agent: "phone".into(),
        created_at: NOW.after_secs(nth),
        refreshed_at: NOW,
        expires_at: NOW.after_secs(300 + nth),
    }));
}

pub fn watch(home: &mut HomeState, watcher: &Aor, expires_at: Timestamp) {
    home.subscriptions.put(&Arc::new(Subscription {
        id: SubscriptionId(7),
        presentity: home.aor.clone(),
        watcher: watcher.clone(),
        package: Package::Presence,
        event_id: None,
        dialog: DialogTexts::new(DialogParts {
            call_id: "c",
            local_tag: "l",
            remote_tag: "r",
            local_address: &home.aor.uri(),
            remote_address: &watcher.uri(),
            remote_target: "sip:w@192.0.2.9",
        }),
        route_set: Box::default(),
        flow: Flow {
            transport: Transport::Udp,
            local: "192.0.2.1:5060".parse().unwrap(),
            remote: "192.0.2.9:5060".parse().unwrap(),
            connection: 0,
        },
        accept: Text::default(),
        remote_cseq: 1,
        notify_cseq_reserved: 0,
        created_at: NOW,
        expires_at,
    }));
}

/// Holds a document against one of the schemas in `sip-tests/schema`, where xmllint is installed.
pub fn assert_valid_if_possible(schema: &str, document: &str) {
    if Command::new("xmllint").arg("--version").stderr(Stdio::null()).status().is_err() {
        println!("skipped: xmllint is not installed");
        return;
    }
    let schema = format!("{}/sip-tests/schema/{schema}.xsd", env!("CARGO_MANIFEST_DIR"));
    let mut child = Command::new("xmllint")
        .args(["--nonet", "--noout", "--schema", &schema, "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(document.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{document}", String::from_utf8_lossy(&output.stderr));
}

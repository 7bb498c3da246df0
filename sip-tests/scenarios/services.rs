//! Services of all users (RFC 4826 4.4): one URI is one user's, and who serves lists may read them all.

use crate::harness::phone::aor;
use crate::harness::web::{Reply, SERVICES, document, part};
use crate::harness::{DOMAIN, Database, Server, Web};
use crate::scenarios::xcap::start;

const NAMESPACE: &str = "xmlns=\"urn:ietf:params:xml:ns:rls-services\"";

fn services(uris: &[&str]) -> String {
    let service = |uri: &&str| {
        format!("<service uri=\"{uri}\"><list><l:entry uri=\"sip:x@example.net\"/></list></service>")
    };
    let all: String = uris.iter().map(service).collect();
    format!(
        "<rls-services {NAMESPACE} xmlns:l=\"urn:ietf:params:xml:ns:resource-lists\">{all}</rls-services>"
    )
}

fn put(web: &mut Web, user: &str, name: &str, uris: &[&str]) -> Reply {
    web.put(&document("rls-services", user, name), SERVICES, &services(uris))
}

fn a_service_is_one_users_and_nobodys_address_rfc4826_4_4_5(database: Database) {
    let mut server = Server::with(database, |config| {
        config.set("http.listen", "127.0.0.1:0");
        config.set("aliases", vec!["also.example"]);
    });
    let mut alice = Web::new(&server, "alice");
    let mut bob = Web::new(&server, "bob");
    let friends = format!("sip:friends@{DOMAIN}");
    assert_eq!(put(&mut alice, "alice", "index", &[&friends]).status, 201);
    // In any spelling, in any document of anybody.
    for (user, name) in [("bob", "index"), ("bob", "others"), ("alice", "others")] {
        let web = if user == "bob" { &mut bob } else { &mut alice };
        let taken = put(web, user, name, &[&format!("sip:%66riends@{}", DOMAIN.to_uppercase())]);
        assert_eq!(taken.condition(), "uniqueness-failure", "{user} {name}");
        assert!(taken.body.contains(&format!("<alt-value>sip:friends-2@{DOMAIN}</alt-value>")), "{taken:?}");
        assert!(taken.body.contains("field=\"rls-services/*%5B1%5D/@uri\""), "{taken:?}");
    }
    for taken in [&aor("carol"), "sip:carol@also.example", "sip:friends@also.example:5060;a=b"] {
        assert_eq!(put(&mut bob, "bob", "index", &[taken]).condition(), "uniqueness-failure", "{taken}");
    }
    // What is suggested is free; one's own may stay, and be given up.
    let second = format!("sip:friends-2@{DOMAIN}");
    assert_eq!(put(&mut bob, "bob", "index", &[&second]).status, 201);
    assert_eq!(put(&mut alice, "alice", "index", &[&friends, "sip:more@example.net"]).status, 200);
    server.kill9();
    server.restart();
    let (mut alice, mut bob) = (Web::new(&server, "alice"), Web::new(&server, "bob"));
    assert_eq!(put(&mut bob, "bob", "index", &[&second, &friends]).condition(), "uniqueness-failure");
    let uri = part(&document("rls-services", "bob", "index"), "rls-services/service[1]/@uri");
    let renamed = bob.put(&uri, crate::harness::web::ATTRIBUTE, &format!("\"{friends}\""));
    assert_eq!(renamed.condition(), "uniqueness-failure");
    let one = part(
        &document("rls-services", "alice", "index"),
        &format!("rls-services/service[@uri=\"{friends}\"]"),
    );
    assert_eq!(alice.delete(&one).status, 200);
    assert_eq!(put(&mut bob, "bob", "index", &[&second, &friends]).status, 200);
    assert_eq!(bob.delete(&document("rls-services", "bob", "index")).status, 200);
    assert_eq!(put(&mut alice, "alice", "index", &[&friends, &second]).status, 200);
}

fn of_two_who_want_one_uri_one_gets_it_rfc4826_4_4_5(database: Database) {
    let server = start(database);
    let uri = format!("sip:wanted@{DOMAIN}");
    let created = std::thread::scope(|scope| {
        let asked = ["alice", "bob", "carol"].map(|user| {
            let (server, uri) = (&server, uri.as_str());
            scope.spawn(move || put(&mut Web::new(server, user), user, "index", &[uri]).status)
        });
        let statuses = asked.map(|asked| asked.join().expect("an answer"));
        assert!(statuses.iter().all(|status| matches!(status, 201 | 409)), "{statuses:?}");
        statuses.iter().filter(|status| **status == 201).count()
    });
    assert_eq!(created, 1);
}

fn the_index_is_for_trusted_elements_and_holds_all_rfc4826_4_4_8(database: Database) {
    let server = Server::with(database, |config| {
        config.set("http.listen", "127.0.0.1:0");
        let text = "peers = [{ name = \"rls\", addresses = [\"127.0.0.1\"], read_services = true }]";
        let table: toml::Table = text.parse().expect("TOML");
        config.set("peers", table["peers"].clone());
    });
    let index = "/xcap-root/rls-services/global/index";
    let mut trusted = Web::new(&server, "nobody");
    let empty = trusted.ask_plainly("GET", index, &[], b"");
    assert_eq!((empty.status, empty.header("Content-Type")), (200, Some(SERVICES)));
    assert!(!empty.body.contains("<service"), "{}", empty.body);
    let (mut alice, mut bob) = (Web::new(&server, "alice"), Web::new(&server, "bob"));
    assert_eq!(put(&mut alice, "alice", "index", &["sip:a@example.net"]).status, 201);
    assert_eq!(put(&mut alice, "alice", "others", &["sip:b@example.net"]).status, 201);
    assert_eq!(put(&mut bob, "bob", "index", &["sip:c@example.net"]).status, 201);
    let all = trusted.ask_plainly("GET", index, &[], b"");
    assert!(all.body.contains("sip:a@example.net") && all.body.contains("sip:c@example.net"), "{}", all.body);
    assert!(!all.body.contains("sip:b@example.net"), "of documents called index alone: {}", all.body);
    assert_ne!(all.tag(), empty.tag());
    let one = part(index, "rls-services/service[@uri=\"sip:c@example.net\"]");
    let one = trusted.ask_plainly("GET", &one, &[], b"");
    assert_eq!(one.status, 200);
    assert!(one.body.starts_with("<service ") && one.body.contains("sip:x@example.net"), "{}", one.body);
    assert_eq!(trusted.ask_plainly("PUT", index, &[("Content-Type", SERVICES)], b"<a/>").status, 405);
    // It is believed for nothing else.
    let own = document("rls-services", "alice", "index");
    assert_eq!(trusted.ask_plainly("GET", &own, &[], b"").status, 401);
    assert_eq!(bob.delete(&document("rls-services", "bob", "index")).status, 200);
    assert!(!trusted.ask_plainly("GET", index, &[], b"").body.contains("sip:c@example.net"));
}

on_each_database!(
    a_service_is_one_users_and_nobodys_address_rfc4826_4_4_5,
    of_two_who_want_one_uri_one_gets_it_rfc4826_4_4_5,
    the_index_is_for_trusted_elements_and_holds_all_rfc4826_4_4_8,
);

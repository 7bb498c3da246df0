//! Who tries what over HTTP: strangers, neighbours, bombs and slow hands.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::xcap::{lists, start};
use crate::harness::server::password_of;
use crate::harness::web::{ATTRIBUTE, ELEMENT, LISTS, RULES, connect, document, part, read_reply};
use crate::harness::{DEADLINE, DOMAIN, Database, Phone, Server, Transport, Web};

fn strangers_are_challenged_alike_whatever_they_ask_for_a11(database: Database) {
    let server = start(database);
    let index = document("resource-lists", "alice", "index");
    Web::new(&server, "alice").put(&index, LISTS, &lists(""));
    let mut stranger = Web::new(&server, "alice");
    let mut bodies = Vec::new();
    for target in [
        index.clone(),
        document("resource-lists", "alice", "other"),
        document("resource-lists", "nobody", "index"),
        document("unknown-usage", "alice", "index"),
        "/xcap-root/xcap-caps/global/index".to_owned(),
        "/xcap-root/%zz".to_owned(),
    ] {
        for (method, body) in [("GET", ""), ("PUT", "<a/>"), ("DELETE", ""), ("POST", "x")] {
            for credentials in ["", "Basic YWxpY2U6cHc=", "Digest nonsense", "Bearer x"] {
                let rows = [("Authorization", credentials)];
                let rows = if credentials.is_empty() { &[] } else { &rows[..] };
                let reply = stranger.ask_plainly(method, &target, rows, body.as_bytes());
                assert_eq!(reply.status, 401, "{method} {target}");
                let challenges: Vec<&str> = reply.all("WWW-Authenticate").collect();
                assert_eq!(challenges.len(), 2, "{challenges:?}");
                assert!(challenges[0].contains("algorithm=SHA-256, qop=\"auth\""), "{challenges:?}");
                assert!(challenges[1].contains("algorithm=MD5"), "{challenges:?}");
                bodies.push((reply.body, reply.headers.len()));
            }
        }
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
}

fn a_neighbours_tree_is_closed_and_tells_nothing_rfc4825_5_7(database: Database) {
    let server = start(database);
    let mut alice = Web::new(&server, "alice");
    let mut bob = Web::new(&server, "bob");
    let there = document("pres-rules", "alice", "index");
    let rules = "<ruleset xmlns=\"urn:ietf:params:xml:ns:common-policy\"/>";
    let tag = alice.put(&there, RULES, rules).tag();
    let absent = document("pres-rules", "alice", "other");
    let directory = document("org.openmobilealliance.xcap-directory", "alice", "directory.xml");
    for method in ["GET", "HEAD", "PUT", "DELETE", "POST"] {
        let mut ask = |target: &str| {
            let reply = bob.ask(method, target, &[("Content-Type", RULES)], b"");
            (reply.status, reply.body, reply.headers.len())
        };
        let of_there = ask(&there);
        assert_eq!(of_there.0, 403, "{method}");
        for target in [&absent, &directory, &part(&there, "x"), &format!("{there}/~~/p:x")] {
            let of_other = ask(target);
            assert!(of_other == of_there || of_other.0 == 400, "{method} {target}: {of_other:?}");
        }
    }
    assert_eq!(alice.get(&there).tag(), tag);
}

fn credentials_are_good_once_and_for_one_request_a08(database: Database) {
    let server = start(database);
    let mut alice = Web::new(&server, "alice");
    let index = document("resource-lists", "alice", "index");
    alice.put(&index, LISTS, &lists("<list name=\"a\"/>"));
    let spent = alice.credentials("DELETE", &index);
    let ask = |alice: &mut Web, method: &str, target: &str, credentials: &str| {
        alice.ask_plainly(method, target, &[("Authorization", credentials)], b"")
    };
    let attribute = part(&index, "resource-lists/list/@name");
    for (method, target) in [("GET", &index), ("DELETE", &attribute), ("DELETE", &index.replace(':', "%3A"))]
    {
        let reply = ask(&mut alice, method, target, &spent);
        assert_eq!(reply.status, 401, "{method} {target}: of another request");
        assert!(!reply.all("WWW-Authenticate").any(|row| row.contains("stale")), "{reply:?}");
    }
    assert_eq!(ask(&mut alice, "DELETE", &index, &spent).status, 200);
    alice.put(&index, LISTS, &lists("<list name=\"b\"/>"));
    let replayed = ask(&mut alice, "DELETE", &index, &spent);
    assert_eq!(replayed.status, 401);
    assert!(replayed.all("WWW-Authenticate").all(|row| row.contains("stale=true")), "{replayed:?}");
    assert_eq!(alice.get(&index).status, 200, "nothing was done twice");
}

fn credentials_of_an_earlier_run_are_stale_a08(database: Database) {
    let mut server = start(database);
    let mut alice = Web::new(&server, "alice");
    let index = document("resource-lists", "alice", "index");
    alice.put(&index, LISTS, &lists(""));
    let kept = alice.credentials("DELETE", &index);
    server.restart();
    let mut stranger = Web::new(&server, "alice");
    let reply = stranger.ask_plainly("DELETE", &index, &[("Authorization", &kept)], b"");
    assert_eq!(reply.status, 401);
    assert!(reply.all("WWW-Authenticate").all(|row| row.contains("stale=true")), "{reply:?}");
    assert_eq!(alice.get(&index).status, 200);
}

fn guessing_is_slowed_on_http_and_sip_together_a12(database: Database) {
    let server = start(database);
    let index = document("resource-lists", "bob", "index");
    let mut alice = Web::new(&server, "alice");
    assert_eq!(alice.get(&document("resource-lists", "alice", "index")).status, 404);
    let mut guesser = Web::new(&server, "bob").with_password("a guess");
    for _ in 0..12 {
        assert_eq!(guesser.get(&index).status, 401);
    }
    let mut late = Web::new(&server, "bob").with_password(&password_of("bob"));
    assert_eq!(late.ask("GET", &index, &[], b"").status, 401, "not even looked at");
    let mut phone = Phone::new(&server, "bob", Transport::Udp);
    let request = phone.register_request().header("Contact", &phone.contact());
    assert_eq!(phone.ask(request).status(), Some(401), "one count for both");
    assert_eq!(
        alice.get(&document("resource-lists", "alice", "index")).status,
        404,
        "who proved the password goes on"
    );
}

fn nothing_climbs_out_of_its_tree_a27(database: Database) {
    let server = start(database);
    let mut alice = Web::new(&server, "alice");
    let mut bob = Web::new(&server, "bob");
    let of_bob = document("resource-lists", "bob", "index");
    bob.put(&of_bob, LISTS, &lists("<list name=\"secret\"/>"));
    let own = document("resource-lists", "alice", "");
    for tail in [
        &format!("../sip:bob@{DOMAIN}/index"),
        &format!("%2e%2e/sip:bob@{DOMAIN}/index"),
        &format!("..%2fsip:bob@{DOMAIN}%2findex"),
        &format!("..%5csip:bob@{DOMAIN}%5cindex"),
        "../../global/index",
        "../../../../../../etc/passwd",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "index%00.xml",
        "%0d%0aX-Evil:%20yes",
        "./index",
        "//index",
        "..;/index",
        "%252e%252e/index",
        "%c0%ae%c0%ae/index",
        "\u{202e}index",
        "a'--",
        "a%25%5f",
    ] {
        let target = own.clone() + tail;
        for (method, body) in [("GET", ""), ("PUT", "<a/>"), ("DELETE", "")] {
            let reply = alice.ask(method, &target, &[("Content-Type", LISTS)], body.as_bytes());
            assert!([400, 403, 404, 409].contains(&reply.status), "{method} {target}: {reply:?}");
            assert!(reply.header("X-Evil").is_none() && !reply.body.contains("secret"), "{reply:?}");
        }
    }
    assert_eq!(bob.get(&of_bob).body, lists("<list name=\"secret\"/>"));
    // A name is a name, whatever it looks like elsewhere.
    for name in ["a'--", "a%25", "%252e%252e", "%E2%80%AE", "%22;DROP%20TABLE%20documents"] {
        let target = own.clone() + name;
        assert_eq!(alice.put(&target, LISTS, &lists("")).status, 201, "{name}");
        assert_eq!(alice.get(&target).body, lists(""));
        assert_eq!(alice.delete(&target).status, 200);
    }
    assert!(!server.log().contains('\u{202e}') && !server.log().contains("secret"));
}

fn bombs_of_xml_are_refused_quickly_and_never_stored_a07(database: Database) {
    let server = start(database);
    let mut alice = Web::new(&server, "alice");
    let index = document("resource-lists", "alice", "index");
    let stored = lists("<list name=\"a\"/>");
    alice.put(&index, LISTS, &stored);
    let deep = |n: usize| lists(&format!("{}{}", "<list>".repeat(n), "</list>".repeat(n)));
    let attributes: String = (0..8_000).map(|n| format!(" a{n}=''")).collect();
    let spaces: String = (0..5_000).map(|n| format!(" xmlns:n{n}='u'")).collect();
    let laughs = "<!DOCTYPE r [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;\">]><r>&b;</r>";
    for bomb in [
        laughs.to_owned(),
        "<!DOCTYPE r [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><r>&x;</r>".to_owned(),
        "<!DOCTYPE r SYSTEM \"http://127.0.0.1:1/\"><r/>".to_owned(),
        deep(40),
        deep(15_000),
        lists(&format!("<list{attributes}/>")),
        lists(&format!("<list{spaces}/>")),
        lists(&"<list/>".repeat(25_000)),
        lists("") + "<again/>",
        lists("<p:list/>"),
        lists("&unknown;"),
        lists("<list name='&#0;'/>"),
    ] {
        let began = Instant::now();
        let reply = alice.put(&index, LISTS, &bomb);
        assert!(!reply.condition().is_empty(), "{}", bomb.get(..60).unwrap_or(&bomb));
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
    let element = part(&index, "resource-lists/list[@name=\"b\"]");
    for bomb in [
        "<list name=\"b\"/></resource-lists><resource-lists>".to_owned(),
        "<!DOCTYPE list><list name=\"b\"/>".to_owned(),
        format!("<list name=\"b\">{}{}</list>", "<list>".repeat(40), "</list>".repeat(40)),
        "<list name=\"b\"/><!--".to_owned(),
        "<list name=\"b\"><![CDATA[</list>".to_owned(),
    ] {
        assert!(!alice.put(&element, ELEMENT, &bomb).condition().is_empty(), "{bomb}");
    }
    let attribute = part(&index, "resource-lists/list/@name");
    for bomb in ["\"a\" xmlns=\"u\"", "\"a\"/><list b=\"", "'a'><list/", "\"&x;\""] {
        assert_eq!(alice.put(&attribute, ATTRIBUTE, bomb).condition(), "not-xml-att-value", "{bomb}");
    }
    assert_eq!(alice.get(&index).body, stored);
}

fn large_bodies_are_413_and_never_kept_a05(database: Database) {
    let server = start(database);
    let mut alice = Web::new(&server, "alice");
    let index = document("resource-lists", "alice", "index");
    let filled = |bytes: usize| {
        let empty = lists("<!---->").len();
        lists(&format!("<!--{}-->", "x".repeat(bytes - empty)))
    };
    assert_eq!(alice.put(&index, LISTS, &filled(256 * 1024)).status, 201);
    assert_eq!(alice.put(&index, LISTS, &filled(256 * 1024 + 1)).status, 413);
    let list = part(&index, "resource-lists/list");
    assert_eq!(alice.put(&list, ELEMENT, "<list/>").status, 413, "with it the document would be too large");
    // All documents of one user together.
    for n in 0..3 {
        assert_eq!(
            alice
                .put(&document("resource-lists", "alice", &format!("{n}")), LISTS, &filled(256 * 1024))
                .status,
            201
        );
    }
    let more = alice.put(&document("resource-lists", "alice", "more"), LISTS, &filled(1_024));
    assert_eq!(more.condition(), "constraint-failure");
    assert_eq!(
        Web::new(&server, "bob").put(&document("resource-lists", "bob", "index"), LISTS, &lists("")).status,
        201
    );
    // In pieces without a length told before, and for strangers.
    let mut stream = connect(server.http());
    let _ = write!(stream, "PUT {index} HTTP/1.1\r\nHost: {DOMAIN}\r\nTransfer-Encoding: chunked\r\n\r\n");
    let piece = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let mut sent = 0;
    while sent < 2_000 && stream.write_all(piece.as_bytes()).is_ok() {
        sent += 1;
    }
    assert!(sent < 2_000, "a stranger's body is not read for ever");
    for lie in ["99999999999", "-1", "1,2", "1x", ""] {
        let mut stream = connect(server.http());
        let _ = write!(stream, "PUT {index} HTTP/1.1\r\nHost: {DOMAIN}\r\nContent-Length: {lie}\r\n\r\n");
        let status = read_reply(&mut stream, false).map(|reply| reply.status);
        assert!(matches!(status, None | Some(400 | 401)), "{lie}: {status:?}");
        assert!(read_reply(&mut stream, false).is_none(), "{lie}: the connection goes on");
    }
}

fn heads_are_bounded_and_whole_a05(database: Database) {
    let server = start(database);
    let send = |head: &str| {
        let mut stream = connect(server.http());
        let _ = stream.write_all(head.as_bytes());
        read_reply(&mut stream, false).map(|reply| reply.status)
    };
    let root = "/xcap-root/xcap-caps/global/index";
    let long = "x".repeat(100_000);
    for (head, expected) in [
        (format!("GET {root} HTTP/1.1\r\nHost: {DOMAIN}\r\n\r\n"), &[Some(401)][..]),
        (format!("GET {root} HTTP/1.0\r\n\r\n"), &[Some(401)]),
        (format!("GET http://{DOMAIN}{root} HTTP/1.1\r\nHost: {DOMAIN}\r\n\r\n"), &[Some(401)]),
        (format!("GET {root} HTTP/1.1\r\n\r\n"), &[Some(400)]),
        (format!("GET {root} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), &[Some(400)]),
        (format!("GET {root} HTTP/1.1\r\nHost : {DOMAIN}\r\n\r\n"), &[Some(400), None]),
        (format!("GET {root} HTTP/1.1\r\nHost: {DOMAIN}\r\nX: {long}\r\n\r\n"), &[Some(431), None]),
        (format!("GET {root}/{long} HTTP/1.1\r\nHost: {DOMAIN}\r\n\r\n"), &[Some(414), Some(431), None]),
        (
            format!("GET {root} HTTP/1.1\r\nHost: {DOMAIN}\r\n{}\r\n", "a: b\r\n".repeat(1_000)),
            &[Some(431), None],
        ),
        (
            format!(
                "GET {root} HTTP/1.1\r\nHost: {DOMAIN}\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"
            ),
            &[Some(400), None],
        ),
        ("\u{0}\u{1}\u{2} garbage\r\n\r\n".to_owned(), &[Some(400), None]),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), &[Some(400), Some(505), None]),
        ("CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n".to_owned(), &[Some(400), Some(404)]),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), &[Some(404)]),
    ] {
        let got = send(&head);
        assert!(expected.contains(&got), "{:?}: {got:?}", head.get(..80).unwrap_or(&head));
    }
    assert_eq!(send(&format!("GET {root} HTTP/1.1\r\nHost: {DOMAIN}\r\n\r\n")), Some(401), "still there");
}

fn two_ends_of_one_body_are_the_end_of_the_connection_a01(database: Database) {
    let server = start(database);
    let hidden = format!("GET / HTTP/1.1\r\nHost: {DOMAIN}\r\n\r\n");
    let length = hidden.len();
    for both in [
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n\r\n0\r\n\r\n"),
    ] {
        let mut stream = connect(server.http());
        let head = format!("GET /xcap-root/x HTTP/1.1\r\nHost: {DOMAIN}\r\n");
        stream.write_all((head + &both + &hidden).as_bytes()).expect("write");
        assert_eq!(read_reply(&mut stream, false).map(|reply| reply.status), Some(401), "{both}");
        assert!(read_reply(&mut stream, false).is_none(), "{both}: what was hidden is not read");
    }
}

/// With deadlines that a test can wait for.
fn impatient(database: Database) -> Server {
    Server::with(database, |config| {
        config.set("http.listen", "127.0.0.1:0");
        config.set("http.header_deadline_ms", 300);
        config.set("http.body_deadline_ms", 300);
        config.set("http.connections_per_address", 20);
    })
}

/// What the peer says until it closes.
fn until_closed(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    stream.read_to_end(&mut said).unwrap_or_else(|error| panic!("not closed in time: {error}"));
    String::from_utf8_lossy(&said).into_owned()
}

fn slow_hands_are_let_go_a22(database: Database) {
    let server = impatient(database);
    let mut alice = Web::new(&server, "alice");
    let index = document("resource-lists", "alice", "index");
    assert_eq!(alice.put(&index, LISTS, &lists("")).status, 201);
    let began = Instant::now();
    let mut silent = connect(server.http());
    let mut half = connect(server.http());
    write!(half, "GET {index} HTTP/1.1\r\nHost:").unwrap();
    let mut bodiless = connect(server.http());
    write!(bodiless, "PUT {index} HTTP/1.1\r\nHost: {DOMAIN}\r\nContent-Length: 100\r\n\r\nfour").unwrap();
    let mut owner = connect(server.http());
    let credentials = alice.credentials("PUT", &index);
    write!(owner, "PUT {index} HTTP/1.1\r\nHost: {DOMAIN}\r\nContent-Type: {LISTS}\r\nAuthorization: {credentials}\r\nContent-Length: 100\r\n\r\nfour").unwrap();
    for (stream, wanted) in
        [(&mut silent, ""), (&mut half, ""), (&mut bodiless, " 401 "), (&mut owner, " 408 ")]
    {
        let said = until_closed(stream);
        assert!(said.contains(wanted), "{said}");
    }
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
    // An idle connection too; and who comes back finds everything as it was.
    let mut idle = connect(server.http());
    write!(idle, "GET / HTTP/1.1\r\nHost: {DOMAIN}\r\n\r\n").unwrap();
    assert!(until_closed(&mut idle).contains(" 404 "));
    assert_eq!(alice.get(&index).body, lists(""));
}

fn one_address_has_so_many_connections_and_no_more_a22(database: Database) {
    let server = Server::with(database, |config| {
        config.set("http.listen", "127.0.0.1:0");
        config.set("http.connections_per_address", 3);
    });
    let root = "/xcap-root/xcap-caps/global/index";
    let ask = |stream: &mut TcpStream| {
        write!(stream, "GET {root} HTTP/1.1\r\nHost: {DOMAIN}\r\n\r\n").ok()?;
        read_reply(stream, false).map(|reply| reply.status)
    };
    let mut held: Vec<TcpStream> = (0..3).map(|_| connect(server.http())).collect();
    for stream in &mut held {
        assert_eq!(ask(stream), Some(401));
    }
    assert_eq!(ask(&mut connect(server.http())), None, "closed at once");
    drop(held.pop());
    // The place is free as soon as the server has noticed.
    let until = Instant::now() + DEADLINE;
    while ask(&mut connect(server.http())) != Some(401) {
        assert!(Instant::now() < until, "no place became free");
    }
    assert_eq!(ask(&mut held[0]), Some(401), "the others go on");
}

fn a_stop_answers_what_is_in_hand_and_closes_the_rest(database: Database) {
    let mut server = start(database);
    let mut alice = Web::new(&server, "alice");
    let index = document("resource-lists", "alice", "index");
    alice.put(&index, LISTS, &lists(""));
    let mut idle = connect(server.http());
    write!(idle, "GET / HTTP/1.1\r\nHost: {DOMAIN}\r\n\r\n").unwrap();
    assert_eq!(read_reply(&mut idle, false).map(|reply| reply.status), Some(404));
    let began = Instant::now();
    assert_eq!(server.stop(), 0);
    assert_eq!(until_closed(&mut idle), "");
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "an idle connection holds nothing up: {:?}",
        began.elapsed()
    );
}

fn with_a_certificate_https_is_spoken_rfc4825_14(database: Database) {
    let file = |name: &str| format!("{}/sip-tests/certificate/{name}", env!("CARGO_MANIFEST_DIR"));
    let server = Server::with(database, |config| {
        config.set("http.listen", "127.0.0.1:0");
        config.set("http.tls_cert", file("chain.pem"));
        config.set("http.tls_key", file("key.pem"));
    });
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(file("authority.pem")).expect("a certificate"))
        .expect("an authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = DOMAIN.try_into().expect("a name");
    let session = rustls::ClientConnection::new(Arc::new(config), name).expect("a session");
    let mut stream = rustls::StreamOwned::new(session, connect(server.http()));
    for _ in 0..2 {
        write!(stream, "GET /xcap-root/xcap-caps/global/index HTTP/1.1\r\nHost: {DOMAIN}\r\n\r\n")
            .expect("write");
        assert_eq!(read_reply(&mut stream, false).map(|reply| reply.status), Some(401));
    }
    let mut plain = connect(server.http());
    let _ = plain.write_all(format!("GET / HTTP/1.1\r\nHost: {DOMAIN}\r\n\r\n").as_bytes());
    assert!(read_reply(&mut plain, false).is_none(), "no HTTP where HTTPS is spoken");
}

fn nothing_listens_unless_it_is_asked_to(database: Database) {
    let server = Server::start(database);
    let output = server.cli(&["check-config"], "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let section = text.split("[http]").nth(1).expect("a section");
    assert!(section.contains("listen = \"\""), "{text}");
}

on_each_database!(
    strangers_are_challenged_alike_whatever_they_ask_for_a11,
    a_neighbours_tree_is_closed_and_tells_nothing_rfc4825_5_7,
    credentials_are_good_once_and_for_one_request_a08,
    credentials_of_an_earlier_run_are_stale_a08,
    guessing_is_slowed_on_http_and_sip_together_a12,
    nothing_climbs_out_of_its_tree_a27,
    bombs_of_xml_are_refused_quickly_and_never_stored_a07,
    large_bodies_are_413_and_never_kept_a05,
    heads_are_bounded_and_whole_a05,
    two_ends_of_one_body_are_the_end_of_the_connection_a01,
    slow_hands_are_let_go_a22,
    one_address_has_so_many_connections_and_no_more_a22,
    a_stop_answers_what_is_in_hand_and_closes_the_rest,
    with_a_certificate_https_is_spoken_rfc4825_14,
    nothing_listens_unless_it_is_asked_to,
);

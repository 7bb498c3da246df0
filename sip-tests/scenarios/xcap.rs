//! XCAP (RFC 4825): documents and their parts, over HTTP.

use std::process::Command;

use crate::harness::web::{ATTRIBUTE, ELEMENT, LISTS, RULES, Reply, document, part};
use crate::harness::{DOMAIN, Database, Server, Web};

pub fn start(database: Database) -> Server {
    Server::with(database, |config| config.set("http.listen", "127.0.0.1:0"))
}

pub fn lists(inside: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<resource-lists xmlns=\"urn:ietf:params:xml:ns:resource-lists\">{inside}</resource-lists>\n"
    )
}

fn rules(id: &str) -> String {
    format!("<ruleset xmlns=\"urn:ietf:params:xml:ns:common-policy\"><rule id=\"{id}\"/></ruleset>")
}

fn the_session_of_rfc4825_13(database: Database) {
    let server = start(database);
    let mut bill = Web::new(&server, "alice");
    let index = document("resource-lists", "alice", "index");
    let created = bill.put(&index, LISTS, &lists("\n  <list name=\"friends\">\n  </list>\n"));
    assert_eq!((created.status, created.body.as_str()), (201, ""));
    let bob = "<entry uri=\"sip:bob@example.com\">\n    <display-name>Bob Jones</display-name>\n  </entry>";
    let friends = "resource-lists/list[@name=\"friends\"]";
    let added = bill.put(&part(&index, &format!("{friends}/entry")), ELEMENT, bob);
    assert_eq!(added.status, 201);
    assert_ne!(added.tag(), created.tag(), "8.5: a new tag with every change");
    let fetched = bill.get(&index);
    assert_eq!((fetched.status, fetched.header("Content-Type")), (200, Some(LISTS)));
    assert_eq!(fetched.tag(), added.tag());
    assert_eq!(fetched.body, lists(&format!("\n  <list name=\"friends\">\n  {bob}</list>\n")));
    let close = "<list name=\"close-friends\">\n   <entry uri=\"sip:joe@example.com\"/>\n   <entry uri=\"sip:nancy@example.com\"/>\n   \
                 <entry uri=\"sip:petri@example.com\"/>\n</list>";
    let added = bill.put(&part(&index, &format!("{friends}/list[@name=\"close-friends\"]")), ELEMENT, close);
    assert_eq!(added.status, 201);
    let petri = part(&index, "resource-lists/list/list/entry[@uri=\"sip:petri@example.com\"]");
    let deleted = bill.delete(&petri);
    assert_eq!((deleted.status, deleted.body.as_str()), (200, ""));
    assert_eq!(bill.delete(&petri).status, 404);
    let nancy = bill.get(&part(&index, "resource-lists/list/list/entry[2]/@uri"));
    assert_eq!(nancy.body, "\"sip:nancy@example.com\"");
    assert_eq!(nancy.header("Content-Type"), Some(ATTRIBUTE));
    assert_eq!(nancy.tag(), deleted.tag(), "8.5: one tag for the document and all its parts");
}

fn put_makes_201_replaces_with_200_and_delete_ends_rfc4825_8_2_7(database: Database) {
    let server = start(database);
    let mut alice = Web::new(&server, "alice");
    let index = document("pres-rules", "alice", "index");
    assert_eq!(alice.get(&index).status, 404);
    assert_eq!(alice.delete(&index).status, 404);
    let created = alice.put(&index, RULES, &rules("a"));
    assert_eq!((created.status, created.body.as_str()), (201, ""));
    let replaced = alice.put(&index, "application/AUTH-policy+xml; charset=utf-8", &rules("b"));
    assert_eq!((replaced.status, replaced.body.as_str()), (200, ""));
    assert_ne!(created.tag(), replaced.tag());
    assert_eq!(alice.get(&index).body, rules("b"));
    let head = alice.ask("HEAD", &index, &[], b"");
    assert_eq!((head.status, head.tag(), head.body.as_str()), (200, replaced.tag(), ""));
    assert_eq!(alice.delete(&index).status, 200);
    assert_eq!(alice.get(&index).status, 404);
    assert_eq!(alice.put(&index, RULES, &rules("c")).status, 201);
}

fn attributes_and_namespaces_are_read_and_set_rfc4825_7(database: Database) {
    let server = start(database);
    let mut alice = Web::new(&server, "alice");
    let index = document("resource-lists", "alice", "index");
    alice.put(&index, LISTS, &lists("<list name='a' xmlns:e='urn:e'><entry uri='sip:x@y'/></list>"));
    let name = part(&index, "resource-lists/list[1]/@name");
    assert_eq!(alice.get(&name).body, "'a'");
    let replaced = alice.put(&name, ATTRIBUTE, "\"b\"");
    assert_eq!(replaced.status, 200);
    let query = "?xmlns(p=urn:e)";
    let foreign = part(&index, "resource-lists/list[1]/@p:x") + query;
    assert_eq!(alice.put(&foreign, ATTRIBUTE, "'1'").status, 201);
    assert_eq!(alice.get(&foreign).body, "'1'");
    let list = alice.get(&part(&index, "resource-lists/list"));
    assert_eq!(list.header("Content-Type"), Some(ELEMENT));
    assert_eq!(
        list.body, "<list name=\"b\" xmlns:e='urn:e' e:x='1'><entry uri='sip:x@y'/></list>",
        "8.3: no declarations are added"
    );
    let spaces = alice.get(&part(&index, "resource-lists/list/namespace::*"));
    assert_eq!(spaces.header("Content-Type"), Some("application/xcap-ns+xml"));
    assert!(
        spaces.body.starts_with("<list ") && spaces.body.contains("xmlns:e=\"urn:e\""),
        "{}",
        spaces.body
    );
    assert!(spaces.body.contains("xmlns=\"urn:ietf:params:xml:ns:resource-lists\""), "{}", spaces.body);
    let deleted = alice.delete(&foreign);
    assert_eq!((deleted.status, deleted.tag() != replaced.tag()), (200, true));
    assert_eq!(alice.get(&foreign).status, 404);
    // The encoded and the plain separator are one (6).
    assert_eq!(alice.get(&name.replace("~~", "%7E%7e")).body, "\"b\"");
}

fn conditions_are_judged_on_the_tag_of_the_document_rfc4825_8_2_6(database: Database) {
    let server = start(database);
    let mut alice = Web::new(&server, "alice");
    let index = document("resource-lists", "alice", "index");
    let put = |alice: &mut Web, target: &str, condition: (&str, &str), media_type: &str, body: &str| {
        alice.ask("PUT", target, &[("Content-Type", media_type), condition], body.as_bytes()).status
    };
    let one = lists("<list name=\"a\"/>");
    assert_eq!(put(&mut alice, &index, ("If-Match", "*"), LISTS, &one), 412, "it is not there");
    assert_eq!(put(&mut alice, &index, ("If-None-Match", "*"), LISTS, &one), 201);
    assert_eq!(put(&mut alice, &index, ("If-None-Match", "*"), LISTS, &one), 412);
    let first = alice.get(&index).tag();
    let entry = part(&index, "resource-lists/list/entry[@uri=\"sip:b@c\"]");
    let body = "<entry uri=\"sip:b@c\"/>";
    assert_eq!(
        put(&mut alice, &entry, ("If-None-Match", "*"), ELEMENT, body),
        412,
        "always fails for a part"
    );
    assert_eq!(put(&mut alice, &entry, ("If-Match", &first), ELEMENT, body), 201);
    assert_eq!(put(&mut alice, &entry, ("If-Match", &first), ELEMENT, body), 412, "the document has changed");
    let second = alice.get(&entry).tag();
    let not_modified = alice.ask("GET", &entry, &[("If-None-Match", &second)], b"");
    assert_eq!(
        (not_modified.status, not_modified.tag(), not_modified.body.as_str()),
        (304, second.clone(), "")
    );
    assert_eq!(alice.ask("GET", &index, &[("If-None-Match", &first)], b"").status, 200);
    assert_eq!(alice.ask("DELETE", &entry, &[("If-Match", &first)], b"").status, 412);
    assert_eq!(alice.ask("DELETE", &entry, &[("If-Match", &format!("W/{second}"))], b"").status, 412);
    assert_eq!(alice.ask("DELETE", &entry, &[("If-Match", &second)], b"").status, 200);
    assert_eq!(alice.ask("DELETE", &index, &[("If-Match", "\"nonsense\"")], b"").status, 412);
    assert_eq!(alice.ask("DELETE", &index, &[("If-Match", "*")], b"").status, 200);
}

fn of_writers_with_one_tag_exactly_one_wins_rfc4825_8_2_6(database: Database) {
    let server = start(database);
    let index = document("resource-lists", "alice", "index");
    let mut alice = Web::new(&server, "alice");
    let tag = alice.put(&index, LISTS, &lists("<list name=\"a\"/>")).tag();
    let racers: Vec<_> = (0..8)
        .map(|n| {
            let (mut web, index, tag) = (Web::new(&server, "alice"), index.clone(), tag.clone());
            std::thread::spawn(move || {
                let headers = [("Content-Type", LISTS), ("If-Match", tag.as_str())];
                web.ask("PUT", &index, &headers, lists(&format!("<list name=\"{n}\"/>")).as_bytes()).status
            })
        })
        .collect();
    let mut answers: Vec<u16> = racers.into_iter().map(|racer| racer.join().expect("an answer")).collect();
    answers.sort_unstable();
    assert_eq!(answers, [200, 412, 412, 412, 412, 412, 412, 412]);
    // Without a condition nobody loses: each adds an entry of its own to what the others made of the document.
    let adders: Vec<_> = (0..6)
        .map(|n| {
            let mut web = Web::new(&server, "alice");
            let entry = part(&index, &format!("resource-lists/list/entry[@uri=\"sip:{n}\"]"));
            std::thread::spawn(move || web.put(&entry, ELEMENT, &format!("<entry uri=\"sip:{n}\"/>")).status)
        })
        .collect();
    let answers: Vec<u16> = adders.into_iter().map(|adder| adder.join().expect("an answer")).collect();
    assert_eq!(answers, [201; 6]);
    assert_eq!(alice.get(&index).body.matches("<entry ").count(), 6);
}

fn what_is_not_there_is_404_rfc4825_8(database: Database) {
    let server = start(database);
    let mut alice = Web::new(&server, "alice");
    let index = document("resource-lists", "alice", "index");
    alice.put(&index, LISTS, &lists("<list name=\"a\"/><list name=\"b\"/>"));
    let nobody = document("resource-lists", "nobody", "index");
    let elsewhere = index.replace(DOMAIN, "elsewhere.example");
    for target in [
        index.replace("resource-lists", "unknown-usage"),
        nobody,
        elsewhere,
        part(&index, "resource-lists/list[last()]"),
        part(&index, "resource-lists/list[3]"),
        part(&index, "resource-lists/list"),
        part(&index, "resource-lists/list[1]/@nope"),
        part(&index, ""),
        format!("{index}/below"),
        "/xcap-root".to_owned(),
        "/xcap-root/".to_owned(),
        "/xcap-root/resource-lists/global/index".to_owned(),
        document("xcap-caps", "alice", "index"),
    ] {
        assert_eq!(alice.get(&target).status, 404, "{target}");
    }
    for outside in ["/", "/other", "/xcap-rootx/xcap-caps/global/index"] {
        let reply = alice.ask_plainly("GET", outside, &[], b"");
        assert_eq!((reply.status, reply.header("WWW-Authenticate")), (404, None), "{outside}");
    }
    let unbound = part(&index, "p:resource-lists");
    assert_eq!(alice.get(&unbound).status, 400, "8: a prefix that the query does not bind");
    assert_eq!(alice.get(&format!("{unbound}?xmlns(p=urn:ietf:params:xml:ns:resource-lists)")).status, 200);
    // Any name of the user is the user's.
    for xui in [
        format!("sip%3Aalice%40{DOMAIN}"),
        format!("SIP:alice@{}", DOMAIN.to_uppercase()),
        format!("alice@{DOMAIN}"),
    ] {
        let target = format!("/xcap-root/resource-lists/users/{xui}/index");
        assert_eq!(alice.get(&target).status, 200, "{target}");
    }
}

fn methods_that_are_not_defined_are_405_rfc4825_8_1(database: Database) {
    let server = start(database);
    let mut alice = Web::new(&server, "alice");
    let index = document("resource-lists", "alice", "index");
    alice.put(&index, LISTS, &lists("<list name=\"a\"/>"));
    for method in ["POST", "OPTIONS", "PATCH", "TRACE", "BREW"] {
        let reply = alice.ask(method, &index, &[], b"");
        assert_eq!((reply.status, reply.header("Allow")), (405, Some("GET, HEAD, PUT, DELETE")), "{method}");
    }
    let spaces = part(&index, "resource-lists/list/namespace::*");
    for (method, target) in
        [("PUT", spaces.as_str()), ("DELETE", &spaces), ("PUT", "/xcap-root/xcap-caps/global/index")]
    {
        let reply = alice.ask(method, target, &[("Content-Type", ELEMENT)], b"<a/>");
        assert_eq!((reply.status, reply.header("Allow")), (405, Some("GET, HEAD")), "{method} {target}");
    }
}

fn the_server_tells_what_it_can_and_what_a_user_has_rfc4825_12(database: Database) {
    let server = start(database);
    let mut alice = Web::new(&server, "alice");
    let caps = alice.get("/xcap-root/xcap-caps/global/index");
    assert_eq!((caps.status, caps.header("Content-Type")), (200, Some("application/xcap-caps+xml")));
    for named in [
        "<auid>xcap-caps</auid>",
        "<auid>pres-rules</auid>",
        "<namespace>urn:ietf:params:xml:ns:xcap-caps</namespace>",
    ] {
        assert!(caps.body.contains(named), "{}", caps.body);
    }
    let auid = alice.get(&part("/xcap-root/xcap-caps/global/index", "xcap-caps/auids/auid[1]"));
    assert_eq!(auid.body, "<auid>xcap-caps</auid>");
    assert_eq!(
        alice.ask("GET", "/xcap-root/xcap-caps/global/index", &[("If-None-Match", &caps.tag())], b"").status,
        304
    );
    let directory = document("org.openmobilealliance.xcap-directory", "alice", "directory.xml");
    assert!(!alice.get(&directory).body.contains("entry"));
    let made = alice.put(&document("pres-rules", "alice", "index"), RULES, &rules("a"));
    alice.put(&document("resource-lists", "alice", "others"), LISTS, &lists(""));
    let told = alice.get(&directory);
    assert_eq!(told.header("Content-Type"), Some("application/vnd.oma.xcap-directory+xml"));
    let entry = format!(
        "uri=\"{}\" etag=\"{}\"",
        document("pres-rules", "alice", "index"),
        made.tag().trim_matches('"')
    );
    assert!(told.body.contains(&entry) && told.body.contains("resource-lists/users"), "{}", told.body);
    // What all users have together is for trusted elements, and a user is none (RFC 4826 4.4.9).
    assert_eq!(alice.get("/xcap-root/rls-services/global/index").status, 403);
}

fn an_answered_change_survives_a_crash(database: Database) {
    let mut server = start(database);
    let mut alice = Web::new(&server, "alice");
    let index = document("resource-lists", "alice", "index");
    let gone = document("pres-rules", "alice", "index");
    let entry = part(&index, "resource-lists/list/entry[@uri=\"sip:b@c\"]");
    alice.put(&index, LISTS, &lists("<list name=\"a\"/>"));
    alice.put(&gone, RULES, &rules("a"));
    assert_eq!(alice.delete(&gone).status, 200);
    let tag = alice.put(&entry, ELEMENT, "<entry uri=\"sip:b@c\"/>").tag();
    server.kill9();
    server.restart();
    let mut alice = Web::new(&server, "alice");
    let after = alice.get(&index);
    assert_eq!((after.tag(), after.body), (tag, lists("<list name=\"a\"><entry uri=\"sip:b@c\"/></list>")));
    assert_eq!(alice.get(&gone).status, 404, "a removal never comes back");
}

fn a_list_of_a_thousand_is_edited_at_once(database: Database) {
    let server = start(database);
    let mut alice = Web::new(&server, "alice");
    let index = document("resource-lists", "alice", "index");
    let entries: String = (0..1_000)
        .map(|n| {
            format!("<entry uri=\"sip:user{n}@example.com\"><display-name>User {n}</display-name></entry>\n")
        })
        .collect();
    assert_eq!(alice.put(&index, LISTS, &lists(&format!("<list name=\"all\">{entries}</list>"))).status, 201);
    let one = part(&index, "resource-lists/list[@name=\"all\"]/entry[@uri=\"sip:user999@example.com\"]");
    let began = std::time::Instant::now();
    assert_eq!(alice.put(&one, ELEMENT, "<entry uri=\"sip:user999@example.com\"/>").status, 200);
    let new = part(&index, "resource-lists/list[@name=\"all\"]/entry[@uri=\"sip:new@example.com\"]");
    assert_eq!(alice.put(&new, ELEMENT, "<entry uri=\"sip:new@example.com\"/>").status, 201);
    assert_eq!(alice.delete(&one).status, 200);
    assert!(began.elapsed() < std::time::Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(alice.get(&index).body.matches("<entry ").count(), 1_000);
}

fn curl_speaks_with_it(database: Database) {
    let server = start(database);
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("SKIPPED: curl is not installed");
        return;
    }
    let curl = |arguments: &[&str], target: &str| -> Reply {
        let url = format!("http://{}{target}", server.http());
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--include", "--digest", "--path-as-is", "--max-time", "10"])
            .args(["--user", "alice:alice's secret"])
            .args(arguments)
            .arg(&url)
            .output()
            .expect("curl");
        assert!(output.status.success(), "{output:?}");
        // The challenge comes first, then the answer.
        let text = String::from_utf8(output.stdout).expect("text");
        let last = text.rfind("HTTP/1.1 ").expect("an answer");
        let mut bytes = &text.as_bytes()[last..];
        crate::harness::web::read_reply(&mut bytes, false).expect("a whole answer")
    };
    let index = document("resource-lists", "alice", "index");
    let content = format!("Content-Type: {LISTS}");
    let created =
        curl(&["-X", "PUT", "-H", &content, "--data-binary", &lists("<list name=\"friends\"/>")], &index);
    assert_eq!(created.status, 201);
    let bob = part(&index, "resource-lists/list[@name=\"friends\"]/entry[@uri=\"sip:bob@example.com\"]");
    let content = format!("Content-Type: {ELEMENT}");
    let put = ["-X", "PUT", "-H", &content, "--data-binary", "<entry uri=\"sip:bob@example.com\"/>"];
    assert_eq!(curl(&put, &bob).status, 201);
    assert_eq!(curl(&[], &bob).body, "<entry uri=\"sip:bob@example.com\"/>");
    let stale = format!("If-Match: {}", created.tag());
    assert_eq!(curl(&[&put[..], &["-H", &stale]].concat(), &bob).status, 412);
    let twice = part(&index, "resource-lists/list[@name=\"friends\"]/entry[2]");
    assert_eq!(curl(&put, &twice).condition(), "uniqueness-failure");
    assert_eq!(curl(&["-X", "DELETE"], &bob).status, 200);
    assert_eq!(curl(&["-X", "DELETE"], &index).status, 200);
    assert_eq!(curl(&[], &index).status, 404);
}

on_each_database!(
    the_session_of_rfc4825_13,
    put_makes_201_replaces_with_200_and_delete_ends_rfc4825_8_2_7,
    attributes_and_namespaces_are_read_and_set_rfc4825_7,
    conditions_are_judged_on_the_tag_of_the_document_rfc4825_8_2_6,
    of_writers_with_one_tag_exactly_one_wins_rfc4825_8_2_6,
    what_is_not_there_is_404_rfc4825_8,
    methods_that_are_not_defined_are_405_rfc4825_8_1,
    the_server_tells_what_it_can_and_what_a_user_has_rfc4825_12,
    an_answered_change_survives_a_crash,
    a_list_of_a_thousand_is_edited_at_once,
    curl_speaks_with_it,
);

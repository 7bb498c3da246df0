//! What XCAP refuses, and how it says why (RFC 4825 8.2 and 11).

use super::xcap::{lists, start};
use crate::harness::web::{ATTRIBUTE, ELEMENT, LISTS, RULES, SERVICES, document, part};
use crate::harness::{DOMAIN, Database, Web};

fn every_conflict_is_told_by_its_condition_rfc4825_11(database: Database) {
    let server = start(database);
    let mut alice = Web::new(&server, "alice");
    let index = document("resource-lists", "alice", "index");
    let stored =
        lists("<list name=\"a\"><entry uri=\"sip:1\"/><entry uri=\"sip:2\"/></list><list name=\"b\"/>");
    let tag = alice.put(&index, LISTS, &stored).tag();
    let list = "resource-lists/list[@name=\"a\"]";
    let at = |selector: &str| part(&index, selector);
    let entry = |n: u32| at(&format!("{list}/entry[@uri=\"sip:{n}\"]"));
    for (target, media_type, body, condition) in [
        (index.clone(), LISTS, "<resource-lists>", "not-well-formed"),
        (index.clone(), LISTS, "", "not-well-formed"),
        (index.clone(), LISTS, "<?xml version='1.0' encoding='ISO-8859-1'?><a/>", "not-utf-8"),
        (index.clone(), LISTS, "<resource-lists/>", "schema-validation-error"),
        (index.clone(), LISTS, &lists("<list name=\"a\"/><list name=\"a\"/>"), "uniqueness-failure"),
        (index.clone(), LISTS, &lists("<list><entry-ref ref=\"/absolute\"/></list>"), "constraint-failure"),
        (index.clone(), LISTS, &lists("<list><external anchor=\"relative\"/></list>"), "constraint-failure"),
        (entry(3), ELEMENT, "<entry uri=\"sip:3\">", "not-xml-frag"),
        (entry(3), ELEMENT, "<entry uri=\"sip:3\"/><entry uri=\"sip:4\"/>", "not-xml-frag"),
        (entry(3), ELEMENT, "<entry uri=\"sip:4\"/>", "cannot-insert"),
        (at(&format!("{list}/entry[4][@uri=\"sip:3\"]")), ELEMENT, "<entry uri=\"sip:3\"/>", "cannot-insert"),
        (at(&format!("{list}/entry[3]")), ELEMENT, "<entry uri=\"sip:1\"/>", "uniqueness-failure"),
        (at(&format!("{list}/unknown")), ELEMENT, "<unknown/>", "schema-validation-error"),
        (at(&format!("{list}/entry[1]/@uri")), ATTRIBUTE, "sip:3", "not-xml-att-value"),
        (at(&format!("{list}/entry[1]/@uri")), ATTRIBUTE, "\"sip:2\"", "uniqueness-failure"),
        (at(&format!("{list}/entry[@uri=\"sip:1\"]/@uri")), ATTRIBUTE, "\"sip:3\"", "cannot-insert"),
        (at("resource-lists/list[@name=\"c\"]/entry"), ELEMENT, "<entry uri=\"sip:3\"/>", "no-parent"),
        (
            part(&document("resource-lists", "alice", "other"), "resource-lists/list"),
            ELEMENT,
            "<list/>",
            "no-parent",
        ),
        (document("resource-lists", "alice", "sub/index"), LISTS, &lists(""), "no-parent"),
    ] {
        let reply = alice.put(&target, media_type, body);
        assert_eq!(reply.condition(), condition, "{target} {body}");
    }
    for (selector, condition) in [
        (format!("{list}/entry[1]"), "cannot-delete"),
        ("resource-lists/*[1]".to_owned(), "cannot-delete"),
        (format!("{list}/entry[1]/@uri"), "schema-validation-error"),
        ("resource-lists".to_owned(), "schema-validation-error"),
    ] {
        assert_eq!(alice.delete(&at(&selector)).condition(), condition, "{selector}");
    }
    let after = alice.get(&index);
    assert_eq!((after.tag(), after.body), (tag, stored), "nothing of all this was stored");
}

fn a_409_names_the_ancestor_and_the_field_rfc4825_11_1(database: Database) {
    let server = start(database);
    let mut alice = Web::new(&server, "alice");
    let index = document("resource-lists", "alice", "index");
    alice.put(&index, LISTS, &lists("<list name=\"a\"><entry uri=\"sip:1\"/></list>"));
    let deep = part(&index, "resource-lists/list[@name=\"a\"]/list[@name=\"b\"]/entry[@uri=\"sip:3\"]");
    let reply = alice.put(&deep, ELEMENT, "<entry uri=\"sip:3\"/>");
    assert!(
        reply.body.contains("<ancestor>resource-lists/list%5B@name=%22a%22%5D</ancestor>"),
        "{}",
        reply.body
    );
    let missing = document("resource-lists", "alice", "other");
    let reply = alice.put(&part(&missing, "resource-lists/list"), ELEMENT, "<list/>");
    let directory = missing.strip_suffix("other").unwrap();
    assert!(reply.body.contains(&format!("<ancestor>{directory}</ancestor>")), "{}", reply.body);
    let twice = lists("<list name=\"a\"><entry uri=\"sip:1\"/><entry uri=\"sip:1\"/></list>");
    let reply = alice.put(&index, LISTS, &twice);
    let field = reply.body.split("field=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    assert_eq!(field, "resource-lists/*%5B1%5D/*%5B2%5D/@uri", "{}", reply.body);
}

fn other_media_types_are_415_rfc4825_8_2_2(database: Database) {
    let server = start(database);
    let mut alice = Web::new(&server, "alice");
    let index = document("resource-lists", "alice", "index");
    let body = lists("<list name=\"a\"/>");
    let refused = alice.put(&index, "application/xml", &body);
    assert_eq!((refused.status, refused.header("Accept")), (415, Some(LISTS)));
    assert_eq!(alice.put(&index, RULES, &body).status, 415);
    assert_eq!(alice.ask("PUT", &index, &[], body.as_bytes()).status, 415);
    let zipped = [("Content-Type", LISTS), ("Content-Encoding", "gzip")];
    assert_eq!(alice.ask("PUT", &index, &zipped, body.as_bytes()).status, 415);
    assert_eq!(alice.put(&index, LISTS, &body).status, 201);
    let list = part(&index, "resource-lists/list[@name=\"a\"]");
    assert_eq!(alice.put(&list, LISTS, "<list name=\"a\"/>").status, 415);
    assert_eq!(alice.put(&list, ATTRIBUTE, "<list name=\"a\"/>").status, 415);
    assert_eq!(alice.put(&(list + "/@name"), ELEMENT, "\"b\"").status, 415);
}

fn rules_and_services_are_checked_as_their_schemas_say_rfc4825_8_2_5(database: Database) {
    let server = start(database);
    let mut alice = Web::new(&server, "alice");
    let rules = document("pres-rules", "alice", "index");
    let ruleset = |inside: &str| {
        format!(
            "<cr:ruleset xmlns:cr=\"urn:ietf:params:xml:ns:common-policy\" xmlns=\"urn:ietf:params:xml:ns:pres-rules\">{inside}</cr:ruleset>"
        )
    };
    for (inside, condition) in [
        ("<cr:rule/>", "schema-validation-error"),
        (
            "<cr:rule id=\"a\"><cr:actions><sub-handling>maybe</sub-handling></cr:actions></cr:rule>",
            "schema-validation-error",
        ),
        (
            "<cr:rule id=\"a\"><cr:conditions><cr:identity/></cr:conditions></cr:rule>",
            "schema-validation-error",
        ),
        ("<cr:rule id=\"a\"/><cr:rule id=\"a\"/>", "uniqueness-failure"),
    ] {
        assert_eq!(alice.put(&rules, RULES, &ruleset(inside)).condition(), condition, "{inside}");
    }
    let good = "<cr:rule id=\"a\"><cr:conditions><cr:identity><cr:one id=\"sip:bob@hither.example\"/></cr:identity></cr:conditions>\
                <cr:actions><sub-handling>allow</sub-handling></cr:actions><cr:transformations><provide-persons><all-persons/></provide-persons>\
                </cr:transformations></cr:rule>";
    assert_eq!(alice.put(&rules, RULES, &ruleset(good)).status, 201);
    // The default namespace of URIs is that of pres-rules (RFC 5025 9.3).
    let handling = part(&rules, "cr:ruleset/cr:rule[@id=\"a\"]/cr:actions/sub-handling")
        + "?xmlns(cr=urn:ietf:params:xml:ns:common-policy)";
    assert_eq!(alice.get(&handling).body, "<sub-handling>allow</sub-handling>");
    assert_eq!(alice.put(&handling, ELEMENT, "<sub-handling>block</sub-handling>").status, 200);

    let services = document("rls-services", "alice", "index");
    let service = |uri: &str, list: &str| {
        format!(
            "<rls-services xmlns=\"urn:ietf:params:xml:ns:rls-services\"><service uri=\"{uri}\">{list}</service></rls-services>"
        )
    };
    let own = format!(
        "<resource-list>http://h/xcap-root/resource-lists/users/sip:alice@{DOMAIN}/index/~~/resource-lists/list</resource-list>"
    );
    assert_eq!(alice.put(&services, SERVICES, &service("sip:team@hither.example", &own)).status, 201);
    let foreign = own.replace("alice", "bob");
    assert_eq!(
        alice.put(&services, SERVICES, &service("sip:t@hither.example", &foreign)).condition(),
        "constraint-failure"
    );
    assert_eq!(
        alice.put(&services, SERVICES, &service("sip:t@hither.example", "")).condition(),
        "schema-validation-error"
    );
}

fn unknown_extensions_are_kept_byte_for_byte_rfc4825_5_8(database: Database) {
    let server = start(database);
    let mut alice = Web::new(&server, "alice");
    let index = document("resource-lists", "alice", "index");
    let odd = lists(
        "<?keep this?><!-- and this -->\r\n\t<list name = 'a'   x:y=\"&#x41;&amp;\" xmlns:x='urn:x' ><x:own><deep xmlns=''>\u{1F600}</deep></x:own></list >",
    );
    assert_eq!(alice.put(&index, LISTS, &odd).status, 201);
    assert_eq!(alice.get(&index).body, odd);
    let added = part(&index, "resource-lists/list/@name");
    assert_eq!(alice.put(&added, ATTRIBUTE, "'b'").status, 200);
    assert_eq!(alice.get(&index).body, odd.replace("'a'", "'b'"));
}

on_each_database!(
    every_conflict_is_told_by_its_condition_rfc4825_11,
    a_409_names_the_ancestor_and_the_field_rfc4825_11_1,
    other_media_types_are_415_rfc4825_8_2_2,
    rules_and_services_are_checked_as_their_schemas_say_rfc4825_8_2_5,
    unknown_extensions_are_kept_byte_for_byte_rfc4825_5_8,
);

//! Presence that its owner set by hand (RFC 4827): one document, which holds until it is taken away. It is composed like a publication: the
//! first of them, of no device, said when it was last written.

use std::sync::Arc;

use crate::availability::document::pidf::Pidf;
use crate::availability::documents;
use crate::model::{
    Auid, Document, HomeState, Meaning, Package, Parsed, Publication, PublicationId, Publisher, Renamed,
    Timestamp,
};

/// The document as it is kept: the only one of its application (RFC 4827 9).
pub fn document(home: &HomeState) -> Option<&Arc<Document>> {
    home.documents.of(&Auid::PidfManipulation).find(|document| document.name.name.as_str() == NAME)
}

/// The same as a publication. Its timestamps are when it was written: who edits one element of it leaves the others as they were, and none may
/// stand for another content (RFC 3863 4.1.7).
pub fn publication(home: &HomeState) -> Option<Publication> {
    let document = document(home)?;
    Some(Publication {
        aor: home.aor.clone(),
        id: ID,
        package: Package::Presence,
        tag: document.tag,
        publisher: Publisher::default(),
        content_type: document.content_type.to_string(),
        body: document.body.clone(),
        parsed: Parsed::of(&pidf(document)?),
        turns: Box::default(),
        is_restamped: true,
        renamed: Renamed::default(),
        created_at: document.modified_at,
        modified_at: document.modified_at,
        expires_at: Timestamp(i64::MAX),
    })
}

/// When it will mean something else by time alone (RFC 4480 3.1).
pub fn next_turn(home: &HomeState, now: Timestamp) -> Option<Timestamp> {
    pidf(document(home)?)?.next_turn(now)
}

fn pidf(document: &Document) -> Option<Arc<Pidf>> {
    match documents::said(document) {
        Meaning::Presence(read) => read.clone().downcast().ok(),
        Meaning::Rules(_) | Meaning::Nothing | Meaning::Unreadable => None,
    }
}

/// Its name.
pub const NAME: &str = "index";
/// No publication has it: theirs are random.
pub const ID: PublicationId = PublicationId(u128::MAX);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::availability::composition::{compose, gather};
    use crate::availability::document::pidf::Basic;
    use crate::availability::fixtures::{NOW, home, pidf, publish, register, set_by_hand};
    use crate::availability::sphere::sphere;
    use crate::model::Row;

    const MAIL: &str = "<tuple id=\"mail\"><status><basic>open</basic></status><contact>mailto:alice@example.org</contact>\
        <timestamp>2004-02-06T16:49:29Z</timestamp></tuple>";
    const VACATION: &str =
        "<dm:person id=\"p\"><rpid:activities><rpid:vacation/></rpid:activities></dm:person>";
    const AWAY: &str = "<dm:person id=\"q\"><rpid:activities><rpid:away/></rpid:activities></dm:person>";

    fn text(home: &HomeState) -> String {
        String::from_utf8(compose(home, NOW).pidf.to_vec()).unwrap()
    }

    #[test]
    fn alone_it_is_what_there_is_until_it_is_taken_away_rfc4827_11() {
        let mut home = home();
        set_by_hand(&mut home, &pidf(&format!("{MAIL}{VACATION}")), NOW);
        let far = Timestamp(NOW.0 * 2);
        assert_eq!(compose(&home, far), compose(&home, NOW), "it does not end");
        let shown = text(&home);
        assert!(shown.contains("mailto:") && shown.contains("vacation"), "{shown}");
        assert!(compose(&home, NOW).open && !shown.contains("offline"), "{shown}");
        let name = document(&home).unwrap().name.clone();
        home.apply(&Row::DropDocument(home.aor.clone(), name));
        let shown = text(&home);
        assert!(shown.contains("offline") && !shown.contains("vacation"), "{shown}");
    }

    #[test]
    fn it_is_one_source_beside_the_others_rfc4827_3() {
        let mut home = home();
        set_by_hand(&mut home, &pidf(&format!("{MAIL}{VACATION}")), NOW);
        register(&mut home, 1, Some("urn:uuid:1"));
        let ids =
            |home: &HomeState| gather(home, NOW).tuples.iter().map(|t| t.id.clone()).collect::<Vec<_>>();
        assert_eq!((ids(&home).len(), ids(&home)[0].as_str()), (2, "mail"), "nobody's device said it");
        publish(
            &mut home,
            5,
            &pidf(&format!("<tuple id=\"mail\"><status><basic>closed</basic></status></tuple>{AWAY}")),
        );
        let document = gather(&home, NOW);
        let mail: Vec<_> = document.tuples.iter().filter(|t| t.id.starts_with("mail")).collect();
        assert_eq!((mail[0].id.as_str(), mail[0].basic), ("mail", Some(Basic::Open)));
        assert_eq!(mail[1].basic, Some(Basic::Closed));
        // What was said last holds, and the other one again when that has gone.
        assert!(text(&home).contains("rpid:away") && !text(&home).contains("vacation"));
        set_by_hand(&mut home, &pidf(VACATION), NOW.after_secs(60));
        assert!(text(&home).contains("vacation") && !text(&home).contains("rpid:away"));
        home.publications.clear();
        assert!(text(&home).contains("vacation"));
    }

    #[test]
    fn a_timestamp_is_that_of_the_last_change_rfc3863_4_1_7() {
        let mut home = home();
        set_by_hand(&mut home, &pidf(MAIL), NOW);
        let shown = text(&home);
        assert!(shown.contains(&NOW.rfc3339_ms()) && !shown.contains("2004-02-06"), "{shown}");
    }

    #[test]
    fn what_it_qualifies_by_time_turns_by_itself_rfc4480_3_1() {
        let mut home = home();
        let until = NOW.after_secs(60);
        let vacation =
            VACATION.replace("activities>", &format!("activities until=\"{}\">", until.rfc3339_ms()));
        let vacation = vacation
            .replace(&format!("</rpid:activities until=\"{}\">", until.rfc3339_ms()), "</rpid:activities>");
        set_by_hand(&mut home, &pidf(&vacation), NOW);
        assert_eq!(next_turn(&home, NOW), Some(until));
        assert_eq!(next_turn(&home, until), None);
        assert!(text(&home).contains("vacation"));
        assert!(!String::from_utf8_lossy(&compose(&home, until).pidf).contains("vacation"));
    }

    #[test]
    fn it_may_say_the_sphere_rfc5025_3_1_2() {
        let mut home = home();
        set_by_hand(
            &mut home,
            &pidf("<dm:person id=\"p\"><rpid:sphere><rpid:work/></rpid:sphere></dm:person>"),
            NOW,
        );
        assert_eq!(sphere(&home, NOW), Some(vec!["work".into()]));
    }
}

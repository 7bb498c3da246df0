//! `application/xpidf+xml`: what Windows Messenger, Polycom and PJSIP read (draft-rosenberg-impp-pidf, and Microsoft's `msnsubstatus`).
//!
//! An atom per tuple. Some phones look at the first atom alone, so what is open comes first, in order of priority.

use std::cmp::Reverse;

use bytes::Bytes;

use crate::availability::document::pidf::{Basic, Pidf, RPID, Tuple};
use crate::availability::document::write::escape;

/// The media type.
pub const XPIDF: &str = "application/xpidf+xml";

/// Writes what that format can say of a document; at most `MAX_ATOMS` atoms.
pub fn write(document: &Pidf) -> Bytes {
    let activity = activity(document);
    let mut tuples: Vec<&Tuple> = document.tuples.iter().collect();
    tuples.sort_by_key(|tuple| Reverse((tuple.basic == Some(Basic::Open), priority(tuple))));
    let mut out = String::with_capacity(512);
    out.push_str(
        "<?xml version=\"1.0\"?>\n<!DOCTYPE presence PUBLIC \"-//IETF//DTD RFCxxxx XPIDF 1.0//EN\" \"xpidf.dtd\">\n\
         <presence>\n<presentity uri=\"",
    );
    escape(&mut out, &document.entity);
    out.push_str(";method=SUBSCRIBE\"/>\n");
    for tuple in tuples.into_iter().take(MAX_ATOMS) {
        atom(&mut out, tuple, &document.entity, activity);
    }
    out.push_str("</presence>\n");
    out.into()
}

fn atom(out: &mut String, tuple: &Tuple, entity: &str, activity: Activity) {
    out.push_str("<atom id=\"");
    escape(out, &tuple.id);
    out.push_str("\">\n<address uri=\"");
    let uri = tuple.contact.as_ref().map_or(entity, |contact| &contact.uri);
    escape(out, uri);
    if uri.starts_with("sip:") {
        out.push_str(";user=ip");
    }
    let thousandths = priority(tuple);
    out.push_str(&format!("\" priority=\"{}.{:03}000\">\n", thousandths / 1_000, thousandths % 1_000));
    let (status, substatus) = match (tuple.basic, activity) {
        (Some(Basic::Closed) | None, _) => ("closed", "offline"),
        (Some(Basic::Open), Activity::OnThePhone) => ("inuse", "onthephone"),
        (Some(Basic::Open), Activity::Other(substatus)) => ("open", substatus),
    };
    out.push_str(&format!(
        "<status status=\"{status}\"/>\n<msnsubstatus substatus=\"{substatus}\"/>\n</address>\n</atom>\n"
    ));
}

/// In thousandths. What says nothing stands where everybody has put it since Windows Messenger.
fn priority(tuple: &Tuple) -> u32 {
    let priority = tuple.contact.as_ref().and_then(|contact| contact.priority.as_deref());
    let Some(priority) = priority else { return 800 };
    let (whole, decimals) = priority.split_once('.').unwrap_or((priority, ""));
    format!("{whole}{decimals:0<3}").parse().unwrap_or(800)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Activity {
    OnThePhone,
    Other(&'static str),
}

/// What the person does, as far as Windows Messenger had a word for it (RFC 4480 3.2).
fn activity(document: &Pidf) -> Activity {
    let attributes = document.persons.iter().flat_map(|person| &person.extensions);
    let mut found = Activity::Other("online");
    for attribute in attributes.filter(|a| a.namespace() == RPID) {
        if attribute.local() == "user-input"
            && attribute.text() == "idle"
            && found == Activity::Other("online")
        {
            found = Activity::Other("idle");
        }
        if attribute.local() != "activities" {
            continue;
        }
        for (activity, _) in attribute.values() {
            found = match activity.as_str() {
                "on-the-phone" => return Activity::OnThePhone,
                "busy" | "meeting" | "appointment" | "presentation" | "performance" | "steering"
                | "worship" => Activity::Other("busy"),
                "away" | "holiday" | "in-transit" | "permanent-absence" | "sleeping" | "travel"
                | "vacation" => Activity::Other("away"),
                "breakfast" | "dinner" | "lunch" | "meal" => Activity::Other("outtolunch"),
                _ => found,
            };
        }
    }
    found
}

/// So that the document fits into a NOTIFY whatever was published.
const MAX_ATOMS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::availability::fixtures::pidf;

    fn written(inner: &str) -> String {
        let document = Pidf::parse(pidf(inner).as_bytes()).unwrap();
        String::from_utf8(write(&document).to_vec()).unwrap()
    }

    fn doing(activity: &str) -> String {
        written(&format!(
            "<tuple id=\"a\"><status><basic>open</basic></status></tuple><dm:person id=\"p\"><rpid:activities>\
             <!-- <rpid:steering/> --><rpid:{activity}/></rpid:activities></dm:person>"
        ))
    }

    const HEAD: &str = "<?xml version=\"1.0\"?>\n<!DOCTYPE presence PUBLIC \"-//IETF//DTD RFCxxxx XPIDF 1.0//EN\" \"xpidf.dtd\">\n\
                        <presence>\n<presentity uri=\"sip:alice@example.org;method=SUBSCRIBE\"/>\n";

    #[test]
    fn one_open_tuple_is_what_windows_messenger_and_polycom_read() {
        let inner = "<tuple id=\"a\"><status><basic>open</basic></status><contact>sip:alice@example.org</contact></tuple>";
        let atom = "<atom id=\"a\">\n<address uri=\"sip:alice@example.org;user=ip\" priority=\"0.800000\">\n\
                    <status status=\"open\"/>\n<msnsubstatus substatus=\"online\"/>\n</address>\n</atom>\n";
        assert_eq!(written(inner), format!("{HEAD}{atom}</presence>\n"));
    }

    #[test]
    fn what_is_open_comes_first_in_order_of_priority() {
        let tuple = |id: &str, basic: &str, contact: &str| {
            format!("<tuple id=\"{id}\"><status><basic>{basic}</basic></status>{contact}</tuple>")
        };
        let all = written(&format!(
            "{}{}{}<tuple id=\"d\"><status/></tuple>",
            tuple("a", "closed", "<contact priority=\"1\">sip:alice@example.org</contact>"),
            tuple("b", "open", "<contact priority=\"0.2\">tel:+49301</contact>"),
            tuple("c", "open", "<contact priority=\"0.95\">sip:alice@example.org;gr=x&amp;y</contact>"),
        ));
        let order: Vec<&str> = all.split("<atom id=\"").skip(1).filter_map(|atom| atom.get(..1)).collect();
        assert_eq!(order, ["c", "b", "a", "d"]);
        assert!(
            all.contains("<address uri=\"sip:alice@example.org;gr=x&amp;y;user=ip\" priority=\"0.950000\">"),
            "{all}"
        );
        assert!(all.contains("<address uri=\"tel:+49301\" priority=\"0.200000\">"), "{all}");
        assert_eq!(
            all.matches("<status status=\"closed\"/>\n<msnsubstatus substatus=\"offline\"/>").count(),
            2
        );
    }

    #[test]
    fn activities_are_said_in_the_words_there_were() {
        for (activity, status, substatus) in [
            ("on-the-phone", "inuse", "onthephone"),
            ("meeting", "open", "busy"),
            ("away", "open", "away"),
            ("lunch", "open", "outtolunch"),
            ("playing", "open", "online"),
        ] {
            let expected =
                format!("<status status=\"{status}\"/>\n<msnsubstatus substatus=\"{substatus}\"/>");
            assert!(doing(activity).contains(&expected), "{activity}: {}", doing(activity));
        }
        let idle = "<tuple id=\"a\"><status><basic>open</basic></status></tuple><dm:person id=\"p\"><rpid:user-input>idle\
                    </rpid:user-input></dm:person>";
        assert!(written(idle).contains("substatus=\"idle\""));
    }

    #[test]
    fn nothing_published_leaves_its_place_a04() {
        let hostile = "<tuple id=\"a\"><status><basic>open</basic></status><contact>x:&quot;/&gt;&lt;evil</contact></tuple>";
        assert!(!written(hostile).contains("evil"));
    }
}

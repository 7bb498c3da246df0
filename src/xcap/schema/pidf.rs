//! Presence documents set by hand: PIDF (RFC 3863 4.4) with the data model (RFC 4479 5.1.2). What other namespaces add is let in unread.

use std::collections::HashSet;

use crate::availability::document::edit;
use crate::availability::document::xml::Node;
use crate::model::Aor;
use crate::sip::Uri;
use crate::xcap::conflict::Conflict;
use crate::xcap::schema::pres_rules::is_date_time;
use crate::xcap::schema::{Attributes, invalid, no_children, no_text, other, token};
use crate::xcap::usage::namespace::{DATA_MODEL, PIDF};

/// Checks a whole document in the tree of `owner`.
///
/// # Errors
/// The first thing that is wrong: of the schemas, then that it is about somebody else (RFC 3863 4.1.1).
pub fn validate(root: Node<'_>, owner: &Aor) -> Result<(), Conflict> {
    if !root.is(PIDF, "presence") {
        return Err(invalid("the root is not the presence of pidf"));
    }
    Attributes { own: &["entity"], others: false }.check(root, false)?;
    let entity = root.attribute("entity").ok_or(invalid("a presence without entity"))?;
    no_text(root)?;
    let mut ids = HashSet::new();
    let mut order = Order::default();
    for child in root.children() {
        match child.local() {
            _ if child.namespace() != Some(PIDF) => {
                order.at(2)?;
                other(child, PIDF)?;
                if matches!(child.local(), "person" | "device") && child.namespace() == Some(DATA_MODEL) {
                    id(child, &mut ids)?;
                }
            }
            "tuple" => {
                order.at(0)?;
                tuple(child)?;
                id(child, &mut ids)?;
            }
            "note" => {
                order.at(1)?;
                note(child)?;
            }
            _ => return Err(invalid("an element that a presence does not have")),
        }
    }
    let about = Uri::parse(entity.trim().as_bytes()).ok().and_then(|uri| Aor::from_uri(&uri));
    if about.as_ref() == Some(owner) {
        Ok(())
    } else {
        Err(Conflict::Constraint("the entity has to be the user whose document it is"))
    }
}

/// A `person`, `device` or `deviceID` wherever another schema lets one in.
pub(super) fn data_model(node: Node<'_>) -> Result<(), Conflict> {
    match node.local() {
        "deviceID" => {
            Attributes::none().check(node, false)?;
            token(node).map(drop)
        }
        "person" | "device" => component(node),
        _ => Err(invalid("an element that the data model does not have there")),
    }
}

fn component(node: Node<'_>) -> Result<(), Conflict> {
    Attributes { own: &["id"], others: false }.check(node, false)?;
    no_text(node)?;
    let (is_device, mut named, mut stamped) = (node.local() == "device", false, false);
    let mut order = Order::default();
    for child in node.children() {
        match child.local() {
            _ if child.namespace() != Some(DATA_MODEL) => {
                order.at(0)?;
                other(child, DATA_MODEL)?;
            }
            "deviceID" if is_device && !named => {
                order.at(1)?;
                data_model(child)?;
                named = true;
            }
            "note" => {
                order.at(2)?;
                note(child)?;
            }
            "timestamp" if !stamped => {
                order.at(3)?;
                timestamp(child)?;
                stamped = true;
            }
            _ => return Err(invalid("an element that the data model does not have there")),
        }
    }
    if is_device && !named {
        return Err(invalid("a device without deviceID"));
    }
    id_of(node).map(drop)
}

fn tuple(node: Node<'_>) -> Result<(), Conflict> {
    Attributes { own: &["id"], others: false }.check(node, false)?;
    no_text(node)?;
    let mut children = node.children();
    match children.next() {
        Some(child) if child.is(PIDF, "status") => status(child)?,
        Some(_) | None => return Err(invalid("a tuple begins with its status")),
    }
    let (mut reached, mut stamped) = (false, false);
    let mut order = Order::default();
    for child in children {
        match child.local() {
            _ if child.namespace() != Some(PIDF) => {
                order.at(0)?;
                other(child, PIDF)?;
            }
            "contact" if !reached => {
                order.at(1)?;
                contact(child)?;
                reached = true;
            }
            "note" => {
                order.at(2)?;
                note(child)?;
            }
            "timestamp" if !stamped => {
                order.at(3)?;
                timestamp(child)?;
                stamped = true;
            }
            _ => return Err(invalid("an element that a tuple does not have, or not there")),
        }
    }
    Ok(())
}

fn status(node: Node<'_>) -> Result<(), Conflict> {
    Attributes::none().check(node, false)?;
    no_text(node)?;
    for (at, child) in node.children().enumerate() {
        if child.namespace() != Some(PIDF) {
            other(child, PIDF)?;
        } else if at == 0 && child.local() == "basic" {
            Attributes::none().check(child, false)?;
            no_children(child)?;
            if !matches!(child.text(), "open" | "closed") {
                return Err(invalid("basic is open or closed"));
            }
        } else {
            return Err(invalid("an element that a status does not have, or not there"));
        }
    }
    Ok(())
}

fn contact(node: Node<'_>) -> Result<(), Conflict> {
    Attributes { own: &["priority"], others: false }.check(node, false)?;
    no_children(node)?;
    match node.attribute("priority") {
        Some(priority) if !is_qvalue(priority.trim()) => {
            Err(invalid("a priority is 0 to 1 with three decimals"))
        }
        Some(_) | None => Ok(()),
    }
}

fn note(node: Node<'_>) -> Result<(), Conflict> {
    Attributes::none().check(node, true)?;
    no_children(node)
}

fn timestamp(node: Node<'_>) -> Result<(), Conflict> {
    Attributes::none().check(node, false)?;
    if is_date_time(token(node)?) { Ok(()) } else { Err(invalid("a timestamp is a date with a time")) }
}

/// `xs:ID`, which is one space for the whole document.
fn id<'d>(node: Node<'d>, ids: &mut HashSet<&'d str>) -> Result<(), Conflict> {
    if ids.insert(id_of(node)?) { Ok(()) } else { Err(invalid("an id is there twice")) }
}

fn id_of(node: Node<'_>) -> Result<&str, Conflict> {
    let id = node.attribute("id").map(str::trim).filter(|id| edit::is_name(id) && !id.contains(':'));
    id.ok_or(invalid("a component without an id that is a name"))
}

/// `0(.[0-9]{0,3})?` or `1(.0{0,3})?`
fn is_qvalue(text: &str) -> bool {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let is_digit = |byte: u8| byte == b'0' || (whole == "0" && byte.is_ascii_digit());
    matches!(whole, "0" | "1") && decimals.len() <= 3 && decimals.bytes().all(is_digit)
}

/// Where in a sequence of the schema a child stands: never before its elder siblings.
#[derive(Default)]
struct Order(u8);

impl Order {
    fn at(&mut self, place: u8) -> Result<(), Conflict> {
        if place < self.0 {
            return Err(invalid("elements in another order than the schema has"));
        }
        self.0 = place;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::availability::document::xml::Document;
    use crate::xcap::usage::LIMITS;

    fn check_about(entity: &str, inside: &str) -> Result<(), Conflict> {
        let text = format!(
            "<presence xmlns='urn:ietf:params:xml:ns:pidf' xmlns:rp='urn:ietf:params:xml:ns:pidf:rpid' \
             xmlns:dm='urn:ietf:params:xml:ns:pidf:data-model' xmlns:ci='urn:ietf:params:xml:ns:pidf:cipid' \
             xmlns:l='urn:ietf:params:xml:ns:resource-lists' entity='{entity}'>{inside}</presence>"
        );
        let someone = Aor::new("someone", "example.com").unwrap();
        validate(Document::read(text.as_bytes(), &LIMITS).unwrap().root(), &someone)
    }

    fn check(inside: &str) -> Result<(), Conflict> {
        check_about("sip:someone@example.com", inside)
    }

    /// RFC 4827 11
    const EXAMPLE: &str = "<tuple id='x8eg92m'> <status> <basic>closed</basic> </status> <rp:user-input>idle</rp:user-input> \
        <rp:class>auth-1</rp:class> <contact priority='0.5'>sip:user@example.com</contact> \
        <note>I'm available only by e-mail.</note> <timestamp>2004-02-06T16:49:29Z</timestamp> </tuple> \
        <tuple id='x8eg92n'> <status> <basic>open</basic> </status> <rp:class>auth-1</rp:class> \
        <contact priority='1.0'>mailto:someone@example.com</contact> <note>I'm reading mail a couple of times a week</note> \
        </tuple> <dm:person id='p1'> <rp:class>auth-A</rp:class> <ci:homepage>http://www.example.com/~someone</ci:homepage> \
        <rp:activities> <rp:vacation/> </rp:activities> </dm:person>";

    #[test]
    fn the_example_of_rfc4827_11_and_what_the_schemas_let_in() {
        for good in [
            EXAMPLE,
            "",
            "<note/><note xml:lang='de'>hallo</note>",
            "<tuple id='a'><status/></tuple>",
            "<tuple id='a'><status><x xmlns='urn:x'/></status><dm:deviceID>urn:x</dm:deviceID></tuple>",
            "<dm:device id='d'><rp:x/><dm:deviceID>urn:x</dm:deviceID><dm:note>n</dm:note></dm:device>",
            "<dm:person id='p'/><dm:person id='q'><dm:note/><dm:timestamp>2026-11-21T19:00:00Z</dm:timestamp></dm:person>",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        assert_eq!(check_about("pres:someone@EXAMPLE.com", ""), Ok(()));
    }

    #[test]
    fn what_the_schemas_do_not_have_is_refused_rfc4827_7() {
        for bad in [
            "text",
            "<tuple><status/></tuple>",
            "<tuple id='1'><status/></tuple>",
            "<tuple id='a'/>",
            "<tuple id='a'><status/><status/></tuple>",
            "<tuple id='a'><status><basic>maybe</basic></status></tuple>",
            "<tuple id='a'><status/><note/><contact>sip:a@b</contact></tuple>",
            "<tuple id='a'><status/><contact>sip:a@b</contact><contact>sip:a@b</contact></tuple>",
            "<tuple id='a'><status/><contact priority='2'>sip:a@b</contact></tuple>",
            "<tuple id='a'><status/><timestamp>yesterday</timestamp></tuple>",
            "<tuple id='a'><status/></tuple><tuple id='a'><status/></tuple>",
            "<tuple id='a'><status/></tuple><dm:person id='a'/>",
            "<note/><tuple id='a'><status/></tuple>",
            "<note><b/></note>",
            "<x/>",
            "<x xmlns=''/>",
            "<dm:person/>",
            "<dm:person id='p'><dm:note/><rp:x/></dm:person>",
            "<dm:device id='d'/>",
            "<dm:note/>",
            "<dm:person id='p'><tuple/></dm:person>",
            "<l:list/>",
        ] {
            assert!(matches!(check(bad), Err(Conflict::SchemaValidation(_))), "{bad}: {:?}", check(bad));
        }
    }

    #[test]
    fn it_is_about_its_owner_rfc3863_4_1_1() {
        for other in ["sip:bob@example.com", "sip:someone@example.org", "tel:+1", "", "someone"] {
            assert!(matches!(check_about(other, ""), Err(Conflict::Constraint(_))), "{other}");
        }
    }
}

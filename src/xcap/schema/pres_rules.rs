//! Presence rules: `ruleset` of RFC 4745 13 with the actions and transformations of RFC 5025 7.

use crate::availability::document::edit;
use crate::availability::document::xml::Node;
use crate::xcap::conflict::Conflict;
use crate::xcap::schema::{Attributes, Unique, empty, invalid, no_children, no_text, other, token};
use crate::xcap::usage::namespace::{COMMON_POLICY, PRES_RULES};

/// Checks a whole document.
///
/// # Errors
/// The first thing that is wrong: of the schema, then of uniqueness.
pub fn validate(root: Node<'_>) -> Result<(), Conflict> {
    if !root.is(COMMON_POLICY, "ruleset") {
        return Err(invalid("the root is not the ruleset of common-policy"));
    }
    Attributes::none().check(root, false)?;
    no_text(root)?;
    root.children().try_for_each(rule)?;
    let mut unique = Unique::default();
    root.children().for_each(|rule| unique.note(rule, "id"));
    unique.into_conflict()
}

fn rule(node: Node<'_>) -> Result<(), Conflict> {
    if !node.is(COMMON_POLICY, "rule") {
        return Err(invalid("something else than a rule in a ruleset"));
    }
    Attributes { own: &["id"], others: false }.check(node, false)?;
    // xs:ID is a name without colon.
    if !node.attribute("id").is_some_and(|id| edit::is_name(id) && !id.contains(':')) {
        return Err(invalid("a rule without an id that is a name"));
    }
    no_text(node)?;
    let mut children = node.children().peekable();
    let mut next = |name| children.next_if(|child| child.is(COMMON_POLICY, name));
    if let Some(found) = next("conditions") {
        conditions(found)?;
    }
    for name in ["actions", "transformations"] {
        if let Some(found) = next(name) {
            extensible(found)?;
        }
    }
    match children.next() {
        None => Ok(()),
        Some(_) => {
            Err(invalid("a rule has conditions, actions and transformations, in this order, each once"))
        }
    }
}

fn conditions(node: Node<'_>) -> Result<(), Conflict> {
    Attributes::none().check(node, false)?;
    no_text(node)?;
    for child in node.children() {
        match child.local() {
            _ if child.namespace() != Some(COMMON_POLICY) => other(child, COMMON_POLICY)?,
            "identity" => identity(child)?,
            "sphere" => {
                Attributes { own: &["value"], others: false }.check(child, false)?;
                empty(child)?;
                if child.attribute("value").is_none() {
                    return Err(invalid("a sphere without value"));
                }
            }
            "validity" => validity(child)?,
            _ => return Err(invalid("a condition that common-policy does not have")),
        }
    }
    Ok(())
}

fn identity(node: Node<'_>) -> Result<(), Conflict> {
    Attributes::none().check(node, false)?;
    no_text(node)?;
    if node.children().next().is_none() {
        return Err(invalid("an identity of nobody"));
    }
    for child in node.children() {
        match child.local() {
            _ if child.namespace() != Some(COMMON_POLICY) => other(child, COMMON_POLICY)?,
            "one" => one(child)?,
            "many" => many(child)?,
            _ => return Err(invalid("something else than one or many in an identity")),
        }
    }
    Ok(())
}

fn one(node: Node<'_>) -> Result<(), Conflict> {
    Attributes { own: &["id"], others: false }.check(node, false)?;
    if node.attribute("id").is_none() {
        return Err(invalid("a one without id"));
    }
    no_text(node)?;
    let mut children = node.children();
    match (children.next(), children.next()) {
        (None, _) => Ok(()),
        (Some(child), None) => other(child, COMMON_POLICY),
        (Some(_), Some(_)) => Err(invalid("more than one element in a one")),
    }
}

fn many(node: Node<'_>) -> Result<(), Conflict> {
    Attributes { own: &["domain"], others: false }.check(node, false)?;
    no_text(node)?;
    for child in node.children() {
        if child.is(COMMON_POLICY, "except") {
            Attributes { own: &["domain", "id"], others: false }.check(child, false)?;
            empty(child)?;
        } else {
            other(child, COMMON_POLICY)?;
        }
    }
    Ok(())
}

/// `from` and `until` in turn, at least once.
fn validity(node: Node<'_>) -> Result<(), Conflict> {
    Attributes::none().check(node, false)?;
    no_text(node)?;
    let children: Vec<Node<'_>> = node.children().collect();
    if children.is_empty() || !children.len().is_multiple_of(2) {
        return Err(invalid("a validity has from and until in turn"));
    }
    for (child, name) in children.into_iter().zip(["from", "until"].into_iter().cycle()) {
        if !child.is(COMMON_POLICY, name) {
            return Err(invalid("a validity has from and until in turn"));
        }
        Attributes::none().check(child, false)?;
        if !is_date_time(token(child)?) {
            return Err(invalid("from and until are dates with times"));
        }
    }
    Ok(())
}

/// `actions` or `transformations`: elements of other namespaces.
fn extensible(node: Node<'_>) -> Result<(), Conflict> {
    Attributes::none().check(node, false)?;
    no_text(node)?;
    node.children().try_for_each(|child| other(child, COMMON_POLICY))
}

/// An element of `pres-rules`, wherever it stands: it has to be one that RFC 5025 7 defines.
pub(super) fn element(node: Node<'_>) -> Result<(), Conflict> {
    let name = node.local();
    let attributes = match name {
        "provide-unknown-attribute" => Attributes { own: &["name", "ns"], others: false },
        _ => Attributes::none(),
    };
    attributes.check(node, false)?;
    match name {
        "provide-services" => provided(node, "all-services", &["service-uri", "service-uri-scheme"]),
        "provide-devices" => provided(node, "all-devices", &["deviceID"]),
        "provide-persons" => provided(node, "all-persons", &[]),
        "provide-all-attributes" => empty(node),
        "sub-handling" => one_of(node, &["block", "confirm", "polite-block", "allow"]),
        "provide-user-input" => one_of(node, &["false", "bare", "thresholds", "full"]),
        "provide-unknown-attribute" => {
            if node.attribute("name").is_none() || node.attribute("ns").is_none() {
                return Err(invalid("a provide-unknown-attribute without name or ns"));
            }
            boolean(node)
        }
        "provide-activities"
        | "provide-class"
        | "provide-deviceID"
        | "provide-mood"
        | "provide-place-is"
        | "provide-place-type"
        | "provide-privacy"
        | "provide-relationship"
        | "provide-status-icon"
        | "provide-sphere"
        | "provide-time-offset"
        | "provide-note" => boolean(node),
        "service-uri" | "service-uri-scheme" | "occurrence-id" | "class" | "deviceID" => no_children(node),
        _ => Err(invalid("an element that pres-rules does not have")),
    }
}

/// Either `all`, alone, or any number of selectors (RFC 5025 3.3.1).
fn provided(node: Node<'_>, all: &str, own: &[&str]) -> Result<(), Conflict> {
    no_text(node)?;
    let mut children = node.children().peekable();
    if let Some(everything) = children.next_if(|child| child.is(PRES_RULES, all)) {
        Attributes::none().check(everything, false)?;
        empty(everything)?;
        return match children.next() {
            None => Ok(()),
            Some(_) => Err(invalid("something beside all of them")),
        };
    }
    for child in children {
        match child.namespace() {
            Some(PRES_RULES) => {
                let is_selector =
                    own.contains(&child.local()) || ["occurrence-id", "class"].contains(&child.local());
                if !is_selector {
                    return Err(invalid("a selector that pres-rules does not have there"));
                }
                Attributes::none().check(child, false)?;
                no_children(child)?;
            }
            _ => other(child, PRES_RULES)?,
        }
    }
    Ok(())
}

fn one_of(node: Node<'_>, values: &[&str]) -> Result<(), Conflict> {
    if values.contains(&token(node)?) {
        Ok(())
    } else {
        Err(invalid("a value that pres-rules does not have"))
    }
}

fn boolean(node: Node<'_>) -> Result<(), Conflict> {
    one_of(node, &["true", "false", "1", "0"])
}

/// `xs:dateTime`: `2026-11-21T16:00:00[.5][Z or +01:00]`.
pub(super) fn is_date_time(text: &str) -> bool {
    let digits = |text: &str, length: usize| text.len() == length && text.bytes().all(|b| b.is_ascii_digit());
    let within = |text: &str, most: u32| digits(text, 2) && text.parse::<u32>().is_ok_and(|n| n <= most);
    let Some((date, time)) = text.split_once('T') else { return false };
    let date = date.strip_prefix('-').unwrap_or(date);
    let mut parts = date.splitn(3, '-');
    let (Some(year), Some(month), Some(day)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let has_date = year.len() >= 4
        && digits(year, year.len())
        && within(month, 12)
        && month != "00"
        && within(day, 31)
        && day != "00";
    let at = time.find(['Z', '+', '-']).unwrap_or(time.len());
    let (clock, zone) = time.split_at(at);
    let (clock, fraction) = clock.split_once('.').map_or((clock, None), |(clock, rest)| (clock, Some(rest)));
    let hours_and_minutes =
        |text: &str| text.split_once(':').is_some_and(|(h, m)| within(h, 24) && within(m, 59));
    let has_time =
        clock.rsplit_once(':').is_some_and(|(before, s)| hours_and_minutes(before) && within(s, 60))
            && fraction.is_none_or(|f| !f.is_empty() && digits(f, f.len()));
    let has_zone = match zone {
        "" | "Z" => true,
        zone => zone.get(1..).is_some_and(hours_and_minutes) && !zone.starts_with('Z'),
    };
    has_date && has_time && has_zone
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::availability::document::xml::Document;
    use crate::xcap::usage::LIMITS;

    fn check(inside: &str) -> Result<(), Conflict> {
        let text = format!(
            "<cr:ruleset xmlns='urn:ietf:params:xml:ns:pres-rules' xmlns:pr='urn:ietf:params:xml:ns:pres-rules' \
             xmlns:cr='urn:ietf:params:xml:ns:common-policy' xmlns:x='urn:x'>{inside}</cr:ruleset>"
        );
        validate(Document::read(text.as_bytes(), &LIMITS).unwrap().root())
    }

    fn is_schema(inside: &str) -> bool {
        matches!(check(inside), Err(Conflict::SchemaValidation(_)))
    }

    fn with(place: &str, inside: &str) -> String {
        format!("<cr:rule id='a'><cr:{place}>{inside}</cr:{place}></cr:rule>")
    }

    /// RFC 5025 6.
    const EXAMPLE: &str = "<cr:rule id=\"a\"> <cr:conditions> <cr:identity> <cr:one id=\"sip:user@example.com\"/> </cr:identity> \
        </cr:conditions> <cr:actions> <pr:sub-handling>allow</pr:sub-handling> </cr:actions> <cr:transformations> <pr:provide-services> \
        <pr:service-uri-scheme>sip</pr:service-uri-scheme> <pr:service-uri-scheme>mailto</pr:service-uri-scheme> </pr:provide-services> \
        <pr:provide-persons> <pr:all-persons/> </pr:provide-persons> <pr:provide-activities>true</pr:provide-activities> \
        <pr:provide-user-input>bare</pr:provide-user-input> <pr:provide-unknown-attribute ns=\"urn:vendor-specific:foo-namespace\" \
        name=\"foo\">true</pr:provide-unknown-attribute> </cr:transformations> </cr:rule>";

    #[test]
    fn the_example_of_rfc5025_6_and_extensions_hold() {
        for good in [
            EXAMPLE,
            "",
            "<cr:rule id='a'/>",
            "<cr:rule id='a'><cr:actions/><cr:transformations/></cr:rule><cr:rule id='b'/>",
            &with(
                "conditions",
                "<x:anonymous/><cr:sphere value='work'/><cr:identity><cr:many/></cr:identity>",
            ),
            &with(
                "conditions",
                "<cr:identity><cr:many domain='a'><cr:except domain='b'/><cr:except id='c'/><x:y/></cr:many><x:z/></cr:identity>",
            ),
            &with(
                "conditions",
                "<cr:validity><cr:from>2003-12-24T17:00:00+01:00</cr:from><cr:until> 2003-12-24T19:00:00.5Z </cr:until></cr:validity>",
            ),
            &with("actions", "<sub-handling> polite-block </sub-handling><x:other/>"),
            &with(
                "transformations",
                "<provide-devices><deviceID>urn:a</deviceID><class>b</class><x:c/></provide-devices><provide-all-attributes/>",
            ),
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn what_the_schemas_do_not_have_is_refused_rfc4745_13_rfc5025_7() {
        for bad in [
            "<x:a/>",
            "text",
            "<cr:rule/>",
            "<cr:rule id='1'/>",
            "<cr:rule id='a' x:b='c'/>",
            "<cr:rule id='a'><x:y/></cr:rule>",
            "<cr:rule id='a'><cr:actions/><cr:conditions/></cr:rule>",
            "<cr:rule id='a'><cr:actions/><cr:actions/></cr:rule>",
            &with("conditions", "<cr:unknown/>"),
            &with("conditions", "<cr:identity/>"),
            &with("conditions", "<cr:identity><cr:one/></cr:identity>"),
            &with("conditions", "<cr:identity><cr:one id='a'><x:y/><x:z/></cr:one></cr:identity>"),
            &with("conditions", "<cr:identity><cr:except id='a'/></cr:identity>"),
            &with("conditions", "<cr:sphere/>"),
            &with("conditions", "<cr:sphere value='a'>b</cr:sphere>"),
            &with("conditions", "<cr:validity/>"),
            &with("conditions", "<cr:validity><cr:from>2003-12-24T17:00:00Z</cr:from></cr:validity>"),
            &with(
                "conditions",
                "<cr:validity><cr:from>yesterday</cr:from><cr:until>2003-12-24T17:00:00Z</cr:until></cr:validity>",
            ),
            &with("actions", "<sub-handling>maybe</sub-handling>"),
            &with("actions", "<sub-handling x:a='b'>allow</sub-handling>"),
            &with("actions", "<cr:sub-handling>allow</cr:sub-handling>"),
            &with("actions", "<a xmlns=''/>"),
            &with("actions", "<provide-nothing/>"),
            &with("transformations", "<provide-mood>yes</provide-mood>"),
            &with("transformations", "<provide-services><all-services/><class>a</class></provide-services>"),
            &with("transformations", "<provide-services><deviceID>a</deviceID></provide-services>"),
            &with("transformations", "<provide-unknown-attribute name='a'>true</provide-unknown-attribute>"),
            &with("transformations", "<provide-user-input>true</provide-user-input>"),
        ] {
            assert!(is_schema(bad), "{bad}: {:?}", check(bad));
        }
    }

    #[test]
    fn rule_ids_are_unique_rfc4745_13() {
        let Err(Conflict::Uniqueness(exists)) = check("<cr:rule id='a'/><cr:rule id='b'/><cr:rule id='a'/>")
        else {
            panic!("taken")
        };
        assert_eq!(exists[0].field, "ruleset/*%5B3%5D/@id");
    }

    #[test]
    fn dates_are_xs_date_time() {
        for good in [
            "2026-11-21T16:00:00",
            "2026-11-21T16:00:00Z",
            "-0001-01-01T24:00:00-14:00",
            "12026-01-01T00:00:00.123",
        ] {
            assert!(is_date_time(good), "{good}");
        }
        for bad in [
            "",
            "2026-11-21",
            "2026-11-21 16:00:00",
            "26-11-21T16:00:00",
            "2026-13-21T16:00:00",
            "2026-00-21T16:00:00",
            "2026-11-32T16:00:00",
            "2026-11-21T25:00:00",
            "2026-11-21T16:00",
            "2026-11-21T16:00:00.",
            "2026-11-21T16:00:00Zx",
            "2026-11-21T16:00:00+1",
            "2026-11-21T16:00:00é",
        ] {
            assert!(!is_date_time(bad), "{bad}");
        }
    }
}

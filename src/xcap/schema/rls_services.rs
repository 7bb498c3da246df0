//! `rls-services` (RFC 4826 4.2), and what must hold in it (4.4.5).

use crate::availability::document::xml::Node;
use crate::model::Aor;
use crate::sip::Uri;
use crate::xcap::address::decoded;
use crate::xcap::conflict::Conflict;
use crate::xcap::schema::{Attributes, Unique, invalid, no_children, no_text, other, place, resource_lists};
use crate::xcap::usage::namespace::RLS_SERVICES;

/// Checks a whole document in the tree of `owner`.
///
/// # Errors
/// The first thing that is wrong: of the schema, then of uniqueness, then of URIs.
pub fn validate(root: Node<'_>, owner: &Aor) -> Result<(), Conflict> {
    if !root.is(RLS_SERVICES, "rls-services") {
        return Err(invalid("the root is not rls-services"));
    }
    Attributes::none().check(root, false)?;
    no_text(root)?;
    root.children().try_for_each(service)?;
    let mut unique = Unique::default();
    root.children().for_each(|service| unique.note(service, "uri"));
    unique.into_conflict()?;
    for service in root.children() {
        for list in service.children().filter(|child| child.is(RLS_SERVICES, "list")) {
            resource_lists::uniqueness(list)?;
            resource_lists::references(list)?;
        }
        for reference in service.children().filter(|child| child.is(RLS_SERVICES, "resource-list")) {
            if !is_own_list(reference.text().trim(), owner) {
                let rule = "a resource-list must be an absolute URI of a resource list of the same user";
                return Err(Conflict::Constraint(rule));
            }
        }
    }
    Ok(())
}

/// The services of a document: the URI of each, and where it stands.
pub fn services<'d>(root: Node<'d>) -> impl Iterator<Item = (&'d str, String)> {
    let services = root.children().filter(|child| child.is(RLS_SERVICES, "service"));
    services.filter_map(|node| Some((node.attribute("uri")?, format!("{}/@uri", place(node)))))
}

fn service(node: Node<'_>) -> Result<(), Conflict> {
    if !node.is(RLS_SERVICES, "service") {
        return Err(invalid("something else than a service in rls-services"));
    }
    Attributes { own: &["uri"], others: true }.check(node, true)?;
    if node.attribute("uri").is_none() {
        return Err(invalid("a service without uri"));
    }
    no_text(node)?;
    let mut children = node.children().peekable();
    match children.next() {
        Some(list) if list.is(RLS_SERVICES, "list") => resource_lists::schema(list)?,
        Some(reference) if reference.is(RLS_SERVICES, "resource-list") => {
            Attributes::none().check(reference, false)?;
            no_children(reference)?;
        }
        Some(_) | None => return Err(invalid("a service begins with its list or resource-list")),
    }
    if let Some(node) = children.next_if(|child| child.is(RLS_SERVICES, "packages")) {
        packages(node)?;
    }
    children.try_for_each(|child| other(child, RLS_SERVICES))
}

/// One or more of `package`, each with elements of other namespaces after it, or nothing at all.
fn packages(node: Node<'_>) -> Result<(), Conflict> {
    Attributes::none().check(node, false)?;
    no_text(node)?;
    for (at, child) in node.children().enumerate() {
        if child.is(RLS_SERVICES, "package") {
            Attributes::none().check(child, false)?;
            no_children(child)?;
        } else if at == 0 {
            return Err(invalid("packages begin with a package"));
        } else {
            other(child, RLS_SERVICES)?;
        }
    }
    Ok(())
}

/// An absolute HTTP URI with `resource-lists` as the application and the same user (4.4.5), told by its text alone.
fn is_own_list(uri: &str, owner: &Aor) -> bool {
    if !resource_lists::is_absolute_http(uri) {
        return false;
    }
    let path = uri.split(['?', '#']).next().unwrap_or_default();
    let segments: Vec<&str> = path.split('/').collect();
    segments.windows(3).any(|window| match window {
        ["resource-lists", "users", user] => {
            let user = decoded(user).unwrap_or_default();
            Uri::parse(user.as_bytes()).ok().and_then(|uri| Aor::from_uri(&uri)).as_ref() == Some(owner)
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::availability::document::xml::Document;
    use crate::xcap::usage::LIMITS;

    fn check(inside: &str) -> Result<(), Conflict> {
        let text = format!(
            "<rls-services xmlns='urn:ietf:params:xml:ns:rls-services' \
             xmlns:rl='urn:ietf:params:xml:ns:resource-lists' xmlns:x='urn:x'>{inside}</rls-services>"
        );
        let joe = Aor::new("joe", "example.com").unwrap();
        validate(Document::read(text.as_bytes(), &LIMITS).unwrap().root(), &joe)
    }

    const OWN: &str = "<resource-list>http://xcap.example.com/resource-lists/users/sip:joe@example.com/index/~~/resource-lists/list%5b@name=%22l1%22%5d</resource-list>";

    #[test]
    fn the_example_of_rfc4826_4_3_and_extensions_hold() {
        let example = format!(
            "<service uri=\"sip:mybuddies@example.com\"> {OWN} <packages> <package>presence</package> </packages> </service> \
             <service uri=\"sip:marketing@example.com\"> <list name=\"marketing\"> <rl:entry uri=\"sip:joe@example.com\"/> \
             <rl:entry uri=\"sip:sudhir@example.com\"/> </list> <packages> <package>presence</package> </packages> </service>"
        );
        for good in [
            example.as_str(),
            "",
            "<service uri='a'><list/></service>",
            "<service uri='a' x:b='c'><list/><packages/><x:y/></service>",
            "<service uri='a'><list/><packages><package>p</package><x:y/><package>q</package></packages></service>",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn what_the_schema_does_not_have_is_refused_rfc4826_4_2() {
        for bad in [
            "<x:a/>",
            "<service><list/></service>",
            "<service uri='a'/>",
            "<service uri='a'><packages/></service>",
            "<service uri='a'><list/><list/></service>",
            "<service uri='a'><list><entry uri='b'/></list></service>",
            "<service uri='a'><rl:list/></service>",
            "<service uri='a'><list/><x:y/><packages/></service>",
            "<service uri='a'><list/><packages><x:y/></packages></service>",
            "<service uri='a'><resource-list><a/></resource-list></service>",
        ] {
            assert!(matches!(check(bad), Err(Conflict::SchemaValidation(_))), "{bad}: {:?}", check(bad));
        }
    }

    #[test]
    fn a_service_names_lists_of_its_owner_and_is_there_once_rfc4826_4_4_5() {
        let with =
            |uri: &str| check(&format!("<service uri='a'><resource-list>{uri}</resource-list></service>"));
        assert_eq!(
            with("https://h/root/resource-lists/users/sip%3Ajoe@EXAMPLE.com/index/~~/resource-lists/list"),
            Ok(())
        );
        for bad in [
            "",
            "/resource-lists/users/sip:joe@example.com/index",
            "http://h/resource-lists/users/sip:bob@example.com/index",
            "http://h/rls-services/users/sip:joe@example.com/index",
            "http://h/resource-lists/global/index",
            "http://h/x?/resource-lists/users/sip:joe@example.com/index",
        ] {
            assert!(matches!(with(bad), Err(Conflict::Constraint(_))), "{bad}");
        }
        let twice = "<service uri='a'><list/></service>".repeat(2);
        assert!(matches!(check(&twice), Err(Conflict::Uniqueness(_))));
        let inner = "<service uri='a'><list><rl:entry uri='b'/><rl:entry uri='b'/></list></service>";
        assert!(matches!(check(inner), Err(Conflict::Uniqueness(_))));
    }
}

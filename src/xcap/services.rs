//! The services of all users (RFC 4826 4.4): which URI is whose, and the index that holds them all. Pure but for one short lock.
//!
//! Who writes a document claims its URIs first and holds the claim until the store has answered, so of two writers one is told 409. What is kept
//! here is a hint about where to look: an entry counts while it is claimed, or while the document still has it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::availability::document::xml::{Document, Limits};
use crate::model::{Aor, DocumentName};
use crate::sip::Uri;
use crate::xcap::conflict::{Conflict, Exists};
use crate::xcap::schema::rls_services;
use crate::xcap::usage::{LIMITS, namespace};

/// Whose document it is, and which.
pub type Place = (Aor, DocumentName);

/// One `<service>` of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its URI: equal ones are one text (RFC 4826 5).
    pub uri: String,
    /// Where it stands, as a 409 names it.
    pub field: String,
}

/// All services of a document that is kept.
///
/// - `canonical`: the one text of all URIs that are equal.
pub fn of(body: &[u8], canonical: impl Fn(&str) -> String) -> Vec<Service> {
    let Ok(document) = Document::read(body, &LIMITS) else { return Vec::new() };
    let services = rls_services::services(document.root());
    services.map(|(uri, field)| Service { uri: canonical(uri), field }).collect()
}

/// The address of a SIP URI.
pub fn address(uri: &str) -> Option<Aor> {
    Uri::parse(uri.trim().as_bytes()).ok().and_then(|uri| Aor::from_uri(&uri))
}

/// Which URI is whose.
#[derive(Debug, Default)]
pub struct Services {
    /// `None`: nobody has asked yet.
    known: Mutex<Option<HashMap<String, Entry>>>,
}

#[derive(Debug)]
struct Entry {
    place: Place,
    /// Writers who have not been answered yet.
    claims: usize,
}

/// URIs that are being written.
#[derive(Debug)]
pub struct Claim {
    services: Arc<Services>,
    place: Place,
    claimed: Vec<String>,
    /// Of these, what was not there before.
    fresh: Vec<String>,
    /// What the document had and will not have.
    retired: Vec<String>,
    /// Is it on disk? `None`: nobody knows.
    pub committed: Option<bool>,
}

impl Services {
    /// Claims the URIs of a document that is to be written.
    ///
    /// - `all`: every document there is, with its services; asked once.
    /// - `before`, `after`: what the document has and will have.
    /// - `still`: is this URI in the document at that place now?
    /// - `exists`: is it somebody's address?
    ///
    /// # Errors
    /// `Uniqueness`, with other URIs that would do (4.4.5).
    pub fn claim(
        self: &Arc<Self>,
        all: impl FnOnce() -> Vec<(Place, Vec<Service>)>,
        place: &Place,
        before: &[Service],
        after: &[Service],
        still: impl Fn(&Place, &str) -> bool,
        exists: impl Fn(&str) -> bool,
    ) -> Result<Claim, Conflict> {
        let mut known = self.lock();
        let known = known.get_or_insert_with(|| {
            let every = all().into_iter().flat_map(|(place, services)| {
                services
                    .into_iter()
                    .map(move |service| (service.uri, Entry { place: place.clone(), claims: 0 }))
            });
            every.collect()
        });
        let is_taken = |known: &HashMap<String, Entry>, uri: &str| {
            exists(uri)
                || known.get(uri).is_some_and(|entry| {
                    entry.place != *place && (entry.claims > 0 || still(&entry.place, uri))
                })
        };
        let taken = after.iter().filter(|service| is_taken(known, &service.uri));
        let taken: Vec<Exists> = taken
            .take(MAX_TOLD)
            .map(|service| Exists {
                field: service.field.clone(),
                alternatives: others(&service.uri, |uri| is_taken(known, uri)),
            })
            .collect();
        if !taken.is_empty() {
            return Err(Conflict::Uniqueness(taken));
        }
        let mut fresh = Vec::new();
        for Service { uri, .. } in after {
            let entry = known.entry(uri.clone()).or_insert(Entry { place: place.clone(), claims: 0 });
            if entry.place != *place || !before.iter().any(|service| service.uri == *uri) {
                fresh.push(uri.clone());
                entry.place = place.clone();
            }
            entry.claims = entry.claims.saturating_add(1);
        }
        let is_kept = |uri: &String| after.iter().any(|service| service.uri == *uri);
        let retired = before.iter().map(|service| service.uri.clone()).filter(|uri| !is_kept(uri)).collect();
        let claimed = after.iter().map(|service| service.uri.clone()).collect();
        Ok(Claim { services: self.clone(), place: place.clone(), claimed, fresh, retired, committed: None })
    }

    fn lock(&self) -> MutexGuard<'_, Option<HashMap<String, Entry>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut known = self.services.lock();
        let Some(known) = known.as_mut() else { return };
        for uri in &self.claimed {
            if let Some(entry) = known.get_mut(uri) {
                entry.claims = entry.claims.saturating_sub(1);
            }
        }
        let gone = match self.committed {
            Some(true) => &self.retired,
            Some(false) => &self.fresh,
            // Whoever wants one of them looks into the document.
            None => return,
        };
        for uri in gone {
            if known.get(uri).is_some_and(|entry| entry.claims == 0 && entry.place == self.place) {
                known.remove(uri);
            }
        }
    }
}

/// URIs like this one that are free.
fn others(uri: &str, is_taken: impl Fn(&str) -> bool) -> Vec<String> {
    let Some(aor) = address(uri) else { return Vec::new() };
    let like = (2..=9).filter_map(|n| Aor::new(&format!("{}-{n}", aor.user()), aor.domain()));
    like.map(|other| other.uri()).filter(|other| !is_taken(other)).take(2).collect()
}

/// The document of all services (4.4.8): the union of all documents that are called `index`.
///
/// - `bodies`: theirs.
///
/// `None`: it would be more than [`INDEX`] lets anybody read.
pub fn index<'d>(bodies: impl Iterator<Item = &'d [u8]>) -> Option<String> {
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<rls-services xmlns=\"{}\">\n",
        namespace::RLS_SERVICES
    );
    for body in bodies {
        let Ok(document) = Document::read(body, &LIMITS) else { continue };
        for service in document.root().children() {
            let service = service.fragment();
            let (start, rest) = service.split();
            text.push_str(start);
            for (prefix, uri) in service.needs() {
                let colon = if prefix.is_empty() { "" } else { ":" };
                let uri = crate::availability::document::edit::escaped(uri);
                text.push_str(&format!(" xmlns{colon}{prefix}=\"{uri}\""));
            }
            text.push_str(rest);
            text.push('\n');
        }
        if text.len() > INDEX.bytes {
            return None;
        }
    }
    text.push_str("</rls-services>\n");
    Some(text)
}

/// How large the index may be, and how much of it is read for who asks for a part.
pub const INDEX: Limits = Limits { bytes: 8 * 1024 * 1024, elements: 400_000, ..LIMITS };
/// URIs that are told of at once.
const MAX_TOLD: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Auid;

    fn place(user: &str) -> Place {
        (Aor::new(user, "example.com").unwrap(), DocumentName::new(Auid::RlsServices, "index"))
    }

    fn service(user: &str) -> Service {
        Service { uri: format!("sip:{user}@example.com"), field: "rls-services/*[1]/@uri".into() }
    }

    fn claim(
        services: &Arc<Services>,
        owner: &str,
        before: &[Service],
        after: &[Service],
        still: bool,
    ) -> Result<Claim, Conflict> {
        let exists = |uri: &str| uri == "sip:joe@example.com";
        services.claim(Vec::new, &place(owner), before, after, |_, _| still, exists)
    }

    fn end(claim: Result<Claim, Conflict>, committed: Option<bool>) {
        claim.unwrap().committed = committed;
    }

    #[test]
    fn a_uri_is_one_users_and_others_are_told_what_is_free_rfc4826_4_4_5() {
        let services = Arc::new(Services::default());
        end(claim(&services, "joe", &[], &[service("friends")], false), Some(true));
        let refused = claim(&services, "bob", &[], &[service("friends")], true).unwrap_err();
        let Conflict::Uniqueness(exists) = refused else { panic!("{refused:?}") };
        assert_eq!(exists[0].alternatives, ["sip:friends-2@example.com", "sip:friends-3@example.com"]);
        end(claim(&services, "joe", &[service("friends")], &[service("friends")], true), Some(true));
        let own = claim(&services, "bob", &[], &[service("joe")], false);
        assert!(matches!(own, Err(Conflict::Uniqueness(_))), "somebody has that address");
        end(claim(&services, "joe", &[service("friends")], &[], true), Some(true));
        end(claim(&services, "bob", &[], &[service("friends")], true), Some(true));
    }

    #[test]
    fn of_two_writers_one_has_the_uri_and_a_failure_frees_it() {
        let services = Arc::new(Services::default());
        let first = claim(&services, "joe", &[], &[service("friends")], false);
        assert!(claim(&services, "bob", &[], &[service("friends")], false).is_err(), "it may be on disk yet");
        end(first, Some(false));
        let second = claim(&services, "bob", &[], &[service("friends")], false);
        end(second, None);
        assert!(claim(&services, "joe", &[], &[service("friends")], true).is_err(), "it was on disk");
        assert!(claim(&services, "joe", &[], &[service("friends")], false).is_ok(), "it was not");
    }

    #[test]
    fn what_is_there_after_a_start_is_known() {
        let services = Arc::new(Services::default());
        let all = || vec![(place("joe"), vec![service("friends")])];
        let claimed = services.claim(all, &place("bob"), &[], &[service("friends")], |_, _| true, |_| false);
        assert!(claimed.is_err());
    }

    #[test]
    fn the_index_is_the_union_and_keeps_namespaces_rfc4826_4_4_8() {
        let joe = b"<rls-services xmlns='urn:ietf:params:xml:ns:rls-services'> <service uri='sip:a@x'><resource-list>http://h/r\
            </resource-list></service></rls-services>";
        let bob = b"<r:rls-services xmlns:r='urn:ietf:params:xml:ns:rls-services' xmlns:l='urn:ietf:params:xml:ns:resource-lists'>\
            <r:service uri='sip:b@x'><r:list><l:entry uri='sip:c@x'/></r:list></r:service></r:rls-services>";
        let text = index([&joe[..], &bob[..]].into_iter()).unwrap();
        let document = Document::read(text.as_bytes(), &INDEX).unwrap();
        let uris: Vec<_> =
            document.root().children().map(|service| service.attribute("uri").unwrap()).collect();
        assert_eq!(uris, ["sip:a@x", "sip:b@x"]);
        let list = document.root().children().nth(1).unwrap().children().next().unwrap();
        assert!(list.children().next().unwrap().is(namespace::RESOURCE_LISTS, "entry"));
        assert!(index(std::iter::repeat_n(&joe[..], 100_000)).is_none());
    }
}

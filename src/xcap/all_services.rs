//! The services of all users (RFC 4826 4.4), as they are asked for and written: what a trusted element reads, and what a writer claims.

use std::sync::Arc;

use hyper::Method;

use crate::api::http::{self, Answer, Head};
use crate::model::{Aor, Auid, Document, DocumentName};
use crate::xcap::address::{self, Tree};
use crate::xcap::conflict::Conflict;
use crate::xcap::services::{self, Claim};
use crate::xcap::usage::Usage;
use crate::xcap::{New, Place, Policy, READ_ONLY, Xcap, conditions, generated, not_allowed};

impl Xcap {
    /// What is for trusted elements alone: the services of all users (RFC 4826 4.4.9). `None`: another document, or anybody else.
    pub(super) async fn trusted(&self, head: &Head) -> Option<Answer> {
        if !self.auth.peers().at_address(head.peer.ip())?.reads_services {
            return None;
        }
        let uri = &head.parts.uri;
        let address = address::parse(uri.path().strip_prefix(&self.policy.root)?, uri.query()).ok()?;
        let is_index = address.usage == Usage::RlsServices && address.tree == Tree::Global;
        if !is_index || address.name != ["index"] {
            return None;
        }
        if !matches!(head.parts.method, Method::GET | Method::HEAD) {
            return Some(not_allowed(READ_ONLY));
        }
        let mut homes = self.homes.keeping(&Auid::RlsServices);
        homes.sort_unstable_by(|a, b| a.aor.as_str().cmp(b.aor.as_str()));
        let made = self.aside(move || {
            let name = DocumentName::new(Auid::RlsServices, "index");
            let documents = homes.iter().filter_map(|home| home.documents.get(&name));
            let text = services::index(documents.map(|document| &*document.body))?;
            let tag = generated::tag(&text);
            Some((text, tag))
        });
        let Some(Some((text, tag))) = made.await else { return Some(http::unavailable()) };
        let conditions = conditions(&head.parts.headers);
        Some(self.read(Usage::RlsServices.media_type(), text.into(), tag, &conditions, address.node).await)
    }

    /// Claims the services of a document that is to become `new`; of other applications there is nothing to claim. `None`: it could not be read.
    pub(super) async fn claim(
        &self,
        place: &Place,
        before: Option<Arc<Document>>,
        new: Option<&New>,
    ) -> Option<Result<Option<Claim>, Conflict>> {
        let (Usage::RlsServices, Some(name)) = (place.usage, place.name.clone()) else {
            return Some(Ok(None));
        };
        let (homes, services, auth) = (self.homes.clone(), self.services.clone(), self.auth.clone());
        let (owner, after, policy) =
            (place.owner.clone(), new.map(|new| new.body.clone()), self.policy.clone());
        self.aside(move || {
            let canonical = |uri: &str| {
                let address = services::address(uri).map(|aor| our_name(aor, &policy));
                address.map_or_else(|| uri.trim().to_owned(), |aor| aor.uri())
            };
            let of = |body: &[u8]| services::of(body, canonical);
            let all = || {
                let keeping = homes.keeping(&Auid::RlsServices).into_iter();
                let every = keeping.flat_map(|home| {
                    let documents = home.documents.of(&Auid::RlsServices);
                    documents
                        .map(|one| ((home.aor.clone(), one.name.clone()), of(&one.body)))
                        .collect::<Vec<_>>()
                });
                every.collect()
            };
            let still = |(owner, name): &services::Place, uri: &str| {
                let home = homes.read(owner);
                home.documents
                    .get(name)
                    .is_some_and(|one| of(&one.body).iter().any(|service| service.uri == uri))
            };
            let exists = |uri: &str| services::address(uri).is_some_and(|aor| auth.accounts().exists(&aor));
            let before = before.map(|before| of(&before.body)).unwrap_or_default();
            let after = after.map(|body| of(&body)).unwrap_or_default();
            services.claim(all, &(owner, name), &before, &after, still, exists).map(Some)
        })
        .await
    }
}

/// The same under the first of our names.
fn our_name(aor: Aor, policy: &Policy) -> Aor {
    let is_alias = policy.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(aor.domain()));
    let ours = is_alias.then(|| Aor::new(aor.user(), &policy.domain)).flatten();
    ours.unwrap_or(aor)
}

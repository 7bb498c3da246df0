//! Documents, composed once for all watchers who may see the same.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

use crate::availability::view::Grant;
use crate::availability::{hard_state, sphere};
use crate::model::{self, Aor, Binding, ByAor, HomeState, Publication, Subscription, Text, Timestamp};
use crate::presence::dialog::{Fingerprint, Standing};
use crate::presence::package::{self, Document, Others, Shown};

/// What a watcher is told: the document and how to recognise it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rendered {
    pub(super) fingerprint: Fingerprint,
    /// Empty without one.
    pub(super) document: Document,
}

/// The newest documents of the presentities that were looked at last. Bounded: a full shard is emptied.
#[derive(Debug)]
pub(super) struct Views {
    /// `false`: every document is composed anew.
    keep: bool,
    shards: Box<[Mutex<ByAor<Kept>>]>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Kept {
    sources: Sources,
    documents: SmallVec<[(Shown, Rendered); 2]>,
    /// The presentity's sphere, once somebody has asked.
    sphere: Option<Option<Vec<Text>>>,
}

impl Kept {
    fn of(home: &HomeState, now: Timestamp) -> Kept {
        Kept { sources: Sources::of(home, now), documents: SmallVec::new(), sphere: None }
    }

    /// An owner may make as many classes of watchers as rules, so the oldest documents make room.
    fn keep(&mut self, shown: Shown, rendered: Rendered) {
        self.documents.retain(|(kept, _)| *kept != shown);
        self.documents.push((shown, rendered));
        let bytes =
            |kept: &Kept| kept.documents.iter().map(|(_, one)| one.document.text().len()).sum::<usize>();
        while self.documents.len() > 2 && (self.documents.len() > PER_HOME || bytes(self) > BYTES_PER_HOME) {
            self.documents.remove(0);
        }
    }
}

/// What documents are composed of. A snapshot's version would not do: it begins anew when a home was let go meanwhile.
#[derive(Debug)]
struct Sources {
    bindings: SmallVec<[Arc<Binding>; 4]>,
    publications: SmallVec<[Arc<Publication>; 4]>,
    /// What was set by hand, and until when it means the same.
    by_hand: Option<(Arc<model::Document>, Option<Timestamp>)>,
    /// None of them had ended when the document was composed.
    all_lived: bool,
}

impl Views {
    pub(super) fn new(keep: bool) -> Views {
        Views { keep, shards: (0..SHARDS).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }

    /// Does this hang on nothing but the home, so that it is kept, and is the same for all who are shown it?
    pub(super) fn are_kept(&self, shown: &Shown) -> bool {
        self.keep && package::may_be_kept(shown)
    }

    /// What is shown of this home now. Composes without any lock held; at worst two do so at once.
    pub(super) fn document(
        &self,
        home: &HomeState,
        shown: Shown,
        row: &Subscription,
        others: &Others<'_>,
        now: Timestamp,
    ) -> Rendered {
        if !self.are_kept(&shown) {
            return self.render(home, shown, row, others, now);
        }
        {
            let kept = self.shard(&home.aor);
            let found = kept.get(&home.aor).filter(|kept| kept.sources.are_those_of(home, now));
            if let Some((_, rendered)) =
                found.and_then(|kept| kept.documents.iter().find(|(kept, _)| *kept == shown))
            {
                return rendered.clone();
            }
        }
        let rendered = self.render(home, shown.clone(), row, others, now);
        if !rendered.document.is_empty() {
            self.keep(home, now, |kept| kept.keep(shown, rendered.clone()));
        }
        rendered
    }

    /// The presentity's sphere now, read out of its documents once as long as these are the same.
    pub(super) fn sphere(&self, home: &HomeState, now: Timestamp) -> Option<Vec<Text>> {
        if !self.keep {
            return sphere::sphere(home, now);
        }
        {
            let kept = self.shard(&home.aor);
            let found = kept.get(&home.aor).filter(|kept| kept.sources.are_those_of(home, now));
            if let Some(known) = found.and_then(|kept| kept.sphere.clone()) {
                return known;
            }
        }
        let sphere = sphere::sphere(home, now);
        self.keep(home, now, |kept| kept.sphere = Some(sphere.clone()));
        sphere
    }

    fn keep(&self, home: &HomeState, now: Timestamp, keep: impl FnOnce(&mut Kept)) {
        let mut kept = self.shard(&home.aor);
        if kept.len() >= PER_SHARD && !kept.contains_key(&home.aor) {
            kept.clear();
        }
        let entry = kept.entry(home.aor.clone()).or_insert_with(|| Kept::of(home, now));
        if !entry.sources.are_those_of(home, now) {
            *entry = Kept::of(home, now);
        }
        keep(entry);
    }

    fn shard(&self, aor: &Aor) -> MutexGuard<'_, ByAor<Kept>> {
        self.shards[aor.place(SHARDS)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn render(
        &self,
        home: &HomeState,
        shown: Shown,
        row: &Subscription,
        others: &Others<'_>,
        now: Timestamp,
    ) -> Rendered {
        let standing = standing(&shown.grant);
        match package::document(home, shown, row, others, now) {
            Some(document) => {
                let body = self.hasher.hash_one(document.text());
                Rendered { fingerprint: Fingerprint { standing, body }, document }
            }
            None => Rendered { fingerprint: Fingerprint { standing, body: 0 }, document: Document::none() },
        }
    }
}

/// The standing of a grant, without a document.
pub(super) fn standing(grant: &Grant) -> Standing {
    match grant {
        Grant::Pending => Standing::Pending,
        Grant::Rejected => Standing::Refused,
        Grant::Unavailable | Grant::Basic | Grant::Part(_) | Grant::Full => Standing::Active,
    }
}

impl Sources {
    fn of(home: &HomeState, now: Timestamp) -> Sources {
        Sources {
            bindings: home.bindings.iter().cloned().collect(),
            publications: home.publications.iter().cloned().collect(),
            by_hand: hard_state::document(home)
                .map(|document| (document.clone(), hard_state::next_turn(home, now))),
            all_lived: home.live_bindings(now).count() == home.bindings.len()
                && home.live_publications(now).count() == home.publications.len(),
        }
    }

    fn are_those_of(&self, home: &HomeState, now: Timestamp) -> bool {
        self.all_lived
            && home.bindings.iter().all(|b| !b.is_expired(now))
            && home.publications.iter().all(|p| now < p.next_due())
            && match (&self.by_hand, hard_state::document(home)) {
                (None, None) => true,
                (Some((kept, until)), Some(document)) => {
                    Arc::ptr_eq(kept, document) && until.is_none_or(|until| now < until)
                }
                (None, Some(_)) | (Some(_), None) => false,
            }
            && self.bindings.len() == home.bindings.len()
            && self.publications.len() == home.publications.len()
            && self.bindings.iter().zip(&home.bindings).all(|(a, b)| is_same_device(a, b))
            && self.publications.iter().zip(&home.publications).all(|(a, b)| is_same_document(a, b))
    }
}

/// A device that has refreshed its registration is what it was.
fn is_same_device(a: &Arc<Binding>, b: &Arc<Binding>) -> bool {
    Arc::ptr_eq(a, b)
        || (a.key == b.key
            && a.instance == b.instance
            && a.params == b.params
            && a.created_at == b.created_at)
}

/// A publication that was refreshed without a body has the very bytes it had.
fn is_same_document(a: &Arc<Publication>, b: &Arc<Publication>) -> bool {
    let is_same_body = || (a.body.as_ptr(), a.body.len()) == (b.body.as_ptr(), b.body.len());
    Arc::ptr_eq(a, b)
        || (a.id == b.id
            && a.modified_at == b.modified_at
            && a.turns == b.turns
            && a.publisher.instance == b.publisher.instance
            && is_same_body())
}

const SHARDS: usize = 32;
/// Homes kept per shard: with two grants of 4 KB each about 16 MB in all, and at most 256 MiB.
const PER_SHARD: usize = 64;
/// Documents kept of one home, if there are more than two: one for each class of watchers.
const PER_HOME: usize = 16;
/// The same in bytes.
const BYTES_PER_HOME: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    use crate::model::{EntityTag, Package};
    use crate::presence::package::Format;
    use crate::presence::testing::{NOW, aor, publication, subscription};

    /// Nobody asks for watchers here.
    const NOBODY: Others<'static> = Others { granted: &|_| Grant::Pending, was_pending: &|_| false };

    fn shown(grant: Grant) -> Shown {
        Shown { package: Package::Presence, format: Format::Pidf, grant, is_owner: false }
    }

    fn home(publications: &[Arc<Publication>]) -> HomeState {
        HomeState { publications: publications.into(), ..HomeState::empty(aor("alice@example.org")) }
    }

    #[test]
    fn one_document_is_shared_by_all_who_may_see_it() {
        let views = Views::new(true);
        let home = home(&[Arc::new(publication(1, 1))]);
        let first = views.document(&home, shown(Grant::Full), &subscription(1), &NOBODY, NOW);
        let mut other = home.clone();
        other.version += 1;
        let second = views.document(&other, shown(Grant::Full), &subscription(1), &NOBODY, NOW);
        assert_eq!(first.document.text().as_ptr(), second.document.text().as_ptr());
        assert_eq!(first.fingerprint, second.fingerprint);
    }

    #[test]
    fn a_refresh_composes_nothing_and_the_end_of_what_was_refreshed_does() {
        let views = Views::new(true);
        let body = "<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"sip:alice@example.org\"><tuple id=\"t\"><status><basic>open\
                    </basic></status></tuple></presence>";
        let old = Publication { body: Bytes::from_static(body.as_bytes()), ..publication(1, 1) };
        let first = views.document(
            &home(&[Arc::new(old.clone())]),
            shown(Grant::Full),
            &subscription(1),
            &NOBODY,
            NOW,
        );
        let longer =
            Publication { tag: EntityTag(9), expires_at: old.expires_at.after_secs(600), ..old.clone() };
        let refreshed = home(&[Arc::new(longer)]);
        for now in [NOW, old.expires_at.after_secs(1)] {
            assert_eq!(
                first.document.text().as_ptr(),
                views
                    .document(&refreshed, shown(Grant::Full), &subscription(1), &NOBODY, now)
                    .document
                    .text()
                    .as_ptr()
            );
        }
        let ended = views.document(
            &refreshed,
            shown(Grant::Full),
            &subscription(1),
            &NOBODY,
            old.expires_at.after_secs(600),
        );
        assert_ne!(first.document, ended.document);
        assert_eq!(
            ended.document,
            views.document(&home(&[]), shown(Grant::Full), &subscription(1), &NOBODY, NOW).document
        );
    }

    #[test]
    fn documents_that_are_not_kept_are_the_same_documents() {
        let (kept, anew) = (Views::new(true), Views::new(false));
        let home = home(&[Arc::new(publication(1, 1))]);
        let [first, second] =
            [(), ()].map(|()| anew.document(&home, shown(Grant::Full), &subscription(1), &NOBODY, NOW));
        assert_ne!(first.document.text().as_ptr(), second.document.text().as_ptr());
        assert_eq!(first, second, "who was told the first is not told the second");
        assert_eq!(
            first.document,
            kept.document(&home, shown(Grant::Full), &subscription(1), &NOBODY, NOW).document
        );
    }

    #[test]
    fn other_sources_and_ended_ones_are_composed_anew() {
        let views = Views::new(true);
        let old = home(&[Arc::new(publication(1, 1))]);
        let first = views.document(&old, shown(Grant::Full), &subscription(1), &NOBODY, NOW);
        let new = home(&[Arc::new(publication(2, 1))]);
        assert_ne!(
            first.document.text().as_ptr(),
            views.document(&new, shown(Grant::Full), &subscription(1), &NOBODY, NOW).document.text().as_ptr()
        );
        let later = NOW.after_secs(3_600);
        assert_ne!(
            first.document.text().as_ptr(),
            views
                .document(&old, shown(Grant::Full), &subscription(1), &NOBODY, later)
                .document
                .text()
                .as_ptr()
        );
    }

    #[test]
    fn each_form_is_kept_beside_the_others() {
        let views = Views::new(true);
        let home = home(&[Arc::new(publication(1, 1))]);
        let seen = |format, grant| {
            let shown = Shown { format, ..shown(grant) };
            views.document(&home, shown, &subscription(1), &NOBODY, NOW).document.text().clone()
        };
        for grant in [Grant::Full, Grant::Unavailable] {
            let all = [Format::Pidf, Format::Xpidf, Format::CpimPidf];
            let first = all.map(|format| seen(format, grant.clone()));
            assert!(first[0] != first[1] && first[1] != first[2] && first[0] != first[2]);
            for (format, first) in all.into_iter().zip(&first) {
                assert_eq!(seen(format, grant.clone()).as_ptr(), first.as_ptr(), "{format:?}");
            }
        }
    }

    #[test]
    fn grants_are_kept_apart_a31() {
        let views = Views::new(true);
        let home = home(&[Arc::new(publication(1, 1))]);
        let full = views.document(&home, shown(Grant::Full), &subscription(1), &NOBODY, NOW);
        assert_eq!(full.fingerprint.standing, Standing::Active);
        for (grant, standing) in [(Grant::Pending, Standing::Pending), (Grant::Rejected, Standing::Refused)] {
            let none = views.document(&home, shown(grant), &subscription(1), &NOBODY, NOW);
            assert_eq!((none.fingerprint.standing, none.document.text().len()), (standing, 0));
        }
    }
}

//! The only door through which presence leaves the server.
//!
//! [`grant`] says who may see how much, [`render`] makes that document, [`view`] is both. A notifier with many watchers of one presentity
//! renders once per grant.

use bytes::Bytes;

use crate::availability::composition::{compose, compose_basic};
use crate::model::{Aor, HomeState, Timestamp};

/// What holds between users of the domain where the owner has no rules of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DomainDefault {
    /// Who watches me may be watched by me: a watcher sees those who watch the watcher.
    #[default]
    Reciprocal,
    /// Pending until the owner says so.
    Confirm,
    /// Everybody of the domain sees open or closed.
    Basic,
    /// Everybody of the domain sees everything.
    Full,
}

/// How much of a presentity a watcher may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grant {
    /// Not decided by the owner: nothing.
    Pending,
    /// Refused: nothing.
    Rejected,
    /// Open or closed, per tuple.
    Basic,
    /// The whole composed document.
    Full,
}

/// Which rule decided about a watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Everybody sees themselves.
    Own,
    /// Who gives no name sees nobody.
    Nameless,
    /// Watchers of other domains wait for the owner.
    Foreign,
    /// The domain's default; for [`DomainDefault::Reciprocal`], does the presentity watch the watcher?
    Default(DomainDefault, Option<bool>),
}

/// What one watcher gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum View {
    /// Allowed: this document.
    Active(Bytes),
    /// Not decided by the owner: no document.
    Pending,
    /// Refused.
    Rejected,
}

/// What this watcher may see of this presentity at this instant. Nothing is released unless a rule provides it.
///
/// - `presentity`: everything about the watched AoR.
/// - `watched`: the watcher's own home, where the presentity may be found as a watcher (reciprocal rule).
pub fn view(
    presentity: &HomeState,
    watcher: &Aor,
    watched: &HomeState,
    default: DomainDefault,
    now: Timestamp,
) -> View {
    render(presentity, grant(&presentity.aor, watcher, watched, default, now), now)
}

/// Who may see how much. Everybody sees themselves; within the domain its default decides; watchers from elsewhere wait for the owner, and
/// those without a name are refused (RFC 3323 4.1.1.3).
pub fn grant(
    presentity: &Aor,
    watcher: &Aor,
    watched: &HomeState,
    default: DomainDefault,
    now: Timestamp,
) -> Grant {
    decide(presentity, watcher, watched, default, now).0
}

/// The same with the rule that decided, for who asks why.
pub fn decide(
    presentity: &Aor,
    watcher: &Aor,
    watched: &HomeState,
    default: DomainDefault,
    now: Timestamp,
) -> (Grant, Rule) {
    if watcher == presentity {
        return (Grant::Full, Rule::Own);
    }
    let domain = watcher.domain();
    if domain == "anonymous.invalid" {
        return (Grant::Rejected, Rule::Nameless);
    }
    if domain != presentity.domain() {
        return (Grant::Pending, Rule::Foreign);
    }
    let decided = |grant| (grant, Rule::Default(default, None));
    match default {
        DomainDefault::Reciprocal => {
            let returned = watched.aor == *watcher && watched.is_watched_by(presentity, now);
            let grant = if returned { Grant::Full } else { Grant::Pending };
            (grant, Rule::Default(default, Some(returned)))
        }
        DomainDefault::Confirm => decided(Grant::Pending),
        DomainDefault::Basic => decided(Grant::Basic),
        DomainDefault::Full => decided(Grant::Full),
    }
}

/// What a grant gives: the same for everybody who has it.
pub fn render(presentity: &HomeState, grant: Grant, now: Timestamp) -> View {
    match grant {
        Grant::Pending => View::Pending,
        Grant::Rejected => View::Rejected,
        Grant::Basic => View::Active(compose_basic(presentity, now).pidf),
        Grant::Full => View::Active(compose(presentity, now).pidf),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::availability::composition::unavailable;
    use crate::availability::fixtures::{NOW, alice, home, pidf, publish, watch};

    fn bob() -> Aor {
        Aor::new("bob", "example.org").unwrap()
    }

    fn bobs_home() -> HomeState {
        HomeState::empty(bob())
    }

    fn open_alice() -> HomeState {
        let mut home = home();
        let inner = "<tuple id=\"a\"><status><basic>open</basic><x:s xmlns:x=\"urn:x\">SECRET1</x:s></status><rpid:class>SECRET2</rpid:class>\
                     <contact>tel:SECRET3</contact><note>SECRET4</note><timestamp>2026-11-20T23:29:15Z</timestamp></tuple><tuple id=\"b\">\
                     <status/></tuple><note>SECRET5</note><dm:person id=\"p\"><rpid:activities><rpid:meeting/></rpid:activities>\
                     <dm:note>SECRET6</dm:note></dm:person><dm:device id=\"d\"><dm:deviceID>urn:SECRET7</dm:deviceID></dm:device>\
                     <x:top xmlns:x=\"urn:x\">SECRET8</x:top>";
        publish(&mut home, 1, &pidf(inner));
        home
    }

    fn default_for(watcher: &Aor, watched: &HomeState, default: DomainDefault) -> Grant {
        grant(&alice(), watcher, watched, default, NOW)
    }

    #[test]
    fn everybody_sees_themselves_whatever_the_default() {
        for default in
            [DomainDefault::Reciprocal, DomainDefault::Confirm, DomainDefault::Basic, DomainDefault::Full]
        {
            assert_eq!(default_for(&alice(), &home(), default), Grant::Full);
        }
        let View::Active(own) = view(&open_alice(), &alice(), &home(), DomainDefault::Confirm, NOW) else {
            panic!()
        };
        assert_eq!(own, compose(&open_alice(), NOW).pidf);
    }

    #[test]
    fn reciprocal_shows_only_to_those_the_presentity_watches_a31() {
        let mut watched = bobs_home();
        assert_eq!(default_for(&bob(), &watched, DomainDefault::Reciprocal), Grant::Pending);
        watch(&mut watched, &alice(), NOW.after_secs(1));
        assert_eq!(default_for(&bob(), &watched, DomainDefault::Reciprocal), Grant::Full);
        let after = NOW.after_secs(1);
        assert_eq!(grant(&alice(), &bob(), &watched, DomainDefault::Reciprocal, after), Grant::Pending);
    }

    #[test]
    fn somebody_elses_home_proves_nothing_a31() {
        let carol = Aor::new("carol", "example.org").unwrap();
        let mut watched = HomeState::empty(carol.clone());
        watch(&mut watched, &alice(), NOW.after_secs(1));
        assert_eq!(default_for(&bob(), &watched, DomainDefault::Reciprocal), Grant::Pending);
        let mut other_way = bobs_home();
        watch(&mut other_way, &carol, NOW.after_secs(1));
        assert_eq!(default_for(&bob(), &other_way, DomainDefault::Reciprocal), Grant::Pending);
    }

    #[test]
    fn confirm_waits_for_the_owner_even_when_reciprocal_a31() {
        let mut watched = bobs_home();
        watch(&mut watched, &alice(), NOW.after_secs(1));
        assert_eq!(default_for(&bob(), &watched, DomainDefault::Confirm), Grant::Pending);
        assert_eq!(view(&open_alice(), &bob(), &watched, DomainDefault::Confirm, NOW), View::Pending);
    }

    #[test]
    fn full_shows_the_whole_document_within_the_domain() {
        assert_eq!(default_for(&bob(), &bobs_home(), DomainDefault::Full), Grant::Full);
    }

    #[test]
    fn basic_leaks_nothing_but_open_or_closed_a31() {
        let seen = view(&open_alice(), &bob(), &bobs_home(), DomainDefault::Basic, NOW);
        let View::Active(document) = seen else { panic!() };
        assert_eq!(
            document,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" \
             entity=\"sip:alice@example.org\">\n<tuple id=\"a\"><status><basic>open</basic></status>\
             <contact>sip:alice@example.org</contact></tuple>\n</presence>\n"
        );
        let offline = view(&home(), &bob(), &bobs_home(), DomainDefault::Basic, NOW);
        assert_eq!(offline, View::Active(unavailable("sip:alice@example.org")));
    }

    #[test]
    fn foreign_watchers_wait_for_the_owner_and_the_nameless_are_refused_a31() {
        let stranger = Aor::new("bob", "example.net").unwrap();
        let mut watched = HomeState::empty(stranger.clone());
        watch(&mut watched, &alice(), NOW.after_secs(1));
        for default in
            [DomainDefault::Reciprocal, DomainDefault::Confirm, DomainDefault::Basic, DomainDefault::Full]
        {
            assert_eq!(default_for(&stranger, &watched, default), Grant::Pending);
        }
        let nobody = Aor::new("anonymous", "anonymous.invalid").unwrap();
        let seen = view(&open_alice(), &nobody, &HomeState::empty(nobody.clone()), DomainDefault::Full, NOW);
        assert_eq!(seen, View::Rejected);
    }
}

//! What one PUBLISH does to the publications of an address of record (RFC 3903 6).

use std::sync::Arc;

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use crate::availability::document::pidf::Pidf;
use crate::availability::{composition, hard_state};
use crate::home::{Decision, Mode};
use crate::model::{
    Durability, EntityTag, Flow, HomeState, Moved, Package, Parsed, Plan, Publication, PublicationId,
    Publisher, Reject, Renamed, Row, Text, Timestamp,
};
use crate::presence::orphan;
use crate::presence::package::{self, Format};
use crate::presence::policy::Policy;
use crate::sip::multipart::Part;
use crate::sip::{HeaderName, ParseError, Request, StatusCode, Uri};

/// A PUBLISH as far as it concerns us. Record-Route and Contact are not looked at (RFC 3903 6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Of which package.
    pub package: Package,
    /// SIP-If-Match.
    pub condition: Condition,
    /// Expires, in seconds.
    pub expires: Option<u32>,
    /// The document, checked; what is wrong with it is said only when its turn comes (RFC 3903 6 step 5).
    pub body: Option<Result<Body, Reject>>,
    /// Call-ID.
    pub call_id: Text,
    /// The flow it came in on, if it came straight from the device (one Via).
    pub flow: Option<Flow>,
}

/// A document as it came and as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// Its media type.
    pub content_type: &'static str,
    /// Byte for byte.
    pub bytes: Bytes,
    /// Read, in packages that compose documents.
    pub pidf: Option<Arc<Pidf>>,
}

/// The precondition of a PUBLISH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// No SIP-If-Match: an initial publication.
    Initial,
    /// The publication with this entity-tag.
    Tag(EntityTag),
    /// A tag that we cannot have made: matches nothing.
    Foreign,
}

/// What the publisher is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// SIP-ETag.
    pub tag: EntityTag,
    /// Expires, in seconds.
    pub expires: u32,
}

/// Randomness for one decision: a new identity and a new entity-tag (RFC 3903 8: never reused).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fresh {
    /// For a new publication.
    pub id: PublicationId,
    /// For every success.
    pub tag: EntityTag,
}

impl Body {
    fn parsed(&self) -> Parsed {
        self.pidf.as_ref().map(Parsed::of).unwrap_or_default()
    }

    fn turns(&self, now: Timestamp) -> Box<[Timestamp]> {
        self.pidf.as_ref().map(|pidf| pidf.turns(now)).unwrap_or_default()
    }
}

impl Publish {
    /// Reads a PUBLISH.
    ///
    /// - `flow`: where it came in.
    /// - `means_target`: does a URI mean the AoR for which it is?
    ///
    /// # Errors
    /// 489 (Event), 400 (SIP-If-Match without exactly one tag, malformed Expires).
    pub fn read(
        request: &Request,
        flow: Flow,
        means_target: impl Fn(&Uri<'_>) -> bool,
    ) -> Result<Publish, Reject> {
        let (package, format) = package::published(request)?;
        let condition = condition(request)?;
        let malformed = |error: ParseError| Reject::because(StatusCode::BAD_REQUEST, error.what);
        let expires = request.expires().map_err(malformed)?;
        let body = (!request.body().is_empty() && !may_be_ignored(request, package))
            .then(|| document(request, package, format, means_target));
        let call_id = request.call_id().map_err(malformed)?.into();
        let is_direct = request.elements(HeaderName::Via).take(2).count() == 1;
        Ok(Publish { package, condition, expires, body, call_id, flow: is_direct.then_some(flow) })
    }
}

/// Applies one PUBLISH.
///
/// An initial publication takes the place of those that the same publisher made before and has forgotten (`orphan`).
///
/// - `home`: all publications of the AoR; expired ones are never matched (RFC 3903 6 step 3).
/// - `fresh`: random values that no other call has had.
///
/// A refresh moves nothing, so that watchers are not notified.
///
/// # Errors
/// 412 for an unknown, expired or foreign tag, 423 with Min-Expires, 400 without tag and body, 415/413/400/403 for the body, 503 if the
/// AoR has as many publications as it may have.
pub fn publish(
    home: &HomeState,
    request: &Publish,
    fresh: Fresh,
    now: Timestamp,
    policy: &Policy,
    mode: Mode,
) -> Decision<Published> {
    let current = match request.condition {
        Condition::Initial => None,
        Condition::Tag(tag) => Some(
            home.live_publications(now)
                .find(|p| p.tag == tag && p.package == request.package)
                .ok_or_else(|| Reject::new(StatusCode::CONDITIONAL_REQUEST_FAILED))?,
        ),
        Condition::Foreign => return Err(Reject::new(StatusCode::CONDITIONAL_REQUEST_FAILED)),
    };
    let cap = (mode == Mode::Volatile).then_some(policy.outage_publication_s);
    let expires = policy.publication.choose(request.expires, cap)?;
    let published = Published { tag: fresh.tag, expires };
    let body = match &request.body {
        // What is being removed is not looked at again.
        Some(_) if expires == 0 && current.is_some() => None,
        Some(body) => Some(body.clone()?),
        None => None,
    };
    let expires_at = now.after_secs(expires);
    let device = orphan::device(home, request.flow, now);
    let publisher = Publisher {
        call_id: request.call_id.clone(),
        source: request.flow.map(|flow| flow.to_string().into()).unwrap_or_default(),
        instance: device.instance.cloned(),
    };
    let plan = match (current, body) {
        (None, None) => {
            return Err(Reject::because(StatusCode::BAD_REQUEST, "Missing Body And SIP-If-Match"));
        }
        (None, Some(document)) => {
            let is_left_behind = |p: &&Arc<Publication>| {
                orphan::is_left_behind(p, request.package, &publisher, &device, document.pidf.as_deref())
            };
            let mut left_behind = home.live_publications(now).filter(is_left_behind);
            let replaced = left_behind.next();
            let dropped = left_behind.chain(replaced.filter(|_| expires == 0));
            let mut rows: SmallVec<[Row; 1]> =
                dropped.map(|p| Row::DropPublication(home.aor.clone(), p.id)).collect();
            if expires == 0 {
                return Ok((moved(rows), published));
            }
            let live = home.live_publications(now).filter(|p| p.package == request.package).count();
            if replaced.is_none() && live >= policy.max_publications_per_aor {
                return Err(Reject::because(StatusCode::SERVICE_UNAVAILABLE, "Too Many Publications")
                    .with(HeaderName::RetryAfter, RETRY_WHEN_FULL_S.to_string()));
            }
            let renamed = renamed(home, &rows, replaced, &document, fresh, now);
            let new = match replaced {
                Some(old) => {
                    Publication { renamed, ..changed(old, publisher, document, fresh, now, expires_at) }
                }
                None => Publication {
                    aor: home.aor.clone(),
                    id: fresh.id,
                    package: request.package,
                    tag: fresh.tag,
                    publisher,
                    content_type: document.content_type.to_owned(),
                    parsed: document.parsed(),
                    turns: document.turns(now),
                    is_restamped: false,
                    renamed,
                    body: document.bytes,
                    created_at: now,
                    modified_at: now,
                    expires_at,
                },
            };
            rows.push(Row::PutPublication(new.into()));
            moved(rows)
        }
        (Some(current), _) if expires == 0 => {
            moved(smallvec![Row::DropPublication(home.aor.clone(), current.id)])
        }
        (Some(current), None) => {
            // Whose device it is decides whether it still counts once that device has gone.
            let presence = current.publisher.instance != publisher.instance;
            let refreshed =
                Publication { tag: fresh.tag, publisher, expires_at, ..Publication::clone(current) };
            Plan {
                rows: smallvec![Row::PutPublication(refreshed.into())],
                // The answer hands out a new tag, which must be good after a crash too.
                durability: Durability::Durable,
                moved: Moved { presence, watchers: false },
            }
        }
        (Some(current), Some(document)) => {
            let renamed = renamed(home, &[], Some(current), &document, fresh, now);
            let new =
                Publication { renamed, ..changed(current, publisher, document, fresh, now, expires_at) };
            moved(smallvec![Row::PutPublication(new.into())])
        }
    };
    Ok((plan, published))
}

/// The publication with another document.
fn changed(
    old: &Publication,
    publisher: Publisher,
    document: Body,
    fresh: Fresh,
    now: Timestamp,
    expires_at: Timestamp,
) -> Publication {
    let bytes = package::succeed(old.package, &old.body, document.bytes);
    let document = Body { bytes, ..document };
    let is_restamped =
        if old.body == document.bytes { old.is_restamped } else { repeats_a_timestamp(old, &document) };
    Publication {
        tag: fresh.tag,
        publisher,
        content_type: document.content_type.to_owned(),
        parsed: document.parsed(),
        turns: document.turns(now),
        is_restamped,
        body: document.bytes,
        modified_at: now.max(Timestamp(old.modified_at.0.saturating_add(1))),
        expires_at,
        ..old.clone()
    }
}

/// Which of its tuples are not called by their ids beside what else is published (RFC 3903 10.4), once `gone` is.
fn renamed(
    home: &HomeState,
    gone: &[Row],
    old: Option<&Arc<Publication>>,
    document: &Body,
    fresh: Fresh,
    now: Timestamp,
) -> Renamed {
    let Some(pidf) = &document.pidf else { return Renamed::default() };
    let id = old.map_or(fresh.id, |old| old.id);
    let is_gone = |p: &Publication| {
        gone.iter().any(|row| matches!(row, Row::DropPublication(_, dropped) if *dropped == p.id))
    };
    let by_hand = hard_state::publication(home);
    let others = home
        .live_publications(now)
        .map(Arc::as_ref)
        .filter(|p| p.package == Package::Presence && p.id != id && !is_gone(p))
        .chain(&by_hand);
    composition::renamed(id, old.map(Arc::as_ref), pidf, others)
}

/// Does it say something new under a timestamp that it had before (RFC 3863 4.1.7)? Phones whose clock stands still do.
fn repeats_a_timestamp(old: &Publication, new: &Body) -> bool {
    let Some(new) = &new.pidf else { return false };
    let text = std::str::from_utf8(&old.body).unwrap_or_default();
    new.timestamps().any(|stamp| text.contains(stamp))
        && composition::read(old).is_some_and(|old| new.repeats_a_timestamp_of(&old))
}

fn moved(rows: SmallVec<[Row; 1]>) -> Plan {
    if rows.is_empty() {
        return Plan::nothing();
    }
    Plan { rows, durability: Durability::Durable, moved: Moved { presence: true, watchers: false } }
}

/// RFC 3903 6 step 3: exactly one entity-tag, or none of the header.
fn condition(request: &Request) -> Result<Condition, Reject> {
    if request.value(HeaderName::SipIfMatch).is_none() {
        return Ok(Condition::Initial);
    }
    let tags: SmallVec<[&[u8]; 2]> =
        request.elements(HeaderName::SipIfMatch).filter(|tag| !tag.is_empty()).take(2).collect();
    match tags.as_slice() {
        [tag] => Ok(std::str::from_utf8(tag)
            .ok()
            .and_then(EntityTag::parse)
            .map_or(Condition::Foreign, Condition::Tag)),
        _ => Err(Reject::because(StatusCode::BAD_REQUEST, "SIP-If-Match Needs One Entity-Tag")),
    }
}

/// The body if it is a document of this package about the AoR that it is published for (RFC 3903 6 step 5, 10.1).
fn document(
    request: &Request,
    package: Package,
    format: Format,
    means_target: impl Fn(&Uri<'_>) -> bool,
) -> Result<Body, Reject> {
    let encoded = request
        .elements(HeaderName::ContentEncoding)
        .any(|encoding| !encoding.is_empty() && !encoding.eq_ignore_ascii_case(b"identity"));
    if encoded {
        return Err(
            Reject::new(StatusCode::UNSUPPORTED_MEDIA_TYPE).with(HeaderName::AcceptEncoding, "identity")
        );
    }
    let found = match request.parts() {
        None => whole(request, package).map(|content_type| (content_type, request.body())),
        Some(parts) => {
            the_document(&parts.map_err(|e| Reject::because(StatusCode::BAD_REQUEST, e.what))?, package)
        }
    };
    let not_understood =
        || Reject::new(StatusCode::UNSUPPORTED_MEDIA_TYPE).with(HeaderName::Accept, format.as_str());
    let (content_type, body) = found.ok_or_else(not_understood)?;
    let pidf = package::check(package, content_type, body, means_target)?;
    Ok(Body { content_type, bytes: request.body_bytes().slice_ref(body), pidf: pidf.map(Arc::new) })
}

/// The type of the whole body, if documents of this package have it.
fn whole(request: &Request, package: Package) -> Option<&'static str> {
    let content_type = request.content_type()?;
    package::media_types(package).iter().find(|known| content_type == **known).copied()
}

/// A body of another type that need not be understood is as good as none (RFC 3261 8.2.3, 20.11).
fn may_be_ignored(request: &Request, package: Package) -> bool {
    request.body_is_optional() && request.parts().is_none() && whole(request, package).is_none()
}

/// The one part that is a document; others may stand beside it only if they are optional (RFC 5621 8.4).
fn the_document<'a>(parts: &[Part<'a>], package: Package) -> Option<(&'static str, &'a [u8])> {
    let type_of = |part: &Part<'_>| {
        package::media_types(package).iter().find(|known| part.is(known) && !part.is_encoded).copied()
    };
    let mut documents = parts.iter().filter_map(|part| Some((type_of(part)?, part.body)));
    let only = documents.next().filter(|_| documents.next().is_none());
    only.filter(|_| parts.iter().all(|part| type_of(part).is_some() || part.is_optional))
}

/// Somebody with so many publications has forgotten some; they expire.
const RETRY_WHEN_FULL_S: u32 = 60;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Aor, Transport};
    use crate::presence::testing::{NOW, aor, flow, publication, request};

    const BODY: &str = concat!(
        r#"<?xml version="1.0" encoding="UTF-8"?>"#,
        r#"<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:alice@example.org">"#,
        r#"<tuple id="t1"><status><basic>open</basic></status></tuple></presence>"#
    );
    const FRESH: Fresh = Fresh { id: PublicationId(900), tag: EntityTag(901) };

    fn home(publications: Vec<Publication>) -> HomeState {
        let mut home = HomeState::empty(aor("alice@example.org"));
        home.publications = publications.into_iter().map(Arc::new).collect();
        home
    }

    fn read(rows: &str, body: &str) -> Result<Publish, Reject> {
        let request = request("PUBLISH", "sip:alice@example.org", rows, body);
        let alice = aor("alice@example.org");
        let means_alice = |uri: &Uri<'_>| Aor::from_uri(uri).as_ref() == Some(&alice);
        Publish::read(&request, flow(Transport::Udp), means_alice)
    }

    fn decide(home: &HomeState, rows: &str, body: &str) -> Decision<Published> {
        decide_in(Mode::Durable, home, rows, body)
    }

    fn decide_in(mode: Mode, home: &HomeState, rows: &str, body: &str) -> Decision<Published> {
        let mut all = String::from("Event: presence\r\n");
        if !body.is_empty() {
            all.push_str("Content-Type: application/pidf+xml\r\n");
        }
        all.push_str(rows);
        publish(home, &read(&all, body)?, FRESH, NOW, &Policy::default(), mode)
    }

    fn refusal(decision: Decision<Published>) -> StatusCode {
        decision.expect_err("a refusal").status
    }

    fn if_match(tag: u128) -> String {
        format!("SIP-If-Match: {}\r\n", EntityTag(tag))
    }

    #[test]
    fn event_missing_or_unsupported_is_489_rfc3903_6_2() {
        assert_eq!(read("", "").unwrap_err().status, StatusCode::BAD_EVENT);
        assert_eq!(read("Event: conference\r\n", "").unwrap_err().status, StatusCode::BAD_EVENT);
    }

    #[test]
    fn initial_publication_gets_a_new_tag_and_is_durable_rfc3903_6_3() {
        let (plan, published) = decide(&home(vec![]), "", BODY).unwrap();
        assert_eq!(published, Published { tag: FRESH.tag, expires: 3_600 });
        assert_eq!((plan.durability, plan.moved.presence), (Durability::Durable, true));
        let Row::PutPublication(row) = &plan.rows[0] else { panic!("a publication") };
        assert_eq!((row.id, row.tag, row.expires_at), (FRESH.id, FRESH.tag, NOW.after_secs(3_600)));
        assert_eq!(row.body, BODY);
    }

    #[test]
    fn if_match_needs_exactly_one_tag_rfc3903_6_3() {
        let two = format!("SIP-If-Match: {}, {}\r\n", EntityTag(1), EntityTag(2));
        assert_eq!(refusal(decide(&home(vec![publication(1, 1)]), &two, "")), StatusCode::BAD_REQUEST);
        assert_eq!(refusal(decide(&home(vec![]), "SIP-If-Match:\r\n", BODY)), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn unknown_foreign_or_expired_tag_is_412_rfc3903_6_3() {
        let mut expired = publication(1, 1);
        expired.expires_at = NOW;
        let home = home(vec![expired, publication(2, 2)]);
        for rows in [if_match(1), if_match(3), "SIP-If-Match: dx200xyz\r\n".to_owned()] {
            let refused = refusal(decide(&home, &rows, BODY));
            assert_eq!(refused, StatusCode::CONDITIONAL_REQUEST_FAILED, "{rows}");
        }
    }

    #[test]
    fn a_failed_condition_comes_before_interval_and_body_rfc3903_6() {
        let rows = format!("{}Expires: 1\r\n", if_match(3));
        assert_eq!(refusal(decide(&home(vec![]), &rows, "no xml")), StatusCode::CONDITIONAL_REQUEST_FAILED);
    }

    #[test]
    fn too_brief_is_423_and_long_is_shortened_rfc3903_6_4() {
        let refused = decide(&home(vec![]), "Expires: 1\r\n", BODY).unwrap_err();
        assert_eq!(refused.status, StatusCode::INTERVAL_TOO_BRIEF);
        assert_eq!(refused.headers[0], (HeaderName::MinExpires, "60".to_owned()));
        let (_, published) = decide(&home(vec![]), "Expires: 4000000\r\n", BODY).unwrap();
        assert_eq!(published.expires, 86_400);
    }

    #[test]
    fn body_of_another_type_is_415_with_accept_rfc3903_6_5() {
        let publish_it = read("Event: presence\r\nContent-Type: text/plain\r\n", "hello").unwrap();
        let refused =
            publish(&home(vec![]), &publish_it, FRESH, NOW, &Policy::default(), Mode::Durable).unwrap_err();
        assert_eq!(refused.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert_eq!(refused.headers[0], (HeaderName::Accept, Format::Pidf.as_str().to_owned()));
    }

    #[test]
    fn encoded_body_is_415_rfc3261_8_2_3() {
        let refused = decide(&home(vec![]), "Content-Encoding: deflate\r\n", BODY).unwrap_err();
        assert_eq!(refused.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }

    #[test]
    fn neither_body_nor_tag_is_400_rfc3903_6_5() {
        assert_eq!(refusal(decide(&home(vec![]), "", "")), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn document_about_somebody_else_is_refused_rfc3903_10_1() {
        let other = BODY.replace("sip:alice@", "sip:carol@");
        assert_eq!(refusal(decide(&home(vec![]), "", &other)), StatusCode::FORBIDDEN);
    }

    #[test]
    fn the_document_may_be_a_part_and_optional_parts_are_ignored_rfc5621_8_4() {
        let publish = |parts: &str| {
            let body = format!("{parts}--b--\r\n");
            let rows = "Event: presence\r\nContent-Type: multipart/mixed;boundary=b\r\n";
            publish(&home(vec![]), &read(rows, &body).unwrap(), FRESH, NOW, &Policy::default(), Mode::Durable)
        };
        let pidf = format!("--b\r\nContent-Type: application/pidf+xml\r\n\r\n{BODY}\r\n");
        let optional =
            "--b\r\nContent-Type: image/png\r\nContent-Disposition: icon;handling=optional\r\n\r\n\u{1}\r\n";
        let required = "--b\r\nContent-Type: image/png\r\n\r\n\u{1}\r\n";
        for parts in [pidf.clone(), format!("{pidf}{optional}"), format!("{optional}{pidf}")] {
            let (plan, _) = publish(&parts).unwrap();
            let Row::PutPublication(row) = &plan.rows[0] else { panic!("a publication") };
            assert_eq!(row.body, BODY, "the document alone is kept");
        }
        for parts in [
            format!("{pidf}{required}"),
            format!("{required}{pidf}"),
            optional.to_owned(),
            format!("{pidf}{pidf}"),
        ] {
            let reject = publish(&parts).unwrap_err();
            assert_eq!(reject.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{parts}");
            assert_eq!(reject.headers[0], (HeaderName::Accept, Format::Pidf.as_str().to_owned()));
        }
        assert_eq!(publish("x").unwrap_err().status, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn an_optional_body_that_is_not_understood_is_none_rfc3261_8_2_3() {
        let decide = |home: &HomeState, rows: &str| {
            let rows = format!(
                "Event: presence\r\nContent-Type: image/png\r\nContent-Disposition: icon;handling=optional\r\n{rows}"
            );
            publish(home, &read(&rows, "\u{1}").unwrap(), FRESH, NOW, &Policy::default(), Mode::Durable)
        };
        let (plan, _) = decide(&home(vec![publication(1, 1)]), &if_match(1)).unwrap();
        assert_eq!(plan.moved, Moved::default(), "a refresh");
        assert_eq!(refusal(decide(&home(vec![]), "")), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn refresh_gets_a_new_tag_and_notifies_nobody_rfc3903_6_5() {
        let (plan, published) = decide(&home(vec![publication(1, 1)]), &if_match(1), "").unwrap();
        assert_eq!(published.tag, FRESH.tag);
        assert_eq!((plan.durability, plan.moved), (Durability::Durable, Moved::default()));
        let Row::PutPublication(row) = &plan.rows[0] else { panic!("a publication") };
        assert_eq!((row.id, row.tag, row.modified_at), (PublicationId(1), FRESH.tag, NOW));
        assert_eq!(row.body, publication(1, 1).body);
    }

    #[test]
    fn after_a_success_the_old_tag_is_412_rfc3903_6_6() {
        let mut home = home(vec![publication(1, 1)]);
        let (plan, _) = decide(&home, &if_match(1), "").unwrap();
        plan.rows.iter().for_each(|row| home.apply(row));
        assert_eq!(refusal(decide(&home, &if_match(1), "")), StatusCode::CONDITIONAL_REQUEST_FAILED);
        assert!(decide(&home, &if_match(FRESH.tag.0), "").is_ok());
    }

    #[test]
    fn modify_replaces_that_publication_alone_rfc3903_6_5() {
        let mut home = home(vec![publication(1, 1), publication(2, 2)]);
        let (plan, _) = decide(&home, &if_match(2), BODY).unwrap();
        assert_eq!((plan.durability, plan.moved.presence), (Durability::Durable, true));
        plan.rows.iter().for_each(|row| home.apply(row));
        assert_eq!(home.publications.len(), 2);
        assert_eq!(*home.publications[0], publication(1, 1));
        assert_eq!(home.publications[1].body, BODY);
    }

    #[test]
    fn expires_0_removes_at_once_and_still_gets_a_tag_rfc3903_6_5() {
        let mut home = home(vec![publication(1, 1)]);
        let (plan, published) = decide(&home, &format!("{}Expires: 0\r\n", if_match(1)), "").unwrap();
        assert_eq!(published, Published { tag: FRESH.tag, expires: 0 });
        assert_eq!((plan.durability, plan.moved.presence), (Durability::Durable, true));
        plan.rows.iter().for_each(|row| home.apply(row));
        assert!(home.publications.is_empty());
    }

    #[test]
    fn initial_with_expires_0_stores_nothing_rfc3903_6_5() {
        let (plan, published) = decide(&home(vec![]), "Expires: 0\r\n", BODY).unwrap();
        assert_eq!((plan, published.expires), (Plan::nothing(), 0));
    }

    #[test]
    fn one_more_than_the_limit_is_503_and_modifying_still_works_a24() {
        let full = home((0..16).map(|n| publication(n, n)).collect());
        assert_eq!(refusal(decide(&full, "", BODY)), StatusCode::SERVICE_UNAVAILABLE);
        assert!(decide(&full, &if_match(3), BODY).is_ok());
    }

    /// A PUBLISH by this Call-ID from a device at this port.
    fn from(call_id: &str, port: u16, rows: &str, body: &str) -> Publish {
        let rows = format!("Event: presence\r\nContent-Type: application/pidf+xml\r\n{rows}");
        let mut publish = read(&rows, body).unwrap();
        publish.call_id = call_id.into();
        publish.flow.as_mut().unwrap().remote.set_port(port);
        publish
    }

    fn apply(
        home: &mut HomeState,
        publish: &Publish,
        fresh: u128,
        now: Timestamp,
    ) -> Result<Plan, StatusCode> {
        let fresh = Fresh { id: PublicationId(fresh), tag: EntityTag(fresh) };
        let decided = super::publish(home, publish, fresh, now, &Policy::default(), Mode::Durable);
        let (plan, _) = decided.map_err(|reject| reject.status)?;
        plan.rows.iter().for_each(|row| home.apply(row));
        Ok(plan)
    }

    #[test]
    fn who_has_forgotten_a_publication_takes_its_place() {
        let mut home = home(vec![]);
        apply(&mut home, &from("first", 5062, "", BODY), 1, NOW).unwrap();
        let later = NOW.after_secs(1);
        apply(&mut home, &from("second", 5062, "", BODY), 2, later).unwrap();
        let [only] = home.publications.as_slice() else { panic!("one publication") };
        assert_eq!((only.id, only.tag, only.created_at), (PublicationId(1), EntityTag(2), NOW));
        assert_eq!((only.modified_at, only.publisher.call_id.as_str()), (later, "second"));
        let refused = apply(&mut home, &from("first", 5062, &if_match(1), ""), 3, later);
        assert_eq!(refused, Err(StatusCode::CONDITIONAL_REQUEST_FAILED), "its tag is used up");
        apply(&mut home, &from("third", 5064, "", BODY), 4, later).unwrap();
        assert_eq!(home.publications.len(), 2, "another device with the same tuple id");
        apply(&mut home, &from("third", 5066, "", &BODY.replace("t1", "t2")), 5, later).unwrap();
        assert_eq!(home.publications.len(), 2, "the same publisher goes on elsewhere");
        apply(&mut home, &from("second", 5062, "Expires: 0\r\n", BODY), 6, later).unwrap();
        assert_eq!(
            home.publications.len(),
            1,
            "one that ends at once takes with it what it would have replaced"
        );
    }

    #[test]
    fn two_with_one_tuple_id_keep_theirs_for_good_rfc3903_10_4() {
        let mut home = home(vec![]);
        let ids = |home: &HomeState| -> Vec<String> {
            composition::gather(home, NOW).tuples.into_iter().map(|t| t.id).collect()
        };
        apply(&mut home, &from("first", 5062, "", BODY), 1, NOW).unwrap();
        apply(&mut home, &from("second", 5064, "", BODY), 2, NOW).unwrap();
        let both = ids(&home);
        assert!(both[0] == "t1" && both[1].starts_with("t1-"), "{both:?}");
        apply(&mut home, &from("first", 5062, &format!("{}Expires: 0\r\n", if_match(1)), ""), 3, NOW)
            .unwrap();
        assert_eq!(ids(&home), both[1..]);
        apply(&mut home, &from("second", 5064, &if_match(2), &BODY.replace("open", "closed")), 4, NOW)
            .unwrap();
        apply(&mut home, &from("second", 5064, &if_match(4), ""), 5, NOW).unwrap();
        apply(&mut home, &from("second", 5064, "", BODY), 6, NOW).unwrap();
        assert_eq!(ids(&home), both[1..], "modified, refreshed, and published anew by who had forgotten it");
    }

    #[test]
    fn who_takes_a_place_needs_no_other_a24() {
        let mut full = home((0..16).map(|n| publication(n, n)).collect());
        let mut mine = publication(16, 16);
        mine.publisher.call_id = "mine".into();
        full.publications[0] = Arc::new(mine);
        assert_eq!(
            apply(&mut full, &from("other", 5062, "", BODY), 20, NOW),
            Err(StatusCode::SERVICE_UNAVAILABLE)
        );
        assert!(apply(&mut full, &from("mine", 5062, "", BODY), 21, NOW).is_ok());
        assert_eq!(full.publications.len(), 16);
    }

    #[test]
    fn a_whole_document_of_the_partial_type_is_full_state_rfc5264_4_3_1() {
        let full = BODY
            .replace("<presence ", "<p:pidf-full version=\"1\" xmlns:p=\"urn:ietf:params:xml:ns:pidf-diff\" ")
            .replace("</presence>", "</p:pidf-full>");
        let publish = |body: &str, tag: Option<u128>| {
            let rows = format!(
                "Event: presence\r\nContent-Type: application/pidf-diff+xml\r\n{}",
                tag.map(if_match).unwrap_or_default()
            );
            let home = home(vec![publication(1, 1)]);
            publish(&home, &read(&rows, body).unwrap(), FRESH, NOW, &Policy::default(), Mode::Durable)
        };
        for (tag, id) in [(None, FRESH.id), (Some(1), PublicationId(1))] {
            let (plan, _) = publish(&full, tag).unwrap();
            let Row::PutPublication(row) = &plan.rows[0] else { panic!("a publication") };
            assert_eq!((row.id, row.body.as_ref()), (id, full.as_bytes()));
            assert_eq!(composition::read(row).unwrap().tuples[0].id, "t1");
        }
        let diff = full.replace("pidf-full", "pidf-diff");
        let reject = publish(&diff, Some(1)).unwrap_err();
        assert_eq!(reject.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert_eq!(reject.headers[0], (HeaderName::Accept, Format::Pidf.as_str().to_owned()));
        assert_eq!(refusal(publish(BODY, None)), StatusCode::BAD_REQUEST, "a root of the other type");
        assert_eq!(refusal(publish(&full.replace("alice", "carol"), None)), StatusCode::FORBIDDEN);
    }

    #[test]
    fn something_new_under_an_old_timestamp_is_stamped_anew_rfc3863_4_1_7() {
        let said = |what: &str, stamp: &str| {
            BODY.replace("</tuple>", &format!("<note>{what}</note><timestamp>{stamp}</timestamp></tuple>"))
        };
        let (one, other) = ("2026-11-20T23:29:15Z", "2026-11-20T23:29:16Z");
        let mut home = home(vec![]);
        for (fresh, body, is_restamped) in [
            (1, said("a", one), false),
            (2, said("b", one), true),
            (3, said("b", one), true),
            (4, said("b", other), false),
            (5, said("b", other), false),
        ] {
            let row = if fresh == 1 { String::new() } else { if_match(fresh - 1) };
            apply(&mut home, &from("c", 5062, &row, &body), fresh, NOW).unwrap();
            assert_eq!(home.publications[0].is_restamped, is_restamped, "{fresh}");
            let grown = i64::try_from(fresh).unwrap() - 1;
            assert_eq!(
                home.publications[0].modified_at,
                Timestamp(NOW.0 + grown),
                "it grows with every change"
            );
        }
    }

    #[test]
    fn during_an_outage_expiry_is_120_s() {
        let (_, published) = decide_in(Mode::Volatile, &home(vec![]), "", BODY).unwrap();
        assert_eq!(published.expires, 120);
    }
}

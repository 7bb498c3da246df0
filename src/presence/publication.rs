//! What one PUBLISH does to the publications of an address of record (RFC 3903 6).

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use crate::home::{Decision, Mode};
use crate::model::{
    Aor, Durability, EntityTag, HomeState, Moved, Package, Plan, Publication, PublicationId, Reject, Row,
    Timestamp,
};
use crate::presence::package::{self, Format};
use crate::presence::policy::Policy;
use crate::sip::multipart::Part;
use crate::sip::{HeaderName, Request, StatusCode};

/// A PUBLISH as far as it concerns us. Record-Route and Contact are not looked at (RFC 3903 6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Of which package.
    pub package: Package,
    /// The body type of that package.
    pub format: Format,
    /// SIP-If-Match.
    pub condition: Condition,
    /// Expires, in seconds.
    pub expires: Option<u32>,
    /// The document, checked; what is wrong with it is said only when its turn comes (RFC 3903 6 step 5).
    pub body: Option<Result<Bytes, Reject>>,
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

impl Publish {
    /// Reads a PUBLISH for `target`.
    ///
    /// # Errors
    /// 489 (Event), 400 (SIP-If-Match without exactly one tag, malformed Expires).
    pub fn read(request: &Request, target: &Aor) -> Result<Publish, Reject> {
        let (package, format) = package::published(request)?;
        let condition = condition(request)?;
        let expires =
            request.expires().map_err(|error| Reject::because(StatusCode::BAD_REQUEST, error.what))?;
        let body = (!request.body().is_empty() && !may_be_ignored(request, format))
            .then(|| document(request, package, format, target));
        Ok(Publish { package, format, condition, expires, body })
    }
}

/// Applies one PUBLISH.
///
/// - `home`: all publications of the AoR; expired ones are never matched (RFC 3903 6 step 3).
/// - `fresh`: random values that no other call has had.
///
/// A refresh is lazy and moves nothing, so that watchers are not notified; everything else is durable.
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
    let plan = match (current, body) {
        (None, None) => {
            return Err(Reject::because(StatusCode::BAD_REQUEST, "Missing Body And SIP-If-Match"));
        }
        (None, Some(_)) if expires == 0 => Plan::nothing(),
        (None, Some(body)) => {
            let live = home.live_publications(now).filter(|p| p.package == request.package).count();
            if live >= policy.max_publications_per_aor {
                return Err(Reject::because(StatusCode::SERVICE_UNAVAILABLE, "Too Many Publications")
                    .with(HeaderName::RetryAfter, RETRY_WHEN_FULL_S.to_string()));
            }
            moved(Row::PutPublication(
                Publication {
                    aor: home.aor.clone(),
                    id: fresh.id,
                    package: request.package,
                    tag: fresh.tag,
                    content_type: request.format.as_str().to_owned(),
                    body,
                    created_at: now,
                    modified_at: now,
                    expires_at,
                }
                .into(),
            ))
        }
        (Some(current), _) if expires == 0 => moved(Row::DropPublication(home.aor.clone(), current.id)),
        (Some(current), None) => {
            let refreshed = Publication { tag: fresh.tag, expires_at, ..Publication::clone(current) };
            Plan {
                rows: smallvec![Row::PutPublication(refreshed.into())],
                // The answer hands out a new tag, which must be good after a crash too.
                durability: Durability::Durable,
                moved: Moved::default(),
            }
        }
        (Some(current), Some(body)) => {
            let body = package::succeed(request.package, &current.body, body);
            let changed = Publication {
                tag: fresh.tag,
                body,
                modified_at: now,
                expires_at,
                ..Publication::clone(current)
            };
            moved(Row::PutPublication(changed.into()))
        }
    };
    Ok((plan, published))
}

fn moved(row: Row) -> Plan {
    Plan {
        rows: smallvec![row],
        durability: Durability::Durable,
        moved: Moved { presence: true, watchers: false },
    }
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

/// The body if it is a document of this package about `target` (RFC 3903 6 step 5, 10.1).
fn document(request: &Request, package: Package, format: Format, target: &Aor) -> Result<Bytes, Reject> {
    let encoded = request
        .elements(HeaderName::ContentEncoding)
        .any(|encoding| !encoding.is_empty() && !encoding.eq_ignore_ascii_case(b"identity"));
    if encoded {
        return Err(
            Reject::new(StatusCode::UNSUPPORTED_MEDIA_TYPE).with(HeaderName::AcceptEncoding, "identity")
        );
    }
    let body = match request.parts() {
        None if request.content_type().as_deref() == Some(format.as_str()) => request.body(),
        None => return Err(not_understood(format)),
        Some(parts) => {
            let parts = parts.map_err(|e| Reject::because(StatusCode::BAD_REQUEST, e.what))?;
            the_document(&parts, format)?
        }
    };
    package::check(package, body, target)?;
    Ok(request.body_bytes().slice_ref(body))
}

/// A body of another type that need not be understood is as good as none (RFC 3261 8.2.3, 20.11).
fn may_be_ignored(request: &Request, format: Format) -> bool {
    let is_other = || request.content_type().as_deref() != Some(format.as_str());
    request.body_is_optional() && request.parts().is_none() && is_other()
}

/// The one part that is a document; others may stand beside it only if they are optional (RFC 5621 8.4).
fn the_document<'a>(parts: &[Part<'a>], format: Format) -> Result<&'a [u8], Reject> {
    let is_document = |part: &&Part<'_>| part.is(format.as_str()) && !part.is_encoded;
    let mut documents = parts.iter().filter(is_document);
    match (documents.next(), documents.next()) {
        (Some(document), None) if parts.iter().all(|part| is_document(&part) || part.is_optional) => {
            Ok(document.body)
        }
        _ => Err(not_understood(format)),
    }
}

fn not_understood(format: Format) -> Reject {
    Reject::new(StatusCode::UNSUPPORTED_MEDIA_TYPE).with(HeaderName::Accept, format.as_str())
}

/// Somebody with so many publications has forgotten some; they expire.
const RETRY_WHEN_FULL_S: u32 = 60;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::presence::testing::{NOW, aor, publication, request};

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
        Publish::read(&request, &aor("alice@example.org"))
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

    #[test]
    fn during_an_outage_expiry_is_120_s() {
        let (_, published) = decide_in(Mode::Volatile, &home(vec![]), "", BODY).unwrap();
        assert_eq!(published.expires, 120);
    }
}

//! XCAP: the documents that users keep here about themselves, over HTTP (RFC 4825).
//!
//! [`Xcap::answer`] is asked by the listener ([`crate::api::http`]). It authenticates, finds the document in its owner's home, lets
//! [`operation`] edit its text aside from the tasks that talk, and has the result committed in the home's turn under the condition that nobody
//! was faster; then it is tried again on what is there now. Everything is on disk before the answer.

pub mod address;
mod all_services;
pub mod condition;
pub mod conflict;
mod generated;
pub mod operation;
pub mod schema;
pub mod selector;
pub mod services;
pub mod usage;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH, USER_AGENT, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, StatusCode};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use tracing::debug;

use crate::api::http::{self, Answer, Body, Handler, Head, Unread as UnreadBody};
use crate::auth::Auth;
use crate::auth::http::{HttpAuthenticated, HttpRequest};
use crate::availability::documents::{self, Changed, Condition, NewDocument};
use crate::dispatch::residency::Residency;
use crate::endpoint::{Endpoint, clock};
use crate::home::{Homes, Mode, Refusal};
use crate::model::{Aor, Document, DocumentName, EntityTag, Plan, Said};
use crate::sip::Uri;
use crate::xcap::address::{Address, Tree, Unread};
use crate::xcap::condition::{Conditions, Judgement, Tags};
use crate::xcap::conflict::Conflict;
use crate::xcap::operation::{Edited, Refused};
use crate::xcap::selector::{Selector, Terminal, encoded};
use crate::xcap::services::{Claim, INDEX, Services};
use crate::xcap::usage::Usage;

/// Whose users, and where.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The path of the XCAP root, without a slash at its end (RFC 4825 6.1).
    pub root: String,
    /// The domain of all users.
    pub domain: String,
    /// Other names of it.
    pub aliases: Vec<String>,
}

/// The service.
pub struct Xcap {
    policy: Policy,
    auth: Arc<Auth>,
    homes: Arc<Homes>,
    endpoint: Arc<Endpoint>,
    residency: Arc<Residency>,
    /// Documents that are read or edited at once.
    editing: Arc<Semaphore>,
    /// Which service is whose.
    services: Arc<Services>,
}

/// What an address leads to.
enum Found {
    /// A document that its owner keeps, or may.
    Kept(Place),
    /// One that the server makes: its media type and its text.
    Made(&'static str, String),
    /// Nothing, and the status that says so.
    Nothing(StatusCode),
}

/// Where a stored document is.
#[derive(Clone)]
struct Place {
    usage: Usage,
    owner: Aor,
    /// `None`: below a subdirectory, and there are none.
    name: Option<DocumentName>,
    /// The directory, as a path.
    directory: String,
    node: Option<Selector>,
}

/// What a PUT carries.
struct Content {
    body: Bytes,
    media_type: String,
}

/// What a document becomes.
struct New {
    body: Bytes,
    said: Said,
}

impl New {
    fn of(Edited { text, said, created }: Edited) -> (Option<New>, bool) {
        (Some(New { body: text.into(), said }), created)
    }
}

impl Xcap {
    /// `auth` is that of the SIP side: one lock-out, one set of nonces.
    pub fn new(
        policy: Policy,
        auth: Arc<Auth>,
        homes: Arc<Homes>,
        endpoint: Arc<Endpoint>,
        residency: Arc<Residency>,
    ) -> Arc<Xcap> {
        let editing = Arc::new(Semaphore::new(EDITING));
        let services = Arc::default();
        Arc::new(Xcap { policy, auth, homes, endpoint, residency, editing, services })
    }

    /// For the listener.
    pub fn handler(self: &Arc<Self>) -> Handler {
        let xcap = self.clone();
        Arc::new(move |head, body| {
            let xcap = xcap.clone();
            Box::pin(async move { xcap.answer(head, body).await })
        })
    }

    /// Answers one request.
    pub async fn answer(&self, head: Head, body: &mut Body) -> Answer {
        // Until everything is read, "not there" would be a guess.
        if timeout(LOADING, self.residency.completed()).await.is_err() {
            return http::unavailable();
        }
        if let Some(answer) = self.trusted(&head).await {
            return answer;
        }
        let user = match self.user(&head) {
            Ok(user) => user,
            Err(challenge) => return *challenge,
        };
        let answer = self.authenticated(&head, body, &user).await;
        debug!(%user, method = %head.parts.method, status = answer.status().as_u16(), "XCAP request");
        answer
    }

    /// Who asks; or the challenge.
    fn user(&self, head: &Head) -> Result<Aor, Box<Answer>> {
        let headers = &head.parts.headers;
        let uri = &head.parts.uri;
        let target = match (uri.scheme(), uri.path_and_query()) {
            (None, Some(path)) => path.as_str().to_owned(),
            _ => uri.to_string(),
        };
        let request = HttpRequest {
            method: head.parts.method.as_str(),
            target: &target,
            authorization: headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes).collect(),
            user_agent: headers.get(USER_AGENT).and_then(|value| value.to_str().ok()),
        };
        let salt = self.endpoint.random().bits64();
        match self.auth.authenticate_http(&request, head.peer.ip(), clock::now(), salt) {
            HttpAuthenticated::As(user) => Ok(user),
            HttpAuthenticated::Challenge(rows) => {
                let mut answer = http::status(StatusCode::UNAUTHORIZED);
                for row in rows {
                    if let Ok(value) = HeaderValue::from_str(&row) {
                        answer.headers_mut().append(WWW_AUTHENTICATE, value);
                    }
                }
                Err(Box::new(answer))
            }
        }
    }

    async fn authenticated(&self, head: &Head, body: &mut Body, user: &Aor) -> Answer {
        let uri = &head.parts.uri;
        let path = uri.path().strip_prefix(&self.policy.root).unwrap_or_default();
        let address = match address::parse(path, uri.query()) {
            Ok(address) => address,
            Err(Unread::NotFound) => return http::status(StatusCode::NOT_FOUND),
            Err(Unread::Bad(why)) => return told(StatusCode::BAD_REQUEST, why),
        };
        if let Tree::User(xui) = &address.tree {
            match self.known(xui) {
                // RFC 4825 8: a user who is not known is not found. Known users may know of one another, not of their documents.
                None => return http::status(StatusCode::NOT_FOUND),
                Some(owner) if owner != *user => return http::status(StatusCode::FORBIDDEN),
                Some(_) => {}
            }
        }
        let conditions = conditions(&head.parts.headers);
        match self.find(&address, user) {
            Found::Kept(place) => self.kept(place, head, body, &conditions).await,
            Found::Made(media_type, text) => match head.parts.method {
                Method::GET | Method::HEAD => {
                    let tag = generated::tag(&text);
                    self.read(media_type, text.into(), tag, &conditions, address.node).await
                }
                _ => not_allowed(READ_ONLY),
            },
            Found::Nothing(status) => http::status(status),
        }
    }

    /// The user of an XCAP User Identifier: an address of record (6.2) under any of our names.
    fn known(&self, xui: &str) -> Option<Aor> {
        let parsed = Uri::parse(xui.as_bytes()).ok().and_then(|uri| Aor::from_uri(&uri));
        let claimed = parsed.or_else(|| Aor::from_stored(xui))?;
        let host = claimed.domain();
        let is_ours = self.policy.domain.eq_ignore_ascii_case(host)
            || self.policy.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(host));
        let aor = Aor::new(claimed.user(), &self.policy.domain).filter(|_| is_ours)?;
        self.auth.accounts().exists(&aor).then_some(aor)
    }

    fn find(&self, address: &Address, user: &Aor) -> Found {
        let Address { usage, tree, name, node } = address;
        let name: Vec<&str> = name.iter().map(String::as_str).collect();
        match (usage.kept_as(), tree, name.as_slice()) {
            (Some(auid), Tree::User(xui), path) => {
                let name = match path {
                    [name] => Some(DocumentName::new(auid, name)),
                    _ => None,
                };
                let directory = format!("{}/{}/users/{}/", self.policy.root, usage.auid(), encoded(xui));
                Found::Kept(Place { usage: *usage, owner: user.clone(), name, directory, node: node.clone() })
            }
            // What all users have together is for trusted elements (RFC 4826 4.4.9), and a user is none.
            (Some(_), Tree::Global, ["index"]) if *usage == Usage::RlsServices => {
                Found::Nothing(StatusCode::FORBIDDEN)
            }
            (None, Tree::Global, ["index"]) if *usage == Usage::Caps => {
                Found::Made(usage.media_type(), generated::capabilities())
            }
            (None, Tree::User(xui), ["directory.xml"]) if *usage == Usage::Directory => {
                let home = self.homes.read(user);
                let text = generated::directory(&self.policy.root, xui, &home.documents);
                Found::Made(usage.media_type(), text)
            }
            (Some(_), Tree::Global, _) | (None, Tree::Global | Tree::User(_), _) => {
                Found::Nothing(StatusCode::NOT_FOUND)
            }
        }
    }

    /// A document that its owner keeps.
    async fn kept(&self, place: Place, head: &Head, body: &mut Body, conditions: &Conditions) -> Answer {
        let is_namespaces =
            place.node.as_ref().is_some_and(|node| node.terminal == Some(Terminal::Namespaces));
        match head.parts.method {
            Method::GET | Method::HEAD => match self.stored(&place) {
                None => http::status(StatusCode::NOT_FOUND),
                Some(document) => {
                    let (body, tag) = (document.body.clone(), document.tag);
                    self.read(place.usage.media_type(), body, tag, conditions, place.node).await
                }
            },
            // 8.2, 8.4
            Method::PUT | Method::DELETE if is_namespaces => not_allowed(READ_ONLY),
            Method::PUT => {
                let content = match content(&head.parts.headers, body).await {
                    Ok(content) => Arc::new(content),
                    Err(status) => return http::status(status),
                };
                self.change(&place, conditions, Some(&content)).await
            }
            Method::DELETE => self.change(&place, conditions, None).await,
            _ => not_allowed(ALL_METHODS),
        }
    }

    /// A document or a part of it (8.3).
    async fn read(
        &self,
        media_type: &'static str,
        text: Bytes,
        tag: EntityTag,
        conditions: &Conditions,
        node: Option<Selector>,
    ) -> Answer {
        let (media_type, text) = match node {
            None => (media_type, text),
            Some(node) => match self.aside(move || operation::get_within(&text, &node, &INDEX)).await {
                None => return http::unavailable(),
                Some(Err(refused)) => return refusal(&refused),
                Some(Ok(part)) => (part.media_type, Bytes::from(part.text)),
            },
        };
        match conditions.judge(Some(tag)) {
            Judgement::Failed => http::status(StatusCode::PRECONDITION_FAILED),
            Judgement::Unmodified => tagged(StatusCode::NOT_MODIFIED, tag),
            Judgement::Holds => {
                let mut answer = tagged(StatusCode::OK, tag);
                set(&mut answer, CONTENT_TYPE, media_type);
                set(&mut answer, X_CONTENT_TYPE_OPTIONS, "nosniff");
                *answer.body_mut() = text;
                answer
            }
        }
    }

    /// PUT (with content) or DELETE: edited on a copy, committed if nobody was faster, else edited again.
    async fn change(&self, place: &Place, conditions: &Conditions, content: Option<&Arc<Content>>) -> Answer {
        for _ in 0..ATTEMPTS {
            let before = self.stored(place);
            let tag = before.as_ref().map(|document| document.tag);
            if content.is_some() && place.name.as_ref().is_some_and(|name| !place.usage.has(&name.name)) {
                return refusal(&Conflict::Constraint("this application has one document, index").into());
            }
            if before.is_none() && (content.is_none() || place.node.is_some() || place.name.is_none()) {
                return refusal(&match content {
                    None => Refused::NotFound,
                    Some(_) => Conflict::NoParent { ancestor: Some(place.directory.clone()) }.into(),
                });
            }
            match conditions.judge(tag) {
                Judgement::Holds => {}
                Judgement::Failed | Judgement::Unmodified => {
                    return http::status(StatusCode::PRECONDITION_FAILED);
                }
            }
            let (edit, content, old) = (place.clone(), content.cloned(), before.clone());
            let edited = self.aside(move || edited(&edit, old.as_deref(), content.as_deref())).await;
            let (new, created) = match edited {
                None => return http::unavailable(),
                Some(Err(refused)) => return refusal(&refused),
                Some(Ok(edited)) => edited,
            };
            let claim = match self.claim(place, before, new.as_ref()).await {
                None => return http::unavailable(),
                Some(Err(conflict)) => return refusal(&conflict.into()),
                Some(Ok(claim)) => claim,
            };
            match self.commit(place, tag, new, claim).await {
                Some(Ok(changed)) => return changed_to(changed, created),
                Some(Err(documents::Refused::Condition | documents::Refused::Missing)) => {}
                Some(Err(refused)) => return not_kept(refused),
                None => return http::unavailable(),
            }
        }
        http::unavailable()
    }

    /// Puts (or, without a new one, drops) the document if it still has the tag it was edited under. `None`: the store could not.
    async fn commit(
        &self,
        place: &Place,
        tag: Option<EntityTag>,
        new: Option<New>,
        claim: Option<Claim>,
    ) -> Option<Result<Changed, documents::Refused>> {
        let name = place.name.clone()?;
        let condition = [tag.map_or(Condition::Absent, |tag| Condition::Matches(vec![tag]))];
        let new = new.map(|New { body, said }| NewDocument {
            name: name.clone(),
            content_type: place.usage.media_type().into(),
            body,
            tag: EntityTag(self.endpoint.random().bits128()),
            said,
        });
        let now = clock::now();
        let (done, outcome) = oneshot::channel();
        self.homes.change(
            &place.owner,
            move |home, mode| {
                let durable = mode == Mode::Durable;
                let (plan, changed): (Plan, _) = match &new {
                    Some(new) => documents::put(home, new, &condition, now, durable),
                    None => documents::remove(home, &name, &condition, durable),
                };
                Ok((plan, changed))
            },
            move |result| {
                if let Some(mut claim) = claim {
                    claim.committed = match &result {
                        Ok((changed, _)) => Some(changed.is_ok()),
                        Err(Refusal::Reject(_)) => Some(false),
                        Err(Refusal::Fault) => None,
                    };
                }
                let _ = done.send(match result {
                    Ok((changed, _)) => Some(changed),
                    Err(Refusal::Reject(_) | Refusal::Fault) => None,
                });
            },
        );
        outcome.await.ok().flatten()
    }

    fn stored(&self, place: &Place) -> Option<Arc<Document>> {
        self.homes.read(&place.owner).documents.get(place.name.as_ref()?).cloned()
    }

    /// Work on XML, aside from the tasks that talk to peers, a few at once. `None`: it panicked.
    async fn aside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let permit = self.editing.clone().acquire_owned().await.ok()?;
        let task = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        });
        task.await.ok()
    }
}

/// What a document becomes (`None`: it goes), and whether what was put is new.
fn edited(
    place: &Place,
    before: Option<&Document>,
    content: Option<&Content>,
) -> Result<(Option<New>, bool), Refused> {
    let Place { usage, owner, .. } = place;
    match (&place.node, content, before) {
        (None, None, _) => Ok((None, false)),
        (None, Some(Content { body, media_type }), _) => {
            let said = operation::put_document(*usage, owner, body, media_type)?;
            Ok((Some(New { body: body.clone(), said }), before.is_none()))
        }
        (Some(_), _, None) => Err(Refused::NotFound),
        (Some(node), None, Some(before)) => {
            Ok(New::of(operation::delete(*usage, owner, &before.body, node)?))
        }
        (Some(node), Some(Content { body, media_type }), Some(before)) => {
            Ok(New::of(operation::put(*usage, owner, &before.body, node, body, media_type)?))
        }
    }
}

fn conditions(headers: &HeaderMap) -> Conditions {
    let tags = |name| Tags::parse(headers.get_all(name).iter().map(HeaderValue::as_bytes));
    Conditions { matches: tags(IF_MATCH), matches_none: tags(IF_NONE_MATCH) }
}

/// Reads the body of a PUT.
///
/// # Errors
/// The status that is owed.
async fn content(headers: &HeaderMap, body: &mut Body) -> Result<Content, StatusCode> {
    let is_plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if !headers.get_all(CONTENT_ENCODING).iter().all(is_plain) {
        return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    // RFC 9110 14.5: a part of a document is not taken for the whole of it.
    if headers.contains_key(CONTENT_RANGE) {
        return Err(StatusCode::BAD_REQUEST);
    }
    let body = body.read(documents::MAX_BYTES).await.map_err(|unread| match unread {
        UnreadBody::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        UnreadBody::Late => StatusCode::REQUEST_TIMEOUT,
        UnreadBody::Broken => StatusCode::BAD_REQUEST,
    })?;
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default().trim().to_owned();
    Ok(Content { body, media_type })
}

fn changed_to(changed: Changed, created: bool) -> Answer {
    match changed {
        Changed::Created(tag) | Changed::Replaced(tag) => {
            tagged(if created { StatusCode::CREATED } else { StatusCode::OK }, tag)
        }
        Changed::Dropped => http::status(StatusCode::OK),
    }
}

/// Why the home did not take it.
fn not_kept(refused: documents::Refused) -> Answer {
    match refused {
        documents::Refused::Condition | documents::Refused::StoreAway => http::unavailable(),
        documents::Refused::Missing | documents::Refused::Name => http::status(StatusCode::NOT_FOUND),
        documents::Refused::TooLarge => http::status(StatusCode::PAYLOAD_TOO_LARGE),
        documents::Refused::Quota => {
            refusal(&Conflict::Constraint("there is no room for more documents of this user").into())
        }
        documents::Refused::NotUnderstood(what) | documents::Refused::NotDone(what) => {
            refusal(&Conflict::Constraint(what).into())
        }
    }
}

fn refusal(refused: &Refused) -> Answer {
    match refused {
        Refused::NotFound => http::status(StatusCode::NOT_FOUND),
        Refused::ReadOnly => not_allowed(READ_ONLY),
        Refused::TooLarge => http::status(StatusCode::PAYLOAD_TOO_LARGE),
        Refused::MediaType(wanted) => {
            // RFC 9110 15.5.16: what would be taken.
            let mut answer = http::status(StatusCode::UNSUPPORTED_MEDIA_TYPE);
            set(&mut answer, hyper::header::ACCEPT, wanted);
            answer
        }
        Refused::Conflict(conflict) => {
            let mut answer = http::status(StatusCode::CONFLICT);
            set(&mut answer, CONTENT_TYPE, "application/xcap-error+xml");
            *answer.body_mut() = conflict.document().into();
            answer
        }
    }
}

fn not_allowed(methods: &'static str) -> Answer {
    let mut answer = http::status(StatusCode::METHOD_NOT_ALLOWED);
    set(&mut answer, ALLOW, methods);
    answer
}

fn told(status: StatusCode, why: &'static str) -> Answer {
    let mut answer = http::status(status);
    set(&mut answer, CONTENT_TYPE, "text/plain; charset=utf-8");
    *answer.body_mut() = Bytes::from_static(why.as_bytes());
    answer
}

/// With the tag of the document (8.5), and never from a cache that nobody asked us about (9).
fn tagged(status: StatusCode, tag: EntityTag) -> Answer {
    let mut answer = http::status(status);
    if let Ok(value) = HeaderValue::from_str(&format!("\"{tag}\"")) {
        answer.headers_mut().insert(ETAG, value);
    }
    set(&mut answer, CACHE_CONTROL, "no-cache");
    answer
}

fn set(answer: &mut Answer, name: HeaderName, value: &'static str) {
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
}

const READ_ONLY: &str = "GET, HEAD";
const ALL_METHODS: &str = "GET, HEAD, PUT, DELETE";
/// Somebody else would have to be faster as often.
const ATTEMPTS: usize = 8;
/// Documents on the work bench at once; each is a few milliseconds of work at most.
const EDITING: usize = 4;
/// How long a request waits for a start to be over.
const LOADING: Duration = Duration::from_secs(10);

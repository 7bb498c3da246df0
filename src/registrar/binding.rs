//! Decides about one REGISTER (RFC 3261 10.3 steps 6 and 7; RFC 3327 5.3). Pure.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::home::Mode;
use crate::model::{
    Binding, BindingKey, Durability, Flow, HomeState, Moved, Plan, Reject, Row, Text, Timestamp,
};
use crate::sip::{Contacts, HeaderName, NameAddr, Request, Scheme, StatusCode, Uri};

/// Intervals and limits.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Below it 423 (but never for an hour or more).
    pub min_interval_s: u32,
    /// If the client does not say.
    pub default_interval_s: u32,
    /// Longer wishes are shortened to it.
    pub max_interval_s: u32,
    /// Bindings per AoR.
    pub max_bindings: usize,
}

/// A REGISTER as far as the decision needs it.
#[derive(Debug, Clone, PartialEq)]
pub struct Register {
    call_id: String,
    cseq: u32,
    wish: Wish,
    path: Vec<String>,
    flow: Flow,
    direct: bool,
    user_agent: String,
}

#[derive(Debug, Clone, PartialEq)]
enum Wish {
    /// No Contact: what is there?
    Query,
    /// `Contact: *` with `Expires: 0`.
    RemoveAll,
    /// One or more contacts.
    Update(Vec<Contact>),
}

#[derive(Debug, Clone, PartialEq)]
struct Contact {
    uri: String,
    params: String,
    q: u16,
    instance: Option<String>,
    reg_id: Option<u32>,
    /// Seconds asked for; `None`: the default.
    expires: Option<u32>,
}

impl Register {
    /// Could it make a binding that falls with the connection it came by ([`Binding::hangs_on`])?
    pub fn may_hang_on_its_connection(&self) -> bool {
        let makes_bindings = matches!(self.wish, Wish::Update(_));
        makes_bindings && self.flow.connection != 0 && self.direct && self.path.is_empty()
    }

    /// Reads what the decision needs.
    ///
    /// - `is_ours`: does a URI lead back to this server? Such a Contact would be a loop.
    ///
    /// # Errors
    /// 420 for an unknown Require; 400 for `*` out of place (10.2.2) and for what does not parse; 403 for a Contact that leads to ourselves or has `maddr`
    /// (`A14`).
    pub fn read(
        request: &Request,
        flow: Flow,
        is_ours: impl Fn(&Uri<'_>) -> bool,
    ) -> Result<Register, Reject> {
        let unknown: Vec<_> = request
            .elements(HeaderName::Require)
            .filter(|tag| !SUPPORTED.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(tag)))
            .map(|tag| String::from_utf8_lossy(tag).into_owned())
            .collect();
        if !unknown.is_empty() {
            return Err(
                Reject::new(StatusCode::BAD_EXTENSION).with(HeaderName::Unsupported, unknown.join(", "))
            );
        }
        let bad = |what| Reject::because(StatusCode::BAD_REQUEST, what);
        // A malformed Expires reads as if it were absent (20.19).
        let expires = request.expires().unwrap_or(None);
        let wish = match request.contacts().map_err(|e| bad(e.what))? {
            Contacts::Star if expires == Some(0) => Wish::RemoveAll,
            Contacts::Star => return Err(bad("Contact * without Expires 0")),
            Contacts::List(list) if list.is_empty() => Wish::Query,
            Contacts::List(list) => {
                let contacts = list.iter().map(|contact| Contact::read(contact, expires, &is_ours));
                Wish::Update(contacts.collect::<Result<_, _>>()?)
            }
        };
        let path = request.addresses(HeaderName::Path).map(|path| path.map(|p| p.as_str().to_owned()));
        let user_agent = request.text(HeaderName::UserAgent).unwrap_or_default();
        Ok(Register {
            call_id: request.call_id().map_err(|e| bad(e.what))?.to_owned(),
            cseq: request.cseq().map_err(|e| bad(e.what))?.number,
            wish,
            path: path.collect::<Result<_, _>>().map_err(|e| bad(e.what))?,
            flow,
            direct: request.elements(HeaderName::Via).take(2).count() == 1,
            user_agent: shortened(user_agent).to_owned(),
        })
    }
}

impl Contact {
    fn read(
        contact: &NameAddr<'_>,
        header: Option<u32>,
        is_ours: impl Fn(&Uri<'_>) -> bool,
    ) -> Result<Contact, Reject> {
        if contact.uri.params.has("maddr") || is_ours(&contact.uri) {
            return Err(Reject::because(StatusCode::FORBIDDEN, "Contact not allowed"));
        }
        if !matches!(contact.uri.scheme, Scheme::Sip | Scheme::Sips) {
            return Err(Reject::because(StatusCode::BAD_REQUEST, "Contact is not a SIP URI"));
        }
        let mut params = String::new();
        for (name, value) in contact.params.iter() {
            if !name.eq_ignore_ascii_case("expires") && !name.eq_ignore_ascii_case("q") {
                params.push(';');
                params.push_str(name);
                if let Some(value) = value {
                    params.push('=');
                    params.push_str(value);
                }
            }
        }
        let own = contact.params.get("expires");
        Ok(Contact {
            uri: contact.uri.as_str().to_owned(),
            params,
            q: contact.params.get("q").map_or(Ok(1_000), read_q)?,
            instance: contact.params.get("+sip.instance").map(|i| i.trim_matches(['<', '>']).to_owned()),
            reg_id: contact.params.get("reg-id").and_then(|id| id.parse().ok()).filter(|id| *id > 0),
            expires: match own {
                Some(text) => seconds(text),
                None => header,
            },
        })
    }
}

/// As many characters as are kept.
fn shortened(user_agent: &str) -> &str {
    let end = user_agent.char_indices().nth(MAX_USER_AGENT).map_or(user_agent.len(), |(end, _)| end);
    user_agent.get(..end).unwrap_or_default()
}

/// `delta-seconds`; larger than 32 bits is clamped, anything else malformed reads as absent (20.19, `A36`).
fn seconds(text: &str) -> Option<u32> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().unwrap_or(u32::MAX))
}

/// `qvalue` in thousandths (25.1).
fn read_q(text: &str) -> Result<u16, Reject> {
    let bad = || Reject::because(StatusCode::BAD_REQUEST, "Malformed q");
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 3 || !part.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let digits = part.bytes().map(|b| u16::from(b - b'0')).chain(std::iter::repeat(0));
    let thousandths = digits.take(3).fold(0, |number, digit| number * 10 + digit);
    match (whole, thousandths) {
        ("0", q) => Ok(q),
        ("1", 0) => Ok(1_000),
        _ => Err(bad()),
    }
}

/// Applies one REGISTER to the bindings of an address of record.
///
/// - `home`: its state; expired bindings in it do not count.
/// - `mode`: when the store is away, expiries are capped at [`VOLATILE_MAX_S`].
///
/// Returns the rows to write and delete; nothing for a query. The whole request counts or none of it (10.3).
///
/// # Errors
/// 423 with Min-Expires if an interval is too brief; 500 if a CSeq is out of order for its Call-ID; 403 if there would be more than
/// `policy.max_bindings`.
pub fn register(
    home: &HomeState,
    register: &Register,
    now: Timestamp,
    policy: &Policy,
    mode: Mode,
) -> Result<Plan, Reject> {
    let in_order = |binding: &Binding| {
        // 10.3 steps 6 and 7: the same Call-ID must count up, else the request is an old one that was overtaken.
        if binding.call_id == register.call_id && register.cseq <= binding.cseq {
            return Err(Reject::because(StatusCode::SERVER_INTERNAL_ERROR, "CSeq out of order"));
        }
        Ok(())
    };
    let drop = |binding: &Binding| Row::DropBinding(home.aor.clone(), binding.key.clone());
    let mut rows: SmallVec<[Row; 1]> = SmallVec::new();
    let mut only_refreshes = true;
    let mut grows = false;
    match &register.wish {
        Wish::Query => return Ok(Plan::nothing()),
        Wish::RemoveAll => {
            for binding in &home.bindings {
                in_order(binding)?;
                rows.push(drop(binding));
            }
            only_refreshes = rows.is_empty();
        }
        Wish::Update(contacts) => {
            for (at, contact) in contacts.iter().enumerate() {
                // 10.3 step 7 takes them in turn: of those that are equal the last one is left (19.1.4).
                if contacts.iter().skip(at + 1).any(|later| are_equal(&later.uri, &contact.uri)) {
                    continue;
                }
                let known = find(home, &contact.uri);
                if let Some(binding) = known {
                    in_order(binding)?;
                }
                let interval = interval(contact.expires, policy, mode)?;
                match (interval, known) {
                    (None, Some(binding)) => {
                        rows.push(drop(binding));
                        only_refreshes = false;
                    }
                    (None, None) => {}
                    (Some(interval), known) => {
                        let live = known.filter(|b| !b.is_expired(now));
                        grows |= live.is_none();
                        let refreshed = live.filter(|old| is_refresh(old, register, contact));
                        rows.push(match refreshed {
                            Some(old) => Row::RefreshBinding(Arc::new(Binding {
                                cseq: register.cseq,
                                refreshed_at: now,
                                expires_at: now.after_secs(interval),
                                ..old.clone()
                            })),
                            None => {
                                only_refreshes = false;
                                Row::PutBinding(Arc::new(bound(home, register, contact, live, now, interval)))
                            }
                        });
                    }
                }
            }
        }
    }
    if grows {
        let count = count_after(home, &rows, now);
        if count > policy.max_bindings && count > home.live_bindings(now).count() {
            return Err(Reject::because(StatusCode::FORBIDDEN, "Too many bindings"));
        }
    }
    let durability = if only_refreshes { Durability::Lazy } else { Durability::Durable };
    Ok(Plan { rows, durability, moved: Moved { presence: !only_refreshes, watchers: false } })
}

/// How many live bindings there will be with these rows applied: those that no row is about, and those that the last row of their key puts.
fn count_after(home: &HomeState, rows: &[Row], now: Timestamp) -> usize {
    let about = |rows: &[Row], wanted: &BindingKey| {
        rows.iter().any(|row| match row {
            Row::PutBinding(binding) | Row::RefreshBinding(binding) => binding.key == *wanted,
            Row::DropBinding(_, key) => key == wanted,
            _ => false,
        })
    };
    let untouched = home.live_bindings(now).filter(|binding| !about(rows, &binding.key)).count();
    let put = rows.iter().enumerate().filter(|(at, row)| match row {
        Row::PutBinding(binding) | Row::RefreshBinding(binding) => {
            !binding.is_expired(now) && !about(rows.get(at + 1..).unwrap_or_default(), &binding.key)
        }
        _ => false,
    });
    untouched + put.count()
}

/// 10.3 step 7: a known contact is one that is equal as a URI (19.1.4). What is written alike is equal without reading it, and
/// is looked for first.
fn find<'a>(home: &'a HomeState, uri: &str) -> Option<&'a Binding> {
    if let Some(known) = home.bindings.iter().find(|binding| binding.contact == uri) {
        return Some(known);
    }
    let uri = Uri::parse(uri.as_bytes()).ok()?;
    let same = |binding: &&Arc<Binding>| {
        Uri::parse(binding.contact.as_bytes()).is_ok_and(|known| known.equals(&uri))
    };
    home.bindings.iter().find(same).map(AsRef::as_ref)
}

/// Are they equal as URIs? What is written alike is, without reading it.
fn are_equal(one: &str, other: &str) -> bool {
    one == other
        || matches!((Uri::parse(one.as_bytes()), Uri::parse(other.as_bytes())), (Ok(one), Ok(other)) if one.equals(&other))
}

/// The interval to grant; `None` for a removal. May shorten, never lengthen (10.3 step 7).
fn interval(wish: Option<u32>, policy: &Policy, mode: Mode) -> Result<Option<u32>, Reject> {
    let wish = wish.unwrap_or(policy.default_interval_s);
    if wish == 0 {
        return Ok(None);
    }
    if wish < policy.min_interval_s && wish < 3_600 {
        return Err(Reject::new(StatusCode::INTERVAL_TOO_BRIEF)
            .with(HeaderName::MinExpires, policy.min_interval_s.to_string()));
    }
    let max = match mode {
        Mode::Durable => policy.max_interval_s,
        Mode::Volatile => policy.max_interval_s.min(VOLATILE_MAX_S),
    };
    Ok(Some(wish.min(max)))
}

fn bound(
    home: &HomeState,
    register: &Register,
    contact: &Contact,
    known: Option<&Binding>,
    now: Timestamp,
    interval: u32,
) -> Binding {
    let uri = Text::from(contact.uri.as_str());
    Binding {
        aor: home.aor.clone(),
        contact: uri.clone().or_shared(known.map_or(&uri, |b| &b.contact)),
        key: known.map_or(BindingKey(uri), |b| b.key.clone()),
        params: contact.params.as_str().into(),
        q: contact.q,
        instance: contact.instance.as_deref().map(Text::from),
        reg_id: contact.reg_id,
        path: register.path.iter().map(Text::from).collect(),
        call_id: register.call_id.as_str().into(),
        cseq: register.cseq,
        flow: register.flow,
        direct: register.direct,
        user_agent: match known {
            Some(known) => Text::from(&register.user_agent).or_shared(&known.user_agent),
            None => Text::from(&register.user_agent),
        },
        created_at: known.map_or(now, |b| b.created_at),
        refreshed_at: now,
        expires_at: now.after_secs(interval),
    }
}

/// Has nothing moved but the time (and what proves the order of requests)? Compared as it came, so that a refresh copies no text.
fn is_refresh(old: &Binding, register: &Register, contact: &Contact) -> bool {
    // Every field is named, so that one that is added is thought of here.
    let Binding {
        aor: _,
        key: _,
        contact: uri,
        params,
        q,
        instance,
        reg_id,
        path,
        call_id,
        cseq: _,
        flow,
        direct,
        user_agent,
        created_at: _,
        refreshed_at: _,
        expires_at: _,
    } = old;
    *call_id == register.call_id
        && *flow == register.flow
        && *uri == contact.uri
        && *params == contact.params
        && (*q, *reg_id, *direct) == (contact.q, contact.reg_id, register.direct)
        && instance.as_deref() == contact.instance.as_deref()
        && path.iter().map(Text::as_str).eq(register.path.iter().map(String::as_str))
        && *user_agent == register.user_agent
}

/// Option tags that may stand in Require of a REGISTER.
const SUPPORTED: &[&str] = &["path"];
/// The longest interval granted while the store is away.
pub const VOLATILE_MAX_S: u32 = 120;
const MAX_USER_AGENT: usize = 256;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::model::{Aor, Transport};

    const NOW: Timestamp = Timestamp(1_000_000_000);
    const POLICY: Policy =
        Policy { min_interval_s: 60, default_interval_s: 3_600, max_interval_s: 7_200, max_bindings: 3 };

    fn flow() -> Flow {
        let local = SocketAddr::from(([192, 0, 2, 1], 5060));
        Flow {
            transport: Transport::Udp,
            local,
            remote: SocketAddr::from(([192, 0, 2, 9], 5062)),
            connection: 0,
        }
    }

    fn request(headers: &str) -> Request {
        let text = format!(
            "REGISTER sip:example.org SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9:5062;branch=z9hG4bK1\r\n\
             From: <sip:bob@example.org>;tag=1\r\nTo: <sip:bob@example.org>\r\nCall-ID: a@b\r\nMax-Forwards: 70\r\n{headers}\r\n"
        );
        match crate::sip::Message::parse(text.into(), false, &crate::sip::Limits::default()) {
            Ok(crate::sip::Message::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    fn read(headers: &str) -> Result<Register, Reject> {
        Register::read(&request(headers), flow(), |_| false)
    }

    fn home() -> HomeState {
        HomeState::empty(Aor::new("bob", "example.org").unwrap())
    }

    fn apply(home: &mut HomeState, headers: &str) -> Result<Plan, Reject> {
        apply_at(home, headers, NOW)
    }

    fn apply_at(home: &mut HomeState, headers: &str, now: Timestamp) -> Result<Plan, Reject> {
        let plan = register(home, &read(headers)?, now, &POLICY, Mode::Durable)?;
        plan.rows.iter().for_each(|row| home.apply(row));
        Ok(plan)
    }

    fn contacts(home: &HomeState) -> Vec<&str> {
        home.bindings.iter().map(|b| b.contact.as_str()).collect()
    }

    #[test]
    fn a_new_contact_is_durable_and_moves_presence_rfc3261_10_3() {
        let mut home = home();
        let plan = apply(
            &mut home,
            "CSeq: 1 REGISTER\r\nContact: <sip:bob@192.0.2.9:5062>;q=0.5;+sip.instance=\"<urn:uuid:1>\"\r\n",
        )
        .unwrap();
        assert_eq!(plan.durability, Durability::Durable);
        assert!(plan.moved.presence);
        let binding: &Arc<Binding> = &home.bindings[0];
        assert_eq!((binding.q, binding.instance.as_deref()), (500, Some("urn:uuid:1")));
        assert_eq!(binding.params, ";+sip.instance=\"<urn:uuid:1>\"");
        assert_eq!(binding.expires_at, NOW.after_secs(3_600));
    }

    #[test]
    fn a_refresh_is_lazy_and_moves_nothing() {
        let mut home = home();
        apply(&mut home, "CSeq: 1 REGISTER\r\nContact: <sip:bob@192.0.2.9:5062>\r\n").unwrap();
        let later = NOW.after_secs(100);
        let plan =
            apply_at(&mut home, "CSeq: 2 REGISTER\r\nContact: <sip:bob@192.0.2.9:5062>\r\n", later).unwrap();
        assert_eq!(plan.durability, Durability::Lazy);
        assert!(!plan.moved.presence);
        assert_eq!(home.bindings[0].expires_at, later.after_secs(3_600));
        assert_eq!(home.bindings[0].created_at, NOW);
    }

    #[test]
    fn contacts_that_are_equal_uris_are_one_binding_rfc3261_10_3_step_7() {
        let mut home = home();
        apply(&mut home, "CSeq: 1 REGISTER\r\nContact: <sip:bob@Pc.Example.com;a=1;b=2>\r\n").unwrap();
        apply(&mut home, "CSeq: 2 REGISTER\r\nContact: <sip:%62ob@pc.example.com;b=2;a=1>\r\n").unwrap();
        assert_eq!(contacts(&home), ["sip:%62ob@pc.example.com;b=2;a=1"]);
    }

    #[test]
    fn a_request_that_was_overtaken_fails_whole_rfc3261_10_3_step_7() {
        let mut home = home();
        apply(&mut home, "CSeq: 5 REGISTER\r\nContact: <sip:bob@192.0.2.9:5062>\r\n").unwrap();
        let before = home.clone();
        for cseq in [4, 5] {
            let headers = format!(
                "CSeq: {cseq} REGISTER\r\nContact: <sip:new@192.0.2.9>, <sip:bob@192.0.2.9:5062>;expires=0\r\n"
            );
            assert_eq!(apply(&mut home, &headers).unwrap_err().status, StatusCode::SERVER_INTERNAL_ERROR);
        }
        assert_eq!(home, before);
    }

    #[test]
    fn the_same_contact_under_another_call_id_is_updated_rfc3261_10_3_step_7() {
        let mut home = home();
        apply(&mut home, "CSeq: 9 REGISTER\r\nContact: <sip:bob@192.0.2.9:5062>\r\n").unwrap();
        let mut other = read("CSeq: 1 REGISTER\r\nContact: <sip:bob@192.0.2.9:5062>\r\n").unwrap();
        other.call_id = "other".into();
        let plan = register(&home, &other, NOW, &POLICY, Mode::Durable).unwrap();
        assert_eq!(plan.durability, Durability::Durable);
        assert!(matches!(&plan.rows[0], Row::PutBinding(b) if b.call_id == "other" && b.cseq == 1));
    }

    #[test]
    fn star_removes_everything_and_only_with_expires_0_rfc3261_10_2_2() {
        let mut home = home();
        apply(&mut home, "CSeq: 1 REGISTER\r\nContact: <sip:a@192.0.2.9>, <sip:b@192.0.2.9>\r\n").unwrap();
        for headers in
            ["CSeq: 2 REGISTER\r\nContact: *\r\n", "CSeq: 2 REGISTER\r\nContact: *\r\nExpires: 60\r\n"]
        {
            assert_eq!(apply(&mut home, headers).unwrap_err().status, StatusCode::BAD_REQUEST);
        }
        assert_eq!(home.bindings.len(), 2);
        let plan = apply(&mut home, "CSeq: 2 REGISTER\r\nContact: *\r\nExpires: 0\r\n").unwrap();
        assert_eq!(plan.durability, Durability::Durable);
        assert!(home.bindings.is_empty());
    }

    #[test]
    fn the_contact_parameter_beats_the_header_which_beats_the_default_rfc3261_10_3_step_7() {
        let mut home = home();
        let headers = "CSeq: 1 REGISTER\r\nExpires: 600\r\nContact: <sip:a@192.0.2.9>;expires=300\r\nContact: <sip:b@192.0.2.9>\r\n";
        apply(&mut home, headers).unwrap();
        assert_eq!(home.bindings[0].expires_at, NOW.after_secs(300));
        assert_eq!(home.bindings[1].expires_at, NOW.after_secs(600));
    }

    #[test]
    fn too_brief_is_423_with_min_expires_rfc3261_10_3_step_7() {
        let reject =
            apply(&mut home(), "CSeq: 1 REGISTER\r\nContact: <sip:a@192.0.2.9>;expires=59\r\n").unwrap_err();
        assert_eq!(reject.status, StatusCode::INTERVAL_TOO_BRIEF);
        assert_eq!(reject.headers[0], (HeaderName::MinExpires, "60".to_owned()));
    }

    #[test]
    fn an_hour_is_never_too_brief_rfc3261_10_3_step_7() {
        let policy = Policy { min_interval_s: 7_000, ..POLICY };
        let wish = read("CSeq: 1 REGISTER\r\nContact: <sip:a@192.0.2.9>;expires=3600\r\n").unwrap();
        assert!(register(&home(), &wish, NOW, &policy, Mode::Durable).is_ok());
    }

    #[test]
    fn a_long_interval_is_shortened_and_numbers_beyond_32_bits_are_clamped_a36() {
        for expires in ["86400", "4294967295", "99999999999999999999"] {
            let mut home = home();
            apply(
                &mut home,
                &format!("CSeq: 1 REGISTER\r\nContact: <sip:a@192.0.2.9>;expires={expires}\r\n"),
            )
            .unwrap();
            assert_eq!(home.bindings[0].expires_at, NOW.after_secs(7_200));
        }
    }

    #[test]
    fn equal_contacts_of_one_request_are_one_binding_rfc3261_19_1_4() {
        let mut home = home();
        let both = "CSeq: 1 REGISTER\r\nContact: <sip:bob@H.example;transport=tcp;x>;q=0.1, <sip:%62ob@h.example;Transport=TCP>;q=0.7\r\n";
        apply(&mut home, both).unwrap();
        // They count in turn: the last one is left.
        assert_eq!(home.bindings.iter().map(|b| b.q).collect::<Vec<_>>(), [700]);
        apply(&mut home, "CSeq: 2 REGISTER\r\nContact: <sip:bob@h.example:5060;transport=tcp>\r\n").unwrap();
        assert_eq!(home.bindings.len(), 2);
    }

    #[test]
    fn a_malformed_interval_reads_as_the_default_rfc3261_20_19() {
        for expires in ["-1", "x", "1.5"] {
            let mut home = home();
            apply(
                &mut home,
                &format!("CSeq: 1 REGISTER\r\nContact: <sip:a@192.0.2.9>;expires={expires}\r\n"),
            )
            .unwrap();
            assert_eq!(home.bindings[0].expires_at, NOW.after_secs(3_600));
        }
    }

    #[test]
    fn removing_an_unknown_contact_does_nothing_rfc3261_10_3_step_7() {
        let mut home = home();
        let plan = apply(&mut home, "CSeq: 1 REGISTER\r\nContact: <sip:a@192.0.2.9>;expires=0\r\n").unwrap();
        assert!(plan.rows.is_empty());
    }

    #[test]
    fn no_contact_is_a_query_rfc3261_10_2_3() {
        assert_eq!(apply(&mut home(), "CSeq: 1 REGISTER\r\n").unwrap(), Plan::nothing());
    }

    #[test]
    fn one_binding_too_many_is_403_and_replacing_one_is_not() {
        let mut home = home();
        for n in 1..=3 {
            apply(&mut home, &format!("CSeq: {n} REGISTER\r\nContact: <sip:a{n}@192.0.2.9>\r\n")).unwrap();
        }
        let reject = apply(&mut home, "CSeq: 4 REGISTER\r\nContact: <sip:a4@192.0.2.9>\r\n").unwrap_err();
        assert_eq!(reject.status, StatusCode::FORBIDDEN);
        apply(&mut home, "CSeq: 5 REGISTER\r\nContact: <sip:a4@192.0.2.9>, <sip:a1@192.0.2.9>;expires=0\r\n")
            .unwrap();
        assert_eq!(home.bindings.len(), 3);
    }

    #[test]
    fn bindings_are_counted_as_they_will_be_without_making_them() {
        let bound = |key: &str, expires_at| {
            let mut made = home();
            apply(&mut made, &format!("CSeq: 1 REGISTER\r\nContact: <sip:{key}@192.0.2.9>\r\n")).unwrap();
            let binding =
                Binding { key: BindingKey(key.into()), expires_at, ..Binding::clone(&made.bindings[0]) };
            Row::PutBinding(binding.into())
        };
        let gone = |key: &str| Row::DropBinding(home().aor, BindingKey(key.into()));
        let (live, ended) = (NOW.after_secs(1), NOW);
        let mut before = home();
        for row in [bound("a", live), bound("b", ended), bound("c", live)] {
            before.apply(&row);
        }
        for rows in [
            vec![],
            vec![bound("a", live)],
            vec![bound("b", live), bound("d", live)],
            vec![gone("a"), gone("b"), gone("nobody")],
            vec![gone("a"), bound("a", live)],
            vec![bound("d", live), gone("d"), bound("e", live), bound("e", live)],
            vec![bound("a", ended), bound("c", ended), bound("d", ended)],
        ] {
            let mut after = before.clone();
            rows.iter().for_each(|row| after.apply(row));
            assert_eq!(count_after(&before, &rows, NOW), after.live_bindings(NOW).count(), "{rows:?}");
        }
    }

    #[test]
    fn a_contact_written_alike_is_found_before_one_that_is_only_equal_rfc3261_19_1_4() {
        let mut home = home();
        apply(&mut home, "CSeq: 1 REGISTER\r\nContact: <sip:bob@192.0.2.9;a=1>, <sip:bob@192.0.2.9;a=2>\r\n")
            .unwrap();
        for (sent, found) in [(";a=2", ";a=2"), (";a=1", ";a=1"), ("", ";a=1"), (";A=2", ";a=2")] {
            let known = find(&home, &format!("sip:bob@192.0.2.9{sent}")).unwrap();
            assert_eq!(known.contact, format!("sip:bob@192.0.2.9{found}"));
        }
        assert_eq!(find(&home, "sip:bob@192.0.2.9;a=3"), None);
    }

    #[test]
    fn expired_bindings_make_room_rfc3261_10_3() {
        let mut home = home();
        for n in 1..=3 {
            apply(&mut home, &format!("CSeq: {n} REGISTER\r\nContact: <sip:a{n}@192.0.2.9>;expires=60\r\n"))
                .unwrap();
        }
        apply_at(&mut home, "CSeq: 4 REGISTER\r\nContact: <sip:a4@192.0.2.9>\r\n", NOW.after_secs(61))
            .unwrap();
    }

    #[test]
    fn unknown_requirements_are_named_rfc3261_10_3_step_2() {
        let reject = read("CSeq: 1 REGISTER\r\nRequire: path, foo\r\nRequire: bar\r\n").unwrap_err();
        assert_eq!(reject.status, StatusCode::BAD_EXTENSION);
        assert_eq!(reject.headers[0], (HeaderName::Unsupported, "foo, bar".to_owned()));
    }

    #[test]
    fn a_contact_that_leads_to_us_or_elsewhere_by_maddr_is_refused_a14() {
        let loops = Register::read(
            &request("CSeq: 1 REGISTER\r\nContact: <sip:bob@example.org>\r\n"),
            flow(),
            |_| true,
        );
        assert_eq!(loops.unwrap_err().status, StatusCode::FORBIDDEN);
        let reject = read("CSeq: 1 REGISTER\r\nContact: <sip:bob@192.0.2.9;maddr=10.0.0.1>\r\n").unwrap_err();
        assert_eq!(reject.status, StatusCode::FORBIDDEN);
    }

    #[test]
    fn while_the_store_is_away_intervals_are_capped() {
        let wish = read("CSeq: 1 REGISTER\r\nContact: <sip:a@192.0.2.9>\r\n").unwrap();
        let plan = register(&home(), &wish, NOW, &POLICY, Mode::Volatile).unwrap();
        assert!(
            matches!(&plan.rows[0], Row::PutBinding(b) if b.expires_at == NOW.after_secs(VOLATILE_MAX_S))
        );
    }

    #[test]
    fn path_is_kept_in_order_rfc3327_5_3() {
        let wish = read("CSeq: 1 REGISTER\r\nContact: <sip:a@192.0.2.9>\r\nPath: <sip:p1.example.org;lr>, <sip:p2.example.org;lr>\r\n").unwrap();
        assert_eq!(wish.path, ["<sip:p1.example.org;lr>", "<sip:p2.example.org;lr>"]);
    }

    #[test]
    fn q_is_zero_to_one_with_three_digits_rfc3261_25_1() {
        assert_eq!(read_q("0.7"), Ok(700));
        assert_eq!(read_q("1.000"), Ok(1_000));
        assert_eq!(read_q("0"), Ok(0));
        for bad in ["1.1", "2", "0.1234", "-1", "", "x"] {
            assert!(read_q(bad).is_err(), "{bad}");
        }
    }
}

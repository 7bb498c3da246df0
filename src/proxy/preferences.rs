//! What a caller wants of the devices it reaches, and how they are to be tried (RFC 3841 with RFC 3840). Pure.

use smallvec::SmallVec;

use crate::model::Binding;
use crate::sip::{HeaderName, Method, Params, Request};

/// How a request asks to be forwarded (Request-Disposition, RFC 3841 9.1). Asking for a redirection or a queue changes nothing: where a user's
/// devices are is not told, and calls are not queued.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Disposition {
    /// Only to the best device.
    pub no_fork: bool,
    /// One device after the other (`Some(true)`), or all at once (`Some(false)`).
    pub sequential: Option<bool>,
    /// Other devices go on ringing when one has picked up.
    pub no_cancel: bool,
    /// A 3xx goes to the caller.
    pub no_recurse: bool,
}

impl Disposition {
    /// What the request says.
    pub fn of(request: &Request) -> Disposition {
        let mut disposition = Disposition::default();
        for directive in request.elements(HeaderName::RequestDisposition) {
            match directive.to_ascii_lowercase().as_slice() {
                b"no-fork" => disposition.no_fork = true,
                b"sequential" => disposition.sequential = Some(true),
                b"parallel" => disposition.sequential = Some(false),
                b"no-cancel" => disposition.no_cancel = true,
                b"no-recurse" => disposition.no_recurse = true,
                _ => {}
            }
        }
        disposition
    }
}

/// Takes out the bindings that the caller does not want, and orders those of the same `q` by how well they fit (7.2).
///
/// - `bindings`: highest `q` first. Empty afterwards if explicit preferences leave nobody: that is 480 (7.2.4).
pub fn prefer(bindings: &mut SmallVec<[&Binding; 8]>, request: &Request) {
    let asked =
        [HeaderName::AcceptContact, HeaderName::RejectContact].map(|name| request.value(name).is_some());
    if asked == [false, false] {
        return prefer_capable(bindings, request);
    }
    let reject = predicates(request, HeaderName::RejectContact);
    let accept = predicates(request, HeaderName::AcceptContact);
    let mut scored: SmallVec<[(&Binding, u32); 8]> =
        bindings.iter().filter_map(|binding| Some((*binding, score(binding, &reject, &accept)?))).collect();
    scored.sort_by_key(|(binding, score)| (std::cmp::Reverse(binding.q), std::cmp::Reverse(*score)));
    *bindings = scored.into_iter().map(|(binding, _)| binding).collect();
}

/// 7.2.2: without explicit preferences, only devices that know the method (and the event package); if none does, all of them, so that the caller
/// hears a 405 or 489.
fn prefer_capable(bindings: &mut SmallVec<[&Binding; 8]>, request: &Request) {
    let event = match request.method() {
        Method::Subscribe => request.event().ok().flatten().map(|event| event.package.to_owned()),
        _ => None,
    };
    let is_capable = |binding: &&Binding| {
        let names = |feature: &str, value: &str| {
            features(&binding.params)
                .find(|(name, _)| name.eq_ignore_ascii_case(feature))
                .is_none_or(|(_, values)| intersect(values, value))
        };
        binding.params.is_empty()
            || names("methods", request.method().as_str())
                && event.as_deref().is_none_or(|event| names("events", event))
    };
    if bindings.iter().any(is_capable) {
        bindings.retain(|binding| is_capable(binding));
    }
}

/// One element of Accept-Contact or Reject-Contact.
struct Predicate<'a> {
    terms: SmallVec<[(&'a str, &'a str); 4]>,
    require: bool,
    explicit: bool,
}

fn predicates(request: &Request, name: HeaderName) -> SmallVec<[Predicate<'_>; 2]> {
    let predicate = |element| {
        let text = std::str::from_utf8(element).ok()?.strip_prefix('*')?.trim_start();
        let params = Params::of_header(text).ok()?;
        let terms = features(params.as_str()).collect();
        Some(Predicate { terms, require: params.has("require"), explicit: params.has("explicit") })
    };
    request.elements(name).filter_map(predicate).collect()
}

/// 7.2.4: the caller preference Qa in thousandths, or `None` if the device is not wanted.
fn score(binding: &Binding, reject: &[Predicate<'_>], accept: &[Predicate<'_>]) -> Option<u32> {
    let contact: SmallVec<[(&str, &str); 8]> = features(&binding.params).collect();
    if contact.is_empty() {
        // 7.2.3: immune.
        return Some(1_000);
    }
    let of = |tag: &str| {
        contact.iter().find(|(name, _)| name.eq_ignore_ascii_case(tag)).map(|(_, values)| *values)
    };
    let unwanted = |predicate: &Predicate<'_>| {
        predicate.terms.iter().all(|(tag, wanted)| of(tag).is_some_and(|values| intersect(values, wanted)))
    };
    if reject.iter().any(unwanted) {
        return None;
    }
    let (mut sum, mut matching) = (0, 0);
    for predicate in accept {
        if !predicate.terms.iter().all(|(tag, wanted)| of(tag).is_none_or(|values| intersect(values, wanted)))
        {
            if predicate.require {
                return None;
            }
            continue;
        }
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let named = count(predicate.terms.iter().filter(|(tag, _)| of(tag).is_some()).count());
        let terms = count(predicate.terms.len());
        let fits = named.saturating_mul(1_000).checked_div(terms).unwrap_or(1_000);
        // Figure 1.
        match (fits < 1_000 && predicate.explicit, predicate.require) {
            (true, true) => return None,
            (true, false) => {}
            (false, _) => sum += fits,
        }
        matching += 1;
    }
    Some(u32::checked_div(sum, matching).unwrap_or(0))
}

/// Feature parameters, name without `+` (7.2.1, 7.2.3, 8); `TRUE` where there is no value.
fn features(params: &str) -> impl Iterator<Item = (&str, &str)> {
    let all = Params::of_header(params).ok();
    all.into_iter().flat_map(|params| params.iter()).filter_map(|(name, value)| {
        let tag = match name.strip_prefix('+') {
            Some(tag) => tag,
            None if BASE_TAGS.iter().any(|tag| name.eq_ignore_ascii_case(tag)) => name,
            None => return None,
        };
        Some((tag, value.map_or("TRUE", |value| value.trim_matches('"'))))
    })
}

/// Have two lists of values anything in common (RFC 2533 matching)?
fn intersect(left: &str, right: &str) -> bool {
    values(left).any(|left| values(right).any(|right| left.meets(&right)))
}

fn values(list: &str) -> impl Iterator<Item = Value<'_>> {
    // A string in angle brackets stands alone and may hold commas (RFC 3840 9).
    let separator = if list.starts_with('<') { '\0' } else { ',' };
    list.split(separator).map(|text| Value::read(text.trim()))
}

/// One value of a feature tag.
struct Value<'a> {
    negated: bool,
    kind: Kind<'a>,
}

enum Kind<'a> {
    /// Compared in any case.
    Token(&'a str),
    /// In angle brackets: compared as it is.
    Text(&'a str),
    /// `#`: from, to.
    Range(f64, f64),
}

impl<'a> Value<'a> {
    fn read(text: &'a str) -> Value<'a> {
        let (negated, text) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        let kind = if let Some(inner) = text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')) {
            Kind::Text(inner)
        } else if let Some((from, to)) = text.strip_prefix('#').and_then(range) {
            Kind::Range(from, to)
        } else {
            Kind::Token(text)
        };
        Value { negated, kind }
    }

    /// Is there anything that is both?
    fn meets(&self, other: &Value<'_>) -> bool {
        let alike = match (&self.kind, &other.kind) {
            (Kind::Token(one), Kind::Token(two)) => one.eq_ignore_ascii_case(two),
            (Kind::Text(one), Kind::Text(two)) => one == two,
            (Kind::Range(from, to), Kind::Range(other_from, other_to)) => {
                from <= other_to && other_from <= to
            }
            _ => false,
        };
        match (self.negated, other.negated) {
            (false, false) => alike,
            (true, true) => true,
            (true, false) | (false, true) => !alike,
        }
    }
}

fn range(text: &str) -> Option<(f64, f64)> {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    if let Some(rest) = text.strip_prefix(">=") {
        return Some((number(rest)?, f64::INFINITY));
    }
    if let Some(rest) = text.strip_prefix("<=") {
        return Some((f64::NEG_INFINITY, number(rest)?));
    }
    match text.split_once(':') {
        Some((from, to)) => Some((number(from)?, number(to)?)),
        None => number(text.strip_prefix('=').unwrap_or(text)).map(|exact| (exact, exact)),
    }
}

/// 7.2.1.
const BASE_TAGS: [&str; 20] = [
    "audio",
    "automata",
    "class",
    "duplex",
    "data",
    "control",
    "mobility",
    "description",
    "events",
    "priority",
    "methods",
    "extensions",
    "schemes",
    "application",
    "video",
    "language",
    "type",
    "isfocus",
    "actor",
    "text",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Aor, BindingKey, Flow, Text, Timestamp, Transport};
    use crate::sip::{Limits, Message};

    fn binding(name: &str, params: &str, q: u16) -> Binding {
        let local = std::net::SocketAddr::from(([192, 0, 2, 1], 5060));
        Binding {
            aor: Aor::new("user", "example.com").unwrap(),
            key: BindingKey(name.into()),
            contact: name.into(),
            params: params.into(),
            q,
            instance: None,
            reg_id: None,
            path: Box::default(),
            call_id: "c".into(),
            cseq: 1,
            flow: Flow { transport: Transport::Udp, local, remote: local, connection: 0 },
            direct: true,
            user_agent: Text::default(),
            created_at: Timestamp(0),
            refreshed_at: Timestamp(0),
            expires_at: Timestamp(1_000),
        }
    }

    fn request(method: &str, headers: &str) -> Request {
        let text = format!(
            "{method} sip:user@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\nFrom: <sip:a@x>;tag=1\r\n\
             To: <sip:user@example.com>\r\nCall-ID: c\r\nCSeq: 1 {method}\r\n{headers}Content-Length: 0\r\n\r\n"
        );
        match Message::parse(text.into(), true, &Limits::default()) {
            Ok(Message::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    fn preferred(bindings: &[Binding], request: &Request) -> Vec<String> {
        let mut wanted: SmallVec<[&Binding; 8]> = bindings.iter().collect();
        wanted.sort_by_key(|binding| std::cmp::Reverse(binding.q));
        prefer(&mut wanted, request);
        wanted.iter().map(|binding| binding.contact.to_string()).collect()
    }

    #[test]
    fn the_example_of_rfc3841_7_2_5() {
        let bindings = [
            binding("u1", ";audio;video;methods=\"INVITE,BYE\"", 200),
            binding("u2", ";audio=\"FALSE\";methods=\"INVITE\";actor=\"msg-taker\"", 200),
            binding("u3", ";audio;actor=\"msg-taker\";methods=\"INVITE\";video", 300),
            binding("u4", ";audio;methods=\"INVITE,OPTIONS\"", 200),
            binding("u5", "", 500),
        ];
        let headers = "Reject-Contact: *;actor=\"msg-taker\";video\r\nAccept-Contact: *;audio;require\r\n\
                       Accept-Contact: *;video;explicit\r\nAccept-Contact: *;methods=\"BYE\";class=\"business\";q=1.0\r\n";
        assert_eq!(preferred(&bindings, &request("INVITE", headers)), ["u5", "u1", "u4"]);
    }

    #[test]
    fn explicit_preferences_may_leave_nobody_rfc3841_7_2_4() {
        let bindings = [binding("fixed", ";mobility=\"fixed\"", 1_000)];
        let mobile = request("INVITE", "Accept-Contact: *;mobility=\"mobile\";require;explicit\r\n");
        assert!(preferred(&bindings, &mobile).is_empty());
        let unlike = request("INVITE", "Reject-Contact: *;mobility=\"fixed\"\r\n");
        assert!(preferred(&bindings, &unlike).is_empty());
    }

    #[test]
    fn only_devices_that_know_the_method_are_tried_if_any_does_rfc3841_7_2_2() {
        let bindings = [
            binding("phone", ";methods=\"INVITE,ACK,BYE\"", 1_000),
            binding("chat", ";methods=\"MESSAGE\"", 500),
            binding("silent", ";+sip.instance=\"<urn:uuid:1>\"", 100),
        ];
        assert_eq!(preferred(&bindings, &request("MESSAGE", "")), ["chat", "silent"]);
        assert_eq!(preferred(&bindings[..1], &request("MESSAGE", "")), ["phone"], "it says 405 itself");
    }

    #[test]
    fn only_devices_that_know_the_package_are_tried_if_any_does_rfc3841_7_2_2() {
        let bindings = [
            binding("a", ";methods=\"SUBSCRIBE\";events=\"dialog,refer\"", 1_000),
            binding("b", ";methods=\"SUBSCRIBE\";events=\"conference\"", 1_000),
        ];
        assert_eq!(preferred(&bindings, &request("SUBSCRIBE", "Event: conference\r\n")), ["b"]);
    }

    #[test]
    fn values_are_tokens_texts_numbers_and_their_opposites_rfc3841_7_2_4() {
        for (left, right, meet) in [
            ("mobile", "MOBILE", true),
            ("<PC>", "<pc>", false),
            ("<a,b>", "<a,b>", true),
            ("en,de", "fr,de", true),
            ("!presence,message-summary", "presence", false),
            ("!presence", "winfo", true),
            ("!a", "!a", true),
            ("#5", "#=5.0", true),
            ("#-4:+5.125", "#>=5", true),
            ("#<=4", "#>=5", false),
            ("TRUE", "FALSE", false),
            ("#", "#", true),
        ] {
            assert_eq!(intersect(left, right), meet, "{left} and {right}");
        }
    }

    #[test]
    fn what_a_request_asks_of_the_proxy_rfc3841_9_1() {
        let asked = request("INVITE", "d: proxy, No-Fork, sequential, no-cancel, no-recurse, queue\r\n");
        let expected =
            Disposition { no_fork: true, sequential: Some(true), no_cancel: true, no_recurse: true };
        assert_eq!(Disposition::of(&asked), expected);
        assert_eq!(Disposition::of(&request("INVITE", "")), Disposition::default());
    }
}

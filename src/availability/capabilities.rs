//! What a registered device can do, as a watcher reads it (RFC 5196), from the feature parameters of its Contact (RFC 3840).
//!
//! Only names that the schema knows are taken over, and in its order. Priorities are not: the schema (`higherhan`) and the text (`higherthan`) of RFC
//! 5196 differ in the name of their element.

use crate::availability::document::pidf::CAPS;
use crate::availability::document::write::escape;
use crate::availability::document::xml::Fragment;
use crate::sip::Params;

/// `<servcaps>`; `None` if the device says nothing of what it can do.
///
/// - `params`: of a Contact, with leading `;`.
pub(super) fn of_service(params: &str) -> Option<Fragment> {
    written("servcaps", params, SERVICE)
}

/// `<devcaps>`.
pub(super) fn of_device(params: &str) -> Option<Fragment> {
    written("devcaps", params, DEVICE)
}

fn written(root: &str, params: &str, known: &[(&str, &str, Kind)]) -> Option<Fragment> {
    let params = Params::of_header(params).ok()?;
    let mut inside = String::new();
    for (tag, name, kind) in known {
        // A tag beyond RFC 3840 9 comes with a plus (RFC 3840 9, RFC 4569).
        let Some(value) = params.get(tag).or_else(|| params.get(&format!("+{tag}"))) else { continue };
        kind.write(&mut inside, name, value);
    }
    (!inside.is_empty()).then(|| Fragment::of("caps", CAPS, root, &inside))
}

/// How the values of a feature are written.
enum Kind {
    Flag,
    /// Each value is an element of its own, if it is one of these; in this order.
    Names(&'static [&'static str]),
    /// Each value is the text of such an element.
    Texts(&'static str),
    /// The values are the texts.
    Text,
}

impl Kind {
    fn write(&self, out: &mut String, name: &str, value: &str) {
        match self {
            Kind::Flag => {
                // A flag has no value (RFC 3840 9).
                let is_true = value.is_empty() || value.eq_ignore_ascii_case("TRUE");
                if is_true || value.eq_ignore_ascii_case("FALSE") || value.eq_ignore_ascii_case("!TRUE") {
                    element(out, name, &is_true.to_string());
                }
            }
            Kind::Names(names) => both(out, name, value, |wanted, inside| {
                let wanted: Vec<&str> = wanted.collect();
                for known in names.iter().filter(|known| wanted.iter().any(|w| is_called(w, known))) {
                    inside.push_str(&format!("<caps:{known}/>"));
                }
            }),
            Kind::Texts(each) => both(out, name, value, |wanted, inside| {
                wanted.filter(|text| is_token(text)).for_each(|text| element(inside, each, text));
            }),
            Kind::Text => {
                for text in values(value).filter(|text| !text.starts_with('!')) {
                    let text = text.strip_prefix('<').and_then(|t| t.strip_suffix('>')).unwrap_or(text);
                    element(out, name, text);
                }
            }
        }
    }
}

/// `<supported>` and, for what is negated, `<notsupported>`.
fn both<'v>(
    out: &mut String,
    name: &str,
    value: &'v str,
    write: impl Fn(&mut dyn Iterator<Item = &'v str>, &mut String),
) {
    let mut inside = String::new();
    for (name, negated) in [("supported", false), ("notsupported", true)] {
        let mut wanted = values(value)
            .filter(|value| value.starts_with('!') == negated)
            .map(|value| value.trim_start_matches('!'));
        let mut these = String::new();
        write(&mut wanted, &mut these);
        if !these.is_empty() {
            inside.push_str(&format!("<caps:{name}>{these}</caps:{name}>"));
        }
    }
    if !inside.is_empty() {
        out.push_str(&format!("<caps:{name}>{inside}</caps:{name}>"));
    }
}

fn element(out: &mut String, name: &str, text: &str) {
    out.push_str(&format!("<caps:{name}>"));
    escape(out, text);
    out.push_str(&format!("</caps:{name}>"));
}

/// The values of a tag, of which a text in angle brackets is one (RFC 3840 9).
fn values(list: &str) -> impl Iterator<Item = &str> {
    let separator = if list.starts_with('<') { '\0' } else { ',' };
    list.split(separator).map(str::trim).filter(|value| !value.is_empty()).take(MAX_VALUES)
}

fn is_called(value: &str, name: &str) -> bool {
    // The schema has its own spelling of this option tag.
    value.eq_ignore_ascii_case(name) || name == "hist-info" && value.eq_ignore_ascii_case("histinfo")
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-./".contains(&b))
}

/// More than any device has of one kind.
const MAX_VALUES: usize = 64;

/// Feature tag, element, kind; in the order of the schema (RFC 5196 6).
const SERVICE: &[(&str, &str, Kind)] = &[
    ("actor", "actor", Kind::Names(&["attendant", "information", "msg-taker", "principal"])),
    ("application", "application", Kind::Flag),
    ("audio", "audio", Kind::Flag),
    ("automata", "automata", Kind::Flag),
    ("class", "class", Kind::Names(&["business", "personal"])),
    ("control", "control", Kind::Flag),
    ("data", "data", Kind::Flag),
    ("duplex", "duplex", Kind::Names(&["full", "half", "receive-only", "send-only"])),
    (
        "events",
        "event-packages",
        Kind::Names(&[
            "conference",
            "dialog",
            "kpml",
            "message-summary",
            "poc-settings",
            "presence",
            "reg",
            "refer",
            "Siemens-RTP-Stats",
            "spirits-INDPs",
            "spirits-user-prof",
            "winfo",
        ]),
    ),
    (
        "extensions",
        "extensions",
        Kind::Names(&[
            "rel100",
            "early-session",
            "eventlist",
            "from-change",
            "gruu",
            "hist-info",
            "join",
            "norefersub",
            "path",
            "precondition",
            "pref",
            "privacy",
            "recipient-list-invite",
            "recipient-list-subscribe",
            "replaces",
            "resource-priority",
            "sdp-anat",
            "sec-agree",
            "tdialog",
            "timer",
        ]),
    ),
    ("isfocus", "isfocus", Kind::Flag),
    ("message", "message", Kind::Flag),
    (
        "methods",
        "methods",
        Kind::Names(&[
            "ACK",
            "BYE",
            "CANCEL",
            "INFO",
            "INVITE",
            "MESSAGE",
            "NOTIFY",
            "OPTIONS",
            "PRACK",
            "PUBLISH",
            "REFER",
            "REGISTER",
            "SUBSCRIBE",
            "UPDATE",
        ]),
    ),
    ("language", "languages", Kind::Texts("l")),
    ("schemes", "schemes", Kind::Texts("s")),
    ("text", "text", Kind::Flag),
    ("type", "type", Kind::Text),
    ("video", "video", Kind::Flag),
];

const DEVICE: &[(&str, &str, Kind)] = &[
    ("description", "description", Kind::Text),
    ("mobility", "mobility", Kind::Names(&["fixed", "mobile"])),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn service(params: &str) -> Option<String> {
        of_service(params).map(|f| f.raw().to_owned())
    }

    #[test]
    fn feature_parameters_become_service_capabilities_in_the_order_of_the_schema_rfc5196_3_2() {
        let params = ";+sip.instance=\"<urn:uuid:1>\";video=\"FALSE\";audio;methods=\"MESSAGE, invite,x-y,!REFER\";+message;\
                      events=\"presence\";schemes=\"sip,tel\";language=\"en,!de\";extensions=\"histinfo\";duplex=\"full\";\
                      type=\"text/plain\";+sip.vendor=\"<x>\"";
        let expected = "<caps:servcaps><caps:audio>true</caps:audio>\
             <caps:duplex><caps:supported><caps:full/></caps:supported></caps:duplex>\
             <caps:event-packages><caps:supported><caps:presence/></caps:supported></caps:event-packages>\
             <caps:extensions><caps:supported><caps:hist-info/></caps:supported></caps:extensions>\
             <caps:message>true</caps:message>\
             <caps:methods><caps:supported><caps:INVITE/><caps:MESSAGE/></caps:supported>\
             <caps:notsupported><caps:REFER/></caps:notsupported></caps:methods>\
             <caps:languages><caps:supported><caps:l>en</caps:l></caps:supported>\
             <caps:notsupported><caps:l>de</caps:l></caps:notsupported></caps:languages>\
             <caps:schemes><caps:supported><caps:s>sip</caps:s><caps:s>tel</caps:s></caps:supported></caps:schemes>\
             <caps:type>text/plain</caps:type><caps:video>false</caps:video></caps:servcaps>";
        assert_eq!(service(params).as_deref(), Some(expected));
    }

    #[test]
    fn mobility_and_description_are_the_devices_rfc5196_3_3() {
        let params = ";audio;mobility=\"fixed\";description=\"<Desk & <phone>>\"";
        let expected = "<caps:devcaps><caps:description>Desk &amp; &lt;phone&gt;</caps:description>\
                        <caps:mobility><caps:supported><caps:fixed/></caps:supported></caps:mobility></caps:devcaps>";
        assert_eq!(of_device(params).unwrap().raw(), expected);
        assert_eq!(of_device(";audio"), None);
    }

    #[test]
    fn a_device_that_says_nothing_can_do_what_it_can() {
        for params in ["", ";+sip.instance=\"<urn:uuid:1>\"", ";methods=\"x,y\"", ";audio=\"perhaps\"", ";="]
        {
            assert_eq!(service(params), None, "{params}");
        }
    }
}

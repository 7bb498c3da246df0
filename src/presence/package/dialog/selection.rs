//! Which dialogs a subscription is about: `call-id`, `to-tag` and `from-tag` of Event (RFC 4235 3.2).

use crate::availability::document::dialog_info::Dialog;
use crate::model::Reject;
use crate::sip::{Request, StatusCode};

/// One dialog, or all that one INVITE has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    call_id: String,
    /// `to-tag`: the observed user's.
    local_tag: String,
    /// `from-tag`: the other side's; without it all dialogs of that INVITE.
    remote_tag: Option<String>,
}

impl Selection {
    /// What Event selects; `None`: all dialogs.
    ///
    /// # Errors
    /// 400 if `call-id` and `to-tag` do not come together, or are of a length that no dialog has.
    pub(in crate::presence) fn read(request: &Request) -> Result<Option<Selection>, Reject> {
        let param = |name: &str| {
            let value = request.event_param(name);
            let is_one = |value: &String| (1..=MOST_BYTES).contains(&value.len()) && !value.contains('\n');
            match value {
                Some(value) if !is_one(&value) => Err(incomplete()),
                value => Ok(value),
            }
        };
        match (param("call-id")?, param("to-tag")?, param("from-tag")?) {
            (None, None, None) => Ok(None),
            (Some(call_id), Some(local_tag), remote_tag) => {
                Ok(Some(Selection { call_id, local_tag, remote_tag }))
            }
            (None, _, _) | (Some(_), None, _) => Err(incomplete()),
        }
    }

    /// As a subscription's row keeps it: a line each.
    pub(in crate::presence) fn lines(&self) -> String {
        let remote_tag = self.remote_tag.as_deref().unwrap_or_default();
        [&self.call_id, &self.local_tag, remote_tag].join("\n")
    }

    /// From these lines.
    pub(in crate::presence) fn of(lines: &str) -> Option<Selection> {
        let mut lines = lines.split('\n').map(str::to_owned);
        let (call_id, local_tag) = (lines.next()?, lines.next()?);
        Some(Selection { call_id, local_tag, remote_tag: lines.next().filter(|tag| !tag.is_empty()) })
    }

    /// Is this one of them?
    pub(super) fn has(&self, dialog: &Dialog) -> bool {
        dialog.call_id.as_ref() == Some(&self.call_id)
            && dialog.local_tag.as_ref() == Some(&self.local_tag)
            && (self.remote_tag.is_none() || self.remote_tag == dialog.remote_tag)
    }
}

fn incomplete() -> Reject {
    Reject::because(StatusCode::BAD_REQUEST, "Event Names No Dialog")
}

/// As Call-IDs and tags are bounded.
const MOST_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::availability::document::dialog_info::State;
    use crate::presence::testing::request;

    fn read(event: &str) -> Result<Option<Selection>, Reject> {
        Selection::read(&request("SUBSCRIBE", "sip:alice@example.org", &format!("Event: {event}\r\n"), ""))
    }

    #[test]
    fn a_dialog_is_named_by_its_three_ids_or_an_invite_by_two_rfc4235_3_2() {
        let one = read("dialog;call-id=\"a\\\"b@c\";to-tag=l;from-tag=r").unwrap().unwrap();
        let all = read("dialog;call-id=\"a\\\"b@c\";to-tag=l").unwrap().unwrap();
        let dialog = |remote: Option<&str>| Dialog {
            call_id: Some("a\"b@c".into()),
            local_tag: Some("l".into()),
            remote_tag: remote.map(str::to_owned),
            ..Dialog::bare("1".into(), State::Early)
        };
        assert!(one.has(&dialog(Some("r"))) && all.has(&dialog(Some("r"))));
        assert!(!one.has(&dialog(Some("s"))) && all.has(&dialog(Some("s"))));
        assert!(!one.has(&dialog(None)) && all.has(&dialog(None)));
        assert!(!all.has(&Dialog::bare("1".into(), State::Early)));
        for selection in [one, all] {
            assert_eq!(Selection::of(&selection.lines()), Some(selection));
        }
    }

    #[test]
    fn half_a_name_names_nothing_rfc4235_3_2() {
        assert_eq!(read("dialog;include-session-description"), Ok(None));
        for event in
            ["dialog;call-id=x", "dialog;to-tag=x", "dialog;from-tag=x", "dialog;call-id=\"\";to-tag=x"]
        {
            assert_eq!(read(event).unwrap_err().status, StatusCode::BAD_REQUEST, "{event}");
        }
    }
}

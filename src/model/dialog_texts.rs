//! What a subscription's dialog is made of, as NOTIFYs say it (RFC 3261 12.1.1, 12.2.1.1).

use std::fmt;
use std::ops::Range;

use crate::model::Text;

/// The texts of one dialog in one piece of memory: first the rows that all its NOTIFYs have alike, ready to be sent, then the remote target. No line end
/// is in any of them but at the end of a row (`A04`).
#[derive(Clone, PartialEq, Eq)]
pub struct DialogTexts {
    text: Text,
    local_address_end: u32,
    local_tag_end: u32,
    remote_address_end: u32,
    remote_tag_end: u32,
    call_id_end: u32,
}

/// The parts of a [`DialogTexts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DialogParts<'a> {
    /// Call-ID.
    pub call_id: &'a str,
    /// Our tag (To of the SUBSCRIBE).
    pub local_tag: &'a str,
    /// The watcher's tag (From of the SUBSCRIBE); empty if it has none (RFC 2543).
    pub remote_tag: &'a str,
    /// To of the SUBSCRIBE without tag, as sent: From of our NOTIFYs.
    pub local_address: &'a str,
    /// From of the SUBSCRIBE without tag, as sent: To of our NOTIFYs.
    pub remote_address: &'a str,
    /// Contact URI of the watcher: Request-URI of our NOTIFYs.
    pub remote_target: &'a str,
}

impl DialogTexts {
    /// Of these parts. CR, LF and NUL in them become spaces.
    pub fn new(parts: DialogParts<'_>) -> DialogTexts {
        let DialogParts { call_id, local_tag, remote_tag, local_address, remote_address, remote_target } =
            parts;
        let lengths =
            [call_id, local_tag, remote_tag, local_address, remote_address, remote_target].map(str::len);
        let mut text = String::with_capacity(lengths.iter().sum::<usize>() + ROWS);
        text.push_str(FROM);
        let local_address_end = push(&mut text, local_address);
        text.push_str(TAG);
        let local_tag_end = push(&mut text, local_tag);
        text.push_str(TO);
        let remote_address_end = push(&mut text, remote_address);
        if !remote_tag.is_empty() {
            text.push_str(TAG);
        }
        let remote_tag_end = push(&mut text, remote_tag);
        text.push_str(CALL_ID);
        let call_id_end = push(&mut text, call_id);
        text.push_str(END);
        push(&mut text, remote_target);
        DialogTexts {
            text: text.into(),
            local_address_end,
            local_tag_end,
            remote_address_end,
            remote_tag_end,
            call_id_end,
        }
    }

    /// From, To and Call-ID of a NOTIFY, each with its line end.
    pub fn rows(&self) -> &str {
        self.part(0..self.target_start())
    }

    /// See [`DialogParts`].
    pub fn call_id(&self) -> &str {
        self.part(at(self.remote_tag_end) + CALL_ID.len()..at(self.call_id_end))
    }
    /// See [`DialogParts`].
    pub fn local_tag(&self) -> &str {
        self.part(at(self.local_address_end) + TAG.len()..at(self.local_tag_end))
    }
    /// See [`DialogParts`].
    pub fn remote_tag(&self) -> &str {
        let (start, end) = (at(self.remote_address_end), at(self.remote_tag_end));
        if start == end { "" } else { self.part(start + TAG.len()..end) }
    }
    /// See [`DialogParts`].
    pub fn local_address(&self) -> &str {
        self.part(FROM.len()..at(self.local_address_end))
    }
    /// See [`DialogParts`].
    pub fn remote_address(&self) -> &str {
        self.part(at(self.local_tag_end) + TO.len()..at(self.remote_address_end))
    }
    /// See [`DialogParts`].
    pub fn remote_target(&self) -> &str {
        self.part(self.target_start()..self.text.len())
    }

    /// All of them.
    pub fn parts(&self) -> DialogParts<'_> {
        DialogParts {
            call_id: self.call_id(),
            local_tag: self.local_tag(),
            remote_tag: self.remote_tag(),
            local_address: self.local_address(),
            remote_address: self.remote_address(),
            remote_target: self.remote_target(),
        }
    }

    fn target_start(&self) -> usize {
        at(self.call_id_end) + END.len()
    }

    fn part(&self, range: Range<usize>) -> &str {
        self.text.get(range).unwrap_or_default()
    }
}

impl fmt::Debug for DialogTexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts().fmt(f)
    }
}

/// Puts a part behind what is there, and tells where it ends. What came by the network is far shorter than a `u32` can say.
fn push(text: &mut String, part: &str) -> u32 {
    if part.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        text.push_str(&part.replace(['\r', '\n', '\0'], " "));
    } else {
        text.push_str(part);
    }
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}

fn at(end: u32) -> usize {
    usize::try_from(end).unwrap_or(usize::MAX)
}

const FROM: &str = "From: ";
const TAG: &str = ";tag=";
const TO: &str = "\r\nTo: ";
const CALL_ID: &str = "\r\nCall-ID: ";
const END: &str = "\r\n";
/// All of these.
const ROWS: usize = FROM.len() + 2 * TAG.len() + TO.len() + CALL_ID.len() + END.len();

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: DialogParts<'static> = DialogParts {
        call_id: "call-1",
        local_tag: "ours",
        remote_tag: "bobs",
        local_address: "<sip:alice@example.org>",
        remote_address: "\"Bob\" <sip:bob@example.org>",
        remote_target: "sip:bob@192.0.2.7:5062",
    };

    #[test]
    fn the_rows_of_a_dialog_are_those_of_its_notifys_rfc3261_12_2_1_1() {
        let dialog = DialogTexts::new(PARTS);
        assert_eq!(
            dialog.rows(),
            "From: <sip:alice@example.org>;tag=ours\r\nTo: \"Bob\" <sip:bob@example.org>;tag=bobs\r\nCall-ID: call-1\r\n"
        );
        assert_eq!(dialog.parts(), PARTS);
    }

    #[test]
    fn a_watcher_without_a_tag_gets_none_rfc3261_12_2_1_1() {
        let parts = DialogParts { remote_tag: "", ..PARTS };
        let dialog = DialogTexts::new(parts);
        assert!(dialog.rows().contains("\r\nTo: \"Bob\" <sip:bob@example.org>\r\n"));
        assert_eq!(dialog.parts(), parts);
        assert_eq!(DialogTexts::new(DialogParts::default()).parts(), DialogParts::default());
    }

    #[test]
    fn no_part_can_begin_a_row_a04() {
        let dialog = DialogTexts::new(DialogParts { call_id: "a\r\nVia: x\0", ..PARTS });
        assert_eq!((dialog.call_id(), dialog.rows().matches("\r\n").count()), ("a  Via: x ", 3));
    }
}

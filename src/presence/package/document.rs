//! A document before it is sent.

use std::sync::Arc;

use bytes::Bytes;

use crate::presence::package::winfo::Watchers;

/// A document as it was composed, for any number of watchers: what differs from NOTIFY to NOTIFY of one dialog is written in when it is sent.
///
/// State is always full (RFC 4235 3.7.1, RFC 3680 4.7.2), except that of who watches (RFC 3858 4): it is written when it is sent, as each subscriber
/// knows something else.
///
/// What has ended is told once to each watcher who knew of it: such a document has a second text, in which it is not told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::presence) struct Document {
    text: Bytes,
    /// Where the digits of its version belong, if it has one.
    version_at: Option<usize>,
    /// Without what is told once.
    lasting: Option<Box<Document>>,
    /// Names what is told once.
    ended: u32,
    /// What is written when it is sent; `text` then only says whether it is the same.
    watchers: Option<Arc<Watchers>>,
}

impl Document {
    /// No document.
    pub(in crate::presence) fn none() -> Document {
        Document::fixed(Bytes::new())
    }

    /// One that says all there is to say.
    pub(in crate::presence) fn fixed(text: Bytes) -> Document {
        Document { text, version_at: None, lasting: None, ended: 0, watchers: None }
    }

    /// One with the digits of a version missing at `version_at` (dialog-info, reginfo, watcherinfo).
    pub(in crate::presence) fn versioned(text: Bytes, version_at: usize) -> Document {
        Document { version_at: Some(version_at), ..Document::fixed(text) }
    }

    /// One of who watches.
    pub(in crate::presence) fn of_watchers(watchers: Watchers) -> Document {
        let text = watchers.key();
        Document { watchers: Some(Arc::new(watchers)), ..Document::fixed(text) }
    }

    /// Who watches, if it is about that.
    pub(in crate::presence) fn watchers(&self) -> Option<&Arc<Watchers>> {
        self.watchers.as_ref()
    }

    /// This one for who was not told of what has `ended`, `lasting` for all others.
    pub(in crate::presence) fn once(self, lasting: Document, ended: u32) -> Document {
        Document { lasting: Some(Box::new(lasting)), ended, ..self }
    }

    /// What has ended by now, for [`Document::sent_after`].
    pub(in crate::presence) fn ended(&self) -> u32 {
        self.ended
    }

    /// Is there none?
    pub(in crate::presence) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// What it says apart from its version: two that say the same are equal here, whenever they are sent.
    pub(in crate::presence) fn text(&self) -> &Bytes {
        &self.text
    }

    /// What is sent.
    ///
    /// - `before`: what had ended when this watcher was told last; `None` if it was not yet: what it never knew of need not end.
    pub(in crate::presence) fn sent_after(&self, before: Option<u32>, version: u32) -> Bytes {
        match &self.lasting {
            Some(lasting) if before.is_none_or(|before| before == self.ended) => {
                lasting.with_version(version)
            }
            Some(_) | None => self.with_version(version),
        }
    }

    /// The text with its version.
    pub(in crate::presence) fn with_version(&self, version: u32) -> Bytes {
        let at = self.version_at.filter(|at| *at <= self.text.len());
        let Some((head, tail)) = at.map(|at| self.text.split_at(at)) else { return self.text.clone() };
        let digits = version.to_string();
        [head, digits.as_bytes(), tail].concat().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_written_when_it_is_sent_and_says_nothing_of_the_state_rfc4235_4_1() {
        let text = Bytes::from_static(b"<a version=\"\"/>");
        let document = Document::versioned(text.clone(), 12);
        assert_eq!(document.with_version(0), "<a version=\"0\"/>");
        assert_eq!(document.with_version(4_294_967_295), "<a version=\"4294967295\"/>");
        assert_eq!(document, Document::versioned(text.clone(), 12));
        let fixed = Document::fixed(text.clone());
        assert_eq!(fixed.with_version(7).as_ptr(), text.as_ptr(), "nothing is copied");
        assert!(Document::none().is_empty() && Document::none().with_version(7).is_empty());
    }
}

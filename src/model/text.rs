//! Short texts that are kept for a long time.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Text that does not change. Cloning shares it, and an empty one holds no memory: it is kept by the hundred thousand.
#[derive(Clone, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Text(Option<Arc<str>>);

impl Text {
    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
    /// One copy for both, if `other` says the same.
    pub fn or_shared(self, other: &Text) -> Text {
        if self == *other { other.clone() } else { self }
    }
}

impl Deref for Text {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        Text((!text.is_empty()).then(|| text.into()))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Text {
        text.as_str().into()
    }
}

impl From<&String> for Text {
    fn from(text: &String) -> Text {
        text.as_str().into()
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialEq<String> for Text {
    fn eq(&self, other: &String) -> bool {
        self.as_str() == other
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_is_the_same_memory_and_an_empty_text_is_none() {
        let text = Text::from("sip:bob@192.0.2.1");
        assert!(std::ptr::eq(text.as_str(), text.clone().as_str()));
        assert_eq!(Text::from(""), Text::default());
        assert!(Text::default().0.is_none());
        let same = Text::from("sip:bob@192.0.2.1".to_owned()).or_shared(&text);
        assert!(std::ptr::eq(text.as_str(), same.as_str()));
        assert_eq!(Text::from("other").or_shared(&text), "other");
    }
}

//! What a subscription's row keeps of what its SUBSCRIBE asked for: the body type, and which dialogs.
//!
//! A line for the body type (none for the package's default), and more lines if dialogs were selected.

use crate::model::{Package, Subscription, Text};
use crate::presence::package::format::default;
use crate::presence::package::{Format, Selection, formats};

/// What a SUBSCRIBE asks to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The body type that its Accept comes to.
    pub format: Format,
    /// Which dialogs (RFC 4235 3.2); `None`: all there is.
    pub selection: Option<Selection>,
}

impl Wanted {
    /// As the row keeps it.
    pub(in crate::presence) fn kept(&self, package: Package) -> Text {
        let name = if self.format == default(package) { "" } else { self.format.as_str() };
        match &self.selection {
            None => name.into(),
            Some(selection) => format!("{name}\n{}", selection.lines()).into(),
        }
    }
}

/// The body type of a subscription. What earlier releases kept there was taken as the package's default.
pub(in crate::presence) fn body_type(row: &Subscription) -> Format {
    let name = row.accept.split('\n').next().unwrap_or_default();
    let named = formats(row.package).iter().find(|format| format.as_str() == name);
    named.copied().unwrap_or_else(|| default(row.package))
}

/// Which dialogs it is about.
pub(in crate::presence) fn selection(row: &Subscription) -> Option<Selection> {
    row.accept.split_once('\n').and_then(|(_, lines)| Selection::of(lines))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::testing::{request, subscription};

    #[test]
    fn what_was_asked_for_is_found_again_in_the_row() {
        let event = "Event: dialog;call-id=c;to-tag=l\r\n";
        let selected = Selection::read(&request("SUBSCRIBE", "sip:alice@example.org", event, "")).unwrap();
        for package in Package::ALL {
            for &wanted in formats(package) {
                for selection in [None, selected.clone()] {
                    let wanted = Wanted { format: wanted, selection };
                    let row = Subscription { package, accept: wanted.kept(package), ..subscription(1) };
                    assert_eq!((body_type(&row), self::selection(&row)), (wanted.format, wanted.selection));
                }
            }
        }
    }

    #[test]
    fn what_earlier_releases_kept_means_the_default() {
        let accept = "text/plain, application/*;q=0.1".into();
        assert_eq!(body_type(&Subscription { accept, ..subscription(1) }), Format::Pidf);
    }
}

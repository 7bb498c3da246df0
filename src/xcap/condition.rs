//! Conditional requests on entity-tags (RFC 4825 7.11, RFC 9110 13).

use crate::model::EntityTag;

/// `If-Match` and `If-None-Match` of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conditions {
    /// `If-Match`
    pub matches: Option<Tags>,
    /// `If-None-Match`
    pub matches_none: Option<Tags>,
}

/// The value of either header, all rows together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tags {
    /// `*`
    Any,
    /// A list; what is no tag of ours stands for nothing and is left out.
    List(Vec<Tag>),
}

/// One entity-tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    /// What stands between the quotes.
    pub tag: EntityTag,
    /// `W/` stands before it, so it never matches strongly (RFC 9110 8.8.3.2).
    pub weak: bool,
}

/// What the conditions make of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// Go on.
    Holds,
    /// 412
    Failed,
    /// What the client has is what there is: 304 for GET and HEAD, 412 for others.
    Unmodified,
}

impl Conditions {
    /// Judges them on the tag of the document as it is (RFC 9110 13.2.2); `None`: there is none.
    pub fn judge(&self, current: Option<EntityTag>) -> Judgement {
        if self.matches.as_ref().is_some_and(|tags| !tags.matches(current, true)) {
            Judgement::Failed
        } else if self.matches_none.as_ref().is_some_and(|tags| tags.matches(current, false)) {
            Judgement::Unmodified
        } else {
            Judgement::Holds
        }
    }
}

impl Tags {
    /// Reads all rows of a header. `None`: there are none.
    pub fn parse<'a>(rows: impl Iterator<Item = &'a [u8]>) -> Option<Tags> {
        let mut found = None;
        for row in rows {
            let text = std::str::from_utf8(row).unwrap_or_default().trim();
            if text == "*" {
                return Some(Tags::Any);
            }
            let Tags::List(list) = found.get_or_insert(Tags::List(Vec::new())) else { continue };
            list.extend(text.split(',').take(MAX_TAGS).filter_map(tag));
        }
        found
    }

    fn matches(&self, current: Option<EntityTag>, strongly: bool) -> bool {
        match (self, current) {
            (_, None) => false,
            (Tags::Any, Some(_)) => true,
            (Tags::List(list), Some(current)) => {
                list.iter().any(|tag| tag.tag == current && !(strongly && tag.weak))
            }
        }
    }
}

/// Ours hold no comma, so a list may be cut at commas: what is cut within quotes is none of ours.
fn tag(text: &str) -> Option<Tag> {
    let text = text.trim();
    let (weak, quoted) = text.strip_prefix("W/").map_or((false, text), |rest| (true, rest));
    let inside = quoted.strip_prefix('"')?.strip_suffix('"')?;
    Some(Tag { tag: EntityTag::parse(inside)?, weak })
}

/// More would be no cache of one document.
const MAX_TAGS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: EntityTag = EntityTag(1);

    fn conditions(matches: &[&str], none: &[&str]) -> Conditions {
        let read = |rows: &[&str]| Tags::parse(rows.iter().map(|row| row.as_bytes()));
        Conditions { matches: read(matches), matches_none: read(none) }
    }

    #[test]
    fn if_match_compares_strongly_rfc9110_13_1_1() {
        let own = format!("\"{ONE}\"");
        for (row, holds) in [
            (own.clone(), true),
            (format!("\"x\", {own}"), true),
            ("*".into(), true),
            (format!("W/{own}"), false),
            ("\"x\"".into(), false),
            (format!("{ONE}"), false),
            (String::new(), false),
            ("\"00000000000000000000000000000002\"".into(), false),
        ] {
            let judged = conditions(&[&row], &[]).judge(Some(ONE));
            assert_eq!(judged == Judgement::Holds, holds, "{row}");
        }
        assert_eq!(conditions(&["\"a\"", &own], &[]).judge(Some(ONE)), Judgement::Holds, "rows are one list");
        assert_eq!(conditions(&["*"], &[]).judge(None), Judgement::Failed, "nothing is there");
    }

    #[test]
    fn if_none_match_compares_weakly_rfc9110_13_1_2() {
        for row in [format!("\"{ONE}\""), format!("W/\"{ONE}\""), "*".into()] {
            assert_eq!(conditions(&[], &[&row]).judge(Some(ONE)), Judgement::Unmodified, "{row}");
            assert_eq!(conditions(&[], &[&row]).judge(None), Judgement::Holds, "{row}");
        }
        assert_eq!(conditions(&[], &["\"x\""]).judge(Some(ONE)), Judgement::Holds);
        assert_eq!(
            conditions(&["\"x\""], &["*"]).judge(Some(ONE)),
            Judgement::Failed,
            "If-Match comes first"
        );
        assert_eq!(conditions(&[], &[]).judge(None), Judgement::Holds);
    }
}

//! `application/simple-message-summary` (RFC 3842 5.2): read, added up, written. Pure.

use crate::model::Reject;
use crate::sip::StatusCode;

/// How many messages wait, as one messaging system says or several together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Summary {
    /// Messages-Waiting.
    pub(super) is_waiting: bool,
    /// Message-Account.
    account: Account,
    /// Per class in the order of [`CLASSES`]; `None`: nothing is said of it.
    counts: [Option<Counts>; CLASSES.len()],
}

/// Whose messages they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Account {
    /// Nobody says.
    #[default]
    Unsaid,
    /// This URI's, without angle brackets.
    Of(String),
    /// One says this, another that.
    Several,
}

/// The numbers of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    /// New and old ones.
    pub(super) all: (u32, u32),
    /// The urgent ones among them.
    pub(super) urgent: Option<(u32, u32)>,
}

impl Summary {
    /// Reads a summary. Headers of single messages, which may follow it, are not looked at; classes that are not known are left out.
    ///
    /// # Errors
    /// 400 if it is none; 413 if it is too long.
    pub(super) fn parse(body: &[u8]) -> Result<Summary, Reject> {
        if body.len() > MAX_BYTES {
            return Err(Reject::new(StatusCode::REQUEST_ENTITY_TOO_LARGE));
        }
        let text = std::str::from_utf8(body).map_err(|_| malformed())?;
        let mut lines = text.lines().map(str::trim_end).take_while(|line| !line.is_empty());
        // 5.2: the status line is the first one.
        let is_waiting = match lines.next().and_then(named) {
            Some((name, status)) if name.eq_ignore_ascii_case(WAITING) => match status {
                yes if yes.eq_ignore_ascii_case("yes") => true,
                no if no.eq_ignore_ascii_case("no") => false,
                _ => return Err(malformed()),
            },
            _ => return Err(malformed()),
        };
        let mut summary = Summary { is_waiting, ..Summary::default() };
        for line in lines {
            let (name, value) = named(line).ok_or_else(malformed)?;
            if name.eq_ignore_ascii_case(ACCOUNT) {
                let account = Account::Of(account(value).ok_or_else(malformed)?);
                if std::mem::replace(&mut summary.account, account) != Account::Unsaid {
                    return Err(malformed());
                }
                continue;
            }
            let counts = Counts::parse(value).ok_or_else(malformed)?;
            let class = CLASSES.iter().position(|class| class.eq_ignore_ascii_case(name));
            if let Some(known) = class.and_then(|class| summary.counts.get_mut(class))
                && known.replace(counts).is_some()
            {
                return Err(malformed());
            }
        }
        Ok(summary)
    }

    /// Both together (3.10): messages wait if they do for one of them; numbers add up. They know whose these are if they agree.
    pub(super) fn and(mut self, other: Summary) -> Summary {
        self.is_waiting |= other.is_waiting;
        self.account = match (self.account, other.account) {
            (Account::Unsaid, one) | (one, Account::Unsaid) => one,
            (Account::Of(one), Account::Of(same)) if one == same => Account::Of(one),
            (Account::Of(_) | Account::Several, Account::Of(_) | Account::Several) => Account::Several,
        };
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine = match (*mine, theirs) {
                (Some(mine), Some(theirs)) => Some(mine.and(theirs)),
                (mine, theirs) => mine.or(theirs),
            };
        }
        self
    }

    /// A summary of nothing but text messages; new ones wait.
    pub(super) fn of_texts(texts: Counts) -> Summary {
        let mut summary = Summary { is_waiting: texts.all.0 > 0, ..Summary::default() };
        if let Some(known) = summary.counts.get_mut(TEXT) {
            *known = Some(texts);
        }
        summary
    }

    /// The body of a NOTIFY: never with headers of single messages (3.5, 3.8).
    ///
    /// - `owner`: whose messages they are, if the summary does not say one account.
    pub(super) fn write(&self, owner: &str) -> String {
        let account = match &self.account {
            Account::Of(account) => account,
            Account::Unsaid | Account::Several => owner,
        };
        let status = if self.is_waiting { "yes" } else { "no" };
        let mut text = format!("{WAITING}: {status}\r\n{ACCOUNT}: {account}\r\n");
        for (class, counts) in CLASSES.iter().zip(self.counts) {
            let Some(Counts { all: (new, old), urgent }) = counts else { continue };
            text.push_str(&format!("{class}: {new}/{old}"));
            if let Some((new, old)) = urgent {
                text.push_str(&format!(" ({new}/{old})"));
            }
            text.push_str("\r\n");
        }
        text
    }
}

impl Counts {
    /// `2/8 (0/2)`.
    fn parse(value: &str) -> Option<Counts> {
        let (all, urgent) = match value.split_once('(') {
            Some((all, urgent)) => (all, Some(pair(urgent.trim_end().strip_suffix(')')?)?)),
            None => (value, None),
        };
        Some(Counts { all: pair(all)?, urgent })
    }

    fn and(self, other: Counts) -> Counts {
        let add = |a: (u32, u32), b: (u32, u32)| (a.0.saturating_add(b.0), a.1.saturating_add(b.1));
        let urgent = match (self.urgent, other.urgent) {
            (Some(mine), Some(theirs)) => Some(add(mine, theirs)),
            (mine, theirs) => mine.or(theirs),
        };
        Counts { all: add(self.all, other.all), urgent }
    }
}

/// `new/old`.
fn pair(text: &str) -> Option<(u32, u32)> {
    let (new, old) = text.split_once('/')?;
    Some((count(new.trim())?, count(old.trim())?))
}

/// 3.5: whatever is larger than 2^32-1 counts as that.
fn count(digits: &str) -> Option<u32> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u32::MAX))
}

/// `Name : value`, both without the space around them.
fn named(line: &str) -> Option<(&str, &str)> {
    line.split_once(':').map(|(name, value)| (name.trim_end(), value.trim()))
}

/// An absolute URI. Who has put it between angle brackets, where it must not be (3.5), meant what is between them.
fn account(value: &str) -> Option<String> {
    let uri = value.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(value);
    let (scheme, rest) = uri.split_once(':')?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    let is_written = !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic() && !b"<>\"".contains(&b));
    (is_scheme && is_written && uri.len() <= MAX_ACCOUNT).then(|| uri.to_owned())
}

fn malformed() -> Reject {
    Reject::because(StatusCode::BAD_REQUEST, "Malformed Message Summary")
}

const WAITING: &str = "Messages-Waiting";
const ACCOUNT: &str = "Message-Account";
/// RFC 3458 6.2, RFC 3938.
const CLASSES: [&str; 7] = [
    "Voice-Message",
    "Video-Message",
    "Fax-Message",
    "Pager-Message",
    "Multimedia-Message",
    "Text-Message",
    "None",
];
/// Of Text-Message.
const TEXT: usize = 5;
/// As other published documents: with the headers of some hundred messages.
const MAX_BYTES: usize = 32 * 1024;
/// As other URIs.
const MAX_ACCOUNT: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: &str = "sip:alice@example.org";

    fn read(text: &str) -> Summary {
        Summary::parse(text.as_bytes()).unwrap_or_else(|reject| panic!("{reject:?}: {text}"))
    }

    #[test]
    fn the_example_is_read_and_written_without_message_headers_rfc3842_4_1() {
        let text = "Messages-Waiting: yes\r\nMessage-Account: sip:alice@vmail.example.com\r\nVoice-Message: 4/8 (1/2)\r\n";
        let headers = "\r\nTo: <alice@atlanta.example.com>\r\nSubject: carpool tomorrow?\r\n";
        assert_eq!(read(text).write(ALICE), text);
        assert_eq!(read(&format!("{text}{headers}")).write(ALICE), text);
    }

    #[test]
    fn productions_are_case_insensitive_and_space_does_not_count_rfc3842_5_2() {
        let read = read("messages-waiting :YES\nvoice-MESSAGE: 2 / 8( 0/2 )\nfax-message:0/1\n");
        let written = "Messages-Waiting: yes\r\nMessage-Account: sip:alice@example.org\r\nVoice-Message: 2/8 (0/2)\r\nFax-Message: 0/1\r\n";
        assert_eq!(read.write(ALICE), written);
    }

    #[test]
    fn the_status_line_comes_first_and_nothing_comes_twice_rfc3842_5_2() {
        for text in [
            "",
            "\r\nMessages-Waiting: yes",
            "Voice-Message: 1/0\r\nMessages-Waiting: yes",
            "Messages-Waiting: maybe",
            "Messages-Waiting: yes\r\nMessages-Waiting: no",
            "Messages-Waiting: yes\r\nVoice-Message: 1/0\r\nvoice-message: 1/0",
            "Messages-Waiting: yes\r\nMessage-Account: sip:a@b\r\nMessage-Account: sip:a@b",
            "Messages-Waiting: yes\r\nVoice-Message: 1",
            "Messages-Waiting: yes\r\nVoice-Message: -1/0",
            "Messages-Waiting: yes\r\nVoice-Message: 1/0 (0/0",
            "Messages-Waiting: yes\r\nVoice-Message: 1/0 0/0",
            "Messages-Waiting: yes\r\nMessage-Account: alice",
            "Messages-Waiting: yes\r\nMessage-Account: sip:a b",
            "Messages-Waiting: yes\r\nhello",
        ] {
            let reject = Summary::parse(text.as_bytes()).expect_err(text);
            assert_eq!(reject.status, StatusCode::BAD_REQUEST, "{text}");
        }
        assert!(Summary::parse(b"Messages-Waiting: \xff").is_err());
        let long = format!("Messages-Waiting: no\r\n\r\n{}", "Subject: x\r\n".repeat(3_000));
        assert_eq!(Summary::parse(long.as_bytes()).unwrap_err().status, StatusCode::REQUEST_ENTITY_TOO_LARGE);
    }

    #[test]
    fn the_account_has_no_angle_brackets_rfc3842_3_5() {
        let read = read("Messages-Waiting: no\r\nMessage-Account: <sip:vm@example.org>\r\n");
        assert_eq!(read.account, Account::Of("sip:vm@example.org".into()));
    }

    #[test]
    fn no_number_is_above_the_largest_rfc3842_3_5() {
        let most = read("Messages-Waiting: yes\r\nVoice-Message: 4294967296/4294967295\r\n");
        let one = read("Messages-Waiting: no\r\nVoice-Message: 1/1 (1/1)\r\n");
        let both = most.and(one).write(ALICE);
        assert!(both.ends_with("Voice-Message: 4294967295/4294967295 (1/1)\r\n"), "{both}");
    }

    #[test]
    fn several_are_one_rfc3842_3_10() {
        let voice = read("Messages-Waiting: no\r\nMessage-Account: sip:v@x\r\nVoice-Message: 0/3\r\n");
        let fax = read("Messages-Waiting: yes\r\nMessage-Account: sip:f@x\r\nFax-Message: 1/0\r\n");
        let both = voice.clone().and(fax.clone()).write(ALICE);
        let expected = "Messages-Waiting: yes\r\nMessage-Account: sip:alice@example.org\r\nVoice-Message: 0/3\r\nFax-Message: 1/0\r\n";
        assert_eq!(both, expected, "they do not agree on the account");
        assert_eq!(voice.clone().and(voice.clone()).account, voice.account);
        assert_eq!(voice.clone().and(Summary::of_texts(Counts::default())).account, voice.account);
        assert_eq!(voice.clone().and(fax).and(voice).account, Account::Several);
    }

    #[test]
    fn other_classes_are_left_out() {
        let read = read("Messages-Waiting: yes\r\nX-Smoke-Message: 1/0\r\nText-Message: 2/0\r\n");
        assert_eq!(read, Summary::of_texts(Counts { all: (2, 0), urgent: None }));
    }
}

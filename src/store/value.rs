//! The three kinds of column that both databases share, and how model values become them and come back.

use std::borrow::Cow;

use sqlx::Row as _;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;

use crate::model::{Aor, Flow, Text, Timestamp, Transport};

/// One value of one column, on its way to the database.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    /// TEXT.
    Text(Option<Cow<'a, str>>),
    /// BIGINT.
    Number(Option<i64>),
    /// BYTEA.
    Bytes(Cow<'a, [u8]>),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Value::Text(Some(Cow::Borrowed(text)))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Value::Text(Some(Cow::Owned(text)))
    }
}

impl<'a> From<&'a Option<Text>> for Value<'a> {
    fn from(text: &'a Option<Text>) -> Self {
        Value::Text(text.as_deref().map(Cow::Borrowed))
    }
}

impl<'a> From<&'a Aor> for Value<'a> {
    fn from(aor: &'a Aor) -> Self {
        aor.as_str().into()
    }
}

impl From<Timestamp> for Value<'_> {
    fn from(at: Timestamp) -> Self {
        Value::Number(Some(at.0))
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl From<$number> for Value<'_> {
            fn from(number: $number) -> Self {
                Value::Number(Some(i64::from(number)))
            }
        }
    )*};
}
numbers!(bool, u8, u16, u32, i64);

/// 128 bits as 16 bytes, most significant first, so that order is kept.
pub(super) fn id(id: u128) -> Value<'static> {
    Value::Bytes(Cow::Owned(id.to_be_bytes().to_vec()))
}

/// A list of texts as a JSON array.
pub(super) fn list(texts: &[Text]) -> Value<'static> {
    if texts.is_empty() {
        return EMPTY_LIST.into();
    }
    let texts: Vec<&str> = texts.iter().map(Text::as_str).collect();
    serde_json::Value::from(texts).to_string().into()
}

/// A flow as its four columns: transport, local, remote, connection.
pub(super) fn flow(flow: &Flow) -> [Value<'static>; 4] {
    [
        (flow.transport as u8).into(),
        flow.local.to_string().into(),
        flow.remote.to_string().into(),
        flow.connection.cast_signed().into(),
    ]
}

/// Columns of a row that was read, by position. `None`: not what was written there. Texts are borrowed from the row: they are copied once, into
/// what is kept.
pub(super) trait Columns {
    /// TEXT NOT NULL.
    fn str(&self, at: usize) -> Option<&str>;
    /// TEXT. The outer `None` is a failure.
    fn maybe_str(&self, at: usize) -> Option<Option<&str>>;
    /// BIGINT NOT NULL.
    fn number(&self, at: usize) -> Option<i64>;
    /// BIGINT. The outer `None` is a failure.
    fn maybe_number(&self, at: usize) -> Option<Option<i64>>;
    /// BYTEA NOT NULL.
    fn bytes(&self, at: usize) -> Option<&[u8]>;

    /// TEXT NOT NULL, kept.
    fn text(&self, at: usize) -> Option<Text> {
        self.str(at).map(Text::from)
    }
    /// TEXT, kept. The outer `None` is a failure.
    fn maybe_text(&self, at: usize) -> Option<Option<Text>> {
        Some(self.maybe_str(at)?.map(Text::from))
    }
    /// A number of a narrower type.
    fn narrow<N: TryFrom<i64>>(&self, at: usize) -> Option<N> {
        self.number(at).and_then(|number| N::try_from(number).ok())
    }
    /// An instant.
    fn time(&self, at: usize) -> Option<Timestamp> {
        self.number(at).map(Timestamp)
    }
    /// An address of record.
    fn aor(&self, at: usize) -> Option<Aor> {
        Aor::from_stored(self.str(at)?)
    }
    /// 128 bits.
    fn id(&self, at: usize) -> Option<u128> {
        self.bytes(at)?.try_into().ok().map(u128::from_be_bytes)
    }
    /// A list of texts.
    fn list(&self, at: usize) -> Option<Box<[Text]>> {
        match self.str(at)? {
            EMPTY_LIST => Some(Box::default()),
            list => {
                Some(serde_json::from_str::<Vec<String>>(list).ok()?.into_iter().map(Text::from).collect())
            }
        }
    }
    /// A flow, from four columns on.
    fn flow(&self, at: usize) -> Option<Flow> {
        Some(Flow {
            transport: Transport::from_number(self.narrow(at)?)?,
            local: self.str(at + 1)?.parse().ok()?,
            remote: self.str(at + 2)?.parse().ok()?,
            connection: self.number(at + 3)?.cast_unsigned(),
        })
    }
}

const EMPTY_LIST: &str = "[]";

macro_rules! columns {
    ($row:ty) => {
        impl Columns for $row {
            fn str(&self, at: usize) -> Option<&str> {
                self.try_get(at).ok()
            }
            fn maybe_str(&self, at: usize) -> Option<Option<&str>> {
                self.try_get(at).ok()
            }
            fn number(&self, at: usize) -> Option<i64> {
                self.try_get(at).ok()
            }
            fn maybe_number(&self, at: usize) -> Option<Option<i64>> {
                self.try_get(at).ok()
            }
            fn bytes(&self, at: usize) -> Option<&[u8]> {
                self.try_get(at).ok()
            }
        }
    };
}
columns!(PgRow);
columns!(SqliteRow);

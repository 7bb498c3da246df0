//! Header names, long and compact (RFC 3261 7.3.3, 20).

/// The headers this server acts on; all others are `Other` and keep their bytes and their place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the variants are the header names")]
pub enum HeaderName {
    Accept,
    AcceptContact,
    AcceptEncoding,
    AcceptLanguage,
    Allow,
    AllowEvents,
    Authorization,
    CallId,
    Contact,
    ContentEncoding,
    ContentLength,
    ContentType,
    CSeq,
    Date,
    Event,
    Expires,
    From,
    MaxBreadth,
    MaxForwards,
    MinExpires,
    PAssertedIdentity,
    PPreferredIdentity,
    Path,
    Priority,
    Privacy,
    ProxyAuthenticate,
    ProxyAuthorization,
    ProxyRequire,
    Reason,
    RecordRoute,
    RejectContact,
    Require,
    RetryAfter,
    Route,
    Server,
    ServiceRoute,
    SipEtag,
    SipIfMatch,
    Subject,
    SubscriptionState,
    Supported,
    Timestamp,
    To,
    Unsupported,
    UserAgent,
    Via,
    Warning,
    WwwAuthenticate,
    Other,
}

impl HeaderName {
    /// Long and compact forms, any case. Unknown names are `Other`.
    pub fn parse(name: &[u8]) -> HeaderName {
        let _ = name;
        todo!()
    }
    /// The long form as it is written ("Call-ID"); `""` for `Other`.
    pub fn as_str(self) -> &'static str {
        todo!()
    }
}

/// One header row as it stands in the message, unfolded.
#[derive(Debug, Clone, Copy)]
pub struct Header<'a> {
    /// Known name or `Other`.
    pub name: HeaderName,
    /// The name as it was sent, without white space.
    pub raw_name: &'a [u8],
    /// The value without leading and trailing white space.
    pub value: &'a [u8],
}

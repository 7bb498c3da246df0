//! Where the parts of a typed view stand, so that what every layer asks for is read once.
//!
//! A view borrows the message's bytes and cannot be kept beside them; the places of its parts can. A view is cut from them again without
//! reading.

use std::cell::OnceCell;

use crate::sip::host::{Host, HostPort};
use crate::sip::lexer::Span;
use crate::sip::octets::Octets;
use crate::sip::params::{Grammar, Param};
use crate::sip::{NameAddr, Params, ParseError, Scheme, Uri, Via};

/// The views of one message that have been read.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) uri: Once<UriPlaces>,
    pub(super) from: Once<AddressPlaces>,
    pub(super) to: Once<AddressPlaces>,
    pub(super) top_via: Once<ViaPlaces>,
    pub(super) media_type: OnceCell<MediaType>,
}

/// What the body is said to be.
#[derive(Debug, Clone)]
pub(super) enum MediaType {
    /// In lower case and one piece, here in the message.
    AsWritten(Span),
    /// Written otherwise: in lower case, without white space.
    Lowered(Box<str>),
    /// Not said, or not in the form of one.
    Unknown,
}

/// One view: its element in the message, and the places in that. Empty until it has been read; what cannot be read never comes here.
#[derive(Debug, Clone)]
pub(super) struct Once<P>(OnceCell<(Span, P)>);

impl<P> Default for Once<P> {
    fn default() -> Once<P> {
        Once(OnceCell::new())
    }
}

impl<P: Places> Once<P> {
    /// The view: cut if its places are known, else read.
    pub(super) fn view<'a>(
        &self,
        message: &'a Octets,
        read: impl FnOnce() -> Result<P::View<'a>, ParseError>,
    ) -> Result<P::View<'a>, ParseError> {
        if let Some((element, places)) = self.0.get()
            && let Ok(text) = message.text(*element)
        {
            return Ok(places.cut(text));
        }
        let view = read()?;
        let text = P::text(&view);
        if let Some(places) = P::of(&view, text) {
            // It is empty, else the view had been cut.
            let _ = self.0.set((Span::of_part(message.bytes(), text.as_bytes()), places));
        }
        Ok(view)
    }
}

/// The places of the parts of a view in its text.
pub(super) trait Places: Sized {
    type View<'a>;
    /// As written: what the places are in.
    fn text<'v>(view: &'v Self::View<'_>) -> &'v str;
    /// `None`: such a one is not kept, and read each time.
    fn of(view: &Self::View<'_>, text: &str) -> Option<Self>;
    /// The view, from the same text.
    fn cut<'a>(&self, text: &'a str) -> Self::View<'a>;
}

#[derive(Debug, Clone, Copy)]
pub(super) struct UriPlaces {
    whole: Span,
    scheme: Scheme<'static>,
    user: Option<Span>,
    password: Option<Span>,
    host: HostPlace,
    port: Option<u16>,
    params: Span,
    headers: Option<Span>,
}

impl Places for UriPlaces {
    type View<'a> = Uri<'a>;

    fn text<'v>(uri: &'v Uri<'_>) -> &'v str {
        uri.text
    }

    fn of(uri: &Uri<'_>, text: &str) -> Option<UriPlaces> {
        let scheme = match uri.scheme {
            Scheme::Sip => Scheme::Sip,
            Scheme::Sips => Scheme::Sips,
            Scheme::Tel => Scheme::Tel,
            Scheme::Im => Scheme::Im,
            Scheme::Pres => Scheme::Pres,
            Scheme::Other(_) => return None,
        };
        let place = |part: &str| place_in(text, part);
        Some(UriPlaces {
            whole: place(uri.text),
            scheme,
            user: uri.user.map(place),
            password: uri.password.map(place),
            host: HostPlace::of(uri.host_port.host, text),
            port: uri.host_port.port,
            params: place(uri.params.text),
            headers: uri.headers.map(place),
        })
    }

    fn cut<'a>(&self, text: &'a str) -> Uri<'a> {
        let cut = |place: Span| place.of_text(text);
        Uri {
            text: cut(self.whole),
            scheme: self.scheme,
            user: self.user.map(cut),
            password: self.password.map(cut),
            host_port: HostPort { host: self.host.cut(text), port: self.port },
            params: Params { text: cut(self.params), grammar: Grammar::Uri },
            headers: self.headers.map(cut),
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct AddressPlaces {
    display: Option<Span>,
    uri: UriPlaces,
    params: Span,
    tag: Option<Span>,
}

impl Places for AddressPlaces {
    type View<'a> = NameAddr<'a>;

    fn text<'v>(address: &'v NameAddr<'_>) -> &'v str {
        address.text
    }

    fn of(address: &NameAddr<'_>, text: &str) -> Option<AddressPlaces> {
        let place = |part: &str| place_in(text, part);
        Some(AddressPlaces {
            display: address.display.map(place),
            uri: UriPlaces::of(&address.uri, text)?,
            params: place(address.params.text),
            tag: address.tag.map(place),
        })
    }

    fn cut<'a>(&self, text: &'a str) -> NameAddr<'a> {
        let cut = |place: Span| place.of_text(text);
        NameAddr {
            display: self.display.map(cut),
            uri: self.uri.cut(text),
            params: Params { text: cut(self.params), grammar: Grammar::Header },
            text,
            tag: self.tag.map(cut),
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct ViaPlaces {
    transport: Span,
    host: HostPlace,
    port: Option<u16>,
    params: Span,
    branch: Option<Span>,
    received: Option<ParamPlaces>,
    rport: Option<ParamPlaces>,
}

impl Places for ViaPlaces {
    type View<'a> = Via<'a>;

    fn text<'v>(via: &'v Via<'_>) -> &'v str {
        via.text
    }

    fn of(via: &Via<'_>, text: &str) -> Option<ViaPlaces> {
        let place = |part: &str| place_in(text, part);
        Some(ViaPlaces {
            transport: place(via.transport),
            host: HostPlace::of(via.sent_by.host, text),
            port: via.sent_by.port,
            params: place(via.params.text),
            branch: via.branch.map(place),
            received: via.received.map(|param| ParamPlaces::of(&param, text)),
            rport: via.rport.map(|param| ParamPlaces::of(&param, text)),
        })
    }

    fn cut<'a>(&self, text: &'a str) -> Via<'a> {
        let cut = |place: Span| place.of_text(text);
        Via {
            transport: cut(self.transport),
            sent_by: HostPort { host: self.host.cut(text), port: self.port },
            params: Params { text: cut(self.params), grammar: Grammar::Header },
            text,
            branch: self.branch.map(cut),
            received: self.received.map(|param| param.cut(text)),
            rport: self.rport.map(|param| param.cut(text)),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct ParamPlaces {
    name: Span,
    value: Option<Span>,
    whole: Span,
}

impl ParamPlaces {
    fn of(param: &Param<'_>, text: &str) -> ParamPlaces {
        let place = |part: &str| place_in(text, part);
        ParamPlaces { name: place(param.name), value: param.value.map(place), whole: place(param.whole) }
    }

    fn cut<'a>(&self, text: &'a str) -> Param<'a> {
        let cut = |place: Span| place.of_text(text);
        Param { name: cut(self.name), value: self.value.map(cut), whole: cut(self.whole) }
    }
}

/// A host: an address is its own place.
#[derive(Debug, Clone, Copy)]
enum HostPlace {
    Name(Span),
    Address(Host<'static>),
}

impl HostPlace {
    fn of(host: Host<'_>, text: &str) -> HostPlace {
        match host {
            Host::Name(name) => HostPlace::Name(place_in(text, name)),
            Host::V4(address) => HostPlace::Address(Host::V4(address)),
            Host::V6(address) => HostPlace::Address(Host::V6(address)),
        }
    }

    fn cut<'a>(&self, text: &'a str) -> Host<'a> {
        match *self {
            HostPlace::Name(name) => Host::Name(name.of_text(text)),
            HostPlace::Address(address) => address,
        }
    }
}

fn place_in(text: &str, part: &str) -> Span {
    Span::of_part(text.as_bytes(), part.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is cut is what was read, in all its parts.
    fn both<'a, P: Places>(octets: &'a Octets, read: impl Fn(&'a [u8]) -> Result<P::View<'a>, ParseError>)
    where
        P::View<'a>: std::fmt::Debug,
    {
        let once: Once<P> = Once::default();
        let first = once.view(octets, || read(octets.bytes())).expect("a view");
        let unread =
            || Err(ParseError { what: "read again", offset: 0, status: crate::sip::StatusCode::BAD_REQUEST });
        let second = once.view(octets, unread).expect("a view");
        assert_eq!(format!("{first:?}"), format!("{second:?}"));
    }

    fn octets(text: &str) -> Octets {
        Octets::new(text.to_owned().into())
    }

    #[test]
    fn a_view_that_is_cut_is_the_view_that_was_read() {
        for uri in [
            "sip:a@b",
            "sips:alice:secret@[2001:db8::10]:5070;transport=tcp;lr?subject=a%20b&priority=urgent",
            "sip:b",
            "sip:192.0.2.1:5060;maddr=x",
            "tel:+1-201-555-0123;phone-context=b",
            "pres:a@b",
        ] {
            both::<UriPlaces>(&octets(uri), Uri::parse);
            both::<AddressPlaces>(
                &octets(&format!(" \"J\u{f6}rg \\\" \" <{uri}> ;tag= \"1\";x ")),
                NameAddr::parse,
            );
            both::<AddressPlaces>(&octets(&format!("<{uri}>")), NameAddr::parse);
        }
        both::<AddressPlaces>(&octets("sip:a@b;tag=1"), NameAddr::parse);
        both::<AddressPlaces>(&octets("\"\" <sip:a@b>"), NameAddr::parse);
        for via in [
            "SIP  / 2.0  / TCP     spindle.example.com   ;   branch  =   z9hG4bK9ikj8",
            "SIP/2.0/UDP [2001:db8::9:1] : 6050;received=[2001:db8::9:255];rport=1",
            "SIP/2.0/UDP 192.0.2.4;rport;branch=z9hG4bK1",
            "SIP/2.0/UDP h",
        ] {
            both::<ViaPlaces>(&octets(via), Via::parse);
        }
    }

    #[test]
    fn other_schemes_are_read_each_time() {
        let once: Once<UriPlaces> = Once::default();
        let octets = octets("urn:x");
        for _ in 0..2 {
            let mut reads = 0;
            let uri = once.view(&octets, || {
                reads += 1;
                Uri::parse(octets.bytes())
            });
            assert_eq!((uri.unwrap().as_str(), reads), ("urn:x", 1));
        }
    }
}

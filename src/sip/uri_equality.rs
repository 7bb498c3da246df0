//! When two URIs are the same (RFC 3261 19.1.4, RFC 5954 4.2, RFC 3966 5).

use crate::sip::params::Unescape;
use crate::sip::{Params, Scheme, Uri};

/// Are they equivalent?
pub(super) fn equal(left: &Uri<'_>, right: &Uri<'_>) -> bool {
    match (left.scheme, right.scheme) {
        (Scheme::Other(one), Scheme::Other(two)) => {
            one.eq_ignore_ascii_case(two) && left.text.get(one.len()..) == right.text.get(two.len()..)
        }
        (Scheme::Tel, Scheme::Tel) => numbers_equal(left, right),
        (one, two) => one == two && parts_equal(left, right),
    }
}

fn parts_equal(left: &Uri<'_>, right: &Uri<'_>) -> bool {
    both(left.user, right.user, |a, b| text_equal(a, b, Case::Sensitive))
        && both(left.password, right.password, |a, b| text_equal(a, b, Case::Sensitive))
        && left.host_port.host.equals(&right.host_port.host)
        && left.host_port.port == right.host_port.port
        && params_agree(&left.params, &right.params)
        && params_agree(&right.params, &left.params)
        && both(left.headers, right.headers, headers_equal)
}

/// Parameters that must be in both or in neither; all others count only if they are in both.
const NEVER_IGNORED: [&str; 5] = ["transport", "user", "ttl", "method", "maddr"];

fn params_agree(left: &Params<'_>, right: &Params<'_>) -> bool {
    left.raw().all(|param| match right.raw().find(|other| text_equal(other.name, param.name, Case::Folded)) {
        Some(other) => both(param.value, other.value, |a, b| text_equal(a, b, Case::Folded)),
        None => !NEVER_IGNORED.iter().any(|name| text_equal(name, param.name, Case::Folded)),
    })
}

/// Header components are never ignored; their order does not matter.
fn headers_equal(left: &str, right: &str) -> bool {
    let count = |headers: &str, header: &str| {
        headers.split('&').filter(|other| text_equal(other, header, Case::Folded)).count()
    };
    left.split('&').count() == right.split('&').count()
        && left.split('&').all(|header| count(left, header) == count(right, header))
}

#[derive(Clone, Copy)]
enum Case {
    Sensitive,
    Folded,
}

/// Characters that are not reserved equal their escapes (RFC 3261 19.1.4, RFC 2396 2.2).
fn text_equal(left: &str, right: &str, case: Case) -> bool {
    let normal = |(byte, escaped): (u8, bool)| {
        let byte = match case {
            Case::Sensitive => byte,
            Case::Folded => byte.to_ascii_lowercase(),
        };
        (byte, escaped && b";/?:@&=+$,".contains(&byte))
    };
    Unescape::new(left).map(normal).eq(Unescape::new(right).map(normal))
}

/// RFC 3966 5: visual separators do not count, every parameter does, order does not.
fn numbers_equal(left: &Uri<'_>, right: &Uri<'_>) -> bool {
    fn digits(number: Option<&str>) -> impl Iterator<Item = u8> + '_ {
        let written = number.unwrap_or_default().bytes();
        written.filter(|b| !b"-.()".contains(b)).map(|b| b.to_ascii_lowercase())
    }
    digits(left.user).eq(digits(right.user))
        && left.params.raw().count() == right.params.raw().count()
        && left.params.raw().all(|param| {
            right.params.raw().any(|other| {
                text_equal(other.name, param.name, Case::Folded)
                    && both(param.value, other.value, |a, b| text_equal(a, b, Case::Folded))
            })
        })
}

fn both(left: Option<&str>, right: Option<&str>, equal: impl Fn(&str, &str) -> bool) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => equal(left, right),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(left: &str, right: &str) -> bool {
        let (left, right) = (Uri::parse(left.as_bytes()).unwrap(), Uri::parse(right.as_bytes()).unwrap());
        assert_eq!(left.equals(&right), right.equals(&left), "equality is symmetric");
        left.equals(&right)
    }

    #[test]
    fn the_equivalent_pairs_of_rfc3261_19_1_4() {
        assert!(same("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"));
        assert!(same("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"));
        assert!(same("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"));
        assert!(same(
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com"
        ));
        assert!(same(
            "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=project%20x"
        ));
    }

    #[test]
    fn the_different_pairs_of_rfc3261_19_1_4() {
        assert!(!same("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"));
        assert!(!same("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"));
        assert!(!same("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"));
        assert!(!same("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"));
        assert!(!same("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"));
        assert!(!same("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"));
        assert!(!same("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"));
        assert!(!same("sip:a@b", "sips:a@b"));
        assert!(!same("sip:a@b;maddr=x", "sip:a@b"));
        assert!(!same("sip:a:@b", "sip:a@b"));
    }

    #[test]
    fn reserved_characters_differ_from_their_escapes_rfc3261_19_1_4() {
        assert!(!same("sip:a%2Cb@h", "sip:a,b@h"));
        assert!(same("sip:a%2cb@h", "sip:a%2Cb@h"));
        assert!(!same("sip:value%2541@h", "sip:valueA@h"));
    }

    #[test]
    fn ipv6_compares_by_value_rfc5954_4_2() {
        assert!(same("sip:a@[2001:db8::9:1]", "sip:a@[2001:DB8:0:0:0:0:9:1]"));
        assert!(!same("sip:a@[2001:db8::10:5070]", "sip:a@[2001:db8::10]:5070"));
    }

    #[test]
    fn telephone_numbers_compare_without_visual_separators_rfc3966_5() {
        assert!(same("tel:+1-201-555-0123", "tel:+1(201)5550123"));
        assert!(!same("tel:+12015550123", "tel:12015550123"));
        assert!(!same("tel:+1201;ext=1", "tel:+1201"));
    }

    #[test]
    fn unknown_schemes_compare_as_text() {
        assert!(same("ISBN:1", "isbn:1"));
        assert!(!same("isbn:a", "isbn:A"));
    }
}

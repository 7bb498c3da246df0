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

    /// The rules of the section in its order, each with the nearest case on the other side.
    #[test]
    fn the_rules_of_rfc3261_19_1_4_line_by_line() {
        let rules: &[(bool, &str, &str)] = &[
            // A SIP and a SIPS URI are never equivalent.
            (false, "sip:a@h", "sips:a@h"),
            (true, "SIP:a@h", "sip:a@h"),
            // The userinfo is case-sensitive, with password, and formatted as a telephone number; all else is not.
            (false, "sip:Alice@h", "sip:alice@h"),
            (false, "sip:a:Secret@h", "sip:a:secret@h"),
            (false, "sip:+1201;Ext=5@h", "sip:+1201;ext=5@h"),
            (false, "sip:+1-201@h;user=phone", "sip:+1201@h;user=phone"),
            (true, "sip:a@HOST.Example", "sip:a@host.example"),
            (true, "sip:a@h;Transport=TCP;LR", "sip:a@h;transport=tcp;lr"),
            (true, "sip:a@h;p=Value", "sip:a@h;P=vALUE"),
            // The order of parameters and of headers does not matter.
            (true, "sip:a@h;x=1;transport=tcp;y", "sip:a@h;y;transport=tcp;x=1"),
            (true, "sip:a@h?a=1&b=2", "sip:a@h?b=2&a=1"),
            // What is not reserved equals its escape, in every part; what is reserved does not.
            (true, "sip:%61%6C%69%63%65@h", "sip:alice@h"),
            (true, "sip:a%2d%5f%2E%21%7e%2a%27%28%29@h", "sip:a-_.!~*'()@h"),
            (true, "sip:a@h;%74ransport=t%63p", "sip:a@h;transport=tcp"),
            (true, "sip:a@h?%73ubject=%78", "sip:a@h?subject=x"),
            (false, "sip:a%3Bb@h", "sip:a;b@h"),
            (false, "sip:a%2Fb@h", "sip:a/b@h"),
            (false, "sip:a%3Fb@h", "sip:a?b@h"),
            (false, "sip:a%26b@h", "sip:a&b@h"),
            (false, "sip:a%3Db@h", "sip:a=b@h"),
            (false, "sip:a%2Bb@h", "sip:a+b@h"),
            (false, "sip:a%24b@h", "sip:a$b@h"),
            (true, "sip:%c3%a9@h", "sip:%C3%A9@h"),
            (false, "sip:%00@h", "sip:%00%00@h"),
            // An address that a name resolves to is not that name.
            (false, "sip:a@localhost", "sip:a@127.0.0.1"),
            // User, password, host and port must match, also in whether they are there.
            (false, "sip:h", "sip:a@h"),
            (false, "sip:a:@h", "sip:a@h"),
            (true, "sip:a:@h", "sip:a:@h"),
            (false, "sip:a@h", "sip:a@h:5060"),
            (false, "sips:a@h", "sips:a@h:5061"),
            (true, "sip:a@h:05060", "sip:a@h:5060"),
            // user, ttl, method, maddr (and transport) in one alone: never, not even with the default value.
            (false, "sip:a@h", "sip:a@h;user=ip"),
            (false, "sip:a@h", "sip:a@h;ttl=1"),
            (false, "sip:a@h", "sip:a@h;method=INVITE"),
            (false, "sip:a@h", "sip:a@h;maddr=h"),
            (false, "sip:a@h", "sip:a@h;transport=udp"),
            (false, "sip:a@h", "sip:a@h;%6daddr=h"),
            (true, "sip:a@h;user=ip;ttl=1;method=X;maddr=M", "sip:a@h;maddr=m;METHOD=x;ttl=1;USER=IP"),
            (false, "sip:a@h;ttl=1", "sip:a@h;ttl=2"),
            // All others in one alone are ignored; in both they must match.
            (true, "sip:a@h", "sip:a@h;lr;x=y"),
            (true, "sip:a@h;x", "sip:a@h;y"),
            (false, "sip:a@h;x=1", "sip:a@h;x=2"),
            (false, "sip:a@h;x", "sip:a@h;x=1"),
            // Header components are never ignored.
            (false, "sip:a@h", "sip:a@h?x=y"),
            (false, "sip:a@h?x=y", "sip:a@h?x=z"),
            (false, "sip:a@h?x=y", "sip:a@h?x=y&z=1"),
            (false, "sip:a@h?x=y&x=y&z=1", "sip:a@h?x=y&z=1&z=1"),
        ];
        for (expected, left, right) in rules {
            assert_eq!(same(left, right), *expected, "{left} {right}");
        }
    }

    #[test]
    fn im_and_pres_uris_compare_as_sip_uris_and_with_their_own_kind_alone() {
        assert!(same("pres:%61lice@Example.org", "PRES:alice@example.org"));
        assert!(!same("pres:alice@example.org", "im:alice@example.org"));
        assert!(!same("pres:alice@example.org", "sip:alice@example.org"));
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

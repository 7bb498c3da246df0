//! Addresses of record.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::sync::{Arc, LazyLock};

use crate::model::AsHashed;
use crate::sip::{Host, Uri};

/// A canonical address of record: decoded user part, lower-case domain, no port, no parameters (RFC 3261 10.3 step 5).
///
/// Equal AoRs are one home. Held as `user@domain`; shared, so cloning is cheap. It is hashed once, when it is made: many tables are asked for it.
#[derive(Clone, PartialEq, Eq)]
pub struct Aor {
    /// Keyed at random in each run: strangers choose names, and none that fall together.
    hash: u64,
    name: Arc<str>,
}

/// A table by AoR.
pub type ByAor<V> = HashMap<Aor, V, BuildHasherDefault<AsHashed>>;

impl Aor {
    /// From a decoded user part and a domain. `None` if either is empty, too long (256 bytes) or has control characters.
    pub fn new(user: &str, domain: &str) -> Option<Aor> {
        let has_control = |text: &str| match text.is_ascii() {
            true => text.bytes().any(|byte| byte.is_ascii_control()),
            false => text.chars().any(char::is_control),
        };
        let bad = |text: &str| text.is_empty() || text.len() > MAX_PART || has_control(text);
        if bad(user) || bad(domain) {
            return None;
        }
        let mut text = String::with_capacity(user.len() + 1 + domain.len());
        text.push_str(user);
        text.push('@');
        text.push_str(domain);
        if let Some(domain) = text.get_mut(user.len() + 1..) {
            domain.make_ascii_lowercase();
        }
        let hash = HASHER.hash_one(text.as_str());
        Some(Aor { hash, name: text.into() })
    }
    /// Which of so many places it belongs to; by bits that a [`ByAor`] in that place does not choose by.
    pub fn place(&self, places: usize) -> usize {
        usize::try_from((self.hash >> 32) % places.max(1) as u64).unwrap_or(0)
    }
    /// Is it what [`Aor::new`] makes of this user part and this domain?
    pub fn is(&self, user: &str, domain: &str) -> bool {
        let rest = self.name.strip_prefix(user).and_then(|rest| rest.strip_prefix('@'));
        rest.is_some_and(|own| own.eq_ignore_ascii_case(domain))
    }
    /// From stored text (`user@domain`).
    pub fn from_stored(text: &str) -> Option<Aor> {
        let (user, domain) = text.rsplit_once('@')?;
        Aor::new(user, domain)
    }
    /// From a `sip:`, `sips:`, `im:` or `pres:` URI as it stands: escapes decoded, port and parameters dropped. Whether the domain is
    /// ours is the caller's question.
    pub fn from_uri(uri: &Uri<'_>) -> Option<Aor> {
        let user = uri.user_decoded()?;
        match uri.host_port.host {
            Host::Name(name) => Aor::new(&user, name.trim_end_matches('.')),
            Host::V4(ip) => Aor::new(&user, &ip.to_string()),
            Host::V6(ip) => Aor::new(&user, &format!("[{ip}]")),
        }
    }
    /// The decoded user part.
    pub fn user(&self) -> &str {
        self.name.get(..self.at()).unwrap_or_default()
    }
    /// The domain in lower case.
    pub fn domain(&self) -> &str {
        self.name.get(self.at() + 1..).unwrap_or_default()
    }
    /// Where the last `@` stands: that before the domain.
    fn at(&self) -> usize {
        self.name.bytes().rposition(|byte| byte == b'@').unwrap_or(self.name.len())
    }
    /// `user@domain`, as stored.
    pub fn as_str(&self) -> &str {
        &self.name
    }
    /// `sip:user@domain` with the user part escaped (RFC 3261 25.1).
    pub fn uri(&self) -> String {
        let mut uri = String::with_capacity(self.name.len() + 8);
        uri.push_str("sip:");
        self.push_escaped_user(&mut uri);
        uri.push('@');
        uri.push_str(self.domain());
        uri
    }
    /// The user part as it stands in a URI.
    pub fn escaped_user(&self) -> String {
        let mut user = String::with_capacity(self.name.len());
        self.push_escaped_user(&mut user);
        user
    }
    fn push_escaped_user(&self, uri: &mut String) {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&byte);
        let user = self.user();
        if user.bytes().all(is_plain) {
            return uri.push_str(user);
        }
        for byte in user.bytes() {
            if is_plain(byte) {
                uri.push(char::from(byte));
            } else {
                uri.push_str(&format!("%{byte:02X}"));
            }
        }
    }
}

impl Hash for Aor {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl PartialOrd for Aor {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Aor {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name.cmp(&other.name)
    }
}

impl fmt::Display for Aor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Aor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

const MAX_PART: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_keeps_its_case_and_domain_does_not_rfc3261_10_3() {
        let aor = Aor::new("Alice", "Example.ORG").unwrap();
        assert_eq!(aor.as_str(), "Alice@example.org");
        assert_ne!(aor, Aor::new("alice", "example.org").unwrap());
        assert_eq!(Aor::new("a@b c", "example.org").unwrap().uri(), "sip:a%40b%20c@example.org");
        assert_eq!(Aor::from_stored("a@b c@example.org").unwrap().user(), "a@b c");
        assert!(Aor::new("a\nb", "example.org").is_none());
        assert!(Aor::new("a\u{85}b", "example.org").is_none());
    }

    #[test]
    fn an_aor_is_told_by_its_parts_as_by_itself() {
        let aor = Aor::new("Alice", "Example.ORG").unwrap();
        for (user, domain) in [
            ("Alice", "example.org"),
            ("Alice", "EXAMPLE.org"),
            ("alice", "example.org"),
            ("Alic", "e@example.org"),
            ("", "example.org"),
            ("Alice", ""),
        ] {
            assert_eq!(
                aor.is(user, domain),
                Aor::new(user, domain).as_ref() == Some(&aor),
                "{user} {domain}"
            );
        }
    }

    #[test]
    fn every_place_and_every_key_of_a_table_has_its_share() {
        let all: Vec<_> = (0..4_000).map(|n| Aor::new(&format!("user{n}"), "example.org").unwrap()).collect();
        for places in [1, 16, 64, 1_000] {
            let mut counts = vec![0_usize; places];
            all.iter().for_each(|aor| counts[aor.place(places)] += 1);
            assert!(counts.iter().all(|count| *count <= 4 * 4_000 / places), "{places}: {counts:?}");
        }
        // Those of one place are told apart by the bits that a table looks at first: the lowest.
        let lowest: std::collections::HashSet<_> =
            all.iter().filter(|aor| aor.place(16) == 3).map(|aor| aor.hash & 0xff).collect();
        assert!(lowest.len() > 100, "{}", lowest.len());
        let table: ByAor<usize> = all.iter().cloned().zip(0..).collect();
        assert!(all.iter().zip(0..).all(|(aor, n)| table.get(aor) == Some(&n)));
    }

    fn read(uri: &str) -> Option<String> {
        Aor::from_uri(&Uri::parse(uri.as_bytes()).unwrap()).map(|aor| aor.as_str().to_owned())
    }

    #[test]
    fn spellings_of_one_address_are_one_aor_rfc3261_10_3_step_5() {
        for uri in [
            "sip:alice@example.org",
            "SIPS:%61%6Cic%65@EXAMPLE.org",
            "sip:alice:secret@example.org:5060;transport=tcp;x=y?Subject=z",
            "sip:alice@example.org.",
            // RFC 3859 and 3860: presence and messages of the same user.
            "pres:alice@example.org",
            "im:alice@Example.Org?body=hello",
        ] {
            assert_eq!(read(uri).as_deref(), Some("alice@example.org"), "{uri}");
        }
        assert_eq!(read("sip:a@xn--BCHER-kva.example").as_deref(), Some("a@xn--bcher-kva.example"));
        assert_eq!(read("sip:a@[2001:DB8:0::1]"), read("sip:a@[2001:db8::1]"));
        for other in ["sip:Alice@example.org", "sip:alice%20@example.org", "sip:alice@www.example.org"] {
            assert_ne!(read(other).as_deref(), Some("alice@example.org"), "{other}");
        }
    }

    #[test]
    fn what_names_nobody_is_no_aor() {
        for uri in
            ["sip:example.org", "tel:+12015550123", "isbn:1", "sip:null-%00-null@example.org", "sip:%ff@h"]
        {
            assert_eq!(read(uri), None, "{uri}");
        }
        // A host is ASCII; a U-label stands on the wire as its A-label.
        assert!(Uri::parse("sip:alice@b\u{fc}cher.example".as_bytes()).is_err());
    }
}

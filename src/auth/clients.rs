//! The shipped client table: what some phones cannot do with challenges, as rows of data.

use smallvec::SmallVec;

use crate::sip::digest::Algorithm;

/// One row: how the User-Agent begins, and why the client gets a single MD5 challenge.
struct OnlyMd5 {
    prefix: &'static str,
    /// The observed behaviour that forces the row.
    #[allow(dead_code, reason = "the reason is for the reader")]
    because: &'static str,
}

const ONLY_MD5: &[OnlyMd5] = &[
    OnlyMd5 { prefix: "JsSIP ", because: "reads only the first challenge and gives up if it is not MD5" },
    OnlyMd5 { prefix: "SIP.js/", because: "reads only the first challenge and gives up if it is not MD5" },
    OnlyMd5 {
        prefix: "baresip v0.",
        because: "its library knows no SHA-256 and fails on it in any position",
    },
    OnlyMd5 {
        prefix: "baresip v1.",
        because: "its library knows no SHA-256 and fails on it in any position",
    },
];

/// The algorithms to offer this client, strongest first (RFC 8760 2.3).
pub fn algorithms(user_agent: Option<&str>, configured: &[Algorithm]) -> SmallVec<[Algorithm; 3]> {
    let only_md5 = user_agent.is_some_and(|agent| ONLY_MD5.iter().any(|row| agent.starts_with(row.prefix)));
    if only_md5 && configured.contains(&Algorithm::Md5) {
        return SmallVec::from_slice(&[Algorithm::Md5]);
    }
    SmallVec::from_slice(configured)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Md5];

    #[test]
    fn clients_that_stop_at_sha256_get_one_md5_challenge() {
        for agent in ["JsSIP 3.10.0", "SIP.js/0.21.2 (browser)", "baresip v1.0.0 (x86_64/linux)"] {
            assert_eq!(algorithms(Some(agent), &BOTH).as_slice(), [Algorithm::Md5], "{agent}");
        }
    }

    #[test]
    fn everybody_else_is_offered_the_strongest_first_rfc8760_2_3() {
        for agent in [None, Some("Linphone/5.1"), Some("baresip v3.9.0 (x86_64/linux)")] {
            assert_eq!(algorithms(agent, &BOTH).as_slice(), BOTH, "{agent:?}");
        }
        assert_eq!(algorithms(Some("JsSIP 3"), &[Algorithm::Sha256]).as_slice(), [Algorithm::Sha256]);
    }
}

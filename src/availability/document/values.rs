//! Values that a schema restricts: what does not fit is as if absent.

use crate::model::Timestamp;

/// `date-time` of RFC 3339 5.6 with capital letters (RFC 3863 4.1.7), which is an `xs:dateTime` too.
pub(super) fn is_date_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    let shape = |bytes: &[u8], shape: &[u8]| {
        bytes.len() == shape.len()
            && bytes.iter().zip(shape).all(|(b, s)| if *s == b'0' { b.is_ascii_digit() } else { b == s })
    };
    let number =
        |at: usize| text.get(at..at.saturating_add(2)).and_then(|n| n.parse::<u32>().ok()).unwrap_or(99);
    let Some((main, rest)) = bytes.split_at_checked(19) else { return false };
    let year: u32 = text.get(..4).and_then(|y| y.parse().ok()).unwrap_or(0);
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match number(5) {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    let zone = match rest {
        [b'.', fraction @ ..] => {
            let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
            if digits == 0 || digits > 9 {
                return false;
            }
            fraction.get(digits..).unwrap_or_default()
        }
        _ => rest,
    };
    let zone_at = text.len().saturating_sub(zone.len());
    let zone_ok = match zone {
        [b'Z'] => true,
        [b'+' | b'-', offset @ ..] => {
            shape(offset, b"00:00") && number(zone_at + 1) <= 13 && number(zone_at + 4) <= 59
        }
        _ => false,
    };
    shape(main, b"0000-00-00T00:00:00")
        && year >= 1
        && (1..=days).contains(&number(8))
        && number(11) <= 23
        && number(14) <= 59
        && number(17) <= 59
        && zone_ok
}

/// The instant that a [`is_date_time`] names, to the millisecond.
pub(in crate::availability) fn date_time(text: &str) -> Option<Timestamp> {
    if !is_date_time(text) {
        return None;
    }
    let number = |at: usize, len: usize| text.get(at..at.checked_add(len)?)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let seconds = number(11, 2)? * 3_600 + number(14, 2)? * 60 + number(17, 2)?;
    let rest = text.get(19..)?;
    let zone_at = rest.find(['Z', '+', '-'])?;
    let digits = rest.get(..zone_at)?.trim_start_matches('.');
    let ms: i64 = format!("{digits:0<3}").get(..3)?.parse().ok()?;
    let zone = match rest.get(zone_at..)?.split_at_checked(1)? {
        ("Z", _) => 0,
        (sign, offset) => {
            let (hours, minutes) = offset.split_once(':')?;
            let offset = hours.parse::<i64>().ok()? * 3_600 + minutes.parse::<i64>().ok()? * 60;
            if sign == "-" { -offset } else { offset }
        }
    };
    // Days since 1970-01-01 over 400-year eras that begin on 1 March.
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days =
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    Some(Timestamp((days * 86_400 + seconds - zone) * 1_000 + ms))
}

/// 0 to 1 with at most three decimals (RFC 3863 4.1.5).
pub(super) fn is_priority(text: &str) -> bool {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = !decimals.is_empty() && decimals.len() <= 3 && decimals.bytes().all(|b| b.is_ascii_digit());
    digits && (whole == "0" || whole == "1" && decimals.bytes().all(|b| b == b'0'))
}

/// `xs:language`.
pub(super) fn is_language(text: &str) -> bool {
    let part = |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric());
    text.split('-').all(part)
        && text.split('-').next().is_some_and(|p| p.bytes().all(|b| b.is_ascii_alphabetic()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_have_at_most_three_decimals_rfc3863_4_1_5() {
        for good in ["0", "0.021", "0.5", "1.00", "1"] {
            assert!(is_priority(good), "{good}");
        }
        for bad in ["", "2", "0.1234", "1.1", "-0", ".5", "0.", "1e0", "0,5"] {
            assert!(!is_priority(bad), "{bad}");
        }
    }

    #[test]
    fn a_date_time_names_an_instant_rfc3339_5_6() {
        for (text, at) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-20T23:29:15Z", 1_795_217_355_000),
            ("2026-11-20T23:29:15.1239Z", 1_795_217_355_123),
            ("2026-11-21T00:29:15.5+01:00", 1_795_217_355_500),
            ("2000-02-28T21:00:00-03:00", 951_782_400_000),
            ("1969-12-31T23:59:59Z", -1_000),
        ] {
            assert_eq!(date_time(text), Some(Timestamp(at)), "{text}");
        }
        assert_eq!(date_time("2026-11-20T23:29:15"), None, "of which zone?");
    }

    #[test]
    fn timestamps_are_rfc3339_in_capitals_rfc3863_4_1_7() {
        for good in ["2026-11-20T23:29:15Z", "2024-02-29T00:00:00.123+05:30", "2026-11-20t23:29:15z"] {
            assert!(is_date_time(&good.to_ascii_uppercase()), "{good}");
        }
        for bad in [
            "",
            "2026-11-20",
            "2026-11-20T23:29:15",
            "2026-13-20T23:29:15Z",
            "2025-02-29T00:00:00Z",
            "2026-11-20T24:29:15Z",
            "2026-11-20T23:29:15.Z",
            "2026-11-20T23:29:15+25:00",
            "0000-01-01T00:00:00Z",
            "2026-11-20T23:29:15Zé",
            "2026-11-2é",
        ] {
            assert!(!is_date_time(bad), "{bad}");
        }
    }
}

//! Wall time.

use std::time::Duration;

/// Milliseconds since 1970-01-01T00:00:00Z. Always an argument, never read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This instant plus a duration, saturating.
    pub fn after(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }
    /// This instant plus seconds, saturating.
    pub fn after_secs(self, secs: u32) -> Timestamp {
        Timestamp(self.0.saturating_add(i64::from(secs) * 1000))
    }
    /// Whole seconds from `now` until this instant, rounded up; 0 if it has passed.
    pub fn secs_from(self, now: Timestamp) -> u32 {
        let ms = self.0.saturating_sub(now.0).max(0);
        u32::try_from(ms.saturating_add(999) / 1000).unwrap_or(u32::MAX)
    }
    /// Time from `now` until this instant; zero if it has passed.
    pub fn duration_from(self, now: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(now.0)).unwrap_or(0))
    }
    /// `2026-11-20T23:29:15Z` (RFC 3339, whole seconds).
    pub fn rfc3339(self) -> String {
        let (year, month, day, hour, minute, second, _) = self.civil();
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
    /// `2026-11-20T23:29:15.123Z` (RFC 3339, milliseconds).
    pub fn rfc3339_ms(self) -> String {
        let (year, month, day, hour, minute, second, ms) = self.civil();
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
    }
    /// `Fri, 20 Nov 2026 23:29:15 GMT` (SIP-date, RFC 3261 20.17).
    pub fn sip_date(self) -> String {
        let (year, month, day, hour, minute, second, _) = self.civil();
        let weekday = (self.0.div_euclid(86_400_000) + 4).rem_euclid(7);
        let weekday =
            ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"][usize::try_from(weekday).unwrap_or(0)];
        let month = MONTHS[usize::try_from(month - 1).unwrap_or(0)];
        // Written by hand: it stands in every answer of the registrar.
        let mut date = String::with_capacity(29);
        let pair = |date: &mut String, number: i64| {
            for digit in [number / 10 % 10, number % 10] {
                date.push(u32::try_from(digit).ok().and_then(|d| char::from_digit(d, 10)).unwrap_or('0'));
            }
        };
        date.push_str(weekday);
        date.push_str(", ");
        pair(&mut date, day);
        for text in [" ", month, " "] {
            date.push_str(text);
        }
        pair(&mut date, year / 100);
        pair(&mut date, year % 100);
        for (before, number) in [(' ', hour), (':', minute), (':', second)] {
            date.push(before);
            pair(&mut date, number);
        }
        date.push_str(" GMT");
        date
    }

    /// Reads what [`Timestamp::sip_date`] writes; `None` for anything else, other zones than GMT among it.
    pub fn from_sip_date(text: &str) -> Option<Timestamp> {
        let (weekday, rest) = text.trim().split_once(", ")?;
        let mut words = rest.split(' ');
        let mut word = || words.next();
        let (day, month, year, time, zone) = (word()?, word()?, word()?, word()?, word()?);
        let month = MONTHS.iter().position(|name| name.eq_ignore_ascii_case(month))?;
        let number = |text: &str, digits: usize| -> Option<i64> {
            (text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit()))
                .then(|| text.parse().ok())
                .flatten()
        };
        let (day, year) = (number(day, 2)?, number(year, 4)?);
        let mut parts = time.split(':').map(|part| number(part, 2));
        let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
        let is_date = weekday.len() == 3 && zone.eq_ignore_ascii_case("GMT");
        let is_over = parts.next().is_none() && words.next().is_none();
        if !is_date || !is_over || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        // Civil date to days, over 400-year eras that begin on 1 March.
        let month = i64::try_from(month).ok()? + 1;
        let year = if month <= 2 { year - 1 } else { year };
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let month_from_march = (month + 9) % 12;
        let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        Some(Timestamp((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000))
    }

    /// Year, month, day, hour, minute, second, millisecond of the proleptic Gregorian calendar, UTC.
    fn civil(self) -> (i64, i64, i64, i64, i64, i64, i64) {
        let days = self.0.div_euclid(86_400_000);
        let ms = self.0.rem_euclid(86_400_000);
        // Days to civil date over 400-year eras that begin on 1 March.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        (year, month, day, ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000)
    }
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_in_gmt_rfc3261_20_17() {
        let at = Timestamp(1_795_217_355_123);
        assert_eq!(at.rfc3339(), "2026-11-20T23:29:15Z");
        assert_eq!(at.rfc3339_ms(), "2026-11-20T23:29:15.123Z");
        assert_eq!(at.sip_date(), "Fri, 20 Nov 2026 23:29:15 GMT");
        assert_eq!(Timestamp(951_782_400_000).rfc3339(), "2000-02-29T00:00:00Z");
    }

    #[test]
    fn a_date_is_read_as_it_is_written_and_nothing_else_is_a_date_rfc3261_20_17() {
        for at in [0, 951_782_400_000, 1_795_217_355_000, 4_102_444_799_000, 68_169_599_000] {
            assert_eq!(Timestamp::from_sip_date(&Timestamp(at).sip_date()), Some(Timestamp(at)));
        }
        // The example of 20.17.
        assert_eq!(
            Timestamp::from_sip_date("Sat, 13 Nov 2010 23:29:00 GMT"),
            Some(Timestamp(1_289_690_940_000))
        );
        for wrong in [
            "",
            "now",
            "Sat, 13 Nov 2010 23:29:00 EST",
            "Sat, 13 Nov 2010 23:29:00",
            "Sat, 13 Nov 2010 23:29:00 GMT x",
            "Sat, 13 Nov 2010 23:29:00:00 GMT",
            "Sat, 13 Nov 2010 24:29:00 GMT",
            "Sat, 32 Nov 2010 23:29:00 GMT",
            "Sat, +3 Nov 2010 23:29:00 GMT",
            "Sat, 13 Nov 10 23:29:00 GMT",
            "13 Nov 2010 23:29:00 GMT",
        ] {
            assert_eq!(Timestamp::from_sip_date(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn remaining_seconds_round_up_and_never_go_negative() {
        assert_eq!(Timestamp(1_001).secs_from(Timestamp(0)), 2);
        assert_eq!(Timestamp(0).secs_from(Timestamp(5_000)), 0);
    }
}

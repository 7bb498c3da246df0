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
        let month = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
            [usize::try_from(month - 1).unwrap_or(0)];
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
    fn remaining_seconds_round_up_and_never_go_negative() {
        assert_eq!(Timestamp(1_001).secs_from(Timestamp(0)), 2);
        assert_eq!(Timestamp(0).secs_from(Timestamp(5_000)), 0);
    }
}

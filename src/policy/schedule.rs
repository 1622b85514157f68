//! Hours of the week in a time zone. The time is a parameter.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, FixedOffset, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

/// Minutes of a day.
const DAY: u32 = 24 * 60;
/// Longest look ahead, seconds: what starts longer than that is asked for a day early.
const LONGEST_LEAD_SECONDS: f64 = 86_400.0;

/// Hours of the week, by the clocks of a time zone: where these are put forward or back, so are the hours.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    pub name: String,
    /// Monday first: whether it begins on that day.
    pub days: [bool; 7],
    /// Minute of the day at which it begins, 0..1440.
    pub from_minute: u32,
    /// Minute at which it ends, 1..=1440; on the next day when it is not after `from_minute`.
    pub until_minute: u32,
    pub zone: Zone,
}

/// How clocks go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Zone {
    /// Always this far from UTC.
    Fixed(FixedOffset),
    /// As the IANA time zone database says.
    Named(Tz),
}

impl Schedule {
    /// Whether it is on at this Unix time, seconds.
    pub fn is_on(&self, at_seconds: f64) -> bool {
        let Some((day, minute)) = self.zone.clock(at_seconds) else { return false };
        let (today, yesterday) = (self.days[day], self.days[(day + 6) % 7]);
        let (from, until) = (self.from_minute, self.until_minute);
        match from < until {
            true => today && (from..until).contains(&minute),
            false => (today && minute >= from) || (yesterday && minute < until),
        }
    }

    /// Whether it is on at any time within `lead_seconds` from now. It begins and ends at whole minutes, so that a
    /// look at every minute misses nothing.
    pub fn is_on_within(&self, now_seconds: f64, lead_seconds: f64) -> bool {
        let lead = lead_seconds.clamp(0.0, LONGEST_LEAD_SECONDS);
        let minutes = (lead / 60.0).floor() as u32;
        (0..=minutes).map(|m| 60.0 * f64::from(m)).chain([lead]).any(|ahead| self.is_on(now_seconds + ahead))
    }
}

impl Zone {
    /// Names of the IANA database.
    pub fn names() -> impl Iterator<Item = &'static str> {
        chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name())
    }

    /// Day of the week, Monday first, and minute of the day. `None` for a time beyond all calendars.
    fn clock(self, at_seconds: f64) -> Option<(usize, u32)> {
        let at = DateTime::<Utc>::from_timestamp(at_seconds.floor() as i64, 0)?;
        Some(match self {
            Self::Fixed(zone) => read(&at.with_timezone(&zone)),
            Self::Named(zone) => read(&at.with_timezone(&zone)),
        })
    }
}

impl fmt::Display for Schedule {
    /// `mon tue wed thu fri from 08:00 until 20:00 Europe/Berlin`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days.contains(&false) {
            let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
            for (name, _) in names.iter().zip(self.days).filter(|(_, on)| *on) {
                write!(f, "{name} ")?;
            }
        } else {
            write!(f, "every day ")?;
        }
        let time = |minute: u32| format!("{:02}:{:02}", minute / 60, minute % 60);
        write!(f, "from {} until {} ", time(self.from_minute), time(self.until_minute))?;
        match self.zone {
            Zone::Fixed(offset) => write!(f, "{offset}"),
            Zone::Named(zone) => write!(f, "{zone}"),
        }
    }
}

fn read<Z: TimeZone>(local: &DateTime<Z>) -> (usize, u32) {
    (local.weekday().num_days_from_monday() as usize, local.hour() * 60 + local.minute())
}

impl FromStr for Zone {
    type Err = ();

    /// `Europe/Berlin`, `UTC`, `+02:00`.
    fn from_str(text: &str) -> Result<Self, ()> {
        if let Ok(zone) = text.parse::<Tz>() {
            return Ok(Self::Named(zone));
        }
        let sign = match text.as_bytes().first() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Err(()),
        };
        let minutes = minute_of_day(&text[1..]).ok_or(())?;
        FixedOffset::east_opt(sign * 60 * i32::try_from(minutes).map_err(drop)?).map(Self::Fixed).ok_or(())
    }
}

/// Minute of the day of `08:00`; `24:00` is the end of it.
pub fn minute_of_day(text: &str) -> Option<u32> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |digits: &str, most: u32| {
        let whole = (1..=2).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse::<u32>().ok().filter(|n| whole && *n <= most)
    };
    let minutes = number(minutes, 59).filter(|_| minutes.len() == 2)?;
    Some(number(hours, 24)? * 60 + minutes).filter(|minute| *minute <= DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> f64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp() as f64
    }

    fn schedule(days: [bool; 7], from: &str, until: &str, zone: &str) -> Schedule {
        let minute = |text| minute_of_day(text).unwrap();
        let zone = zone.parse().unwrap();
        Schedule { name: "s".into(), days, from_minute: minute(from), until_minute: minute(until), zone }
    }

    const WORK: [bool; 7] = [true, true, true, true, true, false, false];

    #[test]
    fn hours_follow_the_clocks_of_the_zone_through_the_year() {
        let office = schedule(WORK, "08:00", "20:00", "Europe/Berlin");
        // Winter: an hour before UTC, summer: two.
        assert!(!office.is_on(at("2026-01-12T06:59:59Z")) && office.is_on(at("2026-01-12T07:00:00Z")));
        assert!(!office.is_on(at("2026-07-13T05:59:59Z")) && office.is_on(at("2026-07-13T06:00:00Z")));
        assert!(office.is_on(at("2026-07-13T17:59:59Z")) && !office.is_on(at("2026-07-13T18:00:00Z")));
        assert!(!office.is_on(at("2026-07-11T10:00:00Z")), "a Saturday");
        let fixed = schedule(WORK, "08:00", "20:00", "-05:30");
        assert!(!fixed.is_on(at("2026-07-13T13:29:59Z")) && fixed.is_on(at("2026-07-13T13:30:00Z")));
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins() {
        let friday = schedule([false, false, false, false, true, false, false], "22:00", "06:00", "UTC");
        assert!(friday.is_on(at("2026-07-10T22:00:00Z")) && friday.is_on(at("2026-07-11T05:59:59Z")));
        assert!(!friday.is_on(at("2026-07-11T06:00:00Z")) && !friday.is_on(at("2026-07-10T05:00:00Z")));
        assert!(!friday.is_on(at("2026-07-11T22:00:00Z")));
        let whole = schedule([true; 7], "00:00", "24:00", "UTC");
        assert!((0..7 * 24).all(|h| whole.is_on(at("2026-07-10T00:00:00Z") + 3600.0 * f64::from(h))));
    }

    #[test]
    fn what_starts_slowly_is_asked_for_early() {
        let minute = schedule([true; 7], "08:00", "08:01", "UTC");
        let eight = at("2026-07-10T08:00:00Z");
        assert!(minute.is_on_within(eight - 600.0, 600.0) && !minute.is_on_within(eight - 600.0, 599.0));
        assert!(minute.is_on_within(eight - 3599.0, 7200.0), "one minute within two hours");
        assert!(!minute.is_on_within(eight + 60.0, 3600.0));
    }

    #[test]
    fn times_and_zones() {
        assert_eq!(minute_of_day("08:30"), Some(510));
        assert_eq!((minute_of_day("0:00"), minute_of_day("24:00")), (Some(0), Some(1440)));
        for wrong in ["", "8", "8:5", "25:00", "24:01", "08:60", "+8:00", "08:00:00", "a:00", "-1:00"] {
            assert_eq!(minute_of_day(wrong), None, "{wrong}");
        }
        for (zone, right) in [
            ("UTC", true),
            ("+05:45", true),
            ("-24:00", false),
            ("Europe/Berlim", false),
            ("02:00", false),
            ("", false),
        ] {
            assert_eq!(zone.parse::<Zone>().is_ok(), right, "{zone}");
        }
    }
}

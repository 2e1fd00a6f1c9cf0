//! Times as people write them, and the zone in which they mean them.

use chrono::{DateTime, FixedOffset, Local, LocalResult, NaiveDateTime, TimeZone, Utc};

use crate::Error;
use crate::naming::plain;

/// The zone of the machine that took the backups.
///
/// `consistent_point_datetime` and stop times without a zone are local times of that machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// The zone of the machine that `dbrecover` runs on.
    Local,
    /// A fixed offset, `+HH:MM`.
    Fixed(FixedOffset),
    /// A zone of the IANA database.
    Named(chrono_tz::Tz),
}

impl Zone {
    /// Reads `local`, `UTC`, `+08:00` or an IANA name such as `Asia/Shanghai`.
    ///
    /// # Errors
    ///
    /// [`Error::BadTime`] if it is none of them.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.eq_ignore_ascii_case("local") {
            return Ok(Self::Local);
        }
        if let Ok(offset) = text.parse::<FixedOffset>() {
            return Ok(Self::Fixed(offset));
        }
        text.parse::<chrono_tz::Tz>().map(Self::Named).map_err(|_| Error::BadTime {
            text: text.to_owned(),
            reason: "not a time zone: local, +HH:MM or an IANA name such as Europe/Paris".to_owned(),
        })
    }

    /// The instant that `local` means in this zone.
    ///
    /// # Errors
    ///
    /// [`Error::BadTime`] for a local time that exists twice or not at all, at a change of daylight saving.
    pub fn instant(self, local: NaiveDateTime) -> Result<DateTime<Utc>, Error> {
        let reason = match self.found(local) {
            LocalResult::Single(instant) => return Ok(instant),
            LocalResult::Ambiguous(first, second) => format!(
                "the clocks were set back: it was that time at {} and again at {}",
                first.to_rfc3339(),
                second.to_rfc3339()
            ),
            LocalResult::None => "the clocks were set forward: that time never was".to_owned(),
        };
        Err(Error::BadTime { text: local.to_string(), reason })
    }

    /// Every instant that `local` can mean in this zone: none, one, or the earlier and the later of two.
    pub(crate) fn instants(self, local: NaiveDateTime) -> Vec<DateTime<Utc>> {
        match self.found(local) {
            LocalResult::None => Vec::new(),
            LocalResult::Single(instant) => vec![instant],
            LocalResult::Ambiguous(first, second) => vec![first, second],
        }
    }

    fn found(self, local: NaiveDateTime) -> LocalResult<DateTime<Utc>> {
        match self {
            Self::Local => Local.from_local_datetime(&local).map(|t| t.to_utc()),
            Self::Fixed(zone) => zone.from_local_datetime(&local).map(|t| t.to_utc()),
            Self::Named(zone) => zone.from_local_datetime(&local).map(|t| t.to_utc()),
        }
    }

    /// The local time of `instant` in this zone.
    pub fn local(self, instant: DateTime<Utc>) -> NaiveDateTime {
        match self {
            Self::Local => instant.with_timezone(&Local).naive_local(),
            Self::Fixed(zone) => instant.with_timezone(&zone).naive_local(),
            Self::Named(zone) => instant.with_timezone(&zone).naive_local(),
        }
    }

    /// The local time of `instant` in this zone, with the offset where clocks that were set back showed it twice.
    pub fn shown(self, instant: DateTime<Utc>) -> String {
        let local = self.local(instant);
        if self.instants(local).len() < 2 {
            return local.to_string();
        }
        let east = (local - instant.naive_utc()).num_minutes();
        let sign = if east < 0 { '-' } else { '+' };
        format!("{local}{sign}{:02}:{:02}", east.abs() / 60, east.abs() % 60)
    }

    /// The zone as programs take it in the variable `TZ`; `None` when it has no name, and a machine's own is meant.
    pub fn variable(self) -> Option<String> {
        match self {
            Self::Named(zone) => Some(zone.name().to_owned()),
            Self::Fixed(offset) => Some(posix(offset)),
            Self::Local => local_name(),
        }
    }
}

/// A fixed offset as POSIX writes it, where the sign says how far UTC is: `<+0545>-05:45`.
fn posix(offset: FixedOffset) -> String {
    let (east, minutes) = (offset.local_minus_utc() >= 0, offset.local_minus_utc().abs() / 60);
    let (name, sign) = if east { ('+', '-') } else { ('-', '+') };
    let (hours, minutes) = (minutes / 60, minutes % 60);
    format!("<{name}{hours:02}{minutes:02}>{sign}{hours:02}:{minutes:02}")
}

/// Whether a `TZ` says what its offset is, as POSIX has it, and not only where that stands: three letters or more, or
/// anything in `<>`, and a number.
pub(crate) fn states_its_offset(variable: &str) -> bool {
    let offset = match variable.strip_prefix('<') {
        Some(quoted) => quoted.split_once('>').map(|(_, offset)| offset),
        None => {
            let offset = variable.trim_start_matches(|c: char| c.is_ascii_alphabetic());
            (variable.len() - offset.len() >= 3).then_some(offset)
        }
    };
    offset
        .is_some_and(|offset| offset.trim_start_matches(['+', '-']).starts_with(|c: char| c.is_ascii_digit()))
}

/// What this machine calls its zone: `TZ`, else where `/etc/localtime` points to.
fn local_name() -> Option<String> {
    if let Some(name) = std::env::var("TZ").ok().filter(|name| !name.is_empty()) {
        return Some(name);
    }
    let link = std::fs::read_link("/etc/localtime").ok()?;
    let (_, name) = link.to_str()?.split_once("zoneinfo/")?;
    name.parse::<chrono_tz::Tz>().ok().map(|zone| zone.name().to_owned())
}

/// A stop time: an instant, and what the backup machine's clock showed then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopTime {
    /// As the user wrote it.
    pub text: String,
    /// The local time of the backup machine.
    pub local: NaiveDateTime,
    /// The instant itself.
    pub instant: DateTime<Utc>,
}

impl StopTime {
    /// Reads `YYYY-MM-DD HH:MM:SS[.ffffff]` as a time of `zone`, or an exact RFC 3339 time.
    ///
    /// # Errors
    ///
    /// [`Error::BadTime`] if it is neither, or a local time that exists twice or not at all.
    pub fn parse(text: &str, zone: Zone) -> Result<Self, Error> {
        let text = text.trim();
        let bad = |reason: &str| Error::BadTime { text: text.to_owned(), reason: reason.to_owned() };
        // chrono takes signs, blanks and a 60th second that `YYYY-MM-DD HH:MM:SS` does not have.
        if !text.starts_with(|c: char| c.is_ascii_digit()) || text.contains(":60") {
            return Err(bad("write it as YYYY-MM-DD HH:MM:SS, or as RFC 3339 with a zone"));
        }
        if let Ok(exact) = DateTime::parse_from_rfc3339(text) {
            let instant = exact.to_utc();
            return Ok(Self { text: text.to_owned(), local: zone.local(instant), instant });
        }
        let plain = text.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | ':' | ' ' | '.'));
        match NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f") {
            Ok(local) if plain => Ok(Self { text: text.to_owned(), local, instant: zone.instant(local)? }),
            _ => Err(bad("write it as YYYY-MM-DD HH:MM:SS, or as RFC 3339 with a zone")),
        }
    }

    /// An instant that was not written by a user.
    pub(crate) fn at(instant: DateTime<Utc>, zone: Zone) -> Self {
        let text = instant.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
        Self { text, local: zone.local(instant), instant }
    }

    /// The name of the work directory: everything but letters, digits and `.` as `_`.
    pub fn directory_name(&self) -> String {
        plain(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paris() -> Zone {
        Zone::parse("Europe/Paris").unwrap()
    }

    #[test]
    fn a_time_without_zone_is_a_time_of_the_backup_machine() {
        let stop = StopTime::parse("2021-01-28 12:16:00", paris()).unwrap();
        assert_eq!(stop.instant.to_rfc3339(), "2021-01-28T11:16:00+00:00");
        assert_eq!(stop.directory_name(), "2021_01_28_12_16_00");
    }

    #[test]
    fn programs_are_told_the_zone_in_their_own_words() {
        let variable = |text: &str| Zone::parse(text).unwrap().variable();
        assert_eq!(variable("Europe/Paris").as_deref(), Some("Europe/Paris"));
        assert_eq!(variable("+05:45").as_deref(), Some("<+0545>-05:45"));
        assert_eq!(variable("-03:30").as_deref(), Some("<-0330>+03:30"));
        assert_eq!(variable("+00:00").as_deref(), Some("<+0000>-00:00"));
    }

    #[test]
    fn an_rfc_3339_time_is_exact_whatever_the_zone() {
        let stop = StopTime::parse("2021-01-28T12:16:00.250+08:00", paris()).unwrap();
        assert_eq!(stop.instant.to_rfc3339(), "2021-01-28T04:16:00.250+00:00");
        assert_eq!(stop.local.to_string(), "2021-01-28 05:16:00.250");
    }

    #[test]
    fn a_local_time_that_exists_twice_or_never_is_refused() {
        for text in ["2021-10-31 02:30:00", "2021-03-28 02:30:00"] {
            assert!(matches!(StopTime::parse(text, paris()), Err(Error::BadTime { .. })), "{text}");
        }
    }

    #[test]
    fn what_strptime_refuses_is_refused() {
        for text in
            ["", "2021-01-28", "2021-01-28 12:16", "+2021-01-28 12:16:00", "2021-01-28 12:16:60", "yesterday"]
        {
            assert!(matches!(StopTime::parse(text, Zone::Local), Err(Error::BadTime { .. })), "{text:?}");
        }
    }
}

//! Consistent points as instants.
//!
//! A store says when a consistent point was taken in local time of the backup machine, and that time exists twice when
//! the clocks are set back. When the backup was begun its name says in UTC. The two together give the instant, and
//! show a `time-zone` that cannot be the backup machine's: east of it a backup ends before it begins, west of it after
//! the file was written that says so, or after the backup that is laid upon it was begun.

use std::collections::BTreeMap;

use backup_catalog::{Backup, BackupName, Catalog, Kind, Selection};
use chrono::{DateTime, TimeDelta, Utc};

use crate::Error;
use crate::time::{StopTime, Zone};

/// How far the clocks of a store's files may be apart before a zone is called wrong. Zones differ by 15 minutes at
/// least.
const SLACK: TimeDelta = TimeDelta::minutes(5);

/// The instants at which one consistent point can have been taken, earliest first.
type Instants = Vec<DateTime<Utc>>;

/// When the files that say a backup's consistent point were last written. A copy may be younger than the backup.
pub(crate) type Written = BTreeMap<BackupName, DateTime<Utc>>;

/// The moment that a consistent point cannot be behind.
#[derive(Debug, Clone)]
enum Bound {
    /// The file that says it was written.
    Written(DateTime<Utc>),
    /// The incremental that is laid upon the backup was begun.
    Next(BackupName),
}

impl Bound {
    fn instant(&self) -> DateTime<Utc> {
        match self {
            Self::Written(at) => *at,
            Self::Next(name) => name.start().and_utc(),
        }
    }

    /// The latest that a consistent point can be: the backup machine's clock is the same for the next backup, the store's
    /// is another one.
    fn latest(&self) -> DateTime<Utc> {
        self.instant() + if matches!(self, Self::Written(_)) { SLACK } else { TimeDelta::zero() }
    }
}

/// The consistent points of a store.
#[derive(Debug)]
pub(crate) struct Points {
    zone: Zone,
    instants: BTreeMap<BackupName, Instants>,
    bounds: BTreeMap<BackupName, Bound>,
}

impl Points {
    /// Works them out; `zone` is the backup machine's.
    pub(crate) fn of(catalog: &Catalog, zone: Zone, written: &Written) -> Self {
        // Each name is read once: stores hold thousands of backups.
        let begins = sorted(catalog.listed().iter().map(|listed| (listed.name.start().and_utc(), ())));
        let whole = sorted(catalog.backups().map(|backup| (backup.name.start().and_utc(), backup)));
        let mut points = Self { zone, instants: BTreeMap::new(), bounds: BTreeMap::new() };
        for &(begun, backup) in &whole {
            let next = behind(&begins, begun).map(|(next, ())| *next);
            let mut found = zone.instants(backup.consistent_point);
            // A backup has its consistent point after its begin, and before the next one is begun.
            found.retain(|instant| *instant + SLACK >= begun);
            let laid_upon_it = behind(&whole, begun).map(|(_, next)| *next);
            if let Some(bound) = bound(backup, begun, laid_upon_it, written) {
                found.retain(|instant| *instant <= bound.latest());
                points.bounds.insert(backup.name.clone(), bound);
            }
            if found.len() > 1 {
                found.retain(|instant| next.is_none_or(|next| *instant <= next));
            }
            points.instants.insert(backup.name.clone(), found);
        }
        points
    }

    fn first(&self, backup: &Backup) -> DateTime<Utc> {
        let local = backup.consistent_point;
        let found = self.instants.get(&backup.name).and_then(|found| found.first().copied());
        // One that cannot be is still put in its place, to be named when it is needed.
        found.or_else(|| self.zone.instants(local).first().copied()).unwrap_or_else(|| local.and_utc())
    }

    /// The catalog with its consistent points in UTC.
    pub(crate) fn in_utc(&self, catalog: &Catalog) -> Catalog {
        catalog.on_clock(|backup| self.first(backup).naive_utc())
    }

    /// Whether the backups that were selected for `stop` are on the sides of it that they seem to be.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the zone cannot be that of the backup machine, [`Error::BadTime`] if nothing tells which of
    /// two instants a consistent point was.
    pub(crate) fn check(
        &self,
        catalog: &Catalog,
        selection: &Selection,
        stop: &StopTime,
    ) -> Result<(), Error> {
        for name in selection.last().into_iter().chain(&selection.next) {
            let backup = catalog.get(name)?;
            let local = backup.consistent_point;
            match self.instants.get(name).map(Vec::as_slice) {
                Some([_]) => {}
                Some([first, .., last]) => {
                    if *first <= stop.instant && stop.instant <= *last {
                        let (first, last) = (first.to_rfc3339(), last.to_rfc3339());
                        let reason = format!(
                            "the clocks were set back, and nothing says whether the consistent point of {name}, {local}, \
                             was at {first} or at {last}"
                        );
                        return Err(Error::BadTime { text: stop.text.clone(), reason });
                    }
                }
                _ => return Err(self.wrong_zone(backup)),
            }
        }
        Ok(())
    }

    fn wrong_zone(&self, backup: &Backup) -> Error {
        let (name, local, begun) = (&backup.name, backup.consistent_point, backup.name.start().and_utc());
        let meant = match self.zone.instants(local).first() {
            Some(instant) => format!("is {} in this zone", instant.to_rfc3339()),
            None => "never was in this zone".to_owned(),
        };
        let until = match self.bounds.get(name) {
            Some(Bound::Written(at)) => {
                format!(", and the file that says so was written at {}", at.to_rfc3339())
            }
            Some(bound @ Bound::Next(next)) => {
                format!(", and {next}, which is laid upon it, at {}", bound.instant().to_rfc3339())
            }
            None => String::new(),
        };
        Error::Config {
            place: "configuration".to_owned(),
            section: "misc",
            key: "time-zone",
            reason: format!(
                "must be the zone of the machine that took the backups: the consistent point of {name}, {local}, \
                 {meant}, and the backup was begun at {}{until}",
                begun.to_rfc3339()
            ),
        }
    }
}

/// By time, earliest first; what is equal keeps its order.
fn sorted<T>(begun: impl Iterator<Item = (DateTime<Utc>, T)>) -> Vec<(DateTime<Utc>, T)> {
    let mut all: Vec<_> = begun.collect();
    all.sort_by_key(|(begun, _)| *begun);
    all
}

/// The first that was begun after `instant`.
fn behind<T>(sorted: &[(DateTime<Utc>, T)], instant: DateTime<Utc>) -> Option<&(DateTime<Utc>, T)> {
    sorted.get(sorted.partition_point(|(begun, _)| *begun <= instant))
}

/// What says most about how late the consistent point of `backup` can be; `next` is the whole one after it.
fn bound(backup: &Backup, begun: DateTime<Utc>, next: Option<&Backup>, written: &Written) -> Option<Bound> {
    // Full backups may be taken side by side; an incremental is begun when the one that it is laid upon is whole.
    let next = next.filter(|next| next.kind() == Kind::Inc).map(|next| Bound::Next(next.name.clone()));
    // A time before the backup's begin is that of a file system that keeps none.
    let at = written.get(&backup.name).filter(|at| **at + SLACK >= begun);
    next.into_iter().chain(at.map(|at| Bound::Written(*at))).min_by_key(Bound::latest)
}

#[cfg(test)]
mod tests {
    use backup_catalog::{EntryKind, Snapshot, Target};

    use super::*;

    /// A store with these backups: name and consistent point.
    fn catalog(backups: &[(&str, &str)]) -> Catalog {
        let mut snapshot = Snapshot::default();
        for (number, (name, point)) in backups.iter().enumerate() {
            let binlogs = format!("s:b.{number:06} b.{:06}\n", number + 1);
            let line = "10.0.0.1:3306\ts\tb.000001\t400\tbelong-to-datasource=g\txb-to-lsn=1\t\
                        xb-to-binlog-name=b.000001\txb-to-binlog-pos=300\n";
            for (file, content) in [
                ("ok", "ok\n"),
                ("consistent_point_datetime", &*format!("{point}\n")),
                ("cluster_consistence_info", line),
                ("backuped_binlogs", &*binlogs),
            ] {
                let path = format!("{name}/{file}");
                snapshot.entry(&path, EntryKind::File, content.len() as u64);
                snapshot.content(&path, content.as_bytes());
            }
        }
        Catalog::read(&snapshot).unwrap()
    }

    fn paris() -> Zone {
        Zone::parse("Europe/Paris").unwrap()
    }

    /// The selection for a stop time, by instants.
    fn select(catalog: &Catalog, zone: Zone, stop: &str) -> Result<Selection, Error> {
        select_with(catalog, zone, stop, &Written::new())
    }

    fn select_with(catalog: &Catalog, zone: Zone, stop: &str, written: &Written) -> Result<Selection, Error> {
        let (points, stop) = (Points::of(catalog, zone, written), StopTime::parse(stop, zone)?);
        let selection = points.in_utc(catalog).select(&Target::Time(stop.instant.naive_utc()))?;
        points.check(catalog, &selection, &stop)?;
        Ok(selection)
    }

    /// On 31 October 2021 at 03:00 the clocks in Paris were set back to 02:00, at 01:00 UTC.
    #[test]
    fn an_hour_that_is_there_twice_is_told_apart_by_the_names() {
        let catalog = catalog(&[
            ("UTC20211031000900.000-full", "2021-10-31 02:10:00"),
            ("UTC20211031003900.000-inc", "2021-10-31 02:40:00"),
            ("UTC20211031011900.000-inc", "2021-10-31 02:20:00"),
            ("UTC20211031022900.000-inc", "2021-10-31 03:30:00"),
        ]);
        let names = |stop: &str| {
            let selection = select(&catalog, paris(), stop).unwrap();
            (selection.chain.len(), selection.next.map(|next| next.to_string()))
        };
        // By the clock on the wall it lies behind the third backup, whose files hold what came later.
        assert_eq!(names("2021-10-31T00:50:00Z"), (2, Some("UTC20211031011900.000-inc".to_owned())));
        assert_eq!(names("2021-10-31T01:30:00Z"), (3, Some("UTC20211031022900.000-inc".to_owned())));
        assert_eq!(names("2021-10-31T00:20:00Z"), (1, Some("UTC20211031003900.000-inc".to_owned())));
    }

    #[test]
    fn a_point_that_can_be_either_is_refused_only_between_the_two() {
        let catalog = catalog(&[
            ("UTC20211030200000.000-full", "2021-10-30 22:01:00"),
            // A long backup: both 00:30 and 01:30 UTC come after its begin and before the next one's.
            ("UTC20211030230000.000-inc", "2021-10-31 02:30:00"),
            ("UTC20211031040000.000-inc", "2021-10-31 05:01:00"),
        ]);
        for certain in ["2021-10-31T00:10:00Z", "2021-10-31T02:00:00Z"] {
            select(&catalog, paris(), certain).unwrap();
        }
        let error = select(&catalog, paris(), "2021-10-31T01:00:00Z").unwrap_err();
        assert!(matches!(&error, Error::BadTime { .. }) && error.to_string().contains("set back"), "{error}");
    }

    #[test]
    fn a_zone_in_which_backups_end_before_they_begin_is_not_the_backup_machines() {
        let catalog = catalog(&[
            ("UTC20210205092650.735-full", "2021-02-05 17:27:01"),
            ("UTC20210205102650.735-inc", "2021-02-05 18:27:01"),
        ]);
        let shanghai = Zone::parse("Asia/Shanghai").unwrap();
        assert_eq!(select(&catalog, shanghai, "2021-02-05 18:00:00").unwrap().chain.len(), 1);
        let tokyo = Zone::parse("+09:00").unwrap();
        let error = select(&catalog, tokyo, "2021-02-05 18:00:00").unwrap_err();
        assert!(matches!(&error, Error::Config { key: "time-zone", .. }), "{error}");
        assert!(error.to_string().contains("2021-02-05T09:26:50.735+00:00"), "{error}");
    }
    #[test]
    fn a_zone_in_which_backups_end_when_the_next_one_is_under_way_is_not_the_backup_machines() {
        let catalog = catalog(&[
            ("UTC20210205092650.735-full", "2021-02-05 17:27:01"),
            ("UTC20210205102650.735-inc", "2021-02-05 18:27:01"),
            ("UTC20210205112650.735-inc", "2021-02-05 19:27:01"),
        ]);
        let error = select(&catalog, Zone::parse("+07:00").unwrap(), "2021-02-05 18:00:00").unwrap_err();
        assert!(matches!(&error, Error::Config { key: "time-zone", .. }), "{error}");
        assert!(error.to_string().contains("UTC20210205102650.735-inc, which is laid upon it"), "{error}");
        // Half an hour is less than what lies between them.
        select(&catalog, Zone::parse("+07:30").unwrap(), "2021-02-05 18:00:00").unwrap();
    }

    #[test]
    fn no_file_says_what_came_after_it_was_written() {
        let names = ["UTC20210205092650.735-full", "UTC20210205102650.735-inc"];
        let catalog = catalog(&[(names[0], "2021-02-05 17:27:01"), (names[1], "2021-02-05 18:27:01")]);
        let written = |times: [&str; 2]| -> Written {
            let times = times.map(|time| time.parse().unwrap());
            names.map(|name| name.parse().unwrap()).into_iter().zip(times).collect()
        };
        let select = |zone: &str, written: &Written| {
            select_with(&catalog, Zone::parse(zone).unwrap(), "2021-02-05 18:00:00", written)
        };
        let original = written(["2021-02-05T09:27:02Z", "2021-02-05T10:27:02Z"]);
        select("+08:00", &original).unwrap();
        for west in ["+07:30", "UTC", "America/New_York"] {
            let error = select(west, &original).unwrap_err();
            assert!(matches!(&error, Error::Config { key: "time-zone", .. }), "{west}: {error}");
        }
        let error = select("+07:30", &original).unwrap_err().to_string();
        assert!(error.contains("was written at 2021-02-05T09:27:02+00:00"), "{error}");
        // Copies are younger; and some file systems keep no times at all.
        select("+08:00", &written(["2026-11-26T00:00:00Z"; 2])).unwrap();
        select("+08:00", &written(["1970-01-01T00:00:00Z"; 2])).unwrap();
    }

    #[test]
    fn full_backups_may_be_taken_side_by_side() {
        let catalog = catalog(&[
            ("UTC20210205090000.000-full", "2021-02-05 12:00:00"),
            ("UTC20210205100000.000-full", "2021-02-05 11:00:00"),
            ("UTC20210205130000.000-inc", "2021-02-05 13:01:00"),
        ]);
        select(&catalog, Zone::parse("UTC").unwrap(), "2021-02-05 12:30:00").unwrap();
    }

    /// The work grows with the number of backups: with its square this would take minutes.
    #[test]
    fn thousands_of_backups_take_no_time() {
        let first = DateTime::parse_from_rfc3339("2021-02-05T09:26:50Z").unwrap().to_utc();
        let backups: Vec<_> = (0..10_000)
            .map(|hour| first + TimeDelta::hours(hour))
            .map(|begun| {
                (begun.format("UTC%Y%m%d%H%M%S.000-full").to_string(), begun + TimeDelta::minutes(1))
            })
            .map(|(name, point)| (name, point.format("%Y-%m-%d %H:%M:%S").to_string()))
            .collect();
        let backups: Vec<_> = backups.iter().map(|(name, point)| (&**name, &**point)).collect();
        let catalog = catalog(&backups);
        let begun = std::time::Instant::now();
        let points = Points::of(&catalog, Zone::parse("UTC").unwrap(), &Written::new());
        assert_eq!(points.instants.len(), backups.len());
        assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    }
}

//! Consistent points as instants.
//!
//! A store says when a consistent point was taken in local time of the backup machine, and that time exists twice when
//! the clocks are set back. When the backup was begun its name says in UTC. The two together give the instant, and
//! show a `time-zone` that cannot be the backup machine's.

use std::collections::BTreeMap;

use backup_catalog::{Backup, BackupName, Catalog, Selection};
use chrono::{DateTime, TimeDelta, Utc};

use crate::Error;
use crate::time::{StopTime, Zone};

/// How far the clocks of a store's files may be apart before a zone is called wrong. Zones differ by 15 minutes at
/// least.
const SLACK: TimeDelta = TimeDelta::minutes(5);

/// The instants at which one consistent point can have been taken, earliest first.
type Instants = Vec<DateTime<Utc>>;

/// The consistent points of a store.
#[derive(Debug)]
pub(crate) struct Points {
    zone: Zone,
    instants: BTreeMap<BackupName, Instants>,
}

impl Points {
    /// Works them out; `zone` is the backup machine's.
    pub(crate) fn of(catalog: &Catalog, zone: Zone) -> Self {
        let begins: Vec<_> = catalog.listed().iter().map(|listed| listed.name.start().and_utc()).collect();
        let instants = catalog.backups().map(|backup| {
            let begun = backup.name.start().and_utc();
            let next = begins.iter().find(|other| **other > begun);
            let mut found = zone.instants(backup.consistent_point);
            // A backup has its consistent point after its begin, and before the next one is begun.
            found.retain(|instant| *instant + SLACK >= begun);
            if found.len() > 1 {
                found.retain(|instant| next.is_none_or(|next| *instant <= *next));
            }
            (backup.name.clone(), found)
        });
        Self { zone, instants: instants.collect() }
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
        Error::Config {
            place: "configuration".to_owned(),
            section: "misc",
            key: "time-zone",
            reason: format!(
                "must be the zone of the machine that took the backups: the consistent point of {name}, {local}, \
                 {meant}, and the backup was begun at {}",
                begun.to_rfc3339()
            ),
        }
    }
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
        let (points, stop) = (Points::of(catalog, zone), StopTime::parse(stop, zone)?);
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
}

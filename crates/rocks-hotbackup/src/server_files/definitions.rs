//! Table definitions, watched for changes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::SystemTime;

use super::Scope;
use crate::Error;

/// A table definition that stays; a running ALTER has others, which begin with `#sql`.
pub(crate) fn is_definition(name: &OsStr) -> bool {
    name.as_bytes().ends_with(b".frm") && !name.as_bytes().starts_with(b"#sql")
}

/// Which file a definition is, and when it was changed or renamed last. The time of its contents says less: that of an
/// `ALTER` which copies is the time of its beginning, and a rename leaves it as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    dev: u64,
    ino: u64,
    /// Seconds and nanoseconds.
    changed: (i64, i64),
    /// When the contents were written.
    modified: SystemTime,
}

impl Stamp {
    pub(super) fn of(meta: &Metadata) -> Self {
        Self {
            dev: meta.dev(),
            ino: meta.ino(),
            changed: (meta.ctime(), meta.ctime_nsec()),
            modified: meta.modified().unwrap_or(SystemTime::UNIX_EPOCH),
        }
    }
}

/// How table definitions are watched: a backup whose schema and data are of different moments may not start.
#[derive(Debug)]
pub(crate) struct Definitions {
    pub(crate) start: SystemTime,
    pub(crate) stamps: BTreeMap<PathBuf, Stamp>,
}

impl Definitions {
    /// Compares with what there is now.
    pub(crate) fn check(&self, scope: &Scope<'_>) -> Result<(), Error> {
        let changed = |path: &PathBuf, change| Error::SchemaChanged { path: path.clone(), change };
        let now = scope.definitions()?;
        if let Some(gone) = self.stamps.keys().find(|path| !now.contains_key(*path)) {
            return Err(changed(gone, "was dropped or renamed"));
        }
        if let Some(new) = now.keys().find(|path| !self.stamps.contains_key(*path)) {
            return Err(changed(new, "was created"));
        }
        let is_other =
            |path: &PathBuf, now: &Stamp| now.modified > self.start || self.stamps.get(path) != Some(now);
        match now.iter().find(|(path, now)| is_other(path, now)) {
            Some((path, _)) => Err(changed(path, "was changed")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::listing::tests::datadir;
    use super::*;
    use std::path::Path;

    #[test]
    fn every_change_of_a_definition_is_seen() {
        let (dir, facts) = datadir();
        let scope = Scope::new(&facts, dir.path(), Path::new("/nowhere"), true);
        let definitions = Definitions {
            start: SystemTime::now() + std::time::Duration::from_secs(1),
            stamps: scope.definitions().unwrap(),
        };
        definitions.check(&scope).unwrap();
        let change = |scope: &Scope<'_>, definitions: &Definitions| match definitions.check(scope) {
            Err(Error::SchemaChanged { change, .. }) => change,
            other => panic!("{other:?}"),
        };
        std::fs::write(dir.path().join("db/new.frm"), "").unwrap();
        assert_eq!(change(&scope, &definitions), "was created");
        let early = Definitions { start: SystemTime::UNIX_EPOCH, stamps: scope.definitions().unwrap() };
        assert_eq!(change(&scope, &early), "was changed");
        std::fs::remove_file(dir.path().join("db/new.frm")).unwrap();
        definitions.check(&scope).unwrap();
        std::fs::rename(dir.path().join("db/t.frm"), dir.path().join("db/u.frm")).unwrap();
        assert_eq!(change(&scope, &definitions), "was dropped or renamed");
    }

    #[test]
    fn a_definition_of_the_same_name_and_time_that_is_another_is_seen() {
        let (dir, facts) = datadir();
        let at = |name: &str| dir.path().join("db").join(name);
        std::fs::write(at("u.frm"), "").unwrap();
        let scope = Scope::new(&facts, dir.path(), Path::new("/nowhere"), true);
        let start = SystemTime::now() + std::time::Duration::from_secs(1);
        let watch = || Definitions { start, stamps: scope.definitions().unwrap() };
        let is_changed = |definitions: Definitions| {
            matches!(definitions.check(&scope), Err(Error::SchemaChanged { change: "was changed", .. }))
        };
        let before = watch();
        for (from, to) in [("t.frm", "x"), ("u.frm", "t.frm"), ("x", "u.frm")] {
            std::fs::rename(at(from), at(to)).unwrap();
        }
        assert!(is_changed(before), "they were exchanged");
        let before = watch();
        let time = at("t.frm").metadata().unwrap().modified().unwrap();
        std::fs::write(at("#sql-new.frm"), "").unwrap();
        std::fs::File::open(at("#sql-new.frm")).unwrap().set_modified(time).unwrap();
        std::fs::rename(at("#sql-new.frm"), at("t.frm")).unwrap();
        assert!(is_changed(before), "one took the place of another");
    }
}

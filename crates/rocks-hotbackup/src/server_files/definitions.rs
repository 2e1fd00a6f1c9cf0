//! Table definitions, watched for changes.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::SystemTime;

use super::Scope;
use crate::Error;

/// A table definition that stays; a running ALTER has others, which begin with `#sql`.
pub(crate) fn is_definition(name: &OsStr) -> bool {
    name.as_bytes().ends_with(b".frm") && !name.as_bytes().starts_with(b"#sql")
}

/// How table definitions are watched: a backup whose schema and data are of different moments may not start.
#[derive(Debug)]
pub(crate) struct Definitions {
    pub(crate) start: SystemTime,
    pub(crate) names: BTreeSet<PathBuf>,
}

impl Definitions {
    /// Compares with what there is now.
    pub(crate) fn check(&self, scope: &Scope<'_>) -> Result<(), Error> {
        let changed = |path: &PathBuf, change| Error::SchemaChanged { path: path.clone(), change };
        let now = scope.definitions()?;
        if let Some(gone) = self.names.difference(&now).next() {
            return Err(changed(gone, "was dropped or renamed"));
        }
        if let Some(new) = now.difference(&self.names).next() {
            return Err(changed(new, "was created"));
        }
        for path in &now {
            let source = scope.datadir().join(path);
            let modified =
                source.metadata().and_then(|m| m.modified()).map_err(Error::io("read", &source))?;
            if modified > self.start {
                return Err(changed(path, "was changed"));
            }
        }
        Ok(())
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
            names: scope.definitions().unwrap(),
        };
        definitions.check(&scope).unwrap();
        let change = |scope: &Scope<'_>, definitions: &Definitions| match definitions.check(scope) {
            Err(Error::SchemaChanged { change, .. }) => change,
            other => panic!("{other:?}"),
        };
        std::fs::write(dir.path().join("db/new.frm"), "").unwrap();
        assert_eq!(change(&scope, &definitions), "was created");
        std::fs::remove_file(dir.path().join("db/new.frm")).unwrap();
        std::fs::rename(dir.path().join("db/t.frm"), dir.path().join("db/u.frm")).unwrap();
        assert_eq!(change(&scope, &definitions), "was dropped or renamed");
        std::fs::rename(dir.path().join("db/u.frm"), dir.path().join("db/t.frm")).unwrap();
        let early = Definitions { start: SystemTime::UNIX_EPOCH, names: definitions.names };
        assert_eq!(change(&scope, &early), "was changed");
    }
}

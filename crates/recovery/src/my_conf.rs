//! The server's own `my.conf` of a backup, and what it leaves open.
//!
//! What it does not say is a default to the temporary server. Where parts of it could not be read, that may be another value
//! than the source had; of the letter case of table names nothing that is looked at afterwards would tell.

use std::collections::BTreeMap;
use std::path::Path;

use backup_catalog::{FolderName, MyConf, OptionsOf};
use binlog_replay::{Flavor, ServerVersion};
use remote_exec::Host;
use xtra_driver::{Kind, Tool};

use crate::Error;
use crate::plan::Plan;
use crate::store::MAX_TEXT;

/// The option for the letter case of table names.
pub(crate) const LETTER_CASE: &str = "lower_case_table_names";

/// Name of the file in a server's folder.
const NAME: &str = "my.conf";

/// What is known of a server before its programs are there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    options: OptionsOf,
    /// Its dictionary knows the letter case, and no server with another one starts on it.
    knows_case: bool,
}

impl Reading {
    /// Of a server of this version with this folder.
    pub(crate) fn of(version: &ServerVersion, folder: &str) -> Self {
        let mut options = OptionsOf::new(version.flavor == Flavor::MariaDb);
        options.series = Some((version.major, version.minor));
        options.port = port(folder);
        Self { options, knows_case: version.at_least(Flavor::MySql, 8, 0, 0) }
    }

    /// Of a server that `tool` can prepare.
    fn by_tool(tool: &Tool, folder: &str) -> Self {
        let mut options = OptionsOf::new(tool.kind() == Kind::MariaBackup);
        options.port = port(folder);
        Self { options, knows_case: tool.kind() == Kind::XtraBackup && tool.version().major >= 8 }
    }

    pub(crate) fn parse(&self, text: &str) -> MyConf {
        MyConf::parse(text, &self.options)
    }

    /// What the file, if there is one, leaves open; `None` if nothing.
    ///
    /// # Errors
    ///
    /// [`Error::LetterCase`] if that may be the letter case of table names, and nobody else says it.
    pub(crate) fn left_open(
        &self,
        folder: &str,
        text: Option<&str>,
        letter_case: Option<u8>,
    ) -> Result<Option<String>, Error> {
        let conf = text.map(|text| self.parse(text));
        let what = match &conf {
            None => format!("there is no {NAME}"),
            Some(conf) if conf.unread().is_empty() => return Ok(None),
            Some(conf) => format!("parts of its {NAME} could not be read ({})", conf.unread().join(", ")),
        };
        let said = conf.is_some_and(|conf| conf.form(LETTER_CASE).is_some());
        if !said && letter_case.is_none() && !self.knows_case {
            return Err(Error::LetterCase { server: folder.to_owned(), what });
        }
        Ok(Some(what))
    }
}

fn port(folder: &str) -> Option<u16> {
    FolderName::parse(folder).map(|name| name.port)
}

/// The file of `folder` in the backup at `dir`.
pub(crate) async fn read(host: &Host, dir: &Path, folder: &str) -> Result<Option<String>, Error> {
    let text = host.files().read_if_there(dir.join(folder).join(NAME), MAX_TEXT).await?;
    Ok(text.map(|text| String::from_utf8_lossy(&text).into_owned()))
}

/// A sentence for each thing that the files of a plan leave open, as far as they can be seen: not in an encrypted backup.
///
/// # Errors
///
/// [`Error::LetterCase`]; or the store cannot be read.
pub(crate) async fn warnings(
    store: &Host,
    plan: &Plan,
    tool: &Tool,
    letter_case: Option<u8>,
) -> Result<Vec<String>, Error> {
    if plan.last_is_encrypted() {
        return Ok(Vec::new());
    }
    let dir = Plan::backup_dir(&plan.store_dir, plan.last());
    let mut open: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for server in &plan.servers {
        let folder = server.folder.as_str();
        let text = read(store, &dir, folder).await?;
        let left = Reading::by_tool(tool, folder).left_open(folder, text.as_deref(), letter_case)?;
        if let Some(what) = left {
            open.entry(what).or_default().push(folder);
        }
    }
    Ok(open.into_iter().map(|(what, folders)| warning(&folders.join(", "), &what)).collect())
}

pub(crate) fn warning(folders: &str, what: &str) -> String {
    format!("{folders}: {what}; options that stand there are defaults to the temporary server")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDER: &str = "g-s-10.0.0.1-3306";

    fn left(version: &str, text: Option<&str>, case: Option<u8>) -> Result<Option<String>, Error> {
        Reading::of(&version.parse().unwrap(), FOLDER).left_open(FOLDER, text, case)
    }

    #[test]
    fn a_letter_case_that_may_stand_elsewhere_is_not_guessed() {
        let include = "[mysqld]\n!includedir /etc/mysql/conf.d/\n";
        for version in ["10.11.6-MariaDB", "5.7.44"] {
            for text in [None, Some(include)] {
                let error = left(version, text, None).unwrap_err();
                assert!(matches!(&error, Error::LetterCase { .. }), "{error}");
                assert!(left(version, text, Some(1)).unwrap().is_some());
            }
            let said = format!("{include}lower-case-table-names=1\n");
            let what = left(version, Some(&said), None).unwrap().unwrap();
            assert!(what.contains("!includedir /etc/mysql/conf.d/"), "{what}");
            assert_eq!(left(version, Some("[mysqld]\n"), None).unwrap(), None, "it is the default");
        }
        assert!(left("8.0.36", Some(include), None).unwrap().is_some(), "its dictionary knows");
    }
}

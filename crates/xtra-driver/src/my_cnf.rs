//! `backup-my.cnf`: the options of the backed-up server without which its files cannot be read.

use std::collections::BTreeMap;

/// The options in a `backup-my.cnf`. Not all of them are for a server that is started on the restored files: the undo files
/// lie in its data directory, and `innodb_undo_directory` names the original server's.
///
/// ```
/// let options = xtra_driver::BackupMyCnf::parse("[mysqld]\ninnodb_page_size=8192\nserver_uuid=x\n");
/// assert_eq!(options.page_size(), Some(8192));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackupMyCnf {
    options: BTreeMap<String, String>,
}

impl BackupMyCnf {
    /// Name of the file.
    pub const NAME: &'static str = "backup-my.cnf";

    /// Reads the file's text; comments, groups and lines without `=` are passed over.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', '[']));
        let pairs = lines.filter_map(|line| line.split_once('='));
        Self { options: pairs.map(|(k, v)| (k.trim().replace('-', "_"), v.trim().to_owned())).collect() }
    }

    /// The value of an option; names with `_`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    /// `innodb_page_size` in bytes.
    pub fn page_size(&self) -> Option<u32> {
        self.get("innodb_page_size")?.parse().ok()
    }

    /// The file names in `innodb_data_file_path`: `ibdata1:12M:autoextend` gives `ibdata1`.
    pub(crate) fn data_files(&self) -> Vec<&str> {
        let path = self.get("innodb_data_file_path").unwrap_or("ibdata1");
        path.split(';').filter_map(|part| part.split(':').next()).filter(|name| !name.is_empty()).collect()
    }
}

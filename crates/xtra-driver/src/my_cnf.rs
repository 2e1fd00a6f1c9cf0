//! `backup-my.cnf`: the options of the backed-up server without which its files cannot be read.

use std::collections::BTreeMap;

/// Options that a server needs to open the data files, and that every server from 5.7 or 10.5 on knows.
const FIRM: [&str; 3] = ["innodb_page_size", "innodb_data_file_path", "innodb_undo_directory"];

/// Options that some servers no longer know, or not yet.
const LOOSE: [&str; 3] = ["innodb_checksum_algorithm", "innodb_undo_tablespaces", "innodb_data_home_dir"];

/// The options in a `backup-my.cnf`.
///
/// ```
/// let options = xtra_driver::BackupMyCnf::parse("[mysqld]\ninnodb_page_size=8192\nserver_uuid=x\n");
/// assert_eq!(options.page_size(), Some(8192));
/// assert_eq!(options.server_args(), ["--innodb_page_size=8192"]);
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

    /// Arguments for a server that is to open the restored files. Options that not every server knows are given as
    /// `--loose_…`, which a server that does not know them passes over with a warning.
    pub fn server_args(&self) -> Vec<String> {
        let firm = FIRM.iter().filter_map(|name| Some(format!("--{name}={}", self.get(name)?)));
        let loose = LOOSE.iter().filter_map(|name| Some(format!("--loose_{name}={}", self.get(name)?)));
        firm.chain(loose).collect()
    }

    /// The file names in `innodb_data_file_path`: `ibdata1:12M:autoextend` gives `ibdata1`.
    pub(crate) fn data_files(&self) -> Vec<&str> {
        let path = self.get("innodb_data_file_path").unwrap_or("ibdata1");
        path.split(';').filter_map(|part| part.split(':').next()).filter(|name| !name.is_empty()).collect()
    }
}

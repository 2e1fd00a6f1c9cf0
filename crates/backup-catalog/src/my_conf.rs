//! `my.conf`: the configuration file a server ran with, as MySQL and MariaDB read option files.

use std::collections::BTreeMap;

/// The server options of an option file.
///
/// Groups are read as the server does: `[mysqld]`, `[server]`, `[mariadb]`, `[mariadbd]` and those with a version behind
/// (`[mysqld-8.0]`, `[mariadb-10.11]`); which versions count is not asked. In names `-` and `_` are one and a leading
/// `loose_` is dropped. `#` and `;` start comment lines, ` #` a comment behind a value; values may be quoted and hold
/// the escapes `\b \t \n \r \\ \s`. The last line for an option counts. `!include` lines are not followed: the files
/// they name are not in a backup.
///
/// ```
/// use backup_catalog::MyConf;
///
/// let conf = MyConf::parse("[client]\npassword = x\n[mysqld]\nlower-case-table-names=1 # as on Windows\nskip_name_resolve\n");
/// assert_eq!(conf.get("lower_case_table_names"), Some("1"));
/// assert!(conf.has("skip-name-resolve"));
/// assert!(!conf.has("password"));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MyConf {
    options: BTreeMap<String, Option<String>>,
}

impl MyConf {
    /// Reads the text of an option file. Lines that are none are passed over, as the file comes from a running server.
    pub fn parse(text: &str) -> Self {
        let mut options = BTreeMap::new();
        let mut of_server = false;
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with(['#', ';', '!']) {
                continue;
            }
            if let Some(group) = line.strip_prefix('[') {
                of_server = group.split(']').next().is_some_and(|group| is_server_group(group.trim()));
            } else if of_server {
                let (name, value) = match line.split_once('=') {
                    Some((name, value)) => (name, Some(unquote(value.trim()))),
                    None => (line.split(" #").next().unwrap_or(line), None),
                };
                options.insert(normal(name.trim()), value);
            }
        }
        Self { options }
    }

    /// Whether the option is there, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.options.contains_key(&normal(name))
    }

    /// The value of an option; `None` if it is not there or has no value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.options.get(&normal(name))?.as_deref()
    }

    /// Every option with its value, names with `_`, in alphabetical order.
    pub fn options(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.options.iter().map(|(name, value)| (name.as_str(), value.as_deref()))
    }

    /// `lower_case_table_names`, if it is said and a number from 0 to 2.
    pub fn lower_case_table_names(&self) -> Option<u8> {
        self.get("lower_case_table_names")?.parse().ok().filter(|n| *n <= 2)
    }

    /// The base name of the binlogs in `log_bin`, without folder and extension; `None` if it is not said.
    pub fn log_bin_basename(&self) -> Option<&str> {
        let file = self.get("log_bin")?.rsplit('/').next()?;
        let base = file.rsplit_once('.').map_or(file, |(base, _)| base);
        Some(base).filter(|base| !base.is_empty())
    }
}

fn is_server_group(group: &str) -> bool {
    let name = group.split_once('-').map_or(group, |(name, version)| {
        if version.starts_with(|c: char| c.is_ascii_digit()) { name } else { group }
    });
    matches!(name, "mysqld" | "server" | "mariadb" | "mariadbd")
}

fn normal(name: &str) -> String {
    let name = name.replace('-', "_");
    name.strip_prefix("loose_").map(str::to_owned).unwrap_or(name)
}

/// A value without its quotes or the comment behind it, escapes resolved.
fn unquote(value: &str) -> String {
    let quote = value.chars().next().filter(|c| matches!(c, '\'' | '"'));
    let inner = match quote {
        Some(quote) if value.len() > 1 => match value[1..].rfind(quote) {
            Some(end) => &value[1..=end],
            None => value,
        },
        _ => {
            let comment =
                value.match_indices('#').find(|(at, _)| value[..*at].ends_with([' ', '\t']) || *at == 0);
            value[..comment.map_or(value.len(), |(at, _)| at)].trim_end()
        }
    };
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('b') => out.push('\u{8}'),
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('s') => out.push(' '),
            Some('\\') => out.push('\\'),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_groups_of_the_server_count_and_the_last_line_wins() {
        let conf = MyConf::parse(
            "port = 1\n[mysqld]\nport=2\n[mysqld_safe]\nport=3\n[mysqld-8.0]\nport = 4\n[mysqldump]\nport=5\n\
             [mariadb-backup]\nport=6\n[mariadb-10.11]\nsql-mode=''\n",
        );
        assert_eq!(conf.get("port"), Some("4"));
        assert_eq!(conf.get("sql_mode"), Some(""));
    }

    #[test]
    fn values_lose_quotes_comments_and_escapes() {
        let conf = MyConf::parse(
            "[mysqld]\na = \"x # y\" # z\nb = x#y # z\nc = 'it''s'\nd = a\\tb\\sc\\q\nloose-e\nf=\n;g=1\n#h=1\n",
        );
        assert_eq!(conf.get("a"), Some("x # y"));
        assert_eq!(conf.get("b"), Some("x#y"));
        assert_eq!(conf.get("c"), Some("it''s"));
        assert_eq!(conf.get("d"), Some("a\tb c\\q"));
        assert!(conf.has("e") && conf.get("e").is_none());
        assert_eq!(conf.get("f"), Some(""));
        assert!(!conf.has("g") && !conf.has("h"));
    }

    #[test]
    fn typed_options_are_read_or_absent() {
        let conf =
            MyConf::parse("[mysqld]\nlower-case-table-names = 7\nlog-bin=/var/log/mysql/master-bin.log\n");
        assert_eq!(conf.lower_case_table_names(), None);
        assert_eq!(conf.log_bin_basename(), Some("master-bin"));
        assert_eq!(MyConf::parse("[mysqld]\nlog_bin\n").log_bin_basename(), None);
    }
}

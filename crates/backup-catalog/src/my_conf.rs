//! `my.conf`: the configuration file a server ran with, as MySQL and MariaDB read option files.

use std::collections::BTreeMap;

/// The server options of an option file.
///
/// Groups are read as the server does: `[mysqld]`, `[server]`, `[mariadb]`, `[mariadbd]` and those with a version behind
/// (`[mysqld-8.0]`, `[mariadb-10.11]`); which versions count is not asked. In names `-` and `_` are one and a leading
/// `loose_` is dropped. `#` and `;` start comment lines, ` #` a comment behind a value; values may be quoted and hold
/// the escapes `\b \t \n \r \\ \s`. The last line for an option counts, in whichever form it stands there: `x`, `x=1`,
/// `enable-x`, `skip-x` and `disable-x` are one option ([`MyConf::form`]). `!include` lines are not followed: the files
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
        let mut lines = BTreeMap::new();
        let mut of_server = false;
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with(['#', ';', '!']) {
                continue;
            }
            if let Some(group) = line.strip_prefix('[') {
                of_server = group.split(']').next().is_some_and(|group| is_server_group(group.trim()));
            } else if of_server {
                let (name, value) = match line.split_once('=') {
                    Some((name, value)) => (name, Some(Self::value(value))),
                    None => (line.split('#').next().unwrap_or(line), None),
                };
                let name = normal(name.trim());
                lines.insert(without_form(&name).to_owned(), (name, value));
            }
        }
        Self { options: lines.into_values().collect() }
    }

    /// The value of an option from what stands behind its `=`: without quotes, or the comment behind it, escapes resolved.
    ///
    /// ```
    /// use backup_catalog::MyConf;
    ///
    /// assert_eq!(MyConf::value(r" a\sb#c # d"), "a b#c");
    /// ```
    pub fn value(text: &str) -> String {
        unquote(text.trim())
    }

    /// Whether the option is there, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.options.contains_key(&normal(name))
    }

    /// The value of an option; `None` if it is not there or has no value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.options.get(&normal(name))?.as_deref()
    }

    /// The form in which an option is said, with `_`, and its value: `x`, `enable_x`, `skip_x` or `disable_x`. A server
    /// that is started with it is started with what the file says of the option.
    ///
    /// ```
    /// use backup_catalog::MyConf;
    ///
    /// let conf = MyConf::parse("[mysqld]\ninnodb-strict-mode\nskip-innodb-strict-mode\n");
    /// assert_eq!(conf.form("innodb_strict_mode"), Some(("skip_innodb_strict_mode", None)));
    /// ```
    pub fn form(&self, name: &str) -> Option<(&str, Option<&str>)> {
        let name = normal(name);
        let forms = FORMS.iter().map(|form| format!("{form}{name}"));
        let said =
            std::iter::once(name.clone()).chain(forms).find_map(|form| self.options.get_key_value(&form));
        said.map(|(form, value)| (form.as_str(), value.as_deref()))
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

/// What a name may begin with to say that the option is off or on.
const FORMS: [&str; 3] = ["skip_", "disable_", "enable_"];

/// The option that a name is about. Some names are never without their `skip_`; no two options differ in it.
fn without_form(name: &str) -> &str {
    FORMS.iter().find_map(|form| name.strip_prefix(form)).unwrap_or(name)
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
    fn the_last_form_of_an_option_counts() {
        let form = |lines: &str| {
            let conf = MyConf::parse(&format!("[mysqld]\n{lines}\n"));
            conf.form("some-option").map(|(name, value)| (name.to_owned(), value.map(str::to_owned)))
        };
        let said = |name: &str, value: Option<&str>| Some((name.to_owned(), value.map(str::to_owned)));
        assert_eq!(form("some_option\t# on"), said("some_option", None));
        assert_eq!(form("some-option=0\nloose-enable-some-option"), said("enable_some_option", None));
        assert_eq!(form("some-option\nskip-some-option"), said("skip_some_option", None));
        assert_eq!(form("disable_some_option=0"), said("disable_some_option", Some("0")));
        assert_eq!(form("skip-some-option\nsome-option = 1"), said("some_option", Some("1")));
        assert_eq!(form("some-option-too\nskip-other"), None);
        let conf = MyConf::parse("[mysqld]\nlog_bin=x\nskip-log-bin\nskip-name-resolve\n");
        assert_eq!(conf.log_bin_basename(), None);
        assert!(conf.has("skip_name_resolve") && !conf.has("name_resolve"));
        assert_eq!(conf.options().collect::<Vec<_>>(), [("skip_log_bin", None), ("skip_name_resolve", None)]);
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

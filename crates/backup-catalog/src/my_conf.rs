//! `my.conf`: the configuration file a server ran with, as MySQL and MariaDB read option files.

use std::collections::BTreeMap;

/// The server whose options are looked for in an option file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct OptionsOf {
    /// A MariaDB server; else MySQL or Percona Server.
    pub mariadb: bool,
    /// The first two numbers of its version, for groups such as `[mysqld-8.0]`; `None`: those of any version count.
    pub series: Option<(u16, u16)>,
    /// Its port, by which one of several instances in one file is told.
    pub port: Option<u16>,
}

/// The server options of an option file.
///
/// Groups are read as the server does, in any case: `[mysqld]` and `[server]`, by MariaDB `[mariadb]`, `[mariadbd]`,
/// `[client-server]` and `[galera]` too, and those with its series behind (`[mysqld-8.0]`, `[mariadb-10.11]`). Groups
/// of one of several instances (`[mysqld1]`, `[mysqld@replica01]`) are read if their `port` is the server's.
///
/// In names `-` and `_` are one and a leading `loose_` is dropped. `#` and `;` start comment lines, a `#` outside of quotes
/// a comment anywhere in a line; values may be quoted and hold the escapes `\b \t \n \r \s \\ \" \'`. The last line for an
/// option counts, in whichever form it stands there: `x`, `x=1`, `enable-x`, `skip-x` and `disable-x` are one option
/// ([`MyConf::form`]). What may hold options of the server and is not read is in [`MyConf::unread`]: the files of
/// `!include` and `!includedir`, which are in no backup, and groups of instances that have no `port`.
///
/// ```
/// use backup_catalog::{MyConf, OptionsOf};
///
/// let text = "[client]\npassword = x\n[mysqld]\nlower-case-table-names=1# as on Windows\nskip_name_resolve\n";
/// let conf = MyConf::parse(text, &OptionsOf::new(false));
/// assert_eq!(conf.get("lower_case_table_names"), Some("1"));
/// assert!(conf.has("skip-name-resolve"));
/// assert!(!conf.has("password"));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MyConf {
    options: BTreeMap<String, Option<String>>,
    unread: Vec<String>,
}

/// Groups that every server reads, and those that only MariaDB does.
const GROUPS: [&str; 2] = ["mysqld", "server"];
const MARIADB_GROUPS: [&str; 4] = ["mariadb", "mariadbd", "client-server", "galera"];

/// What programs other than the server have behind `mysqld` or `mariadbd` in the names of their groups.
const OTHER_PROGRAMS: [&str; 6] = ["ump", "umpslow", "_safe", "-safe", "_multi", "-multi"];

/// Whose options a group holds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Group {
    /// Every server's of this flavour and series.
    Servers,
    /// Those of an instance, with what its groups have behind their names.
    Instance(String),
    /// Another program's.
    Others,
}

/// One line of a server's group.
struct Line {
    group: Group,
    name: String,
    value: Option<String>,
}

impl MyConf {
    /// Reads the text of an option file. Lines that are none are passed over, as the file comes from a running server.
    pub fn parse(text: &str, of: &OptionsOf) -> Self {
        let (mut lines, mut passed_over) = (Vec::new(), Vec::new());
        let mut group = Group::Others;
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if line.starts_with('!') {
                passed_over.push((Group::Servers, line.to_owned()));
            } else if let Some((name, _)) = line.strip_prefix('[').and_then(|line| line.split_once(']')) {
                group = of.group(name.trim_end());
                if matches!(group, Group::Instance(_)) {
                    passed_over.push((group.clone(), format!("[{name}]")));
                }
            } else if group != Group::Others {
                let (name, value) = option(line);
                lines.push(Line { group: group.clone(), name, value });
            }
        }
        let instances = ports(&lines);
        let own = of.port.and_then(|port| instances.iter().find(|(_, said)| **said == Some(port)));
        let own = own.map(|(suffix, _)| *suffix);
        let is_unread = |group: &Group| match group {
            Group::Instance(suffix) => {
                own.is_none() && instances.get(suffix.as_str()).is_some_and(Option::is_none)
            }
            _ => true,
        };
        let unread = passed_over.iter().filter(|(group, _)| is_unread(group));
        let unread = unread.map(|(_, what)| what.clone()).collect();
        let is_own =
            |line: &Line| matches!(&line.group, Group::Instance(suffix) if Some(suffix.as_str()) == own);
        // mysqld_multi, whose instances are numbers, gives their options on the command line: they win.
        let on_command_line = own.is_some_and(|suffix| suffix.bytes().all(|b| b.is_ascii_digit()));
        let mut counting: Vec<&Line> =
            lines.iter().filter(|line| line.group == Group::Servers || is_own(line)).collect();
        if on_command_line {
            counting.sort_by_key(|line| is_own(line));
        }
        let options: BTreeMap<_, _> = counting
            .into_iter()
            .map(|line| (without_form(&line.name), (line.name.clone(), line.value.clone())))
            .collect();
        Self { options: options.into_values().collect(), unread }
    }

    /// What may hold options of the server and was not read: `!include` and `!includedir` lines, and groups of instances of
    /// which nothing says whether the server is one.
    pub fn unread(&self) -> &[String] {
        &self.unread
    }

    /// The value of an option from what stands behind its `=`: without quotes, or the comment behind it, escapes resolved.
    ///
    /// ```
    /// use backup_catalog::MyConf;
    ///
    /// assert_eq!(MyConf::value(r" a\sb # c"), "a b");
    /// assert_eq!(MyConf::value("'a#b'"), "a#b");
    /// ```
    pub fn value(text: &str) -> String {
        unescaped(unquoted(without_comment(text).trim()))
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
    /// use backup_catalog::{MyConf, OptionsOf};
    ///
    /// let text = "[mysqld]\ninnodb-strict-mode\nskip-innodb-strict-mode\n";
    /// let conf = MyConf::parse(text, &OptionsOf::new(true));
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
}

impl OptionsOf {
    /// A server of MariaDB, or of MySQL, of any version and port.
    pub const fn new(mariadb: bool) -> Self {
        Self { mariadb, series: None, port: None }
    }

    /// Whose options the group of this name holds.
    fn group(&self, name: &str) -> Group {
        let name = name.to_ascii_lowercase();
        let more = MARIADB_GROUPS.iter().filter(|_| self.mariadb);
        let mut bases: Vec<&str> = GROUPS.iter().chain(more).copied().collect();
        // `mariadbd1` is an instance of `mariadbd`, not of `mariadb`.
        bases.sort_by_key(|base| std::cmp::Reverse(base.len()));
        let Some((base, suffix)) = bases.iter().find_map(|base| Some((*base, name.strip_prefix(base)?)))
        else {
            return Group::Others;
        };
        if suffix.is_empty() {
            return Group::Servers;
        }
        if let Some(series) =
            suffix.strip_prefix('-').filter(|series| series.starts_with(|c: char| c.is_ascii_digit()))
        {
            let own = self.series.is_none_or(|(major, minor)| series == format!("{major}.{minor}"));
            return if own { Group::Servers } else { Group::Others };
        }
        // The groups of clients begin like `mariadb`, too.
        let is_servers = matches!(base, "mysqld" | "mariadbd")
            || suffix.starts_with(|c: char| c.is_ascii_digit() || ".@_".contains(c));
        match is_servers && !OTHER_PROGRAMS.contains(&suffix) {
            true => Group::Instance(suffix.to_owned()),
            false => Group::Others,
        }
    }
}

/// The instances, and the port of each that says one.
fn ports(lines: &[Line]) -> BTreeMap<&str, Option<u16>> {
    let mut ports = BTreeMap::new();
    for line in lines {
        if let Group::Instance(suffix) = &line.group {
            let port = ports.entry(suffix.as_str()).or_insert(None);
            if line.name == "port" {
                *port = line.value.as_deref().and_then(|port| port.parse().ok());
            }
        }
    }
    ports
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

/// A line taken apart: the comment first, whatever it holds, then at the first `=`.
fn option(line: &str) -> (String, Option<String>) {
    let line = without_comment(line);
    let (name, value) = match line.split_once('=') {
        Some((name, value)) => (name, Some(unescaped(unquoted(value.trim())))),
        None => (line, None),
    };
    (normal(name.trim()), value)
}

/// A line up to the first `#` outside of quotes. A backslash hides a quote only inside of quotes.
fn without_comment(line: &str) -> &str {
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in line.char_indices() {
        match (c, quote) {
            ('#', None) => return &line[..at],
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open && !escaped => quote = None,
            _ => {}
        }
        escaped = quote.is_some() && c == '\\' && !escaped;
    }
    line
}

/// A value without the quotes that stand at both ends of it.
fn unquoted(value: &str) -> &str {
    let inner = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    inner('\'').or_else(|| inner('"')).unwrap_or(value)
}

fn unescaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
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
            Some(itself @ ('\\' | '"' | '\'')) => out.push(itself),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const MYSQL: OptionsOf = OptionsOf { mariadb: false, series: Some((8, 0)), port: Some(3306) };
    const MARIADB: OptionsOf = OptionsOf { mariadb: true, series: Some((10, 11)), port: Some(3306) };

    #[test]
    fn only_the_groups_of_the_server_count_and_the_last_line_wins() {
        let text = "port = 1\n[mysqld]\nport=2\n[mysqld_safe]\nport=3\n[mysqld-8.0]\nport = 4\n[mysqld-5.7]\nport=5\n\
                    [mysqldump]\nport=6\n[mariadb-backup]\nport=7\n[mariadb-10.11]\nsql-mode=''\n[mariadb-10.6]\na=1\n\
                    [Server] # of all\nb=1\n[ mysqld]\nc=1\n[client-server]\nd=1\n[galera]\ne=1\n[mariadb-dump]\nf=1\n";
        let mysql = MyConf::parse(text, &MYSQL);
        assert_eq!(mysql.options().collect::<Vec<_>>(), [("b", Some("1")), ("port", Some("4"))]);
        let maria = MyConf::parse(text, &MARIADB);
        let said = [("b", "1"), ("d", "1"), ("e", "1"), ("port", "2"), ("sql_mode", "")];
        assert_eq!(maria.options().collect::<Vec<_>>(), said.map(|(name, value)| (name, Some(value))));
        let any = MyConf::parse(text, &OptionsOf { series: None, ..MYSQL });
        assert_eq!(any.get("port"), Some("5"));
        for conf in [mysql, maria, any] {
            assert!(conf.unread().is_empty(), "{:?}", conf.unread());
        }
    }

    #[test]
    fn comments_quotes_and_escapes_are_those_of_the_servers_own_reader() {
        // Compared with my_print_defaults of MariaDB 10.11 and MySQL 9.7.
        for (line, value) in [
            (r#""x # y" # z"#, "x # y"),
            ("x#y # z", "x"),
            ("1#c", "1"),
            ("'it''s'", "it''s"),
            (r"a\tb\sc\q", "a\tb c\\q"),
            ("", ""),
            ("# all", ""),
            ("5  ;semi", "5  ;semi"),
            (r#"a"b#c"d # e"#, r#"a"b#c"d"#),
            (r#""a" b # c"#, r#""a" b"#),
            (r#""a" "b" # c"#, r#"a" "b"#),
            (r#""open # n"#, r#""open # n"#),
            ("it's # ok", "it's # ok"),
            (r#"\"x\""#, r#""x""#),
            ("'a", "'a"),
            (r"a\#b # c", r"a\"),
            ("\\\"#x", "\"#x"),
            ("a\\\\\"#b\" # c", "a\\\"#b\""),
            ("\"a\\\"b\"#c", "a\"b"),
            ("1 # \"", "1"),
        ] {
            let conf = MyConf::parse(&format!("[mysqld]\nv = {line}\n"), &MARIADB);
            assert_eq!(conf.get("v"), Some(value), "{line}");
        }
        let conf = MyConf::parse("[mysqld]\nloose-e\nf # default=ON\n;g=1\n#h=1\n  i#=1\n", &MARIADB);
        assert_eq!(conf.options().collect::<Vec<_>>(), [("e", None), ("f", None), ("i", None)]);
    }

    #[test]
    fn the_last_form_of_an_option_counts() {
        let form = |lines: &str| {
            let conf = MyConf::parse(&format!("[mysqld]\n{lines}\n"), &MYSQL);
            conf.form("some-option").map(|(name, value)| (name.to_owned(), value.map(str::to_owned)))
        };
        let said = |name: &str, value: Option<&str>| Some((name.to_owned(), value.map(str::to_owned)));
        assert_eq!(form("some_option\t# on"), said("some_option", None));
        assert_eq!(form("some-option=0\nloose-enable-some-option"), said("enable_some_option", None));
        assert_eq!(form("some-option\nskip-some-option"), said("skip_some_option", None));
        assert_eq!(form("disable_some_option=0"), said("disable_some_option", Some("0")));
        assert_eq!(form("skip-some-option\nsome-option = 1"), said("some_option", Some("1")));
        assert_eq!(form("some-option-too\nskip-other"), None);
        let conf = MyConf::parse("[mysqld]\nlog_bin=x\nskip-log-bin\nskip-name-resolve\n", &MYSQL);
        assert!(conf.has("skip_name_resolve") && !conf.has("name_resolve"));
        assert_eq!(conf.options().collect::<Vec<_>>(), [("skip_log_bin", None), ("skip_name_resolve", None)]);
    }

    #[test]
    fn an_instance_is_told_by_its_port() {
        let text = "[mysqld2]\nport=3307\nx=2\n[mysqld@a]\nport = 3308\n[server@a]\nx=3\n[mysqld]\nx=1\n";
        let x = |port| {
            let conf = MyConf::parse(text, &OptionsOf { port, ..MYSQL });
            assert!(conf.unread().is_empty(), "{:?}", conf.unread());
            conf.get("x").map(str::to_owned)
        };
        assert_eq!(x(Some(3306)).as_deref(), Some("1"));
        assert_eq!(x(Some(3307)).as_deref(), Some("2"), "mysqld_multi gives it on the command line");
        assert_eq!(x(Some(3308)).as_deref(), Some("1"), "in the order of the file");
        assert_eq!(x(None).as_deref(), Some("1"));
        let unread = |port| {
            let text = format!("{text}[mysqld3]\nx=4\n");
            MyConf::parse(&text, &OptionsOf { port, ..MYSQL }).unread().to_vec()
        };
        assert!(unread(Some(3307)).is_empty(), "its own was found");
        assert_eq!(unread(Some(3306)), ["[mysqld3]"]);
    }

    #[test]
    fn what_is_not_read_and_may_matter_is_named() {
        let text = "!includedir /etc/mysql/conf.d/\n[mysqld]\nx=1\n[mysqld_3307]\nx=2\n[mariadb.1]\nx=3\n[mariadb-admin]\n\
                    x=4\n!include /etc/x.cnf\n[mysqld_multi]\nx=5\n[mariadbd-safe]\nx=6\n";
        let maria = MyConf::parse(text, &MARIADB);
        let includes = ["!includedir /etc/mysql/conf.d/", "!include /etc/x.cnf"];
        assert_eq!(maria.unread(), [includes[0], "[mysqld_3307]", "[mariadb.1]", includes[1]]);
        assert_eq!(maria.get("x"), Some("1"));
        let mysql = MyConf::parse(text, &MYSQL);
        assert_eq!(mysql.unread(), [includes[0], "[mysqld_3307]", includes[1]]);
    }
}

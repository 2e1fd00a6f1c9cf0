//! INI files as Python's `configparser` reads them, with the values taken literally.
//!
//! The rules (checked against Python 3.11 by the files in `tests/ini`):
//!
//! - `key = value` or `key: value`; the first of the two signs separates. Keys are folded to lower case.
//! - `[section]` is case-sensitive and not trimmed; what follows the last `]` of the line is ignored.
//! - A line whose first sign is `#` or `;` is a comment. There are no comments behind a value.
//! - A line indented deeper than its key continues the value, joined by a line feed; so do empty lines in between.
//! - `[DEFAULT]` gives values to every section. A section or key that is there twice is an error.
//!
//! The one difference: `%` has no meaning. `configparser` with its defaults replaces `%(name)s`, turns `%%` into
//! `%`, and refuses any other `%`; here a password with `%` is just that. [`Ini::doubled_percents`] finds the
//! values that mean something else than they did.

use std::collections::BTreeMap;
use std::fmt;

use crate::error::{Error, Problem};

/// Name of the section whose values every other section inherits.
const DEFAULT: &str = "DEFAULT";

#[derive(Clone)]
struct Value {
    text: String,
    line: usize,
}

type Section = BTreeMap<String, Value>;

/// A parsed INI file.
///
/// ```
/// use backup_catalog::ini::Ini;
///
/// let ini = Ini::parse("recovery.conf", "[misc]\nDebug: 1\npassword = a%b # c\n")?;
/// assert_eq!(ini.get("misc", "debug"), Some("1"));
/// assert_eq!(ini.get("misc", "password"), Some("a%b # c"));
/// assert_eq!(ini.line("misc", "password"), Some(3));
/// # Ok::<(), backup_catalog::Error>(())
/// ```
#[derive(Clone)]
pub struct Ini {
    file: String,
    order: Vec<String>,
    sections: BTreeMap<String, Section>,
    defaults: Section,
}

impl Ini {
    /// Parses `text`; `file` is how errors call it.
    ///
    /// # Errors
    ///
    /// [`Error::Line`] for the first line that is no INI.
    pub fn parse(file: impl Into<String>, text: &str) -> Result<Self, Error> {
        let mut ini = Self {
            file: file.into(),
            order: Vec::new(),
            sections: BTreeMap::new(),
            defaults: Section::default(),
        };
        Parser::default().run(&mut ini, text)?;
        Ok(ini)
    }

    /// The file's name as it was given.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Names of the sections in file order, without `DEFAULT`.
    pub fn sections(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str)
    }

    /// The keys of a section in alphabetical order, its own and those of `DEFAULT`.
    pub fn keys(&self, section: &str) -> impl Iterator<Item = &str> {
        let own = self.sections.get(section);
        let inherited = self.defaults.keys().filter(move |k| own.is_some_and(|s| !s.contains_key(*k)));
        own.into_iter().flat_map(|s| s.keys()).chain(inherited).map(String::as_str)
    }

    /// The value of a key, in any case, in a section or else in `DEFAULT`. `None` without the section.
    pub fn get(&self, section: &str, key: &str) -> Option<&str> {
        self.value(section, key).map(|v| v.text.as_str())
    }

    /// The line where a value starts.
    pub fn line(&self, section: &str, key: &str) -> Option<usize> {
        self.value(section, key).map(|v| v.line)
    }

    /// Sections, keys and lines whose value holds `%%` or `%(`, which `configparser` would have replaced.
    pub fn doubled_percents(&self) -> impl Iterator<Item = (&str, &str, usize)> {
        let sections = self.sections.iter().map(|(name, s)| (name.as_str(), s));
        sections.chain([(DEFAULT, &self.defaults)]).flat_map(|(name, section)| {
            let changed = section.iter().filter(|(_, v)| v.text.contains("%%") || v.text.contains("%("));
            changed.map(move |(key, v)| (name, key.as_str(), v.line))
        })
    }

    fn value(&self, section: &str, key: &str) -> Option<&Value> {
        let key = key.to_lowercase();
        let own = self.sections.get(section)?;
        own.get(&key).or_else(|| self.defaults.get(&key))
    }

    fn section_mut(&mut self, name: &str) -> &mut Section {
        if name == DEFAULT { &mut self.defaults } else { self.sections.entry(name.to_owned()).or_default() }
    }
}

/// Values may be passwords: only names are shown.
impl fmt::Debug for Ini {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.sections.iter().map(|(name, s)| (name, s.keys().collect::<Vec<_>>()));
        f.debug_map().entries(keys).finish()
    }
}

/// Where the parser stands between two lines.
#[derive(Default)]
struct Parser {
    section: Option<String>,
    key: Option<String>,
    indent: usize,
}

impl Parser {
    fn run(mut self, ini: &mut Ini, text: &str) -> Result<(), Error> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (index, line) in lines(text).enumerate() {
            self.line(ini, index + 1, line)?;
        }
        for section in ini.sections.values_mut().chain([&mut ini.defaults]) {
            for value in section.values_mut() {
                value.text.truncate(value.text.trim_end_matches(is_space).len());
            }
        }
        Ok(())
    }

    fn line(&mut self, ini: &mut Ini, number: usize, line: &str) -> Result<(), Error> {
        let trimmed = line.trim_matches(is_space);
        if trimmed.starts_with(['#', ';']) {
            return Ok(());
        }
        if trimmed.is_empty() {
            self.append(ini, "");
            return Ok(());
        }
        let indent = line.chars().take_while(|&c| is_space(c)).count();
        if self.key.is_some() && indent > self.indent {
            self.append(ini, trimmed);
            return Ok(());
        }
        self.indent = indent;
        if let Some(name) = header(trimmed) {
            return self.begin(ini, number, name);
        }
        let problem = |problem| Error::line(&ini.file, number, problem);
        let Some(section) = &self.section else { return Err(problem(Problem::NoSection)) };
        let Some(at) = trimmed.find(['=', ':']).filter(|&at| at > 0) else {
            return Err(problem(Problem::NotIni));
        };
        let key = trimmed[..at].trim_end_matches(is_space).to_lowercase();
        let value = Value { text: trimmed[at + 1..].trim_matches(is_space).to_owned(), line: number };
        let values = ini.section_mut(section);
        if values.contains_key(&key) {
            return Err(Error::line(&ini.file, number, Problem::DuplicateKey(key)));
        }
        values.insert(key.clone(), value);
        self.key = Some(key);
        Ok(())
    }

    fn begin(&mut self, ini: &mut Ini, number: usize, name: &str) -> Result<(), Error> {
        if ini.sections.contains_key(name) {
            return Err(Error::line(&ini.file, number, Problem::DuplicateSection(name.to_owned())));
        }
        if name != DEFAULT {
            ini.order.push(name.to_owned());
        }
        // A section without keys is there, too.
        ini.section_mut(name);
        self.section = Some(name.to_owned());
        self.key = None;
        Ok(())
    }

    fn append(&self, ini: &mut Ini, more: &str) {
        let (Some(section), Some(key)) = (&self.section, &self.key) else { return };
        if let Some(value) = ini.section_mut(section).get_mut(key) {
            value.text.push('\n');
            value.text.push_str(more);
        }
    }
}

/// The name in `[name]`: at least one character, up to the last `]`.
fn header(line: &str) -> Option<&str> {
    let inner = line.strip_prefix('[')?;
    inner.rfind(']').filter(|&end| end > 0).map(|end| &inner[..end])
}

/// What Python's `str.strip` takes for white space: Unicode's, and the four ASCII separators.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// Lines as Python's text files give them: ended by LF, CR LF or CR.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.find(['\n', '\r']).unwrap_or(rest.len());
        let line = &rest[..end];
        let skip = if rest[end..].starts_with("\r\n") { 2 } else { 1 };
        rest = rest.get(end + skip..).unwrap_or("");
        Some(line)
    })
}

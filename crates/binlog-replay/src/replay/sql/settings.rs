//! The session settings of statements: what changed since the statement before, as `SET` statements.
//!
//! The same settings that `mysqlbinlog` writes, from the status variables of query events.

use super::values::Collations;
use crate::event::{Header, Query, SessionCharset, Status};
use crate::replay::session::hex;
use crate::unsaid::{Unsaid, unsaid};
use crate::version::{Flavor, ServerVersion};

/// `sql_mode` bits that MySQL 8.0 no longer lets anyone set: the modes of other products
/// (`POSTGRESQL` to `MYSQL40`, bits 8 to 17) and `NO_AUTO_CREATE_USER` (28).
const MODES_GONE_IN_MYSQL_8: u64 = (0x3ff << 8) | (1 << 28);

/// Whose settings they are, and who gets them.
pub(super) struct Between<'a> {
    /// The server that wrote the event.
    pub(super) source: &'a ServerVersion,
    /// The server of the session.
    pub(super) server: &'a ServerVersion,
    /// Its collations.
    pub(super) collations: &'a Collations,
}

/// What the session is set to.
#[derive(Debug, Default)]
pub(super) struct Settings {
    database: Option<Vec<u8>>,
    thread: Option<u32>,
    timestamp: Option<(u32, u32)>,
    flags2: Option<u32>,
    sql_mode: Option<u64>,
    auto_increment: Option<(u16, u16)>,
    charset: Option<SessionCharset>,
    /// For a name the session reads UTF-8, whatever `charset` says.
    reads_utf8: bool,
    time_zone: Option<Vec<u8>>,
    lc_time_names: Option<u16>,
    database_collation: Option<u16>,
    explicit_defaults: Option<u8>,
    utf8mb4_collation: Option<u16>,
    require_primary_key: Option<u8>,
    table_encryption: Option<u8>,
    cascade_triggers: Option<u8>,
    charset_collations: Option<Vec<(u16, u16)>>,
    versions: Option<(u32, u32)>,
}

impl Settings {
    /// Appends the statements, each ended by `;`, that bring the session to where `query` needs it; the error
    /// names what cannot be set.
    pub(super) fn change(
        &mut self,
        query: &Query<'_>,
        header: Header,
        between: &Between<'_>,
        out: &mut Vec<Vec<u8>>,
    ) -> Result<(), String> {
        // CREATE DATABASE and DROP DATABASE name a database that is not there; ALTER DATABASE need not name the one that is.
        let suppressed = header.has(Header::SUPPRESS_USE);
        let uses = !query.database.is_empty()
            && (!suppressed || unsaid(&query.text, false) == Some(Unsaid::Database));
        if uses && self.database.as_deref() != Some(query.database) {
            self.name(query.database, out);
            let mut sql = b"USE ".to_vec();
            quote_name(query.database, &mut sql);
            sql.push(b';');
            out.push(sql);
            self.database = Some(query.database.to_vec());
            // USE sets the collation of the database.
            self.database_collation = None;
        }
        let mut set = Setter::default();
        let time = (header.timestamp, query.status.microseconds.unwrap_or(0));
        if self.timestamp.replace(time) != Some(time) {
            set.item("timestamp", &format!("{}.{:06}", time.0, time.1));
        }
        if self.thread.replace(query.thread) != Some(query.thread) {
            set.item("pseudo_thread_id", &query.thread.to_string());
        }
        self.status(&query.status, between, &mut set)?;
        set.end(out);
        if suppressed {
            // It makes, drops or changes a database, which may be that of the session.
            (self.database, self.database_collation) = (None, None);
        }
        Ok(())
    }

    /// Makes the session read `name` as it is in every binlog, whatever the client of its statement spoke.
    pub(super) fn name(&mut self, name: &[u8], out: &mut Vec<Vec<u8>>) {
        if !name.is_ascii() && !self.reads_utf8 {
            out.push(b"SET @@session.character_set_client=utf8mb4;".to_vec());
            self.reads_utf8 = true;
        }
    }

    /// Row events were applied in the session: the server set its time, and the options that their flags tell, to
    /// theirs, so both are to be said again.
    pub(super) fn after_rows(&mut self) {
        (self.timestamp, self.flags2) = (None, None);
    }

    fn status(&mut self, status: &Status<'_>, between: &Between<'_>, set: &mut Setter) -> Result<(), String> {
        let server = between.server;
        if let Some(flags) = changed(&mut self.flags2, status.flags2) {
            let on = |bit: u32| if flags & bit == 0 { "0" } else { "1" };
            let off = |bit: u32| if flags & bit == 0 { "1" } else { "0" };
            set.item("foreign_key_checks", off(Status::NO_FOREIGN_KEY_CHECKS));
            set.item("unique_checks", off(Status::RELAXED_UNIQUE_CHECKS));
            set.item("sql_auto_is_null", on(Status::AUTO_IS_NULL));
            if server.flavor == Flavor::MariaDb {
                set.item("check_constraint_checks", off(Status::NO_CHECK_CONSTRAINT_CHECKS));
                if server.at_least(Flavor::MariaDb, 10, 5, 2) {
                    set.item("sql_if_exists", on(Status::IF_EXISTS));
                }
                if server.at_least(Flavor::MariaDb, 10, 11, 0) {
                    set.item("system_versioning_insert_history", on(Status::INSERT_HISTORY));
                }
                if Status::writes_explicit_defaults(between.source) {
                    set.item("explicit_defaults_for_timestamp", on(Status::EXPLICIT_DEFAULTS));
                }
            }
        }
        if let Some(mode) = changed(&mut self.sql_mode, status.sql_mode) {
            let gone = if server.at_least(Flavor::MySql, 8, 0, 0) { MODES_GONE_IN_MYSQL_8 } else { 0 };
            set.item("sql_mode", &(mode & !gone).to_string());
        }
        // Written only where it is not the default.
        let auto_increment = Some(status.auto_increment.unwrap_or((1, 1)));
        if let Some((increment, offset)) = changed(&mut self.auto_increment, auto_increment) {
            set.item("auto_increment_increment", &increment.to_string());
            set.item("auto_increment_offset", &offset.to_string());
        }
        let charset = status.charset.or(self.charset);
        if std::mem::take(&mut self.reads_utf8) {
            self.charset = None;
        }
        if let Some(charset) = changed(&mut self.charset, charset) {
            set.item("character_set_client", &charset.client.to_string());
            set.item("collation_connection", &charset.connection.to_string());
            set.item("collation_server", &charset.server.to_string());
        }
        if let Some(zone) = status.time_zone
            && self.time_zone.as_deref() != Some(zone)
        {
            set.item("time_zone", &text(zone));
            self.time_zone = Some(zone.to_vec());
        }
        if let Some(names) = changed(&mut self.lc_time_names, Some(status.lc_time_names.unwrap_or(0))) {
            set.item("lc_time_names", &names.to_string());
        }
        let collation = Some(status.database_collation.unwrap_or(0));
        if let Some(collation) = changed(&mut self.database_collation, collation) {
            let value = if collation == 0 { "DEFAULT".into() } else { collation.to_string() };
            set.item("collation_database", &value);
        }
        if let Some(on) = changed(&mut self.explicit_defaults, status.explicit_defaults_for_timestamp) {
            set.item("explicit_defaults_for_timestamp", &on.to_string());
        }
        let mysql = |major, minor, patch| server.at_least(Flavor::MySql, major, minor, patch);
        if let Some(id) = changed(&mut self.utf8mb4_collation, status.default_collation_for_utf8mb4)
            && mysql(8, 0, 11)
        {
            set.item("default_collation_for_utf8mb4", &id.to_string());
        }
        if let Some(on) = changed(&mut self.require_primary_key, status.sql_require_primary_key)
            && mysql(8, 0, 13)
        {
            set.item("sql_require_primary_key", &on.to_string());
        }
        if let Some(on) = changed(&mut self.table_encryption, status.default_table_encryption)
            && mysql(8, 0, 16)
        {
            set.item("default_table_encryption", &on.to_string());
        }
        if let Some(on) = changed(&mut self.cascade_triggers, status.enable_cascade_triggers)
            && mysql(9, 7, 0)
        {
            set.item("enable_cascade_triggers", &on.to_string());
        }
        if let Some(pairs) = &status.character_set_collations {
            if self.charset_collations.as_ref() != Some(pairs) {
                set.item("character_set_collations", &text(&charset_collations(pairs, between.collations)?));
            }
            self.charset_collations = Some(pairs.clone());
        }
        Ok(())
    }

    /// The statement that tells the versions that a MySQL GTID event states: some DDL statements depend on them.
    pub(super) fn versions(&mut self, original: u32, immediate: u32) -> Option<Vec<u8>> {
        (self.versions.replace((original, immediate)) != Some((original, immediate))).then(|| {
            let mut set = Setter::default();
            set.item("original_server_version", &original.to_string());
            set.item("immediate_server_version", &immediate.to_string());
            set.statement
        })
    }
}

/// The value of `character_set_collations`, which takes names; an empty one means the defaults.
fn charset_collations(pairs: &[(u16, u16)], names: &Collations) -> Result<Vec<u8>, String> {
    let mut value = String::new();
    for (_, collation) in pairs {
        let known = names.get(&u32::from(*collation));
        let (charset, name) = known.ok_or_else(|| format!("the server has no collation {collation}"))?;
        let comma = if value.is_empty() { "" } else { "," };
        value.push_str(&format!("{comma}{charset}={name}"));
    }
    Ok(value.into_bytes())
}

/// The new value if it is another one than before; a value that is not stated changes nothing.
fn changed<T: Copy + PartialEq>(now: &mut Option<T>, stated: Option<T>) -> Option<T> {
    let stated = stated?;
    (now.replace(stated) != Some(stated)).then_some(stated)
}

/// One `SET` statement with as many variables as there are.
#[derive(Default)]
struct Setter {
    statement: Vec<u8>,
}

impl Setter {
    fn item(&mut self, name: &str, value: &str) {
        if self.statement.pop().is_none() {
            self.statement.extend(b"SET ");
        } else {
            self.statement.push(b',');
        }
        self.statement.extend(format!("@@session.{name}={value};").as_bytes());
    }

    fn end(self, out: &mut Vec<Vec<u8>>) {
        if !self.statement.is_empty() {
            out.push(self.statement);
        }
    }
}

/// A value that is ASCII on every server, as a string of SQL that no `sql_mode` reads differently.
fn text(value: &[u8]) -> String {
    format!("_latin1 X'{}'", hex(value))
}

/// A name in backticks.
pub(super) fn quote_name(name: &[u8], out: &mut Vec<u8>) {
    out.push(b'`');
    for &b in name {
        if b == b'`' {
            out.push(b'`');
        }
        out.push(b);
    }
    out.push(b'`');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_value_is_not_set_again() {
        let mut now = None;
        assert_eq!(changed(&mut now, Some(3)), Some(3));
        assert_eq!(changed(&mut now, Some(3)), None);
        assert_eq!(changed(&mut now, None), None);
        assert_eq!(changed(&mut now, Some(4)), Some(4));
    }

    #[test]
    fn collations_of_character_sets_are_set_by_their_names() {
        let names = [(45, "utf8mb4_general_ci"), (2304, "utf8mb4_uca1400_ai_ci")];
        let names = names.map(|(id, name)| (id, ("utf8mb4".to_owned(), name.to_owned()))).into();
        assert_eq!(charset_collations(&[], &names).unwrap(), b"");
        assert_eq!(charset_collations(&[(45, 2304)], &names).unwrap(), b"utf8mb4=utf8mb4_uca1400_ai_ci");
        assert!(charset_collations(&[(45, 7)], &names).unwrap_err().contains('7'));
    }

    #[test]
    fn names_keep_their_backticks() {
        let mut out = Vec::new();
        quote_name(b"a`b", &mut out);
        assert_eq!(out, b"`a``b`");
    }
}

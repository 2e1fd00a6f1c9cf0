//! What a statement does not say, and its session said: the default database, and the user.
//!
//! A binlog names both beside the statement. A server's own applier reads them there; `mysqlbinlog` prints neither, so a
//! client that is fed by it takes its own.

use std::ops::Range as Span;

use crate::words::Words;

/// What a statement leaves to its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unsaid {
    /// `ALTER DATABASE` without a name.
    Database,
    /// The user: who an event or a role belongs to, or whose account it is.
    User(Vec<Gap>),
    /// The user, in a statement that cannot be read without its server.
    Unclear,
}

/// A place in a statement where a user is to be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gap {
    /// What the user takes the place of.
    pub(crate) at: Span<usize>,
    /// What comes before the user there.
    pub(crate) before: &'static str,
}

/// What `text` leaves to its session; `None` for nearly every statement.
///
/// `invoker`: the binlog names the user. MariaDB's `CREATE ROLE` and `ALTER EVENT` of both say by that alone that they mean
/// it.
pub(crate) fn unsaid(text: &[u8], invoker: bool) -> Option<Unsaid> {
    let mut tokens = Words::of(text);
    let verb = tokens.verb();
    // Where the settings in front of it end, `sql_mode` says.
    if tokens.unclear {
        return Some(Unsaid::Unclear);
    }
    let verb = verb?;
    let is = |span: &Span<usize>, words: &[&str]| {
        words.iter().any(|word| text[span.clone()].eq_ignore_ascii_case(word.as_bytes()))
    };
    if is(&verb, &["GRANT", "REVOKE"]) {
        return named_users(tokens);
    }
    if !is(&verb, &["CREATE", "ALTER", "DROP", "RENAME"]) {
        return None;
    }
    let mut object = tokens.word()?;
    if is(&object, &["OR"]) {
        tokens.word()?;
        object = tokens.word()?;
    }
    if is(&object, &["USER"]) {
        return named_users(tokens);
    }
    if is(&object, &["ROLE"]) {
        return match named_users(tokens.clone()) {
            None if invoker && is(&verb, &["CREATE"]) && tokens.all(|word| !is(&word, &["ADMIN"])) => {
                let end = text.len();
                Some(Unsaid::User(vec![Gap { at: end..end, before: "\nWITH ADMIN " }]))
            }
            named => named,
        };
    }
    if !is(&verb, &["ALTER"]) {
        return None;
    }
    if is(&object, &["EVENT"]) && invoker {
        return Some(Unsaid::User(vec![Gap { at: verb.end..verb.end, before: " DEFINER=" }]));
    }
    if is(&object, &["DEFINER"]) {
        let equals = tokens.next()?;
        let definer = tokens.next().filter(|_| text[equals] == *b"=")?;
        if !is(&definer, &["CURRENT_USER"]) {
            return None;
        }
        let at = tokens.with_brackets(definer);
        let object = tokens.word()?;
        return is(&object, &["EVENT"]).then(|| Unsaid::User(vec![Gap { at, before: "" }]));
    }
    if is(&object, &["DATABASE", "SCHEMA"]) {
        let options = ["CHARACTER", "CHAR", "CHARSET", "COLLATE", "DEFAULT", "ENCRYPTION", "READ", "COMMENT"];
        let next = tokens.next()?;
        return is(&next, &options).then_some(Unsaid::Database);
    }
    None
}

/// Every `CURRENT_USER` of a statement about accounts and rights.
fn named_users(mut tokens: Words<'_>) -> Option<Unsaid> {
    let (mut gaps, mut role) = (Vec::new(), false);
    while let Some(token) = tokens.next() {
        let word = &tokens.text[token.clone()];
        if word.eq_ignore_ascii_case(b"CURRENT_USER") {
            gaps.push(Gap { at: tokens.with_brackets(token), before: "" });
        } else if word.eq_ignore_ascii_case(b"CURRENT_ROLE") {
            role = true;
        }
    }
    // Where its strings end may depend on its session, too.
    let hidden = || {
        let text = tokens.text.to_ascii_uppercase();
        let found = |word: &[u8]| text.windows(word.len()).any(|part| part == word);
        found(b"CURRENT_USER") || found(b"CURRENT_ROLE")
    };
    match gaps.is_empty() {
        _ if role || (tokens.unclear && hidden()) => Some(Unsaid::Unclear),
        true => None,
        false => Some(Unsaid::User(gaps)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The statement with what it does not say said by `U`; `None` if it says everything.
    fn said(text: &str, invoker: bool) -> Option<String> {
        match unsaid(text.as_bytes(), invoker)? {
            Unsaid::Database => Some("the database".into()),
            Unsaid::Unclear => Some("unclear".into()),
            Unsaid::User(gaps) => {
                let mut said = text.to_owned();
                for gap in gaps.iter().rev() {
                    said.replace_range(gap.at.clone(), &format!("{}U", gap.before));
                }
                Some(said)
            }
        }
    }

    #[test]
    fn who_an_event_and_a_role_belong_to_is_said() {
        for (text, expected) in [
            ("ALTER EVENT e COMMENT 'x'", "ALTER DEFINER=U EVENT e COMMENT 'x'"),
            ("/* a */ alter/* b */event e DISABLE", "/* a */ alter DEFINER=U/* b */event e DISABLE"),
            (
                "ALTER DEFINER = CURRENT_USER ( ) EVENT e DO DO CURRENT_USER()",
                "ALTER DEFINER = U EVENT e DO DO CURRENT_USER()",
            ),
            ("CREATE ROLE r -- for", "CREATE ROLE r -- for\nWITH ADMIN U"),
            ("CREATE OR REPLACE ROLE r", "CREATE OR REPLACE ROLE r\nWITH ADMIN U"),
            ("CREATE ROLE r WITH ADMIN CURRENT_USER", "CREATE ROLE r WITH ADMIN U"),
            (
                "SET STATEMENT a=1 FOR ALTER EVENT e DISABLE",
                "SET STATEMENT a=1 FOR ALTER DEFINER=U EVENT e DISABLE",
            ),
            ("/*M!100100 ALTER EVENT e DISABLE */", "/*M!100100 ALTER DEFINER=U EVENT e DISABLE */"),
            ("SET STATEMENT a=1 FOR CREATE ROLE r", "SET STATEMENT a=1 FOR CREATE ROLE r\nWITH ADMIN U"),
            ("SET STATEMENT a='\\'' FOR INSERT INTO t VALUES (1)", "unclear"),
        ] {
            assert_eq!(said(text, true).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "ALTER DEFINER=`a`@`b` EVENT e DO SELECT CURRENT_USER()",
            "ALTER DEFINER=CURRENT_USER VIEW v AS SELECT 1",
            "CREATE DEFINER=`a`@`b` EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT CURRENT_USER()",
            "CREATE ROLE r WITH ADMIN `CURRENT_USER`@`b`",
            "DROP ROLE r",
            "ALTER TABLE event ADD COLUMN a INT",
        ] {
            assert_eq!(said(text, true), None, "{text}");
        }
        assert_eq!(said("ALTER EVENT e COMMENT 'x'", false), None);
        assert_eq!(said("CREATE ROLE r", false), None, "MySQL's belong to nobody");
    }

    #[test]
    fn whose_account_it_is_is_said() {
        for (text, expected) in [
            ("GRANT a TO CURRENT_USER", "GRANT a TO U"),
            ("GRANT a TO current_user(), 'CURRENT_USER'@h", "GRANT a TO U, 'CURRENT_USER'@h"),
            ("REVOKE a FROM CURRENT_USER /* () */", "REVOKE a FROM U /* () */"),
            ("RENAME USER CURRENT_USER TO u", "RENAME USER U TO u"),
            ("ALTER USER CURRENT_USER() IDENTIFIED BY 'it''s'", "ALTER USER U IDENTIFIED BY 'it''s'"),
            ("GRANT a TO CURRENT_USER REQUIRE SUBJECT 'a\\'", "unclear"),
            ("GRANT a TO CURRENT_ROLE", "unclear"),
            ("SET STATEMENT a=1 FOR GRANT a TO CURRENT_USER", "SET STATEMENT a=1 FOR GRANT a TO U"),
        ] {
            assert_eq!(said(text, true).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "GRANT a TO 'CURRENT_USER'@h",
            "CREATE USER u IDENTIFIED WITH p AS 'a\\'b'",
            "GRANT ALL ON *.* TO u@localhost",
            "DROP USER IF EXISTS u # CURRENT_USER",
            "CREATE USER",
            "",
        ] {
            assert_eq!(said(text, true), None, "{text}");
        }
    }

    #[test]
    fn a_database_without_a_name_is_the_sessions() {
        for text in [
            "ALTER DATABASE CHARACTER SET latin1",
            "alter schema /* which? */ collate utf8mb4_bin",
            "SET STATEMENT max_statement_time=10 FOR ALTER DATABASE CHARACTER SET latin1",
            "--\n--\twhich?\nALTER DATABASE CHARACTER SET latin1",
            "ALTER DATABASE DEFAULT ENCRYPTION='Y'",
        ] {
            assert_eq!(said(text, false).as_deref(), Some("the database"), "{text}");
        }
        for text in
            ["ALTER DATABASE shop COLLATE utf8mb4_bin", "ALTER DATABASE `default` COLLATE utf8mb4_bin"]
        {
            assert_eq!(said(text, false), None, "{text}");
        }
    }
}

//! What a statement is, by its words: no SQL parser.

use serde::Serialize;

use crate::words::Words;

/// What a statement does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StatementKind {
    /// `CREATE`, `ALTER`, `DROP`, `TRUNCATE`, `RENAME`, accounts and rights.
    Ddl,
    /// `INSERT`, `REPLACE`, `LOAD`.
    Insert,
    /// `UPDATE`.
    Update,
    /// `DELETE`.
    Delete,
    /// `BEGIN`, `SAVEPOINT`, `XA …` and whatever else.
    Other,
}

impl StatementKind {
    /// Looks at the first word behind comments and MariaDB's `SET STATEMENT … FOR`. What cannot be read without
    /// its server counts as a change of the schema.
    pub fn of(text: &[u8]) -> Self {
        // Most statements in a binlog are this one.
        if text == b"BEGIN" {
            return Self::Other;
        }
        let mut words = Words::of(text);
        let verb = words.verb();
        if words.unclear {
            return Self::Ddl;
        }
        let Some(verb) = verb else { return Self::Other };
        let is = |words: &[&str]| words.iter().any(|w| text[verb.clone()].eq_ignore_ascii_case(w.as_bytes()));
        if is(&["CREATE", "ALTER", "DROP", "TRUNCATE", "RENAME", "GRANT", "REVOKE"]) {
            Self::Ddl
        } else if is(&["INSERT", "REPLACE", "LOAD"]) {
            Self::Insert
        } else if is(&["UPDATE"]) {
            Self::Update
        } else if is(&["DELETE"]) {
            Self::Delete
        } else {
            Self::Other
        }
    }
}

/// Whether a statement may be `CREATE … EVENT` or `ALTER … EVENT`: a table of that name is taken for one, too.
pub(crate) fn may_make_event(text: &[u8]) -> bool {
    let mut words = Words::of(text);
    let first = words.verb().map_or(&b""[..], |verb| &text[verb]);
    (words.unclear || first.eq_ignore_ascii_case(b"CREATE") || first.eq_ignore_ascii_case(b"ALTER"))
        && text.split(|b| !b.is_ascii_alphanumeric()).any(|word| word.eq_ignore_ascii_case(b"EVENT"))
}

/// At most `limit` bytes of a statement as text for people.
pub(crate) fn excerpt(text: &[u8], limit: usize) -> String {
    let cut = &text[..text.len().min(limit)];
    let mut out = String::from_utf8_lossy(cut).into_owned();
    if cut.len() < text.len() {
        while out.ends_with('\u{fffd}') {
            out.pop();
        }
        out.push('…');
    }
    out
}

/// The statement with every literal behind `IDENTIFIED` or `PASSWORD` left out.
pub(crate) fn without_passwords(text: &[u8]) -> Vec<u8> {
    let Some(from) = passwords_from(text) else { return text.to_vec() };
    let mut out = text[..from].to_vec();
    let mut rest = &text[from..];
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        out.push(byte);
        if !matches!(byte, b'\'' | b'"') {
            continue;
        }
        out.extend(b"***");
        while let Some((&inner, tail)) = rest.split_first() {
            rest = tail;
            match inner {
                b'\\' => rest = rest.get(1..).unwrap_or_default(),
                b if b == byte && rest.first() == Some(&byte) => rest = &rest[1..],
                b if b == byte => {
                    out.push(byte);
                    break;
                }
                _ => {}
            }
        }
    }
    out
}

/// Where `IDENTIFIED` or `PASSWORD` stands.
fn passwords_from(text: &[u8]) -> Option<usize> {
    let keyword = [&b"IDENTIFIED"[..], b"PASSWORD"];
    (0..text.len()).find(|at| {
        keyword.iter().any(|k| text.get(*at..at + k.len()).is_some_and(|t| t.eq_ignore_ascii_case(k)))
    })
}

/// A server's words about the statement `about`, up to where they may quote a password of it. Words that end in the statement
/// tell it themselves.
pub(crate) fn words_without_passwords(words: &str, about: &[u8]) -> String {
    let keyword = passwords_from(words.as_bytes());
    if keyword.is_none() && passwords_from(about).is_none() {
        return words.to_owned();
    }
    let literal = keyword.and_then(|from| Some(from + words[from..].find(['\'', '"'])?));
    // Of a syntax error only the rest behind it is quoted.
    let rest = words.find("near '").map(|at| at + "near ".len());
    match literal.into_iter().chain(rest).min() {
        Some(end) => format!("{}***", &words[..end]),
        None => words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_words_are_found_behind_comments() {
        let cases: [(&str, StatementKind); 16] = [
            ("DROP TABLE t", StatementKind::Ddl),
            ("  /* why */ drop table t", StatementKind::Ddl),
            ("/*!40000 DROP TABLE IF EXISTS t */", StatementKind::Ddl),
            ("# note\n-- other\nTRUNCATE t", StatementKind::Ddl),
            ("insert into t values (1)", StatementKind::Insert),
            ("(UPDATE t SET a=1)", StatementKind::Update),
            ("DELETE FROM t", StatementKind::Delete),
            ("DROPPED", StatementKind::Other),
            ("/* open", StatementKind::Other),
            ("/*M!100100 DROP TABLE t */", StatementKind::Ddl),
            ("--\n-- note\n--\tother\n--\nTRUNCATE t", StatementKind::Ddl),
            ("SET STATEMENT max_statement_time=10 FOR DROP TABLE t", StatementKind::Ddl),
            (
                "set statement a=left('x for y', 1), b=`f`(1 FOR 2) for /* c */ insert into t values (1)",
                StatementKind::Insert,
            ),
            ("SET STATEMENT a='\\' FOR DELETE FROM t", StatementKind::Ddl),
            ("SET statement=1", StatementKind::Other),
            ("SET PASSWORD FOR a = 'x'", StatementKind::Other),
        ];
        for (text, kind) in cases {
            assert_eq!(StatementKind::of(text.as_bytes()), kind, "{text}");
        }
    }

    #[test]
    fn statements_that_make_events_are_known() {
        let yes = [
            "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1",
            "create definer=`root`@`localhost` event if not exists `e` on schedule every 1 day do call p()",
            "CREATE OR REPLACE DEFINER = `a b c d e f g h`@`b` EVENT e ON SCHEDULE AT NOW() DO SELECT 1",
            "CREATE DEFINER=`a`@`b` /*!50106 EVENT*/ e ON SCHEDULE EVERY 1 DAY DO SELECT 1",
            "/* why */ ALTER EVENT e DISABLE",
            "SET STATEMENT max_statement_time=10 FOR ALTER EVENT e ENABLE",
            "/*M!100100 ALTER EVENT e ENABLE */",
            "/*!100100 ALTER EVENT e ENABLE */",
            "--\n-- note\n--\nALTER EVENT e ENABLE",
            "--\tnote\nALTER EVENT e ENABLE",
            "SET STATEMENT a='\\'' FOR ALTER EVENT e ENABLE",
            // Costs only time.
            "CREATE TABLE event (a INT)",
        ];
        let no = ["CREATE TABLE events (a INT)", "DROP EVENT e", "INSERT INTO event VALUES (1)", ""];
        assert!(yes.iter().all(|text| may_make_event(text.as_bytes())));
        assert!(!no.iter().any(|text| may_make_event(text.as_bytes())));
    }

    #[test]
    fn excerpts_end_between_characters() {
        assert_eq!(excerpt("grün".as_bytes(), 3), "gr…");
        assert_eq!(excerpt(b"short", 10), "short");
    }

    #[test]
    fn passwords_are_left_out() {
        let cases = [
            (
                "CREATE USER 'a'@'b' IDENTIFIED BY 'se''c\\'ret' COMMENT 'x'",
                "CREATE USER 'a'@'b' IDENTIFIED BY '***' COMMENT '***'",
            ),
            ("SET PASSWORD FOR a = \"open", "SET PASSWORD FOR a = \"***"),
            ("INSERT INTO t VALUES ('kept')", "INSERT INTO t VALUES ('kept')"),
        ];
        for (text, expected) in cases {
            assert_eq!(String::from_utf8_lossy(&without_passwords(text.as_bytes())), expected);
        }
    }

    #[test]
    fn words_of_a_server_end_before_a_password() {
        let statement = b"create user u@localhost identified with p using 'x7'";
        let syntax = "You have an error in your SQL syntax; check the manual near 'using 'x7'' at line 1";
        let exists = "Operation CREATE USER failed for 'u'@'localhost'";
        let policy = "Your password does not satisfy the current policy requirements";
        for (words, expected) in [
            (syntax, "You have an error in your SQL syntax; check the manual near ***"),
            (exists, exists),
            (policy, policy),
            ("Error 'near 'x7'' on query. Query: 'IDENTIFIED BY 'x7'", "Error 'near ***"),
            (
                "failed for 'u'@'h''. Query: 'create user u identified by 'x7''",
                "failed for 'u'@'h''. Query: 'create user u identified by ***",
            ),
        ] {
            assert_eq!(words_without_passwords(words, statement), expected);
        }
        assert_eq!(words_without_passwords("near 'x' at line 1", b"DROP x"), "near 'x' at line 1");
    }
}

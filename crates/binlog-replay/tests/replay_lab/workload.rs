//! What the source servers do: everything that a binlog can say and that replays get wrong.

use binlog_replay::Flavor;

/// One part of the workload: statements of one session, before a mark. Those that begin with `@2 ` are of a second
/// session.
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    pub(crate) statements: Vec<String>,
}

fn phase(name: &'static str, statements: &[&str]) -> Phase {
    let mut phase = Phase { name, statements: Vec::new() };
    phase.add(statements);
    phase
}

impl Phase {
    fn add(&mut self, statements: &[&str]) {
        self.statements.extend(statements.iter().map(|s| (*s).to_owned()));
    }
}

/// A few thousand small transactions, for a replay that is cut off in the middle.
pub(crate) fn many(_: Flavor, _: &str) -> Vec<Phase> {
    let mut all = phase(
        "many",
        &[
            "CREATE DATABASE shop",
            "USE shop",
            "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, a VARCHAR(200), n INT DEFAULT 0)",
        ],
    );
    for i in 0..5000 {
        all.statements.push(match i % 3 {
            0 | 1 => format!("INSERT INTO t (a) VALUES (REPEAT('{i} ', 30))"),
            _ => "UPDATE t SET n = n + 1 ORDER BY id DESC LIMIT 3".to_owned(),
        });
    }
    all.statements.push("FLUSH BINARY LOGS".into());
    vec![all]
}

/// A transaction over tables with and without transactions, rolled back.
pub(crate) fn rolled_back(_: Flavor, _: &str) -> Vec<Phase> {
    vec![phase(
        "rolled back",
        &[
            "CREATE DATABASE shop",
            "USE shop",
            "CREATE TABLE t (id INT PRIMARY KEY) ENGINE=InnoDB",
            "CREATE TABLE plain (id INT PRIMARY KEY) ENGINE=MyISAM",
            "SET SESSION binlog_format='STATEMENT'",
            "BEGIN",
            "INSERT INTO t VALUES (1)",
            "INSERT INTO plain VALUES (1)",
            "ROLLBACK",
        ],
    )]
}

/// A small transaction and a large one of two servers with one number, then a lower number.
pub(crate) fn two_writers(_: Flavor, _: &str) -> Vec<Phase> {
    let large = "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 60000) \
                 SELECT i, i FROM n";
    vec![
        phase(
            "one number",
            &[
                "CREATE DATABASE shop",
                "USE shop",
                "CREATE TABLE t (id INT PRIMARY KEY, n INT)",
                "SET SESSION binlog_format='ROW'",
                "SET SESSION max_recursive_iterations=100000",
                "SET SESSION gtid_seq_no=5",
                "INSERT INTO t VALUES (1, 1)",
                "SET SESSION server_id=8",
                "SET SESSION gtid_seq_no=5",
                large,
            ],
        ),
        phase("a lower one", &["SET SESSION gtid_seq_no=4", "DELETE FROM t WHERE id = 1"]),
    ]
}

/// A transaction of 100 MB in many rows events, one row of 40 MB, and the same compressed.
pub(crate) fn large(flavor: Flavor, _: &str) -> Vec<Phase> {
    let mut all = phase(
        "large",
        &[
            "CREATE DATABASE shop",
            "USE shop",
            "CREATE TABLE big (id INT PRIMARY KEY, body LONGBLOB)",
            "SET SESSION binlog_format='ROW'",
            "BEGIN",
            "INSERT INTO big WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100) \
             SELECT i, REPEAT(CHAR(64 + i % 60), 1000000) FROM n",
            "UPDATE big SET body='small' WHERE id = 7",
            "COMMIT",
            "INSERT INTO big VALUES (1000, REPEAT('wide', 10000000))",
        ],
    );
    let compress = match flavor {
        Flavor::MySql => "SET SESSION binlog_transaction_compression=ON",
        Flavor::MariaDb => "SET GLOBAL log_bin_compress=ON",
    };
    all.add(&[compress, "UPDATE big SET body=CONCAT(body, 'x') WHERE id <= 100"]);
    vec![all]
}

/// The source goes from transactions without GTIDs to transactions with them, as an online change does (MySQL).
pub(crate) fn mixed_gtids(_: Flavor, _: &str) -> Vec<Phase> {
    vec![phase(
        "mixed",
        &[
            "CREATE DATABASE shop",
            "USE shop",
            "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, a VARCHAR(50))",
            "INSERT INTO t (a) VALUES ('without')",
            "SET GLOBAL enforce_gtid_consistency=ON",
            "SET GLOBAL gtid_mode=OFF_PERMISSIVE",
            "INSERT INTO t (a) VALUES ('still without')",
            "SET GLOBAL gtid_mode=ON_PERMISSIVE",
            "INSERT INTO t (a) VALUES ('with')",
            "SET gtid_next='ANONYMOUS'",
            "INSERT INTO t (a) VALUES ('without, among those with')",
            "SET gtid_next='AUTOMATIC'",
            "UPDATE t SET a=CONCAT(a, '!')",
            "ALTER TABLE t ADD COLUMN b INT DEFAULT 3",
        ],
    )]
}

/// One column of every character set that both families have, and a statement under each that a client may use.
fn charsets() -> Vec<String> {
    const CLIENTS: &str = "armscii8 ascii big5 binary cp1250 cp1251 cp1256 cp1257 cp850 cp852 cp866 cp932 dec8 \
                           eucjpms euckr gb2312 gbk geostd8 greek hebrew hp8 keybcs2 koi8r koi8u latin1 latin2 \
                           latin5 latin7 macce macroman sjis swe7 tis620 ujis utf8mb3 utf8mb4";
    const WIDE: &str = "ucs2 utf16 utf16le utf32";
    let all = || CLIENTS.split_whitespace().chain(WIDE.split_whitespace());
    let columns: Vec<_> = all().map(|c| format!("c_{c} VARCHAR(20) CHARACTER SET {c}")).collect();
    let names: Vec<_> = all().map(|c| format!("c_{c}")).collect();
    let values = vec!["'plain text'"; names.len()];
    let mut statements =
        vec![format!("CREATE TABLE charsets (id INT PRIMARY KEY AUTO_INCREMENT, {})", columns.join(", "))];
    for format in ["STATEMENT", "ROW"] {
        statements.push(format!("SET SESSION binlog_format='{format}'"));
        statements.push(format!(
            "INSERT INTO charsets ({}) VALUES ({})",
            names.join(", "),
            values.join(", ")
        ));
    }
    statements.push("SET SESSION binlog_format='STATEMENT'".to_owned());
    for client in CLIENTS.split_whitespace() {
        statements.push(format!("SET NAMES {client}"));
        statements.push(format!("INSERT INTO charsets (c_{client}) VALUES ('by a {client} client')"));
    }
    statements.push("SET NAMES utf8mb4".to_owned());
    statements
}

/// A table with history, written in one format (MariaDB).
fn versioned(format: &str) -> Vec<String> {
    let table = format!("versioned_{}", format.to_lowercase());
    [
        "SET SESSION binlog_format='FORMAT'",
        "CREATE TABLE TABLE_ (id INT PRIMARY KEY, a INT) WITH SYSTEM VERSIONING",
        "INSERT INTO TABLE_ VALUES (1, 1), (2, 2)",
        "UPDATE TABLE_ SET a=a+1 WHERE id=1",
        "DELETE FROM TABLE_ WHERE id=2",
        "SET system_versioning_insert_history=1",
        "INSERT INTO TABLE_ (id, a, row_start, row_end) VALUES (7, 7, '2001-01-01', '2002-01-01')",
        "SET system_versioning_insert_history=0",
        "INSERT INTO TABLE_ VALUES (8, 8)",
    ]
    .map(|sql| sql.replace("TABLE_", &table).replace("FORMAT", format))
    .into()
}

/// Transactions with GTIDs, then many without, in files that still name the old ones (MySQL).
pub(crate) fn gtids_given_up(_: Flavor, _: &str) -> Vec<Phase> {
    let with = phase(
        "with",
        &[
            "SET GLOBAL enforce_gtid_consistency=ON",
            "SET GLOBAL gtid_mode=OFF_PERMISSIVE",
            "SET GLOBAL gtid_mode=ON_PERMISSIVE",
            "SET GLOBAL gtid_mode=ON",
            "CREATE DATABASE shop",
            "USE shop",
            "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, a VARCHAR(50))",
            "SET GLOBAL gtid_mode=ON_PERMISSIVE",
            "SET GLOBAL gtid_mode=OFF_PERMISSIVE",
            "SET GLOBAL gtid_mode=OFF",
        ],
    );
    let mut without = phase("without", &[]);
    without.statements.extend((0..2000).map(|i| format!("INSERT INTO t (a) VALUES ('without, {i}')")));
    vec![with, without]
}

/// Two files with rows, and little in the first.
pub(crate) fn two_files(_: Flavor, _: &str) -> Vec<Phase> {
    let mut all = phase(
        "two files",
        &[
            "CREATE DATABASE shop",
            "USE shop",
            "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, a VARCHAR(200), n INT DEFAULT 0)",
            "INSERT INTO t (a) VALUES ('one'),('two'),('three')",
            "FLUSH BINARY LOGS",
        ],
    );
    all.statements.extend((0..50).map(|i| format!("INSERT INTO t (a) VALUES ('old master, {i}')")));
    vec![all]
}

/// What statements mean by their session: its database, its user, the character set and the mode in which it reads.
pub(crate) fn sessions(flavor: Flavor, _: &str) -> Vec<Phase> {
    let mut read = phase(
        "read by the session",
        &[
            "SET SESSION binlog_format='STATEMENT'",
            "CREATE DATABASE shop",
            "USE shop",
            "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, a VARCHAR(50))",
            "CREATE DATABASE again",
            "USE again",
            "CREATE TABLE t (a VARCHAR(50))",
            "INSERT INTO t VALUES ('in a database that goes')",
            "DROP DATABASE again",
            "CREATE DATABASE again",
            "USE again",
            "CREATE TABLE t (a VARCHAR(50))",
            "INSERT INTO t VALUES ('in another one of its name')",
            "USE shop",
        ],
    );
    if flavor == Flavor::MariaDb {
        read.add(&[
            "SET sql_mode='ORACLE'",
            "INSERT INTO t (a) VALUES ('in the words of another product')",
            "INSERT INTO t (a) VALUES ('and once more')",
            "SET SESSION binlog_format='ROW'",
            "INSERT INTO t (a) VALUES ('and a row')",
            "SET SESSION binlog_format='STATEMENT'",
            "SET sql_mode=DEFAULT",
        ]);
    }
    read.add(&["CREATE PROCEDURE begins() START TRANSACTION"]);
    let names = phase(
        "names that are not ASCII",
        &[
            "SET NAMES utf8mb4",
            "CREATE DATABASE `bäck`",
            "USE `bäck`",
            "CREATE TABLE t (a VARCHAR(50) CHARACTER SET utf8mb4)",
            "USE shop",
            "SET NAMES latin1",
            "INSERT INTO t (a) VALUES ('by a client that is not UTF-8')",
            "SET NAMES utf8mb4",
            "USE `bäck`",
            "SET NAMES latin1",
            "INSERT INTO t (a) VALUES ('ä')",
            "SET @`ä`='of a variable'",
            "INSERT INTO t (a) VALUES (@`ä`)",
            "INSERT INTO t (a) VALUES (CONCAT(@`ä`, ' once more'))",
            "SET NAMES utf8mb4",
            "USE shop",
            "INSERT INTO t (a) VALUES ('ä')",
        ],
    );
    let mut database = phase(
        "the session's database",
        &[
            "CREATE DATABASE other",
            "INSERT INTO t (a) VALUES ('in the shop')",
            "USE other",
            "ALTER DATABASE CHARACTER SET latin1 COLLATE latin1_german1_ci",
            "CREATE TABLE by_default (a VARCHAR(10))",
            "ALTER /* which one? */ schema COLLATE latin1_swedish_ci",
            "CREATE TABLE by_new_default (a VARCHAR(10))",
            "ALTER DATABASE shop COLLATE utf8mb4_bin",
            "USE shop",
            "CREATE TABLE binary_one (a VARCHAR(10))",
        ],
    );
    let mut user = phase(
        "the session's user",
        &[
            "CREATE ROLE clerk",
            "CREATE ROLE IF NOT EXISTS cashier -- a role",
            "GRANT SELECT, INSERT, UPDATE ON shop.* TO CURRENT_USER",
            "REVOKE INSERT ON shop.* FROM CURRENT_USER()",
            "REVOKE UPDATE ON `shop`.* FROM current_user",
            "INSERT INTO t (a) VALUES ('the end')",
        ],
    );
    if flavor == Flavor::MariaDb {
        database.add(&[
            "USE other",
            "SET STATEMENT max_statement_time=10 FOR ALTER DATABASE CHARACTER SET latin1 COLLATE latin1_bin",
            "CREATE TABLE by_settings (a VARCHAR(10))",
            "USE shop",
        ]);
        user.add(&[
            "SET STATEMENT max_statement_time=10 FOR CREATE ROLE teller",
            "SET STATEMENT max_statement_time=10 FOR GRANT DELETE ON shop.* TO CURRENT_USER",
            "INSERT INTO t (a) VALUES ('the very end')",
        ]);
    }
    vec![read, names, database, user]
}

/// Events of the event scheduler, and a table that is named so.
pub(crate) fn events(_: Flavor, _: &str) -> Vec<Phase> {
    vec![phase(
        "events",
        &[
            "CREATE DATABASE shop",
            "USE shop",
            "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, a VARCHAR(50))",
            "CREATE DEFINER=CURRENT_USER /* a comment of some length, so that the word that tells comes late: more than \
             two hundred bytes of text lie between the beginning of the statement and what it makes, and no part of \
             it may be lost on the way */ EVENT nightly ON SCHEDULE EVERY 1 DAY DO INSERT INTO t (a) VALUES ('night')",
            "CREATE DEFINER='replayer'@'localhost' EVENT yearly ON SCHEDULE EVERY 1 YEAR DO DELETE FROM t",
            "CREATE DEFINER='replayer'@'localhost' EVENT daily ON SCHEDULE EVERY 1 DAY DO DELETE FROM t",
            "ALTER EVENT yearly COMMENT 'every year'",
            "ALTER DEFINER = CURRENT_USER() EVENT daily COMMENT 'every day'",
            "ALTER DEFINER = 'replayer'@'localhost' EVENT nightly COMMENT 'every night'",
            "INSERT INTO t (a) VALUES ('day')",
        ],
    )]
}

/// An event that is enabled by statements in the forms in which a client may write them, each in a phase of its own.
pub(crate) fn enabled_events(flavor: Flavor, _: &str) -> Vec<Phase> {
    let mut all = vec![
        phase(
            "disabled",
            &[
                "CREATE DATABASE shop",
                "USE shop",
                "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, a VARCHAR(50))",
                "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DISABLE DO DELETE FROM t",
            ],
        ),
        phase(
            "behind lines",
            &["--\n-- note\n--\nALTER EVENT e ENABLE", "INSERT INTO t (a) VALUES ('lines')"],
        ),
        phase("behind a tab", &["--\tnote\nALTER EVENT e DISABLE", "INSERT INTO t (a) VALUES ('tab')"]),
        phase("by version", &["/*!50106 ALTER EVENT e ENABLE */", "INSERT INTO t (a) VALUES ('version')"]),
    ];
    if flavor == Flavor::MariaDb {
        let by_family = ["/*M!100100 ALTER EVENT e DISABLE */", "INSERT INTO t (a) VALUES ('family')"];
        let settings = [
            "SET STATEMENT max_statement_time=10 FOR ALTER EVENT e ENABLE",
            "INSERT INTO t (a) VALUES ('settings')",
        ];
        all.extend([phase("by family", &by_family), phase("with settings", &settings)]);
    }
    all
}

/// Two `ALTER`s of MariaDB in two phases: one that is committed and one that is rolled back.
pub(crate) fn altered_in_two_phases(_: Flavor, _: &str) -> Vec<Phase> {
    let fails = "CREATE PROCEDURE fails() BEGIN DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END; \
                 ALTER TABLE t ADD UNIQUE (a), ALGORITHM=COPY; END";
    vec![phase(
        "altered",
        &[
            "CREATE DATABASE shop",
            "USE shop",
            "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, a INT)",
            "INSERT INTO t (a) VALUES (1), (1)",
            fails,
            "SET SESSION binlog_alter_two_phase=1",
            "ALTER TABLE t ADD COLUMN b INT DEFAULT 7, ALGORITHM=COPY",
            "INSERT INTO t (a) VALUES (2)",
            "CALL fails()",
        ],
    )]
}

/// A distributed transaction, between two others.
pub(crate) fn distributed(_: Flavor, _: &str) -> Vec<Phase> {
    vec![
        phase(
            "before",
            &["CREATE DATABASE shop", "USE shop", "CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(50))"],
        ),
        phase(
            "prepared",
            &[
                "@2 XA START 'one', 'b', 7",
                "@2 INSERT INTO shop.t VALUES (5, 'distributed')",
                "@2 XA END 'one', 'b', 7",
                "@2 XA PREPARE 'one', 'b', 7",
            ],
        ),
        phase("committed", &["@2 XA COMMIT 'one', 'b', 7", "INSERT INTO t VALUES (6, 'the end')"]),
    ]
}

/// MariaDB's binlog has the password as it was typed.
pub(crate) fn account(_: Flavor, _: &str) -> Vec<Phase> {
    let account = "create user u@localhost identified by 'Geheim-7'";
    vec![phase("account", &["CREATE DATABASE shop", account, "CREATE TABLE shop.t (id INT)"])]
}

/// What the source let its sessions do and no statement in the binlogs says, each in a phase of its own.
pub(crate) fn permitted(flavor: Flavor, _: &str) -> Vec<Phase> {
    let columns: Vec<_> = (0..40).map(|n| format!("c{n} CHAR(255) NOT NULL")).collect();
    let too_wide =
        format!("CREATE TABLE too_wide ({}) ROW_FORMAT=COMPACT CHARSET latin1", columns.join(", "));
    let not_strict = phase(
        "not strict",
        &[
            "CREATE DATABASE shop",
            "USE shop",
            "SET SESSION innodb_strict_mode=OFF",
            &too_wide,
            "SET SESSION innodb_strict_mode=ON",
        ],
    );
    let of_the_family = match flavor {
        Flavor::MySql => phase(
            "a foreign key to no unique one",
            &[
                "SET SESSION restrict_fk_on_non_standard_key=OFF",
                "CREATE TABLE several (id INT, KEY (id))",
                "CREATE TABLE of_several (id INT, FOREIGN KEY (id) REFERENCES several (id))",
                "SET SESSION restrict_fk_on_non_standard_key=ON",
            ],
        ),
        Flavor::MariaDb => phase(
            "history",
            &[
                "CREATE TABLE versioned (id INT PRIMARY KEY) WITH SYSTEM VERSIONING",
                "INSERT INTO versioned VALUES (1), (2)",
                "SET SESSION system_versioning_alter_history=KEEP",
                "ALTER TABLE versioned ADD COLUMN a INT DEFAULT 7",
                "SET SESSION system_versioning_alter_history=ERROR",
            ],
        ),
    };
    let function = phase(
        "function",
        &[
            "SET GLOBAL log_bin_trust_function_creators=1",
            "CREATE FUNCTION plain(x INT) RETURNS INT RETURN x + 1",
            "SET GLOBAL log_bin_trust_function_creators=0",
        ],
    );
    vec![not_strict, of_the_family, function]
}

/// Passwords that the plugins which check them by default do not take.
pub(crate) fn passwords(_: Flavor, _: &str) -> Vec<Phase> {
    vec![phase(
        "passwords",
        &[
            "CREATE USER shopper@localhost IDENTIFIED BY 'x'",
            "SET PASSWORD FOR shopper@localhost='*94BDCEBE19083CE2A1F959FD02F964C7AF4CFC29'",
            "ALTER USER shopper@localhost IDENTIFIED BY 'x'",
        ],
    )]
}

/// A statement that commits by itself, between others.
pub(crate) fn altered(_: Flavor, _: &str) -> Vec<Phase> {
    let before = phase(
        "before",
        &[
            "CREATE DATABASE shop",
            "USE shop",
            "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, a VARCHAR(50))",
            "INSERT INTO t (a) VALUES ('before')",
        ],
    );
    let after =
        phase("after", &["ALTER TABLE t ADD COLUMN b INT DEFAULT 3", "INSERT INTO t (a) VALUES ('after')"]);
    vec![before, after]
}

/// Tables made from others, each the last of its phase (MariaDB).
pub(crate) fn copied_tables(_: Flavor, _: &str) -> Vec<Phase> {
    vec![
        phase(
            "small",
            &[
                "CREATE DATABASE shop",
                "USE shop",
                "SET SESSION binlog_format='ROW'",
                "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, a VARCHAR(50))",
                "INSERT INTO t (a) VALUES ('one'),('two'),('three')",
                "CREATE TABLE small AS SELECT * FROM t",
            ],
        ),
        phase("without rows", &["CREATE TABLE empty_one AS SELECT * FROM t WHERE id > 1000"]),
        phase(
            "many rows events",
            &["CREATE TABLE large AS SELECT seq, REPEAT('x', 500) pad FROM seq_1_to_2000"],
        ),
        phase("without transactions", &["CREATE TABLE plain (id INT) ENGINE=MyISAM AS SELECT id FROM t"]),
        phase("two", &["CREATE TABLE ids AS SELECT id FROM t", "CREATE TABLE names AS SELECT a FROM t"]),
        phase("replaced", &["CREATE OR REPLACE TABLE small AS SELECT a FROM t"]),
        phase(
            "in a session that does not commit by itself",
            &["SET autocommit=0", "CREATE TABLE committed AS SELECT id FROM t", "COMMIT", "SET autocommit=1"],
        ),
        phase(
            "compressed",
            &[
                "SET GLOBAL log_bin_compress=ON",
                "CREATE TABLE squeezed AS SELECT id, a, REPEAT(a, 100) FROM t",
                "SET GLOBAL log_bin_compress=OFF",
            ],
        ),
        phase(
            "another domain",
            &[
                "SET SESSION gtid_domain_id=5",
                "CREATE TABLE elsewhere AS SELECT id FROM t",
                "SET SESSION gtid_domain_id=0",
                "FLUSH BINARY LOGS",
                "INSERT INTO t (a) VALUES ('in the first domain')",
            ],
        ),
        phase(
            "in statement format",
            &["SET SESSION binlog_format='STATEMENT'", "CREATE TABLE stated AS SELECT id FROM t"],
        ),
    ]
}

/// Everything that a binlog can say; `infile` is a file that the server may read.
pub(crate) fn everything(flavor: Flavor, infile: &str) -> Vec<Phase> {
    let mysql = flavor == Flavor::MySql;
    let mut rows = phase(
        "rows",
        &[
            "SET SESSION binlog_format='ROW'",
            "CREATE DATABASE shop CHARACTER SET utf8mb4",
            "USE shop",
            "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, a VARCHAR(200), n DECIMAL(20,5), f DOUBLE, \
             ts TIMESTAMP(6) NULL, d DATETIME(3), b VARBINARY(300), e ENUM('x','y'), \
             g INT AS (LENGTH(a)) STORED, v INT AS (LENGTH(b) * 2) VIRTUAL)",
            "INSERT INTO t (a,n,f,ts,d,b,e) VALUES ('one',1.5,0.1,NOW(6),NOW(3),X'00FF0A0D27',1),\
             ('zwei äöü 😀',-99999.00001,1e300,'2001-02-03 04:05:06.789012',NOW(),REPEAT(X'00',300),2)",
            "UPDATE t SET a=CONCAT(a,'!') WHERE id=1",
            "DELETE FROM t WHERE id=2",
            "CREATE TABLE wide (id INT PRIMARY KEY, pad LONGTEXT)",
            // Several rows events in one transaction, and in one statement.
            "BEGIN",
            "INSERT INTO wide SELECT s.n, REPEAT(CHAR(65 + s.n % 26), 20000) FROM (\
             SELECT a.n * 10 + b.n n FROM (SELECT 0 n UNION SELECT 1 UNION SELECT 2 UNION SELECT 3) a, \
             (SELECT 0 n UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4) b) s",
            "UPDATE wide SET pad=CONCAT(pad,'x') WHERE id % 2 = 0",
            "SAVEPOINT s1",
            "DELETE FROM wide WHERE id > 20",
            "ROLLBACK TO s1",
            "INSERT INTO t (a) VALUES ('after the savepoint')",
            "COMMIT",
            "CREATE TABLE geo (id INT PRIMARY KEY, p POINT NOT NULL, j JSON, SPATIAL INDEX (p))",
            "INSERT INTO geo VALUES (1, ST_GeomFromText('POINT(1 2)'), '{\"a\": [1, 2, {\"b\": \"c\"}], \"z\": null}')",
            "UPDATE geo SET j=JSON_SET(j, '$.a[0]', 'changed', '$.n', 12.5)",
            "CREATE TABLE parent (id INT PRIMARY KEY) ENGINE=InnoDB",
            "CREATE TABLE child (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE)",
            "INSERT INTO parent VALUES (1),(2)",
            "INSERT INTO child VALUES (1,1),(2,2)",
            "DELETE FROM parent WHERE id=1",
            "SET foreign_key_checks=0",
            "INSERT INTO child VALUES (3,99)",
            "SET foreign_key_checks=1",
            "CREATE TABLE copied AS SELECT * FROM t",
            "SET SESSION binlog_row_image='MINIMAL'",
            "UPDATE t SET f=f+1 WHERE id=1",
            "SET SESSION binlog_row_image='FULL'",
            "CREATE TABLE hidden (id INT PRIMARY KEY, a INT DEFAULT 5 INVISIBLE, b INT)",
            "INSERT INTO hidden (id, b) VALUES (1, 1)",
            "INSERT INTO hidden (id, a, b) VALUES (2, 6, 2)",
            "ALTER TABLE parent ADD COLUMN at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)",
            "OPTIMIZE TABLE child",
        ],
    );
    if !mysql {
        rows.statements.extend(versioned("ROW"));
        rows.add(&[
            "CREATE TABLE squeezed (id INT PRIMARY KEY, body TEXT COMPRESSED, bin VARBINARY(1000) COMPRESSED)",
            "INSERT INTO squeezed VALUES (1, REPEAT('body ', 100), REPEAT(X'00', 300)), (2, '', NULL)",
            "CREATE OR REPLACE TABLE replaced (id INT PRIMARY KEY) AS SELECT id FROM squeezed",
            "UPDATE squeezed SET body=CONCAT(body, '!'), bin=X'0102'",
        ]);
    }
    if mysql {
        rows.add(&[
            "SET sql_generate_invisible_primary_key=ON",
            "CREATE TABLE keyless (a INT)",
            "INSERT INTO keyless (a) VALUES (1),(2)",
            "SET sql_generate_invisible_primary_key=OFF",
            "SET default_table_encryption=ON",
            "CREATE DATABASE secret",
            "SET default_table_encryption=OFF",
            "SET default_collation_for_utf8mb4=utf8mb4_general_ci",
            "CREATE TABLE collated (a VARCHAR(10) CHARACTER SET utf8mb4)",
            "SET default_collation_for_utf8mb4=DEFAULT",
            "SET explicit_defaults_for_timestamp=OFF",
            "CREATE TABLE stamps (x TIMESTAMP)",
            "SET explicit_defaults_for_timestamp=ON",
            "SET SESSION binlog_rows_query_log_events=ON",
            "SET GLOBAL binlog_row_metadata=FULL",
            "UPDATE hidden SET a=a+1",
            "SET GLOBAL binlog_row_metadata=MINIMAL",
            "SET SESSION binlog_rows_query_log_events=OFF",
            "SET SESSION binlog_row_value_options='PARTIAL_JSON'",
            "UPDATE geo SET j=JSON_REPLACE(j, '$.n', 13)",
            "SET SESSION binlog_row_value_options=''",
        ]);
    }
    let mut statements = phase(
        "statements",
        &[
            "SET SESSION binlog_format='STATEMENT'",
            "SET @@session.time_zone='+05:30'",
            "INSERT INTO t (a,ts,d) VALUES ('zone', NOW(6), NOW(3))",
            "SET @@session.time_zone='+00:00'",
            "SET @i=-7, @u=18446744073709551615, @f=0.1e0, @d=-12345678901234.00042, @s='ab''c\\0d', @n=NULL",
            "SET @l=_latin1 X'E4F6' COLLATE latin1_german1_ci",
            "CREATE TABLE vars (id INT PRIMARY KEY AUTO_INCREMENT, i BIGINT, u BIGINT UNSIGNED, f DOUBLE, \
             d DECIMAL(30,10), s VARBINARY(50), n INT, l VARCHAR(20), r DOUBLE)",
            "INSERT INTO vars (i,u,f,d,s,n,l,r) VALUES (@i,@u,@f,@d,@s,@n,@l,RAND())",
            "INSERT INTO vars (i,r) VALUES (LAST_INSERT_ID(),RAND())",
            "SET auto_increment_increment=10, auto_increment_offset=3",
            "INSERT INTO vars (i) VALUES (1),(2),(3)",
            "SET auto_increment_increment=1, auto_increment_offset=1",
            "SET sql_mode='ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
            r#"CREATE TABLE "odd ""name;" ("a`b" VARCHAR(20))"#,
            r#"INSERT INTO "odd ""name;" VALUES ('back\slash')"#,
            "SET sql_mode=DEFAULT",
            "SET NAMES latin1",
            "INSERT INTO t (a) VALUES (CONCAT('latin ', X'C3A4'))",
            "SET NAMES utf8mb4",
            "CREATE TEMPORARY TABLE tmp (x INT)",
            "INSERT INTO tmp VALUES (41),(42)",
            "INSERT INTO t (a) SELECT x FROM tmp",
            "DROP TEMPORARY TABLE tmp",
            "CREATE PROCEDURE p(IN x INT) BEGIN\r\n  -- a comment; with a semicolon\r\n  \
             DECLARE s VARCHAR(20) DEFAULT 'a;b';\r\n  INSERT INTO t (a) VALUES (CONCAT(s, x));\r\nEND",
            "CALL p(5)",
            "CREATE TRIGGER trg BEFORE INSERT ON t FOR EACH ROW SET NEW.d = COALESCE(NEW.d, '2000-01-01')",
            "INSERT INTO t (a) VALUES ('through the trigger')",
            "CREATE VIEW vw AS SELECT id, a FROM t WHERE id > 1",
            "CREATE USER 'shopper'@'%' IDENTIFIED BY 'x'",
            "GRANT SELECT ON shop.* TO 'shopper'@'%'",
            "ALTER TABLE t ADD COLUMN added INT DEFAULT 7, ADD INDEX (a)",
            "CREATE TABLE plain (id INT PRIMARY KEY) ENGINE=MyISAM",
            "INSERT INTO plain VALUES (1),(2)",
            "INSERT IGNORE INTO plain VALUES (1),(3)",
            "INSERT INTO t (a) VALUES ('ends in a comment') -- here",
            "SET time_zone='Test/Zone'",
            "INSERT INTO t (a,ts,d) VALUES ('named zone', '2020-02-03 04:05:06', NOW(3))",
            "SET time_zone='+00:00'",
            "SET lc_time_names='fi_FI'",
            "INSERT INTO t (a) VALUES (DATE_FORMAT('2001-03-02', '%M %W'))",
            "SET lc_time_names='en_US'",
            "SET collation_server='latin1_german1_ci'",
            "CREATE DATABASE by_server",
            "SET collation_server=DEFAULT",
            "CREATE FUNCTION noted(x INT) RETURNS INT DETERMINISTIC MODIFIES SQL DATA BEGIN \
             INSERT INTO t (a) VALUES (CONCAT('noted ', x)); RETURN x + 1; END",
            "SELECT noted(3)",
            "ANALYZE TABLE t",
            "FLUSH TABLES",
            // Two sessions whose temporary tables have one name.
            "@2 USE shop",
            "@2 SET SESSION binlog_format='STATEMENT'",
            "CREATE TEMPORARY TABLE tmp (x INT)",
            "@2 CREATE TEMPORARY TABLE tmp (x INT)",
            "INSERT INTO tmp VALUES (1)",
            "@2 INSERT INTO tmp VALUES (2)",
            "INSERT INTO t (a) SELECT CONCAT('first ', x) FROM tmp",
            "@2 INSERT INTO t (a) SELECT CONCAT('second ', x) FROM tmp",
            "DROP TEMPORARY TABLE tmp",
            "@2 INSERT INTO t (a) SELECT CONCAT('still second ', x) FROM tmp",
            "@2 DROP TEMPORARY TABLE tmp",
        ],
    );
    if !mysql {
        statements.statements.extend(versioned("STATEMENT"));
        statements.add(&[
            "CREATE TABLE checked (a INT CHECK (a > 0))",
            "SET check_constraint_checks=0",
            "INSERT INTO checked VALUES (-1)",
            "SET check_constraint_checks=1",
            "SET sql_if_exists=1",
            "DROP TABLE never_there",
            "ALTER TABLE never_there ADD COLUMN x INT",
            "INSERT INTO checked VALUES (1)",
            "SET sql_if_exists=0",
            "SET explicit_defaults_for_timestamp=0",
            "CREATE TABLE stamps (x TIMESTAMP)",
            "SET explicit_defaults_for_timestamp=1",
            "CREATE TABLE new_stamps (x TIMESTAMP, y TIMESTAMP)",
            // A transaction over tables of which one keeps what is rolled back.
            "BEGIN",
            "INSERT INTO t (a) VALUES ('rolled back')",
            "INSERT INTO plain VALUES (10)",
            "ROLLBACK",
        ]);
    }
    statements.statements.extend(charsets());
    statements
        .statements
        .push(format!("LOAD DATA INFILE '{infile}' INTO TABLE shop.wide FIELDS TERMINATED BY ',' (id, pad)"));
    let xa = phase(
        "xa",
        &[
            "SET SESSION binlog_format='ROW'",
            "XA START 'one','branch',7",
            "INSERT INTO t (a) VALUES ('in xa')",
            "XA END 'one','branch',7",
            "XA PREPARE 'one','branch',7",
            "XA COMMIT 'one','branch',7",
            "XA START X'00FF'",
            "INSERT INTO t (a) VALUES ('never')",
            "XA END X'00FF'",
            "XA PREPARE X'00FF'",
            "XA ROLLBACK X'00FF'",
            "XA START 'short'",
            "INSERT INTO t (a) VALUES ('one phase')",
            "XA END 'short'",
            "XA COMMIT 'short' ONE PHASE",
            "INSERT INTO t (a) VALUES ('after xa')",
            // Stays prepared at this moment.
            "@2 SET SESSION binlog_format='ROW'",
            "@2 XA START 'over'",
            "@2 INSERT INTO t (a) VALUES ('prepared before the stop')",
            "@2 XA END 'over'",
            "@2 XA PREPARE 'over'",
        ],
    );
    let mut packed = phase(
        "packed",
        &[
            "@2 XA COMMIT 'over'",
            "SET GLOBAL binlog_checksum=NONE",
            "INSERT INTO t (a) VALUES ('without a checksum')",
            "SET GLOBAL binlog_checksum=CRC32",
            "FLUSH BINARY LOGS",
            if mysql {
                "SET SESSION binlog_transaction_compression=ON"
            } else {
                "SET GLOBAL log_bin_compress=ON"
            },
            "CREATE TABLE packed_copy AS SELECT id FROM wide",
            "INSERT INTO wide SELECT id + 1000, pad FROM wide WHERE id < 10",
            "UPDATE wide SET pad=REVERSE(pad) WHERE id >= 1000",
            "SET SESSION binlog_format='STATEMENT'",
            "INSERT INTO t (a) VALUES (REPEAT('packed statement ', 8))",
            "SET SESSION binlog_format='MIXED'",
            "INSERT INTO t (a) VALUES (UUID())",
            if mysql {
                "SET SESSION binlog_transaction_compression=OFF"
            } else {
                "SET GLOBAL log_bin_compress=OFF"
            },
        ],
    );
    if mysql {
        packed.add(&[
            "SET gtid_next='AUTOMATIC:tagged'",
            "INSERT INTO t (a) VALUES ('tagged')",
            "SET gtid_next='AUTOMATIC'",
        ]);
    } else {
        packed.add(&[
            "SET SESSION gtid_domain_id=5",
            "INSERT INTO t (a) VALUES ('other domain')",
            "SET SESSION gtid_domain_id=0",
            "CREATE SEQUENCE seq START WITH 10 INCREMENT BY 5",
            "SELECT NEXTVAL(seq)",
        ]);
    }
    let last = phase(
        "last",
        &[
            "SET SESSION binlog_format='ROW'",
            "FLUSH BINARY LOGS",
            "DROP TABLE copied",
            "TRUNCATE TABLE geo",
            // The same second before and after rows of another one: applying rows sets the session's time.
            "SET @now = UNIX_TIMESTAMP()",
            "SET SESSION binlog_format='STATEMENT'",
            "SET timestamp=@now",
            "INSERT INTO t (a) VALUES (CONCAT('at ', NOW()))",
            "SET SESSION binlog_format='ROW'",
            "SET timestamp=@now - 5",
            "INSERT INTO t (a) VALUES ('a row of before')",
            "SET SESSION binlog_format='STATEMENT'",
            "SET timestamp=@now",
            "INSERT INTO t (a) VALUES (CONCAT('again at ', NOW()))",
            "SET timestamp=DEFAULT",
            "SET SESSION binlog_format='ROW'",
            "INSERT INTO t (a) VALUES ('the end')",
        ],
    );
    vec![rows, statements, xa, packed, last]
}

//! Where a replay by the stock tools ended: what the binlog program gives out, against what the server has taken in.
//!
//! The binlog program reads the same range once more, without the data, and its GTID lines are summed up where they
//! are. That the server has all of them says that the client left none out; that the last event ends at the stop
//! position says that the program itself did not end early.
//!
//! MariaDB writes `CREATE TABLE … SELECT` in row format as one transaction. The client commits with the `CREATE TABLE`,
//! so the rows become a transaction of their own, with the next number of the domain. Where none follows whose number is
//! stated, the server is one further than the source was.

use std::collections::BTreeMap;

use binlog_replay::{Flavor, GtidSet};
use remote_exec::{Command, Host};

use crate::Error;
use crate::server::TemporaryServer;

/// Sums up: `count N`, `end POSITION` of the last event, `last GTID`, and the GTIDs. MySQL's as `run SOURCE:FIRST-LAST`,
/// MariaDB's as the last one of each domain and server, `max DOMAIN-SERVER NUMBER`, with `split` behind it if its rows get
/// a number of their own.
const SUM: &str = r#"
function flush() { if (source != "") print "run " source ":" first "-" last }
/^#.* end_log_pos [0-9]+ / { match($0, /end_log_pos [0-9]+/); end = substr($0, RSTART + 12, RLENGTH - 12) }
mysql && /^SET @@SESSION.GTID_NEXT= '[^']*:[0-9]+'/ {
    split($0, part, "'"); gtid = part[2]; number = gtid; sub(/.*:/, "", number)
    from = substr(gtid, 1, length(gtid) - length(number) - 1)
    if (from == source && number == last + 1) { last = number }
    else { flush(); source = from; first = number; last = number }
    count++
}
!mysql && /^#.*[ \t]GTID [0-9]+-[0-9]+-[0-9]+/ {
    match($0, /GTID [0-9]+-[0-9]+-[0-9]+/); gtid = substr($0, RSTART + 5, RLENGTH - 5)
    number = gtid; sub(/.*-/, "", number)
    key = substr(gtid, 1, length(gtid) - length(number) - 1)
    before = max[key] parts[key]; max[key] = number; parts[key] = ""; count++; grouped = 0; created = 0
}
!mysql && /^START TRANSACTION/ { grouped = 1 }
!mysql && grouped && /^CREATE (OR REPLACE )?TABLE / { created = 1 }
!mysql && created && /^#.*[ \t]Write_/ { parts[key] = " split" }
END {
    flush()
    for (key in max) print "max " key " " max[key] parts[key]
    if (count) print "last " gtid " " before
    print "count " count + 0
    print "end " end + 0
}
"#;

/// What the binlog program gives out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Given {
    /// Transactions.
    pub(crate) transactions: u64,
    /// Offset behind the last event, in its file.
    end: u64,
    /// MySQL: runs of GTIDs.
    runs: Vec<String>,
    /// MariaDB: the last number of each domain and server.
    latest: BTreeMap<String, Latest>,
    /// The GTID of the last transaction; MariaDB: and the number before it of its domain and server.
    last: Option<(String, Option<Latest>)>,
}

/// The last transaction of a domain and server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Latest {
    number: u64,
    /// The client makes two of it.
    split: bool,
}

impl Latest {
    fn parse(number: &str, split: Option<&str>) -> Option<Self> {
        Some(Self {
            number: number.parse().ok()?,
            split: split.map_or(Some(false), |s| (s == "split").then_some(true))?,
        })
    }

    /// The number that the server has afterwards.
    fn on_server(self) -> u64 {
        self.number + u64::from(self.split)
    }
}

impl Given {
    /// Lets the binlog program read once more.
    pub(crate) async fn read(host: &Host, binlog: Command, flavor: Flavor) -> Result<Self, Error> {
        let mysql = format!("mysql={}", u8::from(flavor == Flavor::MySql));
        let sum = host.command("awk").env("LC_ALL", "C").args(["-v", &mysql, SUM]);
        let said = host.pipeline(vec![binlog.arg("--base64-output=decode-rows"), sum]).run().await?;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        Self::parse(&text).ok_or(Error::Unexpected { what: "the sum of the binlogs".to_owned(), text })
    }

    fn parse(text: &str) -> Option<Self> {
        let mut given = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match (words.next()?, words.next()?, words.next(), words.next()) {
                ("count", count, None, None) => given.transactions = count.parse().ok()?,
                ("end", end, None, None) => given.end = end.parse().ok()?,
                ("run", run, None, None) => given.runs.push(run.to_owned()),
                ("max", key, Some(number), split) => {
                    given.latest.insert(key.to_owned(), Latest::parse(number, split)?);
                }
                ("last", gtid, None, None) => given.last = Some((gtid.to_owned(), None)),
                ("last", gtid, Some(before), split) => {
                    given.last = Some((gtid.to_owned(), Some(Latest::parse(before, split)?)));
                }
                _ => return None,
            }
        }
        Some(given)
    }

    /// Whether its transactions have GTIDs.
    pub(crate) fn has_gtids(&self) -> bool {
        self.transactions > 0
    }

    /// Compares what was given out with what the server has; `stop` is where it must end, `None` with a stop time. What
    /// the server held before is `executed`.
    ///
    /// A stop time can lie inside the last transaction, which is then given out up to there and not committed.
    ///
    /// # Errors
    ///
    /// [`Error::Unproven`].
    pub(crate) async fn prove(
        &self,
        server: &TemporaryServer,
        folder: &str,
        executed: &GtidSet,
        stop: Option<u64>,
    ) -> Result<(), Error> {
        let unproven = |what: &'static str, planned: String, found: String| {
            Err(Error::Unproven { server: folder.to_owned(), what, planned, found })
        };
        if let Some(stop) = stop.filter(|stop| self.transactions > 0 && *stop != self.end) {
            return unproven("end of the replay", stop.to_string(), self.end.to_string());
        }
        let variable = match executed.flavor() {
            Flavor::MySql => "gtid_executed",
            Flavor::MariaDb => "gtid_binlog_state",
        };
        let found = server.sql(&format!("SELECT @@GLOBAL.{variable}")).await?.replace('\n', "");
        let mut expected = vec![self.expected(executed, false)?];
        if stop.is_none() {
            expected.push(self.expected(executed, true)?);
        }
        if expected.iter().any(|expected| expected.is(&found)) {
            return Ok(());
        }
        unproven("state after the replay", expected.swap_remove(0).to_string(), found)
    }

    /// Where a MariaDB server stands as the source counts: it held `executed`, and its own binlog is at `own`.
    pub(crate) fn position(&self, executed: &GtidSet, own: &str) -> Result<String, Error> {
        let own = GtidSet::parse(Flavor::MariaDb, &self.as_on_source(own))
            .map_err(|e| Error::Unexpected { what: "gtid_binlog_pos".to_owned(), text: e.to_string() })?;
        Ok(match executed.union(&own) {
            GtidSet::MariaDb(all) => all.to_position().to_string(),
            other => other.to_string(),
        })
    }

    /// A MariaDB server's position in the numbers of the source.
    fn as_on_source(&self, position: &str) -> String {
        let own = |gtid: &str| {
            let (key, number) = gtid.rsplit_once('-')?;
            let latest = self.latest.get(key).filter(|latest| latest.split)?;
            (number.parse() == Ok(latest.on_server())).then(|| format!("{key}-{}", latest.number))
        };
        let gtids = position.split(',').map(str::trim);
        gtids.map(|gtid| own(gtid).unwrap_or_else(|| gtid.to_owned())).collect::<Vec<_>>().join(",")
    }

    /// The state that the server must have; `but_last`: without the last transaction.
    fn expected(&self, executed: &GtidSet, but_last: bool) -> Result<State, Error> {
        let last = self.last.as_ref().filter(|_| but_last);
        if executed.flavor() == Flavor::MariaDb {
            let mut latest = self.latest.clone();
            if let Some((gtid, before)) = last
                && let Some((key, _)) = gtid.rsplit_once('-')
            {
                match before {
                    None => _ = latest.remove(key),
                    Some(before) => _ = latest.insert(key.to_owned(), *before),
                }
            }
            return Ok(State::Latest(
                latest.into_iter().map(|(key, last)| (key, last.on_server())).collect(),
            ));
        }
        let set = |text: &str| {
            GtidSet::parse(Flavor::MySql, text).map_err(|e| Error::Unexpected {
                what: "the sum of the binlogs".to_owned(),
                text: e.to_string(),
            })
        };
        let mut given = set(&self.runs.join(","))?;
        if let Some((gtid, _)) = last {
            given = given.minus(&set(gtid)?);
        }
        Ok(State::Set(executed.union(&given)))
    }
}

/// A GTID state.
#[derive(Debug)]
enum State {
    Set(GtidSet),
    Latest(BTreeMap<String, u64>),
}

impl State {
    /// Whether a server says the same.
    fn is(&self, said: &str) -> bool {
        match self {
            Self::Set(set) => GtidSet::parse(Flavor::MySql, said).is_ok_and(|said| said == *set),
            Self::Latest(latest) => {
                let said = said.split(',').map(str::trim).filter(|gtid| !gtid.is_empty());
                let said = said.map(|gtid| {
                    let (key, number) = gtid.rsplit_once('-')?;
                    Some((key.to_owned(), number.parse().ok()?))
                });
                said.collect::<Option<BTreeMap<_, _>>>().is_some_and(|said| said == *latest)
            }
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Set(set) => set.fmt(f),
            Self::Latest(latest) => {
                let all: Vec<_> = latest.iter().map(|(key, number)| format!("{key}-{number}")).collect();
                f.write_str(&all.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MYSQL: &str = "#260203  4:05:06 server id 7  end_log_pos 233 CRC32 0x1 \tGTID\tlast_committed=0\n\
        SET @@SESSION.GTID_NEXT= '13e002d8-e514-11f1-9c7b-02fc00000001:5'/*!*/;\n\
        #260203  4:05:06 server id 7  end_log_pos 300 CRC32 0x1 \tXid = 9\n\
        SET @@SESSION.GTID_NEXT= '13e002d8-e514-11f1-9c7b-02fc00000001:6'/*!*/;\n\
        SET @@SESSION.GTID_NEXT= '13e002d8-e514-11f1-9c7b-02fc00000001:9'/*!*/;\n\
        #260203  4:05:07 server id 7  end_log_pos 480 CRC32 0x1 \tXid = 11\n\
        SET @@SESSION.GTID_NEXT= 'AUTOMATIC' /* added by mysqlbinlog */ /*!*/;\n";
    const MARIA: &str = "#260203  4:05:06 server id 1  end_log_pos 389 CRC32 0x1 \tGTID 0-1-5 trans\n\
        /*!100001 SET @@session.gtid_seq_no=5*//*!*/;\n\
        #260203  4:05:06 server id 1  end_log_pos 400 CRC32 0x1 \tGTID 1-11-7 ddl\n\
        #260203  4:05:06 server id 1  end_log_pos 410 CRC32 0x1 \tGTID 0-1-6\n\
        #260203  4:05:06 server id 1  end_log_pos 589 CRC32 0x1 \tXid = 3\n";

    const COPIED: &str = "#260203  4:05:06 server id 1  end_log_pos 389 CRC32 0x1 \tGTID 0-1-7 trans\n\
        /*!100001 SET @@session.gtid_seq_no=7*//*!*/;\n\
        START TRANSACTION\n/*!*/;\n\
        #260203  4:05:06 server id 1  end_log_pos 400 CRC32 0x1 \tQuery\tthread_id=5\texec_time=0\n\
        CREATE TABLE `copied` (\n  `id` int(11) NOT NULL DEFAULT 0\n)\n/*!*/;\n\
        #260203  4:05:06 server id 1  end_log_pos 450 CRC32 0x1 \tWrite_rows: table id 32 flags: STMT_END_F\n\
        #260203  4:05:06 server id 1  end_log_pos 589 CRC32 0x1 \tXid = 3\n";

    async fn given(text: &str, flavor: Flavor) -> Given {
        let host = Host::local();
        // `sh -c CAT` takes the option that a binlog program gets as its $0.
        let program = host.command("sh").args(["-c", "cat"]).stdin_bytes(text.as_bytes().to_vec());
        Given::read(&host, program, flavor).await.unwrap()
    }

    #[tokio::test]
    async fn runs_of_gtids_and_the_last_event_are_summed_up() {
        let found = given(MYSQL, Flavor::MySql).await;
        assert_eq!((found.transactions, found.end), (3, 480));
        let executed = GtidSet::parse(Flavor::MySql, "13e002d8-e514-11f1-9c7b-02fc00000001:1-4").unwrap();
        assert!(found.expected(&executed, false).unwrap().is("13e002d8-e514-11f1-9c7b-02fc00000001:1-6:9"));
        assert!(found.expected(&executed, true).unwrap().is("13e002d8-e514-11f1-9c7b-02fc00000001:1-6"));
        assert!(!found.expected(&executed, false).unwrap().is("13e002d8-e514-11f1-9c7b-02fc00000001:1-6"));
    }

    #[tokio::test]
    async fn mariadb_servers_tell_the_last_of_each_domain_and_server() {
        let found = given(MARIA, Flavor::MariaDb).await;
        assert_eq!((found.transactions, found.end), (3, 589));
        let executed = GtidSet::new(Flavor::MariaDb);
        assert!(found.expected(&executed, false).unwrap().is("1-11-7,0-1-6"));
        assert!(found.expected(&executed, true).unwrap().is("0-1-5,1-11-7"));
        assert!(!found.expected(&executed, false).unwrap().is("0-1-6"));
    }

    #[tokio::test]
    async fn rows_of_a_table_that_was_created_with_them_are_a_transaction_of_their_own() {
        let found = given(COPIED, Flavor::MariaDb).await;
        let executed = GtidSet::new(Flavor::MariaDb);
        assert!(found.expected(&executed, false).unwrap().is("0-1-8"));
        assert!(!found.expected(&executed, false).unwrap().is("0-1-7"), "its rows are missing");
        assert_eq!(found.as_on_source("0-1-8"), "0-1-7");
        // What was backed up stays in the domains in which nothing was replayed.
        let executed = GtidSet::parse(Flavor::MariaDb, "0-2-4,3-1-9").unwrap();
        assert_eq!(found.position(&executed, "0-1-8").unwrap(), "0-1-7,3-1-9");
        // The next transaction states its number.
        let more =
            format!("{COPIED}#260203  4:05:06 server id 1  end_log_pos 900 CRC32 0x1 \tGTID 0-1-8 trans\n");
        let found = given(&more, Flavor::MariaDb).await;
        assert!(found.expected(&executed, false).unwrap().is("0-1-8"));
        assert!(found.expected(&executed, true).unwrap().is("0-1-8"));
        assert_eq!(found.as_on_source("0-1-8"), "0-1-8");
        // No rows, no transaction.
        let none: String =
            COPIED.lines().filter(|line| !line.contains("Write_")).map(|l| format!("{l}\n")).collect();
        let found = given(&none, Flavor::MariaDb).await;
        assert!(found.expected(&executed, false).unwrap().is("0-1-7"));
    }

    #[tokio::test]
    async fn nothing_given_out_is_nothing_to_have() {
        for flavor in [Flavor::MySql, Flavor::MariaDb] {
            let found = given("# at 4\n", flavor).await;
            assert_eq!(found, Given::default());
            assert!(found.expected(&GtidSet::new(flavor), false).unwrap().is(""));
        }
    }
}

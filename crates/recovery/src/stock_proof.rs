//! Where a replay by the stock tools ended: what the binlog program gives out, against what the server has taken in.
//!
//! The binlog program reads the same range once more, without the data, and its GTID lines are summed up where they
//! are. That the server has all of them says that the client left none out; that the last event ends at the stop
//! position says that the program itself did not end early.

use std::collections::BTreeMap;

use binlog_replay::{Flavor, GtidSet};
use remote_exec::{Command, Host};

use crate::Error;
use crate::server::TemporaryServer;

/// Sums up: `count N`, `end POSITION` of the last event, `last GTID`, and the GTIDs. MySQL's as `run SOURCE:FIRST-LAST`,
/// MariaDB's as the last one of each domain and server, `max DOMAIN-SERVER NUMBER`.
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
    before = max[key]; max[key] = number; count++
}
END {
    flush()
    for (key in max) print "max " key " " max[key]
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
    latest: BTreeMap<String, u64>,
    /// The GTID of the last transaction; MariaDB: and the number before it of its domain and server.
    last: Option<(String, u64)>,
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
            match (words.next()?, words.next()?, words.next()) {
                ("count", count, None) => given.transactions = count.parse().ok()?,
                ("end", end, None) => given.end = end.parse().ok()?,
                ("run", run, None) => given.runs.push(run.to_owned()),
                ("max", key, Some(number)) => _ = given.latest.insert(key.to_owned(), number.parse().ok()?),
                ("last", gtid, before) => {
                    given.last = Some((gtid.to_owned(), before.map_or(Some(0), |n| n.parse().ok())?));
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

    /// The state that the server must have; `but_last`: without the last transaction.
    fn expected(&self, executed: &GtidSet, but_last: bool) -> Result<State, Error> {
        let last = self.last.as_ref().filter(|_| but_last);
        if executed.flavor() == Flavor::MariaDb {
            let mut latest = self.latest.clone();
            if let Some((gtid, before)) = last
                && let Some((key, _)) = gtid.rsplit_once('-')
            {
                match before {
                    0 => _ = latest.remove(key),
                    before => _ = latest.insert(key.to_owned(), *before),
                }
            }
            return Ok(State::Latest(latest));
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
    async fn nothing_given_out_is_nothing_to_have() {
        for flavor in [Flavor::MySql, Flavor::MariaDb] {
            let found = given("# at 4\n", flavor).await;
            assert_eq!(found, Given::default());
            assert!(found.expected(&GtidSet::new(flavor), false).unwrap().is(""));
        }
    }
}

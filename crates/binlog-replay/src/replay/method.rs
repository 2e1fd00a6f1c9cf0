//! The three ways to replay, and the choice between them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::options::{GtidUse, SOURCE_WITHOUT_RELAY, keeps_gtids_in_binlog};
use super::request::OnError;
use crate::version::{Flavor, ParseError, ServerVersion};

/// How the transactions get into the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// The fastest that is exact for the server's version and the target.
    #[default]
    Auto,
    /// The stock tools: `mysqlbinlog | mysql`, or `mariadb-binlog | mariadb`.
    Pipe,
    /// Statements over one connection, made by this crate.
    Sql,
    /// The server's own applier, which runs transactions in parallel, fed with the binlogs as relay logs.
    Relay,
}

impl Method {
    /// Its name in configurations and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Pipe => "pipe",
            Self::Sql => "sql",
            Self::Relay => "relay",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Method {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        [Self::Auto, Self::Pipe, Self::Sql, Self::Relay]
            .into_iter()
            .find(|m| m.name() == text)
            .ok_or_else(|| ParseError::new("replay method", text, "expected auto, pipe, sql or relay"))
    }
}

/// A method and why it is the one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// The method; never [`Method::Auto`].
    pub method: Method,
    /// Why, in words for a plan.
    pub reason: String,
    /// The methods that cannot do this replay, each with its reason.
    pub excluded: Vec<(Method, String)>,
}

/// What decides which methods are exact.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case<'a> {
    /// The server that will apply the transactions.
    pub(super) server: &'a ServerVersion,
    /// Whether the transactions that will be applied have GTIDs.
    pub(super) gtids: GtidUse,
    /// Whether events of the event scheduler are made or changed.
    pub(super) event_ddl: bool,
    /// Whether a statement means something of its session that the stock tools do not tell.
    pub(super) unsaid: bool,
    /// The server that wrote the binlogs, if it is a newer one than the server that will apply them.
    pub(super) newer: Option<&'a ServerVersion>,
    /// What a failed transaction means.
    pub(super) on_error: OnError,
    /// Whether the stock tools of the base directory are there.
    pub(super) tools: bool,
    /// Whether an earlier run may have applied a part.
    pub(super) resume: bool,
    /// Whether the server may have crashed in it.
    pub(super) crashed: bool,
}

impl Case<'_> {
    /// Why `method` cannot do this replay; `None` if it can.
    pub(super) fn refuses(&self, method: Method) -> Option<String> {
        if self.crashed && method != Method::Auto && keeps_gtids_in_binlog(self.server, method, self.gtids) {
            let why = "the GTIDs are in a binlog without fsync, which after a crash may name more than the tables hold: \
                       begin anew, from the backup";
            return Some(why.into());
        }
        if let (Some(newer), Method::Pipe | Method::Relay) = (self.newer, method) {
            let why = "is newer: the applier and the binlog tool pass over settings that they do not know";
            return Some(format!("{newer}, which wrote the binlogs, {why}"));
        }
        match method {
            Method::Auto => None,
            Method::Sql => None,
            Method::Pipe => self.refuses_pipe(),
            Method::Relay => self.refuses_relay(),
        }
    }

    fn refuses_pipe(&self) -> Option<String> {
        if !self.tools {
            return Some("the base directory has no binlog tool and client".into());
        }
        if self.on_error == OnError::SkipLogged {
            return Some("the client cannot leave out one whole transaction that failed".into());
        }
        if self.unsaid {
            let why = "a statement means the user, the database or a variable of its session, which the binlog tool does not \
                       tell exactly";
            return Some(why.into());
        }
        if self.resume && self.gtids != GtidUse::All {
            return Some("without GTIDs nothing in the server says how far an earlier pipe came".into());
        }
        None
    }

    fn refuses_relay(&self) -> Option<String> {
        let (flavor, major, minor) = SOURCE_WITHOUT_RELAY;
        if self.server.flavor == flavor && !self.server.at_least(flavor, major, minor, 0) {
            return Some(format!("{} has no replication channels", self.server));
        }
        if self.on_error == OnError::SkipLogged {
            return Some("the parallel applier cannot leave out one transaction and say which".into());
        }
        if self.event_ddl {
            return Some("an applier stores events of the event scheduler as disabled".into());
        }
        if self.resume && self.gtids != GtidUse::All {
            return Some("without GTIDs an applier that was cut off does not say how far it came".into());
        }
        if self.server.flavor == Flavor::MySql && self.gtids == GtidUse::Some {
            return Some("transactions with and without GTIDs are mixed".into());
        }
        None
    }

    /// The method for `asked`.
    ///
    /// # Errors
    ///
    /// The reason if `asked` is a method that cannot do this replay.
    pub(super) fn choose(&self, asked: Method) -> Result<Choice, String> {
        let all = [Method::Relay, Method::Sql, Method::Pipe];
        let excluded: Vec<_> =
            all.iter().filter_map(|&m| self.refuses(m).map(|reason| (m, reason))).collect();
        if asked != Method::Auto {
            return match self.refuses(asked) {
                Some(reason) => Err(reason),
                None => Ok(Choice { method: asked, reason: "asked for".into(), excluded }),
            };
        }
        let Some(method) = all.into_iter().find(|m| !excluded.iter().any(|(e, _)| e == m)) else {
            let reasons: Vec<_> = excluded.iter().map(|(m, why)| format!("not {m}: {why}")).collect();
            return Err(reasons.join("; "));
        };
        let reason = match method {
            Method::Relay => format!("the applier of {} is exact here, and the fastest way", self.server),
            _ => match excluded.first() {
                Some((other, why)) => format!("not {other}: {why}"),
                None => "the only method left".into(),
            },
        };
        Ok(Choice { method, reason, excluded })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(server: &ServerVersion, gtids: GtidUse, on_error: OnError) -> Case<'_> {
        Case {
            server,
            gtids,
            event_ddl: false,
            unsaid: false,
            newer: None,
            on_error,
            tools: true,
            resume: false,
            crashed: false,
        }
    }

    fn choose(server: &str, gtids: GtidUse, on_error: OnError, asked: Method) -> Result<Method, String> {
        case(&server.parse().unwrap(), gtids, on_error).choose(asked).map(|c| c.method)
    }

    #[test]
    fn auto_takes_the_applier_where_it_is_exact() {
        let stop = OnError::Stop;
        for server in ["5.7.44", "8.0.36", "9.7.4", "10.5.1-MariaDB", "11.4.2-MariaDB"] {
            assert_eq!(choose(server, GtidUse::All, stop, Method::Auto), Ok(Method::Relay), "{server}");
            assert_eq!(choose(server, GtidUse::None, stop, Method::Auto), Ok(Method::Relay), "{server}");
        }
        assert_eq!(choose("5.6.51", GtidUse::All, stop, Method::Auto), Ok(Method::Sql));
        assert_eq!(choose("8.0.36", GtidUse::Some, stop, Method::Auto), Ok(Method::Sql));
        assert_eq!(choose("8.0.36", GtidUse::All, OnError::SkipLogged, Method::Auto), Ok(Method::Sql));
    }

    #[test]
    fn after_a_crash_a_binlog_without_fsync_says_nothing() {
        let crashed = |server: &str, method| {
            let server = server.parse().unwrap();
            let case = Case { resume: true, crashed: true, ..case(&server, GtidUse::All, OnError::Stop) };
            case.choose(method).map(|c| c.method)
        };
        assert!(crashed("10.11.6-MariaDB", Method::Pipe).unwrap_err().contains("without fsync"));
        assert_eq!(crashed("10.11.6-MariaDB", Method::Auto), Ok(Method::Relay));
        assert_eq!(crashed("9.7.4", Method::Pipe), Ok(Method::Pipe));
        assert!(crashed("5.6.51", Method::Auto).is_err());
    }

    #[test]
    fn a_method_that_is_not_exact_is_refused_when_asked_for() {
        let skip = OnError::SkipLogged;
        assert!(choose("8.0.36", GtidUse::All, skip, Method::Pipe).is_err());
        assert!(choose("8.0.36", GtidUse::All, skip, Method::Relay).is_err());
        assert!(choose("5.6.51", GtidUse::All, OnError::Stop, Method::Relay).is_err());
    }
}

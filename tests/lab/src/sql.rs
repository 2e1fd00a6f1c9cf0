//! One blocking SQL connection.

use std::path::Path;

use anyhow::{Context, Result};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Row, Value};

/// A connection that blocks: a test reads better without `await`, and a writer is a thread.
#[derive(Debug)]
pub struct Sql {
    runtime: tokio::runtime::Runtime,
    conn: Option<Conn>,
}

impl Sql {
    /// Logs in over a server's Unix socket.
    pub fn socket(path: &Path, user: &str, password: Option<&str>) -> Result<Self> {
        let options = OptsBuilder::default().socket(path.to_str()).user(Some(user)).pass(password);
        Self::open(options).with_context(|| format!("log in as {user} at {}", path.display()))
    }

    /// Logs in over TCP on loopback.
    pub fn tcp(port: u16, user: &str, password: Option<&str>) -> Result<Self> {
        let options = OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(port)
            .prefer_socket(false)
            .user(Some(user))
            .pass(password);
        Self::open(options).with_context(|| format!("log in as {user} at port {port}"))
    }

    fn open(options: OptsBuilder) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let conn = runtime.block_on(Conn::new(options))?;
        Ok(Self { runtime, conn: Some(conn) })
    }

    fn conn(&mut self) -> (&tokio::runtime::Runtime, &mut Conn) {
        (&self.runtime, self.conn.as_mut().expect("the connection is there until the drop"))
    }

    /// Runs one statement.
    pub fn run(&mut self, statement: impl AsRef<str>) -> Result<()> {
        let statement = statement.as_ref();
        let (runtime, conn) = self.conn();
        runtime.block_on(conn.query_drop(statement)).with_context(|| format!("statement: {statement}"))
    }

    /// Runs one statement and returns its rows as text; NULL is `None`.
    pub fn rows(&mut self, statement: impl AsRef<str>) -> Result<Vec<Vec<Option<String>>>> {
        let statement = statement.as_ref();
        let (runtime, conn) = self.conn();
        let rows: Vec<Row> =
            runtime.block_on(conn.query(statement)).with_context(|| format!("statement: {statement}"))?;
        Ok(rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect())
    }

    /// The first column of the first row, empty when there is none.
    pub fn value(&mut self, statement: impl AsRef<str>) -> Result<String> {
        let rows = self.rows(statement)?;
        Ok(rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten().unwrap_or_default())
    }
}

impl Drop for Sql {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            // Without an orderly end every connection is a warning in the server's log.
            let _ = self.runtime.block_on(async {
                tokio::time::timeout(std::time::Duration::from_secs(2), conn.disconnect()).await
            });
        }
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        other => Some(other.as_sql(true)),
    }
}

/// A name in backquotes.
pub fn name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A string literal.
pub fn literal(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

//! Where a replay stands, kept in the server itself where it has no GTID state of a client session:
//! MariaDB, and MySQL without GTIDs.
//!
//! One row in `mysql.dbrecover_replay`, changed in the transaction that it speaks of. A statement that
//! commits by itself (DDL) cannot take it along: `running` is written before it, `done` after it, and a
//! replay that finds `running` says so instead of guessing.

use crate::replay::error::Error;
use crate::replay::session::{Session, hex};
use crate::target::Position;

const TABLE: &str = "mysql.dbrecover_replay";

/// What the row says about its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Everything up to it is applied.
    Done,
    /// The statement that ends there was sent; whether it was applied is not known.
    Running,
    /// The stock tools apply what comes behind it, and tell nothing.
    Piped,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Running => "running",
            Self::Piped => "piped",
        }
    }
}

/// Makes the table with its row, unless it is there.
pub(crate) async fn create(session: &mut Session, start: &Position, state: State) -> Result<(), Error> {
    session
        .run(&format!(
            "CREATE TABLE IF NOT EXISTS {TABLE} (id INT PRIMARY KEY, file VARBINARY(512) NOT NULL, \
             pos BIGINT UNSIGNED NOT NULL, gtid VARBINARY(255), state VARBINARY(16) NOT NULL) ENGINE=InnoDB"
        ))
        .await?;
    let file = hex(start.file.as_bytes());
    session
        .run(&format!(
            "INSERT IGNORE INTO {TABLE} VALUES (1,X'{file}',{},NULL,'{}')",
            start.pos,
            state.word()
        ))
        .await
}

/// The statement that changes the row.
pub(super) fn update(file: &str, pos: u64, gtid: Option<&str>, state: State) -> String {
    let gtid = gtid.map_or_else(|| "NULL".to_owned(), |gtid| format!("'{gtid}'"));
    let file = hex(file.as_bytes());
    format!("UPDATE {TABLE} SET file=X'{file}',pos={pos},gtid={gtid},state='{}' WHERE id=1;", state.word())
}

/// The place that the row names, if there is a row, and the GTID of the transaction that ends there.
pub(crate) async fn read(session: &mut Session) -> Result<Option<(Position, Option<String>)>, Error> {
    if !exists(session).await? {
        return Ok(None);
    }
    type Row = (Vec<u8>, u64, Option<Vec<u8>>, Vec<u8>);
    let row = session.first::<Row>(&format!("SELECT file,pos,gtid,state FROM {TABLE} WHERE id=1")).await?;
    let Some((file, pos, gtid, state)) = row else { return Ok(None) };
    let file = String::from_utf8_lossy(&file).into_owned();
    if state == State::Piped.word().as_bytes() {
        return Err(Error::InDoubt { what: format!("all that comes behind {file}:{pos}") });
    }
    if state != State::Done.word().as_bytes() {
        return Err(Error::InDoubt { what: format!("the statement that ends at {file}:{pos}") });
    }
    let gtid = gtid.map(|gtid| String::from_utf8_lossy(&gtid).into_owned());
    Ok(Some((Position::new(file, pos), gtid)))
}

/// Removes the table, if it is there.
pub(crate) async fn drop(session: &mut Session) -> Result<(), Error> {
    if exists(session).await? { session.run(&format!("DROP TABLE {TABLE}")).await } else { Ok(()) }
}

async fn exists(session: &mut Session) -> Result<bool, Error> {
    let sql = "SELECT COUNT(*) FROM information_schema.tables \
               WHERE table_schema='mysql' AND table_name='dbrecover_replay'";
    Ok(session.text(sql).await? != "0")
}

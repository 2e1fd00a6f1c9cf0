//! The connection to the temporary server, and the few questions that every method asks.

use std::path::PathBuf;

use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, OptsBuilder, Row, Value};
use secrecy::ExposeSecret;

use super::error::Error;
use super::request::Account;

/// Largest packet that the client accepts and sends, in bytes: what the protocol allows.
const MAX_PACKET: usize = 1 << 30;

/// One connection over the server's socket.
pub(super) struct Session {
    conn: Conn,
    socket: PathBuf,
}

impl Session {
    /// Connects, in the character set `binary`: statements are bytes.
    pub(super) async fn open(account: &Account) -> Result<Self, Error> {
        let password = account.password.expose_secret();
        let options = OptsBuilder::default()
            .socket(Some(account.socket.to_string_lossy().into_owned()))
            .prefer_socket(true)
            .user(Some(&account.user))
            .pass((!password.is_empty()).then_some(password))
            .max_allowed_packet(Some(MAX_PACKET))
            .stmt_cache_size(Some(0));
        let socket = account.socket.clone();
        match Conn::new(options).await {
            Ok(conn) => Ok(Self { conn, socket }),
            Err(source) => Err(Error::Server { socket, doing: "connecting".into(), source }),
        }
    }

    /// The connection itself, for the statements of a replay.
    pub(super) fn conn(&mut self) -> &mut Conn {
        &mut self.conn
    }

    /// Turns a client error into ours.
    pub(super) fn failed(&self, doing: &str) -> impl FnOnce(mysql_async::Error) -> Error + use<> {
        let (socket, doing) = (self.socket.clone(), doing.to_owned());
        move |source| Error::Server { socket, doing, source }
    }

    /// Runs statements that give no rows back.
    pub(super) async fn run(&mut self, sql: &str) -> Result<(), Error> {
        tracing::debug!(sql, "server");
        let failed = self.failed(sql);
        self.conn.query_drop(sql).await.map_err(failed)
    }

    /// The first row of a query.
    pub(super) async fn first<T: FromRow + Send + 'static>(&mut self, sql: &str) -> Result<Option<T>, Error> {
        let failed = self.failed(sql);
        self.conn.query_first(sql).await.map_err(failed)
    }

    /// All rows of a query.
    pub(super) async fn rows(&mut self, sql: &str) -> Result<Vec<Row>, Error> {
        let failed = self.failed(sql);
        self.conn.query(sql).await.map_err(failed)
    }

    /// A value that is a text.
    pub(super) async fn text(&mut self, sql: &str) -> Result<String, Error> {
        Ok(self.first::<Option<String>>(sql).await?.flatten().unwrap_or_default())
    }

    /// Ends the connection.
    pub(super) async fn close(self) {
        let _ = self.conn.disconnect().await;
    }
}

/// The column `name` of a row as text; empty if it is not there or NULL.
pub(super) fn column(row: &Row, name: &str) -> String {
    let at = row.columns_ref().iter().position(|c| c.name_str() == name);
    match at.and_then(|i| row.as_ref(i)) {
        Some(Value::Bytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        Some(Value::Int(n)) => n.to_string(),
        Some(Value::UInt(n)) => n.to_string(),
        _ => String::new(),
    }
}

/// Upper-case hexadecimal digits of `bytes`.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut text = String::with_capacity(bytes.len() * 2);
    for b in bytes {
        text.push(char::from(DIGITS[usize::from(b >> 4)]));
        text.push(char::from(DIGITS[usize::from(b & 15)]));
    }
    text
}

//! Accounts of the data servers, from the proxy's `dbscale.conf`.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;

use crate::error::{Error, Problem};

/// How a server is logged into.
#[derive(Debug, Clone)]
pub struct Account {
    /// Name of the user.
    pub user: String,
    /// Its password, empty if the file gives none.
    pub password: SecretString,
}

/// The accounts of a `dbscale.conf`, by name of the data server.
///
/// Read are `user = …` and `password = …` in sections `[data-server NAME]`, and `encode-password = 1` anywhere, which
/// says that passwords are base64. Values may hold any character and are taken literally; blanks around them are not
/// part of them. Of several lines for one key of a section the last counts, of several `encode-password` the first.
///
/// ```
/// use backup_catalog::dbscale::Accounts;
/// use secrecy::ExposeSecret;
///
/// let text = b"encode-password = 1\n[data-server s1]\nuser = root\npassword = cCMkICc=\n";
/// let accounts = Accounts::parse("dbscale.conf", text)?;
/// assert_eq!(accounts.get("s1")?.password.expose_secret(), "p#$ '");
/// assert_eq!(accounts.get("s2").unwrap_err().to_string(), "dbscale.conf names no user for data server s2");
/// # Ok::<(), backup_catalog::Error>(())
/// ```
#[derive(Clone)]
pub struct Accounts {
    file: String,
    servers: BTreeMap<String, Account>,
}

/// What one `[data-server NAME]` section says, passwords as they stand there.
#[derive(Default)]
struct Raw {
    user: Option<String>,
    password: Option<(usize, SecretString)>,
}

impl Accounts {
    /// Reads the file's content; `file` is how errors call it.
    ///
    /// # Errors
    ///
    /// [`Error::Line`] if a user or password is not UTF-8 or, with `encode-password = 1`, a password not base64.
    pub fn parse(file: impl Into<String>, content: &[u8]) -> Result<Self, Error> {
        let file = file.into();
        let mut encoded: Option<bool> = None;
        let mut raw: BTreeMap<String, Raw> = BTreeMap::new();
        let mut server: Option<String> = None;
        for (index, line) in content.split(|&b| b == b'\n').enumerate() {
            let number = index + 1;
            let line = line.trim_ascii();
            if line.starts_with(b"[") {
                server = data_server(line);
                if let Some(name) = &server {
                    raw.entry(name.clone()).or_default();
                }
                continue;
            }
            let Some((key, value)) = key_value(line) else { continue };
            let text =
                || std::str::from_utf8(value).map_err(|_| Error::line(&file, number, Problem::Encoding));
            match (key, &server) {
                (b"encode-password", _) => _ = encoded.get_or_insert(value == b"1"),
                (b"user", Some(name)) => raw.entry(name.clone()).or_default().user = Some(text()?.to_owned()),
                (b"password", Some(name)) => {
                    raw.entry(name.clone()).or_default().password = Some((number, text()?.into()));
                }
                _ => {}
            }
        }
        let mut servers = BTreeMap::new();
        for (name, Raw { user, password }) in raw {
            let Some(user) = user else { continue };
            let password = match password {
                Some((line, secret)) if encoded == Some(true) => {
                    decode(&secret).map_err(|p| Error::line(&file, line, p))?
                }
                Some((_, secret)) => secret,
                None => SecretString::default(),
            };
            servers.insert(name, Account { user, password });
        }
        Ok(Self { file, servers })
    }

    /// The account of a server.
    ///
    /// # Errors
    ///
    /// [`Error::NoAccount`] if the file names no user for it.
    pub fn get(&self, server: &str) -> Result<&Account, Error> {
        self.servers
            .get(server)
            .ok_or_else(|| Error::NoAccount { file: self.file.clone(), server: server.to_owned() })
    }

    /// Names of the servers that have an account.
    pub fn servers(&self) -> impl Iterator<Item = &str> {
        self.servers.keys().map(String::as_str)
    }
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.servers.iter().map(|(name, account)| (name, &account.user))).finish()
    }
}

/// NAME in `[data-server NAME]`.
fn data_server(line: &[u8]) -> Option<String> {
    let inner = line.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let name = inner.strip_prefix(b"data-server")?;
    if !name.first()?.is_ascii_whitespace() {
        return None;
    }
    Some(std::str::from_utf8(name).ok()?.trim().to_owned()).filter(|name| !name.is_empty())
}

/// Key and value around the first `=`, without the blanks around them.
fn key_value(line: &[u8]) -> Option<(&[u8], &[u8])> {
    if line.starts_with(b"#") {
        return None;
    }
    let at = line.iter().position(|&b| b == b'=')?;
    Some((line[..at].trim_ascii(), line[at + 1..].trim_ascii()))
}

fn decode(secret: &SecretString) -> Result<SecretString, Problem> {
    use secrecy::ExposeSecret;
    let bytes = STANDARD.decode(secret.expose_secret()).map_err(|_| Problem::Base64)?;
    String::from_utf8(bytes).map(SecretString::from).map_err(|_| Problem::Encoding)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn password(text: &str, server: &str) -> String {
        Accounts::parse("f", text.as_bytes())
            .unwrap()
            .get(server)
            .unwrap()
            .password
            .expose_secret()
            .to_owned()
    }

    #[test]
    fn values_hold_any_character_and_lose_only_the_blanks_around_them() {
        let text = "[main]\nuser = nobody\n[data-server s_1]\nhost = h\nuser = r o\u{f6}t  \npassword = a=b#'\"[x]%% $ \t\r\n\
                    [data-server s2]\nuser=u\n";
        let accounts = Accounts::parse("f", text.as_bytes()).unwrap();
        assert_eq!(accounts.get("s_1").unwrap().user, "r o\u{f6}t");
        assert_eq!(password(text, "s_1"), "a=b#'\"[x]%% $");
        assert_eq!(password(text, "s2"), "");
        assert_eq!(accounts.servers().collect::<Vec<_>>(), ["s2", "s_1"]);
    }

    #[test]
    fn encoded_passwords_are_decoded_wherever_the_switch_stands() {
        let text = "[data-server a]\nuser = u\npassword = cGFzcw==\n[main]\nencode-password =\t1\n";
        assert_eq!(password(text, "a"), "pass");
        assert_eq!(password(&text.replace("\t1", "0"), "a"), "cGFzcw==");
        let bad = Accounts::parse("f", text.replace("cGFzcw==", "S3cret!").as_bytes()).unwrap_err();
        assert!(matches!(bad, Error::Line { line: 3, problem: Problem::Base64, .. }));
        assert!(!bad.to_string().contains("S3cret"));
    }

    #[test]
    fn nothing_that_is_printed_for_debugging_holds_a_password() {
        let accounts = Accounts::parse("f", b"[data-server a]\nuser = u\npassword = S3cret\n").unwrap();
        assert!(!format!("{accounts:?} {:?}", accounts.get("a")).contains("S3cret"));
    }
}

//! To whom restored files are given.

use serde::{Deserialize, Serialize};

use crate::{Error, accounts};

/// Who owns the files afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

impl Owner {
    /// Reads `USER`, `USER:GROUP`, `USER:` or numbers of both. Without a group it is the user's own.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if there is no such user or group.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
            None => (text, None),
        };
        let unknown =
            |what: &str, name: &str| Error::Usage(format!("there is no {what} {name:?} on this machine"));
        let (uid, own) = match accounts::find_user(user) {
            Some((uid, gid)) => (uid, gid),
            None => {
                let uid = user.parse().map_err(|_| unknown("user", user))?;
                (uid, uid)
            }
        };
        let gid = match group {
            None => own,
            Some(name) => match accounts::find_group(name) {
                Some(gid) => gid,
                None => name.parse().map_err(|_| unknown("group", name))?,
            },
        };
        Ok(Self { uid, gid })
    }
}

//! The names of users and groups, from the system's own files.

use std::collections::HashMap;

/// Names by number. What other services than the files know stays a number.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    users: Option<HashMap<u32, String>>,
    groups: Option<HashMap<u32, String>>,
}

impl Accounts {
    pub(crate) fn user(&mut self, uid: u32) -> Option<String> {
        self.users.get_or_insert_with(|| by_number("/etc/passwd")).get(&uid).cloned()
    }

    pub(crate) fn group(&mut self, gid: u32) -> Option<String> {
        self.groups.get_or_insert_with(|| by_number("/etc/group")).get(&gid).cloned()
    }
}

/// The number of a user, and of the group that is the user's own.
pub(crate) fn find_user(name: &str) -> Option<(u32, u32)> {
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = text.lines().find(|l| l.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// The number of a group.
pub(crate) fn find_group(name: &str) -> Option<u32> {
    let text = std::fs::read_to_string("/etc/group").ok()?;
    text.lines().find(|l| l.split(':').next() == Some(name))?.split(':').nth(2)?.parse().ok()
}

fn by_number(file: &str) -> HashMap<u32, String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(Ok(number))) = (fields.next(), fields.nth(1).map(str::parse)) {
            names.entry(number).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_a_name_and_a_number() {
        assert_eq!(Accounts::default().user(0).as_deref(), Some("root"));
        assert_eq!(Accounts::default().group(0).as_deref(), Some("root"));
        assert_eq!(find_user("root"), Some((0, 0)));
        assert_eq!(find_group("root"), Some(0));
        assert_eq!(find_user("no such user"), None);
    }
}

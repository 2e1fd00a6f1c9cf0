//! `rabbit://` addresses as oslo.messaging takes them.

use secrecy::SecretString;

use crate::Error;

/// A message broker: one or more hosts, one virtual host.
#[derive(Debug, Clone)]
pub struct Uri {
    /// Whether the connection is TLS (`rabbits://`).
    pub tls: bool,
    /// The hosts in the order in which they are tried.
    pub brokers: Vec<Broker>,
    /// The virtual host.
    pub vhost: String,
}

/// One host of a [`Uri`].
#[derive(Debug, Clone)]
pub struct Broker {
    /// Name or address, IPv6 without brackets.
    pub host: String,
    /// 5672, or 5671 with TLS, unless given.
    pub port: u16,
    /// `guest` unless given.
    pub user: String,
    /// `guest` unless given.
    pub password: SecretString,
}

impl Uri {
    /// Parses `rabbit://[user:password@]host[:port][,…]/vhost`. Also `rabbits://`, `amqp://`, `amqps://`.
    ///
    /// User, password and vhost may be percent-encoded. No path, `/`, `//` and `/%2F` all mean the vhost `/`. A host
    /// without user and password has those of the host before it. Whatever follows `?` is for other programs and
    /// passed over.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`], which never repeats the address, because it may hold a password.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bad = |reason| Error::Argument { what: "the rabbit address".to_owned(), reason };
        let (scheme, rest) =
            text.split_once("://").ok_or(bad("it does not begin with rabbit:// or rabbits://"))?;
        let tls = match scheme {
            "rabbit" | "amqp" | "kombu" => false,
            "rabbits" | "amqps" => true,
            _ => return Err(bad("it does not begin with rabbit:// or rabbits://")),
        };
        let rest = rest.split_once('?').map_or(rest, |(before, _)| before);
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let vhost = decode(path).ok_or(bad("its virtual host is not well encoded"))?;
        let vhost = if vhost.is_empty() { "/".to_owned() } else { vhost };
        let mut brokers: Vec<Broker> = Vec::new();
        for part in hosts.split(',') {
            let (login, address) = part.rsplit_once('@').map_or((None, part), |(l, a)| (Some(l), a));
            let (user, password) = match (login, brokers.last()) {
                (Some(login), _) => {
                    let (user, password) = login.split_once(':').unwrap_or((login, ""));
                    let encoded = bad("its user or password is not well encoded");
                    match (decode(user), decode(password)) {
                        (Some(user), Some(password)) => (user, password.into()),
                        _ => return Err(encoded),
                    }
                }
                (None, Some(before)) => (before.user.clone(), before.password.clone()),
                (None, None) => ("guest".to_owned(), "guest".to_owned().into()),
            };
            let (host, port) = match address.strip_prefix('[') {
                Some(six) => {
                    let (host, port) =
                        six.split_once(']').ok_or(bad("an IPv6 address has no closing bracket"))?;
                    (host, port.strip_prefix(':').filter(|p| !p.is_empty()))
                }
                None => address.split_once(':').map_or((address, None), |(h, p)| (h, Some(p))),
            };
            if host.is_empty() {
                return Err(bad("it names no host"));
            }
            let usual = if tls { 5671 } else { 5672 };
            let port =
                port.map_or(Ok(usual), str::parse).map_err(|_| bad("a port is not a number up to 65535"))?;
            brokers.push(Broker { host: host.to_owned(), port, user, password });
        }
        Ok(Self { tls, brokers, vhost })
    }

    /// The address without users and passwords.
    pub fn shown(&self) -> String {
        let scheme = if self.tls { "rabbits" } else { "rabbit" };
        let hosts: Vec<_> = self.brokers.iter().map(|b| format!("{}:{}", b.host, b.port)).collect();
        format!("{scheme}://{}/{}", hosts.join(","), self.vhost)
    }
}

/// Undoes percent-encoding; `None` for a bad escape or what is not UTF-8 after it.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes().iter();
    while let Some(&b) = rest.next() {
        if b == b'%' {
            let digit = |b: Option<&u8>| char::from(*b?).to_digit(16);
            let (high, low) = (digit(rest.next())?, digit(rest.next())?);
            bytes.push((high * 16 + low) as u8);
        } else {
            bytes.push(b);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn virtual_hosts_as_oslo_reads_them() {
        for (uri, vhost) in [
            ("rabbit://u:p@h:5672", "/"),
            ("rabbit://u:p@h:5672/", "/"),
            ("rabbit://u:p@h:5672//", "/"),
            ("rabbit://u:p@h:5672/%2F", "/"),
            ("rabbit://u:p@h:5672/vh1", "vh1"),
            ("rabbit://u:p@h/vh%201?ssl=0", "vh 1"),
        ] {
            assert_eq!(Uri::parse(uri).unwrap().vhost, vhost, "{uri}");
        }
    }

    #[test]
    fn hosts_ports_and_logins() {
        let uri = Uri::parse("rabbits://me:p%40%3A%2C%2F@[::1]:15671,b,you:q@c:1/").unwrap();
        assert!(uri.tls);
        let all: Vec<_> = uri
            .brokers
            .iter()
            .map(|b| (b.host.as_str(), b.port, b.user.as_str(), b.password.expose_secret()))
            .collect();
        assert_eq!(all, [("::1", 15671, "me", "p@:,/"), ("b", 5671, "me", "p@:,/"), ("c", 1, "you", "q")]);
        assert_eq!(uri.shown(), "rabbits://::1:15671,b:5671,c:1//");
        assert!(!format!("{uri:?}").contains("p@:"));
        assert_eq!(Uri::parse("rabbit://h").unwrap().brokers[0].user, "guest");
    }

    #[test]
    fn bad_addresses_are_refused_without_their_password() {
        for bad in [
            "",
            "h:1",
            "http://h",
            "rabbit://",
            "rabbit://s3cret@",
            "rabbit://u:s3cret@h:x/",
            "rabbit://u:s3cret%zz@h/",
            "rabbit://[::1",
        ] {
            let error = Uri::parse(bad).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{bad}");
        }
    }
}

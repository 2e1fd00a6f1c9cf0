//! What a chain of binlogs has passed.
//!
//! MariaDB's numbers are unique within a domain only as long as one server writes at a time. Where two did, sets of numbers
//! cannot tell their transactions apart; what was walked over is known with its servers, so that this shows.

use std::collections::BTreeMap;

use crate::gtid::{Gtid, GtidSet, Intervals};

/// All transactions up to a place in a chain.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// As the files tell it; of MariaDB everything up to the highest number of each domain. `None` without GTIDs.
    set: Option<GtidSet>,
    /// What lies before the first file.
    before: Option<GtidSet>,
    /// Numbers of MariaDB by domain and server, as far as they were walked over.
    walked: BTreeMap<(u32, u32), Intervals>,
    /// Highest number of each of MariaDB's domains.
    highest: BTreeMap<u32, u64>,
}

impl Seen {
    /// Starts with what lies before the first file.
    pub(crate) fn start(&mut self, before: Option<GtidSet>) {
        if let Some(GtidSet::MariaDb(position)) = &before {
            self.highest = position.iter().filter_map(|(domain, n)| Some((domain, n.last()?))).collect();
        }
        (self.set, self.before) = (before.clone(), before);
    }

    pub(crate) fn set(&self) -> Option<&GtidSet> {
        self.set.as_ref()
    }

    /// Takes the next transaction of the chain in.
    pub(crate) fn note(&mut self, gtid: &Gtid) {
        match (self.set.get_or_insert_with(|| GtidSet::new(gtid.flavor())), gtid) {
            // A position: numbers that were left out do not come any more.
            (GtidSet::MariaDb(set), Gtid::MariaDb { domain, server, number }) => {
                set.insert_range(*domain, *server, 1, *number);
                self.walked.entry((*domain, *server)).or_default().insert(*number, *number);
                let highest = self.highest.entry(*domain).or_default();
                *highest = (*highest).max(*number);
            }
            (set, gtid) => {
                set.insert(gtid);
            }
        }
    }

    /// Whether a transaction of this name was passed; of MariaDB one with this number.
    pub(crate) fn contains(&self, gtid: &Gtid) -> bool {
        self.set.as_ref().is_some_and(|set| set.contains(gtid))
    }

    /// Whether this very transaction was passed, and not another one with its number.
    pub(crate) fn is_same(&self, gtid: &Gtid) -> bool {
        let Gtid::MariaDb { domain, server, number } = gtid else { return self.contains(gtid) };
        // What lies before the first file is known by its numbers only.
        self.before.as_ref().is_some_and(|before| before.contains(gtid))
            || self.walked.get(&(*domain, *server)).is_some_and(|numbers| numbers.contains(*number))
    }

    /// Whether it comes in the order of its domain: its number is above all before it. Always true of MySQL.
    pub(crate) fn ascends(&self, gtid: &Gtid) -> bool {
        let Gtid::MariaDb { domain, number, .. } = gtid else { return true };
        self.highest.get(domain).is_none_or(|highest| number > highest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Flavor;

    fn gtid(text: &str) -> Gtid {
        text.parse().unwrap()
    }

    #[test]
    fn transactions_of_two_servers_with_one_number_are_told_apart() {
        let mut seen = Seen::default();
        seen.start(Some(GtidSet::parse(Flavor::MariaDb, "0-1-3").unwrap()));
        seen.note(&gtid("0-1-5"));
        assert!(seen.is_same(&gtid("0-1-5")) && seen.contains(&gtid("0-2-5")));
        assert!(!seen.is_same(&gtid("0-2-5")) && !seen.is_same(&gtid("0-2-4")));
        assert!(seen.is_same(&gtid("0-9-3")), "before the first file only numbers are known");
        assert!(seen.ascends(&gtid("0-2-6")) && !seen.ascends(&gtid("0-2-5")));
        assert!(seen.ascends(&gtid("1-2-1")));
    }
}

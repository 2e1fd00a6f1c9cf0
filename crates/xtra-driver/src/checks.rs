//! Whether backups follow each other.

use crate::error::{Error, LsnRule};
use crate::metadata::{BackupType, Checkpoints};

/// Checks the log sequence numbers of a chain, full backup first. Each link comes with its label and, where known, the
/// LSN that `cluster_consistence_info` recorded for its end.
///
/// # Errors
///
/// [`Error::Chain`] for the first link that does not fit.
pub fn check_chain<'a>(
    links: impl IntoIterator<Item = (&'a str, &'a Checkpoints, Option<u64>)>,
) -> Result<(), Error> {
    let mut previous_to: Option<u64> = None;
    for (label, link, recorded) in links {
        let broken = |rule| Err(Error::Chain { label: label.to_owned(), rule });
        match previous_to {
            None if link.backup_type != BackupType::Full || link.from_lsn != 0 => {
                return broken(LsnRule::FullFirst);
            }
            Some(_) if link.backup_type != BackupType::Incremental => {
                return broken(LsnRule::IncrementalAfter);
            }
            Some(previous_to) if link.from_lsn != previous_to => {
                return broken(LsnRule::StartsAtEndOfPrevious { from: link.from_lsn, previous_to });
            }
            _ => {}
        }
        if let Some(recorded) = recorded.filter(|recorded| *recorded != link.to_lsn) {
            return broken(LsnRule::EndsWhereRecorded { to: link.to_lsn, recorded });
        }
        previous_to = Some(link.to_lsn);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(backup_type: BackupType, from_lsn: u64, to_lsn: u64) -> Checkpoints {
        Checkpoints { backup_type, from_lsn, to_lsn, last_lsn: None }
    }

    fn rule(links: &[(Checkpoints, Option<u64>)]) -> Option<(String, LsnRule)> {
        let names = ["full", "inc1", "inc2"];
        match check_chain(links.iter().zip(names).map(|((link, recorded), name)| (name, link, *recorded))) {
            Ok(()) => None,
            Err(Error::Chain { label, rule }) => Some((label, rule)),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn each_link_starts_where_the_one_before_it_ends() {
        use BackupType::{Full, Incremental, LogApplied};
        let full = || (link(Full, 0, 100), Some(100));
        assert_eq!(
            rule(&[full(), (link(Incremental, 100, 100), None), (link(Incremental, 100, 130), Some(130))]),
            None
        );
        assert_eq!(
            rule(&[full(), (link(Incremental, 120, 130), None)]),
            Some(("inc1".into(), LsnRule::StartsAtEndOfPrevious { from: 120, previous_to: 100 }))
        );
        assert_eq!(
            rule(&[full(), (link(Incremental, 100, 130), Some(131))]),
            Some(("inc1".into(), LsnRule::EndsWhereRecorded { to: 130, recorded: 131 }))
        );
        assert_eq!(
            rule(&[full(), (link(Full, 0, 130), None)]),
            Some(("inc1".into(), LsnRule::IncrementalAfter))
        );
        assert_eq!(rule(&[(link(LogApplied, 0, 1), None)]), Some(("full".into(), LsnRule::FullFirst)));
        assert_eq!(rule(&[(link(Incremental, 5, 9), None)]), Some(("full".into(), LsnRule::FullFirst)));
    }
}

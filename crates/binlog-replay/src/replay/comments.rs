//! Whether the stock client must keep comments.
//!
//! It strips them from statements unless it is told not to, and a stored routine would come out different. Told to keep
//! them, it sends every comment line of `mysqlbinlog`, two or more for each event, to the server as a statement of its
//! own: replays of small transactions took two to six times as long. So it is told only where a statement of the range
//! has one.

use crate::error::Error;
use crate::event::{EventKind, Query};
use crate::range::Range;
use crate::reader::Reader;

/// Whether a statement of `range` may have a comment. What is not plain text counts as one that has.
pub(super) fn are_needed(range: &Range) -> Result<bool, Error> {
    for file in &range.files {
        let mut reader = Reader::skim(&file.path)?;
        while let Some(event) = reader.next_event()? {
            if event.offset >= file.stop {
                break;
            }
            if event.offset < file.start {
                continue;
            }
            let commented = match event.header.kind {
                // Of a very large event only the beginning is here.
                EventKind::QUERY => {
                    event.bytes().len() < event.header.size as usize
                        || Query::peek_text(event.body()).is_none_or(may_have_comment)
                }
                EventKind::QUERY_COMPRESSED
                | EventKind::EXECUTE_LOAD_QUERY
                | EventKind::TRANSACTION_PAYLOAD => true,
                _ => false,
            };
            if commented {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Quotes are not looked at: `'--'` counts too.
fn may_have_comment(text: &[u8]) -> bool {
    text.contains(&b'#') || text.windows(2).any(|two| matches!(two, b"/*" | b"--"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_of_every_kind_are_seen() {
        for text in [
            "# a",
            "SELECT 1 -- why",
            "CREATE /* b */ TABLE t (a INT)",
            "SELECT 1 #",
            "/*!40000 DROP TABLE t */",
        ] {
            assert!(may_have_comment(text.as_bytes()), "{text}");
        }
        for text in ["", "-", "BEGIN", "UPDATE t SET a = a - 1 * 2 / 3"] {
            assert!(!may_have_comment(text.as_bytes()), "{text}");
        }
    }
}

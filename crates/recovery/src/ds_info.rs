//! The `ds_info` files that the point-in-time companion tool reads.
//!
//! `DIR/ds_info_ID` has one line per group, `GROUP⇥TIME⇥FIRST-BINLOG`; `DIR/ds_info_file_name` names it.
//! `ID` is the stop time with `_` for blanks, colons and dashes; `TIME` is empty unless servers were left running
//! for a test. The group `auth` is left out.

use std::path::Path;

use remote_exec::Host;

use crate::Error;

/// The group that has no line.
const LEFT_OUT: &str = "auth";

/// One group's line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) group: String,
    pub(crate) time: String,
    pub(crate) first_binlog: String,
}

/// Writes both files.
pub(crate) async fn write(host: &Host, dir: &Path, id: &str, lines: &[Line]) -> Result<(), Error> {
    let files = host.files();
    files.write(dir.join(format!("ds_info_{id}")), text(lines), 0o644).await?;
    files.write(dir.join("ds_info_file_name"), format!("ds_info_{id}\n"), 0o644).await?;
    Ok(())
}

fn text(lines: &[Line]) -> String {
    let kept = lines.iter().filter(|line| line.group != LEFT_OUT);
    kept.map(|line| format!("{}\t{}\t{}\n", line.group, line.time, line.first_binlog)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_tab_separated_and_the_auth_group_is_left_out() {
        let line = |group: &str, time: &str| Line {
            group: group.to_owned(),
            time: time.to_owned(),
            first_binlog: "/w/b.000001".to_owned(),
        };
        assert_eq!(
            text(&[line("normal_0", ""), line("auth", ""), line("normal_1", "2026-01-02 03:04:05")]),
            "normal_0\t\t/w/b.000001\nnormal_1\t2026-01-02 03:04:05\t/w/b.000001\n"
        );
    }
}

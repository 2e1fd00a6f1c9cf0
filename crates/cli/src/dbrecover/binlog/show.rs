//! `dbrecover binlog show`: one transaction as readable SQL.

use std::io::{self, Write};

use binlog_replay::event::RowsKind;
use binlog_replay::{ShowLimits, Shown, ShownRow, Step, Which, scan, show};
use dbrecover_cli::{Exit, Failure, Outcome};

use super::failure::failure;
use super::{Show, print_json, print_mark};

pub(super) fn run(args: &Show) -> Outcome {
    let which = match (&args.at, &args.gtid) {
        (Some(position), _) => Which::At(position.clone()),
        (None, Some(gtid)) => Which::Gtid(gtid.clone()),
        (None, None) => return Err(Failure::usage("give --at or --gtid")),
    };
    let index = scan(&args.folders).map_err(failure)?;
    let limits = ShowLimits { rows: args.rows, ..ShowLimits::default() };
    let Some(shown) = show(&index, &which, limits).map_err(failure)? else {
        let what = match &which {
            Which::At(position) => format!("no transaction at {position}"),
            Which::Gtid(gtid) => format!("no transaction {gtid}"),
        };
        let hint = "`dbrecover binlog find` prints positions and GTIDs";
        return Err(Failure::new(Exit::Nothing, anyhow::Error::msg(what)).hint(hint));
    };
    match args.json {
        true => print_json(&shown),
        false => Ok(print_shown(&mut io::stdout().lock(), &shown)?),
    }
}

fn print_shown(out: &mut impl Write, shown: &Shown) -> io::Result<()> {
    print_mark(out, &shown.mark)?;
    let mut database = String::new();
    for step in &shown.steps {
        match step {
            Step::Statement { database: db, text } => {
                if !db.is_empty() && *db != database {
                    writeln!(out, "USE `{}`;", db.replace('`', "``"))?;
                    database.clone_from(db);
                }
                writeln!(out, "{text};")?;
            }
            Step::Comment { text } => {
                for line in text.lines() {
                    writeln!(out, "-- {line}")?;
                }
            }
            Step::Setting { text } => writeln!(out, "{text};")?,
            Step::Rows { schema, table, kind, rows, count } => {
                for row in rows {
                    writeln!(out, "{}", row_sql(schema, table, *kind, row))?;
                }
                let left = count - rows.len() as u64;
                if left > 0 {
                    writeln!(out, "-- and {left} rows more")?;
                }
            }
            Step::Other { kind } => writeln!(out, "-- {kind}")?,
            _ => {}
        }
    }
    Ok(())
}

fn row_sql(schema: &str, table: &str, kind: RowsKind, row: &ShownRow) -> String {
    let quote = |name: &str| match name.starts_with('@') {
        true => name.to_owned(),
        false => format!("`{}`", name.replace('`', "``")),
    };
    let name = format!("{}.{}", quote(schema), quote(table));
    let pairs = |image: &Option<Vec<(String, String)>>, between: &str, is: &str| {
        let image = image.as_deref().unwrap_or_default();
        let parts: Vec<String> = image
            .iter()
            .map(|(column, value)| match (value.as_str(), is) {
                ("NULL", " = ") if between == " AND " => format!("{} IS NULL", quote(column)),
                _ => format!("{}{is}{value}", quote(column)),
            })
            .collect();
        parts.join(between)
    };
    match kind {
        RowsKind::Insert => format!("INSERT INTO {name} SET {};", pairs(&row.after, ", ", " = ")),
        RowsKind::Update => {
            let (set, filter) = (pairs(&row.after, ", ", " = "), pairs(&row.before, " AND ", " = "));
            format!("UPDATE {name} SET {set} WHERE {filter};")
        }
        RowsKind::Delete => format!("DELETE FROM {name} WHERE {};", pairs(&row.before, " AND ", " = ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_print_as_statements() {
        let image = |v: &str| Some(vec![("id".to_owned(), "1".to_owned()), ("a`b".to_owned(), v.to_owned())]);
        let row = ShownRow { before: image("NULL"), after: image("NULL") };
        assert_eq!(
            row_sql("s", "t", RowsKind::Update, &row),
            "UPDATE `s`.`t` SET `id` = 1, `a``b` = NULL WHERE `id` = 1 AND `a``b` IS NULL;"
        );
        assert_eq!(
            row_sql("s", "t", RowsKind::Insert, &row),
            "INSERT INTO `s`.`t` SET `id` = 1, `a``b` = NULL;"
        );
    }
}

//! `lab`: makes stores and looks at servers, for scripts.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use lab::server::Flavor;
use lab::{Shape, Store, StoreOptions, Truth, truth};

const USAGE: &str = "\
usage: lab make-store DIR [OPTIONS]     make DIR/store and DIR/truth.json
       lab get-store [OPTIONS]          the kept store of these options; prints its directory
       lab state TRUTH DATADIR          what a server on DATADIR holds, as JSON
       lab verify TRUTH WORKDIR WHEN    compare WORKDIR/datadir/* with the truth at WHEN
                                        (a backup's name, or `YYYY-MM-DD HH:MM:SS`)
       lab moments TRUTH                points and moments, one line each
       lab pick TRUTH busy|quiet|last   a moment between the last two backups, or the last backup
options: --mysql --replicas --compress --encrypt PASSWORD --chains N --encode-password --spare-replica --odd --ballast MIB";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["make-store", dir, rest @ ..] => {
            Store::make(dir.as_ref(), &options(rest)?)?;
        }
        ["get-store", rest @ ..] => println!("{}", Store::get(&options(rest)?)?.dir.display()),
        ["state", file, datadir] => {
            let state = Truth::read(file.as_ref())?.state_of(datadir.as_ref())?;
            println!("{}", serde_json::to_string_pretty(&state)?);
        }
        ["verify", file, workdir, when] => verify(file.as_ref(), workdir.as_ref(), when)?,
        ["pick", file, "last"] => {
            let truth = Truth::read(file.as_ref())?;
            println!("{}", truth.points.last().context("no backup")?.backup);
        }
        ["pick", file, kind] => {
            let truth = Truth::read(file.as_ref())?;
            let last = truth.points.len().checked_sub(2).context("needs two backups")?;
            let between = truth.between(last, last + 1, *kind == "busy");
            println!("{}", between.get(between.len() / 2).context("no such moment")?.time);
        }
        ["moments", file] => {
            let truth = Truth::read(file.as_ref())?;
            for point in &truth.points {
                println!("point {} {}", point.time, point.backup);
            }
            for moment in &truth.moments {
                println!("{} {}", if moment.busy { "busy " } else { "quiet" }, moment.time);
            }
        }
        _ => bail!("{USAGE}"),
    }
    Ok(())
}

fn options(mut args: &[&str]) -> Result<StoreOptions> {
    let mut options = StoreOptions::default();
    while let [flag, rest @ ..] = args {
        args = rest;
        let mut value = || -> Result<&str> {
            let [value, rest @ ..] = args else { bail!("{flag} needs a value\n{USAGE}") };
            args = rest;
            Ok(value)
        };
        match *flag {
            "--mysql" => options.flavor = Flavor::MySql,
            "--replicas" => options.shape = Shape::Replicas,
            "--compress" => options.compress = true,
            "--encrypt" => options.password = Some(value()?.to_owned()),
            "--chains" => options.chains = value()?.parse()?,
            "--encode-password" => options.encode_password = true,
            "--spare-replica" => options.spare_replica = true,
            "--odd" => options.odd = true,
            "--ballast" => options.ballast_mib = value()?.parse()?,
            other => bail!("no option {other}\n{USAGE}"),
        }
    }
    Ok(options)
}

fn verify(file: &std::path::Path, workdir: &std::path::Path, when: &str) -> Result<()> {
    let truth = Truth::read(file)?;
    let groups = match truth.points.iter().find(|point| point.backup == when) {
        Some(point) => &point.groups,
        None => {
            let time = chrono::NaiveDateTime::parse_from_str(when, "%Y-%m-%d %H:%M:%S")?;
            let moment = truth.moments.iter().find(|moment| moment.time == time);
            &moment.context("the truth of that moment is not known")?.groups
        }
    };
    let mut wrong = Vec::new();
    println!("{:<12} {:<22} {:>28} {:>28}", "group", "", "expected", "recovered");
    for (datasource, expected) in groups {
        let datadir: PathBuf = workdir.join("datadir").join(&truth.folders[datasource]);
        let found = truth.state_of(&datadir)?;
        let rows = [
            ("transactions", expected.transactions.to_string(), found.transactions.to_string()),
            ("GTID", expected.gtid.clone(), found.gtid.clone()),
            ("sum of balances", expected.balance.to_string(), found.balance.to_string()),
            ("tables", expected.tables.len().to_string(), found.tables.len().to_string()),
            ("checksum of all tables", expected.checksum(), found.checksum()),
        ];
        for (what, expected, found) in rows {
            println!("{datasource:<12} {what:<22} {expected:>28} {found:>28}");
        }
        wrong.extend(
            truth::differences(expected, &found).into_iter().map(|line| format!("{datasource}: {line}")),
        );
    }
    if !wrong.is_empty() {
        bail!("the recovered servers differ from the truth:\n{}", wrong.join("\n"));
    }
    Ok(())
}

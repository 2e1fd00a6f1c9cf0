//! A server's base directory as a tarball, as a full backup holds it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::server::Flavor;
use crate::tools::{mysql_tarball, run};

/// Puts `NAME.tar.gz` into `dir`. MariaDB's is made of the installed programs and works wherever it is
/// unpacked on this machine; MySQL's is the one among the test tools.
pub(crate) fn put(flavor: Flavor, dir: &Path) -> Result<()> {
    match flavor {
        Flavor::MySql => {
            let tarball = mysql_tarball()?;
            let to = dir.join(tarball.file_name().context("a tarball has a name")?);
            if fs::hard_link(&tarball, &to).is_err() {
                fs::copy(&tarball, &to)?;
            }
            Ok(())
        }
        Flavor::MariaDb => mariadb(dir),
    }
}

fn mariadb(dir: &Path) -> Result<()> {
    let version = Flavor::MariaDb.version()?;
    let version = version.split_whitespace().nth(2).and_then(|v| v.split('-').next()).unwrap_or("10.11");
    let temp = tempfile::tempdir()?;
    let name = format!("mariadb-{version}");
    let base = temp.path().join(&name);
    fs::create_dir_all(base.join("bin"))?;
    fs::create_dir_all(base.join("share"))?;
    fs::copy("/usr/sbin/mariadbd", base.join("bin/mariadbd"))?;
    fs::copy("/usr/bin/mariadb", base.join("bin/mariadb"))?;
    fs::copy("/usr/bin/mariadb-binlog", base.join("bin/mariadb-binlog"))?;
    // The names that `client-name = mysql` asks for.
    for (link, to) in [("mysqld", "mariadbd"), ("mysql", "mariadb"), ("mysqlbinlog", "mariadb-binlog")] {
        symlink(to, base.join("bin").join(link))?;
    }
    for part in ["english", "charsets"] {
        run(Command::new("cp")
            .arg("-r")
            .arg(Path::new("/usr/share/mysql").join(part))
            .arg(base.join("share")))?;
    }
    let tarball = dir.join(format!("{name}.tar.gz"));
    run(Command::new("tar")
        .args(["--create", "--owner=0", "--group=0", "-I", "gzip -1", "--file"])
        .arg(&tarball)
        .arg("-C")
        .arg(temp.path())
        .arg(&name))?;
    Ok(())
}

//! From extracted backups to a prepared datadir, by the xtrabackup driver.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use backup_catalog::Catalog;
use remote_exec::Host;
use xtra_driver::{Driver, Options, Part, Tool};

use crate::Error;
use crate::config::Config;
use crate::events::Watch;
use crate::plan::{Plan, PlannedServer};
use crate::unpack::Unpack;

/// The names that the tools go by, in the order in which they are looked for.
const TOOLS: [&str; 3] = ["xtrabackup", "mariabackup", "mariadb-backup"];
const STREAMERS: [&str; 2] = ["xbstream", "mbstream"];

/// The xtrabackup or mariabackup program of the job server.
pub(crate) async fn detect(config: &Config, job: &Host) -> Result<Tool, Error> {
    if let Some(program) = &config.misc.xtrabackup {
        return Ok(Tool::detect(job, program).await?);
    }
    let mut names = TOOLS;
    if config.misc.client_name == "mariadb" {
        names.rotate_left(1);
    }
    for name in names {
        if job.find_program(name).await?.is_some() {
            return Ok(Tool::detect(job, name).await?);
        }
    }
    Err(Error::Tool {
        host: job.name().to_owned(),
        tool: names.join(", "),
        reason: "none of them is there; install the one of the backed-up server, or say xtrabackup-bin-dir"
            .to_owned(),
    })
}

/// The logs of one server, and the driver's notes on how far it is.
pub(crate) fn log_dir(work: &Path, folder: &str) -> PathBuf {
    work.join("tmp").join(folder)
}

fn driver(tool: &Tool, config: &Config, work: &Path, folder: &str) -> Driver {
    let mut options = Options::new(log_dir(work, folder));
    options.timeout = Some(config.misc.conn_timeout);
    options.allow_partial = config.allow_partial;
    Driver::new(tool.clone(), options)
}

/// Extracts one stream with the stock tools, and decompresses what they left compressed.
pub(crate) async fn extract(
    unpack: &Unpack<'_>,
    backup: &str,
    folder: &str,
    stream: &Path,
    target: &Path,
) -> Result<(), Error> {
    let (config, job) = (unpack.config, &unpack.hosts.job);
    let driver = driver(unpack.prepare, config, unpack.work, folder);
    let mut streamer = config.misc.xbstream.clone();
    for name in STREAMERS {
        if streamer.is_none() && job.find_program(name).await?.is_some() {
            streamer = Some(name.to_owned());
        }
    }
    let streamer = streamer.ok_or_else(|| Error::Tool {
        host: job.name().to_owned(),
        tool: STREAMERS.join(", "),
        reason: "none of them is there; say xbstream-bin-dir".to_owned(),
    })?;
    driver.extract(&streamer, stream, target, backup).await?;
    driver.decompress(target, backup).await?;
    Ok(())
}

/// The chain of one server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chain<'a> {
    pub(crate) host: &'a Host,
    pub(crate) tool: &'a Tool,
    pub(crate) config: &'a Config,
    pub(crate) catalog: &'a Catalog,
    pub(crate) plan: &'a Plan,
    pub(crate) work: &'a Path,
    pub(crate) server: &'a PlannedServer,
    pub(crate) watch: &'a Watch,
}

impl Chain<'_> {
    /// Prepares the datadir: redo-only for every step but the last. Incremental directories are removed when they
    /// have been applied. Returns the backups that databases or tables were left out of.
    pub(crate) async fn prepare(&self) -> Result<Vec<String>, Error> {
        let folder = self.server.folder.as_str();
        let driver = driver(self.tool, self.config, self.work, folder);
        let mut parts = Vec::new();
        for name in &self.plan.selection.chain {
            let mut part = Part::new(name.as_str(), Plan::stream_target(self.work, name, folder));
            let lines = &self.catalog.get(name)?.consistence;
            if let Some(line) = lines.iter().find(|line| line.folder() == folder) {
                part = part.recorded_to_lsn(line.to_lsn);
            }
            parts.push(part);
        }
        let applied: Vec<_> = parts.iter().skip(1).map(|part| part.dir.clone()).collect();
        let incrementals = parts.split_off(1);
        let Some(full) = parts.pop() else { return Ok(Vec::new()) };
        let datadir = full.dir.clone();
        let extracted = driver.open(full, incrementals).await?;
        let prepared = driver.prepare(extracted, &|_| ()).await?;
        self.watch.debug(format!("{folder}: prepared up to LSN {}", prepared.to_lsn));
        for dir in applied {
            self.host.files().remove_dir_all(&dir).await?;
        }
        self.leave_no_links(&datadir).await?;
        if !prepared.partial.is_empty() {
            self.watch.warning(format!(
                "{folder}: databases or tables may be missing, as was allowed: they were left out of {}",
                prepared.partial.join(", ")
            ));
        }
        Ok(prepared.partial)
    }

    /// Removes the server's links (`.isl`) to the files of tables with a `DATA DIRECTORY`. The backup tool puts those files
    /// into the datadir like all others. A server that finds a link as well opens neither file, or the one outside: on
    /// the machine that was backed up, the original.
    async fn leave_no_links(&self, datadir: &Path) -> Result<(), Error> {
        let find = self.host.command("find").arg(datadir).args(["-mindepth", "1", "-maxdepth", "2"]);
        let found = find.args(["-name", "*.isl", "-print0"]).run().await?;
        let folder = &self.server.folder;
        let mut tables = Vec::new();
        for link in found.stdout.split(|byte| *byte == 0).filter(|link| !link.is_empty()) {
            let link = Path::new(OsStr::from_bytes(link));
            let table = link.strip_prefix(datadir).unwrap_or(link).with_extension("");
            if !self.host.files().exists(link.with_extension("ibd")).await? {
                let what = format!(
                    "{folder}: the backup has no file of {}, only a link to where it was: {}",
                    table.display(),
                    link.display()
                );
                return Err(Error::Incomplete { what });
            }
            self.host.files().remove_file(link).await?;
            tables.push(table.display().to_string());
        }
        if !tables.is_empty() {
            tables.sort();
            self.watch.warning(format!(
                "{folder}: these tables had a DATA DIRECTORY, and their files are in the datadir now: {}. MariaDB may crash \
                 in an ALTER of one, before ALTER TABLE … FORCE, ALGORITHM=COPY made it an ordinary table",
                tables.join(", ")
            ));
        }
        Ok(())
    }
}

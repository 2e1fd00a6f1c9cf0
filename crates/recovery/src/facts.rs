//! What a plan needs to know of the hosts.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use backup_catalog::layout::{CONSISTENT_POINT, STREAM};
use backup_catalog::{BackupName, Catalog};
use chrono::DateTime;
use remote_exec::Host;
use xbstream::member::Decoding;
use xtra_driver::Tool;

use crate::Error;
use crate::config::Config;
use crate::hosts::Hosts;
use crate::journal::Journal;
use crate::plan::{Finished, Located, Plan};
use crate::points::Written;
use crate::prepare;
use crate::request::Request;
use crate::time::states_its_offset;
use crate::workdir::{Earlier, WorkDir};
use crate::worker::Tools;

/// Where the C library looks for time zones.
const ZONES: &str = "/usr/share/zoneinfo";
/// How much of a stream tells the name of its first member, in bytes: a header is 26 and the name 512 at most.
const STREAM_HEAD: &str = "1024";

/// An incomplete backup in which something changed as lately as this may be being taken right now: a backup tool writes
/// its stream all the time, and waits minutes at most for a lock.
pub(crate) const LEFT_ALONE: Duration = Duration::from_secs(3600);

/// What was found on the hosts.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The xtrabackup or mariabackup program.
    pub prepare: Tool,
    /// Who unpacks and replays.
    pub tools: Tools,
    /// Bytes free for the work directory, with those of what a cut-off recovery to the same target left in it: that is gone on
    /// with, or removed.
    pub free: u64,
    /// Cores of the job server.
    pub cores: usize,
    /// Memory of the job server, in bytes.
    pub memory: u64,
    /// The newest backup of the store is not complete, and something in it changed lately.
    pub newest_is_written: bool,
    /// When the files with the backups' consistent points were written.
    pub(crate) written: Written,
    /// The job server's library knows what the temporary servers are told of the zone of the backup machine.
    pub knows_zone: bool,
    /// The work directory lies in the store's directory.
    pub work_dir_in_store: bool,
    /// The user of the temporary servers; `None`: the login user.
    pub mysqld_user: Option<String>,
    /// Where the target and what is left out lie, if they are GTIDs or a position.
    pub located: Option<Located>,
    /// The finished recovery to start from.
    pub extends: Option<Finished>,
}

pub(crate) async fn facts(
    request: &Request,
    hosts: &Hosts,
    catalog: &Catalog,
    name: &str,
) -> Result<Facts, Error> {
    let config = &request.config;
    let job = &hosts.job;
    let work = match request.earlier {
        Earlier::Resume => WorkDir::begun(job, &config.work_dir, name).await?,
        Earlier::Replace | Earlier::Extend(_) => WorkDir::incomplete(&config.work_dir, name),
    };
    let tools = Tools::find(config, hosts, &work, request.program.as_deref()).await?;
    if matches!(request.earlier, Earlier::Resume) {
        let journal = Journal::read(job, &work).await?;
        journal.can_go_on_everywhere(tools.replaying()).map_err(|reason| Error::NotResumable {
            host: job.name().to_owned(),
            path: work.clone(),
            reason,
        })?;
    }
    let cores = job.command("nproc").output().await?;
    Ok(Facts {
        prepare: prepare::detect(config, job).await?,
        tools,
        free: job
            .files()
            .free_bytes(existing(job, &config.work_dir).await?)
            .await?
            .saturating_add(occupied(job, &work).await?),
        cores: String::from_utf8_lossy(&cores.stdout).trim().parse().unwrap_or(1),
        memory: memory(job).await?,
        newest_is_written: match catalog.newest_incomplete() {
            Some(newest) => is_written(&hosts.store, &config.store_dir, newest).await?,
            None => false,
        },
        written: written(&hosts.store, &config.store_dir).await?,
        knows_zone: match config.misc.zone.variable() {
            Some(variable) => knows_zone(job, &variable).await?,
            None => true,
        },
        work_dir_in_store: hosts.shared_store && is_below(job, &config.work_dir, &config.store_dir).await?,
        mysqld_user: mysqld_user(config, job).await?,
        located: None,
        extends: Finished::find(job, &config.work_dir, name, &request.earlier).await?,
    })
}

/// Whether something in an incomplete backup changed lately, by the store's own clock.
async fn is_written(store: &Host, dir: &Path, name: &BackupName) -> Result<bool, Error> {
    let lately = format!("-{}", LEFT_ALONE.as_secs() / 60);
    let mut find = store.command("find").arg(dir.join(name.as_str()));
    let tar = dir.join(name.archive());
    if store.files().exists(&tar).await? {
        find = find.arg(tar);
    }
    let found = find.args(["-mmin", &lately, "-print", "-quit"]).output().await?;
    // What cannot be looked at is nothing to be moved.
    Ok(!found.status.success() || !found.stdout.is_empty())
}

/// When the files with the consistent points were written, as far as the store says so.
pub(crate) async fn written(store: &Host, dir: &Path) -> Result<Written, Error> {
    let find = store.command("find").args(["-L", ".", "-mindepth", "2", "-maxdepth", "2"]);
    let find = find.args(["-path", &format!("./UTC*/{CONSISTENT_POINT}"), "-printf", "%T@ %P\\n"]);
    // There may be folders that cannot be listed; they are no backups.
    let said = find.current_dir(dir).output().await?.stdout;
    Ok(String::from_utf8_lossy(&said).lines().filter_map(written_line).collect())
}

/// `SECONDS.FRACTION BACKUP/FILE`.
fn written_line(line: &str) -> Option<(BackupName, DateTime<chrono::Utc>)> {
    let (time, path) = line.split_once(' ')?;
    let seconds = time.split('.').next()?.parse().ok()?;
    Some((path.split('/').next()?.parse().ok()?, DateTime::from_timestamp(seconds, 0)?))
}

/// Whether `path` is `dir` or lies below it, links followed; neither needs to exist.
async fn is_below(host: &Host, path: &Path, dir: &Path) -> Result<bool, Error> {
    let real = host.command("realpath").args(["-mz", "--"]).arg(path).arg(dir).run().await?;
    let mut real = real.stdout.split(|byte| *byte == 0).map(|path| Path::new(OsStr::from_bytes(path)));
    Ok(matches!((real.next(), real.next()), (Some(path), Some(dir)) if path.starts_with(dir)))
}

/// Whether a host's library understands this `TZ`; what it does not find means UTC to it.
async fn knows_zone(host: &Host, variable: &str) -> Result<bool, Error> {
    /// What a library that does not find it takes it for.
    const UTC: [&str; 7] = ["UTC", "Etc/UTC", "GMT", "Etc/GMT", "Zulu", "Etc/Zulu", "UCT"];
    let name = variable.strip_prefix(':').unwrap_or(variable);
    // A path of its own takes the place of all of it.
    Ok(UTC.contains(&name)
        || states_its_offset(name)
        || host.files().exists(Path::new(ZONES).join(name)).await?)
}

/// Bytes of memory that the job server has, or that a container may use; 0 where it does not say.
async fn memory(host: &Host) -> Result<u64, Error> {
    let said = host.command("cat").args(["/proc/meminfo", "/sys/fs/cgroup/memory.max"]).output().await?;
    Ok(memory_of(&String::from_utf8_lossy(&said.stdout)))
}

/// The smaller of `MemTotal: N kB` and a line that is a number of bytes; a container without a limit says `max`.
fn memory_of(said: &str) -> u64 {
    let total =
        said.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
    let total = total.map_or(0, |kib: u64| kib * 1024);
    said.lines().find_map(|line| line.parse().ok()).map_or(total, |limit: u64| limit.min(total))
}

/// Whether the streams of a planned recovery are compressed; encrypted ones may be.
pub(crate) async fn compressed(store: &Host, plan: &Plan) -> Result<bool, Error> {
    let Some(full) = plan.backups.first() else { return Ok(false) };
    if full.encrypted {
        return Ok(true);
    }
    // An agent's answer is text.
    if !store.streams() {
        return Ok(false);
    }
    for server in &plan.servers {
        let stream = Plan::backup_dir(&plan.store_dir, &full.name).join(&server.folder).join(STREAM);
        let head = store.command("head").args(["-c", STREAM_HEAD, "--"]).arg(stream).output().await?;
        let mut reader = xbstream::Reader::new(head.stdout.as_slice());
        // What is wrong with it is found when it is unpacked.
        if let Ok(Some(chunk)) = reader.next_chunk() {
            let name = chunk.header().path().as_os_str().as_bytes();
            if name.ends_with(xtra_driver::ENCRYPTED.as_bytes()) {
                return Err(xtra_driver::Error::Encrypted { member: OsStr::from_bytes(name).into() }.into());
            }
            return Ok(!Decoding::none().decompress(true).of(name).1.is_empty());
        }
    }
    Ok(false)
}

/// The directory, or the nearest one above it that is there.
pub(crate) async fn existing<'a>(host: &Host, mut dir: &'a Path) -> Result<&'a Path, Error> {
    while !host.files().exists(dir).await? {
        match dir.parent() {
            Some(parent) => dir = parent,
            None => break,
        }
    }
    Ok(dir)
}

/// Bytes that `dir` occupies; none if it is not there. What cannot be looked at does not count.
async fn occupied(host: &Host, dir: &Path) -> Result<u64, Error> {
    let said = host.command("du").args(["-s", "-x", "--block-size=1", "--"]).arg(dir).output().await?.stdout;
    Ok(String::from_utf8_lossy(&said).split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0))
}

/// The user of the temporary servers. They never run as root.
async fn mysqld_user(config: &Config, job: &Host) -> Result<Option<String>, Error> {
    let login = job.command("id").arg("-u").run().await?;
    let is_root = String::from_utf8_lossy(&login.stdout).trim() == "0";
    let refuse = |reason: String| Error::Config {
        place: "configuration".to_owned(),
        section: "misc",
        key: "mysqld-user",
        reason,
    };
    let user = config.misc.mysqld_user.as_deref();
    if !is_root {
        let name = job.command("id").arg("-un").run().await?;
        let name = String::from_utf8_lossy(&name.stdout).trim().to_owned();
        return match user {
            Some(user) if user != name => {
                Err(refuse(format!("{} logs in as {name}, which cannot start servers as {user}", job.name())))
            }
            _ => Ok(None),
        };
    }
    let user = user.unwrap_or("mysql");
    if user == "root" {
        return Err(refuse("must not be root".to_owned()));
    }
    if !job.command("id").arg("-u").arg("--").arg(user).output().await?.status.success() {
        return Err(refuse(format!("{} has no user {user}, and servers are not run as root", job.name())));
    }
    Ok(Some(user.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_has_the_memory_that_it_may_use() {
        let machine = "MemTotal:       16384 kB\nMemFree:         1024 kB\n";
        assert_eq!(memory_of(machine), 16 << 20);
        assert_eq!(memory_of(&format!("{machine}max\n")), 16 << 20);
        assert_eq!(memory_of(&format!("{machine}4194304\n")), 4 << 20);
        assert_eq!(memory_of(""), 0);
    }

    #[tokio::test]
    async fn what_a_directory_occupies_are_its_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::local();
        assert_eq!(occupied(&host, &dir.path().join("none")).await.unwrap(), 0);
        std::fs::write(dir.path().join("file"), vec![1; 1 << 20]).unwrap();
        std::fs::hard_link(dir.path().join("file"), dir.path().join("link")).unwrap();
        std::fs::File::create(dir.path().join("sparse")).unwrap().set_len(1 << 30).unwrap();
        let bytes = occupied(&host, dir.path()).await.unwrap();
        assert!((1 << 20..2 << 20).contains(&bytes), "{bytes}");
    }

    #[tokio::test]
    async fn a_zone_is_known_whose_offset_is_told_or_whose_file_is_there() {
        let host = Host::local();
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = format!(":{}", file.path().display());
        for (variable, known) in [
            ("<+0545>-05:45", true),
            ("CST-8", true),
            ("CET-1CEST,M3.5.0,M10.5.0/3", true),
            (&path, true),
            ("No/Where", false),
            (":No/Where", false),
            ("Etc/No+8", false),
        ] {
            assert_eq!(knows_zone(&host, variable).await.unwrap(), known, "{variable}");
        }
    }

    #[tokio::test]
    async fn a_store_says_when_its_consistent_points_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let name: BackupName = "UTC20210205092650.735-full".parse().unwrap();
        let backup = dir.path().join(name.as_str());
        std::fs::create_dir(&backup).unwrap();
        std::fs::write(dir.path().join("UTC"), "no backup").unwrap();
        let file = std::fs::File::create(backup.join("consistent_point_datetime")).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_millis(1_612_517_222_900)).unwrap();
        let written = written(&Host::local(), dir.path()).await.unwrap();
        assert_eq!(written, Written::from([(name, "2021-02-05T09:27:02Z".parse().unwrap())]));
    }
}

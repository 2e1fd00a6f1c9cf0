//! From an extracted chain to a prepared data directory.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::checks::check_chain;
use crate::driver::{Driver, Part, Step, with_path};
use crate::error::{Error, Stage};
use crate::extract::{COMPRESSED, ENCRYPTED};
use crate::metadata::{BackupType, BinlogInfo, Checkpoints, Info, MetadataError, read_first};
use crate::my_cnf::BackupMyCnf;

/// How far a step has come, as its mark in the log directory says. The mark's text are the backup's checkpoints: after
/// a step, those of the full backup say something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    None,
    Begun,
    Done,
}

/// One link of a chain that was opened.
#[derive(Debug, Clone)]
struct Link {
    part: Part,
    checkpoints: Checkpoints,
    /// Only some of the server's tables are in it; not asked again of a link with a mark.
    partial: bool,
    mark: Mark,
}

/// A chain of extracted backups that belong together. Only [`Driver::open`] makes one.
#[derive(Debug, Clone)]
#[must_use = "nothing is prepared yet"]
pub struct Extracted {
    links: Vec<Link>,
    my_cnf: BackupMyCnf,
}

/// A data directory that a server can be started on. Only [`Driver::prepare`] makes one.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The data directory.
    pub dir: PathBuf,
    /// LSN up to which the chain reaches.
    pub to_lsn: u64,
    /// Where the backed-up server's own binlogs stood at the end of the chain's last backup.
    pub binlog: Option<BinlogInfo>,
    /// What the chain's last backup says about itself.
    pub info: Info,
    /// Labels of the backups that hold only some of the server's tables, of those that this call prepared.
    pub partial: Vec<String>,
    /// The options without which the files cannot be read.
    pub my_cnf: BackupMyCnf,
    /// The steps that this call took; fewer than the chain is long when some had been done before.
    pub steps: Vec<Step>,
}

/// What happens while a chain is prepared.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Event {
    /// A step begins: link `index` (from 0) of `of`.
    Begun {
        /// Which backup.
        label: String,
        /// Its place in the chain.
        index: usize,
        /// Length of the chain.
        of: usize,
    },
    /// A step had been done by an earlier call.
    DoneBefore {
        /// Which backup.
        label: String,
    },
    /// A step is done.
    Done(Step),
}

impl Extracted {
    /// The full backup's checkpoints, then those of the incremental ones.
    pub fn checkpoints(&self) -> impl Iterator<Item = &Checkpoints> {
        self.links.iter().map(|link| &link.checkpoints)
    }

    /// The options without which the files cannot be read.
    pub fn my_cnf(&self) -> &BackupMyCnf {
        &self.my_cnf
    }
}

impl Driver {
    /// Reads an extracted full backup and its incremental ones in order, and checks that every one is whole, that they
    /// belong together, and that the tool can prepare them. Nothing is changed.
    ///
    /// # Errors
    ///
    /// [`Error::Encrypted`], [`Error::StillCompressed`], [`Error::MissingMember`], [`Error::Metadata`], [`Error::Incompatible`],
    /// [`Error::Partial`], [`Error::Chain`]; [`Error::Interrupted`] and [`Error::AlreadyPrepared`] after an earlier call.
    pub async fn open(&self, full: Part, incrementals: Vec<Part>) -> Result<Extracted, Error> {
        let base = full.dir.clone();
        let mut links = Vec::new();
        for part in [full].into_iter().chain(incrementals) {
            links.push(self.open_link(part).await?);
        }
        let my_cnf = match read_first(self.host(), &base, &[BackupMyCnf::NAME]).await? {
            Some((_, text)) => BackupMyCnf::parse(&text),
            None => return Err(missing(&base, BackupMyCnf::NAME)),
        };
        for name in my_cnf.data_files() {
            self.must_exist(&base, name).await?;
        }
        check_chain(links.iter().map(|l| (l.part.label.as_str(), &l.checkpoints, l.part.recorded_to_lsn)))?;
        if let Some(begun) = links.iter().find(|link| link.mark == Mark::Begun) {
            return Err(Error::Interrupted { label: begun.part.label.clone() });
        }
        Ok(Extracted { links, my_cnf })
    }

    async fn open_link(&self, part: Part) -> Result<Link, Error> {
        let (mark, at_first) = self.mark(&part.label).await?;
        if let Some(checkpoints) = at_first {
            // Its directory has changed since, and may be gone once it was applied.
            return Ok(Link { part, checkpoints, partial: false, mark });
        }
        let [qp, lz4, zst] = COMPRESSED;
        if let Some(member) = self.find_ending(&part.dir, &[ENCRYPTED, qp, lz4, zst]).await? {
            return Err(match member.to_string_lossy().ends_with(ENCRYPTED) {
                true => Error::Encrypted { member },
                false => Error::StillCompressed { member },
            });
        }
        let Some((path, text)) = read_first(self.host(), &part.dir, &Checkpoints::NAMES).await? else {
            return Err(missing(&part.dir, Checkpoints::NAMES[0]));
        };
        let checkpoints = parse(&path, Checkpoints::parse(&text))?;
        let Info { server_version, partial, .. } = self.info(&part.dir).await?;
        if let Some(server) = server_version {
            self.tool.can_prepare(&server)?;
        }
        if partial && !self.options.allow_partial {
            return Err(Error::Partial { dir: part.dir });
        }
        if matches!(checkpoints.backup_type, BackupType::LogApplied | BackupType::FullPrepared) {
            return Err(Error::AlreadyPrepared { dir: part.dir });
        }
        Ok(Link { part, checkpoints, partial, mark })
    }

    async fn info(&self, dir: &Path) -> Result<Info, Error> {
        match read_first(self.host(), dir, &Info::NAMES).await? {
            Some((_, text)) => Ok(Info::parse(&text)),
            None => Err(missing(dir, Info::NAMES[0])),
        }
    }

    /// Prepares an opened chain: redo only for every step but the last.
    ///
    /// # Errors
    ///
    /// [`Error::Step`] if the tool failed or did not say that it completed; [`Error::Host`]. The step's mark stays, so
    /// that a later [`Driver::open`] says [`Error::Interrupted`].
    pub async fn prepare(
        &self,
        extracted: Extracted,
        watch: &(dyn Fn(Event) + Send + Sync),
    ) -> Result<Prepared, Error> {
        let Extracted { links, my_cnf } = extracted;
        let (base, of) = (links[0].part.dir.clone(), links.len());
        let mut steps = Vec::new();
        for (index, link) in links.iter().enumerate() {
            let label = link.part.label.clone();
            if link.mark == Mark::Done {
                watch(Event::DoneBefore { label });
                continue;
            }
            watch(Event::Begun { label: label.clone(), index, of });
            let incremental = (index > 0).then_some(&*link.part.dir);
            let arguments = self.arguments(&base, incremental, index + 1 == of);
            self.begin(&label, &link.checkpoints).await?;
            let step = self.tool_step(Stage::Prepare, &label, arguments).await?;
            self.done(&label).await?;
            watch(Event::Done(step.clone()));
            steps.push(step);
        }
        // Applying an incremental backup puts its own description into the base.
        let info = self.info(&base).await?;
        let partial = links.iter().filter(|link| link.partial).map(|link| link.part.label.clone()).collect();
        let binlog = match read_first(self.host(), &base, &BinlogInfo::NAMES).await? {
            Some((path, text)) => Some(parse(&path, BinlogInfo::parse(&text))?),
            None => None,
        };
        let to_lsn = links[of - 1].checkpoints.to_lsn;
        Ok(Prepared { dir: base, to_lsn, binlog, info, partial, my_cnf, steps })
    }

    /// `--defaults-file` comes first: with the machine's own option files, or with none, the page size would be wrong.
    fn arguments(&self, base: &Path, incremental: Option<&Path>, last: bool) -> Vec<OsString> {
        let flags = self.tool.flags();
        let mut arguments =
            vec![with_path("--defaults-file", &base.join(BackupMyCnf::NAME)), "--prepare".into()];
        arguments.extend(flags.redo_only.filter(|_| !last).map(OsString::from));
        arguments.extend(self.options.use_memory.map(|bytes| format!("{}={bytes}", flags.use_memory).into()));
        arguments.push(with_path("--target-dir", base));
        arguments.extend(incremental.map(|dir| with_path(flags.incremental_dir, dir)));
        arguments
    }

    async fn must_exist(&self, dir: &Path, name: &str) -> Result<(), Error> {
        let path = dir.join(name);
        match self.host().files().exists(&path).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(missing(dir, name)),
            Err(e) => Err(Error::host(format!("looking for {}", path.display()))(e)),
        }
    }

    async fn mark(&self, label: &str) -> Result<(Mark, Option<Checkpoints>), Error> {
        for (ending, mark) in [("done", Mark::Done), ("begun", Mark::Begun)] {
            let path = self.record(Stage::Prepare, label, ending);
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if let Some((path, text)) = read_first(self.host(), &self.options.log_dir, &[&name]).await? {
                return Ok((mark, Some(parse(&path, Checkpoints::parse(&text))?)));
            }
        }
        Ok((Mark::None, None))
    }

    async fn begin(&self, label: &str, checkpoints: &Checkpoints) -> Result<(), Error> {
        self.make_log_dir().await?;
        let path = self.record(Stage::Prepare, label, "begun");
        let kind = if checkpoints.backup_type == BackupType::Full { "full-backuped" } else { "incremental" };
        let text = format!(
            "backup_type = {kind}\nfrom_lsn = {}\nto_lsn = {}\n",
            checkpoints.from_lsn, checkpoints.to_lsn
        );
        let written = self.host().files().write(&path, text.into_bytes(), 0o644).await;
        written.map_err(Error::host(format!("writing {}", path.display())))
    }

    async fn done(&self, label: &str) -> Result<(), Error> {
        let (begun, done) =
            (self.record(Stage::Prepare, label, "begun"), self.record(Stage::Prepare, label, "done"));
        let renamed = self.host().files().rename(&begun, &done).await;
        renamed.map_err(Error::host(format!("renaming {}", begun.display())))
    }
}

fn parse<T>(path: &Path, parsed: Result<T, MetadataError>) -> Result<T, Error> {
    parsed.map_err(|source| Error::Metadata { path: path.to_owned(), source })
}

fn missing(dir: &Path, member: &str) -> Error {
    Error::MissingMember { dir: dir.to_owned(), member: member.to_owned() }
}

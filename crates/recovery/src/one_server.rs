//! The recovery of one server, from its unpacked backups to a stopped server that was proved.
//!
//! Each stage is a value that only the stage before it makes: [`Unpacked`] → [`Prepared`] → [`Chosen`] →
//! [`Running`] → [`RecoveredServer`].

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use backup_catalog::dbscale::Account;
use backup_catalog::layout::{EXECUTED_GTIDS, MASTER_DIR};
use backup_catalog::{Master, Position};
use remote_exec::Host;

use crate::journal::{DONE, HELD, PREPARE, PREPARE_BEGUN, REPLAY_BEGUN};
use crate::my_conf;
use crate::physical::Physical;
use crate::plan::{self, Plan, PlannedServer};
use crate::prepare;
use crate::replay::{Ready, Replay};
use crate::report::{Again, RecoveredServer, Replayed, StepTime};
use crate::run::Recovery;
use crate::server::{BaseDir, Launch, Network, TemporaryServer};
use crate::server_options;
use crate::store::MAX_TEXT;
use crate::workdir::WorkDir;
use crate::{Error, with_causes};

/// One server of a recovery while it runs.
#[derive(Clone, Copy)]
pub(crate) struct OneServer<'a> {
    pub(crate) recovery: Recovery<'a>,
    pub(crate) work: &'a WorkDir,
    pub(crate) base: &'a BaseDir,
    pub(crate) index: usize,
    pub(crate) server: &'a PlannedServer,
}

/// What a server became, and its first binlog for the companion tool.
pub(crate) type Recovered = (RecoveredServer, Option<String>);

/// What the backups say about the server.
struct Said {
    /// The folder whose binlogs are replayed.
    binlogs_of: String,
    /// `executed_gtids`; may be empty.
    executed: String,
    /// The server's own options; `None` where there is no such file.
    my_conf: Option<String>,
    accounts: Vec<Account>,
}

/// Its streams are unpacked.
struct Unpacked<'a> {
    one: OneServer<'a>,
    steps: Vec<StepTime>,
}

/// Its datadir is prepared, and says of itself what the store says of it.
struct Prepared<'a> {
    one: OneServer<'a>,
    datadir: PathBuf,
    /// The backups that databases or tables were left out of.
    partial: Vec<String>,
    steps: Vec<StepTime>,
}

/// What will be replayed is chosen, and read once.
struct Chosen<'a> {
    one: OneServer<'a>,
    datadir: PathBuf,
    /// Options that the backup and the replay ask for.
    options: Vec<OsString>,
    ready: Ready,
    steps: Vec<StepTime>,
}

/// Its temporary server answers.
struct Running<'a> {
    one: OneServer<'a>,
    server: TemporaryServer,
    ready: Ready,
    steps: Vec<StepTime>,
}

/// Everything was replayed and proved; its server is stopped.
struct Stopped {
    replayed: Replayed,
    gtid_state: String,
    proved: bool,
    steps: Vec<StepTime>,
}

/// The name of a folder in the backup; nothing that leads out of it.
pub(crate) fn is_folder_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['/', '\0']) && !name.starts_with('.')
}

fn note(steps: &mut Vec<StepTime>, step: &str, seconds: f64) {
    steps.push(StepTime { step: step.to_owned(), seconds });
}

impl<'a> OneServer<'a> {
    /// Recovers the server, from where the journal says it is.
    pub(crate) async fn run(self) -> Result<Recovered, Error> {
        let said = self.said().await?;
        let datadir = self.datadir();
        let replay = self.replay(&said, &datadir);
        if let Some(done) = self.work.journal().result(self.folder(), DONE) {
            return self.done_before(done, &said, &replay).await;
        }
        self.can_go_on()?;
        self.check_my_conf(&said)?;
        let prepared = Unpacked { one: self, steps: Vec::new() }.prepare(&said).await?;
        let partial = prepared.partial.clone();
        let options = self.options_of_backup(&said, &datadir).await?;
        let running = prepared.choose(&replay, options.clone()).await?.start(&said.accounts).await?;
        let stopped = running.replay(&replay).await?;
        replay.clean().await?;
        // A new identity is made at the next start.
        self.host().command("rm").args(["-f", "--"]).arg(datadir.join("auto.cnf")).run().await?;
        let first = self.first_binlog(&replay).await;
        let chain = &self.recovery.plan.selection.chain;
        let recovered = RecoveredServer {
            group: self.server.group.clone(),
            server: self.server.server.clone(),
            folder: self.folder().to_owned(),
            datadir,
            version: self.base.version.to_string(),
            base: chain[0].to_string(),
            chain: chain.iter().map(ToString::to_string).collect(),
            partial,
            replay: stopped.replayed,
            gtid_state: stopped.gtid_state,
            proved: stopped.proved,
            steps: stopped.steps,
            port: None,
            socket: None,
            again: Some(Again { options, accounts: said.accounts, server_id: self.server_id() }),
        };
        self.work.record_synced(self.folder(), DONE, serde_json::to_value(&recovered).ok()).await?;
        Ok((recovered, first))
    }

    fn host(&self) -> &'a Host {
        &self.recovery.hosts.job
    }

    fn folder(&self) -> &'a str {
        &self.server.folder
    }

    fn datadir(&self) -> PathBuf {
        self.work.path().join("datadir").join(self.folder())
    }

    /// A server id of its own: appliers pass over events that carry theirs.
    fn server_id(&self) -> u32 {
        u32::from(self.recovery.request.config.misc.server_tmp_port) + self.index as u32
    }

    /// A small file of the server's folder in the last backup, without blanks around it; `None` if it is not there.
    async fn text(&self, name: &str) -> Result<Option<String>, Error> {
        let path = self.last_backup().join(self.folder()).join(name);
        let text = self.host().files().read_if_there(path, MAX_TEXT).await?;
        Ok(text.map(|text| String::from_utf8_lossy(&text).trim().to_owned()))
    }

    /// Where the last backup of the chain is unpacked.
    fn last_backup(&self) -> PathBuf {
        Plan::backup_dir(self.work.path(), self.recovery.plan.last())
    }

    async fn said(&self) -> Result<Said, Error> {
        Ok(Said {
            binlogs_of: self.binlogs_of().await?,
            executed: self.executed().await?,
            my_conf: my_conf::read(self.host(), &self.last_backup(), self.folder()).await?,
            accounts: self.recovery.accounts(self.work, &self.server.server).await?,
        })
    }

    /// The folder whose binlogs are replayed, checked against what the backup itself says.
    async fn binlogs_of(&self) -> Result<String, Error> {
        let said = self.text(MASTER_DIR).await?;
        let unlike = |planned: &str, found: &str| Error::Incomplete {
            what: format!("{}: planned as a backup of {planned}, but its folder says {found}", self.folder()),
        };
        match (&self.server.choice.master, said) {
            (Master::Own, None) => Ok(self.folder().to_owned()),
            (Master::Own, Some(master)) => Err(unlike("a master", &format!("its master is {master}"))),
            (Master::Folder(planned), Some(master)) if *planned != master => Err(unlike(planned, &master)),
            (Master::Folder(planned), _) => Ok(planned.clone()),
            (Master::InMasterDir, Some(master)) if is_folder_name(&master) => Ok(master),
            (Master::InMasterDir, Some(master)) => {
                Err(unlike("a replica", &format!("{master:?} is its master")))
            }
            (Master::InMasterDir, None) => Err(unlike("a replica", "nothing of a master")),
        }
    }

    /// What the backup holds already.
    async fn executed(&self) -> Result<String, Error> {
        let text = self.text(EXECUTED_GTIDS).await?;
        plan::executed(self.recovery.plan.last(), self.folder(), &self.server.choice.master, text)
    }

    /// A replay is gone on with by those who can.
    fn can_go_on(&self) -> Result<(), Error> {
        let now = self.recovery.plan.tools.replaying();
        self.work.journal().can_go_on(self.folder(), now).map_err(|reason| self.not_resumable(reason))
    }

    fn not_resumable(&self, reason: String) -> Error {
        let (host, path) = (self.host().name().to_owned(), self.work.path().to_owned());
        Error::NotResumable { host, path, reason }
    }

    fn replay<'r>(&'r self, said: &'r Said, datadir: &'r Path) -> Replay<'r> {
        let [begun, held] =
            [REPLAY_BEGUN, HELD].map(|step| self.work.journal().is_finished(self.folder(), step));
        let extends = self.recovery.facts.extends.as_ref();
        Replay {
            host: self.host(),
            plan: self.recovery.plan,
            server: self.server,
            reach: self.reach(),
            binlogs_of: &said.binlogs_of,
            executed: &said.executed,
            base: self.base,
            datadir,
            work: self.work.path(),
            resume: begun || extends.is_some(),
            held: extends.filter(|_| !held).and_then(|finished| finished.state(self.folder())),
            server_id: self.server_id(),
            watch: self.recovery.watch,
        }
    }

    /// How far the server's binlogs reach, as the backup behind the stop time says.
    fn reach(&self) -> Option<&'a Position> {
        let next = self.recovery.catalog.get(self.recovery.plan.selection.next.as_ref()?).ok()?;
        next.consistence.iter().find(|line| line.folder() == self.server.folder).map(|line| &line.consistent)
    }

    /// With a stop time: the first binlog, for the companion tool, and all of them in one place.
    async fn first_binlog(&self, replay: &Replay<'_>) -> Option<String> {
        self.recovery.plan.stop.as_ref()?;
        match replay.join_binlogs().await {
            Ok(first) => first.map(|first| format!("{}/{first}", replay.binlogs_of)),
            // The server is recovered without it.
            Err(error) => {
                let (folder, error) = (self.folder(), with_causes(&error));
                self.recovery.watch.warning(format!(
                    "{folder}: its binlogs are not beside each other, and it is not in the ds_info files: {error}"
                ));
                None
            }
        }
    }

    /// A server that an earlier run finished: what that run reported of it.
    async fn done_before(
        &self,
        done: &serde_json::Value,
        said: &Said,
        replay: &Replay<'_>,
    ) -> Result<Recovered, Error> {
        let mut recovered: RecoveredServer = serde_json::from_value(done.clone())
            .map_err(|e| Error::Unexpected { what: "the journal".to_owned(), text: e.to_string() })?;
        if !self.host().files().exists(self.datadir()).await? {
            let reason = format!("the data of {}, which was recovered, are not there", self.folder());
            return Err(self.not_resumable(reason));
        }
        let options = self.options_of_backup(said, &self.datadir()).await?;
        let accounts = said.accounts.clone();
        recovered.again = Some(Again { options, accounts, server_id: self.server_id() });
        Ok((recovered, self.first_binlog(replay).await))
    }

    async fn options_of_backup(&self, said: &Said, datadir: &Path) -> Result<Vec<OsString>, Error> {
        let layout = self.host().files().read_if_there(datadir.join("backup-my.cnf"), MAX_TEXT).await?;
        let layout = String::from_utf8_lossy(&layout.unwrap_or_default()).into_owned();
        let my_conf = said.my_conf.as_deref().unwrap_or_default();
        let letter_case = self.recovery.request.config.misc.lower_case_table_names;
        Ok(server_options::of_backup(&layout, my_conf, letter_case, &self.base.version, self.folder()))
    }

    /// Of an encrypted backup the plan could not see the server's options; of the others its programs' version.
    fn check_my_conf(&self, said: &Said) -> Result<(), Error> {
        let Recovery { plan, request, watch, .. } = self.recovery;
        let letter_case = request.config.misc.lower_case_table_names;
        let reading = my_conf::Reading::of(&self.base.version, self.folder());
        let open = reading.left_open(self.folder(), said.my_conf.as_deref(), letter_case)?;
        if let Some(what) = open.filter(|_| plan.last_is_encrypted()) {
            watch.warning(my_conf::warning(self.folder(), &what));
        }
        Ok(())
    }
}

impl<'a> Unpacked<'a> {
    /// Prepares the datadir, unless an earlier run did, and looks at what it says about itself.
    async fn prepare(mut self, said: &Said) -> Result<Prepared<'a>, Error> {
        let one = self.one;
        let Recovery { plan, watch, .. } = one.recovery;
        let datadir = one.datadir();
        let chain = prepare::Chain {
            host: one.host(),
            tool: &one.recovery.facts.prepare,
            config: &one.recovery.request.config,
            catalog: one.recovery.catalog,
            plan,
            work: one.work.path(),
            server: one.server,
            watch,
        };
        let partial = if one.work.journal().is_finished(one.folder(), PREPARE) {
            let earlier = one.work.journal().result(one.folder(), PREPARE);
            earlier.and_then(|earlier| serde_json::from_value(earlier.clone()).ok()).unwrap_or_default()
        } else {
            one.work.record(one.folder(), PREPARE_BEGUN).await?;
            let (partial, seconds) = watch.step(one.folder(), "prepare", chain.prepare()).await?;
            note(&mut self.steps, "prepare", seconds);
            one.work.record_synced(one.folder(), PREPARE, Some(partial.clone().into())).await?;
            partial
        };
        // A server that was started on it, or taken over, has gone on from there.
        if !one.work.journal().is_finished(one.folder(), REPLAY_BEGUN) && plan.extends.is_none() {
            let physical = Physical::read(one.host(), &datadir).await?;
            physical.check(one.server, plan.last(), &said.executed, one.base.version.flavor)?;
        }
        one.give_away(&datadir).await?;
        Ok(Prepared { one, datadir, partial, steps: self.steps })
    }
}

impl OneServer<'_> {
    /// Servers run as another user: the datadir is theirs.
    async fn give_away(&self, datadir: &Path) -> Result<(), Error> {
        if let Some(user) = &self.recovery.plan.mysqld_user {
            let owner = format!("{user}:");
            self.host().command("chown").arg("-R").arg(owner).arg("--").arg(datadir).run().await?;
        }
        self.host().command("chmod").arg("0700").arg("--").arg(datadir).run().await?;
        Ok(())
    }
}

impl<'a> Prepared<'a> {
    /// Chooses the binlogs. `options` are those of the backup for the temporary server.
    async fn choose(mut self, replay: &Replay<'_>, mut options: Vec<OsString>) -> Result<Chosen<'a>, Error> {
        let one = self.one;
        let choosing = replay.prepare();
        let ((ready, mut of_replay), seconds) =
            one.recovery.watch.step(one.folder(), "choose the binlogs", choosing).await?;
        note(&mut self.steps, "choose the binlogs", seconds);
        options.append(&mut of_replay);
        Ok(Chosen { one, datadir: self.datadir, options, ready, steps: self.steps })
    }
}

impl<'a> Chosen<'a> {
    /// Starts the temporary server. From here on the datadir is another one.
    async fn start(mut self, accounts: &[Account]) -> Result<Running<'a>, Error> {
        let one = self.one;
        let launch = Launch {
            host: one.host(),
            base: one.base,
            folder: one.folder(),
            datadir: &self.datadir,
            tmp_dir: &one.work.path().join("tmp"),
            options: self.options,
            user: one.recovery.plan.mysqld_user.as_deref(),
            accounts,
            zone: one.recovery.plan.time_zone.as_deref(),
            network: Network::None,
            server_id: one.server_id(),
            timeout: one.recovery.request.config.misc.conn_timeout,
            run_dirs: one.recovery.run_dirs,
        };
        let by = one.recovery.plan.tools.replaying();
        one.work.record_with(one.folder(), REPLAY_BEGUN, Some(by.into())).await?;
        let (server, seconds) = one.recovery.watch.step(one.folder(), "start", launch.start()).await?;
        note(&mut self.steps, "start", seconds);
        Ok(Running { one, server, ready: self.ready, steps: self.steps })
    }
}

impl Running<'_> {
    /// Replays, proves, and stops the server.
    async fn replay(self, replay: &Replay<'_>) -> Result<Stopped, Error> {
        let Self { one, server, ready, mut steps } = self;
        let Recovery { watch, request, .. } = one.recovery;
        let folder = one.folder();
        let ran = async {
            if replay.held.is_some() {
                replay.check_held(&ready, &server).await?;
                one.work.record(folder, HELD).await?;
            }
            watch.step(folder, "replay", replay.run(ready, &server)).await
        };
        let ((replayed, gtid_state, proved), seconds) = match ran.await {
            Ok(done) => done,
            Err(error) => {
                server.kill().await;
                return Err(error);
            }
        };
        note(&mut steps, "replay", seconds);
        let stopping = server.shutdown(request.config.misc.conn_timeout);
        let ((), seconds) = watch.step(folder, "stop", stopping).await?;
        note(&mut steps, "stop", seconds);
        Ok(Stopped { replayed, gtid_state, proved, steps })
    }
}

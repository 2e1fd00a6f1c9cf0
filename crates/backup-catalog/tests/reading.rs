//! What is read from a store, and how what is wrong in it is named.

mod common;

use backup_catalog::{
    Catalog, DirStore, EntryKind, Error, Master, Role, Snapshot, State, Store, Target, recoverable,
};
use common::{Fake, Shape, Unreadable, name, on_disk, snapshot};

fn only(backup: Fake) -> Catalog {
    Catalog::read(&snapshot(&[backup])).unwrap()
}

fn damage(backup: Fake) -> String {
    match &only(backup).listed()[0].state {
        State::Damaged(error) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_directory_and_a_snapshot_of_it_read_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let backups = [
        Fake::full("01:00", 1..=2),
        Fake::inc("02:00", 2..=3).encrypted(),
        Fake::new("03:00", "inc", Shape::Replicas, 3..=4).with("notes.txt", "x"),
    ];
    on_disk(dir.path(), &backups);
    std::fs::create_dir(dir.path().join("trash")).unwrap();
    std::fs::create_dir(dir.path().join("lost+found")).unwrap();
    let disk = Catalog::read(&DirStore::new(dir.path())).unwrap();
    let memory = Catalog::read(&snapshot(&backups)).unwrap();
    assert_eq!(disk.backups().collect::<Vec<_>>(), memory.backups().collect::<Vec<_>>());
    assert_eq!(disk.foreign(), ["lost+found"]);
    let full = disk.backups().next().unwrap();
    assert_eq!(full.base_tarball.as_ref().unwrap().name, "mysql-8.0.26.tar.gz");
    assert_eq!(full.backup_master, Some(true));
    let on_disk: u64 = backups[0].files.iter().map(|(_, content)| content.len() as u64).sum();
    assert_eq!(full.bytes, on_disk);
    let server = full.server("auth-auth_m-10.0.0.0-3306").unwrap();
    assert_eq!(server.executed_gtids.as_deref(), Some("0-1-7"));
    assert_eq!((server.stream_bytes, server.binlogs.len()), (Some(6), 2));
    let last = disk.backups().last().unwrap();
    assert_eq!(last.foreign, ["notes.txt"]);
}

#[test]
fn a_snapshot_survives_json_and_holds_no_password() {
    let before = snapshot(&[Fake::full("01:00", 1..=2)]);
    let json = serde_json::to_string(&before).unwrap();
    assert!(!json.contains("S3cret"), "dbscale.conf and backup.conf hold passwords");
    assert!(!format!("{before:?}").contains("S3cret"));
    let after: Snapshot = serde_json::from_str(&json).unwrap();
    assert_eq!(before, after);
    assert_eq!(Catalog::read(&after).unwrap().backups().next().unwrap().backup_master, Some(true));
}

#[test]
fn a_snapshot_is_filled_from_find_and_says_what_it_wants() {
    let dir = tempfile::tempdir().unwrap();
    on_disk(dir.path(), &[Fake::full("01:00", 1..=2), Fake::inc("02:00", 2..=3).encrypted()]);
    std::fs::create_dir_all(dir.path().join("lost+found/deep")).unwrap();
    let find =
        std::process::Command::new("find").args(Snapshot::FIND).current_dir(dir.path()).output().unwrap();
    assert!(find.status.success());
    let mut filled = Snapshot::from_find(&find.stdout).unwrap();
    let disk = DirStore::new(dir.path());
    let wanted: Vec<String> = filled.wanted().collect();
    for path in &wanted {
        filled.content(path, &disk.read(path, 1 << 20).unwrap());
    }
    assert_eq!(filled.wanted().count(), 0);
    assert!(!wanted.iter().any(|path| path.ends_with("dbscale.conf") || path.ends_with("my.conf")));
    let (memory, disk) = (Catalog::read(&filled).unwrap(), Catalog::read(&disk).unwrap());
    assert_eq!(memory.backups().collect::<Vec<_>>(), disk.backups().collect::<Vec<_>>());
    assert_eq!(memory.foreign(), ["lost+found"]);
    assert!(
        !String::from_utf8_lossy(&find.stdout).contains("deep"),
        "folders that are no backups are not entered"
    );
    assert!(Snapshot::from_find(b"f\t12").is_err());
}

#[test]
fn a_snapshot_never_takes_a_file_it_does_not_hold_for_absent() {
    let n = "UTC20210205010000.000-full";
    let ok = format!("{n}/ok");
    let mut store = Snapshot::default();
    store.entry(&ok, EntryKind::File, 3);
    assert!(matches!(Catalog::read(&store), Err(Error::Read { path, .. }) if path == ok));
    store.content(&ok, b"ok\n");
    assert_eq!(Catalog::read(&store).unwrap().listed().len(), 1);
    let mut backup = snapshot(&[Fake::full("01:00", 1..=2)]);
    backup.content(&format!("{n}/backuped_binlogs"), b"\xff:bin.000001\n");
    let catalog = Catalog::read(&backup).unwrap();
    let State::Damaged(error) = &catalog.listed()[0].state else { panic!("{:?}", catalog.listed()) };
    assert_eq!(std::error::Error::source(error).unwrap().to_string(), "not UTF-8");
}

#[test]
fn what_find_may_not_look_at_is_an_error_of_its_backup_and_of_no_other() {
    let backups = [Fake::full("01:00", 1..=2), Fake::full("02:00", 2..=3), Fake::full("03:00", 3..=4)];
    let [a, b, c] = backups.each_ref().map(|backup| backup.name.clone());
    let mut store = snapshot(&backups);
    let said = format!(
        "find: './{a}/auth-auth_m-10.0.0.0-3306': Permission denied\n\
         find: './{b}/auth-auth_m-10.0.0.0-3306/bin.000002': Input/output error\n\
         find: './{c}/sample': No such file or directory\n"
    );
    store.complaints(&said).unwrap();
    let catalog = Catalog::read(&store).unwrap();
    for name in [a, b] {
        let asked = catalog.get(&name.parse().unwrap());
        assert!(matches!(asked, Err(Error::Damaged { .. })), "{asked:?}");
    }
    assert!(catalog.get(&c.parse().unwrap()).is_ok());
    for of_store in ["find: '.': Permission denied\n", "find: './x': Input/output error\n", "sh: no find\n"] {
        assert!(store.complaints(of_store).is_err(), "{of_store}");
    }
    // A backup that cannot be looked at is not one that is incomplete.
    let mut store = snapshot(&backups[..1]);
    store.complaints(&format!("find: './{}': Permission denied\n", backups[0].name)).unwrap();
    assert!(matches!(Catalog::read(&store), Err(Error::Read { .. })));
}

#[test]
fn what_has_gone_since_the_listing_is_not_there() {
    let backup = Fake::full("01:00", 1..=2);
    let mut store = snapshot(std::slice::from_ref(&backup));
    store.gone(&format!("{}/ok", backup.name));
    let catalog = Catalog::read(&store).unwrap();
    assert!(matches!(catalog.listed()[0].state, State::Incomplete));
    store.gone(&backup.name);
    assert!(Catalog::read(&store).unwrap().listed().is_empty());
}

#[test]
fn what_is_wrong_in_a_backup_is_named_with_file_and_line() {
    let n = "UTC20210205010000.000-full";
    let full = || Fake::full("01:00", 1..=2);
    for (backup, message) in [
        (full().without("consistent_point_datetime"), format!("cannot read {n}/consistent_point_datetime")),
        (
            full().with("consistent_point_datetime", ""),
            format!("{n}/consistent_point_datetime:1: the file is empty"),
        ),
        (full().without("cluster_consistence_info"), format!("cannot read {n}/cluster_consistence_info")),
        (
            full().with("cluster_consistence_info", "\na b\n"),
            format!("{n}/cluster_consistence_info:2: 8 fields separated by TABs expected, 1 found"),
        ),
        (
            full().with("backuped_binlogs", "s:bin.000001\nnonsense\n"),
            format!("{n}/backuped_binlogs:2: server is not a name followed by `:`"),
        ),
        (
            full().with("auth-auth_m-10.0.0.0-3306/master_dir", "../../etc\n"),
            format!("{n}/auth-auth_m-10.0.0.0-3306/master_dir:1: master_dir is not the name of a folder"),
        ),
        (
            full().encrypted().without(&format!("../encrypted/{n}.tar.encrypted")),
            format!("backup {n} has no encrypted tar (encrypted/{n}.tar.encrypted)"),
        ),
    ] {
        assert_eq!(damage(backup), message);
    }
}

#[test]
fn what_an_interrupted_older_recovery_unpacked_beside_an_encrypted_backup_is_not_read() {
    let server = "auth-auth_m-10.0.0.0-3306";
    let backup = Fake::full("01:00", 1..=2)
        .encrypted()
        .with(&format!("{server}/master_dir"), "")
        .with(&format!("{server}/bin.000001"), "half")
        .with("backup.conf", "half of a fi")
        .with("datanode_base/mysql-8.0.26.tar.gz", "half");
    let catalog = only(backup.clone());
    let read = catalog.get(&name(&backup.name)).unwrap();
    assert!(read.encrypted && read.servers.is_empty() && read.foreign.is_empty(), "{read:?}");
    assert_eq!((read.backup_master, &read.base_tarball), (None, &None));
    // Not even where it cannot be read.
    let path = format!("{}/{server}", backup.name);
    let catalog = Catalog::read(&Unreadable(snapshot(&[backup]), &path)).unwrap();
    assert!(matches!(catalog.listed()[0].state, State::Complete(_)), "{:?}", catalog.listed());
}

#[test]
fn near_and_far_a_backup_conf_is_asked_for_one_key() {
    for (conf, said) in [
        ("no = section\n[m]\nbackup-master = 0\n", Some(false)),
        ("[m]\nodd line\n  Backup-Master: TRUE\n[m]\nodd\n", Some(true)),
        ("[m]\n#backup-master = 1\nbackup-master-x = 1\nbackup-master\n", None),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let backup = Fake::full("01:00", 1..=2).with("backup.conf", conf);
        on_disk(dir.path(), std::slice::from_ref(&backup));
        for catalog in [Catalog::read(&DirStore::new(dir.path())).unwrap(), only(backup)] {
            match &catalog.listed()[0].state {
                State::Complete(backup) => assert_eq!(backup.backup_master, said, "{conf:?}"),
                other => panic!("{conf:?}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_file_that_may_not_be_read_is_an_error_and_never_an_absent_file() {
    let n = "UTC20210205010000.000-full";
    for (path, of_store) in [
        ("", true),
        (&format!("{n}/ok")[..], true),
        (&format!("{n}/backuped_binlogs"), false),
        (&format!("{n}/auth-auth_m-10.0.0.0-3306/master_dir"), false),
    ] {
        let store = Unreadable(snapshot(&[Fake::full("01:00", 1..=2)]), path);
        match Catalog::read(&store) {
            Err(Error::Read { .. }) => assert!(of_store, "{path}"),
            Ok(catalog) => {
                assert!(!of_store, "{path}");
                assert!(matches!(catalog.listed()[0].state, State::Damaged(Error::Read { .. })), "{path}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_file_larger_than_the_limit_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("big"), vec![b'x'; 100]).unwrap();
    let disk = DirStore::new(dir.path());
    assert_eq!(disk.read("big", 100).unwrap().len(), 100);
    assert_eq!(disk.read("big", 99).unwrap_err().kind(), std::io::ErrorKind::FileTooLarge);
}

#[test]
fn masters_are_recovered_when_masters_were_backed_up() {
    for backup in [Fake::full("01:00", 1..=2), Fake::full("01:00", 1..=2).encrypted()] {
        let catalog = only(backup);
        let chosen = catalog.recoverable(&catalog.select(&Target::Latest).unwrap(), &[]).unwrap();
        let folders: Vec<&str> = chosen.iter().map(|c| c.folder.as_str()).collect();
        assert_eq!(folders, ["auth-auth_m-10.0.0.0-3306", "normal_0-normal_0_m-10.0.0.1-3306"]);
        assert!(chosen.iter().all(|c| c.role == Role::Master && c.master == Master::Own));
    }
}

#[test]
fn one_replica_per_group_is_recovered_with_its_masters_binlogs() {
    let backup = || Fake::new("01:00", "full", Shape::Replicas, 1..=2);
    let catalog = only(backup());
    let chosen = catalog.recoverable(&catalog.select(&Target::Latest).unwrap(), &[]).unwrap();
    assert_eq!(chosen.len(), 2);
    assert_eq!(chosen[0].folder, "auth-auth_r-10.0.0.0-3306");
    assert_eq!(chosen[0].master, Master::Folder("auth-auth_m-10.0.0.0-3307".into()));
    let catalog = only(backup().encrypted());
    let hidden = catalog.recoverable(&catalog.select(&Target::Latest).unwrap(), &[]).unwrap();
    assert!(hidden.iter().all(|c| c.role == Role::Replica && c.master == Master::InMasterDir));
    assert_eq!(hidden.len(), 2);
}

/// A second replica of group `auth`, sorted before the first.
fn with_second_replica(backup: Fake) -> Fake {
    let lines = backup.files.iter().find(|(p, _)| p == "cluster_consistence_info").unwrap().1.clone();
    let second = lines.lines().next().unwrap().replace("auth_r", "auth_a").replace("10.0.0.0", "10.0.1.0");
    backup
        .with("cluster_consistence_info", &format!("{lines}{second}\n"))
        .with("auth-auth_a-10.0.1.0-3306/backup.xbsteam", "x")
        .with("auth-auth_a-10.0.1.0-3306/master_dir", "auth-auth_m-10.0.0.0-3307\n")
}

#[test]
fn the_first_replica_that_is_in_every_link_is_taken() {
    let full = Fake::new("01:00", "full", Shape::Replicas, 1..=2);
    let inc = || Fake::new("02:00", "inc", Shape::Replicas, 2..=3);
    let folders = |full: Fake, inc: Fake| {
        let catalog = Catalog::read(&snapshot(&[full, inc])).unwrap();
        let chosen = catalog.recoverable(&catalog.select(&Target::Latest).unwrap(), &[]).unwrap();
        chosen.into_iter().map(|c| c.folder).collect::<Vec<_>>()
    };
    let both = folders(with_second_replica(full.clone()), with_second_replica(inc()));
    assert_eq!(both[0], "auth-auth_a-10.0.1.0-3306");
    let later = folders(full, with_second_replica(inc()));
    assert_eq!(later[0], "auth-auth_r-10.0.0.0-3306");
    assert_eq!(later.len(), 2);
}

#[test]
fn what_a_chosen_server_lacks_is_named() {
    let error = |backups: &[Fake]| {
        let catalog = Catalog::read(&snapshot(backups)).unwrap();
        catalog.recoverable(&catalog.select(&Target::Latest).unwrap(), &[]).unwrap_err().to_string()
    };
    let full = || Fake::full("01:00", 1..=2);
    assert_eq!(
        error(&[full().without("auth-auth_m-10.0.0.0-3306/backup.xbsteam"), Fake::inc("02:00", 2..=3)]),
        "backup UTC20210205010000.000-full has no auth-auth_m-10.0.0.0-3306/backup.xbsteam"
    );
    assert_eq!(
        error(&[full().without("datanode_base")]),
        "backup UTC20210205010000.000-full has no datanode_base/*.tar.gz"
    );
    let replicas = Fake::new("01:00", "full", Shape::Replicas, 1..=2);
    assert_eq!(
        error(&[replicas.without("auth-auth_m-10.0.0.0-3307")]),
        "backup UTC20210205010000.000-full has no auth-auth_m-10.0.0.0-3307/, the folder of auth-auth_r-10.0.0.0-3306's \
         master"
    );
    assert_eq!(
        error(&[full().with("cluster_consistence_info", "")]),
        "backup UTC20210205010000.000-full describes no server that can be recovered"
    );
}

#[test]
fn a_group_that_only_has_replicas_is_not_left_out_when_masters_were_backed_up() {
    let backup =
        Fake::new("01:00", "full", Shape::Replicas, 1..=2).with("backup.conf", "[a]\nbackup-master = 1\n");
    let catalog = only(backup);
    let chosen = recoverable(&catalog.backups().collect::<Vec<_>>(), &[]).unwrap();
    assert_eq!(chosen.len(), 2);
}

#[test]
fn the_next_backup_must_hold_the_binlogs() {
    let next = Fake::inc("02:00", 2..=3).without("auth-auth_m-10.0.0.0-3306");
    let catalog = Catalog::read(&snapshot(&[Fake::full("01:00", 1..=2), next])).unwrap();
    let selection = catalog.select(&Target::Time(common::time("01:30"))).unwrap();
    let error = catalog.recoverable(&selection, &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "backup UTC20210205020000.000-inc has no auth-auth_m-10.0.0.0-3306/ with binlogs"
    );
}

/// The lines about one group taken away, and its folders.
fn without_group(backup: Fake, group: &str) -> Fake {
    let lines = backup.files.iter().find(|(p, _)| p == "cluster_consistence_info").unwrap().1.clone();
    let kept: String = lines.split_inclusive('\n').filter(|line| !line.contains(group)).collect();
    let mut backup = backup.with("cluster_consistence_info", &kept);
    backup.files.retain(|(path, _)| !path.starts_with(&format!("{group}-")));
    backup
}

#[test]
fn a_group_that_is_lost_on_the_way_is_named_unless_it_is_left_out() {
    let (full, inc) = (Fake::full("01:00", 1..=2), Fake::inc("02:00", 2..=3));
    let recover = |backups: &[Fake], target: &Target, without: &[String]| {
        let catalog = Catalog::read(&snapshot(backups)).unwrap();
        let chosen = catalog.recoverable(&catalog.select(target).unwrap(), without);
        chosen
            .map(|chosen| chosen.into_iter().map(|c| c.group).collect::<Vec<_>>())
            .map_err(|e| e.to_string())
    };
    let lost = "backup UTC20210205010000.000-full holds the group normal_0 and backup UTC20210205020000.000-inc does \
                not: the recovered cluster would lack it";
    let gone = [full.clone(), without_group(inc.clone(), "normal_0")];
    assert_eq!(recover(&gone, &Target::Latest, &[]), Err(lost.to_owned()));
    assert_eq!(recover(&gone, &Target::Latest, &["normal_0".to_owned()]), Ok(vec!["auth".to_owned()]));
    // A line that is missing beside the folder.
    let lines = inc.files.iter().find(|(p, _)| p == "cluster_consistence_info").unwrap().1.clone();
    let cut = inc.clone().with("cluster_consistence_info", lines.split_inclusive('\n').next().unwrap());
    assert!(recover(&[full.clone(), cut], &Target::Latest, &[]).unwrap_err().contains("the group normal_0"));
    // A group that came later than the chain's last backup may have been there at the stop time.
    let new = [without_group(full, "normal_0"), inc.encrypted()];
    let time = Target::Time(common::time("01:30"));
    assert!(
        recover(&new, &time, &[])
            .unwrap_err()
            .starts_with("backup UTC20210205020000.000-inc holds the group")
    );
    assert_eq!(recover(&new, &time, &["normal_0".to_owned()]), Ok(vec!["auth".to_owned()]));
    assert_eq!(recover(&new[..1], &Target::Latest, &[]), Ok(vec!["auth".to_owned()]));
}

#[test]
fn a_master_that_became_one_later_is_found() {
    let (old, new) = ("auth-auth_m-10.0.0.0-3306", "auth-auth_n-10.0.0.9-3306");
    let later = Fake::inc("02:00", 2..=3);
    let after_failover = later
        .clone()
        .with(&format!("{old}/master_dir"), &format!("{new}\n"))
        .with(&format!("{new}/bin.000001"), "binlog");
    let later_masters = |later: Fake| {
        let catalog = Catalog::read(&snapshot(&[Fake::full("01:00", 1..=2), later])).unwrap();
        let mut backups = catalog.backups();
        let chosen = recoverable(&[backups.next().unwrap()], &[]).unwrap();
        let auth = chosen.iter().find(|choice| choice.group == "auth").unwrap();
        auth.later_masters(backups.next().unwrap())
    };
    assert_eq!(later_masters(later.clone()), Vec::<String>::new());
    assert_eq!(later_masters(after_failover), [new]);
    assert_eq!(later_masters(later.clone().encrypted()), Vec::<String>::new());
    let lines = later.files.iter().find(|(p, _)| p == "cluster_consistence_info").unwrap().1.clone();
    let hidden = later
        .with("cluster_consistence_info", &lines.replace("auth_m", "auth_n").replace("10.0.0.0", "10.0.0.9"));
    assert_eq!(later_masters(hidden.encrypted()), [new]);
}

#[test]
fn files_and_folders_that_are_no_backups_are_left_alone() {
    let mut store = snapshot(&[Fake::full("01:00", 1..=2)]);
    store.entry("UTC20210205030000.000-full", EntryKind::File, 3);
    store.entry("zz", EntryKind::Dir, 0);
    let catalog = Catalog::read(&store).unwrap();
    assert_eq!(catalog.foreign(), ["UTC20210205030000.000-full", "zz"]);
    assert_eq!(catalog.newest_incomplete(), None);
    assert!(catalog.get(&name("UTC20210205010000.000-full")).is_ok());
}

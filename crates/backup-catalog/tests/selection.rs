//! Which backups a recovery to a target takes, and which moments can be reached.

mod common;

use backup_catalog::{Catalog, Error, Link, Selection, Target};
use common::{Fake, Shape, name, snapshot, time};

fn read(backups: &[Fake]) -> Catalog {
    Catalog::read(&snapshot(backups)).unwrap()
}

fn select(backups: &[Fake], at: &str) -> Result<Selection, Error> {
    read(backups).select(&Target::Time(time(at)))
}

/// The chain and the next backup as `HHMM-kind`.
fn brief(selection: &Selection) -> (Vec<String>, Option<String>) {
    let short =
        |name: &backup_catalog::BackupName| format!("{}{}", &name.as_str()[11..15], &name.as_str()[21..]);
    (selection.chain.iter().map(short).collect(), selection.next.as_ref().map(short))
}

fn windows(backups: &[Fake]) -> Vec<String> {
    let of = |w: &backup_catalog::Window| format!("{}-{}", w.from.format("%H:%M"), w.to.format("%H:%M"));
    read(backups).windows().iter().map(of).collect()
}

/// Two chains whose binlogs join: 01 full, 02 inc, 03 inc | 04 full, 05 inc.
fn two_chains() -> Vec<Fake> {
    vec![
        Fake::full("01:00", 1..=2),
        Fake::inc("02:00", 2..=4),
        Fake::inc("03:00", 4..=5),
        Fake::full("04:00", 5..=6),
        Fake::inc("05:00", 6..=7),
    ]
}

#[test]
fn a_backup_is_recovered_through_its_chain_and_no_further() {
    let catalog = read(&two_chains());
    let selection = catalog.select(&Target::Backup(name("UTC20210205030000.000-inc"))).unwrap();
    assert_eq!(brief(&selection), (vec!["0100-full".into(), "0200-inc".into(), "0300-inc".into()], None));
    assert_eq!((selection.stop, selection.doubts.len()), (None, 0));
    let latest = catalog.select(&Target::Latest).unwrap();
    assert_eq!(brief(&latest).0, ["0400-full", "0500-inc"]);
}

#[test]
fn between_two_backups_the_next_ones_binlogs_are_joined_in() {
    let selection = select(&two_chains(), "02:30").unwrap();
    assert_eq!(brief(&selection), (vec!["0100-full".into(), "0200-inc".into()], Some("0300-inc".into())));
    assert_eq!(selection.stop, Some(time("02:30")));
}

#[test]
fn a_time_equal_to_a_consistent_point_ends_there() {
    for (at, chain) in
        [("01:00", vec!["0100-full"]), ("02:00", vec!["0100-full", "0200-inc"]), ("04:00", vec!["0400-full"])]
    {
        let selection = select(&two_chains(), at).unwrap();
        assert_eq!(brief(&selection), (chain.into_iter().map(str::to_owned).collect(), None), "{at}");
        assert_eq!(selection.stop, None);
    }
}

#[test]
fn older_chains_are_reached_and_the_time_between_two_chains_too() {
    assert_eq!(brief(&select(&two_chains(), "01:30").unwrap()).0, ["0100-full"]);
    let across = select(&two_chains(), "03:59").unwrap();
    assert_eq!(
        brief(&across),
        (vec!["0100-full".into(), "0200-inc".into(), "0300-inc".into()], Some("0400-full".into()))
    );
    assert_eq!(windows(&two_chains()), ["01:00-05:00"]);
}

#[test]
fn the_window_ends_where_the_next_chains_binlogs_do_not_overlap() {
    let mut backups = two_chains();
    backups[3] = Fake::full("04:00", 6..=6);
    assert_eq!(windows(&backups), ["01:00-03:00", "04:00-05:00"]);
    let error = select(&backups, "03:30").unwrap_err();
    assert!(matches!(&error, Error::Outside { windows, .. } if windows.len() == 2));
    assert_eq!(
        error.to_string(),
        "no backups cover 2021-02-05 03:30:00; the store covers 2021-02-05 01:00:00 to 2021-02-05 03:00:00, \
         2021-02-05 04:00:00 to 2021-02-05 05:00:00"
    );
}

#[test]
fn a_time_outside_every_window_is_refused() {
    for at in ["00:59", "05:01"] {
        assert!(matches!(select(&two_chains(), at), Err(Error::Outside { .. })), "{at}");
    }
    let lone = [Fake::full("01:00", 1..=1)];
    assert_eq!(windows(&lone), ["01:00-01:00"]);
    assert!(select(&lone, "01:00").is_ok());
    assert!(matches!(select(&lone, "01:01"), Err(Error::Outside { .. })));
}

#[test]
fn an_empty_store_says_so() {
    for target in [Target::Latest, Target::Time(time("01:00"))] {
        assert!(matches!(read(&[]).select(&target), Err(Error::NoBackups)));
    }
    let error = read(&[]).select(&Target::Backup(name("UTC20210205030000.000-inc"))).unwrap_err();
    assert_eq!(error.to_string(), "the store holds no backup UTC20210205030000.000-inc");
}

#[test]
fn an_incomplete_newest_backup_is_known_and_not_used() {
    let mut backups = two_chains();
    backups[4] = backups[4].clone().without("ok");
    let catalog = read(&backups);
    assert_eq!(catalog.newest_incomplete(), Some(&name("UTC20210205050000.000-inc")));
    assert_eq!(brief(&catalog.select(&Target::Latest).unwrap()).0, ["0400-full"]);
    let asked = catalog.select(&Target::Backup(name("UTC20210205050000.000-inc"))).unwrap_err();
    assert!(matches!(asked, Error::Incomplete { .. }));
    for content in ["", "ok", "OK\n", "ok\n\n"] {
        backups[4].set("ok", content);
        assert!(read(&backups).newest_incomplete().is_some(), "{content:?}");
    }
    backups[4].set("ok", "ok\n");
    assert_eq!(read(&backups).newest_incomplete(), None);
}

#[test]
fn an_incomplete_backup_in_the_middle_breaks_its_chain_and_is_named() {
    let mut backups = two_chains();
    backups[1] = backups[1].clone().without("ok");
    let catalog = read(&backups);
    assert_eq!(catalog.newest_incomplete(), None);
    let error = catalog.select(&Target::Backup(name("UTC20210205030000.000-inc"))).unwrap_err();
    assert!(
        matches!(&error, Error::MissingLink { missing: Link::Incomplete(n), .. } if n.as_str().contains("020000"))
    );
    assert_eq!(
        error.to_string(),
        "backup UTC20210205030000.000-inc cannot be recovered: it is based on UTC20210205020000.000-inc, which is not \
         complete"
    );
    let chains: Vec<usize> = catalog.chains().iter().map(|c| c.backups.len()).collect();
    assert_eq!(chains, [1, 2]);
    assert_eq!(windows(&backups), ["01:00-01:00", "04:00-05:00"], "03:00's binlogs begin after 01:00's end");
}

#[test]
fn a_backup_behind_a_missing_link_still_gives_its_binlogs() {
    let mut backups = two_chains();
    backups[1] = backups[1].clone().without("ok");
    backups[2] = Fake::inc("03:00", 2..=5);
    assert_eq!(windows(&backups), ["01:00-03:00", "04:00-05:00"]);
    let selection = select(&backups, "03:00").unwrap();
    assert_eq!(brief(&selection), (vec!["0100-full".into()], Some("0300-inc".into())));
    assert_eq!(selection.stop, Some(time("03:00")), "its own consistent point is reached by replay");
}

#[test]
fn a_chain_without_its_full_backup_names_what_is_missing() {
    let error = read(&[Fake::inc("02:00", 2..=4)]).select(&Target::Latest).unwrap_err();
    assert!(matches!(error, Error::MissingLink { missing: Link::Full, .. }));
}

#[test]
fn a_damaged_backup_is_an_error_of_its_own_chain_only() {
    let mut backups = two_chains();
    backups[1].set("consistent_point_datetime", "yesterday\n");
    let catalog = read(&backups);
    let asked = catalog.get(&name("UTC20210205020000.000-inc")).unwrap_err();
    let cause = std::error::Error::source(&asked).unwrap().to_string();
    assert_eq!(
        cause,
        "UTC20210205020000.000-inc/consistent_point_datetime:1: not a time of the form YYYY-MM-DD HH:MM:SS"
    );
    let behind = catalog.select(&Target::Backup(name("UTC20210205030000.000-inc"))).unwrap_err();
    assert!(matches!(behind, Error::MissingLink { missing: Link::Damaged(..), .. }));
    assert!(catalog.select(&Target::Latest).is_ok());
}

#[test]
fn a_hole_in_the_binlogs_of_a_chain_is_a_doubt_about_its_links() {
    let mut backups = two_chains();
    backups.remove(1);
    let selection = read(&backups).select(&Target::Backup(name("UTC20210205030000.000-inc"))).unwrap();
    assert_eq!(selection.doubts.len(), 1);
    assert_eq!(selection.doubts[0].servers, ["auth_m", "normal_0_m"]);
    assert_eq!(windows(&backups), ["01:00-01:00", "03:00-05:00"]);
}

#[test]
fn encrypted_and_replicas_backups_select_alike() {
    for shape in [Shape::Masters, Shape::Replicas] {
        let plain = vec![
            Fake::new("01:00", "full", shape, 1..=2),
            Fake::new("02:00", "inc", shape, 2..=4),
            Fake::new("03:00", "full", shape, 4..=5),
        ];
        let encrypted: Vec<Fake> = plain.iter().cloned().map(Fake::encrypted).collect();
        for at in ["01:00", "01:30", "02:30", "03:00"] {
            assert_eq!(select(&plain, at).unwrap(), select(&encrypted, at).unwrap(), "{at}");
        }
        assert_eq!(windows(&encrypted), ["01:00-03:00"]);
    }
}

#[test]
fn without_any_list_of_binlogs_no_time_between_two_backups_is_promised() {
    let shape = Shape::Replicas;
    let backups = [Fake::new("01:00", "full", shape, 1..=2), Fake::new("02:00", "inc", shape, 2..=4)];
    let unlisted: Vec<Fake> = backups.iter().map(|b| b.clone().without("backuped_binlogs")).collect();
    assert_eq!(windows(&unlisted), ["01:00-02:00"], "the folders show them");
    let hidden: Vec<Fake> = unlisted.into_iter().map(Fake::encrypted).collect();
    assert_eq!(windows(&hidden), ["01:00-01:00", "02:00-02:00"]);
}

/// `backup` without the group `normal_0`.
fn after_its_removal(backup: Fake) -> Fake {
    let mut backup = backup;
    for file in ["cluster_consistence_info", "backuped_binlogs"] {
        let text = backup.files.iter().find(|(p, _)| p == file).unwrap().1.clone();
        let kept: String = text.split_inclusive('\n').filter(|line| !line.contains("normal_0")).collect();
        backup.set(file, &kept);
    }
    backup.files.retain(|(path, _)| !path.starts_with("normal_0-"));
    backup
}

#[test]
fn the_time_around_the_removal_of_a_group_is_reached_without_it() {
    for shape in [Shape::Masters, Shape::Replicas] {
        let backups = [
            Fake::new("01:00", "full", shape, 1..=2),
            after_its_removal(Fake::new("02:00", "inc", shape, 2..=4)),
            after_its_removal(Fake::new("03:00", "inc", shape, 4..=5)),
        ];
        let all = read(&backups);
        let target = Target::Time(time("01:30"));
        assert!(matches!(all.select(&target), Err(Error::Outside { .. })));
        let without = all.without_groups(&["normal_0".to_owned()]);
        assert_eq!(
            brief(&without.select(&target).unwrap()),
            (vec!["0100-full".into()], Some("0200-inc".into()))
        );
        assert_eq!(without.around(time("01:30")).len(), 1);
        assert_eq!((all.windows().len(), without.windows().len()), (2, 1));
        let last = Target::Backup(name("UTC20210205030000.000-inc"));
        assert_eq!(all.select(&last).unwrap().doubts.len(), 1);
        let selection = without.select(&last).unwrap();
        assert_eq!(selection.doubts, []);
        assert_eq!(all.recoverable(&selection, &["normal_0".to_owned()]).unwrap().len(), 1);
        // The other group's binlogs still count.
        let broken = [backups[0].clone(), after_its_removal(Fake::new("02:00", "inc", shape, 3..=4))];
        let broken = read(&broken).without_groups(&["normal_0".to_owned()]);
        assert!(matches!(broken.select(&target), Err(Error::Outside { .. })));
    }
}

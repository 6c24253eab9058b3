//! What the simulated machine forgets and refuses, and that the scanner and
//! the applier run on it.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::io::Errno;

use super::*;
use crate::disk::{Content, Disk, Handle, Rename};
use crate::entry::Mtime;

fn machine() -> (Machine, SimDisk) {
    let machine = Machine::new(7, Config::default());
    let disk = machine.start().unwrap();
    machine.user().sync();
    (machine, disk)
}

/// The states that power cuts of many seeds leave.
fn after_cuts<T: Ord>(
    prepare: impl Fn(&Machine, &SimDisk),
    see: impl Fn(&Machine) -> T,
) -> BTreeSet<T> {
    (0..300)
        .map(|seed| {
            let (machine, disk) = machine();
            prepare(&machine, &disk);
            machine.crash(seed);
            see(&machine)
        })
        .collect()
}

fn names(machine: &Machine) -> Vec<String> {
    machine.tree().0.into_keys().collect()
}

#[test]
fn what_was_synced_survives_the_power_cut() {
    let seen = after_cuts(
        |_, disk| {
            let top = disk.open_dir(None).unwrap();
            let file = disk.create(&top, b"file", 0o640).unwrap();
            file.write_whole_at(&[1; 2000], 0).unwrap();
            file.set_mtime(Mtime { secs: 5, nanos: 6 }).unwrap();
            file.sync().unwrap();
            top.sync().unwrap();
        },
        |machine| {
            let Item::File { mode, mtime, .. } = &machine.tree().0["file"] else {
                panic!("it is no file");
            };
            (*mode, mtime.secs, machine.user().read("file").unwrap())
        },
    );
    assert_eq!(seen, BTreeSet::from([(0o640, 5, vec![1; 2000])]));
}

#[test]
fn a_name_without_its_content_and_a_content_without_its_name() {
    let file_only = after_cuts(
        |_, disk| {
            let top = disk.open_dir(None).unwrap();
            let file = disk.create(&top, b"file", 0o600).unwrap();
            file.write_whole_at(b"content", 0).unwrap();
            file.sync().unwrap();
        },
        names,
    );
    assert_eq!(file_only.len(), 2, "{file_only:?}");
    let name_only = after_cuts(
        |_, disk| {
            let top = disk.open_dir(None).unwrap();
            let file = disk.create(&top, b"file", 0o600).unwrap();
            file.write_whole_at(b"content", 0).unwrap();
            top.sync().unwrap();
        },
        |machine| machine.user().read("file").unwrap(),
    );
    assert!(name_only.contains(&b"content"[..]), "{name_only:?}");
    assert!(name_only.contains(&b""[..]), "{name_only:?}");
    assert!(name_only.contains(&[0; 7][..]), "{name_only:?}");
}

#[test]
fn unsynced_sectors_are_kept_one_by_one() {
    let seen = after_cuts(
        |machine, _| {
            machine.user().write("file", &[1; 1024]).unwrap();
            machine.user().sync();
            machine.user().overwrite("file", &[2; 1024], 0).unwrap();
        },
        |machine| {
            let bytes = machine.user().read("file").unwrap();
            (bytes[0], bytes[511], bytes[512], bytes[1023])
        },
    );
    let all = [(1, 1, 1, 1), (1, 1, 2, 2), (2, 2, 1, 1), (2, 2, 2, 2)];
    assert_eq!(seen, BTreeSet::from(all));
}

#[test]
fn with_whole_files_a_power_cut_tears_none() {
    for seed in 0..100 {
        let (machine, _) = machine();
        machine.configure(|config| config.data_loss = DataLoss::Whole);
        machine.user().write("file", &[1; 4096]).unwrap();
        machine.user().sync();
        machine.user().overwrite("file", &[2; 4096], 0).unwrap();
        machine.crash(seed);
        let bytes = machine.user().read("file").unwrap();
        assert!(bytes == [1; 4096] || bytes == [2; 4096]);
    }
}

#[test]
fn names_are_lost_in_any_order_but_a_rename_as_a_whole() {
    let seen = after_cuts(
        |machine, _| {
            let user = machine.user();
            user.write("old", b"x").unwrap();
            user.mkdir("d").unwrap();
            user.sync();
            user.write("one", b"x").unwrap();
            user.rename("old", "d/new").unwrap();
            user.write("two", b"x").unwrap();
        },
        names,
    );
    for name in ["one", "two"] {
        let with = |names: &Vec<String>| names.iter().any(|known| known == name);
        assert!(seen.iter().any(with) && !seen.iter().all(with), "{seen:?}");
    }
    for names in &seen {
        let count = |name: &str| names.iter().filter(|known| *known == name).count();
        assert_eq!(count("old") + count("d/new"), 1, "{names:?}");
    }
    assert_eq!(seen.len(), 8, "{seen:?}");
}

#[test]
fn a_journal_loses_the_last_names_only() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let (machine, _) = machine();
        machine.configure(|config| config.name_order = NameOrder::Journaled);
        for name in ["a", "b", "c"] {
            machine.user().write(name, b"x").unwrap();
        }
        machine.crash(seed);
        seen.insert(names(&machine).join(""));
    }
    assert_eq!(seen, ["", "a", "ab", "abc"].map(str::to_owned).into());
}

#[test]
fn folders_that_were_moved_about_stay_a_tree() {
    for seed in 0..300 {
        let (machine, _) = machine();
        let user = machine.user();
        for name in ["a", "b", "a/in", "b/in"] {
            user.mkdir(name).unwrap();
        }
        user.write("a/in/file", b"x").unwrap();
        user.sync();
        user.rename("a/in", "b/in/moved").unwrap();
        user.rename("a", "b/in/moved/a").unwrap();
        user.rename("b/in/moved", "back").unwrap();
        user.rename("back/file", "file").unwrap();
        user.rename("b", "back/b").unwrap();
        machine.crash(seed);
        let tree = machine.tree().0;
        let files = tree.keys().filter(|path| path.ends_with("file"));
        assert_eq!(files.count(), 1, "seed {seed}: {tree:?}");
        assert_eq!(tree.len(), 5, "seed {seed}: {tree:?}");
    }
}

#[test]
fn the_state_folder_stays_once_the_share_is_open() {
    for seed in 0..100 {
        let machine = Machine::new(seed, Config::default());
        machine.start().unwrap();
        machine.crash(seed);
        for folder in ["parts", "trash"] {
            let made = machine.user().mkdir(format!(".left/{folder}/x"));
            assert_eq!(made, Ok(()), "seed {seed}");
        }
    }
}

#[test]
fn a_sync_that_failed_is_not_made_good_by_the_next() {
    let mut seen = BTreeSet::new();
    // What reached the disk is decided when the sync fails.
    for seed in 0..50 {
        let machine = Machine::new(seed, Config::default());
        let disk = machine.start().unwrap();
        let top = disk.open_dir(None).unwrap();
        let file = disk.create(&top, b"file", 0o600).unwrap();
        top.sync().unwrap();
        file.write_whole_at(b"content", 0).unwrap();
        machine.fail(On::Sync, 0, Errno::IO);
        assert_eq!(file.sync(), Err(Errno::IO));
        // As long as the machine is up, nobody sees that it is lost.
        assert_eq!(machine.user().read("file").unwrap(), b"content");
        file.sync().unwrap();
        machine.crash(1);
        seen.insert(machine.user().read("file").unwrap());
    }
    assert!(seen.contains(&b""[..]), "{seen:?}");
    assert!(seen.contains(&b"content"[..]), "{seen:?}");
}

#[test]
fn a_dead_process_changes_nothing_and_its_handles_stay_dead() {
    let (machine, disk) = machine();
    let top = disk.open_dir(None).unwrap();
    let file = disk.create(&top, b"file", 0o600).unwrap();
    let before = machine.changes();
    machine.crash_at(before + 1);
    file.write_whole_at(b"one", 0).unwrap();
    assert_eq!(file.write_at(b"two", 3), Err(DEAD));
    assert!(machine.is_dead());
    assert_eq!(disk.unlink(&top, b"file"), Err(DEAD));
    assert_eq!(file.stat(), Err(DEAD));
    assert_eq!(disk.change(), Err(DEAD));
    // A kill loses nothing; users go on.
    assert_eq!(machine.user().read("file").unwrap(), b"one");
    machine.user().append("file", b"!").unwrap();
    let again = machine.start().unwrap();
    assert!(!machine.is_dead());
    assert_eq!(file.write_at(b"two", 3), Err(DEAD));
    drop((file, top, disk));
    let path = crate::path::RelPath::parse(b"file").unwrap();
    let mut bytes = [0; 4];
    let file = again.open_file(&path).unwrap();
    assert!(file.read_whole_at(&mut bytes, 0).unwrap());
    assert_eq!(&bytes, b"one!");
}

#[test]
fn calls_fail_where_they_are_told_to() {
    let (machine, disk) = machine();
    let top = disk.open_dir(None).unwrap();
    let file = disk.create(&top, b"file", 0o600).unwrap();
    machine.fail(On::Write, 1, Errno::IO);
    assert_eq!(file.write_at(b"x", 0), Ok(1));
    assert_eq!(file.write_at(b"x", 1), Err(Errno::IO));
    assert_eq!(file.write_at(b"x", 1), Ok(1));
    machine.fail(On::Read, 0, Errno::IO);
    assert_eq!(file.read_at(&mut [0], 0), Err(Errno::IO));
    machine.fail(On::List, 0, Errno::IO);
    assert_eq!(disk.list(&top), Err(Errno::IO));
    machine.fail(On::Names, 0, Errno::NOSPC);
    assert_eq!(disk.make_dir(&top, b"d", 0o700), Err(Errno::NOSPC));
    machine.deny("file");
    assert_eq!(disk.open_at(&top, b"file").map(drop), Err(Errno::ACCESS));
    machine.heal();
    assert_eq!(disk.open_at(&top, b"file").map(drop), Ok(()));
    machine.configure(|config| config.has_rename_flags = false);
    let (from, to) = ((&top, &b"file"[..]), (&top, &b"other"[..]));
    assert_eq!(disk.rename(from, to, Rename::NoReplace), Err(Errno::INVAL));
    assert_eq!(disk.rename(from, to, Rename::Plain), Ok(()));
    assert_eq!(disk.read_link(&top, b"other"), Err(Errno::INVAL));
    assert!(!disk.machine().is_dead());
}

#[test]
fn a_full_disk_takes_what_fits_and_more_when_there_is_room() {
    let (machine, disk) = machine();
    let top = disk.open_dir(None).unwrap();
    let file = disk.create(&top, b"file", 0o600).unwrap();
    let used = machine.used_bytes();
    machine.configure(|config| config.capacity_bytes = Some(used + 1024));
    assert_eq!(file.write_whole_at(&[1; 4096], 0), Err(Errno::NOSPC));
    assert_eq!(file.stat().unwrap().size, 1024);
    assert_eq!(disk.space().unwrap().free_bytes, 0);
    assert_eq!(machine.user().write("more", b"x"), Err(Errno::NOSPC));
    // What has its place already can be overwritten.
    file.write_whole_at(&[2; 1024], 0).unwrap();
    file.set_len(1 << 40).unwrap();
    disk.unlink(&top, b"file").unwrap();
    // It is still open.
    assert_eq!(machine.user().write("more", b"x"), Err(Errno::NOSPC));
    drop(file);
    machine.user().write("more", b"x").unwrap();
}

#[test]
fn times_step_and_go_only_when_they_are_pushed() {
    let (machine, disk) = machine();
    let time = |name: &str| match &machine.tree().0[name] {
        Item::File { mtime, .. } => *mtime,
        other => panic!("{other:?}"),
    };
    machine.user().write("a", b"x").unwrap();
    machine.user().write("b", b"x").unwrap();
    assert_eq!(time("a"), time("b"));
    let (wall, now) = (disk.wall(), disk.now());
    machine.advance(Duration::from_secs(3600));
    machine.user().write("b", b"y").unwrap();
    assert!(time("a") < time("b"));
    machine.set_clock_back(Duration::from_secs(7200));
    assert!(disk.wall() < wall && disk.now() > now);
    machine.user().write("a", b"y").unwrap();
    assert!(time("a") < time("b"));
    assert_eq!(time("a").nanos % 4_000_000, 0);
}

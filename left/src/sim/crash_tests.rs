//! The scanner and the applier on the simulated disk: killed, or without
//! power, before every change that they make.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::apply::{How, Job, Outcome, apply};
use crate::disk::{Content, Disk, Handle};
use crate::entry::{Body, ContentId, Entry, Mtime};
use crate::events::Reporter;
use crate::index::{Change, Index};
use crate::part::{open_part, settle_intents, settle_removing};
use crate::path::RelPath;
use crate::scanner::{Observation, ScanEnd, Scanner, Seen};
use crate::trash::unix_seconds;
use crate::version::{ReplicaId, VersionVector};

pub(super) const FRESH: (ReplicaId, u64) = (ReplicaId(1), 1);

fn path(name: &str) -> RelPath {
    RelPath::parse(name.as_bytes()).unwrap()
}

fn version(counter: u64) -> VersionVector {
    VersionVector::from_pairs([(ReplicaId(1), counter)])
}

pub(super) fn file(bytes: &[u8], counter: u64) -> Entry {
    let id = ContentId(*blake3::hash(bytes).as_bytes());
    let mtime = Mtime {
        secs: 1_000,
        nanos: 5,
    };
    Entry {
        body: Body::File {
            id,
            size: bytes.len() as u64,
            mtime,
        },
        mode: 0o640,
        version: version(counter),
    }
}

/// Looks once, and takes what is seen as it is; answers what differed.
pub(super) fn look(disk: &Arc<SimDisk>, index: &Arc<Index>) -> Vec<String> {
    disk.machine().advance(Duration::from_secs(10));
    let mut scanner = Scanner::new(
        disk.clone(),
        index.clone(),
        Arc::default(),
        Arc::new(Reporter::new(None)),
        Arc::default(),
    );
    let mut found = Vec::new();
    let end = scanner.scan(&mut |observations: Vec<Observation>| {
        found.extend(observations);
        Ok(())
    });
    let complete = matches!(
        end,
        Ok(ScanEnd::Complete {
            restless: false,
            ..
        })
    );
    assert!(complete, "{end:?}");
    let mut differed = Vec::new();
    for Observation { path, seen, .. } in found {
        differed.push(path.to_string());
        let (body, mode, stamp) = match seen {
            Seen::Present { body, mode, stamp } => (body, mode, Some(stamp)),
            Seen::Absent => (Body::Deleted, 0, None),
        };
        let entry = Entry {
            body,
            mode,
            version: version(1),
        };
        let put = Change::Put { path, entry, stamp };
        index.commit(&[put]).unwrap();
    }
    differed
}

pub(super) fn job(index: &Index, name: &str, target: Entry, how: How) -> Job {
    Job {
        path: path(name),
        known: index.get(&path(name)).unwrap(),
        theirs: target.clone(),
        target,
        how,
        slot: 0,
        source: None,
    }
}

/// The content of a job as a receiver leaves it: complete, and not durable.
pub(super) fn receive(disk: &SimDisk, job: &Job, bytes: &[u8]) {
    if let Some(id) = job.part() {
        let part = open_part(disk, id).unwrap();
        part.write_whole_at(bytes, 0).unwrap();
    }
}

#[test]
fn what_is_scanned_is_replaced_and_scanned_again() {
    let machine = Machine::new(1, Config::default());
    let user = machine.user();
    user.mkdir("d").unwrap();
    user.write("d/file", &[7; 300_000]).unwrap();
    user.symlink("file", "d/link").unwrap();
    let disk = Arc::new(machine.start().unwrap());
    let index = Arc::new(open_index(&disk, FRESH).unwrap());
    assert_eq!(look(&disk, &index), ["d", "d/file", "d/link"]);
    assert_eq!(look(&disk, &index), [""; 0]);
    let target = file(b"new", 2);
    let job = job(&index, "d/file", target, How::Install);
    receive(&disk, &job, b"new");
    let outcome = apply(&*disk, &*index, vec![job]).remove(0).1;
    assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
    assert_eq!(user.read("d/file").unwrap(), b"new");
    assert_eq!(look(&disk, &index), ["d/file"]);
    user.delete("d/link").unwrap();
    assert_eq!(look(&disk, &index), ["d/link"]);
}

/// The two contents: of several sectors, so that they can be torn.
pub(super) const OLD: [u8; 1500] = [b'o'; 1500];
pub(super) const NEW: [u8; 1800] = [b'n'; 1800];
const LINK: &[u8] = b"somewhere";
pub(super) const EDIT: [u8; 1500] = [b'e'; 1500];

/// What a job is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) how: How,
    /// It is to become a symbolic link.
    pub(super) to_link: bool,
    /// There is a file at the path, which the index knows.
    pub(super) is_known: bool,
    /// A user has changed it since.
    pub(super) is_edited: bool,
    pub(super) has_rename_flags: bool,
}

pub(super) const NAME: &str = "d/name";

/// A machine, and how many changes the job needs if nothing goes wrong.
pub(super) fn prepared(case: Case) -> (Machine, Entry) {
    let machine = Machine::new(1, Config::default());
    machine.configure(|config| config.has_rename_flags = case.has_rename_flags);
    let user = machine.user();
    user.mkdir("d").unwrap();
    if case.is_known {
        user.write(NAME, &OLD).unwrap();
    }
    let disk = Arc::new(machine.start().unwrap());
    let index = Arc::new(open_index(&disk, FRESH).unwrap());
    look(&disk, &index);
    user.sync();
    let target = match case.how {
        How::Remove => Entry {
            body: Body::Deleted,
            mode: 0,
            version: version(2),
        },
        How::SetMetadata => file(&OLD, 2),
        How::Install if case.to_link => Entry {
            body: Body::Link {
                target: LINK.into(),
            },
            mode: 0,
            version: version(2),
        },
        _ => file(&NEW, 2),
    };
    receive(&disk, &job(&index, NAME, target.clone(), case.how), &NEW);
    machine.advance(Duration::from_secs(10));
    if case.is_edited {
        user.write(NAME, &EDIT).unwrap();
        // The program has no part in how durable that is.
        disk.open_file(&path(NAME)).unwrap().sync().unwrap();
    }
    drop(index);
    machine.kill();
    (machine, target)
}

/// All files and links in the share, and what is in them.
pub(super) fn files(machine: &Machine) -> Vec<(String, Vec<u8>)> {
    let with_content = |(path, item): (String, Item)| {
        let bytes = match item {
            Item::File { .. } => machine.user().read(&path).unwrap(),
            Item::Link { target } => target.into_bytes(),
            Item::Dir { .. } => return None,
        };
        Some((path, bytes))
    };
    machine
        .tree()
        .0
        .into_iter()
        .filter_map(with_content)
        .collect()
}

/// No stamp has made the scanner pass over another content.
pub(super) fn assert_known(index: &Index, files: &[(String, Vec<u8>)]) {
    for (name, bytes) in files {
        let is_known = match index.get(&path(name)).unwrap().unwrap().entry.body {
            Body::File { id, .. } => id.0 == *blake3::hash(bytes).as_bytes(),
            Body::Link { target } => *target == bytes[..],
            Body::Dir | Body::Deleted => false,
        };
        assert!(is_known, "{name} is taken for what it is not");
    }
}

/// The program after its next start, when it has put right what it had not finished.
pub(super) fn restarted(machine: &Machine) -> (Arc<SimDisk>, Arc<Index>) {
    let disk = Arc::new(machine.start().unwrap());
    let index = Arc::new(open_index(&disk, FRESH).unwrap());
    let reporter = Reporter::new(None);
    settle_intents(&*disk, &*index, &reporter).unwrap();
    settle_removing(&*disk, &*index, &reporter, unix_seconds(&*disk)).unwrap();
    (disk, index)
}

/// Whether the process died, and what is in the share when all is settled.
fn interrupted(
    prepared: &(Machine, Entry),
    how: How,
    change: u64,
    power_cut: Option<u64>,
) -> (bool, Vec<(String, Vec<u8>)>) {
    let machine = prepared.0.fork();
    let disk = machine.start().unwrap();
    let index = open_index(&disk, FRESH).unwrap();
    let job = job(&index, NAME, prepared.1.clone(), how);
    machine.crash_at(machine.changes() + change);
    let outcome = apply(&disk, &index, vec![job]).remove(0).1;
    let died = machine.is_dead();
    drop(index);
    match power_cut {
        Some(seed) => machine.crash(seed),
        None => machine.kill(),
    }
    let (disk, index) = restarted(&machine);
    assert!(
        died || !matches!(outcome, Outcome::Failed(_)),
        "{outcome:?}"
    );
    let files = files(&machine);
    look(&disk, &index);
    assert_known(&index, &files);
    (died, files)
}

/// A kill, and power cuts of some seeds; `LEFT_SIM_SEEDS` says of how many.
pub(super) fn ends(usual: u64) -> impl Iterator<Item = Option<u64>> {
    let count = std::env::var("LEFT_SIM_SEEDS").ok();
    let count = count.and_then(|text| text.parse().ok()).unwrap_or(usual);
    std::iter::once(None).chain((0..count).map(Some))
}

fn at_every_change(case: Case, check: impl Fn(&[(String, Vec<u8>)]) -> bool) {
    let prepared = prepared(case);
    for power_cut in ends(8) {
        for change in 0.. {
            let (died, files) = interrupted(&prepared, case.how, change, power_cut);
            let shown: Vec<_> = files
                .iter()
                .map(|(path, bytes)| format!("{path}: {} x {:?}", bytes.len(), bytes.first()))
                .collect();
            assert!(
                check(&files),
                "{case:?}, change {change}, power cut {power_cut:?}: {shown:?}"
            );
            if !died {
                assert!(case.is_edited || change >= 2, "it changed next to nothing");
                break;
            }
        }
    }
}

pub(super) fn named(files: &[(String, Vec<u8>)]) -> Option<&[u8]> {
    let mut named = files.iter().filter(|(path, _)| path == NAME);
    named.next().map(|(_, bytes)| &bytes[..])
}

pub(super) fn has(files: &[(String, Vec<u8>)], content: &[u8]) -> bool {
    files.iter().any(|(_, bytes)| bytes == content)
}

fn each_case(how: How, is_known: bool, check: impl Fn(Case, &[(String, Vec<u8>)]) -> bool) {
    for has_rename_flags in [true, false] {
        for is_edited in [false, true] {
            let case = Case {
                how,
                to_link: false,
                is_known,
                is_edited: is_edited && is_known,
                has_rename_flags,
            };
            at_every_change(case, |files| check(case, files));
        }
    }
}

#[test]
pub(super) fn crash_power_a_new_file_is_whole_or_not_there() {
    each_case(How::Install, false, |_, files| {
        named(files).is_none_or(|bytes| bytes == NEW)
    });
}

#[test]
fn crash_power_a_replaced_file_is_the_old_or_the_new_one() {
    each_case(How::Install, true, |case, files| match case.is_edited {
        true => named(files) == Some(&EDIT) && files.len() == 1,
        false => named(files).is_some_and(|bytes| bytes == OLD || bytes == NEW),
    });
}

#[test]
fn crash_power_a_file_that_becomes_a_link_is_either() {
    for is_known in [false, true] {
        for is_edited in [false, true] {
            let case = Case {
                how: How::Install,
                to_link: true,
                is_known,
                is_edited: is_known && is_edited,
                has_rename_flags: true,
            };
            at_every_change(case, |files| match named(files) {
                Some(bytes) if case.is_edited => bytes == EDIT,
                Some(bytes) => bytes == LINK || is_known && bytes == OLD,
                None => !is_known,
            });
        }
    }
}

#[test]
fn crash_power_the_loser_of_a_conflict_is_somewhere_at_every_moment() {
    each_case(How::InstallKeepingOurs, true, |case, files| {
        let ours: &[u8] = if case.is_edited { &EDIT } else { &OLD };
        has(files, ours) && named(files).is_some_and(|bytes| bytes == ours || bytes == NEW)
    });
}

#[test]
fn crash_power_metadata_leave_the_content_alone() {
    each_case(How::SetMetadata, true, |case, files| {
        let there: &[u8] = if case.is_edited { &EDIT } else { &OLD };
        named(files) == Some(there)
    });
}

#[test]
fn crash_power_a_removed_file_is_whole_or_gone_and_an_edit_stays() {
    each_case(How::Remove, true, |case, files| match case.is_edited {
        true => has(files, &EDIT),
        false => named(files).is_none_or(|bytes| bytes == OLD),
    });
}

/// The content of the file that users see, when a job meets a disk that keeps
/// nothing it promised to keep.
#[test]
fn a_disk_that_lies_about_syncs_is_found_out() {
    let case = Case {
        how: How::Install,
        to_link: false,
        is_known: false,
        is_edited: false,
        has_rename_flags: true,
    };
    let (machine, target) = prepared(case);
    let torn = (0..50).any(|seed| {
        let machine = machine.fork();
        let disk = machine.start().unwrap();
        let index = open_index(&disk, FRESH).unwrap();
        machine.configure(|config| config.lies_about_syncs = true);
        let job = job(&index, NAME, target.clone(), case.how);
        let outcome = apply(&disk, &index, vec![job]).remove(0).1;
        assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
        drop(index);
        machine.crash(seed);
        machine.user().read(NAME).is_ok_and(|bytes| bytes != NEW)
    });
    assert!(torn);
}

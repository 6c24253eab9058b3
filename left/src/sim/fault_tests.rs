//! Jobs on a disk that fails at every call in turn.

use std::sync::Arc;

use rustix::io::Errno;

use super::crash_tests::*;
use super::*;
use crate::apply::{How, Outcome, apply};
use crate::entry::{Body, Entry};

/// Lets each call of a kind fail once while a job is performed; then the
/// process ends, by a kill or with the power, and the next one finds
/// everything, and does the job.
fn failing(on: On, errno: Errno, how: How, has_rename_flags: bool) {
    for power_cut in [None, Some(1)] {
        failing_and_ended(on, errno, how, has_rename_flags, power_cut);
    }
}

fn failing_and_ended(
    on: On,
    errno: Errno,
    how: How,
    has_rename_flags: bool,
    power_cut: Option<u64>,
) {
    let case = Case {
        how,
        to_link: false,
        is_known: true,
        is_edited: false,
        has_rename_flags,
    };
    let prepared = prepared(case);
    for call in 0.. {
        let machine = prepared.0.fork();
        let disk = machine.start().unwrap();
        let index = open_index(&disk, FRESH).unwrap();
        let first = job(&index, NAME, prepared.1.clone(), how);
        machine.fail(on, call, errno);
        apply(&disk, &index, vec![first]);
        let is_over = machine.is_to_fail();
        machine.heal();
        drop(index);
        match power_cut {
            Some(seed) => machine.crash(seed.wrapping_mul(1000) + call),
            None => machine.kill(),
        }
        let (disk, index) = restarted(&machine);
        let found = files(&machine);
        let at = format!(
            "{case:?}, {on:?} {call}, power cut {power_cut:?}: {:?}",
            machine.tree()
        );
        let is_whole = |bytes: &[u8]| bytes == OLD || bytes == NEW;
        let is_sound = match (how, named(&found)) {
            (How::Remove, None) => true,
            (How::InstallKeepingOurs, named) => has(&found, &OLD) && named.is_some_and(is_whole),
            (_, named) => named.is_some_and(is_whole),
        };
        assert!(is_sound, "{at}");
        look(&disk, &index);
        assert_known(&index, &found);
        if named(&found) == Some(&OLD) {
            let again = job(&index, NAME, prepared.1.clone(), how);
            receive(&disk, &again, &NEW);
            let outcome = apply(&*disk, &*index, vec![again]).remove(0).1;
            let is_done = matches!(outcome, Outcome::Done { .. } | Outcome::Removed(_));
            assert!(is_done, "{at}: {outcome:?}");
        }
        if is_over {
            return;
        }
    }
}

const HOWS: [How; 4] = [
    How::Install,
    How::InstallKeepingOurs,
    How::SetMetadata,
    How::Remove,
];

#[test]
fn disk_eio_from_any_call_loses_nothing() {
    let kinds = [On::Read, On::Write, On::Sync, On::Names, On::Look, On::Meta];
    for on in kinds {
        for how in HOWS {
            failing(on, Errno::IO, how, true);
        }
    }
}

#[test]
fn disk_full_and_disk_quota_at_any_call_lose_nothing() {
    for errno in [Errno::NOSPC, Errno::DQUOT] {
        for on in [On::Write, On::Names] {
            for how in HOWS {
                failing(on, errno, how, errno == Errno::NOSPC);
            }
        }
    }
}

/// A file system that takes two names for the same: the second is told of, and nothing of the
/// first is touched.
#[test]
fn name_case_fold_fs_says_so_and_loses_nothing() {
    let machine = Machine::new(1, Config::default());
    machine.configure(|config| config.folds_case = true);
    machine.user().mkdir("d").unwrap();
    machine.user().write("d/Name", &OLD).unwrap();
    let disk = Arc::new(machine.start().unwrap());
    let index = Arc::new(open_index(&disk, FRESH).unwrap());
    look(&disk, &index);
    let kinds = [
        new_file(),
        Entry {
            body: Body::Dir,
            mode: 0o755,
            ..new_file()
        },
        Entry {
            body: Body::Link {
                target: b"x".as_slice().into(),
            },
            mode: 0,
            ..new_file()
        },
    ];
    for entry in kinds {
        let job = job(&index, NAME, entry, How::Install);
        receive(&disk, &job, &NEW);
        let outcome = apply(&*disk, &*index, vec![job]).remove(0).1;
        let Outcome::Failed(why) = outcome else {
            panic!("{outcome:?}");
        };
        assert!(why.to_string().contains("rename one of the two"), "{why}");
        assert_eq!(look(&disk, &index), [""; 0]);
        assert_eq!(files(&machine), [("d/Name".to_owned(), OLD.to_vec())]);
    }
    // Nor does anything go into a folder that is spelled otherwise.
    let inside = job(&index, "D/new", new_file(), How::Install);
    receive(&disk, &inside, &NEW);
    let outcome = apply(&*disk, &*index, vec![inside]).remove(0).1;
    assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    assert_eq!(files(&machine).len(), 1);
    // And when there is room for the name.
    machine.user().rename("d/Name", "d/other").unwrap();
    let job = job(&index, NAME, new_file(), How::Install);
    receive(&disk, &job, &NEW);
    let outcome = apply(&*disk, &*index, vec![job]).remove(0).1;
    assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
}

fn new_file() -> Entry {
    super::crash_tests::file(&NEW, 2)
}

/// The peer took all permissions from a folder, and gives them back.
#[test]
fn perm_a_folder_that_nobody_may_read_gets_its_mode_back() {
    let machine = Machine::new(1, Config::default());
    machine.user().mkdir("d").unwrap();
    let disk = Arc::new(machine.start().unwrap());
    let index = Arc::new(open_index(&disk, FRESH).unwrap());
    look(&disk, &index);
    for mode in [0, 0o750] {
        let entry = Entry {
            body: Body::Dir,
            mode,
            ..new_file()
        };
        let job = job(&index, "d", entry.clone(), How::SetMetadata);
        let path = job.path.clone();
        let outcome = apply(&*disk, &*index, vec![job]).remove(0).1;
        let Outcome::Done { stamp, .. } = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(stamp.mode & 0o7777, mode);
        let put = crate::index::Change::Put {
            path,
            entry,
            stamp: Some(stamp),
        };
        index.commit(&[put]).unwrap();
    }
}

//! A user edits the file of a job before each change that the job makes, and
//! then the process is killed, or the power goes.

use super::crash_tests::*;
use super::*;
use crate::apply::{How, apply};

const HOWS: [How; 4] = [
    How::Install,
    How::InstallKeepingOurs,
    How::SetMetadata,
    How::Remove,
];

/// Ways to edit a file. What the user did is durable when it is done.
pub(super) const EDITS: [fn(&Machine); 3] = [
    |machine| {
        machine.user().write(NAME, &EDIT).unwrap();
        machine.user().sync_path(NAME).unwrap();
        machine.user().sync_path("d").unwrap();
    },
    |machine| {
        machine.user().write("d/saved", &EDIT).unwrap();
        machine.user().sync_path("d/saved").unwrap();
        machine.user().rename("d/saved", NAME).unwrap();
        machine.user().sync_path("d").unwrap();
    },
    |machine| {
        machine.user().write("d/other", &EDIT).unwrap();
        machine.user().sync_path("d/other").unwrap();
        // It may be removed already, and then there is nothing to swap with.
        let _ = machine.user().exchange("d/other", NAME);
        machine.user().sync_path("d").unwrap();
    },
];

/// Performs a job with an edit before one change of it, and a crash before a
/// later one. Answers whether each came.
fn edited_and_interrupted(
    (base, target): &(Machine, crate::entry::Entry),
    how: How,
    edit: (u64, fn(&Machine)),
    crash: u64,
    power_cut: Option<u64>,
) -> (bool, bool) {
    let machine = base.fork();
    let disk = machine.start().unwrap();
    let index = open_index(&disk, FRESH).unwrap();
    let job = job(&index, NAME, target.clone(), how);
    let began = machine.changes();
    machine.meanwhile(began + edit.0, edit.1);
    machine.crash_at(began + crash);
    apply(&disk, &index, vec![job]);
    let (was_edited, died) = (machine.changes() > began + edit.0, machine.is_dead());
    if !was_edited {
        return (false, died);
    }
    drop(index);
    match power_cut {
        Some(seed) => machine.crash(seed),
        None => machine.kill(),
    }
    let (disk, index) = restarted(&machine);
    let files = files(&machine);
    assert!(
        has(&files, &EDIT),
        "{how:?}, edit before change {}, crash before {crash}, power cut {power_cut:?}: {:?}",
        edit.0,
        machine.tree()
    );
    look(&disk, &index);
    assert_known(&index, &files);
    (true, died)
}

/// All pairs of an edit and a later crash, and the edit without a crash.
pub(super) fn each_pair(how: How, edit: fn(&Machine)) {
    let prepared = prepared(Case {
        how,
        to_link: false,
        is_known: true,
        is_edited: false,
        has_rename_flags: true,
    });
    for power_cut in ends(1) {
        for at in 0.. {
            let mut came = false;
            for crash in at + 1.. {
                let seed = power_cut.map(|seed| seed * 10_000 + crash);
                let (was_edited, died) =
                    edited_and_interrupted(&prepared, how, (at, edit), crash, seed);
                came |= was_edited;
                if !died {
                    break;
                }
            }
            if !came {
                assert!(at >= 3, "it changed next to nothing");
                break;
            }
        }
    }
}

#[test]
fn crash_after_exchange_with_user_edit_at_any_two_moments_keeps_the_edit() {
    for how in HOWS {
        for edit in EDITS {
            each_pair(how, edit);
        }
    }
}

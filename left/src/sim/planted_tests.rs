//! Each mistake that is planted is found: by a run that once found it, or by the
//! tests of a single job.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::crash_tests::crash_power_a_new_file_is_whole_or_not_there;
use super::edit_tests::{EDITS, each_pair};
use super::plan::{At::*, Op::*, Step, Step::*};
use super::run::Violation;
use super::seeds::{once, run};
use super::side::Process;
use super::{Config, Machine};
use crate::apply::How;
use crate::apply::tests::del_edited_behind_a_young_stamp_gets_its_name_back;
use crate::entry::{Body, ContentId};
use crate::path::RelPath;
use crate::planted::{Bug, with};

/// Without the mistake all is well; with it, it is not.
fn is_found(bug: Bug, work: impl Fn()) {
    work();
    let found = with(bug, || catch_unwind(AssertUnwindSafe(&work)).is_err());
    assert!(found, "{bug:?} is not found");
}

pub(super) fn is_found_by_run(bug: Bug, seed: u64, steps: &[Step]) {
    is_found(bug, || {
        if let Err(Violation(why)) = run(seed, steps) {
            panic!("{why}");
        }
    });
}

#[test]
fn what_is_adopted_has_the_peers_version() {
    let steps = [
        User(A, Mkdir(2), true),
        Scan(B),
        User(A, Write(7, 13), true),
        User(A, Swap(7, 2), false),
        Wait(326),
        Scan(A),
        Deliver(B, 1),
        Fetch(B, 2),
        User(A, Write(2, 0), true),
    ];
    is_found_by_run(Bug::AdoptsNoVector, 85, &steps);
}

#[test]
fn guard_scan_error_what_cannot_be_read_is_not_deleted() {
    let steps = [
        Scan(B),
        User(A, Write(0, 9), true),
        User(A, Write(1, 591), false),
        Wait(331),
        Scan(A),
        Deliver(B, 2),
        Fetch(B, 2),
        Apply(B),
        Unread(A, 2),
        Scan(A),
        Scan(A),
    ];
    is_found_by_run(Bug::UnreadableIsGone, 690, &steps);
}

#[test]
fn guard_scan_error_what_cannot_be_listed_is_not_deleted() {
    let steps = [
        User(A, Write(1, 2), true),
        Wait(60),
        Unlisted(A, 4),
        Scan(A),
        Deliver(B, 1),
        Scan(A),
        Scan(B),
        Fetch(B, 2),
        Scan(A),
        Deliver(A, 3),
        Scan(A),
        Apply(B),
    ];
    is_found_by_run(Bug::UnlistedIsEmpty, 456, &steps);
}

#[test]
fn guard_state_rolled_back_counts_nothing_twice() {
    let steps = [
        Snapshot(A),
        User(A, Save(2, 1), true),
        Wait(60),
        Scan(A),
        Deliver(B, 4),
        Scan(B),
        RollBack(A),
        User(A, Rules(10), false),
    ];
    is_found_by_run(Bug::ReusesCounters, 89, &steps);
}

#[test]
fn a_tombstone_stays_until_both_have_it() {
    let steps = [
        User(B, Mkdir(1), true),
        Scan(B),
        Deliver(A, 3),
        Scan(A),
        Apply(A),
        Deliver(B, 3),
        Cut,
        User(B, Rename(1, 0), true),
        Scan(B),
    ];
    is_found_by_run(Bug::DropsTombstonesEarly, 639, &steps);
}

#[test]
fn ignore_added_later_is_not_taken_for_deleted() {
    let steps = [
        User(A, Write(1, 15), true),
        Wait(60),
        Scan(B),
        Scan(A),
        Deliver(B, 4),
        Fetch(B, 1),
        User(A, Rules(11), false),
    ];
    is_found_by_run(Bug::IgnoredIsDeleted, 7, &steps);
}

#[test]
fn ignored_no_more_is_heard_of_again() {
    let steps = [
        User(A, Rules(1), true),
        User(B, Save(0, 11), false),
        User(B, Rules(6), true),
    ];
    is_found_by_run(Bug::HearsNothingAgain, 45, &steps);
}

#[test]
fn what_has_become_ignored_is_not_removed_by_a_job_that_began_before() {
    let steps = [
        User(A, Write(0, 9), true),
        Wait(60),
        Scan(A),
        Scan(B),
        Deliver(B, 4),
        Fetch(B, 1),
        Apply(B),
        Deliver(A, 4),
        User(A, Delete(0), true),
        User(B, Rules(1), true),
        Wait(60),
        Scan(A),
        Deliver(B, 4),
        Scan(B),
        Apply(B),
    ];
    is_found_by_run(Bug::ChangesIgnored, 1, &steps);
}

#[test]
fn conflict_copies_have_names_of_their_own() {
    let steps = [
        User(A, Save(0, 18), false),
        User(A, Write(7, 1978), false),
        User(B, Write(0, 20), false),
        User(B, Write(7, 16), true),
    ];
    is_found_by_run(Bug::CopyOverwrites, 4, &steps);
}

#[test]
fn what_is_wanted_is_not_forgotten() {
    is_found(
        Bug::ForgetsLosers,
        once::the_loser_of_a_conflict_can_become_the_winner,
    );
    is_found(
        Bug::ForgetsBegun,
        once::crash_before_the_record_of_what_is_outdated_is_no_conflict,
    );
}

#[test]
fn content_is_durable_before_its_name() {
    is_found(
        Bug::NamesBeforeSync,
        crash_power_a_new_file_is_whole_or_not_there,
    );
}

#[test]
fn what_comes_out_is_looked_at() {
    is_found(Bug::ReplacesUnseen, || each_pair(How::Install, EDITS[0]));
    is_found(
        Bug::RemovesUnseen,
        del_edited_behind_a_young_stamp_gets_its_name_back,
    );
    is_found(Bug::ForgetsUsersFile, || each_pair(How::Install, EDITS[1]));
}

#[test]
fn src_racy_timestamp_a_young_stat_is_not_trusted() {
    is_found(Bug::TrustsYoungStamps, || {
        let config = Config {
            timestamp_step: Duration::from_secs(2),
            ..Config::default()
        };
        let machine = Machine::new(1, config);
        let mut process = Process::start(&machine, 1).unwrap();
        let id = |process: &Process| {
            let path = RelPath::parse(b"a").unwrap();
            let known = process.index.get(&path).unwrap().unwrap();
            match known.entry.body {
                Body::File { id, .. } => id,
                other => panic!("{other:?}"),
            }
        };
        for text in ["one", "two"] {
            // Within one step of the disk's clock, and of one length.
            machine.user().write("a", text.as_bytes()).unwrap();
            machine.advance(Duration::from_millis(600));
            process.scan().unwrap();
            let expected = ContentId(*blake3::hash(text.as_bytes()).as_bytes());
            assert_eq!(id(&process), expected, "{text}");
        }
    });
}

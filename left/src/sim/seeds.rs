//! Simulated runs by the seed, and what is left of one that fails.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Rng;
use super::plan::{Kind, Step, plan};
use super::run::{Ended, Run, Violation};
use crate::planted::{Bug, with};

/// All mistakes that are made on purpose.
const BUGS: [Bug; 22] = [
    Bug::AdoptsNoVector,
    Bug::UnlistedIsEmpty,
    Bug::UnreadableIsGone,
    Bug::ForgetsUsersFile,
    Bug::TrustsYoungStamps,
    Bug::NamesBeforeSync,
    Bug::DropsTombstonesEarly,
    Bug::CopyOverwrites,
    Bug::ReplacesUnseen,
    Bug::RemovesUnseen,
    Bug::ForgetsLosers,
    Bug::ForgetsBegun,
    Bug::ReusesCounters,
    Bug::IgnoredIsDeleted,
    Bug::HearsNothingAgain,
    Bug::ChangesIgnored,
    Bug::ModeGoesWithContent,
    Bug::MetadataBeatsDeletion,
    Bug::JoinsUnasked,
    Bug::RemembersTheForgotten,
    Bug::NamesTheShareAlone,
    Bug::KeepsTheWord,
];

/// Seeds of every test run; `LEFT_SIM_SEEDS=from..to` runs others.
const SEEDS: std::ops::Range<u64> = 0..150;

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("LEFT_SIM_SEEDS") else {
        return SEEDS;
    };
    let (from, to) = text.split_once("..").expect("LEFT_SIM_SEEDS=from..to");
    from.parse().unwrap()..to.parse().unwrap()
}

fn steps_of(seed: u64) -> Vec<Step> {
    let mut rng = Rng::new(seed);
    let kind = Kind::of(&mut rng);
    plan(&mut rng, kind)
}

/// `LEFT_SIM_LENGTH=9` makes runs of nine times as many steps, most of them of people.
fn long_steps_of(seed: u64) -> Vec<Step> {
    let Ok(times) = std::env::var("LEFT_SIM_LENGTH") else {
        return steps_of(seed);
    };
    let times: usize = times.parse().expect("LEFT_SIM_LENGTH is a number");
    let mut rng = Rng::new(seed);
    let mut kind = Kind::of(&mut rng);
    kind.steps *= times;
    kind.busy = true;
    plan(&mut rng, kind)
}

pub(super) fn run(seed: u64, steps: &[Step]) -> Result<Ended, Violation> {
    Run::new(seed).perform(steps)
}

/// Leaves out what is not needed for the run to fail.
fn shrink(seed: u64, mut steps: Vec<Step>) -> (Vec<Step>, Violation) {
    let mut violation = run(seed, &steps).expect_err("it failed before");
    let mut size = steps.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < steps.len() {
            let end = (at + size).min(steps.len());
            let fewer = [&steps[..at], &steps[end..]].concat();
            match run(seed, &fewer) {
                Err(still) => {
                    steps = fewer;
                    violation = still;
                }
                Ok(_) => at = end,
            }
        }
        size /= 2;
    }
    (steps, violation)
}

#[test]
fn nothing_is_lost_and_both_sides_are_the_same_in_the_end() {
    let (steps, operations) = (AtomicU64::new(0), AtomicU64::new(0));
    let failed = first_on_all_processors(seeds(), |seed| {
        let all = long_steps_of(seed);
        steps.fetch_add(all.len() as u64, Ordering::Relaxed);
        match run(seed, &all) {
            Ok(ended) => {
                operations.fetch_add(ended.operations, Ordering::Relaxed);
                None
            }
            Err(_) => Some((seed, all)),
        }
    });
    if let Some((seed, all)) = failed {
        let (few, Violation(why)) = shrink(seed, all);
        let code: Vec<_> = few
            .iter()
            .map(|step| format!("        {step:?},\n"))
            .collect();
        panic!("seed {seed}: {why}\nfails({seed}, &[\n{}]);", code.concat());
    }
    println!("{steps:?} steps, among them {operations:?} operations of people");
}

/// Something that is found with one of the seeds, if it is; one of the first of them.
pub(super) fn first_on_all_processors<T: Send>(
    seeds: std::ops::Range<u64>,
    find: impl Fn(u64) -> Option<T> + Sync,
) -> Option<T> {
    let next = AtomicU64::new(seeds.start);
    let found = Mutex::new(None);
    let work = || {
        while found.lock().unwrap().is_none() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            if let Some(what) = find(seed) {
                found.lock().unwrap().get_or_insert(what);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for one in all {
            if let Err(panic) = one.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    found.into_inner().unwrap()
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let digests = |_| (0..20).map(|seed| run(seed, &steps_of(seed)).unwrap());
    let (one, other): (Vec<_>, Vec<_>) = (digests(1).collect(), digests(2).collect());
    assert_eq!(one, other);
    let different: std::collections::BTreeSet<_> = one.iter().map(|run| &run.digest).collect();
    assert_eq!(different.len(), one.len());
}

/// Looks for a run that fails when this mistake is made.
fn finds(bug: Bug, seeds: std::ops::Range<u64>) -> Option<(u64, Vec<Step>, Violation)> {
    for seed in seeds {
        let steps = steps_of(seed);
        if with(bug, || run(seed, &steps)).is_err() {
            let (few, why) = with(bug, || shrink(seed, steps));
            return Some((seed, few, why));
        }
    }
    None
}

/// `LEFT_SIM_BUG=AdoptsNoVector`
#[test]
#[ignore = "looks for a run that finds the planted mistake in LEFT_SIM_BUG: minutes, in a release build"]
fn a_planted_mistake_is_looked_for() {
    let name = std::env::var("LEFT_SIM_BUG").expect("LEFT_SIM_BUG names a planted mistake");
    let mut all = BUGS.into_iter();
    let bug = all.find(|bug| name == format!("{bug:?}"));
    let bug = bug.unwrap_or_else(|| panic!("{name} is none of {BUGS:?}"));
    let found = finds(bug, 0..40_000);
    println!("{:?}", found.expect("no run finds it"));
}

/// Runs that failed once.
pub(super) mod once {
    use super::super::plan::{At::*, Op::*, Step, Step::*};
    use super::{Violation, run};

    fn holds(seed: u64, steps: &[Step]) {
        if let Err(Violation(why)) = run(seed, steps) {
            panic!("{why}");
        }
    }

    /// B resolved a conflict by a version that knew of both; A deleted what it had
    /// and resolved against what B had had before, with the same version.
    #[test]
    fn a_version_never_stands_for_two_things() {
        let steps = [
            Intrude(A, 14, Rename(2, 7)),
            User(A, Mkdir(2), true),
            User(B, Symlink(2), true),
            Scan(A),
            Scan(B),
            Deliver(B, 4),
            Apply(B),
        ];
        holds(1071, &steps);
    }

    /// Each side forgot its tombstone before the other's arrived.
    #[test]
    fn a_tombstone_is_not_told_to_and_fro() {
        let steps = [
            Intrude(A, 14, Rename(2, 7)),
            User(A, Mkdir(2), true),
            User(B, Symlink(2), true),
            Scan(A),
            Deliver(B, 4),
            Scan(A),
            Scan(B),
            Deliver(A, 4),
            Apply(A),
            Apply(B),
        ];
        holds(1071, &steps);
    }

    /// B's user touched the file between its getting its name and our looking at it.
    #[test]
    fn a_touch_of_what_was_just_put_in_place_is_noticed() {
        let steps = [
            Scan(B),
            Scan(A),
            Deliver(B, 2),
            Cut,
            User(A, Mkdir(0), true),
            User(A, Write(7, 0), false),
            Scan(A),
            Intrude(B, 46, Truncate(7)),
        ];
        holds(2609, &steps);
    }

    /// B put a version in place and died, for lack of room, before it could say so, when
    /// it already wanted the next one. How much room that is depends on the index.
    #[test]
    pub(in crate::sim) fn crash_before_the_record_of_what_is_outdated_is_no_conflict() {
        for room in (0..16 * 1024).step_by(256) {
            let steps = [
                User(A, Write(7, 6), true),
                Wait(60),
                Scan(A),
                Deliver(B, 2),
                Scan(B),
                User(A, Save(2, 0), true),
                Fetch(B, 1),
                Wait(60),
                Scan(A),
                Apply(B),
                User(A, Write(2, 2), false),
                Wait(271),
                Full(B, room),
                Scan(A),
                Deliver(B, 3),
                Apply(B),
            ];
            holds(6147, &steps);
        }
    }

    /// A's version had the name, then became one that has not; B's was forgotten.
    #[test]
    pub(in crate::sim) fn the_loser_of_a_conflict_can_become_the_winner() {
        let steps = [
            User(A, Save(0, 1131), true),
            User(B, Write(1, 17), true),
            Wait(60),
            User(A, Save(1, 4), true),
            Wait(89),
            Scan(B),
            Deliver(A, 4),
            Scan(A),
            User(A, Rename(0, 1), false),
        ];
        holds(6401, &steps);
    }

    /// What B wrote and A had taken was gone from B's disk with all that B knew of
    /// having written it.
    #[test]
    fn what_was_rolled_back_comes_back_from_the_peer() {
        let steps = [
            User(B, Mkdir(2), true),
            Scan(A),
            Snapshot(B),
            User(B, Write(4, 19), true),
            Wait(60),
            Scan(B),
            Deliver(A, 3),
            RollBack(B),
        ];
        holds(210, &steps);
    }

    /// As before, but B is not connected when it counts on from where it was, and so
    /// far that its numbers alone would not show it.
    #[test]
    fn counting_on_alone_after_a_rollback_is_noticed() {
        let steps = [
            User(B, Mkdir(2), true),
            User(B, Write(0, 3), true),
            Scan(A),
            Scan(B),
            Deliver(A, 3),
            Fetch(A, 3),
            Apply(A),
            Snapshot(B),
            User(B, Write(0, 19), true),
            Wait(60),
            Scan(B),
            Deliver(A, 3),
            Fetch(A, 3),
            Apply(A),
            RollBack(B),
            Start(B),
            User(B, Write(0, 29), true),
            User(B, Write(1, 39), true),
            User(B, Write(7, 49), true),
            Scan(B),
            Kill(B, 0),
            Scan(B),
            Start(B),
            Scan(B),
            Connect,
        ];
        holds(211, &steps);
    }

    /// B followed A in deleting before it could be told to, and had A's tombstone for ever.
    #[test]
    fn a_tombstone_that_is_found_to_be_the_peers_goes_as_well() {
        let steps = [
            User(B, Write(2, 3), true),
            User(A, Save(2, 0), true),
            Wait(60),
            Scan(A),
            Scan(B),
            User(A, DeleteTree(2), true),
            Deliver(B, 1),
            User(B, DeleteTree(2), true),
        ];
        holds(7239, &steps);
    }

    /// The power went, and kept the times of a write without its data.
    #[test]
    fn crash_power_a_stat_of_before_says_nothing_of_the_content() {
        let steps = [
            Wait(60),
            User(B, Save(1, 1), false),
            Scan(A),
            PowerCut(B, 26, 15662771110543386187),
            Wait(60),
            Deliver(B, 4),
            Scan(B),
        ];
        holds(12310, &steps);
    }

    /// A user saved a file over a link that had just been put in place.
    #[test]
    fn a_file_in_the_place_of_a_new_link_has_its_own_mode() {
        let steps = [
            User(B, Symlink(0), false),
            User(B, Save(2, 1042), true),
            Intrude(A, 38, Save(0, 1)),
            Scan(A),
            Cut,
            Wait(60),
            Scan(A),
        ];
        holds(12172, &steps);
    }

    /// B was busy with what A had before when A told that it had B's tombstone, which
    /// it had acknowledged already.
    #[test]
    fn a_tombstone_goes_that_was_acknowledged_before_it_was_found_to_be_shared() {
        let steps = [
            User(A, Write(7, 10), false),
            User(B, Mkdir(7), false),
            Wait(60),
            Scan(B),
            Deliver(A, 2),
            Scan(A),
            Apply(A),
            User(B, DeleteTree(7), false),
        ];
        holds(11435, &steps);
    }

    /// B deleted it, and A, that had forgotten B's first tombstone by then, made it again
    /// and deleted it before B had heard: A's second tombstone stayed for ever.
    #[test]
    fn a_tombstone_goes_of_whose_path_the_other_side_knows_nothing_any_more() {
        let steps = [
            User(B, Mkdir(1), true),
            Scan(B),
            Scan(A),
            Deliver(B, 2),
            User(B, Rmdir(1), true),
            Deliver(A, 4),
            Scan(B),
            User(A, Save(1, 20), false),
            Deliver(A, 2),
            Deliver(B, 1),
            Apply(A),
            Deliver(B, 1),
            Wait(292),
            Scan(A),
            Deliver(B, 1),
            User(A, Delete(1), false),
            Scan(A),
            Cut,
        ];
        holds(11673, &steps);
    }

    /// B had made a folder and died before its mode and its record were durable.
    #[test]
    fn a_folder_that_was_just_made_is_not_taken_for_a_users() {
        let steps = [
            Scan(B),
            User(A, Mkdir(2), true),
            Scan(A),
            User(A, DeleteTree(2), true),
            Scan(A),
            Deliver(B, 3),
            Apply(B),
            PowerCut(B, 0, 2239049131325598882),
            User(A, Save(2, 12), false),
            Apply(B),
        ];
        holds(20023, &steps);
    }

    /// B's user removed a folder, and the program made it again for what was to be in it;
    /// what then was to replace it waited for ever for the one that was known.
    #[test]
    fn a_folder_in_the_place_of_another_can_be_replaced() {
        let steps = [
            User(B, Mkdir(2), false),
            Scan(B),
            Deliver(A, 1),
            Scan(A),
            Intrude(A, 8, Symlink(3)),
            Deliver(B, 4),
            Apply(A),
            PowerCut(B, 34, 8718232119131339929),
            Scan(A),
            Deliver(B, 4),
            User(B, Rmdir(2), false),
            Apply(B),
            User(A, Rename(2, 0), true),
            Start(B),
            Intrude(B, 16, Delete(5)),
            User(A, Write(2, 6), false),
        ];
        holds(20158, &steps);
    }

    /// B ignored what A was about to ask for.
    #[test]
    fn what_the_peer_ignores_by_now_is_not_asked_for_in_vain() {
        let steps = [
            User(B, Save(0, 11), true),
            Intrude(B, 47, Rules(0)),
            Wait(60),
            Scan(B),
            User(B, Delete(0), true),
            User(B, Rules(7), false),
        ];
        holds(20770, &steps);
    }

    /// B had put a link in the place of a file, and died before it could look at that.
    #[test]
    fn what_a_link_replaced_is_not_kept_if_it_was_known() {
        let steps = [
            User(A, Write(2, 6), false),
            Scan(B),
            Wait(148),
            Scan(A),
            Deliver(B, 2),
            PowerCut(A, 51, 16975797217819692769),
            Scan(A),
            Scan(A),
            Fetch(B, 2),
            Deliver(A, 2),
            Apply(B),
            Deliver(A, 3),
            Scan(A),
            Start(A),
            User(A, Delete(2), true),
            User(A, Symlink(2), true),
            Scan(A),
            Connect,
            Deliver(B, 1),
            PowerCut(B, 6, 17640423200015531275),
            Apply(B),
        ];
        holds(20863, &steps);
    }

    /// As before, but the power went after the record was durable, and before it was
    /// that the file had gone.
    #[test]
    fn what_a_link_replaced_does_not_come_back_after_a_power_cut() {
        let steps = [
            User(A, Write(2, 6), false),
            Scan(B),
            Wait(148),
            Scan(A),
            Deliver(B, 2),
            Fetch(B, 2),
            Apply(B),
            User(A, Delete(2), true),
            User(A, Symlink(2), true),
            Scan(A),
            Deliver(B, 4),
            Apply(B),
            PowerCut(B, 6, 17640423200015531275),
            Scan(B),
        ];
        holds(20863, &steps);
    }

    /// A's user made a link, which was ignored, where B had a folder, which was not.
    #[test]
    fn what_is_ignored_in_the_place_of_a_folder_is_left_alone() {
        let steps = [
            User(B, Mkdir(2), false),
            User(B, Mkdir(5), false),
            Scan(B),
            Scan(A),
            Deliver(A, 2),
            Intrude(A, 7, Rules(10)),
            User(A, Symlink(2), false),
        ];
        holds(21264, &steps);
    }

    /// A file whose times are of the future was told of only while it was being replaced.
    #[test]
    fn both_clock_back_a_file_from_the_future_is_known() {
        let steps = [
            Intrude(A, 3, Symlink(2)),
            User(B, Save(2, 7), false),
            Scan(A),
            ClockBack(B, 5739),
        ];
        holds(40267, &steps);
    }

    /// The same, but only its mtime is of the future.
    #[test]
    fn both_clock_back_a_file_with_an_mtime_of_the_future_is_known() {
        let steps = [
            User(B, Write(7, 7), true),
            User(A, Write(2, 473), false),
            ClockBack(B, 4822),
            User(B, Save(2, 17), false),
            User(B, Swap(2, 7), true),
        ];
        holds(50254, &steps);
    }

    /// Each side took what the other had just left, for ever.
    #[test]
    fn two_sides_do_not_take_each_others_states_for_ever() {
        let steps = [
            ClockBack(A, 2038),
            User(B, Write(7, 0), false),
            User(A, Save(7, 0), true),
            Wait(264),
            Scan(B),
            User(B, Delete(7), true),
        ];
        holds(51445, &steps);
    }

    /// A power cut left zeros in rules that were just written, which is a problem that stands.
    #[test]
    fn crash_power_in_the_rules_is_a_problem_until_they_are_written_again() {
        let steps = [
            User(A, Mkdir(0), true),
            Forget(A),
            User(A, Rules(8), true),
            User(A, Write(2, 12), true),
            LoseIndex(A),
            Forget(A),
            PowerCut(A, 14, 4909474543082010813),
            User(A, Rules(5), false),
            Wait(48),
            Scan(A),
        ];
        holds(20164, &steps);
    }

    /// What was put in place and not put on record stood in the way of the next attempt,
    /// and was forgotten.
    #[test]
    fn crash_before_the_record_and_another_attempt_is_no_conflict() {
        let steps = [
            Full(B, 7077),
            User(A, Write(7, 0), true),
            Wait(142),
            Scan(B),
            Scan(A),
            Deliver(B, 1),
            Apply(B),
            User(A, Save(7, 5), false),
            Unlisted(B, 0),
            Start(B),
            Scan(B),
        ];
        holds(811557, &steps);
    }

    /// A folder that was deleted on B's peer was taken for the file that is ignored there.
    #[test]
    fn a_tombstone_is_of_the_kind_of_what_it_deletes() {
        let steps = [
            User(A, Mkdir(2), true),
            User(A, Rules(10), false),
            Intrude(A, 19, DeleteTree(2)),
        ];
        holds(24066, &steps);
    }

    /// Of which nobody knew any more once an index was lost: told to and fro for ever.
    #[test]
    fn a_tombstone_that_nobody_knows_comes_to_rest() {
        let steps = [
            User(A, Mkdir(7), true),
            Scan(A),
            Scan(B),
            Deliver(B, 2),
            User(A, Rename(7, 0), true),
            Apply(B),
            Scan(A),
            Deliver(B, 3),
            LoseIndex(A),
        ];
        holds(60886, &steps);
    }

    /// The first look took more than a second, and was over though a file was not read
    /// yet, because nothing could be told from its times.
    #[test]
    fn join_two_full_shares_waits_for_files_that_seem_to_be_written() {
        let steps = [
            AskAbove(0),
            User(B, Write(7, 760), true),
            ClockBack(B, 5724),
            User(A, Write(7, 1149), true),
            LoseIndex(B),
        ];
        holds(5180, &steps);
    }

    /// A content was being taken out of the trash into a folder that was deleted meanwhile:
    /// it made the folder anew, beside the file that had its name by then.
    #[test]
    fn a_folder_is_not_deleted_before_what_is_on_its_way_into_it() {
        let steps = [
            User(A, Mkdir(2), false),
            User(A, Write(5, 17), true),
            Scan(B),
            User(A, Rename(2, 7), true),
            Wait(60),
            Scan(A),
            User(A, Symlink(0), false),
            Deliver(B, 1),
            Fetch(B, 1),
            Apply(B),
            User(A, Rename(7, 2), true),
            User(A, Swap(2, 0), false),
            Scan(A),
            Deliver(B, 1),
            User(A, Save(1, 1473), false),
            Cut,
            Apply(B),
            User(A, Swap(0, 1), true),
            User(A, Delete(0), true),
            Scan(A),
            User(A, Write(0, 611), true),
        ];
        holds(308, &steps);
    }
}

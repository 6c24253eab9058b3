//! Two sides that meet, are asked, and forget each other: each mistake that can be made
//! of it is found.

use super::plan::{At::*, Op::*, Step, Step::*};
use super::planted_tests::is_found_by_run;
use crate::planted::Bug;

/// Both have a file of one name, and nobody was asked yet.
const FULL: [Step; 4] = [
    AskAbove(0),
    User(A, Write(0, 15), true),
    User(B, Write(0, 19), true),
    Still,
];

/// Each has heard all of the other, and where it stands.
const COMPARED: [Step; 5] = [
    Scan(A),
    Scan(B),
    Deliver(A, 9),
    Deliver(B, 9),
    Deliver(A, 9),
];

#[test]
fn join_two_full_shares_changes_nothing_before_somebody_says_so() {
    let started_again = [
        &FULL[..],
        &COMPARED,
        &[Kill(A, 0), Scan(A), Start(A), Connect],
    ];
    is_found_by_run(Bug::JoinsUnasked, 1, &FULL);
    is_found_by_run(Bug::JoinsUnasked, 2, &started_again.concat());
}

#[test]
fn one_word_is_enough_even_if_the_connection_goes_with_it() {
    for seed in [1, 2] {
        is_found_by_run(Bug::KeepsTheWord, seed, &FULL);
    }
    for at in [A, B] {
        let word_is_lost = [&FULL[..], &COMPARED, &[Join(at), Cut]].concat();
        is_found_by_run(Bug::KeepsTheWord, at.other() as u64, &word_is_lost);
    }
}

#[test]
fn both_sides_name_the_share_alike() {
    is_found_by_run(Bug::NamesTheShareAlone, 1, &[AskAbove(0)]);
}

#[test]
fn tombstones_of_before_a_peer_was_forgotten_delete_nothing() {
    let in_sync = [
        User(A, Write(0, 15), true),
        User(A, Write(1, 15), true),
        Wait(60),
        Scan(A),
        Scan(B),
        Deliver(B, 2),
        Fetch(B, 2),
        Apply(B),
        Deliver(A, 9),
        User(A, Delete(0), true),
        Wait(60),
        Scan(A),
    ];
    for at in [A, B] {
        let steps = [&in_sync[..], &[Forget(at)]].concat();
        is_found_by_run(Bug::RemembersTheForgotten, 3, &steps);
    }
}
